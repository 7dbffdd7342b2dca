//! Logs of commands: what the checker says of them, beside the real one; and what a rewrite writes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use redstart::aof::reader::{Reader, Step};
use redstart::aof::rewrite::write_log;
use redstart::rdb::Progress;
use redstart::resp::value::Value;

use crate::node::{Conn, Node, peer_program};
use crate::rdb::{LIBRARY, done, fill, load, text, words};

// --- The checker -----------------------------------------------------------------------------------------------

/// The peer's checker, which lies beside its server.
fn peer_checker() -> PathBuf {
    let server = PathBuf::from(peer_program());
    server.with_file_name("redis-check-aof")
}

/// A log: some commands, times, and a transaction.
const LOG: &str = "#TS:100\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n\
    *1\r\n$5\r\nMULTI\r\n#TS:200\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n*1\r\n$4\r\nEXEC\r\n\
    #TS:300\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n";
const PING: &str = "*1\r\n$4\r\nPING\r\n";
/// An RDB file of one key, saved without a checksum.
const RDB: &str = "REDIS0009\u{0}\u{1}a\u{1}b\u{7f}";

struct Case<'a> {
    files: Vec<(&'a str, Vec<u8>)>,
    args: &'a [&'a str],
    input: &'a str,
}

/// What a program prints, without who and when; how it ends; and what it makes of the files.
fn run(program: &Path, case: &Case<'_>) -> (String, Option<i32>, BTreeMap<String, String>) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in &case.files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let mut child = Command::new(program)
        .args(case.args)
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // It need not ask.
    let _ = input.write_all(case.input.as_bytes());
    drop(input);
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = program.display().to_string();
    let lines = printed.lines().map(|line| match line.split_once(":C ") {
        Some((_, rest)) => rest.split_once(" # ").unwrap().1.to_string(),
        None => line.replace(&name, "redis-check-aof"),
    });
    let files = fs::read_dir(dir.path()).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let text = fs::read(entry.path()).unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, text.escape_ascii().to_string())
    });
    (
        lines.collect::<Vec<_>>().join("\n"),
        output.status.code(),
        files.collect(),
    )
}

fn rdb_then(tail: &str) -> Vec<u8> {
    // (The end of the file is a byte that is no text.)
    let mut file: Vec<u8> = RDB.replace('\u{7f}', "").into_bytes();
    file.push(0xff);
    file.extend_from_slice(&[0; 8]);
    file.extend_from_slice(tail.as_bytes());
    file
}

/// Old files, whole and damaged.
fn old_files() -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = (0..=LOG.len())
        .step_by(2)
        .map(|cut| LOG[..cut].into())
        .collect();
    // What ends inside of a number's line is told with bytes that happen to be in memory, and a time that is cut is
    // called whole.
    files.retain(|file| file.ends_with(b"\n") || !tail_is_a_line(file));
    for tail in [
        "*1\r\n$4\r\nPINGxx",
        "*1\n$4\r\nPING\r\n",
        "*1x\r\n$4\r\nPING\r\n",
        "*\r\n",
        "*0\r\n",
        "*-3\r\n",
        "*1\r\n$-4\r\nPING\r\n",
        "*1\r\n:4\r\nPING\r\n",
        "*1\r\n\u{0}4\r\nPING\r\n",
        "*1\r\n$9223372036854775807\r\nPING\r\n",
        "*1\r\n$99\r\nPING\r\n",
        "*2\r\n$4\r\nPING\r\n",
        "*1\r\n$4\r\nEXEC\r\n",
        "*1\r\n$5\r\nmulti\r\n*1\r\n$5\r\nMULTI\r\n",
        "*1\r\n$7\r\nexec\u{0}xx\r\n",
        "PING\r\n",
        "\u{0}\u{0}\u{0}",
        "#\r\n#x\r\n",
    ] {
        files.push([PING, tail, PING].concat().into());
        files.push([PING, tail].concat().into());
        files.push(rdb_then(tail));
    }
    files.push([PING.as_bytes(), "#".repeat(3000).as_bytes(), b"\r\n"].concat());
    files.push(rdb_then("")[..20].into());
    files.push(b"REDIS0099".to_vec());
    files.push(b"REDIS".to_vec());
    files
}

fn tail_is_a_line(file: &[u8]) -> bool {
    let start = file
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |at| at + 1);
    matches!(file.get(start), Some(b'*' | b'$' | b'#'))
}

fn old_cases(files: &[Vec<u8>]) -> Vec<Case<'_>> {
    const ARGS: &[(&[&str], &str)] = &[
        (&["log"], ""),
        (&["--fix", "log"], "y\n"),
        (&["--truncate-to-timestamp", "200", "log"], ""),
    ];
    let cases = files.iter().flat_map(|file| {
        ARGS.iter().map(|&(args, input)| Case {
            files: vec![("log", file.clone())],
            args,
            input,
        })
    });
    cases.collect()
}

