//! A talk with another server while the loop waits: MIGRATE inside a transaction or a script.

use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::resolve::addresses_within;
use crate::exec::io::{Exchange, Stage};
use crate::exec::link::Target;
use crate::resp::reply::Reply;
use crate::tls::{Context, Room, Session};

/// A longer line is cut, and what is left of it is no answer.
const LINE_MAX: u64 = 16 * 1024;

/// Connects, sends the request, and reads so many lines. Each step may take `timeout_ms`.
pub fn exchange(
    target: &Target,
    tls: Option<&Context>,
    request: &Reply,
    lines: usize,
    timeout_ms: u64,
) -> Exchange {
    let timeout = Duration::from_millis(timeout_ms.max(1));
    let mut heard = Vec::new();
    let called = connect(target, timeout).and_then(|stream| secure(stream, target, tls));
    let done = called.and_then(|mut stream| {
        let mut pieces = request.pieces();
        let sent = pieces.try_for_each(|piece| stream.write_all(piece));
        sent.map_err(|e| (Stage::Writing, e))?;
        let mut from = BufReader::new(stream);
        while heard.len() < lines {
            let line = read_line(&mut from).map_err(|e| (Stage::Reading, e))?;
            heard.push(line);
        }
        Ok(())
    });
    let broken = done.err();
    let late = |e: &io::Error| {
        matches!(
            e.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        )
    };
    Exchange {
        lines: heard,
        timed_out: broken.as_ref().is_some_and(|(_, e)| late(e)),
        broken: broken.map(|(stage, _)| stage),
    }
}

/// Redis notices that a call was refused when it writes.
fn connect(target: &Target, timeout: Duration) -> Result<TcpStream, (Stage, io::Error)> {
    let unknown = |e| (Stage::Connecting, e);
    let addrs = addresses_within(&target.host, timeout).map_err(unknown)?;
    let mut why = unknown(io::ErrorKind::NotFound.into());
    for mut addr in addrs {
        addr.set_port(target.port);
        match TcpStream::connect_timeout(&addr, timeout) {
            Ok(stream) => {
                let set = stream
                    .set_nodelay(true)
                    .and_then(|()| stream.set_read_timeout(Some(timeout)))
                    .and_then(|()| stream.set_write_timeout(Some(timeout)));
                return set.map(|()| stream).map_err(unknown);
            }
            Err(e) if e.kind() == io::ErrorKind::TimedOut => why = unknown(e),
            Err(e) => why = (Stage::Writing, e),
        }
    }
    Err(why)
}

/// Agrees on TLS, if the target speaks it.
fn secure(
    mut stream: TcpStream,
    target: &Target,
    tls: Option<&Context>,
) -> Result<Talk, (Stage, io::Error)> {
    if !target.tls {
        return Ok(Talk::Plain(stream));
    }
    let failed = |why: String| (Stage::Connecting, io::Error::other(why));
    let tls = tls.ok_or_else(|| failed("TLS is not configured".into()))?;
    let mut session = tls.call(&target.host).map_err(failed)?;
    let mut room = Room::default();
    loop {
        match session.shake(&mut stream, &mut room) {
            Ok(true) => return Ok(Talk::Secure(stream, Box::new(session), room)),
            // (It was to wait for the socket, which has waited for its time.)
            Ok(false) if !session.has_more() => {
                return Err((Stage::Connecting, io::ErrorKind::TimedOut.into()));
            }
            Ok(false) => {}
            Err(e) => return Err((Stage::Connecting, e)),
        }
    }
}

/// The other server, at the end of a socket that waits.
enum Talk {
    Plain(TcpStream),
    Secure(TcpStream, Box<Session>, Room),
}

impl Read for Talk {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Talk::Plain(stream) => stream.read(buf),
            Talk::Secure(stream, session, room) => session.read(stream, room, buf),
        }
    }
}

impl Write for Talk {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Talk::Plain(stream) => stream.write(buf),
            Talk::Secure(stream, session, _) => {
                let taken = session.write(&[IoSlice::new(buf)])?;
                session.flush(stream).map(|()| taken)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.take(LINE_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    while line.last().is_some_and(|b| matches!(b, b'\r' | b'\n')) {
        line.pop();
    }
    Ok(line)
}
