//! Bitmaps: strings seen as rows of bits (BITFIELD, which sees integers in them, has a file of its own).
//!
//! A bitmap is often large and mostly empty, and a big string keeps no memory for chunks of zeros. So nothing here
//! walks bytes that are not there: SETBIT far out on a new key allocates the one chunk it writes, BITCOUNT and BITPOS
//! ask the string for what is stored and count the gaps as zeros, and BITOP makes its result chunk by chunk, leaving
//! out those that come out empty because nothing was there.
//!
//! `ds/bits.rs` has the arithmetic; bit 0 is the highest of the first byte.

use std::ops::{ControlFlow, Range};

use bytes::Bytes;

use crate::base::number::parse_i64;
use crate::cmd::fault::{CmdResult, DONE, Fault, NOT_INTEGER, SYNTAX};
use crate::cmd::keys::Ttl;
use crate::cmd::session::Marks;
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::config::NotifyFlags;
use crate::ds::bits::{self, Combine};
use crate::ds::cow::Shared;
use crate::object::bigstr::BigStr;
use crate::object::entry::EMBED_MAX;
use crate::object::{Encoding, Heap, Str, Value};

pub static ROWS: &[Row<DataFn>] = &[SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP];

const BAD_OFFSET: Fault = Fault::new("ERR bit offset is not an integer or out of range");
const BAD_BIT: Fault = Fault::new("ERR bit is not an integer or out of range");
const NOT_A_BIT: Fault = Fault::new("ERR The bit argument must be 1 or 0.");
const ONE_SOURCE: Fault = Fault::new("ERR BITOP NOT must be called with a single source key.");

const RANGE_UNIT: Arg = Arg::one_of(
    "unit",
    &[Arg::word("byte", "BYTE"), Arg::word("bit", "BIT")],
)
.since("7.0.0")
.optional();

/// A bit's offset. With `width`, `#n` means the n-th field of so many bits.
pub fn bit_offset(cx: &Ctx<'_>, text: &[u8], width: Option<u32>) -> Result<u64, Fault> {
    let (number, scale) = match (text, width) {
        ([b'#', rest @ ..], Some(width)) => (rest, i64::from(width)),
        _ => (text, 1),
    };
    // A product that overflows is taken as Redis takes it.
    let offset = parse_i64(number).ok_or(BAD_OFFSET)?.wrapping_mul(scale);
    let offset = u64::try_from(offset).map_err(|_| BAD_OFFSET)?;
    let trusted = cx.session.marks.has(Marks::MASTER);
    if trusted || offset >> 3 < cx.config().proto_max_bulk_len as u64 {
        Ok(offset)
    } else {
        Err(BAD_OFFSET)
    }
}

/// Makes the string at a key `raw` and long enough to have a byte `last`; true if it had to be made or to grow.
pub fn make_room(cx: &mut Ctx<'_>, key: &[u8], last: usize) -> Result<bool, Fault> {
    let old = match cx.keys.write(key) {
        Some(entry) => Some((entry.as_str()?.len(), entry.encoding())),
        None => None,
    };
    match old {
        None => {
            cx.keys.set(key, Value::Raw(b""), Ttl::Clear);
            cx.keys.write_at(key, last, &[0]);
            Ok(true)
        }
        Some((len, _)) if len <= last => {
            cx.keys.write_at(key, last, &[0]);
            Ok(true)
        }
        Some((_, encoding)) => {
            if encoding != Encoding::Raw {
                cx.keys.write_at(key, last, b"");
            }
            Ok(false)
        }
    }
}

