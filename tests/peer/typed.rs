//! What to draw for the data types: a pool of keys for each, so that commands mostly meet what they are made for, and
//! arguments that mean something to what the pools hold.
//!
//! Whatever a command chooses by chance or by the clock must not last, or the servers would drift apart: such a command
//! is followed by a DEL of its key ([`then`]).

use redstart::base::rng::Rng;
use redstart::cmd::spec::{Group, Spec};

use crate::generate::Request;

/// Keys by what they are meant to hold. Members of `y` all have the same score, as ranges by member want it.
const STRINGS: &[&str] = &["k1", "k2", "k3"];
const BITMAPS: &[&str] = &["b1", "b2", "b3"];
const SKETCHES: &[&str] = &["p1", "p2", "p3"];
const LISTS: &[&str] = &["l1", "l2", "l3", "l4"];
const HASHES: &[&str] = &["h1", "h2", "h3"];
const SETS: &[&str] = &["s1", "s2", "s3", "s4"];
const ZSETS: &[&str] = &["z1", "z2", "z3", "z4"];
const EVEN: &[&str] = &["y1", "y2"];
const PLACES: &[&str] = &["g1", "g2", "g3"];
const STREAMS: &[&str] = &["x1", "x2", "x3"];
const POOLS: &[&[&str]] = &[
    STRINGS, BITMAPS, SKETCHES, LISTS, HASHES, SETS, ZSETS, PLACES, STREAMS,
];

/// All keys that may exist.
pub fn keys() -> impl Iterator<Item = &'static str> {
    POOLS
        .iter()
        .chain([&EVEN])
        .flat_map(|pool| pool.iter().copied())
}

/// The encodings that a key's pool is meant to have; another one means that a command brought it from elsewhere.
pub fn at_home(key: &str, encoding: &[u8]) -> bool {
    match key.as_bytes().first() {
        Some(b'l') => matches!(encoding, b"listpack" | b"quicklist"),
        Some(b'h') => matches!(encoding, b"listpack" | b"hashtable"),
        Some(b's') => matches!(encoding, b"intset" | b"listpack" | b"hashtable"),
        Some(b'z' | b'y' | b'g') => matches!(encoding, b"listpack" | b"skiplist"),
        Some(b'x') => encoding == b"stream",
        _ => matches!(encoding, b"int" | b"embstr" | b"raw"),
    }
}

/// The same for the type's name.
pub fn is_type(key: &str, name: &[u8]) -> bool {
    let own: &[u8] = match key.as_bytes().first() {
        Some(b'l') => b"list",
        Some(b'h') => b"hash",
        Some(b's') => b"set",
        Some(b'z' | b'y' | b'g') => b"zset",
        Some(b'x') => b"stream",
        _ => b"string",
    };
    name == own
}

/// True of a key whose members all have the same score.
pub fn is_even(key: &[u8]) -> bool {
    EVEN.iter().any(|even| even.as_bytes() == key)
}

/// True if both keys are meant to hold the same.
pub fn are_alike(a: &str, b: &str) -> bool {
    a.as_bytes().first() == b.as_bytes().first()
}

/// The rows of the data types and the generic ones that work on them.
pub fn is_typed(row: &Spec) -> bool {
    // The self-test takes seconds, and needs nobody beside it.
    is_own(row) && row.name != "pfselftest"
        || matches!(
            row.name,
            "set"
                | "append"
                | "getrange"
                | "setrange"
                | "strlen"
                | "incr"
                | "get"
                | "del"
                | "unlink"
                | "type"
                | "exists"
                | "rename"
                | "renamenx"
                | "copy"
                | "expire"
                | "persist"
                | "ttl"
                | "touch"
                | "object|encoding"
                | "object|refcount"
                | "memory|usage"
                | "multi"
                | "exec"
                | "discard"
                | "watch"
                | "scan"
                | "keys"
                | "dbsize"
        )
}

/// The rows that are tested on typed keys alone.
pub fn is_own(row: &Spec) -> bool {
    let group = matches!(
        row.group,
        Group::List
            | Group::Hash
            | Group::Set
            | Group::SortedSet
            | Group::Stream
            | Group::Bitmap
            | Group::Hyperloglog
            | Group::Geo
    );
    let named = ["sort", "sort_ro", "dump", "restore", "restore-asking"];
    group || named.contains(&row.name)
}

