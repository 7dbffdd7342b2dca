//! The rewrite: the data of one moment take the place of all commands before it.
//!
//! ```text
//!                 loop                                        another thread
//! opening         makes the next incremental file             puts it into the manifest
//! writing         writes what came before to the old file,    writes the snapshot, renames it to the next base, puts the
//!                 goes on with the new one, takes a snapshot  manifest in place that has it and the new file alone
//! tidying         knows the new manifest                      removes the old files, and their names from the manifest
//! ```
//! The snapshot and the change of files are one moment of the loop: what the base has and what the new file has never
//! overlap, and nothing is between them. Until then all goes to the old file, so that nothing is ever written to a file that
//! no manifest names. Whatever fails, the manifest on the disk names files that have all the data.
//!
//! A log that was switched on while the server ran has no manifest to be in yet: its first file has a temporary name until
//! the base is there. Without a log there is only a base to write.

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::Places;
use super::files::{NotPut, Told, make_dir, put_manifest, remove_history};
use crate::admin::info::REDIS_VERSION;
use crate::aof::manifest::Manifest;
use crate::aof::rewrite::write_log;
use crate::base::errno;
use crate::cmd::keys::access_clock;
use crate::config::Text;
use crate::db::snapshot::Snapshot;
use crate::exec::aof::State;
use crate::exec::io::{Disk, Io, LogFile};
use crate::exec::persistence::{Errand, RewriteStep, Rewriting};
use crate::exec::server::{Effect, Server};
use crate::rdb::{Format, Info, Progress, SaveError, Usage, write_file};
use crate::server::save::Writing;

/// After so many failures in a row there are pauses between the tries, longer each time, up to an hour.
const FAILURES_FREE: u64 = 3;
const DELAY_MAX_MIN: u64 = 60;

/// Everything that it takes to write a base.
struct BaseTask {
    snapshot: Snapshot,
    libraries: Vec<Bytes>,
    disk: Arc<dyn Disk>,
    temp: PathBuf,
    /// An RDB file, and not commands.
    rdb: bool,
    created_s: u64,
    used_memory: u64,
    usage: Usage,
    format: Format,
    /// The time is noted at the head of commands.
    stamped: bool,
    incremental: bool,
}

/// Why there is no new base.
enum Failure {
    Cancelled,
    Told,
}

impl BaseTask {
    /// Writes the file under its temporary name, and makes it durable. Gives its length.
    fn write(self, progress: &Progress) -> Result<u64, Failure> {
        let temp = self.temp.clone();
        let disk = self.disk.clone();
        let wrong = |e: &io::Error| {
            log::warn!(
                "Write error writing append only file on disk: {}",
                errno::text(e)
            );
            Failure::Told
        };
        let file = disk.create(&temp).map_err(|e| {
            log::warn!(
                "Opening the temp file for AOF rewrite in rewriteAppendOnlyFile(): {}",
                errno::text(&e)
            );
            Failure::Told
        })?;
        let out = Writing::new(file, self.incremental);
        let libraries = self.libraries.iter().map(|text| &text[..]);
        let done = if self.rdb {
            let info = Info {
                redis_version: REDIS_VERSION,
                created_s: self.created_s,
                used_memory: self.used_memory,
                replication: None,
                aof_base: true,
            };
            let (usage, format) = (self.usage, self.format);
            write_file(
                out,
                self.snapshot,
                libraries,
                &info,
                usage,
                format,
                progress,
            )
        } else {
            let at_s = self.stamped.then_some(self.created_s);
            write_log(out, self.snapshot, libraries, at_s, progress)
        };
        let done = match done {
            Ok((mut out, bytes)) => out.file.sync().map(|()| bytes).map_err(|e| wrong(&e)),
            Err(SaveError::Cancelled) => Err(Failure::Cancelled),
            Err(SaveError::Io(e)) => Err(wrong(&e)),
        };
        done.inspect_err(|_| {
            let _ = disk.unlink(&temp);
        })
    }
}

