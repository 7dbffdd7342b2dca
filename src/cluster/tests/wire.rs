//! The messages as bytes.

use crate::base::rng::Rng;
use crate::base::slot::Slot;
use crate::cluster::slotset::SlotSet;
use crate::cluster::wire::{
    Body, Extension, Gossip, HEADER_LEN, Header, Kind, Message, NoMessage, Unreadable, decode,
    encode, length,
};
use crate::cluster::{Cluster, Flags, Name, Settings};

fn name(digit: u8) -> Name {
    Name::parse(&[digit; 40]).unwrap()
}

fn header() -> Header {
    let mut slots = SlotSet::default();
    for slot in [0, 1, 8, 16383] {
        slots.insert(Slot::new(slot).unwrap());
    }
    Header {
        port: 6379,
        other_port: 6380,
        bus_port: 16379,
        current_epoch: 0x0102_0304_0506_0708,
        config_epoch: 7,
        offset: 99,
        sender: name(b'a'),
        slots,
        master: Some(name(b'b')),
        ip: "10.1.2.3".into(),
        flags: Flags::REPLICA.or(Flags::MYSELF),
        is_ok: true,
        marks: 1,
    }
}

fn messages() -> Vec<(Kind, Body)> {
    let gossip = |n: u8| Gossip {
        name: name(n),
        ping_sent_s: 5,
        pong_received_s: 6,
        ip: "::1".into(),
        port: 1,
        bus_port: 2,
        flags: Flags::MASTER,
        other_port: 3,
    };
    let extensions = vec![
        Extension::Hostname("a.example.com".into()),
        Extension::Nodename("seven77".into()),
        Extension::Forgotten(name(b'f'), 60),
        Extension::Shard(name(b'e')),
    ];
    vec![
        (Kind::Ping, Body::Gossip(vec![], vec![])),
        (
            Kind::Meet,
            Body::Gossip(vec![gossip(b'1'), gossip(b'2')], vec![]),
        ),
        (Kind::Pong, Body::Gossip(vec![gossip(b'1')], extensions)),
        (Kind::Fail, Body::Fail(name(b'c'))),
        (
            Kind::PublishShard,
            Body::Publish {
                channel: b"ch".to_vec(),
                message: b"".to_vec(),
            },
        ),
        (
            Kind::Update,
            Body::Update {
                config_epoch: 12,
                name: name(b'd'),
                slots: header().slots,
            },
        ),
        (Kind::AuthRequest, Body::Other),
        (Kind::AuthAck, Body::Other),
        (Kind::ManualStart, Body::Other),
    ]
}

#[test]
fn what_is_said_is_heard() {
    for (kind, body) in messages() {
        let bytes = encode(kind, &header(), &body);
        assert_eq!(length(&bytes[..8]), Ok(Some(bytes.len())));
        let expected = Message {
            kind: kind as u16,
            header: header(),
            body,
        };
        assert_eq!(decode(&bytes), Ok(expected), "{kind:?}");
    }
}

/// Where the fields stand is what makes us understood by others.
#[test]
fn the_fields_stand_where_redis_has_them() {
    let bytes = encode(Kind::Update, &header(), &messages()[5].1);
    assert_eq!(bytes.len(), HEADER_LEN + 8 + 40 + 2048);
    assert_eq!(&bytes[..4], b"RCmb");
    assert_eq!(bytes[8..16], [0, 1, 0x18, 0xeb, 0, 7, 0, 0]);
    assert_eq!(bytes[16..24], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!((bytes[40], bytes[79]), (b'a', b'a'));
    assert_eq!((bytes[80], bytes[81], bytes[2127]), (3, 1, 0x80));
    assert_eq!(&bytes[2168..2177], b"10.1.2.3\0");
    assert_eq!(
        bytes[2246..2256],
        [0x18, 0xec, 0x3f, 0xfb, 0, 18, 0, 1, 0, 0]
    );
    let ping = encode(Kind::Pong, &header(), &messages()[2].1);
    // One entry of 104 bytes, then extensions of 24, 16, 56 and 48.
    assert_eq!(ping.len(), HEADER_LEN + 104 + 24 + 16 + 56 + 48);
    assert_eq!(ping[2253], 1 | 4);
}

/// Whatever comes is understood or refused.
#[test]
fn broken_messages_break_nothing() {
    let mut rng = Rng::new(7);
    let mut cluster = Cluster::new(1_700_000_000_000, Rng::new(1));
    cluster.set_settings(Settings {
        node_timeout_ms: 1000,
        ..Settings::default()
    });
    for (kind, body) in messages() {
        let whole = encode(kind, &header(), &body);
        for _ in 0..400 {
            let mut bytes = whole.clone();
            if rng.below(2) == 0 {
                bytes.truncate(rng.index(bytes.len() + 1));
            }
            for _ in 0..rng.below(4) {
                // Mostly where lengths and counts are.
                let at = match rng.below(2) {
                    0 => [
                        4, 5, 6, 7, 12, 13, 14, 15, 2214, 2215, 2253, 2256, 2259, 2360,
                    ][rng.index(14)],
                    _ => rng.index(whole.len()),
                };
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = rng.next_u64() as u8;
                }
            }
            let _ = decode(&bytes);
            let conn = cluster.accepted(("10.0.0.1", 5), "10.0.0.2");
            cluster.receive(conn, &bytes);
            cluster.receive(conn, &whole);
            cluster.tick();
            cluster.before_sleep();
            cluster.take_actions();
        }
    }
}

#[test]
fn a_wrong_length_is_told() {
    let mut bytes = encode(Kind::Fail, &header(), &Body::Fail(name(b'c')));
    bytes.push(0);
    let why = "Received invalid fail packet of length 2297 but expected length 2296";
    assert_eq!(decode(&bytes), Err(Unreadable::Because(why.into())));
    assert_eq!(length(b"RCmb\0\0\0\x10"), Err(NoMessage));
    assert_eq!(length(b"HTTP\0\0\x10\0"), Err(NoMessage));
    assert_eq!(length(b"RCmb\0\0"), Ok(None));
}
