//! What several sets make together: intersection, union and difference, replied or stored.
//!
//! The sets are looked up first, one after the other, because a lookup may delete what has expired; then all are read at
//! once, as they lie in the keyspace, and the result is made without a copy of any of them.

use std::cmp::Reverse;

use smallvec::SmallVec;

use crate::base::number::parse_i64;
use crate::cmd::fault::{CmdResult, DONE, Fault, SYNTAX};
use crate::cmd::keys::Keys;
use crate::cmd::numkeys;
use crate::cmd::set::{reply_elem, rules};
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::config::NotifyFlags;
use crate::ds::listpack::Elem;
use crate::object::set::{Set, SetRef, SetRules};

pub static ROWS: &[Row<DataFn>] = &[
    SINTER,
    SINTERCARD,
    SINTERSTORE,
    SUNION,
    SUNIONSTORE,
    SDIFF,
    SDIFFSTORE,
];

const READ: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
const ALL_READ: &[KeySpec] = &[KeySpec::range(1, -1, 1).flags(READ)];
const STORED: KeySpec = KeySpec::at(1).flags(KeyFlags::OW.or(KeyFlags::UPDATE));
const SOURCES: KeySpec = KeySpec::range(2, -1, 1).flags(READ);
const SOURCE_ARGS: &[Arg] = &[Arg::key("key", 0).multiple()];
const STORE_ARGS: &[Arg] = &[Arg::key("destination", 0), Arg::key("key", 1).multiple()];

/// A union of more sets than this and one is made in memory: to ask each of them for each member would take longer.
const ASKED_MAX: usize = 3;

/// The sets of a command, in the order of their keys; `None` for one that is missing.
type Sets<'a> = SmallVec<[Option<SetRef<'a>>; 8]>;

/// Which of the keys hold a set; an error if one holds something else.
fn look_up(keys: &mut Keys<'_>, names: &[&[u8]]) -> Result<SmallVec<[bool; 8]>, Fault> {
    let there = |name: &&[u8]| keys.read_as::<Set>(name).map(|set| set.is_some());
    names.iter().map(there).collect()
}

/// The sets themselves, once they were looked up.
fn sets<'a>(keys: &'a Keys<'_>, names: &[&[u8]], there: &[bool]) -> Sets<'a> {
    let db = keys.dbs.db(keys.index);
    let set_of = |(name, there): (&&[u8], &bool)| {
        let entry = there.then(|| db.get(keys.dbs.hash(name), name))??;
        entry.as_container::<Set>().ok()
    };
    names.iter().zip(there).map(set_of).collect()
}

/// Stores a result, or deletes the key if the result is empty, and replies its size.
fn store(cx: &mut Ctx<'_>, key: &[u8], result: Option<Set>, event: &'static str) -> CmdResult {
    let len = result.as_ref().map_or(0, |set| set.view().len());
    cx.reply.int(len as i64);
    if let Some(set) = result.filter(|_| len > 0) {
        cx.keys.store(key, set);
        cx.changed(key, 1);
        cx.event(NotifyFlags::SET, event, key);
    } else if cx.keys.remove(key) {
        cx.changed(key, 1);
        cx.event(NotifyFlags::GENERIC, "del", key);
    }
    DONE
}

// --- Intersection ----------------------------------------------------------------------------------------------

/// The members that all sets have. The smallest is walked, the others are asked.
fn common(mut sets: Sets<'_>) -> impl Iterator<Item = Elem<'_>> {
    sets.sort_by_key(|set| set.map_or(0, SetRef::len));
    let smallest = sets.first().copied().flatten();
    let in_others = move |elem: &Elem<'_>| {
        let mut others = sets[1..].iter().flatten();
        others.all(|set| set.contains(*elem))
    };
    smallest
        .into_iter()
        .flat_map(SetRef::iter)
        .filter(in_others)
}

const SINTER: Row<DataFn> = Spec::new("sinter", -2, Group::Set)
    .flags(Flags::READONLY)
    .acl(Acl::SET)
    .since("1.0.0")
    .cost("O(N*M) at worst, with N the size of the smallest of M sets")
    .about("Replies the members that all of several sets have.")
    .tips(&["nondeterministic_output_order"])
    .keys(ALL_READ)
    .args(SOURCE_ARGS)
    .run(sinter);

/// SINTER key [key ...]: replies what all have in common.
fn sinter(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let there = look_up(&mut cx.keys, args.rest())?;
    if there.contains(&false) {
        cx.reply.set(0);
        return DONE;
    }
    let deferred = cx.reply.defer();
    let mut count = 0;
    for elem in common(sets(&cx.keys, args.rest(), &there)) {
        reply_elem(cx.reply, elem);
        count += 1;
    }
    cx.reply.close_set(deferred, count);
    DONE
}

