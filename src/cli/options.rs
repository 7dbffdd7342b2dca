//! The command line of redis-cli.
//!
//! Options come first; the first word that is none begins the command. As in Redis, an option that needs a value and stands
//! last is an unknown one.

use super::cluster::ClusterOptions;
use super::debug::needs_eval;
use super::format::{Delimiters, Style};
use super::number::{atoi, seconds_as_us};
use super::out::{Stop, complain, lossy, say};
use super::uri::Place;
use super::{unquote, usage};
use crate::admin::info::REDIS_VERSION;
use crate::base::number::leading_i64;

/// What the program does instead of sending one command. Of several, the first of this list is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Latency,
    LatencyDist,
    Replica,
    Rdb,
    FunctionsRdb,
    Pipe,
    BigKeys,
    MemKeys,
    HotKeys,
    Stat,
    Scan,
    LruTest,
    IntrinsicLatency,
    TestHint,
    TestHintFile,
}

/// Which protocol to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// That of a new connection.
    Default,
    /// RESP3 if the server has it: JSON is richer then.
    Prefer3,
    Require3,
}

/// The options with their values.
#[derive(Debug, Clone)]
pub struct Options {
    pub place: Place,
    pub socket: Option<Vec<u8>>,
    pub auth_warning: bool,
    pub askpass: bool,
    pub repeat: i64,
    /// Microseconds to wait between two of what is repeated.
    pub interval_us: i64,
    pub stdin_last_arg: bool,
    pub stdin_tag: Option<Vec<u8>>,
    pub quoted_input: bool,
    pub style: Style,
    pub delimiters: Delimiters,
    pub show_pushes: bool,
    pub exit_on_error: bool,
    pub cluster: bool,
    pub resp2: bool,
    pub protocol: Protocol,
    pub verbose: bool,
    pub modes: Vec<Mode>,
    pub latency_history: bool,
    /// The colours of `--latency-dist` are shades of grey.
    pub mono: bool,
    pub lru_keys: i64,
    pub pattern: Option<Vec<u8>>,
    pub count: i32,
    pub intrinsic_s: i32,
    /// The file of [`Mode::Rdb`] and [`Mode::FunctionsRdb`].
    pub rdb_file: Vec<u8>,
    pub pipe_timeout_s: i32,
    pub mem_samples: i32,
    pub eval: Option<Vec<u8>>,
    /// The script of `eval` is debugged; and where it is, not on a snapshot.
    pub ldb: bool,
    pub ldb_in_place: bool,
    pub hint: Vec<u8>,
    /// What `--cluster` is to do.
    pub cluster_manager: ClusterOptions,
}

impl Options {
    /// The options when none are given. `terminal`: someone looks at the output.
    pub fn new(terminal: bool) -> Options {
        Options {
            place: Place::default(),
            socket: None,
            auth_warning: true,
            askpass: false,
            repeat: 1,
            interval_us: 0,
            stdin_last_arg: false,
            stdin_tag: None,
            quoted_input: false,
            style: if terminal {
                Style::Standard
            } else {
                Style::Raw
            },
            delimiters: Delimiters {
                element: b"\n".to_vec(),
                reply: b"\n".to_vec(),
            },
            show_pushes: terminal,
            exit_on_error: false,
            cluster: false,
            resp2: false,
            protocol: Protocol::Default,
            verbose: false,
            modes: Vec::new(),
            latency_history: false,
            mono: false,
            lru_keys: 0,
            pattern: None,
            count: 10,
            intrinsic_s: 0,
            rdb_file: Vec::new(),
            pipe_timeout_s: usage::PIPE_TIMEOUT_S,
            mem_samples: 0,
            eval: None,
            ldb: false,
            ldb_in_place: false,
            hint: Vec::new(),
            cluster_manager: ClusterOptions::default(),
        }
    }

    /// Reads the options ahead of the command. Gives how many words they are.
    pub fn parse(&mut self, args: &[Vec<u8>]) -> Result<usize, Stop> {
        let mut at = 0;
        while let Some(arg) = args.get(at) {
            let used = self.cluster_manager.take(&args[at..])?;
            if used > 0 {
                at += used;
                continue;
            }
            let value = args.get(at + 1).map(Vec::as_slice);
            let used = match self.take(arg, value)? {
                Used::Unknown if arg.starts_with(b"-") => {
                    complain!(
                        "Unrecognized option or bad number of args for: '{}'\n",
                        lossy(arg)
                    );
                    return Err(Stop(1));
                }
                Used::Unknown => break,
                Used::Alone => 1,
                Used::WithValue => 2,
            };
            at += used;
        }
        self.check()?;
        Ok(at)
    }

