//! Giving a slot to another node: what is said to nodes about a slot, and its keys on their way.
//!
//! A slot is *importing* where it goes to and *migrating* where it is; then its keys go over by MIGRATE, some at a time;
//! at last all masters are told whose it is, the new owner first, so that at no time nobody is. A slot that is moved
//! *cold* has its keys moved and nothing else.

use super::super::out::{self, lossy, say};
use super::super::session::Failed;
use super::node::Refusal;
use super::tell::{bad, warning};
use super::{Cluster, NodeAt};
use crate::resp::value::Value;

/// How a slot is moved.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// A dot is shown for each key.
    pub dots: bool,
    /// Nothing else is shown.
    pub quiet: bool,
    pub cold: bool,
    /// What the slots of both nodes are known to be changes with it.
    pub update: bool,
}

/// A node refused, and the slot stays where it is.
#[derive(Debug)]
pub struct Stuck {
    pub node: NodeAt,
    pub refusal: Refusal,
    /// It has been said already.
    pub told: bool,
}

/// The digest of a value that is not there.
const NO_DIGEST: &[u8] = b"0000000000000000000000000000000000000000";
/// What a node replies that has become a replica by the loss of its last slot.
const NO_MASTER: &str = "ERR Please use SETSLOT only with masters.";

impl Cluster {
    /// Says to a node what becomes of a slot: `node`, `importing` or `migrating`, and which other node it has to do with.
    pub fn set_slot(
        &mut self,
        node: NodeAt,
        slot: usize,
        what: &str,
        other: NodeAt,
    ) -> Result<(), Stuck> {
        let name = self.nodes[other].name.clone();
        let words = ["SETSLOT", &slot.to_string(), what, &name];
        self.nodes[node]
            .cluster(&words)
            .map(drop)
            .map_err(|refusal| Stuck {
                node,
                refusal,
                told: false,
            })
    }

    /// The same, where a refusal is said at once.
    pub fn demand_slot(
        &mut self,
        node: NodeAt,
        slot: usize,
        what: &str,
        other: NodeAt,
    ) -> Result<(), Failed> {
        let set = self.set_slot(node, slot, what, other);
        set.map_err(|stuck| self.report(&stuck))
    }

    /// Says why a slot is stuck.
    pub fn report(&self, stuck: &Stuck) -> Failed {
        if !stuck.told {
            self.nodes[stuck.node].report(&stuck.refusal);
        }
        Failed
    }

    /// Closes a slot that was importing or migrating.
    pub fn close_slot(&mut self, node: NodeAt, slot: usize) -> Result<(), Failed> {
        let node = &mut self.nodes[node];
        node.demand(&["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"])
            .map(drop)
    }