fn manifest_cases() -> Vec<Case<'static>> {
    let base = "file a.base seq 1 type b\n";
    let both = "file a.base seq 1 type b\nfile a.1 seq 1 type i\nfile a.2 seq 2 type i\n";
    let mut cases = Vec::new();
    let cut = &LOG[..LOG.len() - 2];
    for (manifest, base_file, first, second) in [
        (base, PING.into(), "", ""),
        (base, rdb_then(""), "", ""),
        (base, rdb_then(PING), "", ""),
        (both, rdb_then(""), PING, LOG),
        (both, PING.into(), LOG, cut),
        (both, PING.into(), cut, LOG),
        (both, cut.into(), PING, LOG),
        (both, rdb_then("x"), PING, LOG),
        (both, Vec::new(), "", ""),
        (
            "# a\n# b\nfile a.1 seq 1 type i\nfile a.2 seq 7 type h\n",
            PING.into(),
            LOG,
            "",
        ),
        ("file a.2 seq 2 type h\n", PING.into(), LOG, LOG),
        ("file nosuch seq 1 type b\n", PING.into(), "", ""),
        ("file nosuch seq 1 type i\n", PING.into(), "", ""),
        ("file ./a.1 seq 1 type i\n", PING.into(), LOG, ""),
        (
            "file a.1 seq 1 type i\nfile a.2 seq 1 type i\n",
            PING.into(),
            LOG,
            LOG,
        ),
        ("file a.1 seq 1 type x\n", PING.into(), LOG, LOG),
        ("file a.1 seq 1 type i", PING.into(), LOG, LOG),
        ("file \"a.1\" seq 1 type i\n\n", PING.into(), LOG, LOG),
        ("#\nseq 1 file a.1 type i\n", PING.into(), LOG, LOG),
        ("", PING.into(), LOG, LOG),
    ] {
        let args: [(&[&str], &str); 4] = [
            (&["x.manifest"], ""),
            (&["--fix", "x.manifest"], "Y"),
            (&["--fix", "./x.manifest"], ""),
            (&["--truncate-to-timestamp", "250", "x.manifest"], ""),
        ];
        for (args, input) in args {
            cases.push(Case {
                files: vec![
                    ("x.manifest", manifest.into()),
                    ("a.base", base_file.clone()),
                    ("a.1", first.into()),
                    ("a.2", second.into()),
                ],
                args,
                input,
            });
        }
    }
    cases
}

fn odd_cases() -> Vec<Case<'static>> {
    let args: [&[&str]; 11] = [
        &[],
        &["nosuch"],
        &["--fix"],
        &["--fix", "nosuch"],
        &["--mend", "log"],
        &["--truncate-to-timestamp", "x", "log"],
        &["--truncate-to-timestamp", "99999999999999999999", "log"],
        &["--truncate-to-timestamp", "", "log"],
        &["--truncate-to-timestamp", "log"],
        &["--truncate-to-timestamp", "50", "log"],
        &["--fix", "log", "log", "log"],
    ];
    let cases = args.into_iter().map(|args| Case {
        files: vec![("log", LOG.into())],
        args,
        input: "",
    });
    let mut cases: Vec<_> = cases.collect();
    cases.push(Case {
        files: vec![("log", [LOG, "#TS:9x\r\n"].concat().into())],
        args: &["--truncate-to-timestamp", "1000", "log"],
        input: "",
    });
    cases
}

#[test]
fn the_checker_says_the_same() {
    let ours = PathBuf::from(env!("CARGO_BIN_EXE_redis-check-aof"));
    let theirs = peer_checker();
    let version = Command::new(peer_program()).arg("--version").output();
    let version = String::from_utf8(version.unwrap().stdout).unwrap();
    let is_old = version.contains("v=7.0.");
    let files = old_files();
    let cases = [old_cases(&files), manifest_cases(), odd_cases()];
    let mut odd = Vec::new();
    for case in cases.iter().flatten() {
        let (mut our, mut their) = (run(&ours, case), run(&theirs, case));
        if is_old {
            // It leaves the directory away in places.
            for printed in [&mut our.0, &mut their.0] {
                *printed = printed.replace("./", "");
            }
        }
        if our != their {
            let files: Vec<String> = case
                .files
                .iter()
                .map(|(name, text)| format!("{name}: {}", text.escape_ascii()))
                .collect();
            odd.push(format!("{:?} {files:?}\n{our:#?}\n{their:#?}", case.args));
        }
    }
    assert!(odd.is_empty(), "{} differ, such as\n{}", odd.len(), odd[0]);
}

