//! From the command line to the loop, and from the loop to the exit.
//!
//! The order of the steps is Redis's, and so are the log lines: scripts wait for some of them. What
//! happens early does so for a reason: the fork of `daemonize` before any thread is there, the title's
//! memory likewise, the listeners after all that may still stop the start.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use crate::admin::{self, info::REDIS_VERSION};
use crate::ae::signal::ignore_hangups;
use crate::ae::{Reactor, Signals};
use crate::base::checksum::crc64;
use crate::base::rng::Rng;
use crate::base::time::{Clock, Stopwatch};
use crate::base::{alloc, errno};
use crate::config::cmdline::{self, CommandLine, Start};
use crate::config::file::{self, Disk};
use crate::config::parse::{self, LoadError, SentinelLine};
use crate::config::{Choice, Config, Supervised as Mode, Text};
use crate::exec::bus;
use crate::exec::io::{Io, Setting};
use crate::exec::server::Server;
use crate::exec::table::Table;
use crate::server::bio::{Bio, CpuLists};
use crate::server::drive::{self, Os};

use crate::server::log::{self as server_log, Banner, Role};
use crate::server::net::{Doors, Resolver};
use crate::server::os::{self, Launch};
use crate::server::proc_title::ProcTitle;
use crate::server::process::{self, Supervised, Supervisor};
use crate::server::{crash, report, shutdown, syscheck};

/// Where a daemon without `pidfile` writes its number.
const DEFAULT_PID_FILE: &str = "/var/run/redis.pid";

const USAGE: &str = "\
Usage: ./redis-server [/path/to/redis.conf] [options] [-]
       ./redis-server - (read config from stdin)
       ./redis-server -v or --version
       ./redis-server -h or --help
       ./redis-server --check-system
       ./redis-server /path/to/sentinel.conf --sentinel

An option is a directive with its value, as in --port 7777 --maxmemory 100mb; options win over
standard input, which wins over the file.

Examples:
       ./redis-server
       ./redis-server /etc/redis/redis.conf --loglevel verbose
       echo 'maxmemory 128mb' | ./redis-server --port 7777 -
";

/// A step of the start: what it gives, or the status to exit with, the reason being told already.
type Step<T> = Result<T, i32>;

/// Runs `redis-server`; the status to exit with.
pub fn main() -> i32 {
    server_log::init();
    // As with Redis: until the server proper begins, the process that logs may be one that forks.
    server_log::set_role(Role::Child);
    let args: Vec<OsString> = std::env::args_os().collect();
    let mut words = args.iter().cloned().map(OsStringExt::into_vec);
    let program = words.next().unwrap_or_default();
    let words: Vec<Vec<u8>> = words.collect();
    match cmdline::parse(&program, &words) {
        CommandLine::Version => {
            println!("{}", version_line());
            0
        }
        CommandLine::Help => {
            eprint!("{USAGE}");
            1
        }
        CommandLine::CheckSystem => {
            let (report, well) = syscheck::check_system();
            print!("{report}");
            i32::from(!well)
        }
        CommandLine::TestMemory(_) => {
            eprintln!("--test-memory is not offered here: use memtester, or memtest86+ at boot.");
            1
        }
        CommandLine::Serve(start) => serve(start, args).unwrap_or_else(|status| status),
    }
}

fn version_line() -> String {
    format!(
        "Redis server v={REDIS_VERSION} sha=00000000:0 malloc={} bits={} build={:x}",
        alloc::allocator_name(),
        usize::BITS,
        crc64(env!("CARGO_PKG_VERSION").as_bytes()),
    )
}

