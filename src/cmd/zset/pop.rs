//! Commands that take members out of sorted sets at their ends, and wait for some if there are none.
//!
//! A blocking command tries first. Run again when one of its keys has become ready it tries again, so that it needs no
//! code of its own for that; and what it did is logged as its sister that does not wait.

use super::{Zset, reply_member, tell_removed};
use crate::base::number::parse_i64;
use crate::cmd::blocking::{deadline, wait_for};
use crate::cmd::fault::{CmdResult, DONE, Fault, SYNTAX};
use crate::cmd::numkeys::{self, PopRequest};
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::object::Type;
use crate::resp::reply::Reply;

pub static ROWS: &[Row<DataFn>] = &[ZPOPMIN, ZPOPMAX, ZMPOP, BZPOPMIN, BZPOPMAX, BZMPOP];

const NOT_POSITIVE: Fault = Fault::new("ERR value is out of range, must be positive");

const TAKEN_FROM: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE);
const POPPED: &[KeySpec] = &[KeySpec::at(1).flags(TAKEN_FROM)];
const WAITED: &[KeySpec] = &[KeySpec::range(1, -2, 1).flags(TAKEN_FROM)];
const POP_COST: &str = "O(log(N)*M) with N the size of the sorted set, M the members taken";
const POP_ARGS: &[Arg] = &[Arg::key("key", 0), Arg::int("count").optional()];
const WAIT_ARGS: &[Arg] = &[Arg::key("key", 0).multiple(), Arg::double("timeout")];
const WHERE: Arg = Arg::one_of("where", &[Arg::word("min", "MIN"), Arg::word("max", "MAX")]);
const FRACTIONS: &[(&str, &str)] = &[("6.0.0", "The timeout may have a fraction.")];

/// The end that members are taken from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Min,
    Max,
}

impl End {
    /// The event of a pop.
    fn event(self) -> &'static str {
        match self {
            End::Min => "zpopmin",
            End::Max => "zpopmax",
        }
    }

    /// The command that pops: its name in a log.
    fn command(self) -> &'static [u8] {
        match self {
            End::Min => b"ZPOPMIN",
            End::Max => b"ZPOPMAX",
        }
    }
}

/// How the members taken are replied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Member, score, member, score ...
    Flat,
    /// An array of pairs.
    Pairs,
    /// The key, and behind it a member and its score.
    FlatWithKey,
    /// The key, and an array of pairs.
    PairsWithKey,
}

impl Form {
    /// What stands before the first of `n` members.
    fn reply_head(self, reply: &mut Reply, key: &[u8], n: usize) {
        match self {
            Form::Flat => reply.array(2 * n),
            Form::Pairs => reply.array(n),
            Form::FlatWithKey => {
                reply.array(2 * n + 1);
                reply.bulk(key);
            }
            Form::PairsWithKey => {
                reply.array(2);
                reply.bulk(key);
                reply.array(n);
            }
        }
    }
}

/// Takes up to `count` members out of a sorted set, replies them, and gives how many they were; `None` if it is not
/// there.
fn pop_from(
    cx: &mut Ctx<'_>,
    key: &[u8],
    end: End,
    count: usize,
    form: Form,
) -> Result<Option<usize>, Fault> {
    let reply = &mut *cx.reply;
    let nested = matches!(form, Form::Pairs | Form::PairsWithKey);
    let popped = cx.keys.change_if_there(key, |set: &mut Zset, _| {
        let n = count.min(set.len());
        form.reply_head(reply, key, n);
        for _ in 0..n {
            set.pop(end == End::Max, |member, score| {
                if nested {
                    reply.array(2);
                }
                reply_member(reply, member);
                reply.double(score);
            });
        }
        n
    })?;
    Ok(popped.map(|(n, gone)| {
        tell_removed(cx, key, end.event(), n, gone);
        n
    }))
}

/// Does so with the first key that is there, and gives it.
fn pop_from_first<'a>(
    cx: &mut Ctx<'_>,
    keys: &[&'a [u8]],
    end: End,
    count: usize,
    form: Form,
) -> Result<Option<(&'a [u8], usize)>, Fault> {
    for key in keys {
        if let Some(n) = pop_from(cx, key, end, count, form)? {
            return Ok(Some((key, n)));
        }
    }
    Ok(None)
}

const ZPOPMIN: Row<DataFn> = Spec::new("zpopmin", -2, Group::SortedSet)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .since("5.0.0")
    .cost(POP_COST)
    .about("Takes the members with the lowest scores out of a sorted set and replies them.")
    .keys(POPPED)
    .args(POP_ARGS)
    .run(zpopmin);

/// ZPOPMIN key [count]: replies the members taken with their scores.
fn zpopmin(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    pop(cx, args, End::Min)
}

const ZPOPMAX: Row<DataFn> = Spec::new("zpopmax", -2, Group::SortedSet)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .since("5.0.0")
    .cost(POP_COST)
    .about("Takes the members with the highest scores out of a sorted set and replies them.")
    .keys(POPPED)
    .args(POP_ARGS)
    .run(zpopmax);

/// ZPOPMAX key [count]: replies the members taken with their scores.
fn zpopmax(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    pop(cx, args, End::Max)
}

fn pop(cx: &mut Ctx<'_>, mut args: Args<'_>, end: End) -> CmdResult {
    let key = args.one()?;
    let count = match args.rest() {
        [] => None,
        [count] => Some(parse_i64(count).ok_or(NOT_POSITIVE)?),
        _ => return Err(SYNTAX),
    };
    let wanted = usize::try_from(count.unwrap_or(1)).map_err(|_| NOT_POSITIVE)?;
    let form = match count.is_some() && cx.reply.is_resp3() {
        true => Form::Pairs,
        false => Form::Flat,
    };
    if wanted == 0 {
        cx.keys.write_as::<Zset>(key)?;
        cx.reply.array(0);
    } else if pop_from(cx, key, end, wanted, form)?.is_none() {
        cx.reply.array(0);
    }
    DONE
}

