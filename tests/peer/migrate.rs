//! MIGRATE with the real server at either end: keys arrive as they left, and what goes wrong is told in its words.

use std::net::TcpListener;

use redstart::resp::value::Value;

use crate::node::{Conn, Node, Version, our_program, peer_program};
use crate::rdb::{done, fill, words};

/// Our server, which sends what the other understands.
fn ours_for(other: &Node) -> Node {
    let format = match other.version() {
        Version::V70 => "10",
        Version::V72 => "11",
    };
    Node::start(&our_program(), &["--rdb-version", format])
}

fn keys(conn: &mut Conn) -> Vec<Vec<u8>> {
    let Value::Array(keys) = conn.call(&["KEYS", "*"]) else {
        panic!("no keys");
    };
    let mut keys: Vec<Vec<u8>> = keys
        .iter()
        .map(|k| k.as_bytes().unwrap().to_vec())
        .collect();
    keys.sort();
    keys
}

fn digests(conn: &mut Conn, keys: &[Vec<u8>]) -> Value {
    let head = ["DEBUG", "DIGEST-VALUE"].map(|w| w.as_bytes().to_vec());
    conn.call(&[&head[..], keys].concat())
}

/// Sends all keys of `from` to `to`.
fn move_all(from: &mut Conn, to: &Node, keys: &[Vec<u8>]) {
    let port = to.port.to_string();
    let head = ["MIGRATE", "localhost", &port, "", "0", "20000", "KEYS"];
    let head: Vec<Vec<u8>> = head.iter().map(|w| w.as_bytes().to_vec()).collect();
    let reply = from.call(&[&head[..], keys].concat());
    assert_eq!(reply, Value::Status(b"OK".into()));
    assert_eq!(from.call(&["DBSIZE"]), Value::Int(0));
}

#[test]
fn keys_come_and_go_as_they_are() {
    let theirs = [(); 2].map(|()| Node::start(&peer_program(), &[]));
    let ours = ours_for(&theirs[0]);
    let [mut first, mut last] = [theirs[0].connect(), theirs[1].connect()];
    let mut here = ours.connect();
    fill(&mut first);
    let keys = keys(&mut first);
    assert!(keys.len() > 100);
    let sent = digests(&mut first, &keys);
    move_all(&mut first, &ours, &keys);
    assert_eq!(digests(&mut here, &keys), sent);
    move_all(&mut here, &theirs[1], &keys);
    assert_eq!(digests(&mut last, &keys), sent);
}

#[test]
fn what_goes_wrong_is_told_alike() {
    let target = Node::start(&peer_program(), &[]);
    let sources = [ours_for(&target), Node::start(&peer_program(), &[])];
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().port().to_string();
    let port = target.port.to_string();
    let lines = [
        "T none 0 1000",
        "T a 0 1000",
        "T a 0 1000",
        "T x 0 1000",
        "T x 0 1000 COPY",
        "T x 0 1000 COPY REPLACE",
        "T x 3 1000 COPY",
        "T x 99 1000",
        "T x -1 1000 REPLACE COPY",
        "T x 0 1000 AUTH secret",
        "T x 0 1000 AUTH2 me secret",
        "T x 0 1000 AUTH2 me",
        "T x 0 soon",
        "T x first 1000",
        "T b 0 1000 KEYS b",
        "T E 0 0 KEYS b none x c",
        "T E 0 -5 REPLACE KEYS b c x",
        "T E 0 1000 KEYS",
        "S d 0 200",
        "S E 0 200 KEYS d e",
        "127.0.0.1 1 d 0 200",
        "nowhere.invalid 6379 d 0 200",
        "127.0.0.1 port d 0 200",
    ];
    let mut told = sources.each_ref().map(|_| Vec::new());
    for (source, told) in sources.iter().zip(&mut told) {
        let mut conn = source.connect();
        done(&mut target.connect(), &words("FLUSHALL"));
        done(&mut target.connect(), &words("SET x taken"));
        done(&mut conn, &words("MSET a 1 b 2 c 3 d 4 e 5 x 6"));
        for line in lines {
            let line = line
                .replace("T ", &format!("127.0.0.1 {port} "))
                .replace("S ", &format!("127.0.0.1 {silent} "));
            let argv = words(&format!("MIGRATE {line}")).into_iter();
            let argv: Vec<_> = argv
                .map(|w| if w == b"E" { Vec::new() } else { w })
                .collect();
            let reply = conn.call(&argv);
            told.push((line, reply, keys(&mut conn)));
        }
        // Between others, too.
        done(&mut conn, &words("MSET f 1 x 2"));
        for line in [
            "MULTI",
            "MIGRATE H f 0 500",
            "MIGRATE H x 0 500",
            "GET f",
            "EXEC",
        ] {
            let argv = words(&line.replace('H', &format!("127.0.0.1 {port}")));
            told.push((line.into(), conn.call(&argv), Vec::new()));
        }
        told.push(("there".into(), Value::Null, keys(&mut target.connect())));
    }
    let [ours, theirs] = told;
    for (ours, theirs) in ours.into_iter().zip(theirs) {
        assert_eq!(ours, theirs);
    }
}
