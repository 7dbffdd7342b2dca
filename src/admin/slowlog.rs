//! SLOWLOG: reading and forgetting what `exec/slowlog.rs` has written down.

use crate::base::number;
use crate::cmd::fault::Fault;
use crate::cmd::spec::{Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Row};
use crate::exec::{Call, ServerFn};

const BAD_COUNT: Fault = Fault::new("ERR count should be greater than or equal to -1");
/// Entries that SLOWLOG GET shows when it is not told how many.
const SHOWN: usize = 10;

const SLOWLOG: Row<ServerFn> = Spec::new("slowlog", -2, Group::Server)
    .since("2.2.12")
    .cost("Depends on subcommand.")
    .about("Reads the slow log.")
    .container();

const GET: Row<ServerFn> = Spec::new("slowlog|get", -2, Group::Server)
    .flags(Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE))
    .since("2.2.12")
    .cost("O(N) where N is the number of entries returned")
    .about("Shows the newest entries.")
    .history(&[("4.0.0", "Entries tell the client's address and name.")])
    .tips(&["request_policy:all_nodes", "nondeterministic_output"])
    .args(&[Arg::int("count").optional()])
    .run(get);

/// SLOWLOG GET [count]: -1 for all.
fn get(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let all = call.server.slowlog.entries.len();
    let count = match args.argv() {
        [_, _] => SHOWN,
        [_, _, count] => match number::parse_i64(count).ok_or(BAD_COUNT)? {
            -1 => all,
            n => usize::try_from(n).map_err(|_| BAD_COUNT)?,
        },
        _ => return Err(call.wrong_form(&args)),
    };
    let Call { server, token, .. } = call;
    let Some(conn) = server.conns.get_mut(*token) else {
        return DONE;
    };
    let reply = &mut conn.reply;
    reply.array(count.min(all));
    for entry in server.slowlog.entries.iter().take(count) {
        reply.array(6);
        reply.int(entry.id as i64);
        reply.int(entry.at_s as i64);
        reply.int(entry.us as i64);
        reply.array(entry.args.len());
        for arg in &entry.args {
            reply.bulk(arg);
        }
        reply.bulk(entry.peer.as_bytes());
        reply.bulk(&entry.name);
    }
    DONE
}

const LEN: Row<ServerFn> = Spec::new("slowlog|len", 2, Group::Server)
    .flags(Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE))
    .since("2.2.12")
    .cost("O(1)")
    .about("Counts the entries.")
    .tips(&[
        "request_policy:all_nodes",
        "response_policy:agg_sum",
        "nondeterministic_output",
    ])
    .run(len);

fn len(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let n = call.server.slowlog.entries.len();
    call.reply().int(n as i64);
    DONE
}

const RESET: Row<ServerFn> = Spec::new("slowlog|reset", 2, Group::Server)
    .flags(Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE))
    .since("2.2.12")
    .cost("O(N) where N is the number of entries in the slowlog")
    .about("Forgets all entries.")
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .run(reset);

fn reset(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    call.server.slowlog.entries.clear();
    call.reply().ok();
    DONE
}

const HELP: Row<ServerFn> = Spec::new("slowlog|help", 2, Group::Server)
    .flags(Flags::LOADING.or(Flags::STALE))
    .since("6.2.0")
    .cost("O(1)")
    .about("Lists the subcommands.")
    .run(help);

fn help(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    call.help(
        "SLOWLOG",
        &[
            "GET [<count>]",
            "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
            "    Entries are made of:",
            "    id, timestamp, time in microseconds, arguments array, client IP and port,",
            "    client name",
            "LEN",
            "    Return the length of the slowlog.",
            "RESET",
            "    Reset the slowlog.",
        ],
    )
}

pub static ROWS: &[Row<ServerFn>] = &[SLOWLOG, GET, LEN, RESET, HELP];
