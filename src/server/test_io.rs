//! A server without a process: for tests.
//!
//! [`TestIo`] is the outside as values: a clock that stands until it is moved, memory figures and files that a
//! test sets, a note of everything that was asked for. [`TestServer`] drives a whole server on it, with the phases
//! of the real loop but sockets of bytes: connect, send, receive, let time pass. Nothing in it waits or sleeps, and
//! the same steps give the same bytes.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::rng::Rng;
use crate::base::time::Clock;
use crate::cmd::session::Marks;
use crate::config::{Config, Text};
use crate::exec::aof::State;
use crate::exec::conn::{Peer, Token};
use crate::exec::io::{
    Crash, Disk, Exchange, Io, LookUp, MemoryFigures, ProcessFacts, Setting, Stage,
};
use crate::exec::link::Target;
use crate::exec::persistence::{Errand, Work};
use crate::exec::pipe::{Pipe, PipeWriter, Wake};
use crate::exec::sentinel::{Ended, NotStarted};
use crate::exec::server::Server;
use crate::exec::table::Table;
use crate::resp::reply::Reply;
use crate::resp::value::{Decoder, Value};
use crate::server::before_sleep::{Outside, before_sleep};
use crate::server::bio::{InlineJobs, Jobs, LANES, Lane};
use crate::server::load::Unloadable;
use crate::server::test_disk::TestDisk;

/// When a test's world begins: unix time in µs.
pub const BEGINNING_US: u64 = 1_700_000_000_000_000;

/// See the head of the file.
#[derive(Debug)]
pub struct TestIo {
    pub clock: Clock,
    /// Memory in use, and all else that [`Io::memory`] tells.
    pub figures: MemoryFigures,
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Where the data is saved.
    pub disk: TestDisk,
    /// Directories in which nothing can be written.
    pub read_only: Vec<PathBuf>,
    /// Settings that were to be applied, and which of them can't be.
    pub applied: Vec<Setting>,
    pub refuses: fn(Setting, &Config) -> bool,
    pub crashes: Vec<Crash>,
    /// What systemd was told.
    pub told: Vec<String>,
    pub purges: usize,
    /// A signal asks for the end.
    pub signalled: bool,
    /// What was said to other servers while the loop waited, and what they will answer; nobody is there if that is out.
    pub said: Vec<(Target, Vec<u8>)>,
    pub answers: VecDeque<Exchange>,
}

impl Default for TestIo {
    fn default() -> Self {
        TestIo {
            clock: Clock::manual(BEGINNING_US),
            figures: MemoryFigures::default(),
            files: BTreeMap::new(),
            disk: TestDisk::default(),
            read_only: Vec::new(),
            applied: Vec::new(),
            refuses: |_, _| false,
            crashes: Vec::new(),
            told: Vec::new(),
            purges: 0,
            signalled: false,
            said: Vec::new(),
            answers: VecDeque::new(),
        }
    }
}

impl Io for TestIo {
    fn mono_ns(&self) -> u64 {
        self.clock.mono_ns()
    }

    fn unix_us(&self) -> u64 {
        self.clock.unix_us()
    }

    fn clock(&self) -> Clock {
        self.clock.clone()
    }

    fn thread_cpu_ns(&self) -> u64 {
        self.clock.thread_cpu_ns()
    }

    fn used_memory(&self) -> usize {
        self.figures.used
    }

    fn process(&self) -> ProcessFacts {
        ProcessFacts {
            pid: 1,
            os: "Test 1.0 none".into(),
            allocator: "none".into(),
            supervised: "no",
            monotonic_clock: "by hand",
            multiplexing_api: "none",
        }
    }

    fn memory(&mut self) -> MemoryFigures {
        self.figures
    }

    fn apply(&mut self, setting: Setting, config: &Config) -> Result<(), String> {
        self.applied.push(setting);
        match (self.refuses)(setting, config) {
            true => Err("refused by the test".into()),
            false => Ok(()),
        }
    }

    fn enter_dir(&mut self, from: &Text, path: &[u8]) -> Result<Text, String> {
        let from: &Path = from.as_path();
        Ok(Text::from(from.join(Text::from(path).as_path()).as_path()))
    }

