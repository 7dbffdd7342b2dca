//! Hash slots: how a cluster divides all possible keys.
//!
//! A cluster has 16384 slots, each of which belongs to one master at a time. A key's slot is the CRC16 of the key; if the
//! key has a *hash tag*, something between its first `{` and the next `}`, of that alone. So `{user7}.name` and
//! `{user7}.mail` are always on the same node, and one command may take both.
//!
//! The CRC is the one of XMODEM: polynomial 0x1021, initial value 0, nothing reflected.

/// How many slots there are.
pub const SLOTS: usize = 16384;

/// A slot: less than [`SLOTS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(u16);

impl Slot {
    /// The bits that tell slots apart.
    pub const BITS: u32 = SLOTS.trailing_zeros();

    /// The slot of this number, if there is one.
    pub fn new(number: u64) -> Option<Slot> {
        let number = u16::try_from(number).ok()?;
        (usize::from(number) < SLOTS).then_some(Slot(number))
    }

    /// The slot that a key lies in.
    #[inline]
    pub fn of(key: &[u8]) -> Slot {
        let crc = crc16::State::<crc16::XMODEM>::calculate(hash_tag(key));
        Slot(crc % SLOTS as u16)
    }

    /// The slot that a hash begins with, where hashes are by slot (see `HashKey::by_slot`).
    #[inline]
    pub fn of_hash(hash: u64) -> Slot {
        Slot((hash >> (64 - Slot::BITS)) as u16)
    }

    /// The least hash that begins with the slot.
    #[inline]
    pub fn first_hash(self) -> u64 {
        u64::from(self.0) << (64 - Slot::BITS)
    }

    /// All slots, in order.
    pub fn all() -> impl ExactSizeIterator<Item = Slot> + DoubleEndedIterator {
        (0..SLOTS as u16).map(Slot)
    }

    /// Its number.
    #[inline]
    pub fn number(self) -> u16 {
        self.0
    }

    /// Its number, for tables that have an entry for each.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The part of a key that decides its slot: what stands between its first `{` and the next `}`, or all of it if that is
/// nothing.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let tag = memchr::memchr(b'{', key).and_then(|open| {
        let rest = key.get(open + 1..)?;
        rest.get(..memchr::memchr(b'}', rest)?)
    });
    tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        for (key, slot) in [
            (&b"123456789"[..], 0x31c3),
            (b"", 0),
            (b"foo", 12182),
            (b"bar", 5061),
            (b"{foo}.bar", 12182),
            (b"hello", 866),
        ] {
            assert_eq!(Slot::of(key).number(), slot, "{key:?}");
        }
        assert_eq!(Slot::new(16383).map(Slot::index), Some(16383));
        assert_eq!(Slot::new(16384), None);
        assert_eq!(Slot::new(1 << 16), None);
        assert!(Slot::all().enumerate().all(|(i, slot)| slot.index() == i));
        assert_eq!(Slot::all().len(), SLOTS);
    }

    #[test]
    fn a_hash_tag_is_the_first_and_never_empty() {
        for (key, tag) in [
            (&b"{user1000}.following"[..], &b"user1000"[..]),
            (b"foo{}{bar}", b"foo{}{bar}"),
            (b"foo{{bar}}zap", b"{bar"),
            (b"foo{bar}{zap}", b"bar"),
            (b"}{a", b"}{a"),
            (b"a{", b"a{"),
        ] {
            assert_eq!(hash_tag(key), tag);
        }
    }
}
