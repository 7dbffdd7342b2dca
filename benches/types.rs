//! The collections, as commands reach them: what an operation costs as its collection grows, and how long the loop's
//! longest turn takes while one grows, is written under a snapshot, and is deleted.
//!
//!     cargo bench --bench types [-- SIZES ... PARTS ...]
//!
//! SIZES are numbers of elements (100 1000 ... 10000000), PARTS of costs, pauses, bits, control (all), or of keyspace, list,
//! hash, set, zset, stream.
//!
//! A whole server runs in this process, without sockets: a turn hands it a batch of requests as bytes and takes its
//! replies. Times are the loop's thread CPU time, so other programs on the machine only show as cold caches. Freeing
//! goes to another thread, as in the real server.
//!
//! Whose a long turn is. What the kernel does on the thread's time counts as the thread's: a page of fresh memory, whatever
//! interrupts it. On a virtual machine so does what its host does, unseen: behind a page of fresh memory there may be none
//! yet, and a host that rearranges its own tables holds a guest up for milliseconds. Three things tell this from our own
//! doing. With each of the longest turns stands how many pages the kernel gave in it. A collection grows three times in the
//! same way (the seed is the same), and of each turn the least of the three is kept: what is ours is long in all of them. And
//! the control takes and reads as much memory, and runs none of our code.

use std::any::Any;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use redstart::base::rng::Rng;
use redstart::base::time::Clock;
use redstart::config::Config;
use redstart::exec::conn::{Peer, Token};
use redstart::exec::io::Io;
use redstart::exec::link::Target;
use redstart::exec::persistence::{Errand, Work};
use redstart::exec::server::Server;
use redstart::server::before_sleep::{Outside, before_sleep};
use redstart::server::test_io::{BEGINNING_US, TestIo};

/// Requests of a turn: what a pipelining client sends at once.
const BATCH: usize = 16;
/// Operations timed for one figure.
const TIMED: usize = 64_000;
/// Writes under a snapshot.
const WRITES: usize = 200_000;

/// The outside: sockets are left out, freeing is not.
struct World {
    io: TestIo,
    freeing: Sender<Box<dyn Any + Send>>,
    again: bool,
    replied: usize,
}

impl Outside for World {
    fn io(&mut self) -> &mut dyn Io {
        &mut self.io
    }

    fn again(&mut self, _: Token) {
        self.again = true;
    }

    fn flush(&mut self, server: &mut Server) {
        for token in std::mem::take(&mut server.pending_writes) {
            if let Some(conn) = server.conns.get_mut(token) {
                conn.write_queued = false;
                self.replied += conn.reply.len();
                conn.reply.advance(conn.reply.len());
                conn.kept = conn.reply.mark();
            }
        }
    }

    fn close(&mut self, _: Token) {}

    /// Nobody is followed or called here.
    fn gather(&mut self, _: Token) {}

    fn connect(&mut self, _: &mut Server, _: Token, _: u64, _: Target) {}

    /// Nothing is saved here.
    fn start(&mut self, _: Errand, _: Work) {}

    fn free(&mut self, what: Box<dyn Any + Send>, _: usize) {
        let _ = self.freeing.send(what);
    }
}

struct Bench {
    server: Server,
    world: World,
    token: Token,
    clock: Clock,
    rng: Rng,
    requests: Vec<u8>,
    /// The longest turns, the longest first.
    longest: Vec<Turn>,
    /// What each turn of a run took, in nanoseconds, and the least of all such runs before.
    all_ns: Vec<u32>,
    least_ns: Vec<u32>,
    /// How many there were, how many took over a millisecond, and the time of all.
    turns: usize,
    long: usize,
    total_ns: u64,
}

/// A turn: what it took, and what the kernel did meanwhile.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    cpu_ns: u64,
    wall_ns: u64,
    at: usize,
    kernel: Kernel,
}

/// How often the kernel gave this thread a page of memory, and how often it gave its processor to another.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Kernel {
    faults: i64,
    switches: i64,
}

impl Kernel {
    fn now() -> Kernel {
        // SAFETY: plain numbers, which zero is one of; the call fills them in.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
            usage
        };
        Kernel {
            faults: usage.ru_minflt,
            switches: usage.ru_nvcsw + usage.ru_nivcsw,
        }
    }

    fn since(self, then: Kernel) -> Kernel {
        Kernel {
            faults: self.faults - then.faults,
            switches: self.switches - then.switches,
        }
    }
}

