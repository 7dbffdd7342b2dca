//! MEMORY: where the bytes are.
//!
//! [`Overhead`] parts the memory in use into what the keys' data take and what serves them (the server
//! as it started, the databases' tables, the clients), and sets what the program holds against what the
//! allocator and the system hold for it. INFO, MEMORY STATS and MEMORY DOCTOR show the same figures.
//!
//! A key's table costs about [`TABLE_BYTES`] bytes beside its entry: a slot, a byte of hash and the
//! slots that are free. MEMORY USAGE counts them; there is nothing else to a string, so SAMPLES only
//! matters for collections.

use crate::base::number;
use crate::cmd::fault::{Fault, NOT_INTEGER, SYNTAX};
use crate::cmd::spec::{Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, CmdResult, DONE, Row, is_word};
use crate::db::keyspace::Keyspace;
use crate::exec::io::MemoryFigures;
use crate::exec::server::Server;
use crate::exec::{Call, ServerFn};

/// Bytes of table for a key, with the load that segments keep.
const TABLE_BYTES: usize = 11;
/// A table of more keys than this is not measured but estimated: looking at all of it takes its time.
const MEASURED_MAX: usize = 100_000;

/// How much larger one figure is than another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excess {
    pub ratio: f32,
    pub bytes: i64,
}

impl Excess {
    fn of(large: usize, small: usize) -> Excess {
        Excess {
            ratio: large as f32 / small.max(1) as f32,
            bytes: large as i64 - small as i64,
        }
    }
}

/// See the head of the file. Sizes are in bytes.
#[derive(Clone, Debug, Default)]
pub struct Overhead {
    pub used: usize,
    pub peak: usize,
    /// In use when the server had started.
    pub startup: usize,
    /// Buffers and states of all clients.
    pub clients: usize,
    /// The replication stream that is kept: the part that is always kept, and what replicas that are behind need more.
    pub backlog: usize,
    pub replicas: usize,
    /// Scripts and libraries of functions, apart from what the interpreters hold of them.
    pub scripts: usize,
    pub functions: usize,
    /// Number of keys.
    pub keys: usize,
    /// Databases with keys: the index, and what the table takes.
    pub tables: Vec<(usize, usize)>,
    /// Pages with blocks in them over the blocks.
    pub fragmentation: Excess,
    /// Pages in memory over pages with blocks in them.
    pub allocator_rss: Excess,
    /// The process over the allocator's pages.
    pub rss_overhead: Excess,
    /// The process over the bytes in use.
    pub overall: Excess,
}

impl Overhead {
    /// Takes stock.
    pub fn of(server: &Server, figures: &MemoryFigures) -> Overhead {
        let tables = server.dbs.iter().enumerate();
        Overhead {
            used: figures.used,
            peak: server.stats.peak_memory.max(figures.used),
            startup: server.startup_memory,
            clients: server.clients_memory,
            backlog: server.repl.backlog_memory(&server.config),
            replicas: server.repl.replicas_memory(&server.config),
            scripts: server.scripting.cache.memory(),
            functions: server.scripting.libraries.memory(),
            keys: server.dbs.len(),
            tables: tables
                .filter(|(_, db)| !db.is_empty())
                .map(|(i, db)| (i, table_bytes(db)))
                .collect(),
            fragmentation: Excess::of(figures.active, figures.allocated),
            allocator_rss: Excess::of(figures.resident, figures.active),
            rss_overhead: Excess::of(figures.rss, figures.resident),
            overall: Excess::of(figures.rss, figures.used),
        }
    }

    /// All that is not data.
    pub fn total(&self) -> usize {
        let tables: usize = self.tables.iter().map(|t| t.1).sum();
        let code = self.scripts + self.functions;
        self.startup + self.clients + self.backlog + self.replicas + code + tables
    }

    /// What is left for data.
    pub fn dataset(&self) -> usize {
        self.used.saturating_sub(self.total())
    }

    /// In use beyond what the server started with; at least 1.
    fn net(&self) -> usize {
        self.used.saturating_sub(self.startup).max(1)
    }

    /// The data's share of what came after the start, in percent.
    pub fn dataset_percent(&self) -> f32 {
        self.dataset() as f32 * 100.0 / self.net() as f32
    }

