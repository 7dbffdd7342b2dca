//! The client programs beside the real ones: the same arguments and the same input, against the same server; the same
//! output, errors and exit status.
//!
//! The real ones are looked for beside the peer's server, and some of the cases are for a 7.2 only: what it prints has changed.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::node::{Node, our_program, peer_program};

const DATA: &[&[&str]] = &[
    &["FLUSHALL"],
    &["SET", "k", "a\"\\\n\u{1}é"],
    &["SET", "n", "5"],
    &[
        "RPUSH", "l", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k",
    ],
    &["HSET", "h", "f", "v", "g", "w"],
    &["SADD", "s", "x"],
    &["ZADD", "z", "1.5", "a", "2", "b"],
    &["XADD", "x", "1-1", "f", "v"],
    &["XADD", "x", "1-2", "f", "w"],
];

/// What is typed to a debugger.
const DEBUGGING: &str =
    "help\np\ns\np x\ne  return  'a   b'\n\"\nr get n\nc\nget n\nrestart\nb 2\nc\nc\nrestart\n";

struct Programs {
    server: Node,
    theirs: String,
    is_7_2: bool,
}

fn run(program: &Path, args: &[&str], input: &str, terminal: bool) -> Output {
    let mut command = Command::new(program);
    command
        .args(args)
        .env_remove("REDISCLI_AUTH")
        .env("TERM", "dumb")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if terminal {
        command.env("FAKETTY", "1");
    }
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // (It may end before it has read everything.)
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

impl Programs {
    fn start(name: &str) -> Option<Programs> {
        let peer = peer_program();
        let theirs = Path::new(&peer).with_file_name(name);
        let version = Command::new(&theirs).arg("--version").output().ok()?;
        Some(Programs {
            server: Node::start(&our_program(), &[]),
            theirs: theirs.to_str()?.to_string(),
            is_7_2: String::from_utf8_lossy(&version.stdout).contains(" 7.2."),
        })
    }

    /// Fills the server and runs the program.
    fn output(&self, program: &Path, args: &[&str], input: &str, terminal: bool) -> String {
        let mut conn = self.server.connect();
        for args in DATA {
            conn.call(args);
        }
        let port = self.server.port.to_string();
        let with_port: Vec<&str> = ["-p", &port].iter().chain(args).copied().collect();
        let got = run(program, &with_port, input, terminal);
        format!(
            "status {:?}\nstdout {}\nstderr {}",
            got.status.code(),
            got.stdout.escape_ascii(),
            got.stderr.escape_ascii()
        )
    }

    fn same(&self, ours: &str, args: &[&str], input: &str) {
        for terminal in [false, true] {
            let outputs = [Path::new(ours), Path::new(&self.theirs)]
                .map(|program| self.output(program, args, input, terminal));
            assert_eq!(outputs[0], outputs[1], "{args:?} < {input:?}, {terminal}");
        }
    }
}

#[test]
fn redis_cli_prints_what_the_real_one_prints() {
    let Some(programs) = Programs::start("redis-cli") else {
        return;
    };
    let same = |args: &[&str], input: &str| {
        programs.same(env!("CARGO_BIN_EXE_redis-cli"), args, input);
    };
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let script = file(
        "script",
        "local x = redis.call('GET', KEYS[1])\nreturn {x, ARGV}",
    );
    let bad_script = file("bad", "no script");
    let styles: &[&[&str]] = &[
        &[],
        &["--csv"],
        &["--raw"],
        &["--no-raw"],
        &["-3"],
        &["-d", "|", "-D", "#"],
    ];
    let commands: &[&[&str]] = &[
        &["get", "k"],
        &["get", "none"],
        &["lrange", "l", "0", "-1"],
        &["hgetall", "h"],
        &["hgetall", "none"],
        &["smembers", "s"],
        &["zrange", "z", "0", "-1", "withscores"],
        &["xrange", "x", "-", "+"],
        &["incr", "n"],
        &["nothing", "such"],
        &["client", "getname"],
    ];
    for style in styles {
        for command in commands {
            same(&[style, *command].concat(), "");
        }
    }
    for (args, input) in [
        (&["-r", "3", "incr", "n"][..], ""),
        (&["-n", "99", "ping"], ""),
        (&["-n", "3", "dbsize"], ""),
        (&["-e", "nothing"], ""),
        (&["-a", "wrong", "--no-auth-warning", "ping"], ""),
        (&["-x", "echo"], "from\nstdin"),
        (&["-X", "tag", "echo", "tag"], "from\nstdin"),
        (&["-X", "tag", "echo", "other"], "from\nstdin"),
        (&["-x", "-X", "tag", "ping"], ""),
        (&["--quoted-input", "echo", "\"a\\x00b\""], ""),
        (&["--quoted-input", "echo", "\"a"], ""),
        (&["-X"], ""),
        (&["-p", "1", "ping"], ""),
        (&["-s", "/none", "ping"], ""),
        (&["-u", "http://x"], ""),
        (&["--scan", "--pattern", "[hl]"], ""),
        (&["--bigkeys"], ""),
        (&["--hotkeys"], ""),
        (&["--ldb", "--eval", &script, "k", ",", "a"], DEBUGGING),
        (
            &["--ldb-sync-mode", "--eval", &script, "k", ",", "a"],
            DEBUGGING,
        ),
        (&["--ldb", "--eval", &bad_script], ""),
        (&["--pipe"], "PING\r\nSET a b\r\nNOTHING\r\n"),
        (
            &[],
            "get k\n\n\"bad\n3 incr n\n0 incr n\nmulti\nincr n\nexec\nselect 3\nget k\nconnect 127.0.0.1 1\nping\n",
        ),
    ] {
        same(args, input);
    }
    if programs.is_7_2 {
        same(&["-p", "99999", "ping"], "");
        same(
            &[],
            "subscribe c d\nping\n:set nothing\n:nothing\nunsubscribe c d\nping\n",
        );
        for command in commands {
            same(&[&["--json"], *command].concat(), "");
            same(&[&["--quoted-json"], *command].concat(), "");
        }
        for kind in ["map", "set", "double", "true", "null", "verbatim"] {
            same(&["-3", "debug", "protocol", kind], "");
        }
    }
}

#[test]
fn redis_benchmark_sends_what_the_real_one_sends() {
    let Some(programs) = Programs::start("redis-benchmark") else {
        return;
    };
    let ours = env!("CARGO_BIN_EXE_redis-benchmark");
    let mut tests =
        "ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange,mset"
            .to_string();
    if programs.is_7_2 {
        tests += ",xadd";
    }
    let counts = |program: &Path| {
        let args = &[
            "-t", &tests, "-n", "300", "-c", "7", "-P", "3", "-q", "-d", "5", "--dbnum", "2",
        ];
        let output = programs.output(program, args, "", false);
        assert!(output.starts_with("status Some(0)"), "{output}");
        let mut conn = programs.server.connect();
        let stats = conn.call(&["INFO", "commandstats"]);
        let text = String::from_utf8(stats.as_bytes().unwrap().to_vec()).unwrap();
        let calls: Vec<String> = text
            .lines()
            .filter_map(|line| line.split_once(",").map(|(head, _)| head.to_string()))
            // How many connections come to say their SELECT is up to chance.
            .filter(|head| {
                !["info", "config", "select"]
                    .iter()
                    .any(|name| head.contains(name))
            })
            .collect();
        conn.call(&["SELECT", "2"]);
        let size = conn.call(&["DBSIZE"]);
        let value = conn.call(&["GET", "key:__rand_int__"]);
        conn.call(&["CONFIG", "RESETSTAT"]);
        (calls, size, value)
    };
    // (The first run's counts hold the probe of the start.)
    counts(Path::new(ours));
    let own = counts(Path::new(ours));
    let others = counts(Path::new(&programs.theirs));
    assert_eq!(own, others);
    // Random keys fall into their range, and threads share the work.
    let args = &[
        "-n",
        "2000",
        "-r",
        "50",
        "-t",
        "set",
        "--threads",
        "3",
        "--csv",
    ];
    let output = programs.output(Path::new(ours), args, "", false);
    assert!(output.contains("SET"), "{output}");
    let keys = programs.server.connect().call(&["KEYS", "key:0000000000*"]);
    let redstart::resp::value::Value::Array(keys) = keys else {
        panic!("{keys:?}")
    };
    assert!((40..=50).contains(&keys.len()), "{}", keys.len());
}
