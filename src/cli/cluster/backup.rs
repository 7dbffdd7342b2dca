//! `backup`: an RDB file of each master, and a file that says what the nodes are.

use std::os::unix::ffi::OsStrExt;

use super::super::out::lossy;
use super::super::session::Failed;
use super::super::sync;
use super::Cluster;
use super::tell::{bad, good, step, warning};

/// The file that says what the nodes are.
const NODES_FILE: &str = "nodes.json";

/// `backup`.
pub fn backup(cluster: &mut Cluster) -> Result<(), Failed> {
    let address = cluster.named_by(0)?;
    cluster.load(address)?;
    let is_fine = cluster.check(false)?;
    let errors = match is_fine {
        true => 0,
        false => cluster.errors,
    };
    let mut dir = cluster.options.args[1].clone();
    let shown = lossy(&dir).into_owned();
    if !dir.ends_with(b"/") {
        dir.push(b'/');
    }
    let mut nodes = Vec::new();
    for node in &mut cluster.nodes {
        nodes.push(node.json(errors));
        if node.master.is_some() {
            continue;
        }
        step!(">>> Node {} -> Saving RDB...\n", node.place());
        let (host, port) = (&node.address.host, node.address.port);
        let name = format!("redis-node-{host}-{port}-{}.rdb", node.name);
        let path = [&dir[..], name.as_bytes()].concat();
        let link = node.take_link().ok_or(Failed)?;
        sync::fetch(link, &path).map_err(|_| Failed)?;
    }
    let json = format!("[\n{}\n]", nodes.join(",\n"));
    let path = [&dir[..], NODES_FILE.as_bytes()].concat();
    step!("Saving cluster configuration to: {}\n", lossy(&path));
    if std::fs::write(std::ffi::OsStr::from_bytes(&path), json).is_err() {
        bad!("Could not save nodes to: {}\n", lossy(&path));
        good!("[ERR] Failed to back cluster!\n");
        return Err(Failed);
    }
    if !is_fine {
        warning!(
            "*** Cluster seems to have some problems, please be aware of it if you're going to restore this backup.\n"
        );
    }
    good!("[OK] Backup created into: {shown}\n");
    Ok(())
}
