//! The machine's state as a whole, what it is told of the outside, what it wants done, and what others ask it.
//!
//! What has changed is not written at once: that it is to be written is noted ([`Todo`]), as many messages may come in one
//! turn. [`Cluster::before_sleep`] does it, and nothing that was to be sent may leave before that: so a vote is on the disk
//! before it is given.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::failover::{Election, Manual};
use super::links::{ConnId, Link};
use super::node::{Flags, Id, NAME_LEN, Name, Node};
use super::slotset::SlotSet;
use super::wire::KINDS;
use crate::base::level::Level;
use crate::base::rng::Rng;
use crate::base::slot::{SLOTS, Slot};

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a connection to another node's bus; [`Cluster::connected`] or [`Cluster::closed`] is told.
    Connect {
        conn: ConnId,
        ip: String,
        port: u16,
    },
    /// Close it. Nothing that it may still bring is of interest.
    Close(ConnId),
    /// Not before [`Cluster::before_sleep`] was called, and what it said was done.
    Send(ConnId, Bytes),
    /// Write [`Cluster::to_file`] into the file; if it is to be `sure`, have it on the disk.
    Persist {
        sure: bool,
    },
    /// Replicate this master.
    Follow {
        ip: String,
        port: u16,
    },
    /// Replicate nobody any more.
    Lead,
    /// Delete the keys of these slots, which another has now.
    DropKeys(Vec<Slot>),
    /// The owner of a slot has changed: who listens to its channels is to hear.
    SlotMoved(Slot),
    /// Delete all keys (CLUSTER RESET of a replica).
    DropAll,
    /// A message that another node was given to publish.
    Publish {
        channel: Bytes,
        message: Bytes,
        sharded: bool,
    },
    /// Hold back writes until this time, or do not any more.
    PauseWrites(Option<i64>),
    Log(Level, String),
}

/// What clients are told to find a node by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endpoint {
    #[default]
    Ip,
    Hostname,
    /// Nothing: they go on with what they came by.
    Unknown,
}

/// What the machine has to know of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub node_timeout_ms: i64,
    /// `cluster-ping-interval`; 0: half the node timeout.
    pub ping_interval_ms: i64,
    /// What is announced: ports, address, names; empty if there is none.
    pub port: u16,
    pub tls_port: u16,
    pub bus_port: u16,
    /// The nodes speak TLS with each other: the port for TLS is the first one then.
    pub tls_bus: bool,
    /// So do replicas with their masters.
    pub tls_replication: bool,
    pub ip: String,
    pub hostname: String,
    pub nodename: String,
    pub endpoint: Endpoint,
    pub validity_factor: i64,
    pub repl_ping_period_s: i64,
    pub migration_barrier: usize,
    pub allow_replica_migration: bool,
    pub require_full_coverage: bool,
    pub replica_no_failover: bool,
    pub link_sendbuf_limit: usize,
}

/// What it has to know of the server that it lives in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// How far we are in the stream of replication, as a master or as a replica.
    pub offset: i64,
    /// We replicate somebody.
    pub follows: bool,
    /// How long nothing has come from the master, in ms.
    pub data_age_ms: i64,
    /// There are keys.
    pub has_keys: bool,
    /// The data is being loaded, our own or our master's.
    pub is_loading: bool,
}

/// What [`Cluster::before_sleep`] is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Todo(u8);

impl Todo {
    pub const FAILOVER: Todo = Todo(1);
    pub const JUDGE: Todo = Todo(2);
    pub const SAVE: Todo = Todo(4);
    /// With [`Todo::SAVE`]: onto the disk.
    pub const SURE: Todo = Todo(8);
    pub const MANUAL: Todo = Todo(16);

    pub const fn and(self, other: Todo) -> Todo {
        Todo(self.0 | other.0)
    }

    pub const fn without(self, other: Todo) -> Todo {
        Todo(self.0 & !other.0)
    }

    pub fn has(self, other: Todo) -> bool {
        self.0 & other.0 != 0
    }
}

/// What CLUSTER INFO counts.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    pub sent: [u64; KINDS],
    pub received: [u64; KINDS],
    /// Links that were closed because too much was waiting for them.
    pub over_limit: u64,
}