    /// How many keys of a slot a node has.
    pub fn count_keys(&mut self, node: NodeAt, slot: usize) -> Result<i64, Failed> {
        let reply = self.nodes[node].demand(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()])?;
        match reply {
            Value::Int(count) => Ok(count),
            _ => Err(Failed),
        }
    }

    /// Some keys of a slot.
    pub fn keys_of(
        &mut self,
        node: NodeAt,
        slot: usize,
        most: usize,
    ) -> Result<Vec<Value>, Refusal> {
        let words = ["GETKEYSINSLOT", &slot.to_string(), &most.to_string()];
        match self.nodes[node].cluster(&words)? {
            Value::Array(keys) => Ok(keys),
            _ => Err(Refusal::Lost),
        }
    }

    /// Whose slot it is, as `node` knows. `Ok(None)`: nobody's.
    fn owner_of(&mut self, node: NodeAt, slot: usize) -> Result<Option<NodeAt>, Refusal> {
        let reply = self.nodes[node].cluster(&["SLOTS"])?;
        let Value::Array(ranges) = reply else {
            return Ok(None);
        };
        Ok(ranges.iter().find_map(|range| {
            let Value::Array(parts) = range else {
                return None;
            };
            let (Value::Int(first), Value::Int(last), Value::Array(master)) =
                (parts.first()?, parts.get(1)?, parts.get(2)?)
            else {
                return None;
            };
            let range = usize::try_from(*first).ok()?..=usize::try_from(*last).ok()?;
            let name = master.get(2)?.as_bytes()?;
            range.contains(&slot).then(|| self.by_name(&lossy(name)))?
        }))
    }

    /// Takes a slot from a node. That it has none is no reason to complain.
    pub fn delete_slot(&mut self, node: NodeAt, slot: usize) -> Result<(), Failed> {
        let Err(refusal) = self.nodes[node].cluster(&["DELSLOTS", &slot.to_string()]) else {
            return Ok(());
        };
        if refusal.words().is_some() {
            match self.owner_of(node, slot) {
                Ok(None) => return Ok(()),
                Ok(Some(_)) => {}
                Err(other) => drop(self.nodes[node].report(&other)),
            }
        }
        Err(self.nodes[node].report(&refusal))
    }

    /// Makes a node the owner of a slot, under an epoch that nobody else has. `close`: the slot was open there.
    pub fn own_slot(&mut self, node: NodeAt, slot: usize, close: bool) -> Result<(), Failed> {
        self.nodes[node].demand(&["MULTI"])?;
        // What is wrong with one of them is said now, or EXEC tells.
        let _ = self.delete_slot(node, slot);
        let _ = self.nodes[node].demand(&["CLUSTER", "ADDSLOTS", &slot.to_string()]);
        if close {
            let _ = self.close_slot(node, slot);
        }
        let _ = self.nodes[node].demand(&["CLUSTER", "BUMPEPOCH"]);
        let node = &mut self.nodes[node];
        match node.demand(&["EXEC"])? {
            Value::Array(replies) => match replies.get(1) {
                Some(Value::Error(words)) => {
                    Err(node.report(&Refusal::Words(lossy(words).into_owned())))
                }
                _ => Ok(()),
            },
            _ => Err(Failed),
        }
    }

    /// Moves a slot.
    pub fn move_slot(
        &mut self,
        from: NodeAt,
        to: NodeAt,
        slot: usize,
        how: How,
    ) -> Result<(), Stuck> {
        if !how.quiet {
            let (source, target) = (self.nodes[from].place(), self.nodes[to].place());
            say!("Moving slot {slot} from {source} to {target}: ");
            out::flush();
        }
        if !how.cold {
            self.set_slot(to, slot, "importing", from)?;
            self.set_slot(from, slot, "migrating", to)?;
        }
        let moved = self.move_keys(from, to, slot, how.dots);
        if !how.quiet {
            say!("\n");
        }
        moved?;
        if !how.cold {
            self.announce(from, to, slot)?;
        }
        if how.update {
            self.nodes[from].slots.put(slot, false);
            self.nodes[to].slots.put(slot, true);
        }
        Ok(())
    }

    /// Tells all masters whose slot it is now.
    fn announce(&mut self, from: NodeAt, to: NodeAt, slot: usize) -> Result<(), Stuck> {
        self.set_slot(to, slot, "node", to)?;
        match self.set_slot(from, slot, "node", to) {
            Err(stuck)
                if stuck
                    .refusal
                    .words()
                    .is_some_and(|w| w.starts_with(NO_MASTER)) => {}
            // (A fix goes on: the new owner has the slot.)
            Err(stuck) if self.fixing => drop(self.report(&stuck)),
            told => told?,
        }
        for node in 0..self.nodes.len() {
            if node != to && node != from && !self.nodes[node].is_replica {
                self.set_slot(node, slot, "node", to)?;
            }
        }
        Ok(())
    }

    fn move_keys(
        &mut self,
        from: NodeAt,
        to: NodeAt,
        slot: usize,
        dots: bool,
    ) -> Result<(), Stuck> {
        let most = usize::try_from(self.options.pipeline).unwrap_or(0);
        loop {
            let stuck = |refusal| Stuck {
                node: from,
                refusal,
                told: false,
            };
            let keys = self.keys_of(from, slot, most).map_err(stuck)?;
            if keys.is_empty() {
                return Ok(());
            }
            let migrated = match self.migrate(from, to, &keys, false) {
                Err(Refusal::Words(words)) => self.after_refusal(from, to, slot, &keys, words),
                other => other.map_err(stuck),
            };
            if let Err(mut stuck) = migrated {
                if !stuck.told && stuck.refusal.words().is_some() {
                    say!("\n");
                    self.report(&stuck);
                }
                stuck.told = true;
                return Err(stuck);
            }
            if dots {
                say!("{}", ".".repeat(keys.len()));
                out::flush();
            }
        }
    }

    /// Sends keys over.
    fn migrate(
        &mut self,
        from: NodeAt,
        to: NodeAt,
        keys: &[Value],
        replace: bool,
    ) -> Result<(), Refusal> {
        let target = self.nodes[to].address.clone();
        let (port, timeout) = (target.port.to_string(), self.options.timeout_ms.to_string());
        let mut args: Vec<&[u8]> = vec![
            b"MIGRATE",
            target.host.as_bytes(),
            port.as_bytes(),
            b"",
            b"0",
            timeout.as_bytes(),
        ];
        if replace {
            args.push(b"REPLACE");
        }
        args.extend(super::migrate_login(&self.login));
        args.push(b"KEYS");
        args.extend(keys.iter().filter_map(Value::as_bytes));
        self.nodes[from].ask(&args).map(drop)
    }

    /// MIGRATE was refused. Tries it again where something can be done about it: a key that is there already may be
    /// replaced if it has the same value (or the user wants it), a slot that is nobody's may be given to the target.
    fn after_refusal(
        &mut self,
        from: NodeAt,
        to: NodeAt,
        slot: usize,
        keys: &[Value],
        words: String,
    ) -> Result<(), Stuck> {
        let is_busy = words.contains("BUSYKEY");
        let is_unserved = !is_busy
            && match self.owner_of(from, slot) {
                Ok(owner) => owner.is_none(),
                Err(refusal) => {
                    self.nodes[from].report(&refusal);
                    false
                }
            };
        let stuck = |refusal, told| Stuck {
            node: from,
            refusal,
            told,
        };
        if !is_busy && !is_unserved {
            return Err(stuck(Refusal::Words(words), false));
        }
        if self.fixing && is_unserved {
            warning!(
                "*** Slot was not served, setting owner to node {}.\n",
                self.nodes[to].place()
            );
            let _ = self.demand_slot(from, slot, "node", to);
        }
        if is_busy {
            warning!("\n*** Target key exists\n");
            if !self.options.replace && self.have_same_values(from, to, keys).is_err() {
                return Err(stuck(Refusal::Words(words), true));
            }
            warning!("*** Replacing target keys...\n");
        }
        self.migrate(from, to, keys, is_busy)
            .map_err(|refusal| stuck(refusal, false))
    }

    /// Whether those of the keys that both nodes have are the same; if not, that is said.
    fn have_same_values(&mut self, from: NodeAt, to: NodeAt, keys: &[Value]) -> Result<(), Failed> {
        warning!("*** Checking key values on both nodes...\n");
        let different = self.differing(from, to, keys).inspect_err(|_| {
            bad!("*** Value check failed!\n");
        })?;
        if different.is_empty() {
            return Ok(());
        }
        bad!(
            "*** Found {} key(s) in both source node and target node having different values.\n    Source node: {}\n    \
             Target node: {}\n    Keys(s):\n",
            different.len(),
            self.nodes[from].place(),
            self.nodes[to].place()
        );
        for key in &different {
            bad!("    - {key}\n");
        }
        bad!(
            "Please fix the above key(s) manually and try again or relaunch the command \nwith --cluster-replace option \
             to force key overriding.\n"
        );
        Err(Failed)
    }

    fn differing(
        &mut self,
        from: NodeAt,
        to: NodeAt,
        keys: &[Value],
    ) -> Result<Vec<String>, Failed> {
        let keys: Vec<&[u8]> = keys.iter().filter_map(Value::as_bytes).collect();
        let command = [&[&b"DEBUG"[..], b"DIGEST-VALUE"], &keys[..]].concat();
        let mut digests = |node: NodeAt| match self.nodes[node].demand(&command)? {
            Value::Array(digests) if digests.len() == keys.len() => Ok(digests),
            _ => Err(Failed),
        };
        let (ours, theirs) = (digests(from)?, digests(to)?);
        let pairs = keys.iter().zip(ours.iter().zip(&theirs));
        let is_there = |digest: &Value| digest.as_bytes() != Some(NO_DIGEST);
        Ok(pairs
            .filter(|(_, (a, b))| a != b && is_there(a) && is_there(b))
            .map(|(key, _)| lossy(key).into_owned())
            .collect())
    }
}
