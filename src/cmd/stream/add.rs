//! XADD, XTRIM, XDEL, XLEN, XSETID: what comes into a stream and what goes out.

use super::{node_limits, reply_id, strict_id};
use crate::base::number::parse_i64;
use crate::cmd::fault::{CmdResult, DONE, Fault, NO_SUCH_KEY, NOT_INTEGER, SYNTAX, quoted};
use crate::cmd::session::Marks;
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::config::NotifyFlags;
use crate::ds::stream::{NODE_BYTES_MAX, NewId, NodeLimits, StreamId, Trim, TrimTo};
use crate::object::Stream;

pub static ROWS: &[Row<DataFn>] = &[XADD, XTRIM, XDEL, XLEN, XSETID];

const ARITY: Fault = Fault::new("ERR wrong number of arguments for 'xadd' command");
const ZERO_ID: Fault = Fault::new("ERR The ID specified in XADD must be greater than 0-0");
const EXHAUSTED: Fault =
    Fault::new("ERR The stream has exhausted the last possible ID, unable to add more items");
const ID_TOO_SMALL: Fault =
    Fault::new("ERR The ID specified in XADD is equal or smaller than the target stream top item");
const TOO_LARGE: Fault = Fault::new("ERR Elements are too large to be stored");
const TWO_STRATEGIES: Fault =
    Fault::new("ERR syntax error, MAXLEN and MINID options at the same time are not compatible");
const NEGATIVE_MAXLEN: Fault = Fault::new("ERR The MAXLEN argument must be >= 0.");
const NEGATIVE_LIMIT: Fault = Fault::new("ERR The LIMIT argument must be >= 0.");
const LIMIT_ALONE: Fault =
    Fault::new("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy");
const NO_STRATEGY: Fault =
    Fault::new("ERR syntax error, XTRIM must be called with a trimming strategy");
const LIMIT_EXACT: Fault =
    Fault::new("ERR syntax error, LIMIT cannot be used without the special ~ option");

const TRIM_ARGS: &[Arg] = &[
    Arg::one_of(
        "strategy",
        &[
            Arg::word("maxlen", "MAXLEN"),
            Arg::word("minid", "MINID").since("6.2.0"),
        ],
    ),
    Arg::one_of(
        "operator",
        &[Arg::word("equal", "="), Arg::word("approximately", "~")],
    )
    .optional(),
    Arg::string("threshold"),
    Arg::int("count").token("LIMIT").since("6.2.0").optional(),
];

const XADD: Row<DataFn> = Spec::new("xadd", -5, Group::Stream)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(1), and O(N) in the entries that trimming removes.")
    .about("Appends an entry to a stream, which is made if it is missing.")
    .history(&[
        (
            "6.2.0",
            "The options `NOMKSTREAM` and `LIMIT`, and trimming by `MINID`.",
        ),
        ("7.0.0", "IDs of the form `<ms>-*`."),
    ])
    .tips(&["nondeterministic_output"])
    .keys(&[KeySpec::at(1)
        .flags(KeyFlags::RW.or(KeyFlags::UPDATE))
        .notes("UPDATE instead of INSERT because of the optional trimming feature")])
    .args(&[
        Arg::key("key", 0),
        Arg::word("nomkstream", "NOMKSTREAM")
            .since("6.2.0")
            .optional(),
        Arg::block("trim", TRIM_ARGS).optional(),
        Arg::one_of(
            "id-selector",
            &[Arg::word("auto-id", "*"), Arg::string("id")],
        ),
        Arg::block("data", &[Arg::string("field"), Arg::string("value")]).multiple(),
    ])
    .run(xadd);

/// How XADD or XTRIM trims, and where the threshold stands among the arguments.
struct Trimming {
    trim: Trim,
    threshold_at: usize,
}

/// The options of XADD and XTRIM.
struct Options {
    trimming: Option<Trimming>,
    no_mkstream: bool,
    /// The ID, for XADD, and where it stands; behind all arguments if it is missing.
    id: NewId,
    id_at: usize,
}