const SETBIT: Row<DataFn> = Spec::new("setbit", 4, Group::Bitmap)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::BITMAP)
    .since("2.2.0")
    .cost("O(1)")
    .about("Sets or clears a bit of the string stored under a key, which grows as needed.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))])
    .args(&[Arg::key("key", 0), Arg::int("offset"), Arg::int("value")])
    .run(setbit);

/// SETBIT key offset value: replies the bit as it was.
fn setbit(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, offset) = args.two()?;
    let offset = bit_offset(cx, offset, None)?;
    let on = match parse_i64(args.next()?) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(BAD_BIT),
    };
    let (at, mask) = ((offset >> 3) as usize, 0x80u8 >> (offset & 7));
    let grown = make_room(cx, key, at)?;
    let mut was = false;
    if let Some(mut entry) = cx.keys.entry_mut(key) {
        let byte = entry.as_str()?.get(at).unwrap_or(0);
        was = byte & mask != 0;
        if was != on {
            entry.write_at(at, &[byte ^ mask]);
        }
    }
    if grown || was != on {
        cx.changed(key, 1);
        cx.event(NotifyFlags::STRING, "setbit", key);
    }
    cx.reply.int(was.into());
    DONE
}

const GETBIT: Row<DataFn> = Spec::new("getbit", 3, Group::Bitmap)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::BITMAP)
    .since("2.2.0")
    .cost("O(1)")
    .about("Replies a bit of the string stored under a key; 0 beyond its end.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))])
    .args(&[Arg::key("key", 0), Arg::int("offset")])
    .run(getbit);

/// GETBIT key offset: replies the bit.
fn getbit(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, offset) = args.two()?;
    let offset = bit_offset(cx, offset, None)?;
    let text = cx.keys.read_str(key)?;
    let byte = text.and_then(|text| text.get((offset >> 3) as usize));
    let on = byte.unwrap_or(0) & (0x80 >> (offset & 7)) != 0;
    cx.reply.int(on.into());
    DONE
}

// --- Counting and finding --------------------------------------------------------------------------------------

/// The bits from `start` to `end`, both included and counted in bytes or bits, negative ones from the end, of a string
/// of `len` bytes. Empty where there are none.
fn bit_range(start: i64, end: i64, len: usize, in_bits: bool) -> Range<usize> {
    let unit = if in_bits { 1 } else { 8 };
    let total = (len * 8 / unit) as i64;
    let from_front = |at: i64| {
        if at < 0 {
            total.saturating_add(at).max(0)
        } else {
            at
        }
    };
    let (start, end) = (from_front(start), from_front(end).min(total - 1));
    if start > end {
        0..0
    } else {
        start as usize * unit..(end as usize + 1) * unit
    }
}

/// The word BYTE or BIT: true for bits.
fn is_bit_unit(word: &[u8]) -> Result<bool, Fault> {
    match word {
        _ if is_word(word, "BIT") => Ok(true),
        _ if is_word(word, "BYTE") => Ok(false),
        _ => Err(SYNTAX),
    }
}

/// How many of these bits of `text` are set; the range lies within it.
fn count(text: Str<'_>, range: Range<usize>) -> u64 {
    if range.is_empty() {
        return 0;
    }
    let (first, last) = (range.start / 8, (range.end - 1) / 8);
    let mut total = 0;
    text.for_each_stored(first..last + 1, |_, bytes| {
        total += bits::count_ones(bytes);
        ControlFlow::Continue(())
    });
    let outside = |at: usize, mask: u8| u64::from((text.get(at).unwrap_or(0) & mask).count_ones());
    let before_first = !(0xff >> (range.start % 8));
    let behind_last = (0xffu16 >> ((range.end - 1) % 8 + 1)) as u8;
    total - outside(first, before_first) - outside(last, behind_last)
}

