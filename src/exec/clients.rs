//! What is known of clients and what is held against them: the line that CLIENT LIST shows, the
//! memory they take, and the limits that close them.

use crate::cmd::Args;
use crate::cmd::session::Marks;
use crate::exec::conn::{Conn, Peer, Token};
use crate::exec::server::Server;

/// The classes of `client-output-buffer-limit`, in the order of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Normal = 0,
    Replica = 1,
    Pubsub = 2,
}

impl Conn {
    /// The class whose limits hold.
    pub fn class(&self) -> Class {
        if self.session.marks.has(Marks::REPLICA) {
            Class::Replica
        } else if self.session.subscribed() {
            Class::Pubsub
        } else {
            Class::Normal
        }
    }

    /// Bytes of output that wait beyond the first buffer, as `omem` and the limits count them.
    pub fn output_memory(&self) -> usize {
        if self.reply.len() + self.unsent <= FIRST_BUFFER {
            0
        } else {
            self.reply.memory() + self.unsent
        }
    }

    /// True if its output may be held against the limits.
    #[inline]
    pub fn is_over_first_buffer(&self) -> bool {
        self.reply.len() + self.unsent > FIRST_BUFFER || self.soft_limit_since.is_some()
    }

    /// Bytes held for what was received and not yet run.
    pub fn input_memory(&self) -> usize {
        self.input.capacity()
            + self.parser.memory()
            + self.big.as_ref().map_or(0, |b| b.data.capacity())
    }

    /// All bytes held for this client. Output counts in full, even what it shares with the keyspace.
    pub fn memory_now(&self) -> usize {
        let multi = self.session.multi.as_deref().map_or(0, |m| m.memory);
        let parked = self.parked.as_deref().map_or(0, |p| p.args.memory());
        let subs = self.session.subs.as_deref().map_or(0, |s| {
            (s.channels.len() + s.patterns.len() + s.shard_channels.len()) * SUBSCRIPTION_BYTES
        });
        size_of::<Conn>()
            + size_of::<Peer>()
            + self.peer.addr.len()
            + self.peer.laddr.len()
            + self.reply.memory()
            + self.unsent
            + self.input_memory()
            + multi
            + parked
            + subs
    }

    /// What Redis would have in its query buffer, and the room behind it (`qbuf`, `qbuf-free`). A
    /// client that was lately active is said to hold a buffer like Redis's first, though here all share
    /// one; later only what is its own.
    fn query_buffer(&self, now_s: u64) -> (usize, usize) {
        // A big argument on its way in has a buffer of its own; Redis makes its query buffer begin there.
        let (used, mut size) = match &self.big {
            Some(big) => (big.data.len(), big.data.capacity()),
            None => (self.input.len(), self.input.capacity()),
        };
        if now_s.saturating_sub(self.active_s) <= QUERY_BUFFER_IDLE_S {
            size = size.max(self.input_peak).max(QUERY_BUFFER);
        }
        (used, size.max(used) - used)
    }

    /// Notes how much of the first output buffer was in use (`rbp`).
    pub fn note_reply_peak(&mut self) {
        self.reply_peak = self.reply_peak.max(self.reply.len().min(self.reply_buffer));
    }

    /// The letters of `flags=`; `dirty`: a key that it watches has changed.
    fn flags(&self, dirty: bool) -> String {
        let m = self.session.marks;
        let letters = [
            (m.has(Marks::REPLICA), 'S'),
            (m.has(Marks::MONITOR), 'O'),
            (m.has(Marks::MASTER), 'M'),
            (self.session.subscribed(), 'P'),
            (self.session.multi.is_some(), 'x'),
            (self.parked.is_some(), 'b'),
            (m.has(Marks::TRACKING), 't'),
            (m.has(Marks::TRACKING_BROKEN), 'R'),
            (m.has(Marks::TRACKING_BCAST), 'B'),
            (dirty, 'd'),
            (m.has(Marks::CLOSE_AFTER_REPLY), 'c'),
            (m.has(Marks::CLOSE_ASAP), 'A'),
            (m.has(Marks::UNIX_SOCKET), 'U'),
            (m.has(Marks::READONLY), 'r'),
            (m.has(Marks::NO_EVICT), 'e'),
            (m.has(Marks::NO_TOUCH), 'T'),
        ];
        let flags: String = letters
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, letter)| letter)
            .collect();
        if flags.is_empty() {
            "N".to_string()
        } else {
            flags
        }
    }
}