/// Of so many turns it is told what they took.
const TOLD: usize = 3;

impl Bench {
    fn new() -> Bench {
        let (freeing, freed) = channel();
        std::thread::spawn(move || freed.into_iter().for_each(drop));
        let world = World {
            io: TestIo::default(),
            freeing,
            again: false,
            replied: 0,
        };
        let table = redstart::admin::table();
        let mut server = Server::new(Config::default(), table, 1, &world.io);
        let here = Peer {
            loopback: true,
            ..Peer::default()
        };
        let token = server.connect(here).expect("room for one");
        Bench {
            server,
            world,
            token,
            clock: Clock::system(),
            rng: Rng::new(7),
            requests: Vec::new(),
            longest: Vec::with_capacity(TOLD + 1),
            all_ns: Vec::new(),
            least_ns: Vec::new(),
            turns: 0,
            long: 0,
            total_ns: 0,
        }
    }

    /// Adds a request to the batch.
    fn ask(&mut self, words: &[&str]) {
        use std::io::Write;
        let _ = write!(self.requests, "*{}\r\n", words.len());
        for word in words {
            let _ = write!(self.requests, "${}\r\n{word}\r\n", word.len());
        }
    }

    /// One turn of the loop with the batch.
    fn turn(&mut self) {
        let requests = std::mem::take(&mut self.requests);
        self.world.io.clock.advance(Duration::from_micros(20));
        self.time(|b| {
            b.server.sync_clock(&b.world.io);
            let mut more = b.server.feed(&mut b.world.io, b.token, &requests);
            before_sleep(&mut b.server, &mut b.world);
            while more || std::mem::take(&mut b.world.again) {
                more = b.server.resume(&mut b.world.io, b.token);
                before_sleep(&mut b.server, &mut b.world);
            }
        });
        self.requests = requests;
        self.requests.clear();
    }

    /// Runs something as a turn.
    fn time(&mut self, turn: impl FnOnce(&mut Bench)) {
        let (kernel, start_ns) = (Kernel::now(), self.clock.mono_ns());
        let start = self.clock.thread_cpu_ns();
        turn(self);
        let cpu_ns = self.clock.thread_cpu_ns() - start;
        self.turns += 1;
        if self.longest.len() < TOLD || self.longest.last().is_some_and(|t| cpu_ns > t.cpu_ns) {
            self.longest.push(Turn {
                cpu_ns,
                wall_ns: self.clock.mono_ns() - start_ns,
                at: self.turns,
                kernel: Kernel::now().since(kernel),
            });
            self.longest.sort_by(|a, b| b.cmp(a));
            self.longest.truncate(TOLD);
        }
        self.all_ns.push(u32::try_from(cpu_ns).unwrap_or(u32::MAX));
        self.long += usize::from(cpu_ns > 1_000_000);
        self.total_ns += cpu_ns;
    }

    fn reset(&mut self) {
        self.longest.clear();
        self.all_ns.clear();
        (self.turns, self.long, self.total_ns) = (0, 0, 0);
    }

    /// Runs `count` requests in batches; each is made by `ask` from its number.
    fn run(&mut self, count: usize, mut ask: impl FnMut(&mut Bench, usize)) {
        self.reset();
        for i in 0..count {
            ask(self, i);
            if i % BATCH == BATCH - 1 || i == count - 1 {
                self.turn();
            }
        }
        let errors: u64 = self.server.stats.total_errors;
        assert_eq!(errors, 0, "a request of the benchmark is wrong");
    }

    /// The longest turn of a run.
    fn tell(&self, what: &str, count: usize) {
        let ms = |ns: u64| ns as f64 / 1e6;
        println!(
            "  {what:<28}{:9.3} ms; {} of {} over 1 ms; {:.3} us a request",
            self.longest.first().map_or(0.0, |t| ms(t.cpu_ns)),
            self.long,
            self.turns,
            self.us_each(count)
        );
        for turn in self.longest.iter().filter(|_| self.turns > 1) {
            println!(
                "    turn {:<23}{:9.3} ms of {:.3}, {} pages taken, {} switches",
                turn.at,
                ms(turn.cpu_ns),
                ms(turn.wall_ns),
                turn.kernel.faults,
                turn.kernel.switches
            );
        }
    }

