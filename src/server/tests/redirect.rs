//! A node whose map of slots is given, and what its clients hear.

use crate::base::rng::Rng;
use crate::base::slot::Slot;
use crate::cluster::{Cluster, SetSlot, Settings};
use crate::config::Config;
use crate::exec::conn::Token;
use crate::object::{Entry, Value};
use crate::server::test_io::{TestIo, TestServer};

const ME: &str = "1111111111111111111111111111111111111111";
const OTHER: &str = "2222222222222222222222222222222222222222";

/// A node that has the slots of `{a}` and `{b}` (which is leaving), and is to get `{c}` of the node that has `{d}` as well.
/// Nobody has `{e}`.
fn world() -> TestServer {
    let config = Config {
        cluster_enabled: true,
        databases: 1,
        ..Config::default()
    };
    let mut world = TestServer::new(config);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|tag| Slot::of(tag.as_bytes()));
    let text = format!(
        "{ME} 127.0.0.1:6379@16379 myself,master - 0 0 1 connected {a} {b} [{b}->-{OTHER}] [{c}-<-{OTHER}]\n\
         {OTHER} 10.0.0.7:7777@17777 master - 0 0 2 connected {c} {d}\n\
         vars currentEpoch 2 lastVoteEpoch 0\n"
    );
    let now_ms = world.server.now.ms() as i64;
    let cluster = Cluster::from_file(now_ms, Rng::new(1), text.as_bytes());
    let mut cluster = Box::new(cluster.ok().flatten().expect("a file as it is written"));
    cluster.set_settings(Settings {
        node_timeout_ms: 1 << 40,
        ..Settings::default()
    });
    judge(&mut cluster, now_ms, true);
    world.server.cluster = Some(cluster);
    world
}

/// Has the machine judge the state, with a slot that nobody has or without.
fn judge(cluster: &mut Cluster, now_ms: i64, serves: bool) {
    cluster.set_settings(Settings {
        require_full_coverage: !serves,
        ..cluster.settings().clone()
    });
    for later_ms in [1, 5000, 10_000] {
        cluster.set_now(now_ms + later_ms);
        cluster
            .set_slot(Slot::of(b"a"), SetSlot::Stable, false)
            .expect("it is ours");
        cluster.before_sleep();
    }
    assert_eq!(cluster.is_ok(), serves);
}

fn call(world: &mut TestServer, token: Token, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    world.call(token, &words)
}

fn moved(word: &str, tag: &str) -> String {
    format!("-{word} {} 10.0.0.7:7777\r\n", Slot::of(tag.as_bytes()))
}

