//! The process among others: in the background or under a supervisor, with its pid file, its limits,
//! its CPUs and its place in the queue of the out-of-memory killer.

use std::ffi::{CString, c_char};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use ::log::{debug, info, warn};

use super::log::{self, Verbosity};
use super::procfs;
use crate::ae::signal::Notice;
use crate::base::errno;

/// File descriptors kept for other things than clients: listeners, logs, files, peers.
pub const RESERVED_FDS: u64 = 32;

/// Goes to the background (`daemonize`): a child of its own session goes on, without a terminal, and
/// the caller ends here. The only fork of the program, to be called before any thread is started.
pub fn daemonize() {
    // SAFETY: there is one thread, so that the child finds no lock held; the calls take numbers and a
    // constant C string.
    unsafe {
        if libc::fork() != 0 {
            libc::_exit(0);
        }
        libc::setsid();
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        if null != -1 {
            for fd in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
                libc::dup2(null, fd);
            }
            if null > libc::STDERR_FILENO {
                libc::close(null);
            }
        }
    }
}

/// A file that is of no use if the process ends now. The text is never freed: a handler may be at it.
static UNFINISHED: AtomicPtr<c_char> = AtomicPtr::new(null_mut());

/// Names the file that is to go if somebody insists on the end of the process (a second SIGINT), or none any more. For
/// what happens a few times in a life: each name is kept for ever.
pub fn note_unfinished(path: Option<&Path>) {
    let text = path.and_then(|path| CString::new(path.as_os_str().as_bytes()).ok());
    UNFINISHED.store(
        text.map_or(null_mut(), CString::into_raw),
        Ordering::Release,
    );
}

/// The hook for [`crate::ae::Signals`]: says in the log what a signal is taken for, and before the process ends at once,
/// removes what would be left. Async-signal-safe.
pub fn tell_signal(notice: Notice) {
    let text = match notice {
        Notice::Insist => "You insist... exiting now.",
        Notice::Stop(libc::SIGINT) => "Received SIGINT scheduling shutdown...",
        Notice::Stop(libc::SIGTERM) => "Received SIGTERM scheduling shutdown...",
        Notice::Stop(_) => "Received shutdown signal, scheduling shutdown...",
    };
    log::from_handler(Verbosity::Warning, text);
    let unfinished = UNFINISHED.load(Ordering::Acquire);
    if notice == Notice::Insist && !unfinished.is_null() {
        // SAFETY: whatever is stored there ends in a zero and is never freed; unlink is async-signal-safe.
        unsafe { libc::unlink(unfinished) };
    }
}

/// Writes the pid file; that it cannot be written is a line in the log, no more.
pub fn create_pid_file(path: &Path) {
    if let Err(e) = std::fs::write(path, format!("{}\n", std::process::id())) {
        warn!("Failed to write PID file: {}", errno::text(&e));
    }
}

/// Removes the pid file, with Redis's line about it.
pub fn remove_pid_file(path: &Path) {
    info!("Removing the pid file.");
    let _ = std::fs::remove_file(path);
}

/// `supervised`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervised {
    /// By nobody.
    No,
    /// By systemd, which is told of each state.
    Systemd,
    /// By upstart, which is told once, with SIGSTOP.
    Upstart,
    /// Whichever left its mark in the environment.
    Auto,
}

/// Who watches this process, once it is known.
#[derive(Debug, Default)]
pub struct Supervisor {
    /// systemd's address, if systemd it is.
    systemd: Option<String>,
    upstart: bool,
}

impl Supervisor {
    /// Finds out who supervises and tells it that we are loading. `getenv` reads the environment.
    pub fn detect(mode: Supervised, getenv: impl Fn(&str) -> Option<String>) -> Supervisor {
        let mode = match mode {
            Supervised::Auto if getenv("UPSTART_JOB").is_some() => {
                debug!("Upstart supervision detected.");
                Supervised::Upstart
            }
            Supervised::Auto if getenv("NOTIFY_SOCKET").is_some() => {
                debug!("Systemd supervision detected.");
                Supervised::Systemd
            }
            mode => mode,
        };
        let mut found = Supervisor::default();
        match mode {
            Supervised::Upstart => found.upstart = greet_upstart(getenv("UPSTART_JOB").is_some()),
            Supervised::Systemd => {
                found.systemd = getenv("NOTIFY_SOCKET");
                if found.systemd.is_none() {
                    warn!("systemd supervision error: NOTIFY_SOCKET not found!");
                } else if !found.notify("STATUS=Redis is loading...\n") {
                    found.systemd = None;
                } else {
                    info!(
                        "Supervised by systemd. Please make sure you set appropriate values for \
                         TimeoutStartSec and TimeoutStopSec in your service unit."
                    );
                }
            }
            Supervised::No | Supervised::Auto => {}
        }
        found
    }

