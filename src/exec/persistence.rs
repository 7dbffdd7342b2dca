//! What the server knows of its saves and loads.
//!
//! A save or a load in the background is a job on another thread ([`Work`]), started by an effect and ended by
//! a value; in between, both sides share a few counters. The jobs themselves are in `server/save.rs` and
//! `server/load.rs`.

use std::any::Any;
use std::collections::VecDeque;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use crate::aof::manifest::Manifest;
use crate::aof::reader::Reader;
use crate::base::lzf::Compressor;
use crate::base::pace::Pace;
use crate::config::Text;
use crate::exec::conn::Token;
use crate::exec::io::LogFile;
use crate::rdb::Progress;

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Writing a snapshot to its file.
    Save,
    /// Reading a file into a keyspace.
    Load,
    /// Taking in all data of a master.
    Receive,
    /// Reading a piece of a file for a replica.
    Bulk,
    /// Packing keys that MIGRATE is to send.
    Pack,
    /// Writing to the append only file, or making it durable.
    Log,
    /// A step of the rewrite of the append only file.
    Rewrite,
    /// Removing a file, which nobody waits for.
    Unlink,
    /// Finding out what a name stands for.
    LookUp,
}

/// Where a background save goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The file of the data.
    File,
    /// Replicas, straight.
    Replicas,
}

/// A job: it owns all it needs. Whoever made it knows what it gives.
pub type Work = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

/// A background save under way.
pub struct Saving {
    pub target: Target,
    pub progress: Arc<Progress>,
    /// Held while the job puts its file in place, so that a save that was given up cannot replace a later one.
    pub commit: Arc<Mutex<()>>,
    /// The file it writes.
    pub temp: PathBuf,
    pub started_s: u64,
    pub keys: u64,
    /// Changes that it saves.
    pub dirty_before: u64,
    /// It was given up because its snapshot held too much memory; this says so.
    pub too_dear: Option<String>,
}

impl Saving {
    /// Gives it up: once this returns, it will not put its file in place.
    pub fn cancel(&self) {
        // A poisoned lock is that of a job that panicked: it is over.
        let _placing = self.commit.lock();
        self.progress.cancel();
    }
}

/// A rewrite of the append only file under way.
pub struct Rewriting {
    /// Which rewrite it is: steps of one that was given up come back all the same.
    pub serial: u64,
    pub progress: Arc<Progress>,
    /// Held while the job puts its files in place, so that a rewrite that was given up does not do so any more. The manifest
    /// that is in place by then.
    pub placed: Arc<Mutex<Option<Manifest>>>,
    pub started_s: u64,
    pub keys: u64,
    pub step: RewriteStep,
    /// It was given up because its snapshot held too much memory.
    pub too_dear: bool,
}

impl Rewriting {
    /// Gives it up: once this returns, it will not put its files in place. If it has, here is the manifest.
    pub fn cancel(&self) -> Option<Manifest> {
        // A poisoned lock is that of a job that panicked: it is over.
        let placed = self.placed.lock();
        self.progress.cancel();
        placed.unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How far it has come; each step is a job.
pub enum RewriteStep {
    /// The next incremental file exists, and the manifest with its name is on its way to the disk.
    Opening {
        file: Arc<dyn LogFile>,
        name: Text,
        manifest: Manifest,
    },
    /// A snapshot is written as the new base, and files that are needless then are removed.
    Writing,
}

/// How far a load has come.
#[derive(Debug, Default)]
pub struct LoadProgress {
    pub bytes: AtomicU64,
    pub keys_loaded: AtomicU64,
    pub keys_expired: AtomicU64,
    /// Memory that the writer of the file had in use.
    pub used_memory_then: AtomicU64,
    /// `key-load-delay`, which may change on the way.
    pub pace: Pace,
}

/// A load under way.
pub struct Loading {
    pub progress: Arc<LoadProgress>,
    pub total_bytes: u64,
    pub started_s: u64,
    pub started_ns: u64,
}

/// A command log that is being read.
pub struct Replay {
    /// Files that were not begun, the next one first.
    pub files: VecDeque<Text>,
    pub reading: Option<ReadingFile>,
    /// Who runs the commands: a connection without a socket.
    pub token: Token,
    /// Bytes of the files that were read.
    pub bytes_before: u64,
    /// Bytes of the base.
    pub base_bytes: u64,
    /// `key-load-delay`: until when it rests, on the monotonic clock.
    pub rests_until_ns: u64,
    /// Commands run.
    pub commands: u64,
}

/// The file of a log that is being read.
pub struct ReadingFile {
    pub name: Text,
    pub is_base: bool,
    /// `None` while its front, which is an RDB file, is read elsewhere.
    pub reader: Option<Reader<Box<dyn Read + Send>>>,
    pub started_ns: u64,
}

/// See the head of the file.
#[derive(Default)]
pub struct Persistence {
    pub saving: Option<Saving>,
    /// BGSAVE SCHEDULE, or a BGSAVE inside a transaction: to be done as soon as may be.
    pub scheduled: bool,
    /// Why the last save failed, if it did.
    pub error: Option<String>,
    /// Unix time of the last try of a background save, in seconds.
    pub tried_s: u64,
    /// How long the last one took.
    pub took_s: Option<u64>,
    /// Saves that were begun (`rdb_saves`).
    pub saves: u64,
    /// Background saves that were begun; each name of a temporary file has its number.
    pub serial: u64,
    /// Bytes copied because of the last one.
    pub copied_bytes: usize,
    /// The most bytes that snapshots were seen to hold since the last one was taken.
    pub held_peak: usize,
    /// What its start took of the loop's time, in µs.
    pub snapshot_us: u64,
    /// Snapshots taken (`total_forks`).
    pub snapshots: u64,
    /// The data of before the start is not here yet: nobody is followed until it is, for it would replace what they sent.
    pub starting: bool,
    pub loading: Option<Loading>,
    pub replay: Option<Box<Replay>>,
    /// The data is there, and nobody has been told yet.
    pub ready: bool,
    /// Of the last load.
    pub keys_loaded: u64,
    pub keys_expired: u64,
    /// The data could not be loaded, or the log not be written: the process ends without goodbyes.
    pub failed: bool,
    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION.
    pub skip_checksum: bool,
    /// What DUMP compresses with.
    pub compressor: Option<Box<Compressor>>,
}

impl Persistence {
    /// CONFIG RESETSTAT.
    pub fn reset_counts(&mut self) {
        self.saves = 0;
        self.snapshots = 0;
        self.snapshot_us = 0;
    }
}
