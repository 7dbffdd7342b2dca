//! Storing strings and reading them back: SET and GET with all their kin.
//!
//! These are the commands that a cache consists of, so their path is short: one hash, one lookup, the value formatted
//! straight into the reply. A big value is neither copied in (it keeps the buffer that it was read into) nor out (the
//! reply shares its chunks).
//!
//! A time to live is logged as the moment it ends (`PXAT`), so that a log replayed tomorrow means the same moment.

use crate::base::number::parse_i64;
use crate::cmd::fault::{CmdResult, DONE, Fault, NOT_INTEGER, SYNTAX};
use crate::cmd::keys::Ttl;
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeyRef, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::config::NotifyFlags;
use crate::object::Str;
use crate::resp::reply::Reply;

pub static ROWS: &[Row<DataFn>] = &[
    GET, SET, SETNX, SETEX, PSETEX, GETSET, GETDEL, GETEX, MGET, MSET, MSETNX,
];

/// Replies a string as a bulk; a big one hands over its chunks.
#[inline]
pub fn reply_str(reply: &mut Reply, text: Str<'_>) {
    match text {
        Str::Int(int) => reply.bulk_int(int),
        Str::Text(text) => reply.bulk(text),
        Str::Big(big) => reply.bulk_chunks(big.len(), big.chunks(0..big.len())),
    }
}

/// `ERR invalid expire time in '<name>' command`.
pub fn invalid_expire_time(name: &str) -> Fault {
    Fault::text(format!("ERR invalid expire time in '{name}' command"))
}

// --- Options ---------------------------------------------------------------------------------------------------

/// How a time to live is given: in which unit, and from when it counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TimeForm {
    Ex,
    Px,
    ExAt,
    PxAt,
}

impl TimeForm {
    fn by_word(word: &[u8]) -> Option<TimeForm> {
        const WORDS: [(&str, TimeForm); 4] = [
            ("EX", TimeForm::Ex),
            ("PX", TimeForm::Px),
            ("EXAT", TimeForm::ExAt),
            ("PXAT", TimeForm::PxAt),
        ];
        WORDS
            .iter()
            .find(|(w, _)| is_word(word, w))
            .map(|(_, form)| *form)
    }

    fn is_absolute(self) -> bool {
        matches!(self, TimeForm::ExAt | TimeForm::PxAt)
    }

