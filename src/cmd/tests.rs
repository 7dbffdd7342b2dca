//! What commands tell besides their replies: what they log, and which keyspace events they cause. Replies themselves are
//! compared with Redis's by the differential test.

use std::collections::HashMap;

use super::keys::{KeyStats, Keys, Overdue};
use super::session::{Marks, Session};
use super::unit::{Logging, Op, Unit};
use super::{Args, CmdResult, Ctx};
use crate::base::rng::Rng;
use crate::config::{Config, NotifyFlags};
use crate::db::keyspace::Databases;
use crate::db::watch::WatchTable;
use crate::ds::dict::HashKey;
use crate::resp::reply::Reply;
use crate::resp::value::{Decoder, Value};

const NOW: u64 = 1_700_000_000_000;

/// All that commands work on, and no server.
pub(super) struct Bench {
    dbs: Databases,
    unit: Unit,
    watch: WatchTable,
    stats: KeyStats,
    pub(super) config: Config,
    rng: Rng,
    session: Session,
    now_ms: u64,
    overdue: Overdue,
}

/// What a command did: its reply, what is logged (with the database where that is not 0), the events with their keys.
pub(super) type Told = (String, Vec<String>, Vec<String>);

impl Bench {
    pub(super) fn new() -> Bench {
        let config = Config {
            notify_keyspace_events: NotifyFlags(u32::MAX),
            ..Config::default()
        };
        let unit = Unit {
            wanted: true,
            ..Unit::default()
        };
        Bench {
            dbs: Databases::new(16, HashKey::new(1, 2)),
            unit,
            watch: WatchTable::default(),
            stats: KeyStats::default(),
            config,
            rng: Rng::new(1),
            session: Session::new(1),
            now_ms: NOW,
            overdue: Overdue::Goes,
        }
    }

    /// Runs a command of words.
    pub(super) fn call(&mut self, words: &str, reply: &mut Reply) -> CmdResult {
        let argv: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let subcommand = words.splitn(3, ' ').take(2).collect::<Vec<_>>().join("|");
        let row = super::rows().find(|row| {
            row.run.is_some()
                && (row.spec.name.as_bytes() == argv[0] || row.spec.name == subcommand)
        });
        let function = row.and_then(|row| row.run).expect(words);
        self.unit.logging = Logging::Verbatim;
        let mut cx = Ctx {
            keys: Keys {
                index: self.session.db,
                now_ms: self.now_ms,
                no_touch: self.session.marks.has(Marks::NO_TOUCH),
                overdue: self.overdue,
                dbs: &mut self.dbs,
                unit: &mut self.unit,
                watch: &mut self.watch,
                stats: &mut self.stats,
                config: &self.config,
                list_plain_from: 1 << 30,
                rng: &mut self.rng,
                waiting: &HashMap::new(),
                free: &mut Vec::new(),
                own_ttls: None,
                hints: &[],
            },
            reply,
            session: &mut self.session,
            command: 0,
        };
        function(&mut cx, Args::new(&argv, &[]))
    }

    /// Runs a command of words; its log is what `exec` makes of the unit.
    pub(super) fn run(&mut self, words: &str) -> Told {
        let argv: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let mut reply = Reply::new();
        if let Err(fault) = self.call(words, &mut reply) {
            reply.error(fault.as_bytes());
        }
        let mut log = Vec::new();
        if let Some(ops) = self.unit.take() {
            log.extend(ops.each().map(told));
            self.unit.recycle(ops);
        }
        if std::mem::take(&mut self.unit.dirty) > 0 && self.unit.logging == Logging::Verbatim {
            log.push(show(0, &argv));
        }
        let events = self.unit.events.drain(..);
        let events = events
            .map(|e| show(e.db as i32, &[e.name.as_bytes(), &e.key]))
            .collect();
        (reply.to_vec().escape_ascii().to_string(), log, events)
    }

