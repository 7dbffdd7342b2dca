//! SENTINEL: what is watched, what is configured of it, and what one Sentinel asks another. Also what ROLE and PUBLISH are in a
//! Sentinel. The machine behind it is [`crate::sentinel`].

mod set;
mod show;

use crate::base::{glob, number};
use crate::cmd::fault::{Fault, NOT_INTEGER};
use crate::cmd::spec::{Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Row, is_word};
use crate::exec::sentinel::Asker;
use crate::exec::{Call, ServerFn};
use crate::sentinel::{HELLO_CHANNEL, Id, Kind, Sentinel};

pub(super) const NO_MASTER: Fault = Fault::new("ERR No such master with that name");
const NOT_SAVED: Fault = Fault::new("ERR Failed to save config file. Check server logs.");
const NO_SENTINEL: Fault = Fault::new("ERR This instance is no Sentinel");
const HELLO_ONLY: Fault = Fault::new("ERR Only HELLO messages are accepted by Sentinel instances.");

const COMMON: Flags = Flags::ADMIN
    .or(Flags::ONLY_SENTINEL)
    .or(Flags::SENTINEL_HAS);
const MASTER_NAME: &[Arg] = &[Arg::string("master-name")];

pub(super) const fn row(name: &'static str, arity: i32) -> Spec {
    Spec::new(name, arity, Group::Sentinel)
        .flags(COMMON)
        .since("2.8.4")
        .cost("O(1)")
}

const SENTINEL: Row<ServerFn> = row("sentinel", -2)
    .cost("Depends on subcommand.")
    .about("Commands about what this Sentinel watches.")
    .container();

/// Something for the machine, and what it says to it.
pub(super) fn with<R>(call: &mut Call<'_>, f: impl FnOnce(&mut Sentinel) -> R) -> Result<R, Fault> {
    call.server.with_sentinel(call.io, f).ok_or(NO_SENTINEL)
}

/// The machine, to look at.
pub(super) fn look<'a>(call: &'a Call<'_>) -> Result<&'a Sentinel, Fault> {
    let watching = call.server.sentinel.as_ref().ok_or(NO_SENTINEL)?;
    Ok(&watching.machine)
}

/// The master of this name.
pub(super) fn master(call: &Call<'_>, name: &[u8]) -> Result<Id, Fault> {
    let name = String::from_utf8_lossy(name);
    let master = look(call)?.master_named(&name);
    Ok(master.ok_or(NO_MASTER)?.id)
}

/// Writes the state, and says whether it could be.
pub(super) fn save_and_reply(call: &mut Call<'_>) -> CmdResult {
    if !call.server.save_sentinel(call.io) {
        return Err(NOT_SAVED);
    }
    call.reply().ok();
    DONE
}

const CKQUORUM: Row<ServerFn> = row("sentinel|ckquorum", 3)
    .cost("")
    .about("Tells whether enough Sentinels can be reached for a failover.")
    .args(MASTER_NAME)
    .run(ckquorum);

fn ckquorum(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let id = master(call, args.argv()[2])?;
    let sentinel = look(call)?;
    let (usable, voters) = sentinel.reachable(id);
    let quorum = sentinel.get(id).map_or(0, |m| m.watched.quorum) as usize;
    let mut lacks = Vec::new();
    if usable < quorum {
        lacks.push("Not enough available Sentinels to reach the specified quorum for this master");
    }
    if usable < voters / 2 + 1 {
        lacks.push("Not enough available Sentinels to reach the majority and authorize a failover");
    }
    if !lacks.is_empty() {
        let why = lacks.join(". ");
        return Err(Fault::text(format!(
            "NOQUORUM {usable} usable Sentinels. {why}"
        )));
    }
    call.reply().status(format!(
        "OK {usable} usable Sentinels. Quorum and failover authorization can be reached"
    ));
    DONE
}

