//! Scripts and functions in a whole server: what they leave in the log, and what is left of them after a start.

use std::time::Duration;

use super::{debuggable, info};
use crate::config::Config;
use crate::exec::conn::Token;
use crate::server::test_io::TestServer;

fn world(config: Config) -> (TestServer, Token) {
    let mut world = TestServer::new(config);
    world.keep_log();
    let client = world.connect();
    (world, client)
}

/// What a script replies in one line.
fn eval(world: &mut TestServer, client: Token, script: &str) -> String {
    let reply = world.call(client, &["EVAL", script, "1", "k"]);
    reply.replace("\r\n", " ").trim_end().to_string()
}

fn log(world: &mut TestServer) -> Vec<String> {
    let ops = world.logged();
    let words = ops.iter().map(|(_, words)| words.join(&b' '));
    words.map(|op| String::from_utf8(op).unwrap()).collect()
}

#[test]
fn effects_are_logged_as_one_unit() {
    let (mut world, client) = world(Config::default());
    let script = "redis.call('select', 3) redis.call('set', KEYS[1], 1) redis.call('get', 'x') return redis.call('incr', KEYS[1])";
    assert_eq!(eval(&mut world, client, script), ":2");
    assert_eq!(log(&mut world), ["MULTI", "set k 1", "incr k", "EXEC"]);
    assert_eq!(
        eval(&mut world, client, "return redis.call('get', 'k')"),
        "$-1"
    );
    eval(&mut world, client, "redis.call('incr', KEYS[1])");
    assert_eq!(log(&mut world), ["incr k"]);
    // In a transaction they are part of its unit.
    for words in [
        &["MULTI"][..],
        &["SET", "a", "1"],
        &[
            "EVAL",
            "redis.call('incr', 'a') redis.call('incr', 'a')",
            "0",
        ],
        &["EXEC"],
    ] {
        world.call(client, words);
    }
    assert_eq!(
        log(&mut world),
        ["MULTI", "SET a 1", "incr a", "incr a", "EXEC"]
    );
}

#[test]
fn a_script_says_who_hears_of_it() {
    let (mut world, client) = world(Config::default());
    let script = "redis.call('set', 'a', 1) redis.set_repl(redis.REPL_NONE) redis.call('set', 'b', 1) redis.set_repl(redis.REPL_REPLICA) redis.call('set', 'c', 1) redis.set_repl(redis.REPL_AOF) redis.call('set', 'd', 1)";
    assert_eq!(eval(&mut world, client, script), "$-1");
    assert_eq!(log(&mut world), ["MULTI", "set a 1", "set d 1", "EXEC"]);
    assert_eq!(
        world.call(client, &["EXISTS", "a", "b", "c", "d"]),
        ":4\r\n"
    );
}

/// The session of scripts was closed as an idle client: the next script had none, or that of a client who had come since.
#[test]
fn a_timeout_of_clients_is_none_for_scripts() {
    let (mut world, client) = world(Config {
        timeout: 10,
        ..Config::default()
    });
    let script = "return {redis.call('echo', 'a'), redis.call('echo', 'b')}";
    assert_eq!(eval(&mut world, client, script), "*2 $1 a $1 b");
    for _ in 0..20 {
        world.advance(Duration::from_secs(1));
        world.call(client, &["PING"]);
    }
    assert_eq!(eval(&mut world, client, script), "*2 $1 a $1 b");
}

#[test]
fn who_waits_is_served_after_the_script() {
    let (mut world, client) = world(Config::default());
    let waiting = world.connect();
    assert_eq!(world.call(waiting, &["BLPOP", "k", "0"]), "");
    let script = "redis.call('rpush', KEYS[1], 'a', 'b') return redis.call('blpop', 'none', 0)";
    assert_eq!(eval(&mut world, client, script), "$-1");
    let got = world.receive(waiting);
    assert_eq!(
        String::from_utf8_lossy(&got),
        "*2\r\n$1\r\nk\r\n$1\r\na\r\n"
    );
    assert_eq!(log(&mut world), ["rpush k a b", "LPOP k"]);
}

