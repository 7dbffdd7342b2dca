//! The sockets: listeners and connections, and how bytes cross between them and the server.
//!
//! A read goes into one buffer that all connections share; what a connection has not used up stays
//! in its own. A read that fills less than the buffer has emptied the socket, so a request costs
//! one read and one write. Big arguments are read straight into the buffer that will be the value.
//! Each connection gets a bounded share of a turn; who has more goes to the back of the reactor's
//! ready queue. The turn is bounded too, whoever is ready: who was not reached comes first in the next,
//! and so do replies that were not written.
//!
//! A command that takes long polls from within ([`Net::poll`]), while what called it is still on the stack. So nothing here is
//! borrowed while commands run, and a turn within a turn has a lane of its own to read into.

mod dial;
mod doors;
mod exchange;
mod resolve;
mod sock;
mod tls;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Interest, Token as MioToken};
use rustix::net::SendFlags;
use socket2::SockRef;

use crate::ae::ReadyEvent;
use crate::cmd::session::Marks;
use crate::config::Config;
use crate::exec::conn::{Conn, Peer, Token};
use crate::exec::io::Io;
use crate::exec::server::Server;
use crate::exec::stats::Stats;

use doors::Guest;
use sock::Sock;
use tls::Refused;

pub use dial::Dialled;
pub use doors::Doors;
pub use exchange::exchange;
pub use resolve::{Resolver, first_address, first_address_within};

/// Tokens below this are listeners, the others connections.
const LISTENERS_MAX: usize = 64;
/// Bytes read from a connection before the others have their turn.
const READ_SHARE: usize = 32 * 1024;
/// Connections that are read before the first of them runs.
const GROUP: usize = 16;
/// After so long in a turn no other connection begins its share; nor after so many, for each has to be answered yet, which
/// takes longer than reading and running a short command.
const TURN_NS: u64 = 300_000;
const TURN_CONNS: usize = 4 * GROUP;
/// So long a turn writes.
const WRITING_NS: u64 = 250_000;
/// What one connection sent begins on a cache line of its own.
const CACHE_LINE: usize = 64;
/// Bytes of a big argument read before the others have their turn.
const BIG_SHARE: usize = 256 * 1024;
/// Bytes written to a connection before the others have their turn.
const WRITE_SHARE: usize = 256 * 1024;
/// Pieces of the stream given to one writev, blocks of mostly 16 KB.
const REPLICA_PIECES: usize = 16;
/// Pieces given to one writev.
const PIECES_MAX: usize = 64;
/// Nodes of the cluster accepted in a turn.
const NODES_PER_TURN: u32 = 1000;

/// Nothing is read from such a connection, or not the short way.
const UNREADABLE: Marks = Marks(
    Marks::CLOSE_ASAP.0
        | Marks::CLOSE_AFTER_REPLY.0
        | Marks::OPENING.0
        | Marks::NOT_READ.0
        | Marks::PROTECTED.0
        | Marks::TLS.0,
);

/// True of the caller of a script that is debugged where it is: what it sends is for the debugger.
fn types_while_protected(marks: Marks) -> bool {
    let unless = Marks(UNREADABLE.0 & !Marks::PROTECTED.0);
    marks.has(Marks::DEBUGGED) && !marks.has(unless)
}

/// What was read from a connection, and where in the shared buffer it lies.
struct Input {
    token: Token,
    at: usize,
    bytes: usize,
    /// The socket may hold more.
    more: bool,
}

/// Where what was read from a connection has gone.
#[derive(Clone, Copy)]
enum Dest {
    /// The buffer of the turn.
    Lane,
    /// Its own input buffer.
    Own,
    /// A big argument of it.
    Big,
}

/// The connections' sockets.
#[derive(Default)]
pub struct Net {
    socks: RefCell<Vec<Option<Sock>>>,
    /// For turns of the loop, and for those within them.
    lanes: [Lane; 2],
    /// A turn within a turn is under way.
    within: Cell<bool>,
    /// When the turn's time is over.
    until_ns: Cell<u64>,
    /// Links on their way.
    calls: RefCell<dial::Calls>,
    /// Of those connections that speak TLS.
    sessions: RefCell<tls::Sessions>,
}