/// The first of these bits of `text` that is set (or clear); the range lies within it.
fn find(text: Str<'_>, range: Range<usize>, set: bool) -> Option<usize> {
    let mut from = range.start;
    // A byte of which only a part counts is looked at alone.
    if !from.is_multiple_of(8) {
        let byte = text.get(from / 8).unwrap_or(0) ^ if set { 0 } else { 0xff };
        let rest = byte & (0xff >> (from % 8));
        if rest != 0 {
            let at = from / 8 * 8 + rest.leading_zeros() as usize;
            return range.contains(&at).then_some(at);
        }
        from = from.next_multiple_of(8);
    }
    // What is not stored between the stretches are zeros.
    let (mut at_byte, end_byte) = (from / 8, range.end.div_ceil(8));
    let mut found = None;
    text.for_each_stored(at_byte..end_byte, |at, bytes| {
        if !set && at > at_byte {
            return ControlFlow::Break(());
        }
        found = bits::find(bytes, set).map(|bit| at * 8 + bit);
        at_byte = at + bytes.len();
        match found {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    });
    if found.is_none() && !set {
        found = Some(at_byte * 8);
    }
    found.filter(|at| range.contains(at))
}

const BITCOUNT: Row<DataFn> = Spec::new("bitcount", -2, Group::Bitmap)
    .flags(Flags::READONLY)
    .acl(Acl::BITMAP)
    .since("2.6.0")
    .cost("O(N)")
    .about("Counts the bits that are set in the string stored under a key, or in a part of it.")
    .history(&[("7.0.0", "The range may be given in bits: `BIT`.")])
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))])
    .args(&[
        Arg::key("key", 0),
        Arg::block("range", &[Arg::int("start"), Arg::int("end"), RANGE_UNIT]).optional(),
    ])
    .run(bitcount);

/// BITCOUNT key [start end [BYTE | BIT]]: replies how many bits are set. A missing key has none, whatever the range says.
fn bitcount(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let Some(text) = cx.keys.read_str(key)? else {
        cx.reply.int(0);
        return DONE;
    };
    let range = match args.left() {
        0 => 0..text.len() * 8,
        2 | 3 => {
            let (start, end) = (args.next_i64()?, args.next_i64()?);
            if start < 0 && end < 0 && start > end {
                0..0
            } else {
                let in_bits = args.more() && is_bit_unit(args.next()?)?;
                bit_range(start, end, text.len(), in_bits)
            }
        }
        _ => return Err(SYNTAX),
    };
    cx.reply.int(count(text, range) as i64);
    DONE
}

const BITPOS: Row<DataFn> = Spec::new("bitpos", -3, Group::Bitmap)
    .flags(Flags::READONLY)
    .acl(Acl::BITMAP)
    .since("2.8.7")
    .cost("O(N)")
    .about("Finds the first bit that is set, or clear, in the string stored under a key.")
    .history(&[("7.0.0", "The range may be given in bits: `BIT`.")])
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))])
    .args(&[
        Arg::key("key", 0),
        Arg::int("bit"),
        Arg::block(
            "range",
            &[
                Arg::int("start"),
                Arg::block("end-unit-block", &[Arg::int("end"), RANGE_UNIT]).optional(),
            ],
        )
        .optional(),
    ])
    .run(bitpos);

/// BITPOS key bit [start [end [BYTE | BIT]]]: replies where the first such bit is, or -1. Behind the end of a string lie
/// clear bits without end, unless the end of the range was given.
fn bitpos(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, bit) = args.two()?;
    let set = match parse_i64(bit).ok_or(NOT_INTEGER)? {
        0 => false,
        1 => true,
        _ => return Err(NOT_A_BIT),
    };
    let Some(text) = cx.keys.read_str(key)? else {
        cx.reply.int(if set { -1 } else { 0 });
        return DONE;
    };
    let given = args.left();
    if given > 3 {
        return Err(SYNTAX);
    }
    let start = if given >= 1 { args.next_i64()? } else { 0 };
    let in_bits = given == 3 && is_bit_unit(args.rest()[1])?;
    let end = if given >= 2 { args.next_i64()? } else { -1 };
    let range = bit_range(start, end, text.len(), in_bits);
    let at = match find(text, range.clone(), set) {
        Some(at) => at as i64,
        None if !set && given < 2 && !range.is_empty() => range.end as i64,
        None => -1,
    };
    cx.reply.int(at);
    DONE
}

