//! Sets: members under one key, none twice. What several sets make together stands in `setops`.
//!
//! A command that picks members at random is logged as what it picked (SPOP as SREM), so that a replica picks the same.

use crate::base::number::parse_i64;
use crate::cmd::args::parse_count;
use crate::cmd::fault::{CmdResult, DONE, Fault, SYNTAX};
use crate::cmd::keys::Gone;
use crate::cmd::scan::{ScanOptions, key_and_cursor, reply_no_walk, reply_walk};
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row};
use crate::config::NotifyFlags;
use crate::ds::listpack::Elem;
use crate::object::set::{Set, SetRules};
use crate::resp::reply::Reply;

pub static ROWS: &[Row<DataFn>] = &[
    SADD,
    SREM,
    SMOVE,
    SPOP,
    SISMEMBER,
    SMISMEMBER,
    SCARD,
    SMEMBERS,
    SRANDMEMBER,
    SSCAN,
];

const NOT_POSITIVE: Fault = Fault::new("ERR value is out of range, must be positive");
/// How many members one SREM in the log takes.
const LOGGED_AT_ONCE: usize = 1024;

const READ: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))];
const ASKED: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RO)];
const MEMBERS: &[Arg] = &[Arg::key("key", 0), Arg::string("member").multiple()];

/// The limits of a set's small forms, as they are configured now.
pub fn rules(cx: &Ctx<'_>) -> SetRules {
    let config = cx.config();
    SetRules {
        intset_entries: config.set_max_intset_entries,
        listpack_entries: config.set_max_listpack_entries,
        listpack_value: config.set_max_listpack_value,
        hash_key: cx.keys.hash_key(),
    }
}

/// Replies an element of a small collection as a bulk.
#[inline]
pub fn reply_elem(reply: &mut Reply, elem: Elem<'_>) {
    match elem {
        Elem::Int(int) => reply.bulk_int(int),
        Elem::Str(text) => reply.bulk(text),
    }
}

// --- Changing --------------------------------------------------------------------------------------------------

const SADD: Row<DataFn> = Spec::new("sadd", -3, Group::Set)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::SET)
    .since("1.0.0")
    .cost("O(1) a member")
    .about("Adds members to a set, which is made if it is missing.")
    .history(&[("2.4.0", "Several members.")])
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::INSERT))])
    .elements(2, 1)
    .args(MEMBERS)
    .run(sadd);

/// SADD key member [member ...]: replies how many are new.
fn sadd(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let members = args.rest();
    let rules = rules(cx);
    let first = args.next()?;
    let make = || Set::for_members(first, members.len(), &rules);
    let (added, _) = cx.keys.change_or_make(key, make, |set, _| {
        set.prepare(members.len(), &rules);
        let members = members.iter();
        members
            .filter(|member| set.add(Elem::Str(member), &rules))
            .count()
    })?;
    cx.reply.int(added as i64);
    if added > 0 {
        cx.changed(key, added as u64);
        cx.event(NotifyFlags::SET, "sadd", key);
    }
    DONE
}

const SREM: Row<DataFn> = Spec::new("srem", -3, Group::Set)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::SET)
    .since("1.0.0")
    .cost("O(N) with N members")
    .about("Removes members from a set, and with the last one the set.")
    .history(&[("2.4.0", "Several members.")])
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::DELETE))])
    .elements(2, 1)
    .args(MEMBERS)
    .run(srem);

/// SREM key member [member ...]: replies how many were there.
fn srem(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let removed = cx.keys.change_if_there(key, |set: &mut Set, _| {
        let members = args.rest().iter();
        members
            .filter(|member| set.remove(Elem::Str(member)))
            .count()
    })?;
    let (removed, gone) = removed.unwrap_or((0, Gone(false)));
    cx.reply.int(removed as i64);
    if removed > 0 {
        cx.changed(key, removed as u64);
        cx.event(NotifyFlags::SET, "srem", key);
        tell_gone(cx, key, gone);
    }
    DONE
}

fn tell_gone(cx: &mut Ctx<'_>, key: &[u8], gone: Gone) {
    if gone.0 {
        cx.event(NotifyFlags::GENERIC, "del", key);
    }
}

