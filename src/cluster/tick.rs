//! What is done ten times a second: connect, ping, judge who is down.
//!
//! Once a second a node is pinged that was chosen by chance: of a few, the one that has been silent longest. Besides, nobody
//! stays without a ping for more than half the node timeout. Who does not answer for half of it is connected anew; who
//! does not for all of it seems down (PFAIL).

use super::node::{Flags, Id};
use super::state::{Action, Cluster};
use super::wire::Kind;
use crate::base::level::Level;

const TICK_MS: i64 = 100;
/// Every so many ticks a node is pinged by chance, of so many that are looked at.
const CHANCE_TICKS: u64 = 10;
const CHANCE_LOOKS: usize = 5;
/// A handshake may take the node timeout, but so long at least.
const HANDSHAKE_MS_MIN: i64 = 1000;

/// What a replica learns of masters and their replicas while it looks at all.
#[derive(Clone, Copy, Debug, Default)]
struct Census {
    /// Masters that have lost all their replicas.
    orphans: usize,
    /// The most replicas that a master has, and how many ours has; those that have failed do not count.
    most: usize,
    ours: usize,
}

impl Cluster {
    /// One round.
    pub fn tick(&mut self) {
        self.next_tick_ms = self.now_ms + TICK_MS;
        self.ticks += 1;
        self.reconnect();
        if self.ticks.is_multiple_of(CHANCE_TICKS) {
            self.ping_by_chance();
        }
        let mut census = Census::default();
        let mut changed = false;
        let ids: Vec<Id> = self.nodes.keys().copied().collect();
        for id in ids {
            self.count(id, &mut census);
            changed |= self.look_at(id);
        }
        self.follow_if_up();
        self.check_manual_timeout();
        if self.myself().is_replica() {
            self.follow_grandmaster();
            self.manual_step();
            self.failover_step();
            let may_move = self.settings.allow_replica_migration && self.myself().is_replica();
            if may_move && census.orphans > 0 && census.most >= 2 && census.ours == census.most {
                self.move_to_orphan(census.most);
            }
        }
        if changed || !self.is_ok {
            self.judge();
        }
    }

    /// Opens the connections that are missing, and gives up on handshakes that come to nothing.
    fn reconnect(&mut self) {
        let handshake_ms = self.settings.node_timeout_ms.max(HANDSHAKE_MS_MIN);
        self.timed_out = 0;
        let ids: Vec<Id> = self.nodes.keys().copied().collect();
        for id in ids {
            self.drop_full_links(id);
            let Some(node) = self.nodes.get(&id) else {
                continue;
            };
            if node.flags.has(Flags::MYSELF.or(Flags::NOADDR)) {
                continue;
            }
            self.timed_out += usize::from(node.has_timed_out());
            if node.in_handshake() && self.now_ms - node.created_ms > handshake_ms {
                self.remove_node(id);
            } else if node.link.is_none() {
                self.open_link_to(id);
            }
        }
    }

    fn ping_by_chance(&mut self) {
        let mut oldest = None;
        for _ in 0..CHANCE_LOOKS {
            let id = self.roster[self.rng.index(self.roster.len())];
            let out_of_it = Flags::MYSELF.or(Flags::HANDSHAKE);
            let idle = |n: &&super::Node| n.ping_sent_ms == 0 && !n.flags.has(out_of_it);
            let node = self.nodes.get(&id).filter(idle);
            let Some((node, link)) = node.and_then(|node| Some((node, node.link?))) else {
                continue;
            };
            if oldest.is_none_or(|(_, _, ms)| node.pong_received_ms < ms) {
                oldest = Some((link, node.name, node.pong_received_ms));
            }
        }
        if let Some((link, name, _)) = oldest {
            self.log(Level::Debug, format!("Pinging node {name}"));
            self.send_ping(link, Kind::Ping);
        }
    }

    fn count(&self, id: Id, census: &mut Census) {
        let me = self.myself();
        let out_of_it = Flags::MYSELF.or(Flags::NOADDR).or(Flags::HANDSHAKE);
        let counts = |n: &&super::Node| {
            me.is_replica() && n.is_master() && !n.has_failed() && !n.flags.has(out_of_it)
        };
        let Some(master) = self.nodes.get(&id).filter(counts) else {
            return;
        };
        let well = self.count_well(id);
        let attracts = master.flags.has(Flags::MIGRATE_TO) && !master.slots.is_empty();
        census.orphans += usize::from(well == 0 && attracts);
        census.most = census.most.max(well);
        if me.master == Some(id) {
            census.ours = well;
        }
    }

    /// Looks at one node; true if it seems down from now on.
    fn look_at(&mut self, id: Id) -> bool {
        let out_of_it = Flags::MYSELF.or(Flags::NOADDR).or(Flags::HANDSHAKE);
        let (now_ms, timeout_ms) = (self.now_ms, self.settings.node_timeout_ms);
        let Some(node) = self.nodes.get(&id).filter(|n| !n.flags.has(out_of_it)) else {
            return false;
        };
        let (sent_ms, pong_ms) = (node.ping_sent_ms, node.pong_received_ms);
        let silent_ms = (now_ms - sent_ms).min(now_ms - node.heard_ms);
        let mut link = node.link;
        if let Some(conn) = link {
            let created_ms = self.links.get(&conn).map_or(0, |link| link.created_ms);
            let is_old = now_ms - created_ms > timeout_ms;
            if is_old && sent_ms != 0 && silent_ms > timeout_ms / 2 {
                // Maybe it is only the connection: another will be made.
                self.drop_link(conn);
                link = None;
            }
        }
        let interval_ms = match self.settings.ping_interval_ms {
            0 => timeout_ms / 2,
            ms => ms,
        };
        // A replica that waits for us, held for its failover, is to hear at once how far we are.
        let waits = self.manual.until_ms != 0
            && self.myself().is_master()
            && self.manual.replica == Some(id);
        if let Some(link) = link
            && (waits || (sent_ms == 0 && now_ms - pong_ms > interval_ms))
        {
            self.send_ping(link, Kind::Ping);
            return false;
        }
        if sent_ms == 0 || silent_ms <= timeout_ms {
            return false;
        }
        let Some(node) = self.nodes.get_mut(&id) else {
            return false;
        };
        if node.flags.has(Flags::PFAIL.or(Flags::FAIL)) {
            return false;
        }
        node.flags.set(Flags::PFAIL, true);
        if self.myself().is_master() && self.size == 1 {
            self.fail_if_agreed(id);
        } else {
            let name = self.nodes.get(&id).map(|node| node.name);
            let name = name.unwrap_or(super::Name::NONE);
            self.log(Level::Debug, format!("*** NODE {name} possibly failing"));
        }
        true
    }

    /// A replica that does not follow its master yet (it has just begun) does, once it knows where that is.
    fn follow_if_up(&mut self) {
        let master = self.my_master().filter(|master| master.has_address());
        if self.myself().is_replica()
            && !self.facts.follows
            && let Some(master) = master
        {
            let (ip, port) = (master.ip.clone(), self.replication_port(master));
            self.out.push(Action::Follow { ip, port });
            self.facts.follows = true;
        }
    }
}
