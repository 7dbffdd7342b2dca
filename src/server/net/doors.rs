//! The doors: the sockets that clients knock at, TCP on each `bind` address and the Unix one; and those of other nodes of the
//! cluster.
//!
//! A listener is edge-triggered like everything in the reactor. One that could not accept, because
//! the process had no descriptor left, gets no second edge for who waits in its queue: it is put
//! aside, and the cron lets it try again.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use mio::net::{TcpListener, TcpStream, UnixListener};
use mio::{Interest, Token as MioToken};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::resolve::resolver_words;
use super::{LISTENERS_MAX, Sock};
use crate::ae::Reactor;
use crate::base::errno;
use crate::base::time::Clock;
use crate::config::Config;
use crate::tls::Context;

/// The longest path that a Unix socket's address holds, its end counted.
const UNIX_PATH_MAX: usize = 108;

/// Where connections come in.
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
    /// The bus of the cluster.
    Bus(TcpListener),
    /// TCP, and TLS is spoken.
    Tls(TcpListener),
}

/// Who has come in through a door.
pub(super) enum Guest {
    Client(Sock, Option<SocketAddr>),
    Node(Sock, SocketAddr),
    Secure(TcpStream, SocketAddr),
}

/// The listening sockets and the reactor that watches everything.
pub struct Doors {
    pub reactor: Reactor,
    /// What those connections share that speak TLS, once it is configured.
    pub tls: Option<Context>,
    doors: Vec<Option<Door>>,
    /// Listeners that failed to accept.
    stalled: Vec<MioToken>,
    /// The Unix socket's file, once it is there.
    unix_file: Option<PathBuf>,
}

impl Doors {
    /// None yet.
    pub fn new(reactor: Reactor) -> Self {
        Doors {
            reactor,
            tls: None,
            doors: Vec::new(),
            stalled: Vec::new(),
            unix_file: None,
        }
    }

    fn add(&mut self, mut door: Door) -> io::Result<()> {
        let free = self.doors.iter().position(Option::is_none);
        let at = free.unwrap_or(self.doors.len());
        if at >= LISTENERS_MAX {
            return Err(io::Error::other("too many listeners"));
        }
        let token = MioToken(at);
        match &mut door {
            Door::Tcp(l) | Door::Bus(l) | Door::Tls(l) => {
                self.reactor.register(l, token, Interest::READABLE)?;
            }
            Door::Unix(l) => self.reactor.register(l, token, Interest::READABLE)?,
        }
        // Whoever connected before the registration gave no edge.
        self.reactor.again(token);
        if at == self.doors.len() {
            self.doors.push(None);
        }
        self.doors[at] = Some(door);
        Ok(())
    }

    /// True if no client can connect.
    pub fn is_empty(&self) -> bool {
        let lets_in =
            |door: &Option<Door>| matches!(door, Some(Door::Tcp(_) | Door::Unix(_) | Door::Tls(_)));
        !self.doors.iter().any(lets_in)
    }

    /// Listens on every `bind` address at `port`, in place of what listened on TCP before; on none with
    /// port 0. Fails as a whole, with the reason in the log: then nothing listens on TCP any more, and
    /// whoever changed the configuration calls again with the old one.
    pub fn listen_tcp(&mut self, config: &Config) -> Result<(), String> {
        // First out, then in: the new addresses may be the old ones.
        self.close_tcp();
        if config.port == 0 {
            return Ok(());
        }
        let opened = self.listen_on(config.port, config, Door::Tcp);
        opened.map_err(|()| {
            self.close_tcp();
            format!("Failed listening on port {} (tcp)", config.port)
        })
    }

    /// Listens for other nodes of the cluster, on the same addresses.
    pub fn listen_bus(&mut self, port: u16, config: &Config) -> Result<(), String> {
        let opened = self.listen_on(port, config, Door::Bus);
        opened.map_err(|()| format!("Failed listening on port {port} (cluster)"))
    }

    /// The same for TLS, at `tls-port`.
    pub fn listen_tls(&mut self, config: &Config) -> Result<(), String> {
        self.close_tls();
        if config.tls_port == 0 {
            return Ok(());
        }
        let opened = self.listen_on(config.tls_port, config, Door::Tls);
        opened.map_err(|()| {
            self.close_tls();
            format!("Failed listening on port {} (tls)", config.tls_port)
        })
    }