const SMOVE: Row<DataFn> = Spec::new("smove", 4, Group::Set)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::SET)
    .since("1.0.0")
    .cost("O(1)")
    .about("Moves a member from one set to another.")
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE)),
        KeySpec::at(2).flags(KeyFlags::RW.or(KeyFlags::INSERT)),
    ])
    .args(&[
        Arg::key("source", 0),
        Arg::key("destination", 1),
        Arg::string("member"),
    ])
    .run(smove);

/// SMOVE source destination member: replies 1 if it was in the source.
fn smove(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (from, to) = args.two()?;
    let member = args.next()?;
    let elem = Elem::Str(member);
    // Both are looked up before either is judged.
    let source = cx.keys.write_as::<Set>(from);
    let source = source.map(|set| set.map(|set| set.contains(elem)));
    let destination = cx.keys.write_as::<Set>(to).map(|_| ());
    let Some(there) = source? else {
        cx.reply.int(0);
        return DONE;
    };
    destination?;
    cx.reply.int(i64::from(there));
    if !there || from == to {
        return DONE;
    }
    let removed = cx.keys.change(from, |set: &mut Set, _| set.remove(elem));
    cx.changed(from, 1);
    cx.event(NotifyFlags::SET, "srem", from);
    if let Some((_, gone)) = removed {
        tell_gone(cx, from, gone);
    }
    let rules = rules(cx);
    let make = || Set::for_members(member, 1, &rules);
    let add = |set: &mut Set, _: &mut _| set.add(elem, &rules);
    let (added, _) = cx.keys.change_or_make(to, make, add)?;
    if added {
        cx.changed(to, 1);
        cx.event(NotifyFlags::SET, "sadd", to);
    }
    DONE
}

const SPOP: Row<DataFn> = Spec::new("spop", -2, Group::Set)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::SET)
    .since("1.0.0")
    .cost("O(1), with a count O(N) with N the count")
    .about("Removes random members from a set and replies them.")
    .history(&[("3.2.0", "The argument `count`.")])
    .tips(&["nondeterministic_output"])
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))])
    .args(&[
        Arg::key("key", 0),
        Arg::int("count").since("3.2.0").optional(),
    ])
    .run(spop);

/// SPOP key [count]: removes and replies a random member, or so many.
fn spop(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    match args.rest() {
        [] => {}
        [count] => return spop_count(cx, key, count),
        _ => return Err(SYNTAX),
    }
    let rules = rules(cx);
    let mut member = Vec::new();
    let popped = cx.keys.change_if_there(key, |set: &mut Set, rng| {
        set.pop(1, rng, &rules, |elem| member = elem.to_vec());
    })?;
    let Some((_, gone)) = popped else {
        cx.reply.null();
        return DONE;
    };
    cx.event(NotifyFlags::SET, "spop", key);
    cx.log_instead(&[b"SREM", key, &member]);
    cx.reply.bulk(&member);
    tell_gone(cx, key, gone);
    cx.changed(key, 1);
    DONE
}

fn spop_count(cx: &mut Ctx<'_>, key: &[u8], count: &[u8]) -> CmdResult {
    let count = parse_i64(count).and_then(|n| usize::try_from(n).ok());
    let count = count.ok_or(NOT_POSITIVE)?;
    let len = cx.keys.write_as::<Set>(key)?.map(|set| set.len());
    let Some(len) = len.filter(|_| count > 0) else {
        cx.reply.set(0);
        return DONE;
    };
    cx.event(NotifyFlags::SET, "spop", key);
    if count >= len {
        reply_members(cx, key)?;
        cx.keys.remove(key);
        cx.changed(key, len as u64);
        cx.event(NotifyFlags::GENERIC, "del", key);
        let unlink = cx.config().lazyfree_lazy_server_del;
        let del: &[u8] = if unlink { b"UNLINK" } else { b"DEL" };
        cx.log_instead(&[del, key]);
        return DONE;
    }
    let rules = rules(cx);
    // All members in one buffer: they are replied and logged.
    let (mut texts, mut ends) = (Vec::new(), Vec::with_capacity(count));
    cx.keys.change(key, |set: &mut Set, rng| {
        set.pop(count, rng, &rules, |elem| {
            texts.extend_from_slice(elem.text(&mut itoa::Buffer::new()));
            ends.push(texts.len());
        });
    });
    let mut from = 0;
    let members: Vec<&[u8]> = ends
        .iter()
        .map(|&end| &texts[std::mem::replace(&mut from, end)..end])
        .collect();
    cx.reply.set(members.len());
    members.iter().for_each(|member| cx.reply.bulk(member));
    cx.changed(key, members.len() as u64);
    for batch in members.chunks(LOGGED_AT_ONCE) {
        let mut argv: Vec<&[u8]> = vec![b"SREM", key];
        argv.extend_from_slice(batch);
        cx.log_instead(&argv);
    }
    DONE
}

