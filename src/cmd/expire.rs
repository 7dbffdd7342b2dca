//! Times to live: EXPIRE and its kin set them, TTL and its kin tell them, PERSIST takes them away.
//!
//! A key's time is kept as the moment at which it is over, in ms of Unix time. A moment that is already past deletes
//! the key at once. Logged is always the moment (`PEXPIREAT`), or the deletion.

use crate::base::number::parse_i64;
use crate::cmd::fault::{CmdResult, DONE, Fault, NOT_INTEGER, quoted};
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::string::invalid_expire_time;
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::config::NotifyFlags;

pub static ROWS: &[Row<DataFn>] = &[
    EXPIRE,
    PEXPIRE,
    EXPIREAT,
    PEXPIREAT,
    TTL,
    PTTL,
    EXPIRETIME,
    PEXPIRETIME,
    PERSIST,
];

const NX_AND_OTHERS: Fault =
    Fault::new("ERR NX and XX, GT or LT options at the same time are not compatible");
const GT_AND_LT: Fault = Fault::new("ERR GT and LT options at the same time are not compatible");

const UPDATED: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::UPDATE))];
const READ: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))];
const HISTORY: &[(&str, &str)] = &[("7.0.0", "The options `NX`, `XX`, `GT` and `LT`.")];
const CONDITION: Arg = Arg::one_of(
    "condition",
    &[
        Arg::word("nx", "NX"),
        Arg::word("xx", "XX"),
        Arg::word("gt", "GT"),
        Arg::word("lt", "LT"),
    ],
)
.since("7.0.0")
.optional();

/// How a time is given or told.
#[derive(Clone, Copy)]
struct Form {
    in_seconds: bool,
    /// From the start of Unix time on, not from now on.
    absolute: bool,
}

// --- Setting ---------------------------------------------------------------------------------------------------

/// When an EXPIRE may change what is there.
#[derive(Clone, Copy, Default)]
struct Condition {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Condition {
    fn parse(args: &mut Args<'_>) -> Result<Condition, Fault> {
        let mut c = Condition::default();
        while args.more() {
            let word = args.next()?;
            let options = [
                ("NX", &mut c.nx),
                ("XX", &mut c.xx),
                ("GT", &mut c.gt),
                ("LT", &mut c.lt),
            ];
            match options.into_iter().find(|(name, _)| is_word(word, name)) {
                Some((_, option)) => *option = true,
                None => {
                    return Err(Fault::text(
                        [b"ERR Unsupported option ", quoted(word)].concat(),
                    ));
                }
            }
        }
        match c {
            Condition {
                nx: true,
                xx,
                gt,
                lt,
            } if xx || gt || lt => Err(NX_AND_OTHERS),
            Condition {
                gt: true, lt: true, ..
            } => Err(GT_AND_LT),
            _ => Ok(c),
        }
    }

