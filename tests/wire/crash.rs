//! kill -9 under load, again and again: what was answered is there after the restart.
//!
//! Clients each count up in a key of theirs, some writes at a time, and note the last number that was answered. With
//! `appendfsync always` and `no` everything answered had been written before; `everysec` may hold writes back for up to two
//! seconds while the disk is busy, so there only what was answered earlier has to be there. Rewrites go on meanwhile.
//! Without a log it is what the last complete save had. `REDSTART_KILLS=1000` makes it so many kills.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod node;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redstart::base::rng::Rng;
use redstart::resp::value::Value;
use tempfile::TempDir;

use node::{Conn, Node, directory, encode, info, ok, our_program, wait_until};

const CLIENTS: usize = 4;
/// In place of a policy: nothing is logged.
const NO_LOG: &str = "no log";
/// What `everysec` may hold back, and some time for a busy machine.
const HELD_BACK: Duration = Duration::from_millis(2500);

/// Starts on the directory, and waits until the data is there.
fn start(dir: &Arc<TempDir>, policy: &str) -> Node {
    let options = match policy {
        NO_LOG => vec!["--save", ""],
        policy => vec![
            "--appendonly",
            "yes",
            "--appendfsync",
            policy,
            "--auto-aof-rewrite-percentage",
            "0",
        ],
    };
    let node = Node::start_in(dir.clone(), &our_program(), &options);
    let mut conn = node.connect();
    wait_until("all is loaded", || info(&mut conn, "loading") == "0");
    node
}

/// The number that a client's key holds.
fn number(conn: &mut Conn, client: usize) -> u64 {
    match conn.call(&["INCRBY", &format!("c{client}"), "0"]) {
        Value::Int(number) => number.try_into().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// What was answered to a client, and when.
type Answered = Mutex<Vec<(u64, Instant)>>;

/// Counts up from `from` until the server is gone.
fn count(mut conn: Conn, client: usize, from: u64, answered: &Answered, over: &AtomicBool) {
    let mut rng = Rng::new(from + client as u64);
    let mut n = from;
    while !over.load(Ordering::Relaxed) {
        let several = 1 + rng.below(8);
        let mut batch = Vec::new();
        for i in 1..=several {
            encode(
                &["SET", &format!("c{client}"), &(n + i).to_string()],
                &mut batch,
            );
        }
        conn.send_raw(&batch);
        for _ in 0..several {
            let Some(reply) = conn.try_reply() else {
                return;
            };
            ok(&reply);
            n += 1;
            answered.lock().unwrap().push((n, Instant::now()));
        }
    }
}

/// Saves, and notes what had been answered when that began.
fn save(conn: &mut Conn, answered: &[Answered], saved: &mut Vec<u64>) {
    let last = |a: &Answered| a.lock().unwrap().last().map_or(0, |(n, _)| *n);
    *saved = answered.iter().map(last).collect();
    conn.call(&["BGSAVE"]);
    wait_until("it is saved", || {
        info(conn, "rdb_bgsave_in_progress") == "0"
    });
    assert_eq!(info(conn, "rdb_last_bgsave_status"), "ok");
}

/// One life of a server, and a look at what the next one finds.
fn round(dir: &Arc<TempDir>, policy: &str, life: Duration, rewrite_after: Duration) {
    let mut server = start(dir, policy);
    let mut asking = server.connect();
    let before: Vec<u64> = (0..CLIENTS).map(|c| number(&mut asking, c)).collect();
    let answered: Vec<Answered> = (0..CLIENTS).map(|_| Answered::default()).collect();
    let over = AtomicBool::new(false);
    let mut saved = before.clone();
    let killed = std::thread::scope(|scope| {
        for (client, answered) in answered.iter().enumerate() {
            let (from, over, conn) = (before[client], &over, server.connect());
            scope.spawn(move || count(conn, client, from, answered, over));
        }
        // Every client has been answered once, however slow the machine is.
        wait_until("everybody is answered", || {
            answered.iter().all(|a| !a.lock().unwrap().is_empty())
        });
        std::thread::sleep(rewrite_after.min(life));
        if policy == NO_LOG {
            save(&mut asking, &answered, &mut saved);
            asking.send(&["BGSAVE"]);
        } else {
            asking.send(&["BGREWRITEAOF"]);
        }
        std::thread::sleep(life.saturating_sub(rewrite_after));
        let killed = Instant::now();
        server.kill();
        over.store(true, Ordering::Relaxed);
        killed
    });
    let server = start(dir, policy);
    let mut asking = server.connect();
    for (client, answered) in answered.iter().enumerate() {
        let answered = answered.lock().unwrap();
        let old = |(_, at): &&(u64, Instant)| killed.duration_since(*at) >= HELD_BACK;
        let last = match policy {
            NO_LOG => None,
            "everysec" => answered.iter().rev().find(old),
            _ => answered.last(),
        };
        let promised = last.map_or(saved[client], |(n, _)| *n);
        let there = number(&mut asking, client);
        assert!(
            there >= promised,
            "{policy}: {there} of {promised} answered"
        );
    }
}

/// So many rounds of the forty that all tests have together.
fn rounds(policy: &str, times: u64, life_ms: u64) {
    const ALL: u64 = 40;
    let kills = std::env::var("REDSTART_KILLS").map_or(ALL, |n| n.parse().unwrap());
    let dir = directory();
    let mut rng = Rng::new(times);
    for _ in 0..(times * kills).div_ceil(ALL) {
        let life = Duration::from_millis(life_ms + rng.below(300));
        let rewrite_after = Duration::from_millis(rng.below(200));
        round(&dir, policy, life, rewrite_after);
    }
}

#[test]
fn always_survives_kills() {
    rounds("always", 13, 20);
}

#[test]
fn no_survives_kills() {
    rounds("no", 13, 20);
}

#[test]
fn everysec_survives_kills() {
    rounds("everysec", 4, 3000);
}

#[test]
fn saves_survive_kills() {
    rounds(NO_LOG, 10, 20);
}
