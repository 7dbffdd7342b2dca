//! Hashes: fields with values under one key.
//!
//! What a hash is made of, and when it changes its form, is [`Hash`]'s; here stand what the commands reply, tell and log.
//! Replies are written straight out of the hash.

use crate::base::longdouble::{LongDouble, TEXT_MAX};
use crate::base::number::parse_i64;
use crate::cmd::args::parse_draw;
use crate::cmd::fault::{CmdResult, DONE, Fault, NAN_OR_INF, NOT_FLOAT, NOT_INTEGER, OVERFLOW};
use crate::cmd::keys::Gone;
use crate::cmd::scan::{ScanOptions, key_and_cursor, reply_no_walk, reply_walk};
use crate::cmd::set::reply_elem;
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::string::reply_str;
use crate::cmd::{Args, Ctx, DataFn, Row};
use crate::config::NotifyFlags;
use crate::object::Str;
use crate::object::hash::{Hash, HashRules, Pair};
use crate::resp::reply::Reply;

pub static ROWS: &[Row<DataFn>] = &[
    HSET,
    HMSET,
    HSETNX,
    HINCRBY,
    HINCRBYFLOAT,
    HDEL,
    HGET,
    HMGET,
    HGETALL,
    HKEYS,
    HVALS,
    HLEN,
    HSTRLEN,
    HEXISTS,
    HRANDFIELD,
    HSCAN,
];

const READ: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))];
const ASKED: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RO)];
const SET: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::UPDATE))];
const COUNTED: &[KeySpec] =
    &[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))];
const PAIRS: &[Arg] = &[
    Arg::key("key", 0),
    Arg::block("data", &[Arg::string("field"), Arg::string("value")]).multiple(),
];
const ONE_FIELD: &[Arg] = &[Arg::key("key", 0), Arg::string("field")];
const SOME_FIELDS: &[Arg] = &[Arg::key("key", 0), Arg::string("field").multiple()];

/// The limits of a hash's small form, as they are configured now.
pub fn rules(cx: &Ctx<'_>) -> HashRules {
    let config = cx.config();
    HashRules {
        listpack_entries: config.hash_max_listpack_entries,
        listpack_value: config.hash_max_listpack_value,
        hash_key: cx.keys.hash_key(),
    }
}

// --- Setting ---------------------------------------------------------------------------------------------------

const HSET: Row<DataFn> = Spec::new("hset", -4, Group::Hash)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::HASH)
    .since("2.0.0")
    .cost("O(1) a field")
    .about("Sets fields of a hash, which is made if it is missing.")
    .history(&[("4.0.0", "Several fields and values.")])
    .keys(SET)
    .elements(2, 2)
    .args(PAIRS)
    .run(hset);

/// HSET key field value [field value ...]: replies how many fields are new.
fn hset(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let created = set_pairs(cx, args, "hset")?;
    cx.reply.int(created);
    DONE
}

const HMSET: Row<DataFn> = Spec::new("hmset", -4, Group::Hash)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::HASH)
    .since("2.0.0")
    .cost("O(N) with N fields")
    .about("Sets fields of a hash, as HSET does, and replies OK.")
    .deprecated("4.0.0", "`HSET` with multiple field-value pairs")
    .keys(SET)
    .elements(2, 2)
    .args(PAIRS)
    .run(hmset);

/// HMSET key field value [field value ...]: as HSET, but for the reply.
fn hmset(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    set_pairs(cx, args, "hmset")?;
    cx.reply.ok();
    DONE
}

/// Sets fields; gives how many are new.
fn set_pairs(cx: &mut Ctx<'_>, mut args: Args<'_>, command: &str) -> Result<i64, Fault> {
    let key = args.one()?;
    let pairs = args.rest();
    if pairs.len() % 2 == 1 {
        return Err(Fault::text(format!(
            "ERR wrong number of arguments for '{command}' command"
        )));
    }
    let rules = rules(cx);
    let (created, _) = cx.keys.change_or_make(key, Hash::new, |hash, _| {
        hash.prepare(pairs, &rules);
        let mut created = 0;
        for pair in pairs.chunks_exact(2) {
            let (field, value) = (pair[0], pair[1]);
            let is_new = hash.set_value(field, value, || args.value(value), &rules);
            created += i64::from(is_new);
        }
        created
    })?;
    cx.changed(key, pairs.len() as u64 / 2);
    cx.event(NotifyFlags::HASH, "hset", key);
    Ok(created)
}

