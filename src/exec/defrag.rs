//! Active defragmentation: when it runs, and for how long at a time.
//!
//! Ten times a second the waste is looked at: bytes of the pages that hold blocks, above those of the blocks. From
//! `active-defrag-threshold-lower` percent on a walk over the data begins ([`db::defrag`](crate::db::defrag)), which takes
//! `active-defrag-cycle-min` percent of a processor, up to `-max` at `-threshold-upper`. It rests while a snapshot is
//! alive: what that shares can't move.
//!
//! Redis takes its share in one piece a cron, 25 ms of 100 at its hardest. Here it comes in slices of half a
//! millisecond, so that nobody waits for it.

use super::io::Io;
use super::server::Server;
use crate::base::alloc;
use crate::db::defrag::{KeyCounts, Walk};
use crate::ds::defrag::Mover;

/// How long a slice takes.
const SLICE_NS: u64 = 500_000;
/// How often the waste is looked at.
const LOOK_NS: u64 = 100_000_000;
/// How long there is no other look after a walk that has moved nothing.
const REST_NS: u64 = 1_000_000_000;

/// What is done about waste.
#[derive(Debug, Default)]
pub struct Defrag {
    /// Percent of a processor that the walk takes; 0 while there is none.
    pub percent: u32,
    walk: Walk,
    /// The script that comes next, once the databases are done.
    script: Option<usize>,
    /// When the waste is looked at next, and when the next slice begins: monotonic, in ns.
    next_look_ns: u64,
    next_slice_ns: u64,
    /// When it began to run, and when this walk began; `None` if it does not.
    since_ns: Option<u64>,
    walk_since_ns: u64,
    walk_hits: u64,
    /// Blocks that were moved and left, since the last CONFIG RESETSTAT.
    pub hits: u64,
    pub misses: u64,
    /// The same for keys.
    pub keys: KeyCounts,
    /// How long it ran before this time.
    total_ns: u64,
}

impl Defrag {
    /// How long it has run this time, in ns.
    pub fn current_ns(&self, now_ns: u64) -> u64 {
        self.since_ns
            .map_or(0, |since_ns| now_ns.saturating_sub(since_ns))
    }

    /// How long it has run in all.
    pub fn total_ns(&self, now_ns: u64) -> u64 {
        self.total_ns + self.current_ns(now_ns)
    }

    /// Forgets what was counted (CONFIG RESETSTAT).
    pub fn reset_stats(&mut self) {
        (self.hits, self.misses, self.keys, self.total_ns) = (0, 0, KeyCounts::default(), 0);
    }

    fn begin(&mut self, percent: u32, now_ns: u64) {
        self.percent = percent;
        self.since_ns.get_or_insert(now_ns);
    }

    fn end(&mut self, now_ns: u64) {
        self.total_ns += self.current_ns(now_ns);
        self.since_ns = None;
        self.percent = 0;
        self.walk = Walk::default();
        self.script = None;
    }
}

/// Waste, in percent of what is in use, and in bytes.
struct Waste {
    percent: f64,
    bytes: usize,
}

impl Server {
    /// When there is something to do for it next: monotonic time in ns.
    pub fn next_defrag_ns(&self) -> Option<u64> {
        let defrag = &self.defrag;
        let may_run = defrag.percent > 0 && !self.dbs.has_snapshot();
        may_run.then_some(defrag.next_slice_ns.min(defrag.next_look_ns))
    }

