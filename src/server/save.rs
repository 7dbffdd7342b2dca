//! Saving: the data in one file, by a thread from a snapshot or by the loop itself.
//!
//! ```text
//! SAVE, SHUTDOWN, FLUSHALL, DEBUG RELOAD     the loop runs the job and waits
//! BGSAVE, save points                        the loop takes a snapshot, which costs it some µs, and
//!                                            hears of the outcome as of any event
//! ```
//! The job writes a temporary file, syncs it, renames it, and syncs the directory: whatever fails, or whenever
//! the power does, the file of that name is the old one or the new one. Nothing forks: where Redis tells the
//! number of the saving child, this tells that of the process.
//!
//! A save may be given up (SHUTDOWN, FLUSHALL), and then must not replace a later file: the file is put in place under
//! the lock by which [`Saving::cancel`] passes.

use std::any::Any;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::admin::info::REDIS_VERSION;
use crate::base::errno;
use crate::base::planted::{self, Bug};
use crate::cmd::keys::access_clock;
use crate::db::snapshot::Snapshot;
use crate::exec::io::{Disk, Io, NewFile};
use crate::exec::persistence::{Errand, RewriteStep, Saving, Target};
use crate::exec::server::{Effect, Server};
use crate::rdb::{Format, Info, Progress, Replication, SaveError, Usage, write_file};

/// With `rdb-save-incremental-fsync`, so many bytes at a time are sent on their way to the disk.
const WRITE_BACK_BYTES: u64 = 4 * 1024 * 1024;
/// A background save that failed is tried again by a save point after so many seconds.
const RETRY_S: u64 = 5;

/// Why there is no new file.
#[derive(Debug)]
pub enum Failure {
    Cancelled,
    /// It failed with this, which the log has.
    Failed(String),
}

/// The place in the replication stream at which a snapshot was taken.
#[derive(Clone, Debug)]
pub struct StreamPlace {
    db: i64,
    id: String,
    offset: i64,
}

impl StreamPlace {
    /// As a file tells it.
    pub fn as_aux(&self) -> Replication<'_> {
        Replication {
            stream_db: self.db,
            id: &self.id,
            offset: self.offset,
        }
    }
}

/// Everything that a save needs.
struct Task {
    snapshot: Snapshot,
    /// The texts of the libraries of functions.
    libraries: Vec<Bytes>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    temp: PathBuf,
    target: PathBuf,
    created_s: u64,
    used_memory: u64,
    usage: Usage,
    format: Format,
    incremental: bool,
    place: Option<StreamPlace>,
    progress: Arc<Progress>,
    commit: Arc<Mutex<()>>,
}

impl Task {
    /// Writes the file and puts it in place.
    fn run(self) -> Result<(), Failure> {
        let Task {
            disk,
            dir,
            temp,
            target,
            commit,
            progress,
            ..
        } = &self;
        let (disk, dir, temp, target) = (disk.clone(), dir.clone(), temp.clone(), target.clone());
        let (commit, progress) = (commit.clone(), progress.clone());
        let file = {
            let _placing = commit.lock().unwrap_or_else(PoisonError::into_inner);
            if progress.is_cancelled() {
                return Err(Failure::Cancelled);
            }
            disk.create(&temp).map_err(|e| {
                let why = format!(
                    "Failed opening the temp RDB file {} (in server root dir {}) for saving: {}",
                    name_of(&temp),
                    dir.display(),
                    errno::text(&e)
                );
                failed(why)
            })?
        };
        let written = self.write(file);
        let placing = commit.lock().unwrap_or_else(PoisonError::into_inner);
        let done = match written {
            Ok(()) if progress.is_cancelled() => Err(Failure::Cancelled),
            Ok(()) => disk.rename(&temp, &target).map_err(|e| {
                failed(format!(
                    "Error moving temp DB file {} on the final destination {} (in server root dir {}): {}",
                    name_of(&temp),
                    name_of(&target),
                    dir.display(),
                    errno::text(&e)
                ))
            }),
            Err(failure) => Err(failure),
        };
        if done.is_err() {
            // It may be gone with whoever gave the save up.
            let _ = disk.unlink(&temp);
        }
        drop(placing);
        done?;
        disk.sync_dir(&dir).map_err(|e| {
            failed(format!(
                "Failed to fsync directory while saving DB: {}",
                errno::text(&e)
            ))
        })?;
        log::info!("DB saved on disk");
        Ok(())
    }

