//! kill -9 under load, again and again: what was answered is there after the restart.
//!
//! Clients each count up in a key of theirs, some writes at a time, and note the last number that was answered. With
//! `appendfsync always` and `no` everything answered had been written before; `everysec` may hold writes back for up to two
//! seconds while the disk is busy, so there only what was answered earlier has to be there. Rewrites go on meanwhile.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_redis-server");
const CLIENTS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);
/// What `everysec` may hold back, and some time for a busy machine.
const HELD_BACK: Duration = Duration::from_millis(2500);

/// A server, killed with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts on the directory, and waits until the data is there.
fn start(dir: &Path, policy: &str) -> Server {
    for _ in 0..20 {
        let port = free_port();
        let mut child = Command::new(PROGRAM)
            .current_dir(dir)
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
            ])
            .args(["--appendonly", "yes", "--appendfsync", policy])
            .args(["--auto-aof-rewrite-percentage", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while lines.read_line(&mut log).unwrap() > 0 {
            if log.contains("Ready to accept connections tcp") {
                // The log is read on, so that the server never waits for a reader.
                std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
                return Server { child, port };
            }
        }
        child.wait().unwrap();
        assert!(log.contains("Failed listening on port"), "{log}");
    }
    panic!("no free port")
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The number that a client's key holds.
fn number(port: u16, client: usize) -> u64 {
    let mut stream = connect(port);
    write!(stream, "INCRBY c{client} 0\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let number = line.trim_end().strip_prefix(':');
    number.unwrap_or_else(|| panic!("{line}")).parse().unwrap()
}

/// Numbers that look random, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % n
    }
}

/// What was answered to a client, and when.
type Answered = Mutex<Vec<(u64, Instant)>>;

/// Counts up from `from` until the server is gone.
fn count(port: u16, client: usize, from: u64, answered: &Answered, over: &AtomicBool) {
    let mut dice = Dice(from + client as u64);
    let mut stream = connect(port);
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    let mut n = from;
    while !over.load(Ordering::Relaxed) {
        let several = 1 + dice.below(8);
        let batch: String = (1..=several)
            .map(|i| format!("SET c{client} {}\r\n", n + i))
            .collect();
        if stream.write_all(batch.as_bytes()).is_err() {
            return;
        }
        for _ in 0..several {
            let mut line = String::new();
            match replies.read_line(&mut line) {
                Ok(5) => assert_eq!(line, "+OK\r\n"),
                _ => return,
            }
            n += 1;
            answered.lock().unwrap().push((n, Instant::now()));
        }
    }
}

/// One life of a server, and a look at what the next one finds.
fn round(dir: &Path, policy: &str, life: Duration, rewrite_after: Duration) {
    let mut server = start(dir, policy);
    let port = server.port;
    let before: Vec<u64> = (0..CLIENTS).map(|client| number(port, client)).collect();
    let answered: Vec<Answered> = (0..CLIENTS).map(|_| Answered::default()).collect();
    let over = AtomicBool::new(false);
    let killed = std::thread::scope(|scope| {
        for (client, answered) in answered.iter().enumerate() {
            let (from, over) = (before[client], &over);
            scope.spawn(move || count(port, client, from, answered, over));
        }
        std::thread::sleep(rewrite_after.min(life));
        connect(port).write_all(b"BGREWRITEAOF\r\n").unwrap();
        std::thread::sleep(life.saturating_sub(rewrite_after));
        // Every client has been answered once, however slow the machine is.
        let since = Instant::now();
        while answered.iter().any(|a| a.lock().unwrap().is_empty()) {
            assert!(since.elapsed() < PATIENCE, "no answers");
            std::thread::yield_now();
        }
        let killed = Instant::now();
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        over.store(true, Ordering::Relaxed);
        killed
    });
    let server = start(dir, policy);
    for (client, answered) in answered.iter().enumerate() {
        let answered = answered.lock().unwrap();
        let promised = match policy {
            "everysec" => answered
                .iter()
                .rev()
                .find(|(_, at)| killed.duration_since(*at) >= HELD_BACK),
            _ => answered.last(),
        };
        let promised = promised.map_or(before[client], |(n, _)| *n);
        let there = number(server.port, client);
        assert!(
            there >= promised,
            "{policy}: {there} of {promised} answered"
        );
    }
}

fn rounds(policy: &str, times: u64, life_ms: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(times);
    for _ in 0..times {
        let life = Duration::from_millis(life_ms + dice.below(300));
        let rewrite_after = Duration::from_millis(dice.below(200));
        round(dir.path(), policy, life, rewrite_after);
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
