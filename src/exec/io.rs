//! The second door: what a command must ask of the outside and wait for, because its reply says
//! how it went. The process implements it with the operating system, tests with values.

use std::any::Any;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use crate::base::time::Clock;
use crate::config::{Config, Text};
use crate::exec::conn::Token;
use crate::exec::debugging::Copied;
use crate::exec::link::Target;
use crate::exec::pipe::{Pipe, PipeWriter, Wake};
use crate::exec::sentinel::{Ended, NotStarted};
use crate::exec::server::Server;
use crate::resp::reply::Reply;

/// Memory as the operating system and the allocator see it, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryFigures {
    /// Allocated by the program, to the byte of the allocator's classes.
    pub used: usize,
    /// Resident set of the process.
    pub rss: usize,
    /// jemalloc's allocated, active, resident, retained and muzzy.
    pub allocated: usize,
    pub active: usize,
    pub resident: usize,
    pub retained: usize,
    pub muzzy: usize,
    /// Physical memory of the machine.
    pub system: usize,
    /// CPU time of the process and of its loop's thread, in µs: (system, user).
    pub cpu_process: (u64, u64),
    pub cpu_main_thread: (u64, u64),
    pub cpu_children: (u64, u64),
}

/// What is known of the process and the machine from the start, for INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    pub pid: u32,
    /// Name, release and machine of the operating system.
    pub os: String,
    /// Name and version of the allocator.
    pub allocator: String,
    /// Who waits to hear that the server is ready: `no`, `systemd`, `upstart`.
    pub supervised: &'static str,
    pub monotonic_clock: &'static str,
    /// How the loop waits for sockets.
    pub multiplexing_api: &'static str,
}

/// A directive whose new value has to reach the operating system before CONFIG SET may say OK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `bind`, `port`, `unixsocket...`, `tcp-backlog`: listen anew.
    Listen,
    /// `tls-port`: the same for TLS, with the context that there is.
    ListenTls,
    /// `tls-*`: certificates and keys are read anew.
    Tls,
    /// The same, unless they were read before.
    TlsOnce,
    /// `maxclients`: raise the limit of open files.
    MaxClients,
    /// `logfile`, `loglevel`, `syslog-*`.
    Log,
    OomScoreAdj,
    /// The role as a replica or not, which each line of the log tells.
    Role,
    ProcTitle,
    Watchdog,
    CrashLog,
    Locale,
    JemallocBackground,
}

/// See the head of the file.
pub trait Io {
    /// A clock that never goes back, in nanoseconds since some start.
    fn mono_ns(&self) -> u64;
    /// Unix time in microseconds.
    fn unix_us(&self) -> u64;
    /// The clock behind both, for a job that measures.
    fn clock(&self) -> Clock;
    /// CPU time of the running thread in nanoseconds.
    fn thread_cpu_ns(&self) -> u64;
    /// Bytes allocated by the program now.
    fn used_memory(&self) -> usize;
    /// What stays the same as long as the process runs.
    fn process(&self) -> ProcessFacts;
    /// All memory figures; dearer than [`Io::used_memory`].
    fn memory(&mut self) -> MemoryFigures;
    /// Makes a changed directive felt outside; the reason when it can't be.
    fn apply(&mut self, setting: Setting, config: &Config) -> Result<(), String>;
    /// The absolute form of a directory, seen from `from`, or why one may not enter it.
    fn enter_dir(&mut self, from: &Text, path: &[u8]) -> Result<Text, String>;
    /// Fills with bytes that nobody can foretell, for a password.
    fn secret(&mut self, bytes: &mut [u8]);
    /// Reads a whole file that is about to be replaced (the configuration): empty if there is none.
    fn read_file(&mut self, path: &Path) -> std::io::Result<Vec<u8>>;
    /// Replaces a file so that a crash leaves the old or the new one.
    fn replace_file(&mut self, path: &Path, text: &[u8]) -> std::io::Result<()>;
    /// The disk, for the data's files.
    fn disk(&self) -> Arc<dyn Disk>;
    /// Wakes the loop, for a job that goes on.
    fn wake(&self) -> Wake;
    /// A pipe from a job to the loop.
    fn pipe(&self) -> (Pipe, PipeWriter);
    /// Waits until the jobs of the log are done that were started.
    fn wait_for_log(&mut self);
    /// The file that is to be removed if the process is told twice to end; `None`: none any more.
    fn note_unfinished(&mut self, path: Option<&Path>);
    /// A signal that asks for the end is not to be acted on, if there is one.
    fn forget_signal(&mut self) -> bool;
    /// Talks to another server while everybody waits (MIGRATE where nothing may come between): sends a request and gives
    /// so many lines of what it answers. Each step may take `timeout_ms`.
    fn exchange(
        &mut self,
        target: &Target,
        request: &Reply,
        lines: usize,
        timeout_ms: u64,
    ) -> Exchange;
    /// What a name stands for, found out while everybody waits, but not for long.
    fn look_up(&mut self, name: &str) -> Option<String>;
    /// The same for a job, which may wait.
    fn looker_up(&self) -> LookUp;
    /// True if there is such a program, and we may run it.
    fn is_executable(&mut self, path: &Path) -> bool;
    /// Starts a program in a directory: its name and arguments. The number of its process.
    fn start_program(&mut self, dir: &Path, argv: &[Vec<u8>]) -> Result<u32, NotStarted>;
    /// Kills a program that was started.
    fn kill_program(&mut self, pid: u32);
    /// Programs that have ended since this was last asked.
    fn ended_programs(&mut self) -> Vec<Ended>;
    /// Tells systemd, if it supervises the process, what has become of that: a line of sd_notify(3).
    fn tell_supervisor(&mut self, _state: &str) {}
    /// Sees to other clients, from within a command that takes long. (Tests have none.)
    fn poll(&mut self, _server: &mut Server) {}
    /// Waits a little for whoever debugs a script of this connection to type, and sees to others meanwhile. `false`:
    /// nobody will. (Tests have nobody.)
    fn wait_for_input(&mut self, _server: &mut Server, _token: Token) -> bool {
        false
    }
    /// Starts a debugging session on a thread of its own; or why it can't be. (Tests have none.)
    fn debug_apart(&mut self, _copy: Box<Copied>) -> Result<(), String> {
        Err("no threads".into())
    }
    /// Holds the loop (DEBUG SLEEP).
    fn sleep_us(&mut self, us: u64);
    /// Bytes in transparent huge pages (LATENCY DOCTOR). The kernel walks all pages for it.
    fn huge_page_bytes(&mut self) -> u64;
    /// Gives unused pages back to the system (MEMORY PURGE); `false` if it failed.
    fn purge(&mut self) -> bool;
    /// The allocator's own report (MEMORY MALLOC-STATS).
    fn malloc_stats(&mut self) -> String;
    /// Reads an allocator's figure by name, and sets it if a value is given (DEBUG MALLCTL). The figure
    /// before that; `None` for one that can only be set.
    fn mallctl(&mut self, name: &str, new: Option<i64>) -> std::io::Result<Option<i64>>;
    /// The same for a text; `VOID` as its value calls a name that takes none.
    fn mallctl_str(&mut self, name: &str, new: Option<&str>) -> std::io::Result<Option<String>>;
    /// Ends the process the hard way. It returns only in the simulator, or if it could not be done.
    fn crash(&mut self, how: Crash);
}

