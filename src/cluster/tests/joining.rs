//! Nodes find each other, share out slots, lose sight of each other, forget each other.

use super::three_shards;
use super::world::{TIMEOUT_MS, World};
use crate::base::slot::Slot;
use crate::cluster::{Cluster, SetSlot};

#[test]
fn who_meets_one_is_known_to_all_and_epochs_become_different() {
    for seed in 0..5 {
        let mut world = three_shards(seed, 1);
        world.until("epochs differ", 60_000, |w| {
            let mut epochs: Vec<u64> = (w.running())
                .filter(|c| c.myself().is_master())
                .map(|c| c.myself().config_epoch)
                .collect();
            epochs.sort_unstable();
            epochs.dedup();
            epochs.len() == 3
        });
        let shards = world.cluster(4).shards();
        assert_eq!(shards.len(), 3);
        assert!(shards.iter().all(|nodes| nodes.len() == 2));
        assert!(world.running().all(|c| c.myself().ip == "127.0.0.1"));
    }
}

#[test]
fn a_message_goes_to_all_or_to_the_shard() {
    let mut world = three_shards(1, 1);
    world.with(0, |c| c.publish(b"news", b"for all", false));
    world.with(0, |c| c.publish(b"news", b"for us", true));
    world.pass(200);
    for at in 1..6 {
        let expected: &[&[u8]] = if at == 3 {
            &[b"for all", b"for us"]
        } else {
            &[b"for all"]
        };
        assert_eq!(world.nodes[at].published, expected, "{at}");
    }
}

#[test]
fn a_slot_goes_from_one_to_another_by_command() {
    let mut world = three_shards(2, 0);
    let slot = Slot::new(7).unwrap();
    let (from, to) = (world.name(0), world.name(1));
    world
        .order(0, |c| {
            c.set_slot(slot, SetSlot::Migrating(to.bytes()), true)
        })
        .unwrap();
    world
        .order(1, |c| {
            c.set_slot(slot, SetSlot::Importing(from.bytes()), false)
        })
        .unwrap();
    assert_eq!(
        world.cluster(0).migrating_to(slot).map(|n| n.name),
        Some(to)
    );
    assert_eq!(
        world.cluster(1).importing_from(slot).map(|n| n.name),
        Some(from)
    );
    let kept = world.order(0, |c| c.set_slot(slot, SetSlot::Node(to.bytes()), true));
    assert!(kept.unwrap_err().contains("while I still hold keys"));
    world
        .order(1, |c| c.set_slot(slot, SetSlot::Node(to.bytes()), true))
        .unwrap();
    world
        .order(0, |c| c.set_slot(slot, SetSlot::Node(to.bytes()), false))
        .unwrap();
    world.until("all see the new owner", 5000, |w| {
        (0..3).all(|by| w.owner(by, 7) == Some(1))
    });
    assert!(world.running().all(|c| !c.is_moving_slots()));
}

/// Two masters claim a slot: the greater epoch has it, and who loses it gives up its keys.
#[test]
fn the_greater_epoch_has_the_slot() {
    let mut world = three_shards(3, 0);
    world.pass(10_000);
    let slot = Slot::new(7).unwrap();
    let to = world.name(2);
    world
        .order(2, |c| c.set_slot(slot, SetSlot::Node(to.bytes()), false))
        .unwrap();
    world.with(2, Cluster::bump_epoch);
    world.until("all see it", 5000, |w| {
        (0..3).all(|by| w.owner(by, 7) == Some(2))
    });
    assert_eq!(world.nodes[0].dropped, [slot]);
}

#[test]
fn a_node_that_one_forgets_all_forget() {
    let mut world = three_shards(4, 1);
    let (name, own) = (world.name(5), world.name(0));
    assert!(world.order(0, |c| c.forget(own.bytes())).is_err());
    let master = world.name(0);
    assert_eq!(
        world.order(3, |c| c.forget(master.bytes())),
        Err("Can't forget my master!".into())
    );
    world.order(0, |c| c.forget(name.bytes())).unwrap();
    world.until("all have forgotten it", 5000, |w| {
        (0..5).all(|at| w.cluster(at).known() == 5)
    });
    // It knows the others, and so will be heard of again, but not for a minute.
    world.pass(20_000);
    assert!((0..5).all(|at| world.cluster(at).known() == 5));
}

#[test]
fn a_minority_serves_no_more_and_comes_back_after_a_while() {
    let mut world = three_shards(5, 0);
    world.island = [2].into();
    world.until("both sides are down", 10_000, |w| {
        w.running().all(|c| !c.is_ok())
    });
    assert!(world.cluster(0).named(&world.name(2)).unwrap().has_failed());
    assert!(!world.cluster(2).named(&world.name(0)).unwrap().has_failed());
    world.island.clear();
    world.until("all serve again", 20_000, World::all_well);
    assert!(world.logged(0, "nobody is serving its slots after some time"));
}

#[test]
fn a_reset_node_knows_nobody() {
    let mut world = three_shards(6, 1);
    let (name, shard) = (world.name(3), world.cluster(3).myself().shard);
    world.order(3, |c| c.reset(false)).unwrap();
    let me = world.cluster(3).myself();
    assert!(me.is_master() && world.cluster(3).known() == 1 && me.name == name);
    assert_eq!(world.nodes[3].follows, None);
    world.order(3, |c| c.reset(true)).unwrap();
    let me = world.cluster(3).myself();
    assert!(me.name != name && me.shard != shard && world.cluster(3).current_epoch == 0);
}

/// Who comes again at another address is found there.
#[test]
fn a_node_may_come_again_somewhere_else() {
    let mut world = three_shards(7, 0);
    let name = world.name(2);
    world.kill(2, false);
    world.pass(TIMEOUT_MS / 2);
    let at = world.add();
    world.nodes[at].saved = world.nodes[2].saved.clone();
    world.kill(at, false);
    world.nodes[at].saved = world.nodes[2].saved.clone();
    world.restart(at);
    let port = world.nodes[at].settings.port;
    world.until("the others see where it is", 10_000, |w| {
        (0..2).all(|by| w.cluster(by).named(&name).is_some_and(|n| n.port == port))
    });
    world.until("the cluster serves", 10_000, World::all_well);
}
