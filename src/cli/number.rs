//! Numbers on a command line, read as C's `atoi` and `atof` do: what they begin with counts, nothing is an error.

use crate::base::number::leading_i64;

/// C's `atoi`.
pub fn atoi(text: &[u8]) -> i32 {
    leading_i64(text).0 as i32
}

/// C's `atof`, for decimal numbers.
pub fn atof(text: &[u8]) -> f64 {
    let text = text.trim_ascii_start();
    let end = text
        .iter()
        .position(|b| !b.is_ascii_digit() && !b"+-.eE".contains(b))
        .unwrap_or(text.len());
    (0..=end)
        .rev()
        .filter_map(|end| std::str::from_utf8(&text[..end]).ok()?.parse().ok())
        .next()
        .unwrap_or(0.0)
}

/// Seconds as microseconds, for waits.
pub fn seconds_as_us(text: &[u8]) -> i64 {
    (atof(text) * 1e6) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_they_begin_with() {
        assert_eq!((atoi(b"12x"), atoi(b" -3"), atoi(b"x")), (12, -3, 0));
        assert_eq!(
            (atof(b"0.5s"), atof(b"1e2"), atof(b"2e"), atof(b"-")),
            (0.5, 100.0, 2.0, 0.0)
        );
        assert_eq!(seconds_as_us(b"0.1"), 100_000);
    }
}
