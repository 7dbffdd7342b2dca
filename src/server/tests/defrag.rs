//! Defragmentation: whatever moves, a server replies as one where nothing does.

use crate::base::rng::Rng;
use crate::config::Config;
use crate::db::defrag::{KeyCounts, Walk};
use crate::db::snapshot::Snapshot;
use crate::ds::defrag::Mover;
use crate::exec::conn::Token;
use crate::server::test_io::TestServer;

/// A command on one of a handful of keys of each type. Collections go to and fro between their encodings.
fn command(rng: &mut Rng) -> Vec<String> {
    let member = rng.below(400).to_string();
    let other = rng.below(400).to_string();
    let long = "x".repeat(rng.index(200));
    let key = rng.below(3).to_string();
    let range = [rng.below(300).to_string(), rng.below(300).to_string()];
    let id = format!("{}-0", rng.below(600) + 1);
    let [from, to] = &range;
    let words = match rng.below(36) {
        0 => format!("SET s{member} {long}{other}"),
        1 => format!("APPEND s{key} {long}.{long}"),
        2 => format!("SETRANGE big{key} {} {other}", rng.below(9000)),
        3 => format!("DEL s{member} s{other}"),
        4 => format!("PEXPIRE s{member} 1000000"),
        5 => format!("LPUSH l{key} {member} {long}. {other}"),
        6 => format!("RPUSH l{key} {member} {long}. {other}"),
        7 => format!("LINSERT l{key} BEFORE {member} {other}"),
        8 => format!("LREM l{key} 2 {member}"),
        9 => format!("LTRIM l{key} {} -{}", rng.below(3), rng.below(3) + 1),
        10 => format!("LRANGE l{key} {from} {to}"),
        11 | 12 => format!("HSET h{key} {member} {long}. {other} {to}"),
        13 => format!("HDEL h{key} {member} {other}"),
        14 => format!("HGET h{key} {member}"),
        15 => format!("HINCRBY h{key} n{member} {other}"),
        16 | 17 => format!("SADD t{key} {member} m{other}"),
        18 => format!("SREM t{key} {member} m{other}"),
        19 => format!("SINTER t{key} t{}", rng.below(3)),
        20 | 21 => format!("ZADD z{key} {member} a{other} {other} b{member}"),
        22 => format!("ZINCRBY z{key} {} a{other}", rng.below(9)),
        23 => format!("ZREM z{key} a{member} b{other}"),
        24 => format!("ZREMRANGEBYRANK z{key} {from} {to}"),
        25 => format!("ZRANGE z{key} {from} {to} WITHSCORES"),
        26 => format!("ZRANK z{key} b{member}"),
        27 | 28 => format!("XADD x{key} * f {member} g {long}."),
        29 => format!("XDEL x{key} {id}"),
        30 => format!("XTRIM x{key} MAXLEN {}", rng.below(400)),
        31 => format!("XGROUP CREATE x{key} g{other} 0 MKSTREAM"),
        32 => format!("XREADGROUP GROUP g{other} c{member} COUNT 5 STREAMS x{key} >"),
        33 => format!("COPY {0}{key} {0}{1} REPLACE", type_of(rng), rng.below(3)),
        34 => format!("RENAME {0}{key} {0}{1}", type_of(rng), rng.below(3)),
        _ => format!("UNLINK {}{key}", type_of(rng)),
    };
    words.split(' ').map(str::to_string).collect()
}

fn type_of(rng: &mut Rng) -> char {
    ['l', 'h', 't', 'z', 'x'][rng.index(5)]
}

fn call(server: &mut TestServer, client: Token, words: &[String]) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    server.call(client, &words)
}

/// Steps of walks during which two of three blocks move.
fn move_some(server: &mut TestServer, walk: &mut Walk, steps: u64) -> u64 {
    let turn = std::cell::Cell::new(0u32);
    let wants = |_| {
        turn.set(turn.get().wrapping_add(1));
        !turn.get().is_multiple_of(3)
    };
    let mut mover = Mover::new(&wants);
    let mut keys = KeyCounts::default();
    for _ in 0..steps {
        walk.step(&mut server.server.dbs, 50, &mut mover, &mut keys);
    }
    mover.hits
}

#[test]
fn what_moves_is_what_it_was() {
    let config = Config {
        list_max_listpack_size: 20,
        list_compress_depth: 1,
        stream_node_max_entries: 10,
        hash_max_listpack_entries: 30,
        set_max_listpack_entries: 30,
        set_max_intset_entries: 40,
        zset_max_listpack_entries: 30,
        ..Config::default()
    };
    let mut servers = [0, 1].map(|_| {
        let mut server = TestServer::new(config.clone());
        let client = server.connect();
        (server, client)
    });
    let mut rng = Rng::new(4);
    let (mut walk, mut moved) = (Walk::default(), 0);
    let mut held: Option<(Snapshot, String)> = None;
    for turn in 0..40_000 {
        let words = command(&mut rng);
        let [left, right] = &mut servers;
        let expected = call(&mut left.0, left.1, &words);
        let found = call(&mut right.0, right.1, &words);
        assert_eq!(found, expected, "{turn}: {words:?}");
        moved += move_some(&mut right.0, &mut walk, rng.below(4));
        // A snapshot that is alive for a while sees none of it.
        if turn % 500 == 100 {
            let digest = digest(&mut right.0, right.1);
            held = Some((right.0.server.dbs.snapshot(), digest));
        }
        if turn % 500 == 300
            && let Some((snapshot, before)) = held.take()
        {
            let mut copy = TestServer::new(config.clone());
            let key = right.0.server.dbs.key_of_tables();
            copy.server.dbs.become_copy(&snapshot, key);
            let client = copy.connect();
            assert_eq!(digest(&mut copy, client), before, "{turn}");
        }
    }
    let [left, right] = &mut servers;
    assert_eq!(digest(&mut right.0, right.1), digest(&mut left.0, left.1));
    assert!(moved > 400_000, "{moved}");
}

fn digest(server: &mut TestServer, client: Token) -> String {
    server.call(client, &["DEBUG", "DIGEST"])
}

/// Nothing that a snapshot shares is copied to be moved.
#[test]
fn what_is_shared_stays() {
    let mut server = TestServer::default();
    let client = server.connect();
    for i in 0..3000 {
        server.call(client, &["SET", &format!("key{i}"), "value"]);
        server.call(client, &["ZADD", "z", &i.to_string(), &format!("m{i}")]);
        server.call(client, &["RPUSH", "l", &i.to_string()]);
    }
    let snapshot = server.server.dbs.snapshot();
    let moved = move_some(&mut server, &mut Walk::default(), 500);
    assert_eq!((moved, server.server.dbs.copied_for_snapshots()), (0, 0));
    drop(snapshot);
    assert!(move_some(&mut server, &mut Walk::default(), 500) > 3000);
}
