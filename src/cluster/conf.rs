//! The state as text: what CLUSTER NODES shows, and the file that it is kept in (`nodes.conf`), which has a line for each
//! node too.
//!
//! ```text
//! <name> <ip>:<port>@<bus port>[,<hostname>[,<field>=<value>]*] <flags> <master or -> <ping sent> <pong received>
//!        <epoch> <connected or disconnected> [<slot> or <first>-<last>]* [[<slot>->-<to>]] [[<slot>-<-<from>]]
//! vars currentEpoch <epoch> lastVoteEpoch <epoch>
//! ```
//! The fields are only in the file: `shard-id`, `nodename`, and the port that is not the one before the `@`. Files of older
//! versions have none of them, or no bus port either. A line that can't be read stops the start: a state that is half
//! forgotten is worse than none.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::node::{Flags, Id, Name, Node};
use super::state::Cluster;
use crate::base::level::Level;
use crate::base::number;
use crate::base::quoted;
use crate::base::rng::Rng;
use crate::base::slot::Slot;

/// How far a bus port is from its port.
pub const BUS_PORT_STEP: u16 = 10_000;

/// What stands for each flag.
const FLAG_NAMES: [(Flags, &str); 8] = [
    (Flags::MYSELF, "myself"),
    (Flags::MASTER, "master"),
    (Flags::REPLICA, "slave"),
    (Flags::PFAIL, "fail?"),
    (Flags::FAIL, "fail"),
    (Flags::HANDSHAKE, "handshake"),
    (Flags::NOADDR, "noaddr"),
    (Flags::NOFAILOVER, "nofailover"),
];
const NO_FLAGS: &str = "noflags";

/// The line that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt(pub String);

impl Cluster {
    /// What is written into the file.
    pub fn to_file(&self) -> String {
        let mut out = String::new();
        for node in self.all().filter(|node| !node.in_handshake()) {
            self.describe(node, Shape::File, &mut out);
            out.push('\n');
        }
        let (current, voted) = (self.current_epoch, self.voted_epoch);
        let _ = writeln!(out, "vars currentEpoch {current} lastVoteEpoch {voted}");
        out
    }

    /// What CLUSTER NODES shows; `tls`: whom we talk to wants to hear of ports for TLS.
    pub fn describe_all(&self, tls: bool) -> String {
        let mut out = String::new();
        for node in self.all() {
            self.describe(node, Shape::Shown { tls }, &mut out);
            out.push('\n');
        }
        out
    }

    /// What CLUSTER REPLICAS shows of a node.
    pub fn describe_one(&self, node: &Node, tls: bool) -> String {
        let mut out = String::new();
        self.describe(node, Shape::Shown { tls }, &mut out);
        out
    }

    fn describe(&self, node: &Node, shape: Shape, out: &mut String) {
        let port = match shape {
            Shape::Shown { tls: true } => node.tls_port,
            _ => node.port,
        };
        let _ = write!(out, "{} {}:{port}@{}", node.name, node.ip, node.bus_port);
        if !node.hostname.is_empty() || shape == Shape::File {
            let _ = write!(out, ",{}", node.hostname);
        }
        if shape == Shape::File {
            let _ = write!(out, ",tls-port={}", node.tls_port);
            if !node.nodename.is_empty() {
                let _ = write!(out, ",nodename={}", node.nodename);
            }
            let _ = write!(out, ",shard-id={}", node.shard);
        }
        let flags: Vec<&str> = (FLAG_NAMES.iter())
            .filter(|(flag, _)| node.flags.has(*flag))
            .map(|(_, name)| *name)
            .collect();
        let flags = match flags.is_empty() {
            true => NO_FLAGS.into(),
            false => flags.join(","),
        };
        let master = node.master.and_then(|id| self.node(id));
        let master_name = master.map_or("-".into(), |master| master.name.to_string());
        let epoch = match master {
            Some(master) if node.is_replica() => master.config_epoch,
            _ => node.config_epoch,
        };
        let is_connected = node.link.is_some() || node.is_myself();
        let state = if is_connected {
            "connected"
        } else {
            "disconnected"
        };
        let _ = write!(
            out,
            " {flags} {master_name} {} {} {epoch} {state}",
            node.ping_sent_ms, node.pong_received_ms
        );
        for (first, last) in node.slots.ranges() {
            let _ = match first == last {
                true => write!(out, " {first}"),
                false => write!(out, " {first}-{last}"),
            };
        }
        if node.is_myself() {
            self.describe_moving(out);
        }
    }

    fn describe_moving(&self, out: &mut String) {
        let name = |id: &Id| self.node(*id).map_or(Name::NONE, |node| node.name);
        let slots: BTreeSet<&Slot> = self.migrating.keys().chain(self.importing.keys()).collect();
        for slot in slots {
            let _ = match (self.migrating.get(slot), self.importing.get(slot)) {
                (Some(to), _) => write!(out, " [{slot}->-{}]", name(to)),
                (None, Some(from)) => write!(out, " [{slot}-<-{}]", name(from)),
                (None, None) => Ok(()),
            };
        }
    }

