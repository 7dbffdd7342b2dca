//! WAIT and WAITAOF: clients that wait until replicas have what they wrote.
//!
//! A client remembers the offset of the stream behind its last change. It waits until enough replicas say that they
//! are there (`REPLCONF ACK`), which they are asked for once before the loop sleeps.

use crate::base::planted::{self, Bug};
use crate::cmd::args::OwnedArgs;
use crate::cmd::{Args, Fault};
use crate::exec::conn::{Parked, Token, Why};
use crate::exec::server::Server;
use crate::resp::reply::Reply;

/// What a client hears that waits for our own disk when nothing is written there.
pub const NO_LOG: &str =
    "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acks {
    pub offset: i64,
    pub replicas: i64,
    /// The data must be on disk (WAITAOF), here too if it says so.
    pub on_disk: Option<bool>,
    /// Unix time in ms at which it waits no longer.
    pub deadline: Option<u64>,
}

/// How far the world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    pub replicas: i64,
    pub local: bool,
}

impl Acks {
    /// Tells how far it came.
    pub fn reply(&self, reply: &mut Reply, reached: Reached) {
        if self.on_disk.is_some() {
            reply.array(2);
            reply.int(i64::from(reached.local));
        }
        reply.int(reached.replicas);
    }
}

impl Server {
    /// How many replicas are where a client wants them, and whether our own disk is.
    pub fn reached(&self, acks: &Acks) -> Reached {
        let master = &self.repl.master;
        let replicas = match acks.on_disk {
            Some(_) => master.count_acked_aof(acks.offset),
            None if planted::on(Bug::SentCountsAsAcked) => self.count_sent(acks.offset),
            None => master.count_acked(acks.offset),
        };
        Reached {
            replicas: replicas as i64,
            local: self.repl.fsynced >= acks.offset,
        }
    }

    /// How many were sent the stream up to this offset.
    #[cold]
    fn count_sent(&self, offset: i64) -> usize {
        let next = |token| self.repl.history.backlog().and_then(|b| b.place_of(token));
        let replicas = self.repl.master.replicas().iter();
        let sent = replicas.filter(|r| r.is_online() && next(r.token).is_some_and(|n| n > offset));
        sent.count()
    }

    /// True if that is enough.
    pub fn is_enough(acks: &Acks, reached: Reached) -> bool {
        reached.replicas >= acks.replicas && (reached.local || acks.on_disk != Some(true))
    }

    /// The client waits from now on.
    pub fn park_for_acks(&mut self, token: Token, command: usize, args: &Args<'_>, acks: Acks) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        conn.parked = Some(Box::new(Parked {
            args: OwnedArgs::copy(args),
            command,
            why: Why::Acks(acks),
            spent_us: 0,
        }));
        self.blocked.add_for_acks(token, acks.deadline);
        self.repl.ack_wanted = true;
    }

    /// Those who have waited long enough, because of what replicas say, go on.
    pub fn serve_acks(&mut self) {
        for token in self.blocked.for_acks.clone() {
            let Some(Parked {
                why: Why::Acks(acks),
                ..
            }) = self.conns.get(token).and_then(|c| c.parked.as_deref())
            else {
                continue;
            };
            if acks.on_disk == Some(true) && !self.config.appendonly {
                self.give_up(token, Some(Fault::new(NO_LOG)));
            } else if Self::is_enough(acks, self.reached(acks)) {
                self.give_up(token, None);
            }
        }
    }
}
