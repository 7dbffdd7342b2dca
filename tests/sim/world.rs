//! The world: nodes, clients, the network between them, and one queue of what is to happen when.
//!
//! ```text
//! queue:  (time, number) ─▶ Arrive   bytes reach an end of a connection
//!                          Dial     a connection is to be made
//!                          Wake     a node's own deadline: cron, a time-out
//!                          Job      a job of a node is done
//!                          Step     a client has thought long enough
//!                          Operate, Strike, Boot ...
//! ```
//! Whoever is due is driven one turn of its loop, and what it did is collected: bytes for the network, links to be
//! connected, jobs that wait, steps of its history for the checks. Time stands while anybody runs. All that could go
//! one way or another is drawn from one generator, so that the seed is the whole run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::base::rng::Rng;
use crate::base::time::Clock;
use crate::config::Config;
use crate::exec::conn::Token;
use crate::server::bio::{LANES, Lane};
use crate::server::test_io::{BEGINNING_US, Happened, TestIo, TestServer};

use super::checks::Checks;
use super::clients::Client;
use super::cluster::Town;
use super::faults::Plan;
use super::net::{Conn, ConnId, Way};
use super::trace::Trace;

/// Times are in nanoseconds, and multiples of a microsecond.
pub const US: u64 = 1_000;
/// A millisecond.
pub const MS: u64 = 1_000 * US;
/// A second.
pub const SECOND: u64 = 1_000 * MS;

/// What is to happen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    Arrive(ConnId, Way),
    Dial(ConnId),
    Wake(usize),
    /// By node, its boot, and the number of the lane.
    Job(usize, u64, usize),
    Step(usize),
    Operate,
    Strike,
    Boot(usize),
    /// A partition ends: nodes whose traffic flows again.
    Heal(usize),
    /// A slow connection is as fast as the others again.
    Hasten(ConnId),
    Promote(usize),
}

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Replicas have their master's data once the faults end.
    Converges,
    /// Offsets never go back within a stream.
    OffsetBack,
    /// No replica applies a hole, or a byte twice: what it applies at an offset is what was said there.
    Bytes,
    /// The data is what the stream up to that offset makes: of a replica, of a promoted one, of one that starts.
    State,
    /// When WAIT replies n, n replicas have applied the write.
    Wait,
    /// When WAITAOF replies n, n have it on disk.
    WaitAof,
    /// What was confirmed survives a failover to who confirmed it.
    Failover,
    /// A server starts with what a crash has left.
    Starts,
    /// A server ends only when it is told to.
    Lives,
    /// An epoch, or a vote, never goes back, and no node gives two votes in one epoch.
    EpochBack,
    /// What others are told of an epoch or a vote is on the disk by then.
    ToldBeforeSaved,
    /// A master's place is taken with the votes of most masters, and in an epoch by one node only.
    Elected,
    /// Nobody stands whose data are too old.
    TooOld,
    /// Where nothing has gone wrong no master is replaced unless by hand.
    Uncalled,
    /// What was acknowledged is there, unless its master was replaced or crashed since.
    Acked,
    /// Nothing is twice in the data, or was never written.
    Invented,
    /// Nothing panics.
    Panic,
}

/// A broken promise.
#[derive(Debug)]
pub struct Failure {
    pub check: Check,
    pub what: String,
}

/// A node: a machine, its disk, and the server on it while it runs.
pub struct Node {
    pub at: usize,
    pub server: Option<TestServer>,
    /// The outside while no server runs, and the configuration it will have.
    pub off: Option<(TestIo, Config)>,
    /// Servers started on it so far.
    pub boot: u64,
    /// False after a loss of power: nobody answers, not even with a refusal.
    pub powered: bool,
    pub ends: BTreeMap<Token, ConnId>,
    /// For the operator's commands.
    pub control: Option<Token>,
    wake_at: u64,
    jobs: [bool; LANES.len()],
    /// It dies at the disk's n-th call from now: in a job, or in a turn.
    pub dies_in_job: Option<usize>,
    pub dies_in_turn: Option<usize>,
    /// It was told to end.
    pub told_to_end: bool,
    /// It is no wonder if it ends by itself: its disk fails.
    pub may_fail: bool,
    /// When its data is looked at next.
    pub look_at: u64,
}

impl Node {
    /// It has something to do at once.
    pub fn wake_now(&mut self) {
        self.wake_at = 0;
    }

