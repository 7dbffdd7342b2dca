//! RDB files both ways: what the real server saves is read here, what is written here it loads. The digests of all data
//! must agree, and what a value is stored as.

use std::collections::BTreeMap;
use std::fs;

use redstart::admin::digest;
use redstart::base::lzf::Compressor;
use redstart::base::rng::Rng;
use redstart::config::Config;
use redstart::db::keyspace::Databases;
use redstart::ds::dict::HashKey;
use redstart::object::Entry;
use redstart::rdb::{
    Checksum, Decoder, Format, Info, Item, Progress, Rules, Usage, Version as Written, encode_dump,
    write_file,
};
use redstart::resp::value::Value;

use crate::node::{Conn, Node, Version, our_program, peer_program};

pub const LIBRARY: &str =
    "#!lua name=lib\nredis.register_function('one', function(keys, args) return 1 end)";

fn rules() -> Rules {
    Rules::new(&Config::default(), HashKey::new(1, 2), 1 << 30, true)
}

/// Elements of all sorts: integers, short texts, long ones, such as compress and such as do not.
fn texts(rng: &mut Rng, n: usize, long: bool) -> Vec<Vec<u8>> {
    (0..n)
        .map(|i| match rng.below(if long { 6 } else { 4 }) {
            0 => (i as i64 * 37 - 500).to_string().into_bytes(),
            1 => (i64::MAX - i as i64).to_string().into_bytes(),
            2 => format!("text {i}").into_bytes(),
            3 => (0..20).map(|_| rng.below(256) as u8).collect(),
            4 => format!("{i} again and ").repeat(10 + i % 20).into_bytes(),
            _ => (0..300).map(|_| rng.below(256) as u8).collect(),
        })
        .collect()
}

pub fn done(conn: &mut Conn, args: &[Vec<u8>]) {
    let reply = conn.call(args);
    assert!(!matches!(reply, Value::Error(_)), "{args:?}: {reply:?}");
}

pub fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|w| w.as_bytes().to_vec()).collect()
}

/// Fills a server with keys of every type and encoding.
pub fn fill(conn: &mut Conn) {
    let mut rng = Rng::new(crate::random::seed());
    for (i, n) in [1, 5, 100, 400, 1500].into_iter().enumerate() {
        for long in [false, true] {
            let name = |what: &str| format!("{what}:{i}:{long}").into_bytes();
            let elems = texts(&mut rng, n, long);
            let with = |command: &str, key: &str, items: Vec<Vec<u8>>| {
                [vec![command.as_bytes().to_vec(), name(key)], items].concat()
            };
            let ints = (0..n).map(|i| (i * 977 % 70_000).to_string().into_bytes());
            // Such as 7.0 and 7.2 write alike: they are part of the digest.
            let scores = |i: usize| match i % 4 {
                0 => i.to_string(),
                1 => format!("{}.25", i as i64 - 50),
                2 => "inf".to_string(),
                _ => "-inf".to_string(),
            };
            let scored = elems.iter().enumerate();
            let scored = scored.flat_map(|(i, e)| [scores(i).into_bytes(), e.clone()]);
            let pairs = elems.iter().flat_map(|e| [e.clone(), e.repeat(2)]);
            done(conn, &with("RPUSH", "list", elems.clone()));
            done(conn, &with("SADD", "set", elems.clone()));
            done(conn, &with("SADD", "ints", ints.collect()));
            done(conn, &with("ZADD", "zset", scored.collect()));
            done(conn, &with("HSET", "hash", pairs.collect()));
            let short = elems.iter().take(9).cloned();
            let short = short.flat_map(|e| [e[..e.len().min(30)].to_vec(), b"v".to_vec()]);
            done(conn, &with("HSET", "short", short.collect()));
            for elem in elems.iter().take(30) {
                let key = [&name("string:")[..], b":", &elem[..elem.len().min(9)]].concat();
                done(conn, &[b"SET".to_vec(), key, elem.clone()]);
            }
        }
    }
    for line in [
        "SET big:zeros x",
        "SETRANGE big:zeros 2000000 end",
        "SETBIT big:bits 4000000 1",
        "APPEND raw:int 123",
        "APPEND raw:int 45",
        "SET expires soon PXAT 9999999999999",
        "RPUSH expires:list a b",
        "PEXPIREAT expires:list 8888888888888",
        "PFADD hll a b c d",
        "GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
        "SELECT 7",
        "SET in:seven 7",
        "SELECT 0",
    ] {
        done(conn, &words(line));
    }
    for i in 1..400 {
        let other = if i % 10 == 0 { " extra x" } else { "" };
        done(
            conn,
            &words(&format!(
                "XADD stream {i}-{} sensor {i} temp {}{other}",
                i % 4,
                i * 3
            )),
        );
    }
    for line in [
        "XDEL stream 5-1 77-1 399-3",
        "XTRIM stream MAXLEN = 350",
        "XGROUP CREATE stream readers 0",
        "XGROUP CREATE stream late $",
        "XGROUP CREATECONSUMER stream readers idle",
        "XREADGROUP GROUP readers one COUNT 12 STREAMS stream >",
        "XREADGROUP GROUP readers two COUNT 3 STREAMS stream >",
        "XGROUP CREATE empty group $ MKSTREAM",
    ] {
        done(conn, &words(line));
    }
    let load = ["FUNCTION", "LOAD", LIBRARY].map(|w| w.as_bytes().to_vec());
    done(conn, &load);
}

