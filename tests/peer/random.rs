//! Random commands to both servers, in step: one connection sends batches, a second one writes between them
//! (for WATCH), a third subscribes, a fourth sees the keyspace's events, and a fifth is there to be killed.
//!
//! `REDSTART_SEED` repeats a run. Expired keys go when they are met and never on their own (the active cycle
//! is off), and no deadline comes due while the run lasts, so that both servers hold the same at any step.

use std::time::{SystemTime, UNIX_EPOCH};

use redstart::cmd::spec::{Group, Spec};
use redstart::exec::table::Table;
use redstart::resp::value::Value;

use crate::compare::{Judge, show, sorted};
use crate::coverage::{Coverage, ENOUGH, Target};
use crate::generate::{Generator, Request};
use crate::node::{Node, Version, both};
use crate::pair::{Findings, Names, Pair};
use crate::scenes;
use crate::typed;
use crate::words;

/// Commands sent before their replies are read.
const PIPELINE: usize = 64;
/// Commands of a run.
const COMMANDS: usize = 200_000;
/// Protocol and eviction policy of each round: OBJECT FREQ wants an LFU one, OBJECT IDLETIME another.
const ROUNDS: &[(&str, &str)] = &[
    ("2", "noeviction"),
    ("3", "noeviction"),
    ("2", "allkeys-lfu"),
    ("3", "volatile-lfu"),
];
/// A run that finds so much is broken; no need to go on.
pub const DIFFERENCES_MAX: usize = 100;

/// Commands that are not compared here: they would make the server or the connection another's replica, or what they reply
/// depends on the version and the moment (`rdb.rs` compares files); or messages would come that a turn of the loop makes one
/// of (`tracking.rs` has them).
const LEFT_OUT: &[&str] = &[
    "wait",
    "waitaof",
    "save",
    "bgsave",
    "lastsave",
    "migrate",
    "bgrewriteaof",
    "replicaof",
    "slaveof",
    "failover",
    "replconf",
    "psync",
    "sync",
    "client|tracking",
    "client|caching",
];

/// `users.rs` has these: here they would lock the connections out.
fn is_users(name: &str) -> bool {
    name.split('|').next() == Some("acl")
}

/// `cluster.rs` has these: here they only say that there is no cluster.
fn is_clusters(name: &str) -> bool {
    let first = name.split('|').next().unwrap_or(name);
    matches!(first, "cluster" | "asking" | "readonly" | "readwrite")
}

/// The rows under test, as far as the peer has them. Ours is asked as well, so that both count the same.
pub fn rows(nodes: &[Node; 2]) -> Vec<Spec> {
    let table = Table::new(redstart::admin::rows());
    let mut pair = Pair::new(nodes);
    let mut known = |s: &Spec| {
        let [_, theirs] = pair
            .conns
            .each_mut()
            .map(|conn| conn.call(&["COMMAND", "INFO", s.name]));
        matches!(theirs, Value::Array(v) if matches!(v[..], [Value::Array(_)]))
    };
    let rows = table
        .iter()
        .map(|(_, c)| c.spec)
        // (What scripts do is drawn in `scripts.rs`.)
        .filter(|s| s.group != Group::Scripting)
        .filter(|s| {
            !LEFT_OUT.contains(&s.name) && !is_users(s.name) && !is_clusters(s.name) && known(s)
        })
        .collect();
    pair.quit();
    rows
}

/// Rows that only have subcommands: what they say is an error.
fn is_container(name: &str) -> bool {
    let table = Table::new(redstart::admin::rows());
    let id = table.find(name.as_bytes());
    id.is_some_and(|id| !table.get(id).subs.is_empty()) && name != "command"
}

/// Rows that can work at all while a run lasts.
fn to_cover(name: &str) -> bool {
    !is_container(name) && name != "shutdown" && !words::ALWAYS_FAIL.contains(&name)
}

/// The seed of this run.
pub fn seed() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64;
    let seed = std::env::var("REDSTART_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(now);
    println!("REDSTART_SEED={seed}");
    seed
}

