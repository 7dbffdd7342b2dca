//! Ending the server: what SHUTDOWN and the signals ask for.
//!
//! ```text
//! begin_shutdown   in the loop: log it; if replicas lack something, hold up writes and wait for them
//! shutdown_cron    the wait is over, because they have all or because of shutdown-timeout
//!   finish         save what is to be saved, or refuse; then the shutdown was in vain
//!   run() returns  at the end of the turn, with the last replies sent
//! leave            outside: pid file, listening sockets, goodbye
//! ```

use crate::base::errno;
use crate::cmd::args::OwnedArgs;
use crate::cmd::{Args, Fault};
use crate::config::ShutdownFlags;
use crate::exec::aof::State;
use crate::exec::conn::{Parked, Token, Why};
use crate::exec::io::Io;
use crate::exec::server::{Ending, SHUTDOWN_FAILED, Server, Shutdown};
use crate::server::drive::Os;
use crate::server::process;

impl Server {
    /// Begins to shut down: at once, and no command runs after this one, or when replicas have all. The error
    /// says why that may not be; with FORCE there is none.
    pub fn begin_shutdown(
        &mut self,
        io: &mut dyn Io,
        flags: ShutdownFlags,
    ) -> Result<Ending, String> {
        if self.shutdown.is_some() {
            return Ok(Ending::WhenReplicasHaveAll);
        }
        log::info!("User requested shutdown...");
        io.tell_supervisor("STOPPING=1");
        let waits = !flags.contains(ShutdownFlags::NOW) && self.config.shutdown_timeout > 0;
        if waits && !self.repl.master.all_have(self.repl.history.offset()) {
            if !self.paused_for(true) {
                self.send_getack();
            }
            self.pause.for_shutdown = true;
            self.shutdown = Some(Shutdown {
                flags,
                until_ms: self.now.ms() + self.config.shutdown_timeout * 1000,
            });
            log::info!("Waiting for replicas before shutting down.");
            return Ok(Ending::WhenReplicasHaveAll);
        }
        self.finish_shutdown(io, flags).map(|()| Ending::Now)
    }

    /// Whoever asked for a shutdown that waits waits as well.
    pub fn park_for_shutdown(&mut self, token: Token, command: usize, args: &Args<'_>) {
        if let Some(conn) = self.conns.get_mut(token) {
            conn.parked = Some(Box::new(Parked {
                args: OwnedArgs::copy(args),
                command,
                why: Why::Shutdown,
                spent_us: 0,
            }));
            self.blocked.clients += 1;
            self.blocked.for_shutdown.push(token);
        }
    }

    /// SHUTDOWN ABORT. False if there was no shutdown to give up, and no signal that asks for one.
    pub fn abort_shutdown(&mut self, io: &mut dyn Io) -> bool {
        let waited = self.shutdown.is_some();
        if waited {
            self.cancel_shutdown();
        }
        let given_up = io.forget_signal() || waited;
        if given_up {
            log::info!("Shutdown manually aborted.");
        }
        given_up
    }

    fn cancel_shutdown(&mut self) {
        self.shutdown = None;
        self.pause.for_shutdown = false;
        self.pause.eased = true;
        for token in std::mem::take(&mut self.blocked.for_shutdown) {
            self.give_up(token, Some(Fault::new(SHUTDOWN_FAILED)));
        }
    }

    /// Ends a wait for replicas.
    pub fn shutdown_cron(&mut self, io: &mut dyn Io) {
        let Some(shutdown) = self.shutdown else {
            return;
        };
        let all_have = self.repl.master.all_have(self.repl.history.offset());
        if (all_have || self.now.ms() >= shutdown.until_ms)
            && self.finish_shutdown(io, shutdown.flags).is_err()
        {
            log::warn!("{NOT_NOW}");
            self.cancel_shutdown();
            io.forget_signal();
        }
    }

