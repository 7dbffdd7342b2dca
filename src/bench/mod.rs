//! redis-benchmark: how fast a server answers.
//!
//! [`load`] keeps a number of connections busy with one command ([`request`]) until enough of them were answered, [`replies`]
//! counts the answers, and [`report`] tells how long they took. Without a command of its own it runs Redis's suite, test
//! after test. What it prints has Redis's form, which scripts read.

mod cluster;
mod load;
mod options;
mod replies;
mod report;
mod request;

use std::io::Read;

use cluster::Masters;
use load::{Load, Target};
use options::Options;
use report::Outcome;
use request::Request;

use crate::base::rng::Rng;
use crate::base::time::Clock;
use crate::cli::cluster::table;
use crate::cli::link::{Address, Link, resolve};
use crate::cli::out::{self, Stop, complain, lossy, say};
use crate::resp::request::append_command;
use crate::resp::value::Value;
use crate::tls::Caller;

/// The program. Gives its exit status.
pub fn main() -> i32 {
    out::status_of(run)
}

struct Bench {
    options: Options,
    target: Target,
    caller: Option<Caller>,
    /// What it told of its settings.
    server: Option<Settings>,
    masters: Option<Masters>,
    greeting: (Vec<u8>, u64),
    rng: Rng,
    clock: Clock,
}

