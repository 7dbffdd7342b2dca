//! XPENDING tells what a group owes; XCLAIM and XAUTOCLAIM give it to another consumer, because the first may be dead.
//!
//! A claim of an entry that is gone drops it from what is pending. All of it is logged entry by entry.

use super::group::note_new_consumer;
use super::{
    interval_end, interval_start, log_claim, log_group_id, no_group, reply_entry, reply_id,
    strict_id,
};
use crate::base::number::parse_i64;
use crate::cmd::fault::{CmdResult, DONE, Fault, NOT_INTEGER, SYNTAX, quoted};
use crate::cmd::spec::{Acl, Arg, Flags, Group as CommandGroup, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::ds::stream::{Claim, Group, Nack, StreamId};
use crate::object::Stream;
use crate::resp::reply::Reply;

pub static ROWS: &[Row<DataFn>] = &[XPENDING, XCLAIM, XAUTOCLAIM];

// --- XPENDING --------------------------------------------------------------------------------------------------

const XPENDING: Row<DataFn> = Spec::new("xpending", -3, CommandGroup::Stream)
    .flags(Flags::READONLY)
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(N) in the entries replied, or with IDLE in those looked at; the summary is O(N) in the consumers.")
    .about("Tells which entries a group owes.")
    .history(&[("6.2.0", "The option `IDLE`, and exclusive bounds.")])
    .tips(&["nondeterministic_output"])
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))])
    .args(&[
        Arg::key("key", 0),
        Arg::string("group"),
        Arg::block(
            "filters",
            &[
                Arg::int("min-idle-time")
                    .token("IDLE")
                    .since("6.2.0")
                    .optional(),
                Arg::string("start"),
                Arg::string("end"),
                Arg::int("count"),
                Arg::string("consumer").optional(),
            ],
        )
        .optional(),
    ])
    .run(xpending);

/// Which pending entries XPENDING was asked for.
struct Filter<'a> {
    start: StreamId,
    end: StreamId,
    count: usize,
    min_idle_ms: i64,
    consumer: Option<&'a [u8]>,
}