    /// Unix time in ms of what `text` says in this form. A time to live must be positive.
    fn deadline(self, text: &[u8], now_ms: u64, command: &str) -> Result<u64, Fault> {
        let amount = parse_i64(text).ok_or(NOT_INTEGER)?;
        let ms = match self {
            TimeForm::Ex | TimeForm::ExAt => amount.checked_mul(1000),
            TimeForm::Px | TimeForm::PxAt => Some(amount),
        };
        let from = if self.is_absolute() { 0 } else { now_ms as i64 };
        match ms.filter(|ms| *ms > 0).and_then(|ms| ms.checked_add(from)) {
            Some(at) => Ok(at as u64),
            None => Err(invalid_expire_time(command)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Condition {
    /// NX: only if the key is not there.
    Missing,
    /// XX: only if it is.
    There,
}

/// Options of SET and GETEX.
#[derive(Clone, Copy, Default)]
struct Options<'a> {
    time: Option<(TimeForm, &'a [u8])>,
    condition: Option<Condition>,
    get: bool,
    keep_ttl: bool,
    persist: bool,
}

impl<'a> Options<'a> {
    /// Reads the rest of SET's arguments (`for_set`) or GETEX's. Whatever excludes something given before is a syntax
    /// error; a word that is merely repeated is not.
    fn parse(args: &mut Args<'a>, for_set: bool) -> Result<Options<'a>, Fault> {
        let mut o = Options::default();
        while args.more() {
            let word = args.next()?;
            if for_set && is_word(word, "NX") && o.condition != Some(Condition::There) {
                o.condition = Some(Condition::Missing);
            } else if for_set && is_word(word, "XX") && o.condition != Some(Condition::Missing) {
                o.condition = Some(Condition::There);
            } else if for_set && is_word(word, "GET") {
                o.get = true;
            } else if for_set && is_word(word, "KEEPTTL") && o.time.is_none() {
                o.keep_ttl = true;
            } else if !for_set && is_word(word, "PERSIST") && o.time.is_none() {
                o.persist = true;
            } else if let Some(form) = TimeForm::by_word(word)
                && !o.keep_ttl
                && !o.persist
                && o.time.is_none_or(|(given, _)| given == form)
            {
                o.time = Some((form, args.next()?));
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(o)
    }
}

// --- Storing ---------------------------------------------------------------------------------------------------

/// Stores a string if the condition holds; true if it did. Events and log are told of it, a reply is the caller's.
fn store(
    cx: &mut Ctx<'_>,
    args: &Args<'_>,
    (key, text): (&[u8], &[u8]),
    condition: Option<Condition>,
    ttl: Ttl,
) -> Result<bool, Fault> {
    let stored = cx.keys.update(key, |old| {
        let holds = match condition {
            None => true,
            Some(Condition::Missing) => old.is_none(),
            Some(Condition::There) => old.is_some(),
        };
        Ok(holds.then(|| (args.value(text), ttl)))
    })?;
    if stored {
        cx.changed(key, 1);
        cx.event(NotifyFlags::STRING, "set", key);
        if let Ttl::At(_) = ttl {
            cx.event(NotifyFlags::GENERIC, "expire", key);
        }
    }
    Ok(stored)
}

/// Logs a SET with the moment at which the key's time is over.
fn log_with_deadline(cx: &mut Ctx<'_>, (key, text): (&[u8], &[u8]), at_ms: u64) {
    let mut digits = itoa::Buffer::new();
    let argv: [&[u8]; 5] = [b"SET", key, text, b"PXAT", digits.format(at_ms).as_bytes()];
    cx.log_instead(&argv);
}

const SET: Row<DataFn> = Spec::new("set", -3, Group::String)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::STRING)
    .since("1.0.0")
    .cost("O(1)")
    .about("Stores a string under a key, whatever the key held before.")
    .history(&[
        ("2.6.12", "The options `EX`, `PX`, `NX` and `XX`."),
        ("6.0.0", "The option `KEEPTTL`."),
        ("6.2.0", "The options `GET`, `EXAT` and `PXAT`."),
        ("7.0.0", "`NX` and `GET` may stand together."),
    ])
    .keys(&[KeySpec::at(1)
        .flags(
            KeyFlags::RW
                .or(KeyFlags::ACCESS)
                .or(KeyFlags::UPDATE)
                .or(KeyFlags::VARIABLE_FLAGS),
        )
        .notes("Reads the key only with `GET`; writes it in any case")])
    .args(&[
        Arg::key("key", 0),
        Arg::string("value"),
        Arg::one_of("condition", &[Arg::word("nx", "NX"), Arg::word("xx", "XX")])
            .since("2.6.12")
            .optional(),
        Arg::word("get", "GET").since("6.2.0").optional(),
        Arg::one_of(
            "expiration",
            &[
                Arg::int("seconds").token("EX").since("2.6.12"),
                Arg::int("milliseconds").token("PX").since("2.6.12"),
                Arg::unix_time("unix-time-seconds")
                    .token("EXAT")
                    .since("6.2.0"),
                Arg::unix_time("unix-time-milliseconds")
                    .token("PXAT")
                    .since("6.2.0"),
                Arg::word("keepttl", "KEEPTTL").since("6.0.0"),
            ],
        )
        .optional(),
    ])
    .find_keys(set_keys)
    .run(set);

/// SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]: stores a string.
fn set(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, text) = args.two()?;
    if !args.more() {
        store(cx, &args, (key, text), None, Ttl::Clear)?;
        cx.reply.ok();
        return DONE;
    }
    let o = Options::parse(&mut args, true)?;
    let ttl = match o.time {
        Some((form, amount)) => Ttl::At(form.deadline(amount, cx.now_ms(), "set")?),
        None if o.keep_ttl => Ttl::Keep,
        None => Ttl::Clear,
    };
    if o.get {
        match cx.keys.read_str(key)? {
            Some(old) => reply_str(cx.reply, old),
            None => cx.reply.null(),
        }
    }
    let stored = store(cx, &args, (key, text), o.condition, ttl)?;
    match stored {
        _ if o.get => {}
        true => cx.reply.ok(),
        false => cx.reply.null(),
    }
    if stored {
        log_set(cx, &args, &o, ttl);
    }
    DONE
}

/// How a SET with options is logged: with a deadline in place of a duration, and without GET, whose reply nobody reads.
fn log_set(cx: &mut Ctx<'_>, args: &Args<'_>, o: &Options<'_>, ttl: Ttl) {
    let argv = args.argv();
    match (ttl, o.time) {
        (Ttl::At(_), Some((TimeForm::PxAt, _))) => {}
        (Ttl::At(at_ms), _) => log_with_deadline(cx, (argv[1], argv[2]), at_ms),
        _ if o.get => {
            let (command, options) = argv.split_at(3);
            let kept = options.iter().filter(|word| !is_word(word, "GET"));
            let argv: Vec<&[u8]> = command.iter().chain(kept).copied().collect();
            cx.log_instead(&argv);
        }
        _ => {}
    }
}

/// SET reads its key only if GET stands among the options.
fn set_keys(args: &[&[u8]]) -> Option<Vec<KeyRef>> {
    let flags = if args.iter().skip(3).any(|word| is_word(word, "GET")) {
        KeyFlags::RW | KeyFlags::ACCESS | KeyFlags::UPDATE
    } else {
        KeyFlags::OW | KeyFlags::UPDATE
    };
    Some(vec![KeyRef { pos: 1, flags }])
}

const SETNX: Row<DataFn> = Spec::new("setnx", 3, Group::String)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::STRING)
    .since("1.0.0")
    .cost("O(1)")
    .about("Stores a string under a key that is not there yet.")
    .deprecated("2.6.12", "`SET` with the `NX` argument")
    .keys(&[KeySpec::at(1).flags(KeyFlags::OW.or(KeyFlags::INSERT))])
    .args(&[Arg::key("key", 0), Arg::string("value")])
    .run(setnx);

/// SETNX key value: stores a string unless the key is there.
fn setnx(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let pair = args.two()?;
    let stored = store(cx, &args, pair, Some(Condition::Missing), Ttl::Clear)?;
    cx.reply.int(i64::from(stored));
    DONE
}

const SETEX: Row<DataFn> = Spec::new("setex", 4, Group::String)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::STRING)
    .since("2.0.0")
    .cost("O(1)")
    .about("Stores a string under a key, to expire after some seconds.")
    .deprecated("2.6.12", "`SET` with the `EX` argument")
    .keys(&[KeySpec::at(1).flags(KeyFlags::OW.or(KeyFlags::UPDATE))])
    .args(&[
        Arg::key("key", 0),
        Arg::int("seconds"),
        Arg::string("value"),
    ])
    .run(setex);

/// SETEX key seconds value: stores a string for some time.
fn setex(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    set_for(cx, args, TimeForm::Ex, "setex")
}

const PSETEX: Row<DataFn> = Spec::new("psetex", 4, Group::String)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::STRING)
    .since("2.6.0")
    .cost("O(1)")
    .about("Stores a string under a key, to expire after some milliseconds.")
    .deprecated("2.6.12", "`SET` with the `PX` argument")
    .keys(&[KeySpec::at(1).flags(KeyFlags::OW.or(KeyFlags::UPDATE))])
    .args(&[
        Arg::key("key", 0),
        Arg::int("milliseconds"),
        Arg::string("value"),
    ])
    .run(psetex);

/// PSETEX key milliseconds value: stores a string for some time.
fn psetex(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    set_for(cx, args, TimeForm::Px, "psetex")
}

fn set_for(cx: &mut Ctx<'_>, mut args: Args<'_>, form: TimeForm, command: &str) -> CmdResult {
    let (key, amount) = args.two()?;
    let text = args.next()?;
    let at_ms = form.deadline(amount, cx.now_ms(), command)?;
    store(cx, &args, (key, text), None, Ttl::At(at_ms))?;
    log_with_deadline(cx, (key, text), at_ms);
    cx.reply.ok();
    DONE
}

// --- Reading ---------------------------------------------------------------------------------------------------

const GET: Row<DataFn> = Spec::new("get", 2, Group::String)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::STRING)
    .since("1.0.0")
    .cost("O(1)")
    .about("Replies the string stored under a key.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))])
    .args(&[Arg::key("key", 0)])
    .run(get);

/// GET key: replies the string.
fn get(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    match cx.keys.read_str(args.one()?)? {
        Some(text) => reply_str(cx.reply, text),
        None => cx.reply.null(),
    }
    DONE
}

const GETSET: Row<DataFn> = Spec::new("getset", 3, Group::String)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::STRING)
    .since("1.0.0")
    .cost("O(1)")
    .about("Stores a string under a key and replies what stood there before.")
    .deprecated("6.2.0", "`SET` with the `!GET` argument")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))])
    .args(&[Arg::key("key", 0), Arg::string("value")])
    .run(getset);