const FAILOVER: Row<ServerFn> = row("sentinel|failover", 3)
    .cost("")
    .about("Has a replica take its master's place, without asking other Sentinels.")
    .args(MASTER_NAME)
    .run(failover);

fn failover(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let id = master(call, args.argv()[2])?;
    with(call, |sentinel| {
        if sentinel.get(id).is_some_and(|m| m.in_failover()) {
            return Err(Fault::new("INPROG Failover already in progress"));
        }
        if sentinel.select_replica(id).is_none() {
            return Err(Fault::new("NOGOODSLAVE No suitable replica to promote"));
        }
        let name = sentinel.get(id).map_or("", |m| &m.name);
        log::info!("Executing user requested FAILOVER of '{name}'");
        sentinel.force_failover(id);
        Ok(())
    })??;
    call.reply().ok();
    DONE
}

const FLUSHCONFIG: Row<ServerFn> = row("sentinel|flushconfig", 2)
    .about("Writes the configuration and the state into the file.")
    .run(|call, _| save_and_reply(call));

const GET_MASTER_ADDR: Row<ServerFn> = row("sentinel|get-master-addr-by-name", 3)
    .about("Tells where a master is.")
    .args(MASTER_NAME)
    .run(get_master_addr);

fn get_master_addr(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let name = String::from_utf8_lossy(args.argv()[2]);
    let sentinel = look(call)?;
    let addr = sentinel.master_named(&name).map(|m| {
        let addr = sentinel.current_addr(m);
        (sentinel.announced(addr).to_string(), addr.port)
    });
    let reply = call.reply();
    match addr {
        Some((host, port)) => {
            reply.array(2);
            reply.bulk(host.as_bytes());
            reply.bulk_int(i64::from(port));
        }
        None => reply.null_array(),
    }
    DONE
}

const HELP: Row<ServerFn> = row("sentinel|help", 2)
    .flags(
        Flags::LOADING
            .or(Flags::STALE)
            .or(Flags::ONLY_SENTINEL)
            .or(Flags::SENTINEL_HAS),
    )
    .since("6.2.0")
    .about("Lists the subcommands.")
    .run(|call, _| call.help("SENTINEL", HELP_LINES));

const HELP_LINES: &[&str] = &[
    "CKQUORUM <master-name>",
    "    Tell whether enough Sentinels can be reached to agree that the master is down,",
    "    and to elect a leader.",
    "CONFIG SET <param> <value> [<param> <value> ...]",
    "    Change parameters that concern no single master.",
    "CONFIG GET <param> [<param> ...]",
    "    Show them.",
    "DEBUG [<param> <value> ...]",
    "    Show the periods and timeouts in milliseconds, or change them.",
    "GET-MASTER-ADDR-BY-NAME <master-name>",
    "    Tell the address and port of a master.",
    "FAILOVER <master-name>",
    "    Begin a failover without asking other Sentinels.",
    "FLUSHCONFIG",
    "    Write the configuration and the state into the file.",
    "INFO-CACHE <master-name>",
    "    Show the last INFO of masters and their replicas.",
    "IS-MASTER-DOWN-BY-ADDR <ip> <port> <current-epoch> <runid>",
    "    Tell whether the master there seems down, and vote for <runid> unless it is *.",
    "MASTER <master-name>",
    "    Show the state of a master.",
    "MASTERS",
    "    Show the state of all masters.",
    "MONITOR <name> <ip> <port> <quorum>",
    "    Watch one more master.",
    "MYID",
    "    Tell the ID of this Sentinel.",
    "PENDING-SCRIPTS",
    "    List the programs that run or are to run.",
    "REMOVE <master-name>",
    "    Watch a master no more.",
    "REPLICAS <master-name>",
    "    Show the state of a master's replicas.",
    "RESET <pattern>",
    "    Forget what was found out about the masters that match.",
    "SENTINELS <master-name>",
    "    Show the state of the other Sentinels that watch a master.",
    "SET <master-name> <option> <value> [<option> <value> ...]",
    "    Change parameters of a master.",
    "SIMULATE-FAILURE [CRASH-AFTER-ELECTION] [CRASH-AFTER-PROMOTION] [HELP]",
    "    End this process at a moment that is bad for a failover.",
];