/// How often a row is drawn.
pub fn weight(name: &str) -> usize {
    match name {
        "xgroup" | "xinfo" | "object" | "memory" => 0,
        "xadd" | "zadd" => 16,
        "rpush" | "lpush" | "hset" | "sadd" | "geoadd" => 12,
        "xreadgroup" => 12,
        "setbit" | "pfadd" | "bitfield" | "xgroup|create" | "discard" => 8,
        "blpop" | "brpop" | "blmove" | "brpoplpush" | "blmpop" | "bzpopmin" | "bzpopmax"
        | "bzmpop" => 1,
        "set" | "exec" | "geosearch" | "expire" | "xack" | "xclaim" => 6,
        "del" | "unlink" | "rename" | "renamenx" | "copy" | "ltrim" | "spop" | "multi"
        | "watch" | "keys" | "scan" | "xgroup|destroy" | "xsetid" | "pfdebug"
        | "zremrangebyrank" | "zremrangebylex" => 1,
        "zremrangebyscore" | "zpopmin" | "zpopmax" | "zmpop" | "xtrim" => 2,
        _ => 3,
    }
}

fn pick(rng: &mut Rng, from: &[&'static str]) -> &'static str {
    from[rng.index(from.len())]
}

/// A key for an argument of a row.
pub fn key(rng: &mut Rng, row: &Spec, arg: &str) -> &'static str {
    let is_lex = row.name.contains("lex");
    let is_source = matches!(
        arg,
        "key" | "key1" | "key2" | "source" | "src" | "sourcekey"
    );
    match rng.below(100) {
        0..4 if !is_lex => {
            let pool = POOLS[rng.index(POOLS.len())];
            return pick(rng, pool);
        }
        4..7 if is_source && !is_lex => return "nosuch",
        _ => {}
    }
    let pool = match (row.group, row.name, arg) {
        (_, "sort" | "sort_ro", "key") => [LISTS, SETS, ZSETS][rng.index(3)],
        (_, "sort", _) => LISTS,
        _ if is_lex => EVEN,
        (Group::List, ..) => LISTS,
        (Group::Hash, ..) => HASHES,
        (Group::Set, ..) => SETS,
        (Group::SortedSet, name, "key")
            if ["zunion", "zinter", "zdiff"]
                .iter()
                .any(|n| name.starts_with(n)) =>
        {
            [ZSETS, ZSETS, ZSETS, SETS][rng.index(4)]
        }
        (Group::SortedSet, ..) => ZSETS,
        (Group::Geo, _, "destination" | "storekey" | "storedistkey") => ZSETS,
        (Group::Geo, ..) => PLACES,
        (Group::Stream, ..) => STREAMS,
        (Group::Bitmap, ..) => BITMAPS,
        (Group::Hyperloglog, ..) => SKETCHES,
        (Group::String, ..) => STRINGS,
        _ => POOLS[rng.index(POOLS.len())],
    };
    pick(rng, pool)
}

#[rustfmt::skip]
const MEMBERS: &[&str] = &[
    "a", "b", "c", "d", "e", "f", "g", "h", "1", "2", "3", "4", "5", "10", "-7", "100", "1000", "70000", "5000000000",
    "a", "b", "c", "d", "1", "2", "3", "", "1.5", "01", "a longer member", "w_1",
    "one of more than sixty-four bytes, so that no small encoding by default can hold it",
];
const INDEXES: &[&str] = &[
    "0", "0", "1", "2", "3", "-1", "-1", "-2", "-3", "5", "-5", "10", "-100", "100", "x",
];
const COUNTS: &[&str] = &[
    "1", "1", "2", "2", "3", "3", "5", "10", "100", "0", "-1", "-2", "x",
];
const SCORES: &[&str] = &[
    "0",
    "1",
    "1",
    "2",
    "2",
    "3",
    "4",
    "5",
    "-1",
    "-2.5",
    "0.1",
    "1.5",
    "3.25",
    "1e10",
    "1e-5",
    "inf",
    "-inf",
    "1e300",
    "nan",
    "x",
    "100",
    "17179869184.5",
];
const SCORE_ENDS: &[&str] = &[
    "-inf", "-inf", "+inf", "+inf", "0", "1", "2", "3", "5", "(0", "(1", "(2", "(3", "-1", "(-2.5",
    "1.5", "inf", "x", "(x",
];
const LEX_ENDS: &[&str] = &[
    "-", "-", "-", "+", "+", "+", "[a", "[b", "(b", "[c", "(d", "[f", "[1", "(3", "[", "(", "[zz",
    "x",
];
const PATTERNS: &[&str] = &["*", "*", "[a-d]", "?", "1*", "nosuch", "*o*"];
/// Gone long before anybody else may push: these wait in vain and nobody notices how long.
const TIMEOUTS: &[&str] = &["0.001", "0.002", "0.001", "-1", "x"];
const GROUPS: &[&str] = &["one", "one", "one", "two", "none"];
const CONSUMERS: &[&str] = &["ann", "ann", "bob", "eve"];

/// The list that an integer is drawn from.
pub fn integer(row: &Spec, arg: &str) -> Option<&'static [&'static str]> {
    Some(match (row.group, row.name, arg) {
        (_, _, "cursor") => &["0", "0", "0", "0", "0", "7", "x"],
        (_, "hscan" | "sscan" | "zscan" | "scan", "count") => &["1", "3", "1000", "1000", "0", "x"],
        (_, "restore" | "restore-asking", "ttl") => {
            &["0", "0", "0", "1000000000", "4102444800000", "-1"]
        }
        (_, "lpos", "rank") => &["1", "2", "-1", "-2", "3", "0", "x"],
        (Group::Stream, _, "milliseconds") => &["1", "2", "-1", "x"],
        (Group::Stream, _, "ms") => &["0", "5000000", "-1", "x"],
        (Group::Stream, _, "min-idle-time") => &["0", "0", "1000000", "x"],
        (Group::Stream, _, "entries-read" | "entriesread" | "entries-added") => {
            &["0", "1", "2", "5", "100", "100", "-1", "-2", "x"]
        }
        (Group::Bitmap, "setbit", "value") => &["0", "1", "1", "1", "2"],
        (Group::Bitmap, "bitpos", "bit") => &["0", "1", "0", "1", "2"],
        (Group::Bitmap, "bitfield" | "bitfield_ro", "offset") => &[
            "0", "1", "3", "8", "#0", "#1", "#3", "100", "37", "#7", "511", "-1", "#x",
        ],
        (Group::Bitmap, _, "offset") => &[
            "0",
            "1",
            "2",
            "7",
            "8",
            "15",
            "100",
            "1000",
            "40000",
            "5",
            "-1",
            "4294967296",
        ],
        (Group::Bitmap, _, "value" | "increment") => &[
            "0",
            "1",
            "-1",
            "7",
            "255",
            "256",
            "-128",
            "127",
            "9223372036854775807",
            "-9223372036854775808",
            "x",
        ],
        (Group::SortedSet, "zincrby", "increment") => SCORES,
        (_, _, "increment") => &[
            "1",
            "-1",
            "10",
            "9223372036854775807",
            "-9223372036854775808",
            "x",
        ],
        (Group::SortedSet, _, "weight") => &["1", "2", "0.5", "-1", "0", "inf", "x"],
        (_, _, "start" | "stop" | "end" | "index" | "offset") => INDEXES,
        (_, _, "count" | "limit" | "num-matches" | "len") => COUNTS,
        _ => return None,
    })
}