impl Options {
    fn parse(cx: &Ctx<'_>, argv: &[&[u8]], is_xadd: bool) -> Result<Options, Fault> {
        let mut options = Options {
            trimming: None,
            no_mkstream: false,
            id: NewId::Auto,
            id_at: argv.len(),
        };
        let mut limit = None;
        let mut i = 2;
        while let Some(&word) = argv.get(i) {
            let more = argv.len() - 1 - i;
            if is_xadd && quoted(word) == b"*" {
                options.id_at = i;
                break;
            } else if (is_word(word, "MAXLEN") || is_word(word, "MINID")) && more > 0 {
                if options.trimming.is_some() {
                    return Err(TWO_STRATEGIES);
                }
                let trimming = Trimming::parse(argv, i)?;
                i = trimming.threshold_at;
                options.trimming = Some(trimming);
            } else if is_word(word, "LIMIT") && more > 0 {
                i += 1;
                let n = parse_i64(argv[i]).ok_or(NOT_INTEGER)?;
                limit = Some(u64::try_from(n).map_err(|_| NEGATIVE_LIMIT)?);
            } else if is_xadd && is_word(word, "NOMKSTREAM") {
                options.no_mkstream = true;
            } else if is_xadd {
                options.id = NewId::parse(word).ok_or(super::INVALID_ID)?;
                options.id_at = i;
                break;
            } else {
                return Err(SYNTAX);
            }
            i += 1;
        }
        options.settle_limit(cx, limit, is_xadd)?;
        Ok(options)
    }

    /// Trimming by `~` is limited, also where nobody asked for it, so that it never takes long. Whom the server obeys
    /// is not limited: what comes from there was trimmed already.
    fn settle_limit(
        &mut self,
        cx: &Ctx<'_>,
        limit: Option<u64>,
        is_xadd: bool,
    ) -> Result<(), Fault> {
        let Some(Trimming { trim, .. }) = &mut self.trimming else {
            return match limit {
                Some(1..) => Err(LIMIT_ALONE),
                _ if !is_xadd => Err(NO_STRATEGY),
                Some(0) if !obeyed(cx) => Err(LIMIT_EXACT),
                _ => Ok(()),
            };
        };
        trim.limit = match limit {
            _ if obeyed(cx) => 0,
            Some(_) if !trim.approximate => return Err(LIMIT_EXACT),
            Some(n) => n,
            None if !trim.approximate => 0,
            None => match (cx.config().stream_node_max_entries as i64).wrapping_mul(100) {
                ..=0 => 10_000,
                n => n.min(1_000_000) as u64,
            },
        };
        Ok(())
    }
}

/// True for a session that is never refused: the master's, or the loading of a log.
fn obeyed(cx: &Ctx<'_>) -> bool {
    cx.session.marks.has(Marks::MASTER)
}

impl Trimming {
    /// Reads `MAXLEN | MINID [= | ~] threshold`, the word at `at`.
    fn parse(argv: &[&[u8]], at: usize) -> Result<Trimming, Fault> {
        let is_maxlen = is_word(argv[at], "MAXLEN");
        let operator = match argv[at + 1..] {
            [operator, _, ..] => quoted(operator),
            _ => b"",
        };
        let threshold_at = at + 1 + usize::from(matches!(operator, b"=" | b"~"));
        let threshold = argv[threshold_at];
        let to = if is_maxlen {
            let n = parse_i64(threshold).ok_or(NOT_INTEGER)?;
            TrimTo::MaxLen(u64::try_from(n).map_err(|_| NEGATIVE_MAXLEN)?)
        } else {
            TrimTo::MinId(strict_id(threshold)?)
        };
        Ok(Trimming {
            trim: Trim {
                to,
                approximate: operator == b"~",
                limit: 0,
            },
            threshold_at,
        })
    }
}

/// What trimming did.
struct Trimmed {
    deleted: u64,
    /// The cut-off nodes.
    removed: Stream,
    /// What the threshold of an exact trimming to the same end is, for one that was not exact.
    threshold: Vec<u8>,
}

fn trim_stream(stream: &mut Stream, trim: Trim) -> Trimmed {
    let (deleted, removed) = stream.trim(trim);
    let threshold = match trim.to {
        _ if !trim.approximate => Vec::new(),
        TrimTo::MaxLen(_) => stream.len().to_string().into_bytes(),
        TrimTo::MinId(_) => {
            let first = stream.first_place_id().unwrap_or(StreamId::MAX);
            first.text().to_vec()
        }
    };
    Trimmed {
        deleted,
        removed,
        threshold,
    }
}

