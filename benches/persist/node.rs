//! A server process with its directory, what the system says of it, and a connection that keeps it busy.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Requests sent at a time.
pub const BATCH: usize = 100;
const VALUE: &str = "sixteen bytes ok";
/// A clock tick of /proc, in seconds.
const TICK_S: f64 = 0.01;

/// A server under measurement.
pub struct Node {
    /// How it is started.
    command: Command,
    child: Child,
    pub conn: Conn,
    pub port: u16,
    /// Removed with it.
    _dir: TempDir,
    /// Likewise.
    group: Option<PathBuf>,
}

impl Node {
    /// Starts a program with its files below `dir`, and these options.
    pub fn start(program: &str, dir: &Path, options: &[&str]) -> io::Result<Node> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let dir = tempfile::tempdir_in(dir)?;
        let mut command = Command::new(program);
        command
            .args(["--port", &port.to_string(), "--save", ""])
            .args(["--enable-debug-command", "yes", "--dir"])
            .arg(dir.path())
            .args(options)
            .stdin(Stdio::null())
            .stdout(File::create(dir.path().join("log"))?);
        Ok(Node {
            child: command.spawn()?,
            command,
            conn: connect(port)?,
            port,
            _dir: dir,
            group: None,
        })
    }

    /// Kills it and starts it again.
    pub fn restart(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = self.command.spawn()?;
        self.conn = connect(self.port)?;
        Ok(())
    }

    /// One more connection.
    pub fn connect(&self) -> io::Result<Conn> {
        Conn::new(TcpStream::connect(("127.0.0.1", self.port))?)
    }

    /// Fills it with so many keys, `key:0` and so on.
    pub fn populate(&mut self, keys: usize) -> io::Result<()> {
        let reply = self
            .conn
            .call(&["DEBUG", "POPULATE", &keys.to_string(), "key", "16"])?;
        assert!(reply.starts_with('+'), "{reply}");
        Ok(())
    }

    /// A hash `hash` and a sorted set `zset` of so many elements.
    pub fn populate_big(&mut self, elements: usize) -> io::Result<()> {
        for from in (0..elements).step_by(BATCH) {
            for i in from..from + BATCH {
                let (field, score) = (format!("field:{i}"), (i * 7919 % elements).to_string());
                self.conn.queue(&["HSET", "hash", &field, VALUE]);
                self.conn.queue(&["ZADD", "zset", &score, &field]);
            }
            self.conn.exchange(2 * BATCH)?;
        }
        Ok(())
    }

    /// A field of INFO as a number; 0 if there is none.
    pub fn info(&mut self, field: &str) -> io::Result<u64> {
        let text = self.conn.call(&["INFO", "everything"])?;
        let line = |l: &str| l.strip_prefix(field)?.strip_prefix(':')?.parse().ok();
        Ok(text.lines().find_map(line).unwrap_or(0))
    }

    /// True while a save or a rewrite of the log is under way.
    pub fn is_saving(&mut self) -> io::Result<bool> {
        Ok(self.info("rdb_bgsave_in_progress")? == 1 || self.info("aof_rewrite_in_progress")? == 1)
    }

    /// Whether the last save and the last rewrite succeeded.
    pub fn saved(&mut self) -> io::Result<bool> {
        let text = self.conn.call(&["INFO", "persistence"])?;
        let done = ["rdb_last_bgsave_status:ok", "aof_last_bgrewrite_status:ok"];
        Ok(done.iter().all(|line| text.contains(line)))
    }

    /// CPU seconds of all its threads, and of the children that have ended.
    pub fn cpu_s(&self) -> io::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit(") ").next().unwrap_or("");
        let ticks: u64 = after_name
            .split(' ')
            .skip(11)
            .take(4)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Ok(ticks as f64 * TICK_S)
    }

    /// Resident bytes.
    pub fn rss(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = |l: &str| {
            l.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        };
        Ok(status.lines().find_map(line).unwrap_or(0u64) * 1024)
    }

    /// True as long as the process lives.
    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Puts it into a control group of its own, in which [`narrow`](Self::narrow) will limit it. What the kernel does not let
    /// us do is the error.
    pub fn confine(&mut self) -> io::Result<()> {
        let group = groups().join(format!("persist-{}", self.child.id()));
        fs::create_dir(&group)?;
        fs::write(group.join("cgroup.procs"), self.child.id().to_string())?;
        self.group = Some(group);
        Ok(())
    }

    /// Allows it, and its children, so many bytes of memory.
    pub fn narrow(&mut self, bytes: u64) -> io::Result<()> {
        let limit = match is_unified() {
            true => "memory.max",
            false => "memory.limit_in_bytes",
        };
        match &self.group {
            Some(group) => fs::write(group.join(limit), bytes.to_string()),
            None => Ok(()),
        }
    }
}

