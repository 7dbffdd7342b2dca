//! What the argument trees of the rows leave open: keys, values, the names of directives and channels; and
//! which commands have to be held back a little, because they would end the test's own connections.

use crate::generate::Request;

/// Keys are few, so that commands meet.
pub const KEYS: &[&str] = &[
    "a", "b", "c", "d", "k1", "k2", "k3", "key:4", "{t}x", "{t}y", "a b", "",
];
#[rustfmt::skip]
pub const VALUES: &[&str] = &[
    "0", "1", "-1", "10", "42", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "3.0e3", "1.5",
    "-0.1", "007", "+5", " 1", "1 ", "", "x", "hello world", "ohmytext", "mynewtext", "nan", "inf", "0x1f", "1e400",
    "12345678901234567890123456789012345678901234", "123456789012345678901234567890123456789012345", "9999", "10000",
    "-0", "1\r\n", "\0", "get", "EX", "5.0e-2",
];
pub const INTS: &[&str] = &[
    "0", "1", "2", "3", "5", "10", "100", "-1", "-2", "-100", "1000",
];
pub const ODD_INTS: &[&str] = &[
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "x",
    "",
    "1.5",
    " 1",
    "9223372036854775",
];
pub const DOUBLES: &[&str] = &[
    "0", "1", "-1.5", "3.0e3", "0.1", "1e-5", "inf", "-inf", "nan", "x", "5.0e-324", "0x10",
    "1e17", " 1", "-0",
];
pub const PATTERNS: &[&str] = &[
    "*", "k*", "k[1-2]", "?", "[^a]", "{t}*", "a\\ b", "nosuch", "[a-c]", "*:*", "",
];
const CHANNELS: &[&str] = &["news", "chat", "a b", "", "n*ws", "nobody"];
const CHANNEL_PATTERNS: &[&str] = &["*", "n*", "news", "ch?t", "n\\*ws", "nosuch"];
const NAMES: &[&str] = &[
    "x",
    "my-name",
    "",
    "two words",
    "line\nend",
    "name!",
    "\u{e9}",
];
const DATABASES: &[&str] = &[
    "0", "0", "0", "0", "0", "1", "9", "15", "16", "-1", "x", "1.5",
];

/// Stand for what is different on the two servers, see [`crate::pair`].
pub const VICTIM_ID: &str = "<victim's id>";
pub const VICTIM_ADDR: &str = "<victim's address>";
pub const VICTIM_LADDR: &str = "<address that the victim connected to>";

/// All kinds of keyspace events. Not as `A` with `n`, which Redis's own text of the flags leaves out, so that a
/// CONFIG SET that fails puts back less than there was.
pub const EVENTS: &str = "KEg$xemn";