const HSETNX: Row<DataFn> = Spec::new("hsetnx", 4, Group::Hash)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::HASH)
    .since("2.0.0")
    .cost("O(1)")
    .about("Sets a field of a hash that is not there yet.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::INSERT))])
    .elements(2, 9)
    .args(&[
        Arg::key("key", 0),
        Arg::string("field"),
        Arg::string("value"),
    ])
    .run(hsetnx);

/// HSETNX key field value: sets a field unless it is there.
fn hsetnx(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let pair = args.rest();
    let (field, value) = args.two()?;
    let there = cx.keys.write_as::<Hash>(key)?;
    if there.is_some_and(|hash| hash.get(field).is_some()) {
        cx.reply.int(0);
        return DONE;
    }
    let rules = rules(cx);
    cx.keys.change_or_make(key, Hash::new, |hash, _| {
        hash.prepare(pair, &rules);
        hash.set_value(field, value, || args.value(value), &rules)
    })?;
    cx.reply.int(1);
    cx.changed(key, 1);
    cx.event(NotifyFlags::HASH, "hset", key);
    DONE
}

const HINCRBY: Row<DataFn> = Spec::new("hincrby", 4, Group::Hash)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::HASH)
    .since("2.0.0")
    .cost("O(1)")
    .about("Adds a number to the integer in a field; a missing field counts as 0.")
    .keys(COUNTED)
    .elements(2, 9)
    .args(&[
        Arg::key("key", 0),
        Arg::string("field"),
        Arg::int("increment"),
    ])
    .run(hincrby);

/// HINCRBY key field increment: adds, and replies the sum.
fn hincrby(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, field) = args.two()?;
    let increment = parse_i64(args.next()?).ok_or(NOT_INTEGER)?;
    let rules = rules(cx);
    let (sum, _) = cx.keys.change_or_make(key, Hash::new, |hash, _| {
        let old = match hash.view().get(field) {
            Some(text) => text.parse_int().ok_or(NOT_AN_INTEGER)?,
            None => 0,
        };
        let sum = old.checked_add(increment).ok_or(OVERFLOW)?;
        hash.set(field, itoa::Buffer::new().format(sum).as_bytes(), &rules);
        Ok::<_, Fault>(sum)
    })?;
    cx.reply.int(sum?);
    cx.changed(key, 1);
    cx.event(NotifyFlags::HASH, "hincrby", key);
    DONE
}

const NOT_AN_INTEGER: Fault = Fault::new("ERR hash value is not an integer");
const NOT_A_FLOAT: Fault = Fault::new("ERR hash value is not a float");

const HINCRBYFLOAT: Row<DataFn> = Spec::new("hincrbyfloat", 4, Group::Hash)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::HASH)
    .since("2.6.0")
    .cost("O(1)")
    .about("Adds a number to the floating point number in a field; a missing field counts as 0.")
    .keys(COUNTED)
    .elements(2, 9)
    .args(&[
        Arg::key("key", 0),
        Arg::string("field"),
        Arg::double("increment"),
    ])
    .run(hincrbyfloat);

