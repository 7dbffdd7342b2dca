//! What is said about the work, in colours where the terminal has them.

use std::fmt::Arguments;

use super::super::out;
use super::super::shell::has_colours;

/// How a line is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tint {
    Step,
    Warning,
    Bad,
    Good,
}

/// Prints a text, its line's end in it.
pub fn tell(tint: Tint, text: Arguments<'_>) {
    if !has_colours() {
        return out::text(text);
    }
    let colour = match tint {
        Tint::Step => "29;1m",
        Tint::Warning => "33;1m",
        Tint::Bad => "31;1m",
        Tint::Good => "32;1m",
    };
    out::text(format_args!("\x1b[{colour}{text}\x1b[0m"));
}

/// `step!`: what is done now.
macro_rules! step {
    ($($arg:tt)*) => { $crate::cli::cluster::tell::tell($crate::cli::cluster::tell::Tint::Step, format_args!($($arg)*)) };
}

macro_rules! warning {
    ($($arg:tt)*) => { $crate::cli::cluster::tell::tell($crate::cli::cluster::tell::Tint::Warning, format_args!($($arg)*)) };
}

macro_rules! bad {
    ($($arg:tt)*) => { $crate::cli::cluster::tell::tell($crate::cli::cluster::tell::Tint::Bad, format_args!($($arg)*)) };
}

macro_rules! good {
    ($($arg:tt)*) => { $crate::cli::cluster::tell::tell($crate::cli::cluster::tell::Tint::Good, format_args!($($arg)*)) };
}

pub(crate) use {bad, good, step, warning};
