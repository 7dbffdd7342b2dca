//! The order of members: by score, then by their bytes. And how to find a place in it without reading them all.

use std::cmp::Ordering;
use std::ptr::NonNull;

use super::member::{bytes_of, score_of};

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

/// The low 48 bits of a word: the pointer.
const POINTER: u64 = (1 << 48) - 1;

/// A member's place in a leaf: a pointer to it, and the 48 upper bits of its score in sortable form, 32 of them in the
/// head. The member is not counted here: see the head of [`zset`](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub head: u32,
    /// Twice 32 bits, so that a mark takes 12 bytes.
    word: [u32; 2],
}

/// The pointer of a mark, and the lower 16 of its score bits above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub u64);

impl Word {
    #[inline(always)]
    pub fn ptr(self) -> NonNull<u8> {
        let at = std::ptr::with_exposed_provenance_mut((self.0 & POINTER) as usize);
        // SAFETY: made of a pointer that was not null.
        unsafe { NonNull::new_unchecked(at) }
    }

    #[inline(always)]
    fn mid(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

impl Mark {
    #[inline]
    pub fn new(score: f64, at: NonNull<u8>) -> Mark {
        let sort = sort_bits(score);
        let word = (sort >> 16 << 48) | at.expose_provenance().get() as u64;
        Mark::of_parts((sort >> 32) as u32, Word(word))
    }

    #[inline(always)]
    pub fn of_parts(head: u32, word: Word) -> Mark {
        Mark {
            head,
            word: [word.0 as u32, (word.0 >> 32) as u32],
        }
    }

    #[inline(always)]
    pub fn word(self) -> Word {
        Word(u64::from(self.word[0]) | u64::from(self.word[1]) << 32)
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
        Target { sort, gap }
    }

    /// The head of marks that need a closer look: all others lie before or behind the gap. `None`: all need it.
    #[inline(always)]
    pub fn head(&self) -> Option<u32> {
        match self.gap {
            Gap::BeforeLex(_) | Gap::AfterLex(_) => None,
            _ => Some((self.sort >> 32) as u32),
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
            _ => unsafe { self.is_past_word(mark.word()) },
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
                let order = word.mid().cmp(&((self.sort >> 16) as u16));
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
