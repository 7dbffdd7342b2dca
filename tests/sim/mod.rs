//! The simulator: whole servers that replicate, in one process, on time of their own, under faults, from a seed.
//!
//! ```text
//! world.rs    nodes and the queue of what happens when          clients.rs  who writes, and who waits with WAIT
//! net.rs      connections: delayed, slow, cut, half open        faults.rs   what goes wrong, and the operator
//! checks.rs   what has to be true all along                     trace.rs    what happened, for whoever looks for a reason
//! cluster/    the same world with the nodes of a Redis Cluster  planted.rs  bugs that have to be found
//! ```
//! A node is a server as it is in production, but for its outside ([`crate::server::test_io`]): the clock is moved by the
//! world, the disk forgets what was not synced, jobs end when the world says so. A run is 60 seconds of its time: in the first
//! 38 faults are drawn, then everybody can be reached again, clients stop, and soon all nodes have to have the same data.
//!
//! ```text
//! cargo test --lib sim                                       a few hundred seeds, and all planted bugs
//! REDSTART_SIM_SEEDS=20000 cargo test --lib sim::seeds       more of them, to the end whatever fails
//! REDSTART_SIM_FROM=300 REDSTART_SIM_SEEDS=...               others, from that one on
//! REDSTART_SIM_SEED=7 cargo test --lib sim::seeds -- --nocapture   one, with all that happens
//! ```

mod checks;
mod clients;
mod cluster;
mod faults;
mod net;
mod planted;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::planted::{Bug, plant};

use faults::FAULTS_UNTIL;
use world::{Check, Failure, MS, SECOND, World};

/// How long a run is at most.
const END: u64 = 60 * SECOND;
/// Runs in `cargo test`.
const SEEDS: u64 = 300;

/// What came of a run.
struct Run {
    seed: u64,
    hash: u64,
    turns: u64,
    looks: std::collections::BTreeMap<&'static str, u64>,
    failure: Option<Failure>,
    trace: String,
}

/// What kind of world is played, and how.
#[derive(Clone, Copy)]
struct Game {
    /// How its tests are called.
    name: &'static str,
    world: fn(seed: u64, aloud: bool) -> World,
    play: fn(&mut World),
    /// Runs in `cargo test`.
    seeds: u64,
    /// What has to be looked at in all of them together, for what is never looked at is never found wrong.
    looks: &'static [&'static str],
}

/// Masters and replicas.
const REPLICATION: Game = Game {
    name: "sim::seeds",
    world: World::new,
    play,
    seeds: SEEDS,
    looks: &["bytes", "state", "wait", "waitaof", "promotion", "failover"],
};

/// Runs one seed, with a bug planted or none.
fn run(game: Game, seed: u64, bug: Option<Bug>, aloud: bool) -> Run {
    plant(bug);
    let mut world = (game.world)(seed, aloud);
    let outcome = catch_unwind(AssertUnwindSafe(|| (game.play)(&mut world)));
    plant(None);
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
        world.fail(Check::Panic, text.unwrap_or_default());
    }
    let done = Run {
        seed,
        hash: world.trace.hash(),
        turns: world.turns,
        looks: std::mem::take(&mut world.checks.looks),
        failure: world.failure.take(),
        trace: world.trace.last(),
    };
    // What a panic has left may not be fit to be taken apart.
    if matches!(&done.failure, Some(f) if f.check == Check::Panic) {
        std::mem::forget(world);
    }
    done
}

fn play(world: &mut World) {
    play_until_well(world, END, |world| world.differs());
}

/// Faults, and then time until nothing is amiss any more; at `end_ns` it is a failure.
fn play_until_well(world: &mut World, end_ns: u64, amiss: impl Fn(&mut World) -> Option<String>) {
    world.run_until(FAULTS_UNTIL + 8 * SECOND);
    while world.failure.is_none() {
        match amiss(world) {
            None => break,
            Some(why) if world.now_ns >= end_ns => world.fail(Check::Converges, why),
            Some(_) => world.run_until(world.now_ns + 250 * MS),
        }
    }
    for at in 0..world.nodes.len() {
        if world.failure.is_none() {
            world.check_state(at);
        }
    }
}

/// Runs seeds from `from` on, on all processors, and gives what came of them; it ends early once `enough` says so.
fn run_many(
    game: Game,
    from: u64,
    count: u64,
    bug: Option<Bug>,
    enough: impl Fn(&Run) -> bool + Sync,
) -> Vec<Run> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let next = AtomicU64::new(0);
    let runs = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    let mut run = run(game, from + n, bug, false);
                    if run.failure.is_none() {
                        run.trace.clear();
                    }
                    if enough(&run) {
                        next.store(count, Ordering::Relaxed);
                    }
                    runs.lock().unwrap().push(run);
                }
            });
        }
    });
    let mut runs = runs.into_inner().unwrap();
    runs.sort_by_key(|run| run.seed);
    runs
}

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn report(game: Game, run: &Run) -> String {
    let Some(failure) = &run.failure else {
        return format!("seed {} passed", run.seed);
    };
    format!(
        "{}\nseed {} failed: {:?}: {}\nREDSTART_SIM_SEED={} cargo test --lib {} -- --nocapture\n",
        run.trace, run.seed, failure.check, failure.what, run.seed, game.name
    )
}

/// Runs the seeds that the environment names, or those of `cargo test`, and reports those that fail.
fn run_seeds(game: Game) {
    if let Some(seed) = number_from("REDSTART_SIM_SEED") {
        let run = run(game, seed, None, true);
        assert!(run.failure.is_none(), "{}", report(game, &run));
        return;
    }
    let count = number_from("REDSTART_SIM_SEEDS").unwrap_or(game.seeds);
    let from = number_from("REDSTART_SIM_FROM").unwrap_or(0);
    let runs = run_many(game, from, count, None, |run| {
        run.failure.is_some() && count <= game.seeds
    });
    let mut looks = std::collections::BTreeMap::new();
    for (what, n) in runs.iter().flat_map(|run| &run.looks) {
        *looks.entry(*what).or_insert(0) += n;
    }
    let turns: u64 = runs.iter().map(|run| run.turns).sum();
    println!("{} runs, {turns} turns, looked at: {looks:?}", runs.len());
    let failed: Vec<&Run> = runs.iter().filter(|run| run.failure.is_some()).collect();
    for run in &failed {
        println!("{}", report(game, run));
    }
    let seeds: Vec<u64> = failed.iter().map(|run| run.seed).collect();
    assert!(failed.is_empty(), "seeds {seeds:?}: see above");
    assert!(count < game.seeds || game.looks.iter().all(|what| looks.contains_key(what)));
}

/// The same seed is the same run, and another one is another.
fn repeats(game: Game, seed: u64) {
    let [a, b] = [(); 2].map(|()| run(game, seed, None, false));
    assert_eq!(a.trace, b.trace, "seed {seed}");
    assert_eq!(a.hash, b.hash, "seed {seed}");
    assert_ne!(a.hash, run(game, seed + 10, None, false).hash);
}

#[test]
fn seeds() {
    run_seeds(REPLICATION);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1000..1003 {
        repeats(REPLICATION, seed);
    }
}
