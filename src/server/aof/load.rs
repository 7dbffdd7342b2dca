//! Loading: the commands of the log run again.
//!
//! ```text
//! manifest -> base, incremental files, one after another
//!               | begins as an RDB file: that part is read by a job, into the databases, which it gives back
//!               | the rest are commands: the loop runs some, looks at the clock, sees to clients, and goes on
//! ```
//! Commands run as if a client had sent them, but past the gate: what is in the log has been allowed. They run in a session
//! without a socket; no key expires meanwhile, since the log says when one went.
//!
//! What a crash cut off at the end is cut off in the file too (`aof-load-truncated`), so that what is appended does not
//! follow half a command. Only the last file may be cut.

use std::any::Any;
use std::collections::VecDeque;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::Places;
use super::files::{make_dir, put_manifest};
use crate::aof::manifest::Manifest;
use crate::aof::reader::{End, Error, Reader, Step};
use crate::base::errno;
use crate::base::pace::Pace;
use crate::cmd::session::Marks;
use crate::cmd::{Args, CmdResult};
use crate::config::Text;
use crate::db::keyspace::Databases;
use crate::exec::conn::{Conn, Peer, Token};
use crate::exec::io::{Disk, Io};
use crate::exec::persistence::{Errand, ReadingFile, Replay};
use crate::exec::server::{Effect, Server};
use crate::exec::table::{CommandId, Resolved};
use crate::script::library::Policy;
use crate::server::load::{Counted, Rest, Source, StreamMark, Unloadable};

/// Commands run between two looks at the clock.
const COMMANDS_PER_LOOK: usize = 64;
/// How long the loop replays before it sees to its clients, in ns.
const TURN_NS: u64 = 5_000_000;

/// What the job gives that reads the RDB file at the front of a log. The databases come back in any case.
struct FrontRead {
    dbs: Databases,
    read: Result<(StreamMark, Rest), Unloadable>,
}

impl Server {
    /// Begins to read the log at the start. Without one there is nothing to load.
    pub fn begin_replay(&mut self, io: &mut dyn Io) -> Result<(), Unloadable> {
        match self.prepare_replay(io)? {
            true => Ok(()),
            false => self.loaded(io),
        }
    }

    /// Gets ready to read the log; false if there is none.
    fn prepare_replay(&mut self, io: &mut dyn Io) -> Result<bool, Unloadable> {
        self.take_over_old_log(io)?;
        if self.aof.manifest.is_empty() {
            return Ok(false);
        }
        let places = Places::of(&self.config);
        let disk = io.disk();
        let (mut total, mut base_bytes) = (0, 0);
        for file in self.aof.manifest.files() {
            let len = disk.len(&places.file(&file.name)).map_err(|e| {
                log::warn!(
                    "Unable to obtain the AOF file {} length. stat: {}",
                    file.name.lossy(),
                    errno::text(&e)
                );
                Unloadable
            })?;
            if self.is_base(&file.name) {
                base_bytes = len;
            }
            total += len;
        }
        let files = self.aof.manifest.files().map(|file| file.name.clone());
        let files = files.collect();
        self.note_loading(io, self.load_progress(), total);
        let mut conn = Conn::new(0, Peer::default(), self.now.s());
        conn.session.authenticated = true;
        let marks = Marks::HEADLESS | Marks::MASTER | Marks::DENY_BLOCKING | Marks::NO_PROPAGATE;
        conn.session.marks.set(marks, true);
        let token = self.conns.insert(conn);
        self.persistence.replay = Some(Box::new(Replay {
            files,
            reading: None,
            token,
            bytes_before: 0,
            base_bytes,
            rests_until_ns: 0,
            commands: 0,
        }));
        Ok(true)
    }

    fn is_base(&self, name: &Text) -> bool {
        let base = self.aof.manifest.base();
        base.is_some_and(|base| base.name == *name)
    }

