//! MIGRATE: the command. How keys travel is told in [`crate::exec::migrate`].

use crate::base::lzf::Compressor;
use crate::base::number;
use crate::cmd::fault::{Fault, Flow, NOT_INTEGER, SYNTAX};
use crate::cmd::session::Marks;
use crate::cmd::spec::{Acl, Arg, Begin, Find, Flags, Group, KeyFlags, KeyRef, KeySpec, Spec};
use crate::cmd::unit::Logging;
use crate::cmd::{Args, CmdResult, DONE, Row, is_word};
use crate::exec::io::Stage;
use crate::exec::migrate::{NO_DB, Order, broken_off, pack};
use crate::exec::{Call, ServerFn};
use crate::object::Entry;
use crate::rdb::Format;
use crate::resp::reply::Reply;

const NAMED_TWICE: Fault = Fault::new(
    "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
);
/// How long a step may take if the caller does not care.
const TIMEOUT_MS: u64 = 1000;
/// Where the options begin.
const OPTIONS_AT: usize = 6;

const GOES: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE);

const MIGRATE: Row<ServerFn> = Spec::new("migrate", -6, Group::Generic)
    .flags(Flags::WRITE)
    .acl(Acl::KEYSPACE.or(Acl::DANGEROUS))
    .since("2.6.0")
    .cost("That of DUMP and DEL here and of RESTORE there, and O(N) for N bytes that are sent.")
    .about("Moves keys to another server, each of which is at every moment in one of the two.")
    .history(&[
        ("3.0.0", "Takes COPY and REPLACE."),
        ("3.0.6", "Takes KEYS."),
        ("4.0.7", "Takes AUTH."),
        ("6.0.0", "Takes AUTH2."),
    ])
    .tips(&["nondeterministic_output"])
    .keys(&[
        KeySpec::at(3).flags(GOES),
        KeySpec::new(
            Begin::Keyword("KEYS", -2),
            Find::Range {
                last: -1,
                step: 1,
                limit: 0,
            },
        )
        .flags(GOES.or(KeyFlags::INCOMPLETE)),
    ])
    .args(&[
        Arg::string("host"),
        Arg::int("port"),
        Arg::one_of(
            "key-selector",
            &[Arg::key("key", 0), Arg::word("empty-string", "")],
        ),
        Arg::int("destination-db"),
        Arg::int("timeout"),
        Arg::word("copy", "COPY").since("3.0.0").optional(),
        Arg::word("replace", "REPLACE").since("3.0.0").optional(),
        Arg::one_of(
            "authentication",
            &[
                Arg::string("auth")
                    .token("AUTH")
                    .display("password")
                    .since("4.0.7"),
                Arg::block("auth2", &[Arg::string("username"), Arg::string("password")])
                    .token("AUTH2")
                    .since("6.0.0"),
            ],
        )
        .optional(),
        Arg::key("keys", 1)
            .token("KEYS")
            .display("key")
            .since("3.0.6")
            .optional()
            .multiple(),
    ])
    .find_keys(migrate_keys)
    .run(migrate);

/// The keys: the third argument, or all after KEYS if that is empty.
fn migrate_keys(args: &[&[u8]]) -> Option<Vec<KeyRef>> {
    let refs = |range: std::ops::Range<usize>| {
        Some(range.map(|pos| KeyRef { pos, flags: GOES }).collect())
    };
    let mut at = OPTIONS_AT;
    while let Some(word) = args.get(at) {
        if is_word(word, "KEYS") {
            return match args.get(3) {
                Some(&[]) => refs(at + 1..args.len()),
                // It will say that this is wrong.
                _ => refs(0..0),
            };
        }
        at += match () {
            () if is_word(word, "AUTH") => 2,
            () if is_word(word, "AUTH2") => 3,
            () => 1,
        };
    }
    refs(3..4)
}

/// What was asked for, which arguments are the keys, and which are secret.
struct Request {
    order: Order,
    keys: std::ops::Range<usize>,
    secret: Vec<usize>,
}

