//! Numbers as Redis reads them: the whole string or nothing, each kind with rules of its own.

use crate::base::longdouble::{self, Scanned};
use crate::base::quoted::is_space;

/// Reads a signed integer: optional `-`, no `+`, no leading zero, no spaces, nothing behind it. `-0` is refused.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        // Twenty digits are enough to overflow; more can never fit.
        [b'1'..=b'9', ..] if digits.len() < 20 => {}
        _ => return None,
    }
    // Nineteen digits fit a u64.
    let mut value = 0u64;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(byte - b'0');
    }
    if negative {
        0i64.checked_sub_unsigned(value)
    } else {
        i64::try_from(value).ok()
    }
}

/// Reads an unsigned integer as Redis's stream IDs are read: strictly first, and what fails that as C's `strtoull` does,
/// which takes blanks and a sign ahead and leading zeros (and turns `-01` into 2^64 - 1).
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    if let Some(strict) = parse_i64(text) {
        return u64::try_from(strict).ok();
    }
    let blanks = text.iter().take_while(|b| is_space(**b)).count();
    let (negative, digits) = match &text[blanks..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for &byte in digits {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    Some(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

/// Reads the integer that a text begins with, as C's `strtol` does: blanks and a sign may stand before it, anything behind
/// it, and what is too large is the largest there is. Gives how many bytes it took; none if there is no digit.
pub fn leading_i64(text: &[u8]) -> (i64, usize) {
    let blanks = text.iter().take_while(|b| is_space(**b)).count();
    let negative = text.get(blanks) == Some(&b'-');
    let from = blanks + usize::from(matches!(text.get(blanks), Some(b'-' | b'+')));
    let digits = text[from..].iter().take_while(|b| b.is_ascii_digit());
    let (mut value, mut end) = (0i64, from);
    for &byte in digits {
        let digit = i64::from(byte - b'0');
        value = value.saturating_mul(10);
        value = match negative {
            true => value.saturating_sub(digit),
            false => value.saturating_add(digit),
        };
        end += 1;
    }
    match end == from {
        true => (0, 0),
        false => (value, end),
    }
}

/// Reads a double: C's `strtod` on the whole text, hexadecimal and `inf` included, but no leading space, no NaN,
/// nothing that overflows or vanishes.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let value = match longdouble::scan(text)? {
        Scanned::Infinite { negative: false } => return Some(f64::INFINITY),
        Scanned::Infinite { negative: true } => return Some(f64::NEG_INFINITY),
        Scanned::Hex(hex) => hex.to_f64(),
        // What is left is the common grammar, which the standard library rounds correctly.
        Scanned::Decimal(_) => std::str::from_utf8(text).ok()?.parse().ok()?,
    };
    let vanished = value == 0.0 && longdouble::text_has_value(text);
    (value.is_finite() && !vanished).then_some(value)
}

/// Reads a double as Redis reads the ends of a range of scores: C's `strtod` on the text up to its first zero byte. What is
/// too large is infinite, what is too small is zero, and so is an empty text; blanks may stand before it.
pub fn parse_bound(text: &[u8]) -> Option<f64> {
    let text = text.split(|&b| b == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    let blanks = text.iter().take_while(|b| is_space(**b)).count();
    let text = &text[blanks..];
    let value = match longdouble::scan(text)? {
        Scanned::Infinite { negative: false } => f64::INFINITY,
        Scanned::Infinite { negative: true } => f64::NEG_INFINITY,
        Scanned::Hex(hex) => hex.to_f64(),
        Scanned::Decimal(_) => std::str::from_utf8(text).ok()?.parse().ok()?,
    };
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (text, want) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("18446744073709551617", None),
            ("99999999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("1 ", None),
            ("1a", None),
        ] {
            assert_eq!(parse_i64(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn unsigned() {
        for (text, want) in [
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-1", None),
            ("-01", Some(u64::MAX)),
            (" \t+007", Some(7)),
            ("", None),
            (" ", None),
            ("+", None),
            ("7 ", None),
        ] {
            assert_eq!(parse_u64(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn leading_integers() {
        for (text, want) in [
            ("12 x", (12, 2)),
            (" \t-7\r", (-7, 4)),
            ("+0x", (0, 2)),
            ("9223372036854775807", (i64::MAX, 19)),
            ("99999999999999999999", (i64::MAX, 20)),
            ("-99999999999999999999", (i64::MIN, 21)),
            ("", (0, 0)),
            (" -", (0, 0)),
            ("x1", (0, 0)),
        ] {
            assert_eq!(leading_i64(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn doubles() {
        for (text, want) in [
            ("3.25", Some(3.25)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("+1e3", Some(1000.0)),
            ("0x10", Some(16.0)),
            ("-0X.8p1", Some(-1.0)),
            ("0x1.fffffffffffff8p0", Some(2.0)),
            ("0x1.fffffffffffff7p0", Some(1.9999999999999998)),
            ("0x1p-1074", Some(5e-324)),
            ("0x1p-1075", None),
            ("0x1.1p-1075", Some(5e-324)),
            ("0x1p1024", None),
            ("1e-310", Some(1e-310)),
            ("-INF", Some(f64::NEG_INFINITY)),
            ("infinity", Some(f64::INFINITY)),
            ("1e309", None),
            ("1e-400", None),
            ("0e-400", Some(0.0)),
            ("0x0p9", Some(0.0)),
            ("nan", None),
            ("", None),
            (" 1", None),
            ("1 ", None),
            ("1e", None),
            ("0x", None),
            ("0x.p1", None),
            (".", None),
            ("-", None),
            ("1\0", None),
        ] {
            assert_eq!(parse_f64(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn ends_of_ranges() {
        for (text, want) in [
            ("", Some(0.0)),
            ("1.5", Some(1.5)),
            (" \t-2", Some(-2.0)),
            ("1e999", Some(f64::INFINITY)),
            ("-1e-999", Some(0.0)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("+Infinity", Some(f64::INFINITY)),
            ("0x1p4", Some(16.0)),
            ("5\0x", Some(5.0)),
            (" ", None),
            ("5x", None),
            ("5 ", None),
            ("nan", None),
        ] {
            assert_eq!(parse_bound(text.as_bytes()), want, "{text:?}");
        }
    }
}
