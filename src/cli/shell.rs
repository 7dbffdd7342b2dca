//! Commands one after the other, from a pipe or typed.
//!
//! A line may begin with a number, by which its command is repeated. A few words are for the program itself: `quit`,
//! `connect`, `clear`, and what begins with a colon sets a preference. While the session is subscribed, messages are shown
//! until a key is pressed (or Ctrl-C, which leaves the subscription).

use std::io::{self, BufRead, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::debug;
use super::format::Style;
use super::is_terminal;
use super::lines::Lines;
use super::link::Interrupt;
use super::number::atoi;
use super::out::{self, Stop, complain, lossy, say};
use super::session::{Session, Tone};
use crate::base::errno;
use crate::base::number::leading_i64;
use crate::base::quoted::split_args;
use crate::base::time::Clock;

/// A command that took as long as this is told its time.
const SLOW_US: u64 = 500_000;

/// Reads commands until there are no more.
pub fn run(mut session: Session) -> Result<(), Stop> {
    // A server that goes away is no reason to end.
    out::die_of_sigpipe(false);
    session.interrupt = Interrupt::install().ok();
    let _ = session.connect(Tone::Loud);
    self::lines(&mut session).map(drop)
}

/// Why there are no more lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    End,
    /// The script that was debugged is to be debugged again.
    Restart,
}

/// The same on a session that is there.
pub fn lines(session: &mut Session) -> Result<After, Stop> {
    let mut lines = Lines::open(session);
    session.interactive = true;
    let clock = Clock::system();
    loop {
        let Some(line) = lines.next(&session.prompt()) else {
            if std::mem::take(&mut session.subscribed) && session.reconnect(Tone::Loud).is_ok() {
                continue;
            }
            return Ok(After::End);
        };
        if !line.is_empty() {
            match one_line(session, &mut lines, &line, &clock)? {
                Did::Nothing => continue,
                Did::Command => {}
                Did::Restart => return Ok(After::Restart),
            }
        }
        if session.subscribed {
            show_messages(session)?;
        }
    }
}

/// What a line was.
enum Did {
    /// It was for the program, or no good.
    Nothing,
    Command,
    Restart,
}

/// The words of a line. To a debugger, code is one word.
fn words(session: &Session, line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let code = [&b"eval "[..], b"e "]
        .into_iter()
        .find(|name| line.starts_with(name));
    match code.filter(|_| session.debug.is_on) {
        Some(name) => Some(vec![
            name.trim_ascii_end().to_vec(),
            line[name.len()..].to_vec(),
        ]),
        None => split_args(line).ok(),
    }
}

/// Does what a line says.
fn one_line(
    session: &mut Session,
    lines: &mut Lines,
    line: &[u8],
    clock: &Clock,
) -> Result<Did, Stop> {
    let Some(args) = words(session, line) else {
        say!("Invalid argument(s)\n");
        out::flush();
        lines.remember(line);
        return Ok(Did::Nothing);
    };
    let Some(first) = args.first() else {
        return Ok(Did::Nothing);
    };
    let (times, used) = leading_i64(first);
    let mut command = &args[..];
    let mut repeat = 1;
    if args.len() > 1 && used == first.len() {
        if times <= 0 || times == i64::MAX {
            say!("Invalid redis-cli repeat command option value.\n");
            return Ok(Did::Nothing);
        }
        (repeat, command) = (times, &args[1..]);
    }
    if !is_secret(command) {
        lines.remember(line);
    }
    match (&first.to_ascii_lowercase()[..], args.len()) {
        (b"quit" | b"exit", _) => return Err(Stop(0)),
        ([b':', ..], _) => {
            lines.set_preference(&args, "");
            return Ok(Did::Nothing);
        }
        (b"restart", _) if session.options.eval.is_some() => {
            session.begin_debugging();
            return Ok(Did::Restart);
        }
        (b"restart", _) => say!("Use 'restart' only in Lua debugging mode.\n"),
        (b"connect", 3) => {
            session.options.place.host = args[1].clone();
            session.options.place.port = atoi(&args[2]);
            let _ = session.reconnect(Tone::Loud);
        }
        (b"clear", 1) => say!("\x1b[H\x1b[2J"),
        _ => {
            let from_us = clock.unix_us();
            // (What is wrong has been said.)
            let _ = session.issue(command, repeat)?;
            if session.debug.has_ended {
                debug::finish(session)?;
                lines.learn(session);
            }
            let took_us = clock.unix_us().saturating_sub(from_us);
            if took_us >= SLOW_US && session.options.style == Style::Standard {
                say!("({:.2}s)\n", (took_us / 1000) as f64 / 1000.0);
            }
        }
    }
    out::flush();
    Ok(Did::Command)
}