    /// True if somebody does: the process must stay in the foreground.
    pub fn is_present(&self) -> bool {
        self.upstart || self.systemd.is_some()
    }

    /// Tells systemd a state, a line as in `READY=1` or `STATUS=...` (see sd_notify(3)); nothing without it.
    /// False if systemd could not be told.
    pub fn notify(&self, state: &str) -> bool {
        let Some(address) = &self.systemd else {
            return true;
        };
        match notify_systemd(address, state) {
            Ok(()) => true,
            Err(e) => {
                let number = e.raw_os_error().unwrap_or(libc::EINVAL);
                warn!("systemd supervision error: sd_notify: {}", -number);
                false
            }
        }
    }

    /// Who it is, as INFO says.
    pub fn name(&self) -> &'static str {
        match (&self.systemd, self.upstart) {
            (Some(_), _) => "systemd",
            (None, true) => "upstart",
            (None, false) => "no",
        }
    }

    /// The server is up.
    pub fn ready(&self, status: &str) {
        self.notify(&format!("STATUS={status}\n"));
        self.notify("READY=1\n");
    }
}

/// Upstart takes a stopped process for a started one, and lets it go on.
fn greet_upstart(is_there: bool) -> bool {
    if !is_there {
        warn!("upstart supervision requested, but UPSTART_JOB not found!");
        return false;
    }
    info!("supervised by upstart, will stop to signal readiness.");
    // SAFETY: raise takes a number.
    unsafe { libc::raise(libc::SIGSTOP) };
    true
}

/// One datagram to a path, or to a name in the abstract namespace (`@name`).
fn notify_systemd(address: &str, state: &str) -> io::Result<()> {
    let address = match address.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)?,
        _ if address.starts_with('/') => SocketAddr::from_pathname(address)?,
        _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

/// Raises the limit on open files to what `maxclients` clients and the reserve need, as far as the
/// system allows. Gives the number of clients that fit, which may be fewer; the error is that not even
/// one does, and the server cannot start.
pub fn adjust_open_files_limit(maxclients: u32) -> Result<u32, NoRoomForClients> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a local of the right type.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        warn!(
            "Unable to obtain the current NOFILE limit ({}), assuming 1024 and setting the max clients \
             configuration accordingly.",
            errno::last()
        );
        return Ok(1024 - RESERVED_FDS as u32);
    }
    fit_clients(maxclients, limit.rlim_cur, |files| {
        // The hard limit stays: whoever lowers it cannot raise it again.
        let new = libc::rlimit {
            rlim_cur: files,
            rlim_max: limit.rlim_max.max(files),
        };
        // SAFETY: as above.
        match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &new) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

/// The system allows so few open files that no client could connect; the log says so.
#[derive(Debug, PartialEq, Eq)]
pub struct NoRoomForClients;

/// The search for the best limit: `now` is in force, `set` tries another.
fn fit_clients(
    maxclients: u32,
    now: u64,
    mut set: impl FnMut(u64) -> io::Result<()>,
) -> Result<u32, NoRoomForClients> {
    let needed = u64::from(maxclients) + RESERVED_FDS;
    if now >= needed {
        return Ok(maxclients);
    }
    let (mut best, mut error) = (needed, None);
    while best > now {
        match set(best) {
            Ok(()) => break,
            Err(e) => error = Some(e),
        }
        best = best.saturating_sub(16);
    }
    let best = best.max(now);
    if best >= needed {
        info!(
            "Increased maximum number of open files to {needed} (it was originally set to {now})."
        );
        return Ok(maxclients);
    }
    if best <= RESERVED_FDS {
        warn!(
            "Your current 'ulimit -n' of {now} is not enough for the server to start. Please increase \
             your open file limit to at least {needed}. Exiting."
        );
        return Err(NoRoomForClients);
    }
    let fitting = (best - RESERVED_FDS) as u32;
    let error = error.as_ref().map(errno::text).unwrap_or_default();
    warn!(
        "You requested maxclients of {maxclients} requiring at least {needed} max file descriptors."
    );
    warn!("Server can't set maximum open files to {needed} because of OS error: {error}.");
    warn!(
        "Current maximum open files is {best}. maxclients has been reduced to {fitting} to compensate \
         for low ulimit. If you need higher maxclients increase 'ulimit -n'."
    );
    Ok(fitting)
}

/// `oom-score-adj`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomMode {
    /// The score is not touched (and is put back if it was).
    No,
    /// The value is added to the score the process was started with.
    Relative,
    /// The value is the score.
    Absolute,
}

