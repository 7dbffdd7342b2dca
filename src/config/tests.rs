//! The table as a whole: what holds for every row, and what Redis 7.2 says in the same place.

use std::collections::HashMap;

use proptest::prelude::*;

use super::cmdline::Start;
use super::host::Host;
use super::parse::{LoadError, Loaded, load};
use super::set::{Circumstances, SetError, config_get, config_set, show};
use super::types::*;
use super::{Config, ROWS, lookup, rewrite};

mod reading;

/// A disk of a few files, all of whose directories exist but `/none`, and a command table of three.
#[derive(Default)]
struct Fake {
    files: HashMap<&'static str, &'static str>,
}

impl Host for Fake {
    fn enter(&mut self, dir: &Text, path: &[u8]) -> Result<Text, String> {
        match path {
            b"/none" => Err("No such file or directory".into()),
            [b'/', ..] => Ok(path.into()),
            _ => Ok([&dir[..], b"/", path].concat().into()),
        }
    }

    fn read(&mut self, dir: &Text, path: &[u8]) -> Result<Vec<u8>, String> {
        let path = String::from_utf8_lossy(path).into_owned();
        let path = match path.starts_with('/') {
            true => path,
            false => format!("{}/{path}", dir.lossy()),
        };
        let text = self.files.get(path.as_str());
        text.map(|text| text.as_bytes().to_vec())
            .ok_or("No such file or directory".into())
    }

    fn matching(&mut self, _: &Text, pattern: &[u8]) -> Vec<Text> {
        let start = pattern
            .strip_suffix(b"*")
            .expect("the tests end patterns so");
        let mut found: Vec<Text> = self.files.keys().map(|path| Text::from(*path)).collect();
        found.retain(|path| path.starts_with(start));
        found.sort();
        found
    }

    fn appendable(&mut self, _: &Text, path: &[u8]) -> Result<(), String> {
        match path.starts_with(b"/none") {
            true => Err("No such file or directory".into()),
            false => Ok(()),
        }
    }

    fn is_command(&self, name: &[u8]) -> bool {
        ["get", "set", "flushdb"]
            .iter()
            .any(|known| known.as_bytes().eq_ignore_ascii_case(name))
    }
}

fn load_with(text: &str, fake: &mut Fake) -> Result<Loaded, LoadError> {
    let start = Start {
        options: text.as_bytes().to_vec(),
        ..Start::default()
    };
    load(&start, None, "/start".into(), fake)
}

fn load_text(text: &str) -> Result<Loaded, LoadError> {
    load_with(text, &mut Fake::default())
}

fn config_of(text: &str) -> Config {
    load_text(text)
        .unwrap_or_else(|error| panic!("{text}: {error:?}"))
        .config
}

fn get(config: &Config, name: &str) -> String {
    String::from_utf8(show(lookup(name.as_bytes()).unwrap(), config)).unwrap()
}

fn set(config: &Config, pairs: &[(&str, &str)]) -> Result<super::set::Change, String> {
    let pairs: Vec<(&[u8], &[u8])> = pairs
        .iter()
        .map(|(n, v)| (n.as_bytes(), v.as_bytes()))
        .collect();
    let when = Circumstances {
        loading: false,
        protected: true,
    };
    let change = config_set(config, &pairs, when, &mut |dir, path| {
        Fake::default().enter(dir, path)
    });
    change.map_err(|error| String::from_utf8(error.reply()).unwrap())
}