const IS_MASTER_DOWN: Row<ServerFn> = row("sentinel|is-master-down-by-addr", 6)
    .about("Tells whether a master seems down, and votes.")
    .args(&[
        Arg::string("ip"),
        Arg::int("port"),
        Arg::int("current-epoch"),
        Arg::string("runid"),
    ])
    .run(is_master_down);

/// SENTINEL IS-MASTER-DOWN-BY-ADDR ip port epoch runid: what Sentinels ask each other. Another runid than `*` asks for our
/// vote in that epoch; it is on the disk before the answer leaves.
fn is_master_down(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let port = number::parse_i64(argv[3]).ok_or(NOT_INTEGER)?;
    let epoch = number::parse_i64(argv[4]).ok_or(NOT_INTEGER)?;
    let host = String::from_utf8_lossy(argv[2]).into_owned();
    let wanted = String::from_utf8_lossy(argv[5]).into_owned();
    let (is_down, (leader, leader_epoch)) = with(call, |sentinel| {
        let Some(id) = sentinel.master_at(&host, port) else {
            return (false, (None, 0));
        };
        let is_down = sentinel.get(id).is_some_and(|m| m.s_down);
        let is_down = is_down && sentinel.tilt_since_ms().is_none();
        let vote = match wanted.as_str() {
            "*" => (None, 0),
            wanted => sentinel.vote(id, epoch as u64, wanted),
        };
        (is_down, vote)
    })?;
    let reply = call.reply();
    reply.array(3);
    reply.int(i64::from(is_down));
    reply.bulk(leader.as_deref().unwrap_or("*").as_bytes());
    reply.int(leader_epoch as i64);
    DONE
}

const MONITOR: Row<ServerFn> = row("sentinel|monitor", 6)
    .about("Watches one more master.")
    .args(&[
        Arg::string("name"),
        Arg::string("ip"),
        Arg::int("port"),
        Arg::int("quorum"),
    ])
    .run(monitor);

fn monitor(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let quorum = number::parse_i64(argv[5]).ok_or(Fault::new("ERR Invalid quorum"))?;
    let port = number::parse_i64(argv[4]).ok_or(Fault::new("ERR Invalid port"))?;
    if quorum <= 0 {
        return Err(Fault::new("ERR Quorum must be 1 or greater."));
    }
    let quorum = u32::try_from(quorum).unwrap_or(u32::MAX);
    let name = String::from_utf8_lossy(argv[2]).into_owned();
    let host = String::from_utf8_lossy(argv[3]).into_owned();
    let dir = call.server.config.dir.as_path().to_path_buf();
    if let Some(watching) = &mut call.server.sentinel {
        watching
            .machine
            .learn(&host, &mut Asker { io: call.io, dir });
    }
    let id = with(call, |sentinel| {
        if sentinel.resolve(&host).is_none() {
            return Err(Fault::new("ERR Invalid IP address or hostname specified"));
        }
        let added = sentinel.add(Kind::Master, &name, (&host, port), quorum, None);
        added.map_err(|why| Fault::text(format!("ERR {}", why.text(Kind::Master))))
    })??;
    let saved = save_and_reply(call);
    with(call, |sentinel| sentinel.tell_monitored(id))?;
    saved
}

const REMOVE: Row<ServerFn> = row("sentinel|remove", 3)
    .about("Watches a master no more.")
    .args(MASTER_NAME)
    .run(remove);

fn remove(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let id = master(call, args.argv()[2])?;
    with(call, |sentinel| {
        sentinel.event(crate::base::level::Level::Warning, "-monitor", id, "");
        sentinel.remove(id);
    })?;
    save_and_reply(call)
}

