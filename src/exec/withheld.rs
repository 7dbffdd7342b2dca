//! Held output: with `appendfsync always` a reply waits for the batch of the log that it depends on.
//!
//! Batches are told of in [`crate::exec::aof`]. A connection notes from which position on its output depends on which
//! batch. Both only grow, and there are seldom more than two batches under way, so the notes are few. What is held at one
//! connection holds nobody else: whoever reads other keys has the answer at once.

use std::collections::VecDeque;

use crate::cmd::Args;
use crate::cmd::keys::KeyHint;
use crate::cmd::spec::{Flags, Group};
use crate::exec::aof::Batch;
use crate::exec::conn::{Conn, Token};
use crate::exec::server::Server;
use crate::exec::table::{CommandId, Needs};

/// From a position on, output depends on a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    batch: Batch,
    from: u64,
}

/// What is held of a connection's output, oldest first.
pub type Holds = Option<Box<VecDeque<Hold>>>;

impl Conn {
    /// Output from this position on waits for the batch. True if nothing was held before.
    pub fn hold(&mut self, batch: Batch, from: u64) -> bool {
        let held = self.held.get_or_insert_default();
        let fresh = held.is_empty();
        if held.back().is_none_or(|last| last.batch < batch) {
            held.push_back(Hold { batch, from });
        }
        fresh
    }

    /// The position up to which output may go out, now that all batches up to `durable` are.
    #[inline]
    pub fn free_until(&mut self, durable: Batch) -> u64 {
        let Some(held) = &mut self.held else {
            return u64::MAX;
        };
        while held.front().is_some_and(|first| first.batch <= durable) {
            held.pop_front();
        }
        held.front().map_or(u64::MAX, |first| first.from)
    }
}

impl Server {
    /// The newest batch that is not durable, what the running unit has changed so far included.
    pub fn newest_batch(&self) -> Option<Batch> {
        if self.unit.ops.is_empty() {
            self.aof.newest()
        } else {
            Some(self.aof.gathering())
        }
    }

    /// Output of a connection from this position on waits for the batch.
    pub fn hold_from(&mut self, token: Token, batch: Batch, from: u64) {
        if self
            .conns
            .get_mut(token)
            .is_some_and(|c| c.hold(batch, from))
        {
            self.aof.held.push(token);
        }
    }

    /// What is written to a connection from now on tells of all that there is.
    pub fn hold_next(&mut self, token: Token) {
        if self.aof.holding
            && let Some(batch) = self.newest_batch()
            && let Some(conn) = self.conns.get(token)
        {
            let from = conn.next_push();
            self.hold_from(token, batch, from);
        }
    }

    /// Where the reply of a command begins that is about to run, and how many units there were before; `None` where no reply
    /// is held.
    #[inline]
    pub fn reply_begins(&self, token: Token) -> Option<(u64, u64)> {
        if !self.aof.holding {
            return None;
        }
        let from = self.conns.get(token)?.reply.end();
        Some((from, self.unit.drained))
    }

    /// Notes the keys of a command that has written something.
    pub fn note_written(&mut self, id: CommandId, args: &Args<'_>, hints: &[KeyHint]) {
        if self.table.get(id).needs == Needs::Exec {
            // What it ran has spoken for itself.
            return;
        }
        if !self.knows_keys(id) {
            self.aof.note_any_written();
            return;
        }
        let mut hashes = std::mem::take(&mut self.aof.hashes);
        self.hash_keys(id, args, hints, &mut hashes);
        for hash in hashes.drain(..) {
            self.aof.note_written(hash);
        }
        self.aof.hashes = hashes;
    }

    /// Holds the reply of a command that has run, if it depends on what is not durable. `before` is what
    /// [`Server::reply_begins`] gave.
    pub fn hold_reply(
        &mut self,
        token: Token,
        id: CommandId,
        args: &Args<'_>,
        hints: &[KeyHint],
        (from, units): (u64, u64),
    ) {
        let wrote = self.unit.drained != units;
        let newest = self.newest_batch();
        if newest.is_none() {
            return;
        }
        let batch = if wrote {
            newest
        } else if self.knows_keys(id) {
            let mut hashes = std::mem::take(&mut self.aof.hashes);
            self.hash_keys(id, args, hints, &mut hashes);
            let each = hashes.drain(..);
            let batch = each.filter_map(|hash| self.aof.depends_on(hash)).max();
            self.aof.hashes = hashes;
            batch
        } else if self.tells_nothing(id) {
            None
        } else {
            newest
        };
        if let Some(batch) = batch {
            self.hold_from(token, batch, from);
        }
    }

    /// True if the row says where all keys are.
    fn knows_keys(&self, id: CommandId) -> bool {
        let command = self.table.get(id);
        command.legacy_keys.is_some() && !command.flags.has(Flags::MOVABLE_KEYS)
    }

    /// True if a command without keys tells nothing of the data.
    fn tells_nothing(&self, id: CommandId) -> bool {
        let command = self.table.get(id);
        matches!(
            command.spec.group,
            Group::Connection | Group::Pubsub | Group::Transactions
        ) && command.needs != Needs::Exec
    }

    fn hash_keys(&self, id: CommandId, args: &Args<'_>, hints: &[KeyHint], hashes: &mut Vec<u64>) {
        let Some((first, last, step)) = self.table.get(id).legacy_keys else {
            return;
        };
        let argv = args.argv();
        let last = if last < 0 {
            argv.len() as i32 + last
        } else {
            last
        };
        let mut at = first;
        while at <= last {
            let Some(key) = usize::try_from(at).ok().and_then(|at| argv.get(at)) else {
                break;
            };
            let hint = hints.iter().find(|h| std::ptr::eq(h.at, key.as_ptr()));
            hashes.push(hint.map_or_else(|| self.dbs.hash(key), |hint| hint.hash));
            at += step.max(1);
        }
    }

    /// Batches have become durable: what waited for them goes out.
    pub fn release_held(&mut self) {
        let durable = self.aof.durable;
        let mut held = std::mem::take(&mut self.aof.held);
        held.retain(|&token| {
            let Some(conn) = self.conns.get_mut(token) else {
                return false;
            };
            let still = conn.free_until(durable) != u64::MAX;
            self.wants_write(token);
            still
        });
        self.aof.held = held;
    }
}
