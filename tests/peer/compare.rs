//! When two replies count as the same, and the differences between Redis 7.0 and 7.2 that are known.
//!
//! Most replies must be equal to the byte. For the rest, [`canonical`] takes out of both what a server
//! decides on its own (an order, an address, a duration), and what is left must be equal.

use std::collections::{BTreeMap, BTreeSet};

use redstart::resp::value::Value;

use crate::generate::Request;
use crate::node::Version;

/// How far times may be apart: the servers do not read the same request at the same moment.
const SECONDS_APART: i64 = 10;

/// Fields of INFO whose value follows from the commands alone.
const COUNTED: &[&str] = &[
    "redis_mode",
    "hz",
    "configured_hz",
    "maxclients",
    "blocked_clients",
    "tracking_clients",
    "maxmemory",
    "maxmemory_human",
    "maxmemory_policy",
    "loading",
    "rdb_changes_since_last_save",
    "total_commands_processed",
    "rejected_connections",
    "expired_keys",
    "evicted_keys",
    "evicted_clients",
    "keyspace_hits",
    "keyspace_misses",
    "pubsub_channels",
    "pubsub_patterns",
    "pubsubshard_channels",
    "total_error_replies",
    "role",
    "connected_slaves",
    "cluster_enabled",
];

/// Commands whose replies have scores, which 7.0 prints with 17 digits.
const SCORED: &[&str] = &[
    "zadd",
    "zincr",
    "zscore",
    "zmscore",
    "zrange",
    "zrevrange",
    "zpop",
    "zmpop",
    "zunion",
    "zinter",
    "zdiff",
    "zrank",
    "zrevrank",
];

/// Holds replies against each other.
pub struct Judge {
    pub peer: Version,
}

impl Judge {
    /// True for a peer of 7.2.
    pub fn is_72(&self) -> bool {
        self.peer >= Version::V72
    }

    /// True if `ours` is as good as `theirs`.
    pub fn same(&self, request: &Request, ours: &Value, theirs: &Value) -> bool {
        if ours == theirs {
            return true;
        }
        if ours.is_error() || theirs.is_error() {
            return self.known_difference(request, ours, theirs);
        }
        let ok = match request.name {
            "ttl" | "expiretime" => within(SECONDS_APART, ours, theirs),
            "pttl" | "pexpiretime" => within(SECONDS_APART * 1000, ours, theirs),
            // The servers choose, measure or paint on their own.
            "randomkey"
            | "object|freq"
            | "object|idletime"
            | "memory|usage"
            | "time"
            | "lolwut"
            | "memory|doctor"
            | "memory|malloc-stats"
            | "latency|doctor"
            | "latency|graph"
            | "command|count" => same_kind(ours, theirs),
            // Who else holds it is the server's own affair, unless it is one of the shared integers.
            "object|refcount" => {
                let is_shared = |v: &Value| *v == Value::Int(i32::MAX.into());
                same_kind(ours, theirs) && is_shared(ours) == is_shared(theirs)
            }
            // In whatever order a table has its elements, and compressed as each can.
            "dump" => same_kind(ours, theirs),
            // Help pages are in our own words.
            name if name.ends_with("|help") => same_kind(ours, theirs),
            "debug" => same_debug(request, ours, theirs),
            "memory|stats" => self.peer < Version::V72 || names_of(ours) == names_of(theirs),
            "latency|latest" | "latency|history" => {
                same_kind(ours, theirs) && is_empty(ours) == is_empty(theirs)
            }
            "zscan" if !self.is_72() => same_page(request, &numbers(ours), &numbers(theirs)),
            "scan" | "hscan" | "sscan" | "zscan" => same_page(request, ours, theirs),
            // In 7.0 who reads nothing is no consumer yet.
            "xinfo|consumers" | "xgroup|createconsumer" if !self.is_72() => same_kind(ours, theirs),
            // The servers' clocks make it.
            "xadd" if request.args.iter().any(|a| a == b"*") => same_kind(ours, theirs),
            // Chosen by chance.
            "srandmember" | "hrandfield" | "zrandmember" | "spop" => same_size(ours, theirs),
            "object|encoding" => !self.is_72() && same_encoding_in_70(ours, theirs),
            "sort" | "sort_ro" => in_no_order(request) && sorted(ours) == sorted(theirs),
            "command" | "command|info" | "command|docs" => self.same_rows(ours, theirs),
            "command|list" => {
                let new = |name: &Vec<u8>| {
                    let new: [&[u8]; 4] = [
                        b"client|no-touch",
                        b"client|setinfo",
                        b"cluster|myshardid",
                        b"waitaof",
                    ];
                    self.peer < Version::V72 && new.contains(&name.as_slice())
                };
                let known = texts(ours).into_iter().filter(|name| !new(name));
                known.collect::<BTreeSet<_>>() == texts(theirs).into_iter().collect()
            }
            _ => self.canonical(request, ours) == self.canonical(request, theirs),
        };
        ok || self.known_difference(request, ours, theirs)
    }

