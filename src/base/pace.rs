//! How slow a job is to be: tests and the curious make a save or a load last (`rdb-key-save-delay`, `key-load-delay`).

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A job that rests looks so often whether it still should, in µs.
const LOOK_US: u64 = 10_000;

/// See the head of the file. It is shared by the job and whoever may change it meanwhile.
#[derive(Debug, Default)]
pub struct Pace(AtomicI64);

impl Pace {
    /// By a setting: so many µs at each item; if it is negative, one µs at every so many items; 0 is as fast as can be.
    pub fn new(setting_us: i64) -> Pace {
        Pace(AtomicI64::new(setting_us))
    }

    /// Another setting; a rest that has begun becomes as long as that says.
    pub fn set(&self, setting_us: i64) {
        self.0.store(setting_us, Ordering::Relaxed);
    }

    /// True if the job need not rest at all.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// How long to rest at this item, in µs.
    pub fn rest_us(&self, item: u64) -> u64 {
        match self.0.load(Ordering::Relaxed) {
            0 => 0,
            us @ 1.. => us.unsigned_abs(),
            every => u64::from(item.is_multiple_of(every.unsigned_abs())),
        }
    }

    /// Rests at this item, for as long as the job is wanted.
    pub fn rest(&self, item: u64, is_wanted: impl Fn() -> bool) {
        let mut rested_us = 0;
        while is_wanted() {
            let us = self.rest_us(item).saturating_sub(rested_us).min(LOOK_US);
            if us == 0 {
                return;
            }
            std::thread::sleep(Duration::from_micros(us));
            rested_us += us;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_follows_the_setting_of_the_moment() {
        let pace = Pace::new(-3);
        assert_eq!(
            [1, 2, 3, 4, 5, 6].map(|item| pace.rest_us(item)),
            [0, 0, 1, 0, 0, 1]
        );
        pace.set(7);
        assert_eq!(pace.rest_us(1), 7);
        // An hour, but the setting changes at the second look.
        pace.set(3_600_000_000);
        let looks = AtomicI64::new(0);
        pace.rest(1, || {
            if looks.fetch_add(1, Ordering::Relaxed) == 1 {
                pace.set(0);
            }
            true
        });
        assert!(pace.is_full());
        assert_eq!(looks.into_inner(), 2);
        pace.set(3_600_000_000);
        pace.rest(1, || false);
    }
}
