//! The network: connections as two ways of bytes, each with a delay, a window and an end.
//!
//! ```text
//! sender ──▶ [segment, arrives at t1][segment, t2][end] ──▶ receiver
//!            |<------ no more than the window, with what the receiver has not read ------>|
//! ```
//! A connection may be cut at any byte: what is beyond is lost, and either end hears of an end or of a reset, or nothing at all
//! (then it is half open: whatever is sent on it is swallowed). A partition holds segments up, as TCP would send them again,
//! and lets no new connection through. A machine that lost its power answers nothing until it is back, and then with a reset.

use std::collections::VecDeque;

use crate::exec::conn::{Peer, Token};
use crate::exec::link::Target;

use super::clients::Talk;
use super::world::{Event, MS, Node, SECOND, US, World};

/// Where all nodes listen for clients, and those of a cluster for each other.
pub const PORT: u16 = 6379;
pub const BUS_PORT: u16 = PORT + 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// From the end that called to the other, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    There,
    Back,
}

impl Way {
    /// The number of the end it leads to; the other is where it begins.
    fn to(self) -> usize {
        match self {
            Way::There => 1,
            Way::Back => 0,
        }
    }
}

/// Who is at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Node {
        at: usize,
        boot: u64,
        token: Token,
    },
    Client(usize),
    /// The call was not answered yet.
    Nobody,
    /// It was closed, or its process is no more.
    Gone,
}

/// How a way ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    End,
    Reset,
}

struct Segment {
    at_ns: u64,
    bytes: Vec<u8>,
    last: Option<Last>,
}

#[derive(Default)]
struct Flow {
    flying: VecDeque<Segment>,
    /// Bytes sent which the receiver has not read.
    unread: usize,
    /// Of those, the ones that have arrived.
    arrived: usize,
    /// When the last segment arrives.
    busy_until_ns: u64,
}

/// A connection.
pub struct Conn {
    pub ends: [End; 2],
    /// Sites, by the number of the end.
    pub sites: [usize; 2],
    ways: [Flow; 2],
    latency_ns: u64,
    /// Bytes a millisecond; none: any number.
    rate: Option<usize>,
    window: usize,
    /// The port that was called.
    port: u16,
    /// It is cut: nothing more gets in.
    cut: bool,
    /// A client's talk on it.
    pub talk: Option<Box<Talk>>,
}

impl Conn {
    fn way(&mut self, way: Way) -> &mut Flow {
        &mut self.ways[way as usize]
    }

    /// The way that begins at this end.
    fn from(end: usize) -> Way {
        match end {
            0 => Way::There,
            _ => Way::Back,
        }
    }

    /// The end where a node is.
    fn end_of(&self, at: usize, token: Token) -> Option<usize> {
        let is_it =
            |end: &End| matches!(end, End::Node { at: a, token: t, .. } if *a == at && *t == token);
        self.ends.iter().position(is_it)
    }
}

impl World {
    fn new_conn(
        &mut self,
        caller: End,
        sites: [usize; 2],
        port: u16,
        talk: Option<Box<Talk>>,
    ) -> ConnId {
        self.next_conn += 1;
        let id = ConnId(self.next_conn);
        let latency_ns = match self.rng.below(10) {
            0 => 5 * MS + self.rng.below(40 * MS),
            _ => 100 * US + self.rng.below(2 * MS),
        };
        let window = match self.rng.below(8) {
            0 => 512 + self.rng.index(4096),
            _ => 64 * 1024,
        };
        let conn = Conn {
            ends: [caller, End::Nobody],
            sites,
            ways: Default::default(),
            latency_ns,
            rate: None,
            window,
            port,
            cut: false,
            talk,
        };
        self.conns.insert(id, conn);
        id
    }

    /// A node calls another.
    pub fn dial(&mut self, at: usize, token: Token, target: &Target) {
        let there = (0..self.nodes.len()).find(|&n| Node::ip(n) == target.host);
        let Some(there) = there else {
            return;
        };
        let boot = self.nodes[at].boot;
        let caller = End::Node { at, boot, token };
        let id = self.new_conn(caller, [at, there], target.port, None);
        self.nodes[at].ends.insert(token, id);
        self.call(id);
    }