/// Everything a run has in hand.
pub struct Run<'a> {
    pub nodes: &'a [Node; 2],
    pub judge: Judge,
    pub generator: Generator,
    pub coverage: Coverage,
    pub found: Findings,
    pub seed: u64,
    pub step: usize,
    rows: Vec<Spec>,
    thin: Vec<Target>,
    pub main: Pair,
    pub rival: Pair,
    subscriber: Pair,
    events: Pair,
    victim: Pair,
    victim_names: [Names; 2],
    /// The last batch, readable.
    pub last: String,
}

#[test]
fn random_commands_get_the_same_replies() {
    let seed = seed();
    let nodes = both(&["--slowlog-log-slower-than", "0"]);
    let [_, peer] = nodes.each_ref().map(Node::version);
    // Those of the data types have a run of their own (`types.rs`).
    let rows = rows(&nodes)
        .into_iter()
        .filter(|row| !typed::is_own(row))
        .collect();
    align_ids(&nodes);
    let mut run = Run::new(&nodes, peer, rows, seed);
    for (resp, policy) in ROUNDS {
        run.round(resp, policy);
    }
    run.found.assert_none();
    let thin = run.coverage.below(ENOUGH);
    assert!(
        thin.is_empty(),
        "seed {seed}: tested too little:\n{}",
        thin_text(&thin)
    );
    println!(
        "{} commands, {} options of {} rows",
        run.step,
        run.coverage.len(),
        run.rows.len()
    );
}

/// What was tested too little, one a line.
pub fn thin_text(thin: &[(Target, u64)]) -> String {
    thin.iter()
        .map(|((n, o), c)| format!("  {n} {}: {c}\n", o.as_deref().unwrap_or("")))
        .collect()
}

/// Opens connections until both servers number their clients alike.
fn align_ids(nodes: &[Node; 2]) {
    loop {
        let mut probe = Pair::new(nodes);
        let [ours, theirs] = probe.names().map(|n| n.id.parse::<i64>().unwrap());
        probe.quit();
        let behind = match ours - theirs {
            0 => return,
            d if d < 0 => &nodes[0],
            _ => &nodes[1],
        };
        for _ in 0..(ours - theirs).abs() {
            // Without a command, which the slow log would count.
            drop(behind.connect());
        }
    }
}