/// How ready the kernel is to kill this process, and what it was before we changed it.
#[derive(Debug, Default)]
pub struct OomScore {
    original: Option<i32>,
}

const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";

impl OomScore {
    /// Applies the configuration: `value` is the one of `oom-score-adj-values` for the role the process
    /// has. An error is in the log already.
    pub fn apply(&mut self, mode: OomMode, value: i32) -> io::Result<()> {
        let score = match (mode, self.original) {
            (OomMode::No, None) => return Ok(()),
            (OomMode::No, Some(original)) => original,
            (mode, _) => {
                let original = self.remember()?;
                let base = if mode == OomMode::Relative {
                    original
                } else {
                    0
                };
                base.saturating_add(value).clamp(-1000, 1000)
            }
        };
        if mode == OomMode::No {
            self.original = None;
        }
        std::fs::write(OOM_SCORE_FILE, format!("{score}\n"))
            .inspect_err(|e| warn!("Unable to write oom_score_adj: {}", errno::text(e)))
    }

    /// The score before the first change.
    fn remember(&mut self) -> io::Result<i32> {
        if let Some(original) = self.original {
            return Ok(original);
        }
        let text = std::fs::read_to_string(OOM_SCORE_FILE)
            .inspect_err(|e| warn!("Unable to read oom_score_adj: {}", errno::text(e)))?;
        Ok(*self.original.insert(text.trim().parse().unwrap_or(0)))
    }
}

/// True if there is such a program, and we may run it.
pub fn is_executable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Why we may not write a file, if so.
pub fn why_not_writable(path: &Path) -> Option<io::Error> {
    let may = rustix::fs::access(path, rustix::fs::Access::WRITE_OK);
    may.err().map(io::Error::from)
}

/// Sets the language's order of characters (`locale-collate`; empty: the environment's). False if the
/// system does not know it.
pub fn set_collation(locale: &str) -> bool {
    let Ok(name) = std::ffi::CString::new(locale) else {
        return false;
    };
    // SAFETY: `name` is a C string, which setlocale copies.
    unsafe { !libc::setlocale(libc::LC_COLLATE, name.as_ptr()).is_null() }
}

/// The CPUs of a list such as `0,2,4-10:2` (`server-cpulist` and its kin); `None` if it is not one.
pub fn parse_cpu_list(list: &str) -> Option<Vec<usize>> {
    // More than the kernel's set holds is a mistake.
    let number = |s: &str| {
        s.parse::<usize>()
            .ok()
            .filter(|&n| n < libc::CPU_SETSIZE as usize)
    };
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (range, step) = match part.split_once(':') {
            Some((range, step)) => (range, number(step)?),
            None => (part, 1),
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(range)?, number(range)?),
        };
        if first > last || step == 0 {
            return None;
        }
        cpus.extend((first..=last).step_by(step));
    }
    Some(cpus)
}

