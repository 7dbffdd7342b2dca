//! What clients hear of a unit: keyspace notifications, and MONITOR.

use crate::base::quoted;
use crate::cmd::Args;
use crate::cmd::session::Marks;
use crate::config::NotifyFlags;
use crate::exec::conn::{Conn, Token};
use crate::exec::server::Server;

impl Server {
    /// Publishes the notifications that the unit gathered, in the order in which they came up.
    pub fn deliver_events(&mut self) {
        let wanted = self.config.notify_keyspace_events;
        for event in std::mem::take(&mut self.unit.events) {
            if wanted.intersects(NotifyFlags::KEYSPACE) {
                let channel =
                    [format!("__keyspace@{}__:", event.db).as_bytes(), &event.key].concat();
                self.publish(&channel, event.name.as_bytes());
            }
            if wanted.intersects(NotifyFlags::KEYEVENT) {
                let channel = format!("__keyevent@{}__:{}", event.db, event.name);
                self.publish(channel.as_bytes(), &event.key);
            }
        }
    }

    /// Shows a command to all monitors: time, database, who, and the arguments quoted.
    pub fn feed_monitors(&mut self, token: Token, args: &Args<'_>) {
        let Some(conn) = self.conns.get(token) else {
            return;
        };
        let us = self.now.unix_us;
        let who = match conn.session.marks.has(Marks::UNIX_SOCKET) {
            _ if conn.session.marks.has(Marks::SCRIPT) => "lua".to_string(),
            true => format!("unix:{}", conn.peer.addr.trim_end_matches(":0")),
            false => conn.peer.addr.clone(),
        };
        let mut line = format!(
            "{}.{:06} [{} {}]",
            us / 1_000_000,
            us % 1_000_000,
            conn.session.db,
            who
        );
        for arg in self.slowlog.readable(args.argv()) {
            line.push(' ');
            line.push_str(&quoted::quote(arg));
        }
        for monitor in self.monitors.clone() {
            // Unlike a message this is a reply, which CLIENT REPLY OFF silences.
            let silent = |c: &Conn| c.session.marks.has(Marks::REPLY_OFF | Marks::REPLY_SKIP);
            if !self.conns.get(monitor).is_some_and(silent) {
                self.push_to(monitor, |reply| reply.status(&line));
            }
        }
    }
}
