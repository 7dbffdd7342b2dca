//! The gate: may this command run now? Redis's checks in Redis's order.
//!
//! Every refusal is an error reply, counted with the command; inside MULTI it also dooms the
//! transaction, because a client that pipelines would otherwise run half of it.

use std::borrow::Cow;

use crate::cmd::Args;
use crate::cmd::fault::{Fault, OOM};
use crate::cmd::keys::KeyHint;
use crate::cmd::session::Marks;
use crate::cmd::spec::Flags;
use crate::config::ProtectedAction;
use crate::exec::conn::{Parked, Token, Why};
use crate::exec::io::Io;
use crate::exec::server::Server;
use crate::exec::table::{CommandId, Needs, Resolved, is_cross_protocol};
use crate::resp::reply::Mark;

const NOAUTH: Fault = Fault::new("NOAUTH Authentication required.");
const LOADING: Fault = Fault::new("LOADING Redis is loading the dataset in memory");
const MISCONF: Fault = Fault::new(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may modify the data set are disabled, because this instance is configured to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.",
);
pub const NOREPLICAS: Fault = Fault::new("NOREPLICAS Not enough good replicas to write.");
pub const READONLY: Fault = Fault::new("READONLY You can't write against a read only replica.");
pub const MASTERDOWN: Fault =
    Fault::new("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.");
const MONITOR_KEYS: Fault = Fault::new("ERR Replica can't interact with the keyspace");
const NO_MULTI: Fault = Fault::new("ERR Command not allowed inside a transaction");

/// What the gate says to a command.
enum Verdict {
    Run,
    Queue,
    /// Another node of the cluster is to run it.
    Elsewhere(Fault),
    /// Clients are paused.
    Wait,
}

/// What the gate says to a command that was parked and is to run again.
pub enum Checked {
    Run,
    /// It has replied why not.
    Refused,
    /// It is parked again.
    Waits,
}

impl Server {
    /// A complete request of a client: through the gate, then run, queued, parked or refused.
    pub fn request(
        &mut self,
        io: &mut dyn Io,
        token: Token,
        args: Args<'_>,
        resolved: Resolved,
        hints: &[KeyHint],
    ) {
        match resolved {
            Resolved::Command(id) if self.passes(token, id, &args, hints) => {
                self.call_top(io, token, id, args, hints);
            }
            Resolved::Unknown if is_cross_protocol(args.name()) => return self.attacked(token),
            _ => {
                let replica = self
                    .conns
                    .get(token)
                    .filter(|c| c.session.marks.has(Marks::REPLICA));
                let before = replica.map(|conn| conn.reply.mark());
                self.request_checked(io, token, args, resolved, hints);
                if let Some(before) = before {
                    self.hush_replica(token, resolved, before);
                }
            }
        }
        self.end_request(token);
    }

    /// A request that has to be looked at more closely.
    #[inline(never)]
    fn request_checked(
        &mut self,
        io: &mut dyn Io,
        token: Token,
        args: Args<'_>,
        resolved: Resolved,
        hints: &[KeyHint],
    ) {
        if let Some(conn) = self.conns.get_mut(token) {
            conn.session.last_command = match resolved {
                Resolved::Command(id) => Some(id),
                Resolved::Unknown | Resolved::UnknownSub(_) => None,
            };
        }
        let checked = match resolved {
            Resolved::Command(id) => self
                .check_arity(id, &args)
                .and_then(|()| self.check(io, token, id, args.argv()))
                .map(|v| (id, v)),
            Resolved::Unknown => Err((None, unknown_command(&args))),
            Resolved::UnknownSub(parent) => {
                let name = self.table.get(parent).spec.name;
                Err((None, super::unknown_subcommand(name, args.argv()[1])))
            }
        };
        match checked {
            Ok((id, Verdict::Run)) if self.is_held_up(token, id, &args) => {
                self.postpone(token, id, &args, Why::Held);
            }
            Ok((id, Verdict::Run)) => self.call_top(io, token, id, args, hints),
            Ok((id, Verdict::Queue)) => self.queue(token, id, &args),
            Ok((id, Verdict::Elsewhere(fault))) => self.redirect(token, id, &fault),
            Ok((id, Verdict::Wait)) => self.postpone(token, id, &args, Why::Paused),
            Err((id, fault)) => self.reject(token, id, &fault),
        }
    }

    /// A replica hears nothing but the stream: one whose command had a reply is closed. (An ACK has none, but may bring
    /// more of the snapshot on its way.)
    #[cold]
    fn hush_replica(&mut self, token: Token, resolved: Resolved, before: Mark) {
        let name = match resolved {
            Resolved::Command(id) => self.table.get(id).spec.name,
            _ => "<unknown>",
        };
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        if name == "replconf" || conn.reply.mark() == before {
            return;
        }
        conn.reply.truncate(before);
        log::warn!(
            "Replica generated a reply to command '{name}', disconnecting it: {}",
            self.client_line(token)
        );
        self.doom(token);
    }

