//! What has to be true in a cluster, besides what has to be true of every node's data and stream (`sim/checks.rs`).
//!
//! Epochs and votes are looked at where they leave a node: by then they have to be on its disk. Who takes a master's place
//! has to have been given the votes of most masters. Of writes, it is known who has had a log when, and what may have
//! cost a node its data: a crash that its log does not make good, or an election, for replication does not wait.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::base::slot::Slot;
use crate::cluster::Name;
use crate::cluster::wire::{self, FORCE_ACK, Kind};
use crate::config::AppendFsync;
use crate::exec::aof::State;
use crate::exec::server::Server;
use crate::object::ValueRef;
use crate::object::list::{End as ListEnd, Item};

use super::super::net::ConnId;
use super::super::world::{Check, MS, SECOND, World};
use super::{LOGS, log_name, log_slot};

/// A number that was acknowledged, and by whom.
pub struct Ack {
    pub log: usize,
    pub number: u64,
    pub node: usize,
    pub at_ns: u64,
}

/// A node has a log: as the master of its slot, or as the one that the slot is moving to.
#[derive(Clone)]
pub struct Hold {
    node: usize,
    from_ns: u64,
    until_ns: Option<u64>,
}

/// A node may have lost writes, or its replicas have without it.
pub struct Loss {
    at_ns: u64,
    node: usize,
    /// It may not know yet that it was replaced, and go on for so long.
    grace_ns: u64,
}

/// What was last seen of a node's machine.
#[derive(Clone, Default)]
pub struct Seen {
    current_epoch: u64,
    voted_epoch: u64,
    config_epoch: u64,
    election_epoch: u64,
    is_master: bool,
    has_slots: bool,
    master: Option<Name>,
    by_hand: bool,
    quorum: usize,
    /// When it has started.
    boots_ns: Vec<u64>,
    /// When its link to its master was last up, since it started.
    linked_ns: Option<u64>,
    /// What others were told of it and has to survive: the epochs of its own slots, of its votes, of its elections.
    told: Told,
    /// The same as the disk has it.
    saved: Told,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    config_epoch: u64,
    voted_epoch: u64,
    current_epoch: u64,
}

/// What a file says of its own node.
fn told_by(file: &[u8]) -> Told {
    let text = String::from_utf8_lossy(file);
    let mut told = Told::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|w| w.parse().ok()).unwrap_or(0);
        if words[0] == "vars" {
            (told.current_epoch, told.voted_epoch) = (number(2), number(4));
        } else if words
            .get(2)
            .is_some_and(|flags| flags.starts_with("myself"))
        {
            told.config_epoch = number(6);
        }
    }
    told
}

impl World {
    fn seen_now(&self, at: usize) -> Option<Seen> {
        let node = &self.nodes[at];
        let server = &node.server.as_ref()?.server;
        let cluster = server.cluster.as_ref()?;
        let me = cluster.myself();
        let before = &self.town.seen[at];
        Some(Seen {
            current_epoch: cluster.current_epoch,
            voted_epoch: cluster.voted_epoch(),
            config_epoch: me.config_epoch,
            election_epoch: cluster.election_epoch(),
            is_master: me.is_master(),
            has_slots: !me.slots.is_empty(),
            master: cluster.my_master().map(|master| master.name),
            by_hand: cluster.is_failing_over(),
            quorum: cluster.quorum(),
            boots_ns: before.boots_ns.clone(),
            linked_ns: match server.link_is_up() {
                true => Some(self.now_ns),
                false => before.linked_ns,
            },
            told: before.told,
            saved: before.saved,
        })
    }

    /// A node has been given all data. (The link that they came by may be down already when the turn ends.)
    pub fn note_adopted(&mut self, at: usize) {
        if let Some(seen) = self.town.seen.get_mut(at) {
            seen.linked_ns = Some(self.now_ns);
        }
    }

    /// A node has started, with what its file says.
    pub fn town_booted(&mut self, at: usize) {
        let Some(now) = self.seen_now(at).filter(|_| self.town.is_one()) else {
            return;
        };
        let server = self.nodes[at].server.as_ref().map(|s| &s.server);
        if let Some(cluster) = server.and_then(|s| s.cluster.as_ref()) {
            self.town.names.insert(cluster.myself().name, at);
        }
        let told = self.town.seen[at].told;
        let lost = now.current_epoch < told.current_epoch
            || now.voted_epoch < told.voted_epoch
            || (now.is_master && now.config_epoch < told.config_epoch);
        if lost {
            let why = format!(
                "n{at} begins with epoch {}, vote {}, slots' epoch {}, and has told {told:?}",
                now.current_epoch, now.voted_epoch, now.config_epoch
            );
            self.fail(Check::EpochBack, why);
        }
        self.town.seen[at] = Seen {
            linked_ns: None,
            saved: Told::default(),
            ..now
        };
        self.town.seen[at].boots_ns.push(self.now_ns);
    }

