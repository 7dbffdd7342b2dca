//! Access bits: 24 bits a key that tell eviction how recently (LRU) or how often (LFU) the key was used.
//!
//! ```text
//! LRU   | clock of the last access, seconds, wraps after 194 days      24 |
//! LFU   | minute of the last access, wraps after 45 days   16 | counter 8 |
//! ```
//!
//! The LFU counter is logarithmic: the higher it stands, the less likely an access raises it, and it loses one for each
//! `lfu-decay-time` minutes without an access. A new key starts at 5, so that it is not the first to go.
//!
//! Everything here is arithmetic: the time and the random number come from the caller.

/// The largest value of the 24 bits, and of the LRU clock.
pub const ACCESS_MAX: u32 = (1 << 24) - 1;
/// Milliseconds in a tick of the LRU clock.
pub const LRU_CLOCK_RESOLUTION_MS: u64 = 1000;
/// The counter of a key just created.
pub const LFU_INIT: u8 = 5;

/// Which reading of the bits `maxmemory-policy` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessPolicy {
    Lru,
    /// With `lfu-log-factor` and `lfu-decay-time` (minutes; 0: never).
    Lfu {
        log_factor: u32,
        decay_time_min: u32,
    },
}

/// The access clock of one moment: what is written into a key that is created or used now.
#[derive(Clone, Copy, Debug)]
pub struct AccessClock {
    policy: AccessPolicy,
    now_ms: u64,
}

impl AccessClock {
    /// The clock at `now_ms`, Unix time in milliseconds.
    pub fn new(policy: AccessPolicy, now_ms: u64) -> AccessClock {
        AccessClock { policy, now_ms }
    }

    /// The bits of a key created now.
    pub fn fresh(&self) -> u32 {
        match self.policy {
            AccessPolicy::Lru => lru_clock(self.now_ms),
            AccessPolicy::Lfu { .. } => lfu_bits(lfu_minute(self.now_ms), LFU_INIT),
        }
    }

    /// The bits after an access now. `random` gives a number in `[0, 1)`; it is asked only where the outcome hangs on it.
    pub fn touched(&self, bits: u32, random: impl FnOnce() -> f64) -> u32 {
        match self.policy {
            AccessPolicy::Lru => lru_clock(self.now_ms),
            AccessPolicy::Lfu { log_factor, .. } => {
                let counter = lfu_log_incr(self.lfu_counter(bits), log_factor, random);
                lfu_bits(lfu_minute(self.now_ms), counter)
            }
        }
    }

    /// The LFU counter as it stands now, decayed for the minutes since the last access.
    pub fn lfu_counter(&self, bits: u32) -> u8 {
        let AccessPolicy::Lfu { decay_time_min, .. } = self.policy else {
            return bits as u8;
        };
        let elapsed = lfu_elapsed_min((bits >> 8) as u16, lfu_minute(self.now_ms));
        let periods = u32::from(elapsed).checked_div(decay_time_min).unwrap_or(0);
        (bits as u8).saturating_sub(periods.min(255) as u8)
    }

    /// Milliseconds since the last access, as the LRU clock can tell it.
    pub fn idle_ms(&self, bits: u32) -> u64 {
        lru_idle_ms(bits, lru_clock(self.now_ms))
    }

    /// The bits of a key that comes from elsewhere with its idle time or its LFU counter (RESTORE, an RDB file);
    /// `None` where the policy in force has no use for what is given.
    pub fn restored(&self, idle_s: Option<u64>, counter: Option<u8>) -> Option<u32> {
        match self.policy {
            AccessPolicy::Lfu { .. } => counter.map(|c| lfu_bits(lfu_minute(self.now_ms), c)),
            // An access before the clock's last turn lies near the clock's end.
            AccessPolicy::Lru => idle_s.map(|idle| {
                let clock = lru_clock(self.now_ms);
                match u32::try_from(idle) {
                    Ok(ticks) if ticks <= clock => clock - ticks,
                    Ok(ticks) if ticks <= ACCESS_MAX => clock + ACCESS_MAX - ticks,
                    // Longer ago than the clock can say.
                    _ => (clock + 1) & ACCESS_MAX,
                }
            }),
        }
    }
}