impl<'a> Filter<'a> {
    fn parse(argv: &[&'a [u8]]) -> Result<Option<Self>, Fault> {
        if argv.len() == 3 {
            return Ok(None);
        }
        if !(6..=9).contains(&argv.len()) {
            return Err(SYNTAX);
        }
        let (mut at, mut min_idle_ms) = (3, 0);
        if is_word(argv[3], "IDLE") {
            min_idle_ms = parse_i64(argv[4]).ok_or(NOT_INTEGER)?;
            if argv.len() < 8 {
                return Err(SYNTAX);
            }
            at = 5;
        }
        let count = parse_i64(argv[at + 2]).ok_or(NOT_INTEGER)?;
        Ok(Some(Filter {
            start: interval_start(argv[at])?,
            end: interval_end(argv[at + 1])?,
            count: usize::try_from(count).unwrap_or(0),
            min_idle_ms,
            consumer: argv.get(at + 3).copied(),
        }))
    }
}

/// XPENDING key group [[IDLE ms] start end count [consumer]]
fn xpending(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let filter = Filter::parse(argv)?;
    let (key, name, now_ms) = (argv[1], argv[2], cx.now_ms() as i64);
    let stream = cx.keys.read_as::<Stream>(key)?;
    let group = stream.and_then(|stream| stream.group(name));
    let group = group.ok_or_else(|| no_group(key, name, ""))?;
    match filter {
        None => reply_summary(cx.reply, group),
        Some(filter) => reply_pending(cx.reply, group, &filter, now_ms),
    }
    DONE
}

fn reply_summary(reply: &mut Reply, group: &Group) {
    reply.array(4);
    reply.int(group.pending() as i64);
    let Some((first, last)) = group.pending_ends() else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    reply_id(reply, first);
    reply_id(reply, last);
    let owing = || group.consumers().filter(|c| c.pending() > 0);
    reply.array(owing().count());
    for consumer in owing() {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_int(consumer.pending() as i64);
    }
}

fn reply_pending(reply: &mut Reply, group: &Group, filter: &Filter<'_>, now_ms: i64) {
    let array = reply.defer();
    let mut n = 0;
    let mut reply_nack = |nack: &Nack| {
        reply.array(4);
        reply_id(reply, nack.id);
        reply.bulk(&nack.consumer);
        reply.int(now_ms.wrapping_sub(nack.delivered_ms).max(0));
        reply.int(nack.deliveries as i64);
        n += 1;
    };
    let wanted = |nack: &&Nack| {
        filter.min_idle_ms == 0 || now_ms.wrapping_sub(nack.delivered_ms) >= filter.min_idle_ms
    };
    match filter.consumer {
        None => group
            .pending_from(filter.start)
            .take_while(|nack| nack.id <= filter.end)
            .filter(wanted)
            .take(filter.count)
            .for_each(&mut reply_nack),
        Some(name) => group
            .consumer(name)
            .into_iter()
            .flat_map(|consumer| consumer.pending_from(filter.start))
            .take_while(|id| *id <= filter.end)
            .filter_map(|id| group.nack(id))
            .filter(wanted)
            .take(filter.count)
            .for_each(&mut reply_nack),
    }
    reply.close_array(array, n);
}

// --- Claiming --------------------------------------------------------------------------------------------------

/// What a claim did, to be logged and counted once the stream is no longer in hand.
#[derive(Default)]
struct Deed<'a> {
    made_consumer: bool,
    /// Records as they were logged, with the ID as it was written, if it was.
    logged: Vec<(Option<&'a [u8]>, Nack)>,
    last_id: StreamId,
    entries_read: Option<i64>,
    /// Somebody wants the log.
    wanted: bool,
    /// Changes to be counted.
    changes: u64,
}

impl<'a> Deed<'a> {
    fn note(&mut self, id: Option<&'a [u8]>, nack: Nack) {
        self.changes += 1;
        if self.wanted {
            self.logged.push((id, nack));
        }
    }
}

fn tell(cx: &mut Ctx<'_>, key: &[u8], group: &[u8], deed: &Deed<'_>) {
    if deed.made_consumer {
        note_new_consumer(cx, key);
    }
    cx.keys.unit.dirty += deed.changes;
    for (id, nack) in &deed.logged {
        let text = nack.id.text();
        log_claim(cx, key, group, id.unwrap_or(&text), nack, deed.last_id);
    }
    cx.log_nothing();
}

/// Makes the consumer who claims, if it is missing, and notes that it was seen; true if it was made.
fn seen(group: &mut Group, consumer: &[u8], now_ms: i64) -> bool {
    let made = group.add_consumer(consumer, now_ms);
    if let Some(consumer) = group.consumer_mut(consumer) {
        consumer.seen_ms = now_ms;
    }
    made
}

/// Replies an entry that was claimed.
fn reply_claimed(reply: &mut Reply, stream: &Stream, id: StreamId, just_id: bool) {
    match stream.get(id) {
        Some(entry) if !just_id => reply_entry(reply, &entry),
        _ => reply_id(reply, id),
    }
}

const XCLAIM: Row<DataFn> = Spec::new("xclaim", -6, CommandGroup::Stream)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(log N) for each ID, N the entries that the group owes.")
    .about("Makes entries that a group owes those of another consumer.")
    .tips(&["nondeterministic_output"])
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::UPDATE))])
    .args(&[
        Arg::key("key", 0),
        Arg::string("group"),
        Arg::string("consumer"),
        Arg::string("min-idle-time"),
        Arg::string("id").multiple(),
        Arg::int("ms").token("IDLE").optional(),
        Arg::unix_time("unix-time-milliseconds")
            .token("TIME")
            .optional(),
        Arg::int("count").token("RETRYCOUNT").optional(),
        Arg::word("force", "FORCE").optional(),
        Arg::word("justid", "JUSTID").optional(),
        Arg::string("lastid").token("LASTID").optional(),
    ])
    .run(xclaim);

/// The options of XCLAIM.
struct ClaimOptions {
    min_idle_ms: i64,
    ids: Vec<StreamId>,
    delivered_ms: i64,
    deliveries: Option<u64>,
    force: bool,
    just_id: bool,
    last_id: StreamId,
}

impl ClaimOptions {
    /// Reads what stands behind the consumer: the idle time, IDs as long as they are some, and words.
    fn parse(argv: &[&[u8]], now_ms: i64) -> Result<ClaimOptions, Fault> {
        let int = |arg: &[u8], what| {
            let fault = || Fault::text(format!("ERR Invalid {what} argument for XCLAIM"));
            parse_i64(arg).ok_or_else(fault)
        };
        let min_idle_ms = int(argv[4], "min-idle-time")?.max(0);
        let ids: Vec<_> = argv[5..]
            .iter()
            .map_while(|id| strict_id(id).ok())
            .collect();
        let mut args = Args::new(argv, &[]);
        args.skip(4 + ids.len());
        let mut options = ClaimOptions {
            min_idle_ms,
            ids,
            delivered_ms: now_ms,
            deliveries: None,
            force: false,
            just_id: false,
            last_id: StreamId::MIN,
        };
        while let Some(word) = args.peek() {
            args.skip(1);
            if is_word(word, "FORCE") {
                options.force = true;
            } else if is_word(word, "JUSTID") {
                options.just_id = true;
            } else if is_word(word, "IDLE") && args.more() {
                options.delivered_ms = now_ms.wrapping_sub(int(args.next()?, "IDLE option")?);
            } else if is_word(word, "TIME") && args.more() {
                options.delivered_ms = int(args.next()?, "TIME option")?;
            } else if is_word(word, "RETRYCOUNT") && args.more() {
                options.deliveries = u64::try_from(int(args.next()?, "RETRYCOUNT option")?).ok();
            } else if is_word(word, "LASTID") && args.more() {
                options.last_id = strict_id(args.next()?)?;
            } else {
                let parts = [b"ERR Unrecognized XCLAIM option '", quoted(word), b"'"];
                return Err(Fault::text(parts.concat()));
            }
        }
        // A clock may be wrong somewhere: a time that cannot be is taken as now.
        if !(0..=now_ms).contains(&options.delivered_ms) {
            options.delivered_ms = now_ms;
        }
        Ok(options)
    }
}

