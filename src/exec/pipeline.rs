//! From bytes to calls: a connection's input is parsed ahead, its keys are fetched ahead, and
//! its commands run in order.
//!
//! A pipelined batch is known before its first command runs. So the whole batch is parsed, the
//! hashes of its keys are computed once, and the cache lines that a lookup will touch (segment,
//! tags, slot, entry) are fetched stage by stage for all keys together, so that their misses
//! overlap instead of following each other. These are hints: nothing is decided before a command
//! runs, and after each command the connection is asked anew whether its next one may run (it may
//! have blocked, been killed, or changed its database).

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::base::equal::equal;
use crate::cmd::Args;
use crate::cmd::keys::KeyHint;
use crate::cmd::session::Marks;
use crate::config::Config;
use crate::exec::conn::{Big, Conn, Token};
use crate::exec::io::Io;
use crate::exec::server::Server;
use crate::exec::table::{Command, CommandId, Resolved};
use crate::object::{Entry, ValueRef};
use crate::resp::request::{Batch, Limits, Parser, ProtocolError, Step};

/// Commands parsed ahead of the one that runs. Enough to hide a memory access behind the others,
/// few enough for their cache lines to stay in the first-level cache.
const BATCH_MAX: usize = 32;
/// Commands that a connection may run in one turn before the others have theirs, and how long they may take together: five
/// hundred GETs take as long; five hundred ZADDs, or SETs that each copy a segment for a snapshot, would hold the others up.
const SHARE_MAX: usize = 512;
const SHARE_NS: u64 = 200_000;
/// Connections that sent more than this are fetched ahead batch by batch, when they run.
const AHEAD_MAX: usize = 4096;
/// Keys of a single command that are fetched ahead.
const KEYS_MAX: usize = 64;

/// Arguments of a batch whose places are kept for the next one.
const ARGS_KEPT: usize = 4096;

/// Memory reused from batch to batch.
#[derive(Default)]
pub struct Scratch {
    batch: Batch,
    /// The arguments of all its commands. Empty between batches.
    args: Vec<&'static [u8]>,
    ahead: Ahead,
}

/// What is known of a batch before it runs.
#[derive(Default)]
struct Ahead {
    hints: Vec<KeyHint>,
    hashes: Vec<u64>,
    /// For each command of the batch: what it calls and where its hints begin.
    prepared: Vec<(Resolved, u32)>,
}

impl Server {
    /// Bytes have arrived on a connection. What can't run yet stays in its input buffer; `true`
    /// means there is more to run that only waits for its turn.
    pub fn feed(&mut self, io: &mut dyn Io, token: Token, data: &[u8]) -> bool {
        self.note_input(token, data.len());
        let Some(conn) = self.conns.get_mut(token) else {
            return false;
        };
        conn.input_peak = conn.input_peak.max(conn.input.len() + data.len());
        if conn.input.is_empty() && conn.may_run() {
            // The common case: run straight from the network's buffer and keep only a rest.
            let rest = self.run_input(io, token, data);
            if let Some(conn) = self.conns.get_mut(token) {
                conn.input.extend_from_slice(&data[rest]);
            }
            return self.after_input(token);
        }
        if conn.is_link() {
            self.feed_link(io, token, data);
            return false;
        }
        conn.input.extend_from_slice(data);
        self.run_own(io, token)
    }

    /// Bytes have arrived on a connection, but this turn has no time for them: they wait in its input buffer. `true` as
    /// with [`Server::feed`].
    pub fn keep(&mut self, io: &mut dyn Io, token: Token, data: &[u8]) -> bool {
        if self.conns.get(token).is_some_and(Conn::is_link) {
            return self.feed(io, token, data);
        }
        self.note_input(token, data.len());
        let Some(conn) = self.conns.get_mut(token) else {
            return false;
        };
        conn.input.extend_from_slice(data);
        conn.input_peak = conn.input_peak.max(conn.input.len());
        self.mark_pending(token, true);
        self.after_input(token)
    }

