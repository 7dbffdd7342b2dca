//! Scripts as the server runs them.
//!
//! The interpreter is taken out of the server for the run and lent the server in return ([`Stage`]). A script's commands
//! come back through [`Server::call`] like those of a transaction, in a session that has no connection, so that what they
//! change belongs to the unit of the EVAL or FCALL that is running. They do not pass the gate: what it would ask has been
//! asked for the script as a whole, and the rest is asked here, in Redis's order.
//!
//! A script that runs for longer than `busy-reply-threshold` goes on, but every so many instructions it gives way: the
//! loop is polled from within ([`Io::poll`]), others are told BUSY, and may have it killed as long as it has written
//! nothing.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::Bytes;

use crate::acl::log::Context;
use crate::base::slot::Slot;
use crate::cmd::args::OwnedArgs;
use crate::cmd::fault::{CmdResult, Fault, OOM};
use crate::cmd::session::Marks;
use crate::cmd::spec::Flags;
use crate::cmd::{Args, DONE};
use crate::exec::conn::{Conn, Peer, Token};
use crate::exec::gate::{NOREPLICAS, READONLY};
use crate::exec::io::Io;
use crate::exec::server::Server;
use crate::exec::table::{CommandId, Needs, Resolved};
use crate::exec::{Call, gate};
use crate::resp::reply::Resp;
use crate::script::cache::{Script, ScriptCache, Sha};
use crate::script::dice::Dice;
use crate::script::flags::{ScriptFlags, shebang};
use crate::script::host::{Host, NoSuchCommand, Refusal, Turn};
use crate::script::library::{Function, Libraries, Policy};
use crate::script::vm::{Failure, Invocation, Purpose, Vm};

const UNKILLABLE: Fault = Fault::new(
    "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
);
const UNKILLABLE_MASTER: Fault = Fault::new(
    "UNKILLABLE The busy script was sent by a master instance in the context of replication and cannot be killed.",
);
const NOTBUSY: Fault = Fault::new("NOTBUSY No scripts in execution right now.");
static BUSY_EVAL: Fault = Fault::new(
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
);
static BUSY_FUNCTION: Fault = Fault::new(
    "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
);
const KILLED: &str = "Script killed by user with SCRIPT KILL...";
const NESTED: Fault = Fault::new("ERR Scripts can not run scripts");
/// FUNCTION LOAD gives the code of a library so long to register its functions.
const LOAD_TIMEOUT_NS: u64 = 500_000_000;

/// What a running script is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Sha(Sha),
    Function(Bytes),
}

