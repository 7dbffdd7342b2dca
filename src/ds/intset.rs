//! The intset: a small set of integers as one sorted array, each integer as wide as the widest needs.
//!
//! ```text
//! 0         4         8
//! | width   | count   | integer 0 | integer 1 | ...            all little-endian
//!
//! width  = 2, 4 or 8: bytes of an integer (signed), the same for all
//! order  = ascending, none twice
//! ```
//! These bytes are Redis's own: an RDB file holds them as they stand here, so a set is saved and loaded by copying.
//!
//! - **Lookup** is a binary search. What lies beyond the first or the last integer is answered by those alone, which
//!   makes counting up (the common way to fill such a set) an append.
//! - **An integer that is too wide** widens all others. It is smaller or larger than each of them, so it goes to one end
//!   and the rest is copied once, from behind. The width never falls again, not even when the wide one leaves.
//! - **Insertion moves what follows**, which is why a set of integers becomes a hash table at 512 of them
//!   (`set-max-intset-entries`).
//!
//! The allocation is as large as the allocator's size class for these bytes, so that most insertions find room.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::fmt;
use std::ptr::NonNull;

use crate::base::alloc::size_class;
use crate::ds::defrag::Mover;

const HEAD_BYTES: usize = 8;
const ALIGN: usize = 8;

/// The bytes are not those of an intset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// The bytes of an intset, to be read, wherever they lie.
#[derive(Clone, Copy)]
pub struct Ints<'a> {
    bytes: &'a [u8],
}

/// An intset that owns its bytes, behind one pointer.
pub struct Intset {
    bytes: NonNull<u8>,
}

// SAFETY: it owns its allocation, and nothing in it changes but through `&mut`.
unsafe impl Send for Intset {}
// SAFETY: as above.
unsafe impl Sync for Intset {}

/// The fewest bytes that hold an integer.
fn width_of(v: i64) -> usize {
    if i64::from(v as i16) == v {
        2
    } else if i64::from(v as i32) == v {
        4
    } else {
        8
    }
}

/// The integer in `bytes`, which are 2, 4 or 8.
#[inline]
fn read(bytes: &[u8]) -> i64 {
    match *bytes {
        [a, b] => i16::from_le_bytes([a, b]).into(),
        [a, b, c, d] => i32::from_le_bytes([a, b, c, d]).into(),
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => unreachable!("a width of {}", bytes.len()),
    }
}

fn write(bytes: &mut [u8], v: i64) {
    let width = bytes.len();
    bytes.copy_from_slice(&v.to_le_bytes()[..width]);
}

fn search_in<const N: usize>(items: &[u8], v: i64) -> Result<usize, usize> {
    items
        .as_chunks::<N>()
        .0
        .binary_search_by_key(&v, |chunk| read(chunk))
}

impl<'a> Ints<'a> {
    /// The intset that these bytes are. They are refused unless they are exactly one: a known width, as many integers as
    /// the count says, at least one; and, if `deep`, in ascending order.
    pub fn parse(bytes: &'a [u8], deep: bool) -> Result<Ints<'a>, Corrupt> {
        let Some((head, items)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return Err(Corrupt);
        };
        let ints = Ints { bytes };
        let count = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let width = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let fits = matches!(width, 2 | 4 | 8)
            && u64::from(count) * u64::from(width) == items.len() as u64
            && count > 0
            && u32::try_from(bytes.len()).is_ok();
        if !fits || deep && !ints.iter().is_sorted_by(|a, b| a < b) {
            return Err(Corrupt);
        }
        Ok(ints)
    }

    /// These bytes, which came from [`Ints::bytes`].
    #[inline(always)]
    pub fn of(bytes: &'a [u8]) -> Ints<'a> {
        debug_assert!(bytes.len() >= HEAD_BYTES);
        Ints { bytes }
    }

    /// The bytes, as an RDB file holds them.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    fn width(self) -> usize {
        usize::from(self.bytes[0])
    }

    fn items(self) -> &'a [u8] {
        &self.bytes[HEAD_BYTES..]
    }

    /// The number of integers.
    #[inline]
    pub fn len(self) -> usize {
        self.items().len() / self.width()
    }

    /// True if there are none.
    pub fn is_empty(self) -> bool {
        self.items().is_empty()
    }

    /// The integer at an index, in ascending order.
    #[inline]
    pub fn get(self, index: usize) -> Option<i64> {
        let width = self.width();
        let at = index.checked_mul(width)?;
        let end = at.checked_add(width)?;
        self.items().get(at..end).map(read)
    }

    /// The smallest and the largest integer.
    pub fn range(self) -> Option<(i64, i64)> {
        let last = self.len().checked_sub(1)?;
        self.get(0).zip(self.get(last))
    }

