//! The request parser: a connection's query buffer in, commands as spans of that buffer out.
//!
//! Nothing is copied and, in the steady state, nothing allocated: a [`Batch`] holds up to so many complete commands
//! as (start, length) pairs, and is used again for the next buffer. The contract with the caller is short:
//!
//! - The buffer begins at a command. The caller runs as many of the batch's commands as it likes, drops the bytes
//!   up to the last one's `end` (or, having run all, [`Batch::consumed`]), and later calls again with what is left
//!   and what was read since.
//! - Only whole commands are parsed ahead. A protocol error or a big argument is reported when it is the first
//!   thing in the buffer, after everything before it ran; so it never has to be taken back when one of the
//!   commands before it (AUTH, say) changes the rules.
//!
//! An unfinished command is parsed again from its start on the next call, unless it already has many arguments:
//! then the parser keeps its place, so that a command of a million arguments takes linear time. A parser that
//! keeps no place is one null pointer.
//!
//! *Big arguments.* When an argument of 32 KB or more is not all there, its bytes should not pass through the query
//! buffer. The parser says where it begins ([`Step::Big`]); the caller cuts the buffer there, reads the argument and
//! its CRLF into a buffer made for it, and hands that in with [`Parser::supply_big`]. The rest of the command follows
//! in the query buffer, behind the cut.
//!
//! Two forms exist: `*N` arrays of `$L` bulk strings, and inline, a line of words (see `base::quoted`). Lengths must be
//! written strictly; the line end is found by its CR alone and the byte behind it is not looked at, as Redis does.
//! A zero byte hides a line end behind it from Redis (C strings), and so it does here.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memchr2;

use crate::base::number::parse_i64;
use crate::base::quoted;
use crate::resp::argv::{Arg, Cmd, IN_SCRATCH, IS_BIG};

pub use crate::resp::argv::{Argv, Batch};

/// A request line longer than this without an end is refused.
const LINE_MAX: usize = 64 * 1024;
/// What a client may send before it is authenticated.
const UNAUTH_ARGS_MAX: i64 = 10;
const UNAUTH_BULK_MAX: i64 = 16384;
/// An unfinished command with more arguments than this keeps its place; a shorter one is parsed again.
const REPARSE_ARGS_MAX: usize = 16;

/// What a connection may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `proto-max-bulk-len`; `i64::MAX` for a master link.
    pub max_bulk_len: i64,
    /// Whether the client needs no (further) authentication.
    pub authenticated: bool,
    /// From this size on an argument is read into a buffer of its own; `usize::MAX` for a master link, whose bytes
    /// go on to the backlog as they came.
    pub big_arg: usize,
}

impl Limits {
    /// From here on an argument is big.
    pub const BIG_ARG: usize = 32 * 1024;
}

/// A violation of the protocol. The connection gets [`ProtocolError::reply`] and is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    InlineTooBig,
    UnbalancedQuotes,
    MultibulkCountTooBig,
    MultibulkLength,
    MultibulkUnauthenticated,
    BulkCountTooBig,
    /// Something else stood where `$` was due.
    ExpectedDollar(u8),
    BulkLength,
    BulkUnauthenticated,
}

impl ProtocolError {
    /// The error reply, without its leading `-`.
    pub fn reply(self) -> Cow<'static, [u8]> {
        Cow::Borrowed(match self {
            Self::InlineTooBig => b"ERR Protocol error: too big inline request",
            Self::UnbalancedQuotes => b"ERR Protocol error: unbalanced quotes in request",
            Self::MultibulkCountTooBig => b"ERR Protocol error: too big mbulk count string",
            Self::MultibulkLength => b"ERR Protocol error: invalid multibulk length",
            Self::MultibulkUnauthenticated => {
                b"ERR Protocol error: unauthenticated multibulk length"
            }
            Self::BulkCountTooBig => b"ERR Protocol error: too big bulk count string",
            Self::BulkLength => b"ERR Protocol error: invalid bulk length",
            Self::BulkUnauthenticated => b"ERR Protocol error: unauthenticated bulk length",
            Self::ExpectedDollar(got) => {
                let mut text = b"ERR Protocol error: expected '$', got '".to_vec();
                text.extend_from_slice(&[got, b'\'']);
                return Cow::Owned(text);
            }
        })
    }

    /// What the log says of it: `Protocol error (<this>) from client: ...`.
    pub fn log_reason(self) -> &'static str {
        match self {
            Self::InlineTooBig => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in inline request",
            Self::MultibulkCountTooBig => "too big mbulk count string",
            Self::MultibulkLength => "invalid mbulk count",
            Self::MultibulkUnauthenticated => "unauth mbulk count",
            Self::BulkCountTooBig => "too big bulk count string",
            Self::ExpectedDollar(_) => "expected $ but got something else",
            Self::BulkLength => "invalid bulk length",
            Self::BulkUnauthenticated => "unauth bulk length",
        }
    }
}

