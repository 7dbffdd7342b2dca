//! A full sync: all data from one snapshot to every replica that waits, straight or through a file.
//!
//! ```text
//! straight  the job encodes the snapshot into a pipe, the loop takes pieces out of it and hands each to all replicas.
//!           It takes the next when the slowest of them has room, and the job waits while the pipe is full: memory
//!           holds a few pieces, whatever the size of the data.
//! a file    a save like any other; then each replica is sent the file at its own pace, read by short jobs,
//!           the next piece while the last is on its way.
//! ```
//! What changes meanwhile is in the stream, which keeps what the replicas have yet to read.

use std::any::Any;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::admin::info::REDIS_VERSION;
use crate::base::errno;
use crate::base::planted::{self, Bug};
use crate::cmd::keys::access_clock;
use crate::db::snapshot::Snapshot;
use crate::exec::conn::Token;
use crate::exec::io::Io;
use crate::exec::persistence::{Errand, Saving, Target};
use crate::exec::pipe::PipeWriter;
use crate::exec::replication::{Bulk, Piece, Transfer};
use crate::exec::server::{Effect, Server};
use crate::rdb::{Format, Info, Progress, SaveError, Usage, write_file};
use crate::repl::master::{Plan, Stage};
use crate::server::save::{Failure, StreamPlace};

/// Length of the mark that ends a transfer of unknown length.
const MARK_LEN: usize = 40;
/// A replica that has less than this to be written has room for another piece.
const WINDOW_BYTES: usize = 256 * 1024;
/// What is read of a file at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// What the job of a straight transfer needs.
struct Sending {
    snapshot: Snapshot,
    libraries: Vec<Bytes>,
    out: PipeWriter,
    mark: String,
    created_s: u64,
    used_memory: u64,
    usage: Usage,
    format: Format,
    place: Option<StreamPlace>,
    progress: Arc<Progress>,
}

impl Sending {
    fn run(self) -> Result<(), Failure> {
        let Sending {
            snapshot,
            libraries,
            mut out,
            mark,
            ..
        } = self;
        let failed = |e: &io::Error| match e.kind() {
            io::ErrorKind::BrokenPipe => Failure::Cancelled,
            _ => Failure::Failed(errno::text(e)),
        };
        let info = Info {
            redis_version: REDIS_VERSION,
            created_s: self.created_s,
            used_memory: self.used_memory,
            replication: self.place.as_ref().map(StreamPlace::as_aux),
            aof_base: false,
        };
        out.write_all(format!("$EOF:{mark}\r\n").as_bytes())
            .map_err(|e| failed(&e))?;
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
            Ok((mut out, _)) => out.write_all(mark.as_bytes()).map_err(|e| failed(&e)),
            Err(SaveError::Cancelled) => Err(Failure::Cancelled),
            Err(SaveError::Io(e)) => Err(failed(&e)),
        }
    }
}

impl Server {
    /// Takes a snapshot for the replicas that wait for it.
    pub(super) fn begin_full_sync(&mut self, io: &mut dyn Io, plan: Plan) {
        if plan.streamed {
            self.begin_transfer(io, plan);
        } else if self.save_in_background(io) {
            self.repl.file_for_sync |= self.config.rdb_del_sync_files;
        } else {
            // There is no snapshot that could be promised: they go on waiting for one.
            return;
        }
        self.full_sync_begun(io, plan);
        if let Some(transfer) = &mut self.repl.transfer {
            transfer.to = self
                .repl
                .master
                .at(|stage| matches!(stage, Stage::Snapshot { streamed: true, .. }));
        }
    }

    fn begin_transfer(&mut self, io: &mut dyn Io, plan: Plan) {
        let start_ns = io.mono_ns();
        let (pipe, out) = io.pipe();
        let mark = self.rng.hex(MARK_LEN);
        let snapshot = match plan.parts.data {
            true => self.dbs.snapshot(),
            false => self.dbs.fresh().snapshot(),
        };
        let progress = Arc::new(Progress::with_delay(self.config.rdb_key_save_delay));
        let sending = Sending {
            snapshot,
            libraries: self.scripting.libraries.texts(),
            out,
            mark,
            created_s: self.now.s(),
            used_memory: io.used_memory() as u64,
            usage: Usage::of(&self.config, access_clock(&self.config, self.now.ms())),
            format: Format::of(&self.config),
            place: self.stream_place(),
            progress: progress.clone(),
        };
        self.persistence.saving = Some(Saving {
            target: Target::Replicas,
            progress,
            commit: Arc::default(),
            temp: PathBuf::new(),
            started_s: self.now.s(),
            keys: self.dbs.len() as u64,
            dirty_before: 0,
            too_dear: None,
        });
        self.repl.transfer = Some(Transfer {
            pipe,
            to: Vec::new(),
            complete: false,
        });
        let work = move || -> Box<dyn Any + Send> { Box::new(sending.run()) };
        self.effects
            .push(Effect::Start(Errand::Save, Box::new(work)));
        self.snapshot_taken(start_ns, io);
        log::info!(
            "Background RDB transfer started by pid {}",
            self.process.pid
        );
    }

