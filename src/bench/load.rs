//! The load: many connections, each with one pipeline of requests on its way at a time.
//!
//! A thread waits for all its connections at once. When a connection's last reply is there, its next request is written at
//! once, without asking whether the socket has room: it has, since the server has read the one before. So a request costs
//! two system calls and its part of a wait. Threads share two counts, of the requests that were given out and of those
//! that are answered; each keeps the latencies of its own.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::net::{TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Token, event::Source};

use super::cluster::Masters;
use super::options::Options;
use super::replies::{Malformed, Replies};
use super::report::Latencies;
use super::request::Request;
use crate::base::errno;
use crate::base::rng::Rng;
use crate::base::time::Clock;
use crate::cli::out::{self, Stop, complain, lossy, say};
use crate::cli::socket::Socket;
use crate::tls::{Caller, Line, Session};

const PROGRESS_MS: u64 = 250;
const READ_MAX: usize = 64 * 1024;
/// So many connections are opened at once; a server's queue of new ones is short.
const BURST: usize = 64;

/// Where the connections go.
#[derive(Debug, Clone)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(Vec<u8>),
}

/// A test: what is to be sent, to whom, and by how many.
pub struct Load<'a> {
    pub options: &'a Options,
    pub target: &'a Target,
    /// In a cluster, connections go to its masters instead.
    pub masters: Option<&'a Masters>,
    /// Who speaks TLS, if that is wanted.
    pub caller: Option<&'a Caller>,
    pub title: &'a str,
    /// What a new connection says first, and how many replies that has.
    pub greeting: (&'a [u8], u64),
    pub request: Request,
    pub clock: &'a Clock,
}

/// What a test gave.
pub struct Measured {
    pub finished: u64,
    pub took_ms: u64,
    pub latencies: Histogram<u64>,
    /// Characters of the last line of progress.
    pub progress_len: usize,
}

/// What the threads share.
struct Shared {
    issued: AtomicI64,
    finished: AtomicI64,
    alive: AtomicI64,
    /// When the last of them was answered; 0 before.
    done_ms: AtomicU64,
    /// Somebody said that it is over.
    stop: AtomicBool,
    progress_len: AtomicU64,
    latencies: Vec<Mutex<Latencies>>,
}

