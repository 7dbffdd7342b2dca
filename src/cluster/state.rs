//! The machine's state as a whole, what it is told of the outside, what it wants done, and what others ask it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::links::ConnId;
use super::node::{Flags, Id, Name, Node};
use crate::base::rng::Rng;
use crate::base::slot::{SLOTS, Slot};

/// How much a line matters, in the log's own levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Verbose,
    Notice,
    Warning,
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a connection to another node's bus.
    Connect {
        conn: ConnId,
        ip: String,
        port: u16,
    },
    /// Close it. Nothing that it may still bring is of interest.
    Close(ConnId),
    Send(ConnId, Bytes),
    /// Write the state into its file before anything that follows is done; and, if it is to be `sure`, have it on the disk.
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
    /// Give up the keys of these slots, which another has now.
    DropKeys(Vec<Slot>),
    /// A slot is no more ours: who listens to its channels, or waits for its keys, is to hear.
    SlotLost(Slot),
    /// Give up all data (CLUSTER RESET of a replica).
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

/// What the machine has to know of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub node_timeout_ms: i64,
}

/// What it has to know of the server that it lives in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// How far we are in the stream of replication.
    pub offset: i64,
}

/// Why nothing is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// A slot has no node, or not enough masters can be reached.
    Failing,
}

/// See the head of the module.
pub struct Cluster {
    pub(super) nodes: BTreeMap<Id, Node>,
    pub(super) names: BTreeMap<Name, Id>,
    pub(super) me: Id,
    pub(super) is_ok: bool,
    pub(super) owners: Box<[Option<Id>]>,
    pub(super) migrating: BTreeMap<Slot, Id>,
    pub(super) importing: BTreeMap<Slot, Id>,
    pub(super) now_ms: i64,
    pub(super) out: Vec<Action>,
    pub(super) rng: Rng,
    numbers: u64,
}

impl Cluster {
    /// A node that knows no other, with a name of its own.
    pub fn new(now_ms: i64, mut rng: Rng) -> Cluster {
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            me: Id(0),
            is_ok: false,
            owners: vec![None; SLOTS].into(),
            migrating: BTreeMap::new(),
            importing: BTreeMap::new(),
            now_ms,
            out: Vec::new(),
            rng: rng.fork(),
            numbers: 0,
        };
        let flags = Flags::MYSELF.or(Flags::MASTER);
        let name = cluster.random_name();
        cluster.me = cluster.add_node(name, flags);
        cluster
    }

    /// Adds a node, in a shard of its own.
    pub(super) fn add_node(&mut self, name: Name, flags: Flags) -> Id {
        self.numbers += 1;
        let id = Id(self.numbers);
        let shard = self.random_name();
        let node = Node::new(id, name, shard, flags, self.now_ms);
        self.nodes.insert(id, node);
        self.names.insert(name, id);
        id
    }

    fn random_name(&mut self) -> Name {
        let digits = self.rng.hex(super::node::NAME_LEN);
        Name::parse(digits.as_bytes()).unwrap_or(Name::NONE)
    }

    /// What time it is, before anything else is asked.
    pub fn set_now(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    /// What is to be done since it was last asked.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.out)
    }

    /// True if the cluster serves, as far as this node can tell (`cluster_state:ok`).
    pub fn is_ok(&self) -> bool {
        self.is_ok
    }

    /// A node by its number.
    pub fn node(&self, id: Id) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// A node by its name.
    pub fn named(&self, name: &Name) -> Option<&Node> {
        self.node(*self.names.get(name)?)
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

    /// What a client is told to find a node by, and its port: what MOVED, ASK and CLUSTER SLOTS name.
    pub fn endpoint<'a>(&'a self, node: &'a Node, _tls: bool) -> (&'a str, u16) {
        (&node.ip, node.port)
    }
}
