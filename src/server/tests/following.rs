//! A replica and a master that is a script.

use std::path::Path;

use super::*;
use crate::config::ReplDisklessLoad;
use crate::exec::io::Crash;
use crate::repl::replica::command;

const ID: &str = "0123456789abcdef0123456789abcdef01234567";
const MARK: &str = "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmme";
const EMPTY: &[&str] = &[];

/// A replica, a client of it, and its link to the master.
struct Play {
    w: TestServer,
    client: Token,
    link: Token,
}

/// The command as it is sent.
fn encoded(words: &str) -> Vec<u8> {
    let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
    command(&words)
}

/// All data of a server after these commands, as a file has it.
fn data_after(commands: &[&str]) -> Vec<u8> {
    let mut w = TestServer::new(config());
    let c = w.connect();
    for words in commands {
        w.call(c, &words.split(' ').collect::<Vec<_>>());
    }
    assert_eq!(w.call(c, &["SAVE"]), "+OK\r\n");
    w.io().disk.read(Path::new("/data/dump.rdb")).unwrap()
}

fn config() -> Config {
    Config {
        dir: "/data".into(),
        save: Vec::new(),
        enable_debug_command: crate::config::ProtectedAction::Yes,
        ..Config::default()
    }
}

impl Play {
    /// A replica that has asked its master for a sync.
    fn new(config: Config, commands: &[&str]) -> Play {
        let mut w = TestServer::new(config);
        let client = w.connect();
        let link = Token(usize::MAX);
        let mut play = Play { w, client, link };
        for words in commands {
            play.call(words);
        }
        // One that is told so at the start asks as soon as it may.
        assert!(play.call("REPLICAOF master 6379").starts_with("+OK"));
        play.w.advance(Duration::from_millis(100));
        play
    }

    fn call(&mut self, words: &str) -> String {
        let words: Vec<&str> = words.split(' ').collect();
        self.w.call(self.client, &words)
    }

    /// The master takes the connection, and hears what the replica asks for.
    fn greet(&mut self) -> String {
        for _ in 0..20 {
            // Some tries are made at once, others within a second.
            if self.w.dialled().is_none() {
                self.w.advance(Duration::from_millis(100));
            }
        }
        let (link, target) = self.w.dialled().expect("no link was opened");
        assert_eq!((&*target.host, target.port), ("master", 6379));
        self.link = link;
        self.w.answer(link);
        assert_eq!(self.heard(), "*1\r\n$4\r\nPING\r\n");
        self.say(b"+PONG\r\n");
        assert!(self.heard().contains("listening-port"));
        self.say(b"+OK\r\n+OK\r\n");
        self.heard()
    }

    fn say(&mut self, bytes: &[u8]) {
        self.w.send(self.link, bytes);
    }

    fn heard(&mut self) -> String {
        String::from_utf8_lossy(&self.w.receive(self.link)).into_owned()
    }

    /// Gives it all data, at this offset, and more behind it.
    fn give(&mut self, offset: u64, data: &[u8], behind: &[u8]) {
        self.say(format!("+FULLRESYNC {ID} {offset}\r\n").as_bytes());
        let head = format!("$EOF:{MARK}\r\n");
        self.say(&[head.as_bytes(), data, MARK.as_bytes(), behind].concat());
    }

    /// A replica that has these data of its master.
    fn synced(config: Config, commands: &[&str]) -> Play {
        let mut play = Play::new(config, EMPTY);
        assert!(play.greet().contains("PSYNC"));
        play.give(100, &data_after(commands), b"");
        assert_eq!(play.heard(), ack(100));
        play
    }

    fn info(&mut self, field: &str) -> String {
        let text = self.call("INFO everything");
        let value = |line: &str| Some(line.strip_prefix(field)?.strip_prefix(':')?.to_string());
        let found = text.lines().find_map(value);
        found.unwrap_or_else(|| panic!("no {field} in {text}"))
    }
}

fn ack(offset: u64) -> String {
    String::from_utf8(encoded(&format!("REPLCONF ACK {offset}"))).unwrap()
}