    /// A log that an older version wrote as one file becomes the base of one as it is now.
    fn take_over_old_log(&mut self, io: &mut dyn Io) -> Result<(), Unloadable> {
        let places = Places::of(&self.config);
        let disk = io.disk();
        let name = Text::from(&places.log[..]);
        let (old, moved) = (places.dir.join(name.as_path()), places.file(&name));
        if disk.len(&old).is_err() {
            return Ok(());
        }
        let waits = self
            .aof
            .manifest
            .awaits_old_log(&places.log, disk.len(&moved).is_ok());
        if disk.is_dir(&places.log_dir) && !waits {
            return Ok(());
        }
        make_dir(&*disk, &places).map_err(|_| Unloadable)?;
        self.aof.manifest = Manifest::of_old_log(&places.log);
        put_manifest(&*disk, &places, &self.aof.manifest).map_err(|_| Unloadable)?;
        let (log, dir) = (name.lossy(), self.config.appenddirname.lossy());
        let moving = disk.rename(&old, &moved);
        let moving = moving.and_then(|()| disk.sync_dir(&places.log_dir));
        moving
            .and_then(|()| disk.sync_dir(&places.dir))
            .map_err(|e| {
                log::warn!(
                    "Error trying to move the old AOF file {log} into dir {dir}: {}",
                    errno::text(&e)
                );
                Unloadable
            })?;
        log::info!(
            "Successfully migrated an old-style AOF file ({log}) into the AOF directory ({dir})."
        );
        Ok(())
    }

    /// True while there is something of the log to run now, or when there will be (on the monotonic clock, in ns).
    pub fn replay_due(&self) -> Option<u64> {
        let replay = self.persistence.replay.as_deref()?;
        let elsewhere = replay.reading.as_ref().is_some_and(|r| r.reader.is_none());
        (!elsewhere).then_some(replay.rests_until_ns)
    }

    /// Goes on for a while.
    pub fn go_on_replaying(&mut self, io: &mut dyn Io) {
        let start_ns = io.mono_ns();
        while self.replay_due().is_some_and(|at_ns| at_ns <= io.mono_ns()) {
            let more = self.replay_step(io).and_then(|more| {
                if !more {
                    self.tell_replayed(io);
                    self.loaded(io)?;
                }
                Ok(more)
            });
            match more {
                Ok(true) if io.mono_ns() - start_ns <= TURN_NS => {}
                Ok(_) => return,
                Err(Unloadable) => return self.load_failed(),
            }
        }
    }

    /// DEBUG LOADAOF: the data is that of the log, and everybody waits. False if it could not be loaded.
    pub fn reload_log(&mut self, io: &mut dyn Io) -> bool {
        self.settle_log(io);
        self.flush_databases(0..self.dbs.count() as u32, false);
        self.scripting.flush_functions();
        self.aof.manifest = Manifest::default();
        let begun = self.read_manifest(io).map_err(|_| Unloadable);
        self.remove_history(io);
        let done = begun
            .and_then(|()| self.prepare_replay(io))
            .and_then(|there| match there {
                true => self.replay_at_once(io),
                false => Err(Unloadable),
            });
        self.end_replay();
        self.loading = false;
        self.persistence.loading = None;
        self.note_who_listens();
        (self.dirty, self.unit.dirty) = (0, 0);
        if done.is_ok() {
            log::info!("Append Only File loaded by DEBUG LOADAOF");
        }
        done.is_ok()
    }

    fn replay_at_once(&mut self, io: &mut dyn Io) -> Result<(), Unloadable> {
        while self.replay_step(io)? {
            self.defrag(io);
            // Where a job would read the front of a file, it is read here.
            if matches!(self.effects.last(), Some(Effect::Start(Errand::Load, _)))
                && let Some(Effect::Start(_, work)) = self.effects.pop()
            {
                self.take_front(io, Ok(work()))?;
            }
        }
        // The last file may have been cut.
        if let Some(file) = &self.aof.file {
            self.aof.written = file.len().unwrap_or(self.aof.written);
            self.aof.synced = self.aof.written;
        }
        Ok(())
    }