    fn read_file(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.files.get(path).cloned().unwrap_or_default())
    }

    fn replace_file(&mut self, path: &Path, text: &[u8]) -> io::Result<()> {
        if self.read_only.iter().any(|dir| path.starts_with(dir)) {
            return Err(io::Error::from_raw_os_error(libc::EROFS));
        }
        self.files.insert(path.into(), text.into());
        Ok(())
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    fn wake(&self) -> Wake {
        Box::new(|| ())
    }

    /// Holds any number of bytes: a job is run to its end while the loop stands.
    fn pipe(&self) -> (Pipe, PipeWriter) {
        Pipe::new(usize::MAX, Box::new(|| ()))
    }
    /// (Here they are done at the end of each turn.)
    fn look_up(&mut self, name: &str) -> Option<String> {
        (self.looker_up())(name)
    }

    fn looker_up(&self) -> LookUp {
        Box::new(|name| (name == "localhost").then(|| "127.0.0.1".to_string()))
    }

    fn is_executable(&mut self, path: &Path) -> bool {
        path.starts_with("/bin")
    }

    fn start_program(&mut self, _: &Path, _: &[Vec<u8>]) -> Result<u32, NotStarted> {
        Err(NotStarted::NoProgram)
    }

    fn kill_program(&mut self, _: u32) {}

    fn ended_programs(&mut self) -> Vec<Ended> {
        Vec::new()
    }

    fn wait_for_log(&mut self) {}

    fn note_unfinished(&mut self, _: Option<&Path>) {}

    fn forget_signal(&mut self) -> bool {
        std::mem::take(&mut self.signalled)
    }

    fn exchange(&mut self, target: &Target, request: &Reply, _: usize, _: u64) -> Exchange {
        self.said.push((target.clone(), request.to_vec()));
        self.answers.pop_front().unwrap_or(Exchange {
            broken: Some(Stage::Connecting),
            ..Exchange::default()
        })
    }

    fn tell_supervisor(&mut self, state: &str) {
        self.told.push(state.into());
    }

    fn sleep_us(&mut self, us: u64) {
        self.clock.advance(Duration::from_micros(us));
    }

    fn huge_page_bytes(&mut self) -> u64 {
        0
    }

    fn secret(&mut self, bytes: &mut [u8]) {
        Rng::new(self.mono_ns()).fill(bytes);
    }

    fn purge(&mut self) -> bool {
        self.purges += 1;
        true
    }

    fn malloc_stats(&mut self) -> String {
        "no allocator".into()
    }

    fn mallctl(&mut self, _: &str, _: Option<i64>) -> io::Result<Option<i64>> {
        Err(io::Error::from_raw_os_error(libc::ENOENT))
    }

    fn mallctl_str(&mut self, _: &str, _: Option<&str>) -> io::Result<Option<String>> {
        Err(io::Error::from_raw_os_error(libc::ENOENT))
    }

    fn crash(&mut self, how: Crash) {
        self.crashes.push(how);
    }
}

/// What whoever plays the network has to know of a turn, in this order.
#[derive(Debug)]
pub enum Happened {
    /// This link is to be connected.
    Dialled(Token, Target),
    /// The server has let go of this connection, and these were its last words.
    Closed(Token, Vec<u8>),
}

/// The world of a [`TestServer`] besides its server.
#[derive(Default)]
struct World {
    io: TestIo,
    jobs: InlineJobs,
    /// What was sent to each open connection and not yet received there.
    sockets: BTreeMap<Token, Vec<u8>>,
    /// What arrived at the server's end and was not yet read.
    unread: BTreeMap<Token, Vec<u8>>,
    again: Vec<Token>,
    /// Links that were to be connected, and nobody has said yet how that went.
    dialled: Vec<(Token, Target)>,
    /// How many bytes connections take before they are given room again; any number if they are not here.
    rooms: BTreeMap<Token, usize>,
    /// The other side has said its last word on these, and that may not be read yet.
    ended: Vec<Token>,
    /// Kept if somebody plays the network.
    happened: Option<Vec<Happened>>,
    /// Jobs wait.
    jobs_held: bool,
}

impl Outside for World {
    fn io(&mut self) -> &mut dyn Io {
        &mut self.io
    }

    fn again(&mut self, token: Token) {
        self.again.push(token);
    }