/// What we find broken and Redis does not.
#[test]
fn a_time_that_is_cut_is_cut_off() {
    let case = Case {
        files: vec![("log", [PING, "#TS:17"].concat().into())],
        args: &["--fix", "log"],
        input: "y",
    };
    let (printed, status, files) = run(Path::new(env!("CARGO_BIN_EXE_redis-check-aof")), &case);
    assert_eq!(
        (status, &*files["log"]),
        (Some(0), &*PING.escape_default().to_string())
    );
    assert!(printed.contains("size=20, ok_up_to=14, "), "{printed}");
}

// --- A rewrite -------------------------------------------------------------------------------------------------

type Argv = Vec<Vec<u8>>;

/// The commands of a log by the key that they are for.
fn by_key(log: &[u8]) -> BTreeMap<String, Vec<Argv>> {
    let mut reader = Reader::new(log, Some(log.len() as u64));
    let mut keys: BTreeMap<String, Vec<Argv>> = BTreeMap::new();
    let mut db = Vec::new();
    while let Step::Commands = reader.step(32).unwrap() {
        let (batch, buffer) = reader.batch();
        for i in 0..batch.len() {
            let argv: Argv = batch.argv(i, buffer).iter().map(<[u8]>::to_vec).collect();
            let at = if argv[0] == b"XGROUP" { 2 } else { 1 };
            if argv[0] == b"SELECT" {
                db.clone_from(&argv[1]);
                continue;
            }
            let key = [&db[..], b" ", &argv[at]].concat();
            keys.entry(key.escape_ascii().to_string())
                .or_default()
                .push(argv);
        }
    }
    assert!(!keys.is_empty());
    keys
}

/// What has no order is put into one: elements of commands that add to sets and the like.
fn ordered(commands: &[Argv]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut elements = Vec::new();
    for argv in commands {
        let step = match &argv[0][..] {
            b"SADD" => 1,
            b"ZADD" | b"HMSET" => 2,
            _ => {
                lines.push(argv.join(&b' ').escape_ascii().to_string());
                continue;
            }
        };
        lines.push(format!("{} of {}", argv[0].escape_ascii(), argv.len()));
        let items = argv[2..].chunks(step);
        elements.extend(items.map(|item| item.join(&b' ').escape_ascii().to_string()));
    }
    elements.sort();
    lines.extend(elements);
    lines
}

fn wait_for_rewrite(conn: &mut Conn) {
    loop {
        let info = text(&conn.call(&["INFO", "persistence"]));
        let is_over = |field: &str| info.contains(&format!("{field}:0\r\n"));
        if is_over("aof_rewrite_in_progress") && is_over("aof_rewrite_scheduled") {
            return;
        }
    }
}

#[test]
fn a_rewrite_writes_the_same_commands() {
    let options = ["--appendonly", "yes", "--aof-use-rdb-preamble", "no"];
    let node = Node::start(&peer_program(), &options);
    let mut conn = node.connect();
    fill(&mut conn);
    done(&mut conn, &words("BGREWRITEAOF"));
    wait_for_rewrite(&mut conn);
    let dir = node.dir.path().join("appendonlydir");
    let theirs = fs::read(dir.join("appendonly.aof.2.base.aof")).unwrap();
    done(&mut conn, &words("SAVE"));
    let (mut dbs, libraries) = load(&fs::read(node.dir.path().join("dump.rdb")).unwrap());
    let functions = libraries.iter().map(|text| &text[..]);
    let (snapshot, progress) = (dbs.snapshot(), Progress::default());
    let (ours, _) = write_log(Vec::new(), snapshot, functions, None, &progress).unwrap();
    let (our_keys, their_keys) = (by_key(&ours), by_key(&theirs));
    assert!(our_keys.keys().eq(their_keys.keys()));
    for (key, commands) in &our_keys {
        assert_eq!(ordered(commands), ordered(&their_keys[key]), "{key}");
    }
    assert_eq!(our_keys[" LOAD"][0][2], LIBRARY.as_bytes());

    // And the real server makes the same data of ours.
    let again = Node::start(&peer_program(), &[]);
    let mut other = again.connect();
    let mut writer = other.writer();
    let count: usize = our_keys.values().map(Vec::len).sum();
    let selects = 2;
    let sender = std::thread::spawn(move || writer.write_all(&ours).unwrap());
    for _ in 0..count + selects {
        let reply = other.reply();
        assert!(!matches!(reply, Value::Error(_)), "{reply:?}");
    }
    sender.join().unwrap();
    let digest = |conn: &mut Conn| text(&conn.call(&["DEBUG", "DIGEST"]));
    assert_eq!(digest(&mut other), digest(&mut conn));
}
