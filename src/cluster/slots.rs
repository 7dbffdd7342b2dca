//! Who has which slot, and whether the cluster serves.
//!
//! A slot belongs to the master that claims it with the greatest configuration epoch. Claims come with every ping, and in
//! UPDATE messages about others. A slot that is being imported changes hands only by command.
//!
//! The cluster serves if every slot has a master that has not failed (unless `cluster-require-full-coverage no`) and if we
//! reach most masters. A master that comes back waits a little before it serves again: its slots may be another's now.

use super::node::{Flags, Id, Node};
use super::slotset::SlotSet;
use super::state::{Action, Cluster, Todo};
use crate::base::level::Level;
use crate::base::planted::{self, Bug};
use crate::base::slot::{SLOTS, Slot};

/// A master that has just begun does not serve for so long.
const WRITABLE_DELAY_MS: i64 = 2000;
/// One that was among a minority waits for the node timeout, within these bounds.
const REJOIN_MS_MIN: i64 = 500;
const REJOIN_MS_MAX: i64 = 5000;

impl Cluster {
    /// Gives a slot to a node; false if it has an owner.
    pub(super) fn give_slot(&mut self, slot: Slot, id: Id) -> bool {
        if self.owners[slot.index()].is_some() {
            return false;
        }
        let others_have_replicas = || {
            let mut masters = self.nodes.values().filter(|n| !n.is_replica());
            masters.any(|master| !master.replicas.is_empty())
        };
        let is_first = self.nodes.get(&id).is_some_and(|n| n.slots.is_empty());
        // A master's first slot: from now on it is one that replicas may move to, if there are any.
        let may_attract = is_first && others_have_replicas();
        let Some(node) = self.nodes.get_mut(&id) else {
            return false;
        };
        node.slots.insert(slot);
        if may_attract {
            node.flags.set(Flags::MIGRATE_TO, true);
        }
        self.owners[slot.index()] = Some(id);
        true
    }

    /// Takes a slot from its owner; false if it has none.
    pub(super) fn take_slot(&mut self, slot: Slot) -> bool {
        let Some(owner) = self.owners[slot.index()].take() else {
            return false;
        };
        if let Some(node) = self.nodes.get_mut(&owner) {
            node.slots.remove(slot);
        }
        self.unclaimed.remove(slot);
        self.out.push(Action::SlotMoved(slot));
        true
    }

    /// Takes all slots from a node.
    pub(super) fn drop_slots_of(&mut self, id: Id) {
        let slots = self.nodes.get(&id).map(|node| node.slots.clone());
        for slot in slots.unwrap_or_default().iter() {
            self.take_slot(slot);
        }
    }

    /// No slot is on its way any more.
    pub(super) fn close_slots(&mut self) {
        self.migrating.clear();
        self.importing.clear();
    }

    /// A master claims slots. Those that it has the greatest epoch for are its own from now on; we may have lost all of ours
    /// by it, or our master its: then we follow the one that has them now.
    pub(super) fn claim_slots(&mut self, id: Id, epoch: u64, claimed: &SlotSet) {
        if id == self.me {
            return self.log(Level::Notice, "Discarding UPDATE message about myself.");
        }
        let me = self.myself();
        let ours = if me.is_master() {
            Some(self.me)
        } else {
            me.master
        };
        let mut lost_by_me = Vec::new();
        let mut from_ours = 0;
        for slot in Slot::all() {
            let owner = self.owners[slot.index()];
            if !claimed.has(slot) {
                if owner == Some(id) {
                    // Nobody else claims it either: it stays, but others are not told so.
                    self.unclaimed.insert(slot);
                }
                continue;
            }
            if owner == Some(id) {
                self.unclaimed.remove(slot);
                continue;
            }
            if self.importing.contains_key(&slot) {
                continue;
            }
            let is_older = |owner: Id| self.node(owner).is_none_or(|n| n.config_epoch < epoch);
            let is_free = self.unclaimed.has(slot) || owner.is_none_or(is_older);
            if !is_free {
                continue;
            }
            if owner == Some(self.me) {
                lost_by_me.push(slot);
            }
            if owner.is_some() && owner == ours {
                from_ours += 1;
            }
            self.take_slot(slot);
            self.give_slot(slot, id);
            self.do_later(Todo::SAVE.and(Todo::JUDGE).and(Todo::SURE));
        }
        self.follow_slots(id, ours, from_ours, claimed.len(), lost_by_me);
    }

    fn follow_slots(
        &mut self,
        to: Id,
        ours: Option<Id>,
        from_ours: usize,
        claimed: usize,
        lost_by_me: Vec<Slot>,
    ) {
        let ours = ours.and_then(|id| self.node(id));
        let is_bare = ours.is_some_and(|node| node.slots.is_empty());
        let may_move = self.settings.allow_replica_migration || claimed == from_ours;
        let save = Todo::SAVE.and(Todo::JUDGE).and(Todo::SURE);
        if from_ours > 0 && is_bare && may_move {
            let text = format!(
                "Configuration change detected. Reconfiguring myself as a replica of {}",
                self.who(to)
            );
            self.log(Level::Notice, text);
            self.follow(to);
            self.do_later(save);
        } else if !self.follow_grandmaster() && !lost_by_me.is_empty() {
            self.out.push(Action::DropKeys(lost_by_me));
        }
    }