// --- Reading ---------------------------------------------------------------------------------------------------

const SISMEMBER: Row<DataFn> = Spec::new("sismember", 3, Group::Set)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::SET)
    .since("1.0.0")
    .cost("O(1)")
    .about("Replies whether a set has a member.")
    .keys(ASKED)
    .elements(2, 1)
    .args(&[Arg::key("key", 0), Arg::string("member")])
    .run(sismember);

/// SISMEMBER key member: replies 1 if it is one.
fn sismember(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, member) = args.two()?;
    let set = cx.keys.read_as::<Set>(key)?;
    let there = set.is_some_and(|set| set.contains(Elem::Str(member)));
    cx.reply.int(i64::from(there));
    DONE
}

const SMISMEMBER: Row<DataFn> = Spec::new("smismember", -3, Group::Set)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::SET)
    .since("6.2.0")
    .cost("O(N) with N members asked for")
    .about("Replies for each of several members whether a set has it.")
    .keys(READ)
    .elements(2, 1)
    .args(MEMBERS)
    .run(smismember);

/// SMISMEMBER key member [member ...]: replies 1 or 0 for each.
fn smismember(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let set = cx.keys.read_as::<Set>(key)?;
    cx.reply.array(args.left());
    for member in args.rest() {
        let there = set.is_some_and(|set| set.contains(Elem::Str(member)));
        cx.reply.int(i64::from(there));
    }
    DONE
}

const SCARD: Row<DataFn> = Spec::new("scard", 2, Group::Set)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::SET)
    .since("1.0.0")
    .cost("O(1)")
    .about("Replies the number of members.")
    .keys(ASKED)
    .args(&[Arg::key("key", 0)])
    .run(scard);

/// SCARD key: replies the number of members.
fn scard(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let set = cx.keys.read_as::<Set>(args.one()?)?;
    cx.reply.int(set.map_or(0, |set| set.len()) as i64);
    DONE
}

const SMEMBERS: Row<DataFn> = Spec::new("smembers", 2, Group::Set)
    .flags(Flags::READONLY)
    .acl(Acl::SET)
    .since("1.0.0")
    .cost("O(N) with N the size of the set")
    .about("Replies all members.")
    .tips(&["nondeterministic_output_order"])
    .keys(READ)
    .args(&[Arg::key("key", 0)])
    .run(smembers);

/// SMEMBERS key: replies all members.
fn smembers(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    reply_members(cx, args.one()?)
}

fn reply_members(cx: &mut Ctx<'_>, key: &[u8]) -> CmdResult {
    let Some(set) = cx.keys.read_as::<Set>(key)? else {
        cx.reply.set(0);
        return DONE;
    };
    cx.reply.set(set.len());
    set.iter().for_each(|elem| reply_elem(cx.reply, elem));
    DONE
}

const SRANDMEMBER: Row<DataFn> = Spec::new("srandmember", -2, Group::Set)
    .flags(Flags::READONLY)
    .acl(Acl::SET)
    .since("1.0.0")
    .cost("O(1), with a count O(N) with N its absolute value")
    .about("Replies random members.")
    .history(&[("2.6.0", "The argument `count`.")])
    .tips(&["nondeterministic_output"])
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::int("count").since("2.6.0").optional(),
    ])
    .run(srandmember);

/// SRANDMEMBER key [count]: replies a random member, or so many: different ones, or with a negative count each drawn from
/// all.
fn srandmember(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    // Of its own, because the set keeps the rest of the keys borrowed.
    let mut rng = cx.keys.rng.fork();
    let count = match args.rest() {
        [] => {
            let set = cx.keys.read_as::<Set>(key)?;
            match set.and_then(|set| set.random(&mut rng)) {
                Some(member) => reply_elem(cx.reply, member),
                None => cx.reply.null(),
            }
            return DONE;
        }
        [count] => parse_count(count)?,
        _ => return Err(SYNTAX),
    };
    let Some(set) = cx.keys.read_as::<Set>(key)? else {
        cx.reply.array(0);
        return DONE;
    };
    let n = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let reply = &mut *cx.reply;
    if count < 0 {
        reply.array(n);
        set.draw(n, &mut rng, |member| reply_elem(reply, member));
    } else {
        let n = n.min(set.len());
        reply.array(n);
        set.select(n, &mut rng, |member| reply_elem(reply, member));
    }
    DONE
}

