//! Connections that speak TLS. What the rest of the server sees of them are the bytes that are meant; here these become
//! those that the socket carries.
//!
//! Such a connection has a session beside its socket, under the same token, and the mark `TLS`. The mark is among those that
//! [`Net::read`] and [`Net::write`] look for anyway before they go the short way, so that a plain connection pays nothing
//! for there being others. While the handshake is under way the connection is `SHAKING`: whatever the socket reports
//! carries it on, and nobody hears of the connection but the client's place in the lists. A link is `OPENING` until then.
//!
//! ```text
//! accepted ──▶ SHAKING ──▶ let in (or told by protected mode why not)
//! called   ──▶ OPENING ──▶ connected ──▶ SHAKING, OPENING ──▶ its owner hears
//! ```
//! A reply counts as written when the session has taken it. What the socket has not taken of that leaves with the next room
//! to write, and only then does a connection close that was to close after its reply.

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use mio::net::TcpStream;

use super::{
    BIG_SHARE, Dest, Doors, Input, LISTENERS_MAX, Lane, MioToken, Net, PIECES_MAX, READ_SHARE,
    Sock, UNREADABLE, WRITE_SHARE, note_written, tune, types_while_protected,
};
use crate::base::errno;
use crate::cmd::session::Marks;
use crate::config::TlsAuthClients;
use crate::exec::conn::{Peer, Token};
use crate::exec::io::Io;
use crate::exec::server::Server;
use crate::tls::{Room, Session};

/// A connection can't be had; why is in the log.
pub(super) struct Refused;

/// The sessions, by token, and what all of them read into.
#[derive(Default)]
pub(super) struct Sessions {
    sessions: Vec<Option<Box<Session>>>,
    room: Room,
}

impl Sessions {
    fn put(&mut self, token: Token, session: Session) {
        if self.sessions.len() <= token.0 {
            self.sessions.resize_with(token.0 + 1, || None);
        }
        self.sessions[token.0] = Some(Box::new(session));
    }

    fn get(&mut self, token: Token) -> Option<(&mut Session, &mut Room)> {
        let session = self.sessions.get_mut(token.0)?.as_mut()?;
        Some((session, &mut self.room))
    }

    /// The session of a connection, if it has one.
    pub(super) fn of(&mut self, token: Token) -> Option<&mut Session> {
        self.sessions.get_mut(token.0)?.as_deref_mut()
    }

    /// Ends a session as far as the socket takes the farewell.
    pub(super) fn close(&mut self, token: Token, sock: &Sock) {
        let session = self.sessions.get_mut(token.0).and_then(Option::take);
        if let (Some(mut session), Sock::Tcp(stream)) = (session, sock) {
            session.close(&mut &*stream);
        }
    }
}

