//! Ranges of sorted sets: by rank, by score, by member; read, counted, stored and removed.
//!
//! Whatever the range is of, it comes down to a run of ranks in the sorted set; only then it matters what is done with it.
//! [`Query`] is what ZRANGE and its older sisters ask for, [`Ends`] the range itself.

use std::borrow::Cow;
use std::ops::Range;

use super::{READ, REMOVED_FROM, Zset, reply_members_head, reply_scored, rules, tell_removed};
use crate::base::number::{parse_bound, parse_i64};
use crate::cmd::fault::{CmdResult, DONE, Fault, NOT_INTEGER, SYNTAX};
use crate::cmd::keys::Gone;
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row};
use crate::config::NotifyFlags;
use crate::ds::listpack::Elem;
use crate::object::zset::{LexEnd, LexRange, Rules, ScoreEnd, ScoreRange};

pub static ROWS: &[Row<DataFn>] = &[
    ZRANGE,
    ZRANGESTORE,
    ZRANGEBYSCORE,
    ZRANGEBYLEX,
    ZREVRANGE,
    ZREVRANGEBYSCORE,
    ZREVRANGEBYLEX,
    ZCOUNT,
    ZLEXCOUNT,
    ZREMRANGEBYRANK,
    ZREMRANGEBYSCORE,
    ZREMRANGEBYLEX,
];

const NOT_SCORES: Fault = Fault::new("ERR min or max is not a float");
const NOT_MEMBERS: Fault = Fault::new("ERR min or max not valid string range item");
const LIMIT_OF_RANKS: Fault = Fault::new(
    "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
);
const SCORES_OF_MEMBERS: Fault =
    Fault::new("ERR syntax error, WITHSCORES not supported in combination with BYLEX");

// --- The ends of a range ---------------------------------------------------------------------------------------

/// What a range is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Member,
}

/// A range.
#[derive(Clone, Copy)]
enum Ends<'a> {
    /// From one rank to another, both of them in it; negative ones count from the end.
    Ranks(i64, i64),
    Scores(ScoreRange),
    Members(LexRange<'a>),
}

/// Reads an end of a range of scores: a number, behind a `(` if it is not in the range itself.
fn score_end(text: &[u8]) -> Option<ScoreEnd> {
    let (open, text) = match text {
        [b'(', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let score = parse_bound(text)?;
    Some(ScoreEnd { score, open })
}

/// Reads a range of scores.
pub fn score_range(min: &[u8], max: &[u8]) -> Result<ScoreRange, Fault> {
    match (score_end(min), score_end(max)) {
        (Some(min), Some(max)) => Ok(ScoreRange { min, max }),
        _ => Err(NOT_SCORES),
    }
}

/// Reads an end of a range of members: `[member`, `(member` if it is not in the range itself, `-` or `+`.
fn lex_end(text: &[u8]) -> Option<LexEnd<'_>> {
    match text {
        // C's texts end at a zero byte.
        [b'-'] | [b'-', 0, ..] => Some(LexEnd::First),
        [b'+'] | [b'+', 0, ..] => Some(LexEnd::Last),
        [b'[', member @ ..] => Some(LexEnd::Closed(member)),
        [b'(', member @ ..] => Some(LexEnd::Open(member)),
        _ => None,
    }
}

impl<'a> Ends<'a> {
    fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Ends<'a>, Fault> {
        Ok(match by {
            By::Rank => Ends::Ranks(
                parse_i64(min).ok_or(NOT_INTEGER)?,
                parse_i64(max).ok_or(NOT_INTEGER)?,
            ),
            By::Score => Ends::Scores(score_range(min, max)?),
            By::Member => match (lex_end(min), lex_end(max)) {
                (Some(min), Some(max)) => Ends::Members(LexRange { min, max }),
                _ => return Err(NOT_MEMBERS),
            },
        })
    }

    /// The ranks from the lowest score on, without the first `skip` (from the highest on in `reverse`; by rank nothing is
    /// skipped).
    fn ranks(&self, set: &Zset, reverse: bool, skip: usize) -> Range<usize> {
        match self {
            Ends::Ranks(start, end) => {
                let ranks = counted_ranks(*start, *end, set.len());
                match reverse {
                    true => set.len() - ranks.end..set.len() - ranks.start,
                    false => ranks,
                }
            }
            Ends::Members(range) => set.ranks_of_members(range, reverse, skip),
            Ends::Scores(range) => {
                let ranks = set.ranks_of_scores(range);
                match reverse {
                    true => ranks.start..ranks.end.saturating_sub(skip).max(ranks.start),
                    false => ranks.start.saturating_add(skip).min(ranks.end)..ranks.end,
                }
            }
        }
    }
}

