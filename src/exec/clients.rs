//! What is known of clients and what is held against them: the line that CLIENT LIST shows, the
//! memory they take, and the limits that close them.

use crate::cmd::session::Marks;
use crate::exec::conn::{Conn, Token};
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
        if self.session.subscribed() {
            Class::Pubsub
        } else {
            Class::Normal
        }
    }

    /// Bytes of output that wait beyond the first buffer, as `omem` counts them.
    pub fn output_memory(&self) -> usize {
        if self.reply.len() <= FIRST_BUFFER {
            0
        } else {
            self.reply.memory()
        }
    }

    /// Bytes held for what was received and not yet run.
    pub fn input_memory(&self) -> usize {
        self.input.capacity()
            + self.parser.memory()
            + self.big.as_ref().map_or(0, |b| b.data.capacity())
    }

    /// All bytes held for this client.
    pub fn memory_now(&self) -> usize {
        let multi = self.session.multi.as_deref().map_or(0, |m| m.memory);
        let parked = self.parked.as_deref().map_or(0, |p| p.args.memory());
        let subs = self.session.subs.as_deref().map_or(0, |s| {
            (s.channels.len() + s.patterns.len() + s.shard_channels.len()) * SUBSCRIPTION_BYTES
        });
        size_of::<Conn>()
            + self.reply.memory()
            + self.input_memory()
            + multi
            + parked
            + subs
            + self.reply_buffer
    }

    /// The letters of `flags=`.
    fn flags(&self) -> String {
        let m = self.session.marks;
        let mut flags = String::new();
        let mut add = |on: bool, letter: char| {
            if on {
                flags.push(letter);
            }
        };
        add(m.has(Marks::MONITOR), 'O');
        add(m.has(Marks::MASTER), 'M');
        add(self.session.subscribed(), 'P');
        add(self.session.multi.is_some(), 'x');
        add(self.parked.is_some(), 'b');
        add(m.has(Marks::CLOSE_AFTER_REPLY), 'c');
        add(m.has(Marks::CLOSE_ASAP), 'A');
        add(m.has(Marks::UNIX_SOCKET), 'U');
        add(m.has(Marks::READONLY), 'r');
        add(m.has(Marks::NO_EVICT), 'e');
        add(m.has(Marks::NO_TOUCH), 'T');
        if flags.is_empty() {
            flags.push('N');
        }
        flags
    }
}

/// Output up to this size is in the buffer that every client is said to have.
pub const FIRST_BUFFER: usize = 16 * 1024;
/// What a subscription takes beside the channel's name, which is shared.
const SUBSCRIPTION_BYTES: usize = 64;

impl Server {
    /// The line of CLIENT LIST and of log messages.
    pub fn client_line(&self, token: Token) -> String {
        let Some(c) = self.conns.get(token) else {
            return String::new();
        };
        let s = &c.session;
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let (sub, psub, ssub) = s.subs.as_deref().map_or((0, 0, 0), |s| {
            (s.channels.len(), s.patterns.len(), s.shard_channels.len())
        });
        let multi = s.multi.as_deref();
        let running = self.current == Some(token);
        // The running command's own request is all that a client ever has in its query buffer.
        let (qbuf, qbuf_free) = match (c.input.capacity(), running) {
            (0, true) => (
                self.running_bytes,
                FIRST_BUFFER + 4096 - self.running_bytes.min(FIRST_BUFFER),
            ),
            (capacity, _) => (c.input.len(), capacity - c.input.len()),
        };
        let argv = c.parked.as_deref().map_or(
            if running {
                self.running_bytes.min(10)
            } else {
                0
            },
            |p| p.args.memory(),
        );
        let (obl, oll) = if c.reply.len() <= FIRST_BUFFER {
            (c.reply.len(), 0)
        } else {
            (0, c.reply.chunk_count().max(1))
        };
        let events = if c.write_blocked { "rw" } else { "r" };
        format!(
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={sub} psub={psub} ssub={ssub} multi={} qbuf={qbuf} qbuf-free={qbuf_free} argv-mem={argv} multi-mem={} rbs={} rbp={} obl={obl} oll={oll} omem={} tot-mem={} events={events} cmd={} user={} redir=-1 resp={} lib-name={} lib-ver={}",
            s.id,
            c.peer.addr,
            c.peer.laddr,
            c.peer.fd,
            text(&s.name),
            self.now.s().saturating_sub(c.created_s),
            self.now.s().saturating_sub(c.active_s),
            c.flags(),
            s.db,
            multi.map_or(-1, |m| m.commands.len() as i64),
            multi.map_or(0, |m| m.memory),
            c.reply_buffer,
            c.reply_peak,
            c.output_memory(),
            c.memory_now() + if running { qbuf + qbuf_free } else { 0 },
            s.last_command
                .map_or("NULL", |id| self.table.get(id).spec.name),
            s.user,
            if c.reply.is_resp3() { 3 } else { 2 },
            text(&s.lib_name),
            text(&s.lib_version),
        )
    }

    /// Closes a client whose output is over its limits.
    #[inline]
    pub fn check_output(&mut self, token: Token) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        if conn.reply.len() <= FIRST_BUFFER && conn.soft_limit_since.is_none() {
            return;
        }
        self.check_output_limits(token);
    }

    fn check_output_limits(&mut self, token: Token) {
        let now_s = self.now.s();
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        let limit = self.config.client_output_buffer_limit[conn.class() as usize];
        let used = conn.output_memory();
        let hard = limit.hard != 0 && used >= limit.hard;
        let mut soft = limit.soft != 0 && used >= limit.soft;
        if soft {
            let since = *conn.soft_limit_since.get_or_insert(now_s);
            soft = now_s.saturating_sub(since) > limit.soft_seconds;
        } else {
            conn.soft_limit_since = None;
        }
        if (hard || soft) && !conn.session.marks.has(Marks::CLOSE_ASAP | Marks::MASTER) {
            let line = self.client_line(token);
            log::warn!(
                "Client {line} scheduled to be closed ASAP for overcoming of output buffer limits."
            );
            self.stats.output_limit_closes += 1;
            self.doom(token);
        }
    }

    /// Counts the memory of a client anew.
    pub fn count_memory(&mut self, token: Token) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        let memory = if conn.session.marks.has(Marks::MASTER | Marks::CLOSE_ASAP) {
            0
        } else {
            conn.memory_now()
        };
        self.clients_memory =
            self.clients_memory - std::mem::replace(&mut conn.memory, memory) + memory;
    }

    /// Closes the largest clients until all together are within `maxmemory-clients`. `false` if
    /// `running` was one of them.
    pub fn evict_clients(&mut self, running: Option<Token>) -> bool {
        let limit = self.config.client_memory_limit();
        if limit == 0 {
            return true;
        }
        if let Some(token) = running {
            self.count_memory(token);
        }
        let mut survived = true;
        while self.clients_memory >= limit {
            let largest = self
                .conns
                .iter()
                .filter(|(_, c)| {
                    !c.session
                        .marks
                        .has(Marks::NO_EVICT | Marks::CLOSE_ASAP | Marks::MASTER)
                })
                .max_by_key(|(_, c)| c.memory);
            let Some((token, _)) = largest else {
                log::warn!("Over client maxmemory after evicting all evictable clients");
                break;
            };
            log::info!("Evicting client: {}", self.client_line(token));
            self.stats.evicted_clients += 1;
            survived &= running != Some(token);
            self.disconnect(token);
        }
        survived
    }
}
