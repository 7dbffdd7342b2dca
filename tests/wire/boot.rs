//! The program from outside: what it takes, what it says, how it starts and how it ends.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod node;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use node::{Conn, Node, free_port, info, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_redis-server");
const PATIENCE: Duration = Duration::from_secs(60);

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.current_dir(dir).args(args);
    for name in ["NOTIFY_SOCKET", "UPSTART_JOB"] {
        command.env_remove(name);
    }
    command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// Runs the program to its end.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = command(dir.path(), args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A server in a directory of its own, ended with the test.
struct Server {
    child: Child,
    lines: BufReader<ChildStdout>,
    log: String,
    port: u16,
}

impl Server {
    /// Starts with these arguments and a port, and waits until it is ready.
    fn start(dir: &Path, args: &[&str]) -> Server {
        Server::start_with(dir, args, |_| ())
    }

    fn start_with(dir: &Path, args: &[&str], adapt: impl Fn(&mut Command)) -> Server {
        // Somebody else may take the port between the look and the start: try again then.
        for _ in 0..20 {
            let port = free_port();
            let mut command = command(dir, args);
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
            adapt(&mut command);
            let mut child = command.spawn().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap());
            let mut server = Server {
                child,
                lines,
                log: String::new(),
                port,
            };
            if server.says("Ready to accept connections tcp") {
                return server;
            }
            assert!(
                server.log.contains("Failed listening on port"),
                "{}",
                server.log
            );
        }
        panic!("no free port")
    }

    /// Reads the log up to a line with this text; false if it ends before.
    fn says(&mut self, text: &str) -> bool {
        loop {
            let from = self.log.len();
            if self.lines.read_line(&mut self.log).unwrap() == 0 {
                return false;
            }
            if self.log[from..].contains(text) {
                return true;
            }
        }
    }

    fn ask(&self, request: &str) -> String {
        ask(
            TcpStream::connect(("127.0.0.1", self.port)).unwrap(),
            request,
        )
    }

    /// Sends a signal, reads the log to its end, and gives the status.
    fn end_by(&mut self, signal: &str) -> Option<i32> {
        send_signal(signal, self.child.id());
        self.lines.read_to_string(&mut self.log).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send_signal(signal: &str, pid: u32) {
    let sent = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// One inline request and the first line of its reply.
fn ask(mut stream: impl Read + Write, request: &str) -> String {
    stream
        .write_all(format!("{request}\r\n").as_bytes())
        .unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim_end().to_string()
}

/// The value of CONFIG GET.
fn config(server: &Server, name: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream
        .write_all(format!("CONFIG GET {name}\r\n").as_bytes())
        .unwrap();
    let lines = BufReader::new(stream).lines();
    lines.map(Result::unwrap).nth(4).unwrap()
}

fn path(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_string()
}

#[test]
fn the_example_configuration_serves() {
    let dir = tempfile::tempdir().unwrap();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/redis.conf.example");
    let pid_file = path(&dir, "redis.pid");
    let mut server = Server::start(dir.path(), &[example, "--pidfile", &pid_file]);
    assert_eq!(server.ask("PING"), "+PONG");
    let pid = fs::read_to_string(&pid_file).unwrap();
    assert_eq!(pid, format!("{}\n", server.child.id()));
    assert_eq!(server.end_by("-TERM"), Some(0));
    assert!(!Path::new(&pid_file).exists());
    // In this order, by the same process.
    let mut rest = server.log.as_str();
    for said in [
        ":C ",
        " * oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo\n",
        " * Redis version=7.2.6, bits=",
        " * Configuration loaded\n",
        ":M ",
        " * monotonic clock: POSIX clock_gettime\n",
        " * Running mode=standalone, port=",
        " * Server initialized\n",
        " * Ready to accept connections tcp\n",
        ":signal-handler (",
        ") Received SIGTERM scheduling shutdown...\n",
        " * User requested shutdown...\n",
        " * Removing the pid file.\n",
        " # Redis is now ready to exit, bye bye...\n",
    ] {
        let at = rest
            .find(said)
            .unwrap_or_else(|| panic!("no {said:?} in its place:\n{}", server.log));
        rest = &rest[at + said.len()..];
    }
    assert_eq!(rest, "");
}

#[test]
fn a_wrong_line_stops_the_start() {
    let (status, _, stderr) = run(&["--port", "0", "--maxmemory", "lots"]);
    assert_eq!(status, Some(1));
    assert_eq!(
        stderr,
        "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.6) ***\nReading the configuration file, at line 3\n\
         >>> 'maxmemory \"lots\"'\nargument must be a memory value\n"
    );
    // The name is told in full: whoever reads the log does not know where the start was.
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().canonicalize().unwrap();
    let Output { status, stdout, .. } = command(&from, &["no/such.conf"]).output().unwrap();
    assert_eq!(status.code(), Some(1));
    let said = format!(
        " # Fatal error, can't open config file '{}/no/such.conf': No such file or directory\n",
        from.display()
    );
    let stdout = String::from_utf8(stdout).unwrap();
    assert!(stdout.ends_with(&said), "{stdout}");
}

#[test]
fn an_empty_dbfilename_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), &["--dbfilename", ""]);
    assert_eq!(server.ask("SAVE"), "-ERR");
    assert!(server.says("on the final destination  (in server root dir "));
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn what_cannot_be_served_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let cases: [(&[&str], &str); 7] = [
        (&["--bind", "127.0.0.1", "--port", &port], "tcp), aborting."),
        (
            &["--port", "0"],
            "Configured to not listen anywhere, exiting.",
        ),
        (
            &["--port", "0", "--unixsocket", "/no/such/s"],
            "Failed opening Unix socket: bind: No such file or directory",
        ),
        (
            &["--port", "0", "--tls-port", "1"],
            "Failed to configure TLS. Check logs for more info.",
        ),
        (
            &["--port", "0", "--user", "alice", "on", "+nosuch"],
            "Error loading ACL rule '+nosuch' for the user named 'alice': Unknown command or category name in ACL\n",
        ),
        (
            &["--port", "0", "--aclfile", "/no/such.acl"],
            "Aborting Redis startup because of ACL errors: Error loading ACLs, opening file '/no/such.acl': No such file or directory\n",
        ),
        (
            &["--port", "0", "--aclfile", "/x", "--user", "a", "on"],
            "at the same setting an ACL file path is invalid",
        ),
    ];
    for (args, said) in cases {
        let (status, stdout, _) = run(args);
        assert_eq!(status, Some(1), "{args:?}");
        assert!(stdout.contains(said), "{stdout}");
    }
    let (_, stdout, _) = run(cases[0].0);
    let said = format!(
        "Could not create server TCP listening socket 127.0.0.1:{port}: bind: Address already in use\n"
    );
    assert!(stdout.contains(&said), "{stdout}");
}