/// The ranks of a range whose ends may be negative, as they stand in a set of `len`.
fn counted_ranks(start: i64, end: i64, len: usize) -> Range<usize> {
    let len_i = len as i64;
    let absolute = |at: i64| if at < 0 { at.saturating_add(len_i) } else { at };
    let (start, end) = (absolute(start).max(0), absolute(end));
    if start > end || start >= len_i {
        return 0..0;
    }
    start as usize..(end as usize).saturating_add(1).min(len)
}

// --- Reading ---------------------------------------------------------------------------------------------------

/// What ZRANGE asks for.
struct Query<'a> {
    key: &'a [u8],
    ends: Ends<'a>,
    reverse: bool,
    with_scores: bool,
    offset: i64,
    limit: i64,
}

impl<'a> Query<'a> {
    /// Reads `key min max [option ...]`. The older commands say by their names what the range is of and which way it
    /// goes; one that stores takes no WITHSCORES.
    fn parse(
        args: &mut Args<'a>,
        by: Option<By>,
        reverse: Option<bool>,
        stores: bool,
    ) -> Result<Query<'a>, Fault> {
        let key = args.next()?;
        let (first, second) = args.two()?;
        let (mut found_by, mut found_reverse) = (by, reverse);
        let (mut with_scores, mut offset, mut limit) = (false, 0, -1);
        while args.more() {
            if !stores && args.take_word("WITHSCORES") {
                with_scores = true;
            } else if args.left() >= 3 && args.take_word("LIMIT") {
                (offset, limit) = (args.next_i64()?, args.next_i64()?);
            } else if reverse.is_none() && found_reverse.is_none() && args.take_word("REV") {
                found_reverse = Some(true);
            } else if found_by.is_none() && args.take_word("BYLEX") {
                found_by = Some(By::Member);
            } else if found_by.is_none() && args.take_word("BYSCORE") {
                found_by = Some(By::Score);
            } else {
                return Err(SYNTAX);
            }
        }
        let (by, reverse) = (found_by.unwrap_or(By::Rank), found_reverse.unwrap_or(false));
        if limit != -1 && by == By::Rank {
            return Err(LIMIT_OF_RANKS);
        }
        if with_scores && by == By::Member {
            return Err(SCORES_OF_MEMBERS);
        }
        // From the highest score on the range is told from its higher end.
        let (min, max) = match reverse && by != By::Rank {
            true => (second, first),
            false => (first, second),
        };
        Ok(Query {
            key,
            ends: Ends::parse(by, min, max)?,
            reverse,
            with_scores,
            offset,
            limit,
        })
    }

    /// The ranks asked for, from the lowest score on.
    fn ranks(&self, set: &Zset) -> Range<usize> {
        // With a negative offset nothing is ever reached.
        let Ok(skip) = usize::try_from(self.offset) else {
            return match self.ends {
                Ends::Ranks(..) => self.ends.ranks(set, self.reverse, 0),
                _ => 0..0,
            };
        };
        let mut ranks = self.ends.ranks(set, self.reverse, skip);
        if let Ok(limit) = usize::try_from(self.limit)
            && limit < ranks.len()
        {
            match self.reverse {
                true => ranks.start = ranks.end - limit,
                false => ranks.end = ranks.start + limit,
            }
        }
        ranks
    }
}

/// Replies what is asked for.
fn reply_range(
    cx: &mut Ctx<'_>,
    mut args: Args<'_>,
    by: Option<By>,
    reverse: Option<bool>,
) -> CmdResult {
    let query = Query::parse(&mut args, by, reverse, false)?;
    let Some(set) = cx.keys.read_as::<Zset>(query.key)? else {
        cx.reply.array(0);
        return DONE;
    };
    let ranks = query.ranks(set);
    let (reply, with_scores) = (&mut *cx.reply, query.with_scores);
    reply_members_head(reply, ranks.len(), with_scores);
    for (member, score) in set.items(ranks, query.reverse) {
        reply_scored(reply, member, score, with_scores);
    }
    DONE
}

