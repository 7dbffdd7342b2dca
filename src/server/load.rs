//! Loading: a file becomes the data.
//!
//! At the start a job reads the file into databases of its own, while the loop lives and tells clients how far it is;
//! they are then put in place in one swap. DEBUG RELOAD does the same and waits. What a file has for a key that is
//! there, and whether a key whose time is over is worth keeping, is decided here; [`crate::rdb`] reads.

use std::any::Any;
use std::io::{self, Read};
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::pace::Pace;
use crate::base::planted::{self, Bug};
use crate::base::{errno, number};
use crate::cmd::keys::access_clock;
use crate::cmd::unit::{Audience, Ops};
use crate::config::SanitizeDumpPayload;
use crate::db::keyspace::Databases;
use crate::ds::dict::Filling;
use crate::exec::io::Io;
use crate::exec::persistence::{Errand, LoadProgress, Loading};
use crate::exec::server::{Effect, Server};
use crate::object::{AccessClock, Entry};
use crate::rdb::{Checksum, Decoder, Item, Key, Reason, Rules};
use crate::repl::history::{ID_LEN, OFFSET_MAX};
use crate::repl::replica::Place;
use crate::script::library::Policy;

/// So many empty keys are named in the log.
const EMPTY_KEYS_NAMED: u64 = 10;

