//! The clocks. This is the one place that reads them; everything else is handed the time.
//!
//! Three clocks, three uses: the *monotonic* one measures spans (it never goes back), *unix time* dates things (it may
//! jump), and the *thread's CPU time* says how long the loop itself was busy, whatever else ran on the machine.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time: the system's, or one that a test moves by hand. Clones share it.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System { start: Instant },
    Manual(Arc<Manual>),
}

struct Manual {
    mono_ns: AtomicU64,
    unix_us: AtomicU64,
}

impl Clock {
    /// The system's clocks.
    pub fn system() -> Clock {
        Clock(Source::System {
            start: Instant::now(),
        })
    }

    /// A clock that stands at this unix time until [`Clock::advance`] moves it.
    pub fn manual(unix_us: u64) -> Clock {
        Clock(Source::Manual(Arc::new(Manual {
            mono_ns: AtomicU64::new(0),
            unix_us: AtomicU64::new(unix_us),
        })))
    }

    /// Nanoseconds since some start; never goes back.
    #[inline]
    pub fn mono_ns(&self) -> u64 {
        match &self.0 {
            Source::System { start } => start.elapsed().as_nanos() as u64,
            Source::Manual(manual) => manual.mono_ns.load(Relaxed),
        }
    }

    /// Unix time in microseconds.
    #[inline]
    pub fn unix_us(&self) -> u64 {
        match &self.0 {
            // Before 1970 the system's clock is as good as unset.
            Source::System { .. } => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| d.as_micros() as u64),
            Source::Manual(manual) => manual.unix_us.load(Relaxed),
        }
    }

    /// CPU time of the calling thread in nanoseconds. By hand, work takes no time.
    pub fn thread_cpu_ns(&self) -> u64 {
        match &self.0 {
            Source::System { .. } => thread_cpu_ns(),
            Source::Manual(_) => 0,
        }
    }

    /// Moves a manual clock forward, both its monotonic and its unix time. The system's clock can't be moved.
    pub fn advance(&self, span: Duration) {
        let Source::Manual(manual) = &self.0 else {
            panic!("moved the system's clock")
        };
        manual.mono_ns.fetch_add(span.as_nanos() as u64, Relaxed);
        manual.unix_us.fetch_add(span.as_micros() as u64, Relaxed);
    }

    /// Sets a manual clock's unix time, back if need be, as an administrator might; its monotonic time goes on.
    pub fn set_unix_us(&self, unix_us: u64) {
        let Source::Manual(manual) = &self.0 else {
            panic!("set the system's clock")
        };
        manual.unix_us.store(unix_us, Relaxed);
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if matches!(self.0, Source::System { .. }) {
            "system"
        } else {
            "manual"
        };
        write!(f, "Clock({kind}, {} ns)", self.mono_ns())
    }
}

/// The monotonic clock for many short spans, such as each command's. The processor counts ticks at a steady pace and tells
/// them in a third of the time that the kernel's clock takes; how long a tick lasts is learnt from that clock, which the
/// two are held against each time the loop wakes ([`Stopwatch::sync`]). Where no such counter can be trusted, it is the
/// kernel's clock itself.
pub struct Stopwatch {
    clock: Clock,
    /// Ticks and nanoseconds some time ago, by which a tick's length is known; none where ticks can't be trusted.
    first: Option<(u64, u64)>,
    /// The same when last held against the clock.
    last: (u64, u64),
    /// Nanoseconds a tick, 32 bits behind the point; 0 before it is known.
    tick_ns: u64,
}

/// So long one has to look at both to know the length of a tick well, and after so long one looks anew.
const LEARNING_NS: u64 = 50_000_000;
const RELEARNING_NS: u64 = 2_000_000_000;
/// Looks no further apart than this, a few microseconds, count as one.
const SAME_MOMENT_TICKS: u64 = 10_000;

impl Stopwatch {
    /// A stopwatch on a clock. `steady`: the processor's counter can be trusted (the kernel does).
    pub fn new(clock: Clock, steady: bool) -> Stopwatch {
        Stopwatch {
            first: both(&clock).filter(|_| steady),
            last: (0, 0),
            tick_ns: 0,
            clock,
        }
    }

    /// Holds ticks against the clock.
    pub fn sync(&mut self) {
        let (Some((first_ticks, first_ns)), Some((ticks, ns))) = (self.first, both(&self.clock))
        else {
            return;
        };
        // What was told for these ticks until now: time never goes back, not by the few nanoseconds that the two looks
        // are apart.
        let told_ns = self.at(ticks).unwrap_or(0);
        let (ran_ticks, ran_ns) = (
            ticks.saturating_sub(first_ticks),
            ns.saturating_sub(first_ns),
        );
        if ran_ns >= LEARNING_NS && ran_ticks > 0 {
            self.tick_ns = ((u128::from(ran_ns) << 32) / u128::from(ran_ticks)) as u64;
            if ran_ns >= RELEARNING_NS {
                // The kernel's clock is slewed now and then.
                self.first = Some((ticks, ns));
            }
        }
        self.last = (ticks, ns.max(told_ns));
    }

    /// Nanoseconds on the clock.
    #[inline]
    pub fn mono_ns(&self) -> u64 {
        match ticks().and_then(|ticks| self.at(ticks)) {
            Some(ns) => ns,
            None => self.clock.mono_ns(),
        }
    }

