//! A server process of its own: started on a free port in a directory that is temporary, ended with the test; and
//! connections to it. Every test program that talks to servers has this file, and uses what it needs of it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redstart::resp::value::{Decoder, Value};
use tempfile::TempDir;

/// Redis versions that the peer may have, as far as they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V70,
    V72,
}

/// A reply that takes longer will never come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Nor will what many of them have to bring about.
pub const LONG_PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub struct Node {
    child: Child,
    program: String,
    pub port: u16,
    /// Its directory, removed with the last who has it.
    pub dir: Arc<TempDir>,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn log_of(dir: &TempDir, port: u16) -> PathBuf {
    dir.path().join(format!("{port}.log"))
}

/// A directory that is gone after its last user.
pub fn directory() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

/// The server under test: ours, built by cargo, or the one that `REDSTART_SUBJECT` names, to see how two
/// others compare.
pub fn our_program() -> String {
    std::env::var("REDSTART_SUBJECT").unwrap_or_else(|_| env!("CARGO_BIN_EXE_redis-server").into())
}

/// The peer to compare with: Debian's, or the one that `REDSTART_PEER` names.
pub fn peer_program() -> String {
    std::env::var("REDSTART_PEER").unwrap_or_else(|_| "redis-server".into())
}

/// Both servers, started with the same options.
pub fn both(options: &[&str]) -> [Node; 2] {
    [our_program(), peer_program()].map(|program| Node::start(&program, options))
}

impl Node {
    /// Starts `program` with these further options.
    pub fn start(program: &str, options: &[&str]) -> Node {
        Node::start_in(directory(), program, options)
    }

    /// The same on a directory where another may have been before.
    pub fn start_in(dir: Arc<TempDir>, program: &str, options: &[&str]) -> Node {
        // Empty, so that CONFIG REWRITE has a file to write.
        let config = dir.path().join("redis.conf");
        File::create(&config).unwrap();
        let path = dir.path().to_path_buf();
        Node::launch(dir, program, |port, command| {
            command
                .arg(&config)
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args(["--save", "", "--enable-debug-command", "yes"])
                .args(["--dir", path.to_str().unwrap()])
                .args(options);
        })
    }

    /// Starts `program` with the arguments that `arguments` adds for a port, and waits until it can be reached there.
    pub fn launch(dir: Arc<TempDir>, program: &str, arguments: impl Fn(u16, &mut Command)) -> Node {
        // Another test may take the port between the look and the start: try again then.
        for _ in 0..20 {
            let port = free_port();
            let log = File::create(log_of(&dir, port)).unwrap();
            let mut command = Command::new(program);
            arguments(port, &mut command);
            let child = command
                .current_dir(dir.path())
                .stdin(Stdio::null())
                .stdout(log)
                .spawn()
                .unwrap_or_else(|e| {
                    panic!("can't start {program}: {e} (.ci/run installs the peer)")
                });
            let mut node = Node {
                child,
                program: program.to_string(),
                port,
                dir: dir.clone(),
            };
            for _ in 0..1000 {
                if node.child.try_wait().unwrap().is_some() {
                    break;
                }
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return node;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            eprintln!("{}", node.log());
        }
        panic!("{program} does not start");
    }

    /// Starts a server where another has been: its port, and its configuration file.
    pub fn start_at(before: &Node, program: &str) -> Node {
        let (dir, port) = (before.dir.clone(), before.port);
        let log = File::create(log_of(&dir, port)).unwrap();
        let child = Command::new(program)
            .arg(dir.path().join("redis.conf"))
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--dir", dir.path().to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .unwrap();
        let program = program.to_string();
        wait_until("the server is there again", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Node {
            child,
            program,
            port,
            dir,
        }
    }

    /// What it has said on standard output.
    pub fn log(&self) -> String {
        text_of(&log_of(&self.dir, self.port))
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A new connection.
    pub fn connect(&self) -> Conn {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let server = self.program.clone();
        Conn {
            server,
            stream,
            decoder: Decoder::new(),
            buf: Vec::new(),
            at: 0,
            awaited: String::new(),
        }
    }

    /// What the server says its version is.
    pub fn version(&self) -> Version {
        let info = self.connect().call(&["INFO", "server"]);
        let info = String::from_utf8_lossy(info.as_bytes().unwrap()).into_owned();
        let line = info
            .lines()
            .find(|l| l.starts_with("redis_version:"))
            .unwrap();
        if line.starts_with("redis_version:7.0.") {
            Version::V70
        } else {
            Version::V72
        }
    }

    /// Waits until the process has ended; its exit status, `None` after a signal.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!(
                "--- the log of {} ends so:\n{}",
                self.program,
                tail.join("\n")
            );
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is in a file, as far as it is there.
pub fn text_of(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A client connection.
pub struct Conn {
    server: String,
    stream: TcpStream,
    /// The command whose reply is awaited, for the message if it does not come.
    pub awaited: String,
    decoder: Decoder,
    buf: Vec<u8>,
    at: usize,
}

impl Conn {
    /// Sends bytes as they are. A server that has closed the connection meanwhile is no fault of the sender's.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a command.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        let mut bytes = Vec::new();
        encode(args, &mut bytes);
        self.send_raw(&bytes);
    }

    /// The next reply, or `None` when the server has closed the connection.
    pub fn try_reply(&mut self) -> Option<Value> {
        loop {
            let (used, value) = self
                .decoder
                .decode(&self.buf[self.at..])
                .unwrap_or_else(|e| {
                    let rest = &self.buf[self.at..self.buf.len().min(self.at + 200)];
                    panic!("a reply is no RESP: {e}: {}", rest.escape_ascii())
                });
            self.at += used;
            if let Some(value) = value {
                return Some(value);
            }
            self.buf.drain(..self.at);
            self.at = 0;
            let mut chunk = [0; 65536];
            let n = match self.stream.read(&mut chunk) {
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => 0,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => panic!("{}: no reply to {:?}: {e}", self.server, self.awaited),
            };
            if n == 0 {
                return None;
            }
            self.buf.extend_from_slice(&chunk[..n]);
        }
    }

    /// The next reply.
    pub fn reply(&mut self) -> Value {
        self.try_reply().expect("the server closed the connection")
    }

    /// Sends a command and waits for its reply.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.send(args);
        self.reply()
    }

    /// Everything the server still sends, to the end, as bytes. `Err` holds what came before a reset.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>, Vec<u8>> {
        let mut all = self.buf.split_off(self.at);
        match self.stream.read_to_end(&mut all) {
            Ok(_) => Ok(all),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Err(all),
            Err(e) => panic!("{}: no end: {e}: {}", self.server, all.escape_ascii()),
        }
    }

    /// Tells the server that nothing more will come.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// A second handle for the same socket, to write while another thread reads.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Both ends: ours, the server's.
    pub fn addresses(&self) -> (String, String) {
        let (own, server) = (self.stream.local_addr(), self.stream.peer_addr());
        (own.unwrap().to_string(), server.unwrap().to_string())
    }
}

/// Adds a command in its multibulk form.
pub fn encode<A: AsRef<[u8]>>(args: &[A], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// The value of a field of INFO.
pub fn info(conn: &mut Conn, field: &str) -> String {
    let text = conn.call(&["INFO", "everything"]);
    let text = String::from_utf8_lossy(text.as_bytes().unwrap()).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().to_string()
}

/// Waits until it is so.
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < LONG_PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until all have the same place in the stream, the master's, which comes first; the digest of each one's data.
pub fn digests_of_one_stream(all: &mut [&mut Conn], context: &str) -> Vec<Vec<u8>> {
    wait_until(context, || {
        let offset = info(all[0], "master_repl_offset");
        all.iter_mut().skip(1).all(|conn| {
            info(conn, "master_link_status") == "up" && info(conn, "slave_repl_offset") == offset
        })
    });
    all.iter_mut().map(|conn| digest(conn)).collect()
}

pub fn digest(conn: &mut Conn) -> Vec<u8> {
    conn.call(&["DEBUG", "DIGEST"]).as_bytes().unwrap().to_vec()
}

/// The reply is OK.
pub fn ok(reply: &Value) {
    assert_eq!(reply, &Value::Status("OK".into()));
}