/// See the head of the module.
pub struct Cluster {
    /// The greatest epoch that was heard of.
    pub current_epoch: u64,
    pub counted: Counted,
    /// Messages of this kind are not heard (DEBUG DROP-CLUSTER-PACKET-FILTER).
    pub drop_kind: Option<u16>,
    /// The last epoch in which we gave our vote.
    pub(super) voted_epoch: u64,
    pub(super) nodes: BTreeMap<Id, Node>,
    pub(super) names: BTreeMap<Name, Id>,
    /// All nodes, to choose from by chance.
    pub(super) roster: Vec<Id>,
    pub(super) me: Id,
    pub(super) is_ok: bool,
    /// Masters that have slots.
    pub(super) size: usize,
    pub(super) owners: Box<[Option<Id>]>,
    /// Slots that their owners do not claim any more, though nobody else does.
    pub(super) unclaimed: SlotSet,
    pub(super) migrating: BTreeMap<Slot, Id>,
    pub(super) importing: BTreeMap<Slot, Id>,
    /// Nodes that are not to be heard of, until this time in unix seconds.
    pub(super) forgotten: BTreeMap<Name, i64>,
    pub(super) election: Election,
    pub(super) manual: Manual,
    pub(super) links: BTreeMap<ConnId, Link>,
    pub(super) settings: Settings,
    pub(super) facts: Facts,
    pub(super) todo: Todo,
    /// Nodes with an address that seem down.
    pub(super) timed_out: usize,
    /// When the state was judged first, and when we were last among a minority.
    pub(super) judged_first_ms: i64,
    pub(super) minority_ms: i64,
    pub(super) rounds: u64,
    pub(super) ticks: u64,
    pub(super) next_tick_ms: i64,
    pub(super) now_ms: i64,
    pub(super) out: Vec<Action>,
    pub(super) rng: Rng,
    numbers: u64,
}

impl Cluster {
    /// A node that knows no other, with a name of its own.
    pub fn new(now_ms: i64, rng: Rng) -> Cluster {
        let mut cluster = Cluster::blank(now_ms, rng);
        let name = cluster.random_name();
        cluster.me = cluster.add_node(name, Flags::MYSELF.or(Flags::MASTER));
        cluster
    }

    /// One that does not even know itself.
    pub(super) fn blank(now_ms: i64, rng: Rng) -> Cluster {
        Cluster {
            current_epoch: 0,
            counted: Counted::default(),
            drop_kind: None,
            voted_epoch: 0,
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            roster: Vec::new(),
            me: Id(0),
            is_ok: false,
            size: 0,
            owners: vec![None; SLOTS].into(),
            unclaimed: SlotSet::default(),
            migrating: BTreeMap::new(),
            importing: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            election: Election::default(),
            manual: Manual::default(),
            links: BTreeMap::new(),
            settings: Settings::default(),
            facts: Facts::default(),
            todo: Todo::default(),
            timed_out: 0,
            judged_first_ms: 0,
            minority_ms: 0,
            rounds: 0,
            ticks: 0,
            next_tick_ms: now_ms,
            now_ms,
            out: Vec::new(),
            rng,
            numbers: 0,
        }
    }

