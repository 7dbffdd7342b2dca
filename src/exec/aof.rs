//! What the server knows of its append only file.
//!
//! The operations of finished units gather in a buffer; before the loop sleeps they are written, and made durable as
//! `appendfsync` says. How the files are written is in `server/aof`.
//!
//! # Batches
//! With `appendfsync always` nobody may see what a crash could take back. Yet the loop does not wait for the disk: what
//! gathers is a *batch*, and batches are written and synced one after another on the log's own thread. While one is on
//! its way the next one gathers, whoever writes into it: all of them share its sync.
//!
//! ```text
//!            durable            handed                gathering
//!  ---------------|-----------------------|--------------------------->  batches
//!                 3           4                     5
//! ```
//! A reply that depends on a batch is *held* until that batch is durable, and with it all output of that connection that
//! comes after it ([`Conn::hold`]). It depends on it if the command wrote something, or read a key that was written since.
//! The hashes of those keys are remembered until they are durable; where it is not known which keys a command reads,
//! it depends on all that there is.
//!
//! [`Conn::hold`]: crate::exec::conn::Conn::hold

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::aof::manifest::Manifest;
use crate::cmd::unit::{Audience, Ops, Selected};
use crate::exec::conn::Token;
use crate::exec::io::LogFile;
use crate::exec::persistence::Rewriting;

/// Whether there is a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Off,
    On,
    /// It was switched on while the server ran: it counts as a log once its first rewrite is done.
    WaitRewrite,
}

/// The number of a batch.
pub type Batch = u64;

/// Why the log cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The system's words for it.
    pub reason: String,
}

/// Keys by their hashes.
type Hashes = HashSet<u64, BuildHasherDefault<AsItIs>>;

/// A hash is its own hash.
#[derive(Clone, Copy, Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Which keys were written and are not durable yet.
#[derive(Default)]
struct Written {
    keys: Hashes,
    /// Nobody knows which: any.
    any: bool,
}

impl Written {
    fn holds(&self, hash: u64) -> bool {
        self.any || self.keys.contains(&hash)
    }

    fn absorb(&mut self, other: &mut Written) {
        self.any |= std::mem::take(&mut other.any);
        if self.keys.is_empty() {
            std::mem::swap(&mut self.keys, &mut other.keys);
        } else {
            self.keys.extend(other.keys.drain());
        }
    }

    fn clear(&mut self) {
        self.any = false;
        self.keys.clear();
    }
}

/// See the head of the file.
#[derive(Default)]
pub struct Aof {
    pub state: State,
    /// The number of the log: it has another each time that it is switched off.
    pub serial: u64,
    /// What is to be written.
    pub buffer: Vec<u8>,
    /// The buffer of the batch before, empty, to gather in next.
    pub spare: Vec<u8>,
    /// The database that the log has come to.
    pub selected: Selected,
    /// Unix time of the last time stamp in the log, in seconds.
    pub stamped_s: u64,
    pub manifest: Manifest,
    /// The incremental file that is being written.
    pub file: Option<Arc<dyn LogFile>>,
    /// Bytes written to it, and how many of them are durable or on their way there.
    pub written: u64,
    pub synced: u64,
    /// Bytes of all files of the log, and what they were after the last rewrite (`aof_current_size`, `aof_base_size`).
    pub size: u64,
    pub base_size: u64,
    /// Files whose last sync failed.
    pub unsynced: Vec<Arc<dyn LogFile>>,
    /// When the last sync was asked for, unix time in seconds.
    pub synced_s: u64,
    /// Syncs in the background that are not over.
    pub syncs: usize,
    /// Since when a write waits for a sync to end, unix time in seconds.
    pub postponed_s: Option<u64>,
    /// Writes that waited too long for it (`aof_delayed_fsync`).
    pub delayed: u64,
    /// The last write or the last sync failed.
    pub write_trouble: Option<Trouble>,
    pub sync_trouble: Option<Trouble>,
    /// When a failed write was last told to the log, unix time in seconds.
    pub told_s: u64,
    /// DEBUG AOF-FLUSH-SLEEP, in µs.
    pub flush_sleep_us: u64,
    pub rewriting: Option<Rewriting>,
    /// The number of the last one.
    pub rewrite_serial: u64,
    /// BGREWRITEAOF while it could not be done: to be done as soon as may be.
    pub rewrite_scheduled: bool,
    pub rewrite_failed: bool,
    pub rewrites: u64,
    pub failures_in_a_row: u64,
    /// How long the last rewrite took.
    pub rewrite_took_s: Option<u64>,
    /// Bytes copied because of it.
    pub copied_bytes: usize,
    /// After failures: how long to wait before the next try, and until when, unix time in seconds.
    pub delay_min: u64,
    pub retry_at_s: Option<u64>,
    /// The newest batch that is durable, and those that are on their way there.
    pub durable: Batch,
    pub handed: usize,
    /// Offsets of the replication stream at the ends of those batches, and up to where all of it is durable.
    handed_offsets: VecDeque<i64>,
    pub durable_offset: i64,
    /// The same by the last sync, whatever the policy.
    pub synced_offset: i64,
    /// Replies that depend on a batch are held.
    pub holding: bool,
    /// Connections whose output is held.
    pub held: Vec<Token>,
    /// Room for the hashes of a command's keys.
    pub hashes: Vec<u64>,
    gathering: Written,
    on_the_way: Written,
}

