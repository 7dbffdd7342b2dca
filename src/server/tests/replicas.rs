//! Replicas as connections that speak the protocol themselves.

use super::*;
use crate::config::Config;
use crate::rdb::{Decoder, Rules};

/// A server in a directory, which does not wait for more replicas to come.
fn master(config: Config) -> TestServer {
    TestServer::new(Config {
        dir: "/data".into(),
        repl_diskless_sync_delay: 0,
        enable_debug_command: crate::config::ProtectedAction::Yes,
        ..config
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A connection that has said what a modern replica says.
fn greet(w: &mut TestServer) -> Token {
    let replica = w.connect();
    let words = [
        "REPLCONF",
        "listening-port",
        "7000",
        "capa",
        "eof",
        "capa",
        "psync2",
    ];
    assert_eq!(w.call(replica, &words), "+OK\r\n");
    replica
}

/// Asks for all data; the ID, the offset, and what came behind the answer.
fn full_sync(w: &mut TestServer, replica: Token) -> (String, i64, Vec<u8>) {
    w.send(replica, b"PSYNC ? -1\r\n");
    w.turn();
    let all = w.receive(replica);
    let end = all.iter().position(|&b| b == b'\n').unwrap();
    let line = text(&all[..end - 1]);
    let words: Vec<&str> = line.split(' ').collect();
    let ["+FULLRESYNC", id, offset] = words[..] else {
        panic!("{line}");
    };
    (id.into(), offset.parse().unwrap(), all[end + 1..].to_vec())
}

/// The keys of a file.
fn keys(file: &[u8]) -> Vec<String> {
    let config = Config::default();
    let rules = Rules::new(&config, crate::ds::dict::HashKey::new(1, 2), 1 << 30, true);
    let mut decoder = Decoder::new(file, rules, true).unwrap();
    let mut keys = Vec::new();
    while let Some(item) = decoder.next().unwrap() {
        if let crate::rdb::Item::Key(key) = item {
            keys.push(text(key.key));
        }
    }
    keys.sort();
    keys
}

/// An operation as the stream has it.
fn op(words: &[&str]) -> String {
    let mut bytes = Vec::new();
    let argv: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
    crate::resp::command::encode(&argv, &mut bytes);
    text(&bytes)
}

fn ack(w: &mut TestServer, replica: Token, offset: i64) {
    let ack = op(&["REPLCONF", "ACK", &offset.to_string()]);
    w.send(replica, ack.as_bytes());
}

#[test]
fn all_data_then_silence_then_the_stream() {
    let mut w = master(Config::default());
    let client = w.connect();
    w.call(client, &["MSET", "a", "1", "b", "2"]);
    let replica = greet(&mut w);
    let (id, offset, data) = full_sync(&mut w, replica);
    assert_eq!(offset, 0);
    let mark = data[5..45].to_vec();
    assert!(data.starts_with(&[b"$EOF:", &mark[..], b"\r\nREDIS0011"].concat()));
    assert!(data.ends_with(&mark));
    assert_eq!(keys(&data[47..data.len() - 40]), ["a", "b"]);
    w.call(client, &["SELECT", "3"]);
    w.call(client, &["INCR", "n"]);
    assert_eq!(text(&w.receive(replica)), "", "it has yet to find the mark");
    ack(&mut w, replica, 0);
    let stream = op(&["SELECT", "3"]) + &op(&["INCR", "n"]);
    assert_eq!(text(&w.receive(replica)), stream);
    let line = "slave0:ip=127.0.0.1,port=7000,state=online,offset=0,lag=0\r\n";
    let info = w.call(client, &["INFO", "replication"]);
    assert!(info.contains(line), "{info}");
    // It may not speak on its link: a reply would stand in the middle of the stream.
    assert_eq!(w.call(replica, &["GET", "a"]), "");
    assert!(!w.is_open(replica));

    // It comes back, with all but the last command.
    w.call(client, &["INCR", "n"]);
    let replica = greet(&mut w);
    let from = op(&["SELECT", "3"]).len() + 1;
    let answer = w.call(replica, &["PSYNC", &id, &from.to_string()]);
    let rest = op(&["INCR", "n"]).repeat(2);
    assert_eq!(answer, format!("+CONTINUE {id}\r\n{rest}"));
    // A transaction is whole.
    w.send(client, b"MULTI\r\nSET x 1\r\nDEL x\r\nEXEC\r\n");
    let whole = [&["MULTI"][..], &["SET", "x", "1"], &["DEL", "x"], &["EXEC"]].map(op);
    assert_eq!(text(&w.receive(replica)), whole.concat());
}

#[test]
fn through_a_file_for_who_wants_no_stream() {
    let mut w = master(Config {
        repl_diskless_sync: false,
        rdb_del_sync_files: true,
        save: vec![],
        ..Config::default()
    });
    let client = w.connect();
    w.call(client, &["MSET", "a", "1", "b", "2"]);
    let [whole, filtered] = [(); 2].map(|()| greet(&mut w));
    w.call(whole, &["REPLCONF", "rdb-only", "1"]);
    w.call(filtered, &["REPLCONF", "rdb-filter-only", "functions"]);
    let (_, _, data) = full_sync(&mut w, whole);
    let end = data.iter().position(|&b| b == b'\n').unwrap() + 1;
    let len = format!("${}\r\n", data.len() - end);
    assert_eq!(text(&data[..end]), len);
    assert_eq!(keys(&data[end..]), ["a", "b"]);
    assert!(!w.is_open(whole), "it wanted no more");
    let file = std::path::Path::new("/data/dump.rdb");
    assert!(w.io().disk.read(file).is_some());
    w.advance(ms(1100));
    assert!(w.io().disk.read(file).is_none(), "nobody needs it any more");
    // What leaves something out never goes into the file.
    let (_, _, data) = full_sync(&mut w, filtered);
    assert_eq!(keys(&data[47..data.len() - 40]), Vec::<String>::new());
    assert_eq!(
        w.call(client, &["REPLCONF", "rdb-filter-only", "keys"]),
        "-ERR Unsupported rdb-filter-only option: keys\r\n"
    );
}

#[test]
fn a_snapshot_that_fails_makes_its_replicas_ask_again() {
    let mut w = master(Config {
        repl_diskless_sync: false,
        ..Config::default()
    });
    let replica = greet(&mut w);
    w.io().disk.fail_after(0, libc::ENOSPC);
    full_sync(&mut w, replica);
    w.turn();
    assert!(!w.is_open(replica));
    assert!(w.server.repl.master.replicas().is_empty());
}

/// A snapshot was promised that nobody took, and the file of a later save was sent in its place.
#[test]
fn who_asks_during_a_rewrite_of_the_log_waits_for_its_end() {
    let mut w = master(Config {
        appendonly: true,
        repl_diskless_sync: false,
        ..Config::default()
    });
    w.load().unwrap();
    w.turn();
    let client = w.connect();
    w.call(client, &["SET", "a", "1"]);
    w.hold_jobs();
    assert!(w.call(client, &["BGREWRITEAOF"]).starts_with('+'));
    let replica = greet(&mut w);
    w.send(replica, b"PSYNC ? -1\r\n");
    assert_eq!(text(&w.receive(replica)), "", "nothing is promised yet");
    w.call(client, &["SET", "b", "1"]);
    w.let_jobs_run();
    w.advance(ms(1100));
    let all = w.receive(replica);
    let offset = w.server.repl.history.offset();
    let promise = format!("+FULLRESYNC {} {offset}\r\n", w.server.repl.history.id());
    let at = all.iter().position(|&b| b == b'+').unwrap();
    assert!(text(&all[at..]).starts_with(&promise), "{}", text(&all));
    let data = all.windows(5).position(|w| w == b"REDIS").unwrap();
    assert_eq!(keys(&all[data..]), ["a", "b"]);
}

/// It was opened by a job, and by the time that one ran, the file of a later save had been sent in its place.
#[test]
fn a_replica_gets_the_file_that_it_was_promised() {
    let mut w = master(Config {
        repl_diskless_sync: false,
        ..Config::default()
    });
    let client = w.connect();
    w.call(client, &["SET", "a", "1"]);
    let replica = greet(&mut w);
    w.hold_jobs();
    w.send(replica, b"PSYNC ? -1\r\n");
    assert!(w.run_one_job(), "the save");
    w.call(client, &["SET", "b", "1"]);
    assert_eq!(w.call(client, &["SAVE"]), "+OK\r\n");
    w.let_jobs_run();
    let all = w.receive(replica);
    let data = all.windows(5).position(|w| w == b"REDIS").unwrap();
    assert_eq!(keys(&all[data..]), ["a"]);
}

/// The end of a snapshot, too little to hold up the rest, lay there for ever: nobody got another one.
#[test]
fn who_does_not_take_the_end_of_a_snapshot_does_not_hold_up_the_next() {
    let mut w = master(Config {
        repl_timeout: 10,
        ..Config::default()
    });
    let client = w.connect();
    w.call(client, &["SET", "a", "1"]);
    let gone = greet(&mut w);
    w.give_room(gone, 80);
    w.send(gone, b"PSYNC ? -1\r\n");
    let next = greet(&mut w);
    w.send(next, b"PSYNC ? -1\r\n");
    // It takes a little now and then.
    for _ in 0..2 {
        w.advance(ms(8000));
        assert!(w.is_open(gone));
        w.give_room(gone, 2);
        w.turn();
    }
    assert!(!text(&w.receive(next)).contains("FULLRESYNC"));
    w.advance(ms(13_000));
    assert!(!w.is_open(gone));
    assert!(text(&w.receive(next)).contains("FULLRESYNC"));
}

#[test]
fn clients_wait_for_replicas() {
    let mut w = master(Config::default());
    let [client, other] = [(); 2].map(|()| w.connect());
    let replica = greet(&mut w);
    full_sync(&mut w, replica);
    ack(&mut w, replica, 0);
    w.call(client, &["SET", "a", "1"]);
    w.receive(replica);
    assert_eq!(w.call(client, &["WAIT", "1", "0"]), "");
    // Who wrote nothing has nothing to wait for.
    assert_eq!(w.call(other, &["WAIT", "1", "0"]), ":1\r\n");
    let getack = op(&["REPLCONF", "GETACK", "*"]);
    assert_eq!(text(&w.receive(replica)), getack, "asked once");
    let written = w.server.conns.get(client).unwrap().written_to;
    ack(&mut w, replica, written - 1);
    assert_eq!(text(&w.receive(client)), "");
    ack(&mut w, replica, written);
    assert_eq!(text(&w.receive(client)), ":1\r\n");
    assert_eq!(w.call(client, &["WAIT", "2", "100"]), "");
    w.advance(ms(101));
    assert_eq!(text(&w.receive(client)), ":1\r\n");
    assert_eq!(w.call(client, &["WAITAOF", "0", "1", "100"]), "");
    let fack = written.to_string();
    w.call(replica, &["REPLCONF", "ACK", &fack, "FACK", &fack]);
    assert_eq!(text(&w.receive(client)), "*2\r\n:0\r\n:1\r\n");
    assert_eq!(
        w.call(client, &["WAITAOF", "1", "0", "0"]),
        "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n"
    );
    w.send(client, b"MULTI\r\nWAIT 7 0\r\nEXEC\r\n");
    assert!(text(&w.receive(client)).ends_with("*1\r\n:1\r\n"));
    assert_eq!(info(&mut w, other, "blocked_clients"), "0");
}

#[test]
fn writes_need_enough_good_replicas() {
    let mut w = master(Config {
        min_replicas_to_write: 1,
        repl_timeout: 1000,
        ..Config::default()
    });
    let client = w.connect();
    let refused = "-NOREPLICAS Not enough good replicas to write.\r\n";
    assert_eq!(w.call(client, &["SET", "a", "1"]), refused);
    let replica = greet(&mut w);
    full_sync(&mut w, replica);
    ack(&mut w, replica, 0);
    assert_eq!(w.call(client, &["SET", "a", "1"]), "+OK\r\n");
    assert_eq!(info(&mut w, client, "min_slaves_good_slaves"), "1");
    w.advance(ms(12_000));
    assert_eq!(w.call(client, &["SET", "a", "1"]), refused);
    assert_eq!(w.call(client, &["GET", "a"]), "$1\r\n1\r\n");
    w.call(client, &["CONFIG", "SET", "min-replicas-max-lag", "100"]);
    assert_eq!(w.call(client, &["SET", "a", "1"]), "+OK\r\n");
}

#[test]
fn a_shutdown_waits_until_replicas_have_all() {
    let mut w = master(Config::default());
    let [client, other] = [(); 2].map(|()| w.connect());
    let replica = greet(&mut w);
    full_sync(&mut w, replica);
    ack(&mut w, replica, 0);
    w.call(client, &["SET", "a", "1"]);
    assert_eq!(w.call(client, &["SHUTDOWN", "NOSAVE"]), "");
    assert_eq!(w.server.exiting, None);
    assert_eq!(w.call(other, &["SET", "a", "2"]), "", "held up");
    let admin = w.connect();
    assert_eq!(w.call(admin, &["GET", "a"]), "$1\r\n1\r\n");
    assert_eq!(w.call(admin, &["SHUTDOWN", "ABORT"]), "+OK\r\n");
    assert_eq!(
        text(&w.receive(client)),
        "-ERR Errors trying to SHUTDOWN. Check logs.\r\n"
    );
    assert_eq!(text(&w.receive(other)), "+OK\r\n");
    assert_eq!(w.call(admin, &["GET", "a"]), "$1\r\n2\r\n");
    w.call(client, &["SHUTDOWN", "NOSAVE"]);
    let offset = w.server.repl.history.offset();
    ack(&mut w, replica, offset);
    w.advance(ms(100));
    assert_eq!(w.server.exiting, Some(0));
}

#[test]
fn after_a_restart_replicas_go_on_and_hear_of_what_expired() {
    let mut w = master(Config::default());
    let client = w.connect();
    let replica = greet(&mut w);
    let (id, ..) = full_sync(&mut w, replica);
    w.call(client, &["SET", "stays", "1"]);
    w.call(client, &["SET", "goes", "1", "PX", "50"]);
    let offset = w.server.repl.history.offset();
    assert_eq!(w.call(client, &["SAVE"]), "+OK\r\n");
    w.io().clock.advance(ms(1000));
    w.restart().unwrap();
    w.turn();
    let replica = greet(&mut w);
    let from = (offset + 1).to_string();
    let answer = w.call(replica, &["PSYNC", &id, &from]);
    let new = w.server.repl.history.id().to_string();
    let del = op(&["SELECT", "0"]) + &op(&["DEL", "goes"]);
    assert_eq!(answer, format!("+CONTINUE {new}\r\n{del}"));
    assert_eq!(
        (w.server.stats.sync_partial_ok, w.server.stats.sync_full),
        (1, 0)
    );
}
