//! Scripts in real programs: what others see of a slow one, and where libraries of functions go.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod node;

use redstart::resp::value::Value;

use node::{Conn, Node, directory, info, ok, our_program, wait_until};

const LIBRARY: &str = "#!lua name=lib\nredis.register_function('put', function(keys, args) return redis.call('set', keys[1], args[1]) end)\nredis.register_function('spin', function() while true do end end)";
const BUSY: &str =
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";

fn error_of(reply: &Value) -> String {
    match reply {
        Value::Error(text) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("no error: {other:?}"),
    }
}

/// Waits until a script is slow: others are told so.
fn until_busy(conn: &mut Conn) {
    wait_until("a script is slow", || {
        matches!(conn.call(&["ECHO", "x"]), Value::Error(_))
    });
}

#[test]
fn others_are_answered_while_a_script_is_slow() {
    let options = ["--busy-reply-threshold", "50", "--appendonly", "yes"];
    let mut node = Node::start(&our_program(), &options);
    let [mut slow, mut other] = [(); 2].map(|()| node.connect());
    // Catching the error of its end does not help it.
    slow.send(&[
        "EVAL",
        "while true do pcall(function() while true do end end) end",
        "0",
    ]);
    slow.send(&["ECHO", "behind"]);
    until_busy(&mut other);
    assert_eq!(error_of(&other.call(&["GET", "k"])), BUSY);
    assert_eq!(error_of(&other.call(&["FUNCTION", "KILL"])), BUSY);
    // Also those who come now.
    assert_eq!(error_of(&node.connect().call(&["PING"])), BUSY);
    ok(&other.call(&["SCRIPT", "KILL"]));
    let end = error_of(&slow.reply());
    assert!(
        end.starts_with("ERR Script killed by user with SCRIPT KILL..."),
        "{end}"
    );
    assert_eq!(slow.reply().as_bytes(), Some(&b"behind"[..]));

    // A function, and what is told of it.
    slow.call(&["FUNCTION", "LOAD", LIBRARY]);
    slow.send(&["FCALL", "spin", "0"]);
    until_busy(&mut other);
    let Value::Array(stats) = other.call(&["FUNCTION", "STATS"]) else {
        panic!("no stats");
    };
    let spin = Value::Bulk(b"spin".to_vec());
    let told = |v: &Value| matches!(v, Value::Array(items) if items.contains(&spin));
    assert!(stats.iter().any(told), "{stats:?}");
    ok(&other.call(&["FUNCTION", "KILL"]));
    error_of(&slow.reply());

    // One that has written runs on, unless the server ends, and then its half is in no file.
    slow.send(&[
        "EVAL",
        "redis.call('set', 'half', 1) while true do end",
        "0",
    ]);
    until_busy(&mut other);
    assert!(error_of(&other.call(&["SCRIPT", "KILL"])).starts_with("UNKILLABLE"));
    other.send(&["SHUTDOWN", "NOSAVE"]);
    assert_eq!(node.wait(), Some(0));
    assert!(
        node.log()
            .contains("Slow script detected: still in execution after")
    );
    let again = Node::start_in(node.dir.clone(), &our_program(), &options);
    let mut conn = again.connect();
    wait_until("the log is loaded", || info(&mut conn, "loading") == "0");
    assert_eq!(conn.call(&["EXISTS", "half"]), Value::Int(0));
    assert_eq!(info(&mut conn, "number_of_libraries"), "1");
}

/// Time stands still for a script, until others are seen to: one that waited for a time never ended.
#[test]
fn a_slow_script_sees_a_time_come() {
    let node = Node::start(&our_program(), &["--busy-reply-threshold", "50"]);
    let mut conn = node.connect();
    let waits = "local function ms()
            local t = redis.call('TIME')
            return t[1] * 1000 + math.floor(t[2] / 1000)
        end
        local start = ms()
        redis.call('SET', 'k', 'v', 'PX', '20')
        while ms() < start + 30 do end
        return { redis.call('PTTL', 'k'), redis.call('GET', 'k') }";
    let reply = conn.call(&["EVAL", waits, "0"]);
    // The key's time stood still all the same.
    let still = Value::Array(vec![Value::Int(20), Value::Bulk(b"v".to_vec())]);
    assert_eq!(reply, still);
    assert_eq!(conn.call(&["EXISTS", "k"]), Value::Int(0));
}

/// Each call was rounded down to whole microseconds, and those that are shorter counted for nothing.
#[test]
fn the_time_of_short_calls_adds_up() {
    let node = Node::start(&our_program(), &[]);
    let mut conn = node.connect();
    let calls = "for _ = 1, 100000 do redis.call('EXISTS', 'k') end";
    conn.call(&["EVAL", calls, "0"]);
    let told = info(&mut conn, "cmdstat_exists");
    let us = told.split(['=', ',']).nth(3).and_then(|n| n.parse().ok());
    assert!(us > Some(1000), "{told}");
}

#[test]
fn libraries_go_where_the_data_go() {
    let dir = directory();
    let options = ["--repl-diskless-sync-delay", "0"];
    let mut master = Node::start_in(dir.clone(), &our_program(), &options);
    let mut conn = master.connect();
    conn.call(&["FUNCTION", "LOAD", LIBRARY]);
    let dump = conn.call(&["FUNCTION", "DUMP"]);
    let replica = Node::start(&our_program(), &options);
    let mut theirs = replica.connect();
    theirs.call(&[
        "FUNCTION",
        "LOAD",
        "#!lua name=gone\nredis.register_function('gone', function() end)",
    ]);
    ok(&theirs.call(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]));
    let same = |conn: &mut Conn, theirs: &mut Conn| {
        wait_until("the libraries are the same", || {
            let dump = conn.call(&["FUNCTION", "DUMP"]);
            theirs.call(&["FUNCTION", "DUMP"]) == dump
        });
    };
    same(&mut conn, &mut theirs);
    let more = LIBRARY
        .replace("put", "put2")
        .replace("spin", "spin2")
        .replace("=lib", "=more");
    conn.call(&["FUNCTION", "LOAD", &more]);
    ok(&conn.call(&["FCALL", "put2", "1", "k", "v"]));
    same(&mut conn, &mut theirs);
    ok(&conn.call(&["FUNCTION", "DELETE", "more"]));
    same(&mut conn, &mut theirs);
    wait_until("the key is there", || {
        theirs.call(&["GET", "k"]).as_bytes() == Some(&b"v"[..])
    });

    ok(&conn.call(&["SAVE"]));
    master.kill();
    let again = Node::start_in(dir, &our_program(), &options);
    let mut conn = again.connect();
    wait_until("the file is loaded", || info(&mut conn, "loading") == "0");
    assert_eq!(conn.call(&["FUNCTION", "DUMP"]), dump);
    // As commands, and as an RDB file in front of a log.
    for preamble in ["no", "yes"] {
        ok(&conn.call(&[
            "CONFIG",
            "SET",
            "aof-use-rdb-preamble",
            preamble,
            "appendonly",
            "yes",
        ]));
        conn.call(&["BGREWRITEAOF"]);
        wait_until("the log is written", || {
            info(&mut conn, "aof_rewrite_in_progress") == "0"
                && info(&mut conn, "aof_rewrite_scheduled") == "0"
        });
        ok(&conn.call(&["DEBUG", "LOADAOF"]));
        assert_eq!(conn.call(&["FUNCTION", "DUMP"]), dump);
    }
}
