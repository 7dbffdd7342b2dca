//! MIGRATE: keys on their way, and who waits for them.

use super::*;
use crate::exec::io::{Exchange, Stage};

const CONNECTING: &str = "-IOERR error or timeout connecting to the client\r\n";
const WRITING: &str = "-IOERR error or timeout writing to target instance\r\n";
const READING: &str = "-IOERR error or timeout reading to target instance\r\n";

/// A server with a client and the keys `a`, `b` and `c`.
fn start() -> (TestServer, Token) {
    let mut w = world_with(debuggable());
    let c = w.connect();
    assert_eq!(
        w.call(c, &["MSET", "a", "1", "b", "2", "c", "3"]),
        "+OK\r\n"
    );
    w.keep_log();
    (w, c)
}

/// Sends MIGRATE of `a` to database 9 with these words behind.
fn migrate(w: &mut TestServer, c: Token, more: &[&str]) {
    let argv = [&["MIGRATE", "there", "7000", "a", "9", "500"], more].concat();
    assert_eq!(w.call(c, &argv), "", "it waits");
}

/// The same of `a`, `b` and `c`.
fn migrate_all(w: &mut TestServer, c: Token) {
    let head = ["MIGRATE", "there", "7000", "", "9", "500", "KEYS"];
    assert_eq!(
        w.call(c, &[&head[..], &["a", "b", "none", "c"]].concat()),
        ""
    );
}

/// The other side takes the call; the link, and the words that it hears.
fn answer(w: &mut TestServer) -> (Token, String) {
    let (link, target) = w.dialled().expect("a link is to be connected");
    assert_eq!((target.host.as_str(), target.port), ("there", 7000));
    w.answer(link);
    (link, words(w, link))
}

/// The names and keys that the other side has heard.
fn words(w: &mut TestServer, link: Token) -> String {
    let text = String::from_utf8_lossy(&w.receive(link)).into_owned();
    let words = text.split("\r\n").filter(|word| {
        !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_graphic())
            && !word.starts_with(['*', '$'])
    });
    words.collect::<Vec<_>>().join(" ")
}

fn received(w: &mut TestServer, token: Token) -> String {
    String::from_utf8_lossy(&w.receive(token)).into_owned()
}

/// What was logged, in words.
fn logged(w: &mut TestServer) -> Vec<String> {
    let ops = w.logged().into_iter();
    ops.map(|(_, words)| String::from_utf8_lossy(&words.join(&b' ')).into_owned())
        .collect()
}

fn cached_links(w: &mut TestServer, c: Token) -> u8 {
    let info = w.call(c, &["INFO", "stats"]);
    let at = info.find("migrate_cached_sockets:").unwrap() + "migrate_cached_sockets:".len();
    info.as_bytes()[at] - b'0'
}

#[test]
fn who_names_a_key_on_its_way_waits_and_nobody_else() {
    let (mut w, c) = start();
    let waiting: Vec<Token> = (0..6).map(|_| w.connect()).collect();
    let free = w.connect();
    migrate(&mut w, c, &[]);
    let script: [&[&str]; 4] = [
        &["APPEND", "a", "x"],
        &["GET", "a"],
        &["FLUSHALL"],
        &["MGET", "b", "a"],
    ];
    for (&client, argv) in waiting.iter().zip(script) {
        assert_eq!(w.call(client, argv), "");
    }
    let [.., exec, other_db] = waiting[..] else {
        panic!()
    };
    assert_eq!(w.call(exec, &["MULTI"]), "+OK\r\n");
    assert_eq!(w.call(exec, &["SET", "d", "4"]), "+QUEUED\r\n");
    assert_eq!(w.call(exec, &["SET", "a", "4"]), "+QUEUED\r\n");
    assert_eq!(w.call(exec, &["EXEC"]), "");
    // MOVE and COPY reach across databases.
    assert_eq!(w.call(other_db, &["SELECT", "3"]), "+OK\r\n");
    assert_eq!(w.call(other_db, &["GET", "a"]), "");
    assert_eq!(w.call(free, &["GET", "b"]), "$1\r\n2\r\n");
    assert_eq!(w.call(free, &["DBSIZE"]), ":3\r\n");
    let (link, said) = answer(&mut w);
    assert_eq!(said, "SELECT 9 RESTORE a 0");
    w.send(link, b"+OK\r\n+");
    assert_eq!(received(&mut w, c), "");
    w.send(link, b"OK\r\n");
    assert_eq!(received(&mut w, c), "+OK\r\n");
    // Each in its turn: the first makes the key anew, and all is gone after the third.
    let replies = waiting.iter().map(|&client| received(&mut w, client));
    let replies: Vec<String> = replies.collect();
    let expected = [
        ":1\r\n",
        "$1\r\nx\r\n",
        "+OK\r\n",
        "*2\r\n$-1\r\n$-1\r\n",
        "*2\r\n+OK\r\n+OK\r\n",
        "$-1\r\n",
    ];
    assert_eq!(replies, expected);
    let log = [
        "DEL a",
        "APPEND a x",
        "FLUSHALL",
        "MULTI",
        "SET d 4",
        "SET a 4",
        "EXEC",
    ];
    assert_eq!(logged(&mut w), log);
}

