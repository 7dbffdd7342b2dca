//! The outside as it is: the process's clocks, memory, files and sockets behind the second door.

use std::ffi::{CStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::time::Clock;
use crate::base::{alloc, errno, rng};
use crate::cmd::session::Token;
use crate::config::{Choice, Config, OomScoreAdj, Text, file};
use crate::exec::debugging::Copied;
use crate::exec::io::{Crash, Disk, Exchange, Io, LookUp, MemoryFigures, ProcessFacts, Setting};
use crate::exec::link::Target;
use crate::exec::pipe::{Pipe, PipeWriter, Wake};
use crate::exec::sentinel::{Ended, NotStarted};
use crate::exec::server::Server;
use crate::resp::reply::Reply;
use crate::server::bio::Lane;
use crate::server::disk::RealDisk;
use crate::server::drive::Os;
use crate::server::log::{self as server_log, Verbosity};
use crate::server::proc_title::{self, TitleVars};
use crate::server::process::{self, OomMode};
use crate::server::{crash, net, procfs};

/// How the process was started.
#[derive(Debug, Default)]
pub struct Launch {
    /// The arguments, the program's name first.
    pub args: Vec<OsString>,
    /// The directory it was started in: relative paths in the arguments are seen from there.
    pub dir: PathBuf,
    /// Absolute path of the configuration file, empty when there is none.
    pub config_file: String,
    /// The file that holds the process's number, if there is to be one.
    pub pid_file: Option<PathBuf>,
    /// As a Sentinel.
    pub sentinel: bool,
}

/// So long everybody waits for a name that SENTINEL MONITOR gives.
const LOOK_UP: Duration = Duration::from_millis(500);

/// So long nothing happens while a script is debugged where it is and nobody types.
const TYPING: Duration = Duration::from_millis(2);

/// What a pipe from a job to the loop holds.
const PIPE_BYTES: usize = 1024 * 1024;

/// The clock behind [`Io::mono_ns`], as INFO and the log name it: what the processor's counter is held against.
pub const CLOCK_NAME: &str = "POSIX clock_gettime";

impl Io for Os {
    fn poll(&mut self, server: &mut Server) {
        self.poll_within(server);
    }

    fn wait_for_input(&mut self, server: &mut Server, _: Token) -> bool {
        self.poll_within(server);
        // (Whoever debugs is a person.)
        std::thread::sleep(TYPING);
        true
    }

    fn debug_apart(&mut self, copy: Box<Copied>) -> Result<(), String> {
        crate::server::debugging::start(copy)
    }

    fn mono_ns(&self) -> u64 {
        self.watch.mono_ns()
    }

    fn unix_us(&self) -> u64 {
        self.watch.clock().unix_us()
    }

    fn thread_cpu_ns(&self) -> u64 {
        self.watch.clock().thread_cpu_ns()
    }

    fn used_memory(&self) -> usize {
        alloc::used_memory() as usize
    }

    fn process(&self) -> ProcessFacts {
        ProcessFacts {
            pid: std::process::id(),
            os: operating_system(),
            allocator: alloc::allocator_name(),
            supervised: self.supervisor.name(),
            monotonic_clock: CLOCK_NAME,
            multiplexing_api: "epoll",
        }
    }

    fn clock(&self) -> Clock {
        self.watch.clock().clone()
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
            cpu_process: cpu_us(libc::RUSAGE_SELF),
            cpu_main_thread: cpu_us(libc::RUSAGE_THREAD),
            cpu_children: cpu_us(libc::RUSAGE_CHILDREN),
        }
    }

    fn apply(&mut self, setting: Setting, config: &Config) -> Result<(), String> {
        match setting {
            Setting::Listen => {
                self.doors.listen_tcp(config)?;
                self.show_title(config)
            }
            Setting::ListenTls => {
                self.doors.listen_tls(config)?;
                self.show_title(config)
            }
            Setting::TlsOnce if self.doors.tls.is_some() => Ok(()),
            Setting::Tls | Setting::TlsOnce => {
                let clock = self.watch.clock().clone();
                self.doors.configure_tls(config, &clock)
            }
            Setting::MaxClients => fit_clients(config),
            Setting::Log => {
                set_log_level(config);
                Ok(())
            }
            Setting::OomScoreAdj => self.set_oom_score(config),
            Setting::Role => {
                server_log::set_role(match config.replicaof {
                    _ if self.launch.sentinel => server_log::Role::Sentinel,
                    Some(_) => server_log::Role::Replica,
                    None => server_log::Role::Master,
                });
                Ok(())
            }
            Setting::ProcTitle => self.show_title(config),
            Setting::Watchdog => {
                let set = self.watchdog.set_period(config.watchdog_period, config.hz);
                set.map(|_| ()).map_err(|e| errno::text(&e))
            }
            Setting::CrashLog => {
                crash::configure(
                    config.crash_log_enabled,
                    config.crash_memcheck_enabled,
                    config.use_exit_on_panic,
                );
                Ok(())
            }
            Setting::Locale => match process::set_collation(&config.locale_collate.lossy()) {
                true => Ok(()),
                false => Err("Invalid locale name".into()),
            },
            Setting::JemallocBackground => {
                let set = alloc::set_background_thread(config.jemalloc_bg_thread);
                set.map_err(|e| errno::text(&e))
            }
        }
    }

    fn enter_dir(&mut self, from: &Text, path: &[u8]) -> Result<Text, String> {
        file::enter(from, path)
    }

    fn read_file(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        file::read_old(path)
    }

    fn replace_file(&mut self, path: &Path, text: &[u8]) -> io::Result<()> {
        file::replace(path, text)
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(RealDisk)
    }

    fn wake(&self) -> Wake {
        let waker = self.doors.reactor.waker();
        Box::new(move || waker.wake())
    }

    fn pipe(&self) -> (Pipe, PipeWriter) {
        Pipe::new(PIPE_BYTES, self.wake())
    }

    fn note_unfinished(&mut self, path: Option<&Path>) {
        process::note_unfinished(path);
    }

    fn forget_signal(&mut self) -> bool {
        self.signals
            .as_ref()
            .is_some_and(|signals| signals.forget())
    }

    fn exchange(
        &mut self,
        target: &Target,
        request: &Reply,
        lines: usize,
        timeout_ms: u64,
    ) -> Exchange {
        let tls = self.doors.tls.as_ref();
        net::exchange(target, tls, request, lines, timeout_ms)
    }

    fn look_up(&mut self, name: &str) -> Option<String> {
        net::first_address_within(name, LOOK_UP)
    }

    fn looker_up(&self) -> LookUp {
        Box::new(net::first_address)
    }

    fn is_executable(&mut self, path: &Path) -> bool {
        process::is_executable(path)
    }

    fn start_program(&mut self, dir: &Path, argv: &[Vec<u8>]) -> Result<u32, NotStarted> {
        self.programs.start(dir, argv)
    }

    fn kill_program(&mut self, pid: u32) {
        self.programs.kill(pid);
    }

    fn ended_programs(&mut self) -> Vec<Ended> {
        self.programs.ended()
    }

    fn wait_for_log(&mut self) {
        self.bio.drain(Lane::Aof);
    }

    fn tell_supervisor(&mut self, state: &str) {
        self.supervisor.notify(&format!("{state}\n"));
    }

    fn sleep_us(&mut self, us: u64) {
        std::thread::sleep(Duration::from_micros(us));
    }

    fn huge_page_bytes(&mut self) -> u64 {
        procfs::smaps_sum("AnonHugePages:")
    }

    fn secret(&mut self, bytes: &mut [u8]) {
        rng::entropy(bytes);
    }

    fn purge(&mut self) -> bool {
        alloc::purge()
            .inspect_err(|e| log::warn!("Can't purge the allocator: {}", errno::text(e)))
            .is_ok()
    }

    fn malloc_stats(&mut self) -> String {
        alloc::malloc_stats()
    }

    fn mallctl(&mut self, name: &str, new: Option<i64>) -> io::Result<Option<i64>> {
        alloc::mallctl_int(name, new)
    }

    fn mallctl_str(&mut self, name: &str, new: Option<&str>) -> io::Result<Option<String>> {
        // A name that is none says so, whatever its kind.
        match alloc::mallctl_int(name, None) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Err(e),
            _ => alloc::mallctl_str(name, new),
        }
    }

    fn crash(&mut self, how: Crash) {
        match how {
            Crash::Segfault => crash::provoke_segfault(),
            Crash::Panic => {
                let now_s = self.watch.clock().unix_us() / 1_000_000;
                panic!("DEBUG PANIC called at Unix time {now_s}");
            }
            Crash::Stream(why) => panic!("{why}"),
            Crash::Assert => panic!("assertion failed: 1 == 2"),
            Crash::OutOfMemory => {
                let size = usize::MAX / 2;
                log::warn!("Out Of Memory allocating {size} bytes!");
                panic!("Redis aborting for OUT OF MEMORY. Allocating {size} bytes!");
            }
            Crash::Restart {
                executable,
                delay_ms,
            } => self.restart(&executable, delay_ms),
        }
    }
}

