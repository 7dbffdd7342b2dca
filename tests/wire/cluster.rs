//! A cluster of six processes: it comes together, loses a master, goes on without it, and takes it back.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod members;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod node;

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

use redstart::resp::value::Value;

use members::{KEYS, agree, caught_up, check, id, member, member_again, promoted, role, state};
use node::{Node, info, ok, our_program, text_of, wait_until};

fn six() -> Vec<Node> {
    members::six(&our_program(), &our_program())
}

#[test]
fn a_dead_master_is_replaced_and_nothing_is_lost() {
    let mut nodes = six();
    let first = id(&nodes[0]);
    nodes[0].kill();
    promoted(&nodes[3]);
    let left: Vec<&Node> = nodes[1..].iter().collect();
    agree(&left, 6);
    check(&[&nodes[1], &nodes[2], &nodes[3]], KEYS);
    // It comes back as what it was, and learns that it is no master any more.
    let again = member_again(&nodes[0], &our_program());
    assert_eq!(id(&again), first);
    wait_until("it follows", || {
        info(&mut again.connect(), "master_link_status") == "up"
    });
    assert_eq!(
        info(&mut again.connect(), "master_port"),
        nodes[3].port.to_string()
    );
    let all: Vec<&Node> = left.into_iter().chain([&again]).collect();
    agree(&all, 6);
    caught_up(&nodes[3], &again);
    // And takes its place back, by hand, while somebody writes.
    let mut conn = nodes[3].connect();
    // (This key is in its slots.)
    let incr = ["INCR", "key:0:{bar}"];
    assert_eq!(conn.call(&incr), Value::Int(1));
    let by = &again;
    let writing = std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut done = 1;
            while let Value::Int(n) = conn.call(&incr) {
                done = n;
            }
            done
        });
        ok(&by.connect().call(&["CLUSTER", "FAILOVER"]));
        promoted(by);
        writer.join().unwrap()
    });
    let count = members::call(&all, 0, &["GET", "key:0:{bar}"]);
    assert_eq!(count.as_bytes(), Some(writing.to_string().as_bytes()));
    wait_until("the other follows", || role(&nodes[3]) == "slave");
    agree(&all, 6);
    check(&[&again, &nodes[1], &nodes[2]], KEYS);
}

#[test]
fn messages_reach_those_who_listen_anywhere() {
    let nodes = six();
    let mut listener = nodes[4].connect();
    listener.call(&["SUBSCRIBE", "news"]);
    let mut sharded = nodes[3].connect();
    sharded.call(&["READONLY"]);
    // (`bar` is in the slots of the first master, whose replica this is.)
    let subscribed = sharded.call(&["SSUBSCRIBE", "bar"]);
    assert!(matches!(subscribed, Value::Array(_)), "{subscribed:?}");
    let mut speaker = nodes[0].connect();
    assert_eq!(speaker.call(&["PUBLISH", "news", "hello"]), Value::Int(0));
    assert_eq!(speaker.call(&["SPUBLISH", "bar", "there"]), Value::Int(0));
    for (conn, kind, said) in [
        (&mut listener, "message", "hello"),
        (&mut sharded, "smessage", "there"),
    ] {
        let Value::Array(parts) = conn.reply() else {
            panic!("no message");
        };
        assert_eq!(parts[0].as_bytes(), Some(kind.as_bytes()));
        assert_eq!(parts[2].as_bytes(), Some(said.as_bytes()));
    }
    // Once each: what a replica hears over the bus does not come again with the stream.
    assert_eq!(listener.call(&["PING"]), pong());
    assert_ne!(
        state(&nodes[0], "cluster_stats_messages_publishshard_sent"),
        ""
    );
}

fn pong() -> Value {
    Value::Array(vec![Value::Bulk(b"pong".to_vec()), Value::Bulk(Vec::new())])
}

/// What is no message ends the connection, and nothing else.
#[test]
fn strangers_on_the_bus_do_no_harm() {
    let node = member(&our_program(), &[]);
    let Value::Array(pair) = node.connect().call(&["CONFIG", "GET", "cluster-port"]) else {
        panic!("no port");
    };
    let port: u16 = String::from_utf8_lossy(pair[1].as_bytes().unwrap())
        .parse()
        .unwrap();
    for said in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"RCmb\0\0\0\x08",
        b"RCmb\xff\xff\xff\xff\0\x01",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(said).unwrap();
    }
    wait_until("it is told", || {
        node.log()
            .matches("Bad message length or signature received on the Cluster bus")
            .count()
            == 2
    });
    assert_eq!(state(&node, "cluster_known_nodes"), "1");
}

/// Two nodes never share a file, and one that can't be read stops the start.
#[test]
fn the_file_is_one_nodes_own() {
    let mut node = member(&our_program(), &[]);
    let dir = node.dir.path().to_path_buf();
    let file = dir.join("nodes.conf");
    let start = || {
        Command::new(our_program())
            .args([
                "--port",
                "0",
                "--unixsocket",
                "other.sock",
                "--cluster-enabled",
                "yes",
            ])
            .args(["--cluster-port", "1", "--dir", dir.to_str().unwrap()])
            .output()
            .unwrap()
    };
    for saved in [false, true] {
        if saved {
            ok(&node.connect().call(&["CLUSTER", "SAVECONFIG"]));
        }
        let refused = start();
        let said = String::from_utf8_lossy(&refused.stdout).into_owned();
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            said.contains("is already used by a different Redis Cluster node"),
            "{said}"
        );
    }
    let before = text_of(&file);
    assert!(before.contains(&id(&node)), "{before}");
    node.kill();
    std::fs::write(&file, "what is this\n").unwrap();
    let refused = start();
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(
        said.contains("Unrecoverable error: corrupted cluster config file"),
        "{said}"
    );
    assert_eq!(text_of(&file), "what is this\n");
}
