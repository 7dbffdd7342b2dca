//! The machine under a time and a network of its own: several of them talk to each other, messages are late, connections
//! break, parts of the network are cut off, nodes end and come again with what they had saved.

mod conf;
mod failover;
mod joining;
mod wire;
mod world;

use world::World;

/// Three masters with a third of the slots each, and so many replicas of each.
fn three_shards(seed: u64, replicas: usize) -> World {
    let mut world = World::new(seed, 3 * (1 + replicas));
    world.join_all();
    for master in 0..3 {
        let first = master * 16384 / 3;
        let last = (master + 1) * 16384 / 3 - 1;
        world.give(master, first..=last);
    }
    for replica in 3..3 * (1 + replicas) {
        let name = world.name(replica % 3);
        world.order(replica, |c| c.replicate(name.bytes())).unwrap();
    }
    world.until("the cluster serves", 20_000, World::all_well);
    world
}