/// A file that counts what is read of it.
pub(super) struct Counted {
    pub file: Box<dyn Read + Send>,
    pub progress: Arc<LoadProgress>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.progress
            .bytes
            .fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// How a file is read.
pub(super) struct Reader {
    pub source: Source,
    rules: Rules,
    checked: bool,
    now_ms: u64,
    clock: AccessClock,
    /// A key that is there already is replaced, and is no mistake.
    merge: bool,
    /// Keys that are left out are noted, as UNLINK or as DEL, up to so many bytes.
    note_left_out: Option<(&'static [u8], usize)>,
    /// Keys whose time is over are kept: somebody else says when they go, a master or the log that follows.
    pub keep_overdue: bool,
}

/// What follows an RDB file: what was read of it already, where more comes from, and its offset in the file.
pub(super) struct Rest {
    pub read: Vec<u8>,
    pub from: Box<dyn Read + Send>,
    pub offset: u64,
}

/// Where the bytes come from, for what is said when something is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file of the data: without it the server cannot go on.
    OwnFile,
    /// A file that a master sent.
    MastersFile,
    /// A master's socket.
    Socket,
}

/// What a file says of its place in the replication stream.
#[derive(Debug, Default)]
pub struct StreamMark {
    pub id: Option<String>,
    pub offset: Option<i64>,
    /// The database that the stream had selected.
    pub db: Option<u32>,
    /// The keys that were left out because their time is over, as operations: those who have followed the stream still
    /// have them. More than the backlog can hold are of no use.
    pub left_out: Ops,
    /// The texts of the libraries of functions that the file has.
    pub libraries: Vec<Vec<u8>>,
}

impl StreamMark {
    /// A place to go on from, if nothing of it is missing.
    pub fn place(&self) -> Option<Place> {
        Some(Place {
            id: self.id.clone()?,
            offset: self.offset?,
            db: self.db?,
        })
    }
}

/// The data could not be loaded; why, the log has.
#[derive(Debug)]
pub struct Unloadable;

impl Reader {
    /// Reads all into the databases. `first` is called before the first key goes in.
    pub(super) fn read_into(
        self,
        file: Counted,
        dbs: &mut Databases,
        first: impl FnOnce(),
    ) -> Result<(StreamMark, Rest), Unloadable> {
        let progress = file.progress.clone();
        let mut into = Into {
            dbs,
            progress: &progress,
            now_ms: self.now_ms,
            clock: self.clock,
            merge: self.merge,
            keep_overdue: self.keep_overdue,
            empty_keys: 0,
            mark: StreamMark::default(),
            note_left_out: self.note_left_out,
            db: 0,
            filling: Filling::new(0),
        };
        let tell = |error| tell(error, self.source);
        let mut decoder = Decoder::new(file, self.rules, self.checked).map_err(tell)?;
        let read = into.all(&mut decoder, first, tell);
        let settled = into.settle();
        read.and(settled)?;
        if decoder.checksum() == Some(Checksum::Disabled) {
            log::info!("RDB file was saved with checksum disabled: no check performed.");
        }
        if into.empty_keys > 0 {
            log::info!(
                "Done loading RDB, keys loaded: {}, keys expired: {}, empty keys skipped: {}.",
                progress.keys_loaded.load(Ordering::Relaxed),
                progress.keys_expired.load(Ordering::Relaxed),
                into.empty_keys
            );
        } else {
            log::info!(
                "Done loading RDB, keys loaded: {}, keys expired: {}.",
                progress.keys_loaded.load(Ordering::Relaxed),
                progress.keys_expired.load(Ordering::Relaxed)
            );
        }
        let offset = decoder.offset();
        let (read, counted) = decoder.into_rest();
        let rest = Rest {
            read,
            from: counted.file,
            offset,
        };
        Ok((into.mark, rest))
    }
}

/// Tells the log what is wrong with a file, as Redis does.
fn tell(error: crate::rdb::Error, source: Source) -> Unloadable {
    if source == Source::Socket {
        let what = match &error.reason {
            Reason::ShortRead | Reason::Io(_) => {
                "Unexpected EOF reading RDB file. Failure loading rdb format from socket, assuming connection error, resuming operation.".into()
            }
            reason => format!("{reason}. Failure loading rdb format"),
        };
        log::warn!(
            "Internal error in RDB reading offset {} -> {what}",
            error.offset
        );
        return Unloadable;
    }
    match &error.reason {
        Reason::Signature | Reason::Version(_) | Reason::ModuleAux(_) | Reason::Module(_) => {
            log::warn!("{}", error.reason);
        }
        Reason::Checksum { computed, stored } => {
            log::warn!(
                "Wrong RDB checksum expected: ({computed:x}) but got ({stored:x}). Aborting now."
            );
            log::warn!("{}", internal(&error));
        }
        Reason::ShortRead | Reason::Io(_) => {
            log::warn!("Short read or OOM loading DB. Unrecoverable error, aborting now.");
            log::warn!("{}", internal(&error));
        }
        _ => {
            log::warn!("{}", internal(&error));
            if source == Source::OwnFile {
                log::warn!("Terminating server after rdb file reading failure.");
            }
        }
    }
    Unloadable
}

fn internal(error: &crate::rdb::Error) -> String {
    format!(
        "Internal error in RDB reading offset {} -> {}",
        error.offset, error.reason
    )
}

/// Where the things of a file go.
struct Into<'a> {
    dbs: &'a mut Databases,
    progress: &'a LoadProgress,
    now_ms: u64,
    clock: AccessClock,
    merge: bool,
    keep_overdue: bool,
    empty_keys: u64,
    mark: StreamMark,
    note_left_out: Option<(&'static [u8], usize)>,
    /// The database that was selected, and what is on its way there.
    db: u32,
    filling: Filling<Entry>,
}

impl Into<'_> {
    fn all<R: Read>(
        &mut self,
        decoder: &mut Decoder<R>,
        first: impl FnOnce(),
        tell: impl Fn(crate::rdb::Error) -> Unloadable,
    ) -> Result<(), Unloadable> {
        let mut first = Some(first);
        loop {
            match decoder.next() {
                Ok(None) => return Ok(()),
                Ok(Some(Item::Key(key))) => {
                    if let Some(first) = first.take() {
                        first();
                    }
                    self.key(key)?;
                }
                Ok(Some(item)) => self.item(&item)?,
                Err(error) => return Err(tell(error)),
            }
        }
    }

    /// Puts what is on its way to the selected database there.
    fn settle(&mut self) -> Result<(), Unloadable> {
        let filling = mem::replace(&mut self.filling, Filling::new(0));
        let twins = self.dbs.db_mut(self.db).filled(filling);
        self.twins(twins)
    }

    /// Sees to keys that were there already.
    fn twins(&mut self, twins: Vec<(u64, Entry)>) -> Result<(), Unloadable> {
        for (hash, entry) in twins {
            if !self.merge {
                log::warn!(
                    "RDB has duplicated key '{}' in DB {}",
                    String::from_utf8_lossy(entry.key()),
                    self.db
                );
                return Err(Unloadable);
            }
            self.dbs.db_mut(self.db).insert(hash, entry);
        }
        Ok(())
    }