/// Gives bytes to a session and as much as may be to the socket. How many the session took.
pub(super) fn send(
    session: &mut Session,
    stream: &TcpStream,
    slices: &[IoSlice<'_>],
) -> io::Result<usize> {
    session.flush(&mut &*stream)?;
    let taken = session.write(slices)?;
    match session.flush(&mut &*stream) {
        Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(e),
        _ if taken == 0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(taken),
    }
}

impl Net {
    /// Does something with the session of a connection and its socket.
    fn with_session<R>(
        &self,
        token: Token,
        act: impl FnOnce(&mut Session, &TcpStream, &mut Room) -> R,
    ) -> Option<R> {
        let (socks, mut sessions) = (self.socks.borrow(), self.sessions.borrow_mut());
        let Some(Some(Sock::Tcp(stream))) = socks.get(token.0) else {
            return None;
        };
        let (session, room) = sessions.get(token)?;
        Some(act(session, stream, room))
    }

    /// Takes in a client that speaks TLS.
    pub(super) fn welcome_secure<O: Io + AsMut<Doors>>(
        &self,
        server: &mut Server,
        os: &mut O,
        stream: TcpStream,
        addr: SocketAddr,
    ) {
        let sock = Sock::Tcp(stream);
        let peer = super::peer_of(&sock, Some(addr), &server.config);
        let clients = server.config.tls_auth_clients;
        let session = match os.as_mut().tls.as_ref().map(|tls| tls.accept(clients)) {
            Some(Ok(session)) => session,
            // (Without a context there is no such door.)
            Some(Err(why)) => return accept_failed(&why, &peer.addr, &peer.laddr),
            None => return,
        };
        let Some(token) = server.connect_secure(peer) else {
            return;
        };
        if let Sock::Tcp(stream) = &sock {
            tune(stream, &server.config);
        }
        self.sessions.borrow_mut().put(token, session);
        if let Err(e) = self.put(os.as_mut(), token, sock) {
            log::warn!(
                "Error registering fd event for the new client connection: {}",
                errno::text(&e)
            );
            server.disconnect(token);
        }
    }

    /// Our side of a connection that another node of the cluster has opened, if the bus speaks TLS. Nodes show certificates,
    /// whatever is asked of clients.
    pub(super) fn bus_session<O: Io + AsMut<Doors>>(
        &self,
        server: &Server,
        os: &mut O,
        peer: &Peer,
    ) -> Result<Option<Session>, Refused> {
        if !server.config.tls_cluster {
            return Ok(None);
        }
        match os
            .as_mut()
            .tls
            .as_ref()
            .map(|tls| tls.accept(TlsAuthClients::Yes))
        {
            Some(Ok(session)) => Ok(Some(session)),
            Some(Err(why)) => {
                log::debug!(
                    "Error accepting cluster node connection from {}: {why}",
                    peer.addr
                );
                Err(Refused)
            }
            None => Err(Refused),
        }
    }

    /// A socket is up that is to speak TLS from now on: its handshake begins. `session` is our side of it.
    pub(super) fn secure<O: Io + AsMut<Doors>>(
        &self,
        server: &mut Server,
        os: &mut O,
        token: Token,
        session: Session,
    ) {
        let Some(conn) = server.conns.get_mut(token) else {
            return;
        };
        conn.session.marks.set(Marks::TLS | Marks::SHAKING, true);
        conn.write_blocked = true;
        self.sessions.borrow_mut().put(token, session);
        self.shake(server, os, token);
    }

    /// Carries a handshake on, and lets its connection in when it is over.
    pub(super) fn shake<O: Io + AsMut<Doors>>(
        &self,
        server: &mut Server,
        os: &mut O,
        token: Token,
    ) {
        let shaken = self.with_session(token, |session, stream, room| {
            let shaken = session.shake(&mut &*stream, room);
            (shaken, session.has_more())
        });
        let Some((shaken, has_more)) = shaken else {
            return;
        };
        match shaken {
            Ok(true) => self.shaken(server, os, token),
            Ok(false) if has_more => self.again(os.as_mut(), token),
            Ok(false) => {}
            Err(e) => {
                let why = errno::text(&e);
                if let Some(conn) = server.conns.get(token)
                    && conn.link.is_none()
                {
                    accept_failed(&why, &conn.peer.addr, &conn.peer.laddr);
                }
                server.lose(token, why);
            }
        }
    }

    fn shaken<O: Io + AsMut<Doors>>(&self, server: &mut Server, os: &mut O, token: Token) {
        let Some(conn) = server.conns.get_mut(token) else {
            return;
        };
        conn.session.marks.set(Marks::SHAKING, false);
        conn.write_blocked = false;
        if conn.session.marks.has(Marks::OPENING) {
            self.connected(server, os, token);
        } else if conn.link.is_none() {
            server.let_in_secure(token);
        }
        server.wants_write(token);
        // What came right behind the handshake gives no edge.
        self.again(os.as_mut(), token);
    }

    /// Reads from a connection that is not read the short way: because it speaks TLS, or not at all.
    #[cold]
    pub(super) fn read_otherwise<O: Io + AsMut<Doors>>(
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
        if marks.has(Marks::SHAKING) && !marks.has(Marks::CLOSE_ASAP) {
            self.shake(server, os, token);
            return None;
        }
        let plain = Marks(marks.0 & !Marks::TLS.0);
        if plain.has(UNREADABLE) && !types_while_protected(plain) {
            return None;
        }
        if marks.has(Marks::PENDING_INPUT) && conn.may_run() {
            server.resume(os, token);
            self.again(os.as_mut(), token);
            return None;
        }
        server.stats.reads += 1;
        let into = match conn.big {
            Some(_) => Dest::Big,
            None => Dest::Lane,
        };
        let big = &mut conn.big;
        let (result, has_more) = self.with_session(token, |session, stream, room| {
            let result = match big {
                Some(big) => {
                    let most = (big.need - big.data.len()).min(BIG_SHARE);
                    read_to(session, stream, room, &mut big.data, most)
                }
                None => {
                    let mut buf = lane.buf.borrow_mut();
                    session.read(&mut &*stream, room, lane.part(&mut buf, at))
                }
            };
            (result, session.has_more())
        })?;
        let would_block = |e: &io::Error| e.kind() == io::ErrorKind::WouldBlock;
        if has_more && result.as_ref().is_err_and(would_block) {
            self.again(os.as_mut(), token);
        }
        let more = has_more || to_the_end;
        let input = Input {
            token,
            at,
            bytes: 0,
            more,
        };
        self.was_read(server, os, token, result, into, input)
    }

    /// There is room to write again: what sessions hold goes first. `false` if there is no more room then, or no connection.
    pub(super) fn flush_session<O: Io + AsMut<Doors>>(
        &self,
        server: &mut Server,
        os: &mut O,
        token: Token,
    ) -> bool {
        let Some(conn) = server.conns.get_mut(token) else {
            return false;
        };
        if conn.session.marks.has(Marks::SHAKING) {
            conn.write_blocked = true;
            self.shake(server, os, token);
            return false;
        }
        let flushed = self.with_session(token, |session, stream, _| {
            let flushed = session.flush(&mut &*stream);
            conn.unsent = session.unsent();
            flushed
        });
        match flushed {
            Some(Ok(())) => {}
            Some(Err(e)) if e.kind() == io::ErrorKind::WouldBlock => {
                conn.write_blocked = true;
                return false;
            }
            Some(Err(e)) => {
                let why = errno::text(&e);
                log::debug!("Error writing to client: {why}");
                server.lose(token, why);
                return false;
            }
            None => return false,
        }
        if conn.reply.is_empty() && conn.session.marks.has(Marks::CLOSE_AFTER_REPLY) {
            server.disconnect(token);
            return false;
        }
        true
    }

    /// Writes to a connection that is not written to the short way.
    #[cold]
    pub(super) fn write_otherwise<O: Io + AsMut<Doors>>(
        &self,
        server: &mut Server,
        os: &mut O,
        token: Token,
    ) {
        let now_s = server.now.s();
        let Some(conn) = server.conns.get_mut(token) else {
            return;
        };
        if conn.session.marks.has(Marks::REPLICA) {
            self.write_to_replica(server, os, token);
            return;
        }
        conn.note_reply_peak();
        let until = conn.free_until(server.aof.durable);
        let (mut written, mut calls) = (0, 0);
        let (reply, unsent) = (&mut conn.reply, &mut conn.unsent);
        let mut write = |session: &mut Session, stream: &TcpStream| -> io::Result<()> {
            while !reply.is_empty() && reply.start() < until && written < WRITE_SHARE {
                let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
                let n = reply.io_slices(until, &mut pieces);
                calls += 1;
                let taken = send(session, stream, &pieces[..n])?;
                reply.advance(taken);
                written += taken;
            }
            match session.wants_flush() {
                true => session.flush(&mut &*stream),
                false => Ok(()),
            }
        };
        let done = self.with_session(token, |session, stream, _| {
            let done = write(session, stream);
            *unsent = session.unsent();
            done
        });
        server.stats.writes += calls;
        match done {
            Some(Ok(())) if written >= WRITE_SHARE => {
                let token = MioToken(token.0 + LISTENERS_MAX);
                os.as_mut().reactor.again_write(token);
                conn.write_blocked = true;
            }
            Some(Ok(())) => {}
            Some(Err(e)) if e.kind() == io::ErrorKind::WouldBlock => conn.write_blocked = true,
            Some(Err(e)) => {
                let why = errno::text(&e);
                log::debug!("Error writing to client: {why}");
                server.lose(token, why);
                return;
            }
            None => return,
        }
        match note_written(conn, &mut server.stats, now_s, written) {
            true => server.disconnect(token),
            false => server.recount(token),
        }
    }
}

/// Reads up to `most` bytes to the end of `data`.
fn read_to(
    session: &mut Session,
    stream: &TcpStream,
    room: &mut Room,
    data: &mut Vec<u8>,
    most: usize,
) -> io::Result<usize> {
    let before = data.len();
    data.resize(before + most.min(READ_SHARE), 0);
    let result = session.read(&mut &*stream, room, &mut data[before..]);
    data.truncate(before + *result.as_ref().unwrap_or(&0));
    result
}

fn accept_failed(why: &str, addr: &str, laddr: &str) {
    log::warn!("Error accepting a client connection: {why} (addr={addr} laddr={laddr})");
}
