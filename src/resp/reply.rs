//! The reply writer and output buffer of a connection.
//!
//! Pending output is a queue: sealed chunks first, then one growing tail. Small replies are formatted in place in
//! the tail; when it reaches 64 KB it is sealed and a new one begins, so nothing ever grows by copying much.
//! A big value that someone else owns (16 KB and up) is queued as it is, counted and not copied; `writev` sends
//! the pieces in order.
//!
//! Every byte has a *position*: how many bytes were written to this connection before it. Positions never change
//! when output leaves, so marks, deferred headers and barriers are plain numbers.
//!
//! A *deferred* header is an aggregate's length that is known only after its elements. Nothing is reserved for it:
//! once known, the header is spliced in at its position. Deferred headers close in the reverse order of opening.
//!
//! RESP2 or RESP3 is decided here, so that commands say what they mean (map, set, double, null) once.
//!
//! Over 800 lines, because a quarter of the file is the test of all this against a flat buffer.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::Bytes;

use crate::base::double::format_double;

/// From this size on, a shared value is queued instead of copied.
pub const SHARED_MIN: usize = 16 * 1024;
/// A tail that reached this size is sealed.
const TAIL_MAX: usize = 64 * 1024;
/// What a first reply allocates, unless more was needed the last time.
const TAIL_MIN: usize = 256;

/// The version of the protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resp {
    #[default]
    V2,
    V3,
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    /// Sum of the chunks' lengths, what was already sent of the first included.
    bytes: usize,
}

/// A place in the output to come back to, see [`Reply::mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    at: u64,
    open: u16,
}

impl Mark {
    /// The position it stands at.
    pub fn position(self) -> u64 {
        self.at
    }
}

/// An aggregate whose length follows, see [`Reply::defer`].
#[derive(Debug)]
#[must_use = "a deferred header must be closed"]
pub struct Deferred {
    at: u64,
    open: u16,
}

/// A connection's pending output. An empty one holds no memory.
#[derive(Default)]
pub struct Reply {
    tail: Vec<u8>,
    queue: Option<Box<Queue>>,
    /// Position of the first byte held.
    base: u64,
    /// Bytes already sent of the first chunk (or of the tail, where there is no chunk).
    sent: usize,
    /// Capacity for the next tail, remembered from the last.
    next_capacity: u32,
    /// Deferred headers not yet closed.
    open: u16,
    resp: Resp,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Reply({:?}, \"{}\")",
            self.resp,
            self.to_vec().escape_ascii()
        )
    }
}

/// A short header on the stack: prefix, number, CRLF.
struct Header {
    bytes: [u8; 24],
    len: usize,
}

