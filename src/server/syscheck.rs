//! What of the system's settings is known to hurt: checked at start (a warning in the log) and on
//! request (`--check-system`).
//!
//! Redis's list, with one difference: a server that never forks needs no overcommitting of memory for
//! its snapshots, so that only the kernel's strict accounting is worth a word.

use std::path::Path;

use log::warn;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The system does not tell.
    Skipped,
    /// All is well.
    Fine,
    /// What is wrong, and what to do about it.
    Warning(String),
}

impl Finding {
    fn of(wrong: bool, text: impl FnOnce() -> String) -> Finding {
        if wrong {
            Finding::Warning(text())
        } else {
            Finding::Fine
        }
    }
}

/// The first line of a file of the kernel's, trimmed; `None` if there is none.
fn line(path: impl AsRef<Path>) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_string())
}

const CLOCKSOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
const CLOCKSOURCES: &str = "/sys/devices/system/clocksource/clocksource0/available_clocksource";

/// Reads the clock in a loop for five ticks: if more than a tenth of it was spent in the kernel, the
/// clock is one that needs a system call.
fn slow_clocksource() -> Finding {
    let (Some(start), Some((user_start, system_start))) = (monotonic_us(), cpu_us()) else {
        return Finding::Skipped;
    };
    // SAFETY: sysconf takes a number.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1);
    let for_us = 5 * 1_000_000 / ticks_per_second;
    while monotonic_us().is_some_and(|now| now - start < for_us) {}
    let Some((user, system)) = cpu_us() else {
        return Finding::Skipped;
    };
    let (user, system) = (user - user_start, system - system_start);
    Finding::of(system * 10 > system + user, || {
        let (current, all) = (line(CLOCKSOURCE), line(CLOCKSOURCES));
        format!(
            "Slow system clocksource detected. This can result in degraded performance. Consider changing \
             the system's clocksource. Current clocksource: {}. Available clocksources: {}. For example: \
             run the command 'echo tsc > {CLOCKSOURCE}' as root. To permanently change the system's \
             clocksource you'll need to set the 'clocksource=' kernel command line parameter.",
            current.unwrap_or_default(),
            all.unwrap_or_default()
        )
    })
}

fn monotonic_us() -> Option<i64> {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a local of the right type. The call itself is what is being measured.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (rc == 0).then(|| now.tv_sec * 1_000_000 + now.tv_nsec / 1000)
}

/// This process's time in user code and in the kernel.
fn cpu_us() -> Option<(i64, i64)> {
    // SAFETY: the struct is made of integers, for which zero is a value, and the call fills it in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        if libc::getrusage(libc::RUSAGE_SELF, &mut usage) != 0 {
            return None;
        }
        usage
    };
    let us = |t: libc::timeval| t.tv_sec * 1_000_000 + t.tv_usec;
    Some((us(usage.ru_utime), us(usage.ru_stime)))
}

fn xen_clocksource() -> Finding {
    line(CLOCKSOURCE).map_or(Finding::Skipped, |current| {
        Finding::of(current == "xen", || {
            "Your system is configured to use the 'xen' clocksource which might lead to degraded \
             performance. Check the result of the [slow-clocksource] system check: run 'redis-server \
             --check-system' to check if the system's clocksource isn't degrading performance."
                .into()
        })
    })
}

fn overcommit() -> Finding {
    line("/proc/sys/vm/overcommit_memory").map_or(Finding::Skipped, |mode| overcommit_mode(&mode))
}

fn overcommit_mode(mode: &str) -> Finding {
    Finding::of(mode == "2", || {
        "Memory overcommit is disabled (vm.overcommit_memory = 2): address space that is reserved but \
         not used counts as used memory, so that allocations may fail while memory is free. To fix this \
         issue add 'vm.overcommit_memory = 1' to /etc/sysctl.conf and then reboot or run the command \
         'sysctl vm.overcommit_memory=1' for this to take effect."
            .into()
    })
}