    fn select(&mut self, db: u64) -> Result<(), Unloadable> {
        self.settle()?;
        match u32::try_from(db) {
            Ok(db) if (db as usize) < self.dbs.count() => self.db = db,
            _ => {
                log::warn!(
                    "FATAL: Data file was created with a Redis server configured to handle more than {} databases. Exiting",
                    self.dbs.count()
                );
                return Err(Unloadable);
            }
        }
        Ok(())
    }

    fn item(&mut self, item: &Item<'_>) -> Result<(), Unloadable> {
        match item {
            Item::Aux { name, value } => self.aux(name, value),
            Item::SelectDb(db) => self.select(*db)?,
            Item::ResizeDb { keys, .. } => {
                self.settle()?;
                // What is there already may come again.
                if self.dbs.db(self.db).is_empty() {
                    self.filling = Filling::new(usize::try_from(*keys).unwrap_or(usize::MAX));
                }
            }
            // Whether it can be loaded, only the loop can say: it has the interpreter.
            Item::Function(text) => self.mark.libraries.push(text.to_vec()),
            // (What modules wrote is only ever skipped for `redis-check-rdb`.)
            Item::Key(_) | Item::ModuleAux { .. } | Item::ModuleKey { .. } => {}
        }
        Ok(())
    }

    fn aux(&mut self, name: &[u8], value: &[u8]) {
        let (shown_name, shown) = (
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value),
        );
        let number = number::parse_i64(value).unwrap_or(0);
        match &*shown_name.to_ascii_lowercase() {
            _ if name.starts_with(b"%") => log::info!("RDB '{shown_name}': {shown}"),
            "redis-ver" => log::info!("Loading RDB produced by version {shown}"),
            "ctime" => {
                let age_s = (self.now_ms / 1000) as i64 - number;
                log::info!("RDB age {} seconds", age_s.max(0));
            }
            "used-mem" => {
                log::info!(
                    "RDB memory usage when created {:.2} Mb",
                    number as f64 / (1024.0 * 1024.0)
                );
                let bytes = u64::try_from(number).unwrap_or(0);
                let then = &self.progress.used_memory_then;
                then.store(bytes, Ordering::Relaxed);
            }
            "aof-preamble" if number != 0 => log::info!("RDB has an AOF tail"),
            "aof-base" if number != 0 => log::info!("RDB is base AOF"),
            "repl-stream-db" => self.mark.db = u32::try_from(number).ok(),
            "repl-id" if value.len() == ID_LEN => self.mark.id = Some(shown.into_owned()),
            "repl-offset" => {
                let number = number + 40 * i64::from(planted::on(Bug::RestoredTooFar));
                self.mark.offset = Some(number).filter(|n| (0..OFFSET_MAX).contains(n))
            }
            "repl-id" | "lua" | "redis-bits" | "aof-preamble" | "aof-base" => {}
            _ => log::debug!("Unrecognized RDB AUX field: '{shown_name}'"),
        }
    }

    /// Notes a key that replicas may still have.
    fn left_out(&mut self, db: u64, key: &[u8]) {
        let ops = &mut self.mark.left_out;
        if let Some((word, most)) = self.note_left_out
            && ops.bytes() <= most
            && let Ok(db) = i32::try_from(db)
        {
            ops.push(db, Audience::Everyone, &[word, key]);
        }
    }

    fn key(&mut self, key: Key<'_>) -> Result<(), Unloadable> {
        let Some(value) = key.value else {
            if self.empty_keys < EMPTY_KEYS_NAMED {
                log::info!(
                    "rdbLoadObject skipping empty key: {}",
                    String::from_utf8_lossy(key.key)
                );
            }
            self.empty_keys += 1;
            self.progress.pace.rest(self.empty_keys, || true);
            return Ok(());
        };
        let progress = self.progress;
        if !self.keep_overdue && key.expiry_ms.is_some_and(|at| at < self.now_ms) {
            progress.keys_expired.fetch_add(1, Ordering::Relaxed);
            self.left_out(key.db, key.key);
            progress.pace.rest(0, || true);
            return Ok(());
        }
        let access = self
            .clock
            .restored(key.idle_s, key.frequency)
            .unwrap_or_else(|| self.clock.fresh());
        let entry = Entry::new(key.key, value, key.expiry_ms, access);
        let twins = self.dbs.db_mut(self.db).fill(&mut self.filling, entry);
        if !twins.is_empty() {
            self.twins(twins)?;
        }
        let loaded = progress.keys_loaded.fetch_add(1, Ordering::Relaxed);
        progress.pace.rest(loaded, || true);
        Ok(())
    }
}

