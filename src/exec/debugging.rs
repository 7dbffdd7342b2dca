//! Debugging sessions of scripts (SCRIPT DEBUG).
//!
//! Whoever has switched debugging on for a connection types to the debugger ([`crate::script::debugger`]) as soon as a
//! script runs, and is let go of when it ends. There are two kinds.
//!
//! *Apart* (YES): the script runs against the data as it is now, and nothing of what it does remains. Redis forks for that.
//! Here a snapshot is a clone, and a server is a value without sockets: a thread gets both, runs the script in a server of
//! its own, and exchanges bytes with the connection, while this server goes on with everybody else.
//!
//! *In place* (SYNC): the script runs where it is, and what it changes remains. Meanwhile nobody else is served: the
//! loop is polled from within, as for a slow script, but commands of others are held up as by CLIENT PAUSE.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::acl::Users;
use crate::cmd::fault::{CmdResult, Fault};
use crate::cmd::session::Marks;
use crate::cmd::{Args, DONE};
use crate::config::Config;
use crate::db::snapshot::Snapshot;
use crate::ds::dict::HashKey;
use crate::exec::Call;
use crate::exec::acl::basis;
use crate::exec::conn::{Conn, Peer, Token};
use crate::exec::io::{Disk, Io, ProcessFacts};
use crate::exec::pipe::Wake;
use crate::exec::server::Server;
use crate::exec::table::Table;
use crate::resp::reply::Resp;
use crate::resp::request::append_command;

/// What a session says when its script could not even begin.
const NOTHING_RUN: &[u8] = b"*1\r\n+<endsession>\r\n";

/// A script that is debugged stops after so long, if `busy-reply-threshold` sets no other limit.
const TOO_LONG_MS: u64 = 5000;

/// How scripts of a connection run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Apart,
    InPlace,
}

/// A session apart, as the loop sees it.
struct Apart {
    token: Token,
    /// Of the client: its place may have another by now.
    client: u64,
    typed: Sender<Vec<u8>>,
    said: Arc<Said>,
}

/// What a session has to say, on its way to the loop.
pub struct Said {
    state: Mutex<SaidState>,
    wake: Wake,
}

#[derive(Default)]
struct SaidState {
    bytes: Vec<u8>,
    ended: bool,
}

impl Said {
    fn new(wake: Wake) -> Arc<Said> {
        Arc::new(Said {
            state: Mutex::default(),
            wake,
        })
    }

    fn lock(&self) -> MutexGuard<'_, SaidState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds bytes.
    pub fn put(&self, bytes: &[u8]) {
        self.lock().bytes.extend_from_slice(bytes);
        (self.wake)();
    }

    /// That was all. (Said by whoever is dropped, too.)
    fn end(&self) {
        self.lock().ended = true;
        (self.wake)();
    }

    /// What was added, and whether that was all.
    fn take(&self) -> (Vec<u8>, bool) {
        let mut state = self.lock();
        (std::mem::take(&mut state.bytes), state.ended)
    }
}

