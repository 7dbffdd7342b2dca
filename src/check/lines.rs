//! A file read as C's `fgets` and `fread` do, which know where they are and whether they have met the end.

use std::io::{self, BufRead};

/// See the head of the file.
pub struct Lines<R> {
    from: R,
    /// Bytes read so far.
    pub offset: u64,
    /// A read wanted more than there was.
    pub at_eof: bool,
    line: Vec<u8>,
}

/// What [`Lines::pass`] has passed over.
#[derive(Default)]
pub struct Passed {
    pub len: u64,
    /// Its first bytes, as many as a command's name may have.
    pub head: Vec<u8>,
    /// Its last bytes.
    pub tail: [u8; 2],
}

const HEAD_MAX: usize = 64;

/// What has arrived, at least one byte; none at the end.
fn some<'r, R: BufRead>(from: &'r mut R, at_eof: &mut bool) -> io::Result<&'r [u8]> {
    while let Err(error) = from.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let bytes = from.fill_buf()?;
    *at_eof |= bytes.is_empty();
    Ok(bytes)
}

impl<R: BufRead> Lines<R> {
    /// A file of which the bytes before `offset` were read.
    pub fn new(from: R, offset: u64) -> Lines<R> {
        Lines {
            from,
            offset,
            at_eof: false,
            line: Vec::new(),
        }
    }

    fn used(&mut self, n: usize) {
        self.from.consume(n);
        self.offset += n as u64;
    }

    /// The next byte, which is still to come; `None` at the end.
    pub fn peek(&mut self) -> io::Result<Option<u8>> {
        some(&mut self.from, &mut self.at_eof).map(|bytes| bytes.first().copied())
    }

    /// The next line with its end, cut off after `most` bytes; `None` at the end of the file.
    pub fn line(&mut self, most: usize) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        while self.line.len() < most && self.line.last() != Some(&b'\n') {
            let bytes = some(&mut self.from, &mut self.at_eof)?;
            let bytes = &bytes[..bytes.len().min(most - self.line.len())];
            let n = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
            if n == 0 {
                break;
            }
            self.line.extend_from_slice(&bytes[..n]);
            self.used(n);
        }
        Ok(Some(&self.line[..]).filter(|line| !line.is_empty()))
    }

    /// Passes over up to `len` bytes.
    pub fn pass(&mut self, len: u64) -> io::Result<Passed> {
        let mut passed = Passed::default();
        while passed.len < len {
            let bytes = some(&mut self.from, &mut self.at_eof)?;
            let left = len - passed.len;
            let n = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let bytes = &bytes[..n];
            let room = HEAD_MAX - passed.head.len();
            passed.head.extend_from_slice(&bytes[..n.min(room)]);
            passed.tail = match bytes {
                [.., a, b] => [*a, *b],
                [b] => [passed.tail[1], *b],
                [] => break,
            };
            passed.len += n as u64;
            self.used(n);
        }
        Ok(passed)
    }
}