/// Directives that can be set without harm to the run, and values to try.
pub const DIRECTIVES: &[(&str, &[&str])] = &[
    ("hz", &["10", "50", "500", "0", "501", "x"]),
    (
        "maxmemory",
        &["0", "100gb", "1gb", "1gbb", "-1", "100000mb"],
    ),
    ("maxmemory-samples", &["1", "5", "10", "0", "65"]),
    ("maxmemory-eviction-tenacity", &["0", "10", "100", "101"]),
    ("lfu-log-factor", &["0", "10", "-1"]),
    ("lfu-decay-time", &["0", "1", "x"]),
    (
        "notify-keyspace-events",
        &["KEA", EVENTS, EVENTS, "Ex", "", "Kg$", "bad!", "AKEm"],
    ),
    ("slowlog-log-slower-than", &["0", "0", "0", "-1", "x"]),
    ("slowlog-max-len", &["0", "1", "10", "128", "x"]),
    ("latency-tracking", &["yes", "no", "maybe"]),
    (
        "latency-tracking-info-percentiles",
        &["50 99 99.9", "", "100", "101", "1 x"],
    ),
    ("latency-monitor-threshold", &["0", "-1", "x"]),
    ("hash-max-listpack-entries", &["128", "0", "-1"]),
    ("hash-max-ziplist-entries", &["512", "1k"]),
    ("list-max-listpack-size", &["-2", "128", "x"]),
    ("list-compress-depth", &["0", "3", "-1"]),
    ("set-max-intset-entries", &["512", "0", "1.5"]),
    ("stream-node-max-bytes", &["4096", "1mb", "1 mb"]),
    ("lazyfree-lazy-user-del", &["yes", "no", "YES", ""]),
    ("lazyfree-lazy-user-flush", &["yes", "no"]),
    ("lazyfree-lazy-expire", &["yes", "no", "1"]),
    ("activerehashing", &["yes", "no"]),
    ("dynamic-hz", &["yes", "no"]),
    ("tcp-keepalive", &["0", "300", "-1"]),
    (
        "client-output-buffer-limit",
        &[
            "normal 0 0 0",
            "pubsub 32mb 8mb 60",
            "replica 256mb 64mb 60 normal 0 0 0",
            "slave 256mb 64mb 60",
            "normal 0 0",
            "bogus 1 1 1",
            "pubsub 1gb 1gb x",
        ],
    ),
    ("proto-max-bulk-len", &["512mb", "1"]),
    ("client-query-buffer-limit", &["1gb", "512mb", "1"]),
    ("repl-timeout", &["60", "0"]),
    ("repl-backlog-size", &["1mb", "16kb", "0", "2mb"]),
    ("slave-priority", &["100", "x"]),
    ("lua-time-limit", &["5000", "x"]),
    ("appendfsync", &["always", "everysec", "no", "never"]),
    ("loglevel", &["notice", "verbose", "warning", "loud"]),
    ("databases", &["16"]),
    ("io-threads", &["1"]),
    ("enable-debug-command", &["no"]),
    ("unixsocket", &["/nosuch"]),
    ("save", &["", "3600", "1 x"]),
    ("oom-score-adj", &["no", "x"]),
    (
        "proc-title-template",
        &["{title} {listen-addr}", "{nosuch}"],
    ),
    ("active-expire-effort", &["1", "10", "11"]),
    ("maxmemory-policy", &["nosuch"]),
];

/// How often a row is drawn, more than others or less. 0: only when it has been tested too little.
pub fn weight(name: &str) -> usize {
    match name {
        "set" => 24,
        "mset" | "exec" => 12,
        "get" | "append" | "setrange" | "multi" | "lcs" | "debug" | "publish" => 8,
        "flushall" | "flushdb" | "swapdb" | "select" | "hello" | "reset" | "discard" => 1,
        "auth" | "info" | "command|docs" | "config|resetstat" | "scan" | "keys"
        | "memory|stats" => 1,
        "config|rewrite"
        | "command"
        | "lolwut"
        | "memory|malloc-stats"
        | "memory|doctor"
        | "client|pause"
        | "memory|purge" => 0,
        "client|reply" | "monitor" | "quit" | "shutdown" => 0,
        _ if name.starts_with("latency|")
            || name.ends_with("|help")
            || name.starts_with("pubsub|") =>
        {
            1
        }
        _ if name.contains('|') => 2,
        _ => 4,
    }
}

/// Rows that never come from the generator into the stream: they stop it, and have scenes of their own.
pub const SCENES_ONLY: &[&str] = &[
    "client|reply",
    "monitor",
    "quit",
    "shutdown",
    "subscribe",
    "psubscribe",
];
/// Likewise: these go to the subscriber's connection.
pub const SUBSCRIBING: &[&str] = &[
    "subscribe",
    "psubscribe",
    "ssubscribe",
    "unsubscribe",
    "punsubscribe",
    "sunsubscribe",
];

/// False for commands that could do harm when made wrong.
pub fn may_break(name: &str) -> bool {
    // (A payload's time to live must not be near.)
    let never = matches!(
        name,
        "shutdown" | "monitor" | "client|reply" | "restore" | "restore-asking"
    );
    forms(name).is_none() && !never
}

/// Commands whose rows say too little about their arguments, written out. Words in angle brackets stand for
/// something to draw, `_` for a space.
pub fn forms(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "debug" => DEBUG,
        "command|getkeys" | "command|getkeysandflags" => &["<command>"],
        "lolwut" => &[
            "",
            "VERSION 5",
            "VERSION 6",
            "VERSION 5 10 2 3",
            "VERSION 6 20 5",
            "VERSION x",
            "VERSION",
            "1",
        ],
        // Containers: what is no subcommand.
        "client" | "config" | "object" | "pubsub" | "slowlog" | "latency" | "memory" | "module" => {
            &[
                "",
                "nosuch",
                "nosuch a b",
                "<binary>",
                "<binary> <value>",
                "help x y",
                "get|x",
            ]
        }
        _ => return None,
    })
}

