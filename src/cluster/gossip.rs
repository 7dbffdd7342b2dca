//! Gossip: each ping and pong tells of a few other nodes, so that all hear of all, and of who seems down.
//!
//! A tenth of the nodes is told of each time, three at least, chosen by chance; and all that seem down, so that it is soon
//! known whether others think so too. In twice the node timeout a node exchanges some eight messages with each other: enough
//! for reports from most masters to come together.
//!
//! Only masters' reports count. A node that we don't know is taken in when a node that we do know tells of it.

use super::links::ConnId;
use super::node::{Flags, Id, Name, Node, first_if};
use super::state::{Cluster, Todo};
use super::wire::{Body, Extension, Gossip, Header, Kind, encode};
use crate::base::level::Level;

/// A report that a node is down counts for so many node timeouts.
const REPORT_TIMEOUTS: i64 = 2;
/// The entries of a ping, at least, and which part of the nodes.
const ENTRIES_MIN: usize = 3;
const ENTRIES_PART: usize = 10;
/// Pongs that others have seen count if their time is not beyond ours by more.
const FUTURE_MS: i64 = 500;
/// So long nobody hears of a node that was forgotten, in seconds.
pub const FORGET_S: i64 = 60;

impl Cluster {
    /// What all our messages say of us. A replica shows its master's slots.
    pub(super) fn header(&self) -> Header {
        let me = self.myself();
        let master = self.my_master();
        let shown = master.filter(|_| me.is_replica()).unwrap_or(me);
        let paused = me.is_master() && self.manual.until_ms != 0;
        let settings = &self.settings;
        let (port, other_port) = first_if(settings.tls_bus, settings.tls_port, settings.port);
        Header {
            port,
            other_port,
            bus_port: self.settings.bus_port,
            current_epoch: self.current_epoch,
            config_epoch: shown.config_epoch,
            offset: self.facts.offset as u64,
            sender: me.name,
            slots: shown.slots.clone(),
            master: master.map(|master| master.name),
            ip: self.settings.ip.clone(),
            flags: me.flags,
            is_ok: self.is_ok,
            marks: if paused { super::wire::PAUSED } else { 0 },
        }
    }

    /// Sends a PING, PONG or MEET, with gossip.
    pub(super) fn send_ping(&mut self, conn: ConnId, kind: Kind) {
        let Some(link) = self.links.get(&conn) else {
            return;
        };
        if !link.inbound && kind == Kind::Ping {
            let now_ms = self.now_ms;
            if let Some(node) = link.node.and_then(|id| self.nodes.get_mut(&id)) {
                node.ping_sent_ms = now_ms;
            }
        }
        let gossip = self.choose_gossip();
        let body = Body::Gossip(gossip, self.extensions());
        let message = encode(kind, &self.header(), &body);
        self.send(conn, kind, message.into());
    }

    fn choose_gossip(&mut self) -> Vec<Gossip> {
        self.rounds += 1;
        let known = self.roster.len();
        // Neither of us nor of the one that it goes to need be told.
        let mut fresh = known.saturating_sub(2);
        let wanted = (known / ENTRIES_PART).max(ENTRIES_MIN).min(fresh);
        let mut gossip = Vec::new();
        for _ in 0..wanted * 3 {
            if fresh == 0 || gossip.len() >= wanted {
                break;
            }
            let id = self.roster[self.rng.index(known)];
            let Some(node) = self.nodes.get_mut(&id) else {
                continue;
            };
            if node.is_myself() || node.has_timed_out() {
                continue;
            }
            let unknown = Flags::HANDSHAKE.or(Flags::NOADDR);
            if node.flags.has(unknown) || (node.link.is_none() && node.slots.is_empty()) {
                fresh -= 1;
            } else if node.gossip_round != self.rounds {
                node.gossip_round = self.rounds;
                fresh -= 1;
                gossip.push(entry_of(&*node, self.settings.tls_bus));
            }
        }
        if self.timed_out > 0 {
            let out_of_it = Flags::HANDSHAKE.or(Flags::NOADDR);
            let down = |n: &&Node| n.has_timed_out() && !n.flags.has(out_of_it);
            let down = self.nodes.values().filter(down).take(self.timed_out);
            gossip.extend(down.map(|node| entry_of(node, self.settings.tls_bus)));
        }
        gossip
    }

    fn extensions(&self) -> Vec<Extension> {
        let me = self.myself();
        let mut out = Vec::new();
        if !me.hostname.is_empty() {
            out.push(Extension::Hostname(me.hostname.clone()));
        }
        if !me.nodename.is_empty() {
            out.push(Extension::Nodename(me.nodename.clone()));
        }
        let now_s = self.now_ms / 1000;
        for (name, until_s) in self.forgotten.iter().filter(|(_, s)| **s >= now_s) {
            out.push(Extension::Forgotten(*name, (until_s - now_s) as u64));
        }
        out.push(Extension::Shard(me.shard));
        out
    }

