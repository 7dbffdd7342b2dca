//! Unions, intersections and differences of sorted sets. Plain sets may stand among them; their members score 1.
//!
//! The sources are held by a count more on their entries, so that they may be read together, and one of them be
//! replaced by the result. What comes out is gathered in a plain list, sorted once, and only then made a sorted set or a
//! reply.

use std::borrow::Cow;

use super::range::{owned_text, store};
use super::{Zset, reply_members_head, reply_scored, rules};
use crate::base::number::{parse_f64, parse_i64};
use crate::cmd::fault::{CmdResult, DONE, Fault, NOT_INTEGER, SYNTAX, WRONG_TYPE};
use crate::cmd::numkeys;
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeyRef, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::ds::listpack::Elem;
use crate::object::set::SetRef;
use crate::object::{Entry, ValueRef};

pub static ROWS: &[Row<DataFn>] = &[
    ZUNION,
    ZINTER,
    ZDIFF,
    ZUNIONSTORE,
    ZINTERSTORE,
    ZDIFFSTORE,
    ZINTERCARD,
];

const BAD_WEIGHT: Fault = Fault::new("ERR weight value is not a float");
const BAD_LIMIT: Fault = Fault::new("ERR LIMIT can't be negative");

// --- What is combined ------------------------------------------------------------------------------------------

/// A set or sorted set; nothing, for a key that is not there.
#[derive(Clone, Copy)]
struct Source<'a> {
    members: Members<'a>,
    weight: f64,
}

#[derive(Clone, Copy)]
enum Members<'a> {
    None,
    Zset(&'a Zset),
    Set(SetRef<'a>),
}

impl<'a> Source<'a> {
    fn of(entry: Option<&'a Entry>, weight: f64) -> Source<'a> {
        let members = match entry.map(Entry::value) {
            Some(ValueRef::Zset(set)) => Members::Zset(set),
            Some(ValueRef::Set(set)) => Members::Set(set),
            _ => Members::None,
        };
        Source { members, weight }
    }

    fn len(&self) -> usize {
        match self.members {
            Members::None => 0,
            Members::Zset(set) => set.len(),
            Members::Set(set) => set.len(),
        }
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        match self.members {
            Members::None => None,
            Members::Zset(set) => set.score(member),
            Members::Set(set) => set.contains(Elem::Str(member)).then_some(1.0),
        }
    }

    /// Calls `f` with each member until it gives false.
    fn each(&self, mut f: impl FnMut(Elem<'a>, f64) -> bool) {
        match self.members {
            Members::None => {}
            Members::Zset(set) => {
                let _ = set.iter().all(|(member, score)| f(member, score));
            }
            Members::Set(set) => {
                let _ = set.iter().all(|member| f(member, 1.0));
            }
        }
    }
}

/// How the scores of the same member become one.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn add(self, score: &mut f64, more: f64) {
        *score = match self {
            // Infinities of both signs make 0.
            Aggregate::Sum => number(*score + more),
            Aggregate::Min if more < *score => more,
            Aggregate::Max if more > *score => more,
            _ => *score,
        };
    }
}

/// Zero for what is not a number.
fn number(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

type Scored<'a> = (Cow<'a, [u8]>, f64);

/// Members that are in all sources, with their scores; `f` tells whether to go on.
fn intersect<'a>(
    sources: &[Source<'a>],
    aggregate: Aggregate,
    mut f: impl FnMut(Elem<'a>, f64) -> bool,
) {
    let Some((smallest, others)) = sources.split_first() else {
        return;
    };
    let mut digits = itoa::Buffer::new();
    smallest.each(|member, score| {
        let mut sum = number(smallest.weight * score);
        let text = member.text(&mut digits);
        for other in others {
            let Some(score) = other.score(text) else {
                return true;
            };
            aggregate.add(&mut sum, score * other.weight);
        }
        f(member, sum)
    });
}

/// Members that are in any source.
fn unite<'a>(sources: &[Source<'a>], aggregate: Aggregate) -> Vec<Scored<'a>> {
    let mut all: Vec<Scored<'a>> = Vec::with_capacity(sources.iter().map(Source::len).sum());
    for source in sources {
        source.each(|member, score| {
            all.push((owned_text(member), number(source.weight * score)));
            true
        });
    }
    if let [_] = sources {
        return all;
    }
    // The sort is stable, so that the scores of one member are added up in the order of the sources.
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all.dedup_by(|more, first| {
        let same = more.0 == first.0;
        if same {
            aggregate.add(&mut first.1, more.1);
        }
        same
    });
    all
}

