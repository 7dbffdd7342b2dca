//! What goes wrong, and who sees to it.
//!
//! The plan is what the operator wants: who is the master, who follows whom. Now and then he looks at each node that he can
//! reach and tells it what it should be, as one does by hand or with a script: so a node that comes back as the master it was
//! is one for a while, next to the one that took its place. Faults are drawn one after another; each says when it ends.

use crate::base::rng::Rng;
use crate::config::{AppendFsync, Config, ReplDisklessLoad, ReplicaOf};

use super::net::{ConnId, End};
use super::world::{Event, MS, Node, SECOND, World};

/// Faults are drawn until then.
pub const FAULTS_UNTIL: u64 = 38 * SECOND;
/// Clients write a little longer.
const WRITES_UNTIL: u64 = 42 * SECOND;

/// See the head of the file.
pub struct Plan {
    pub master: usize,
    /// Whom each node is to follow.
    parents: Vec<Option<usize>>,
    pub writes_until_ns: u64,
    /// A FAILOVER goes on: he waits for what comes of it.
    failing_over_since_ns: Option<u64>,
    faults: bool,
}

impl Plan {
    /// Draws nodes, their configurations, and who follows whom.
    pub fn draw(rng: &mut Rng) -> (Plan, Vec<Config>) {
        let nodes = 3 + rng.index(3);
        let master = rng.index(nodes);
        let mut parents = vec![Some(master); nodes];
        parents[master] = None;
        let others: Vec<usize> = (0..nodes).filter(|n| *n != master).collect();
        for pair in others.windows(2) {
            if rng.below(3) == 0 {
                parents[pair[1]] = Some(pair[0]);
            }
        }
        let configs = parents.iter().map(|parent| config(rng, *parent)).collect();
        let plan = Plan {
            master,
            parents,
            writes_until_ns: WRITES_UNTIL,
            failing_over_since_ns: None,
            faults: true,
        };
        (plan, configs)
    }

    /// Nobody has planned anything: the nodes see to themselves.
    pub fn none() -> Plan {
        Plan {
            master: usize::MAX,
            parents: Vec::new(),
            writes_until_ns: WRITES_UNTIL,
            failing_over_since_ns: None,
            faults: true,
        }
    }

    /// True if a node follows another, directly or not.
    fn is_below(&self, at: usize, above: usize) -> bool {
        let mut next = Some(at);
        for _ in 0..self.parents.len() {
            match next {
                Some(n) if n == above => return true,
                Some(n) => next = self.parents[n],
                None => return false,
            }
        }
        false
    }

    /// This one is the master, and the others follow it, most of them directly.
    fn set_master(&mut self, master: usize, rng: &mut Rng) {
        self.master = master;
        self.parents[master] = None;
        for at in 0..self.parents.len() {
            if at == master {
                continue;
            }
            let keeps =
                rng.below(3) == 0 && self.is_below(at, master) && self.parents[at].is_some();
            if !keeps {
                self.parents[at] = Some(master);
            }
        }
    }
}

fn address(at: usize) -> ReplicaOf {
    ReplicaOf {
        host: Node::ip(at).as_str().into(),
        port: 6379,
    }
}

/// A configuration, with what is left to choice chosen by chance.
pub fn config(rng: &mut Rng, parent: Option<usize>) -> Config {
    let load = match rng.below(3) {
        0 => ReplDisklessLoad::Disabled,
        1 => ReplDisklessLoad::OnEmptyDb,
        _ => ReplDisklessLoad::Swapdb,
    };
    let fsync = match rng.below(3) {
        0 => AppendFsync::Always,
        1 => AppendFsync::Everysec,
        _ => AppendFsync::No,
    };
    Config {
        dir: "/data".into(),
        protected_mode: false,
        save: match rng.below(3) {
            0 => vec![(2 + rng.below(5), 1)],
            _ => Vec::new(),
        },
        appendonly: rng.below(2) == 0,
        appendfsync: fsync,
        aof_use_rdb_preamble: rng.below(4) != 0,
        auto_aof_rewrite_min_size: 8 * 1024,
        stop_writes_on_bgsave_error: false,
        repl_diskless_sync: rng.below(2) == 0,
        repl_diskless_sync_delay: rng.below(3),
        repl_diskless_load: load,
        replica_lazy_flush: rng.below(2) == 0,
        repl_backlog_size: match rng.below(3) {
            0 => 16 * 1024,
            _ => 256 * 1024,
        },
        repl_backlog_ttl: match rng.below(4) {
            0 => 2 + rng.below(5),
            _ => 3600,
        },
        repl_timeout: 3 + rng.below(4),
        repl_ping_replica_period: 1 + rng.below(2),
        rdb_del_sync_files: rng.below(4) == 0,
        replicaof: parent.map(address),
        ..Config::default()
    }
}