const LIMIT: Arg = Arg::block("limit", &[Arg::int("offset"), Arg::int("count")]).token("LIMIT");
const WITH_SCORES: Arg = Arg::word("withscores", "WITHSCORES");
const SORT_BY: Arg = Arg::one_of(
    "sortby",
    &[Arg::word("byscore", "BYSCORE"), Arg::word("bylex", "BYLEX")],
);
const COST: &str = "O(log(N)+M) with N the size of the sorted set, M the members given";

const ZRANGE: Row<DataFn> = Spec::new("zrange", -4, Group::SortedSet)
    .flags(Flags::READONLY)
    .acl(Acl::SORTEDSET)
    .since("1.2.0")
    .cost(COST)
    .about("Replies the members of a range of ranks, scores or members.")
    .history(&[(
        "6.2.0",
        "The options `REV`, `BYSCORE`, `BYLEX` and `LIMIT`.",
    )])
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::string("start"),
        Arg::string("stop"),
        SORT_BY.since("6.2.0").optional(),
        Arg::word("rev", "REV").since("6.2.0").optional(),
        LIMIT.since("6.2.0").optional(),
        WITH_SCORES.optional(),
    ])
    .run(zrange);

/// ZRANGE key start stop [BYSCORE|BYLEX] [REV] [LIMIT offset count] [WITHSCORES]: replies the members of a range.
fn zrange(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    reply_range(cx, args, None, None)
}

const ZREVRANGE: Row<DataFn> = Spec::new("zrevrange", -4, Group::SortedSet)
    .flags(Flags::READONLY)
    .acl(Acl::SORTEDSET)
    .since("1.2.0")
    .cost(COST)
    .about("Replies the members of a range of ranks, from the highest score on.")
    .deprecated("6.2.0", "`ZRANGE` with the `REV` argument")
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::int("start"),
        Arg::int("stop"),
        WITH_SCORES.optional(),
    ])
    .run(zrevrange);

/// ZREVRANGE key start stop [WITHSCORES]
fn zrevrange(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    reply_range(cx, args, Some(By::Rank), Some(true))
}

const ZRANGEBYSCORE: Row<DataFn> = Spec::new("zrangebyscore", -4, Group::SortedSet)
    .flags(Flags::READONLY)
    .acl(Acl::SORTEDSET)
    .since("1.0.5")
    .cost(COST)
    .about("Replies the members of a range of scores.")
    .history(&[("2.0.0", "The option `WITHSCORES`.")])
    .deprecated("6.2.0", "`ZRANGE` with the `BYSCORE` argument")
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::double("min"),
        Arg::double("max"),
        WITH_SCORES.since("2.0.0").optional(),
        LIMIT.optional(),
    ])
    .run(zrangebyscore);

/// ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]
fn zrangebyscore(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    reply_range(cx, args, Some(By::Score), Some(false))
}

const ZREVRANGEBYSCORE: Row<DataFn> = Spec::new("zrevrangebyscore", -4, Group::SortedSet)
    .flags(Flags::READONLY)
    .acl(Acl::SORTEDSET)
    .since("2.2.0")
    .cost(COST)
    .about("Replies the members of a range of scores, from the highest on.")
    .history(&[("2.1.6", "Ends that are not in the range themselves.")])
    .deprecated("6.2.0", "`ZRANGE` with the `REV` and `BYSCORE` arguments")
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::double("max"),
        Arg::double("min"),
        WITH_SCORES.optional(),
        LIMIT.optional(),
    ])
    .run(zrevrangebyscore);

/// ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]
fn zrevrangebyscore(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    reply_range(cx, args, Some(By::Score), Some(true))
}

const ZRANGEBYLEX: Row<DataFn> = Spec::new("zrangebylex", -4, Group::SortedSet)
    .flags(Flags::READONLY)
    .acl(Acl::SORTEDSET)
    .since("2.8.9")
    .cost(COST)
    .about("Replies the members between two members, where all scores are equal.")
    .deprecated("6.2.0", "`ZRANGE` with the `BYLEX` argument")
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::string("min"),
        Arg::string("max"),
        LIMIT.optional(),
    ])
    .run(zrangebylex);