/// Values to try on a row, as CONFIG GET shows them.
fn samples(row: &Row) -> Vec<String> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect();
    match &row.kind {
        Kind::YesNo { .. } => texts(&["yes", "no"]),
        // Redis takes any value and uses one within these.
        Kind::Number { .. } if row.name == "hz" => texts(&["1", "500"]),
        Kind::Number {
            low, high, unit, ..
        } => {
            let middle = (*high).min(4096).max(*low);
            let number = |n: i128| match unit {
                Unit::MemoryOrPercent if n < 0 => format!("{}%", -n),
                Unit::Octal => format!("{n:o}"),
                _ => n.to_string(),
            };
            [*low, middle, *high].map(number).to_vec()
        }
        Kind::Text { .. } if row.name == "proc-title-template" => texts(&["{port} a\tb", "x"]),
        Kind::Text { .. } if row.name.starts_with("append") => texts(&["a b", "\"x\""]),
        Kind::Text { check: Some(_), .. } => texts(&["a", "b-1.c"]),
        Kind::Text { .. } => texts(&["", "plain", "two words", "'q\" \\ \n \u{e9}"]),
        Kind::Choice {
            names, get, set, ..
        } => {
            // Of several names for one value, CONFIG GET shows the first.
            let mut config = Config::default();
            let mut shown = |code: u32| {
                set(&mut config, code);
                super::set::choice_names(names, get(&config))
            };
            names.iter().map(|(_, code)| shown(*code)).collect()
        }
        Kind::Special(_) => match row.name {
            "bind" => texts(&["", "1.2.3.4", "* -::*", "10.0.0.1 -::1 -10.0.0.2"]),
            "save" => texts(&["", "5 0", "3600 1 300 100"]),
            "dir" => texts(&["/some where"]),
            "replicaof" => texts(&["", "master.example 6380"]),
            "client-output-buffer-limit" => {
                texts(&["normal 1 2 3 slave 1048576 0 7 pubsub 0 1536 1"])
            }
            "oom-score-adj-values" => texts(&["-5 0 2000", "0 200 800"]),
            "latency-tracking-info-percentiles" => texts(&["", "0 99.95 100"]),
            "notify-keyspace-events" => texts(&["", "AKE", "lzxeK"]),
            other => panic!("no sample of {other}"),
        },
    }
}

/// A line of a file that gives a row a value shown as `value`.
fn line_for(row: &Row, value: &str) -> String {
    if row.name == "replicaof" && value.is_empty() {
        return "replicaof no one".into();
    }
    match row.is(flag::MULTI_ARG) && !value.is_empty() {
        true => format!("{} {value}", row.name),
        false => format!(
            "{} {}",
            row.name,
            crate::base::quoted::quote(value.as_bytes())
        ),
    }
}

#[test]
fn every_row_is_read_shown_set_and_rewritten_alike() {
    for row in ROWS {
        for value in samples(row) {
            let name = row.name;
            let config = config_of(&line_for(row, &value));
            assert_eq!(get(&config, name), value, "{name}");

            for all in [false, true] {
                let text = rewrite::rewrite(b"", &config, &[], None, all);
                let again = config_of(std::str::from_utf8(&text).unwrap());
                assert_eq!(again, config, "{name} {value}");
            }

            if row.is(flag::IMMUTABLE) {
                continue;
            }
            let start = Config {
                dir: "/start".into(),
                ..Config::default()
            };
            let change = set(&start, &[(name, &value)]).unwrap();
            assert_eq!(change.config, config, "{name} {value}");
            let changed = change.config != start;
            assert!(!changed || change.changed == [name], "{name} {value}");
        }
    }
}

#[test]
fn bounds_fit_the_fields_and_hold() {
    for row in ROWS {
        let Kind::Number {
            get: field,
            set: store,
            low,
            high,
            unit,
        } = &row.kind
        else {
            continue;
        };
        let mut config = Config::default();
        assert!((*low..=*high).contains(&field(&config)), "{}", row.name);
        for bound in [*low, *high] {
            store(&mut config, bound);
            assert_eq!(field(&config), bound, "{}", row.name);
        }
        let beyond = match unit {
            Unit::Octal => format!("{:o}", high + 1),
            _ => (high + 1).to_string(),
        };
        // One past the largest 64-bit number is read as that number where bytes are meant.
        if *high < i128::from(u64::MAX) {
            load_text(&format!("{} {beyond}", row.name)).expect_err(row.name);
        }
        if *unit == Unit::Plain {
            load_text(&format!("{} {}", row.name, low - 1)).expect_err(row.name);
        }
    }
}

#[test]
fn names_are_unique_and_follow_the_fields() {
    let mut names: Vec<&str> = ROWS
        .iter()
        .flat_map(|row| [Some(row.name), row.alias])
        .flatten()
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for name in names {
        assert!(lookup(name.to_uppercase().as_bytes()).is_some());
        assert_eq!(name, name.to_lowercase());
    }
}

/// `CONFIG GET *` of a Redis 7.2.6 started without a file, and its hidden directives.
const REDIS_7_2: &str = include_str!("../../tests/format/config-get-7.2.txt");

