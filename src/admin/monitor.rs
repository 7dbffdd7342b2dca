//! MONITOR: shows a client every command that runs. What it is shown is written by `exec/notify.rs`.

use crate::cmd::session::Marks;
use crate::cmd::spec::{Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Fault, Row};
use crate::exec::conn::Token;
use crate::exec::server::Server;
use crate::exec::{Call, ServerFn};

const NOT_HERE: Fault = Fault::new("ERR MONITOR isn't allowed for DENY BLOCKING client");

const MONITOR: Row<ServerFn> = Spec::new("monitor", 1, Group::Server)
    .flags(
        Flags::ADMIN
            .or(Flags::NOSCRIPT)
            .or(Flags::LOADING)
            .or(Flags::STALE),
    )
    .about("Shows every command that the server runs, as it runs.")
    .run(monitor);

/// MONITOR. Asked again, it says nothing, as in Redis.
pub fn monitor(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    if call.session().marks.has(Marks::DENY_BLOCKING) {
        return Err(NOT_HERE);
    }
    if !call.session().marks.has(Marks::MONITOR) {
        call.session().marks.set(Marks::MONITOR, true);
        call.server.monitors.push(call.token);
        call.reply().ok();
    }
    DONE
}

impl Server {
    /// Shows a client no more commands.
    pub fn stop_monitor(&mut self, token: Token) {
        self.monitors.retain(|&t| t != token);
        if let Some(conn) = self.conns.get_mut(token) {
            conn.session.marks.set(Marks::MONITOR, false);
        }
    }
}

pub static ROWS: &[Row<ServerFn>] = &[MONITOR];