    /// Sends a PONG unasked: to all, or to the replicas of our own master.
    pub(super) fn broadcast_pong(&mut self, only_siblings: bool) {
        let (me, my_master) = (self.me, self.myself().master);
        let is_sibling = |node: &Node| {
            let master = node.master.filter(|_| node.is_replica());
            master.is_some_and(|master| master == me || Some(master) == my_master)
        };
        let hears = |node: &&Node| {
            !node.is_myself() && !node.in_handshake() && (!only_siblings || is_sibling(node))
        };
        let to = self.nodes.values().filter(hears);
        let conns: Vec<ConnId> = to.filter_map(|node| node.link).collect();
        for conn in conns {
            self.send_ping(conn, Kind::Pong);
        }
    }

    /// Takes in what a node tells of others; `sender` is `None` if we don't know it.
    pub(super) fn hear_gossip(&mut self, sender: Option<Id>, entries: &[Gossip]) {
        for entry in entries {
            match self.names.get(&entry.name) {
                Some(&id) => self.hear_of_known(sender, id, entry),
                None if sender.is_some() => self.hear_of_new(entry),
                None => {}
            }
        }
    }

    fn hear_of_known(&mut self, sender: Option<Id>, id: Id, entry: &Gossip) {
        let is_down = entry.flags.has(Flags::FAIL.or(Flags::PFAIL));
        let reporter = sender.filter(|sender| self.nodes.get(sender).is_some_and(Node::is_master));
        if let Some(reporter) = reporter.filter(|_| id != self.me) {
            self.take_report(reporter, id, is_down);
        }
        let reports = self.reports_of(id);
        let (now_ms, tls_bus) = (self.now_ms, self.settings.tls_bus);
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let seems_down = node.flags.has(Flags::FAIL.or(Flags::PFAIL));
        if !is_down && node.ping_sent_ms == 0 && reports == 0 {
            let pong_ms = i64::from(entry.pong_received_s) * 1000;
            if pong_ms <= now_ms + FUTURE_MS && pong_ms > node.pong_received_ms {
                node.pong_received_ms = pong_ms;
            }
        }
        // It can't be reached where we think it is, and somebody reaches it elsewhere.
        let elsewhere = !node.ip.eq_ignore_ascii_case(&entry.ip)
            || node.ports(tls_bus) != (entry.port, entry.other_port)
            || node.bus_port != entry.bus_port;
        if seems_down && !is_down && !entry.flags.has(Flags::NOADDR) && elsewhere {
            place(node, entry, tls_bus);
            node.flags.set(Flags::NOADDR, false);
            if let Some(conn) = node.link {
                self.drop_link(conn);
            }
        }
    }

    fn hear_of_new(&mut self, entry: &Gossip) {
        if entry.name == Name::NONE
            || entry.flags.has(Flags::NOADDR)
            || self.is_forgotten(&entry.name)
        {
            return;
        }
        let id = self.add_node(entry.name, entry.flags.without_myself());
        let tls_bus = self.settings.tls_bus;
        if let Some(node) = self.nodes.get_mut(&id) {
            place(node, entry, tls_bus);
        }
    }