impl Name {
    /// As errors and logs say it.
    pub fn text(&self) -> &str {
        let bytes = match self {
            Name::Sha(sha) => &sha[..],
            Name::Function(name) => &name[..],
        };
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

/// The script that is running.
#[derive(Debug)]
pub struct Running {
    pub name: Name,
    pub purpose: Purpose,
    pub caller: Token,
    /// Its caller is a master, or the log.
    pub obeyed: bool,
    pub read_only: bool,
    pub allow_oom: bool,
    /// Its commands may name keys of several slots.
    pub across_slots: bool,
    /// It has called a command that writes: it can be killed no more.
    pub wrote: bool,
    pub killed: bool,
    /// On the monotonic clock.
    pub started_ns: u64,
    /// It takes too long; then, what called it.
    pub slow: Option<OwnedArgs>,
}

/// All that the server has of scripts. See the head of the file.
pub struct Scripting {
    pub cache: ScriptCache,
    pub libraries: Libraries,
    pub running: Option<Running>,
    /// Memory was short when the running command came, and nothing could be done about it.
    pub oom_before: bool,
    /// Each is made when first needed, and away while it runs.
    eval: Option<Box<Vm>>,
    functions: Option<Box<Vm>>,
    /// Bytes of the two when last seen.
    eval_bytes: usize,
    function_bytes: usize,
    dice: Rc<Dice>,
    session: Option<Token>,
    seed: u64,
    /// The slot of the keys that the running request has named: its scripts keep to it.
    pub slot: Option<Slot>,
}

impl Scripting {
    pub fn new(seed: u64) -> Scripting {
        Scripting {
            cache: ScriptCache::new(seed),
            libraries: Libraries::default(),
            running: None,
            oom_before: false,
            eval: None,
            functions: None,
            eval_bytes: 0,
            function_bytes: 0,
            dice: Rc::default(),
            session: None,
            seed,
            slot: None,
        }
    }

    fn place(&mut self, purpose: Purpose) -> &mut Option<Box<Vm>> {
        match purpose {
            Purpose::Eval => &mut self.eval,
            Purpose::Functions => &mut self.functions,
        }
    }

    /// Takes an interpreter out; [`Scripting::put_back`] is to follow. `None` while a script runs in it.
    pub fn take(&mut self, purpose: Purpose) -> Option<Box<Vm>> {
        if self.running.as_ref().is_some_and(|r| r.purpose == purpose) {
            return None;
        }
        let dice = self.dice.clone();
        let vm = self.place(purpose).take();
        Some(vm.unwrap_or_else(|| Box::new(Vm::new(purpose, dice))))
    }

    /// Gives an interpreter back.
    pub fn put_back(&mut self, purpose: Purpose, vm: Box<Vm>) {
        let bytes = vm.memory();
        match purpose {
            Purpose::Eval => self.eval_bytes = bytes,
            Purpose::Functions => self.function_bytes = bytes,
        }
        *self.place(purpose) = Some(vm);
    }

    /// Does something to libraries and the interpreter they live in. `None` while a function runs there.
    pub fn with_functions<T>(&mut self, f: impl FnOnce(&mut Vm, &mut Libraries) -> T) -> Option<T> {
        let mut vm = self.take(Purpose::Functions)?;
        let result = f(&mut vm, &mut self.libraries);
        self.put_back(Purpose::Functions, vm);
        Some(result)
    }

    /// Removes all libraries, with the interpreter that they live in.
    pub fn flush_functions(&mut self) {
        self.libraries = Libraries::default();
        self.functions = None;
        self.function_bytes = 0;
    }

    /// Forgets all scripts of EVAL, with the interpreter that they live in.
    pub fn flush_scripts(&mut self) {
        self.cache = ScriptCache::new(self.seed);
        self.eval = None;
        self.eval_bytes = 0;
    }

    /// Bytes of the interpreters: for scripts, and for functions.
    pub fn vm_memory(&self) -> (usize, usize) {
        (self.eval_bytes, self.function_bytes)
    }

    /// The script that EVAL, EVALSHA or FCALL would run: what it has said of itself.
    fn flags_of(&self, command: &str, argv: &[&[u8]]) -> Option<ScriptFlags> {
        let what = argv.get(1)?;
        match command {
            "eval" | "eval_ro" => match self.cache.by_text(what) {
                Some(script) => Some(script.flags),
                None => shebang(what).ok().map(|(flags, _)| flags),
            },
            "evalsha" | "evalsha_ro" => self.cache.by_sha(what).map(|script| script.flags),
            _ => self.libraries.function(what).map(|function| function.flags),
        }
    }
}

/// What is to be run, and how.
pub struct Start<'a> {
    pub purpose: Purpose,
    pub name: Name,
    pub function: i32,
    pub flags: ScriptFlags,
    /// The command ends in `_RO`.
    pub read_only: bool,
    pub keys: &'a [&'a [u8]],
    pub args: &'a [&'a [u8]],
    /// The text of a script that is to be debugged.
    pub debugged: Option<&'a [u8]>,
}

impl<'a> Start<'a> {
    /// A run of a script.
    pub fn script(
        script: Script,
        read_only: bool,
        keys: &'a [&'a [u8]],
        args: &'a [&'a [u8]],
    ) -> Self {
        Start {
            purpose: Purpose::Eval,
            name: Name::Sha(script.sha),
            function: script.function,
            flags: script.flags,
            read_only,
            keys,
            args,
            debugged: None,
        }
    }

    /// A run of a function.
    pub fn function(
        f: &Function,
        read_only: bool,
        keys: &'a [&'a [u8]],
        args: &'a [&'a [u8]],
    ) -> Self {
        Start {
            purpose: Purpose::Functions,
            name: Name::Function(f.name.clone()),
            function: f.callback,
            flags: f.flags,
            read_only,
            keys,
            args,
            debugged: None,
        }
    }
}

impl Server {
    /// The flags that a command has with these arguments: those that run scripts are what their script says.
    #[inline]
    pub fn flags_now(&self, id: CommandId, argv: &[&[u8]]) -> Flags {
        let command = self.table.get(id);
        if command.needs != Needs::Script {
            return command.flags;
        }
        let flags = self.scripting.flags_of(command.spec.name, argv);
        flags.map_or(command.flags, |flags| flags.of_command(command.flags))
    }