    /// What a turn of a node has changed.
    pub fn check_node(&mut self, at: usize) {
        let Some(now) = self.seen_now(at).filter(|_| self.town.is_one()) else {
            return;
        };
        let before = std::mem::replace(&mut self.town.seen[at], now.clone());
        let is_back = now.current_epoch < before.current_epoch
            || now.voted_epoch < before.voted_epoch
            || now.config_epoch < before.config_epoch && now.is_master && before.is_master;
        if is_back {
            let why = format!(
                "n{at} goes back from {}/{}/{} to {}/{}/{}",
                before.current_epoch,
                before.voted_epoch,
                before.config_epoch,
                now.current_epoch,
                now.voted_epoch,
                now.config_epoch
            );
            return self.fail(Check::EpochBack, why);
        }
        self.note_holds(at);
        let server = self.nodes[at].server.as_ref().map(|s| &s.server);
        let has_data = server.is_some_and(|s| !s.loading && !s.async_loading);
        if now.election_epoch > before.election_epoch && !has_data {
            let epoch = now.election_epoch;
            let why = format!("n{at} stands for epoch {epoch}, and has no data yet");
            return self.fail(Check::Elected, why);
        }
        if !before.is_master && now.is_master && now.has_slots {
            self.check_winner(at, &before, now.config_epoch);
        }
    }

    /// A replica has taken its master's place.
    fn check_winner(&mut self, at: usize, before: &Seen, epoch: u64) {
        let how = if before.by_hand {
            "by hand"
        } else {
            "election"
        };
        self.note(&format!(
            "n{at} takes its master's place with epoch {epoch}, {how}"
        ));
        self.checks.looked(how);
        let old = before
            .master
            .and_then(|name| self.town.names.get(&name).copied());
        let votes = self.town.votes.get(&epoch);
        let voters = votes.map_or(0, |v| v.values().filter(|f| **f == at).count());
        // (Of the masters that it knew: when two of three have just been replaced, it hears of the old ones first, and so is
        // the majority of one that is left. So it is in Redis 7.2.)
        if voters < before.quorum.min(self.town.masters / 2 + 1) {
            let why = format!("n{at} has won epoch {epoch} with {voters} votes: {votes:?}");
            return self.fail(Check::Elected, why);
        }
        if let Some(other) = self.town.winners.insert(epoch, at) {
            let why = format!("n{other} and n{at} have both won epoch {epoch}");
            return self.fail(Check::Elected, why);
        }
        if self.town.calm && !before.by_hand {
            let why = format!("n{at} has replaced its master, and nothing was wrong");
            return self.fail(Check::Uncalled, why);
        }
        if let Some(old) = old.filter(|_| !self.town.calm) {
            let grace_ns = self.grace_ns();
            self.lose(old, grace_ns);
        }
    }

    /// How long a master may take to find out that it was replaced, or that it is alone: it hears for a while from others that
    /// do not hear it any more, and then takes the node timeout to see that they are silent.
    fn grace_ns(&self) -> u64 {
        self.town.timeout_ms * MS + 3 * SECOND / 2
    }

    pub(super) fn lose(&mut self, node: usize, grace_ns: u64) {
        let at_ns = self.now_ns;
        self.town.losses.push(Loss {
            at_ns,
            node,
            grace_ns,
        });
    }

    /// Who has which log now.
    fn note_holds(&mut self, at: usize) {
        let World {
            nodes,
            town,
            now_ns,
            ..
        } = self;
        let server = nodes[at].server.as_ref().map(|s| &s.server);
        let Some(cluster) = server.and_then(|s| s.cluster.as_ref()) else {
            return;
        };
        for log in 0..LOGS {
            let slot = log_slot(log);
            let has = cluster.is_mine(slot) || cluster.importing_from(slot).is_some();
            let holds = &mut town.holds[log];
            let held = holds
                .iter_mut()
                .rev()
                .find(|h| h.node == at && h.until_ns.is_none());
            match (has, held) {
                (true, None) => holds.push(Hold {
                    node: at,
                    from_ns: *now_ns,
                    until_ns: None,
                }),
                (false, Some(hold)) => hold.until_ns = Some(*now_ns),
                _ => {}
            }
        }
    }