// --- Combining -------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Combine(Combine),
    Not,
}

impl Operation {
    fn by_word(word: &[u8]) -> Option<Operation> {
        const WORDS: [(&str, Operation); 4] = [
            ("AND", Operation::Combine(Combine::And)),
            ("OR", Operation::Combine(Combine::Or)),
            ("XOR", Operation::Combine(Combine::Xor)),
            ("NOT", Operation::Not),
        ];
        WORDS
            .iter()
            .find(|(w, _)| is_word(word, w))
            .map(|(_, op)| *op)
    }

    /// The bytes of `range` of the result; `None` if they are zeros because no source has anything there.
    fn part(self, sources: &[BigStr], range: Range<usize>) -> Option<Vec<u8>> {
        let stored = |source: &BigStr| source.stored(range.clone()).next().is_some();
        let empty = match self {
            Operation::Not => false,
            Operation::Combine(Combine::And) => !sources.iter().all(stored),
            Operation::Combine(_) => !sources.iter().any(stored),
        };
        if empty {
            return None;
        }
        let (first, others) = sources.split_first()?;
        let mut out = first.copy_range(range.clone());
        out.resize(range.len(), 0);
        match self {
            Operation::Not => bits::invert(&mut out),
            Operation::Combine(how) => {
                for other in others {
                    let mut rest = &mut out[..];
                    for slice in other.slices(range.clone()) {
                        let (now, later) = rest.split_at_mut(slice.len());
                        bits::combine(now, slice, how);
                        rest = later;
                    }
                    if how == Combine::And {
                        rest.fill(0);
                    }
                }
            }
        }
        Some(out)
    }
}

const BITOP: Row<DataFn> = Spec::new("bitop", -4, Group::Bitmap)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::BITMAP)
    .since("2.6.0")
    .cost("O(N)")
    .about("Combines strings bit by bit and stores the result.")
    .keys(&[
        KeySpec::at(2).flags(KeyFlags::OW.or(KeyFlags::UPDATE)),
        KeySpec::range(3, -1, 1).flags(KeyFlags::RO.or(KeyFlags::ACCESS)),
    ])
    .args(&[
        Arg::one_of(
            "operation",
            &[
                Arg::word("and", "AND"),
                Arg::word("or", "OR"),
                Arg::word("xor", "XOR"),
                Arg::word("not", "NOT"),
            ],
        ),
        Arg::key("destkey", 0),
        Arg::key("key", 1).multiple(),
    ])
    .run(bitop);