    /// Keeps the least of this run and the ones before, turn by turn.
    fn keep_least(&mut self) {
        if self.least_ns.is_empty() {
            self.least_ns = self.all_ns.clone();
        }
        for (least, &ns) in self.least_ns.iter_mut().zip(&self.all_ns) {
            *least = ns.min(*least);
        }
    }

    fn tell_least(&self) {
        let longest = self.least_ns.iter().zip(1..).max();
        let (ns, at) = longest.map_or((0, 0), |(&ns, at)| (ns, at));
        println!(
            "  {:<28}{:9.3} ms, turn {at}",
            "the least of these runs",
            f64::from(ns) / 1e6
        );
    }

    fn us_each(&self, count: usize) -> f64 {
        self.total_ns as f64 / 1000.0 / count as f64
    }
}

fn member(i: usize) -> String {
    format!("membr:{i:012}")
}

/// Scores in no order.
fn score(i: usize) -> String {
    ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).to_string()
}

/// Adds a request to the batch, given the number of elements.
type Ask = fn(&mut Bench, usize);

/// One kind of collection: how it grows, and what is done with it.
struct Kind {
    name: &'static str,
    /// Adds an element, given its number.
    add: Ask,
    /// Writes to an element that is there.
    write: Ask,
    /// Deletes it.
    delete: &'static [&'static str],
    operations: &'static [(&'static str, Ask)],
}

const SIXTEEN: &str = "0123456789abcdef";

const KINDS: &[Kind] = &[
    Kind {
        name: "keyspace",
        add: |b, i| b.ask(&["SET", &member(i), SIXTEEN]),
        write: |b, n| {
            let key = member(b.rng.index(n));
            b.ask(&["SET", &key, "fedcba9876543210"]);
        },
        delete: &["FLUSHALL", "ASYNC"],
        operations: &[
            ("GET", |b, n| {
                let key = member(b.rng.index(n));
                b.ask(&["GET", &key]);
            }),
            ("SET", |b, n| {
                let key = member(b.rng.index(n));
                b.ask(&["SET", &key, "fedcba9876543210"]);
            }),
        ],
    },
    Kind {
        name: "list",
        add: |b, _| b.ask(&["RPUSH", "list", SIXTEEN]),
        write: |b, n| {
            let at = b.rng.index(n).to_string();
            b.ask(&["LSET", "list", &at, "fedcba9876543210"]);
        },
        delete: &["DEL", "list"],
        operations: &[
            ("LINDEX", |b, n| {
                let at = b.rng.index(n).to_string();
                b.ask(&["LINDEX", "list", &at]);
            }),
            ("LSET", |b, n| {
                // The first one stays: LINSERT looks for it.
                let at = (1 + b.rng.index(n - 1)).to_string();
                b.ask(&["LSET", "list", &at, "fedcba9876543210"]);
            }),
            ("LINSERT near the head", |b, _| {
                b.ask(&["LINSERT", "list", "AFTER", SIXTEEN, "0123456789abcde-"]);
            }),
            ("LRANGE of 10", |b, n| {
                let at = b.rng.index(n);
                b.ask(&["LRANGE", "list", &at.to_string(), &(at + 9).to_string()]);
            }),
        ],
    },
    Kind {
        name: "hash",
        add: |b, i| b.ask(&["HSET", "hash", &member(i), SIXTEEN]),
        write: |b, n| {
            let field = member(b.rng.index(n));
            b.ask(&["HSET", "hash", &field, "fedcba9876543210"]);
        },
        delete: &["DEL", "hash"],
        operations: &[
            ("HGET", |b, n| {
                let field = member(b.rng.index(n));
                b.ask(&["HGET", "hash", &field]);
            }),
            ("HSET", |b, n| {
                let field = member(b.rng.index(n));
                b.ask(&["HSET", "hash", &field, "fedcba9876543210"]);
            }),
        ],
    },
    Kind {
        name: "set",
        add: |b, i| b.ask(&["SADD", "set", &member(i)]),
        write: |b, n| {
            let (old, new) = (member(b.rng.index(n)), member(b.rng.index(n)));
            b.ask(&["SREM", "set", &old]);
            b.ask(&["SADD", "set", &old, &new]);
        },
        delete: &["DEL", "set"],
        operations: &[
            ("SISMEMBER", |b, n| {
                let one = member(b.rng.index(n));
                b.ask(&["SISMEMBER", "set", &one]);
            }),
            ("SADD", |b, n| {
                let one = member(b.rng.index(n));
                b.ask(&["SADD", "set", &one]);
            }),
            ("SINTER with a set of 10", |b, _| {
                b.ask(&["SINTER", "set", "few"])
            }),
        ],
    },
    Kind {
        name: "zset",
        add: |b, i| b.ask(&["ZADD", "zset", &score(i), &member(i)]),
        write: |b, n| {
            let (i, j) = (b.rng.index(n), b.rng.index(n));
            b.ask(&["ZADD", "zset", &score(j), &member(i)]);
        },
        delete: &["DEL", "zset"],
        operations: &[
            ("ZADD", |b, n| {
                let (i, j) = (b.rng.index(n), b.rng.index(n));
                b.ask(&["ZADD", "zset", &score(j), &member(i)]);
            }),
            ("ZRANK", |b, n| {
                let one = member(b.rng.index(n));
                b.ask(&["ZRANK", "zset", &one]);
            }),
            ("ZSCORE", |b, n| {
                let one = member(b.rng.index(n));
                b.ask(&["ZSCORE", "zset", &one]);
            }),
            ("ZRANGE of 10", |b, n| {
                let at = b.rng.index(n);
                b.ask(&["ZRANGE", "zset", &at.to_string(), &(at + 9).to_string()]);
            }),
        ],
    },
    Kind {
        name: "stream",
        add: |b, _| {
            b.ask(&[
                "XADD",
                "stream",
                "*",
                "sensor",
                SIXTEEN,
                "temperature",
                SIXTEEN,
            ])
        },
        write: |b, n| {
            let id = stream_id(b, n);
            b.ask(&["XDEL", "stream", &id]);
        },
        delete: &["DEL", "stream"],
        operations: &[
            ("XADD", |b, _| {
                b.ask(&[
                    "XADD",
                    "stream",
                    "*",
                    "sensor",
                    SIXTEEN,
                    "temperature",
                    SIXTEEN,
                ]);
            }),
            ("XRANGE of 10", |b, n| {
                let id = stream_id(b, n);
                b.ask(&["XRANGE", "stream", &id, "+", "COUNT", "10"]);
            }),
        ],
    },
];

