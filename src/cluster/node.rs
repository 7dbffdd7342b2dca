//! A node as another sees it: its name, where it is, what it is, and what is known of it.
//!
//! A node is told from all others by its [`Name`], which it made up itself; until we have spoken to it we do not know that, and
//! it has a random one of ours. Inside, a node is known by its [`Id`], a number of ours that never changes and is never
//! used again.

use std::collections::BTreeMap;
use std::fmt;

use super::links::ConnId;
use super::slotset::SlotSet;

/// The length of a node's name and of a shard's id, in hexadecimal digits.
pub const NAME_LEN: usize = 40;

/// The name of a node, or of a shard: 40 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name([u8; NAME_LEN]);

impl Name {
    /// What stands on the wire where there is no node.
    pub const NONE: Name = Name([0; NAME_LEN]);

    /// A name as it is written, which is as lenient as Redis (any small letters); `None` if it is none.
    pub fn parse(text: &[u8]) -> Option<Name> {
        let digits: [u8; NAME_LEN] = text.try_into().ok()?;
        let is_digit = |b: &u8| b.is_ascii_digit() || b.is_ascii_lowercase();
        digits.iter().all(is_digit).then_some(Name(digits))
    }

    /// Its digits.
    pub fn bytes(&self) -> &[u8; NAME_LEN] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:.8}")
    }
}

/// A node's number inside the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub u64);

/// What a node is. The bits are those of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    pub const MASTER: Flags = Flags(1);
    pub const REPLICA: Flags = Flags(2);
    /// We can't reach it.
    pub const PFAIL: Flags = Flags(4);
    /// Most masters can't.
    pub const FAIL: Flags = Flags(8);
    pub const MYSELF: Flags = Flags(16);
    /// Nothing has come from it yet.
    pub const HANDSHAKE: Flags = Flags(32);
    /// It is not known where it is.
    pub const NOADDR: Flags = Flags(64);
    /// It is to be told to take us in.
    pub const MEET: Flags = Flags(128);
    /// A master that replicas may move to: it has, or had, some.
    pub const MIGRATE_TO: Flags = Flags(256);
    /// A replica that does not try to take its master's place.
    pub const NOFAILOVER: Flags = Flags(512);

    /// True if any of them is set.
    pub fn has(self, flags: Flags) -> bool {
        self.0 & flags.0 != 0
    }

    /// Sets or clears them.
    pub fn set(&mut self, flags: Flags, on: bool) {
        if on {
            self.0 |= flags.0;
        } else {
            self.0 &= !flags.0;
        }
    }

    /// All of both.
    pub const fn or(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Those that are set in both.
    pub fn and(self, other: Flags) -> Flags {
        Flags(self.0 & other.0)
    }

    /// The same, of a node that another tells of: it can't be this one.
    pub fn without_myself(self) -> Flags {
        Flags(self.0 & !Flags::MYSELF.0)
    }
}

/// See the head of the file. Times are unix times in ms; 0 is never.
#[derive(Clone, Debug)]
pub struct Node {
    pub id: Id,
    pub name: Name,
    /// The shard that it belongs to: a master and its replicas have the same.
    pub shard: Name,
    pub flags: Flags,
    pub created_ms: i64,
    /// The last configuration epoch that it, or its master, has claimed its slots with.
    pub config_epoch: u64,
    /// The slots that it has.
    pub slots: SlotSet,
    /// Its replicas, if it is a master.
    pub replicas: Vec<Id>,
    /// Its master, if it is a replica and that is known.
    pub master: Option<Id>,
    /// When the ping was sent that it has not answered yet.
    pub ping_sent_ms: i64,
    pub pong_received_ms: i64,
    /// When anything came from it.
    pub heard_ms: i64,
    pub failed_ms: i64,
    /// When we last voted for a replica of it.
    pub voted_ms: i64,
    /// How far it is in the stream of replication, and when it said so.
    pub offset: i64,
    pub offset_ms: i64,
    /// Since when it is a master whose replicas are all gone.
    pub orphaned_ms: i64,
    /// The round of gossip that told of it last.
    pub gossip_round: u64,
    /// Its address; empty until it is known.
    pub ip: String,
    pub hostname: String,
    /// What people call it.
    pub nodename: String,
    pub port: u16,
    pub tls_port: u16,
    pub bus_port: u16,
    /// Our connection to it, which may not be up yet, and its connection to us.
    pub link: Option<ConnId>,
    pub inbound: Option<ConnId>,
    /// Who has said that it fails, and when.
    pub reports: BTreeMap<Id, i64>,
}

/// The two in this order, or the other way round.
pub(super) fn first_if(yes: bool, one: u16, other: u16) -> (u16, u16) {
    if yes { (one, other) } else { (other, one) }
}

impl Node {
    /// Its ports for clients as messages name them: the first is that of what the nodes speak with each other.
    pub(super) fn ports(&self, tls_bus: bool) -> (u16, u16) {
        first_if(tls_bus, self.tls_port, self.port)
    }

    /// Takes them from a message.
    pub(super) fn set_ports(&mut self, tls_bus: bool, first: u16, other: u16) {
        (self.tls_port, self.port) = first_if(tls_bus, first, other);
    }

    /// A node of which nothing is known.
    pub fn new(id: Id, name: Name, shard: Name, flags: Flags, now_ms: i64) -> Node {
        Node {
            id,
            name,
            shard,
            flags,
            created_ms: now_ms,
            config_epoch: 0,
            slots: SlotSet::default(),
            replicas: Vec::new(),
            master: None,
            ping_sent_ms: 0,
            pong_received_ms: 0,
            heard_ms: 0,
            failed_ms: 0,
            voted_ms: 0,
            offset: 0,
            offset_ms: 0,
            orphaned_ms: 0,
            gossip_round: 0,
            ip: String::new(),
            hostname: String::new(),
            nodename: String::new(),
            port: 0,
            tls_port: 0,
            bus_port: 0,
            link: None,
            inbound: None,
            reports: BTreeMap::new(),
        }
    }

    pub fn is_master(&self) -> bool {
        self.flags.has(Flags::MASTER)
    }

    pub fn is_replica(&self) -> bool {
        self.flags.has(Flags::REPLICA)
    }

    pub fn is_myself(&self) -> bool {
        self.flags.has(Flags::MYSELF)
    }

    /// Most masters say that it is down.
    pub fn has_failed(&self) -> bool {
        self.flags.has(Flags::FAIL)
    }

    /// From now on it has.
    pub(super) fn has_failed_at(&mut self, now_ms: i64) {
        self.flags.set(Flags::PFAIL, false);
        self.flags.set(Flags::FAIL, true);
        self.failed_ms = now_ms;
    }

    /// We can't reach it.
    pub fn has_timed_out(&self) -> bool {
        self.flags.has(Flags::PFAIL)
    }

    pub fn in_handshake(&self) -> bool {
        self.flags.has(Flags::HANDSHAKE)
    }

    pub fn has_address(&self) -> bool {
        !self.flags.has(Flags::NOADDR)
    }
}
