//! Eviction: which key goes when memory is short.
//!
//! Exact LRU would need a list through all keys. Instead a few keys are sampled from each database, and a *pool* keeps the
//! sixteen best candidates seen so far, over many evictions: the longer it is fed, the closer its best comes to the true
//! one. "Best" is a score: milliseconds idle (LRU), 255 minus the access counter (LFU), or the nearness of the expiry. Keys
//! that were deleted meanwhile stay in the pool as ghosts and are passed over.
//!
//! The random policies need no pool: they take a key of one database after the other.

use std::collections::VecDeque;

use crate::config::MaxmemoryPolicy;
use crate::object::{AccessClock, Entry};

use super::keyspace::{Databases, Keyspace};

const POOL_MAX: usize = 16;

/// What eviction remembers from one key to the next.
#[derive(Default)]
pub struct Pool {
    /// Candidates, the worst first.
    candidates: VecDeque<Candidate>,
    /// The database that a random policy took from last.
    last_db: u32,
}

struct Candidate {
    score: u64,
    db: u32,
    key: Box<[u8]>,
}

impl Pool {
    fn offer(&mut self, score: u64, db: u32, key: &[u8]) {
        let at = self.candidates.partition_point(|c| c.score < score);
        if self.candidates.len() == POOL_MAX {
            if at == 0 {
                return;
            }
            self.candidates.pop_front();
            let key = key.into();
            self.candidates.insert(at - 1, Candidate { score, db, key });
        } else {
            let key = key.into();
            self.candidates.insert(at, Candidate { score, db, key });
        }
    }
}

/// The key that goes next under `policy`, with its database; `None` if there is none that may go. `samples` is
/// `maxmemory-samples`, `below` draws a number less than its argument.
pub fn choose(
    dbs: &Databases,
    pool: &mut Pool,
    policy: MaxmemoryPolicy,
    samples: usize,
    clock: &AccessClock,
    mut below: impl FnMut(u64) -> u64,
) -> Option<(u32, Box<[u8]>)> {
    use MaxmemoryPolicy::*;
    match policy {
        NoEviction => None,
        AllkeysRandom | VolatileRandom => {
            choose_random(dbs, pool, policy.is_volatile(), &mut below)
        }
        AllkeysLru | VolatileLru | AllkeysLfu | VolatileLfu | VolatileTtl => loop {
            if !sample_all(dbs, pool, policy, samples, clock, &mut below) {
                return None;
            }
            while let Some(best) = pool.candidates.pop_back() {
                let db = dbs.db(best.db);
                let entry = db.get(db.hash(&best.key), &best.key);
                if entry.is_some_and(|e| !policy.is_volatile() || e.expiry_ms().is_some()) {
                    return Some((best.db, best.key));
                }
            }
        },
    }
}

/// Feeds the pool from every database that has keys which may go. False if none has.
fn sample_all(
    dbs: &Databases,
    pool: &mut Pool,
    policy: MaxmemoryPolicy,
    samples: usize,
    clock: &AccessClock,
    below: &mut impl FnMut(u64) -> u64,
) -> bool {
    let mut any = false;
    for (index, db) in (0..).zip(dbs.iter()) {
        if candidates(db, policy.is_volatile()) > 0 {
            any = true;
            db.sample(samples, policy.is_volatile(), &mut *below, |entry| {
                pool.offer(score(entry, policy, clock), index, entry.key());
            });
        }
    }
    any
}

fn choose_random(
    dbs: &Databases,
    pool: &mut Pool,
    volatile: bool,
    below: &mut impl FnMut(u64) -> u64,
) -> Option<(u32, Box<[u8]>)> {
    let count = dbs.count() as u32;
    for _ in 0..count {
        pool.last_db = (pool.last_db + 1) % count;
        let db = dbs.db(pool.last_db);
        let entry = if volatile {
            db.random_expiring(&mut *below)
        } else {
            db.random(&mut *below)
        };
        if let Some(entry) = entry {
            return Some((pool.last_db, entry.key().into()));
        }
    }
    None
}

fn candidates(db: &Keyspace, volatile: bool) -> usize {
    if volatile {
        db.expiring_len()
    } else {
        db.len()
    }
}

/// How much a key deserves to go.
fn score(entry: &Entry, policy: MaxmemoryPolicy, clock: &AccessClock) -> u64 {
    if policy == MaxmemoryPolicy::VolatileTtl {
        u64::MAX - entry.expiry_ms().unwrap_or(u64::MAX)
    } else if policy.is_lfu() {
        u64::from(u8::MAX - clock.lfu_counter(entry.access()))
    } else {
        clock.idle_ms(entry.access())
    }
}