/// XCLAIM key group consumer min-idle-ms id [id ...] [IDLE ms] [TIME ms] [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID id]
fn xclaim(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let (key, name, consumer, now_ms) = (argv[1], argv[2], argv[3], cx.now_ms() as i64);
    let stream = cx.keys.read_as::<Stream>(key)?;
    if stream.and_then(|stream| stream.group(name)).is_none() {
        return Err(no_group(key, name, ""));
    }
    let options = ClaimOptions::parse(argv, now_ms)?;
    let mut deed = Deed {
        wanted: cx.keys.unit.wanted,
        ..Deed::default()
    };
    let reply = &mut *cx.reply;
    let mut moved = false;
    cx.keys.change(key, |stream: &mut Stream, _| {
        stream.change_group(name, |group| {
            moved = options.last_id > group.last_id;
            group.last_id = group.last_id.max(options.last_id);
            deed.made_consumer = seen(group, consumer, now_ms);
            (deed.last_id, deed.entries_read) = (group.last_id, group.entries_read);
        });
        let array = reply.defer();
        let mut n = 0;
        for (&id, written) in options.ids.iter().zip(&argv[5..]) {
            if !stream.contains(id) {
                let gone = stream.change_group(name, |group| group.acknowledge(id));
                if let Some(nack) = gone.flatten() {
                    deed.note(Some(written), nack);
                }
                continue;
            }
            let claimed = stream.change_group(name, |group| {
                claim_one(group, consumer, id, &options, now_ms)
            });
            if let Some(nack) = claimed.flatten() {
                reply_claimed(reply, stream, id, options.just_id);
                n += 1;
                deed.note(Some(written), nack);
            }
        }
        reply.close_array(array, n);
    });
    // An XCLAIM that is logged says how far the group has read.
    let log_id = moved && deed.changes == 0;
    deed.changes += u64::from(log_id);
    tell(cx, key, name, &deed);
    if log_id {
        log_group_id(cx, key, name, deed.last_id, deed.entries_read);
    }
    DONE
}

fn claim_one(
    group: &mut Group,
    consumer: &[u8],
    id: StreamId,
    options: &ClaimOptions,
    now_ms: i64,
) -> Option<Nack> {
    match group.nack(id) {
        Some(nack) if is_too_fresh(nack, options.min_idle_ms, now_ms) => return None,
        None if !options.force => return None,
        _ => {}
    }
    let claim = Claim {
        delivered_ms: options.delivered_ms,
        deliveries: options.deliveries,
        counts: !options.just_id,
    };
    group.claim(id, consumer, now_ms, claim)
}

fn is_too_fresh(nack: &Nack, min_idle_ms: i64, now_ms: i64) -> bool {
    min_idle_ms > 0 && now_ms.wrapping_sub(nack.delivered_ms) < min_idle_ms
}

const XAUTOCLAIM: Row<DataFn> = Spec::new("xautoclaim", -6, CommandGroup::Stream)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::STREAM)
    .since("6.2.0")
    .cost("O(1) if COUNT is small.")
    .about(
        "Makes entries that a group has owed for long those of another consumer, some at a time.",
    )
    .history(&[(
        "7.0.0",
        "The reply ends with the entries that are gone and so no longer owed.",
    )])
    .tips(&["nondeterministic_output"])
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::DELETE))])
    .args(&[
        Arg::key("key", 0),
        Arg::string("group"),
        Arg::string("consumer"),
        Arg::string("min-idle-time"),
        Arg::string("start"),
        Arg::int("count").token("COUNT").optional(),
        Arg::word("justid", "JUSTID").optional(),
    ])
    .run(xautoclaim);

const BAD_IDLE: Fault = Fault::new("ERR Invalid min-idle-time argument for XAUTOCLAIM");
const BAD_COUNT: Fault = Fault::new("ERR COUNT must be > 0");
const COUNT_TOO_HIGH: Fault =
    Fault::new("ERR Insufficient memory, failed allocating transient memory, COUNT too high.");
