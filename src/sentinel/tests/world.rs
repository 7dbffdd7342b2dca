//! A few Sentinels, a master and its replicas on a time of their own: machines for the Sentinels, and for the servers as
//! much of a server as Sentinels see. The network delays at random, parts whom it is told to part, and loses nothing but
//! with a connection; a Sentinel that restarts knows what it had persisted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::rng::Rng;
use crate::resp::command;
use crate::resp::value::{Decoder, Value};
use crate::sentinel::config::Host;
use crate::sentinel::{Action, ConnId, Facts, Sentinel};

pub const STEP_MS: i64 = 10;
const DELAY_MAX_MS: u64 = 20;
const SENTINEL_PORT: u16 = 26000;
const NODE_PORT: u16 = 7000;

struct NoHost;

impl Host for NoHost {
    fn resolve(&mut self, _: &str) -> Option<String> {
        None
    }
    fn is_executable(&mut self, _: &[u8]) -> bool {
        true
    }
}

/// A Redis server.
pub struct Node {
    pub up: bool,
    /// The port of the one that it follows.
    pub follows: Option<u16>,
    pub offset: u64,
    pub priority: u32,
    lives: u64,
}

/// A Sentinel's process.
pub struct Watcher {
    pub machine: Option<Sentinel>,
    /// Its configuration file.
    file: Vec<Vec<Vec<u8>>>,
    conns: BTreeMap<ConnId, Wire>,
    pub events: Vec<(i64, String)>,
}

/// A connection: what is on its way there and back, each with the time when it arrives.
struct Wire {
    port: u16,
    up: bool,
    there: VecDeque<(i64, Vec<u8>)>,
    back: VecDeque<(i64, Vec<u8>)>,
    subscribed: bool,
}

pub struct World {
    pub now_ms: i64,
    pub nodes: Vec<Node>,
    pub watchers: Vec<Watcher>,
    /// Pairs of ports that do not reach each other.
    pub parted: BTreeSet<(u16, u16)>,
    pub rng: Rng,
    /// Votes by Sentinel and epoch, and leaders by epoch: each is there once.
    votes: BTreeMap<(usize, String), String>,
    leaders: BTreeMap<u64, usize>,
}

pub fn node_port(n: usize) -> u16 {
    NODE_PORT + n as u16
}

