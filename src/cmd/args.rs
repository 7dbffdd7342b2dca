//! The arguments of a command, as slices of the query buffer: nothing is copied on the way.

use bytes::Bytes;

use crate::base::number;
use crate::cmd::fault::{Fault, NOT_INTEGER, SYNTAX, VALUE_OUT_OF_RANGE};
use crate::object::Value;

/// The arguments of one command, the name first, with a place that [`Args::next`] moves.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    argv: &'a [&'a [u8]],
    at: usize,
    big: &'a [Bytes],
}

impl<'a> Args<'a> {
    /// Arguments `argv` (the name at 0); `big` holds those that were read into buffers of their own.
    pub fn new(argv: &'a [&'a [u8]], big: &'a [Bytes]) -> Self {
        Args { argv, at: 1, big }
    }

    /// All of them, the name at 0.
    pub fn argv(&self) -> &'a [&'a [u8]] {
        self.argv
    }

    /// The buffers of the big ones, for whoever runs the same arguments elsewhere.
    pub fn big(&self) -> &'a [Bytes] {
        self.big
    }

    /// The command's name as the client wrote it.
    pub fn name(&self) -> &'a [u8] {
        self.argv[0]
    }

    /// How many there are, the name counted.
    pub fn len(&self) -> usize {
        self.argv.len()
    }

    /// Never true: a command has a name.
    pub fn is_empty(&self) -> bool {
        self.argv.is_empty()
    }

    /// Those not yet taken.
    pub fn rest(&self) -> &'a [&'a [u8]] {
        &self.argv[self.at.min(self.argv.len())..]
    }

    /// True while some are not yet taken.
    pub fn more(&self) -> bool {
        self.at < self.argv.len()
    }

    /// How many are not yet taken.
    pub fn left(&self) -> usize {
        self.argv.len().saturating_sub(self.at)
    }

    /// Skips `n`: the words of a subcommand, say.
    pub fn skip(&mut self, n: usize) {
        self.at += n;
    }

    /// The next one without taking it.
    pub fn peek(&self) -> Option<&'a [u8]> {
        self.argv.get(self.at).copied()
    }

    /// Takes the next one; a syntax error when there is none.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<&'a [u8], Fault> {
        let arg = self.argv.get(self.at).copied().ok_or(SYNTAX)?;
        self.at += 1;
        Ok(arg)
    }

    /// Takes the next one if it is this word, in any case.
    pub fn take_word(&mut self, word: &str) -> bool {
        let hit = self.peek().is_some_and(|a| is_word(a, word));
        self.at += usize::from(hit);
        hit
    }

    /// Takes the next one as an integer.
    pub fn next_i64(&mut self) -> Result<i64, Fault> {
        number::parse_i64(self.next()?).ok_or(NOT_INTEGER)
    }

    /// The only argument.
    pub fn one(&mut self) -> Result<&'a [u8], Fault> {
        self.next()
    }

    /// The next two.
    pub fn two(&mut self) -> Result<(&'a [u8], &'a [u8]), Fault> {
        Ok((self.next()?, self.next()?))
    }

    /// The buffer that an argument came in, if it has one of its own: it can be stored as it is.
    #[inline]
    pub fn shared(&self, arg: &[u8]) -> Option<&'a Bytes> {
        let same = |b: &&Bytes| b.as_ptr() == arg.as_ptr() && b.len() == arg.len();
        self.big.iter().find(same)
    }
}