/// Why the parser stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The buffer holds no further whole command: read more.
    NeedMore,
    /// There is more to see in the buffer once this batch (which may hold no command, only skipped bytes) is dropped.
    Again,
    /// The argument beginning at `at` has `len` bytes and is not all there. The batch is empty. Take `buf[at..]` out of
    /// the buffer, complete it to `len + 2` bytes, and hand it in with [`Parser::supply_big`].
    Big { at: usize, len: usize },
    /// The buffer begins with this. The batch is empty.
    Error(ProtocolError),
}

/// An unfinished array at the front of the buffer.
struct Place {
    args: Vec<Arg>,
    bigs: Vec<Bytes>,
    /// Arguments still to come.
    left: usize,
    /// Where the next argument's header begins; where a big argument is due, where its bytes begin.
    pos: usize,
    /// Length of the big argument that is due.
    big: Option<usize>,
}

/// A connection's parser. See the head of this file for how to use it.
#[derive(Default)]
pub struct Parser {
    place: Option<Box<Place>>,
}

/// What stands at the front of some bytes.
enum Found {
    Command(Cmd),
    /// An empty request: go on behind it.
    Empty {
        end: usize,
    },
    Part,
    Big {
        at: usize,
        len: usize,
    },
    Error(ProtocolError),
}

/// A number line: its value and where the next line begins.
struct Line {
    value: i64,
    next: usize,
}

impl Parser {
    pub fn new() -> Parser {
        Parser::default()
    }

    /// Fills `batch` with at most `max_cmds` commands from the front of `buf`.
    pub fn parse(
        &mut self,
        buf: &[u8],
        batch: &mut Batch,
        limits: &Limits,
        max_cmds: usize,
    ) -> Step {
        batch.clear();
        let mut at = 0;
        while (at < buf.len() || self.place.is_some()) && batch.cmds.len() < max_cmds {
            if self.place.is_none()
                && let Some(end) = short_array(buf, at, batch)
            {
                at = end;
                batch.consumed = end;
                continue;
            }
            let found = match buf.get(at) {
                _ if self.place.is_some() => self.multibulk(buf, at, batch, limits),
                Some(b'*') => self.multibulk(buf, at, batch, limits),
                _ => inline(buf, at, batch),
            };
            match found {
                Found::Command(cmd) => {
                    at = cmd.end;
                    batch.cmds.push(cmd);
                }
                Found::Empty { end } => at = end,
                Found::Part => return Step::NeedMore,
                // Only what stands at the front is final.
                _ if at > 0 => return Step::Again,
                Found::Big { at, len } => return Step::Big { at, len },
                Found::Error(error) => return Step::Error(error),
            }
            batch.consumed = at;
        }
        if at < buf.len() {
            Step::Again
        } else {
            Step::NeedMore
        }
    }

    /// Hands in the big argument that [`Step::Big`] asked for; bytes behind its length (the CRLF) are cut off.
    /// The query buffer must end, for now, where the argument began.
    pub fn supply_big(&mut self, mut bytes: Bytes) {
        let place = self.place.as_mut().expect("no big argument is due");
        let len = place.big.take().expect("no big argument is due");
        assert!(bytes.len() >= len, "a big argument came short");
        bytes.truncate(len);
        place.args.push(Arg {
            start: place.bigs.len() | IS_BIG,
            len,
        });
        place.bigs.push(bytes);
        place.left -= 1;
    }

    /// Whether a command is unfinished (beyond what stands in the buffer).
    pub fn is_midway(&self) -> bool {
        self.place.is_some()
    }

