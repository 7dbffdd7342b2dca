//! Reading a log of commands, some at a time.
//!
//! A [`Reader`] takes large pieces of a file and finds the commands in them, as [`resp::request`](crate::resp::request) does
//! in what clients send, and into the same [`Batch`]: arguments stay where they are. A step gives those that lie whole in
//! its buffer, up to a number, so that whoever runs them can look at the clock in between.
//!
//! # What is a log
//! Redis reads it more freely than a request: lengths are whatever number a line begins with, a line may end without `\r`,
//! and the two bytes behind an argument may be any. So do we, since what Redis has loaded must load here. Nothing but `*`,
//! `$` and `#` may begin a line: that is a *format error*, which no crash explains.
//!
//! # Where it ends
//! A crash leaves a log that ends inside of a command, or of a transaction. Both are told apart from errors, with the place
//! up to which all is whole: before the command, and before the MULTI if that has no EXEC. To end there is what a server
//! does with it (`aof-load-truncated`).
//!
//! # Trust
//! A length is a claim. Memory is taken as bytes arrive; if it is known how long the file is, what claims to go beyond its end
//! is known to be cut without reading so far. An argument of 32 KB or more that is not all there is read into a buffer of its
//! own, which can be stored as it is.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

use bytes::Bytes;

use crate::base::number::leading_i64;
use crate::resp::argv::Batch;
use crate::resp::request::Limits;

/// What is read at a time, unless a command is larger.
const BUFFER_BYTES: usize = 256 * 1024;
/// The longest line; what is over is the next one.
const LINE_MAX: usize = 1023;
/// Of an argument that may claim any length, so much is made room for before it has arrived.
const UNPROVEN_MAX: usize = 1 << 20;

/// What a step has found.
#[derive(Debug)]
pub enum Step<'a> {
    /// [`Reader::batch`] has commands, at least one.
    Commands,
    /// A line that begins with `#`, as it stands; [`timestamp`] knows the kind there is.
    Annotation(&'a [u8]),
    End(End),
}

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    /// Inside of a command. Everything before `good_to` is whole.
    Cut {
        good_to: u64,
    },
    /// Inside of a transaction, which began at `good_to`; its commands as such are whole.
    OpenMulti {
        good_to: u64,
    },
}

/// Why no further command can be read.
#[derive(Debug)]
pub enum Error {
    Io(io::Error),
    /// What stands at this offset begins no command or argument.
    Format {
        offset: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(error) => error.fmt(f),
            Error::Format { offset } => write!(f, "no command at offset {offset}"),
        }
    }
}

impl std::error::Error for Error {}

/// The time that an annotation tells, Unix time in seconds.
pub fn timestamp(annotation: &[u8]) -> Option<i64> {
    let text = annotation.strip_prefix(b"#TS:")?;
    match leading_i64(text) {
        (at_s, end) if end > 0 && text.get(end) == Some(&b'\r') => Some(at_s),
        _ => None,
    }
}

/// A command of which some arguments were read.
struct Begun {
    /// Where it begins in the file, and in the buffer.
    offset: u64,
    start: usize,
    /// Arguments still to come.
    left: usize,
}

enum Parsed {
    Command,
    Annotation(Range<usize>),
    /// More has to arrive first.
    Unfinished,
    /// More would have to arrive than there can be.
    Cut,
}

/// See the head of the file.
pub struct Reader<R> {
    from: R,
    buffer: Vec<u8>,
    /// The next byte in the buffer, and the end of what has arrived.
    at: usize,
    end: usize,
    /// Offset of the buffer's first byte in the file.
    base: u64,
    /// How long the file is, if that is known.
    len: Option<u64>,
    /// Nothing more will arrive.
    at_eof: bool,
    batch: Batch,
    begun: Option<Begun>,
    /// Where the transaction began that has not ended yet.
    multi: Option<u64>,
    /// Everything before is whole.
    good_to: u64,
    ended: Option<End>,
}