    /// A client calls a node.
    pub fn dial_for_client(&mut self, client: usize, there: usize) -> ConnId {
        let sites = [self.outside(), there];
        let id = self.new_conn(End::Client(client), sites, PORT, Some(Box::default()));
        self.call(id);
        id
    }

    fn call(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(&id) {
            let delay = 2 * conn.latency_ns;
            self.after(delay, Event::Dial(id));
        }
    }

    /// A call reaches the other side.
    pub fn dial_on(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        let ([here, there], caller, port) = (conn.sites, conn.ends[0], conn.port);
        if caller == End::Gone {
            self.conns.remove(&id);
            return;
        }
        let lost = self.blocked[here][there] || self.blocked[there][here];
        if lost || !self.nodes[there].powered {
            // It is tried again as long as the caller waits.
            return self.after(SECOND, Event::Dial(id));
        }
        let peer = Peer {
            addr: format!("{}:{}", Node::ip(here), 40_000 + id.0 % 20_000),
            laddr: format!("{}:{port}", Node::ip(there)),
            fd: 8,
            unix_socket: false,
            loopback: false,
        };
        let boot = self.nodes[there].boot;
        let taken = match &mut self.nodes[there].server {
            Some(server) if port == BUS_PORT => server.connect_bus(peer),
            Some(server) => server.try_connect(peer).ok(),
            None => None,
        };
        let Some(token) = taken else {
            return self.refused(id, caller);
        };
        self.note(&format!("c{} s{here} -> n{there}", id.0));
        self.nodes[there].ends.insert(token, id);
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let window = conn.window;
        conn.ends[1] = End::Node {
            at: there,
            boot,
            token,
        };
        if let Some(server) = &mut self.nodes[there].server {
            server.give_room(token, window);
        }
        match caller {
            End::Node { at, token, .. } => {
                let peer = Peer {
                    addr: format!("{}:{port}", Node::ip(there)),
                    laddr: format!("{}:{}", Node::ip(here), 40_000 + id.0 % 20_000),
                    fd: 9,
                    unix_socket: false,
                    loopback: false,
                };
                if let Some(server) = &mut self.nodes[at].server {
                    server.give_room(token, window);
                    server.link_up(token, peer);
                }
                self.drive(at);
            }
            End::Client(client) => self.client_connected(client, id),
            End::Nobody | End::Gone => {}
        }
    }

    fn refused(&mut self, id: ConnId, caller: End) {
        self.conns.remove(&id);
        match caller {
            End::Node { at, token, .. } => {
                self.nodes[at].ends.remove(&token);
                if let Some(server) = &mut self.nodes[at].server {
                    server.reset(token, "Connection refused");
                }
                self.drive(at);
            }
            End::Client(client) => self.client_disconnected(client, id),
            End::Nobody | End::Gone => {}
        }
    }