    /// The server runs, and there was no file: tells who we are, and writes it.
    pub fn begin_anew(&mut self) {
        let text = format!("No cluster configuration found, I'm {}", self.myself().name);
        self.log(Level::Notice, text);
        self.do_later(Todo::SAVE.and(Todo::SURE));
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn random_name(&mut self) -> Name {
        let digits = self.rng.hex(NAME_LEN);
        Name::parse(digits.as_bytes()).unwrap_or(Name::NONE)
    }

    /// What time it is, before anything else is asked.
    pub fn set_now(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    /// What the server is like now.
    pub fn set_facts(&mut self, facts: Facts) {
        self.facts = facts;
    }

    /// The configuration as it is now; what of it others are told of us changes with it.
    pub fn set_settings(&mut self, settings: Settings) {
        if settings == self.settings {
            return;
        }
        let old = std::mem::replace(&mut self.settings, settings);
        let new = self.settings.clone();
        let Some(me) = self.nodes.get_mut(&self.me) else {
            return;
        };
        (me.port, me.tls_port, me.bus_port) = (new.port, new.tls_port, new.bus_port);
        if old.ip != new.ip {
            // (Empty: it is to be found out again.)
            me.ip.clone_from(&new.ip);
        }
        let mut todo = Todo::default();
        if me.hostname != new.hostname || me.nodename != new.nodename {
            me.hostname.clone_from(&new.hostname);
            me.nodename.clone_from(&new.nodename);
            todo = Todo::SAVE;
        }
        if me.flags.has(Flags::NOFAILOVER) != new.replica_no_failover {
            me.flags.set(Flags::NOFAILOVER, new.replica_no_failover);
            todo = todo.and(Todo::SAVE).and(Todo::JUDGE);
        }
        self.do_later(todo);
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is to be done since it was last asked.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.out)
    }

    /// True if there is anything.
    pub fn has_actions(&self) -> bool {
        !self.out.is_empty()
    }

    pub(super) fn log(&mut self, level: Level, text: impl Into<String>) {
        self.out.push(Action::Log(level, text.into()));
    }

    /// Has something done before the loop sleeps.
    pub(super) fn do_later(&mut self, what: Todo) {
        self.todo = self.todo.and(what);
    }

    /// Does what was put off, before the loop sleeps: nothing that is to be sent leaves before that.
    pub fn before_sleep(&mut self) {
        let first = std::mem::take(&mut self.todo);
        if first.has(Todo::MANUAL) {
            if self.myself().is_replica() {
                self.manual_step();
                self.failover_step();
            }
        } else if first.has(Todo::FAILOVER) {
            self.failover_step();
        }
        // What those steps have led to is done with the rest, except for what they wait for.
        let now = first.and(self.todo);
        let waiting = self.todo.0 & Todo::MANUAL.and(Todo::FAILOVER).0;
        self.todo = Todo(waiting);
        if now.has(Todo::JUDGE) {
            self.judge();
        }
        if now.has(Todo::SAVE) {
            let sure = now.has(Todo::SURE);
            self.out.push(Action::Persist { sure });
        }
    }

    /// Does of this only what must not wait: saves.
    pub fn save_if_due(&mut self) {
        if self.todo.has(Todo::SAVE) {
            let sure = self.todo.has(Todo::SURE);
            self.todo = self.todo.without(Todo::SAVE.and(Todo::SURE));
            self.out.push(Action::Persist { sure });
        }
    }

    /// We hold back writes, or wait for our master to, for a failover by hand.
    pub fn is_failing_over(&self) -> bool {
        self.manual.until_ms != 0
    }

    /// True if [`Cluster::before_sleep`] has something to do.
    pub fn has_todo(&self) -> bool {
        self.todo != Todo::default()
    }

    /// When [`Cluster::tick`] wants to be called next, unix time in ms.
    pub fn next_timeout(&self) -> i64 {
        self.next_tick_ms
    }

    /// Adds a node, in a shard of its own. (None of that name is there yet.)
    pub(super) fn add_node(&mut self, name: Name, flags: Flags) -> Id {
        let id = Id(self.next_number());
        let shard = self.random_name();
        let node = Node::new(id, name, shard, flags, self.now_ms);
        self.nodes.insert(id, node);
        self.names.insert(name, id);
        self.roster.push(id);
        id
    }

    /// Removes a node with all that points to it. (It is not this one.)
    pub(super) fn remove_node(&mut self, id: Id) {
        self.importing.retain(|_, from| *from != id);
        self.migrating.retain(|_, to| *to != id);
        self.drop_slots_of(id);
        let Some(node) = self.nodes.get(&id) else {
            return;
        };
        let (name, master, links) = (node.name, node.master, [node.link, node.inbound]);
        for conn in links.into_iter().flatten() {
            self.drop_link(conn);
        }
        for replica in self.replicas_of(id) {
            if let Some(replica) = self.nodes.get_mut(&replica) {
                replica.master = None;
            }
        }
        if let Some(master) = master {
            self.remove_replica(master, id);
        }
        if self.manual.replica == Some(id) {
            self.reset_manual();
        }
        self.nodes.remove(&id);
        self.names.remove(&name);
        self.roster.retain(|other| *other != id);
        for node in self.nodes.values_mut() {
            node.reports.remove(&id);
        }
    }

    /// Gives a node the name that it has told. (None of that name is there yet.)
    pub(super) fn rename_node(&mut self, id: Id, name: Name) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let text = format!("Renaming node {} into {name}", node.name);
        self.names.remove(&node.name);
        node.name = name;
        self.names.insert(name, id);
        self.log(Level::Debug, text);
    }

    /// A replica has this master now.
    pub(super) fn add_replica(&mut self, master: Id, replica: Id) {
        if let Some(master) = self.nodes.get_mut(&master)
            && !master.replicas.contains(&replica)
        {
            master.replicas.push(replica);
            master.flags.set(Flags::MIGRATE_TO, true);
        }
    }

    /// A replica has this master no more.
    pub(super) fn remove_replica(&mut self, master: Id, replica: Id) {
        if let Some(master) = self.nodes.get_mut(&master)
            && master.replicas.contains(&replica)
        {
            master.replicas.retain(|other| *other != replica);
            if master.replicas.is_empty() {
                master.flags.set(Flags::MIGRATE_TO, false);
            }
        }
    }

