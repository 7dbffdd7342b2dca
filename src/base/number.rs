//! Numbers as Redis reads them: strict, the whole string or nothing.

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
