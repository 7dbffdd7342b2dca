//! Replies parsed again: for client programs, for links to other servers, and for tests.
//!
//! The decoder takes what has arrived and keeps its place between calls: aggregates that are still open stand on a
//! stack, so a reply of a million elements that comes in pieces is read once. Attributes wrap the value they precede.

use std::fmt;

use memchr::memchr;

use crate::base::number::parse_i64;

/// A reply, RESP2 or RESP3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Status(Vec<u8>),
    /// Code and message, without the leading `-`.
    Error(Vec<u8>),
    Int(i64),
    Bulk(Vec<u8>),
    /// `_` or `$-1`.
    Null,
    /// `*-1`: only RESP2 knows it.
    NullArray,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Bool(bool),
    /// The text as sent.
    Double(Vec<u8>),
    BigNumber(Vec<u8>),
    Verbatim {
        kind: [u8; 3],
        text: Vec<u8>,
    },
    /// A value and the attributes that came ahead of it.
    Attributed {
        attributes: Vec<(Value, Value)>,
        value: Box<Value>,
    },
}

impl Value {
    /// The bytes of a string of any kind, errors and numbers sent as text included.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Status(text)
            | Value::Error(text)
            | Value::Bulk(text)
            | Value::Double(text)
            | Value::BigNumber(text)
            | Value::Verbatim { text, .. } => Some(text),
            Value::Attributed { value, .. } => value.as_bytes(),
            _ => None,
        }
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    /// Whether this is an out-of-band message, no answer to a request.
    pub fn is_push(&self) -> bool {
        matches!(self, Value::Push(_))
    }
}

/// What came is not RESP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// No type begins with this byte.
    Type(u8),
    /// A length or number that is none, or a text that is too short for its type.
    Content,
    /// Deeper than anyone sends.
    Depth,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Type(byte) => {
                write!(
                    f,
                    "Protocol error, got \"{}\" as reply type byte",
                    byte.escape_ascii()
                )
            }
            Malformed::Content => f.write_str("Protocol error, bad length or value"),
            Malformed::Depth => f.write_str("Protocol error, reply nested too deep"),
        }
    }
}

impl std::error::Error for Malformed {}

const DEPTH_MAX: usize = 128;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Array,
    Map,
    Set,
    Push,
    /// The attributes of the value that follows.
    Attribute,
    /// Waits for that value.
    Attributed,
}

/// An aggregate that is still open.
struct Open {
    kind: Kind,
    left: usize,
    items: Vec<Value>,
}

/// Reads replies from what has arrived so far.
#[derive(Default)]
pub struct Decoder {
    open: Vec<Open>,
}

enum Token {
    Value(Value),
    Open(Kind, usize),
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Reads on from `buf`. Gives how many bytes to drop, and the reply if it is complete: then call again for the
    /// next one. After an error the connection is of no use any more.
    pub fn decode(&mut self, buf: &[u8]) -> Result<(usize, Option<Value>), Malformed> {
        let mut pos = 0;
        while let Some((token, len)) = token(&buf[pos..])? {
            pos += len;
            let value = match token {
                Token::Value(value) => value,
                Token::Open(kind, 0) if kind != Kind::Attribute => close(kind, Vec::new()),
                Token::Open(kind, left) => {
                    if self.open.len() == DEPTH_MAX {
                        return Err(Malformed::Depth);
                    }
                    self.open.push(Open {
                        kind,
                        left,
                        items: Vec::with_capacity(left.min(1024)),
                    });
                    if left == 0 {
                        self.expect_attributed();
                    }
                    continue;
                }
            };
            if let Some(whole) = self.place(value) {
                return Ok((pos, Some(whole)));
            }
        }
        Ok((pos, None))
    }

    /// Whether part of a reply has been taken.
    pub fn is_midway(&self) -> bool {
        !self.open.is_empty()
    }

    /// Puts a complete value where it belongs, and closes what that completes.
    fn place(&mut self, mut value: Value) -> Option<Value> {
        loop {
            let Some(top) = self.open.last_mut() else {
                return Some(value);
            };
            top.items.push(value);
            top.left -= 1;
            if top.left > 0 {
                return None;
            }
            if top.kind == Kind::Attribute {
                self.expect_attributed();
                return None;
            }
            let Open { kind, items, .. } = self.open.pop()?;
            value = close(kind, items);
        }
    }

