//! Ending the server: what SHUTDOWN and the signals ask for.
//!
//! ```text
//! begin_shutdown   in the loop: log it, save what is to be saved, or refuse
//!   run() returns  at the end of the turn, with the last replies sent
//! leave            outside: pid file, listening sockets, goodbye
//! ```
//! Nothing of this waits: there are no replicas to catch up.

use crate::config::ShutdownFlags;
use crate::exec::io::Io;
use crate::exec::server::Server;
use crate::server::drive::Os;
use crate::server::process;

impl Server {
    /// Begins to shut down: no command runs after this one, and the loop ends with this turn. The error
    /// says why that may not be; with FORCE there is none.
    pub fn begin_shutdown(&mut self, io: &mut dyn Io, flags: ShutdownFlags) -> Result<(), String> {
        let has = |flag| flags.contains(flag);
        log::info!("User requested shutdown...");
        if let Some(saving) = &self.persistence.saving {
            // It could put an older file in the place of the one that is saved now.
            log::warn!("There is a child saving an .rdb. Killing it!");
            saving.cancel();
            // The job may not get to it before the process ends; or has not made it yet.
            let _ = io.disk().unlink(&saving.temp);
        }
        // What is half loaded must not replace what it was loaded from.
        let may_save = !self.loading && !has(ShutdownFlags::NOSAVE);
        if may_save && (has(ShutdownFlags::SAVE) || !self.config.save.is_empty()) {
            log::info!("Saving the final RDB snapshot before exiting.");
            if !self.save_now(io) {
                if !has(ShutdownFlags::FORCE) {
                    log::warn!("Error trying to save the DB, can't exit.");
                    return Err(
                        "Errors trying to shut down the server. Check the logs for more information."
                            .into(),
                    );
                }
                log::warn!("Error trying to save the DB. Exit anyway.");
            }
        }
        self.exiting = Some(0);
        Ok(())
    }
}

/// What is left to do when the loop has ended.
pub fn leave(os: &mut Os) {
    os.supervisor.stopping();
    if let Some(path) = &os.launch.pid_file {
        process::remove_pid_file(path);
    }
    os.doors.close();
    log::warn!("Redis is now ready to exit, bye bye...");
}
