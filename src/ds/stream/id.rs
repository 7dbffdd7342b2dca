//! The ID of a stream entry: a moment in ms and a number within it, written `1700000000000-0`.
//!
//! IDs of a stream only ever grow, also where the clock stands still or goes back: then the time of the last ID is
//! kept and its number goes up by one.

use crate::base::number::parse_u64;

/// See the head of the file. The order is that of the pairs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StreamId {
    /// Unix time in ms.
    pub ms: u64,
    /// Number within that ms.
    pub seq: u64,
}

/// The ID that XADD was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewId {
    /// `*`
    Auto,
    /// `ms-*`
    AutoSeq(u64),
    /// `ms-seq`, or `ms` alone, which stands for `ms-0`.
    Given(StreamId),
}

/// What is longer than this is no ID.
const TEXT_MAX: usize = 127;

impl StreamId {
    /// `0-0`: no entry has it.
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    /// The last ID there is.
    pub const MAX: StreamId = StreamId {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// The ID right after this one; `None` after the last.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId::new(self.ms.checked_add(1)?, 0)),
        }
    }

    /// The ID right before this one; `None` before the first.
    pub fn prev(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId::new(self.ms.checked_sub(1)?, u64::MAX)),
        }
    }

    /// True for `0-0`.
    pub fn is_zero(self) -> bool {
        self == StreamId::MIN
    }

    /// Reads `ms-seq` or `ms` alone, with `missing_seq` for what is missing. `-` and `+` are refused.
    pub fn parse_strict(text: &[u8], missing_seq: u64) -> Option<StreamId> {
        match c_text(text)? {
            b"-" | b"+" => None,
            text => parse_parts(text, missing_seq),
        }
    }

    /// The same, and `-` and `+` are the smallest and the largest ID.
    pub fn parse(text: &[u8], missing_seq: u64) -> Option<StreamId> {
        match c_text(text)? {
            b"-" => Some(StreamId::MIN),
            b"+" => Some(StreamId::MAX),
            text => parse_parts(text, missing_seq),
        }
    }

    /// Writes it as text.
    pub fn text(self) -> IdText {
        let mut out = IdText {
            bytes: [0; 41],
            len: 0,
        };
        let mut digits = itoa::Buffer::new();
        out.push(digits.format(self.ms).as_bytes());
        out.push(b"-");
        out.push(digits.format(self.seq).as_bytes());
        out
    }
}

impl NewId {
    /// Reads the ID that XADD takes.
    pub fn parse(text: &[u8]) -> Option<NewId> {
        let text = c_text(text)?;
        if text == b"*" {
            return Some(NewId::Auto);
        }
        match text.strip_suffix(b"-*") {
            Some(ms) if !ms.contains(&b'-') => parse_u64(ms).map(NewId::AutoSeq),
            _ => StreamId::parse_strict(text, 0).map(NewId::Given),
        }
    }
}

fn parse_parts(text: &[u8], missing_seq: u64) -> Option<StreamId> {
    let (ms, seq) = match text.iter().position(|&b| b == b'-') {
        Some(dash) => (&text[..dash], parse_u64(&text[dash + 1..])?),
        None => (text, missing_seq),
    };
    Some(StreamId::new(parse_u64(ms)?, seq))
}

/// As C would read it: up to a zero byte.
fn c_text(text: &[u8]) -> Option<&[u8]> {
    if text.len() > TEXT_MAX {
        return None;
    }
    text.split(|&b| b == 0).next()
}

/// An ID as text, on the stack.
#[derive(Clone, Copy)]
pub struct IdText {
    bytes: [u8; 41],
    len: u8,
}

impl IdText {
    fn push(&mut self, part: &[u8]) {
        let at = usize::from(self.len);
        self.bytes[at..at + part.len()].copy_from_slice(part);
        self.len += part.len() as u8;
    }
}

impl std::ops::Deref for IdText {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        let id = StreamId::new;
        for (text, want) in [
            (&b"5-3"[..], Some(id(5, 3))),
            (b"5", Some(id(5, 9))),
            (b"05-+3", Some(id(5, 3))),
            (
                b"18446744073709551615-18446744073709551615",
                Some(StreamId::MAX),
            ),
            (b"18446744073709551616-0", None),
            (b"5-", None),
            (b"-5", None),
            (b"5-*", None),
            (b"-", None),
            (b"+", None),
            (b"", None),
            (b"5-3\0x", Some(id(5, 3))),
            (b"1-2-3", None),
        ] {
            assert_eq!(StreamId::parse_strict(text, 9), want, "{text:?}");
        }
        assert_eq!(StreamId::parse(b"+", 0), Some(StreamId::MAX));
        assert_eq!(NewId::parse(b"*"), Some(NewId::Auto));
        assert_eq!(NewId::parse(b"7-*"), Some(NewId::AutoSeq(7)));
        assert_eq!(NewId::parse(b"7"), Some(NewId::Given(id(7, 0))));
        assert_eq!(NewId::parse(b"-*"), None);
        assert_eq!(NewId::parse(b"1-2-*"), None);
        assert_eq!(
            &*StreamId::MAX.text(),
            b"18446744073709551615-18446744073709551615"
        );
    }

    #[test]
    fn neighbours_carry_into_the_milliseconds() {
        let last = StreamId::new(4, u64::MAX);
        assert_eq!(last.next(), Some(StreamId::new(5, 0)));
        assert_eq!(StreamId::new(5, 0).prev(), Some(last));
        assert_eq!(StreamId::MAX.next(), None);
        assert_eq!(StreamId::MIN.prev(), None);
    }
}
