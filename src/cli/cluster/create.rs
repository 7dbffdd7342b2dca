//! `create`: makes a cluster of nodes that know nobody yet.
//!
//! Masters get their slots first, then each node an epoch of its own and the address of the first; when all agree about the
//! slots, replicas are told whom to replicate.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use super::super::link::resolve;
use super::super::out::{self, complain, lossy, say};
use super::super::session::Failed;
use super::layout::{Layout, improve, is_with_master, layout, score};
use super::node::{BUS_OFFSET, Node};
use super::table::{self, Address};
use super::tell::{Tint, bad, step, tell};
use super::{Cluster, NodeAt, ask};

const MASTERS_MIN: usize = 3;
/// After so many looks without agreement it is said who cannot reach whom.
const LOOKS: usize = 20;

/// `create`.
pub fn create(cluster: &mut Cluster) -> Result<(), Failed> {
    for arg in cluster.options.args.clone() {
        cluster.take_empty(&lossy(&arg))?;
    }
    let len = cluster.nodes.len();
    let replicas = usize::try_from(cluster.options.replicas).unwrap_or(0);
    let needed = replicas.saturating_add(1);
    if len / needed < MASTERS_MIN {
        bad!(
            "*** ERROR: Invalid configuration for cluster creation.\n*** Redis Cluster requires at least 3 master \
             nodes.\n*** This is not possible with {len} nodes and {replicas} replicas per node."
        );
        bad!(
            "\n*** At least {} nodes are required.\n",
            needed.saturating_mul(MASTERS_MIN)
        );
        return Err(Failed);
    }
    step!(">>> Performing hash slots allocation on {len} nodes...\n");
    cluster.lay_out(replicas)?;
    cluster.show_nodes();
    let wanted = cluster.options.yes
        || ask::yes("Can I set the above configuration? (type 'yes' to accept): ");
    match wanted {
        true => cluster.set_up(),
        false => Ok(()),
    }
}

impl Cluster {
    /// Connects to a node that is to be part of the cluster.
    fn take_empty(&mut self, arg: &str) -> Result<(), Failed> {
        let Some(address) = Address::parse(arg) else {
            let arg = arg.rsplit_once('@').map_or(arg, |(host, _)| host);
            complain!("Invalid address format: {arg}\n");
            return Err(Failed);
        };
        // (The bus's port is asked for.)
        let mut node = Node::at(Address {
            bus_port: 0,
            ..address
        });
        node.connect(&self.login)?;
        node.demand_cluster()?;
        node.load()?;
        node.demand_empty()?;
        self.nodes.push(node);
        Ok(())
    }

    /// Plans who does what.
    fn lay_out(&mut self, replicas: usize) -> Result<(), Failed> {
        let hosts: Vec<String> = self.nodes.iter().map(|n| n.address.host.clone()).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let plan = layout(&hosts, replicas).ok_or(Failed)?;
        for (at, &(master, first, last)) in plan.masters.iter().enumerate() {
            say!("Master[{at}] -> Slots {first} - {last}\n");
            let node = &mut self.nodes[master];
            node.slots.add_all(&(first..=last).collect());
            node.is_dirty = true;
        }
        self.show_replicas(&plan);
        let mut master_of = vec![None; hosts.len()];
        for &(replica, master) in &plan.replicas {
            master_of[replica] = Some(master);
        }
        self.improve(&hosts, &mut master_of);
        for (at, master) in master_of.into_iter().enumerate() {
            if let Some(master) = master {
                self.nodes[at].master = Some(self.nodes[master].name.clone());
                self.nodes[at].is_dirty = true;
            }
        }
        Ok(())
    }

    fn show_replicas(&self, plan: &Layout) {
        for (at, &(replica, master)) in plan.replicas.iter().enumerate() {
            if plan.extra_from == Some(at) {
                say!("Adding extra replicas...\n");
            }
            let (replica, master) = (self.nodes[replica].place(), self.nodes[master].place());
            say!("Adding replica {replica} to {master}\n");
        }
    }

    fn improve(&mut self, hosts: &[&str], master_of: &mut [Option<NodeAt>]) {
        if score(hosts, master_of).0 == 0 {
            return;
        }
        step!(">>> Trying to optimize slaves allocation for anti-affinity\n");
        match improve(hosts, master_of, &mut self.rng) {
            0 => tell(
                Tint::Good,
                format_args!("[OK] Perfect anti-affinity obtained!\n"),
            ),
            left => tell(
                Tint::Warning,
                match is_with_master(left) {
                    true => {
                        format_args!("[WARNING] Some slaves are in the same host as their master\n")
                    }
                    false => format_args!(
                        "[WARNING] Some slaves of the same master are in the same host\n"
                    ),
                },
            ),
        }
    }