/// Reads a whole file.
pub fn load(file: &[u8]) -> (Databases, Vec<Vec<u8>>) {
    let rules = rules();
    let mut dbs = Databases::new(16, HashKey::new(1, 2));
    let mut decoder = Decoder::new(file, rules, true).unwrap();
    let mut libraries = Vec::new();
    while let Some(item) = decoder.next().unwrap() {
        match item {
            Item::Key(key) => {
                let entry = Entry::new(key.key, key.value.unwrap(), key.expiry_ms, 0);
                let hash = dbs.hash(key.key);
                let twin = dbs.db_mut(key.db as u32).insert(hash, entry);
                assert!(twin.is_none());
            }
            Item::Function(text) => libraries.push(text.into_owned()),
            _ => {}
        }
    }
    assert_eq!(decoder.checksum(), Some(Checksum::Right));
    (dbs, libraries)
}

pub fn text(reply: &Value) -> String {
    String::from_utf8_lossy(reply.as_bytes().unwrap_or_default()).into_owned()
}

fn save(dbs: &mut Databases, libraries: &[Vec<u8>], format: Format) -> Vec<u8> {
    let info = Info {
        redis_version: "7.2.6",
        created_s: 1_700_000_000,
        used_memory: 1,
        replication: None,
        aof_base: false,
    };
    let functions = libraries.iter().map(|text| &text[..]);
    let (snapshot, progress) = (dbs.snapshot(), Progress::default());
    let saved = write_file(
        Vec::new(),
        snapshot,
        functions,
        &info,
        Usage::Nothing,
        format,
        &progress,
    );
    saved.unwrap().0
}

/// Starts the peer with a file, and gives its digest and what its keys are stored as.
fn loaded_by_peer(file: &[u8]) -> (String, BTreeMap<String, String>, usize) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("dump.rdb"), file).unwrap();
    let node = Node::start(&peer_program(), &["--dir", dir.path().to_str().unwrap()]);
    let mut conn = node.connect();
    wait_until_loaded(&mut conn);
    let encodings = encodings(&mut conn);
    let libraries = match conn.call(&["FUNCTION", "LIST"]) {
        Value::Array(all) => all.len(),
        other => panic!("{other:?}"),
    };
    (text(&conn.call(&["DEBUG", "DIGEST"])), encodings, libraries)
}

/// Asks until the answer is no longer that the server is loading.
fn wait_until_loaded(conn: &mut Conn) {
    while matches!(conn.call(&["DBSIZE"]), Value::Error(_)) {}
}

fn encodings(conn: &mut Conn) -> BTreeMap<String, String> {
    let Value::Array(keys) = conn.call(&["KEYS", "*"]) else {
        panic!("no keys");
    };
    keys.iter()
        .map(|key| {
            let key = key.as_bytes().unwrap();
            let encoding = conn.call(&[&b"OBJECT"[..], b"ENCODING", key]);
            (key.escape_ascii().to_string(), text(&encoding))
        })
        .collect()
}

#[test]
fn files_go_both_ways() {
    let node = Node::start(&peer_program(), &[]);
    let mut conn = node.connect();
    fill(&mut conn);
    let version = node.version();
    let digest = text(&conn.call(&["DEBUG", "DIGEST"]));
    done(&mut conn, &words("SAVE"));
    let file = fs::read(node.dir.path().join("dump.rdb")).unwrap();
    // What things become when they are loaded.
    done(&mut conn, &words("DEBUG RELOAD"));
    let theirs = encodings(&mut conn);

    let (mut dbs, libraries) = load(&file);
    for entry in dbs.db(0) {
        let theirs = conn.call(&[&b"DEBUG"[..], b"DIGEST-VALUE", entry.key()]);
        let Value::Array(theirs) = theirs else {
            panic!("{theirs:?}");
        };
        assert_eq!(
            digest::of_value(Some(entry)).to_string(),
            text(&theirs[0]),
            "{}",
            entry.key().escape_ascii()
        );
    }
    assert_eq!(digest::of_databases(&dbs).to_string(), digest);
    assert_eq!(libraries, [LIBRARY.as_bytes()]);
    let ours: BTreeMap<String, String> = dbs
        .db(0)
        .iter()
        .map(|e| {
            (
                e.key().escape_ascii().to_string(),
                e.encoding().name().to_string(),
            )
        })
        .collect();
    assert_eq!(ours.len(), theirs.len());
    for (key, encoding) in &theirs {
        // 7.0 has fewer forms.
        let is_old = version < Version::V72
            && ["list", "set", "expires:list"]
                .iter()
                .any(|t| key.starts_with(t));
        assert!(
            is_old || ours[key] == *encoding,
            "{key}: {} / {encoding}",
            ours[key]
        );
    }

    let versions: &[Written] = match version {
        Version::V70 => &[Written::V10],
        Version::V72 => &[Written::V10, Written::V11],
    };
    for &version in versions {
        for compress in [false, true] {
            let format = Format {
                version,
                compress,
                checksum: compress,
            };
            let file = save(&mut dbs, &libraries, format);
            let (again, _) = {
                let mut decoder_input = file.clone();
                if !compress {
                    assert_eq!(decoder_input[file.len() - 8..], [0; 8]);
                    decoder_input = save(
                        &mut dbs,
                        &libraries,
                        Format {
                            checksum: true,
                            ..format
                        },
                    );
                }
                load(&decoder_input)
            };
            assert_eq!(digest::of_databases(&again).to_string(), digest);
            let (their_digest, their_encodings, functions) = loaded_by_peer(&file);
            assert_eq!((their_digest, functions), (digest.clone(), 1), "{format:?}");
            assert_eq!(their_encodings.len(), theirs.len());
        }
    }
}