/// Members of the first source that are in none of the others.
fn subtract<'a>(sources: &[Source<'a>]) -> Vec<Scored<'a>> {
    let mut left = Vec::new();
    let Some((first, others)) = sources.split_first() else {
        return left;
    };
    let total: usize = others.iter().map(Source::len).sum();
    let mut digits = itoa::Buffer::new();
    // Many lookups for each member, or one in a list of all that is taken away: whatever is less work.
    if first.len() / 2 * sources.len() <= first.len() + total {
        first.each(|member, score| {
            let text = member.text(&mut digits);
            if others.iter().all(|other| other.score(text).is_none()) {
                left.push((owned_text(member), score));
            }
            true
        });
        return left;
    }
    let mut taken: Vec<Cow<'a, [u8]>> = Vec::with_capacity(total);
    for other in others {
        other.each(|member, _| {
            taken.push(owned_text(member));
            true
        });
    }
    taken.sort_unstable();
    first.each(|member, score| {
        let text = member.text(&mut digits);
        if taken.binary_search_by(|other| other[..].cmp(text)).is_err() {
            left.push((owned_text(member), score));
        }
        true
    });
    left
}

// --- What is asked for -----------------------------------------------------------------------------------------

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
    /// ZINTERCARD.
    Card,
}

/// A command read: its sources' entries with their weights, and its options.
struct Request {
    sources: Vec<(Option<Entry>, f64)>,
    aggregate: Aggregate,
    with_scores: bool,
    limit: usize,
}

impl Request {
    /// Reads `numkeys key [key ...] [option ...]`; the keys are looked up before the options are read.
    fn parse(
        cx: &mut Ctx<'_>,
        args: &mut Args<'_>,
        operation: Operation,
        stores: bool,
    ) -> Result<Request, Fault> {
        let n = parse_i64(args.next()?).ok_or(NOT_INTEGER)?;
        if n < 1 {
            let mut text = b"ERR at least 1 input key is needed for '".to_vec();
            text.extend(args.name().to_ascii_lowercase());
            text.extend(b"' command");
            return Err(Fault::text(text));
        }
        let n = usize::try_from(n).ok().filter(|&n| n <= args.left());
        let n = n.ok_or(SYNTAX)?;
        let mut request = Request {
            sources: Vec::with_capacity(n),
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: 0,
        };
        for _ in 0..n {
            let entry = cx.keys.read(args.next()?);
            if !entry.is_none_or(|e| matches!(e.value(), ValueRef::Zset(_) | ValueRef::Set(_))) {
                return Err(WRONG_TYPE);
            }
            request.sources.push((entry.cloned(), 1.0));
        }
        request.take_options(args, operation, stores)?;
        Ok(request)
    }

    fn take_options(
        &mut self,
        args: &mut Args<'_>,
        operation: Operation,
        stores: bool,
    ) -> Result<(), Fault> {
        let weighs = matches!(operation, Operation::Union | Operation::Inter);
        while args.more() {
            let left = args.left();
            if weighs && left > self.sources.len() && args.take_word("WEIGHTS") {
                for (_, weight) in &mut self.sources {
                    *weight = parse_f64(args.next()?).ok_or(BAD_WEIGHT)?;
                }
            } else if weighs && left >= 2 && args.take_word("AGGREGATE") {
                self.aggregate = match args.next()? {
                    word if is_word(word, "SUM") => Aggregate::Sum,
                    word if is_word(word, "MIN") => Aggregate::Min,
                    word if is_word(word, "MAX") => Aggregate::Max,
                    _ => return Err(SYNTAX),
                };
            } else if !stores && operation != Operation::Card && args.take_word("WITHSCORES") {
                self.with_scores = true;
            } else if operation == Operation::Card && left >= 2 && args.take_word("LIMIT") {
                let limit = parse_i64(args.next()?).and_then(|n| usize::try_from(n).ok());
                self.limit = limit.ok_or(BAD_LIMIT)?;
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(())
    }

    /// The sources; but for a difference, those with few members come first.
    fn sources(&self, operation: Operation) -> Vec<Source<'_>> {
        let sources = self.sources.iter();
        let mut sources: Vec<Source<'_>> = sources
            .map(|(entry, weight)| Source::of(entry.as_ref(), *weight))
            .collect();
        if operation != Operation::Diff {
            sources.sort_by_key(Source::len);
        }
        sources
    }

    /// The members that come out, in order.
    fn result(&self, operation: Operation) -> Vec<Scored<'_>> {
        let sources = self.sources(operation);
        let mut members = match operation {
            Operation::Union => unite(&sources, self.aggregate),
            Operation::Diff => subtract(&sources),
            Operation::Inter | Operation::Card => {
                let mut common = Vec::new();
                intersect(&sources, self.aggregate, |member, score| {
                    common.push((owned_text(member), score));
                    true
                });
                common
            }
        };
        members.sort_unstable_by(|a, b| {
            let scores = a.1.partial_cmp(&b.1);
            scores
                .unwrap_or(std::cmp::Ordering::Equal)
                .then_with(|| a.0.cmp(&b.0))
        });
        members
    }
}

