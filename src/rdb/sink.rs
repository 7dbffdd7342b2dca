//! The writing side: bytes on their way into a file, and the three things that everything there is made of, lengths,
//! strings and numbers.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::form;
use crate::base::checksum::Crc64;
use crate::base::lzf::{Compressor, PIECE_MAX};
use crate::base::number::parse_i64;
use crate::base::pace::Pace;

/// What is gathered before it is handed on.
const BUFFER_BYTES: usize = 128 * 1024;
/// Longer strings are compressed in pieces of this size, each read once to learn the length, and if need be once more.
const PIECE_BYTES: usize = 256 * 1024;
/// What of a long string's compressed form is kept from the first reading.
const KEPT_MAX: usize = 1 << 20;
/// The longest text that may be an integer of 32 bits.
const SMALL_INT_TEXT: usize = 11;
/// Shorter texts never get smaller.
const COMPRESS_FROM: usize = 21;
/// Compression must save so many bytes.
const SAVE_MIN: usize = 4;

const _: () = assert!(PIECE_BYTES <= PIECE_MAX);

/// How far a save has come, and whether it is still wanted: shared by the saver and those who wait for it.
#[derive(Debug, Default)]
pub struct Progress {
    cancelled: AtomicBool,
    keys: AtomicU64,
    bytes: AtomicU64,
    /// `rdb-key-save-delay`, which may change on the way.
    pub pace: Pace,
}

impl Progress {
    /// Of a saver that keeps this pace, a rest at each key.
    pub fn with_delay(key_delay_us: i64) -> Progress {
        Progress {
            pace: Pace::new(key_delay_us),
            ..Progress::default()
        }
    }

    /// Asks the saver to give up. It does so before it writes its next buffer.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// True once it was asked to.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Keys written so far; it lags by up to a buffer.
    pub fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    /// Bytes handed on so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Why a file was not written to its end.
#[derive(Debug)]
pub enum SaveError {
    Io(io::Error),
    /// By [`Progress::cancel`].
    Cancelled,
}

impl From<io::Error> for SaveError {
    fn from(error: io::Error) -> SaveError {
        SaveError::Io(error)
    }
}

impl std::fmt::Display for SaveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SaveError::Io(error) => error.fmt(f),
            SaveError::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for SaveError {}

type Done = Result<(), SaveError>;

/// Bytes on their way out.
pub struct Sink<'c, W> {
    to: W,
    buffer: Vec<u8>,
    crc: Option<Crc64>,
    /// Bytes that have left the buffer.
    passed: u64,
    /// What compresses strings, if they are to be.
    compressor: Option<&'c mut Compressor>,
    compressed: Vec<u8>,
    progress: Option<&'c Progress>,
    keys: u64,
}

