//! Links: the connections that the server opens.

use super::*;
use crate::cmd::session::Marks;
use crate::exec::link::{Owner, Target};

fn target() -> Target {
    Target {
        host: "there.example".into(),
        port: 7000,
        source: String::new(),
        tls: false,
    }
}

fn heard(w: &mut TestServer) -> Vec<String> {
    std::mem::take(&mut w.server.links.heard)
}

#[test]
fn a_link_carries_bytes_both_ways_and_is_no_client() {
    let mut w = world();
    let c = w.connect();
    let link = w.server.open_link(Owner::Test, target());
    // What is written ahead waits until somebody takes it.
    if let Some(conn) = w.server.conns.get_mut(link) {
        conn.reply.raw(b"PING\r\n");
    }
    w.server.wants_write(link);
    w.turn();
    assert_eq!(w.dialled(), Some((link, target())));
    assert_eq!(w.receive(link), b"");
    w.answer(link);
    assert_eq!(w.dialled(), None);
    assert_eq!(w.receive(link), b"PING\r\n");
    // These would be commands from a client.
    w.send(link, b"SET k v\r\n");
    let told = [
        format!("{} Connected", link.0),
        format!("{} Data({:?})", link.0, b"SET k v\r\n"),
    ];
    assert_eq!(heard(&mut w), told);
    assert_eq!(w.call(c, &["EXISTS", "k"]), ":0\r\n");
    assert!(
        w.call(c, &["INFO", "clients"])
            .contains("connected_clients:1\r\n")
    );
    assert_eq!(w.call(c, &["CLIENT", "LIST"]).matches("id=").count(), 1);
    w.hang_up(link);
    assert_eq!(heard(&mut w), [format!("{} Closed(None)", link.0)]);
    assert!(!w.is_open(link));
}

#[test]
fn an_owner_hears_of_the_end_once_and_not_of_what_it_ended() {
    let mut w = world();
    let first = w.server.open_link(Owner::Test, target());
    w.turn();
    w.break_link(first, "Connection refused");
    let closed = format!("{} Closed(Some(\"Connection refused\"))", first.0);
    assert_eq!(heard(&mut w), [closed]);
    // Broken and given up in one turn, and given up before it was there at all.
    let second = w.server.open_link(Owner::Test, target());
    w.turn();
    w.server.lose(second, "Connection reset by peer".into());
    w.server.close_link(second);
    let third = w.server.open_link(Owner::Test, target());
    w.server.close_link(third);
    w.turn();
    assert!(heard(&mut w).is_empty());
    assert!(!w.is_open(second) && !w.is_open(third));
    // A token is given again; what was looked up for its last bearer is not for the next.
    let fourth = w.server.open_link(Owner::Test, target());
    assert!(fourth == second || fourth == third);
    assert!(!w.server.is_opening(fourth, 3) && w.server.is_opening(fourth, 4));
}

#[test]
fn a_masters_link_becomes_a_client_of_a_kind() {
    let mut w = world();
    let c = w.connect();
    let link = w.server.open_link(Owner::Test, target());
    w.turn();
    w.answer(link);
    w.server.adopt_link(link);
    heard(&mut w);
    w.send(link, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");
    assert_eq!(heard(&mut w), [""; 0], "it is the master's command");
    assert_eq!(w.call(c, &["GET", "k"]), "$1\r\nv\r\n");
    assert!(w.call(c, &["CLIENT", "LIST"]).contains(" flags=M "));
    assert!(
        w.call(c, &["INFO", "clients"])
            .contains("connected_clients:2\r\n")
    );
    assert!(
        w.server
            .conns
            .get(link)
            .is_some_and(|c| c.session.marks.has(Marks::MASTER))
    );
    w.hang_up(link);
    assert_eq!(heard(&mut w), [format!("{} Closed(None)", link.0)]);
    assert!(
        w.call(c, &["INFO", "clients"])
            .contains("connected_clients:1\r\n")
    );
}