impl Request {
    fn parse(argv: &[&[u8]]) -> Result<Request, Fault> {
        let &[_, host, port, key, db, timeout, ..] = argv else {
            return Err(SYNTAX);
        };
        let mut order = Order {
            host: host.into(),
            port: port.into(),
            ..Order::default()
        };
        let (mut keys, mut secret) = (3..4, Vec::new());
        let mut at = OPTIONS_AT;
        while let Some(word) = argv.get(at) {
            let after = |n: usize| argv.get(at + n).map(|arg| arg.to_vec()).ok_or(SYNTAX);
            match () {
                () if is_word(word, "copy") => order.copy = true,
                () if is_word(word, "replace") => order.replace = true,
                () if is_word(word, "auth") => {
                    order.password = Some(after(1)?);
                    secret.push(at + 1);
                    at += 1;
                }
                () if is_word(word, "auth2") => {
                    order.password = Some(after(2)?);
                    order.user = Some(after(1)?);
                    secret.extend([at + 1, at + 2]);
                    at += 2;
                }
                () if is_word(word, "keys") => {
                    if !key.is_empty() {
                        return Err(NAMED_TWICE);
                    }
                    keys = at + 1..argv.len();
                    break;
                }
                () => return Err(SYNTAX),
            }
            at += 1;
        }
        let timeout_ms = number::parse_i64(timeout).ok_or(NOT_INTEGER)?;
        order.timeout_ms = match u64::try_from(timeout_ms) {
            Ok(0) | Err(_) => TIMEOUT_MS,
            Ok(ms) => ms,
        };
        order.db = number::parse_i64(db).ok_or(NOT_INTEGER)?;
        Ok(Request {
            order,
            keys,
            secret,
        })
    }
}

/// MIGRATE host port key|"" destination-db timeout [COPY] [REPLACE] [AUTH password | AUTH2 user password] [KEYS key ...]
fn migrate(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let request = Request::parse(argv);
    if let Ok(Request { secret, .. }) = &request {
        secret.iter().for_each(|&at| call.redact(at));
    }
    let Request {
        order,
        keys,
        secret,
    } = request?;
    let db = call.session().db;
    let mut here = call.server.keys(db);
    let keys: Vec<Entry> = argv[keys]
        .iter()
        .filter_map(|name| here.read(name).cloned())
        .collect();
    if keys.is_empty() {
        call.reply().status("NOKEY");
        return DONE;
    }
    if call.session().marks.has(Marks::DENY_BLOCKING) {
        return migrate_now(call, &order, keys);
    }
    let (token, command) = (call.token, call.command());
    call.server
        .begin_migration(token, command, &args, order, keys, secret);
    Ok(Flow::Parked)
}

/// The same while everybody waits: inside a transaction or a script.
fn migrate_now(call: &mut Call<'_>, order: &Order, keys: Vec<Entry>) -> CmdResult {
    let db = call.session().db;
    let format = Format::of(&call.server.config);
    let payloads = pack(&keys, format, &mut Compressor::new());
    let cargo: Vec<_> = keys.into_iter().zip(payloads).collect();
    let in_cluster = call.server.config.cluster_enabled;
    let target = order.target(call.server.config.tls_cluster);
    let now_ms = call.server.now.ms();
    let mut may_retry = true;
    let (talk, broken) = loop {
        let mut request = Reply::new();
        let mut talk = order.write(&cargo, NO_DB, in_cluster, now_ms, &mut request);
        let answer = call
            .io
            .exchange(&target, &request, talk.lines(), order.timeout_ms);
        let understood = answer.lines.iter().all(|line| talk.hear(line).is_ok());
        let broken = match answer.broken {
            Some(Stage::Connecting) => return Err(broken_off(Stage::Connecting)),
            None if !understood => Some(Stage::Reading),
            broken => broken,
        };
        let again = broken.is_some() && may_retry && !answer.timed_out && !talk.has_begun();
        if !again {
            break (talk, broken);
        }
        may_retry = false;
    };
    call.server.unit.logging = Logging::Rewritten;
    if !order.copy {
        let keys = cargo.into_iter().map(|(key, _)| key).collect();
        call.server.keys_arrived(db, keys, talk.taken());
    }
    talk.verdict(broken)?;
    call.reply().ok();
    DONE
}

pub static ROWS: &[Row<ServerFn>] = &[MIGRATE];