/// What a turn reads into.
#[derive(Default)]
struct Lane {
    /// Room for a share of each connection of a group; pages that are never used are never resident. What was read lies
    /// close together, so that small requests of many connections stay in the first-level cache. Made when first needed.
    buf: RefCell<Box<[u8]>>,
    /// Those of the group that have yet to run.
    unrun: RefCell<VecDeque<Input>>,
}

impl Input {
    /// Its bytes in the buffer.
    fn of<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        &buf[self.at..][..self.bytes]
    }
}

impl Lane {
    /// Room for a share from `at` on.
    fn part<'b>(&self, buf: &'b mut Box<[u8]>, at: usize) -> &'b mut [u8] {
        if buf.is_empty() {
            *buf = vec![0; GROUP * READ_SHARE].into();
        }
        &mut buf[at..][..READ_SHARE]
    }

    /// The next one that is to run.
    fn next(&self) -> Option<Input> {
        self.unrun.borrow_mut().pop_front()
    }

    /// Fetches the memory that the commands of the group will look up.
    fn fetch_ahead(&self, server: &mut Server) {
        let (buf, unrun) = (self.buf.borrow(), self.unrun.borrow());
        if unrun.len() > 1 {
            server.fetch_ahead(unrun.iter().map(|input| (input.token, input.of(&buf))));
        }
    }

    /// Keeps what was read and has not run: it comes first in the next turn.
    fn keep_rest<O: Io + AsMut<Doors>>(&self, server: &mut Server, os: &mut O) {
        let buf = self.buf.borrow();
        let unrun = std::mem::take(&mut *self.unrun.borrow_mut());
        for input in unrun.iter().rev() {
            if server.keep(os, input.token, input.of(&buf)) || input.more {
                let token = MioToken(input.token.0 + LISTENERS_MAX);
                os.as_mut().reactor.put_back(token, input.more);
            }
        }
        // (Its memory is used again.)
        let mut unrun = unrun;
        unrun.clear();
        *self.unrun.borrow_mut() = unrun;
    }
}

impl Net {
    /// Acts on the reports of a turn, as far as its time goes. `os` lends the reactor and stands behind commands.
    ///
    /// Connections are read a group at a time before any of their commands runs, so that the memory
    /// which the commands of one group will look up can be fetched together.
    pub fn ready<O: Io + AsMut<Doors>>(&self, server: &mut Server, os: &mut O) {
        self.until_ns.set(server.now.mono_ns + TURN_NS);
        let lane = &self.lanes[usize::from(self.within.get())];
        for _ in 0..TURN_CONNS / GROUP {
            self.take_in_group(server, os, lane);
            lane.fetch_ahead(server);
            // Each command looks at the clock when it ends: there is no need to look again for each connection.
            server.tick(os);
            let in_time = |server: &Server| server.now.mono_ns < self.until_ns.get();
            while in_time(server) {
                let Some(input) = lane.next() else {
                    break;
                };
                self.run(server, os, lane, &input);
            }
            lane.keep_rest(server, os);
            if !in_time(server) || !os.as_mut().reactor.has_reports() {
                return;
            }
        }
    }

    /// A turn within a turn: whoever was read already and waits for the command that takes long comes first.
    pub fn poll<O: Io + AsMut<Doors>>(&self, server: &mut Server, os: &mut O) {
        if self.within.replace(true) {
            return;
        }
        self.lanes[0].keep_rest(server, os);
        match os.as_mut().reactor.wait(Some(Duration::ZERO)) {
            Ok(()) => self.ready(server, os),
            // The loop will meet it again and end.
            Err(e) => log::debug!("The event loop can't be polled: {e}"),
        }
        self.within.set(false);
    }

    /// Reads a group of connections. Those who acted at once, such as a listener, may have used up the time.
    fn take_in_group<O: Io + AsMut<Doors>>(&self, server: &mut Server, os: &mut O, lane: &Lane) {
        let mut free_at = 0;
        for _ in 0..GROUP {
            let Some(event) = os.as_mut().reactor.next() else {
                break;
            };
            if let Some(input) = self.take_in(server, os, &event, lane, free_at) {
                free_at = (input.at + input.bytes).next_multiple_of(CACHE_LINE);
                lane.unrun.borrow_mut().push_back(input);
            } else if os.mono_ns() >= self.until_ns.get() {
                break;
            }
        }
    }

