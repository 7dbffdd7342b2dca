//! Putting a cluster right: slots that are open, slots that nobody has, slots that several have.
//!
//! A slot with keys goes to the node with the most of them, and the keys of others go there too.

use super::super::out::say;
use super::super::session::Failed;
use super::ask;
use super::cure::{Cure, Open};
use super::moving::How;
use super::slots::{SLOTS, Slots};
use super::tell::{bad, step, warning};
use super::{Cluster, NodeAt};

/// Keys go over, with a dot for each, and nothing else changes.
const KEYS_ALONE: How = How {
    dots: true,
    quiet: false,
    cold: true,
    update: false,
};

/// A list of nodes, as text.
fn places(cluster: &Cluster, nodes: &[NodeAt]) -> String {
    let places: Vec<String> = nodes.iter().map(|&at| cluster.nodes[at].place()).collect();
    places.join(",")
}

impl Cluster {
    /// What cannot be seen cannot be put right, unless the user thinks otherwise.
    pub fn demand_reachable(&self, what: &str) -> Result<(), Failed> {
        let n = self.unreachable_masters;
        if n == 0 || self.options.fix_with_unreachable {
            return Ok(());
        }
        warning!(
            "*** Fixing {what} with {n} unreachable masters is dangerous: redis-cli will assume that slots about masters \
             that are not reachable are not covered, and will try to reassign them to the reachable nodes. This can cause \
             data loss and is rarely what you want to do. If you really want to proceed use the \
             --cluster-fix-with-unreachable-masters option.\n"
        );
        Err(Failed)
    }

    fn move_for_fix(
        &mut self,
        from: NodeAt,
        to: NodeAt,
        slot: usize,
        how: How,
    ) -> Result<(), Failed> {
        let moved = self.move_slot(from, to, slot, how);
        moved.map_err(|stuck| self.report(&stuck))
    }

    /// The master among `nodes` that has most keys of a slot.
    fn with_most_keys(&mut self, nodes: &[NodeAt], slot: usize) -> Result<Option<NodeAt>, Failed> {
        let mut most: Option<(NodeAt, i64)> = None;
        for &at in nodes {
            if self.nodes[at].is_master() {
                let keys = self.count_keys(at, slot)?;
                if most.is_none_or(|(_, others)| keys > others) {
                    most = Some((at, keys));
                }
            }
        }
        Ok(most.map(|(at, _)| at))
    }

    /// Closes a slot that was left open.
    pub fn fix_open_slot(&mut self, slot: usize) -> Result<(), Failed> {
        step!(">>> Fixing open slot {slot}\n");
        let owners = self.claimants(slot)?;
        let mut open = Open {
            owner: match owners[..] {
                [one] => Some(one),
                _ => None,
            },
            ..Open::default()
        };
        self.find_open(slot, &mut open)?;
        let (migrating, importing) = (places(self, &open.migrating), places(self, &open.importing));
        if !migrating.is_empty() {
            say!("Set as migrating in: {migrating}\n");
        }
        if !importing.is_empty() {
            say!("Set as importing in: {importing}\n");
        }
        let owner = match open.owner {
            Some(owner) => owner,
            None => self.choose_owner(slot, &mut open)?,
        };
        if owners.len() > 1 {
            self.leave_one_owner(slot, owner, &owners, &mut open)?;
        }
        open.target = self.target_of(slot, &open);
        let cure = open.cure(|at| self.count_keys(at, slot).map(|keys| keys > 0))?;
        if cure == Cure::Unknown {
            bad!(
                "[ERR] Sorry, redis-cli can't fix this slot yet (work in progress). Slot is set as migrating in \
                 {migrating}, as importing in {importing}, owner is {}\n",
                self.nodes[owner].place()
            );
            return Err(Failed);
        }
        self.apply(cure, slot, owner, &open)
    }

    /// The masters to which a slot belongs, or who have keys of it.
    fn claimants(&mut self, slot: usize) -> Result<Vec<NodeAt>, Failed> {
        let mut owners = Vec::new();
        for at in self.masters() {
            if self.nodes[at].slots.has(slot) {
                owners.push(at);
            } else if self.count_keys(at, slot)? > 0 {
                warning!(
                    "*** Found keys about slot {slot} in non-owner node {}!\n",
                    self.nodes[at].place()
                );
                owners.push(at);
            }
        }
        Ok(owners)
    }

    /// Who has the slot for migrating or importing; who has keys and is not the owner is as good as importing.
    fn find_open(&mut self, slot: usize, open: &mut Open) -> Result<(), Failed> {
        for at in self.masters() {
            let node = &self.nodes[at];
            if node.migrating.iter().any(|(s, _)| *s == slot) {
                open.migrating.push(at);
            } else if node.importing.iter().any(|(s, _)| *s == slot) {
                open.importing.push(at);
            } else if open.owner != Some(at) && self.count_keys(at, slot)? > 0 {
                let place = self.nodes[at].place();
                warning!("*** Found keys about slot {slot} in node {place}!\n");
                open.importing.push(at);
            }
        }
        Ok(())
    }

