use std::path::Path;
use std::time::Duration;

use crate::config::{AppendFsync, Config, ProtectedAction};
use crate::exec::aof::State;
use crate::exec::conn::Token;
use crate::server::test_io::TestServer;

const SECOND: Duration = Duration::from_secs(1);

fn config(policy: AppendFsync) -> Config {
    Config {
        dir: "/data".into(),
        appendonly: true,
        appendfsync: policy,
        save: vec![],
        enable_debug_command: ProtectedAction::Yes,
        ..Config::default()
    }
}

/// A server that has just started with an empty directory, and a client of it.
fn world(policy: AppendFsync) -> (TestServer, Token) {
    let mut world = TestServer::new(config(policy));
    restart(&mut world);
    let client = world.connect();
    (world, client)
}

/// Starts again on the same disk, and loads.
fn restart(world: &mut TestServer) {
    world.restart().unwrap();
    world.turn();
    assert_eq!(world.server.exiting, None);
}

/// The lights go out and on again.
fn lose_power(world: &mut TestServer) -> Token {
    world.io().disk.crash();
    restart(world);
    world.connect()
}

fn info(world: &mut TestServer, client: Token, field: &str) -> String {
    let text = world.call(client, &["INFO", "persistence"]);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field}")).into()
}

fn file(world: &mut TestServer, name: &str) -> Option<Vec<u8>> {
    let path = Path::new("/data/appendonlydir").join(name);
    world.io().disk.read(&path)
}

fn incr(world: &mut TestServer, seq: u32) -> String {
    let bytes = file(world, &format!("appendonly.aof.{seq}.incr.aof"));
    String::from_utf8(bytes.expect("the file is there")).unwrap()
}

fn manifest(world: &mut TestServer) -> String {
    String::from_utf8(file(world, "appendonly.aof.manifest").unwrap()).unwrap()
}

/// Files beside the manifest.
fn names(world: &mut TestServer) -> Vec<String> {
    let names = world.io().disk.names();
    let names = names.iter().map(|path| path.file_name().unwrap());
    names
        .map(|name| name.to_str().unwrap().to_string())
        .collect()
}

#[test]
fn a_log_begins_with_a_base_and_goes_on_where_it_ended() {
    let (mut world, client) = world(AppendFsync::Everysec);
    assert_eq!(
        manifest(&mut world),
        "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"
    );
    world.call(client, &["SET", "a", "1"]);
    world.call(client, &["SELECT", "3"]);
    world.call(client, &["SET", "b", "2", "EX", "100"]);
    world.call(client, &["PUBLISH", "c", "x"]);
    let log = incr(&mut world, 1);
    assert!(log.starts_with("*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n"));
    assert!(log.contains("PXAT") && !log.contains("PUBLISH"), "{log}");
    assert_eq!(info(&mut world, client, "aof_enabled"), "1");
    let size = info(&mut world, client, "aof_current_size");
    assert_eq!(size, log.len().to_string());
    let digest = world.call(client, &["DEBUG", "DIGEST"]);
    restart(&mut world);
    let client = world.connect();
    assert_eq!(world.call(client, &["DEBUG", "DIGEST"]), digest);
    world.call(client, &["SET", "c", "3"]);
    let longer = incr(&mut world, 1);
    // A process does not know what the one before had selected.
    assert!(longer.starts_with(&log) && longer[log.len()..].starts_with("*2\r\n$6\r\nSELECT"));
    assert_eq!(world.call(client, &["DEBUG", "LOADAOF"]), "+OK\r\n");
    assert_eq!(world.call(client, &["DBSIZE"]), ":2\r\n");
}

#[test]
fn always_loses_nothing_that_was_answered() {
    let (mut world, client) = world(AppendFsync::Always);
    for n in 0..20 {
        let reply = world.call(client, &["INCR", "n"]);
        assert_eq!(reply, format!(":{}\r\n", n + 1));
        if n % 5 == 4 {
            let client = lose_power(&mut world);
            let now = world.call(client, &["GET", "n"]);
            assert_eq!(
                now,
                format!("${}\r\n{}\r\n", (n + 1).to_string().len(), n + 1)
            );
            world.hang_up(client);
            let again = world.connect();
            assert_eq!(again, client);
        }
    }
}