const SINTERCARD: Row<DataFn> = Spec::new("sintercard", -3, Group::Set)
    .flags(Flags::READONLY)
    .acl(Acl::SET)
    .since("7.0.0")
    .cost("O(N*M) at worst, with N the size of the smallest of M sets")
    .about("Replies how many members all of several sets have.")
    .keys(&[numkeys::spec(1, READ)])
    .args(&[
        Arg::int("numkeys"),
        Arg::key("key", 0).multiple(),
        Arg::int("limit").token("LIMIT").optional(),
    ])
    .find_keys(|argv| numkeys::find(argv, 1, READ))
    .run(sintercard);

const NUMKEYS: Fault = Fault::new("ERR numkeys should be greater than 0");
const TOO_MANY_KEYS: Fault = Fault::new("ERR Number of keys can't be greater than number of args");
const LIMIT: Fault = Fault::new("ERR LIMIT can't be negative");

/// SINTERCARD numkeys key [key ...] [LIMIT n]: replies how many all have in common, counting no further than the limit.
fn sintercard(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let count = numkeys::positive(args.next()?, NUMKEYS)?;
    if count > args.left() {
        return Err(TOO_MANY_KEYS);
    }
    let (names, mut options) = args.rest().split_at(count);
    let mut limit = 0;
    while let [word, rest @ ..] = options {
        let [number, rest @ ..] = rest else {
            return Err(SYNTAX);
        };
        if !is_word(word, "LIMIT") {
            return Err(SYNTAX);
        }
        limit = parse_i64(number).filter(|n| *n >= 0).ok_or(LIMIT)?;
        options = rest;
    }
    let there = look_up(&mut cx.keys, names)?;
    let most = match limit {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let size = match there.contains(&false) {
        true => 0,
        false => common(sets(&cx.keys, names, &there)).take(most).count(),
    };
    cx.reply.int(size as i64);
    DONE
}

const SINTERSTORE: Row<DataFn> = Spec::new("sinterstore", -3, Group::Set)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::SET)
    .since("1.0.0")
    .cost("O(N*M) at worst, with N the size of the smallest of M sets")
    .about("Stores the members that all of several sets have.")
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::UPDATE)),
        SOURCES,
    ])
    .args(STORE_ARGS)
    .run(sinterstore);

/// SINTERSTORE destination key [key ...]: stores what all have in common, and replies how many these are.
fn sinterstore(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let destination = args.one()?;
    let rules = rules(cx);
    let there = look_up(&mut cx.keys, args.rest())?;
    let result = if there.contains(&false) {
        None
    } else {
        Some(intersection(sets(&cx.keys, args.rest(), &there), &rules))
    };
    store(cx, destination, result, "sinterstore")
}

/// A result is an intset if the smallest set is one, or if it turns out that all its members are integers.
fn intersection(sets: Sets<'_>, rules: &SetRules) -> Set {
    let smallest = sets.iter().flatten().min_by_key(|set| set.len());
    let empty = match smallest {
        Some(SetRef::Intset(_)) => Set::of_integers(),
        _ => Set::of_texts(),
    };
    let mut only_integers = true;
    let noted = common(sets).inspect(|elem| only_integers &= elem.as_int().is_some());
    let mut result = empty.with_new(noted, rules);
    if only_integers {
        result.make_intset(rules);
    }
    result
}

// --- Union and difference --------------------------------------------------------------------------------------

/// Begins with the largest, which may not have to be copied.
fn union(mut sets: Sets<'_>, rules: &SetRules) -> Set {
    largest_first(&mut sets);
    let mut there = sets.into_iter().flatten();
    let mut result = match there.next() {
        Some(first) => Set::gathered(first, rules),
        None => return Set::of_integers(),
    };
    for elem in there.flat_map(SetRef::iter) {
        result.add(elem, rules);
    }
    result
}

fn largest_first(sets: &mut Sets<'_>) {
    sets.sort_by_key(|set| Reverse(set.map_or(0, SetRef::len)));
}

/// The members of the first set that no other has.
///
/// Either each of them is sought in all others, or all go into the result and those of the others are taken out again:
/// what is less work by Redis's estimate, which also decides over the encoding of the result.
fn difference(sets: Sets<'_>, rules: &SetRules) -> Set {
    let Some(first) = sets.first().copied().flatten() else {
        return Set::of_integers();
    };
    if is_sought(&sets) {
        return Set::of_integers().with_new(only_in(first, sets), rules);
    }
    let mut result = Set::gathered(first, rules);
    for set in sets[1..].iter().flatten() {
        for elem in set.iter() {
            result.remove(elem);
        }
        if result.view().is_empty() {
            break;
        }
    }
    result
}

/// Whether it is less work to seek each member of the first in all others.
fn is_sought(sets: &Sets<'_>) -> bool {
    let there = || sets.iter().flatten();
    let first = sets.first().copied().flatten().map_or(0, SetRef::len);
    first * there().count() / 2 <= there().map(|set| set.len()).sum()
}

/// The members of the first that no other has.
fn only_in<'a>(first: SetRef<'a>, mut sets: Sets<'a>) -> impl Iterator<Item = Elem<'a>> {
    sets.remove(0);
    // In a large one a member is more likely to be found.
    largest_first(&mut sets);
    let in_another = move |elem: Elem<'_>| sets.iter().flatten().any(|set| set.contains(elem));
    first.iter().filter(move |elem| !in_another(*elem))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    Union,
    Difference,
}