    /// Nobody is the owner, or several are: it becomes who has most keys.
    fn choose_owner(&mut self, slot: usize, open: &mut Open) -> Result<NodeAt, Failed> {
        step!(">>> No single clear owner for the slot, selecting an owner by # of keys...\n");
        let all: Vec<NodeAt> = (0..self.nodes.len()).collect();
        let Ok(Some(owner)) = self.with_most_keys(&all, slot) else {
            bad!("[ERR] Can't select a slot owner. Impossible to fix.\n");
            return Err(Failed);
        };
        warning!(
            "*** Configuring {} as the slot owner\n",
            self.nodes[owner].place()
        );
        self.close_slot(owner, slot)?;
        self.own_slot(owner, slot, false)?;
        self.nodes[owner].slots.put(slot, true);
        open.migrating.retain(|&at| at != owner);
        open.importing.retain(|&at| at != owner);
        open.owner = Some(owner);
        Ok(owner)
    }

    /// Of several owners, all but one become importing.
    fn leave_one_owner(
        &mut self,
        slot: usize,
        owner: NodeAt,
        owners: &[NodeAt],
        open: &mut Open,
    ) -> Result<(), Failed> {
        for &at in owners.iter().filter(|&&at| at != owner) {
            self.delete_slot(at, slot)?;
            self.nodes[at].slots.put(slot, false);
            self.demand_slot(at, slot, "node", owner)?;
            self.demand_slot(at, slot, "importing", owner)?;
            open.importing.retain(|&n| n != at);
            open.importing.push(at);
            open.migrating.retain(|&n| n != at);
        }
        Ok(())
    }

    /// Where the slot was to go, if that is one of those that import it.
    fn target_of(&self, slot: usize, open: &Open) -> Option<NodeAt> {
        let from = &self.nodes[*open.migrating.first()?];
        let (_, name) = from.migrating.iter().find(|(s, _)| *s == slot)?;
        let mut importing = open.importing.iter().copied();
        importing.find(|&at| self.nodes[at].name == *name)
    }

    fn apply(&mut self, cure: Cure, slot: usize, owner: NodeAt, open: &Open) -> Result<(), Failed> {
        let with_dots = How {
            dots: true,
            ..How::default()
        };
        match cure {
            Cure::Move { from, to } => {
                let (source, target) = (self.nodes[from].place(), self.nodes[to].place());
                step!(">>> Case 1: Moving slot {slot} from {source} to {target}\n");
                let how = How {
                    update: true,
                    ..with_dots
                };
                self.move_for_fix(from, to, slot, how)
            }
            Cure::Gather => self.gather(slot, owner, &open.importing),
            Cure::MoveAndClose { from, to } => {
                let (source, target) = (self.nodes[from].place(), self.nodes[to].place());
                step!(
                    ">>> Case 3: Moving slot {slot} from {source} to {target} and closing it on all the other importing \
                     nodes.\n"
                );
                self.move_for_fix(from, to, slot, with_dots)?;
                let mut others = open.importing.iter().filter(|&&at| at != to);
                others.try_for_each(|&at| self.close_slot(at, slot))
            }
            Cure::CloseAll { at } => {
                step!(">>> Case 3: Closing slot {slot} on both migrating and importing nodes.\n");
                self.close_slot(at, slot)?;
                open.importing
                    .iter()
                    .try_for_each(|&at| self.close_slot(at, slot))
            }
            Cure::Close { at } => {
                step!(
                    ">>> Case 4: Closing slot {slot} on {}\n",
                    self.nodes[at].place()
                );
                self.close_slot(at, slot)
            }
            Cure::Unknown => Err(Failed),
        }
    }

    /// Moves the keys of others to the owner, and tells everybody who that is.
    fn gather(&mut self, slot: usize, owner: NodeAt, importing: &[NodeAt]) -> Result<(), Failed> {
        step!(
            ">>> Case 2: Moving all the {slot} slot keys to its owner {}\n",
            self.nodes[owner].place()
        );
        for &at in importing.iter().filter(|&&at| at != owner) {
            self.move_for_fix(at, owner, slot, KEYS_ALONE)?;
            step!(
                ">>> Setting {slot} as STABLE in {}\n",
                self.nodes[at].place()
            );
            self.close_slot(at, slot)?;
        }
        for at in self.masters() {
            if at != owner {
                self.demand_slot(at, slot, "NODE", owner)?;
            }
        }
        Ok(())
    }

