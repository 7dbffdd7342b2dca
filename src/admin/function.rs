//! FCALL and FUNCTION. How a function is run is in `exec/scripting.rs`, what a library is in `script/library.rs`.

use bytes::Bytes;

use crate::base::glob;
use crate::cmd::fault::{Fault, quoted};
use crate::cmd::session::Marks;
use crate::cmd::spec::{Acl, Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Row, is_word, numkeys};
use crate::exec::scripting::{self, Loading, Start};
use crate::exec::{Call, ServerFn};
use crate::rdb::{self, Format};
use crate::script::flags::ScriptFlags;
use crate::script::library::Policy;
use crate::script::vm::Purpose;

use super::script::{
    COST, FLUSH_WORDS, FUNCTION_ARGS, KEYS_RO, KEYS_RW, READS, RUNS, WORST, show, split,
};

const NOT_FOUND: Fault = Fault::new("ERR Function not found");
const BAD_COUNT: Fault = Fault::new("ERR Bad number of keys provided");
const AWAY: Fault = Fault::new("ERR Scripts can not run scripts");

const FCALL: Row<ServerFn> = Spec::new("fcall", -3, Group::Scripting)
    .flags(RUNS.or(Flags::MAY_REPLICATE))
    .acl(Acl::SCRIPTING)
    .since("7.0.0")
    .cost(COST)
    .about("Calls a function.")
    .keys(KEYS_RW)
    .args(FUNCTION_ARGS)
    .find_keys(|argv| numkeys::find(argv, 2, WORST))
    .run(|call, args| fcall(call, args, false));

const FCALL_RO: Row<ServerFn> = Spec::new("fcall_ro", -3, Group::Scripting)
    .flags(RUNS.or(Flags::READONLY))
    .acl(Acl::SCRIPTING)
    .since("7.0.0")
    .cost(COST)
    .about("Calls a function that changes nothing.")
    .keys(KEYS_RO)
    .args(FUNCTION_ARGS)
    .find_keys(|argv| numkeys::find(argv, 2, READS))
    .run(|call, args| fcall(call, args, true));

/// FCALL function numkeys [key ...] [arg ...]
fn fcall(call: &mut Call<'_>, args: Args<'_>, read_only: bool) -> CmdResult {
    show(call, &args);
    let function = call.server.scripting.libraries.function(args.argv()[1]);
    let function = function.ok_or(NOT_FOUND)?.clone();
    let (keys, rest) = split(&args, BAD_COUNT)?;
    scripting::run(
        call,
        &args,
        &Start::function(&function, read_only, keys, rest),
    )
}

const FUNCTION: Row<ServerFn> = Spec::new("function", -2, Group::Scripting)
    .since("7.0.0")
    .cost("That of its subcommands.")
    .about("Has subcommands for the libraries of functions.")
    .container();

/// A row of a subcommand.
const fn sub(name: &'static str, arity: i32, flags: Flags) -> Spec {
    Spec::new(name, arity, Group::Scripting)
        .flags(flags)
        .acl(Acl::SCRIPTING)
        .since("7.0.0")
}

const WRITES: Flags = Flags::NOSCRIPT.or(Flags::WRITE);
const ALL_SHARDS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

const LOAD: Row<ServerFn> = sub("function|load", -3, WRITES.or(Flags::DENYOOM))
    .cost("O(1), and what the code of the library takes")
    .about("Loads a library.")
    .tips(ALL_SHARDS)
    .args(&[
        Arg::word("replace", "REPLACE").optional(),
        Arg::string("function-code"),
    ])
    .run(load);

/// FUNCTION LOAD [REPLACE] code
fn load(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let Some((code, options)) = args.argv()[2..].split_last() else {
        return Err(Fault::new("ERR Function code is missing"));
    };
    let mut replace = false;
    for option in options {
        if !is_word(option, "replace") {
            return Err(told("Unknown option given: ", option));
        }
        replace = true;
    }
    let limited = !call.session().marks.has(Marks::MASTER);
    let server = &mut *call.server;
    let started_ns = call.io.mono_ns();
    let mut host = Loading {
        io: &*call.io,
        started_ns,
        limited,
    };
    let name = server
        .scripting
        .with_functions(|vm, libraries| libraries.load(vm, &mut host, code, replace))
        .ok_or(AWAY)?
        .map_err(error)?;
    server.unit.dirty += 1;
    call.reply().bulk(&name);
    DONE
}

/// An error of a text that has no code yet.
fn error(text: Vec<u8>) -> Fault {
    Fault::text([b"ERR ", &text[..]].concat())
}

fn told(what: &str, of: &[u8]) -> Fault {
    error([what.as_bytes(), quoted(of)].concat())
}

