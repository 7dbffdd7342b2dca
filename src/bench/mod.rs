//! redis-benchmark: how fast a server answers.
//!
//! [`load`] keeps a number of connections busy with one command ([`request`]) until enough of them were answered, [`replies`]
//! counts the answers, and [`report`] tells how long they took. Without a command of its own it runs Redis's suite, test
//! after test. What it prints has Redis's form, which scripts read.

mod load;
mod options;
mod replies;
mod report;
mod request;

use std::io::Read;

use load::{Load, Target};
use options::Options;
use report::Outcome;
use request::Request;

use crate::base::rng::Rng;
use crate::base::time::Clock;
use crate::cli::link::{Address, Link, resolve};
use crate::cli::out::{self, Stop, complain, lossy, say};
use crate::resp::request::append_command;
use crate::resp::value::Value;

/// The program. Gives its exit status.
pub fn main() -> i32 {
    out::status_of(run)
}

struct Bench {
    options: Options,
    target: Target,
    /// The server's `save` and `appendonly`, if it told them.
    server: Option<(String, String)>,
    greeting: (Vec<u8>, u64),
    rng: Rng,
    clock: Clock,
}

fn run(args: Vec<Vec<u8>>) -> Result<(), Stop> {
    let mut options = Options::default();
    let used = options.parse(&args)?;
    let command = &args[used..];
    let (server, target) = ask_server(&options)?;
    if server.is_none() {
        complain!("WARNING: Could not fetch server CONFIG\n");
    }
    if options.keep_alive == 0 {
        complain!(
            "WARNING: Keepalive disabled. You probably need 'echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse' for Linux and \
            'sudo sysctl -w net.inet.tcp.msl=1000' for Mac OS X in order to use a lot of clients/requests\n"
        );
    }
    if !command.is_empty() && options.tests.is_some() {
        complain!("WARNING: Option -t is ignored.\n");
    }
    let mut bench = Bench {
        greeting: greeting(&options),
        rng: match options.seed {
            Some(seed) => Rng::new(i64::from(seed) as u64),
            None => Rng::from_entropy(),
        },
        clock: Clock::system(),
        options,
        target,
        server,
    };
    if bench.options.idle {
        say!(
            "Creating {} idle connections and waiting forever (Ctrl+C when done)\n",
            bench.options.clients
        );
        return bench.measure("", &[]).map(drop);
    }
    if bench.options.csv {
        say!(
            "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\
            \"p99_latency_ms\",\"max_latency_ms\"\n"
        );
    }
    match command {
        [] => bench.suite(),
        command => bench.one_command(command),
    }
}

/// Asks the server for two settings, and so whether it is there. Gives them, and the address that worked.
fn ask_server(options: &Options) -> Result<(Option<(String, String)>, Target), Stop> {
    let place = &options.place;
    let port = u16::try_from(place.port).unwrap_or(0);
    let (name, address, target) = match &options.socket {
        Some(path) => (
            lossy(path).into_owned(),
            Address::Unix(path),
            Ok(Target::Unix(path.clone())),
        ),
        None => (
            format!("{}:{}", lossy(&place.host), place.port),
            Address::Tcp(&place.host, port),
            resolve(&place.host, port).and_then(|addresses| match addresses.first() {
                Some(address) => Ok(Target::Tcp(*address)),
                None => Err("Name or service not known".to_string()),
            }),
        ),
    };
    let reached = target.and_then(|target| Ok((target, Link::connect(&address)?)));
    let (target, mut link) = reached.map_err(|why| {
        complain!("Could not connect to Redis at {name}: {why}\n");
        Stop(1)
    })?;
    let refused = |why: &[u8]| {
        complain!("Node {name} replied with error:\n{}\n", lossy(why));
        Stop(1)
    };
    if let Some(auth) = auth(options) {
        match link.command(&auth) {
            Ok(Value::Error(why)) => return Err(refused(&why)),
            Ok(_) => {}
            Err(_) => {
                complain!("ERROR: failed to fetch reply from {name}\n");
                return Err(Stop(1));
            }
        }
    }
    let mut setting = |name: &str| match link.command(&["CONFIG", "GET", name]) {
        Ok(Value::Array(pair)) => Ok(pair
            .get(1)
            .map(|value| lossy(value.as_bytes().unwrap_or_default()).into_owned())),
        Ok(Value::Error(why)) if why.starts_with(b"NOAUTH") => Err(refused(&why)),
        _ => Ok(None),
    };
    let settings = (setting("save")?, setting("appendonly")?);
    let settings = match settings {
        (Some(save), Some(appendonly)) => Some((save, appendonly)),
        _ => None,
    };
    Ok((settings, target))
}

fn auth(options: &Options) -> Option<Vec<&[u8]>> {
    let password = options.place.password.as_deref()?;
    let user = options.place.user.as_deref();
    let words = [Some(&b"AUTH"[..]), user, Some(password)];
    Some(words.into_iter().flatten().collect())
}

/// What each connection says first, and the number of replies to it.
fn greeting(options: &Options) -> (Vec<u8>, u64) {
    let db = options.place.db.to_string();
    let mut commands = Vec::new();
    commands.extend(auth(options));
    if options.tracking {
        commands.push(vec![&b"CLIENT"[..], b"TRACKING", b"on"]);
    }
    if options.place.db != 0 {
        commands.push(vec![b"SELECT", db.as_bytes()]);
    }
    if options.resp3 {
        commands.push(vec![b"HELLO", b"3"]);
    }
    let mut bytes = Vec::new();
    for command in &commands {
        append_command(command, &mut bytes);
    }
    (bytes, commands.len() as u64)
}