impl<R: Read> Reader<R> {
    /// A reader of `from`, a file of `len` bytes if that is known.
    pub fn new(from: R, len: Option<u64>) -> Reader<R> {
        Reader::resumed(Vec::new(), from, 0, len)
    }

    /// A reader of what follows in a file at `offset`: `rest`, which someone has read already, and then `from`.
    pub fn resumed(rest: Vec<u8>, from: R, offset: u64, len: Option<u64>) -> Reader<R> {
        Reader::with_room(BUFFER_BYTES, rest, from, offset, len)
    }

    fn with_room(room: usize, rest: Vec<u8>, from: R, offset: u64, len: Option<u64>) -> Reader<R> {
        let end = rest.len();
        let mut buffer = rest;
        buffer.resize(end.max(room), 0);
        Reader {
            from,
            buffer,
            at: 0,
            end,
            base: offset,
            len,
            at_eof: false,
            batch: Batch::new(),
            begun: None,
            multi: None,
            good_to: offset,
            ended: None,
        }
    }

    /// Whether the file begins as an RDB file does. To be asked before the first step; it may then be read as one, from
    /// [`into_rest`](Self::into_rest).
    pub fn begins_with_rdb(&mut self) -> io::Result<bool> {
        const MAGIC: &[u8] = b"REDIS";
        while self.end - self.at < MAGIC.len() && !self.at_eof {
            self.fill()?;
        }
        Ok(self.buffer[self.at..self.end].starts_with(MAGIC))
    }

    /// What has arrived and was not read, and where more comes from.
    pub fn into_rest(mut self) -> (Vec<u8>, R) {
        self.buffer.truncate(self.end);
        self.buffer.drain(..self.at);
        (self.buffer, self.from)
    }

    /// Bytes of the file that were read, up to the end of the last command found.
    pub fn offset(&self) -> u64 {
        self.offset_of(self.at)
    }

    /// The commands that the last step found, and the buffer in which their arguments are.
    pub fn batch(&self) -> (&Batch, &[u8]) {
        (&self.batch, &self.buffer)
    }

    /// The place in the file of a place in the buffer, such as [`Batch::end`] gives.
    pub fn offset_of(&self, at: usize) -> u64 {
        self.base + at as u64
    }

