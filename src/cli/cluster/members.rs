//! `add-node` and `del-node`: a node joins a cluster, or leaves it.

use std::thread::sleep;
use std::time::Duration;

use super::super::out::{complain, lossy, say};
use super::super::session::Failed;
use super::create::meet;
use super::node::{Node, Refusal};
use super::tell::{bad, good, step};
use super::{Cluster, NodeAt};
use crate::resp::value::Value;

/// `add-node`. A master gets the cluster's functions before it joins; a replica gets them from its master.
pub fn add(cluster: &mut Cluster) -> Result<(), Failed> {
    let known = cluster.named_by(1)?;
    let address = cluster.named_by(0)?;
    let mut node = Node::at(address);
    let place = node.place();
    step!(
        ">>> Adding node {place} to cluster {}:{}\n",
        known.host,
        known.port
    );
    cluster.load(known)?;
    if !cluster.check(false)? {
        return Err(Failed);
    }
    let master = match cluster.options.replica {
        true => Some(cluster.master_for_new()?),
        false => None,
    };
    if node.connect(&cluster.login).is_err() {
        bad!("[ERR] Sorry, can't connect to node {place}\n");
        return Err(Failed);
    }
    node.demand_cluster()?;
    node.load()?;
    node.demand_empty()?;
    if master.is_none() {
        copy_functions(&mut cluster.nodes[0], &mut node)?;
    }
    step!(">>> Send CLUSTER MEET to node {place} to make it join the cluster.\n");
    node.demand(&meet(&cluster.nodes[0])?)?;
    cluster.nodes.push(node);
    if let Some(master) = master {
        sleep(Duration::from_secs(1));
        cluster.wait_until_joined();
        let (place, name) = (
            cluster.nodes[master].place(),
            cluster.nodes[master].name.clone(),
        );
        step!(">>> Configure node as replica of {place}.\n");
        if let Some(node) = cluster.nodes.last_mut() {
            node.demand(&["CLUSTER", "REPLICATE", &name])?;
        }
    }
    good!("[OK] New node added correctly.\n");
    Ok(())
}

impl Cluster {
    /// The master that the user wants for a new replica, or the one that has the fewest.
    fn master_for_new(&self) -> Result<NodeAt, Failed> {
        if let Some(id) = &self.options.master_id {
            return self.by_name(&lossy(id)).ok_or_else(|| {
                bad!("[ERR] No such master ID {}\n", lossy(id));
                Failed
            });
        }
        let master = self.least_replicated(None).ok_or(Failed)?;
        say!(
            "Automatically selected master {}\n",
            self.nodes[master].place()
        );
        Ok(master)
    }
}

fn words(refusal: &Refusal) -> &str {
    refusal.words().unwrap_or("NULL reply")
}

/// Has the functions of one node loaded by another, which must have none.
fn copy_functions(from: &mut Node, to: &mut Node) -> Result<(), Failed> {
    step!(">>> Getting functions from cluster\n");
    let dump = match from.ask(&["FUNCTION", "DUMP"]) {
        Ok(dump) => dump,
        Err(refusal) => {
            step!(
                ">>> Failed retrieving Functions from the cluster, skip this step as Redis version do not support function \
                 command (error = '{}')\n",
                words(&refusal)
            );
            return Ok(());
        }
    };
    let place = to.place();
    step!(">>> Send FUNCTION LIST to {place} to verify there is no functions in it\n");
    match to.ask(&["FUNCTION", "LIST"]) {
        Ok(Value::Array(libraries)) if libraries.is_empty() => {}
        Ok(_) => {
            bad!(
                ">>> New node already contains functions and can not be added to the cluster. Use FUNCTION FLUSH and try \
                 again.\r\n"
            );
            return Err(Failed);
        }
        Err(refusal) => {
            bad!(
                ">>> Failed on CLUSTER LIST (error = '{}')\r\n",
                words(&refusal)
            );
            return Err(Failed);
        }
    }
    step!(">>> Send FUNCTION RESTORE to {place}\n");
    let dump = dump.as_bytes().unwrap_or_default();
    match to.ask(&[b"FUNCTION", &b"RESTORE"[..], dump]) {
        Ok(_) => Ok(()),
        Err(refusal) => {
            bad!(
                ">>> Failed loading functions to the new node (error = '{}')\r\n",
                words(&refusal)
            );
            Err(Failed)
        }
    }
}

/// `del-node`: all others forget it, and it forgets them.
pub fn delete(cluster: &mut Cluster) -> Result<(), Failed> {
    let Ok(address) = cluster.named_by(0) else {
        return Err(Failed);
    };
    let id = lossy(&cluster.options.args[1]).into_owned();
    step!(
        ">>> Removing node {id} from cluster {}:{}\n",
        address.host,
        address.port
    );
    cluster.load(address)?;
    let Some(leaving) = cluster.by_name(&id) else {
        bad!("[ERR] No such node ID {id}\n");
        return Err(Failed);
    };
    if !cluster.nodes[leaving].slots.is_empty() {
        bad!(
            "[ERR] Node {} is not empty! Reshard data away and try again.\n",
            cluster.nodes[leaving].place()
        );
        return Err(Failed);
    }
    step!(">>> Sending CLUSTER FORGET messages to the cluster...\n");
    for at in (0..cluster.nodes.len()).filter(|&at| at != leaving) {
        let replicates = cluster.nodes[at].master.as_deref();
        if replicates.is_some_and(|master| master.eq_ignore_ascii_case(&id)) {
            let master = cluster.least_replicated(Some(leaving)).ok_or_else(|| {
                complain!("No other master is there\n");
                Failed
            })?;
            let (place, name) = (
                cluster.nodes[master].place(),
                cluster.nodes[master].name.clone(),
            );
            step!(">>> {} as replica of {place}\n", cluster.nodes[at].place());
            cluster.nodes[at].demand(&["CLUSTER", "REPLICATE", &name])?;
        }
        cluster.nodes[at].demand(&["CLUSTER", "FORGET", &id])?;
    }
    step!(">>> Sending CLUSTER RESET SOFT to the deleted node.\n");
    let reset = cluster.nodes[leaving].demand(&["CLUSTER", "RESET", "SOFT"]);
    reset.map(drop)
}