/// Only who wrote, or reads what was written, waits for the disk, and all who wait share one sync.
#[test]
fn replies_wait_for_the_batch_they_depend_on() {
    let (mut world, writer) = world(AppendFsync::Always);
    world.call(writer, &["MSET", "old", "1", "hot", "1"]);
    let [reader, other, last, listener] = [(); 4].map(|()| world.connect());
    world.call(listener, &["SUBSCRIBE", "news"]);
    world.hold_jobs();
    assert_eq!(world.call(writer, &["SET", "hot", "2"]), "");
    assert_eq!(world.call(other, &["SET", "cold", "2"]), "");
    for free in [
        &["GET", "old"][..],
        &["PING"],
        &["MGET", "old", "none"],
        &["SELECT", "0"],
    ] {
        assert_ne!(world.call(reader, free), "", "{free:?} depends on nothing");
    }
    for [name, key] in [["GET", "hot"], ["STRLEN", "cold"], ["DBSIZE", ""]] {
        let client = world.connect();
        let words = [name, key];
        let words = &words[..1 + usize::from(!key.is_empty())];
        assert_eq!(world.call(client, words), "", "{words:?}");
        // What comes after a reply that waits, waits too.
        assert_eq!(world.call(client, &["GET", "old"]), "");
    }
    world.call(last, &["PUBLISH", "news", "x"]);
    assert_eq!(
        world.receive(listener),
        b"",
        "a message may tell of anything"
    );
    assert_eq!(world.server.aof.handed, 1, "one batch is on its way");
    world.let_jobs_run();
    assert_eq!(world.receive(writer), b"+OK\r\n");
    assert_eq!(world.receive(other), b"+OK\r\n");
    assert!(world.receive(listener).starts_with(b"*3\r\n$7\r\nmessage"));
    assert_eq!(
        world.server.aof.durable, 3,
        "the first SET, and two batches"
    );
    assert_eq!(world.call(reader, &["GET", "hot"]), "$1\r\n2\r\n");
}

#[test]
fn a_pipeline_is_answered_as_far_as_it_is_durable() {
    let (mut world, client) = world(AppendFsync::Always);
    world.hold_jobs();
    world.send(client, b"PING\r\nSET a 1\r\nPING\r\n");
    assert_eq!(world.receive(client), b"+PONG\r\n");
    // The next batch gathers while the first one is on its way.
    world.send(client, b"SET b 1\r\n");
    world.send(client, b"MULTI\r\nGET b\r\nEXEC\r\n");
    assert_eq!(world.receive(client), b"");
    world.let_jobs_run();
    let all = b"+OK\r\n+PONG\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n$1\r\n1\r\n";
    assert_eq!(world.receive(client), all);
}

#[test]
fn clients_that_were_blocked_wait_for_what_they_are_served() {
    let (mut world, pusher) = world(AppendFsync::Always);
    let popper = world.connect();
    world.call(popper, &["BLPOP", "list", "0"]);
    world.hold_jobs();
    world.call(pusher, &["RPUSH", "list", "x"]);
    assert_eq!(
        (world.receive(pusher), world.receive(popper)),
        (vec![], vec![])
    );
    world.let_jobs_run();
    assert_eq!(world.receive(popper), b"*2\r\n$4\r\nlist\r\n$1\r\nx\r\n");
}

#[test]
fn a_failed_write_ends_a_server_that_promised_always() {
    for skip in 0..2 {
        let (mut world, client) = world(AppendFsync::Always);
        world.call(client, &["SET", "a", "1"]);
        world.io().disk.fail_after(skip, libc::EIO);
        assert_eq!(world.call(client, &["SET", "a", "2"]), "", "no answer");
        assert_eq!(world.server.exiting, Some(1));
        assert!(world.server.persistence.failed);
        let client = lose_power(&mut world);
        assert_eq!(world.call(client, &["GET", "a"]), "$1\r\n1\r\n");
    }
}

