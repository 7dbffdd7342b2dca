//! What a server refuses: one client too many, commands and directives that are protected, names that were
//! taken away; and how it ends.

use redstart::resp::value::Value;

use crate::compare::show;
use crate::node::{Conn, Node, Version, both};

/// The same commands to both, on one connection; the same replies.
fn same_replies(nodes: &[Node; 2], commands: &[&[&str]]) {
    let mut conns = nodes.each_ref().map(Node::connect);
    for args in commands {
        let [ours, theirs] = conns.each_mut().map(|conn| conn.call(args));
        assert!(
            ours == theirs,
            "{args:?}: {} / {}",
            show(&ours),
            show(&theirs)
        );
    }
}

#[test]
fn one_client_too_many_is_told_so() {
    let nodes = both(&["--maxclients", "4"]);
    let told = nodes.each_ref().map(|node| {
        let mut clients: Vec<Conn> = Vec::new();
        for _ in 0..1000 {
            if clients.len() == 4 {
                break;
            }
            let mut conn = node.connect();
            conn.send(&["PING"]);
            // The probe that saw the server start may still count.
            if matches!(conn.try_reply(), Some(Value::Status(_))) {
                clients.push(conn);
            }
        }
        let refused = node.connect().read_to_end().unwrap_or_else(|part| part);
        let mut last = clients.pop().unwrap();
        last.send(&["QUIT"]);
        last.read_to_end().unwrap();
        let next = node.connect().call(&["PING"]);
        (refused, next)
    });
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0].0, b"-ERR max number of clients reached\r\n");
}

#[test]
fn protected_commands_and_directives_are_refused_alike() {
    const COMMANDS: &[&[&str]] = &[
        &["DEBUG", "JMAP"],
        &["DEBUG", "SLEEP", "0"],
        &["DEBUG"],
        &["CONFIG", "SET", "dir", "/"],
        &["CONFIG", "SET", "dbfilename", "x"],
        &["CONFIG", "SET", "hz", "10", "dir", "/"],
        &["CONFIG", "SET", "enable-debug-command", "yes"],
        &["CONFIG", "SET", "port", "x"],
        &["MODULE", "LOAD", "/nosuch"],
        &["MODULE", "LIST"],
        &["MODULE", "UNLOAD", "nosuch"],
        &["MULTI"],
        &["DEBUG", "SLEEP", "0"],
        &["EXEC"],
    ];
    same_replies(&both(&["--enable-debug-command", "no"]), COMMANDS);
    same_replies(
        &both(&[
            "--enable-debug-command",
            "local",
            "--enable-protected-configs",
            "local",
        ]),
        &[
            &["DEBUG", "SLEEP", "0"],
            &["CONFIG", "SET", "dbfilename", "x/y"],
            &["CONFIG", "SET", "dbfilename", "x"],
            &["CONFIG", "GET", "dbfilename"],
        ],
    );
}

#[test]
fn times_that_overflow_are_refused() {
    let nodes = both(&[]);
    if nodes[1].version() < Version::V72 {
        // 7.0 let them overflow.
        return;
    }
    same_replies(
        &nodes,
        &[
            &["CLIENT", "PAUSE", "9223372036854775807"],
            &["CLIENT", "PAUSE", "9223372036854775808"],
        ],
    );
}

#[test]
fn renamed_commands_answer_to_their_new_names() {
    let nodes = both(&[
        "--rename-command",
        "GET",
        "fetch",
        "--rename-command",
        "SET",
        "",
    ]);
    same_replies(
        &nodes,
        &[
            &["GET", "k"],
            &["FETCH", "k"],
            &["FETCH"],
            &["SET", "k", "v"],
            &["APPEND", "k", "v"],
            &["fetch", "k"],
            &["MULTI"],
            &["FETCH", "k"],
            &["GET", "k"],
            &["EXEC"],
        ],
    );
}

#[test]
fn shutdown_ends_both_with_the_same_status() {
    for option in ["NOSAVE", "NOW", "FORCE", "nosave now force"] {
        let mut nodes = both(&[]);
        same_replies(
            &nodes,
            &[
                &["SHUTDOWN", "nosuch"],
                &["SHUTDOWN", "ABORT"],
                &["SHUTDOWN", "SAVE", "NOSAVE"],
            ],
        );
        let ends = nodes.each_mut().map(|node| {
            let mut conn = node.connect();
            let words = ["SHUTDOWN"].into_iter().chain(option.split(' '));
            conn.send(&words.collect::<Vec<_>>());
            (conn.try_reply(), node.wait())
        });
        assert_eq!(ends[0], ends[1], "{option}");
        assert_eq!(ends[0], (None, Some(0)), "{option}");
    }
}