    /// The job of a straight transfer is over.
    pub(super) fn transfer_made(&mut self, result: Result<(), Failure>) {
        match (result, &mut self.repl.transfer) {
            (Ok(()), Some(transfer)) => {
                transfer.complete = true;
                self.feed_transfer();
            }
            (result, _) => {
                match result {
                    Err(Failure::Failed(why)) => log::warn!("Background transfer error: {why}"),
                    _ => log::warn!("Background transfer cancelled"),
                }
                self.transfer_over(false);
            }
        }
    }

    /// Hands on pieces of a straight transfer as long as all who get them have room.
    pub fn feed_transfer(&mut self) {
        let now_s = self.now.s();
        let Some(transfer) = &mut self.repl.transfer else {
            return;
        };
        loop {
            let mut full = false;
            for &token in &transfer.to {
                let conn = self.conns.get(token);
                let waiting = conn.map_or(0, |c| c.reply.len());
                let moved_s = conn.filter(|_| waiting > 0).map(|c| c.active_s);
                self.repl.master.is_stuck(token, moved_s, now_s);
                full |= waiting >= WINDOW_BYTES;
            }
            if full {
                return;
            }
            let Some(piece) = transfer.pipe.take() else {
                break;
            };
            for &token in &transfer.to {
                if let Some(conn) = self.conns.get_mut(token) {
                    conn.reply.chunk(piece.clone());
                    if conn.has_new_output() {
                        self.pending_writes.push(token);
                    }
                }
            }
        }
        let left = |token: &Token| self.conns.get(*token).map_or(0, |c| c.reply.len());
        if transfer.complete && transfer.pipe.is_empty() && transfer.to.iter().all(|t| left(t) == 0)
        {
            let up = transfer.to.len();
            log::info!("Diskless rdb transfer, done reading from pipe, {up} replicas still up.");
            log::info!("Background RDB transfer terminated with success");
            self.transfer_over(true);
        }
    }

    pub(super) fn transfer_over(&mut self, success: bool) {
        let transfer = self.repl.transfer.take();
        if let Some(saving) = self.persistence.saving.take() {
            saving.progress.cancel();
            let took_s = self.now.s().saturating_sub(saving.started_s);
            self.persistence.took_s = Some(took_s);
            self.persistence.copied_bytes = self.dbs.copied_for_snapshots();
        }
        if !success {
            for token in self.repl.master.failed(true) {
                self.doom(token);
            }
            return;
        }
        for token in transfer.map(|t| t.to).unwrap_or_default() {
            self.snapshot_sent(token);
        }
    }

    /// A replica has all of its snapshot.
    fn snapshot_sent(&mut self, token: Token) {
        let now_s = self.now.s();
        if let Some(backlog) = self.repl.history.backlog_mut()
            && planted::on(Bug::StreamLostDuringFullSync)
        {
            backlog.read_from(token, backlog.end());
        }
        if self.repl.master.sent(token, now_s, &self.config) {
            self.doom(token);
        }
    }

    /// A connection is gone: nothing is handed to it any more.
    pub(super) fn transfer_lost(&mut self, token: Token) {
        self.repl.bulks.retain(|bulk| bulk.token != token);
        let Some(transfer) = &mut self.repl.transfer else {
            return;
        };
        let before = transfer.to.len();
        transfer.to.retain(|&t| t != token);
        if transfer.to.is_empty() && before > 0 {
            log::warn!("Diskless rdb transfer, last replica dropped, killing fork child.");
            self.cancel_save();
        }
    }

