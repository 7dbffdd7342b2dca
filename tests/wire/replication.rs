//! Replication as people meet it: masters and replicas that are real programs, on loopback.
//!
//! Writers change data of every type all along, with commands that leave another value if one of them is lost or run
//! twice. Whatever happens to links and nodes meanwhile, in the end the replicas have their master's data, and nobody got
//! all of it anew who could go on from where he was.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod node;
#[allow(dead_code, reason = "likewise")]
mod proxy;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use redstart::base::rng::Rng;
use redstart::resp::value::Value;

use node::{
    Conn, LONG_PATIENCE, Node, digests_of_one_stream, directory, encode, info, ok, our_program,
    text_of, wait_until,
};
use proxy::Proxy;

/// Requests that a writer sends at once.
const PIPELINE: u64 = 16;
const WRITERS: u64 = 2;
const CUTS: u64 = 200;

/// Adds one change to a batch.
fn draw(rng: &mut Rng, batch: &mut Vec<u8>) {
    let n = rng.below(50).to_string();
    let key = |kind: &str| format!("{kind}{}", &n);
    let words: &[&str] = match rng.below(14) {
        0 => &["INCR", &key("counter")],
        1 => &["APPEND", &key("text"), "some more "],
        2 => &["SET", &key("text"), &n, "EX", "1000"],
        3 => &["RPUSH", &key("list"), &n, "another"],
        4 => &["LPOP", &key("list"), "2"],
        5 => &["HINCRBY", &key("hash"), &n, "3"],
        6 => &["SADD", &key("set"), &n, "a", "b", "c"],
        7 => &["SPOP", &key("set")],
        8 => &["ZINCRBY", &key("zset"), "1.5", &n],
        9 => &["ZADD", &key("zset"), "INCR", "-2", "m"],
        10 => &["XADD", &key("stream"), "MAXLEN", "100", "*", "f", &n],
        11 => &["EXPIRE", &key("hash"), "2000"],
        12 => &["PFADD", &key("seen"), &n],
        _ => &["SELECT", if rng.below(4) == 0 { "1" } else { "0" }],
    };
    encode(words, batch);
}

/// Adds a batch of [`PIPELINE`] changes, some of them in a transaction; how many replies it has.
fn draw_batch(rng: &mut Rng, batch: &mut Vec<u8>) -> u64 {
    let transaction = rng.below(4) == 0;
    if transaction {
        encode(&["MULTI"], batch);
    }
    for _ in 0..PIPELINE {
        draw(rng, batch);
    }
    if transaction {
        encode(&["EXEC"], batch);
    }
    PIPELINE + 2 * u64::from(transaction)
}

/// Writes batch after batch as long as somebody takes them and `goes_on`.
fn write(conn: &mut Conn, rng: &mut Rng, goes_on: impl Fn() -> bool) {
    while goes_on() {
        let mut batch = Vec::new();
        let replies = draw_batch(rng, &mut batch);
        conn.send_raw(&batch);
        for _ in 0..replies {
            match conn.try_reply() {
                None => return,
                Some(Value::Error(e)) => panic!("{e:?}"),
                Some(_) => {}
            }
        }
    }
}

/// Writers at work, until they are stopped or their server is gone.
struct Load {
    over: Arc<AtomicBool>,
    writers: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(node: &Node) -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let writer = |n| {
            let (mut conn, over) = (node.connect(), over.clone());
            std::thread::spawn(move || {
                write(&mut conn, &mut Rng::new(n), || {
                    !over.load(Ordering::Relaxed)
                })
            })
        };
        let writers = (0..WRITERS).map(writer).collect();
        Load { over, writers }
    }

    fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.join().unwrap();
        }
    }
}

/// Writes some batches and is done.
fn write_some(conn: &mut Conn, seed: u64, batches: u64) {
    let left = std::cell::Cell::new(batches);
    let goes_on = || left.replace(left.get().saturating_sub(1)) > 0;
    write(conn, &mut Rng::new(seed), goes_on);
    conn.call(&["SELECT", "0"]);
}

fn number(conn: &mut Conn, field: &str) -> u64 {
    info(conn, field).parse().unwrap()
}

/// Waits until the replicas have all that their master has, and holds their data against its.
fn same_data(all: &mut [&mut Conn], context: &str) {
    let digests = digests_of_one_stream(all, context);
    assert!(
        digests.iter().all(|d| *d == digests[0]),
        "{context}: other data"
    );
}

fn text(reply: Value) -> String {
    let bytes = reply.as_bytes().map(<[u8]>::to_vec);
    let Some(bytes) = bytes else {
        panic!("{reply:?}");
    };
    String::from_utf8(bytes).unwrap()
}

