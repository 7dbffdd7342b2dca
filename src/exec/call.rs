//! Running a command: build what it may see, run it, measure it, and drain what it changed.
//!
//! [`Server::call_top`] opens the unit, so it drains it: what EXEC or a script calls inside only
//! adds to it. After the unit come, in this order: the operations for log and replicas, the
//! keyspace notifications (delivered as they came up), pushes that waited for the running
//! command's reply, and the clients that were blocked on keys which became ready.

use crate::cmd::args::OwnedArgs;
use crate::cmd::ctx::Ctx;
use crate::cmd::fault::{Block, CmdResult, Flow};
use crate::cmd::keys::KeyHint;
use crate::cmd::keys::{Keys, Overdue};
use crate::cmd::session::Marks;
use crate::cmd::spec::Flags;
use crate::cmd::unit::{Audience, Logging};
use crate::cmd::{Args, Fault};
use crate::exec::Call;
use crate::exec::conn::{Conn, Parked, Token, Why};
use crate::exec::io::Io;
use crate::exec::running::RunningArgs;
use crate::exec::server::Server;
use crate::exec::table::{CommandId, Needs, Run};
use crate::exec::tracking::end_announced;

const CONTAINER_ALONE: Fault = Fault::new("ERR wrong number of arguments");

/// How a call went, for whoever called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Done,
    Failed,
    /// It waits for keys; its connection is parked.
    Blocked,
}

impl Server {
    /// Runs a command of a client as a unit of its own.
    #[inline(always)]
    pub fn call_top(
        &mut self,
        io: &mut dyn Io,
        token: Token,
        id: CommandId,
        args: Args<'_>,
        hints: &[KeyHint],
    ) {
        let offset = self.repl.history.offset();
        self.current = Some(token);
        let before = self.reply_begins(token);
        self.call(io, token, id, args, hints, 0);
        self.current = None;
        if !self.unit.touched.is_empty() {
            self.tell_trackers(Some(token));
        }
        self.unit.apart = self.table.get(id).flags.has(Flags::TOUCHES_ARBITRARY_KEYS);
        self.end_unit(io);
        if self.repl.history.offset() != offset {
            self.note_stream_place(token);
        }
        if let Some(before) = before {
            self.hold_reply(token, id, &args, hints, before);
        }
        self.flush_late(token);
        if self.has_own_stale() {
            self.tell_own(token);
        }
        if !self.unit.ready.is_empty() {
            self.serve_blocked(io);
        }
    }

    /// Remembers up to where the stream has what a client changed.
    pub(super) fn note_stream_place(&mut self, token: Token) {
        if let Some(conn) = self.conns.get_mut(token) {
            conn.written_to = self.repl.history.offset();
        }
    }

    /// Runs a command and counts it. `spent_us` is what earlier tries of a blocked command took.
    pub fn call(
        &mut self,
        io: &mut dyn Io,
        token: Token,
        id: CommandId,
        args: Args<'_>,
        hints: &[KeyHint],
        spent_us: u64,
    ) -> Outcome {
        let command = self.table.get(id);
        let (run, flags, needs) = (command.run, command.flags, command.needs);
        let outer_dirty = std::mem::take(&mut self.unit.dirty);
        self.unit.logging = Logging::Verbatim;
        let outer = self.stats.command_under_way.replace(id);
        let outer_args = std::mem::replace(&mut self.running, RunningArgs::of(args.argv()));
        self.nesting += 1;
        let ops_before = self.unit.ops.len();
        let start_ns = self.now.mono_ns;
        let result = self.run(io, token, run, args, hints);
        self.nesting -= 1;
        self.running = outer_args;
        self.stats.command_under_way = outer;
        let end_ns = io.mono_ns();
        if self.tracking.clients() > 0 && flags.has(Flags::READONLY) && needs != Needs::Script {
            self.note_read(self.external(token), id, &args);
        }
        let dirty = std::mem::replace(&mut self.unit.dirty, outer_dirty);
        self.dirty += dirty;
        let outcome = match result {
            Ok(Flow::Done) => Outcome::Done,
            Ok(Flow::Block(block)) => {
                let spent_us = (end_ns - start_ns) / 1000 + spent_us;
                self.park_or_give_up(token, id, &args, block, spent_us)
            }
            Ok(Flow::BlockAs(block, again)) => {
                let spent_us = (end_ns - start_ns) / 1000 + spent_us;
                let argv = again.slices();
                let args = Args::new(&argv, again.big());
                self.park_or_give_up(token, id, &args, block, spent_us)
            }
            Ok(Flow::Parked) => Outcome::Blocked,
            Err(fault) => {
                self.stats.commands[id].failed += 1;
                self.reply_fault(token, &fault);
                Outcome::Failed
            }
        };
        if self.nesting == 0 {
            // The next command's time begins here: one look at the clock serves both.
            self.now = self.at(end_ns);
        }
        if outcome != Outcome::Blocked {
            // (In whole microseconds of the clock: of calls that are shorter than one, some see it turn, so that they add up.)
            let us = end_ns / 1000 - start_ns / 1000 + spent_us;
            let ns = end_ns - start_ns + spent_us * 1000;
            self.count_call(token, id, &args, us, ns);
        }
        // After the command, which knows what of its arguments is secret.
        if !self.monitors.is_empty()
            && !flags.has(Flags::SKIP_MONITOR | Flags::ADMIN)
            && spent_us == 0
        {
            self.feed_monitors(token, &args);
        }
        self.slowlog.redacted.clear();
        let logging = std::mem::take(&mut self.unit.logging);
        if self.unit.wanted && needs != Needs::Exec {
            self.log_call(token, logging, &args, dirty);
            if self.aof.holding && self.unit.ops.len() > ops_before {
                self.note_written(id, &args, hints);
            }
        }
        // Before the next command of the unit can publish anything.
        if self.nesting > 0 && !self.unit.touched.is_empty() {
            self.tell_trackers(self.current);
        }
        if self.nesting > 0 && !self.unit.events.is_empty() {
            self.deliver_events();
        }
        outcome
    }

