//! The `redis` table of scripts.

use std::ffi::c_int;

use smallvec::SmallVec;

use crate::base::checksum;
use crate::script::convert::{number_text, push_reply};
use crate::script::debugger::{self, Debugger};
use crate::script::error;
use crate::script::lua::{Body, Lua, Raise, kind};
use crate::script::vm::Shared;

/// Arguments of most commands fit here.
type Argv<'a> = SmallVec<[&'a [u8]; 16]>;

/// The version that scripts are told.
const VERSION: &str = "7.2.6";
const VERSION_NUM: f64 = 0x0007_0206 as f64;

/// Fields of `redis` that are numbers or texts.
fn push_constants(lua: Lua) {
    let number = |name: &str, n: f64| {
        lua.push_number(n);
        lua.raw_set_field(-2, name);
    };
    for (level, name) in LEVELS.iter().enumerate() {
        number(name, level as f64);
    }
    number("REDIS_VERSION_NUM", VERSION_NUM);
    lua.push_bytes(VERSION.as_bytes());
    lua.raw_set_field(-2, "REDIS_VERSION");
}

const LEVELS: [&str; 4] = ["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"];

/// To whom changes go: bits of `redis.set_repl`.
const TO_LOG: i32 = 1;
const TO_REPLICAS: i32 = 2;

fn push_functions(lua: Lua, functions: &[(&str, Body)]) {
    for &(name, function) in functions {
        lua.push_fn(function);
        lua.raw_set_field(-2, name);
    }
}

/// Puts the table on the top that scripts know as `redis`.
pub fn push(lua: Lua, for_eval: bool) {
    lua.new_table(0, 0);
    push_constants(lua);
    push_functions(
        lua,
        &[
            ("call", call),
            ("pcall", pcall),
            ("log", log),
            ("setresp", setresp),
            ("sha1hex", sha1hex),
            ("error_reply", error_reply),
            ("status_reply", status_reply),
            ("set_repl", set_repl),
            ("acl_check_cmd", acl_check_cmd),
        ],
    );
    if for_eval {
        let old: &[(&str, Body)] = &[
            ("breakpoint", breakpoint),
            ("debug", debug),
            ("replicate_commands", replicate_commands),
        ];
        push_functions(lua, old);
    }
    for (name, bits) in [
        ("REPL_NONE", 0),
        ("REPL_AOF", TO_LOG),
        ("REPL_SLAVE", TO_REPLICAS),
        ("REPL_REPLICA", TO_REPLICAS),
        ("REPL_ALL", TO_LOG | TO_REPLICAS),
    ] {
        lua.push_number(f64::from(bits));
        lua.raw_set_field(-2, name);
    }
}

/// The same for the code of a library as it is loaded: it may log and register functions.
pub fn push_for_loading(lua: Lua) {
    lua.new_table(0, 0);
    push_constants(lua);
    push_functions(
        lua,
        &[
            ("log", log),
            ("register_function", super::library::register),
        ],
    );
}

/// Raises an error that is a table with this text.
pub fn raise(lua: Lua, text: &str) -> Raise {
    error::push(lua, text.as_bytes());
    Raise
}

/// The arguments of a command. They stay on the stack.
fn arguments<'a>(lua: Lua) -> Result<Argv<'a>, Raise> {
    let n = lua.top();
    if n == 0 {
        let text = "Please specify at least one argument for this redis lib call";
        return Err(raise(lua, text));
    }
    let mut argv = Argv::new();
    for at in 1..=n {
        if lua.kind(at) == kind::NUMBER {
            number_text(lua.number(at), |text| lua.push_bytes(text));
            lua.replace(at);
        }
        match lua.kind(at) {
            kind::STRING => argv.push(lua.bytes(at).unwrap_or_default()),
            _ => {
                let text = "Lua redis lib command arguments must be strings or integers";
                return Err(raise(lua, text));
            }
        }
    }
    Ok(argv)
}

