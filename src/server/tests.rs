//! A whole server, driven without a socket, a thread or a clock.

mod blocking;
mod corrupt;
mod defrag;
mod following;
mod links;
mod migrate;
mod redirect;
mod replicas;
mod rewrite;
mod scripting;

use std::time::Duration;

use crate::admin;
use crate::cmd::fault::{Block, CmdResult, DONE, Flow, OnTimeout};
use crate::cmd::keys::Ttl;
use crate::cmd::spec::{Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{self, Args, Ctx};
use crate::config::Config;
use crate::exec::conn::Token;
use crate::exec::io::Crash;
use crate::exec::table::{Run, Table};
use crate::object::{Type, Value};
use crate::server::test_io::{BEGINNING_US, TestServer};

const BEGINNING_MS: u64 = BEGINNING_US / 1000;

/// TAKE key timeout_ms: replies the string and deletes the key, or waits for it.
fn take(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.next()?;
    let timeout_ms = args.next_i64()? as u64;
    if let Some(text) = cx.keys.read_str(key)? {
        cx.reply.bulk(&text.to_vec());
        cx.keys.remove(key);
        cx.changed(key, 1);
        return DONE;
    }
    Ok(Flow::Block(Box::new(Block {
        keys: vec![key.into()],
        waits_for: Type::String,
        deadline: (timeout_ms > 0).then(|| cx.now_ms() + timeout_ms),
        on_timeout: OnTimeout::NullArray,
        wake_on_delete: false,
    })))
}

/// PUT key value
fn put(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, value) = args.two()?;
    cx.keys.set(key, Value::from_text(value), Ttl::Clear);
    cx.changed(key, 1);
    cx.reply.ok();
    DONE
}

/// A server with the commands above and all others.
fn world() -> TestServer {
    world_with(Config::default())
}

fn world_with(config: Config) -> TestServer {
    const KEY: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RW)];
    let flags = Flags::WRITE.or(Flags::BLOCKING);
    let take = Spec::new("take", 3, Group::String)
        .flags(flags)
        .keys(KEY)
        .run(take as cmd::DataFn);
    let put = Spec::new("put", 3, Group::String)
        .flags(Flags::WRITE)
        .keys(KEY)
        .run(put as cmd::DataFn);
    let data = cmd::rows().copied().chain([take, put]);
    let data = data.map(|r| (r.spec, r.run.map_or(Run::Container, Run::Data)));
    let server = admin::rows().map(|r| (r.spec, r.run.map_or(Run::Container, Run::Server)));
    TestServer::with_table(config, Table::build(data.chain(server)))
}