impl Header {
    #[inline]
    fn new(prefix: u8, n: i64) -> Header {
        let mut bytes = [0; 24];
        bytes[0] = prefix;
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(n).as_bytes();
        let len = digits.len() + 1;
        bytes[1..len].copy_from_slice(digits);
        bytes[len..len + 2].copy_from_slice(b"\r\n");
        Header {
            bytes,
            len: len + 2,
        }
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Numbers from here on have more than eight digits.
const SHORT_END: i64 = 100_000_000;

/// A header like [`Header`] for a number of one digit to eight (not 0), made in registers: its bytes, and how many of
/// them count.
#[inline]
fn short_header(prefix: u8, n: u64) -> ([u8; 16], usize) {
    // Halves, quarters, single digits: each step parts all groups at once. The divisions are multiplications that are
    // exact for numbers of four digits and two.
    let halves = (n / 10_000) | ((n % 10_000) << 32);
    let upper = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let quarters = upper | (halves - 100 * upper) << 16;
    let upper = ((quarters * 103) >> 10) & 0x000f_000f_000f_000f;
    let digits = upper | (quarters - 10 * upper) << 8;
    // The first digit is the lowest byte; zeros that come first go.
    let zeros = digits.trailing_zeros() / 8;
    let text = (digits | 0x3030_3030_3030_3030) >> (8 * zeros);
    let len = 8 - zeros as usize;
    let ending = u128::from(u16::from_le_bytes(*b"\r\n")) << (8 * (len + 1));
    let line = u128::from(prefix) | u128::from(text) << 8 | ending;
    (line.to_le_bytes(), len + 3)
}

// --- What commands write ---------------------------------------------------------------------------------------

impl Reply {
    /// An empty RESP2 reply.
    pub fn new() -> Reply {
        Reply::default()
    }

    /// An empty reply of the given version.
    pub fn with_resp(resp: Resp) -> Reply {
        Reply {
            resp,
            ..Reply::default()
        }
    }

    pub fn resp(&self) -> Resp {
        self.resp
    }

    /// Switches the protocol for what is written from now on.
    pub fn set_resp(&mut self, resp: Resp) {
        self.resp = resp;
    }

    #[inline]
    pub fn is_resp3(&self) -> bool {
        self.resp == Resp::V3
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// A simple string. The text must not hold CR or LF.
    #[inline]
    pub fn status(&mut self, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        debug_assert!(
            !text.iter().any(|b| matches!(b, b'\r' | b'\n')),
            "status of two lines"
        );
        self.line(b'+', text);
    }

    /// An error. `message` starts with its code (`ERR ...`, `WRONGTYPE ...`) and has no leading `-`. Line ends
    /// at its end are dropped, others become spaces, as Redis does it.
    #[cold]
    pub fn error(&mut self, message: impl AsRef<[u8]>) {
        let mut text = message.as_ref();
        while let [rest @ .., b'\r' | b'\n'] = text {
            text = rest;
        }
        self.raw(b"-");
        for part in text.split_inclusive(|b| matches!(b, b'\r' | b'\n')) {
            match part {
                [words @ .., b'\r' | b'\n'] => {
                    self.raw(words);
                    self.raw(b" ");
                }
                words => self.raw(words),
            }
        }
        self.raw(b"\r\n");
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, n: i64) {
        match n {
            0..=9 => self.raw(&[b':', b'0' + n as u8, b'\r', b'\n']),
            _ => self.number(b':', n),
        }
    }

    /// A bulk string, copied.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.room(bytes.len() + 32);
        self.header(b'$', bytes.len());
        self.raw(bytes);
        self.raw(b"\r\n");
    }

    /// A bulk string, or a null where there is none.
    #[inline]
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// A bulk string that is handed over, not copied, when it is big.
    pub fn bulk_shared(&mut self, bytes: Bytes) {
        self.header(b'$', bytes.len());
        self.chunk(bytes);
        self.raw(b"\r\n");
    }

    /// A bulk string of `len` bytes that comes in pieces; their lengths must add up to `len`.
    pub fn bulk_chunks(&mut self, len: usize, chunks: impl IntoIterator<Item = Bytes>) {
        self.header(b'$', len);
        let start = self.end();
        for chunk in chunks {
            self.chunk(chunk);
        }
        debug_assert_eq!(
            self.end() - start,
            len as u64,
            "the pieces of a bulk string do not add up"
        );
        self.raw(b"\r\n");
    }

    /// An integer as a bulk string.
    #[inline]
    pub fn bulk_int(&mut self, n: i64) {
        self.bulk(itoa::Buffer::new().format(n).as_bytes());
    }

    /// Formatted text as a bulk string: `reply.bulk_fmt(format_args!(...))`.
    pub fn bulk_fmt(&mut self, text: fmt::Arguments<'_>) {
        match text.as_str() {
            Some(text) => self.bulk(text.as_bytes()),
            None => self.bulk(text.to_string().as_bytes()),
        }
    }

    /// No value: `$-1` or `_`.
    #[inline]
    pub fn null(&mut self) {
        self.raw(if self.is_resp3() {
            b"_\r\n"
        } else {
            b"$-1\r\n"
        });
    }

    /// No array: `*-1` or `_`.
    #[inline]
    pub fn null_array(&mut self) {
        self.raw(if self.is_resp3() {
            b"_\r\n"
        } else {
            b"*-1\r\n"
        });
    }

    /// The head of an array of `n` elements.
    #[inline]
    pub fn array(&mut self, n: usize) {
        self.header(b'*', n);
    }

    /// The head of a map of `n` pairs (RESP2: an array of `2n`).
    pub fn map(&mut self, n: usize) {
        let (prefix, n) = self.map_header(n);
        self.header(prefix, n);
    }

    /// The head of a set of `n` elements (RESP2: an array).
    pub fn set(&mut self, n: usize) {
        self.header(if self.is_resp3() { b'~' } else { b'*' }, n);
    }

    /// The head of a push of `n` elements (RESP2: an array).
    pub fn push(&mut self, n: usize) {
        self.header(if self.is_resp3() { b'>' } else { b'*' }, n);
    }

    /// A truth value (RESP2: `:1`, `:0`).
    pub fn bool(&mut self, yes: bool) {
        self.raw(match (self.resp, yes) {
            (Resp::V2, false) => b":0\r\n",
            (Resp::V2, true) => b":1\r\n",
            (Resp::V3, false) => b"#f\r\n",
            (Resp::V3, true) => b"#t\r\n",
        });
    }

    /// A double, in Redis's shortest form (RESP2: a bulk string).
    pub fn double(&mut self, value: f64) {
        self.human_double(format_double(value).as_bytes());
    }

    /// A double already printed, such as a long double in its human form (RESP2: a bulk string).
    pub fn human_double(&mut self, text: &[u8]) {
        if self.is_resp3() {
            self.line(b',', text)
        } else {
            self.bulk(text)
        }
    }

    /// A number of any size, given as its digits (RESP2: a bulk string).
    pub fn big_number(&mut self, digits: &[u8]) {
        if self.is_resp3() {
            self.line(b'(', digits)
        } else {
            self.bulk(digits)
        }
    }

    /// Text of a kind: `txt` or `mkd` (RESP2: a bulk string).
    pub fn verbatim(&mut self, kind: &[u8; 3], text: &[u8]) {
        if !self.is_resp3() {
            return self.bulk(text);
        }
        self.header(b'=', text.len() + 4);
        self.raw(kind);
        self.raw(b":");
        self.raw(text);
        self.raw(b"\r\n");
    }

    /// Bytes already in protocol form.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.room(bytes.len());
        self.tail.extend_from_slice(bytes);
    }

    #[inline]
    fn line(&mut self, prefix: u8, text: &[u8]) {
        self.room(text.len() + 3);
        self.tail.push(prefix);
        self.tail.extend_from_slice(text);
        self.tail.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn header(&mut self, prefix: u8, n: usize) {
        let digit = |d: usize| b'0' + d as u8;
        match n {
            0..=9 => self.raw(&[prefix, digit(n), b'\r', b'\n']),
            10..=99 => self.raw(&[prefix, digit(n / 10), digit(n % 10), b'\r', b'\n']),
            _ => self.number(prefix, n as i64),
        }
    }

    #[inline]
    fn number(&mut self, prefix: u8, n: i64) {
        if !(1..SHORT_END).contains(&n) {
            return self.raw(Header::new(prefix, n).as_bytes());
        }
        let (bytes, len) = short_header(prefix, n as u64);
        self.room(bytes.len());
        let end = self.tail.len() + len;
        // All of it and then cut: to copy a number of bytes that is known beforehand takes no call.
        self.tail.extend_from_slice(&bytes);
        self.tail.truncate(end);
    }

    fn map_header(&self, n: usize) -> (u8, usize) {
        if self.is_resp3() {
            (b'%', n)
        } else {
            (b'*', n * 2)
        }
    }
}

// --- Deferred headers, marks, other replies --------------------------------------------------------------------

impl Reply {
    /// Leaves room for a header to be written here later by one of the `close_...` functions.
    pub fn defer(&mut self) -> Deferred {
        self.open += 1;
        Deferred {
            at: self.end(),
            open: self.open,
        }
    }

    /// Makes what was written since [`Reply::defer`] an array of `n` elements.
    pub fn close_array(&mut self, deferred: Deferred, n: usize) {
        self.close(deferred, Header::new(b'*', n as i64).as_bytes());
    }

    /// Makes what was written since [`Reply::defer`] a map of `n` pairs.
    pub fn close_map(&mut self, deferred: Deferred, n: usize) {
        let (prefix, n) = self.map_header(n);
        self.close(deferred, Header::new(prefix, n as i64).as_bytes());
    }

    /// Makes what was written since [`Reply::defer`] a set of `n` elements.
    pub fn close_set(&mut self, deferred: Deferred, n: usize) {
        let prefix = if self.is_resp3() { b'~' } else { b'*' };
        self.close(deferred, Header::new(prefix, n as i64).as_bytes());
    }

    /// Puts `header`, any protocol bytes, where [`Reply::defer`] was called.
    pub fn close(&mut self, deferred: Deferred, header: &[u8]) {
        assert_eq!(
            deferred.open, self.open,
            "deferred headers close in reverse order"
        );
        self.open -= 1;
        let at = match self.find(deferred.at) {
            Place::Tail(at) => at,
            Place::Chunk(index, at) => {
                self.queue_mut()
                    .split(index, at, Bytes::copy_from_slice(header));
                return;
            }
        };
        let old_len = self.tail.len();
        self.tail.resize(old_len + header.len(), 0);
        self.tail.copy_within(at..old_len, at + header.len());
        self.tail[at..at + header.len()].copy_from_slice(header);
    }

    /// Remembers the end of the output, for [`Reply::truncate`] or [`Reply::len_since`].
    pub fn mark(&self) -> Mark {
        Mark {
            at: self.end(),
            open: self.open,
        }
    }

    /// Forgets everything written since the mark, deferred headers included. Nothing behind the mark may have
    /// been sent.
    pub fn truncate(&mut self, mark: Mark) {
        assert!(mark.at >= self.start(), "cut what was sent");
        self.open = mark.open;
        match self.find(mark.at) {
            Place::Tail(at) => self.tail.truncate(at),
            Place::Chunk(index, at) => {
                self.tail.clear();
                self.queue_mut().truncate(index, at);
            }
        }
        self.release_if_empty();
    }

    /// Bytes written since the mark.
    pub fn len_since(&self, mark: Mark) -> usize {
        (self.end() - mark.at) as usize
    }

    /// Moves another reply's pending output behind ours. Big chunks change hands without a copy.
    pub fn append(&mut self, mut other: Reply) {
        debug_assert_eq!(other.open, 0, "appended a reply with a header missing");
        if let Some(queue) = other.queue.take() {
            let mut skip = std::mem::take(&mut other.sent);
            for chunk in queue.chunks {
                self.chunk(chunk.slice(skip..));
                skip = 0;
            }
        }
        if self.is_empty() && other.tail.len() > TAIL_MIN && other.sent == 0 {
            self.tail = other.tail;
        } else {
            self.raw(&other.tail[other.sent..]);
        }
    }

    /// All pending output in one piece (for tests, and for whoever parses replies).
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len());
        for piece in self.pieces() {
            all.extend_from_slice(piece);
        }
        all
    }
}