#[test]
fn a_full_sync_and_then_the_stream() {
    for way in [
        ReplDisklessLoad::Disabled,
        ReplDisklessLoad::OnEmptyDb,
        ReplDisklessLoad::Swapdb,
    ] {
        let config = Config {
            repl_diskless_load: way,
            ..config()
        };
        let mut play = Play::new(config, EMPTY);
        play.greet();
        assert_eq!(play.info("master_link_status"), "down");
        assert!(play.call("ROLE").contains("handshake"));
        let behind = [encoded("SELECT 3"), encoded("SET b 2")].concat();
        play.give(100, &data_after(&["SET a 1"]), &behind);
        assert_eq!(play.call("GET a"), "$1\r\n1\r\n", "{way:?}");
        assert_eq!(play.call("GET b"), "$-1\r\n");
        play.call("SELECT 3");
        assert_eq!(play.call("GET b"), "$1\r\n2\r\n");
        let offset = 100 + behind.len() as u64;
        assert!(
            play.call("ROLE")
                .ends_with(&format!("connected\r\n:{offset}\r\n"))
        );
        assert_eq!(play.info("master_replid"), ID);
        assert_eq!(play.info("master_repl_offset"), offset.to_string());
        assert_eq!(play.info("slave_read_repl_offset"), offset.to_string());
        // How far it is it says by itself, and when it is asked.
        play.heard();
        play.w.advance(Duration::from_millis(1100));
        assert_eq!(play.heard(), ack(offset));
        play.say(&encoded("REPLCONF GETACK *"));
        assert_eq!(play.heard(), ack(offset));
        let left = play.w.io().disk.names();
        let kept = left == [Path::new("/data/dump.rdb")];
        assert_eq!(kept, way == ReplDisklessLoad::Disabled, "{left:?}");
    }
}

#[test]
fn a_transaction_counts_when_it_is_through() {
    let mut play = Play::synced(config(), &["SET a 1"]);
    let begun = [encoded("MULTI"), encoded("SET a 2")].concat();
    play.say(&begun);
    assert_eq!(play.call("GET a"), "$1\r\n1\r\n");
    assert_eq!(play.info("slave_repl_offset"), "100");
    let read = 100 + begun.len();
    assert_eq!(play.info("slave_read_repl_offset"), read.to_string());
    // The link breaks: it is asked for again from before it.
    play.w.hang_up(play.link);
    assert_eq!(play.info("slave_read_repl_offset"), "100");
    let asked = play.greet();
    assert!(asked.contains(&format!("PSYNC\r\n$40\r\n{ID}\r\n$3\r\n101")));
    // More than one turn runs comes with the answer.
    let many = encoded("INCR many").repeat(2000);
    let whole = [begun, encoded("INCR a"), encoded("EXEC"), many].concat();
    play.say(&[&b"+CONTINUE\r\n"[..], &whole].concat());
    let offset = 100 + whole.len() as i64;
    assert_eq!(play.w.server.repl.history.offset(), offset);
    assert_eq!(play.call("GET a"), "$1\r\n3\r\n");
    assert_eq!(play.info("repl_backlog_histlen"), whole.len().to_string());
    assert!(!play.info("total_net_repl_input_bytes").is_empty());
}

#[test]
fn its_own_replicas_get_the_masters_bytes() {
    let mut play = Play::synced(config(), &["SET a 1"]);
    let below = play.w.connect();
    let from = format!("PSYNC {ID} 101");
    let words: Vec<&str> = from.split(' ').collect();
    assert_eq!(play.w.call(below, &words), "+CONTINUE\r\n");
    let stream = [
        encoded("SELECT 2"),
        b"\n".to_vec(),
        encoded("PING"),
        encoded("MULTI"),
        encoded("SET x 1"),
        encoded("LPUSH l a"),
        encoded("EXEC"),
    ]
    .concat();
    for byte in &stream {
        play.say(&[*byte]);
    }
    assert_eq!(play.w.receive(below), stream);
    // Nothing is said to the master, and nothing of ours gets into the stream.
    assert_eq!(play.heard(), "");
    play.w.advance(Duration::from_secs(30));
    assert_eq!(play.w.receive(below), b"");
    // Promoted, it goes on with a stream of its own, and who has all may follow.
    let offset = 100 + stream.len();
    assert_eq!(play.call("REPLICAOF NO ONE"), "+OK\r\n");
    assert!(!play.w.is_open(below), "it has to hear of the new ID");
    assert_eq!(play.info("role"), "master");
    assert_eq!(play.info("master_replid2"), ID);
    assert_eq!(play.info("second_repl_offset"), (offset + 1).to_string());
    let below = play.w.connect();
    let id = play.info("master_replid");
    let from = format!("PSYNC {ID} {}", offset + 1);
    let words = [&from, "x"].join(" ");
    let words: Vec<&str> = words.split(' ').take(3).collect();
    let said = play.w.call(below, &["REPLCONF", "capa", "psync2"]);
    assert_eq!(said, "+OK\r\n");
    assert_eq!(play.w.call(below, &words), format!("+CONTINUE {id}\r\n"));
    play.call("SET own 1");
    let own = [encoded("SELECT 0"), encoded("SET own 1")].concat();
    assert_eq!(play.w.receive(below), own);
}

