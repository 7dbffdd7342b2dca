//! `--ldb`: a script of a file under Redis's debugger.
//!
//! The server answers EVAL with the first stop of the script, and from then on what is typed goes to the debugger, until
//! it says that the session is over. Then come what the script replied and the end of the connection; the shell goes on,
//! and `restart` debugs the script anew.

use super::out::{Stop, complain, say};
use super::session::{Session, Tone};
use super::shell::{self, After, has_colours};
use super::{format, script_command};
use crate::resp::value::Value;

/// What a session with a server has to know of debugging.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Debug {
    /// What is sent goes to a debugger.
    pub is_on: bool,
    /// The session of debugging is over, and the script's reply comes next.
    pub has_ended: bool,
    /// The user has asked for it: it begins with the next EVAL.
    pub on_eval: bool,
}

/// The mark at the end.
const END: &[u8] = b"<endsession>";

/// A reply of the debugger as text. The session learns if it was the last.
pub fn text(value: &Value, delimiter: &[u8], debug: &mut Debug) -> Vec<u8> {
    let shown = dyed(value, debug);
    let mut out = Vec::new();
    format::raw(&shown, delimiter, &mut out);
    out
}

/// The same reply with colours, and without the mark at the end.
fn dyed(value: &Value, debug: &mut Debug) -> Value {
    match value {
        Value::Status(line) if line.starts_with(END) => {
            *debug = Debug {
                has_ended: true,
                ..Debug::default()
            };
            Value::Status(Vec::new())
        }
        Value::Status(line) if has_colours() => {
            let text = [colour(line).as_bytes(), line, b"\x1b[0m"].concat();
            Value::Status(text)
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| dyed(item, debug)).collect()),
        other => other.clone(),
    }
}

fn colour(line: &[u8]) -> &'static str {
    const WHITE: &str = "\x1b[0;37;49m";
    const BOLD: &str = "\x1b[1;37;49m";
    const YELLOW: &str = "\x1b[0;33;49m";
    const MARKS: [(&str, &str); 7] = [
        ("<value>", "\x1b[0;35;49m"),
        ("<retval>", "\x1b[0;35;49m"),
        ("<hint>", BOLD),
        ("<error>", "\x1b[0;31;49m"),
        ("<reply>", "\x1b[0;36;49m"),
        ("<redis>", "\x1b[0;32;49m"),
        ("<debug>", BOLD),
    ];
    if line.len() > 4 && line[3].is_ascii_digit() {
        // A line of the script: the current one, or one with a breakpoint.
        if line[1] == b'>' {
            return YELLOW;
        }
        if line[2] == b'#' {
            return BOLD;
        }
    }
    let has = |mark: &str| memchr::memmem::find(line, mark.as_bytes()).is_some();
    let found = MARKS.iter().find(|(mark, _)| has(mark));
    found.map_or(WHITE, |(_, colour)| colour)
}

/// Debugs the script of a file, again and again if the user wants to.
pub fn run(session: &mut Session, file: &[u8], args: &[Vec<u8>]) -> Result<(), Stop> {
    loop {
        say!(
            "Lua debugging session started, please use:\nquit    -- End the session.\nrestart -- Restart the script in \
             debug mode again.\nhelp    -- Show Lua script debugging commands.\n\n"
        );
        let command = script_command(file, args)?;
        let mode = if session.options.ldb_in_place {
            "sync"
        } else {
            "yes"
        };
        // (What is wrong with that shows with the next.)
        let _ = session.link()?.command(&["SCRIPT", "DEBUG", mode]);
        session.debug.is_on = true;
        let sent = session.issue(&command, 1)?;
        if !session.debug.is_on {
            session.debug.has_ended = false;
            say!("Eval debugging session can't start:\n");
            let _ = session.read_reply(false)?;
            return sent.map_err(|_| Stop(1));
        }
        match shell::lines(session)? {
            After::End => return Ok(()),
            After::Restart => {
                let _ = session.reconnect(Tone::Loud);
                say!("\n");
            }
        }
    }
}

/// The session is over: shows what the script replied.
pub fn finish(session: &mut Session) -> Result<(), Stop> {
    session.debug.has_ended = false;
    // (The connection may have gone with the script.)
    let _ = session.read_reply(false)?;
    let rolled_back = match session.options.ldb_in_place {
        true => "",
        false => " -- dataset changes rolled back",
    };
    say!("\n(Lua debugging session ended{rolled_back})\n\n");
    // The server has closed the connection, or is about to.
    let _ = session.reconnect(Tone::Quiet);
    Ok(())
}

/// `--ldb` needs something to debug.
pub fn needs_eval() -> Stop {
    let program = std::env::args_os().next().unwrap_or_default();
    let program = program.to_string_lossy();
    complain!(
        "Options --ldb and --ldb-sync-mode require --eval.\nTry {program} --help for more information.\n"
    );
    Stop(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_at_the_end_is_not_shown() {
        let status = |text: &str| Value::Status(text.into());
        let mut debug = Debug {
            is_on: true,
            ..Debug::default()
        };
        let reply = Value::Array(vec![status("-> 1   return 1"), status("<endsession>")]);
        let shown = text(&reply, b"|", &mut debug);
        assert!(String::from_utf8(shown).unwrap().ends_with('|'));
        assert!(debug.has_ended && !debug.is_on);
        assert_eq!(colour(b"-> 12  x"), "\x1b[0;33;49m");
        assert_eq!(colour(b"  #12  x"), "\x1b[1;37;49m");
        assert_eq!(colour(b"<reply> 3"), "\x1b[0;36;49m");
    }
}