fn serve(mut start: Start, args: Vec<OsString>) -> Step<i32> {
    let dir = file::current_dir();
    start.file = start.file.map(|file| {
        let file = absolute(dir.as_path(), Path::new(OsStr::from_bytes(&file)));
        file.into_os_string().into_vec()
    });
    let table = match start.sentinel {
        true => Table::of_sentinel(admin::rows()),
        false => Table::new(admin::rows()),
    };
    let (mut config, watched) = configure(&start, &dir, &table)?;
    syscheck::warn_at_start(config.disable_thp);
    let supervisor = Supervisor::detect(supervised(config.supervised), |name| {
        std::env::var(name).ok()
    });
    let background = config.daemonize && !supervisor.is_present();
    if background {
        process::daemonize();
    }
    announce(&start, &args);
    let launch = launch(&start, args, &dir, &mut config, background);
    let mut os = open_outside(&mut config, launch, supervisor)?;
    let mut server = new_server(config, table, &os);
    if start.sentinel {
        be_sentinel(&mut server, &mut os, &watched)?;
    }
    report::report_on(&server);
    let daemon_file = os.launch.pid_file.as_deref().filter(|_| background);
    crash::set_pid_file(daemon_file);
    open_doors(&mut server, &mut os)?;
    // Not every allocator has such a thread.
    if let Err(why) = os.apply(Setting::JemallocBackground, &server.config) {
        log::debug!("jemalloc-bg-thread: {why}");
    }
    server.startup_memory = os.used_memory();
    if start.sentinel {
        server.start_sentinel(&mut os);
        os.supervisor.ready("Ready to accept connections");
    } else {
        log::info!("Server initialized");
        server.begin_loading(&mut os).map_err(|_| 1)?;
    }
    process::set_cpu_affinity(&server.config.server_cpulist.lossy());
    // That it could not be set is in the log, and no reason to stop.
    let _ = os.apply(Setting::OomScoreAdj, &server.config);
    let status = drive::run(&mut server, &mut os);
    if server.persistence.failed {
        return Err(status);
    }
    shutdown::leave(&mut os);
    Ok(status)
}

/// Reads the configuration and opens the log that it names.
fn configure(start: &Start, dir: &Text, table: &Table) -> Step<(Config, Vec<SentinelLine>)> {
    let mut stdin = Vec::new();
    if start.stdin {
        log::info!("Reading config from stdin");
        if let Err(e) = std::io::stdin().read_to_end(&mut stdin) {
            log::warn!(
                "Can't read the configuration from stdin: {}",
                errno::text(&e)
            );
            return Err(1);
        }
    }
    let is_command = |name: &[u8]| table.find(name).is_some();
    let stdin = start.stdin.then_some(stdin.as_slice());
    let loaded = parse::load(start, stdin, dir.clone(), &mut Disk { is_command });
    let loaded = loaded.map_err(|error| {
        let message = error.message(REDIS_VERSION);
        match error {
            LoadError::Open { .. } => log::warn!("{}", String::from_utf8_lossy(&message)),
            // Nobody is left to tell if standard error is closed.
            _ => std::io::stderr().write_all(&message).unwrap_or(()),
        }
        1
    })?;
    open_log(&loaded.config)?;
    for note in &loaded.notes {
        log::warn!("{note}");
    }
    Ok((loaded.config, loaded.sentinel))
}

fn open_log(config: &Config) -> Step<()> {
    os::set_log_level(config);
    if config.syslog_enabled {
        let facility = server_log::facility(config.syslog_facility.name());
        let facility = facility.unwrap_or(libc::LOG_LOCAL0);
        server_log::set_syslog(Some((&config.syslog_ident.lossy(), facility)));
    }
    let path = server_log::file_of(&config.logfile).map(|path| config.dir.as_path().join(path));
    server_log::set_file(path.as_deref()).map_err(|e| {
        eprintln!("Can't open the log file: {}", errno::text(&e));
        1
    })
}

fn supervised(mode: Mode) -> Supervised {
    match mode {
        Mode::No => Supervised::No,
        Mode::Systemd => Supervised::Systemd,
        Mode::Upstart => Supervised::Upstart,
        Mode::Auto => Supervised::Auto,
    }
}

fn announce(start: &Start, args: &[OsString]) {
    log::info!("oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo");
    log::info!(
        "Redis version={REDIS_VERSION}, bits={}, commit=00000000, modified=0, pid={}, just started",
        usize::BITS,
        std::process::id()
    );
    if start.bare {
        let program = args
            .first()
            .map(|a| a.to_string_lossy())
            .unwrap_or_default();
        log::warn!(
            "Warning: no config file specified, using the default config. In order to specify a config file use \
             {program} /path/to/redis.conf"
        );
    } else {
        log::info!("Configuration loaded");
    }
}

/// What must be remembered of the start. A daemon gets a pid file even if none is configured.
fn launch(
    start: &Start,
    args: Vec<OsString>,
    dir: &Text,
    config: &mut Config,
    background: bool,
) -> Launch {
    if background && config.pidfile.is_empty() {
        config.pidfile = DEFAULT_PID_FILE.into();
    }
    let config_file = start.file.as_deref().unwrap_or_default();
    let pid_file = config.dir.as_path().join(config.pidfile.as_path());
    Launch {
        args,
        dir: dir.as_path().to_path_buf(),
        config_file: String::from_utf8_lossy(config_file).into_owned(),
        pid_file: Some(pid_file).filter(|_| !config.pidfile.is_empty()),
        sentinel: start.sentinel,
    }
}

