//! What redis-cli says about itself. The text is Redis's, without the options that do not exist here.

use super::out::say;
use crate::admin::info::REDIS_VERSION;

/// Seconds without a reply after which `--pipe` gives up, unless told otherwise.
pub const PIPE_TIMEOUT_S: i32 = 30;

/// Prints it.
pub fn print() {
    say!("redis-cli {REDIS_VERSION}\n\n{}", include_str!("usage.txt"));
}
