//! Debugging sessions of scripts: what is said in them, what remains of them, and who waits meanwhile.

use std::time::Duration;

use redstart::resp::value::Value;

use crate::node::{Conn, Node, both, our_program, wait_until};

const SCRIPT: &str = "\
local function half(n)
  return n / 2
end
redis.call('SET', KEYS[1], ARGV[1])
redis.debug('said', {1, x = {true}})
local v = redis.pcall('LPUSH', KEYS[1], 1)
redis.breakpoint()
local h = half(5)
return {h, redis.call('GET', KEYS[1])}
";

/// What is typed, in words.
const TYPED: &[&[&str]] = &[
    &["list"],
    &["step"],
    &["PRINT"],
    &["break", "8", "99", "x"],
    &["b"],
    &["s"],
    &["s"],
    &["print", "v"],
    &["print", "ARGV"],
    &["e", "KEYS[1]", "..", "'!'"],
    &["e", "y", "="],
    &["redis", "INCR", "n"],
    &["r", "nosuch"],
    &["maxlen", "3"],
    &[
        "r",
        "ECHO",
        "a reply that is much longer than it may be, since it goes on and on and on",
    ],
    &["trace"],
    &["help"],
    &["what"],
    &["c"],
    &["w"],
    &["b", "0"],
    &["c"],
    &["c"],
];

fn debug(conn: &mut Conn, mode: &str, script: &str) -> Value {
    assert_eq!(
        conn.call(&["SCRIPT", "DEBUG", mode]).as_bytes(),
        Some(&b"OK"[..])
    );
    conn.call(&["EVAL", script, "1", "key", "value"])
}

/// Addresses are everybody's own.
fn without_addresses(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(without_addresses).collect()),
        Value::Status(text) => {
            let text = String::from_utf8(text).unwrap();
            let end = text.find("@0x").unwrap_or(text.len());
            Value::Status(text[..end].into())
        }
        other => other,
    }
}

/// All that is said in a session with that typed, up to its end.
fn session(node: &Node, mode: &str) -> Vec<Value> {
    let mut conn = node.connect();
    let mut said = vec![debug(&mut conn, mode, SCRIPT)];
    for words in TYPED {
        conn.send(words);
        match conn.try_reply() {
            Some(value) => said.push(without_addresses(value)),
            None => return said,
        }
    }
    while let Some(value) = conn.try_reply() {
        said.push(value);
    }
    said
}

#[test]
fn a_debugger_says_what_redis_s_says() {
    let nodes = both(&[]);
    for mode in ["yes", "sync"] {
        let [ours, theirs] = [&nodes[0], &nodes[1]].map(|node| {
            let said = session(node, mode);
            let mut conn = node.connect();
            let kept = conn.call(&["MGET", "key", "n"]);
            conn.call(&["FLUSHALL"]);
            (said, kept)
        });
        for (ours, theirs) in ours.0.iter().zip(&theirs.0) {
            assert_eq!(ours, theirs, "{mode}");
        }
        assert_eq!(ours, theirs, "{mode}");
    }
    for (mode, script) in [("yes", "no script"), ("sync", "no script"), ("sync", "")] {
        let said = [&nodes[0], &nodes[1]].map(|node| {
            let mut conn = node.connect();
            let first = debug(&mut conn, mode, script);
            // (An empty one stops, too, and waits for what is typed.)
            conn.send(&["c"]);
            (first, conn.try_reply(), conn.try_reply())
        });
        assert_eq!(said[0], said[1], "{mode} {script}");
    }
}

#[test]
fn sessions_apart_see_their_own_data() {
    let server = Node::start(&our_program(), &[]);
    let mut other = server.connect();
    let script = "redis.call('INCRBY', 'n', 100)\nreturn redis.call('GET', 'n')";
    other.call(&["SET", "n", "1"]);
    let mut first = server.connect();
    debug(&mut first, "yes", script);
    // Everybody else is served, and another session may begin.
    assert_eq!(other.call(&["INCR", "n"]), Value::Int(2));
    let mut second = server.connect();
    debug(&mut second, "yes", script);
    // One that is abandoned ends by itself.
    let mut third = server.connect();
    debug(&mut third, "yes", script);
    drop(third);
    for (conn, value) in [(&mut second, "102"), (&mut first, "101")] {
        conn.call(&["c"]);
        assert_eq!(conn.reply().as_bytes(), Some(value.as_bytes()));
        assert_eq!(conn.try_reply(), None);
    }
    assert_eq!(other.call(&["GET", "n"]).as_bytes(), Some(&b"2"[..]));
    wait_until("all connections but one are gone", || {
        let clients = other.call(&["CLIENT", "LIST"]);
        clients.as_bytes().unwrap().split(|&b| b == b'\n').count() == 2
    });
}

#[test]
fn others_wait_for_a_session_in_place() {
    let server = Node::start(&our_program(), &[]);
    let script = "redis.call('SET', 'n', 1)\nredis.call('INCR', 'n')\nreturn 1";
    let mut conn = server.connect();
    debug(&mut conn, "sync", script);
    conn.call(&["s"]);
    let mut other = server.connect();
    let asks = std::thread::spawn(move || {
        let got = other.call(&["GET", "n"]);
        got.as_bytes().map(<[u8]>::to_vec)
    });
    std::thread::sleep(Duration::from_millis(50));
    assert!(!asks.is_finished());
    // Its debugger goes away: the script runs to its end.
    drop(conn);
    assert_eq!(asks.join().unwrap().as_deref(), Some(&b"2"[..]));
}
