//! Giving way to others in the middle of a command: a script that takes long, or one that is debugged.
//!
//! The loop is polled from within ([`Io::poll`]). Whoever has called the command is neither read nor let go of meanwhile.

use crate::cmd::session::Marks;
use crate::exec::conn::Token;
use crate::exec::io::Io;
use crate::exec::server::{Now, Server};

impl Server {
    /// The caller of a slow script is not read and not let go of until it ends. Nor is the master that is followed read,
    /// which is not to be told BUSY: what it sends waits.
    pub fn protect(&mut self, caller: Token) {
        if let Some(conn) = self.conns.get_mut(caller) {
            conn.session.marks.set(Marks::PROTECTED, true);
        }
        if self.link_is_up() {
            self.hold_link(true);
        }
    }

    /// True of the caller of a script that gives way.
    pub fn is_protected(&self, token: Token) -> bool {
        let conn = self.conns.get(token);
        conn.is_some_and(|c| c.session.marks.has(Marks::PROTECTED))
    }

    /// They are read again.
    pub fn unprotect(&mut self, caller: Token) {
        if let Some(conn) = self.conns.get_mut(caller) {
            conn.session.marks.set(Marks::PROTECTED, false);
            self.reread.push(caller);
        }
        if self.link_is_up() {
            self.hold_link(false);
        }
    }

    /// Sees to other clients, from within a command.
    pub fn give_way(&mut self, io: &mut dyn Io) {
        self.put_aside(io, |server, io| io.poll(server));
    }

    /// Does something in the middle of a command. What belongs to that, its unit and its time, is put aside.
    pub fn put_aside<T>(
        &mut self,
        io: &mut dyn Io,
        f: impl FnOnce(&mut Server, &mut dyn Io) -> T,
    ) -> T {
        let (unit, now) = (self.unit.put_aside(), self.now);
        let current = self.current.take();
        let command = self.stats.command_under_way.take();
        let running = std::mem::take(&mut self.running);
        let nesting = std::mem::take(&mut self.nesting);
        self.sync_clock(io);
        let result = f(self, io);
        self.nesting = nesting;
        self.running = running;
        self.stats.command_under_way = command;
        self.current = current;
        self.now = Now {
            later_us: self.now.unix_us.saturating_sub(now.unix_us),
            ..now
        };
        // (After SHUTDOWN NOSAVE what the script has changed is not told to anybody.)
        if self.exiting.is_none() {
            self.unit.resume(unit);
        }
        result
    }
}
