//! The connections between nodes. Each node has one of its own to each other: it sends its messages on that and hears the
//! answers there; a message that comes on a connection which another has opened is answered on it, and that is all.
//!
//! What is sent before a connection is up waits for it: so there is a ping under way as soon as there is a link, and one
//! that never comes up counts as silence.

use bytes::Bytes;

use super::node::{Flags, Id};
use super::state::{Action, Cluster};
use super::wire::{self, Kind};
use crate::base::level::Level;

/// A connection's number. None is ever used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// What Redis counts for a link's queue and for its buffer, empty.
const QUEUE_BYTES: usize = 48;
const BUFFER_BYTES: usize = 1024;
/// What it counts for a message in a queue, beyond its bytes.
pub const MESSAGE_BYTES: usize = 40;

/// A connection.
#[derive(Clone, Debug)]
pub struct Link {
    /// The node at the other end, once that is known.
    pub node: Option<Id>,
    /// The other side has opened it.
    pub inbound: bool,
    pub created_ms: i64,
    pub is_up: bool,
    /// Where the other end is, and ours.
    pub peer_ip: String,
    pub peer_port: u16,
    pub own_ip: String,
    /// Bytes that wait to be sent, as far as was told.
    pub queued: usize,
    /// A message that is not here as a whole.
    input: Vec<u8>,
}

impl Link {
    fn new(node: Option<Id>, now_ms: i64) -> Link {
        Link {
            node,
            inbound: node.is_none(),
            created_ms: now_ms,
            is_up: false,
            peer_ip: String::new(),
            peer_port: 0,
            own_ip: String::new(),
            queued: 0,
            input: Vec::new(),
        }
    }
}

