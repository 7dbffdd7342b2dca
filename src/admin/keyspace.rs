//! Commands on whole databases: DBSIZE, FLUSHDB, FLUSHALL, SWAPDB.
//!
//! Emptying a database takes its root away, whatever it holds; the contents go to the freeing thread as one
//! value, with SYNC as with ASYNC. So a FLUSHALL of ten million keys never holds the loop. What SYNC promises,
//! that the keys are gone when it replies, is true of both.

use crate::base::number;
use crate::cmd::fault::{Fault, SYNTAX};
use crate::cmd::spec::{Acl, Arg, Flags, Group, Spec};
use crate::cmd::unit::Logging;
use crate::cmd::{Args, CmdResult, DONE, Row, is_word};
use crate::db::keyspace::Contents;
use crate::exec::server::Server;
use crate::exec::{Call, ServerFn};

const DBSIZE: Row<ServerFn> = Spec::new("dbsize", 1, Group::Server)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .cost("O(1)")
    .about("Counts the keys of the selected database.")
    .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
    .run(dbsize);

fn dbsize(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let db = call.session().db;
    let keys = call.server.dbs.db(db).len();
    call.reply().int(keys as i64);
    DONE
}

const FLUSH_HISTORY: &[(&str, &str)] = &[("4.0.0", "Takes ASYNC."), ("6.2.0", "Takes SYNC.")];
const FLUSH_TIPS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];
const FLUSH_ARGS: &[Arg] = &[Arg::one_of(
    "flush-type",
    &[
        Arg::word("async", "ASYNC").since("4.0.0"),
        Arg::word("sync", "SYNC").since("6.2.0"),
    ],
)
.optional()];

const FLUSHALL: Row<ServerFn> = Spec::new("flushall", -1, Group::Server)
    .flags(Flags::WRITE)
    .acl(Acl::KEYSPACE.or(Acl::DANGEROUS))
    .cost("O(N) where N is the total number of keys in all databases")
    .about("Empties all databases.")
    .history(FLUSH_HISTORY)
    .tips(FLUSH_TIPS)
    .args(FLUSH_ARGS)
    .run(flushall);

/// FLUSHALL [ASYNC | SYNC]
fn flushall(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let lazily = flush_mode(call, &args)?;
    let all = 0..call.server.dbs.count() as u32;
    call.server.flush_databases(all, lazily);
    call.server.save_emptied(call.io);
    call.server.unit.logging = Logging::Forced;
    call.reply().ok();
    DONE
}

const FLUSHDB: Row<ServerFn> = Spec::new("flushdb", -1, Group::Server)
    .flags(Flags::WRITE)
    .acl(Acl::KEYSPACE.or(Acl::DANGEROUS))
    .cost("O(N) where N is the number of keys in the selected database")
    .about("Empties the selected database.")
    .history(FLUSH_HISTORY)
    .tips(FLUSH_TIPS)
    .args(FLUSH_ARGS)
    .run(flushdb);

/// FLUSHDB [ASYNC | SYNC]
fn flushdb(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let lazily = flush_mode(call, &args)?;
    let db = call.session().db;
    call.server.flush_databases(db..db + 1, lazily);
    call.server.unit.logging = Logging::Forced;
    call.reply().ok();
    DONE
}

/// Whether the keys count as freed lazily. (Who frees them is the same in either mode.)
fn flush_mode(call: &Call<'_>, args: &Args<'_>) -> Result<bool, Fault> {
    match args.argv() {
        [_] => Ok(call.server.config.lazyfree_lazy_user_flush),
        [_, mode] if is_word(mode, "async") => Ok(true),
        [_, mode] if is_word(mode, "sync") => Ok(false),
        _ => Err(SYNTAX),
    }
}

impl Server {
    /// Empties these databases. Counts the keys as changes, tells those who watch or wait for them, and hands the
    /// contents to the freeing thread, as what Redis would leave to its own (`lazily`) or not.
    pub fn flush_databases(&mut self, which: std::ops::Range<u32>, lazily: bool) {
        let mut contents: Vec<Contents> = Vec::new();
        for db in which {
            self.watch.touch_flushed(db, &self.dbs);
            self.signal_waiting(db);
            contents.push(self.dbs.flush(db));
        }
        self.tell_flushed();
        contents.retain(|c| !c.is_empty());
        let keys: usize = contents.iter().map(Contents::len).sum();
        self.unit.dirty += keys as u64;
        if keys > 0 {
            self.free_later_told(Box::new(contents), keys, lazily);
        }
    }

    /// What a database holds has been exchanged: all who wait for keys of it look again. In the order of the names, so
    /// that a run can be repeated.
    pub fn signal_waiting(&mut self, db: u32) {
        let waiting = self.blocked.keys.keys().filter(|place| place.0 == db);
        let mut places: Vec<_> = waiting.cloned().collect();
        places.sort_unstable();
        places.retain(|place| !self.unit.ready.contains(place));
        self.unit.ready.append(&mut places);
    }
}

const SWAPDB: Row<ServerFn> = Spec::new("swapdb", 3, Group::Server)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::KEYSPACE.or(Acl::DANGEROUS))
    .since("4.0.0")
    .cost("O(N) where N is the count of clients watching or blocking on keys from both databases.")
    .about("Exchanges the contents of two databases.")
    .args(&[Arg::int("index1"), Arg::int("index2")])
    .run(swapdb);

/// SWAPDB index1 index2. Clients stay in the database they have selected, and with them what they watch and wait for.
fn swapdb(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    if call.server.config.cluster_enabled {
        return Err(Fault::new("ERR SWAPDB is not allowed in cluster mode"));
    }
    let index = |arg, error| {
        number::parse_i64(arg)
            .and_then(|n| i32::try_from(n).ok())
            .ok_or(error)
    };
    let a = index(args.argv()[1], Fault::new("ERR invalid first DB index"))?;
    let b = index(args.argv()[2], Fault::new("ERR invalid second DB index"))?;
    let count = call.server.dbs.count();
    let inside = |n: i32| u32::try_from(n).ok().filter(|&n| (n as usize) < count);
    let (Some(a), Some(b)) = (inside(a), inside(b)) else {
        return Err(Fault::new("ERR DB index is out of range"));
    };
    if a != b {
        let server = &mut *call.server;
        server
            .watch
            .touch_swapped(a, b, &server.dbs, server.now.ms());
        server.dbs.swap(a, b);
        server.signal_waiting(a);
        server.signal_waiting(b);
    }
    call.server.unit.dirty += 1;
    call.reply().ok();
    DONE
}

pub static ROWS: &[Row<ServerFn>] = &[DBSIZE, FLUSHALL, FLUSHDB, SWAPDB];
