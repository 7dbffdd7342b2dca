//! Changing the leaf at an end, where queues are pushed and popped.

use super::node::{Child, own};
use super::{Beside, Chunk, Leaf, Place, Tree};

impl<L: Leaf<Key = ()>, C: Chunk<L>> Tree<L, C> {
    /// Changes the first leaf, or the last; as [`edit`](Self::edit), and for a fraction of its cost: one walk down the edge
    /// makes it writable, another one brings the sums in line. `None` if the tree is empty.
    #[inline]
    pub fn edit_end<R>(&mut self, first: bool, f: impl FnOnce(&mut L) -> R) -> Option<R> {
        let top = self.top.as_mut()?;
        let mut slot = &mut *top;
        for _ in 0..self.height {
            let Child::Inner(node) = &mut slot.child else {
                unreachable!("a leaf above the lowest level")
            };
            let slots = &mut own(node, &mut self.left_behind).slots;
            let at = if first { 0 } else { slots.len() - 1 };
            slot = &mut slots[at];
        }
        let (len, bytes) = (slot.len, slot.bytes);
        let Child::Leaf(chunk) = &mut slot.child else {
            unreachable!("an inner node on the lowest level")
        };
        if !chunk.is_unique() {
            self.left_behind += chunk.leaf().heap_bytes();
        }
        let leaf = chunk.leaf_mut();
        let result = f(leaf);
        if leaf.is_empty() {
            self.drop_empty_end(first);
            return Some(result);
        }
        let more = (leaf.len() as u64).wrapping_sub(len);
        let more_bytes = (leaf.heap_bytes() as u64).wrapping_sub(bytes);
        let mut slot = &mut *top;
        loop {
            slot.len = slot.len.wrapping_add(more);
            slot.bytes = slot.bytes.wrapping_add(more_bytes);
            let Child::Inner(node) = &mut slot.child else {
                return Some(result);
            };
            let slots = &mut own(node, &mut self.left_behind).slots;
            let at = if first { 0 } else { slots.len() - 1 };
            slot = &mut slots[at];
        }
    }

    /// Takes the leaf at an end out, which has become empty.
    #[cold]
    fn drop_empty_end(&mut self, first: bool) {
        let place = if first {
            Some(Place::FIRST)
        } else {
            self.last_place()
        };
        if let Some(place) = place {
            self.alter(&place, |_, _| ((), Beside::Nothing));
        }
    }
}
