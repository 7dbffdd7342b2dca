//! Defragmentation of a dict: a segment at a time, and what leads to it.

use std::alloc::Layout;
use std::num::NonZero;

use super::Dict;
use super::group::{Bits, GROUP};
use super::page::{Page, PageRef, behind, below};
use super::record::Record;
use super::root::{Nest, Root};
use super::scan::end_of;
use super::segment::Seg;
use super::tree::Top;
use crate::ds::cow::Shared;
use crate::ds::defrag::Mover;

impl<R: Record> Dict<R> {
    /// Shows the segment at a place in hash order to a mover, and the page and the root where they begin; what others own
    /// too is passed by. `f` does the same for the segment's records, which keep their keys and deadlines. Where to go on:
    /// `None` at the end.
    pub fn defrag<'m>(
        &mut self,
        position: u64,
        mover: &mut Mover<'m>,
        mut f: impl FnMut(&mut R, &mut Mover<'m>),
    ) -> Option<u64> {
        match &mut self.top {
            Top::Empty => None,
            Top::Small(seg) => {
                seg.defrag(mover, &mut f);
                None
            }
            Top::Tree(root) => {
                let root = match position {
                    0 => Shared::defrag(root, mover),
                    _ => Shared::get_mut(root),
                };
                root?.defrag(position, mover, &mut f)
            }
        }
    }

    /// The key's record for writing, if all that leads to it is this dict's alone: nothing is copied. Its key and deadline
    /// stay what they are. (Whether it is unique itself the caller has to ask.)
    pub fn find_sole(&mut self, hash: u64, key: &[u8]) -> Option<&mut R> {
        if let Top::Tree(root) = &mut self.top {
            Shared::get_mut(root)?;
        }
        let (seg, is_owned) = self.top.locate_owned(hash)?;
        if !is_owned || !seg.is_unique() {
            return None;
        }
        let index = seg.find(hash, key)?;
        // SAFETY: the slot is in use, and every owner from the root down is alone and mutably borrowed.
        Some(unsafe { &mut *seg.slot(index) })
    }
}

impl<R: Record> Root<R> {
    fn defrag<'m>(
        &mut self,
        position: u64,
        mover: &mut Mover<'m>,
        f: &mut impl FnMut(&mut R, &mut Mover<'m>),
    ) -> Option<u64> {
        if begins(self.base, position) {
            mover.vec(&mut self.entries);
        }
        let at = self.first(position);
        let mut page = self.entries[at].page;
        let depth = match page.is_nest() {
            true => self.depth(),
            false => page.depth(),
        };
        if !page.is_unique() {
            return behind(depth, position);
        }
        if begins(depth, position) && page.defrag(mover) {
            self.put(at, page);
        }
        if page.is_nest() {
            return page.nested_mut().defrag(position, mover, f);
        }
        let mut seg = page.locate(position);
        if seg.defrag(mover, f) {
            page.put(position, seg);
        }
        end_of(seg, position)
    }
}

/// True if a place is the first of those with the same `depth` bits.
fn begins(depth: u32, position: u64) -> bool {
    position & below(depth) == 0
}

impl<R: Record> PageRef<R> {
    /// Shows a page or a nested root, whose only owner this is, to a mover; true if it moved. Writes.
    fn defrag(&mut self, mover: &mut Mover<'_>) -> bool {
        let layout = match self.is_nest() {
            true => Layout::new::<Nest<R>>(),
            false => Layout::new::<Page<R>>(),
        };
        let tag = self.0.addr().get() & TAG;
        let block = self.0.cast().map_addr(untagged);
        // SAFETY: alive and this one's alone; it came from a box of the one or the other.
        let Some(moved) = (unsafe { mover.block(block, layout) }) else {
            return false;
        };
        self.0 = moved.cast().map_addr(|a| a | tag);
        true
    }
}

impl<R: Record> Seg<R> {
    /// Shows a segment and its records to a mover, if this is the only owner; true if it moved. Writes.
    fn defrag<'m>(
        &mut self,
        mover: &mut Mover<'m>,
        f: &mut impl FnMut(&mut R, &mut Mover<'m>),
    ) -> bool {
        if !self.is_unique() {
            return false;
        }
        let tag = self.0.addr().get() & TAG;
        let block = self.0.cast().map_addr(untagged);
        // SAFETY: alive and this one's alone; every segment is made with the layout of its shape.
        let moved = unsafe { mover.block(block, self.shape().layout()) };
        if let Some(moved) = moved {
            self.0 = moved.cast().map_addr(|a| a | tag);
        }
        for group in 0..self.shape().groups() {
            for i in Bits(self.used(group)) {
                // SAFETY: in use, and every owner from the root down is alone and mutably borrowed.
                f(unsafe { &mut *self.slot(group * GROUP + i) }, mover);
            }
        }
        moved.is_some()
    }
}

/// What stands above an address: a page's depth, a segment's shape.
const TAG: usize = !((1 << 48) - 1);

/// The address without it.
fn untagged(address: NonZero<usize>) -> NonZero<usize> {
    NonZero::new(address.get() & !TAG).expect("an address")
}
