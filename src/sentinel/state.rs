//! The machine's state as a whole, what it is told of the outside, and what it wants done.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::addr::NameKnown;
use super::instance::{Id, Instance, Kind, Link, LinkId};
use super::scripts::Scripts;
use super::wire::Wire;
use crate::base::level::Level;
use crate::base::rng::Rng;

/// A connection's number. None is ever used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a connection; [`Sentinel::connected`] or [`Sentinel::closed`] is told.
    Connect {
        conn: ConnId,
        host: String,
        port: u16,
    },
    /// Close it. Nothing that it may still bring is of interest.
    Close(ConnId),
    Send(ConnId, Vec<u8>),
    /// Write the state into the configuration file, and have it on the disk before anything that follows is done.
    Persist,
    /// Log it, and publish it unless it is for debugging.
    Event {
        level: Level,
        channel: &'static str,
        text: String,
    },
    Log(Level, String),
    /// Find out what a name stands for; [`Sentinel::looked_up`] is told.
    LookUp(String),
    /// Start a program; [`Sentinel::script_started`] is told, and [`Sentinel::script_ended`] once it has ended.
    Run {
        job: u64,
        argv: Vec<Vec<u8>>,
    },
    /// Kill the program with this process number.
    Kill(u32),
    /// End the process at once (SENTINEL SIMULATE-FAILURE).
    Crash,
}

/// What the machine has to know of the server that it lives in.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub port: u16,
    /// `requirepass`: other Sentinels are thought to have the same; empty if there is none.
    pub password: Vec<u8>,
}

/// The periods and timeouts, in ms (SENTINEL DEBUG).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Periods {
    pub info: i64,
    pub ping: i64,
    pub ask: i64,
    pub publish: i64,
    pub default_down_after: i64,
    pub default_failover_timeout: i64,
    pub tilt_trigger: i64,
    pub tilt: i64,
    pub slave_reconf_timeout: i64,
    pub min_link_reconnect: i64,
    pub election_timeout: i64,
    pub script_max_runtime: i64,
    pub script_retry_delay: i64,
}

impl Default for Periods {
    fn default() -> Periods {
        Periods {
            info: 10_000,
            ping: 1000,
            ask: 1000,
            publish: 2000,
            default_down_after: 30_000,
            default_failover_timeout: 180_000,
            tilt_trigger: 2000,
            tilt: 30_000,
            slave_reconf_timeout: 10_000,
            min_link_reconnect: 15_000,
            election_timeout: 10_000,
            script_max_runtime: 60_000,
            script_retry_delay: 30_000,
        }
    }
}

impl Periods {
    /// All of them by name, in the order that they are shown in.
    pub fn rows(&mut self) -> [(&'static str, &mut i64); 13] {
        [
            ("INFO-PERIOD", &mut self.info),
            ("PING-PERIOD", &mut self.ping),
            ("ASK-PERIOD", &mut self.ask),
            ("PUBLISH-PERIOD", &mut self.publish),
            ("DEFAULT-DOWN-AFTER", &mut self.default_down_after),
            (
                "DEFAULT-FAILOVER-TIMEOUT",
                &mut self.default_failover_timeout,
            ),
            ("TILT-TRIGGER", &mut self.tilt_trigger),
            ("TILT-PERIOD", &mut self.tilt),
            ("SLAVE-RECONF-TIMEOUT", &mut self.slave_reconf_timeout),
            ("MIN-LINK-RECONNECT-PERIOD", &mut self.min_link_reconnect),
            ("ELECTION-TIMEOUT", &mut self.election_timeout),
            ("SCRIPT-MAX-RUNTIME", &mut self.script_max_runtime),
            ("SCRIPT-RETRY-DELAY", &mut self.script_retry_delay),
        ]
    }
}

/// The directives that concern no master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What others are told of us, instead of what we see.
    pub announce_ip: Option<String>,
    pub announce_port: u16,
    /// SENTINEL SET may not change scripts.
    pub deny_scripts_reconfig: bool,
    /// How we identify ourselves to other Sentinels.
    pub user: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    pub resolve_hostnames: bool,
    pub announce_hostnames: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            announce_ip: None,
            announce_port: 0,
            deny_scripts_reconfig: true,
            user: None,
            password: None,
            resolve_hostnames: false,
            announce_hostnames: false,
        }
    }
}

