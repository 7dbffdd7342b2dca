//! The active expire cycle: keys whose time is over go even if nobody asks for them.
//!
//! Redis samples keys at random and goes on while many of them turn out to be due. Here the dict knows, page by page and
//! segment by segment, before which time nothing can be due, so nothing is sampled: a cycle visits what is due and nothing
//! else, and ten keys with an expiry among ten million cost as much as ten alone.
//!
//! What stays as in Redis is how much of the loop's time it may take. A *slow* cycle runs `hz` times a second and may take
//! a quarter of that time. If it did not get through, *fast* cycles of a millisecond follow before each sleep, with pauses
//! as long as themselves. `active-expire-effort` raises both. Time is measured by the caller, between steps.

use crate::object::Entry;

use super::keyspace::Databases;

const FAST_US: u64 = 1000;
const SLOW_PERCENT: u64 = 25;
/// Keys looked at in a step: some tens of microseconds.
const STEP_BUDGET: usize = 512;
/// Expired keys handed out by a step, so that what each of them entails is within the time measured too.
const STEP_KEYS: usize = 64;
/// Keys sampled for the mean time to live of a database.
const TTL_SAMPLES: usize = 20;

/// The two kinds of cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Fast,
    Slow,
}

/// The cycle, and what it remembers from one run to the next.
#[derive(Default)]
pub struct Cycle {
    /// The database to go on with, and the place in it.
    db: u32,
    cursor: u64,
    /// Databases that this run has yet to get through.
    left: u32,
    /// The last run ended because its time was up.
    behind: bool,
    last_fast_us: u64,
    /// Keys with an expiry when the run began, and what it has taken out.
    had: usize,
    removed: usize,
    stale_share: f64,
    times_cut: u64,
}

impl Cycle {
    /// Begins a run: the microseconds it may take, or `None` if it is not its time. `effort` is `active-expire-effort`
    /// (1 to 10), `now_us` any clock that does not jump.
    pub fn begin(
        &mut self,
        kind: Kind,
        effort: u32,
        hz: u32,
        now_us: u64,
        dbs: &Databases,
    ) -> Option<u64> {
        let effort = u64::from(effort.clamp(1, 10) - 1);
        let fast_us = FAST_US + FAST_US / 4 * effort;
        let budget_us = match kind {
            Kind::Slow => {
                let percent = SLOW_PERCENT + 2 * effort;
                (percent * 1_000_000 / u64::from(hz.max(1)) / 100).max(1)
            }
            Kind::Fast => {
                if !self.behind || now_us < self.last_fast_us.saturating_add(2 * fast_us) {
                    return None;
                }
                self.last_fast_us = now_us;
                fast_us
            }
        };
        self.behind = false;
        self.left = dbs.count() as u32;
        self.had = dbs.expiring_len();
        self.removed = 0;
        Some(budget_us)
    }

    /// Takes some keys out that are due at `now_ms`, but for those that are to stay, and adds them to `gone`, each with its
    /// database. False when everything that was due is out.
    pub fn step(
        &mut self,
        dbs: &mut Databases,
        now_ms: u64,
        stays: impl Fn(&[u8]) -> bool,
        gone: &mut Vec<(u32, Entry)>,
    ) -> bool {
        let before = gone.len();
        let mut budget = STEP_BUDGET;
        while self.left > 0 {
            let index = self.db % dbs.count() as u32;
            let db = dbs.db_mut(index);
            if db.earliest_expiry_ms().is_some_and(|at| at < now_ms) {
                let round = db.expire(now_ms, self.cursor, budget, &stays, |entry| {
                    gone.push((index, entry));
                });
                self.cursor = round.cursor;
                budget = budget.saturating_sub(round.cost.max(1));
            } else {
                self.cursor = 0;
            }
            // A round that began in the middle has yet to see the beginning: that is the next run's.
            if self.cursor == 0 {
                self.db = (index + 1) % dbs.count() as u32;
                self.left -= 1;
            }
            if budget == 0 || gone.len() - before >= STEP_KEYS {
                break;
            }
        }
        self.removed += gone.len() - before;
        self.left > 0
    }

    /// Ends a run; `cut` if its time was up before [`step`](Self::step) said that it was through.
    pub fn end(&mut self, cut: bool) {
        self.behind = cut;
        self.times_cut += u64::from(cut);
        let share = if self.had > 0 {
            self.removed as f64 / self.had as f64
        } else {
            0.0
        };
        self.stale_share = share * 0.05 + self.stale_share * 0.95;
    }

    /// The share of keys with an expiry that were found overdue, in percent, a running mean (`expired_stale_perc`).
    pub fn stale_percent(&self) -> f64 {
        self.stale_share * 100.0
    }

    /// How often the time was up before everything was out (`expired_time_cap_reached_count`).
    pub fn times_cut(&self) -> u64 {
        self.times_cut
    }

    /// Forgets the count of [`times_cut`](Self::times_cut) and the running mean (CONFIG RESETSTAT).
    pub fn reset_stats(&mut self) {
        self.times_cut = 0;
        self.stale_share = 0.0;
    }
}

