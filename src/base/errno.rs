//! The system's own words for an error, as `strerror` gives them: Redis puts them in replies and log
//! lines, and `io::Error` adds " (os error N)", which nobody expects there.

use std::io;

/// The text of `e`, without the number.
pub fn text(e: &io::Error) -> String {
    let full = e.to_string();
    match e.raw_os_error() {
        Some(n) => full
            .strip_suffix(&format!(" (os error {n})"))
            .unwrap_or(&full)
            .to_string(),
        None => full,
    }
}

/// The text of the error that the last system call of this thread left.
pub fn last() -> String {
    text(&io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_words() {
        assert_eq!(
            text(&io::Error::from_raw_os_error(libc::EINVAL)),
            "Invalid argument"
        );
        assert_eq!(text(&io::Error::other("odd")), "odd");
    }
}
