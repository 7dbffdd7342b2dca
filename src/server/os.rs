//! The outside as it is: the process's clocks, memory, files and sockets behind the second door.

use std::path::Path;

use crate::base::{alloc, errno};
use crate::config::{Config, Text, file};
use crate::server::drive::Os;
use crate::server::io::{Crash, Io, MemoryFigures, Setting};
use crate::server::procfs;

impl Io for Os {
    fn mono_ns(&self) -> u64 {
        self.clock.mono_ns()
    }

    fn unix_us(&self) -> u64 {
        self.clock.unix_us()
    }

    fn thread_cpu_ns(&self) -> u64 {
        self.clock.thread_cpu_ns()
    }

    fn used_memory(&self) -> usize {
        alloc::used_memory() as usize
    }

    fn memory(&mut self) -> MemoryFigures {
        let stats = alloc::stats();
        MemoryFigures {
            used: alloc::used_memory() as usize,
            rss: procfs::rss() as usize,
            allocated: stats.allocated as usize,
            active: stats.active as usize,
            resident: stats.resident as usize,
            retained: stats.retained as usize,
            muzzy: stats.muzzy as usize,
            system: procfs::total_memory() as usize,
            ..MemoryFigures::default()
        }
    }

    fn apply(&mut self, setting: Setting, config: &Config) -> Result<(), String> {
        match setting {
            Setting::Listen => self.doors.listen_tcp(config),
            _ => Ok(()),
        }
    }

    fn enter_dir(&mut self, from: &Text, path: &[u8]) -> Result<Text, String> {
        file::enter(from, path)
    }

    fn read_file(&mut self, path: &Path) -> std::io::Result<Vec<u8>> {
        file::read_old(path)
    }

    fn replace_file(&mut self, path: &Path, text: &[u8]) -> std::io::Result<()> {
        file::replace(path, text)
    }

    fn sleep_us(&mut self, us: u64) {
        std::thread::sleep(std::time::Duration::from_micros(us));
    }

    fn purge(&mut self) {
        if let Err(e) = alloc::purge() {
            log::warn!("Can't purge the allocator: {}", errno::text(&e));
        }
    }

    fn malloc_stats(&mut self) -> String {
        alloc::malloc_stats()
    }

    fn mallctl(&mut self, name: &str, value: Option<u64>) -> Result<u64, String> {
        match alloc::mallctl_int(name, value.map(|v| v as i64)) {
            Ok(v) => Ok(v.unwrap_or(0) as u64),
            Err(e) => Err(errno::text(&e)),
        }
    }

    fn crash(&mut self, _how: Crash) {}
}