/// A path as seen from `dir`, without its dots. Links are not followed: whoever replaces one changes
/// what the path means, as with Redis.
fn absolute(dir: &Path, path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in dir.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

/// Everything the server needs of the operating system, but for the listeners.
fn open_outside(config: &mut Config, launch: Launch, supervisor: Supervisor) -> Step<Os> {
    ignore_hangups();
    crash::install(REDIS_VERSION);
    let title = ProcTitle::take_over().filter(|_| config.set_proc_title);
    server_log::set_role(match config.replicaof {
        _ if launch.sentinel => Role::Sentinel,
        Some(_) => Role::Replica,
        None => Role::Master,
    });
    if !process::set_collation(&config.locale_collate.lossy()) {
        log::warn!("Failed to configure LOCALE for invalid locale name.");
        return Err(1);
    }
    let wanted = u32::try_from(config.maxclients).unwrap_or(u32::MAX);
    let fitting = process::adjust_open_files_limit(wanted).map_err(|_| 1)?;
    config.maxclients = fitting as usize;
    log::info!("monotonic clock: {}", os::CLOCK_NAME);
    let reactor = Reactor::new().map_err(|e| {
        log::warn!(
            "Failed creating the event loop. Error message: '{}'",
            errno::text(&e)
        );
        1
    })?;
    let waker = reactor.waker();
    let signals = Signals::install(&waker, process::tell_signal).map_err(|e| {
        log::warn!("Can't handle signals: {}", errno::text(&e));
        1
    })?;
    let cpus = CpuLists {
        bio: config.bio_cpulist.lossy().into(),
        bgsave: config.bgsave_cpulist.lossy().into(),
        aof_rewrite: config.aof_rewrite_cpulist.lossy().into(),
    };
    let mut os = Os {
        net: Default::default(),
        watch: Stopwatch::new(Clock::system(), crate::server::procfs::counter_is_steady()),
        doors: Doors::new(reactor),
        resolver: Resolver::new(waker.clone(), cpus.bio.clone()),
        bio: Bio::new(waker, cpus),
        signals: Some(signals),
        title,
        oom: process::OomScore::default(),
        supervisor,
        programs: Default::default(),
        watchdog: Default::default(),
        launch,
    };
    for setting in [Setting::CrashLog, Setting::Watchdog] {
        if let Err(why) = os.apply(setting, config) {
            log::warn!("{setting:?}: {why}");
        }
    }
    Ok(os)
}

fn new_server(config: Config, mut table: Table, os: &Os) -> Server {
    let renames = &config.rename_command;
    for (from, to) in renames
        .iter()
        .filter(|(from, to)| !from.eq_ignore_ascii_case(to))
    {
        let renamed = table.rename(from, to);
        debug_assert!(renamed, "the configuration was checked");
    }
    let mut server = Server::new(config, table, Rng::from_entropy().next_u64(), os);
    server.config_file = os.launch.config_file.clone();
    server.executable = executable(&os.launch);
    server
}

/// The absolute path of the program: as it was called, or where the shell found it.
fn executable(launch: &Launch) -> String {
    let called = launch.args.first().map(Path::new);
    let path = match called {
        Some(path) if path.components().nth(1).is_some() => absolute(&launch.dir, path),
        _ => std::env::current_exe().unwrap_or_default(),
    };
    path.to_string_lossy().into_owned()
}

/// A Sentinel keeps its state in its configuration file: it can't be without one. Then its directives are read.
fn be_sentinel(server: &mut Server, os: &mut Os, lines: &[SentinelLine]) -> Step<()> {
    let path = Path::new(&server.config_file);
    if server.config_file.is_empty() {
        log::warn!("Sentinel needs config file on disk to save state. Exiting...");
        return Err(1);
    }
    if let Some(why) = process::why_not_writable(path) {
        log::warn!(
            "Sentinel config file {} is not writable: {}. Exiting...",
            server.config_file,
            errno::text(&why)
        );
        return Err(1);
    }
    let words: Vec<Vec<Vec<u8>>> = lines.iter().map(|line| line.words.clone()).collect();
    server.load_sentinel(os, &words).map_err(|(at, why)| {
        let line = lines.get(at);
        let error = LoadError::Line {
            number: line.map_or(0, |line| line.number),
            line: line.map_or_else(Vec::new, |line| line.line.clone()),
            reason: why.into(),
        };
        let message = error.message(REDIS_VERSION);
        std::io::stderr().write_all(&message).unwrap_or(());
        1
    })
}

/// Shows the server to the world: pid file, title, banner, listeners.
fn open_doors(server: &mut Server, os: &mut Os) -> Step<()> {
    let config = &server.config;
    if let Some(path) = &os.launch.pid_file {
        process::create_pid_file(path);
    }
    if let Err(why) = os.apply(Setting::ProcTitle, config) {
        log::warn!("{why}");
    }
    server_log::startup_banner(&Banner {
        redis_version: REDIS_VERSION,
        version: env!("CARGO_PKG_VERSION"),
        mode: match (&server.cluster, &server.sentinel) {
            (Some(_), _) => "cluster",
            (None, Some(_)) => "sentinel",
            (None, None) => "standalone",
        },
        port: match config.port {
            0 => config.tls_port,
            port => port,
        },
        always_show: config.always_show_logo,
    });
    syscheck::warn_about_backlog(config.tcp_backlog);
    let refuse = |why: String| {
        log::warn!("{why}");
        1
    };
    server.load_cluster(os).map_err(refuse)?;
    let bus_port = bus_door(&server.config).map_err(refuse)?;
    server.load_users_at_start(os).map_err(refuse)?;
    let config = &server.config;
    let clock = os.clock();
    let doors = &mut os.doors;
    if config.tls_port != 0 || config.tls_replication || config.tls_cluster {
        let configured = doors.configure_tls(config, &clock);
        configured
            .map_err(|_| refuse("Failed to configure TLS. Check logs for more info.".into()))?;
    }
    doors
        .listen_tcp(config)
        .map_err(|why| refuse(format!("{why}, aborting.")))?;
    doors.listen_unix(config).map_err(refuse)?;
    doors
        .listen_tls(config)
        .map_err(|why| refuse(format!("{why}, aborting.")))?;
    if doors.is_empty() {
        return Err(refuse("Configured to not listen anywhere, exiting.".into()));
    }
    if let Some(port) = bus_port {
        let listens = doors.listen_bus(port, config);
        listens.map_err(|why| refuse(format!("{why}, aborting.")))?;
    }
    Ok(())
}

/// The port that other nodes of the cluster are to find us at, if this is one; or why it can't be one.
fn bus_door(config: &Config) -> Result<Option<u16>, String> {
    if !config.cluster_enabled {
        return Ok(None);
    }
    let port = u16::try_from(bus::bus_port(config)).map_err(|_| {
        "Redis port number too high. Cluster communication port is 10,000 port numbers higher than your Redis port. Your Redis port number must be 55535 or less."
    })?;
    if config.bind.is_empty() {
        return Err(
            "No bind address is configured, but it is required for the Cluster bus.".into(),
        );
    }
    Ok(Some(port))
}

/// Tells everybody that clients may come.
pub fn say_ready(config: &Config, os: &Os) {
    if config.port != 0 {
        log::info!("Ready to accept connections tcp");
    }
    if !config.unixsocket.is_empty() {
        log::info!("Ready to accept connections unix");
    }
    if config.tls_port != 0 {
        log::info!("Ready to accept connections tls");
    }
    os.supervisor.ready(match config.replicaof {
        None => "Ready to accept connections",
        Some(_) => {
            "Ready to accept connections in read-only mode. Waiting for MASTER <-> REPLICA sync"
        }
    });
    if (1..1024 * 1024).contains(&config.maxmemory) {
        log::warn!(
            "WARNING: You specified a maxmemory value that is less than 1MB (current value is {} bytes). Are you \
             sure this is what you really want?",
            config.maxmemory
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_the_start() {
        let seen = |path: &str| absolute(Path::new("/etc/redis"), Path::new(path));
        assert_eq!(seen("redis.conf"), Path::new("/etc/redis/redis.conf"));
        assert_eq!(
            seen("./a/../redis.conf"),
            Path::new("/etc/redis/redis.conf")
        );
        assert_eq!(seen("../../../x"), Path::new("/x"));
        assert_eq!(seen("/var/x"), Path::new("/var/x"));
    }
}
