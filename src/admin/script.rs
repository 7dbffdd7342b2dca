//! EVAL and its kin, and SCRIPT. How a script is run is in `exec/scripting.rs`.

use crate::base::number::parse_i64;
use crate::cmd::fault::{Fault, NOT_INTEGER};
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, CmdResult, DONE, Row, is_word, numkeys};
use crate::exec::debugging::{self, Mode};
use crate::exec::scripting::{self, Start};
use crate::exec::{Call, ServerFn};
use crate::script::cache::Script;
use crate::script::vm::Purpose;

const NOSCRIPT: Fault = Fault::new("NOSCRIPT No matching script. Please use EVAL.");
const TOO_MANY: Fault = Fault::new("ERR Number of keys can't be greater than number of args");
const NEGATIVE: Fault = Fault::new("ERR Number of keys can't be negative");
const AWAY: Fault = Fault::new("ERR Scripts can not run scripts");

/// Flags of commands that run scripts.
pub(super) const RUNS: Flags = Flags::NOSCRIPT
    .or(Flags::SKIP_MONITOR)
    .or(Flags::NO_MANDATORY_KEYS)
    .or(Flags::STALE);
pub(super) const COST: &str = "Depends on what the script does.";
pub(super) const WORST: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE);
pub(super) const READS: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
pub(super) const KEYS_RW: &[KeySpec] = &[numkeys::spec(2, WORST)
    .notes("We cannot tell how the keys will be used so we assume the worst, RW and UPDATE")];
pub(super) const KEYS_RO: &[KeySpec] = &[numkeys::spec(2, READS)
    .notes("We cannot tell how the keys will be used so we assume the worst, RO and ACCESS")];

const fn args(what: &'static str) -> [Arg; 4] {
    [
        Arg::string(what),
        Arg::int("numkeys"),
        Arg::key("key", 0).optional().multiple(),
        Arg::string("arg").optional().multiple(),
    ]
}
const SCRIPT_ARGS: &[Arg] = &args("script");
const SHA_ARGS: &[Arg] = &args("sha1");
pub(super) const FUNCTION_ARGS: &[Arg] = &args("function");

const EVAL: Row<ServerFn> = Spec::new("eval", -3, Group::Scripting)
    .flags(RUNS.or(Flags::MAY_REPLICATE))
    .acl(Acl::SCRIPTING)
    .since("2.6.0")
    .cost(COST)
    .about("Runs a script.")
    .keys(KEYS_RW)
    .args(SCRIPT_ARGS)
    .find_keys(|argv| numkeys::find(argv, 2, WORST))
    .run(|call, args| eval(call, args, false));

const EVAL_RO: Row<ServerFn> = Spec::new("eval_ro", -3, Group::Scripting)
    .flags(RUNS.or(Flags::READONLY))
    .acl(Acl::SCRIPTING)
    .since("7.0.0")
    .cost(COST)
    .about("Runs a script that changes nothing.")
    .keys(KEYS_RO)
    .args(SCRIPT_ARGS)
    .find_keys(|argv| numkeys::find(argv, 2, READS))
    .run(|call, args| eval(call, args, true));

const EVALSHA: Row<ServerFn> = Spec::new("evalsha", -3, Group::Scripting)
    .flags(RUNS.or(Flags::MAY_REPLICATE))
    .acl(Acl::SCRIPTING)
    .since("2.6.0")
    .cost(COST)
    .about("Runs a script that the server has, named by its SHA1.")
    .keys(&[numkeys::spec(2, WORST)])
    .args(SHA_ARGS)
    .find_keys(|argv| numkeys::find(argv, 2, WORST))
    .run(|call, args| evalsha(call, args, false));

const EVALSHA_RO: Row<ServerFn> = Spec::new("evalsha_ro", -3, Group::Scripting)
    .flags(RUNS.or(Flags::READONLY))
    .acl(Acl::SCRIPTING)
    .since("7.0.0")
    .cost(COST)
    .about("Runs a script that the server has and that changes nothing, named by its SHA1.")
    .keys(&[numkeys::spec(2, READS)])
    .args(SHA_ARGS)
    .find_keys(|argv| numkeys::find(argv, 2, READS))
    .run(|call, args| evalsha(call, args, true));