    /// Moves some of what lies on pages that are nearly empty, if its time has come.
    pub fn defrag(&mut self, io: &mut dyn Io) {
        if !self.config.activedefrag {
            if self.defrag.percent > 0 {
                self.defrag.end(io.mono_ns());
            }
            return;
        }
        if self.dbs.has_snapshot() {
            return;
        }
        let now_ns = io.mono_ns();
        if now_ns >= self.defrag.next_look_ns {
            self.look_at_waste(io);
        }
        if self.defrag.percent == 0 || now_ns < self.defrag.next_slice_ns {
            return;
        }
        let mut mover = Mover::new(&alloc::is_sparse);
        let parts_max = self.config.active_defrag_max_scan_fields;
        let defrag = &mut self.defrag;
        let mut goes_on = true;
        let mut end_ns = now_ns;
        while goes_on && end_ns - now_ns < SLICE_NS {
            if let Some(script) = defrag.script {
                defrag.script = self.scripting.cache.defrag(script, &mut mover);
                goes_on = defrag.script.is_some();
            } else if !defrag
                .walk
                .step(&mut self.dbs, parts_max, &mut mover, &mut defrag.keys)
            {
                defrag.script = Some(0);
            }
            end_ns = io.mono_ns();
        }
        defrag.hits += mover.hits;
        defrag.misses += mover.misses;
        let share = u64::from(defrag.percent.clamp(1, 99));
        defrag.next_slice_ns = end_ns + (end_ns - now_ns) * (100 - share) / share;
        self.latency_sample("active-defrag-cycle", (end_ns - now_ns) / 1_000_000);
        if !goes_on {
            self.walk_is_done(io, end_ns);
        }
    }

    fn walk_is_done(&mut self, io: &mut dyn Io, now_ns: u64) {
        let waste = waste(io);
        let defrag = &mut self.defrag;
        log::debug!(
            "Active defrag done in {}ms, reallocated={}, frag={:.0}%, frag_bytes={}",
            now_ns.saturating_sub(defrag.walk_since_ns) / 1_000_000,
            defrag.hits.saturating_sub(defrag.walk_hits),
            waste.percent,
            waste.bytes
        );
        defrag.percent = 0;
        if defrag.hits != defrag.walk_hits {
            self.judge(&waste, now_ns);
        } else {
            // What could not be moved now can't be at once either.
            defrag.next_look_ns = now_ns + REST_NS;
        }
        if self.defrag.percent == 0 {
            self.defrag.end(now_ns);
        }
    }

    fn look_at_waste(&mut self, io: &mut dyn Io) {
        let now_ns = io.mono_ns();
        self.defrag.next_look_ns = now_ns + LOOK_NS;
        let waste = waste(io);
        self.judge(&waste, now_ns);
    }

    /// Starts a walk if there is so much waste, or makes a running one work harder.
    fn judge(&mut self, waste: &Waste, now_ns: u64) {
        let config = &self.config;
        let (lower, upper) = (
            f64::from(config.active_defrag_threshold_lower),
            f64::from(config.active_defrag_threshold_upper),
        );
        let is_idle = self.defrag.percent == 0;
        if is_idle && (waste.percent < lower || waste.bytes < config.active_defrag_ignore_bytes) {
            return;
        }
        let (min, max) = (
            config.active_defrag_cycle_min,
            config.active_defrag_cycle_max,
        );
        let (least, most) = (f64::from(min), f64::from(max));
        let percent = least + (waste.percent - lower) * (most - least) / (upper - lower);
        // (Between limits in this order even where the directives contradict each other. A cast cuts what is no number.)
        let percent = (percent as u32).max(min).min(max);
        let defrag = &mut self.defrag;
        if percent <= defrag.percent {
            return;
        }
        log::debug!(
            "Starting active defrag, frag={:.0}%, frag_bytes={}, cpu={percent}%",
            waste.percent,
            waste.bytes
        );
        if is_idle {
            (defrag.walk_since_ns, defrag.walk_hits) = (now_ns, defrag.hits);
        }
        defrag.begin(percent, now_ns);
    }
}

fn waste(io: &mut dyn Io) -> Waste {
    let figures = io.memory();
    let (active, allocated) = (figures.active, figures.allocated.max(1));
    Waste {
        percent: active as f64 / allocated as f64 * 100.0 - 100.0,
        bytes: active.saturating_sub(allocated),
    }
}
