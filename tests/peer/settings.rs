//! Every directive as the two servers tell it: CONFIG GET of all, and what CONFIG REWRITE writes.

use std::collections::BTreeMap;

use redstart::resp::value::Value;

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