fn lock(latencies: &Mutex<Latencies>) -> MutexGuard<'_, Latencies> {
    latencies.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load<'_> {
    /// Runs it to its end.
    pub fn run(&self, rng: &mut Rng) -> Result<Measured, Stop> {
        let threads = usize::try_from(self.options.threads).unwrap_or(0).max(1);
        let latencies: Option<Vec<_>> = (0..threads)
            .map(|_| Latencies::new(self.options.precision).map(Mutex::new))
            .collect();
        let shared = Shared {
            issued: AtomicI64::new(0),
            finished: AtomicI64::new(0),
            alive: AtomicI64::new(0),
            done_ms: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            progress_len: AtomicU64::new(0),
            latencies: latencies.ok_or(Stop(1))?,
        };
        let clients = usize::try_from(self.options.clients).unwrap_or(0).max(1);
        let from_ms = self.now_ms();
        let mut workers = Vec::new();
        for index in 0..threads {
            let own = (clients + threads - 1 - index) / threads;
            workers.push(Worker::new(self, &shared, index, own, rng.fork())?);
        }
        match threads {
            1 => workers.remove(0).run(from_ms)?,
            _ => std::thread::scope(|scope| {
                let running: Vec<_> = workers
                    .into_iter()
                    .map(|worker| scope.spawn(move || worker.run(from_ms)))
                    .collect();
                let ended = running.into_iter().map(|thread| match thread.join() {
                    Ok(result) => result,
                    Err(_) => Err(Stop(1)),
                });
                // All of them end before the first that failed is told.
                let all: Vec<Result<(), Stop>> = ended.collect();
                all.into_iter().collect::<Result<(), Stop>>()
            })?,
        }
        let done_ms = match shared.done_ms.load(Relaxed) {
            0 => self.now_ms(),
            done_ms => done_ms,
        };
        let took_ms = done_ms.saturating_sub(from_ms);
        let mut all = lock(&shared.latencies[0]).all.clone();
        for other in &shared.latencies[1..] {
            // (Made alike, they always fit.)
            let _ = all.add(&lock(other).all);
        }
        Ok(Measured {
            finished: u64::try_from(shared.finished.load(Relaxed)).unwrap_or(0),
            took_ms,
            latencies: all,
            progress_len: shared.progress_len.load(Relaxed) as usize,
        })
    }

    fn now_ms(&self) -> u64 {
        self.clock.mono_ns() / 1_000_000
    }

    fn requests(&self) -> i64 {
        i64::from(self.options.requests)
    }

    /// The place in the cluster of a thread's client, if there is one: a thread is for one master, if there are enough.
    fn master_of(&self, thread: usize, client: usize) -> Option<usize> {
        let masters = self.masters?.all.len();
        let threads = usize::try_from(self.options.threads).unwrap_or(0).max(1);
        match threads < masters {
            true => Some((client * threads + thread) % masters),
            false => Some(thread % masters),
        }
    }

    fn target(&self, master: Option<usize>) -> &Target {
        let master = master.and_then(|at| self.masters?.all.get(at));
        master.map_or(self.target, |master| &master.target)
    }

    fn connect(&self, master: Option<usize>) -> Result<Stream, Stop> {
        let connected = match self.target(master) {
            Target::Tcp(address) => TcpStream::connect(*address).map(|stream| {
                // A connection that will not be quick is still one.
                let _ = stream.set_nodelay(true);
                Socket::Tcp(stream)
            }),
            Target::Unix(path) => {
                UnixStream::connect(std::ffi::OsStr::from_bytes(path)).map(Socket::Unix)
            }
        };
        let socket = connected.map_err(|error| {
            let (place, why) = (self.place(master), errno::text(&error));
            complain!("Could not connect to Redis at {place}: {why}\n");
            Stop(1)
        })?;
        let Some(caller) = self.caller else {
            return Ok(Line::Plain(socket));
        };
        let session = caller.call().map_err(|why| {
            complain!("Could not negotiate a TLS connection: {why}\n");
            Stop(1)
        })?;
        Ok(Line::secure(socket, session))
    }

    fn place(&self, master: Option<usize>) -> String {
        if let Some(master) = master.and_then(|at| self.masters?.all.get(at)) {
            return master.place();
        }
        let place = &self.options.place;
        match self.target {
            Target::Tcp(_) => format!("{}:{}", lossy(&place.host), place.port),
            Target::Unix(path) => lossy(path).into_owned(),
        }
    }
}

type Stream = Line<Socket<TcpStream, UnixStream>>;

fn source(stream: &mut Stream) -> &mut dyn Source {
    match stream.sock_mut() {
        Socket::Tcp(socket) => socket,
        Socket::Unix(socket) => socket,
    }
}

struct Client {
    stream: Stream,
    /// Which master it is for, in a cluster.
    master: Option<usize>,
    /// How often the cluster's slots had been asked for when its request began.
    slots_seen: u64,
    request: Request,
    replies: Replies,
    /// Bytes of the greeting and the request that were written; the first is sent once.
    greeting_left: usize,
    written: usize,
    /// Whether a request is on its way or was given out.
    busy: bool,
    greetings_pending: u64,
    pending: u64,
    started_us: u64,
    /// How long the first bytes of the answer took.
    latency_us: Option<u64>,
}

struct Worker<'a> {
    load: &'a Load<'a>,
    shared: &'a Shared,
    index: usize,
    poll: Poll,
    clients: Vec<Option<Client>>,
    rng: Rng,
    buf: Vec<u8>,
    next_progress_ms: u64,
    progress: Progress,
}