impl World {
    /// The operator's command to a node.
    pub fn tell(&mut self, at: usize, words: &[&str]) {
        self.order(at, words);
    }

    /// The same; what was replied at once.
    pub fn order(&mut self, at: usize, words: &[&str]) -> String {
        let node = &mut self.nodes[at];
        let Some(server) = &mut node.server else {
            return String::new();
        };
        let control = match node.control.filter(|control| server.is_open(*control)) {
            Some(control) => control,
            None => server.connect(),
        };
        node.control = Some(control);
        let request: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        server.arrive(control, &crate::repl::replica::command(&request));
        self.note(&format!("n{at} is told {}", words.join(" ")));
        self.drive(at);
        if let Some(server) = &mut self.nodes[at].server {
            let reply = server.receive(control);
            let reply = String::from_utf8_lossy(&reply).trim_end().to_string();
            self.note(&format!("n{at} says {reply}"));
            return reply;
        }
        String::new()
    }

    /// A node that the operator can talk to.
    pub fn is_reachable(&self, at: usize) -> bool {
        let outside = self.outside();
        let open = !self.blocked[outside][at] && !self.blocked[at][outside];
        open && self.nodes[at]
            .server
            .as_ref()
            .is_some_and(|s| !s.server.loading)
    }

    /// He looks whether all is as planned.
    pub fn operate(&mut self) {
        let pause = 200 * MS + self.rng.below(300 * MS);
        self.after(pause, Event::Operate);
        if let Some(since_ns) = self.plan.failing_over_since_ns {
            if !self.failover_is_over(since_ns) {
                return;
            }
            self.plan.failing_over_since_ns = None;
        }
        for at in 0..self.nodes.len() {
            if !self.is_reachable(at) {
                continue;
            }
            let Some(server) = &self.nodes[at].server else {
                continue;
            };
            let follows = server.server.config.replicaof.clone();
            let wanted = self.plan.parents[at].map(address);
            if follows == wanted || server.server.repl.failover.is_some() {
                continue;
            }
            match self.plan.parents[at] {
                Some(parent) => self.tell(at, &["REPLICAOF", &Node::ip(parent), "6379"]),
                None => self.tell(at, &["REPLICAOF", "NO", "ONE"]),
            }
        }
    }

    /// Whoever is a master now is the one that is wanted.
    fn failover_is_over(&mut self, since_ns: u64) -> bool {
        let old = self.plan.master;
        let under_way = self.nodes[old]
            .server
            .as_ref()
            .is_some_and(|s| s.server.repl.failover.is_some());
        if under_way && self.now_ns - since_ns < 6 * SECOND {
            return false;
        }
        if under_way {
            self.tell(old, &["FAILOVER", "ABORT"]);
        }
        let is_master = |node: &Node| {
            let server = node.server.as_ref();
            server.is_some_and(|s| s.server.config.replicaof.is_none())
        };
        let masters: Vec<usize> = self
            .nodes
            .iter()
            .filter(|n| is_master(n))
            .map(|n| n.at)
            .collect();
        let new = masters.iter().copied().find(|m| *m != old).unwrap_or(old);
        let World { plan, rng, .. } = self;
        plan.set_master(new, rng);
        self.note(&format!("the master is n{new} after FAILOVER"));
        true
    }