    /// Who is behind a session: of the one of scripts, who has called the script.
    pub fn external(&self, token: Token) -> Token {
        match &self.scripting.running {
            Some(running) if self.scripting.session == Some(token) => running.caller,
            _ => token,
        }
    }

    /// What others hear while a script takes too long.
    pub fn busy(&self) -> Option<&'static Fault> {
        let running = self.scripting.running.as_ref()?;
        running.slow.as_ref()?;
        Some(match running.purpose {
            Purpose::Eval => &BUSY_EVAL,
            Purpose::Functions => &BUSY_FUNCTION,
        })
    }

    /// SCRIPT KILL and FUNCTION KILL: the script that takes too long ends.
    pub fn kill_script(&mut self, purpose: Purpose) -> Result<(), Fault> {
        let running = self.scripting.running.as_mut().ok_or(NOTBUSY)?;
        if running.obeyed {
            return Err(UNKILLABLE_MASTER);
        }
        if running.wrote {
            return Err(UNKILLABLE);
        }
        match (purpose, running.purpose) {
            (Purpose::Eval, Purpose::Functions) => Err(BUSY_FUNCTION.clone()),
            (Purpose::Functions, Purpose::Eval) => Err(BUSY_EVAL.clone()),
            _ => {
                running.killed = true;
                Ok(())
            }
        }
    }

    /// Adds the libraries of these texts to those that there are, all or none; or the text of the error.
    pub fn add_libraries(
        &mut self,
        io: &dyn Io,
        texts: &[Vec<u8>],
        policy: Policy,
    ) -> Result<(), Vec<u8>> {
        if texts.is_empty() && policy == Policy::Flush {
            self.scripting.flush_functions();
        }
        if texts.is_empty() {
            return Ok(());
        }
        let mut host = Loading {
            io,
            started_ns: io.mono_ns(),
            limited: false,
        };
        let added = self.scripting.with_functions(|vm, libraries| {
            let mut others = Libraries::default();
            for text in texts {
                if let Err(why) = others.load(vm, &mut host, text, false) {
                    others.clear(vm);
                    return Err(why);
                }
            }
            libraries.join(vm, others, policy)
        });
        added.unwrap_or_else(|| Err(NESTED.as_bytes().to_vec()))
    }

    /// Asks for a script as a whole what the gate asks for a command.
    fn prepare_script(&self, start: &Start<'_>, caller: Token) -> Result<Running, Fault> {
        let marks = self
            .conns
            .get(caller)
            .map(|c| c.session.marks)
            .unwrap_or_default();
        let obeyed = marks.has(Marks::MASTER);
        let flags = start.flags;
        let stale = self.config.replicaof.is_some() && self.data_is_stale();
        let writes = !flags.has(ScriptFlags::NO_WRITES);
        if flags.has(ScriptFlags::COMPAT) {
            if stale {
                return Err(gate::MASTERDOWN);
            }
        } else {
            if flags.has(ScriptFlags::NO_CLUSTER) && self.config.cluster_enabled {
                return Err(Fault::new(
                    "ERR Can not run script on cluster, 'no-cluster' flag is set.",
                ));
            }
            if stale && !flags.has(ScriptFlags::ALLOW_STALE) {
                return Err(STALE);
            }
            if writes {
                self.prepare_writing(start, obeyed)?;
            }
            let oom_matters = writes && !flags.has(ScriptFlags::ALLOW_OOM);
            if oom_matters && !obeyed && self.scripting.oom_before && self.config.maxmemory > 0 {
                return Err(NO_ROOM);
            }
        }
        let told = |flag| !flags.has(ScriptFlags::COMPAT) && flags.has(flag);
        Ok(Running {
            name: start.name.clone(),
            purpose: start.purpose,
            caller,
            obeyed,
            read_only: start.read_only || told(ScriptFlags::NO_WRITES),
            allow_oom: told(ScriptFlags::ALLOW_OOM),
            across_slots: flags.has(ScriptFlags::COMPAT | ScriptFlags::ALLOW_CROSS_SLOT),
            wrote: false,
            killed: false,
            started_ns: self.now.mono_ns,
            slow: None,
        })
    }

    fn prepare_writing(&self, start: &Start<'_>, obeyed: bool) -> Result<(), Fault> {
        if self.config.replicaof.is_some() && self.config.replica_read_only && !obeyed {
            return Err(Fault::new(
                "READONLY Can not run script with write flag on readonly replica",
            ));
        }
        if !obeyed {
            if self.writes_are_unsafe() {
                return Err(MISCONF_RDB);
            }
            if let Some(trouble) = self.log_trouble() {
                return Err(Fault::text(format!("{MISCONF_AOF}{}", trouble.reason)));
            }
        }
        if start.read_only {
            return Err(Fault::new(
                "ERR Can not execute a script with write flag using *_ro command.",
            ));
        }
        if self.lacks_replicas() {
            return Err(NOREPLICAS);
        }
        Ok(())
    }

    /// The session of scripts, ready for one that this connection has called.
    fn script_session(&mut self, caller: Token) -> Token {
        let token = match self.scripting.session {
            Some(token) => token,
            None => {
                let mut conn = Conn::new(0, Peer::default(), self.now.s());
                conn.session.authenticated = true;
                conn.session
                    .marks
                    .set(Marks::HEADLESS | Marks::SCRIPT | Marks::DENY_BLOCKING, true);
                let token = self.conns.insert(conn);
                self.scripting.session = Some(token);
                token
            }
        };
        let (db, user, marks) = match self.conns.get(caller) {
            Some(c) => (c.session.db, c.session.user().cloned(), c.session.marks),
            None => (0, None, Marks::NONE),
        };
        if let Some(conn) = self.conns.get_mut(token) {
            conn.session.db = db;
            conn.session.set_user(user);
            conn.reply.set_resp(Resp::V2);
            for mark in [Marks::MASTER, Marks::NO_PROPAGATE, Marks::NO_TOUCH] {
                conn.session.marks.set(mark, marks.has(mark));
            }
        }
        token
    }
}

