//! Scenes of a few Sentinels under simulated time, and runs with faults under a seed.

mod world;

use super::Sentinel;
use super::config::Host;
use crate::base::rng::Rng;
use world::{World, node_port, sentinel_port};

const SECOND: i64 = 1000;

/// Time enough for all to have met.
fn met(seed: u64, sentinels: usize, replicas: usize, quorum: usize) -> World {
    let mut world = World::new(seed, sentinels, replicas, quorum);
    let all_met = |world: &World| {
        (0..sentinels).all(|n| {
            let master = world.sentinel(n).master_named("m").unwrap();
            let watched = &master.watched;
            (watched.sentinels.len(), watched.replicas.len()) == (sentinels - 1, replicas)
        })
    };
    assert!(world.run_until(15 * SECOND, all_met));
    world
}

#[test]
fn a_dead_master_is_replaced_and_comes_back_as_a_replica() {
    let mut world = met(1, 3, 2, 2);
    world.nodes[1].priority = 50;
    world.run(12 * SECOND);
    world.stop_node(0);
    assert!(world.run_until(30 * SECOND, |w| w.agreed() == Some(node_port(1))));
    let all_told = |w: &World| (0..3).all(|n| w.has(n, "+switch-master"));
    assert!(world.run_until(30 * SECOND, all_told));
    let leader = (0..3).find(|n| world.has(*n, "+elected-leader")).unwrap();
    for event in [
        "+sdown master m 127.0.0.1 7000",
        "+odown master m 127.0.0.1 7000 #quorum ",
        "+try-failover master m 127.0.0.1 7000",
        "+selected-slave slave 127.0.0.1:7001 127.0.0.1 7001 @ m 127.0.0.1 7000",
        "+promoted-slave slave 127.0.0.1:7001 127.0.0.1 7001 @ m 127.0.0.1 7000",
        "+slave-reconf-sent slave 127.0.0.1:7002 127.0.0.1 7002 @ m 127.0.0.1 7000",
        "+slave-reconf-done slave 127.0.0.1:7002",
        "+failover-end master m 127.0.0.1 7000",
        "+switch-master m 127.0.0.1 7000 127.0.0.1 7001",
    ] {
        assert!(world.has(leader, event), "{event}");
    }
    world.start_node(0);
    assert!(world.run_until(60 * SECOND, |w| w.agreed() == Some(node_port(1))));
    assert!((0..3).any(|n| world.has(n, "+convert-to-slave slave 127.0.0.1:7000")));
}

#[test]
fn without_a_majority_nothing_is_changed() {
    let mut world = met(2, 3, 2, 2);
    world.stop(1);
    world.stop(2);
    world.run(5 * SECOND);
    world.stop_node(0);
    world.run(60 * SECOND);
    assert!(world.has(0, "+sdown master") && !world.has(0, "+odown"));
    assert_eq!(world.master_seen_by(0), Some(node_port(0)));
    // A quorum of one says ODOWN alone, but who elects a leader is the majority.
    let mut world = met(3, 3, 2, 1);
    world.stop(1);
    world.stop(2);
    world.run(5 * SECOND);
    world.stop_node(0);
    world.run(60 * SECOND);
    assert!(world.has(0, "+odown") && world.has(0, "-failover-abort-not-elected"));
    assert!(!world.has(0, "+elected-leader"));
}

#[test]
fn who_is_parted_from_the_rest_hears_of_the_new_master_later() {
    let mut world = met(4, 3, 2, 2);
    // Sentinel 0 is with the old master, the others with the rest.
    let others = [
        sentinel_port(1),
        sentinel_port(2),
        node_port(1),
        node_port(2),
    ];
    for port in others {
        world.part(sentinel_port(0), port, true);
    }
    for n in [1, 2] {
        world.part(sentinel_port(n), node_port(0), true);
    }
    let moved = |w: &World| w.master_seen_by(1) == w.master_seen_by(2);
    let moved = |w: &World| moved(w) && w.master_seen_by(1) != Some(node_port(0));
    assert!(world.run_until(40 * SECOND, moved));
    assert_eq!(world.master_seen_by(0), Some(node_port(0)));
    world.parted.clear();
    assert!(world.run_until(60 * SECOND, |w| w.agreed().is_some()));
    assert!(world.has(0, "+config-update-from sentinel"));
}

