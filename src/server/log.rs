//! The log: Redis's line, through the `log` macros and `env_logger`.
//!
//! ```text
//! 4711:M 05 Mar 2026 17:04:11.123 * Ready to accept connections tcp
//! pid  | local time               | level: . debug  - verbose  * notice  # warning
//!      role: M master, S replica, X sentinel, C child
//! ```
//!
//! The macros' levels stand for Redis's: `trace!` is debug, `debug!` verbose, `info!` notice and `warn!`
//! (or `error!`) warning. A line goes to standard output or to the log file, which is opened for each
//! line, so that a log rotated away is followed by a new one; and to syslog if that is on.
//!
//! Signal handlers and the crash report cannot use the macros, which allocate and lock. For them there
//! are [`from_handler`], [`direct`] and [`direct_raw`], which write(2) from the stack. Everything the
//! writers look at is therefore an atomic: process-wide state, which the log alone (with the
//! allocator's count) may have.

use std::ffi::{CString, OsStr, c_char, c_int};
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};

use log::{Level, LevelFilter};

use crate::base::time::{Clock, LocalTime};

/// The longest line that [`direct`] and [`from_handler`] write; what is over is cut off.
const DIRECT_MAX: usize = 1024;

static VERBOSITY: AtomicU8 = AtomicU8::new(Verbosity::Notice as u8);
static ROLE: AtomicU8 = AtomicU8::new(Role::Master as u8);
static TO_SYSLOG: AtomicBool = AtomicBool::new(false);
static HIDE_USER_DATA: AtomicBool = AtomicBool::new(false);
/// The log file's path, null for standard output. Each path set stays allocated, since a handler may
/// be reading it: a log file changes a few times in a process's life at most.
static FILE: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Redis's `loglevel`: how important a line must be to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verbosity {
    /// Everything.
    Debug,
    /// Rarely useful details.
    Verbose,
    /// What an administrator wants to know.
    Notice,
    /// What needs attention.
    Warning,
    /// No line at all.
    Nothing,
}

impl Verbosity {
    const ALL: [Verbosity; 5] = [
        Verbosity::Debug,
        Verbosity::Verbose,
        Verbosity::Notice,
        Verbosity::Warning,
        Verbosity::Nothing,
    ];

    /// As it is written in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Verbosity::Debug => "debug",
            Verbosity::Verbose => "verbose",
            Verbosity::Notice => "notice",
            Verbosity::Warning => "warning",
            Verbosity::Nothing => "nothing",
        }
    }

    /// The value of a `loglevel` directive.
    pub fn parse(name: &str) -> Option<Verbosity> {
        Self::ALL
            .into_iter()
            .find(|v| v.name().eq_ignore_ascii_case(name))
    }

    /// The mark that stands for it in a line.
    fn mark(self) -> char {
        ['.', '-', '*', '#', '#'][self as usize]
    }

    fn of(level: Level) -> Verbosity {
        match level {
            Level::Error | Level::Warn => Verbosity::Warning,
            Level::Info => Verbosity::Notice,
            Level::Debug => Verbosity::Verbose,
            Level::Trace => Verbosity::Debug,
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Verbosity::Debug => LevelFilter::Trace,
            Verbosity::Verbose => LevelFilter::Debug,
            Verbosity::Notice => LevelFilter::Info,
            Verbosity::Warning => LevelFilter::Warn,
            Verbosity::Nothing => LevelFilter::Off,
        }
    }

    fn syslog_priority(self) -> c_int {
        [
            libc::LOG_DEBUG,
            libc::LOG_INFO,
            libc::LOG_NOTICE,
            libc::LOG_WARNING,
            libc::LOG_WARNING,
        ][self as usize]
    }

    fn is_on(self) -> bool {
        self as u8 >= VERBOSITY.load(Ordering::Relaxed)
    }
}

/// Who writes: the letter after the pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// A master.
    Master = b'M',
    /// A replica.
    Replica = b'S',
    /// A Sentinel.
    Sentinel = b'X',
    /// What Redis does in a forked child.
    Child = b'C',
}