/// Where the last line of progress stood.
struct Progress {
    at_ms: u64,
    finished: i64,
}

fn broken(error: &io::Error) -> Stop {
    complain!("Error: {}\n", errno::text(error));
    Stop(1)
}

impl<'a> Worker<'a> {
    fn new(
        load: &'a Load<'a>,
        shared: &'a Shared,
        index: usize,
        clients: usize,
        rng: Rng,
    ) -> Result<Worker<'a>, Stop> {
        let now_ms = load.now_ms();
        let mut worker = Worker {
            load,
            shared,
            index,
            poll: Poll::new().map_err(|error| broken(&error))?,
            clients: Vec::new(),
            rng,
            buf: vec![0; READ_MAX],
            next_progress_ms: now_ms + 1,
            progress: Progress {
                at_ms: now_ms,
                finished: 0,
            },
        };
        for at in 0..clients {
            if at > 0 && at % BURST == 0 {
                std::thread::sleep(Duration::from_millis(50));
            }
            worker.clients.push(None);
            worker.open(at)?;
        }
        Ok(worker)
    }

    /// Opens the connection of a place.
    fn open(&mut self, at: usize) -> Result<(), Stop> {
        let master = self.load.master_of(self.index, at);
        let mut stream = self.load.connect(master)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        registry
            .register(source(&mut stream), Token(at), interest)
            .map_err(|error| broken(&error))?;
        let (greeting, replies) = self.load.greeting;
        self.shared.alive.fetch_add(1, Relaxed);
        self.clients[at] = Some(Client {
            stream,
            master,
            slots_seen: 0,
            request: self.load.request.clone(),
            replies: Replies::default(),
            greeting_left: greeting.len(),
            written: 0,
            busy: false,
            greetings_pending: replies,
            pending: 0,
            started_us: 0,
            latency_us: None,
        });
        Ok(())
    }

    fn close(&mut self, at: usize) {
        if let Some(mut client) = self.clients[at].take() {
            let _ = self.poll.registry().deregister(source(&mut client.stream));
            self.shared.alive.fetch_sub(1, Relaxed);
        }
    }

    fn is_over(&self) -> bool {
        let idle = self.load.options.idle;
        self.shared.stop.load(Relaxed)
            || (!idle && self.shared.finished.load(Relaxed) >= self.load.requests())
    }

    fn run(mut self, from_ms: u64) -> Result<(), Stop> {
        let result = self.turns(from_ms);
        if result.is_err() {
            self.shared.stop.store(true, Relaxed);
        }
        result
    }

    fn turns(&mut self, from_ms: u64) -> Result<(), Stop> {
        let mut events = Events::with_capacity(1024);
        while !self.is_over() {
            let now_ms = self.load.now_ms();
            if now_ms >= self.next_progress_ms {
                self.next_progress_ms = now_ms + PROGRESS_MS;
                self.show_progress(from_ms, now_ms)?;
            }
            let wait_ms = self.next_progress_ms.saturating_sub(now_ms).max(1);
            match self
                .poll
                .poll(&mut events, Some(Duration::from_millis(wait_ms)))
            {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(broken(&error));
                }
                _ => {}
            }
            for event in &events {
                let at = event.token().0;
                let shaking =
                    |client: &Client| client.stream.session().is_some_and(Session::is_handshaking);
                if self.clients[at].as_ref().is_some_and(shaking) {
                    if !self.shake(at)? {
                        continue;
                    }
                    self.write(at);
                } else if event.is_writable() {
                    self.write(at);
                }
                if event.is_readable() {
                    self.read(at)?;
                }
                if self.is_over() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Carries a connection's handshake on: whether it is over.
    fn shake(&mut self, at: usize) -> Result<bool, Stop> {
        let Some(client) = &mut self.clients[at] else {
            return Ok(false);
        };
        client.stream.shake().map_err(|error| {
            let place = self.load.place(client.master);
            let why = errno::text(&error);
            complain!("Could not connect to Redis at {place}: SSL_connect failed: {why}\n");
            Stop(1)
        })
    }

    /// Begins a request if there is none on its way, and writes what is left of it.
    fn write(&mut self, at: usize) {
        let options = self.load.options;
        let Some(client) = &mut self.clients[at] else {
            return;
        };
        if options.idle {
            return;
        }
        if !client.busy {
            let pipeline = i64::from(options.pipeline);
            if self.shared.issued.fetch_add(pipeline, Relaxed) >= self.load.requests() {
                return;
            }
            if let Some(range) = options.keyspace {
                client.request.randomize(range, &mut self.rng);
            }
            if let (Some(masters), Some(at)) = (self.load.masters, client.master) {
                client.request.put_tag(masters.all[at].tag());
                client.slots_seen = masters.asked();
            }
            client.busy = true;
            client.pending = pipeline as u64;
            client.written = 0;
            client.latency_us = None;
            client.started_us = self.load.clock.mono_ns() / 1000;
        }
        if let Err(error) = client.send(self.load.greeting.0) {
            if error.kind() != io::ErrorKind::BrokenPipe {
                let why = errno::text(&error);
                complain!("Error writing to the server: {why}\n");
            }
            self.close(at);
        }
    }

    fn read(&mut self, at: usize) -> Result<(), Stop> {
        loop {
            let Some(client) = &mut self.clients[at] else {
                return Ok(());
            };
            let n = match client.stream.read(&mut self.buf) {
                Ok(0) => {
                    complain!("Error: Server closed the connection\n");
                    return Err(Stop(1));
                }
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(&error)),
            };
            let latency_us = client.latency_us.get_or_insert_with(|| {
                let now_us = self.load.clock.mono_ns() / 1000;
                now_us.saturating_sub(client.started_us)
            });
            let latency_us = *latency_us;
            let (shared, requests) = (self.shared, self.load.requests());
            let mut latencies = lock(&shared.latencies[self.index]);
            let (greetings, pending) = (&mut client.greetings_pending, &mut client.pending);
            let refused = Refused {
                load: self.load,
                master: client.master,
                slots_seen: client.slots_seen,
                has_tags: client.request.has_tags(),
            };
            let replied = client.replies.read(&self.buf[..n], |error| {
                if let Some(text) = error {
                    refused.with(&text)?;
                }
                if *greetings > 0 {
                    *greetings -= 1;
                    return Ok(());
                }
                if shared.finished.fetch_add(1, Relaxed) < requests {
                    latencies.record(latency_us);
                }
                *pending = pending.saturating_sub(1);
                Ok(())
            });
            drop(latencies);
            match replied {
                Ok(result) => result?,
                Err(Malformed) => {
                    complain!("Error: Protocol error\n");
                    return Err(Stop(1));
                }
            }
            let done = client.busy && client.pending == 0 && client.greetings_pending == 0;
            if done && self.is_over() {
                // (Other threads may sleep on a little.)
                let done_ms = &self.shared.done_ms;
                let _ = done_ms.compare_exchange(0, self.load.now_ms(), Relaxed, Relaxed);
            } else if done {
                self.next_request(at)?;
            }
            let has_more = |client: &Client| client.stream.session().is_some_and(Session::has_more);
            if n < self.buf.len() && !self.clients[at].as_ref().is_some_and(has_more) {
                return Ok(());
            }
        }
    }

    /// A request was answered: on to the next, over a new connection if none is kept.
    fn next_request(&mut self, at: usize) -> Result<(), Stop> {
        if self.load.options.keep_alive == 0 {
            self.close(at);
            return self.open(at);
        }
        if let Some(client) = &mut self.clients[at] {
            client.busy = false;
        }
        self.write(at);
        Ok(())
    }

    fn show_progress(&mut self, from_ms: u64, now_ms: u64) -> Result<(), Stop> {
        let options = self.load.options;
        let finished = self.shared.finished.load(Relaxed);
        let alive = self.shared.alive.load(Relaxed);
        if alive == 0 && finished != self.load.requests() {
            complain!("All clients disconnected... aborting.\n");
            return Err(Stop(1));
        }
        if options.csv || self.index != 0 {
            return Ok(());
        }
        if options.idle {
            say!("clients: {alive}\r");
            out::flush();
            return Ok(());
        }
        let per_s = |count: i64, ms: u64| count as f64 / (ms as f64 / 1000.0);
        let overall = per_s(finished, now_ms.saturating_sub(from_ms));
        let lately = per_s(
            finished - self.progress.finished,
            now_ms.saturating_sub(self.progress.at_ms),
        );
        self.progress = Progress {
            at_ms: now_ms,
            finished,
        };
        let (mean, mean_lately) = self.means();
        let before = self.shared.progress_len.load(Relaxed) as usize;
        let line = format!(
            "{}: rps={lately:.1} (overall: {overall:.1}) avg_msec={mean_lately:.3} (overall: {mean:.3})\r",
            self.load.title
        );
        say!("{:>before$}\r{line}", " ");
        self.shared.progress_len.store(line.len() as u64, Relaxed);
        out::flush();
        Ok(())
    }

    /// The mean latencies in milliseconds, of all threads: overall, and since they were last asked for.
    fn means(&self) -> (f64, f64) {
        let (mut all, mut lately) = ((0.0, 0), (0.0, 0));
        for latencies in &self.shared.latencies {
            let mut latencies = lock(latencies);
            for (sum, h) in [(&mut all, &latencies.all), (&mut lately, &latencies.lately)] {
                sum.0 += h.mean() * h.len() as f64;
                sum.1 += h.len();
            }
            latencies.lately.reset();
        }
        let mean = |(sum, n): (f64, u64)| if n == 0 { 0.0 } else { sum / n as f64 / 1000.0 };
        (mean(all), mean(lately))
    }
}