    /// Its address.
    pub fn ip(at: usize) -> String {
        format!("10.0.0.{}", at + 1)
    }
}

/// See the head of the file.
pub struct World {
    pub rng: Rng,
    pub now_ns: u64,
    pub trace: Trace,
    pub nodes: Vec<Node>,
    pub clients: Vec<Client>,
    pub conns: BTreeMap<ConnId, Conn>,
    pub next_conn: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    queued: u64,
    /// `blocked[a][b]`: nothing gets from a to b. The last site is where clients and the operator are.
    pub blocked: Vec<Vec<bool>>,
    pub plan: Plan,
    /// What there is more of in a cluster; empty if the nodes are none.
    pub town: Town,
    pub checks: Checks,
    pub failure: Option<Failure>,
    /// Turns driven, for the report.
    pub turns: u64,
}

impl World {
    /// A world of masters and replicas, not started yet.
    pub fn new(seed: u64, aloud: bool) -> World {
        let mut rng = Rng::new(seed);
        let (plan, configs) = Plan::draw(&mut rng);
        World::with(rng, plan, Town::default(), configs, aloud)
    }

    /// A world of such nodes.
    pub fn with(
        mut rng: Rng,
        plan: Plan,
        mut town: Town,
        configs: Vec<Config>,
        aloud: bool,
    ) -> World {
        let sites = configs.len() + 1;
        let nodes = configs.into_iter().enumerate().map(|(at, config)| {
            let skew_us = rng.below(8_000);
            let io = TestIo {
                clock: Clock::manual(BEGINNING_US + skew_us),
                ..TestIo::default()
            };
            Node {
                at,
                server: None,
                off: Some((io, config)),
                boot: 0,
                powered: true,
                ends: BTreeMap::new(),
                control: None,
                wake_at: u64::MAX,
                jobs: [false; LANES.len()],
                dies_in_job: None,
                dies_in_turn: None,
                told_to_end: false,
                may_fail: false,
                look_at: 0,
            }
        });
        let nodes: Vec<Node> = nodes.collect();
        let clients = 2 + rng.index(3);
        town.open(clients);
        let mut world = World {
            now_ns: 0,
            trace: Trace::new(aloud),
            clients: (0..clients).map(|_| Client::new()).collect(),
            conns: BTreeMap::new(),
            next_conn: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            blocked: vec![vec![false; sites]; sites],
            checks: Checks::new(nodes.len()),
            nodes,
            plan,
            town,
            failure: None,
            turns: 0,
            rng,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for at in 0..self.nodes.len() {
            let delay = self.rng.below(300 * MS);
            self.after(delay, Event::Boot(at));
        }
        for at in 0..self.clients.len() {
            let delay = SECOND / 2 + self.rng.below(500 * MS);
            self.after(delay, Event::Step(at));
        }
        self.after(SECOND / 2, Event::Operate);
        self.after(3 * SECOND, Event::Strike);
    }

    /// Where clients and the operator are.
    pub fn outside(&self) -> usize {
        self.nodes.len()
    }

    /// Something is to happen after so long.
    pub fn after(&mut self, delay_ns: u64, event: Event) {
        self.at(self.now_ns + delay_ns, event);
    }

    /// Something is to happen at a time.
    pub fn at(&mut self, at_ns: u64, event: Event) {
        // Clocks count microseconds.
        let at_ns = at_ns.max(self.now_ns).next_multiple_of(US);
        self.queued += 1;
        self.queue.push(Reverse((at_ns, self.queued, event)));
    }

    /// Notes a line in the trace.
    pub fn note(&mut self, line: &str) {
        self.trace.note(self.now_ns, line);
    }

    /// A promise is broken. The first one counts.
    pub fn fail(&mut self, check: Check, what: String) {
        self.note(&format!("FAILED {check:?}: {what}"));
        self.failure.get_or_insert(Failure { check, what });
    }

    /// Runs until that time, or until something is wrong.
    pub fn run_until(&mut self, end_ns: u64) {
        while self.failure.is_none() {
            let Some(Reverse((at_ns, _, _))) = self.queue.peek() else {
                break;
            };
            if *at_ns > end_ns {
                break;
            }
            let Some(Reverse((at_ns, _, event))) = self.queue.pop() else {
                break;
            };
            self.now_ns = at_ns;
            self.happen(event);
        }
        self.now_ns = self.now_ns.max(end_ns);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(conn, way) => self.arrive(conn, way),
            Event::Dial(conn) => self.dial_on(conn),
            Event::Wake(at) => {
                // An earlier one may have been asked for since.
                if self.nodes[at].wake_at <= self.now_ns {
                    self.nodes[at].wake_at = u64::MAX;
                    self.drive(at);
                }
            }
            Event::Job(at, boot, lane) => self.do_job(at, boot, lane),
            Event::Step(client) if self.town.is_one() => self.shop(client),
            Event::Step(client) => self.step(client),
            Event::Operate if self.town.is_one() => self.tend_town(),
            Event::Operate => self.operate(),
            Event::Strike if self.town.is_one() => self.strike_town(),
            Event::Strike => self.strike(),
            Event::Boot(at) => self.boot(at),
            Event::Heal(at) => self.heal(at),
            Event::Hasten(conn) => self.hasten(conn),
            Event::Promote(at) => self.promote(at),
        }
    }

