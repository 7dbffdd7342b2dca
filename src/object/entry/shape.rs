//! Where everything lies in an entry's allocation, and the numbers that are written there.

use crate::base::alloc::size_class;

/// Times from here on do not fit the short form of the expiry.
const SHORT_EXPIRY_END: u64 = 1 << 48;

/// The part of the meta word that is the form.
pub(super) const FORM_MASK: u32 = 0xff;
const TAG_MASK: u32 = 0x3f;
pub(super) const TAG_INT_MAX: u8 = 8;
pub(super) const TAG_EMBSTR: u8 = 9;
pub(super) const TAG_RAW: u8 = 10;
/// The bytes of a container: its listpack, or intset.
pub(super) const TAG_HASH_LISTPACK: u8 = 11;
pub(super) const TAG_SET_LISTPACK: u8 = 12;
pub(super) const TAG_SET_INTSET: u8 = 13;
/// From this tag on the value is a heap pointer.
pub(super) const TAG_HEAP: u8 = 16;
pub(super) const TAG_HEAP_STR: u8 = 16;
pub(super) const TAG_HEAP_LIST: u8 = 17;
pub(super) const TAG_HEAP_SET: u8 = 18;
pub(super) const TAG_HEAP_ZSET: u8 = 19;
pub(super) const TAG_HEAP_HASH: u8 = 20;
pub(super) const TAG_HEAP_STREAM: u8 = 21;

const EXPIRY_SHIFT: u32 = 6;
const EXPIRY_BYTES: [usize; 4] = [0, 6, 8, 8];

pub(super) const HEAD_BYTES: usize = 8;
pub(super) const ALIGN: usize = 8;

/// Where everything lies in an allocation.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) tag: u8,
    /// 0: none, 1: 6 bytes, 2: 8 bytes.
    pub(super) expiry: u8,
    pub(super) key_len: usize,
    /// Bytes of an embedded string or container; 0 for the other forms.
    pub(super) text_len: usize,
}

impl Shape {
    pub(super) fn key_len_at(self) -> usize {
        HEAD_BYTES + self.expiry_bytes()
    }

    pub(super) fn key_at(self) -> usize {
        self.key_len_at() + varint_bytes(self.key_len)
    }

    pub(super) fn value_at(self) -> usize {
        let end = self.key_at() + self.key_len;
        if self.is_heap() {
            end.next_multiple_of(ALIGN)
        } else {
            end
        }
    }

    pub(super) fn bytes(self) -> usize {
        self.value_at()
            + match self.tag {
                n @ 0..=TAG_INT_MAX => n as usize,
                _ if self.is_text() => varint_bytes(self.text_len) + self.text_len,
                _ => size_of::<usize>(),
            }
    }

    pub(super) fn class(self) -> usize {
        size_class(self.bytes(), ALIGN)
    }

    /// The shape as far as the form tells it: the lengths stand in the allocation.
    pub(super) fn of_form(form: u32) -> Shape {
        Shape {
            tag: (form & TAG_MASK) as u8,
            expiry: (form >> EXPIRY_SHIFT) as u8,
            key_len: 0,
            text_len: 0,
        }
    }

    pub(super) fn expiry_bytes(self) -> usize {
        EXPIRY_BYTES[self.expiry as usize]
    }

    pub(super) fn is_text(self) -> bool {
        matches!(self.tag, TAG_EMBSTR..=TAG_SET_INTSET)
    }

    pub(super) fn is_heap(self) -> bool {
        self.tag >= TAG_HEAP
    }

    pub(super) fn form(self) -> u32 {
        u32::from(self.tag) | u32::from(self.expiry) << EXPIRY_SHIFT
    }
}

pub(super) fn expiry_form(expiry_ms: Option<u64>) -> u8 {
    match expiry_ms {
        None => 0,
        Some(0..SHORT_EXPIRY_END) => 1,
        Some(_) => 2,
    }
}

/// The fewest bytes that hold `v` in two's complement; none for zero.
pub(super) fn int_bytes(v: i64) -> usize {
    if v == 0 {
        return 0;
    }
    // What is left of the number beside the copies of its sign bit, and one of those.
    let bits = 65 - (v ^ (v >> 63)).leading_zeros();
    bits.div_ceil(8) as usize
}

/// # Safety
/// `n <= 8` bytes lie at `at`.
#[inline]
pub(super) unsafe fn read_int(at: *const u8, n: usize) -> i64 {
    let mut v = 0u64;
    for i in 0..n {
        // SAFETY: by contract.
        v |= u64::from(unsafe { at.add(i).read() }) << (8 * i);
    }
    let unused = 64 - 8 * n as u32;
    if n == 0 {
        0
    } else {
        (v << unused) as i64 >> unused
    }
}

pub(super) fn varint_bytes(v: usize) -> usize {
    if v < 0x80 {
        1
    } else {
        v.ilog2() as usize / 7 + 1
    }
}

/// # Safety
/// `varint_bytes(v)` bytes at `at` are ours to write.
pub(super) unsafe fn write_varint(mut at: *mut u8, mut v: usize) {
    // SAFETY: by contract; one byte for each seven bits.
    unsafe {
        while v >= 0x80 {
            at.write(v as u8 | 0x80);
            at = at.add(1);
            v >>= 7;
        }
        at.write(v as u8);
    }
}

/// The number at `at` and the bytes it takes.
///
/// # Safety
/// `write_varint` wrote it there.
#[inline]
pub(super) unsafe fn read_varint(at: *const u8) -> (usize, usize) {
    // SAFETY: by contract the last byte, without the high bit, comes before the end.
    unsafe {
        let first = at.read();
        if first < 0x80 {
            return (first as usize, 1);
        }
        let (mut v, mut n) = ((first & 0x7f) as usize, 1);
        loop {
            let byte = at.add(n).read();
            v |= ((byte & 0x7f) as usize) << (7 * n);
            n += 1;
            if byte < 0x80 {
                return (v, n);
            }
        }
    }
}