#[test]
fn everysec_loses_a_second_and_recovers_with_the_disk() {
    let (mut world, client) = world(AppendFsync::Everysec);
    world.call(client, &["SET", "old", "1"]);
    world.advance(2 * SECOND);
    // This one comes after the sync that the second allows.
    world.call(client, &["SET", "old", "2"]);
    world.call(client, &["SET", "new", "1"]);
    let client = lose_power(&mut world);
    assert_eq!(world.call(client, &["EXISTS", "old", "new"]), ":1\r\n");
    for errno in [libc::ENOSPC, libc::EIO] {
        world.io().disk.break_down(errno);
        // This one was answered before anybody knew.
        world.call(client, &["SET", "a", "1"]);
        let refused = world.call(client, &["SET", "b", "1"]);
        let why = crate::base::errno::text(&std::io::Error::from_raw_os_error(errno));
        let misconf = format!("-MISCONF Errors writing to the AOF file: {why}\r\n");
        assert_eq!(refused, misconf);
        assert_eq!(world.call(client, &["PING"]), misconf);
        assert_eq!(info(&mut world, client, "aof_last_write_status"), "err");
        world.io().disk.heal();
        world.advance(SECOND);
        assert_eq!(info(&mut world, client, "aof_last_write_status"), "ok");
        assert_eq!(world.call(client, &["SET", "b", "2"]), "+OK\r\n");
        let digest = world.call(client, &["DEBUG", "DIGEST"]);
        world.advance(3 * SECOND);
        let client = lose_power(&mut world);
        assert_eq!(world.call(client, &["DEBUG", "DIGEST"]), digest);
    }
}

#[test]
fn a_failed_sync_refuses_writes_until_one_succeeds() {
    let (mut world, client) = world(AppendFsync::Everysec);
    world.advance(2 * SECOND);
    // The write succeeds, the sync does not.
    world.io().disk.fail_after(1, libc::EIO);
    assert_eq!(world.call(client, &["SET", "a", "1"]), "+OK\r\n");
    let refused = world.call(client, &["SET", "a", "2"]);
    assert_eq!(
        refused,
        "-MISCONF Errors writing to the AOF file: Input/output error\r\n"
    );
    assert_eq!(info(&mut world, client, "aof_last_write_status"), "err");
    world.io().disk.heal();
    world.advance(2 * SECOND);
    assert_eq!(world.call(client, &["SET", "b", "1"]), "+OK\r\n");
    let client = lose_power(&mut world);
    assert_eq!(world.call(client, &["GET", "a"]), "$1\r\n1\r\n");
}

#[test]
fn a_write_waits_for_a_sync_but_not_for_ever() {
    let (mut world, client) = world(AppendFsync::Everysec);
    world.advance(2 * SECOND);
    world.hold_jobs();
    world.call(client, &["SET", "a", "1"]);
    let before = incr(&mut world, 1).len();
    assert_eq!(world.call(client, &["SET", "a", "2"]), "+OK\r\n");
    assert_eq!(incr(&mut world, 1).len(), before);
    assert_ne!(info(&mut world, client, "aof_buffer_length"), "0");
    assert_eq!(info(&mut world, client, "aof_pending_bio_fsync"), "1");
    world.advance(3 * SECOND);
    assert!(incr(&mut world, 1).len() > before);
    assert_eq!(info(&mut world, client, "aof_delayed_fsync"), "1");
    world.let_jobs_run();
}

fn fill(world: &mut TestServer, client: Token) {
    for words in [
        "SET a 1",
        "RPUSH l x y",
        "HSET h f v",
        "ZADD z 1 m",
        "SADD s 1 b",
        "SET e 1 EX 99",
    ] {
        world.call(client, &words.split(' ').collect::<Vec<_>>());
    }
}