    /// Runs some commands, or begins or ends a file. False if all files are read.
    fn replay_step(&mut self, io: &mut dyn Io) -> Result<bool, Unloadable> {
        let Some(mut replay) = self.persistence.replay.take() else {
            return Ok(false);
        };
        let more = self.read_on(io, &mut replay);
        if let Some(loading) = &self.persistence.loading {
            let reader = replay.reading.as_ref().and_then(|r| r.reader.as_ref());
            if let Some(reader) = reader {
                let bytes = replay.bytes_before + reader.offset();
                loading.progress.bytes.store(bytes, Ordering::Relaxed);
            }
        }
        self.persistence.replay = Some(replay);
        if !matches!(more, Ok(true)) {
            self.end_replay();
        }
        more
    }

    fn read_on(&mut self, io: &mut dyn Io, replay: &mut Replay) -> Result<bool, Unloadable> {
        let Some(mut reading) = replay.reading.take() else {
            return match replay.files.pop_front() {
                Some(name) => self.begin_file(io, replay, name).map(|()| true),
                None => Ok(false),
            };
        };
        let Some(mut reader) = reading.reader.take() else {
            replay.reading = Some(reading);
            return Ok(true);
        };
        let most = match self.config.key_load_delay {
            0 => COMMANDS_PER_LOOK,
            _ => 1,
        };
        let end = match reader.step(most) {
            Ok(Step::Commands) => {
                self.run_logged(io, replay, &reading.name, &reader)?;
                None
            }
            Ok(Step::Annotation(_)) => None,
            Ok(Step::End(end)) => Some(end),
            Err(error) => {
                tell(&error, &reading.name);
                return Err(Unloadable);
            }
        };
        match end {
            None => {
                reading.reader = Some(reader);
                replay.reading = Some(reading);
            }
            Some(end) => {
                replay.bytes_before += reader.offset();
                self.discard_multi(replay.token);
                let is_last = self.nothing_is_in(io, &replay.files);
                self.end_file(io, end, &reading.name, is_last)?;
                let kind = if reading.is_base { "base" } else { "incr" };
                let took_ns = io.mono_ns() - reading.started_ns;
                log::info!(
                    "DB loaded from {kind} file {}: {:.3} seconds",
                    reading.name.lossy(),
                    took_ns as f64 / 1e9
                );
                let kept = (replay.base_bytes, replay.bytes_before);
                (self.aof.base_size, self.aof.size) = kept;
            }
        }
        Ok(true)
    }

    fn begin_file(
        &mut self,
        io: &mut dyn Io,
        replay: &mut Replay,
        name: Text,
    ) -> Result<(), Unloadable> {
        let places = Places::of(&self.config);
        let shown = name.lossy().into_owned();
        let (file, len) = io.disk().open(&places.file(&name)).map_err(|e| {
            let why = errno::text(&e);
            match e.kind() {
                io::ErrorKind::NotFound => {
                    log::warn!("The append log file {shown} doesn't exist: {why}");
                }
                _ => log::warn!(
                    "Fatal error: can't open the append log file {shown} for reading: {why}"
                ),
            }
            Unloadable
        })?;
        if len == 0 {
            return Ok(());
        }
        let mut reader = Reader::new(file, Some(len));
        let is_rdb = reader.begins_with_rdb().map_err(|e| {
            tell(&Error::Io(e), &name);
            Unloadable
        })?;
        let mut reading = ReadingFile {
            is_base: self.is_base(&name),
            name,
            reader: None,
            started_ns: io.mono_ns(),
        };
        if is_rdb {
            match reading.name.as_bytes() == places.log {
                true => log::info!("Reading RDB preamble from AOF file..."),
                false => log::info!("Reading RDB base file on AOF loading..."),
            }
            let (read, from) = reader.into_rest();
            self.read_front(Box::new(Cursor::new(read).chain(from)));
        } else {
            reading.reader = Some(reader);
        }
        replay.reading = Some(reading);
        Ok(())
    }

