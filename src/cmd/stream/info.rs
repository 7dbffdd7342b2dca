//! XINFO: a look into a stream, its groups and their consumers.

use super::range::reply_entries;
use super::{no_group_in, reply_entry, reply_id, wrong_form};
use crate::base::number::parse_i64;
use crate::cmd::ctx::reply_help;
use crate::cmd::fault::{CmdResult, DONE, Fault, NO_SUCH_KEY, NOT_INTEGER};
use crate::cmd::spec::{Acl, Arg, Flags, Group as CommandGroup, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::ds::stream::{Consumer, Group, StreamId};
use crate::object::Stream;
use crate::resp::reply::Reply;

pub static ROWS: &[Row<DataFn>] = &[
    XINFO,
    XINFO_CONSUMERS,
    XINFO_GROUPS,
    XINFO_HELP,
    XINFO_STREAM,
];

/// Entries that XINFO STREAM FULL gives of each list, unless it is told.
const COUNT: usize = 10;

const READ: &[KeySpec] = &[KeySpec::at(2).flags(KeyFlags::RO.or(KeyFlags::ACCESS))];

const XINFO: Row<DataFn> = Spec::new("xinfo", -2, CommandGroup::Stream)
    .since("5.0.0")
    .cost("Depends on the subcommand.")
    .about("A container for commands that look into streams.")
    .container();

const XINFO_CONSUMERS: Row<DataFn> = Spec::new("xinfo|consumers", 4, CommandGroup::Stream)
    .flags(Flags::READONLY)
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(1)")
    .about("Lists the consumers of a group.")
    .history(&[("7.2.0", "The field `inactive`.")])
    .tips(&["nondeterministic_output"])
    .keys(READ)
    .args(&[Arg::key("key", 0), Arg::string("group")])
    .run(consumers);

/// XINFO CONSUMERS key group
fn consumers(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let (key, name) = (args.argv()[2], args.argv()[3]);
    let now_ms = cx.now_ms() as i64;
    let stream = cx.keys.read_as::<Stream>(key)?.ok_or(NO_SUCH_KEY)?;
    let group = stream.group(name).ok_or_else(|| no_group_in(key, name))?;
    let reply = &mut *cx.reply;
    reply.array(group.consumer_count());
    for consumer in group.consumers() {
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(consumer.name());
        reply_count(reply, "pending", consumer.pending());
        reply.bulk(b"idle");
        reply.int((now_ms - consumer.seen_ms).max(0));
        reply.bulk(b"inactive");
        reply.int(consumer.active_ms.map_or(-1, |at| now_ms - at));
    }
    DONE
}

const XINFO_GROUPS: Row<DataFn> = Spec::new("xinfo|groups", 3, CommandGroup::Stream)
    .flags(Flags::READONLY)
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(1)")
    .about("Lists the consumer groups of a stream.")
    .history(&[("7.0.0", "The fields `entries-read` and `lag`.")])
    .keys(READ)
    .args(&[Arg::key("key", 0)])
    .run(groups);

/// XINFO GROUPS key
fn groups(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let stream = cx.keys.read_as::<Stream>(args.argv()[2])?;
    let stream = stream.ok_or(NO_SUCH_KEY)?;
    let reply = &mut *cx.reply;
    reply.array(stream.group_count());
    for group in stream.groups() {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(group.name());
        reply_count(reply, "consumers", group.consumer_count());
        reply_count(reply, "pending", group.pending());
        reply_progress(reply, stream, group);
    }
    DONE
}

/// How far a group has read.
fn reply_progress(reply: &mut Reply, stream: &Stream, group: &Group) {
    reply.bulk(b"last-delivered-id");
    reply_id(reply, group.last_id);
    reply.bulk(b"entries-read");
    reply_known(reply, group.entries_read);
    reply.bulk(b"lag");
    reply_known(reply, stream.lag(group));
}

fn reply_known(reply: &mut Reply, n: Option<i64>) {
    match n {
        Some(n) => reply.int(n),
        None => reply.null(),
    }
}

fn reply_count(reply: &mut Reply, name: &str, n: usize) {
    reply.bulk(name.as_bytes());
    reply.int(n as i64);
}

const XINFO_HELP: Row<DataFn> = Spec::new("xinfo|help", 2, CommandGroup::Stream)
    .flags(Flags::LOADING.or(Flags::STALE))
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(1)")
    .about("Lists the subcommands.")
    .run(help);

/// XINFO HELP
fn help(cx: &mut Ctx<'_>, _: Args<'_>) -> CmdResult {
    let lines = [
        "CONSUMERS <key> <groupname>",
        "    Show consumers of <groupname>.",
        "GROUPS <key>",
        "    Show the stream consumer groups.",
        "STREAM <key> [FULL [COUNT <count>]",
        "    Show information about the stream.",
    ];
    reply_help(cx.reply, "XINFO", &lines);
    DONE
}

const XINFO_STREAM: Row<DataFn> = Spec::new("xinfo|stream", -3, CommandGroup::Stream)
    .flags(Flags::READONLY)
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(1)")
    .about("Describes a stream.")
    .history(&[
        ("6.0.0", "The modifier `FULL`."),
        (
            "7.0.0",
            "The fields `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, `entries-read` and `lag`.",
        ),
        (
            "7.2.0",
            "The field `active-time`, and `seen-time` counts attempts.",
        ),
    ])
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::block(
            "full-block",
            &[
                Arg::word("full", "FULL"),
                Arg::int("count").token("COUNT").optional(),
            ],
        )
        .optional(),
    ])
    .run(stream);