/// Text of so many bytes, always the same.
fn data(len: usize) -> Vec<u8> {
    let mut state = 1234u32;
    let next = || {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12345);
        b'0' + ((state >> 16) & 63) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

impl Bench {
    fn measure(&mut self, title: &str, command: &[u8]) -> Result<load::Measured, Stop> {
        let pipeline = usize::try_from(self.options.pipeline).unwrap_or(1);
        let load = Load {
            options: &self.options,
            target: &self.target,
            title,
            greeting: (&self.greeting.0, self.greeting.1),
            request: Request::new(command, pipeline, self.options.keyspace.is_some()),
            clock: &self.clock,
        };
        load.run(&mut self.rng)
    }

    /// Runs a test and prints what it gave. `data_size`: what the report calls the payload.
    fn test(&mut self, title: &str, command: &[u8], data_size: usize) -> Result<(), Stop> {
        let measured = self.measure(title, command)?;
        let outcome = Outcome {
            title,
            data_size,
            finished: measured.finished,
            took_ms: measured.took_ms,
            latencies: measured.latencies,
            server: self.server.clone(),
            progress_len: measured.progress_len,
        };
        outcome.print(&self.options);
        Ok(())
    }

    /// The command of the command line.
    fn one_command(&mut self, command: &[Vec<u8>]) -> Result<(), Stop> {
        let title = lossy(&command.join(&b' ')).into_owned();
        let mut args = command.to_vec();
        if self.options.stdin_last_arg {
            let mut last = Vec::new();
            if std::io::stdin().read_to_end(&mut last).is_err() {
                complain!("Reading from standard input failed\n");
                return Err(Stop(1));
            }
            args.push(last);
        }
        let mut bytes = Vec::new();
        append_command(&args, &mut bytes);
        loop {
            self.test(&title, &bytes, bytes.len())?;
            if !self.options.for_ever {
                return Ok(());
            }
        }
    }

    /// Redis's tests, in its order.
    fn suite(&mut self) -> Result<(), Stop> {
        let data_size = usize::try_from(self.options.data_size).unwrap_or(1);
        let data = lossy(&data(data_size)).into_owned();
        let score = match self.options.keyspace {
            Some(_) => "__rand_int__",
            None => "0",
        };
        let many = format!("MSET{}", format!(" key:__rand_int__ {data}").repeat(10));
        let lranges = ["lrange_100", "lrange_300", "lrange_500", "lrange_600"];
        let tests: &[(&[&str], &str, String)] = &[
            (&["set"], "SET", format!("SET key:__rand_int__ {data}")),
            (&["get"], "GET", "GET key:__rand_int__".into()),
            (&["incr"], "INCR", "INCR counter:__rand_int__".into()),
            (&["lpush"], "LPUSH", format!("LPUSH mylist {data}")),
            (&["rpush"], "RPUSH", format!("RPUSH mylist {data}")),
            (&["lpop"], "LPOP", "LPOP mylist".into()),
            (&["rpop"], "RPOP", "RPOP mylist".into()),
            (&["sadd"], "SADD", "SADD myset element:__rand_int__".into()),
            (
                &["hset"],
                "HSET",
                format!("HSET myhash element:__rand_int__ {data}"),
            ),
            (&["spop"], "SPOP", "SPOP myset".into()),
            (
                &["zadd"],
                "ZADD",
                format!("ZADD myzset {score} element:__rand_int__"),
            ),
            (&["zpopmin"], "ZPOPMIN", "ZPOPMIN myzset".into()),
            (
                &["lrange", lranges[0], lranges[1], lranges[2], lranges[3]],
                "LPUSH (needed to benchmark LRANGE)",
                format!("LPUSH mylist {data}"),
            ),
            (
                &["lrange", lranges[0]],
                "LRANGE_100 (first 100 elements)",
                "LRANGE mylist 0 99".into(),
            ),
            (
                &["lrange", lranges[1]],
                "LRANGE_300 (first 300 elements)",
                "LRANGE mylist 0 299".into(),
            ),
            (
                &["lrange", lranges[2]],
                "LRANGE_500 (first 500 elements)",
                "LRANGE mylist 0 499".into(),
            ),
            (
                &["lrange", lranges[3]],
                "LRANGE_600 (first 600 elements)",
                "LRANGE mylist 0 599".into(),
            ),
            (&["mset"], "MSET (10 keys)", many),
            (&["xadd"], "XADD", format!("XADD mystream * myfield {data}")),
        ];
        loop {
            if self.is_selected(&["ping_inline", "ping"]) {
                self.test("PING_INLINE", b"PING\r\n", data_size)?;
            }
            if self.is_selected(&["ping_mbulk", "ping"]) {
                self.words("PING_MBULK", "PING", data_size)?;
            }
            for (names, title, command) in tests {
                if self.is_selected(names) {
                    self.words(title, command, data_size)?;
                }
            }
            if !self.options.csv {
                say!("\n");
            }
            if !self.options.for_ever {
                return Ok(());
            }
        }
    }

    fn is_selected(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.options.is_selected(name))
    }

    /// A test of a command whose words hold no blanks.
    fn words(&mut self, title: &str, command: &str, data_size: usize) -> Result<(), Stop> {
        let mut bytes = Vec::new();
        let words: Vec<&str> = command.split(' ').collect();
        append_command(&words, &mut bytes);
        self.test(title, &bytes, data_size)
    }
}
