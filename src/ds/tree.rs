//! The tree: a sequence of leaves, each of many elements, that is searched by position and by key, and whose clone is
//! a snapshot. Lists, sorted sets and streams are such sequences; what a leaf is, they say ([`Leaf`]).
//!
//! It is a B+ tree of shared nodes. The data lies in the leaves; an inner node is an array of up to 31 *slots*, one a
//! child, and a slot says what is to be known of the child without touching it: the key it begins with, and the sums
//! of what is in it (elements, leaves, bytes). The tree itself is one more slot, that of the root.
//!
//! ```text
//!                     root slot: key a, 9 elements, 4 leaves
//!                                      |
//!                       [ a: 5 el., 2 l. | k: 4 el., 2 l. ]             an inner node
//!                         /                             \
//!        [ a: 3 el. | g: 2 el. ]             [ k: 1 el. | p: 3 el. ]    inner nodes
//!            |          |                        |          |
//!         (a c f)     (g h)                     (k)      (p r s)        leaves
//! ```
//!
//! - **By position**: the sums lead to the n-th element, and the sums of what lies to the left of a path give a leaf's
//!   position: that is ZRANK, LINDEX and ZRANGE by rank in O(log n).
//! - **By key**: the keys are exact (the first key of the first leaf below), so the last slot whose key is not behind
//!   the one looked for leads to the only leaf where it can be. A key may therefore borrow from the leaf itself.
//! - **A clone** counts one more owner of the root. Whoever writes makes the nodes on its path its own, top down
//!   (see [`cow`](super::cow)), and so copies a few kilobytes at the most. What that leaves to the other owners is
//!   tallied, because memory that only a snapshot holds is accounted apart.
//! - **Cutting and joining** a tree touches one path each. The removal of a range is two cuts and a join, and what was
//!   removed is a tree of its own, to be dropped where there is time for it.
//! - **Growing at an end**, a full node stays full and a new one begins, so that what arrives in order lies densely.
//!   Elsewhere it is split in two halves. A node that removals have made sparse is joined with its neighbour.
//!
//! A [`Place`] names a leaf by its path; it holds until leaves come or go.

mod defrag;
mod ends;
mod join;
mod node;
#[cfg(test)]
mod tests;
mod walk;
mod weight;

use std::ops::Range;

use super::cow::Shared;
use super::defrag::Mover;
use node::{Child, Grown, Inner, Slot};
pub use walk::{Cursor, Leaves};

/// Slots of an inner node. With a key of 12 bytes a node fills a size class of the allocator (1536 bytes).
const FANOUT: usize = 31;
/// A node with no more slots than this is joined with a neighbour.
const SPARSE: usize = FANOUT / 4;
/// More levels of inner nodes than any tree has: with a handful of slots a node, 16 levels lead to more leaves than
/// an address space holds.
const HEIGHT_MAX: usize = 16;

/// What lies at the end of a path: a run of elements.
pub trait Leaf: Clone {
    /// What leaves are ordered by; `()` where only the position counts.
    type Key: Copy;
    /// The key of the first element. It is asked of leaves that are not empty.
    fn first_key(&self) -> Self::Key;
    /// The number of elements. A leaf left empty by an edit is removed.
    fn len(&self) -> usize;
    /// True if there are none.
    #[inline]
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The bytes it takes, in the allocator's classes: what is behind it and itself.
    fn heap_bytes(&self) -> usize;
    /// Shows the blocks behind it to a mover.
    fn defrag(&mut self, mover: &mut Mover<'_>);
}

/// A counted pointer to a leaf: [`Shared`], unless a leaf lays out its own allocation with its own count.
pub trait Chunk<L>: Clone {
    /// A leaf with one owner.
    fn new(leaf: L) -> Self;
    /// The leaf.
    fn leaf(&self) -> &L;
    /// Whether this is the only owner.
    fn is_unique(&self) -> bool;
    /// The leaf for writing; a shared one is copied first.
    fn leaf_mut(&mut self) -> &mut L;
    /// Shows the leaf and the blocks behind it to a mover, if this is the only owner.
    fn defrag(&mut self, mover: &mut Mover<'_>);
}

impl<L: Leaf> Chunk<L> for Shared<L> {
    fn new(leaf: L) -> Self {
        Shared::new(leaf)
    }
    #[inline(always)]
    fn leaf(&self) -> &L {
        self
    }
    #[inline(always)]
    fn is_unique(&self) -> bool {
        Shared::is_unique(self)
    }
    #[inline(always)]
    fn leaf_mut(&mut self) -> &mut L {
        Shared::make_mut(self)
    }
    fn defrag(&mut self, mover: &mut Mover<'_>) {
        if let Some(leaf) = Shared::defrag(self, mover) {
            leaf.defrag(mover);
        }
    }
}

/// Where a leaf stands: its path. It holds until leaves are added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place([u8; HEIGHT_MAX]);

impl Place {
    const FIRST: Place = Place([0; HEIGHT_MAX]);