#[test]
fn defaults_are_those_of_redis_7_2() {
    let config = Config::default();
    let names: Vec<&str> = REDIS_7_2
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    for line in REDIS_7_2.lines() {
        let (name, value) = line.split_once(' ').unwrap();
        assert_eq!(get(&config, name), value, "{name}");
    }
    let shown = config_get(&config, &[b"*"]);
    for (name, _) in &shown {
        let name = std::str::from_utf8(name).unwrap();
        assert!(
            names.contains(&name) || name == "dir",
            "{name} is not one of 7.2's"
        );
    }
    let hidden = ROWS
        .iter()
        .filter(|row| row.is(flag::HIDDEN) && names.contains(&row.name));
    assert_eq!(shown.len() + hidden.count(), names.len() + 1);
}

#[test]
fn the_example_names_every_directive_with_valid_values() {
    let text = include_str!("../../redis.conf.example");
    let active = config_of(text);
    let differs = |row: &&Row| show(row, &active) != show(row, &Config::default());
    let differing: Vec<&str> = ROWS.iter().filter(differs).map(|row| row.name).collect();
    assert_eq!(differing, ["bind", "pidfile", "dir"]);

    let directives = text.lines().filter_map(|line| {
        let line = line.strip_prefix("# ").unwrap_or(line);
        let name = line.split(' ').next()?;
        lookup(name.as_bytes())
            .filter(|row| row.name == name)
            .map(|row| (row, line))
    });
    let mut seen: Vec<&str> = Vec::new();
    for (row, line) in directives {
        load_text(line).unwrap_or_else(|error| panic!("{line}: {error:?}"));
        seen.push(row.name);
    }
    for row in ROWS
        .iter()
        .filter(|row| get(&active, row.name).is_empty() || !row.is(flag::HIDDEN))
    {
        assert!(seen.contains(&row.name), "{} is missing", row.name);
    }
}

#[test]
fn config_set_is_all_or_nothing() {
    let old = config_of("maxmemory 1gb");
    let failed = |name: &str, reason: &str| {
        format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
    };
    let refusals: [(&[(&str, &str)], String); 7] = [
        (
            &[
                ("maxmemory", "1"),
                ("maxmemory-clients", "200%"),
                ("hz", "x"),
            ],
            failed(
                "maxmemory-clients",
                "percentage argument must be less or equal to 100",
            ),
        ),
        (
            &[("Slave-Read-Only", "x")],
            failed("slave-read-only", "argument must be 'yes' or 'no'"),
        ),
        (
            &[("hz", "1"), ("Daemonize", "yes")],
            failed("Daemonize", "can't set immutable config"),
        ),
        (
            &[("hz", "1"), ("hz", "2")],
            failed("hz", "duplicate parameter"),
        ),
        (
            &[("save", "900  1")],
            failed("save", "Invalid save parameters"),
        ),
        (
            &[("daemonize", "yes"), ("nope", "1")],
            failed("daemonize", "can't set immutable config"),
        ),
        (
            &[("hz", "1"), ("nope", "1")],
            "ERR Unknown option or number of arguments for CONFIG SET - 'nope'".into(),
        ),
    ];
    for (pairs, error) in refusals {
        assert_eq!(set(&old, pairs).unwrap_err(), error);
    }

    let when = Circumstances {
        loading: true,
        protected: false,
    };
    let refused = |name: &[u8]| {
        config_set(&old, &[(name, b"x")], when, &mut |_, path| Ok(path.into())).unwrap_err()
    };
    assert_eq!(
        refused(b"dir"),
        SetError::refused("dir", "can't set protected config")
    );
    assert_eq!(refused(b"appendonly"), SetError::Loading);
    assert_eq!(
        SetError::Loading.reply(),
        b"LOADING Redis is loading the dataset in memory"
    );

    let change = set(
        &old,
        &[
            ("oom-score-adj", "relative"),
            ("port", "6379"),
            ("maxmemory", "2gb"),
            ("oom-score-adj-values", "1 1 1"),
            ("save", "7 7"),
            ("tls-cert-file", ""),
        ],
    )
    .unwrap();
    assert_eq!(
        change.apply,
        [
            (Apply::OomScoreAdj, "oom-score-adj"),
            (Apply::Maxmemory, "maxmemory"),
            (Apply::Tls, "tls-cert-file")
        ]
    );
    assert_eq!(
        change.changed,
        [
            "oom-score-adj",
            "maxmemory",
            "oom-score-adj-values",
            "save",
            "tls-cert-file"
        ]
    );
    assert_eq!(change.config.save, [(7, 7)]);
    assert_eq!(set(&old, &[("hz", "1000")]).unwrap().config.hz, 500);
    assert_eq!(set(&old, &[("save", "")]).unwrap().config.save, []);
}