/// Makes the `log` macros of this crate write here. To be called once, first thing; until then they
/// write nothing. Other crates' lines are not shown.
pub fn init() {
    let logger = env_logger::Builder::new()
        .filter_level(LevelFilter::Off)
        .filter_module("redstart", LevelFilter::Trace)
        .filter_module("redis_server", LevelFilter::Trace)
        .filter_module("redis_sentinel", LevelFilter::Trace)
        .target(env_logger::Target::Pipe(Box::new(Sink)))
        .format(|out, record| {
            let level = Verbosity::of(record.level());
            if TO_SYSLOG.load(Ordering::Relaxed) {
                to_syslog(level, &record.args().to_string());
            }
            write_line(out, level, *record.args())
        })
        .build();
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        set_verbosity(verbosity());
    }
}

/// Sets `loglevel`.
pub fn set_verbosity(v: Verbosity) {
    VERBOSITY.store(v as u8, Ordering::Relaxed);
    log::set_max_level(v.filter());
}

/// The `loglevel` in force.
pub fn verbosity() -> Verbosity {
    Verbosity::ALL[usize::from(VERBOSITY.load(Ordering::Relaxed))]
}

/// Sets the letter after the pid.
pub fn set_role(role: Role) {
    ROLE.store(role as u8, Ordering::Relaxed);
}

/// Sets `logfile`: a path, or `None` for standard output. The file is opened once to see that it can
/// be; the error is the system's. A relative path is taken from the process's working directory.
pub fn set_file(path: Option<&Path>) -> io::Result<()> {
    let path = match path {
        None => ptr::null_mut(),
        Some(path) => {
            std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)?;
            CString::new(path.as_os_str().as_bytes())?.into_raw()
        }
    };
    FILE.store(path, Ordering::Release);
    Ok(())
}

/// True if lines go to standard output.
pub fn is_stdout() -> bool {
    FILE.load(Ordering::Acquire).is_null()
}

/// Sets `syslog-enabled` with `syslog-ident` and `syslog-facility` (see [`facility`]).
pub fn set_syslog(ident_and_facility: Option<(&str, c_int)>) {
    if let Some((ident, facility)) = ident_and_facility {
        // openlog keeps the pointer, so that the name must stay.
        let ident = CString::new(ident).unwrap_or_default().into_raw();
        // SAFETY: `ident` is a C string that is never freed.
        unsafe {
            libc::openlog(
                ident,
                libc::LOG_PID | libc::LOG_NDELAY | libc::LOG_NOWAIT,
                facility,
            )
        };
    }
    TO_SYSLOG.store(ident_and_facility.is_some(), Ordering::Release);
}

/// The value of a `syslog-facility` directive: user, or local0 to local7.
pub fn facility(name: &str) -> Option<c_int> {
    if name.eq_ignore_ascii_case("user") {
        return Some(libc::LOG_USER);
    }
    let local = [
        libc::LOG_LOCAL0,
        libc::LOG_LOCAL1,
        libc::LOG_LOCAL2,
        libc::LOG_LOCAL3,
        libc::LOG_LOCAL4,
        libc::LOG_LOCAL5,
        libc::LOG_LOCAL6,
        libc::LOG_LOCAL7,
    ];
    (0..8)
        .find(|i| name.eq_ignore_ascii_case(&format!("local{i}")))
        .map(|i| local[i])
}

/// Sets `hide-user-data-from-log`.
pub fn set_hide_user_data(hide: bool) {
    HIDE_USER_DATA.store(hide, Ordering::Relaxed);
}

/// True if keys, values and arguments must not be written to the log.
pub fn hides_user_data() -> bool {
    HIDE_USER_DATA.load(Ordering::Relaxed)
}

/// `data`, or what stands for it in the log when user data is hidden.
pub fn user_data(data: &str) -> &str {
    if hides_user_data() {
        "*redacted*"
    } else {
        data
    }
}

/// Writes `text` as it stands, without pid, time and newline.
pub fn raw(level: Verbosity, text: &str) {
    if !level.is_on() {
        return;
    }
    let _ = Sink.write_all(text.as_bytes());
    if TO_SYSLOG.load(Ordering::Relaxed) {
        to_syslog(level, text);
    }
}

/// A line from a signal handler, in a form of its own since a handler knows no calendar:
/// `pid:signal-handler (unix time) text`. Async-signal-safe.
pub fn from_handler(level: Verbosity, text: &str) {
    if level.is_on() {
        let mut line = StackLine::default();
        // SAFETY: both are system calls without arguments in memory.
        let (pid, now) = unsafe { (libc::getpid(), libc::time(ptr::null_mut())) };
        let _ = write!(line, "{pid}:signal-handler ({now}) {text}");
        direct_raw(line.end());
    }
}