    /// Bytes, an end, or both are sent on a way.
    pub fn send(&mut self, id: ConnId, way: Way, mut bytes: Vec<u8>, last: Option<Last>) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.cut) else {
            return;
        };
        conn.way(way).unread += bytes.len();
        let (latency, rate) = (conn.latency_ns, conn.rate);
        // Now and then what was said at once arrives in pieces.
        let mut rest = Vec::new();
        if bytes.len() > 1 && self.rng.below(4) == 0 {
            rest = bytes.split_off(1 + self.rng.index(bytes.len() - 1));
        }
        for (bytes, is_last) in [(bytes, rest.is_empty()), (rest, true)] {
            let last = last.filter(|_| is_last);
            if bytes.is_empty() && last.is_none() {
                continue;
            }
            let jitter = self.rng.below(latency / 2 + US);
            let now_ns = self.now_ns;
            let Some(conn) = self.conns.get_mut(&id) else {
                return;
            };
            let takes = rate.map_or(0, |rate| (bytes.len() / rate.max(1)) as u64 * MS);
            let flow = conn.way(way);
            let at_ns = (now_ns + latency + jitter).max(flow.busy_until_ns) + takes;
            let at_ns = at_ns.next_multiple_of(US);
            flow.busy_until_ns = at_ns;
            flow.flying.push_back(Segment { at_ns, bytes, last });
            self.at(at_ns, Event::Arrive(id, way));
        }
    }

    /// What a node has to say on a connection goes on its way.
    pub fn take_output(&mut self, at: usize, token: Token, id: ConnId) {
        let Some(server) = &mut self.nodes[at].server else {
            return;
        };
        let bytes = server.receive(token);
        if bytes.is_empty() {
            return;
        }
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let Some(end) = conn.end_of(at, token) else {
            return;
        };
        if conn.talk.is_some() {
            self.overhear(at, token, id, &bytes);
        } else if conn.port == BUS_PORT {
            let to = conn.sites[1 - end];
            self.overhear_bus(at, id, to, &bytes);
        }
        self.send(id, Conn::from(end), bytes, None);
    }

    /// What a node has read makes room for its peer.
    pub fn note_read(&mut self, at: usize, token: Token, id: ConnId) {
        let Some(server) = &self.nodes[at].server else {
            return;
        };
        let held = server.unread(token);
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let Some(end) = conn.end_of(at, token) else {
            return;
        };
        let peer = conn.ends[1 - end];
        let flow = conn.way(Conn::from(1 - end));
        let read = flow.arrived.saturating_sub(held);
        if read == 0 {
            return;
        }
        flow.arrived -= read;
        flow.unread -= read;
        let latency = conn.latency_ns;
        if let End::Node { at, boot, token } = peer
            && self.nodes[at].boot == boot
            && let Some(server) = &mut self.nodes[at].server
            && server.give_room(token, read)
        {
            self.after(latency, Event::Wake(at));
            self.nodes[at].wake_now();
        }
    }

    /// Something reaches an end.
    pub fn arrive(&mut self, id: ConnId, way: Way) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let to = way.to();
        let (from_site, to_site) = (conn.sites[1 - to], conn.sites[to]);
        let end = conn.ends[to];
        let now_ns = self.now_ns;
        let due = conn
            .way(way)
            .flying
            .front()
            .is_some_and(|s| s.at_ns <= now_ns);
        if !due {
            return;
        }
        let down =
            matches!(end, End::Gone) && to_site < self.nodes.len() && !self.nodes[to_site].powered;
        if self.blocked[from_site][to_site] || down {
            // It is sent again and again.
            let delay = 100 * MS + self.rng.below(200 * MS);
            return self.after(delay, Event::Arrive(id, way));
        }
        let Some(segment) = conn.way(way).flying.pop_front() else {
            return;
        };
        // What a partition has held up comes all at once.
        if conn
            .way(way)
            .flying
            .front()
            .is_some_and(|s| s.at_ns <= now_ns)
        {
            self.after(0, Event::Arrive(id, way));
        }
        match end {
            End::Node { at, token, .. } => self.hand_over(at, token, id, way, segment),
            End::Client(client) => self.hear(client, id, segment.bytes.len(), segment.last),
            End::Gone => self.answer_with_reset(id, way, &segment),
            End::Nobody => {}
        }
    }

    fn hand_over(&mut self, at: usize, token: Token, id: ConnId, way: Way, segment: Segment) {
        let Segment { bytes, last, .. } = segment;
        if !bytes.is_empty() {
            self.note(&format!("c{} n{at} gets {}", id.0, bytes.len()));
        }
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.way(way).arrived += bytes.len();
        }
        let Some(server) = &mut self.nodes[at].server else {
            return;
        };
        if !bytes.is_empty() {
            server.arrive(token, &bytes);
        }
        match last {
            Some(Last::End) => server.hear_end(token),
            Some(Last::Reset) => server.reset(token, "Connection reset by peer"),
            None => {}
        }
        self.drive(at);
    }

    /// Nobody is there who would take it.
    fn answer_with_reset(&mut self, id: ConnId, way: Way, segment: &Segment) {
        if segment.bytes.is_empty() {
            return self.forget_if_over(id);
        }
        let back = match way {
            Way::There => Way::Back,
            Way::Back => Way::There,
        };
        self.send(id, back, Vec::new(), Some(Last::Reset));
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.cut = true;
        }
        self.forget_if_over(id);
    }

    fn forget_if_over(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(&id)
            && conn
                .ends
                .iter()
                .all(|end| matches!(end, End::Gone | End::Nobody))
        {
            self.conns.remove(&id);
        }
    }

    /// A server has closed its end.
    pub fn closed(&mut self, at: usize, token: Token, last: Vec<u8>) {
        let Some(id) = self.nodes[at].ends.remove(&token) else {
            return;
        };
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let Some(end) = conn.end_of(at, token) else {
            return;
        };
        if !last.is_empty() && conn.talk.is_some() {
            self.overhear(at, token, id, &last);
        }
        self.send(id, Conn::from(end), last, Some(Last::End));
        self.leave(id, end);
    }

    /// An end is gone.
    pub fn leave(&mut self, id: ConnId, end: usize) {
        if let Some(conn) = self.conns.get_mut(&id) {
            // A call that was not answered yet is given up when it is next tried.
            let unanswered = conn.ends[1] == End::Nobody;
            conn.ends[end] = End::Gone;
            if !unanswered {
                self.forget_if_over(id);
            }
        }
    }

    /// The process at a node's end is gone, or the machine.
    pub fn orphan(&mut self, id: ConnId, at: usize, power: bool) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        let is_it = |end: &End| matches!(end, End::Node { at: a, .. } if *a == at);
        let Some(end) = conn.ends.iter().position(is_it) else {
            return;
        };
        if !power {
            let last = if self.rng.below(2) == 0 {
                Last::End
            } else {
                Last::Reset
            };
            self.send(id, Conn::from(end), Vec::new(), Some(last));
        }
        self.leave(id, end);
    }

    /// Cuts a connection at some byte of what is on its way.
    pub fn cut(&mut self, id: ConnId) {
        let how = self.rng.below(3);
        let keep = self.rng.f64();
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.cut) else {
            return;
        };
        let sites = conn.sites;
        for way in [Way::There, Way::Back] {
            let flow = conn.way(way);
            let flying: usize = flow.flying.iter().map(|s| s.bytes.len()).sum();
            let mut left = (flying as f64 * keep) as usize;
            for segment in &mut flow.flying {
                segment.bytes.truncate(left);
                left -= segment.bytes.len();
                segment.last = None;
            }
        }
        let words = ["ends", "is reset", "is half open"][how as usize];
        self.note(&format!("c{} s{} - s{} {words}", id.0, sites[0], sites[1]));
        let last = match how {
            0 => Some(Last::End),
            1 => Some(Last::Reset),
            _ => None,
        };
        if last.is_some() {
            self.send(id, Way::There, Vec::new(), last);
            self.send(id, Way::Back, Vec::new(), last);
        }
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.cut = true;
        }
    }

    /// A connection that was cut is given up by both ends, as TCP does in the end. (A node hears another on the other's own
    /// connection, and then its own may be half open for as long as that takes: so it is with Redis.)
    pub fn give_up(&mut self, id: ConnId) {
        let at_ns = self.now_ns.next_multiple_of(US);
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.cut) else {
            return;
        };
        for way in [Way::There, Way::Back] {
            let flying = &mut conn.way(way).flying;
            let at_ns = flying.back().map_or(at_ns, |last| last.at_ns.max(at_ns));
            flying.push_back(Segment {
                at_ns,
                bytes: Vec::new(),
                last: Some(Last::Reset),
            });
        }
        self.after(SECOND, Event::Arrive(id, Way::There));
        self.after(SECOND, Event::Arrive(id, Way::Back));
    }

    /// A connection becomes slow.
    pub fn slow_down(&mut self, id: ConnId, rate: usize) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.rate = Some(rate);
        }
    }

    /// It is as fast as the others again: what was on its way for long is there soon.
    pub fn hasten(&mut self, id: ConnId) {
        let now_ns = self.now_ns;
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.rate.is_some()) else {
            return;
        };
        conn.rate = None;
        let soon_ns = (now_ns + conn.latency_ns).next_multiple_of(US);
        for way in [Way::There, Way::Back] {
            let Some(conn) = self.conns.get_mut(&id) else {
                return;
            };
            let flow = conn.way(way);
            flow.busy_until_ns = flow.busy_until_ns.min(soon_ns);
            for segment in &mut flow.flying {
                segment.at_ns = segment.at_ns.min(soon_ns);
            }
            self.at(soon_ns, Event::Arrive(id, way));
        }
    }
}