    /// A big argument has arrived whole in the buffer that was made for it.
    pub fn feed_big(&mut self, io: &mut dyn Io, token: Token, arg: Bytes) -> bool {
        let Some(conn) = self.conns.get_mut(token) else {
            return false;
        };
        conn.parser.supply_big(arg);
        self.run_own(io, token)
    }

    /// Runs what a connection has left in its input buffer: its turn came again, or it no longer
    /// waits. `true` as with [`Server::feed`].
    pub fn resume(&mut self, io: &mut dyn Io, token: Token) -> bool {
        match self.conns.get(token) {
            Some(conn) if !conn.input.is_empty() || conn.parser.is_midway() => {
                self.run_own(io, token)
            }
            _ => false,
        }
    }

    fn run_own(&mut self, io: &mut dyn Io, token: Token) -> bool {
        let Some(conn) = self.conns.get_mut(token) else {
            return false;
        };
        if conn.may_run() && conn.big.is_none() {
            let mut own = std::mem::take(&mut conn.input);
            let rest = self.run_input(io, token, &own);
            own.truncate(rest.end);
            own.drain(..rest.start);
            if let Some(conn) = self.conns.get_mut(token) {
                conn.input = own;
            }
        }
        self.after_input(token)
    }

    /// Counts bytes that came in.
    pub fn note_input(&mut self, token: Token, bytes: usize) {
        let now_s = self.now.s();
        if let Some(conn) = self.conns.get_mut(token) {
            if conn.session.marks.has(Marks::MASTER | Marks::LINK) {
                return self.note_link_input(token, bytes);
            }
            self.stats.net_input += bytes as u64;
            conn.net_input += bytes as u64;
            conn.active_s = now_s;
        }
        self.recount(token);
    }

    /// The same for a link, whose owner counts by itself, and for a master's stream.
    #[cold]
    fn note_link_input(&mut self, token: Token, bytes: usize) {
        let now_s = self.now.s();
        if let Some(conn) = self.conns.get_mut(token) {
            conn.net_input += bytes as u64;
            conn.active_s = now_s;
        }
        if self.is_from_master(token) {
            self.stream_read(token, bytes);
        }
    }

    /// Limits on what is left unconsumed, and whether more of it could run at once.
    fn after_input(&mut self, token: Token) -> bool {
        self.recount(token);
        let limit = self.config.client_query_buffer_limit;
        let Some(conn) = self.conns.get_mut(token) else {
            return false;
        };
        if conn.input.is_empty() && conn.input.capacity() > 0 {
            conn.input = Vec::new();
        }
        // What is an argument already is no query buffer any more; a big one is to become as long as it says.
        let due = conn.big.as_ref().map_or(0, |big| big.need);
        let unparsed = conn.input.len().saturating_sub(conn.parser.parsed());
        if unparsed + due > limit && !conn.session.marks.has(Marks::MASTER) {
            let line = self.client_line(token);
            let head = self
                .conns
                .get(token)
                .map(|c| crate::base::quoted::quote(&c.input[..c.input.len().min(64)]));
            log::warn!(
                "Closing client that reached max query buffer length: {line} (qbuf initial bytes: {})",
                head.unwrap_or_default()
            );
            self.stats.query_buffer_limit_closes += 1;
            self.doom(token);
            return false;
        }
        let Some(conn) = self.conns.get(token) else {
            return false;
        };
        conn.session.marks.has(Marks::PENDING_INPUT) && conn.may_run()
    }

