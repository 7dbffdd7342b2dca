//! OBJECT: a look behind the value of a key.

use crate::cmd::ctx::reply_help;
use crate::cmd::fault::{CmdResult, DONE, Fault};
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row};
use crate::config::Config;
use crate::object::Entry;

pub static ROWS: &[Row<DataFn>] = &[
    OBJECT,
    OBJECT_ENCODING,
    OBJECT_FREQ,
    OBJECT_HELP,
    OBJECT_IDLETIME,
    OBJECT_REFCOUNT,
];

const LFU_SELECTED: Fault = Fault::new(
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
);
const LFU_NOT_SELECTED: Fault = Fault::new(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
);

const KEY: &[KeySpec] = &[KeySpec::at(2).flags(KeyFlags::RO)];

const OBJECT: Row<DataFn> = Spec::new("object", -2, Group::Generic)
    .since("2.2.3")
    .cost("Depends on the subcommand.")
    .about("A container for commands that look behind the value of a key.")
    .container();

const OBJECT_ENCODING: Row<DataFn> = Spec::new("object|encoding", 3, Group::Generic)
    .flags(Flags::READONLY)
    .acl(Acl::KEYSPACE)
    .since("2.2.3")
    .cost("O(1)")
    .about("Tells how the value of a key is stored.")
    .tips(&["nondeterministic_output"])
    .keys(KEY)
    .args(&[Arg::key("key", 0)])
    .run(encoding);

/// OBJECT ENCODING key
fn encoding(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    match cx.keys.read_quietly(key_of(args)?) {
        Some(entry) => cx.reply.bulk(entry.encoding().name().as_bytes()),
        None => cx.reply.null(),
    }
    DONE
}

const OBJECT_FREQ: Row<DataFn> = Spec::new("object|freq", 3, Group::Generic)
    .flags(Flags::READONLY)
    .acl(Acl::KEYSPACE)
    .since("4.0.0")
    .cost("O(1)")
    .about("Tells how often a key was used, as the logarithmic counter has it.")
    .tips(&["nondeterministic_output"])
    .keys(KEY)
    .args(&[Arg::key("key", 0)])
    .run(freq);

/// OBJECT FREQ key
fn freq(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let clock = cx.keys.access_clock();
    let is_lfu = cx.config().maxmemory_policy.is_lfu();
    match cx.keys.read_quietly(key_of(args)?) {
        Some(_) if !is_lfu => return Err(LFU_NOT_SELECTED),
        Some(entry) => cx.reply.int(i64::from(clock.lfu_counter(entry.access()))),
        None => cx.reply.null(),
    }
    DONE
}

const OBJECT_IDLETIME: Row<DataFn> = Spec::new("object|idletime", 3, Group::Generic)
    .flags(Flags::READONLY)
    .acl(Acl::KEYSPACE)
    .since("2.2.3")
    .cost("O(1)")
    .about("Tells for how many seconds a key was not used.")
    .tips(&["nondeterministic_output"])
    .keys(KEY)
    .args(&[Arg::key("key", 0)])
    .run(idletime);

/// OBJECT IDLETIME key
fn idletime(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let clock = cx.keys.access_clock();
    let is_lfu = cx.config().maxmemory_policy.is_lfu();
    match cx.keys.read_quietly(key_of(args)?) {
        Some(_) if is_lfu => return Err(LFU_SELECTED),
        Some(entry) => cx.reply.int((clock.idle_ms(entry.access()) / 1000) as i64),
        None => cx.reply.null(),
    }
    DONE
}

const OBJECT_REFCOUNT: Row<DataFn> = Spec::new("object|refcount", 3, Group::Generic)
    .flags(Flags::READONLY)
    .acl(Acl::KEYSPACE)
    .since("2.2.3")
    .cost("O(1)")
    .about("Tells how many references the value of a key has.")
    .tips(&["nondeterministic_output"])
    .keys(KEY)
    .args(&[Arg::key("key", 0)])
    .run(refcount);

/// OBJECT REFCOUNT key
fn refcount(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let config = cx.keys.config;
    match cx.keys.read_quietly(key_of(args)?) {
        Some(entry) => cx.reply.int(references(entry, config)),
        None => cx.reply.null(),
    }
    DONE
}

/// What clients expect to see: 1, or the largest number for the small integers, of which Redis keeps one copy for all
/// keys (unless eviction has to know each key's age), except for what COPY made. Here they lie in their entries.
fn references(entry: &Entry, config: &Config) -> i64 {
    let policy = config.maxmemory_policy;
    let shares = config.maxmemory == 0 || !(policy.is_lru() || policy.is_lfu());
    match shares && entry.is_shared_int() {
        true => i64::from(i32::MAX),
        false => 1,
    }
}

const OBJECT_HELP: Row<DataFn> = Spec::new("object|help", 2, Group::Generic)
    .flags(Flags::LOADING.or(Flags::STALE))
    .acl(Acl::KEYSPACE)
    .since("6.2.0")
    .cost("O(1)")
    .about("Lists the subcommands.")
    .run(help);

/// OBJECT HELP
fn help(cx: &mut Ctx<'_>, _: Args<'_>) -> CmdResult {
    let lines = [
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return the access frequency index of the <key>. The returned integer is",
        "    proportional to the logarithm of the recent access frequency of the key.",
        "IDLETIME <key>",
        "    Return the idle time of the <key>, that is the approximated number of",
        "    seconds elapsed since the last access to the key.",
        "REFCOUNT <key>",
        "    Return the number of references of the value associated with the specified",
        "    <key>.",
    ];
    reply_help(cx.reply, "OBJECT", &lines);
    DONE
}

/// The key behind the words of the subcommand.
fn key_of(mut args: Args<'_>) -> Result<&[u8], Fault> {
    args.skip(1);
    args.one()
}