/// `redis.call`: an error ends the script, or what called for it.
fn call(lua: Lua) -> Result<c_int, Raise> {
    match run(lua)? {
        Came::Value => Ok(1),
        Came::Error => Err(Raise),
    }
}

/// Puts `redis.call` on the top.
pub fn push_call(lua: Lua) {
    lua.push_fn(call);
}

/// `redis.pcall`: an error is a value like others, also that of having been called wrongly.
fn pcall(lua: Lua) -> Result<c_int, Raise> {
    match run(lua) {
        Ok(Came::Value | Came::Error) | Err(Raise) => Ok(1),
    }
}

/// What a command has put on the top.
enum Came {
    Value,
    Error,
}

/// Runs a command and puts its reply on the top.
fn run(lua: Lua) -> Result<Came, Raise> {
    let argv = arguments(lua)?;
    if lua.has_room(ROOM_FOR_REPLY) {
        return run_with(lua, &argv);
    }
    // The arguments fill the stack: they are copied, and make room for the reply.
    let copies: Vec<Vec<u8>> = argv.iter().map(|arg| arg.to_vec()).collect();
    let argv: Argv<'_> = copies.iter().map(|arg| &arg[..]).collect();
    lua.set_top(0);
    run_with(lua, &argv)
}

/// Values that a reply puts on the stack at a time, within reason.
const ROOM_FOR_REPLY: c_int = 64;

fn run_with(lua: Lua, argv: &[&[u8]]) -> Result<Came, Raise> {
    let mut came = Came::Value;
    let shared = Shared::of(lua);
    let is_debugged = shared.debugger.borrow().is_some();
    if is_debugged {
        debugger::with(lua, |debugger| debugger.note_call(argv));
    }
    let mut take = |bytes: &[u8]| {
        if bytes.first() == Some(&b'-') {
            came = Came::Error;
        }
        push_reply(lua, bytes);
        if is_debugged {
            debugger::with(lua, |debugger| debugger.note_reply(bytes));
        }
    };
    match shared.with_host(|host| host.call(argv, &mut take)) {
        Some(Ok(())) => Ok(came),
        Some(Err(why)) => {
            error::push_counted(lua, &why);
            Ok(Came::Error)
        }
        None => Err(raise(lua, NO_HOST)),
    }
}

const NO_HOST: &str = "redis.call/pcall can only be called inside a script invocation";

fn sha1hex(lua: Lua) -> Result<c_int, Raise> {
    if lua.top() != 1 {
        return Err(raise(lua, "wrong number of arguments"));
    }
    let digest = checksum::sha1_hex(lua.bytes(1).unwrap_or_default());
    lua.push_bytes(digest.as_bytes());
    Ok(1)
}

/// True if there is exactly one argument, and that a string; or else the error is on the top.
fn takes_one_text(lua: Lua) -> bool {
    let fits = lua.top() == 1 && lua.kind(1) == kind::STRING;
    if !fits {
        error::push(lua, b"wrong number or type of arguments");
    }
    fits
}

fn error_reply(lua: Lua) -> Result<c_int, Raise> {
    if takes_one_text(lua) {
        let text = lua.bytes(1).unwrap_or_default();
        match text.first() {
            Some(b'-') => error::push(lua, text),
            _ => error::push(lua, &[b"-", text].concat()),
        }
    }
    Ok(1)
}

fn status_reply(lua: Lua) -> Result<c_int, Raise> {
    if takes_one_text(lua) {
        lua.new_table(0, 0);
        lua.push_value(1);
        lua.raw_set_field(-2, "ok");
    }
    Ok(1)
}

fn set_repl(lua: Lua) -> Result<c_int, Raise> {
    if lua.top() != 1 {
        return Err(raise(lua, "redis.set_repl() requires one argument."));
    }
    let bits = lua.number(1) as i32;
    if bits & !(TO_LOG | TO_REPLICAS) != 0 {
        let text = "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.";
        return Err(raise(lua, text));
    }
    Shared::of(lua).with_host(|host| host.set_repl(bits & TO_LOG != 0, bits & TO_REPLICAS != 0));
    Ok(0)
}

