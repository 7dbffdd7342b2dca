//! Masters die, and others take their place.

use super::three_shards;
use super::world::{TIMEOUT_MS, World};
use crate::cluster::How;

/// The node that has the first slot, for all the others.
fn new_owner(world: &World, by: usize) -> Option<usize> {
    world.owner(by, 0).filter(|owner| *owner != 0)
}

#[test]
fn a_replica_takes_a_dead_masters_place() {
    for seed in 0..10 {
        let mut world = three_shards(seed, 2);
        world.kill(0, seed % 2 == 0);
        world.until("a replica is the master", 30_000, |w| {
            new_owner(w, 1).is_some()
        });
        let owner = new_owner(&world, 1).unwrap();
        assert!(owner == 3 || owner == 6);
        assert_eq!(world.nodes[owner].follows, None);
        world.until("all agree", 10_000, World::all_well);
        world.restart(0);
        world.until("the old master follows", 20_000, |w| {
            w.nodes[0].follows == Some(w.nodes[owner].settings.port) && w.all_well()
        });
    }
}

/// Of two replicas the one that has more of the stream waits less.
#[test]
fn the_replica_with_more_data_wins() {
    for seed in 20..26 {
        let mut world = three_shards(seed, 2);
        world.nodes[3].offset = 500;
        world.nodes[6].offset = 900;
        world.pass(2 * TIMEOUT_MS);
        world.kill(0, false);
        world.until("a replica is the master", 30_000, |w| {
            new_owner(w, 1).is_some()
        });
        assert_eq!(new_owner(&world, 1), Some(6), "seed {seed}");
    }
}

#[test]
fn one_that_must_not_does_not() {
    let mut world = three_shards(30, 1);
    world.nodes[3].settings.replica_no_failover = true;
    world.pass(TIMEOUT_MS);
    world.kill(0, false);
    world.pass(15_000);
    assert_eq!(new_owner(&world, 1), None);
    assert!(!world.cluster(1).is_ok());
}

#[test]
fn without_most_masters_nobody_is_elected() {
    let mut world = three_shards(31, 1);
    world.kill(0, false);
    world.kill(1, false);
    world.pass(20_000);
    assert_eq!(world.owner(3, 0), Some(0));
    world.restart(1);
    world.until("a replica is the master", 30_000, |w| {
        new_owner(w, 1).is_some()
    });
}

/// A master is cut off with clients of its own; the others go on without it. When it comes back it is told.
#[test]
fn who_was_cut_off_loses_its_slots() {
    for seed in 40..45 {
        let mut world = three_shards(seed, 1);
        world.island = [0].into();
        world.until("the others have a new master", 30_000, |w| {
            new_owner(w, 1).is_some()
        });
        assert!(world.cluster(0).myself().is_master() && !world.cluster(0).is_ok());
        world.island.clear();
        world.until("it follows", 20_000, |w| {
            w.nodes[0].follows == Some(w.nodes[3].settings.port) && w.all_well()
        });
    }
}

/// A vote is on the disk before it is given: a master that ends right after has not forgotten it.
#[test]
fn a_vote_is_not_forgotten() {
    let mut world = three_shards(50, 1);
    let before = world.cluster(1).current_epoch;
    world.kill(0, false);
    world.until("a vote", 30_000, |w| w.logged(1, "Failover auth granted"));
    world.kill(1, true);
    let vars = world.nodes[1].saved.lines().last().unwrap().to_string();
    assert_eq!(
        vars,
        format!("vars currentEpoch {0} lastVoteEpoch {0}", before + 1)
    );
}

#[test]
fn by_hand_the_master_waits_for_the_replica() {
    let mut world = three_shards(60, 1);
    world.nodes[0].offset = 1000;
    world.nodes[3].offset = 990;
    assert!(world.order(0, |c| c.fail_over(How::Agreed)).is_err());
    world.order(3, |c| c.fail_over(How::Agreed)).unwrap();
    world.until("writes are held", 1000, |w| {
        w.nodes[0].paused_until_ms.is_some()
    });
    world.pass(1000);
    assert_eq!(world.owner(1, 0), Some(0));
    world.nodes[3].offset = 1000;
    world.until("it is the master", 2000, |w| w.owner(1, 0) == Some(3));
    world.until("the old one follows", 3000, World::all_well);
    assert_eq!(world.nodes[0].paused_until_ms, None);
    // One that does not catch up in time does not.
    world.nodes[3].offset = 2000;
    world.order(0, |c| c.fail_over(How::Agreed)).unwrap();
    world.until("it is over", 7000, |w| {
        w.logged(0, "Manual failover timed out.")
    });
    assert_eq!(world.owner(1, 0), Some(3));
}

#[test]
fn by_force_the_master_is_not_asked() {
    let mut world = three_shards(61, 1);
    world.kill(0, false);
    world.until("it is seen", 5000, |w| {
        let name = |w: &World| w.nodes[0].settings.port;
        let dead = |c: &crate::cluster::Cluster| {
            c.all()
                .any(|n| n.port == name(w) && (n.has_failed() || n.link.is_none()))
        };
        dead(w.cluster(3))
    });
    assert!(world.order(3, |c| c.fail_over(How::Agreed)).is_err());
    world.order(3, |c| c.fail_over(How::Force)).unwrap();
    world.until("it is the master", 5000, |w| w.owner(1, 0) == Some(3));
    // And one that takes over does not ask anybody.
    world.kill(1, false);
    world.kill(2, false);
    world.order(4, |c| c.fail_over(How::Takeover)).unwrap();
    assert_eq!(world.owner(4, 6000), Some(4));
    world.until("others hear of it", 5000, |w| w.owner(3, 6000) == Some(4));
}

/// Who has two replicas gives one to the master that has lost its only one.
#[test]
fn a_replica_moves_to_an_orphan() {
    let mut world = three_shards(70, 1);
    let extra = world.add();
    let (port, name) = (i64::from(world.nodes[0].settings.port), world.name(0));
    world.with(extra, |c| c.meet("127.0.0.1", port, port));
    world.until("it knows the master", 5000, |w| {
        w.cluster(extra).named(&name).is_some()
    });
    world.order(extra, |c| c.replicate(name.bytes())).unwrap();
    world.until("all is well", 10_000, World::all_well);
    world.kill(4, false);
    let orphan = world.nodes[1].settings.port;
    world.until("a replica has moved", 30_000, |w| {
        [3, extra]
            .iter()
            .any(|at| w.nodes[*at].follows == Some(orphan))
    });
    world.pass(20_000);
    // The other one stays: it is the last.
    let moved = |at: &&usize| world.nodes[**at].follows == Some(orphan);
    assert_eq!([3, extra].iter().filter(moved).count(), 1);
}
