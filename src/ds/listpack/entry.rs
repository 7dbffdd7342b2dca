//! One entry of a listpack: its encoding, both ways, and the check of foreign bytes.

use std::ptr;

use super::{COUNT_UNKNOWN, Corrupt, END, HEADER_BYTES};
use crate::base::number::parse_i64;

/// The encoding of a string of any length.
pub(super) const LONG_STRING: u8 = 0xF0;

/// An element: an integer, or a string that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elem<'a> {
    Int(i64),
    Str(&'a [u8]),
}

impl<'a> From<&'a [u8]> for Elem<'a> {
    /// The element that stands for a text: an integer if the text writes one in canonical form.
    fn from(text: &'a [u8]) -> Elem<'a> {
        match integer(text) {
            Some(int) => Elem::Int(int),
            None => Elem::Str(text),
        }
    }
}

impl From<i64> for Elem<'_> {
    fn from(int: i64) -> Self {
        Elem::Int(int)
    }
}

impl<'a> Elem<'a> {
    /// The text, written into `digits` if it is an integer.
    #[inline]
    pub fn text<'b>(self, digits: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Elem::Int(int) => digits.format(int).as_bytes(),
            Elem::Str(text) => text,
        }
    }

    /// The text, in a vector of its own.
    pub fn to_vec(self) -> Vec<u8> {
        self.text(&mut itoa::Buffer::new()).to_vec()
    }

    /// Length of the text.
    pub fn text_len(self) -> usize {
        match self {
            Elem::Int(int) => itoa::Buffer::new().format(int).len(),
            Elem::Str(text) => text.len(),
        }
    }

    /// The number, if it is an integer or its text writes one.
    pub fn as_int(self) -> Option<i64> {
        match self {
            Elem::Int(int) => Some(int),
            Elem::Str(text) => integer(text),
        }
    }

    /// True if its text is this.
    pub fn is(self, text: &[u8]) -> bool {
        Needle::new(text).is(self)
    }

    /// The bytes that it takes in a listpack.
    pub fn entry_bytes(self) -> usize {
        Encoded::new(self).len()
    }
}

/// A text to compare many elements with: whether it is an integer is found out once.
#[derive(Clone, Copy, Debug)]
pub struct Needle<'a> {
    text: &'a [u8],
    int: Option<i64>,
}

impl<'a> Needle<'a> {
    /// A text to look for.
    pub fn new(text: &'a [u8]) -> Needle<'a> {
        Needle {
            text,
            int: integer(text),
        }
    }

    /// True if the element is this text.
    #[inline(always)]
    pub fn is(&self, elem: Elem<'_>) -> bool {
        match elem {
            Elem::Int(int) => self.int == Some(int),
            Elem::Str(text) => text == self.text,
        }
    }

    /// The text.
    pub fn text(&self) -> &'a [u8] {
        self.text
    }
}

/// The integer that a text writes in canonical form.
#[inline]
fn integer(text: &[u8]) -> Option<i64> {
    // Most texts are told apart by length or first byte.
    match text {
        [b'-' | b'0'..=b'9', ..] if text.len() <= 20 => parse_i64(text),
        _ => None,
    }
}

/// An entry of a short string that is seen at once to be no integer: what nearly every element is.
pub(super) struct Short<'a>(&'a [u8]);

impl<'a> Short<'a> {
    #[inline(always)]
    pub(super) fn new(elem: Elem<'a>) -> Option<Short<'a>> {
        match elem {
            Elem::Str([b'-' | b'0'..=b'9', ..]) | Elem::Int(_) => None,
            Elem::Str(text) => (text.len() < 64).then_some(Short(text)),
        }
    }

    /// Length of the whole entry.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.0.len() + 2
    }

    /// Writes the entry.
    ///
    /// # Safety
    /// `to` is valid for writing `len()` bytes, none of which belongs to the text.
    #[inline(always)]
    pub(super) unsafe fn write(&self, to: *mut u8) {
        let text = self.0;
        // SAFETY: the three parts make up `len()` bytes.
        unsafe {
            to.write(0x80 | text.len() as u8);
            ptr::copy_nonoverlapping(text.as_ptr(), to.add(1), text.len());
            to.add(1 + text.len()).write(1 + text.len() as u8);
        }
    }
}