    /// The gate's short way, which nearly every request takes: a client in no special state calls a command that is
    /// open to all, and the server holds nothing back. Whoever does not pass here has [`Server::check`] look closer.
    #[inline]
    fn passes(&mut self, token: Token, id: CommandId, args: &Args<'_>, hints: &[KeyHint]) -> bool {
        let command = self.table.get(id);
        if command.flags.has(Flags::PROTECTED) || !command.takes(args.len()) {
            return false;
        }
        let limited = self.config.maxmemory > 0 || self.config.maxmemory_clients != 0;
        let paused = self.pause.all_until.is_some()
            || self.pause.write_until.is_some()
            || self.pause.for_shutdown
            || self.pause.for_failover
            || self.pause.failover_until.is_some();
        let paused = paused || !self.held.is_empty();
        let unsaved =
            self.persistence.error.is_some() || self.aof.in_trouble() || self.lacks_replicas();
        // There may be more keys tracked than there should be since CONFIG SET.
        let crowded = self.unit.tracked && self.tracking_excess() > 0;
        if limited || crowded || paused || self.loading || self.async_loading || unsaved {
            return false;
        }
        if self.cluster.is_some() && !self.is_at_home(id, args, hints) {
            return false;
        }
        let follows = self.config.replicaof.is_some();
        if command.needs == Needs::Script && follows || self.busy().is_some() {
            return false;
        }
        let refused = follows && self.replica_refuses(command.flags);
        let Some(conn) = self.conns.get_mut(token) else {
            return false;
        };
        let session = &mut conn.session;
        if !session.authenticated
            || session.multi.is_some()
            || session.subscribed()
            || session.marks.has(Marks::MONITOR | Marks::REPLICA)
            || (refused && !session.marks.has(Marks::MASTER))
            || (session.marks.has(Marks::LIMITED)
                && !session.user().is_some_and(|user| user.allows_plainly(id)))
        {
            return false;
        }
        session.last_command = Some(id);
        true
    }

    /// Asks for a command that was parked whether it may still run.
    pub fn check_again(
        &mut self,
        io: &mut dyn Io,
        token: Token,
        id: CommandId,
        args: &Args<'_>,
    ) -> Checked {
        match self.check(io, token, id, args.argv()) {
            Ok(Verdict::Run | Verdict::Queue) if self.is_held_up(token, id, args) => {
                self.postpone(token, id, args, Why::Held);
                Checked::Waits
            }
            Ok(Verdict::Run | Verdict::Queue) => Checked::Run,
            Ok(Verdict::Elsewhere(fault)) => {
                self.redirect(token, id, &fault);
                Checked::Refused
            }
            Ok(Verdict::Wait) => {
                self.postpone(token, id, args, Why::Paused);
                Checked::Waits
            }
            Err((id, fault)) => {
                self.reject(token, id, &fault);
                Checked::Refused
            }
        }
    }

    /// A browser was tricked into talking to us: the connection ends.
    #[cold]
    fn attacked(&mut self, token: Token) {
        log::warn!(
            "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis instance. Connection from {} aborted.",
            self.conns.get(token).map_or("", |c| c.peer.addr.as_str())
        );
        self.doom(token);
    }

    fn check_arity(
        &self,
        id: CommandId,
        args: &Args<'_>,
    ) -> Result<(), (Option<CommandId>, Fault)> {
        let command = self.table.get(id);
        if command.takes(args.len()) {
            return Ok(());
        }
        let name = command.spec.name;
        let text = format!("ERR wrong number of arguments for '{name}' command");
        Err((Some(id), Fault::text(text)))
    }