    /// How many bytes at the front of the buffer are arguments already, of a command that is unfinished.
    pub fn parsed(&self) -> usize {
        self.place.as_ref().map_or(0, |place| place.pos)
    }

    /// Memory held: arguments kept for an unfinished command.
    pub fn memory(&self) -> usize {
        self.place.as_ref().map_or(0, |place| {
            let bigs: usize = place.bigs.iter().map(Bytes::len).sum();
            size_of::<Place>() + place.args.capacity() * size_of::<Arg>() + bigs
        })
    }

    /// An array that begins at `at`, or the rest of the one whose place was kept.
    fn multibulk(&mut self, buf: &[u8], at: usize, batch: &mut Batch, limits: &Limits) -> Found {
        let first = batch.args.len();
        let begun = match self.place.take() {
            Some(place) => self.take_up(place, batch),
            None => begin_array(buf, at, batch, limits),
        };
        let (mut pos, mut left) = match begun {
            Ok(begun) => begun,
            Err(found) => return found,
        };
        let mut stop = Found::Part;
        while left > 0 {
            let line = match bulk_header(buf, pos, limits) {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => {
                    stop = Found::Error(error);
                    break;
                }
            };
            let len = line.value as usize;
            // The payload and its CRLF, whose bytes are not looked at.
            if buf.len() - line.next < 2 || buf.len() - line.next - 2 < len {
                if len >= limits.big_arg {
                    pos = line.next;
                    stop = Found::Big { at: pos, len };
                }
                break;
            }
            batch.args.push(Arg {
                start: line.next,
                len,
            });
            pos = line.next + len + 2;
            left -= 1;
        }
        if left == 0 {
            return Found::Command(Cmd {
                args: first..batch.args.len(),
                end: pos,
                inline: false,
            });
        }
        if at == 0 {
            self.keep_place(pos, left, &stop, batch);
        }
        batch.args.truncate(first);
        stop
    }

    /// Goes on where the last call stopped: what it found moves back into the batch.
    fn take_up(&mut self, place: Box<Place>, batch: &mut Batch) -> Result<(usize, usize), Found> {
        if let Some(len) = place.big {
            let at = place.pos;
            self.place = Some(place);
            return Err(Found::Big { at, len });
        }
        batch.args = place.args;
        batch.bigs = place.bigs;
        Ok((place.pos, place.left))
    }

    /// Remembers how far the command at the front of the buffer has come, if that is worth it.
    fn keep_place(&mut self, pos: usize, left: usize, stop: &Found, batch: &mut Batch) {
        let big = match stop {
            Found::Big { len, .. } => Some(*len),
            Found::Part if batch.args.len() > REPARSE_ARGS_MAX || !batch.bigs.is_empty() => None,
            _ => return,
        };
        let (args, bigs) = (
            std::mem::take(&mut batch.args),
            std::mem::take(&mut batch.bigs),
        );
        self.place = Some(Box::new(Place {
            args,
            bigs,
            left,
            pos,
            big,
        }));
    }
}

/// The head of an array: where its first argument begins and how many there are.
#[inline]
fn begin_array(
    buf: &[u8],
    at: usize,
    batch: &mut Batch,
    limits: &Limits,
) -> Result<(usize, usize), Found> {
    match array_header(buf, at, limits) {
        Ok(Some(line)) if line.value <= 0 => Err(Found::Empty { end: line.next }),
        Ok(Some(line)) => {
            batch.args.reserve(line.value.min(1024) as usize);
            Ok((line.next, line.value as usize))
        }
        Ok(None) => Err(Found::Part),
        Err(error) => Err(Found::Error(error)),
    }
}

/// The first `wanted` in `line`, unless a zero byte hides it.
fn find_end(line: &[u8], wanted: u8) -> Option<usize> {
    memchr2(wanted, 0, line).filter(|&i| line[i] == wanted)
}

