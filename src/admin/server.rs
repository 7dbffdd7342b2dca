//! Commands on the server as a process: TIME, SHUTDOWN, MODULE.

use crate::cmd::fault::{Fault, Flow, SYNTAX};
use crate::cmd::session::Marks;
use crate::cmd::spec::{Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Row, is_word};
use crate::config::ShutdownFlags;
use crate::exec::server::{Ending, SHUTDOWN_FAILED};
use crate::exec::{Call, ServerFn};

const TIME: Row<ServerFn> = Spec::new("time", 1, Group::Server)
    .flags(Flags::LOADING.or(Flags::STALE).or(Flags::FAST))
    .since("2.6.0")
    .cost("O(1)")
    .about("Tells the time.")
    .tips(&["nondeterministic_output"])
    .run(time);

/// TIME: unix time in seconds, and the microseconds since.
fn time(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let us = call.server.now.unix_us + call.server.now.later_us;
    let reply = call.reply();
    reply.array(2);
    reply.bulk_int((us / 1_000_000) as i64);
    reply.bulk_int((us % 1_000_000) as i64);
    DONE
}

const SHUTDOWN: Row<ServerFn> = Spec::new("shutdown", -1, Group::Server)
    .flags(
        Flags::ADMIN
            .or(Flags::NOSCRIPT)
            .or(Flags::LOADING)
            .or(Flags::STALE)
            .or(Flags::NO_MULTI)
            .or(Flags::SENTINEL_HAS)
            .or(Flags::ALLOW_BUSY),
    )
    .cost("O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)")
    .about("Ends the server.")
    .history(&[("7.0.0", "Takes NOW, FORCE and ABORT.")])
    .args(&[
        Arg::one_of(
            "save-selector",
            &[Arg::word("nosave", "NOSAVE"), Arg::word("save", "SAVE")],
        )
        .optional(),
        Arg::word("now", "NOW").since("7.0.0").optional(),
        Arg::word("force", "FORCE").since("7.0.0").optional(),
        Arg::word("abort", "ABORT").since("7.0.0").optional(),
    ])
    .run(shutdown);

/// SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]. There is no reply but an error: who asked sees the
/// connection end.
fn shutdown(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let mut flags = 0;
    let mut abort = false;
    for word in args.rest() {
        flags |= match () {
            () if is_word(word, "nosave") => ShutdownFlags::NOSAVE.0,
            () if is_word(word, "save") => ShutdownFlags::SAVE.0,
            () if is_word(word, "now") => ShutdownFlags::NOW.0,
            () if is_word(word, "force") => ShutdownFlags::FORCE.0,
            () if is_word(word, "abort") => {
                abort = true;
                0
            }
            () => return Err(SYNTAX),
        };
    }
    let flags = ShutdownFlags(flags);
    let both = ShutdownFlags(ShutdownFlags::NOSAVE.0 | ShutdownFlags::SAVE.0);
    if (abort && flags != ShutdownFlags(0)) || flags.contains(both) {
        return Err(SYNTAX);
    }
    if abort {
        if !call.server.abort_shutdown(call.io) {
            return Err(Fault::new("ERR No shutdown in progress."));
        }
        call.reply().ok();
        return DONE;
    }
    if !flags.contains(ShutdownFlags::NOW) && call.session().marks.has(Marks::DENY_BLOCKING) {
        return Err(Fault::new(
            "ERR SHUTDOWN without NOW or ABORT isn't allowed for DENY BLOCKING client",
        ));
    }
    match call.server.begin_shutdown(call.io, flags) {
        Ok(Ending::Now) => {
            call.session().marks.set(Marks::CLOSE_AFTER_REPLY, true);
            DONE
        }
        Ok(Ending::WhenReplicasHaveAll) => {
            let command = call.command();
            call.server.park_for_shutdown(call.token, command, &args);
            Ok(Flow::Parked)
        }
        Err(_) => Err(Fault::new(SHUTDOWN_FAILED)),
    }
}

const MODULE: Row<ServerFn> = Spec::new("module", -2, Group::Server)
    .since("4.0.0")
    .cost("Depends on subcommand.")
    .about("Speaks of modules, of which there are none.")
    .container();

const MODULE_LIST: Row<ServerFn> = Spec::new("module|list", 2, Group::Server)
    .flags(Flags::ADMIN.or(Flags::NOSCRIPT))
    .since("4.0.0")
    .cost("O(N) where N is the number of loaded modules.")
    .about("Lists no modules.")
    .tips(&["nondeterministic_output_order"])
    .run(module_list);

fn module_list(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    call.reply().array(0);
    DONE
}

const MODULE_CHANGE: Flags = Flags::NO_ASYNC_LOADING
    .or(Flags::ADMIN)
    .or(Flags::NOSCRIPT)
    .or(Flags::PROTECTED);

const MODULE_LOAD: Row<ServerFn> = Spec::new("module|load", -3, Group::Server)
    .flags(MODULE_CHANGE)
    .since("4.0.0")
    .cost("O(1)")
    .about("Refuses to load a module.")
    .args(&[
        Arg::string("path"),
        Arg::string("arg").optional().multiple(),
    ])
    .run(module_load);

const MODULE_LOADEX: Row<ServerFn> = Spec::new("module|loadex", -3, Group::Server)
    .flags(MODULE_CHANGE)
    .since("7.0.0")
    .cost("O(1)")
    .about("Refuses to load a module.")
    .args(&[
        Arg::string("path"),
        Arg::block("configs", &[Arg::string("name"), Arg::string("value")])
            .token("CONFIG")
            .optional()
            .multiple()
            .multiple_token(),
        Arg::string("args").token("ARGS").optional().multiple(),
    ])
    .run(module_load);

fn module_load(_: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let path = String::from_utf8_lossy(args.argv()[2]);
    log::warn!("Module {path} failed to load: this server has no interface for modules.");
    Err(Fault::new(
        "ERR Error loading the extension. This server has no interface for modules.",
    ))
}

const MODULE_UNLOAD: Row<ServerFn> = Spec::new("module|unload", 3, Group::Server)
    .flags(MODULE_CHANGE)
    .since("4.0.0")
    .cost("O(1)")
    .about("Finds no module to unload.")
    .args(&[Arg::string("name")])
    .run(module_unload);

fn module_unload(_: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    Err(Fault::new(
        "ERR Error unloading module: no such module with that name",
    ))
}

const MODULE_HELP: Row<ServerFn> = Spec::new("module|help", 2, Group::Server)
    .flags(Flags::LOADING.or(Flags::STALE))
    .since("5.0.0")
    .cost("O(1)")
    .about("Lists the subcommands.")
    .run(module_help);

fn module_help(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    call.help(
        "MODULE",
        &[
            "LIST",
            "    Return a list of loaded modules.",
            "LOAD <path> [<arg> ...]",
            "    Load a module library from <path>, passing to it any optional arguments.",
            "LOADEX <path> [[CONFIG NAME VALUE] [CONFIG NAME VALUE]] [ARGS ...]",
            "    Load a module library from <path>, while passing it module configurations and optional arguments.",
            "UNLOAD <name>",
            "    Unload a module.",
        ],
    )
}

pub static ROWS: &[Row<ServerFn>] = &[
    TIME,
    SHUTDOWN,
    MODULE,
    MODULE_LIST,
    MODULE_LOAD,
    MODULE_LOADEX,
    MODULE_UNLOAD,
    MODULE_HELP,
];