    /// Does what was planned.
    fn set_up(&mut self) -> Result<(), Failed> {
        for node in &mut self.nodes {
            node.send_plan()?;
        }
        step!(">>> Nodes configuration updated\n");
        step!(">>> Assign a different config epoch to each node\n");
        for (at, node) in self.nodes.iter_mut().enumerate() {
            // (A node that had one keeps it.)
            let _ = node.reply(&["cluster", "set-config-epoch", &(at + 1).to_string()]);
        }
        step!(">>> Sending CLUSTER MEET messages to join the cluster\n");
        let (first, others) = self.nodes.split_first_mut().ok_or(Failed)?;
        let meet = meet(first)?;
        for node in others {
            let met = node.ask(&meet);
            met.map_err(|refusal| {
                if refusal.words().is_none() {
                    complain!("Failed to send CLUSTER MEET command.\n");
                }
                node.report(&refusal)
            })?;
        }
        // Before that they would agree that nobody has any slots.
        sleep(Duration::from_secs(1));
        self.wait_until_joined();
        for node in &mut self.nodes {
            node.send_plan()?;
        }
        let first = self.nodes.swap_remove(0);
        self.load_from(first)?;
        // (What it finds has been said; the cluster is there.)
        self.check(false).map(drop)
    }

    /// Waits until all nodes agree about the slots.
    pub fn wait_until_joined(&mut self) {
        say!("Waiting for the cluster to join\n");
        let patience = LOOKS + (self.nodes.len() as f32 * 0.15) as usize;
        let mut looks = 0;
        while !self.is_consistent() {
            say!(".");
            out::flush();
            sleep(Duration::from_secs(1));
            looks += 1;
            if looks > patience {
                self.show_unlinked();
                looks = 0;
            }
        }
        say!("\n");
    }

    /// Says who has no connection to whom.
    fn show_unlinked(&mut self) {
        let mut unreached: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for node in &mut self.nodes {
            let text = match node.text(&["CLUSTER", "NODES"]) {
                Ok(text) => text,
                Err(refusal) => {
                    node.report(&refusal);
                    continue;
                }
            };
            for address in table::unlinked(&text) {
                let from = unreached.entry(address.to_string()).or_default();
                from.push(node.place());
            }
        }
        if unreached.is_empty() {
            return;
        }
        say!("\n");
        bad!("Warning: {} node(s) may be unreachable\n", unreached.len());
        for (text, from) in unreached {
            match Address::parse(&text).filter(|address| address.bus_port != 0) {
                Some(Address { host, bus_port, .. }) => {
                    bad!(" - The port {bus_port} of node {host} may be unreachable from:\n")
                }
                None => bad!(" - Node {text} may be unreachable from:\n"),
            }
            for place in from {
                bad!("   {place}\n");
            }
            bad!(
                "Cluster bus ports must be reachable by every node.\nRemember that cluster bus ports are different from \
                 standard instance ports.\n"
            );
        }
    }
}

impl Node {
    /// Tells it what is planned for it. A replica whose master it does not know yet is told later.
    fn send_plan(&mut self) -> Result<(), Failed> {
        if !self.is_dirty {
            return Ok(());
        }
        if let Some(master) = self.master.clone() {
            self.is_dirty = self.cluster(&["REPLICATE", &master]).is_err();
            return Ok(());
        }
        let slots = self.slots.iter().map(|slot| slot.to_string());
        let words = ["CLUSTER", "ADDSLOTS"].map(str::to_string);
        let command: Vec<String> = words.into_iter().chain(slots).collect();
        self.demand(&command)?;
        self.is_dirty = false;
        Ok(())
    }
}

/// The CLUSTER MEET that introduces others to a node. The command wants an address, not a name; and the bus's port only if
/// it is not where it usually is.
pub fn meet(node: &Node) -> Result<Vec<String>, Failed> {
    let Address {
        host,
        port,
        bus_port,
    } = &node.address;
    let found = resolve(host.as_bytes(), 0).unwrap_or_default();
    let Some(ip) = found.first().map(|address| address.ip().to_string()) else {
        complain!("Invalid IP address or hostname specified: {host}\n");
        return Err(Failed);
    };
    let mut command = vec!["CLUSTER".into(), "MEET".into(), ip, port.to_string()];
    if *bus_port != 0 && i64::from(*bus_port) != i64::from(*port) + i64::from(BUS_OFFSET) {
        command.push(bus_port.to_string());
    }
    Ok(command)
}