#[test]
fn the_unix_socket_has_its_permissions_and_goes_with_the_server() {
    let dir = tempfile::tempdir().unwrap();
    // A relative path, and a socket that a crash left behind.
    let file = path(&dir, "s.sock");
    drop(std::os::unix::net::UnixListener::bind(&file).unwrap());
    let mut server = Server::start(
        dir.path(),
        &["--unixsocket", "s.sock", "--unixsocketperm", "700"],
    );
    assert!(server.says("Ready to accept connections unix"));
    assert_eq!(ask(UnixStream::connect(&file).unwrap(), "PING"), "+PONG");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(server.end_by("-INT"), Some(0));
    assert!(!Path::new(&file).exists());
    assert!(server.log.contains("Removing the unix socket file."));
}

#[test]
fn the_configuration_may_come_on_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let conf = path(&dir, "conf");
    fs::write(
        &conf,
        "rename-command PING knock\nmaxmemory 100mb\ntimeout 7\n",
    )
    .unwrap();
    fs::write(path(&dir, "in"), "timeout 8\nmaxmemory-samples 9").unwrap();
    let server = Server::start_with(dir.path(), &["conf"], |command| {
        command.stdin(fs::File::open(path(&dir, "in")).unwrap());
        // Only the first and the last argument may say that.
        command.args(["--hz", "20", "-"]);
    });
    assert_eq!(config(&server, "timeout"), "8");
    assert_eq!(config(&server, "maxmemory"), "104857600");
    assert_eq!(config(&server, "maxmemory-samples"), "9");
    assert_eq!(config(&server, "hz"), "20");
    assert_eq!(
        server.ask("PING"),
        "-ERR unknown command 'PING', with args beginning with:"
    );
    assert_eq!(server.ask("knock"), "+PONG");
}