    /// The one place where the server is taken apart for a data command.
    #[inline]
    pub(crate) fn run(
        &mut self,
        io: &mut dyn Io,
        token: Token,
        run: Run,
        args: Args<'_>,
        hints: &[KeyHint],
    ) -> CmdResult {
        match run {
            Run::Data(f) => {
                let (overdue, tracks) = self.overdue(token);
                let Some(conn) = self.conns.get_mut(token) else {
                    return crate::cmd::DONE;
                };
                let mut cx = Ctx {
                    keys: Keys {
                        index: conn.session.db,
                        now_ms: self.now.ms(),
                        no_touch: conn.session.marks.has(Marks::NO_TOUCH),
                        overdue,
                        dbs: &mut self.dbs,
                        unit: &mut self.unit,
                        watch: &mut self.watch,
                        stats: &mut self.stats.keys,
                        config: &self.config,
                        list_plain_from: self.list_plain_from,
                        rng: &mut self.rng,
                        waiting: &self.blocked.keys,
                        free: &mut self.to_free,
                        own_ttls: tracks.then_some(&mut self.own_ttls),
                        hints,
                    },
                    reply: &mut conn.reply,
                    session: &mut conn.session,
                    command: self.stats.command_under_way.unwrap_or(0),
                };
                f(&mut cx, args)
            }
            Run::Server(f) => f(
                &mut Call {
                    server: self,
                    io,
                    token,
                },
                args,
            ),
            Run::Container => Err(CONTAINER_ALONE),
        }
    }

    /// What becomes of keys whose time is over if this connection's command meets them, and whether the times to live
    /// that it gives are the server's own to look after.
    #[inline]
    fn overdue(&self, token: Token) -> (Overdue, bool) {
        if self.config.replicaof.is_some() || self.loading {
            return self.overdue_elsewhere(token);
        }
        let overdue = if self.paused_for(true) {
            Overdue::Stays
        } else if self.held.is_empty() {
            Overdue::Goes
        } else {
            // Whoever names a held key waits; but a reader may come across one (SCAN, RANDOMKEY).
            Overdue::GoesForWriters
        };
        (overdue, false)
    }

    /// The same where a master says when keys go, or the log that is being loaded.
    #[cold]
    fn overdue_elsewhere(&self, token: Token) -> (Overdue, bool) {
        let by_master = |c: &Conn| c.session.marks.has(Marks::MASTER);
        let writable = !self.config.replica_read_only;
        match self.conns.get(token).is_some_and(by_master) {
            true => (Overdue::Lives, false),
            false if writable && !self.paused_for(true) => (Overdue::GoesForWriters, true),
            false => (Overdue::Stays, writable),
        }
    }

