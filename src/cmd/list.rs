//! Commands on lists: pushing, and all that looks at or changes elements where they are. What takes them out at the
//! ends, and waits for them, is in [`pop`].

pub mod pop;

use std::ops::ControlFlow;

use crate::base::number::parse_i64;
use crate::cmd::fault::{
    CmdResult, DONE, Fault, NO_SUCH_KEY, NOT_INTEGER, OUT_OF_RANGE, SYNTAX, WRONG_TYPE,
};
use crate::cmd::keys::Keys;
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::config::NotifyFlags;
use crate::ds::listpack::{Elem, Needle};
use crate::object::list::{End, Item, List, ListRules, NewElem};
use crate::resp::reply::Reply;

pub static ROWS: &[Row<DataFn>] = &[
    LPUSH, RPUSH, LPUSHX, RPUSHX, LLEN, LINDEX, LSET, LINSERT, LRANGE, LTRIM, LREM, LPOS,
];

const RANK_ZERO: Fault = Fault::new(
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
);
const RANK_RANGE: Fault = Fault::new(
    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
);
const COUNT_NEGATIVE: Fault = Fault::new("ERR COUNT can't be negative");
const MAXLEN_NEGATIVE: Fault = Fault::new("ERR MAXLEN can't be negative");

const GROWN: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::INSERT))];
const READ: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))];
const SHORTENED: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::DELETE))];

/// What the configuration says of lists now.
pub fn rules(keys: &Keys<'_>) -> ListRules {
    ListRules {
        fill: keys.config.list_max_listpack_size,
        depth: keys.config.list_compress_depth,
        plain_from: keys.list_plain_from,
    }
}

/// An element as a bulk string, straight from the list.
#[inline(always)]
fn reply_item(reply: &mut Reply, item: Item<'_>) {
    match item {
        Item::Elem(Elem::Str(text)) => reply.bulk(text),
        Item::Elem(Elem::Int(int)) => reply.bulk_int(int),
        Item::Whole(bytes) => reply.bulk_shared(bytes.clone()),
    }
}

/// Element number `index`, from the end if it is negative; `None` outside.
fn place(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 {
        index.checked_add(len as i64)?
    } else {
        index
    };
    usize::try_from(index).ok().filter(|&index| index < len)
}

/// The range from `start` to `stop`, both included and from the end if negative, of what is there.
fn range(start: i64, stop: i64, len: usize) -> std::ops::Range<usize> {
    let from_front = |index: i64| match index {
        ..0 => index.saturating_add(len as i64),
        _ => index,
    };
    let start = from_front(start).max(0);
    let stop = from_front(stop).min(len as i64 - 1);
    if start > stop {
        return 0..0;
    }
    start as usize..stop as usize + 1
}

// --- Pushing ---------------------------------------------------------------------------------------------------

const LPUSH: Row<DataFn> = Spec::new("lpush", -3, Group::List)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::LIST)
    .since("1.0.0")
    .cost("O(1) for each element")
    .about("Adds elements at the head of a list, which is made if there is none.")
    .history(&[("2.4.0", "Several elements.")])
    .keys(GROWN)
    .args(&[Arg::key("key", 0), Arg::string("element").multiple()])
    .run(lpush);

/// LPUSH key element...: replies the new length. The last one named becomes the first.
fn lpush(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    push(cx, args, End::Head, false)
}

const RPUSH: Row<DataFn> = Spec::new("rpush", -3, Group::List)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::LIST)
    .since("1.0.0")
    .cost("O(1) for each element")
    .about("Adds elements at the tail of a list, which is made if there is none.")
    .history(&[("2.4.0", "Several elements.")])
    .keys(GROWN)
    .args(&[Arg::key("key", 0), Arg::string("element").multiple()])
    .run(rpush);

/// RPUSH key element...: replies the new length.
fn rpush(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    push(cx, args, End::Tail, false)
}

const LPUSHX: Row<DataFn> = Spec::new("lpushx", -3, Group::List)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::LIST)
    .since("2.2.0")
    .cost("O(1) for each element")
    .about("Adds elements at the head of a list if there is one.")
    .history(&[("4.0.0", "Several elements.")])
    .keys(GROWN)
    .args(&[Arg::key("key", 0), Arg::string("element").multiple()])
    .run(lpushx);

/// LPUSHX key element...: as LPUSH, but makes no key.
fn lpushx(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    push(cx, args, End::Head, true)
}

