//! The command line of redis-benchmark.

use crate::admin::info::REDIS_VERSION;
use crate::cli::number::atoi;
use crate::cli::out::{Stop, complain, lossy, say};
use crate::cli::uri::Place;

const PRECISION_DEFAULT: i32 = 3;
const PRECISION_MAX: i32 = 4;
const THREADS_MAX: i32 = 500;
const DATA_MAX: i32 = 1024 * 1024 * 1024;

/// The options with their values.
#[derive(Debug, Clone)]
pub struct Options {
    pub place: Place,
    pub socket: Option<Vec<u8>>,
    pub clients: i32,
    pub requests: i32,
    pub data_size: i32,
    pub keep_alive: i32,
    /// `-r`: random keys out of so many, or all the same one for 0.
    pub keyspace: Option<u32>,
    pub pipeline: i32,
    pub quiet: bool,
    pub csv: bool,
    pub for_ever: bool,
    pub idle: bool,
    /// The tests of `-t`, between commas.
    pub tests: Option<Vec<u8>>,
    pub stdin_last_arg: bool,
    pub precision: i32,
    pub threads: i32,
    pub tracking: bool,
    pub resp3: bool,
    pub seed: Option<i32>,
    pub cluster: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            place: Place::default(),
            socket: None,
            clients: 50,
            requests: 100_000,
            data_size: 3,
            keep_alive: 1,
            keyspace: None,
            pipeline: 1,
            quiet: false,
            csv: false,
            for_ever: false,
            idle: false,
            tests: None,
            stdin_last_arg: false,
            precision: PRECISION_DEFAULT,
            threads: 0,
            tracking: false,
            resp3: false,
            seed: None,
            cluster: false,
        }
    }
}

impl Options {
    /// Reads the options ahead of the command. Gives how many words they are.
    pub fn parse(&mut self, args: &[Vec<u8>]) -> Result<usize, Stop> {
        let mut at = 0;
        while let Some(arg) = args.get(at) {
            let value = args.get(at + 1).map(Vec::as_slice);
            if self.flag(arg)? {
                at += 1;
            } else if let Some(value) = value
                && self.value(arg, value)?
            {
                at += 2;
            } else if arg.starts_with(b"-") {
                return Err(invalid(arg));
            } else {
                break;
            }
        }
        Ok(at)
    }

    fn flag(&mut self, option: &[u8]) -> Result<bool, Stop> {
        match option {
            b"-v" | b"--version" => {
                say!("redis-benchmark {REDIS_VERSION}\n");
                return Err(Stop(0));
            }
            b"--help" => {
                print_usage();
                return Err(Stop(0));
            }
            b"-x" => self.stdin_last_arg = true,
            b"-3" => self.resp3 = true,
            b"-q" => self.quiet = true,
            b"--csv" => self.csv = true,
            b"-l" => self.for_ever = true,
            b"-I" => self.idle = true,
            b"-e" => complain!(
                "WARNING: -e option has no effect. We now immediately exit on error to avoid false results.\n"
            ),
            b"--enable-tracking" => self.tracking = true,
            b"--cluster" => self.cluster = true,
            _ => return Ok(self.place.tls.take_flag(option)),
        }
        Ok(true)
    }

    fn value(&mut self, option: &[u8], value: &[u8]) -> Result<bool, Stop> {
        match option {
            b"-c" => self.clients = atoi(value),
            b"-n" => self.requests = atoi(value),
            b"-k" => self.keep_alive = atoi(value),
            b"-h" => self.place.host = value.to_vec(),
            b"-p" => {
                self.place.port = atoi(value);
                self.place.check_port()?;
            }
            b"-s" => self.socket = Some(value.to_vec()),
            b"-a" => self.place.password = Some(value.to_vec()),
            b"--user" => self.place.user = Some(value.to_vec()),
            b"-u" => {
                self.place.take_uri(value)?;
                self.place.check_port()?;
            }
            b"--dbnum" => self.place.db = atoi(value),
            b"-d" => self.data_size = atoi(value).clamp(1, DATA_MAX),
            b"-P" => self.pipeline = atoi(value).max(1),
            b"-r" => {
                let is_option = matches!(value, [b'-', rest @ ..]
                    if !rest.first().is_some_and(u8::is_ascii_digit));
                if is_option {
                    return Err(invalid(value));
                }
                self.keyspace = Some(u32::try_from(atoi(value)).unwrap_or(0));
            }
            b"--seed" => self.seed = Some(atoi(value)),
            b"-t" => self.tests = Some([b",", &value.to_ascii_lowercase()[..], b","].concat()),
            b"--precision" => {
                self.precision = match atoi(value) {
                    ..0 => PRECISION_DEFAULT,
                    digits => digits.min(PRECISION_MAX),
                };
            }
            b"--threads" => {
                self.threads = atoi(value).max(0);
                if self.threads > THREADS_MAX {
                    complain!("WARNING: Too many threads, limiting threads to {THREADS_MAX}.\n");
                    self.threads = THREADS_MAX;
                }
            }
            _ => return Ok(self.place.tls.take(option, value)),
        }
        Ok(true)
    }

    /// Whether a test of the suite is to run.
    pub fn is_selected(&self, test: &str) -> bool {
        let name = format!(",{test},");
        self.tests
            .as_ref()
            .is_none_or(|tests| memchr::memmem::find(tests, name.as_bytes()).is_some())
    }
}

fn invalid(option: &[u8]) -> Stop {
    say!(
        "Invalid option \"{}\" or option argument missing\n\n",
        lossy(option)
    );
    print_usage();
    Stop(1)
}

fn print_usage() {
    say!("{}", include_str!("usage.txt"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<(Options, usize), Stop> {
        let args: Vec<Vec<u8>> = line.split(' ').map(|word| word.into()).collect();
        let mut options = Options::default();
        let used = options.parse(&args)?;
        Ok((options, used))
    }

    #[test]
    fn the_first_word_that_is_no_option_begins_the_command() {
        let (options, used) = parse("-P 0 -r -5 -d 0 -t GET,set lpush -c 3").unwrap();
        assert_eq!((options.pipeline, options.keyspace, used), (1, Some(0), 8));
        assert_eq!((options.data_size, options.clients), (1, 50));
        assert!(options.is_selected("get") && !options.is_selected("lpush"));
        for bad in ["-c", "-r -q", "--sni"] {
            assert_eq!(parse(bad).err(), Some(Stop(1)), "{bad}");
        }
    }
}
