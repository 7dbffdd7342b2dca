//! Held keys: those that a MIGRATE has on their way, and who waits for them.
//!
//! While a key travels it is here and perhaps there as well. Whoever names it has to wait until it is known where it
//! is: commands, whole transactions, and what concerns all keys at once (FLUSHALL, SWAPDB). They are parked at the
//! gate, like clients of CLIENT PAUSE, and go on in their order once a journey is over.
//!
//! A key is held under its name in every database, since MOVE and COPY reach across. It is not evicted, for that would free
//! nothing, and does not go when its time is over: it is deleted after its journey, or expires then.
//!
//! What cannot be known beforehand (a script that reaches for a key which it has not named) may change a held key all
//! the same. Nothing is lost then: a key is only deleted after its journey if it still is what was sent.

use std::collections::HashMap;

use bytes::Bytes;

use crate::cmd::Args;
use crate::cmd::session::Marks;
use crate::exec::conn::Token;
use crate::exec::io::Io;
use crate::exec::server::Server;
use crate::exec::table::{CommandId, Needs, keys_of};

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Held {
    /// How many journeys hold each.
    keys: HashMap<Bytes, usize>,
    /// Who waits, oldest first.
    pub waiting: Vec<Token>,
}

impl Held {
    /// True if no key is held.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// True if a key of that name is held.
    pub fn has(&self, key: &[u8]) -> bool {
        !self.keys.is_empty() && self.keys.contains_key(key)
    }

    /// Holds a key.
    pub fn hold(&mut self, key: &[u8]) {
        *self.keys.entry(Bytes::copy_from_slice(key)).or_default() += 1;
    }

    /// Lets go of a key that was held.
    pub fn release(&mut self, key: &[u8]) {
        if let Some(count) = self.keys.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(key);
            }
        }
    }
}

impl Server {
    /// True if a command has to wait for keys that are held.
    pub fn is_held_up(&self, token: Token, id: CommandId, args: &Args<'_>) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let Some(conn) = self.conns.get(token) else {
            return false;
        };
        if conn.session.marks.has(Marks::MASTER) {
            return false;
        }
        match (self.table.get(id).needs, &conn.session.multi) {
            (Needs::Exec, Some(multi)) => multi
                .commands
                .iter()
                .any(|queued| self.touches_held(queued.command, &queued.args.slices())),
            _ => self.touches_held(id, args.argv()),
        }
    }

    fn touches_held(&self, id: CommandId, argv: &[&[u8]]) -> bool {
        let command = self.table.get(id);
        let is_held = |pos: usize| argv.get(pos).is_some_and(|key| self.held.has(key));
        command.needs == Needs::AllKeys
            || keys_of(command, argv).is_some_and(|keys| keys.iter().any(|key| is_held(key.pos)))
    }

    /// Keys were released: those who wait try again, oldest first.
    pub fn resume_held(&mut self, io: &mut dyn Io) {
        for token in std::mem::take(&mut self.held.waiting) {
            self.request_again(io, token);
        }
    }
}
