//! What a replica knows of the one it follows, and the running of its stream.
//!
//! The link is a machine ([`crate::repl::replica`]); `server/follow.rs` does what it says. Once the link is up it is a
//! connection whose commands run like a client's, but for these: they are never refused, nothing is replied, and their bytes
//! become part of our own stream as they are, so that whoever follows us gets what our master sent.
//!
//! ```text
//! *3 SET a 1      *1 MULTI   *3 SET b 2   *1 EXEC      *3 SET c
//! |--- applied ---|--- run, not applied ---|            |-- read --
//!                                          ^ here MULTI as a whole is applied
//! ```
//! The offset tells what was applied: whoever goes on from there must not be in the middle of a transaction.

use std::sync::Arc;

use crate::base::planted::{self, Bug};
use crate::base::quoted;
use crate::cmd::session::{Marks, Token};
use crate::config::PropagationErrorBehavior;
use crate::exec::inlet::Inlet;
use crate::exec::io::{Crash, Io, NewFile};
use crate::exec::server::Server;
use crate::repl::master::GETACK;
use crate::repl::replica::{Place, Replica, command};

/// A buffer that grew beyond this is not kept.
const RAW_KEPT: usize = 64 * 1024;
/// So much of an error, and so many bytes of the stream before it, are shown in the log.
const ERROR_SHOWN: usize = 4096;
const BACKLOG_SHOWN: usize = 256;
/// With `replica-ignore-disk-write-errors`, how often the log says so.
const UNSAVED_LOG_MS: u64 = 10_000;

/// How the data of a full sync gets into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through a file; the data of before goes when all of it has come.
    File,
    /// As it comes; the data of before goes at once.
    Parser,
    /// As it comes, beside the data of before, which is there until it is exchanged.
    Swap,
}

/// A full sync under way.
pub struct Sync {
    pub serial: u64,
    pub way: Way,
    pub inlet: Arc<Inlet>,
    /// The file to receive it in, until the job has it.
    pub file: Option<(Box<dyn NewFile>, std::path::PathBuf)>,
    /// The job runs.
    pub started: bool,
    /// The data of before goes only when a first key has come (`replica-refuse-empty-master`).
    pub guarded: bool,
}

/// See the head of the file.
pub struct Following {
    pub link: Replica,
    /// The connection to the master, if there is one.
    pub token: Option<Token>,
    /// Offset of the last byte that was read.
    pub read: i64,
    /// What was run of the stream and is not applied yet.
    pub raw: Vec<u8>,
    pub sync: Option<Sync>,
    /// The link is not read for now.
    pub held: bool,
    /// How often a master without data was refused (`replica-refuse-empty-master`).
    pub refusals: u64,
    /// When the log was last told that changes are not saved, unix time in ms.
    pub told_unsaved_ms: u64,
}

impl Following {
    /// From this place on, with a link that is not up.
    pub fn new(place: Option<Place>) -> Following {
        Following {
            read: place.as_ref().map_or(0, |place| place.offset),
            link: Replica::new(place),
            token: None,
            raw: Vec::new(),
            sync: None,
            held: false,
            refusals: 0,
            told_unsaved_ms: 0,
        }
    }
}

/// How far a FAILOVER is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailoverStage {
    /// A replica has to catch up.
    WaitingForSync,
    /// We are the replica's replica, if it takes over.
    InProgress,
}

/// A FAILOVER under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    pub stage: FailoverStage,
    /// To whom; to anybody if `None`.
    pub target: Option<(String, u16)>,
    /// Unix time in ms.
    pub until_ms: Option<u64>,
    /// When the time is over it is done all the same.
    pub force: bool,
}

impl Server {
    /// Follows from this place on. Nothing is connected yet.
    pub fn follow_from(&mut self, place: Place) {
        log::info!(
            "Before turning into a replica, using my own master parameters to synthesize a cached master: I may be able to synchronize with the new master with just a partial transfer."
        );
        self.repl.following = Some(Box::new(Following::new(Some(place))));
    }

    /// True if the server is a replica and has its master's stream.
    pub fn link_is_up(&self) -> bool {
        let following = self.repl.following.as_ref();
        following.is_some_and(|f| f.link.is_online())
    }

    /// A command of the master's stream has run, or was put off: its bytes count once nothing of it is left to do.
    pub fn stream_ran(&mut self, token: Token, bytes: &[u8]) {
        let Some(following) = self.repl.following.as_mut() else {
            return;
        };
        let Some(conn) = self
            .conns
            .get(token)
            .filter(|_| following.token == Some(token))
        else {
            return;
        };
        let done = conn.parked.is_none() && conn.session.multi.is_none();
        let done = done || planted::on(Bug::HalfMultiCounts);
        if bytes == GETACK && planted::on(Bug::GetackNotCounted) {
            return;
        }
        if !done {
            following.raw.extend_from_slice(bytes);
            return;
        }
        let mut raw = std::mem::take(&mut following.raw);
        if let Some(place) = following.link.place_mut() {
            let applied = raw.len() + bytes.len();
            place.offset = place.offset.saturating_add(applied as i64);
            place.db = conn.session.db;
        }
        if !raw.is_empty() {
            self.append_to_stream(&raw);
            raw.clear();
            raw.shrink_to(RAW_KEPT);
        }
        self.append_to_stream(bytes);
        if let Some(following) = self.repl.following.as_mut() {
            following.raw = raw;
        }
    }

