//! The real server as a replica of ours: it gets all data, straight and through a file, follows every kind of command,
//! goes on where it was after its link was cut, and takes our place in the end.

use std::time::{SystemTime, UNIX_EPOCH};

use redstart::cmd::spec::{Flags, Group, Spec};
use redstart::exec::table::Table;
use redstart::resp::value::Value;

use crate::generate::Generator;
use crate::node::{Conn, Node, digest, encode, info, ok, our_program, peer_program, wait_until};
use crate::random::seed;

pub const COMMANDS: usize = 3000;
const PIPELINE: usize = 50;

/// Commands that change data, and transactions. What waits would hold the test up, and FLUSHALL gives up the snapshot
/// that is under way, as it does in Redis.
pub fn rows() -> Vec<Spec> {
    let drawn = |s: &Spec| {
        let waits = s.flags.has(Flags::BLOCKING);
        (s.flags.has(Flags::WRITE)
            && !waits
            && !matches!(s.name, "flushall" | "migrate" | "restore"))
            || (s.group == Group::Transactions && s.name != "watch")
    };
    let table = Table::new(redstart::admin::rows());
    table.iter().map(|(_, c)| c.spec).filter(drawn).collect()
}

/// Waits until the replica has everything, and holds the data of both against each other.
fn compare(master: &mut Conn, replica: &mut Conn, context: &str) {
    wait_until("the replica catches up", || {
        let offset = info(master, "master_repl_offset");
        info(replica, "master_link_status") == "up"
            && info(replica, "slave_repl_offset") == offset
            && info(master, "master_repl_offset") == offset
    });
    if digest(master) != digest(replica) {
        // 7.0 writes doubles in another way, and so they are in its digest.
        let found = differences(master, replica);
        assert!(found.is_empty(), "{context}: {}", found.join("\n"));
    }
}

/// What a key holds, in words: its digest, but for the scores of a sorted set, which 7.0 writes in another way.
fn content(conn: &mut Conn, key: &[u8]) -> String {
    let kind = conn.call(&[b"TYPE", key]);
    let value: [&[u8]; 3] = match kind.as_bytes() {
        Some(b"zset") => [b"ZRANGE", key, b"0"],
        _ => [b"DEBUG", b"DIGEST-VALUE", key],
    };
    let rest: &[&[u8]] = match kind.as_bytes() {
        Some(b"zset") => &[b"-1", b"WITHSCORES"],
        _ => &[],
    };
    let value = conn.call(&[&value, rest].concat());
    let expires = conn.call(&[b"PEXPIRETIME", key]);
    format!("{} {} {}", shown(&kind), shown(&expires), shown(&value))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(all) => all.iter().map(shown).collect::<Vec<_>>().join(" "),
        other => match other.as_bytes() {
            // Doubles alike, however they are written.
            Some(bytes) => match String::from_utf8_lossy(bytes).parse::<f64>() {
                Ok(number) => format!("{number:?}"),
                Err(_) => format!("\"{}\"", bytes.escape_ascii()),
            },
            None => format!("{other:?}"),
        },
    }
}

/// Which keys differ, and in what.
fn differences(ours: &mut Conn, replica: &mut Conn) -> Vec<String> {
    let mut found = Vec::new();
    for db in 0..16 {
        let mut keys = Vec::new();
        for conn in [&mut *ours, &mut *replica] {
            conn.call(&["SELECT", &db.to_string()]);
            let Value::Array(there) = conn.call(&["KEYS", "*"]) else {
                panic!("no keys");
            };
            keys.extend(there.iter().map(|key| key.as_bytes().unwrap().to_vec()));
        }
        keys.sort();
        keys.dedup();
        for key in keys {
            let [a, b] = [&mut *ours, &mut *replica].map(|conn| content(conn, &key));
            if a != b {
                let key = key.escape_ascii();
                found.push(format!("    [{db}] {key}:\n        {a}\n        {b}"));
            }
        }
        ours.call(&["SELECT", "0"]);
        replica.call(&["SELECT", "0"]);
    }
    found
}

/// Writes of every kind, some of them in transactions.
pub fn write(ours: &mut Conn, generator: &mut Generator, commands: usize) {
    for _ in 0..commands / PIPELINE {
        let mut bytes = Vec::new();
        for _ in 0..PIPELINE {
            encode(&generator.next().args, &mut bytes);
        }
        // A transaction that was opened ends with the batch.
        encode(&["DISCARD"], &mut bytes);
        encode(&["SELECT", "0"], &mut bytes);
        ours.send_raw(&bytes);
        for _ in 0..PIPELINE + 2 {
            ours.reply();
        }
    }
}

fn replica_follows(diskless: &str) {
    let seed = seed();
    let now_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let options = [
        ["--repl-diskless-sync", diskless],
        ["--repl-diskless-sync-delay", "0"],
        ["--repl-backlog-size", "50mb"],
        // Nothing is said to a replica unasked while the two change places.
        ["--repl-ping-replica-period", "1000"],
        // What Redis 7.0 can read.
        ["--rdb-version", "10"],
    ];
    let master = Node::start(&our_program(), &options.concat());
    let peer = Node::start(&peer_program(), &[]);
    let (mut ours, mut theirs) = (master.connect(), peer.connect());
    let mut generator = Generator::new(seed, rows(), now_s);
    // Keys expire when the master says so, which it does not while both are looked at.
    ours.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    ours.call(&["DEBUG", "POPULATE", "50000", "p", "100"]);
    write(&mut ours, &mut generator, COMMANDS);
    let port = master.port.to_string();
    ok(&theirs.call(&["REPLICAOF", "127.0.0.1", &port]));
    // In the middle of the sync.
    write(&mut ours, &mut generator, COMMANDS);
    compare(
        &mut ours,
        &mut theirs,
        &format!("seed {seed}: after the full sync"),
    );
    write(&mut ours, &mut generator, COMMANDS);
    compare(&mut ours, &mut theirs, &format!("seed {seed}: after more"));

    ours.call(&["CLIENT", "KILL", "TYPE", "replica"]);
    write(&mut ours, &mut generator, COMMANDS);
    compare(
        &mut ours,
        &mut theirs,
        &format!("seed {seed}: after the cut"),
    );
    assert_eq!(info(&mut ours, "sync_full"), "1");
    assert_eq!(info(&mut ours, "sync_partial_ok"), "1");
    let line = info(&mut ours, "slave0");
    let expected = format!("ip=127.0.0.1,port={},state=online,", peer.port);
    assert!(line.starts_with(&expected), "{line}");
    ours.call(&["SET", "last", "one"]);
    assert_eq!(ours.call(&["WAIT", "1", "0"]), Value::Int(1));

    ok(&theirs.call(&["REPLICAOF", "NO", "ONE"]));
    theirs.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    let port = peer.port.to_string();
    ok(&ours.call(&["REPLICAOF", "127.0.0.1", &port]));
    write(&mut theirs, &mut generator, COMMANDS);
    let context = format!("seed {seed}: after the promotion");
    compare(&mut theirs, &mut ours, &context);
    let syncs = ["sync_full", "sync_partial_ok"].map(|field| info(&mut theirs, field));
    assert_eq!(syncs, ["0", "1"]);
}

#[test]
fn a_replica_is_fed_straight() {
    replica_follows("yes");
}

#[test]
fn a_replica_is_fed_through_a_file() {
    replica_follows("no");
}