impl Cluster {
    /// All links, for CLUSTER LINKS: those whose other end is known.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        let of_node = |node: &super::Node| [node.link, node.inbound];
        let conns = self.nodes.values().flat_map(of_node).flatten();
        conns.filter_map(|conn| self.links.get(&conn))
    }

    /// How much memory the links take (`mem_cluster_links`).
    pub fn links_memory(&self) -> usize {
        let of = |link: &Link| QUEUE_BYTES + link.queued + link.input.capacity().max(BUFFER_BYTES);
        self.links.values().map(of).sum()
    }

    /// Another node has connected, from this address and to this one of ours. The number of the connection.
    pub fn accepted(&mut self, peer: (&str, u16), own_ip: &str) -> ConnId {
        let conn = ConnId(self.next_number());
        let mut link = Link::new(None, self.now_ms);
        link.is_up = true;
        (link.peer_ip, link.peer_port, link.own_ip) = (peer.0.into(), peer.1, own_ip.into());
        self.links.insert(conn, link);
        conn
    }

    /// Opens our connection to a node.
    pub(super) fn open_link_to(&mut self, id: Id) {
        let conn = ConnId(self.next_number());
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        node.link = Some(conn);
        let (ip, port) = (node.ip.clone(), node.bus_port);
        self.links.insert(conn, Link::new(Some(id), self.now_ms));
        self.out.push(Action::Connect { conn, ip, port });
    }

    /// A connection that we wanted is up: a ping goes first, or a MEET.
    pub fn connected(&mut self, conn: ConnId, peer: (&str, u16), own_ip: &str) {
        let Some(link) = self.links.get_mut(&conn) else {
            return;
        };
        link.is_up = true;
        (link.peer_ip, link.peer_port, link.own_ip) = (peer.0.into(), peer.1, own_ip.into());
        let Some(node) = link.node.and_then(|id| self.nodes.get(&id)) else {
            return;
        };
        let (id, before_ms) = (node.id, node.ping_sent_ms);
        let kind = match node.flags.has(Flags::MEET) {
            true => Kind::Meet,
            false => Kind::Ping,
        };
        let text = format!(
            "Connecting with Node {} at {}:{}",
            node.name, node.ip, node.bus_port
        );
        self.send_ping(conn, kind);
        if let Some(node) = self.nodes.get_mut(&id) {
            if before_ms != 0 {
                // It has not answered that one: it counts from there.
                node.ping_sent_ms = before_ms;
            }
            node.flags.set(Flags::MEET, false);
        }
        self.log(Level::Debug, text);
    }

    /// A connection is over, or never came up; the system's words for the reason, if there are any.
    pub fn closed(&mut self, conn: ConnId, why: Option<&str>) {
        let Some(link) = self.links.get(&conn) else {
            return;
        };
        let why = why.unwrap_or("connection closed");
        let node = link.node.and_then(|id| self.nodes.get(&id));
        let line = match node {
            Some(node) if !link.is_up => (
                Level::Verbose,
                format!(
                    "Connection with Node {} at {}:{} failed: {why}",
                    node.name, node.ip, node.bus_port
                ),
            ),
            _ => (
                Level::Debug,
                format!("I/O error reading from node link: {why}"),
            ),
        };
        self.log(line.0, line.1);
        self.forget_link(conn);
    }

    /// Closes a connection.
    pub(super) fn drop_link(&mut self, conn: ConnId) {
        if self.links.contains_key(&conn) {
            self.forget_link(conn);
            self.out.push(Action::Close(conn));
        }
    }

    fn forget_link(&mut self, conn: ConnId) {
        let link = self.links.remove(&conn);
        let node = link.and_then(|link| self.nodes.get_mut(&link.node?));
        if let Some(node) = node {
            node.link.take_if(|c| *c == conn);
            node.inbound.take_if(|c| *c == conn);
        }
    }

    /// It has turned out who has opened a connection. An older one of the same node is outdated.
    pub(super) fn bind_inbound(&mut self, conn: ConnId, id: Id) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let before = node.inbound.replace(conn);
        if let Some(link) = self.links.get_mut(&conn) {
            link.node = Some(id);
        }
        if let Some(before) = before {
            // (It must not take the new one with it.)
            if let Some(link) = self.links.get_mut(&before) {
                link.node = None;
            }
            let text = format!("Replacing inbound link from node {}", self.who(id));
            self.log(Level::Debug, text);
            self.drop_link(before);
        }
    }

    /// Closes the connections with a node (DEBUG CLUSTERLINK KILL).
    pub fn kill_links(&mut self, id: Id, to: bool, from: bool) {
        let node = self.nodes.get(&id);
        let conns = node.map_or([None, None], |node| {
            [node.link.filter(|_| to), node.inbound.filter(|_| from)]
        });
        for conn in conns.into_iter().flatten() {
            self.drop_link(conn);
        }
    }

    /// How many bytes wait to be sent on a connection.
    pub fn note_queued(&mut self, conn: ConnId, bytes: usize) {
        if let Some(link) = self.links.get_mut(&conn) {
            link.queued = bytes;
        }
    }

    /// Closes a node's connections on which too much waits (`cluster-link-sendbuf-limit`).
    pub(super) fn drop_full_links(&mut self, id: Id) {
        let limit = self.settings.link_sendbuf_limit;
        if limit == 0 {
            return;
        }
        let node = self.nodes.get(&id);
        let conns = node.map_or([None, None], |node| [node.link, node.inbound]);
        for conn in conns.into_iter().flatten() {
            let Some(link) = self.links.get(&conn).filter(|l| l.queued > limit) else {
                continue;
            };
            let way = if link.inbound { "from" } else { "to" };
            let name = self.nodes.get(&id).map(|n| n.name);
            let text = format!(
                "Freeing cluster link({way} node {}, used memory: {}) due to exceeding send buffer memory limit.",
                name.unwrap_or(super::Name::NONE),
                link.queued
            );
            self.log(Level::Warning, text);
            self.counted.over_limit += 1;
            self.drop_link(conn);
        }
    }

    /// Bytes have come on a connection.
    pub fn receive(&mut self, conn: ConnId, data: &[u8]) {
        let Some(link) = self.links.get_mut(&conn) else {
            return;
        };
        let mut input = std::mem::take(&mut link.input);
        input.extend_from_slice(data);
        let mut rest = input.as_slice();
        loop {
            match wire::length(rest) {
                Ok(Some(length)) if length <= rest.len() => {
                    let (frame, behind) = rest.split_at(length);
                    rest = behind;
                    self.hear(conn, frame);
                }
                Ok(_) => break,
                Err(wire::NoMessage) => return self.not_a_message(conn),
            }
            if !self.links.contains_key(&conn) {
                return;
            }
        }
        if let Some(link) = self.links.get_mut(&conn) {
            link.input = rest.to_vec();
        }
    }

    fn not_a_message(&mut self, conn: ConnId) {
        let peer = self.links.get(&conn).map_or_else(String::new, |link| {
            format!(" from {}:{}", link.peer_ip, link.peer_port)
        });
        let text = format!("Bad message length or signature received on the Cluster bus{peer}");
        self.log(Level::Warning, text);
        self.drop_link(conn);
    }

    /// Sends a message on a connection.
    pub(super) fn send(&mut self, conn: ConnId, kind: Kind, message: Bytes) {
        let Some(link) = self.links.get_mut(&conn) else {
            return;
        };
        link.queued += message.len() + MESSAGE_BYTES;
        self.counted.sent[kind as usize] += 1;
        self.out.push(Action::Send(conn, message));
    }

    /// Sends a message to every node that can be reached.
    pub(super) fn broadcast(&mut self, kind: Kind, message: &Bytes) {
        let out_of_it = Flags::MYSELF.or(Flags::HANDSHAKE);
        let to = self.nodes.values().filter(|n| !n.flags.has(out_of_it));
        let conns: Vec<ConnId> = to.filter_map(|node| node.link).collect();
        for conn in conns {
            self.send(conn, kind, message.clone());
        }
    }
}