/// Brings the running mean of each database's time to live up to date, from a few of its keys. Once a slow cycle.
pub fn note_ttls(dbs: &mut Databases, now_ms: u64, mut below: impl FnMut(u64) -> u64) {
    for index in 0..dbs.count() as u32 {
        let db = dbs.db_mut(index);
        let (mut sum, mut alive) = (0u64, 0);
        db.sample(TTL_SAMPLES, true, &mut below, |entry| {
            let left = entry.expiry_ms().unwrap_or(0).saturating_sub(now_ms);
            if left > 0 {
                sum = sum.saturating_add(left);
                alive += 1;
            }
        });
        let mean = sum.checked_div(alive).unwrap_or(0);
        db.avg_ttl_ms = match db.avg_ttl_ms {
            _ if db.expiring_len() == 0 => 0,
            old if alive == 0 => old,
            0 => mean,
            old => old / 50 * 49 + mean / 50,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::db::keyspace::Expiry;
    use crate::ds::dict::HashKey;
    use crate::object::Value;

    const NOW: u64 = 1_700_000_000_000;

    fn databases(keys: u64, expiry: impl Fn(u64) -> Expiry) -> Databases {
        let mut dbs = Databases::new(4, HashKey::new(5, 6));
        for i in 0..keys {
            let key = i.to_string();
            let hash = dbs.hash(key.as_bytes());
            let db = dbs.db_mut((i % 4) as u32);
            db.set(
                hash,
                key.as_bytes(),
                Value::Int(i as i64),
                expiry(i),
                NOW,
                |_| 0,
            );
        }
        dbs
    }

    fn run(cycle: &mut Cycle, dbs: &mut Databases, now_ms: u64) -> (usize, usize) {
        cycle
            .begin(Kind::Slow, 1, 10, 0, dbs)
            .expect("a slow cycle always runs");
        let (mut gone, mut steps) = (Vec::new(), 1);
        while cycle.step(dbs, now_ms, |_| false, &mut gone) {
            steps += 1;
        }
        cycle.end(false);
        assert!(gone.iter().all(|(_, entry)| entry.is_expired(now_ms)));
        (gone.len(), steps)
    }

    #[test]
    fn a_run_takes_out_what_is_due_and_only_that() {
        let mut dbs = databases(20_000, |i| match i % 4 {
            0 => Expiry::Clear,
            n => Expiry::At(NOW + n * 100),
        });
        let mut cycle = Cycle::default();
        assert_eq!(
            run(&mut cycle, &mut dbs, NOW + 100).0,
            0,
            "the millisecond itself is still alive"
        );
        assert_eq!(run(&mut cycle, &mut dbs, NOW + 101).0, 5000);
        assert_eq!(run(&mut cycle, &mut dbs, NOW + 1000).0, 10_000);
        assert_eq!((dbs.len(), dbs.expiring_len()), (5000, 0));
    }

    #[test]
    fn few_keys_among_many_are_found_in_a_step() {
        let mut dbs = databases(200_000, |i| match i % 20_000 {
            7 => Expiry::At(NOW + 1),
            _ => Expiry::Clear,
        });
        let mut cycle = Cycle::default();
        let (gone, steps) = run(&mut cycle, &mut dbs, NOW + 2);
        assert_eq!(gone, 10);
        assert!(steps < 20, "{steps} steps");
        let (gone, steps) = run(&mut cycle, &mut dbs, NOW + 1000);
        assert_eq!((gone, steps), (0, 1));
    }

    #[test]
    fn a_cut_run_goes_on_where_it_was_and_lets_fast_ones_follow() {
        let mut dbs = databases(40_000, |_| Expiry::At(NOW));
        let mut cycle = Cycle::default();
        let mut gone = Vec::new();
        assert_eq!(
            cycle.begin(Kind::Fast, 1, 10, 5000, &dbs),
            None,
            "nothing is behind"
        );
        assert_eq!(
            cycle.begin(Kind::Slow, 1, 10, 5000, &dbs),
            Some(25_000),
            "a quarter of 100 ms"
        );
        assert!(cycle.step(&mut dbs, NOW + 1, |_| false, &mut gone));
        cycle.end(true);
        assert_eq!(cycle.times_cut(), 1);
        let mut now_us = 10_000;
        while !dbs.is_empty() {
            assert_eq!(cycle.begin(Kind::Fast, 1, 10, now_us, &dbs), Some(1000));
            let more = cycle.step(&mut dbs, NOW + 1, |_| false, &mut gone);
            cycle.end(more);
            assert_eq!(cycle.begin(Kind::Fast, 1, 10, now_us + 1999, &dbs), None);
            now_us += 2000;
        }
        assert_eq!(gone.len(), 40_000);
        assert!(cycle.stale_percent() > 0.0);
    }

    #[test]
    fn the_mean_time_to_live_is_taken_from_live_keys() {
        let mut dbs = databases(4000, |_| Expiry::At(NOW + 10_000));
        let mut rng = Rng::new(1);
        note_ttls(&mut dbs, NOW, |n| rng.below(n));
        assert_eq!(dbs.db(0).avg_ttl_ms, 10_000);
        note_ttls(&mut dbs, NOW + 5000, |n| rng.below(n));
        assert_eq!(dbs.db(0).avg_ttl_ms, 10_000 / 50 * 49 + 5000 / 50);
        run(&mut Cycle::default(), &mut dbs, NOW + 20_000);
        note_ttls(&mut dbs, NOW + 20_000, |n| rng.below(n));
        assert_eq!(dbs.db(0).avg_ttl_ms, 0);
    }
}
