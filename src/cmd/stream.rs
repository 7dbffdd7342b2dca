//! Streams: what the commands have in common. Adding and removing is in [`add`], reading in [`range`] and [`read`],
//! consumer groups in [`group`], taking over what others owe in [`claim`], and XINFO in [`info`].
//!
//! Two things are peculiar to streams. Reading as a group changes it, so XREADGROUP is a write; but what goes to the log
//! is not the command, whose outcome hangs on time and on who asked first, but what it did: an XCLAIM for each entry
//! delivered, or an XGROUP SETID where nobody owes anything (NOACK). And trimming by `~` depends on how entries lie in
//! macro nodes, which may be different elsewhere: it is logged as an exact trimming to what was left.

pub mod add;
pub mod claim;
pub mod group;
pub mod info;
pub mod range;
pub mod read;
#[cfg(test)]
mod tests;

use crate::cmd::fault::{Fault, quoted};
use crate::cmd::{Args, Ctx};
use crate::ds::listpack::Elem;
use crate::ds::stream::{Entry, Nack, NodeLimits, StreamId};
use crate::resp::reply::Reply;

const INVALID_ID: Fault = Fault::new("ERR Invalid stream ID specified as stream command argument");
const INVALID_START: Fault = Fault::new("ERR invalid start ID for the interval");
const INVALID_END: Fault = Fault::new("ERR invalid end ID for the interval");

/// An ID as an argument; `-` and `+` are none.
fn strict_id(arg: &[u8]) -> Result<StreamId, Fault> {
    StreamId::parse_strict(arg, 0).ok_or(INVALID_ID)
}

/// The first ID of an interval, exclusive after a `(`.
fn interval_start(arg: &[u8]) -> Result<StreamId, Fault> {
    match exclusive(arg) {
        Some(arg) => strict_id(arg)?.next().ok_or(INVALID_START),
        None => StreamId::parse(arg, 0).ok_or(INVALID_ID),
    }
}

/// The last ID of an interval, exclusive after a `(`. Without a number it is the last of its ms.
fn interval_end(arg: &[u8]) -> Result<StreamId, Fault> {
    match exclusive(arg) {
        Some(arg) => {
            let id = StreamId::parse_strict(arg, u64::MAX).ok_or(INVALID_ID)?;
            id.prev().ok_or(INVALID_END)
        }
        None => StreamId::parse(arg, u64::MAX).ok_or(INVALID_ID),
    }
}

fn exclusive(arg: &[u8]) -> Option<&[u8]> {
    arg.strip_prefix(b"(").filter(|rest| !rest.is_empty())
}

/// The error where a group is needed and it, or the key, is missing; `more` ends the text.
fn no_group(key: &[u8], group: &[u8], more: &str) -> Fault {
    let parts = [
        b"NOGROUP No such key '",
        quoted(key),
        b"' or consumer group '",
        quoted(group),
        b"'",
        more.as_bytes(),
    ];
    Fault::text(parts.concat())
}

/// The error where the key is there and the group is missing.
fn no_group_in(key: &[u8], group: &[u8]) -> Fault {
    let parts = [
        b"NOGROUP No such consumer group '",
        quoted(group),
        b"' for key name '",
        quoted(key),
        b"'",
    ];
    Fault::text(parts.concat())
}

/// The error for a subcommand in a form that it does not have.
fn wrong_form(args: &Args<'_>) -> Fault {
    let argv = args.argv();
    let sub = argv.get(1).copied().unwrap_or_default();
    let parts = [
        b"ERR unknown subcommand or wrong number of arguments for '",
        quoted(&sub[..sub.len().min(128)]),
        b"'. Try ",
        &argv[0].to_ascii_uppercase(),
        b" HELP.",
    ];
    Fault::text(parts.concat())
}

/// When a macro node is full, by the configuration.
fn node_limits(cx: &Ctx<'_>) -> NodeLimits {
    NodeLimits {
        max_bytes: cx.config().stream_node_max_bytes,
        max_entries: cx.config().stream_node_max_entries,
    }
}

fn reply_id(reply: &mut Reply, id: StreamId) {
    reply.bulk(&id.text());
}

fn reply_elem(reply: &mut Reply, elem: Elem<'_>) {
    match elem {
        Elem::Str(text) => reply.bulk(text),
        Elem::Int(int) => reply.bulk_int(int),
    }
}

/// An entry: its ID, and its fields and values in a row.
fn reply_entry(reply: &mut Reply, entry: &Entry<'_>) {
    reply.array(2);
    reply_id(reply, entry.id);
    reply.array(entry.fields * 2);
    for (field, value) in entry.pairs() {
        reply_elem(reply, field);
        reply_elem(reply, value);
    }
}

// --- The log ---------------------------------------------------------------------------------------------------

/// Logs that a consumer owes an entry: an XCLAIM that comes to the same wherever and how often it is run. `id` is the
/// entry's as it was written.
fn log_claim(cx: &mut Ctx<'_>, key: &[u8], group: &[u8], id: &[u8], nack: &Nack, last: StreamId) {
    let (mut time, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
    let argv: [&[u8]; 14] = [
        b"XCLAIM",
        key,
        group,
        &nack.consumer,
        b"0",
        id,
        b"TIME",
        time.format(nack.delivered_ms).as_bytes(),
        b"RETRYCOUNT",
        // Redis writes the count as a signed number.
        count.format(nack.deliveries as i64).as_bytes(),
        b"FORCE",
        b"JUSTID",
        b"LASTID",
        &last.text(),
    ];
    cx.log_instead(&argv);
}

/// Logs how far a group has read, where no XCLAIM says it.
fn log_group_id(cx: &mut Ctx<'_>, key: &[u8], group: &[u8], last: StreamId, read: Option<i64>) {
    let mut count = itoa::Buffer::new();
    let count = count.format(read.unwrap_or(-1)).as_bytes();
    let last = last.text();
    cx.log_instead(&[
        b"XGROUP",
        b"SETID",
        key,
        group,
        &last,
        b"ENTRIESREAD",
        count,
    ]);
}