    /// Listens on every `bind` address at `port`. `Err`, and logged, if one that matters can't be had.
    fn listen_on(
        &mut self,
        port: u16,
        config: &Config,
        door: fn(TcpListener) -> Door,
    ) -> Result<(), ()> {
        for bind in &config.bind {
            let bind = bind.lossy();
            let name = bind.strip_prefix('-').unwrap_or(&bind);
            let opened = open_tcp(name, port, config).and_then(|listener| {
                let door = door(TcpListener::from_std(listener));
                self.add(door).map_err(|e| failed("listen: ", &e))
            });
            let Err(failure) = opened else { continue };
            log::warn!(
                "Warning: Could not create server TCP listening socket {name}:{port}: {}",
                failure.text
            );
            if !failure.is_harmless(name.len() < bind.len()) {
                return Err(());
            }
        }
        Ok(())
    }

    fn close_tcp(&mut self) {
        self.close_those(|door| matches!(door, Door::Tcp(_)));
    }

    /// Lets nobody in any more who speaks TLS.
    pub fn close_tls(&mut self) {
        self.close_those(|door| matches!(door, Door::Tls(_)));
    }

    fn close_those(&mut self, which: impl Fn(&Door) -> bool) {
        for (at, place) in self.doors.iter_mut().enumerate() {
            if let Some(Door::Tcp(listener) | Door::Tls(listener)) =
                place.as_mut().filter(|door| which(door))
            {
                // It is closed right after, which ends its registration too.
                let _ = self.reactor.deregister(listener, MioToken(at));
                *place = None;
            }
        }
    }

    /// Reads certificates and keys anew. If something is wrong, which is logged, what there was stays.
    pub fn configure_tls(&mut self, config: &Config, clock: &Clock) -> Result<(), String> {
        let made = Context::of_config(config, clock).inspect_err(|why| log::warn!("{why}"))?;
        let told = self.tls.as_ref().map_or(&[][..], |tls| &tls.notes);
        for note in made.notes.iter().filter(|note| !told.contains(note)) {
            log::warn!("{note}");
        }
        self.tls = Some(made);
        Ok(())
    }

    /// Listens on the Unix socket, if one is configured; a relative path is seen from `dir`. A file in
    /// its place is removed. The error is for the log.
    pub fn listen_unix(&mut self, config: &Config) -> Result<(), String> {
        if config.unixsocket.is_empty() {
            return Ok(());
        }
        let path = config.dir.as_path().join(config.unixsocket.as_path());
        let opened = open_unix(&path, config).and_then(|listener| {
            let door = Door::Unix(UnixListener::from_std(listener));
            self.add(door).map_err(|e| failed("listen: ", &e))
        });
        opened.map_err(|failure| format!("Failed opening Unix socket: {}", failure.text))?;
        self.unix_file = Some(path);
        Ok(())
    }

    /// Takes a connection from a listener's queue; `None` if there is no such listener.
    pub(super) fn accept(&mut self, listener: MioToken) -> Option<io::Result<Guest>> {
        Some(match self.doors.get_mut(listener.0)?.as_mut()? {
            Door::Tcp(l) => l
                .accept()
                .map(|(s, addr)| Guest::Client(Sock::Tcp(s), Some(addr))),
            Door::Unix(l) => l.accept().map(|(s, _)| Guest::Client(Sock::Unix(s), None)),
            Door::Bus(l) => l.accept().map(|(s, addr)| Guest::Node(Sock::Tcp(s), addr)),
            Door::Tls(l) => l.accept().map(|(s, addr)| Guest::Secure(s, addr)),
        })
    }

    /// This listener could not accept.
    pub(super) fn stall(&mut self, listener: MioToken) {
        self.stalled.push(listener);
    }

    /// Lets listeners that could not accept try again.
    pub fn retry(&mut self) {
        for listener in self.stalled.drain(..) {
            self.reactor.again(listener);
        }
    }