/// HINCRBYFLOAT key field increment: adds, and replies the sum. It is logged as an HSET of the sum, so that nobody has to
/// compute it again.
fn hincrbyfloat(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, field) = args.two()?;
    let increment = LongDouble::parse(args.next()?).ok_or(NOT_FLOAT)?;
    if !increment.is_finite() {
        return Err(Fault::new("ERR value is NaN or Infinity"));
    }
    let rules = rules(cx);
    let (sum, _) = cx.keys.change_or_make(key, Hash::new, |hash, _| {
        let old = long_double(hash.view().get(field).unwrap_or(Str::Int(0)))?;
        let sum = old.add(increment);
        if !sum.is_finite() {
            return Err(NAN_OR_INF);
        }
        let text = sum.to_text();
        hash.set(field, &text, &rules);
        Ok(text)
    })?;
    let text = sum?;
    cx.reply.bulk(&text);
    cx.changed(key, 1);
    cx.event(NotifyFlags::HASH, "hincrbyfloat", key);
    cx.log_instead(&[b"HSET", key, field, &text]);
    DONE
}

fn long_double(text: Str<'_>) -> Result<LongDouble, Fault> {
    if text.len() >= TEXT_MAX {
        return Err(NOT_A_FLOAT);
    }
    LongDouble::parse(&text.contiguous(&mut itoa::Buffer::new())).ok_or(NOT_A_FLOAT)
}

const HDEL: Row<DataFn> = Spec::new("hdel", -3, Group::Hash)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::HASH)
    .since("2.0.0")
    .cost("O(N) with N fields")
    .about("Deletes fields of a hash, and with the last one the hash.")
    .history(&[("2.4.0", "Several fields.")])
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::DELETE))])
    .elements(2, 1)
    .args(SOME_FIELDS)
    .run(hdel);

/// HDEL key field [field ...]: replies how many were there.
fn hdel(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let deleted = cx.keys.change_if_there(key, |hash: &mut Hash, _| {
        let fields = args.rest().iter();
        fields.filter(|field| hash.remove(field)).count()
    })?;
    let (deleted, gone) = deleted.unwrap_or((0, Gone(false)));
    cx.reply.int(deleted as i64);
    if deleted == 0 {
        return DONE;
    }
    cx.changed(key, deleted as u64);
    cx.event(NotifyFlags::HASH, "hdel", key);
    if gone.0 {
        cx.event(NotifyFlags::GENERIC, "del", key);
    }
    DONE
}

// --- Reading ---------------------------------------------------------------------------------------------------

const HGET: Row<DataFn> = Spec::new("hget", 3, Group::Hash)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::HASH)
    .since("2.0.0")
    .cost("O(1)")
    .about("Replies the value of a field.")
    .keys(READ)
    .elements(2, 1)
    .args(ONE_FIELD)
    .run(hget);

/// HGET key field: replies its value.
fn hget(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, field) = args.two()?;
    let hash = cx.keys.read_as::<Hash>(key)?;
    reply_value(cx.reply, hash.and_then(|hash| hash.get(field)));
    DONE
}

fn reply_value(reply: &mut Reply, value: Option<Str<'_>>) {
    match value {
        Some(value) => reply_str(reply, value),
        None => reply.null(),
    }
}

const HMGET: Row<DataFn> = Spec::new("hmget", -3, Group::Hash)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::HASH)
    .since("2.0.0")
    .cost("O(N) with N fields")
    .about("Replies the values of several fields.")
    .keys(READ)
    .elements(2, 1)
    .args(SOME_FIELDS)
    .run(hmget);

/// HMGET key field [field ...]: replies a value or null for each.
fn hmget(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let hash = cx.keys.read_as::<Hash>(key)?;
    cx.reply.array(args.left());
    for field in args.rest() {
        reply_value(cx.reply, hash.and_then(|hash| hash.get(field)));
    }
    DONE
}

const HGETALL: Row<DataFn> = Spec::new("hgetall", 2, Group::Hash)
    .flags(Flags::READONLY)
    .acl(Acl::HASH)
    .since("2.0.0")
    .cost("O(N) with N the size of the hash")
    .about("Replies all fields with their values.")
    .tips(&["nondeterministic_output_order"])
    .keys(READ)
    .args(&[Arg::key("key", 0)])
    .run(hgetall);

/// HGETALL key: replies a map of all fields.
fn hgetall(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let Some(hash) = cx.keys.read_as::<Hash>(args.one()?)? else {
        cx.reply.map(0);
        return DONE;
    };
    cx.reply.map(hash.len());
    for (field, value) in hash.iter() {
        reply_elem(cx.reply, field);
        reply_str(cx.reply, value);
    }
    DONE
}

