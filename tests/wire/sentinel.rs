//! Sentinels as processes on loopback, ours and in a mixed group: a master dies, and all agree on another.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod node;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use redstart::resp::value::Value;
use tempfile::TempDir;

use node::{Conn, Node, directory, info, ok, our_program, peer_program, text_of, wait_until};

const OURS: &str = env!("CARGO_BIN_EXE_redis-sentinel");

fn file_of(dir: &TempDir, port: u16) -> PathBuf {
    dir.path().join(format!("sentinel-{port}.conf"))
}

/// A Sentinel of this program that watches a master, with these further lines in its file. (Who was master a moment
/// ago may have to wait a second for its next connection. Were it down after a second, that wait could be its end.)
fn sentinel(dir: &Arc<TempDir>, program: &str, master: u16, lines: &str) -> Node {
    let home = dir.clone();
    Node::launch(dir.clone(), program, move |port, command| {
        let file = file_of(&home, port);
        let text = format!(
            "port {port}\nbind 127.0.0.1\n# before the master\nsentinel down-after-milliseconds mymaster 2000\n\
             sentinel failover-timeout mymaster 10000\nsentinel monitor mymaster 127.0.0.1 {master} 2\n{lines}"
        );
        fs::write(&file, text).unwrap();
        command.arg(&file).arg("--sentinel");
    })
}

/// The same one again, on the file that it has left.
fn again(dir: &Arc<TempDir>, program: &str, port: u16) -> Node {
    let file = file_of(dir, port);
    let text = text_of(&file);
    Node::launch(dir.clone(), program, move |free, command| {
        let moved = text.replace(&format!("port {port}\n"), &format!("port {free}\n"));
        fs::write(&file, moved).unwrap();
        command.arg(&file).arg("--sentinel");
    })
}

/// A master and two replicas of it.
fn servers(program: &str) -> Vec<Node> {
    let master = Node::start(program, &[]);
    let port = master.port.to_string();
    let replica = || Node::start(program, &["--replicaof", "127.0.0.1", &port]);
    let replicas = [replica(), replica()];
    for node in &replicas {
        let mut conn = node.connect();
        wait_until("a replica's link", || {
            info(&mut conn, "master_link_status") == "up"
        });
    }
    [master].into_iter().chain(replicas).collect()
}

fn master_of(conn: &mut Conn) -> u16 {
    let Value::Array(parts) = conn.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"])
    else {
        panic!("no address");
    };
    let port = parts[1].as_bytes().unwrap();
    String::from_utf8_lossy(port).parse().unwrap()
}