#[test]
fn listeners_move_and_stay_when_they_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), &[]);
    let (old, new) = (server.port, free_port());
    assert_eq!(server.ask(&format!("CONFIG SET port {new}")), "+OK");
    assert!(TcpStream::connect(("127.0.0.1", old)).is_err());
    server.port = new;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    assert_eq!(
        server.ask(&format!("CONFIG SET port {port}")),
        "-ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port. Check server logs."
    );
    assert_eq!(config(&server, "port"), new.to_string());
    assert_eq!(
        server.ask("CONFIG SET bind 203.0.113.1"),
        "-ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses."
    );
    assert_eq!(config(&server, "bind"), "127.0.0.1");
    assert_eq!(
        server.ask("CONFIG SET bind \"127.0.0.1 -203.0.113.1\""),
        "+OK"
    );
    let title = fs::read_to_string(format!("/proc/{}/cmdline", server.child.id())).unwrap();
    assert_eq!(
        title.trim_end_matches('\0'),
        format!("{PROGRAM} 127.0.0.1:{new}")
    );
}

#[test]
fn a_turn_is_short_whoever_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--enable-debug-command", "yes"]);
    let connect = || TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let mut clients: Vec<TcpStream> = (0..40).map(|_| connect()).collect();
    // They all send while one holds the server; then each needs longer than a turn takes.
    let holder = b"DEBUG SLEEP 0.2\r\n".as_slice();
    clients[0].write_all(holder).unwrap();
    for client in &mut clients {
        client.write_all(b"DEBUG SLEEP 0.001\r\n").unwrap();
    }
    for (i, client) in clients.iter_mut().enumerate() {
        let expected = match i {
            0 => "+OK\r\n+OK\r\n",
            _ => "+OK\r\n",
        };
        let mut reply = vec![0; expected.len()];
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.read_exact(&mut reply).unwrap();
        assert_eq!(String::from_utf8_lossy(&reply), expected);
    }
    let mut info = String::new();
    clients[1].write_all(b"INFO debug\r\nQUIT\r\n").unwrap();
    clients[1].read_to_string(&mut info).unwrap();
    let (_, most) = info.split_once("eventloop_cmd_per_cycle_max:").unwrap();
    assert_eq!(most.lines().next(), Some("1"), "commands in a turn");
}

#[test]
fn systemd_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(path(&dir, "notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut server = Server::start_with(
        dir.path(),
        &["--supervised", "systemd", "--daemonize", "yes"],
        |command| {
            command.env("NOTIFY_SOCKET", path(&dir, "notify"));
        },
    );
    assert_eq!(server.end_by("-TERM"), Some(0));
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "STOPPING=1\n") {
        let mut state = [0; 100];
        let n = socket.recv(&mut state).unwrap();
        told.push(String::from_utf8_lossy(&state[..n]).into_owned());
    }
    assert_eq!(
        told,
        [
            "STATUS=Redis is loading...\n",
            "STATUS=Ready to accept connections\n",
            "READY=1\n",
            "STOPPING=1\n"
        ]
    );
}

#[test]
fn upstart_is_told_by_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(dir.path(), &["--supervised", "upstart", "--port", "0"]);
    command.args(["--unixsocket", &path(&dir, "socket")]);
    let mut child = command.env("UPSTART_JOB", "redis").spawn().unwrap();
    let mut server = Server {
        lines: BufReader::new(child.stdout.take().unwrap()),
        child,
        log: String::new(),
        port: 0,
    };
    assert!(server.says("supervised by upstart, will stop to signal readiness"));
    let stat = format!("/proc/{}/stat", server.child.id());
    let stopped = |stat: String| stat.rsplit(')').next().is_some_and(|s| s.starts_with(" T"));
    let give_up = Instant::now() + PATIENCE;
    while !stopped(fs::read_to_string(&stat).unwrap()) {
        assert!(Instant::now() < give_up, "it runs on:\n{}", server.log);
        std::thread::yield_now();
    }
    send_signal("-CONT", server.child.id());
    assert!(server.says("Ready to accept connections unix"));
    assert_eq!(server.end_by("-TERM"), Some(0));
}

