//! The world of the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::base::rng::Rng;
use crate::base::slot::Slot;
use crate::cluster::{Action, Cluster, ConnId, Facts, Name, Settings};

const BEGINNING_MS: i64 = 1_700_000_000_000;
/// The node timeout of the tests.
pub const TIMEOUT_MS: i64 = 1000;
const PORT: u16 = 7000;
/// The longest way through the network.
const LATE_MS: u64 = 30;

/// A node, as far as it is not its machine.
pub struct Place {
    /// `None` while it does not run.
    pub machine: Option<Cluster>,
    pub settings: Settings,
    pub offset: i64,
    /// Whom it replicates: the port.
    pub follows: Option<u16>,
    /// What it has saved, and what of that is on the disk.
    pub saved: String,
    pub durable: String,
    pub paused_until_ms: Option<i64>,
    pub log: Vec<String>,
    pub published: Vec<Bytes>,
    pub dropped: Vec<Slot>,
}

/// Something on its way.
enum Event {
    Call {
        from: usize,
        conn: ConnId,
        port: u16,
    },
    Answer {
        to: usize,
        conn: ConnId,
    },
    Message {
        to: usize,
        conn: ConnId,
        bytes: Bytes,
    },
    Closed {
        to: usize,
        conn: ConnId,
    },
}

type End = (usize, ConnId);

/// See the head of the module.
pub struct World {
    pub nodes: Vec<Place>,
    pub now_ms: i64,
    rng: Rng,
    seed: u64,
    events: BTreeMap<(i64, u64), Event>,
    numbers: u64,
    /// The other end of each connection.
    ends: BTreeMap<End, End>,
    /// When the last message of an end arrives: none overtakes another.
    arrives_ms: BTreeMap<End, i64>,
    /// Nodes that only reach each other.
    pub island: BTreeSet<usize>,
    /// Every claim that was made: whose slots they are, by epoch.
    claims: BTreeMap<u64, Name>,
}

impl World {
    pub fn new(seed: u64, nodes: usize) -> World {
        let mut world = World {
            nodes: Vec::new(),
            now_ms: BEGINNING_MS,
            rng: Rng::new(seed),
            seed,
            events: BTreeMap::new(),
            numbers: 0,
            ends: BTreeMap::new(),
            arrives_ms: BTreeMap::new(),
            island: BTreeSet::new(),
            claims: BTreeMap::new(),
        };
        for _ in 0..nodes {
            world.add();
        }
        world
    }

    /// One more node, which knows nobody.
    pub fn add(&mut self) -> usize {
        let at = self.nodes.len();
        let port = PORT + at as u16;
        let settings = Settings {
            node_timeout_ms: TIMEOUT_MS,
            port,
            bus_port: port,
            validity_factor: 10,
            repl_ping_period_s: 10,
            migration_barrier: 1,
            allow_replica_migration: true,
            require_full_coverage: true,
            ..Settings::default()
        };
        let rng = self.rng.fork();
        self.nodes.push(Place {
            machine: Some(Cluster::new(self.now_ms, rng)),
            settings,
            offset: 100,
            follows: None,
            saved: String::new(),
            durable: String::new(),
            paused_until_ms: None,
            log: Vec::new(),
            published: Vec::new(),
            dropped: Vec::new(),
        });
        self.with(at, Cluster::begin_anew);
        at
    }

    pub fn cluster(&self, at: usize) -> &Cluster {
        self.nodes[at].machine.as_ref().expect("it runs")
    }

    pub fn name(&self, at: usize) -> Name {
        self.cluster(at).myself().name
    }

    /// Lets a machine hear of something, and does what it wants done, once it has saved.
    pub fn with<R>(&mut self, at: usize, f: impl FnOnce(&mut Cluster) -> R) -> R {
        let place = &mut self.nodes[at];
        let machine = place.machine.as_mut().expect("it runs");
        machine.set_now(self.now_ms);
        machine.set_settings(place.settings.clone());
        machine.set_facts(Facts {
            offset: place.offset,
            follows: place.follows.is_some(),
            ..Facts::default()
        });
        let result = f(machine);
        machine.before_sleep();
        for action in machine.take_actions() {
            self.act(at, action);
        }
        result
    }

    pub fn order(
        &mut self,
        at: usize,
        f: impl FnOnce(&mut Cluster) -> Result<(), String>,
    ) -> Result<(), String> {
        self.with(at, f)
    }

