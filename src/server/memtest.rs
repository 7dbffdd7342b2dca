//! The quick memory test at the end of a crash report (`crash-memcheck-enabled`): is the RAM to blame?
//!
//! Every page of the process's own memory that is really there is saved, written with patterns, read
//! back and restored, a block larger than the processor's inner caches at a time. All other threads must
//! hold still for it, since they would find patterns where their data was: each is sent a signal whose
//! handler never returns. A thread that blocks all signals (jemalloc's) may go on and crash, which ends in
//! the crash handler, where it waits. Nothing here allocates.

use std::ffi::{c_int, c_void};
use std::fmt::Write;
use std::ptr;

use super::log::DirectText;

/// Words saved and tested at a time.
const BLOCK: usize = 16 * 1024;

/// What is written, and after it its complement.
const PATTERNS: [usize; 3] = [
    0,
    0x5555_5555_5555_5555_u64 as usize,
    0x3333_3333_3333_3333_u64 as usize,
];

/// Regions of the process's memory that are tested, at most.
const REGIONS_MAX: usize = 128;

/// Tests all memory and gives the number of wrong words.
///
/// # Safety
/// The process must have nothing left to do but end: all other threads stop for good.
pub unsafe fn test_all(out: &mut DirectText) -> usize {
    let mut regions = [(0, 0); REGIONS_MAX];
    let found = read_regions(&mut regions);
    let mut block = [0; BLOCK];
    let stack = &raw const block as usize;
    let mut errors = 0;
    // SAFETY: the caller's promise.
    unsafe { stop_other_threads() };
    for &(from, to) in &regions[..found] {
        // The stack in use cannot be tested by itself.
        if (from..to).contains(&stack) {
            continue;
        }
        let _ = writeln!(
            out,
            "*** Preparing to test memory region {from:x} ({} bytes)",
            to - from
        );
        out.flush();
        // SAFETY: the region is mapped, readable and writable, and nobody else uses it now.
        let wrong = unsafe { test_region(from, to, &mut block) };
        let _ = out.write_str(if wrong > 0 { ".E\n" } else { ".O\n" });
        out.flush();
        errors += wrong;
    }
    errors
}

/// Fills in the private, anonymous, writable regions that /proc/self/maps lists; gives their number.
fn read_regions(regions: &mut [(usize, usize); REGIONS_MAX]) -> usize {
    let mut found = 0;
    // SAFETY: the path is a C string, the buffer is as long as stated, the descriptor closed once.
    unsafe {
        let fd = libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY);
        if fd < 0 {
            return 0;
        }
        let (mut line, mut len) = ([0u8; 512], 0);
        let mut chunk = [0u8; 1024];
        loop {
            let n = libc::read(fd, chunk.as_mut_ptr().cast(), chunk.len());
            let Ok(n @ 1..) = usize::try_from(n) else {
                break;
            };
            for &byte in &chunk[..n] {
                if byte != b'\n' {
                    // A longer line is a long file name, and no anonymous region.
                    line[len] = byte;
                    len = (len + 1).min(line.len() - 1);
                    continue;
                }
                if let Some(region) = parse_region(&line[..len]).filter(|_| found < REGIONS_MAX) {
                    regions[found] = region;
                    found += 1;
                }
                len = 0;
            }
        }
        libc::close(fd);
    }
    found
}

/// `7f00-7f80 rw-p 00000000 00:00 0 [name]`: first and end address, if the region is to be tested.
fn parse_region(line: &[u8]) -> Option<(usize, usize)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split_ascii_whitespace();
    let (range, access) = (fields.next()?, fields.next()?);
    let device = fields.nth(1)?;
    let name = fields.nth(1).unwrap_or_default();
    let skipped = ["stack", "vdso", "vvar", "vsyscall"]
        .iter()
        .any(|s| name.contains(s));
    if !access.starts_with("rw") || device != "00:00" || skipped {
        return None;
    }
    let (from, to) = range.split_once('-')?;
    let (from, to) = (
        usize::from_str_radix(from, 16).ok()?,
        usize::from_str_radix(to, 16).ok()?,
    );
    (from < to).then_some((from, to))
}

/// Tests a region block by block, leaving out pages without memory behind them.
///
/// # Safety
/// The region is mapped, readable and writable, and nobody else uses it.
unsafe fn test_region(from: usize, to: usize, saved: &mut [usize; BLOCK]) -> usize {
    let mut errors = 0;
    let mut at = from;
    // SAFETY: sysconf takes a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let mut resident = [0u8; BLOCK * size_of::<usize>() / 4096];
    while at < to {
        let bytes = (to - at).min(size_of_val(saved));
        // SAFETY: `at` is on a page and the vector has a byte for each, pages being 4 KB at least.
        let rc = unsafe { libc::mincore(at as *mut c_void, bytes, resident.as_mut_ptr().cast()) };
        let pages = &resident[..bytes.div_ceil(page)];
        if rc == 0 && pages.iter().all(|p| p & 1 == 1) {
            // SAFETY: the caller's promise; the block lies in the region.
            errors += unsafe { test_block(at as *mut usize, bytes / size_of::<usize>(), saved) };
        } else if rc == 0 {
            for (n, _) in pages.iter().enumerate().filter(|(_, p)| **p & 1 == 1) {
                let start = at + n * page;
                // SAFETY: as above, for one page.
                errors +=
                    unsafe { test_block(start as *mut usize, page / size_of::<usize>(), saved) };
            }
        }
        at += bytes;
    }
    errors
}