    /// So many bytes of the stream were read.
    pub fn stream_read(&mut self, token: Token, bytes: usize) {
        self.stats.net_repl_input += bytes as u64;
        let now_ms = self.now.ms();
        if let Some(following) = self.repl.following.as_mut()
            && following.token == Some(token)
        {
            following.read = following.read.saturating_add(bytes as i64);
            following.link.note_heard(now_ms);
        }
    }

    /// The stream is broken: what follows cannot be understood. The next sync is a full one.
    #[cold]
    pub fn stream_broken(&mut self, token: Token) {
        if let Some(following) = self.repl.following.as_mut()
            && following.token == Some(token)
        {
            following.link.forget_place();
        }
        self.doom(token);
    }

    /// Tells the master how far we are, if it wants to know at all.
    pub fn send_ack(&mut self) {
        let Some(following) = self.repl.following.as_ref() else {
            return;
        };
        let (Some(token), Some(place)) = (following.token, following.link.place()) else {
            return;
        };
        if !following.link.is_online() {
            return;
        }
        let fsynced = match planted::on(Bug::UnsyncedCountsAsSynced) {
            true => place.offset,
            false => self.repl.fsynced,
        };
        let (offset, fsynced) = (place.offset.to_string(), fsynced.to_string());
        let mut words: Vec<&[u8]> = vec![b"REPLCONF", b"ACK", offset.as_bytes()];
        if self.repl.fsynced != -1 {
            words.extend([&b"FACK"[..], fsynced.as_bytes()]);
        }
        let bytes = command(&words);
        if let Some(conn) = self.conns.get_mut(token) {
            conn.write_push(|reply| reply.raw(&bytes));
            self.wants_write(token);
        }
    }

    /// An error is replied to somebody who never should get one: a command of a master or of a log has failed though it did
    /// not where it came from, so that the data may differ; or a replica said something wrong.
    pub fn note_peer_error(&mut self, token: Token, error: &[u8]) {
        let marks = self.conns.get(token).map(|c| c.session.marks);
        let told = |m: &Marks| m.has(Marks::MASTER | Marks::REPLICA) && !m.has(Marks::SCRIPT);
        let Some(marks) = marks.filter(told) else {
            return;
        };
        let (from, to) = if marks.has(Marks::HEADLESS) {
            ("server", "AOF-loading-client")
        } else if marks.has(Marks::MASTER) {
            ("replica", "master")
        } else {
            ("master", "replica")
        };
        let command = self
            .conns
            .get(token)
            .and_then(|c| c.session.last_command)
            .map_or("<unknown>", |id| self.table.get(id).spec.name);
        let shown = String::from_utf8_lossy(&error[..error.len().min(ERROR_SHOWN)]);
        log::warn!(
            "== CRITICAL == This {from} is sending an error to its {to}: '-{shown}' after processing the command '{command}'"
        );
        if to == "master"
            && let Some(backlog) = self.repl.history.backlog().filter(|b| !b.is_empty())
        {
            let last = quoted::quote(&backlog.last(BACKLOG_SHOWN));
            log::info!("Latest backlog is: '{last}'");
        }
        self.stats.unexpected_errors += 1;
        let panics = match (to, self.config.propagation_error_behavior) {
            (_, PropagationErrorBehavior::Ignore) => false,
            ("master", _) => self.config.replica_read_only,
            (to, behaviour) => to != "replica" && behaviour == PropagationErrorBehavior::Panic,
        };
        if panics {
            self.repl.panic = Some(format!(
                "This {from} panicked sending an error to its {to} after processing the command '{command}'"
            ));
        }
    }

    /// The master changes data that cannot be saved. `false`: it must not go on so.
    #[cold]
    pub fn may_run_unsaved(&mut self) -> bool {
        if !self.config.replica_ignore_disk_write_errors {
            self.repl.panic = Some("Replica was unable to write command to disk.".into());
            return false;
        }
        let now_ms = self.now.ms();
        if let Some(following) = self.repl.following.as_mut()
            && now_ms > following.told_unsaved_ms + UNSAVED_LOG_MS
        {
            following.told_unsaved_ms = now_ms;
            log::warn!("Replica is applying a command even though it is unable to write to disk.");
        }
        true
    }

    /// Ends the process if a command of the stream has given a reason to.
    pub fn end_bad_stream(&mut self, io: &mut dyn Io) {
        if let Some(why) = self.repl.panic.take() {
            io.crash(Crash::Stream(why));
        }
    }

    /// A master never speaks inline: something is out of step.
    #[cold]
    pub fn inline_from_master(&mut self, token: Token) {
        log::warn!(
            "WARNING: Receiving inline protocol from master, master stream corruption? Closing the master connection and discarding the cached master."
        );
        self.stream_broken(token);
    }

    /// Closes the connections of all who follow us: they have to ask anew.
    pub fn disconnect_replicas(&mut self) {
        for token in self.repl.master.at(|_| true) {
            self.disconnect(token);
        }
    }

    /// True of the connection that the master speaks through.
    pub fn is_from_master(&self, token: Token) -> bool {
        let marks = self.conns.get(token).map(|c| c.session.marks);
        marks.is_some_and(|m| m.has(Marks::MASTER) && !m.has(Marks::HEADLESS))
    }
}