    /// The memory in use as a share of the most that ever was, in percent.
    pub fn peak_percent(&self) -> f32 {
        self.used as f32 * 100.0 / self.peak.max(1) as f32
    }

    fn bytes_per_key(&self) -> usize {
        self.net().checked_div(self.keys).unwrap_or(0)
    }
}

/// What a database's table takes, without the entries.
fn table_bytes(db: &Keyspace) -> usize {
    if db.len() > MEASURED_MAX {
        db.len() * TABLE_BYTES
    } else {
        db.table_bytes()
    }
}

impl Server {
    /// So much memory is in use: perhaps the most so far.
    pub fn note_peak(&mut self, used: usize) {
        self.stats.peak_memory = self.stats.peak_memory.max(used);
    }
}

const MEMORY: Row<ServerFn> = Spec::new("memory", -2, Group::Server)
    .since("4.0.0")
    .cost("Depends on subcommand.")
    .about("Tells where memory goes.")
    .container();

const USAGE: Row<ServerFn> = Spec::new("memory|usage", -3, Group::Server)
    .flags(Flags::READONLY)
    .since("4.0.0")
    .cost("O(N) where N is the number of samples.")
    .about("Tells how many bytes a key takes.")
    .keys(&[KeySpec::at(2).flags(KeyFlags::RO)])
    .args(&[
        Arg::key("key", 0),
        Arg::int("count").token("SAMPLES").optional(),
    ])
    .run(usage);

/// MEMORY USAGE key [SAMPLES count]. An expired key that is still there counts.
fn usage(call: &mut Call<'_>, mut args: Args<'_>) -> CmdResult {
    let _subcommand = args.next()?;
    let key = args.next()?;
    while args.more() {
        let word = args.next()?;
        if !is_word(word, "samples") || !args.more() {
            return Err(SYNTAX);
        }
        if number::parse_i64(args.next()?).ok_or(NOT_INTEGER)? < 0 {
            return Err(SYNTAX);
        }
    }
    let db = call.session().db;
    let hash = call.server.dbs.hash(key);
    let entry = call.server.dbs.db(db).get(hash, key);
    match entry.map(|e| e.memory_bytes() + TABLE_BYTES) {
        Some(bytes) => call.reply().int(bytes as i64),
        None => call.reply().null(),
    }
    DONE
}

const STATS: Row<ServerFn> = Spec::new("memory|stats", 2, Group::Server)
    .since("4.0.0")
    .cost("O(1)")
    .about("Tells what memory is used for.")
    .tips(&[
        "nondeterministic_output",
        "request_policy:all_shards",
        "response_policy:special",
    ])
    .run(stats);

/// MEMORY STATS: [`Overhead`] as a map.
fn stats(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let figures = call.io.memory();
    call.server.note_peak(figures.used);
    let o = Overhead::of(call.server, &figures);
    let log_bytes = call.server.aof.memory() as i64;
    let bus_bytes = call.server.bus_memory() as i64;
    let reply = call.reply();
    reply.map(27 + o.tables.len());
    let mut int = |name: &str, value: i64| {
        reply.bulk(name.as_bytes());
        reply.int(value);
    };
    int("peak.allocated", o.peak as i64);
    int("total.allocated", o.used as i64);
    int("startup.allocated", o.startup as i64);
    int("replication.backlog", o.backlog as i64);
    int("clients.slaves", o.replicas as i64);
    int("clients.normal", o.clients as i64);
    int("cluster.links", bus_bytes);
    int("aof.buffer", log_bytes);
    int("lua.caches", o.scripts as i64);
    int("functions.caches", o.functions as i64);
    for &(index, bytes) in &o.tables {
        reply.bulk_fmt(format_args!("db.{index}"));
        reply.map(3);
        for (name, value) in [("main", bytes), ("expires", 0), ("slot-to-keys", 0)] {
            reply.bulk_fmt(format_args!("overhead.hashtable.{name}"));
            reply.int(value as i64);
        }
    }
    let mut int = |name: &str, value: i64| {
        reply.bulk(name.as_bytes());
        reply.int(value);
    };
    int("overhead.total", o.total() as i64);
    int("keys.count", o.keys as i64);
    int("keys.bytes-per-key", o.bytes_per_key() as i64);
    int("dataset.bytes", o.dataset() as i64);
    for (name, value) in [
        ("dataset.percentage", o.dataset_percent()),
        ("peak.percentage", o.peak_percent()),
    ] {
        reply.bulk(name.as_bytes());
        reply.double(f64::from(value));
    }
    for (name, value) in [
        ("allocator.allocated", figures.allocated),
        ("allocator.active", figures.active),
        ("allocator.resident", figures.resident),
    ] {
        reply.bulk(name.as_bytes());
        reply.int(value as i64);
    }
    for (ratio, bytes, excess) in [
        (
            "allocator-fragmentation.ratio",
            "allocator-fragmentation.bytes",
            o.fragmentation,
        ),
        (
            "allocator-rss.ratio",
            "allocator-rss.bytes",
            o.allocator_rss,
        ),
        ("rss-overhead.ratio", "rss-overhead.bytes", o.rss_overhead),
        ("fragmentation", "fragmentation.bytes", o.overall),
    ] {
        reply.bulk(ratio.as_bytes());
        reply.double(f64::from(excess.ratio));
        reply.bulk(bytes.as_bytes());
        reply.int(excess.bytes);
    }
    DONE
}

