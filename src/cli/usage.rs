//! What redis-cli says about itself. In our own words, and without the options that do not exist here.

use super::out::{complain as to_stderr, say};
use crate::admin::info::REDIS_VERSION;

/// Seconds without a reply after which `--pipe` gives up, unless told otherwise.
pub const PIPE_TIMEOUT_S: i32 = 30;

const TEXT: &str = include_str!("usage.txt");

/// Prints it.
pub fn print() {
    say!("redis-cli {REDIS_VERSION}\n\n{TEXT}");
}

/// Prints it to the standard error, for whom did not know it.
pub fn complain() {
    to_stderr!("redis-cli {REDIS_VERSION}\n\n{TEXT}");
}
