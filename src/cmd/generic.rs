//! Commands on keys, whatever they hold: DEL, EXISTS, RENAME, COPY, MOVE ...
//!
//! A key's entry carries its name, so that a renamed, moved or copied key is a new entry. A value outside the entry is
//! shared with it, not copied: COPY of a large value is O(1), and whoever writes to one of both first pays for the
//! chunks that it touches.

use crate::base::number::parse_i64;
use crate::cmd::fault::{CmdResult, DONE, Fault, NO_SUCH_KEY, NOT_INTEGER, SAME_OBJECT, SYNTAX};
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row};
use crate::config::NotifyFlags;

pub static ROWS: &[Row<DataFn>] = &[
    DEL, UNLINK, EXISTS, TYPE, TOUCH, RANDOMKEY, RENAME, RENAMENX, COPY, MOVE,
];

const DB_OUT_OF_RANGE: Fault = Fault::new("ERR DB index is out of range");
const NOT_AN_INT: Fault =
    Fault::new("ERR value is out of range, value must between -2147483648 and 2147483647");
const NO_MOVE_IN_CLUSTER: Fault = Fault::new("ERR MOVE is not allowed in cluster mode");
const NO_COPY_IN_CLUSTER: Fault =
    Fault::new("ERR Copying to another database is not allowed in cluster mode");

const REMOVED: &[KeySpec] = &[KeySpec::range(1, -1, 1).flags(KeyFlags::RM.or(KeyFlags::DELETE))];
const COUNTED: &[KeySpec] = &[KeySpec::range(1, -1, 1).flags(KeyFlags::RO)];
const SUM_OF_SHARDS: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];

// --- Deleting --------------------------------------------------------------------------------------------------

const DEL: Row<DataFn> = Spec::new("del", -2, Group::Generic)
    .flags(Flags::WRITE)
    .acl(Acl::KEYSPACE)
    .since("1.0.0")
    .cost("O(N) with N the number of keys")
    .about("Deletes keys.")
    .tips(SUM_OF_SHARDS)
    .keys(REMOVED)
    .args(&[Arg::key("key", 0).multiple()])
    .run(del);

const UNLINK: Row<DataFn> = Spec::new("unlink", -2, Group::Generic)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .since("4.0.0")
    .cost("O(N) with N the number of keys")
    .about("Deletes keys.")
    .tips(SUM_OF_SHARDS)
    .keys(REMOVED)
    .args(&[Arg::key("key", 0).multiple()])
    .run(unlink);

/// DEL key...
fn del(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let lazily = cx.config().lazyfree_lazy_user_del;
    delete(cx, args, lazily)
}

/// UNLINK key...
fn unlink(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    delete(cx, args, true)
}

/// Deletes keys and replies how many there were. What is dear to free is freed in the background in any case; `lazily`
/// only says whether that counts as such.
fn delete(cx: &mut Ctx<'_>, args: Args<'_>, lazily: bool) -> CmdResult {
    let mut deleted = 0;
    for key in args.rest() {
        if cx.keys.remove_told(key, lazily) {
            cx.changed(key, 1);
            cx.event(NotifyFlags::GENERIC, "del", key);
            deleted += 1;
        }
    }
    cx.reply.int(deleted);
    DONE
}

// --- Asking ----------------------------------------------------------------------------------------------------

const EXISTS: Row<DataFn> = Spec::new("exists", -2, Group::Generic)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .since("1.0.0")
    .cost("O(N) with N the number of keys")
    .about("Tells how many of the keys are there.")
    .history(&[("3.0.3", "Several keys.")])
    .tips(SUM_OF_SHARDS)
    .keys(COUNTED)
    .args(&[Arg::key("key", 0).multiple()])
    .run(exists);

/// EXISTS key...: replies how many are there; one named twice counts twice.
fn exists(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let there = args
        .rest()
        .iter()
        .filter(|key| cx.keys.read_untouched(key).is_some())
        .count();
    cx.reply.int(there as i64);
    DONE
}