#[rustfmt::skip]
const DEBUG: &[&str] = &[
    "protocol string", "protocol integer", "protocol double", "protocol null", "protocol array", "protocol set",
    "protocol map", "protocol verbatim", "protocol true", "protocol false", "protocol bignum", "protocol attrib",
    "protocol nosuch", "digest", "digest", "digest", "digest-value <key> <key> <key>", "digest-value <key>", "error SOME_error_text",
    "error <binary>", "sleep 0", "object <key>", "log <value>", "set-active-expire 0", "htstats 0", "htstats 16",
    "htstats x", "htstats-key <key>", "quicklist-packed-threshold 0", "quicklist-packed-threshold 1b",
    "quicklist-packed-threshold x", "change-repl-id", "replybuffer peak-reset-time never",
    "replybuffer peak-reset-time reset", "replybuffer peak-reset-time 100", "replybuffer nosuch x", "pause-cron 0",
    "listpack <key>", "quicklist <key>", "client-eviction", "nosuch", "nosuch a b", "sleep", "populate 3 pop 10",
    "populate 2 pop", "populate x", "populate -1", "sdslen <key>",
    "replicate", "<binary>", "protocol", "object",
];

/// Rows with an argument that names commands.
pub fn takes_row_names(row: &str, arg: &str) -> bool {
    matches!(
        (row, arg),
        ("command|info" | "command|docs", "command-name") | ("latency|histogram", "command")
    )
}

/// What stands for a pattern.
pub fn pattern(row: &str) -> Option<&'static [&'static str]> {
    Some(match row {
        "command|list" => &["*get*", "s*", "config|*", "nosuch*", "*"],
        _ if row.contains("sub") => CHANNEL_PATTERNS,
        _ => return None,
    })
}

/// What stands for an integer.
pub fn integer(row: &str, arg: &str) -> Option<&'static [&'static str]> {
    Some(match (row, arg) {
        ("scan", "cursor") => &[
            "0",
            "0",
            "0",
            "0",
            "0",
            "5",
            "x",
            "-1",
            "18446744073709551616",
            "1 ",
        ],
        ("scan", "count") => &[
            "1", "2", "10", "100", "1000", "1000", "1000", "0", "-1", "x",
        ],
        (_, "index" | "destination-db" | "db" | "index1" | "index2") => DATABASES,
        ("setrange", "offset") => &[
            "0",
            "1",
            "3",
            "7",
            "100",
            "1000",
            "-1",
            "536870912",
            "9223372036854775807",
            "x",
        ],
        ("client|kill", "client-id") => &[VICTIM_ID, VICTIM_ID, VICTIM_ID, "999999999", "0", "x"],
        ("client|list", "client-id") => &[VICTIM_ID, "1", "2", "3", "4", "999999999", "x"],
        ("client|unblock", "client-id") => &[VICTIM_ID, "1", "2", "999999999", "x"],
        ("client|pause", "timeout") => &["0", "1", "2", "-1", "x"],
        ("hello", "protover") => &["2", "3", "2", "3", "2", "3", "1", "4", "x"],
        ("slowlog|get", "count") => &["-1", "0", "1", "3", "10", "200", "-2", "x"],
        ("memory|usage", "count") => &["0", "5", "-1", "x"],
        _ => return None,
    })
}