    /// The file of a full sync is there: it is sent to those who wait for it. It is opened here and now: by the time
    /// that a job runs, another save may have put a later file in its place, which is not what they were promised.
    pub(super) fn file_written(&mut self, io: &mut dyn Io) {
        let path = self.config.rdb_path();
        let disk = io.disk();
        for token in self.repl.master.written() {
            let Some(conn) = self.conns.get_mut(token) else {
                continue;
            };
            match disk.open(&path) {
                Ok((file, len)) => {
                    let head = format!("${len}\r\n").into_bytes();
                    conn.reply.chunk(Bytes::from(head));
                    self.repl.bulks.push(Bulk {
                        token,
                        client: conn.session.id,
                        rest: Some((file, len)),
                    });
                    self.wants_write(token);
                }
                Err(e) => {
                    log::warn!(
                        "SYNC failed. Can't open/stat DB after BGSAVE: {}",
                        errno::text(&e)
                    );
                    self.doom(token);
                }
            }
        }
    }

    /// There will be no file.
    pub(super) fn file_failed(&mut self) {
        for token in self.repl.master.failed(false) {
            self.doom(token);
        }
    }

    /// A piece of a file was read.
    pub(super) fn piece_read(&mut self, (piece, client): PieceRead) {
        let Some(at) = self.repl.bulks.iter().position(|b| b.client == client) else {
            return;
        };
        let token = self.repl.bulks[at].token;
        match piece {
            Ok(piece) => {
                self.repl.bulks[at].rest = Some(piece.rest);
                if let Some(conn) = self.conns.get_mut(token) {
                    conn.reply.chunk(piece.bytes);
                    self.wants_write(token);
                }
            }
            Err(_) => {
                self.repl.bulks.remove(at);
                self.doom(token);
            }
        }
    }

    /// Files are read on for replicas that have room.
    pub fn feed_bulks(&mut self) {
        let mut sent = Vec::new();
        for bulk in &mut self.repl.bulks {
            let waiting = self.conns.get(bulk.token).map_or(0, |c| c.reply.len());
            match &bulk.rest {
                Some((_, 0)) if waiting == 0 => sent.push(bulk.token),
                Some((_, 1..)) if waiting < WINDOW_BYTES => {
                    let Some((file, left)) = bulk.rest.take() else {
                        continue;
                    };
                    let client = bulk.client;
                    let work = move || -> Box<dyn Any + Send> {
                        let piece = read(file, left).inspect_err(|e| {
                            log::warn!("Read error sending DB to replica: {}", errno::text(e));
                        });
                        Box::new((piece, client))
                    };
                    self.effects
                        .push(Effect::Start(Errand::Bulk, Box::new(work)));
                }
                _ => {}
            }
        }
        for token in sent {
            self.repl.bulks.retain(|bulk| bulk.token != token);
            self.snapshot_sent(token);
        }
    }

    /// A file that was written only because a replica wanted it goes when none needs it any more, if this server keeps
    /// no data on disk by its configuration.
    pub(super) fn remove_file_of_sync(&mut self, io: &mut dyn Io) {
        let config = &self.config;
        if !config.rdb_del_sync_files {
            self.repl.file_for_sync = false;
            return;
        }
        let keeps_none = config.save.is_empty() && !config.appendonly;
        if !self.repl.file_for_sync || !keeps_none || self.repl.master.is_syncing() {
            return;
        }
        self.repl.file_for_sync = false;
        log::info!("Removing the RDB file used to feed replicas in a persistence-less instance");
        let path = config.rdb_path();
        // The name goes at once, lest it take a later file with it; what it stood for goes when the job closes it.
        let disk = io.disk();
        let file = disk.open(&path);
        let _ = disk.unlink(&path);
        let work = move || -> Box<dyn Any + Send> { Box::new(file.map(drop)) };
        self.effects
            .push(Effect::Start(Errand::Unlink, Box::new(work)));
    }
}

/// What a job that reads gives: a piece, and the client it is for.
pub(super) type PieceRead = (io::Result<Piece>, u64);

/// Reads the next of the `left` bytes of a file.
fn read(mut file: Box<dyn Read + Send>, left: u64) -> io::Result<Piece> {
    let mut bytes = Vec::new();
    let wanted = left.min(PIECE_BYTES as u64);
    let got = (&mut file).take(wanted).read_to_end(&mut bytes)? as u64;
    if got < wanted {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "premature EOF",
        ));
    }
    Ok(Piece {
        rest: (file, left - got),
        bytes: Bytes::from(bytes),
    })
}