    /// Runs the complete commands at the front of `buf`, at most a turn's worth. What is to be kept of
    /// `buf`: from the first command that did not run to its end, or to where a big argument begins.
    fn run_input(&mut self, io: &mut dyn Io, token: Token, buf: &[u8]) -> Range<usize> {
        let mut scratch = self.batch.take().unwrap_or_default();
        let (mut used, mut end) = (0, buf.len());
        let mut ran = 0;
        let until_ns = self.now.mono_ns + SHARE_NS;
        self.mark_pending(token, false);
        while let Some(conn) = self.conns.get_mut(token) {
            if !conn.may_run() || self.exiting.is_some() {
                break;
            }
            if ran >= SHARE_MAX {
                self.mark_pending(token, true);
                break;
            }
            let limits = limits(&self.config, self.acl.users.ask_for_login(), conn);
            // AUTH lifts the limits for what follows it.
            let most = if limits.authenticated { BATCH_MAX } else { 1 };
            let step = conn
                .parser
                .parse(&buf[used..], &mut scratch.batch, &limits, most);
            ran += scratch.batch.len();
            match self.run_batch(io, token, &mut scratch, &buf[used..], until_ns) {
                Some(last) => {
                    used += last;
                    let more = used < buf.len() && self.now.mono_ns >= until_ns;
                    self.mark_pending(token, more);
                    break;
                }
                None => used += scratch.batch.consumed(),
            }
            match step {
                Step::Again => {}
                Step::NeedMore => break,
                Step::Big { at, len } => {
                    end = used + at;
                    self.begin_big(token, &buf[end..], len + 2);
                    break;
                }
                Step::Error(error) => {
                    self.protocol_error(token, error, &buf[used..]);
                    used = buf.len();
                    break;
                }
            }
        }
        scratch.batch.clear();
        self.batch = Some(scratch);
        used..end
    }

    /// Runs the commands of a batch in order. `Some`: the connection may not go on for now, or not in this turn since it is
    /// `until_ns`, and the last command ended there; what was parsed ahead is parsed again when it goes on.
    fn run_batch(
        &mut self,
        io: &mut dyn Io,
        token: Token,
        scratch: &mut Scratch,
        buf: &[u8],
        until_ns: u64,
    ) -> Option<usize> {
        self.running_bytes = buf.len();
        let Scratch { batch, args, ahead } = scratch;
        let mut all: Vec<&[u8]> = std::mem::take(args);
        all.extend(batch.all(buf).iter());
        self.prepare(token, batch, &all, ahead);
        let mut stopped_at = None;
        let stream = self.is_from_master(token);
        let mut ran = 0;
        for (i, &(resolved, hint)) in ahead.prepared.iter().enumerate() {
            if stream && batch.is_inline(i) {
                self.inline_from_master(token);
                stopped_at = Some(ran);
                break;
            }
            let args = Args::new(&all[batch.span(i)], batch.bigs());
            self.request(io, token, args, resolved, &ahead.hints[hint as usize..]);
            if stream {
                self.stream_ran(token, &buf[ran..batch.end(i)]);
                self.end_bad_stream(io);
                ran = batch.end(i);
            }
            let goes_on = self.exiting.is_none() && self.now.mono_ns < until_ns;
            if !goes_on || !self.conns.get(token).is_some_and(Conn::may_run) {
                stopped_at = Some(batch.end(i));
                break;
            }
        }
        if stream && stopped_at.is_none() {
            // Newlines between commands are part of the stream.
            self.stream_ran(token, &buf[ran..batch.consumed()]);
        }
        *args = emptied(all);
        stopped_at
    }

    /// A big argument begins with `data`; the network reads the rest straight behind it.
    fn begin_big(&mut self, token: Token, data: &[u8], need: usize) {
        if let Some(conn) = self.conns.get_mut(token) {
            let mut whole = Vec::with_capacity(need);
            whole.extend_from_slice(data);
            conn.input_peak = conn.input_peak.max(need);
            conn.big = Some(Big { data: whole, need });
        }
    }

    fn mark_pending(&mut self, token: Token, on: bool) {
        if let Some(conn) = self.conns.get_mut(token) {
            conn.session.marks.set(Marks::PENDING_INPUT, on);
        }
    }