    fn flush(&mut self, server: &mut Server) {
        for token in std::mem::take(&mut server.pending_writes) {
            let Some(conn) = server.conns.get_mut(token) else {
                continue;
            };
            conn.write_queued = false;
            if conn.session.marks.has(Marks::CLOSE_ASAP) || conn.write_blocked {
                continue;
            }
            let room = self.rooms.get(&token).copied().unwrap_or(usize::MAX);
            let until = match conn.session.marks.has(Marks::REPLICA) {
                true => u64::MAX,
                false => conn.free_until(server.aof.durable),
            };
            let mut bytes = conn.reply.to_vec();
            let free = until.saturating_sub(conn.reply.start());
            bytes.truncate(usize::try_from(free).unwrap_or(usize::MAX).min(room));
            conn.reply.advance(bytes.len());
            conn.kept = conn.reply.mark();
            if conn.session.marks.has(Marks::REPLICA) && conn.reply.is_empty() {
                let left = room - bytes.len();
                server.take_stream(token, &mut bytes, left);
            }
            let Some(conn) = server.conns.get_mut(token) else {
                continue;
            };
            if bytes.len() == room {
                conn.write_blocked = true;
            }
            if let Some(room) = self.rooms.get_mut(&token) {
                *room -= bytes.len();
            }
            conn.net_output += bytes.len() as u64;
            if !bytes.is_empty() && !conn.session.marks.has(Marks::MASTER) {
                conn.active_s = server.now.s();
            }
            server.stats.net_output += bytes.len() as u64;
            self.sockets.entry(token).or_default().extend(bytes);
            if conn.session.marks.has(Marks::CLOSE_AFTER_REPLY) && conn.reply.is_empty() {
                server.disconnect(token);
            }
        }
    }

    fn close(&mut self, token: Token) {
        self.unread.remove(&token);
        self.rooms.remove(&token);
        self.ended.retain(|&t| t != token);
        self.dialled.retain(|(t, _)| *t != token);
        if let Some(happened) = &mut self.happened {
            let last = self.sockets.remove(&token).unwrap_or_default();
            happened.push(Happened::Closed(token, last));
        }
    }

    fn connect(&mut self, server: &mut Server, token: Token, _serial: u64, target: Target) {
        if !target.host.ends_with(".invalid") {
            server.link_called(token);
        }
        self.sockets.insert(token, Vec::new());
        match &mut self.happened {
            Some(happened) => happened.push(Happened::Dialled(token, target)),
            None => self.dialled.push((token, target)),
        }
    }

    fn gather(&mut self, _: Token) {}

    fn start(&mut self, errand: Errand, work: Work) {
        self.jobs.start(Lane::of(errand), work);
    }

    fn free(&mut self, what: Box<dyn Any + Send>, items: usize) {
        self.jobs.free(what, items);
    }
}

/// See the head of the file.
pub struct TestServer {
    pub server: Server,
    world: World,
    next_cron_ns: u64,
    /// The database that the log came to.
    logged_db: i64,
}

impl Default for TestServer {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl TestServer {
    /// A server that has just started, without clients.
    pub fn new(config: Config) -> Self {
        Self::with_table(config, crate::admin::table())
    }

    /// The same with a command table of the caller's.
    pub fn with_table(config: Config, table: Table) -> Self {
        Self::begin(config, table, 1, World::default())
    }

    /// A server as a process that has just started on this outside, whose network somebody plays: it has yet to load what
    /// is on the disk ([`Server::begin_loading`]). All that it draws comes from the seed, and its jobs wait.
    pub fn played(config: Config, seed: u64, io: TestIo) -> Self {
        let world = World {
            io,
            jobs_held: true,
            happened: Some(Vec::new()),
            ..World::default()
        };
        Self::begin(config, crate::admin::table(), seed, world)
    }

    fn begin(config: Config, table: Table, seed: u64, world: World) -> Self {
        let server = Server::new(config, table, seed, &world.io);
        let next_cron_ns = world.io.mono_ns();
        TestServer {
            server,
            world,
            next_cron_ns,
            logged_db: 0,
        }
    }

    /// Begins to load what is on the disk; a node of a cluster takes up its state.
    pub fn load(&mut self) -> Result<(), Unloadable> {
        let taken_up = self.server.load_cluster(&mut self.world.io);
        taken_up.map_err(|why| {
            log::warn!("{why}");
            Unloadable
        })?;
        self.server.begin_loading(&mut self.world.io)
    }

    /// The process is no more; what is left is what it had outside.
    pub fn end(self) -> TestIo {
        self.world.io
    }