    /// The checks in order. The error comes with the command that counts it as rejected.
    fn check(
        &mut self,
        io: &mut dyn Io,
        token: Token,
        id: CommandId,
        argv: &[&[u8]],
    ) -> Result<Verdict, (Option<CommandId>, Fault)> {
        let refuse = |fault| Err((Some(id), fault));
        let table = self.table.clone();
        let command = table.get(id);
        let flags = self.flags_now(id, argv);
        let queued = match command.needs {
            Needs::Exec => self.queued_flags(token),
            _ => None,
        };
        let Some(conn) = self.conns.get(token) else {
            return Ok(Verdict::Wait);
        };
        let marks = conn.session.marks;
        let obeyed = marks.has(Marks::MASTER);
        let in_multi = conn.session.multi.is_some();
        if flags.has(Flags::PROTECTED) && !self.allows_protected(token, command.spec.name) {
            return refuse(protected_command(command.spec.name));
        }
        let Some(conn) = self.conns.get(token) else {
            return Ok(Verdict::Wait);
        };
        if !flags.has(Flags::NO_AUTH) && self.needs_login(&conn.session) {
            return refuse(NOAUTH);
        }
        if in_multi && flags.has(Flags::NO_MULTI) {
            return refuse(NO_MULTI);
        }
        if let Err(denied) = self.may_run(token, id, argv) {
            let context = self.acl_context(token);
            return refuse(self.note_denied(token, id, argv, denied, context));
        }
        if self.cluster.is_some()
            && !obeyed
            && let Err(away) = self.route(token, id, (flags, queued.map_or(flags, |q| q.0)), argv)
        {
            return Ok(Verdict::Elsewhere(away.fault()));
        }
        let Some(conn) = self.conns.get(token) else {
            return Ok(Verdict::Wait);
        };
        let resp2_subscriber = conn.session.subscribed() && !conn.reply.is_resp3();
        // EXEC answers for what it will run.
        let (any, missing) = queued.unwrap_or((flags, Flags(!flags.0)));
        let writes = any.has(Flags::WRITE);
        if self.config.maxmemory_clients != 0 && !self.evict_clients_for(token) {
            return Ok(Verdict::Wait);
        }
        if self.config.maxmemory > 0 {
            let short = !self.make_room(io);
            let queueing = in_multi
                && !matches!(
                    command.needs,
                    Needs::Exec | Needs::Leave | Needs::Transaction
                );
            let queueing = queueing || in_multi && matches!(command.spec.name, "multi" | "watch");
            if short && (any.has(Flags::DENYOOM) || queueing) {
                return refuse(OOM);
            }
            self.scripting.oom_before = short;
        }
        if self.unit.tracked {
            self.limit_tracking();
        }
        if (writes || command.needs == Needs::Ping)
            && let Some(fault) = self.disk_fault()
        {
            if !obeyed {
                return refuse(fault);
            }
            if writes && !self.may_run_unsaved() {
                self.end_bad_stream(io);
            }
        }
        if writes && self.lacks_replicas() {
            return refuse(NOREPLICAS);
        }
        if writes && self.config.replicaof.is_some() && self.config.replica_read_only && !obeyed {
            return refuse(READONLY);
        }
        if resp2_subscriber && !matches!(command.needs, Needs::Ping | Needs::Pubsub | Needs::Leave)
        {
            return refuse(Fault::text(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                command.spec.name
            )));
        }
        if missing.has(Flags::STALE) && self.config.replicaof.is_some() && self.data_is_stale() {
            return refuse(MASTERDOWN);
        }
        if self.loading && missing.has(Flags::LOADING) {
            if self.is_soon_loaded() {
                self.bus.load_awaited = true;
                return Ok(Verdict::Wait);
            }
            return refuse(LOADING);
        }
        if self.async_loading && any.has(Flags::NO_ASYNC_LOADING) {
            return refuse(LOADING);
        }
        if !flags.has(Flags::ALLOW_BUSY)
            && let Some(busy) = self.busy()
        {
            return refuse(busy.clone());
        }
        if marks.has(Marks::MONITOR | Marks::REPLICA) {
            // A monitor is a replica of a kind: such a one has no business with keys, and nothing holds it up.
            if any.has(Flags::WRITE | Flags::READONLY | Flags::MAY_REPLICATE) {
                return refuse(MONITOR_KEYS);
            }
        } else if self.paused_for(writes || any.has(Flags::MAY_REPLICATE)) {
            return Ok(Verdict::Wait);
        }
        let at_once = matches!(
            command.needs,
            Needs::Transaction | Needs::Exec | Needs::Leave
        );
        Ok(if in_multi && !at_once {
            Verdict::Queue
        } else {
            Verdict::Run
        })
    }

    /// The flags of all commands in a transaction: any that is set, and any that is missing.
    fn queued_flags(&self, token: Token) -> Option<(Flags, Flags)> {
        let multi = self.conns.get(token)?.session.multi.as_ref()?;
        let none = (Flags::NONE, Flags::NONE);
        Some(multi.commands.iter().fold(none, |(any, missing), q| {
            let flags = match self.table.get(q.command).needs {
                Needs::Script => self.flags_now(q.command, &q.args.slices()),
                _ => self.table.get(q.command).flags,
            };
            (any | flags, missing | Flags(!flags.0))
        }))
    }

    /// What to tell those who would write while the disk takes nothing.
    pub(super) fn disk_fault(&self) -> Option<Fault> {
        if self.writes_are_unsafe() {
            return Some(MISCONF);
        }
        let trouble = self.log_trouble()?;
        Some(Fault::text(format!(
            "MISCONF Errors writing to the AOF file: {}",
            trouble.reason
        )))
    }

    /// True if a replica does not do this for a client, as things are.
    #[cold]
    fn replica_refuses(&self, flags: Flags) -> bool {
        flags.has(Flags::WRITE) && self.config.replica_read_only || self.data_is_stale()
    }

    /// The data may be older than clients want it (`replica-serve-stale-data no`).
    pub(super) fn data_is_stale(&self) -> bool {
        !self.config.replica_serve_stale_data && !self.link_is_up()
    }

    /// True while CLIENT PAUSE holds up commands of this kind.
    #[inline]
    pub fn paused_for(&self, may_change: bool) -> bool {
        let lasts = |until: Option<u64>| until.is_some_and(|t| t > self.now.ms());
        lasts(self.pause.all_until)
            || (may_change
                && (self.pause.for_shutdown
                    || self.pause.for_failover
                    || lasts(self.pause.failover_until)
                    || lasts(self.pause.write_until)))
    }

    fn allows_protected(&self, token: Token, name: &str) -> bool {
        let setting = match name.split('|').next() {
            Some("debug") => self.config.enable_debug_command,
            Some("module") => self.config.enable_module_command,
            _ => return true,
        };
        match setting {
            ProtectedAction::Yes => true,
            ProtectedAction::No => false,
            ProtectedAction::Local => self
                .conns
                .get(token)
                .is_some_and(|c| c.peer.loopback || c.peer.unix_socket),
        }
    }

    /// Tells a client which node to ask. A transaction ends with it, as EXEC's own or by dooming it.
    #[cold]
    fn redirect(&mut self, token: Token, id: CommandId, fault: &Fault) {
        self.stats.commands[id].rejected += 1;
        if self.table.get(id).needs == Needs::Exec {
            self.discard_multi(token);
        } else if let Some(conn) = self.conns.get_mut(token)
            && conn.session.multi.is_some()
        {
            conn.session.marks.set(Marks::DIRTY_EXEC, true);
        }
        self.reply_fault(token, fault);
    }

    fn queue(&mut self, token: Token, id: CommandId, args: &Args<'_>) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        let Some(multi) = conn.session.multi.as_mut() else {
            return;
        };
        // A transaction that is called off already takes no more memory, and EXEC is not asked for what it will not run.
        let doomed = conn.session.marks.has(Marks::DIRTY_EXEC);
        if !doomed && !self.watch.is_dirty(conn.session.id) {
            multi.push(id, args);
        }
        conn.reply.status("QUEUED");
    }

    fn postpone(&mut self, token: Token, id: CommandId, args: &Args<'_>, why: Why) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        if conn.session.marks.has(Marks::CLOSE_ASAP) {
            return;
        }
        let args = crate::cmd::args::OwnedArgs::copy(args);
        match why {
            Why::Held => self.held.waiting.push(token),
            _ => self.blocked.paused.push(token),
        }
        conn.parked = Some(Box::new(Parked {
            args,
            command: id,
            why,
            spent_us: 0,
        }));
    }

    /// Replies a refusal; a transaction being put together is doomed by it.
    pub fn reject(&mut self, token: Token, id: Option<CommandId>, fault: &Fault) {
        if let Some(id) = id {
            self.stats.commands[id].rejected += 1;
        }
        let exec = id.is_some_and(|id| self.table.get(id).needs == Needs::Exec);
        if exec {
            // EXEC itself was refused: the transaction, if there is one, is over.
            self.discard_multi(token);
        }
        let aborted = || {
            let why = fault.as_bytes();
            let why = why.strip_prefix(b"ERR ").unwrap_or(why);
            [b"EXECABORT Transaction discarded because of: ", why].concat()
        };
        let text = if exec {
            Cow::Owned(aborted())
        } else {
            Cow::Borrowed(fault.as_bytes())
        };
        self.stats.error(&text);
        self.note_peer_error(token, &text);
        if let Some(conn) = self.conns.get_mut(token) {
            if conn.session.multi.is_some() {
                conn.session.marks.set(Marks::DIRTY_EXEC, true);
            }
            conn.reply.error(text);
        }
    }
}

fn protected_command(name: &str) -> Fault {
    let (command, directive) = match name.split('|').next() {
        Some("module") => ("MODULE", "enable-module-command"),
        _ => ("DEBUG", "enable-debug-command"),
    };
    Fault::text(format!(
        "ERR {command} command not allowed. If the {directive} option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server."
    ))
}

/// The reply to a name that no command has, with a taste of its arguments.
fn unknown_command(args: &Args<'_>) -> Fault {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(super::printable(args.name()));
    text.extend_from_slice(b"', with args beginning with: ");
    let mut shown = 0usize;
    for arg in &args.argv()[1..] {
        if shown >= 128 {
            break;
        }
        let part = super::printable(arg);
        let part = &part[..part.len().min(128 - shown)];
        text.push(b'\'');
        text.extend_from_slice(part);
        text.extend_from_slice(b"' ");
        shown += part.len() + 3;
    }
    Fault::text(text)
}