const DOCTOR: Row<ServerFn> = Spec::new("memory|doctor", 2, Group::Server)
    .since("4.0.0")
    .cost("O(1)")
    .about("Looks for problems with memory.")
    .tips(&[
        "nondeterministic_output",
        "request_policy:all_shards",
        "response_policy:special",
    ])
    .run(doctor);

fn doctor(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let figures = call.io.memory();
    call.server.note_peak(figures.used);
    let overhead = Overhead::of(call.server, &figures);
    let report = diagnosis(
        &overhead,
        call.server.conns.len(),
        &call.server.process.allocator,
    );
    call.reply().verbatim(b"txt", report.as_bytes());
    DONE
}

/// Below this there is too little to tell anything from.
const TELLING_BYTES: usize = 5 << 20;
/// An excess below this is not worth a word, whatever the ratio.
const TRIFLE_BYTES: i64 = 10 << 20;
/// What replicas that are behind may take.
const REPLICAS_BYTES: usize = 10 << 20;
/// What clients may take on the average.
const CLIENT_BYTES: usize = 200 << 10;

/// MEMORY DOCTOR's text: the bounds are Redis's, the words our own.
fn diagnosis(o: &Overhead, clients: usize, allocator: &str) -> String {
    if o.used < TELLING_BYTES {
        return "Hi Sam, this instance is empty or is using very little memory: there is nothing to \
                examine yet. Fill it with some data and ask again.\n"
            .into();
    }
    let high = |e: Excess, ratio: f32| e.ratio > ratio && e.bytes > TRIFLE_BYTES;
    let mut found = Vec::new();
    if o.peak as f32 / o.used as f32 > 1.5 {
        found.push(
            "Peak memory: this instance has used more than 150% of what it uses now. Pages that a peak \
             has left behind make the fragmentation ratio look bad, and are used again as data come in. \
             If the peak was a single one, MEMORY PURGE may give them back to the system."
                .to_string(),
        );
    }
    if high(o.overall, 1.4) {
        found.push(format!(
            "High total RSS: the process takes more than 1.4 times the memory that it uses. After a peak \
             (see above) that is expected; otherwise the workload fragments memory. The allocator is \
             {allocator}."
        ));
    }
    if high(o.fragmentation, 1.1) {
        found.push(
            "High allocator fragmentation: pages hold more than 1.1 times the bytes of their blocks, because \
             of a peak or of a workload that leaves holes."
                .to_string(),
        );
    }
    if high(o.allocator_rss, 1.1) {
        found.push(
            "High allocator RSS overhead: the allocator keeps more than 1.1 times the pages that have blocks \
             in them. MEMORY PURGE gives them back."
                .to_string(),
        );
    }
    if high(o.rss_overhead, 1.1) {
        found.push(
            "High process RSS overhead: the process takes more than 1.1 times what the allocator holds: \
             stacks, code, and what libraries map."
                .to_string(),
        );
    }
    if o.replicas > REPLICAS_BYTES {
        found.push(
            "Big replica buffers: more than 10 MB of the replication stream is kept only because a replica has yet \
             to read it. It, or its network, is too slow: INFO replication shows offsets and lags, CLIENT LIST \
             what each has yet to be sent."
                .to_string(),
        );
    }
    if o.clients / clients.max(1) > CLIENT_BYTES {
        found.push(
            "Big client buffers: clients take more than 200 KB each on the average. Subscribers that read \
             too slowly, large replies or long pipelines do that; CLIENT LIST shows who."
                .to_string(),
        );
    }
    if found.is_empty() {
        return "Hi Sam, I can't find any memory issue in your instance.\n".into();
    }
    let found: String = found.iter().map(|f| format!(" * {f}\n\n")).collect();
    format!("Sam, I detected a few issues in this instance:\n\n{found}")
}