    /// Runs what a connection sent.
    fn run<O: Io + AsMut<Doors>>(
        &self,
        server: &mut Server,
        os: &mut O,
        lane: &Lane,
        input: &Input,
    ) {
        let buf = lane.buf.borrow();
        let more = server.feed(os, input.token, input.of(&buf));
        self.goes_on(server, os, input.token, more || input.more);
    }

    /// A connection has had its share: it comes again if it has more, or if a big argument is to be read.
    fn goes_on<O: Io + AsMut<Doors>>(&self, server: &Server, os: &mut O, token: Token, more: bool) {
        let filling = |conn: &Conn| conn.big.is_some();
        if more || server.conns.get(token).is_some_and(filling) {
            self.again(os.as_mut(), token);
        }
    }

    /// Acts on one report, but for running what a connection sent: that is handed back, its bytes from
    /// `at` on in the buffer.
    fn take_in<O: Io + AsMut<Doors>>(
        &self,
        server: &mut Server,
        os: &mut O,
        event: &ReadyEvent,
        lane: &Lane,
        at: usize,
    ) -> Option<Input> {
        if event.token.0 < LISTENERS_MAX {
            self.accept(server, os, event.token);
            return None;
        }
        let token = Token(event.token.0 - LISTENERS_MAX);
        if (event.writable || event.error)
            && let Some(conn) = server.conns.get_mut(token)
            && conn.write_blocked
        {
            if conn.session.marks.has(Marks::OPENING) {
                self.answered(server, os, token);
                return None;
            }
            conn.write_blocked = false;
            let is_secure = conn.session.marks.has(Marks::TLS);
            if !is_secure || self.flush_session(server, os, token) {
                server.wants_write(token);
            }
        }
        let to_the_end = event.read_closed || event.error;
        if event.readable || to_the_end {
            return self.read(server, os, token, to_the_end, lane, at);
        }
        if event.kept {
            let more = server.resume(os, token);
            self.goes_on(server, os, token, more);
        }
        None
    }

    fn accept<O: Io + AsMut<Doors>>(&self, server: &mut Server, os: &mut O, listener: MioToken) {
        for accepted in 1.. {
            let Some(guest) = os.as_mut().accept(listener) else {
                return;
            };
            let mut most = NODES_PER_TURN;
            match guest {
                Ok(Guest::Client(sock, addr)) => {
                    most = server.config.max_new_connections_per_cycle;
                    self.welcome(server, os, sock, addr);
                }
                Ok(Guest::Secure(stream, addr)) => {
                    most = server.config.max_new_tls_connections_per_cycle;
                    self.welcome_secure(server, os, stream, addr);
                }
                Ok(Guest::Node(sock, addr)) => self.welcome_node(server, os, sock, addr),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(e) => {
                    log::warn!(
                        "Accepting client connection: {}",
                        crate::base::errno::text(&e)
                    );
                    os.as_mut().stall(listener);
                    return;
                }
            }
            if accepted >= most || os.mono_ns() >= self.until_ns.get() {
                break;
            }
        }
        os.as_mut().reactor.again(listener);
    }

    fn welcome<O: Io + AsMut<Doors>>(
        &self,
        server: &mut Server,
        os: &mut O,
        sock: Sock,
        addr: Option<SocketAddr>,
    ) {
        let peer = peer_of(&sock, addr, &server.config);
        let token = match server.connect(peer) {
            Ok(token) => token,
            Err(why) => {
                // A fresh socket takes this much; if not, the client only misses the reason.
                let _ = rustix::net::send(&sock, why, SendFlags::NOSIGNAL);
                return;
            }
        };
        if let Sock::Tcp(s) = &sock {
            tune(s, &server.config);
        }
        if let Err(e) = self.put(os.as_mut(), token, sock) {
            log::warn!(
                "Error registering fd event for the new client connection: {}",
                crate::base::errno::text(&e)
            );
            server.disconnect(token);
        }
    }