fn setresp(lua: Lua) -> Result<c_int, Raise> {
    if lua.top() != 1 {
        return Err(raise(lua, "redis.setresp() requires one argument."));
    }
    let version = match lua.number(1) as i32 {
        2 => 2,
        3 => 3,
        _ => return Err(raise(lua, "RESP version must be 2 or 3.")),
    };
    Shared::of(lua).with_host(|host| host.set_resp(version));
    Ok(0)
}

fn acl_check_cmd(lua: Lua) -> Result<c_int, Raise> {
    let argv = arguments(lua)?;
    match Shared::of(lua).with_host(|host| host.may_run(&argv)) {
        Some(Ok(may)) => {
            lua.push_boolean(may);
            Ok(1)
        }
        Some(Err(_)) => Err(raise(
            lua,
            "Invalid command passed to redis.acl_check_cmd()",
        )),
        None => Err(raise(lua, NO_HOST)),
    }
}

fn log(lua: Lua) -> Result<c_int, Raise> {
    let args = lua.top();
    if args < 2 {
        return Err(raise(lua, "redis.log() requires two arguments or more."));
    }
    let Some(level) = lua.as_number(1) else {
        return Err(raise(lua, "First argument must be a number (log level)."));
    };
    let level = match level as i32 {
        0 => log::Level::Trace,
        1 => log::Level::Debug,
        2 => log::Level::Info,
        3 => log::Level::Warn,
        _ => return Err(raise(lua, "Invalid debug level.")),
    };
    if !log::log_enabled!(level) {
        return Ok(0);
    }
    let texts = (2..=args).filter_map(|at| lua.bytes(at));
    let text = texts.collect::<Vec<_>>().join(&b' ');
    log::log!(level, "{}", String::from_utf8_lossy(&text));
    Ok(0)
}

/// `redis.breakpoint`: false outside a debugging session.
fn breakpoint(lua: Lua) -> Result<c_int, Raise> {
    let stopped = debugger::with(lua, Debugger::stop_soon);
    lua.push_boolean(stopped.is_some());
    Ok(1)
}

/// `redis.debug`: for debugging sessions alone.
fn debug(lua: Lua) -> Result<c_int, Raise> {
    debugger::with(lua, |debugger| debugger.note_values(lua));
    Ok(0)
}

/// `redis.replicate_commands`: effects are what is always replicated.
fn replicate_commands(lua: Lua) -> Result<c_int, Raise> {
    lua.push_boolean(true);
    Ok(1)
}

/// Replaces `math.random` by ours; `math` is on the top.
pub fn replace_random(lua: Lua) {
    push_functions(lua, &[("random", random), ("randomseed", randomseed)]);
}

fn random(lua: Lua) -> Result<c_int, Raise> {
    let r = Shared::of(lua).dice.next();
    match lua.top() {
        0 => lua.push_number(r),
        1 => {
            let most = lua.check_int(1);
            if most < 1 {
                return Err(lua.bad_arg(1, c"interval is empty"));
            }
            lua.push_number((r * f64::from(most)).floor() + 1.0);
        }
        2 => {
            let (least, most) = (lua.check_int(1), lua.check_int(2));
            if least > most {
                return Err(lua.bad_arg(2, c"interval is empty"));
            }
            let span = f64::from(most.wrapping_sub(least).wrapping_add(1));
            lua.push_number((r * span).floor() + f64::from(least));
        }
        _ => return Err(lua.raise_here("wrong number of arguments")),
    }
    Ok(1)
}

fn randomseed(lua: Lua) -> Result<c_int, Raise> {
    Shared::of(lua).dice.seed(lua.check_int(1));
    Ok(0)
}
