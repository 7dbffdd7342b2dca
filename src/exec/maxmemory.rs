//! Staying within `maxmemory`: what counts, and what goes when it is too much.

use crate::cmd::keys::{access_clock, discard};
use crate::cmd::unit::Event;
use crate::config::NotifyFlags;
use crate::db::evict;
use crate::exec::io::Io;
use crate::exec::server::Server;

/// So many choices may fall on keys that are held.
const HELD_TRIES: usize = 32;

impl Server {
    /// Memory that `maxmemory` is about: all that is allocated, without what only a snapshot holds
    /// and without buffers that grow because keys are evicted.
    pub fn counted_memory(&self, io: &dyn Io) -> usize {
        io.used_memory().saturating_sub(self.not_counted())
    }

    /// `mem_not_counted_for_evict`.
    pub fn not_counted(&self) -> usize {
        self.dbs.snapshot_held() + self.repl.not_counted(&self.config) + self.aof.memory()
    }

    /// Evicts keys until memory is within `maxmemory`, for a limited time. `false`: there is too
    /// much and nothing left to evict. While clients are paused nothing is evicted or refused.
    pub fn make_room(&mut self, io: &mut dyn Io) -> bool {
        let limit = self.config.maxmemory;
        let used = self.counted_memory(io);
        let spared = self.config.replicaof.is_some() && self.config.replica_ignore_maxmemory;
        if limit == 0 || used <= limit || spared || self.paused_for(true) {
            self.note_room(io, true);
            return true;
        }
        if self.loading
            || self.config.maxmemory_policy == crate::config::MaxmemoryPolicy::NoEviction
        {
            let fits = self.loading;
            self.note_room(io, fits);
            return fits;
        }
        let budget_ns =
            evict::time_limit_us(self.config.maxmemory_eviction_tenacity).saturating_mul(1000);
        let start_ns = io.mono_ns();
        let mut enough = true;
        let mut evicted = 0u64;
        let mut told = 0;
        while self.counted_memory(io).saturating_sub(told) > limit {
            let Some(bytes) = self.evict_one(io) else {
                enough = false;
                break;
            };
            told += bytes;
            evicted += 1;
            if evicted.is_multiple_of(16) && io.mono_ns() - start_ns > budget_ns {
                self.evict_more = true;
                break;
            }
        }
        self.latency_sample("eviction-cycle", (io.mono_ns() - start_ns) / 1_000_000);
        // The freeing thread may still be at it: what it has not freed yet is not lost.
        enough |= self.lazyfree_pending > 0;
        self.note_room(io, enough && !self.evict_more);
        enough
    }

    /// The key that goes next; not one that is on its way to another server, for that would free nothing.
    fn choose_victim(&mut self) -> Option<(u32, Box<[u8]>)> {
        let clock = access_clock(&self.config, self.now.ms());
        let (policy, samples) = (self.config.maxmemory_policy, self.config.maxmemory_samples);
        for _ in 0..HELD_TRIES {
            let pool = &mut self.evict_pool;
            let below = |n| self.rng.below(n);
            let chosen = evict::choose(&self.dbs, pool, policy, samples, &clock, below)?;
            if !self.held.has(&chosen.1) {
                return Some(chosen);
            }
        }
        None
    }

    /// Evicts a key, if there is one to choose. What it gives are bytes of messages to those who have the key cached:
    /// they soon go out, and if they counted, more keys would have to go for them, and be told of.
    fn evict_one(&mut self, io: &mut dyn Io) -> Option<usize> {
        let (db, key) = self.choose_victim()?;
        let start_ns = io.mono_ns();
        let hash = self.dbs.hash(&key);
        let Some(entry) = self.dbs.db_mut(db).remove(hash, &key) else {
            return Some(0);
        };
        discard(&mut self.to_free, entry, self.config.lazyfree_lazy_eviction);
        self.latency_sample("eviction-del", (io.mono_ns() - start_ns) / 1_000_000);
        self.stats.evicted_keys += 1;
        self.watch.touch_deleted(db, &key);
        let told = self.tell_evicted(io, &key);
        if self
            .config
            .notify_keyspace_events
            .intersects(NotifyFlags::EVICTED)
        {
            let key = bytes::Bytes::copy_from_slice(&key);
            self.unit.events.push(Event {
                class: NotifyFlags::EVICTED,
                name: "evicted",
                db,
                key,
            });
        }
        let name: &[u8] = if self.config.lazyfree_lazy_eviction {
            b"UNLINK"
        } else {
            b"DEL"
        };
        self.unit.push(db, &[name, &key]);
        self.end_unit(io);
        Some(told)
    }

    /// Tells those who have a key cached that it is evicted, and how much memory that took.
    fn tell_evicted(&mut self, io: &dyn Io, key: &[u8]) -> usize {
        if !self.unit.tracked {
            return 0;
        }
        let before = io.used_memory();
        self.unit.note_touched(key);
        self.tell_trackers(None);
        io.used_memory().saturating_sub(before)
    }

    /// Keeps the clock of the time spent over the limit.
    fn note_room(&mut self, io: &dyn Io, fits: bool) {
        let now_us = io.mono_ns() / 1000;
        match (fits, self.stats.exceeded_since_us) {
            (false, None) => self.stats.exceeded_since_us = Some(now_us),
            (true, Some(since)) => {
                self.stats.exceeded_us += now_us.saturating_sub(since);
                self.stats.exceeded_since_us = None;
            }
            _ => {}
        }
    }

    /// Hands what was displaced and is dear to free to the freeing thread.
    pub fn free_displaced(&mut self) {
        for left in std::mem::take(&mut self.to_free) {
            self.free_later_told(Box::new(left.entry), 1, left.lazily);
        }
    }
}