#[test]
fn a_key_whose_time_ends_on_its_way_goes_behind_it() {
    for answers in [&b"+OK\r\n+OK\r\n"[..], b"+OK\r\n-ERR no room\r\n"] {
        let (mut w, c) = start();
        let reader = w.connect();
        w.call(c, &["PEXPIRE", "a", "200"]);
        w.logged();
        migrate(&mut w, c, &[]);
        let (link, _) = answer(&mut w);
        w.advance(ms(400));
        let seen = w.call(reader, &["SCAN", "0", "MATCH", "a"]);
        assert_eq!(seen, "*2\r\n$1\r\n0\r\n*0\r\n");
        assert_eq!(w.call(reader, &["DBSIZE"]), ":3\r\n");
        assert_eq!(logged(&mut w), [""; 0], "nobody knows yet where it is");
        w.send(link, answers);
        w.advance(ms(200));
        assert_eq!(w.call(reader, &["DBSIZE"]), ":2\r\n");
        assert_eq!(logged(&mut w), ["DEL a"]);
    }
}

#[test]
fn only_keys_that_were_taken_go() {
    let (mut w, c) = start();
    migrate_all(&mut w, c);
    let (link, said) = answer(&mut w);
    assert_eq!(said, "SELECT 9 RESTORE a 0 RESTORE b 0 RESTORE c 0");
    w.send(
        link,
        b"+OK\r\n+OK\r\n-BUSYKEY Target key name already exists.\r\n+OK\r\n",
    );
    let error =
        "-ERR Target instance replied with error: BUSYKEY Target key name already exists.\r\n";
    assert_eq!(received(&mut w, c), error);
    assert_eq!(w.call(c, &["EXISTS", "a", "b", "c"]), ":1\r\n");
    assert_eq!(logged(&mut w), ["DEL a c"]);
    // The same when it breaks off: what was not answered stays.
    w.call(c, &["MSET", "a", "1", "c", "3"]);
    migrate_all(&mut w, c);
    assert_eq!(
        words(&mut w, link),
        "SELECT 9 RESTORE a 0 RESTORE b 0 RESTORE c 0"
    );
    w.send(link, b"+OK\r\n+OK\r\n");
    w.hang_up(link);
    assert_eq!(received(&mut w, c), READING);
    assert_eq!(w.call(c, &["MGET", "a", "b"]), "*2\r\n$-1\r\n$1\r\n2\r\n");
    // A copy takes nothing away, and nobody waits for it.
    w.call(c, &["SET", "a", "1"]);
    w.logged();
    migrate(&mut w, c, &["COPY", "REPLACE"]);
    let (link, said) = answer(&mut w);
    assert_eq!(said, "SELECT 9 RESTORE a 0 REPLACE");
    let other = w.connect();
    assert_eq!(w.call(other, &["GET", "a"]), "$1\r\n1\r\n");
    w.send(link, b"+OK\r\n+OK\r\n");
    assert_eq!(received(&mut w, c), "+OK\r\n");
    assert_eq!(w.call(c, &["GET", "a"]), "$1\r\n1\r\n");
    assert!(w.logged().is_empty());
    assert_eq!(
        w.call(c, &["MIGRATE", "there", "7000", "none", "9", "500"]),
        "+NOKEY\r\n"
    );
}