/// Reads digits up to a CR and steps over the byte behind it. `None` where anything is unusual.
#[inline(always)]
fn short_number(buf: &[u8], start: usize) -> Option<Line> {
    // Nearly every number has one digit or two.
    if let Some(&[a, b, c, _]) = buf
        .get(start..start + 4)
        .and_then(|head| head.first_chunk())
    {
        let (a, d) = (a.wrapping_sub(b'0'), b.wrapping_sub(b'0'));
        if a <= 9 && b == b'\r' {
            return Some(Line {
                value: i64::from(a),
                next: start + 3,
            });
        }
        if (1..=9).contains(&a) && d <= 9 && c == b'\r' {
            return Some(Line {
                value: i64::from(a * 10 + d),
                next: start + 4,
            });
        }
    }
    long_number(buf, start)
}

fn long_number(buf: &[u8], start: usize) -> Option<Line> {
    let mut value = 0i64;
    let mut pos = start;
    loop {
        let digit = buf.get(pos)?.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value * 10 + i64::from(digit);
        pos += 1;
        if pos - start > 9 {
            return None;
        }
    }
    let strict = pos > start && (buf[start] != b'0' || pos == start + 1);
    (strict && buf[pos] == b'\r' && pos + 1 < buf.len()).then_some(Line {
        value,
        next: pos + 2,
    })
}

/// The line that begins at `at`, split off at its CR: its bytes behind the first one, and where the next begins.
fn number_line(
    buf: &[u8],
    at: usize,
    too_big: ProtocolError,
) -> Result<Option<(&[u8], usize)>, ProtocolError> {
    let rest = &buf[at..];
    match find_end(rest, b'\r') {
        None if rest.len() > LINE_MAX => Err(too_big),
        Some(end) if end + 2 <= rest.len() => Ok(Some((&rest[1.min(end)..end], at + end + 2))),
        _ => Ok(None),
    }
}

#[inline]
fn array_header(buf: &[u8], at: usize, limits: &Limits) -> Result<Option<Line>, ProtocolError> {
    let line = match short_number(buf, at + 1) {
        Some(line) => line,
        None => {
            let Some((digits, next)) = number_line(buf, at, ProtocolError::MultibulkCountTooBig)?
            else {
                return Ok(None);
            };
            let value = parse_i64(digits).ok_or(ProtocolError::MultibulkLength)?;
            Line { value, next }
        }
    };
    if line.value > i64::from(i32::MAX) {
        return Err(ProtocolError::MultibulkLength);
    }
    if line.value > UNAUTH_ARGS_MAX && !limits.authenticated {
        return Err(ProtocolError::MultibulkUnauthenticated);
    }
    Ok(Some(line))
}

/// Adds the array that begins at `at` to the batch, if it is as nearly every request: up to nine arguments, whose
/// lengths have two digits at most, all there. No limit is so low that it would have to be asked. Gives where it ends.
#[inline]
fn short_array(buf: &[u8], at: usize, batch: &mut Batch) -> Option<usize> {
    let mut rest = buf.get(at..)?;
    let &[b'*', count @ b'1'..=b'9', b'\r', _] = rest.first_chunk()? else {
        return None;
    };
    rest = &rest[4..];
    let first = batch.args.len();
    for _ in b'0'..count {
        let after = short_bulk(rest).and_then(|(start, len)| {
            let start_in_buf = buf.len() - rest.len() + start;
            // The two bytes of the line end are not looked at.
            let after = rest.get(start + len + 2..)?;
            batch.args.push(Arg {
                start: start_in_buf,
                len,
            });
            Some(after)
        });
        let Some(after) = after else {
            batch.args.truncate(first);
            return None;
        };
        rest = after;
    }
    let end = buf.len() - rest.len();
    batch.cmds.push(Cmd {
        args: first..batch.args.len(),
        end,
        inline: false,
    });
    Some(end)
}

/// Where the text of a bulk string begins and how long it is, if its length has one digit or two.
#[inline(always)]
fn short_bulk(bulk: &[u8]) -> Option<(usize, usize)> {
    // Four bytes in a word: the same two of them are looked at together.
    let head = u32::from_le_bytes(*bulk.first_chunk()?);
    let digit = |at: u32| ((head >> (8 * at)) as u8).wrapping_sub(b'0');
    let (a, b) = (digit(1), digit(2));
    if head & 0x00ff_00ff == u32::from_le_bytes(*b"$\0\r\0") && a <= 9 {
        return Some((4, usize::from(a)));
    }
    let two = head & 0xff00_00ff == u32::from_le_bytes(*b"$\0\0\r");
    (two && (1..=9).contains(&a) && b <= 9).then(|| (5, usize::from(a) * 10 + usize::from(b)))
}