    #[inline(always)]
    fn at(&self, level: usize) -> usize {
        usize::from(self.0[level])
    }

    #[inline(always)]
    fn set(&mut self, level: usize, index: usize) {
        self.0[level] = index as u8;
    }
}

/// A leaf that an edit adds beside the one it edits: the other half of a split.
#[derive(Debug)]
pub enum Beside<L> {
    Nothing,
    Before(L),
    After(L),
}

impl<L> Beside<L> {
    #[inline(always)]
    fn map<C>(self, f: impl FnOnce(L) -> C) -> Beside<C> {
        match self {
            Beside::Nothing => Beside::Nothing,
            Beside::Before(leaf) => Beside::Before(f(leaf)),
            Beside::After(leaf) => Beside::After(f(leaf)),
        }
    }
}

/// See the head of the file.
pub struct Tree<L: Leaf, C: Chunk<L> = Shared<L>> {
    top: Option<Slot<L, C>>,
    height: u8,
    left_behind: usize,
}

impl<L: Leaf, C: Chunk<L>> Tree<L, C> {
    /// An empty tree, which holds no memory.
    pub const fn new() -> Self {
        Tree {
            top: None,
            height: 0,
            left_behind: 0,
        }
    }

    /// A tree of these leaves, in their order; nodes are filled. Empty leaves are left out.
    pub fn from_leaves(leaves: impl IntoIterator<Item = L>) -> Self {
        let mut row: Vec<Slot<L, C>> = leaves
            .into_iter()
            .filter(|leaf| !leaf.is_empty())
            .map(|leaf| Slot::of_leaf(C::new(leaf)))
            .collect();
        let mut height = 0;
        while row.len() > 1 {
            // Evenly, so that the last node is not a stump.
            let nodes = row.len().div_ceil(FANOUT);
            let (mut upper, mut left) = (Vec::with_capacity(nodes), row.len());
            let mut row_iter = row.into_iter();
            for i in 0..nodes {
                let take = left.div_ceil(nodes - i);
                left -= take;
                upper.push(Slot::of_inner(Inner::new(row_iter.by_ref().take(take))));
            }
            row = upper;
            height += 1;
        }
        Tree::from_top(row.pop(), height)
    }

    fn from_top(top: Option<Slot<L, C>>, height: u8) -> Self {
        Tree {
            top,
            height,
            left_behind: 0,
        }
    }

    /// The number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.top.as_ref().map_or(0, |top| top.len as usize)
    }

    /// True if there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.top.is_none()
    }

    /// The number of leaves.
    pub fn leaf_count(&self) -> usize {
        self.top.as_ref().map_or(0, |top| top.leaves as usize)
    }

    /// The bytes of all leaves and nodes, those shared with other owners included.
    pub fn bytes(&self) -> usize {
        // Inner nodes are not counted one by one: two thirds of their slots are taken, as is usual in such trees.
        let nodes = match self.leaf_count() {
            0 | 1 => 0,
            leaves => leaves.div_ceil(FANOUT * 2 / 3),
        };
        self.top.as_ref().map_or(0, |top| top.bytes as usize) + nodes * Inner::<L, C>::BYTES
    }

    /// The bytes that writes since the last call have left to other owners.
    pub fn take_left_behind(&mut self) -> usize {
        std::mem::take(&mut self.left_behind)
    }

    /// Empties the tree and gives what was in it, to be dropped where there is time for it.
    #[must_use = "dropping many leaves takes its time"]
    pub fn clear(&mut self) -> Self {
        std::mem::take(self)
    }

    // ---- Finding ----

    /// The first leaf, if there is one.
    #[inline]
    pub fn first_place(&self) -> Option<Place> {
        self.top.is_some().then_some(Place::FIRST)
    }

    /// The last leaf, if there is one.
    #[inline]
    pub fn last_place(&self) -> Option<Place> {
        self.descend(|slots| slots.len() - 1)
    }

    /// The leaf that holds element `index`, and the element's index in it; `None` behind the end.
    #[inline]
    pub fn find_index(&self, index: usize) -> Option<(Place, usize)> {
        if index >= self.len() {
            return None;
        }
        let mut rest = index as u64;
        let place = self.descend(|slots| {
            let last = slots.len() - 1;
            for (i, slot) in slots[..last].iter().enumerate() {
                if rest < slot.len {
                    return i;
                }
                rest -= slot.len;
            }
            last
        })?;
        Some((place, rest as usize))
    }

