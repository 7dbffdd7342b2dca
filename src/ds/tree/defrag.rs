//! Defragmentation of a tree: a few leaves at a time, and the nodes on the way to them.

use super::node::{Child, Slot};
use super::{Chunk, Leaf, Tree};
use crate::ds::cow::Shared;
use crate::ds::defrag::Mover;

/// Leaves of a step at most, and blocks after which it ends with a leaf.
const LEAVES: u64 = 32;
const BLOCKS: u64 = 512;

struct Walk<'a, 'm, F> {
    /// Leaves to pass by before the step begins.
    skip: u64,
    /// Leaves that the step has met.
    met: u64,
    /// It ends when the mover has seen so many blocks.
    enough: u64,
    mover: &'a mut Mover<'m>,
    f: F,
}

impl<L: Leaf, C: Chunk<L>> Tree<L, C> {
    /// Shows the leaves from number `from` on to a mover, some dozens, and the nodes above them; those that others own too
    /// are passed by. `f` does the same for what the leaves' elements own. Where to go on: `None` at the end.
    pub fn defrag_each<'m>(
        &mut self,
        from: u64,
        mover: &mut Mover<'m>,
        f: impl FnMut(&mut C, &mut Mover<'m>),
    ) -> Option<u64> {
        let top = self.top.as_mut()?;
        let mut walk = Walk {
            skip: from,
            met: 0,
            enough: mover.seen() + BLOCKS,
            mover,
            f,
        };
        walk.slot(top);
        let next = from + walk.met;
        (walk.met > 0 && next < u64::from(top.leaves)).then_some(next)
    }

    /// As [`defrag_each`](Self::defrag_each), where elements own nothing.
    pub fn defrag(&mut self, from: u64, mover: &mut Mover<'_>) -> Option<u64> {
        self.defrag_each(from, mover, |_, _| ())
    }
}

impl<'m, F> Walk<'_, 'm, F> {
    fn slot<L: Leaf, C: Chunk<L>>(&mut self, slot: &mut Slot<L, C>)
    where
        F: FnMut(&mut C, &mut Mover<'m>),
    {
        let leaves = u64::from(slot.leaves);
        if self.skip >= leaves {
            self.skip -= leaves;
            return;
        }
        match &mut slot.child {
            Child::Leaf(chunk) => {
                self.met += 1;
                if chunk.is_unique() {
                    chunk.defrag(self.mover);
                    (self.f)(chunk, self.mover);
                    slot.key = chunk.leaf().first_key();
                }
            }
            Child::Inner(node) => {
                let is_first = self.skip == 0;
                let node = match is_first {
                    true => Shared::defrag(node, self.mover),
                    false => Shared::get_mut(node),
                };
                let Some(node) = node else {
                    self.met += leaves - std::mem::take(&mut self.skip);
                    return;
                };
                for below in &mut node.slots {
                    if self.met >= LEAVES || self.mover.seen() >= self.enough {
                        break;
                    }
                    self.slot(below);
                }
                slot.key = node.slots[0].key;
            }
        }
    }
}
