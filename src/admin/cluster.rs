//! The rows of CLUSTER, and what it tells of keys and slots; with ASKING, READONLY and READWRITE, by which a client says
//! how it takes redirections.
//!
//! A server that is no node of a cluster has all of them too, so that rules about users may name them, and answers each with
//! the same error.

mod change;
mod show;

use crate::base::number::parse_i64;
use crate::base::slot::Slot;
use crate::cmd::fault::NOT_INTEGER;
use crate::cmd::session::Marks;
use crate::cmd::spec::{Acl, Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Fault, Row};
use crate::exec::{Call, ServerFn};

/// What a server answers that is no node of a cluster.
pub const DISABLED: Fault = Fault::new("ERR This instance has cluster support disabled");
const INVALID_SLOT_ARG: Fault = Fault::new("ERR Invalid or out of range slot");
const INVALID_SLOT: Fault = Fault::new("ERR Invalid slot");
const INVALID_COUNT: Fault = Fault::new("ERR Invalid slot or number of keys");

/// Flags of what changes the cluster.
const CHANGES: Flags = Flags::NO_ASYNC_LOADING.or(Flags::ADMIN).or(Flags::STALE);
/// Flags of what an administrator may ask.
const ADMIN: Flags = Flags::ADMIN.or(Flags::STALE);
/// Flags of what clients ask to find their way.
const MAP: Flags = Flags::LOADING.or(Flags::STALE);

const VARIES: &[&str] = &["nondeterministic_output"];
const NODE_ID: &[Arg] = &[Arg::string("node-id")];
const SLOTS: &[Arg] = &[Arg::int("slot").multiple()];
const RANGES: &[Arg] =
    &[Arg::block("range", &[Arg::int("start-slot"), Arg::int("end-slot")]).multiple()];
const BY_NODES: &str = "O(N) with N the known nodes";
const BY_SLOTS: &str = "O(N) with N the slots";
const BY_REPLICAS: &str = "O(N) with N the replicas";

const fn row(name: &'static str, arity: i32, flags: Flags) -> Spec {
    Spec::new(name, arity, Group::Cluster)
        .flags(flags)
        .since("3.0.0")
        .cost("O(1)")
}

const ASKING: Row<ServerFn> = row("asking", 1, Flags::FAST)
    .acl(Acl::CONNECTION)
    .about("Says that the next command follows an ASK redirection.")
    .run(|call, _| mark(call, Marks::ASKING, true));

const READONLY: Row<ServerFn> = row("readonly", 1, Flags::FAST.or(MAP))
    .acl(Acl::CONNECTION)
    .about("Lets a replica of the cluster serve the connection's reads.")
    .run(|call, _| mark(call, Marks::READONLY, true));

const READWRITE: Row<ServerFn> = row("readwrite", 1, Flags::FAST.or(MAP))
    .acl(Acl::CONNECTION)
    .about("Undoes READONLY.")
    .run(|call, _| mark(call, Marks::READONLY, false));

/// ASKING, READONLY, READWRITE.
fn mark(call: &mut Call<'_>, which: Marks, on: bool) -> CmdResult {
    in_cluster(call)?;
    call.session().marks.set(which, on);
    call.reply().ok();
    DONE
}

/// Refuses what only a node of a cluster can do.
fn in_cluster(call: &Call<'_>) -> Result<(), Fault> {
    match call.server.config.cluster_enabled {
        true => Ok(()),
        false => Err(DISABLED),
    }
}

const CLUSTER: Row<ServerFn> = row("cluster", -2, Flags::NONE)
    .cost("That of the subcommand.")
    .about("Commands about the cluster and its nodes.")
    .container();

const ADDSLOTS: Row<ServerFn> = row("cluster|addslots", -3, CHANGES)
    .cost(BY_SLOTS)
    .about("Gives slots to the node.")
    .args(SLOTS)
    .run(change::addslots);

const ADDSLOTSRANGE: Row<ServerFn> = row("cluster|addslotsrange", -4, CHANGES)
    .since("7.0.0")
    .cost(BY_SLOTS)
    .about("Gives ranges of slots to the node.")
    .args(RANGES)
    .run(change::addslotsrange);

const BUMPEPOCH: Row<ServerFn> = row("cluster|bumpepoch", 2, CHANGES)
    .about("Makes the node's configuration epoch the greatest.")
    .tips(VARIES)
    .run(change::bumpepoch);