/// GETSET key value: replies the old string, stores the new one, drops the time to live.
fn getset(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (key, text) = args.two()?;
    match cx.keys.read_str(key)? {
        Some(old) => reply_str(cx.reply, old),
        None => cx.reply.null(),
    }
    store(cx, &args, (key, text), None, Ttl::Clear)?;
    cx.log_instead(&[b"SET", key, text]);
    DONE
}

const GETDEL: Row<DataFn> = Spec::new("getdel", 2, Group::String)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::STRING)
    .since("6.2.0")
    .cost("O(1)")
    .about("Replies the string stored under a key and deletes the key.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE))])
    .args(&[Arg::key("key", 0)])
    .run(getdel);

/// GETDEL key: replies the string and deletes the key.
fn getdel(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let Some(text) = cx.keys.read_str(key)? else {
        cx.reply.null();
        return DONE;
    };
    reply_str(cx.reply, text);
    cx.keys.remove(key);
    cx.changed(key, 1);
    cx.event(NotifyFlags::GENERIC, "del", key);
    cx.log_instead(&[b"DEL", key]);
    DONE
}

const GETEX: Row<DataFn> = Spec::new("getex", -2, Group::String)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::STRING)
    .since("6.2.0")
    .cost("O(1)")
    .about("Replies the string stored under a key and sets or clears the key's time to live.")
    .keys(&[KeySpec::at(1)
        .flags(KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))
        .notes("RW and UPDATE because the time to live is part of the key")])
    .args(&[
        Arg::key("key", 0),
        Arg::one_of(
            "expiration",
            &[
                Arg::int("seconds").token("EX"),
                Arg::int("milliseconds").token("PX"),
                Arg::unix_time("unix-time-seconds").token("EXAT"),
                Arg::unix_time("unix-time-milliseconds").token("PXAT"),
                Arg::word("persist", "PERSIST"),
            ],
        )
        .optional(),
    ])
    .run(getex);

/// GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]: replies the string, changes the time to live.
fn getex(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let o = Options::parse(&mut args, false)?;
    let now_ms = cx.now_ms();
    let Some(entry) = cx.keys.read(key) else {
        cx.reply.null();
        return DONE;
    };
    let text = entry.as_str()?;
    let had_ttl = entry.expiry_ms().is_some();
    let deadline = match o.time {
        Some((form, amount)) => Some((form, form.deadline(amount, now_ms, "getex")?)),
        None => None,
    };
    reply_str(cx.reply, text);
    match deadline {
        // Only an absolute time can lie in the past.
        Some((form, at_ms)) if form.is_absolute() && cx.keys.ends_at_once(at_ms) => {
            cx.keys.remove(key);
            cx.changed(key, 1);
            cx.event(NotifyFlags::GENERIC, "del", key);
            let name: &[u8] = if cx.config().lazyfree_lazy_expire {
                b"UNLINK"
            } else {
                b"DEL"
            };
            cx.log_instead(&[name, key]);
        }
        Some((_, at_ms)) => {
            cx.keys.set_expiry(key, Some(at_ms));
            cx.changed(key, 1);
            cx.event(NotifyFlags::GENERIC, "expire", key);
            cx.log_instead(&[
                b"PEXPIREAT",
                key,
                itoa::Buffer::new().format(at_ms).as_bytes(),
            ]);
        }
        None if o.persist && had_ttl => {
            cx.keys.set_expiry(key, None);
            cx.changed(key, 1);
            cx.event(NotifyFlags::GENERIC, "persist", key);
            cx.log_instead(&[b"PERSIST", key]);
        }
        None => {}
    }
    DONE
}

