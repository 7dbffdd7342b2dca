//! A member of a set: one counted allocation that is nothing but its bytes, a record of the dict.
//!
//! ```text
//! 0        4
//! | count  | length | bytes ...        length = LEB128
//! ```
//! So 11 bytes fit a class of 16, 19 one of 24, 27 one of 32.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;

use crate::base::alloc::size_class;
use crate::ds::cow::Count;
use crate::ds::defrag::Mover;
use crate::ds::dict::{Handle, Record};

const HEAD_BYTES: usize = size_of::<Count>();
const ALIGN: usize = align_of::<Count>();

/// One member. Cloning it is counting one more owner.
#[repr(transparent)]
pub struct Member(Handle);

// SAFETY: the count is atomic, and the rest is never written once it is made.
unsafe impl Send for Member {}
// SAFETY: as above.
unsafe impl Sync for Member {}

fn length_bytes(len: usize) -> usize {
    match len {
        0..0x80 => 1,
        _ => len.ilog2() as usize / 7 + 1,
    }
}

fn layout(len: usize) -> Layout {
    let bytes = HEAD_BYTES + length_bytes(len) + len;
    Layout::from_size_align(size_class(bytes, ALIGN), ALIGN).expect("a length in memory")
}

impl Member {
    /// A member with one owner.
    pub fn new(bytes: &[u8]) -> Member {
        let layout = layout(bytes.len());
        // SAFETY: the layout has a size above zero.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        // SAFETY: the allocation is ours, aligned for a count, and holds count, length and bytes.
        unsafe {
            start.cast::<Count>().write(Count::new());
            let mut at = start.add(HEAD_BYTES);
            let mut len = bytes.len();
            while len >= 0x80 {
                at.write(len as u8 | 0x80);
                at = at.add(1);
                len >>= 7;
            }
            at.write(len as u8);
            at.add(1)
                .copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
        }
        Member(Handle::new(start))
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: a length, whose last byte is the first below 0x80, and as many bytes lie there while any owner lives.
        unsafe {
            let mut at = self.0.ptr().add(HEAD_BYTES);
            let mut byte = at.read();
            let mut len = usize::from(byte & 0x7f);
            let mut shift = 7;
            while byte >= 0x80 {
                at = at.add(1);
                byte = at.read();
                len |= usize::from(byte & 0x7f) << shift;
                shift += 7;
            }
            std::slice::from_raw_parts(at.add(1).as_ptr(), len)
        }
    }

    fn count(&self) -> &Count {
        // SAFETY: an owner keeps the allocation alive, and it begins with a count.
        unsafe { self.0.ptr().cast().as_ref() }
    }

    /// Shows its allocation to a mover.
    pub fn defrag(&mut self, mover: &mut Mover<'_>) {
        if !self.is_unique() {
            return;
        }
        let layout = layout(self.bytes().len());
        // SAFETY: allocated with this layout, and this is its only owner.
        if let Some(moved) = unsafe { mover.block(self.0.ptr(), layout) } {
            self.0.set_ptr(moved);
        }
    }

    /// Bytes of memory, as the allocator accounts them.
    pub fn memory_bytes(&self) -> usize {
        layout(self.bytes().len()).size()
    }
}

// SAFETY: transparent around a Handle that is only read by `ptr`; clone and drop count owners; the bytes never change.
unsafe impl Record for Member {
    #[inline]
    fn key(&self) -> &[u8] {
        self.bytes()
    }

    #[inline]
    fn deadline(&self) -> Option<u64> {
        None
    }

    #[inline]
    fn is_unique(&self) -> bool {
        self.count().is_unique()
    }

    fn freed_by_drop(&self) -> usize {
        if self.is_unique() {
            self.memory_bytes()
        } else {
            0
        }
    }
}

impl Clone for Member {
    #[inline]
    fn clone(&self) -> Member {
        self.count().inc();
        Member(self.0.duplicate())
    }
}

impl Drop for Member {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this owner counted once and goes now.
        if unsafe { self.count().dec() } {
            let layout = layout(self.bytes().len());
            // SAFETY: it was the last, and the allocation was made with the layout of this length.
            unsafe { dealloc(self.0.ptr().as_ptr(), layout) };
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_any_length_come_back_and_outlive_other_owners() {
        for len in [0, 1, 11, 18, 27, 127, 128, 129, 16_383, 16_384, 70_000] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let member = Member::new(&bytes);
            let other = member.clone();
            assert!(!member.is_unique());
            drop(member);
            assert!(other.is_unique());
            assert_eq!(other.key(), bytes);
        }
    }

    #[test]
    fn sizes_are_those_of_the_design() {
        assert_eq!(Member::new(&[7; 11]).memory_bytes(), 16);
        assert_eq!(Member::new(&[7; 18]).memory_bytes(), 24);
        assert_eq!(Member::new(&[7; 27]).memory_bytes(), 32);
    }
}