const TYPE: Row<DataFn> = Spec::new("type", 2, Group::Generic)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .since("1.0.0")
    .cost("O(1)")
    .about("Tells which type of value a key holds.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO)])
    .args(&[Arg::key("key", 0)])
    .run(type_of);

/// TYPE key: replies the type's name, `none` where there is no key.
fn type_of(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let name = cx
        .keys
        .read_untouched(args.one()?)
        .map_or("none", |entry| entry.type_of().name());
    cx.reply.status(name);
    DONE
}

const TOUCH: Row<DataFn> = Spec::new("touch", -2, Group::Generic)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .since("3.2.1")
    .cost("O(N) with N the number of keys")
    .about("Counts as an access to the keys, and tells how many of them are there.")
    .tips(SUM_OF_SHARDS)
    .keys(COUNTED)
    .args(&[Arg::key("key", 0).multiple()])
    .run(touch);

/// TOUCH key...: replies how many are there, and marks them as used even for a client that asked for NO-TOUCH.
fn touch(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    cx.keys.no_touch = false;
    let there = args
        .rest()
        .iter()
        .filter(|key| cx.keys.read(key).is_some())
        .count();
    cx.reply.int(there as i64);
    DONE
}

const RANDOMKEY: Row<DataFn> = Spec::new("randomkey", 1, Group::Generic)
    .flags(Flags::READONLY.or(Flags::TOUCHES_ARBITRARY_KEYS))
    .acl(Acl::KEYSPACE)
    .since("1.0.0")
    .cost("O(1)")
    .about("Replies the name of some key, each with the same chance.")
    .tips(&[
        "request_policy:all_shards",
        "response_policy:special",
        "nondeterministic_output",
    ])
    .run(randomkey);

/// RANDOMKEY: replies a key's name, or null from an empty database.
fn randomkey(cx: &mut Ctx<'_>, _: Args<'_>) -> CmdResult {
    match cx.keys.random_key() {
        Some(key) => cx.reply.bulk(&key),
        None => cx.reply.null(),
    }
    DONE
}

// --- Renaming, copying, moving ---------------------------------------------------------------------------------

const RENAME: Row<DataFn> = Spec::new("rename", 3, Group::Generic)
    .flags(Flags::WRITE)
    .acl(Acl::KEYSPACE)
    .since("1.0.0")
    .cost("O(1)")
    .about("Gives a key another name, over whatever had that name.")
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE)),
        KeySpec::at(2).flags(KeyFlags::OW.or(KeyFlags::UPDATE)),
    ])
    .args(&[Arg::key("key", 0), Arg::key("newkey", 1)])
    .run(rename);

/// RENAME key newkey
fn rename(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    rename_to(cx, args, true)?;
    cx.reply.ok();
    DONE
}

const RENAMENX: Row<DataFn> = Spec::new("renamenx", 3, Group::Generic)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .since("1.0.0")
    .cost("O(1)")
    .about("Gives a key another name, if no key has that name.")
    .history(&[("3.2.0", "The same name twice is no error any more.")])
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE)),
        KeySpec::at(2).flags(KeyFlags::OW.or(KeyFlags::INSERT)),
    ])
    .args(&[Arg::key("key", 0), Arg::key("newkey", 1)])
    .run(renamenx);

/// RENAMENX key newkey: replies whether it did.
fn renamenx(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let renamed = rename_to(cx, args, false)?;
    cx.reply.int(i64::from(renamed));
    DONE
}

