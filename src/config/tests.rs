//! The table as a whole: what holds for every row, and what Redis 7.2 says in the same place.

use std::collections::HashMap;

use proptest::prelude::*;

use super::cmdline::{CommandLine, Start};
use super::host::Host;
use super::parse::{LoadError, Loaded, load};
use super::set::{Circumstances, SetError, config_get, config_set, show};
use super::types::*;
use super::{Config, ROWS, cmdline, lookup, rewrite};

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
            "activedefrag" => texts(&["no"]),
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
                let text = rewrite::rewrite(b"", &config, &[], all);
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

/// The reason in the error, and the line it names.
fn refusal(text: &str) -> (usize, String, String) {
    let text_of = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    match load_text(text) {
        // Line 1 is the empty file before the options.
        Err(LoadError::Line {
            number,
            line,
            reason,
        }) => (number - 1, text_of(line), text_of(reason)),
        Err(LoadError::Whole { reason }) => (0, String::new(), text_of(reason)),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn refusals_as_redis_words_them() {
    const INTEGER: &str = "argument couldn't be parsed into an integer";
    const WRONG_NUMBER: &str = "wrong number of arguments";
    const BAD: &str = "Bad directive or wrong number of arguments";
    let cases = [
        ("port", WRONG_NUMBER),
        ("port 1 2", WRONG_NUMBER),
        ("port abc", INTEGER),
        ("port +1", INTEGER),
        ("tcp-keepalive 007", INTEGER),
        (
            "port 70000",
            "argument must be between 0 and 65535 inclusive",
        ),
        ("port -1", "argument must be between 0 and 65535 inclusive"),
        (
            "maxclients -1",
            "argument must be between 1 and 4294967295 inclusive",
        ),
        ("maxmemory 1x", "argument must be a memory value"),
        (
            "maxmemory-clients x",
            "argument must be a memory or percent value",
        ),
        (
            "maxmemory-clients 101%",
            "percentage argument must be less or equal to 100",
        ),
        (
            "unixsocketperm 9",
            "argument couldn't be parsed as an octal number",
        ),
        (
            "unixsocketperm 1000",
            "argument must be between 0 and 777 inclusive",
        ),
        ("daemonize maybe", "argument must be 'yes' or 'no'"),
        (
            "loglevel loud",
            "argument(s) must be one of the following: debug, verbose, notice, warning, nothing",
        ),
        (
            "shutdown-on-sigint",
            "argument(s) must be one of the following: default, save, nosave, now, force",
        ),
        (
            "shutdown-on-sigint save nosave",
            "shutdown options SAVE and NOSAVE can't be used simultaneously",
        ),
        ("save 1", "Invalid save parameters"),
        ("save 0 1", "Invalid save parameters"),
        ("save 1 -1", "Invalid save parameters"),
        (
            "bind 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17",
            "Too many bind addresses specified.",
        ),
        ("dir /none", "No such file or directory"),
        ("replicaof localhost", WRONG_NUMBER),
        ("slaveof localhost 65536", "Invalid master port"),
        (
            "client-output-buffer-limit normal 0 0",
            "Wrong number of arguments in buffer limit configuration.",
        ),
        (
            "client-output-buffer-limit master 0 0 0",
            "Invalid client class specified in buffer limit configuration.",
        ),
        (
            "client-output-buffer-limit pubsub 0 0 -1",
            "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
        ),
        (
            "oom-score-adj-values 0 1 2001",
            "Invalid oom-score-adj-values, elements must be between -2000 and 2000.",
        ),
        (
            "notify-keyspace-events KQ",
            "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.",
        ),
        (
            "latency-tracking-info-percentiles 101",
            "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
        ),
        ("appendfilename \"\"", "appendfilename can't be empty"),
        (
            "appenddirname a/b",
            "appenddirname can't be a path, just a dirname",
        ),
        (
            "dbfilename a/b",
            "dbfilename can't be a path, just a filename",
        ),
        (
            "proc-title-template {x}",
            "template format is invalid or contains unknown variables",
        ),
        (
            "cluster-announce-hostname a_b",
            "Hostnames may only contain alphanumeric characters, hyphens or dots",
        ),
        (
            "cluster-announce-human-nodename a:b",
            "Announced human node name contained invalid character",
        ),
        (
            "loglevel \"notice",
            "Unbalanced quotes in configuration line",
        ),
        (
            "loglevel 'notice'x",
            "Unbalanced quotes in configuration line",
        ),
        ("rename-command nope x", "No such command in rename-command"),
        (
            "rename-command get SET",
            "Target command name already exists",
        ),
        ("rename-command get", BAD),
        ("include", BAD),
        ("user", BAD),
        ("no-such-directive 1", BAD),
        ("list-max-ziplist-entries 1 2", BAD),
        ("some.thing", "Module config specified without value"),
        (
            "sentinel monitor a b",
            "sentinel directive while not in sentinel mode",
        ),
        (
            "logfile /none/log",
            "Can't open the log file: No such file or directory",
        ),
        (
            "cluster-enabled yes\nreplicaof a 1",
            "replicaof directive not allowed in cluster mode",
        ),
    ];
    for (text, expected) in cases {
        let (number, line, reason) = refusal(text);
        assert_eq!(reason, expected, "{text}");
        assert!(
            number == 0 || (number, line.as_str()) == (1, text),
            "{text}"
        );
    }
    assert!(
        refusal("loadmodule x.so")
            .2
            .starts_with("Modules are not supported")
    );

    let (number, line, _) = refusal("# comment\n\n \t  port   x \r\nhz 1");
    assert_eq!((number, line.as_str()), (3, "port   x"));
    let message = load_text("port").unwrap_err().message("7.2.6");
    let expected = "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.6) ***\n\
        Reading the configuration file, at line 2\n>>> 'port'\nwrong number of arguments\n";
    assert_eq!(String::from_utf8(message).unwrap(), expected);
}

#[test]
fn lines_of_a_file() {
    let config = config_of(
        "# a comment\n\n  PORT \"63\\x380\"\t\r\nport 7000\nsave 900 1\nSave \"300 10 60 5\"\nsave\n\
         maxmemory 1gb\nslave-read-only no\nhash-max-ziplist-value 100\nlua-time-limit 7\n\
         client-output-buffer-limit normal 1kb 2kb 3 slave 4 5 6\nclient-output-buffer-limit pubsub 7 8 9\n\
         shutdown-on-sigterm \"nosave now\"\nshutdown-on-sigint now force\nrequirepass 'a\\'b\"'\n\
         hz 1000\nuser a on >x\nuser b off\nreplicaof 127.0.0.1 6380\nmaxmemory-clients 5%\n\
         server-cpulist 0-3\nbind 127.0.0.1 -::1\nunixsocketperm 700\noom-score-adj relative",
    );
    assert_eq!(config.port, 7000);
    assert_eq!(config.save, [(900, 1), (300, 10), (60, 5)]);
    assert_eq!(config.maxmemory, 1 << 30);
    assert!(!config.replica_read_only);
    assert_eq!(config.hash_max_listpack_value, 100);
    assert_eq!(config.busy_reply_threshold, 7);
    let limits = "normal 1024 2048 3 slave 4 5 6 pubsub 7 8 9";
    assert_eq!(get(&config, "client-output-buffer-limit"), limits);
    assert_eq!(get(&config, "shutdown-on-sigterm"), "nosave now");
    assert_eq!(get(&config, "shutdown-on-sigint"), "now force");
    assert_eq!(config.requirepass.as_bytes(), b"a'b\"");
    assert_eq!(config.hz, 500);
    assert_eq!(config.user.len(), 2);
    assert_eq!(get(&config, "slaveof"), "127.0.0.1 6380");
    assert_eq!(config.client_memory_limit(), (1 << 30) / 100 * 5 + 1);
    assert_eq!(config.server_cpulist.as_bytes(), b"0-3");
    assert_eq!(config.bind.len(), 2);
    assert_eq!(config.unixsocketperm, 0o700);
    assert_eq!(get(&config, "oom-score-adj"), "yes");

    assert_eq!(get(&config_of("hz 3"), "save"), "3600 1 300 100 60 10000");
    assert_eq!(get(&config_of("save"), "save"), "");
    assert_eq!(
        get(&config_of("save 1 1\nsave \"\"\nsave 2 2"), "save"),
        "2 2"
    );
    assert_eq!(get(&config_of("bind \"\""), "bind"), "");
}

#[test]
fn includes_are_read_in_place_and_from_the_directory_so_far() {
    let mut fake = Fake::default();
    fake.files
        .insert("/start/a.conf", "port 1\nhz 11\nsave 5 5");
    fake.files.insert("/d/b.conf", "timeout 9\nbind 1.1.1.1");
    fake.files.insert("/c.d/1.conf", "hz 21\ntcp-backlog 1");
    fake.files.insert("/c.d/2.conf", "hz 22");
    fake.files.insert("/loop.conf", "include /loop.conf");
    fake.files.insert("/bad.conf", "\n\nhz x");
    let text = "save 9 9\ninclude a.conf\nport 2\ndir /d\ninclude b.conf\ninclude /c.d/*\ninclude /empty.d/*\nsave 7 7";
    let config = load_with(text, &mut fake).unwrap().config;
    assert_eq!(
        (config.port, config.hz, config.timeout, config.tcp_backlog),
        (2, 22, 9, 1)
    );
    assert_eq!(config.save, [(9, 9), (5, 5), (7, 7)]);

    let missing = load_with("include gone.conf", &mut fake).unwrap_err();
    let message = String::from_utf8(missing.message("7.2.6")).unwrap();
    assert_eq!(
        message,
        "Fatal error, can't open config file 'gone.conf': No such file or directory"
    );
    let circle = load_with("include /loop.conf", &mut fake).unwrap_err();
    assert!(matches!(circle, LoadError::Line { number: 1, .. }));
    let inside = load_with("hz 1\ninclude /bad.conf", &mut fake).unwrap_err();
    assert!(matches!(inside, LoadError::Line { number: 3, .. }));
}

#[test]
fn commands_are_renamed_in_order() {
    let config =
        config_of("rename-command GET \"\"\nrename-command set get\nrename-command get other");
    assert_eq!(config.rename_command.len(), 3);
    assert_eq!(
        refusal("rename-command get \"\"\nrename-command get x").0,
        2
    );
    assert_eq!(
        refusal("rename-command set get").2,
        "Target command name already exists"
    );
}

#[test]
fn what_has_no_effect_is_said_once() {
    let loaded =
        load_text("list-max-ziplist-entries 1\nlist-max-ziplist-entries 2\nactivedefrag yes")
            .unwrap();
    assert_eq!(loaded.notes.len(), 2);
    assert!(!loaded.config.activedefrag);
    let loaded = load_text("cluster-enabled yes").unwrap();
    assert_eq!(loaded.config.databases, 1);
    assert!(loaded.notes[0].contains("Changing databases number from 16 to 1"));
    assert!(load_text("maxmemory 1gb").unwrap().notes.is_empty());
}

#[test]
fn command_lines_as_redis_reads_them() {
    let start = |args: &[&str]| {
        let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        match cmdline::parse(b"redis-server", &args) {
            CommandLine::Serve(start) => start,
            other => panic!("{other:?}"),
        }
    };
    let read = |args: &[&str]| {
        let mut fake = Fake::default();
        fake.files.insert("/start/x.conf", "save 900 1\nhz 20");
        load(&start(args), None, "/start".into(), &mut fake)
    };
    let config = |args: &[&str]| read(args).unwrap().config;
    assert_eq!(
        get(&config(&["x.conf", "--save", "100", "100"]), "save"),
        "900 1 100 100"
    );
    assert_eq!(get(&config(&["x.conf", "--save", ""]), "save"), "");
    assert_eq!(get(&config(&["x.conf", "--hz", "5", "--save"]), "save"), "");
    let both = config(&["x.conf", "--save", "--loglevel", "verbose"]);
    assert_eq!(
        (both.save.len(), both.loglevel, both.hz),
        (0, LogLevel::Verbose, 20)
    );
    let spaced = config(&["--maxmemory 700mb", "--maxmemory-policy 'volatile-lru'"]);
    assert_eq!(spaced.maxmemory, 700 << 20);
    assert!(spaced.maxmemory_policy.is_lru());
    let wrong_order = config(&["x.conf", "loglevel", "verbose", "--maxmemory '700mb'"]);
    assert_eq!(wrong_order.loglevel, LogLevel::Verbose);
    let title = config(&["--proc-title-template", "--my--title", "--port", "1"]);
    assert_eq!(title.proc_title_template.as_bytes(), b"--my--title");
    let signals = config(&[
        "--shutdown-on-sigint",
        "nosave",
        "force",
        "now",
        "--shutdown-on-sigterm",
        "nosave force",
    ]);
    assert_eq!(get(&signals, "shutdown-on-sigint"), "nosave now force");
    assert_eq!(get(&signals, "shutdown-on-sigterm"), "nosave force");

    let refusals: [(&[&str], &str, &str); 6] = [
        (
            &["--invalid"],
            "invalid",
            "Bad directive or wrong number of arguments",
        ),
        (&["--port"], "port", "wrong number of arguments"),
        (
            &["--port", "6379", "6380"],
            "port \"6379\" \"6380\"",
            "wrong number of arguments",
        ),
        (
            &["--port", "--loglevel", "verbose"],
            "port \"--loglevel\" \"verbose\"",
            "wrong number of arguments",
        ),
        (
            &["--replicaof", "127.0.0.1", "abc"],
            "replicaof \"127.0.0.1\" \"abc\"",
            "Invalid master port",
        ),
        (
            &["--replicaof", "--127.0.0.1", "--abc"],
            "replicaof \"--127.0.0.1\"",
            "wrong number of arguments",
        ),
    ];
    for (args, expected_line, expected_reason) in refusals {
        let Err(LoadError::Line { line, reason, .. }) = read(args) else {
            panic!("{args:?}");
        };
        assert_eq!(line, expected_line.as_bytes());
        assert_eq!(reason, expected_reason.as_bytes());
    }
    let stdin = load(
        &start(&["x.conf", "--port", "1", "-"]),
        Some(b"port 2\nhz 7"),
        "/start".into(),
        &mut {
            let mut fake = Fake::default();
            fake.files.insert("/start/x.conf", "hz 3\n");
            fake
        },
    );
    let stdin = stdin.unwrap().config;
    assert_eq!((stdin.port, stdin.hz), (1, 7));
}

#[test]
fn config_set_is_all_or_nothing() {
    let old = config_of("maxmemory 1gb");
    let failed = |name: &str, reason: &str| {
        format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
    };
    let refusals: [(&[(&str, &str)], String); 8] = [
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
            &[("activedefrag", "yes")],
            failed(
                "activedefrag",
                "Active defragmentation cannot be enabled: it requires a Redis server compiled with a \
                 modified Jemalloc like the one shipped by default with the Redis source distribution",
            ),
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
    let new = rewrite::rewrite(old.as_bytes(), &config, &[user], false);
    let expected = "# mine\n\n# two empty lines above\nport 7991\nmaxmemory 1536\nsave 5 5\n\nreplica-read-only yes\n\n\
        hash-max-listpack-entries 512\ninclude /inc*.conf\nrename-command FLUSHDB \"\"\n# ??? list-max-ziplist-entries 5\n\n\
        user default on nopass sanitize-payload ~* &* +@all\nclient-output-buffer-limit normal 0 0 0\ntimeout 0\n\n\
        # indented\nhz 10\n# ??? not \"a line\n\n# Generated by CONFIG REWRITE\ntcp-keepalive 60\ndir \"/start\"\n\
        latency-tracking-info-percentiles 50 99 99.9\n";
    assert_eq!(String::from_utf8(new.clone()).unwrap(), expected);

    let user = b"user default on nopass sanitize-payload ~* &* +@all".to_vec();
    let again = rewrite::rewrite(&new, &config, &[user], false);
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
            let text = rewrite::rewrite(b"", &loaded.config, &[], false);
            let again = load_text(&String::from_utf8_lossy(&text)).unwrap();
            prop_assert_eq!(again.config, loaded.config);
        }
    }
}
