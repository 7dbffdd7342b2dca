//! Connecting links: from a name to a socket that is up.
//!
//! An address needs no look-up. A name does, which may take seconds: that is done on another thread (`resolve.rs`), and what
//! it found comes back as a value, a [`Dialled`]. Its addresses are tried one after the other until one answers. Connecting does
//! not wait: the reactor reports the socket writable once it is known how it went.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Doors, Net, Sock, canonical, peer_of, tune};
use crate::base::errno;
use crate::cmd::session::Marks;
use crate::exec::conn::{Peer, Token};
use crate::exec::io::Io;
use crate::exec::link::Target;
use crate::exec::server::Server;

/// Where a link may lead, as far as is known.
pub struct Dialled {
    pub(super) token: Token,
    /// Which link of that token it is for.
    pub(super) serial: u64,
    /// The addresses of the name, or the resolver's words.
    pub(super) found: Result<Vec<SocketAddr>, String>,
    /// Where it is to come from.
    pub(super) source: Option<IpAddr>,
}

impl Dialled {
    /// What there is without asking anybody: `None` if a name has to be looked up.
    pub fn literally(token: Token, serial: u64, target: &Target) -> Option<Dialled> {
        let ip: IpAddr = target.host.parse().ok()?;
        let source = match target.source.as_str() {
            "" => None,
            source => Some(source.parse().ok()?),
        };
        Some(Dialled {
            token,
            serial,
            found: Ok(vec![SocketAddr::new(ip, target.port)]),
            source,
        })
    }
}

/// A link whose addresses are being tried.
struct Attempt {
    token: Token,
    left: std::vec::IntoIter<SocketAddr>,
    source: Option<IpAddr>,
    /// Why the last one did not answer.
    why: String,
}

/// All of them: a handful at most.
#[derive(Default)]
pub(super) struct Calls(Vec<Attempt>);

impl Calls {
    /// Why the last address did not answer.
    fn note(&mut self, token: Token, why: String) {
        if let Some(attempt) = self.0.iter_mut().find(|a| a.token == token) {
            attempt.why = why;
        }
    }

    /// Takes one out.
    fn take(&mut self, token: Token) -> Option<Attempt> {
        let at = self.0.iter().position(|a| a.token == token)?;
        Some(self.0.swap_remove(at))
    }

    pub(super) fn give_up(&mut self, token: Token) {
        self.0.retain(|attempt| attempt.token != token);
    }
}

impl Net {
    /// Begins to connect a link, now that it is known where it may lead.
    pub fn dial<O: Io + AsMut<Doors>>(&self, server: &mut Server, os: &mut O, dialled: Dialled) {
        let token = dialled.token;
        if !server.is_opening(token, dialled.serial) {
            // Its owner has given it up meanwhile.
            return;
        }
        match dialled.found {
            Ok(found) => {
                self.calls.borrow_mut().0.push(Attempt {
                    token,
                    left: found.into_iter(),
                    source: dialled.source,
                    why: "No address associated with hostname".into(),
                });
                self.try_next(server, os.as_mut(), token);
            }
            Err(why) => server.lose(token, why),
        }
    }

    /// Tries the next address of a link; without any left, it is lost.
    fn try_next(&self, server: &mut Server, doors: &mut Doors, token: Token) {
        let attempt = self.calls.borrow_mut().take(token);
        let Some(mut attempt) = attempt else {
            return;
        };
        while let Some(addr) = attempt.left.next() {
            let begun = begin(addr, attempt.source);
            match begun.and_then(|stream| self.put(doors, token, Sock::Tcp(stream))) {
                Ok(()) => {
                    server.link_called(token);
                    self.calls.borrow_mut().0.push(attempt);
                    return;
                }
                Err(e) => attempt.why = errno::text(&e),
            }
        }
        server.lose(token, attempt.why);
    }

    /// It is known how connecting a link went.
    pub(super) fn answered<O: Io + AsMut<Doors>>(
        &self,
        server: &mut Server,
        os: &mut O,
        token: Token,
    ) {
        if server
            .conns
            .get(token)
            .is_some_and(|c| c.session.marks.has(Marks::SHAKING))
        {
            self.shake(server, os, token);
            return;
        }
        let outcome = {
            let socks = self.socks.borrow();
            let Some(Some(sock @ Sock::Tcp(stream))) = socks.get(token.0) else {
                return;
            };
            let outcome = match stream.take_error() {
                Ok(None) => stream.peer_addr(),
                Ok(Some(e)) | Err(e) => Err(e),
            };
            outcome.map(|addr| {
                tune(stream, &server.config);
                peer_of(sock, Some(canonical(addr)), &server.config)
            })
        };
        match outcome {
            Ok(peer) => {
                self.calls.borrow_mut().give_up(token);
                self.speak(server, os, token, peer);
            }
            // The report was meant for another: it is still on its way.
            Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) => {}
            Err(e) => {
                let why = errno::text(&e);
                self.calls.borrow_mut().note(token, why);
                self.drop_sock(os.as_mut(), token);
                self.try_next(server, os.as_mut(), token);
            }
        }
    }
}

impl Net {
    /// A link's socket is up. If it speaks TLS its owner hears of it when that is agreed.
    fn speak<O: Io + AsMut<Doors>>(
        &self,
        server: &mut Server,
        os: &mut O,
        token: Token,
        peer: Peer,
    ) {
        let link = server.conns.get(token).and_then(|c| c.link.as_ref());
        let Some(host) = link.and_then(|link| link.tls.as_deref()) else {
            server.link_connected(os, token, peer);
            return;
        };
        let made = os.as_mut().tls.as_ref().map(|tls| tls.call(host));
        match made {
            Some(Ok(session)) => {
                if let Some(conn) = server.conns.get_mut(token) {
                    *conn.peer = peer;
                }
                self.secure(server, os, token, session);
            }
            Some(Err(why)) => server.lose(token, why),
            None => server.lose(token, "TLS is not configured".into()),
        }
    }

    /// A link has agreed on TLS with the other side.
    pub(super) fn connected<O: Io + AsMut<Doors>>(
        &self,
        server: &mut Server,
        os: &mut O,
        token: Token,
    ) {
        let peer = server.conns.get(token).map(|conn| (*conn.peer).clone());
        if let Some(peer) = peer {
            server.link_connected(os, token, peer);
        }
    }
}

/// A socket that connects to `addr`; from `source`, if that is an address of ours.
fn begin(addr: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if let Some(source) = source {
        // As far as it can be had: the link matters more than where it comes from.
        let _ = socket.bind(&SocketAddr::new(source, 0).into());
    }
    match socket.connect(&addr.into()) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}