/// Replies what comes out.
fn reply_result(cx: &mut Ctx<'_>, mut args: Args<'_>, operation: Operation) -> CmdResult {
    let request = Request::parse(cx, &mut args, operation, false)?;
    let members = request.result(operation);
    reply_members_head(cx.reply, members.len(), request.with_scores);
    for (member, score) in &members {
        reply_scored(cx.reply, Elem::Str(member), *score, request.with_scores);
    }
    DONE
}

/// Stores what comes out under a key, and replies how many there are.
fn store_result(
    cx: &mut Ctx<'_>,
    mut args: Args<'_>,
    operation: Operation,
    event: &'static str,
) -> CmdResult {
    let to = args.next()?;
    let request = Request::parse(cx, &mut args, operation, true)?;
    let rules = rules(&cx.keys);
    let set = Zset::from_sorted(&rules, &request.result(operation));
    // Let go of before the key is written: what it held is then freed where there is time for it.
    drop(request);
    store(cx, to, Some(set), event);
    DONE
}

// --- The commands ----------------------------------------------------------------------------------------------

const READ: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
const SOURCES: &[KeySpec] = &[numkeys::spec(1, READ)];
const SOURCES_AND_RESULT: &[KeySpec] = &[
    KeySpec::at(1).flags(KeyFlags::OW.or(KeyFlags::UPDATE)),
    numkeys::spec(2, READ),
];

/// The sources' keys.
fn source_keys(argv: &[&[u8]]) -> Option<Vec<KeyRef>> {
    numkeys::find(argv, 1, READ)
}

/// The sources' keys, and the one of the result.
fn source_and_result_keys(argv: &[&[u8]]) -> Option<Vec<KeyRef>> {
    let mut keys = numkeys::find(argv, 2, READ)?;
    let flags = KeyFlags::OW.or(KeyFlags::UPDATE);
    keys.push(KeyRef { pos: 1, flags });
    Some(keys)
}

const NUMKEYS: Arg = Arg::int("numkeys");
const DESTINATION: Arg = Arg::key("destination", 0);
const WEIGHTS: Arg = Arg::int("weight").token("WEIGHTS").optional().multiple();
const AGGREGATE: Arg = Arg::one_of(
    "aggregate",
    &[
        Arg::word("sum", "SUM"),
        Arg::word("min", "MIN"),
        Arg::word("max", "MAX"),
    ],
)
.token("AGGREGATE")
.optional();
const WITH_SCORES: Arg = Arg::word("withscores", "WITHSCORES").optional();

const UNION_COST: &str =
    "O(N)+O(M*log(M)) with N the members of all sorted sets, M those of the result";
const INTER_COST: &str = "O(N*K)+O(M*log(M)) at worst, with N the size of the smallest of K sorted sets, M that of the result";
const DIFF_COST: &str = "O(L + (N-K)log(N)) at worst, with L the members of all sorted sets, N those of the first, K those of the result";

const ZUNION: Row<DataFn> = Spec::new("zunion", -3, Group::SortedSet)
    .flags(Flags::READONLY)
    .acl(Acl::SORTEDSET)
    .since("6.2.0")
    .cost(UNION_COST)
    .about("Replies the members that any of several sorted sets has.")
    .keys(SOURCES)
    .args(&[
        NUMKEYS,
        Arg::key("key", 0).multiple(),
        WEIGHTS,
        AGGREGATE,
        WITH_SCORES,
    ])
    .find_keys(source_keys)
    .run(zunion);

/// ZUNION numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]
fn zunion(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    reply_result(cx, args, Operation::Union)
}