/// Where a talk with another server is, or broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Connecting,
    Writing,
    Reading,
}

/// Finds out what a name stands for.
pub type LookUp = Box<dyn Fn(&str) -> Option<String> + Send>;

/// What came of [`Io::exchange`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// The lines that came, without their ends.
    pub lines: Vec<Vec<u8>>,
    /// Where it broke off, if it did.
    pub broken: Option<Stage>,
    /// It did so because the other side took too long.
    pub timed_out: bool,
}

/// How DEBUG ends the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Crash {
    Segfault,
    Panic,
    Assert,
    OutOfMemory,
    /// What the master says can't be done here.
    Stream(String),
    /// Becomes a new process of this program with the same arguments, after a while.
    Restart {
        executable: String,
        delay_ms: u64,
    },
}

/// Where files are: what a job on another thread touches them through. `server/disk.rs` has the one of the
/// operating system, and one that fails and forgets for tests.
pub trait Disk: Send + Sync {
    /// A new, empty file, in place of any of that name.
    fn create(&self, path: &Path) -> std::io::Result<Box<dyn NewFile>>;
    /// An existing file from its beginning, and its length.
    fn open(&self, path: &Path) -> std::io::Result<(Box<dyn Read + Send>, u64)>;
    /// Gives a file another name, in place of any that has it.
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()>;
    fn unlink(&self, path: &Path) -> std::io::Result<()>;
    /// Makes the names in a directory outlast a crash.
    fn sync_dir(&self, dir: &Path) -> std::io::Result<()>;
    /// A file that is written at its end, made if there is none and emptied first if it is to be `fresh`; and its length.
    fn open_log(&self, path: &Path, fresh: bool) -> std::io::Result<(Arc<dyn LogFile>, u64)>;
    /// The length of a file.
    fn len(&self, path: &Path) -> std::io::Result<u64>;
    /// Cuts a file off after so many bytes.
    fn cut(&self, path: &Path, len: u64) -> std::io::Result<()>;
    /// Makes a directory if there is none; true if there was none.
    fn make_dir(&self, path: &Path) -> std::io::Result<bool>;
    /// True if there is a directory of this name.
    fn is_dir(&self, path: &Path) -> bool;
    /// Locks a file against other processes for as long as what is given is kept; makes it if there is none. It fails with
    /// `WouldBlock` if another has it.
    fn lock(&self, path: &Path) -> std::io::Result<Box<dyn Any>>;
}

/// A file that is being written.
pub trait NewFile: Write + Send {
    /// Makes what was written outlast a crash.
    fn sync(&mut self) -> std::io::Result<()>;
    /// Has this part of the file on its way to the disk, and waits for the one before it: so the disk always has work,
    /// and little is left for [`NewFile::sync`]. A failure shows there.
    fn write_back(&mut self, from: u64, len: u64);
}

#[expect(
    clippy::len_without_is_empty,
    reason = "a file is asked for its length, not whether it has one"
)]
/// A file that grows at its end, shared by the loop and the thread that makes it durable.
pub trait LogFile: Send + Sync {
    /// Writes at the end. Fewer bytes than were given: an error came between; none at all: the error is given.
    fn append(&self, bytes: &[u8]) -> std::io::Result<usize>;
    /// Makes what was written outlast a crash.
    fn sync(&self) -> std::io::Result<()>;
    /// Cuts the file off after so many bytes.
    fn cut(&self, len: u64) -> std::io::Result<()>;
    /// How many bytes it has.
    fn len(&self) -> std::io::Result<u64>;
}