    /// Nanoseconds at a count of ticks; `None` while a tick's length is not known.
    #[inline]
    fn at(&self, ticks: u64) -> Option<u64> {
        let (last_ticks, last_ns) = self.last;
        let since = u128::from(ticks.saturating_sub(last_ticks));
        (self.tick_ns != 0).then(|| last_ns + ((since * u128::from(self.tick_ns)) >> 32) as u64)
    }

    /// The clock it is held against.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}

/// Ticks and the clock's nanoseconds at the same moment; `None` if the thread was held up between the two looks.
fn both(clock: &Clock) -> Option<(u64, u64)> {
    let (before, ns, after) = (ticks()?, clock.mono_ns(), ticks()?);
    (after.saturating_sub(before) < SAME_MOMENT_TICKS).then_some((before, ns))
}

/// The processor's counter.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn ticks() -> Option<u64> {
    // SAFETY: every x86-64 processor has the instruction, which only reads a counter.
    Some(unsafe { core::arch::x86_64::_rdtsc() })
}

#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> Option<u64> {
    None
}

fn thread_cpu_ns() -> u64 {
    let mut spent = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `spent` is a valid place for the one timespec that the call writes.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut spent) };
    spent.tv_sec as u64 * 1_000_000_000 + spent.tv_nsec as u64
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// A moment in the local time zone. Shown as `dd Mon yyyy hh:mm:ss.mmm`, the form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    pub year: i32,
    /// 0..=11.
    pub month: usize,
    pub day: i32,
    /// 0..=6, from Sunday on.
    pub weekday: usize,
    pub hour: i32,
    pub minute: i32,
    pub second: i32,
    pub milli: u32,
}

impl LocalTime {
    /// The local time at this unix time in microseconds.
    pub fn at(unix_us: u64) -> LocalTime {
        let seconds = (unix_us / 1_000_000) as libc::time_t;
        // SAFETY: `tm` is a plain struct of integers and a pointer, for which zero is a value, and both
        // pointers are to locals of the right types.
        let tm = unsafe {
            let mut tm: libc::tm = std::mem::zeroed();
            libc::localtime_r(&seconds, &mut tm);
            tm
        };
        LocalTime {
            year: tm.tm_year + 1900,
            month: usize::try_from(tm.tm_mon).unwrap_or(0),
            day: tm.tm_mday,
            weekday: usize::try_from(tm.tm_wday).unwrap_or(0),
            hour: tm.tm_hour,
            minute: tm.tm_min,
            second: tm.tm_sec,
            milli: (unix_us / 1000 % 1000) as u32,
        }
    }

    /// The form of C's `ctime`, without the line's end: `Thu Nov  9 08:00:00 2023`.
    pub fn ctime(&self) -> String {
        let (day, month) = (DAYS[self.weekday % 7], MONTHS[self.month % 12]);
        let LocalTime {
            year,
            day: date,
            hour,
            minute,
            second,
            ..
        } = self;
        format!("{day} {month} {date:>2} {hour:02}:{minute:02}:{second:02} {year}")
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LocalTime {
            year,
            month,
            day,
            hour,
            minute,
            second,
            milli,
            ..
        } = self;
        let month = MONTHS[month % 12];
        write!(
            f,
            "{day:02} {month} {year} {hour:02}:{minute:02}:{second:02}.{milli:03}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_is_shared_and_stands_still() {
        let clock = Clock::manual(1_700_000_000_000_000);
        let other = clock.clone();
        clock.advance(Duration::from_millis(5));
        assert_eq!(
            (other.mono_ns(), other.unix_us()),
            (5_000_000, 1_700_000_000_005_000)
        );
        clock.set_unix_us(7);
        assert_eq!((other.mono_ns(), other.unix_us()), (5_000_000, 7));
    }

    #[test]
    fn system_clocks_move_forward() {
        let clock = Clock::system();
        let (mono, cpu) = (clock.mono_ns(), clock.thread_cpu_ns());
        while clock.thread_cpu_ns() < cpu + 100_000 {
            std::hint::spin_loop();
        }
        assert!(clock.mono_ns() >= mono + 100_000);
        assert!(clock.unix_us() > 1_600_000_000_000_000);
    }

    #[test]
    fn a_stopwatch_keeps_the_clock_s_time_and_never_goes_back() {
        for steady in [true, false] {
            let clock = Clock::system();
            let mut watch = Stopwatch::new(clock.clone(), steady);
            let (mut last, end) = (0, clock.mono_ns() + 4 * LEARNING_NS);
            // As in a loop that slept: the first look comes late.
            while clock.mono_ns() < end - 2 * LEARNING_NS {
                std::hint::spin_loop();
            }
            while last < end {
                watch.sync();
                for _ in 0..100 {
                    let before = clock.mono_ns();
                    let now = watch.mono_ns();
                    assert!(now >= last);
                    // The thread may be held up between the two looks, but not before the first.
                    assert!(now + 1_000_000 > before, "{now} behind {before}");
                    last = now;
                }
            }
            assert!(last < clock.mono_ns() + 1_000_000);
        }
    }

    #[test]
    fn log_form() {
        let at = LocalTime::at(1_700_000_000_045_678);
        let text = at.to_string();
        // The zone is the machine's: every zone's offset is a whole number of minutes.
        assert!(
            text.contains(" Nov 2023 ") && text.ends_with(":20.045"),
            "{text}"
        );
        assert_eq!(text.len(), 24);
        let text = at.ctime();
        assert!(
            text.contains(" Nov 14 ") || text.contains(" Nov 15 "),
            "{text}"
        );
        assert_eq!((text.len(), &text[16..]), (24, ":20 2023"));
    }
}
