//! Commands of replication, as a master hears them: PSYNC, SYNC, REPLCONF, ROLE, WAIT, WAITAOF.

use crate::admin::replicaof::role_of_replica;
use crate::admin::sentinel;
use crate::base::number;
use crate::base::quoted::split_args;
use crate::cmd::fault::{Fault, Flow, NOT_INTEGER, SYNTAX, quoted};
use crate::cmd::session::Marks;
use crate::cmd::spec::{Acl, Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Row, is_word};
use crate::exec::acks::{Acks, NO_LOG};
use crate::exec::server::Server;
use crate::exec::{Call, ServerFn};
use crate::repl::master::{Parts, Request};

const PENDING_OUTPUT: Fault = Fault::new("ERR SYNC and PSYNC are invalid with pending output");
const NEEDS_EOF: Fault = Fault::new("ERR Filtered replica requires EOF capability");
const NOT_A_REPLICA: Fault = Fault::new("ERR PSYNC FAILOVER can't be sent to a master.");
const OTHER_STREAM: Fault = Fault::new("ERR PSYNC FAILOVER replid must match my replid.");
const FAILING_OVER: Fault = Fault::new("NOMASTERLINK Can't SYNC while failing over");
const NO_MASTER_LINK: Fault =
    Fault::new("NOMASTERLINK Can't SYNC while not connected with my master");
const WAIT_ON_REPLICA: Fault = Fault::new(
    "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not propagated.",
);
const WAITAOF_ON_REPLICA: Fault = Fault::new(
    "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated.",
);
const TIMEOUT_NUMBER: Fault = Fault::new("ERR timeout is not an integer or out of range");
const TIMEOUT_NEGATIVE: Fault = Fault::new("ERR timeout is negative");
const TIMEOUT_RANGE: Fault = Fault::new("ERR timeout is out of range");
const ZERO_OR_ONE: Fault = Fault::new("ERR value is out of range, value must between 0 and 1");
const NOT_POSITIVE: Fault = Fault::new("ERR value is out of range, must be positive");
/// An address a replica announces is shorter than this.
const ADDRESS_MAX: usize = 256;

const SYNC_FLAGS: Flags = Flags::NO_ASYNC_LOADING
    .or(Flags::ADMIN)
    .or(Flags::NO_MULTI)
    .or(Flags::NOSCRIPT);

const PSYNC: Row<ServerFn> = Spec::new("psync", -3, Group::Server)
    .flags(SYNC_FLAGS)
    .since("2.8.0")
    .about("Makes the connection a replica's, which goes on where it was if it can.")
    .args(&[Arg::string("replicationid"), Arg::int("offset")])
    .run(psync);

/// PSYNC id offset
fn psync(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    if is_replica(call) {
        return DONE;
    }
    let argv = args.argv();
    if argv.get(3).is_some_and(|word| is_word(word, "failover")) {
        log::info!(
            "Failover request received for replid {}.",
            String::from_utf8_lossy(argv[1])
        );
        take_over(call, &args)?;
    }
    greet(call)?;
    let Some(from) = number::parse_i64(argv[2]) else {
        log::warn!(
            "Replica {} asks for synchronization but with a wrong offset",
            name(call)
        );
        return Err(NOT_INTEGER);
    };
    let request = Request::Psync { id: argv[1], from };
    call.server.follow(call.io, call.token, request);
    DONE
}

const SYNC: Row<ServerFn> = Spec::new("sync", 1, Group::Server)
    .flags(SYNC_FLAGS)
    .about("Makes the connection a replica's, in the old way.")
    .run(sync);

fn sync(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    if is_replica(call) {
        return DONE;
    }
    greet(call)?;
    call.server.follow(call.io, call.token, Request::Sync);
    DONE
}

/// One that follows already, or a monitor, which is a replica of a kind.
fn is_replica(call: &mut Call<'_>) -> bool {
    call.session().marks.has(Marks::REPLICA | Marks::MONITOR)
}

/// The name of the caller in the log.
fn name(call: &mut Call<'_>) -> String {
    let ip = call.conn().peer.ip().to_string();
    call.server.repl.master.name_of(call.token, &ip)
}

/// PSYNC ... FAILOVER: our master asks us to take its role over.
fn take_over(call: &mut Call<'_>, args: &Args<'_>) -> Result<(), Fault> {
    let server = &mut *call.server;
    if server.config.replicaof.is_none() {
        return Err(NOT_A_REPLICA);
    }
    let own_id = server.repl.history.id().as_bytes();
    if !args.argv()[1].eq_ignore_ascii_case(own_id) {
        return Err(OTHER_STREAM);
    }
    server.unset_master(call.io);
    let client = server.client_line_running(call.token, args);
    log::info!("MASTER MODE enabled (failover request from '{client}')");
    Ok(())
}

