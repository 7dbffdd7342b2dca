//! The world of a debugging session apart: a clock, and the connection at the other end. Whatever else its server might
//! want to do to the outside does not happen, since nothing of what it does is to remain.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::admin;
use crate::base::alloc;
use crate::base::rng::Rng;
use crate::base::time::Clock;
use crate::cmd::session::Token;
use crate::config::{Config, Text};
use crate::exec::debugging::{Copied, Inside, run_apart};
use crate::exec::io::{
    Crash, Disk, Exchange, Io, LookUp, MemoryFigures, ProcessFacts, Setting, Stage,
};
use crate::exec::link::Target;
use crate::exec::pipe::{Pipe, PipeWriter, Wake};
use crate::exec::sentinel::{Ended, NotStarted};
use crate::exec::server::Server;
use crate::resp::reply::Reply;

/// Starts a session on a thread of its own; or why not.
pub fn start(copy: Box<Copied>) -> Result<(), String> {
    let run = move || run_apart(*copy, admin::table(), World::of);
    let thread = std::thread::Builder::new().name("lua_debugger".into());
    match thread.spawn(run) {
        Ok(_) => Ok(()),
        Err(error) => Err(crate::base::errno::text(&error)),
    }
}

/// See the head of the file.
struct World {
    clock: Clock,
    inside: Option<Inside>,
    process: ProcessFacts,
    disk: Arc<dyn Disk>,
}

impl World {
    fn of(inside: Inside) -> World {
        World {
            clock: Clock::system(),
            process: inside.process.clone(),
            disk: inside.disk.clone(),
            inside: Some(inside),
        }
    }
}

const NOT_HERE: &str = "not in a debugging session";

fn not_here<T>() -> io::Result<T> {
    Err(io::Error::from_raw_os_error(libc::EPERM))
}

impl Io for World {
    fn wait_for_input(&mut self, server: &mut Server, token: Token) -> bool {
        // (It is lent to itself for the call.)
        let Some(mut inside) = self.inside.take() else {
            return false;
        };
        let came = inside.converse(self, server, token);
        self.inside = Some(inside);
        came
    }

    fn mono_ns(&self) -> u64 {
        self.clock.mono_ns()
    }

    fn unix_us(&self) -> u64 {
        self.clock.unix_us()
    }

    fn clock(&self) -> Clock {
        self.clock.clone()
    }

    fn thread_cpu_ns(&self) -> u64 {
        self.clock.thread_cpu_ns()
    }

    fn used_memory(&self) -> usize {
        alloc::used_memory() as usize
    }

    fn process(&self) -> ProcessFacts {
        self.process.clone()
    }

    fn memory(&mut self) -> MemoryFigures {
        MemoryFigures {
            used: self.used_memory(),
            ..MemoryFigures::default()
        }
    }

    fn apply(&mut self, _: Setting, _: &Config) -> Result<(), String> {
        Err(NOT_HERE.into())
    }

    fn enter_dir(&mut self, _: &Text, _: &[u8]) -> Result<Text, String> {
        Err(NOT_HERE.into())
    }

    fn secret(&mut self, bytes: &mut [u8]) {
        Rng::from_entropy().fill(bytes);
    }

    fn read_file(&mut self, _: &Path) -> io::Result<Vec<u8>> {
        not_here()
    }

    fn replace_file(&mut self, _: &Path, _: &[u8]) -> io::Result<()> {
        not_here()
    }

    fn disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    fn wake(&self) -> Wake {
        Box::new(|| ())
    }

    fn pipe(&self) -> (Pipe, PipeWriter) {
        Pipe::new(usize::MAX, Box::new(|| ()))
    }

    fn wait_for_log(&mut self) {}

    fn note_unfinished(&mut self, _: Option<&Path>) {}

    fn forget_signal(&mut self) -> bool {
        false
    }

    fn exchange(&mut self, _: &Target, _: &Reply, _: usize, _: u64) -> Exchange {
        Exchange {
            broken: Some(Stage::Connecting),
            ..Exchange::default()
        }
    }

    fn look_up(&mut self, _: &str) -> Option<String> {
        None
    }

    fn looker_up(&self) -> LookUp {
        Box::new(|_| None)
    }

    fn is_executable(&mut self, _: &Path) -> bool {
        false
    }

    fn start_program(&mut self, _: &Path, _: &[Vec<u8>]) -> Result<u32, NotStarted> {
        Err(NotStarted::NoProgram)
    }

    fn kill_program(&mut self, _: u32) {}

    fn ended_programs(&mut self) -> Vec<Ended> {
        Vec::new()
    }

    fn sleep_us(&mut self, us: u64) {
        std::thread::sleep(std::time::Duration::from_micros(us));
    }

    fn huge_page_bytes(&mut self) -> u64 {
        0
    }

    fn purge(&mut self) -> bool {
        false
    }

    fn malloc_stats(&mut self) -> String {
        NOT_HERE.into()
    }

    fn mallctl(&mut self, _: &str, _: Option<i64>) -> io::Result<Option<i64>> {
        not_here()
    }

    fn mallctl_str(&mut self, _: &str, _: Option<&str>) -> io::Result<Option<String>> {
        not_here()
    }

    fn crash(&mut self, _: Crash) {}
}
