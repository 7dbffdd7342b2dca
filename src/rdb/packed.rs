//! The packings of old versions, which are read and never written: ziplists and zipmaps.
//!
//! ```text
//! ziplist = | bytes u32 | offset of the last entry u32 | entries u16 | entry ... | 0xFF |     all LE
//! entry   = | bytes of the entry before: 1 byte, or 0xFE and u32 LE | encoding | data |
//!
//! 00llllll data                   string of up to 63 bytes
//! 01llllll llllllll data          up to 16383 bytes, the high bits first
//! 10000000 4 bytes BE data        any
//! 11000000 2 bytes LE             integer of 16 bits; likewise
//! 11010000 4 bytes, 11100000 8 bytes, 11110000 3 bytes, 11111110 1 byte
//! 1111vvvv                        integer vvvv - 1, from 0 to 12
//!
//! zipmap = | entries u8 (254: more) | entry ... | 0xFF |
//! entry  = | length | field | length | free u8 | value | free bytes |
//! length = 1 byte below 254, or 254 and u32 LE
//! ```

use crate::ds::listpack::{Elem, Listpack, TOTAL_MAX};

const ZIPLIST_HEADER_BYTES: usize = 10;
const END: u8 = 0xff;
/// In the header: more entries than the field can tell.
const COUNT_UNKNOWN: u16 = u16::MAX;
/// A field of more bytes follows.
const BIG: u8 = 0xfe;

/// The elements of a ziplist; `None` if the bytes are not exactly one.
pub fn ziplist_elems(bytes: &[u8]) -> Option<Vec<Elem<'_>>> {
    let (header, rest) = bytes.split_first_chunk::<ZIPLIST_HEADER_BYTES>()?;
    let [t0, t1, t2, t3, l0, l1, l2, l3, n0, n1] = *header;
    let entries = rest.strip_suffix(&[END])?;
    let count = u16::from_le_bytes([n0, n1]);
    if u32::from_le_bytes([t0, t1, t2, t3]) as usize != bytes.len() {
        return None;
    }
    let mut elems = Vec::new();
    let (mut at, mut before) = (0, 0);
    while at < entries.len() {
        let (elem, len) = ziplist_entry(&entries[at..], before)?;
        elems.push(elem);
        at += len;
        before = len;
    }
    let last = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let is_last = elems.is_empty() || last == ZIPLIST_HEADER_BYTES + at - before;
    (is_last && (count == COUNT_UNKNOWN || usize::from(count) == elems.len())).then_some(elems)
}

/// The entry at the start of `bytes`, and its whole length; `before` is that of the entry before it.
fn ziplist_entry(bytes: &[u8], before: usize) -> Option<(Elem<'_>, usize)> {
    let (told, body) = match bytes {
        [BIG, a, b, c, d, body @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, body),
        [BIG | END, ..] | [] => return None,
        [told, body @ ..] => (usize::from(*told), body),
    };
    if told != before {
        return None;
    }
    let (elem, body_len) = ziplist_body(body)?;
    Some((elem, bytes.len() - body.len() + body_len))
}

fn ziplist_body(body: &[u8]) -> Option<(Elem<'_>, usize)> {
    let first = *body.first()?;
    let string = |head: usize, len: usize| {
        let text = body.get(head..head.checked_add(len)?)?;
        Some((Elem::Str(text), head + len))
    };
    let int = |width: usize| {
        let mut le = [0; 8];
        le[8 - width..].copy_from_slice(body.get(1..1 + width)?);
        let value = i64::from_le_bytes(le) >> (64 - 8 * width);
        Some((Elem::Int(value), 1 + width))
    };
    match first {
        0x00..=0x3f => string(1, usize::from(first)),
        0x40..=0x7f => string(
            2,
            usize::from(first & 0x3f) << 8 | usize::from(*body.get(1)?),
        ),
        0x80..=0xbf => {
            // Redis looks at the two high bits alone.
            let len = u32::from_be_bytes(*body.get(1..)?.first_chunk()?);
            string(5, len as usize)
        }
        0xc0 => int(2),
        0xd0 => int(4),
        0xe0 => int(8),
        0xf0 => int(3),
        0xfe => int(1),
        0xf1..=0xfd => Some((Elem::Int(i64::from(first & 0x0f) - 1), 1)),
        _ => None,
    }
}