    fn take(&mut self, option: &[u8], value: Option<&[u8]>) -> Result<Used, Stop> {
        for group in [
            Options::place,
            Options::input_and_output,
            Options::mode,
            Options::about,
        ] {
            match group(self, option, value)? {
                Used::Unknown => {}
                used => return Ok(used),
            }
        }
        Ok(Used::Unknown)
    }

    fn place(&mut self, option: &[u8], value: Option<&[u8]>) -> Result<Used, Stop> {
        match (option, value) {
            (b"-h", Some(host)) => self.place.host = host.to_vec(),
            (b"-p", Some(port)) => {
                self.place.port = atoi(port);
                self.place.check_port()?;
            }
            (b"-s", Some(path)) => self.socket = Some(path.to_vec()),
            (b"-n", Some(db)) => self.place.db = atoi(db),
            (b"-a" | b"--pass", Some(password)) => self.place.password = Some(password.to_vec()),
            (b"--user", Some(user)) => self.place.user = Some(user.to_vec()),
            (b"-u", Some(uri)) => {
                self.place.take_uri(uri)?;
                self.place.check_port()?;
            }
            (_, Some(value)) if self.place.tls.take(option, value) => {}
            _ => return Ok(self.place_flag(option)),
        }
        Ok(Used::WithValue)
    }

    fn place_flag(&mut self, option: &[u8]) -> Used {
        match option {
            b"--no-auth-warning" => self.auth_warning = false,
            b"--askpass" => self.askpass = true,
            b"-c" => self.cluster = true,
            b"-2" => self.resp2 = true,
            b"-3" => self.protocol = Protocol::Require3,
            _ if self.place.tls.take_flag(option) => {}
            _ => return Used::Unknown,
        }
        Used::Alone
    }

    fn input_and_output(&mut self, option: &[u8], value: Option<&[u8]>) -> Result<Used, Stop> {
        match (option, value) {
            (b"-X", Some(tag)) => self.stdin_tag = Some(tag.to_vec()),
            (b"-r", Some(times)) => self.repeat = leading_i64(times).0,
            (b"-i", Some(seconds)) => self.interval_us = seconds_as_us(seconds),
            (b"-d", Some(text)) => self.delimiters.element = text.to_vec(),
            (b"-D", Some(text)) => self.delimiters.reply = text.to_vec(),
            (b"--show-pushes", Some(value)) => match value.first() {
                Some(b'n' | b'N') => self.show_pushes = false,
                Some(b'y' | b'Y') => self.show_pushes = true,
                _ => complain!(
                    "Unknown --show-pushes value '{}' (valid: '[y]es', '[n]o')\n",
                    lossy(value)
                ),
            },
            _ => return Ok(self.output_flag(option)),
        }
        Ok(Used::WithValue)
    }

    fn output_flag(&mut self, option: &[u8]) -> Used {
        match option {
            b"-x" => self.stdin_last_arg = true,
            b"-e" => self.exit_on_error = true,
            b"--quoted-input" => self.quoted_input = true,
            b"--raw" => self.style = Style::Raw,
            b"--no-raw" => self.style = Style::Standard,
            b"--csv" => self.style = Style::Csv,
            b"--json" | b"--quoted-json" => {
                let quoted = option == b"--quoted-json";
                self.style = if quoted {
                    Style::QuotedJson
                } else {
                    Style::Json
                };
                if self.protocol == Protocol::Default {
                    self.protocol = Protocol::Prefer3;
                }
            }
            b"--ldb" | b"--ldb-sync-mode" => {
                self.ldb = true;
                self.ldb_in_place |= option == b"--ldb-sync-mode";
                self.style = Style::Raw;
            }
            b"--verbose" => self.verbose = true,
            _ => return Used::Unknown,
        }
        Used::Alone
    }

    fn mode(&mut self, option: &[u8], value: Option<&[u8]>) -> Result<Used, Stop> {
        let mode = match (option, value) {
            (b"--lru-test", Some(keys)) => {
                self.lru_keys = leading_i64(keys).0;
                Mode::LruTest
            }
            (b"--intrinsic-latency", Some(seconds)) => {
                self.intrinsic_s = atoi(seconds);
                Mode::IntrinsicLatency
            }
            (b"--rdb" | b"--functions-rdb", Some(file)) => {
                self.rdb_file = file.to_vec();
                match option {
                    b"--rdb" => Mode::Rdb,
                    _ => Mode::FunctionsRdb,
                }
            }
            (b"--memkeys-samples", Some(samples)) => {
                self.mem_samples = atoi(samples);
                Mode::MemKeys
            }
            (b"--test_hint", Some(line)) => {
                self.hint = line.to_vec();
                Mode::TestHint
            }
            (b"--test_hint_file", Some(file)) => {
                self.hint = file.to_vec();
                Mode::TestHintFile
            }
            _ => {
                return match self.mode_value(option, value)? {
                    Used::Unknown => Ok(self.mode_flag(option)),
                    used => Ok(used),
                };
            }
        };
        self.modes.push(mode);
        Ok(Used::WithValue)
    }