/// BITOP AND | OR | XOR | NOT destkey key [key ...]: stores the result and replies its length, that of the longest
/// source; the shorter ones go on as zeros.
fn bitop(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (word, dest) = args.two()?;
    let operation = Operation::by_word(word).ok_or(SYNTAX)?;
    if operation == Operation::Not && args.left() != 1 {
        return Err(ONE_SOURCE);
    }
    let mut sources = Vec::with_capacity(args.left());
    for key in args.rest() {
        sources.push(match cx.keys.read_str(key)? {
            // A clone shares all chunks.
            Some(Str::Big(big)) => big.clone(),
            Some(text) => BigStr::from_bytes(Bytes::from(text.to_vec())),
            None => BigStr::from_bytes(Bytes::new()),
        });
    }
    let len = sources.iter().map(BigStr::len).max().unwrap_or(0);
    if len == 0 {
        if cx.keys.remove(dest) {
            cx.changed(dest, 1);
            cx.event(NotifyFlags::GENERIC, "del", dest);
        }
    } else {
        let part = |range: Range<usize>| operation.part(&sources, range);
        if len <= EMBED_MAX {
            let all = part(0..len).unwrap_or_else(|| vec![0; len]);
            cx.keys.set(dest, Value::Raw(&all), Ttl::Clear);
        } else {
            let result = BigStr::from_parts(len, |range| part(range).map(Bytes::from));
            let heap = Heap::Str(Shared::new(result));
            cx.keys.set(dest, Value::Heap(heap), Ttl::Clear);
        }
        cx.changed(dest, 1);
        cx.event(NotifyFlags::STRING, "set", dest);
    }
    cx.reply.int(len as i64);
    DONE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::bigstr::{CHUNK_BYTES, ONE_BUFFER_MAX};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// A string with holes, and the same bytes in one piece.
    fn sparse() -> impl Strategy<Value = (BigStr, Vec<u8>)> {
        let write = (
            0..6usize,
            0..40usize,
            vec(prop_oneof![Just(255u8), any::<u8>()], 1..40),
        );
        vec(write, 0..5).prop_map(|writes| {
            let mut big = BigStr::from_bytes(Bytes::new());
            let mut flat = Vec::new();
            for (chunk, off, data) in writes {
                let at = chunk * CHUNK_BYTES + off;
                big.write_at(at, &data);
                flat.resize(flat.len().max(at + data.len()), 0);
                flat[at..at + data.len()].copy_from_slice(&data);
            }
            (big, flat)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn counting_and_finding_see_holes_as_zeros(
            (big, flat) in sparse(),
            from in (0..7usize, 0..400usize).prop_map(|(c, b)| c * CHUNK_BYTES * 8 + b),
            len in prop_oneof![0..20usize, 0..3_000_000usize],
        ) {
            let range = from.min(flat.len() * 8)..(from + len).min(flat.len() * 8);
            let bit = |at: &usize| flat[at / 8] & (0x80 >> (at % 8)) != 0;
            let ones = range.clone().filter(bit).count() as u64;
            prop_assert_eq!(count(Str::Big(&big), range.clone()), ones);
            for set in [false, true] {
                let first = range.clone().find(|at| bit(at) == set);
                prop_assert_eq!(find(Str::Big(&big), range.clone(), set), first);
            }
        }

        #[test]
        fn results_made_chunk_by_chunk_are_those_made_byte_by_byte(sources in vec(sparse(), 1..4)) {
            let (bigs, flats): (Vec<BigStr>, Vec<Vec<u8>>) = sources.into_iter().unzip();
            let len = flats.iter().map(Vec::len).max().unwrap();
            for word in [&b"and"[..], b"OR", b"xor", b"not"] {
                let operation = Operation::by_word(word).unwrap();
                let used = if operation == Operation::Not { 1 } else { flats.len() };
                let byte = |at: usize| {
                    let column = flats[..used].iter().map(|f| f.get(at).copied().unwrap_or(0));
                    match operation {
                        Operation::Not => column.fold(0, |_, b| !b),
                        Operation::Combine(Combine::And) => column.fold(255, |a, b| a & b),
                        Operation::Combine(Combine::Or) => column.fold(0, |a, b| a | b),
                        Operation::Combine(Combine::Xor) => column.fold(0, |a, b| a ^ b),
                    }
                };
                let made = BigStr::from_parts(len, |range| {
                    operation.part(&bigs[..used], range).map(Bytes::from)
                });
                let expected: Vec<u8> = (0..len).map(byte).collect();
                prop_assert!(made == expected[..]);
            }
        }
    }

    #[test]
    fn an_empty_part_of_the_result_has_no_memory() {
        let mut big = BigStr::from_bytes(Bytes::new());
        big.write_at(500 << 20, b"x");
        let or = Operation::Combine(Combine::Or);
        let sources = [big.clone(), big];
        let made = BigStr::from_parts(sources[0].len(), |range| {
            or.part(&sources, range).map(Bytes::from)
        });
        assert_eq!(made.len(), (500 << 20) + 1);
        assert!(
            made.memory_bytes() < ONE_BUFFER_MAX,
            "{}",
            made.memory_bytes()
        );
    }
}
