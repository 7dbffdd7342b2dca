//! A server that is a Sentinel: what the machine ([`crate::sentinel`]) says is to be done, done.
//!
//! ```text
//! start_sentinel    the configuration is read: the machine begins
//! with_sentinel     a command, or anything else, has something for the machine; then what it says is done, in order
//! a link's news     connected, bytes, closed: told to the machine
//! watch             before each sleep: its next tick, once that is due, and programs that have ended
//! ```
//! The state is written into the configuration file while everybody waits: a vote that was given and forgotten could be
//! given twice, so nothing that speaks of it leaves before it is on the disk.

use std::any::Any;

use crate::admin::config::rewrite_file;
use crate::base::errno;
use crate::base::level::Level;
use crate::base::rng::Rng;
use crate::cmd::session::Token;
use crate::exec::io::Io;
use crate::exec::link::{News, Owner, Target};
use crate::exec::persistence::Errand;
use crate::exec::sentinel::{Asker, NotStarted, Watching};
use crate::exec::server::{Effect, Server};
use crate::sentinel::{Action, ConnId, Facts, Sentinel};

/// What a program leaves as its status that could not be run.
const NOT_RUN: i32 = 2;
/// The process number of one that never was.
const NO_PID: u32 = u32::MAX;
/// Simulated ends are told by this status.
const CRASHED: i32 = 99;

/// What a look-up of a name has found.
struct Found {
    name: String,
    ip: Option<String>,
}

impl Server {
    /// Becomes a Sentinel of these directives. The number of the one that is wrong, and why.
    pub fn load_sentinel(
        &mut self,
        io: &mut dyn Io,
        directives: &[Vec<Vec<u8>>],
    ) -> Result<(), (usize, &'static str)> {
        // It never saves anything but its configuration.
        self.config.save.clear();
        let rng = Rng::new(self.rng.next_u64());
        let mut machine = Sentinel::new(self.now.ms() as i64, rng);
        let dir = self.config.dir.as_path().to_path_buf();
        let loaded = machine.load(directives, &mut Asker { io, dir });
        self.sentinel = Some(Box::new(Watching::new(machine)));
        loaded
    }

    /// The server runs: the Sentinel begins.
    pub fn start_sentinel(&mut self, io: &mut dyn Io) {
        let now_ms = self.now.ms() as i64;
        self.with_sentinel(io, |sentinel| sentinel.start(now_ms));
    }

    /// Lets the machine hear of something, and does what it wants done then. `None` if this is no Sentinel.
    pub fn with_sentinel<R>(
        &mut self,
        io: &mut dyn Io,
        f: impl FnOnce(&mut Sentinel) -> R,
    ) -> Option<R> {
        let facts = Facts {
            port: match (self.config.tls_replication, self.config.tls_port) {
                (false, _) | (_, 0) => self.config.port,
                (true, port) => port,
            },
            password: self.config.requirepass.as_bytes().to_vec(),
        };
        let now_ms = self.now.ms() as i64;
        let machine = &mut self.sentinel.as_mut()?.machine;
        machine.set_now(now_ms);
        machine.set_facts(facts);
        let result = f(machine);
        self.do_for_sentinel(io);
        Some(result)
    }

