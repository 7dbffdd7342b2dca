//! Scripted masters against the machine: what they say arrives whole, byte by byte and in random pieces, and has to come
//! to the same.

use super::*;
use crate::base::rng::Rng;

const ID: &str = "0123456789abcdef0123456789abcdef01234567";
const NEW_ID: &str = "fedcba9876543210fedcba9876543210fedcba98";
const MARK: &str = "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmme";

fn facts() -> Facts<'static> {
    Facts {
        host: "master",
        port: 6379,
        own_port: 7000,
        timeout_s: 60,
        ..Facts::default()
    }
}

fn sent(words: &[&str]) -> Action {
    let words: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
    Action::Send(command(&words))
}

/// What a fresh link says first.
fn greeting() -> Action {
    let mut words = command(&[b"REPLCONF", b"listening-port", b"7000"]);
    words.extend(command(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]));
    Action::Send(words)
}

/// The data of neighbouring actions in one.
fn merged(actions: Vec<Action>) -> Vec<Action> {
    let mut all: Vec<Action> = Vec::new();
    for action in actions {
        match (all.last_mut(), action) {
            (Some(Action::Data(before)), Action::Data(data)) => {
                *before = [&before[..], &data].concat().into();
            }
            (_, action) => all.push(action),
        }
    }
    all
}

/// Connects, and gives the machine what the master says, cut as `cut` has it. What is to be done, and what was left over.
fn run(
    place: Option<Place>,
    facts: &Facts<'_>,
    said: &[u8],
    mut cut: impl FnMut(usize) -> usize,
) -> (Replica, Vec<Action>, Vec<u8>) {
    let mut link = Replica::new(place);
    let mut out = Vec::new();
    link.tick(1000, facts, &mut out);
    link.connected(1000, &mut out);
    let (mut at, mut rest) = (0, Vec::new());
    while at < said.len() {
        let n = cut(said.len() - at).clamp(1, said.len() - at);
        let part = &said[at..at + n];
        let used = if rest.is_empty() {
            link.receive(1000, facts, part, &mut out)
        } else {
            0
        };
        rest.extend_from_slice(&part[used..]);
        at += n;
    }
    (link, merged(out), rest)
}

/// The same in all manners of cutting.
fn always(
    place: Option<Place>,
    facts: &Facts<'_>,
    said: &[u8],
    expected: &[Action],
    left: &[u8],
) -> Replica {
    let mut rng = Rng::new(3);
    for round in 0..50 {
        let (_, actions, rest) = run(place.clone(), facts, said, |most| match round {
            0 => 1,
            1 => most,
            n => 1 + rng.below(n * 2) as usize,
        });
        assert_eq!(actions, expected, "round {round}");
        assert_eq!(rest, left, "round {round}");
    }
    run(place, facts, said, |most| most).0
}

#[test]
fn a_full_sync_with_a_mark() {
    // The data has beginnings of the mark in it.
    let data = format!("REDIS{}m\n\r\n${}{}", &MARK[..39], &MARK[..20], &MARK[..1]);
    let said = format!(
        "+PONG\r\n+OK\r\n+OK\r\n\n\n+FULLRESYNC {ID} 1234\r\n\n\n$EOF:{MARK}\r\n{data}{MARK}*1\r\n$4\r\nPING\r\n"
    );
    let expected = [
        Action::Connect,
        sent(&["PING"]),
        greeting(),
        sent(&["PSYNC", "?", "-1"]),
        Action::Full,
        Action::Begin(None),
        Action::Data(data.clone().into()),
        Action::Whole,
    ];
    let mut link = always(
        None,
        &facts(),
        said.as_bytes(),
        &expected,
        b"*1\r\n$4\r\nPING\r\n",
    );
    let read = data.len() as i64;
    assert_eq!(link.transfer(), Some(Transfer { total: 0, read }));
    assert_eq!(link.state_name(), "sync");
    let mut out = Vec::new();
    link.tick(2000, &facts(), &mut out);
    assert_eq!(out, [Action::Send(b"\n".into())], "it says that it lives");
    assert!(link.loaded(3000, 7), "the master waits to hear of it");
    let place = Place {
        id: ID.into(),
        offset: 1234,
        db: 7,
    };
    assert_eq!(link.place(), Some(&place));
    assert!(link.is_online() && link.transfer().is_none());
}