    /// The last leaf that begins at or before the key looked for, else the first: the only one where it can be.
    /// `reached` tells whether a key is at or before the one looked for.
    #[inline]
    pub fn find_key(&self, mut reached: impl FnMut(&L::Key) -> bool) -> Option<Place> {
        self.descend(|slots| slots[1..].partition_point(|slot| reached(&slot.key)))
    }

    /// The path that `choose` takes from the root on.
    #[inline(always)]
    fn descend(&self, mut choose: impl FnMut(&[Slot<L, C>]) -> usize) -> Option<Place> {
        let mut place = Place::FIRST;
        let mut slot = self.top.as_ref()?;
        let mut level = 0;
        while let Child::Inner(node) = &slot.child {
            let i = choose(&node.slots);
            place.set(level, i);
            slot = &node.slots[i];
            level += 1;
        }
        Some(place)
    }

    /// The leaf at a place.
    #[inline]
    pub fn leaf(&self, place: &Place) -> Option<&L> {
        let mut slot = self.top.as_ref()?;
        let mut level = 0;
        loop {
            match &slot.child {
                Child::Leaf(chunk) => return Some(chunk.leaf()),
                Child::Inner(node) => slot = node.slots.get(place.at(level))?,
            }
            level += 1;
        }
    }

    /// The first leaf.
    #[inline]
    pub fn first(&self) -> Option<&L> {
        self.leaf(&Place::FIRST)
    }

    /// The last leaf.
    #[inline]
    pub fn last(&self) -> Option<&L> {
        self.leaf(&self.last_place()?)
    }

    /// How many elements stand before the leaf at a place.
    pub fn index_of(&self, place: &Place) -> usize {
        let mut before = 0;
        let Some(mut slot) = self.top.as_ref() else {
            return 0;
        };
        let mut level = 0;
        while let Child::Inner(node) = &slot.child {
            let i = place.at(level);
            before += node.slots[..i].iter().map(|s| s.len).sum::<u64>();
            slot = &node.slots[i];
            level += 1;
        }
        before as usize
    }

    /// The leaf after the one at a place.
    pub fn next_place(&self, place: &Place) -> Option<Place> {
        let mut cursor = self.cursor(place)?;
        cursor.forward()?;
        Some(cursor.place())
    }

    /// The leaf before the one at a place.
    pub fn prev_place(&self, place: &Place) -> Option<Place> {
        let mut cursor = self.cursor(place)?;
        cursor.backward()?;
        Some(cursor.place())
    }