#[test]
fn a_rewrite_takes_the_place_of_what_was_logged() {
    for policy in [AppendFsync::Always, AppendFsync::Everysec, AppendFsync::No] {
        for rdb in [true, false] {
            let (mut world, client) = world(policy);
            world.server.config.aof_use_rdb_preamble = rdb;
            fill(&mut world, client);
            world.hold_jobs();
            let reply = world.call(client, &["BGREWRITEAOF"]);
            assert_eq!(reply, "+Background append only file rewriting started\r\n");
            let again = world.call(client, &["BGREWRITEAOF"]);
            assert!(again.contains("already in progress"), "{again}");
            world.call(client, &["SET", "meanwhile", "1"]);
            world.let_jobs_run();
            world.receive(client);
            world.call(client, &["SET", "after", "1"]);
            let suffix = if rdb { "rdb" } else { "aof" };
            assert_eq!(
                manifest(&mut world),
                format!(
                    "file appendonly.aof.2.base.{suffix} seq 2 type b\nfile appendonly.aof.2.incr.aof seq 2 type i\n"
                )
            );
            assert_eq!(names(&mut world).len(), 3, "{:?}", names(&mut world));
            assert_eq!(info(&mut world, client, "aof_rewrite_in_progress"), "0");
            assert_eq!(info(&mut world, client, "aof_last_bgrewrite_status"), "ok");
            let digest = world.call(client, &["DEBUG", "DIGEST"]);
            world.advance(3 * SECOND);
            let client = match policy {
                AppendFsync::No => {
                    restart(&mut world);
                    world.connect()
                }
                _ => lose_power(&mut world),
            };
            assert_eq!(
                world.call(client, &["DEBUG", "DIGEST"]),
                digest,
                "{policy:?} {rdb}"
            );
        }
    }
}

/// Whatever fails on the way of a rewrite, and whenever the power goes, all that was logged is there.
#[test]
fn no_failure_of_a_rewrite_loses_anything() {
    let mut failures = 0;
    for skip in 0.. {
        let (mut world, client) = world(AppendFsync::Always);
        fill(&mut world, client);
        world.io().disk.fail_after(skip, libc::ENOSPC);
        world.call(client, &["BGREWRITEAOF"]);
        let sufficed = !world.io().disk.heal();
        assert_eq!(info(&mut world, client, "aof_rewrite_in_progress"), "0");
        assert_eq!(world.call(client, &["SET", "after", "1"]), "+OK\r\n");
        let digest = world.call(client, &["DEBUG", "DIGEST"]);
        let client = lose_power(&mut world);
        assert_eq!(
            world.call(client, &["DEBUG", "DIGEST"]),
            digest,
            "call {skip}"
        );
        // And the next one succeeds.
        world.call(client, &["BGREWRITEAOF"]);
        assert_eq!(info(&mut world, client, "aof_last_bgrewrite_status"), "ok");
        let client = lose_power(&mut world);
        assert_eq!(
            world.call(client, &["DEBUG", "DIGEST"]),
            digest,
            "call {skip}"
        );
        failures += usize::from(sufficed);
        if !sufficed {
            break;
        }
    }
    assert!(
        failures >= 12,
        "two manifests, a base, two files: {failures}"
    );
}

#[test]
fn power_may_go_at_any_step_of_a_rewrite() {
    for steps in 0..12 {
        let (mut world, client) = world(AppendFsync::Always);
        fill(&mut world, client);
        let digest = world.call(client, &["DEBUG", "DIGEST"]);
        world.hold_jobs();
        world.send(client, b"BGREWRITEAOF\r\n");
        for _ in 0..steps {
            world.run_one_job();
        }
        let client = lose_power(&mut world);
        world.let_jobs_run();
        assert_eq!(
            world.call(client, &["DEBUG", "DIGEST"]),
            digest,
            "step {steps}"
        );
    }
}

#[test]
fn switched_on_and_off_while_it_runs() {
    let (mut world, client) = world(AppendFsync::Everysec);
    fill(&mut world, client);
    assert_eq!(
        world.call(client, &["CONFIG", "SET", "appendonly", "no"]),
        "+OK\r\n"
    );
    world.call(client, &["SET", "unlogged", "1"]);
    assert_eq!(info(&mut world, client, "aof_enabled"), "0");
    world.hold_jobs();
    assert_eq!(
        world.call(client, &["CONFIG", "SET", "appendonly", "yes"]),
        "+OK\r\n"
    );
    assert_eq!(world.server.aof.state, State::WaitRewrite);
    world.call(client, &["SET", "meanwhile", "1"]);
    // It is not a log yet, and a server must not end without one.
    let stays = world.call(client, &["SHUTDOWN", "NOSAVE"]);
    assert_eq!(stays, "-ERR Errors trying to SHUTDOWN. Check logs.\r\n");
    world.let_jobs_run();
    assert_eq!(world.server.aof.state, State::On);
    let digest = world.call(client, &["DEBUG", "DIGEST"]);
    restart(&mut world);
    let client = world.connect();
    assert_eq!(world.call(client, &["DEBUG", "DIGEST"]), digest);
    assert_eq!(names(&mut world).len(), 3, "{:?}", names(&mut world));
}