/// Whether a command holds a password, and does not belong into a history.
fn is_secret(command: &[Vec<u8>]) -> bool {
    let word = |at: usize| -> Vec<u8> {
        let arg = command.get(at).map(|arg| arg.to_ascii_lowercase());
        arg.unwrap_or_default()
    };
    let argc = command.len();
    match (&word(0)[..], &word(1)[..]) {
        (b"auth", _) | (b"acl", b"setuser") => true,
        (b"config", b"set") => (2..argc).step_by(2).any(|at| {
            matches!(
                &word(at)[..],
                b"masterauth" | b"masteruser" | b"requirepass"
            )
        }),
        (b"hello", _) if argc > 4 => {
            let mut at = 2;
            loop {
                match &word(at)[..] {
                    b"auth" if argc - at > 2 => return true,
                    b"setname" if argc - at > 1 => at += 2,
                    _ => return false,
                }
            }
        }
        (b"migrate", _) if argc > 7 => {
            for at in 6..argc {
                match &word(at)[..] {
                    b"auth" if argc - at > 1 => return true,
                    b"auth2" if argc - at > 2 => return true,
                    b"keys" if argc - at > 1 => return false,
                    _ => {}
                }
            }
            false
        }
        _ => false,
    }
}

/// Whether the terminal has colours.
pub fn has_colours() -> bool {
    let term = std::env::var_os("TERM").unwrap_or_default();
    let mut parts = term.as_bytes().windows(5);
    parts.any(|part| part == b"xterm")
}

/// Shows what arrives, until there is input.
fn show_messages(session: &mut Session) -> Result<(), Stop> {
    let tell = session.options.style != Style::Raw && is_terminal();
    let (bright, normal) = match tell && has_colours() {
        true => ("\x1b[1;90m", "\x1b[0m"),
        false => ("", ""),
    };
    let _keys = Keys::unbuffered(LocalModes::empty());
    while session.subscribed {
        session.print_arrived()?;
        if tell {
            say!(
                "{bright}Reading messages... (press Ctrl-C to quit or any key to type command)\r{normal}"
            );
            out::flush();
        }
        let came = wait(session)?;
        if tell {
            say!("\x1b[K");
            out::flush();
        }
        match came {
            Came::Interrupt => {
                session.subscribed = false;
                if session.reconnect(Tone::Loud).is_err() {
                    return Err(Stop(1));
                }
            }
            Came::Message => {
                if session.read_reply(false)?.is_err() {
                    session.print_error();
                    return Err(Stop(1));
                }
            }
            Came::Key => return Ok(()),
        }
    }
    Ok(())
}

enum Came {
    Interrupt,
    Message,
    Key,
}

fn wait(session: &mut Session) -> Result<Came, Stop> {
    let stdin = io::stdin();
    let interrupt = session.interrupt.take();
    let link = session.link()?;
    let mut fds = vec![
        PollFd::new(&*link, PollFlags::IN),
        PollFd::new(&stdin, PollFlags::IN),
    ];
    if let Some(interrupt) = &interrupt {
        fds.push(PollFd::from_borrowed_fd(interrupt.fd(), PollFlags::IN));
    }
    let came = loop {
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Err(Stop(1)),
        }
        if interrupt.as_ref().is_some_and(Interrupt::take) {
            break Came::Interrupt;
        }
        if !fds[0].revents().is_empty() {
            break Came::Message;
        }
        if !fds[1].revents().is_empty() {
            break Came::Key;
        }
    };
    session.interrupt = interrupt;
    Ok(came)
}

