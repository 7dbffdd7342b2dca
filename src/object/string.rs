//! The face of a string value: what string commands read ([`Str`]) and the ways they change one.
//!
//! A string has three forms, and a command should rarely care which: an integer, bytes inside the entry, a [`BigStr`].
//! The changes keep Redis's encodings: what APPEND, SETRANGE or SETBIT touched is `raw` from then on, an integer stays
//! one only through INCR and its kin.

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

use super::bigstr::BigStr;
use super::entry::{EMBED_MAX, Entry};
use super::value::{Heap, Value};
use crate::base::number::parse_i64;
use crate::ds::cow::Shared;

/// A string being read.
#[derive(Clone, Copy, Debug)]
pub enum Str<'a> {
    Int(i64),
    Text(&'a [u8]),
    Big(&'a BigStr),
}

impl<'a> Str<'a> {
    /// Length in bytes; of an integer, its digits and sign.
    pub fn len(self) -> usize {
        match self {
            Str::Int(v) => itoa::Buffer::new().format(v).len(),
            Str::Text(text) => text.len(),
            Str::Big(big) => big.len(),
        }
    }

    /// True for the empty string.
    pub fn is_empty(self) -> bool {
        match self {
            Str::Int(_) => false,
            Str::Text(text) => text.is_empty(),
            Str::Big(big) => big.is_empty(),
        }
    }

    /// The whole string in one piece: borrowed where it is one, `digits` lending room to an integer's.
    pub fn contiguous<'b>(self, digits: &'b mut itoa::Buffer) -> Cow<'b, [u8]>
    where
        'a: 'b,
    {
        match self {
            Str::Int(v) => Cow::Borrowed(digits.format(v).as_bytes()),
            Str::Text(text) => Cow::Borrowed(text),
            Str::Big(big) => match big.as_slice() {
                Some(whole) => Cow::Borrowed(whole),
                None => Cow::Owned(big.to_vec()),
            },
        }
    }

    /// A copy of the whole.
    pub fn to_vec(self) -> Vec<u8> {
        self.contiguous(&mut itoa::Buffer::new()).into_owned()
    }

    /// A copy of `range`, cut to the string's end.
    pub fn copy_range(self, range: Range<usize>) -> Vec<u8> {
        if let Str::Big(big) = self {
            return big.copy_range(range);
        }
        let mut digits = itoa::Buffer::new();
        let text = self.contiguous(&mut digits);
        let end = range.end.min(text.len());
        text[range.start.min(end)..end].to_vec()
    }

    /// The byte at `at`, or `None` past the end.
    pub fn get(self, at: usize) -> Option<u8> {
        match self {
            Str::Int(v) => itoa::Buffer::new().format(v).as_bytes().get(at).copied(),
            Str::Text(text) => text.get(at).copied(),
            Str::Big(big) => big.get(at),
        }
    }

    /// The string's bytes, slice by slice.
    pub fn for_each_slice(self, mut f: impl FnMut(&[u8])) {
        match self {
            Str::Int(v) => f(itoa::Buffer::new().format(v).as_bytes()),
            Str::Text(text) => f(text),
            Str::Big(big) => big.slices(0..big.len()).for_each(f),
        }
    }

    /// Calls `f` with the stretches of `range` (cut to the string's end) that are stored, each with the offset it begins
    /// at, until it breaks off. What lies between them are zeros.
    pub fn for_each_stored(
        self,
        range: Range<usize>,
        mut f: impl FnMut(usize, &[u8]) -> ControlFlow<()>,
    ) {
        if let Str::Big(big) = self {
            let _ = big.stored(range).try_for_each(|(at, bytes)| f(at, bytes));
            return;
        }
        let mut digits = itoa::Buffer::new();
        let text = self.contiguous(&mut digits);
        let end = range.end.min(text.len());
        if range.start < end {
            let _ = f(range.start, &text[range.start..end]);
        }
    }

    /// The integer that the string writes in canonical form (what INCR accepts), if it does.
    pub fn parse_int(self) -> Option<i64> {
        match self {
            Str::Int(v) => Some(v),
            Str::Text(text) => parse_i64(text),
            Str::Big(_) => None,
        }
    }
}

/// Writes `data` at offset `at` of the string in `entry`, which must hold one (another value stays as it is). The string grows as needed, a gap reads
/// as zeros. The caller has checked the result against `proto-max-bulk-len`. Writing nothing still makes it `raw`.
///
/// Returns the bytes left behind to other owners of what had to be copied.
pub fn write_at(entry: &mut Entry, at: usize, data: &[u8]) -> usize {
    let Ok(text) = entry.as_str() else {
        return 0;
    };
    let (len, is_big) = (text.len(), matches!(text, Str::Big(_)));
    let at = if data.is_empty() { len } else { at };
    let new_len = len.max(at.saturating_add(data.len()));
    if !is_big && new_len <= EMBED_MAX {
        let (text, left_behind) = entry.text_mut(new_len);
        text[at..at + data.len()].copy_from_slice(data);
        return left_behind;
    }
    let mut left_behind = 0;
    if !is_big {
        let mut digits = itoa::Buffer::new();
        let text = text.contiguous(&mut digits);
        let big = Heap::Str(Shared::new(BigStr::copy_from(&text)));
        let displaced = entry.set_value(Value::Heap(big));
        left_behind += displaced.map_or(0, |old| old.left_behind());
    }
    if let Some((big, copied)) = entry.heap_mut::<BigStr>() {
        left_behind += copied + big.write_at(at, data);
    }
    left_behind
}

/// Adds `data` at the end of the string in `entry`. Returns as [`write_at`] does.
pub fn append(entry: &mut Entry, data: &[u8]) -> usize {
    let len = entry.as_str().map_or(0, Str::len);
    write_at(entry, len, data)
}