/// What is done with a base that has been written.
struct Placing {
    disk: Arc<dyn Disk>,
    places: Places,
    temp: PathBuf,
    base: Text,
    /// The first file of a log that was switched on gets this name.
    first_incr: Option<Text>,
    manifest: Manifest,
    progress: Arc<Progress>,
    placed: Arc<Mutex<Option<Manifest>>>,
}

impl Placing {
    /// Puts the base and the manifest in place, unless the rewrite was given up.
    fn place(&self) -> Result<(), Failure> {
        let mut placed_here = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        let disk = &*self.disk;
        if self.progress.is_cancelled() {
            let _ = disk.unlink(&self.temp);
            return Err(Failure::Cancelled);
        }
        log::info!("Background AOF rewrite terminated with success");
        let (temp, base) = (self.temp.clone(), self.places.file(&self.base));
        self.rename("base", &temp, &base, &self.base)
            .inspect_err(|_| {
                let _ = disk.unlink(&temp);
            })?;
        let mut placed = vec![base];
        let mut done = Ok(());
        if let Some(name) = &self.first_incr {
            let incr = self.places.file(name);
            done = self.rename("incr", &self.places.temp_incr(), &incr, name);
            placed.push(incr);
        }
        if done.is_ok() {
            match put_manifest(disk, &self.places, &self.manifest) {
                Ok(()) => {
                    *placed_here = Some(self.manifest.clone());
                    return Ok(());
                }
                Err(NotPut::Unsure) => return Err(Failure::Told),
                Err(NotPut::AsBefore) => {}
            }
        }
        for path in &placed {
            let _ = disk.unlink(path);
        }
        Err(Failure::Told)
    }

    fn rename(&self, what: &str, from: &Path, to: &Path, name: &Text) -> Result<(), Failure> {
        let from_name = from.file_name().unwrap_or_default().to_string_lossy();
        if let Err(e) = self.disk.rename(from, to) {
            log::warn!(
                "Error trying to rename the temporary AOF {what} file {from_name} into {}: {}",
                to.display(),
                errno::text(&e)
            );
            return Err(Failure::Told);
        }
        log::info!(
            "Successfully renamed the temporary AOF {what} file {from_name} into {}",
            name.lossy()
        );
        Ok(())
    }
}

/// What a step gives.
enum Done {
    Opened(Result<(), Told>),
    /// The new manifest, and the length of its base.
    Written(Result<(Manifest, u64), Failure>),
    /// What nobody waits for.
    Tidied,
}

impl Server {
    fn base_task(&mut self, io: &dyn Io, temp: &str) -> BaseTask {
        let config = &self.config;
        BaseTask {
            temp: config.dir.as_path().join(temp),
            disk: io.disk(),
            rdb: config.aof_use_rdb_preamble,
            created_s: self.now.s(),
            used_memory: io.used_memory() as u64,
            usage: Usage::of(config, access_clock(config, self.now.ms())),
            format: Format::of(config),
            stamped: config.aof_timestamp_enabled,
            incremental: config.aof_rewrite_incremental_fsync,
            libraries: self.scripting.libraries.texts(),
            snapshot: self.dbs.snapshot(),
        }
    }

    /// Writes the base that a new log begins with.
    pub(super) fn write_first_base(
        &mut self,
        io: &mut dyn Io,
        places: &Places,
        name: &Text,
    ) -> Result<(), Told> {
        let task = self.base_task(io, &format!("temp-rewriteaof-{}.aof", self.process.pid));
        let (temp, disk) = (task.temp.clone(), task.disk.clone());
        task.write(&Progress::default()).map_err(|_| Told)?;
        disk.rename(&temp, &places.file(name)).map_err(|e| {
            log::warn!(
                "Error moving temp append only file on the final destination: {}",
                errno::text(&e)
            );
            let _ = disk.unlink(&temp);
            Told
        })
    }

    /// Begins a rewrite. False if one is under way, or a save, or if it fails at once; the log says why.
    pub fn begin_rewrite(&mut self, io: &mut dyn Io) -> bool {
        if self.writes_snapshot() {
            return false;
        }
        self.aof.rewrite_serial += 1;
        let places = Places::of(&self.config);
        let disk = io.disk();
        if make_dir(&*disk, &places).is_err() || self.open_next(io, &places).is_err() {
            self.aof.rewrite_failed = true;
            return false;
        }
        self.aof.rewrites += 1;
        self.aof.rewrite_scheduled = false;
        true
    }