/// See the head of the module.
pub struct Sentinel {
    /// The ID, 40 characters; empty until there is one.
    pub myid: String,
    pub current_epoch: u64,
    pub settings: Settings,
    pub periods: Periods,
    /// SENTINEL SIMULATE-FAILURE: end after having been elected, after having promoted a replica.
    pub crash_after_election: bool,
    pub crash_after_promotion: bool,
    pub(super) facts: Facts,
    pub(super) masters: BTreeMap<String, Id>,
    pub(super) instances: BTreeMap<Id, Instance>,
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) wires: BTreeMap<ConnId, Wire>,
    pub(super) names: BTreeMap<String, NameKnown>,
    pub(super) scripts: Scripts,
    /// Since when nothing is decided because time has jumped.
    pub(super) tilt_since_ms: Option<i64>,
    pub(super) ticked_ms: i64,
    pub(super) next_tick_ms: i64,
    pub(super) now_ms: i64,
    pub(super) out: Vec<Action>,
    pub(super) rng: Rng,
    numbers: u64,
}

impl Sentinel {
    /// One that watches nothing and has no ID yet.
    pub fn new(now_ms: i64, rng: Rng) -> Sentinel {
        Sentinel {
            myid: String::new(),
            current_epoch: 0,
            settings: Settings::default(),
            periods: Periods::default(),
            crash_after_election: false,
            crash_after_promotion: false,
            facts: Facts::default(),
            masters: BTreeMap::new(),
            instances: BTreeMap::new(),
            links: BTreeMap::new(),
            wires: BTreeMap::new(),
            names: BTreeMap::new(),
            scripts: Scripts::default(),
            tilt_since_ms: None,
            ticked_ms: now_ms,
            next_tick_ms: now_ms,
            now_ms,
            out: Vec::new(),
            rng,
            numbers: 0,
        }
    }

    /// The configuration is read, and the server runs: chooses an ID if there is none, and tells what is watched.
    pub fn start(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
        if self.myid.is_empty() {
            self.myid = self.rng.hex(40);
            self.persist();
        }
        self.log(Level::Notice, format!("Sentinel ID is {}", self.myid));
        let masters: Vec<Id> = self.masters.values().copied().collect();
        for id in masters {
            self.tell_monitored(id);
        }
    }

    /// Tells that a master is watched from now on.
    pub fn tell_monitored(&mut self, id: Id) {
        let quorum = self.get(id).map_or(0, |master| master.watched.quorum);
        self.event(Level::Warning, "+monitor", id, format!(" quorum {quorum}"));
    }

    /// What time it is, before anything else is asked.
    pub fn set_now(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    /// What the server is like now.
    pub fn set_facts(&mut self, facts: Facts) {
        self.facts = facts;
    }

    /// What is to be done since it was last asked.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.out)
    }

    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Since when time is not trusted (TILT).
    pub fn tilt_since_ms(&self) -> Option<i64> {
        self.tilt_since_ms
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The state is to be written.
    pub fn persist(&mut self) {
        self.out.push(Action::Persist);
    }

    pub(super) fn log(&mut self, level: Level, text: String) {
        self.out.push(Action::Log(level, text));
    }

    /// Something has happened to an instance, which is named before the text; one of weight is told to the
    /// administrator's program as well.
    pub fn event(&mut self, level: Level, channel: &'static str, about: Id, text: impl Display) {
        let named = format!("{}{text}", self.describe(about));
        self.event_of(level, channel, Some(about), named);
    }

    /// The same with a text of its own; it may concern no instance.
    pub(super) fn event_of(
        &mut self,
        level: Level,
        channel: &'static str,
        about: Option<Id>,
        text: String,
    ) {
        let instance = about.and_then(|id| self.get(id));
        let master = instance.and_then(|i| self.get(self.master_of(i)));
        let script = master.and_then(|m| m.watched.notification_script.clone());
        self.out.push(Action::Event {
            level,
            channel,
            text: text.clone(),
        });
        if let (Level::Warning, Some(path)) = (level, script) {
            self.schedule_script(vec![path, channel.into(), text.into()]);
        }
    }

    /// `<kind> <name> <ip> <port>`, and `@ <master> <ip> <port>` unless it is one.
    fn describe(&self, id: Id) -> String {
        let of = |i: &Instance| format!("{} {} {}", i.name, self.announced(&i.addr), i.addr.port);
        let Some(instance) = self.get(id) else {
            return String::new();
        };
        let own = format!("{} {}", instance.kind.name(), of(instance));
        match instance.master.and_then(|id| self.get(id)) {
            Some(master) if instance.kind != Kind::Master => format!("{own} @ {}", of(master)),
            _ => own,
        }
    }
}