    /// Gives the slots that nobody has to somebody, if the user agrees. Gives how many.
    pub fn fix_coverage(&mut self, covered: &Slots) -> Result<usize, Failed> {
        step!(">>> Fixing slots coverage...\n");
        let (mut none, mut single, mut multi) = (Vec::new(), Vec::new(), Vec::new());
        for slot in (0..SLOTS).filter(|&slot| !covered.has(slot)) {
            let mut holders = Vec::new();
            for at in self.masters() {
                let keys = self.keys_of(at, slot, 1);
                if !keys
                    .map_err(|refusal| self.nodes[at].report(&refusal))?
                    .is_empty()
                {
                    holders.push(at);
                }
            }
            match holders[..] {
                [] => none.push(slot),
                [one] => single.push((slot, one)),
                _ => multi.push((slot, holders)),
            }
        }
        Ok(self.cover_with_any(&none)? + self.cover(&single)? + self.cover_by_moving(&multi)?)
    }

    fn is_wanted(&self, slots: impl Iterator<Item = usize>, what: &str, question: &str) -> bool {
        let slots: Slots = slots.collect();
        if slots.is_empty() {
            return false;
        }
        say!("The following uncovered slots have {what}:\n{slots}\n");
        ask::yes(question)
    }

    fn cover_with_any(&mut self, slots: &[usize]) -> Result<usize, Failed> {
        let question = "Fix these slots by covering with a random node? (type 'yes' to accept): ";
        if !self.is_wanted(
            slots.iter().copied(),
            "no keys across the cluster",
            question,
        ) {
            return Ok(0);
        }
        let masters = self.masters();
        let mut chosen = Vec::new();
        for &slot in slots {
            let pick = self.rng.below(masters.len().max(1) as u64) as usize;
            chosen.push((slot, *masters.get(pick).ok_or(Failed)?));
        }
        self.cover_each(&chosen)
    }

    fn cover(&mut self, slots: &[(usize, NodeAt)]) -> Result<usize, Failed> {
        let question = "Fix these slots by covering with those nodes? (type 'yes' to accept): ";
        match self.is_wanted(slots.iter().map(|s| s.0), "keys in just one node", question) {
            true => self.cover_each(slots),
            false => Ok(0),
        }
    }

    fn cover_each(&mut self, slots: &[(usize, NodeAt)]) -> Result<usize, Failed> {
        for &(slot, at) in slots {
            step!(">>> Covering slot {slot} with {}\n", self.nodes[at].place());
            self.own_slot(at, slot, false)?;
            self.nodes[at].slots.put(slot, true);
        }
        Ok(slots.len())
    }

    fn cover_by_moving(&mut self, slots: &[(usize, Vec<NodeAt>)]) -> Result<usize, Failed> {
        let question =
            "Fix these slots by moving keys into a single node? (type 'yes' to accept): ";
        if !self.is_wanted(
            slots.iter().map(|s| s.0),
            "keys in multiple nodes",
            question,
        ) {
            return Ok(0);
        }
        for (slot, holders) in slots {
            let slot = *slot;
            let target = self.with_most_keys(holders, slot)?.ok_or(Failed)?;
            step!(
                ">>> Covering slot {slot} moving keys to {}\n",
                self.nodes[target].place()
            );
            self.own_slot(target, slot, true)?;
            self.nodes[target].slots.put(slot, true);
            for &at in holders.iter().filter(|&&at| at != target) {
                self.demand_slot(at, slot, "NODE", target)?;
                // (So it does not redirect the MIGRATE.)
                self.demand_slot(at, slot, "IMPORTING", target)?;
                self.move_for_fix(at, target, slot, KEYS_ALONE)?;
                self.close_slot(at, slot)?;
            }
        }
        Ok(slots.len())
    }

    /// Leaves a slot to the one of its owners that has most keys.
    pub fn fix_owners(&mut self, slot: usize, owners: &[NodeAt]) -> Result<(), Failed> {
        step!(">>> Fixing multiple owners for slot {slot}...\n");
        let most = self.with_most_keys(owners, slot).ok().flatten();
        let owner = most.or(owners.first().copied()).ok_or(Failed)?;
        step!(
            ">>> Setting slot {slot} owner: {}\n",
            self.nodes[owner].place()
        );
        self.own_slot(owner, slot, false)?;
        for at in self.masters() {
            if at == owner {
                continue;
            }
            let keys = self.count_keys(at, slot)?;
            // (What is wrong has been said.)
            let _ = self.delete_slot(at, slot);
            self.demand_slot(at, slot, "node", owner)?;
            if keys > 0 {
                self.move_for_fix(at, owner, slot, KEYS_ALONE)?;
            }
        }
        Ok(())
    }
}
