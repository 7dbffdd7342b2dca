//! Where the shell's lines come from: a pipe, or a terminal.

use std::io::{self, BufRead, IsTerminal};

use super::out::{self, lossy, say};
use super::session::Session;

/// See the head of the file.
pub struct Lines {
    /// Someone types them.
    typed: bool,
    hints: bool,
}

impl Lines {
    /// The lines of the standard input.
    pub fn open(_session: &mut Session) -> Lines {
        Lines {
            typed: io::stdin().is_terminal(),
            hints: true,
        }
    }

    /// The next line; `None` at the end.
    pub fn next(&mut self, prompt: &str) -> Option<Vec<u8>> {
        if self.typed {
            say!("{prompt}");
            out::flush();
        }
        let mut line = Vec::new();
        match io::stdin().lock().read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => {
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                Some(line)
            }
        }
    }

    /// Keeps a line for later.
    pub fn remember(&mut self, _line: &[u8]) {}

    /// Does `:set hints` and `:set nohints`. `place` goes ahead of a complaint.
    pub fn set_preference(&mut self, args: &[Vec<u8>], place: &str) {
        match args {
            [set, name, ..] if set.eq_ignore_ascii_case(b":set") => {
                match &name.to_ascii_lowercase()[..] {
                    b"hints" => self.hints = true,
                    b"nohints" => self.hints = false,
                    _ => say!("{place}unknown redis-cli preference '{}'\n", lossy(name)),
                }
            }
            [first, ..] => say!(
                "{place}unknown redis-cli internal command '{}'\n",
                lossy(first)
            ),
            [] => {}
        }
    }
}
