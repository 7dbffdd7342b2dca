//! XREAD and XREADGROUP: what is new in several streams, for whoever reads alone or as a member of a group.
//!
//! The keys are looked at twice, as Redis does it: first everything is checked, and each ID made plain (`$` is the last ID
//! now); then each stream that has something is served. If none has and BLOCK was given, the command waits. It runs
//! again when a key may have more, so the arguments that wait have the plain ID in place of `$`, else it would stand
//! for the entry that is waited for.

use super::range::reply_entries;
use super::{log_claim, log_group_id, no_group, reply_entry, reply_id, strict_id};
use crate::cmd::args::OwnedArgs;
use crate::cmd::blocking::deadline_ms;
use crate::cmd::fault::{Block, CmdResult, DONE, Fault, Flow, OnTimeout, SYNTAX, quoted};
use crate::cmd::session::Marks;
use crate::cmd::spec::{Acl, Arg, Begin, Find, Flags, Group, KeyFlags, KeyRef, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::config::NotifyFlags;
use crate::ds::stream::{Nack, StreamId};
use crate::object::{Stream, Type};
use crate::resp::reply::Reply;

pub static ROWS: &[Row<DataFn>] = &[XREAD, XREADGROUP];

const NOT_A_GROUP: Fault =
    Fault::new("ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.");
const NOACK_ALONE: Fault =
    Fault::new("ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.");
const GROUP_MISSING: Fault = Fault::new("ERR Missing GROUP option for XREADGROUP");
const UNBALANCED: Fault = Fault::new(
    "ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified.",
);
const UNBALANCED_GROUP: Fault = Fault::new(
    "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified.",
);
const LAST_IN_GROUP: Fault = Fault::new(
    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
);
const NEW_WITHOUT_GROUP: Fault = Fault::new(
    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
);
const STREAMS: Arg = Arg::block(
    "streams",
    &[Arg::key("key", 0).multiple(), Arg::string("id").multiple()],
)
.token("STREAMS");
const COUNT: Arg = Arg::int("count").token("COUNT").optional();
const BLOCK: Arg = Arg::int("milliseconds").token("BLOCK").optional();

/// The first half of what comes behind the word STREAMS, which is looked for from a position on.
const fn first_half(from: i32) -> KeySpec {
    KeySpec::new(
        Begin::Keyword("STREAMS", from),
        Find::Range {
            last: -1,
            step: 1,
            limit: 2,
        },
    )
    .flags(KeyFlags::RO.or(KeyFlags::ACCESS))
}

const XREAD: Row<DataFn> = Spec::new("xread", -4, Group::Stream)
    .flags(Flags::BLOCKING.or(Flags::READONLY))
    .acl(Acl::STREAM)
    .since("5.0.0")
    .about("Gives the entries of several streams behind an ID each; waits for some if asked to.")
    .keys(&[first_half(1)])
    .args(&[COUNT, BLOCK, STREAMS])
    .find_keys(keys_of_read)
    .run(xread);

/// XREAD [COUNT count] [BLOCK ms] STREAMS key [key ...] id [id ...]
fn xread(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    read(cx, args, false)
}

const XREADGROUP: Row<DataFn> = Spec::new("xreadgroup", -7, Group::Stream)
    .flags(Flags::BLOCKING.or(Flags::WRITE))
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(M) for each stream, M the entries replied. While some wait, an XADD takes O(N), N those it serves.")
    .about("Gives new entries of several streams to a consumer of a group, or what it owes; waits for some if asked to.")
    .keys(&[first_half(4)])
    .args(&[
        Arg::block("group-block", &[Arg::string("group"), Arg::string("consumer")]).token("GROUP"),
        COUNT,
        BLOCK,
        Arg::word("noack", "NOACK").optional(),
        STREAMS,
    ])
    .find_keys(keys_of_read)
    .run(xreadgroup);

/// XREADGROUP GROUP group consumer [COUNT count] [BLOCK ms] [NOACK] STREAMS key [key ...] id [id ...]
fn xreadgroup(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    read(cx, args, true)
}

/// The keys: `STREAMS` may also be the name of a group, so the options before it are gone through.
fn keys_of_read(argv: &[&[u8]]) -> Option<Vec<KeyRef>> {
    let mut at = 1;
    while !is_word(argv.get(at)?, "STREAMS") {
        let word = argv[at];
        at += match () {
            () if is_word(word, "BLOCK") || is_word(word, "COUNT") => 2,
            () if is_word(word, "GROUP") => 3,
            () if is_word(word, "NOACK") => 1,
            () => return None,
        };
    }
    let names = argv.len() - at - 1;
    if names == 0 || !names.is_multiple_of(2) {
        return None;
    }
    let keys = at + 1..at + 1 + names / 2;
    let flags = KeyFlags::NONE;
    Some(keys.map(|pos| KeyRef { pos, flags }).collect())
}

// --- The arguments ---------------------------------------------------------------------------------------------

/// A group and the consumer who reads for it.
#[derive(Clone, Copy)]
struct Member<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
    /// What it gets it does not owe.
    noack: bool,
}

