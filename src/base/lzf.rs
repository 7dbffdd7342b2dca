//! LZF, the compression of strings in RDB files: quick, small, and no better than it must be.
//!
//! A compressed text is a row of runs. Each begins with a control byte:
//!
//! ```text
//! 000LLLLL  L+1 bytes            L+1 bytes as they are (1..=32)
//! LLLooooo  oooooooo             L+2 bytes (3..=8) that stood o+1 bytes before
//! 111ooooo  LLLLLLLL oooooooo    L+9 bytes (9..=264) that stood o+1 bytes before
//! ```
//! A run only looks back, and no further than 8192 bytes, so two compressed texts written one after the other are the
//! compressed form of the two texts: long ones are compressed piece by piece.
//!
//! The compressor finds earlier bytes by a table of places, one for each hash of three bytes. It searches as libLZF does
//! in its `VERY_FAST` setting, so that what it makes is as long as what Redis makes. The table is a quarter of a megabyte;
//! to clear it for each short text would cost far more than the compression, so places count on from text to text, and
//! what lies before the present text is stale.

const HASH_BITS: u32 = 16;
const LITERALS_MAX: usize = 32;
const BACK_MAX: usize = 1 << 13;
const REPEAT_MAX: usize = 264;
/// The most that a byte can expand to: three bytes become 264.
const EXPANSION_MAX: usize = REPEAT_MAX / 3;
/// The longest text that is compressed in one go: places are 32 bits.
pub const PIECE_MAX: usize = 1 << 20;

/// What a compressor keeps from text to text. It takes its memory with the first one.
#[derive(Default)]
pub struct Compressor {
    /// Where three bytes of this hash were met last; below `base`: in an earlier text.
    places: Vec<u32>,
    base: u32,
}

impl Compressor {
    /// One that has no table yet.
    pub const fn new() -> Compressor {
        Compressor {
            places: Vec::new(),
            base: 1,
        }
    }

    /// Adds the compressed form of `text` to `out` if that takes no more than `room` bytes; otherwise `out` stays as it
    /// was, and this is false. A text is at most [`PIECE_MAX`] long.
    pub fn compress(&mut self, text: &[u8], out: &mut Vec<u8>, room: usize) -> bool {
        assert!(text.len() <= PIECE_MAX, "a text is cut into pieces");
        if self.places.is_empty() || self.base > u32::MAX - 2 * PIECE_MAX as u32 {
            self.places.clear();
            self.places.resize(1 << HASH_BITS, 0);
            self.base = 1;
        }
        let start = out.len();
        out.resize(start + room, 0);
        let made = self.run(text, &mut out[start..]);
        out.truncate(start + made.unwrap_or(0));
        self.base += text.len() as u32 + 1;
        made.is_some()
    }

    /// As [`compress`](Self::compress), for a text that is compressed in any case: it may grow a little.
    pub fn compress_piece(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let fits = self.compress(text, out, text.len() + text.len() / LITERALS_MAX + 8);
        debug_assert!(fits);
    }

    fn run(&mut self, text: &[u8], out: &mut [u8]) -> Option<usize> {
        let places = self.places.first_chunk_mut::<{ 1 << HASH_BITS }>()?;
        let (base, end, room) = (self.base, text.len(), out.len());
        // The next byte of input and output, and the literals of the run that is being written.
        let (mut at, mut to, mut literals) = (0, 1, 0);
        if end > 2 {
            let mut hash = start_hash(text, 0);
            while at < end - 2 {
                hash = hash << 8 | u32::from(text[at + 2]);
                let here = base + at as u32;
                let seen = std::mem::replace(&mut places[slot(hash)], here);
                let back = here.wrapping_sub(seen) as usize;
                // libLZF has no use for the very first place.
                let known = seen > base && back <= BACK_MAX;
                if !known || text[at - back..at - back + 3] != text[at..at + 3] {
                    if to >= room {
                        return None;
                    }
                    literal(text[at], out, &mut to, &mut literals);
                    at += 1;
                    continue;
                }
                if to + 4 - usize::from(literals == 0) >= room {
                    return None;
                }
                out[to - literals - 1] = (literals as u8).wrapping_sub(1);
                to -= usize::from(literals == 0);
                let len = repeat_len(text, at, back);
                to += write_repeat(&mut out[to..], back - 1, len);
                literals = 0;
                to += 1;
                at += len;
                if at >= end - 2 {
                    break;
                }
                // The last two places of the repeat are noted, the others are not worth it.
                hash = start_hash(text, at - 2);
                for place in at - 2..at {
                    hash = hash << 8 | u32::from(text[place + 2]);
                    places[slot(hash)] = base + place as u32;
                }
            }
        }
        if to + 3 > room {
            return None;
        }
        for &byte in &text[at..] {
            literal(byte, out, &mut to, &mut literals);
        }
        out[to - literals - 1] = (literals as u8).wrapping_sub(1);
        Some(to - usize::from(literals == 0))
    }
}

/// The hash before the third byte at `at`.
#[inline(always)]
fn start_hash(text: &[u8], at: usize) -> u32 {
    u32::from(text[at]) << 8 | u32::from(text[at + 1])
}

#[inline(always)]
fn slot(hash: u32) -> usize {
    ((hash >> (24 - HASH_BITS)).wrapping_sub(hash.wrapping_mul(5)) & ((1 << HASH_BITS) - 1))
        as usize
}

