//! Slots move: their keys are carried over with MIGRATE, while customers go on and are sent after them with ASK.
//!
//! ```text
//! SETSLOT IMPORTING there, MIGRATING here ─▶ MIGRATE some keys, again and again ─▶ none left: SETSLOT NODE, there and here
//! ```
//! If a node crashes meanwhile the slot is left as it is. Once the faults have ended somebody puts things in order, as one
//! does with `redis-cli --cluster fix`: whoever has keys of a slot that is another's gives them to its owner.

use crate::base::slot::Slot;
use crate::cluster::{Cluster, Name};
use crate::exec::conn::Token;
use crate::repl::replica::command;

use super::super::net::PORT;
use super::super::world::{Node, SECOND, World};
use super::{LOGS, log_slot};

/// A slot is given up that takes longer.
const PATIENCE: u64 = 9 * SECOND;
/// Keys that are carried at once.
const KEYS: usize = 2;

/// A slot on its way.
pub struct Moving {
    slot: Slot,
    from: usize,
    to: usize,
    since_ns: u64,
}

/// A connection to a node whose replies may take a while.
#[derive(Clone, Default)]
pub struct Porter {
    door: Option<(u64, Token)>,
    waits: bool,
}

impl World {
    fn machine(&self, at: usize) -> Option<&Cluster> {
        let server = &self.nodes[at].server.as_ref()?.server;
        server.cluster.as_deref()
    }

    fn keys_of(&self, at: usize, slot: Slot) -> Vec<String> {
        let Some(server) = &self.nodes[at].server else {
            return Vec::new();
        };
        let keys = server.server.dbs.db(0).slot_keys(slot, KEYS);
        let text = |key: &Vec<u8>| String::from_utf8_lossy(key).into_owned();
        keys.iter().map(text).collect()
    }

    fn name_at(&self, at: usize) -> String {
        let name = self.machine(at).map(|c| c.myself().name);
        name.unwrap_or(Name::NONE).to_string()
    }

    fn is_there(&self, at: usize, is_it: impl Fn(&Cluster) -> bool) -> bool {
        self.is_reachable(at) && self.machine(at).is_some_and(is_it)
    }

    /// A node that reaches the others. (A slot is claimed with an epoch that nobody has agreed to: a master that was replaced
    /// and does not know it could take the epoch of the one that replaced it, and then neither claim is the greater. So it is
    /// with Redis, and whoever moves slots has to see to it.)
    fn is_among_others(&self, at: usize) -> bool {
        let is_open = |other: usize| !self.blocked[at][other] && !self.blocked[other][at];
        self.is_reachable(at) && (0..self.nodes.len()).all(is_open)
    }

    /// The slot of some log is to be another master's.
    pub fn begin_move(&mut self) {
        let log = self.rng.index(LOGS);
        let slot = log_slot(log);
        let nodes = 0..self.nodes.len();
        let from = nodes
            .clone()
            .find(|at| self.is_there(*at, |c| c.is_mine(slot)));
        let has_slots = |c: &Cluster| c.myself().is_master() && !c.myself().slots.is_empty();
        let others = nodes.filter(|at| Some(*at) != from && self.is_there(*at, has_slots));
        let others: Vec<usize> = others.collect();
        let (Some(from), false) = (from, others.is_empty()) else {
            return;
        };
        let to = others[self.rng.index(others.len())];
        let many = |c: &Cluster| c.myself().slots.len() > LOGS && !c.is_moving_slots();
        if !self.is_there(from, many) || !self.is_there(to, |c| !c.is_moving_slots()) {
            return;
        }
        let names = [from, to].map(|at| self.name_at(at));
        let number = slot.number().to_string();
        let imports = self.order(to, &["CLUSTER", "SETSLOT", &number, "IMPORTING", &names[0]]);
        let migrates = self.order(
            from,
            &["CLUSTER", "SETSLOT", &number, "MIGRATING", &names[1]],
        );
        if imports == "+OK" && migrates == "+OK" {
            let since_ns = self.now_ns;
            self.town.moving = Some(Moving {
                slot,
                from,
                to,
                since_ns,
            });
        }
    }

    /// Some more keys, or the slot itself.
    pub fn carry(&mut self) {
        let Some(moving) = self.town.moving.take() else {
            return;
        };
        let Moving {
            slot,
            from,
            to,
            since_ns,
        } = moving;
        let both_are_up = self.is_reachable(from) && self.is_among_others(to);
        if self.porter_waits(from) || !both_are_up {
            if self.now_ns - since_ns < PATIENCE {
                self.town.moving = Some(moving);
            }
            return;
        }
        // (Who has been away may not know yet that it was replaced, and that the keys are elsewhere.)
        let giver = self.name_at(from);
        let is_givers = |c: &Cluster| c.owner(slot).is_some_and(|n| n.name.to_string() == giver);
        let is_as_before = self.is_there(from, |c| c.migrating_to(slot).is_some())
            && self.is_there(to, |c| c.importing_from(slot).is_some() && is_givers(c));
        if !is_as_before {
            return;
        }
        let keys = self.keys_of(from, slot);
        if !keys.is_empty() {
            self.migrate(from, to, &keys, true);
            self.town.moving = Some(moving);
            return;
        }
        let (name, number) = (self.name_at(to), slot.number().to_string());
        let words = ["CLUSTER", "SETSLOT", &number, "NODE", &name];
        if self.order(to, &words) == "+OK" {
            self.checks.looked("moved");
            self.tell(from, &words);
        }
    }

