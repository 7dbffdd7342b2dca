//! Commands that wait.
//!
//! A command that finds nothing returns [`Block`]: its connection is parked with a copy of the
//! arguments, and stands in a queue at every key it named. A change that may help signals the key
//! as ready; after the unit, the parked commands of that key run again, oldest first, each as a
//! unit of its own, until one of them finds nothing again. A command that gives up at its deadline
//! replies what [`OnTimeout`] says. CLIENT PAUSE parks commands as well, before they run at all; those that wait for replicas
//! are in [`super::acks`].

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::cmd::fault::{Block, OnTimeout};
pub use crate::cmd::keys::Waiting;
use crate::cmd::{Args, Fault};
use crate::exec::call::Outcome;
use crate::exec::conn::{Parked, Token, Why};
use crate::exec::gate::Checked;
use crate::exec::io::Io;
use crate::exec::server::Server;
use crate::exec::table::Resolved;
use crate::resp::reply::Reply;

/// All who wait.
#[derive(Debug, Default)]
pub struct Blocked {
    pub keys: Waiting,
    /// (unix time in ms, who), soonest first.
    deadlines: BTreeSet<(u64, Token)>,
    /// Held up by CLIENT PAUSE, oldest first.
    pub paused: Vec<Token>,
    /// Waiting for replicas, oldest first.
    pub for_acks: Vec<Token>,
    /// Waiting for the end of the server.
    pub for_shutdown: Vec<Token>,
    /// How many connections wait for anything but the end of a pause.
    pub clients: usize,
}

impl Blocked {
    /// A connection begins to wait.
    pub fn add(&mut self, db: u32, token: Token, block: &Block) {
        self.clients += 1;
        for key in &block.keys {
            let queue = self
                .keys
                .entry((db, Bytes::copy_from_slice(key)))
                .or_default();
            // The same key may be named twice; it is served once.
            if !queue.tokens.contains(&token) {
                queue.tokens.push_back(token);
                queue.for_end += usize::from(block.wake_on_delete);
            }
        }
        if let Some(deadline) = block.deadline {
            self.deadlines.insert((deadline, token));
        }
    }

    /// A connection begins to wait for replicas.
    pub fn add_for_acks(&mut self, token: Token, deadline: Option<u64>) {
        self.clients += 1;
        self.for_acks.push(token);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, token));
        }
    }

    fn remove_for_acks(&mut self, token: Token, deadline: Option<u64>) {
        self.clients -= 1;
        self.for_acks.retain(|&t| t != token);
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, token));
        }
    }

    fn remove(&mut self, db: u32, token: Token, block: &Block) {
        self.clients -= 1;
        for key in &block.keys {
            let place = (db, Bytes::copy_from_slice(key));
            if let Some(queue) = self.keys.get_mut(&place) {
                let before = queue.tokens.len();
                queue.tokens.retain(|&t| t != token);
                queue.for_end -= usize::from(block.wake_on_delete && queue.tokens.len() < before);
                if queue.tokens.is_empty() {
                    self.keys.remove(&place);
                }
            }
        }
        if let Some(deadline) = block.deadline {
            self.deadlines.remove(&(deadline, token));
        }
    }

    /// When the next one gives up, unix time in ms.
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|d| d.0)
    }

    /// How many wait with a deadline.
    pub fn deadline_count(&self) -> usize {
        self.deadlines.len()
    }

    /// How many different keys somebody waits for.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }
}

/// What a command that waited in vain replies.
pub fn reply_timeout(reply: &mut Reply, on_timeout: OnTimeout) {
    match on_timeout {
        OnTimeout::NullArray => reply.null_array(),
        OnTimeout::Null => reply.null(),
        OnTimeout::Zero => reply.int(0),
    }
}

impl Server {
    /// How many different keys somebody waits for in a way that their end wakes too (XREADGROUP).
    pub fn keys_awaited_to_go(&self) -> usize {
        let queues = self.blocked.keys.values();
        queues.filter(|queue| queue.for_end > 0).count()
    }

    /// Takes a connection out of whatever it waits for.
    pub fn unpark(&mut self, token: Token) -> Option<Box<Parked>> {
        let conn = self.conns.get_mut(token)?;
        let parked = conn.parked.take()?;
        match &parked.why {
            Why::Keys(block) => self.blocked.remove(conn.session.db, token, block),
            Why::Acks(acks) => self.blocked.remove_for_acks(token, acks.deadline),
            Why::Shutdown => {
                self.blocked.clients -= 1;
                self.blocked.for_shutdown.retain(|&t| t != token);
            }
            Why::Paused => self.blocked.paused.retain(|&t| t != token),
            Why::Held => self.held.waiting.retain(|&t| t != token),
            Why::Migrates => self.migrations.forget_caller(token),
        }
        Some(parked)
    }

    /// Those whose time is over give up.
    pub fn expire_blocked(&mut self) {
        let now = self.now.ms();
        while let Some(&(deadline, token)) = self.blocked.deadlines.first() {
            if deadline > now {
                break;
            }
            self.give_up(token, None);
        }
    }