/// What XREAD and XREADGROUP were asked.
struct Request<'a> {
    count: usize,
    /// `None`: it does not wait; `Some(None)`: it waits for ever; else the end of its wait, Unix time in ms.
    block: Option<Option<u64>>,
    member: Option<Member<'a>>,
    /// Where the keys begin among the arguments, and how many there are. The IDs follow.
    keys_at: usize,
    keys: usize,
}

/// Other commands that would wait reply at once as if they had; this one has always refused to.
fn not_from_scripts(name: &[u8]) -> Fault {
    let why = b" command is not allowed with BLOCK option from scripts";
    Fault::text([b"ERR ", name, why].concat())
}

impl<'a> Request<'a> {
    fn parse(
        argv: &'a [&'a [u8]],
        now_ms: u64,
        as_group: bool,
        scripted: bool,
    ) -> Result<Self, Fault> {
        let mut request = Request {
            count: 0,
            block: None,
            member: None,
            keys_at: 0,
            keys: 0,
        };
        let mut noack = false;
        let mut args = Args::new(argv, &[]);
        while let Some(word) = args.peek() {
            args.skip(1);
            if is_word(word, "BLOCK") && args.more() {
                if scripted {
                    return Err(not_from_scripts(argv[0]));
                }
                request.block = Some(deadline_ms(args.next()?, now_ms)?);
            } else if is_word(word, "COUNT") && args.more() {
                request.count = usize::try_from(args.next_i64()?).unwrap_or(0);
            } else if is_word(word, "STREAMS") && args.more() {
                if !args.left().is_multiple_of(2) {
                    return Err(if as_group {
                        UNBALANCED_GROUP
                    } else {
                        UNBALANCED
                    });
                }
                request.keys_at = argv.len() - args.left();
                request.keys = args.left() / 2;
                break;
            } else if is_word(word, "GROUP") && args.left() >= 2 {
                if !as_group {
                    return Err(NOT_A_GROUP);
                }
                let (group, consumer) = args.two()?;
                request.member = Some(Member {
                    group,
                    consumer,
                    noack: false,
                });
            } else if is_word(word, "NOACK") {
                if !as_group {
                    return Err(NOACK_ALONE);
                }
                noack = true;
            } else {
                return Err(SYNTAX);
            }
        }
        if request.keys == 0 {
            return Err(SYNTAX);
        }
        match &mut request.member {
            Some(member) => member.noack = noack,
            None if as_group => return Err(GROUP_MISSING),
            None => {}
        }
        Ok(request)
    }

    fn limit(&self) -> usize {
        match self.count {
            0 => usize::MAX,
            n => n,
        }
    }
}

// --- Serving ---------------------------------------------------------------------------------------------------