const RPUSHX: Row<DataFn> = Spec::new("rpushx", -3, Group::List)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::LIST)
    .since("2.2.0")
    .cost("O(1) for each element")
    .about("Adds elements at the tail of a list if there is one.")
    .history(&[("4.0.0", "Several elements.")])
    .keys(GROWN)
    .args(&[Arg::key("key", 0), Arg::string("element").multiple()])
    .run(rpushx);

/// RPUSHX key element...: as RPUSH, but makes no key.
fn rpushx(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    push(cx, args, End::Tail, true)
}

fn push(cx: &mut Ctx<'_>, mut args: Args<'_>, end: End, only_there: bool) -> CmdResult {
    let key = args.next()?;
    if only_there && cx.keys.write_as::<List>(key)?.is_none() {
        cx.reply.int(0);
        return DONE;
    }
    let elems = args.rest();
    let rules = rules(&cx.keys);
    let (len, _) = cx
        .keys
        .change_or_make(key, List::new, |list: &mut List, _| {
            list.grow_for(elems.iter().map(|e| e.len()), &rules);
            for text in elems {
                let own = args.shared(text);
                list.push(end, NewElem { text, own }, &rules);
            }
            list.len()
        })?;
    cx.reply.int(len as i64);
    cx.changed(key, elems.len() as u64);
    cx.event(NotifyFlags::LIST, pushed(end), key);
    DONE
}

/// The event of a push.
fn pushed(end: End) -> &'static str {
    match end {
        End::Head => "lpush",
        End::Tail => "rpush",
    }
}

// --- Looking ---------------------------------------------------------------------------------------------------

const LLEN: Row<DataFn> = Spec::new("llen", 2, Group::List)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::LIST)
    .since("1.0.0")
    .cost("O(1)")
    .about("Tells how many elements a list has.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO)])
    .args(&[Arg::key("key", 0)])
    .run(llen);

/// LLEN key: replies the length, 0 without a key.
fn llen(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let len = cx
        .keys
        .read_as::<List>(args.one()?)?
        .map_or(0, |list| list.len());
    cx.reply.int(len as i64);
    DONE
}

const LINDEX: Row<DataFn> = Spec::new("lindex", 3, Group::List)
    .flags(Flags::READONLY)
    .acl(Acl::LIST)
    .since("1.0.0")
    .cost("O(log N) with N the length of the list")
    .about("Gives an element of a list by its index.")
    .keys(READ)
    .args(&[Arg::key("key", 0), Arg::int("index")])
    .run(lindex);

/// LINDEX key index: the element, or a null.
fn lindex(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, index) = args.two()?;
    let Some(list) = cx.keys.read_as::<List>(key)? else {
        cx.reply.null();
        return DONE;
    };
    let index = parse_i64(index).ok_or(NOT_INTEGER)?;
    match place(index, list.len()) {
        Some(at) => list.read(at, End::Tail, 1, |item| reply_item(cx.reply, item)),
        None => cx.reply.null(),
    }
    DONE
}

const LRANGE: Row<DataFn> = Spec::new("lrange", 4, Group::List)
    .flags(Flags::READONLY)
    .acl(Acl::LIST)
    .since("1.0.0")
    .cost("O(log N + M) with N the length of the list and M the elements given")
    .about("Gives a range of elements of a list.")
    .keys(READ)
    .args(&[Arg::key("key", 0), Arg::int("start"), Arg::int("stop")])
    .run(lrange);

/// LRANGE key start stop: the elements from one index to the other, both included.
fn lrange(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.next()?;
    let (start, stop) = (args.next_i64()?, args.next_i64()?);
    let Some(list) = cx.keys.read_as::<List>(key)? else {
        cx.reply.array(0);
        return DONE;
    };
    let range = range(start, stop, list.len());
    cx.reply.array(range.len());
    list.read(range.start, End::Tail, range.len(), |item| {
        reply_item(cx.reply, item)
    });
    DONE
}

const LPOS: Row<DataFn> = Spec::new("lpos", -3, Group::List)
    .flags(Flags::READONLY)
    .acl(Acl::LIST)
    .since("6.0.6")
    .cost("O(N) with N the length of the list, or the elements looked at: up to the last match, at most MAXLEN")
    .about("Gives the indexes of the elements that have a given text.")
    .keys(READ)
    .args(&[
        Arg::key("key", 0),
        Arg::string("element"),
        Arg::int("rank").token("RANK").optional(),
        Arg::int("num-matches").token("COUNT").optional(),
        Arg::int("len").token("MAXLEN").optional(),
    ])
    .run(lpos);

/// What LPOS was asked.
struct Search {
    from: End,
    /// The first match that counts, from 1.
    rank: u64,
    /// `None`: a single one, not in an array. 0: all.
    count: Option<u64>,
    /// How many elements to compare; 0: all.
    max_len: u64,
}