/// Some of a command's arguments.
type Words<'a> = &'a [&'a [u8]];

/// The keys and the arguments behind the count that is argument 2.
pub(super) fn split<'a>(
    args: &Args<'a>,
    bad_count: Fault,
) -> Result<(Words<'a>, Words<'a>), Fault> {
    let (argv, rest) = args.argv().split_at(3);
    let count = parse_i64(argv[2]).ok_or(bad_count)?;
    match usize::try_from(count) {
        Ok(count) if count <= rest.len() => Ok(rest.split_at(count)),
        Ok(_) => Err(TOO_MANY),
        Err(_) => Err(NEGATIVE),
    }
}

/// Shows monitors the call of a script before what that calls.
pub(super) fn show(call: &mut Call<'_>, args: &Args<'_>) {
    if !call.server.monitors.is_empty() {
        call.server.feed_monitors(call.token, args);
    }
}

/// EVAL script numkeys [key ...] [arg ...]
fn eval(call: &mut Call<'_>, args: Args<'_>, read_only: bool) -> CmdResult {
    show(call, &args);
    match debug_mode(call) {
        None => evaluate(call, &args, read_only, None).0,
        Some(Mode::Apart) => debugging::apart(call, &args),
        Some(Mode::InPlace) => {
            let text = args.argv()[1];
            debugging::in_place(call, |call| evaluate(call, &args, read_only, Some(text)))
        }
    }
}

fn debug_mode(call: &Call<'_>) -> Option<Mode> {
    call.server
        .conns
        .get(call.token)
        .and_then(debugging::mode_of)
}

/// Runs the script. `debugged`: its text, if it is to be debugged. What it gave, and whether it came so far as to run.
fn evaluate(
    call: &mut Call<'_>,
    args: &Args<'_>,
    read_only: bool,
    debugged: Option<&[u8]>,
) -> (CmdResult, bool) {
    let prepared = split(args, NOT_INTEGER)
        .and_then(|(keys, rest)| Ok((keys, rest, script_of(call, args.argv()[1])?)));
    match prepared {
        Err(fault) => (Err(fault), false),
        Ok((keys, rest, script)) => {
            let start = Start {
                debugged,
                ..Start::script(script, read_only, keys, rest)
            };
            scripting::run_told(call, args, &start)
        }
    }
}

/// The script of this text, compiled if it has to be.
fn script_of(call: &mut Call<'_>, text: &[u8]) -> Result<Script, Fault> {
    let scripting = &mut call.server.scripting;
    if let Some(script) = scripting.cache.by_text(text) {
        return Ok(script);
    }
    let mut vm = scripting.take(Purpose::Eval).ok_or(AWAY)?;
    let script = scripting.cache.get_or_compile(&mut vm, text);
    scripting.put_back(Purpose::Eval, vm);
    script
}

/// EVALSHA sha1 numkeys [key ...] [arg ...]
fn evalsha(call: &mut Call<'_>, args: Args<'_>, read_only: bool) -> CmdResult {
    show(call, &args);
    let sha = args.argv()[1];
    if sha.len() != 40 {
        return Err(NOSCRIPT);
    }
    if debug_mode(call).is_some() {
        return Err(Fault::new(
            "ERR Please use EVAL instead of EVALSHA for debugging",
        ));
    }
    let (keys, rest) = split(&args, NOT_INTEGER)?;
    let script = call.server.scripting.cache.by_sha(sha).ok_or(NOSCRIPT)?;
    scripting::run(call, &args, &Start::script(script, read_only, keys, rest))
}

const SCRIPT: Row<ServerFn> = Spec::new("script", -2, Group::Scripting)
    .since("2.6.0")
    .cost("That of its subcommands.")
    .about("Has subcommands for the scripts that the server has.")
    .container();

const LOAD: Row<ServerFn> = Spec::new("script|load", 3, Group::Scripting)
    .flags(Flags::NOSCRIPT.or(Flags::STALE))
    .acl(Acl::SCRIPTING)
    .since("2.6.0")
    .cost("O(N) with N the bytes of the script.")
    .about("Compiles a script and keeps it.")
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .args(&[Arg::string("script")])
    .run(load);

fn load(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let script = script_of(call, args.argv()[2])?;
    call.reply().bulk(&script.sha);
    DONE
}

const DEBUG: Row<ServerFn> = Spec::new("script|debug", 3, Group::Scripting)
    .flags(Flags::NOSCRIPT)
    .acl(Acl::SCRIPTING)
    .since("3.2.0")
    .cost("O(1)")
    .about("Says whether scripts of this connection are debugged.")
    .args(&[Arg::one_of(
        "mode",
        &[
            Arg::word("yes", "YES"),
            Arg::word("sync", "SYNC"),
            Arg::word("no", "NO"),
        ],
    )])
    .run(debug);

