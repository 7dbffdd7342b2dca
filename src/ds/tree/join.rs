//! Cutting a tree in two and joining two to one: along one path each, whatever the sizes.

use super::node::{Child, Inner, Slot, own, seam};
use super::{Chunk, Leaf, Place, SPARSE, Tree};
use crate::ds::cow::Shared;

/// A tree under construction: its root and height, if there is anything in it.
type Part<L, C> = Option<(Slot<L, C>, u8)>;

impl<L: Leaf, C: Chunk<L>> Tree<L, C> {
    /// Takes out the leaf at a place and all behind it, and gives them as a tree.
    #[must_use = "dropping many leaves takes its time"]
    pub fn split_off(&mut self, at: &Place) -> Self {
        let Some(top) = self.top.take() else {
            return Tree::new();
        };
        let (left, right) = cut(top, self.height, &at.0, &mut self.left_behind);
        self.put(left);
        let mut tail = Tree::new();
        tail.put(right);
        tail
    }

    /// Puts all leaves of another tree behind those of this one.
    pub fn append(&mut self, mut tail: Self) {
        self.left_behind += tail.take_left_behind();
        let a = self.top.take().map(|top| (top, self.height));
        let b = tail.top.take().map(|top| (top, tail.height));
        let joined = join(a, b, &mut self.left_behind);
        self.put(joined);
    }

    fn put(&mut self, part: Part<L, C>) {
        let (top, height) = part.unzip();
        self.top = top;
        self.height = height.unwrap_or(0);
        self.flatten();
    }
}

/// The parts to the left and to the right of a path; the leaf at its end goes to the right.
fn cut<L: Leaf, C: Chunk<L>>(
    slot: Slot<L, C>,
    height: u8,
    path: &[u8],
    left_behind: &mut usize,
) -> (Part<L, C>, Part<L, C>) {
    let mut node = match slot.child {
        Child::Leaf(_) => return (None, Some((slot, height))),
        Child::Inner(node) => node,
    };
    own(&mut node, left_behind);
    let Ok(mut left) = Shared::try_unwrap(node) else {
        unreachable!("just made our own")
    };
    let i = usize::from(path[0]);
    let right = Inner::new(left.slots.drain(i + 1..));
    let below = left.slots.pop().expect("a place in the tree");
    let (l, r) = cut(below, height - 1, &path[1..], left_behind);
    (
        join(part(left, height), l, left_behind),
        join(r, part(right, height), left_behind),
    )
}

fn part<L: Leaf, C: Chunk<L>>(mut node: Inner<L, C>, height: u8) -> Part<L, C> {
    match node.slots.len() {
        0 => None,
        1 => node.slots.pop().map(|slot| (slot, height - 1)),
        _ => Some((Slot::of_inner(node), height)),
    }
}

/// All of `a`, then all of `b`. The lower one is hung onto the facing edge of the higher one.
fn join<L: Leaf, C: Chunk<L>>(a: Part<L, C>, b: Part<L, C>, left_behind: &mut usize) -> Part<L, C> {
    let ((mut a, ha), (mut b, hb)) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (a, b) => return a.or(b),
    };
    let height = ha.max(hb);
    let (front, back) = if ha >= hb {
        let back = hang(&mut a, ha, b, hb, Edge::Right, left_behind);
        (a, back)
    } else {
        let back = hang(&mut b, hb, a, ha, Edge::Left, left_behind);
        (b, back)
    };
    Some(match back {
        None => (front, height),
        Some(back) => (Slot::of_inner(Inner::new([front, back])), height + 1),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Left,
    Right,
}

/// Hangs `new` onto an edge of `slot`, which is at least as high. Gives the right neighbour that `slot` gets if not
/// all fits in.
fn hang<L: Leaf, C: Chunk<L>>(
    slot: &mut Slot<L, C>,
    height: u8,
    new: Slot<L, C>,
    new_height: u8,
    edge: Edge,
    left_behind: &mut usize,
) -> Option<Slot<L, C>> {
    if height == new_height {
        let right = match edge {
            Edge::Right => new,
            Edge::Left => std::mem::replace(slot, new),
        };
        // Stumps come of cutting: here they are made good.
        return if slot.width() <= SPARSE || right.width() <= SPARSE {
            seam(slot, right, left_behind)
        } else {
            Some(right)
        };
    }
    let Child::Inner(node) = &mut slot.child else {
        unreachable!("higher than the other")
    };
    let node = own(node, left_behind);
    let i = match edge {
        Edge::Left => 0,
        Edge::Right => node.slots.len() - 1,
    };
    let grown = hang(
        &mut node.slots[i],
        height - 1,
        new,
        new_height,
        edge,
        left_behind,
    );
    slot.sum_up();
    slot.add(i + 1, grown?, left_behind)
}
