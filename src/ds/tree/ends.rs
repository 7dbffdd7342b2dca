//! Changing the leaf at an end, where queues are pushed and popped.

use super::node::{Child, Slot, own, settle_removal};
use super::{Beside, Chunk, Leaf, Place, Tree};

impl<L: Leaf<Key = ()>, C: Chunk<L>> Tree<L, C> {
    /// Puts a leaf at an end, as the pointer to it that its owner had.
    pub fn put_end(&mut self, first: bool, chunk: C) {
        if first {
            self.insert(&Place::FIRST, Beside::Before(chunk));
        } else {
            let place = self.last_place().unwrap_or(Place::FIRST);
            self.insert(&place, Beside::After(chunk));
        }
    }

    /// Takes the leaf at an end out, shared or not. `None` if the tree is empty.
    pub fn take_end(&mut self, first: bool) -> Option<C> {
        if self.height == 0 {
            return self.top.take()?.child.into_leaf();
        }
        let top = self.top.as_mut()?;
        let chunk = take_below(top, self.height, first, &mut self.left_behind);
        self.flatten();
        chunk
    }

    /// Tallies bytes that the tree's owner has left to others beside it.
    #[cold]
    pub fn leave_behind(&mut self, bytes: usize) {
        self.left_behind += bytes;
    }

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

/// Takes the leaf at an end out of what is below the slot of an inner node.
fn take_below<L: Leaf, C: Chunk<L>>(
    slot: &mut Slot<L, C>,
    height: u8,
    first: bool,
    left_behind: &mut usize,
) -> Option<C> {
    let Child::Inner(node) = &mut slot.child else {
        unreachable!("a leaf above the lowest level")
    };
    let node = own(node, left_behind);
    let at = if first { 0 } else { node.slots.len() - 1 };
    let chunk = if height > 1 {
        let chunk = take_below(&mut node.slots[at], height - 1, first, left_behind);
        settle_removal(node, at, left_behind);
        chunk
    } else {
        node.slots.remove(at).child.into_leaf()
    };
    slot.sum_up();
    chunk
}