    /// Expects a command to log and to tell this, each separated by commas.
    #[track_caller]
    pub(super) fn expect(&mut self, words: &str, log: &str, events: &str) {
        let (reply, logged, told) = self.run(words);
        assert_eq!(
            (&*logged.join(", "), &*told.join(", ")),
            (log, events),
            "{words} -> {reply}"
        );
    }
}

/// An operation as it is shown.
fn told(op: Op<'_>) -> String {
    let (_, value) = Decoder::new().decode(op.bytes).unwrap();
    let Some(Value::Array(words)) = value else {
        panic!("no command: {value:?}")
    };
    let words: Vec<&[u8]> = words.iter().filter_map(Value::as_bytes).collect();
    show(op.db, &words)
}

fn show(db: i32, words: &[&[u8]]) -> String {
    let words = words.join(&b' ').escape_ascii().to_string();
    if db > 0 {
        format!("{db}: {words}")
    } else {
        words
    }
}

#[test]
fn a_time_to_live_is_logged_as_the_moment_of_its_end() {
    let mut b = Bench::new();
    b.expect(
        "set k v EX 10",
        "SET k v PXAT 1700000010000",
        "new k, set k, expire k",
    );
    b.expect("set k v NX PX 10", "", "");
    b.expect(
        "set k v PX 10 GET",
        "SET k v PXAT 1700000000010",
        "set k, expire k",
    );
    b.expect(
        "set k v XX exat 1700000001",
        "SET k v PXAT 1700000001000",
        "set k, expire k",
    );
    b.expect(
        "set k v XX pxat 1700000001000 get",
        "set k v XX pxat 1700000001000 get",
        "set k, expire k",
    );
    b.expect(
        "setex k 5 v",
        "SET k v PXAT 1700000005000",
        "set k, expire k",
    );
    b.expect(
        "psetex k 5 v",
        "SET k v PXAT 1700000000005",
        "set k, expire k",
    );
    b.expect("expire k 10 NX", "", "");
    b.expect(
        "expire k 10 GT XX",
        "PEXPIREAT k 1700000010000 GT XX",
        "expire k",
    );
    b.expect(
        "pexpireat k 1700000020000 GT",
        "pexpireat k 1700000020000 GT",
        "expire k",
    );
    b.expect("getex k", "", "");
    b.expect("getex k EX 1", "PEXPIREAT k 1700000001000", "expire k");
    b.expect("getex k PERSIST", "PERSIST k", "persist k");
    b.expect("getex k PERSIST", "", "");
    b.expect("persist k", "", "");
}

#[test]
fn a_moment_in_the_past_is_a_deletion() {
    let mut b = Bench::new();
    for command in [
        "expire k -1",
        "pexpire k 0",
        "expireat k 5",
        "pexpireat k 1700000000000",
        "getex k PXAT 5",
    ] {
        b.run("set k v");
        b.expect(command, "DEL k", "del k");
        b.expect("exists k", "", "keymiss k");
    }
    b.run("set k v");
    b.config.lazyfree_lazy_expire = true;
    b.expect("getex k EXAT 1700000000", "UNLINK k", "del k");
}