/// Output up to this size is in the buffer that every client is said to have.
pub const FIRST_BUFFER: usize = 16 * 1024;
/// Size of Redis's first query buffer: what its allocator gives for 16 KB and a header.
const QUERY_BUFFER: usize = 20474;
/// A client that sent nothing for longer is said to hold no query buffer.
pub const QUERY_BUFFER_IDLE_S: u64 = 2;
/// What a subscription takes beside the channel's name, which is shared.
const SUBSCRIPTION_BYTES: usize = 64;
/// What a watched key takes beside its name.
const WATCH_BYTES: usize = 96;
/// Whose memory is not held against clients: it serves the server itself, or is about to go.
const UNCOUNTED: Marks = Marks::MASTER
    .or(Marks::REPLICA)
    .or(Marks::LINK)
    .or(Marks::CLOSE_ASAP);
/// What an argument of the running command takes beside its bytes.
const ARG_BYTES: usize = size_of::<&[u8]>();

/// Bytes that the arguments of a running command take: the bytes alone, and all.
fn args_memory(args: &Args<'_>) -> (usize, usize) {
    let bytes = args.argv().iter().map(|arg| arg.len()).sum::<usize>();
    (bytes, bytes + args.len() * ARG_BYTES)
}

impl Server {
    /// The line of CLIENT LIST and of log messages.
    pub fn client_line(&self, token: Token) -> String {
        let now_s = self.now.s();
        let Some(conn) = self.conns.get(token) else {
            return String::new();
        };
        let parked = conn.parked.as_deref().map_or(0, |p| p.args.memory());
        self.line(
            token,
            conn,
            conn.query_buffer(now_s),
            parked,
            self.memory_of(conn),
        )
    }

    /// The same for the client that runs a command with these arguments: its request stands in the
    /// query buffer.
    pub fn client_line_running(&self, token: Token, args: &Args<'_>) -> String {
        let Some(conn) = self.conns.get(token) else {
            return String::new();
        };
        let qbuf = self.running_bytes;
        let (argv, all) = args_memory(args);
        let buffer = (qbuf, QUERY_BUFFER.max(qbuf) - qbuf);
        self.line(token, conn, buffer, argv, self.memory_of(conn) + all)
    }

    fn line(
        &self,
        token: Token,
        c: &Conn,
        (qbuf, qbuf_free): (usize, usize),
        argv: usize,
        total: usize,
    ) -> String {
        let s = &c.session;
        let text = |b: &[u8]| {
            let shown = b.split(|&b| b == 0).next().unwrap_or_default();
            String::from_utf8_lossy(shown).into_owned()
        };
        let (sub, psub, ssub) = s.subs.as_deref().map_or((0, 0, 0), |s| {
            (s.channels.len(), s.patterns.len(), s.shard_channels.len())
        });
        let multi = s.multi.as_deref();
        let output = c.reply.len();
        let (obl, oll) = match output > c.reply_buffer {
            true => (
                c.reply_buffer,
                (output - c.reply_buffer).div_ceil(FIRST_BUFFER),
            ),
            false => (output, 0),
        };
        format!(
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={sub} psub={psub} ssub={ssub} multi={} qbuf={qbuf} qbuf-free={qbuf_free} argv-mem={argv} multi-mem={} rbs={} rbp={} obl={obl} oll={oll} omem={} tot-mem={total} events={} cmd={} user={} redir={} resp={} lib-name={} lib-ver={}",
            s.id,
            c.peer.addr,
            c.peer.laddr,
            c.peer.fd,
            text(&s.name),
            self.now.s().saturating_sub(c.created_s),
            self.now.s().saturating_sub(c.active_s),
            c.flags(self.watch.is_dirty(s.id)),
            s.db,
            multi.map_or(-1, |m| (m.commands.len() + m.running) as i64),
            multi.map_or(0, |m| m.memory),
            c.reply_buffer,
            c.reply_peak,
            self.output_memory(token, c),
            if c.write_blocked { "rw" } else { "r" },
            s.last_command
                .map_or("NULL", |id| self.table.get(id).spec.name),
            s.user()
                .map_or("(superuser)".into(), |user| String::from_utf8_lossy(
                    user.name()
                )),
            self.tracking.redirect_of(s.id).map_or(-1, |id| id as i64),
            if c.reply.is_resp3() { 3 } else { 2 },
            text(&s.lib_name),
            text(&s.lib_version),
        )
    }

    /// Bytes of output that wait: of a replica, what it has yet to be sent of the stream.
    fn output_memory(&self, token: Token, conn: &Conn) -> usize {
        match conn.class() {
            Class::Replica => self.repl.unsent(token),
            _ => conn.output_memory(),
        }
    }

    /// The connections that CLIENT LIST shows, oldest first: all but links, and those that were let go and
    /// only wait for their socket to be closed.
    pub fn listed_clients(&self) -> Vec<Token> {
        let mut tokens = self.conns.tokens_by_id();
        tokens.retain(|&t| self.is_listed(t));
        tokens
    }