/// XADD key [NOMKSTREAM] [MAXLEN | MINID [= | ~] threshold [LIMIT count]] * | id field value [field value ...]
fn xadd(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let options = Options::parse(cx, argv, true)?;
    let pairs = argv.get(options.id_at + 1..).unwrap_or_default();
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
        return Err(ARITY);
    }
    if options.id == NewId::Given(StreamId::MIN) {
        return Err(ZERO_ID);
    }
    let (key, now_ms, limits) = (argv[1], cx.now_ms(), node_limits(cx));
    if options.no_mkstream && cx.keys.write_as::<Stream>(key)?.is_none() {
        cx.reply.null();
        return DONE;
    }
    let trim = options.trimming.as_ref().map(|t| t.trim);
    let ((id, trimmed), _) =
        cx.keys
            .change_or_make(key, Stream::new, |stream: &mut Stream, _| {
                let id = add(stream, options.id, now_ms, pairs, limits);
                let trim = trim.filter(|_| id.is_ok());
                (id, trim.map(|trim| trim_stream(stream, trim)))
            })?;
    let id = id?;
    reply_id(cx.reply, id);
    cx.changed(key, 1);
    cx.event(NotifyFlags::STREAM, "xadd", key);
    if trimmed.as_ref().is_some_and(|t| t.deleted > 0) {
        cx.event(NotifyFlags::STREAM, "xtrim", key);
    }
    if cx.keys.unit.wanted {
        log_xadd(cx, &args, &options, id, trimmed.as_ref());
    }
    if let Some(trimmed) = trimmed {
        cx.keys.dispose(trimmed.removed);
    }
    if !cx.keys.waiting.is_empty() {
        cx.keys.signal_ready(cx.keys.index, key);
    }
    DONE
}

fn add(
    stream: &mut Stream,
    new: NewId,
    now_ms: u64,
    pairs: &[&[u8]],
    limits: NodeLimits,
) -> Result<StreamId, Fault> {
    if stream.last_id() == StreamId::MAX {
        return Err(EXHAUSTED);
    }
    let id = stream.next_id(new, now_ms).ok_or(ID_TOO_SMALL)?;
    let bytes: usize = pairs.iter().map(|text| text.len()).sum();
    if bytes > NODE_BYTES_MAX {
        return Err(TOO_LARGE);
    }
    stream.append(id, pairs, limits);
    Ok(id)
}

/// Logs an XADD with the ID that it chose, and with the trimming that it came to.
fn log_xadd(
    cx: &mut Ctx<'_>,
    args: &Args<'_>,
    options: &Options,
    id: StreamId,
    trimmed: Option<&Trimmed>,
) {
    let mut argv = args.argv().to_vec();
    let id = id.text();
    let mut rewritten = false;
    if !matches!(options.id, NewId::Given(_)) {
        argv[options.id_at] = &id;
        rewritten = true;
    }
    if let (Some(trimming), Some(trimmed)) = (&options.trimming, trimmed) {
        rewritten |= trimming.make_exact(&mut argv, trimmed);
    }
    if rewritten {
        cx.log_instead(&argv);
    }
}

impl Trimming {
    /// Makes the arguments ask for an exact trimming to what was left.
    fn make_exact<'a>(&self, argv: &mut [&'a [u8]], trimmed: &'a Trimmed) -> bool {
        if self.trim.approximate {
            argv[self.threshold_at - 1] = b"=";
            argv[self.threshold_at] = &trimmed.threshold;
        }
        self.trim.approximate
    }
}

const XTRIM: Row<DataFn> = Spec::new("xtrim", -4, Group::Stream)
    .flags(Flags::WRITE)
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(N) in the entries removed; whole nodes of entries go at once.")
    .about("Removes entries from the front of a stream.")
    .history(&[("6.2.0", "Trimming by `MINID`, and the option `LIMIT`.")])
    .tips(&["nondeterministic_output"])
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::DELETE))])
    .args(&[Arg::key("key", 0), Arg::block("trim", TRIM_ARGS)])
    .run(xtrim);

/// XTRIM key MAXLEN | MINID [= | ~] threshold [LIMIT count]
fn xtrim(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let options = Options::parse(cx, argv, false)?;
    let key = argv[1];
    let Some(trimming) = options.trimming else {
        return Err(NO_STRATEGY);
    };
    if cx.keys.write_as::<Stream>(key)?.is_none() {
        cx.reply.int(0);
        return DONE;
    }
    let done = cx.keys.change(key, |stream: &mut Stream, _| {
        trim_stream(stream, trimming.trim)
    });
    let Some((trimmed, _)) = done else {
        return Err(NO_SUCH_KEY);
    };
    if trimmed.deleted > 0 {
        cx.event(NotifyFlags::STREAM, "xtrim", key);
        if cx.keys.unit.wanted {
            let mut argv = argv.to_vec();
            if trimming.make_exact(&mut argv, &trimmed) {
                cx.log_instead(&argv);
            }
        }
        cx.changed(key, trimmed.deleted);
    }
    cx.reply.int(trimmed.deleted as i64);
    cx.keys.dispose(trimmed.removed);
    DONE
}