    /// Another node of the cluster has connected.
    fn welcome_node<O: Io + AsMut<Doors>>(
        &self,
        server: &mut Server,
        os: &mut O,
        sock: Sock,
        addr: SocketAddr,
    ) {
        let peer = peer_of(&sock, Some(addr), &server.config);
        let session = match self.bus_session(server, os, &peer) {
            Ok(session) => session,
            Err(Refused) => return,
        };
        let Some(token) = server.connect_bus(peer) else {
            return;
        };
        if let Sock::Tcp(stream) = &sock {
            let interval_s = server.config.cluster_node_timeout / 1000 * 2;
            tune_for(stream, interval_s);
        }
        if let Err(e) = self.put(os.as_mut(), token, sock) {
            server.lose(token, crate::base::errno::text(&e));
        } else if let Some(session) = session {
            self.secure(server, os, token, session);
        }
    }

    /// Keeps a connection's socket, and has the reactor report on it.
    fn put(&self, doors: &mut Doors, token: Token, mut sock: Sock) -> io::Result<()> {
        let mio_token = MioToken(token.0 + LISTENERS_MAX);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = match &mut sock {
            Sock::Tcp(s) => doors.reactor.register(s, mio_token, interest),
            Sock::Unix(s) => doors.reactor.register(s, mio_token, interest),
        };
        let mut socks = self.socks.borrow_mut();
        if socks.len() <= token.0 {
            socks.resize_with(token.0 + 1, || None);
        }
        socks[token.0] = Some(sock);
        registered
    }

    fn read<O: Io + AsMut<Doors>>(
        &self,
        server: &mut Server,
        os: &mut O,
        token: Token,
        to_the_end: bool,
        lane: &Lane,
        at: usize,
    ) -> Option<Input> {
        let conn = server.conns.get_mut(token)?;
        let marks = conn.session.marks;
        if marks.has(UNREADABLE) && !types_while_protected(marks) {
            return self.read_otherwise(server, os, token, to_the_end, lane, at);
        }
        if marks.has(Marks::PENDING_INPUT) && conn.may_run() {
            // What is here already comes before what the socket holds.
            server.resume(os, token);
            self.again(os.as_mut(), token);
            return None;
        }
        server.stats.reads += 1;
        let (result, into) = {
            let mut socks = self.socks.borrow_mut();
            let sock = socks.get_mut(token.0)?.as_mut()?;
            match &mut conn.big {
                Some(big) => {
                    let most = (big.need - big.data.len()).min(BIG_SHARE);
                    (sock.read_more(&mut big.data, most), Dest::Big)
                }
                // The rest of a command comes behind what there is of it: it need not be copied there.
                None if !conn.input.is_empty() && !marks.has(Marks::LINK) => {
                    (sock.read_more(&mut conn.input, READ_SHARE), Dest::Own)
                }
                None => {
                    let buf = &mut lane.buf.borrow_mut();
                    (sock.read(lane.part(buf, at)), Dest::Lane)
                }
            }
        };
        let more = to_the_end || matches!(result, Ok(READ_SHARE));
        let input = Input {
            token,
            at,
            bytes: 0,
            more,
        };
        self.was_read(server, os, token, result, into, input)
    }

    /// What came of reading from a connection. In the lane it lies as `input` says, but for its length.
    #[inline]
    fn was_read<O: Io + AsMut<Doors>>(
        &self,
        server: &mut Server,
        os: &mut O,
        token: Token,
        result: io::Result<usize>,
        into: Dest,
        input: Input,
    ) -> Option<Input> {
        match result {
            Ok(0) => {
                log::debug!("Client closed connection {}", server.client_line(token));
                server.disconnect(token);
            }
            Ok(bytes) => match into {
                Dest::Lane => return Some(Input { bytes, ..input }),
                Dest::Own => {
                    server.note_input(token, bytes);
                    return Some(input);
                }
                Dest::Big => {
                    server.note_input(token, bytes);
                    self.filled_big(server, os, token);
                    self.again(os.as_mut(), token);
                }
            },
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(e) => {
                let why = crate::base::errno::text(&e);
                log::debug!("Reading from client: {why}");
                server.lose(token, why);
            }
        }
        None
    }