/// A line of the usual form that takes neither the logger's lock nor the heap: for the crash report.
pub fn direct(level: Verbosity, args: fmt::Arguments) {
    if level.is_on() {
        let mut line = StackLine::default();
        let _ = write!(line, "{}{args}", Prefix::now(level));
        direct_raw(line.end());
    }
}

/// Bytes as they stand, straight to the log. Async-signal-safe.
pub fn direct_raw(bytes: &[u8]) {
    let _ = Sink.write_all(bytes);
}

/// Text as it stands for the log, gathered on the stack and written when the buffer is full or the
/// writer is dropped: for the crash report, which cannot trust lock and heap. Async-signal-safe.
pub struct DirectText {
    bytes: [u8; DIRECT_MAX],
    len: usize,
    is_on: bool,
}

impl DirectText {
    /// A writer of text of this level.
    pub fn new(level: Verbosity) -> DirectText {
        DirectText {
            bytes: [0; DIRECT_MAX],
            len: 0,
            is_on: level.is_on(),
        }
    }

    /// Writes what is gathered.
    pub fn flush(&mut self) {
        if self.is_on {
            direct_raw(&self.bytes[..self.len]);
        }
        self.len = 0;
    }
}

impl fmt::Write for DirectText {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for &byte in s.as_bytes() {
            if self.len == DIRECT_MAX {
                self.flush();
            }
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}

impl Drop for DirectText {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Where lines go: opened for each, as said at the head of the file.
struct Sink;

impl Write for Sink {
    /// Writes all or fails. Async-signal-safe.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let path = FILE.load(Ordering::Acquire);
        let fd = if path.is_null() {
            libc::STDOUT_FILENO
        } else {
            let flags = libc::O_APPEND | libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC;
            // SAFETY: the path is a C string that is never freed.
            unsafe { libc::open(path, flags, 0o666 as libc::c_uint) }
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut rest = bytes;
        let result = loop {
            if rest.is_empty() {
                break Ok(bytes.len());
            }
            // SAFETY: the buffer is `rest`, readable for its whole length.
            let n = unsafe { libc::write(fd, rest.as_ptr().cast(), rest.len()) };
            match usize::try_from(n) {
                Ok(n) => rest = &rest[n..],
                Err(_) => {
                    let e = io::Error::last_os_error();
                    if e.kind() != io::ErrorKind::Interrupted {
                        break Err(e);
                    }
                }
            }
        };
        if !path.is_null() {
            // SAFETY: `fd` was opened above and is closed once.
            unsafe { libc::close(fd) };
        }
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What stands before the text of a line.
struct Prefix {
    pid: u32,
    role: char,
    time: LocalTime,
    level: Verbosity,
}

impl Prefix {
    fn now(level: Verbosity) -> Prefix {
        Prefix {
            pid: std::process::id(),
            role: char::from(ROLE.load(Ordering::Relaxed)),
            time: LocalTime::at(Clock::system().unix_us()),
            level,
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{}:{} {} {} ",
            self.pid,
            self.role,
            self.time,
            self.level.mark()
        )
    }
}

/// Writes a line of the usual form elsewhere: for programs whose log is part of what they print.
pub fn write_line(out: &mut impl Write, level: Verbosity, args: fmt::Arguments) -> io::Result<()> {
    writeln!(out, "{}{args}", Prefix::now(level))
}

/// A line that is put together on the stack.
struct StackLine {
    bytes: [u8; DIRECT_MAX],
    len: usize,
}

impl Default for StackLine {
    fn default() -> StackLine {
        StackLine {
            bytes: [0; DIRECT_MAX],
            len: 0,
        }
    }
}

impl StackLine {
    fn end(&mut self) -> &[u8] {
        self.bytes[self.len] = b'\n';
        &self.bytes[..=self.len]
    }
}

impl fmt::Write for StackLine {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        // One byte is kept for the newline.
        let n = s.len().min(DIRECT_MAX - 1 - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

fn to_syslog(level: Verbosity, text: &str) {
    // A NUL would end the text early; it cannot be shown anyway.
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    // SAFETY: both are C strings, and the format takes one.
    unsafe { libc::syslog(level.syslog_priority(), c"%s".as_ptr(), text.as_ptr()) };
}

/// What the banner of a start tells.
#[derive(Debug, Clone, Copy)]
pub struct Banner<'a> {
    /// The version of Redis that this is compatible with.
    pub redis_version: &'a str,
    /// Our own.
    pub version: &'a str,
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: &'a str,
    /// The plain port, or the TLS port if there is no plain one.
    pub port: u16,
    /// `always-show-logo`.
    pub always_show: bool,
}

/// The picture at the start, if the log is a terminal's (or it is always wanted); else one line.
pub fn startup_banner(b: &Banner) {
    let syslog = TO_SYSLOG.load(Ordering::Relaxed);
    // SAFETY: isatty takes a number.
    let on_terminal = !syslog && is_stdout() && unsafe { libc::isatty(libc::STDOUT_FILENO) } == 1;
    if on_terminal || b.always_show {
        raw(Verbosity::Notice, &picture(b));
    } else {
        log::info!("Running mode={}, port={}.", b.mode, b.port);
    }
}

fn picture(b: &Banner) -> String {
    let bits = usize::BITS;
    let pid = std::process::id();
    let Banner {
        redis_version,
        version,
        mode,
        port,
        ..
    } = b;
    format!(
        r"
            .--.
           / o  \__        Redstart {version} (Redis {redis_version}) {bits} bit
      ____/  )  .--'
   .-'      /  /           Running in {mode} mode
 .'   .-----' /            Port: {port}
/_.-'/ `-.___/             PID: {pid}
    /.'  | |
   //   -' -'

"
    )
}

/// A `logfile` value as a path: empty means standard output.
pub fn file_of(value: &[u8]) -> Option<&Path> {
    (!value.is_empty()).then(|| Path::new(OsStr::from_bytes(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_redis_form() {
        let time = LocalTime {
            year: 2026,
            month: 2,
            day: 5,
            weekday: 0,
            hour: 7,
            minute: 4,
            second: 1,
            milli: 9,
        };
        let prefix = Prefix {
            pid: 4711,
            role: 'S',
            time,
            level: Verbosity::Warning,
        };
        assert_eq!(prefix.to_string(), "4711:S 05 Mar 2026 07:04:01.009 # ");

        let mut out = Vec::new();
        write_line(
            &mut out,
            Verbosity::of(Level::Debug),
            format_args!("x={}", 1),
        )
        .unwrap();
        let line = String::from_utf8(out).unwrap();
        let fields: Vec<_> = line.split(' ').collect();
        assert_eq!(fields.len(), 7, "{line}");
        assert!(fields[0].starts_with(&format!("{}:", std::process::id())));
        assert_eq!((fields[5], fields[6]), ("-", "x=1\n"));
    }

    #[test]
    fn levels_map_to_redis_marks_and_names() {
        let marks: String = [
            Level::Trace,
            Level::Debug,
            Level::Info,
            Level::Warn,
            Level::Error,
        ]
        .map(|l| Verbosity::of(l).mark())
        .iter()
        .collect();
        assert_eq!(marks, ".-*##");
        for v in Verbosity::ALL {
            assert_eq!(Verbosity::parse(&v.name().to_uppercase()), Some(v));
        }
        assert_eq!(Verbosity::parse("loud"), None);
        assert!(Verbosity::Nothing.filter() == LevelFilter::Off);
        assert_eq!(facility("LOCAL3"), Some(libc::LOG_LOCAL3));
        assert_eq!(
            (facility("user"), facility("local8")),
            (Some(libc::LOG_USER), None)
        );
    }

    #[test]
    fn a_long_line_is_cut_and_still_ends() {
        let mut line = StackLine::default();
        for _ in 0..300 {
            write!(line, "0123456789").unwrap();
        }
        let end = line.end();
        assert_eq!(
            (end.len(), end[DIRECT_MAX - 2], end[DIRECT_MAX - 1]),
            (DIRECT_MAX, b'2', b'\n')
        );
    }

    #[test]
    fn the_picture_names_what_scripts_look_for() {
        let text = picture(&Banner {
            redis_version: "7.2.6",
            version: "0.1.0",
            mode: "standalone",
            port: 6380,
            always_show: false,
        });
        assert!(text.contains(&format!(" PID: {}\n", std::process::id())));
        assert!(text.contains(" Port: 6380\n") && text.contains("Running in standalone mode"));
    }
}