    /// The index of an integer, or the one it would go to.
    fn search(self, v: i64) -> Result<usize, usize> {
        match self.range() {
            None => return Err(0),
            Some((min, _)) if v < min => return Err(0),
            Some((_, max)) if v > max => return Err(self.len()),
            Some(_) => {}
        }
        match self.width() {
            2 => search_in::<2>(self.items(), v),
            4 => search_in::<4>(self.items(), v),
            _ => search_in::<8>(self.items(), v),
        }
    }

    /// Whether the integer is in the set.
    #[inline]
    pub fn contains(self, v: i64) -> bool {
        self.search(v).is_ok()
    }

    /// The integers in ascending order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = i64> + 'a {
        self.items().chunks_exact(self.width()).map(read)
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(size_class(bytes, ALIGN), ALIGN).expect("a length in memory")
}

impl Intset {
    /// An empty one.
    pub fn new() -> Intset {
        Intset::copy(&[2, 0, 0, 0, 0, 0, 0, 0])
    }

    /// The intset that these bytes are, see [`Ints::parse`].
    pub fn from_bytes(bytes: &[u8], deep: bool) -> Result<Intset, Corrupt> {
        Ints::parse(bytes, deep).map(|ints| Intset::copy(ints.bytes))
    }

    /// A copy of an intset.
    pub fn copy_of(ints: Ints<'_>) -> Intset {
        Intset::copy(ints.bytes)
    }

    fn copy(bytes: &[u8]) -> Intset {
        let layout = layout(bytes.len());
        // SAFETY: the layout has a size above zero.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        // SAFETY: the allocation is new and at least as long as `bytes`, which are an intset.
        unsafe { start.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Intset { bytes: start }
    }

    /// The set, to be read.
    #[inline]
    pub fn ints(&self) -> Ints<'_> {
        // SAFETY: head and integers lie there for as long as `self` is borrowed, and the head tells their length.
        let bytes = unsafe {
            let head = self.bytes.cast::<[u32; 2]>().read();
            let [width, count] = head.map(u32::from_le);
            std::slice::from_raw_parts(self.bytes.as_ptr(), HEAD_BYTES + (width * count) as usize)
        };
        Ints { bytes }
    }

    /// Shows its block to a mover.
    pub fn defrag(&mut self, mover: &mut Mover<'_>) {
        let layout = layout(self.ints().bytes.len());
        // SAFETY: the block is this one's alone, and was allocated with the layout of its length.
        if let Some(moved) = unsafe { mover.block(self.bytes, layout) } {
            self.bytes = moved;
        }
    }

    /// Makes the allocation fit for a head of this width and count and writes the head. What the integers are then is the
    /// caller's business: those that were there keep their bytes.
    fn resize(&mut self, width: usize, count: usize) -> &mut [u8] {
        let (old, new) = (self.ints().bytes.len(), HEAD_BYTES + width * count);
        // As many as a u32 counts, with room for the sum of the bytes (Redis stops at 2^30 as well).
        assert!(u32::try_from(new).is_ok(), "an intset beyond 4 GB");
        let (from, to) = (layout(old), layout(new));
        if from != to {
            // SAFETY: allocated with the layout of its length, as ever; the new size is above zero.
            let moved = unsafe { realloc(self.bytes.as_ptr(), from, to.size()) };
            let Some(start) = NonNull::new(moved) else {
                handle_alloc_error(to)
            };
            self.bytes = start;
        }
        // SAFETY: the allocation holds `new` bytes and is ours alone; those beyond the old ones are zeroed before anybody
        // sees them.
        let bytes = unsafe {
            if new > old {
                self.bytes.add(old).write_bytes(0, new - old);
            }
            std::slice::from_raw_parts_mut(self.bytes.as_ptr(), new)
        };
        bytes[..4].copy_from_slice(&(width as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&(count as u32).to_le_bytes());
        &mut bytes[HEAD_BYTES..]
    }

    /// Puts an integer in; false if it was there.
    pub fn insert(&mut self, v: i64) -> bool {
        let (len, width) = (self.ints().len(), self.ints().width());
        if width_of(v) > width {
            self.widen(v);
            return true;
        }
        let Err(index) = self.ints().search(v) else {
            return false;
        };
        let items = self.resize(width, len + 1);
        let at = index * width;
        items.copy_within(at..len * width, at + width);
        write(&mut items[at..at + width], v);
        true
    }

    /// Puts in an integer that is wider than all others.
    fn widen(&mut self, v: i64) {
        let (len, old, width) = (self.ints().len(), self.ints().width(), width_of(v));
        let items = self.resize(width, len + 1);
        // Beyond all others, it stands first or last.
        let shift = usize::from(v < 0);
        for i in (0..len).rev() {
            let item = read(&items[i * old..(i + 1) * old]);
            let at = (i + shift) * width;
            write(&mut items[at..at + width], item);
        }
        let at = if shift == 1 { 0 } else { len * width };
        write(&mut items[at..at + width], v);
    }

    /// Takes an integer out; false if it was not there.
    pub fn remove(&mut self, v: i64) -> bool {
        let Ok(index) = self.ints().search(v) else {
            return false;
        };
        let (len, width) = (self.ints().len(), self.ints().width());
        let items = self.resize(width, len);
        items.copy_within((index + 1) * width.., index * width);
        self.resize(width, len - 1);
        true
    }

    /// Bytes of memory, as the allocator accounts them.
    pub fn memory_bytes(&self) -> usize {
        layout(self.ints().bytes.len()).size()
    }
}

impl Default for Intset {
    fn default() -> Intset {
        Intset::new()
    }
}

impl Clone for Intset {
    fn clone(&self) -> Intset {
        Intset::copy(self.ints().bytes)
    }
}

impl Drop for Intset {
    fn drop(&mut self) {
        let layout = layout(self.ints().bytes.len());
        // SAFETY: allocated with the layout of its length, and nobody sees it any more.
        unsafe { dealloc(self.bytes.as_ptr(), layout) };
    }
}

impl fmt::Debug for Intset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ints().fmt(f)
    }
}