    /// The outside, to look at and to change.
    pub fn io(&mut self) -> &mut TestIo {
        &mut self.world.io
    }

    /// A new connection from this machine.
    pub fn connect(&mut self) -> Token {
        self.try_connect(Peer {
            addr: "127.0.0.1:50000".into(),
            laddr: "127.0.0.1:6379".into(),
            fd: 8,
            unix_socket: false,
            loopback: true,
        })
        .unwrap_or_else(|why| panic!("refused: {}", String::from_utf8_lossy(&why)))
    }

    /// A new connection from anywhere; `Err` is what a refused client reads.
    pub fn try_connect(&mut self, peer: Peer) -> Result<Token, Vec<u8>> {
        let token = self.server.connect(peer)?;
        self.world.sockets.insert(token, Vec::new());
        Ok(token)
    }

    /// Another node of the cluster connects to the bus; none if it is not let in.
    pub fn connect_bus(&mut self, peer: Peer) -> Option<Token> {
        let token = self.server.connect_bus(peer)?;
        self.world.sockets.insert(token, Vec::new());
        Some(token)
    }

    /// The link that the server wants to have connected, the oldest of those that nobody has answered yet, and where
    /// it is to lead.
    pub fn dialled(&mut self) -> Option<(Token, Target)> {
        self.world.dialled.first().cloned()
    }

    /// The other side takes it.
    pub fn answer(&mut self, token: Token) {
        self.world.dialled.retain(|(t, _)| *t != token);
        let peer = Peer {
            addr: "127.0.0.1:7000".into(),
            laddr: "127.0.0.1:50001".into(),
            fd: 9,
            unix_socket: false,
            loopback: true,
        };
        self.link_up(token, peer);
        self.turn();
    }

    /// A link is connected; the server hears of it with the next turn.
    pub fn link_up(&mut self, token: Token, peer: Peer) {
        self.server.sync_clock(&self.world.io);
        self.server.link_connected(&mut self.world.io, token, peer);
    }

    /// What has happened since the last look, for whoever plays the network.
    pub fn happened(&mut self) -> Vec<Happened> {
        match &mut self.world.happened {
            Some(happened) => std::mem::take(happened),
            None => Vec::new(),
        }
    }

    /// The other side of this connection takes nothing from now on.
    pub fn clog(&mut self, token: Token) {
        self.world.rooms.insert(token, 0);
    }

    /// The other side takes so many more bytes. True if something waited for that.
    pub fn give_room(&mut self, token: Token, bytes: usize) -> bool {
        *self.world.rooms.entry(token).or_default() += bytes;
        let Some(conn) = self.server.conns.get_mut(token) else {
            return false;
        };
        let waited = conn.write_blocked && !conn.session.marks.has(Marks::OPENING);
        if waited {
            conn.write_blocked = false;
            self.server.wants_write(token);
        }
        waited
    }

    /// Bytes that have arrived on a connection and are not read yet.
    pub fn unread(&self, token: Token) -> usize {
        self.world.unread.get(&token).map_or(0, Vec::len)
    }

    /// The other side has said its last word: the server finds out once it has read all.
    pub fn hear_end(&mut self, token: Token) {
        self.world.ended.push(token);
    }

    /// The connection breaks, and what was not read is lost. The server finds out with the next turn.
    pub fn reset(&mut self, token: Token, why: &str) {
        self.world.unread.remove(&token);
        self.world.dialled.retain(|(t, _)| *t != token);
        self.server.lose(token, why.into());
    }

    /// Nobody takes it, or it breaks, for this reason.
    pub fn break_link(&mut self, token: Token, why: &str) {
        self.world.dialled.retain(|(t, _)| *t != token);
        self.server.lose(token, why.into());
        self.turn();
    }

    /// The client hangs up, or the other side of a link.
    pub fn hang_up(&mut self, token: Token) {
        self.server.disconnect(token);
        self.turn();
    }

    /// True until either end has closed the connection.
    pub fn is_open(&self, token: Token) -> bool {
        self.server.conns.get(token).is_some()
    }

    /// Bytes arrive from a client, and the loop has its turn.
    pub fn send(&mut self, token: Token, bytes: &[u8]) {
        self.arrive(token, bytes);
        self.turn();
    }

    /// A client's bytes arrive; they are read with the next turn.
    pub fn arrive(&mut self, token: Token, bytes: &[u8]) {
        let unread = self.world.unread.entry(token).or_default();
        unread.extend_from_slice(bytes);
    }