/// Some entry of the stream: they come a few a millisecond, from the beginning on.
fn stream_id(b: &mut Bench, n: usize) -> String {
    let ms = (n / BATCH * 20 / 1000).max(1);
    format!(
        "{}-{}",
        BEGINNING_US as usize / 1000 + b.rng.index(ms),
        b.rng.index(16)
    )
}

fn costs(kind: &Kind, sizes: &[usize]) {
    println!(
        "{}: CPU us an operation, its request and reply included",
        kind.name
    );
    let mut rows: Vec<String> = kind
        .operations
        .iter()
        .map(|(name, _)| format!("  {name:<26}"))
        .collect();
    for &n in sizes {
        let mut b = Bench::new();
        b.run(n, kind.add);
        for i in 0..10 {
            b.ask(&["SADD", "few", &member(i * n / 10)]);
        }
        b.turn();
        for (row, (_, ask)) in rows.iter_mut().zip(kind.operations) {
            b.run(TIMED, |b, _| ask(b, n));
            *row += &format!("{:9.3}", b.us_each(TIMED));
        }
    }
    println!(
        "  {:<26}{}",
        "elements",
        sizes.iter().map(|n| format!("{n:9}")).collect::<String>()
    );
    rows.iter().for_each(|row| println!("{row}"));
}

/// How often a collection grows for its longest turn.
const GROWTHS: usize = 3;

fn pauses(kind: &Kind, n: usize) {
    println!("{}, {n} elements: the longest turn", kind.name);
    let mut least_ns = Vec::new();
    for growth in 1..=GROWTHS {
        // What the one before it used goes back to the kernel: each grows in fresh memory.
        let _ = redstart::base::alloc::purge();
        let mut b = Bench::new();
        b.least_ns = least_ns;
        b.run(n, kind.add);
        b.tell("growing", n);
        b.keep_least();
        if growth == GROWTHS {
            b.tell_least();
            return pauses_when_grown(kind, n, b);
        }
        least_ns = b.least_ns;
    }
}