    /// One step towards a town where every key is with the owner of its slot, and no slot on its way.
    pub fn tidy_slots(&mut self) {
        if let Some(moving) = self.town.moving.take()
            && self.town.calm
        {
            // It goes on, as nothing has happened to it.
            let since_ns = self.now_ns;
            self.town.moving = Some(Moving { since_ns, ..moving });
            return self.carry();
        }
        for at in 0..self.nodes.len() {
            if !self.is_there(at, |c| c.myself().is_master()) || self.porter_waits(at) {
                continue;
            }
            if let Some(slot) = self.untidy_slot(at) {
                self.tidy_slot(at, slot);
            }
        }
    }

    /// A slot that is on its way from or to a node, or has keys there though it is another's.
    fn untidy_slot(&self, at: usize) -> Option<Slot> {
        let cluster = self.machine(at)?;
        if cluster.is_moving_slots() {
            let moves = |slot: &Slot| {
                cluster.migrating_to(*slot).is_some() || cluster.importing_from(*slot).is_some()
            };
            return Slot::all().find(moves);
        }
        let server = &self.nodes[at].server.as_ref()?.server;
        let mut keys = server.dbs.db(0).iter().map(|entry| Slot::of(entry.key()));
        keys.find(|slot| !cluster.is_mine(*slot))
    }

    fn tidy_slot(&mut self, at: usize, slot: Slot) {
        let number = slot.number().to_string();
        let owner = (0..self.nodes.len())
            .filter(|n| self.is_there(*n, |c| c.myself().is_master() && c.is_mine(slot)))
            .max_by_key(|n| self.machine(*n).map(|c| c.myself().config_epoch));
        let Some(owner) = owner else {
            return;
        };
        let keys = self.keys_of(at, slot);
        // (Whoever is to get a slot does not hear who has it now: if its owner was replaced it knows none.)
        let is_lost = self.is_there(at, |c| c.owner(slot).is_none());
        if owner == at || keys.is_empty() || is_lost {
            self.tell(at, &["CLUSTER", "SETSLOT", &number, "STABLE"]);
            return;
        }
        if self.is_there(at, |c| c.importing_from(slot).is_none()) {
            let name = self.name_at(owner);
            self.tell(at, &["CLUSTER", "SETSLOT", &number, "IMPORTING", &name]);
            return;
        }
        let theirs = self.nodes[owner].server.as_ref().map(|s| &s.server.dbs);
        let (there, here): (Vec<String>, Vec<String>) = keys.into_iter().partition(|key| {
            let key = key.as_bytes();
            theirs.is_some_and(|dbs| dbs.db(0).get(dbs.hash(key), key).is_some())
        });
        match there.first() {
            // The owner's is what customers have seen last. What they wrote here, while the slot was on a way that was broken
            // off, is lost.
            Some(key) => {
                self.lose(at, 0);
                self.carry_out(at, &[&["ASKING"], &["DEL", key]]);
            }
            None => self.migrate(at, owner, &here, false),
        }
    }

    fn migrate(&mut self, from: usize, to: usize, keys: &[String], replace: bool) {
        let (ip, port) = (Node::ip(to), PORT.to_string());
        let mut words = vec!["MIGRATE", &ip, &port, "", "0", "1500"];
        words.extend(replace.then_some("REPLACE"));
        words.push("KEYS");
        words.extend(keys.iter().map(String::as_str));
        self.carry_out(from, &[&words]);
    }

    /// Has a node do something that may take a while.
    fn carry_out(&mut self, at: usize, commands: &[&[&str]]) {
        let boot = self.nodes[at].boot;
        let Some(server) = &mut self.nodes[at].server else {
            return;
        };
        let door = self.town.porters[at].door.filter(|(of, _)| *of == boot);
        let token = match door.filter(|(_, token)| server.is_open(*token)) {
            Some((_, token)) => token,
            None => server.connect(),
        };
        let mut bytes = Vec::new();
        for words in commands {
            let words: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
            bytes.extend(command(&words));
        }
        server.arrive(token, &bytes);
        self.town.porters[at] = Porter {
            door: Some((boot, token)),
            waits: true,
        };
        self.note(&format!("n{at} is told {commands:?}"));
        self.drive(at);
    }

    /// True if the reply has not come.
    fn porter_waits(&mut self, at: usize) -> bool {
        let Porter { door, waits } = self.town.porters[at];
        let (Some((boot, token)), true) = (door, waits) else {
            return false;
        };
        if self.nodes[at].boot != boot {
            self.town.porters[at] = Porter::default();
            return false;
        }
        let Some(server) = &mut self.nodes[at].server else {
            return false;
        };
        let reply = server.receive(token);
        let waits = reply.is_empty() && server.is_open(token);
        self.town.porters[at].waits = waits;
        if !waits {
            let reply = String::from_utf8_lossy(&reply).trim_end().to_string();
            self.note(&format!("n{at} says {reply}"));
        }
        waits
    }
}