#[test]
fn clients_of_a_replica_may_read() {
    let stale = Config {
        replica_serve_stale_data: false,
        ..config()
    };
    let mut play = Play::new(stale, &["SET old 1"]);
    let down =
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n";
    assert_eq!(play.call("GET old"), down);
    play.greet();
    play.w.hold_jobs();
    play.give(100, &data_after(&["SET a 1"]), b"");
    assert_eq!(play.info("loading"), "1");
    assert_eq!(play.call("PING"), down);
    play.w.let_jobs_run();
    assert_eq!(play.call("GET a"), "$1\r\n1\r\n");
    assert_eq!(play.call("GET old"), "$-1\r\n");
    let readonly = "-READONLY You can't write against a read only replica.\r\n";
    assert_eq!(play.call("SET a 2"), readonly);
    play.call("MULTI");
    assert_eq!(play.call("SET a 2"), readonly);
    assert!(play.call("EXEC").starts_with("-EXECABORT"));
    let hello = play.call("HELLO");
    assert!(hello.contains("role\r\n$7\r\nreplica\r\n"), "{hello}");
    assert!(
        play.call("WAIT 1 0")
            .starts_with("-ERR WAIT cannot be used")
    );
    assert!(play.call("CLIENT LIST TYPE master").contains(" flags=M "));
    assert_eq!(
        play.call("REPLICAOF MASTER 6379"),
        "+OK Already connected to specified master\r\n"
    );
    assert_eq!(
        play.call("CONFIG GET replicaof"),
        "*2\r\n$9\r\nreplicaof\r\n$11\r\nmaster 6379\r\n"
    );
}

#[test]
fn a_key_ends_when_the_master_says() {
    let mut play = Play::synced(config(), &["SET a 1"]);
    let at = play.w.server.now.ms() + 1000;
    play.say(&encoded(&format!("SET k 1 PXAT {at}")));
    play.say(&encoded("SET l 1"));
    play.w.advance(Duration::from_secs(5));
    assert_eq!(play.call("GET k"), "$-1\r\n");
    assert_eq!(play.call("DBSIZE"), ":3\r\n", "it is there all the same");
    assert_eq!(play.call("SCAN 0 MATCH k"), "*2\r\n$1\r\n0\r\n*0\r\n");
    // To the master it lives, and no past time ends a key.
    play.say(&encoded("INCR k"));
    play.say(&encoded(&format!("PEXPIREAT l {at}")));
    assert_eq!(play.call("DBSIZE"), ":3\r\n");
    play.say(&encoded("PERSIST k"));
    assert_eq!(play.call("GET k"), "$1\r\n2\r\n");
    play.say(&encoded("DEL l"));
    assert_eq!(play.call("DBSIZE"), ":2\r\n");
    // Once it is a master itself, it decides.
    play.say(&encoded(&format!("PEXPIREAT k {at}")));
    play.call("REPLICAOF NO ONE");
    play.w.advance(Duration::from_millis(200));
    assert_eq!(play.call("DBSIZE"), ":1\r\n");
}

