//! What a server has that is a Sentinel: the machine ([`crate::sentinel`]), and which of its connections is which of ours.
//! `server/sentinel.rs` does what the machine wants done.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::cmd::session::Token;
use crate::exec::io::Io;
use crate::sentinel::config::Host;
use crate::sentinel::{ConnId, Sentinel};

/// See the head of the file.
pub struct Watching {
    pub machine: Sentinel,
    pub tokens: BTreeMap<ConnId, Token>,
    pub conns: BTreeMap<Token, ConnId>,
    /// The end was simulated: nothing is done any more.
    pub has_crashed: bool,
}

impl Watching {
    pub fn new(machine: Sentinel) -> Watching {
        Watching {
            machine,
            tokens: BTreeMap::new(),
            conns: BTreeMap::new(),
            has_crashed: false,
        }
    }
}

/// Why a program was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStarted {
    /// No process could be made.
    NoProcess,
    /// There was a process, but not for this program.
    NoProgram,
}

/// A program that has ended: its process, and its exit status or the signal that ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub pid: u32,
    pub status: i32,
    pub signal: i32,
}

/// What SENTINEL's machine asks of the outside while something is configured.
pub struct Asker<'a> {
    pub io: &'a mut dyn Io,
    /// Where paths are seen from.
    pub dir: PathBuf,
}

impl Host for Asker<'_> {
    fn resolve(&mut self, name: &str) -> Option<String> {
        self.io.look_up(name)
    }

    fn is_executable(&mut self, path: &[u8]) -> bool {
        let path = self.dir.join(OsStr::from_bytes(path));
        self.io.is_executable(&path)
    }
}