const COUNT_FAILURE_REPORTS: Row<ServerFn> = row("cluster|count-failure-reports", 3, ADMIN)
    .cost("O(N) with N the reports")
    .about("Counts the nodes that report a node as failing.")
    .tips(VARIES)
    .args(NODE_ID)
    .run(show::count_failure_reports);

const COUNTKEYSINSLOT: Row<ServerFn> = row("cluster|countkeysinslot", 3, Flags::STALE)
    .about("Counts the keys of a slot.")
    .args(&[Arg::int("slot")])
    .run(countkeysinslot);

const DELSLOTS: Row<ServerFn> = row("cluster|delslots", -3, CHANGES)
    .cost(BY_SLOTS)
    .about("Forgets whose some slots are.")
    .args(SLOTS)
    .run(change::delslots);

const DELSLOTSRANGE: Row<ServerFn> = row("cluster|delslotsrange", -4, CHANGES)
    .since("7.0.0")
    .cost(BY_SLOTS)
    .about("Forgets whose some ranges of slots are.")
    .args(RANGES)
    .run(change::delslotsrange);

const FAILOVER: Row<ServerFn> = row("cluster|failover", -2, CHANGES)
    .about("Lets a replica take its master's place.")
    .args(&[Arg::one_of(
        "options",
        &[
            Arg::word("force", "FORCE"),
            Arg::word("takeover", "TAKEOVER"),
        ],
    )
    .optional()])
    .run(change::failover);

const FLUSHSLOTS: Row<ServerFn> = row("cluster|flushslots", 2, CHANGES)
    .about("Forgets all slots of the node.")
    .run(change::flushslots);

const FORGET: Row<ServerFn> = row("cluster|forget", 3, CHANGES)
    .about("Strikes a node from the list of known ones.")
    .args(NODE_ID)
    .run(change::forget);

const GETKEYSINSLOT: Row<ServerFn> = row("cluster|getkeysinslot", 4, Flags::STALE)
    .cost("O(N) with N the keys asked for")
    .about("Lists keys of a slot.")
    .tips(VARIES)
    .args(&[Arg::int("slot"), Arg::int("count")])
    .run(getkeysinslot);

const HELP: Row<ServerFn> = row("cluster|help", 2, MAP)
    .since("5.0.0")
    .about("Lists the subcommands.")
    .run(help);

const INFO: Row<ServerFn> = row("cluster|info", 2, Flags::STALE)
    .about("Tells the state of the cluster as the node sees it.")
    .tips(VARIES)
    .run(show::info);

const KEYSLOT: Row<ServerFn> = row("cluster|keyslot", 3, Flags::STALE)
    .cost("O(N) with N the bytes of the key")
    .about("Tells the slot of a key.")
    .args(&[Arg::string("key")])
    .run(keyslot);

const LINKS: Row<ServerFn> = row("cluster|links", 2, Flags::STALE)
    .since("7.0.0")
    .cost(BY_NODES)
    .about("Lists the connections to and from other nodes.")
    .tips(VARIES)
    .run(show::links);

const MEET: Row<ServerFn> = row("cluster|meet", -4, CHANGES)
    .about("Makes a node known to the cluster.")
    .history(&[(
        "4.0.0",
        "Takes the port of the cluster's bus, `cluster_bus_port`.",
    )])
    .args(&[
        Arg::string("ip"),
        Arg::int("port"),
        Arg::int("cluster-bus-port").since("4.0.0").optional(),
    ])
    .run(change::meet);

const MYID: Row<ServerFn> = row("cluster|myid", 2, Flags::STALE)
    .about("Tells the node's ID.")
    .run(show::myid);

const MYSHARDID: Row<ServerFn> = row("cluster|myshardid", 2, Flags::STALE)
    .since("7.2.0")
    .about("Tells the ID of the node's shard.")
    .tips(VARIES)
    .run(show::myshardid);

const NODES: Row<ServerFn> = row("cluster|nodes", 2, Flags::STALE)
    .cost(BY_NODES)
    .about("Describes all known nodes, in the form of the nodes file.")
    .tips(VARIES)
    .run(show::nodes);

const REPLICAS: Row<ServerFn> = row("cluster|replicas", 3, ADMIN)
    .since("5.0.0")
    .cost(BY_REPLICAS)
    .about("Describes the replicas of a master.")
    .tips(VARIES)
    .args(NODE_ID)
    .run(show::replicas);