/// An entry ready to be written.
pub(super) struct Encoded<'a> {
    head: [u8; 9],
    head_len: u8,
    back_len: u8,
    text: &'a [u8],
}

impl<'a> Encoded<'a> {
    #[inline]
    pub(super) fn new(elem: Elem<'a>) -> Encoded<'a> {
        match elem {
            Elem::Int(int) => Encoded::int(int),
            Elem::Str(text) => match integer(text) {
                Some(int) => Encoded::int(int),
                None => Encoded::str(text),
            },
        }
    }

    fn int(v: i64) -> Encoded<'a> {
        let mut head = [0; 9];
        let le = v.to_le_bytes();
        let (first, width) = match v {
            0..=127 => (v as u8, 0),
            -4096..=4095 => {
                head[1] = le[0];
                (0xC0 | (le[1] & 0x1F), 0)
            }
            -0x8000..=0x7FFF => (0xF1, 2),
            -0x80_0000..=0x7F_FFFF => (0xF2, 3),
            -0x8000_0000..=0x7FFF_FFFF => (0xF3, 4),
            _ => (0xF4, 8),
        };
        head[0] = first;
        head[1..1 + width].copy_from_slice(&le[..width]);
        let head_len = match first {
            0..=0x7F => 1,
            0xC0..=0xDF => 2,
            _ => 1 + width as u8,
        };
        Encoded {
            head,
            head_len,
            back_len: 1,
            text: &[],
        }
    }

    #[inline]
    fn str(text: &'a [u8]) -> Encoded<'a> {
        let n = text.len();
        let mut head = [0; 9];
        let head_len = match n {
            0..=63 => {
                head[0] = 0x80 | n as u8;
                1
            }
            64..=4095 => {
                head[0] = 0xE0 | (n >> 8) as u8;
                head[1] = n as u8;
                2
            }
            _ => {
                let len = u32::try_from(n).expect("a string of less than 4 GB");
                head[0] = LONG_STRING;
                head[1..5].copy_from_slice(&len.to_le_bytes());
                5
            }
        };
        Encoded {
            head,
            head_len,
            back_len: back_bytes(usize::from(head_len) + n) as u8,
            text,
        }
    }

    /// Length of the whole entry.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        usize::from(self.head_len) + self.text.len() + usize::from(self.back_len)
    }

    /// Writes the entry.
    ///
    /// # Safety
    /// `to` is valid for writing `len()` bytes, none of which belongs to the text.
    #[inline]
    pub(super) unsafe fn write(&self, to: *mut u8) {
        let head_len = usize::from(self.head_len);
        let body = head_len + self.text.len();
        // SAFETY: the three parts make up `len()` bytes.
        unsafe {
            ptr::copy_nonoverlapping(self.head.as_ptr(), to, head_len);
            ptr::copy_nonoverlapping(self.text.as_ptr(), to.add(head_len), self.text.len());
            for (i, byte) in backlen(body).enumerate() {
                to.add(body + i).write(byte);
            }
        }
    }
}

/// How many bytes the backlen of an entry takes whose encoding and data are `body` bytes. The limits are one below
/// what would fit, but for the first: that is how the format began.
#[inline(always)]
fn back_bytes(body: usize) -> usize {
    match body {
        0..=127 => 1,
        128..=16382 => 2,
        16383..=2097150 => 3,
        2097151..=268435454 => 4,
        _ => 5,
    }
}

/// The bytes of the backlen of an entry whose encoding and data are `body` bytes.
#[inline(always)]
pub(super) fn backlen(body: usize) -> impl ExactSizeIterator<Item = u8> {
    let len = back_bytes(body);
    (0..len).map(move |i| {
        let seven = (body >> (7 * (len - 1 - i))) as u8 & 0x7F;
        if i == 0 { seven } else { seven | 0x80 }
    })
}

