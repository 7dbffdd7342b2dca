//! The face of a set value.

use super::value::{Container, Encoding, Heap, HeapMut, Type, ValueRef};
use crate::ds::cow::Shared;

/// See the head of the file.
#[derive(Clone, Debug, Default)]
pub struct Set {
    left_behind: usize,
}

impl Container for Set {
    const TYPE: Type = Type::Set;

    fn into_heap(self) -> Heap {
        Heap::Set(Shared::new(self))
    }

    fn of(value: ValueRef<'_>) -> Option<&Self> {
        match value {
            ValueRef::Set(it) => Some(it),
            _ => None,
        }
    }

    fn of_mut(heap: HeapMut<'_>) -> Option<&mut Self> {
        match heap {
            HeapMut::Set(it) => Some(it),
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        true
    }

    fn encoding(&self) -> Encoding {
        Encoding::Hashtable
    }

    fn free_effort(&self) -> usize {
        1
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn freed_by_drop(&self) -> usize {
        size_of::<Self>()
    }

    fn take_left_behind(&mut self) -> usize {
        std::mem::take(&mut self.left_behind)
    }
}