const MALLOC_STATS: Row<ServerFn> = Spec::new("memory|malloc-stats", 2, Group::Server)
    .since("4.0.0")
    .cost("Depends on how much memory is allocated, could be slow")
    .about("Prints the allocator's own report.")
    .tips(&[
        "nondeterministic_output",
        "request_policy:all_shards",
        "response_policy:special",
    ])
    .run(malloc_stats);

fn malloc_stats(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let report = call.io.malloc_stats();
    call.reply().verbatim(b"txt", report.as_bytes());
    DONE
}

const PURGE: Row<ServerFn> = Spec::new("memory|purge", 2, Group::Server)
    .since("4.0.0")
    .cost("Depends on how much memory is allocated, could be slow")
    .about("Gives free pages back to the system.")
    .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
    .run(purge);

fn purge(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    if !call.io.purge() {
        return Err(Fault::new("ERR Error purging dirty pages"));
    }
    call.reply().ok();
    DONE
}

const HELP: Row<ServerFn> = Spec::new("memory|help", 2, Group::Server)
    .flags(Flags::LOADING.or(Flags::STALE))
    .since("4.0.0")
    .cost("O(1)")
    .about("Lists the subcommands.")
    .run(help);

fn help(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    call.help(
        "MEMORY",
        &[
            "DOCTOR",
            "    Return memory problems reports.",
            "MALLOC-STATS",
            "    Return internal statistics report from the memory allocator.",
            "PURGE",
            "    Attempt to purge dirty pages for reclamation by the allocator.",
            "STATS",
            "    Return information about the memory usage of the server.",
            "USAGE <key> [SAMPLES <count>]",
            "    Return memory in bytes used by <key> and its value. Nested values are",
            "    sampled up to <count> times (default: 5, 0 means sample all).",
        ],
    )
}

pub static ROWS: &[Row<ServerFn>] = &[MEMORY, USAGE, STATS, DOCTOR, MALLOC_STATS, PURGE, HELP];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doctor_names_what_is_over_its_bounds_only() {
        let mb = 1 << 20;
        let mut o = Overhead {
            used: 100 * mb,
            peak: 140 * mb,
            ..Overhead::default()
        };
        assert!(diagnosis(&o, 1, "").contains("can't find any"));
        o.peak = 151 * mb;
        o.clients = 201 << 10;
        o.replicas = 11 * mb;
        o.overall = Excess::of(160 * mb, 100 * mb);
        o.fragmentation = Excess::of(19 * mb, 10 * mb);
        let report = diagnosis(&o, 1, "jemalloc-5.3.0");
        let names: Vec<_> = report
            .lines()
            .filter_map(|l| l.strip_prefix(" * ")?.split(':').next())
            .collect();
        assert_eq!(
            names,
            [
                "Peak memory",
                "High total RSS",
                "Big replica buffers",
                "Big client buffers"
            ]
        );
        assert!(!diagnosis(&o, 2, "").contains("Big client"));
        o.used = mb;
        assert!(diagnosis(&o, 1, "").contains("very little memory"));
    }

    #[test]
    fn shares_add_up() {
        let o = Overhead {
            used: 1000,
            startup: 200,
            clients: 50,
            tables: vec![(0, 100), (9, 50)],
            keys: 4,
            peak: 2000,
            ..Overhead::default()
        };
        assert_eq!((o.total(), o.dataset(), o.bytes_per_key()), (400, 600, 200));
        assert_eq!((o.dataset_percent(), o.peak_percent()), (75.0, 50.0));
    }
}
