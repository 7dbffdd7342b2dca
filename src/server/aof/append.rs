//! Appending: the buffer goes to the file before the loop sleeps, and to the disk as `appendfsync` says.
//!
//! ```text
//! no         the loop writes; the kernel chooses when
//! everysec   the loop writes; once a second another thread syncs. While it does, a write could have to wait for it, so the
//!            loop waits up to two seconds before it writes all the same
//! always     another thread writes and syncs, batch by batch; the loop goes on, and replies wait for their batch
//! ```
//! Jobs of the log run one after another in the order in which they were started. So what was written by one is on the disk
//! before the next begins, and files that follow each other become durable in that order.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::base::errno;
use crate::base::planted::{self, Bug};
use crate::base::time::Clock;
use crate::config::AppendFsync;
use crate::exec::aof::{State, Trouble};
use crate::exec::io::{Io, LogFile};
use crate::exec::persistence::Errand;
use crate::exec::server::{Effect, Server};

/// A write waits so long for a sync to end, in seconds.
const POSTPONED_MAX_S: u64 = 2;
/// A write that fails again and again is told every so many seconds.
const TELL_EVERY_S: u64 = 30;

/// A batch on its way to the disk.
struct BatchJob {
    file: Arc<dyn LogFile>,
    bytes: Vec<u8>,
    sync: bool,
    sleep_us: u64,
    clock: Clock,
}

/// What a job of the log gives.
enum Done {
    Batch {
        buffer: Vec<u8>,
        write_us: u64,
        sync_us: Option<u64>,
        result: Result<(), Wrong>,
    },
    /// Files that could not be synced; and where the replication stream was before.
    Sync(Result<(), (Vec<Arc<dyn LogFile>>, io::Error)>, i64),
}

/// Why a batch is not durable.
enum Wrong {
    Write(io::Error),
    Short(usize),
    Sync(io::Error),
}

impl BatchJob {
    fn run(self) -> Done {
        if self.sleep_us > 0 && !self.bytes.is_empty() {
            std::thread::sleep(Duration::from_micros(self.sleep_us));
        }
        let started_ns = self.clock.mono_ns();
        let written = self.file.append(&self.bytes);
        let written_ns = self.clock.mono_ns();
        let mut result = match written {
            Ok(n) if n == self.bytes.len() => Ok(()),
            Ok(n) => Err(Wrong::Short(n)),
            Err(e) => Err(Wrong::Write(e)),
        };
        if result.is_ok() && self.sync {
            result = self.file.sync().map_err(Wrong::Sync);
        }
        let synced_us = (self.clock.mono_ns() - written_ns) / 1000;
        Done::Batch {
            buffer: self.bytes,
            write_us: (written_ns - started_ns) / 1000,
            sync_us: self.sync.then_some(synced_us),
            result,
        }
    }
}

impl Server {
    /// Writes what has gathered. By `force` nothing is a reason to wait.
    pub fn flush_log(&mut self, io: &mut dyn Io, force: bool) {
        let Some(file) = self.aof.file.clone() else {
            return;
        };
        let policy = self.config.appendfsync;
        let unsynced = self.aof.is_unsynced();
        if policy == AppendFsync::Always || self.aof.handed > 0 {
            let due = !self.aof.buffer.is_empty() || unsynced;
            if due && (self.aof.handed == 0 || force) {
                self.hand_batch(io, file);
            }
            return;
        }
        if self.aof.buffer.is_empty() {
            if policy == AppendFsync::Everysec && unsynced && self.aof.syncs == 0 {
                self.sync_each_second(&file);
            }
            return;
        }
        let waits = policy == AppendFsync::Everysec && self.aof.syncs > 0;
        if waits && !force && self.postpones() {
            return;
        }
        if self.write_here(io, &*file, waits) && policy == AppendFsync::Everysec {
            self.sync_each_second(&file);
        }
    }

    /// True while a write may still wait for the sync that is going on.
    fn postpones(&mut self) -> bool {
        let now_s = self.now.s();
        let since_s = *self.aof.postponed_s.get_or_insert(now_s);
        if now_s.saturating_sub(since_s) < POSTPONED_MAX_S {
            return true;
        }
        self.aof.delayed += 1;
        log::info!(
            "Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer without waiting for \
             fsync to complete, this may slow down Redis."
        );
        false
    }

    /// The loop writes by itself. True if all was written.
    fn write_here(&mut self, io: &mut dyn Io, file: &dyn LogFile, sync_goes_on: bool) -> bool {
        if self.aof.flush_sleep_us > 0 {
            io.sleep_us(self.aof.flush_sleep_us);
        }
        let start_ns = io.mono_ns();
        let outcome = file.append(&self.aof.buffer);
        let took_ms = (io.mono_ns() - start_ns) / 1_000_000;
        self.note_write(took_ms, sync_goes_on);
        self.aof.postponed_s = None;
        let len = self.aof.buffer.len();
        match outcome {
            Ok(written) if written == len => {
                if self.aof.write_trouble.take().is_some() {
                    log::info!("AOF write error looks solved, Redis can write again.");
                }
                self.note_appended(len);
                self.aof.written_at_once();
                self.release_held();
                true
            }
            outcome => {
                self.write_failed(file, outcome);
                false
            }
        }
    }

