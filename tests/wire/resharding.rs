//! Slots go from node to node and back while clients count in them: no count is lost, and none is kept twice.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod node;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use redstart::base::rng::Rng;
use redstart::base::slot::Slot;
use redstart::resp::value::Value;

use node::{Conn, Node, ok, our_program, wait_until};

const TAGS: usize = 40;
const KEYS_A_TAG: u64 = 50;
const WRITERS: u64 = 3;

fn text(value: &Value) -> String {
    let bytes = match value {
        Value::Error(text) => text,
        other => other.as_bytes().unwrap_or_default(),
    };
    String::from_utf8_lossy(bytes).into_owned()
}

fn id(conn: &mut Conn) -> String {
    text(&conn.call(&["CLUSTER", "MYID"]))
}

/// Two nodes, of which the first has all slots but one. (A master that gives its last one away becomes a replica.)
fn cluster() -> [Node; 2] {
    let options = [
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        "60000",
    ];
    let nodes = [(); 2].map(|()| Node::start(&our_program(), &options));
    let mut conns = nodes.each_ref().map(Node::connect);
    ok(&conns[0].call(&["CLUSTER", "ADDSLOTSRANGE", "0", "16382"]));
    ok(&conns[1].call(&["CLUSTER", "ADDSLOTS", "16383"]));
    let port = nodes[1].port.to_string();
    ok(&conns[0].call(&["CLUSTER", "MEET", "127.0.0.1", &port]));
    for conn in &mut conns {
        wait_until("the nodes know each other and serve", || {
            let info = text(&conn.call(&["CLUSTER", "INFO"]));
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2")
        });
    }
    nodes
}

/// A client that goes where it is sent.
struct Client {
    conns: HashMap<u16, Conn>,
    /// Where a slot was last.
    map: HashMap<Slot, u16>,
    first: u16,
    asked: usize,
    moved: usize,
}

impl Client {
    fn new(nodes: &[Node]) -> Client {
        Client {
            conns: nodes
                .iter()
                .map(|node| (node.port, node.connect()))
                .collect(),
            map: HashMap::new(),
            first: nodes[0].port,
            asked: 0,
            moved: 0,
        }
    }

    fn call(&mut self, key: &str, words: &[&str]) -> Value {
        let slot = Slot::of(key.as_bytes());
        let mut port = *self.map.get(&slot).unwrap_or(&self.first);
        let mut asking = false;
        loop {
            let conn = self.conns.get_mut(&port).expect("a node that exists");
            if asking {
                ok(&conn.call(&["ASKING"]));
            }
            let reply = conn.call(words);
            let Value::Error(_) = &reply else {
                return reply;
            };
            let told = text(&reply);
            let parts: Vec<&str> = told.split(' ').collect();
            let place = parts
                .get(2)
                .and_then(|place| place.rsplit(':').next()?.parse().ok());
            match (parts[0], place) {
                ("MOVED", Some(to)) => {
                    self.moved += 1;
                    self.map.insert(slot, to);
                    (port, asking) = (to, false);
                }
                ("ASK", Some(to)) => {
                    self.asked += 1;
                    (port, asking) = (to, true);
                }
                // The map is on its way through the cluster.
                ("TRYAGAIN" | "CLUSTERDOWN", _) => asking = false,
                _ => panic!("{words:?}: {told}"),
            }
        }
    }
}

/// Ends the counting, however the test ends.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Counts in keys of all tags until it is told to stop; gives the counts.
fn count(nodes: &[Node], seed: u64, stop: &AtomicBool) -> HashMap<String, i64> {
    let (mut client, mut rng) = (Client::new(nodes), Rng::new(seed));
    let mut counts = HashMap::new();
    while !stop.load(Ordering::Relaxed) {
        let (tag, key) = (rng.index(TAGS), rng.below(KEYS_A_TAG));
        let key = format!("{{t{tag}}}:{seed}:{key}");
        let count = counts.entry(key.clone()).or_insert(0);
        *count += 1;
        assert_eq!(
            client.call(&key, &["INCR", &key]),
            Value::Int(*count),
            "{key}"
        );
    }
    assert!(client.moved > 0 && client.asked > 0, "nobody was sent on");
    counts
}

/// Moves a slot from one node to the other as redis-cli does it.
fn move_slot(slot: Slot, from: &mut Conn, to: &mut Conn, to_port: u16) {
    let slot = slot.to_string();
    let (from_id, to_id) = (id(from), id(to));
    ok(&to.call(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]));
    ok(&from.call(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]));
    loop {
        let Value::Array(keys) = from.call(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]) else {
            panic!("no list of keys")
        };
        if keys.is_empty() {
            break;
        }
        let port = to_port.to_string();
        let head = ["MIGRATE", "127.0.0.1", &port, "", "0", "60000", "KEYS"];
        let mut words: Vec<Vec<u8>> = head.iter().map(|w| w.as_bytes().to_vec()).collect();
        words.extend(
            keys.iter()
                .map(|key| key.as_bytes().unwrap_or_default().to_vec()),
        );
        ok(&from.call(&words));
    }
    ok(&to.call(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]));
    ok(&from.call(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]));
}

#[test]
fn no_count_is_lost_while_slots_move() {
    let nodes = cluster();
    let stop = AtomicBool::new(false);
    let counts: Vec<HashMap<String, i64>> = thread::scope(|scope| {
        let writers = (1..=WRITERS).map(|seed| {
            scope.spawn({
                let (nodes, stop) = (&nodes, &stop);
                move || count(nodes, seed, stop)
            })
        });
        let writers: Vec<_> = writers.collect();
        let ending = Ending(&stop);
        let mut conns = nodes.each_ref().map(Node::connect);
        // All go, all come back, and half of them go again.
        for (to, step) in [(1, 1), (0, 1), (1, 2)] {
            for tag in (0..TAGS).step_by(step) {
                let slot = Slot::of(format!("t{tag}").as_bytes());
                let [a, b] = &mut conns;
                let (source, target) = if to == 1 { (a, b) } else { (b, a) };
                move_slot(slot, source, target, nodes[to].port);
            }
        }
        drop(ending);
        writers
            .into_iter()
            .map(|w| w.join().expect("a writer"))
            .collect()
    });
    let mut client = Client::new(&nodes);
    let mut keys = 0;
    for (key, count) in counts.iter().flatten() {
        let there = client.call(key, &["GET", key]);
        assert_eq!(text(&there), count.to_string(), "{key}");
        keys += 1;
    }
    let sizes = nodes
        .each_ref()
        .map(|node| node.connect().call(&["DBSIZE"]));
    let [Value::Int(a), Value::Int(b)] = sizes else {
        panic!("no sizes")
    };
    assert!(a + b == keys && a > 0 && b > 0, "{a} + {b} of {keys}");
}
