//! The state of a server, without sockets, files or clocks: what comes in are bytes, time and
//! figures; what goes out are bytes in the connections' replies and a list of [`Effect`]s, which
//! `server/drive.rs` carries out. A test can drive a whole server through the same methods.

use std::any::Any;
use std::rc::Rc;

use crate::base::rng::Rng;
use crate::cluster::Cluster;
use crate::cmd::keys::Leftover;
use crate::cmd::session::Marks;
use crate::cmd::unit::Unit;
use crate::config::{Config, ShutdownFlags};
use crate::db::keyspace::Databases;
use crate::db::watch::WatchTable;
use crate::exec::acl::Acl;
use crate::exec::aof::Aof;
use crate::exec::blocking::Blocked;
use crate::exec::bus::Bus;
use crate::exec::conn::{Conn, Conns, Peer, Token};
use crate::exec::debugging::Debugging;
use crate::exec::held::Held;
use crate::exec::io::{Io, ProcessFacts};
use crate::exec::latency::LatencyMonitor;
use crate::exec::link::{Links, Target};
use crate::exec::migrate::Migrations;
use crate::exec::persistence::{Errand, Persistence, Work};
use crate::exec::pubsub::PubSub;
use crate::exec::replication::Replication;
use crate::exec::running::RunningArgs;
use crate::exec::scripting::Scripting;
use crate::exec::sentinel::Watching;
use crate::exec::slowlog::SlowLog;
use crate::exec::stats::{ClientPeaks, Stats};
use crate::exec::table::Table;
use crate::exec::tracking::Tracking;
use crate::repl::backlog::SIZE_MIN;

/// How long the peak of a client's output counts, in ms.
pub const PEAK_RESET_MS: i64 = 5000;

/// Something the outside is asked to do before the loop sleeps.
pub enum Effect {
    /// Close the socket of this connection; the server has let go of it.
    Close(Token),
    /// Connect this link, see `exec/link.rs`.
    Connect {
        token: Token,
        serial: u64,
        target: Target,
    },
    /// Drop this on the freeing thread; `items` is what INFO counts for it, unless it is [`Untold`].
    Free {
        what: Box<dyn Any + Send>,
        items: usize,
    },
    /// Let the kernel gather small writes to this connection (`repl-disable-tcp-nodelay`).
    Gather(Token),
    /// Do this on another thread and hand back what it gives, see [`Server::errand_done`].
    Start(Errand, Work),
    /// Accept no more connections and end the process with this status.
    Exit(i32),
}

/// What is freed in the background because it is dear, where Redis would free it at once: `lazyfreed_objects` does not
/// tell of it.
pub struct Untold(pub Box<dyn Any + Send>);

impl std::fmt::Debug for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Effect::Close(t) => write!(f, "Close({t:?})"),
            Effect::Gather(t) => write!(f, "Gather({t:?})"),
            Effect::Connect { token, target, .. } => write!(f, "Connect({token:?}, {target:?})"),
            Effect::Free { items, .. } => write!(f, "Free({items})"),
            Effect::Start(errand, _) => write!(f, "Start({errand:?})"),
            Effect::Exit(code) => write!(f, "Exit({code})"),
        }
    }
}

/// The time as the running unit sees it: it stands still until the unit ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    pub unix_us: u64,
    pub mono_ns: u64,
    /// So much later it was when the unit, a slow script, last gave way to others. TIME tells that, so that a script
    /// that waits for a time sees it come.
    pub later_us: u64,
}

impl Now {
    /// Unix time in milliseconds.
    #[inline]
    pub fn ms(self) -> u64 {
        self.unix_us / 1000
    }
    /// Unix time in seconds.
    #[inline]
    pub fn s(self) -> u64 {
        self.unix_us / 1_000_000
    }
}

/// What CLIENT PAUSE and FAILOVER hold up, and until when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// All commands, until this unix time in ms.
    pub all_until: Option<u64>,
    /// Commands that may change data, likewise.
    pub write_until: Option<u64>,
    /// Commands that may change data, until a shutdown that waits for replicas is through.
    pub for_shutdown: bool,
    /// The same, until a replica has taken our role over.
    pub for_failover: bool,
    /// The same in a cluster (CLUSTER FAILOVER), until this unix time in ms.
    pub failover_until: Option<u64>,
    /// It holds up less than before: those held up may try again.
    pub eased: bool,
}

impl Pause {
    /// Forgets what is over at `now_ms`.
    pub fn end_at(&mut self, now_ms: u64) {
        for until in [
            &mut self.all_until,
            &mut self.write_until,
            &mut self.failover_until,
        ] {
            if until.is_some_and(|t| t <= now_ms) {
                *until = None;
                self.eased = true;
            }
        }
    }
}