    fn finish_shutdown(&mut self, io: &mut dyn Io, flags: ShutdownFlags) -> Result<(), String> {
        let has = |flag| flags.contains(flag);
        self.tell_of_replicas();
        if let Some(saving) = &self.persistence.saving {
            // It could put an older file in the place of the one that is saved now.
            log::warn!("There is a child saving an .rdb. Killing it!");
            saving.cancel();
            // The job may not get to it before the process ends; or has not made it yet.
            let _ = io.disk().unlink(&saving.temp);
        }
        self.end_log(io, has(ShutdownFlags::FORCE))?;
        // What is half loaded must not replace what it was loaded from.
        let may_save = !self.loading && self.sentinel.is_none() && !has(ShutdownFlags::NOSAVE);
        if may_save && (has(ShutdownFlags::SAVE) || !self.config.save.is_empty()) {
            log::info!("Saving the final RDB snapshot before exiting.");
            io.tell_supervisor("STATUS=Saving the final RDB snapshot");
            // Whoever insists on the end does not wait for the save.
            let temp = self.config.dir.as_path().join(self.temp_file());
            io.note_unfinished(Some(&temp));
            let saved = self.save_now(io);
            io.note_unfinished(None);
            if !saved {
                if !has(ShutdownFlags::FORCE) {
                    log::warn!("Error trying to save the DB, can't exit.");
                    io.tell_supervisor("STATUS=Error trying to save the DB, can't exit.");
                    return Err(NOT_NOW.into());
                }
                log::warn!("Error trying to save the DB. Exit anyway.");
            }
        }
        self.exiting = Some(0);
        Ok(())
    }

    /// Tells the log who lacks what.
    fn tell_of_replicas(&self) {
        let (offset, now_s) = (self.repl.history.offset(), self.now.s());
        let replicas = self.repl.master.replicas();
        let lagging = replicas.iter().filter(|r| r.acked != offset);
        for replica in lagging.clone() {
            log::info!(
                "Lagging replica {} reported offset {} behind master, lag={}, state={}.",
                replica.name(),
                offset - replica.acked,
                replica.lag_s(now_s),
                replica.stage.name()
            );
        }
        if !replicas.is_empty() {
            log::info!(
                "{} of {} replicas are in sync when shutting down.",
                replicas.len() - lagging.count(),
                replicas.len()
            );
        }
    }
}

/// Why the server stays, for whoever asked it to go.
const NOT_NOW: &str = "Errors trying to shut down the server. Check the logs for more information.";

impl Server {
    /// What is logged is durable; a rewrite is given up, since the log has all without it. Unless it is the first, without
    /// which there is no log.
    fn end_log(&mut self, io: &mut dyn Io, force: bool) -> Result<(), String> {
        if let Some(rewriting) = &self.aof.rewriting {
            if self.aof.state == State::WaitRewrite {
                if !force {
                    log::warn!("Writing initial AOF, can't exit.");
                    io.tell_supervisor("STATUS=Writing initial AOF, can't exit.");
                    return Err(NOT_NOW.into());
                }
                log::warn!("Writing initial AOF. Exit anyway.");
            }
            log::warn!("There is a child rewriting the AOF. Killing it!");
            rewriting.cancel();
            // The job may not get to it before the process ends.
            let temp = format!("temp-rewriteaof-bg-{}.aof", self.process.pid);
            let _ = io.disk().unlink(&self.config.dir.as_path().join(temp));
        }
        if self.aof.state != State::Off {
            log::info!("Calling fsync() on the AOF file.");
            self.settle_log(io);
            if let Some(Err(e)) = self.aof.file.as_ref().map(|file| file.sync()) {
                log::warn!("Fail to fsync the AOF file: {}.", errno::text(&e));
            }
        }
        Ok(())
    }
}

/// What is left to do when the loop has ended.
pub fn leave(os: &mut Os) {
    if let Some(path) = &os.launch.pid_file {
        process::remove_pid_file(path);
    }
    os.doors.close();
    let name = if os.launch.sentinel {
        "Sentinel"
    } else {
        "Redis"
    };
    log::warn!("{name} is now ready to exit, bye bye...");
}
