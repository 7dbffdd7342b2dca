//! FAILOVER: a master hands its role to one of its replicas, and follows it.
//!
//! ```text
//! FAILOVER          writes are held up, so that the replicas can catch up
//! waiting-for-sync  until one of them has all (or the time is over: abort, or go on with FORCE)
//! in-progress       we follow that one, and ask it with PSYNC ... FAILOVER to take over
//! ```
//! When it answers the writes that were held up go on, to be refused: this is a replica now. If it does not want to, all is as
//! before.

use crate::exec::following::{Failover, FailoverStage};
use crate::exec::io::Io;
use crate::exec::server::Server;

impl Server {
    /// Begins a failover, which the caller has found possible.
    pub fn begin_failover(&mut self, failover: Failover) {
        match &failover.target {
            Some((host, port)) => log::info!("FAILOVER requested to {host}:{port}."),
            None => log::info!("FAILOVER requested to any replica."),
        }
        self.repl.failover = Some(failover);
        self.repl.next_second_ns = self.now.mono_ns;
        self.pause.for_failover = true;
    }

    /// It is over, one way or the other.
    pub(super) fn end_failover(&mut self) {
        if self.repl.failover.take().is_some() {
            self.pause.for_failover = false;
            self.pause.eased = true;
        }
    }

    /// Calls it off.
    pub fn abort_failover(&mut self, io: &mut dyn Io, why: &str) {
        let Some(failover) = self.repl.failover.clone() else {
            return;
        };
        match &failover.target {
            Some((host, port)) => log::info!("FAILOVER to {host}:{port} aborted: {why}"),
            None => log::info!("FAILOVER to any replica aborted: {why}"),
        }
        if failover.stage == FailoverStage::InProgress {
            self.unset_master(io);
        }
        self.end_failover();
    }

    /// Looks whether a replica has all, or the time is over.
    pub fn failover_step(&mut self, io: &mut dyn Io) {
        let Some(failover) = &self.repl.failover else {
            return;
        };
        if failover.stage != FailoverStage::WaitingForSync {
            return;
        }
        let now_ms = self.now.ms();
        if failover.until_ms.is_some_and(|until| until <= now_ms) {
            match (&failover.target, failover.force) {
                (Some((host, port)), true) => {
                    log::info!("FAILOVER to {host}:{port} time out exceeded, failing over.");
                    let target = (host.clone(), *port);
                    self.hand_over(io, target);
                }
                _ => self.abort_failover(io, "Replica never caught up before timeout"),
            }
            return;
        }
        let offset = self.repl.history.offset();
        let fits = |ip: &str, port: i64| match &failover.target {
            Some((host, wanted)) => host.eq_ignore_ascii_case(ip) && i64::from(*wanted) == port,
            None => true,
        };
        let caught_up = (self.repl.master.replicas().iter())
            .find(|r| fits(r.ip(), r.said.port) && r.acked == offset);
        let target =
            caught_up.and_then(|r| Some((r.ip().to_string(), u16::try_from(r.said.port).ok()?)));
        if let Some((host, port)) = target {
            log::info!("Failover target {host}:{port} is synced, failing over.");
            self.hand_over(io, (host, port));
        }
    }

    fn hand_over(&mut self, io: &mut dyn Io, target: (String, u16)) {
        let (host, port) = target.clone();
        if let Some(failover) = &mut self.repl.failover {
            failover.stage = FailoverStage::InProgress;
            failover.target = Some(target);
        }
        self.set_master(io, host.as_bytes(), port);
    }

    /// The state of it by the name that INFO has.
    pub fn failover_state(&self) -> &'static str {
        match self.repl.failover.as_ref().map(|failover| failover.stage) {
            None => "no-failover",
            Some(FailoverStage::WaitingForSync) => "waiting-for-sync",
            Some(FailoverStage::InProgress) => "failover-in-progress",
        }
    }
}