const RESET: Row<ServerFn> = row("sentinel|reset", 3)
    .cost("O(N) with N the masters that are watched")
    .about("Forgets what was found out about masters.")
    .args(&[Arg::pattern("pattern")])
    .run(reset);

fn reset(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let pattern = args.argv()[2];
    let count = with(call, |sentinel| {
        let matching = |m: &&crate::sentinel::Instance| glob::matches(pattern, m.name.as_bytes());
        let ids: Vec<Id> = sentinel.masters().filter(matching).map(|m| m.id).collect();
        for id in &ids {
            sentinel.reset_master(*id);
        }
        ids.len()
    })?;
    call.reply().int(count as i64);
    DONE
}

const SIMULATE_FAILURE: Row<ServerFn> = row("sentinel|simulate-failure", -3)
    .cost("")
    .since("3.2.0")
    .about("Ends the process at a bad moment.")
    .args(&[Arg::one_of(
        "mode",
        &[
            Arg::word("crash-after-election", "CRASH-AFTER-ELECTION"),
            Arg::word("crash-after-promotion", "CRASH-AFTER-PROMOTION"),
            Arg::word("help", "HELP"),
        ],
    )
    .optional()
    .multiple()])
    .run(simulate_failure);

fn simulate_failure(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let set = |call: &mut Call<'_>, after_election, after_promotion| {
        with(call, |sentinel| {
            sentinel.crash_after_election |= after_election;
            sentinel.crash_after_promotion |= after_promotion;
        })
    };
    with(call, |sentinel| {
        sentinel.crash_after_election = false;
        sentinel.crash_after_promotion = false;
    })?;
    for word in &args.argv()[2..] {
        if is_word(word, "crash-after-election") {
            set(call, true, false)?;
            log::warn!(
                "Failure simulation: this Sentinel will crash after being successfully elected as failover leader"
            );
        } else if is_word(word, "crash-after-promotion") {
            set(call, false, true)?;
            log::warn!(
                "Failure simulation: this Sentinel will crash after promoting the selected replica to master"
            );
        } else if is_word(word, "help") {
            let reply = call.reply();
            reply.array(2);
            reply.bulk(b"crash-after-election");
            reply.bulk(b"crash-after-promotion");
            return DONE;
        } else {
            return Err(Fault::new("ERR Unknown failure simulation specified"));
        }
    }
    call.reply().ok();
    DONE
}

/// ROLE in a Sentinel: the masters that it watches.
pub(super) fn role(call: &mut Call<'_>) -> CmdResult {
    let names: Vec<String> = look(call)?.masters().map(|m| m.name.clone()).collect();
    let reply = call.reply();
    reply.array(2);
    reply.bulk(b"sentinel");
    reply.array(names.len());
    for name in names {
        reply.bulk(name.as_bytes());
    }
    DONE
}

/// PUBLISH in a Sentinel: others send their hello messages so, as they do to masters.
pub(super) fn publish(call: &mut Call<'_>, channel: &[u8], message: &[u8]) -> CmdResult {
    if channel != HELLO_CHANNEL.as_bytes() {
        return Err(HELLO_ONLY);
    }
    let text = String::from_utf8_lossy(message).into_owned();
    with(call, |sentinel| sentinel.hello(&text))?;
    call.reply().int(1);
    DONE
}

pub static ROWS: &[Row<ServerFn>] = &[
    CKQUORUM,
    set::CONFIG,
    set::DEBUG,
    FAILOVER,
    FLUSHCONFIG,
    GET_MASTER_ADDR,
    HELP,
    show::INFO_CACHE,
    IS_MASTER_DOWN,
    show::MASTER,
    show::MASTERS,
    MONITOR,
    show::MYID,
    show::PENDING_SCRIPTS,
    REMOVE,
    show::REPLICAS,
    RESET,
    SENTINEL,
    show::SENTINELS,
    set::SET,
    SIMULATE_FAILURE,
    show::SLAVES,
];