#[test]
fn a_full_sync_of_known_length_from_a_master_with_a_password() {
    let facts = Facts {
        user: b"me",
        password: b"pa ss",
        own_ip: b"10.1.1.1",
        ..facts()
    };
    let said = format!(
        "-NOAUTH Authentication required.\r\n+OK\r\n+OK\r\n-ERR what?\r\n-ERR what?\r\n+FULLRESYNC {ID} 0\r\n$5\r\nREDISmore"
    );
    let mut greeting = command(&[b"AUTH", b"me", b"pa ss"]);
    greeting.extend(command(&[b"REPLCONF", b"listening-port", b"7000"]));
    greeting.extend(command(&[b"REPLCONF", b"ip-address", b"10.1.1.1"]));
    greeting.extend(command(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]));
    let expected = [
        Action::Connect,
        sent(&["PING"]),
        Action::Send(greeting),
        sent(&["PSYNC", "?", "-1"]),
        Action::Full,
        Action::Begin(Some(5)),
        Action::Data("REDIS".into()),
        Action::Whole,
    ];
    let mut link = always(None, &facts, said.as_bytes(), &expected, b"more");
    assert!(!link.loaded(3000, 0), "it knows that all has come");
}

#[test]
fn a_partial_sync_takes_over_the_new_id() {
    let place = Place {
        id: ID.into(),
        offset: 99,
        db: 3,
    };
    let say = |reply: &str| format!("+PONG\r\n+OK\r\n+OK\r\n{reply}\r\n*1\r\n");
    let expected = |renamed: Option<&str>| {
        [
            Action::Connect,
            sent(&["PING"]),
            greeting(),
            sent(&["PSYNC", ID, "100"]),
            Action::Continue(renamed.map(String::from)),
        ]
    };
    let known = Some(place.clone());
    for reply in ["+CONTINUE", "+CONTINUE ", &format!("+CONTINUE {ID}")] {
        let said = say(reply);
        let link = always(
            known.clone(),
            &facts(),
            said.as_bytes(),
            &expected(None),
            b"*1\r\n",
        );
        assert_eq!(link.place(), known.as_ref());
    }
    let said = say(&format!("+CONTINUE {NEW_ID}"));
    let new = expected(Some(NEW_ID));
    let link = always(known, &facts(), said.as_bytes(), &new, b"*1\r\n");
    assert_eq!(
        link.place().map(|p| (&*p.id, p.offset, p.db)),
        Some((NEW_ID, 99, 3))
    );
}

#[test]
fn an_old_master_is_asked_the_old_way() {
    let said = "+PONG\r\n-ERR\r\n-ERR\r\n-ERR unknown command 'PSYNC'\r\n$2\r\nxy";
    let expected = [
        Action::Connect,
        sent(&["PING"]),
        greeting(),
        sent(&["PSYNC", "?", "-1"]),
        Action::Send(b"SYNC\r\n".into()),
        Action::Full,
        Action::Begin(Some(2)),
        Action::Data("xy".into()),
        Action::Whole,
    ];
    let mut link = always(None, &facts(), said.as_bytes(), &expected, b"");
    link.loaded(2000, 0);
    let mut out = Vec::new();
    link.closed(3000, &facts(), None, &mut out);
    assert_eq!(out, [Action::Connect]);
    assert_eq!(link.place(), None, "there is no place to go on from");
}

#[test]
fn refusals_close_the_link_until_the_next_tick() {
    let hello = "+PONG\r\n+OK\r\n+OK\r\n";
    for said in [
        "-ERR no\r\n",
        "\r\n",
        &format!("{hello}-NOMASTERLINK Can't SYNC while not connected with my master\r\n"),
        &format!("{hello}-LOADING Redis is loading the dataset in memory\r\n"),
    ] {
        let (mut link, actions, _) = run(None, &facts(), said.as_bytes(), |most| most);
        assert_eq!(actions.last(), Some(&Action::Close), "{said}");
        assert!(link.is_waiting());
        let mut out = Vec::new();
        link.tick(2000, &facts(), &mut out);
        assert_eq!(out, [Action::Connect]);
    }
    let wrong_password = Facts {
        password: b"x",
        ..facts()
    };
    let said = b"-NOAUTH\r\n-WRONGPASS no\r\n";
    let (link, actions, _) = run(None, &wrong_password, said, |most| most);
    assert_eq!(actions.last(), Some(&Action::Close));
    assert!(link.is_waiting());
}