    /// A replica of a replica follows the master of that; true if this was one. (Redis looks for it only when slots move.
    /// One that was away meanwhile may find them moved, and hear only then that its master follows another.)
    pub(super) fn follow_grandmaster(&mut self) -> bool {
        let Some(above) = self.grandmaster() else {
            return false;
        };
        let text = format!(
            "I'm a sub-replica! Reconfiguring myself as a replica of grandmaster {}",
            self.who(above)
        );
        self.log(Level::Notice, text);
        self.follow(above);
        self.do_later(Todo::SAVE.and(Todo::JUDGE).and(Todo::SURE));
        true
    }

    /// The master of our master, unless that is us.
    fn grandmaster(&self) -> Option<Id> {
        self.my_master()?.master.filter(|id| *id != self.me)
    }

    /// Becomes a replica of a node. (It has no slots any more.)
    pub(super) fn follow(&mut self, id: Id) {
        let Some(master) = self.nodes.get(&id).filter(|_| id != self.me) else {
            return;
        };
        let (ip, shard) = (master.ip.clone(), master.shard);
        let port = self.replication_port(master);
        let Some(me) = self.me_mut() else {
            return;
        };
        let before = me.master.replace(id);
        if me.is_master() {
            me.flags.set(Flags::MASTER.or(Flags::MIGRATE_TO), false);
            me.flags.set(Flags::REPLICA, true);
            self.close_slots();
        } else if let Some(before) = before {
            self.remove_replica(before, self.me);
        }
        self.put_in_shard(self.me, shard);
        self.add_replica(id, self.me);
        self.out.push(Action::Follow { ip, port });
        self.reset_manual();
    }

    /// Judges whether the cluster serves.
    pub(super) fn judge(&mut self) {
        let now_ms = self.now_ms;
        if self.judged_first_ms == 0 {
            self.judged_first_ms = now_ms;
        }
        let is_master = self.myself().is_master();
        if is_master && !self.is_ok && now_ms - self.judged_first_ms < WRITABLE_DELAY_MS {
            return;
        }
        let has_slots = |n: &&Node| n.is_master() && !n.slots.is_empty();
        let is_well = |n: &&Node| !n.flags.has(Flags::FAIL.or(Flags::PFAIL));
        self.size = self.nodes.values().filter(has_slots).count();
        let reached = (self.nodes.values().filter(has_slots))
            .filter(is_well)
            .count();
        let is_covered = !self.settings.require_full_coverage || self.covers_all();
        let has_majority = reached >= self.quorum() || planted::on(Bug::MinorityServes);
        if !has_majority {
            self.minority_ms = now_ms;
        }
        let is_ok = is_covered && has_majority;
        if is_ok == self.is_ok {
            return;
        }
        let delay_ms = (self.settings.node_timeout_ms).clamp(REJOIN_MS_MIN, REJOIN_MS_MAX);
        if is_ok && is_master && now_ms - self.minority_ms < delay_ms {
            return;
        }
        self.is_ok = is_ok;
        match is_ok {
            true => self.log(Level::Notice, "Cluster state changed: ok"),
            false => self.log(Level::Warning, "Cluster state changed: fail"),
        }
    }

    /// True if every slot has a node that has not failed.
    fn covers_all(&self) -> bool {
        // (A slot is with one node at most.)
        let well = self.nodes.values().filter(|node| !node.has_failed());
        well.map(|node| node.slots.len()).sum::<usize>() == SLOTS
    }

    /// There are keys of these slots in the file that was loaded. Those that nobody has are ours from now on; those that
    /// another has are marked as on their way to us, so that somebody may see to it.
    pub fn found_keys_in(&mut self, slots: impl Iterator<Item = Slot>) {
        let mut changed = false;
        if self.myself().is_replica() {
            // The stream of its master will tell.
            return;
        }
        for slot in slots {
            if self.is_mine(slot) || self.importing.contains_key(&slot) {
                continue;
            }
            changed = true;
            match self.owners[slot.index()] {
                None => {
                    self.log(
                        Level::Notice,
                        format!(
                            "I have keys for unassigned slot {slot}. Taking responsibility for it."
                        ),
                    );
                    self.give_slot(slot, self.me);
                }
                Some(owner) => {
                    self.log(
                        Level::Notice,
                        format!(
                            "I have keys for slot {slot}, but the slot is assigned to another node. Setting it to importing state."
                        ),
                    );
                    self.importing.insert(slot, owner);
                }
            }
        }
        if changed {
            self.do_later(Todo::SAVE.and(Todo::SURE));
        }
    }
}
