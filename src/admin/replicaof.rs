//! Commands that change who follows whom: REPLICAOF, SLAVEOF, FAILOVER; and what a replica tells of its master.

use crate::base::number;
use crate::cmd::fault::{Fault, NOT_INTEGER, SYNTAX};
use crate::cmd::session::Marks;
use crate::cmd::spec::{Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Row, is_word};
use crate::exec::following::{Failover, FailoverStage};
use crate::exec::{Call, ServerFn};

const INVALID_PORT: Fault = Fault::new("ERR Invalid master port");

const FLAGS: Flags = Flags::NO_ASYNC_LOADING
    .or(Flags::ADMIN)
    .or(Flags::NOSCRIPT)
    .or(Flags::STALE);

const ARGS: &[Arg] = &[Arg::one_of(
    "args",
    &[
        Arg::block("host-port", &[Arg::string("host"), Arg::int("port")]),
        Arg::block("no-one", &[Arg::word("no", "NO"), Arg::word("one", "ONE")]),
    ],
)];

const REPLICAOF: Row<ServerFn> = Spec::new("replicaof", 3, Group::Server)
    .flags(FLAGS)
    .since("5.0.0")
    .cost("O(1)")
    .about("Follows a master, or is one.")
    .args(ARGS)
    .run(replicaof);

const SLAVEOF: Row<ServerFn> = Spec::new("slaveof", 3, Group::Server)
    .flags(FLAGS)
    .since("1.0.0")
    .cost("O(1)")
    .about("Follows a master, or is one.")
    .deprecated("5.0.0", "`REPLICAOF`")
    .args(ARGS)
    .run(replicaof);

/// REPLICAOF host port | NO ONE
fn replicaof(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    if call.server.config.cluster_enabled {
        return Err(Fault::new("ERR REPLICAOF not allowed in cluster mode."));
    }
    if call.server.repl.failover.is_some() {
        return Err(Fault::new("ERR REPLICAOF not allowed while failing over."));
    }
    let argv = args.argv();
    if is_word(argv[1], "no") && is_word(argv[2], "one") {
        if call.server.config.replicaof.is_some() {
            call.server.unset_master(call.io);
            let client = call.server.client_line_running(call.token, &args);
            log::info!("MASTER MODE enabled (user request from '{client}')");
        }
        call.reply().ok();
        return DONE;
    }
    if call.session().marks.has(Marks::REPLICA) {
        return Err(Fault::new(
            "ERR Command is not valid when client is a replica.",
        ));
    }
    let port = number::parse_i64(argv[2]).and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or(INVALID_PORT)?;
    let followed = call.server.config.replicaof.as_ref();
    if followed.is_some_and(|m| m.port == port && m.host.as_bytes().eq_ignore_ascii_case(argv[1])) {
        log::info!(
            "REPLICAOF would result into synchronization with the master we are already connected with. No operation performed."
        );
        call.reply()
            .status("OK Already connected to specified master");
        return DONE;
    }
    call.server.set_master(call.io, argv[1], port);
    let client = call.server.client_line_running(call.token, &args);
    log::info!(
        "REPLICAOF {}:{port} enabled (user request from '{client}')",
        String::from_utf8_lossy(argv[1])
    );
    call.reply().ok();
    DONE
}

const FAILOVER: Row<ServerFn> = Spec::new("failover", -1, Group::Server)
    .flags(Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::STALE))
    .since("6.2.0")
    .cost("O(1)")
    .about("Hands the role of master to a replica that has all data.")
    .args(&[
        Arg::block(
            "target",
            &[
                Arg::string("host"),
                Arg::int("port"),
                Arg::word("force", "FORCE").optional(),
            ],
        )
        .token("TO")
        .optional(),
        Arg::word("abort", "ABORT").optional(),
        Arg::int("milliseconds").token("TIMEOUT").optional(),
    ])
    .run(failover);

/// FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]
fn failover(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    if call.server.config.cluster_enabled {
        return Err(Fault::new(
            "ERR FAILOVER not allowed in cluster mode. Use CLUSTER FAILOVER command instead.",
        ));
    }
    let argv = args.argv();
    if argv.len() == 2 && is_word(argv[1], "abort") {
        if call.server.repl.failover.is_none() {
            return Err(Fault::new("ERR No failover in progress."));
        }
        call.server
            .abort_failover(call.io, "Failover manually aborted");
        call.reply().ok();
        return DONE;
    }
    let wish = Wish::parse(&argv[1..])?;
    check_failover(call, &wish)?;
    let now_ms = call.server.now.ms();
    let failover = Failover {
        stage: FailoverStage::WaitingForSync,
        target: wish.target(),
        until_ms: wish.timeout_ms.map(|ms| now_ms.saturating_add(ms)),
        force: wish.force,
    };
    call.server.begin_failover(failover);
    call.reply().ok();
    DONE
}

/// What FAILOVER was asked for.
#[derive(Default)]
struct Wish<'a> {
    timeout_ms: Option<u64>,
    force: bool,
    to: Option<(&'a [u8], i64)>,
}

impl<'a> Wish<'a> {
    fn parse(words: &[&'a [u8]]) -> Result<Wish<'a>, Fault> {
        let mut wish = Wish::default();
        let mut rest = words;
        while let Some((&word, after)) = rest.split_first() {
            rest = match after {
                [ms, after @ ..] if is_word(word, "timeout") && wish.timeout_ms.is_none() => {
                    let ms = number::parse_i64(ms).ok_or(NOT_INTEGER)?;
                    let ms = u64::try_from(ms).ok().filter(|&ms| ms > 0);
                    wish.timeout_ms =
                        Some(ms.ok_or(Fault::new("ERR FAILOVER timeout must be greater than 0"))?);
                    after
                }
                [host, port, after @ ..] if is_word(word, "to") && wish.to.is_none() => {
                    let port = number::parse_i64(port).ok_or(NOT_INTEGER)?;
                    wish.to = Some((host, port));
                    after
                }
                after if is_word(word, "force") && !wish.force => {
                    wish.force = true;
                    after
                }
                _ => return Err(SYNTAX),
            };
        }
        Ok(wish)
    }

    fn target(&self) -> Option<(String, u16)> {
        let (host, port) = self.to?;
        Some((
            String::from_utf8_lossy(host).into_owned(),
            u16::try_from(port).ok()?,
        ))
    }
}

/// May there be a failover, and one like this?
fn check_failover(call: &Call<'_>, wish: &Wish<'_>) -> Result<(), Fault> {
    let repl = &call.server.repl;
    if repl.failover.is_some() {
        return Err(Fault::new("ERR FAILOVER already in progress."));
    }
    if call.server.config.replicaof.is_some() {
        return Err(Fault::new(
            "ERR FAILOVER is not valid when server is a replica.",
        ));
    }
    if repl.master.replicas().is_empty() {
        return Err(Fault::new("ERR FAILOVER requires connected replicas."));
    }
    if wish.force && (wish.timeout_ms.is_none() || wish.to.is_none()) {
        return Err(Fault::new(
            "ERR FAILOVER with force option requires both a timeout and target HOST and IP.",
        ));
    }
    let Some((host, port)) = wish.to else {
        return Ok(());
    };
    let named = |r: &&crate::repl::master::Replica| {
        r.ip().as_bytes().eq_ignore_ascii_case(host) && r.said.port == port
    };
    let Some(replica) = repl.master.replicas().iter().find(named) else {
        return Err(Fault::new(
            "ERR FAILOVER target HOST and PORT is not a replica.",
        ));
    };
    if !replica.is_online() {
        return Err(Fault::new("ERR FAILOVER target replica is not online."));
    }
    Ok(())
}

/// ROLE, as a replica answers it.
pub fn role_of_replica(call: &mut Call<'_>) -> CmdResult {
    let server = &*call.server;
    let Some(master) = &server.config.replicaof else {
        return DONE;
    };
    let (host, port) = (master.host.clone(), master.port);
    let link = server.repl.following.as_ref().map(|f| &f.link);
    let state = link.map_or("connect", |link| link.state_name());
    let offset = link
        .filter(|link| link.is_online())
        .and_then(|link| link.place())
        .map_or(-1, |place| place.offset);
    let reply = call.reply();
    reply.array(5);
    reply.bulk(b"slave");
    reply.bulk(host.as_bytes());
    reply.int(i64::from(port));
    reply.bulk(state.as_bytes());
    reply.int(offset);
    DONE
}

pub static ROWS: &[Row<ServerFn>] = &[FAILOVER, REPLICAOF, SLAVEOF];
