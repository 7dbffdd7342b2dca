//! What a server has that is a node of a cluster, beside the machine ([`crate::cluster`]): which connection is which of the
//! machine's, and the lock on the file that it keeps its state in. `server/bus.rs` does what the machine wants done.
//!
//! The bus is how nodes talk to each other: connections of their own, on a port of their own.

use std::any::Any;
use std::collections::BTreeMap;

use crate::cluster::conf::BUS_PORT_STEP;
use crate::cluster::{Action, Cluster, ConnId, Endpoint, Settings};
use crate::cmd::session::{Marks, Token};
use crate::config::{ClusterPreferredEndpointType, Config};
use crate::exec::conn::{Conn, Peer};
use crate::exec::link::Link;
use crate::exec::persistence::Loading;
use crate::exec::server::Server;

/// So much is loaded without looking up, and so soon.
const SMALL_BYTES: u64 = 2 * 1024 * 1024;
const SOON_NS: u64 = 200_000_000;

/// See the head of the file.
#[derive(Default)]
pub struct Bus {
    pub tokens: BTreeMap<ConnId, Token>,
    pub conns: BTreeMap<Token, ConnId>,
    /// Somebody waits for the data to be loaded.
    pub load_awaited: bool,
    /// What is to be done once no script runs any more.
    pub put_off: Vec<Action>,
    /// As long as this is there, nobody else uses the file.
    pub lock: Option<Box<dyn Any>>,
}

impl Bus {
    /// This connection is that of the machine's.
    pub fn tie(&mut self, conn: ConnId, token: Token) {
        self.tokens.insert(conn, token);
        self.conns.insert(token, conn);
    }
}

/// The port that the bus listens on; above 65535 if there is none.
pub fn bus_port(config: &Config) -> u32 {
    match config.cluster_port {
        0 if config.tls_cluster => u32::from(config.tls_port) + u32::from(BUS_PORT_STEP),
        0 => u32::from(config.port) + u32::from(BUS_PORT_STEP),
        port => u32::from(port),
    }
}

/// What the machine has to know of the configuration.
pub fn settings(config: &Config) -> Settings {
    let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX / 1024);
    let or = |announced: u16, own: u16| if announced == 0 { own } else { announced };
    Settings {
        node_timeout_ms: ms(config.cluster_node_timeout).min(i64::MAX / 1024),
        ping_interval_ms: ms(config.cluster_ping_interval),
        port: or(config.cluster_announce_port, config.port),
        tls_port: or(config.cluster_announce_tls_port, config.tls_port),
        bus_port: match config.cluster_announce_bus_port {
            0 => u16::try_from(bus_port(config)).unwrap_or(0),
            port => port,
        },
        tls_bus: config.tls_cluster,
        tls_replication: config.tls_replication,
        ip: config.cluster_announce_ip.lossy().into_owned(),
        hostname: config.cluster_announce_hostname.lossy().into_owned(),
        nodename: config.cluster_announce_human_nodename.lossy().into_owned(),
        endpoint: match config.cluster_preferred_endpoint_type {
            ClusterPreferredEndpointType::Ip => Endpoint::Ip,
            ClusterPreferredEndpointType::Hostname => Endpoint::Hostname,
            ClusterPreferredEndpointType::UnknownEndpoint => Endpoint::Unknown,
        },
        validity_factor: i64::from(config.cluster_replica_validity_factor),
        repl_ping_period_s: ms(config.repl_ping_replica_period),
        migration_barrier: config.cluster_migration_barrier as usize,
        allow_replica_migration: config.cluster_allow_replica_migration,
        require_full_coverage: config.cluster_require_full_coverage,
        replica_no_failover: config.cluster_replica_no_failover,
        link_sendbuf_limit: config.cluster_link_sendbuf_limit,
    }
}

impl Server {
    /// A replica of a cluster loads what is loaded in no time: whoever asks for something waits rather than hears of it. (Tools
    /// that put clusters together ask a replica for its view right after they have told it to be one, and Redis, which
    /// loads so little without looking up, never lets them see it.)
    pub fn is_soon_loaded(&self) -> bool {
        let is_small = |loading: &Loading| {
            loading.total_bytes < SMALL_BYTES
                && self.now.mono_ns < loading.started_ns.saturating_add(SOON_NS)
        };
        self.cluster.is_some()
            && self.config.replicaof.is_some()
            && self.persistence.loading.as_ref().is_some_and(is_small)
    }

    /// Those who waited for that try again, once it is done or has taken longer than was thought.
    pub(crate) fn end_load_wait(&mut self) {
        if self.bus.load_awaited && !(self.loading && self.is_soon_loaded()) {
            self.bus.load_awaited = false;
            self.pause.eased = true;
        }
    }

    /// How many connections the bus is to have: each node opens one to each other.
    pub fn bus_connections(&self) -> usize {
        self.cluster
            .as_ref()
            .map_or(0, |cluster| (cluster.known() - 1) * 2)
    }

    /// What the bus takes of memory, in bytes.
    pub fn bus_memory(&self) -> usize {
        self.cluster
            .as_ref()
            .map_or(0, |cluster| cluster.links_memory())
    }

    /// While a master loads its data at the start nothing may change that: it speaks to nobody yet. What it loads is a master's,
    /// without what has expired; as a replica's it would be at a place of the stream where that is still there.
    pub fn starts_as_master(&self) -> bool {
        let is_master = |cluster: &Cluster| cluster.myself().is_master();
        self.persistence.starting && self.cluster.as_deref().is_some_and(is_master)
    }

    /// Another node has connected to our bus. `None`: not now. (It will be called again.)
    pub fn connect_bus(&mut self, peer: Peer) -> Option<Token> {
        let starting = self.starts_as_master();
        let machine = self.cluster.as_mut().filter(|_| !starting)?;
        log::debug!("Accepting cluster node connection from {}", peer.addr);
        let conn_id = machine.accepted((peer.ip(), peer.port()), peer.own_ip());
        let mut conn = Conn::new(0, peer, self.now.s());
        conn.session.marks.set(Marks::LINK, true);
        conn.link = Some(Box::new(Link::of_bus(self.links.next_serial())));
        let token = self.conns.insert(conn);
        self.bus.tie(conn_id, token);
        Some(token)
    }
}