#[test]
fn a_replica_that_takes_writes_looks_after_its_own_keys() {
    let writable = Config {
        replica_read_only: false,
        ..config()
    };
    let mut play = Play::synced(writable, &["SET a 1"]);
    let at = play.w.server.now.ms() + 500;
    play.say(&encoded(&format!("SET theirs 1 PXAT {at}")));
    play.call("SET ours 1 PX 500");
    play.call("SET often 1 PX 500");
    play.call("PERSIST often");
    assert_eq!(play.info("slave_expires_tracked_keys"), "2");
    play.w.advance(Duration::from_secs(1));
    assert_eq!(play.info("slave_expires_tracked_keys"), "0");
    assert_eq!(play.call("DBSIZE"), ":3\r\n", "but for ours");
    assert_eq!(play.call("GET theirs"), "$-1\r\n");
    // Whoever writes means the key that is not there.
    assert_eq!(play.call("SETNX theirs 2"), ":1\r\n");
    assert_eq!(play.call("GET theirs"), "$1\r\n2\r\n");
    assert_eq!(
        play.info("master_repl_offset"),
        play.info("slave_repl_offset")
    );
}

#[test]
fn a_master_without_data_is_refused() {
    for way in [ReplDisklessLoad::Disabled, ReplDisklessLoad::Swapdb] {
        let careful = Config {
            replica_refuse_empty_master: true,
            repl_diskless_load: way,
            ..config()
        };
        let mut play = Play::new(careful, &["SET precious 1"]);
        play.greet();
        play.give(0, &data_after(EMPTY), b"");
        assert_eq!(play.call("GET precious"), "$1\r\n1\r\n");
        assert_eq!(play.info("master_refused_empty"), "1");
        assert!(play.w.io().disk.names().is_empty());
        // It goes on trying, and takes what there is then.
        play.greet();
        play.give(7, &data_after(&["SET new 1"]), b"");
        assert_eq!(play.call("GET new"), "$1\r\n1\r\n");
        assert_eq!(play.call("GET precious"), "$-1\r\n");
        assert_eq!(play.info("master_link_status"), "up");
    }
}

#[test]
fn what_is_there_is_served_while_other_data_is_loaded_beside_it() {
    let swaps = Config {
        repl_diskless_load: ReplDisklessLoad::Swapdb,
        ..config()
    };
    let mut play = Play::synced(swaps, &["SET a 1"]);
    play.w.hang_up(play.link);
    assert!(play.greet().contains("101"));
    play.w.hold_jobs();
    play.give(500, &data_after(&["SET a 2"]), b"");
    assert_eq!(
        (play.info("loading"), play.info("async_loading")),
        ("0".into(), "1".into())
    );
    assert_eq!(
        play.call("GET a"),
        "$1\r\n1\r\n",
        "the same stream at another time"
    );
    assert!(play.call("REPLICAOF NO ONE").starts_with("-LOADING"));
    play.w.let_jobs_run();
    assert_eq!(play.call("GET a"), "$1\r\n2\r\n");
    assert_eq!(play.info("async_loading"), "0");
    // What breaks off changes nothing.
    play.w.hang_up(play.link);
    play.greet();
    let data = data_after(&["SET a 3"]);
    play.say(format!("+FULLRESYNC {ID} 600\r\n$EOF:{MARK}\r\n").as_bytes());
    play.say(&data[..data.len() / 2]);
    assert_eq!(play.info("master_sync_in_progress"), "1");
    play.w.hang_up(play.link);
    assert_eq!(play.call("GET a"), "$1\r\n2\r\n");
    assert!(play.greet().contains("501"), "it asks from where it was");
}

#[test]
fn a_sync_that_cannot_be_written_or_read_is_tried_again() {
    let mut play = Play::new(config(), &["SET old 1"]);
    for (what, data) in [
        ("cut short", &data_after(&["SET a 1"])[..30]),
        ("no data", b"what?"),
    ] {
        play.greet();
        play.give(5, data, b"");
        assert_eq!(play.info("loading"), "0", "{what}");
        assert_eq!(play.info("master_link_status"), "down");
        assert!(play.w.io().disk.names().is_empty());
    }
    // Every call of the disk may fail.
    for calls in 0.. {
        play.greet();
        play.w.io().disk.fail_after(calls, libc::ENOSPC);
        play.give(5, &data_after(&["SET a 1"]), b"");
        let has_failed = !play.w.io().disk.heal();
        let up = play.info("master_link_status") == "up";
        assert_eq!(up, !has_failed, "call {calls}");
        assert_eq!(play.info("loading"), "0");
        if up {
            assert!(calls > 4, "{calls}");
            break;
        }
    }
    assert_eq!(play.call("GET a"), "$1\r\n1\r\n");
    assert_eq!(play.w.io().disk.names(), [Path::new("/data/dump.rdb")]);
}