/// May the caller follow at all?
fn greet(call: &mut Call<'_>) -> Result<(), Fault> {
    if call.server.repl.failover.is_some() {
        return Err(FAILING_OVER);
    }
    if call.server.config.replicaof.is_some() && !call.server.link_is_up() {
        return Err(NO_MASTER_LINK);
    }
    if !call.reply().is_empty() {
        return Err(PENDING_OUTPUT);
    }
    let said = call.server.repl.master.announced(call.token);
    if said.parts.are_some() && !said.eof {
        return Err(NEEDS_EOF);
    }
    log::info!("Replica {} asks for synchronization", name(call));
    Ok(())
}

const REPLCONF: Row<ServerFn> = Spec::new("replconf", -1, Group::Server)
    .flags(
        Flags::ADMIN
            .or(Flags::NOSCRIPT)
            .or(Flags::LOADING)
            .or(Flags::STALE)
            .or(Flags::ALLOW_BUSY),
    )
    .since("3.0.0")
    .about("Passes facts between a master and its replicas.")
    .syscmd()
    .run(replconf);

/// REPLCONF option value [option value ...]
fn replconf(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    if argv.len().is_multiple_of(2) {
        return Err(SYNTAX);
    }
    for pair in argv[1..].chunks_exact(2) {
        let (option, value) = (pair[0], pair[1]);
        if is_word(option, "ack") {
            acked(call, &argv[1..]);
            return DONE;
        }
        if is_word(option, "getack") {
            // For a replica, from its master.
            call.server.send_ack();
            return DONE;
        }
        announce(call, option, value)?;
    }
    call.reply().ok();
    DONE
}

fn announce(call: &mut Call<'_>, option: &[u8], value: &[u8]) -> Result<(), Fault> {
    let said = call.server.repl.master.announced(call.token);
    match option {
        o if is_word(o, "listening-port") => {
            said.port = number::parse_i64(value).ok_or(NOT_INTEGER)?;
        }
        o if is_word(o, "ip-address") && value.len() < ADDRESS_MAX => {
            said.ip = Some(String::from_utf8_lossy(value).into_owned());
        }
        o if is_word(o, "ip-address") => {
            return Err(Fault::text(format!(
                "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
                value.len()
            )));
        }
        o if is_word(o, "capa") => {
            said.eof |= is_word(value, "eof");
            said.psync2 |= is_word(value, "psync2");
        }
        o if is_word(o, "rdb-only") => {
            said.rdb_only = match number::parse_i64(value).ok_or(NOT_INTEGER)? {
                0 => false,
                1 => true,
                _ => return Err(ZERO_OR_ONE),
            };
        }
        o if is_word(o, "rdb-filter-only") => said.parts = filter(value)?,
        o => {
            let what = b"ERR Unrecognized REPLCONF option: ";
            return Err(Fault::text([what, quoted(o)].concat()));
        }
    }
    Ok(())
}

/// The parts of a snapshot that a list of words names; all others are left out.
fn filter(words: &[u8]) -> Result<Parts, Fault> {
    let words = split_args(words).map_err(|_| Fault::new("ERR Missing rdb-filter-only values"))?;
    let mut parts = Parts {
        data: false,
        functions: false,
    };
    for word in words {
        if !is_word(&word, "functions") {
            let what = b"ERR Unsupported rdb-filter-only option: ";
            return Err(Fault::text([what, &word[..]].concat()));
        }
        parts.functions = true;
    }
    Ok(parts)
}

/// REPLCONF ACK offset [FACK offset]: never answered.
fn acked(call: &mut Call<'_>, words: &[&[u8]]) {
    let at = words.iter().position(|w| is_word(w, "ack")).unwrap_or(0);
    let offset = |at: usize| words.get(at).and_then(|w| number::parse_i64(w));
    let Some(acked) = offset(at + 1) else {
        return;
    };
    let aof = words
        .get(at + 2)
        .filter(|w| is_word(w, "fack"))
        .and_then(|_| offset(at + 3));
    // It may be the first word of one that has all since a moment ago.
    call.server.feed_transfer();
    let now_s = call.server.now.s();
    call.server.repl.master.acked(call.token, acked, aof, now_s);
}

const ROLE: Row<ServerFn> = Spec::new("role", 1, Group::Server)
    .flags(
        Flags::NOSCRIPT
            .or(Flags::LOADING)
            .or(Flags::STALE)
            .or(Flags::FAST)
            .or(Flags::SENTINEL_HAS),
    )
    .acl(Acl::ADMIN.or(Acl::DANGEROUS))
    .since("2.8.12")
    .cost("O(1)")
    .about("Tells the role in replication, and who follows or is followed.")
    .run(role);