#[test]
fn an_error_is_counted_where_it_came_up() {
    let (mut world, client) = world(Config::default());
    world.call(client, &["SET", "k", "text"]);
    eval(&mut world, client, "return redis.call('incr', 'k')");
    eval(&mut world, client, "return redis.pcall('incr', 'k')");
    eval(
        &mut world,
        client,
        "redis.pcall('nosuch') redis.pcall('get') redis.pcall('multi')",
    );
    eval(&mut world, client, "error('mine')");
    let ends = |world: &mut TestServer, command: &str, with: &str| {
        let line = info(world, client, &format!("cmdstat_{command}"));
        assert!(line.ends_with(with), "{command}: {line}");
    };
    ends(&mut world, "incr", "rejected_calls=0,failed_calls=2");
    ends(&mut world, "multi", "rejected_calls=1,failed_calls=0");
    ends(&mut world, "eval", "rejected_calls=0,failed_calls=3");
    assert_eq!(info(&mut world, client, "errorstat_ERR"), "count=6");
}

const LIBRARY: &str = "#!lua name=lib\nredis.register_function('put', function(keys, args) return redis.call('set', keys[1], args[1]) end)\nredis.register_function{function_name='peek', callback=function(keys) return redis.call('get', keys[1]) end, flags={'no-writes'}}";

#[test]
fn libraries_outlast_a_reload_and_a_flush_of_the_data() {
    let (mut world, client) = world(debuggable());
    assert_eq!(
        world.call(client, &["FUNCTION", "LOAD", LIBRARY]),
        "$3\r\nlib\r\n"
    );
    assert_eq!(log(&mut world), [format!("FUNCTION LOAD {LIBRARY}")]);
    assert_eq!(
        world.call(client, &["FCALL", "put", "1", "k", "v"]),
        "+OK\r\n"
    );
    assert_eq!(log(&mut world), ["set k v"]);
    assert_eq!(world.call(client, &["DEBUG", "RELOAD"]), "+OK\r\n");
    assert_eq!(
        world.call(client, &["FCALL_RO", "PEEK", "1", "k"]),
        "$1\r\nv\r\n"
    );
    world.call(client, &["FLUSHALL"]);
    assert_eq!(info(&mut world, client, "number_of_functions"), "2");
    let refused = world.call(client, &["FCALL_RO", "put", "1", "k", "v"]);
    assert_eq!(
        refused,
        "-ERR Can not execute a script with write flag using *_ro command.\r\n"
    );
    let dumped = world.call(client, &["FUNCTION", "DUMP"]);
    assert!(dumped.contains("name=lib"));
    assert_eq!(
        world.call(client, &["FUNCTION", "DELETE", "lib"]),
        "+OK\r\n"
    );
    assert_eq!(
        world.call(client, &["FCALL", "put", "0"]),
        "-ERR Function not found\r\n"
    );
}

#[test]
fn scripts_say_what_they_need() {
    let (mut world, client) = world(Config {
        replicaof: Some(crate::config::ReplicaOf {
            host: "127.0.0.1".into(),
            port: 1,
        }),
        ..Config::default()
    });
    let begins = |world: &mut TestServer, script: &str, with: &str| {
        let reply = eval(world, client, script);
        assert!(reply.starts_with(with), "{script}: {reply}");
    };
    begins(
        &mut world,
        "return redis.call('set', 'k', 1)",
        "-READONLY You can't write against a read only replica.",
    );
    begins(
        &mut world,
        "#!lua\nreturn 1",
        "-READONLY You can't write against a read only replica.",
    );
    begins(&mut world, "#!lua flags=no-writes\nreturn 1", ":1");
    begins(
        &mut world,
        "#!lua flags=no-writes\nreturn redis.call('set', 'k', 1)",
        "-ERR Write commands are not allowed from read-only scripts.",
    );
}
