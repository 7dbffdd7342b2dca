//! A member: its bytes and its score, in one counted allocation.
//!
//! ```text
//! 0        4         12
//! | count  | score   | length, LEB128 | bytes ...
//!   u32      f64 LE
//! ```
//! 18 bytes of member make 31, which fit the allocator's class of 32.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};

use crate::base::alloc::size_class;
use crate::ds::cow::Count;
use crate::ds::defrag::Mover;
use crate::ds::dict::{Handle, Record};

const SCORE_AT: usize = size_of::<Count>();
const LEN_AT: usize = SCORE_AT + size_of::<f64>();
/// The low four bits of an address are zero: marks do not keep them.
pub(super) const ALIGN: usize = 16;

/// A counted pointer to a member and its score. The score changes only in the hands of the one owner.
#[repr(transparent)]
pub struct Member(Handle);

// SAFETY: the count is atomic, the rest is only written by a sole owner.
unsafe impl Send for Member {}
// SAFETY: as above.
unsafe impl Sync for Member {}

impl Member {
    /// A member with one owner.
    pub fn new(score: f64, bytes: &[u8]) -> Member {
        let mut len = [0u8; 10];
        let len_bytes = write_len(&mut len, bytes.len());
        let layout = layout(LEN_AT + len_bytes + bytes.len());
        // SAFETY: the layout is not empty.
        let Some(at) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        // SAFETY: all four parts lie in the fresh allocation, the count at its start, aligned.
        unsafe {
            at.cast::<Count>().write(Count::new());
            at.add(SCORE_AT)
                .cast::<[u8; 8]>()
                .write(score.to_le_bytes());
            ptr::copy_nonoverlapping(len.as_ptr(), at.add(LEN_AT).as_ptr(), len_bytes);
            let text = at.add(LEN_AT + len_bytes).as_ptr();
            ptr::copy_nonoverlapping(bytes.as_ptr(), text, bytes.len());
        }
        Member(Handle::new(at))
    }

    /// The allocation, for those who look at a member that another one owns.
    #[inline(always)]
    pub fn ptr(&self) -> NonNull<u8> {
        self.0.ptr()
    }

    #[inline(always)]
    pub fn score(&self) -> f64 {
        // SAFETY: alive while borrowed.
        unsafe { score_of(self.ptr()) }
    }

    /// Changes the score in place.
    pub fn set_score(&mut self, score: f64) {
        assert!(self.is_unique(), "a shared member is replaced");
        // SAFETY: the only owner is borrowed mutably.
        unsafe {
            self.ptr()
                .add(SCORE_AT)
                .cast::<[u8; 8]>()
                .write(score.to_le_bytes())
        };
    }

    /// Moves its allocation, of which the caller has made sure that this is the only owner.
    pub fn carry(&mut self, mover: &mut Mover<'_>) {
        debug_assert!(self.is_unique());
        let layout = layout(self.heap_bytes());
        // SAFETY: allocated with the layout of its class, and this is its only owner.
        if let Some(moved) = unsafe { mover.carry(self.ptr(), layout) } {
            self.0.set_ptr(moved);
        }
    }

    /// The size of its allocation.
    pub fn heap_bytes(&self) -> usize {
        // SAFETY: alive while borrowed.
        let (len, at) = unsafe { len_of(self.ptr()) };
        size_class(at + len, ALIGN)
    }
}

/// The score of a member.
///
/// # Safety
/// The pointer is that of a member that somebody owns meanwhile, and nobody changes.
#[inline(always)]
pub(super) unsafe fn score_of(at: NonNull<u8>) -> f64 {
    // SAFETY: promised by the caller; an array of bytes has no alignment.
    f64::from_le_bytes(unsafe { at.add(SCORE_AT).cast::<[u8; 8]>().read() })
}

/// The bytes of a member.
///
/// # Safety
/// As for [`score_of`]; the bytes live as long as the member.
#[inline(always)]
pub(super) unsafe fn bytes_of<'a>(at: NonNull<u8>) -> &'a [u8] {
    // SAFETY: promised by the caller.
    unsafe {
        let (len, from) = len_of(at);
        std::slice::from_raw_parts(at.add(from).as_ptr(), len)
    }
}

/// The length of a member, and where its bytes begin.
///
/// # Safety
/// As for [`score_of`].
#[inline(always)]
unsafe fn len_of(at: NonNull<u8>) -> (usize, usize) {
    let mut from = LEN_AT;
    // SAFETY: a length lies there, the last of its bytes without the high bit.
    let mut byte = unsafe { at.add(from).read() };
    let mut len = usize::from(byte & 0x7f);
    let mut shift = 0;
    while byte & 0x80 != 0 {
        from += 1;
        shift += 7;
        // SAFETY: as above.
        byte = unsafe { at.add(from).read() };
        len |= usize::from(byte & 0x7f) << shift;
    }
    (len, from + 1)
}

fn write_len(to: &mut [u8; 10], mut len: usize) -> usize {
    let mut at = 0;
    while len >= 0x80 {
        to[at] = len as u8 | 0x80;
        len >>= 7;
        at += 1;
    }
    to[at] = len as u8;
    at + 1
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(size_class(bytes, ALIGN), ALIGN).expect("a length in memory")
}

// SAFETY: transparent around a handle that it only reads through `ptr`; clone and drop count; the bytes never change.
unsafe impl Record for Member {
    #[inline(always)]
    fn key(&self) -> &[u8] {
        // SAFETY: alive while borrowed.
        unsafe { bytes_of(self.ptr()) }
    }

    #[inline(always)]
    fn deadline(&self) -> Option<u64> {
        None
    }

    #[inline]
    fn is_unique(&self) -> bool {
        // SAFETY: alive while borrowed; a count lies at the start.
        unsafe { self.ptr().cast::<Count>().as_ref() }.is_unique()
    }

    fn freed_by_drop(&self) -> usize {
        if self.is_unique() {
            self.heap_bytes()
        } else {
            0
        }
    }
}

impl Clone for Member {
    #[inline]
    fn clone(&self) -> Member {
        // SAFETY: alive while borrowed; a count lies at the start.
        unsafe { self.ptr().cast::<Count>().as_ref() }.inc();
        Member(self.0.duplicate())
    }
}

impl Drop for Member {
    #[inline]
    fn drop(&mut self) {
        let at = self.ptr();
        // SAFETY: this owner's reference ends here; the last one frees what `new` has allocated.
        unsafe {
            if at.cast::<Count>().as_ref().dec() {
                let (len, from) = len_of(at);
                dealloc(at.as_ptr(), layout(from + len));
            }
        }
    }
}