const STALE: Fault = Fault::new(
    "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag is not set on the script.",
);
const NO_ROOM: Fault = Fault::new(
    "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
);
const MISCONF_RDB: Fault = Fault::new(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Writable scripts are blocked. Use 'no-writes' flag for read only scripts.",
);
const MISCONF_AOF: &str = "MISCONF Redis is configured to persist data to AOF, but it's currently unable to persist to disk. Writable scripts are blocked. Use 'no-writes' flag for read only scripts. AOF error: ";

/// Runs a script or a function and replies what it returns.
pub fn run(call: &mut Call<'_>, args: &Args<'_>, start: &Start<'_>) -> CmdResult {
    run_told(call, args, start).0
}

/// The same, and says whether it came so far as to run.
pub fn run_told(call: &mut Call<'_>, args: &Args<'_>, start: &Start<'_>) -> (CmdResult, bool) {
    let server = &mut *call.server;
    if server.scripting.running.is_some() {
        return (Err(NESTED), false);
    }
    let running = match server.prepare_script(start, call.token) {
        Ok(running) => running,
        Err(fault) => return (Err(fault), false),
    };
    match server.scripting.take(start.purpose) {
        Some(vm) => (run_in(call, args, start, running, vm), true),
        None => (Err(NESTED), false),
    }
}

fn run_in(
    call: &mut Call<'_>,
    args: &Args<'_>,
    start: &Start<'_>,
    running: Running,
    mut vm: Box<Vm>,
) -> CmdResult {
    let caller = call.token;
    let session = call.server.script_session(caller);
    call.server.scripting.running = Some(running);
    let name = start.name.clone();
    let invocation = Invocation {
        function: start.function,
        name: name.text(),
        keys: start.keys,
        args: start.args,
        timed: call.server.config.busy_reply_threshold > 0,
        debugged: start.debugged,
    };
    let mut stage = Stage {
        server: &mut *call.server,
        io: &mut *call.io,
        session,
        args,
        to_log: true,
        to_replicas: true,
    };
    let result = vm.run(&invocation, &mut stage);
    let server = &mut *call.server;
    if let Some(running) = server.scripting.running.take()
        && running.slow.is_some()
    {
        server.unprotect(caller);
    }
    let resp3 = server
        .conns
        .get(session)
        .is_some_and(|c| c.reply.is_resp3());
    let (errors, counted) = match (&result, server.conns.get_mut(caller)) {
        (Ok(()), Some(conn)) => vm.reply(&mut conn.reply, resp3),
        _ => (Vec::new(), 0),
    };
    server.scripting.put_back(start.purpose, vm);
    // An error that was counted where it came up still is a failure of this command.
    let id = call.command();
    call.server.stats.commands[id].failed += counted + u64::from(!errors.is_empty());
    for error in errors {
        call.server.stats.error(&error);
        call.server.note_peer_error(caller, &error);
    }
    match result {
        Ok(()) => DONE,
        Err(Failure {
            text,
            counted: true,
        }) => {
            call.server.stats.commands[id].failed += 1;
            call.reply().error(&text);
            DONE
        }
        Err(Failure { text, .. }) => Err(Fault::text(text)),
    }
}