/// A field of the first of the maps that a command replies, or of the only one.
fn field(conn: &mut Conn, command: &[&str], name: &str) -> String {
    let Value::Array(mut fields) = conn.call(command) else {
        panic!("no fields");
    };
    if let Some(Value::Array(first)) = fields.first() {
        fields = first.clone();
    }
    let at = fields
        .iter()
        .position(|f| f.as_bytes() == Some(name.as_bytes()));
    let value = at
        .and_then(|at| fields.get(at + 1))
        .and_then(Value::as_bytes);
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

fn wait_until_met(conns: &mut [Conn]) {
    let master = ["SENTINEL", "MASTER", "mymaster"];
    wait_until("all have met", || {
        conns.iter_mut().all(|conn| {
            field(conn, &master, "num-other-sentinels") == "2"
                && field(conn, &master, "num-slaves") == "2"
        })
    });
}

/// True if a server says that it follows this one. (Whoever is told to closes all connections, so each look has its own.)
fn follows(node: &Node, master: u16) -> bool {
    let mut conn = node.connect();
    conn.send(&["INFO", "replication"]);
    let text = conn
        .try_reply()
        .and_then(|reply| reply.as_bytes().map(<[u8]>::to_vec));
    let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
    text.contains(&format!("\r\nmaster_port:{master}\r\n"))
}

/// The master dies; all Sentinels agree on another, which its old replica and the old master follow.
fn fail_over(dir: &Arc<TempDir>, programs: [&str; 3], server: &str) {
    let mut nodes = servers(server);
    let port = nodes[0].port;
    let sentinels = programs.map(|program| sentinel(dir, program, port, ""));
    let mut conns = sentinels.each_ref().map(Node::connect);
    wait_until_met(&mut conns);
    let mut listener = sentinels[0].connect();
    listener.call(&["SUBSCRIBE", "+switch-master"]);
    nodes[0].kill();
    wait_until("agreement on a new master", || {
        let now = master_of(&mut conns[0]);
        now != port && conns.iter_mut().all(|conn| master_of(conn) == now)
    });
    let new = master_of(&mut conns[0]);
    let Value::Array(message) = listener.reply() else {
        panic!("no message");
    };
    let told = format!("mymaster 127.0.0.1 {port} 127.0.0.1 {new}");
    assert_eq!(message[2].as_bytes(), Some(told.as_bytes()));
    // They may agree on yet another on a machine that is slow.
    let mut all_follow = |nodes: &[Node]| {
        let master = master_of(&mut conns[0]);
        let mut others = nodes.iter().filter(|node| node.port != master);
        others.all(|node| follows(node, master))
    };
    wait_until("the other replica follows", || all_follow(&nodes[1..]));
    // The old master comes back, and is a replica.
    nodes[0] = Node::start_at(&nodes[0], server);
    wait_until("the old master follows", || all_follow(&nodes));
}

#[test]
fn our_sentinels_fail_over_our_servers() {
    let dir = directory();
    fail_over(&dir, [OURS; 3], &our_program());
}

#[test]
fn a_mixed_group_agrees() {
    let dir = directory();
    let peer = peer_program();
    fail_over(&dir, [OURS, OURS, &peer], &our_program());
}

#[test]
fn a_sentinel_remembers_what_it_was() {
    let dir = directory();
    let nodes = servers(&our_program());
    let mut one = sentinel(&dir, OURS, nodes[0].port, "");
    let mut conn = one.connect();
    let master = ["SENTINEL", "MASTER", "mymaster"];
    wait_until("replicas", || {
        field(&mut conn, &master, "num-slaves") == "2"
    });
    let id = conn.call(&["SENTINEL", "MYID"]);
    let ip = ["127.0.0.1", &nodes[0].port.to_string()];
    let voted = "0123456789012345678901234567890123456789";
    let ask = [
        "SENTINEL",
        "IS-MASTER-DOWN-BY-ADDR",
        ip[0],
        ip[1],
        "7",
        voted,
    ];
    let vote = conn.call(&ask);
    let answer = |leader: &str| {
        Value::Array(vec![
            Value::Int(0),
            Value::Bulk(leader.into()),
            Value::Int(7),
        ])
    };
    assert_eq!(vote, answer(voted));
    one.kill();
    let file = text_of(&file_of(&dir, one.port));
    assert!(file.contains("# before the master\n"), "{file}");
    let one = again(&dir, OURS, one.port);
    let mut conn = one.connect();
    assert_eq!(conn.call(&["SENTINEL", "MYID"]), id);
    assert_eq!(field(&mut conn, &master, "num-slaves"), "2");
    // Its vote of that epoch is given: nobody else gets it.
    let other = "9876543210987654321098765432109876543210";
    let ask = [
        "SENTINEL",
        "IS-MASTER-DOWN-BY-ADDR",
        ip[0],
        ip[1],
        "7",
        other,
    ];
    assert_eq!(conn.call(&ask), answer("*"));
}

#[test]
fn programs_are_told_of_a_failover() {
    let dir = directory();
    let script = dir.path().join("tell");
    let told = dir.path().join("told");
    fs::write(
        &script,
        format!("#!/bin/sh\necho \"$@\" >> {}\n", told.display()),
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let nodes = servers(&our_program());
    let path = script.display();
    let lines = format!(
        "sentinel notification-script mymaster {path}\nsentinel client-reconfig-script mymaster {path}\n"
    );
    let one = sentinel(&dir, OURS, nodes[0].port, &lines);
    let mut conn = one.connect();
    let replica = ["SENTINEL", "REPLICAS", "mymaster"];
    wait_until("a replica that is known well", || {
        field(&mut conn, &replica, "master-link-status") == "ok"
    });
    ok(&conn.call(&["SENTINEL", "FAILOVER", "mymaster"]));
    wait_until("both programs were told", || {
        let text = text_of(&told);
        text.contains("+switch-master mymaster") && text.contains("mymaster leader start 127.0.0.1")
    });
}

#[test]
fn without_a_file_it_does_not_start() {
    let run = |args: &[&str]| {
        let output = Command::new(OURS).args(args).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let (status, text) = run(&["--port", "0"]);
    assert_eq!(status, Some(1));
    assert!(
        text.contains("Sentinel needs config file on disk to save state. Exiting..."),
        "{text}"
    );
    let dir = directory();
    let file = dir.path().join("wrong.conf");
    fs::write(&file, "port 0\nsentinel monitor m 127.0.0.1 1 0\n").unwrap();
    let (status, text) = run(&[file.to_str().unwrap()]);
    assert_eq!(status, Some(1));
    let wanted = "Reading the configuration file, at line 2\n>>> 'sentinel monitor m 127.0.0.1 1 0'\nQuorum must be 1 or greater.";
    assert!(text.contains(wanted), "{text}");
}

#[test]
fn the_example_is_taken_as_it_stands() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/sentinel.conf.example");
    let example = text_of(example.as_ref());
    let dir = directory();
    let master = Node::start(&our_program(), &[]);
    let (home, there) = (dir.clone(), master.port);
    let one = Node::launch(dir.clone(), OURS, move |port, command| {
        let text = example
            .replace("\nport 26379\n", &format!("\nport {port}\n"))
            .replace(" 127.0.0.1 6379 2\n", &format!(" 127.0.0.1 {there} 2\n"))
            .replace(
                "\ndir /tmp\n",
                &format!("\ndir {}\n", home.path().display()),
            );
        let file = file_of(&home, port);
        fs::write(&file, text).unwrap();
        command.arg(&file);
    });
    let mut conn = one.connect();
    let line = format!("name=mymaster,status=ok,address=127.0.0.1:{there},slaves=0,sentinels=1");
    assert_eq!(info(&mut conn, "master0"), line);
    let role = Value::Array(vec![
        Value::Bulk("sentinel".into()),
        Value::Array(vec![Value::Bulk("mymaster".into())]),
    ]);
    assert_eq!(conn.call(&["ROLE"]), role);
    // It has no data, and no commands for any.
    assert!(conn.call(&["GET", "key"]).is_error());
}