/// The list that a double is drawn from.
pub fn double(row: &Spec, arg: &str) -> Option<&'static [&'static str]> {
    Some(match (row.group, arg) {
        (_, "timeout") => TIMEOUTS,
        (_, "score") => SCORES,
        (Group::SortedSet, "min" | "max") => SCORE_ENDS,
        (_, "longitude") => &[
            "13.361389",
            "13.361389",
            "13.3614",
            "15.087269",
            "13.583333",
            "12.758489",
            "15",
            "0",
            "179.99",
            "-180",
            "181",
            "x",
        ],
        (_, "latitude") => &[
            "38.115556",
            "38.115556",
            "38.1155",
            "37.502669",
            "37.316667",
            "38.788135",
            "37",
            "0",
            "85",
            "-84.9",
            "86",
            "x",
        ],
        (_, "radius" | "width" | "height") => &[
            "200", "100000", "400000", "2000000", "50.5", "0", "1000", "3000", "20000", "500000",
            "-1", "x",
        ],
        (Group::Hash, "increment") => &["1", "-1.5", "0.1", "1e3", "inf", "x"],
        _ => return None,
    })
}

/// The list that a pattern is drawn from.
pub fn pattern(row: &Spec, arg: &str) -> Option<&'static [&'static str]> {
    Some(match (row.name, arg) {
        ("sort" | "sort_ro", "by-pattern") => {
            &["nosort", "w_*", "h1->*", "h2->f*", "k*", "*", "nosuch_*"]
        }
        ("sort" | "sort_ro", "get-pattern") => {
            &["#", "#", "w_*", "h1->*", "k*", "nosuch_*", "h*->a"]
        }
        (_, "pattern") => PATTERNS,
        _ => return None,
    })
}