    /// A server starts on a node.
    pub fn boot(&mut self, at: usize) {
        let now_ns = self.now_ns;
        let seed = self.rng.next_u64();
        let node = &mut self.nodes[at];
        let Some((mut io, config)) = node.off.take() else {
            return;
        };
        // What was to fail, or has failed, died with the one before.
        io.disk.heal();
        io.crashes.clear();
        node.powered = true;
        node.boot += 1;
        (node.told_to_end, node.may_fail) = (false, false);
        node.jobs = [false; LANES.len()];
        (node.dies_in_job, node.dies_in_turn) = (None, None);
        node.look_at = 0;
        let boot = node.boot;
        let master = config.replicaof.as_ref();
        let role = master.map_or("a master".into(), |m| format!("of {}", m.host.lossy()));
        wind(&io, now_ns);
        let mut server = TestServer::played(config, seed, io);
        server.server.repl.history.steps = Some(Vec::new());
        let loads = server.load();
        node.server = Some(server);
        node.control = None;
        self.note(&format!("n{at} starts, boot {boot}, {role}"));
        self.checks.booted(at, boot);
        self.town_booted(at);
        if loads.is_err() {
            self.trace.take_log(now_ns, &format!("n{at}"));
            return self.fail(Check::Starts, format!("n{at} cannot load its data"));
        }
        self.drive(at);
    }

    /// A node has a turn of its loop.
    pub fn drive(&mut self, at: usize) {
        let now_ns = self.now_ns;
        let node = &mut self.nodes[at];
        let Some(server) = &mut node.server else {
            return;
        };
        self.turns += 1;
        wind(server.io(), now_ns);
        if let Some(calls) = node.dies_in_turn {
            let disk = server.io().disk.clone();
            disk.break_down_after(calls, libc::EIO);
            server.turn();
            // If it had enough calls left it lives on for now.
            if disk.heal() {
                return self.collect(at);
            }
            self.trace.drop_log();
            self.note(&format!("n{at} loses power in the middle of a turn"));
            return self.crash(at, true);
        }
        server.turn();
        self.collect(at);
    }

    /// What a turn has brought.
    fn collect(&mut self, at: usize) {
        let who = format!("n{at}");
        self.trace.take_log(self.now_ns, &who);
        self.check_turn(at);
        let Some(server) = &mut self.nodes[at].server else {
            return;
        };
        for happened in server.happened() {
            match happened {
                Happened::Dialled(token, target) => self.dial(at, token, &target),
                Happened::Closed(token, last) => self.closed(at, token, last),
            }
        }
        let ends: Vec<(Token, ConnId)> =
            self.nodes[at].ends.iter().map(|(t, c)| (*t, *c)).collect();
        self.check_node(at);
        for (token, conn) in ends {
            self.take_output(at, token, conn);
            self.note_read(at, token, conn);
        }
        let Some(server) = &mut self.nodes[at].server else {
            return;
        };
        if !server.io().crashes.is_empty() {
            let crashes = format!("{:?}", server.io().crashes);
            if self.nodes[at].may_fail {
                return self.ended(at, 1);
            }
            return self.fail(Check::Lives, format!("n{at} crashes: {crashes}"));
        }
        if let Some(code) = server.server.exiting {
            return self.ended(at, code);
        }
        let next_ns = server.wakes_at(self.now_ns);
        for lane in server.busy_lanes() {
            if !std::mem::replace(&mut self.nodes[at].jobs[lane as usize], true) {
                let delay = self.job_delay(lane);
                let boot = self.nodes[at].boot;
                self.after(delay, Event::Job(at, boot, lane as usize));
            }
        }
        if next_ns < self.nodes[at].wake_at {
            self.nodes[at].wake_at = next_ns;
            self.at(next_ns, Event::Wake(at));
        }
    }

