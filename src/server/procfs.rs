//! What the kernel says about this process's memory: the figures that only it knows.
//!
//! All are best effort: where the system does not tell, the answer is 0.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;

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

/// Where the code of the program and its libraries lies, as far as it is what the files hold: a debugger writes its
/// breakpoints into it. The kernel walks all pages for it.
pub fn unwritten_code() -> Vec<Range<usize>> {
    File::open("/proc/self/smaps").map_or(Vec::new(), |f| code_of(BufReader::new(f)))
}

fn code_of(smaps: impl BufRead) -> Vec<Range<usize>> {
    let mut code = Vec::new();
    let mut mapped = None;
    for line in smaps.lines().map_while(Result::ok) {
        match line.split_once(':') {
            Some(("Anonymous", amount)) if amount.trim() == "0 kB" => code.extend(mapped.take()),
            Some((field, _)) if !field.contains(' ') => {}
            // No field: the head of the next mapping.
            _ => mapped = code_mapping(&line),
        }
    }
    code
}

/// The addresses of a mapping, by its head in smaps, if it is a file's code.
fn code_mapping(head: &str) -> Option<Range<usize>> {
    let mut words = head.split_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let is_code = words.next()? == "r-xp" && words.nth(3)?.starts_with('/');
    let address = |text| usize::from_str_radix(text, 16).ok();
    is_code.then_some(address(from)?..address(to)?)
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

    #[test]
    fn code_is_what_a_file_holds_and_nobody_wrote_to() {
        let smaps = "\
1000-2000 r--p 00000000 fe:00 12   /usr/bin/a
Anonymous:             0 kB
2000-5000 r-xp 00001000 fe:00 12   /usr/bin/a b: c
Rss:                  12 kB
Anonymous:             0 kB
ProtectionKey:         0
6000-8000 r-xp 00001000 fe:00 13   /usr/lib/with-a-breakpoint
Anonymous:             4 kB
9000-a000 rw-p 00000000 00:00 0 
Anonymous:             0 kB
b000-c000 r-xp 00000000 00:00 0    [vdso]
Anonymous:             0 kB
";
        let code: Vec<usize> = code_of(smaps.as_bytes()).into_iter().flatten().collect();
        assert_eq!(code, (0x2000..0x5000).collect::<Vec<_>>());
        let here = code_mapping as *const () as usize;
        assert!(unwritten_code().iter().any(|code| code.contains(&here)));
    }
}
