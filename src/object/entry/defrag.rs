//! Defragmentation of an entry: its allocation, and the value behind it.

use super::shape::{
    TAG_HEAP_HASH, TAG_HEAP_LIST, TAG_HEAP_SET, TAG_HEAP_STR, TAG_HEAP_STREAM, TAG_HEAP_ZSET,
};
use super::{Entry, layout};
use crate::ds::cow::Shared;
use crate::ds::defrag::{Mover, Step};
use crate::object::bigstr::BigStr;
use crate::object::{Container, Hash, List, Set, Stream, Zset};

impl Entry {
    /// True if its value is not part of its allocation.
    pub fn is_heap(&self) -> bool {
        self.shape().is_heap()
    }

    /// Shows its allocation to a mover.
    pub fn defrag(&mut self, mover: &mut Mover<'_>) {
        if !self.is_unique() {
            return;
        }
        // SAFETY: allocated with this very layout, and this is its only owner.
        if let Some(moved) = unsafe { mover.block(self.0.ptr(), layout(self.shape().class())) } {
            self.0.set_ptr(moved);
        }
    }

    /// Shows blocks of its value to a mover, from `step` on. Where to go on: `None` at the end.
    pub fn defrag_value(&mut self, step: Step, mover: &mut Mover<'_>) -> Option<Step> {
        fn of<C: Container>(at: *mut u8, step: Step, mover: &mut Mover<'_>) -> Option<Step> {
            // SAFETY: the caller has found the tag of this type, in an entry that is its alone.
            let heap = unsafe { &mut *at.cast::<Shared<C>>() };
            let container = match step == Step::default() {
                true => Shared::defrag(heap, mover),
                false => Shared::get_mut(heap),
            };
            container?.defrag(step, mover)
        }
        let shape = self.shape();
        if !shape.is_heap() || !self.is_unique() {
            return None;
        }
        let at = self.at(shape.value_at());
        match shape.tag {
            TAG_HEAP_STR => {
                // SAFETY: the tag says that a string lies there; the entry is this one's alone.
                let text = unsafe { &mut *at.cast::<Shared<BigStr>>() };
                Shared::defrag(text, mover)?.defrag(mover);
                None
            }
            TAG_HEAP_LIST => of::<List>(at, step, mover),
            TAG_HEAP_SET => of::<Set>(at, step, mover),
            TAG_HEAP_ZSET => of::<Zset>(at, step, mover),
            TAG_HEAP_HASH => of::<Hash>(at, step, mover),
            TAG_HEAP_STREAM => of::<Stream>(at, step, mover),
            tag => unreachable!("tag {tag}"),
        }
    }
}