impl fmt::Debug for Ints<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn bytes_are_those_of_redis() {
        let mut set = Intset::new();
        for v in [5, -1, 300] {
            assert!(set.insert(v));
        }
        assert_eq!(
            set.ints().bytes(),
            [2, 0, 0, 0, 3, 0, 0, 0, 255, 255, 5, 0, 44, 1]
        );
        set.insert(-40_000);
        assert!(set.remove(300) && !set.remove(300));
        assert_eq!(
            set.ints().bytes(),
            [
                4, 0, 0, 0, 3, 0, 0, 0, 0xc0, 0x63, 255, 255, 255, 255, 255, 255, 5, 0, 0, 0
            ]
        );
        assert_eq!(set.memory_bytes(), 24);
    }

    #[test]
    fn other_bytes_are_refused() {
        let good = [2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 2, 0];
        assert!(Intset::from_bytes(&good, true).is_ok());
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            Intset::from_bytes(&bytes, true).is_err()
        };
        assert!(with(0, 1) && with(0, 4) && with(2, 1) && with(4, 3) && with(7, 128));
        assert!(with(8, 2), "an integer twice");
        assert!(with(9, 1), "out of order");
        assert!(Intset::from_bytes(&[2, 0, 0, 0, 2, 0, 0, 0, 1, 1, 2, 0], false).is_ok());
        assert!(Intset::from_bytes(&good[..11], true).is_err());
        assert!(Intset::from_bytes(&good[..8], true).is_err());
        assert!(Intset::from_bytes(&[2, 0, 0, 0, 0, 0, 0, 0], true).is_err());
    }

    fn integers() -> impl Strategy<Value = i64> {
        prop_oneof![
            4 => -20..20i64,
            2 => -40_000..40_000i64,
            1 => any::<i32>().prop_map(i64::from),
            1 => any::<i64>(),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_model(steps in vec((any::<bool>(), integers()), 1..200)) {
            let (mut set, mut model) = (Intset::new(), BTreeSet::new());
            let mut copies = Vec::new();
            for (i, (insert, v)) in steps.into_iter().enumerate() {
                if insert {
                    prop_assert_eq!(set.insert(v), model.insert(v));
                } else {
                    prop_assert_eq!(set.remove(v), model.remove(&v));
                }
                let ints = set.ints();
                prop_assert!(ints.iter().eq(model.iter().copied()));
                prop_assert_eq!(ints.contains(v), model.contains(&v));
                prop_assert_eq!(ints.range(), model.first().copied().zip(model.last().copied()));
                if !model.is_empty() {
                    let again = Intset::from_bytes(ints.bytes(), true);
                    prop_assert!(again.is_ok_and(|again| again.ints().iter().eq(ints.iter())));
                }
                if i % 50 == 0 {
                    copies.push((set.clone(), model.clone()));
                }
            }
            for (set, model) in &copies {
                prop_assert!(set.ints().iter().eq(model.iter().copied()));
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in vec(prop_oneof![Just(0u8), 0..9u8, any::<u8>()], 0..40)) {
            if let Ok(set) = Intset::from_bytes(&bytes, true) {
                prop_assert!(set.ints().iter().all(|v| set.ints().contains(v)));
                prop_assert_eq!(set.ints().bytes(), &bytes[..]);
            }
        }
    }
}
