//! What is done `hz` times a second.

use crate::cmd::session::Marks;
use crate::db::expire;
use crate::exec::clients::{FIRST_BUFFER, QUERY_BUFFER_IDLE_S};
use crate::exec::conn::{Conn, Token};
use crate::exec::io::Io;
use crate::exec::server::Server;

/// With `dynamic-hz`, this many clients are worth one more run a second.
const CLIENTS_PER_RUN: usize = 200;
const HZ_MAX: u32 = 500;
/// Clients looked at in a run, at least.
const CLIENTS_MIN: usize = 5;
/// Keys of a replica's own that are met with time left before a round ends, and how long it may take at most.
const OWN_ALIVE: u32 = 3;
const OWN_NS: u64 = 1_000_000;
/// The smallest buffer that a client is said to have.
const REPLY_BUFFER_MIN: usize = 1024;

impl Server {
    /// One run.
    pub fn cron(&mut self, io: &mut dyn Io) {
        self.hz = self.config.hz;
        if self.config.dynamic_hz {
            while self.conns.len() / self.hz as usize > CLIENTS_PER_RUN && self.hz < HZ_MAX {
                self.hz = (self.hz * 2).min(HZ_MAX);
            }
        }
        if self.cron_paused {
            return;
        }
        if self.every(100) {
            self.sample_rates();
        }
        if self.every(5000) {
            self.log_keys();
        }
        self.clients_cron();
        self.limit_tracking();
        self.pass_delays();
        self.migrate_cron();
        self.shutdown_cron(io);
        // Before saves, so that one for replicas goes first.
        self.replication_cron(io);
        self.limit_snapshots();
        self.rewrite_cron(io);
        self.save_cron(io);
        if self.expires_keys() {
            self.expire_cycle(io, expire::Kind::Slow);
        } else if self.active_expire && self.config.replicaof.is_some() {
            self.expire_own(io);
        }
        self.cron_loops += 1;
    }

    /// True in one of the runs of every `ms` milliseconds.
    fn every(&self, ms: u64) -> bool {
        let period = 1000 / u64::from(self.hz);
        ms <= period || self.cron_loops.is_multiple_of(ms / period)
    }

    fn sample_rates(&mut self) {
        let now = self.now.mono_ns / 1_000_000;
        let stats = &mut self.stats;
        stats.ops.sample(stats.total_commands, now);
        stats.input_rate.sample(stats.net_input, now);
        stats.output_rate.sample(stats.net_output, now);
        stats.repl_input_rate.sample(stats.net_repl_input, now);
        stats.repl_output_rate.sample(stats.net_repl_output, now);
        stats.turns_rate.sample(stats.turns.count, now);
        stats.turn_time_rate.sample(stats.turns.sum_us, now);
    }

    fn log_keys(&self) {
        for (i, db) in self.dbs.iter().enumerate() {
            if !db.is_empty() {
                log::debug!(
                    "DB {i}: {} keys ({} volatile) in {} slots HT.",
                    db.len(),
                    db.expiring_len(),
                    db.slots()
                );
            }
        }
        if !self.conns.is_empty() {
            let replicas = self.repl.master.replicas().len();
            let clients = self.conns.len() - replicas;
            log::debug!("{clients} clients connected ({replicas} replicas)");
        }
    }

    /// Looks at a share of the clients, so that each is seen about once a second.
    fn clients_cron(&mut self) {
        let slots = self.conns.slots();
        if slots == 0 {
            return;
        }
        let share = (self.conns.len() / self.hz as usize)
            .max(CLIENTS_MIN)
            .min(slots);
        self.client_peaks.begin(self.now.s());
        for _ in 0..share {
            self.cron_client = (self.cron_client + 1) % slots;
            self.client_cron(Token(self.cron_client));
        }
    }