impl Os {
    /// Shows the configured title, if this process has one to show.
    pub fn show_title(&mut self, config: &Config) -> Result<(), String> {
        let Some(title) = &mut self.title else {
            return Ok(());
        };
        let launch = &self.launch;
        let program = launch.args.first().map(|a| a.to_string_lossy());
        let bind = config.bind.first().map(|b| b.lossy());
        let file = Some(launch.config_file.as_str()).filter(|f| !f.is_empty());
        let vars = TitleVars {
            title: program.as_deref().unwrap_or_default(),
            bind: bind.as_deref(),
            port: config.port,
            tls_port: config.tls_port,
            unixsocket: &config.unixsocket.lossy(),
            config_file: file,
            cluster: config.cluster_enabled,
            sentinel: self.launch.sentinel,
        };
        match proc_title::expand(&config.proc_title_template.lossy(), &vars) {
            Some(text) => {
                title.set(&text);
                Ok(())
            }
            None => Err("failed to set process title".into()),
        }
    }

    /// Sets the score by which the kernel chooses what to kill when memory is short, by the role.
    pub fn set_oom_score(&mut self, config: &Config) -> Result<(), String> {
        let mode = match config.oom_score_adj {
            OomScoreAdj::No => OomMode::No,
            OomScoreAdj::Relative => OomMode::Relative,
            OomScoreAdj::Absolute => OomMode::Absolute,
        };
        let role = usize::from(config.replicaof.is_some());
        let set = self.oom.apply(mode, config.oom_score_adj_values[role]);
        set.map_err(|_| "Failed to set current oom_score_adj. Check server logs.".into())
    }

