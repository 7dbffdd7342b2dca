//! A set of slots: one bit each, in the order in which they stand on the wire.

use crate::base::slot::{SLOTS, Slot};

/// The bytes of a set on the wire.
pub const SLOT_BYTES: usize = SLOTS / 8;
const WORDS: usize = SLOTS / 64;

/// See the head of the file.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet(Box<[u64; WORDS]>);

impl Default for SlotSet {
    fn default() -> SlotSet {
        SlotSet(Box::new([0; WORDS]))
    }
}

impl std::fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}

impl SlotSet {
    /// The set that a message shows: slot `n` is bit `n % 8` of byte `n / 8`.
    pub fn from_bytes(bytes: &[u8; SLOT_BYTES]) -> SlotSet {
        let mut set = SlotSet::default();
        for (word, bytes) in set.0.iter_mut().zip(bytes.chunks_exact(8)) {
            // (The pieces have eight bytes.)
            *word = bytes.iter().rev().fold(0, |w, b| (w << 8) | u64::from(*b));
        }
        set
    }

    /// The same for a message.
    pub fn write(&self, out: &mut Vec<u8>) {
        for word in self.0.iter() {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    pub fn has(&self, slot: Slot) -> bool {
        self.0[slot.index() / 64] >> (slot.index() % 64) & 1 == 1
    }

    /// Puts a slot in; false if it was there.
    pub fn insert(&mut self, slot: Slot) -> bool {
        let is_new = !self.has(slot);
        self.0[slot.index() / 64] |= 1 << (slot.index() % 64);
        is_new
    }

    /// Takes a slot out; false if it was not there.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let was_there = self.has(slot);
        self.0[slot.index() / 64] &= !(1 << (slot.index() % 64));
        was_there
    }

    /// How many slots are in it.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Those of them that are not in `other`.
    pub fn without(&self, other: &SlotSet) -> SlotSet {
        let mut left = self.clone();
        for (word, other) in left.0.iter_mut().zip(other.0.iter()) {
            *word &= !other;
        }
        left
    }

    /// The first slot from `from` on that is in it, or, without `present`, that is not; [`SLOTS`] if there is none.
    fn find(&self, from: usize, present: bool) -> usize {
        let mut at = from;
        while at < SLOTS {
            let word = self.0[at / 64];
            let word = if present { word } else { !word };
            let rest = word >> (at % 64);
            if rest != 0 {
                return at + rest.trailing_zeros() as usize;
            }
            at = (at / 64 + 1) * 64;
        }
        SLOTS
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let found = self.find(at, true);
            at = found + 1;
            Slot::new(found as u64)
        })
    }

    /// All of them as ranges: the first and the last slot of each.
    pub fn ranges(&self) -> Vec<(u16, u16)> {
        let mut ranges = Vec::new();
        let mut first = self.find(0, true);
        while first < SLOTS {
            let end = self.find(first, false);
            ranges.push((first as u16, (end - 1) as u16));
            first = self.find(end, true);
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_stand_as_on_the_wire() {
        let mut bytes = [0; SLOT_BYTES];
        (bytes[0], bytes[1], bytes[8], bytes[SLOT_BYTES - 1]) = (0b1000_0001, 1, 2, 0x80);
        let mut set = SlotSet::from_bytes(&bytes);
        assert_eq!(set.ranges(), [(0, 0), (7, 8), (65, 65), (16383, 16383)]);
        assert_eq!(set.len(), 5);
        let mut out = Vec::new();
        set.write(&mut out);
        assert_eq!(out, bytes);
        let eight = Slot::new(8).unwrap();
        assert!(set.remove(eight) && !set.remove(eight) && set.insert(eight) && !set.insert(eight));
        assert!(set.without(&set).is_empty());
    }
}
