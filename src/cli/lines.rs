//! Where the shell's lines come from: a pipe, or a terminal, where they are edited, completed, hinted at, and kept in a
//! history.
//!
//! The history is a file of plain lines, the last hundred of them, for the user alone to read. Preferences are read from a
//! file when the shell begins. Both lie in the home directory unless the environment says otherwise.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::rc::Rc;

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, Helper};

use super::help::Help;
use super::out::{lossy, say};
use super::session::Session;
use super::variable;
use crate::base::quoted::{is_space, split_args};

const HISTORY_MAX: usize = 100;

/// See the head of the file.
pub struct Lines {
    /// `None`: nobody types them.
    typed: Option<Typed>,
    hints: Rc<Cell<bool>>,
}

struct Typed {
    editor: Editor<Guide, MemHistory>,
    history: VecDeque<String>,
    file: Option<PathBuf>,
}

/// A file of the home directory, or the one that a variable names; `/dev/null` is none.
fn dotfile(over: &str, name: &str) -> Option<PathBuf> {
    match variable(over) {
        Some(path) if path == b"/dev/null" => None,
        Some(path) => Some(std::ffi::OsString::from_vec(path).into()),
        None => {
            let home = std::ffi::OsString::from_vec(variable("HOME")?);
            Some(PathBuf::from(home).join(name))
        }
    }
}

impl Lines {
    /// The lines of the standard input.
    pub fn open(session: &mut Session) -> Lines {
        let hints = Rc::new(Cell::new(true));
        let mut lines = Lines {
            typed: None,
            hints: hints.clone(),
        };
        if io::stdin().is_terminal() {
            // (A debugger has its own help, and no COMMAND DOCS.)
            let help = match session.debug.is_on {
                true => Rc::default(),
                false => session.help(),
            };
            lines.typed = Typed::open(Guide { help, hints });
            lines.load_preferences();
        }
        lines
    }

    /// The next line; `None` at the end.
    pub fn next(&mut self, prompt: &str) -> Option<Vec<u8>> {
        if let Some(typed) = &mut self.typed {
            return typed.editor.readline(prompt).ok().map(String::into_bytes);
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

    /// Asks what commands there are, after a time in which nobody could be asked.
    pub fn learn(&mut self, session: &mut Session) {
        if let Some(guide) = self.typed.as_mut().and_then(|t| t.editor.helper_mut()) {
            guide.help = session.help();
        }
    }

    /// Keeps a line for later.
    pub fn remember(&mut self, line: &[u8]) {
        if let Some(typed) = &mut self.typed {
            typed.remember(&lossy(line));
        }
    }

    fn load_preferences(&mut self) {
        let path = dotfile("REDISCLI_RCFILE", ".redisclirc");
        let Some(text) = path.and_then(|path| fs::read(path).ok()) else {
            return;
        };
        for line in text.split(|&b| b == b'\n') {
            let args = split_args(line).unwrap_or_default();
            self.set_preference(&args, ".redisclirc: ");
        }
    }

    /// Does `:set hints` and `:set nohints`. `place` goes ahead of a complaint.
    pub fn set_preference(&mut self, args: &[Vec<u8>], place: &str) {
        match args {
            [set, name, ..] if set.eq_ignore_ascii_case(b":set") => {
                match &name.to_ascii_lowercase()[..] {
                    b"hints" => self.hints.set(true),
                    b"nohints" => self.hints.set(false),
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

impl Typed {
    fn open(guide: Guide) -> Option<Typed> {
        let config = Config::builder()
            .max_history_size(HISTORY_MAX)
            .ok()?
            .auto_add_history(false)
            .build();
        let history = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, history).ok()?;
        editor.set_helper(Some(guide));
        let mut typed = Typed {
            editor,
            history: VecDeque::new(),
            file: dotfile("REDISCLI_HISTFILE", ".rediscli_history"),
        };
        let text = typed.file.as_ref().and_then(|file| fs::read(file).ok());
        for line in text.unwrap_or_default().split(|&b| b == b'\n') {
            typed.add(lossy(line.trim_ascii_end()).as_ref());
        }
        Some(typed)
    }

    fn add(&mut self, line: &str) {
        if line.is_empty() || self.history.back().is_some_and(|last| last == line) {
            return;
        }
        // (A line that cannot be called back can be typed again.)
        let _ = self.editor.add_history_entry(line);
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(line.to_string());
    }

    fn remember(&mut self, line: &str) {
        self.add(line);
        let Some(path) = &self.file else { return };
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path);
        if let Ok(mut file) = opened {
            let text: String = self
                .history
                .iter()
                .map(|line| format!("{line}\n"))
                .collect();
            // (Nor is a history that cannot be kept worth a word.)
            let _ = file.write_all(text.as_bytes());
        }
    }
}

/// Completes and hints, as the commands' documentation tells.
struct Guide {
    help: Rc<Help>,
    hints: Rc<Cell<bool>>,
}

/// What may follow, to be seen and not to be taken over.
struct Following(String);

impl Hint for Following {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Guide {
    type Hint = Following;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<Following> {
        if !self.hints.get() || pos < line.len() {
            return None;
        }
        let hint = self.help.hint(line.as_bytes())?;
        let parted = line.bytes().last().is_some_and(is_space);
        let space = if parted { "" } else { " " };
        Some(Following(format!("{space}{}", lossy(&hint))))
    }
}

impl Highlighter for Guide {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        format!("\x1b[0;90;49m{hint}\x1b[0m").into()
    }
}

impl Completer for Guide {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok((0, completions(&self.help, &line[..pos])))
    }
}

impl Validator for Guide {}
impl Helper for Guide {}

/// The lines that `typed` may become: names of commands, and behind `help` those of groups too.
fn completions(help: &Help, typed: &str) -> Vec<String> {
    let asks = typed
        .get(..5)
        .is_some_and(|head| head.eq_ignore_ascii_case("help "));
    let from = match asks {
        true => typed.len() - typed[5..].trim_start().len(),
        false => 0,
    };
    let (head, word) = typed.split_at(from);
    help.topics
        .iter()
        .filter(|topic| asks || topic.command.is_some())
        .map(|topic| lossy(&topic.name).into_owned())
        .filter(|name| {
            let start = name.get(..word.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(word))
        })
        .map(|name| format!("{head}{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::help::Topic;

    #[test]
    fn groups_are_completed_for_help_only() {
        let topic = |name: &str, is_command: bool| Topic {
            name: name.into(),
            command: is_command.then(Default::default),
        };
        let help = Help {
            topics: vec![
                topic("@string", false),
                topic("GET", true),
                topic("GETDEL", true),
            ],
        };
        assert_eq!(completions(&help, "getd"), ["GETDEL"]);
        assert_eq!(completions(&help, "help  g"), ["help  GET", "help  GETDEL"]);
        assert_eq!(completions(&help, "HELP @"), ["HELP @string"]);
        assert!(completions(&help, "@").is_empty());
    }
}