const HKEYS: Row<DataFn> = Spec::new("hkeys", 2, Group::Hash)
    .flags(Flags::READONLY)
    .acl(Acl::HASH)
    .since("2.0.0")
    .cost("O(N) with N the size of the hash")
    .about("Replies the names of all fields.")
    .tips(&["nondeterministic_output_order"])
    .keys(READ)
    .args(&[Arg::key("key", 0)])
    .run(hkeys);

/// HKEYS key: replies all fields.
fn hkeys(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    reply_all(cx, args, |reply, (field, _)| reply_elem(reply, field))
}

const HVALS: Row<DataFn> = Spec::new("hvals", 2, Group::Hash)
    .flags(Flags::READONLY)
    .acl(Acl::HASH)
    .since("2.0.0")
    .cost("O(N) with N the size of the hash")
    .about("Replies all values.")
    .tips(&["nondeterministic_output_order"])
    .keys(READ)
    .args(&[Arg::key("key", 0)])
    .run(hvals);

/// HVALS key: replies all values.
fn hvals(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    reply_all(cx, args, |reply, (_, value)| reply_str(reply, value))
}

/// Replies an array of what `f` writes for each field.
fn reply_all(cx: &mut Ctx<'_>, mut args: Args<'_>, f: impl Fn(&mut Reply, Pair<'_>)) -> CmdResult {
    let Some(hash) = cx.keys.read_as::<Hash>(args.one()?)? else {
        cx.reply.array(0);
        return DONE;
    };
    cx.reply.array(hash.len());
    hash.iter().for_each(|pair| f(cx.reply, pair));
    DONE
}

const HLEN: Row<DataFn> = Spec::new("hlen", 2, Group::Hash)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::HASH)
    .since("2.0.0")
    .cost("O(1)")
    .about("Replies the number of fields.")
    .keys(ASKED)
    .args(&[Arg::key("key", 0)])
    .run(hlen);

/// HLEN key: replies the number of fields.
fn hlen(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let hash = cx.keys.read_as::<Hash>(args.one()?)?;
    cx.reply.int(hash.map_or(0, |hash| hash.len()) as i64);
    DONE
}

const HSTRLEN: Row<DataFn> = Spec::new("hstrlen", 3, Group::Hash)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::HASH)
    .since("3.2.0")
    .cost("O(1)")
    .about("Replies the length of a field's value.")
    .keys(ASKED)
    .elements(2, 1)
    .args(ONE_FIELD)
    .run(hstrlen);

/// HSTRLEN key field: replies the length of its value.
fn hstrlen(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, field) = args.two()?;
    let hash = cx.keys.read_as::<Hash>(key)?;
    let value = hash.and_then(|hash| hash.get(field));
    cx.reply.int(value.map_or(0, Str::len) as i64);
    DONE
}

const HEXISTS: Row<DataFn> = Spec::new("hexists", 3, Group::Hash)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::HASH)
    .since("2.0.0")
    .cost("O(1)")
    .about("Replies whether a field is there.")
    .keys(ASKED)
    .elements(2, 1)
    .args(ONE_FIELD)
    .run(hexists);

/// HEXISTS key field: replies 1 if it is there.
fn hexists(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, field) = args.two()?;
    let hash = cx.keys.read_as::<Hash>(key)?;
    let there = hash.is_some_and(|hash| hash.get(field).is_some());
    cx.reply.int(i64::from(there));
    DONE
}

const HRANDFIELD: Row<DataFn> = Spec::new("hrandfield", -2, Group::Hash)
    .flags(Flags::READONLY)
    .acl(Acl::HASH)
    .since("6.2.0")
    .cost("O(N) with N fields replied")
    .about("Replies random fields.")
    .tips(&["nondeterministic_output"])
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::block(
            "options",
            &[
                Arg::int("count"),
                Arg::word("withvalues", "WITHVALUES").optional(),
            ],
        )
        .optional(),
    ])
    .run(hrandfield);