#[test]
fn a_key_whose_time_is_over_is_deleted_where_it_is_met() {
    let meet = |command: &str| {
        let mut b = Bench::new();
        b.run("set k v PX 5");
        b.run("set live 1");
        b.now_ms += 5;
        assert_eq!(
            b.run("exists k").0,
            ":1\\r\\n",
            "alive in its last millisecond"
        );
        b.now_ms += 1;
        let told = b.run(command);
        assert_eq!(
            b.dbs
                .db(0)
                .get(b.dbs.hash(b"k"), b"k")
                .and_then(|e| e.expiry_ms()),
            None,
            "{command}"
        );
        assert_eq!(b.stats.expired, 1);
        (told.1.join(", "), told.2.join(", "))
    };
    let expect = |command, log: &str, events: &str| {
        assert_eq!(
            meet(command),
            (log.to_string(), events.to_string()),
            "{command}"
        );
    };
    expect("get k", "DEL k", "expired k, keymiss k");
    expect("object encoding k", "DEL k", "expired k");
    expect("ttl k", "DEL k", "expired k, keymiss k");
    expect("set k w", "DEL k, set k w", "expired k, new k, set k");
    expect("set k w XX", "DEL k", "expired k");
    expect(
        "set k w KEEPTTL",
        "DEL k, set k w KEEPTTL",
        "expired k, new k, set k",
    );
    expect("incr k", "DEL k, incr k", "expired k, new k, incrby k");
    expect(
        "append k w",
        "DEL k, append k w",
        "expired k, new k, append k",
    );
    expect(
        "setrange k 2 w",
        "DEL k, setrange k 2 w",
        "expired k, new k, setrange k",
    );
    expect("del k live", "DEL k, del k live", "expired k, del live");
    expect(
        "rename live k",
        "DEL k, rename live k",
        "expired k, new k, rename_from live, rename_to k",
    );
    expect(
        "copy live k REPLACE",
        "DEL k, copy live k REPLACE",
        "expired k, new k, copy_to k",
    );
    expect("scan 0", "DEL k", "expired k");
    expect("scan 0 TYPE list", "DEL k", "expired k");
    expect("expire k 100", "DEL k", "expired k");
    expect(
        "msetnx k 1 j 2",
        "DEL k, msetnx k 1 j 2",
        "expired k, new k, set k, new j, set j",
    );
}

#[test]
fn what_a_command_means_is_logged_rather_than_what_it_said() {
    let mut b = Bench::new();
    b.expect("set k v get", "set k v", "keymiss k, new k, set k");
    b.expect("set k get GET xx Get", "set k get xx", "set k");
    b.expect("set k v NX GET", "", "");
    b.expect("getset k 10", "SET k 10", "set k");
    b.expect("incrbyfloat k 0.5", "SET k 10.5 KEEPTTL", "incrbyfloat k");
    b.expect("incrbyfloat k x", "", "");
    b.expect("getdel k", "DEL k", "del k");
    b.expect("getdel k", "", "keymiss k");
    b.expect(
        "mset a 1 b 2 a 3",
        "mset a 1 b 2 a 3",
        "new a, set a, new b, set b, set a",
    );
    b.expect("msetnx c 1 a 2", "", "");
    b.expect("setrange z 5 ", "", "");
    b.expect("append a ", "append a ", "append a");
    b.expect("del a b nothing", "del a b nothing", "del a, del b");
    b.expect("unlink a", "", "");
}

#[test]
fn a_key_that_comes_from_elsewhere_is_new_even_over_another() {
    let mut b = Bench::new();
    b.run("mset a 1 b 2");
    b.expect("rename a a", "", "");
    b.expect("renamenx a b", "", "");
    b.expect(
        "rename a b",
        "rename a b",
        "new b, rename_from a, rename_to b",
    );
    b.expect("copy b c", "copy b c", "new c, copy_to c");
    b.expect("copy b c", "", "");
    b.expect(
        "copy b c REPLACE DB 3",
        "copy b c REPLACE DB 3",
        "3: new c, 3: copy_to c",
    );
    b.expect("move c 3", "", "");
    b.expect(
        "move b 3",
        "move b 3",
        "3: new b, move_from b, 3: move_to b",
    );
    b.session.db = 3;
    assert_eq!(
        b.run("mget b c").0,
        "*2\\r\\n$1\\r\\n1\\r\\n$1\\r\\n1\\r\\n"
    );
}

