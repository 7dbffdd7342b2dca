//! One side of a connection that speaks TLS: what is between its socket and the bytes that are meant.
//!
//! It holds no socket: whoever has one lends it for reading and writing. A socket that may not wait says `WouldBlock`, and
//! so does the session then, to be asked again when the socket is ready. Reading gives what there is and looks for more
//! only if there is nothing. A session may hold bytes that its socket no longer knows of: see [`Session::has_more`].

use std::io::{self, IoSlice, Read, Write};

use rustls::Connection;

/// Encrypted bytes taken from a socket at once: two records of the largest kind.
const TAKEN_MAX: usize = 32 * 1024;
/// How a record begins that carries a handshake.
const HANDSHAKE: u8 = 22;
/// With so many bytes that are decrypted no more are: one record, which is what the library holds.
const HELD_MAX: usize = 16 * 1024;
/// So often a read looks at the socket when what came meant nothing yet.
const TAKES_MAX: usize = 8;

/// See the head of the file.
pub struct Session {
    tls: Connection,
    /// Bytes that are decrypted and not read yet.
    held: usize,
    /// Encrypted bytes that came when enough was held already.
    rest: Vec<u8>,
    /// About how many bytes the socket has yet to take.
    unsent: usize,
    /// Something has come.
    begun: bool,
    /// The other side will say no more.
    ended: bool,
    /// The socket may have more.
    more: bool,
    /// Why it is over: told once what was held is read.
    failed: Option<String>,
}

/// Room for encrypted bytes: none is kept in it, so that all sessions of a thread may share it.
#[derive(Default)]
pub struct Room(Vec<u8>);

impl Session {
    pub(super) fn new(tls: Connection) -> Session {
        Session {
            tls,
            held: 0,
            rest: Vec::new(),
            unsent: 0,
            begun: false,
            ended: false,
            more: false,
            failed: None,
        }
    }

    /// True until both sides know each other.
    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// True if another read may give something without a word from the socket.
    pub fn has_more(&self) -> bool {
        self.more || self.has_held()
    }

    /// True if another read will not look at the socket.
    fn has_held(&self) -> bool {
        self.has_bytes() || self.ended || self.failed.is_some()
    }

    /// True if there are bytes to read without a look at the socket.
    pub fn has_bytes(&self) -> bool {
        self.held > 0 || !self.rest.is_empty()
    }

    /// Reads what was sent, as far as `buf` has room; nothing if the other side has ended. The handshake is over.
    pub fn read<S: Read + Write>(
        &mut self,
        sock: &mut S,
        room: &mut Room,
        buf: &mut [u8],
    ) -> io::Result<usize> {
        for _ in 0..TAKES_MAX {
            let n = self.read_held(buf)?;
            if n > 0 {
                return Ok(n);
            }
            if let Some(why) = &self.failed {
                return Err(io::Error::other(why.clone()));
            }
            if self.ended {
                return Ok(0);
            }
            self.take(sock, room)?;
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Reads what is here already, as far as there is room.
    fn read_held(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            if self.held > 0 {
                let n = self.tls.reader().read(&mut buf[filled..])?;
                self.held -= n.min(self.held);
                filled += n;
            }
            if filled == buf.len() || self.rest.is_empty() {
                return Ok(filled);
            }
            let rest = std::mem::take(&mut self.rest);
            let mut left = rest.as_slice();
            self.feed(&mut left);
            self.rest = left.to_vec();
        }
    }

    /// Takes encrypted bytes from the socket, and answers what has to be answered.
    fn take<S: Read + Write>(&mut self, sock: &mut S, room: &mut Room) -> io::Result<()> {
        if room.0.is_empty() {
            room.0 = vec![0; TAKEN_MAX];
        }
        self.more = false;
        let n = match sock.read(&mut room.0) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(e) => return Err(e),
        };
        self.ended |= n == 0;
        self.more = n == room.0.len();
        let mut taken = &room.0[..n];
        let begun = std::mem::replace(&mut self.begun, true);
        if !begun && self.is_server() && taken.first().is_some_and(|&b| b != HANDSHAKE) {
            // That is no TLS, and who sent it would take an alert for a reply.
            self.failed = Some("wrong version number".into());
            return Ok(());
        }
        self.feed(&mut taken);
        self.rest.extend_from_slice(taken);
        match self.flush(sock) {
            // Whoever writes next does it.
            Err(e) if e.kind() != io::ErrorKind::WouldBlock && !self.has_held() => Err(e),
            _ => Ok(()),
        }
    }

