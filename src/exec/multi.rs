//! Transactions: MULTI queues, EXEC runs what was queued as one unit, WATCH calls it off if a
//! watched key has changed.

use crate::acl::log::Context;
use crate::acl::{Denied, Reason};
use crate::cmd::args::OwnedArgs;
use crate::cmd::fault::CmdResult;
use crate::cmd::session::{Marks, Multi, Queued};
use crate::cmd::{Args, DONE, Fault};
use crate::exec::Call;
use crate::exec::conn::Token;
use crate::exec::server::Server;
use crate::exec::table::CommandId;

const NESTED: Fault = Fault::new("ERR MULTI calls can not be nested");
const EXEC_ALONE: Fault = Fault::new("ERR EXEC without MULTI");
const DISCARD_ALONE: Fault = Fault::new("ERR DISCARD without MULTI");
const WATCH_INSIDE: Fault = Fault::new("ERR WATCH inside MULTI is not allowed");
const ABORTED: Fault = Fault::new("EXECABORT Transaction discarded because of previous errors.");

impl Multi {
    /// Adds a command.
    pub fn push(&mut self, command: CommandId, args: &Args<'_>) {
        let args = OwnedArgs::copy(args);
        self.memory += args.memory() + size_of::<Queued>();
        self.commands.push(Queued { args, command });
    }
}

impl Server {
    /// Forgets the transaction being put together and what was watched for it.
    pub fn discard_multi(&mut self, token: Token) -> Option<Box<Multi>> {
        let conn = self.conns.get_mut(token)?;
        conn.session.marks.set(Marks::DIRTY_EXEC, false);
        let multi = conn.session.multi.take();
        let id = conn.session.id;
        self.watch.unwatch_all(id);
        multi
    }

    /// True if a key that the session watches has changed or expired since.
    fn watch_broken(&mut self, token: Token) -> bool {
        let Some(conn) = self.conns.get(token) else {
            return false;
        };
        let now_ms = self.now.ms();
        self.watch.is_dirty(conn.session.id)
            || self.watch.any_expired(conn.session.id, &self.dbs, now_ms)
    }
}

/// MULTI: commands are queued from now on.
pub fn multi(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    if call.session().multi.is_some() {
        return Err(NESTED);
    }
    call.session().multi = Some(Box::default());
    call.reply().ok();
    DONE
}

/// DISCARD: forgets the queue.
pub fn discard(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    if call.session().multi.is_none() {
        return Err(DISCARD_ALONE);
    }
    call.server.discard_multi(call.token);
    call.reply().ok();
    DONE
}

/// EXEC: runs the queue as one unit, unless a command was refused or a watched key has changed.
pub fn exec(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    if call.session().multi.is_none() {
        return Err(EXEC_ALONE);
    }
    let doomed = call.session().marks.has(Marks::DIRTY_EXEC);
    let broken = call.server.watch_broken(call.token);
    let Some(mut multi) = call.server.discard_multi(call.token) else {
        return Err(EXEC_ALONE);
    };
    if doomed {
        return Err(ABORTED);
    }
    if broken {
        call.reply().null_array();
        return DONE;
    }
    let commands = std::mem::take(&mut multi.commands);
    multi.running = commands.len();
    call.session().multi = Some(multi);
    call.reply().array(commands.len());
    let may_block = call.session().marks.has(Marks::DENY_BLOCKING);
    call.session()
        .marks
        .set(Marks::DENY_BLOCKING | Marks::IN_EXEC, true);
    for queued in &commands {
        let argv = queued.args.slices();
        call.server.now.mono_ns = call.io.mono_ns();
        if let Err(denied) = call.server.may_run(call.token, queued.command, &argv) {
            no_longer_allowed(call, queued.command, &argv, denied);
            continue;
        }
        call.server.call(
            call.io,
            call.token,
            queued.command,
            Args::new(&argv, queued.args.big()),
            &[],
            0,
        );
        if call.server.conns.get(call.token).is_none() {
            return DONE;
        }
    }
    call.session().multi = None;
    call.session().marks.set(Marks::IN_EXEC, false);
    call.session().marks.set(Marks::DENY_BLOCKING, may_block);
    DONE
}

/// A command was queued when its user was allowed it: what it replies if that has changed.
#[cold]
fn no_longer_allowed(call: &mut Call<'_>, id: CommandId, argv: &[&[u8]], denied: Denied) {
    let (server, token) = (&mut *call.server, call.token);
    server.note_denied(token, id, argv, denied, Context::Multi);
    let why = match denied.reason {
        Reason::Command => "no permission to execute the command or subcommand",
        Reason::Key => "no permission to touch the specified keys",
        Reason::Channel => "no permission to access one of the channels used as arguments",
        Reason::Auth => "no permission",
    };
    server.reply_fault(
        token,
        &Fault::text(format!(
            "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This \
             command is no longer allowed for the following reason: {why}"
        )),
    );
}

/// WATCH key [key ...]: the next EXEC fails if one of them changes before it.
pub fn watch(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    if call.session().multi.is_some() {
        return Err(WATCH_INSIDE);
    }
    let (id, db) = (call.session().id, call.session().db);
    let now_ms = call.server.now.ms();
    if !call.server.watch.is_dirty(id) {
        for key in args.rest() {
            let expired = call.server.dbs.is_expired(db, key, now_ms);
            call.server.watch.watch(id, db, key, expired);
        }
    }
    call.reply().ok();
    DONE
}

/// UNWATCH: forgets what was watched.
pub fn unwatch(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    let id = call.session().id;
    call.server.watch.unwatch_all(id);
    call.reply().ok();
    DONE
}