impl<'a> Args<'a> {
    /// What to store for an argument: an integer where it is one; a big argument keeps its buffer.
    #[inline]
    pub fn value(&self, arg: &'a [u8]) -> Value<'a> {
        match self.shared(arg) {
            Some(whole) => Value::from_whole(whole.clone()),
            None => Value::from_text(arg),
        }
    }
}

/// True if the argument is this word, in any case.
pub fn is_word(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// Reads the count of HRANDFIELD and its kin: any number that has a negative.
pub fn parse_count(arg: &[u8]) -> Result<i64, Fault> {
    match number::parse_i64(arg).ok_or(NOT_INTEGER)? {
        i64::MIN => Err(Fault::text(format!(
            "ERR value is out of range, value must between {} and {}",
            -i64::MAX,
            i64::MAX
        ))),
        count => Ok(count),
    }
}

/// Reads what follows the key of HRANDFIELD and ZRANDMEMBER: the count, and whether `word` asks for a second element with
/// each.
pub fn parse_draw(args: &mut Args<'_>, word: &str) -> Result<(i64, bool), Fault> {
    let count = parse_count(args.next()?)?;
    let with_second = match args.rest() {
        [] => false,
        [arg] if is_word(arg, word) => true,
        _ => return Err(SYNTAX),
    };
    // The reply has two elements for each, and its length must be a number.
    if with_second && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(VALUE_OUT_OF_RANGE);
    }
    Ok((count, with_second))
}

/// Arguments that own their bytes, for a command that runs later: queued, blocked or propagated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedArgs {
    data: Box<[u8]>,
    ends: Box<[u32]>,
    big: Vec<Bytes>,
}

impl OwnedArgs {
    /// Copies the arguments into one allocation; big ones only gain a reference.
    pub fn copy(args: &Args<'_>) -> Self {
        Self::build(args.argv, args.big)
    }

    /// Copies slices, of which some may be arguments that came in buffers `big`: those gain a reference.
    pub fn from_parts(argv: &[&[u8]], big: &[Bytes]) -> Self {
        Self::build(argv, big)
    }

    /// Copies plain slices.
    pub fn from_slices(argv: &[&[u8]]) -> Self {
        Self::build(argv, &[])
    }

    fn build(argv: &[&[u8]], big: &[Bytes]) -> Self {
        let mut kept = Vec::new();
        let mut data = Vec::new();
        let mut ends = Vec::with_capacity(argv.len());
        for arg in argv {
            match big
                .iter()
                .find(|b| b.as_ptr() == arg.as_ptr() && b.len() == arg.len())
            {
                Some(b) => {
                    kept.push(b.clone());
                    ends.push(BIG | (kept.len() - 1) as u32);
                }
                // Query buffers are limited to less than 2 GB, so that ends fit.
                None => {
                    data.extend_from_slice(arg);
                    ends.push(data.len() as u32);
                }
            }
        }
        OwnedArgs {
            data: data.into(),
            ends: ends.into(),
            big: kept,
        }
    }

    /// How many arguments there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Argument number `i`.
    pub fn get(&self, i: usize) -> &[u8] {
        self.iter().nth(i).unwrap_or(&[])
    }

    /// The arguments in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0usize;
        self.ends.iter().map(move |&end| {
            if end & BIG != 0 {
                &self.big[(end & !BIG) as usize][..]
            } else {
                let arg = &self.data[from..end as usize];
                from = end as usize;
                arg
            }
        })
    }

    /// Slices of all arguments, to make an [`Args`] of with [`OwnedArgs::big`].
    pub fn slices(&self) -> Vec<&[u8]> {
        self.iter().collect()
    }

    /// The big arguments.
    pub fn big(&self) -> &[Bytes] {
        &self.big
    }

    /// Bytes this holds, as INFO and CLIENT LIST count them.
    pub fn memory(&self) -> usize {
        self.data.len() + self.ends.len() * 4 + self.big.iter().map(Bytes::len).sum::<usize>()
    }
}

const BIG: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_arguments_keep_their_order_and_share_the_big_ones() {
        let big = [Bytes::from(vec![7u8; 40_000])];
        let argv: [&[u8]; 4] = [b"SET", b"", &big[0], b"tail"];
        let owned = OwnedArgs::copy(&Args::new(&argv, &big));
        assert_eq!(owned.slices(), argv);
        assert_eq!(owned.get(2).as_ptr(), big[0].as_ptr());
        assert_eq!(owned.len(), 4);
    }

    #[test]
    fn taking_past_the_end_is_a_syntax_error() {
        let argv: [&[u8]; 2] = [b"GET", b"k"];
        let mut args = Args::new(&argv, &[]);
        assert_eq!(args.one().unwrap(), b"k");
        assert_eq!(args.next(), Err(SYNTAX));
        assert!(!args.more());
    }
}