    /// Becomes a new process of the same program with the same arguments. It returns if that fails.
    fn restart(&mut self, executable: &str, delay_ms: u64) {
        std::thread::sleep(Duration::from_millis(delay_ms));
        let arguments = self.launch.args.iter().skip(1);
        let error = std::process::Command::new(executable)
            .args(arguments)
            .current_dir(&self.launch.dir)
            .exec();
        log::warn!("Can't restart {executable}: {}", errno::text(&error));
    }
}

/// Makes room for `maxclients` clients, or says how many the system allows.
fn fit_clients(config: &Config) -> Result<(), String> {
    let wanted = config.maxclients as u32;
    let fitting = process::adjust_open_files_limit(wanted).unwrap_or(0);
    if fitting < wanted {
        return Err(format!(
            "The operating system is not able to handle the specified number of clients, try with {fitting}"
        ));
    }
    Ok(())
}

/// What may be logged: `loglevel` and `hide-user-data-from-log`.
pub fn set_log_level(config: &Config) {
    let verbosity = Verbosity::parse(config.loglevel.name()).unwrap_or(Verbosity::Notice);
    server_log::set_verbosity(verbosity);
    server_log::set_hide_user_data(config.hide_user_data_from_log);
}

/// Name, release and machine, as `uname` tells them.
fn operating_system() -> String {
    // SAFETY: the struct is made of arrays of characters, for which zero is a value; the call fills it with
    // strings that end in a zero.
    let name = unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        libc::uname(&mut name);
        name
    };
    let text = |field: &[libc::c_char]| {
        let bytes: Vec<u8> = field.iter().map(|&c| c as u8).collect();
        let text = CStr::from_bytes_until_nul(&bytes).map(CStr::to_string_lossy);
        text.map_or_else(|_| String::new(), |t| t.into_owned())
    };
    let [sysname, release, machine] =
        [&name.sysname, &name.release, &name.machine].map(|f| text(f));
    format!("{sysname} {release} {machine}")
}

/// CPU time in the system and in the program, in µs.
fn cpu_us(who: libc::c_int) -> (u64, u64) {
    // SAFETY: the struct is made of integers, for which zero is a value; the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(who, &mut usage);
        usage
    };
    let us = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
    (us(usage.ru_stime), us(usage.ru_utime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_its_name_and_the_time_spent() {
        let os = operating_system();
        assert_eq!(os.split(' ').count(), 3, "{os}");
        assert!(os.ends_with(std::env::consts::ARCH), "{os}");
        let before = cpu_us(libc::RUSAGE_THREAD).1;
        while cpu_us(libc::RUSAGE_THREAD).1 == before {
            std::hint::spin_loop();
        }
    }
}
