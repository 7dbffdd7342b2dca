//! What goes wrong in a town, and what people do there.

use super::super::faults::FAULTS_UNTIL;
use super::super::net::PORT;
use super::super::world::{Event, MS, Node, SECOND, World};

/// How far the town is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// The nodes know nobody, and are told of each other.
    #[default]
    Meeting,
    /// Masters have their slots, replicas are told whom to follow.
    Following,
    /// It serves.
    Open,
}

impl World {
    /// The operator looks after the town.
    pub fn tend_town(&mut self) {
        let pause = 200 * MS + self.rng.below(300 * MS);
        let carries = self.town.moving.is_some() || self.now_ns >= FAULTS_UNTIL;
        self.after(if carries { pause / 4 } else { pause }, Event::Operate);
        match self.town.stage {
            Stage::Meeting => self.introduce(),
            Stage::Following => self.assign_replicas(),
            Stage::Open if self.now_ns < FAULTS_UNTIL => self.act(),
            Stage::Open => self.tidy_slots(),
        }
    }

    fn all_are_up(&self) -> bool {
        (0..self.nodes.len()).all(|at| self.is_reachable(at))
    }

    /// The first node meets all others; the slots are given out.
    fn introduce(&mut self) {
        if !self.all_are_up() {
            return;
        }
        for at in 1..self.nodes.len() {
            let (ip, port) = (Node::ip(at), PORT.to_string());
            self.tell(0, &["CLUSTER", "MEET", &ip, &port]);
        }
        for at in 0..self.town.masters {
            let (first, last) = self.town.slots_of(at);
            let (first, last) = (first.to_string(), last.to_string());
            self.tell(at, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        self.town.stage = Stage::Following;
    }

    /// Replicas follow, once they know whom; then all write down what they have.
    fn assign_replicas(&mut self) {
        let mut done = true;
        for at in 0..self.nodes.len() {
            let parent = self.town.parents[at];
            let names = &self.town.names;
            let parent_name = names
                .iter()
                .find(|(_, n)| **n == parent)
                .map(|(name, _)| *name);
            let Some(parent_name) = parent_name else {
                return;
            };
            let server = self.nodes[at].server.as_ref().map(|s| &s.server);
            let Some(cluster) = server.and_then(|s| s.cluster.as_ref()) else {
                return;
            };
            let knows_all = cluster.known() == self.nodes.len()
                && cluster.all().all(|node| !node.in_handshake());
            done &= knows_all && cluster.is_ok();
            if at == parent {
                continue;
            }
            let follows = cluster.my_master().is_some_and(|m| m.name == parent_name);
            done &= follows && server.is_some_and(|s| s.link_is_up());
            if !follows && knows_all {
                let name = parent_name.to_string();
                self.tell(at, &["CLUSTER", "REPLICATE", &name]);
            }
        }
        if done {
            for at in 0..self.nodes.len() {
                self.tell(at, &["CLUSTER", "SAVECONFIG"]);
            }
            self.note("the town is open");
            self.town.stage = Stage::Open;
        }
    }

    /// Now and then he does something that is no fault.
    fn act(&mut self) {
        if self.town.moving.is_some() {
            self.carry();
            if self.town.calm {
                // As with Redis, a replica knows nothing of slots that its master sends away.
                return;
            }
        } else if self.rng.below(15) == 0 {
            self.begin_move();
        }
        if self.rng.below(25) == 0 {
            self.fail_over_by_hand();
        }
    }

    fn fail_over_by_hand(&mut self) {
        let at = self.rng.index(self.nodes.len());
        let server = self.nodes[at].server.as_ref().map(|s| &s.server);
        let cluster = server.and_then(|s| s.cluster.as_ref());
        if !self.is_reachable(at) || cluster.is_none_or(|c| !c.myself().is_replica()) {
            return;
        }
        let force = !self.town.calm && self.rng.below(4) == 0;
        match force {
            true => self.tell(at, &["CLUSTER", "FAILOVER", "FORCE"]),
            false => self.tell(at, &["CLUSTER", "FAILOVER"]),
        }
    }

    /// A fault.
    pub fn strike_town(&mut self) {
        if self.now_ns >= FAULTS_UNTIL {
            self.end_faults();
            let ids: Vec<_> = self.conns.keys().copied().collect();
            for id in ids {
                self.give_up(id);
            }
            return;
        }
        let pause = match self.rng.below(4) {
            0 => self.rng.below(300 * MS),
            _ => 300 * MS + self.rng.below(4 * SECOND),
        };
        self.after(pause, Event::Strike);
        let at = self.rng.index(self.nodes.len());
        let fault = self.rng.below(100);
        if self.town.stage != Stage::Open {
            return;
        }
        let fault = if self.town.calm { fault % 40 } else { fault };
        match fault {
            0..20 => self.cut_some(true),
            20..28 => self.cut_some(false),
            28..34 => self.tell_if_up(at, &["BGSAVE"]),
            34..40 => self.tell_if_up(at, &["BGREWRITEAOF"]),
            40..48 => self.part(at),
            48..60 => self.split(),
            60..70 => self.kill(at, false),
            70..80 => self.kill(at, true),
            80..84 => self.nodes[at].dies_in_job = Some(self.rng.index(12)),
            84..90 => self.nodes[at].dies_in_turn = Some(self.rng.index(6)),
            90..93 => self.slow_some(),
            93..96 => self.spoil_disk(at),
            _ => {
                if self.is_reachable(at) {
                    self.nodes[at].told_to_end = true;
                    self.tell(at, &["SHUTDOWN", "NOSAVE", "FORCE"]);
                }
            }
        }
    }

    /// Some nodes, and maybe the customers, are cut off from the rest.
    fn split(&mut self) {
        let sites = self.nodes.len() + 1;
        let there: Vec<bool> = (0..sites).map(|_| self.rng.below(3) == 0).collect();
        let long = 200 * MS + self.rng.below(9 * SECOND);
        for a in 0..sites {
            for b in (0..sites).filter(|b| there[a] != there[*b]) {
                self.blocked[a][b] = true;
            }
        }
        let cut_off: Vec<usize> = (0..sites).filter(|site| there[*site]).collect();
        self.note(&format!("{cut_off:?} are cut off from the rest"));
        for at in cut_off {
            self.after(long, Event::Heal(at));
        }
    }

    /// A call of the disk fails: it may be that of `nodes.conf`, or of the log, and then the server ends.
    fn spoil_disk(&mut self, at: usize) {
        let calls = self.rng.index(8);
        if let Some(server) = &mut self.nodes[at].server {
            server.io().disk.fail_after(calls, libc::EIO);
            self.nodes[at].may_fail = true;
            self.note(&format!("n{at} has a bad disk at call {calls}"));
        }
    }
}
