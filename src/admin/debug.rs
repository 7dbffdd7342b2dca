//! DEBUG: what tests and those who look for a fault need and nobody else should use. It runs only where
//! `enable-debug-command` allows it.
//!
//! Subcommands are rows of [`SUBCOMMANDS`], not of the command table, as in Redis: COMMAND knows DEBUG as
//! one command. [`inspect`] looks at keys and tables, [`protocol`] shows each kind of reply; what is here
//! changes how the server runs, or ends it.

mod bus;
mod inspect;
mod protocol;

use std::ops::RangeInclusive;

use crate::admin::config::rewrite_file;
use crate::admin::persistence::FAILED;
use crate::base::{errno, glob, number};
use crate::cmd::fault::{Fault, NOT_INTEGER};
use crate::cmd::spec::{Flags, Group, Spec};
use crate::cmd::unit::Audience;
use crate::cmd::{Args, CmdResult, DONE, Row, is_word};
use crate::config::{self, ShutdownFlags};
use crate::exec::io::Crash;
use crate::exec::server::PEAK_RESET_MS;
use crate::exec::{Call, ServerFn};

const DEBUG: Row<ServerFn> = Spec::new("debug", -2, Group::Server)
    .flags(
        Flags::ADMIN
            .or(Flags::NOSCRIPT)
            .or(Flags::LOADING)
            .or(Flags::STALE)
            .or(Flags::PROTECTED),
    )
    .cost("Depends on subcommand.")
    .about("Helps to test and to look for faults.")
    .syscmd()
    .run(debugCommand);

pub static ROWS: &[Row<ServerFn>] = &[DEBUG];

/// A subcommand: its name, how many arguments there may be (DEBUG and the name counted), its function.
type Subcommand = (&'static str, RangeInclusive<usize>, ServerFn);

/// As many arguments as one likes.
const ANY: usize = usize::MAX;

static SUBCOMMANDS: &[Subcommand] = &[
    ("aof-flush-sleep", 3..=3, flush_sleep),
    ("assert", 2..=ANY, |call, _| crash(call, Crash::Assert)),
    ("change-repl-id", 2..=2, change_repl_id),
    ("client-eviction", 2..=2, inspect::client_eviction),
    ("clusterlink", 5..=5, bus::kill_link),
    ("config-rewrite-force-all", 2..=2, rewrite_config),
    ("crash-and-recover", 2..=ANY, restart),
    ("digest", 2..=2, inspect::digest),
    ("digest-value", 2..=ANY, inspect::digest_value),
    ("drop-cluster-packet-filter", 3..=3, bus::drop_filter),
    ("error", 3..=3, error),
    ("help", 2..=2, help),
    ("htstats", 3..=ANY, inspect::htstats),
    ("htstats-key", 3..=ANY, inspect::htstats_key),
    ("leak", 3..=3, leak),
    ("listpack", 3..=3, inspect::listpack),
    ("loadaof", 2..=ANY, load_log),
    ("log", 3..=3, log_line),
    ("mallctl", 3..=ANY, mallctl),
    ("mallctl-str", 3..=ANY, mallctl_str),
    ("object", 3..=3, inspect::object),
    ("oom", 2..=ANY, |call, _| crash(call, Crash::OutOfMemory)),
    ("panic", 2..=ANY, |call, _| crash(call, Crash::Panic)),
    ("pause-cron", 3..=3, pause_cron),
    ("populate", 3..=5, inspect::populate),
    ("protocol", 3..=3, protocol::protocol),
    ("quicklist", 3..=4, inspect::quicklist),
    ("quicklist-packed-threshold", 3..=3, packed_threshold),
    ("reload", 2..=ANY, reload),
    ("replicate", 3..=ANY, replicate),
    ("replybuffer", 4..=4, reply_buffer),
    ("restart", 2..=ANY, restart),
    ("sdslen", 3..=3, inspect::sdslen),
    ("segfault", 2..=ANY, |call, _| crash(call, Crash::Segfault)),
    ("set-active-expire", 3..=3, set_active_expire),
    ("set-disable-deny-scripts", 3..=3, set_disable_deny_scripts),
    ("set-skip-checksum-validation", 3..=3, set_skip_checksum),
    ("sleep", 3..=3, sleep),
    ("stringmatch-len", 4..=4, stringmatch_len),
    ("stringmatch-test", 2..=2, stringmatch_test),
];

#[expect(
    non_snake_case,
    reason = "stack traces of the watchdog and of crashes are searched for this name of Redis's"
)]
fn debugCommand(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let name = args.argv()[1];
    let row = SUBCOMMANDS.iter().find(|row| is_word(name, row.0));
    match row {
        Some((_, argc, run)) if argc.contains(&args.len()) => run(call, args),
        _ => Err(call.wrong_form(&args)),
    }
}

