//! Strings by their parts: APPEND, STRLEN, GETRANGE, SETRANGE.
//!
//! What these write is `raw` from then on, and a big string is written in place: only the chunks that are touched, and
//! of those only the ones that a snapshot or a reply holds are copied first.

use crate::base::number::parse_i64;
use crate::cmd::fault::{CmdResult, DONE, Fault, NOT_INTEGER};
use crate::cmd::keys::Ttl;
use crate::cmd::session::Marks;
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row};
use crate::config::NotifyFlags;
use crate::object::{Str, Value};

pub static ROWS: &[Row<DataFn>] = &[APPEND, STRLEN, GETRANGE, SUBSTR, SETRANGE];

const OFFSET_OUT_OF_RANGE: Fault = Fault::new("ERR offset is out of range");
const TOO_LONG: Fault = Fault::new("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

/// The length of a string that `more` bytes from `at` on bring about, if the server allows it. What a master or a log
/// says was allowed there and has to be followed here.
fn length_allowed(cx: &Ctx<'_>, at: usize, more: usize) -> Result<usize, Fault> {
    let trusted = cx.session.marks.has(Marks::MASTER);
    at.checked_add(more)
        .filter(|&total| trusted || total <= cx.config().proto_max_bulk_len)
        .ok_or(TOO_LONG)
}

const APPEND: Row<DataFn> = Spec::new("append", 3, Group::String)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::STRING)
    .since("2.0.0")
    .cost("O(1) amortised for a small addition to a string of any length, since room to grow doubles each time")
    .about("Adds to the end of the string stored under a key; a missing key counts as empty.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::INSERT))])
    .args(&[Arg::key("key", 0), Arg::string("value")])
    .run(append);

/// APPEND key value: adds to the end, replies the new length.
fn append(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, text) = args.two()?;
    let old = cx.keys.write_str(key)?.map(Str::len);
    let total = match old {
        Some(len) => {
            let total = length_allowed(cx, len, text.len())?;
            cx.keys.write_at(key, len, text);
            total
        }
        None => {
            cx.keys.set(key, args.value(text), Ttl::Clear);
            text.len()
        }
    };
    cx.changed(key, 1);
    cx.event(NotifyFlags::STRING, "append", key);
    cx.reply.int(total as i64);
    DONE
}

const STRLEN: Row<DataFn> = Spec::new("strlen", 2, Group::String)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::STRING)
    .since("2.2.0")
    .cost("O(1)")
    .about("Replies the length of the string stored under a key.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO)])
    .args(&[Arg::key("key", 0)])
    .run(strlen);

/// STRLEN key: replies the length; 0 where there is no key.
fn strlen(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let len = cx.keys.read_str(args.one()?)?.map_or(0, Str::len);
    cx.reply.int(len as i64);
    DONE
}

const GETRANGE: Row<DataFn> = Spec::new("getrange", 4, Group::String)
    .flags(Flags::READONLY)
    .acl(Acl::STRING)
    .since("2.4.0")
    .cost("O(N) with N the length of the reply; as good as O(1) for short ones")
    .about("Replies a part of the string stored under a key.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))])
    .args(&[Arg::key("key", 0), Arg::int("start"), Arg::int("end")])
    .run(getrange);

const SUBSTR: Row<DataFn> = Spec::new("substr", 4, Group::String)
    .flags(Flags::READONLY)
    .acl(Acl::STRING)
    .since("1.0.0")
    .cost("O(N) with N the length of the reply; as good as O(1) for short ones")
    .about("Replies a part of the string stored under a key.")
    .deprecated("2.0.0", "`GETRANGE`")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))])
    .args(&[Arg::key("key", 0), Arg::int("start"), Arg::int("end")])
    .run(getrange);

/// GETRANGE key start end: replies the bytes from start to end, both included; negative ones count from the end.
fn getrange(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, start) = args.two()?;
    let end = args.next()?;
    let start = parse_i64(start).ok_or(NOT_INTEGER)?;
    let end = parse_i64(end).ok_or(NOT_INTEGER)?;
    let Some(text) = cx.keys.read_str(key)? else {
        cx.reply.bulk(b"");
        return DONE;
    };
    let range = byte_range(start, end, text.len());
    match text {
        Str::Big(big) => cx.reply.bulk_chunks(range.len(), big.chunks(range)),
        Str::Text(text) => cx.reply.bulk(&text[range]),
        Str::Int(int) => cx
            .reply
            .bulk(&itoa::Buffer::new().format(int).as_bytes()[range]),
    }
    DONE
}

/// The bytes that GETRANGE means in a string of `len`: an empty range where there are none.
fn byte_range(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    // Both before the end and the wrong way round stays empty even where cutting at 0 would meet.
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let signed = len as i64;
    let from_front = |at: i64| {
        if at < 0 {
            signed.saturating_add(at).max(0)
        } else {
            at
        }
    };
    let (start, end) = (from_front(start), from_front(end).min(signed - 1));
    if start > end {
        0..0
    } else {
        start as usize..end as usize + 1
    }
}

const SETRANGE: Row<DataFn> = Spec::new("setrange", 4, Group::String)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::STRING)
    .since("2.2.0")
    .cost("O(1) for a short value, O(M) with M the length of a long one")
    .about("Writes over a part of the string stored under a key, which grows as needed.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::UPDATE))])
    .args(&[Arg::key("key", 0), Arg::int("offset"), Arg::string("value")])
    .run(setrange);

/// SETRANGE key offset value: writes value at the offset, replies the length. A gap reads as zeros.
fn setrange(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, offset) = args.two()?;
    let text = args.next()?;
    let offset = parse_i64(offset).ok_or(NOT_INTEGER)?;
    let offset = usize::try_from(offset).map_err(|_| OFFSET_OUT_OF_RANGE)?;
    let old = cx.keys.write_str(key)?.map(Str::len);
    if text.is_empty() {
        cx.reply.int(old.unwrap_or(0) as i64);
        return DONE;
    }
    let end = length_allowed(cx, offset, text.len())?;
    if old.is_none() {
        cx.keys.set(key, Value::Raw(b""), Ttl::Clear);
    }
    cx.keys.write_at(key, offset, text);
    cx.changed(key, 1);
    cx.event(NotifyFlags::STRING, "setrange", key);
    cx.reply.int(end.max(old.unwrap_or(0)) as i64);
    DONE
}

#[cfg(test)]
mod tests {
    use super::byte_range;

    #[test]
    fn ranges_are_cut_to_the_string() {
        let of = |start, end| byte_range(start, end, 5);
        assert_eq!(of(0, -1), 0..5);
        assert_eq!(of(-3, -2), 2..4);
        assert_eq!(of(-100, 0), 0..1);
        assert_eq!(of(1, i64::MAX), 1..5);
        assert_eq!(of(i64::MIN, i64::MAX), 0..5);
        for (start, end) in [(3, 2), (5, 9), (-1, -2), (-100, -101), (i64::MAX, i64::MIN)] {
            assert_eq!(of(start, end), 0..0, "{start} {end}");
        }
        assert_eq!(
            byte_range(-100, -50, 5),
            0..1,
            "Redis cuts both to the first byte"
        );
        assert_eq!(byte_range(0, -1, 0), 0..0);
    }
}
