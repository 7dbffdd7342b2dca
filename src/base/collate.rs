//! The order of words in the language that the process is set to (`locale-collate`): C's `strcoll`. Where that language is
//! `C`, it is the order of the bytes.

use std::cmp::Ordering;
use std::ffi::CStr;

/// Compares two texts by the locale's rules, which are set when the configuration is applied and at no other time.
pub fn compare(a: &CStr, b: &CStr) -> Ordering {
    // SAFETY: both are C strings, which strcoll only reads.
    unsafe { libc::strcoll(a.as_ptr(), b.as_ptr()) }.cmp(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_an_order() {
        assert_eq!(compare(c"a", c"b"), Ordering::Less);
        assert_eq!(compare(c"b", c"a"), Ordering::Greater);
        assert_eq!(compare(c"", c""), Ordering::Equal);
    }
}