/// Saves the words, tests them with each pattern and with their own addresses, and puts them back.
///
/// # Safety
/// The words are readable and writable, no more than `saved` holds, and nobody else uses them.
unsafe fn test_block(words: *mut usize, n: usize, saved: &mut [usize; BLOCK]) -> usize {
    let mut errors = 0;
    // SAFETY: the caller's promise. Volatile, so that the memory is really written and read.
    unsafe {
        ptr::copy_nonoverlapping(words, saved.as_mut_ptr(), n);
        let mut pass = |value: &dyn Fn(usize) -> usize| {
            for i in 0..n {
                words.add(i).write_volatile(value(i));
            }
            for i in 0..n {
                errors += usize::from(words.add(i).read_volatile() != value(i));
            }
        };
        for pattern in PATTERNS {
            pass(&|_| pattern);
            pass(&|_| !pattern);
        }
        pass(&|i| words as usize + i);
        ptr::copy_nonoverlapping(saved.as_ptr(), words, n);
    }
    errors
}

extern "C" fn hold_still(_: c_int) {
    loop {
        // SAFETY: pause takes nothing.
        unsafe { libc::pause() };
    }
}

/// Sends every other thread into a handler that does not return.
///
/// # Safety
/// The process must be about to end.
unsafe fn stop_other_threads() {
    // SAFETY: the handler has the type of one, the buffer is as long as stated, the descriptor is
    // closed once; the kernel's records are read at the offsets of linux_dirent64 and stay inside.
    unsafe {
        libc::signal(libc::SIGUSR2, hold_still as extern "C" fn(c_int) as usize);
        let fd = libc::open(
            c"/proc/self/task".as_ptr(),
            libc::O_RDONLY | libc::O_DIRECTORY,
        );
        if fd < 0 {
            return;
        }
        let (own, pid) = (libc::gettid(), libc::getpid());
        let mut buf = [0u8; 2048];
        loop {
            let n = libc::syscall(libc::SYS_getdents64, fd, buf.as_mut_ptr(), buf.len());
            let Ok(n @ 1..) = usize::try_from(n) else {
                break;
            };
            let mut records = &buf[..n];
            while let Some((name, rest)) = next_name(records) {
                let thread = std::str::from_utf8(name)
                    .ok()
                    .and_then(|s| s.parse::<i32>().ok());
                if let Some(thread) = thread.filter(|&t| t != own) {
                    libc::syscall(libc::SYS_tgkill, pid, thread, libc::SIGUSR2);
                }
                records = rest;
            }
        }
        libc::close(fd);
    }
}

/// Takes one record off the front: `[inode 8][offset 8][length 2][type 1][name, NUL-terminated]`.
fn next_name(records: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = u16::from_ne_bytes([*records.get(16)?, *records.get(17)?]);
    let (record, rest) = records.split_at_checked(usize::from(len))?;
    let name = record.get(19..)?;
    Some((name.split(|&b| b == 0).next()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_private_anonymous_and_writable() {
        let parse = |line: &str| parse_region(line.as_bytes());
        assert_eq!(
            parse("1000-3000 rw-p 00000000 00:00 0"),
            Some((0x1000, 0x3000))
        );
        assert_eq!(
            parse("1000-3000 rw-p 00000000 00:00 0   [heap]"),
            Some((0x1000, 0x3000))
        );
        assert_eq!(parse("1000-3000 rw-p 00000000 00:00 0   [stack]"), None);
        assert_eq!(parse("1000-3000 r--p 00000000 00:00 0"), None);
        assert_eq!(parse("1000-3000 rw-p 00000000 08:01 77  /bin/x"), None);
        assert_eq!(parse("nonsense"), None);
        let mut regions = [(0, 0); REGIONS_MAX];
        let found = read_regions(&mut regions);
        let here = Box::new(1u8);
        let at = &raw const *here as usize;
        assert!(
            regions[..found]
                .iter()
                .any(|&(from, to)| (from..to).contains(&at))
        );
    }

    #[test]
    fn memory_is_as_before_after_the_test() {
        let page = 4096 / size_of::<usize>();
        let mut memory: Vec<usize> = (0..page * 20)
            .map(|n| n.wrapping_mul(0x9E37_79B9))
            .collect();
        let before = memory.clone();
        let mut saved = Box::new([0; BLOCK]);
        // SAFETY: the words are this test's own.
        let errors = unsafe { test_block(memory.as_mut_ptr(), memory.len(), &mut saved) };
        assert_eq!((errors, memory), (0, before));
    }

    #[test]
    fn thread_names_are_read_off_the_kernels_records() {
        let record = |name: &str| {
            let len = (19 + name.len() + 1).next_multiple_of(8);
            let mut r = vec![0u8; len];
            r[16..18].copy_from_slice(&(len as u16).to_ne_bytes());
            r[19..19 + name.len()].copy_from_slice(name.as_bytes());
            r
        };
        let records = [record("."), record("12345")].concat();
        let (first, rest) = next_name(&records).unwrap();
        let (second, rest) = next_name(rest).unwrap();
        assert_eq!((first, second), (&b"."[..], &b"12345"[..]));
        assert!(next_name(rest).is_none());
    }
}