#[test]
fn config_get_finds_names_once() {
    let config = Config::default();
    let names = |patterns: &[&[u8]]| -> Vec<String> {
        let found = config_get(&config, patterns);
        found
            .iter()
            .map(|(name, _)| name.lossy().into_owned())
            .collect()
    };
    assert_eq!(names(&[b"Hz", b"hz", b"h*"])[0], "Hz");
    assert_eq!(names(&[b"Hz", b"hz", b"hz*"]), ["Hz"]);
    assert_eq!(
        names(&[b"slaveof", b"replicaof*"]),
        ["slaveof", "replicaof"]
    );
    assert_eq!(names(&[b"key-load-delay"]), ["key-load-delay"]);
    assert!(names(&[b"key-load-*"]).is_empty());
    assert!(names(&[b"server-cpu*"]).is_empty());
    assert_eq!(names(&[b"server-cpulist"]), ["server-cpulist"]);
    assert_eq!(
        names(&[b"*OF", b"max?emory"]),
        ["replicaof", "slaveof", "maxmemory"]
    );
    assert!(names(&[b"nope", b""]).is_empty());
}

#[test]
fn rewrite_keeps_the_file_and_says_the_rest() {
    let old = "# mine\n\n\n# two empty lines above\nport 7991   \n maxmemory   100mb\nsave 900 1\nsave 300 10\nSAVE 60 5\n\
        slave-read-only no\nreplica-read-only yes\nhash-max-ziplist-entries 512\ninclude /inc*.conf\n\
        rename-command FLUSHDB \"\"\nlist-max-ziplist-entries 5\nrequirepass \"a b\\x01\"\nuser old on\n\
        client-output-buffer-limit slave 1mb 0 0\ntimeout 5\nmaxmemory 50mb\n\t# indented\nhz 10\nnot \"a line\n";
    let mut config =
        config_of("port 7991\nreplica-read-only yes\nsave 5 5\nhash-max-listpack-entries 512");
    config.maxmemory = 1536;
    config.tcp_keepalive = 60;
    config.requirepass = "".into();
    let user = b"user default on nopass sanitize-payload ~* &* +@all".to_vec();
    let new = rewrite::rewrite(old.as_bytes(), &config, &[user], None, false);
    let expected = "# mine\n\n# two empty lines above\nport 7991\nmaxmemory 1536\nsave 5 5\n\nreplica-read-only yes\n\n\
        hash-max-listpack-entries 512\ninclude /inc*.conf\nrename-command FLUSHDB \"\"\n# ??? list-max-ziplist-entries 5\n\n\
        user default on nopass sanitize-payload ~* &* +@all\nclient-output-buffer-limit normal 0 0 0\ntimeout 0\n\n\
        # indented\nhz 10\n# ??? not \"a line\n\n# Generated by CONFIG REWRITE\ntcp-keepalive 60\ndir \"/start\"\n\
        latency-tracking-info-percentiles 50 99 99.9\n";
    assert_eq!(String::from_utf8(new.clone()).unwrap(), expected);

    let user = b"user default on nopass sanitize-payload ~* &* +@all".to_vec();
    let again = rewrite::rewrite(&new, &config, &[user], None, false);
    assert_eq!(String::from_utf8(again).unwrap(), format!("{expected}\n"));
    let listing = String::from_utf8(rewrite::debug_listing(&config)).unwrap();
    assert!(listing.contains("\nreplica-read-only yes\n") && !listing.contains("port"));
}

proptest! {
    /// Whatever a file says, reading it ends, and a configuration that it gives survives a rewrite.
    #[test]
    fn any_text_is_read_or_refused(
        lines in prop::collection::vec(
            (0..ROWS.len(), "[ -~]{0,12}").prop_map(|(row, value)| format!("{} {value}", ROWS[row].name)),
            0..8,
        ),
        noise in "[ -~\\n\\t]{0,40}",
    ) {
        let _ = load_text(&noise);
        let read: Vec<Loaded> = lines.iter().filter_map(|line| load_text(line).ok()).collect();
        for loaded in read {
            let text = rewrite::rewrite(b"", &loaded.config, &[], None, false);
            let again = load_text(&String::from_utf8_lossy(&text)).unwrap();
            prop_assert_eq!(again.config, loaded.config);
        }
    }
}