    /// Hands a big argument over once it is complete.
    fn filled_big<O: Io + AsMut<Doors>>(&self, server: &mut Server, os: &mut O, token: Token) {
        let Some(conn) = server.conns.get_mut(token) else {
            return;
        };
        if let Some(big) = conn.big.take_if(|big| big.data.len() >= big.need) {
            server.feed_big(os, token, Bytes::from(big.data));
        }
    }

    /// Writes what connections have to say, each up to its share, as far as the time goes: who was not reached comes
    /// first in the next turn.
    pub fn flush<O: Io + AsMut<Doors>>(&self, server: &mut Server, os: &mut O) {
        let mut pending = std::mem::take(&mut server.pending_writes);
        let until_ns = os.mono_ns() + WRITING_NS;
        let mut written = 0;
        for &token in &pending {
            self.write(server, os, token);
            written += 1;
            if os.mono_ns() >= until_ns {
                break;
            }
        }
        pending.drain(..written);
        // (Nothing is queued while writing.)
        pending.append(&mut server.pending_writes);
        server.pending_writes = pending;
    }

    fn write<O: Io + AsMut<Doors>>(&self, server: &mut Server, os: &mut O, token: Token) {
        let now_s = server.now.s();
        let Some(conn) = server.conns.get_mut(token) else {
            return;
        };
        conn.write_queued = false;
        if conn.session.marks.has(Marks::CLOSE_ASAP) || conn.write_blocked {
            return;
        }
        if conn.session.marks.has(Marks::REPLICA | Marks::TLS) {
            self.write_otherwise(server, os, token);
            return;
        }
        let mut socks = self.socks.borrow_mut();
        let Some(sock) = socks.get_mut(token.0).and_then(Option::as_mut) else {
            return;
        };
        conn.note_reply_peak();
        let until = conn.free_until(server.aof.durable);
        let mut written = 0;
        while !conn.reply.is_empty() && conn.reply.start() < until {
            if written >= WRITE_SHARE {
                os.as_mut()
                    .reactor
                    .again_write(MioToken(token.0 + LISTENERS_MAX));
                conn.write_blocked = true;
                break;
            }
            server.stats.writes += 1;
            match sock.write(&conn.reply, until) {
                Ok(n) => {
                    conn.reply.advance(n);
                    written += n;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    conn.write_blocked = true;
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let why = crate::base::errno::text(&e);
                    log::debug!("Error writing to client: {why}");
                    server.lose(token, why);
                    return;
                }
            }
        }
        match note_written(conn, &mut server.stats, now_s, written) {
            true => server.disconnect(token),
            false => server.recount(token),
        }
    }

