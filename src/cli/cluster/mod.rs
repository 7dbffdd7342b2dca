//! `redis-cli --cluster`: setting a cluster up, looking after it, and moving its slots.
//!
//! A command begins with one node and asks it for the others ([`Cluster::load`]); each node ([`node`]) then tells of itself
//! what its own line of CLUSTER NODES says ([`table`]). What is to be done is decided by pure functions: who becomes what
//! in a new cluster ([`layout`]), which slots go where ([`balance`]), what an open slot needs ([`cure`]). What they decide
//! is sent by [`create`], [`reshard`], [`check`] with [`fix`], [`members`], [`import`] and [`backup`]; slots move as
//! [`moving`] tells.
//!
//! Scripts read what is said here, so texts, their order and exit statuses are those of Redis's client.

mod ask;
mod backup;
mod balance;
mod check;
mod create;
mod cure;
mod fix;
mod import;
mod layout;
mod members;
mod moving;
mod node;
mod options;
mod reshard;
pub mod slots;
pub mod table;
mod tell;
mod usage;

pub use options::ClusterOptions;

use super::format;
use super::number::atoi;
use super::options::Options;
use super::out::{self, Stop, complain, lossy, say};
use super::session::Failed;
use super::uri::Place;
use crate::base::rng::Rng;

use node::Node;
use table::Address;
use tell::{bad, step, warning};

/// The place of a node in [`Cluster::nodes`].
pub type NodeAt = usize;

/// The nodes that can be reached, and what is known of the others.
pub struct Cluster {
    pub nodes: Vec<Node>,
    /// What was found to be wrong.
    pub errors: usize,
    /// Masters that cannot be reached.
    pub unreachable_masters: usize,
    /// What is wrong is to be put right.
    pub fixing: bool,
    pub options: ClusterOptions,
    /// Who to be at each node.
    pub login: Place,
    pub verbose: bool,
    /// What parts the elements of a reply.
    delimiter: Vec<u8>,
    rng: Rng,
}

/// A subcommand.
struct Subcommand {
    name: &'static str,
    run: fn(&mut Cluster) -> Result<(), Failed>,
    /// How many arguments it has; below 0: at least so many.
    arity: i32,
    args: &'static str,
    options: &'static [&'static str],
}

const NODE: &str = "<host:port> or <host> <port> - separated by either colon or space";

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand {
        name: "create",
        run: create::create,
        arity: -2,
        args: "host1:port1 ... hostN:portN",
        options: &["replicas <arg>"],
    },
    Subcommand {
        name: "check",
        run: check::check,
        arity: -1,
        args: NODE,
        options: &["search-multiple-owners"],
    },
    Subcommand {
        name: "info",
        run: check::info,
        arity: -1,
        args: NODE,
        options: &[],
    },
    Subcommand {
        name: "fix",
        run: check::fix,
        arity: -1,
        args: NODE,
        options: &["search-multiple-owners", "fix-with-unreachable-masters"],
    },
    Subcommand {
        name: "reshard",
        run: reshard::reshard,
        arity: -1,
        args: NODE,
        options: &[
            "from <arg>",
            "to <arg>",
            "slots <arg>",
            "yes",
            "timeout <arg>",
            "pipeline <arg>",
            "replace",
        ],
    },
    Subcommand {
        name: "rebalance",
        run: reshard::rebalance,
        arity: -1,
        args: NODE,
        options: &[
            "weight <node1=w1...nodeN=wN>",
            "use-empty-masters",
            "timeout <arg>",
            "simulate",
            "pipeline <arg>",
            "threshold <arg>",
            "replace",
        ],
    },
    Subcommand {
        name: "add-node",
        run: members::add,
        arity: 2,
        args: "new_host:new_port existing_host:existing_port",
        options: &["slave", "master-id <arg>"],
    },
    Subcommand {
        name: "del-node",
        run: members::delete,
        arity: 2,
        args: "host:port node_id",
        options: &[],
    },
    Subcommand {
        name: "call",
        run: call,
        arity: -2,
        args: "host:port command arg arg .. arg",
        options: &["only-masters", "only-replicas"],
    },
    Subcommand {
        name: "set-timeout",
        run: set_timeout,
        arity: 2,
        args: "host:port milliseconds",
        options: &[],
    },
    Subcommand {
        name: "import",
        run: import::import,
        arity: 1,
        args: "host:port",
        options: &[
            "from <arg>",
            "from-user <arg>",
            "from-pass <arg>",
            "from-askpass",
            "copy",
            "replace",
        ],
    },
    Subcommand {
        name: "backup",
        run: backup::backup,
        arity: 2,
        args: "host:port backup_directory",
        options: &[],
    },
    Subcommand {
        name: "help",
        run: usage::help,
        arity: 0,
        args: "",
        options: &[],
    },
];