#[inline]
fn bulk_header(buf: &[u8], at: usize, limits: &Limits) -> Result<Option<Line>, ProtocolError> {
    let dollar = buf.get(at) == Some(&b'$');
    let line = match short_number(buf, at + 1) {
        Some(line) if dollar => line,
        _ => {
            let Some((digits, next)) = number_line(buf, at, ProtocolError::BulkCountTooBig)? else {
                return Ok(None);
            };
            if !dollar {
                return Err(ProtocolError::ExpectedDollar(buf[at]));
            }
            let value = parse_i64(digits).ok_or(ProtocolError::BulkLength)?;
            Line { value, next }
        }
    };
    if line.value < 0 || line.value > limits.max_bulk_len {
        return Err(ProtocolError::BulkLength);
    }
    if line.value > UNAUTH_BULK_MAX && !limits.authenticated {
        return Err(ProtocolError::BulkUnauthenticated);
    }
    Ok(Some(line))
}

/// A line of words.
fn inline(buf: &[u8], at: usize, batch: &mut Batch) -> Found {
    let rest = &buf[at..];
    let Some(newline) = find_end(rest, b'\n') else {
        return if rest.len() > LINE_MAX {
            Found::Error(ProtocolError::InlineTooBig)
        } else {
            Found::Part
        };
    };
    let end = at + newline + 1;
    let line = &rest[..newline];
    let mut line = line.strip_suffix(b"\r").unwrap_or(line);
    batch.blank_line |= line.is_empty();
    let first = batch.args.len();
    loop {
        let start = batch.scratch.len();
        match quoted::take_arg(line, &mut batch.scratch) {
            Ok(Some(rest)) => line = rest,
            Ok(None) => break,
            Err(quoted::Unbalanced) => {
                batch.args.truncate(first);
                return Found::Error(ProtocolError::UnbalancedQuotes);
            }
        }
        batch.args.push(Arg {
            start: start | IN_SCRATCH,
            len: batch.scratch.len() - start,
        });
    }
    if batch.args.len() == first {
        return Found::Empty { end };
    }
    Found::Command(Cmd {
        args: first..batch.args.len(),
        end,
        inline: true,
    })
}

