//! Towns: worlds whose nodes are those of one Redis Cluster.
//!
//! ```text
//! mod.rs        how many masters and replicas, how they are configured, when all is well again
//! customers.rs  clients that write, and go where they are sent (MOVED, ASK)
//! operator.rs   what goes wrong, and what people do: nodes that join, failovers by hand
//! porters.rs    slots that move to another master, and what is left of that when a node crashes
//! checks.rs     what has to be true all along, and at the end
//! ```
//! The nodes' bus goes over the same network as all else, and `nodes.conf` is a file on the same disk. In a quarter of the
//! towns nothing worse happens than that connections break: there no write may be lost at all, and no master is to be
//! replaced unless by hand.
//!
//! ```text
//! cargo test --lib sim::cluster                                    some seeds, and all planted bugs
//! REDSTART_SIM_SEEDS=5000 cargo test --lib sim::cluster::seeds     more of them
//! REDSTART_SIM_SEED=7 cargo test --lib sim::cluster::seeds -- --nocapture
//! ```

mod checks;
mod customers;
mod operator;
mod porters;

use std::collections::BTreeMap;

use crate::base::planted::Bug;
use crate::base::rng::Rng;
use crate::base::slot::{SLOTS, Slot};
use crate::cluster::{Flags, Name};
use crate::config::Config;
use crate::exec::conn::Peer;
use crate::server::bio::Lane;
use crate::server::test_io::TestServer;

use super::faults::{Plan, config};
use super::net::{BUS_PORT, ConnId, PORT};
use super::planted::find;
use super::world::{Check, Node, SECOND, World};
use super::{Game, play_until_well, repeats, run_seeds};

use checks::{Ack, Hold, Loss, Seen};
use customers::Customer;
use operator::Stage;
use porters::{Moving, Porter};

/// How long a run is at most: elections may have to be tried again and again.
const END: u64 = 110 * SECOND;
/// The lists to which numbers are appended, by which it is known what was lost.
const LOGS: usize = 24;

/// See the head of the file.
#[derive(Default)]
pub struct Town {
    /// How many of the nodes, the first ones, begin as masters; whose replicas the others are.
    masters: usize,
    parents: Vec<usize>,
    /// Nothing worse happens than that connections break.
    calm: bool,
    timeout_ms: u64,
    stage: Stage,
    customers: Vec<Customer>,
    /// The last number that was sent to each log, and what was acknowledged of them.
    numbers: Vec<u64>,
    acked: Vec<Ack>,
    /// What was seen of each node.
    seen: Vec<Seen>,
    /// Names of nodes that have started.
    names: BTreeMap<Name, usize>,
    /// By epoch: who has voted, and for whom; and who has won.
    votes: BTreeMap<u64, BTreeMap<usize, usize>>,
    winners: BTreeMap<u64, usize>,
    /// Bytes on the bus that are no whole message yet, by who sends them on which connection.
    overheard: BTreeMap<(usize, ConnId), Vec<u8>>,
    /// Who has had each log, and when.
    holds: Vec<Vec<Hold>>,
    losses: Vec<Loss>,
    /// A slot on its way, and who carries keys at each node.
    moving: Option<Moving>,
    porters: Vec<Porter>,
}

/// The name of a log.
fn log_name(log: usize) -> String {
    format!("log:{log}")
}

fn log_slot(log: usize) -> Slot {
    Slot::of(log_name(log).as_bytes())
}

impl Town {
    /// True if the nodes are those of a cluster.
    pub fn is_one(&self) -> bool {
        self.masters > 0
    }

    /// So many customers come.
    pub fn open(&mut self, customers: usize) {
        let nodes = self.parents.len();
        self.customers = (0..customers).map(|_| Customer::new(nodes)).collect();
    }

    fn nodes(&self) -> usize {
        self.parents.len()
    }

    /// Draws nodes and their configurations, and what their files say.
    fn draw(rng: &mut Rng) -> (Town, Vec<Config>, Vec<Option<String>>) {
        let (masters, replicas): (usize, &[usize]) = match rng.below(20) {
            0..10 => (3, &[0, 1, 2]),
            10..13 => (3, &[0, 0, 1, 2]),
            13..15 => (3, &[0, 0, 1]),
            15..17 => (5, &[0, 1, 2]),
            17 => (1, &[0, 0]),
            18 => (2, &[0, 1]),
            _ => (3, &[]),
        };
        let parents: Vec<usize> = (0..masters).chain(replicas.iter().copied()).collect();
        let joins = rng.below(6) == 0;
        let timeout_ms = 1200 + rng.below(1500);
        let factor = match rng.below(4) {
            0 => 0,
            1 => 1,
            _ => 10,
        };
        let shared = Config {
            cluster_enabled: true,
            databases: 1,
            cluster_node_timeout: timeout_ms,
            cluster_replica_validity_factor: factor,
            cluster_migration_barrier: rng.below(2) as u32,
            cluster_allow_replica_migration: rng.below(3) != 0,
            cluster_require_full_coverage: rng.below(3) != 0,
            ..Config::default()
        };
        let configs = parents.iter().map(|_| node_config(rng, &shared));
        let configs = configs.collect();
        let nodes = parents.len();
        let town = Town {
            masters,
            parents,
            calm: rng.below(4) == 0,
            timeout_ms,
            stage: if joins { Stage::Meeting } else { Stage::Open },
            numbers: vec![0; LOGS],
            seen: vec![Seen::default(); nodes],
            holds: vec![Vec::new(); LOGS],
            porters: vec![Porter::default(); nodes],
            ..Town::default()
        };
        let files = match joins {
            true => vec![None; nodes],
            false => town.files(rng).into_iter().map(Some).collect(),
        };
        (town, configs, files)
    }

