//! Clusters of our nodes and the peer's: they understand each other's messages, vote for each other, and see the same.
//!
//! (A replica of 7.0 can't read the data of a master of 7.2. So where the peer is one, its nodes are masters.)

use redstart::base::slot::Slot;
use redstart::resp::value::Value;

use crate::members::{
    KEYS, agree, call, check, fill, id, join, member, member_again, promoted, role, six,
};
use crate::node::{Node, Version, info, ok, our_program, peer_program, wait_until};

/// CLUSTER SLOTS, as far as it must be the same by all: the order of nodes and ranges is nobody's concern.
fn slots(node: &Node) -> Vec<Value> {
    let Value::Array(mut ranges) = node.connect().call(&["CLUSTER", "SLOTS"]) else {
        panic!("no slots");
    };
    ranges.sort_by_key(|range| format!("{range:?}"));
    ranges
}

/// CLUSTER SHARDS, likewise: for each shard its slots and the names of its nodes. (How far they are is never the same.)
fn shards(node: &Node) -> Vec<String> {
    let Value::Array(shards) = node.connect().call(&["CLUSTER", "SHARDS"]) else {
        panic!("no shards");
    };
    let shape = |shard: &Value| {
        let Value::Array(fields) = shard else {
            panic!("no shard: {shard:?}");
        };
        let Value::Array(nodes) = &fields[3] else {
            panic!("no nodes: {shard:?}");
        };
        let named = |node: &Value| match node {
            Value::Array(fields) => format!("{:?} {:?}", fields[1], fields[3]),
            node => panic!("no node: {node:?}"),
        };
        let mut names: Vec<String> = nodes.iter().map(named).collect();
        names.sort();
        format!("{:?} {names:?}", fields[1])
    };
    let mut shapes: Vec<String> = shards.iter().map(shape).collect();
    shapes.sort();
    shapes
}

fn all_see_the_same(nodes: &[&Node]) {
    agree(nodes, nodes.len());
    wait_until("all have the same map", || {
        nodes.iter().all(|node| slots(node) == slots(nodes[0]))
    });
    // (A 7.0 knows no shards, and each 7.2 makes up those of its nodes.)
    if nodes.iter().any(|node| node.version() == Version::V70) {
        return;
    }
    wait_until("all have the same shards", || {
        nodes.iter().all(|node| shards(node) == shards(nodes[0]))
    });
}

#[test]
fn our_replicas_take_the_place_of_their_masters() {
    let mut nodes = six(&peer_program(), &our_program());
    all_see_the_same(&nodes.iter().collect::<Vec<_>>());
    nodes[0].kill();
    promoted(&nodes[3]);
    let left: Vec<&Node> = nodes[1..].iter().collect();
    agree(&left, 6);
    check(&[&nodes[1], &nodes[2], &nodes[3]], KEYS);
    // By hand: the master is theirs and holds its clients.
    ok(&nodes[4].connect().call(&["CLUSTER", "FAILOVER"]));
    promoted(&nodes[4]);
    wait_until("the old master follows", || role(&nodes[1]) == "slave");
    agree(&left, 6);
}

#[test]
fn their_replicas_take_the_place_of_our_masters() {
    let peer = member(&peer_program(), &[]);
    if peer.version() == Version::V70 {
        return;
    }
    let mut nodes = six(&our_program(), &peer_program());
    all_see_the_same(&nodes.iter().collect::<Vec<_>>());
    nodes[0].kill();
    promoted(&nodes[3]);
    let again = member_again(&nodes[0], &our_program());
    wait_until("it follows", || {
        info(&mut again.connect(), "master_link_status") == "up"
    });
    let all: Vec<&Node> = nodes[1..].iter().chain([&again]).collect();
    // (A master that does not know yet whose replica it is would not listen.)
    agree(&all, 6);
    ok(&again.connect().call(&["CLUSTER", "FAILOVER"]));
    promoted(&again);
    agree(&all, 6);
    check(&[&again, &nodes[1], &nodes[2]], KEYS);
}

/// Masters of both: a slot goes from one to the other and back, and messages reach all.
#[test]
fn masters_of_both_share_the_slots() {
    let nodes = [
        member(&our_program(), &[]),
        member(&peer_program(), &[]),
        member(&our_program(), &[]),
    ];
    let all: Vec<&Node> = nodes.iter().collect();
    join(&all, &[]);
    fill(&all, KEYS);
    all_see_the_same(&all);
    let slot = Slot::of(b"key:{bar}").to_string();
    for (from, to) in [(0, 1), (1, 0)] {
        ok(&call(&all, 0, &["SET", "key:{bar}", "here"]));
        let (giver, taker) = (&nodes[from], &nodes[to]);
        ok(&taker
            .connect()
            .call(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(giver)]));
        ok(&giver
            .connect()
            .call(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(taker)]));
        let port = taker.port.to_string();
        // (The dump of a 7.2 is no good to a 7.0.)
        if to == 1 && taker.version() == Version::V70 {
            giver.connect().call(&["DEL", "key:{bar}"]);
        } else {
            ok(&giver
                .connect()
                .call(&["MIGRATE", "127.0.0.1", &port, "key:{bar}", "0", "5000"]));
        }
        for node in [taker, giver] {
            ok(&node
                .connect()
                .call(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(taker)]));
        }
        all_see_the_same(&all);
    }
    let mut listener = nodes[1].connect();
    listener.call(&["SUBSCRIBE", "news"]);
    nodes[2].connect().call(&["PUBLISH", "news", "hello"]);
    let Value::Array(parts) = listener.reply() else {
        panic!("no message");
    };
    assert_eq!(parts[2].as_bytes(), Some(&b"hello"[..]));
}

/// The file of either is read by the other. (But not that of a 7.2 by a 7.0.)
#[test]
fn a_node_goes_on_with_the_other_program() {
    let mut nodes = six(&peer_program(), &our_program());
    let name = id(&nodes[1]);
    nodes[1].kill();
    promoted(&nodes[4]);
    let ours = member_again(&nodes[1], &our_program());
    assert_eq!(id(&ours), name);
    wait_until("it follows", || {
        info(&mut ours.connect(), "master_link_status") == "up"
    });
    let all: Vec<&Node> = [&nodes[0], &ours].into_iter().chain(&nodes[2..]).collect();
    all_see_the_same(&all);
    if nodes[0].version() == Version::V70 {
        return;
    }
    let name = id(&nodes[5]);
    let before = nodes.remove(5);
    drop_process(before, |before| {
        let theirs = member_again(before, &peer_program());
        assert_eq!(id(&theirs), name);
        wait_until("it follows", || {
            info(&mut theirs.connect(), "master_link_status") == "up"
        });
    });
}

fn drop_process(mut node: Node, then: impl FnOnce(&Node)) {
    node.kill();
    then(&node);
}
