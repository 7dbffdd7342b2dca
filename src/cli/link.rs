//! A connection of a client program: commands out, replies in, waiting for both.
//!
//! Where someone may press Ctrl-C to end a wait without ending the program, the wait watches an [`Interrupt`] too.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use socket2::{SockRef, TcpKeepalive};

use super::socket::Socket;
use crate::base::errno;
use crate::resp::request::append_command;
use crate::resp::value::{Decoder, Malformed, Value};
use crate::tls::{self, Caller, Line};

const KEEPALIVE: Duration = Duration::from_secs(15);
const READ_MAX: usize = 16 * 1024;

/// Why a connection is of no use any more.
#[derive(Debug)]
pub enum LinkError {
    Closed,
    Io(io::Error),
    Protocol(Malformed),
    /// Ctrl-C ended the wait.
    Interrupted,
}

impl LinkError {
    /// Whether the other side has gone, so that a new connection may do better.
    pub fn is_gone(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        match self {
            LinkError::Closed => true,
            LinkError::Io(error) => matches!(error.kind(), BrokenPipe | ConnectionReset),
            LinkError::Protocol(_) | LinkError::Interrupted => false,
        }
    }

    /// Whether it was not what the other side said.
    pub fn is_io(&self) -> bool {
        matches!(self, LinkError::Closed | LinkError::Io(_))
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Closed => f.write_str("Server closed the connection"),
            LinkError::Io(error) => f.write_str(&errno::text(error)),
            LinkError::Protocol(malformed) => malformed.fmt(f),
            LinkError::Interrupted => f.write_str("Interrupted system call"),
        }
    }
}

/// SIGINT for a program that has something else to do about it than to end.
pub struct Interrupt {
    woken: UnixStream,
    /// Whether the signal ends the program.
    fatal: Arc<AtomicBool>,
}

impl Interrupt {
    /// From now on SIGINT ends the program with status 1, but while [`Interrupt::is_for_wait`].
    pub fn install() -> io::Result<Interrupt> {
        let (woken, wakes) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let fatal = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_shutdown(libc::SIGINT, 1, fatal.clone())?;
        signal_hook::low_level::pipe::register(libc::SIGINT, wakes)?;
        Ok(Interrupt { woken, fatal })
    }

    /// Says whether it only ends a wait.
    pub fn is_for_wait(&self, yes: bool) {
        self.fatal.store(!yes, Ordering::Relaxed);
    }

    /// Whether the signal came, which is forgotten then.
    pub fn take(&self) -> bool {
        let mut came = false;
        while matches!((&self.woken).read(&mut [0; 16]), Ok(n) if n > 0) {
            came = true;
        }
        came
    }