    /// A node ends, with the power or without.
    pub fn town_crashes(&mut self, at: usize, server: &Server, power: bool) {
        if !self.town.is_one() {
            return;
        }
        let config = &server.config;
        let is_durable = server.aof.state == State::On
            && (!power || config.appendfsync == AppendFsync::Always)
            && !self.nodes[at].may_fail;
        if !is_durable {
            self.lose(at, 0);
        }
        self.town.overheard.retain(|key, _| key.0 != at);
    }

    /// A node says something to another on the bus.
    pub fn overhear_bus(&mut self, at: usize, id: ConnId, to: usize, bytes: &[u8]) {
        self.check_saved(at);
        let key = (at, id);
        let mut heard = self.town.overheard.remove(&key).unwrap_or_default();
        heard.extend_from_slice(bytes);
        let mut rest = heard.as_slice();
        while let Ok(Some(length)) = wire::length(rest)
            && length <= rest.len()
        {
            let (frame, behind) = rest.split_at(length);
            rest = behind;
            self.overhear_frame(at, to, frame);
        }
        if !rest.is_empty() {
            let rest = rest.to_vec();
            self.town.overheard.insert(key, rest);
        }
    }

    /// What a node says now it has saved: the epoch that it claims its slots with.
    fn check_saved(&mut self, at: usize) {
        let seen = &mut self.town.seen[at];
        if seen.is_master {
            seen.told.config_epoch = seen.config_epoch;
        }
        self.compare_saved(at);
    }

    fn compare_saved(&mut self, at: usize) {
        let is_master = self.town.seen[at].is_master;
        let has = |saved: &Told, told: &Told| {
            saved.voted_epoch >= told.voted_epoch
                && saved.current_epoch >= told.current_epoch
                && (!is_master || saved.config_epoch >= told.config_epoch)
        };
        let seen = &self.town.seen[at];
        let told = seen.told;
        if has(&seen.saved, &told) {
            return;
        }
        let Some(server) = &mut self.nodes[at].server else {
            return;
        };
        let config = &server.server.config;
        let path = config
            .dir
            .as_path()
            .join(config.cluster_config_file.as_path());
        let saved = server.io().disk.durable(&path).map(|file| told_by(&file));
        let saved = saved.unwrap_or_default();
        self.town.seen[at].saved = saved;
        if !has(&saved, &told) {
            let why = format!("n{at} tells {told:?}, and its disk has {saved:?}");
            self.fail(Check::ToldBeforeSaved, why);
        }
    }

    fn overhear_frame(&mut self, at: usize, to: usize, frame: &[u8]) {
        let kind = wire::kind_of(frame);
        let is_vote = kind == Kind::AuthAck as u16;
        if !is_vote && kind != Kind::AuthRequest as u16 {
            return;
        }
        let Ok(message) = wire::decode(frame) else {
            return;
        };
        let epoch = message.header.current_epoch;
        let told = &mut self.town.seen[at].told;
        if is_vote {
            told.voted_epoch = told.voted_epoch.max(epoch);
        } else {
            told.current_epoch = told.current_epoch.max(epoch);
        }
        self.compare_saved(at);
        if is_vote {
            self.checks.looked("vote");
            self.note(&format!("n{at} votes for n{to} in epoch {epoch}"));
            let votes = self.town.votes.entry(epoch).or_default();
            if let Some(other) = votes.insert(at, to).filter(|other| *other != to) {
                let why = format!("n{at} votes for n{other} and n{to} in epoch {epoch}");
                self.fail(Check::EpochBack, why);
            }
            return;
        }
        if message.header.marks & FORCE_ACK == 0 {
            self.check_age(at);
        }
    }

    /// Who stands has data that are not too old (`cluster-replica-validity-factor`).
    fn check_age(&mut self, at: usize) {
        let Some(server) = &self.nodes[at].server else {
            return;
        };
        let config = &server.server.config;
        let factor = u64::from(config.cluster_replica_validity_factor);
        if factor == 0 {
            return;
        }
        self.checks.looked("age");
        // (It counts whole seconds.)
        let most_ms = self.town.timeout_ms * (factor + 1) + config.repl_ping_replica_period * 1000;
        let most_ns = (most_ms + 2000) * MS;
        let age_ns = self.town.seen[at].linked_ns.map(|ns| self.now_ns - ns);
        if age_ns.is_none_or(|age| age > most_ns) {
            let why = format!("n{at} stands with data of {age_ns:?} ns ago, {most_ns} at most");
            self.fail(Check::TooOld, why);
        }
    }