    /// Has the RDB file at the front of a log read. The databases go to the job meanwhile, and come back with what it read.
    fn read_front(&mut self, file: Box<dyn Read + Send>) {
        let Some(loading) = &self.persistence.loading else {
            return;
        };
        let progress = loading.progress.clone();
        let file = Counted { file, progress };
        let mut reader = self.reader(Source::OwnFile, false);
        reader.keep_overdue = true;
        let stand_in = self.dbs.fresh();
        let mut dbs = std::mem::replace(&mut self.dbs, stand_in);
        let work = move || -> Box<dyn Any + Send> {
            let read = reader.read_into(file, &mut dbs, || ());
            Box::new(FrontRead { dbs, read })
        };
        let effect = Effect::Start(Errand::Load, Box::new(work));
        self.effects.push(effect);
    }

    /// The job is over that read the front of a file.
    pub(in crate::server) fn front_read(
        &mut self,
        io: &mut dyn Io,
        outcome: Result<Box<dyn Any + Send>, String>,
    ) {
        if self.take_front(io, outcome).is_err() {
            self.end_replay();
            self.load_failed();
        }
    }

    /// What follows the RDB file at the front are commands.
    fn take_front(
        &mut self,
        io: &mut dyn Io,
        outcome: Result<Box<dyn Any + Send>, String>,
    ) -> Result<(), Unloadable> {
        let read = outcome.ok().and_then(|v| v.downcast::<FrontRead>().ok());
        let FrontRead { dbs, read } = *read.ok_or(Unloadable)?;
        self.dbs = dbs;
        let rest = read.and_then(|(mark, rest)| {
            self.take_libraries(io, &mark, Policy::Append)?;
            Ok(rest)
        });
        let path_of = Places::of(&self.config);
        let replay = self.persistence.replay.as_deref_mut();
        let reading = replay.and_then(|replay| replay.reading.as_mut());
        let reading = reading.ok_or(Unloadable)?;
        let is_old = reading.name == self.config.appendfilename;
        let rest = rest.inspect_err(|_| {
            let what = match is_old {
                true => "preamble of the AOF file",
                false => "base file",
            };
            log::warn!(
                "Error reading the RDB {what} {}, AOF loading aborted",
                reading.name.lossy()
            );
        })?;
        if is_old {
            log::info!("Reading the remaining AOF tail...");
        }
        let len = io.disk().len(&path_of.file(&reading.name)).ok();
        reading.reader = Some(Reader::resumed(rest.read, rest.from, rest.offset, len));
        if let Some(loading) = &self.persistence.loading {
            let progress = loading.progress.clone();
            self.note_loaded(&progress);
        }
        Ok(())
    }

    /// A file has ended: as it should, or as a crash leaves it.
    fn end_file(
        &mut self,
        io: &mut dyn Io,
        end: End,
        name: &Text,
        is_last: bool,
    ) -> Result<(), Unloadable> {
        let shown = name.lossy();
        let good_to = match end {
            End::Whole => return Ok(()),
            End::Cut { good_to } => good_to,
            End::OpenMulti { good_to } => {
                log::warn!("Revert incomplete MULTI/EXEC transaction in AOF file {shown}");
                good_to
            }
        };
        if self.config.aof_load_truncated {
            log::warn!("!!! Warning: short read while loading the AOF file {shown}!!!");
            log::warn!("!!! Truncating the AOF {shown} at offset {good_to} !!!");
            let path: PathBuf = Places::of(&self.config).file(name);
            match cut_for_good(&*io.disk(), &path, good_to) {
                Ok(()) => {
                    log::warn!("AOF {shown} loaded anyway because aof-load-truncated is enabled");
                    if is_last {
                        return Ok(());
                    }
                    log::warn!("Fatal error: the truncated file is not the last file");
                    return Err(Unloadable);
                }
                Err(e) => log::warn!("Error truncating the AOF file {shown}: {}", errno::text(&e)),
            }
        }
        log::warn!(
            "Unexpected end of file reading the append only file {shown}. You can: 1) Make a backup of your AOF file, \
             then use ./redis-check-aof --fix <filename.manifest>. 2) Alternatively you can set the \
             'aof-load-truncated' configuration option to yes and restart the server."
        );
        Err(Unloadable)
    }

