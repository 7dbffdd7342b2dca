//! The floor: the least that a server on mio can cost, to measure the real one against.
//!
//! It reads requests, finds where each ends, and answers by the first letter of the command's name: it
//! stores nothing and checks little. What remains is the kernel's work, one read and one write for each
//! turn of a connection, and walking over the bytes. It leans on nothing of the library, so that it stays
//! where it is while the library changes.
//!
//! ```text
//! cargo bench --bench echo -- --port 7777 [--size 16]
//! redis-benchmark -p 7777 -t get,set -P 16 -n 10000000
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);

/// What one read takes at most: Redis's own figure.
const READ_SIZE: usize = 16 * 1024;

struct Conn {
    socket: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// The replies, made once.
struct Replies {
    value: Vec<u8>,
}

impl Replies {
    fn to(&self, name: &[u8]) -> &[u8] {
        match name.first().map(u8::to_ascii_uppercase) {
            Some(b'G') => &self.value,                       // GET
            Some(b'P') => b"+PONG\r\n",                      // PING
            Some(b'I') => b":1\r\n",                         // INCR
            Some(b'C') => b"*2\r\n$4\r\nsave\r\n$0\r\n\r\n", // CONFIG GET save
            _ => b"+OK\r\n",                                 // SET and the rest
        }
    }
}

/// A line's number after its mark, and where the next line begins; `None` if it is not all there.
fn number(buf: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut n = 0usize;
    for (i, &byte) in buf.get(at + 1..)?.iter().enumerate() {
        match byte {
            b'0'..=b'9' => n = n.wrapping_mul(10).wrapping_add(usize::from(byte - b'0')),
            b'\r' => return Some((n, at + 1 + i + 2)),
            _ => return Some((0, buf.len())), // no client of a benchmark sends it
        }
    }
    None
}

/// The end of the request at the front and the range of its name; `None` if it is not all there.
fn request(buf: &[u8]) -> Option<(usize, std::ops::Range<usize>)> {
    if *buf.first()? != b'*' {
        let end = buf.iter().position(|&b| b == b'\n')? + 1;
        return Some((end, 0..end));
    }
    let (count, mut at) = number(buf, 0)?;
    let mut name = 0..0;
    for i in 0..count {
        let (len, start) = number(buf, at)?;
        at = start.checked_add(len)?.checked_add(2)?;
        if at > buf.len() {
            return None;
        }
        if i == 0 {
            name = start..start + len;
        }
    }
    (at <= buf.len()).then_some((at, name))
}

impl Conn {
    /// Reads, answers and writes; false when the connection is over.
    fn turn(&mut self, replies: &Replies, buf: &mut [u8; READ_SIZE]) -> bool {
        loop {
            match self.socket.read(buf) {
                Ok(0) => return false,
                Ok(n) => {
                    self.answer(replies, &buf[..n]);
                    if self.flush().is_err() {
                        return false;
                    }
                    // An edge comes with every packet: a read that was not filled emptied the socket.
                    if n < READ_SIZE {
                        return true;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return self.flush().is_ok(),
                Err(_) => return false,
            }
        }
    }

    /// Answers the requests that `new` completes; what is left of it is kept.
    fn answer(&mut self, replies: &Replies, new: &[u8]) {
        let mut kept = std::mem::take(&mut self.input);
        let input = if kept.is_empty() {
            new
        } else {
            kept.extend_from_slice(new);
            &kept
        };
        let mut at = 0;
        while let Some((end, name)) = request(&input[at..]) {
            self.output
                .extend_from_slice(replies.to(&input[at..][name]));
            at += end;
        }
        self.input = input[at..].to_vec();
    }

    /// Writes what the socket takes; the rest waits for the next edge.
    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(n) => drop(self.output.drain(..n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

fn serve(port: u16, size: usize) -> io::Result<()> {
    let value = "x".repeat(size);
    let replies = Replies {
        value: format!("${size}\r\n{value}\r\n").into_bytes(),
    };
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut buf = [0; READ_SIZE];
    let mut conns: Vec<Option<Conn>> = Vec::new();
    loop {
        if let Err(e) = poll.poll(&mut events, None) {
            if e.kind() == ErrorKind::Interrupted {
                continue;
            }
            return Err(e);
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut socket, _)) = listener.accept() {
                    socket.set_nodelay(true)?;
                    let free = conns
                        .iter()
                        .position(Option::is_none)
                        .unwrap_or(conns.len());
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry()
                        .register(&mut socket, Token(free), interest)?;
                    let conn = Conn {
                        socket,
                        input: Vec::new(),
                        output: Vec::new(),
                    };
                    if free == conns.len() {
                        conns.push(Some(conn));
                    } else {
                        conns[free] = Some(conn);
                    }
                }
                continue;
            }
            let slot = &mut conns[event.token().0];
            let goes_on = match slot {
                Some(conn) if event.is_readable() => conn.turn(&replies, &mut buf),
                Some(conn) => conn.flush().is_ok(),
                None => true,
            };
            if !goes_on {
                *slot = None; // closing takes it off the poll
            }
        }
    }
}

/// The number after `name` on the command line.
fn option(name: &str) -> Option<usize> {
    let mut args = std::env::args().skip_while(|a| a != name);
    args.nth(1)?.parse().ok()
}

fn main() -> io::Result<()> {
    let Some(port) = option("--port").and_then(|p| u16::try_from(p).ok()) else {
        println!("usage: cargo bench --bench echo -- --port PORT [--size BYTES]");
        return Ok(());
    };
    serve(port, option("--size").unwrap_or(16))
}
