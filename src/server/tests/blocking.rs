//! Commands that wait: who is served, when, with what, and how it is logged.

use super::ms;
use crate::config::Config;
use crate::exec::conn::Token;
use crate::server::test_io::TestServer;

struct World {
    test: TestServer,
    clients: Vec<Token>,
}

impl World {
    /// A server with some clients; the last of them gives what the others wait for.
    fn new(clients: usize) -> World {
        let mut test = TestServer::new(Config::default());
        test.keep_log();
        let clients = (0..clients).map(|_| test.connect()).collect();
        World { test, clients }
    }

    /// What a client gets for these words, at once.
    fn call(&mut self, client: usize, words: &str) -> String {
        let words: Vec<&str> = words.split(' ').collect();
        let reply = self.test.call(self.clients[client], &words);
        reply.replace("\r\n", " ").trim_end().to_string()
    }

    /// What a client has got since.
    fn got(&mut self, client: usize) -> String {
        let reply = self.test.receive(self.clients[client]);
        let reply = String::from_utf8_lossy(&reply);
        reply.replace("\r\n", " ").trim_end().to_string()
    }

    #[track_caller]
    fn waits(&mut self, client: usize, words: &str) {
        assert_eq!(self.call(client, words), "", "{words} does not wait");
    }

    fn log(&mut self) -> Vec<String> {
        let ops = self.test.logged();
        let words = ops.iter().map(|(_, words)| words.join(&b' '));
        words.map(|op| String::from_utf8(op).unwrap()).collect()
    }
}

#[test]
fn those_who_wait_are_served_in_the_order_they_came() {
    let mut w = World::new(4);
    w.waits(0, "BLPOP k 0");
    w.waits(1, "BRPOP other k 0");
    w.waits(2, "BLMPOP 0 2 other k RIGHT COUNT 5");
    assert_eq!(w.call(3, "RPUSH k a b c d"), ":4");
    assert_eq!(w.got(0), "*2 $1 k $1 a");
    assert_eq!(w.got(1), "*2 $1 k $1 d");
    assert_eq!(w.got(2), "*2 $1 k *2 $1 c $1 b");
    assert_eq!(w.call(3, "EXISTS k"), ":0");
    assert_eq!(w.log(), ["RPUSH k a b c d", "LPOP k", "RPOP k", "RPOP k 2"]);
}

/// What stands when the transaction is over decides, not what was there in between.
#[test]
fn a_transaction_is_over_before_anyone_is_served() {
    let mut w = World::new(2);
    w.waits(0, "BLPOP k 0");
    for words in ["MULTI", "RPUSH k a", "DEL k", "EXEC"] {
        w.call(1, words);
    }
    assert_eq!(w.got(0), "");
    for words in ["MULTI", "LPUSH k a", "LPUSH k b", "BLPOP none 0", "EXEC"] {
        w.call(1, words);
    }
    assert_eq!(w.got(0), "*2 $1 k $1 b");
    w.log();
    for words in ["MULTI", "BLMOVE none k LEFT LEFT 0", "BLMPOP 0 1 none LEFT"] {
        w.call(1, words);
    }
    assert_eq!(w.call(1, "EXEC"), "*2 $-1 *-1");
}

#[test]
fn moves_wake_each_other() {
    let mut w = World::new(4);
    w.waits(0, "BLMOVE a b RIGHT LEFT 0");
    w.waits(1, "BRPOPLPUSH b c 0");
    w.waits(2, "BLPOP c 0");
    assert_eq!(w.call(3, "RPUSH a x"), ":1");
    assert_eq!((w.got(0), w.got(1)), ("$1 x".into(), "$1 x".into()));
    assert_eq!(w.got(2), "*2 $1 c $1 x");
    let log = [
        "RPUSH a x",
        "LMOVE a b RIGHT LEFT",
        "RPOPLPUSH b c",
        "LPOP c",
    ];
    assert_eq!(w.log(), log);
}

