//! Commands that take elements out of lists at their ends, move them to others, and wait for some if there are none.
//!
//! A blocking command tries first. Run again when one of its keys has become ready it tries again, so that it needs no
//! code of its own for that; and what it did is logged as its sister that does not wait.

use bytes::Bytes;
use smallvec::SmallVec;

use super::{List, pushed, reply_item, rules};
use crate::base::number::parse_i64;
use crate::cmd::blocking::{deadline, wait_for};
use crate::cmd::fault::{CmdResult, DONE, Fault, SYNTAX, WRONG_TYPE};
use crate::cmd::numkeys::{self, PopRequest};
use crate::cmd::session::Marks;
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::config::NotifyFlags;
use crate::ds::listpack::Elem;
use crate::object::Type;
use crate::object::list::{End, Item, NewElem};

pub static ROWS: &[Row<DataFn>] = &[
    LPOP, RPOP, LMPOP, LMOVE, RPOPLPUSH, BLPOP, BRPOP, BLMPOP, BLMOVE, BRPOPLPUSH,
];

const NOT_POSITIVE: Fault = Fault::new("ERR value is out of range, must be positive");

const TAKEN_FROM: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE);
const POPPED: &[KeySpec] = &[KeySpec::at(1).flags(TAKEN_FROM)];
const MOVED: &[KeySpec] = &[
    KeySpec::at(1).flags(TAKEN_FROM),
    KeySpec::at(2).flags(KeyFlags::RW.or(KeyFlags::INSERT)),
];
const WAITED: &[KeySpec] = &[KeySpec::range(1, -2, 1).flags(TAKEN_FROM)];

const SIDES: &[Arg] = &[Arg::word("left", "LEFT"), Arg::word("right", "RIGHT")];
const FRACTIONS: &[(&str, &str)] = &[("6.0.0", "The timeout may have a fraction.")];

/// LEFT or RIGHT.
fn side(word: &[u8]) -> Result<End, Fault> {
    if is_word(word, "RIGHT") {
        Ok(End::Tail)
    } else if is_word(word, "LEFT") {
        Ok(End::Head)
    } else {
        Err(SYNTAX)
    }
}

/// The command that pops at an end: its name in a log.
fn popper(end: End) -> &'static [u8] {
    match end {
        End::Head => b"LPOP",
        End::Tail => b"RPOP",
    }
}

/// The event of a pop.
fn popped(end: End) -> &'static str {
    match end {
        End::Head => "lpop",
        End::Tail => "rpop",
    }
}

/// Tells that `n` elements were taken out at an end, with the last of which the key has gone.
fn tell_popped(cx: &mut Ctx<'_>, key: &[u8], end: End, n: usize, emptied: bool) {
    cx.event(NotifyFlags::LIST, popped(end), key);
    if emptied {
        cx.event(NotifyFlags::GENERIC, "del", key);
    }
    cx.changed(key, n as u64);
}

/// Takes one element out of the list at a key and replies it, behind the key's name if that is wanted. False without a
/// list.
fn pop_one(cx: &mut Ctx<'_>, key: &[u8], end: End, named: bool) -> Result<bool, Fault> {
    let rules = rules(&cx.keys);
    let reply = &mut *cx.reply;
    let popped = cx.keys.change_if_there(key, |list: &mut List, _| {
        if named {
            reply.array(2);
            reply.bulk(key);
        }
        list.pop(end, |item| reply_item(reply, item));
        list.shrunk(&rules);
    })?;
    if let Some(((), emptied)) = popped {
        tell_popped(cx, key, end, 1, emptied.0);
    }
    Ok(popped.is_some())
}

/// Takes up to `count` elements out of the list at a key and replies them as an array, behind the key's name if that is
/// wanted. Gives how many they were; `None` without a list.
fn pop_many(
    cx: &mut Ctx<'_>,
    key: &[u8],
    end: End,
    count: usize,
    named: bool,
) -> Result<Option<usize>, Fault> {
    let rules = rules(&cx.keys);
    let reply = &mut *cx.reply;
    let popped = cx.keys.change_if_there(key, |list: &mut List, _| {
        if named {
            reply.array(2);
            reply.bulk(key);
        }
        let len = list.len();
        let n = count.min(len);
        reply.array(n);
        let (from, towards, range) = match end {
            End::Head => (0, End::Tail, 0..n),
            End::Tail => (len - 1, End::Head, len - n..len),
        };
        list.read(from, towards, n, |item| reply_item(reply, item));
        let gone = list.remove_range(range);
        list.shrunk(&rules);
        (n, gone)
    })?;
    let Some(((n, gone), emptied)) = popped else {
        return Ok(None);
    };
    if let Some(gone) = gone {
        cx.keys.dispose(gone);
    }
    tell_popped(cx, key, end, n, emptied.0);
    Ok(Some(n))
}