/// Binds the calling thread, and the threads it starts, to the CPUs of a list. An empty list, one that
/// is none, or one of absent CPUs changes nothing, as in Redis.
pub fn set_cpu_affinity(list: &str) {
    let Some(cpus) = parse_cpu_list(list) else {
        return;
    };
    // SAFETY: a set of bits for which zero is a value; CPU_SET gets numbers below its size, and the
    // kernel reads as many bytes as it is told.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for cpu in cpus {
            libc::CPU_SET(cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// Lets go of the code that ran. The kernel brings in sixteen pages around each one that runs, and the start runs a little
/// of everything: half of what an idle server has resident would be code that never runs again. What runs next is found in
/// the page cache, for some ten faults while it rests and fifty with the next requests.
#[cfg(target_os = "linux")]
pub fn let_go_of_code() {
    for code in procfs::unwritten_code() {
        // SAFETY: the range is code as its file holds it, and nothing writes to code: whoever runs it next, this function
        // first, finds the same bytes.
        unsafe {
            libc::madvise(code.start as *mut _, code.len(), libc::MADV_DONTNEED);
        }
    }
}

/// The same, where it is not known how.
#[cfg(not(target_os = "linux"))]
pub fn let_go_of_code() {}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> io::Error {
        io::Error::from_raw_os_error(libc::EPERM)
    }

    #[test]
    fn the_open_files_limit_follows_maxclients() {
        assert_eq!(fit_clients(100, 1024, |_| panic!("nothing to do")), Ok(100));
        let mut asked = Vec::new();
        let set = |n| {
            asked.push(n);
            if n <= 4096 { Ok(()) } else { Err(refused()) }
        };
        assert_eq!(fit_clients(10_000, 1024, set), Ok(4096 - 32));
        assert_eq!(
            (asked[0], asked[1], asked.last()),
            (10_032, 10_016, Some(&4096))
        );
        assert_eq!(fit_clients(10_000, 1024, |_| Ok(())), Ok(10_000));
        // What was allowed at the start holds, even when no step of 16 hits it.
        assert_eq!(fit_clients(10_000, 1000, |_| Err(refused())), Ok(1000 - 32));
        assert_eq!(
            fit_clients(10_000, 32, |_| Err(refused())),
            Err(NoRoomForClients)
        );
        assert_eq!(fit_clients(10_000, 33, |_| Err(refused())), Ok(1));
    }

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpu_list("0"), Some(vec![0]));
        assert_eq!(parse_cpu_list("0,2,4-6"), Some(vec![0, 2, 4, 5, 6]));
        assert_eq!(parse_cpu_list("1-9:3,20"), Some(vec![1, 4, 7, 20]));
        for bad in ["", "a", "3-1", "1-", "1-4:0", "1,,2", "-1", "9999", "1-4:x"] {
            assert_eq!(parse_cpu_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn systemd_is_told_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("redstart-test-{}", std::process::id());
        let abstract_address =
            <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name).unwrap();
        let sockets = [
            (
                path.to_str().unwrap().to_string(),
                UnixDatagram::bind(&path).unwrap(),
            ),
            (
                format!("@{name}"),
                UnixDatagram::bind_addr(&abstract_address).unwrap(),
            ),
        ];
        for (address, socket) in sockets {
            let getenv = |name: &str| (name == "NOTIFY_SOCKET").then(|| address.clone());
            let supervisor = Supervisor::detect(Supervised::Auto, getenv);
            assert!(supervisor.is_present());
            supervisor.ready("Ready to accept connections");
            let mut buf = [0; 100];
            let mut next = || {
                let n = socket.recv(&mut buf).unwrap();
                String::from_utf8_lossy(&buf[..n]).into_owned()
            };
            assert_eq!(next(), "STATUS=Redis is loading...\n");
            assert_eq!(next(), "STATUS=Ready to accept connections\n");
            assert_eq!(next(), "READY=1\n");
        }
    }

    #[test]
    fn nobody_supervises_without_a_mark() {
        assert!(!Supervisor::detect(Supervised::Auto, |_| None).is_present());
        assert!(!Supervisor::detect(Supervised::Systemd, |_| None).is_present());
        assert!(!Supervisor::detect(Supervised::Upstart, |_| None).is_present());
        let gone = |_: &str| Some("/no/such/socket".to_string());
        assert!(!Supervisor::detect(Supervised::Systemd, gone).is_present());
        let all = |_: &str| Some("@x".to_string());
        assert!(!Supervisor::detect(Supervised::No, all).is_present());
    }

    #[test]
    fn the_pid_file_holds_the_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        create_pid_file(&path);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
        remove_pid_file(&path);
        assert!(!path.exists());
        create_pid_file(&dir.path().join("no/such/dir"));
    }
}