/// Calls `f` with each member of the result, if that can be had without making a set of it; else this is false.
fn each(sets: &Sets<'_>, op: Op, mut f: impl FnMut(Elem<'_>)) -> bool {
    if op == Op::Difference {
        let is_sought = is_sought(sets);
        if let Some(first) = sets.first().copied().flatten()
            && is_sought
        {
            only_in(first, sets.clone()).for_each(f);
        }
        return is_sought;
    }
    // Of each set, what none before it has.
    let mut sets = sets.clone();
    largest_first(&mut sets);
    let asked = &sets[..sets.len() - 1];
    if asked.len() > ASKED_MAX || !asked.iter().flatten().all(|set| set.is_indexed()) {
        return false;
    }
    for (i, set) in sets.iter().enumerate() {
        let in_former = |elem: Elem<'_>| sets[..i].iter().flatten().any(|set| set.contains(elem));
        let members = set.iter().flat_map(|set| set.iter());
        members.filter(|elem| !in_former(*elem)).for_each(&mut f);
    }
    true
}

/// Looks the keys up, for their union or difference.
fn sources<'a>(keys: &'a mut Keys<'_>, names: &[&[u8]], op: Op) -> Result<Sets<'a>, Fault> {
    let there = look_up(keys, names)?;
    let without_itself = op == Op::Difference && names[1..].contains(&names[0]);
    Ok(match without_itself {
        true => Sets::new(),
        false => sets(keys, names, &there),
    })
}

/// Makes the union or difference of some keys.
fn combine(cx: &mut Ctx<'_>, names: &[&[u8]], op: Op) -> Result<Set, Fault> {
    let rules = rules(cx);
    let sets = sources(&mut cx.keys, names, op)?;
    Ok(combined(sets, op, &rules))
}

fn combined(sets: Sets<'_>, op: Op, rules: &SetRules) -> Set {
    match op {
        Op::Union => union(sets, rules),
        Op::Difference => difference(sets, rules),
    }
}

/// Replies a union or difference.
fn reply_combined(cx: &mut Ctx<'_>, args: Args<'_>, op: Op) -> CmdResult {
    let rules = rules(cx);
    let sets = sources(&mut cx.keys, args.rest(), op)?;
    let reply = &mut *cx.reply;
    let deferred = reply.defer();
    let mut count = 0;
    let mut tell = |elem: Elem<'_>| {
        count += 1;
        reply_elem(reply, elem);
    };
    if !each(&sets, op, &mut tell) {
        let result = combined(sets, op, &rules);
        result.view().iter().for_each(tell);
    }
    reply.close_set(deferred, count);
    DONE
}

const SUNION: Row<DataFn> = Spec::new("sunion", -2, Group::Set)
    .flags(Flags::READONLY)
    .acl(Acl::SET)
    .since("1.0.0")
    .cost("O(N) with N the members of all sets")
    .about("Replies the members that any of several sets has.")
    .tips(&["nondeterministic_output_order"])
    .keys(ALL_READ)
    .args(SOURCE_ARGS)
    .run(sunion);

/// SUNION key [key ...]: replies what any of them has.
fn sunion(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    reply_combined(cx, args, Op::Union)
}

const SUNIONSTORE: Row<DataFn> = Spec::new("sunionstore", -3, Group::Set)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::SET)
    .since("1.0.0")
    .cost("O(N) with N the members of all sets")
    .about("Stores the members that any of several sets has.")
    .keys(&[STORED, SOURCES])
    .args(STORE_ARGS)
    .run(sunionstore);

/// SUNIONSTORE destination key [key ...]: stores what any of them has, and replies how many these are.
fn sunionstore(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let destination = args.one()?;
    let result = combine(cx, args.rest(), Op::Union)?;
    store(cx, destination, Some(result), "sunionstore")
}

const SDIFF: Row<DataFn> = Spec::new("sdiff", -2, Group::Set)
    .flags(Flags::READONLY)
    .acl(Acl::SET)
    .since("1.0.0")
    .cost("O(N) with N the members of all sets")
    .about("Replies the members that the first of several sets has and no other.")
    .tips(&["nondeterministic_output_order"])
    .keys(ALL_READ)
    .args(SOURCE_ARGS)
    .run(sdiff);

/// SDIFF key [key ...]: replies what only the first has.
fn sdiff(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    reply_combined(cx, args, Op::Difference)
}

const SDIFFSTORE: Row<DataFn> = Spec::new("sdiffstore", -3, Group::Set)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::SET)
    .since("1.0.0")
    .cost("O(N) with N the members of all sets")
    .about("Stores the members that the first of several sets has and no other.")
    .keys(&[STORED, SOURCES])
    .args(STORE_ARGS)
    .run(sdiffstore);

/// SDIFFSTORE destination key [key ...]: stores what only the first has, and replies how many these are.
fn sdiffstore(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let destination = args.one()?;
    let result = combine(cx, args.rest(), Op::Difference)?;
    store(cx, destination, Some(result), "sdiffstore")
}
