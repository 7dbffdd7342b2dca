//! XGROUP makes and removes groups and consumers; XACK says that what was delivered is done.

use super::{no_group_in, strict_id, wrong_form};
use crate::base::number::parse_i64;
use crate::cmd::ctx::reply_help;
use crate::cmd::fault::{CmdResult, DONE, Fault, NOT_INTEGER, quoted};
use crate::cmd::spec::{Acl, Arg, Flags, Group as CommandGroup, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::config::NotifyFlags;
use crate::ds::stream::{Group, StreamId};
use crate::object::Stream;

pub static ROWS: &[Row<DataFn>] = &[
    XGROUP,
    XGROUP_CREATE,
    XGROUP_CREATECONSUMER,
    XGROUP_DELCONSUMER,
    XGROUP_DESTROY,
    XGROUP_HELP,
    XGROUP_SETID,
    XACK,
];

const KEY_NEEDED: Fault = Fault::new(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.",
);
const READ_NEGATIVE: Fault = Fault::new("ERR value for ENTRIESREAD must be positive or -1");
const BUSY: Fault = Fault::new("BUSYGROUP Consumer Group name already exists");

const INSERTED: &[KeySpec] = &[KeySpec::at(2).flags(KeyFlags::RW.or(KeyFlags::INSERT))];
const DELETED: &[KeySpec] = &[KeySpec::at(2).flags(KeyFlags::RW.or(KeyFlags::DELETE))];
const ID_OR_LAST: Arg = Arg::one_of(
    "id-selector",
    &[Arg::string("id"), Arg::word("new-id", "$")],
);

const XGROUP: Row<DataFn> = Spec::new("xgroup", -2, CommandGroup::Stream)
    .since("5.0.0")
    .cost("Depends on the subcommand.")
    .about("A container for commands on consumer groups.")
    .container();

const XGROUP_CREATE: Row<DataFn> = Spec::new("xgroup|create", -5, CommandGroup::Stream)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(1)")
    .about("Makes a consumer group.")
    .history(&[("7.0.0", "The argument `entries_read`.")])
    .keys(INSERTED)
    .args(&[
        Arg::key("key", 0),
        Arg::string("group"),
        ID_OR_LAST,
        Arg::word("mkstream", "MKSTREAM").optional(),
        Arg::int("entries-read").token("ENTRIESREAD").optional(),
    ])
    .run(create);

/// What XGROUP CREATE and SETID take behind the ID.
struct Options {
    mkstream: bool,
    entries_read: Option<i64>,
}

impl Options {
    /// Reads them; MKSTREAM only where it `may_make`.
    fn parse(args: &Args<'_>, may_make: bool) -> Result<Options, Fault> {
        let mut options = Options {
            mkstream: false,
            entries_read: None,
        };
        let mut rest = args.argv().get(5..).unwrap_or_default().iter();
        while let Some(word) = rest.next() {
            if may_make && is_word(word, "MKSTREAM") {
                options.mkstream = true;
            } else if is_word(word, "ENTRIESREAD")
                && let Some(n) = rest.next()
            {
                options.entries_read = match parse_i64(n).ok_or(NOT_INTEGER)? {
                    -1 => None,
                    n @ 0.. => Some(n),
                    _ => return Err(READ_NEGATIVE),
                };
            } else {
                return Err(wrong_form(args));
            }
        }
        Ok(options)
    }
}

/// XGROUP CREATE key group id | $ [MKSTREAM] [ENTRIESREAD count]
fn create(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let options = Options::parse(&args, true)?;
    let (key, name) = (argv[2], argv[3]);
    let stream = cx.keys.write_as::<Stream>(key)?;
    if stream.is_none() && !options.mkstream {
        return Err(KEY_NEEDED);
    }
    if argv.len() > 8 {
        return Err(wrong_form(&args));
    }
    let id = match quoted(argv[4]) {
        b"$" => stream.map_or(StreamId::MIN, Stream::last_id),
        _ => strict_id(argv[4])?,
    };
    let made = stream.is_none();
    let (added, _) = cx
        .keys
        .change_or_make(key, Stream::new, |stream: &mut Stream, _| {
            stream.add_group(Group::new(name, id, options.entries_read))
        })?;
    if made {
        cx.keys.signal_modified(key);
    }
    if !added {
        return Err(BUSY);
    }
    cx.reply.ok();
    cx.keys.unit.dirty += 1;
    cx.event(NotifyFlags::STREAM, "xgroup-create", key);
    DONE
}

/// Looks up the group that a subcommand works on: an error if it or its key is missing.
fn existing<'a>(cx: &'a mut Ctx<'_>, key: &[u8], name: &[u8]) -> Result<&'a Stream, Fault> {
    let stream = cx.keys.write_as::<Stream>(key)?.ok_or(KEY_NEEDED)?;
    match stream.group(name) {
        Some(_) => Ok(stream),
        None => Err(no_group_in(key, name)),
    }
}

/// Changes a group that is there.
fn change<R>(
    cx: &mut Ctx<'_>,
    key: &[u8],
    name: &[u8],
    f: impl FnOnce(&mut Group) -> R,
) -> Result<R, Fault> {
    let changed = cx
        .keys
        .change(key, |stream: &mut Stream, _| stream.change_group(name, f));
    changed
        .and_then(|(result, _)| result)
        .ok_or_else(|| no_group_in(key, name))
}

const XGROUP_SETID: Row<DataFn> = Spec::new("xgroup|setid", -5, CommandGroup::Stream)
    .flags(Flags::WRITE)
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(1)")
    .about("Sets how far a group has read.")
    .history(&[("7.0.0", "The argument `entries_read`.")])
    .keys(&[KeySpec::at(2).flags(KeyFlags::RW.or(KeyFlags::UPDATE))])
    .args(&[
        Arg::key("key", 0),
        Arg::string("group"),
        ID_OR_LAST,
        Arg::int("entriesread")
            .token("ENTRIESREAD")
            .display("entries-read")
            .optional(),
    ])
    .run(setid);

/// XGROUP SETID key group id | $ [ENTRIESREAD count]
fn setid(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let options = Options::parse(&args, false)?;
    let (key, name) = (argv[2], argv[3]);
    let last_id = existing(cx, key, name)?.last_id();
    if argv.len() > 7 {
        return Err(wrong_form(&args));
    }
    let id = match quoted(argv[4]) {
        b"$" => last_id,
        _ => StreamId::parse(argv[4], 0).ok_or(super::INVALID_ID)?,
    };
    change(cx, key, name, |group| {
        group.last_id = id;
        group.entries_read = options.entries_read;
    })?;
    cx.reply.ok();
    cx.keys.unit.dirty += 1;
    cx.event(NotifyFlags::STREAM, "xgroup-setid", key);
    DONE
}

const XGROUP_DESTROY: Row<DataFn> = Spec::new("xgroup|destroy", 4, CommandGroup::Stream)
    .flags(Flags::WRITE)
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(N) in the entries that are pending.")
    .about("Removes a consumer group.")
    .keys(DELETED)
    .args(&[Arg::key("key", 0), Arg::string("group")])
    .run(destroy);

/// XGROUP DESTROY key group: whoever waits to read for it gets an error.
fn destroy(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let (key, name) = (args.argv()[2], args.argv()[3]);
    let stream = cx.keys.write_as::<Stream>(key)?.ok_or(KEY_NEEDED)?;
    if stream.group(name).is_none() {
        cx.reply.int(0);
        return DONE;
    }
    let done = cx
        .keys
        .change(key, |stream: &mut Stream, _| stream.remove_group(name));
    cx.reply.int(1);
    cx.keys.unit.dirty += 1;
    cx.event(NotifyFlags::STREAM, "xgroup-destroy", key);
    cx.keys.signal_ready(cx.keys.index, key);
    if let Some((Some(removed), _)) = done {
        cx.keys.dispose(removed);
    }
    DONE
}

const XGROUP_CREATECONSUMER: Row<DataFn> =
    Spec::new("xgroup|createconsumer", 5, CommandGroup::Stream)
        .flags(Flags::WRITE.or(Flags::DENYOOM))
        .acl(Acl::STREAM)
        .since("6.2.0")
        .cost("O(1)")
        .about("Makes a consumer in a group.")
        .keys(INSERTED)
        .args(&[
            Arg::key("key", 0),
            Arg::string("group"),
            Arg::string("consumer"),
        ])
        .run(createconsumer);

/// XGROUP CREATECONSUMER key group consumer: 1, or 0 if it is there.
fn createconsumer(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let (key, name, consumer) = (argv[2], argv[3], argv[4]);
    let is_there = existing(cx, key, name)?
        .group(name)
        .is_some_and(|group| group.consumer(consumer).is_some());
    if !is_there {
        let now_ms = cx.now_ms() as i64;
        change(cx, key, name, |group| group.add_consumer(consumer, now_ms))?;
        note_new_consumer(cx, key);
    }
    cx.reply.int(i64::from(!is_there));
    DONE
}

/// A consumer was made, by whatever command.
pub(super) fn note_new_consumer(cx: &mut Ctx<'_>, key: &[u8]) {
    cx.keys.unit.dirty += 1;
    cx.event(NotifyFlags::STREAM, "xgroup-createconsumer", key);
}

const XGROUP_DELCONSUMER: Row<DataFn> = Spec::new("xgroup|delconsumer", 5, CommandGroup::Stream)
    .flags(Flags::WRITE)
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(1)")
    .about("Removes a consumer from a group, with all it owes.")
    .keys(DELETED)
    .args(&[
        Arg::key("key", 0),
        Arg::string("group"),
        Arg::string("consumer"),
    ])
    .run(delconsumer);

/// XGROUP DELCONSUMER key group consumer: replies how much it owed.
fn delconsumer(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let (key, name, consumer) = (argv[2], argv[3], argv[4]);
    existing(cx, key, name)?;
    let pending = change(cx, key, name, |group| group.remove_consumer(consumer))?;
    if pending.is_some() {
        cx.keys.unit.dirty += 1;
        cx.event(NotifyFlags::STREAM, "xgroup-delconsumer", key);
    }
    cx.reply.int(pending.unwrap_or(0) as i64);
    DONE
}

const XGROUP_HELP: Row<DataFn> = Spec::new("xgroup|help", 2, CommandGroup::Stream)
    .flags(Flags::LOADING.or(Flags::STALE))
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(1)")
    .about("Lists the subcommands.")
    .run(help);

/// XGROUP HELP
fn help(cx: &mut Ctx<'_>, _: Args<'_>) -> CmdResult {
    let lines = [
        "CREATE <key> <groupname> <id|$> [option]",
        "    Create a new consumer group. Options are:",
        "    * MKSTREAM",
        "      Create the empty stream if it does not exist.",
        "    * ENTRIESREAD entries_read",
        "      Set the group's entries_read counter (internal use).",
        "CREATECONSUMER <key> <groupname> <consumer>",
        "    Create a new consumer in the specified group.",
        "DELCONSUMER <key> <groupname> <consumer>",
        "    Remove the specified consumer.",
        "DESTROY <key> <groupname>",
        "    Remove the specified group.",
        "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
        "    Set the current group ID and entries_read counter.",
    ];
    reply_help(cx.reply, "XGROUP", &lines);
    DONE
}

const XACK: Row<DataFn> = Spec::new("xack", -4, CommandGroup::Stream)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(1) for each ID.")
    .about("Tells a group that entries are done: nobody owes them any more.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::UPDATE))])
    .args(&[
        Arg::key("key", 0),
        Arg::string("group"),
        Arg::string("id").multiple(),
    ])
    .run(xack);

/// XACK key group id [id ...]: replies how many were pending.
fn xack(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let (key, name) = (argv[1], argv[2]);
    let stream = cx.keys.read_as::<Stream>(key)?;
    if stream.and_then(|stream| stream.group(name)).is_none() {
        cx.reply.int(0);
        return DONE;
    }
    // All or nothing: a bad ID must not leave some acknowledged.
    let ids: Vec<_> = argv[3..]
        .iter()
        .map(|id| strict_id(id))
        .collect::<Result<_, _>>()?;
    let acknowledged = change(cx, key, name, |group| {
        let done = ids.iter().filter_map(|&id| group.acknowledge(id));
        done.count()
    })?;
    cx.keys.unit.dirty += acknowledged as u64;
    cx.reply.int(acknowledged as i64);
    DONE
}