fn run(args: Vec<Vec<u8>>) -> Result<(), Stop> {
    let mut options = Options::default();
    let used = options.parse(&args)?;
    let command = &args[used..];
    let masters = match options.cluster {
        true => Some(Masters::find(&options)?),
        false => None,
    };
    let mut reached = reach(&options, None)?;
    let mut server = None;
    if let Some(masters) = &masters {
        if options.threads == 0 {
            options.threads = i32::try_from(masters.all.len()).unwrap_or(1);
        }
    } else {
        server = settings(&mut reached.link, &reached.name)?;
        if server.is_none() {
            complain!("WARNING: Could not fetch server CONFIG\n");
        }
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
        caller: caller(&options)?,
        options,
        target: reached.target,
        server,
        masters,
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

/// Two settings of a server that a report tells.
#[derive(Debug, Clone)]
pub struct Settings {
    pub save: String,
    pub appendonly: String,
}

/// A server that is there.
struct Reached {
    link: Link,
    /// What worked.
    target: Target,
    /// As messages name it.
    name: String,
}

/// Connects to the server of the options, or to one of a cluster, and logs in.
fn reach(options: &Options, node: Option<&table::Address>) -> Result<Reached, Stop> {
    let place = &options.place;
    let (host, port) = match node {
        Some(node) => (node.host.as_bytes(), node.port),
        None => (&place.host[..], place.port),
    };
    let (name, address, target) = match &options.socket {
        Some(path) if node.is_none() => (
            lossy(path).into_owned(),
            Address::Unix(path),
            Ok(Target::Unix(path.clone())),
        ),
        _ => {
            let name = format!("{}:{port}", lossy(host));
            let port = u16::try_from(port).unwrap_or(0);
            let target = resolve(host, port).and_then(|addresses| match addresses.first() {
                Some(address) => Ok(Target::Tcp(*address)),
                None => Err("Name or service not known".to_string()),
            });
            (name, Address::Tcp(host, port), target)
        }
    };
    let caller = caller(options)?;
    let reached = target.and_then(|target| {
        let link = Link::connect(&address)?;
        Ok(match &caller {
            Some(caller) => (target, link.secure(caller)?),
            None => (target, link),
        })
    });
    let (target, mut link) = reached.map_err(|why| {
        complain!("Could not connect to Redis at {name}: {why}\n");
        Stop(1)
    })?;
    if let Some(auth) = auth(options) {
        match link.command(&auth) {
            Ok(Value::Error(why)) => return Err(refused(&name, &why)),
            Ok(_) => {}
            Err(_) => {
                complain!("ERROR: failed to fetch reply from {name}\n");
                return Err(Stop(1));
            }
        }
    }
    Ok(Reached { link, target, name })
}

fn refused(name: &str, why: &[u8]) -> Stop {
    complain!("Node {name} replied with error:\n{}\n", lossy(why));
    Stop(1)
}

/// Asks a server for its settings.
fn settings(link: &mut Link, name: &str) -> Result<Option<Settings>, Stop> {
    let mut setting = |key: &str| match link.command(&["CONFIG", "GET", key]) {
        Ok(Value::Array(pair)) => Ok(pair
            .get(1)
            .map(|value| lossy(value.as_bytes().unwrap_or_default()).into_owned())),
        Ok(Value::Error(why)) if why.starts_with(b"NOAUTH") => Err(refused(name, &why)),
        _ => Ok(None),
    };
    let (save, appendonly) = (setting("save")?, setting("appendonly")?);
    let both = save.zip(appendonly);
    Ok(both.map(|(save, appendonly)| Settings { save, appendonly }))
}

/// Who speaks TLS, if that is wanted.
fn caller(options: &Options) -> Result<Option<Caller>, Stop> {
    if !options.place.tls.on {
        return Ok(None);
    }
    Caller::new(&options.place.tls).map(Some).map_err(|why| {
        complain!("Could not negotiate a TLS connection: {why}\n");
        Stop(1)
    })
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
    if options.place.db != 0 && !options.cluster {
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
        let request = Request::new(command, pipeline, self.options.keyspace.is_some());
        let load = Load {
            options: &self.options,
            target: &self.target,
            masters: self.masters.as_ref(),
            caller: self.caller.as_ref(),
            title,
            greeting: (&self.greeting.0, self.greeting.1),
            request: match self.masters {
                Some(_) => request.with_tags(),
                None => request,
            },
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
            masters: self.masters.as_ref().map(|masters| {
                let settings = masters.all.iter().map(|master| master.settings.clone());
                settings.collect()
            }),
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
        let tag = match self.masters {
            Some(_) => ":{tag}",
            None => "",
        };
        let many = format!(
            "MSET{}",
            format!(" key{tag}:__rand_int__ {data}").repeat(10)
        );
        let lranges = ["lrange_100", "lrange_300", "lrange_500", "lrange_600"];
        let tests: &[(&[&str], &str, String)] = &[
            (&["set"], "SET", format!("SET key{tag}:__rand_int__ {data}")),
            (&["get"], "GET", format!("GET key{tag}:__rand_int__")),
            (&["incr"], "INCR", format!("INCR counter{tag}:__rand_int__")),
            (&["lpush"], "LPUSH", format!("LPUSH mylist{tag} {data}")),
            (&["rpush"], "RPUSH", format!("RPUSH mylist{tag} {data}")),
            (&["lpop"], "LPOP", format!("LPOP mylist{tag}")),
            (&["rpop"], "RPOP", format!("RPOP mylist{tag}")),
            (
                &["sadd"],
                "SADD",
                format!("SADD myset{tag} element:__rand_int__"),
            ),
            (
                &["hset"],
                "HSET",
                format!("HSET myhash{tag} element:__rand_int__ {data}"),
            ),
            (&["spop"], "SPOP", format!("SPOP myset{tag}")),
            (
                &["zadd"],
                "ZADD",
                format!("ZADD myzset{tag} {score} element:__rand_int__"),
            ),
            (&["zpopmin"], "ZPOPMIN", format!("ZPOPMIN myzset{tag}")),
            (
                &["lrange", lranges[0], lranges[1], lranges[2], lranges[3]],
                "LPUSH (needed to benchmark LRANGE)",
                format!("LPUSH mylist{tag} {data}"),
            ),
            (
                &["lrange", lranges[0]],
                "LRANGE_100 (first 100 elements)",
                format!("LRANGE mylist{tag} 0 99"),
            ),
            (
                &["lrange", lranges[1]],
                "LRANGE_300 (first 300 elements)",
                format!("LRANGE mylist{tag} 0 299"),
            ),
            (
                &["lrange", lranges[2]],
                "LRANGE_500 (first 500 elements)",
                format!("LRANGE mylist{tag} 0 499"),
            ),
            (
                &["lrange", lranges[3]],
                "LRANGE_600 (first 600 elements)",
                format!("LRANGE mylist{tag} 0 599"),
            ),
            (&["mset"], "MSET (10 keys)", many),
            (
                &["xadd"],
                "XADD",
                format!("XADD mystream{tag} * myfield {data}"),
            ),
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