    /// True if these files are empty. While a rewrite begins the next file is there already and the last is still written
    /// to: a crash then may cut off what is not the last by its name.
    fn nothing_is_in(&self, io: &dyn Io, files: &VecDeque<Text>) -> bool {
        let places = Places::of(&self.config);
        let disk = io.disk();
        let is_empty = |name: &Text| disk.len(&places.file(name)).is_ok_and(|len| len == 0);
        files.iter().all(is_empty)
    }

    fn tell_replayed(&mut self, io: &dyn Io) {
        if let Some(loading) = self.persistence.loading.take() {
            let took_ns = io.mono_ns() - loading.started_ns;
            log::info!(
                "DB loaded from append only file: {:.3} seconds",
                took_ns as f64 / 1e9
            );
        }
    }

    fn end_replay(&mut self) {
        if let Some(replay) = self.persistence.replay.take() {
            self.conns.remove(replay.token);
        }
    }
}

/// Cuts a file off, so that what was cut off is not there again after a crash, in front of what comes next.
fn cut_for_good(disk: &dyn Disk, path: &Path, len: u64) -> io::Result<()> {
    disk.cut(path, len)?;
    let (file, _) = disk.open_log(path, false)?;
    file.sync()
}

/// Tells why a file cannot be read on.
fn tell(error: &Error, name: &Text) {
    let name = name.lossy();
    match error {
        Error::Io(e) => log::warn!(
            "Unrecoverable error reading the append only file {name}: {}",
            errno::text(e)
        ),
        Error::Format { .. } => log::warn!(
            "Bad file format reading the append only file {name}: make a backup of your AOF file, then use \
             ./redis-check-aof --fix <filename.manifest>"
        ),
    }
}

/// Running the commands of a log.
impl Server {
    fn run_logged(
        &mut self,
        io: &mut dyn Io,
        replay: &mut Replay,
        name: &Text,
        reader: &Reader<Box<dyn Read + Send>>,
    ) -> Result<(), Unloadable> {
        let (batch, buffer) = reader.batch();
        self.tick(io);
        for i in 0..batch.len() {
            let argv: Vec<&[u8]> = batch.argv(i, buffer).iter().collect();
            let args = Args::new(&argv, batch.bigs());
            match self.table.resolve(&argv) {
                Resolved::Command(id) if self.table.get(id).takes(argv.len()) => {
                    self.run_one_logged(io, replay.token, id, args);
                    self.end_bad_stream(io);
                }
                _ => {
                    log::warn!(
                        "Unknown command '{}' reading the append only file {}",
                        String::from_utf8_lossy(args.name()),
                        name.lossy()
                    );
                    return Err(Unloadable);
                }
            }
            replay.commands += 1;
            let owed_us = Pace::new(self.config.key_load_delay).rest_us(replay.commands);
            if owed_us > 0 {
                replay.rests_until_ns = io.mono_ns() + owed_us * 1000;
            }
        }
        Ok(())
    }

    fn run_one_logged(&mut self, io: &mut dyn Io, token: Token, id: CommandId, args: Args<'_>) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        let name = self.table.get(id).spec.name;
        match (&mut conn.session.multi, name) {
            (Some(_), "exec") => {
                let multi = self.discard_multi(token);
                for queued in multi.iter().flat_map(|multi| &multi.commands) {
                    let argv = queued.args.slices();
                    let args = Args::new(&argv, queued.args.big());
                    self.apply_logged(io, token, queued.command, args);
                }
            }
            (Some(multi), _) => multi.push(id, &args),
            (None, _) => self.apply_logged(io, token, id, args),
        }
    }

    fn apply_logged(&mut self, io: &mut dyn Io, token: Token, id: CommandId, args: Args<'_>) {
        let run = self.table.get(id).run;
        self.current = Some(token);
        let result: CmdResult = self.run(io, token, run, args, &[]);
        self.current = None;
        if let Err(fault) = result {
            if let Some(conn) = self.conns.get_mut(token) {
                conn.session.last_command = Some(id);
            }
            self.note_peer_error(token, fault.as_bytes());
        }
        if let Some(conn) = self.conns.get_mut(token) {
            conn.reply.truncate(conn.kept);
        }
        self.unit.ready.clear();
        self.end_unit(io);
    }
}