impl<'c, W: Write> Sink<'c, W> {
    /// A sink into `to`. With a checksum, it is that of all bytes.
    pub fn new(to: W, compressor: Option<&'c mut Compressor>, checksum: bool) -> Sink<'c, W> {
        Sink {
            to,
            buffer: Vec::new(),
            crc: checksum.then(Crc64::new),
            passed: 0,
            compressor,
            compressed: Vec::new(),
            progress: None,
            keys: 0,
        }
    }

    /// The same, which tells how far it has come.
    pub fn watched(self, progress: &'c Progress) -> Sink<'c, W> {
        Sink {
            progress: Some(progress),
            ..self
        }
    }

    /// Notes that one more key is written.
    #[inline]
    pub fn count_key(&mut self) {
        self.keys += 1;
    }

    /// After each key: pauses if the saver is to be slow.
    #[inline]
    pub fn pace(&mut self) -> Done {
        match self.progress {
            Some(progress) if !progress.pace.is_full() => {
                progress.keys.store(self.keys, Ordering::Relaxed);
                progress.pace.rest(self.keys, || !progress.is_cancelled());
                match progress.is_cancelled() {
                    true => Err(SaveError::Cancelled),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.passed + self.buffer.len() as u64
    }

    /// Hands on what is in the buffer.
    #[cold]
    fn flush(&mut self) -> Done {
        let buffer = std::mem::take(&mut self.buffer);
        let done = self.pass(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        done
    }

    fn pass(&mut self, bytes: &[u8]) -> Done {
        if self.progress.is_some_and(Progress::is_cancelled) {
            return Err(SaveError::Cancelled);
        }
        if let Some(crc) = &mut self.crc {
            crc.update(bytes);
        }
        self.to.write_all(bytes)?;
        self.passed += bytes.len() as u64;
        if let Some(progress) = self.progress {
            progress.bytes.store(self.passed, Ordering::Relaxed);
            progress.keys.store(self.keys, Ordering::Relaxed);
            // On the same core the loop may have been waiting for the rest of this thread's slice, which is milliseconds.
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Hands on everything; gives what it was written to.
    pub fn finish(mut self) -> Result<W, SaveError> {
        self.flush()?;
        self.to.flush()?;
        Ok(self.to)
    }

    /// The checksum of all bytes so far; 0 if there is to be none.
    pub fn checksum(&mut self) -> Result<u64, SaveError> {
        self.flush()?;
        Ok(self.crc.as_ref().map_or(0, Crc64::value))
    }

    /// Bytes as they are.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) -> Done {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            return self.raw_beyond(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    #[cold]
    fn raw_beyond(&mut self, bytes: &[u8]) -> Done {
        self.flush()?;
        if bytes.len() >= BUFFER_BYTES {
            return bytes
                .chunks(BUFFER_BYTES)
                .try_for_each(|part| self.pass(part));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// One byte.
    #[inline]
    pub fn byte(&mut self, byte: u8) -> Done {
        self.raw(&[byte])
    }

    /// A length, or any unsigned number.
    #[inline]
    pub fn length(&mut self, len: u64) -> Done {
        if len < 1 << 6 {
            self.byte(len as u8)
        } else if len < 1 << 14 {
            self.raw(&[form::LEN_14 | (len >> 8) as u8, len as u8])
        } else if let Ok(len) = u32::try_from(len) {
            let [a, b, c, d] = len.to_be_bytes();
            self.raw(&[form::LEN_32, a, b, c, d])
        } else {
            self.byte(form::LEN_64)?;
            self.raw(&len.to_be_bytes())
        }
    }

    /// Milliseconds, or any signed number of eight bytes.
    #[inline]
    pub fn signed(&mut self, ms: i64) -> Done {
        self.raw(&ms.to_le_bytes())
    }

    /// A double as its eight bytes.
    #[inline]
    pub fn double(&mut self, value: f64) -> Done {
        self.raw(&value.to_le_bytes())
    }

    /// An integer that is a string.
    #[inline]
    pub fn int(&mut self, value: i64) -> Done {
        match small_int(value) {
            Some(form) => self.raw(form.bytes()),
            None => {
                let mut digits = itoa::Buffer::new();
                let text = digits.format(value);
                self.length(text.len() as u64)?;
                self.raw(text.as_bytes())
            }
        }
    }

    /// A string in the shortest of its forms.
    #[inline]
    pub fn string(&mut self, text: &[u8]) -> Done {
        if text.len() <= SMALL_INT_TEXT
            && let Some(form) = parse_i64(text).and_then(small_int)
        {
            return self.raw(form.bytes());
        }
        if text.len() >= COMPRESS_FROM && self.compressor.is_some() {
            if text.len() > PIECE_BYTES {
                return self.string_of(text.len(), || std::iter::once(text));
            }
            if self.try_compressed(text)? {
                return Ok(());
            }
        }
        self.length(text.len() as u64)?;
        self.raw(text)
    }

    fn try_compressed(&mut self, text: &[u8]) -> Result<bool, SaveError> {
        let Some(compressor) = self.compressor.as_mut() else {
            return Ok(false);
        };
        self.compressed.clear();
        if !compressor.compress(text, &mut self.compressed, text.len() - SAVE_MIN) {
            return Ok(false);
        }
        let compressed = std::mem::take(&mut self.compressed);
        self.compressed_form(&compressed, text.len())?;
        self.compressed = compressed;
        Ok(true)
    }

    /// A string that someone else has compressed.
    pub fn compressed_form(&mut self, compressed: &[u8], len: usize) -> Done {
        self.compressed_head(compressed.len() as u64, len)?;
        self.raw(compressed)
    }

    fn compressed_head(&mut self, compressed: u64, len: usize) -> Done {
        self.byte(form::ENCODED | form::LZF)?;
        self.length(compressed)?;
        self.length(len as u64)
    }

    /// A string of `len` bytes that lies in slices, which are asked for as often as it takes. It is never in memory as a
    /// whole.
    pub fn string_of<'s, I>(&mut self, len: usize, slices: impl Fn() -> I) -> Done
    where
        I: Iterator<Item = &'s [u8]>,
    {
        if self.compressor.is_some()
            && let Some(compressed) = self.compressed_len(len, slices())?
        {
            self.compressed_head(compressed, len)?;
            if self.compressed.len() as u64 == compressed {
                let kept = std::mem::take(&mut self.compressed);
                return self.raw(&kept);
            }
            return self.pieces(slices(), |sink, compressed| {
                sink.raw(compressed).map(|()| true)
            });
        }
        self.length(len as u64)?;
        slices().try_for_each(|slice| self.raw(slice))
    }

    /// The length of a long string's compressed form, if that is worth it. If it is all in `self.compressed`, it need not
    /// be made again.
    fn compressed_len<'s>(
        &mut self,
        len: usize,
        slices: impl Iterator<Item = &'s [u8]>,
    ) -> Result<Option<u64>, SaveError> {
        let most = len.saturating_sub(SAVE_MIN) as u64;
        let mut total = 0;
        let mut kept = Vec::new();
        self.pieces(slices, |_, compressed| {
            total += compressed.len() as u64;
            if total <= KEPT_MAX as u64 {
                kept.extend_from_slice(compressed);
            }
            Ok(total <= most)
        })?;
        self.compressed = kept;
        Ok((total <= most).then_some(total))
    }

    /// Compresses a string piece by piece, as long as `f` wants more.
    fn pieces<'s>(
        &mut self,
        slices: impl Iterator<Item = &'s [u8]>,
        mut f: impl FnMut(&mut Self, &[u8]) -> Result<bool, SaveError>,
    ) -> Done {
        for piece in slices.flat_map(|slice| slice.chunks(PIECE_BYTES)) {
            if self.progress.is_some_and(Progress::is_cancelled) {
                return Err(SaveError::Cancelled);
            }
            let Some(compressor) = self.compressor.as_mut() else {
                return Ok(());
            };
            let mut compressed = std::mem::take(&mut self.compressed);
            compressed.clear();
            compressor.compress_piece(piece, &mut compressed);
            let more = f(self, &compressed)?;
            self.compressed = compressed;
            if !more {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// An integer of up to 32 bits as a file has it.
struct SmallInt {
    bytes: [u8; 5],
    len: u8,
}

impl SmallInt {
    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[inline]
fn small_int(value: i64) -> Option<SmallInt> {
    let [a, b, c, d] = i32::try_from(value).ok()?.to_le_bytes();
    let (kind, len) = match value {
        -0x80..=0x7f => (form::INT_8, 2),
        -0x8000..=0x7fff => (form::INT_16, 3),
        _ => (form::INT_32, 5),
    };
    let bytes = [form::ENCODED | kind, a, b, c, d];
    Some(SmallInt { bytes, len })
}
