//! Random commands on every data type, small and large, to both servers in step. After each batch the encodings of all
//! keys and the digest of the whole are compared, and now and then clients wait in a row for what another one brings.
//!
//! Rounds differ in protocol and in the thresholds at which encodings change; within a round thresholds change as well.
//! The servers run their cron often, so that who waits in vain does not wait long.

use redstart::base::rng::Rng;
use redstart::cmd::spec::Flags;
use redstart::resp::value::Value;

use crate::coverage::ENOUGH;
use crate::generate::Request;
use crate::node::{Node, Version, both};
use crate::pair::{Names, Pair};
use crate::random::{self, DIFFERENCES_MAX, Run};
use crate::typed;

/// Commands of a run.
const COMMANDS: usize = 330_000;

/// Protocol and settings of each round.
#[rustfmt::skip]
const ROUNDS: &[(&str, &[&str])] = &[
    ("2", &[]),
    ("3", LOW),
    ("2", LOW),
    ("3", &[]),
];
#[rustfmt::skip]
const LOW: &[&str] = &[
    "hash-max-listpack-entries", "4", "hash-max-listpack-value", "16", "set-max-intset-entries", "3",
    "zset-max-listpack-entries", "4", "zset-max-listpack-value", "16", "list-max-listpack-size", "3",
    "list-compress-depth", "1", "stream-node-max-entries", "4", "hll-sparse-max-bytes", "60",
];
/// Payloads of DUMP that are there to be restored.
const PAYLOADS: usize = 100;
/// What changes within a round.
const SETTINGS: &[(&str, &[&str])] = &[
    ("hash-max-listpack-entries", &["0", "4", "128"]),
    ("hash-max-listpack-value", &["0", "16", "64"]),
    ("set-max-intset-entries", &["0", "3", "512"]),
    ("zset-max-listpack-entries", &["0", "4", "128"]),
    ("zset-max-listpack-value", &["0", "16", "64"]),
    ("list-max-listpack-size", &["-2", "1", "3", "-1", "128"]),
    ("list-compress-depth", &["0", "1", "2"]),
    ("stream-node-max-entries", &["0", "1", "4", "100"]),
    ("stream-node-max-bytes", &["0", "100", "4096"]),
    ("hll-sparse-max-bytes", &["0", "60", "200", "3000"]),
];
/// Settings that 7.0 does not have.
const SETTINGS_72: &[(&str, &[&str])] = &[
    ("set-max-listpack-entries", &["0", "5", "128"]),
    ("set-max-listpack-value", &["0", "16", "64"]),
];

#[test]
fn random_commands_on_every_type_get_the_same_replies() {
    let seed = random::seed();
    let nodes = both(&["--hz", "500"]);
    let [_, peer] = nodes.each_ref().map(Node::version);
    let rows = random::rows(&nodes)
        .into_iter()
        .filter(typed::is_typed)
        .collect();
    let mut run = Run::typed(&nodes, peer, rows, seed);
    if peer < Version::V72 {
        // So that it can read what we dump.
        run.main.conns[0].call(&["CONFIG", "SET", "rdb-version", "10"]);
    }
    for (resp, settings) in ROUNDS {
        round(&mut run, resp, settings);
    }
    run.found.assert_none();
    let thin = run.coverage.below(ENOUGH);
    assert!(
        thin.is_empty(),
        "seed {seed}: tested too little:\n{}",
        random::thin_text(&thin)
    );
    println!("{} commands, {} options", run.step, run.coverage.len());
}

fn round(run: &mut Run<'_>, resp: &str, settings: &[&str]) {
    run.begin(resp, "noeviction");
    run.generator.payloads.clear();
    // As they are by default, then as the round wants them.
    for (name, values) in SETTINGS {
        let default = values.last().copied().unwrap_or_default();
        let default = if *name == "list-max-listpack-size" {
            "-2"
        } else {
            default
        };
        let default = if *name == "list-compress-depth" {
            "0"
        } else {
            default
        };
        run.main.settle(&["CONFIG", "SET", name, default]);
    }
    run.main
        .settle(&["CONFIG", "SET", "notify-keyspace-events", "KEg$lshztxemn"]);
    for pair in settings.chunks_exact(2) {
        run.main.settle(&["CONFIG", "SET", pair[0], pair[1]]);
    }
    let mut probe = Pair::new(run.nodes);
    let from = run.step;
    let mut batches = 0;
    while run.step - from < COMMANDS / ROUNDS.len() {
        if run.found.count >= DIFFERENCES_MAX {
            return;
        }
        if batches % 8 == 0 {
            run.steer();
        }
        let before = run.found.count;
        if batches % 40 == 39 {
            let list = match run.judge.is_72() && run.generator.one_in(4) {
                true => SETTINGS_72,
                false => SETTINGS,
            };
            let (name, values) = list[run.generator.rng.index(list.len())];
            let value = values[run.generator.rng.index(values.len())];
            probe.settle(&["CONFIG", "SET", name, value]);
        }
        dump_some(run, &mut probe);
        run.batch();
        rival_writes(run);
        compare_state(run, &mut probe);
        if batches % 6 == 0 {
            wait_in_a_row(run);
        }
        run.compare_events();
        if run.found.count > before {
            run.resync(resp);
        }
        batches += 1;
    }
}