enum Place {
    /// An index into the tail.
    Tail(usize),
    /// Which chunk, and an index into it.
    Chunk(usize, usize),
}

impl Queue {
    fn split(&mut self, index: usize, at: usize, between: Bytes) {
        self.bytes += between.len();
        let behind = self.chunks[index].split_off(at);
        let mut next = index + 1;
        if self.chunks[index].is_empty() {
            self.chunks[index] = between;
        } else {
            self.chunks.insert(next, between);
            next += 1;
        }
        self.chunks.insert(next, behind);
    }

    fn truncate(&mut self, index: usize, at: usize) {
        self.chunks.truncate(index + 1);
        self.chunks[index].truncate(at);
        if at == 0 {
            self.chunks.pop_back();
        }
        self.bytes = self.chunks.iter().map(Bytes::len).sum();
    }
}

// --- What the network and the accounting see -------------------------------------------------------------------

impl Reply {
    /// Bytes pending.
    #[inline]
    pub fn len(&self) -> usize {
        self.queued() + self.tail.len() - self.sent
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Position of the next byte to be written: all bytes this reply ever took.
    #[inline]
    pub fn end(&self) -> u64 {
        self.base + (self.queued() + self.tail.len()) as u64
    }

    /// Position of the next byte to be sent.
    #[inline]
    pub fn start(&self) -> u64 {
        self.base + self.sent as u64
    }

    /// Bytes of memory held: shared chunks at full length, until they are sent whole.
    pub fn memory(&self) -> usize {
        let queue = self.queue.as_ref().map_or(0, |queue| {
            size_of::<Queue>() + queue.chunks.capacity() * size_of::<Bytes>() + queue.bytes
        });
        queue + self.tail.capacity()
    }

    /// Sealed chunks waiting ahead of the tail.
    pub fn chunk_count(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.chunks.len())
    }