    /// The same for one of the messages that a subscriber gets, replies among them.
    pub fn message(&self, v: &Value) -> Value {
        let is_hello = matches!(v, Value::Array(_) | Value::Map(_))
            && pairs(v)
                .first()
                .is_some_and(|(k, _)| k.as_bytes() == Some(b"server"));
        if is_hello {
            without(v, &["version"])
        } else {
            v.clone()
        }
    }

    /// False for an event that 7.0 tells of at other times, or not at all.
    pub fn is_told(&self, v: &Value) -> bool {
        const UNTOLD: [&[u8]; 3] = [b"xgroup-createconsumer", b"xgroup-delconsumer", b"keymiss"];
        let named = |v: &Value| {
            let text = v.as_bytes().unwrap_or_default();
            UNTOLD.iter().any(|event| text.ends_with(event))
        };
        self.is_72() || !items(v).iter().any(named)
    }

    /// Both replies, readable; of long texts the lines that differ.
    pub fn explain(&self, request: &Request, ours: &Value, theirs: &Value) -> (String, String) {
        let told = [ours, theirs].map(|v| self.canonical(request, v));
        let text = |v: &Value| match v {
            Value::Bulk(t) if request.name == "info" => {
                Some(String::from_utf8_lossy(t).into_owned())
            }
            _ => None,
        };
        if let (Value::Array(a), Value::Array(b)) = (&told[0], &told[1])
            && let Some(at) = a.iter().zip(b).position(|(a, b)| a != b)
        {
            let item = |all: &[Value]| format!("({} items) [{at}] = {}", all.len(), show(&all[at]));
            return (item(a), item(b));
        }
        let [Some(a), Some(b)] = [&told[0], &told[1]].map(text) else {
            return (show(ours), show(theirs));
        };
        let without = |a: &str, b: &str| {
            let lines = a.lines().filter(|line| !b.lines().any(|l| l == *line));
            lines.collect::<Vec<_>>().join(" / ")
        };
        (without(&a, &b), without(&b, &a))
    }

    /// The reply without what the server decides on its own.
    fn canonical(&self, request: &Request, reply: &Value) -> Value {
        match request.name {
            "keys" | "pubsub|channels" | "pubsub|shardchannels" => sorted(reply),
            "smembers" | "sinter" | "sunion" | "sdiff" | "hkeys" | "hvals" => sorted(reply),
            "hgetall" => map(pairs(reply)),
            "xpending" => pending(reply),
            "xinfo|stream" | "xinfo|consumers" | "xinfo|groups" => streams(reply, self.is_72()),
            _ if !self.is_72() && SCORED.iter().any(|part| request.name.contains(part)) => {
                numbers(reply)
            }
            "config|get" => map(pairs(reply)),
            "hello" => without(reply, &["version"]),
            "slowlog|get" => slow_entries(reply),
            "latency|histogram" => map(pairs(reply)
                .into_iter()
                .map(|(k, v)| (k, calls_only(&v)))
                .collect()),
            "client|list" | "client|info" => text(self.clients(reply)),
            "info" => text(self.info(reply)),
            _ => reply.clone(),
        }
    }

