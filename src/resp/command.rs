//! A command as it goes out: an array of bulk strings, as clients send it, logs keep it and replicas get it.

/// Appends a command; the name is the first of the words.
///
/// ```
/// let mut to = Vec::new();
/// redstart::resp::command::encode(&[b"GET", b"key"], &mut to);
/// assert_eq!(to, b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
/// ```
#[inline]
pub fn encode(argv: &[&[u8]], to: &mut Vec<u8>) {
    let room: usize = argv.iter().map(|arg| arg.len() + LINES_MAX).sum();
    to.reserve(room + LINES_MAX);
    header(b'*', argv.len(), to);
    for arg in argv {
        header(b'$', arg.len(), to);
        to.extend_from_slice(arg);
        to.extend_from_slice(b"\r\n");
    }
}

/// An argument takes no more than this beside its bytes.
const LINES_MAX: usize = 25;

#[inline]
fn header(prefix: u8, n: usize, to: &mut Vec<u8>) {
    let digit = |d: usize| b'0' + d as u8;
    match n {
        0..=9 => to.extend_from_slice(&[prefix, digit(n), b'\r', b'\n']),
        10..=99 => to.extend_from_slice(&[prefix, digit(n / 10), digit(n % 10), b'\r', b'\n']),
        _ => {
            to.push(prefix);
            to.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
            to.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::value::{Decoder, Value};

    #[test]
    fn lengths_of_any_number_of_digits_are_read_back() {
        for len in [0, 9, 10, 99, 100, 12_345] {
            let (word, mut bytes) = (vec![b'x'; len], Vec::new());
            let argv: Vec<&[u8]> = vec![&word; len.clamp(1, 200)];
            encode(&argv, &mut bytes);
            let (used, value) = Decoder::new().decode(&bytes).unwrap();
            assert_eq!(used, bytes.len());
            let Some(Value::Array(words)) = value else {
                panic!("{value:?}")
            };
            assert_eq!(words.len(), argv.len());
            assert!(words.iter().all(|w| w.as_bytes() == Some(&word[..])));
        }
    }
}
