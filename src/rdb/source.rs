//! The reading side: bytes from somewhere, and the lengths, strings and numbers in them.
//!
//! Nothing read here is trusted. A string's length says how many bytes are wanted, and memory is taken as they arrive.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};

use bytes::Bytes;

use super::form;
use crate::base::checksum::Crc64;
use crate::base::lzf;
use crate::ds::cow::Shared;
use crate::ds::listpack::Elem;
use crate::object::bigstr::{BigStr, CHUNK_BYTES, ONE_BUFFER_MAX};
use crate::object::{Heap, Value};

/// What is read at a time, at most.
const BUFFER_BYTES: usize = 128 * 1024;
/// Up to this length a string is given where it lies in the buffer.
const SHORT_MAX: usize = 64 * 1024;

/// What is wrong, and where.
#[derive(Debug)]
pub struct Error {
    /// Bytes that had been read by then.
    pub offset: u64,
    pub reason: Reason,
}

/// What may be wrong with a file or a payload.
#[derive(Debug)]
pub enum Reason {
    Io(io::Error),
    /// It ends too early.
    ShortRead,
    Signature,
    Version(String),
    /// A byte that is neither an opcode nor the type of a value.
    Kind(u8),
    /// A value of a module, of this type.
    Module(String),
    /// What a module wrote beside the keys.
    ModuleAux(String),
    Checksum {
        computed: u64,
        stored: u64,
    },
    /// Anything else.
    Corrupt(&'static str),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Io(error) => error.fmt(f),
            Reason::ShortRead => f.write_str("Unexpected EOF reading RDB file"),
            Reason::Signature => f.write_str("Wrong signature trying to load DB from file"),
            Reason::Version(version) => write!(f, "Can't handle RDB format version {version}"),
            Reason::Kind(kind) => write!(f, "Unknown RDB encoding type {kind}"),
            Reason::Module(name) => write!(
                f,
                "The RDB file contains module data I can't load: no matching module type '{name}'"
            ),
            Reason::ModuleAux(name) => write!(
                f,
                "The RDB file contains AUX module data I can't load: no matching module '{name}'"
            ),
            Reason::Checksum { .. } => f.write_str("RDB CRC error"),
            Reason::Corrupt(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at offset {})", self.reason, self.offset)
    }
}

impl std::error::Error for Error {}

/// A length, or the number of a form that a string has instead of one.
pub enum Length {
    Plain(u64),
    Form(u8),
}

/// A string that was read.
pub enum Text<'a> {
    Int(i64),
    /// Where the source has it, until more is read.
    Short(&'a [u8]),
    Long(Vec<u8>),
}

impl<'a> Text<'a> {
    /// The bytes, written into `digits` if it is an integer.
    #[inline]
    pub fn bytes<'b>(&'b self, digits: &'b mut itoa::Buffer) -> &'b [u8] {
        match self {
            Text::Int(int) => digits.format(*int).as_bytes(),
            Text::Short(text) => text,
            Text::Long(text) => text,
        }
    }

    /// As an element of a collection.
    #[inline]
    pub fn elem(&self) -> Elem<'_> {
        match self {
            Text::Int(int) => Elem::Int(*int),
            Text::Short(text) => Elem::Str(text),
            Text::Long(text) => Elem::Str(text),
        }
    }

    /// As the value of a key or a field.
    #[inline]
    pub fn into_value(self) -> Value<'a> {
        match self {
            Text::Int(int) => Value::Int(int),
            Text::Short(text) => Value::from_text(text),
            Text::Long(text) => Value::from_whole(Bytes::from(text)),
        }
    }

    /// As bytes that the caller keeps.
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Text::Long(text) => text,
            text => text.bytes(&mut itoa::Buffer::new()).to_vec(),
        }
    }

    /// As bytes that may be borrowed.
    pub fn into_cow(self) -> Cow<'a, [u8]> {
        match self {
            Text::Short(text) => Cow::Borrowed(text),
            text => Cow::Owned(text.into_vec()),
        }
    }
}

/// Bytes from somewhere.
pub struct Source<R> {
    from: R,
    buffer: Vec<u8>,
    /// The next byte in the buffer, and the end of what has arrived.
    at: usize,
    end: usize,
    /// Offset of the buffer's first byte.
    base: u64,
    crc: Option<Crc64>,
    /// Up to here the buffer's bytes are in the checksum.
    summed: usize,
    /// What compressed strings become.
    unpacked: Vec<u8>,
}

