//! A connection as the server sees it: a session, what it has sent and not yet been answered,
//! and what it is still to be sent. The socket itself is the network's (`server/net.rs`).

use crate::cmd::args::OwnedArgs;
use crate::cmd::fault::Block;
use crate::cmd::session::{Marks, Session};
use crate::exec::acks::Acks;
use crate::exec::clients::FIRST_BUFFER;
use crate::exec::link::Link;
use crate::exec::withheld::Holds;
use crate::resp::reply::{Mark, Reply};
use crate::resp::request::Parser;

pub use crate::cmd::session::Token;

/// Where a connection comes from, as the network tells.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// `ip:port`, or `path:0` for a Unix socket.
    pub addr: String,
    /// Our end of it, likewise.
    pub laddr: String,
    /// File descriptor, for CLIENT LIST.
    pub fd: i32,
    pub unix_socket: bool,
    /// The peer is on this machine (protected mode lets it in).
    pub loopback: bool,
}

impl Peer {
    /// Its address without the port.
    pub fn ip(&self) -> &str {
        ip_of(&self.addr)
    }

    /// The port of its address; 0 if it has none.
    pub fn port(&self) -> u16 {
        let port = self.addr.rsplit_once(':').map(|(_, port)| port.parse());
        port.and_then(Result::ok).unwrap_or(0)
    }

    /// Our address without the port.
    pub fn own_ip(&self) -> &str {
        ip_of(&self.laddr)
    }
}

fn ip_of(addr: &str) -> &str {
    let ip = addr.rsplit_once(':').map_or("", |(ip, _)| ip);
    ip.trim_start_matches('[').trim_end_matches(']')
}

/// A big argument on its way in.
#[derive(Debug)]
pub struct Big {
    pub data: Vec<u8>,
    /// Bytes it will have, the line end counted.
    pub need: usize,
}

/// A command that waits: blocked on keys, or held up by CLIENT PAUSE.
#[derive(Debug)]
pub struct Parked {
    pub args: OwnedArgs,
    pub command: usize,
    pub why: Why,
    /// Microseconds spent in it so far, for the slow log and the statistics.
    pub spent_us: u64,
}

/// Why a command is parked.
#[derive(Debug)]
pub enum Why {
    Keys(Box<Block>),
    /// WAIT, WAITAOF.
    Acks(Acks),
    /// SHUTDOWN, which waits for replicas.
    Shutdown,
    Paused,
    /// For keys that are on their way to another server: it has yet to run.
    Held,
    /// MIGRATE, for the other server.
    Migrates,
}

/// See the head of the file.
pub struct Conn {
    pub session: Session,
    pub reply: Reply,
    pub parser: Parser,
    /// Received bytes that no command has consumed yet.
    pub input: Vec<u8>,
    /// Most bytes `input` held of late; decides when its buffer shrinks.
    pub input_peak: usize,
    pub peer: Box<Peer>,
    /// Unix time in seconds.
    pub created_s: u64,
    /// Unix time in seconds of the last bytes in either direction.
    pub active_s: u64,
    pub parked: Option<Box<Parked>>,
    /// In the list of those with output.
    pub write_queued: bool,
    /// The socket took less than was offered: wait for it before writing again.
    pub write_blocked: bool,
    /// Bytes of output that its TLS session has taken, and the socket has not.
    pub unsent: usize,
    /// Unix time in seconds since when the output is over the soft limit.
    pub soft_limit_since: Option<u64>,
    /// A big argument that is being read into a buffer of its own.
    pub big: Option<Big>,
    /// Size of the first output buffer as Redis would have it now, its recent peak, and when the
    /// peak was last set back (unix time in ms): CLIENT LIST shows them as rbs and rbp.
    pub reply_buffer: usize,
    pub reply_peak: usize,
    pub reply_peak_reset_ms: u64,
    /// Memory last counted for this connection.
    pub memory: usize,
    /// Pushes that wait until the running command has replied.
    pub late: Option<Box<Reply>>,
    /// Output that waits for the log.
    pub held: Holds,
    /// The end of the last reply that is sure to be sent; CLIENT REPLY SKIP cuts back to it.
    pub kept: Mark,
    /// Reply bytes written to the socket in all.
    pub net_output: u64,
    /// Bytes read from the socket in all.
    pub net_input: u64,
    /// Commands run.
    pub commands: u64,
    /// Offset of the replication stream behind the last thing it changed (WAIT).
    pub written_to: i64,
    /// Who hears of it, if we opened it.
    pub link: Option<Box<Link>>,
}

impl Conn {
    /// A new connection whose client has the given id, made at `now_s`.
    pub fn new(id: u64, peer: Peer, now_s: u64) -> Self {
        let mut session = Session::new(id);
        let reply = Reply::new();
        session.marks.set(Marks::UNIX_SOCKET, peer.unix_socket);
        Conn {
            session,
            kept: reply.mark(),
            reply,
            parser: Parser::new(),
            input: Vec::new(),
            input_peak: 0,
            peer: Box::new(peer),
            created_s: now_s,
            active_s: now_s,
            parked: None,
            write_queued: false,
            write_blocked: false,
            soft_limit_since: None,
            big: None,
            reply_buffer: FIRST_BUFFER,
            unsent: 0,
            reply_peak: FIRST_BUFFER,
            // The first look of cron sets the peak back: who says nothing is said to hold little.
            reply_peak_reset_ms: 0,
            memory: 0,
            late: None,
            held: None,
            net_output: 0,
            net_input: 0,
            commands: 0,
            written_to: 0,
            link: None,
        }
    }