#[test]
fn each_step_has_its_time_and_its_error() {
    let (mut w, c) = start();
    let other = w.connect();
    // Nobody takes the call.
    migrate(&mut w, c, &[]);
    assert_eq!(w.call(other, &["GET", "a"]), "");
    w.advance(ms(499));
    assert_eq!(received(&mut w, c), "");
    w.advance(ms(1));
    assert_eq!(received(&mut w, c), CONNECTING);
    assert_eq!(
        received(&mut w, other),
        "$1\r\n1\r\n",
        "nobody waits any more"
    );
    // It is refused, twice.
    migrate(&mut w, c, &[]);
    let (link, _) = w.dialled().unwrap();
    w.break_link(link, "Connection refused");
    assert_eq!(received(&mut w, c), "");
    let (link, _) = w.dialled().unwrap();
    w.break_link(link, "Connection refused");
    assert_eq!(received(&mut w, c), WRITING);
    // Nobody knows where that is.
    let nowhere = ["MIGRATE", "nowhere.invalid", "7000", "a", "9", "500"];
    assert_eq!(w.call(c, &nowhere), "");
    let (link, _) = w.dialled().unwrap();
    w.break_link(link, "Name or service not known");
    assert_eq!(received(&mut w, c), CONNECTING);
    // It is taken and not answered; an answer gives the next one its time.
    migrate(&mut w, c, &[]);
    let (link, _) = answer(&mut w);
    w.advance(ms(400));
    w.send(link, b"+OK\r\n");
    w.advance(ms(499));
    assert_eq!(received(&mut w, c), "");
    w.advance(ms(1));
    assert_eq!(received(&mut w, c), READING);
    assert!(!w.is_open(link));
    // It does not take what is said, and then does not speak our language.
    migrate(&mut w, c, &[]);
    let (link, _) = w.dialled().unwrap();
    w.clog(link);
    w.answer(link);
    w.advance(ms(500));
    assert_eq!(received(&mut w, c), WRITING);
    migrate(&mut w, c, &[]);
    let (link, _) = answer(&mut w);
    w.send(link, b"HTTP/1.1 400 Bad Request\r\n");
    let (link, _) = answer(&mut w);
    w.send(link, b"+OK\r\n$-1\r\n");
    assert_eq!(received(&mut w, c), READING);
    assert_eq!(w.call(c, &["GET", "a"]), "$1\r\n1\r\n");
    assert!(w.logged().is_empty());
    let errors = w.call(c, &["INFO", "errorstats"]);
    assert!(errors.contains("errorstat_IOERR:count=6\r\n"), "{errors}");
    let stats = w.call(c, &["INFO", "commandstats"]);
    assert!(stats.contains("cmdstat_migrate:calls=6,"), "{stats}");
    assert!(
        stats.contains("rejected_calls=0,failed_calls=6\r\n"),
        "{stats}"
    );
}

