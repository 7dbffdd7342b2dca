//! The append only file: every change, written before its reply leaves.
//!
//! ```text
//! units -> Aof::buffer --before the loop sleeps--> incremental file --sync--> durable        append.rs
//!          snapshot    --another thread----------> next base, then the old files go          rewrite.rs
//!          files       --at the start------------> commands run again, in steps              load.rs
//! ```
//! `aof/manifest.rs` knows the list of the files; here it is kept on the disk. It is replaced as every file that must be
//! the old one or the new one: written beside it, synced, renamed, and the directory synced.

mod append;
mod files;
mod load;
mod rewrite;

use std::path::PathBuf;

use crate::aof::manifest;
use crate::config::Config;
use crate::exec::aof::State;
use crate::exec::io::Io;
use crate::exec::server::Server;

/// Where the files are, by the configuration of the moment.
#[derive(Clone)]
struct Places {
    /// The directory of the server.
    dir: PathBuf,
    /// The directory of the log in it.
    log_dir: PathBuf,
    /// `appendfilename`, which all names begin with.
    log: Vec<u8>,
}

impl Places {
    fn of(config: &Config) -> Places {
        let dir = config.dir.as_path().to_path_buf();
        Places {
            log_dir: dir.join(config.appenddirname.as_path()),
            dir,
            log: config.appendfilename.as_bytes().to_vec(),
        }
    }

    /// A file of the log.
    fn file(&self, name: &crate::config::Text) -> PathBuf {
        self.log_dir.join(name.as_path())
    }

    fn temp_incr(&self) -> PathBuf {
        self.file(&manifest::temp_incr_name(&self.log))
    }
}

impl Server {
    /// CONFIG SET appendonly yes. False if the log cannot be begun; the server's log says why.
    pub fn start_log(&mut self, io: &mut dyn Io) -> bool {
        self.aof.state = State::WaitRewrite;
        let another = "An AOF background was scheduled to start when possible.";
        if self.persistence.saving.is_some() {
            self.aof.rewrite_scheduled = true;
            log::info!(
                "AOF was enabled but there is already another background operation. {another}"
            );
        } else if self.nesting > 1 {
            self.aof.rewrite_scheduled = true;
            log::info!("AOF was enabled during a transaction. {another}");
        } else {
            if self.aof.rewriting.is_some() {
                // It has no file in which to gather what changes meanwhile.
                log::info!(
                    "AOF was enabled but there is already an AOF rewriting in background. Stopping background AOF \
                     and starting a rewrite now."
                );
                self.give_up_rewrite();
            }
            if !self.begin_rewrite(io) {
                self.aof.state = State::Off;
                log::warn!(
                    "Redis needs to enable the AOF but can't trigger a background AOF rewrite operation. Check the \
                     above logs for more info about the error."
                );
                return false;
            }
        }
        self.aof.synced_s = self.now.s();
        if self.aof.sync_trouble.take().is_some() {
            log::warn!("AOF reopen, just ignore the AOF fsync error in bio job");
        }
        if self.aof.write_trouble.take().is_some() {
            log::warn!("AOF reopen, just ignore the last error.");
        }
        self.note_who_listens();
        true
    }

    /// CONFIG SET appendonly no: what is there is written and synced, and that is the end of it.
    pub fn stop_log(&mut self, io: &mut dyn Io) {
        self.flush_log(io, true);
        self.give_up_rewrite();
        match self.aof.state {
            State::WaitRewrite => self.drop_first_file(io),
            _ => self.close_log(),
        }
        let aof = &mut self.aof;
        aof.state = State::Off;
        aof.serial += 1;
        self.repl.fsynced = -1;
        aof.selected = Default::default();
        aof.rewrite_scheduled = false;
        (aof.written, aof.synced) = (0, 0);
        aof.postponed_s = None;
        if aof.handed == 0 {
            aof.written_at_once();
        }
        aof.buffer.clear();
        self.note_who_listens();
        self.release_held();
    }
}

impl Server {
    /// All data has been replaced by that of a master: the log begins anew with it.
    pub fn restart_log(&mut self, io: &mut dyn Io) {
        if self.aof.state != State::Off {
            self.stop_log(io);
        }
        if self.config.appendonly && !self.start_log(io) {
            log::warn!(
                "Failed enabling the AOF after successful master synchronization! Trying it again in one second."
            );
            self.aof.state = State::WaitRewrite;
            self.aof.rewrite_scheduled = true;
        }
    }
}

#[cfg(test)]
mod tests;
