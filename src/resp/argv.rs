//! Parsed commands: where the arguments are, without a copy of them.
//!
//! An argument has one of three homes: the query buffer (nearly always), the scratch space of its batch (words of an
//! inline command, whose quotes were taken off), or a buffer of its own (a big argument). [`Argv`] hides which.

use std::fmt;
use std::ops::{Index, Range};

use bytes::Bytes;

/// A batch gives memory back that a huge command made it take.
const BATCH_ARGS_KEPT: usize = 4096;
const BATCH_SCRATCH_KEPT: usize = 16 * 1024;

/// One argument: where its bytes are. The top two bits of `start` tell which of the three homes it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arg {
    pub start: usize,
    pub len: usize,
}

pub(super) const IN_SCRATCH: usize = 1 << (usize::BITS - 1);
pub(super) const IS_BIG: usize = 1 << (usize::BITS - 2);

/// One command of a batch.
#[derive(Debug, Clone)]
pub(super) struct Cmd {
    pub args: Range<usize>,
    pub end: usize,
    pub inline: bool,
}

/// The commands found by one call of `Parser::parse`; reused for the next.
#[derive(Default)]
pub struct Batch {
    pub(super) cmds: Vec<Cmd>,
    pub(super) args: Vec<Arg>,
    /// Words of inline commands, unquoted.
    pub(super) scratch: Vec<u8>,
    /// Big arguments. A command with one is always the first of its batch.
    pub(super) bigs: Vec<Bytes>,
    pub(super) consumed: usize,
    pub(super) blank_line: bool,
}

impl Batch {
    pub fn new() -> Batch {
        Batch::default()
    }

    /// How many commands there are.
    pub fn len(&self) -> usize {
        self.cmds.len()
    }

    pub fn is_empty(&self) -> bool {
        self.cmds.is_empty()
    }

    /// The arguments of command `i` (at least one), the name first. `buf` is the buffer that was parsed.
    #[inline]
    pub fn argv<'a>(&'a self, i: usize, buf: &'a [u8]) -> Argv<'a> {
        Argv {
            args: &self.args[self.span(i)],
            ..self.all(buf)
        }
    }

    /// The arguments of all commands, one behind the other; [`Batch::span`] tells whose are which.
    #[inline]
    pub fn all<'a>(&'a self, buf: &'a [u8]) -> Argv<'a> {
        Argv {
            args: &self.args,
            buf,
            scratch: &self.scratch,
            bigs: &self.bigs,
        }
    }

    /// Where the arguments of command `i` are among all.
    #[inline]
    pub fn span(&self, i: usize) -> Range<usize> {
        self.cmds[i].args.clone()
    }

    /// The big arguments of the batch.
    pub fn bigs(&self) -> &[Bytes] {
        &self.bigs
    }

    /// Where command `i` ends in the buffer.
    #[inline]
    pub fn end(&self, i: usize) -> usize {
        self.cmds[i].end
    }

    /// Whether command `i` came as a line of words.
    pub fn is_inline(&self, i: usize) -> bool {
        self.cmds[i].inline
    }

    /// How many bytes to drop once all commands ran: up to the last one's end, or behind empty requests after it.
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// Whether an empty line was skipped (from a replica, a sign of life).
    pub fn blank_line(&self) -> bool {
        self.blank_line
    }

    /// Memory held.
    pub fn memory(&self) -> usize {
        self.cmds.capacity() * size_of::<Cmd>()
            + self.args.capacity() * size_of::<Arg>()
            + self.scratch.capacity()
    }

    /// Forgets the commands. Done by `Parser::parse` too; on its own it lets go of big arguments.
    #[inline]
    pub fn clear(&mut self) {
        self.cmds.clear();
        self.args.clear();
        self.scratch.clear();
        if self.args.capacity() > BATCH_ARGS_KEPT || self.scratch.capacity() > BATCH_SCRATCH_KEPT {
            self.args.shrink_to(BATCH_ARGS_KEPT);
            self.scratch.shrink_to(BATCH_SCRATCH_KEPT);
        }
        self.bigs.clear();
        self.consumed = 0;
        self.blank_line = false;
    }
}