    /// Values that a mode works with.
    fn mode_value(&mut self, option: &[u8], value: Option<&[u8]>) -> Result<Used, Stop> {
        match (option, value) {
            (b"--pattern", Some(pattern)) => self.pattern = Some(pattern.to_vec()),
            (b"--quoted-pattern", Some(pattern)) => match unquote(pattern) {
                Some(pattern) => self.pattern = Some(pattern),
                None => {
                    complain!("Invalid quoted string specified for --quoted-pattern.\n");
                    return Err(Stop(1));
                }
            },
            (b"--count", Some(count)) => self.count = atoi(count),
            (b"--pipe-timeout", Some(seconds)) => self.pipe_timeout_s = atoi(seconds),
            (b"--eval", Some(file)) => self.eval = Some(file.to_vec()),
            _ => return Ok(Used::Unknown),
        }
        Ok(Used::WithValue)
    }

    fn mode_flag(&mut self, option: &[u8]) -> Used {
        let mode = match option {
            b"--latency" => Mode::Latency,
            b"--latency-history" => {
                self.latency_history = true;
                Mode::Latency
            }
            b"--latency-dist" => Mode::LatencyDist,
            b"--mono" => {
                self.mono = true;
                return Used::Alone;
            }
            b"--slave" | b"--replica" => Mode::Replica,
            b"--stat" => Mode::Stat,
            b"--scan" => Mode::Scan,
            b"--pipe" => Mode::Pipe,
            b"--bigkeys" => Mode::BigKeys,
            b"--memkeys" => {
                self.mem_samples = 0;
                Mode::MemKeys
            }
            b"--hotkeys" => Mode::HotKeys,
            _ => return Used::Unknown,
        };
        self.modes.push(mode);
        Used::Alone
    }

    /// Options that answer and end.
    fn about(&mut self, option: &[u8], _value: Option<&[u8]>) -> Result<Used, Stop> {
        match option {
            // (With a value it is the host.)
            b"--help" | b"-h" => {
                usage::print();
                Err(Stop(0))
            }
            b"-v" | b"--version" => {
                say!("redis-cli {REDIS_VERSION}\n");
                Err(Stop(0))
            }
            _ => Ok(Used::Unknown),
        }
    }

    /// What cannot be together.
    fn check(&self) -> Result<(), Stop> {
        let refuse = |text: &str| {
            complain!("{text}\n");
            Err(Stop(1))
        };
        if self.socket.is_some() && self.cluster {
            return refuse("Options -c and -s are mutually exclusive.");
        }
        if self.resp2 && self.protocol == Protocol::Require3 {
            return refuse("Options -2 and -3 are mutually exclusive.");
        }
        if self.ldb && self.eval.is_none() {
            return Err(needs_eval());
        }
        if self.auth_warning && self.place.password.is_some() {
            complain!(
                "Warning: Using a password with '-a' or '-u' option on the command line interface may not be safe.\n"
            );
        }
        if self.modes.contains(&Mode::Rdb) && self.modes.contains(&Mode::FunctionsRdb) {
            return refuse("Option --functions-rdb and --rdb are mutually exclusive.");
        }
        if self.stdin_last_arg && self.stdin_tag.is_some() {
            return refuse("Options -x and -X are mutually exclusive.");
        }
        Ok(())
    }
}

/// How many words an option took.
enum Used {
    Unknown,
    Alone,
    WithValue,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<(Options, usize), Stop> {
        let args: Vec<Vec<u8>> = line.split(' ').map(|word| word.into()).collect();
        let mut options = Options::new(false);
        let used = options.parse(&args)?;
        Ok((options, used))
    }

    #[test]
    fn the_first_word_that_is_no_option_begins_the_command() {
        let (options, used) = parse("-p 7 -r 3 --json set -p 8").unwrap();
        assert_eq!((options.place.port, options.repeat, used), (7, 3, 5));
        assert_eq!(options.protocol, Protocol::Prefer3);
        // An option that wants a value and has none is unknown.
        for bad in ["-p", "-X", "--cluster", "--sni", "-2 -3", "-c -s x"] {
            assert_eq!(parse(bad).err(), Some(Stop(1)), "{bad}");
        }
        assert_eq!(parse("--version").err(), Some(Stop(0)));
        assert_eq!(parse("-p 1 -h").err(), Some(Stop(0)));
    }

    #[test]
    fn of_several_modes_all_are_known() {
        let (options, _) = parse("--scan --bigkeys --latency-history").unwrap();
        assert_eq!(options.modes.iter().min(), Some(&Mode::Latency));
        assert!(options.latency_history);
    }
}
