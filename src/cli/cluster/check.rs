//! `check`, `info` and `fix`: whether nodes agree, slots are open, all slots are covered, and none has several owners.

use super::super::out::say;
use super::super::session::Failed;
use super::slots::{SLOTS, Slots};
use super::tell::{bad, good, step};
use super::{Cluster, table};
use crate::resp::value::Value;

/// `info`: what the masters have.
pub fn info(cluster: &mut Cluster) -> Result<(), Failed> {
    let address = cluster.named()?;
    cluster.load(address)?;
    cluster.show_info();
    Ok(())
}

/// `check`: the same, and what is wrong.
pub fn check(cluster: &mut Cluster) -> Result<(), Failed> {
    let address = cluster.named()?;
    cluster.load(address)?;
    cluster.show_info();
    match cluster.check(false)? {
        true => Ok(()),
        false => Err(Failed),
    }
}

/// `fix`: the same, and it is put right.
pub fn fix(cluster: &mut Cluster) -> Result<(), Failed> {
    cluster.fixing = true;
    check(cluster)
}

impl Cluster {
    fn show_info(&mut self) {
        let masters = self.masters();
        let mut total = 0;
        for &at in &masters {
            let name = &self.nodes[at].name;
            let of_this = |master: &Option<String>| master.as_ref() == Some(name);
            let replicas = self
                .nodes
                .iter()
                .filter(|n| n.is_replica && of_this(&n.master));
            let replicas = replicas.count();
            let node = &mut self.nodes[at];
            let keys = match node.reply(&["DBSIZE"]) {
                Some(Value::Int(keys)) => keys,
                other => {
                    let words = other.as_ref().and_then(Value::as_bytes).unwrap_or_default();
                    let words = String::from_utf8_lossy(words).into_owned();
                    node.report(&super::node::Refusal::Words(words));
                    return;
                }
            };
            say!(
                "{} ({}...) -> {keys} keys | {} slots | {replicas} slaves.\n",
                node.place(),
                node.name.get(..8).unwrap_or(&node.name),
                node.slots.len()
            );
            total += keys;
        }
        good!("[OK] {total} keys in {} masters.\n", masters.len());
        say!(
            "{:.2} keys per slot on average.\n",
            total as f32 / SLOTS as f32
        );
    }

    /// Says what is wrong, and puts it right if that is wanted. Whether it is all right then; an error ends the program.
    /// `quiet`: the nodes are not shown.
    pub fn check(&mut self, quiet: bool) -> Result<bool, Failed> {
        let Some(node) = self.nodes.first() else {
            return Ok(false);
        };
        step!(
            ">>> Performing Cluster Check (using node {})\n",
            node.place()
        );
        if !quiet {
            self.show_nodes();
        }
        let mut is_fine = self.is_consistent();
        if is_fine {
            good!("[OK] All nodes agree about slots configuration.\n");
        } else {
            self.found("[ERR] Nodes don't agree about configuration!");
        }
        if let Some(fixed) = self.check_open_slots()? {
            is_fine = fixed;
        }
        if let Some(fixed) = self.check_coverage()? {
            is_fine = fixed;
        }
        if self.options.search_owners
            && let Some(fixed) = self.check_owners()
        {
            is_fine = fixed;
        }
        Ok(is_fine)
    }

    /// Says what is wrong, and remembers that something is.
    fn found(&mut self, what: &str) {
        self.errors += 1;
        bad!("{what}\n");
    }

    /// Whether all nodes say the same of who has which slots.
    pub fn is_consistent(&mut self) -> bool {
        if self.nodes.len() <= 1 {
            return !self.nodes.is_empty();
        }
        let mut first = None;
        for node in &mut self.nodes {
            let Some(signature) = node
                .text(&["CLUSTER", "NODES"])
                .ok()
                .and_then(|text| table::signature(&text))
            else {
                return false;
            };
            if *first.get_or_insert_with(|| signature.clone()) != signature {
                return false;
            }
        }
        true
    }

    /// Whether the open slots were put right; `None` if there are none.
    fn check_open_slots(&mut self) -> Result<Option<bool>, Failed> {
        step!(">>> Check for open slots...\n");
        let mut open: Vec<usize> = Vec::new();
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            let place = node.place();
            for (state, slots) in [
                ("migrating", node.migrating.clone()),
                ("importing", node.importing.clone()),
            ] {
                let slots: Vec<usize> = slots.iter().map(|(slot, _)| *slot).collect();
                if !slots.is_empty() {
                    let list = list(&slots);
                    self.found(&format!(
                        "[WARNING] Node {place} has slots in {state} state {list}."
                    ));
                }
                for slot in slots {
                    if !open.contains(&slot) {
                        open.push(slot);
                    }
                }
            }
        }
        if open.is_empty() {
            return Ok(None);
        }
        bad!("[WARNING] The following slots are open: {}.\n", list(&open));
        if !self.fixing {
            return Ok(Some(false));
        }
        for slot in open {
            self.demand_reachable("open slots")?;
            if self.fix_open_slot(slot).is_err() {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }

    /// Whether slots that nobody has were put right; `None` if there are none.
    fn check_coverage(&mut self) -> Result<Option<bool>, Failed> {
        step!(">>> Check slots coverage...\n");
        let mut covered = Slots::none();
        self.nodes
            .iter()
            .for_each(|node| covered.add_all(&node.slots));
        if covered.len() == SLOTS {
            good!("[OK] All {SLOTS} slots covered.\n");
            return Ok(None);
        }
        self.found(&format!(
            "[ERR] Not all {SLOTS} slots are covered by nodes.\n"
        ));
        if !self.fixing {
            return Ok(Some(false));
        }
        self.demand_reachable("slots coverage")?;
        Ok(Some(
            self.fix_coverage(&covered).is_ok_and(|fixed| fixed > 0),
        ))
    }

    /// Whether slots of several owners were put right; `None` if there are none.
    fn check_owners(&mut self) -> Option<bool> {
        step!(">>> Check for multiple slot owners...\n");
        let (mut verdict, mut left) = (None, 0);
        for slot in 0..SLOTS {
            let mut owners = Vec::new();
            for at in self.masters() {
                // Who has keys of it counts too.
                let owns = self.nodes[at].slots.has(slot)
                    || self.count_keys(at, slot).is_ok_and(|keys| keys > 0);
                if owns {
                    owners.push(at);
                }
            }
            if owners.len() < 2 {
                continue;
            }
            verdict = Some(false);
            left += 1;
            bad!("[WARNING] Slot {slot} has {} owners:\n", owners.len());
            for &at in &owners {
                bad!("    {}\n", self.nodes[at].place());
            }
            if self.fixing {
                if self.fix_owners(slot, &owners).is_err() {
                    bad!("Failed to fix multiple owners for slot {slot}\n");
                    break;
                }
                verdict = Some(true);
                left -= 1;
            }
        }
        if left == 0 {
            good!("[OK] No multiple owners found.\n");
        }
        verdict
    }
}

fn list(slots: &[usize]) -> String {
    let slots: Vec<String> = slots.iter().map(usize::to_string).collect();
    slots.join(",")
}
