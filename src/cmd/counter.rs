//! Strings that are numbers: INCR and its kin.
//!
//! An integer value lies in its entry as an integer, so that counting up is reading, adding and writing in place.

use crate::base::longdouble::{LongDouble, TEXT_MAX};
use crate::base::number::parse_i64;
use crate::cmd::fault::{CmdResult, DONE, Fault, NAN_OR_INF, NOT_FLOAT, NOT_INTEGER, OVERFLOW};
use crate::cmd::keys::Ttl;
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row};
use crate::config::NotifyFlags;
use crate::object::{Str, Value};

pub static ROWS: &[Row<DataFn>] = &[INCR, DECR, INCRBY, DECRBY, INCRBYFLOAT];

const DECREMENT_OVERFLOW: Fault = Fault::new("ERR decrement would overflow");

const COUNTED: &[KeySpec] =
    &[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))];

const INCR: Row<DataFn> = Spec::new("incr", 2, Group::String)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::STRING)
    .since("1.0.0")
    .cost("O(1)")
    .about("Adds one to the integer stored under a key; a missing key counts as 0.")
    .keys(COUNTED)
    .args(&[Arg::key("key", 0)])
    .run(incr);

/// INCR key: adds one.
fn incr(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    add(cx, args.one()?, 1)
}

const DECR: Row<DataFn> = Spec::new("decr", 2, Group::String)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::STRING)
    .since("1.0.0")
    .cost("O(1)")
    .about("Takes one from the integer stored under a key; a missing key counts as 0.")
    .keys(COUNTED)
    .args(&[Arg::key("key", 0)])
    .run(decr);

/// DECR key: takes one away.
fn decr(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    add(cx, args.one()?, -1)
}

const INCRBY: Row<DataFn> = Spec::new("incrby", 3, Group::String)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::STRING)
    .since("1.0.0")
    .cost("O(1)")
    .about("Adds a number to the integer stored under a key; a missing key counts as 0.")
    .keys(COUNTED)
    .args(&[Arg::key("key", 0), Arg::int("increment")])
    .run(incrby);

/// INCRBY key increment: adds it.
fn incrby(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, increment) = args.two()?;
    add(cx, key, parse_i64(increment).ok_or(NOT_INTEGER)?)
}

const DECRBY: Row<DataFn> = Spec::new("decrby", 3, Group::String)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::STRING)
    .since("1.0.0")
    .cost("O(1)")
    .about("Takes a number from the integer stored under a key; a missing key counts as 0.")
    .keys(COUNTED)
    .args(&[Arg::key("key", 0), Arg::int("decrement")])
    .run(decrby);

/// DECRBY key decrement: takes it away. The one number without a negative is refused.
fn decrby(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, decrement) = args.two()?;
    let decrement = parse_i64(decrement).ok_or(NOT_INTEGER)?;
    add(cx, key, decrement.checked_neg().ok_or(DECREMENT_OVERFLOW)?)
}

/// Adds to the integer at a key and replies the sum.
fn add(cx: &mut Ctx<'_>, key: &[u8], increment: i64) -> CmdResult {
    let mut sum = 0i64;
    cx.keys.update(key, |old| {
        let value = match old {
            Some(entry) => entry.as_str()?.parse_int().ok_or(NOT_INTEGER)?,
            None => 0,
        };
        sum = value.checked_add(increment).ok_or(OVERFLOW)?;
        Ok(Some((Value::Int(sum), Ttl::Keep)))
    })?;
    cx.changed(key, 1);
    cx.event(NotifyFlags::STRING, "incrby", key);
    cx.reply.int(sum);
    DONE
}

const INCRBYFLOAT: Row<DataFn> = Spec::new("incrbyfloat", 3, Group::String)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::STRING)
    .since("2.6.0")
    .cost("O(1)")
    .about(
        "Adds a number to the floating point number stored under a key; a missing key counts as 0.",
    )
    .keys(COUNTED)
    .args(&[Arg::key("key", 0), Arg::double("increment")])
    .run(incrbyfloat);

/// INCRBYFLOAT key increment: adds it and replies the sum. It is logged as a SET of the sum, so that nobody has to
/// compute it again.
fn incrbyfloat(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, increment) = args.two()?;
    let old = long_double(cx.keys.write_str(key)?.unwrap_or(Str::Int(0)))?;
    let sum = old.add(LongDouble::parse(increment).ok_or(NOT_FLOAT)?);
    if !sum.is_finite() {
        return Err(NAN_OR_INF);
    }
    let text = sum.to_text();
    // Even a whole number is stored as text.
    cx.keys.set(key, Value::Bytes(&text), Ttl::Keep);
    cx.changed(key, 1);
    cx.event(NotifyFlags::STRING, "incrbyfloat", key);
    cx.reply.bulk(&text);
    cx.log_instead(&[b"SET", key, &text, b"KEEPTTL"]);
    DONE
}

fn long_double(text: Str<'_>) -> Result<LongDouble, Fault> {
    if text.len() >= TEXT_MAX {
        return Err(NOT_FLOAT);
    }
    LongDouble::parse(&text.contiguous(&mut itoa::Buffer::new())).ok_or(NOT_FLOAT)
}