/// Writes a byte as it is. A full run is closed.
#[inline(always)]
fn literal(byte: u8, out: &mut [u8], to: &mut usize, literals: &mut usize) {
    out[*to] = byte;
    *to += 1;
    *literals += 1;
    if *literals == LITERALS_MAX {
        out[*to - LITERALS_MAX - 1] = LITERALS_MAX as u8 - 1;
        *literals = 0;
        *to += 1;
    }
}

/// How many bytes at `at` are those that stand `back` before: three are known to be. libLZF looks at up to sixteen more
/// without asking how near the end is, as long as they are there.
#[inline]
fn repeat_len(text: &[u8], at: usize, back: usize) -> usize {
    let most = (text.len() - at - 2).min(REPEAT_MAX);
    let unasked = if most > 16 { 18 } else { 0 };
    let mut len = 3;
    while (len <= unasked || len < most) && text[at + len - back] == text[at + len] {
        len += 1;
    }
    len
}

/// Writes a repeat; gives the bytes that it took.
#[inline]
fn write_repeat(out: &mut [u8], offset: usize, len: usize) -> usize {
    let (high, low, len) = ((offset >> 8) as u8, offset as u8, len - 2);
    if len < 7 {
        out[0] = high + ((len as u8) << 5);
        out[1] = low;
        2
    } else {
        out[0] = high + (7 << 5);
        out[1] = (len - 7) as u8;
        out[2] = low;
        3
    }
}

/// Puts the `len` bytes into `out` that `data` is the compressed form of. False if it is not, or not of so many; memory
/// is never taken for more than `data` could make.
pub fn decompress(data: &[u8], len: usize, out: &mut Vec<u8>) -> bool {
    out.clear();
    if len > data.len().saturating_mul(EXPANSION_MAX) {
        return false;
    }
    out.reserve(len);
    expand(data, len, out).is_some() && out.len() == len
}

fn expand(mut data: &[u8], len: usize, out: &mut Vec<u8>) -> Option<()> {
    while let [control, rest @ ..] = data {
        let control = usize::from(*control);
        if control < LITERALS_MAX {
            let (run, rest) = rest.split_at_checked(control + 1)?;
            data = rest;
            if run.len() > len - out.len() {
                return None;
            }
            out.extend_from_slice(run);
            continue;
        }
        let (count, rest) = match (control >> 5, rest) {
            (7, [more, rest @ ..]) => (9 + usize::from(*more), rest),
            (7, []) => return None,
            (short, rest) => (2 + short, rest),
        };
        let (low, rest) = rest.split_first()?;
        data = rest;
        let back = ((control & 0x1f) << 8 | usize::from(*low)) + 1;
        if count > len - out.len() {
            return None;
        }
        let from = out.len().checked_sub(back)?;
        // A repeat may reach into itself: what is there so far is taken as often as needed.
        let mut left = count;
        while left > 0 {
            let n = left.min(out.len() - from);
            out.extend_from_within(from..from + n);
            left -= n;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compressed(with: &mut Compressor, text: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let room = text.len().saturating_sub(4);
        (room > 0 && with.compress(text, &mut out, room)).then_some(out)
    }

    proptest! {
        /// One compressor for many texts; the `lzf` crate, which nobody here wrote, reads what it made, and the other way.
        #[test]
        fn texts_come_back(texts in prop::collection::vec(
            (prop::collection::vec(0..4u8, 0..40), 1..60usize, prop::collection::vec(any::<u8>(), 0..50)), 1..20,
        )) {
            let mut with = Compressor::new();
            let mut out = Vec::new();
            for (part, times, rest) in texts {
                let mut text = part.repeat(times);
                text.extend_from_slice(&rest);
                if let Some(short) = compressed(&mut with, &text) {
                    prop_assert!(short.len() <= text.len() - 4);
                    prop_assert!(decompress(&short, text.len(), &mut out));
                    prop_assert_eq!(&out, &text);
                    prop_assert_eq!(lzf::decompress(&short, text.len()).ok(), Some(text.clone()));
                    prop_assert!(!decompress(&short, text.len() + 1, &mut out));
                    prop_assert!(!decompress(&short, text.len() - 1, &mut out));
                }
                if let Ok(theirs) = lzf::compress(&text) {
                    prop_assert!(decompress(&theirs, text.len(), &mut out));
                    prop_assert_eq!(&out, &text);
                }
                let (a, b) = text.split_at(text.len() / 3);
                let mut pieces = Vec::new();
                with.compress_piece(a, &mut pieces);
                with.compress_piece(b, &mut pieces);
                prop_assert!(text.is_empty() || decompress(&pieces, text.len(), &mut out));
                prop_assert!(text.is_empty() || out == text);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..60), len in 0..4000usize) {
            let mut out = Vec::new();
            let ok = decompress(&data, len, &mut out);
            prop_assert!(!ok || out.len() == len);
        }
    }

    #[test]
    fn a_length_that_cannot_be_takes_no_memory() {
        let mut out = Vec::new();
        assert!(!decompress(&[0xff; 9], usize::MAX, &mut out));
        assert!(!decompress(&[0xff; 9], 1 << 40, &mut out));
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn the_table_outlives_its_numbers() {
        let mut with = Compressor::new();
        let text = b"abcabcabcabcabcabcabcabcabcabc".repeat(10);
        let first = compressed(&mut with, &text);
        assert!(first.is_some());
        with.base = u32::MAX - 2 * PIECE_MAX as u32;
        for _ in 0..3 {
            assert_eq!(compressed(&mut with, &text), first);
        }
    }
}