    /// Bytes in the tail.
    pub fn tail_len(&self) -> usize {
        self.tail.len() - if self.queue.is_some() { 0 } else { self.sent }
    }

    /// The pending output if it is in one piece, as most is.
    #[inline]
    pub fn only_piece(&self) -> Option<&[u8]> {
        self.queue.is_none().then(|| &self.tail[self.sent..])
    }

    /// Fills `slices` with pending output in order, up to position `until` (a barrier; `u64::MAX` for all).
    /// Gives how many slices were filled.
    pub fn io_slices<'a>(&'a self, until: u64, slices: &mut [IoSlice<'a>]) -> usize {
        let mut left = usize::try_from(until.saturating_sub(self.start())).unwrap_or(usize::MAX);
        let mut filled = 0;
        for (piece, slot) in self.pieces().zip(slices) {
            let piece = &piece[..piece.len().min(left)];
            if piece.is_empty() {
                break;
            }
            left -= piece.len();
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// The pending pieces in order, none of them empty.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.sent;
        let chunks = self
            .queue
            .iter()
            .flat_map(|queue| queue.chunks.iter().map(|chunk| &chunk[..]));
        let all = chunks.chain(std::iter::once(&self.tail[..]));
        all.map(move |piece| &piece[std::mem::take(&mut skip)..])
            .filter(|piece| !piece.is_empty())
    }

    /// `n` bytes were sent: forgets them, and gives memory back as pieces empty.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len(), "sent more than there was");
        self.sent += n;
        if let Some(queue) = &mut self.queue {
            while let Some(first) = queue.chunks.front() {
                if self.sent < first.len() {
                    return;
                }
                self.sent -= first.len();
                self.base += first.len() as u64;
                queue.bytes -= first.len();
                queue.chunks.pop_front();
            }
            self.queue = None;
        }
        self.release_if_empty();
    }