/// Runs the subcommand of the options.
pub fn run(options: Options) -> Result<(), Stop> {
    let name = options.cluster_manager.command.clone().unwrap_or_default();
    let given = options.cluster_manager.args.len() as i64;
    let Some(subcommand) = SUBCOMMANDS.iter().find(|s| s.name.as_bytes() == name) else {
        complain!("Unknown --cluster subcommand\n");
        return Err(Stop(1));
    };
    let arity = i64::from(subcommand.arity);
    if (arity > 0 && given != arity) || (arity < 0 && given < -arity) {
        complain!("[ERR] Wrong number of arguments for specified --cluster sub command\n");
        return Err(Stop(1));
    }
    let mut cluster = Cluster {
        nodes: Vec::new(),
        errors: 0,
        unreachable_masters: 0,
        fixing: false,
        options: options.cluster_manager,
        login: options.place,
        verbose: options.verbose,
        delimiter: options.delimiters.element,
        rng: Rng::from_entropy(),
    };
    (subcommand.run)(&mut cluster).map_err(|_| Stop(1))
}

/// What MIGRATE has to be told to log in at the other server.
fn migrate_login(login: &Place) -> Vec<&[u8]> {
    match (&login.password, &login.user) {
        (Some(password), Some(user)) => vec![b"AUTH2", user, password],
        (Some(password), None) => vec![b"AUTH", password],
        (None, _) => Vec::new(),
    }
}

fn invalid_address() -> Failed {
    complain!(
        "[ERR] Invalid arguments: you need to pass either a valid address (ie. 120.0.0.1:7000) or space separated IP and \
         port (ie. 120.0.0.1 7000)\n"
    );
    Failed
}

/// The address in an argument.
fn address(arg: &[u8]) -> Option<Address> {
    Address::parse(&lossy(arg)).filter(|address| address.port != 0)
}

impl Cluster {
    /// The node that the arguments name, in one word or in two.
    fn named(&self) -> Result<Address, Failed> {
        let named = match &self.options.args[..] {
            [one] => address(one),
            [host, port, ..] => Some(Address {
                host: lossy(host).into_owned(),
                port: atoi(port),
                bus_port: 0,
            }),
            [] => None,
        };
        let named = named.filter(|address| address.port != 0);
        named.ok_or_else(invalid_address)
    }

    /// The node that an argument names.
    fn named_by(&self, at: usize) -> Result<Address, Failed> {
        let arg = self.options.args.get(at);
        arg.and_then(|arg| address(arg)).ok_or_else(invalid_address)
    }

    /// Asks a node for all others and each of them for itself. Those that cannot be reached are left out.
    pub fn load(&mut self, address: Address) -> Result<(), Failed> {
        self.load_from(Node::at(address))
    }

    fn load_from(&mut self, mut node: Node) -> Result<(), Failed> {
        if !node.is_connected() {
            node.connect(&self.login)?;
        }
        node.demand_cluster()?;
        let others = node.load_with_others()?;
        self.nodes = vec![node];
        for mut other in others {
            let unnamed = other.address.host.is_empty() || other.address.port == 0;
            if !unnamed && self.reach(&mut other).is_ok() {
                self.nodes.push(other);
            } else if !other.is_replica {
                self.unreachable_masters += 1;
            }
        }
        self.count_replicas();
        Ok(())
    }

