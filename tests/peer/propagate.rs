//! What a command leaves for the append-only file and the replicas: the real server's file, and the units of
//! a server of ours that runs in this process, without a socket.

use std::fs::File;
use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use redstart::base::time::Clock;
use redstart::cmd::spec::{Flags, Group, Spec};
use redstart::exec::table::Table;
use redstart::resp::value::{Decoder, Value};
use redstart::server::test_io::TestServer;

use crate::generate::{Generator, Request};
use crate::node::{Node, Version, encode, peer_program};
use crate::random::seed;

const COMMANDS: usize = 30_000;
const PIPELINE: usize = 50;
/// Our clock stands while theirs goes.
const MS_APART: i64 = 600_000;

/// An operation: the database it runs in and its arguments.
type Op = (i64, Vec<Vec<u8>>);

fn rows() -> Vec<Spec> {
    // What deletes expired keys at random is left out, as is what waits for other issues.
    const LEFT_OUT: &[&str] = &[
        "randomkey",
        "scan",
        "sort",
        "sort_ro",
        "wait",
        "waitaof",
        "dump",
        "restore",
        "migrate",
    ];
    let groups = [Group::String, Group::Generic, Group::Transactions];
    let table = Table::new(redstart::admin::rows());
    let drawn = |s: &Spec| {
        (groups.contains(&s.group) && !LEFT_OUT.contains(&s.name))
            || matches!(
                s.name,
                "flushall" | "flushdb" | "swapdb" | "select" | "publish" | "spublish"
            )
    };
    table
        .iter()
        .filter(|(_, c)| c.subs.is_empty())
        .map(|(_, c)| c.spec)
        .filter(drawn)
        .collect()
}

/// Reads on in the real server's file, commands whole.
struct Log {
    file: File,
    rest: Vec<u8>,
    db: i64,
}

impl Log {
    fn more(&mut self) -> Vec<Op> {
        self.file.read_to_end(&mut self.rest).unwrap();
        let (mut at, mut ops) = (0, Vec::new());
        while at < self.rest.len() {
            let (used, value) = Decoder::new()
                .decode(&self.rest[at..])
                .expect("the file holds commands");
            let Some(Value::Array(args)) = value else {
                break;
            };
            at += used;
            let args: Vec<Vec<u8>> = args
                .iter()
                .map(|a| a.as_bytes().unwrap().to_vec())
                .collect();
            if args[0].eq_ignore_ascii_case(b"select") {
                self.db = String::from_utf8_lossy(&args[1]).parse().unwrap();
            } else {
                ops.push((self.db, args));
            }
        }
        self.rest.drain(..at);
        ops
    }
}

fn same(ours: &Op, theirs: &Op) -> bool {
    let time = |a: &[u8]| {
        std::str::from_utf8(a)
            .ok()
            .and_then(|a| a.parse::<i64>().ok())
    };
    let close = |a: &Vec<u8>, b: &Vec<u8>| {
        a == b
            || matches!((time(a), time(b)), (Some(a), Some(b)) if a > MS_APART * 1000 && (a - b).abs() < MS_APART)
    };
    let timed = |op: &Op| {
        let says = |word: &[u8]| op.1.iter().any(|a| a.eq_ignore_ascii_case(word));
        says(b"pexpireat") || says(b"pxat") || says(b"time")
    };
    // 7.0 selects a database before MULTI, 7.2 within.
    let bracket = theirs.1[0].eq_ignore_ascii_case(b"multi");
    (ours.0 == theirs.0 || bracket)
        && ours.1.len() == theirs.1.len()
        && ours
            .1
            .iter()
            .zip(&theirs.1)
            .all(|(a, b)| a == b || (timed(theirs) && close(a, b)))
}

/// 7.0 rewrote each SET with a time; 7.2 leaves one as it is that says PXAT already.
fn as_old_peers_write(op: &mut Op) {
    let args = &mut op.1;
    if let Some(at) = args.iter().position(|a| a.eq_ignore_ascii_case(b"pxat"))
        && args[0].eq_ignore_ascii_case(b"set")
    {
        *args = vec![
            b"SET".to_vec(),
            args[1].clone(),
            args[2].clone(),
            b"PXAT".to_vec(),
            args[at + 1].clone(),
        ];
    }
}