const DELETE: Row<ServerFn> = sub("function|delete", 3, WRITES)
    .cost("O(1)")
    .about("Removes a library.")
    .tips(ALL_SHARDS)
    .args(&[Arg::string("library-name")])
    .run(delete);

fn delete(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let name = args.argv()[2];
    let removed = call
        .server
        .scripting
        .with_functions(|vm, libraries| libraries.remove(vm, name));
    if removed != Some(true) {
        return Err(Fault::new("ERR Library not found"));
    }
    call.server.unit.dirty += 1;
    call.reply().ok();
    DONE
}

const FLUSH: Row<ServerFn> = sub("function|flush", -2, WRITES)
    .cost("O(N) with N the functions that there are.")
    .about("Removes all libraries.")
    .tips(ALL_SHARDS)
    .args(&[Arg::one_of("flush-type", FLUSH_WORDS).optional()])
    .run(flush);

/// FUNCTION FLUSH [ASYNC|SYNC]. The interpreter belongs to this thread, so that it is let go of here either way.
fn flush(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    match args.argv() {
        [_, _] => {}
        [_, _, word] if is_word(word, "sync") || is_word(word, "async") => {}
        [_, _, _] => {
            return Err(Fault::new(
                "ERR FUNCTION FLUSH only supports SYNC|ASYNC option",
            ));
        }
        _ => return Err(call.wrong_form(&args)),
    }
    call.server.scripting.flush_functions();
    call.server.unit.dirty += 1;
    call.reply().ok();
    DONE
}

const DUMP: Row<ServerFn> = sub("function|dump", 2, Flags::NOSCRIPT)
    .cost("O(N) with N the bytes of all libraries.")
    .about("Gives all libraries as one payload.")
    .run(dump);

fn dump(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let texts = call.server.scripting.libraries.texts();
    let format = Format::of(&call.server.config);
    let payload = rdb::encode_functions(texts.iter().map(|text| &text[..]), format);
    call.reply().bulk(&payload);
    DONE
}

const RESTORE: Row<ServerFn> = sub("function|restore", -3, WRITES.or(Flags::DENYOOM))
    .cost("O(N) with N the functions in the payload.")
    .about("Loads the libraries of a payload of FUNCTION DUMP.")
    .tips(ALL_SHARDS)
    .args(&[
        Arg::string("serialized-value"),
        Arg::one_of(
            "policy",
            &[
                Arg::word("flush", "FLUSH"),
                Arg::word("append", "APPEND"),
                Arg::word("replace", "REPLACE"),
            ],
        )
        .optional(),
    ])
    .run(restore);

/// FUNCTION RESTORE payload [FLUSH|APPEND|REPLACE]
fn restore(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let (payload, policy) = match args.argv() {
        [_, _, payload] => (payload, Policy::Append),
        [_, _, payload, word] => {
            let policy = match *word {
                w if is_word(w, "append") => Policy::Append,
                w if is_word(w, "replace") => Policy::Replace,
                w if is_word(w, "flush") => Policy::Flush,
                _ => {
                    return Err(Fault::new(
                        "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
                    ));
                }
            };
            (payload, policy)
        }
        _ => return Err(call.wrong_form(&args)),
    };
    let texts = rdb::decode_functions(payload, call.server.config.rdbchecksum);
    let texts = texts.map_err(|why| Fault::text(format!("ERR {why}")))?;
    call.server
        .add_libraries(&*call.io, &texts, policy)
        .map_err(error)?;
    call.server.unit.dirty += 1;
    call.reply().ok();
    DONE
}

const LIST: Row<ServerFn> = sub("function|list", -2, Flags::NOSCRIPT)
    .cost("O(N) with N the functions that there are.")
    .about("Tells of all libraries.")
    .tips(&["nondeterministic_output_order"])
    .args(&[
        Arg::string("library-name-pattern")
            .token("LIBRARYNAME")
            .optional(),
        Arg::word("withcode", "WITHCODE").optional(),
    ])
    .run(list);

/// FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE]
fn list(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let (mut pattern, mut with_code) = (None, false);
    let mut words = args.argv()[2..].iter();
    while let Some(word) = words.next() {
        if !with_code && is_word(word, "withcode") {
            with_code = true;
        } else if pattern.is_none() && is_word(word, "libraryname") {
            let given = words.next();
            pattern = Some(given.ok_or(Fault::new("ERR library name argument was not given"))?);
        } else {
            return Err(told("Unknown argument ", word));
        }
    }
    let fits = |name: &Bytes| pattern.is_none_or(|pattern| glob::matches_nocase(pattern, name));
    // Away from the server, so that the reply can be written beside it.
    let libraries = std::mem::take(&mut call.server.scripting.libraries);
    let shown: Vec<_> = libraries.iter().filter(|l| fits(&l.name)).collect();
    let reply = call.reply();
    reply.array(shown.len());
    for library in shown {
        reply.map(if with_code { 4 } else { 3 });
        reply.bulk(b"library_name");
        reply.bulk(&library.name);
        reply.bulk(b"engine");
        reply.bulk(b"LUA");
        reply.bulk(b"functions");
        reply.array(library.functions.len());
        for function in &library.functions {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(&function.name);
            reply.bulk(b"description");
            reply.bulk_or_null(function.description.as_deref());
            reply.bulk(b"flags");
            let flags = ScriptFlags(function.flags.0);
            reply.set(flags.names().count());
            flags.names().for_each(|name| reply.status(name));
        }
        if with_code {
            reply.bulk(b"library_code");
            reply.bulk(&library.code);
        }
    }
    call.server.scripting.libraries = libraries;
    DONE
}