/// Fields and values of a zipmap by turns; `None` if the bytes are not exactly one, or one without entries.
pub fn zipmap_elems(bytes: &[u8]) -> Option<Vec<Elem<'_>>> {
    let (&count, rest) = bytes.split_first()?;
    let mut left = rest.strip_suffix(&[END])?;
    let mut elems = Vec::new();
    while !left.is_empty() {
        let (len, rest) = zipmap_len(left)?;
        let (field, rest) = rest.split_at_checked(len)?;
        let (len, rest) = zipmap_len(rest)?;
        let (&free, rest) = rest.split_first()?;
        let (value, rest) = rest.split_at_checked(len)?;
        left = rest.get(usize::from(free)..)?;
        elems.extend([Elem::Str(field), Elem::Str(value)]);
    }
    let pairs = elems.len() / 2;
    (pairs > 0 && (count == BIG || usize::from(count) == pairs)).then_some(elems)
}

fn zipmap_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [BIG, a, b, c, d, rest @ ..] => Some((u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest)),
        [BIG | END, ..] | [] => None,
        [len, rest @ ..] => Some((usize::from(*len), rest)),
    }
}

/// A listpack of these elements; `None` if they are too much for one.
pub fn listpack_of(elems: &[Elem<'_>]) -> Option<Listpack> {
    let bytes: usize = elems.iter().map(|elem| elem.entry_bytes()).sum();
    let mut list = Listpack::new();
    (bytes < TOTAL_MAX).then(|| {
        list.push_back_all(elems);
        list
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ziplist(count: u16, last: usize, entries: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let total = ZIPLIST_HEADER_BYTES + entries.len() + 1;
        bytes.extend_from_slice(&(total as u32).to_le_bytes());
        bytes.extend_from_slice(&((ZIPLIST_HEADER_BYTES + last) as u32).to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(entries);
        bytes.push(END);
        bytes
    }

    #[test]
    fn every_encoding_of_a_ziplist() {
        let mut entries = Vec::new();
        let (mut before, mut last) = (0, 0);
        let mut want = Vec::new();
        let mut add = |body: &[u8], elem: Elem<'static>| {
            last = entries.len();
            match before {
                0..254 => entries.push(before as u8),
                _ => {
                    entries.push(BIG);
                    entries.extend_from_slice(&(before as u32).to_le_bytes());
                }
            }
            entries.extend_from_slice(body);
            before = entries.len() - last;
            want.push(elem);
        };
        static LONG: [u8; 300] = [b'x'; 300];
        add(b"\x03abc", Elem::Str(b"abc"));
        add(&[b"\x41\x2c", &LONG[..]].concat(), Elem::Str(&LONG));
        add(&[b"\x80\0\0\x01\x2c", &LONG[..]].concat(), Elem::Str(&LONG));
        add(&[0xc0, 0xff, 0x7f], Elem::Int(32767));
        add(&[0xd0, 0, 0, 0, 0x80], Elem::Int(i64::from(i32::MIN)));
        add(&[0xe0, 1, 0, 0, 0, 0, 0, 0, 0x80], Elem::Int(i64::MIN + 1));
        add(&[0xf0, 0xff, 0xff, 0xff], Elem::Int(-1));
        add(&[0xfe, 0x80], Elem::Int(-128));
        add(&[0xf1], Elem::Int(0));
        add(&[0xfd], Elem::Int(12));
        let count = want.len() as u16;
        let bytes = ziplist(count, last, &entries);
        assert_eq!(ziplist_elems(&bytes), Some(want));
        for wrong in [
            ziplist(count + 1, last, &entries),
            ziplist(count, last + 1, &entries),
        ] {
            assert_eq!(ziplist_elems(&wrong), None);
        }
        for at in 0..bytes.len() {
            assert_eq!(ziplist_elems(&bytes[..at]), None);
        }
    }

    #[test]
    fn a_zipmap_with_free_bytes() {
        let bytes = b"\x02\x03foo\x03\x02bar__\x01a\x00\x00\xff";
        let text = |t: &'static [u8]| Elem::Str(t);
        let want = vec![text(b"foo"), text(b"bar"), text(b"a"), text(b"")];
        assert_eq!(zipmap_elems(bytes), Some(want));
        for at in 0..bytes.len() {
            assert_eq!(zipmap_elems(&bytes[..at]), None);
        }
        assert_eq!(zipmap_elems(b"\x00\xff"), None);
    }
}