#[test]
fn links_are_kept_for_a_while_and_what_a_dead_one_missed_is_said_again() {
    let (mut w, c) = start();
    migrate(&mut w, c, &["AUTH2", "me", "secret"]);
    let (link, said) = answer(&mut w);
    assert_eq!(said, "AUTH me secret SELECT 9 RESTORE a 0");
    w.send(link, b"+OK\r\n+OK\r\n+OK\r\n");
    assert_eq!(received(&mut w, c), "+OK\r\n");
    assert_eq!(cached_links(&mut w, c), 1);
    w.call(c, &["SET", "a", "1"]);
    migrate(&mut w, c, &[]);
    assert_eq!(words(&mut w, link), "RESTORE a 0", "it knows the rest");
    // Dead after all, and the new one too: that was it.
    w.hang_up(link);
    let (link, said) = answer(&mut w);
    assert_eq!(said, "SELECT 9 RESTORE a 0");
    w.hang_up(link);
    assert_eq!(received(&mut w, c), READING);
    assert_eq!(cached_links(&mut w, c), 0);
    migrate(&mut w, c, &[]);
    let (link, _) = answer(&mut w);
    w.hang_up(link);
    let (link, _) = answer(&mut w);
    w.send(link, b"+OK\r\n+OK\r\n");
    assert_eq!(received(&mut w, c), "+OK\r\n");
    w.advance(ms(9_000));
    assert!(w.is_open(link));
    w.advance(ms(4_000));
    assert!(!w.is_open(link));
    assert_eq!(cached_links(&mut w, c), 0);
    // The slow log may show all but what is secret.
    w.call(c, &["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    w.call(c, &["SET", "a", "1"]);
    migrate(&mut w, c, &["AUTH", "secret"]);
    let (link, _) = answer(&mut w);
    w.send(link, b"-ERR wrong password\r\n+OK\r\n-NOAUTH\r\n");
    assert_eq!(
        received(&mut w, c),
        "-ERR Target instance replied with error: ERR wrong password\r\n"
    );
    let log = w.call(c, &["SLOWLOG", "GET"]);
    assert!(
        log.contains("AUTH\r\n$10\r\n(redacted)") && !log.contains("secret"),
        "{log}"
    );
}

#[test]
fn a_caller_that_goes_leaves_its_keys_on_their_way() {
    let (mut w, c) = start();
    let other = w.connect();
    migrate(&mut w, c, &[]);
    let (link, _) = answer(&mut w);
    let kill = ["CLIENT", "KILL", "TYPE", "normal"];
    assert_eq!(w.call(other, &kill), ":1\r\n");
    assert!(!w.is_open(c) && w.is_open(link));
    assert_eq!(w.call(other, &["GET", "a"]), "");
    // Its place is another's now.
    let third = w.connect();
    assert_eq!(third, c);
    w.send(link, b"+OK\r\n+OK\r\n");
    assert_eq!(received(&mut w, third), "");
    assert_eq!(received(&mut w, other), "$-1\r\n");
    assert_eq!(logged(&mut w), ["DEL a"]);
    // One that waits at the gate and goes has not run.
    migrate_one(&mut w, other, "b");
    assert_eq!(w.call(third, &["SET", "b", "x"]), "");
    w.hang_up(third);
    w.advance(ms(500));
    assert_eq!(
        w.call(other, &["GET", "b"]),
        format!("{READING}$1\r\n2\r\n")
    );
}

fn migrate_one(w: &mut TestServer, c: Token, key: &str) {
    assert_eq!(
        w.call(c, &["MIGRATE", "there", "7000", key, "9", "500"]),
        ""
    );
}

#[test]
fn what_is_not_what_was_sent_is_not_deleted() {
    let (mut w, c) = start();
    w.call(c, &["PEXPIRE", "b", "100"]);
    w.logged();
    migrate_all(&mut w, c);
    let (link, said) = answer(&mut w);
    assert!(said.contains("RESTORE b 100 "), "{said}");
    // One is replaced behind everybody's back, one is over before the answer comes.
    w.server
        .keys(0)
        .set(b"a", Value::from_text(b"new"), Ttl::Clear);
    w.advance(ms(200));
    w.send(link, b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n");
    assert_eq!(received(&mut w, c), "+OK\r\n");
    assert_eq!(
        w.call(c, &["MGET", "a", "b", "c"]),
        "*3\r\n$3\r\nnew\r\n$-1\r\n$-1\r\n"
    );
    assert_eq!(logged(&mut w), ["MULTI", "DEL b", "DEL c", "EXEC"]);
}

#[test]
fn a_key_on_its_way_is_not_evicted() {
    let (mut w, c) = start();
    migrate(&mut w, c, &[]);
    w.server.config.maxmemory = 1;
    w.server.config.maxmemory_policy = crate::config::MaxmemoryPolicy::AllkeysRandom;
    w.io().figures.used = 1 << 20;
    let other = w.connect();
    assert_eq!(w.call(other, &["DBSIZE"]), ":1\r\n");
    let (link, _) = answer(&mut w);
    w.send(link, b"+OK\r\n+OK\r\n");
    assert_eq!(received(&mut w, c), "+OK\r\n");
    assert_eq!(w.server.stats.evicted_keys, 2);
}

#[test]
fn a_large_value_is_packed_elsewhere() {
    let (mut w, c) = start();
    let value = "x".repeat(100_000);
    w.call(c, &["CONFIG", "SET", "rdbcompression", "no"]);
    w.call(c, &["SET", "a", &value]);
    w.hold_jobs();
    migrate(&mut w, c, &[]);
    let (link, said) = answer(&mut w);
    assert_eq!(said, "");
    // The other side does not wait for that yet.
    w.advance(ms(10_000));
    w.let_jobs_run();
    let request = received(&mut w, link);
    assert!(request.contains("$7\r\nRESTORE\r\n$1\r\na\r\n") && request.contains(&value));
    w.send(link, b"+OK\r\n+OK\r\n");
    assert_eq!(received(&mut w, c), "+OK\r\n");
    // Nobody took the call, and then it is packed.
    w.call(c, &["SET", "a", &value]);
    w.hold_jobs();
    migrate(&mut w, c, &["COPY"]);
    w.hang_up(link);
    w.advance(ms(500));
    assert_eq!(received(&mut w, c), CONNECTING);
    w.let_jobs_run();
    assert_eq!(w.call(c, &["STRLEN", "a"]), ":100000\r\n");
}

#[test]
fn inside_a_transaction_it_holds_the_loop() {
    let (mut w, c) = start();
    let answers = |lines: &[&str], broken| Exchange {
        lines: lines.iter().map(|line| line.as_bytes().to_vec()).collect(),
        broken,
        timed_out: false,
    };
    let answer_with = [
        answers(&["+OK", "+OK"], None),
        // Hung up on, and tried once more.
        answers(&[], Some(Stage::Reading)),
        answers(&["+OK", "-BUSYKEY it is"], None),
    ];
    w.io().answers.extend(answer_with);
    w.call(c, &["MULTI"]);
    for key in ["a", "b", "c", "none"] {
        w.call(c, &["MIGRATE", "there", "7000", key, "9", "500"]);
    }
    let replies = w.call(c, &["EXEC"]);
    let busy = "-ERR Target instance replied with error: BUSYKEY it is\r\n";
    assert_eq!(
        replies,
        format!("*4\r\n+OK\r\n{busy}{CONNECTING}+NOKEY\r\n")
    );
    assert_eq!(w.io().said.len(), 4);
    assert_eq!(w.call(c, &["EXISTS", "a", "b", "c"]), ":2\r\n");
    assert_eq!(logged(&mut w), ["DEL a"]);
}

#[test]
fn what_is_wrong_is_said_before_anything_is_done() {
    let (mut w, c) = start();
    let wrong: [(&[&str], &str); 7] = [
        (
            &["a", "x", "1"],
            "-ERR value is not an integer or out of range\r\n",
        ),
        (
            &["a", "0", "x"],
            "-ERR value is not an integer or out of range\r\n",
        ),
        (&["a", "0", "1", "AUTH"], "-ERR syntax error\r\n"),
        (&["a", "0", "1", "AUTH2", "me"], "-ERR syntax error\r\n"),
        (&["a", "0", "1", "MOVE"], "-ERR syntax error\r\n"),
        (&["", "0", "1", "KEYS"], "+NOKEY\r\n"),
        (
            &["a", "0", "1", "KEYS", "b"],
            "-ERR When using MIGRATE KEYS option, the key argument must be set to the empty string\r\n",
        ),
    ];
    for (argv, reply) in wrong {
        let argv = [&["MIGRATE", "there", "7000"], argv].concat();
        assert_eq!(w.call(c, &argv), reply, "{argv:?}");
    }
    assert_eq!(w.dialled(), None);
    let keys = [
        "COMMAND", "GETKEYS", "MIGRATE", "h", "1", "", "0", "1", "AUTH", "KEYS", "KEYS", "x", "y",
    ];
    assert_eq!(w.call(c, &keys), "*2\r\n$1\r\nx\r\n$1\r\ny\r\n");
}

#[test]
fn a_server_that_becomes_a_replica_sends_nothing_away() {
    let (mut w, c) = start();
    let [other, waiting] = [w.connect(), w.connect()];
    migrate_all(&mut w, c);
    let (link, _) = answer(&mut w);
    w.send(link, b"+OK\r\n+OK\r\n");
    assert_eq!(w.call(waiting, &["GET", "a"]), "");
    let replicaof = ["REPLICAOF", "there", "6379"];
    assert_eq!(w.call(other, &replicaof), "+OK\r\n");
    assert_eq!(received(&mut w, c), READING);
    assert_eq!(received(&mut w, waiting), "$1\r\n1\r\n");
    assert_eq!(w.call(c, &["EXISTS", "a", "b", "c"]), ":3\r\n");
    assert!(w.logged().is_empty() && !w.is_open(link));
}
