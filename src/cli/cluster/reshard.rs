//! `reshard` and `rebalance`: slots go to one node, or between all, and their keys with them.

use super::super::number::{atof, atoi};
use super::super::out::{self, complain, lossy, say};
use super::super::session::Failed;
use super::balance::{Share, choose, rebalance as plan};
use super::moving::{How, Stuck};
use super::slots::SLOTS;
use super::tell::{bad, step, warning};
use super::{Cluster, NodeAt, ask};

/// `reshard`.
pub fn reshard(cluster: &mut Cluster) -> Result<(), Failed> {
    let address = cluster.named()?;
    cluster.load(address)?;
    cluster.check(false)?;
    if cluster.errors > 0 {
        complain!("*** Please fix your cluster problems before resharding\n");
        return Err(Failed);
    }
    let wanted = cluster.how_many()?;
    let to = match &cluster.options.to {
        Some(to) => lossy(to).into_owned(),
        None => receiver()?,
    };
    let target = cluster.master_by_name(&to)?;
    let sources = match cluster.options.from.clone() {
        Some(from) => cluster.sources_of_list(&lossy(&from), target)?,
        None => cluster.ask_sources(target)?,
    };
    if sources.is_empty() {
        complain!("*** No source nodes given, operation aborted.\n");
        return Err(Failed);
    }
    let moves = cluster.show_plan(wanted, &sources, target);
    let question = "Do you want to proceed with the proposed reshard plan (yes/no)? ";
    if !cluster.options.yes && !ask::yes(question) {
        return Err(Failed);
    }
    let how = How {
        dots: true,
        ..How::default()
    };
    for (from, slot) in moves {
        cluster
            .move_slot(from, target, slot, how)
            .map_err(|stuck| {
                if let Some(words) = words(&stuck) {
                    bad!("clusterManagerMoveSlot failed: {words}\n");
                }
                Failed
            })?;
    }
    Ok(())
}

fn words(stuck: &Stuck) -> Option<&str> {
    stuck.refusal.words()
}

fn receiver() -> Result<String, Failed> {
    loop {
        let id = ask::line("What is the receiving node ID? ")?;
        if !id.is_empty() {
            return Ok(id);
        }
    }
}

impl Cluster {
    fn how_many(&self) -> Result<usize, Failed> {
        let given = self.options.slots;
        if given != 0 {
            // (Less than one is none.)
            return Ok(usize::try_from(given).unwrap_or(0));
        }
        loop {
            let question = format!("How many slots do you want to move (from 1 to {SLOTS})? ");
            let answer = atoi(ask::line(&question)?.as_bytes());
            match usize::try_from(answer) {
                Ok(wanted @ 1..=SLOTS) => return Ok(wanted),
                _ => continue,
            }
        }
    }

    /// The master with that ID.
    fn master_by_name(&self, name: &str) -> Result<NodeAt, Failed> {
        let found = self.by_name(name).filter(|&at| !self.nodes[at].is_replica);
        found.ok_or_else(|| {
            bad!("*** The specified node ({name}) is not known or not a master, please retry.\n");
            Failed
        })
    }

    /// The same, for one that gives slots. `Ok(None)`: it is the one that takes them, which has been said.
    fn source_by_name(&self, name: &str, target: NodeAt) -> Result<Option<NodeAt>, Failed> {
        let source = self.master_by_name(name)?;
        if source == target {
            bad!("*** It is not possible to use the target node as source node.\n");
            return Ok(None);
        }
        Ok(Some(source))
    }

    fn all_but(&self, target: NodeAt) -> Vec<NodeAt> {
        let all = (0..self.nodes.len()).filter(|&at| at != target);
        all.filter(|&at| self.nodes[at].is_master()).collect()
    }

    fn sources_of_list(&self, list: &str, target: NodeAt) -> Result<Vec<NodeAt>, Failed> {
        let list = list.strip_suffix(',').unwrap_or(list);
        let mut sources = Vec::new();
        for name in list.split(',').filter(|_| !list.is_empty()) {
            if name == "all" {
                return Ok(self.all_but(target));
            }
            sources.extend(self.source_by_name(name, target)?);
        }
        Ok(sources)
    }

    fn ask_sources(&self, target: NodeAt) -> Result<Vec<NodeAt>, Failed> {
        say!(
            "Please enter all the source node IDs.\n  Type 'all' to use all the nodes as source nodes for the hash \
             slots.\n  Type 'done' once you entered all the source nodes IDs.\n"
        );
        let mut sources = Vec::new();
        loop {
            let name = ask::line(&format!("Source node #{}: ", sources.len() + 1))?;
            match &name[..] {
                "done" => return Ok(sources),
                "all" => return Ok(self.all_but(target)),
                name => sources.extend(self.source_by_name(name, target)?),
            }
        }
    }