    /// Stops listening; the Unix socket's file is removed.
    pub fn close(&mut self) {
        self.doors.clear();
        if let Some(path) = self.unix_file.take() {
            log::info!("Removing the unix socket file.");
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Why a listener could not be opened.
struct Failure {
    /// For the log.
    text: String,
    errno: Option<i32>,
}

impl Failure {
    /// True if the server goes on without this address: it is `optional` and no interface has it, or
    /// the system does not know this kind of address.
    fn is_harmless(&self, optional: bool) -> bool {
        match self.errno {
            Some(libc::EADDRNOTAVAIL) => optional,
            Some(
                libc::ENOPROTOOPT
                | libc::EPROTONOSUPPORT
                | libc::ESOCKTNOSUPPORT
                | libc::EPFNOSUPPORT
                | libc::EAFNOSUPPORT,
            ) => true,
            _ => false,
        }
    }
}

/// `step` says what failed.
fn failed(step: &str, error: &io::Error) -> Failure {
    Failure {
        text: format!("{step}{}", errno::text(error)),
        errno: error.raw_os_error(),
    }
}

/// Listens on an address: an IPv6 one has a colon in it, all others, names too, are IPv4.
fn open_tcp(name: &str, port: u16, config: &Config) -> Result<std::net::TcpListener, Failure> {
    let v6 = name.contains(':');
    let addr: SocketAddr = match name {
        "*" => SocketAddr::from(([0, 0, 0, 0], port)),
        "::*" => SocketAddr::from(([0u16; 8], port)),
        _ => resolve(name, port, v6)?,
    };
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP));
    let socket = socket.map_err(|e| Failure {
        text: format!(
            "unable to bind socket, errno: {}",
            e.raw_os_error().unwrap_or(0)
        ),
        errno: e.raw_os_error(),
    })?;
    if v6 {
        // Without it `*` and `::*` could not be had together.
        let only = socket.set_only_v6(true);
        only.map_err(|e| failed("setsockopt: ", &e))?;
    }
    let reuse = socket.set_reuse_address(true);
    reuse.map_err(|e| failed("setsockopt SO_REUSEADDR: ", &e))?;
    #[cfg(target_os = "linux")]
    if config.socket_mark_id != 0
        && let Err(e) = socket.set_mark(config.socket_mark_id)
    {
        log::warn!("Unable to set the mark of a socket: {}", errno::text(&e));
    }
    bind_and_listen(&socket, &addr.into(), config, || ())?;
    Ok(socket.into())
}

fn resolve(name: &str, port: u16, v6: bool) -> Result<SocketAddr, Failure> {
    let found = (name, port).to_socket_addrs().map_err(|e| Failure {
        text: resolver_words(&e),
        errno: None,
    })?;
    let mut fitting = found.filter(|addr| addr.is_ipv6() == v6);
    fitting.next().ok_or_else(|| Failure {
        text: "Address family for hostname not supported".into(),
        errno: None,
    })
}

fn open_unix(
    path: &std::path::Path,
    config: &Config,
) -> Result<std::os::unix::net::UnixListener, Failure> {
    let len = path.as_os_str().len();
    if len >= UNIX_PATH_MAX {
        return Err(Failure {
            text: format!("unix socket path too long ({len}), must be under {UNIX_PATH_MAX}"),
            errno: None,
        });
    }
    // One that a crash left behind would be in the way; that there is none is no matter.
    let _ = std::fs::remove_file(path);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None);
    let socket = socket.map_err(|e| failed("creating socket: ", &e))?;
    let addr = SockAddr::unix(path).map_err(|e| failed("bind: ", &e))?;
    bind_and_listen(&socket, &addr, config, || {
        if config.unixsocketperm != 0 {
            let mode = std::fs::Permissions::from_mode(config.unixsocketperm);
            if let Err(e) = std::fs::set_permissions(path, mode) {
                log::warn!("Unable to set unixsocketperm: {}", errno::text(&e));
            }
        }
    })?;
    Ok(socket.into())
}

/// `between` runs when the address is taken and nobody can connect yet.
fn bind_and_listen(
    socket: &Socket,
    addr: &SockAddr,
    config: &Config,
    between: impl FnOnce(),
) -> Result<(), Failure> {
    socket.bind(addr).map_err(|e| failed("bind: ", &e))?;
    between();
    let backlog = i32::try_from(config.tcp_backlog).unwrap_or(i32::MAX);
    socket
        .listen(backlog)
        .and_then(|()| socket.set_nonblocking(true))
        .map_err(|e| failed("listen: ", &e))
}