#[test]
fn a_command_is_sent_to_where_its_slot_is() {
    let mut world = world();
    let me = world.connect();
    let moved_d = moved("MOVED", "d");
    let ask_b = moved("ASK", "b");
    let moved_c = moved("MOVED", "c");
    for (line, reply) in [
        ("SET {a}1 x", "+OK\r\n"),
        ("MGET {a}1 {a}2", "*2\r\n$1\r\nx\r\n$-1\r\n"),
        ("GET {d}1", &moved_d),
        ("MGET {d}1 {d}2", &moved_d),
        (
            "MGET {a}1 {d}2",
            "-CROSSSLOT Keys in request don't hash to the same slot\r\n",
        ),
        (
            "ZUNIONSTORE {a}1 2 {a}2 {d}3",
            "-CROSSSLOT Keys in request don't hash to the same slot\r\n",
        ),
        ("GET {e}1", "-CLUSTERDOWN Hash slot not served\r\n"),
        // What is not here any more, or was never, is where the slot goes.
        ("GET {b}1", &ask_b),
        ("MGET {b}1 {b}2", &ask_b),
        ("ASKING", "+OK\r\n"),
        ("SET {b}1 x", &ask_b),
        // To put a key into a slot that leaves is another's business too.
        ("GET {c}1", &moved_c),
        ("ASKING", "+OK\r\n"),
        ("SET {c}1 x", "+OK\r\n"),
        ("GET {c}1", &moved_c),
        ("ASKING", "+OK\r\n"),
        (
            "MGET {c}1 {c}2",
            "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        ),
        ("ASKING", "+OK\r\n"),
        ("MGET {c}1 {c}1", "*2\r\n$1\r\nx\r\n$1\r\nx\r\n"),
        (
            "RESTORE-ASKING {c}1 0 x",
            "-BUSYKEY Target key name already exists.\r\n",
        ),
        ("SPUBLISH {d} m", &moved_d),
        ("SPUBLISH {c} m", &moved_c),
        ("SPUBLISH {b} m", ":0\r\n"),
        ("PUBLISH {d} m", ":0\r\n"),
        ("SELECT 1", "-ERR SELECT is not allowed in cluster mode\r\n"),
        ("READONLY", "+OK\r\n"),
        ("GET {d}1", &moved_d),
        ("CLUSTER COUNTKEYSINSLOT 15495", ":1\r\n"),
        ("CLUSTER GETKEYSINSLOT 15495 9", "*1\r\n$4\r\n{a}1\r\n"),
    ] {
        assert_eq!(call(&mut world, me, line), reply, "{line}");
    }
}

#[test]
fn a_torn_slot_is_served_where_all_keys_are() {
    let mut world = world();
    let me = world.connect();
    let hash = world.server.dbs.hash(b"{b}1");
    let keys = world.server.keys(0);
    keys.dbs
        .db_mut(0)
        .insert(hash, Entry::new(b"{b}1", Value::Int(7), None, 0));
    assert_eq!(call(&mut world, me, "GET {b}1"), "$1\r\n7\r\n");
    let torn = "-TRYAGAIN Multiple keys request during rehashing of slot\r\n";
    assert_eq!(call(&mut world, me, "MGET {b}1 {b}2"), torn);
    assert_eq!(call(&mut world, me, "MGET {b}2 {b}3"), moved("ASK", "b"));
}

#[test]
fn a_transaction_is_asked_for_as_a_whole() {
    let mut world = world();
    let me = world.connect();
    for (lines, last) in [
        // Refused as it was queued.
        (
            &["MULTI", "GET {d}1", "SET {a}1 y", "EXEC"][..],
            "-EXECABORT Transaction discarded because of previous errors.\r\n",
        ),
        (
            &["MULTI", "SET {a}1 x", "PING", "EXEC"],
            "*2\r\n+OK\r\n+PONG\r\n",
        ),
        (&["GET {a}1"], "$1\r\nx\r\n"),
        // Each is here, but not with the other.
        (
            &["ASKING", "MULTI", "SET {a}1 y", "SET {c}1 y", "EXEC"],
            "-CROSSSLOT Keys in request don't hash to the same slot\r\n",
        ),
        (&["GET {a}1"], "$1\r\nx\r\n"),
        (
            &["ASKING", "MULTI", "SET {c}1 z", "GET {c}1", "EXEC"],
            "*2\r\n+OK\r\n$1\r\nz\r\n",
        ),
        (&["EXEC"], "-ERR EXEC without MULTI\r\n"),
    ] {
        let replies: Vec<_> = lines.iter().map(|l| call(&mut world, me, l)).collect();
        assert_eq!(replies.last().map(String::as_str), Some(last), "{lines:?}");
    }
}

#[test]
fn a_script_stays_with_its_slot() {
    let mut world = world();
    let me = world.connect();
    let mut eval = |script: &str, keys: &[&str]| {
        let count = keys.len().to_string();
        world.call(
            me,
            &[&["EVAL", script, &count], keys, &["{a}9", "{d}9", "{e}9"]].concat(),
        )
    };
    let get = "return redis.call('get', KEYS[1])";
    assert_eq!(eval(get, &["{a}1"]), "$-1\r\n");
    assert_eq!(eval(get, &["{d}1"]), moved("MOVED", "d"));
    let foreign = eval("return redis.call('get', ARGV[2])", &[]);
    let text = "-ERR Script attempted to access a non local key in a cluster node script: ";
    assert!(foreign.starts_with(text), "{foreign}");
    // (Without a slot of its own, it keeps to that of the first key it names, if it is one of the new kind.)
    let two = "redis.call('get', ARGV[1]) return redis.pcall('get', '{zz}')";
    let crossed = eval(&format!("#!lua\n{two}"), &[]);
    assert!(crossed.contains("non local key"), "{crossed}");
    let no_cluster = eval("#!lua flags=no-cluster\nreturn 1", &[]);
    assert_eq!(
        no_cluster,
        "-ERR Can not run script on cluster, 'no-cluster' flag is set.\r\n"
    );
}

#[test]
fn a_cluster_that_is_down_serves_what_it_is_told_to() {
    let mut world = world();
    let [me, waits] = [(); 2].map(|()| world.connect());
    world.send(waits, b"BLPOP {a}list 0\r\n");
    let now_ms = world.server.now.ms() as i64;
    if let Some(cluster) = world.server.cluster.as_deref_mut() {
        judge(cluster, now_ms + 20_000, false);
    }
    world.server.redirect_waiting(waits);
    let down = "-CLUSTERDOWN The cluster is down\r\n";
    world.turn();
    assert_eq!(world.receive(waits), down.as_bytes());
    assert_eq!(call(&mut world, me, "GET {a}1"), down);
    assert_eq!(call(&mut world, me, "PING"), "+PONG\r\n");
    assert_eq!(call(&mut world, me, "SPUBLISH {a} m"), ":0\r\n");
    world.server.config.cluster_allow_pubsubshard_when_down = false;
    assert_eq!(call(&mut world, me, "SPUBLISH {a} m"), down);
    world.server.config.cluster_allow_reads_when_down = true;
    assert_eq!(call(&mut world, me, "GET {a}1"), "$-1\r\n");
    let reads = "-CLUSTERDOWN The cluster is down and only accepts read commands\r\n";
    assert_eq!(call(&mut world, me, "SET {a}1 x"), reads);
}

#[test]
fn who_waits_or_listens_is_told_when_the_slot_leaves() {
    let mut world = world();
    let [waits, listens] = [(); 2].map(|()| world.connect());
    world.send(waits, b"BLPOP {a}list 0\r\n");
    call(&mut world, listens, "SSUBSCRIBE {a}1 {a}2");
    let slot = Slot::of(b"a");
    let cluster = world.server.cluster.as_deref_mut().expect("it is a node");
    let given = cluster.set_slot(slot, SetSlot::Node(OTHER.as_bytes()), false);
    assert_eq!(given, Ok(()));
    world.server.leave_shard_channels(slot);
    world.server.redirect_waiting(waits);
    world.turn();
    let told = String::from_utf8(world.receive(waits)).expect("RESP");
    assert_eq!(told, moved("MOVED", "a"));
    let told = String::from_utf8(world.receive(listens)).expect("RESP");
    let farewell =
        |name: &str, left| format!("*3\r\n$12\r\nsunsubscribe\r\n$4\r\n{name}\r\n:{left}\r\n");
    assert_eq!(told, [farewell("{a}1", 1), farewell("{a}2", 0)].concat());
    assert_eq!(call(&mut world, listens, "PING"), "+PONG\r\n");
}

#[test]
fn a_slot_that_is_another_s_is_emptied_as_by_its_clients() {
    let mut world = world();
    let [me, watches] = [(); 2].map(|()| world.connect());
    call(&mut world, me, "MSET {a}1 x {a}2 y");
    call(&mut world, watches, "WATCH {a}1");
    call(&mut world, watches, "MULTI");
    assert_eq!(world.server.populated_slots(), [Slot::of(b"a")]);
    let mut io = TestIo::default();
    assert_eq!(world.server.drop_slot(&mut io, Slot::of(b"a")), 2);
    assert_eq!(call(&mut world, me, "DBSIZE"), ":0\r\n");
    assert_eq!(call(&mut world, watches, "EXEC"), "*-1\r\n");
}