fn error(reply: Value) -> String {
    match reply {
        Value::Error(e) => String::from_utf8_lossy(e.as_ref()).into_owned(),
        other => panic!("{other:?}"),
    }
}

const READONLY: &str = "READONLY You can't write against a read only replica.";

/// A server as it is set up by a file of its own, in the words of old tutorials.
fn configured(further: &str) -> Node {
    let dir = directory();
    let path = dir.path().to_path_buf();
    let config = path.join("redis.conf");
    Node::launch(dir, &our_program(), |port, command| {
        let lines = [
            "# As it came with the distribution.",
            "bind 127.0.0.1 127.0.0.2 -::1",
            &format!("port {port}"),
            "protected-mode no",
            "tcp-keepalive 300",
            "daemonize no",
            "enable-debug-command yes",
            "loglevel notice",
            "logfile redis.log",
            "save 900 1",
            &format!("dir \"{}\"", path.display()),
            "repl-diskless-sync no",
            further,
        ];
        fs::write(&config, lines.join("\n")).unwrap();
        command.arg(&config);
    })
}

#[test]
fn a_master_and_two_replicas_from_their_files() {
    let master = configured("");
    let mut top = master.connect();
    write_some(&mut top, 7, 20);
    // Each by another address of the master's.
    let follows = |address: &str| configured(&format!("slaveof {address} {}", master.port));
    let replicas = [follows("127.0.0.1"), follows("127.0.0.2")];
    let [mut first, mut second] = replicas.each_ref().map(Node::connect);
    same_data(&mut [&mut top, &mut first, &mut second], "the full syncs");
    write_some(&mut top, 8, 20);
    ok(&top.call(&["SET", "greeting", "hello"]));
    assert_eq!(top.call(&["WAIT", "2", "0"]), Value::Int(2));
    for replica in [&mut first, &mut second] {
        assert_eq!(text(replica.call(&["GET", "greeting"])), "hello");
        assert_eq!(error(replica.call(&["SET", "greeting", "x"])), READONLY);
    }
    same_data(&mut [&mut top, &mut first, &mut second], "the stream");
    assert_eq!(number(&mut top, "connected_slaves"), 2);
    let log = |node: &Node| text_of(&node.dir.path().join("redis.log"));
    for (n, replica) in replicas.iter().enumerate() {
        let port = replica.port;
        let lines = ["slave0", "slave1"].map(|field| info(&mut top, field));
        let start = format!("ip=127.0.0.1,port={port},state=online,offset=");
        let listed = lines.iter().any(|line| line.starts_with(&start));
        assert!(listed, "{lines:?}");
        let address = format!("Connecting to MASTER 127.0.0.{}:{}\n", n + 1, master.port);
        let asked = format!("Replica 127.0.0.1:{port} asks for synchronization\n");
        let served = format!("Synchronization with replica 127.0.0.1:{port} succeeded\n");
        for (log, said) in [
            (log(replica), &*address),
            (log(replica), "MASTER <-> REPLICA sync started\n"),
            (
                log(replica),
                "MASTER <-> REPLICA sync: Finished with success\n",
            ),
            (log(&master), &asked),
            (log(&master), &served),
        ] {
            assert!(log.contains(said), "no {said:?} in {log}");
        }
        assert_eq!(replica.log(), "", "it has a file of its own");
    }
}

