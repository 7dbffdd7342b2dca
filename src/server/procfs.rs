//! What the kernel says about this process's memory: the figures that only it knows.
//!
//! All are best effort: where the system does not tell, the answer is 0.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// A page, in bytes.
pub fn page_size() -> u64 {
    // SAFETY: sysconf takes a number.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// The machine's memory, in bytes.
pub fn total_memory() -> u64 {
    // SAFETY: as above.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) }).unwrap_or(0) * page_size()
}

/// Memory that is really there (resident set size), in bytes. One short read.
pub fn rss() -> u64 {
    let mut line = [0; 256];
    let read = File::open("/proc/self/statm").and_then(|mut f| f.read(&mut line));
    let Ok(n) = read else { return 0 };
    resident_pages(&line[..n]).unwrap_or(0) * page_size()
}

/// The second number of /proc/self/statm.
fn resident_pages(statm: &[u8]) -> Option<u64> {
    std::str::from_utf8(statm)
        .ok()?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// What no other process shares and what differs from any file, in bytes. The kernel walks all pages
/// for it: not for the loop's every day.
pub fn private_dirty() -> u64 {
    smaps_sum("Private_Dirty:")
}

/// Whether the kernel trusts the processor's tick counter to keep time (x86's TSC), on all its cores alike.
pub fn counter_is_steady() -> bool {
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    std::fs::read(source).is_ok_and(|name| name.trim_ascii() == b"tsc")
}

/// The sum of a field (with its colon) over /proc/self/smaps, in bytes.
pub fn smaps_sum(field: &str) -> u64 {
    File::open("/proc/self/smaps").map_or(0, |f| sum_kb(BufReader::new(f), field) * 1024)
}

fn sum_kb(lines: impl BufRead, field: &str) -> u64 {
    let number = |line: &str| {
        line.strip_prefix(field)?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()
    };
    lines
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| number(&line))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_read() {
        assert_eq!(resident_pages(b"123 45 6 7 0 8 0\n"), Some(45));
        assert_eq!(resident_pages(b""), None);
        let smaps = "Private_Dirty:        12 kB\nShared_Dirty: 5 kB\nPrivate_Dirty:  30 kB\n";
        assert_eq!(sum_kb(smaps.as_bytes(), "Private_Dirty:"), 42);
        assert!(rss() > 1 << 20 && rss() < total_memory());
        assert!(private_dirty() > 0);
    }
}