/// The largest count that is none of a mistake's, and the largest for which Redis could have room.
const COUNT_MAX: i64 = i64::MAX / 16;
const COUNT_WITH_ROOM: i64 = 1 << 42;
/// How many entries are looked at for each that is asked for.
const ATTEMPTS: u64 = 10;

/// The options of XAUTOCLAIM.
struct AutoClaim {
    min_idle_ms: i64,
    start: StreamId,
    count: u64,
    just_id: bool,
}

impl AutoClaim {
    fn parse(argv: &[&[u8]]) -> Result<AutoClaim, Fault> {
        let mut options = AutoClaim {
            min_idle_ms: parse_i64(argv[4]).ok_or(BAD_IDLE)?.max(0),
            start: interval_start(argv[5])?,
            count: 100,
            just_id: false,
        };
        let mut args = Args::new(argv, &[]);
        args.skip(5);
        while let Some(word) = args.peek() {
            args.skip(1);
            if is_word(word, "COUNT") && args.more() {
                let count = parse_i64(args.next()?).filter(|n| (1..=COUNT_MAX).contains(n));
                options.count = count.ok_or(BAD_COUNT)? as u64;
            } else if is_word(word, "JUSTID") {
                options.just_id = true;
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(options)
    }
}

/// XAUTOCLAIM key group consumer min-idle-ms start [COUNT count] [JUSTID]
///
/// Replies where the next call goes on, the entries claimed, and the IDs that are no longer pending because their entries
/// are gone.
fn xautoclaim(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let (key, name, consumer, now_ms) = (argv[1], argv[2], argv[3], cx.now_ms() as i64);
    // Looked up before its arguments are read, as the counts of hits and misses tell.
    let found = match cx.keys.read_as::<Stream>(key) {
        Ok(stream) => Ok(stream.and_then(|stream| stream.group(name)).is_some()),
        Err(fault) => Err(fault),
    };
    let options = AutoClaim::parse(argv)?;
    if !found? {
        return Err(no_group(key, name, ""));
    }
    if options.count as i64 > COUNT_WITH_ROOM {
        return Err(COUNT_TOO_HIGH);
    }
    let mut deed = Deed {
        wanted: cx.keys.unit.wanted,
        ..Deed::default()
    };
    let reply = &mut *cx.reply;
    cx.keys.change(key, |stream: &mut Stream, _| {
        stream.change_group(name, |group| {
            deed.made_consumer = seen(group, consumer, now_ms);
            deed.last_id = group.last_id;
        });
        auto_claim(reply, stream, (name, consumer), &options, now_ms, &mut deed);
    });
    tell(cx, key, name, &deed);
    DONE
}

fn auto_claim(
    reply: &mut Reply,
    stream: &mut Stream,
    (name, consumer): (&[u8], &[u8]),
    options: &AutoClaim,
    now_ms: i64,
    deed: &mut Deed<'_>,
) {
    reply.array(3);
    let cursor = reply.defer();
    let array = reply.defer();
    let (mut claimed, mut gone) = (0, Vec::new());
    let mut next = Some(options.start);
    let (mut attempts, mut count) = (options.count.saturating_mul(ATTEMPTS), options.count);
    while attempts > 0 && count > 0 {
        attempts -= 1;
        let first = next.and_then(|next| stream.group(name)?.pending_from(next).next());
        let Some(nack) = first else {
            next = None;
            break;
        };
        let (id, fresh) = (nack.id, is_too_fresh(nack, options.min_idle_ms, now_ms));
        next = id.next();
        if !stream.contains(id) {
            let nack = stream.change_group(name, |group| group.acknowledge(id));
            if let Some(nack) = nack.flatten() {
                deed.note(None, nack);
            }
            gone.push(id);
            count -= 1;
        } else if !fresh {
            let claim = Claim {
                delivered_ms: now_ms,
                deliveries: None,
                counts: !options.just_id,
            };
            let nack = stream.change_group(name, |group| group.claim(id, consumer, now_ms, claim));
            if let Some(nack) = nack.flatten() {
                deed.note(None, nack);
            }
            reply_claimed(reply, stream, id, options.just_id);
            claimed += 1;
            count -= 1;
        }
    }
    reply.close_array(array, claimed);
    let first = next.and_then(|next| stream.group(name)?.pending_from(next).next());
    let end = first.map_or(StreamId::MIN, |nack| nack.id).text();
    let header = [format!("${}\r\n", end.len()).as_bytes(), &end, b"\r\n"].concat();
    reply.close(cursor, &header);
    reply.array(gone.len());
    for id in gone {
        reply_id(reply, id);
    }
}