    /// INFO: which sections there are; of the counters those that count commands and keys.
    fn info(&self, reply: &Value) -> String {
        let mut out = Vec::new();
        let mut section = "";
        let whole = String::from_utf8_lossy(reply.as_bytes().unwrap_or_default()).into_owned();
        for line in whole.lines() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            if let Some(title) = line.strip_prefix("# ") {
                section = title;
                out.push(line.to_string());
            } else if section == "Keyspace" {
                out.push(format!(
                    "{name} {}",
                    value.split(",avg_ttl").next().unwrap_or("")
                ));
            } else if name == "rdb_changes_since_last_save" && self.peer < Version::V72 {
                // 7.0 counted some commands that change nothing.
            } else if section == "Errorstats" || COUNTED.contains(&name) {
                out.push(line.to_string());
            } else if section == "Commandstats" {
                let counts = value.split(',').filter(|f| !f.starts_with("usec"));
                out.push(format!("{name} {}", counts.collect::<Vec<_>>().join(" ")));
            } else if name.starts_with("eventloop_duration_max") {
                // Ours alone: the loop's longest turn.
            } else if self.peer == Version::V72 && !line.is_empty() && section != "Latencystats" {
                out.push(name.to_string());
            }
        }
        if !section.is_empty() {
            // Commands and errors come in no order.
            let mut sections: Vec<Vec<String>> = Vec::new();
            for line in out {
                match sections.last_mut() {
                    Some(last) if !line.starts_with("# ") => last.push(line),
                    _ => sections.push(vec![line]),
                }
            }
            sections.iter_mut().for_each(|s| s[1..].sort());
            out = sections.concat();
        }
        out.join("\n")
    }

    /// Of a client's line what is told alike; sizes, ages and descriptors are the server's own.
    fn clients(&self, reply: &Value) -> String {
        const OWN: &[&str] = &[
            "addr",
            "laddr",
            "fd",
            "age",
            "idle",
            "qbuf",
            "qbuf-free",
            "argv-mem",
            "multi-mem",
            "rbs",
            "rbp",
            "obl",
            "oll",
            "omem",
            "tot-mem",
        ];
        // New in 7.2; and RESET takes NO-EVICT back since then.
        const NEW: &[&str] = &["lib-name", "lib-ver", "flags"];
        let old = self.peer < Version::V72;
        let text = String::from_utf8_lossy(reply.as_bytes().unwrap_or_default()).into_owned();
        let told = |field: &&str| {
            let name = field.split('=').next().unwrap_or("");
            !(OWN.contains(&name) || old && NEW.contains(&name))
        };
        let line = |line: &str| line.split(' ').filter(told).collect::<Vec<_>>().join(" ");
        // Which client stands first changes with time.
        let mut lines: Vec<String> = text.lines().map(line).collect();
        lines.sort();
        lines.join("\n")
    }

    /// COMMAND's rows: of each command that we have, all but our own wording.
    fn same_rows(&self, ours: &Value, theirs: &Value) -> bool {
        if self.peer < Version::V72 {
            // The rows of 7.0 had fewer facts; a test against 7.2 compares them.
            return same_kind(ours, theirs);
        }
        let theirs = rows_by_name(theirs);
        rows_by_name(ours)
            .iter()
            .all(|(name, row)| theirs.get(name).is_some_and(|their| same_row(row, their)))
    }

    /// Redis 7.0 and 7.2 differ here, and ours is 7.2's. Each with what changed. None of it holds for a peer
    /// of version 7.2.
    fn known_difference(&self, request: &Request, ours: &Value, theirs: &Value) -> bool {
        if self.peer >= Version::V72 {
            return false;
        }
        match request.name {
            // The text grew a word.
            "hello" => ours
                .as_bytes()
                .is_some_and(|e| e.starts_with(b"NOAUTH HELLO must be called")),
            // Of several things that are wrong it names another one first.
            "xsetid" => ours.is_error() && theirs.is_error(),
            // It gained a level, nothing.
            "config|set" => request
                .args
                .iter()
                .any(|a| a.eq_ignore_ascii_case(b"loglevel")),
            _ => false,
        }
    }
}

fn text(s: String) -> Value {
    Value::Bulk(s.into_bytes())
}

fn items(v: &Value) -> &[Value] {
    match v {
        Value::Array(items) | Value::Set(items) | Value::Push(items) => items,
        _ => &[],
    }
}

fn first(v: &Value) -> Value {
    items(v).first().cloned().unwrap_or(Value::Null)
}