/// Whether control groups are of the second version.
fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn groups() -> &'static Path {
    match is_unified() {
        true => Path::new("/sys/fs/cgroup"),
        false => Path::new("/sys/fs/cgroup/memory"),
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(group) = &self.group {
            let _ = fs::remove_dir(group);
        }
    }
}

fn connect(port: u16) -> io::Result<Conn> {
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return Conn::new(stream),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A connection to a server.
pub struct Conn {
    stream: TcpStream,
    input: Vec<u8>,
    request: Vec<u8>,
    random: u64,
}

impl Conn {
    fn new(stream: TcpStream) -> io::Result<Conn> {
        stream.set_nodelay(true)?;
        Ok(Conn {
            stream,
            input: Vec::new(),
            request: Vec::new(),
            random: 0x9e37_79b9_7f4a_7c15,
        })
    }

    /// A number below `n`, the same ones in every run.
    pub fn below(&mut self, n: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % n as u64) as usize
    }

    /// Queues a request.
    pub fn queue(&mut self, words: &[&str]) {
        let request = &mut self.request;
        request.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            request.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.input[..at]).into_owned();
                self.input.drain(..at + 2);
                return Ok(line);
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.input.extend_from_slice(&buffer[..n]);
                Ok(())
            }
        }
    }

    /// Sends what is queued and takes so many replies of one line; gives how many were errors.
    pub fn exchange(&mut self, replies: usize) -> io::Result<usize> {
        self.stream.write_all(&self.request)?;
        self.request.clear();
        let mut errors = 0;
        for _ in 0..replies {
            errors += usize::from(self.line()?.starts_with('-'));
        }
        Ok(errors)
    }

    /// One request and its reply: a line, or a text.
    pub fn call(&mut self, words: &[&str]) -> io::Result<String> {
        self.queue(words);
        self.exchange(0)?;
        let line = self.line()?;
        let Some(len) = line.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()) else {
            return Ok(line);
        };
        while self.input.len() < len + 2 {
            self.more()?;
        }
        let text = String::from_utf8_lossy(&self.input[..len]).into_owned();
        self.input.drain(..len + 2);
        Ok(text)
    }

    /// A batch of SETs of keys drawn from the first `keys`. Gives the number of errors.
    pub fn set_some(&mut self, keys: usize) -> io::Result<usize> {
        for _ in 0..BATCH {
            let key = format!("key:{}", self.below(keys));
            self.queue(&["SET", &key, VALUE]);
        }
        self.exchange(BATCH)
    }

    /// A batch of writes, of keys drawn from the first `keys` and of elements of the two big ones.
    pub fn write_some(&mut self, keys: usize, elements: usize) -> io::Result<usize> {
        for i in 0..BATCH {
            let (n, element) = (self.below(keys), self.below(elements));
            let (key, field) = (format!("key:{n}"), format!("field:{element}"));
            match i % 3 {
                0 => self.queue(&["SET", &key, VALUE]),
                1 => self.queue(&["HSET", "hash", &field, VALUE]),
                _ => self.queue(&["ZADD", "zset", &n.to_string(), &field]),
            }
        }
        self.exchange(BATCH)
    }
}

/// Runs `step`, which does [`BATCH`] requests, at so many requests a second until it says that it is enough.
pub fn paced(
    per_second: usize,
    mut step: impl FnMut(usize) -> io::Result<bool>,
) -> io::Result<usize> {
    let start = Instant::now();
    let mut done = 0;
    while step(done)? {
        done += BATCH;
        let due = Duration::from_secs_f64(done as f64 / per_second as f64);
        if let Some(early) = due.checked_sub(start.elapsed()) {
            std::thread::sleep(early);
        }
    }
    Ok(done)
}