    /// A cursor that stands on the leaf at a place and goes both ways.
    pub fn cursor(&self, place: &Place) -> Option<Cursor<'_, L, C>> {
        Cursor::new(self.top.as_ref()?, place)
    }

    /// All leaves, from either end.
    pub fn leaves(&self) -> Leaves<'_, L, C> {
        Leaves::new(self)
    }

    // ---- Changing ----

    /// Changes the leaf at a place; it, and the path to it, are copied first if others own them. A leaf that is empty
    /// afterwards is removed.
    #[inline]
    pub fn edit<R>(&mut self, place: &Place, f: impl FnOnce(&mut L) -> R) -> R {
        self.edit_split(place, |leaf| (f(leaf), Beside::Nothing))
    }

    /// As [`edit`](Self::edit); the edit may give a leaf to be put beside the edited one.
    #[inline]
    pub fn edit_split<R>(&mut self, place: &Place, f: impl FnOnce(&mut L) -> (R, Beside<L>)) -> R {
        self.alter(place, |chunk, left_behind| {
            if !chunk.is_unique() {
                *left_behind += chunk.leaf().heap_bytes();
            }
            let (result, beside) = f(chunk.leaf_mut());
            (result, beside.map(C::new))
        })
    }

    /// Puts a leaf after the one at a place; in an empty tree it is the only one.
    pub fn insert_after(&mut self, place: &Place, leaf: L) {
        self.insert(place, Beside::After(C::new(leaf)));
    }

    /// Puts a leaf before the one at a place; in an empty tree it is the only one.
    pub fn insert_before(&mut self, place: &Place, leaf: L) {
        self.insert(place, Beside::Before(C::new(leaf)));
    }

    fn insert(&mut self, place: &Place, beside: Beside<C>) {
        match beside {
            Beside::After(chunk) | Beside::Before(chunk) if self.is_empty() => {
                self.top = (!chunk.leaf().is_empty()).then(|| Slot::of_leaf(chunk));
            }
            beside => self.alter(place, |_, _| ((), beside)),
        }
    }

    /// Puts a leaf at the end.
    pub fn push_back(&mut self, leaf: L) {
        let place = self.last_place().unwrap_or(Place::FIRST);
        self.insert_after(&place, leaf);
    }

    /// Puts a leaf at the front.
    pub fn push_front(&mut self, leaf: L) {
        self.insert_before(&Place::FIRST, leaf);
    }

    /// Takes the leaf at a place out.
    pub fn remove_leaf(&mut self, place: &Place) {
        let end = self.next_place(place);
        drop(self.remove_leaves(place, end.as_ref()));
    }

    /// Takes out the leaves from one place up to another (or the end), and gives them, to be dropped where there is
    /// time for it. Whole subtrees go without a look at what is in them.
    #[must_use = "dropping many leaves takes its time"]
    pub fn remove_leaves(&mut self, from: &Place, until: Option<&Place>) -> Self {
        let Some(until) = until else {
            return self.split_off(from);
        };
        let index = self.index_of(from);
        let tail = self.split_off(until);
        // The cut has changed the paths.
        let removed = match self.find_index(index) {
            Some((from, _)) => self.split_off(&from),
            None => Tree::new(),
        };
        self.append(tail);
        removed
    }

    /// Takes out the elements of a range of positions and gives the whole leaves among them, to be dropped where there
    /// is time for it. `cut` takes a range of positions out of a leaf that loses only a part.
    #[must_use = "dropping many leaves takes its time"]
    pub fn remove_range(
        &mut self,
        range: Range<usize>,
        mut cut: impl FnMut(&mut L, Range<usize>),
    ) -> Self {
        let end = range.end.min(self.len());
        let start = range.start;
        let Some((from, skip)) = self.find_index(start).filter(|_| start < end) else {
            return Tree::new();
        };
        if skip > 0 {
            let stop = self.edit(&from, |leaf| {
                let stop = leaf.len().min(skip + end - start);
                cut(leaf, skip..stop);
                stop
            });
            let left = end - start - (stop - skip);
            return self.remove_range(start..start + left, cut);
        }
        // The range begins with a leaf now. What it ends in loses its front.
        let mut until = None;
        if let Some((place, keep)) = self.find_index(end) {
            if keep > 0 {
                self.edit(&place, |leaf| cut(leaf, 0..keep));
            }
            until = Some(place);
        }
        if until == Some(from) {
            return Tree::new();
        }
        self.remove_leaves(&from, until.as_ref())
    }

    /// Runs `f` on the pointer to the leaf at a place, and puts what has become of it in order.
    #[inline]
    fn alter<R>(
        &mut self,
        place: &Place,
        f: impl FnOnce(&mut C, &mut usize) -> (R, Beside<C>),
    ) -> R {
        let top = self.top.as_mut().expect("a place in a tree");
        let path = &place.0[..usize::from(self.height)];
        let (result, grown) = node::alter(top, path, &mut self.left_behind, f);
        self.grow(grown);
        if self.top.as_ref().is_some_and(|top| top.leaves == 0) {
            (self.top, self.height) = (None, 0);
        }
        self.flatten();
        result
    }

    /// The root has been split or got a neighbour: a new root goes above both.
    #[inline]
    fn grow(&mut self, grown: Grown<L, C>) {
        let (front, back) = match grown {
            Grown::No => return,
            Grown::Before(slot) => (Some(slot), self.top.take()),
            Grown::After(slot) => (self.top.take(), Some(slot)),
        };
        self.top = Some(Slot::of_inner(Inner::new(front.into_iter().chain(back))));
        self.height += 1;
        assert!(usize::from(self.height) <= HEIGHT_MAX, "a tree too high");
    }

    /// A root with a single child gives way to it.
    #[inline]
    fn flatten(&mut self) {
        while let Some(Slot {
            child: Child::Inner(node),
            ..
        }) = &self.top
            && let [only] = &node.slots[..]
        {
            self.top = Some(only.clone());
            self.height -= 1;
        }
    }
}

impl<L: Leaf, C: Chunk<L>> Clone for Tree<L, C> {
    /// The same leaves in a tree of its own, in O(1): what is written to either is not seen by the other.
    fn clone(&self) -> Self {
        Tree::from_top(self.top.clone(), self.height)
    }
}

impl<L: Leaf, C: Chunk<L>> Default for Tree<L, C> {
    fn default() -> Self {
        Tree::new()
    }
}
