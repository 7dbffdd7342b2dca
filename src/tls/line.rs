//! A connection that speaks TLS, or does not, for whoever does not care which: read and written like its socket.

use std::io::{self, Read, Write};

use super::session::{Session, Stream};

/// See the head of the file.
pub enum Line<S> {
    Plain(S),
    Secure(Box<Stream<S>>),
}

impl<S: Read + Write> Line<S> {
    /// Over TLS, with our side of it; the handshake has yet to begin.
    pub fn secure(sock: S, session: Session) -> Line<S> {
        Line::Secure(Box::new(Stream::new(sock, session)))
    }

    /// The socket.
    pub fn sock(&self) -> &S {
        match self {
            Line::Plain(sock) => sock,
            Line::Secure(stream) => stream.sock(),
        }
    }

    /// The socket, to be registered.
    pub fn sock_mut(&mut self) -> &mut S {
        match self {
            Line::Plain(sock) => sock,
            Line::Secure(stream) => stream.sock_mut(),
        }
    }

    /// Our side of TLS, if it is spoken.
    pub fn session(&self) -> Option<&Session> {
        match self {
            Line::Plain(_) => None,
            Line::Secure(stream) => Some(stream.session()),
        }
    }

    /// Carries a handshake on as far as the socket goes: true if there is none (any more).
    pub fn shake(&mut self) -> io::Result<bool> {
        match self {
            Line::Secure(stream) if stream.session().is_handshaking() => stream.shake(),
            _ => Ok(true),
        }
    }
}

impl<S: Read + Write> Read for Line<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Line::Plain(sock) => sock.read(buf),
            Line::Secure(stream) => stream.read(buf),
        }
    }
}

impl<S: Read + Write> Write for Line<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Line::Plain(sock) => sock.write(buf),
            Line::Secure(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Line::Plain(sock) => sock.flush(),
            Line::Secure(stream) => stream.flush(),
        }
    }
}
