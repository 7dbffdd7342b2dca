//! Sorted sets: members added, scored, ranked and removed one by one.
//!
//! The rest stands beside: ranges in [`range`], pops in [`pop`], unions, intersections and differences in [`combine`],
//! members at random and the walk over all in [`sample`].

pub mod combine;
pub mod pop;
pub mod range;
pub mod sample;
#[cfg(test)]
mod tests;

use smallvec::SmallVec;

use crate::base::number::parse_f64;
use crate::cmd::fault::{CmdResult, DONE, Fault, NOT_FLOAT, SYNTAX};
use crate::cmd::keys::{Gone, Keys};
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::config::NotifyFlags;
use crate::ds::listpack::Elem;
pub use crate::object::Zset;
use crate::object::zset::Rules;
use crate::resp::reply::Reply;

pub static ROWS: &[Row<DataFn>] = &[ZADD, ZINCRBY, ZREM, ZCARD, ZSCORE, ZMSCORE, ZRANK, ZREVRANK];

const READ: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))];
const REMOVED_FROM: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::DELETE))];

const NX_AND_XX: Fault = Fault::new("ERR XX and NX options at the same time are not compatible");
const GT_LT_NX: Fault =
    Fault::new("ERR GT, LT, and/or NX options at the same time are not compatible");
const INCR_PAIRS: Fault = Fault::new("ERR INCR option supports a single increment-element pair");
const NAN_SCORE: Fault = Fault::new("ERR resulting score is not a number (NaN)");

/// The limits of a sorted set's small form, as they are configured now.
pub fn rules(keys: &Keys<'_>) -> Rules {
    Rules {
        entries_max: keys.config.zset_max_listpack_entries,
        value_max: keys.config.zset_max_listpack_value,
        hash_key: keys.hash_key(),
    }
}

/// A member as a bulk string, straight from the sorted set.
#[inline(always)]
fn reply_member(reply: &mut Reply, member: Elem<'_>) {
    match member {
        Elem::Str(text) => reply.bulk(text),
        Elem::Int(int) => reply.bulk_int(int),
    }
}

/// The head of an array of `n` members. With their scores it is flat in RESP2, and made of pairs in RESP3.
fn reply_members_head(reply: &mut Reply, n: usize, with_scores: bool) {
    let flat = with_scores && !reply.is_resp3();
    reply.array(if flat { 2 * n } else { n });
}

/// One of those members.
#[inline]
fn reply_scored(reply: &mut Reply, member: Elem<'_>, score: f64, with_scores: bool) {
    if with_scores && reply.is_resp3() {
        reply.array(2);
    }
    reply_member(reply, member);
    if with_scores {
        reply.double(score);
    }
}

/// Tells that `n` members of a key went, and the key with them if nothing is left.
fn tell_removed(cx: &mut Ctx<'_>, key: &[u8], event: &'static str, n: usize, gone: Gone) {
    cx.changed(key, n as u64);
    cx.event(NotifyFlags::ZSET, event, key);
    if gone.0 {
        cx.event(NotifyFlags::GENERIC, "del", key);
    }
}

// --- Adding ----------------------------------------------------------------------------------------------------

const ZADD: Row<DataFn> = Spec::new("zadd", -4, Group::SortedSet)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .since("1.2.0")
    .cost("O(log(N)) a member, N being the size of the sorted set")
    .about("Adds members with their scores to a sorted set, or gives them new scores.")
    .history(&[
        ("2.4.0", "Several members at once."),
        ("3.0.2", "The options `XX`, `NX`, `CH` and `INCR`."),
        ("6.2.0", "The options `GT` and `LT`."),
    ])
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::UPDATE))])
    .args(&[
        Arg::key("key", 0),
        Arg::one_of("condition", &[Arg::word("nx", "NX"), Arg::word("xx", "XX")])
            .since("3.0.2")
            .optional(),
        Arg::one_of(
            "comparison",
            &[Arg::word("gt", "GT"), Arg::word("lt", "LT")],
        )
        .since("6.2.0")
        .optional(),
        Arg::word("change", "CH").since("3.0.2").optional(),
        Arg::word("increment", "INCR").since("3.0.2").optional(),
        Arg::block("data", &[Arg::double("score"), Arg::string("member")]).multiple(),
    ])
    .elements(3, 2)
    .run(zadd);

/// ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member [score member ...]: replies how many are new (with CH: or changed),
/// with INCR the new score.
pub fn zadd(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    add(cx, args, AddOptions::default())
}

