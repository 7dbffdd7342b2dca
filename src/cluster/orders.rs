//! What an administrator asks of a node: the CLUSTER subcommands that change something. Those that can't be done say why, in
//! the words of the reply.

use core::net::IpAddr;

use super::node::{Flags, Id, Name, Node};
use super::slotset::SlotSet;
use super::state::{Action, Cluster, Todo};
use crate::base::level::Level;
use crate::base::slot::Slot;

/// Why something was not done.
pub type Refusal = String;

/// How CLUSTER FAILOVER is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With the master, so that nothing is lost.
    Agreed,
    /// Without it.
    Force,
    /// Without anybody.
    Takeover,
}

/// What CLUSTER SETSLOT says of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetSlot<'a> {
    Migrating(&'a [u8]),
    Importing(&'a [u8]),
    Stable,
    Node(&'a [u8]),
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

impl Cluster {
    /// The node of a name as it was written.
    pub fn find(&self, name: &[u8]) -> Option<&Node> {
        self.named(&Name::parse(name)?)
    }

    /// The same for a reply.
    pub fn find_or_say(&self, name: &[u8]) -> Result<&Node, Refusal> {
        let unknown = || format!("Unknown node {}", shown(name));
        self.find(name).ok_or_else(unknown)
    }

    /// CLUSTER MEET: a handshake with whoever is there, unless one is under way. False if that is no address.
    pub fn meet(&mut self, ip: &str, port: i64, bus_port: i64) -> bool {
        let is_port = |port: i64| u16::try_from(port).ok().filter(|port| *port > 0);
        let ip = ip.parse::<IpAddr>().ok();
        let (Some(ip), Some(port), Some(bus_port)) = (ip, is_port(port), is_port(bus_port)) else {
            return false;
        };
        let (ip, tls_bus) = (ip.to_string(), self.settings.tls_bus);
        let is_same = |n: &Node| {
            n.in_handshake()
                && n.ip.eq_ignore_ascii_case(&ip)
                && (n.ports(tls_bus).0, n.bus_port) == (port, bus_port)
        };
        if self.nodes.values().any(is_same) {
            return true;
        }
        let name = self.random_name();
        let id = self.add_node(name, Flags::HANDSHAKE.or(Flags::MEET));
        if let Some(node) = self.nodes.get_mut(&id) {
            (node.ip, node.bus_port) = (ip, bus_port);
            node.set_ports(tls_bus, port, 0);
        }
        true
    }

    /// CLUSTER ADDSLOTS, DELSLOTS and their RANGE forms: these slots are ours from now on, or nobody's.
    pub fn assign(&mut self, ranges: &[(Slot, Slot)], add: bool) -> Result<(), Refusal> {
        let mut slots = SlotSet::default();
        for (first, last) in ranges {
            for slot in Slot::all().filter(|slot| (first..=last).contains(&slot)) {
                let has_owner = self.owners[slot.index()].is_some();
                if add && has_owner {
                    return Err(format!("Slot {slot} is already busy"));
                }
                if !add && !has_owner {
                    return Err(format!("Slot {slot} is already unassigned"));
                }
                if !slots.insert(slot) {
                    return Err(format!("Slot {slot} specified multiple times"));
                }
            }
        }
        for slot in slots.iter() {
            self.importing.remove(&slot);
            match add {
                true => self.give_slot(slot, self.me),
                false => self.take_slot(slot),
            };
        }
        self.do_later(Todo::JUDGE.and(Todo::SAVE));
        Ok(())
    }

    /// CLUSTER FLUSHSLOTS: we have no slot any more.
    pub fn flush_slots(&mut self) {
        self.drop_slots_of(self.me);
        self.do_later(Todo::JUDGE.and(Todo::SAVE));
    }

    /// CLUSTER SETSLOT; `has_keys`: there are keys of it here.
    pub fn set_slot(
        &mut self,
        slot: Slot,
        what: SetSlot<'_>,
        has_keys: bool,
    ) -> Result<(), Refusal> {
        match what {
            SetSlot::Migrating(name) => {
                if !self.is_mine(slot) {
                    return Err(format!("I'm not the owner of hash slot {slot}"));
                }
                let id = self.other_master(name)?;
                self.migrating.insert(slot, id);
            }
            SetSlot::Importing(name) => {
                if self.is_mine(slot) {
                    return Err(format!("I'm already the owner of hash slot {slot}"));
                }
                let id = self.other_master(name)?;
                self.importing.insert(slot, id);
            }
            SetSlot::Stable => {
                self.importing.remove(&slot);
                self.migrating.remove(&slot);
            }
            SetSlot::Node(name) => self.set_owner(slot, name, has_keys)?,
        }
        self.do_later(Todo::JUDGE.and(Todo::SAVE));
        Ok(())
    }

    fn other_master(&self, name: &[u8]) -> Result<Id, Refusal> {
        let unknown = || format!("I don't know about node {}", shown(name));
        let node = self.find(name).ok_or_else(unknown)?;
        if node.is_replica() {
            return Err("Target node is not a master".into());
        }
        Ok(node.id)
    }

    fn set_owner(&mut self, slot: Slot, name: &[u8], has_keys: bool) -> Result<(), Refusal> {
        let node = self.find_or_say(name)?;
        if node.is_replica() {
            return Err("Target node is not a master".into());
        }
        let (id, was_mine) = (node.id, self.is_mine(slot));
        if was_mine && id != self.me && has_keys {
            return Err(format!(
                "Can't assign hashslot {slot} to a different node while I still hold keys for this hash slot."
            ));
        }
        if !has_keys {
            self.migrating.remove(&slot);
        }
        self.take_slot(slot);
        self.give_slot(slot, id);
        let is_bare = self.myself().slots.is_empty();
        if was_mine && id != self.me && is_bare && self.settings.allow_replica_migration {
            let text = format!(
                "Configuration change detected. Reconfiguring myself as a replica of {}",
                self.who(id)
            );
            self.log(Level::Notice, text);
            self.follow(id);
            self.do_later(Todo::SURE);
        }
        if id == self.me && self.importing.remove(&slot).is_some() {
            // It has moved by hand: with an epoch of its own the claim wins, and all are to hear of it soon. They would never
            // hear that it was forgotten. (Redis is sure of it only if the epoch is new.)
            self.do_later(Todo::SURE);
            if self.bump_epoch() {
                self.log(
                    Level::Notice,
                    format!("configEpoch updated after importing slot {slot}"),
                );
            }
            self.broadcast_pong(false);
        }
        Ok(())
    }

    /// The greatest epoch that is known.
    pub(super) fn greatest_epoch(&self) -> u64 {
        let of_nodes = self.nodes.values().map(|node| node.config_epoch);
        of_nodes.fold(self.current_epoch, u64::max)
    }

    /// Takes a new epoch without asking anybody, unless ours is the greatest. True if it did.
    pub fn bump_epoch(&mut self) -> bool {
        let own = self.myself().config_epoch;
        if own != 0 && own == self.greatest_epoch() {
            return false;
        }
        self.current_epoch = self.current_epoch.saturating_add(1);
        let epoch = self.current_epoch;
        if let Some(me) = self.me_mut() {
            me.config_epoch = epoch;
        }
        self.do_later(Todo::SAVE.and(Todo::SURE));
        self.log(Level::Notice, format!("New configEpoch set to {epoch}"));
        true
    }

    /// CLUSTER SET-CONFIG-EPOCH, of a node that is new.
    pub fn set_config_epoch(&mut self, epoch: i64) -> Result<(), Refusal> {
        let Ok(epoch) = u64::try_from(epoch) else {
            return Err(format!("Invalid config epoch specified: {epoch}"));
        };
        if self.nodes.len() > 1 {
            return Err(
                "The user can assign a config epoch only when the node does not know any other node."
                    .into(),
            );
        }
        let Some(me) = self.me_mut().filter(|me| me.config_epoch == 0) else {
            return Err("Node config epoch is already non-zero".into());
        };
        me.config_epoch = epoch;
        self.current_epoch = self.current_epoch.max(epoch);
        let text = format!("configEpoch set to {epoch} via CLUSTER SET-CONFIG-EPOCH");
        self.log(Level::Notice, text);
        self.do_later(Todo::JUDGE.and(Todo::SAVE));
        Ok(())
    }

    /// CLUSTER FORGET
    pub fn forget(&mut self, name: &[u8]) -> Result<(), Refusal> {
        let me = self.myself();
        let my_master = me.master.filter(|_| me.is_replica());
        let Some(node) = self.find(name) else {
            // Another node may have told us to forget it already.
            let known = Name::parse(name).is_some_and(|name| self.is_forgotten(&name));
            return match known {
                true => Ok(()),
                false => Err(format!("Unknown node {}", shown(name))),
            };
        };
        if node.id == self.me {
            return Err("I tried hard but I can't forget myself...".into());
        }
        if Some(node.id) == my_master {
            return Err("Can't forget my master!".into());
        }
        let (id, name) = (node.id, node.name);
        self.blacklist(name);
        self.remove_node(id);
        self.do_later(Todo::JUDGE.and(Todo::SAVE));
        Ok(())
    }

    /// CLUSTER REPLICATE
    pub fn replicate(&mut self, name: &[u8]) -> Result<(), Refusal> {
        let node = self.find_or_say(name)?;
        if node.id == self.me {
            return Err("Can't replicate myself".into());
        }
        if node.is_replica() {
            return Err("I can only replicate a master, not a replica.".into());
        }
        let (id, me) = (node.id, self.myself());
        if me.is_master() && (!me.slots.is_empty() || self.facts.has_keys) {
            return Err(
                "To set a master the node must be empty and without assigned slots.".into(),
            );
        }
        self.follow(id);
        self.do_later(Todo::JUDGE.and(Todo::SAVE));
        Ok(())
    }

    /// CLUSTER FAILOVER
    pub fn fail_over(&mut self, how: How) -> Result<(), Refusal> {
        if self.myself().is_master() {
            return Err("You should send CLUSTER FAILOVER to a replica".into());
        }
        let Some(master) = self.my_master() else {
            return Err("I'm a replica but my master is unknown to me".into());
        };
        if how == How::Agreed && (master.has_failed() || master.link.is_none()) {
            return Err("Master is down or failed, please use CLUSTER FAILOVER FORCE".into());
        }
        self.begin_manual(how);
        Ok(())
    }

    /// CLUSTER RESET: forgets all other nodes and gives up all slots; a replica is a master from now on. A hard one has a
    /// new name too, and no epoch.
    pub fn reset(&mut self, hard: bool) -> Result<(), Refusal> {
        if self.myself().is_master() && self.facts.has_keys {
            return Err("CLUSTER RESET can't be called with master nodes containing keys".into());
        }
        if self.myself().is_replica() {
            self.be_master(self.me);
            self.out.extend([Action::Lead, Action::DropAll]);
        }
        self.close_slots();
        self.reset_manual();
        for slot in Slot::all() {
            self.take_slot(slot);
        }
        let others: Vec<Id> = self
            .nodes
            .keys()
            .filter(|id| **id != self.me)
            .copied()
            .collect();
        for id in others {
            self.remove_node(id);
        }
        self.forgotten.clear();
        if hard {
            self.current_epoch = 0;
            self.voted_epoch = 0;
            self.log(Level::Notice, "configEpoch set to 0 via CLUSTER RESET HARD");
            let (name, shard) = (self.random_name(), self.random_name());
            self.rename_node(self.me, name);
            if let Some(me) = self.me_mut() {
                me.config_epoch = 0;
                me.shard = shard;
            }
            self.log(Level::Notice, format!("Node hard reset, now I'm {name}"));
        }
        self.do_later(Todo::SAVE.and(Todo::JUDGE).and(Todo::SURE));
        Ok(())
    }

    /// CLUSTER SAVECONFIG has written the file.
    pub fn note_saved(&mut self) {
        self.todo = self.todo.without(Todo::SAVE.and(Todo::SURE));
    }
}