    /// A fault.
    pub fn strike(&mut self) {
        if self.now_ns >= FAULTS_UNTIL {
            return self.make_peace();
        }
        let pause = match self.rng.below(4) {
            0 => self.rng.below(300 * MS),
            _ => 300 * MS + self.rng.below(3 * SECOND),
        };
        self.after(pause, Event::Strike);
        let at = self.rng.index(self.nodes.len());
        match self.rng.below(104) {
            0..25 => self.cut_some(true),
            25..30 => self.cut_some(false),
            30..45 => self.part(at),
            45..52 => self.kill(at, false),
            52..60 => self.kill(at, true),
            60..64 => self.nodes[at].dies_in_job = Some(self.rng.index(12)),
            64..67 => self.nodes[at].dies_in_turn = Some(self.rng.index(6)),
            67..75 => {
                let delay = self.rng.below(SECOND);
                self.after(delay, Event::Promote(usize::MAX));
            }
            75..80 => self.rechain(at),
            80..85 => self.begin_failover(),
            85..89 => self.tell_if_up(at, &["BGSAVE"]),
            89..92 => self.tell_if_up(at, &["BGREWRITEAOF"]),
            92..96 => self.slow_some(),
            96..98 => {
                if let Some(server) = &self.nodes[at].server
                    && !server.server.loading
                {
                    self.nodes[at].told_to_end = true;
                    let save = if self.rng.below(2) == 0 {
                        "SAVE"
                    } else {
                        "NOSAVE"
                    };
                    self.tell(at, &["SHUTDOWN", save, "FORCE"]);
                }
            }
            98 => self.tell_if_up(at, &["CLIENT", "PAUSE", "400", "WRITE"]),
            99 => self.tell_if_up(at, &["CONFIG", "SET", "repl-backlog-size", "20kb"]),
            100..102 => {
                let word = if self.rng.below(2) == 0 { "yes" } else { "no" };
                // A log on a disk that is about to be full may end the server, as it should.
                if let Some(server) = &mut self.nodes[at].server {
                    server.io().disk.heal();
                }
                self.tell_if_up(at, &["CONFIG", "SET", "appendonly", word]);
            }
            _ => self.fill_disk(at),
        }
    }

    /// A call of the disk fails, where there is no log.
    fn fill_disk(&mut self, at: usize) {
        let calls = self.rng.index(8);
        if let Some(server) = &mut self.nodes[at].server
            && !server.server.config.appendonly
        {
            server.io().disk.fail_after(calls, libc::ENOSPC);
            self.note(&format!("n{at} has a full disk at call {calls}"));
        }
    }

    pub fn tell_if_up(&mut self, at: usize, words: &[&str]) {
        if self.is_reachable(at) {
            self.tell(at, words);
        }
    }

    /// Connections between nodes, or a client's.
    pub fn links(&self, of_nodes: bool) -> Vec<ConnId> {
        let is_one = |end: &End| matches!(end, End::Node { .. });
        self.conns
            .iter()
            .filter(|(_, conn)| conn.ends.iter().all(is_one) == of_nodes)
            .map(|(id, _)| *id)
            .collect()
    }

    pub fn cut_some(&mut self, of_nodes: bool) {
        let links = self.links(of_nodes);
        if !links.is_empty() {
            let id = links[self.rng.index(links.len())];
            self.cut(id);
        }
    }

    pub fn slow_some(&mut self) {
        let links = self.links(true);
        if !links.is_empty() {
            let id = links[self.rng.index(links.len())];
            let rate = 1 + self.rng.index(8);
            self.note(&format!("c{} is slow", id.0));
            self.slow_down(id, rate);
            let long = SECOND + self.rng.below(6 * SECOND);
            self.after(long, Event::Hasten(id));
        }
    }

    /// A node is cut off from the others: both ways or one, with or without the clients.
    pub fn part(&mut self, at: usize) {
        let how = self.rng.below(4);
        let also_outside = self.rng.below(2) == 0;
        let words = [
            "hears and says nothing",
            "hears and says nothing",
            "says nothing",
            "hears nothing",
        ];
        self.note(&format!(
            "n{at} {} (clients too: {also_outside})",
            words[how as usize]
        ));
        let sites = self.nodes.len() + usize::from(also_outside);
        for other in (0..sites).filter(|s| *s != at) {
            self.blocked[at][other] |= how != 3;
            self.blocked[other][at] |= how != 2;
        }
        let long = 200 * MS + self.rng.below(9 * SECOND);
        self.after(long, Event::Heal(at));
        self.replace_if_master(at);
    }

    /// A partition ends.
    pub fn heal(&mut self, at: usize) {
        self.note(&format!("n{at} is back in the network"));
        for other in 0..self.blocked.len() {
            self.blocked[at][other] = false;
            self.blocked[other][at] = false;
        }
    }