impl Search {
    fn parse(args: &mut Args<'_>) -> Result<Search, Fault> {
        let mut search = Search {
            from: End::Head,
            rank: 1,
            count: None,
            max_len: 0,
        };
        while args.more() {
            let word = args.next()?;
            let positive = |args: &mut Args<'_>, fault| {
                let number = parse_i64(args.next()?);
                number.and_then(|n| u64::try_from(n).ok()).ok_or(fault)
            };
            if is_word(word, "RANK") && args.more() {
                let rank = args.next_i64()?;
                match rank {
                    i64::MIN => return Err(RANK_RANGE),
                    0 => return Err(RANK_ZERO),
                    1.. => search.from = End::Head,
                    _ => search.from = End::Tail,
                }
                search.rank = rank.unsigned_abs();
            } else if is_word(word, "COUNT") && args.more() {
                search.count = Some(positive(args, COUNT_NEGATIVE)?);
            } else if is_word(word, "MAXLEN") && args.more() {
                search.max_len = positive(args, MAXLEN_NEGATIVE)?;
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(search)
    }

    /// Gives the indexes found to `f`.
    fn run(&self, list: &List, needle: Needle<'_>, mut f: impl FnMut(usize)) {
        let len = list.len();
        let wanted = match self.count {
            None => 1,
            Some(0) => u64::MAX,
            Some(count) => count,
        };
        let (mut passed, mut matches) = (0, 0);
        let (from, towards) = match self.from {
            End::Head => (0, End::Tail),
            End::Tail => (len - 1, End::Head),
        };
        list.walk(from, towards, |item| {
            if item.is(&needle) {
                matches += 1;
                if matches >= self.rank {
                    f(match self.from {
                        End::Head => passed,
                        End::Tail => len - 1 - passed,
                    });
                    if matches - self.rank + 1 == wanted {
                        return ControlFlow::Break(());
                    }
                }
            }
            passed += 1;
            if passed as u64 == self.max_len {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
    }
}

/// LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]: an index or a null; with COUNT, an array of them.
fn lpos(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, text) = args.two()?;
    let search = Search::parse(&mut args)?;
    let list = cx.keys.read_as::<List>(key)?;
    let needle = Needle::new(text);
    if search.count.is_some() {
        let head = cx.reply.defer();
        let mut found = 0;
        if let Some(list) = list {
            search.run(list, needle, |index| {
                found += 1;
                cx.reply.int(index as i64);
            });
        }
        cx.reply.close_array(head, found);
        return DONE;
    }
    let mut found = None;
    if let Some(list) = list {
        search.run(list, needle, |index| found = Some(index));
    }
    match found {
        Some(index) => cx.reply.int(index as i64),
        None => cx.reply.null(),
    }
    DONE
}

// --- Changing --------------------------------------------------------------------------------------------------

const LSET: Row<DataFn> = Spec::new("lset", 4, Group::List)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::LIST)
    .since("1.0.0")
    .cost("O(log N) with N the length of the list")
    .about("Puts another element in the place of one of a list.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::UPDATE))])
    .args(&[
        Arg::key("key", 0),
        Arg::int("index"),
        Arg::string("element"),
    ])
    .run(lset);

/// LSET key index element: replaces one.
fn lset(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, index) = args.two()?;
    let text = args.next()?;
    if cx.keys.write_as::<List>(key)?.is_none() {
        return Err(NO_SUCH_KEY);
    }
    let index = parse_i64(index).ok_or(NOT_INTEGER)?;
    // Redis takes the lower 32 bits for it.
    let index = i64::from(index as i32);
    let rules = rules(&cx.keys);
    let own = args.shared(text);
    let replaced = cx.keys.change(key, |list: &mut List, _| {
        list.grow_for([text.len()], &rules);
        let at = place(index, list.len()).ok_or(OUT_OF_RANGE)?;
        list.replace(at, NewElem { text, own }, &rules);
        list.shrunk(&rules);
        Ok::<_, Fault>(())
    });
    replaced.ok_or(WRONG_TYPE)?.0?;
    cx.reply.ok();
    cx.changed(key, 1);
    cx.event(NotifyFlags::LIST, "lset", key);
    DONE
}

const LINSERT: Row<DataFn> = Spec::new("linsert", 5, Group::List)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::LIST)
    .since("2.2.0")
    .cost("O(N) with N the elements before the pivot")
    .about("Inserts an element into a list, beside another.")
    .keys(GROWN)
    .args(&[
        Arg::key("key", 0),
        Arg::one_of(
            "where",
            &[Arg::word("before", "BEFORE"), Arg::word("after", "AFTER")],
        ),
        Arg::string("pivot"),
        Arg::string("element"),
    ])
    .run(linsert);

/// LINSERT key BEFORE|AFTER pivot element: replies the new length, -1 without a pivot, 0 without a key.
fn linsert(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, side) = args.two()?;
    let before = if is_word(side, "AFTER") {
        false
    } else if is_word(side, "BEFORE") {
        true
    } else {
        return Err(SYNTAX);
    };
    let (pivot, text) = args.two()?;
    if cx.keys.write_as::<List>(key)?.is_none() {
        cx.reply.int(0);
        return DONE;
    }
    let rules = rules(&cx.keys);
    let own = args.shared(text);
    let inserted = cx.keys.change(key, |list: &mut List, _| {
        // Whether it will be inserted or not.
        list.grow_for([text.len()], &rules);
        let at = list.find(&Needle::new(pivot))?;
        list.insert(at, before, NewElem { text, own }, &rules);
        Some(list.len())
    });
    let Some(len) = inserted.ok_or(WRONG_TYPE)?.0 else {
        cx.reply.int(-1);
        return DONE;
    };
    cx.reply.int(len as i64);
    cx.changed(key, 1);
    cx.event(NotifyFlags::LIST, "linsert", key);
    DONE
}