    /// The connection of the client with this id, if there is one.
    pub fn client_by_id(&self, id: i64) -> Option<Token> {
        let id = u64::try_from(id).ok()?;
        self.conns.by_id(id).filter(|&t| self.is_listed(t))
    }

    fn is_listed(&self, token: Token) -> bool {
        let Some(conn) = self.conns.get(token) else {
            return false;
        };
        let closing = conn.session.marks.has(Marks::CLOSE_ASAP);
        !conn.is_link() && (!closing || self.doomed.contains(&token))
    }

    /// Closes a connection once its output is written.
    pub fn close_after_reply(&mut self, token: Token) {
        if let Some(conn) = self.conns.get_mut(token) {
            conn.session.marks.set(Marks::CLOSE_AFTER_REPLY, true);
        }
    }

    /// Closes a client whose output is over its limits.
    #[inline]
    pub fn check_output(&mut self, token: Token) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        if conn.is_over_first_buffer() || conn.session.marks.has(Marks::REPLICA) {
            self.check_output_limits(token);
        }
    }

    fn check_output_limits(&mut self, token: Token) {
        let now_s = self.now.s();
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        let class = conn.class();
        let mut limit = self.config.client_output_buffer_limit[class as usize];
        if class == Class::Replica && limit.hard != 0 {
            // Less than the backlog would only make it come back for what it gets anyway.
            limit.hard = limit.hard.max(self.config.repl_backlog_size);
        }
        let used = match class {
            Class::Replica => self.repl.unsent(token),
            _ => conn.output_memory(),
        };
        let hard = limit.hard != 0 && used >= limit.hard;
        let mut soft = limit.soft != 0 && used >= limit.soft;
        if soft {
            let since = *conn.soft_limit_since.get_or_insert(now_s);
            soft = now_s.saturating_sub(since) > limit.soft_seconds;
        } else {
            conn.soft_limit_since = None;
        }
        let exempt = Marks::CLOSE_ASAP | Marks::MASTER | Marks::LINK;
        if (hard || soft) && !conn.session.marks.has(exempt) {
            let line = self.client_line(token);
            log::warn!(
                "Client {line} scheduled to be closed ASAP for overcoming of output buffer limits."
            );
            self.stats.output_limit_closes += 1;
            self.doom(token);
        }
    }

    /// All bytes held for a client, what it watches and broadcasts to included.
    fn memory_of(&self, conn: &Conn) -> usize {
        let id = conn.session.id;
        conn.memory_now()
            + self.watch.watched_by(id) * WATCH_BYTES
            + self.tracking.prefixes_memory(id)
    }

    /// Counts the memory of a client anew.
    pub fn count_memory(&mut self, token: Token) {
        let memory = match self.conns.get(token) {
            Some(c) if c.session.marks.has(UNCOUNTED) => 0,
            Some(conn) => self.memory_of(conn),
            None => return,
        };
        if let Some(conn) = self.conns.get_mut(token) {
            let before = std::mem::replace(&mut conn.memory, memory);
            self.clients_memory = self.clients_memory - before + memory;
        }
    }

    /// Counts the memory of a client anew if it matters before cron comes by: under `maxmemory-clients`.
    #[inline]
    pub fn recount(&mut self, token: Token) {
        if self.config.maxmemory_clients != 0 {
            self.count_memory(token);
        }
    }

    /// Makes room within `maxmemory-clients` before a client runs a command, by what each was last
    /// counted at: the request itself is not held against it. `false` if it was closed itself.
    pub fn evict_clients_for(&mut self, token: Token) -> bool {
        self.evict_clients();
        let gone = |c: &Conn| c.session.marks.has(Marks::CLOSE_ASAP);
        !self.conns.get(token).is_some_and(gone)
    }

    /// Closes the largest clients until all together are within `maxmemory-clients`.
    pub fn evict_clients(&mut self) {
        let limit = self.config.client_memory_limit();
        if limit != self.clients_limit {
            // A new limit is held against what is held now, not against what cron saw last.
            self.clients_limit = limit;
            for token in self.conns.tokens_by_id() {
                self.count_memory(token);
            }
        }
        if limit == 0 || self.clients_memory < limit {
            return;
        }
        let spared = Marks::NO_EVICT | UNCOUNTED;
        let evictable = self
            .conns
            .iter()
            .filter(|(_, c)| !c.session.marks.has(spared));
        let mut largest: Vec<_> = evictable.map(|(token, c)| (c.memory, token)).collect();
        largest.sort_unstable();
        while self.clients_memory >= limit {
            let Some((_, token)) = largest.pop() else {
                log::warn!("Over client maxmemory after evicting all evictable clients");
                break;
            };
            log::info!("Evicting client: {}", self.client_line(token));
            self.stats.evicted_clients += 1;
            self.disconnect(token);
        }
    }
}