// --- Popping ---------------------------------------------------------------------------------------------------

const LPOP: Row<DataFn> = Spec::new("lpop", -2, Group::List)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::LIST)
    .since("1.0.0")
    .cost("O(N) with N the elements given")
    .about("Takes elements off the head of a list and gives them; the key goes with the last one.")
    .history(&[("6.2.0", "A count.")])
    .keys(POPPED)
    .args(&[
        Arg::key("key", 0),
        Arg::int("count").since("6.2.0").optional(),
    ])
    .run(lpop);

/// LPOP key [count]: the first element; with a count, an array of so many.
fn lpop(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    pop(cx, args, End::Head)
}

const RPOP: Row<DataFn> = Spec::new("rpop", -2, Group::List)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::LIST)
    .since("1.0.0")
    .cost("O(N) with N the elements given")
    .about("Takes elements off the tail of a list and gives them; the key goes with the last one.")
    .history(&[("6.2.0", "A count.")])
    .keys(POPPED)
    .args(&[
        Arg::key("key", 0),
        Arg::int("count").since("6.2.0").optional(),
    ])
    .run(rpop);

/// RPOP key [count]: the last element; with a count, an array of so many, the last one first.
fn rpop(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    pop(cx, args, End::Tail)
}

fn pop(cx: &mut Ctx<'_>, mut args: Args<'_>, end: End) -> CmdResult {
    let key = args.next()?;
    let count = match args.rest() {
        [] => None,
        [count] => {
            let count = parse_i64(count).and_then(|n| usize::try_from(n).ok());
            Some(count.ok_or(NOT_POSITIVE)?)
        }
        _ => {
            let command = match end {
                End::Head => "lpop",
                End::Tail => "rpop",
            };
            return Err(Fault::text(format!(
                "ERR wrong number of arguments for '{command}' command"
            )));
        }
    };
    match count {
        None => {
            if !pop_one(cx, key, end, false)? {
                cx.reply.null();
            }
        }
        Some(0) if cx.keys.write_as::<List>(key)?.is_some() => cx.reply.array(0),
        Some(0) => cx.reply.null_array(),
        Some(count) => {
            if pop_many(cx, key, end, count, false)?.is_none() {
                cx.reply.null_array();
            }
        }
    }
    DONE
}

/// What LMPOP and BLMPOP are asked, without the timeout.
type Several<'a> = PopRequest<'a, End>;

