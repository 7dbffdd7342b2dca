//! Every directive as the two servers tell it: CONFIG GET of all, and what CONFIG REWRITE writes.

use std::collections::BTreeMap;

use redstart::resp::value::Value;

use crate::compare::show;
use crate::node::{Node, Version, both};

/// Directives of a server's own place or build.
const OWN: &[&str] = &["port", "dir", "pidfile", "proc-title-template", "logfile"];

fn all(node: &Node) -> BTreeMap<String, String> {
    let Value::Array(all) = node.connect().call(&["CONFIG", "GET", "*"]) else {
        panic!("CONFIG GET gives pairs")
    };
    let text = |v: &Value| String::from_utf8_lossy(v.as_bytes().unwrap()).into_owned();
    let pairs = all.chunks_exact(2).map(|p| (text(&p[0]), text(&p[1])));
    pairs
        .filter(|(name, _)| !OWN.contains(&name.as_str()))
        .collect()
}

/// 7.0 had no such directive, or another default: ours is 7.2's.
const CHANGED_SINCE_70: &[&str] = &[
    "aof-disable-auto-gc",
    "cluster-announce-human-nodename",
    "latency-tracking-info-percentiles",
    "locale-collate",
    "set-max-listpack-entries",
    "set-max-listpack-value",
];

#[test]
fn every_directive_has_the_same_value() {
    let nodes = both(&[]);
    let peer = nodes[1].version();
    let [ours, theirs] = nodes.each_ref().map(all);
    let mut odd = Vec::new();
    for name in ours.keys().chain(theirs.keys()) {
        let same = ours.get(name) == theirs.get(name);
        if !same && (peer >= Version::V72 || !CHANGED_SINCE_70.contains(&name.as_str())) {
            odd.push(format!(
                "{name}: {:?} / {:?}",
                ours.get(name),
                theirs.get(name)
            ));
        }
    }
    odd.dedup();
    assert!(odd.is_empty(), "{}", odd.join("\n"));
}

/// Values of all sorts, for directives of all types.
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "2",
    "64",
    "65",
    "100",
    "101",
    "1000",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "1.5",
    "1k",
    "1kb",
    "1mb",
    "2MB",
    "1gb",
    "10%",
    "-10%",
    "101%",
    "yes",
    "NO",
    "maybe",
    "x",
    "two words",
    " 1",
    "010",
    "0777",
    "everysec",
    "no one",
    "127.0.0.1",
    "\"quoted\"",
    "a\0b",
    "nosave force",
    "nosave now nosave",
    "debug",
    "noeviction",
];

/// These would move the server from under the test, or need what is not there yet; of the build, the last.
const NOT_TRIED: &[&str] = &[
    "appendonly",
    "bind",
    "maxclients",
    "oom-score-adj",
    "port",
    "replicaof",
    "slaveof",
    "watchdog-period",
    "activedefrag",
];

#[test]
fn every_directive_takes_and_refuses_the_same_values() {
    let nodes = both(&[]);
    let old = nodes[1].version() < Version::V72;
    let mut conns = nodes.each_ref().map(Node::connect);
    let names = all(&nodes[0]);
    let changed = |name: &str| name == "loglevel" || CHANGED_SINCE_70.contains(&name);
    // A 7.2 that is built without TLS dies of CONFIG SET tls-cluster.
    let own = |name: &str| NOT_TRIED.contains(&name) || name.starts_with("tls-");
    let tried = |name: &str| !(own(name) || old && changed(name));
    let mut odd = Vec::new();
    for (name, before) in names.iter().filter(|(name, _)| tried(name)) {
        for value in VALUES {
            let mut both = |args: &[&str]| {
                let [ours, theirs] = conns.each_mut().map(|conn| conn.call(args));
                if ours != theirs {
                    let args = args.join(" ");
                    odd.push(format!("{args:?}:\n  {}\n  {}", show(&ours), show(&theirs)));
                }
                theirs
            };
            if !both(&["CONFIG", "SET", name, value]).is_error() {
                both(&["CONFIG", "GET", name]);
                both(&["CONFIG", "SET", name, before]);
            }
        }
    }
    assert!(
        odd.is_empty(),
        "{} differences:\n{}",
        odd.len(),
        odd.join("\n")
    );
}

#[test]
fn rewriting_writes_the_same_lines() {
    const CHANGES: &[&[&str]] = &[
        &["maxmemory", "100mb", "maxmemory-policy", "allkeys-lru"],
        &["save", "3600 1 60 1000"],
        &[
            "client-output-buffer-limit",
            "pubsub 1mb 2mb 3 replica 4gb 5kb 6",
        ],
        &["notify-keyspace-events", "KEx$"],
        &["slave-read-only", "no", "hash-max-ziplist-value", "77"],
        &["proc-title-template", "{title} \"quoted\" {config-file}"],
        &["requirepass", "two words\n"],
        &["timeout", "17", "tcp-keepalive", "0", "lfu-log-factor", "3"],
        &["oom-score-adj-values", "1 2 3"],
        &["latency-tracking-info-percentiles", "50 99.25"],
        &[
            "repl-backlog-size",
            "12345678",
            "stream-node-max-bytes",
            "8kb",
        ],
    ];
    let nodes = both(&[]);
    let peer = nodes[1].version();
    let files = nodes.each_ref().map(|node| {
        let mut conn = node.connect();
        for change in CHANGES {
            let mut args = vec!["CONFIG", "SET"];
            args.extend_from_slice(change);
            assert_eq!(
                conn.call(&args),
                Value::Status(b"OK".to_vec()),
                "{change:?}"
            );
        }
        assert_eq!(
            conn.call(&["CONFIG", "REWRITE"]),
            Value::Status(b"OK".to_vec())
        );
        let text = std::fs::read_to_string(node.dir.path().join("redis.conf")).unwrap();
        let own = |line: &&str| {
            !["port ", "dir ", "pidfile "]
                .iter()
                .any(|d| line.starts_with(d))
        };
        // New lines come in no order.
        let mut lines: Vec<String> = text.lines().filter(own).map(str::to_string).collect();
        lines.sort();
        lines
    });
    let [mut ours, mut theirs] = files;
    if peer < Version::V72 {
        // 7.2 tells that payloads are checked.
        for lines in [&mut ours, &mut theirs] {
            lines.retain(|line| !line.starts_with("user "));
        }
    }
    assert_eq!(ours, theirs);
}