/// Renames a key; false if nothing was done.
fn rename_to(cx: &mut Ctx<'_>, mut args: Args<'_>, over_another: bool) -> Result<bool, Fault> {
    let (from, to) = args.two()?;
    cx.keys.write(from).ok_or(NO_SUCH_KEY)?;
    if from == to || (cx.keys.write(to).is_some() && !over_another) {
        return Ok(false);
    }
    let Some(entry) = cx.keys.take(from) else {
        return Ok(false);
    };
    cx.keys.remove(to);
    let index = cx.keys.index;
    cx.keys.insert_in(index, entry.with_key(to));
    cx.changed(from, 1);
    cx.keys.signal_modified(to);
    cx.event(NotifyFlags::GENERIC, "rename_from", from);
    cx.event(NotifyFlags::GENERIC, "rename_to", to);
    Ok(true)
}

const COPY: Row<DataFn> = Spec::new("copy", -3, Group::Generic)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::KEYSPACE)
    .since("6.2.0")
    .cost("O(1); later writes pay for what both still share")
    .about("Copies what a key holds to another key.")
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS)),
        KeySpec::at(2).flags(KeyFlags::OW.or(KeyFlags::UPDATE)),
    ])
    .args(&[
        Arg::key("source", 0),
        Arg::key("destination", 1),
        Arg::int("destination-db").token("DB").optional(),
        Arg::word("replace", "REPLACE").optional(),
    ])
    .run(copy);

/// COPY source destination [DB index] [REPLACE]: replies whether it did.
fn copy(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (from, to) = args.two()?;
    let mut replace = false;
    let mut index = cx.keys.index;
    while args.more() {
        if args.take_word("REPLACE") {
            replace = true;
        } else if args.left() >= 2 && args.take_word("DB") {
            index = database(cx, args.next()?)?;
        } else {
            return Err(SYNTAX);
        }
    }
    if cx.config().cluster_enabled && (cx.keys.index != 0 || index != 0) {
        return Err(NO_COPY_IN_CLUSTER);
    }
    if index == cx.keys.index && from == to {
        return Err(SAME_OBJECT);
    }
    let copy = cx.keys.read(from).map(|entry| entry.copied(to));
    let copied = match copy {
        Some(copy) if replace || cx.keys.write_in(index, to).is_none() => {
            cx.keys.remove_in(index, to);
            cx.keys.insert_in(index, copy);
            cx.keys.unit.dirty += 1;
            cx.keys.signal_modified_in(index, to);
            cx.keys.event_in(index, NotifyFlags::GENERIC, "copy_to", to);
            1
        }
        _ => 0,
    };
    cx.reply.int(copied);
    DONE
}

const MOVE: Row<DataFn> = Spec::new("move", 3, Group::Generic)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .since("1.0.0")
    .cost("O(1)")
    .about("Moves a key to another database.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))])
    .args(&[Arg::key("key", 0), Arg::int("db")])
    .run(move_to);

/// MOVE key db: moves a key unless the other database has one of that name; replies whether it did.
fn move_to(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, number) = args.two()?;
    if cx.config().cluster_enabled {
        return Err(NO_MOVE_IN_CLUSTER);
    }
    let index = database(cx, number)?;
    let from = cx.keys.index;
    if index == from {
        return Err(SAME_OBJECT);
    }
    let free = cx.keys.write(key).is_some() && cx.keys.write_in(index, key).is_none();
    match if free { cx.keys.take(key) } else { None } {
        Some(entry) => {
            cx.keys.insert_in(index, entry);
            cx.changed(key, 1);
            cx.keys.signal_modified_in(index, key);
            cx.keys
                .event_in(from, NotifyFlags::GENERIC, "move_from", key);
            cx.keys
                .event_in(index, NotifyFlags::GENERIC, "move_to", key);
            cx.reply.int(1);
        }
        None => cx.reply.int(0),
    }
    DONE
}

/// The database that an argument names.
fn database(cx: &Ctx<'_>, number: &[u8]) -> Result<u32, Fault> {
    let number = parse_i64(number).ok_or(NOT_INTEGER)?;
    let number = i32::try_from(number).map_err(|_| NOT_AN_INT)?;
    u32::try_from(number)
        .ok()
        .filter(|&n| (n as usize) < cx.config().databases)
        .ok_or(DB_OUT_OF_RANGE)
}