fn pauses_when_grown(kind: &Kind, n: usize, mut b: Bench) {
    let start = b.clock.thread_cpu_ns();
    let snapshot = b.server.dbs.snapshot();
    let took = b.clock.thread_cpu_ns() - start;
    println!("  {:<28}{:9.3} ms", "taking a snapshot", took as f64 / 1e6);
    b.run(WRITES, |b, _| (kind.write)(b, n));
    b.tell("writing under the snapshot", WRITES);
    drop(snapshot);
    b.run(1, |b, _| b.ask(kind.delete));
    b.tell("deleting", 1);
    // The same in memory that the kernel has given already.
    b.run(n, kind.add);
    b.tell("growing again", n);
}

/// As many turns as 10,000,000 requests make, and as much memory as they fill, but none of our code: in each some fresh
/// memory is filled, and a byte changed here and there in what was filled before. Then the same without the fresh memory.
fn control() {
    const MEMORY: usize = 1200 << 20;
    const TURNS: usize = 10_000_000 / BATCH;
    const VISITS: usize = 1000;
    println!("no collection, {} MB: the longest turn", MEMORY >> 20);
    let mut b = Bench::new();
    let mut memory = vec![0u8; MEMORY];
    for (what, grows) in [
        ("filling fresh memory", true),
        ("changing what is there", false),
    ] {
        b.reset();
        for turn in 1..=TURNS {
            let filled = if grows { MEMORY / TURNS * turn } else { MEMORY };
            let memory = &mut memory[..filled];
            b.time(|b| {
                if grows {
                    memory[MEMORY / TURNS * (turn - 1)..].fill(1);
                }
                for _ in 0..VISITS {
                    let at = b.rng.index(filled);
                    memory[at] = memory[at].wrapping_add(1);
                }
            });
        }
        b.tell(what, TURNS);
    }
}

/// SETBIT and APPEND on a string of 512 MB with a snapshot alive.
fn bits() {
    let mut b = Bench::new();
    let size = 512 << 20;
    b.ask(&["SETBIT", "bits", &(size * 8 - 1).to_string(), "1"]);
    for i in 0..size / 65_536 {
        b.ask(&["SETRANGE", "bits", &(i * 65_536).to_string(), "x"]);
    }
    b.turn();
    let snapshot = b.server.dbs.snapshot();
    b.run(20_000, |b, _| {
        let at = b.rng.index(size * 8).to_string();
        b.ask(&["SETBIT", "bits", &at, "1"]);
    });
    println!("a string of 512 MB under a snapshot: the longest turn");
    b.tell("SETBIT", 20_000);
    drop(snapshot);
    b.ask(&["SETRANGE", "text", &((400usize << 20) - 1).to_string(), "x"]);
    b.turn();
    let snapshot = b.server.dbs.snapshot();
    b.run(20_000, |b, _| b.ask(&["APPEND", "text", SIXTEEN]));
    b.tell("APPEND", 20_000);
    drop(snapshot);
}

fn main() {
    // As a server's `jemalloc-bg-thread`: giving pages back is not the loop's work.
    if let Err(why) = redstart::base::alloc::set_background_thread(true) {
        println!("jemalloc's thread does not run: {why}");
    }
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let mut sizes: Vec<usize> = args.iter().filter_map(|a| a.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = (2..=7).map(|power| 10usize.pow(power)).collect();
    }
    let named: Vec<&String> = args
        .iter()
        .filter(|a| a.parse::<usize>().is_err())
        .collect();
    let is_kind = |name: &str| KINDS.iter().any(|kind| kind.name == name);
    let among = |all: &[&String], part: &str| all.is_empty() || all.iter().any(|n| *n == part);
    let (kinds, parts): (Vec<&String>, Vec<&String>) = named.iter().partition(|n| is_kind(n));
    let wanted = |part: &str| among(&parts, part);
    for kind in KINDS.iter().filter(|kind| among(&kinds, kind.name)) {
        if wanted("costs") {
            costs(kind, &sizes);
        }
        if wanted("pauses") {
            pauses(kind, *sizes.iter().max().unwrap_or(&10_000_000));
        }
    }
    if kinds.is_empty() && wanted("bits") {
        bits();
    }
    if kinds.is_empty() && wanted("control") {
        control();
    }
}
