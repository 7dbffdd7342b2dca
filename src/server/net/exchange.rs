//! A talk with another server while the loop waits: MIGRATE inside a transaction or a script.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::resolve::addresses_within;
use crate::exec::io::{Exchange, Stage};
use crate::exec::link::Target;
use crate::resp::reply::Reply;
use crate::tls::{Context, Line, Stream};

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
        let sent = sent.and_then(|()| stream.flush());
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
    socket: TcpStream,
    target: &Target,
    tls: Option<&Context>,
) -> Result<Line<TcpStream>, (Stage, io::Error)> {
    if !target.tls {
        return Ok(Line::Plain(socket));
    }
    let failed = |e| (Stage::Connecting, e);
    let tls = tls.ok_or_else(|| failed(io::Error::other("TLS is not configured")))?;
    let session = tls.call(&target.host);
    let session = session.map_err(|why| failed(io::Error::other(why)))?;
    let mut stream = Stream::new(socket, session);
    match stream.shake() {
        Ok(true) => Ok(Line::Secure(Box::new(stream))),
        // (The socket waits for so long, and not longer.)
        Ok(false) => Err(failed(io::ErrorKind::TimedOut.into())),
        Err(e) => Err(failed(e)),
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