pub fn sentinel_port(n: usize) -> u16 {
    SENTINEL_PORT + n as u16
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

impl World {
    /// So many Sentinels with this quorum, a master and so many replicas.
    pub fn new(seed: u64, sentinels: usize, replicas: usize, quorum: usize) -> World {
        let file = vec![
            words("down-after-milliseconds m 2000"),
            words("failover-timeout m 10000"),
            words(&format!("monitor m 127.0.0.1 {NODE_PORT} {quorum}")),
        ];
        let watcher = |_| Watcher {
            machine: None,
            file: file.clone(),
            conns: BTreeMap::new(),
            events: Vec::new(),
        };
        let node = |n: usize| Node {
            up: true,
            follows: (n > 0).then_some(NODE_PORT),
            offset: 100,
            priority: 100,
            lives: 1,
        };
        let mut world = World {
            now_ms: 1_700_000_000_000,
            nodes: (0..=replicas).map(node).collect(),
            watchers: (0..sentinels).map(watcher).collect(),
            parted: BTreeSet::new(),
            rng: Rng::new(seed),
            votes: BTreeMap::new(),
            leaders: BTreeMap::new(),
        };
        for n in 0..sentinels {
            world.start(n);
        }
        world
    }

    /// Starts a Sentinel on what it has in its file.
    pub fn start(&mut self, n: usize) {
        let rng = self.rng.fork();
        let mut machine = Sentinel::new(self.now_ms, rng);
        machine.load(&self.watchers[n].file, &mut NoHost).unwrap();
        machine.set_facts(Facts {
            port: sentinel_port(n),
            password: Vec::new(),
        });
        machine.start(self.now_ms);
        self.watchers[n].machine = Some(machine);
        self.act(n);
    }

    /// kill -9 of a Sentinel.
    pub fn stop(&mut self, n: usize) {
        self.watchers[n].machine = None;
        self.watchers[n].conns.clear();
        self.hang_up(sentinel_port(n));
    }

    pub fn stop_node(&mut self, n: usize) {
        self.nodes[n].up = false;
        self.hang_up(node_port(n));
    }

    /// It comes back as what it was.
    pub fn start_node(&mut self, n: usize) {
        self.nodes[n].up = true;
        self.nodes[n].lives += 1;
    }

    /// All connections to a port end.
    fn hang_up(&mut self, port: u16) {
        for n in 0..self.watchers.len() {
            let wires = &mut self.watchers[n].conns;
            let ended: Vec<ConnId> = wires
                .iter()
                .filter(|(_, w)| w.port == port)
                .map(|(c, _)| *c)
                .collect();
            for conn in ended {
                self.watchers[n].conns.remove(&conn);
                if let Some(machine) = &mut self.watchers[n].machine {
                    machine.closed(self.now_ms, conn);
                }
                self.act(n);
            }
        }
    }

    /// Neither hears the other any more, or again.
    pub fn part(&mut self, a: u16, b: u16, parted: bool) {
        let pair = (a.min(b), a.max(b));
        match parted {
            true => self.parted.insert(pair),
            false => self.parted.remove(&pair),
        };
    }

    fn reaches(&self, n: usize, port: u16) -> bool {
        let own = sentinel_port(n);
        !self.parted.contains(&(own.min(port), own.max(port)))
    }

    fn arrival(&mut self, after: Option<i64>) -> i64 {
        let at = self.now_ms + 1 + self.rng.below(DELAY_MAX_MS) as i64;
        at.max(after.unwrap_or(0))
    }

    /// Does what a Sentinel wants done.
    fn act(&mut self, n: usize) {
        let Some(machine) = &mut self.watchers[n].machine else {
            return;
        };
        for action in machine.take_actions() {
            match action {
                Action::Connect { conn, port, .. } => {
                    let wire = Wire {
                        port,
                        up: false,
                        there: VecDeque::new(),
                        back: VecDeque::new(),
                        subscribed: false,
                    };
                    self.watchers[n].conns.insert(conn, wire);
                }
                Action::Close(conn) => {
                    self.watchers[n].conns.remove(&conn);
                }
                Action::Send(conn, bytes) => {
                    let last = self.watchers[n].conns.get(&conn);
                    let last = last.and_then(|w| w.there.back()).map(|(at, _)| *at);
                    let at = self.arrival(last);
                    if let Some(wire) = self.watchers[n].conns.get_mut(&conn) {
                        wire.there.push_back((at, bytes));
                    }
                }
                Action::Persist => self.persist(n),
                Action::Event { channel, text, .. } => self.note(n, channel, text),
                Action::Log(..) | Action::LookUp(_) | Action::Run { .. } | Action::Kill(_) => {}
                Action::Crash => return self.stop(n),
            }
        }
    }

    fn persist(&mut self, n: usize) {
        let watcher = &mut self.watchers[n];
        let machine = watcher.machine.as_ref().expect("it runs");
        let lines = machine.file_lines().lines;
        let text = |line: &crate::config::rewrite::MoreLine| {
            let text = String::from_utf8(line.text.clone()).unwrap();
            words(text.strip_prefix("sentinel ").unwrap())
        };
        watcher.file = lines.iter().map(text).collect();
    }

    /// Votes and elections are held against all that were before.
    fn note(&mut self, n: usize, channel: &str, text: String) {
        if channel == "+vote-for-leader" {
            let (who, epoch) = text.split_once(' ').unwrap();
            let before = self.votes.insert((n, epoch.into()), who.into());
            assert!(
                before.as_deref().is_none_or(|before| before == who),
                "Sentinel {n} has voted twice in epoch {epoch}"
            );
        }
        if channel == "+elected-leader" {
            let machine = self.watchers[n].machine.as_ref().unwrap();
            let master = machine.master_named("m").unwrap();
            if !master.watched.is_forced {
                let before = self.leaders.insert(master.watched.failover_epoch, n);
                assert!(before.is_none_or(|b| b == n), "two leaders in one epoch");
            }
        }
        let at_ms = self.now_ms;
        self.watchers[n]
            .events
            .push((at_ms, format!("{channel} {text}")));
    }

    /// Goes on for so long.
    pub fn run(&mut self, ms: i64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            self.now_ms += STEP_MS;
            self.replicate();
            for n in 0..self.watchers.len() {
                self.step(n);
            }
        }
    }

    /// Goes on until this holds; false if it did not within so long.
    pub fn run_until(&mut self, ms: i64, holds: impl Fn(&World) -> bool) -> bool {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms && !holds(self) {
            self.run(STEP_MS);
        }
        holds(self)
    }

    fn replicate(&mut self) {
        for n in 0..self.nodes.len() {
            if self.nodes[n].up && self.nodes[n].follows.is_none() {
                self.nodes[n].offset += 1;
            } else if self.link_up(n) {
                let master = self.nodes[n]
                    .follows
                    .map_or(0, |p| (p - NODE_PORT) as usize);
                self.nodes[n].offset = self.nodes[master].offset;
            }
        }
    }

    fn link_up(&self, n: usize) -> bool {
        let master = self.nodes[n]
            .follows
            .and_then(|p| self.nodes.get((p - NODE_PORT) as usize));
        self.nodes[n].up && master.is_some_and(|m| m.up)
    }

    fn is_there(&self, port: u16) -> bool {
        match port.checked_sub(SENTINEL_PORT) {
            Some(n) => self.watchers[n as usize].machine.is_some(),
            None => self.nodes[(port - NODE_PORT) as usize].up,
        }
    }

    fn step(&mut self, n: usize) {
        let conns: Vec<ConnId> = self.watchers[n].conns.keys().copied().collect();
        for conn in conns {
            self.carry(n, conn);
        }
        let now_ms = self.now_ms;
        if let Some(machine) = &mut self.watchers[n].machine
            && machine.next_timeout() <= now_ms
        {
            machine.tick(now_ms);
        }
        self.act(n);
    }

    /// Delivers what has arrived over a connection.
    fn carry(&mut self, n: usize, conn: ConnId) {
        let now_ms = self.now_ms;
        let Some(port) = self.watchers[n].conns.get(&conn).map(|w| w.port) else {
            return;
        };
        if !self.reaches(n, port) {
            return;
        }
        if !self.is_there(port) {
            self.watchers[n].conns.remove(&conn);
            if let Some(machine) = &mut self.watchers[n].machine {
                machine.closed(now_ms, conn);
            }
            return self.act(n);
        }
        let wire = self.watchers[n].conns.get_mut(&conn).unwrap();
        if !std::mem::replace(&mut wire.up, true)
            && let Some(machine) = &mut self.watchers[n].machine
        {
            machine.connected(now_ms, conn, "127.0.0.1", "127.0.0.1");
        }
        let due = |queue: &VecDeque<(i64, Vec<u8>)>| queue.front().is_some_and(|m| m.0 <= now_ms);
        while let Some(wire) = self.watchers[n]
            .conns
            .get_mut(&conn)
            .filter(|w| due(&w.there))
        {
            let (_, bytes) = wire.there.pop_front().unwrap();
            self.serve(n, conn, port, &bytes);
        }
        while let Some(wire) = self.watchers[n]
            .conns
            .get_mut(&conn)
            .filter(|w| due(&w.back))
        {
            let (_, bytes) = wire.back.pop_front().unwrap();
            if let Some(machine) = &mut self.watchers[n].machine {
                machine.receive(now_ms, conn, &bytes);
            }
            self.act(n);
        }
    }

    fn answer(&mut self, n: usize, conn: ConnId, bytes: Vec<u8>) {
        let last = self.watchers[n].conns.get(&conn);
        let last = last.and_then(|w| w.back.back()).map(|(at, _)| *at);
        let at = self.arrival(last);
        if let Some(wire) = self.watchers[n].conns.get_mut(&conn) {
            wire.back.push_back((at, bytes));
        }
    }

    /// A command arrives at whoever is at a port.
    fn serve(&mut self, n: usize, conn: ConnId, port: u16, bytes: &[u8]) {
        let (_, value) = Decoder::new().decode(bytes).unwrap();
        let Some(Value::Array(parts)) = value else {
            panic!("half a command");
        };
        let text = |v: &Value| String::from_utf8(v.as_bytes().unwrap().to_vec()).unwrap();
        let argv: Vec<String> = parts.iter().map(text).collect();
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let answer = match port.checked_sub(SENTINEL_PORT) {
            Some(other) => self.serve_sentinel(other as usize, &argv),
            None => self.serve_node(n, conn, (port - NODE_PORT) as usize, &argv),
        };
        self.answer(n, conn, answer);
    }

    fn serve_sentinel(&mut self, other: usize, argv: &[&str]) -> Vec<u8> {
        let now_ms = self.now_ms;
        let machine = self.watchers[other].machine.as_mut().unwrap();
        machine.set_now(now_ms);
        let answer = match argv {
            ["PING"] => "+PONG\r\n".to_string(),
            ["PUBLISH", _, hello] => {
                machine.hello(hello);
                ":1\r\n".to_string()
            }
            [
                "SENTINEL",
                "is-master-down-by-addr",
                ip,
                port,
                epoch,
                wanted,
            ] => {
                let id = machine.master_at(ip, port.parse().unwrap());
                let down = id.and_then(|id| machine.get(id)).is_some_and(|m| m.s_down);
                let (leader, at) = match (id, *wanted) {
                    (Some(id), wanted) if wanted != "*" => {
                        machine.vote(id, epoch.parse().unwrap(), wanted)
                    }
                    _ => (None, 0),
                };
                let leader = leader.unwrap_or_else(|| "*".into());
                let down = u8::from(down);
                format!(
                    "*3\r\n:{down}\r\n${}\r\n{leader}\r\n:{at}\r\n",
                    leader.len()
                )
            }
            _ => "+OK\r\n".to_string(),
        };
        // What it has promised is on its disk before the answer leaves.
        self.act(other);
        answer.into_bytes()
    }

    fn serve_node(&mut self, n: usize, conn: ConnId, node: usize, argv: &[&str]) -> Vec<u8> {
        match argv {
            ["PING"] => b"+PONG\r\n".to_vec(),
            ["INFO"] => {
                let info = self.info(node);
                format!("${}\r\n{info}\r\n", info.len()).into_bytes()
            }
            ["SUBSCRIBE", channel] => {
                self.watchers[n].conns.get_mut(&conn).unwrap().subscribed = true;
                format!(
                    "*3\r\n$9\r\nsubscribe\r\n${}\r\n{channel}\r\n:1\r\n",
                    channel.len()
                )
                .into()
            }
            ["PUBLISH", channel, message] => {
                self.publish(node, channel, message);
                b":1\r\n".to_vec()
            }
            ["SLAVEOF", "NO", "ONE"] => {
                self.nodes[node].follows = None;
                b"+QUEUED\r\n".to_vec()
            }
            ["SLAVEOF", _, port] => {
                self.nodes[node].follows = Some(port.parse().unwrap());
                b"+QUEUED\r\n".to_vec()
            }
            _ => b"+OK\r\n".to_vec(),
        }
    }

    fn publish(&mut self, node: usize, channel: &str, message: &str) {
        let mut heard = Vec::new();
        command::encode(
            &[b"message", channel.as_bytes(), message.as_bytes()],
            &mut heard,
        );
        for other in 0..self.nodes.len() {
            let follows = self.nodes[other].follows == Some(node_port(node)) && self.link_up(other);
            if other != node && !follows {
                continue;
            }
            for n in 0..self.watchers.len() {
                let wires = self.watchers[n].conns.iter();
                let listening = wires.filter(|(_, w)| w.port == node_port(other) && w.subscribed);
                let conns: Vec<ConnId> = listening.map(|(c, _)| *c).collect();
                for conn in conns {
                    self.answer(n, conn, heard.clone());
                }
            }
        }
    }

    fn info(&self, n: usize) -> String {
        let node = &self.nodes[n];
        let mut text = format!("run_id:{:040x}\r\n", n as u64 * 1000 + node.lives);
        let Some(master) = node.follows else {
            text.push_str("role:master\r\n");
            let followers = (0..self.nodes.len())
                .filter(|o| self.nodes[*o].follows == Some(node_port(n)) && self.link_up(*o));
            for (i, other) in followers.enumerate() {
                let port = node_port(other);
                text.push_str(&format!(
                    "slave{i}:ip=127.0.0.1,port={port},state=online\r\n"
                ));
            }
            return text;
        };
        let status = if self.link_up(n) { "up" } else { "down" };
        text.push_str(&format!(
            "role:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:{master}\r\nmaster_link_status:{status}\r\n"
        ));
        if !self.link_up(n) {
            text.push_str("master_link_down_since_seconds:1\r\n");
        }
        let (offset, priority) = (node.offset, node.priority);
        text.push_str(&format!(
            "slave_repl_offset:{offset}\r\nslave_priority:{priority}\r\n"
        ));
        text
    }

    /// The machine of a Sentinel that runs.
    pub fn sentinel(&self, n: usize) -> &Sentinel {
        self.watchers[n].machine.as_ref().unwrap()
    }

    /// Where a Sentinel says that the master is.
    pub fn master_seen_by(&self, n: usize) -> Option<u16> {
        let machine = self.watchers[n].machine.as_ref()?;
        let master = machine.master_named("m")?;
        Some(machine.current_addr(master).port)
    }

    /// The master on which all Sentinels that run agree, if it is one and all other servers that are up follow it.
    pub fn agreed(&self) -> Option<u16> {
        let mut seen = (0..self.watchers.len())
            .filter(|n| self.watchers[*n].machine.is_some())
            .map(|n| self.master_seen_by(n));
        let port = seen.next()??;
        let all_say_so = seen.all(|other| other == Some(port));
        let follows = |(n, node): (usize, &Node)| {
            let wanted = (node_port(n) != port).then_some(port);
            !node.up || node.follows == wanted
        };
        let all_follow = self.nodes.iter().enumerate().all(follows);
        (all_say_so && all_follow && self.is_there(port)).then_some(port)
    }

    /// True if a Sentinel has had this event since.
    pub fn has(&self, n: usize, event: &str) -> bool {
        self.watchers[n]
            .events
            .iter()
            .any(|(_, e)| e.starts_with(event))
    }
}