#[test]
fn a_command_that_fails_here_alone_may_be_the_end() {
    let strict = Config {
        propagation_error_behavior: crate::config::PropagationErrorBehavior::Panic,
        ..config()
    };
    let mut play = Play::synced(strict, &["SET a x"]);
    play.say(&encoded("INCR a"));
    assert_eq!(play.info("unexpected_error_replies"), "1");
    let why =
        "This replica panicked sending an error to its master after processing the command 'incr'";
    assert_eq!(play.w.io().crashes, [Crash::Stream(why.into())]);
    // One that is no command at all breaks the stream.
    play.say(b"INCR a\r\n");
    assert!(!play.w.is_open(play.link));
    assert!(play.greet().contains("$1\r\n?"));
}

#[test]
fn who_waits_is_sent_away_when_the_role_changes() {
    let mut w = TestServer::new(config());
    let (client, waiting) = (w.connect(), w.connect());
    w.call(waiting, &["BLPOP", "l", "0"]);
    w.call(client, &["REPLICAOF", "master", "6379"]);
    let told = String::from_utf8(w.receive(waiting)).unwrap();
    assert!(
        told.starts_with("-UNBLOCKED force unblock from blocking operation"),
        "{told}"
    );
    assert!(!w.is_open(waiting) && w.is_open(client));
}

/// A link that a command closed was lost when the loop came to it: a replica of a cluster with old data thought them young,
/// and took its master's place.
#[test]
fn a_link_is_down_from_when_it_was_closed() {
    let mut play = Play::synced(config(), &["SET a 1"]);
    for words in ["MULTI", "CLIENT KILL TYPE master", "DEBUG SLEEP 7", "EXEC"] {
        play.call(words);
    }
    assert_eq!(play.info("master_link_status"), "down");
    assert_eq!(play.info("master_link_down_since_seconds"), "7");
}

#[test]
fn a_pause_holds_the_stream_up_and_loses_nothing() {
    let mut play = Play::synced(config(), &["SET a 1"]);
    play.call("CLIENT PAUSE 1000 ALL");
    let stream = [encoded("INCR a"), encoded("INCR a")].concat();
    play.say(&stream);
    let offset = |play: &Play| play.w.server.repl.history.offset();
    assert_eq!(offset(&play), 100);
    play.w.advance(Duration::from_millis(1200));
    assert_eq!(play.call("GET a"), "$1\r\n3\r\n");
    assert_eq!(offset(&play), 100 + stream.len() as i64);
}

#[test]
fn after_a_restart_it_asks_from_where_its_file_is() {
    let followed = Config {
        replicaof: Some(crate::config::ReplicaOf {
            host: "master".into(),
            port: 6379,
        }),
        ..config()
    };
    let mut play = Play::synced(followed, &["SET a 1"]);
    play.say(&[encoded("SELECT 4"), encoded("SET a 2")].concat());
    assert_eq!(play.call("SAVE"), "+OK\r\n");
    let offset = play.w.server.repl.history.offset();
    play.w.restart().unwrap();
    play.client = play.w.connect();
    assert!(
        play.greet()
            .contains(&format!("{ID}\r\n$3\r\n{}", offset + 1))
    );
    play.say(&[&b"+CONTINUE\r\n"[..], &encoded("INCR a")].concat());
    play.call("SELECT 4");
    assert_eq!(play.call("GET a"), "$1\r\n3\r\n");
}