/// What stands for a string.
pub fn string(row: &str, arg: &str) -> Option<&'static [&'static str]> {
    Some(match (row, arg) {
        ("scan", "type") => &["string", "STRING", "hash", "nosuch"],
        (_, "channel" | "shardchannel") => CHANNELS,
        ("config|get", _) => &[
            "maxmemory*",
            "MaxMemory",
            "hz",
            "slowlog-*",
            "lazyfree-*",
            "lfu-*",
            "nosuch",
            "*-ziplist-*",
            "notify-*",
            "save",
            "client-output-buffer-limit",
            "slave-priority",
            "h[z]",
            "appendfsync",
            "databases",
        ],
        ("hello" | "auth", "username") => &["default"],
        ("hello" | "auth", "password") => &["", "secret", "x y"],
        ("hello", "clientname") | ("client|setname", _) => NAMES,
        ("client|setinfo", _) => &["redis-py", "4.5.0", "", "two words"],
        ("latency|graph" | "latency|history" | "latency|reset", _) => {
            &["command", "command", "nosuch", "fork"]
        }
        ("info", _) => &[
            "server",
            "clients",
            "memory",
            "stats",
            "replication",
            "cpu",
            "commandstats",
            "errorstats",
            "keyspace",
            "all",
            "everything",
            "default",
            "nosuch",
            "modules",
            "cluster",
            "persistence",
            "latencystats",
            "KEYSPACE",
        ],
        ("command|list", "module-name") => &["nosuch"],
        ("command|list", "category") => &["string", "read", "keyspace", "nosuch", "fast"],
        ("client|kill", "username") => &["default", "default", "nosuch"],
        ("client|kill", "addr" | "old-format") => &[VICTIM_ADDR, VICTIM_ADDR, "1.2.3.4:5"],
        ("client|kill", "laddr") => &[VICTIM_LADDR, VICTIM_LADDR, "1.2.3.4:5"],
        _ => return None,
    })
}

/// Takes from a command what would end the run: only the victim may be killed, pauses are short.
pub fn make_harmless(request: &mut Request) {
    let args = &mut request.args;
    if request.name == "client|kill" && args.len() > 3 {
        // The last filter of a kind counts, and all must fit.
        args.extend([b"ID".to_vec(), VICTIM_ID.into()]);
    }
    let by_type = |args: &[Vec<u8>]| args.iter().any(|a| a.eq_ignore_ascii_case(b"type"));
    if request.name == "scan" && by_type(args) {
        // Looking at the type counts as a hit: on pages that differ, statistics would.
        args.extend([b"COUNT".to_vec(), b"1000".to_vec()]);
        if matches!(args[1].as_slice(), b"5" | b"-1") {
            args[1] = b"0".to_vec();
        }
    }
    if request.name == "config|set" {
        // Longer strings than 512 MB would be real, and fill the peer's memory.
        for at in 2..args.len().saturating_sub(1) {
            if args[at] == b"proto-max-bulk-len" && args[at + 1].len() > 5 {
                args[at + 1] = b"512mb".to_vec();
            }
        }
    }
    if matches!(request.name, "hello" | "auth") {
        // A login that fails gets no answer from 7.2.6 while older replies are still unsent, so that failing is
        // left to a scene that waits for each reply.
        let from = if request.name == "auth" { 0 } else { 1 };
        for at in from..args.len().saturating_sub(2) {
            if args[at].eq_ignore_ascii_case(b"auth") {
                args[at + 1] = b"default".to_vec();
            }
        }
    }
    if request.name == "client|pause" {
        // Nothing longer than it takes to notice.
        for arg in args.iter_mut().skip(2) {
            if std::str::from_utf8(arg)
                .is_ok_and(|a| a.trim().parse::<f64>().is_ok_and(|n| n > 2.0 && n < 1e18))
            {
                *arg = b"2".to_vec();
            }
        }
    }
}

/// Rows that answer 0 to a good call on data, as others answer 1.
pub fn may_answer_zero(name: &str) -> bool {
    matches!(
        name,
        "client|unblock" | "latency|reset" | "setnx" | "msetnx" | "renamenx" | "object|idletime"
    )
}

/// Options that find nothing as long as there are no replicas and no modules: no error is enough.
pub fn finds_nothing(name: &str, option: &str) -> bool {
    match name {
        "client|kill" => ["/master", "/slave", "/replica"]
            .iter()
            .any(|kind| option.ends_with(kind)),
        "command|list" => option.ends_with("/module-name"),
        "module|list" => true,
        _ => false,
    }
}

/// Rows that can only fail as long as there are no modules.
pub const ALWAYS_FAIL: &[&str] = &["module|load", "module|loadex", "module|unload"];