#[test]
fn a_jump_of_the_clock_stops_all_decisions_for_a_while() {
    let mut world = met(5, 3, 2, 2);
    world.now_ms += 5 * SECOND;
    world.run(SECOND);
    assert!((0..3).all(|n| world.has(n, "+tilt #tilt mode entered")));
    world.stop_node(0);
    world.run(20 * SECOND);
    assert!((0..3).all(|n| !world.has(n, "+sdown")));
    assert!(world.run_until(60 * SECOND, |w| w.agreed().is_some()));
    assert!((0..3).all(|n| world.has(n, "-tilt #tilt mode exited")));
}

#[test]
fn a_vote_outlasts_a_restart() {
    let mut world = met(8, 2, 1, 2);
    let (one, two) = ("1".repeat(40), "2".repeat(40));
    let vote = |world: &mut World, who: &str| {
        let machine = world.watchers[0].machine.as_mut().unwrap();
        let id = machine.master_named("m").unwrap().id;
        let given = machine.vote(id, 9, who);
        world.run(world::STEP_MS);
        given
    };
    // The epoch is known before, so that it is the vote alone that has to be written.
    let hello = format!("127.0.0.1,26001,{},9,m,127.0.0.1,7000,0", "3".repeat(40));
    world.watchers[0].machine.as_mut().unwrap().hello(&hello);
    world.run(world::STEP_MS);
    assert_eq!(vote(&mut world, &one), (Some(one.clone()), 9));
    assert_eq!(vote(&mut world, &two), (Some(one), 9));
    world.stop(0);
    world.start(0);
    assert_eq!(vote(&mut world, &two), (None, 9));
}

#[test]
fn a_replica_with_priority_zero_is_never_promoted() {
    let mut world = met(6, 3, 2, 2);
    world.nodes[1].priority = 0;
    world.nodes[2].priority = 0;
    world.run(12 * SECOND);
    world.stop_node(0);
    let given_up = |w: &World| (0..3).any(|n| w.has(n, "-failover-abort-no-good-slave"));
    assert!(world.run_until(40 * SECOND, given_up));
    world.nodes[2].priority = 1;
    assert!(world.run_until(60 * SECOND, |w| w.agreed() == Some(node_port(2))));
}

/// Servers die and come back, Sentinels restart and are parted, for two minutes; then all heals. No vote is given twice and no
/// epoch has two leaders (the world looks at each), and in the end all agree on a master that all follow.
fn faults(seed: u64) {
    let mut world = World::new(seed, 3, 2, 2);
    let mut dice = Rng::new(seed ^ 0x5eed);
    world.run(10 * SECOND);
    for _ in 0..40 {
        let n = dice.index(3);
        match dice.below(6) {
            0 if world.nodes[n].up => world.stop_node(n),
            0 | 1 => {
                if !world.nodes[n].up {
                    world.start_node(n);
                }
            }
            2 => {
                world.stop(n);
                world.start(n);
            }
            3 => {
                let with = dice.index(3);
                world.part(sentinel_port(n), node_port(with), true);
            }
            4 => world.part(sentinel_port(n), sentinel_port((n + 1) % 3), true),
            _ => world.parted.clear(),
        }
        world.run(dice.below(6) as i64 * SECOND);
    }
    world.parted.clear();
    for n in 0..3 {
        if !world.nodes[n].up {
            world.start_node(n);
        }
    }
    let well = world.run_until(180 * SECOND, |w| w.agreed().is_some());
    assert!(well, "seed {seed}: no agreement");
}

#[test]
fn whatever_fails_all_agree_in_the_end() {
    let seeds = std::env::var("REDSTART_SEEDS").ok();
    let seeds = seeds.and_then(|s| s.parse().ok()).unwrap_or(20);
    for seed in 0..seeds {
        faults(seed);
    }
}

struct Anything;

impl Host for Anything {
    fn resolve(&mut self, name: &str) -> Option<String> {
        (name == "there").then(|| "10.0.0.1".to_string())
    }
    fn is_executable(&mut self, path: &[u8]) -> bool {
        path == b"/bin/sh"
    }
}

