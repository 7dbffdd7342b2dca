use std::path::Path;
use std::time::Duration;

use crate::config::Config;
use crate::exec::conn::Token;
use crate::server::test_io::TestServer;

/// A server with a directory, and a client of it.
fn world(save: Vec<(u64, u64)>) -> (TestServer, Token) {
    let config = Config {
        dir: "/data".into(),
        save,
        enable_debug_command: crate::config::ProtectedAction::Yes,
        ..Config::default()
    };
    let mut world = TestServer::new(config);
    let client = world.connect();
    (world, client)
}

fn file(world: &mut TestServer) -> Option<Vec<u8>> {
    world.io().disk.read(Path::new("/data/dump.rdb"))
}

/// The value of a field of INFO.
fn info(world: &mut TestServer, client: Token, field: &str) -> String {
    let text = world.call(client, &["INFO", "everything"]);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field}")).into()
}

fn fill(world: &mut TestServer, client: Token) {
    world.call(client, &["SET", "a", "1"]);
    world.call(client, &["RPUSH", "list", "x", "y"]);
    world.call(client, &["SET", "later", "z", "EX", "1000"]);
    world.call(client, &["SET", "soon", "z", "PX", "100"]);
}

#[test]
fn what_was_saved_is_there_after_a_crash() {
    for how in ["SAVE", "BGSAVE"] {
        let (mut world, client) = world(vec![]);
        fill(&mut world, client);
        assert!(world.call(client, &[how]).starts_with('+'));
        world.call(client, &["SET", "unsaved", "1"]);
        world.call(client, &["DEL", "unsaved", "soon"]);
        let digest = world.call(client, &["DEBUG", "DIGEST"]);
        assert_eq!(
            info(&mut world, client, "rdb_changes_since_last_save"),
            "3",
            "{how}"
        );
        world.io().clock.advance(Duration::from_millis(200));
        world.io().disk.crash();
        world.hold_jobs();
        world.restart().unwrap();
        let client = world.connect();
        let refused = world.call(client, &["GET", "a"]);
        assert_eq!(
            refused,
            "-LOADING Redis is loading the dataset in memory\r\n"
        );
        assert_eq!(info(&mut world, client, "loading"), "1");
        world.let_jobs_run();
        assert_eq!(info(&mut world, client, "loading"), "0");
        assert_eq!(world.call(client, &["DEBUG", "DIGEST"]), digest);
        assert_eq!(info(&mut world, client, "rdb_last_load_keys_expired"), "1");
        assert_eq!(info(&mut world, client, "rdb_last_load_keys_loaded"), "3");
    }
}

#[test]
fn whatever_call_fails_the_old_file_stays_whole() {
    for how in ["SAVE", "BGSAVE"] {
        for errno in [libc::ENOSPC, libc::EIO] {
            let (mut world, client) = world(vec![(3600, 1)]);
            fill(&mut world, client);
            world.call(client, &["SAVE"]);
            let old = file(&mut world);
            let mut failures = 0;
            for skip in 0.. {
                world.call(client, &["SET", "a", &(skip + 100).to_string()]);
                world.io().disk.fail_after(skip, errno);
                let reply = world.call(client, &[how]);
                let calls_sufficed = !world.io().disk.heal();
                let refused = world
                    .call(client, &["SET", "b", "1"])
                    .starts_with("-MISCONF");
                if !calls_sufficed {
                    // The file was complete before the call that would have failed.
                    assert!(reply.starts_with('+') && !refused, "{reply}");
                    break;
                }
                failures += 1;
                assert_eq!(info(&mut world, client, "rdb_bgsave_in_progress"), "0");
                if how == "BGSAVE" {
                    assert!(refused, "call {skip}");
                    assert_eq!(info(&mut world, client, "rdb_last_bgsave_status"), "err");
                    assert!(!info(&mut world, client, "rdb_last_bgsave_error").is_empty());
                    let ping = world.call(client, &["PING"]);
                    assert!(ping.starts_with("-MISCONF"), "{ping}");
                } else {
                    assert_eq!(reply, "-ERR\r\n");
                    assert!(!refused, "only background saves refuse writes");
                }
                world.io().disk.crash();
                assert_eq!(file(&mut world), old, "call {skip}");
                // The next one succeeds, and all is well.
                assert!(world.call(client, &[how]).starts_with('+'));
                assert_eq!(info(&mut world, client, "rdb_last_bgsave_status"), "ok");
                assert_eq!(world.call(client, &["SET", "b", "1"]), "+OK\r\n");
                world.io().disk.crash();
                assert_ne!(file(&mut world), old);
                world.call(client, &["DEL", "b"]);
                world.call(client, &["SAVE"]);
                assert_eq!(world.io().disk.names().len(), 1, "no temporary file stays");
                world
                    .io()
                    .disk
                    .put(Path::new("/data/dump.rdb"), &old.clone().unwrap());
            }
            assert!(
                failures >= 5,
                "create, write, sync, rename, sync of the directory"
            );
        }
    }
}