    fn act(&mut self, at: usize, action: Action) {
        let place = &mut self.nodes[at];
        match action {
            Action::Connect { conn, port, .. } => self.later(Event::Call {
                from: at,
                conn,
                port,
            }),
            Action::Close(conn) => {
                if let Some((to, conn)) = self.part((at, conn)) {
                    self.later(Event::Closed { to, conn });
                }
            }
            Action::Send(conn, bytes) => {
                let Some(&(to, other)) = self.ends.get(&(at, conn)) else {
                    return;
                };
                if !self.reach(at, to) {
                    return;
                }
                let event = Event::Message {
                    to,
                    conn: other,
                    bytes,
                };
                self.in_order((at, conn), event);
            }
            Action::Persist { sure } => {
                let text = place
                    .machine
                    .as_ref()
                    .map_or_else(String::new, Cluster::to_file);
                if sure {
                    place.durable.clone_from(&text);
                }
                place.saved = text;
            }
            Action::Follow { port, .. } => place.follows = Some(port),
            Action::Lead => place.follows = None,
            Action::PauseWrites(until_ms) => place.paused_until_ms = until_ms,
            Action::Log(_, text) => place.log.push(text),
            Action::Publish { message, .. } => place.published.push(message),
            Action::DropKeys(slots) => place.dropped.extend(slots),
            Action::SlotMoved(_) | Action::DropAll => {}
        }
    }

    fn later(&mut self, event: Event) {
        let delay_ms = 1 + self.rng.below(LATE_MS) as i64;
        self.at(self.now_ms + delay_ms, event);
    }

    fn in_order(&mut self, from: End, event: Event) {
        let delay_ms = 1 + self.rng.below(LATE_MS) as i64;
        let last_ms = self.arrives_ms.get(&from).copied().unwrap_or(0);
        let at_ms = last_ms.max(self.now_ms + delay_ms);
        self.arrives_ms.insert(from, at_ms);
        self.at(at_ms, event);
    }

    fn at(&mut self, at_ms: i64, event: Event) {
        self.numbers += 1;
        self.events.insert((at_ms, self.numbers), event);
    }

    fn part(&mut self, end: End) -> Option<End> {
        let other = self.ends.remove(&end)?;
        self.ends.remove(&other);
        Some(other)
    }

