//! Walking the keys: KEYS all at once, SCAN a few at a time. HSCAN, SSCAN and ZSCAN, which walk what one key holds, share
//! with SCAN how arguments are read ([`key_and_cursor`], [`ScanOptions`]) and how the reply is made ([`reply_walk`]).
//!
//! All only read: a key whose time is over is left out. SCAN deletes those that it met, once the walk is done with them.

use bytes::Bytes;

use crate::base::glob;
use crate::cmd::fault::{CmdResult, DONE, Fault, NOT_INTEGER, SYNTAX};
use crate::cmd::spec::{Acl, Arg, Flags, Group, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row};
pub use crate::db::scan::ScanOptions;
use crate::db::scan::{ScanError, parse_cursor};
use crate::resp::reply::Reply;

pub static ROWS: &[Row<DataFn>] = &[KEYS, SCAN];

impl From<ScanError> for Fault {
    fn from(error: ScanError) -> Fault {
        match error {
            ScanError::Cursor => Fault::new("ERR invalid cursor"),
            ScanError::Count => NOT_INTEGER,
            ScanError::Syntax => SYNTAX,
        }
    }
}

const KEYS: Row<DataFn> = Spec::new("keys", 2, Group::Generic)
    .flags(Flags::READONLY)
    .acl(Acl::KEYSPACE.or(Acl::DANGEROUS))
    .since("1.0.0")
    .cost(
        "O(N) with N the number of keys in the database, names and pattern being of limited length",
    )
    .about("Replies the names of all keys that match a pattern.")
    .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
    .args(&[Arg::pattern("pattern")])
    .run(keys);

/// KEYS pattern: replies the names that match.
fn keys(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let pattern = args.one()?;
    let now_ms = cx.now_ms();
    let deferred = cx.reply.defer();
    let mut count = 0;
    let filter = Filter::new(pattern);
    for entry in cx.keys.db().iter() {
        if filter.takes(entry.key()) && !entry.is_expired(now_ms) {
            cx.reply.bulk(entry.key());
            count += 1;
        }
    }
    cx.reply.close_array(deferred, count);
    DONE
}

/// A pattern; the one that takes everything costs nothing (and takes even the empty name, which no pattern matches).
enum Filter<'a> {
    All,
    Pattern(&'a [u8]),
}

impl<'a> Filter<'a> {
    fn new(pattern: &'a [u8]) -> Filter<'a> {
        if pattern == b"*" {
            Filter::All
        } else {
            Filter::Pattern(pattern)
        }
    }

    fn takes(&self, name: &[u8]) -> bool {
        match self {
            Filter::All => true,
            Filter::Pattern(pattern) => glob::matches(pattern, name),
        }
    }
}

/// The key and the cursor of HSCAN and its kin: the cursor is judged before the key is looked up, the options after it.
pub fn key_and_cursor<'a>(args: &mut Args<'a>) -> Result<(&'a [u8], u64), Fault> {
    let (key, cursor) = args.two()?;
    Ok((key, parse_cursor(cursor)?))
}

/// Replies a cursor to go on with and an array: `walk` writes its elements, and gives the cursor and how many they are.
pub fn reply_walk(reply: &mut Reply, walk: impl FnOnce(&mut Reply) -> (u64, usize)) {
    reply.array(2);
    let deferred = reply.defer();
    let (next, count) = walk(reply);
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(next);
    reply.close(
        deferred,
        format!("${}\r\n{digits}\r\n*{count}\r\n", digits.len()).as_bytes(),
    );
}

/// The reply of a walk over a key that is not there.
pub fn reply_no_walk(reply: &mut Reply) {
    reply_walk(reply, |_| (0, 0));
}

const SCAN: Row<DataFn> = Spec::new("scan", -2, Group::Generic)
    .flags(Flags::READONLY.or(Flags::TOUCHES_ARBITRARY_KEYS))
    .acl(Acl::KEYSPACE)
    .since("2.8.0")
    .cost("O(1) a call, O(N) for the walk over all N keys")
    .about("Replies the names of some keys, and a cursor to go on with.")
    .history(&[("6.0.0", "The option `TYPE`.")])
    .tips(&[
        "nondeterministic_output",
        "request_policy:special",
        "response_policy:special",
    ])
    .args(&[
        Arg::int("cursor"),
        Arg::pattern("pattern").token("MATCH").optional(),
        Arg::int("count").token("COUNT").optional(),
        Arg::string("type").token("TYPE").since("6.0.0").optional(),
    ])
    .run(scan);

/// SCAN cursor [MATCH pattern] [COUNT n] [TYPE type]: replies a cursor to go on with and some names.
fn scan(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let cursor = parse_cursor(args.one()?)?;
    let options = ScanOptions::parse(args.rest(), true)?;
    let now_ms = cx.now_ms();
    let mut looked_up = 0;
    let mut expired = Vec::new();
    let db = cx.keys.db();
    reply_walk(cx.reply, |reply| {
        let mut count = 0;
        let next = db.scan(cursor, options.count, |entry| {
            if !options.wants_name(entry.key()) {
                return;
            }
            if entry.is_expired(now_ms) {
                expired.push(Bytes::copy_from_slice(entry.key()));
                return;
            }
            looked_up += 1;
            if options.wants_type(entry.type_of()) {
                reply.bulk(entry.key());
                count += 1;
            }
        });
        (next, count)
    });
    // The filter by type is a lookup, and counts as one.
    if options.has_type() {
        cx.keys.stats.hits += looked_up;
        cx.keys.stats.misses += expired.len() as u64;
    }
    for key in &expired {
        cx.keys.peek(key);
    }
    DONE
}