fn read(cx: &mut Ctx<'_>, args: Args<'_>, as_group: bool) -> CmdResult {
    let argv = args.argv();
    let scripted = cx.session.marks.has(Marks::SCRIPT);
    let request = Request::parse(argv, cx.now_ms(), as_group, scripted)?;
    let (keys, ids) = argv[request.keys_at..].split_at(request.keys);
    let mut after = Vec::with_capacity(keys.len());
    for (key, id) in keys.iter().zip(ids) {
        after.push(check(cx, key, id, request.member)?);
    }
    let mut served = Served {
        header: None,
        streams: 0,
    };
    for (key, after) in keys.iter().zip(&after) {
        match request.member {
            Some(member) => read_as_member(cx, &request, key, *after, member, &mut served),
            None => read_alone(cx, &request, key, *after, &mut served)?,
        }
    }
    // What it did is in the log; the command is not.
    cx.log_nothing();
    if let Some(header) = served.header {
        match cx.reply.is_resp3() {
            true => cx.reply.close_map(header, served.streams),
            false => cx.reply.close_array(header, served.streams),
        }
        return DONE;
    }
    match request.block {
        Some(deadline) => Ok(wait(&request, deadline, args, &after)),
        None => {
            cx.reply.null_array();
            DONE
        }
    }
}

/// Checks a key and its ID: the ID behind which is read. For a group, the largest one stands for `>`.
fn check(
    cx: &mut Ctx<'_>,
    key: &[u8],
    id: &[u8],
    member: Option<Member<'_>>,
) -> Result<StreamId, Fault> {
    let stream = cx.keys.read_as::<Stream>(key)?;
    if let Some(Member { group, .. }) = member
        && stream.is_none_or(|stream| stream.group(group).is_none())
    {
        return Err(no_group(key, group, " in XREADGROUP with GROUP option"));
    }
    match (quoted(id), member) {
        (b"$", None) => Ok(stream.map_or(StreamId::MIN, Stream::last_id)),
        (b"$", Some(_)) => Err(LAST_IN_GROUP),
        (b">", None) => Err(NEW_WITHOUT_GROUP),
        (b">", Some(_)) => Ok(StreamId::MAX),
        _ => strict_id(id),
    }
}

/// The reply as far as it is written.
struct Served {
    header: Option<crate::resp::reply::Deferred>,
    streams: usize,
}

impl Served {
    /// The entries of a stream follow.
    fn begin(&mut self, reply: &mut Reply, key: &[u8]) {
        if self.header.is_none() {
            self.header = Some(reply.defer());
        }
        self.streams += 1;
        if !reply.is_resp3() {
            reply.array(2);
        }
        reply.bulk(key);
    }
}

fn read_alone(
    cx: &mut Ctx<'_>,
    request: &Request<'_>,
    key: &[u8],
    after: StreamId,
    served: &mut Served,
) -> Result<(), Fault> {
    let Some(stream) = cx.keys.read_as::<Stream>(key)? else {
        return Ok(());
    };
    let has_more = stream.last_live_id().is_some_and(|last| last > after);
    if let Some(start) = after.next().filter(|_| has_more) {
        served.begin(cx.reply, key);
        let entries = stream.range(start, StreamId::MAX);
        reply_entries(cx.reply, entries.take(request.limit()), |_| ());
    }
    Ok(())
}

/// What reading as a member of a group did to it.
#[derive(Default)]
struct Deed {
    served: bool,
    made_consumer: bool,
    /// The IDs delivered for the first time; where the group stood before, and how many it has read now.
    delivered: Vec<StreamId>,
    last_before: StreamId,
    entries_read: Option<i64>,
}

