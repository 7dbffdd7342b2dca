//! Reading a configuration: the text of a file, what it includes, what came on standard input, and the
//! options of the command line, one after the other, so that the last one to speak wins.
//!
//! A line is a directive and its arguments, quoted where they must be. The first line that is wrong ends
//! the start, with the words that Redis has for it.

use super::cmdline::Start;
use super::host::{Enter, Host};
use super::set::{Setting, settle, store};
use super::types::{Row, Text, flag};
use super::{Config, absent, lookup};
use crate::acl::users::check_declaration;
use crate::base::quoted::split_args;

/// Directives of older releases whose subject is gone: accepted with one argument, then forgotten.
const OBSOLETE: [&str; 9] = [
    "list-max-ziplist-entries",
    "list-max-ziplist-value",
    "lua-replicate-commands",
    "gopher-enabled",
    "vm-enabled",
    "vm-swap-file",
    "vm-max-memory",
    "vm-page-size",
    "glueoutputbuf",
];

/// The port that Sentinels have.
const SENTINEL_PORT: u16 = 26379;

/// How deep files may include one another before it must be a circle.
const INCLUDE_DEPTH_MAX: usize = 32;

/// Why the server cannot start with this configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// A line is wrong.
    Line {
        number: usize,
        line: Vec<u8>,
        reason: Vec<u8>,
    },
    /// The configuration as a whole is wrong.
    Whole { reason: Vec<u8> },
    /// A file cannot be read.
    Open { path: Vec<u8>, reason: String },
}

impl LoadError {
    /// What Redis prints on standard error (for a file that cannot be read: logs as a warning) before it
    /// exits with status 1. `version` is the version of Redis.
    pub fn message(&self, version: &str) -> Vec<u8> {
        let head = format!("\n*** FATAL CONFIG FILE ERROR (Redis {version}) ***\n");
        match self {
            LoadError::Line {
                number,
                line,
                reason,
            } => [
                head.as_bytes(),
                format!("Reading the configuration file, at line {number}\n>>> '").as_bytes(),
                line,
                b"'\n",
                reason,
                b"\n",
            ]
            .concat(),
            LoadError::Whole { reason } => [head.as_bytes(), reason, b"\n"].concat(),
            LoadError::Open { path, reason } => [
                b"Fatal error, can't open config file '",
                &path[..],
                b"': ",
                reason.as_bytes(),
            ]
            .concat(),
        }
    }
}

/// What a reading came to.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Warnings, for the log once it is open.
    pub notes: Vec<String>,
    /// The lines about Sentinel, which are looked at once all others are read.
    pub sentinel: Vec<SentinelLine>,
}

/// A line about Sentinel: where it stands, as it stands there, and its words behind the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentinelLine {
    pub number: usize,
    pub line: Vec<u8>,
    pub words: Vec<Vec<u8>>,
}

/// Reads what `start` names, from the directory `dir`; `stdin` is the text of standard input if it is to
/// be read.
pub fn load(
    start: &Start,
    stdin: Option<&[u8]>,
    dir: Text,
    host: &mut dyn Host,
) -> Result<Loaded, LoadError> {
    let mut text = Vec::new();
    if let Some(path) = &start.file {
        text = read_files(host, &dir, path)?;
    }
    end_line(&mut text);
    text.extend_from_slice(stdin.unwrap_or_default());
    text.push(b'\n');
    text.extend_from_slice(&start.options);
    let mut loader = Loader::new(dir, host);
    if start.sentinel {
        loader.be_sentinel();
    }
    loader.read(&text)?;
    Ok(loader.finish())
}

/// Without the blanks that a line may have around it.
pub(super) fn trim(line: &[u8]) -> &[u8] {
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    let start = line.iter().position(|b| !is_blank(b));
    let end = line.iter().rposition(|b| !is_blank(b));
    match (start, end) {
        (Some(start), Some(end)) => &line[start..=end],
        _ => &[],
    }
}

/// What comes next begins a line, even if a file does not end with one.
fn end_line(text: &mut Vec<u8>) {
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
}