/// What a client hears that asked for a shutdown which came to nothing.
pub const SHUTDOWN_FAILED: &str = "ERR Errors trying to SHUTDOWN. Check logs.";

/// When a server that was told to shut down does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this turn of the loop.
    Now,
    /// Once all replicas have all, or after `shutdown-timeout`.
    WhenReplicasHaveAll,
}

/// A shutdown that waits for replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    pub flags: ShutdownFlags,
    /// Unix time in ms at which it waits no longer.
    pub until_ms: u64,
}

/// See the head of the file.
pub struct Server {
    pub config: Config,
    /// Absolute path of the configuration file, empty when there is none.
    pub config_file: String,
    pub executable: String,
    /// What stays the same as long as the process runs.
    pub process: ProcessFacts,
    pub table: Rc<Table>,
    pub acl: Acl,
    pub dbs: Databases,
    pub unit: Unit,
    pub watch: WatchTable,
    pub conns: Conns,
    pub links: Links,
    pub held: Held,
    pub migrations: Migrations,
    pub pubsub: PubSub,
    pub tracking: Tracking,
    pub blocked: Blocked,
    pub slowlog: SlowLog,
    pub latency: LatencyMonitor,
    pub stats: Stats,
    pub rng: Rng,
    pub now: Now,
    /// Unix time minus monotonic time, in µs; measured once a turn.
    pub unix_offset_us: u64,
    pub effects: Vec<Effect>,
    /// Connections with output that nobody has tried to write yet.
    pub pending_writes: Vec<Token>,
    /// Connections to close before the loop sleeps.
    pub doomed: Vec<Token>,
    /// Connections whose parked input may go on.
    pub resumable: Vec<Token>,
    /// Connections that were not read for a while and are again.
    pub reread: Vec<Token>,
    pub monitors: Vec<Token>,
    pub pause: Pause,
    pub run_id: String,
    pub repl: Replication,
    /// What it watches, if it is a Sentinel.
    pub sentinel: Option<Box<Watching>>,
    /// The cluster that it is a node of (`cluster-enabled`).
    pub cluster: Option<Box<Cluster>>,
    pub bus: Bus,
    pub started_us: u64,
    pub next_client_id: u64,
    /// The connection whose command runs, and the number of that command.
    pub current: Option<Token>,
    /// Its arguments, for a crash report.
    pub running: RunningArgs,
    /// Depth of calls: EXEC and scripts call from inside a call.
    pub nesting: u32,
    /// Changes since the last save (`rdb_changes_since_last_save`).
    pub dirty: u64,
    pub last_save_s: u64,
    pub persistence: Persistence,
    pub shutdown: Option<Shutdown>,
    /// A signal or SHUTDOWN asked for the end.
    pub exiting: Option<i32>,
    pub loading: bool,
    /// Data is loaded that will take the place of what is there, which is served meanwhile.
    pub async_loading: bool,
    pub aof: Aof,
    /// Eviction stopped at its time limit: it goes on before the loop sleeps.
    pub evict_more: bool,
    /// Bytes of the running request, for CLIENT LIST.
    pub running_bytes: usize,
    /// The client that cron looked at last.
    pub cron_client: usize,
    /// DEBUG PAUSE-CRON.
    pub cron_paused: bool,
    /// DEBUG SET-ACTIVE-EXPIRE.
    pub active_expire: bool,
    pub cron_loops: u64,
    pub hz: u32,
    /// Sum of `Conn::memory` over the connections that client eviction may choose from.
    pub clients_memory: usize,
    /// The limit on it that was in force at the last look.
    pub clients_limit: usize,
    /// Entries that were replaced or removed and are dear to free.
    pub to_free: Vec<Leftover>,
    pub batch: Option<Box<crate::exec::pipeline::Scratch>>,
    pub evict_pool: crate::db::evict::Pool,
    pub expire_cycle: crate::db::expire::Cycle,
    pub defrag: super::defrag::Defrag,
    /// Keys that were given a time to live here while the server is a replica.
    pub own_ttls: crate::db::own_ttls::OwnTtls,
    /// Elements of a list from this size on have a node of their own (DEBUG QUICKLIST-PACKED-THRESHOLD).
    pub list_plain_from: usize,
    /// Scripts may run commands that are denied to them (DEBUG SET-DISABLE-DENY-SCRIPTS).
    pub scripts_may_all: bool,
    pub scripting: Scripting,
    pub debugging: Debugging,
    /// Greatest buffers of clients of late.
    pub client_peaks: ClientPeaks,
    /// DEBUG REPLYBUFFER RESIZING, and PEAK-RESET-TIME in ms.
    pub reply_buffer_resizing: bool,
    pub reply_buffer_peak_reset_ms: i64,
    /// Values and keys that wait for the freeing thread.
    pub lazyfree_pending: usize,
    /// Memory at the end of start-up, for MEMORY STATS.
    pub startup_memory: usize,
}