    /// The keys of a database, for a server command.
    pub fn keys(&mut self, db: u32) -> Keys<'_> {
        let nobody = Token(usize::MAX);
        let (overdue, tracks) = self.overdue(self.current.unwrap_or(nobody));
        Keys {
            index: db,
            now_ms: self.now.ms(),
            no_touch: false,
            overdue,
            dbs: &mut self.dbs,
            unit: &mut self.unit,
            watch: &mut self.watch,
            stats: &mut self.stats.keys,
            config: &self.config,
            list_plain_from: self.list_plain_from,
            rng: &mut self.rng,
            waiting: &self.blocked.keys,
            free: &mut self.to_free,
            own_ttls: tracks.then_some(&mut self.own_ttls),
            hints: &[],
        }
    }

    /// Replies an error and counts it.
    pub fn reply_fault(&mut self, token: Token, fault: &Fault) {
        self.stats.error(fault.as_bytes());
        self.note_peer_error(token, fault.as_bytes());
        if let Some(conn) = self.conns.get_mut(token) {
            conn.reply.error(fault.as_bytes());
        }
    }

    /// Counts a call that took `ns`, or so many whole `us`.
    #[inline(always)]
    pub fn count_call(&mut self, token: Token, id: CommandId, args: &Args<'_>, us: u64, ns: u64) {
        self.stats.total_commands += 1;
        self.stats.commands[id].called(ns, us, self.config.latency_tracking);
        if let Some(conn) = self.conns.get_mut(token) {
            conn.commands += 1;
        }
        if self.nesting == 0 {
            self.stats.active_command_us += us;
            self.stats.turns.max_command_us = self.stats.turns.max_command_us.max(us);
        }
        let monitored_from = self.config.latency_monitor_threshold;
        let slow = self.config.slowlog_log_slower_than;
        if monitored_from > 0 || (slow >= 0 && us >= slow as u64) {
            self.note_slow(token, id, args, us);
        }
    }

    /// Shows a call to the latency monitor and to the slow log.
    #[cold]
    fn note_slow(&mut self, token: Token, id: CommandId, args: &Args<'_>, us: u64) {
        let threshold = self.config.latency_monitor_threshold;
        if threshold > 0 && us / 1000 >= threshold {
            let fast = self.table.get(id).flags.has(Flags::FAST);
            self.latency_sample(if fast { "fast-command" } else { "command" }, us / 1000);
        }
        let slower_than = self.config.slowlog_log_slower_than;
        if slower_than >= 0 && us >= slower_than as u64 {
            self.slowlog_push(token, id, args, us);
        }
    }

    /// Adds the command itself to the unit, unless it has spoken for itself.
    fn log_call(&mut self, token: Token, logging: Logging, args: &Args<'_>, dirty: u64) {
        let audience = match logging {
            Logging::Verbatim if dirty == 0 => return,
            Logging::Verbatim | Logging::Forced => Audience::Everyone,
            Logging::ReplicasOnly if self.unit.followed => Audience::Replicas,
            Logging::ReplicasOnly => return,
            Logging::Rewritten => return,
        };
        let Some(conn) = self.conns.get(token) else {
            return;
        };
        if conn.session.marks.has(Marks::NO_PROPAGATE) {
            return;
        }
        let db = conn.session.db as i32;
        self.unit.ops.push(db, audience, args.argv());
    }

    /// The unit is over: its changes are counted, logged and announced.
    #[inline]
    pub fn end_unit(&mut self, io: &mut dyn Io) {
        self.dirty += std::mem::take(&mut self.unit.dirty);
        if self.unit.wanted {
            self.publish_log();
        }
        if !self.unit.touched.is_empty() {
            self.tell_trackers(None);
        }
        if !self.unit.events.is_empty() {
            self.deliver_events();
        }
        if !self.to_free.is_empty() {
            self.free_displaced();
        }
        let used = io.used_memory();
        if used > self.stats.peak_memory {
            self.stats.peak_memory = used;
        }
    }

    /// Pushes that waited for the running command's reply follow it now.
    #[inline]
    pub fn flush_late(&mut self, token: Token) {
        if let Some(conn) = self.conns.get_mut(token)
            && conn.late.is_some()
        {
            self.hold_next(token);
            self.write_late(token);
        }
    }

    fn write_late(&mut self, token: Token) {
        if let Some(conn) = self.conns.get_mut(token) {
            conn.write_late();
        }
    }

    /// After a request of whatever end: reply modes, output limits, and a place in the write list.
    #[inline(always)]
    pub fn end_request(&mut self, token: Token) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        if conn.parked.is_some() {
            return;
        }
        let marks = conn.session.marks;
        if marks.has(Marks::TRACKING_CACHING | Marks::ASKING) {
            end_announced(&mut conn.session, &self.table);
        }
        if marks.has(Marks::REPLY_OFF | Marks::REPLY_SKIP | Marks::REPLY_SKIP_NEXT) {
            conn.silence();
            if conn.session.marks.has(Marks::CLOSE_AFTER_REPLY) && conn.reply.is_empty() {
                // Nothing to write, so that no write would close it.
                self.doom(token);
                return;
            }
        }
        conn.kept = conn.reply.mark();
        let over = conn.is_over_first_buffer();
        if conn.has_new_output() {
            self.pending_writes.push(token);
        }
        if over {
            self.check_output(token);
        }
    }

    fn park_or_give_up(
        &mut self,
        token: Token,
        id: CommandId,
        args: &Args<'_>,
        block: Box<Block>,
        spent_us: u64,
    ) -> Outcome {
        let Some(conn) = self.conns.get_mut(token) else {
            return Outcome::Done;
        };
        if conn.session.marks.has(Marks::DENY_BLOCKING) {
            super::blocking::reply_timeout(&mut conn.reply, block.on_timeout);
            return Outcome::Done;
        }
        self.blocked.add(conn.session.db, token, &block);
        conn.parked = Some(Box::new(Parked {
            args: OwnedArgs::copy(args),
            command: id,
            why: Why::Keys(block),
            spent_us,
        }));
        Outcome::Blocked
    }
}