#[test]
fn what_breaks_during_a_sync_is_given_up_and_asked_for_again() {
    let hello = format!("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC {ID} 5\r\n");
    for (rest, closes) in [
        ("-ERR too bad\r\n", true),
        ("what?\r\n", true),
        ("", false),
        ("$100\r\nabc", false),
        (&format!("$EOF:{MARK}\r\nabc"), false),
    ] {
        let said = hello.clone() + rest;
        let (mut link, actions, _) = run(None, &facts(), said.as_bytes(), |most| most);
        if closes {
            assert_eq!(
                actions[actions.len() - 2..],
                [Action::Close, Action::GiveUp]
            );
        } else {
            let mut out = Vec::new();
            link.closed(2000, &facts(), None, &mut out);
            assert_eq!(out, [Action::GiveUp]);
        }
        let mut out = Vec::new();
        link.tick(200_000, &facts(), &mut out);
        assert!(out.is_empty(), "not before the old is out of the way");
        link.stopped(200_000, &facts(), &mut out);
        assert_eq!(out, [Action::Connect]);
        assert_eq!(link.state_name(), "connecting");
    }
}

#[test]
fn a_silent_master_is_left() {
    let hello = format!("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC {ID} 5\r\n");
    let place = Place {
        id: ID.into(),
        offset: 1,
        db: 0,
    };
    for (said, place, expected) in [
        ("", None, vec![Action::Close, Action::Connect]),
        ("+PO", None, vec![Action::Close, Action::Connect]),
        (
            "+PONG\r\n+OK\r\n+OK\r\n\n",
            None,
            vec![Action::Close, Action::Connect],
        ),
        (&hello, None, vec![Action::Close, Action::GiveUp]),
        (
            "+PONG\r\n+OK\r\n+OK\r\n+CONTINUE\r\n",
            Some(place),
            vec![Action::Close, Action::Connect],
        ),
    ] {
        let (mut link, _, _) = run(place, &facts(), said.as_bytes(), |most| most);
        let mut out = Vec::new();
        link.tick(61_000, &facts(), &mut out);
        assert_eq!(out, [], "{said}");
        link.tick(62_000, &facts(), &mut out);
        assert_eq!(out, expected, "{said}");
    }
    let said = hello + "$100\r\nabc";
    let (mut link, _, _) = run(None, &facts(), said.as_bytes(), |most| most);
    let mut out = Vec::new();
    link.hold(2000, true);
    link.tick(100_000, &facts(), &mut out);
    assert!(out.is_empty(), "nobody listens to it");
    link.hold(101_000, false);
    link.tick(161_999, &facts(), &mut out);
    assert!(out.is_empty());
    link.tick(162_000, &facts(), &mut out);
    assert_eq!(out, [Action::Close, Action::GiveUp]);
}

#[test]
fn the_role_is_handed_over_or_not() {
    let facts = Facts {
        failing_over: true,
        ..facts()
    };
    let hello = "+PONG\r\n+OK\r\n+OK\r\n";
    let place = Place {
        id: ID.into(),
        offset: 9,
        db: 0,
    };
    let ask = sent(&["PSYNC", ID, "10", "FAILOVER"]);
    for (reply, accepted) in [
        ("+CONTINUE\r\n".to_string(), true),
        (format!("+FULLRESYNC {ID} 5\r\n"), true),
        ("-ERR no\r\n".to_string(), false),
        ("-LOADING\r\n".to_string(), false),
    ] {
        let said = format!("{hello}{reply}");
        let (_, actions, _) = run(Some(place.clone()), &facts, said.as_bytes(), |most| most);
        assert!(actions.contains(&ask));
        assert!(actions.contains(&Action::HandedOver(accepted)), "{reply}");
    }
    let (mut link, _, _) = run(Some(place), &facts, hello.as_bytes(), |most| most);
    let mut out = Vec::new();
    link.closed(2000, &facts, None, &mut out);
    assert_eq!(out, [Action::HandedOver(false)]);
}