impl Server {
    /// A server with empty databases.
    pub fn new(mut config: Config, table: Table, seed: u64, io: &dyn Io) -> Self {
        let table = Rc::new(table);
        let mut rng = Rng::new(seed);
        let mono_ns = io.mono_ns();
        let now = Now {
            unix_us: io.unix_us(),
            mono_ns,
            later_us: 0,
        };
        let run_id = rng.hex(40);
        config.repl_backlog_size = config.repl_backlog_size.max(SIZE_MIN);
        let repl = Replication::new(&mut rng, &config);
        let names_seed = rng.next_u64();
        let hash_key = crate::ds::dict::HashKey::new(rng.next_u64(), rng.next_u64());
        let scripting = Scripting::new(run_id_seed(&run_id));
        let cluster =
            (config.cluster_enabled).then(|| Box::new(Cluster::new(now.ms() as i64, rng.fork())));
        Server {
            dbs: match config.cluster_enabled {
                true => Databases::by_slot(config.databases, hash_key),
                false => Databases::new(config.databases, hash_key),
            },
            stats: Stats::new(table.len()),
            config_file: String::new(),
            executable: String::new(),
            process: io.process(),
            acl: Acl::new(&table, &config),
            table,
            unit: Unit::default(),
            watch: WatchTable::default(),
            conns: Conns::default(),
            links: Links::default(),
            held: Held::default(),
            migrations: Migrations::default(),
            pubsub: PubSub::new(names_seed),
            tracking: Tracking::new(names_seed),
            blocked: Blocked::default(),
            slowlog: SlowLog::default(),
            latency: LatencyMonitor::default(),
            rng,
            now,
            unix_offset_us: now.unix_us.saturating_sub(mono_ns / 1000),
            effects: Vec::new(),
            pending_writes: Vec::new(),
            doomed: Vec::new(),
            resumable: Vec::new(),
            reread: Vec::new(),
            monitors: Vec::new(),
            pause: Pause::default(),
            run_id,
            repl,
            sentinel: None,
            cluster,
            bus: Bus::default(),
            started_us: now.unix_us,
            // The first two are those of the clients by which Redis runs scripts and functions.
            next_client_id: 3,
            current: None,
            running: RunningArgs::default(),
            nesting: 0,
            dirty: 0,
            last_save_s: now.s(),
            persistence: Persistence::default(),
            shutdown: None,
            exiting: None,
            loading: false,
            async_loading: false,
            aof: Aof::default(),
            evict_more: false,
            running_bytes: 0,
            cron_client: 0,
            cron_paused: false,
            active_expire: true,
            cron_loops: 0,
            hz: config.hz,
            clients_memory: 0,
            clients_limit: 0,
            to_free: Vec::new(),
            batch: None,
            evict_pool: Default::default(),
            expire_cycle: Default::default(),
            defrag: Default::default(),
            own_ttls: Default::default(),
            list_plain_from: 1 << 30,
            scripts_may_all: false,
            scripting,
            debugging: Debugging::default(),
            client_peaks: ClientPeaks::default(),
            reply_buffer_resizing: true,
            reply_buffer_peak_reset_ms: PEAK_RESET_MS,
            lazyfree_pending: 0,
            startup_memory: 0,
            config,
        }
    }

    /// Reads the clock: time that stood still for a unit moves on.
    #[inline]
    pub fn tick(&mut self, io: &dyn Io) -> u64 {
        let mono_ns = io.mono_ns();
        self.now = self.at(mono_ns);
        mono_ns
    }

    /// What a unit that begins at this time of the monotonic clock sees.
    #[inline]
    pub fn at(&self, mono_ns: u64) -> Now {
        Now {
            mono_ns,
            unix_us: mono_ns / 1000 + self.unix_offset_us,
            later_us: 0,
        }
    }

    /// Like [`Server::tick`], and learns how unix time has moved against the monotonic clock.
    pub fn sync_clock(&mut self, io: &dyn Io) {
        let mono_ns = self.tick(io);
        self.unix_offset_us = io.unix_us().saturating_sub(mono_ns / 1000);
        self.now.unix_us = mono_ns / 1000 + self.unix_offset_us;
    }