/// What an error means to a connection.
struct Refused<'a> {
    load: &'a Load<'a>,
    master: Option<usize>,
    slots_seen: u64,
    has_tags: bool,
}

impl Refused<'_> {
    /// A cluster may only have changed; anything else would make the results worthless.
    fn with(&self, words: &[u8]) -> Result<(), Stop> {
        let (load, words) = (self.load, lossy(words));
        let Some((masters, at)) = load.masters.zip(self.master) else {
            complain!("Error from server: {words}\n");
            return Err(Stop(1));
        };
        let place = masters.all[at].place();
        let is_down = words.starts_with("CLUSTERDOWN");
        let has_moved = words.starts_with("MOVED") || words.starts_with("ASK");
        if !self.has_tags {
            complain!("Error from server {place}: {words}\n");
            return Err(Stop(1));
        }
        if is_down {
            // It usually recovers.
            complain!("Error from server {place}: {words}.\n");
            std::thread::sleep(Duration::from_secs(1));
        }
        match is_down || has_moved {
            true => masters.ask_again(load.options, self.slots_seen),
            false => Ok(()),
        }
    }
}

impl Client {
    /// Writes what is left, as far as there is room.
    fn send(&mut self, greeting: &[u8]) -> io::Result<()> {
        loop {
            let greeting = &greeting[greeting.len().saturating_sub(self.greeting_left)..];
            let bytes = match greeting.is_empty() {
                true => &self.request.bytes[self.written..],
                false => greeting,
            };
            if bytes.is_empty() {
                // What TLS holds goes as far as there is room.
                return match self.stream.flush() {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
                    flushed => flushed,
                };
            }
            match self.stream.write(bytes) {
                Ok(n) if self.greeting_left > 0 => self.greeting_left -= n,
                Ok(n) => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