    fn do_for_sentinel(&mut self, io: &mut dyn Io) {
        // What is done may be heard of at once (a program that can't be started), and so lead to more.
        loop {
            let Some(watching) = self.sentinel.as_mut().filter(|w| !w.has_crashed) else {
                return;
            };
            let actions = watching.machine.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.do_action(io, action);
            }
        }
    }

    fn do_action(&mut self, io: &mut dyn Io, action: Action) {
        if self.sentinel.as_ref().is_none_or(|w| w.has_crashed) {
            return;
        }
        match action {
            Action::Connect { conn, host, port } => self.call_watched(conn, host, port),
            Action::Close(conn) => self.hang_up_watched(conn),
            Action::Send(conn, bytes) => self.say_to_watched(conn, &bytes),
            Action::Persist => {
                self.save_sentinel(io);
            }
            Action::Event {
                level,
                channel,
                text,
            } => {
                level.log(&format!("{channel} {text}"));
                if level != Level::Debug {
                    self.publish(channel.as_bytes(), text.as_bytes());
                }
            }
            Action::Log(level, text) => level.log(&text),
            Action::LookUp(name) => self.look_up_for_sentinel(name, io),
            Action::Run { job, argv } => self.run_program(io, job, &argv),
            Action::Kill(pid) => io.kill_program(pid),
            Action::Crash => {
                log::warn!("Sentinel CRASH because of SENTINEL simulate-failure");
                if let Some(watching) = &mut self.sentinel {
                    watching.has_crashed = true;
                }
                self.exiting = Some(CRASHED);
            }
        }
    }

    fn call_watched(&mut self, conn: ConnId, host: String, port: u16) {
        let target = Target {
            host,
            port,
            source: self.config.bind_source_addr.lossy().into_owned(),
            tls: self.config.tls_replication,
        };
        let token = self.open_link(Owner::Sentinel, target);
        if let Some(watching) = &mut self.sentinel {
            watching.tokens.insert(conn, token);
            watching.conns.insert(token, conn);
        }
    }

    fn hang_up_watched(&mut self, conn: ConnId) {
        let Some(watching) = &mut self.sentinel else {
            return;
        };
        if let Some(token) = watching.tokens.remove(&conn) {
            watching.conns.remove(&token);
            self.close_link(token);
        }
    }

    fn say_to_watched(&mut self, conn: ConnId, bytes: &[u8]) {
        let token = self.sentinel.as_ref().and_then(|w| w.tokens.get(&conn));
        let Some(&token) = token else {
            return;
        };
        if let Some(conn) = self.conns.get_mut(token) {
            conn.write_push(|reply| reply.raw(bytes));
            self.wants_write(token);
        }
    }

    /// A link's news.
    pub(crate) fn hear_watched(&mut self, io: &mut dyn Io, token: Token, news: News<'_>) {
        let conn = self.sentinel.as_ref().and_then(|w| w.conns.get(&token));
        let Some(&conn) = conn else {
            return;
        };
        let now_ms = self.now.ms() as i64;
        match news {
            News::Connected => {
                let peer = self.conns.get(token).map(|c| c.peer.clone());
                let (own, other) = peer.map_or_else(Default::default, |peer| {
                    (peer.own_ip().to_string(), peer.ip().to_string())
                });
                self.with_sentinel(io, |s| s.connected(now_ms, conn, &own, &other));
            }
            News::Data(data) => {
                self.with_sentinel(io, |s| s.receive(now_ms, conn, data));
            }
            News::Closed(why) => {
                if let Some(why) = why {
                    log::trace!("The connection {} to what is watched: {why}", conn.0);
                }
                if let Some(watching) = &mut self.sentinel {
                    watching.tokens.remove(&conn);
                    watching.conns.remove(&token);
                }
                self.with_sentinel(io, |s| s.closed(now_ms, conn));
            }
        }
    }

    /// Writes the state into the configuration file. False, and logged, if that can't be done.
    pub fn save_sentinel(&mut self, io: &mut dyn Io) -> bool {
        match rewrite_file(self, io, false) {
            Ok(()) => {
                log::info!("Sentinel new configuration saved on disk");
                true
            }
            Err(e) => {
                let why = errno::text(&e);
                log::warn!(
                    "WARNING: Sentinel was not able to save the new configuration on disk!!!: {why}"
                );
                false
            }
        }
    }

    fn look_up_for_sentinel(&mut self, name: String, io: &mut dyn Io) {
        let look_up = io.looker_up();
        let work = move || -> Box<dyn Any + Send> {
            let ip = look_up(&name);
            Box::new(Found { name, ip })
        };
        self.effects
            .push(Effect::Start(Errand::LookUp, Box::new(work)));
    }

    /// A name was looked up.
    pub(super) fn sentinel_looked_up(
        &mut self,
        io: &mut dyn Io,
        outcome: Result<Box<dyn Any + Send>, String>,
    ) {
        let found = outcome
            .ok()
            .and_then(|value| value.downcast::<Found>().ok());
        let now_ms = self.now.ms() as i64;
        if let Some(found) = found {
            let Found { name, ip } = *found;
            self.with_sentinel(io, |s| s.looked_up(now_ms, &name, ip));
        }
    }

    fn run_program(&mut self, io: &mut dyn Io, job: u64, argv: &[Vec<u8>]) {
        let started = io.start_program(self.config.dir.as_path(), argv);
        let now_ms = self.now.ms() as i64;
        let Some(watching) = &mut self.sentinel else {
            return;
        };
        let machine = &mut watching.machine;
        match started {
            Ok(pid) => machine.script_started(job, Some(pid)),
            Err(NotStarted::NoProcess) => machine.script_started(job, None),
            Err(NotStarted::NoProgram) => {
                machine.script_started(job, Some(NO_PID));
                machine.script_ended(now_ms, NO_PID, NOT_RUN, 0);
            }
        }
    }

    /// When the machine wants to be called next, unix time in ms.
    pub fn next_watch(&self) -> Option<u64> {
        let watching = self.sentinel.as_ref()?;
        Some(u64::try_from(watching.machine.next_timeout()).unwrap_or(0))
    }

    /// The machine's tick, once it is due.
    pub(super) fn watch(&mut self, io: &mut dyn Io) {
        let now_ms = self.now.ms() as i64;
        let Some(watching) = self.sentinel.as_ref().filter(|w| !w.has_crashed) else {
            return;
        };
        // (A clock that was set back is a matter for the machine, not for waiting.)
        let wait_ms = watching.machine.next_timeout() - now_ms;
        if (1..=TICK_MS_MAX).contains(&wait_ms) {
            return;
        }
        let ended = io.ended_programs();
        self.with_sentinel(io, |sentinel| {
            sentinel.tick(now_ms);
            for program in ended {
                sentinel.script_ended(now_ms, program.pid, program.status, program.signal);
            }
        });
    }
}

/// Ticks are never further apart.
const TICK_MS_MAX: i64 = 100;