/// The list that a string is drawn from.
pub fn string(row: &Spec, arg: &str) -> Option<&'static [&'static str]> {
    Some(match (row.group, row.name, arg) {
        (Group::Stream, _, "group") => GROUPS,
        (Group::Stream, _, "consumer") => CONSUMERS,
        (Group::Stream, _, "min-idle-time") => &["0", "0", "0", "0", "1000000", "-1", "x"],
        (Group::Stream, _, "threshold") => &["0", "1", "2", "5", "10", "10", "20", "-1", "x"],
        (Group::Bitmap, _, "encoding") => &[
            "u1", "u8", "i8", "i5", "u4", "u31", "u63", "i64", "i1", "i32", "u64", "x",
        ],
        (Group::Hyperloglog, "pfdebug", "subcommand") => &[
            "ENCODING", "encoding", "DECODE", "decode", "TODENSE", "GETREG", "nosuch",
        ],
        (Group::SortedSet, name, "min" | "max") if name.contains("lex") => LEX_ENDS,
        (Group::SortedSet, _, "start" | "stop" | "min" | "max") => INDEXES,
        (Group::Geo, _, "member" | "member1" | "member2") => &["a", "b", "c", "d", "e", "1"],
        (_, _, "member" | "member1" | "member2" | "element" | "pivot" | "field") => MEMBERS,
        (Group::Hash | Group::Stream, _, "value") => MEMBERS,
        _ => return None,
    })
}

/// True for an argument that is an ID of a stream's entry.
pub fn is_id(row: &Spec, arg: &str) -> bool {
    let named = matches!(
        arg,
        "id" | "ID" | "start" | "end" | "lastid" | "last-id" | "max-deleted-id"
    );
    row.group == Group::Stream && named
}

/// An ID: of an entry that is to be new, or of one that may be there. `clock` counts the new ones.
pub fn id(rng: &mut Rng, row: &Spec, arg: &str, clock: &mut u64) -> String {
    if rng.one_of(40) {
        return pick(
            rng,
            &[
                "x",
                "",
                "0-0",
                "1-x",
                "18446744073709551615-18446744073709551615",
                "5-",
                "-1",
            ],
        )
        .into();
    }
    if row.name == "xadd" || row.name == "xsetid" && arg == "last-id" {
        *clock += 1;
        return match rng.below(6) {
            0 => format!("{clock}"),
            1 => format!("{clock}-*"),
            2 => format!("{}-{}", *clock - 1, 100 + rng.below(5)),
            3 => format!("{clock}-2"),
            _ => format!("{clock}-1"),
        };
    }
    match (row.name, arg) {
        ("xreadgroup", _) if !rng.one_of(3) => return ">".into(),
        ("xread", _) if rng.one_of(12) => return "$".into(),
        ("xrange" | "xrevrange" | "xpending", "start") if rng.one_of(2) => {
            return if row.name == "xrevrange" { "+" } else { "-" }.into();
        }
        ("xrange" | "xrevrange" | "xpending", "end") if rng.one_of(2) => {
            return if row.name == "xrevrange" { "-" } else { "+" }.into();
        }
        ("xautoclaim", "start") if rng.one_of(2) => return "-".into(),
        _ => {}
    }
    let open = row.name.contains("range") || matches!(row.name, "xpending" | "xautoclaim");
    let bracket = if open && rng.one_of(5) { "(" } else { "" };
    let ms = clock.saturating_sub(rng.below(15));
    match rng.below(4) {
        0 => format!("{bracket}0"),
        1 => format!("{bracket}{ms}-{}", rng.below(3)),
        _ => format!("{bracket}{ms}-1"),
    }
}

/// Chance, as the lists above are drawn by.
pub trait OneOf {
    /// True once in `n` times.
    fn one_of(&mut self, n: u64) -> bool;
}

