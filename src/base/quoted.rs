//! Quoted arguments, the syntax shared by inline commands, redis.conf and redis-cli.
//!
//! Arguments are parted by blanks. Inside "double quotes" the escapes `\n \r \t \b \a \xHH` mean what they mean in
//! C and any other escaped byte means itself; inside 'single quotes' only `\'` is special. A closing quote must
//! be followed by a blank or the end. A zero byte ends the line.

/// A quote was left open, or a closing one was followed by something other than a blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unbalanced;

/// C's `isspace` in the C locale.
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Reads one argument off the front of `line` and appends its bytes to `out`. Gives the rest of the line, or
/// `None` (and nothing appended) where no argument is left.
pub fn take_arg<'a>(line: &'a [u8], out: &mut Vec<u8>) -> Result<Option<&'a [u8]>, Unbalanced> {
    let at = |i: usize| line.get(i).copied().unwrap_or(0);
    let mut i = 0;
    while is_space(at(i)) {
        i += 1;
    }
    if at(i) == 0 {
        return Ok(None);
    }
    loop {
        match at(i) {
            // Redis skips all six C blanks ahead of an argument, but only these end one.
            0 | b' ' | b'\n' | b'\r' | b'\t' => break,
            b'"' => {
                i = double_quoted(&at, i + 1, out)?;
                break;
            }
            b'\'' => {
                i = single_quoted(&at, i + 1, out)?;
                break;
            }
            byte => out.push(byte),
        }
        i += 1;
    }
    Ok(Some(&line[i.min(line.len())..]))
}

fn after_quote(at: &impl Fn(usize) -> u8, i: usize) -> Result<usize, Unbalanced> {
    if at(i) == 0 || is_space(at(i)) {
        Ok(i)
    } else {
        Err(Unbalanced)
    }
}

fn double_quoted(
    at: &impl Fn(usize) -> u8,
    mut i: usize,
    out: &mut Vec<u8>,
) -> Result<usize, Unbalanced> {
    loop {
        match (at(i), at(i + 1)) {
            (0, _) => return Err(Unbalanced),
            (b'"', _) => return after_quote(at, i + 1),
            (b'\\', b'x') if at(i + 2).is_ascii_hexdigit() && at(i + 3).is_ascii_hexdigit() => {
                out.push(hex_value(at(i + 2)) << 4 | hex_value(at(i + 3)));
                i += 4;
            }
            (b'\\', escaped) if escaped != 0 => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                i += 2;
            }
            (byte, _) => {
                out.push(byte);
                i += 1;
            }
        }
    }
}

fn single_quoted(
    at: &impl Fn(usize) -> u8,
    mut i: usize,
    out: &mut Vec<u8>,
) -> Result<usize, Unbalanced> {
    loop {
        match (at(i), at(i + 1)) {
            (0, _) => return Err(Unbalanced),
            (b'\'', _) => return after_quote(at, i + 1),
            (b'\\', b'\'') => {
                out.push(b'\'');
                i += 2;
            }
            (byte, _) => {
                out.push(byte);
                i += 1;
            }
        }
    }
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Splits a whole line into its arguments.
pub fn split_args(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
    let mut args = Vec::new();
    let mut rest = line;
    loop {
        let mut arg = Vec::new();
        match take_arg(rest, &mut arg)? {
            None => return Ok(args),
            Some(after) => {
                args.push(arg);
                rest = after;
            }
        }
    }
}

/// Appends `bytes` in double quotes, escaped so that [`split_args`] reads them back.
pub fn quote_into(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            7 => out.extend_from_slice(b"\\a"),
            8 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend_from_slice(&[
                b'\\',
                b'x',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
    }
    out.push(b'"');
}

/// `bytes` in double quotes, as text for logs and messages.
pub fn quote(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len() + 2);
    quote_into(bytes, &mut out);
    // Only printable ASCII was put in.
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether a value must be quoted to be read back as one argument.
pub fn needs_quotes(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .any(|&b| !(b'!'..=b'~').contains(&b) || b == b'\\' || b == b'"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(line: &str) -> Result<Vec<String>, Unbalanced> {
        let args = split_args(line.as_bytes())?;
        Ok(args
            .iter()
            .map(|a| String::from_utf8_lossy(a).into_owned())
            .collect())
    }

    #[test]
    fn splits() {
        assert_eq!(
            split("  set  key\tvalue \r").unwrap(),
            ["set", "key", "value"]
        );
        assert_eq!(
            split(r#""a b" 'c "d' e"f g""#).unwrap(),
            ["a b", "c \"d", "ef g"]
        );
        assert_eq!(
            split(r#""\x41\n\q\\\"" '\'\n'"#).unwrap(),
            ["A\nq\\\"", "'\\n"]
        );
        assert_eq!(split(r#""" ''"#).unwrap(), ["", ""]);
        assert_eq!(split(r#""\x4g""#).unwrap(), ["x4g"]);
        assert_eq!(split("").unwrap(), [""; 0]);
        assert_eq!(split("a\0 b").unwrap(), ["a"]);
        // A vertical tab parts nothing in the middle of an argument, but is skipped ahead of one.
        assert_eq!(split("a\x0bb \x0bc").unwrap(), ["a\x0bb", "c"]);
        assert_eq!(split("\"a\"\x0b'b'").unwrap(), ["a", "b"]);
        for bad in ["\"a", "'a", "\"a\"b", "'a'b", "\"a\\", "a \"b\"\"c\""] {
            assert_eq!(split(bad), Err(Unbalanced), "{bad}");
        }
    }

    #[test]
    fn quotes() {
        assert_eq!(
            quote(b"a\"\\\n\r\t\x07\x08\x00\xff~"),
            r#""a\"\\\n\r\t\a\b\x00\xff~""#
        );
        assert!(needs_quotes(b"a b") && needs_quotes(b"\x80") && !needs_quotes(b"'plain'"));
    }

    proptest! {
        #[test]
        fn quoted_reads_back(args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..5)) {
            let mut line = Vec::new();
            for arg in &args {
                quote_into(arg, &mut line);
                line.push(b' ');
            }
            prop_assert_eq!(split_args(&line).unwrap(), args);
        }
    }
}