    /// The slots that a master begins with.
    fn slots_of(&self, master: usize) -> (usize, usize) {
        let of = |n: usize| n * SLOTS / self.masters;
        (of(master), of(master + 1) - 1)
    }

    /// What `nodes.conf` says on each node: all know each other.
    fn files(&self, rng: &mut Rng) -> Vec<String> {
        // Masters that have the same epoch have to find out, and part.
        let same = (rng.below(3) == 0).then(|| rng.below(3));
        let epoch_of = |n: usize| same.unwrap_or(n as u64 + 1);
        let names: Vec<String> = self.parents.iter().map(|_| rng.hex(40)).collect();
        let shards: Vec<String> = (0..self.masters).map(|_| rng.hex(40)).collect();
        let line = |n: usize, me: usize| {
            let parent = self.parents[n];
            let myself = if n == me { "myself," } else { "" };
            let (role, master, slots) = match n < self.masters {
                true => {
                    let (first, last) = self.slots_of(n);
                    ("master", "-", format!(" {first}-{last}"))
                }
                false => ("slave", names[parent].as_str(), String::new()),
            };
            format!(
                "{} {}:{PORT}@{BUS_PORT},,tls-port=0,shard-id={} {myself}{role} {master} 0 0 {} connected{slots}\n",
                names[n],
                Node::ip(n),
                shards[parent],
                epoch_of(parent)
            )
        };
        let greatest = epoch_of(self.masters - 1);
        let file = |me: usize| {
            let lines: String = (0..self.nodes()).map(|n| line(n, me)).collect();
            format!("{lines}vars currentEpoch {greatest} lastVoteEpoch 0\n")
        };
        (0..self.nodes()).map(file).collect()
    }
}

/// What all nodes have in common, and what each has for itself.
fn node_config(rng: &mut Rng, shared: &Config) -> Config {
    Config {
        cluster_enabled: true,
        databases: shared.databases,
        cluster_node_timeout: shared.cluster_node_timeout,
        cluster_replica_validity_factor: shared.cluster_replica_validity_factor,
        cluster_migration_barrier: shared.cluster_migration_barrier,
        cluster_allow_replica_migration: shared.cluster_allow_replica_migration,
        cluster_require_full_coverage: shared.cluster_require_full_coverage,
        ..config(rng, None)
    }
}

fn new_world(seed: u64, aloud: bool) -> World {
    let mut rng = Rng::new(seed);
    let (town, configs, files) = Town::draw(&mut rng);
    let paths: Vec<_> = configs.iter().map(|config| config.dir.clone()).collect();
    let mut world = World::with(rng, Plan::none(), town, configs, aloud);
    for ((node, dir), file) in world.nodes.iter_mut().zip(paths).zip(files) {
        if let (Some((io, config)), Some(text)) = (&mut node.off, file) {
            let path = dir.as_path().join(config.cluster_config_file.as_path());
            io.disk.put(&path, text.as_bytes());
        }
    }
    world
}

fn play(world: &mut World) {
    play_until_well(world, END, |world| world.is_amiss());
    if world.failure.is_none() {
        world.check_town();
    }
}