    fn write(self, file: Box<dyn NewFile>) -> Result<(), Failure> {
        let wrong = |what: &str, e: &io::Error| {
            failed(format!(
                "Write error while saving DB to the disk({what}): {}",
                errno::text(e)
            ))
        };
        let info = Info {
            redis_version: REDIS_VERSION,
            created_s: self.created_s,
            used_memory: self.used_memory,
            replication: self.place.as_ref().map(StreamPlace::as_aux),
            aof_base: false,
        };
        let out = Writing::new(file, self.incremental);
        let (snapshot, libraries) = (self.snapshot, self.libraries);
        let done = write_file(
            out,
            snapshot,
            libraries.iter().map(|text| &text[..]),
            &info,
            self.usage,
            self.format,
            &self.progress,
        );
        match done {
            Ok(_) if planted::on(Bug::RenameBeforeSync) => Ok(()),
            Ok((mut out, _)) => out.file.sync().map_err(|e| wrong("fsync", &e)),
            Err(SaveError::Cancelled) => Err(Failure::Cancelled),
            Err(SaveError::Io(e)) => Err(wrong("rdbSaveRio", &e)),
        }
    }
}

/// Notes a failure in the log.
fn failed(why: String) -> Failure {
    log::warn!("{why}");
    Failure::Failed(why)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// A file that goes to the disk while it is written.
pub(super) struct Writing {
    pub(super) file: Box<dyn NewFile>,
    written: u64,
    on_its_way: u64,
    incremental: bool,
}

impl Writing {
    /// With `incremental`, what is written is sent on its way while more is.
    pub(super) fn new(file: Box<dyn NewFile>, incremental: bool) -> Writing {
        Writing {
            file,
            written: 0,
            on_its_way: 0,
            incremental,
        }
    }
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        let behind = self.written - self.on_its_way;
        if self.incremental && behind >= WRITE_BACK_BYTES {
            self.file.write_back(self.on_its_way, behind);
            self.on_its_way = self.written;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Server {
    fn save_task(&mut self, io: &dyn Io, temp: &str, progress: Progress) -> Task {
        let config = &self.config;
        let dir = config.dir.as_path().to_path_buf();
        Task {
            temp: dir.join(temp),
            target: config.rdb_path(),
            dir,
            disk: io.disk(),
            created_s: self.now.s(),
            used_memory: io.used_memory() as u64,
            usage: Usage::of(config, access_clock(config, self.now.ms())),
            format: Format::of(config),
            incremental: config.rdb_save_incremental_fsync,
            place: self.stream_place(),
            progress: Arc::new(progress),
            commit: Arc::default(),
            libraries: self.scripting.libraries.texts(),
            snapshot: self.dbs.snapshot(),
        }
    }

    /// Where in the stream the data is, if it is a stream that somebody may go on with. What was selected last does not
    /// matter when nothing was: the next operation says.
    pub(super) fn stream_place(&self) -> Option<StreamPlace> {
        let history = &self.repl.history;
        let selected = match &self.repl.following {
            Some(following) => following.link.place()?.db,
            None => self
                .repl
                .selected
                .db()
                .and_then(|db| u32::try_from(db).ok())
                .unwrap_or(0),
        };
        history.backlog().map(|_| StreamPlace {
            db: i64::from(selected),
            id: history.id().to_string(),
            offset: history.offset(),
        })
    }

    /// What the file is called while everybody waits for it.
    pub(super) fn temp_file(&self) -> String {
        format!("temp-{}.rdb", self.process.pid)
    }

    /// Saves while everybody waits. False if it failed; the log says why.
    pub fn save_now(&mut self, io: &mut dyn Io) -> bool {
        let delay = Progress::with_delay(self.config.rdb_key_save_delay);
        let temp = self.temp_file();
        let result = self.save_task(io, &temp, delay).run();
        match result {
            Ok(()) => {
                self.dirty = 0;
                self.last_save_s = io.unix_us() / 1_000_000;
                self.persistence.error = None;
                true
            }
            Err(_) => false,
        }
    }

    /// Begins a save in the background. False if one is under way.
    pub fn save_in_background(&mut self, io: &mut dyn Io) -> bool {
        if self.writes_snapshot() {
            return false;
        }
        let start_ns = io.mono_ns();
        let p = &mut self.persistence;
        p.saves += 1;
        p.serial += 1;
        p.scheduled = false;
        p.tried_s = self.now.s();
        let temp = format!("temp-{}-{}.rdb", self.process.pid, p.serial);
        let delay = Progress::with_delay(self.config.rdb_key_save_delay);
        let task = self.save_task(io, &temp, delay);
        self.persistence.saving = Some(Saving {
            target: Target::File,
            progress: task.progress.clone(),
            commit: task.commit.clone(),
            temp: task.temp.clone(),
            started_s: self.now.s(),
            keys: self.dbs.len() as u64,
            dirty_before: self.dirty,
            too_dear: None,
        });
        self.effects.push(Effect::Start(
            Errand::Save,
            Box::new(move || Box::new(task.run())),
        ));
        self.snapshot_taken(start_ns, io);
        log::info!("Background saving started by pid {}", self.process.pid);
        true
    }

    /// Counts a snapshot, whose taking began at `start_ns`.
    pub(super) fn snapshot_taken(&mut self, start_ns: u64, io: &dyn Io) {
        let took_us = (io.mono_ns() - start_ns) / 1000;
        self.persistence.snapshot_us = took_us;
        self.persistence.snapshots += 1;
        self.persistence.held_peak = 0;
        self.latency_sample("fork", took_us / 1000);
    }

    /// A job is over: what it gave, or the message of its panic.
    pub fn errand_done(
        &mut self,
        io: &mut dyn Io,
        errand: Errand,
        outcome: Result<Box<dyn Any + Send>, String>,
    ) {
        match errand {
            Errand::Save => {
                let result = outcome.map_or_else(
                    |panic| Err(Failure::Failed(panic)),
                    |value| match value.downcast() {
                        Ok(result) => *result,
                        Err(_) => unreachable!("a save gives its result"),
                    },
                );
                let saving = self.persistence.saving.as_mut();
                let result = match (result, saving.and_then(|s| s.too_dear.take())) {
                    (Err(Failure::Cancelled), Some(why)) => Err(Failure::Failed(why)),
                    (result, _) => result,
                };
                match self.persistence.saving.as_ref().map(|s| s.target) {
                    Some(Target::Replicas) => self.transfer_made(result),
                    _ => self.save_done(io, result),
                }
            }
            Errand::Load => self.load_done(io, outcome),
            Errand::LookUp => self.sentinel_looked_up(io, outcome),
            Errand::Receive => self.sync_done(io, outcome),
            Errand::Bulk => {
                if let Some(Ok(read)) = outcome.ok().map(|value| value.downcast()) {
                    self.piece_read(*read);
                }
            }
            Errand::Pack => self.keys_packed(io, outcome),
            Errand::Log => self.log_done(outcome),
            Errand::Rewrite => self.rewrite_step_done(io, outcome),
            // It was tried.
            Errand::Unlink => {}
        }
    }

    fn save_done(&mut self, io: &mut dyn Io, result: Result<(), Failure>) {
        let Some(saving) = self.persistence.saving.take() else {
            return;
        };
        let now_s = io.unix_us() / 1_000_000;
        let p = &mut self.persistence;
        p.took_s = Some(now_s.saturating_sub(saving.started_s));
        p.copied_bytes = self.dbs.copied_for_snapshots();
        match result {
            Ok(()) if !saving.progress.is_cancelled() => {
                log::info!(
                    "Copy-on-write for RDB: {} MB copied",
                    p.copied_bytes / (1024 * 1024)
                );
                log::info!("Background saving terminated with success");
                self.dirty = self.dirty.saturating_sub(saving.dirty_before);
                self.last_save_s = now_s;
                p.error = None;
                return self.file_written(io);
            }
            Ok(()) | Err(Failure::Cancelled) => log::warn!("Background saving cancelled"),
            Err(Failure::Failed(why)) => {
                log::warn!("Background saving error");
                p.error = Some(why);
            }
        }
        self.file_failed();
    }

    /// Gives up the save that is under way, if one is.
    pub fn cancel_save(&mut self) {
        let Some(saving) = &self.persistence.saving else {
            return;
        };
        saving.cancel();
        // The job of a straight transfer may be waiting for room in the pipe, which it finds gone; or it is over already,
        // and then nobody else will say that this is the end.
        match &self.repl.transfer {
            Some(transfer) if transfer.complete => self.transfer_over(false),
            _ => self.repl.transfer = None,
        }
    }

    /// Looks at how much memory snapshots hold. When it is more than `snapshot-memory-limit`, the save that is under way
    /// or the rewrite, is given up and counts as failed: the server lives, and the next one begins with nothing held.
    pub(super) fn limit_snapshots(&mut self) {
        let (limit, held) = (self.config.snapshot_memory_limit, self.dbs.snapshot_held());
        let p = &mut self.persistence;
        p.held_peak = p.held_peak.max(held);
        if limit == 0 || held <= limit {
            return;
        }
        let why = format!(
            "The snapshot holds {held} bytes, more than the {limit} of snapshot-memory-limit"
        );
        if let Some(rewriting) = &mut self.aof.rewriting
            && matches!(rewriting.step, RewriteStep::Writing)
            && !rewriting.too_dear
        {
            log::warn!("{why}");
            rewriting.too_dear = true;
            rewriting.cancel();
        }
        if let Some(saving) = &mut p.saving
            && saving.too_dear.is_none()
        {
            log::warn!("{why}");
            saving.too_dear = Some(why);
            self.cancel_save();
        }
    }

    /// Save points, and what was scheduled.
    pub fn save_cron(&mut self, io: &mut dyn Io) {
        if self.loading || self.async_loading || self.writes_snapshot() {
            return;
        }
        let now_s = self.now.s();
        let p = &self.persistence;
        let may_try = p.error.is_none() || now_s.saturating_sub(p.tried_s) > RETRY_S;
        let since_s = now_s.saturating_sub(self.last_save_s);
        let due = self
            .config
            .save
            .iter()
            .find(|&&(seconds, changes)| self.dirty >= changes && since_s > seconds);
        match due {
            Some((seconds, changes)) if may_try => {
                log::info!("{changes} changes in {seconds} seconds. Saving...");
                self.save_in_background(io);
            }
            _ if p.scheduled && may_try => {
                self.save_in_background(io);
            }
            _ => {}
        }
    }

    /// All data is gone: a save under way is in vain, and the file has to say so too.
    pub fn save_emptied(&mut self, io: &mut dyn Io) {
        self.cancel_save();
        if !self.config.save.is_empty() && self.save_now(io) {
            self.unit.dirty = 0;
        }
    }

    /// Writes must be refused: the last save failed, and nobody would notice (`stop-writes-on-bgsave-error`).
    pub fn writes_are_unsafe(&self) -> bool {
        self.persistence.error.is_some()
            && self.config.stop_writes_on_bgsave_error
            && !self.config.save.is_empty()
    }
}

#[cfg(test)]
mod tests;