    /// A client has connected. `Err` is what to tell it before closing.
    pub fn connect(&mut self, peer: Peer) -> Result<Token, &'static [u8]> {
        if self.is_full() {
            return Err(match self.cluster {
                Some(_) => b"-ERR max number of clients + cluster connections reached\r\n",
                None => b"-ERR max number of clients reached\r\n",
            });
        }
        if self.refuses(&peer) {
            self.stats.rejected_connections += 1;
            return Err(PROTECTED_MODE.as_bytes());
        }
        self.stats.total_connections += 1;
        Ok(self.begin_client(peer))
    }

    /// A client has connected that will speak TLS; it can't be told anything yet. `None` if there is no room for it.
    pub fn connect_secure(&mut self, peer: Peer) -> Option<Token> {
        if self.is_full() {
            return None;
        }
        let token = self.begin_client(peer);
        if let Some(conn) = self.conns.get_mut(token) {
            conn.session.marks.set(Marks::TLS | Marks::SHAKING, true);
            conn.write_blocked = true;
        }
        Some(token)
    }

    /// Its handshake is over.
    pub fn let_in_secure(&mut self, token: Token) {
        let Some(conn) = self.conns.get(token) else {
            return;
        };
        if self.refuses(&conn.peer) {
            self.stats.rejected_connections += 1;
            if let Some(conn) = self.conns.get_mut(token) {
                conn.reply.raw(PROTECTED_MODE.as_bytes());
            }
            self.close_after_reply(token);
            return;
        }
        self.stats.total_connections += 1;
    }

    /// True, and counted, if there may be no more clients.
    fn is_full(&mut self) -> bool {
        let full = self.conns.len() + self.bus_connections() >= self.config.maxclients;
        self.stats.rejected_connections += u64::from(full);
        full
    }

    fn begin_client(&mut self, peer: Peer) -> Token {
        let id = self.next_client_id;
        self.next_client_id += 1;
        let conn = Conn::new(id, peer, self.now.s());
        let token = self.conns.insert(conn);
        self.begin_as_default(token);
        token
    }

    /// Protected mode: without a password only this machine may talk to us.
    fn refuses(&self, peer: &Peer) -> bool {
        self.config.protected_mode
            && self.acl.users.default_user().needs_no_password()
            && !peer.unix_socket
            && !peer.loopback
    }

    /// Lets go of a connection: nobody may find it any more, and its socket will be closed.
    pub fn disconnect(&mut self, token: Token) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        if conn.session.marks.has(Marks::CLOSE_ASAP) && !self.doomed.contains(&token) {
            return;
        }
        conn.session.marks.set(Marks::CLOSE_ASAP, true);
        let (id, memory) = (conn.session.id, std::mem::take(&mut conn.memory));
        let is_link = conn.link.is_some();
        self.clients_memory = self.clients_memory.saturating_sub(memory);
        self.unpark(token);
        self.replica_gone(token);
        self.pubsub_drop(token);
        self.stop_tracking(token);
        self.watch.unwatch_all(id);
        self.monitors.retain(|&t| t != token);
        self.pending_writes.retain(|&t| t != token);
        self.doomed.retain(|&t| t != token);
        self.resumable.retain(|&t| t != token);
        self.reread.retain(|&t| t != token);
        if is_link {
            self.note_lost_link(token);
        } else {
            self.effects.push(Effect::Close(token));
        }
    }

    /// Closes a connection before the loop sleeps; until then its output goes nowhere.
    pub fn doom(&mut self, token: Token) {
        if let Some(conn) = self.conns.get_mut(token)
            && !conn.session.marks.has(Marks::CLOSE_ASAP)
        {
            conn.session.marks.set(Marks::CLOSE_ASAP, true);
            self.doomed.push(token);
        }
    }

    /// The connection has output: it will be written before the loop sleeps.
    #[inline]
    pub fn wants_write(&mut self, token: Token) {
        if self.conns.get_mut(token).is_some_and(Conn::has_new_output) {
            self.pending_writes.push(token);
        }
    }

    /// Hands a value to the freeing thread.
    pub fn free_later(&mut self, what: Box<dyn Any + Send>, items: usize) {
        self.lazyfree_pending += items;
        self.effects.push(Effect::Free { what, items });
    }

    /// The same; `lazily`: Redis would leave it to its own as well, so that it counts.
    pub fn free_later_told(&mut self, what: Box<dyn Any + Send>, items: usize, lazily: bool) {
        let what = if lazily { what } else { Box::new(Untold(what)) };
        self.free_later(what, items);
    }
}

/// A number that differs from server to server, and takes none from the generator.
fn run_id_seed(run_id: &str) -> u64 {
    run_id
        .bytes()
        .fold(0, |seed, byte| seed.rotate_left(5) ^ u64::from(byte))
}

/// What a refused client reads in protected mode.
const PROTECTED_MODE: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. In this mode connections are only accepted from the loopback interface. If you want to connect from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the same host the server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the protected mode by editing the Redis configuration file, and setting the protected mode option to 'no', and then restarting the server. 3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. 4) Setup a an authentication password for the default user. NOTE: You only need to do one of the above things in order for the server to start accepting connections from the outside.\r\n";