const SSCAN: Row<DataFn> = Spec::new("sscan", -3, Group::Set)
    .flags(Flags::READONLY)
    .acl(Acl::SET)
    .since("2.8.0")
    .cost("O(1) a call, O(N) for the walk over all N members")
    .about("Replies some members, and a cursor to go on with.")
    .tips(&["nondeterministic_output"])
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::int("cursor"),
        Arg::pattern("pattern").token("MATCH").optional(),
        Arg::int("count").token("COUNT").optional(),
    ])
    .run(sscan);

/// SSCAN key cursor [MATCH pattern] [COUNT n]: replies a cursor to go on with and some members.
fn sscan(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, cursor) = key_and_cursor(&mut args)?;
    let Some(set) = cx.keys.read_as::<Set>(key)? else {
        reply_no_walk(cx.reply);
        return DONE;
    };
    let options = ScanOptions::parse(args.rest(), false)?;
    reply_walk(cx.reply, |reply| {
        let mut count = 0;
        let next = set.scan(cursor, options.count, |member| {
            let mut digits = itoa::Buffer::new();
            let member = member.text(&mut digits);
            if options.wants_name(member) {
                reply.bulk(member);
                count += 1;
            }
        });
        (next, count)
    });
    DONE
}

#[cfg(test)]
mod tests {
    use crate::cmd::tests::Bench;
    use std::collections::BTreeSet;

    #[test]
    fn sets_tell_what_was_done_to_them() {
        let mut b = Bench::new();
        b.expect("sadd s a b a", "sadd s a b a", "new s, sadd s");
        b.expect("sadd s a", "", "");
        b.expect("srem s none", "", "");
        b.expect("smove s t a", "smove s t a", "srem s, new t, sadd t");
        b.expect("smove s t none", "", "");
        b.expect("smove t t a", "", "");
        b.expect("sadd t b", "sadd t b", "sadd t");
        b.expect("smove s t b", "smove s t b", "srem s, del s");
        b.expect(
            "sinterstore d t t",
            "sinterstore d t t",
            "new d, sinterstore d",
        );
        b.expect(
            "sinterstore d t none",
            "sinterstore d t none",
            "keymiss none, del d",
        );
        b.expect(
            "sunionstore d t none",
            "sunionstore d t none",
            "keymiss none, new d, sunionstore d",
        );
        b.expect("sdiffstore d t t", "sdiffstore d t t", "del d");
        b.expect("sdiffstore d t t", "", "");
        b.expect("srem t a b c", "srem t a b c", "srem t, del t");
    }

    #[test]
    fn what_was_popped_is_logged_as_removed() {
        let mut b = Bench::new();
        b.expect("spop s", "", "");
        b.expect("sadd s a", "sadd s a", "new s, sadd s");
        b.expect("spop s 0", "", "");
        b.expect("spop s", "SREM s a", "spop s, del s");
        b.expect("sadd s a b", "sadd s a b", "new s, sadd s");
        b.expect("spop s 2", "DEL s", "spop s, del s");
        b.config.lazyfree_lazy_server_del = true;
        b.expect("sadd s a b", "sadd s a b", "new s, sadd s");
        b.expect("spop s 3", "UNLINK s", "spop s, del s");

        let members: Vec<String> = (0..3000).map(|i| format!("m{i}")).collect();
        b.run(&format!("sadd s {}", members.join(" ")));
        let (reply, log, events) = b.run("spop s 2500");
        assert_eq!(events, ["spop s"]);
        let words: Vec<Vec<&str>> = log.iter().map(|op| op.split(' ').collect()).collect();
        let lengths: Vec<usize> = words.iter().map(Vec::len).collect();
        assert_eq!(lengths, [1026, 1026, 454], "a thousand or so at once");
        let logged: BTreeSet<&str> = words.iter().flat_map(|op| &op[2..]).copied().collect();
        let replied = reply.split("\\r\\n").filter(|word| word.starts_with('m'));
        assert_eq!(logged, replied.collect());
        assert!(words.iter().all(|op| op[..2] == ["SREM", "s"]) && logged.len() == 2500);
    }
}