    pub fn kill(&mut self, at: usize, power: bool) {
        if self.nodes[at].server.is_some() {
            let how = if power { "loses power" } else { "is killed" };
            self.note(&format!("n{at} {how}"));
            self.crash(at, power);
            self.replace_if_master(at);
        }
    }

    /// Somebody notices that the master is gone, or nobody does.
    fn replace_if_master(&mut self, at: usize) {
        if at == self.plan.master && self.rng.below(3) != 0 {
            let delay = 100 * MS + self.rng.below(1500 * MS);
            self.after(delay, Event::Promote(at));
        }
    }

    /// Another node is to be the master; `not` is the one that is gone, if there is a reason.
    pub fn promote(&mut self, not: usize) {
        let unwanted = not != usize::MAX && not != self.plan.master;
        if unwanted || self.plan.failing_over_since_ns.is_some() || !self.plan.faults {
            return;
        }
        let may = |n: &usize| *n != self.plan.master && *n != not && self.is_reachable(*n);
        let candidates: Vec<usize> = (0..self.nodes.len()).filter(may).collect();
        if candidates.is_empty() {
            return;
        }
        let best = candidates
            .iter()
            .copied()
            .max_by_key(|n| self.place_of(*n).map(|d| d.1));
        let new = match (self.rng.below(2), best) {
            (0, Some(best)) => best,
            _ => candidates[self.rng.index(candidates.len())],
        };
        self.note(&format!("the master is to be n{new}"));
        let World { plan, rng, .. } = self;
        plan.set_master(new, rng);
        self.tell(new, &["REPLICAOF", "NO", "ONE"]);
    }

    /// A replica is to follow another replica.
    fn rechain(&mut self, at: usize) {
        let new = self.rng.index(self.nodes.len());
        if at != self.plan.master && at != new && !self.plan.is_below(new, at) {
            self.plan.parents[at] = Some(new);
            self.note(&format!("n{at} is to follow n{new}"));
        }
    }

    fn begin_failover(&mut self) {
        let master = self.plan.master;
        if !self.is_reachable(master) || self.plan.failing_over_since_ns.is_some() {
            return;
        }
        let timeout = (200 + self.rng.below(3000)).to_string();
        let to = self.rng.index(self.nodes.len());
        let ip = Node::ip(to);
        let words: &[&str] = match self.rng.below(3) {
            0 => &["FAILOVER", "TIMEOUT", &timeout],
            1 => &["FAILOVER", "TO", &ip, "6379", "TIMEOUT", &timeout],
            _ => &["FAILOVER", "TO", &ip, "6379", "FORCE", "TIMEOUT", &timeout],
        };
        self.plan.failing_over_since_ns = Some(self.now_ns);
        self.tell(master, words);
    }

    /// The faults end: everybody is to be reached again, and is to follow the master.
    fn make_peace(&mut self) {
        self.end_faults();
        // Nothing may be left of a FAILOVER that its node did not live to end.
        self.plan.failing_over_since_ns = None;
        let World { plan, rng, .. } = self;
        plan.set_master(plan.master, rng);
    }

    /// Everybody is to be reached again, and nothing more fails.
    pub fn end_faults(&mut self) {
        self.note("the faults end");
        self.plan.faults = false;
        for at in 0..self.nodes.len() {
            self.heal(at);
            (self.nodes[at].dies_in_job, self.nodes[at].dies_in_turn) = (None, None);
            if let Some(server) = &mut self.nodes[at].server {
                server.io().disk.heal();
            }
        }
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in ids {
            self.hasten(id);
        }
    }

    /// What keeps the nodes from being as one, if anything does.
    pub fn differs(&self) -> Option<String> {
        let master = self.plan.master;
        let Some(wanted) = self.place_of(master) else {
            return Some(format!("n{master} is down"));
        };
        for at in 0..self.nodes.len() {
            let Some(server) = &self.nodes[at].server else {
                return Some(format!("n{at} is down"));
            };
            let server = &server.server;
            if server.config.replicaof != self.plan.parents[at].map(address) {
                return Some(format!("n{at} follows {:?}", server.config.replicaof));
            }
            if at != master && !server.link_is_up() {
                return Some(format!("the link of n{at} is down"));
            }
            let place = self.place_of(at);
            if place.as_ref() != Some(&wanted) {
                return Some(format!("n{at} has {place:?}, n{master} {wanted:?}"));
            }
        }
        None
    }
}