#[test]
fn save_points_count_changes_and_wait_after_a_failure() {
    let (mut world, client) = world(vec![(10, 2)]);
    world.call(client, &["SET", "a", "1"]);
    world.advance(Duration::from_secs(20));
    assert_eq!(file(&mut world), None, "one change is not enough");
    world.hold_jobs();
    world.call(client, &["SET", "b", "1"]);
    world.advance(Duration::from_secs(1));
    assert_eq!(info(&mut world, client, "rdb_bgsave_in_progress"), "1");
    assert_eq!(info(&mut world, client, "current_save_keys_total"), "2");
    world.call(client, &["SET", "c", "1"]);
    let refused = world.call(client, &["SAVE"]);
    assert_eq!(refused, "-ERR Background save already in progress\r\n");
    world.let_jobs_run();
    assert_eq!(info(&mut world, client, "rdb_bgsave_in_progress"), "0");
    // What changed meanwhile is for the next save.
    assert_eq!(info(&mut world, client, "rdb_changes_since_last_save"), "1");
    world.call(client, &["SET", "c", "2"]);
    world.io().disk.fail_after(0, libc::EACCES);
    world.advance(Duration::from_secs(11));
    assert_eq!(info(&mut world, client, "rdb_last_bgsave_status"), "err");
    let saves = info(&mut world, client, "rdb_saves");
    world.advance(Duration::from_secs(3));
    assert_eq!(info(&mut world, client, "rdb_saves"), saves, "too early");
    world.advance(Duration::from_secs(4));
    assert_eq!(info(&mut world, client, "rdb_last_bgsave_status"), "ok");
}

#[test]
fn a_save_that_was_given_up_replaces_nothing() {
    let (mut world, client) = world(vec![(3600, 1)]);
    fill(&mut world, client);
    world.hold_jobs();
    world.call(client, &["BGSAVE"]);
    world.call(client, &["FLUSHALL"]);
    assert_eq!(info(&mut world, client, "rdb_changes_since_last_save"), "0");
    let emptied = file(&mut world);
    assert!(emptied.is_some());
    world.let_jobs_run();
    assert_eq!(file(&mut world), emptied);
    assert_eq!(info(&mut world, client, "rdb_last_bgsave_status"), "ok");
    fill(&mut world, client);
    world.hold_jobs();
    world.call(client, &["BGSAVE"]);
    world.call(client, &["SET", "last", "1"]);
    world.call(client, &["SHUTDOWN"]);
    assert_eq!(world.server.exiting, Some(0));
    let last = file(&mut world);
    world.let_jobs_run();
    assert_eq!(file(&mut world), last);
    world.restart().unwrap();
    world.turn();
    let client = world.connect();
    assert_eq!(world.call(client, &["GET", "last"]), "$1\r\n1\r\n");
}