/// A configuration that allows DEBUG to local clients.
fn debuggable() -> Config {
    Config {
        enable_debug_command: crate::config::ProtectedAction::Local,
        ..Config::default()
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The value of a field of INFO.
fn info(world: &mut TestServer, client: Token, field: &str) -> String {
    let text = world.call(client, &["INFO", "everything"]);
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field}")).to_string()
}

#[test]
fn bytes_in_bytes_out_however_they_are_cut() {
    let requests =
        b"PUT a 1\r\n*3\r\n$3\r\nPUT\r\n$1\r\nb\r\n$1\r\n2\r\n*1\r\n$6\r\nDBSIZE\r\nnosuch x\r\n";
    let replies =
        "+OK\r\n+OK\r\n:2\r\n-ERR unknown command 'nosuch', with args beginning with: 'x' \r\n";
    for cut in 0..requests.len() {
        let mut world = world();
        let client = world.connect();
        world.send(client, &requests[..cut]);
        let mut all = world.receive(client);
        world.send(client, &requests[cut..]);
        all.extend(world.receive(client));
        assert_eq!(String::from_utf8_lossy(&all), replies, "cut at {cut}");
    }
}

#[test]
fn a_big_argument_arrives_whole() {
    let mut world = world();
    let client = world.connect();
    let value = "x".repeat(100_000);
    let head = format!("*3\r\n$3\r\nPUT\r\n$1\r\nk\r\n${}\r\n", value.len());
    world.send(client, head.as_bytes());
    for part in value.as_bytes().chunks(30_000) {
        assert!(world.receive(client).is_empty());
        world.send(client, part);
    }
    world.send(client, b"\r\nDBSIZE\r\n");
    assert_eq!(world.receive(client), b"+OK\r\n:1\r\n");
    assert_eq!(
        world.call(client, &["take", "k", "0"]).len(),
        value.len() + 11
    );
}

#[test]
fn the_query_buffer_limit_is_for_what_is_no_argument_yet() {
    let mut world = world_with(Config {
        client_query_buffer_limit: 1 << 20,
        ..Config::default()
    });
    let client = world.connect();
    // Ten times the limit, but no argument is longer: small ones, and some that get a buffer of their own.
    for (count, len) in [(1000, 10_000), (20, 500_000)] {
        let name = format!("${len}\r\n{}\r\n", "x".repeat(len)).repeat(count);
        let request = format!("*{}\r\n$6\r\nEXISTS\r\n{name}", count + 1);
        for part in request.as_bytes().chunks(16 * 1024) {
            world.send(client, part);
        }
        assert_eq!(world.receive(client), b":0\r\n");
    }
    world.send(
        client,
        format!("*2\r\n$6\r\nEXISTS\r\n${}\r\n", 1 << 20).as_bytes(),
    );
    assert!(!world.is_open(client));
}

#[test]
fn keys_expire_on_time_though_nobody_looks() {
    let mut world = world();
    let client = world.connect();
    for n in 0..100u64 {
        let key = format!("k{n}");
        let at = Ttl::At(BEGINNING_MS + 10 * n);
        world.server.keys(0).set(key.as_bytes(), Value::Int(1), at);
    }
    world
        .server
        .keys(0)
        .set(b"stays", Value::Int(1), Ttl::Clear);
    assert_eq!(world.call(client, &["DBSIZE"]), ":101\r\n");
    world.advance(ms(500));
    let left: u64 = world.call(client, &["DBSIZE"])[1..].trim().parse().unwrap();
    assert!((50..=62).contains(&left), "{left}");
    world.advance(ms(1500));
    assert_eq!(world.call(client, &["DBSIZE"]), ":1\r\n");
    assert_eq!(info(&mut world, client, "expired_keys"), "100");
}

#[test]
fn a_blocked_command_gives_up_on_time() {
    let mut world = world();
    let client = world.connect();
    assert_eq!(world.call(client, &["TAKE", "k", "300"]), "");
    // What follows waits with it.
    assert_eq!(world.call(client, &["DBSIZE"]), "");
    let other = world.connect();
    assert_eq!(info(&mut world, other, "blocked_clients"), "1");
    assert_eq!(info(&mut world, other, "clients_in_timeout_table"), "1");
    world.advance(ms(299));
    assert_eq!(world.receive(client), b"");
    world.advance(ms(1));
    assert_eq!(world.receive(client), b"*-1\r\n:0\r\n");
    assert_eq!(info(&mut world, other, "blocked_clients"), "0");
}

#[test]
fn a_key_wakes_those_who_wait_oldest_first() {
    let mut world = world();
    let [first, second, giver] = [(); 3].map(|()| world.connect());
    world.call(first, &["TAKE", "k", "0"]);
    world.call(second, &["TAKE", "k", "0"]);
    assert_eq!(world.call(giver, &["PUT", "k", "one"]), "+OK\r\n");
    assert_eq!(world.receive(first), b"$3\r\none\r\n");
    assert_eq!(world.receive(second), b"");
    world.hang_up(first);
    assert!(!world.is_open(first));
    assert_eq!(world.call(giver, &["PUT", "k", "two"]), "+OK\r\n");
    assert_eq!(world.receive(second), b"$3\r\ntwo\r\n");
    assert_eq!(world.call(giver, &["DBSIZE"]), ":0\r\n");
}

#[test]
fn a_pause_holds_commands_until_it_is_over() {
    let mut world = world();
    let client = world.connect();
    let admin = world.connect();
    assert_eq!(world.call(admin, &["CLIENT", "PAUSE", "200"]), "+OK\r\n");
    assert_eq!(world.call(client, &["PUT", "k", "1"]), "");
    world.advance(ms(199));
    assert_eq!(world.receive(client), b"");
    world.advance(ms(1));
    assert_eq!(world.receive(client), b"+OK\r\n");
    assert_eq!(world.call(client, &["DBSIZE"]), ":1\r\n");
}

#[test]
fn nothing_runs_after_a_shutdown() {
    let mut world = world();
    let [client, other] = [(); 2].map(|()| world.connect());
    world.send(client, b"PUT k 1\r\nSHUTDOWN NOSAVE\r\nPUT k 2\r\n");
    assert_eq!(world.server.exiting, Some(0));
    assert_eq!(world.receive(client), b"+OK\r\n");
    assert_eq!(world.call(other, &["PUT", "k", "3"]), "");
    assert_eq!(
        world
            .server
            .keys(0)
            .read_str(b"k")
            .unwrap()
            .unwrap()
            .to_vec(),
        b"1"
    );
}

#[test]
fn shutdown_refuses_what_it_cannot_do() {
    let mut world = world();
    let client = world.connect();
    world.io().disk.fail_after(0, libc::EROFS);
    for (words, reply) in [
        (&["SAVE", "NOSAVE"][..], "-ERR syntax error\r\n"),
        (&["ABORT", "NOW"], "-ERR syntax error\r\n"),
        (&["x"], "-ERR syntax error\r\n"),
        (&["ABORT"], "-ERR No shutdown in progress.\r\n"),
        (&["SAVE"], "-ERR Errors trying to SHUTDOWN. Check logs.\r\n"),
    ] {
        let argv = [&["SHUTDOWN"], words].concat();
        assert_eq!(world.call(client, &argv), reply, "{words:?}");
    }
    // A signal that was not acted on yet can be called off.
    world.io().signalled = true;
    assert_eq!(world.call(client, &["SHUTDOWN", "ABORT"]), "+OK\r\n");
    assert!(!world.io().signalled);
    assert_eq!(world.server.exiting, None);
    assert_eq!(world.call(client, &["SHUTDOWN", "SAVE", "FORCE"]), "");
    assert!(world.server.exiting.is_some());
}

#[test]
fn a_flush_gives_the_keys_to_the_freeing_thread_and_tells_who_watches() {
    let mut world = world_with(debuggable());
    let client = world.connect();
    world.call(client, &["DEBUG", "POPULATE", "1000"]);
    world.server.watch.watch(77, 0, b"key:5", false);
    world.server.watch.watch(78, 0, b"absent", false);
    world.keep_log();
    assert_eq!(
        world.call(client, &["FLUSHALL", "SYNC", "x"]),
        "-ERR syntax error\r\n"
    );
    assert_eq!(world.call(client, &["FLUSHDB", "ASYNC"]), "+OK\r\n");
    assert_eq!(world.call(client, &["DBSIZE"]), ":0\r\n");
    assert!(world.server.watch.is_dirty(77) && !world.server.watch.is_dirty(78));
    assert_eq!(world.server.stats.lazyfreed, 1000);
    assert_eq!(world.server.dirty, 1000);
    // An empty one is logged as well: replicas may hold what we do not.
    world.call(client, &["FLUSHALL"]);
    let logged = world
        .logged()
        .into_iter()
        .map(|(_, words)| words[0].clone());
    assert_eq!(logged.collect::<Vec<_>>(), [&b"FLUSHDB"[..], b"FLUSHALL"]);
}

#[test]
fn what_counts_as_freed_lazily_is_what_redis_would_leave_to_its_thread() {
    let mut world = TestServer::new(Config::default());
    let client = world.connect();
    let numbers: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    for (words, counted) in [
        (vec!["LTRIM", "list", "0", "9"], 0),
        (vec!["DEL", "set"], 0),
        (vec!["UNLINK", "zset", "list"], 1),
        (vec!["FLUSHALL", "SYNC"], 0),
        (vec!["CONFIG", "SET", "lazyfree-lazy-user-del", "yes"], 0),
        (vec!["DEL", "set", "zset"], 2),
        (vec!["SET", "zset", "x"], 0),
        (vec!["CONFIG", "SET", "lazyfree-lazy-server-del", "yes"], 0),
        (vec!["SET", "set", "x"], 1),
    ] {
        let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
        let pairs: Vec<&str> = numbers.iter().flat_map(|n| [*n, *n]).collect();
        world.call(client, &[&["RPUSH", "list"], &numbers[..]].concat());
        world.call(client, &[&["SADD", "set", "a"], &numbers[..]].concat());
        world.call(client, &[&["ZADD", "zset"], &pairs[..]].concat());
        world.call(client, &["CONFIG", "RESETSTAT"]);
        world.call(client, &words);
        assert_eq!(world.server.stats.lazyfreed, counted, "{words:?}");
        world.call(client, &["DEL", "set", "zset", "list"]);
    }
}

#[test]
fn exchanged_databases_serve_those_who_wait() {
    let mut world = world();
    let [client, waiting] = [(); 2].map(|()| world.connect());
    world.call(waiting, &["TAKE", "k", "0"]);
    world
        .server
        .keys(1)
        .set(b"k", Value::Bytes(b"from one"), Ttl::Clear);
    world.server.watch.watch(77, 0, b"k", false);
    for (a, b, error) in [
        ("x", "1", "invalid first DB index"),
        ("0", "99999999999", "invalid second DB index"),
        ("0", "16", "DB index is out of range"),
    ] {
        assert_eq!(
            world.call(client, &["SWAPDB", a, b]),
            format!("-ERR {error}\r\n")
        );
    }
    assert_eq!(world.call(client, &["SWAPDB", "0", "1"]), "+OK\r\n");
    assert_eq!(world.receive(waiting), b"$8\r\nfrom one\r\n");
    assert!(world.server.watch.is_dirty(77));
}

#[test]
fn debug_acts_on_the_world_through_the_second_door() {
    let mut world = world_with(Config {
        latency_monitor_threshold: 100,
        ..debuggable()
    });
    let client = world.connect();
    assert_eq!(world.call(client, &["DEBUG", "SLEEP", "0.25"]), "+OK\r\n");
    let latest = format!(
        "*4\r\n$7\r\ncommand\r\n:{}\r\n:250\r\n:250\r\n",
        BEGINNING_MS / 1000
    );
    assert_eq!(
        world.call(client, &["LATENCY", "LATEST"]),
        format!("*1\r\n{latest}")
    );
    let slow = world.call(client, &["SLOWLOG", "GET"]);
    assert!(
        slow.contains(":250000\r\n*3\r\n$5\r\nDEBUG\r\n$5\r\nSLEEP\r\n"),
        "{slow}"
    );
    world.call(client, &["DEBUG", "PANIC"]);
    world.call(client, &["DEBUG", "RESTART", "5"]);
    let restart = Crash::Restart {
        executable: String::new(),
        delay_ms: 5,
    };
    assert_eq!(world.io().crashes, [Crash::Panic, restart]);
    assert_eq!(world.server.exiting, None);
    assert_eq!(world.call(client, &["MEMORY", "PURGE"]), "+OK\r\n");
    assert_eq!(world.io().purges, 1);
}

#[test]
fn who_takes_long_lets_the_others_run_before_the_rest() {
    let mut world = world_with(debuggable());
    let (slow, other) = (world.connect(), world.connect());
    // With the second it has had its share; the other one comes before its INCR.
    for (seconds, sees) in [("0.0001", "$1\r\n1\r\n"), ("0.001", "$1\r\n1\r\n")] {
        let asks = format!("DEBUG SLEEP {seconds}\r\nINCR n\r\n");
        world.arrive(slow, asks.as_bytes());
        world.arrive(other, b"GET n\r\n");
        world.turn();
        assert!(world.receive(slow).starts_with(b"+OK\r\n:"));
        assert_eq!(String::from_utf8_lossy(&world.receive(other)), sees);
    }
}

#[test]
fn debug_asks_for_its_permission() {
    let mut world = world();
    let client = world.connect();
    let refused = world.call(client, &["DEBUG", "SLEEP", "0"]);
    assert!(
        refused.starts_with("-ERR DEBUG command not allowed."),
        "{refused}"
    );
    let mut world = world_with(debuggable());
    let client = world.connect();
    let unknown =
        "-ERR unknown subcommand or wrong number of arguments for 'sleep'. Try DEBUG HELP.\r\n";
    assert_eq!(world.call(client, &["debug", "sleep"]), unknown);
    let mut populate = |argv: &[&str]| world.call(client, &[&["DEBUG", "POPULATE"], argv].concat());
    assert_eq!(
        populate(&["-1"]),
        "-ERR value is out of range, must be positive\r\n"
    );
    assert_eq!(populate(&["3", "p", "20"]), "+OK\r\n");
    let value = world
        .server
        .keys(0)
        .read_str(b"p:2")
        .unwrap()
        .unwrap()
        .to_vec();
    assert_eq!(value, b"value:2\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

/// As Redis 7.2.6 answers in RESP3.
#[test]
fn debug_protocol_shows_every_kind_of_reply() {
    let mut world = world_with(debuggable());
    let client = world.connect();
    assert!(world.call(client, &["HELLO", "3"]).starts_with("%7\r\n"));
    for (kind, reply) in [
        ("double", ",3.141\r\n"),
        ("bignum", "(1234567999999999999999999999999999999\r\n"),
        ("null", "_\r\n"),
        ("set", "~3\r\n:0\r\n:1\r\n:2\r\n"),
        ("map", "%3\r\n:0\r\n#f\r\n:1\r\n#t\r\n:2\r\n#f\r\n"),
        (
            "attrib",
            "|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n\
             $39\r\nSome real reply following the attribute\r\n",
        ),
        (
            "push",
            "$40\r\nSome real reply following the push reply\r\n\
             >2\r\n$16\r\nserver-cpu-usage\r\n:42\r\n",
        ),
        ("verbatim", "=29\r\ntxt:This is a verbatim\nstring\r\n"),
        ("true", "#t\r\n"),
    ] {
        assert_eq!(world.call(client, &["DEBUG", "PROTOCOL", kind]), reply);
    }
}

/// Fields of Redis 7.2.6, in its order.
const INFO_FIELDS: &str = include_str!("tests/info_fields.txt");

#[test]
fn info_has_every_field_of_redis_in_its_order() {
    let mut world = world();
    let client = world.connect();
    world.call(client, &["PUT", "k", "1"]);
    let text = world.call(client, &["INFO", "everything"]);
    let ours: Vec<&str> = text
        .lines()
        .skip(1)
        .map(|l| l.split(':').next().unwrap())
        .collect();
    let mut at = 0;
    for field in INFO_FIELDS.lines() {
        let found = ours[at..].iter().position(|f| *f == field);
        at += found.unwrap_or_else(|| panic!("{field:?} is not after {:?}", &ours[..at]));
    }
    assert_eq!(
        world.call(client, &["INFO", "keyspace"]),
        "$44\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n\r\n"
    );
    assert_eq!(world.call(client, &["INFO", "nosuch"]), "$0\r\n\r\n");
    assert!(!world.call(client, &["INFO"]).contains("# Commandstats"));
    assert!(text.contains(
        "cmdstat_put:calls=1,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0\r\n"
    ));
}