/// For how long one round of evictions may hold the loop, in microseconds, by `maxmemory-eviction-tenacity` (0 to 100):
/// up to 10 it grows evenly to half a millisecond, then by 15 % a step to two minutes, and 100 knows no limit.
pub fn time_limit_us(tenacity: u32) -> u64 {
    match tenacity {
        0..=10 => 50 * u64::from(tenacity),
        11..=99 => (500.0 * 1.15f64.powi(tenacity as i32 - 10)) as u64,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use crate::db::keyspace::Expiry;
    use crate::ds::dict::HashKey;
    use crate::object::Value;
    use crate::object::access::{AccessPolicy, lfu_bits, lfu_minute, lru_clock};

    const NOW: u64 = 1_700_000_000_000;
    const KEYS: u64 = 2000;

    /// Keys 0, 1, 2 ... in two databases, key `i` with the access bits and the expiry that `of` gives.
    fn databases(of: impl Fn(u64) -> (u32, Option<u64>)) -> Databases {
        let mut dbs = Databases::new(3, HashKey::new(3, 4));
        for i in 0..KEYS {
            let (access, expiry_ms) = of(i);
            let key = i.to_string();
            let hash = dbs.hash(key.as_bytes());
            let expiry = expiry_ms.map_or(Expiry::Clear, Expiry::At);
            let db = dbs.db_mut((i % 2) as u32 * 2);
            db.set(hash, key.as_bytes(), Value::Int(0), expiry, NOW, |_| access);
        }
        dbs
    }

    /// Evicts `n` keys and returns their numbers.
    fn evict(
        dbs: &mut Databases,
        policy: MaxmemoryPolicy,
        clock: &AccessClock,
        n: usize,
    ) -> Vec<u64> {
        let (mut pool, mut rng) = (Pool::default(), Rng::new(7));
        let mut gone = Vec::new();
        while gone.len() < n {
            let chosen = choose(dbs, &mut pool, policy, 10, clock, |n| rng.below(n));
            let Some((db, key)) = chosen else { break };
            let hash = dbs.hash(&key);
            dbs.db_mut(db)
                .remove(hash, &key)
                .expect("chosen keys are there");
            gone.push(std::str::from_utf8(&key).unwrap().parse().unwrap());
        }
        gone
    }

    /// Keys are numbered in the order in which they should go: the mean of those that went must be well below chance.
    fn assert_biased(gone: &[u64]) {
        let mean = gone.iter().sum::<u64>() / gone.len() as u64;
        assert!(
            mean < KEYS / 5,
            "mean {mean} of {} keys that went",
            gone.len()
        );
    }

    #[test]
    fn lru_lfu_and_ttl_evict_the_best_candidates_first() {
        let lru = AccessClock::new(AccessPolicy::Lru, NOW);
        let mut dbs = databases(|i| (lru_clock(NOW) - (KEYS - i) as u32, None));
        assert_biased(&evict(
            &mut dbs,
            MaxmemoryPolicy::AllkeysLru,
            &lru,
            KEYS as usize / 4,
        ));

        let policy = AccessPolicy::Lfu {
            log_factor: 10,
            decay_time_min: 1,
        };
        let lfu = AccessClock::new(policy, NOW);
        let mut dbs = databases(|i| (lfu_bits(lfu_minute(NOW), (i / 8) as u8), None));
        assert_biased(&evict(
            &mut dbs,
            MaxmemoryPolicy::AllkeysLfu,
            &lfu,
            KEYS as usize / 4,
        ));

        let mut dbs = databases(|i| (0, Some(NOW + i * 1000)));
        assert_biased(&evict(
            &mut dbs,
            MaxmemoryPolicy::VolatileTtl,
            &lru,
            KEYS as usize / 4,
        ));
    }

    #[test]
    fn volatile_policies_spare_keys_without_an_expiry_and_end_with_the_last() {
        use MaxmemoryPolicy::*;
        let clock = AccessClock::new(AccessPolicy::Lru, NOW);
        for policy in [VolatileLru, VolatileLfu, VolatileTtl, VolatileRandom] {
            let mut dbs = databases(|i| (0, i.is_multiple_of(50).then_some(NOW + 1)));
            let mut gone = evict(&mut dbs, policy, &clock, usize::MAX);
            gone.sort_unstable();
            assert_eq!(gone, (0..KEYS).step_by(50).collect::<Vec<_>>());
        }
        let mut dbs = databases(|_| (0, None));
        assert_eq!(
            evict(&mut dbs, AllkeysRandom, &clock, usize::MAX).len() as u64,
            KEYS
        );
        assert!(
            evict(
                &mut databases(|_| (0, None)),
                NoEviction,
                &clock,
                usize::MAX
            )
            .is_empty()
        );
    }

    #[test]
    fn tenacity_follows_redis() {
        assert_eq!(
            [0, 1, 10].map(time_limit_us),
            [0, 50, 500],
            "evenly up to half a millisecond"
        );
        assert_eq!(time_limit_us(11), 575);
        assert!((125_000_000..150_000_000).contains(&time_limit_us(99)));
        assert_eq!(time_limit_us(100), u64::MAX);
    }
}