#[test]
fn asking_about_a_key_is_not_using_it() {
    let mut b = Bench::new();
    b.run("set k v");
    b.now_ms += 60_000;
    for question in [
        "exists k",
        "type k",
        "ttl k",
        "object encoding k",
        "scan 0 TYPE string",
    ] {
        b.run(question);
        assert_eq!(b.run("object idletime k").0, ":60\\r\\n", "{question}");
    }
    b.session.marks = Marks::NO_TOUCH;
    b.run("get k");
    assert_eq!(b.run("object idletime k").0, ":60\\r\\n");
    b.run("touch k");
    assert_eq!(b.run("object idletime k").0, ":0\\r\\n");
    assert_eq!((b.stats.hits, b.stats.misses), (5 + 6 + 2 + 1, 0));
}

#[test]
fn a_copy_shares_a_large_value_until_one_of_both_is_written() {
    let mut b = Bench::new();
    b.run("setrange k 1000000 x");
    b.run("copy k c");
    b.run("setrange k 0 y");
    b.run("append c z");
    assert_eq!(b.run("getrange k 0 0").0, "$1\\r\\ny\\r\\n");
    assert_eq!(b.run("getrange k -1 -1").0, "$1\\r\\nx\\r\\n");
    assert_eq!(b.run("getrange c -2 -1").0, "$2\\r\\nxz\\r\\n");
    assert_eq!(b.run("getrange c 0 0").0, "$1\\r\\n\\x00\\r\\n");
}

#[test]
fn a_key_held_back_reads_as_missing_and_stays() {
    let mut b = Bench::new();
    b.run("set k v PX 5");
    b.now_ms += 6;
    b.overdue = Overdue::Stays;
    b.expect("get k", "", "keymiss k");
    for (question, reply) in [
        ("mget k", "*1\\r\\n$-1\\r\\n"),
        ("keys *", "*0\\r\\n"),
        ("ttl k", ":-2\\r\\n"),
    ] {
        assert_eq!(b.run(question).0, reply, "{question}");
    }
    assert_eq!(b.run("randomkey").0, "$1\\r\\nk\\r\\n");
    b.expect("scan 0", "", "");
    assert_eq!(b.dbs.len(), 1);
    b.overdue = Overdue::Goes;
    b.expect("scan 0", "DEL k", "expired k");
}

#[test]
fn lists_tell_what_was_done_to_them() {
    let mut b = Bench::new();
    b.expect("lpush l a b c", "lpush l a b c", "new l, lpush l");
    b.expect("rpushx l d", "rpushx l d", "rpush l");
    b.expect("rpushx none d", "", "");
    b.expect("linsert l before a x", "linsert l before a x", "linsert l");
    b.expect("linsert l after none x", "", "");
    b.expect("lset l 0 y", "lset l 0 y", "lset l");
    b.expect("lset l 9 y", "", "");
    b.expect("lpop l 0", "", "");
    b.expect("rpop l 2", "rpop l 2", "rpop l");
    b.expect("ltrim l 0 -1", "", "ltrim l");
    b.expect("lrem l 0 none", "", "");
    b.expect("lrem l -1 y", "lrem l -1 y", "lrem l");
    b.expect(
        "lmove l l left right",
        "lmove l l left right",
        "rpush l, lpop l",
    );
    b.expect(
        "blmove l m left left 1.5",
        "LMOVE l m left left",
        "new m, lpush m, lpop l",
    );
    b.expect(
        "brpoplpush l m 0",
        "RPOPLPUSH l m",
        "lpush m, rpop l, del l",
    );
    b.expect("blpop l m 0", "LPOP m", "lpop m");
    b.expect("lpush m 1 2 3", "lpush m 1 2 3", "lpush m");
    b.expect("lmpop 2 l m right count 2", "RPOP m 2", "rpop m");
    b.expect("blmpop 0 1 m left count 9", "LPOP m 2", "lpop m, del m");
    b.expect("rpush l a", "rpush l a", "new l, rpush l");
    b.expect("ltrim l 5 9", "ltrim l 5 9", "ltrim l, del l");
    b.expect("rpush l a a", "rpush l a a", "new l, rpush l");
    b.expect("lrem l 0 a", "lrem l 0 a", "lrem l, del l");
}