impl World {
    /// What keeps the town from being well, if anything does: all nodes agree on who has which slot, all slots are served,
    /// no two masters have the same epoch, and replicas have their masters' data.
    fn is_amiss(&self) -> Option<String> {
        if self.town.stage != Stage::Open {
            return Some("the nodes have not joined".into());
        }
        let mut map: Option<Vec<Option<Name>>> = None;
        let mut epochs = BTreeMap::new();
        for at in 0..self.nodes.len() {
            let server = self.nodes[at].server.as_ref().map(|s| &s.server);
            let Some(server) = server.filter(|s| !s.loading) else {
                return Some(format!("n{at} is down"));
            };
            let cluster = server.cluster.as_ref()?;
            if cluster.known() != self.nodes.len() {
                return Some(format!("n{at} knows {} nodes", cluster.known()));
            }
            let bad = Flags::PFAIL
                .or(Flags::FAIL)
                .or(Flags::HANDSHAKE)
                .or(Flags::NOADDR);
            if let Some(node) = cluster.all().find(|node| node.flags.has(bad)) {
                return Some(format!("n{at} sees {:?} with {:?}", node.name, node.flags));
            }
            let owners: Vec<Option<Name>> = Slot::all()
                .map(|slot| cluster.owner(slot).map(|owner| owner.name))
                .collect();
            if let Some(slot) = owners.iter().position(Option::is_none) {
                return Some(format!("n{at} knows nobody who has {slot}"));
            }
            let map = map.get_or_insert_with(|| owners.clone());
            if let Some(slot) = (0..SLOTS).find(|s| map[*s] != owners[*s]) {
                let (a, b) = (map[slot], owners[slot]);
                return Some(format!("n{at} sees slot {slot} at {b:?}, others at {a:?}"));
            }
            if !cluster.is_ok() {
                return Some(format!("cluster_state of n{at} is fail"));
            }
            if let Some(why) = self.alien_key(at) {
                return Some(why);
            }
            if cluster.is_moving_slots() {
                return Some(format!("a slot of n{at} is on its way"));
            }
            if cluster.myself().is_master() {
                let epoch = cluster.myself().config_epoch;
                if let Some(other) = epochs.insert(epoch, at) {
                    return Some(format!("n{other} and n{at} both have epoch {epoch}"));
                }
            } else if let Some(why) = self.is_astray(at) {
                return Some(why);
            }
        }
        let has_said = |name: &Name| self.town.names.get(name).copied();
        let owners: Option<Vec<usize>> =
            map?.iter().map(|owner| has_said(owner.as_ref()?)).collect();
        let Some(owners) = owners else {
            return Some("a slot is with nobody who is there".into());
        };
        for (slot, &owner) in Slot::all().zip(&owners) {
            let server = self.nodes[owner].server.as_ref().map(|s| &s.server);
            let cluster = server.and_then(|s| s.cluster.as_ref())?;
            if !cluster.myself().is_master() {
                return Some(format!("n{owner} has slot {slot:?} and is no master"));
            }
        }
        None
    }

    /// Why a replica has not its master's data.
    fn is_astray(&self, at: usize) -> Option<String> {
        let server = &self.nodes[at].server.as_ref()?.server;
        let master = server.cluster.as_ref()?.my_master();
        let master = master.and_then(|master| self.town.names.get(&master.name).copied());
        let Some(master) = master else {
            return Some(format!("n{at} follows nobody"));
        };
        if !server.link_is_up() {
            return Some(format!("the link of n{at} is down"));
        }
        let (ours, theirs) = (self.place_of(at), self.place_of(master));
        (ours != theirs).then(|| format!("n{at} has {ours:?}, n{master} {theirs:?}"))
    }
}

/// The nodes of a cluster.
const CLUSTER: Game = Game {
    name: "sim::cluster::seeds",
    world: new_world,
    play,
    seeds: 60,
    looks: &[
        "bytes",
        "state",
        "vote",
        "election",
        "by hand",
        "acked",
        "redirected",
        "asked",
        "moved",
    ],
};

#[test]
fn seeds() {
    run_seeds(CLUSTER);
}

#[test]
fn the_same_seed_is_the_same_run() {
    repeats(CLUSTER, 1000);
}

/// A master that has yet to load its data calls nobody, and lets nobody call: it could hear that it is a replica now, and take
/// what it loads as a master, without what has expired, for what a replica has.
#[test]
fn a_master_that_loads_speaks_to_nobody() {
    let mut world = new_world(0, false);
    let (io, config) = world.nodes[0].off.take().expect("it has not started");
    let config = Config {
        appendonly: false,
        save: Vec::new(),
        ..config
    };
    let mut before = TestServer::new(config.clone());
    let client = before.connect();
    before.call(client, &["SAVE"]);
    let dump = config.dir.as_path().join(config.dbfilename.as_path());
    let bytes = before.io().disk.read(&dump).expect("it was saved");
    io.disk.put(&dump, &bytes);
    let peer = || Peer {
        addr: "10.0.0.2:40000".into(),
        laddr: format!("10.0.0.1:{BUS_PORT}"),
        fd: 8,
        unix_socket: false,
        loopback: false,
    };
    let mut server = TestServer::played(config, 1, io);
    server
        .load()
        .expect("there is nothing wrong with the files");
    server.turn();
    assert!(server.server.loading && server.happened().is_empty());
    assert!(server.connect_bus(peer()).is_none());
    server.run_lane(Lane::Load);
    server.turn();
    assert!(!server.server.loading && !server.happened().is_empty());
    assert!(server.connect_bus(peer()).is_some());
}

/// Each bug, and what may notice it first.
const BUGS: &[(Bug, &[Check])] = &[
    (Bug::VoteNotSaved, &[Check::ToldBeforeSaved]),
    (
        Bug::NodesFileUnsynced,
        &[Check::ToldBeforeSaved, Check::EpochBack],
    ),
    (Bug::SameEpochKept, &[Check::Converges]),
    (Bug::OneVoteLess, &[Check::Elected]),
    (Bug::OldDataStands, &[Check::TooOld]),
    (Bug::StandsWithoutData, &[Check::Elected]),
    (Bug::ManualTooEarly, &[Check::Acked]),
    (Bug::MinorityServes, &[Check::Acked]),
    (Bug::FollowsBeforeLoaded, &[Check::State]),
];

#[test]
fn planted_bugs_are_found() {
    find(CLUSTER, BUGS);
}