fn note(run: &mut Run<'_>, pair: &mut Pair, requests: &[Request]) -> Vec<Value> {
    pair.send(requests, &Default::default());
    let one = |request| {
        run.step += 1;
        let context = format!("{}, after: {}", run.context(), run.last);
        pair.judge(request, &run.judge, &context, &mut run.found)
    };
    requests.iter().map(one).collect()
}

/// What some keys look like in the words of each server, for RESTORE in both.
fn dump_some(run: &mut Run<'_>, probe: &mut Pair) {
    let keys: Vec<&'static str> = typed::keys().collect();
    let generator = &mut run.generator;
    for _ in 0..3 {
        let key = keys[generator.rng.index(keys.len())];
        let dumped = probe.conns.each_mut().map(|conn| conn.call(&["DUMP", key]));
        let dumped = dumped
            .iter()
            .filter_map(|reply| Some((key, reply.as_bytes()?.to_vec())));
        generator.payloads.extend(dumped);
    }
    let surplus = generator.payloads.len().saturating_sub(PAYLOADS);
    generator.payloads.drain(..surplus);
}

/// Writes of another client, so that watched keys change.
fn rival_writes(run: &mut Run<'_>) {
    if !run.generator.one_in(3) {
        return;
    }
    let request = loop {
        let request = run.generator.next();
        let plain = run
            .row(request.name)
            .is_some_and(|row| row.flags.has(Flags::WRITE) && !row.flags.has(Flags::BLOCKING));
        if plain && typed::then(&request).is_empty() {
            break request;
        }
    };
    let mut rival = std::mem::replace(&mut run.rival, Pair::new(run.nodes));
    note(run, &mut rival, &[request]);
    run.rival = rival;
}

/// Encodings of all keys; what a key holds that is not meant to goes. Then what they hold, by its digest.
fn compare_state(run: &mut Run<'_>, probe: &mut Pair) {
    let before = run.found.count;
    let requests: Vec<Request> = typed::keys()
        .map(|key| Request::of("object|encoding", &["OBJECT", "ENCODING", key]))
        .collect();
    let replies = note(run, probe, &requests);
    for (key, reply) in typed::keys().zip(&replies) {
        let Some(encoding) = reply.as_bytes() else {
            continue;
        };
        let by_type = Request::of("type", &["TYPE", key]);
        // Several types may be a listpack.
        let is_home = match encoding {
            b"listpack" => {
                matches!(&note(run, probe, &[by_type])[0], Value::Status(t) if typed::is_type(key, t))
            }
            encoding => typed::at_home(key, encoding),
        };
        if !is_home {
            probe.settle(&["DEL", key]);
        }
    }
    // Somebody may have made it.
    probe.settle(&["DEL", "nosuch"]);
    // The digest of a small sorted set in 7.0 is that of its scores' texts.
    let is_scored = |key: &&str| key.starts_with(['z', 'y', 'g']);
    let requests = if run.judge.is_72() {
        vec![Request::of("digest", &["DEBUG", "DIGEST"])]
    } else {
        let plain = typed::keys().filter(|key| !is_scored(key));
        let all: Vec<&str> = ["DEBUG", "DIGEST-VALUE"].into_iter().chain(plain).collect();
        let scored = typed::keys().filter(is_scored);
        let scored =
            scored.map(|key| Request::of("zrange", &["ZRANGE", key, "0", "-1", "WITHSCORES"]));
        scored.chain([Request::of("digest-value", &all)]).collect()
    };
    note(run, probe, &requests);
    if run.found.count > before && run.judge.is_72() {
        for key in typed::keys() {
            let request = Request::of("digest-value", &["DEBUG", "DIGEST-VALUE", key]);
            note(run, probe, &[request]);
        }
    }
}

