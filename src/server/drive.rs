//! The loop: wait, read, run, then everything in `before_sleep`.
//!
//! [`Os`] is the outside as the server meets it: clocks, memory figures, the listening sockets and
//! the reactor, the background threads. It stands beside the server, never inside it, so that a
//! command which polls the loop finds both free.

use std::any::Any;
use std::rc::Rc;
use std::time::Duration;

use crate::ae::Signals;
use crate::base::alloc;
use crate::base::time::{Clock, Stopwatch};
use crate::exec::conn::Token;
use crate::exec::io::Io;
use crate::exec::link::Target;
use crate::exec::persistence::{Errand, Work};
use crate::exec::server::Server;
use crate::server::before_sleep::{Outside, before_sleep, while_busy};
use crate::server::bio::{Bio, JobResult, Jobs, Lane};
use crate::server::boot::say_ready;
use crate::server::net::{Dialled, Doors, Net, Resolver};
use crate::server::process;

/// CPU time is read from the kernel at most this often; turns in between are bounded by it.
const CPU_CHECK_NS: u64 = 50_000;

/// See the head of the file.
pub struct Os {
    pub watch: Stopwatch,
    pub doors: Doors,
    pub net: Rc<Net>,
    pub signals: Option<Signals>,
    pub bio: Bio,
    pub resolver: Resolver,
    pub title: Option<crate::server::proc_title::ProcTitle>,
    pub oom: crate::server::process::OomScore,
    pub supervisor: crate::server::process::Supervisor,
    pub programs: crate::server::programs::Programs,
    pub watchdog: crate::server::watchdog::Watchdog,
    pub launch: crate::server::os::Launch,
}

/// The outside with its sockets.
struct World<'a> {
    os: &'a mut Os,
    net: &'a Net,
}

impl Outside for World<'_> {
    fn io(&mut self) -> &mut dyn Io {
        self.os
    }

    fn again(&mut self, token: Token) {
        self.net.again(&mut self.os.doors, token);
    }

    fn flush(&mut self, server: &mut Server) {
        self.net.flush(server, self.os);
    }

    fn close(&mut self, token: Token) {
        self.net.close(&mut self.os.doors, token);
    }

    fn gather(&mut self, token: Token) {
        self.net.gather(token);
    }

    fn connect(&mut self, server: &mut Server, token: Token, serial: u64, target: Target) {
        match Dialled::literally(token, serial, &target) {
            Some(dialled) => self.net.dial(server, self.os, dialled),
            None => self.os.resolver.ask(token, serial, &target),
        }
    }

    fn start(&mut self, errand: Errand, work: Work) {
        self.os.bio.start(Lane::of(errand), work);
    }

    fn free(&mut self, what: Box<dyn Any + Send>, items: usize) {
        self.os.free(what, items);
    }
}

impl AsMut<Doors> for Os {
    fn as_mut(&mut self) -> &mut Doors {
        &mut self.doors
    }
}

/// The longest turn, in thread CPU time. Asking the kernel for it costs a system call, so it is
/// asked at most every [`CPU_CHECK_NS`]; what a turn took is then known to within that.
#[derive(Default)]
struct TurnMeter {
    /// When the running turn began.
    started_ns: u64,
    /// Commands run when it began.
    commands: u64,
    /// Monotonic and CPU time at the last look.
    looked_ns: u64,
    looked_cpu_ns: u64,
}

impl TurnMeter {
    fn begin(&mut self, now_ns: u64) {
        self.started_ns = now_ns;
    }

    fn end(&mut self, server: &mut Server, now_ns: u64, clock: &Clock) {
        let wall_ns = now_ns.saturating_sub(self.started_ns);
        let turns = &mut server.stats.turns;
        turns.count += 1;
        turns.sum_us += wall_ns / 1000;
        turns.max_us = turns.max_us.max(wall_ns / 1000);
        let commands = server.stats.total_commands.saturating_sub(self.commands);
        turns.max_commands = turns.max_commands.max(commands);
        self.commands = server.stats.total_commands;
        if now_ns.saturating_sub(self.looked_ns) < CPU_CHECK_NS {
            return;
        }
        let cpu_ns = clock.thread_cpu_ns();
        let since_ns = cpu_ns.saturating_sub(self.looked_cpu_ns);
        if self.looked_ns != 0 {
            turns.max_cpu_us = turns.max_cpu_us.max(wall_ns.min(since_ns) / 1000);
        }
        (self.looked_ns, self.looked_cpu_ns) = (now_ns, cpu_ns);
    }
}

/// Runs until the server is told to exit; the status to exit with.
pub fn run(server: &mut Server, os: &mut Os) -> i32 {
    let net = os.net.clone();
    let mut meter = TurnMeter::default();
    let mut quiet = Quiet::default();
    let mut next_cron_ns = os.watch.mono_ns();
    meter.begin(next_cron_ns);
    loop {
        before_sleep(server, &mut World { os, net: &net });
        if let Some(code) = server.exiting {
            finished_jobs(server, os, &net);
            while !server.pending_writes.is_empty() {
                net.flush(server, os);
            }
            return code;
        }
        if std::mem::take(&mut server.persistence.ready) {
            say_ready(&server.config, os);
        }
        let now_ns = os.watch.mono_ns();
        meter.end(server, now_ns, os.watch.clock());
        let timeout = sleep_for(server, now_ns, next_cron_ns);
        if let Err(e) = os.doors.reactor.wait(Some(timeout)) {
            log::warn!("The event loop can't wait: {e}");
            return 1;
        }
        os.watch.sync();
        server.sync_clock(os);
        meter.begin(server.now.mono_ns);
        net.ready(server, os);
        finished_jobs(server, os, &net);
        stop_if_asked(server, os);
        if server.now.mono_ns >= next_cron_ns {
            server.sync_clock(os);
            let start_ns = server.now.mono_ns;
            os.watchdog.tick();
            os.doors.retry();
            server.cron(os);
            quiet.look(server, os);
            server.stats.cron_us += (os.watch.mono_ns() - start_ns) / 1000;
            next_cron_ns = start_ns + 1_000_000_000 / u64::from(server.hz.max(1));
        }
    }
}