fn thp() -> Finding {
    let enabled = line("/sys/kernel/mm/transparent_hugepage/enabled");
    enabled.map_or(Finding::Skipped, |modes| thp_modes(&modes))
}

fn thp_modes(modes: &str) -> Finding {
    Finding::of(modes.contains("[always]"), || {
        "You have Transparent Huge Pages (THP) support enabled in your kernel. This will create latency \
         and memory usage issues with Redis. To fix this issue run the command 'echo madvise > \
         /sys/kernel/mm/transparent_hugepage/enabled' as root, and add it to your /etc/rc.local in order \
         to retain the setting after a reboot. Redis must be restarted after THP is disabled (set to \
         'madvise' or 'never')."
            .into()
    })
}

/// A check and the name it goes by.
type Check = (&'static str, fn() -> Finding);

const CHECKS: [Check; 4] = [
    ("slow-clocksource", slow_clocksource),
    ("xen-clocksource", xen_clocksource),
    ("overcommit", overcommit),
    ("THP", thp),
];

/// `--check-system`: runs all checks, and gives the text to print and whether all is well.
pub fn check_system() -> (String, bool) {
    report(CHECKS.map(|(name, check)| (name, check())))
}

fn report(findings: impl IntoIterator<Item = (&'static str, Finding)>) -> (String, bool) {
    let (mut out, mut well) = (String::new(), true);
    for (name, finding) in findings {
        let verdict = match finding {
            Finding::Skipped => "skipped".to_string(),
            Finding::Fine => "OK".to_string(),
            Finding::Warning(text) => {
                well = false;
                format!("WARNING:\n{text}")
            }
        };
        out.push_str(&format!("[{name}]...{verdict}\n"));
    }
    (out, well)
}

/// The quick checks of a start, as warnings in the log. With `disable_thp`, huge pages are switched off
/// for this process if the system has them always on. True if they stay on.
pub fn warn_at_start(disable_thp: bool) -> bool {
    if let Finding::Warning(text) = overcommit() {
        warn!("WARNING {text}");
    }
    let mut huge_pages = false;
    if let Finding::Warning(text) = thp() {
        huge_pages = !(disable_thp && switch_huge_pages_off());
        if huge_pages {
            warn!("WARNING {text}");
        }
    }
    if let Finding::Warning(text) = xen_clocksource() {
        warn!("WARNING {text}");
    }
    huge_pages
}

#[cfg(target_os = "linux")]
fn switch_huge_pages_off() -> bool {
    // SAFETY: this prctl takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn switch_huge_pages_off() -> bool {
    false
}

/// Says so if the kernel's limit on a listening socket's queue is below `tcp-backlog`.
pub fn warn_about_backlog(backlog: u32) {
    let limit = line("/proc/sys/net/core/somaxconn").and_then(|n| n.parse::<u32>().ok());
    if let Some(limit) = limit.filter(|&n| n > 0 && n < backlog) {
        warn!(
            "WARNING: The TCP backlog setting of {backlog} cannot be enforced because \
             /proc/sys/net/core/somaxconn is set to the lower value of {limit}."
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings() {
        assert_eq!(overcommit_mode("0"), Finding::Fine);
        assert!(matches!(overcommit_mode("2"), Finding::Warning(_)));
        assert_eq!(thp_modes("always [madvise] never"), Finding::Fine);
        assert!(matches!(
            thp_modes("[always] madvise never"),
            Finding::Warning(_)
        ));
        assert_eq!(line("/no/such/file"), None);
    }

    #[test]
    fn the_report_has_redis_form() {
        let found = [
            ("a", Finding::Fine),
            ("b", Finding::Skipped),
            ("c", Finding::Warning("do it".into())),
        ];
        assert_eq!(
            report(found),
            (
                "[a]...OK\n[b]...skipped\n[c]...WARNING:\ndo it\n".into(),
                false
            )
        );
        assert!(report([("a", Finding::Fine)]).1);
    }
}
