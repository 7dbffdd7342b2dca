//! XRANGE and XREVRANGE.

use super::{interval_end, interval_start, reply_entry};
use crate::cmd::fault::{CmdResult, DONE, SYNTAX};
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::ds::stream::{Entry, StreamId};
use crate::object::Stream;
use crate::resp::reply::Reply;

pub static ROWS: &[Row<DataFn>] = &[XRANGE, XREVRANGE];

const READ: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))];

const XRANGE: Row<DataFn> = Spec::new("xrange", -4, Group::Stream)
    .flags(Flags::READONLY)
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(N) in the entries replied.")
    .about("Gives the entries of a stream between two IDs.")
    .history(&[("6.2.0", "Exclusive bounds.")])
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::string("start"),
        Arg::string("end"),
        Arg::int("count").token("COUNT").optional(),
    ])
    .run(xrange);

/// XRANGE key start end [COUNT count]
fn xrange(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let (start, end) = args.two()?;
    reply_range(cx, args, key, (start, end), false)
}

const XREVRANGE: Row<DataFn> = Spec::new("xrevrange", -4, Group::Stream)
    .flags(Flags::READONLY)
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(N) in the entries replied.")
    .about("Gives the entries of a stream between two IDs, the last first.")
    .history(&[("6.2.0", "Exclusive bounds.")])
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::string("end"),
        Arg::string("start"),
        Arg::int("count").token("COUNT").optional(),
    ])
    .run(xrevrange);

/// XREVRANGE key end start [COUNT count]
fn xrevrange(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let (end, start) = args.two()?;
    reply_range(cx, args, key, (start, end), true)
}

fn reply_range(
    cx: &mut Ctx<'_>,
    mut args: Args<'_>,
    key: &[u8],
    (start, end): (&[u8], &[u8]),
    backwards: bool,
) -> CmdResult {
    let (start, end) = (interval_start(start)?, interval_end(end)?);
    let mut count = None;
    while let Some(word) = args.peek() {
        args.skip(1);
        if !is_word(word, "COUNT") || !args.more() {
            return Err(SYNTAX);
        }
        count = Some(usize::try_from(args.next_i64()?).unwrap_or(0));
    }
    let Some(stream) = cx.keys.read_as::<Stream>(key)? else {
        cx.reply.array(0);
        return DONE;
    };
    let count = match count {
        Some(0) => {
            cx.reply.null_array();
            return DONE;
        }
        count => count.unwrap_or(usize::MAX),
    };
    match backwards {
        false => reply_entries(cx.reply, stream.range(start, end).take(count), |_| ()),
        true => reply_entries(cx.reply, stream.rev_range(start, end).take(count), |_| ()),
    }
    DONE
}

/// An array of entries; `note` hears of each.
pub(super) fn reply_entries<'a>(
    reply: &mut Reply,
    entries: impl Iterator<Item = Entry<'a>>,
    mut note: impl FnMut(StreamId),
) {
    let array = reply.defer();
    let mut n = 0;
    for entry in entries {
        reply_entry(reply, &entry);
        note(entry.id);
        n += 1;
    }
    reply.close_array(array, n);
}