    /// What the server has sent since the last look.
    pub fn receive(&mut self, token: Token) -> Vec<u8> {
        self.world
            .sockets
            .get_mut(&token)
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Sends a command, and gives what came back.
    pub fn call(&mut self, token: Token, argv: &[&str]) -> String {
        let mut request = format!("*{}\r\n", argv.len());
        for arg in argv {
            request += &format!("${}\r\n{arg}\r\n", arg.len());
        }
        self.send(token, request.as_bytes());
        String::from_utf8_lossy(&self.receive(token)).into_owned()
    }

    /// Time passes. The loop wakes for its cron and for whatever has a deadline.
    pub fn advance(&mut self, span: Duration) {
        let end_ns = self.world.io.mono_ns() + span.as_nanos() as u64;
        while self.world.io.mono_ns() < end_ns {
            let now_ns = self.world.io.mono_ns();
            let next_ns = self.wakes_at(now_ns).clamp(now_ns + 1, end_ns);
            self.world
                .io
                .clock
                .advance(Duration::from_nanos(next_ns - now_ns));
            self.turn();
        }
    }

    /// The next moment at which the loop would wake, monotonic time in ns.
    pub fn wakes_at(&self, now_ns: u64) -> u64 {
        let now_us = self.world.io.unix_us();
        let deadlines = [
            self.server.blocked.next_deadline(),
            self.server.migrations.next_deadline(),
            self.server.pause.all_until,
            self.server.pause.write_until,
            self.server.pause.failover_until,
            self.server.next_cluster_tick(),
        ];
        deadlines
            .into_iter()
            .flatten()
            .map(|at_ms| now_ns + (at_ms * 1000).saturating_sub(now_us) * 1000)
            .fold(self.next_cron_ns, u64::min)
    }

    /// One turn of the loop: what arrived is read and run, cron if it is due, then what is done before the loop
    /// sleeps; again while there is more to run.
    pub fn turn(&mut self) {
        loop {
            self.server.sync_clock(&self.world.io);
            let mut ready: Vec<Token> = std::mem::take(&mut self.world.again);
            ready.extend(self.world.unread.keys().copied());
            for token in ready {
                self.read(token);
            }
            self.notice_ends();
            if self.server.now.mono_ns >= self.next_cron_ns {
                self.server.cron(&mut self.world.io);
                self.next_cron_ns += 1_000_000_000 / u64::from(self.server.hz.max(1));
            }
            before_sleep(&mut self.server, &mut self.world);
            if !self.world.jobs_held {
                self.run_jobs();
            }
            self.server.stats.lazyfreed += self.world.jobs.take_freed_items() as u64;
            self.server.lazyfree_pending = self.world.jobs.unfreed_items();
            let now_ns = self.world.io.mono_ns();
            let due = self.server.replay_due();
            let idle = self.server.resumable.is_empty()
                && self.server.pending_writes.is_empty()
                && self.server.effects.is_empty()
                && due.is_none_or(|at_ns| at_ns > now_ns);
            let idle = idle && !self.server.links.have_news() && self.server.reread.is_empty();
            if self.world.again.is_empty() && idle {
                return;
            }
        }
    }

    /// Connections that were ended by the other side are let go of once all was read that had come on them.
    fn notice_ends(&mut self) {
        let mut left = std::mem::take(&mut self.world.ended);
        left.retain(|&token| {
            let Some(conn) = self.server.conns.get(token) else {
                return false;
            };
            let waits = self.world.unread.contains_key(&token) || self.world.again.contains(&token);
            if waits || conn.session.marks.has(Marks::NOT_READ) {
                return true;
            }
            self.server.disconnect(token);
            false
        });
        self.world.ended = left;
    }

    /// Lanes that have a job which can run now.
    pub fn busy_lanes(&self) -> Vec<Lane> {
        let jobs = &self.world.jobs;
        let waits = self.server.receives().then_some(Lane::Receive);
        let busy = |lane: &Lane| jobs.pending(*lane) > 0 && Some(*lane) != waits;
        LANES.into_iter().filter(busy).collect()
    }

    /// The next job of a lane runs, and the server hears of it with the next turn.
    pub fn run_lane(&mut self, lane: Lane) {
        self.world.jobs.run_lane(lane);
        self.server.sync_clock(&self.world.io);
        self.take_finished();
    }

    /// Jobs of other threads wait until [`TestServer::let_jobs_run`].
    pub fn hold_jobs(&mut self) {
        self.world.jobs_held = true;
    }

    /// They run now, and from now on.
    pub fn let_jobs_run(&mut self) {
        self.world.jobs_held = false;
        self.turn();
    }

    /// One job runs, of those that wait, and the loop hears of it. False if there was none.
    pub fn run_one_job(&mut self) -> bool {
        self.run_job(|_| 0)
    }

    /// The same, of the last lane that has one: what was begun last, mostly.
    pub fn run_late_job(&mut self) -> bool {
        self.run_job(|lanes| lanes - 1)
    }

    fn run_job(&mut self, pick: impl FnMut(usize) -> usize) -> bool {
        let ran = self.world.jobs.run_one(pick);
        self.take_finished();
        self.turn();
        ran
    }

    fn run_jobs(&mut self) {
        let waits = self.server.receives().then_some(Lane::Receive);
        self.world.jobs.run_all_but(waits);
        self.take_finished();
    }

    fn take_finished(&mut self) {
        let World { io, jobs, .. } = &mut self.world;
        while let Some(finished) = jobs.next_finished() {
            let Some(errand) = finished.lane.errand() else {
                continue;
            };
            let outcome = finished.outcome.into_result();
            self.server.errand_done(io, errand, outcome);
        }
    }

    /// From now on the log is kept in memory, for [`TestServer::logged`].
    pub fn keep_log(&mut self) {
        self.server.aof.state = State::On;
        self.server.note_who_listens();
    }

    /// The operations that were logged since the last look: the database that each runs in, and its words.
    pub fn logged(&mut self) -> Vec<(i64, Vec<Vec<u8>>)> {
        let bytes = std::mem::take(&mut self.server.aof.buffer);
        let (mut at, mut ops) = (0, Vec::new());
        while at < bytes.len() {
            let (used, value) = Decoder::new()
                .decode(&bytes[at..])
                .unwrap_or_else(|e| panic!("the log holds commands: {e:?}"));
            let Some(Value::Array(words)) = value else {
                panic!("half a command");
            };
            at += used;
            let words = words.iter().filter_map(Value::as_bytes);
            let words: Vec<Vec<u8>> = words.map(<[u8]>::to_vec).collect();
            match &words[..] {
                [name, db] if name == b"SELECT" => {
                    self.logged_db = String::from_utf8_lossy(db).parse().unwrap_or(-1);
                }
                _ => ops.push((self.logged_db, words)),
            }
        }
        ops
    }

    /// The process ends here and now, and another one starts on the same disk; it has begun to load.
    pub fn restart(&mut self) -> Result<(), Unloadable> {
        let config = self.server.config.clone();
        let mut io = std::mem::take(&mut self.world.io);
        let mut server = Server::new(config, crate::admin::table(), 1, &io);
        let begun = server.begin_loading(&mut io);
        self.server = server;
        self.next_cron_ns = io.mono_ns();
        self.world = World {
            io,
            jobs_held: self.world.jobs_held,
            ..World::default()
        };
        begun
    }

    /// Hands the server what has arrived on a connection, as the network does.
    fn read(&mut self, token: Token) {
        let mut data = self.world.unread.remove(&token).unwrap_or_default();
        let World { io, again, .. } = &mut self.world;
        let server = &mut self.server;
        while let Some(conn) = server.conns.get_mut(token) {
            if conn.session.marks.has(Marks::NOT_READ) {
                self.world.unread.insert(token, data);
                return;
            }
            if conn.session.marks.has(Marks::PENDING_INPUT) && conn.may_run() {
                if server.resume(io, token) {
                    again.push(token);
                    self.world.unread.insert(token, data);
                    return;
                }
                continue;
            }
            if data.is_empty() {
                return;
            }
            let Some(big) = &mut conn.big else {
                if server.feed(io, token, &std::mem::take(&mut data)) {
                    again.push(token);
                }
                return;
            };
            let rest = data.split_off(data.len().min(big.need - big.data.len()));
            big.data.append(&mut data);
            data = rest;
            if big.data.len() == big.need
                && let Some(big) = conn.big.take()
                && server.feed_big(io, token, Bytes::from(big.data))
            {
                again.push(token);
            }
        }
    }
}
