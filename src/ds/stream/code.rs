//! Numbers, texts and IDs as bytes: what a macro node is written in.
//!
//! ```text
//! varint     7 bits a byte, the least significant first; the high bit says that more follow
//! element    | m v v v v v v k | varint of the rest, if m |  k = 0: a text of v bytes, which follow
//!                                                            k = 1: an integer, zigzag (0, -1, 1, -2 ... as 0, 1, 2, 3 ...)
//! step       from one ID to a later one: six bits of the entry's first byte, and what they call for
//!            0        the same ms, the next number
//!            1..=61   so many ms later, number 0
//!            62       as many ms later as a varint says, number 0
//!            63       varint of the ms, then varint of the number: how many are left out within the same ms, or
//!                     the number itself in a later one
//! ```
//!
//! An ID that XADD chose by itself so takes no byte of its own beyond the entry's first.

use super::id::StreamId;
use crate::ds::listpack::Elem;

/// The step that a varint of ms follows.
const STEP_MS: u8 = 62;
/// The step that a varint of ms and one of the number follow.
const STEP_BOTH: u8 = 63;

/// Writes a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Reads a varint at `at` and moves behind it.
#[inline]
pub fn varint(data: &[u8], at: &mut usize) -> u64 {
    let mut v = 0;
    let mut shift = 0;
    loop {
        let byte = data[*at];
        *at += 1;
        v |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return v;
        }
        shift += 7;
    }
}

#[inline]
fn put_tagged(out: &mut Vec<u8>, v: u64, tag: u8) {
    let low = (v as u8 & 0x3F) << 1 | tag;
    if v < 0x40 {
        out.push(low);
    } else {
        out.push(low | 0x80);
        put_varint(out, v >> 6);
    }
}

#[inline]
fn tagged(data: &[u8], at: &mut usize) -> (u64, u8) {
    let first = data[*at];
    *at += 1;
    let mut v = u64::from(first >> 1 & 0x3F);
    if first >= 0x80 {
        v |= varint(data, at) << 6;
    }
    (v, first & 1)
}

/// Writes an element.
#[inline]
pub fn put_elem(out: &mut Vec<u8>, elem: Elem<'_>) {
    match elem {
        Elem::Str(text) => {
            put_tagged(out, text.len() as u64, 0);
            out.extend_from_slice(text);
        }
        Elem::Int(v) => put_tagged(out, (v << 1 ^ v >> 63) as u64, 1),
    }
}

/// Reads the element at `at` and moves behind it.
#[inline]
pub fn elem<'a>(data: &'a [u8], at: &mut usize) -> Elem<'a> {
    let (v, tag) = tagged(data, at);
    if tag == 1 {
        return Elem::Int((v >> 1) as i64 ^ -((v & 1) as i64));
    }
    let from = *at;
    *at += v as usize;
    Elem::Str(&data[from..*at])
}

/// Moves behind `n` elements.
#[inline]
pub fn skip_elems(data: &[u8], at: &mut usize, n: usize) {
    for _ in 0..n {
        let (v, tag) = tagged(data, at);
        if tag == 0 {
            *at += v as usize;
        }
    }
}

/// Writes an entry's first byte (flags in the low two bits) and the step from the ID before to this one.
#[inline]
pub fn put_step(out: &mut Vec<u8>, flags: u8, before: StreamId, id: StreamId) {
    let ms = id.ms - before.ms;
    let seq = match ms {
        0 => id.seq.wrapping_sub(before.seq).wrapping_sub(1),
        _ => id.seq,
    };
    match (ms, seq) {
        (0..62, 0) => out.push(flags | (ms as u8) << 2),
        (_, 0) => {
            out.push(flags | STEP_MS << 2);
            put_varint(out, ms);
        }
        _ => {
            out.push(flags | STEP_BOTH << 2);
            put_varint(out, ms);
            put_varint(out, seq);
        }
    }
}

/// Reads an entry's first byte and its step, and moves behind them: the flags, and the ID.
#[inline]
pub fn step(data: &[u8], at: &mut usize, before: StreamId) -> (u8, StreamId) {
    let first = data[*at];
    *at += 1;
    let (ms, seq) = match first >> 2 {
        STEP_BOTH => (varint(data, at), varint(data, at)),
        STEP_MS => (varint(data, at), 0),
        ms => (u64::from(ms), 0),
    };
    let seq = match ms {
        0 => before.seq.wrapping_add(seq).wrapping_add(1),
        _ => seq,
    };
    (first & 3, StreamId::new(before.ms + ms, seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_written_is_read_back() {
        let mut out = Vec::new();
        let ints = [0, -1, 31, 32, -33, 4095, i64::MAX, i64::MIN];
        let texts = [&b""[..], b"x", &[7; 63], &[8; 64], &[9; 10_000]];
        let elems = || {
            let texts = texts.iter().map(|t| Elem::Str(t));
            ints.iter().map(|&i| Elem::Int(i)).chain(texts)
        };
        elems().for_each(|e| put_elem(&mut out, e));
        let mut at = 0;
        for e in elems() {
            assert_eq!(elem(&out, &mut at), e);
        }
        assert_eq!(at, out.len());
        let mut at = 0;
        skip_elems(&out, &mut at, elems().count());
        assert_eq!(at, out.len());
    }

    #[test]
    fn steps_between_ids_are_short_where_xadd_chose_them() {
        let id = StreamId::new;
        for (before, after, bytes) in [
            (id(5, 3), id(5, 4), 1),
            (id(5, 3), id(66, 0), 1),
            (id(5, 3), id(67, 0), 2),
            (id(5, 3), id(6, 4), 3),
            (id(0, 0), StreamId::MAX, 21),
            // The first entry of a node stands at the node's own ID.
            (id(5, u64::MAX), id(5, 0), 1),
        ] {
            let mut out = Vec::new();
            put_step(&mut out, 2, before, after);
            assert_eq!(out.len(), bytes, "{before:?} to {after:?}");
            let mut at = 0;
            assert_eq!(step(&out, &mut at, before), (2, after));
            assert_eq!(at, bytes);
        }
    }
}