    /// Ends a wait with the time-out's reply, or with an error (CLIENT UNBLOCK, a role change).
    pub fn give_up(&mut self, token: Token, error: Option<Fault>) {
        let Some(parked) = self.unpark(token) else {
            return;
        };
        if matches!(parked.why, Why::Paused | Why::Held | Why::Migrates) {
            return;
        }
        match error {
            Some(fault) => {
                // An error, also on the account of the command that ended the wait.
                for id in [Some(parked.command), self.stats.command_under_way]
                    .into_iter()
                    .flatten()
                {
                    self.stats.commands[id].failed += 1;
                }
                self.reply_fault(token, &fault);
            }
            None => self.reply_given_up(token, &parked.why),
        }
        let argv = parked.args.slices();
        let args = Args::new(&argv, parked.args.big());
        let us = parked.spent_us;
        self.count_call(token, parked.command, &args, us, us * 1000);
        self.end_request(token);
        self.resumable.push(token);
    }

    /// What a wait that is over replies.
    fn reply_given_up(&mut self, token: Token, why: &Why) {
        let reached = match why {
            Why::Acks(acks) => Some((acks, self.reached(acks))),
            _ => None,
        };
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        match (why, reached) {
            (Why::Keys(block), _) => reply_timeout(&mut conn.reply, block.on_timeout),
            (_, Some((acks, reached))) => acks.reply(&mut conn.reply, reached),
            _ => {}
        }
    }

    /// Keys became ready: the commands parked there run again. What they change may make more keys
    /// ready, so this goes on until none is. One that is made ready again before its turn has one turn.
    pub fn serve_blocked(&mut self, io: &mut dyn Io) {
        while !self.unit.ready.is_empty() {
            let place = self.unit.ready.remove(0);
            self.serve_key(io, &place);
        }
    }

    fn serve_key(&mut self, io: &mut dyn Io, place: &(u32, Bytes)) {
        let Some(queue) = self.blocked.keys.get(place) else {
            return;
        };
        for token in queue.tokens.clone() {
            let Some(Parked {
                why: Why::Keys(block),
                ..
            }) = self.conns.get(token).and_then(|c| c.parked.as_deref())
            else {
                continue;
            };
            // A key of another type, or none at all, only concerns those who wait for its end.
            let there = self.dbs.type_of(place.0, &place.1, self.now.ms()) == Some(block.waits_for);
            if there || block.wake_on_delete {
                self.run_parked(io, token);
            }
        }
    }

    /// Runs a parked command again, as a unit of its own: through the gate again, since much may have changed meanwhile.
    /// One that waits on keeps its first deadline.
    fn run_parked(&mut self, io: &mut dyn Io, token: Token) {
        let Some(parked) = self.unpark(token) else {
            return;
        };
        let Parked {
            args,
            command,
            why,
            spent_us,
        } = *parked;
        let argv = args.slices();
        let args = Args::new(&argv, args.big());
        self.tick(io);
        self.current = Some(token);
        // Whatever it finds was written just now.
        self.hold_next(token);
        let before = self.reply_begins(token);
        let outcome = match self.check_again(io, token, command, &args) {
            Checked::Run => self.call(io, token, command, args, &[], spent_us.max(1)),
            Checked::Refused => Outcome::Failed,
            Checked::Waits => Outcome::Blocked,
        };
        self.current = None;
        let offset = self.repl.history.offset();
        if !self.unit.touched.is_empty() {
            self.tell_trackers(Some(token));
        }
        self.end_unit(io);
        if self.repl.history.offset() != offset {
            self.note_stream_place(token);
        }
        if let Some(before) = before {
            self.hold_reply(token, command, &args, &[], before);
        }
        self.flush_late(token);
        if self.has_own_stale() {
            self.tell_own(token);
        }
        if outcome == Outcome::Blocked {
            self.keep_deadline(token, &why);
        } else {
            self.end_request(token);
            self.resumable.push(token);
        }
    }

    fn keep_deadline(&mut self, token: Token, first: &Why) {
        let Some(parked) = self
            .conns
            .get_mut(token)
            .and_then(|c| c.parked.as_deref_mut())
        else {
            return;
        };
        let (Why::Keys(now), Why::Keys(first)) = (&mut parked.why, first) else {
            return;
        };
        if let Some(deadline) = std::mem::replace(&mut now.deadline, first.deadline) {
            self.blocked.deadlines.remove(&(deadline, token));
        }
        if let Some(deadline) = first.deadline {
            self.blocked.deadlines.insert((deadline, token));
        }
    }

    /// CLIENT PAUSE is over: the held-up commands run, oldest first.
    pub fn resume_paused(&mut self, io: &mut dyn Io) {
        for token in std::mem::take(&mut self.blocked.paused) {
            self.request_again(io, token);
            if self.is_from_master(token) {
                self.stream_ran(token, &[]);
                self.end_bad_stream(io);
            }
        }
    }

    /// A command that was parked before it ran comes to the gate again.
    pub(super) fn request_again(&mut self, io: &mut dyn Io, token: Token) {
        let Some(parked) = self.conns.get_mut(token).and_then(|c| c.parked.take()) else {
            return;
        };
        let argv = parked.args.slices();
        self.tick(io);
        let args = Args::new(&argv, parked.args.big());
        self.request(io, token, args, Resolved::Command(parked.command), &[]);
        self.resumable.push(token);
    }
}