#[test]
fn a_switch_that_fails_is_refused_or_tried_again() {
    let (mut world, client) = world(AppendFsync::Everysec);
    world.call(client, &["CONFIG", "SET", "appendonly", "no"]);
    fill(&mut world, client);
    world.io().disk.break_down(libc::EACCES);
    let refused = world.call(client, &["CONFIG", "SET", "appendonly", "yes"]);
    assert_eq!(
        refused,
        "-ERR CONFIG SET failed (possibly related to argument 'appendonly') - Unable to turn on AOF. Check server logs.\r\n"
    );
    assert_eq!(info(&mut world, client, "aof_enabled"), "0");
    world.io().disk.heal();
    world.hold_jobs();
    world.call(client, &["CONFIG", "SET", "appendonly", "yes"]);
    // In another database: the file that comes next knows nothing of what this one had selected.
    world.call(client, &["SELECT", "3"]);
    world.call(client, &["SET", "before", "1"]);
    world.io().disk.fail_after(0, libc::ENOSPC);
    world.let_jobs_run();
    world.io().disk.heal();
    assert_eq!(info(&mut world, client, "aof_last_bgrewrite_status"), "err");
    world.call(client, &["SET", "between", "1"]);
    world.advance(2 * SECOND);
    world.call(client, &["SET", "after", "1"]);
    assert_eq!(info(&mut world, client, "aof_last_bgrewrite_status"), "ok");
    let digest = world.call(client, &["DEBUG", "DIGEST"]);
    restart(&mut world);
    let client = world.connect();
    assert_eq!(world.call(client, &["DEBUG", "DIGEST"]), digest);
}

#[test]
fn it_grows_until_it_is_rewritten_and_failures_make_it_wait() {
    let (mut world, client) = world(AppendFsync::No);
    world.server.config.auto_aof_rewrite_min_size = 1000;
    let value = "x".repeat(600);
    for _ in 0..2 {
        world.call(client, &["SET", "a", &value]);
    }
    world.advance(SECOND);
    assert_eq!(info(&mut world, client, "aof_rewrites"), "1");
    world.io().disk.heal();
    for _ in 0..5 {
        world.call(client, &["SET", "a", &value]);
    }
    let disk = world.io().disk.clone();
    disk.break_down(libc::ENOSPC);
    world.advance(10 * SECOND);
    assert_eq!(
        info(&mut world, client, "aof_rewrites"),
        "1",
        "it could not even begin"
    );
    disk.heal();
    world.advance(SECOND);
    assert_eq!(info(&mut world, client, "aof_rewrites"), "2");
}