/// Commands that wait on `w1` and `w2`.
fn waiting_command(rng: &mut Rng, simple: bool) -> Request {
    const FOREVER: &str = "0";
    let forms: &[(&'static str, &[&str])] = &[
        ("blpop", &["BLPOP", "w1", "w2", FOREVER]),
        ("brpop", &["BRPOP", "w2", "w1", FOREVER]),
        (
            "blmpop",
            &["BLMPOP", FOREVER, "2", "w2", "w1", "LEFT", "COUNT", "2"],
        ),
        ("blmpop", &["BLMPOP", FOREVER, "1", "w1", "RIGHT"]),
        ("blmove", &["BLMOVE", "w1", "w2", "LEFT", "RIGHT", FOREVER]),
        ("brpoplpush", &["BRPOPLPUSH", "w2", "w3", FOREVER]),
        ("bzpopmin", &["BZPOPMIN", "w1", "w2", FOREVER]),
        ("bzpopmax", &["BZPOPMAX", "w2", FOREVER]),
        (
            "bzmpop",
            &["BZMPOP", FOREVER, "2", "w1", "w2", "MIN", "COUNT", "3"],
        ),
        (
            "xread",
            &["XREAD", "BLOCK", FOREVER, "STREAMS", "w1", "w2", "$", "0"],
        ),
        (
            "xread",
            &[
                "XREAD", "COUNT", "1", "BLOCK", FOREVER, "STREAMS", "w2", "5",
            ],
        ),
    ];
    let forms = if simple { &forms[..4] } else { forms };
    let (name, args) = forms[rng.index(forms.len())];
    Request::of(name, args)
}

/// What another client does to those who wait.
fn waking_command(rng: &mut Rng, simple: bool) -> Request {
    let forms: &[(&'static str, &[&str])] = &[
        ("rpush", &["RPUSH", "w1", "a"]),
        ("rpush", &["RPUSH", "w2", "a", "b", "c"]),
        ("lpush", &["LPUSH", "w1", "a", "b"]),
        ("rpush", &["RPUSH", "l9", "x", "y"]),
        ("rename", &["RENAME", "l9", "w1"]),
        ("copy", &["COPY", "l9", "w2", "REPLACE"]),
        ("lmove", &["LMOVE", "l9", "w1", "LEFT", "LEFT"]),
        ("sort", &["SORT", "l9", "ALPHA", "STORE", "w2"]),
        ("del", &["DEL", "w1"]),
        ("del", &["DEL", "w1", "w2"]),
        ("multi", &["MULTI"]),
        ("exec", &["EXEC"]),
        ("expire", &["PEXPIRE", "w1", "-1"]),
        ("lpop", &["LPOP", "w1"]),
        ("zadd", &["ZADD", "w1", "1", "a"]),
        ("zadd", &["ZADD", "w2", "1", "a", "2", "b", "3", "c"]),
        ("zunionstore", &["ZUNIONSTORE", "w1", "2", "w2", "z1"]),
        ("xadd", &["XADD", "w1", "7-1", "f", "v"]),
        ("xadd", &["XADD", "w2", "8-*", "f", "v"]),
        ("sadd", &["SADD", "w1", "not", "a", "list"]),
        ("set", &["SET", "w2", "text"]),
    ];
    let forms = if simple { &forms[..3] } else { forms };
    let (name, args) = forms[rng.index(forms.len())];
    Request::of(name, args)
}

/// Several clients wait; what another one then does serves some, in order; the rest is told to give up.
fn wait_in_a_row(run: &mut Run<'_>) {
    let count = 1 + run.generator.rng.index(4);
    // 7.0 serves a key to who waits for it, 7.2 runs the whole command again: the same only in the simplest of cases.
    let simple = !run.judge.is_72();
    let mut waiting: Vec<(Request, Pair, [Names; 2])> = Vec::new();
    let mut waker = Pair::new(run.nodes);
    waker.settle(&["DEL", "w1", "w2", "w3", "l9"]);
    for _ in 0..count {
        let mut pair = Pair::new(run.nodes);
        let names = pair.names();
        let request = waiting_command(&mut run.generator.rng, simple);
        pair.send(std::slice::from_ref(&request), &Default::default());
        waiting.push((request, pair, names));
        waker.until_blocked(waiting.len());
    }
    let most = if simple { 1 } else { 5 };
    let wakers: Vec<Request> = (0..1 + run.generator.rng.below(most))
        .map(|_| waking_command(&mut run.generator.rng, simple))
        .chain([Request::of("exec", &["EXEC"])])
        .collect();
    let texts = |all: &[Request]| {
        all.iter()
            .map(Request::text)
            .collect::<Vec<_>>()
            .join(" | ")
    };
    let asked: Vec<Request> = waiting.iter().map(|(r, ..)| r.clone()).collect();
    run.last = format!("{} WAIT; THEN {}", texts(&asked), texts(&wakers));
    note(run, &mut waker, &wakers);
    for (_, _, names) in &waiting {
        for (conn, name) in waker.conns.iter_mut().zip(names) {
            conn.call(&["CLIENT", "UNBLOCK", &name.id]);
        }
    }
    for (request, pair, _) in &mut waiting {
        let context = format!("{}, {}", run.context(), run.last);
        run.step += 1;
        pair.judge(request, &run.judge, &context, &mut run.found);
    }
    waker.settle(&["DEL", "w1", "w2", "w3", "l9"]);
    waiting.into_iter().for_each(|(_, pair, _)| pair.quit());
    waker.quit();
}