// --- Of several keys -------------------------------------------------------------------------------------------

/// MIN or MAX.
fn side(word: &[u8]) -> Result<End, Fault> {
    if is_word(word, "MIN") {
        Ok(End::Min)
    } else if is_word(word, "MAX") {
        Ok(End::Max)
    } else {
        Err(SYNTAX)
    }
}

/// What ZMPOP and BZMPOP are asked, without the timeout.
type ManyKeys<'a> = PopRequest<'a, End>;

impl ManyKeys<'_> {
    /// Pops from the first key that is there; true if there is one. It is logged as a pop of so many from that key.
    fn pop(&self, cx: &mut Ctx<'_>) -> Result<bool, Fault> {
        let popped = pop_from_first(cx, self.keys, self.end, self.count, Form::PairsWithKey)?;
        let Some((key, n)) = popped else {
            return Ok(false);
        };
        let mut digits = itoa::Buffer::new();
        cx.log_instead(&[self.end.command(), key, digits.format(n).as_bytes()]);
        Ok(true)
    }
}

const ZMPOP: Row<DataFn> = Spec::new("zmpop", -4, Group::SortedSet)
    .flags(Flags::WRITE)
    .acl(Acl::SORTEDSET)
    .since("7.0.0")
    .cost("O(K) + O(M*log(N)) with K the keys named, N the size of the sorted set, M the members taken")
    .about("Takes members out of the first of several sorted sets that is there, and replies them.")
    .keys(&[numkeys::spec(1, TAKEN_FROM)])
    .args(&[
        Arg::int("numkeys"),
        Arg::key("key", 0).multiple(),
        WHERE,
        Arg::int("count").token("COUNT").optional(),
    ])
    .find_keys(|argv| numkeys::find(argv, 1, TAKEN_FROM))
    .run(zmpop);

/// ZMPOP numkeys key [key ...] MIN|MAX [COUNT count]: replies the key and the members taken, a null if there are none.
fn zmpop(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let request = ManyKeys::parse(&mut args, side)?;
    if !request.pop(cx)? {
        cx.reply.null_array();
    }
    DONE
}

// --- Waiting ---------------------------------------------------------------------------------------------------

const BZMPOP: Row<DataFn> = Spec::new("bzmpop", -5, Group::SortedSet)
    .flags(Flags::WRITE.or(Flags::BLOCKING))
    .acl(Acl::SORTEDSET)
    .since("7.0.0")
    .cost("O(K) + O(M*log(N)) with K the keys named, N the size of the sorted set, M the members taken")
    .about("Takes members out of the first of several sorted sets that is there; waits until one is.")
    .keys(&[numkeys::spec(2, TAKEN_FROM)])
    .args(&[
        Arg::double("timeout"),
        Arg::int("numkeys"),
        Arg::key("key", 0).multiple(),
        WHERE,
        Arg::int("count").token("COUNT").optional(),
    ])
    .find_keys(|argv| numkeys::find(argv, 2, TAKEN_FROM))
    .run(bzmpop);

/// BZMPOP timeout numkeys key [key ...] MIN|MAX [COUNT count]: as ZMPOP, and waits so many seconds for a member.
fn bzmpop(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let timeout = args.next()?;
    let request = ManyKeys::parse(&mut args, side)?;
    let deadline = deadline(timeout, cx.now_ms())?;
    match request.pop(cx)? {
        true => DONE,
        false => wait_for(request.keys, Type::Zset, deadline),
    }
}

const BZPOPMIN: Row<DataFn> = Spec::new("bzpopmin", -3, Group::SortedSet)
    .flags(Flags::WRITE.or(Flags::FAST).or(Flags::BLOCKING))
    .acl(Acl::SORTEDSET)
    .since("5.0.0")
    .cost("O(log(N)) with N the size of the sorted set")
    .about("Takes the member with the lowest score out of the first of several sorted sets that is there; waits until one is.")
    .history(FRACTIONS)
    .keys(WAITED)
    .args(WAIT_ARGS)
    .run(bzpopmin);

/// BZPOPMIN key [key ...] timeout: replies the key, the member taken and its score, and waits so many seconds for one.
fn bzpopmin(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    pop_or_wait(cx, args, End::Min)
}

const BZPOPMAX: Row<DataFn> = Spec::new("bzpopmax", -3, Group::SortedSet)
    .flags(Flags::WRITE.or(Flags::FAST).or(Flags::BLOCKING))
    .acl(Acl::SORTEDSET)
    .since("5.0.0")
    .cost("O(log(N)) with N the size of the sorted set")
    .about("Takes the member with the highest score out of the first of several sorted sets that is there; waits until one is.")
    .history(FRACTIONS)
    .keys(WAITED)
    .args(WAIT_ARGS)
    .run(bzpopmax);

/// BZPOPMAX key [key ...] timeout: replies the key, the member taken and its score, and waits so many seconds for one.
fn bzpopmax(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    pop_or_wait(cx, args, End::Max)
}

fn pop_or_wait(cx: &mut Ctx<'_>, args: Args<'_>, end: End) -> CmdResult {
    let [keys @ .., timeout] = args.rest() else {
        return Err(SYNTAX);
    };
    let deadline = deadline(timeout, cx.now_ms())?;
    let popped = pop_from_first(cx, keys, end, 1, Form::FlatWithKey)?;
    let Some((key, _)) = popped else {
        return wait_for(keys, Type::Zset, deadline);
    };
    cx.log_instead(&[end.command(), key]);
    DONE
}