/// A switch as C's `atoi` reads it: a number other than 0 at the beginning.
fn is_on(arg: &[u8]) -> bool {
    let text = arg.trim_ascii_start();
    let digits = text
        .strip_prefix(b"-")
        .or(text.strip_prefix(b"+"))
        .unwrap_or(text);
    let end = digits.iter().position(|b| !b.is_ascii_digit());
    digits[..end.unwrap_or(digits.len())]
        .iter()
        .any(|&b| b != b'0')
}

fn done(call: &mut Call<'_>) -> CmdResult {
    call.reply().ok();
    DONE
}

fn crash(call: &mut Call<'_>, how: Crash) -> CmdResult {
    call.io.crash(how);
    // The simulator outlives its crashes.
    done(call)
}

/// DEBUG RESTART or CRASH-AND-RECOVER [milliseconds]: the first writes the configuration and shuts down
/// before it starts anew, the second does not even say goodbye.
fn restart(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let delay_ms = match args.argv().get(2) {
        None => 0,
        Some(arg) => number::parse_i64(arg).ok_or(NOT_INTEGER)?.max(0) as u64,
    };
    let failed = Fault::new("ERR failed to restart the server. Check server logs.");
    if is_word(args.argv()[1], "restart") {
        if !call.server.config_file.is_empty()
            && let Err(why) = rewrite_file(call.server, call.io, false)
        {
            log::warn!(
                "Can't restart: configuration rewrite process failed: {}",
                errno::text(&why)
            );
            return Err(failed);
        }
        if call
            .server
            .begin_shutdown(call.io, ShutdownFlags::NOW)
            .is_err()
        {
            log::warn!("Can't restart: error preparing for shutdown");
            return Err(failed);
        }
        call.server.exiting = None;
    }
    let executable = call.server.executable.clone();
    call.io.crash(Crash::Restart {
        executable,
        delay_ms,
    });
    Err(failed)
}

/// DEBUG CONFIG-REWRITE-FORCE-ALL: CONFIG REWRITE with every directive.
fn rewrite_config(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    if let Err(why) = rewrite_file(call.server, call.io, true) {
        let why = errno::text(&why);
        return Err(Fault::text(format!(
            "ERR CONFIG-REWRITE-FORCE-ALL failed: {why}"
        )));
    }
    done(call)
}

/// DEBUG CHANGE-REPL-ID: as if the history of the data had parted here from that of the replicas.
fn change_repl_id(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    log::info!("Changing replication IDs after receiving DEBUG change-repl-id");
    let server = &mut *call.server;
    server.repl.history.change_id(&mut server.rng);
    server.repl.history.forget_second();
    done(call)
}

/// DEBUG ERROR text: replies the text as an error. It is not counted as one.
fn error(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let text: Vec<u8> = args.argv()[2]
        .iter()
        .map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b })
        .collect();
    call.reply().raw(&[b"-", &text[..], b"\r\n"].concat());
    DONE
}

/// DEBUG LEAK text: keeps a copy that nothing knows of, for leak checkers to find.
fn leak(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    Box::leak(Box::<[u8]>::from(args.argv()[2]));
    done(call)
}