    /// Says what is going to move, and gives it.
    fn show_plan(&self, wanted: usize, sources: &[NodeAt], target: NodeAt) -> Vec<(NodeAt, usize)> {
        say!("\nReady to move {wanted} slots.\n  Source nodes:\n");
        for &at in sources {
            say!("{}\n", self.nodes[at].describe(4));
        }
        say!("  Destination node:\n{}\n", self.nodes[target].describe(4));
        let moves = self.choose(sources, wanted);
        say!("  Resharding plan:\n");
        for &(at, slot) in &moves {
            say!("    Moving slot {slot} from {}\n", self.nodes[at].name);
        }
        moves
    }

    fn choose(&self, sources: &[NodeAt], wanted: usize) -> Vec<(NodeAt, usize)> {
        let slots: Vec<_> = sources.iter().map(|&at| &self.nodes[at].slots).collect();
        let chosen = choose(&slots, wanted).into_iter();
        chosen
            .map(|(source, slot)| (sources[source], slot))
            .collect()
    }
}

/// `rebalance`.
pub fn rebalance(cluster: &mut Cluster) -> Result<(), Failed> {
    let address = cluster.named()?;
    cluster.load(address)?;
    let weights = cluster.weights()?;
    let use_empty = cluster.options.use_empty_masters;
    let involved: Vec<NodeAt> = (0..cluster.nodes.len())
        .filter(|&at| cluster.nodes[at].is_master())
        .filter(|&at| use_empty || !cluster.nodes[at].slots.is_empty())
        .collect();
    cluster.check(true)?;
    if cluster.errors > 0 {
        bad!("*** Please fix your cluster problems before rebalancing\n");
        return Err(Failed);
    }
    let share = |&at: &NodeAt| Share {
        slots: cluster.nodes[at].slots.len(),
        weight: weights[at],
    };
    let shares: Vec<Share> = involved.iter().map(share).collect();
    let threshold = cluster.options.threshold;
    let Some(plan) = plan(&shares, threshold) else {
        warning!(
            "*** No rebalancing needed! All nodes are within the {threshold:.2}% threshold.\n"
        );
        return Ok(());
    };
    let total: f32 = shares.iter().map(|share| share.weight).sum();
    step!(
        ">>> Rebalancing across {} nodes. Total weight = {total:.2}\n",
        involved.len()
    );
    if cluster.verbose {
        for &(at, balance) in &plan.balances {
            let place = cluster.nodes[involved[at]].place();
            say!("{place} balance is {balance} slots\n");
        }
    }
    for (from, to, count) in plan.moves {
        cluster.give(involved[from], involved[to], count)?;
    }
    Ok(())
}

impl Cluster {
    /// The weight of each node: 1, unless the user gave it another. Names may be cut short.
    fn weights(&self) -> Result<Vec<f32>, Failed> {
        let mut weights = vec![1.0; self.nodes.len()];
        for given in &self.options.weights {
            let given = lossy(given).into_owned();
            let (name, weight) = given.split_once('=').unwrap_or((&given, ""));
            let start = name.to_ascii_lowercase();
            let Some(at) = self.nodes.iter().position(|n| n.name.starts_with(&start)) else {
                bad!("*** No such master node {name}\n");
                return Err(Failed);
            };
            weights[at] = atof(weight.as_bytes()) as f32;
        }
        Ok(weights)
    }

    /// Moves so many slots, with a mark for each.
    fn give(&mut self, from: NodeAt, to: NodeAt, count: usize) -> Result<(), Failed> {
        let (source, target) = (self.nodes[from].place(), self.nodes[to].place());
        say!("Moving {count} slots from {source} to {target}\n");
        let how = How {
            quiet: true,
            update: true,
            ..How::default()
        };
        let simulate = self.options.simulate;
        for (_, slot) in self.choose(&[from], count) {
            if !simulate {
                self.move_slot(from, to, slot, how).map_err(|stuck| {
                    bad!(
                        "*** clusterManagerMoveSlot: {}\n",
                        words(&stuck).unwrap_or_default()
                    );
                    Failed
                })?;
            }
            say!("#");
            out::flush();
        }
        say!("\n");
        Ok(())
    }
}