fn texts(v: &Value) -> Vec<Vec<u8>> {
    items(v)
        .iter()
        .filter_map(|i| i.as_bytes().map(<[u8]>::to_vec))
        .collect()
}

fn is_empty(v: &Value) -> bool {
    items(v).is_empty()
}

fn same_kind(a: &Value, b: &Value) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn within(off: i64, a: &Value, b: &Value) -> bool {
    match (a, b) {
        // -1 and -2 say something else than a time.
        (Value::Int(a), Value::Int(b)) => *a >= 0 && *b >= 0 && (a - b).abs() <= off,
        _ => false,
    }
}

/// An array in an order of its own: what makes replies in any order equal.
pub fn sorted(v: &Value) -> Value {
    let mut all = items(v).to_vec();
    all.sort_by_cached_key(|i| format!("{i:?}"));
    Value::Array(all)
}

/// The pairs of a map, or of an array that stands for one in RESP2.
fn pairs(v: &Value) -> Vec<(Value, Value)> {
    match v {
        Value::Map(pairs) => pairs.clone(),
        v => items(v)
            .chunks_exact(2)
            .map(|p| (p[0].clone(), p[1].clone()))
            .collect(),
    }
}

fn map(mut pairs: Vec<(Value, Value)>) -> Value {
    pairs.sort_by_cached_key(|p| format!("{p:?}"));
    Value::Map(pairs)
}

fn without(v: &Value, names: &[&str]) -> Value {
    let named = |k: &Value| names.iter().any(|n| k.as_bytes() == Some(n.as_bytes()));
    map(pairs(v).into_iter().filter(|(k, _)| !named(k)).collect())
}

fn names_of(v: &Value) -> Value {
    sorted(&Value::Array(
        pairs(v).into_iter().map(|(k, _)| k).collect(),
    ))
}

/// A page of SCAN. Cursors are the servers' own, so that only the first page of a small keyspace, asked for
/// in one go, can be compared whole; whole iterations are compared elsewhere.
fn same_page(request: &Request, a: &Value, b: &Value) -> bool {
    let wide = request
        .args
        .windows(2)
        .any(|w| w[0].eq_ignore_ascii_case(b"count") && w[1] == b"1000");
    let ([_, ours], [_, theirs]) = (items(a), items(b)) else {
        return false;
    };
    let cursor_at = if request.name == "scan" { 1 } else { 2 };
    if wide && request.args[cursor_at] == b"0" {
        return sorted(ours) == sorted(theirs) && first(a) == first(b);
    }
    true
}

/// Replies of the same kind and length.
fn same_size(a: &Value, b: &Value) -> bool {
    same_kind(a, b) && items(a).len() == items(b).len()
}

/// SORT by weights: equal ones leave a set's own order.
fn in_no_order(request: &Request) -> bool {
    request.args.iter().any(|a| a.eq_ignore_ascii_case(b"by"))
}

/// Encodings that came with 7.2, which also looks ahead at how many members SADD and ZADD bring.
fn same_encoding_in_70(ours: &Value, theirs: &Value) -> bool {
    let both = [ours, theirs].map(|v| v.as_bytes().unwrap_or_default());
    matches!(
        both,
        [b"listpack", b"hashtable" | b"intset" | b"quicklist"] | [b"skiplist", b"listpack"]
    )
}

/// Texts that are numbers as such numbers.
fn numbers(v: &Value) -> Value {
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<f64>().ok();
    match v {
        Value::Array(items) => Value::Array(items.iter().map(numbers).collect()),
        Value::Bulk(text) => {
            number(text).map_or(v.clone(), |n| Value::Double(n.to_string().into()))
        }
        Value::Double(text) => {
            number(text).map_or(v.clone(), |n| Value::Double(n.to_string().into()))
        }
        v => v.clone(),
    }
}

/// XPENDING without how long ago.
fn pending(v: &Value) -> Value {
    let entry = |v: &Value| match items(v) {
        [id, consumer, Value::Int(_), count] => Value::Array(vec![
            id.clone(),
            consumer.clone(),
            Value::Null,
            count.clone(),
        ]),
        _ => v.clone(),
    };
    match v {
        Value::Array(all) => Value::Array(all.iter().map(entry).collect()),
        v => v.clone(),
    }
}