    /// How long a job takes.
    fn job_delay(&mut self, lane: Lane) -> u64 {
        let most = match lane {
            Lane::Aof | Lane::ReadFile => 20 * MS,
            Lane::LazyFree | Lane::CloseFile => 5 * MS,
            // (In a cluster others get on meanwhile.)
            Lane::Load if self.town.is_one() => 1500 * MS,
            Lane::Receive | Lane::Load => 400 * MS,
            _ => 1500 * MS,
        };
        50 * US + self.rng.below(most)
    }

    fn do_job(&mut self, at: usize, boot: u64, lane: usize) {
        let now_ns = self.now_ns;
        let node = &mut self.nodes[at];
        if node.boot != boot {
            return;
        }
        let Some(server) = &mut node.server else {
            return;
        };
        node.jobs[lane] = false;
        let lane = LANES[lane];
        if !server.busy_lanes().contains(&lane) {
            // It has to wait for more: it is asked for again once that is there.
            return;
        }
        wind(server.io(), now_ns);
        let disk = server.io().disk.clone();
        if let Some(calls) = node.dies_in_job.filter(|_| touches_disk(lane)) {
            disk.break_down_after(calls, libc::EIO);
            server.run_lane(lane);
            if !disk.heal() {
                self.trace.drop_log();
                self.note(&format!(
                    "n{at} loses power in the middle of a job: {lane:?}"
                ));
                return self.crash(at, true);
            }
        } else {
            server.run_lane(lane);
        }
        self.drive(at);
    }

    /// The server has ended by itself.
    fn ended(&mut self, at: usize, code: i32) {
        if self.nodes[at].may_fail {
            self.note(&format!("n{at} ends with status {code}: its disk fails"));
            return self.crash(at, false);
        }
        if !self.nodes[at].told_to_end || code != 0 {
            let starts = self.nodes[at]
                .server
                .as_ref()
                .is_some_and(|s| s.server.loading);
            let check = if starts { Check::Starts } else { Check::Lives };
            return self.fail(check, format!("n{at} ends with status {code}"));
        }
        self.note(&format!("n{at} has shut down"));
        // Jobs of the log are waited for at the end.
        if let Some(server) = &mut self.nodes[at].server {
            while server.busy_lanes().contains(&Lane::Aof) {
                server.run_lane(Lane::Aof);
            }
        }
        self.crash(at, false);
    }

    /// The server is gone; with the power, so is what was not durable.
    pub fn crash(&mut self, at: usize, power: bool) {
        let Some(server) = self.nodes[at].server.take() else {
            return;
        };
        self.town_crashes(at, &server.server, power);
        let mut config = server.server.config.clone();
        if self.town.is_one() {
            // Whom it follows is not in its configuration.
            config.replicaof = None;
        }
        let io = server.end();
        self.trace.drop_log();
        if power {
            let (lucky, names) = (self.rng.below(3) == 0, self.rng.below(3) == 0);
            let World { rng, .. } = self;
            io.disk.crash_keeping(names, &mut |grown| match lucky {
                true => rng.index(grown + 1),
                false => 0,
            });
        }
        let node = &mut self.nodes[at];
        node.off = Some((io, config));
        node.powered = !power;
        node.wake_at = u64::MAX;
        let ends = std::mem::take(&mut node.ends);
        for conn in ends.into_values() {
            self.orphan(conn, at, power);
        }
        self.checks.crashed(at);
        let down = 100 * MS + self.rng.below(5 * SECOND);
        self.after(down, Event::Boot(at));
    }
}

fn touches_disk(lane: Lane) -> bool {
    matches!(lane, Lane::Aof | Lane::Save | Lane::Rewrite | Lane::Receive)
}

/// Sets a node's clock to the world's time.
fn wind(io: &TestIo, now_ns: u64) {
    let behind = now_ns.saturating_sub(io.clock.mono_ns());
    io.clock.advance(std::time::Duration::from_nanos(behind));
}