impl<R: Read> Source<R> {
    /// A source of the bytes of `from`, about so many if that is known, with their checksum if it is asked for.
    pub fn new(from: R, about: usize, checksum: bool) -> Source<R> {
        Source {
            from,
            buffer: vec![0; about.clamp(16, BUFFER_BYTES)],
            at: 0,
            end: 0,
            base: 0,
            crc: checksum.then(Crc64::new),
            summed: 0,
            unpacked: Vec::new(),
        }
    }

    /// Bytes read so far.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// An error at this place.
    #[cold]
    pub fn error(&self, reason: Reason) -> Error {
        Error {
            offset: self.offset(),
            reason,
        }
    }

    /// The error that something does not fit, at this place.
    #[cold]
    pub fn corrupt(&self, what: &'static str) -> Error {
        self.error(Reason::Corrupt(what))
    }

    /// The checksum of what was read; `None` if it was not wanted.
    pub fn checksum(&mut self) -> Option<u64> {
        self.sum();
        self.crc.as_ref().map(Crc64::value)
    }

    /// What has arrived and was not read, and where more comes from.
    pub fn into_rest(self) -> (Vec<u8>, R) {
        (self.buffer[self.at..self.end].to_vec(), self.from)
    }

    fn sum(&mut self) {
        if let Some(crc) = &mut self.crc {
            crc.update(&self.buffer[self.summed..self.at]);
        }
        self.summed = self.at;
    }