#[test]
fn a_save_whose_snapshot_holds_too_much_fails() {
    let (mut world, client) = world(vec![(3600, 1)]);
    world.call(client, &["SET", "a", &"x".repeat(2_000_000)]);
    world.call(client, &["CONFIG", "SET", "snapshot-memory-limit", "1mb"]);
    world.hold_jobs();
    world.call(client, &["BGSAVE"]);
    world.advance(Duration::from_secs(1));
    assert_eq!(info(&mut world, client, "current_cow_size"), "0");
    world.call(client, &["SET", "a", "1"]);
    let held: usize = info(&mut world, client, "current_cow_size")
        .parse()
        .unwrap();
    assert!(held >= 2_000_000, "{held}");
    assert_eq!(info(&mut world, client, "rdb_bgsave_in_progress"), "1");
    world.advance(Duration::from_secs(1));
    world.let_jobs_run();
    assert_eq!(info(&mut world, client, "rdb_last_bgsave_status"), "err");
    let why = info(&mut world, client, "rdb_last_bgsave_error");
    assert!(why.contains("snapshot-memory-limit"), "{why}");
    let refused = world.call(client, &["SET", "b", "1"]);
    assert!(refused.starts_with("-MISCONF"), "{refused}");
    assert_eq!((file(&mut world), world.io().disk.names().len()), (None, 0));
    // What held it is gone, and the next one succeeds.
    assert_eq!(info(&mut world, client, "mem_not_counted_for_evict"), "0");
    world.call(client, &["BGSAVE"]);
    world.advance(Duration::from_secs(1));
    assert_eq!(info(&mut world, client, "rdb_last_bgsave_status"), "ok");
}

#[test]
fn shutdown_stays_when_it_cannot_save() {
    let (mut world, client) = world(vec![(3600, 1)]);
    world.io().disk.fail_after(0, libc::EROFS);
    let reply = world.call(client, &["SHUTDOWN"]);
    assert_eq!(reply, "-ERR Errors trying to SHUTDOWN. Check logs.\r\n");
    assert_eq!(world.server.exiting, None);
    world.io().disk.fail_after(0, libc::EROFS);
    world.call(client, &["SHUTDOWN", "FORCE"]);
    assert_eq!(world.server.exiting, Some(0));
}

#[test]
fn a_transaction_schedules_its_save() {
    let (mut world, client) = world(vec![]);
    world.call(client, &["MULTI"]);
    world.call(client, &["BGSAVE"]);
    world.call(client, &["SET", "after", "1"]);
    let reply = world.call(client, &["EXEC"]);
    assert_eq!(reply, "*2\r\n+Background saving scheduled\r\n+OK\r\n");
    world.advance(Duration::from_secs(1));
    world.restart().unwrap();
    world.turn();
    assert_eq!(world.server.dbs.len(), 1);
}

#[test]
fn damaged_files_end_the_start() {
    let (mut world, client) = world(vec![]);
    fill(&mut world, client);
    world.call(client, &["SAVE"]);
    let good = file(&mut world).unwrap();
    for cut in [0, 5, 9, good.len() / 2, good.len() - 1] {
        let path = Path::new("/data/dump.rdb");
        world.io().disk.put(path, &good[..cut]);
        world.restart().unwrap();
        world.turn();
        assert_eq!(world.server.exiting, Some(1), "{cut} bytes");
        assert!(world.server.persistence.failed);
    }
    world.io().disk.fail_after(0, libc::EACCES);
    assert!(world.restart().is_err());
}

#[test]
fn reload_replaces_merges_or_refuses() {
    let (mut world, client) = world(vec![]);
    fill(&mut world, client);
    let digest = world.call(client, &["DEBUG", "DIGEST"]);
    assert_eq!(world.call(client, &["DEBUG", "RELOAD"]), "+OK\r\n");
    assert_eq!(world.call(client, &["DEBUG", "DIGEST"]), digest);
    world.call(client, &["SET", "a", "2"]);
    world.call(client, &["SET", "new", "2"]);
    let reply = world.call(client, &["DEBUG", "RELOAD", "NOSAVE", "NOFLUSH"]);
    assert_eq!(
        reply,
        "-ERR Error trying to load the RDB dump, check server logs.\r\n"
    );
    let words = ["DEBUG", "RELOAD", "NOSAVE", "NOFLUSH", "MERGE"];
    assert_eq!(world.call(client, &words), "+OK\r\n");
    assert_eq!(world.call(client, &["GET", "a"]), "$1\r\n1\r\n");
    assert_eq!(world.call(client, &["GET", "new"]), "$1\r\n2\r\n");
    assert_eq!(
        world.call(client, &["DEBUG", "RELOAD", "NOSAVE"]),
        "+OK\r\n"
    );
    assert_eq!(world.call(client, &["DEBUG", "DIGEST"]), digest);
}