impl OneOf for Rng {
    fn one_of(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn position(args: &[Vec<u8>], word: &str) -> Option<usize> {
    args.iter()
        .position(|a| a.eq_ignore_ascii_case(word.as_bytes()))
}

fn put(args: &mut [Vec<u8>], at: usize, text: &str) {
    if let Some(arg) = args.get_mut(at) {
        *arg = text.as_bytes().to_vec();
    }
}

/// Mends what the argument trees cannot say: which options go together, and what others mean then.
pub fn mend(rng: &mut Rng, request: &mut Request, clock: &mut u64) {
    let by_luck = request.name.starts_with("sort");
    if !by_luck && rng.one_of(30) {
        return;
    }
    let args = &mut request.args;
    match request.name {
        "zadd" => mend_zadd(rng, args),
        "georadius" | "georadiusbymember"
            if position(args, "STORE")
                .or(position(args, "STOREDIST"))
                .is_some() =>
        {
            args.retain(|a| !a.to_ascii_lowercase().starts_with(b"with"));
        }
        "xreadgroup" if !rng.one_of(3) => args.retain(|a| !a.eq_ignore_ascii_case(b"noack")),
        "zrange" | "zrangestore" => {
            let by_lex = position(args, "BYLEX").is_some();
            let by_score = position(args, "BYSCORE").is_some();
            let at = if request.name == "zrange" { 2 } else { 3 };
            if by_lex || by_score {
                let list = if by_lex { LEX_ENDS } else { SCORE_ENDS };
                put(args, at, pick(rng, list));
                put(args, at + 1, pick(rng, list));
            } else if let Some(limit) = position(args, "LIMIT") {
                args.drain(limit..(limit + 3).min(args.len()));
            }
            if by_lex {
                put(args, at - 1, pick(rng, EVEN));
                args.retain(|a| !a.eq_ignore_ascii_case(b"withscores"));
            }
        }
        "xadd" | "xtrim" => {
            if let Some(limit) = position(args, "LIMIT")
                && position(args, "~").is_none()
            {
                args.drain(limit..(limit + 2).min(args.len()));
            }
            // Most streams should last.
            if let Some(at) = position(args, "*")
                && !rng.one_of(8)
            {
                *clock += 1;
                put(args, at, &format!("{clock}-1"));
            }
            if let Some(at) = position(args, "MINID") {
                let at = at + 1 + usize::from(matches!(&args[at + 1][..], b"=" | b"~"));
                put(
                    args,
                    at,
                    &format!("{}-1", clock.saturating_sub(rng.below(15))),
                );
            }
        }
        "set" => args.truncate(3),
        // Sets have an order of their own, and so have members of equal weight; SORT takes sorted sets like sets.
        "sort" | "sort_ro" if !args[1].starts_with(b"l") && position(args, "BY").is_some() => {
            if let Some(limit) = position(args, "LIMIT") {
                args.drain(limit..(limit + 3).min(args.len()));
            }
        }
        _ => {}
    }
}

fn mend_zadd(rng: &mut Rng, args: &mut Vec<Vec<u8>>) {
    let words = ["NX", "XX", "GT", "LT", "CH", "INCR"];
    let is_option = |a: &Vec<u8>| words.iter().any(|w| a.eq_ignore_ascii_case(w.as_bytes()));
    let first = args.iter().rposition(is_option).map_or(2, |at| at + 1);
    if position(args, "NX").is_some() {
        args.retain(|a| !a.eq_ignore_ascii_case(b"gt") && !a.eq_ignore_ascii_case(b"lt"));
    } else if position(args, "INCR").is_some() {
        args.truncate(first + 2);
    } else if first == 2 && rng.one_of(4) {
        // A pool of its own, all at one score.
        put(args, 1, pick(rng, EVEN));
        (2..args.len()).step_by(2).for_each(|at| put(args, at, "0"));
    }
}

/// What must follow a command whose effect is left to chance: its key goes.
pub fn then(request: &Request) -> Vec<Request> {
    let args = &request.args;
    let has = |word: &str| position(args, word).is_some();
    let key_at = match request.name {
        "spop" => 1,
        "xadd" if has("*") => 1,
        // Members come in the order of a hash table, which decides when a result leaves the encoding for integers.
        "sunionstore" | "sdiffstore" => 1,
        // Of equal weights, in the order of the set.
        "sort" if has("BY") && has("STORE") => position(args, "STORE").map_or(1, |at| at + 1),
        _ => return Vec::new(),
    };
    let Some(key) = args
        .get(key_at)
        .and_then(|key| String::from_utf8(key.clone()).ok())
    else {
        return Vec::new();
    };
    let mut then = vec![Request::of("del", &["DEL", &key])];
    if key_at == 1 && request.name.starts_with("s") {
        then.insert(0, Request::of("scard", &["SCARD", &key]));
    }
    if request.name.ends_with("store") {
        then.insert(0, Request::of("smembers", &["SMEMBERS", &key]));
    }
    then
}
