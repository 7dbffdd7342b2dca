//! Clusters of processes: nodes that are started, meet, share out the slots and follow each other; and what all of them say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use redstart::base::slot::{SLOTS, Slot};
use redstart::resp::value::Value;
use tempfile::TempDir;

use super::node::{Conn, Node, directory, free_port, info, ok, wait_until};

/// How many keys [`six`] nodes have.
pub const KEYS: usize = 60;
/// The node timeout of the tests.
const TIMEOUT_MS: &str = "1500";

/// A node of a cluster, in a directory of its own.
pub fn member(program: &str, options: &[&str]) -> Node {
    launched(directory(), program, options)
}

/// The same node again, with what it has left in its directory; maybe by another program.
pub fn member_again(before: &Node, program: &str) -> Node {
    launched(Arc::clone(&before.dir), program, &[])
}

fn launched(dir: Arc<TempDir>, program: &str, options: &[&str]) -> Node {
    let path = dir.path().to_str().unwrap().to_string();
    let options: Vec<String> = options.iter().map(ToString::to_string).collect();
    Node::launch(dir, program, move |port, command| {
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--cluster-port", &free_port().to_string()])
            .args(["--cluster-enabled", "yes"])
            .args(["--cluster-node-timeout", TIMEOUT_MS])
            .args(["--repl-diskless-sync-delay", "0"])
            .args(["--enable-debug-command", "yes"])
            .args(["--save", "", "--dir", &path])
            .args(&options);
    })
}

/// Three masters of one program, a replica of the other for each, and keys that all of them have.
pub fn six(masters: &str, replicas: &str) -> Vec<Node> {
    let start = |program: &str| (0..3).map(|_| member(program, &[])).collect::<Vec<_>>();
    let mut nodes = start(masters);
    nodes.extend(start(replicas));
    let all: Vec<&Node> = nodes.iter().collect();
    join(&all[..3], &all[3..]);
    fill(&all[..3], KEYS);
    for at in 0..3 {
        caught_up(all[at], all[at + 3]);
    }
    nodes
}

/// The text that a command replies.
pub fn text(conn: &mut Conn, command: &[&str]) -> String {
    let value = conn.call(command);
    let bytes = value
        .as_bytes()
        .unwrap_or_else(|| panic!("{command:?}: {value:?}"));
    String::from_utf8_lossy(bytes).into_owned()
}

/// The name of a node, once it has loaded its data.
pub fn id(node: &Node) -> String {
    let mut conn = node.connect();
    wait_until("it has loaded", || info(&mut conn, "loading") == "0");
    text(&mut conn, &["CLUSTER", "MYID"])
}

/// A field of CLUSTER INFO.
pub fn state(node: &Node, field: &str) -> String {
    let all = text(&mut node.connect(), &["CLUSTER", "INFO"]);
    let line = all
        .lines()
        .find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().to_string()
}

/// What a node says of all, as far as all must say the same: for each name the port, whose replica it is, its slots, and
/// whether it has failed.
pub fn view(node: &Node) -> BTreeMap<String, String> {
    let nodes = text(&mut node.connect(), &["CLUSTER", "NODES"]);
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let port = words[1].split('@').next().unwrap();
        let flags = words[2].trim_start_matches("myself,");
        let slots: Vec<&&str> = words[8..].iter().filter(|w| !w.starts_with('[')).collect();
        let known = format!("{port} {flags} {} {slots:?}", words[3]);
        (words[0].to_string(), known)
    };
    nodes.lines().map(line).collect()
}

/// Waits until all of these say the same of all, and that the cluster serves.
pub fn agree(nodes: &[&Node], count: usize) {
    wait_until("all nodes agree", || {
        let views: BTreeSet<_> = nodes.iter().map(|node| view(node)).collect();
        let serves = |node: &&&Node| state(node, "cluster_state") == "ok";
        views.len() == 1
            && views.iter().all(|view| view.len() == count)
            && nodes.iter().filter(serves).count() == nodes.len()
    });
}