#[test]
fn a_server_follows_another_at_run_time_and_leaves_it() {
    // Both in one directory, as from one terminal: hence the other file.
    let dir = directory();
    let start = |options: &'static [&'static str]| {
        Node::launch(dir.clone(), &our_program(), move |port, command| {
            command.args(["--port", &port.to_string()]).args(options);
            command.args(["--enable-debug-command", "yes"]);
            command.args(["--repl-diskless-sync-delay", "0"]);
        })
    };
    let nodes = [
        start(&[]),
        start(&["--dbfilename", "db2.rdb"]),
        start(&["--dbfilename", "db3.rdb"]),
    ];
    let [mut one, mut two, mut three] = nodes.each_ref().map(Node::connect);
    let at = nodes.each_ref().map(|node| node.port.to_string());
    ok(&two.call(&["SET", "own", "lost"]));
    ok(&one.call(&["SET", "before", "1"]));
    two.send_raw(format!("replicaof localhost {}\r\n", at[0]).as_bytes());
    ok(&two.reply());
    same_data(&mut [&mut one, &mut two], "the first follows");
    assert_eq!(info(&mut one, "role"), "master");
    assert_eq!(info(&mut one, "connected_slaves"), "1");
    let line = info(&mut one, "slave0");
    let start = format!("port={},state=online,offset=", at[1]);
    assert!(line.contains(&start) && line.contains(",lag="), "{line}");
    for (field, value) in [
        ("role", "slave"),
        ("master_host", "localhost"),
        ("master_port", &at[0]),
        ("master_link_status", "up"),
        ("slave_read_only", "1"),
        ("connected_slaves", "0"),
        ("master_failover_state", "no-failover"),
        ("master_replid", &info(&mut one, "master_replid")),
    ] {
        assert_eq!(info(&mut two, field), value, "{field}");
    }
    ok(&one.call(&["SET", "greeting", "hello"]));
    assert_eq!(one.call(&["WAIT", "1", "0"]), Value::Int(1));
    let Value::Array(keys) = two.call(&["KEYS", "*"]) else {
        panic!("KEYS replies an array");
    };
    let mut keys: Vec<String> = keys.into_iter().map(text).collect();
    keys.sort();
    assert_eq!(keys, ["before", "greeting"]);
    assert_eq!(text(two.call(&["GET", "greeting"])), "hello");
    assert_eq!(error(two.call(&["SET", "greeting", "x"])), READONLY);
    assert_eq!(error(two.call(&["DEL", "greeting"])), READONLY);

    ok(&three.call(&["SLAVEOF", "localhost", &at[0]]));
    same_data(&mut [&mut one, &mut two, &mut three], "a second one");
    assert_eq!(info(&mut one, "connected_slaves"), "2");

    let id = info(&mut two, "master_replid");
    let offset = number(&mut two, "master_repl_offset");
    two.send_raw(b"replicaof no one\r\n");
    ok(&two.reply());
    assert_eq!(info(&mut two, "role"), "master");
    assert_eq!(info(&mut two, "master_replid2"), id);
    assert_ne!(info(&mut two, "master_replid"), id);
    assert_eq!(number(&mut two, "second_repl_offset"), offset + 1);
    ok(&two.call(&["SET", "greeting", "mine"]));
    assert_eq!(text(one.call(&["GET", "greeting"])), "hello");
    wait_until("the master notices", || {
        info(&mut one, "connected_slaves") == "1"
    });
    same_data(&mut [&mut one, &mut three], "the other one stays");
    let names = || {
        let entries = fs::read_dir(dir.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|n| n.into_string().unwrap()).collect();
        names.retain(|name| name.ends_with(".rdb"));
        names.sort();
        names
    };
    // Each keeps its own.
    for conn in [&mut one, &mut two, &mut three] {
        ok(&conn.call(&["SAVE"]));
    }
    assert_eq!(names(), ["db2.rdb", "db3.rdb", "dump.rdb"]);
}

#[test]
fn the_log_and_systemd_hear_how_it_goes() {
    let dir = directory();
    let path = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(LONG_PATIENCE)).unwrap();
    let master = Node::start(&our_program(), &["--repl-diskless-sync-delay", "0"]);
    let link = Proxy::to(master.port);
    let replica = Node::launch(dir, &our_program(), |port, command| {
        // (No resolver has to be asked to know that there is no such name.)
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--supervised", "systemd", "--replicaof", "no..name 6379"])
            .env("NOTIFY_SOCKET", &path);
    });
    let mut conn = replica.connect();
    let says = |replica: &Node, text: &str| wait_until(text, || replica.log().contains(text));
    says(&replica, "Connecting to MASTER no..name:6379");
    says(&replica, "Unable to connect to MASTER: ");
    assert!(!replica.log().contains("sync started"));
    // Nobody is there, on a port of those that nobody is given.
    ok(&conn.call(&["REPLICAOF", "127.0.0.1", "1"]));
    says(&replica, "MASTER <-> REPLICA sync started");
    says(
        &replica,
        "Error condition on socket for SYNC: Connection refused",
    );
    ok(&conn.call(&["REPLICAOF", "127.0.0.1", &link.port.to_string()]));
    says(&replica, "MASTER <-> REPLICA sync: Finished with success");
    link.cut();
    says(
        &replica,
        "MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.",
    );
    let sync = "STATUS=MASTER <-> REPLICA sync";
    for state in [
        "STATUS=Redis is loading...",
        "STATUS=Ready to accept connections in read-only mode. Waiting for MASTER <-> REPLICA sync",
        "READY=1",
        &format!("{sync}: Finished with success. Ready to accept connections in read-write mode."),
        &format!(
            "{sync}: Partial Resynchronization accepted. Ready to accept connections in read-write mode."
        ),
    ] {
        let mut told = [0; 200];
        let n = systemd.recv(&mut told).unwrap();
        assert_eq!(String::from_utf8_lossy(&told[..n]), format!("{state}\n"));
    }
}