    /// All is well again: what is there is what was written.
    pub fn check_town(&mut self) {
        for log in 0..LOGS {
            if let Err((check, why)) = self.check_log(log) {
                return self.fail(check, why);
            }
        }
    }

    /// A key that a node has although its slot is another's.
    pub fn alien_key(&self, at: usize) -> Option<String> {
        let server = &self.nodes[at].server.as_ref()?.server;
        let cluster = server.cluster.as_ref()?;
        let owner = cluster.master_of(cluster.myself()).name;
        let is_alien = |key: &[u8]| {
            let has = cluster.owner(Slot::of(key));
            has.is_none_or(|has| has.name != owner)
        };
        let alien = server
            .dbs
            .db(0)
            .iter()
            .find(|entry| is_alien(entry.key()))?;
        let key = String::from_utf8_lossy(alien.key()).into_owned();
        let has = cluster.owner(Slot::of(alien.key())).map(|has| has.name);
        Some(format!(
            "n{at}, of {owner}, has {key}, whose slot is another's: {has:?}"
        ))
    }

    fn check_log(&self, log: usize) -> Result<(), (Check, String)> {
        let slot = log_slot(log);
        let owner = self.nodes.iter().find_map(|node| {
            let server = &node.server.as_ref()?.server;
            let cluster = server.cluster.as_ref()?;
            (cluster.is_mine(slot)).then_some((node.at, server))
        });
        let Some((owner, server)) = owner else {
            return Ok(());
        };
        let numbers = numbers_of(server, &log_name(log));
        let mut there = BTreeSet::new();
        for number in numbers {
            let is_known = (1..=self.town.numbers[log]).contains(&number);
            if !is_known || !there.insert(number) {
                let why = format!("n{owner} has {number} in log {log}, once too often");
                return Err((Check::Invented, why));
            }
        }
        let of_log = self.town.acked.iter().filter(|ack| ack.log == log);
        for ack in of_log.filter(|ack| !there.contains(&ack.number)) {
            if !self.is_excused(ack) {
                let (number, node, s) = (ack.number, ack.node, ack.at_ns as f64 / 1e9);
                let why = format!(
                    "{number} of log {log}, acknowledged by n{node} at {s:.6}, is not with n{owner}"
                );
                return Err((Check::Acked, why));
            }
        }
        Ok(())
    }

    /// Somebody who has had the log since may have lost it.
    fn is_excused(&self, ack: &Ack) -> bool {
        let holds = &self.town.holds[ack.log];
        // One that starts serves for the node timeout before it sees that it reaches nobody; and it may have been replaced.
        let begins_ns = self.town.seen[ack.node].boots_ns.iter();
        let wakes_ns = self.town.timeout_ms * MS + 3 * SECOND;
        let has_begun = |begin: &u64| (*begin..begin + wakes_ns).contains(&ack.at_ns);
        let was_lost = |loss: &Loss| loss.node == ack.node && loss.at_ns <= ack.at_ns;
        if begins_ns.clone().any(has_begun) && self.town.losses.iter().any(was_lost) {
            return true;
        }
        self.town.losses.iter().any(|loss| {
            let may_have_had = |h: &Hold| {
                h.node == loss.node
                    && h.from_ns <= loss.at_ns + loss.grace_ns
                    && h.until_ns.is_none_or(|until| until + SECOND >= ack.at_ns)
            };
            loss.at_ns + loss.grace_ns >= ack.at_ns && holds.iter().any(may_have_had)
        })
    }
}

/// The numbers in a log, in order.
fn numbers_of(server: &Server, key: &str) -> Vec<u64> {
    let dbs = &server.dbs;
    let entry = dbs.db(0).get(dbs.hash(key.as_bytes()), key.as_bytes());
    let Some(ValueRef::List(list)) = entry.map(|entry| entry.value()) else {
        return Vec::new();
    };
    let mut numbers = Vec::new();
    list.walk(0, ListEnd::Tail, |item| {
        let text = match item {
            Item::Elem(elem) => elem.text(&mut itoa::Buffer::new()).to_vec(),
            Item::Whole(text) => text.to_vec(),
        };
        let number = String::from_utf8_lossy(&text).parse();
        numbers.push(number.unwrap_or(u64::MAX));
        ControlFlow::Continue(())
    });
    numbers
}