#[test]
fn torn_ends_are_cut_and_other_damage_ends_the_start() {
    let (mut world, client) = world(AppendFsync::No);
    fill(&mut world, client);
    let digest = world.call(client, &["DEBUG", "DIGEST"]);
    let path = Path::new("/data/appendonlydir/appendonly.aof.1.incr.aof");
    let whole = world.io().disk.read(path).unwrap();
    for torn in [
        "*3\r\n$3\r\nSET\r\n$1\r\na",
        "*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n9\r\n",
    ] {
        world
            .io()
            .disk
            .put(path, &[&whole[..], torn.as_bytes()].concat());
        restart(&mut world);
        let client = world.connect();
        assert_eq!(world.call(client, &["DEBUG", "DIGEST"]), digest);
        assert_eq!(world.io().disk.read(path).unwrap(), whole);
        world
            .io()
            .disk
            .put(path, &[&whole[..], torn.as_bytes()].concat());
        world.server.config.aof_load_truncated = false;
        world.restart().unwrap();
        world.turn();
        assert_eq!(world.server.exiting, Some(1));
        world.server.config.aof_load_truncated = true;
    }
    for bad in ["!\r\n", "*1\r\n$7\r\nNOTHING\r\n", "*3\r\nSET\r\n"] {
        world
            .io()
            .disk
            .put(path, &[&whole[..], bad.as_bytes()].concat());
        world.restart().unwrap();
        world.turn();
        assert_eq!(world.server.exiting, Some(1), "{bad:?}");
        assert!(world.server.persistence.failed);
    }
    world.io().disk.put(path, &whole);
    let manifest = Path::new("/data/appendonlydir/appendonly.aof.manifest");
    for bad in ["", "file x\n", "file gone.aof seq 1 type i\n"] {
        world.io().disk.put(manifest, bad.as_bytes());
        assert!(world.restart().is_err(), "{bad:?}");
    }
}

/// A crash before the manifest of a log that was switched on was in place: its first file had its name already.
#[test]
fn what_an_interrupted_rewrite_left_is_no_part_of_a_new_log() {
    let mut world = TestServer::new(config(AppendFsync::No));
    let disk = world.io().disk.clone();
    let left = Path::new("/data/appendonlydir/appendonly.aof.1.incr.aof");
    disk.put(left, b"*3\r\n$3\r\nSET\r\n$4\r\nleft\r\n$1\r\n1\r\n");
    restart(&mut world);
    for power_is_lost in [false, true] {
        if power_is_lost {
            disk.crash();
        }
        restart(&mut world);
        let client = world.connect();
        assert_eq!(world.call(client, &["EXISTS", "left"]), ":0\r\n");
    }
}

/// A crash while a rewrite begins: the next file is listed already, and the last one was still written to.
#[test]
fn a_file_may_be_torn_as_long_as_nothing_follows_it() {
    let (mut world, client) = world(AppendFsync::No);
    fill(&mut world, client);
    let digest = world.call(client, &["DEBUG", "DIGEST"]);
    let dir = Path::new("/data/appendonlydir");
    let disk = world.io().disk.clone();
    let first = dir.join("appendonly.aof.1.incr.aof");
    let torn = [&disk.read(&first).unwrap()[..], b"*1\r\n$4\r\nPI"].concat();
    let manifest = dir.join("appendonly.aof.manifest");
    let listed = String::from_utf8(disk.read(&manifest).unwrap()).unwrap();
    let next = "appendonly.aof.2.incr.aof";
    for (follows, starts) in [("", true), ("*1\r\n$4\r\nPING\r\n", false)] {
        disk.put(&first, &torn);
        disk.put(
            &manifest,
            format!("{listed}file {next} seq 2 type i\n").as_bytes(),
        );
        disk.put(&dir.join(next), follows.as_bytes());
        world.restart().unwrap();
        world.turn();
        assert_eq!(world.server.exiting.is_none(), starts);
        if starts {
            let client = world.connect();
            assert_eq!(world.call(client, &["DEBUG", "DIGEST"]), digest);
            // What was cut off is gone for good, before anything follows it.
            disk.put(&dir.join(next), b"*1\r\n$4\r\nPING\r\n");
            disk.crash();
            world.restart().unwrap();
            world.turn();
            assert_eq!(world.server.exiting, None);
        }
    }
}

/// A process was killed while a rewrite had just begun: the end of the file before the last was read, but never synced,
/// and when the power went later it was gone from under the synced one behind it.
#[test]
fn what_a_killed_process_left_unsynced_is_durable_before_what_follows() {
    let (mut world, client) = world(AppendFsync::Everysec);
    world.call(client, &["SET", "a", "1"]);
    world.hold_jobs();
    world.call(client, &["BGREWRITEAOF"]);
    world.call(client, &["SET", "b", "1"]);
    assert!(world.run_one_job(), "the next file is listed");
    // Killed: what is seen stays, what was under way does not end.
    world.restart().unwrap();
    world.let_jobs_run();
    let client = world.connect();
    world.call(client, &["SET", "c", "1"]);
    world.advance(Duration::from_secs(3));
    let client = lose_power(&mut world);
    assert_eq!(world.call(client, &["EXISTS", "a", "b", "c"]), ":3\r\n");
}