    /// What becomes readable when the signal comes.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}

/// Where to connect to.
pub enum Address<'a> {
    Tcp(&'a [u8], u16),
    Unix(&'a [u8]),
}

type Sock = Socket<TcpStream, UnixStream>;

/// See the head of the file.
pub struct Link {
    stream: Line<Sock>,
    input: Vec<u8>,
    /// Bytes of `input` that replies were made of.
    taken: usize,
    output: Vec<u8>,
    decoder: Decoder,
}

impl Link {
    /// Connects. Gives the system's words for why it cannot.
    pub fn connect(address: &Address<'_>) -> Result<Link, String> {
        let stream = match address {
            Address::Tcp(host, port) => Socket::Tcp(connect_tcp(host, *port)?),
            Address::Unix(path) => {
                use std::os::unix::ffi::OsStrExt;
                let path = std::ffi::OsStr::from_bytes(path);
                Socket::Unix(UnixStream::connect(path).map_err(|e| errno::text(&e))?)
            }
        };
        Ok(Link {
            stream: Line::Plain(stream),
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            decoder: Decoder::new(),
        })
    }

    /// The same connection, over TLS from now on. The error says why that can't be.
    pub fn secure(mut self, caller: &Caller) -> Result<Link, String> {
        let Line::Plain(socket) = self.stream else {
            return Ok(self);
        };
        let mut stream = tls::Stream::new(socket, caller.call()?);
        // (The socket waits: there is no other way out than the end.)
        while !stream.shake().map_err(|e| tls_words(&e))? {}
        self.stream = Line::Secure(Box::new(stream));
        Ok(self)
    }

    /// The same if the options say so.
    pub fn secure_if_wanted(self, options: &tls::Options) -> Result<Link, String> {
        match options.on {
            false => Ok(self),
            true => self.secure(&Caller::new(options)?),
        }
    }

    /// Puts a command behind those that are to be sent.
    pub fn append<T: AsRef<[u8]>>(&mut self, args: &[T]) {
        append_command(args, &mut self.output);
    }

    /// Puts bytes that are no command behind what is to be sent.
    pub fn append_raw(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Sends bytes that are no command.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.append_raw(bytes);
        self.flush()
    }

    /// From now on nothing waits: see [`Link::flush_ready`] and [`Link::fill_ready`].
    pub fn set_nonblocking(&mut self) -> io::Result<()> {
        match self.stream.sock() {
            Socket::Tcp(socket) => socket.set_nonblocking(true),
            Socket::Unix(socket) => socket.set_nonblocking(true),
        }
    }

    /// Whether something is still to be sent.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty() || self.stream.session().is_some_and(tls::Session::wants_flush)
    }

    /// Sends as much as there is room for.
    pub fn flush_ready(&mut self) -> Result<(), LinkError> {
        while self.has_output() {
            match self.stream.write(&self.output) {
                Ok(n) => drop(self.output.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LinkError::Io(error)),
            }
        }
        Ok(())
    }

    /// Reads what is there, which may be nothing.
    pub fn fill_ready(&mut self) -> Result<(), LinkError> {
        match self.fill() {
            Err(LinkError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    /// Sends what was appended.
    pub fn flush(&mut self) -> Result<(), LinkError> {
        let output = std::mem::take(&mut self.output);
        let written = self.stream.write_all(&output);
        written
            .and_then(|()| self.stream.flush())
            .map_err(LinkError::Io)
    }

    /// A reply that has arrived already.
    pub fn next_arrived(&mut self) -> Result<Option<Value>, LinkError> {
        let decoded = self.decoder.decode(&self.input[self.taken..]);
        let (used, value) = decoded.map_err(LinkError::Protocol)?;
        self.taken += used;
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
        Ok(value)
    }

    /// Sends what is to be sent and waits for the next thing that the server says, a push or a reply.
    pub fn read(&mut self, interrupt: Option<&Interrupt>) -> Result<Value, LinkError> {
        self.flush()?;
        loop {
            if let Some(value) = self.next_arrived()? {
                return Ok(value);
            }
            if let Some(interrupt) = interrupt {
                self.wait(interrupt)?;
            }
            self.fill()?;
        }
    }

    /// The reply to the oldest command without one; pushes are passed over.
    pub fn reply(&mut self) -> Result<Value, LinkError> {
        loop {
            let value = self.read(None)?;
            if !value.is_push() {
                return Ok(value);
            }
        }
    }

    /// Sends a command and waits for its reply.
    pub fn command<T: AsRef<[u8]>>(&mut self, args: &[T]) -> Result<Value, LinkError> {
        self.append(args);
        self.reply()
    }

    /// Reads what is there, at least a byte; what TLS holds too, for nobody who watches the socket would hear of it.
    pub fn fill(&mut self) -> Result<(), LinkError> {
        self.input.drain(..self.taken);
        self.taken = 0;
        loop {
            self.fill_some()?;
            if !self.stream.session().is_some_and(tls::Session::has_bytes) {
                return Ok(());
            }
        }
    }

    fn fill_some(&mut self) -> Result<(), LinkError> {
        let len = self.input.len();
        self.input.resize(len + READ_MAX, 0);
        let got = self.read_stream(len);
        self.input.truncate(len + *got.as_ref().unwrap_or(&0));
        match got {
            Ok(0) => Err(LinkError::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(LinkError::Io(error)),
        }
    }

    fn read_stream(&mut self, from: usize) -> io::Result<usize> {
        loop {
            match self.stream.read(&mut self.input[from..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Bytes that are no reply, as in a bulk transfer: up to `most` of them, at least one.
    pub fn raw(&mut self, most: usize) -> Result<&[u8], LinkError> {
        if self.taken == self.input.len() {
            self.fill()?;
        }
        let end = self.input.len().min(self.taken.saturating_add(most));
        let from = std::mem::replace(&mut self.taken, end);
        Ok(&self.input[from..end])
    }

    fn wait(&self, interrupt: &Interrupt) -> Result<(), LinkError> {
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(self.fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(interrupt.fd(), PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) if !fds[1].revents().is_empty() && interrupt.take() => {
                    return Err(LinkError::Interrupted);
                }
                Ok(_) if !fds[0].revents().is_empty() => return Ok(()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(LinkError::Io(error.into())),
            }
        }
    }

    /// Its socket, to be watched.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match self.stream.sock() {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

/// Why there is no TLS, as Redis says it.
fn tls_words(error: &io::Error) -> String {
    let text = errno::text(error);
    match text.strip_prefix("invalid peer certificate: ") {
        Some(what) => format!("SSL_connect failed: certificate verify failed ({what})"),
        None => format!("SSL_connect failed: {text}"),
    }
}

fn connect_tcp(host: &[u8], port: u16) -> Result<TcpStream, String> {
    let addresses = resolve(host, port)?;
    let mut why = String::new();
    for address in addresses {
        match TcpStream::connect(address) {
            Ok(stream) => {
                let keepalive = TcpKeepalive::new()
                    .with_time(KEEPALIVE)
                    .with_interval(KEEPALIVE / 3)
                    .with_retries(3);
                // A connection that will not be kept alive or be quick is still one.
                let _ = stream.set_nodelay(true);
                let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
                return Ok(stream);
            }
            Err(error) => why = errno::text(&error),
        }
    }
    Err(why)
}

/// The addresses of a host: of the older kind if it has any, as its clients expect.
pub fn resolve(host: &[u8], port: u16) -> Result<Vec<SocketAddr>, String> {
    let host = String::from_utf8_lossy(host);
    let found = (&*host, port).to_socket_addrs();
    let all: Vec<SocketAddr> = found.map_err(|e| lookup_words(&e))?.collect();
    let old: Vec<SocketAddr> = all.iter().copied().filter(SocketAddr::is_ipv4).collect();
    Ok(if old.is_empty() { all } else { old })
}

fn lookup_words(error: &io::Error) -> String {
    let text = errno::text(error);
    match text.split_once(": ") {
        Some((_, words)) => words.to_string(),
        None => text,
    }
}