/// XINFO without times and without what a radix tree looks like inside. 7.0 had no active time, and counted another one.
fn streams(v: &Value, is_72: bool) -> Value {
    let is_consumers = |k: &Value| !is_72 && k.as_bytes() == Some(b"consumers");
    const OWN: &[&[u8]] = &[
        b"idle",
        b"inactive",
        b"seen-time",
        b"active-time",
        b"radix-tree-nodes",
    ];
    let known = |k: &Value| is_consumers(k) || OWN.contains(&k.as_bytes().unwrap_or_default());
    let stripped = |k: &Value, v: &Value| match known(k) {
        true if !is_72 => None,
        true => Some((k.clone(), Value::Null)),
        false => Some((k.clone(), streams(v, is_72))),
    };
    match v {
        Value::Int(n) if *n > 100_000_000_000 => Value::Null,
        Value::Map(all) => Value::Map(all.iter().filter_map(|(k, v)| stripped(k, v)).collect()),
        Value::Array(all)
            if all.len().is_multiple_of(2)
                && all.iter().step_by(2).all(|k| matches!(k, Value::Bulk(_)))
                && all.len() >= 4 =>
        {
            Value::Map(
                all.chunks_exact(2)
                    .filter_map(|p| stripped(&p[0], &p[1]))
                    .collect(),
            )
        }
        Value::Array(all) => Value::Array(all.iter().map(|v| streams(v, is_72)).collect()),
        v => v.clone(),
    }
}

/// Entries of the slow log: IDs, arguments and client names; not times and addresses.
fn slow_entries(reply: &Value) -> Value {
    let address = |v: &Value| {
        let text = v.as_bytes().unwrap_or_default();
        if text.starts_with(b"127.0.0.1:") {
            Value::Null
        } else {
            v.clone()
        }
    };
    let entry = |e: &Value| match items(e) {
        [id, _, _, args, _, name] => {
            let args = items(args).iter().map(address).collect();
            Value::Array(vec![id.clone(), Value::Array(args), name.clone()])
        }
        _ => e.clone(),
    };
    Value::Array(items(reply).iter().map(entry).collect())
}

/// How often a command was called, without how long it took.
fn calls_only(v: &Value) -> Value {
    without(v, &["histogram_usec"])
}

/// Sizes, addresses and tables differ; replies of the same shape do.
fn same_debug(request: &Request, a: &Value, b: &Value) -> bool {
    let sub = request
        .args
        .get(1)
        .map(|s| s.to_ascii_lowercase())
        .unwrap_or_default();
    match &sub[..] {
        b"object" | b"htstats" | b"htstats-key" | b"sdslen" | b"client-eviction" => same_kind(a, b),
        _ => false,
    }
}

/// The rows of COMMAND INFO, or of COMMAND DOCS in either protocol.
fn rows_by_name(v: &Value) -> BTreeMap<Vec<u8>, Value> {
    let name = |v: &Value| v.as_bytes().unwrap_or_default().to_vec();
    match v {
        Value::Array(rows) if !rows.iter().any(|r| matches!(r, Value::Bulk(_))) => rows
            .iter()
            .map(|row| (name(&first(row)), row.clone()))
            .collect(),
        v => pairs(v)
            .into_iter()
            .map(|(k, row)| (name(&k), row))
            .collect(),
    }
}

