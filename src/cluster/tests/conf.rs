//! The state as text.

use super::three_shards;
use crate::base::rng::Rng;
use crate::base::slot::Slot;
use crate::cluster::conf::Corrupt;
use crate::cluster::{Cluster, SetSlot};

const A: &str = "1111111111111111111111111111111111111111";
const B: &str = "2222222222222222222222222222222222222222";

fn load(text: &str) -> Result<Option<Cluster>, Corrupt> {
    Cluster::from_file(1_700_000_000_000, Rng::new(1), text.as_bytes())
}

#[test]
fn what_is_written_is_read_again() {
    let mut world = three_shards(1, 1);
    let slot = Slot::new(3).unwrap();
    let to = world.name(1);
    world
        .order(0, |c| {
            c.set_slot(slot, SetSlot::Migrating(to.bytes()), false)
        })
        .unwrap();
    world.nodes[0].settings.hostname = "node-0.example.com".into();
    world.nodes[0].settings.nodename = "first".into();
    world.pass(2000);
    for at in 0..6 {
        let text = world.cluster(at).to_file();
        let again = load(&text).unwrap().unwrap();
        let shape = |text: &str| {
            // Times and connections are not what they were.
            let line = |l: &str| {
                let mut words: Vec<&str> = l.split(' ').collect();
                if words[0] != "vars" {
                    words.drain(4..6);
                    words.remove(5);
                }
                words.join(" ")
            };
            let mut lines: Vec<String> = text.lines().map(line).collect();
            lines.sort();
            lines
        };
        assert_eq!(shape(&again.to_file()), shape(&text));
    }
    assert!(
        world
            .cluster(1)
            .to_file()
            .contains(",node-0.example.com,tls-port=0,nodename=first,shard-id=")
    );
}

/// Files of 7.0 tell no shard, older ones neither host names nor bus ports.
#[test]
fn files_of_older_versions_are_read() {
    for (address, host, bus) in [
        (
            "10.0.0.1:6379@16379,one.example.com",
            "one.example.com",
            16379,
        ),
        ("10.0.0.1:6379@16379,", "", 16379),
        ("10.0.0.1:6379@7000", "", 7000),
        ("10.0.0.1:6379", "", 16379),
        ("::1:6379@7000", "", 7000),
    ] {
        let text = format!(
            "{B} 10.0.0.2:6380@16380 slave {A} 0 1426238316232 3 connected\n\
             {A} {address} myself,master - 0 0 3 connected 0-1 5 [7->-{B}] [9-<-{B}]\n\
             vars currentEpoch 3 lastVoteEpoch 1\n"
        );
        let cluster = load(&text).unwrap().unwrap();
        let me = cluster.myself();
        assert_eq!(
            (me.name.to_string().as_str(), me.hostname.as_str()),
            (A, host)
        );
        assert_eq!((me.port, me.bus_port), (6379, bus), "{address}");
        assert_eq!(me.slots.ranges(), [(0, 1), (5, 5)]);
        let slot = |n| Slot::new(n).unwrap();
        assert!(
            cluster.migrating_to(slot(7)).is_some() && cluster.importing_from(slot(9)).is_some()
        );
        let replica = cluster.find(B.as_bytes()).unwrap();
        assert!(replica.is_replica() && replica.shard == me.shard && replica.config_epoch == 0);
        assert_eq!(cluster.current_epoch, 3);
    }
}

#[test]
fn an_epoch_that_was_claimed_is_never_ahead() {
    let text =
        format!("{A} :0@0 myself,master - 0 0 9 connected\nvars currentEpoch 2 lastVoteEpoch 0\n");
    assert_eq!(load(&text).unwrap().unwrap().current_epoch, 9);
    assert!(load("").unwrap().is_none());
}

#[test]
fn what_cannot_be_read_is_refused_with_its_line() {
    for line in [
        "rubbish",
        &format!("{A} 1.2.3.4:1@2 myself,master - 0 0 1"),
        &format!("{A} 1.2.3.4 myself,master - 0 0 1 connected"),
        &format!("{A}x 1.2.3.4:1@2 myself,master - 0 0 1 connected"),
        &format!("{A} 1.2.3.4:1@2 myself,king - 0 0 1 connected"),
        &format!("{A} 1.2.3.4:1@2 myself,master nobody 0 0 1 connected"),
        &format!("{A} 1.2.3.4:1@2 myself,master - 0 0 1 connected 16384"),
        &format!("{A} 1.2.3.4:1@2 myself,master - 0 0 1 connected [5->-x]"),
        &format!("{A} 1.2.3.4:1@2 myself,master - 0 0 1 connected [5"),
        &format!("{A} 1.2.3.4:1@2,,what=ever myself,master - 0 0 1 connected"),
        &format!("{A} 1.2.3.4:1@2,,shard-id=1 myself,master - 0 0 1 connected"),
        "vars currentEpoch",
        "\"unbalanced",
        // Nobody says that it is this one.
        &format!("{B} 1.2.3.4:1@2 master - 0 0 1 connected"),
    ] {
        assert_eq!(load(line).err(), Some(Corrupt(line.into())));
    }
    let both = format!(
        "{A} :1@2 myself,master - 0 0 1 connected\n{B} :1@2 myself,master - 0 0 1 connected\n"
    );
    assert!(load(&both).is_err());
}

/// What a node saves between two messages, of which one tells that a replica follows another master and the next that it is
/// in another shard: it could not start with that.
#[test]
fn a_replica_is_in_its_masters_shard() {
    let master =
        |shard: &str| format!("{A} :1@2,,shard-id={shard} myself,master - 0 0 1 connected\n");
    let replica = |shard: &str| format!("{B} :1@2,,shard-id={shard} slave {A} 0 0 1 connected\n");
    for of_replica in [A, B] {
        for text in [
            master(A) + &replica(of_replica),
            replica(of_replica) + &master(A),
        ] {
            let cluster = load(&text).unwrap().unwrap();
            let shards: Vec<String> = cluster
                .nodes
                .values()
                .map(|n| n.shard.to_string())
                .collect();
            assert_eq!(shards, [A, A]);
        }
    }
}