const LTRIM: Row<DataFn> = Spec::new("ltrim", 4, Group::List)
    .flags(Flags::WRITE)
    .acl(Acl::LIST)
    .since("1.0.0")
    .cost("O(log N) with N the length of the list, and in the background O(M), M the elements removed")
    .about("Removes all elements of a list but a range; the key goes with the last one.")
    .keys(SHORTENED)
    .args(&[Arg::key("key", 0), Arg::int("start"), Arg::int("stop")])
    .run(ltrim);

/// LTRIM key start stop: keeps the elements from one index to the other, both included.
fn ltrim(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.next()?;
    let (start, stop) = (args.next_i64()?, args.next_i64()?);
    let Some(list) = cx.keys.write_as::<List>(key)? else {
        cx.reply.ok();
        return DONE;
    };
    let len = list.len();
    let kept = range(start, stop, len);
    let rules = rules(&cx.keys);
    let removed = len - kept.len();
    let trimmed = cx.keys.change(key, |list: &mut List, _| {
        let back = list.remove_range(kept.end..len);
        let front = list.remove_range(0..kept.start);
        list.shrunk(&rules);
        [front, back]
    });
    let (gone, emptied) = trimmed.ok_or(WRONG_TYPE)?;
    for list in gone.into_iter().flatten() {
        cx.keys.dispose(list);
    }
    cx.event(NotifyFlags::LIST, "ltrim", key);
    if emptied.0 {
        cx.event(NotifyFlags::GENERIC, "del", key);
    }
    cx.changed(key, removed as u64);
    cx.reply.ok();
    DONE
}

const LREM: Row<DataFn> = Spec::new("lrem", 4, Group::List)
    .flags(Flags::WRITE)
    .acl(Acl::LIST)
    .since("1.0.0")
    .cost("O(N) with N the length of the list")
    .about("Removes elements of a given text from a list; the key goes with the last one.")
    .keys(SHORTENED)
    .args(&[
        Arg::key("key", 0),
        Arg::int("count"),
        Arg::string("element"),
    ])
    .run(lrem);

/// LREM key count element: removes so many of that text from the head on, from the tail on if `count` is negative, all
/// if it is 0. Replies how many they were.
fn lrem(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.next()?;
    let (count, text) = (args.next_i64()?, args.next()?);
    if cx.keys.write_as::<List>(key)?.is_none() {
        cx.reply.int(0);
        return DONE;
    }
    let (from, max) = match count {
        0 => (End::Head, usize::MAX),
        1.. => (End::Head, count as usize),
        _ => (End::Tail, count.unsigned_abs() as usize),
    };
    let rules = rules(&cx.keys);
    let changed = cx.keys.change(key, |list: &mut List, _| {
        let removed = list.remove_matches(&Needle::new(text), from, max);
        if removed > 0 {
            list.shrunk(&rules);
        }
        removed
    });
    let (removed, emptied) = changed.ok_or(WRONG_TYPE)?;
    if removed > 0 {
        cx.changed(key, removed as u64);
        cx.event(NotifyFlags::LIST, "lrem", key);
    }
    if emptied.0 {
        cx.event(NotifyFlags::GENERIC, "del", key);
    }
    cx.reply.int(removed as i64);
    DONE
}