const ZINCRBY: Row<DataFn> = Spec::new("zincrby", 4, Group::SortedSet)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .since("1.2.0")
    .cost("O(log(N)) with N the size of the sorted set")
    .about("Adds a number to the score of a member; a missing one counts as 0.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))])
    .args(&[
        Arg::key("key", 0),
        Arg::int("increment"),
        Arg::string("member"),
    ])
    .elements(3, 9)
    .run(zincrby);

/// ZINCRBY key increment member: replies the new score.
fn zincrby(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let incr = true;
    add(
        cx,
        args,
        AddOptions {
            incr,
            ..AddOptions::default()
        },
    )
}

/// The options of ZADD.
#[derive(Clone, Copy, Default)]
struct AddOptions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
    ch: bool,
    incr: bool,
}

impl AddOptions {
    /// Takes the options that stand before the first score.
    fn take(&mut self, args: &mut Args<'_>) {
        while let Some(word) = args.peek() {
            let flag = match word {
                _ if is_word(word, "NX") => &mut self.nx,
                _ if is_word(word, "XX") => &mut self.xx,
                _ if is_word(word, "CH") => &mut self.ch,
                _ if is_word(word, "INCR") => &mut self.incr,
                _ if is_word(word, "GT") => &mut self.gt,
                _ if is_word(word, "LT") => &mut self.lt,
                _ => return,
            };
            *flag = true;
            args.skip(1);
        }
    }

    fn check(&self, pairs: usize) -> Result<(), Fault> {
        let exclusive = [self.nx, self.gt, self.lt];
        if self.nx && self.xx {
            Err(NX_AND_XX)
        } else if exclusive.into_iter().filter(|set| *set).count() > 1 {
            Err(GT_LT_NX)
        } else if self.incr && pairs > 1 {
            Err(INCR_PAIRS)
        } else {
            Ok(())
        }
    }
}

/// What became of the pairs.
#[derive(Default)]
struct Added {
    new: u64,
    updated: u64,
    /// The score of the last one that no option held back.
    score: Option<f64>,
    nan: bool,
}

impl Added {
    /// The score that a member shall have, given the one it has.
    #[inline]
    fn decide(&mut self, options: AddOptions, old: Option<f64>, score: f64) -> Option<f64> {
        let Some(old) = old else {
            if options.xx {
                return None;
            }
            self.new += 1;
            self.score = Some(score);
            return Some(score);
        };
        if options.nx {
            return None;
        }
        let score = if options.incr { old + score } else { score };
        if score.is_nan() {
            self.nan = true;
            return None;
        }
        if (options.lt && score >= old) || (options.gt && score <= old) {
            return None;
        }
        self.updated += u64::from(score != old);
        self.score = Some(score);
        Some(score)
    }
}

fn add(cx: &mut Ctx<'_>, mut args: Args<'_>, mut options: AddOptions) -> CmdResult {
    let key = args.one()?;
    options.take(&mut args);
    let rest = args.rest();
    if rest.is_empty() || !rest.len().is_multiple_of(2) {
        return Err(SYNTAX);
    }
    options.check(rest.len() / 2)?;
    // All scores are read before anything is added.
    let mut scores: SmallVec<[f64; 8]> = SmallVec::new();
    for pair in rest.chunks_exact(2) {
        scores.push(parse_f64(pair[0]).ok_or(NOT_FLOAT)?);
    }
    let rules = rules(&cx.keys);
    let mut added = Added::default();
    let mut add_all = |set: &mut Zset| {
        for (pair, &score) in rest.chunks_exact(2).zip(&scores) {
            set.update(&rules, pair[1], |old| added.decide(options, old, score));
        }
    };
    let there = cx.keys.change_if_there(key, |set: &mut Zset, _| {
        set.expect(&rules, scores.len());
        add_all(set);
    })?;
    if there.is_none() && !options.xx {
        let mut set = Zset::for_adding(&rules, scores.len(), rest[1].len());
        add_all(&mut set);
        cx.keys.store(key, set);
    }
    if added.nan {
        return Err(NAN_SCORE);
    }
    match added.score {
        Some(score) if options.incr => cx.reply.double(score),
        None if options.incr => cx.reply.null(),
        _ => {
            let changed = if options.ch { added.updated } else { 0 };
            cx.reply.int((added.new + changed) as i64);
        }
    }
    if added.new + added.updated > 0 {
        cx.changed(key, added.new + added.updated);
        let event = if options.incr { "zincr" } else { "zadd" };
        cx.event(NotifyFlags::ZSET, event, key);
    }
    DONE
}

// --- Removing --------------------------------------------------------------------------------------------------

const ZREM: Row<DataFn> = Spec::new("zrem", -3, Group::SortedSet)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .since("1.2.0")
    .cost("O(M*log(N)) with N the size of the sorted set, M the members named")
    .about("Removes members from a sorted set; with the last one the key goes.")
    .history(&[("2.4.0", "Several members at once.")])
    .keys(REMOVED_FROM)
    .args(&[Arg::key("key", 0), Arg::string("member").multiple()])
    .elements(2, 1)
    .run(zrem);