    fn client_cron(&mut self, token: Token) {
        let (now_s, now_ms) = (self.now.s(), self.now.ms());
        let (timeout, resizing) = (self.config.timeout, self.reply_buffer_resizing);
        let reset_ms = self.reply_buffer_peak_reset_ms;
        // (The sessions of scripts and of the log have nobody at the other end who could be too slow or too silent.)
        let is_client = |c: &&mut Conn| c.has_peer() && !c.is_link();
        let Some(conn) = self.conns.get_mut(token).filter(is_client) else {
            return;
        };
        let idle_s = now_s.saturating_sub(conn.active_s);
        let exempt = conn.session.marks.has(Marks::MASTER | Marks::REPLICA)
            || conn.parked.is_some()
            || conn.session.subscribed();
        if timeout > 0 && idle_s > timeout && !exempt {
            log::debug!("Closing idle client");
            self.disconnect(token);
            return;
        }
        let waits = conn.parked.is_some();
        let held = conn.input.len() + conn.big.as_ref().map_or(0, |b| b.need);
        let spare = conn.input.capacity() - conn.input.len();
        if spare > 4096
            && (idle_s > QUERY_BUFFER_IDLE_S
                || (conn.input.capacity() > 32 * 1024
                    && conn.input.capacity() / 2 > conn.input_peak))
        {
            let to = if idle_s > QUERY_BUFFER_IDLE_S {
                conn.input.len()
            } else {
                conn.input_peak.max(conn.input.len())
            };
            conn.input.shrink_to(to);
        }
        if idle_s > QUERY_BUFFER_IDLE_S
            && let Some(big) = &mut conn.big
        {
            big.data.shrink_to_fit();
        }
        conn.input_peak = held;
        if resizing {
            let (size, peak) = (conn.reply_buffer, conn.reply_peak);
            if size / 2 >= REPLY_BUFFER_MIN && peak < size / 2 {
                conn.reply_buffer = REPLY_BUFFER_MIN.max(peak + 1);
                self.stats.reply_buffer_shrinks += 1;
            } else if size * 2 < FIRST_BUFFER * 2 && peak == size {
                conn.reply_buffer = FIRST_BUFFER.min(size * 2);
                self.stats.reply_buffer_expands += 1;
            }
            if reset_ms >= 0 && now_ms.saturating_sub(conn.reply_peak_reset_ms) >= reset_ms as u64 {
                conn.reply_peak = conn.reply.len().min(conn.reply_buffer);
                conn.reply_peak_reset_ms = now_ms;
            }
        }
        if waits && self.cluster.is_some() {
            self.redirect_waiting(token);
        }
        self.count_memory(token);
        if let Some(conn) = self.conns.get(token) {
            let input = conn.input_memory();
            self.client_peaks.note(now_s, input, conn.output_memory());
        }
        self.check_output(token);
    }

    /// True if keys whose time is over are deleted here: a replica's master does it for both.
    pub fn expires_keys(&self) -> bool {
        self.active_expire && !self.loading && self.config.replicaof.is_none()
    }

    /// Deletes keys whose time is over of which the master knows nothing: for a millisecond, or until some are met that
    /// have time left.
    fn expire_own(&mut self, io: &mut dyn Io) {
        if self.own_ttls.is_empty() || self.loading {
            return;
        }
        let start_ns = io.mono_ns();
        let now_ms = self.now.ms();
        let mut own = std::mem::take(&mut self.own_ttls);
        let (mut looks, mut alive) = (0u32, 0);
        while alive <= OWN_ALIVE {
            let more = own.look_at_next(|db, key| {
                let hash = self.dbs.hash(key);
                let has_ttl =
                    |e: &crate::object::Entry| e.expiry_ms().map(|_| e.is_expired(now_ms));
                match self.dbs.db(db).get(hash, key).and_then(has_ttl) {
                    Some(true) => {
                        if let Some(entry) = self.dbs.db_mut(db).remove(hash, key) {
                            self.expired(db, entry);
                        }
                        self.end_unit(io);
                        false
                    }
                    Some(false) => {
                        alive += 1;
                        true
                    }
                    None => false,
                }
            });
            looks += 1;
            if !more || (looks.is_multiple_of(64) && io.mono_ns() - start_ns > OWN_NS) {
                break;
            }
        }
        self.own_ttls = own;
    }

    /// Deletes keys whose time is over, for as long as the cycle's budget allows.
    pub fn expire_cycle(&mut self, io: &mut dyn Io, kind: expire::Kind) {
        if kind == expire::Kind::Slow {
            expire::note_ttls(&mut self.dbs, self.now.ms(), |n| self.rng.below(n));
        }
        if self.dbs.expiring_len() == 0 || self.paused_for(true) {
            return;
        }
        let start_ns = io.mono_ns();
        let effort = self.config.active_expire_effort;
        let begun = self
            .expire_cycle
            .begin(kind, effort, self.hz, start_ns / 1000, &self.dbs);
        let Some(budget_us) = begun else { return };
        let budget_ns = budget_us * 1000;
        let now_ms = self.now.ms();
        let mut cycle = std::mem::take(&mut self.expire_cycle);
        let mut cut = false;
        let mut gone = Vec::new();
        loop {
            let held = &self.held;
            let more = cycle.step(&mut self.dbs, now_ms, |key| held.has(key), &mut gone);
            for (db, entry) in gone.drain(..) {
                self.expired(db, entry);
            }
            if !more {
                break;
            }
            if io.mono_ns() - start_ns > budget_ns {
                self.stats.expired_time_cap_reached += 1;
                cut = true;
                break;
            }
        }
        cycle.end(cut);
        self.expire_cycle = cycle;
        let took_us = (io.mono_ns() - start_ns) / 1000;
        self.stats.expire_cycle_cpu_us += took_us;
        self.latency_sample("expire-cycle", took_us / 1000);
        self.end_unit(io);
    }

    fn expired(&mut self, db: u32, entry: crate::object::Entry) {
        crate::cmd::keys::note_expired(
            &mut self.stats.keys,
            &mut self.unit,
            &self.config,
            &mut self.watch,
            db,
            &entry,
        );
        let lazily = self.config.lazyfree_lazy_expire;
        crate::cmd::keys::discard(&mut self.to_free, entry, lazily);
    }
}