    /// Forgets all pending output; positions go on as if it had been sent.
    pub fn clear(&mut self) {
        self.open = 0;
        self.advance(self.len());
    }

    fn release_if_empty(&mut self) {
        if self.is_empty() {
            self.base = self.end();
            self.sent = 0;
            self.next_capacity = self.tail.len().next_power_of_two().min(TAIL_MAX) as u32;
            self.tail = Vec::new();
            self.queue = None;
        }
    }

    #[inline]
    fn queued(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.bytes)
    }

    fn queue_mut(&mut self) -> &mut Queue {
        self.queue.get_or_insert_default()
    }

    /// Where a position lies; the end of a chunk counts as the beginning of what follows.
    fn find(&self, at: u64) -> Place {
        let at = (at - self.base) as usize;
        let mut before = self.queued();
        if at >= before {
            return Place::Tail(at - before);
        }
        // Marks are young: look from the back.
        let chunks = self
            .queue
            .iter()
            .flat_map(|queue| queue.chunks.iter().enumerate());
        for (index, chunk) in chunks.rev() {
            before -= chunk.len();
            if at >= before {
                return Place::Chunk(index, at - before);
            }
        }
        Place::Chunk(0, 0)
    }

    /// Makes sure that `n` more bytes go into the tail without growing it past its bound.
    #[inline]
    fn room(&mut self, n: usize) {
        if self.tail.capacity() - self.tail.len() < n {
            self.grow(n);
        }
    }

    #[cold]
    fn grow(&mut self, n: usize) {
        if self.tail.len() + n > TAIL_MAX {
            self.seal();
        }
        let wanted = match self.tail.capacity() {
            0 if self.queue.is_none() => TAIL_MIN.max(self.next_capacity as usize),
            0 => TAIL_MIN,
            held => (held * 4).min(TAIL_MAX),
        };
        let capacity = wanted.max(self.tail.len() + n);
        if self.tail.is_empty() {
            self.tail = Vec::with_capacity(capacity);
        } else {
            self.tail.reserve_exact(capacity - self.tail.len());
        }
    }

    /// Moves the tail into the queue.
    fn seal(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let tail = std::mem::take(&mut self.tail);
        let queue = self.queue_mut();
        queue.bytes += tail.len();
        queue.chunks.push_back(Bytes::from(tail));
    }

    /// Bytes already in protocol form. A big chunk is queued as it is, a small one copied.
    pub fn chunk(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_MIN {
            return self.raw(&bytes);
        }
        self.seal();
        let queue = self.queue_mut();
        queue.bytes += bytes.len();
        queue.chunks.push_back(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(resp: Resp, write: impl FnOnce(&mut Reply)) -> String {
        let mut reply = Reply::with_resp(resp);
        write(&mut reply);
        String::from_utf8(reply.to_vec()).unwrap()
    }

    #[test]
    fn both_versions() {
        let all = |r: &mut Reply| {
            r.ok();
            r.status("QUEUED");
            r.error("ERR a\r\nb\n");
            r.int(-1);
            r.int(7);
            r.int(1234567890123);
            r.bulk(b"");
            r.bulk_int(-12);
            r.bulk_fmt(format_args!("{}-{}", 1, 2));
            r.null();
            r.null_array();
            r.array(123);
            r.map(2);
            r.set(10);
            r.push(3);
            r.bool(true);
            r.bool(false);
            r.double(3.25);
            r.double(f64::NEG_INFINITY);
            r.big_number(b"123");
            r.verbatim(b"txt", b"hi");
        };
        assert_eq!(
            written(Resp::V2, all),
            "+OK\r\n+QUEUED\r\n-ERR a  b\r\n:-1\r\n:7\r\n:1234567890123\r\n$0\r\n\r\n$3\r\n-12\r\n$3\r\n1-2\r\n\
             $-1\r\n*-1\r\n*123\r\n*4\r\n*10\r\n*3\r\n:1\r\n:0\r\n$4\r\n3.25\r\n$4\r\n-inf\r\n$3\r\n123\r\n\
             $2\r\nhi\r\n"
        );
        assert_eq!(
            written(Resp::V3, all),
            "+OK\r\n+QUEUED\r\n-ERR a  b\r\n:-1\r\n:7\r\n:1234567890123\r\n$0\r\n\r\n$3\r\n-12\r\n$3\r\n1-2\r\n\
             _\r\n_\r\n*123\r\n%2\r\n~10\r\n>3\r\n#t\r\n#f\r\n,3.25\r\n,-inf\r\n(123\r\n=6\r\ntxt:hi\r\n"
        );
    }

    #[test]
    fn numbers_of_all_lengths() {
        let powers = (0..19).map(|n| 10i64.pow(n));
        let around = powers.flat_map(|p| [p - 1, p, p + 1, p / 7 * 5, p * 3, -p, 1 - p]);
        for n in around.chain([i64::MIN, i64::MAX]).chain(0..20_000) {
            let mut reply = Reply::new();
            reply.int(n);
            if let Ok(len) = usize::try_from(n) {
                reply.array(len);
            }
            let mut want = format!(":{n}\r\n");
            if n >= 0 {
                want += &format!("*{n}\r\n");
            }
            assert_eq!(reply.to_vec(), want.as_bytes(), "{n}");
        }
    }

    #[test]
    fn empty_holds_nothing() {
        assert!(size_of::<Reply>() <= 64);
        let mut reply = Reply::new();
        assert_eq!(reply.memory(), 0);
        reply.bulk_shared(Bytes::from(vec![b'x'; SHARED_MIN]));
        reply.ok();
        assert!(reply.memory() > SHARED_MIN && reply.chunk_count() == 2);
        reply.advance(reply.len());
        assert_eq!(
            (reply.memory(), reply.len(), reply.chunk_count()),
            (0, 0, 0)
        );
        assert_eq!(reply.start(), reply.end());
    }

    #[test]
    fn shared_chunks_are_not_copied() {
        let value = Bytes::from(vec![b'x'; 100_000]);
        let mut reply = Reply::new();
        reply.bulk_shared(value.clone());
        assert!(reply.pieces().any(|piece| piece.as_ptr() == value.as_ptr()));
        let mut other = Reply::new();
        other.int(1);
        other.append(reply);
        assert!(other.pieces().any(|piece| piece.as_ptr() == value.as_ptr()));
    }

    #[test]
    fn barrier_bounds_what_is_sent() {
        let mut reply = Reply::new();
        reply.bulk_shared(Bytes::from(vec![b'x'; SHARED_MIN]));
        reply.ok();
        let barrier = reply.end();
        reply.ok();
        reply.advance(3);
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = reply.io_slices(barrier, &mut slices);
        let sum: usize = slices[..filled].iter().map(|s| s.len()).sum();
        assert_eq!(sum as u64, barrier - 3);
        assert_eq!(reply.io_slices(3, &mut slices), 0);
    }

    #[derive(Debug, Clone)]
    enum Op {
        Raw(usize),
        Shared(usize),
        Defer,
        Close(usize),
        Mark,
        Truncate,
        Append(usize),
        Send(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (0usize..3000).prop_map(Op::Raw),
            1 => (30_000usize..90_000).prop_map(Op::Raw),
            2 => (0usize..40_000).prop_map(Op::Shared),
            3 => Just(Op::Defer),
            3 => (0usize..2000).prop_map(Op::Close),
            1 => Just(Op::Mark),
            1 => Just(Op::Truncate),
            1 => (0usize..40_000).prop_map(Op::Append),
            1 => (0usize..100_000).prop_map(Op::Send),
        ]
    }

    proptest! {
        /// Against a flat vector: the same bytes, whatever was deferred, cut, appended and sent in between.
        #[test]
        fn behaves_as_one_buffer(ops in proptest::collection::vec(op(), 1..60)) {
            let mut reply = Reply::new();
            let (mut model, mut sent) = (Vec::<u8>::new(), 0usize);
            let mut open: Vec<(Deferred, usize)> = Vec::new();
            let mut mark: Option<(Mark, usize)> = None;
            let mut stamp = 0u8;
            for op in ops {
                stamp = stamp.wrapping_add(1);
                match op {
                    Op::Raw(n) => {
                        reply.raw(&vec![stamp; n]);
                        model.extend(vec![stamp; n]);
                    }
                    Op::Shared(n) => {
                        reply.bulk_shared(Bytes::from(vec![stamp; n]));
                        model.extend(format!("${n}\r\n").bytes());
                        model.extend(vec![stamp; n]);
                        model.extend(b"\r\n");
                    }
                    Op::Defer => open.push((reply.defer(), model.len())),
                    Op::Close(n) => {
                        if let Some((deferred, at)) = open.pop() {
                            reply.close_array(deferred, n);
                            model.splice(at..at, format!("*{n}\r\n").bytes());
                            mark = None;
                        }
                    }
                    Op::Mark if open.is_empty() => mark = Some((reply.mark(), model.len())),
                    Op::Truncate => {
                        if let Some((mark, len)) = mark.take() {
                            reply.truncate(mark);
                            model.truncate(len);
                            open.clear();
                        }
                    }
                    Op::Append(n) => {
                        let mut other = Reply::new();
                        other.bulk_shared(Bytes::from(vec![stamp; n]));
                        other.advance(1);
                        reply.append(other);
                        model.extend(format!("{n}\r\n").bytes());
                        model.extend(vec![stamp; n]);
                        model.extend(b"\r\n");
                    }
                    Op::Send(n) if open.is_empty() => {
                        let n = n.min(reply.len());
                        reply.advance(n);
                        sent += n;
                        mark = None;
                    }
                    _ => {}
                }
                prop_assert_eq!(reply.len(), model.len() - sent);
                prop_assert_eq!(reply.end(), model.len() as u64);
            }
            prop_assert_eq!(reply.to_vec(), &model[sent..]);
        }
    }
}