    /// May the end be set to `at_ms` where it is `current`? A key that stays counts as one that ends never.
    fn allows(self, at_ms: i64, current: Option<u64>) -> bool {
        match current.map(|ms| ms as i64) {
            None => !self.xx && !self.gt,
            Some(current) => {
                !self.nx && (!self.gt || at_ms > current) && (!self.lt || at_ms < current)
            }
        }
    }
}

const EXPIRE: Row<DataFn> = Spec::new("expire", -3, Group::Generic)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .since("1.0.0")
    .cost("O(1)")
    .about("Gives a key so many seconds to live.")
    .history(HISTORY)
    .keys(UPDATED)
    .args(&[Arg::key("key", 0), Arg::int("seconds"), CONDITION])
    .run(expire);

/// EXPIRE key seconds [NX | XX | GT | LT]
fn expire(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    expire_in(
        cx,
        args,
        Form {
            in_seconds: true,
            absolute: false,
        },
        "expire",
    )
}

const PEXPIRE: Row<DataFn> = Spec::new("pexpire", -3, Group::Generic)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .since("2.6.0")
    .cost("O(1)")
    .about("Gives a key so many milliseconds to live.")
    .history(HISTORY)
    .keys(UPDATED)
    .args(&[Arg::key("key", 0), Arg::int("milliseconds"), CONDITION])
    .run(pexpire);

/// PEXPIRE key milliseconds [NX | XX | GT | LT]
fn pexpire(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    expire_in(
        cx,
        args,
        Form {
            in_seconds: false,
            absolute: false,
        },
        "pexpire",
    )
}

const EXPIREAT: Row<DataFn> = Spec::new("expireat", -3, Group::Generic)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .since("1.2.0")
    .cost("O(1)")
    .about("Lets a key live until a moment given in seconds of Unix time.")
    .history(HISTORY)
    .keys(UPDATED)
    .args(&[
        Arg::key("key", 0),
        Arg::unix_time("unix-time-seconds"),
        CONDITION,
    ])
    .run(expireat);

/// EXPIREAT key unix-time-seconds [NX | XX | GT | LT]
fn expireat(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    expire_in(
        cx,
        args,
        Form {
            in_seconds: true,
            absolute: true,
        },
        "expireat",
    )
}

const PEXPIREAT: Row<DataFn> = Spec::new("pexpireat", -3, Group::Generic)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .since("2.6.0")
    .cost("O(1)")
    .about("Lets a key live until a moment given in milliseconds of Unix time.")
    .history(HISTORY)
    .keys(UPDATED)
    .args(&[
        Arg::key("key", 0),
        Arg::unix_time("unix-time-milliseconds"),
        CONDITION,
    ])
    .run(pexpireat);

/// PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]
fn pexpireat(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    expire_in(
        cx,
        args,
        Form {
            in_seconds: false,
            absolute: true,
        },
        "pexpireat",
    )
}

/// Sets the end of a key's time, or deletes the key if that is past; replies whether anything was done.
fn expire_in(cx: &mut Ctx<'_>, mut args: Args<'_>, form: Form, command: &str) -> CmdResult {
    let (key, amount) = args.two()?;
    let condition = Condition::parse(&mut args)?;
    let amount = parse_i64(amount).ok_or(NOT_INTEGER)?;
    let now_ms = cx.now_ms();
    let at_ms = moment(amount, form, now_ms as i64).ok_or_else(|| invalid_expire_time(command))?;
    let allowed = cx
        .keys
        .write(key)
        .is_some_and(|entry| condition.allows(at_ms, entry.expiry_ms()));
    if !allowed {
        cx.reply.int(0);
        return DONE;
    }
    // Not even a time before 1970 is none.
    let end_ms = u64::try_from(at_ms).unwrap_or(0);
    if cx.keys.ends_at_once(end_ms) {
        let lazily = cx.config().lazyfree_lazy_expire;
        cx.keys.remove_told(key, lazily);
        cx.event(NotifyFlags::GENERIC, "del", key);
        let name: &[u8] = if lazily { b"UNLINK" } else { b"DEL" };
        cx.log_instead(&[name, key]);
    } else {
        cx.keys.set_expiry(key, Some(end_ms));
        cx.event(NotifyFlags::GENERIC, "expire", key);
        if form.in_seconds || !form.absolute {
            let mut digits = itoa::Buffer::new();
            let mut argv = args.argv().to_vec();
            (argv[0], argv[2]) = (b"PEXPIREAT", digits.format(at_ms).as_bytes());
            cx.log_instead(&argv);
        }
    }
    cx.changed(key, 1);
    cx.reply.int(1);
    DONE
}

/// The moment in ms that a time means; `None` if it cannot be told in 64 bits. It may be negative.
fn moment(amount: i64, form: Form, now_ms: i64) -> Option<i64> {
    let ms = if form.in_seconds {
        amount.checked_mul(1000)?
    } else {
        amount
    };
    if form.absolute {
        Some(ms)
    } else {
        ms.checked_add(now_ms)
    }
}

const PERSIST: Row<DataFn> = Spec::new("persist", 2, Group::Generic)
    .flags(Flags::WRITE.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .since("2.2.0")
    .cost("O(1)")
    .about("Takes a key's time to live away, so that it stays.")
    .keys(UPDATED)
    .args(&[Arg::key("key", 0)])
    .run(persist);

/// PERSIST key: replies 1 if the key had a time to live.
fn persist(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let had_ttl = cx
        .keys
        .write(key)
        .is_some_and(|entry| entry.expiry_ms().is_some());
    if had_ttl {
        cx.keys.set_expiry(key, None);
        cx.changed(key, 1);
        cx.event(NotifyFlags::GENERIC, "persist", key);
    }
    cx.reply.int(i64::from(had_ttl));
    DONE
}

// --- Telling ---------------------------------------------------------------------------------------------------

const TTL: Row<DataFn> = Spec::new("ttl", 2, Group::Generic)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .since("1.0.0")
    .cost("O(1)")
    .about("Tells how many seconds a key has left.")
    .history(&[("2.8.0", "The reply -2.")])
    .tips(&["nondeterministic_output"])
    .keys(READ)
    .args(&[Arg::key("key", 0)])
    .run(ttl);

/// TTL key
fn ttl(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    tell(
        cx,
        args,
        Form {
            in_seconds: true,
            absolute: false,
        },
    )
}

const PTTL: Row<DataFn> = Spec::new("pttl", 2, Group::Generic)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .since("2.6.0")
    .cost("O(1)")
    .about("Tells how many milliseconds a key has left.")
    .history(&[("2.8.0", "The reply -2.")])
    .tips(&["nondeterministic_output"])
    .keys(READ)
    .args(&[Arg::key("key", 0)])
    .run(pttl);

/// PTTL key
fn pttl(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    tell(
        cx,
        args,
        Form {
            in_seconds: false,
            absolute: false,
        },
    )
}

const EXPIRETIME: Row<DataFn> = Spec::new("expiretime", 2, Group::Generic)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .since("7.0.0")
    .cost("O(1)")
    .about("Tells when a key's time is over, in seconds of Unix time.")
    .keys(READ)
    .args(&[Arg::key("key", 0)])
    .run(expiretime);

/// EXPIRETIME key
fn expiretime(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    tell(
        cx,
        args,
        Form {
            in_seconds: true,
            absolute: true,
        },
    )
}

const PEXPIRETIME: Row<DataFn> = Spec::new("pexpiretime", 2, Group::Generic)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .since("7.0.0")
    .cost("O(1)")
    .about("Tells when a key's time is over, in milliseconds of Unix time.")
    .keys(READ)
    .args(&[Arg::key("key", 0)])
    .run(pexpiretime);

/// PEXPIRETIME key
fn pexpiretime(cx: &mut Ctx<'_>, args: Args<'_>) -> CmdResult {
    tell(
        cx,
        args,
        Form {
            in_seconds: false,
            absolute: true,
        },
    )
}

/// Replies a key's time: -2 where there is no key, -1 where it stays. Seconds are rounded to the nearest.
fn tell(cx: &mut Ctx<'_>, mut args: Args<'_>, form: Form) -> CmdResult {
    let from = if form.absolute { 0 } else { cx.now_ms() };
    let time = match cx
        .keys
        .read_untouched(args.one()?)
        .map(|entry| entry.expiry_ms())
    {
        None => -2,
        Some(None) => -1,
        Some(Some(at_ms)) => {
            let ms = at_ms.saturating_sub(from);
            (if form.in_seconds {
                (ms + 500) / 1000
            } else {
                ms
            }) as i64
        }
    };
    cx.reply.int(time);
    DONE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_that_do_not_fit_are_refused() {
        let of = |amount, in_seconds, absolute| {
            moment(
                amount,
                Form {
                    in_seconds,
                    absolute,
                },
                1000,
            )
        };
        assert_eq!(of(2, true, false), Some(3000));
        assert_eq!(of(-2, true, true), Some(-2000));
        assert_eq!(
            of(i64::MAX / 1000, true, true),
            Some(i64::MAX / 1000 * 1000)
        );
        assert_eq!(of(i64::MAX / 1000 + 1, true, true), None);
        assert_eq!(of(i64::MIN / 1000 - 1, true, true), None);
        assert_eq!(of(i64::MAX - 1000, false, false), Some(i64::MAX));
        assert_eq!(of(i64::MAX - 999, false, false), None);
        assert_eq!(of(i64::MIN, false, false), Some(i64::MIN + 1000));
    }

    #[test]
    fn a_key_that_stays_ends_later_than_any() {
        let allows = |words: &[&[u8]], at_ms, current| {
            let argv = [&[&b"EXPIRE"[..]], words].concat();
            Condition::parse(&mut Args::new(&argv, &[])).map(|c| c.allows(at_ms, current))
        };
        assert_eq!(allows(&[b"gt"], 5, None), Ok(false));
        assert_eq!(allows(&[b"lt"], 5, None), Ok(true));
        assert_eq!(allows(&[b"LT", b"xx"], 5, None), Ok(false));
        assert_eq!(allows(&[b"GT"], 5, Some(5)), Ok(false));
        assert_eq!(allows(&[b"LT"], -5, Some(5)), Ok(true));
        assert_eq!(allows(&[b"NX"], 6, Some(5)), Ok(false));
        assert_eq!(allows(&[b"NX", b"LT"], 6, Some(5)), Err(NX_AND_OTHERS));
        assert_eq!(allows(&[b"XX", b"GT", b"LT"], 6, Some(5)), Err(GT_AND_LT));
    }
}
