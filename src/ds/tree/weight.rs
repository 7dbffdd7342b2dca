//! What goes with a tree when its owner drops it, and what stays with others.

use super::node::{Child, Inner, Slot};
use super::{Chunk, Leaf, Tree};
use crate::ds::cow::Shared;

/// Of a tree with more leaves, so many are looked at.
const SAMPLES: usize = 64;

impl<L: Leaf, C: Chunk<L>> Tree<L, C> {
    /// Of [`bytes`](Self::bytes), what goes when this owner goes: that to which the whole way from the root is its own. Of a
    /// large tree, leaves evenly spread stand for all.
    pub fn freed_by_drop(&self) -> usize {
        let Some(top) = &self.top else {
            return 0;
        };
        if self.leaf_count() <= SAMPLES {
            return own_bytes(top);
        }
        let step = self.len() as u64 / SAMPLES as u64;
        let (mut seen, mut own) = (0, 0);
        for i in 0..SAMPLES as u64 {
            let (bytes, unique) = leaf_with(top, i * step);
            seen += bytes;
            own += if unique { bytes } else { 0 };
        }
        (self.bytes() as u128 * u128::from(own) / u128::from(seen.max(1))) as usize
    }
}

fn own_bytes<L: Leaf, C: Chunk<L>>(slot: &Slot<L, C>) -> usize {
    match &slot.child {
        Child::Leaf(chunk) if chunk.is_unique() => slot.bytes as usize,
        Child::Inner(node) if Shared::is_unique(node) => {
            Inner::<L, C>::BYTES + node.slots.iter().map(own_bytes).sum::<usize>()
        }
        _ => 0,
    }
}

/// The bytes of the leaf that holds element `index`, and whether the way to it is this owner's alone.
fn leaf_with<L: Leaf, C: Chunk<L>>(mut slot: &Slot<L, C>, mut index: u64) -> (u64, bool) {
    let mut unique = true;
    loop {
        match &slot.child {
            Child::Leaf(chunk) => return (slot.bytes, unique && chunk.is_unique()),
            Child::Inner(node) => {
                unique &= Shared::is_unique(node);
                let mut slots = node.slots.iter();
                slot = slots
                    .find(|slot| {
                        let here = index < slot.len;
                        index -= if here { 0 } else { slot.len };
                        here
                    })
                    .unwrap_or(&node.slots[node.slots.len() - 1]);
            }
        }
    }
}