#[test]
fn a_log_of_an_old_version_is_taken_over() {
    let log = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
    let mut rdb = TestServer::new(config(AppendFsync::No));
    restart(&mut rdb);
    let preamble = file(&mut rdb, "appendonly.aof.1.base.rdb").unwrap();
    for text in [
        log.as_bytes().to_vec(),
        [&preamble[..], log.as_bytes()].concat(),
    ] {
        let mut world = TestServer::new(config(AppendFsync::No));
        world
            .io()
            .disk
            .put(Path::new("/data/appendonly.aof"), &text);
        restart(&mut world);
        let client = world.connect();
        assert_eq!(world.call(client, &["GET", "k"]), "$1\r\nv\r\n");
        assert_eq!(
            manifest(&mut world),
            "file appendonly.aof seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"
        );
        world.call(client, &["BGREWRITEAOF"]);
        assert_eq!(names(&mut world).len(), 3, "{:?}", names(&mut world));
        restart(&mut world);
        let client = world.connect();
        assert_eq!(world.call(client, &["GET", "k"]), "$1\r\nv\r\n");
    }
}

#[test]
fn clients_hear_that_a_log_is_loading_and_nothing_expires_meanwhile() {
    let (mut world, client) = world(AppendFsync::No);
    fill(&mut world, client);
    world.call(client, &["EXPIRE", "a", "10"]);
    world.call(client, &["APPEND", "a", "2"]);
    world.call(client, &["PERSIST", "a"]);
    world.io().clock.advance(20 * SECOND);
    world.server.config.key_load_delay = 1_000_000;
    world.restart().unwrap();
    world.server.config.key_load_delay = 1_000_000;
    let client = world.connect();
    let loading = "-LOADING Redis is loading the dataset in memory\r\n";
    for _ in 0..3 {
        assert_eq!(world.call(client, &["GET", "a"]), loading);
        assert_eq!(info(&mut world, client, "loading"), "1");
        assert_eq!(world.call(client, &["CLIENT", "LIST"]).lines().count(), 3);
        world.advance(SECOND);
    }
    assert_ne!(info(&mut world, client, "loading_loaded_bytes"), "0");
    world.server.config.key_load_delay = 0;
    world.advance(2 * SECOND);
    assert_eq!(info(&mut world, client, "loading"), "0");
    assert_eq!(world.call(client, &["GET", "a"]), "$2\r\n12\r\n");
}

#[test]
fn shutdown_makes_durable_what_was_logged() {
    let (mut world, client) = world(AppendFsync::No);
    world.call(client, &["SET", "a", "1"]);
    world.call(client, &["SHUTDOWN"]);
    assert_eq!(world.server.exiting, Some(0));
    let client = lose_power(&mut world);
    assert_eq!(world.call(client, &["GET", "a"]), "$1\r\n1\r\n");
}

#[test]
fn old_files_are_kept_as_long_as_they_are_to_be() {
    let (mut world, client) = world(AppendFsync::No);
    fill(&mut world, client);
    let set = |world: &mut TestServer, value| {
        let words = ["CONFIG", "SET", "aof-disable-auto-gc", value];
        assert_eq!(world.call(client, &words), "+OK\r\n");
    };
    set(&mut world, "yes");
    world.call(client, &["BGREWRITEAOF"]);
    assert_eq!(names(&mut world).len(), 5, "{:?}", names(&mut world));
    // To say it once more changes nothing.
    set(&mut world, "yes");
    assert_eq!(names(&mut world).len(), 5, "{:?}", names(&mut world));
    // It may be allowed while a rewrite is under way.
    world.hold_jobs();
    world.call(client, &["BGREWRITEAOF"]);
    world.run_one_job();
    set(&mut world, "no");
    world.let_jobs_run();
    world.turn();
    assert_eq!(names(&mut world).len(), 3, "{:?}", names(&mut world));
}