/// ZRANGEBYLEX key min max [LIMIT offset count]
fn zrangebylex(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    reply_range(cx, args, Some(By::Member), Some(false))
}

const ZREVRANGEBYLEX: Row<DataFn> = Spec::new("zrevrangebylex", -4, Group::SortedSet)
    .flags(Flags::READONLY)
    .acl(Acl::SORTEDSET)
    .since("2.8.9")
    .cost(COST)
    .about("Replies the members between two members, from the last on, where all scores are equal.")
    .deprecated("6.2.0", "`ZRANGE` with the `REV` and `BYLEX` arguments")
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::string("max"),
        Arg::string("min"),
        LIMIT.optional(),
    ])
    .run(zrevrangebylex);

/// ZREVRANGEBYLEX key max min [LIMIT offset count]
fn zrevrangebylex(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    reply_range(cx, args, Some(By::Member), Some(true))
}

// --- Storing ---------------------------------------------------------------------------------------------------

/// The text of a member, for those who keep it.
pub(super) fn owned_text(member: Elem<'_>) -> Cow<'_, [u8]> {
    match member {
        Elem::Str(text) => Cow::Borrowed(text),
        Elem::Int(int) => Cow::Owned(itoa::Buffer::new().format(int).as_bytes().to_vec()),
    }
}

/// Stores members, which are in order, in place of whatever the key held, and replies how many there are; none delete
/// the key.
pub(super) fn store(cx: &mut Ctx<'_>, key: &[u8], set: Option<Zset>, event: &'static str) {
    let len = set.as_ref().map_or(0, Zset::len);
    if let Some(set) = set.filter(|_| len > 0) {
        cx.keys.store(key, set);
        cx.changed(key, 1);
        cx.event(NotifyFlags::ZSET, event, key);
    } else if cx.keys.remove(key) {
        cx.changed(key, 1);
        cx.event(NotifyFlags::GENERIC, "del", key);
    }
    cx.reply.int(len as i64);
}

/// The part of a sorted set that lies in a range of ranks.
fn cut_out(rules: &Rules, set: &Zset, ranks: Range<usize>) -> Zset {
    let items = set.items(ranks, false);
    let members: Vec<(Cow<'_, [u8]>, f64)> = items
        .map(|(member, score)| (owned_text(member), score))
        .collect();
    Zset::from_sorted(rules, &members)
}

const ZRANGESTORE: Row<DataFn> = Spec::new("zrangestore", -5, Group::SortedSet)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::SORTEDSET)
    .since("6.2.0")
    .cost("O(log(N)+M) with N the size of the sorted set, M the members stored")
    .about("Stores the members of a range in a key.")
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::OW.or(KeyFlags::UPDATE)),
        KeySpec::at(2).flags(KeyFlags::RO.or(KeyFlags::ACCESS)),
    ])
    .args(&[
        Arg::key("dst", 0),
        Arg::key("src", 1),
        Arg::string("min"),
        Arg::string("max"),
        SORT_BY.optional(),
        Arg::word("rev", "REV").optional(),
        LIMIT.optional(),
    ])
    .run(zrangestore);

/// ZRANGESTORE dst src min max [BYSCORE|BYLEX] [REV] [LIMIT offset count]: replies how many were stored.
fn zrangestore(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let to = args.next()?;
    let query = Query::parse(&mut args, None, None, true)?;
    let rules = rules(&cx.keys);
    let set = cx.keys.read_as::<Zset>(query.key)?;
    let part = set.map(|set| cut_out(&rules, set, query.ranks(set)));
    store(cx, to, part, "zrangestore");
    DONE
}

// --- Counting --------------------------------------------------------------------------------------------------

const ZCOUNT: Row<DataFn> = Spec::new("zcount", 4, Group::SortedSet)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .since("2.0.0")
    .cost("O(log(N)) with N the size of the sorted set")
    .about("Replies how many members a range of scores has.")
    .keys(READ)
    .args(&[Arg::key("key", 0), Arg::double("min"), Arg::double("max")])
    .run(zcount);