/// The server as a running script has it.
pub struct Stage<'a> {
    server: &'a mut Server,
    io: &'a mut dyn Io,
    session: Token,
    /// Of EVAL or FCALL.
    args: &'a Args<'a>,
    to_log: bool,
    to_replicas: bool,
}

impl Stage<'_> {
    /// A command is not run, for this reason.
    #[cold]
    fn refuse(&mut self, id: Option<CommandId>, why: Refusal) -> Result<(), Refusal> {
        let counted: &[u8] = why.strip_prefix(b"-").unwrap_or(b"ERR");
        self.server.stats.error(counted);
        if let Some(id) = id {
            self.server.stats.commands[id].rejected += 1;
        }
        Err(why)
    }

    /// What the gate would ask of a command, as far as a script has to be asked.
    fn check(&mut self, id: CommandId, flags: Flags, argv: &[&[u8]]) -> Result<(), Refusal> {
        let server = &mut *self.server;
        let Some(running) = server.scripting.running.as_ref() else {
            return Ok(());
        };
        if flags.has(Flags::NOSCRIPT) && !server.scripts_may_all {
            return plain("This Redis command is not allowed from script");
        }
        let stale = server.config.replicaof.is_some() && server.data_is_stale();
        if stale && !flags.has(Flags::STALE) {
            return plain("Can not execute the command on a stale replica");
        }
        if let Err(denied) = server.may_run(self.session, id, argv) {
            let caller = running.caller;
            let fault = server.note_denied(caller, id, argv, denied, Context::Lua);
            let why = fault.as_bytes();
            let why = why.strip_prefix(b"NOPERM ").unwrap_or(why);
            return Err(Cow::Owned([b"ACL failure in script: ", why].concat()));
        }
        if running.read_only && flags.has(Flags::WRITE | Flags::MAY_REPLICATE) {
            return plain("Write commands are not allowed from read-only scripts.");
        }
        if running.wrote {
            return Ok(());
        }
        if flags.has(Flags::WRITE) {
            let config = &server.config;
            if config.replicaof.is_some() && config.replica_read_only && !running.obeyed {
                return coded(&READONLY);
            }
            if let Some(fault) = server.disk_fault() {
                return coded(&fault);
            }
            if server.lacks_replicas() {
                return coded(&NOREPLICAS);
            }
        }
        let short = server.config.maxmemory > 0 && server.scripting.oom_before;
        if short && flags.has(Flags::DENYOOM) && !running.allow_oom && !running.obeyed {
            return coded(&OOM);
        }
        Ok(())
    }
}

fn plain(text: &'static str) -> Result<(), Refusal> {
    Err(Cow::Borrowed(text.as_bytes()))
}

fn coded(fault: &Fault) -> Result<(), Refusal> {
    Err(Cow::Owned([b"-", fault.as_bytes()].concat()))
}