/// Facts of a command, or of a part of it: what has a name must be equal, but for the sentences, which are our
/// own, and for subcommands that we do not have yet.
fn same_row(ours: &Value, theirs: &Value) -> bool {
    const OWN: &[&[u8]] = &[b"summary", b"complexity", b"notes"];
    let text = |v: &Value| v.as_bytes().unwrap_or_default().to_vec();
    let named = |v: &Value| {
        matches!(v, Value::Map(_))
            || (items(v).len().is_multiple_of(2)
                && items(v)
                    .chunks_exact(2)
                    .all(|p| matches!(&p[0], Value::Bulk(_)))
                && items(v).iter().any(|i| {
                    matches!(
                        i.as_bytes(),
                        Some(b"name" | b"summary" | b"flags" | b"since")
                    )
                }))
    };
    let subcommands = |v: &Value| {
        matches!(v, Value::Array(_) | Value::Map(_))
            && rows_by_name(v).keys().all(|k| k.contains(&b'|'))
    };
    if subcommands(ours) && subcommands(theirs) {
        let theirs = rows_by_name(theirs);
        return rows_by_name(ours)
            .iter()
            .all(|(k, a)| theirs.get(k).is_some_and(|b| same_row(a, b)));
    }
    if named(ours) && named(theirs) {
        let kept = |v: &Value| -> Vec<(Value, Value)> {
            pairs(v)
                .into_iter()
                .filter(|(k, _)| !OWN.contains(&&text(k)[..]))
                .collect()
        };
        let (ours, theirs) = (kept(ours), kept(theirs));
        let versions = |v: &Value| items(v).iter().map(first).collect::<Vec<_>>();
        return ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|((k, a), (l, b))| {
                k == l && (same_row(a, b) || (text(k) == b"history" && versions(a) == versions(b)))
            });
    }
    match (ours, theirs) {
        (Value::Array(a), Value::Array(b)) | (Value::Set(a), Value::Set(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_row(a, b))
        }
        (a, b) => a == b,
    }
}

/// A reply, readable, cut where it gets long.
pub fn show(v: &Value) -> String {
    fn text(v: &Value) -> String {
        let list = |open: &str, items: &[Value]| {
            format!(
                "{open}[{}]",
                items.iter().map(text).collect::<Vec<_>>().join(", ")
            )
        };
        let all = |pairs: &[(Value, Value)]| {
            pairs
                .iter()
                .map(|(k, v)| format!("{}: {}", text(k), text(v)))
                .collect::<Vec<_>>()
                .join(", ")
        };
        match v {
            Value::Status(s) => format!("+{}", s.escape_ascii()),
            Value::Error(s) => format!("-{}", s.escape_ascii()),
            Value::Int(n) => format!(":{n}"),
            Value::Bulk(s) => format!("\"{}\"", s.escape_ascii()),
            Value::Array(items) => list("", items),
            Value::Set(items) => list("~", items),
            Value::Push(items) => list(">", items),
            Value::Map(pairs) => format!("{{{}}}", all(pairs)),
            Value::Double(s) => format!(",{}", s.escape_ascii()),
            Value::BigNumber(s) => format!("({}", s.escape_ascii()),
            Value::Verbatim { kind, text } => {
                format!("={}:\"{}\"", kind.escape_ascii(), text.escape_ascii())
            }
            Value::Attributed { attributes, value } => {
                format!("|{{{}}} {}", all(attributes), text(value))
            }
            v => format!("{v:?}"),
        }
    }
    let mut whole = text(v);
    if whole.len() > 1500 {
        let cut = (0..=1500)
            .rev()
            .find(|&i| whole.is_char_boundary(i))
            .unwrap_or(0);
        whole.truncate(cut);
        whole.push_str(" ...");
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(name: &'static str, a: &Value, b: &Value) -> bool {
        Judge { peer: Version::V72 }.same(&Request::of(name, &[name]), a, b)
    }

    #[test]
    fn the_rules_of_comparison_see_differences() {
        let int = Value::Int;
        assert!(judge("ttl", &int(100), &int(101)));
        assert!(!judge("ttl", &int(-1), &int(0)));
        assert!(!judge("ttl", &int(100), &int(200)));
        assert!(!judge("strlen", &int(1), &int(2)));
        let list = |v: &[i64]| Value::Array(v.iter().map(|&i| int(i)).collect());
        assert!(judge("keys", &list(&[1, 2]), &list(&[2, 1])));
        assert!(!judge("keys", &list(&[1, 2]), &list(&[2, 2])));
        assert!(!judge("mget", &list(&[1, 2]), &list(&[2, 1])));
        let info = |s: &str| text(s.into());
        assert!(judge(
            "info",
            &info("# Keyspace\r\ndb0:keys=1,avg_ttl=5\r\n"),
            &info("# Keyspace\r\ndb0:keys=1,avg_ttl=6\r\n")
        ));
        assert!(!judge(
            "info",
            &info("# Keyspace\r\ndb0:keys=1\r\n"),
            &info("# Keyspace\r\ndb0:keys=2\r\n")
        ));
    }
}