/// The LRU clock at `now_ms`.
pub fn lru_clock(now_ms: u64) -> u32 {
    (now_ms / LRU_CLOCK_RESOLUTION_MS) as u32 & ACCESS_MAX
}

/// Milliseconds between an access at clock `then` and clock `now`, which wrapped at most once.
pub fn lru_idle_ms(then: u32, now: u32) -> u64 {
    let ticks = if now >= then {
        now - then
    } else {
        now + (ACCESS_MAX - then)
    };
    u64::from(ticks) * LRU_CLOCK_RESOLUTION_MS
}

/// Access bits from an LFU minute and counter.
pub fn lfu_bits(minute: u16, counter: u8) -> u32 {
    u32::from(minute) << 8 | u32::from(counter)
}

/// The LFU minute at `now_ms`.
pub fn lfu_minute(now_ms: u64) -> u16 {
    (now_ms / 60_000) as u16
}

fn lfu_elapsed_min(then: u16, now: u16) -> u16 {
    if now >= then {
        now - then
    } else {
        u16::MAX - then + now
    }
}

fn lfu_log_incr(counter: u8, log_factor: u32, random: impl FnOnce() -> f64) -> u8 {
    let above_init = counter.saturating_sub(LFU_INIT);
    let odds = 1.0 / (f64::from(above_init) * f64::from(log_factor) + 1.0);
    if counter < u8::MAX && (odds >= 1.0 || random() < odds) {
        counter + 1
    } else {
        counter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lfu(log_factor: u32, decay_time_min: u32, minute: u64) -> AccessClock {
        let policy = AccessPolicy::Lfu {
            log_factor,
            decay_time_min,
        };
        AccessClock::new(policy, minute * 60_000)
    }

    #[test]
    fn idle_time_survives_one_wrap_of_the_clock() {
        let clock = |secs: u64| AccessClock::new(AccessPolicy::Lru, secs * 1000);
        let bits = clock(100).fresh();
        assert_eq!(clock(107).idle_ms(bits), 7000);
        let late = clock(u64::from(ACCESS_MAX)).fresh();
        assert_eq!(clock(u64::from(ACCESS_MAX) + 4).idle_ms(late), 3000);
        let restored = clock(1000).restored(Some(400), None);
        assert_eq!(clock(1000).idle_ms(restored.unwrap()), 400_000);
    }

    #[test]
    fn counter_decays_by_one_a_period_down_to_zero() {
        let bits = lfu_bits(10, 100);
        assert_eq!(lfu(10, 1, 10).lfu_counter(bits), 100);
        assert_eq!(lfu(10, 1, 13).lfu_counter(bits), 97);
        assert_eq!(lfu(10, 3, 15).lfu_counter(bits), 99);
        assert_eq!(lfu(10, 1, 1000).lfu_counter(bits), 0);
        assert_eq!(lfu(10, 0, 1000).lfu_counter(bits), 100);
    }

    #[test]
    fn counter_climbs_surely_up_to_its_start_and_by_odds_above() {
        let never = || 0.999_999;
        assert_eq!(
            lfu(10, 1, 0).touched(lfu_bits(0, 3), || unreachable!()),
            lfu_bits(0, 4)
        );
        assert_eq!(lfu(10, 1, 7).touched(lfu_bits(7, 6), never), lfu_bits(7, 6));
        // Five above the start and a factor of 10: one in 51.
        assert_eq!(
            lfu(10, 1, 0).touched(lfu_bits(0, 10), || 1.0 / 51.5),
            lfu_bits(0, 11)
        );
        assert_eq!(
            lfu(10, 1, 0).touched(lfu_bits(0, 10), || 1.0 / 50.5),
            lfu_bits(0, 10)
        );
        assert_eq!(
            lfu(0, 1, 0).touched(lfu_bits(0, 255), || 0.0),
            lfu_bits(0, 255)
        );
    }
}