    fn reach(&self, a: usize, b: usize) -> bool {
        self.island.contains(&a) == self.island.contains(&b)
            && self.nodes[a].machine.is_some()
            && self.nodes[b].machine.is_some()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Call { from, conn, port } => self.call(from, conn, port),
            Event::Answer { to, conn } if self.ends.contains_key(&(to, conn)) => {
                self.with(to, |c| c.connected(conn, ("127.0.0.1", 1), "127.0.0.1"));
            }
            Event::Message { to, conn, bytes } if self.ends.contains_key(&(to, conn)) => {
                self.with(to, |c| c.receive(conn, &bytes));
            }
            Event::Closed { to, conn } if self.nodes[to].machine.is_some() => {
                self.with(to, |c| c.closed(conn, None));
            }
            _ => {}
        }
    }

    fn call(&mut self, from: usize, conn: ConnId, port: u16) {
        if self.nodes[from].machine.is_none() {
            return;
        }
        let to = usize::from(port - PORT);
        if self.island.contains(&from) != self.island.contains(&to) {
            // Nobody answers, and nobody says so.
            return;
        }
        if self.nodes[to].machine.is_none() {
            self.with(from, |c| c.closed(conn, Some("Connection refused")));
            return;
        }
        let other = self.with(to, |c| c.accepted(("127.0.0.1", 1), "127.0.0.1"));
        self.ends.insert((from, conn), (to, other));
        self.ends.insert((to, other), (from, conn));
        self.later(Event::Answer { to: from, conn });
    }

    /// So many milliseconds pass.
    pub fn pass(&mut self, ms: i64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            let ticks =
                (self.nodes.iter()).filter_map(|n| Some(n.machine.as_ref()?.next_timeout()));
            let tick_ms = ticks.min().unwrap_or(until_ms);
            let event_ms = self.events.keys().next().map_or(until_ms, |(ms, _)| *ms);
            let next_ms = tick_ms.min(event_ms).min(until_ms);
            self.now_ms = self.now_ms.max(next_ms);
            if event_ms <= self.now_ms
                && let Some((_, event)) = self.events.pop_first()
            {
                self.happen(event);
            } else {
                self.tick();
            }
            self.check_claims();
        }
    }

    fn tick(&mut self) {
        for at in 0..self.nodes.len() {
            let due = |c: &Cluster| c.next_timeout() <= self.now_ms;
            if self.nodes[at].machine.as_ref().is_some_and(due) {
                self.with(at, Cluster::tick);
            }
        }
    }

    /// Lets time pass until something holds.
    pub fn until(&mut self, what: &str, most_ms: i64, holds: impl Fn(&World) -> bool) {
        let until_ms = self.now_ms + most_ms;
        while !holds(self) {
            assert!(
                self.now_ms < until_ms,
                "{what}: seed {}\n{}",
                self.seed,
                self.shown()
            );
            self.pass(50);
        }
    }

    fn shown(&self) -> String {
        let mut out = String::new();
        for (at, node) in self.nodes.iter().enumerate() {
            out.push_str(&format!("--- {at}, log: {:#?}\n", node.log));
            if let Some(machine) = &node.machine {
                out.push_str(&machine.describe_all(false));
            }
        }
        out
    }

    /// Nobody ever claims slots with an epoch with which another has.
    fn check_claims(&mut self) {
        for machine in self.nodes.iter().filter_map(|n| n.machine.as_ref()) {
            let me = machine.myself();
            if me.is_master() && !me.slots.is_empty() && me.config_epoch != 0 && machine.is_ok() {
                let claimer = *self.claims.entry(me.config_epoch).or_insert(me.name);
                assert_eq!(claimer, me.name, "epoch {} twice", me.config_epoch);
            }
        }
    }

    /// All meet the first.
    pub fn join_all(&mut self) {
        for at in 1..self.nodes.len() {
            let port = i64::from(self.nodes[0].settings.port);
            assert!(self.with(at, |c| c.meet("127.0.0.1", port, port)));
        }
        let all = self.nodes.len();
        self.until("all know all", 30_000, |w| {
            let knows = |c: &Cluster| c.all().filter(|n| !n.in_handshake()).count() == all;
            (0..all).all(|at| knows(w.cluster(at)) && w.cluster(at).known() == all)
        });
    }

    pub fn give(&mut self, at: usize, slots: RangeInclusive<usize>) {
        let slot = |n: &usize| Slot::new(*n as u64).expect("a slot");
        let range = (slot(slots.start()), slot(slots.end()));
        self.with(at, |c| c.assign(&[range], true))
            .expect("free slots");
    }

    /// True if the cluster serves for all that run, and all have the same view of who has what.
    pub fn all_well(&self) -> bool {
        let views: BTreeSet<Vec<Option<Name>>> = self.running().map(owners).collect();
        let replicas_follow = self.nodes.iter().all(|node| {
            let master = node.machine.as_ref().and_then(|c| c.my_master());
            node.machine.is_none() || node.follows == master.map(|m| m.port)
        });
        views.len() == 1 && replicas_follow && self.running().all(Cluster::is_ok)
    }

    pub fn running(&self) -> impl Iterator<Item = &Cluster> {
        self.nodes.iter().filter_map(|node| node.machine.as_ref())
    }

    /// The node that has a slot, as the node `by` sees it.
    pub fn owner(&self, by: usize, slot: u64) -> Option<usize> {
        let owner = self.cluster(by).owner(Slot::new(slot)?)?;
        Some(usize::from(owner.port - PORT))
    }

    /// The process ends; what was not saved is lost, and with `hard` what was not on the disk.
    pub fn kill(&mut self, at: usize, hard: bool) {
        let place = &mut self.nodes[at];
        place.machine = None;
        place.follows = None;
        if hard {
            place.saved.clone_from(&place.durable);
        }
        let mine: Vec<End> = self
            .ends
            .keys()
            .filter(|(n, _)| *n == at)
            .copied()
            .collect();
        for end in mine {
            if let Some((to, conn)) = self.part(end) {
                self.later(Event::Closed { to, conn });
            }
        }
    }

    /// It runs again with what it had saved.
    pub fn restart(&mut self, at: usize) {
        let rng = self.rng.fork();
        let place = &mut self.nodes[at];
        let machine = Cluster::from_file(self.now_ms, rng, place.saved.as_bytes());
        place.machine = machine.expect("a file that was written");
        assert!(place.machine.is_some(), "it had saved nothing");
        self.with(at, |_| ());
    }

    pub fn logged(&self, at: usize, text: &str) -> bool {
        self.nodes[at].log.iter().any(|line| line.contains(text))
    }
}

fn owners(cluster: &Cluster) -> Vec<Option<Name>> {
    Slot::all()
        .map(|slot| cluster.owner(slot).map(|n| n.name))
        .collect()
}