/// ZREM key member [member ...]: replies how many there were.
fn zrem(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let removed = cx.keys.change_if_there(key, |set: &mut Zset, _| {
        let members = args.rest().iter();
        members.filter(|member| set.remove(member)).count()
    })?;
    let (n, gone) = removed.unwrap_or((0, Gone(false)));
    if n > 0 {
        cx.event(NotifyFlags::ZSET, "zrem", key);
        if gone.0 {
            cx.event(NotifyFlags::GENERIC, "del", key);
        }
        cx.changed(key, n as u64);
    }
    cx.reply.int(n as i64);
    DONE
}

// --- Asking ----------------------------------------------------------------------------------------------------

const ZCARD: Row<DataFn> = Spec::new("zcard", 2, Group::SortedSet)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .since("1.2.0")
    .cost("O(1)")
    .about("Replies how many members a sorted set has.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO)])
    .args(&[Arg::key("key", 0)])
    .run(zcard);

/// ZCARD key: replies the number of members.
fn zcard(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let len = cx.keys.read_as::<Zset>(args.one()?)?.map_or(0, Zset::len);
    cx.reply.int(len as i64);
    DONE
}

const ZSCORE: Row<DataFn> = Spec::new("zscore", 3, Group::SortedSet)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .since("1.2.0")
    .cost("O(1)")
    .about("Replies the score of a member of a sorted set.")
    .keys(READ)
    .args(&[Arg::key("key", 0), Arg::string("member")])
    .elements(2, 9)
    .run(zscore);

/// ZSCORE key member: replies the score, a null for what is not there.
fn zscore(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, member) = args.two()?;
    let set = cx.keys.read_as::<Zset>(key)?;
    reply_score(cx.reply, set.and_then(|set| set.score(member)));
    DONE
}

fn reply_score(reply: &mut Reply, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

const ZMSCORE: Row<DataFn> = Spec::new("zmscore", -3, Group::SortedSet)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .since("6.2.0")
    .cost("O(N) with N the members asked for")
    .about("Replies the scores of several members of a sorted set.")
    .keys(READ)
    .args(&[Arg::key("key", 0), Arg::string("member").multiple()])
    .elements(2, 1)
    .run(zmscore);

/// ZMSCORE key member [member ...]: replies the score of each, a null for those that are not there.
fn zmscore(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let set = cx.keys.read_as::<Zset>(key)?;
    cx.reply.array(args.left());
    for member in args.rest() {
        reply_score(cx.reply, set.and_then(|set| set.score(member)));
    }
    DONE
}

const RANK_HISTORY: &[(&str, &str)] = &[("7.2.0", "The option `WITHSCORE`.")];
const RANK_ARGS: &[Arg] = &[
    Arg::key("key", 0),
    Arg::string("member"),
    Arg::word("withscore", "WITHSCORE").optional(),
];

const ZRANK: Row<DataFn> = Spec::new("zrank", -3, Group::SortedSet)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .since("2.0.0")
    .cost("O(log(N))")
    .about("Replies how many members of a sorted set stand before one.")
    .history(RANK_HISTORY)
    .keys(READ)
    .args(RANK_ARGS)
    .elements(2, 9)
    .run(zrank);

/// ZRANK key member [WITHSCORE]: replies the rank of a member from the lowest score on, which has rank 0.
fn zrank(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    rank(cx, args, false)
}

const ZREVRANK: Row<DataFn> = Spec::new("zrevrank", -3, Group::SortedSet)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .since("2.0.0")
    .cost("O(log(N))")
    .about("Replies how many members of a sorted set stand behind one.")
    .history(RANK_HISTORY)
    .keys(READ)
    .args(RANK_ARGS)
    .elements(2, 9)
    .run(zrevrank);

/// ZREVRANK key member [WITHSCORE]: replies the rank of a member from the highest score on, which has rank 0.
fn zrevrank(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    rank(cx, args, true)
}

fn rank(cx: &mut Ctx<'_>, mut args: Args<'_>, reverse: bool) -> CmdResult {
    let (key, member) = args.two()?;
    let with_score = match args.rest() {
        [] => false,
        [word] if is_word(word, "WITHSCORE") => true,
        [_] => return Err(SYNTAX),
        _ => {
            let name = if reverse { "zrevrank" } else { "zrank" };
            let text = format!("ERR wrong number of arguments for '{name}' command");
            return Err(Fault::text(text));
        }
    };
    let set = cx.keys.read_as::<Zset>(key)?;
    match set.and_then(|set| Some((set.rank(member)?, set.len()))) {
        None if with_score => cx.reply.null_array(),
        None => cx.reply.null(),
        Some(((rank, score), len)) => {
            if with_score {
                cx.reply.array(2);
            }
            let rank = if reverse { len - 1 - rank } else { rank };
            cx.reply.int(rank as i64);
            if with_score {
                cx.reply.double(score);
            }
        }
    }
    DONE
}