impl Aof {
    /// Takes the operations of a unit. `stamp_s` is the time to note before them, in unix seconds, if it is to be noted.
    pub fn feed(&mut self, ops: &Ops, stamp_s: Option<u64>) {
        if let Some(now_s) = stamp_s
            && now_s > self.stamped_s
        {
            self.stamped_s = now_s;
            self.buffer
                .extend_from_slice(format!("#TS:{now_s}\r\n").as_bytes());
        }
        for op in ops.iter().filter(|op| op.audience != Audience::Replicas) {
            self.selected.append(op, &mut self.buffer);
        }
    }

    /// Bytes that its buffers hold.
    pub fn memory(&self) -> usize {
        self.buffer.capacity() + self.spare.capacity()
    }

    /// True if operations are logged. Where the log waits for a rewrite that has not begun, that one will have them.
    #[inline]
    pub fn takes(&self) -> bool {
        self.state == State::On || (self.state == State::WaitRewrite && self.file.is_some())
    }

    /// True if something was written that is neither durable nor on its way there.
    pub fn is_unsynced(&self) -> bool {
        self.written != self.synced || !self.unsynced.is_empty()
    }

    /// True if the disk does not take what is to be written.
    #[inline]
    pub fn in_trouble(&self) -> bool {
        self.write_trouble.is_some() || self.sync_trouble.is_some()
    }

    /// The batch that gathers.
    pub fn gathering(&self) -> Batch {
        self.durable + self.handed as u64 + 1
    }

    /// The newest batch that is not durable, if there is one.
    pub fn newest(&self) -> Option<Batch> {
        if !self.buffer.is_empty() {
            Some(self.gathering())
        } else {
            (self.handed > 0).then(|| self.durable + self.handed as u64)
        }
    }

    /// A key was written in the batch that gathers.
    pub fn note_written(&mut self, hash: u64) {
        self.gathering.keys.insert(hash);
    }

    /// It is not known which keys were written.
    pub fn note_any_written(&mut self) {
        self.gathering.any = true;
    }

    /// The batch that a reply depends on whose command read the key with this hash.
    pub fn depends_on(&self, hash: u64) -> Option<Batch> {
        if self.gathering.holds(hash) {
            self.newest()
        } else if self.on_the_way.holds(hash) {
            Some(self.durable + self.handed as u64)
        } else {
            None
        }
    }

    /// The batch that gathered goes to the disk; what it was written in. The replication stream has come to `offset`.
    pub fn hand_over(&mut self, offset: i64) -> Vec<u8> {
        self.handed += 1;
        self.handed_offsets.push_back(offset);
        let Aof {
            gathering,
            on_the_way,
            ..
        } = self;
        on_the_way.absorb(gathering);
        std::mem::replace(&mut self.buffer, std::mem::take(&mut self.spare))
    }

    /// The oldest batch that was handed over is durable.
    pub fn batch_done(&mut self, mut buffer: Vec<u8>) {
        debug_assert!(self.handed > 0);
        self.handed = self.handed.saturating_sub(1);
        self.durable += 1;
        if let Some(offset) = self.handed_offsets.pop_front() {
            self.durable_offset = offset;
        }
        if self.handed == 0 {
            self.on_the_way.clear();
        }
        buffer.clear();
        buffer.shrink_to(KEPT_MAX);
        self.spare = buffer;
    }

    /// What gathered was written by the loop: whoever still waits for it waits no longer.
    pub fn written_at_once(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_MAX);
        self.durable += 1;
        self.gathering.clear();
    }
}

/// A buffer that grew beyond this is not kept.
const KEPT_MAX: usize = 64 * 1024;
