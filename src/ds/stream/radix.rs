//! How large Redis's radix tree would be: XINFO STREAM tells it.
//!
//! Redis keeps macro nodes in a radix tree whose keys are their IDs, 16 bytes big-endian. Where two keys part there is a
//! node, each key ends in a node, and the bytes that lie between two of these, or before the first, are one node more if
//! there are any. The number follows from the bytes that neighbours have in common: whoever reads the keys in order has
//! the parting nodes above the last key on a stack, and counts each when its last key has gone by.

use super::id::StreamId;

const KEY_BYTES: u32 = 16;

/// The number of nodes for macro nodes with these IDs, which come in order.
pub fn node_count(ids: impl Iterator<Item = StreamId>) -> usize {
    let mut keys = ids.map(|id| u128::from(id.ms) << 64 | u128::from(id.seq));
    let Some(mut before) = keys.next() else {
        // The root.
        return 1;
    };
    let mut total = 0;
    // Depths at which the last key parts from those before it.
    let mut partings: Vec<u32> = Vec::new();
    let mut last_parting = None;
    for key in keys {
        let depth = (before ^ key).leading_zeros() / 8;
        before = key;
        total += with_edge(last_parting.max(Some(depth)), KEY_BYTES);
        while let Some(deeper) = partings.pop_if(|p| *p > depth) {
            total += with_edge(partings.last().copied().max(Some(depth)), deeper);
        }
        if partings.last() != Some(&depth) {
            partings.push(depth);
        }
        last_parting = Some(depth);
    }
    total += with_edge(last_parting, KEY_BYTES);
    while let Some(depth) = partings.pop() {
        total += with_edge(partings.last().copied(), depth);
    }
    total
}

/// A node at a depth, and one more for the bytes that lead to it from the parting above, which takes a byte itself.
fn with_edge(above: Option<u32>, depth: u32) -> usize {
    1 + usize::from(depth > above.map_or(0, |above| above + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partings_and_the_bytes_between_them_are_counted() {
        let id = StreamId::new;
        for (ids, nodes) in [
            (&[][..], 1),
            // The bytes of the only key, and its end.
            (&[id(1, 0)][..], 2),
            // Seven bytes, a parting, and twice eight bytes and an end.
            (&[id(1, 0), id(2, 0)][..], 6),
            // Fifteen bytes, a parting, three ends.
            (&[id(1, 0), id(1, 1), id(1, 2)][..], 5),
            // A parting at the root, one in the last byte below it, and another.
            (&[id(1, 0), id(1, 1), id(1 << 56, 0), id(1 << 56, 1)][..], 9),
        ] {
            assert_eq!(node_count(ids.iter().copied()), nodes, "{ids:?}");
        }
    }
}
