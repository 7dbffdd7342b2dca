//! Where the operations of a finished unit go: to the append only file, and to the replicas.
//!
//! ```text
//! a command          cmd::unit::Ops: encoded once         exec::aof, a buffer
//! changes keys  ---> [SET a 1][DEL b]              --->   MULTI, SELECT 0, SET ..., EXEC
//!                    ^ gathered only if wanted      \-->  the replication stream likewise
//! ```

use crate::cmd::unit::{Audience, Op, Ops};
use crate::config::AppendFsync;
use crate::exec::aof::State;
use crate::exec::server::Server;

/// A buffer that grew beyond this is not kept.
const SCRATCH_KEPT: usize = 64 * 1024;

impl Server {
    /// Whether units are to gather their operations, and replies to wait for them; to be asked again when a log or a
    /// replica comes or goes, when loading begins or ends, and with `appendfsync`.
    pub fn note_who_listens(&mut self) {
        // (A replica's stream is its master's.)
        let followed = self.repl.history.backlog().is_some() && self.config.replicaof.is_none();
        self.unit.followed = followed;
        self.unit.wanted = !self.loading && (followed || self.aof.state != State::Off);
        self.aof.holding =
            self.aof.state == State::On && self.config.appendfsync == AppendFsync::Always;
    }

    /// Hands the unit's operations to the log and to the replicas.
    pub fn publish_log(&mut self) {
        let Some(ops) = self.unit.take() else {
            return;
        };
        if self.aof.takes() {
            let stamp_s = self.config.aof_timestamp_enabled.then(|| self.now.s());
            self.aof.feed(&ops, stamp_s);
        }
        self.feed_replicas(&ops);
        self.unit.recycle(ops);
    }

    /// Appends a unit's operations to the replication stream.
    pub fn feed_replicas(&mut self, ops: &Ops) {
        if self.config.replicaof.is_some() {
            return;
        }
        let theirs = || ops.iter().filter(|op| op.audience != Audience::Log);
        if self.repl.history.backlog().is_none() {
            theirs().for_each(|_| self.repl.history.count_unkept());
            return;
        }
        let mut bytes = std::mem::take(&mut self.repl.scratch);
        for op in theirs() {
            let big = op.bytes.len() > SCRATCH_KEPT;
            let copied = if big { &[] } else { op.bytes };
            let op_copied = Op {
                bytes: copied,
                ..op
            };
            self.repl.selected.append(op_copied, &mut bytes);
            if big {
                // Straight from the unit: a command of 512 MB is not copied more often than it must be.
                self.append_to_stream(&bytes);
                bytes.clear();
                self.append_to_stream(op.bytes);
            }
        }
        self.append_to_stream(&bytes);
        bytes.clear();
        bytes.shrink_to(SCRATCH_KEPT);
        self.repl.scratch = bytes;
    }

    /// Appends bytes to the replication stream. Replicas that it leaves too far behind are closed.
    pub fn append_to_stream(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() && self.repl.history.append(bytes) {
            for token in self.repl.master.at(|_| true) {
                self.check_output(token);
            }
        }
    }
}
