//! Reading leaf by leaf.

use smallvec::SmallVec;

use super::node::{Child, Slot};
use super::{Chunk, Leaf, Place, Tree};

/// A node on a path, and the slot taken in it.
type Step<'a, L, C> = (&'a [Slot<L, C>], usize);

/// A place in a tree that is only read: goes from leaf to leaf, both ways.
pub struct Cursor<'a, L: Leaf, C: Chunk<L>> {
    path: SmallVec<[Step<'a, L, C>; 6]>,
    leaf: &'a L,
}

impl<'a, L: Leaf, C: Chunk<L>> Cursor<'a, L, C> {
    pub(super) fn new(top: &'a Slot<L, C>, place: &Place) -> Option<Self> {
        let mut path = SmallVec::new();
        let mut slot = top;
        loop {
            match &slot.child {
                Child::Leaf(chunk) => {
                    let leaf = chunk.leaf();
                    return Some(Cursor { path, leaf });
                }
                Child::Inner(node) => {
                    let i = place.at(path.len());
                    path.push((&node.slots[..], i));
                    slot = node.slots.get(i)?;
                }
            }
        }
    }

    /// The leaf it stands on.
    #[inline(always)]
    pub fn leaf(&self) -> &'a L {
        self.leaf
    }

    /// Where that is.
    pub fn place(&self) -> Place {
        let mut place = Place::FIRST;
        for (level, &(_, i)) in self.path.iter().enumerate() {
            place.set(level, i);
        }
        place
    }

    /// Goes to the next leaf and gives it; at the end it stays where it is.
    #[inline]
    pub fn forward(&mut self) -> Option<&'a L> {
        let level = self
            .path
            .iter()
            .rposition(|(slots, i)| i + 1 < slots.len())?;
        self.path.truncate(level + 1);
        self.path[level].1 += 1;
        self.dive(|_| 0)
    }

    /// Goes to the leaf before and gives it; at the front it stays where it is.
    #[inline]
    pub fn backward(&mut self) -> Option<&'a L> {
        let level = self.path.iter().rposition(|&(_, i)| i > 0)?;
        self.path.truncate(level + 1);
        self.path[level].1 -= 1;
        self.dive(|slots| slots.len() - 1)
    }

    /// Goes down from the slot that ends the path.
    #[inline]
    fn dive(&mut self, choose: impl Fn(&[Slot<L, C>]) -> usize) -> Option<&'a L> {
        let &(slots, i) = self.path.last()?;
        let mut slot = &slots[i];
        loop {
            match &slot.child {
                Child::Leaf(chunk) => {
                    self.leaf = chunk.leaf();
                    return Some(self.leaf);
                }
                Child::Inner(node) => {
                    let slots = &node.slots[..];
                    let i = choose(slots);
                    self.path.push((slots, i));
                    slot = &slots[i];
                }
            }
        }
    }
}

impl<L: Leaf, C: Chunk<L>> Clone for Cursor<'_, L, C> {
    fn clone(&self) -> Self {
        Cursor {
            path: self.path.clone(),
            leaf: self.leaf,
        }
    }
}

/// All leaves of a tree, from either end.
pub struct Leaves<'a, L: Leaf, C: Chunk<L>> {
    front: Option<Cursor<'a, L, C>>,
    back: Option<Cursor<'a, L, C>>,
    left: usize,
}

impl<'a, L: Leaf, C: Chunk<L>> Leaves<'a, L, C> {
    pub(super) fn new(tree: &'a Tree<L, C>) -> Self {
        Leaves {
            front: tree.cursor(&Place::FIRST),
            back: tree.last_place().and_then(|last| tree.cursor(&last)),
            left: tree.leaf_count(),
        }
    }
}

impl<'a, L: Leaf, C: Chunk<L>> Iterator for Leaves<'a, L, C> {
    type Item = &'a L;

    #[inline]
    fn next(&mut self) -> Option<&'a L> {
        self.left = self.left.checked_sub(1)?;
        let cursor = self.front.as_mut()?;
        let leaf = cursor.leaf();
        cursor.forward();
        Some(leaf)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<'a, L: Leaf, C: Chunk<L>> DoubleEndedIterator for Leaves<'a, L, C> {
    fn next_back(&mut self) -> Option<&'a L> {
        self.left = self.left.checked_sub(1)?;
        let cursor = self.back.as_mut()?;
        let leaf = cursor.leaf();
        cursor.backward();
        Some(leaf)
    }
}

impl<L: Leaf, C: Chunk<L>> ExactSizeIterator for Leaves<'_, L, C> {}