    /// Makes the file to go on with, if there is a log.
    fn open_next(&mut self, io: &mut dyn Io, places: &Places) -> Result<(), Told> {
        let disk = io.disk();
        let open = |name: &Text| {
            let opened = disk.open_log(&places.file(name), true);
            opened.map(|(file, _)| file).map_err(|e| {
                log::warn!(
                    "Can't open the append-only file {}: {}",
                    name.lossy(),
                    errno::text(&e)
                );
                Told
            })
        };
        match self.aof.state {
            State::Off => self.write_base(io, places, None),
            State::WaitRewrite => {
                let name = crate::aof::manifest::temp_incr_name(&places.log);
                let file = open(&name)?;
                self.go_on_with(io, file, &name);
                self.aof.synced_offset = self.repl.history.offset();
                self.repl.fsynced = 0;
                self.write_base(io, places, None);
            }
            State::On => {
                let mut manifest = self.aof.manifest.clone();
                let name = manifest.next_incr(&places.log).name.clone();
                let file = open(&name)?;
                let (disk, places) = (disk.clone(), places.clone());
                let put = manifest.clone();
                let step = RewriteStep::Opening {
                    file,
                    name,
                    manifest,
                };
                self.note_rewriting(step);
                self.start_step(move || {
                    let opened = put_manifest(&*disk, &places, &put);
                    // (If not, the file stays: the manifest may have its name all the same.)
                    Done::Opened(opened.map_err(Told::from))
                });
            }
        }
        Ok(())
    }

    fn note_rewriting(&mut self, step: RewriteStep) {
        let keys = self.dbs.len() as u64;
        let started_s = self.now.s();
        let delay = self.config.rdb_key_save_delay;
        let serial = self.aof.rewrite_serial;
        self.aof.rewriting.get_or_insert_with(|| Rewriting {
            serial,
            progress: Arc::new(Progress::with_delay(delay)),
            placed: Arc::default(),
            started_s,
            keys,
            step: RewriteStep::Writing,
            too_dear: false,
        });
        if let Some(rewriting) = &mut self.aof.rewriting {
            rewriting.step = step;
        }
    }

    fn start_step(&mut self, job: impl FnOnce() -> Done + Send + 'static) {
        let serial = self.aof.rewrite_serial;
        let work = move || -> Box<dyn Any + Send> { Box::new((serial, job())) };
        let effect = Effect::Start(Errand::Rewrite, Box::new(work));
        self.effects.push(effect);
    }

    /// From now on operations go to another file.
    fn go_on_with(&mut self, io: &mut dyn Io, file: Arc<dyn LogFile>, name: &Text) {
        self.flush_log(io, true);
        log::info!(
            "Creating AOF incr file {} on background rewrite",
            name.lossy()
        );
        self.close_log();
        let aof = &mut self.aof;
        // The file must stand alone, so it begins with a SELECT.
        aof.selected = Default::default();
        aof.file = Some(file);
        (aof.written, aof.synced) = (0, 0);
    }

    /// Takes the snapshot and starts the job that writes it. `next` is the manifest that the new base goes into, if the log
    /// is in one.
    fn write_base(&mut self, io: &mut dyn Io, places: &Places, next: Option<Manifest>) {
        let start_ns = io.mono_ns();
        self.note_rewriting(RewriteStep::Writing);
        let pid = self.process.pid;
        let task = self.base_task(io, &format!("temp-rewriteaof-bg-{pid}.aof"));
        let mut manifest = next.unwrap_or_else(|| self.aof.manifest.clone());
        let base = manifest.next_base(&places.log, task.rdb).name.clone();
        let first_incr = (self.aof.state == State::WaitRewrite)
            .then(|| manifest.next_incr(&places.log).name.clone());
        manifest.rewritten(self.aof.state != State::Off);
        let Some(rewriting) = &self.aof.rewriting else {
            return;
        };
        let placing = Placing {
            disk: task.disk.clone(),
            places: places.clone(),
            temp: task.temp.clone(),
            base,
            first_incr,
            manifest,
            progress: rewriting.progress.clone(),
            placed: rewriting.placed.clone(),
        };
        let tidies = !self.config.aof_disable_auto_gc;
        self.start_step(move || {
            let written = task.write(&placing.progress).and_then(|bytes| {
                placing.place()?;
                let Placing {
                    disk,
                    places,
                    mut manifest,
                    ..
                } = placing;
                if tidies {
                    remove_history(&*disk, &places, &mut manifest, |path| {
                        // One that is not there is as good as removed.
                        let _ = disk.unlink(&path);
                    });
                }
                Ok((manifest, bytes))
            });
            Done::Written(written)
        });
        self.snapshot_taken(start_ns, io);
        log::info!("Background append only file rewriting started by pid {pid}");
    }