/// Whoever reads as a consumer becomes one in 7.2, also if there is nothing to read; in 7.0 he does not. So the same command
/// finds a consumer here and makes one there, or the other way round, and says so in the log. What is left is the same;
/// in a transaction, if it is several operations.
fn but_for_consumers(ops: Vec<Op>) -> Vec<Op> {
    let is = |op: &Op, at: usize, word: &str| {
        let arg = op.1.get(at);
        arg.is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    let of_consumer = |op: &Op| is(op, 1, "createconsumer") || is(op, 1, "delconsumer");
    let ops = ops.into_iter();
    let ops: Vec<Op> = ops
        .filter(|op| !(is(op, 0, "xgroup") && of_consumer(op)))
        .collect();
    let mut left: Vec<Op> = Vec::new();
    for op in ops {
        let opened = left.iter().rev().take(2).position(|op| is(op, 0, "multi"));
        match opened.filter(|_| is(&op, 0, "exec")) {
            Some(ago) => {
                left.remove(left.len() - 1 - ago);
            }
            None => left.push(op),
        }
    }
    left
}

fn show(ops: &[Op]) -> String {
    let line = |(db, args): &Op| {
        format!(
            "    [{db}] {}",
            Request {
                name: "",
                args: args.clone(),
                options: vec![],
                broken: false
            }
            .text()
        )
    };
    ops.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn commands_leave_the_same_for_the_log() {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = seed();
    compare_logs(seed, Generator::new(seed, rows(), now_s.as_secs()));
}

/// The same for the data types.
#[test]
fn every_type_leaves_the_same_for_the_log() {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = seed();
    compare_logs(seed, Generator::typed(seed, typed_rows(), now_s.as_secs()));
}

/// What is left to chance or to the order of a hash table is left out, as is what waits.
fn typed_rows() -> Vec<Spec> {
    let table = Table::new(redstart::admin::rows());
    let rows = table.iter().filter(|(_, c)| c.subs.is_empty());
    rows.map(|(_, c)| c.spec)
        .filter(|s| crate::typed::is_typed(s) && !s.flags.has(Flags::BLOCKING))
        .filter(|s| {
            !matches!(
                s.name,
                "spop" | "scan" | "sort" | "memory|usage" | "restore" | "restore-asking"
            )
        })
        .collect()
}

/// True if the clock has no part in what a command leaves, or one that [`same`] knows.
fn is_told_alike(request: &Request) -> bool {
    let names_id = |arg: &Vec<u8>| arg == b"*" || arg.ends_with(b"-*");
    request.name != "xadd" || !request.args.iter().any(names_id)
}

fn compare_logs(seed: u64, mut generator: Generator) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let theirs = Node::start(
        &peer_program(),
        &["--appendonly", "yes", "--appendfsync", "no", "--hz", "1"],
    );
    let old = theirs.version() < Version::V72;
    generator.for_70 = old;
    let mut conn = theirs.connect();
    conn.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    let path = theirs
        .dir
        .path()
        .join("appendonlydir/appendonly.aof.1.incr.aof");
    let mut log = Log {
        file: File::open(path).unwrap(),
        rest: Vec::new(),
        db: 0,
    };

    let mut ours = TestServer::default();
    ours.io().clock = Clock::manual(now.as_micros() as u64);
    ours.server.active_expire = false;
    ours.keep_log();
    let token = ours.connect();

    let mut queueing = false;
    for batch in 0..COMMANDS / PIPELINE {
        let (mut bytes, mut text) = (Vec::new(), String::new());
        for _ in 0..PIPELINE {
            let request = match queueing && generator.one_in(8) {
                true => Request::of("exec", &["EXEC"]),
                false => loop {
                    let request = generator.next();
                    if is_told_alike(&request) {
                        break request;
                    }
                },
            };
            queueing |= request.name == "multi";
            queueing &= request.name != "exec";
            encode(&request.args, &mut bytes);
            text.push_str(&format!("    {}\n", request.text()));
        }
        conn.send_raw(&bytes);
        for _ in 0..PIPELINE {
            conn.reply();
        }
        ours.send(token, &bytes);
        ours.receive(token);
        let (mut a, mut b): (Vec<Op>, _) = (ours.logged(), log.more());
        if old {
            a.iter_mut().for_each(as_old_peers_write);
            [a, b] = [a, b].map(but_for_consumers);
        }
        let at = a
            .iter()
            .zip(&b)
            .position(|(a, b)| !same(a, b))
            .unwrap_or(a.len().min(b.len()));
        let part =
            |all: &[Op]| show(&all[at.saturating_sub(2).min(all.len())..all.len().min(at + 3)]);
        assert!(
            at == a.len() && at == b.len(),
            "seed {seed}, batch {batch}, operation {at}:\n  ours:\n{}\n  theirs:\n{}\n  commands:\n{text}",
            part(&a),
            part(&b)
        );
    }
}