const REPLICATE: Row<ServerFn> = row("cluster|replicate", 3, CHANGES)
    .about("Makes the node a replica of a master.")
    .args(NODE_ID)
    .run(change::replicate);

const RESET: Row<ServerFn> = row("cluster|reset", -2, ADMIN.or(Flags::NOSCRIPT))
    .cost("O(N) with N the known nodes, and that of FLUSHALL")
    .about("Lets the node forget the cluster.")
    .args(&[Arg::one_of(
        "reset-type",
        &[Arg::word("hard", "HARD"), Arg::word("soft", "SOFT")],
    )
    .optional()])
    .run(change::reset);

const SAVECONFIG: Row<ServerFn> = row("cluster|saveconfig", 2, CHANGES)
    .about("Writes the nodes file.")
    .run(change::saveconfig);

const SET_CONFIG_EPOCH: Row<ServerFn> = row("cluster|set-config-epoch", 3, CHANGES)
    .about("Sets the configuration epoch of a new node.")
    .args(&[Arg::int("config-epoch")])
    .run(change::set_config_epoch);

const SETSLOT: Row<ServerFn> = row("cluster|setslot", -4, CHANGES)
    .about("Says whose a slot is, or that it is on its way.")
    .args(&[
        Arg::int("slot"),
        Arg::one_of(
            "subcommand",
            &[
                Arg::string("importing")
                    .display("node-id")
                    .token("IMPORTING"),
                Arg::string("migrating")
                    .display("node-id")
                    .token("MIGRATING"),
                Arg::string("node").display("node-id").token("NODE"),
                Arg::word("stable", "STABLE"),
            ],
        ),
    ])
    .run(change::setslot);

const SHARDS: Row<ServerFn> = row("cluster|shards", 2, MAP)
    .since("7.0.0")
    .cost(BY_NODES)
    .about("Tells which nodes serve which slots, by shards.")
    .tips(VARIES)
    .run(show::shards);

const SLAVES: Row<ServerFn> = row("cluster|slaves", 3, ADMIN)
    .cost(BY_REPLICAS)
    .about("Describes the replicas of a master.")
    .deprecated("5.0.0", "`CLUSTER REPLICAS`")
    .tips(VARIES)
    .args(NODE_ID)
    .run(show::replicas);

const SLOTS_OF_NODES: Row<ServerFn> = row("cluster|slots", 2, MAP)
    .cost(BY_NODES)
    .about("Tells which nodes serve which slots, by slots.")
    .history(&[
        ("4.0.0", "Shows the IDs of nodes."),
        ("7.0.0", "Shows more about the network."),
    ])
    .deprecated("7.0.0", "`CLUSTER SHARDS`")
    .tips(VARIES)
    .run(show::slots);

/// CLUSTER KEYSLOT key
fn keyslot(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    in_cluster(call)?;
    let slot = Slot::of(args.argv()[2]);
    call.reply().int(i64::from(slot.number()));
    DONE
}

/// CLUSTER COUNTKEYSINSLOT slot
fn countkeysinslot(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    in_cluster(call)?;
    let slot = parse_i64(args.argv()[2]).ok_or(NOT_INTEGER)?;
    let slot = slot_of(slot).ok_or(INVALID_SLOT)?;
    let count = call.server.dbs.db(0).slot_len(slot);
    call.reply().int(count as i64);
    DONE
}

/// CLUSTER GETKEYSINSLOT slot count: replies up to so many of the slot's keys.
fn getkeysinslot(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    in_cluster(call)?;
    let slot = parse_i64(args.argv()[2]).ok_or(NOT_INTEGER)?;
    let count = parse_i64(args.argv()[3]).ok_or(NOT_INTEGER)?;
    let slot = slot_of(slot).ok_or(INVALID_COUNT)?;
    let count = usize::try_from(count).map_err(|_| INVALID_COUNT)?;
    let keys = call.server.dbs.db(0).slot_keys(slot, count);
    let reply = call.reply();
    reply.array(keys.len());
    for key in keys {
        reply.bulk(&key);
    }
    DONE
}

/// The slot of a number that a client gave.
fn slot_of(number: i64) -> Option<Slot> {
    u64::try_from(number).ok().and_then(Slot::new)
}

fn help(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    in_cluster(call)?;
    call.help("CLUSTER", HELP_LINES)
}