    /// A step is over.
    pub(in crate::server) fn rewrite_step_done(
        &mut self,
        io: &mut dyn Io,
        outcome: Result<Box<dyn Any + Send>, String>,
    ) {
        let (serial, done) = match outcome.map(|value| value.downcast::<(u64, Done)>()) {
            Ok(Ok(done)) => *done,
            // A panic, which the log has.
            _ => (self.aof.rewrite_serial, Done::Written(Err(Failure::Told))),
        };
        if self.aof.rewriting.as_ref().map(|r| r.serial) != Some(serial) {
            // It was given up, or nobody waits for it.
            return;
        }
        match done {
            Done::Opened(Ok(())) => self.opened(io),
            Done::Opened(Err(Told)) => self.rewrite_failed(io, &Failure::Told),
            Done::Written(Ok((manifest, bytes))) => self.written(io, manifest, bytes),
            Done::Written(Err(failure)) => self.rewrite_failed(io, &failure),
            Done::Tidied => {}
        }
    }

    /// The next file is in the manifest: this is the moment.
    fn opened(&mut self, io: &mut dyn Io) {
        let Some(rewriting) = &mut self.aof.rewriting else {
            return;
        };
        let cancelled = rewriting.progress.is_cancelled();
        let step = std::mem::replace(&mut rewriting.step, RewriteStep::Writing);
        let RewriteStep::Opening {
            file,
            name,
            manifest,
        } = step
        else {
            return;
        };
        self.aof.manifest = manifest.clone();
        if cancelled {
            return self.rewrite_failed(io, &Failure::Cancelled);
        }
        self.flush_log(io, true);
        if !self.aof.buffer.is_empty() {
            // What could not be written would come after the snapshot that has it already.
            return self.rewrite_failed(io, &Failure::Told);
        }
        self.go_on_with(io, file, &name);
        let places = Places::of(&self.config);
        self.write_base(io, &places, Some(manifest));
    }

    /// The base is in place.
    fn written(&mut self, io: &mut dyn Io, manifest: Manifest, base_bytes: u64) {
        self.aof.manifest = manifest;
        if self.aof.state != State::Off {
            self.aof.size = base_bytes + self.aof.written;
            self.aof.base_size = self.aof.size;
            self.aof.state = State::On;
            self.note_synced_to(self.aof.synced_offset);
            self.note_who_listens();
        }
        self.aof.rewrite_failed = false;
        self.aof.failures_in_a_row = 0;
        self.aof.copied_bytes = self.dbs.copied_for_snapshots();
        log::info!("Background AOF rewrite finished successfully");
        self.end_rewrite();
        // (It may have been allowed meanwhile.)
        self.tidy_log(io);
    }

    /// The rewrite that is under way, if one is, is not wanted any more. Its job hears of it by and by; the next one's waits
    /// for it.
    pub(super) fn give_up_rewrite(&mut self) {
        let Some(rewriting) = self.aof.rewriting.take() else {
            return;
        };
        // (As with saves: ours is no child, but the log is searched for this.)
        log::info!("Killing running AOF rewrite child: {}", self.process.pid);
        if let Some(manifest) = rewriting.cancel() {
            // It had come to its end.
            self.aof.manifest = manifest;
        }
    }

