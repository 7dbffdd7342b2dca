//! Numbers as a configuration file spells them: bytes with a unit, octal permissions, and the lenient
//! decimals that Redis reads inside of `save` and its kin with C's `strtoll`.

/// Bytes, with `b k kb m mb g gb` in any case as units (`k` is 1000, `kb` 1024). What exceeds 64 bits
/// counts as the largest value, so that "more than everything" stays that.
pub fn parse_memory(s: &[u8]) -> Option<u64> {
    let digits = s.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, unit) = s.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1000 * 1000,
        b"mb" => 1 << 20,
        b"g" => 1000 * 1000 * 1000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let add = |n: u64, b: &u8| n.saturating_mul(10).saturating_add(u64::from(b - b'0'));
    Some(number.iter().fold(0, add).saturating_mul(factor))
}

/// The shortest spelling of `bytes` that a file takes: in gb, mb or kb where that loses nothing.
pub fn format_memory(bytes: u64) -> String {
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Digits of base `radix` after optional blanks and sign, as `strtoll` reads them where nothing may follow:
/// nothing at all is zero, and too large a value is the largest.
pub fn parse_lenient(s: &[u8], radix: u32) -> Option<i64> {
    if s.is_empty() {
        return Some(0);
    }
    let blanks = s.iter().take_while(|b| crate::base::quoted::is_space(**b));
    let s = &s[blanks.count()..];
    let (negative, digits) = match s {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, s),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value: i64 = 0;
    for byte in digits {
        let digit = i64::from((*byte as char).to_digit(radix)?);
        value = value.saturating_mul(i64::from(radix));
        value = match negative {
            true => value.saturating_sub(digit),
            false => value.saturating_add(digit),
        };
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_units() {
        let cases: [(&str, Option<u64>); 16] = [
            ("0", Some(0)),
            ("1b", Some(1)),
            ("2k", Some(2000)),
            ("2kb", Some(2048)),
            ("3M", Some(3_000_000)),
            ("3Mb", Some(3 << 20)),
            ("1g", Some(1_000_000_000)),
            ("1GB", Some(1 << 30)),
            ("gb", Some(0)),
            ("", Some(0)),
            ("-1", None),
            ("1kbb", None),
            ("1 kb", None),
            ("0x10", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("99999999999gb", Some(u64::MAX)),
        ];
        for (text, value) in cases {
            assert_eq!(parse_memory(text.as_bytes()), value, "{text}");
        }
    }

    #[test]
    fn memory_is_printed_with_the_largest_exact_unit() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1kb"),
            (1536, "1536"),
            (3 << 20, "3mb"),
            (3 << 30, "3gb"),
        ] {
            assert_eq!(format_memory(bytes), text);
            assert_eq!(parse_memory(text.as_bytes()), Some(bytes));
        }
    }

    #[test]
    fn lenient_numbers() {
        let cases = [
            ("", Some(0)),
            ("  12", Some(12)),
            ("+3", Some(3)),
            ("-007", Some(-7)),
            ("12 ", None),
            (" ", None),
            ("-", None),
            ("99999999999999999999", Some(i64::MAX)),
        ];
        for (text, value) in cases {
            assert_eq!(parse_lenient(text.as_bytes(), 10), value, "{text:?}");
        }
        assert_eq!(parse_lenient(b"0755", 8), Some(0o755));
        assert_eq!(parse_lenient(b"758", 8), None);
    }
}
