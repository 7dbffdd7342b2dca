//! What SCAN and its kin are asked for: `cursor [MATCH pattern] [COUNT count] [TYPE type]`.

use crate::base::glob;
use crate::base::number::parse_i64;
use crate::object::Type;

/// Why the options were not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// "invalid cursor"
    Cursor,
    /// "value is not an integer or out of range"
    Count,
    /// "syntax error"
    Syntax,
}

/// The options of a SCAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanOptions<'a> {
    /// About how many to return.
    pub count: usize,
    /// `None` for `*`, which would match everything.
    pattern: Option<&'a [u8]>,
    /// `Some(None)` for a type that does not exist, which nothing has.
    wanted_type: Option<Option<Type>>,
}

impl<'a> ScanOptions<'a> {
    /// Reads what stands behind the cursor. TYPE is an option only of SCAN itself (`of_keyspace`).
    pub fn parse(args: &[&'a [u8]], of_keyspace: bool) -> Result<ScanOptions<'a>, ScanError> {
        let mut options = ScanOptions {
            count: 10,
            pattern: None,
            wanted_type: None,
        };
        let mut args = args.iter();
        while let Some(name) = args.next() {
            let value = args.next().ok_or(ScanError::Syntax)?;
            if name.eq_ignore_ascii_case(b"count") {
                let count = parse_i64(value).ok_or(ScanError::Count)?;
                options.count = match usize::try_from(count) {
                    Ok(count) if count > 0 => count,
                    _ => return Err(ScanError::Syntax),
                };
            } else if name.eq_ignore_ascii_case(b"match") {
                options.pattern = (*value != b"*").then_some(*value);
            } else if name.eq_ignore_ascii_case(b"type") && of_keyspace {
                options.wanted_type = Some(Type::by_name(value));
            } else {
                return Err(ScanError::Syntax);
            }
        }
        Ok(options)
    }

    /// Whether the pattern matches.
    pub fn wants_name(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|p| glob::matches(p, name))
    }

    /// True if only keys of one type are wanted.
    pub fn has_type(&self) -> bool {
        self.wanted_type.is_some()
    }

    /// Whether the type is wanted.
    pub fn wants_type(&self, of: Type) -> bool {
        self.wanted_type.is_none_or(|wanted| wanted == Some(of))
    }
}

/// Reads a cursor as C's `strtoul` does, which Redis reads it with: digits and perhaps a sign, nothing before or behind,
/// and nothing at all is zero. A zero byte ends the text.
pub fn parse_cursor(text: &[u8]) -> Result<u64, ScanError> {
    let text = text.split(|&b| b == 0).next().unwrap_or_default();
    let (negative, digits) = match text {
        [] => return Ok(0),
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ScanError::Cursor);
    }
    let value = digits.iter().try_fold(0u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    });
    match value {
        Some(value) if negative => Ok(value.wrapping_neg()),
        Some(value) => Ok(value),
        None => Err(ScanError::Cursor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_redis_reads_them() {
        let parse = |text: &'static str| {
            let args: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
            ScanOptions::parse(&args, true)
        };
        let all = parse("COUNT 5 match a* TYPE String").unwrap();
        assert_eq!(all.count, 5);
        assert!(all.wants_name(b"ab") && !all.wants_name(b"b"));
        assert!(all.wants_type(Type::String) && !all.wants_type(Type::List));
        assert!(!parse("type module").unwrap().wants_type(Type::String));
        assert!(parse("match *").unwrap().wants_name(b""));
        assert_eq!(parse("count 0"), Err(ScanError::Syntax));
        assert_eq!(parse("count x"), Err(ScanError::Count));
        assert_eq!(parse("count 5 match"), Err(ScanError::Syntax));
        assert_eq!(
            ScanOptions::parse(&[b"type", b"string"], false),
            Err(ScanError::Syntax)
        );
    }

    #[test]
    fn cursors_are_read_as_strtoul_reads_them() {
        assert_eq!(parse_cursor(b""), Ok(0));
        assert_eq!(parse_cursor(b"+17"), Ok(17));
        assert_eq!(parse_cursor(b"5\0x"), Ok(5));
        assert_eq!(parse_cursor(b"-1"), Ok(u64::MAX));
        assert_eq!(parse_cursor(b"18446744073709551615"), Ok(u64::MAX));
        for bad in [&b"18446744073709551616"[..], b" 1", b"1 ", b"-", b"1x"] {
            assert_eq!(parse_cursor(bad), Err(ScanError::Cursor));
        }
    }
}