/// Length of encoding and data of the entry at the start of `at`, however much of it is there.
#[inline(always)]
fn body_bytes(at: &[u8]) -> Option<usize> {
    Some(match *at.first()? {
        0..=0x7F => 1,
        first @ 0x80..=0xBF => 1 + usize::from(first & 0x3F),
        0xC0..=0xDF => 2,
        first @ 0xE0..=0xEF => 2 + (usize::from(first & 0x0F) << 8 | usize::from(*at.get(1)?)),
        0xF0 => 5 + u32::from_le_bytes(*at.get(1..)?.first_chunk()?) as usize,
        0xF1 => 3,
        0xF2 => 4,
        0xF3 => 5,
        0xF4 => 9,
        _ => return None,
    })
}

/// The offset behind the entry at `at`; `None` if there is none or it reaches beyond `bytes`.
#[inline]
pub(super) fn skip(bytes: &[u8], at: usize) -> Option<usize> {
    let body = body_bytes(bytes.get(at..)?)?;
    let next = at + body + back_bytes(body);
    (next <= bytes.len()).then_some(next)
}

/// The entry at the start of `at`, and its whole length.
#[inline]
pub(super) fn decode(at: &[u8]) -> Option<(Elem<'_>, usize)> {
    let first = *at.first()?;
    Some(match first {
        0..=0x7F => (Elem::Int(i64::from(first)), 2),
        0x80..=0xBF => {
            let n = usize::from(first & 0x3F);
            (Elem::Str(at.get(1..1 + n)?), n + 2)
        }
        0xC0..=0xDF => {
            let raw = u16::from(first & 0x1F) << 8 | u16::from(*at.get(1)?);
            // Thirteen bits with a sign: moved up to the top and back.
            (Elem::Int(i64::from((raw << 3) as i16 >> 3)), 3)
        }
        0xE0..=0xF0 => {
            let body = body_bytes(at)?;
            let head = if first == 0xF0 { 5 } else { 2 };
            (Elem::Str(at.get(head..body)?), body + back_bytes(body))
        }
        0xF1..=0xF4 => {
            let width = if first == 0xF4 {
                8
            } else {
                usize::from(first - 0xEF)
            };
            let mut le = [0; 8];
            le[8 - width..].copy_from_slice(at.get(1..1 + width)?);
            let int = i64::from_le_bytes(le) >> (64 - 8 * width);
            (Elem::Int(int), width + 2)
        }
        _ => return None,
    })
}

/// The whole length of the last entry of `entries`, read from behind.
#[inline]
pub(super) fn len_from_behind(entries: &[u8]) -> Option<usize> {
    let last = *entries.last()?;
    let body = if last < 0x80 {
        usize::from(last)
    } else {
        long_backlen(entries)?
    };
    let whole = body + back_bytes(body);
    (whole <= entries.len()).then_some(whole)
}

fn long_backlen(entries: &[u8]) -> Option<usize> {
    let mut body = 0;
    for (i, &byte) in entries.iter().rev().take(5).enumerate() {
        body |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(body);
        }
    }
    None
}

/// Checks bytes from outside: length and end; and `deep`, that entries follow one another exactly, that each is found
/// from behind as from the front, and that they are as many as the header says.
pub(super) fn check(bytes: &[u8], deep: bool) -> Result<(), Corrupt> {
    let [t0, t1, t2, t3, c0, c1, entries @ .., END] = bytes else {
        return Err(Corrupt);
    };
    if u32::from_le_bytes([*t0, *t1, *t2, *t3]) as usize != bytes.len() {
        return Err(Corrupt);
    }
    debug_assert_eq!(entries.len() + HEADER_BYTES + 1, bytes.len());
    if !deep {
        return Ok(());
    }
    let (mut at, mut count) = (0, 0);
    while at < entries.len() {
        let next = skip(entries, at).ok_or(Corrupt)?;
        if len_from_behind(&entries[..next]) != Some(next - at) {
            return Err(Corrupt);
        }
        at = next;
        count += 1;
    }
    match u16::from_le_bytes([*c0, *c1]) {
        COUNT_UNKNOWN => Ok(()),
        told if usize::from(told) == count => Ok(()),
        _ => Err(Corrupt),
    }
}