    /// The innermost aggregate, complete attributes, now waits for the value that they belong to.
    fn expect_attributed(&mut self) {
        if let Some(top) = self.open.last_mut() {
            top.kind = Kind::Attributed;
            top.left = 1;
        }
    }
}

fn close(kind: Kind, mut items: Vec<Value>) -> Value {
    match kind {
        Kind::Array => Value::Array(items),
        Kind::Set => Value::Set(items),
        Kind::Push => Value::Push(items),
        Kind::Map | Kind::Attribute => Value::Map(pairs(items)),
        Kind::Attributed => {
            let value = Box::new(items.pop().unwrap_or(Value::Null));
            Value::Attributed {
                attributes: pairs(items),
                value,
            }
        }
    }
}

fn pairs(items: Vec<Value>) -> Vec<(Value, Value)> {
    let mut items = items.into_iter();
    let mut pairs = Vec::with_capacity(items.len() / 2);
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    pairs
}

/// The first token of `buf` and its length, if it is all there.
fn token(buf: &[u8]) -> Result<Option<(Token, usize)>, Malformed> {
    let Some(&kind) = buf.first() else {
        return Ok(None);
    };
    if !b"+-:$*%~>|#,(=_".contains(&kind) {
        return Err(Malformed::Type(kind));
    }
    let Some(end) = memchr(b'\n', buf) else {
        return Ok(None);
    };
    let Some(line) = buf[1..end].strip_suffix(b"\r") else {
        return Err(Malformed::Content);
    };
    let number = || parse_i64(line).ok_or(Malformed::Content);
    let count = || usize::try_from(number()?).map_err(|_| Malformed::Content);
    let value = match kind {
        b'+' => Value::Status(line.to_vec()),
        b'-' => Value::Error(line.to_vec()),
        b':' => Value::Int(number()?),
        b',' => Value::Double(line.to_vec()),
        b'(' => Value::BigNumber(line.to_vec()),
        b'_' if line.is_empty() => Value::Null,
        b'#' if line == b"t" => Value::Bool(true),
        b'#' if line == b"f" => Value::Bool(false),
        b'$' | b'*' if line == b"-1" => {
            if kind == b'$' {
                Value::Null
            } else {
                Value::NullArray
            }
        }
        b'$' | b'=' => return bulk(kind, &buf[end + 1..], count()?, end + 1),
        b'*' => return Ok(Some((Token::Open(Kind::Array, count()?), end + 1))),
        b'~' => return Ok(Some((Token::Open(Kind::Set, count()?), end + 1))),
        b'>' => return Ok(Some((Token::Open(Kind::Push, count()?), end + 1))),
        b'%' | b'|' => {
            let items = count()?.checked_mul(2).ok_or(Malformed::Content)?;
            let kind = if kind == b'%' {
                Kind::Map
            } else {
                Kind::Attribute
            };
            return Ok(Some((Token::Open(kind, items), end + 1)));
        }
        _ => return Err(Malformed::Content),
    };
    Ok(Some((Token::Value(value), end + 1)))
}