/// Kills a master under load, and puts the replica that has most in its place. The old one comes back as a replica, with
/// the file that it had saved: while its replicas were there (`shared`), or when what it wrote reached nobody any more.
fn failover(shared: bool) {
    let options = [
        "--repl-diskless-sync-delay",
        "0",
        "--repl-backlog-size",
        "64mb",
    ];
    let dir = directory();
    let mut master = Node::start_in(dir.clone(), &our_program(), &options);
    let link = Proxy::to(master.port);
    let replicas = [(); 2].map(|()| Node::start(&our_program(), &options));
    let mut top = master.connect();
    let [mut a, mut b] = replicas.each_ref().map(Node::connect);
    write_some(&mut top, 3, 20);
    for conn in [&mut a, &mut b] {
        ok(&conn.call(&["REPLICAOF", "127.0.0.1", &link.port.to_string()]));
    }
    same_data(&mut [&mut top, &mut a, &mut b], "the full syncs");
    let load = Load::on(&master);
    let moves_on = |conn: &mut Conn| {
        let from = number(conn, "master_repl_offset");
        wait_until("more is written", || {
            number(conn, "master_repl_offset") > from + 20_000
        });
    };
    moves_on(&mut b);
    if !shared {
        link.close();
        moves_on(&mut top);
    }
    ok(&top.call(&["SAVE"]));
    let saved = number(&mut top, "master_repl_offset");
    moves_on(if shared { &mut b } else { &mut top });
    master.kill();
    load.stop();

    for conn in [&mut a, &mut b] {
        wait_until("the replicas notice", || {
            info(conn, "master_link_status") == "down"
        });
    }
    let mut order = [(a, &replicas[0]), (b, &replicas[1])];
    order.sort_by_cached_key(|(_, node)| number(&mut node.connect(), "master_repl_offset"));
    let [(mut other, _), (mut new, at)] = order;
    ok(&new.call(&["REPLICAOF", "NO", "ONE"]));
    // Up to where the old one was, and beyond: only the ID tells that it is another stream.
    for round in 0.. {
        write_some(&mut new, round, 20);
        if number(&mut new, "master_repl_offset") > saved {
            break;
        }
    }
    let port = at.port.to_string();
    ok(&other.call(&["REPLICAOF", "127.0.0.1", &port]));
    let follows = format!("127.0.0.1 {port}");
    let back = [&options[..], &["--replicaof", &follows]].concat();
    let old = Node::start_in(dir, &our_program(), &back);
    let mut old = old.connect();
    write_some(&mut new, 5, 20);
    same_data(&mut [&mut new, &mut other, &mut old], "after the failover");
    let syncs = ["sync_full", "sync_partial_ok"].map(|field| number(&mut new, field));
    assert_eq!(syncs, if shared { [0, 2] } else { [1, 1] });
}

#[test]
fn a_master_that_was_killed_goes_on_as_a_replica() {
    failover(true);
}

#[test]
fn a_master_that_was_killed_loses_what_it_had_alone() {
    failover(false);
}

#[test]
fn two_hundred_cuts_cost_no_full_sync() {
    let options = [
        "--repl-diskless-sync-delay",
        "0",
        "--repl-backlog-size",
        "64mb",
    ];
    let [master, replica] = [(); 2].map(|()| Node::start(&our_program(), &options));
    let [mut top, mut below] = [&master, &replica].map(Node::connect);
    let link = Proxy::to(master.port);
    ok(&below.call(&["REPLICAOF", "127.0.0.1", &link.port.to_string()]));
    let load = Load::on(&master);
    let mut rng = Rng::new(CUTS);
    for cut in 0..CUTS {
        let context = format!("after {cut} cuts");
        wait_until(&context, || {
            info(&mut below, "master_link_status") == "up"
                && number(&mut top, "sync_partial_ok") == cut
        });
        // Wherever it comes: within a command, within a transaction.
        link.cut_after(rng.below(20_000) as u32);
    }
    wait_until("the last", || number(&mut top, "sync_partial_ok") == CUTS);
    load.stop();
    same_data(&mut [&mut top, &mut below], "after all cuts");
    assert_eq!(number(&mut top, "sync_full"), 1);
    assert_eq!(info(&mut below, "unexpected_error_replies"), "0");

    // What the backlog does not cover is got anew, all of it.
    ok(&top.call(&["CONFIG", "SET", "repl-backlog-size", "16kb"]));
    link.close();
    write_some(&mut top, 9, 1000);
    link.open();
    same_data(&mut [&mut top, &mut below], "after the gap");
    assert_eq!(number(&mut top, "sync_full"), 2);
}