const HELP_LINES: &[&str] = &[
    "ADDSLOTS <slot> [<slot> ...]",
    "    Give slots to this node.",
    "ADDSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
    "    Give ranges of slots, both ends included, to this node.",
    "BUMPEPOCH",
    "    Make this node's configuration epoch the greatest.",
    "COUNT-FAILURE-REPORTS <node-id>",
    "    Count the nodes that report <node-id> as failing.",
    "COUNTKEYSINSLOT <slot>",
    "    Count the keys in <slot>.",
    "DELSLOTS <slot> [<slot> ...]",
    "    Forget whose these slots are.",
    "DELSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
    "    Forget whose these ranges of slots are, both ends included.",
    "FAILOVER [FORCE|TAKEOVER]",
    "    Let this replica take its master's place.",
    "FORGET <node-id>",
    "    Strike a node from the list of known ones.",
    "GETKEYSINSLOT <slot> <count>",
    "    List up to <count> keys that this node has in a slot.",
    "FLUSHSLOTS",
    "    Forget all slots of this node.",
    "INFO",
    "    Tell the state of the cluster.",
    "KEYSLOT <key>",
    "    Tell the slot of <key>.",
    "MEET <ip> <port> [<bus-port>]",
    "    Make a node known to this cluster.",
    "MYID",
    "    Tell this node's ID.",
    "MYSHARDID",
    "    Tell the ID of this node's shard.",
    "NODES",
    "    Describe the known nodes, a line each:",
    "    <id> <ip:port@bus-port[,hostname]> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...",
    "REPLICATE <node-id>",
    "    Make this node a replica of <node-id>.",
    "RESET [HARD|SOFT]",
    "    Let this node forget the cluster (default: soft).",
    "SET-CONFIG-EPOCH <epoch>",
    "    Set the configuration epoch of a new node.",
    "SETSLOT <slot> (IMPORTING <node-id>|MIGRATING <node-id>|STABLE|NODE <node-id>)",
    "    Say whose a slot is, or that it is on its way.",
    "REPLICAS <node-id>",
    "    Describe the replicas of <node-id>.",
    "SAVECONFIG",
    "    Write the nodes file now.",
    "SLOTS",
    "    Tell who serves which slots: for each range its start and end, and address, port and ID",
    "    of its master and its replicas.",
    "SHARDS",
    "    Tell who serves which slots, by shards.",
    "LINKS",
    "    List the connections between this node and others, each as a map.",
];

pub static ROWS: &[Row<ServerFn>] = &[
    ADDSLOTS,
    ADDSLOTSRANGE,
    ASKING,
    BUMPEPOCH,
    CLUSTER,
    COUNT_FAILURE_REPORTS,
    COUNTKEYSINSLOT,
    DELSLOTS,
    DELSLOTSRANGE,
    FAILOVER,
    FLUSHSLOTS,
    FORGET,
    GETKEYSINSLOT,
    HELP,
    INFO,
    KEYSLOT,
    LINKS,
    MEET,
    MYID,
    MYSHARDID,
    NODES,
    READONLY,
    READWRITE,
    REPLICAS,
    REPLICATE,
    RESET,
    SAVECONFIG,
    SETSLOT,
    SET_CONFIG_EPOCH,
    SHARDS,
    SLAVES,
    SLOTS_OF_NODES,
];

#[cfg(test)]
mod tests {
    use crate::server::test_io::TestServer;

    /// Files of users name these commands whether there is a cluster or not.
    #[test]
    fn a_server_alone_knows_the_commands_and_refuses_them() {
        let mut world = TestServer::default();
        let me = world.connect();
        let rules = ["+readonly", "+asking", "-cluster", "+cluster|nodes"];
        let reply = world.call(me, &[&["ACL", "SETUSER", "u"][..], &rules].concat());
        assert_eq!(reply, "+OK\r\n");
        for words in [
            &["READONLY"][..],
            &["ASKING"],
            &["CLUSTER", "INFO"],
            &["CLUSTER", "KEYSLOT", "a"],
        ] {
            let refusal = "-ERR This instance has cluster support disabled\r\n";
            assert_eq!(world.call(me, words), refusal, "{words:?}");
        }
        let reply = world.call(me, &["CLUSTER", "MYID", "a"]);
        assert!(reply.starts_with("-ERR wrong number of arguments for 'cluster|myid'"));
    }
}