/// XINFO STREAM key [FULL [COUNT count]]
fn stream(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let stream = cx.keys.read_as::<Stream>(args.argv()[2])?;
    let stream = stream.ok_or(NO_SUCH_KEY)?;
    let full = parse_full(&args)?;
    let reply = &mut *cx.reply;
    reply.map(if full.is_some() { 9 } else { 10 });
    reply_count(reply, "length", stream.len() as usize);
    reply_count(reply, "radix-tree-keys", stream.node_count());
    reply_count(reply, "radix-tree-nodes", stream.radix_nodes());
    reply.bulk(b"last-generated-id");
    reply_id(reply, stream.last_id());
    reply.bulk(b"max-deleted-entry-id");
    reply_id(reply, stream.max_deleted_id());
    reply_count(reply, "entries-added", stream.entries_added() as usize);
    reply.bulk(b"recorded-first-entry-id");
    reply_id(reply, stream.first_id());
    if let Some(count) = full {
        reply_full(reply, stream, count);
        return DONE;
    }
    reply_count(reply, "groups", stream.group_count());
    let (min, max) = (StreamId::MIN, StreamId::MAX);
    for (name, entry) in [
        ("first-entry", stream.range(min, max).next()),
        ("last-entry", stream.rev_range(min, max).next()),
    ] {
        reply.bulk(name.as_bytes());
        match entry {
            Some(entry) => reply_entry(reply, &entry),
            None => reply.null(),
        }
    }
    DONE
}

/// FULL with its count, if it was given; 0 stands for all.
fn parse_full(args: &Args<'_>) -> Result<Option<usize>, Fault> {
    match args.argv()[3..] {
        [] => Ok(None),
        [full] if is_word(full, "FULL") => Ok(Some(COUNT)),
        [full, count, n] if is_word(full, "FULL") && is_word(count, "COUNT") => {
            let n = parse_i64(n).ok_or(NOT_INTEGER)?;
            match usize::try_from(n) {
                Ok(0) => Ok(Some(usize::MAX)),
                Ok(n) => Ok(Some(n)),
                Err(_) => Ok(Some(COUNT)),
            }
        }
        _ => Err(wrong_form(args)),
    }
}

fn reply_full(reply: &mut Reply, stream: &Stream, count: usize) {
    reply.bulk(b"entries");
    let entries = stream.range(StreamId::MIN, StreamId::MAX);
    reply_entries(reply, entries.take(count), |_| ());
    reply.bulk(b"groups");
    reply.array(stream.group_count());
    for group in stream.groups() {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(group.name());
        reply_progress(reply, stream, group);
        reply_count(reply, "pel-count", group.pending());
        reply.bulk(b"pending");
        reply.array(group.pending().min(count));
        for nack in group.pending_from(StreamId::MIN).take(count) {
            reply.array(4);
            reply_id(reply, nack.id);
            reply.bulk(&nack.consumer);
            reply.int(nack.delivered_ms);
            reply.int(nack.deliveries as i64);
        }
        reply.bulk(b"consumers");
        reply.array(group.consumer_count());
        for consumer in group.consumers() {
            reply_consumer(reply, group, consumer, count);
        }
    }
}

fn reply_consumer(reply: &mut Reply, group: &Group, consumer: &Consumer, count: usize) {
    reply.map(5);
    reply.bulk(b"name");
    reply.bulk(consumer.name());
    reply.bulk(b"seen-time");
    reply.int(consumer.seen_ms);
    reply.bulk(b"active-time");
    reply.int(consumer.active_ms.unwrap_or(-1));
    reply_count(reply, "pel-count", consumer.pending());
    reply.bulk(b"pending");
    let owed = consumer.pending_from(StreamId::MIN).take(count);
    let owed: Vec<_> = owed.filter_map(|id| group.nack(id)).collect();
    reply.array(owed.len());
    for nack in owed {
        reply.array(3);
        reply_id(reply, nack.id);
        reply.int(nack.delivered_ms);
        reply.int(nack.deliveries as i64);
    }
}