    fn reach(&self, node: &mut Node) -> Result<(), Failed> {
        node.connect(&self.login)?;
        if node.load().is_err() {
            bad!("[ERR] Unable to load info for node {}\n", node.place());
            return Err(Failed);
        }
        match node.is_gone {
            true => Err(Failed),
            false => Ok(()),
        }
    }

    fn count_replicas(&mut self) {
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            let Some(master) = &node.master else {
                continue;
            };
            match self.by_name(master) {
                Some(master) => self.nodes[master].replicas += 1,
                None => warning!(
                    "*** WARNING: {} claims to be slave of unknown node ID {master}.\n",
                    node.place()
                ),
            }
        }
    }

    /// The node with that ID.
    pub fn by_name(&self, name: &str) -> Option<NodeAt> {
        let name = name.to_ascii_lowercase();
        self.nodes
            .iter()
            .position(|node| node.name == name && !name.is_empty())
    }

    /// The places of all nodes that are no replicas.
    pub fn masters(&self) -> Vec<NodeAt> {
        let all = 0..self.nodes.len();
        all.filter(|&at| !self.nodes[at].is_replica).collect()
    }

    /// The master with the fewest replicas, but not `but`.
    fn least_replicated(&self, but: Option<NodeAt>) -> Option<NodeAt> {
        let masters = self.masters().into_iter().filter(|&at| Some(at) != but);
        masters.min_by_key(|&at| self.nodes[at].replicas)
    }

    /// What all nodes are, as text.
    pub fn show_nodes(&self) {
        for node in &self.nodes {
            say!("{}\n", node.describe(0));
        }
    }
}

/// `call`: sends a command to all nodes.
fn call(cluster: &mut Cluster) -> Result<(), Failed> {
    let address = cluster.named_by(0)?;
    cluster.load(address)?;
    let command = cluster.options.args[1..].to_vec();
    step!(">>> Calling");
    for word in &command {
        say!(" {}", lossy(word));
    }
    say!("\n");
    let (masters, replicas) = (cluster.options.only_masters, cluster.options.only_replicas);
    for node in &mut cluster.nodes {
        if (masters && node.master.is_some()) || (replicas && node.master.is_none()) {
            continue;
        }
        say!("{}: ", node.place());
        match node.reply(&command) {
            Some(reply) => {
                let mut text = Vec::new();
                format::raw(&reply, &cluster.delimiter, &mut text);
                out::bytes(&text);
                say!("\n");
            }
            None => say!("Failed!\n"),
        }
    }
    Ok(())
}

/// The shortest node timeout that may be set here, in milliseconds.
const NODE_TIMEOUT_MIN_MS: i32 = 100;

/// `set-timeout`: sets the time after which nodes hold each other for failing, and has them keep it.
fn set_timeout(cluster: &mut Cluster) -> Result<(), Failed> {
    let address = cluster.named_by(0)?;
    let timeout = atoi(&cluster.options.args[1]);
    if timeout < NODE_TIMEOUT_MIN_MS {
        complain!("Setting a node timeout of less than 100 milliseconds is a bad idea.\n");
        return Err(Failed);
    }
    cluster.load(address)?;
    step!(">>> Reconfiguring node timeout in every cluster node...\n");
    let (mut set, mut failed) = (0, 0);
    let timeout = timeout.to_string();
    for node in &mut cluster.nodes {
        let done = node
            .ask(&["CONFIG", "SET", "cluster-node-timeout", &timeout])
            .and_then(|_| node.ask(&["CONFIG", "REWRITE"]));
        match done {
            Ok(_) => {
                warning!("*** New timeout set for {}\n", node.place());
                set += 1;
            }
            Err(refusal) => {
                let words = refusal.words().unwrap_or_default();
                bad!("ERR setting node-timeout for {}: {words}\n", node.place());
                failed += 1;
            }
        }
    }
    step!(">>> New node timeout set. {set} OK, {failed} ERR.\n");
    Ok(())
}