    fn is_server(&self) -> bool {
        matches!(self.tls, Connection::Server(_))
    }

    /// Decrypts what was taken, until enough is held.
    fn feed(&mut self, taken: &mut &[u8]) {
        while !taken.is_empty() && self.held < HELD_MAX {
            let fed = self.tls.read_tls(taken).map_err(|e| e.to_string());
            let done = fed.and_then(|_| self.tls.process_new_packets().map_err(|e| e.to_string()));
            match done {
                Ok(state) => {
                    self.held = state.plaintext_bytes_to_read();
                    self.ended |= state.peer_has_closed();
                }
                Err(why) => self.failed = Some(why),
            }
            if self.ended || self.failed.is_some() {
                // Nothing is meant that comes after it.
                *taken = &[];
            }
        }
    }

    /// Takes bytes that are to be sent, as many as there is room for; they go with [`Session::flush`]. Before the handshake
    /// is over there is none.
    pub fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_handshaking() {
            return Ok(0);
        }
        let taken = self.tls.writer().write_vectored(slices)?;
        self.unsent += taken;
        Ok(taken)
    }

    /// About how many bytes were taken that the socket has not: it refused them.
    pub fn unsent(&self) -> usize {
        self.unsent
    }

    /// True if the socket has yet to take something.
    pub fn wants_flush(&self) -> bool {
        self.tls.wants_write()
    }

    /// Sends what is to be sent, as far as the socket takes it.
    pub fn flush<S: Write>(&mut self, sock: &mut S) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(sock) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.unsent = self.unsent.saturating_sub(bytes),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.unsent = 0;
        Ok(())
    }

    /// Carries the handshake on: true if it is over. An error is the end; `WouldBlock` is none.
    pub fn shake<S: Read + Write>(&mut self, sock: &mut S, room: &mut Room) -> io::Result<bool> {
        for _ in 0..TAKES_MAX {
            if let Err(e) = self.flush(sock) {
                return wait(e);
            }
            if let Some(why) = &self.failed {
                return Err(io::Error::other(why.clone()));
            }
            if !self.is_handshaking() {
                return Ok(true);
            }
            if self.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Err(e) = self.take(sock, room) {
                return wait(e);
            }
        }
        Ok(false)
    }

    /// Says that no more will be sent, if the socket takes that.
    pub fn close<S: Write>(&mut self, sock: &mut S) {
        if !self.is_handshaking() {
            self.tls.send_close_notify();
            // Who does not hear it sees the socket close.
            let _ = self.flush(sock);
        }
    }
}

fn wait(e: io::Error) -> io::Result<bool> {
    match e.kind() {
        io::ErrorKind::WouldBlock => Ok(false),
        _ => Err(e),
    }
}

/// A socket of its own with the session over it: read and written like the socket. A socket that waits makes it wait.
pub struct Stream<S> {
    sock: S,
    session: Session,
    room: Room,
}

impl<S: Read + Write> Stream<S> {
    /// The handshake has yet to begin.
    pub fn new(sock: S, session: Session) -> Stream<S> {
        Stream {
            sock,
            session,
            room: Room::default(),
        }
    }

    /// The socket.
    pub fn sock(&self) -> &S {
        &self.sock
    }