/// The terminal gives each key at once and shows none, until this is dropped.
struct Keys(Option<Termios>);

impl Keys {
    /// `also`: modes that are off besides.
    fn unbuffered(also: LocalModes) -> Keys {
        let stdin = io::stdin();
        let Some(before) = tcgetattr(&stdin).ok().filter(|_| stdin.is_terminal()) else {
            return Keys(None);
        };
        let mut mode = before.clone();
        mode.local_modes -= LocalModes::ECHO | LocalModes::ICANON | also;
        let _ = tcsetattr(&stdin, OptionalActions::Now, &mode);
        Keys(Some(before))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Asks for a password, of which only stars are shown.
pub fn ask_password(prompt: &str) -> Option<Vec<u8>> {
    let stdin = io::stdin();
    let mut password = Vec::new();
    if !stdin.is_terminal() {
        stdin.lock().read_until(b'\n', &mut password).ok()?;
        return Some(password.strip_suffix(b"\n").unwrap_or(&password).to_vec());
    }
    say!("{prompt}");
    out::flush();
    let _keys = Keys::unbuffered(LocalModes::ISIG);
    loop {
        let mut byte = [0];
        stdin.lock().read_exact(&mut byte).ok()?;
        match byte[0] {
            b'\r' | b'\n' => break,
            // Ctrl-C, Ctrl-D.
            3 | 4 => {
                say!("\n");
                return None;
            }
            8 | 127 => {
                if password.pop().is_some() {
                    say!("\x08 \x08");
                }
            }
            byte => {
                password.push(byte);
                say!("*");
            }
        }
        out::flush();
    }
    say!("\n");
    Some(password)
}

/// `--test_hint`: the hint for a line.
pub fn test_hint(session: &mut Session) -> Result<(), Stop> {
    let help = session.help();
    match help.hint(&session.options.hint) {
        Some(hint) => say!("{}\n", lossy(&hint)),
        // (C's word for what is not there.)
        None => say!("(null)\n"),
    }
    Ok(())
}

/// `--test_hint_file`: lines with the hints that they are to have. The status is how many had another.
pub fn test_hint_file(session: &mut Session) -> Result<(), Stop> {
    let name = session.options.hint.clone();
    let suite = std::fs::read(std::ffi::OsStr::from_bytes(&name)).map_err(|error| {
        let why = errno::text(&error);
        complain!("Can't open file '{}': {why}\n", lossy(&name));
        Stop(255)
    })?;
    let help = session.help();
    let (mut passed, mut failed) = (0, 0);
    for line in suite.split(|&b| b == b'\n') {
        if line.starts_with(b"#") {
            continue;
        }
        let args = split_args(line).unwrap_or_default();
        let (input, expected) = match &args[..] {
            [] => continue,
            [input] => {
                complain!("Missing expected hint for input '{}'\n", lossy(input));
                return Err(Stop(255));
            }
            [input, expected, ..] => (input, expected),
        };
        let hint = help.hint(input);
        let shown = hint.as_deref().unwrap_or(b"(null)");
        if session.options.verbose {
            say!(
                "Input: '{}', Expected: '{}', Hint: '{}'\n",
                lossy(input),
                lossy(expected),
                lossy(shown)
            );
        }
        let shown = shown.trim_ascii_end();
        if hint.is_some() && shown == expected {
            passed += 1;
            continue;
        }
        failed += 1;
        complain!(
            "Test case '{}' FAILED: expected '{}', got '{}'\n",
            lossy(input),
            lossy(expected),
            lossy(shown)
        );
    }
    let verdict = if failed == 0 { "SUCCESS" } else { "FAILURE" };
    say!("{verdict}: {passed}/{} passed\n", passed + failed);
    Err(Stop(failed))
}