    /// What was left is removed, if it is to be (CONFIG SET aof-disable-auto-gc). (Steps are done in the order in which they were started,
    /// so no manifest of a later rewrite can be replaced by this one.)
    pub fn tidy_log(&mut self, io: &mut dyn Io) {
        let kept = self.config.aof_disable_auto_gc || self.aof.rewriting.is_some();
        if kept || self.aof.manifest.history().is_empty() {
            return;
        }
        let (disk, places) = (io.disk(), Places::of(&self.config));
        let mut manifest = self.aof.manifest.clone();
        self.aof.manifest.take_history();
        self.start_step(move || {
            remove_history(&*disk, &places, &mut manifest, |path| {
                // One that is not there is as good as removed.
                let _ = disk.unlink(&path);
            });
            Done::Tidied
        });
    }

    /// The file of a log that is not to be one after all.
    pub(super) fn drop_first_file(&mut self, io: &dyn Io) {
        let places = Places::of(&self.config);
        log::info!(
            "Removing the temp incr aof file {} in the background",
            crate::aof::manifest::temp_incr_name(&places.log).lossy()
        );
        // Its name goes now, so that it is free; the rest goes with the file's last owner, who is on another thread.
        let _ = io.disk().unlink(&places.temp_incr());
        self.close_log();
        (self.aof.written, self.aof.synced) = (0, 0);
    }

    fn end_rewrite(&mut self) {
        if let Some(rewriting) = self.aof.rewriting.take() {
            let took_s = self.now.s().saturating_sub(rewriting.started_s);
            self.aof.rewrite_took_s = Some(took_s);
        }
        // It waits for a rewrite to be a log.
        if self.aof.state == State::WaitRewrite {
            self.aof.rewrite_scheduled = true;
        }
    }

    fn rewrite_failed(&mut self, io: &mut dyn Io, failure: &Failure) {
        let too_dear = self.aof.rewriting.as_ref().is_some_and(|r| r.too_dear);
        match failure {
            Failure::Cancelled if !too_dear => log::warn!("Background AOF rewrite cancelled"),
            Failure::Cancelled | Failure::Told => {
                log::warn!("Background AOF rewrite terminated with error");
                self.aof.rewrite_failed = true;
                self.aof.failures_in_a_row += 1;
            }
        }
        if self.aof.state == State::WaitRewrite {
            self.aof.buffer.clear();
            self.drop_first_file(io);
        }
        self.end_rewrite();
    }

    /// What was scheduled, and what is due because the log has grown. Nothing while a snapshot is being written.
    pub fn rewrite_cron(&mut self, io: &mut dyn Io) {
        if self.loading || self.writes_snapshot() {
            return;
        }
        if self.aof.rewrite_scheduled && !self.must_wait_to_rewrite() {
            self.begin_rewrite(io);
            return;
        }
        let aof = &self.aof;
        let percentage = i64::from(self.config.auto_aof_rewrite_percentage);
        let large = aof.size > self.config.auto_aof_rewrite_min_size as u64;
        if aof.state != State::On || percentage == 0 || !large {
            return;
        }
        let base = aof.base_size.max(1);
        let growth = (u128::from(aof.size) * 100 / u128::from(base)) as i64 - 100;
        if growth >= percentage && !self.must_wait_to_rewrite() {
            log::info!("Starting automatic rewriting of AOF on {growth}% growth");
            self.begin_rewrite(io);
        }
    }

    /// After failures the next try has to wait, or there would soon be many small files.
    fn must_wait_to_rewrite(&mut self) -> bool {
        let now_s = self.now.s();
        let aof = &mut self.aof;
        if aof.failures_in_a_row < FAILURES_FREE {
            aof.delay_min = 0;
            aof.retry_at_s = None;
            return false;
        }
        if let Some(at_s) = aof.retry_at_s {
            if now_s < at_s {
                return true;
            }
            aof.retry_at_s = None;
            return false;
        }
        aof.delay_min = (aof.delay_min * 2).clamp(1, DELAY_MAX_MIN);
        aof.retry_at_s = Some(now_s + aof.delay_min * 60);
        log::warn!(
            "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in {} minutes",
            aof.delay_min
        );
        true
    }
}