#[test]
fn a_master_hands_its_role_over() {
    let mut w = TestServer::new(config());
    let (client, below) = (w.connect(), w.connect());
    for (words, reply) in [
        ("FAILOVER", "-ERR FAILOVER requires connected replicas.\r\n"),
        ("FAILOVER ABORT", "-ERR No failover in progress.\r\n"),
        (
            "FAILOVER TIMEOUT 0",
            "-ERR FAILOVER timeout must be greater than 0\r\n",
        ),
        ("FAILOVER TO x", "-ERR syntax error\r\n"),
    ] {
        assert_eq!(w.call(client, &words.split(' ').collect::<Vec<_>>()), reply);
    }
    w.call(
        below,
        &[
            "REPLCONF",
            "listening-port",
            "7777",
            "ip-address",
            "10.0.0.7",
        ],
    );
    w.call(below, &["REPLCONF", "capa", "eof", "capa", "psync2"]);
    w.call(below, &["PSYNC", "?", "-1"]);
    w.advance(Duration::from_secs(8));
    let offset = |w: &TestServer| w.server.repl.history.offset().to_string();
    let ack = |w: &mut TestServer| {
        let offset = offset(w);
        w.call(below, &["REPLCONF", "ACK", &offset])
    };
    ack(&mut w);
    w.call(client, &["SET", "a", "1"]);
    let refused = w.call(client, &["FAILOVER", "TO", "10.0.0.8", "7777"]);
    assert_eq!(
        refused,
        "-ERR FAILOVER target HOST and PORT is not a replica.\r\n"
    );
    assert_eq!(
        w.call(client, &["FAILOVER", "TO", "10.0.0.7", "7777"]),
        "+OK\r\n"
    );
    let state = |w: &mut TestServer, state: &str| {
        let info = w.call(client, &["INFO", "replication"]);
        assert!(
            info.contains(&format!("master_failover_state:{state}\r\n")),
            "{info}"
        );
    };
    state(&mut w, "waiting-for-sync");
    // Writes wait meanwhile.
    let writer = w.connect();
    assert_eq!(w.call(writer, &["SET", "b", "1"]), "");
    assert!(
        w.call(client, &["REPLICAOF", "x", "1"])
            .starts_with("-ERR REPLICAOF not allowed")
    );
    w.advance(Duration::from_millis(300));
    state(&mut w, "waiting-for-sync");
    ack(&mut w);
    state(&mut w, "failover-in-progress");
    let (link, target) = w.dialled().unwrap();
    assert_eq!((&*target.host, target.port), ("10.0.0.7", 7777));
    w.answer(link);
    w.send(link, b"+PONG\r\n+OK\r\n+OK\r\n");
    let asked = String::from_utf8(w.receive(link)).unwrap();
    assert!(asked.ends_with("$8\r\nFAILOVER\r\n"), "{asked}");
    w.send(
        link,
        b"+CONTINUE 0123456789abcdef0123456789abcdef01234567\r\n",
    );
    state(&mut w, "no-failover");
    let told = String::from_utf8(w.receive(writer)).unwrap();
    assert!(told.starts_with("-READONLY"), "{told}");
    assert!(w.call(client, &["ROLE"]).contains("connected"));
}

#[test]
fn what_was_durable_of_another_stream_does_not_count_in_this_one() {
    let config = Config {
        appendonly: true,
        ..config()
    };
    let mut play = Play::new(config, EMPTY);
    play.greet();
    play.give(100, &data_after(&["SET a 1"]), b"");
    play.w.advance(Duration::from_secs(2));
    let told = play.heard();
    assert!(told.ends_with(&fack(100, 100)), "its base has it: {told}");
    play.w.hold_jobs();
    play.say(&encoded("SET a 2"));
    assert_eq!(play.info("aof_pending_bio_fsync"), "1");
    play.w.hang_up(play.link);
    play.greet();
    play.give(7, &data_after(&["SET a 3"]), b"");
    // What the old log had is synced when the new one has its base.
    while play.w.run_late_job() {}
    assert_eq!(play.call("GET a"), "$1\r\n3\r\n");
    play.heard();
    play.say(&encoded("REPLCONF GETACK *"));
    assert_eq!(play.heard(), fack(7, 7));
}

fn fack(offset: usize, durable: usize) -> String {
    let words = format!("REPLCONF ACK {offset} FACK {durable}");
    String::from_utf8(encoded(&words)).unwrap()
}