const KILL: Row<ServerFn> = sub("function|kill", 2, Flags::NOSCRIPT.or(Flags::ALLOW_BUSY))
    .cost("O(1)")
    .about("Ends the function that is running.")
    .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
    .run(kill);

fn kill(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    call.server.kill_script(Purpose::Functions)?;
    call.reply().ok();
    DONE
}

const STATS: Row<ServerFn> = sub("function|stats", 2, Flags::NOSCRIPT.or(Flags::ALLOW_BUSY))
    .cost("O(1)")
    .about("Tells which function is running, and how many there are.")
    .tips(&[
        "nondeterministic_output",
        "request_policy:all_shards",
        "response_policy:special",
    ])
    .run(stats);

fn stats(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    if let Some(running) = &call.server.scripting.running
        && running.purpose == Purpose::Eval
        && let Some(busy) = call.server.busy()
    {
        return Err(busy.clone());
    }
    let now_ns = call.io.mono_ns();
    let scripting = &call.server.scripting;
    let running = scripting.running.as_ref().map(|running| {
        let ms = now_ns.saturating_sub(running.started_ns) / 1_000_000;
        (
            running.name.clone(),
            running.slow.clone().unwrap_or_default(),
            ms,
        )
    });
    let (libraries, functions) = (scripting.libraries.len(), scripting.libraries.functions());
    let reply = call.reply();
    reply.map(2);
    reply.bulk(b"running_script");
    match running {
        None => reply.null(),
        Some((name, command, ms)) => {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(name.text().as_bytes());
            reply.bulk(b"command");
            reply.array(command.len());
            command.iter().for_each(|arg| reply.bulk(arg));
            reply.bulk(b"duration_ms");
            reply.int(ms as i64);
        }
    }
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.int(libraries as i64);
    reply.bulk(b"functions_count");
    reply.int(functions as i64);
    DONE
}

const HELP: Row<ServerFn> = sub("function|help", 2, Flags::LOADING.or(Flags::STALE))
    .cost("O(1)")
    .about("Tells what FUNCTION can do.")
    .run(help);

fn help(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    call.help(
        "FUNCTION",
        &[
            "LOAD [REPLACE] <FUNCTION CODE>",
            "    Create a new library with the given library name and code.",
            "DELETE <LIBRARY NAME>",
            "    Delete the given library.",
            "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
            "    Return general information on all the libraries:",
            "    * Library name",
            "    * The engine used to run the Library",
            "    * Library description",
            "    * Functions list",
            "    * Library code (if WITHCODE is given)",
            "    It also possible to get only function that matches a pattern using LIBRARYNAME argument.",
            "STATS",
            "    Return information about the current function running:",
            "    * Function name",
            "    * Command used to run the function",
            "    * Duration in MS that the function is running",
            "    If no function is running, return nil",
            "    In addition, returns a list of available engines.",
            "KILL",
            "    Kill the current running function.",
            "FLUSH [ASYNC|SYNC]",
            "    Delete all the libraries.",
            "    When called without the optional mode argument, the behavior is determined by the",
            "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
            "    * ASYNC: Asynchronously flush the libraries.",
            "    * SYNC: Synchronously flush the libraries.",
            "DUMP",
            "    Return a serialized payload representing the current libraries, can be restored using FUNCTION RESTORE command",
            "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
            "    Restore the libraries represented by the given payload, it is possible to give a restore policy to",
            "    control how to handle existing libraries (default APPEND):",
            "    * FLUSH: delete all existing libraries.",
            "    * APPEND: appends the restored libraries to the existing libraries. On collision, abort.",
            "    * REPLACE: appends the restored libraries to the existing libraries, On collision, replace the old",
            "      libraries with the new libraries (notice that even on this option there is a chance of failure",
            "      in case of functions name collision with another library).",
        ],
    )
}

pub static ROWS: &[Row<ServerFn>] = &[
    FCALL, FCALL_RO, FUNCTION, LOAD, DELETE, DUMP, FLUSH, HELP, KILL, LIST, RESTORE, STATS,
];