fn load(text: &str) -> Result<Sentinel, String> {
    let mut sentinel = Sentinel::new(0, Rng::new(1));
    let word = |w: &str| w.as_bytes().to_vec();
    let lines: Vec<Vec<Vec<u8>>> = (text.lines())
        .map(|line| line.split_whitespace().map(word).collect())
        .collect();
    let loaded = sentinel.load(&lines, &mut Anything);
    loaded
        .map(|()| sentinel)
        .map_err(|(at, why)| format!("{at} {why}"))
}

#[test]
fn directives_in_any_order_come_back_as_they_were() {
    let text = "\
known-replica m 10.0.0.2 6379
auth-pass m secret
monitor m there 6379 2
known-sentinel m 10.0.0.3 26379 0123456789012345678901234567890123456789
known-sentinel m 10.0.0.3 26379
leader-epoch m 7
config-epoch m 8
rename-command m CONFIG guarded
notification-script m /bin/sh
down-after-milliseconds m 1500
resolve-hostnames yes
announce-hostnames yes
myid 9876543210987654321098765432109876543210
current-epoch 5
master-reboot-down-after-period m 300";
    let sentinel = load(text).unwrap();
    let master = sentinel.master_named("m").unwrap();
    assert_eq!(master.addr.ip, "10.0.0.1");
    // An epoch that was seen of a configuration was current once.
    assert_eq!((sentinel.current_epoch, master.leader_epoch), (8, 7));
    let texts = |sentinel: &Sentinel| -> Vec<String> {
        let lines = sentinel.file_lines().lines;
        lines
            .iter()
            .map(|l| String::from_utf8(l.text.clone()).unwrap())
            .collect()
    };
    let written = texts(&sentinel);
    for line in [
        "sentinel monitor m there 6379 2",
        "sentinel down-after-milliseconds m 1500",
        "sentinel known-replica m 10.0.0.2 6379",
        "sentinel rename-command m CONFIG guarded",
        "sentinel master-reboot-down-after-period m 300",
        "sentinel current-epoch 8",
    ] {
        assert!(written.iter().any(|l| l == line), "{line}\n{written:#?}");
    }
    let again: Vec<&str> = written
        .iter()
        .map(|l| l.strip_prefix("sentinel ").unwrap())
        .collect();
    assert_eq!(texts(&load(&again.join("\n")).unwrap()), written);
}

#[test]
fn wrong_directives_are_told_in_redis_words() {
    let cases = [
        (
            "monitor m 127.0.0.1 6379 0",
            "0 Quorum must be 1 or greater.",
        ),
        ("monitor m 127.0.0.1 66666 1", "0 Invalid port number."),
        (
            "monitor m nowhere 6379 1",
            "0 Can't resolve instance hostname.",
        ),
        (
            "monitor m 127.0.0.1 1 1\nmonitor m 127.0.0.1 2 1",
            "1 Duplicate master name.",
        ),
        (
            "failover-timeout m 5",
            "0 No such master with specified name.",
        ),
        (
            "monitor m 127.0.0.1 1 1\ndown-after-milliseconds m x",
            "1 negative or zero time parameter.",
        ),
        (
            "monitor m 127.0.0.1 1 1\nnotification-script m /no",
            "1 Notification script seems non existing or non executable.",
        ),
        ("myid short", "0 Malformed Sentinel id in myid option."),
        (
            "nonsense",
            "0 Unrecognized sentinel configuration statement.",
        ),
        (
            "resolve-hostnames maybe",
            "0 Please specify yes or no for the resolve-hostnames option.",
        ),
    ];
    for (text, why) in cases {
        assert_eq!(load(text).err().as_deref(), Some(why), "{text}");
    }
}

#[test]
fn what_makes_no_sense_is_passed_over() {
    let mut world = met(7, 2, 1, 2);
    for text in [
        "",
        ",,,,,,,",
        "1,2,3",
        "x,y,z,w,m,q,r,s",
        "127.0.0.1,99999,id,1,m,127.0.0.1,7000,0",
    ] {
        let machine = world.watchers[0].machine.as_mut().unwrap();
        machine.hello(text);
    }
    let master = world.sentinel(0).master_named("m").unwrap();
    assert_eq!(master.watched.sentinels.len(), 1);
}
