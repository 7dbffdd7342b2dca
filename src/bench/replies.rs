//! Counts replies, and keeps nothing of them but errors: a load generator's own work is to be small.
//!
//! How much of a reply is still to come is one number: a list of n puts n in the place of the one value that it is. What
//! the server sends by itself is no reply.

use memchr::memchr;

use crate::base::number::parse_i64;

/// What came is not RESP.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// See the head of the file.
#[derive(Default)]
pub struct Replies {
    /// Values to come until the reply is complete; 0 between two.
    left: u64,
    /// Bytes of a string to come, its end with it.
    skip: u64,
    /// What has arrived of a line.
    line: Vec<u8>,
    /// The reply is a message that nobody asked for.
    is_push: bool,
    error: Option<Vec<u8>>,
}

impl Replies {
    /// Reads what arrived, and gives each complete reply: its text if it is an error.
    pub fn read<E>(
        &mut self,
        mut bytes: &[u8],
        mut reply: impl FnMut(Option<Vec<u8>>) -> Result<(), E>,
    ) -> Result<Result<(), E>, Malformed> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let n = usize::try_from(self.skip).map_or(bytes.len(), |n| n.min(bytes.len()));
                self.skip -= n as u64;
                bytes = &bytes[n..];
                if self.skip > 0 {
                    break;
                }
                self.left -= 1;
            } else {
                let Some(end) = memchr(b'\n', bytes) else {
                    self.line.extend_from_slice(bytes);
                    break;
                };
                let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
                bytes = rest;
                if self.line.is_empty() {
                    self.header(line)?;
                } else {
                    let mut whole = std::mem::take(&mut self.line);
                    whole.extend_from_slice(line);
                    self.header(&whole)?;
                }
            }
            let complete = self.left == 0 && !std::mem::take(&mut self.is_push);
            if complete && let Err(error) = reply(self.error.take()) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Malformed> {
        let Some((&kind, rest)) = line.split_first() else {
            return Err(Malformed);
        };
        let is_first = self.left == 0;
        if is_first {
            self.left = 1;
        }
        let text = rest.strip_suffix(b"\r").ok_or(Malformed)?;
        let count = || parse_i64(text).ok_or(Malformed);
        // What holds others, and what stands for nothing with a length of -1.
        let values = match kind {
            b'$' | b'=' => {
                let len = count()?;
                if let Ok(len) = u64::try_from(len) {
                    self.skip = len.checked_add(2).ok_or(Malformed)?;
                    return Ok(());
                }
                0
            }
            b'*' | b'~' | b'>' => u64::try_from(count()?).unwrap_or(0),
            b'%' | b'|' => u64::try_from(count()?)
                .unwrap_or(0)
                .checked_mul(2)
                .ok_or(Malformed)?,
            b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' => 0,
            _ => return Err(Malformed),
        };
        self.is_push |= is_first && kind == b'>';
        if is_first && kind == b'-' {
            self.error = Some(text.to_vec());
        }
        // Attributes come on top of the value that they belong to.
        let itself = u64::from(kind != b'|');
        self.left = (self.left - itself).checked_add(values).ok_or(Malformed)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_counted_however_they_arrive() {
        let input = b"+OK\r\n-ERR x\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n*2\r\n:1\r\n*1\r\n$0\r\n\r\n*0\r\n%1\r\n+k\r\n~1\r\n:2\r\n\
            >2\r\n+m\r\n$1\r\nx\r\n|1\r\n+ttl\r\n:9\r\n*1\r\n:3\r\n=5\r\ntxt:a\r\n_\r\n";
        for piece in [1, 2, 3, 7, 1000] {
            let (mut replies, mut seen) = (Replies::default(), Vec::new());
            for bytes in input.chunks(piece) {
                let done: Result<(), ()> = replies
                    .read(bytes, |error| {
                        seen.push(error);
                        Ok(())
                    })
                    .unwrap();
                done.unwrap();
            }
            let mut want = vec![None; 11];
            want[1] = Some(b"ERR x".to_vec());
            assert_eq!(seen, want, "{piece}");
        }
        let mut replies = Replies::default();
        assert!(replies.read(b"hello\r\n", |_| Ok::<(), ()>(())).is_err());
    }
}
