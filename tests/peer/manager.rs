//! `redis-cli --cluster` on a cluster of the peer's servers: made by ours, and looked at by both, who have to say the same.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::node::{Conn, Node, directory, free_port, peer_program, wait_until};

struct Cluster {
    nodes: Vec<Node>,
    theirs: String,
}

fn ours() -> &'static str {
    env!("CARGO_BIN_EXE_redis-cli")
}

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Status and both outputs.
fn text(output: &Output) -> String {
    format!(
        "status {:?}\n{}{}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn done(conn: &mut Conn, args: &[&str]) {
    assert_eq!(conn.call(args).as_bytes(), Some(&b"OK"[..]), "{args:?}");
}

impl Cluster {
    /// Nodes that know nobody, of whom no port of a bus is derived from the other port.
    fn start(nodes: usize) -> Option<Cluster> {
        let peer = peer_program();
        let theirs = Path::new(&peer).with_file_name("redis-cli");
        Command::new(&theirs).arg("--version").output().ok()?;
        let node = |_| {
            let dir = directory();
            Node::launch(dir, &peer, |port, command| {
                command
                    .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                    .args(["--cluster-port", &free_port().to_string()])
                    .args(["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"])
                    .args(["--save", "", "--enable-debug-command", "yes"]);
            })
        };
        Some(Cluster {
            nodes: (0..nodes).map(node).collect(),
            theirs: theirs.to_str()?.to_string(),
        })
    }

    fn place(&self, at: usize) -> String {
        format!("127.0.0.1:{}", self.nodes[at].port)
    }

    fn id(&self, at: usize) -> String {
        let id = self.nodes[at].connect().call(&["CLUSTER", "MYID"]);
        String::from_utf8_lossy(id.as_bytes().unwrap()).into_owned()
    }

    /// The program of ours, which has to succeed.
    fn manage(&self, args: &[&str]) -> String {
        let output = run(ours(), &[&["--cluster"], args].concat());
        let text = text(&output);
        assert!(output.status.success(), "{args:?}: {text}");
        text
    }

    /// Both programs, which have to say the same.
    fn same(&self, args: &[&str]) -> String {
        let args = [&["--cluster"], args].concat();
        let [ours, theirs] = [ours(), &self.theirs].map(|program| text(&run(program, &args)));
        assert_eq!(ours, theirs, "{args:?}");
        ours
    }

    fn settle(&self) {
        wait_until("all nodes agree, and say that it is well", || {
            let well = self.nodes.iter().take(3).all(|node| {
                let info = node.connect().call(&["CLUSTER", "INFO"]);
                String::from_utf8_lossy(info.as_bytes().unwrap()).contains("cluster_state:ok")
            });
            well && run(ours(), &["--cluster", "check", &self.place(0)])
                .status
                .success()
        });
    }

    /// The values of the keys, asked for at whoever has them.
    fn value(&self, key: &str) -> String {
        let port = self.nodes[0].port.to_string();
        let output = run(ours(), &["-c", "-p", &port, "GET", key]);
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_string()
    }

    fn set_slot(&self, at: usize, slot: &str, state: &str, other: &str) {
        let mut conn = self.nodes[at].connect();
        done(&mut conn, &["CLUSTER", "SETSLOT", slot, state, other]);
    }
}

#[test]
fn redis_cli_makes_a_cluster_and_looks_after_it() {
    let Some(cluster) = Cluster::start(4) else {
        return;
    };
    let places: Vec<String> = (0..4).map(|at| cluster.place(at)).collect();
    let first = places[0].as_str();
    cluster.same(&["create", first]);
    cluster.same(&["check", first]);
    let made = cluster.manage(&["create", first, &places[1], &places[2], "--cluster-yes"]);
    assert!(made.contains("Master[1] -> Slots 5461 - 10922\n"), "{made}");
    assert!(made.ends_with("[OK] All 16384 slots covered.\n"), "{made}");
    cluster.settle();
    let port = cluster.nodes[0].port.to_string();
    for n in 0..60 {
        let (key, value) = (format!("key{n}"), n.to_string());
        let set = run(ours(), &["-c", "-p", &port, "SET", &key, &value]);
        assert_eq!(set.stdout, b"OK\n");
    }

    let ids: Vec<String> = (0..3).map(|at| cluster.id(at)).collect();
    let half = format!("{}=0.5", &ids[1][..7]);
    let reshard = [
        "reshard",
        first,
        "--cluster-to",
        &ids[0],
        "--cluster-slots",
        "5",
    ];
    for args in [
        &["info", first][..],
        &["check", "127.0.0.1", &port],
        &["check", first, "--cluster-search-multiple-owners"],
        &["call", first, "DBSIZE"],
        &["rebalance", first],
        &[
            "rebalance",
            first,
            "--cluster-simulate",
            "--cluster-weight",
            &half,
        ],
        // (Nobody says yes.)
        &[&reshard[..], &["--cluster-from", "all"]].concat(),
        &["create", first, &places[1], &places[2]],
        &["del-node", first, &ids[1]],
        &["add-node", &places[1], first],
    ] {
        cluster.same(args);
    }

    // All keys of a slot that moves go with it, and none is left open.
    let from = ["--cluster-from", &ids[1], "--cluster-yes"];
    let many = [
        "reshard",
        first,
        "--cluster-to",
        &ids[0],
        "--cluster-slots",
        "1500",
    ];
    cluster.manage(&[&many[..], &from].concat());
    cluster.settle();
    (0..60).for_each(|n| assert_eq!(cluster.value(&format!("key{n}")), n.to_string()));
    cluster.manage(&["rebalance", first]);
    cluster.settle();

    // A slot was left open, with one key here and one there.
    let (slot, owner) = slot_of_two_keys(&cluster);
    let to = (owner + 1) % 3;
    cluster.set_slot(owner, &slot, "MIGRATING", &ids[to]);
    cluster.set_slot(to, &slot, "IMPORTING", &ids[owner]);
    let mut conn = cluster.nodes[to].connect();
    done(&mut conn, &["ASKING"]);
    done(&mut conn, &["SET", "{key1}there", "2"]);
    let found = cluster.same(&["check", first]);
    assert!(
        found.contains(&format!("The following slots are open: {slot}.")),
        "{found}"
    );
    cluster.manage(&["fix", first]);
    cluster.settle();
    assert_eq!(
        [cluster.value("{key1}"), cluster.value("{key1}there")],
        ["1", "2"]
    );

    let load = Command::new(env!("CARGO_BIN_EXE_redis-benchmark"))
        .args(["-p", &port, "--cluster", "-n", "300", "-q", "-t", "set"])
        .output()
        .unwrap();
    let said = text(&load);
    assert!(
        said.contains("Cluster has 3 master nodes:") && load.status.success(),
        "{said}"
    );

    cluster.manage(&["add-node", &places[3], first]);
    wait_until("all nodes know each other", || {
        cluster.nodes.iter().all(|node| {
            let info = node.connect().call(&["CLUSTER", "INFO"]);
            String::from_utf8_lossy(info.as_bytes().unwrap()).contains("cluster_known_nodes:4")
        })
    });
    cluster.settle();
    cluster.manage(&["del-node", first, &cluster.id(3)]);
    cluster.settle();
    cluster.same(&["info", first]);
}

/// Makes two keys of a slot. Gives it, and the node that has it.
fn slot_of_two_keys(cluster: &Cluster) -> (String, usize) {
    let port = cluster.nodes[0].port.to_string();
    run(ours(), &["-c", "-p", &port, "SET", "{key1}", "1"]);
    let slot = run(ours(), &["-p", &port, "CLUSTER", "KEYSLOT", "{key1}"]);
    let slot = String::from_utf8_lossy(&slot.stdout).trim_end().to_string();
    let owner = (0..3).find(|&at| {
        cluster.nodes[at]
            .connect()
            .call(&["GET", "{key1}"])
            .as_bytes()
            == Some(b"1")
    });
    (slot, owner.unwrap())
}