fn log_line(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    log::warn!("DEBUG LOG: {}", String::from_utf8_lossy(args.argv()[2]));
    done(call)
}

/// DEBUG MALLCTL name [value]: the figure before it is set.
fn mallctl(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let name = String::from_utf8_lossy(args.argv()[2]);
    let value = match args.argv().get(3) {
        None => None,
        Some(arg) => Some(number::parse_i64(arg).ok_or(NOT_INTEGER)?),
    };
    match call.io.mallctl(&name, value) {
        Ok(Some(figure)) => call.reply().int(figure),
        Ok(None) => call.reply().ok(),
        Err(e) => return Err(Fault::text(format!("ERR {}", errno::text(&e)))),
    }
    DONE
}

/// DEBUG MALLCTL-STR name [value]
fn mallctl_str(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let name = String::from_utf8_lossy(args.argv()[2]);
    let value = args.argv().get(3).map(|v| String::from_utf8_lossy(v));
    match call.io.mallctl_str(&name, value.as_deref()) {
        Ok(Some(text)) => call.reply().bulk(text.as_bytes()),
        Ok(None) => call.reply().ok(),
        Err(e) => return Err(Fault::text(format!("ERR {}", errno::text(&e)))),
    }
    DONE
}

fn pause_cron(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    call.server.cron_paused = is_on(args.argv()[2]);
    done(call)
}

/// The greatest value of DEBUG QUICKLIST-PACKED-THRESHOLD, and what 0 stands for.
const PACKED_THRESHOLD_MAX: u64 = (1 << 32) - (1 << 20);
const PACKED_THRESHOLD_DEFAULT: usize = 1 << 30;

/// DEBUG QUICKLIST-PACKED-THRESHOLD size: elements of a list from this size on have a node of their own.
fn packed_threshold(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let size = config::parse_memory(args.argv()[2]).filter(|&size| size <= PACKED_THRESHOLD_MAX);
    let Some(size) = size else {
        return Err(Fault::new(
            "ERR argument must be a memory value bigger than 1 and smaller than 4gb",
        ));
    };
    call.server.list_plain_from = match size as usize {
        0 => PACKED_THRESHOLD_DEFAULT,
        size => size,
    };
    done(call)
}

/// DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE]: saves and loads again. Without saving it loads the file that is there; without
/// emptying, the file's keys come to those in memory, and with MERGE they may replace some.
fn reload(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let (mut merge, mut flush, mut save) = (false, true, true);
    for word in &args.argv()[2..] {
        match () {
            () if is_word(word, "merge") => merge = true,
            () if is_word(word, "noflush") => flush = false,
            () if is_word(word, "nosave") => save = false,
            () => {
                return Err(Fault::new(
                    "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                ));
            }
        }
    }
    if save && !call.server.save_now(call.io) {
        return Err(FAILED);
    }
    if !call.server.reload(call.io, flush, merge) {
        return Err(Fault::new(
            "ERR Error trying to load the RDB dump, check server logs.",
        ));
    }
    done(call)
}

/// DEBUG AOF-FLUSH-SLEEP microseconds: each write to the log takes so much longer.
fn flush_sleep(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let us = number::parse_i64(args.argv()[2]).unwrap_or(0);
    call.server.aof.flush_sleep_us = us.max(0) as u64;
    done(call)
}

/// DEBUG LOADAOF: the data is that of the log again.
fn load_log(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    if !call.server.reload_log(call.io) {
        return Err(Fault::new(
            "ERR Error trying to load the AOF files, check server logs.",
        ));
    }
    done(call)
}

/// DEBUG SET-SKIP-CHECKSUM-VALIDATION 0|1: payloads and files with wrong checksums are taken.
fn set_skip_checksum(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    call.server.persistence.skip_checksum = is_on(args.argv()[2]);
    done(call)
}

/// DEBUG REPLICATE command ...: tells replicas, and them alone, of a command that did not run.
fn replicate(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    call.server
        .unit
        .push_global(Audience::Replicas, &args.argv()[2..]);
    done(call)
}

/// DEBUG REPLYBUFFER PEAK-RESET-TIME milliseconds | NEVER | RESET, or RESIZING 0 | 1.
fn reply_buffer(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let (what, value) = (args.argv()[2], args.argv()[3]);
    if is_word(what, "peak-reset-time") {
        call.server.reply_buffer_peak_reset_ms = if is_word(value, "never") {
            -1
        } else if is_word(value, "reset") {
            PEAK_RESET_MS
        } else {
            number::parse_i64(value).ok_or(NOT_INTEGER)?
        };
    } else if is_word(what, "resizing") {
        call.server.reply_buffer_resizing = is_on(value);
    } else {
        return Err(call.wrong_form(&args));
    }
    done(call)
}

fn set_active_expire(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    call.server.active_expire = is_on(args.argv()[2]);
    done(call)
}

fn set_disable_deny_scripts(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    call.server.scripts_may_all = is_on(args.argv()[2]);
    done(call)
}

/// DEBUG SLEEP seconds, with decimals. What is no number is 0.
fn sleep(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let seconds = leading_number(args.argv()[2]).max(0.0);
    call.io.sleep_us((seconds * 1e6) as u64);
    done(call)
}

/// The number at the beginning of a text, as C's `strtod` reads it; 0 if there is none.
fn leading_number(text: &[u8]) -> f64 {
    let text = text.trim_ascii_start();
    let numeric = |b: &&u8| b"0123456789+-.eE".contains(b);
    let longest = text.iter().take_while(numeric).count();
    let prefixes = (1..=longest)
        .rev()
        .filter_map(|end| std::str::from_utf8(&text[..end]).ok());
    prefixes
        .filter_map(|p| p.parse().ok())
        .next()
        .unwrap_or(0.0)
}

/// DEBUG STRINGMATCH-LEN pattern text: 1 if the pattern matches.
fn stringmatch_len(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let hit = glob::matches(args.argv()[2], args.argv()[3]);
    call.reply().int(i64::from(hit));
    DONE
}

/// Patterns that DEBUG STRINGMATCH-TEST tries.
const MATCH_TRIALS: usize = 100_000;

/// DEBUG STRINGMATCH-TEST: random patterns against random texts, for a crash.
fn stringmatch_test(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let rng = &mut call.server.rng;
    let (mut pattern, mut text) = ([0; 32], [0; 32]);
    for _ in 0..MATCH_TRIALS {
        rng.fill(&mut pattern);
        rng.fill(&mut text);
        let (p, t) = (rng.index(32), rng.index(32));
        glob::matches(&pattern[..p], &text[..t]);
        glob::matches_nocase(&pattern[..p], &text[..t]);
    }
    call.reply()
        .status("Apparently Redis did not crash: test passed");
    DONE
}

fn help(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    call.help("DEBUG", HELP)
}

/// Redis's lines for the subcommands that are here.
const HELP: &[&str] = &[
    "AOF-FLUSH-SLEEP <microsec>",
    "    Server will sleep before flushing the AOF, this is used for testing.",
    "ASSERT",
    "    Crash by assertion failed.",
    "CHANGE-REPL-ID",
    "    Change the replication IDs of the instance.",
    "    Dangerous: should be used only for testing the replication subsystem.",
    "CONFIG-REWRITE-FORCE-ALL",
    "    Like CONFIG REWRITE but writes all configuration options, including",
    "    keywords not listed in original configuration file or default values.",
    "CRASH-AND-RECOVER [<milliseconds>]",
    "    Hard crash and restart after a <milliseconds> delay (default 0).",
    "DIGEST",
    "    Output a hex signature representing the current DB content.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Output a hex signature of the values of all the specified keys.",
    "ERROR <string>",
    "    Return a Redis protocol error with <string> as message. Useful for clients",
    "    unit tests to simulate Redis errors.",
    "LEAK <string>",
    "    Create a memory leak of the input string.",
    "LOG <message>",
    "    Write <message> to the server log.",
    "HTSTATS <dbid> [full]",
    "    Return hash table statistics of the specified Redis database.",
    "HTSTATS-KEY <key> [full]",
    "    Like HTSTATS but for the hash table stored at <key>'s value.",
    "LOADAOF",
    "    Flush the AOF buffers on disk and reload the AOF in memory.",
    "REPLICATE <string>",
    "    Replicates the provided string to replicas, allowing data divergence.",
    "MALLCTL <key> [<val>]",
    "    Get or set a malloc tuning integer.",
    "MALLCTL-STR <key> [<val>]",
    "    Get or set a malloc tuning string.",
    "OBJECT <key>",
    "    Show low level info about `key` and associated value.",
    "DROP-CLUSTER-PACKET-FILTER <packet-type>",
    "    Drop all packets that match the filtered type. Set to -1 allow all packets.",
    "OOM",
    "    Crash the server simulating an out-of-memory error.",
    "PANIC",
    "    Crash the server simulating a panic.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Create <count> string keys named key:<num>. If <prefix> is specified then",
    "    it is used instead of the 'key' prefix. These are not propagated to",
    "    replicas. Cluster slots are not respected so keys not belonging to the",
    "    current node can be created in cluster mode.",
    "PROTOCOL <type>",
    "    Reply with a test value of the specified type. <type> can be: string,",
    "    integer, double, bignum, null, array, set, map, attrib, push, verbatim,",
    "    true, false.",
    "RESTART [<milliseconds>]",
    "    Graceful restart: save config, db, restart after a <milliseconds> delay (default 0).",
    "SDSLEN <key>",
    "    Show low level SDS string info representing `key` and value.",
    "SEGFAULT",
    "    Crash the server with sigsegv.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Setting it to 0 disables expiring keys in background when they are not",
    "    accessed (otherwise the Redis behavior). Setting it to 1 reenables back the",
    "    default.",
    "QUICKLIST-PACKED-THRESHOLD <size>",
    "    Sets the threshold for elements to be inserted as plain vs packed nodes",
    "    Default value is 1GB, allows values up to 4GB. Setting to 0 restores to default.",
    "SLEEP <seconds>",
    "    Stop the server for <seconds>. Decimals allowed.",
    "STRINGMATCH-TEST",
    "    Run a fuzz tester against the stringmatchlen() function.",
    "LISTPACK <key>",
    "    Show low level info about the listpack encoding of <key>.",
    "QUICKLIST <key> [<0|1>]",
    "    Show low level info about the quicklist encoding of <key>.",
    "    The optional argument (0 by default) sets the level of detail",
    "CLIENT-EVICTION",
    "    Show low level client eviction pools info (maxmemory-clients).",
    "PAUSE-CRON <0|1>",
    "    Stop periodic cron job processing.",
    "REPLYBUFFER PEAK-RESET-TIME <NEVER||RESET|time>",
    "    Sets the time (in milliseconds) to wait between client reply buffer peak resets.",
    "    In case NEVER is provided the last observed peak will never be reset",
    "    In case RESET is provided the peak reset time will be restored to the default value",
    "REPLYBUFFER RESIZING <0|1>",
    "    Enable or disable the reply buffer resize cron job",
    "CLUSTERLINK KILL <to|from|all> <node-id>",
    "    Kills the link based on the direction to/from (both) with the provided node.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_c_reads_them() {
        for (text, on) in [
            ("1", true),
            ("0", false),
            ("-1", true),
            (" 2x", true),
            ("x1", false),
            ("", false),
            ("00", false),
        ] {
            assert_eq!(is_on(text.as_bytes()), on, "{text:?}");
        }
        for (text, number) in [
            ("1.5", 1.5),
            (".3s", 0.3),
            ("1e-3", 0.001),
            ("2e", 2.0),
            ("x", 0.0),
            ("-1", -1.0),
        ] {
            assert_eq!(leading_number(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn subcommands_stand_in_order_once() {
        assert!(SUBCOMMANDS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
