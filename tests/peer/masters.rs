//! The real server as a master of ours, and one as a replica below: all data, the stream of every kind of command, links that
//! are cut, and the role that goes from one to the next.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use redstart::resp::value::Value;

use crate::generate::Generator;
use crate::node::{Conn, Node, digests_of_one_stream, encode, info, ok, our_program, peer_program};
use crate::proxy::Proxy;
use crate::random::seed;
use crate::replicas::{COMMANDS, rows, write};

/// Keys that are asked for together.
const BATCH: usize = 500;

/// Waits until all have the same place in the stream, and holds their data against each other.
fn compare(all: &mut [&mut Conn], context: &str) {
    let digests = digests_of_one_stream(all, context);
    for other in 1..all.len() {
        if digests[other] != digests[0] {
            let (first, rest) = all.split_at_mut(1);
            let found = differences(first[0], rest[other - 1]);
            let found = found.join("\n");
            assert!(
                found.is_empty(),
                "{context}: number {other} has other data: {found}"
            );
        }
    }
}

/// Which keys differ, a few of them. Not every difference of digests is one of data: versions write the scores of sorted
/// sets in different ways, of which the digest is made.
fn differences(a: &mut Conn, b: &mut Conn) -> Vec<String> {
    let mut found = Vec::new();
    for db in 0..16 {
        let db = db.to_string();
        let [ours, theirs] = [&mut *a, &mut *b].map(|conn| {
            conn.call(&["SELECT", &db]);
            (conn.call(&["DBSIZE"]), names(conn))
        });
        if ours.0 != theirs.0 {
            found.push(format!("db {db}: {:?} against {:?} keys", ours.0, theirs.0));
        }
        let keys: Vec<&Vec<u8>> = ours.1.union(&theirs.1).collect();
        for keys in keys.chunks(BATCH) {
            let [ours, theirs] = [&mut *a, &mut *b].map(|conn| contents(conn, keys));
            for (key, (ours, theirs)) in keys.iter().zip(ours.into_iter().zip(theirs)) {
                if ours != theirs && found.len() < 5 {
                    let name = key.escape_ascii();
                    found.push(format!("{db} {name}: {ours} against {theirs}"));
                }
            }
        }
        for conn in [&mut *a, &mut *b] {
            conn.call(&["SELECT", "0"]);
        }
    }
    found
}

fn names(conn: &mut Conn) -> BTreeSet<Vec<u8>> {
    let Value::Array(keys) = conn.call(&["KEYS", "*"]) else {
        panic!("KEYS replies an array");
    };
    let keys = keys.iter();
    keys.filter_map(|key| Some(key.as_bytes()?.to_vec()))
        .collect()
}

/// What keys hold, in some form that depends on nothing else.
fn contents(conn: &mut Conn, keys: &[&Vec<u8>]) -> Vec<String> {
    let mut bytes = Vec::new();
    for key in keys {
        encode(&[b"TYPE", &key[..]], &mut bytes);
        encode(&[b"PEXPIRETIME", &key[..]], &mut bytes);
        encode(
            &[b"ZRANGE", &key[..], b"0", b"-1", b"WITHSCORES"],
            &mut bytes,
        );
        encode(&[b"DEBUG", &b"DIGEST-VALUE"[..], key], &mut bytes);
    }
    conn.send_raw(&bytes);
    let mut content = || {
        let [kind, end, scores, digest] = [(); 4].map(|()| conn.reply());
        let Value::Array(words) = scores else {
            return format!("{kind:?} {end:?} {digest:?}");
        };
        let text = |word: &Value| word.as_bytes().unwrap_or_default().to_vec();
        let pairs = words.chunks_exact(2).map(|pair| {
            let score = String::from_utf8_lossy(&text(&pair[1])).into_owned();
            (text(&pair[0]), score.parse::<f64>().map(f64::to_bits))
        });
        format!("{kind:?} {end:?} {:?}", pairs.collect::<Vec<_>>())
    };
    keys.iter().map(|_| content()).collect()
}

fn follow(replica: &mut Conn, port: u16) {
    ok(&replica.call(&["REPLICAOF", "127.0.0.1", &port.to_string()]));
}

fn we_follow(diskless: &str, load: &str) {
    let seed = seed();
    let context = |what: &str| format!("seed {seed}, diskless {diskless}, load {load}: {what}");
    let now_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let sync = [
        ["--repl-diskless-sync", diskless],
        ["--repl-diskless-sync-delay", "0"],
        ["--repl-backlog-size", "50mb"],
    ]
    .concat();
    let ours_too = ["--repl-diskless-load", load, "--rdb-version", "10"];
    let master = Node::start(&peer_program(), &sync);
    let replica = Node::start(&our_program(), &[&sync[..], &ours_too].concat());
    let below = Node::start(&peer_program(), &sync);
    let link = Proxy::to(master.port);
    let [mut top, mut ours, mut low] = [&master, &replica, &below].map(Node::connect);
    let mut generator = Generator::new(seed, rows(), now_s);
    // Keys expire when the master says so, which it does not while data is looked at.
    top.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    top.call(&["DEBUG", "POPULATE", "5000", "p", "1000"]);
    write(&mut top, &mut generator, COMMANDS);
    follow(&mut ours, link.port);
    // In the middle of the sync.
    write(&mut top, &mut generator, COMMANDS);
    compare(&mut [&mut top, &mut ours], &context("after the full sync"));

    follow(&mut low, replica.port);
    for cut in 0..5 {
        write(&mut top, &mut generator, COMMANDS / 5);
        link.cut();
        write(&mut top, &mut generator, COMMANDS / 5);
        compare(
            &mut [&mut top, &mut ours, &mut low],
            &context(&format!("after cut {cut}")),
        );
    }
    assert_eq!(info(&mut top, "sync_full"), "1");
    assert!(info(&mut top, "sync_partial_ok").parse::<u32>().unwrap() >= 5);
    assert_eq!(info(&mut ours, "unexpected_error_replies"), "0");

    // The master is lost: ours takes its place, and the one below need not begin anew. Nor must the old master, which comes
    // back as a replica.
    link.close();
    ok(&ours.call(&["REPLICAOF", "NO", "ONE"]));
    ours.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    write(&mut ours, &mut generator, COMMANDS);
    follow(&mut top, replica.port);
    compare(
        &mut [&mut ours, &mut low, &mut top],
        &context("after the promotion"),
    );
    assert_eq!(info(&mut ours, "sync_full"), "1", "that of the one below");
    assert_eq!(info(&mut ours, "sync_partial_ok"), "2");
}

#[test]
fn we_follow_a_master_that_sends_a_file() {
    we_follow("no", "disabled");
}

#[test]
fn we_follow_a_master_that_sends_straight() {
    we_follow("yes", "disabled");
}

#[test]
fn we_follow_and_load_from_the_socket() {
    we_follow("yes", "swapdb");
    we_follow("no", "on-empty-db");
}