#[test]
fn who_cannot_take_it_fails_and_leaves_it_to_the_next() {
    let mut w = World::new(3);
    w.call(2, "SET string 1");
    w.waits(0, "BLMOVE k string LEFT LEFT 0");
    w.waits(1, "BLPOP k 0");
    w.call(2, "RPUSH k a");
    assert!(w.got(0).starts_with("-WRONGTYPE"));
    assert_eq!(w.got(1), "*2 $1 k $1 a");
    // A key of another type wakes nobody.
    w.waits(0, "BLPOP k 0");
    w.call(2, "SET k 1");
    assert_eq!(w.got(0), "");
    w.call(2, "RPUSH l a");
    w.call(2, "RENAME l k");
    assert_eq!(w.got(0), "*2 $1 k $1 a");
}

#[test]
fn a_wait_ends_on_time_even_if_it_was_woken_in_vain() {
    let mut w = World::new(3);
    w.waits(0, "BLPOP k 0");
    w.waits(1, "BLMOVE k l LEFT LEFT 0.3");
    w.test.advance(ms(200));
    w.call(2, "RPUSH k a");
    assert_eq!(w.got(0), "*2 $1 k $1 a");
    w.test.advance(ms(99));
    assert_eq!(w.got(1), "");
    w.test.advance(ms(1));
    // Not the plain null that it replies where it may not wait.
    assert_eq!(w.got(1), "*-1");
    w.call(1, "HELLO 3");
    w.waits(1, "BLPOP k l 0.001");
    w.test.advance(ms(1));
    assert_eq!(w.got(1), "_");
}

#[test]
fn waits_are_ended_by_others_and_by_hanging_up() {
    let mut w = World::new(4);
    let ids: Vec<String> = (0..3).map(|c| w.call(c, "CLIENT ID")).collect();
    w.waits(0, "BLPOP k 0");
    // A command behind it waits with it.
    w.waits(0, "LLEN k");
    w.waits(1, "BLMOVE k l LEFT LEFT 0");
    w.waits(2, "BRPOP k k 0");
    assert_eq!(w.call(3, &format!("CLIENT UNBLOCK {}", &ids[0][1..])), ":1");
    assert_eq!(w.got(0), "*-1 :0");
    let unblock = format!("CLIENT UNBLOCK {} ERROR", &ids[1][1..]);
    assert_eq!(w.call(3, &unblock), ":1");
    let error = "-UNBLOCKED client unblocked via CLIENT UNBLOCK";
    assert_eq!(w.got(1), error);
    assert_eq!(w.call(3, &unblock), ":0");
    w.test.hang_up(w.clients[2]);
    w.call(3, "RPUSH k a");
    assert_eq!(w.call(3, "LLEN k"), ":1");
    assert!(w.test.server.blocked.keys.is_empty());
}

/// Much may change while a command waits: it goes through the gate again.
#[test]
fn a_command_that_has_waited_is_judged_anew() {
    let mut w = World::new(3);
    w.test.io().figures.used = 1000;
    w.waits(0, "BLMOVE k l LEFT LEFT 0");
    w.waits(1, "BLPOP k 0");
    for words in ["MULTI", "RPUSH k a b", "CONFIG SET maxmemory 1", "EXEC"] {
        w.call(2, words);
    }
    assert!(w.got(0).starts_with("-OOM command not allowed"));
    assert_eq!(w.got(1), "*2 $1 k $1 a");
    w.call(2, "CONFIG SET maxmemory 0");
    w.call(2, "DEL k");
    w.waits(0, "BLPOP k 0");
    for words in ["MULTI", "RPUSH k a", "CLIENT PAUSE 100 WRITE", "EXEC"] {
        w.call(2, words);
    }
    assert_eq!(w.got(0), "");
    w.test.advance(ms(100));
    assert_eq!(w.got(0), "*2 $1 k $1 a");
}

#[test]
fn databases_that_are_exchanged_serve_those_who_wait_in_them() {
    let mut w = World::new(2);
    w.waits(0, "BLPOP k 0");
    w.call(1, "SELECT 1");
    w.call(1, "RPUSH k a");
    assert_eq!(w.got(0), "");
    w.call(1, "SWAPDB 0 1");
    assert_eq!(w.got(0), "*2 $1 k $1 a");
    w.waits(0, "BLPOP k 0");
    w.call(1, "RPUSH k b");
    w.call(1, "MOVE k 0");
    assert_eq!(w.got(0), "*2 $1 k $1 b");
}