    /// Writes to a replica: first what is meant for it alone, then the stream, straight from where it is kept.
    fn write_to_replica<O: Io + AsMut<Doors>>(
        &self,
        server: &mut Server,
        os: &mut O,
        token: Token,
    ) {
        let flows = server.may_flow(token);
        let mut socks = self.socks.borrow_mut();
        let mut sessions = self.sessions.borrow_mut();
        let mut session = sessions.of(token);
        let Some(sock) = socks.get_mut(token.0).and_then(Option::as_mut) else {
            return;
        };
        let (Some(conn), history) = (server.conns.get_mut(token), &mut server.repl.history) else {
            return;
        };
        let mut written = 0;
        let lost = loop {
            let mut slices = [IoSlice::new(&[]); REPLICA_PIECES];
            let own = !conn.reply.is_empty();
            let n = match history.backlog() {
                _ if own => conn.reply.io_slices(u64::MAX, &mut slices),
                Some(backlog) if flows => backlog.io_slices(token, &mut slices),
                _ => 0,
            };
            if n == 0 {
                conn.write_blocked |= session.as_ref().is_some_and(|s| s.wants_flush());
                break None;
            }
            if written >= WRITE_SHARE {
                os.as_mut()
                    .reactor
                    .again_write(MioToken(token.0 + LISTENERS_MAX));
                conn.write_blocked = true;
                break None;
            }
            server.stats.writes += 1;
            let sent = match (&mut session, &mut *sock) {
                (Some(session), Sock::Tcp(stream)) => tls::send(session, stream, &slices[..n]),
                (_, sock) => sock.write_slices(&slices[..n]),
            };
            match sent {
                Ok(n) => {
                    written += n;
                    match (own, history.backlog_mut()) {
                        (false, Some(backlog)) => backlog.advance(token, n),
                        _ => conn.reply.advance(n),
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    conn.write_blocked = true;
                    break None;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Some(e),
            }
        };
        conn.net_output += written as u64;
        conn.kept = conn.reply.mark();
        if written > 0 {
            conn.active_s = server.now.s();
        }
        let done = conn.reply.is_empty()
            && conn.session.marks.has(Marks::CLOSE_AFTER_REPLY)
            && !conn.write_blocked;
        server.stats.net_repl_output += written as u64;
        if let Some(e) = &lost {
            log::debug!("Error writing to client: {}", crate::base::errno::text(e));
        }
        if lost.is_some() || done {
            server.disconnect(token);
        }
    }

    /// Lets small writes to a connection be gathered into larger packets.
    pub fn gather(&self, token: Token) {
        if let Some(Some(Sock::Tcp(stream))) = self.socks.borrow().get(token.0) {
            // Not doing so costs packets, nothing else.
            let _ = stream.set_nodelay(false);
        }
    }

    /// Closes the socket of a connection that the server has let go of.
    pub fn close(&self, doors: &mut Doors, token: Token) {
        self.calls.borrow_mut().give_up(token);
        self.drop_sock(doors, token);
    }

    fn drop_sock(&self, doors: &mut Doors, token: Token) {
        let mut socks = self.socks.borrow_mut();
        let Some(sock) = socks.get_mut(token.0).and_then(Option::take) else {
            return;
        };
        self.sessions.borrow_mut().close(token, &sock);
        let mio_token = MioToken(token.0 + LISTENERS_MAX);
        let _ = match sock {
            Sock::Tcp(mut s) => doors.reactor.deregister(&mut s, mio_token),
            Sock::Unix(mut s) => doors.reactor.deregister(&mut s, mio_token),
        };
    }

    /// The connection has input left that waited for a command to end: read on when its turn comes.
    pub fn again(&self, doors: &mut Doors, token: Token) {
        doors.reactor.again(MioToken(token.0 + LISTENERS_MAX));
    }
}

/// So many bytes of a connection's reply are on their way; true if it is to be closed now.
#[inline]
fn note_written(conn: &mut Conn, stats: &mut Stats, now_s: u64, written: usize) -> bool {
    stats.net_output += written as u64;
    conn.net_output += written as u64;
    if written > 0 && !conn.session.marks.has(Marks::MASTER) {
        conn.active_s = now_s;
    }
    conn.kept = conn.reply.mark();
    if !conn.reply.is_empty() {
        return false;
    }
    conn.soft_limit_since = None;
    // (Blocked though there is no reply: a session of TLS still holds some of it.)
    conn.session.marks.has(Marks::CLOSE_AFTER_REPLY) && !conn.write_blocked
}

fn peer_of(sock: &Sock, addr: Option<SocketAddr>, config: &Config) -> Peer {
    let fd = sock.fd();
    match (sock, addr) {
        (Sock::Tcp(s), Some(addr)) => {
            let addr = canonical(addr);
            Peer {
                addr: addr.to_string(),
                laddr: s
                    .local_addr()
                    .map_or_else(|_| "?:0".into(), |a| canonical(a).to_string()),
                fd,
                unix_socket: false,
                loopback: addr.ip().is_loopback(),
            }
        }
        _ => {
            let name = format!("{}:0", config.unixsocket.lossy());
            Peer {
                addr: name.clone(),
                laddr: name,
                fd,
                unix_socket: true,
                loopback: true,
            }
        }
    }
}

/// An IPv4 address that came in through an IPv6 socket is shown as what it is.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn tune(stream: &TcpStream, config: &Config) {
    tune_for(stream, u64::from(config.tcp_keepalive));
}

/// Sends at once, and finds out after about so many seconds of silence whether the other side is there; 0: never.
fn tune_for(stream: &TcpStream, interval_s: u64) {
    let _ = stream.set_nodelay(true);
    if interval_s > 0 {
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(interval_s))
            .with_interval(Duration::from_secs((interval_s / 3).max(1)))
            .with_retries(3);
        let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
    }
}
