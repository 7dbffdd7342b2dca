//! LCS: the longest common subsequence of two strings.
//!
//! Let `L(i, j)` be the length of the longest subsequence that the first `i` bytes of `a` share with the first `j` of
//! `b`. Where the last bytes of both are the same, they are the end of one: `L(i, j) = L(i-1, j-1) + 1`. Where they
//! differ, one of them is not needed: `L(i, j) = max(L(i-1, j), L(i, j-1))`. Row by row, each needs only the one
//! before, so two rows of numbers do for the length.
//!
//! To find the subsequence itself one walks back from `L(|a|, |b|)`: where the bytes are the same, both belong to it and
//! the walk goes to `(i-1, j-1)`; where they differ, it goes to the larger of both neighbours. Which one that is takes a
//! bit to remember, so the table for the way back is a bit for each pair of positions (Redis keeps the numbers, 32 bits
//! each). Runs of the walk that are contiguous in both strings are the matches that IDX lists, last one first.
//!
//! Time is O(|a| * |b|). Redis refuses what would need more than `proto-max-bulk-len` of *its* table; so do we, since
//! the bound on time is the same.

use std::ops::RangeInclusive;

use crate::base::number::parse_i64;
use crate::cmd::fault::{CmdResult, DONE, Fault, NOT_INTEGER, SYNTAX};
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::object::Str;

pub static ROWS: &[Row<DataFn>] = &[LCS];

const NOT_STRINGS: Fault = Fault::new("ERR The specified keys must contain string values");
const LEN_AND_IDX: Fault =
    Fault::new("ERR If you want both the length and indexes, please just use IDX.");
const TOO_LONG: Fault = Fault::new("ERR String too long for LCS");
const TOO_MUCH: Fault =
    Fault::new("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");

const LCS: Row<DataFn> = Spec::new("lcs", -3, Group::String)
    .flags(Flags::READONLY)
    .acl(Acl::STRING)
    .since("7.0.0")
    .cost("O(N*M) with N and M the lengths of the strings")
    .about("Finds the longest common subsequence of two strings.")
    .keys(&[KeySpec::range(1, 1, 1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))])
    .args(&[
        Arg::key("key1", 0),
        Arg::key("key2", 0),
        Arg::word("len", "LEN").optional(),
        Arg::word("idx", "IDX").optional(),
        Arg::int("min-match-len").token("MINMATCHLEN").optional(),
        Arg::word("withmatchlen", "WITHMATCHLEN").optional(),
    ])
    .run(lcs);

#[derive(Default)]
struct Options {
    len: bool,
    idx: bool,
    with_match_len: bool,
    min_match_len: usize,
}

impl Options {
    fn parse(args: &mut Args<'_>) -> Result<Options, Fault> {
        let mut o = Options::default();
        while args.more() {
            let word = args.next()?;
            if is_word(word, "IDX") {
                o.idx = true;
            } else if is_word(word, "LEN") {
                o.len = true;
            } else if is_word(word, "WITHMATCHLEN") {
                o.with_match_len = true;
            } else if is_word(word, "MINMATCHLEN") {
                let least = parse_i64(args.next()?).ok_or(NOT_INTEGER)?;
                o.min_match_len = least.max(0) as usize;
            } else {
                return Err(SYNTAX);
            }
        }
        if o.len && o.idx {
            Err(LEN_AND_IDX)
        } else {
            Ok(o)
        }
    }
}

/// LCS key1 key2 [LEN] [IDX] [MINMATCHLEN n] [WITHMATCHLEN]: replies the subsequence, its length or its matches.
fn lcs(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key_a, key_b) = args.two()?;
    let len_a = cx.keys.read_str(key_a).map(|s| s.map_or(0, Str::len));
    let len_b = cx.keys.read_str(key_b).map(|s| s.map_or(0, Str::len));
    let (Ok(len_a), Ok(len_b)) = (len_a, len_b) else {
        return Err(NOT_STRINGS);
    };
    let o = Options::parse(&mut args)?;
    check_size(len_a, len_b, cx.config().proto_max_bulk_len)?;
    let a = text_at(cx, key_a);
    let b = text_at(cx, key_b);
    if o.len {
        cx.reply.int(Walk::length(&a, &b) as i64);
        return DONE;
    }
    let walk = Walk::new(&a, &b);
    if !o.idx {
        let mut common: Vec<u8> = walk
            .steps()
            .filter_map(|step| step.map(|(i, _)| a[i]))
            .collect();
        common.reverse();
        cx.reply.bulk(&common);
        return DONE;
    }
    cx.reply.map(2);
    cx.reply.bulk(b"matches");
    let deferred = cx.reply.defer();
    let mut count = 0;
    for (in_a, in_b) in walk.matches() {
        let len = in_a.end() - in_a.start() + 1;
        if len < o.min_match_len {
            continue;
        }
        cx.reply.array(2 + usize::from(o.with_match_len));
        for range in [in_a, in_b] {
            cx.reply.array(2);
            cx.reply.int(*range.start() as i64);
            cx.reply.int(*range.end() as i64);
        }
        if o.with_match_len {
            cx.reply.int(len as i64);
        }
        count += 1;
    }
    cx.reply.close_array(deferred, count);
    cx.reply.bulk(b"len");
    cx.reply.int(walk.len as i64);
    DONE
}

/// A copy of the string at a key; the caller has seen that it is one, and that it is not too long.
fn text_at(cx: &mut Ctx<'_>, key: &[u8]) -> Vec<u8> {
    cx.keys
        .peek(key)
        .and_then(|entry| entry.as_str().ok())
        .map_or_else(Vec::new, Str::to_vec)
}