fn read_as_member(
    cx: &mut Ctx<'_>,
    request: &Request<'_>,
    key: &[u8],
    after: StreamId,
    member: Member<'_>,
    served: &mut Served,
) {
    // The lookup counts; what it finds was checked.
    if cx.keys.read(key).is_none() {
        return;
    }
    let (now_ms, limit) = (cx.now_ms() as i64, request.limit());
    let reply = &mut *cx.reply;
    let done = cx.keys.change(key, |stream: &mut Stream, _| {
        let mut deed = Deed::default();
        stream.change_group(member.group, |group| {
            deed.made_consumer = group.add_consumer(member.consumer, now_ms);
            deed.last_before = group.last_id;
            if let Some(consumer) = group.consumer_mut(member.consumer) {
                consumer.seen_ms = now_ms;
            }
        });
        if after != StreamId::MAX {
            served.begin(reply, key);
            deed.served = true;
            reply_history(reply, stream, member, after, limit, now_ms);
        } else if stream
            .last_live_id()
            .is_some_and(|last| last > deed.last_before)
            && let Some(start) = deed.last_before.next()
        {
            served.begin(reply, key);
            deed.served = true;
            let entries = stream.range(start, StreamId::MAX);
            reply_entries(reply, entries.take(limit), |id| deed.delivered.push(id));
            stream.note_read(member.group, &deed.delivered);
            stream.change_group(member.group, |group| {
                if !member.noack {
                    group.deliver(member.consumer, &deed.delivered, now_ms);
                }
                deed.entries_read = group.entries_read;
            });
        }
        deed
    });
    if let Some((deed, _)) = done {
        tell(cx, key, member, &deed);
    }
}

/// What the consumer owes behind an ID, delivered once more. Entries that are gone come as an ID alone.
fn reply_history(
    reply: &mut Reply,
    stream: &mut Stream,
    member: Member<'_>,
    after: StreamId,
    limit: usize,
    now_ms: i64,
) {
    let array = reply.defer();
    let owed: Vec<StreamId> = match (after.next(), stream.group(member.group)) {
        (Some(start), Some(group)) => group
            .consumer(member.consumer)
            .map_or(Vec::new(), |c| c.pending_from(start).take(limit).collect()),
        _ => Vec::new(),
    };
    for &id in &owed {
        match stream.get(id) {
            Some(entry) => {
                reply_entry(reply, &entry);
                stream.change_group(member.group, |group| group.deliver_again(id, now_ms));
            }
            None => {
                reply.array(2);
                reply_id(reply, id);
                reply.null_array();
            }
        }
    }
    reply.close_array(array, owed.len());
}

/// Events, counts and the log after a read as a member of a group.
fn tell(cx: &mut Ctx<'_>, key: &[u8], member: Member<'_>, deed: &Deed) {
    let Member {
        group,
        consumer,
        noack,
    } = member;
    if deed.made_consumer {
        cx.keys.unit.dirty += 1;
        cx.event(NotifyFlags::STREAM, "xgroup-createconsumer", key);
        if noack {
            cx.log_instead(&[b"XGROUP", b"CREATECONSUMER", key, group, consumer]);
        }
    }
    cx.keys.unit.dirty += u64::from(deed.served);
    let Some(&last) = deed.delivered.last() else {
        return;
    };
    if noack {
        log_group_id(cx, key, group, last, deed.entries_read);
    } else if cx.keys.unit.wanted {
        let mut nack = Nack {
            id: last,
            consumer: crate::ds::cow::Shared::new(consumer.into()),
            delivered_ms: cx.now_ms() as i64,
            deliveries: 1,
        };
        for &id in &deed.delivered {
            nack.id = id;
            log_claim(cx, key, group, &id.text(), &nack, id);
        }
    }
}

/// Waits for any of the keys; the arguments that wait name a plain ID where `$` stood.
fn wait(request: &Request<'_>, deadline: Option<u64>, args: Args<'_>, after: &[StreamId]) -> Flow {
    let argv = args.argv();
    let keys = &argv[request.keys_at..request.keys_at + request.keys];
    let block = Block {
        keys: keys.iter().map(|&key| key.into()).collect(),
        waits_for: Type::Stream,
        deadline,
        on_timeout: OnTimeout::NullArray,
        wake_on_delete: request.member.is_some(),
    };
    let texts: Vec<_> = after.iter().map(|id| id.text()).collect();
    let ids_at = request.keys_at + request.keys;
    let plain: Vec<&[u8]> = argv
        .iter()
        .enumerate()
        .map(|(i, &arg)| match i.checked_sub(ids_at) {
            Some(i) if quoted(arg) == b"$" => &texts[i][..],
            _ => arg,
        })
        .collect();
    let again = OwnedArgs::from_parts(&plain, args.big());
    Flow::BlockAs(Box::new(block), Box::new(again))
}