    /// Looks up the commands of a batch, and fetches the memory that their keys live in.
    fn prepare(&self, token: Token, batch: &Batch, all: &[&[u8]], ahead: &mut Ahead) {
        ahead.hints.clear();
        ahead.prepared.clear();
        let mut last: (&[u8], Option<CommandId>) = (b"", None);
        let mut name_elements = false;
        for i in 0..batch.len() {
            let first = ahead.hints.len() as u32;
            let argv = &all[batch.span(i)];
            let name = argv[0];
            // A batch is mostly one command many times.
            let resolved = match last.1 {
                Some(id) if equal(last.0, name) => Resolved::Command(id),
                _ => self.table.resolve(argv),
            };
            last = (name, None);
            if let Resolved::Command(id) = resolved {
                let command = self.table.get(id);
                name_elements |= command.spec.elements.is_some();
                // (A container's name alone does not say which of its subcommands comes next.)
                let says_all = command.parent.is_none() && command.subs.is_empty();
                last.1 = says_all.then_some(id);
                self.hint(command, argv, &mut ahead.hints);
            }
            ahead.prepared.push((resolved, first));
        }
        let db = self.conns.get(token).map_or(0, |c| c.session.db);
        if ahead.hints.len() > 1 {
            self.prefetch(db, ahead);
        }
        // (One command with one element has nothing to fetch together.)
        if name_elements && all.len() > 4 {
            self.prefetch_elements(db, batch, all, ahead);
        }
    }