/// A value in the same form makes the same payload, and takes as many bytes.
#[test]
fn payloads_are_the_same() {
    let node = Node::start(&peer_program(), &["--rdbcompression", "no"]);
    let mut conn = node.connect();
    fill(&mut conn);
    let version = node.version();
    done(&mut conn, &words("SAVE"));
    let file = fs::read(node.dir.path().join("dump.rdb")).unwrap();
    let (dbs, _) = load(&file);
    let mut compressor = Compressor::new();
    let mut compared = 0;
    for entry in dbs.db(0) {
        let encoding = entry.encoding().name();
        let theirs = text(&conn.call(&[&b"OBJECT"[..], b"ENCODING", entry.key()]));
        // A table has no order, and not everything is what it was before it was saved.
        if encoding == "hashtable" || encoding != theirs {
            continue;
        }
        let format = Format {
            version: match version {
                Version::V70 => Written::V10,
                Version::V72 => Written::V11,
            },
            compress: false,
            checksum: true,
        };
        let dump = conn.call(&[&b"DUMP"[..], entry.key()]);
        let ours = encode_dump(entry, format, &mut compressor);
        assert_eq!(
            dump.as_bytes().map(|d| d.escape_ascii().to_string()),
            Some(ours.escape_ascii().to_string()),
            "{} {encoding}",
            entry.key().escape_ascii()
        );
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
}

/// A server takes over the data of the other, and gives it back.
#[test]
fn servers_move_in_and_out() {
    let peer = Node::start(&peer_program(), &[]);
    let mut theirs = peer.connect();
    fill(&mut theirs);
    done(&mut theirs, &words("FUNCTION FLUSH"));
    done(&mut theirs, &words("SAVE"));
    let digest = text(&theirs.call(&["DEBUG", "DIGEST"]));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dump.rdb");
    fs::copy(peer.dir.path().join("dump.rdb"), &file).unwrap();
    let options = ["--dir", dir.path().to_str().unwrap(), "--rdb-version", "10"];
    let node = Node::start(&our_program(), &options);
    let mut ours = node.connect();
    wait_until_loaded(&mut ours);
    assert_eq!(text(&ours.call(&["DEBUG", "DIGEST"])), digest);
    done(&mut ours, &words("DEBUG RELOAD"));
    assert_eq!(text(&ours.call(&["DEBUG", "DIGEST"])), digest);
    let saved = fs::read(&file).unwrap();
    assert_eq!(loaded_by_peer(&saved).0, digest);

    // Key by key, each way.
    let Value::Array(keys) = theirs.call(&["KEYS", "*"]) else {
        panic!("no keys");
    };
    for key in keys.iter().map(|key| key.as_bytes().unwrap()) {
        // An expiry is not in the payload, and in the digest it is.
        theirs.call(&[&b"PERSIST"[..], key]);
        let value = theirs.call(&[&b"DEBUG"[..], b"DIGEST-VALUE", key]);
        let payload = theirs.call(&[&b"DUMP"[..], key]);
        let restore: [&[u8]; 5] = [
            b"RESTORE",
            key,
            b"0",
            payload.as_bytes().unwrap(),
            b"REPLACE",
        ];
        done(&mut ours, &restore.map(Vec::from));
        assert_eq!(ours.call(&[&b"DEBUG"[..], b"DIGEST-VALUE", key]), value);
        let payload = ours.call(&[&b"DUMP"[..], key]);
        let restore: [&[u8]; 5] = [
            b"RESTORE",
            key,
            b"0",
            payload.as_bytes().unwrap(),
            b"REPLACE",
        ];
        done(&mut theirs, &restore.map(Vec::from));
        assert_eq!(theirs.call(&[&b"DEBUG"[..], b"DIGEST-VALUE", key]), value);
    }
}