const ZINTER: Row<DataFn> = Spec::new("zinter", -3, Group::SortedSet)
    .flags(Flags::READONLY)
    .acl(Acl::SORTEDSET)
    .since("6.2.0")
    .cost(INTER_COST)
    .about("Replies the members that all of several sorted sets have.")
    .keys(SOURCES)
    .args(&[
        NUMKEYS,
        Arg::key("key", 0).multiple(),
        WEIGHTS,
        AGGREGATE,
        WITH_SCORES,
    ])
    .find_keys(source_keys)
    .run(zinter);

/// ZINTER numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]
fn zinter(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    reply_result(cx, args, Operation::Inter)
}

const ZDIFF: Row<DataFn> = Spec::new("zdiff", -3, Group::SortedSet)
    .flags(Flags::READONLY)
    .acl(Acl::SORTEDSET)
    .since("6.2.0")
    .cost(DIFF_COST)
    .about("Replies the members of a sorted set that none of the others has.")
    .keys(SOURCES)
    .args(&[NUMKEYS, Arg::key("key", 0).multiple(), WITH_SCORES])
    .find_keys(source_keys)
    .run(zdiff);

/// ZDIFF numkeys key [key ...] [WITHSCORES]
fn zdiff(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    reply_result(cx, args, Operation::Diff)
}

const ZUNIONSTORE: Row<DataFn> = Spec::new("zunionstore", -4, Group::SortedSet)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::SORTEDSET)
    .since("2.0.0")
    .cost(UNION_COST)
    .about("Stores the members that any of several sorted sets has in a key.")
    .keys(SOURCES_AND_RESULT)
    .args(&[
        DESTINATION,
        NUMKEYS,
        Arg::key("key", 1).multiple(),
        WEIGHTS,
        AGGREGATE,
    ])
    .find_keys(source_and_result_keys)
    .run(zunionstore);

/// ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX]
fn zunionstore(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    store_result(cx, args, Operation::Union, "zunionstore")
}

const ZINTERSTORE: Row<DataFn> = Spec::new("zinterstore", -4, Group::SortedSet)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::SORTEDSET)
    .since("2.0.0")
    .cost(INTER_COST)
    .about("Stores the members that all of several sorted sets have in a key.")
    .keys(SOURCES_AND_RESULT)
    .args(&[
        DESTINATION,
        NUMKEYS,
        Arg::key("key", 1).multiple(),
        WEIGHTS,
        AGGREGATE,
    ])
    .find_keys(source_and_result_keys)
    .run(zinterstore);

/// ZINTERSTORE destination numkeys key [key ...] [WEIGHTS weight ...] [AGGREGATE SUM|MIN|MAX]
fn zinterstore(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    store_result(cx, args, Operation::Inter, "zinterstore")
}

const ZDIFFSTORE: Row<DataFn> = Spec::new("zdiffstore", -4, Group::SortedSet)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::SORTEDSET)
    .since("6.2.0")
    .cost(DIFF_COST)
    .about("Stores the members of a sorted set that none of the others has in a key.")
    .keys(SOURCES_AND_RESULT)
    .args(&[DESTINATION, NUMKEYS, Arg::key("key", 1).multiple()])
    .find_keys(source_and_result_keys)
    .run(zdiffstore);

/// ZDIFFSTORE destination numkeys key [key ...]
fn zdiffstore(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    store_result(cx, args, Operation::Diff, "zdiffstore")
}

const ZINTERCARD: Row<DataFn> = Spec::new("zintercard", -3, Group::SortedSet)
    .flags(Flags::READONLY)
    .acl(Acl::SORTEDSET)
    .since("7.0.0")
    .cost("O(N*K) at worst, with N the size of the smallest of K sorted sets")
    .about("Replies how many members all of several sorted sets have.")
    .keys(SOURCES)
    .args(&[
        NUMKEYS,
        Arg::key("key", 0).multiple(),
        Arg::int("limit").token("LIMIT").optional(),
    ])
    .find_keys(source_keys)
    .run(zintercard);

/// ZINTERCARD numkeys key [key ...] [LIMIT limit]: replies the number, counting no further than the limit.
fn zintercard(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let request = Request::parse(cx, &mut args, Operation::Card, false)?;
    let mut n = 0;
    intersect(&request.sources(Operation::Card), Aggregate::Sum, |_, _| {
        n += 1;
        n != request.limit
    });
    cx.reply.int(n as i64);
    DONE
}
