//! Reading: files, what they include, command lines, and how each is refused.

use super::*;
use crate::config::cmdline::{self, CommandLine};

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
    let loaded = load_text("list-max-ziplist-entries 1\nlist-max-ziplist-entries 2").unwrap();
    assert_eq!(loaded.notes.len(), 1);
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
