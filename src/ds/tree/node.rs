//! Slots and inner nodes, and the change of one path.

use smallvec::SmallVec;

use super::{Beside, Chunk, FANOUT, Leaf, SPARSE};
use crate::base::alloc::size_class;
use crate::ds::cow::Shared;

/// What a node knows of a child, and the child.
pub(super) struct Slot<L: Leaf, C: Chunk<L>> {
    /// The first key of the first leaf below, exactly.
    pub key: L::Key,
    pub leaves: u32,
    pub len: u64,
    pub bytes: u64,
    pub child: Child<L, C>,
}

pub(super) enum Child<L: Leaf, C: Chunk<L>> {
    Leaf(C),
    Inner(Shared<Inner<L, C>>),
}

impl<L: Leaf, C: Chunk<L>> Child<L, C> {
    /// The leaf, if it is one.
    pub fn into_leaf(self) -> Option<C> {
        match self {
            Child::Leaf(chunk) => Some(chunk),
            Child::Inner(_) => None,
        }
    }
}

/// An inner node: never empty, except on the way out.
pub(super) struct Inner<L: Leaf, C: Chunk<L>> {
    pub slots: SmallVec<[Slot<L, C>; FANOUT]>,
}

impl<L: Leaf, C: Chunk<L>> Clone for Slot<L, C> {
    fn clone(&self) -> Self {
        let child = match &self.child {
            Child::Leaf(chunk) => Child::Leaf(chunk.clone()),
            Child::Inner(node) => Child::Inner(node.clone()),
        };
        Slot { child, ..*self }
    }
}

impl<L: Leaf, C: Chunk<L>> Clone for Inner<L, C> {
    fn clone(&self) -> Self {
        Inner::new(self.slots.iter().cloned())
    }
}

impl<L: Leaf, C: Chunk<L>> Inner<L, C> {
    /// What a node takes, its count included.
    pub const BYTES: usize = size_of::<Inner<L, C>>() + 8;

    pub fn new(slots: impl IntoIterator<Item = Slot<L, C>>) -> Self {
        let mut node = Inner {
            slots: SmallVec::new(),
        };
        node.slots.extend(slots);
        debug_assert!(node.slots.len() <= FANOUT && !node.slots.spilled());
        node
    }
}

impl<L: Leaf, C: Chunk<L>> Slot<L, C> {
    pub fn of_leaf(chunk: C) -> Self {
        Slot {
            key: chunk.leaf().first_key(),
            leaves: 1,
            len: chunk.leaf().len() as u64,
            bytes: chunk.leaf().heap_bytes() as u64,
            child: Child::Leaf(chunk),
        }
    }

    /// The slot of a node that is not empty.
    pub fn of_inner(node: Inner<L, C>) -> Self {
        let mut slot = Slot {
            key: node.slots[0].key,
            leaves: 0,
            len: 0,
            bytes: 0,
            child: Child::Inner(Shared::new(node)),
        };
        slot.sum_up();
        slot
    }

    /// Brings key and sums in line with the child. A node without slots has no key: the old one stays.
    pub fn sum_up(&mut self) {
        let (mut leaves, mut len, mut bytes) = (0, 0, 0);
        match &self.child {
            Child::Leaf(chunk) => {
                let leaf = chunk.leaf();
                if !leaf.is_empty() {
                    self.key = leaf.first_key();
                    leaves = 1;
                }
                (len, bytes) = (leaf.len() as u64, leaf.heap_bytes() as u64);
            }
            Child::Inner(node) => {
                for slot in &node.slots {
                    leaves += slot.leaves;
                    len += slot.len;
                    bytes += slot.bytes;
                }
                if let Some(first) = node.slots.first() {
                    self.key = first.key;
                }
            }
        }
        (self.leaves, self.len, self.bytes) = (leaves, len, bytes);
    }

    /// The number of slots of the node below; a leaf counts as full.
    pub fn width(&self) -> usize {
        match &self.child {
            Child::Leaf(_) => FANOUT,
            Child::Inner(node) => node.slots.len(),
        }
    }
}

/// Makes a node its owner's own, and tallies what that leaves behind.
#[inline(always)]
pub(super) fn own<'a, L: Leaf, C: Chunk<L>>(
    node: &'a mut Shared<Inner<L, C>>,
    left_behind: &mut usize,
) -> &'a mut Inner<L, C> {
    if !Shared::is_unique(node) {
        *left_behind += size_class(Inner::<L, C>::BYTES, 8);
    }
    Shared::make_mut(node)
}

/// What a change has added beside the child it was made in.
pub(super) enum Grown<L: Leaf, C: Chunk<L>> {
    No,
    Before(Slot<L, C>),
    After(Slot<L, C>),
}

