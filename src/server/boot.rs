//! From the command line to the loop.

use std::io::Read;
use std::os::unix::ffi::OsStringExt;

use crate::ae::{Reactor, Signals};
use crate::base::rng::Rng;
use crate::base::time::Clock;
use crate::config::cmdline::{self, CommandLine, Start};
use crate::config::file::{self, Disk};
use crate::config::{Config, parse};
use crate::exec::server::Server;
use crate::server::bio::{Bio, CpuLists};
use crate::server::drive::{self, Os};
use crate::server::log as server_log;
use crate::server::net::Doors;
use crate::server::process;

/// The version of Redis whose behaviour this is.
pub const VERSION: &str = "7.2.6";

/// Runs `redis-server`; the status to exit with.
pub fn main() -> i32 {
    server_log::init();
    let mut args: Vec<Vec<u8>> = std::env::args_os().map(OsStringExt::into_vec).collect();
    let program = if args.is_empty() {
        Vec::new()
    } else {
        args.remove(0)
    };
    match cmdline::parse(&program, &args) {
        CommandLine::Serve(start) => serve(&start),
        _ => 0,
    }
}

fn load(start: &Start) -> Result<Config, i32> {
    let mut stdin = Vec::new();
    if start.stdin && std::io::stdin().read_to_end(&mut stdin).is_err() {
        return Err(1);
    }
    let table = crate::admin::table();
    let mut disk = Disk {
        is_command: |name: &[u8]| table.find(name).is_some(),
    };
    match parse::load(
        start,
        start.stdin.then_some(&stdin),
        file::current_dir(),
        &mut disk,
    ) {
        Ok(loaded) => Ok(loaded.config),
        Err(e) => {
            eprint!("{}", String::from_utf8_lossy(&e.message(VERSION)));
            Err(1)
        }
    }
}

fn serve(start: &Start) -> i32 {
    let config = match load(start) {
        Ok(config) => config,
        Err(status) => return status,
    };
    let _ = server_log::set_file(server_log::file_of(config.logfile.as_bytes()));
    let clock = Clock::system();
    let reactor = match Reactor::new() {
        Ok(reactor) => reactor,
        Err(e) => {
            log::warn!("Failed creating the event loop. Error message: '{e}'");
            return 1;
        }
    };
    let bio = Bio::new(reactor.waker(), CpuLists::default());
    let signals = Signals::install(&reactor.waker(), |_| ()).ok();
    let mut os = Os {
        clock,
        doors: Doors::new(reactor),
        signals,
        bio,
        title: None,
        oom: process::OomScore::default(),
        supervisor: process::Supervisor::default(),
        watchdog: Default::default(),
        launch: Default::default(),
    };
    let mut server = Server::new(
        config,
        crate::admin::table(),
        Rng::from_entropy().next_u64(),
        &os,
    );
    log::info!("Server initialized");
    if let Err(why) = os.doors.listen_tcp(&server.config) {
        log::warn!("{why}, aborting.");
        return 1;
    }
    log::info!("Ready to accept connections tcp");
    drive::run(&mut server, &mut os)
}
