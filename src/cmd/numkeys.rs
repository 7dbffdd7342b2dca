//! Commands that say how many keys they name: `numkeys key [key ...]`, as LMPOP, ZUNION and SINTERCARD do.

use crate::base::number::parse_i64;
use crate::cmd::args::Args;
use crate::cmd::fault::{Fault, SYNTAX};
use crate::cmd::spec::{Begin, Find, KeyFlags, KeyRef, KeySpec};

/// The keys behind the count that is argument `at`, for a row.
pub const fn spec(at: i32, flags: KeyFlags) -> KeySpec {
    let find = Find::KeyNum {
        at: 0,
        first: 1,
        step: 1,
    };
    KeySpec::new(Begin::Index(at), find).flags(flags)
}

/// The keys behind the count that is argument `at`; `None` if there are not so many.
pub fn find(argv: &[&[u8]], at: usize, flags: KeyFlags) -> Option<Vec<KeyRef>> {
    let first = at + 1;
    let count = usize::try_from(parse_i64(argv.get(at)?)?).ok()?;
    let fits = count > 0 && count <= argv.len() - first;
    fits.then(|| {
        let keys = first..first + count;
        keys.map(|pos| KeyRef { pos, flags }).collect()
    })
}

/// Reads a number that must be at least one.
pub fn positive(text: &[u8], fault: Fault) -> Result<usize, Fault> {
    let number = parse_i64(text).and_then(|n| usize::try_from(n).ok());
    number.filter(|&n| n > 0).ok_or(fault)
}

const NO_KEYS: Fault = Fault::new("ERR numkeys should be greater than 0");
const NO_COUNT: Fault = Fault::new("ERR count should be greater than 0");

/// What LMPOP, ZMPOP and those that wait are asked behind their name and timeout.
pub struct PopRequest<'a, End> {
    pub keys: &'a [&'a [u8]],
    pub end: End,
    pub count: usize,
}

impl<'a, End> PopRequest<'a, End> {
    /// Reads `numkeys key [key ...] end [COUNT count]`, where `end` knows the words of an end.
    pub fn parse(
        args: &mut Args<'a>,
        end: impl FnOnce(&[u8]) -> Result<End, Fault>,
    ) -> Result<PopRequest<'a, End>, Fault> {
        let n = positive(args.next()?, NO_KEYS)?;
        let keys = args.rest().get(..n).ok_or(SYNTAX)?;
        args.skip(n);
        let end = end(args.next()?)?;
        let mut count = None;
        while args.more() {
            if count.is_some() || !args.take_word("COUNT") {
                return Err(SYNTAX);
            }
            count = Some(positive(args.next()?, NO_COUNT)?);
        }
        let count = count.unwrap_or(1);
        Ok(PopRequest { keys, end, count })
    }
}
