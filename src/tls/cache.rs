//! The sessions that a client may resume instead of shaking hands in full: so many, and each for so long.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::server::StoresServerSessions;

use crate::base::time::Clock;

/// See the head of the file.
pub struct SessionCache {
    clock: Clock,
    /// 0: no limit.
    sessions_max: usize,
    lives_ns: u64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    sessions: HashMap<Vec<u8>, Session>,
    /// Their keys, and until when they are good, the oldest first; those that were taken meanwhile too.
    order: VecDeque<(Vec<u8>, u64)>,
}

struct Session {
    value: Vec<u8>,
    until_ns: u64,
}

impl fmt::Debug for SessionCache {
    /// (Secrets are not for the log.)
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionCache")
    }
}

impl SessionCache {
    /// Keeps up to `sessions_max` sessions (0: as many as there are) for `lives_s` seconds each.
    pub fn new(clock: Clock, sessions_max: usize, lives_s: u64) -> SessionCache {
        SessionCache {
            clock,
            sessions_max,
            lives_ns: lives_s.saturating_mul(1_000_000_000),
            kept: Mutex::default(),
        }
    }

    /// What is kept, without those whose time is over.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ns = self.clock.mono_ns();
        while let Some((key, until_ns)) = kept.order.front()
            && *until_ns <= now_ns
        {
            let (key, until_ns) = (key.clone(), *until_ns);
            kept.forget(&key, until_ns);
        }
        kept
    }
}

impl Kept {
    /// The oldest goes.
    fn forget(&mut self, key: &[u8], until_ns: u64) {
        self.order.pop_front();
        if self
            .sessions
            .get(key)
            .is_some_and(|s| s.until_ns == until_ns)
        {
            self.sessions.remove(key);
        }
    }
}

impl StoresServerSessions for SessionCache {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let until_ns = self.clock.mono_ns().saturating_add(self.lives_ns);
        let mut kept = self.kept();
        while self.sessions_max != 0
            && kept.order.len() >= self.sessions_max
            && let Some((key, until_ns)) = kept.order.front().cloned()
        {
            kept.forget(&key, until_ns);
        }
        kept.order.push_back((key.clone(), until_ns));
        kept.sessions.insert(key, Session { value, until_ns });
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.kept().sessions.get(key).map(|s| s.value.clone())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.kept().sessions.remove(key).map(|s| s.value)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_kept_and_each_for_so_long() {
        let cache = SessionCache::new(Clock::system(), 2, 1000);
        for key in [1, 2, 3] {
            assert!(cache.put(vec![key], vec![key * 10]));
        }
        assert_eq!(cache.get(&[1]), None);
        assert_eq!(cache.take(&[2]), Some(vec![20]));
        assert_eq!(cache.get(&[2]), None);
        assert_eq!(cache.get(&[3]), Some(vec![30]));
        let short = SessionCache::new(Clock::system(), 2, 0);
        short.put(vec![1], vec![1]);
        assert_eq!(short.get(&[1]), None);
        assert!(short.kept().order.is_empty());
    }
}