/// ZCOUNT key min max: replies the number of members.
fn zcount(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    count(cx, args, By::Score)
}

const ZLEXCOUNT: Row<DataFn> = Spec::new("zlexcount", 4, Group::SortedSet)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .since("2.8.9")
    .cost("O(log(N)) with N the size of the sorted set")
    .about("Replies how many members stand between two members, where all scores are equal.")
    .keys(READ)
    .args(&[Arg::key("key", 0), Arg::string("min"), Arg::string("max")])
    .run(zlexcount);

/// ZLEXCOUNT key min max: replies the number of members.
fn zlexcount(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    count(cx, args, By::Member)
}

fn count(cx: &mut Ctx<'_>, mut args: Args<'_>, by: By) -> CmdResult {
    let key = args.one()?;
    let (min, max) = args.two()?;
    let ends = Ends::parse(by, min, max)?;
    let set = cx.keys.read_as::<Zset>(key)?;
    let n = set.map_or(0, |set| ends.ranks(set, false, 0).len());
    cx.reply.int(n as i64);
    DONE
}

// --- Removing --------------------------------------------------------------------------------------------------

const REMOVE_COST: &str = "O(log(N)+M) with N the size of the sorted set, M the members removed";

const ZREMRANGEBYRANK: Row<DataFn> = Spec::new("zremrangebyrank", 4, Group::SortedSet)
    .flags(Flags::WRITE)
    .acl(Acl::SORTEDSET)
    .since("2.0.0")
    .cost(REMOVE_COST)
    .about("Removes the members of a range of ranks; with the last one the key goes.")
    .keys(REMOVED_FROM)
    .args(&[Arg::key("key", 0), Arg::int("start"), Arg::int("stop")])
    .run(zremrangebyrank);

/// ZREMRANGEBYRANK key start stop: replies how many were removed.
fn zremrangebyrank(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    remove(cx, args, By::Rank, "zremrangebyrank")
}

const ZREMRANGEBYSCORE: Row<DataFn> = Spec::new("zremrangebyscore", 4, Group::SortedSet)
    .flags(Flags::WRITE)
    .acl(Acl::SORTEDSET)
    .since("1.2.0")
    .cost(REMOVE_COST)
    .about("Removes the members of a range of scores; with the last one the key goes.")
    .keys(REMOVED_FROM)
    .args(&[Arg::key("key", 0), Arg::double("min"), Arg::double("max")])
    .run(zremrangebyscore);

/// ZREMRANGEBYSCORE key min max: replies how many were removed.
fn zremrangebyscore(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    remove(cx, args, By::Score, "zremrangebyscore")
}

const ZREMRANGEBYLEX: Row<DataFn> = Spec::new("zremrangebylex", 4, Group::SortedSet)
    .flags(Flags::WRITE)
    .acl(Acl::SORTEDSET)
    .since("2.8.9")
    .cost(REMOVE_COST)
    .about("Removes the members between two members, where all scores are equal.")
    .keys(REMOVED_FROM)
    .args(&[Arg::key("key", 0), Arg::string("min"), Arg::string("max")])
    .run(zremrangebylex);

/// ZREMRANGEBYLEX key min max: replies how many were removed.
fn zremrangebylex(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    remove(cx, args, By::Member, "zremrangebylex")
}

fn remove(cx: &mut Ctx<'_>, mut args: Args<'_>, by: By, event: &'static str) -> CmdResult {
    let key = args.one()?;
    let (min, max) = args.two()?;
    let ends = Ends::parse(by, min, max)?;
    let set = cx.keys.write_as::<Zset>(key)?;
    let (ranks, len) = set.map_or((0..0, 0), |set| (ends.ranks(set, false, 0), set.len()));
    let n = ranks.len();
    if n > 0 && n == len {
        // Nothing is left: it goes as a whole, and is freed where there is time for it.
        cx.keys.remove(key);
        tell_removed(cx, key, event, n, Gone(true));
    } else if n > 0 {
        cx.keys
            .change(key, |set: &mut Zset, _| set.remove_ranks(ranks));
        tell_removed(cx, key, event, n, Gone(false));
    }
    cx.reply.int(n as i64);
    DONE
}