    /// True if somebody is at the other end.
    pub fn has_peer(&self) -> bool {
        !self.session.marks.has(Marks::HEADLESS)
    }

    /// True while the next command may run. No link's input is commands.
    pub fn may_run(&self) -> bool {
        self.parked.is_none()
            && !self
                .session
                .marks
                .has(Marks::CLOSE_AFTER_REPLY | Marks::CLOSE_ASAP | Marks::LINK | Marks::DEBUGGED)
    }

    /// True if we opened it and what it brings goes to its owner.
    pub fn is_link(&self) -> bool {
        self.session.marks.has(Marks::LINK)
    }

    /// True if it has output and is not in the list of those with output; it is said to be from now on.
    #[inline]
    pub fn has_new_output(&mut self) -> bool {
        let new = !self.write_queued && !self.reply.is_empty();
        self.write_queued |= new;
        new
    }

    /// The position at which the next push begins.
    pub fn next_push(&self) -> u64 {
        if self.session.marks.has(Marks::REPLY_OFF | Marks::REPLY_SKIP) {
            self.kept.position()
        } else {
            self.reply.end()
        }
    }

    /// Writes a push. CLIENT REPLY OFF and SKIP do not silence it, only the reply around it.
    pub fn write_push(&mut self, write: impl FnOnce(&mut Reply)) {
        if self.session.marks.has(Marks::REPLY_OFF | Marks::REPLY_SKIP) {
            self.reply.truncate(self.kept);
        }
        write(&mut self.reply);
        self.kept = self.reply.mark();
    }

    /// Writes the pushes that waited for a command's reply.
    #[cold]
    pub fn write_late(&mut self) {
        if let Some(late) = self.late.take() {
            self.write_push(|reply| reply.append(*late));
        }
    }

    /// Takes back the reply of a request that is to have none, by what CLIENT REPLY said.
    #[cold]
    pub fn silence(&mut self) {
        let marks = &mut self.session.marks;
        let silent = marks.has(Marks::REPLY_OFF | Marks::REPLY_SKIP);
        let next = marks.has(Marks::REPLY_SKIP_NEXT);
        marks.set(Marks::REPLY_SKIP_NEXT, false);
        marks.set(Marks::REPLY_SKIP, next);
        if silent || next {
            self.reply.truncate(self.kept);
        }
    }

    /// True while it waits for keys or replicas.
    pub fn blocked(&self) -> bool {
        matches!(
            self.parked.as_deref(),
            Some(Parked {
                why: Why::Keys(_) | Why::Acks(_),
                ..
            })
        )
    }
}

/// All connections, by token.
#[derive(Default)]
pub struct Conns {
    slots: Vec<Option<Box<Conn>>>,
    free: Vec<usize>,
    len: usize,
    /// How many of them are links.
    links: usize,
}

impl Conns {
    /// Adds a connection.
    pub fn insert(&mut self, conn: Conn) -> Token {
        self.len += usize::from(conn.has_peer());
        self.links += usize::from(conn.is_link());
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[at] = Some(Box::new(conn));
        Token(at)
    }

    /// Takes a connection out.
    pub fn remove(&mut self, token: Token) -> Option<Box<Conn>> {
        let conn = self.slots.get_mut(token.0)?.take()?;
        self.len -= usize::from(conn.has_peer());
        self.links -= usize::from(conn.is_link());
        self.free.push(token.0);
        Some(conn)
    }

    /// The connection of this token.
    #[inline]
    pub fn get(&self, token: Token) -> Option<&Conn> {
        self.slots.get(token.0)?.as_deref()
    }

    /// The connection of this token, to change.
    #[inline]
    pub fn get_mut(&mut self, token: Token) -> Option<&mut Conn> {
        self.slots.get_mut(token.0)?.as_deref_mut()
    }

    /// How many clients there are: links do not count.
    pub fn len(&self) -> usize {
        self.len - self.links
    }

    /// True if there is no client.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One that was a link is a client now.
    pub(super) fn note_adopted(&mut self) {
        self.links -= 1;
    }

    /// All of them in the order of their tokens.
    pub fn iter(&self) -> impl Iterator<Item = (Token, &Conn)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(i, c)| Some((Token(i), c.as_deref()?)))
            .filter(|(_, c)| c.has_peer())
    }

    /// All of them, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Token, &mut Conn)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(i, c)| Some((Token(i), c.as_deref_mut()?)))
            .filter(|(_, c)| c.has_peer())
    }

    /// All tokens in the order of client ids, which is the order of arrival.
    pub fn tokens_by_id(&self) -> Vec<Token> {
        let mut all: Vec<_> = self.iter().map(|(t, c)| (c.session.id, t)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, t)| t).collect()
    }

    /// The connection whose client has this id.
    pub fn by_id(&self, id: u64) -> Option<Token> {
        self.iter()
            .find(|(_, c)| c.session.id == id)
            .map(|(t, _)| t)
    }

    /// One past the greatest token in use.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }
}