    /// A write failed or fell short: what was not written stays in the buffer, and writes are refused until it is.
    fn write_failed(&mut self, file: &dyn LogFile, outcome: io::Result<usize>) {
        let tell = self.now.s().saturating_sub(self.aof.told_s) > TELL_EVERY_S;
        if tell {
            self.aof.told_s = self.now.s();
        }
        let error = match outcome {
            Err(e) => {
                if tell {
                    log::warn!("Error writing to the AOF file: {}", errno::text(&e));
                }
                e
            }
            Ok(written) => {
                let whole = self.aof.buffer.len();
                if tell {
                    log::warn!(
                        "Short write while writing to the AOF file: (nwritten={written}, expected={whole})"
                    );
                }
                // Half an operation must not stay; if it must, the rest has to follow it.
                if let Err(e) = file.cut(self.aof.written) {
                    if tell {
                        log::warn!(
                            "Could not remove short write from the append-only file.  Redis may refuse to load the \
                             AOF the next time it starts.  ftruncate: {}",
                            errno::text(&e)
                        );
                    }
                    self.note_appended(written);
                    self.aof.buffer.drain(..written);
                }
                io::Error::from_raw_os_error(libc::ENOSPC)
            }
        };
        self.aof.write_trouble = Some(Trouble {
            reason: errno::text(&error),
        });
    }

    fn note_appended(&mut self, bytes: usize) {
        self.aof.written += bytes as u64;
        self.aof.size += bytes as u64;
    }

    fn note_write(&mut self, took_ms: u64, sync_goes_on: bool) {
        let alone = if sync_goes_on {
            "aof-write-pending-fsync"
        } else if self.writes_snapshot() {
            "aof-write-active-child"
        } else {
            "aof-write-alone"
        };
        self.latency_sample(alone, took_ms);
        self.latency_sample("aof-write", took_ms);
    }

    /// True while a snapshot is being written: a save or a rewrite.
    pub fn writes_snapshot(&self) -> bool {
        self.persistence.saving.is_some() || self.aof.rewriting.is_some()
    }

    /// With `no-appendfsync-on-rewrite` nothing is synced while a snapshot is being written.
    fn leaves_syncs_out(&self) -> bool {
        self.config.no_appendfsync_on_rewrite && self.writes_snapshot()
    }

    /// Once a second another thread syncs.
    fn sync_each_second(&mut self, file: &Arc<dyn LogFile>) {
        let now_s = self.now.s();
        if self.leaves_syncs_out() || now_s <= self.aof.synced_s {
            return;
        }
        if self.aof.syncs == 0 {
            self.aof.synced = self.aof.written;
            self.start_sync(file.clone());
        }
        self.aof.synced_s = now_s;
    }

    /// The batch that has gathered goes to the thread that writes and syncs.
    fn hand_batch(&mut self, io: &dyn Io, file: Arc<dyn LogFile>) {
        let sync = !self.leaves_syncs_out();
        if !sync && self.aof.buffer.is_empty() {
            return;
        }
        let job = BatchJob {
            file,
            bytes: self.aof.hand_over(self.repl.history.offset()),
            sync,
            sleep_us: self.aof.flush_sleep_us,
            clock: io.clock(),
        };
        self.note_appended(job.bytes.len());
        if sync {
            self.aof.synced = self.aof.written;
            self.aof.synced_s = self.now.s();
        }
        self.start_log_job(move || job.run());
    }

    /// All that was logged is written, and with `always` synced, before this returns.
    pub(in crate::server) fn settle_log(&mut self, io: &mut dyn Io) {
        self.flush_log(io, true);
        io.wait_for_log();
        // Those that were not even started are done here.
        let (jobs, others) = std::mem::take(&mut self.effects)
            .into_iter()
            .partition::<Vec<_>, _>(|effect| matches!(effect, Effect::Start(Errand::Log, _)));
        self.effects = others;
        for job in jobs {
            if let Effect::Start(_, work) = job {
                self.log_done(Ok(work()));
            }
        }
    }

    fn start_log_job(&mut self, job: impl FnOnce() -> Done + Send + 'static) {
        let serial = self.aof.serial;
        let work = move || -> Box<dyn Any + Send> { Box::new((serial, job())) };
        self.effects
            .push(Effect::Start(Errand::Log, Box::new(work)));
    }

