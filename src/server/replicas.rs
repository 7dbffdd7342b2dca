//! Serving replicas: what the master's side ([`crate::repl::master`]) says is to be done, done.
//!
//! ```text
//! a unit ends            its bytes go into the stream, which is kept once (`exec/propagate.rs`)
//! before the loop sleeps replicas that are online and behind are written to, straight from the stream
//! once a second          signs of life, time-outs, full syncs that were waited for
//! ```
//! How a full sync gets its data across is in `server/full_sync.rs`.

use std::io::IoSlice;

use crate::cmd::session::Marks;
use crate::cmd::unit::Selected;
use crate::exec::conn::Token;
use crate::exec::following::Failover;
use crate::exec::io::Io;
use crate::exec::persistence::Target;
use crate::exec::replication::Replication;
use crate::exec::server::{Effect, Server};
use crate::repl::master::{
    Action, GETACK, Granted, Master, Moment, Plan, Request, Restraint, Stage, UnderWay,
};

const SECOND_NS: u64 = 1_000_000_000;
/// What is done once a second is done so often during a failover, which it drives on.
const FAILOVER_NS: u64 = 100_000_000;

impl Server {
    /// Runs `f` on the master's side, with all that it may look at.
    fn with_master<T>(&mut self, f: impl FnOnce(&mut Master, &mut Moment<'_>) -> T) -> T {
        let under_way = self.under_way();
        let Replication {
            master, history, ..
        } = &mut self.repl;
        let mut moment = Moment {
            now_s: self.now.s(),
            history,
            rng: &mut self.rng,
            config: &self.config,
            under_way,
        };
        f(master, &mut moment)
    }

    fn under_way(&self) -> UnderWay {
        match self.persistence.saving.as_ref().map(|s| s.target) {
            None if self.aof.rewriting.is_some() => UnderWay::Rewrite,
            None => UnderWay::Nothing,
            Some(Target::File) => UnderWay::File,
            Some(Target::Replicas) => UnderWay::Stream,
        }
    }

    /// PSYNC and SYNC.
    pub fn follow(&mut self, io: &mut dyn Io, token: Token, request: Request<'_>) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        let ip = conn.peer.ip().to_string();
        conn.session.marks.set(Marks::REPLICA, true);
        let (granted, actions) =
            self.with_master(|master, moment| master.ask(token, &ip, request, moment));
        let stats = &mut self.stats;
        match granted {
            Granted::Partial => stats.sync_partial_ok += 1,
            Granted::Full { failed } => {
                stats.sync_full += 1;
                stats.sync_partial_err += u64::from(failed);
                if self.config.repl_disable_tcp_nodelay {
                    self.effects.push(Effect::Gather(token));
                }
            }
        }
        self.note_who_listens();
        self.carry_out(io, actions);
    }

    /// The snapshot of a full sync was taken: those who wait for it are promised it.
    pub(super) fn full_sync_begun(&mut self, io: &mut dyn Io, plan: Plan) {
        // Whoever begins to read here does not know what was selected.
        self.repl.selected = Selected::default();
        let actions = self.with_master(|master, moment| master.begun(plan, moment));
        self.carry_out(io, actions);
    }

    /// Does what the master's side says.
    pub(super) fn carry_out(&mut self, io: &mut dyn Io, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(token, bytes) => {
                    if let Some(conn) = self.conns.get_mut(token) {
                        conn.reply.raw(&bytes);
                        self.wants_write(token);
                    }
                }
                Action::Feed(bytes) => self.append_to_stream(bytes),
                Action::Begin(plan) => self.begin_full_sync(io, plan),
                Action::Close(token) => self.doom(token),
                Action::Free(backlog) => {
                    self.note_who_listens();
                    self.free_later(Box::new(backlog), 1);
                }
            }
        }
    }

    /// Replicas that are online and behind are written to before the loop sleeps.
    pub fn flow(&mut self) {
        let Some(backlog) = self.repl.history.backlog() else {
            return;
        };
        for replica in self.repl.master.replicas() {
            let token = replica.token;
            if !replica.flows() || !backlog.has_for(token) {
                continue;
            }
            if let Some(conn) = self.conns.get_mut(token)
                && !conn.write_queued
                && !conn.write_blocked
                && !conn.session.marks.has(Marks::CLOSE_ASAP)
            {
                conn.write_queued = true;
                self.pending_writes.push(token);
            }
        }
    }

    /// Lets go of what no replica needs any more of the stream, some at a time.
    pub fn trim_backlog(&mut self) {
        if let Some(backlog) = self.repl.history.backlog_mut() {
            backlog.trim_more();
        }
    }

    /// True if the stream may be written to this connection, once its own output is out.
    pub fn may_flow(&self, token: Token) -> bool {
        self.repl.master.replica(token).is_some_and(|r| r.flows())
    }

    /// Takes out what a replica is to be given of the stream, up to so many bytes, for whoever has no socket.
    pub fn take_stream(&mut self, token: Token, into: &mut Vec<u8>, most: usize) {
        if !self.may_flow(token) {
            return;
        }
        let Some(backlog) = self.repl.history.backlog_mut() else {
            return;
        };
        let mut left = most;
        while left > 0 && backlog.has_for(token) {
            let mut slices = [IoSlice::new(&[]); 1];
            if backlog.io_slices(token, &mut slices) == 0 {
                return;
            }
            let taken = slices[0].len().min(left);
            into.extend_from_slice(&slices[0][..taken]);
            backlog.advance(token, taken);
            left -= taken;
        }
    }

    /// Replicas are asked how far they are, if somebody wants to know; whoever waits for that is served.
    pub fn ask_replicas(&mut self) {
        if self.repl.ack_wanted && !self.paused_for(true) {
            self.repl.ack_wanted = false;
            self.send_getack();
        }
        self.serve_acks();
    }

    /// Asks all replicas how far they are. A replica's stream is its master's, to which nothing may be added.
    pub(super) fn send_getack(&mut self) {
        if self.config.replicaof.is_none() && !self.repl.master.replicas().is_empty() {
            self.append_to_stream(GETACK);
        }
    }

    /// A connection is being closed, which may have been a replica's.
    pub fn replica_gone(&mut self, token: Token) {
        let now_s = self.now.s();
        let Replication {
            master, history, ..
        } = &mut self.repl;
        let Some(replica) = master.gone(token, now_s, history) else {
            return;
        };
        master.count_good(now_s, &self.config);
        let in_vain = matches!(
            replica.stage,
            Stage::Snapshot {
                streamed: false,
                ..
            }
        ) && !master.replicas().iter().any(|r| {
            matches!(
                r.stage,
                Stage::Snapshot {
                    streamed: false,
                    ..
                }
            )
        });
        // A save that nobody waits for any more, unless the configuration wants one as well.
        let only_for_sync = self.config.save.is_empty() && self.under_way() == UnderWay::File;
        if in_vain && only_for_sync {
            self.cancel_save();
        }
        self.transfer_lost(token);
    }

    /// What is done once a second.
    pub fn replication_cron(&mut self, io: &mut dyn Io) {
        if self.now.mono_ns < self.repl.next_second_ns {
            return;
        }
        let period_ns = match self.repl.failover {
            Some(_) => FAILOVER_NS,
            None => SECOND_NS,
        };
        self.repl.next_second_ns = self.now.mono_ns + period_ns;
        self.failover_step(io);
        self.follow_cron(io);
        let timed = |failover: &Failover| failover.until_ms.is_some();
        // While a replica is to catch up, nothing more goes into the stream.
        let awaited = self.repl.failover.as_ref().is_some_and(timed)
            || self.cluster.as_ref().is_some_and(|c| c.is_failing_over());
        let restraint = Restraint {
            follows: self.config.replicaof.is_some(),
            no_ping: awaited && self.paused_for(true),
        };
        let actions = self.with_master(|master, moment| master.every_second(moment, restraint));
        self.carry_out(io, actions);
        self.remove_file_of_sync(io);
    }

    /// `min-replicas-to-write` is not met.
    #[inline]
    pub fn lacks_replicas(&self) -> bool {
        self.config.min_replicas_to_write > 0
            && self.config.replicaof.is_none()
            && self.repl.master.too_few(&self.config)
    }
}