impl<'a> Run<'a> {
    fn new(nodes: &'a [Node; 2], peer: Version, rows: Vec<Spec>, seed: u64) -> Run<'a> {
        let now_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let covered: Vec<Spec> = rows.iter().filter(|r| to_cover(r.name)).copied().collect();
        let streamed = |r: &&Spec| {
            !words::SCENES_ONLY.contains(&r.name) && !words::SUBSCRIBING.contains(&r.name)
        };
        let drawn = rows.iter().filter(streamed).copied().collect();
        let mut generator = Generator::new(seed, drawn, now_s);
        generator.for_70 = peer < Version::V72;
        let mut victim = Pair::new(nodes);
        let victim_names = victim.names();
        Run {
            nodes,
            judge: Judge { peer },
            generator,
            coverage: Coverage::of(&covered),
            found: Findings::new(),
            seed,
            step: 0,
            rows,
            thin: Vec::new(),
            main: Pair::new(nodes),
            rival: Pair::new(nodes),
            subscriber: Pair::new(nodes),
            events: Pair::new(nodes),
            victim,
            victim_names,
            last: String::new(),
        }
    }

    /// A run over the data types.
    pub fn typed(nodes: &'a [Node; 2], peer: Version, rows: Vec<Spec>, seed: u64) -> Run<'a> {
        let mut run = Run::new(nodes, peer, rows, seed);
        let drawn = run.rows.clone();
        run.generator = Generator::typed(seed, drawn, run.generator.now_s);
        if peer < Version::V72 {
            run.generator.for_70 = true;
            run.coverage.forget("zrank", "/withscore");
            run.coverage.forget("zrevrank", "/withscore");
        }
        run
    }

    /// Where the run is, for what it finds.
    pub fn context(&self) -> String {
        format!("seed {}, command {}", self.seed, self.step)
    }

    /// The row of that name, if it is under test.
    pub fn row(&self, name: &str) -> Option<Spec> {
        self.rows.iter().find(|r| r.name == name).copied()
    }

    fn round(&mut self, resp: &str, policy: &str) {
        self.begin(resp, policy);
        for batch in 0..COMMANDS / ROUNDS.len() / PIPELINE {
            if self.found.count >= DIFFERENCES_MAX {
                return;
            }
            if batch % 8 == 0 {
                self.steer();
            }
            if batch % 100 == 0 {
                self.slow_command();
            }
            if batch % 16 == 0 {
                scenes::play(self);
            }
            let before = self.found.count;
            self.batch();
            self.rival_writes();
            self.subscribe();
            self.compare_events();
            if self.found.count > before {
                self.resync(resp);
            }
        }
    }

    /// Looks up what has been tested too little, to draw more of it.
    pub fn steer(&mut self) {
        let thin = self.coverage.below(ENOUGH * 3 / 2);
        self.thin = thin.into_iter().map(|(target, _)| target).collect();
    }

    /// Empties the servers and sets out in this protocol under this eviction policy.
    pub fn begin(&mut self, resp: &str, policy: &str) {
        self.main.settle(&["RESET"]);
        self.main.queued = None;
        for args in [
            &["FLUSHALL"][..],
            &[
                "CONFIG",
                "SET",
                "maxmemory-policy",
                policy,
                "notify-keyspace-events",
                words::EVENTS,
            ],
            &["DEBUG", "SET-ACTIVE-EXPIRE", "0"],
            &["CONFIG", "RESETSTAT"],
            &["SLOWLOG", "RESET"],
            &["HELLO", resp],
        ] {
            self.main.settle(args);
        }
        self.events.settle(&["RESET"]);
        self.events.settle(&["HELLO", resp]);
        self.events.settle(&["PSUBSCRIBE", "__key*@*__:*"]);
        self.subscriber.settle(&["RESET"]);
        self.subscriber.settle(&["HELLO", resp]);
    }

    /// After a difference nothing that follows can be trusted: begin anew.
    pub fn resync(&mut self, resp: &str) {
        self.main.settle(&["RESET"]);
        self.main.queued = None;
        self.main.settle(&["HELLO", resp]);
        self.main.settle(&["FLUSHALL"]);
        self.main.settle(&["CONFIG", "RESETSTAT"]);
        self.main.settle(&["SLOWLOG", "RESET"]);
    }

    /// Gives the latency monitor something to tell.
    fn slow_command(&mut self) {
        let was_open = self.main.queued.is_some();
        if was_open {
            return;
        }
        for args in [
            &["CONFIG", "SET", "latency-monitor-threshold", "15"][..],
            &["DEBUG", "SLEEP", "0.02"],
            &["CONFIG", "SET", "latency-monitor-threshold", "0"],
        ] {
            self.main.settle(args);
        }
    }

    fn draw(&mut self) -> Request {
        if !self.thin.is_empty() && self.generator.one_in(3) {
            let (name, option) = self.thin[self.generator.rng.index(self.thin.len())].clone();
            if let Some(request) = self.generator.with_option(name, option.as_deref()) {
                return request;
            }
        }
        self.generator.next()
    }

    /// Draws, sends and judges a batch.
    pub fn batch(&mut self) {
        let mut requests = Vec::new();
        let mut open = self.main.queued.is_some();
        while requests.len() < PIPELINE {
            let mut request = self.draw();
            if open && self.generator.one_in(10) {
                request = Request::of("exec", &["EXEC"]);
            }
            open |= request.name == "multi";
            open &= request.name != "exec";
            if matches!(request.name, "randomkey" | "scan") {
                // They delete expired keys at random: let all of those go first, in one go.
                requests.push(Request::of("scan", &["SCAN", "0", "COUNT", "1000"]));
            }
            let then = typed::then(&request);
            requests.push(request);
            requests.extend(then);
        }
        if requests.iter().any(|r| r.name.starts_with("client|")) {
            self.revive_victim();
        }
        self.main.send(&requests, &self.victim_names);
        self.last = requests
            .iter()
            .map(Request::text)
            .collect::<Vec<_>>()
            .join(" | ");
        for request in &requests {
            self.step += 1;
            let context = self.context();
            let queued = self.main.queued.clone();
            let reply = self
                .main
                .judge(request, &self.judge, &context, &mut self.found);
            match (&reply, queued) {
                (Value::Array(replies), Some(queued)) if request.name == "exec" => {
                    queued
                        .iter()
                        .zip(replies)
                        .for_each(|(q, r)| self.coverage.note(q, r));
                    self.coverage.credit(request);
                }
                _ => self.coverage.note(request, &reply),
            }
        }
    }

    /// The connection to be killed, alive again if it was.
    fn revive_victim(&mut self) {
        let alive = self.victim.alive();
        if alive.is_none() {
            self.found.add(
                "client|kill",
                format!("{}: only one server closed the victim", self.context()),
            );
        }
        if alive != Some(true) {
            self.victim = Pair::new(self.nodes);
            self.victim_names = self.victim.names();
            if self.generator.one_in(3) {
                self.victim.settle(&["SUBSCRIBE", "to be killed"]);
            }
        }
    }

    /// Writes of another client, so that watched keys change.
    fn rival_writes(&mut self) {
        if !self.generator.one_in(4) {
            return;
        }
        let key = String::from_utf8(self.generator.pick(words::KEYS)).unwrap();
        let request = match self.generator.rng.below(5) {
            0 => Request::of("del", &["DEL", &key]),
            1 => Request::of("incr", &["INCR", &key]),
            2 => Request::of("expire", &["EXPIRE", &key, "1000000"]),
            3 => Request::of("touch", &["TOUCH", &key]),
            _ => Request::of("set", &["SET", &key, "other"]),
        };
        self.rival
            .send(std::slice::from_ref(&request), &self.victim_names);
        let context = self.context();
        self.rival
            .judge(&request, &self.judge, &context, &mut self.found);
    }

    /// A few steps of the subscriber, and what it has received since.
    fn subscribe(&mut self) {
        let replies = self.subscriber.drain("before");
        self.compare_pushes("publish", "messages", replies);
        if !self.generator.one_in(3) {
            return;
        }
        for requests in [self.subscribing(), self.subscribing()] {
            self.subscriber.send(&requests, &self.victim_names);
            let replies = self.subscriber.drain("after");
            let good = !replies[1].is_empty() && !replies[1].iter().any(Value::is_error);
            let text = requests
                .iter()
                .map(Request::text)
                .collect::<Vec<_>>()
                .join(" | ");
            let same = self.compare_pushes(requests[0].name, &text, replies);
            if good && same && requests.len() == 1 && !requests[0].broken {
                self.coverage.credit(&requests[0]);
            }
        }
    }

    fn subscribing(&mut self) -> Vec<Request> {
        let other = |r: Request| vec![r];
        match self.generator.rng.below(12) {
            0 => other(Request::of("reset", &["RESET"])),
            1 => other(Request::of("hello", &["HELLO", "2"])),
            2 => other(Request::of("hello", &["HELLO", "3"])),
            // 7.0 let the messages that a command causes overtake its reply.
            3 if self.judge.peer >= Version::V72 => other(Request::of("get", &["GET", "a"])),
            // 7.0 sent the message before EXEC was through.
            4 if self.judge.peer >= Version::V72 => vec![
                Request::of("subscribe", &["MULTI"]),
                Request::of("subscribe", &["SUBSCRIBE", "news"]),
                Request::of("subscribe", &["PUBLISH", "news", "to myself"]),
                Request::of("subscribe", &["EXEC"]),
            ],
            _ => {
                let thin: Vec<Target> = self
                    .thin
                    .iter()
                    .filter(|(n, _)| words::SUBSCRIBING.contains(n))
                    .cloned()
                    .collect();
                let name = words::SUBSCRIBING[self.generator.rng.index(words::SUBSCRIBING.len())];
                let (name, option) = match thin.len() {
                    0 => (name, None),
                    n => thin[self.generator.rng.index(n)].clone(),
                };
                let Some(row) = self.row(name) else {
                    return other(Request::of("ping", &["PING"]));
                };
                other(self.generator.draw_row(&row, option.as_deref()))
            }
        }
    }

    /// Compares the keyspace events since the last time.
    pub fn compare_events(&mut self) {
        let replies = self.events.drain("events");
        self.compare_pushes("events", "keyspace events", replies);
    }

    fn compare_pushes(&mut self, name: &str, what: &str, both: [Vec<Value>; 2]) -> bool {
        let [a, b] = both.map(|all| {
            let told = all.iter().filter(|v| self.judge.is_told(v));
            in_one_order(told.map(|v| self.judge.message(v)).collect())
        });
        if a == b {
            return true;
        }
        let at = a
            .iter()
            .zip(&b)
            .position(|(a, b)| a != b)
            .unwrap_or(a.len().min(b.len()));
        let from = at.saturating_sub(3);
        let part = |all: &[Value]| {
            let few = all[from.min(all.len())..all.len().min(at + 4)].to_vec();
            format!("({}) {}", all.len(), show(&Value::Array(few)))
        };
        let (ours, theirs) = (part(&a), part(&b));
        let text = format!(
            "{}\n  {what}\n  ours:    {ours}\n  theirs:  {theirs}\n  after: {}",
            self.context(),
            self.last
        );
        self.found.add(name, text);
        false
    }
}

/// Pushes in an order that both servers share: one message that fits several patterns comes once for each,
/// and UNSUBSCRIBE of everything goes through them, in no order; so do keys that expire in one go.
fn in_one_order(all: Vec<Value>) -> Vec<Value> {
    let word = |v: &Value, i: usize| match v {
        Value::Array(items) | Value::Push(items) => {
            items.get(i).and_then(|w| w.as_bytes()).map(<[u8]>::to_vec)
        }
        _ => None,
    };
    // What may change places with its neighbours.
    let group = |v: &Value| match word(v, 0).as_deref() {
        Some(b"pmessage") => {
            let (channel, text) = (
                word(v, 2).unwrap_or_default(),
                word(v, 3).unwrap_or_default(),
            );
            let told = |event: &[u8]| channel.ends_with(event) || text == event[1..];
            if told(b":expired") {
                Some(b"expired".to_vec())
            } else if told(b":keymiss") {
                Some(b"keymiss".to_vec())
            } else if channel.starts_with(b"__key") {
                None
            } else {
                Some([channel, text].concat())
            }
        }
        Some(kind) if kind.ends_with(b"unsubscribe") => Some(kind.to_vec()),
        _ => None,
    };
    let mut out: Vec<Value> = Vec::new();
    for run in all.chunk_by(|a, b| group(a).is_some() && group(a) == group(b)) {
        match run.len() {
            1 => out.extend_from_slice(run),
            _ if word(&run[0], 0).is_some_and(|w| w.ends_with(b"unsubscribe")) => {
                // Each tells how many are left: sorted apart from the names.
                let part = |i: usize| {
                    let parts = run.iter().map(|v| match v {
                        Value::Array(v) | Value::Push(v) => v[i].clone(),
                        v => v.clone(),
                    });
                    sorted(&Value::Array(parts.collect()))
                };
                out.extend([part(1), part(2)]);
            }
            // SORT looks up what a set's members name, in the order of the set; and which ones, with a LIMIT.
            _ if group(&run[0]).as_deref() == Some(b"keymiss") => {
                out.push(Value::Int(run.len() as i64));
            }
            _ => out.push(sorted(&Value::Array(run.to_vec()))),
        }
    }
    out
}

#[test]
fn two_scans_of_everything_agree() {
    let nodes = both(&[]);
    let found = nodes.each_ref().map(|node| {
        let mut conn = node.connect();
        for i in 0..1000 {
            conn.call(&["SET".to_string(), format!("key:{i}"), "v".into()]);
        }
        let (mut cursor, mut keys) = (b"0".to_vec(), Vec::new());
        loop {
            let page = conn.call(&[
                &b"SCAN"[..],
                &cursor,
                b"MATCH",
                b"key:*[13579]",
                b"COUNT",
                b"7",
                b"TYPE",
                b"string",
            ]);
            let Value::Array(page) = page else {
                panic!("SCAN replies {page:?}")
            };
            let Value::Array(found) = &page[1] else {
                panic!("a page is {:?}", page[1])
            };
            keys.extend(found.iter().map(|v| v.as_bytes().unwrap().to_vec()));
            cursor = page[0].as_bytes().unwrap().to_vec();
            if cursor == b"0" {
                break;
            }
        }
        keys.sort();
        keys
    });
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0].len(), 500);
}