    /// The state that a file holds; `None` if it is empty.
    pub fn from_file(now_ms: i64, rng: Rng, text: &[u8]) -> Result<Option<Cluster>, Corrupt> {
        if text.is_empty() {
            return Ok(None);
        }
        let mut loading = Loading {
            cluster: Cluster::blank(now_ms, rng),
            me: None,
            sharded: BTreeSet::new(),
        };
        let mut last: &[u8] = b"";
        for line in text.split_inclusive(|b| *b == b'\n') {
            last = line;
            let corrupt = || Corrupt(String::from_utf8_lossy(line).into_owned());
            loading.take_line(line).ok_or_else(corrupt)?;
        }
        let Loading {
            mut cluster,
            me,
            sharded,
        } = loading;
        cluster.me = me.ok_or_else(|| Corrupt(String::from_utf8_lossy(last).into_owned()))?;
        cluster.share_shards(&sharded);
        let text = format!("Node configuration loaded, I'm {}", cluster.myself().name);
        cluster.log(Level::Notice, text);
        cluster.current_epoch = cluster.greatest_epoch();
        // (Nothing of it has changed, and nobody listens yet.)
        cluster.todo = Default::default();
        cluster
            .out
            .retain(|action| matches!(action, super::Action::Log(..)));
        Ok(Some(cluster))
    }

    /// Replicas are in their master's shard, if the file told that, or not theirs.
    ///
    /// It may have told another. Whom a replica follows is in the header of each of its messages, its shard comes in an
    /// extension to some of them: what was saved in between is no reason not to start. (Redis 7.2 takes the file for
    /// corrupted.)
    fn share_shards(&mut self, told: &BTreeSet<Id>) {
        let replicas = self.nodes.values().filter_map(|n| Some((n.id, n.master?)));
        let shared: Vec<(Id, Name)> = replicas
            .filter(|(id, master)| told.contains(master) || !told.contains(id))
            .filter_map(|(id, master)| Some((id, self.node(master)?.shard)))
            .collect();
        for (id, shard) in shared {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.shard = shard;
            }
        }
    }
}

/// Whom a description is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    File,
    Shown { tls: bool },
}

/// A file that is being read.
struct Loading {
    cluster: Cluster,
    me: Option<Id>,
    /// Nodes whose shard was told.
    sharded: BTreeSet<Id>,
}

impl Loading {
    /// `None` if the line can't be read.
    fn take_line(&mut self, line: &[u8]) -> Option<()> {
        if matches!(line.first(), None | Some(b'\n' | b'\0')) {
            return Some(());
        }
        let words = quoted::split_args(line).ok()?;
        let first = words.first()?;
        if first.eq_ignore_ascii_case(b"vars") {
            return self.take_vars(&words);
        }
        let [
            name,
            address,
            flags,
            master,
            ping,
            pong,
            epoch,
            _,
            slots @ ..,
        ] = words.as_slice()
        else {
            return None;
        };
        let id = self.node(name)?;
        self.take_address(id, address)?;
        self.take_flags(id, flags)?;
        if master.first() != Some(&b'-') {
            self.take_master(id, master)?;
        }
        let now_ms = self.cluster.now_ms;
        let node = self.cluster.nodes.get_mut(&id)?;
        if atoi(ping) != 0 {
            node.ping_sent_ms = now_ms;
        }
        if atoi(pong) != 0 {
            node.pong_received_ms = now_ms;
        }
        if !(node.is_replica() && node.master.is_some()) {
            node.config_epoch = epoch_of(epoch);
        }
        slots
            .iter()
            .try_for_each(|slots| self.take_slots(id, slots))
    }

    fn take_vars(&mut self, words: &[Vec<u8>]) -> Option<()> {
        let (pairs, []) = words.get(1..)?.as_chunks::<2>() else {
            return None;
        };
        for [name, value] in pairs {
            if name.eq_ignore_ascii_case(b"currentEpoch") {
                self.cluster.current_epoch = epoch_of(value);
            } else if name.eq_ignore_ascii_case(b"lastVoteEpoch") {
                self.cluster.voted_epoch = epoch_of(value);
            } else {
                let name = String::from_utf8_lossy(name);
                let text = format!("Skipping unknown cluster config variable '{name}'");
                self.cluster.log(Level::Notice, text);
            }
        }
        Some(())
    }

    /// The node of this name; a new one if there is none.
    fn node(&mut self, name: &[u8]) -> Option<Id> {
        let name = Name::parse(name)?;
        let known = self.cluster.names.get(&name).copied();
        Some(known.unwrap_or_else(|| self.cluster.add_node(name, Flags::default())))
    }