/// Adds a command as a client sends it, in its multibulk form.
pub fn append_command<T: AsRef<[u8]>>(args: &[T], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const OPEN: Limits = Limits {
        max_bulk_len: 512 << 20,
        authenticated: true,
        big_arg: Limits::BIG_ARG,
    };

    #[derive(Debug, PartialEq, Default)]
    struct Heard {
        commands: Vec<Vec<Vec<u8>>>,
        error: Option<ProtocolError>,
        /// Arguments that came in a buffer of their own.
        bigs: usize,
    }

    /// Plays the network: feeds `input` cut at `cuts`, runs `run` commands of each batch, reads big arguments aside.
    fn hear(input: &[u8], cuts: &[usize], limits: &Limits, max_cmds: usize, run: usize) -> Heard {
        let (mut parser, mut batch, mut heard) = (Parser::new(), Batch::new(), Heard::default());
        let mut buf = Vec::new();
        let mut big: Option<(Vec<u8>, usize)> = None;
        let mut from = 0;
        for to in cuts
            .iter()
            .map(|cut| cut % (input.len() + 1))
            .chain([input.len()])
        {
            if to <= from {
                continue;
            }
            let mut piece = &input[from..to];
            from = to;
            if let Some((bytes, len)) = &mut big {
                let n = piece.len().min(*len + 2 - bytes.len());
                bytes.extend_from_slice(&piece[..n]);
                piece = &piece[n..];
                if bytes.len() < *len + 2 {
                    continue;
                }
                parser.supply_big(Bytes::from(std::mem::take(bytes)));
                heard.bigs += 1;
                big = None;
            }
            buf.extend_from_slice(piece);
            loop {
                let step = parser.parse(&buf, &mut batch, limits, max_cmds);
                let n = batch.len().min(run);
                for i in 0..n {
                    let argv = batch.argv(i, &buf);
                    let args: Vec<_> = argv.iter().map(<[u8]>::to_vec).collect();
                    heard.commands.push(args);
                }
                let partly = n < batch.len();
                buf.drain(
                    ..if partly {
                        batch.end(n - 1)
                    } else {
                        batch.consumed()
                    },
                );
                match step {
                    _ if partly => {}
                    Step::NeedMore => break,
                    Step::Again => {}
                    Step::Error(error) => {
                        heard.error = Some(error);
                        return heard;
                    }
                    Step::Big { at, len } => {
                        assert!(batch.is_empty() && batch.consumed() == 0);
                        big = Some((buf.split_off(at), len));
                        break;
                    }
                }
            }
        }
        heard
    }

    fn whole(input: &[u8]) -> Heard {
        hear(input, &[], &OPEN, 64, 64)
    }

    fn encode(args: &[Vec<u8>], out: &mut Vec<u8>) {
        out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
        for arg in args {
            out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            out.extend_from_slice(arg);
            out.extend_from_slice(b"\r\n");
        }
    }

    #[test]
    fn errors() {
        let closed = Limits {
            authenticated: false,
            ..OPEN
        };
        let long = vec![b'1'; LINE_MAX + 1];
        let cases: Vec<(Vec<u8>, Option<&str>)> = vec![
            (
                b"*3\r\n$3\r\nfoo\r\n+bar\r\n".to_vec(),
                Some("expected '$', got '+'"),
            ),
            (b"*1\r\n\rx".to_vec(), Some("expected '$', got '\r'")),
            (b"*x\r\n".to_vec(), Some("invalid multibulk length")),
            (b"*\r\n".to_vec(), Some("invalid multibulk length")),
            (b"*01\r\n".to_vec(), Some("invalid multibulk length")),
            (
                b"*2147483648\r\n".to_vec(),
                Some("invalid multibulk length"),
            ),
            (b"*1\r\n$-1\r\n".to_vec(), Some("invalid bulk length")),
            (
                b"*1\r\n$536870913\r\n".to_vec(),
                Some("invalid bulk length"),
            ),
            (b"*1\r\n$1x\r\n".to_vec(), Some("invalid bulk length")),
            (
                b"set \"a\r\n".to_vec(),
                Some("unbalanced quotes in request"),
            ),
            (long.clone(), Some("too big inline request")),
            (
                [b"*", &long[..]].concat(),
                Some("too big mbulk count string"),
            ),
            (
                [b"*1\r\n$", &long[..]].concat(),
                Some("too big bulk count string"),
            ),
            // A zero byte hides the line end.
            (
                [b"\0\r\n", &long[..]].concat(),
                Some("too big inline request"),
            ),
            (
                [b"*\0\r\n", &long[..]].concat(),
                Some("too big mbulk count string"),
            ),
            (b"*1\r".to_vec(), None),
            (b"*2147483647\r\n".to_vec(), None),
            (b"*-9\r\n*0\r\n\r\n\n  \r\n".to_vec(), None),
        ];
        for (input, want) in cases {
            let text = whole(&input)
                .error
                .map(|e| String::from_utf8_lossy(&e.reply()).into_owned());
            assert_eq!(
                text,
                want.map(|w| format!("ERR Protocol error: {w}")),
                "{:?}",
                input.escape_ascii().to_string()
            );
        }
        for (input, want) in [
            (&b"*11\r\n"[..], ProtocolError::MultibulkUnauthenticated),
            (b"*1\r\n$16385\r\n", ProtocolError::BulkUnauthenticated),
        ] {
            assert_eq!(hear(input, &[], &closed, 64, 64).error, Some(want));
        }
        assert_eq!(hear(b"*10\r\n$16384\r\n", &[], &closed, 64, 64).error, None);
    }

    #[test]
    fn what_redis_does_not_look_at() {
        assert_eq!(
            whole(b"*1\rX$2\rYokZZping\n").commands,
            [vec![b"ok".to_vec()], vec![b"ping".to_vec()]]
        );
    }

    /// An error behind good commands waits for them, and for what they change.
    #[test]
    fn error_is_reported_at_the_front() {
        let (mut parser, mut batch) = (Parser::new(), Batch::new());
        let closed = Limits {
            authenticated: false,
            ..OPEN
        };
        let input = b"*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n*11\r\n";
        assert_eq!(parser.parse(input, &mut batch, &closed, 64), Step::Again);
        assert_eq!(batch.len(), 1);
        let rest = &input[batch.end(0)..];
        assert_eq!(parser.parse(rest, &mut batch, &OPEN, 64), Step::NeedMore);
    }

    #[test]
    fn idle_is_small() {
        assert!(size_of::<Parser>() <= 8);
        assert!(size_of::<Arg>() == 16);
    }

    /// A command of very many arguments that comes in pieces is read once.
    #[test]
    fn many_arguments_take_linear_time() {
        let mut input = Vec::new();
        encode(&vec![b"x".to_vec(); 300_000], &mut input);
        let cuts: Vec<usize> = (0..input.len()).step_by(1000).collect();
        let heard = hear(&input, &cuts, &OPEN, 64, 64);
        assert_eq!(
            (heard.commands.len(), heard.commands[0].len()),
            (1, 300_000)
        );
    }

    #[test]
    fn big_argument_goes_its_own_way() {
        let mut input = Vec::new();
        let args = [
            b"SET".to_vec(),
            b"key".to_vec(),
            vec![b'v'; 40_000],
            b"EX".to_vec(),
            vec![b'w'; 50_000],
        ];
        encode(&args, &mut input);
        encode(&[b"PING".to_vec()], &mut input);
        let cuts: Vec<usize> = (0..input.len()).step_by(16 * 1024).collect();
        let heard = hear(&input, &cuts, &OPEN, 64, 64);
        assert_eq!(heard.commands, [args.to_vec(), vec![b"PING".to_vec()]]);
        assert_eq!(heard.bigs, 2);
        assert_eq!(whole(&input).bigs, 0);
    }

    fn noise() -> impl Strategy<Value = Vec<u8>> {
        let token = prop_oneof![
            Just(b"*".to_vec()),
            Just(b"$".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"*1\r\n".to_vec()),
            Just(b"*2\r\n$1\r\na\r\n".to_vec()),
            Just(b"$3\r\nabc\r\n".to_vec()),
            Just(b"*-1\r\n".to_vec()),
            Just(b"\"".to_vec()),
            Just(b"' ".to_vec()),
            Just(b"\0".to_vec()),
            vec(any::<u8>(), 0..4),
            "[0-9]{1,2}".prop_map(String::into_bytes),
        ];
        vec(token, 0..40).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        /// Noise never panics and is heard the same however it arrives and however far the batches reach.
        #[test]
        fn noise_is_heard_the_same(input in noise(), mut cuts in vec(any::<usize>(), 0..20), max in 1usize..5, run in 1usize..5) {
            let limits = Limits { big_arg: 4, ..OPEN };
            let at_once = hear(&input, &[], &limits, 64, 64);
            for cut in &mut cuts {
                *cut %= input.len() + 1;
            }
            cuts.sort_unstable();
            let in_pieces = hear(&input, &cuts, &limits, max, run);
            prop_assert_eq!(&at_once.commands, &in_pieces.commands);
            prop_assert_eq!(at_once.error, in_pieces.error);
            let all: Vec<usize> = (0..input.len()).collect();
            let by_bytes = hear(&input, &all, &limits, max, run);
            prop_assert_eq!(&at_once.commands, &by_bytes.commands);
            prop_assert_eq!(at_once.error, by_bytes.error);
        }

        #[test]
        fn pipelines_come_through(
            commands in vec(vec(vec(any::<u8>(), 0..30), 1..25), 0..12),
            mut cuts in vec(any::<usize>(), 0..20), big_arg in 1usize..40, run in 1usize..9,
        ) {
            let mut input = Vec::new();
            for args in &commands {
                encode(args, &mut input);
            }
            for cut in &mut cuts {
                *cut %= input.len() + 1;
            }
            cuts.sort_unstable();
            let limits = Limits { big_arg, ..OPEN };
            let heard = hear(&input, &cuts, &limits, 8, run);
            prop_assert_eq!(heard.error, None);
            prop_assert_eq!(heard.commands, commands);
        }
    }
}