impl Host for Stage<'_> {
    fn call(&mut self, argv: &[&[u8]], reply: &mut dyn FnMut(&[u8])) -> Result<(), Refusal> {
        let Resolved::Command(id) = self.server.table.resolve(argv) else {
            return self.refuse(
                None,
                Cow::Borrowed(b"Unknown Redis command called from script"),
            );
        };
        let command = self.server.table.get(id);
        let flags = command.flags;
        if !command.takes(argv.len()) {
            let why = b"Wrong number of args calling Redis command from script";
            return self.refuse(Some(id), Cow::Borrowed(why));
        }
        if let Err(why) = self.check(id, flags, argv) {
            return self.refuse(Some(id), why);
        }
        if flags.has(Flags::WRITE)
            && let Some(running) = &mut self.server.scripting.running
        {
            running.wrote = true;
        }
        if self.server.cluster.is_some()
            && let Err(why) = self.server.route_from_script(id, argv)
        {
            return self.refuse(Some(id), Cow::Borrowed(why.as_bytes()));
        }
        let server = &mut *self.server;
        server.now.mono_ns = self.io.mono_ns();
        let ops_before = server.unit.ops.len();
        server.call(self.io, self.session, id, Args::new(argv, &[]), &[], 0);
        if !(self.to_log && self.to_replicas) {
            let (to_log, to_replicas) = (self.to_log, self.to_replicas);
            server.unit.ops.narrow(ops_before, to_log, to_replicas);
        }
        if let Some(conn) = server.conns.get_mut(self.session) {
            match conn.reply.only_piece() {
                Some(bytes) => reply(bytes),
                None => reply(&conn.reply.to_vec()),
            }
            conn.reply.clear();
        }
        Ok(())
    }

    fn set_resp(&mut self, version: u8) {
        if let Some(conn) = self.server.conns.get_mut(self.session) {
            conn.reply
                .set_resp(if version == 3 { Resp::V3 } else { Resp::V2 });
        }
    }

    fn set_repl(&mut self, log: bool, replicas: bool) {
        (self.to_log, self.to_replicas) = (log, replicas);
    }

    fn may_run(&mut self, argv: &[&[u8]]) -> Result<bool, NoSuchCommand> {
        match self.server.table.resolve(argv) {
            Resolved::Command(id) => Ok(self.server.may_run(self.session, id, argv).is_ok()),
            _ => Err(NoSuchCommand),
        }
    }

    fn turn(&mut self) -> Turn {
        let threshold_ms = self.server.config.busy_reply_threshold;
        let now_ns = self.io.mono_ns();
        let Some(running) = &mut self.server.scripting.running else {
            return Turn::GoesOn;
        };
        if running.slow.is_none() {
            let ms = now_ns.saturating_sub(running.started_ns) / 1_000_000;
            if ms < threshold_ms {
                return Turn::GoesOn;
            }
            let command = match running.purpose {
                Purpose::Eval => "SCRIPT KILL",
                Purpose::Functions => "FUNCTION KILL",
            };
            log::warn!(
                "Slow script detected: still in execution after {ms} milliseconds. You can try killing the script using the {command} command. Script name is: {}.",
                running.name.text()
            );
            running.slow = Some(OwnedArgs::copy(self.args));
            let caller = running.caller;
            self.server.protect(caller);
        }
        self.server.give_way(self.io);
        if self.server.exiting.is_some() {
            // The process ends without what the script has done so far.
            return Turn::Ends(KILLED);
        }
        match &self.server.scripting.running {
            Some(running) if running.killed => {
                log::info!("Lua script killed by user with SCRIPT KILL.");
                Turn::Ends(KILLED)
            }
            _ => Turn::GoesOn,
        }
    }

    fn typed(&mut self) -> Option<Vec<u8>> {
        self.server.typed(self.io)
    }

    fn show(&mut self, bytes: &[u8]) {
        self.server.show_debugging(bytes);
    }

    fn is_overdue(&mut self) -> bool {
        self.server.is_overdue(self.io)
    }

    fn begins_anew(&mut self) {
        let now_ns = self.io.mono_ns();
        if let Some(running) = &mut self.server.scripting.running {
            running.started_ns = now_ns;
        }
    }
}

/// The server as the code of a library has it while it registers its functions: it can call nothing.
pub struct Loading<'a> {
    pub io: &'a dyn Io,
    pub started_ns: u64,
    /// The code comes from a client, who waits for it.
    pub limited: bool,
}

impl Host for Loading<'_> {
    fn call(&mut self, _: &[&[u8]], _: &mut dyn FnMut(&[u8])) -> Result<(), Refusal> {
        plain("redis.call/pcall can only be called inside a script invocation")
    }
    fn set_resp(&mut self, _: u8) {}
    fn set_repl(&mut self, _: bool, _: bool) {}
    fn may_run(&mut self, _: &[&[u8]]) -> Result<bool, NoSuchCommand> {
        Err(NoSuchCommand)
    }
    fn turn(&mut self) -> Turn {
        let ns = self.io.mono_ns().saturating_sub(self.started_ns);
        match self.limited && ns > LOAD_TIMEOUT_NS {
            true => Turn::Ends("FUNCTION LOAD timeout"),
            false => Turn::GoesOn,
        }
    }
}