// --- Several keys ----------------------------------------------------------------------------------------------

const MGET: Row<DataFn> = Spec::new("mget", -2, Group::String)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::STRING)
    .since("1.0.0")
    .cost("O(N) with N the number of keys")
    .about("Replies the strings stored under several keys.")
    .tips(&["request_policy:multi_shard"])
    .keys(&[KeySpec::range(1, -1, 1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))])
    .args(&[Arg::key("key", 0).multiple()])
    .run(mget);

/// MGET key...: replies each string; a key that is missing or holds something else reads as null.
fn mget(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    cx.reply.array(args.left());
    for key in args.rest() {
        match cx.keys.read_str(key) {
            Ok(Some(text)) => reply_str(cx.reply, text),
            Ok(None) | Err(_) => cx.reply.null(),
        }
    }
    DONE
}

const MSET: Row<DataFn> = Spec::new("mset", -3, Group::String)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::STRING)
    .since("1.0.1")
    .cost("O(N) with N the number of keys")
    .about("Stores several strings under several keys at once.")
    .tips(&[
        "request_policy:multi_shard",
        "response_policy:all_succeeded",
    ])
    .keys(&[KeySpec::range(1, -1, 2).flags(KeyFlags::OW.or(KeyFlags::UPDATE))])
    .args(&[Arg::block("data", &[Arg::key("key", 0), Arg::string("value")]).multiple()])
    .run(mset);

/// MSET (key value)...: stores all of them.
fn mset(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    store_pairs(cx, &args, pairs(&args, "mset")?)?;
    cx.reply.ok();
    DONE
}

const MSETNX: Row<DataFn> = Spec::new("msetnx", -3, Group::String)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::STRING)
    .since("1.0.1")
    .cost("O(N) with N the number of keys")
    .about("Stores several strings under several keys at once, if none of the keys is there yet.")
    .keys(&[KeySpec::range(1, -1, 2).flags(KeyFlags::OW.or(KeyFlags::INSERT))])
    .args(&[Arg::block("data", &[Arg::key("key", 0), Arg::string("value")]).multiple()])
    .run(msetnx);

/// MSETNX (key value)...: stores all of them, or none if any of the keys is there.
fn msetnx(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    let pairs = pairs(&args, "msetnx")?;
    for pair in pairs {
        if cx.keys.write(pair[0]).is_some() {
            cx.reply.int(0);
            return DONE;
        }
    }
    store_pairs(cx, &args, pairs)?;
    cx.reply.int(1);
    DONE
}

/// The arguments as keys with their values.
fn pairs<'a>(args: &Args<'a>, command: &str) -> Result<&'a [[&'a [u8]; 2]], Fault> {
    match args.rest().as_chunks() {
        (pairs, []) => Ok(pairs),
        _ => Err(Fault::text(format!(
            "ERR wrong number of arguments for '{command}' command"
        ))),
    }
}

fn store_pairs(cx: &mut Ctx<'_>, args: &Args<'_>, pairs: &[[&[u8]; 2]]) -> Result<(), Fault> {
    for &[key, text] in pairs {
        store(cx, args, (key, text), None, Ttl::Clear)?;
    }
    Ok(())
}