    /// Finds up to `most` commands, or what else comes next. May be called again at the end, and after no error.
    pub fn step(&mut self, most: usize) -> Result<Step<'_>, Error> {
        self.batch.clear();
        if let Some(end) = self.ended {
            return Ok(Step::End(end));
        }
        loop {
            let parsed = match self.parse() {
                // It is met again, as the first.
                Err(Error::Format { .. }) if !self.batch.is_empty() => Parsed::Unfinished,
                parsed => parsed?,
            };
            match parsed {
                Parsed::Command if self.batch.len() >= most => return Ok(Step::Commands),
                Parsed::Command => {}
                Parsed::Annotation(line) if self.batch.is_empty() => {
                    return Ok(Step::Annotation(&self.buffer[line]));
                }
                _ if !self.batch.is_empty() => {
                    self.batch.drop_unfinished();
                    self.begun = None;
                    self.at = self.batch.consumed();
                    return Ok(Step::Commands);
                }
                // (At the end it is looked at once more: what is there is all of the line.)
                Parsed::Unfinished if !self.at_eof => self.fill().map_err(Error::Io)?,
                Parsed::Annotation(_) | Parsed::Unfinished | Parsed::Cut => {
                    return Ok(Step::End(self.end()));
                }
            }
        }
    }

    fn end(&mut self) -> End {
        let good_to = self.good_to;
        let is_cut = self.begun.take().is_some() || self.at < self.end;
        let end = match (is_cut, self.multi) {
            (true, _) => End::Cut { good_to },
            (false, Some(_)) => End::OpenMulti { good_to },
            (false, None) => End::Whole,
        };
        self.batch.clear();
        self.at = self.end;
        *self.ended.insert(end)
    }

    /// Waits for more bytes, or the end.
    #[cold]
    fn fill(&mut self) -> io::Result<()> {
        let kept = match &mut self.begun {
            Some(begun) => std::mem::take(&mut begun.start),
            None => self.at,
        };
        self.buffer.copy_within(kept..self.end, 0);
        self.batch.moved(kept);
        self.base += kept as u64;
        self.at -= kept;
        self.end -= kept;
        if self.end > self.buffer.len() / 2 {
            self.buffer.resize(self.buffer.len() * 2, 0);
        } else if self.buffer.len() > BUFFER_BYTES && self.end <= BUFFER_BYTES / 2 {
            self.buffer.truncate(BUFFER_BYTES);
            self.buffer.shrink_to_fit();
        }
        loop {
            match self.from.read(&mut self.buffer[self.end..]) {
                Ok(more) => {
                    self.end += more;
                    self.at_eof = more == 0;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Finds the next command in the buffer, or the rest of the one that was begun.
    fn parse(&mut self) -> Result<Parsed, Error> {
        let mut left = match &self.begun {
            Some(begun) => begun.left,
            None => {
                let Some((prefix, count, next)) = self.header() else {
                    return Ok(Parsed::Unfinished);
                };
                let start = self.at;
                match (prefix, i32::try_from(count).map(usize::try_from)) {
                    // (One without its end would swallow what is appended to the log.)
                    (b'#', _) if self.at_eof && self.buffer[next - 1] != b'\n' => {
                        return Ok(Parsed::Cut);
                    }
                    (b'#', _) => {
                        self.at = next;
                        return Ok(Parsed::Annotation(start..next));
                    }
                    // A number was to follow.
                    (b'*', _) if next == start + 1 && self.at_eof => return Ok(Parsed::Cut),
                    (b'*', Ok(Ok(left @ 1..))) => {
                        let offset = self.offset();
                        self.begun = Some(Begun {
                            offset,
                            start,
                            left,
                        });
                        self.at = next;
                        left
                    }
                    _ => return Err(self.format_error()),
                }
            }
        };
        while left > 0 {
            match self.argument()? {
                None => left -= 1,
                Some(parsed) => return Ok(parsed),
            }
            if let Some(begun) = &mut self.begun {
                begun.left = left;
            }
        }
        self.close();
        Ok(Parsed::Command)
    }

    /// Reads an argument of the command that was begun. Gives why not, if it is not all there.
    #[inline]
    fn argument(&mut self) -> Result<Option<Parsed>, Error> {
        let Some((prefix, len, from)) = self.header() else {
            return Ok(Some(Parsed::Unfinished));
        };
        // And two bytes behind it.
        let whole = usize::try_from(len).ok().and_then(|len| len.checked_add(2));
        let (b'$', Some(whole)) = (prefix, whole) else {
            return Err(self.format_error());
        };
        if whole <= self.end - from {
            self.batch.push(from, whole - 2);
            self.at = from + whole;
            return Ok(None);
        }
        self.beyond(from, whole)
    }

    /// Reads an argument that is not all in the buffer.
    #[cold]
    fn beyond(&mut self, from: usize, whole: usize) -> Result<Option<Parsed>, Error> {
        let left = self.len.map(|len| len.saturating_sub(self.offset_of(from)));
        if self.at_eof || left.is_some_and(|left| whole as u64 > left) {
            return Ok(Some(Parsed::Cut));
        }
        if whole < Limits::BIG_ARG || !self.batch.is_empty() {
            return Ok(Some(Parsed::Unfinished));
        }
        let mut arg = Vec::with_capacity(match left {
            Some(_) => whole,
            None => whole.min(UNPROVEN_MAX),
        });
        arg.extend_from_slice(&self.buffer[from..self.end]);
        let missing = (whole - arg.len()) as u64;
        let read = self.from.by_ref().take(missing).read_to_end(&mut arg);
        read.map_err(Error::Io)?;
        if arg.len() < whole {
            self.at_eof = true;
            return Ok(Some(Parsed::Cut));
        }
        arg.truncate(whole - 2);
        self.batch.push_big(Bytes::from(arg));
        // What follows in the file follows here.
        (self.at, self.end) = (from, from);
        self.base += whole as u64;
        Ok(None)
    }

    /// The command that was begun is whole.
    #[inline]
    fn close(&mut self) {
        self.batch.close(self.at);
        let Some(begun) = self.begun.take() else {
            return;
        };
        let last = self.batch.len() - 1;
        let argv = self.batch.argv(last, &self.buffer);
        let name = argv.get(0).unwrap_or(b"");
        if name.len() == 5 && name.eq_ignore_ascii_case(b"MULTI") {
            self.multi.get_or_insert(begun.offset);
        } else if name.len() == 4 && name.eq_ignore_ascii_case(b"EXEC") {
            self.multi = None;
        }
        if self.multi.is_none() {
            self.good_to = self.offset();
        }
    }

    /// The line at this place: its first byte, the number behind that, and where the next one begins. `None`: it is not all
    /// there.
    #[inline]
    fn header(&self) -> Option<(u8, i64, usize)> {
        let rest = &self.buffer[self.at..self.end];
        // Nearly all are a letter, a few digits and the end.
        if let [prefix @ (b'*' | b'$'), digits @ ..] = rest {
            let mut value = 0i64;
            for (i, &byte) in digits.iter().take(10).enumerate() {
                match byte {
                    b'0'..=b'9' => value = value * 10 + i64::from(byte - b'0'),
                    b'\r' if i > 0 && digits.get(i + 1) == Some(&b'\n') => {
                        return Some((*prefix, value, self.at + i + 3));
                    }
                    _ => break,
                }
            }
        }
        self.odd_header(rest)
    }

    #[cold]
    fn odd_header(&self, rest: &[u8]) -> Option<(u8, i64, usize)> {
        let most = &rest[..rest.len().min(LINE_MAX)];
        let len = match memchr::memchr(b'\n', most) {
            Some(at) => at + 1,
            None if self.at_eof || most.len() == LINE_MAX => most.len(),
            None => return None,
        };
        let (prefix, number) = rest[..len].split_first()?;
        Some((*prefix, leading_i64(number).0, self.at + len))
    }

    #[cold]
    fn format_error(&self) -> Error {
        Error::Format {
            offset: self.offset(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file that is read in pieces of these sizes, again and again.
    struct Pieces<'a> {
        text: &'a [u8],
        sizes: &'a [usize],
        reads: usize,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let size = self.sizes[self.reads % self.sizes.len()];
            self.reads += 1;
            let n = size.min(into.len()).min(self.text.len());
            into[..n].copy_from_slice(&self.text[..n]);
            self.text = &self.text[n..];
            Ok(n)
        }
    }

    #[derive(Debug, PartialEq, Clone)]
    enum Found {
        Command(Vec<Vec<u8>>),
        Note(Vec<u8>),
    }

    /// All that a log has, with the offset where each thing ends; and how it ends itself.
    fn read_all<R: Read>(
        mut reader: Reader<R>,
        most: usize,
    ) -> (Vec<(Found, u64)>, Result<End, u64>) {
        let mut found = Vec::new();
        loop {
            let note = match reader.step(most) {
                Ok(Step::Commands) => None,
                Ok(Step::Annotation(line)) => Some(line.to_vec()),
                Ok(Step::End(end)) => return (found, Ok(end)),
                Err(Error::Format { offset }) => return (found, Err(offset)),
                Err(Error::Io(error)) => panic!("{error}"),
            };
            if let Some(line) = note {
                found.push((Found::Note(line), reader.offset()));
                continue;
            }
            let (batch, buffer) = reader.batch();
            assert!((1..=most).contains(&batch.len()));
            for i in 0..batch.len() {
                let argv = batch.argv(i, buffer).iter().map(<[u8]>::to_vec);
                let end = reader.offset_of(batch.end(i));
                found.push((Found::Command(argv.collect()), end));
            }
        }
    }

    fn read(text: &[u8]) -> (Vec<(Found, u64)>, Result<End, u64>) {
        read_all(Reader::new(text, Some(text.len() as u64)), 3)
    }

    fn encode(command: &[Vec<u8>]) -> Vec<u8> {
        let mut out = format!("*{}\r\n", command.len()).into_bytes();
        for arg in command {
            out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            out.extend_from_slice(arg);
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    #[test]
    fn a_log_ends_where_it_was_cut() {
        let parts: [(&[u8], bool); 7] = [
            (b"#TS:1700000000\r\n", false),
            (b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n", true),
            (b"*1\r\n$5\r\nmulti\r\n", false),
            (b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n", false),
            (b"#TS:1700000001\r\n", false),
            (b"*1\r\n$4\r\nEXEC\r\n", true),
            (b"*2\r\n$4\r\nINCR\r\n$1\r\nb\r\n", true),
        ];
        let text: Vec<u8> = parts.iter().flat_map(|(part, _)| *part).copied().collect();
        let mut ends = vec![0];
        for (part, _) in parts {
            ends.push(ends[ends.len() - 1] + part.len());
        }
        for cut in 0..=text.len() {
            let whole = ends.iter().filter(|&&end| end != 0 && end <= cut).count();
            let good = (0..whole).rev().find(|&i| parts[i].1);
            let good_to = good.map_or(0, |i| ends[i + 1] as u64);
            let end = match (ends.contains(&cut), (3..6).contains(&whole)) {
                (false, _) => End::Cut { good_to },
                (true, true) => End::OpenMulti { good_to },
                (true, false) => End::Whole,
            };
            let (found, ended) = read(&text[..cut]);
            assert_eq!((found.len(), ended), (whole, Ok(end)), "cut at {cut}");
        }
    }

    #[test]
    fn what_redis_reads() {
        let command = |words: &str| {
            let words = words.split(' ').map(|word| word.as_bytes().to_vec());
            Found::Command(words.collect())
        };
        for (text, found, ended) in [
            ("", vec![], Ok(End::Whole)),
            (
                "*1\n$4\nPINGab*1x\r\n$ +4\n....\r\n",
                vec![command("PING"), command("....")],
                Ok(End::Whole),
            ),
            ("*1\r\n$0\r\n\r\n", vec![command("")], Ok(End::Whole)),
            ("*1\r\n$0\r\n\r", vec![], Ok(End::Cut { good_to: 0 })),
            ("*1", vec![], Ok(End::Cut { good_to: 0 })),
            ("*", vec![], Ok(End::Cut { good_to: 0 })),
            ("*\r\n", vec![], Err(0)),
            ("*0\r\n", vec![], Err(0)),
            ("*-1\r\n", vec![], Err(0)),
            ("*99999999999\r\n", vec![], Err(0)),
            ("*1\r\n$-1\r\n", vec![], Err(4)),
            ("*1\r\n:1\r\n", vec![], Err(4)),
            (
                "*1\r\n$4\r\nPING\r\nPING\r\n",
                vec![command("PING")],
                Err(14),
            ),
            ("*1\r\n$4\r\nPING\r\n\0\0\0", vec![command("PING")], Err(14)),
            (
                "*1\r\n$9223372036854775807\r\nx",
                vec![],
                Ok(End::Cut { good_to: 0 }),
            ),
            (
                "*1\r\n$9223372036854775000\r\nx",
                vec![],
                Ok(End::Cut { good_to: 0 }),
            ),
            (
                "#\r\n#TS:x",
                vec![Found::Note(b"#\r\n".to_vec())],
                Ok(End::Cut { good_to: 0 }),
            ),
        ] {
            let (all, end) = read(text.as_bytes());
            let all: Vec<_> = all.into_iter().map(|(found, _)| found).collect();
            assert_eq!((all, end), (found, ended), "{text:?}");
        }
        // What is not known to be cut is read to its end.
        let text = b"*1\r\n$9223372036854775000\r\nx";
        let (_, end) = read_all(Reader::new(&text[..], None), 1);
        assert_eq!(end, Ok(End::Cut { good_to: 0 }));
        for (line, at_s) in [
            (&b"#TS:1700000000\r\n"[..], Some(1_700_000_000)),
            (b"#TS:1700000000\n", None),
            (b"#TS:\r\n", None),
            (b"#ts:1\r\n", None),
        ] {
            assert_eq!(timestamp(line), at_s, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_preamble_is_handed_back() {
        let mut reader = Reader::new(&b"REDIS0011..."[..], None);
        assert!(reader.begins_with_rdb().unwrap());
        let (rest, from) = reader.into_rest();
        assert_eq!([&rest, from].concat(), b"REDIS0011...");
        let tail = b"*1\r\n$4\r\nPING\r\n*1";
        let reader = Reader::resumed(tail[..9].to_vec(), &tail[9..], 100, Some(116));
        let (found, end) = read_all(reader, 9);
        assert_eq!(found[0].1, 114);
        assert_eq!(end, Ok(End::Cut { good_to: 114 }));
        assert!(!Reader::new(&b"REDI"[..], None).begins_with_rdb().unwrap());
    }

    /// Short arguments, and some that are long or look like the log.
    fn any_arg() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 0..20),
            2 => Just(b"MULTI".to_vec()),
            2 => Just(b"*1\r\n$1\r\n".to_vec()),
            1 => (0usize..100_000).prop_map(|n| vec![b'x'; n]),
        ]
    }

    fn any_found() -> impl Strategy<Value = Found> {
        prop_oneof![
            9 => prop::collection::vec(any_arg(), 1..8).prop_map(Found::Command),
            1 => "#TS:[0-9]{1,12}\r\n".prop_map(|line| Found::Note(line.into_bytes())),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
        #[test]
        fn however_it_arrives_it_is_the_same(
            log in prop::collection::vec(any_found(), 0..30),
            sizes in prop::collection::vec(1usize..70_000, 1..9),
            (room, most, known) in (1usize..5000, 1usize..9, any::<bool>()),
            cut in any::<prop::sample::Index>(),
        ) {
            let (mut text, mut want) = (Vec::new(), Vec::new());
            for found in log {
                match &found {
                    Found::Command(argv) => text.extend(encode(argv)),
                    Found::Note(line) => text.extend_from_slice(line),
                }
                want.push((found, text.len() as u64));
            }
            let cut = cut.index(text.len() + 1);
            for text in [&text[..], &text[..cut]] {
                let from = Pieces { text, sizes: &sizes, reads: 0 };
                let len = known.then_some(text.len() as u64);
                let (found, end) = read_all(Reader::with_room(room, Vec::new(), from, 0, len), most);
                let whole = want.iter().take_while(|(_, end)| *end <= text.len() as u64).count();
                prop_assert_eq!(&found, &want[..whole]);
                prop_assert_eq!(end, read(text).1);
                let is_cut = whole.checked_sub(1).map_or(0, |i| want[i].1) < text.len() as u64;
                prop_assert_eq!(matches!(end, Ok(End::Cut { .. })), is_cut);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            text in "([*$#][0-9]{0,3}(\r\n|\n)?|[a-c\0\r\n]{0,4}){0,40}",
            sizes in prop::collection::vec(1usize..9, 1..4),
        ) {
            let text = text.as_bytes();
            let from = Pieces { text, sizes: &sizes, reads: 0 };
            let again = read_all(Reader::with_room(1, Vec::new(), from, 0, None), 1);
            prop_assert_eq!(read(text), again);
        }
    }
}