    /// Syncs a file, after all that was written to it, and those that could not be synced before.
    pub(super) fn start_sync(&mut self, file: Arc<dyn LogFile>) {
        self.aof.syncs += 1;
        let offset = self.repl.history.offset();
        if planted::on(Bug::SyncCountsTooEarly) {
            self.note_synced_to(offset);
        }
        let mut files = std::mem::take(&mut self.aof.unsynced);
        files.push(file);
        self.start_log_job(move || {
            let mut left = files.into_iter();
            let done = loop {
                let Some(file) = left.next() else {
                    break Ok(());
                };
                if let Err(e) = file.sync() {
                    break Err((std::iter::once(file).chain(left).collect(), e));
                }
            };
            Done::Sync(done, offset)
        });
    }

    /// The file that is being written is left; what is not durable of it will be.
    pub(super) fn close_log(&mut self) {
        let Some(file) = self.aof.file.take() else {
            return;
        };
        if self.aof.is_unsynced() {
            self.start_sync(file);
            self.aof.synced_s = self.now.s();
        } else {
            // The last owner may have gigabytes to give back to the disk.
            self.free_later(Box::new(file), 0);
        }
    }

    /// A job of the log is over.
    pub(in crate::server) fn log_done(&mut self, outcome: Result<Box<dyn Any + Send>, String>) {
        let (serial, done) = match outcome.map(|value| value.downcast::<(u64, Done)>()) {
            Ok(Ok(done)) => *done,
            Ok(Err(_)) => return,
            Err(panic) => return self.log_is_lost(&panic),
        };
        // Offsets of a log that has ended may be those of another stream.
        let is_of_this_log = serial == self.aof.serial;
        match done {
            Done::Batch {
                buffer,
                write_us,
                sync_us,
                result,
            } => {
                self.note_write(write_us / 1000, false);
                if let Some(us) = sync_us {
                    self.latency_sample("aof-fsync-always", us / 1000);
                }
                match result {
                    Ok(()) => {
                        self.aof.batch_done(buffer);
                        if sync_us.is_some() {
                            self.aof.sync_trouble = None;
                            if is_of_this_log {
                                self.note_synced_to(self.aof.durable_offset);
                            }
                        }
                        self.release_held();
                    }
                    Err(wrong) => self.batch_failed(&wrong, buffer.len()),
                }
            }
            Done::Sync(result, offset) => {
                self.aof.syncs = self.aof.syncs.saturating_sub(1);
                match result {
                    Ok(()) => {
                        self.aof.sync_trouble = None;
                        if is_of_this_log {
                            self.note_synced_to(offset);
                        }
                    }
                    Err((files, e)) => self.log_sync_failed(files, &e),
                }
            }
        }
    }

    /// What was logged up to this place of the replication stream is durable (WAITAOF). As long as there is no base it is not.
    pub(super) fn note_synced_to(&mut self, offset: i64) {
        self.aof.synced_offset = offset;
        if self.aof.state == State::On {
            self.repl.fsynced = offset;
        }
    }

    /// Replicas get of the stream what is durable; all, where nothing waits.
    pub fn gate_stream(&mut self) {
        let offset = self.repl.history.offset();
        let gate = self.aof.holding && self.newest_batch().is_some();
        if !gate {
            self.aof.durable_offset = offset;
        }
        if let Some(backlog) = self.repl.history.backlog_mut() {
            backlog.close_from(gate.then_some(self.aof.durable_offset));
        }
    }

    /// It is tried again, so that the server recovers with the disk; until then writes are refused.
    fn log_sync_failed(&mut self, files: Vec<Arc<dyn LogFile>>, error: &io::Error) {
        self.aof.unsynced.extend(files);
        let reason = errno::text(error);
        if self.aof.sync_trouble.is_none() {
            log::warn!("Fail to fsync the AOF file: {reason}");
        }
        self.aof.sync_trouble = Some(Trouble { reason });
    }

    /// What clients may have seen cannot be taken back, and what was promised to be durable is not.
    fn batch_failed(&mut self, wrong: &Wrong, expected: usize) {
        let end = "when the AOF fsync policy is 'always'";
        match wrong {
            Wrong::Write(e) => log::warn!("Error writing to the AOF file: {}", errno::text(e)),
            Wrong::Short(written) => log::warn!(
                "Short write while writing to the AOF file: (nwritten={written}, expected={expected})"
            ),
            Wrong::Sync(e) => {
                let why = errno::text(e);
                log::warn!("Can't persist AOF for fsync error {end}: {why}. Exiting...");
            }
        }
        if !matches!(wrong, Wrong::Sync(_)) {
            log::warn!("Can't recover from AOF write error {end}. Exiting...");
        }
        self.persistence.failed = true;
        self.exiting = Some(1);
    }

    fn log_is_lost(&mut self, why: &str) {
        log::warn!("Can't write the AOF file: {why}. Exiting...");
        self.persistence.failed = true;
        self.exiting = Some(1);
    }

    /// What keeps the log from being written, if anything does.
    pub fn log_trouble(&self) -> Option<&Trouble> {
        if self.aof.state == State::Off {
            return None;
        }
        self.aof
            .write_trouble
            .as_ref()
            .or(self.aof.sync_trouble.as_ref())
    }
}