#[test]
fn a_daemon_leaves_its_number_and_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let (pid_file, log, sock) = (path(&dir, "pid"), path(&dir, "log"), path(&dir, "s"));
    let args = [
        "--daemonize",
        "yes",
        "--port",
        "0",
        "--unixsocket",
        &sock,
        "--pidfile",
        &pid_file,
        "--logfile",
        "log",
    ];
    let status = command(dir.path(), &args)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let until = Instant::now() + PATIENCE;
    let wait_until = |done: &dyn Fn() -> bool| {
        while !done() {
            assert!(
                Instant::now() < until,
                "{}",
                fs::read_to_string(&log).unwrap()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let logged = |text: &str| fs::read_to_string(&log).is_ok_and(|log| log.contains(text));
    wait_until(&|| logged("Ready to accept connections unix"));
    assert_eq!(ask(UnixStream::connect(&sock).unwrap(), "PING"), "+PONG");
    let pid: u32 = fs::read_to_string(&pid_file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    send_signal("-TERM", pid);
    wait_until(&|| logged("bye bye"));
    assert!(!Path::new(&pid_file).exists());
}

#[test]
fn a_crash_tells_of_the_server_and_of_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let options = [
        "--enable-debug-command",
        "yes",
        "--crash-memcheck-enabled",
        "no",
    ];
    let mut server = Server::start(dir.path(), &options);
    assert_eq!(server.ask("DEBUG SEGFAULT"), "");
    server.lines.read_to_string(&mut server.log).unwrap();
    assert_eq!(server.child.wait().unwrap().signal(), Some(11));
    let mut rest = server.log.as_str();
    for said in [
        "=== REDIS BUG REPORT START",
        "crashed by signal: 11",
        "\n------ STACK TRACE WITH NAMES ------\n",
        "\n------ INFO OUTPUT ------\n# Server\r\nredis_version:7.2.6\r\n",
        "\n------ CLIENT LIST OUTPUT ------\nid=",
        "\n------ CURRENT CLIENT INFO ------\nid=",
        "\nargc: '2'\nargv[0]: '\"DEBUG\"'\nargv[1]: '\"SEGFAULT\"'\n",
        "\n------ CONFIG DEBUG OUTPUT ------\n",
        "=== REDIS BUG REPORT END",
    ] {
        let at = rest
            .find(said)
            .unwrap_or_else(|| panic!("no {said:?}:\n{}", server.log));
        rest = &rest[at + said.len()..];
    }
}

#[test]
fn the_command_line_answers_questions() {
    let (status, stdout, _) = run(&["--version"]);
    assert_eq!(status, Some(0));
    assert!(
        stdout.starts_with("Redis server v=7.2.6 sha=00000000:0 malloc="),
        "{stdout}"
    );
    let (status, _, stderr) = run(&["-h"]);
    assert_eq!(status, Some(1));
    assert!(stderr.starts_with("Usage: ./redis-server [/path/to/redis.conf] [options] [-]\n"));
    let (_, stdout, _) = run(&["--check-system"]);
    assert!(stdout.starts_with("[slow-clocksource]..."), "{stdout}");
    assert_eq!(run(&["--test-memory", "10"]).0, Some(1));
}

#[test]
fn what_was_saved_comes_back_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--enable-debug-command", "yes", "--save", "1 1"];
    let mut server = Server::start(dir.path(), &options);
    for request in [
        "DEBUG POPULATE 20000",
        "RPUSH list a b c",
        "SADD set 1 2 3",
        "SADD words one two 3",
        "ZADD zset 1 a 2.5 b",
        "HSET hash field value",
        "XADD stream 1-1 f v",
        "SETRANGE big 400000 end",
        "SET later x EX 1000",
        "SELECT 0",
    ] {
        assert!(!server.ask(request).starts_with('-'), "{request}");
    }
    assert_eq!(server.ask("SAVE"), "+OK");
    let digest = server.ask("DEBUG DIGEST");
    send_signal("-KILL", server.child.id());
    server.child.wait().unwrap();
    let mut server = Server::start(dir.path(), &options);
    assert_eq!(server.ask("DEBUG DIGEST"), digest);
    let mut rest = server.log.as_str();
    for said in [
        " * Server initialized\n",
        " * Loading RDB produced by version 7.2.6\n",
        " * RDB age ",
        " * RDB memory usage when created ",
        " * Done loading RDB, keys loaded: 20008, keys expired: 0.\n",
        " * DB loaded from disk: ",
        " * Ready to accept connections tcp\n",
    ] {
        let at = rest
            .find(said)
            .unwrap_or_else(|| panic!("no {said:?} in its place:\n{}", server.log));
        rest = &rest[at + said.len()..];
    }
    // A save point, in the background.
    server.ask("SET another 1");
    assert!(server.says("1 changes in 1 seconds. Saving..."));
    assert!(server.says("Background saving terminated with success"));
    send_signal("-KILL", server.child.id());
    server.child.wait().unwrap();
    let mut server = Server::start(dir.path(), &options);
    assert_eq!(server.ask("GET another"), "$1");
    // What SHUTDOWN saves; nothing but the file stays.
    server.ask("SET third 1");
    assert_eq!(server.end_by("-TERM"), Some(0));
    let server = Server::start(dir.path(), &options);
    assert_eq!(server.ask("GET third"), "$1");
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["dump.rdb"]);
}