/// For those who find the commands in a buffer of theirs: the reader of the command log.
impl Batch {
    /// Adds an argument to the command that is being put together: `len` bytes of the buffer.
    #[inline]
    pub fn push(&mut self, start: usize, len: usize) {
        self.args.push(Arg { start, len });
    }

    /// Adds one that has a buffer to itself.
    pub fn push_big(&mut self, arg: Bytes) {
        let (start, len) = (IS_BIG | self.bigs.len(), arg.len());
        self.args.push(Arg { start, len });
        self.bigs.push(arg);
    }

    /// The command is whole, and ends there in the buffer.
    #[inline]
    pub fn close(&mut self, end: usize) {
        let args = self.closed()..self.args.len();
        let inline = false;
        self.cmds.push(Cmd { args, end, inline });
        self.consumed = end;
    }

    /// Forgets what was put together of a command.
    pub fn drop_unfinished(&mut self) {
        self.args.truncate(self.closed());
    }

    /// The buffer has lost its first `n` bytes, which no command has arguments in.
    pub fn moved(&mut self, n: usize) {
        for arg in self.args.iter_mut().filter(|arg| arg.start & IS_BIG == 0) {
            arg.start = arg.start.saturating_sub(n);
        }
    }

    fn closed(&self) -> usize {
        self.cmds.last().map_or(0, |cmd| cmd.args.end)
    }
}

/// The arguments of one command, borrowed from the query buffer and the batch.
#[derive(Clone, Copy)]
pub struct Argv<'a> {
    args: &'a [Arg],
    buf: &'a [u8],
    scratch: &'a [u8],
    bigs: &'a [Bytes],
}

impl<'a> Argv<'a> {
    #[inline]
    pub fn len(&self) -> usize {
        self.args.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// Argument `i`, if there are so many.
    #[inline]
    pub fn get(&self, i: usize) -> Option<&'a [u8]> {
        self.args.get(i).map(|&arg| self.resolve(arg))
    }

    /// Argument `i` as an owned buffer, if it is a big one: to be kept without a copy.
    pub fn big(&self, i: usize) -> Option<&'a Bytes> {
        let arg = self.args.get(i)?;
        if arg.start & IS_BIG == 0 {
            None
        } else {
            self.bigs.get(arg.start & !IS_BIG)
        }
    }

    /// All arguments in order.
    pub fn iter(
        &self,
    ) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone + use<'a> {
        let all = *self;
        self.args.iter().map(move |&arg| all.resolve(arg))
    }

    /// The arguments from `n` on.
    #[inline]
    pub fn skip(&self, n: usize) -> Argv<'a> {
        Argv {
            args: self.args.get(n..).unwrap_or(&[]),
            ..*self
        }
    }

    /// Sum of the arguments' lengths.
    pub fn bytes(&self) -> usize {
        self.args.iter().map(|arg| arg.len).sum()
    }

    #[inline]
    fn resolve(&self, arg: Arg) -> &'a [u8] {
        if arg.start & (IN_SCRATCH | IS_BIG) == 0 {
            &self.buf[arg.start..arg.start + arg.len]
        } else if arg.start & IS_BIG != 0 {
            &self.bigs[arg.start & !IS_BIG]
        } else {
            let start = arg.start & !IN_SCRATCH;
            &self.scratch[start..start + arg.len]
        }
    }
}

impl Index<usize> for Argv<'_> {
    type Output = [u8];

    /// Panics where there are not so many arguments: for those that the arity check vouches for.
    #[inline]
    fn index(&self, i: usize) -> &[u8] {
        self.resolve(self.args[i])
    }
}

impl fmt::Debug for Argv<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|arg| arg.escape_ascii().to_string()))
            .finish()
    }
}