    pub(super) fn replicas_of(&self, master: Id) -> Vec<Id> {
        let master = self.nodes.get(&master);
        master.map_or_else(Vec::new, |master| master.replicas.clone())
    }

    /// The machine's own node, to change.
    pub(super) fn me_mut(&mut self) -> Option<&mut Node> {
        self.nodes.get_mut(&self.me)
    }

    /// A node by its number.
    pub fn node(&self, id: Id) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// A node by its name.
    pub fn named(&self, name: &Name) -> Option<&Node> {
        self.node(*self.names.get(name)?)
    }

    /// All nodes, this one too.
    pub fn all(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// How many nodes are known, this one too.
    pub fn known(&self) -> usize {
        self.nodes.len()
    }

    /// This node.
    pub fn myself(&self) -> &Node {
        // (It is never removed.)
        &self.nodes[&self.me]
    }

    /// Our master, if we are a replica and know it.
    pub fn my_master(&self) -> Option<&Node> {
        self.node(self.myself().master?)
    }

    /// The last epoch in which this node gave its vote (`lastVoteEpoch` of the file).
    pub fn voted_epoch(&self) -> u64 {
        self.voted_epoch
    }

    /// The last epoch in which this node stood for its master's place.
    pub fn election_epoch(&self) -> u64 {
        self.election.epoch()
    }

    /// True if the cluster serves, as far as this node can tell (`cluster_state:ok`).
    pub fn is_ok(&self) -> bool {
        self.is_ok
    }

    /// Masters that have slots (`cluster_size`).
    pub fn size(&self) -> usize {
        self.size
    }

    /// The node that has this slot.
    pub fn owner(&self, slot: Slot) -> Option<&Node> {
        self.node(self.owners[slot.index()]?)
    }

    /// True if this node has the slot.
    pub fn is_mine(&self, slot: Slot) -> bool {
        self.owners[slot.index()] == Some(self.me)
    }

    /// Where the keys of a slot of ours are being moved to.
    pub fn migrating_to(&self, slot: Slot) -> Option<&Node> {
        self.node(*self.migrating.get(&slot)?)
    }

    /// Where the keys of a slot come from that will be ours.
    pub fn importing_from(&self, slot: Slot) -> Option<&Node> {
        self.node(*self.importing.get(&slot)?)
    }

    /// True if any slot is on its way from us or to us.
    pub fn is_moving_slots(&self) -> bool {
        !self.migrating.is_empty() || !self.importing.is_empty()
    }

    /// The master whose slots a node serves: itself, or its master. As with Redis, a replica whose master is unknown is on
    /// its own.
    pub fn master_of<'a>(&'a self, node: &'a Node) -> &'a Node {
        node.master.and_then(|id| self.node(id)).unwrap_or(node)
    }

    /// What a client is told to find a node by, and its port: what MOVED and ASK name.
    pub fn endpoint<'a>(&'a self, node: &'a Node, tls: bool) -> (&'a str, u16) {
        let host = match self.settings.endpoint {
            Endpoint::Ip => &node.ip,
            Endpoint::Hostname if node.hostname.is_empty() => "?",
            Endpoint::Hostname => &node.hostname,
            Endpoint::Unknown => "",
        };
        (host, if tls { node.tls_port } else { node.port })
    }

    /// The port where a replica finds its master.
    pub(super) fn replication_port(&self, node: &Node) -> u16 {
        match self.settings.tls_replication {
            true => node.tls_port,
            false => node.port,
        }
    }

    /// How far a node is in the stream of replication, as far as is known.
    pub fn offset_of(&self, node: &Node) -> i64 {
        match node.id == self.me {
            true => self.facts.offset,
            false => node.offset,
        }
    }

    /// The nodes that belong to each shard, in the order in which they became known.
    pub fn shards(&self) -> Vec<Vec<&Node>> {
        let mut shards: Vec<(Name, Vec<&Node>)> = Vec::new();
        for node in self.nodes.values().filter(|node| !node.in_handshake()) {
            match shards.iter_mut().find(|(shard, _)| *shard == node.shard) {
                Some((_, nodes)) => nodes.push(node),
                None => shards.push((node.shard, vec![node])),
            }
        }
        shards.into_iter().map(|(_, nodes)| nodes).collect()
    }

    /// A node as log lines name it: its name, and what people call it.
    pub(super) fn who(&self, id: Id) -> String {
        let node = self.nodes.get(&id);
        node.map_or_else(String::new, |node| {
            format!("{} ({})", node.name, node.nodename)
        })
    }
}