/// HRANDFIELD key [count [WITHVALUES]]: replies a random field, or so many: different ones, or with a negative count each
/// drawn from all.
fn hrandfield(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    // Of its own, because the hash keeps the rest of the keys borrowed.
    let mut rng = cx.keys.rng.fork();
    if !args.more() {
        let hash = cx.keys.read_as::<Hash>(key)?;
        match hash.and_then(|hash| hash.random(&mut rng)) {
            Some((field, _)) => reply_elem(cx.reply, field),
            None => cx.reply.null(),
        }
        return DONE;
    }
    let (count, with_values) = parse_draw(&mut args, "WITHVALUES")?;
    let Some(hash) = cx.keys.read_as::<Hash>(key)? else {
        cx.reply.array(0);
        return DONE;
    };
    let different = count > 0;
    let mut n = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if different {
        n = n.min(hash.len());
    }
    let reply = &mut *cx.reply;
    let nested = with_values && reply.is_resp3();
    reply.array(if with_values && !nested { 2 * n } else { n });
    let each = |(field, value): Pair<'_>| {
        if nested {
            reply.array(2);
        }
        reply_elem(reply, field);
        if with_values {
            reply_str(reply, value);
        }
    };
    if different {
        hash.select(n, &mut rng, each);
    } else {
        hash.draw(n, &mut rng, each);
    }
    DONE
}

const HSCAN: Row<DataFn> = Spec::new("hscan", -3, Group::Hash)
    .flags(Flags::READONLY)
    .acl(Acl::HASH)
    .since("2.8.0")
    .cost("O(1) a call, O(N) for the walk over all N fields")
    .about("Replies some fields with their values, and a cursor to go on with.")
    .tips(&["nondeterministic_output"])
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::int("cursor"),
        Arg::pattern("pattern").token("MATCH").optional(),
        Arg::int("count").token("COUNT").optional(),
    ])
    .run(hscan);

/// HSCAN key cursor [MATCH pattern] [COUNT n]: replies a cursor to go on with and some fields with their values.
fn hscan(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, cursor) = key_and_cursor(&mut args)?;
    let Some(hash) = cx.keys.read_as::<Hash>(key)? else {
        reply_no_walk(cx.reply);
        return DONE;
    };
    let options = ScanOptions::parse(args.rest(), false)?;
    reply_walk(cx.reply, |reply| {
        let mut count = 0;
        let next = hash.scan(cursor, options.count, |(field, value)| {
            let mut digits = itoa::Buffer::new();
            let field = field.text(&mut digits);
            if options.wants_name(field) {
                reply.bulk(field);
                reply_str(reply, value);
                count += 2;
            }
        });
        (next, count)
    });
    DONE
}

#[cfg(test)]
mod tests {
    use crate::cmd::tests::Bench;

    #[test]
    fn hashes_tell_what_was_done_to_them() {
        let mut b = Bench::new();
        b.expect("hset h a 1 b 2", "hset h a 1 b 2", "new h, hset h");
        b.expect("hset h a", "", "");
        b.expect("hsetnx h a 2", "", "");
        b.expect("hsetnx h c 3", "hsetnx h c 3", "hset h");
        b.expect("hincrby h a 5", "hincrby h a 5", "hincrby h");
        b.expect("hincrbyfloat h a 0.5", "HSET h a 6.5", "hincrbyfloat h");
        b.expect("hincrby h a 5", "", "");
        b.expect("hincrby h b 9223372036854775807", "", "");
        b.expect(
            "hincrbyfloat new a 2",
            "HSET new a 2",
            "new new, hincrbyfloat new",
        );
        b.expect("hincrbyfloat none a inf", "", "");
        b.expect("hdel h none", "", "");
        b.expect("hdel none a", "", "");
        b.expect("hdel h a a none", "hdel h a a none", "hdel h");
        b.expect("hdel h a b c d", "hdel h a b c d", "hdel h, del h");
        b.expect("hgetall h", "", "keymiss h");
    }
}