const XDEL: Row<DataFn> = Spec::new("xdel", -3, Group::Stream)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(1) for each entry, whatever the size of the stream.")
    .about("Deletes entries from a stream by ID.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::DELETE))])
    .args(&[Arg::key("key", 0), Arg::string("id").multiple()])
    .run(xdel);

/// XDEL key id [id ...]: replies how many there were.
fn xdel(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let key = argv[1];
    if cx.keys.write_as::<Stream>(key)?.is_none() {
        cx.reply.int(0);
        return DONE;
    }
    let ids: Vec<_> = argv[2..]
        .iter()
        .map(|id| strict_id(id))
        .collect::<Result<_, _>>()?;
    let done = cx
        .keys
        .change(key, |stream: &mut Stream, _| stream.delete(&ids));
    let deleted = done.map_or(0, |(deleted, _)| deleted);
    if deleted > 0 {
        cx.changed(key, deleted);
        cx.event(NotifyFlags::STREAM, "xdel", key);
    }
    cx.reply.int(deleted as i64);
    DONE
}

const XLEN: Row<DataFn> = Spec::new("xlen", 2, Group::Stream)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(1)")
    .about("Tells how many entries a stream has.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO)])
    .args(&[Arg::key("key", 0)])
    .run(xlen);

/// XLEN key
fn xlen(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let stream = cx.keys.read_as::<Stream>(args.one()?)?;
    cx.reply.int(stream.map_or(0, Stream::len) as i64);
    DONE
}

const XSETID: Row<DataFn> = Spec::new("xsetid", -3, Group::Stream)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::STREAM)
    .since("5.0.0")
    .cost("O(1)")
    .about("Sets what a stream remembers of its past; meant for replication.")
    .history(&[(
        "7.0.0",
        "The arguments `entries_added` and `max_deleted_entry_id`.",
    )])
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::UPDATE))])
    .args(&[
        Arg::key("key", 0),
        Arg::string("last-id"),
        Arg::int("entries-added")
            .token("ENTRIESADDED")
            .since("7.0.0")
            .optional(),
        Arg::string("max-deleted-id")
            .token("MAXDELETEDID")
            .since("7.0.0")
            .optional(),
    ])
    .run(xsetid);

const ADDED_NEGATIVE: Fault = Fault::new("ERR entries_added must be positive");
const BELOW_GIVEN: Fault =
    Fault::new("ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id");
const BELOW_DELETED: Fault =
    Fault::new("ERR The ID specified in XSETID is smaller than current max_deleted_entry_id");
const BELOW_TOP: Fault =
    Fault::new("ERR The ID specified in XSETID is smaller than the target stream top item");
const ADDED_BELOW_LENGTH: Fault = Fault::new(
    "ERR The entries_added specified in XSETID is smaller than the target stream length",
);

/// XSETID key last-id [ENTRIESADDED count] [MAXDELETEDID id]
fn xsetid(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, id) = args.two()?;
    let id = strict_id(id)?;
    let (mut added, mut max_deleted) = (None, StreamId::MIN);
    while let Some(word) = args.peek() {
        args.skip(1);
        if is_word(word, "ENTRIESADDED") && args.more() {
            added = Some(u64::try_from(args.next_i64()?).map_err(|_| ADDED_NEGATIVE)?);
        } else if is_word(word, "MAXDELETEDID") && args.more() {
            max_deleted = strict_id(args.next()?)?;
            if id < max_deleted {
                return Err(BELOW_GIVEN);
            }
        } else {
            return Err(SYNTAX);
        }
    }
    let stream = cx.keys.write_as::<Stream>(key)?.ok_or(NO_SUCH_KEY)?;
    if id < stream.max_deleted_id() {
        return Err(BELOW_DELETED);
    }
    if !stream.is_empty() {
        if stream.last_live_id().is_some_and(|top| id < top) {
            return Err(BELOW_TOP);
        }
        if added.is_some_and(|added| added < stream.len()) {
            return Err(ADDED_BELOW_LENGTH);
        }
    }
    let max_deleted = (!max_deleted.is_zero()).then_some(max_deleted);
    cx.keys.change(key, |stream: &mut Stream, _| {
        stream.set_ids(id, added, max_deleted);
    });
    cx.reply.ok();
    // Nobody who watches the key is told.
    cx.keys.unit.dirty += 1;
    cx.event(NotifyFlags::STREAM, "xsetid", key);
    DONE
}