fn bulk(
    kind: u8,
    rest: &[u8],
    len: usize,
    header: usize,
) -> Result<Option<(Token, usize)>, Malformed> {
    let whole = len.checked_add(2).ok_or(Malformed::Content)?;
    if rest.len() < whole {
        return Ok(None);
    }
    if &rest[len..whole] != b"\r\n" {
        return Err(Malformed::Content);
    }
    let value = match (kind, &rest[..len]) {
        (b'=', [a, b, c, b':', text @ ..]) => Value::Verbatim {
            kind: [*a, *b, *c],
            text: text.to_vec(),
        },
        (b'=', _) => return Err(Malformed::Content),
        (_, bytes) => Value::Bulk(bytes.to_vec()),
    };
    Ok(Some((Token::Value(value), header + whole)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::reply::{Reply, Resp};
    use proptest::prelude::*;

    fn all(input: &[u8], piece: usize) -> Result<Vec<Value>, Malformed> {
        let (mut decoder, mut buf, mut values) = (Decoder::new(), Vec::new(), Vec::new());
        for bytes in input.chunks(piece) {
            buf.extend_from_slice(bytes);
            loop {
                let (used, value) = decoder.decode(&buf)?;
                buf.drain(..used);
                match value {
                    Some(value) => values.push(value),
                    None => break,
                }
            }
        }
        Ok(values)
    }

    #[test]
    fn every_type() {
        let input = b"+OK\r\n-ERR x\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n_\r\n#t\r\n#f\r\n,1.5\r\n(123\r\n=7\r\ntxt:abc\r\n\
            *2\r\n:1\r\n*0\r\n%1\r\n+k\r\n~1\r\n:2\r\n>1\r\n+m\r\n|1\r\n+ttl\r\n:9\r\n*1\r\n:3\r\n";
        let want = vec![
            Value::Status(b"OK".to_vec()),
            Value::Error(b"ERR x".to_vec()),
            Value::Int(-7),
            Value::Bulk(b"a\r\n".to_vec()),
            Value::Null,
            Value::NullArray,
            Value::Null,
            Value::Bool(true),
            Value::Bool(false),
            Value::Double(b"1.5".to_vec()),
            Value::BigNumber(b"123".to_vec()),
            Value::Verbatim {
                kind: *b"txt",
                text: b"abc".to_vec(),
            },
            Value::Array(vec![Value::Int(1), Value::Array(vec![])]),
            Value::Map(vec![(
                Value::Status(b"k".to_vec()),
                Value::Set(vec![Value::Int(2)]),
            )]),
            Value::Push(vec![Value::Status(b"m".to_vec())]),
            Value::Attributed {
                attributes: vec![(Value::Status(b"ttl".to_vec()), Value::Int(9))],
                value: Box::new(Value::Array(vec![Value::Int(3)])),
            },
        ];
        for piece in [1, 2, 7, 1000] {
            assert_eq!(all(input, piece).as_ref(), Ok(&want));
        }
    }

    #[test]
    fn malformed() {
        assert_eq!(all(b"hello\r\n", 3), Err(Malformed::Type(b'h')));
        for bad in [
            &b":x\r\n"[..],
            b"$-2\r\n",
            b"*x\r\n",
            b"$1\r\nabc",
            b"#x\r\n",
            b"=2\r\nab\r\n",
            b"+a\n",
        ] {
            assert_eq!(
                all(bad, 1),
                Err(Malformed::Content),
                "{}",
                bad.escape_ascii()
            );
        }
        assert_eq!(all(&b"*1\r\n".repeat(1000), 64), Err(Malformed::Depth));
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = || proptest::collection::vec(any::<u8>(), 0..10);
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::Int),
            text().prop_map(Value::Bulk),
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            "[a-z]{0,5}".prop_map(|s| Value::Status(s.into_bytes())),
            text().prop_map(|text| Value::Verbatim {
                kind: *b"mkd",
                text
            }),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            let list = || proptest::collection::vec(inner.clone(), 0..5);
            prop_oneof![
                list().prop_map(Value::Array),
                list().prop_map(Value::Set),
                list().prop_map(Value::Push),
                proptest::collection::vec((inner.clone(), inner.clone()), 0..4)
                    .prop_map(Value::Map),
            ]
        })
    }

    fn write(reply: &mut Reply, value: &Value) {
        let mut list = |head: fn(&mut Reply, usize), items: &[Value]| {
            head(reply, items.len());
            items.iter().for_each(|item| write(reply, item));
        };
        match value {
            Value::Array(items) => list(Reply::array, items),
            Value::Set(items) => list(Reply::set, items),
            Value::Push(items) => list(Reply::push, items),
            Value::Map(pairs) => {
                // The length comes later, as for those who do not know it.
                let head = reply.defer();
                for (key, value) in pairs {
                    write(reply, key);
                    write(reply, value);
                }
                reply.close_map(head, pairs.len());
            }
            Value::Int(n) => reply.int(*n),
            Value::Bulk(bytes) => reply.bulk(bytes),
            Value::Bool(yes) => reply.bool(*yes),
            Value::Status(text) => reply.status(text),
            Value::Verbatim { kind, text } => reply.verbatim(kind, text),
            _ => reply.null(),
        }
    }

    proptest! {
        /// What the writer writes, the decoder reads, however it arrives.
        #[test]
        fn reads_what_is_written(value in value(), piece in 1usize..50) {
            let mut reply = Reply::with_resp(Resp::V3);
            write(&mut reply, &value);
            prop_assert_eq!(all(&reply.to_vec(), piece), Ok(vec![value]));
        }

        #[test]
        fn noise_never_panics(input in proptest::collection::vec(any::<u8>(), 0..200), piece in 1usize..50) {
            let _ = all(&input, piece);
        }
    }
}