fn role(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    if call.server.sentinel.is_some() {
        return sentinel::role(call);
    }
    if call.server.config.replicaof.is_some() {
        return role_of_replica(call);
    }
    let repl = &call.server.repl;
    let offset = repl.history.offset();
    let online: Vec<_> = repl
        .master
        .replicas()
        .iter()
        .filter(|r| r.is_online())
        .map(|r| (r.ip().to_string(), r.said.port, r.acked))
        .collect();
    let reply = call.reply();
    reply.array(3);
    reply.bulk(b"master");
    reply.int(offset);
    reply.array(online.len());
    for (ip, port, acked) in online {
        reply.array(3);
        reply.bulk(ip.as_bytes());
        reply.bulk_int(port);
        reply.bulk_int(acked);
    }
    DONE
}

const WAIT_TIPS: &[&str] = &["request_policy:all_shards", "response_policy:agg_min"];

const WAIT: Row<ServerFn> = Spec::new("wait", 3, Group::Generic)
    .acl(Acl::CONNECTION)
    .since("3.0.0")
    .cost("O(1)")
    .about("Waits until replicas have all that this connection wrote.")
    .tips(WAIT_TIPS)
    .args(&[Arg::int("numreplicas"), Arg::int("timeout")])
    .run(wait);

/// WAIT numreplicas timeout
fn wait(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    if call.server.config.replicaof.is_some() {
        return Err(WAIT_ON_REPLICA);
    }
    let replicas = number::parse_i64(args.argv()[1]).ok_or(NOT_INTEGER)?;
    let deadline = deadline(call, args.argv()[2])?;
    let acks = Acks {
        offset: call.conn().written_to,
        replicas,
        on_disk: None,
        deadline,
    };
    wait_for(call, &args, acks)
}

const WAITAOF: Row<ServerFn> = Spec::new("waitaof", 4, Group::Generic)
    .flags(Flags::NOSCRIPT)
    .acl(Acl::CONNECTION)
    .since("7.2.0")
    .cost("O(1)")
    .about("Waits until all that this connection wrote is on disk, here and at replicas.")
    .tips(WAIT_TIPS)
    .args(&[
        Arg::int("numlocal"),
        Arg::int("numreplicas"),
        Arg::int("timeout"),
    ])
    .run(waitaof);

/// WAITAOF numlocal numreplicas timeout
fn waitaof(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let local = match number::parse_i64(argv[1]).ok_or(NOT_INTEGER)? {
        0 => false,
        1 => true,
        _ => return Err(ZERO_OR_ONE),
    };
    let replicas = number::parse_i64(argv[2])
        .filter(|n| *n >= 0)
        .ok_or(NOT_POSITIVE)?;
    let deadline = deadline(call, argv[3])?;
    if call.server.config.replicaof.is_some() {
        return Err(WAITAOF_ON_REPLICA);
    }
    if local && !call.server.config.appendonly {
        return Err(Fault::new(NO_LOG));
    }
    let acks = Acks {
        offset: call.conn().written_to,
        replicas,
        on_disk: Some(local),
        deadline,
    };
    wait_for(call, &args, acks)
}

/// A timeout in milliseconds, as the unix time at which it is over; 0 means never.
fn deadline(call: &Call<'_>, arg: &[u8]) -> Result<Option<u64>, Fault> {
    let timeout = number::parse_i64(arg).ok_or(TIMEOUT_NUMBER)?;
    let timeout = u64::try_from(timeout).map_err(|_| TIMEOUT_NEGATIVE)?;
    if timeout == 0 {
        return Ok(None);
    }
    let at = call.server.now.ms().checked_add(timeout);
    at.filter(|&at| i64::try_from(at).is_ok())
        .map(Some)
        .ok_or(TIMEOUT_RANGE)
}

fn wait_for(call: &mut Call<'_>, args: &Args<'_>, acks: Acks) -> CmdResult {
    let reached = call.server.reached(&acks);
    let may_wait = !call.session().marks.has(Marks::DENY_BLOCKING);
    if !may_wait || Server::is_enough(&acks, reached) {
        acks.reply(call.reply(), reached);
        return DONE;
    }
    let command = call.command();
    call.server.park_for_acks(call.token, command, args, acks);
    Ok(Flow::Parked)
}

pub static ROWS: &[Row<ServerFn>] = &[PSYNC, REPLCONF, ROLE, SYNC, WAIT, WAITAOF];