    /// `ip:port[@bus port][,hostname][,field=value]*`
    fn take_address(&mut self, id: Id, text: &[u8]) -> Option<()> {
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.split(',');
        let (ip, ports) = parts.next()?.rsplit_once(':')?;
        let hostname = parts.next().unwrap_or("");
        let (port, bus_port) = match ports.split_once('@') {
            Some((port, bus_port)) => (port_of(port), Some(port_of(bus_port))),
            None => (port_of(ports), None),
        };
        let fields = parts
            .map(|part| part.split_once('='))
            .collect::<Option<Vec<_>>>()?;
        let node = self.cluster.nodes.get_mut(&id)?;
        (node.ip, node.hostname) = (ip.into(), hostname.into());
        let tls_bus = self.cluster.settings.tls_bus;
        let (mut tcp, mut tls) = (None, None);
        for (name, value) in fields {
            if !value.bytes().all(is_field_byte) {
                return None;
            }
            match name {
                "shard-id" => {
                    node.shard = Name::parse(value.as_bytes())?;
                    self.sharded.insert(id);
                }
                "nodename" => node.nodename = value.into(),
                "tcp-port" => tcp = Some(value.parse::<u16>().ok()?),
                "tls-port" => tls = Some(value.parse::<u16>().ok()?),
                _ => return None,
            }
        }
        // The port that is no field is the other one.
        (node.port, node.tls_port) = match (tcp, tls) {
            (None, None) if tls_bus => (0, port),
            (None, tls) => (port, tls.unwrap_or(0)),
            (Some(tcp), None) => (tcp, port),
            (Some(tcp), Some(tls)) => (tcp, tls),
        };
        node.bus_port = bus_port.unwrap_or(node.ports(tls_bus).0.saturating_add(BUS_PORT_STEP));
        Some(())
    }

    fn take_flags(&mut self, id: Id, text: &[u8]) -> Option<()> {
        let now_ms = self.cluster.now_ms;
        let node = self.cluster.nodes.get_mut(&id)?;
        for word in text.split(|b| *b == b',') {
            if word.eq_ignore_ascii_case(NO_FLAGS.as_bytes()) {
                continue;
            }
            let named = |(_, name): &&(Flags, &str)| word.eq_ignore_ascii_case(name.as_bytes());
            let (flag, _) = FLAG_NAMES.iter().find(named)?;
            node.flags.set(*flag, true);
            if *flag == Flags::FAIL {
                node.failed_ms = now_ms;
            }
            if *flag == Flags::MYSELF && self.me.replace(id).is_some() {
                return None;
            }
        }
        Some(())
    }

    fn take_master(&mut self, id: Id, name: &[u8]) -> Option<()> {
        let master = self.node(name)?;
        self.cluster.nodes.get_mut(&id)?.master = Some(master);
        self.cluster.add_replica(master, id);
        Some(())
    }

    /// A slot, a range of them, or one that is on its way.
    fn take_slots(&mut self, id: Id, text: &[u8]) -> Option<()> {
        if let Some(inner) = text.strip_prefix(b"[") {
            return self.take_moving(inner.strip_suffix(b"]")?);
        }
        let mut ends = text.splitn(2, |b| *b == b'-').map(slot_of);
        let first = ends.next()??;
        let last = ends.next().unwrap_or(Some(first))?;
        for slot in Slot::all().filter(|slot| (first..=last).contains(slot)) {
            self.cluster.give_slot(slot, id);
        }
        Some(())
    }

    /// `<slot>->-<node>` or `<slot>-<-<node>`
    fn take_moving(&mut self, text: &[u8]) -> Option<()> {
        let dash = memchr::memchr(b'-', text)?;
        let slot = slot_of(text.get(..dash)?)?;
        let (way, name) = text.get(dash + 1..)?.split_at_checked(2)?;
        let other = self.node(name)?;
        match way {
            b">-" => self.cluster.migrating.insert(slot, other),
            b"<-" => self.cluster.importing.insert(slot, other),
            _ => return None,
        };
        Some(())
    }
}

/// The number that a text begins with, as C reads it.
fn atoi(text: &[u8]) -> i64 {
    number::leading_i64(text).0
}

fn epoch_of(text: &[u8]) -> u64 {
    number::parse_u64(text).unwrap_or_else(|| u64::try_from(atoi(text)).unwrap_or(0))
}

fn port_of(text: &str) -> u16 {
    u16::try_from(atoi(text.as_bytes())).unwrap_or(0)
}

fn slot_of(text: &[u8]) -> Option<Slot> {
    Slot::new(u64::try_from(atoi(text)).ok()?)
}

/// What a field's value may hold.
fn is_field_byte(byte: u8) -> bool {
    !b"!#$%&()*+:;<>?@[]^{|}~".contains(&byte)
}