/// Makes a cluster of masters, which share out the slots, and replicas, each of the master that stands where it does.
pub fn join(masters: &[&Node], replicas: &[&Node]) {
    let all: Vec<&Node> = masters.iter().chain(replicas).copied().collect();
    let first = all[0].connect().addresses().1;
    let (ip, port) = first.rsplit_once(':').unwrap();
    let bus = bus_port(all[0]);
    for node in &all[1..] {
        ok(&node.connect().call(&["CLUSTER", "MEET", ip, port, &bus]));
    }
    for (at, master) in masters.iter().enumerate() {
        let from = at * SLOTS / masters.len();
        let to = (at + 1) * SLOTS / masters.len() - 1;
        let (from, to) = (from.to_string(), to.to_string());
        ok(&master
            .connect()
            .call(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]));
    }
    wait_until("all nodes know all", || {
        all.iter().all(|node| {
            let view = view(node);
            view.len() == all.len() && view.values().all(|n| !n.contains("handshake"))
        })
    });
    for (replica, master) in replicas.iter().zip(masters) {
        ok(&replica
            .connect()
            .call(&["CLUSTER", "REPLICATE", &id(master)]));
    }
    for replica in replicas {
        wait_until("a replica's link", || {
            // (It has nothing to load that would be worth a word.)
            let said = text(&mut replica.connect(), &["CLUSTER", "MYID"]);
            assert!(!said.starts_with("LOADING"), "{said}");
            info(&mut replica.connect(), "master_link_status") == "up"
        });
    }
    agree(&all, all.len());
}

fn bus_port(node: &Node) -> String {
    let reply = node.connect().call(&["CONFIG", "GET", "cluster-port"]);
    let Value::Array(pair) = reply else {
        panic!("{reply:?}");
    };
    String::from_utf8_lossy(pair[1].as_bytes().unwrap()).into_owned()
}

/// Calls a command about a key at the node that has it, following redirections from `first` on.
pub fn call(nodes: &[&Node], first: usize, command: &[&str]) -> Value {
    let mut at = nodes[first];
    for _ in 0..5 {
        let reply = at.connect().call(command);
        let Value::Error(why) = &reply else {
            return reply;
        };
        let why = String::from_utf8_lossy(why).into_owned();
        let moved = why
            .strip_prefix("MOVED ")
            .unwrap_or_else(|| panic!("{command:?}: {why}"));
        let (slot, place) = moved.split_once(' ').unwrap();
        assert_eq!(slot, Slot::of(command[1].as_bytes()).to_string());
        let port: u16 = place.rsplit_once(':').unwrap().1.parse().unwrap();
        at = nodes
            .iter()
            .find(|n| n.port == port)
            .expect("a node of ours");
    }
    panic!("{command:?}: no node has it");
}

/// Sets keys all over the slots.
pub fn fill(nodes: &[&Node], keys: usize) {
    for n in 0..keys {
        let (key, value) = (format!("key:{n}"), format!("value:{n}"));
        ok(&call(nodes, n % nodes.len(), &["SET", &key, &value]));
    }
}

/// All of them are there.
pub fn check(nodes: &[&Node], keys: usize) {
    for n in 0..keys {
        let value = call(nodes, n % nodes.len(), &["GET", &format!("key:{n}")]);
        assert_eq!(
            value.as_bytes(),
            Some(format!("value:{n}").as_bytes()),
            "key:{n}"
        );
    }
}

/// Waits until a replica has what its master has.
pub fn caught_up(master: &Node, replica: &Node) {
    wait_until("the replica has all", || {
        let offset = info(&mut master.connect(), "master_repl_offset");
        info(&mut replica.connect(), "slave_repl_offset") == offset
    });
}

/// `master` or `slave`.
pub fn role(node: &Node) -> String {
    info(&mut node.connect(), "role")
}

/// Waits until a replica has taken its master's place.
pub fn promoted(node: &Node) {
    wait_until("the replica is a master", || role(node) == "master");
}