#[test]
fn a_corrupt_file_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("dump.rdb"), "REDIS0011\u{7f}\u{7f}").unwrap();
    let Output { status, stdout, .. } = command(
        dir.path(),
        &["--port", &free_port().to_string(), "--bind", "127.0.0.1"],
    )
    .output()
    .unwrap();
    assert_eq!(status.code(), Some(1));
    let log = String::from_utf8(stdout).unwrap();
    assert!(
        log.contains(" # Internal error in RDB reading offset "),
        "{log}"
    );
    assert!(
        log.ends_with(" # Fatal error loading the DB, check server logs. Exiting.\n"),
        "{log}"
    );
}

#[test]
fn who_insists_on_the_end_leaves_no_half_file() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--enable-debug-command", "yes", "--save", "1000 1"];
    let mut server = Server::start(dir.path(), &options);
    assert_eq!(server.ask("DEBUG POPULATE 10000"), "+OK");
    assert_eq!(server.ask("CONFIG SET rdb-key-save-delay 10000"), "+OK");
    send_signal("-INT", server.child.id());
    assert!(server.says("Saving the final RDB snapshot before exiting."));
    let names = || {
        let entries = fs::read_dir(dir.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name())
            .collect::<Vec<_>>()
    };
    let temp = format!("temp-{}.rdb", server.child.id());
    while names() != [temp.as_str()] {
        std::thread::yield_now();
    }
    assert_eq!(server.end_by("-INT"), Some(1));
    assert!(server.log.contains("You insist... exiting now."));
    assert!(names().is_empty());
}

/// Of keys of one size every third stays: pages with a third in use are emptied, and nothing is lost.
#[test]
fn holes_in_memory_are_closed() {
    let node = Node::start(PROGRAM, &["--active-defrag-threshold-lower", "5"]);
    let mut conn = node.connect();
    let set = |conn: &mut Conn, name, value| conn.call(&["CONFIG", "SET", name, value]);
    set(&mut conn, "active-defrag-ignore-bytes", "1mb");
    set(&mut conn, "active-defrag-cycle-min", "50");
    conn.call(&["DEBUG", "POPULATE", "100000", "key", "150"]);
    let gone = (0..100_000).filter(|i| i % 3 != 0);
    for i in gone {
        conn.send(&["DEL", &format!("key:{i}")]);
        if i % 3 == 2 {
            (0..2).for_each(|_| drop(conn.reply()));
        }
    }
    let ratio = |conn: &mut Conn| -> f64 { info(conn, "allocator_frag_ratio").parse().unwrap() };
    assert!(ratio(&mut conn) > 1.5);
    let digest = conn.call(&["DEBUG", "DIGEST"]);
    set(&mut conn, "activedefrag", "yes");
    wait_until("pages are full", || ratio(&mut conn) < 1.1);
    assert!(
        info(&mut conn, "active_defrag_hits")
            .parse::<u64>()
            .unwrap()
            > 10_000
    );
    assert!(
        info(&mut conn, "active_defrag_key_hits")
            .parse::<u64>()
            .unwrap()
            > 10_000
    );
    assert_eq!(conn.call(&["DEBUG", "DIGEST"]), digest);
    set(&mut conn, "activedefrag", "no");
    wait_until("it ends", || {
        info(&mut conn, "active_defrag_running") == "0"
    });
}
