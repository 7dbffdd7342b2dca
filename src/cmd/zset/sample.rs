//! Members of a sorted set drawn at random, and the walk over all of them.

use super::{READ, Zset, reply_member, reply_members_head, reply_scored};
use crate::base::double::{format_double, format_g17};
use crate::cmd::args::parse_draw;
use crate::cmd::fault::{CmdResult, DONE};
use crate::cmd::scan::{ScanOptions, key_and_cursor, reply_no_walk, reply_walk};
use crate::cmd::spec::{Acl, Arg, Flags, Group, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row};
use crate::ds::listpack::Elem;
use crate::object::{Container, Encoding};

pub static ROWS: &[Row<DataFn>] = &[ZRANDMEMBER, ZSCAN];

const ZRANDMEMBER: Row<DataFn> = Spec::new("zrandmember", -2, Group::SortedSet)
    .flags(Flags::READONLY)
    .acl(Acl::SORTEDSET)
    .since("6.2.0")
    .cost("O(N) with N the members given")
    .about("Replies members of a sorted set, drawn at random.")
    .tips(&["nondeterministic_output"])
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::block(
            "options",
            &[
                Arg::int("count"),
                Arg::word("withscores", "WITHSCORES").optional(),
            ],
        )
        .optional(),
    ])
    .run(zrandmember);

/// ZRANDMEMBER key [count [WITHSCORES]]: replies one member, or an array of so many: different ones, or, for a negative
/// count, each drawn from all.
fn zrandmember(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    // Of its own, because the sorted set keeps the rest of the keys borrowed.
    let mut rng = cx.keys.rng.fork();
    if !args.more() {
        let set = cx.keys.read_as::<Zset>(key)?;
        match set.and_then(|set| set.random(&mut rng)) {
            Some((member, _)) => reply_member(cx.reply, member),
            None => cx.reply.null(),
        }
        return DONE;
    }
    let (count, with_scores) = parse_draw(&mut args, "WITHSCORES")?;
    let Some(set) = cx.keys.read_as::<Zset>(key)? else {
        cx.reply.array(0);
        return DONE;
    };
    let n = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let n = if count > 0 { n.min(set.len()) } else { n };
    let reply = &mut *cx.reply;
    reply_members_head(reply, n, with_scores);
    let each = |member: Elem<'_>, score| reply_scored(reply, member, score, with_scores);
    if count > 0 {
        set.select(n, &mut rng, each);
    } else {
        set.draw(n, &mut rng, each);
    }
    DONE
}

const ZSCAN: Row<DataFn> = Spec::new("zscan", -3, Group::SortedSet)
    .flags(Flags::READONLY)
    .acl(Acl::SORTEDSET)
    .since("2.8.0")
    .cost("O(1) a call, O(N) for the walk over all N members")
    .about("Replies some members with their scores, and a cursor to go on with.")
    .tips(&["nondeterministic_output"])
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::int("cursor"),
        Arg::pattern("pattern").token("MATCH").optional(),
        Arg::int("count").token("COUNT").optional(),
    ])
    .run(zscan);

/// ZSCAN key cursor [MATCH pattern] [COUNT n]: replies a cursor to go on with and some members with their scores.
fn zscan(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, cursor) = key_and_cursor(&mut args)?;
    let Some(set) = cx.keys.read_as::<Zset>(key)? else {
        reply_no_walk(cx.reply);
        return DONE;
    };
    let options = ScanOptions::parse(args.rest(), false)?;
    let in_listpack = set.encoding() == Encoding::Listpack;
    reply_walk(cx.reply, |reply| {
        let mut count = 0;
        let next = set.scan(cursor, options.count, |member, score| {
            let mut digits = itoa::Buffer::new();
            let member = member.text(&mut digits);
            if options.wants_name(member) {
                reply.bulk(member);
                // Redis gives the text that a listpack has; elsewhere it prints another.
                let text = match in_listpack {
                    true => format_double(score),
                    false => format_g17(score),
                };
                reply.bulk(text.as_bytes());
                count += 2;
            }
        });
        (next, count)
    });
    DONE
}