    /// Waits for `n` bytes, which fit the buffer.
    #[cold]
    fn fill(&mut self, n: usize) -> Result<(), Error> {
        debug_assert!(n <= self.buffer.len());
        self.sum();
        self.buffer.copy_within(self.at..self.end, 0);
        self.base += self.at as u64;
        self.end -= self.at;
        (self.at, self.summed) = (0, 0);
        while self.end < n {
            match self.from.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(self.error(Reason::ShortRead)),
                Ok(more) => self.end += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(Reason::Io(error))),
            }
        }
        Ok(())
    }

    /// The next `n` bytes, which fit the buffer.
    #[inline]
    fn take(&mut self, n: usize) -> Result<&[u8], Error> {
        if self.end - self.at < n {
            self.fill(n)?;
        }
        let from = self.at;
        self.at += n;
        Ok(&self.buffer[from..self.at])
    }

    /// The next `N` bytes, a few.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let bytes = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }

    /// The next byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Eight bytes of a signed number, as milliseconds are written.
    pub fn signed(&mut self) -> Result<i64, Error> {
        self.array().map(i64::from_le_bytes)
    }

    /// Eight bytes of a double.
    #[inline]
    pub fn double(&mut self) -> Result<f64, Error> {
        self.array().map(f64::from_le_bytes)
    }

    /// A double as text, as old versions wrote it.
    pub fn double_text(&mut self) -> Result<f64, Error> {
        let len = match self.byte()? {
            255 => return Ok(f64::NEG_INFINITY),
            254 => return Ok(f64::INFINITY),
            253 => return Ok(f64::NAN),
            len => usize::from(len),
        };
        let mut text = [0; 256];
        for byte in &mut text[..len] {
            *byte = self.byte()?;
        }
        crate::base::number::parse_f64(&text[..len])
            .ok_or_else(|| self.corrupt("A score that is no number"))
    }

    /// A length, or what stands in its place before some strings.
    #[inline]
    pub fn length_or_form(&mut self) -> Result<Length, Error> {
        let first = self.byte()?;
        Ok(match first {
            0..form::LEN_14 => Length::Plain(u64::from(first)),
            form::LEN_14..form::LEN_32 => {
                let low = self.byte()?;
                Length::Plain(u64::from(first - form::LEN_14) << 8 | u64::from(low))
            }
            form::LEN_32 => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
            form::LEN_64 => Length::Plain(u64::from_be_bytes(self.array()?)),
            form::ENCODED.. => Length::Form(first - form::ENCODED),
            _ => return Err(self.corrupt("Unknown length encoding in rdbLoadLen()")),
        })
    }

    /// A length, or any unsigned number.
    #[inline]
    pub fn length(&mut self) -> Result<u64, Error> {
        match self.length_or_form()? {
            Length::Plain(len) => Ok(len),
            Length::Form(_) => Err(self.corrupt("A string where a length should be")),
        }
    }

    /// A string.
    #[inline]
    pub fn text(&mut self) -> Result<Text<'_>, Error> {
        match self.length_or_form()? {
            Length::Plain(len) => self.plain(len),
            Length::Form(form) => self.formed(form),
        }
    }

    /// Reads a string of which [`loaded`](Self::loaded) then gives the bytes.
    pub fn load(&mut self) -> Result<(), Error> {
        let form = self.length_or_form()?;
        if let Length::Form(form::LZF) = form {
            return self.unpack();
        }
        let mut loaded = std::mem::take(&mut self.unpacked);
        let text = match form {
            Length::Plain(len) => self.plain(len)?,
            Length::Form(form) => self.formed(form)?,
        };
        match text {
            Text::Long(text) => loaded = text,
            text => {
                loaded.clear();
                loaded.extend_from_slice(text.bytes(&mut itoa::Buffer::new()));
            }
        }
        self.unpacked = loaded;
        Ok(())
    }

    /// What was loaded last, until another string is read.
    pub fn loaded(&self) -> &[u8] {
        &self.unpacked
    }

    /// Keeps bytes as if they had been loaded.
    pub fn keep(&mut self, bytes: &[u8]) -> &[u8] {
        self.unpacked.clear();
        self.unpacked.extend_from_slice(bytes);
        &self.unpacked
    }

    #[inline]
    fn plain(&mut self, len: u64) -> Result<Text<'_>, Error> {
        match usize::try_from(len) {
            Ok(len) if len <= SHORT_MAX.min(self.buffer.len()) => self.take(len).map(Text::Short),
            _ => self.long(len).map(Text::Long),
        }
    }

    fn formed(&mut self, form: u8) -> Result<Text<'_>, Error> {
        Ok(Text::Int(match form {
            form::INT_8 => i64::from(i8::from_le_bytes(self.array()?)),
            form::INT_16 => i64::from(i16::from_le_bytes(self.array()?)),
            form::INT_32 => i64::from(i32::from_le_bytes(self.array()?)),
            form::LZF => return self.compressed(),
            _ => return Err(self.corrupt("Unknown RDB string encoding type")),
        }))
    }

    /// So many bytes in a vector of their own, which grows as they arrive.
    fn long(&mut self, len: u64) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        let mut left = len;
        while left > 0 {
            left -= self.some(left, |part| text.extend_from_slice(part))? as u64;
        }
        Ok(text)
    }

    /// Gives `f` the bytes that are there, up to `most` and at least one, waiting for some if there are none. Returns
    /// how many they were.
    fn some(&mut self, most: u64, f: impl FnOnce(&[u8])) -> Result<usize, Error> {
        if self.at == self.end {
            self.fill(1)?;
        }
        let n = usize::try_from(most).map_or(self.end - self.at, |m| m.min(self.end - self.at));
        f(&self.buffer[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }

    fn compressed(&mut self) -> Result<Text<'_>, Error> {
        self.unpack()?;
        Ok(if self.unpacked.len() <= SHORT_MAX {
            Text::Short(&self.unpacked)
        } else {
            Text::Long(std::mem::take(&mut self.unpacked))
        })
    }

    fn unpack(&mut self) -> Result<(), Error> {
        const INVALID: &str = "Invalid LZF compressed string";
        let (short, len) = (self.length()?, self.length()?);
        let Ok(len) = usize::try_from(len) else {
            return Err(self.corrupt(INVALID));
        };
        let fits = match usize::try_from(short) {
            Ok(short) if short <= SHORT_MAX.min(self.buffer.len()) => {
                self.take(short)?;
                let data = &self.buffer[self.at - short..self.at];
                lzf::decompress(data, len, &mut self.unpacked)
            }
            _ => {
                let data = self.long(short)?;
                lzf::decompress(&data, len, &mut self.unpacked)
            }
        };
        match fits {
            true => Ok(()),
            false => Err(self.corrupt(INVALID)),
        }
    }

    /// A string as the value of a key: a very long one is laid out as the keyspace has it, chunk by chunk.
    #[inline]
    pub fn value(&mut self) -> Result<Value<'_>, Error> {
        match self.length_or_form()? {
            Length::Plain(len) if len > ONE_BUFFER_MAX as u64 => self.big(len),
            Length::Plain(len) => self.plain(len).map(Text::into_value),
            Length::Form(form) => self.formed(form).map(Text::into_value),
        }
    }

    fn big(&mut self, len: u64) -> Result<Value<'_>, Error> {
        let mut big = BigStr::from_bytes(Bytes::new());
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let mut left = len;
        while left > 0 {
            let room = (CHUNK_BYTES - chunk.len()) as u64;
            left -= self.some(left.min(room), |part| chunk.extend_from_slice(part))? as u64;
            if chunk.len() == CHUNK_BYTES || left == 0 {
                big.append(&chunk);
                chunk.clear();
            }
        }
        Ok(Value::Heap(Heap::Str(Shared::new(big))))
    }
}
