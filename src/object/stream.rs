//! The face of a stream value: [`ds::stream`](crate::ds::stream) as a key holds it.

pub use crate::ds::stream::Stream;

use super::value::{Container, Encoding, Heap, ValueRef};
use crate::base::alloc::size_class;
use crate::ds::cow::Shared;
use crate::ds::defrag::{Mover, Step};

impl Container for Stream {
    type Ref<'a> = &'a Stream;

    fn into_heap(self) -> Heap {
        Heap::Stream(Shared::new(self))
    }

    fn of(value: ValueRef<'_>) -> Option<&Self> {
        match value {
            ValueRef::Stream(it) => Some(it),
            _ => None,
        }
    }

    /// Never: a stream without entries still knows its last ID and its groups, and its key stays.
    fn is_empty(&self) -> bool {
        false
    }

    fn encoding(&self) -> Encoding {
        Encoding::Stream
    }

    fn free_effort(&self) -> usize {
        Stream::free_effort(self)
    }

    fn memory_bytes(&self) -> usize {
        size_class(size_of::<Self>() + 8, 8) + self.heap_bytes()
    }

    fn freed_by_drop(&self) -> usize {
        self.memory_bytes()
    }

    fn defrag(&mut self, step: Step, mover: &mut Mover<'_>) -> Option<Step> {
        Stream::defrag(self, step, mover)
    }

    fn take_left_behind(&mut self) -> usize {
        Stream::take_left_behind(self)
    }
}