/// The end of a load in the background.
type Loaded = Result<(Databases, StreamMark), Unloadable>;

impl Server {
    /// What the configuration says of reading files.
    pub(super) fn reader(&self, source: Source, merge: bool) -> Reader {
        let config = &self.config;
        let deep = config.sanitize_dump_payload == SanitizeDumpPayload::Yes;
        Reader {
            source,
            rules: Rules::new(config, self.dbs.hash_key(), self.list_plain_from, deep),
            checked: config.rdbchecksum && !self.persistence.skip_checksum,
            now_ms: self.now.ms(),
            clock: access_clock(config, self.now.ms()),
            merge,
            note_left_out: None,
            keep_overdue: config.replicaof.is_some(),
        }
    }

    /// Counts from nothing, and what a load may be told on the way.
    pub(super) fn load_progress(&self) -> Arc<LoadProgress> {
        Arc::new(LoadProgress {
            pace: Pace::new(self.config.key_load_delay),
            ..LoadProgress::default()
        })
    }

    /// Opens the file; `None` if there is none.
    fn open_file(&mut self, io: &mut dyn Io) -> Result<Option<(Counted, u64)>, Unloadable> {
        let config = &self.config;
        let path = config.rdb_path();
        match io.disk().open(&path) {
            Ok((file, len)) => {
                let progress = self.load_progress();
                Ok(Some((Counted { file, progress }, len)))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => {
                log::warn!(
                    "Fatal error: can't open the RDB file {} for reading: {}",
                    Path::new(config.dbfilename.as_path()).display(),
                    errno::text(&e)
                );
                Err(Unloadable)
            }
        }
    }

    /// Begins to load the data at the start, if there is any: the log, if there is to be one, or else the RDB file. The
    /// error, which the log has, is that the process cannot start.
    pub fn begin_loading(&mut self, io: &mut dyn Io) -> Result<(), Unloadable> {
        self.persistence.starting = true;
        self.read_manifest(io).map_err(|_| Unloadable)?;
        if self.config.appendonly {
            return self.begin_replay(io);
        }
        let Some((file, total_bytes)) = self.open_file(io).inspect_err(|_| fatal())? else {
            return self.loaded(io);
        };
        self.note_loading(io, file.progress.clone(), total_bytes);
        let mut reader = self.reader(Source::OwnFile, false);
        let word: &[u8] = match self.config.lazyfree_lazy_expire {
            true => b"UNLINK",
            false => b"DEL",
        };
        // More than the backlog keeps, so that it does not seem to reach back to where the file stands.
        let most = 2 * self.config.repl_backlog_size;
        reader.note_left_out = Some((word, most));
        let mut dbs = self.dbs.fresh();
        let work = move || -> Box<dyn Any + Send> {
            let read = reader.read_into(file, &mut dbs, || ());
            let loaded: Loaded = read.map(|(mark, _)| (dbs, mark));
            Box::new(loaded)
        };
        self.effects
            .push(Effect::Start(Errand::Load, Box::new(work)));
        Ok(())
    }

    /// From now on until [`Server::loaded`] clients hear that the data is being loaded.
    pub(super) fn note_loading(&mut self, io: &dyn Io, progress: Arc<LoadProgress>, bytes: u64) {
        self.loading = true;
        self.note_who_listens();
        self.persistence.loading = Some(Loading {
            progress,
            total_bytes: bytes,
            started_s: self.now.s(),
            started_ns: io.mono_ns(),
        });
    }

    /// The data is there: the log goes on from here, and clients may come.
    pub(super) fn loaded(&mut self, io: &mut dyn Io) -> Result<(), Unloadable> {
        (self.loading, self.persistence.starting) = (false, false);
        self.persistence.loading = None;
        if self.config.appendonly {
            self.open_log(io).map_err(|_| Unloadable)?;
        }
        self.remove_history(io);
        self.note_who_listens();
        self.tell_populated_slots();
        self.persistence.ready = true;
        Ok(())
    }

    /// The data could not be loaded: the process ends.
    pub(super) fn load_failed(&mut self) {
        self.persistence.failed = true;
        self.exiting = Some(1);
    }

    /// The load in the background is over.
    pub(super) fn load_done(
        &mut self,
        io: &mut dyn Io,
        outcome: Result<Box<dyn Any + Send>, String>,
    ) {
        if self.persistence.replay.is_some() {
            return self.front_read(io, outcome);
        }
        let Some(loading) = self.persistence.loading.take() else {
            return;
        };
        let loaded = outcome
            .ok()
            .and_then(|value| value.downcast::<Loaded>().ok())
            .and_then(|loaded| loaded.ok());
        let loaded = loaded.and_then(|(dbs, mark)| {
            let libraries = self.take_libraries(io, &mark, Policy::Flush);
            libraries.ok().map(|()| (dbs, mark))
        });
        let Some((dbs, mark)) = loaded else {
            fatal();
            return self.load_failed();
        };
        self.dbs = dbs;
        self.note_loaded(&loading.progress);
        let took_ns = io.mono_ns() - loading.started_ns;
        log::info!("DB loaded from disk: {:.3} seconds", took_ns as f64 / 1e9);
        if let Some(place) = mark.place() {
            self.resume_stream(place, &mark.left_out);
        }
        // A replica has waited for this to follow its master.
        self.repl.next_second_ns = self.now.mono_ns;
        if self.loaded(io).is_err() {
            self.load_failed();
        }
    }

    /// Loads the libraries that a file has.
    pub(super) fn take_libraries(
        &mut self,
        io: &dyn Io,
        mark: &StreamMark,
        policy: Policy,
    ) -> Result<(), Unloadable> {
        self.add_libraries(io, &mark.libraries, policy)
            .map_err(|why| {
                let why = String::from_utf8_lossy(&why);
                log::warn!("Failed loading library, {why}");
                Unloadable
            })
    }

    /// The file of the data tells where in a stream it was written: a replica asks to go on from there, and a master lets
    /// those go on who have followed it.
    fn resume_stream(&mut self, place: Place, left_out: &Ops) {
        let history = &mut self.repl.history;
        if self.config.replicaof.is_some() {
            history.adopt(&place.id, place.offset);
            self.follow_from(place);
            return;
        }
        history.resume_as_master(&place.id, place.offset);
        self.repl.master.alone_since_s = self.now.s();
        self.note_who_listens();
        self.feed_replicas(left_out);
    }

    pub(super) fn note_loaded(&mut self, progress: &LoadProgress) {
        self.persistence.keys_loaded = progress.keys_loaded.load(Ordering::Relaxed);
        self.persistence.keys_expired = progress.keys_expired.load(Ordering::Relaxed);
    }

    /// Jobs that are to be slow (`key-load-delay`, `rdb-key-save-delay`) hear how slow they are to be by now.
    pub fn pass_delays(&self) {
        if let Some(loading) = &self.persistence.loading {
            loading.progress.pace.set(self.config.key_load_delay);
        }
        let saving = self.persistence.saving.as_ref().map(|s| &s.progress);
        let rewriting = self.aof.rewriting.as_ref().map(|r| &r.progress);
        for progress in saving.into_iter().chain(rewriting) {
            progress.pace.set(self.config.rdb_key_save_delay);
        }
    }

    /// DEBUG RELOAD: loads the file and waits. With `flush` it replaces the data; without, it comes to it, and `merge`
    /// says that it may replace keys. False if it failed: some of the file's data may be there then.
    pub fn reload(&mut self, io: &mut dyn Io, flush: bool, merge: bool) -> bool {
        let Ok(Some((file, _))) = self.open_file(io) else {
            return false;
        };
        let progress = file.progress.clone();
        let reader = self.reader(Source::OwnFile, merge);
        if flush {
            for index in 0..self.dbs.count() as u32 {
                self.watch.touch_flushed(index, &self.dbs);
            }
            self.tell_flushed();
            // Now and here, for there may not be room for both.
            self.dbs = self.dbs.fresh();
        }
        let loaded = reader.read_into(file, &mut self.dbs, || ());
        let policy = match (flush, merge) {
            (true, _) => Policy::Flush,
            (false, true) => Policy::Replace,
            (false, false) => Policy::Append,
        };
        let loaded = loaded.and_then(|(mark, _)| self.take_libraries(io, &mark, policy));
        self.note_loaded(&progress);
        if loaded.is_ok() {
            log::info!("DB reloaded by DEBUG RELOAD");
        }
        loaded.is_ok()
    }
}

fn fatal() {
    log::warn!("Fatal error loading the DB, check server logs. Exiting.");
}