/// Runs `f` on the leaf at the end of the path, and brings all slots on the path in line.
#[inline]
pub(super) fn alter<L: Leaf, C: Chunk<L>, R>(
    slot: &mut Slot<L, C>,
    path: &[u8],
    left_behind: &mut usize,
    f: impl FnOnce(&mut C, &mut usize) -> (R, Beside<C>),
) -> (R, Grown<L, C>) {
    let node = match &mut slot.child {
        Child::Leaf(chunk) => {
            let (result, beside) = f(chunk, left_behind);
            return (result, settle_leaf(slot, beside));
        }
        Child::Inner(node) => own(node, left_behind),
    };
    let i = usize::from(path[0]);
    let child = &mut node.slots[i];
    let (len, bytes, leaves) = (child.len, child.bytes, child.leaves);
    let (result, grown) = alter(child, &path[1..], left_behind, f);
    slot.len = slot.len.wrapping_add(child.len.wrapping_sub(len));
    slot.bytes = slot.bytes.wrapping_add(child.bytes.wrapping_sub(bytes));
    slot.leaves = slot.leaves.wrapping_add(child.leaves.wrapping_sub(leaves));
    let fewer = child.leaves < leaves;
    let split = match grown {
        Grown::No => {
            if fewer {
                settle_removal(node, i, left_behind);
            }
            None
        }
        Grown::Before(new) => slot.add(i, new, left_behind),
        Grown::After(new) => slot.add(i + 1, new, left_behind),
    };
    if let Child::Inner(node) = &slot.child
        && let Some(first) = node.slots.first()
    {
        slot.key = first.key;
    }
    (result, split.map_or(Grown::No, Grown::After))
}

/// After an edit: the slot's key and sums, and what came beside the leaf. If nothing is left of the leaf itself, that
/// takes its place.
fn settle_leaf<L: Leaf, C: Chunk<L>>(slot: &mut Slot<L, C>, beside: Beside<C>) -> Grown<L, C> {
    slot.sum_up();
    match beside {
        Beside::Before(new) | Beside::After(new) if slot.leaves == 0 && !new.leaf().is_empty() => {
            *slot = Slot::of_leaf(new);
            Grown::No
        }
        Beside::Before(new) if !new.leaf().is_empty() => Grown::Before(Slot::of_leaf(new)),
        Beside::After(new) if !new.leaf().is_empty() => Grown::After(Slot::of_leaf(new)),
        _ => Grown::No,
    }
}

/// Something below child `i` has gone: an empty child goes too, a sparse one is joined with a neighbour.
pub(super) fn settle_removal<L: Leaf, C: Chunk<L>>(
    node: &mut Inner<L, C>,
    i: usize,
    left_behind: &mut usize,
) {
    if node.slots[i].leaves == 0 {
        node.slots.remove(i);
    } else if node.slots[i].width() <= SPARSE && node.slots.len() > 1 {
        let left = if i + 1 < node.slots.len() { i } else { i - 1 };
        let right = node.slots.remove(left + 1);
        if let Some(right) = seam(&mut node.slots[left], right, left_behind) {
            node.slots.insert(left + 1, right);
        }
    }
}

/// Two neighbours of the same height: one node if that holds all slots, else half of them each. Leaves stay as they are.
pub(super) fn seam<L: Leaf, C: Chunk<L>>(
    left: &mut Slot<L, C>,
    mut right: Slot<L, C>,
    left_behind: &mut usize,
) -> Option<Slot<L, C>> {
    let (Child::Inner(a), Child::Inner(b)) = (&mut left.child, &mut right.child) else {
        return Some(right);
    };
    let (a, b) = (own(a, left_behind), own(b, left_behind));
    let all = a.slots.len() + b.slots.len();
    let move_left = if all <= FANOUT {
        b.slots.len()
    } else {
        b.slots.len().saturating_sub(all / 2)
    };
    if move_left > 0 {
        a.slots.extend(b.slots.drain(..move_left));
    } else {
        let keep = a.slots.len().min(all - all / 2);
        let moved: SmallVec<[Slot<L, C>; FANOUT]> = a.slots.drain(keep..).collect();
        b.slots.insert_many(0, moved);
    }
    left.sum_up();
    right.sum_up();
    (right.leaves > 0).then_some(right)
}

impl<L: Leaf, C: Chunk<L>> Slot<L, C> {
    /// Puts a slot into the node below at an index. A full node is split: gives its right neighbour.
    pub fn add(&mut self, at: usize, new: Self, left_behind: &mut usize) -> Option<Self> {
        let Child::Inner(node) = &mut self.child else {
            unreachable!("a leaf has no slots")
        };
        let node = own(node, left_behind);
        if node.slots.len() < FANOUT {
            self.len += new.len;
            self.bytes += new.bytes;
            self.leaves += new.leaves;
            node.slots.insert(at, new);
            if at == 0 {
                self.key = node.slots[0].key;
            }
            return None;
        }
        // At an end the full node stays full, for more will come there.
        let cut = match at {
            0 => 0,
            FANOUT => FANOUT,
            _ => FANOUT / 2,
        };
        let mut right = Inner::new(node.slots.drain(cut..));
        if at < cut || cut == 0 {
            node.slots.insert(at, new);
        } else {
            right.slots.insert(at - cut, new);
        }
        self.sum_up();
        Some(Slot::of_inner(right))
    }
}