    /// The second stage, for commands on elements of large collections: by now the keys are at hand, and what their
    /// elements lead to is fetched as the keys were.
    fn prefetch_elements(&self, db: u32, batch: &Batch, all: &[&[u8]], ahead: &mut Ahead) {
        let keyspace = self.dbs.db(db);
        let mut collection: (u64, Option<ValueRef<'_>>) = (0, None);
        ahead.hashes.clear();
        for (i, &(resolved, hint)) in ahead.prepared.iter().enumerate() {
            let argv = &all[batch.span(i)];
            let (Resolved::Command(id), Some(key), Some(hint)) =
                (resolved, argv.get(1), ahead.hints.get(hint as usize))
            else {
                continue;
            };
            let Some((first, step)) = self.table.get(id).spec.elements else {
                continue;
            };
            if i == 0 || hint.hash != collection.0 {
                fetch_elements(collection.1, &mut ahead.hashes);
                let value = keyspace.get(hint.hash, key).map(Entry::value);
                collection = (hint.hash, value.filter(|v| v.is_worth_prefetching()));
            }
            if collection.1.is_some() {
                let elements = (usize::from(first)..argv.len()).step_by(usize::from(step));
                let elements = elements.take(KEYS_MAX).filter_map(|at| argv.get(at));
                ahead.hashes.extend(elements.map(|e| self.dbs.hash(e)));
            }
        }
        fetch_elements(collection.1, &mut ahead.hashes);
    }

    /// Adds the keys of a request to the hints.
    #[inline]
    fn hint(&self, command: &Command, argv: &[&[u8]], hints: &mut Vec<KeyHint>) {
        match command.legacy_keys {
            None => {}
            // Mostly there is one.
            Some((first, last, _)) if first == last => {
                let key = argv.get(first as usize);
                hints.extend(key.map(|key| self.hint_of(key)));
            }
            Some((first, last, step)) => {
                let end = match last {
                    ..0 => argv.len().saturating_sub(last.unsigned_abs() as usize - 1),
                    _ => argv.len().min(last as usize + 1),
                };
                let keys = argv[..end].iter().skip(first as usize);
                let keys = keys.step_by(step.max(1) as usize).take(KEYS_MAX);
                hints.extend(keys.map(|key| self.hint_of(key)));
            }
        }
    }

    #[inline]
    fn hint_of(&self, key: &[u8]) -> KeyHint {
        KeyHint {
            at: key.as_ptr(),
            hash: self.dbs.hash(key),
        }
    }

    fn prefetch(&self, db: u32, ahead: &mut Ahead) {
        let keyspace = self.dbs.db(db);
        if !keyspace.is_large() {
            return;
        }
        ahead.hashes.clear();
        ahead.hashes.extend(ahead.hints.iter().map(|h| h.hash));
        // Pipelines push to one list, count on one counter.
        ahead.hashes.dedup();
        keyspace.prefetch(&ahead.hashes);
    }

    /// Several connections have sent something: fetches what the first command of each will look up,
    /// before any of them runs. Whoever sends many at once has them fetched with its own batch.
    pub fn fetch_ahead<'a>(&mut self, inputs: impl Iterator<Item = (Token, &'a [u8])>) {
        let mut scratch = self.batch.take().unwrap_or_default();
        scratch.ahead.hints.clear();
        let mut database = None;
        for (token, data) in inputs {
            let Some(conn) = self.conns.get(token) else {
                continue;
            };
            let db = *database.get_or_insert(conn.session.db);
            if !self.dbs.db(db).is_large() {
                break;
            }
            if conn.session.db != db
                || data.len() > AHEAD_MAX
                || conn.is_link()
                || !conn.input.is_empty()
                || conn.parser.is_midway()
            {
                continue;
            }
            let limits = limits(&self.config, self.acl.users.ask_for_login(), conn);
            Parser::new().parse(data, &mut scratch.batch, &limits, 1);
            if !scratch.batch.is_empty() {
                let argv: SmallVec<[&[u8]; 16]> = scratch.batch.argv(0, data).iter().collect();
                if let Resolved::Command(id) = self.table.resolve(&argv) {
                    self.hint(self.table.get(id), &argv, &mut scratch.ahead.hints);
                }
            }
        }
        if let Some(db) = database
            && scratch.ahead.hints.len() > 1
        {
            self.prefetch(db, &mut scratch.ahead);
        }
        self.batch = Some(scratch);
    }

    /// The input is not RESP: the client hears why, and the connection ends.
    fn protocol_error(&mut self, token: Token, error: ProtocolError, rest: &[u8]) {
        let line = self.client_line(token);
        let level = match self.is_from_master(token) {
            true => log::Level::Warn,
            false => log::Level::Debug,
        };
        log::log!(
            level,
            "Protocol error ({}) from client: {line}. Query buffer during protocol error: '{}'",
            error.log_reason(),
            crate::base::quoted::quote(&rest[..rest.len().min(128)])
        );
        if self.is_from_master(token) {
            return self.stream_broken(token);
        }
        let text = error.reply();
        self.stats.error(&text);
        if let Some(conn) = self.conns.get_mut(token) {
            conn.reply.error(&text);
            conn.session.marks.set(Marks::CLOSE_AFTER_REPLY, true);
        }
        // It ends as a request's reply does, which CLIENT REPLY may silence.
        self.end_request(token);
    }
}

/// Fetches what elements with these hashes lead to, and forgets the hashes.
fn fetch_elements(collection: Option<ValueRef<'_>>, hashes: &mut Vec<u64>) {
    if let Some(value) = collection
        && hashes.len() > 1
    {
        value.prefetch(hashes);
    }
    hashes.clear();
}

/// The memory that a batch's arguments were listed in, for the next batch: they are gone, so it is nobody's loan.
#[inline]
fn emptied(mut args: Vec<&[u8]>) -> Vec<&'static [u8]> {
    args.clear();
    if args.capacity() > ARGS_KEPT {
        return Vec::new();
    }
    // Collecting a vector's own iterator goes on with its memory.
    args.into_iter().map(|_| -> &[u8] { &[] }).collect()
}

/// What a connection may send; `ask`: who has not logged in has to.
fn limits(config: &Config, ask: bool, conn: &Conn) -> Limits {
    if conn.session.marks.has(Marks::MASTER) {
        return Limits {
            max_bulk_len: i64::MAX,
            authenticated: true,
            big_arg: usize::MAX,
        };
    }
    Limits {
        max_bulk_len: config.proto_max_bulk_len as i64,
        authenticated: conn.session.authenticated || !ask,
        big_arg: Limits::BIG_ARG,
    }
}