    /// A master says that a node is down, or that it is not.
    fn take_report(&mut self, reporter: Id, id: Id, is_down: bool) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let said = match is_down {
            true if node.reports.insert(reporter, now_ms).is_none() => "as not reachable",
            false if node.reports.remove(&reporter).is_some() => "is back online",
            _ => "",
        };
        if !said.is_empty() {
            let text = format!(
                "Node {} reported node {} {said}.",
                self.who(reporter),
                self.who(id)
            );
            self.log(Level::Verbose, text);
        }
        if is_down {
            self.fail_if_agreed(id);
        } else {
            self.reports_of(id);
        }
    }

    /// How many other nodes say that a node is down, and have said so of late.
    pub fn reports_of(&mut self, id: Id) -> usize {
        let oldest_ms = self.now_ms - self.settings.node_timeout_ms * REPORT_TIMEOUTS;
        let Some(node) = self.nodes.get_mut(&id) else {
            return 0;
        };
        node.reports.retain(|_, at_ms| *at_ms >= oldest_ms);
        node.reports.len()
    }

    /// A node that seems down to us has failed if most masters say so: then all are told.
    pub(super) fn fail_if_agreed(&mut self, id: Id) {
        let seems = |n: &Node| n.has_timed_out() && !n.has_failed();
        if !self.nodes.get(&id).is_some_and(seems) {
            return;
        }
        let votes = self.reports_of(id) + usize::from(self.myself().is_master());
        if votes < self.quorum() {
            return;
        }
        let text = format!("Marking node {} as failing (quorum reached).", self.who(id));
        self.log(Level::Notice, text);
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        node.has_failed_at(now_ms);
        let body = Body::Fail(node.name);
        let message = encode(Kind::Fail, &self.header(), &body).into();
        self.broadcast(Kind::Fail, &message);
        self.do_later(Todo::JUDGE.and(Todo::SAVE));
    }

    /// A node that has failed answers again.
    pub(super) fn undo_failure(&mut self, id: Id) {
        let Some(node) = self.nodes.get(&id) else {
            return;
        };
        let undo_ms = self.settings.node_timeout_ms * REPORT_TIMEOUTS;
        let (name, people) = (node.name, &node.nodename);
        let text = if node.is_replica() || node.slots.is_empty() {
            let what = match node.is_replica() {
                true => "replica",
                false => "master without slots",
            };
            format!("Clear FAIL state for node {name} ({people}):{what} is reachable again.")
        } else if self.now_ms - node.failed_ms > undo_ms {
            // Nobody has taken its place: it may go on.
            format!(
                "Clear FAIL state for node {name} ({people}): is reachable again and nobody is serving its slots after some time."
            )
        } else {
            return;
        };
        self.log(Level::Notice, text);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.flags.set(Flags::FAIL, false);
        }
        self.do_later(Todo::JUDGE.and(Todo::SAVE));
    }

    /// How many masters have to agree.
    pub fn quorum(&self) -> usize {
        self.size / 2 + 1
    }

    /// Takes in what a node tells of itself beyond the header.
    pub(super) fn hear_extensions(&mut self, sender: Id, extensions: &[Extension]) {
        let (mut hostname, mut nodename, mut shard) = ("", "", None);
        for extension in extensions {
            match extension {
                Extension::Hostname(name) => hostname = name,
                Extension::Nodename(name) => nodename = name,
                Extension::Forgotten(name, ttl_s) => self.forget_too(name, *ttl_s),
                Extension::Shard(name) => shard = Some(*name),
                Extension::Unknown(number) => {
                    let text = format!("Received unknown extension type {number}");
                    self.log(Level::Warning, text);
                }
            }
        }
        // (It may have been told to forget itself.)
        let Some(node) = self.nodes.get_mut(&sender) else {
            return;
        };
        if node.hostname != hostname || node.nodename != nodename {
            (node.hostname, node.nodename) = (hostname.into(), nodename.into());
            self.do_later(Todo::SAVE);
        }
        let of_master = self.node(sender).map(|node| self.master_of(node).shard);
        if let Some(shard) = shard.or(of_master) {
            self.put_in_shard(sender, shard);
        }
    }

    /// A node is in this shard; and so are we, if it is our master.
    pub(super) fn put_in_shard(&mut self, id: Id, shard: Name) {
        if let Some(node) = self.nodes.get_mut(&id)
            && node.shard != shard
        {
            node.shard = shard;
            self.do_later(Todo::SAVE);
        }
        if self.myself().master == Some(id)
            && let Some(me) = self.me_mut()
            && me.shard != shard
        {
            me.shard = shard;
            self.do_later(Todo::SAVE.and(Todo::SURE));
        }
    }

    /// Another node has forgotten a third: so do we, unless it is us or our master.
    fn forget_too(&mut self, name: &Name, ttl_s: u64) {
        let Some(&id) = self.names.get(name) else {
            return;
        };
        let my_master = self.myself().master.filter(|_| self.myself().is_replica());
        if id == self.me || my_master == Some(id) {
            return;
        }
        let ttl_s = i64::try_from(ttl_s).unwrap_or(i64::MAX);
        let until_s = (self.now_ms / 1000).saturating_add(ttl_s);
        self.forgotten.insert(*name, until_s);
        self.remove_node(id);
        self.do_later(Todo::JUDGE.and(Todo::SAVE));
    }

    /// True if nothing is to be heard of this node for now.
    pub fn is_forgotten(&mut self, name: &Name) -> bool {
        let now_s = self.now_ms / 1000;
        self.forgotten.retain(|_, until_s| *until_s >= now_s);
        self.forgotten.contains_key(name)
    }
}

fn entry_of(node: &Node, tls_bus: bool) -> Gossip {
    let (port, other_port) = node.ports(tls_bus);
    Gossip {
        name: node.name,
        ping_sent_s: seconds(node.ping_sent_ms),
        pong_received_s: seconds(node.pong_received_ms),
        ip: node.ip.clone(),
        port,
        bus_port: node.bus_port,
        flags: node.flags,
        other_port,
    }
}

/// A time as the wire has it.
fn seconds(ms: i64) -> u32 {
    (ms / 1000) as u32
}

/// A node is where the entry says.
fn place(node: &mut Node, entry: &Gossip, tls_bus: bool) {
    node.ip.clone_from(&entry.ip);
    node.set_ports(tls_bus, entry.port, entry.other_port);
    node.bus_port = entry.bus_port;
}