    /// The socket, to be registered.
    pub fn sock_mut(&mut self) -> &mut S {
        &mut self.sock
    }

    /// Our side of it.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Carries the handshake on as far as the socket goes: true if it is over.
    pub fn shake(&mut self) -> io::Result<bool> {
        loop {
            match self.session.shake(&mut self.sock, &mut self.room) {
                Ok(false) if self.session.has_more() => {}
                other => return other,
            }
        }
    }
}

impl<S: Read + Write> Read for Stream<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.read(&mut self.sock, &mut self.room, buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && self.session.has_more() => {}
                other => return other,
            }
        }
    }
}

impl<S: Read + Write> Write for Stream<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.session.flush(&mut self.sock)?;
        let taken = self.session.write(&[IoSlice::new(buf)])?;
        match self.session.flush(&mut self.sock) {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(e),
            _ if taken == 0 && !buf.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.session.flush(&mut self.sock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;
    use std::sync::Arc;

    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

    /// Bytes on their way in one direction, as many as it takes.
    #[derive(Clone)]
    struct Wire(Rc<RefCell<(VecDeque<u8>, usize)>>);

    struct Sock {
        from: Wire,
        to: Wire,
    }

    impl Read for Sock {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self.from.0.borrow_mut().0.read(buf)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                n => Ok(n),
            }
        }
    }

    impl Write for Sock {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let (bytes, most) = &mut *self.to.0.borrow_mut();
            match buf.len().min(*most - bytes.len()) {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                n => bytes.write(&buf[..n]),
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A server and a client that know each other, and the sockets between them.
    fn connected(most: usize) -> [(Session, Sock); 2] {
        let made = rcgen::generate_simple_self_signed(["here".to_string()]).unwrap();
        let (cert, key) = (made.cert.der().clone(), made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![cert.clone()],
                PrivateKeyDer::try_from(key.clone()).unwrap(),
            )
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("here").unwrap();
        let client = ClientConnection::new(Arc::new(client), name).unwrap();
        let server = ServerConnection::new(Arc::new(server)).unwrap();
        let wires = [(); 2].map(|()| Wire(Rc::new(RefCell::new((VecDeque::new(), most)))));
        let sock = |from: usize, to: usize| Sock {
            from: wires[from].clone(),
            to: wires[to].clone(),
        };
        let mut sides = [
            (Session::new(Connection::Server(server)), sock(0, 1)),
            (Session::new(Connection::Client(client)), sock(1, 0)),
        ];
        while sides.iter().any(|(session, _)| session.is_handshaking()) {
            for (session, sock) in &mut sides {
                session.shake(sock, &mut Room::default()).unwrap();
            }
        }
        sides
    }

    /// They were nobody's memory: a client that did not read held 64 KB that no limit knew of.
    #[test]
    fn bytes_that_the_socket_refused_are_known() {
        let [(mut server, mut to_client), (mut client, mut to_server)] = connected(40_000);
        let text = vec![b'x'; 1 << 20];
        let mut buf = vec![0; 32 * 1024];
        let (mut taken, mut read) = (0, 0);
        let mut refused = 0;
        while read < text.len() {
            if server.flush(&mut to_client).is_ok() {
                assert_eq!(server.unsent(), 0);
                let before = to_client.to.0.borrow().0.len();
                let more = server.write(&[IoSlice::new(&text[taken..])]).unwrap();
                taken += more;
                if server.flush(&mut to_client).is_err() {
                    // Each record has a few bytes more than what it carries.
                    let sent = to_client.to.0.borrow().0.len() - before;
                    assert!(server.unsent().abs_diff(more - sent) < 500);
                    refused += 1;
                }
            }
            if let Ok(n) = client.read(&mut to_server, &mut Room::default(), &mut buf) {
                read += n;
            }
        }
        assert!(refused > 3, "the socket took nearly all");
        assert_eq!(server.unsent(), 0);
    }
}
