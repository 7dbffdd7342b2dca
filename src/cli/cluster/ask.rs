//! Questions to whoever sits at the terminal. (From a pipe, each takes a line.)

use std::io::{self, BufRead};

use super::super::out::{self, say};
use super::super::session::Failed;

/// A line of the standard input, without its end. At the end of the input there is nobody to ask.
pub fn line(question: &str) -> Result<String, Failed> {
    say!("{question}");
    out::flush();
    let mut line = Vec::new();
    match io::stdin().lock().read_until(b'\n', &mut line) {
        Ok(0) | Err(_) => Err(Failed),
        Ok(_) => {
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            Ok(out::lossy(line).into_owned())
        }
    }
}

/// Whether the answer begins with a yes.
pub fn yes(question: &str) -> bool {
    line(question).is_ok_and(|answer| answer.starts_with("yes"))
}