/// Says that a session is over, however its thread ends.
struct Ends(Arc<Said>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// All that a server of its own is made of, and what it is to run.
pub struct Copied {
    config: Config,
    process: ProcessFacts,
    disk: Arc<dyn Disk>,
    data: Snapshot,
    key: HashKey,
    /// The users, as the text of an ACL file, and which of them calls.
    users: Vec<u8>,
    user: Vec<u8>,
    db: u32,
    resp: Resp,
    command: Vec<Vec<u8>>,
    typed: Receiver<Vec<u8>>,
    said: Arc<Said>,
}

/// The debugging sessions of a server.
#[derive(Default)]
pub struct Debugging {
    apart: Vec<Apart>,
    /// This server is the one of a session apart.
    is_apart: bool,
}

/// The mode of a connection, if its scripts are debugged.
pub fn mode_of(conn: &Conn) -> Option<Mode> {
    let marks = conn.session.marks;
    match (
        marks.has(Marks::DEBUG_APART),
        marks.has(Marks::DEBUG_IN_PLACE),
    ) {
        (true, _) => Some(Mode::Apart),
        (_, true) => Some(Mode::InPlace),
        _ => None,
    }
}

/// Says how scripts of a connection run from now on; `None`: like those of others.
pub fn set_mode(conn: &mut Conn, mode: Option<Mode>) {
    let marks = &mut conn.session.marks;
    marks.set(Marks::DEBUG_APART, mode == Some(Mode::Apart));
    marks.set(Marks::DEBUG_IN_PLACE, mode == Some(Mode::InPlace));
}

/// Runs a script where it is. `run` does, and is told whether anything came of it: then the debugger has said its last
/// word.
pub fn in_place(
    call: &mut Call<'_>,
    run: impl FnOnce(&mut Call<'_>) -> (CmdResult, bool),
) -> CmdResult {
    let caller = call.token;
    let is_apart = call.server.debugging.is_apart;
    if !is_apart {
        log::info!("Redis synchronous debugging eval session started");
    }
    let pause = call.server.pause.all_until.replace(u64::MAX);
    call.server.types_to_debugger(caller, true);
    call.server.protect(caller);
    let (result, ran) = run(call);
    call.server.unprotect(caller);
    call.server.types_to_debugger(caller, false);
    call.server.pause.all_until = pause;
    call.server.pause.eased = true;
    if !ran {
        call.reply().raw(NOTHING_RUN);
    }
    if !is_apart {
        log::info!("Redis synchronous debugging eval session ended");
    }
    call.server.close_after_reply(caller);
    result
}

/// Starts a session apart. It replies in its own time.
pub fn apart(call: &mut Call<'_>, args: &Args<'_>) -> CmdResult {
    let token = call.token;
    let refuse = |why: &str| {
        Err(Fault::text(format!(
            "ERR Fork() failed: can't run EVAL in debugging mode: {why}"
        )))
    };
    let Some(conn) = call.server.conns.get_mut(token) else {
        return DONE;
    };
    set_mode(conn, None);
    if conn.session.multi.is_some() {
        return refuse("a transaction is running");
    }
    let user = conn.session.user().map(|user| user.name().to_vec());
    let (client, db, resp) = (conn.session.id, conn.session.db, conn.reply.resp());
    let (to_debugger, typed) = channel();
    let said = Said::new(call.io.wake());
    let copy = Copied {
        config: quiet(call.server.config.clone()),
        process: call.server.process.clone(),
        disk: call.io.disk(),
        data: call.server.dbs.snapshot(),
        key: call.server.dbs.key_of_tables(),
        users: call.server.acl.users.text(),
        user: user.unwrap_or_default(),
        db,
        resp,
        command: args.argv().iter().map(|arg| arg.to_vec()).collect(),
        typed,
        said: said.clone(),
    };
    if let Err(why) = call.io.debug_apart(Box::new(copy)) {
        return refuse(&why);
    }
    log::info!("A debugging session begins, on a snapshot of the data");
    call.server.types_to_debugger(token, true);
    call.server.debugging.apart.push(Apart {
        token,
        client,
        typed: to_debugger,
        said,
    });
    DONE
}

/// The configuration of a server whose data nobody keeps.
fn quiet(mut config: Config) -> Config {
    config.save.clear();
    config.appendonly = false;
    config.replicaof = None;
    config.cluster_enabled = false;
    config.maxmemory = 0;
    config.min_replicas_to_write = 0;
    config
}

impl Server {
    /// What a connection sends is for a debugger, or commands again.
    fn types_to_debugger(&mut self, token: Token, yes: bool) {
        if let Some(conn) = self.conns.get_mut(token) {
            conn.session.marks.set(Marks::DEBUGGED, yes);
        }
    }

    /// What the caller of the running script has typed. It is waited for, and others are seen to meanwhile. `None`: the
    /// caller is gone.
    pub fn typed(&mut self, io: &mut dyn Io) -> Option<Vec<u8>> {
        let caller = self.scripting.running.as_ref()?.caller;
        loop {
            let conn = self.conns.get_mut(caller)?;
            if !conn.input.is_empty() {
                return Some(std::mem::take(&mut conn.input));
            }
            let is_gone = conn.session.marks.has(Marks::CLOSE_ASAP);
            if is_gone || self.exiting.is_some() {
                return None;
            }
            if !self.put_aside(io, |server, io| io.wait_for_input(server, caller)) {
                return None;
            }
        }
    }

    /// Sends the caller of the running script what the debugger says.
    pub fn show_debugging(&mut self, bytes: &[u8]) {
        let running = self.scripting.running.as_ref();
        if let Some(caller) = running.map(|running| running.caller)
            && let Some(conn) = self.conns.get_mut(caller)
        {
            conn.reply.raw(bytes);
            self.wants_write(caller);
        }
    }

    /// True if the running script has gone on for too long since it last stopped.
    pub fn is_overdue(&self, io: &dyn Io) -> bool {
        let limit_ms = match self.config.busy_reply_threshold {
            0 => TOO_LONG_MS,
            threshold_ms => threshold_ms,
        };
        let now_ns = io.mono_ns();
        let running = self.scripting.running.as_ref();
        running.is_some_and(|r| now_ns.saturating_sub(r.started_ns) / 1_000_000 >= limit_ms)
    }

    /// Carries bytes between sessions apart and their connections.
    pub fn tend_debugging(&mut self) {
        if self.debugging.apart.is_empty() {
            return;
        }
        let mut sessions = std::mem::take(&mut self.debugging.apart);
        sessions.retain(|session| self.tend_session(session));
        self.debugging.apart = sessions;
    }

    /// Whether the session goes on. (One whose connection is gone learns it from the end of what is typed.)
    fn tend_session(&mut self, session: &Apart) -> bool {
        let conn = self.conns.get_mut(session.token);
        let theirs = |conn: &&mut Conn| {
            conn.session.id == session.client && !conn.session.marks.has(Marks::CLOSE_ASAP)
        };
        let Some(conn) = conn.filter(theirs) else {
            return false;
        };
        if !conn.input.is_empty() {
            // (It may have ended: then nobody reads it any more.)
            let _ = session.typed.send(std::mem::take(&mut conn.input));
        }
        let (bytes, ended) = session.said.take();
        conn.reply.raw(&bytes);
        self.wants_write(session.token);
        if ended {
            log::info!("A debugging session ends");
            self.close_when_written(session.token);
        }
        !ended
    }

    /// Closes a connection once its output is written, be it nothing.
    fn close_when_written(&mut self, token: Token) {
        match self.conns.get(token).map(|conn| conn.reply.is_empty()) {
            Some(true) => self.doom(token),
            _ => self.close_after_reply(token),
        }
    }
}

/// A session apart, on a thread of its own: runs the script in a server that ends with it. `outside` makes the world of
/// that server.
pub fn run_apart<I: Io>(copy: Copied, table: Table, outside: impl FnOnce(Inside) -> I) {
    let ends = Ends(copy.said.clone());
    let inside = Inside {
        process: copy.process,
        disk: copy.disk,
        typed: copy.typed,
        said: copy.said,
    };
    let mut io = outside(inside);
    let mut server = Server::new(copy.config, table, 0, &io);
    server.debugging.is_apart = true;
    server.dbs.become_copy(&copy.data, copy.key);
    // (What the main server wrote, this one can read.)
    if let Ok(users) = Users::read(&copy.users, "", basis(&server.table, &server.config)) {
        server.acl.users = users;
    }
    let peer = Peer {
        unix_socket: true,
        ..Peer::default()
    };
    let Ok(token) = server.connect(peer) else {
        return;
    };
    let user = server.acl.users.get(&copy.user).cloned();
    if let Some(conn) = server.conns.get_mut(token) {
        conn.session.set_user(user);
        conn.session.authenticated = true;
        conn.session.db = copy.db;
        conn.reply.set_resp(copy.resp);
        set_mode(conn, Some(Mode::InPlace));
    }
    let mut bytes = Vec::new();
    append_command(&copy.command, &mut bytes);
    server.feed(&mut io, token, &bytes);
    ends.0.put(&said_by(&mut server, token));
}

/// What a server of its own has to tell its only client.
pub fn said_by(server: &mut Server, token: Token) -> Vec<u8> {
    let Some(conn) = server.conns.get_mut(token) else {
        return Vec::new();
    };
    let bytes = conn.reply.to_vec();
    conn.reply.clear();
    bytes
}

/// What a session apart has of the outside.
pub struct Inside {
    pub process: ProcessFacts,
    pub disk: Arc<dyn Disk>,
    typed: Receiver<Vec<u8>>,
    said: Arc<Said>,
}

impl Inside {
    /// Sends what the server has to say, and waits for what is typed next. `false`: nothing more will come.
    pub fn converse(&mut self, io: &mut dyn Io, server: &mut Server, token: Token) -> bool {
        self.said.put(&said_by(server, token));
        match self.typed.recv() {
            Ok(bytes) => {
                server.feed(io, token, &bytes);
                true
            }
            Err(_) => false,
        }
    }
}