/// The text of a file, or of all files that a pattern stands for: none is no error then.
fn read_files(host: &mut dyn Host, dir: &Text, path: &[u8]) -> Result<Vec<u8>, LoadError> {
    let paths = match path.iter().any(|b| matches!(b, b'*' | b'?' | b'[')) {
        true => host.matching(dir, path),
        false => vec![path.into()],
    };
    let mut text = Vec::new();
    for path in paths {
        let read = host.read(dir, &path);
        end_line(&mut text);
        text.extend(read.map_err(|reason| LoadError::Open {
            path: path.to_vec(),
            reason,
        })?);
    }
    Ok(text)
}

struct Loader<'a> {
    config: Config,
    host: &'a mut dyn Host,
    setting: Setting,
    depth: usize,
    obsolete_seen: Vec<&'static str>,
    /// The lines about Sentinel, if this is to be one.
    sentinel: Option<Vec<SentinelLine>>,
    /// Where we are.
    number: usize,
}

impl<'a> Loader<'a> {
    fn new(dir: Text, host: &'a mut dyn Host) -> Loader<'a> {
        let config = Config {
            dir,
            ..Config::default()
        };
        Loader {
            config,
            host,
            setting: Setting::file(),
            depth: 0,
            obsolete_seen: Vec::new(),
            sentinel: None,
            number: 0,
        }
    }

    /// Sentinels have a port of their own, and are there to be reached.
    fn be_sentinel(&mut self) {
        self.config.port = SENTINEL_PORT;
        self.config.protected_mode = false;
        self.sentinel = Some(Vec::new());
    }

    fn finish(self) -> Loaded {
        let mut notes = self.setting.notes;
        notes.extend(absent::notes(&self.config));
        Loaded {
            config: self.config,
            notes,
            sentinel: self.sentinel.unwrap_or_default(),
        }
    }

    /// Reads a text, from a file or not, then checks what only the whole can tell.
    fn read(&mut self, text: &[u8]) -> Result<(), LoadError> {
        for (at, line) in text.split(|b| *b == b'\n').enumerate() {
            let line = trim(line);
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            self.number = at + 1;
            self.line(line).map_err(|stop| match stop {
                Stop::Here(reason) => LoadError::Line {
                    number: at + 1,
                    line: line.to_vec(),
                    reason,
                },
                Stop::Inside(error) => error,
            })?;
        }
        self.check_whole()
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Stop> {
        let mut args = split_args(line).map_err(|_| "Unbalanced quotes in configuration line")?;
        let Some(name) = args.first_mut() else {
            return Ok(());
        };
        name.make_ascii_lowercase();
        match lookup(name) {
            Some(row) => self.directive(row, &args[1..]),
            None if args[0] == b"sentinel" && args.len() > 1 && self.sentinel.is_some() => {
                self.note_sentinel(line, &args[1..]);
                Ok(())
            }
            None => self.other(&args),
        }
    }

    /// A line about a row. One argument of a directive that takes several is split once more, for values
    /// such as `"nosave now"`.
    fn directive(&mut self, row: &Row, args: &[Vec<u8>]) -> Result<(), Stop> {
        let enter: Enter<'_> = &mut |from, to| self.host.enter(from, to);
        let stored = match (row.is(flag::MULTI_ARG), args) {
            (true, [only]) if !only.is_empty() => {
                let args = split_args(only).unwrap_or_default();
                store(row, &mut self.config, &args, &mut self.setting, enter)
            }
            (false, args) if args.len() != 1 => return Err("wrong number of arguments".into()),
            _ => store(row, &mut self.config, args, &mut self.setting, enter),
        };
        stored.map_err(|reason| Stop::Here(reason.into_bytes()))?;
        Ok(())
    }

    /// A user, whose rules are looked at as far as they say nothing of commands.
    fn user(&mut self, args: &[Vec<u8>]) -> Result<(), Stop> {
        let users = &mut self.config.user;
        let known = users.iter().any(|words| words[0].as_bytes() == args[0]);
        let line: Vec<&[u8]> = [&b"user"[..]]
            .into_iter()
            .chain(args.iter().map(Vec::as_slice))
            .collect();
        check_declaration(&line, known).map_err(|reason| Stop::Here(reason.into_bytes()))?;
        users.push(args.iter().map(|word| word.as_slice().into()).collect());
        Ok(())
    }

    /// A line about anything else.
    fn other(&mut self, args: &[Vec<u8>]) -> Result<(), Stop> {
        let (name, args) = (args[0].as_slice(), &args[1..]);
        match (name, args) {
            (b"include", [path]) => self.include(path),
            (b"rename-command", [from, to]) => self.rename(from, to),
            (b"user", [_, ..]) => self.user(args),
            (b"loadmodule", [_, ..]) => {
                Err("Modules are not supported by this server: it cannot start with a loadmodule directive".into())
            }
            (b"sentinel", []) => Ok(()),
            (b"sentinel", _) => Err("sentinel directive while not in sentinel mode".into()),
            (_, [_]) if OBSOLETE.iter().any(|old| old.as_bytes() == name) => {
                self.note_obsolete(name);
                Ok(())
            }
            (_, []) if name.contains(&b'.') => Err("Module config specified without value".into()),
            _ if name.contains(&b'.') => {
                Err("Module Configuration detected without loadmodule directive or no ApplyConfig call: aborting".into())
            }
            _ => Err("Bad directive or wrong number of arguments".into()),
        }
    }

    fn note_sentinel(&mut self, line: &[u8], words: &[Vec<u8>]) {
        let number = self.number;
        if let Some(lines) = &mut self.sentinel {
            lines.push(SentinelLine {
                number,
                line: line.to_vec(),
                words: words.to_vec(),
            });
        }
    }

    fn note_obsolete(&mut self, name: &[u8]) {
        let known = OBSOLETE.iter().find(|old| old.as_bytes() == name);
        if let Some(name) = known.filter(|name| !self.obsolete_seen.contains(name)) {
            self.obsolete_seen.push(name);
            let note = format!("The directive '{name}' is obsolete and has no effect.");
            self.setting.notes.push(note);
        }
    }

    fn include(&mut self, path: &[u8]) -> Result<(), Stop> {
        if self.depth == INCLUDE_DEPTH_MAX {
            return Err("Too many nested include directives".into());
        }
        let text = read_files(self.host, &self.config.dir, path).map_err(Stop::Inside)?;
        self.depth += 1;
        let read = self.read(&text);
        self.depth -= 1;
        read.map_err(Stop::Inside)
    }

    /// Whether a command is known by `name` after the renames so far.
    fn is_command(&self, name: &[u8]) -> bool {
        let mut known = self.host.is_command(name);
        for (from, to) in &self.config.rename_command {
            known &= !from.eq_ignore_ascii_case(name);
            known |= to.eq_ignore_ascii_case(name);
        }
        known
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), Stop> {
        if !self.is_command(from) {
            return Err("No such command in rename-command".into());
        }
        let free = from.eq_ignore_ascii_case(to) || !self.is_command(to);
        if !to.is_empty() && !free {
            return Err("Target command name already exists".into());
        }
        self.config.rename_command.push((from.into(), to.into()));
        Ok(())
    }

    fn check_whole(&mut self) -> Result<(), LoadError> {
        let config = &mut self.config;
        if !config.logfile.is_empty() {
            let opened = self.host.appendable(&config.dir, &config.logfile);
            opened.map_err(|reason| LoadError::Whole {
                reason: format!("Can't open the log file: {reason}").into_bytes(),
            })?;
        }
        if config.cluster_enabled && config.replicaof.is_some() {
            return Err(LoadError::Whole {
                reason: b"replicaof directive not allowed in cluster mode".to_vec(),
            });
        }
        if config.cluster_enabled && config.databases > 1 {
            self.setting.notes.push(format!(
                "WARNING: Changing databases number from {} to 1 since we are in cluster mode",
                config.databases
            ));
            config.databases = 1;
        }
        settle(config);
        Ok(())
    }
}

/// What ends the reading of a line: its own fault, or one in a file that it includes.
enum Stop {
    Here(Vec<u8>),
    Inside(LoadError),
}

impl From<&str> for Stop {
    fn from(reason: &str) -> Stop {
        Stop::Here(reason.into())
    }
}
