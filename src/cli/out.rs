//! What the client programs print. As with C's `printf`, nobody asks whether it arrived: whoever reads the output and goes
//! away ends the program by SIGPIPE, and a full disk is not for a client to handle.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;

/// The program ends with this status; what there was to say has been said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop(pub i32);

/// Runs a program with its arguments. Gives its exit status.
pub fn status_of(run: fn(Vec<Vec<u8>>) -> Result<(), Stop>) -> i32 {
    let args = std::env::args_os().skip(1).map(OsStringExt::into_vec);
    let status = match run(args.collect()) {
        Ok(()) => 0,
        Err(Stop(status)) => status,
    };
    flush();
    status
}

/// Bytes to the standard output.
pub fn bytes(bytes: &[u8]) {
    let _ = io::stdout().write_all(bytes);
}

/// Text to the standard output.
pub fn text(text: Arguments<'_>) {
    let _ = io::stdout().write_fmt(text);
}

/// What was printed is to be seen now, without a line's end too.
pub fn flush() {
    let _ = io::stdout().flush();
}

/// Text to the standard error.
pub fn error(text: Arguments<'_>) {
    flush();
    let _ = io::stderr().write_fmt(text);
}

/// Prints as `print!`, and does not panic.
macro_rules! say {
    ($($arg:tt)*) => { $crate::cli::out::text(format_args!($($arg)*)) };
}

/// Prints as `eprint!`, and does not panic.
macro_rules! complain {
    ($($arg:tt)*) => { $crate::cli::out::error(format_args!($($arg)*)) };
}

pub(crate) use {complain, say};

/// Bytes as a message shows them.
pub fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The program's end by SIGPIPE, which Rust's start has switched off.
pub fn die_of_sigpipe(yes: bool) {
    let action = if yes { libc::SIG_DFL } else { libc::SIG_IGN };
    // SAFETY: both dispositions are the system's own; no handler of ours is installed.
    unsafe { libc::signal(libc::SIGPIPE, action) };
}
