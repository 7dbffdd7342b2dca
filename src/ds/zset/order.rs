//! The order of members: by score, then by their bytes. And how to find a place in it without reading them all.

use std::cmp::Ordering;
use std::ptr::NonNull;

use super::member::{ALIGN, bytes_of, score_of};

/// A score as a number whose order is that of scores: both zeros are one.
#[inline(always)]
pub(super) fn sort_bits(score: f64) -> u64 {
    // Adding zero turns -0 into 0 and leaves all else.
    let bits = (score + 0.0).to_bits();
    if bits >> 63 == 0 {
        bits | 1 << 63
    } else {
        !bits
    }
}

/// Bits of a score that a mark keeps: 32 in its head, 4 in its word.
const KEPT: u32 = 36;
/// Of these, bits of the size without the sign.
const SIZE: u32 = KEPT - 1;
/// The sizes that a mark tells apart begin at 2^-10 and end before 2^54: six bits are enough for their exponents, which
/// leaves 29 for their digits. What is smaller or larger counts as the first or the last of them.
const SIZE_FROM: u64 = (1023 - 10) << 52;
const SIZES: u64 = 1 << 58;

/// The bits of a score that a mark keeps, given its [`sort_bits`]: in the same order, but that scores which differ may be
/// the same here.
#[inline(always)]
fn kept_bits(sort: u64) -> u64 {
    const SIGN: u64 = 1 << 63;
    let positive = sort & SIGN != 0;
    let size = if positive { sort ^ SIGN } else { !sort };
    let size = size.saturating_sub(SIZE_FROM).min(SIZES - 1) >> (58 - SIZE);
    let half = 1 << SIZE;
    if positive {
        half | size
    } else {
        half - 1 - size
    }
}

/// A mark's pointer to its member, without the low bits that are always zero, and above it the last of the score's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Word([u8; 6]);

const POINTER_BITS: u32 = 44;
const LOW_BITS: u32 = ALIGN.trailing_zeros();
const _: () = assert!(POINTER_BITS + LOW_BITS == 48 && POINTER_BITS + KEPT - 32 == 48);

impl Word {
    #[inline(always)]
    fn bits(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    #[inline(always)]
    pub fn ptr(self) -> NonNull<u8> {
        let at = (self.bits() & ((1 << POINTER_BITS) - 1)) << LOW_BITS;
        let at = std::ptr::with_exposed_provenance_mut(at as usize);
        // SAFETY: made of a pointer that was not null.
        unsafe { NonNull::new_unchecked(at) }
    }

    /// The score's bits.
    #[inline(always)]
    fn last(self) -> u64 {
        self.bits() >> POINTER_BITS
    }
}

/// A member's place in a leaf: a pointer to it, and bits of its score in sortable form. The member is not counted here:
/// see the head of [`zset`](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub head: u32,
    pub word: Word,
}

impl Mark {
    #[inline]
    pub fn new(score: f64, at: NonNull<u8>) -> Mark {
        let kept = kept_bits(sort_bits(score));
        let pointer = at.expose_provenance().get() as u64 >> LOW_BITS;
        debug_assert!(pointer >> POINTER_BITS == 0);
        let [a, b, c, d, e, f, ..] = (pointer | kept << POINTER_BITS).to_le_bytes();
        Mark {
            head: (kept >> (KEPT - 32)) as u32,
            word: Word([a, b, c, d, e, f]),
        }
    }
}

/// A place between two members, to be looked for.
#[derive(Clone, Copy, Debug)]
pub enum Gap<'a> {
    /// Before all members of a score.
    BeforeScore(f64),
    /// Behind all members of a score.
    AfterScore(f64),
    /// Where a member of a score would stand; before it, if it is there.
    Before(f64, &'a [u8]),
    /// The same, behind it.
    After(f64, &'a [u8]),
    /// Before a member, where all scores are equal.
    BeforeLex(&'a [u8]),
    /// Behind a member, where all scores are equal.
    AfterLex(&'a [u8]),
}

/// A gap made ready to be compared with marks.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    sort: u64,
    kept: u64,
    gap: Gap<'a>,
}

impl<'a> Target<'a> {
    #[inline]
    pub fn new(gap: Gap<'a>) -> Target<'a> {
        let sort = match gap {
            Gap::BeforeScore(score) | Gap::AfterScore(score) => sort_bits(score),
            Gap::Before(score, _) | Gap::After(score, _) => sort_bits(score),
            Gap::BeforeLex(_) | Gap::AfterLex(_) => 0,
        };
        let kept = kept_bits(sort);
        Target { sort, kept, gap }
    }

    /// The head of marks that need a closer look: all others lie before or behind the gap. `None`: all need it.
    #[inline(always)]
    pub fn head(&self) -> Option<u32> {
        match self.gap {
            Gap::BeforeLex(_) | Gap::AfterLex(_) => None,
            _ => Some((self.kept >> (KEPT - 32)) as u32),
        }
    }

    /// Whether a mark stands before the gap.
    ///
    /// # Safety
    /// The mark's member is alive.
    #[inline(always)]
    pub unsafe fn is_past(&self, mark: &Mark) -> bool {
        match self.head() {
            Some(head) if mark.head != head => mark.head < head,
            // SAFETY: promised by the caller.
            _ => unsafe { self.is_past_word(mark.word) },
        }
    }

    /// Whether a mark stands before the gap, if that cannot be told by its head.
    ///
    /// # Safety
    /// The word's member is alive.
    #[inline]
    pub unsafe fn is_past_word(&self, word: Word) -> bool {
        let at = word.ptr();
        match self.gap {
            // SAFETY: promised by the caller; so below.
            Gap::BeforeLex(member) => unsafe { bytes_of(at) < member },
            // SAFETY: as above.
            Gap::AfterLex(member) => unsafe { bytes_of(at) <= member },
            gap => {
                let order = word.last().cmp(&(self.kept & ((1 << (KEPT - 32)) - 1)));
                // SAFETY: as above.
                match order.then_with(|| sort_bits(unsafe { score_of(at) }).cmp(&self.sort)) {
                    Ordering::Less => true,
                    Ordering::Greater => false,
                    Ordering::Equal => match gap {
                        // SAFETY: as above.
                        Gap::Before(_, member) => unsafe { bytes_of(at) < member },
                        // SAFETY: as above.
                        Gap::After(_, member) => unsafe { bytes_of(at) <= member },
                        Gap::AfterScore(_) => true,
                        _ => false,
                    },
                }
            }
        }
    }
}
