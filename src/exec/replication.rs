//! What the server knows of replication: the stream, who follows, what is on its way to whom.
//!
//! The rules are in [`crate::repl`], which only says what is to be done; `server/replicas.rs` and `server/follow.rs` do it.

use std::io::Read;

use bytes::Bytes;

use crate::base::rng::Rng;
use crate::cmd::session::Token;
use crate::cmd::unit::Selected;
use crate::config::Config;
use crate::exec::following::{Failover, Following};
use crate::exec::persistence::Loading;
use crate::exec::pipe::Pipe;
use crate::repl::history::History;
use crate::repl::master::Master;

/// A snapshot on its way to all who were promised it, as it is made.
pub struct Transfer {
    pub pipe: Pipe,
    /// Who is still there.
    pub to: Vec<Token>,
    /// It is made to the end.
    pub complete: bool,
}

/// A piece of a file that is read for a replica: what the job hands back.
pub struct Piece {
    /// The file to read on, and how many bytes are left in it.
    pub rest: (Box<dyn Read + Send>, u64),
    pub bytes: Bytes,
}

/// A file on its way to a replica.
pub struct Bulk {
    pub token: Token,
    /// Its client, since tokens are given again.
    pub client: u64,
    /// What is yet to be read; `None` while a job reads.
    pub rest: Option<(Box<dyn Read + Send>, u64)>,
}

/// See the head of the file.
pub struct Replication {
    pub history: History,
    pub master: Master,
    /// What we are to the one we follow, if we do; `replicaof` says whom.
    pub following: Option<Box<Following>>,
    /// A load that begins once all has been received.
    pub to_load: Option<Loading>,
    /// Syncs begun as a replica; each job has its number.
    pub syncs: u64,
    pub failover: Option<Failover>,
    /// A reason to end at once: the data would come to differ from the master's.
    pub panic: Option<String>,
    /// The database that the stream has come to; none when somebody has just begun to read.
    pub selected: Selected,
    /// Where operations are put together, kept for its memory.
    pub scratch: Vec<u8>,
    pub transfer: Option<Transfer>,
    pub bulks: Vec<Bulk>,
    /// Replicas are to be asked how far they are before the loop sleeps.
    pub ack_wanted: bool,
    /// The file of the data is there only because a replica wanted it (`rdb-del-sync-files`).
    pub file_for_sync: bool,
    /// Offset up to which all is on our own disk; -1 without a log.
    pub fsynced: i64,
    /// When the second's work is due, monotonic time in ns.
    pub next_second_ns: u64,
}

impl Replication {
    /// Of a server that just started.
    pub fn new(rng: &mut Rng, config: &Config) -> Replication {
        Replication {
            history: History::new(rng, config.repl_backlog_size),
            master: Master::default(),
            following: config
                .replicaof
                .as_ref()
                .map(|_| Box::new(Following::new(None))),
            to_load: None,
            syncs: 0,
            failover: None,
            panic: None,
            selected: Selected::default(),
            scratch: Vec::new(),
            transfer: None,
            bulks: Vec::new(),
            ack_wanted: false,
            file_for_sync: false,
            fsynced: if config.appendonly { 0 } else { -1 },
            next_second_ns: 0,
        }
    }

    /// Memory of what a replica has yet to be sent.
    pub fn unsent(&self, replica: Token) -> usize {
        self.history
            .backlog()
            .map_or(0, |backlog| backlog.memory_from(replica))
    }

    /// Memory of the stream that is kept.
    pub fn buffers(&self) -> usize {
        self.history.backlog().map_or(0, |backlog| backlog.memory())
    }

    /// The part of it that is there because replicas are behind.
    pub fn replicas_memory(&self, config: &Config) -> usize {
        match self.master.replicas().is_empty() {
            true => 0,
            false => self.buffers().saturating_sub(config.repl_backlog_size),
        }
    }

    /// The rest.
    pub fn backlog_memory(&self, config: &Config) -> usize {
        self.buffers() - self.replicas_memory(config)
    }

    /// What must not make the server evict keys: evicting makes the stream grow.
    pub fn not_counted(&self, config: &Config) -> usize {
        /// A block of the backlog beside its bytes, about.
        const BLOCK: usize = 16 * 1024;
        const BLOCK_EXTRA: usize = 64;
        let size = config.repl_backlog_size;
        self.buffers()
            .saturating_sub(size + (size / BLOCK + 1) * BLOCK_EXTRA)
    }
}