/// SCRIPT DEBUG YES|SYNC|NO
fn debug(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let mode = match args.argv()[2] {
        _ if !call.reply().is_empty() => {
            return Err(Fault::new(
                "ERR SCRIPT DEBUG must be called outside a pipeline",
            ));
        }
        word if is_word(word, "no") => None,
        word if is_word(word, "yes") => Some(Mode::Apart),
        word if is_word(word, "sync") => Some(Mode::InPlace),
        _ => return Err(Fault::new("ERR Use SCRIPT DEBUG YES/SYNC/NO")),
    };
    let token = call.token;
    if let Some(conn) = call.server.conns.get_mut(token) {
        debugging::set_mode(conn, mode);
    }
    call.reply().ok();
    DONE
}

const EXISTS: Row<ServerFn> = Spec::new("script|exists", -3, Group::Scripting)
    .flags(Flags::NOSCRIPT)
    .acl(Acl::SCRIPTING)
    .since("2.6.0")
    .cost("O(N) with N the scripts asked for.")
    .about("Tells which of these scripts the server has.")
    .tips(&[
        "request_policy:all_shards",
        "response_policy:agg_logical_and",
    ])
    .args(&[Arg::string("sha1").multiple()])
    .run(exists);

fn exists(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let shas = &args.argv()[2..];
    call.reply().array(shas.len());
    for sha in shas {
        let known = call.server.scripting.cache.by_sha(sha).is_some();
        call.reply().int(i64::from(known));
    }
    DONE
}

pub(super) const FLUSH_WORDS: &[Arg] = &[Arg::word("async", "ASYNC"), Arg::word("sync", "SYNC")];

const FLUSH: Row<ServerFn> = Spec::new("script|flush", -2, Group::Scripting)
    .flags(Flags::NOSCRIPT)
    .acl(Acl::SCRIPTING)
    .since("2.6.0")
    .cost("O(N) with N the scripts that there are.")
    .about("Forgets all scripts.")
    .history(&[(
        "6.2.0",
        "Added the `ASYNC` and `SYNC` flushing mode modifiers.",
    )])
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .args(&[Arg::one_of("flush-type", FLUSH_WORDS)
        .optional()
        .since("6.2.0")])
    .run(flush);

/// SCRIPT FLUSH [ASYNC|SYNC]. The interpreter belongs to this thread, so that it is let go of here either way.
fn flush(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    match args.argv() {
        [_, _] => {}
        [_, _, word] if is_word(word, "sync") || is_word(word, "async") => {}
        _ => {
            return Err(Fault::new(
                "ERR SCRIPT FLUSH only support SYNC|ASYNC option",
            ));
        }
    }
    call.server.scripting.flush_scripts();
    call.reply().ok();
    DONE
}

const KILL: Row<ServerFn> = Spec::new("script|kill", 2, Group::Scripting)
    .flags(Flags::NOSCRIPT.or(Flags::ALLOW_BUSY))
    .acl(Acl::SCRIPTING)
    .since("2.6.0")
    .cost("O(1)")
    .about("Ends the script that is running.")
    .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
    .run(kill);

fn kill(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    call.server.kill_script(Purpose::Eval)?;
    call.reply().ok();
    DONE
}

const HELP: Row<ServerFn> = Spec::new("script|help", 2, Group::Scripting)
    .flags(Flags::LOADING.or(Flags::STALE))
    .acl(Acl::SCRIPTING)
    .since("5.0.0")
    .cost("O(1)")
    .about("Tells what SCRIPT can do.")
    .run(help);

fn help(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    call.help(
        "SCRIPT",
        &[
            "DEBUG (YES|SYNC|NO)",
            "    Set the debug mode for subsequent scripts executed.",
            "EXISTS <sha1> [<sha1> ...]",
            "    Return information about the existence of the scripts in the script cache.",
            "FLUSH [ASYNC|SYNC]",
            "    Flush the Lua scripts cache. Very dangerous on replicas.",
            "    When called without the optional mode argument, the behavior is determined by the",
            "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
            "    * ASYNC: Asynchronously flush the scripts cache.",
            "    * SYNC: Synchronously flush the scripts cache.",
            "KILL",
            "    Kill the currently executing Lua script.",
            "LOAD <script>",
            "    Load a script into the scripts cache without executing it.",
        ],
    )
}

pub static ROWS: &[Row<ServerFn>] = &[
    EVAL, EVAL_RO, EVALSHA, EVALSHA_RO, SCRIPT, DEBUG, LOAD, EXISTS, FLUSH, KILL, HELP,
];
