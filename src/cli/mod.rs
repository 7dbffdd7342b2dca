//! redis-cli: commands from the command line, from a pipe, or typed, and a dozen of modes that look at a server.
//!
//! A command line is read by [`options`]; [`session`] holds the connection ([`link`]), and prints what comes back as
//! [`format`] says. Without a command, [`shell`] reads them one after the other. Scripts read all of this, so texts,
//! exit statuses and even oddities are Redis's.

pub mod cluster;
mod debug;
mod format;
mod help;
mod hint;
mod keys;
mod lines;
pub mod link;
pub mod number;
mod options;
pub mod out;
mod session;
mod shell;
pub mod socket;
mod sync;
mod trial;
pub mod uri;
mod usage;
mod watch;

use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use options::{Mode, Options};
use out::{Stop, complain, lossy, say};
use session::{Session, Tone};

use crate::base::errno;
use crate::base::quoted::split_args;

/// The program. Gives its exit status.
pub fn main() -> i32 {
    out::die_of_sigpipe(true);
    out::status_of(run)
}

/// A variable of the environment, if it says something.
fn variable(name: &str) -> Option<Vec<u8>> {
    let value = std::env::var_os(name)?.into_vec();
    Some(value).filter(|value| !value.is_empty())
}

/// Whether someone looks at the output, or a test says so.
fn is_terminal() -> bool {
    io::stdout().is_terminal() || std::env::var_os("FAKETTY").is_some()
}

fn run(args: Vec<Vec<u8>>) -> Result<(), Stop> {
    let mut options = Options::new(is_terminal());
    let used = options.parse(&args)?;
    let command = &args[used..];
    if options.place.password.is_none() {
        let password = std::env::var_os("REDISCLI_AUTH").map(OsStringExt::into_vec);
        options.place.password = password;
    }
    if options.askpass {
        options.place.password = shell::ask_password("Please input password: ");
    }
    let manager = &mut options.cluster_manager;
    if std::env::var_os("REDISCLI_CLUSTER_YES").is_some_and(|yes| yes == "1") {
        manager.yes = true;
    }
    if manager.from_askpass {
        let prompt = "Please input import source node password: ";
        manager.from_password = shell::ask_password(prompt);
    }
    if manager.command.is_some() {
        options.cluster_manager.args = with_input(&options, options.cluster_manager.args.clone())?;
        return cluster::run(options);
    }
    if let Some(&mode) = options.modes.iter().min() {
        return run_mode(mode, Session::new(options));
    }
    let eval = options.eval.clone();
    let mut session = Session::new(options);
    match eval {
        Some(file) => run_script(&mut session, &file, command),
        None if command.is_empty() => shell::run(session),
        None => run_command(&mut session, command),
    }
}

fn run_mode(mode: Mode, mut session: Session) -> Result<(), Stop> {
    match mode {
        Mode::TestHint => return shell::test_hint(&mut session),
        Mode::TestHintFile => return shell::test_hint_file(&mut session),
        Mode::IntrinsicLatency => return trial::intrinsic(session.options.intrinsic_s),
        _ => {}
    }
    if session.connect(Tone::Loud).is_err() {
        return Err(Stop(1));
    }
    match mode {
        Mode::Replica => sync::replica(&mut session),
        Mode::Rdb | Mode::FunctionsRdb => {
            let name = session.options.rdb_file.clone();
            sync::rdb(session.take_link()?, &name, mode)
        }
        Mode::Latency => watch::latency(session),
        Mode::LatencyDist => watch::latency_dist(session),
        Mode::Stat => watch::stat(session),
        Mode::Pipe => trial::pipe(session.take_link()?, session.options.pipe_timeout_s),
        Mode::LruTest => trial::lru(&mut session),
        Mode::BigKeys => keys::big(&mut session, keys::Measure::Elements),
        Mode::MemKeys => keys::big(&mut session, keys::Measure::Memory),
        Mode::HotKeys => keys::hot(&mut session),
        Mode::Scan => keys::scan(&mut session),
        // They need no connection, or make their own.
        Mode::IntrinsicLatency | Mode::TestHint | Mode::TestHintFile => Ok(()),
    }
}

/// One argument, quoted.
fn unquote(text: &[u8]) -> Option<Vec<u8>> {
    let mut args = split_args(text).ok()?;
    match args.len() {
        1 => args.pop(),
        _ => None,
    }
}

/// All of the standard input.
fn read_stdin() -> Result<Vec<u8>, Stop> {
    let mut all = Vec::new();
    match io::stdin().read_to_end(&mut all) {
        Ok(_) => Ok(all),
        Err(error) => {
            let why = errno::text(&error);
            complain!("Reading from standard input: {why}\n");
            Err(Stop(1))
        }
    }
}

/// Arguments, one of which comes from the standard input if the options say so.
fn with_input(options: &Options, mut args: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Stop> {
    if options.stdin_last_arg {
        args.push(read_stdin()?);
    } else if let Some(tag) = &options.stdin_tag {
        let Some(arg) = args.iter_mut().find(|arg| *arg == tag) else {
            complain!("Using -X option but stdin tag not match.\n");
            return Err(Stop(1));
        };
        *arg = read_stdin()?;
    }
    Ok(args)
}

/// Sends the command of the command line.
fn run_command(session: &mut Session, command: &[Vec<u8>]) -> Result<(), Stop> {
    // (What is wrong is said when the command is to be sent.)
    let _ = session.connect(Tone::Quiet);
    let mut args = command.to_vec();
    if session.options.quoted_input {
        for arg in &mut args {
            let Some(plain) = unquote(arg) else {
                say!("Invalid quoted string\n");
                return Err(Stop(1));
            };
            *arg = plain;
        }
    }
    let args = with_input(&session.options, args)?;
    let repeat = session.options.repeat;
    let done = session.issue(&args, repeat)?;
    session.print_messages()?;
    done.map_err(|_| Stop(1))
}

/// `--eval`: sends the script of a file.
fn run_script(session: &mut Session, file: &[u8], args: &[Vec<u8>]) -> Result<(), Stop> {
    if session.connect(Tone::Loud).is_err() {
        return Err(Stop(1));
    }
    if session.options.ldb {
        return debug::run(session, file, args);
    }
    let command = script_command(file, args)?;
    let repeat = session.options.repeat;
    session.issue(&command, repeat)?.map_err(|_| Stop(1))
}

/// The EVAL of the script in a file; a comma parts its keys from its arguments.
fn script_command(file: &[u8], args: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Stop> {
    let path = std::ffi::OsStr::from_bytes(file);
    let script = std::fs::read(path).map_err(|error| {
        let why = errno::text(&error);
        complain!("Can't open file '{}': {why}\n", lossy(file));
        Stop(1)
    })?;
    let comma = args.iter().position(|arg| arg == b",");
    let keys = comma.unwrap_or(args.len());
    let mut command = vec![b"EVAL".to_vec(), script, keys.to_string().into_bytes()];
    command.extend_from_slice(&args[..keys]);
    command.extend_from_slice(args.get(keys + 1..).unwrap_or_default());
    Ok(command)
}
