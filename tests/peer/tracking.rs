//! Client-side caching, in scenes: which messages come, to whom, and where among the replies.

use redstart::resp::value::Value;

use crate::node::{Conn, Node, Version, both};

/// Each step is a connection and what it sends; `3` after the name: it speaks RESP3. `?` awaits one more message instead,
/// `@` is the listener's ID, and `=` before the words says that the reply holds it.
#[rustfmt::skip]
const SCENES: &[&[(&str, &str)]] = &[
    &[
        ("me3", "CLIENT TRACKING on"), ("me3", "CLIENT TRACKINGINFO"), ("me3", "CLIENT GETREDIR"), ("other", "SET k 1"),
        ("me3", "MGET k k2 k3"), ("other", "MSET k2 1 k 1"), ("me3", "?"), ("me3", "?"), ("me3", "PING"),
        ("me3", "GET k"), ("me3", "SET k 5"), ("me3", "?"), ("me3", "GET k"), ("me3", "MULTI"), ("me3", "SET k 1"),
        ("me3", "GET k"), ("me3", "SET k 2"), ("me3", "EXEC"), ("me3", "?"), ("me3", "?"), ("me3", "GET k"),
        ("other", "FLUSHALL"), ("me3", "?"), ("me3", "FLUSHDB"), ("me3", "?"), ("me3", "CLIENT TRACKING on BCAST"),
        ("me3", "CLIENT TRACKING on NOLOOP"), ("me3", "GET k"), ("me3", "SET k 1"), ("me3", "GET k"), ("other", "SET k 1"),
        ("me3", "?"), ("me3", "CLIENT TRACKING off"), ("me3", "CLIENT TRACKINGINFO"),
    ],
    &[
        ("me3", "CLIENT CACHING yes"), ("me3", "CLIENT TRACKING on OPTIN OPTOUT"), ("me3", "CLIENT TRACKING on OPTIN"),
        ("me3", "CLIENT CACHING no"), ("me3", "CLIENT CACHING yes"), ("me3", "CLIENT TRACKINGINFO"), ("me3", "GET k"),
        ("me3", "GET k2"), ("other", "MSET k 1 k2 1"), ("me3", "?"), ("me3", "CLIENT TRACKING on OPTOUT"),
        ("me3", "CLIENT TRACKING off"), ("me3", "CLIENT TRACKING on OPTOUT"), ("me3", "CLIENT CACHING no"),
        ("me3", "MULTI"), ("me3", "GET k"), ("me3", "EXEC"), ("me3", "GET k2"), ("other", "MSET k 1 k2 1"), ("me3", "?"),
        ("me3", "PING"), ("me3", "CLIENT TRACKING off"),
    ],
    &[
        ("me3", "CLIENT TRACKING on PREFIX a"), ("me3", "CLIENT TRACKING on BCAST PREFIX a PREFIX ab"),
        ("me3", "CLIENT TRACKING on BCAST OPTIN"), ("me3", "CLIENT TRACKING on BCAST PREFIX b PREFIX a"),
        ("me3", "CLIENT TRACKING on BCAST PREFIX ab"), ("me3", "CLIENT TRACKINGINFO"), ("other", "MSET a1 1 a0 1 z 1"),
        ("me3", "?"), ("me3", "SET b 1"), ("me3", "?"), ("me3", "CLIENT TRACKING off"),
        ("me3", "CLIENT TRACKING on BCAST NOLOOP"), ("me3", "SET q 1"), ("me3", "PING"), ("other", "SET q 1"), ("me3", "?"),
        ("me3", "RESET"), ("me", "CLIENT TRACKINGINFO"),
    ],
    &[
        ("listener", "SUBSCRIBE __redis__:invalidate"), ("me", "CLIENT TRACKING on REDIRECT 0"),
        ("me", "CLIENT TRACKING on REDIRECT @"), ("me", "=CLIENT GETREDIR"), ("me", "GET k"), ("other", "SET k 1"),
        ("listener", "?"), ("me", "GET k"), ("me", "SET k 1"), ("listener", "?"), ("me", "GET k"), ("other", "FLUSHALL"),
        ("listener", "?"), ("other3", "CLIENT TRACKING on REDIRECT @"), ("other3", "GET k"), ("listener", "UNSUBSCRIBE"),
        ("me", "SET k 1"), ("listener", "PING"), ("other3", "GET k"), ("listener", "QUIT"), ("me", "SET k 1"),
        ("other3", "=?"), ("other3", "=CLIENT TRACKINGINFO"),
    ],
    &[
        ("me3", "CLIENT TRACKING on"), ("me3", "SUBSCRIBE ch"), ("me3", "GET k"), ("me3", "MULTI"), ("me3", "PUBLISH ch 1"),
        ("me3", "SET k 1"), ("me3", "PUBLISH ch 2"), ("me3", "EXEC"), ("me3", "?"), ("me3", "?"), ("me3", "?"),
        ("other", "CONFIG SET notify-keyspace-events KEA"), ("me3", "PSUBSCRIBE __key*"), ("me3", "GET k"),
        ("me3", "SET k 2"), ("me3", "?"), ("me3", "?"), ("me3", "?"), ("me3", "GET k"), ("other", "SET k 3"), ("me3", "?"),
        ("me3", "?"), ("me3", "?"), ("other", "CONFIG SET notify-keyspace-events ''"),
    ],
];

#[test]
fn the_same_messages_come_at_the_same_places() {
    let nodes = both(&[]);
    // Before 7.2 a client's own messages came in the middle of EXEC's reply: the last scene is about that.
    let old = usize::from(nodes[1].version() < Version::V72);
    for (scene, steps) in SCENES.iter().enumerate().take(SCENES.len() - old) {
        let mut listener = nodes.each_ref().map(Node::connect);
        let ids = listener
            .each_mut()
            .map(|conn| match conn.call(&["CLIENT", "ID"]) {
                Value::Int(id) => id.to_string(),
                other => panic!("{other:?}"),
            });
        let mut conns: Vec<(&str, [Conn; 2])> = vec![("listener", listener)];
        for (n, (name, words)) in steps.iter().enumerate() {
            let who = name.trim_end_matches('3');
            if !conns.iter().any(|(known, _)| *known == who) {
                conns.push((who, nodes.each_ref().map(Node::connect)));
            }
            let (_, pair) = conns.iter_mut().find(|(known, _)| *known == who).unwrap();
            let resp3 = name.ends_with('3') && !steps[..n].iter().any(|(other, _)| other == name);
            let words = words.strip_prefix('=').unwrap_or(words);
            let mut said = Vec::new();
            for (conn, id) in pair.iter_mut().zip(&ids) {
                if resp3 {
                    conn.call(&["HELLO", "3"]);
                }
                if words != "?" {
                    let word = |w: &str| w.replace('@', id).replace("''", "");
                    conn.send(&words.split(' ').map(word).collect::<Vec<_>>());
                }
                conn.awaited = format!("scene {scene}, step {n}: {name}: {words}");
                let mut reply = format!("{:?}", conn.try_reply());
                if steps[n].1.starts_with('=') {
                    reply = reply.replace(&format!("Int({id})"), "Int(@)");
                }
                said.push(reply);
            }
            assert_eq!(said[0], said[1], "scene {scene}, step {n}: {name}: {words}");
        }
    }
}