impl Several<'_> {
    /// Pops from the first key that holds something; true if one did.
    fn pop(&self, cx: &mut Ctx<'_>) -> Result<bool, Fault> {
        for key in self.keys {
            if let Some(n) = pop_many(cx, key, self.end, self.count, true)? {
                let mut digits = itoa::Buffer::new();
                cx.log_instead(&[popper(self.end), key, digits.format(n).as_bytes()]);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

const LMPOP: Row<DataFn> = Spec::new("lmpop", -4, Group::List)
    .flags(Flags::WRITE)
    .acl(Acl::LIST)
    .since("7.0.0")
    .cost("O(N + M) with N the keys and M the elements given")
    .about("Takes elements off an end of the first of several lists that has some; its key goes with the last one.")
    .keys(&[numkeys::spec(1, TAKEN_FROM)])
    .args(&[
        Arg::int("numkeys"),
        Arg::key("key", 0).multiple(),
        Arg::one_of("where", SIDES),
        Arg::int("count").token("COUNT").optional(),
    ])
    .find_keys(|argv| numkeys::find(argv, 1, TAKEN_FROM))
    .run(lmpop);

/// LMPOP numkeys key... LEFT|RIGHT [COUNT count]: the key and an array of elements, or a null.
fn lmpop(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    if !Several::parse(&mut args, side)?.pop(cx)? {
        cx.reply.null_array();
    }
    DONE
}

// --- Moving ----------------------------------------------------------------------------------------------------

/// An element between two lists.
struct Moved {
    text: SmallVec<[u8; 64]>,
    own: Option<Bytes>,
    /// What it counts for when the other list grows: in Redis an integer out of a quicklist counts for nothing.
    weight: usize,
}

impl Moved {
    fn pop(list: &mut List, end: End) -> Option<Moved> {
        let free = list.quicklist().is_some();
        list.pop(end, |item| match item {
            Item::Whole(bytes) => Moved {
                text: SmallVec::new(),
                weight: bytes.len(),
                own: Some(bytes.clone()),
            },
            Item::Elem(elem) => {
                let text = SmallVec::from_slice(elem.text(&mut itoa::Buffer::new()));
                let weight = match elem {
                    Elem::Int(_) if free => 0,
                    _ => text.len(),
                };
                let own = None;
                Moved { text, own, weight }
            }
        })
    }

    fn text(&self) -> &[u8] {
        self.own.as_deref().unwrap_or(&self.text)
    }

    fn push(&self, list: &mut List, end: End, rules: &super::ListRules) {
        list.grow_for([self.weight], rules);
        let (text, own) = (self.text(), self.own.as_ref());
        list.push(end, NewElem { text, own }, rules);
    }
}

/// Moves an element from the list at `source`, which is there, to the one at `target`, and replies it.
fn move_one(cx: &mut Ctx<'_>, source: &[u8], target: &[u8], from: End, to: End) -> CmdResult {
    // Its type only: whether the target can take something is asked before the source gives it.
    cx.keys.write_as::<List>(target)?;
    let rules = rules(&cx.keys);
    let same = source == target;
    let changed = cx.keys.change(source, |list: &mut List, _| {
        let moved = Moved::pop(list, from)?;
        if same {
            moved.push(list, to, &rules);
        }
        list.shrunk(&rules);
        Some(moved)
    });
    let (Some(moved), emptied) = changed.ok_or(WRONG_TYPE)? else {
        cx.reply.null();
        return DONE;
    };
    if !same {
        let push = |list: &mut List, _: &mut _| moved.push(list, to, &rules);
        cx.keys.change_or_make(target, List::new, push)?;
    }
    match &moved.own {
        Some(bytes) => cx.reply.bulk_shared(bytes.clone()),
        None => cx.reply.bulk(&moved.text),
    }
    cx.changed(target, 0);
    cx.event(NotifyFlags::LIST, pushed(to), target);
    tell_popped(cx, source, from, 1, emptied.0);
    DONE
}

const LMOVE: Row<DataFn> = Spec::new("lmove", 5, Group::List)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::LIST)
    .since("6.2.0")
    .cost("O(1)")
    .about("Moves an element from an end of a list to an end of another, and gives it.")
    .keys(MOVED)
    .args(&[
        Arg::key("source", 0),
        Arg::key("destination", 1),
        Arg::one_of("wherefrom", SIDES),
        Arg::one_of("whereto", SIDES),
    ])
    .run(lmove);

/// LMOVE source destination LEFT|RIGHT LEFT|RIGHT: the element, or a null.
fn lmove(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (source, target) = args.two()?;
    let (from, to) = (side(args.next()?)?, side(args.next()?)?);
    move_if_there(cx, source, target, from, to)
}

const RPOPLPUSH: Row<DataFn> = Spec::new("rpoplpush", 3, Group::List)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::LIST)
    .since("1.2.0")
    .cost("O(1)")
    .about("Moves an element from the tail of a list to the head of another, and gives it.")
    .deprecated("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments")
    .keys(MOVED)
    .args(&[Arg::key("source", 0), Arg::key("destination", 1)])
    .run(rpoplpush);

/// RPOPLPUSH source destination: the element, or a null.
fn rpoplpush(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (source, target) = args.two()?;
    move_if_there(cx, source, target, End::Tail, End::Head)
}

fn move_if_there(cx: &mut Ctx<'_>, source: &[u8], target: &[u8], from: End, to: End) -> CmdResult {
    if cx.keys.write_as::<List>(source)?.is_none() {
        cx.reply.null();
        return DONE;
    }
    move_one(cx, source, target, from, to)
}

// --- Waiting ---------------------------------------------------------------------------------------------------

const BLPOP: Row<DataFn> = Spec::new("blpop", -3, Group::List)
    .flags(Flags::WRITE.or(Flags::BLOCKING))
    .acl(Acl::LIST)
    .since("2.0.0")
    .cost("O(N) with N the keys")
    .about("Takes the first element off the first of several lists that has some; waits for one if none has.")
    .history(FRACTIONS)
    .keys(WAITED)
    .args(&[Arg::key("key", 0).multiple(), Arg::double("timeout")])
    .run(blpop);

/// BLPOP key... timeout: the key and its first element; a null when the time is over.
fn blpop(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    pop_or_wait(cx, args, End::Head)
}

const BRPOP: Row<DataFn> = Spec::new("brpop", -3, Group::List)
    .flags(Flags::WRITE.or(Flags::BLOCKING))
    .acl(Acl::LIST)
    .since("2.0.0")
    .cost("O(N) with N the keys")
    .about("Takes the last element off the first of several lists that has some; waits for one if none has.")
    .history(FRACTIONS)
    .keys(WAITED)
    .args(&[Arg::key("key", 0).multiple(), Arg::double("timeout")])
    .run(brpop);

/// BRPOP key... timeout: the key and its last element; a null when the time is over.
fn brpop(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    pop_or_wait(cx, args, End::Tail)
}

fn pop_or_wait(cx: &mut Ctx<'_>, args: Args<'_>, end: End) -> CmdResult {
    let (timeout, keys) = args.rest().split_last().ok_or(SYNTAX)?;
    let deadline = deadline(timeout, cx.now_ms())?;
    for key in keys {
        if pop_one(cx, key, end, true)? {
            cx.log_instead(&[popper(end), key]);
            return DONE;
        }
    }
    wait_for(keys, Type::List, deadline)
}

const BLMPOP: Row<DataFn> = Spec::new("blmpop", -5, Group::List)
    .flags(Flags::WRITE.or(Flags::BLOCKING))
    .acl(Acl::LIST)
    .since("7.0.0")
    .cost("O(N + M) with N the keys and M the elements given")
    .about("Takes elements off an end of the first of several lists that has some; waits for one if none has.")
    .keys(&[numkeys::spec(2, TAKEN_FROM)])
    .args(&[
        Arg::double("timeout"),
        Arg::int("numkeys"),
        Arg::key("key", 0).multiple(),
        Arg::one_of("where", SIDES),
        Arg::int("count").token("COUNT").optional(),
    ])
    .find_keys(|argv| numkeys::find(argv, 2, TAKEN_FROM))
    .run(blmpop);

/// BLMPOP timeout numkeys key... LEFT|RIGHT [COUNT count]: as LMPOP, but waits.
fn blmpop(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let timeout = args.next()?;
    let several = Several::parse(&mut args, side)?;
    let deadline = deadline(timeout, cx.now_ms())?;
    if several.pop(cx)? {
        return DONE;
    }
    wait_for(several.keys, Type::List, deadline)
}

const BLMOVE: Row<DataFn> = Spec::new("blmove", 6, Group::List)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::BLOCKING))
    .acl(Acl::LIST)
    .since("6.2.0")
    .cost("O(1)")
    .about("Moves an element from an end of a list to an end of another, and gives it; waits for one if there is none.")
    .keys(MOVED)
    .args(&[
        Arg::key("source", 0),
        Arg::key("destination", 1),
        Arg::one_of("wherefrom", SIDES),
        Arg::one_of("whereto", SIDES),
        Arg::double("timeout"),
    ])
    .run(blmove);

/// BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout: as LMOVE, but waits.
fn blmove(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (source, target) = args.two()?;
    let (from, to) = args.two()?;
    let ends = (side(from)?, side(to)?);
    let deadline = deadline(args.next()?, cx.now_ms())?;
    if cx.keys.write_as::<List>(source)?.is_none() {
        return wait_to_move(cx, source, deadline);
    }
    move_one(cx, source, target, ends.0, ends.1)?;
    cx.log_instead(&[b"LMOVE", source, target, from, to]);
    DONE
}

const BRPOPLPUSH: Row<DataFn> = Spec::new("brpoplpush", 4, Group::List)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::BLOCKING))
    .acl(Acl::LIST)
    .since("2.2.0")
    .cost("O(1)")
    .about("Moves an element from the tail of a list to the head of another, and gives it; waits for one if there is none.")
    .history(FRACTIONS)
    .deprecated("6.2.0", "`BLMOVE` with the `RIGHT` and `LEFT` arguments")
    .keys(MOVED)
    .args(&[
        Arg::key("source", 0),
        Arg::key("destination", 1),
        Arg::double("timeout"),
    ])
    .run(brpoplpush);

/// BRPOPLPUSH source destination timeout: as RPOPLPUSH, but waits.
fn brpoplpush(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (source, target) = args.two()?;
    let deadline = deadline(args.next()?, cx.now_ms())?;
    if cx.keys.write_as::<List>(source)?.is_none() {
        return wait_to_move(cx, source, deadline);
    }
    move_one(cx, source, target, End::Tail, End::Head)?;
    cx.log_instead(&[b"RPOPLPUSH", source, target]);
    DONE
}

/// Where it may not wait it replies a plain null, unlike when its time is over.
fn wait_to_move(cx: &mut Ctx<'_>, source: &[u8], deadline: Option<u64>) -> CmdResult {
    if cx.session.marks.has(Marks::DENY_BLOCKING) {
        cx.reply.null();
        return DONE;
    }
    wait_for(&[source], Type::List, deadline)
}