/// Gives memory back to the kernel once nobody asks anything. While a table of keys grows, all its
/// segments leave one size class for the next at about the same time, and what they leave behind is
/// ten bytes a key: worth giving back, but not while the loop is busy.
///
/// After a longer rest it also lets go of code that will not run soon: first of all what the start ran.
#[derive(Default)]
struct Quiet {
    /// Commands run when cron last looked, and how often it has seen no more since.
    commands: u64,
    rounds: u32,
    /// There were commands since memory was last given back.
    due: bool,
    /// It has rested since.
    rested: bool,
}

impl Quiet {
    fn look(&mut self, server: &Server, os: &mut Os) {
        if server.stats.total_commands != self.commands {
            self.commands = server.stats.total_commands;
            self.rounds = 0;
            self.due = true;
            self.rested = false;
            return;
        }
        self.rounds += 1;
        if !self.rested && self.rounds >= server.hz * REST_S {
            self.rested = true;
            if os.used_memory() < SMALL_BYTES {
                process::let_go_of_code();
            }
        }
        if self.due && self.rounds >= (server.hz / QUIET_PER_SECOND).max(1) {
            self.due = false;
            let stats = alloc::stats();
            if stats.resident.saturating_sub(stats.active) > PURGE_FROM {
                let purge = || -> JobResult { Box::new(alloc::purge().is_ok()) };
                os.bio.start(Lane::LazyFree, Box::new(purge));
            }
        }
    }
}

/// Quiet for this part of a second is quiet.
const QUIET_PER_SECOND: u32 = 5;
/// Quiet for so many seconds is rest.
const REST_S: u32 = 3;
/// A server with more than this in it keeps its code: the kernel would look at all pages for a small part of them.
const SMALL_BYTES: usize = 64 * 1024 * 1024;
/// Unused bytes that are worth giving back.
const PURGE_FROM: u64 = 512 * 1024;

/// How long nothing has to be done.
fn sleep_for(server: &Server, now_ns: u64, next_cron_ns: u64) -> Duration {
    let due = !server.resumable.is_empty()
        || !server.reread.is_empty()
        || !server.pending_writes.is_empty()
        || !server.effects.is_empty();
    if due || server.evict_more || server.links.have_news() {
        return Duration::ZERO;
    }
    let mut ns = next_cron_ns.saturating_sub(now_ns);
    for at_ns in [server.replay_due(), server.next_defrag_ns()]
        .into_iter()
        .flatten()
    {
        ns = ns.min(at_ns.saturating_sub(now_ns));
    }
    let now_ms = server.now.ms();
    for at_ms in [
        server.blocked.next_deadline(),
        server.migrations.next_deadline(),
        server.pause.all_until,
        server.pause.write_until,
        server.pause.failover_until,
        server.next_watch(),
        server.next_cluster_tick(),
    ]
    .into_iter()
    .flatten()
    {
        ns = ns.min(at_ms.saturating_sub(now_ms).saturating_mul(1_000_000));
    }
    Duration::from_nanos(ns)
}

fn finished_jobs(server: &mut Server, os: &mut Os, net: &Net) {
    while let Some(finished) = os.bio.next_finished() {
        // (Purging gives nothing back that anybody waits for.)
        if let Some(errand) = finished.lane.errand() {
            let outcome = finished.outcome.into_result();
            server.errand_done(os, errand, outcome);
        }
    }
    while let Some(dialled) = os.resolver.next_found() {
        net.dial(server, os, dialled);
    }
    server.stats.lazyfreed += os.bio.take_freed_items() as u64;
    server.lazyfree_pending = os.bio.unfreed_items();
}

/// SIGTERM or SIGINT: the same as SHUTDOWN with the flags that the configuration gives the signal. (It is cron's work, so
/// it rests while that does.)
fn stop_if_asked(server: &mut Server, os: &mut Os) {
    let asked = os.signals.as_ref().and_then(|s| s.stop_requested());
    let Some(signal) = asked.filter(|_| !server.cron_paused) else {
        return;
    };
    let flags = if signal == libc::SIGINT {
        server.config.shutdown_on_sigint
    } else {
        server.config.shutdown_on_sigterm
    };
    if let Err(why) = server.begin_shutdown(os, flags) {
        log::warn!("{why}");
        os.forget_signal();
    }
}

impl Os {
    /// A turn of the loop within one, as far as others are concerned who wait for a command to end.
    pub fn poll_within(&mut self, server: &mut Server) {
        let net = self.net.clone();
        net.poll(server, self);
        while_busy(
            server,
            &mut World {
                os: self,
                net: &net,
            },
        );
    }

    /// Hands a value to the freeing thread.
    pub fn free(&mut self, what: Box<dyn Any + Send>, items: usize) {
        self.bio.free(what, items);
    }
}