/// Redis's bounds: on each length, and on the table that it would build.
fn check_size(len_a: usize, len_b: usize, max_table: usize) -> Result<(), Fault> {
    if len_a.max(len_b) >= u32::MAX as usize - 1 {
        return Err(TOO_LONG);
    }
    let cells = (len_a as u128 + 1) * (len_b as u128 + 1);
    if cells * 4 > max_table as u128 {
        Err(TOO_MUCH)
    } else {
        Ok(())
    }
}

/// The way back through the table.
struct Walk<'a> {
    a: &'a [u8],
    b: &'a [u8],
    /// Length of the subsequence.
    len: usize,
    /// A bit a cell, row by row: where the bytes differ, the walk goes to `i-1` rather than to `j-1`.
    up: Vec<u64>,
}

impl<'a> Walk<'a> {
    /// Only the length.
    fn length(a: &[u8], b: &[u8]) -> usize {
        fill(a, b, |_, _| {})
    }

    fn new(a: &'a [u8], b: &'a [u8]) -> Walk<'a> {
        let mut up = vec![0u64; (a.len() * b.len()).div_ceil(64)];
        let len = fill(a, b, |i, j| {
            let cell = i * b.len() + j;
            up[cell / 64] |= 1 << (cell % 64);
        });
        Walk { a, b, len, up }
    }

    /// The walk, step by step from the end: the positions in `a` and `b` of a common byte, or `None` for a step past
    /// a byte that is not common.
    fn steps(&self) -> impl Iterator<Item = Option<(usize, usize)>> {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        std::iter::from_fn(move || {
            if i == 0 || j == 0 {
                return None;
            }
            if self.a[i - 1] == self.b[j - 1] {
                (i, j) = (i - 1, j - 1);
                return Some(Some((i, j)));
            }
            let cell = (i - 1) * self.b.len() + (j - 1);
            if self.up[cell / 64] >> (cell % 64) & 1 == 1 {
                i -= 1;
            } else {
                j -= 1;
            }
            Some(None)
        })
    }

    /// The stretches of the walk that are contiguous in both strings, last first, as positions in `a` and in `b`.
    fn matches(&self) -> impl Iterator<Item = (RangeInclusive<usize>, RangeInclusive<usize>)> {
        // A final step past nothing closes the stretch that reaches the front of a string.
        let mut steps = self.steps().chain(std::iter::once(None));
        let mut run: Option<(RangeInclusive<usize>, RangeInclusive<usize>)> = None;
        std::iter::from_fn(move || {
            loop {
                match (steps.next()?, run.take()) {
                    (None, Some(done)) => return Some(done),
                    (None, None) => {}
                    (Some((i, j)), None) => run = Some((i..=i, j..=j)),
                    (Some((i, j)), Some((in_a, in_b))) => {
                        run = Some((i..=*in_a.end(), j..=*in_b.end()))
                    }
                }
            }
        })
    }
}

/// Computes the lengths row by row and gives the last. `up` hears of the cells (by their bytes' positions) where the
/// bytes differ and the cell above holds more than the one to the left.
fn fill(a: &[u8], b: &[u8], mut up: impl FnMut(usize, usize)) -> usize {
    // `row[j]` is the length for the bytes of `a` so far and `j` bytes of `b`.
    let mut row = vec![0u32; b.len() + 1];
    for (i, byte_a) in a.iter().enumerate() {
        let mut diagonal = 0;
        for (j, byte_b) in b.iter().enumerate() {
            let (above, left) = (row[j + 1], row[j]);
            row[j + 1] = if byte_a == byte_b {
                diagonal + 1
            } else {
                if above > left {
                    up(i, j);
                }
                above.max(left)
            };
            diagonal = above;
        }
    }
    row[b.len()] as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(a: &str, b: &str) -> (String, Vec<(usize, usize, usize, usize)>) {
        let walk = Walk::new(a.as_bytes(), b.as_bytes());
        let mut common: Vec<u8> = walk
            .steps()
            .flatten()
            .map(|(i, _)| a.as_bytes()[i])
            .collect();
        common.reverse();
        assert_eq!(common.len(), walk.len);
        assert_eq!(Walk::length(a.as_bytes(), b.as_bytes()), walk.len);
        let matches = walk
            .matches()
            .map(|(x, y)| (*x.start(), *x.end(), *y.start(), *y.end()))
            .collect();
        (String::from_utf8(common).unwrap(), matches)
    }

    #[test]
    fn the_manuals_example() {
        let (common, matches) = found("ohmytext", "mynewtext");
        assert_eq!(common, "mytext");
        assert_eq!(matches, [(4, 7, 5, 8), (2, 3, 0, 1)]);
    }

    #[test]
    fn nothing_in_common_and_nothing_at_all() {
        assert_eq!(found("abc", "xyz"), (String::new(), vec![]));
        assert_eq!(found("", "xyz"), (String::new(), vec![]));
        assert_eq!(found("aaa", "aaa"), ("aaa".into(), vec![(0, 2, 0, 2)]));
    }

    #[test]
    fn bounds_are_redis_own() {
        assert_eq!(check_size(9, 9, 400), Ok(()));
        assert_eq!(check_size(9, 9, 399), Err(TOO_MUCH));
        assert_eq!(
            check_size(u32::MAX as usize - 1, 0, usize::MAX),
            Err(TOO_LONG)
        );
    }
}
