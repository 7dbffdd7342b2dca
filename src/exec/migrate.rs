//! MIGRATE: keys travel to another server.
//!
//! ```text
//! the caller      MIGRATE ......................... parked ......................... +OK
//! the keys        held: who names them waits .................................. gone | back
//! a link          connect, or one that is kept │ AUTH? SELECT? RESTORE k1 .. RESTORE kn ▶
//!                                              │                  ◀ +OK  -error  ...  +OK
//! ```
//! Redis does all this while everybody waits. Here the loop goes on: only the caller waits, and whoever names a key
//! that is on its way ([`super::held`]). A large value is packed on another thread. What was sent is kept as it was, so
//! that whatever happens to a key meanwhile is noticed: it is deleted here only if the target said OK to it and it
//! still is what was sent. Inside a transaction or a script nothing may come between, so there the loop does wait:
//! `admin/migrate.rs` has the same talk through the second door.
//!
//! A link that is not needed any more is kept for some seconds, as many MIGRATEs follow each other. It may have been
//! closed by the other side: if nothing was answered, the talk is tried once more on a new one.

use std::any::Any;
use std::collections::VecDeque;

use bytes::Bytes;
use memchr::memchr;

use crate::base::lzf::Compressor;
use crate::cmd::Args;
use crate::cmd::args::OwnedArgs;
use crate::config::NotifyFlags;
use crate::exec::conn::{Parked, Token, Why};
use crate::exec::io::{Io, Stage};
use crate::exec::link::{News, Owner};
use crate::exec::persistence::Errand;
use crate::exec::server::{Effect, Server};
use crate::exec::table::CommandId;
use crate::object::Entry;
use crate::rdb::{Format, encode_dump};

pub use talk::{NO_DB, Order, Talk, broken_off};

mod talk;

/// Links that are kept, and for how long.
const IDLE_MAX: usize = 64;
const IDLE_S: u64 = 10;
/// Keys of more pieces than this, or more bytes, together are packed on another thread.
const PIECES_HERE_MAX: usize = 256;
const BYTES_HERE_MAX: usize = 64 * 1024;
/// A longer line is no answer.
const LINE_MAX: usize = 16 * 1024;

/// Payloads, in the order of their keys.
type Payloads = Vec<Bytes>;

/// A MIGRATE under way.
struct Migration {
    id: u64,
    order: Order,
    /// Who called; nobody if it is gone.
    caller: Option<Token>,
    command: CommandId,
    /// Arguments that are kept out of the slow log.
    secret: Vec<usize>,
    /// The database that the keys are in.
    db: u32,
    keys: Vec<Entry>,
    /// The same with what they are packed into, once they are.
    cargo: Option<Vec<(Entry, Bytes)>>,
    link: Token,
    /// The link is up, and has come to this database.
    is_up: bool,
    selected: i64,
    /// What was said, once it was.
    talk: Option<Talk>,
    /// The beginning of a line.
    input: Vec<u8>,
    /// What the link had sent at the last look.
    sent: u64,
    /// Unix time in ms at which the step that it is in has taken too long.
    deadline: Option<u64>,
    may_retry: bool,
    /// It has to end, whatever came of it.
    is_given_up: bool,
}

/// A link that nobody uses now.
struct Idle {
    link: Token,
    /// Where it leads, as MIGRATE was told it.
    place: (Vec<u8>, Vec<u8>),
    selected: i64,
    used_s: u64,
}

/// All of them.
#[derive(Default)]
pub struct Migrations {
    under_way: Vec<Migration>,
    /// The one used longest ago first.
    idle: Vec<Idle>,
    /// How many there were.
    count: u64,
    /// Whose keys are being packed, in the order in which that will be done.
    packing: VecDeque<u64>,
}

impl Migrations {
    /// Links that are up (`migrate_cached_sockets`).
    pub fn links(&self) -> usize {
        self.idle.len() + self.under_way.iter().filter(|m| m.is_up).count()
    }

    /// When the next one has taken too long, unix time in ms.
    pub fn next_deadline(&self) -> Option<u64> {
        self.under_way.iter().filter_map(|m| m.deadline).min()
    }

    /// The caller will not hear how it went.
    pub fn forget_caller(&mut self, token: Token) {
        for migration in &mut self.under_way {
            if migration.caller == Some(token) {
                migration.caller = None;
            }
        }
    }

    fn at(&self, id: u64) -> Option<usize> {
        self.under_way.iter().position(|m| m.id == id)
    }
}

/// What keys are packed into.
pub fn pack(keys: &[Entry], format: Format, compressor: &mut Compressor) -> Payloads {
    let payload = |key: &Entry| Bytes::from(encode_dump(key, format, compressor));
    keys.iter().map(payload).collect()
}

impl Server {
    /// Begins a MIGRATE of keys, as they are now. The caller waits; `secret` are arguments that no log may show.
    pub fn begin_migration(
        &mut self,
        token: Token,
        command: CommandId,
        args: &Args<'_>,
        order: Order,
        keys: Vec<Entry>,
        secret: Vec<usize>,
    ) {
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        conn.parked = Some(Box::new(Parked {
            args: OwnedArgs::copy(args),
            command,
            why: Why::Migrates,
            spent_us: 0,
        }));
        let db = conn.session.db;
        if !order.copy {
            keys.iter().for_each(|key| self.held.hold(key.key()));
        }
        let (link, kept) = match self.take_idle(&order) {
            Some(idle) => (idle.link, Some(idle.selected)),
            None => {
                let target = order.target(self.config.tls_cluster);
                (self.open_link(Owner::Migrate, target), None)
            }
        };
        self.migrations.count += 1;
        let id = self.migrations.count;
        self.migrations.under_way.push(Migration {
            id,
            caller: Some(token),
            command,
            secret,
            db,
            keys,
            cargo: None,
            link,
            is_up: kept.is_some(),
            selected: kept.unwrap_or(NO_DB),
            talk: None,
            input: Vec::new(),
            sent: 0,
            deadline: kept
                .is_none()
                .then(|| self.now.ms().saturating_add(order.timeout_ms)),
            may_retry: true,
            is_given_up: false,
            order,
        });
        self.pack_keys(id);
    }

    /// A link to where an order goes, if one is kept.
    fn take_idle(&mut self, order: &Order) -> Option<Idle> {
        let idle = &mut self.migrations.idle;
        let leads_there = |i: &Idle| i.place.0 == order.host && i.place.1 == order.port;
        let at = idle.iter().position(leads_there)?;
        Some(idle.remove(at))
    }

    /// Packs the keys: here if that is soon done, else on another thread.
    fn pack_keys(&mut self, id: u64) {
        let Some(at) = self.migrations.at(id) else {
            return;
        };
        let format = Format::of(&self.config);
        let keys = &self.migrations.under_way[at].keys;
        // (Few pieces are soon weighed.)
        let few = keys.iter().map(Entry::pieces).sum::<usize>() <= PIECES_HERE_MAX;
        if few && keys.iter().map(Entry::memory_bytes).sum::<usize>() <= BYTES_HERE_MAX {
            let kept = self.persistence.compressor.take();
            let mut compressor = kept.unwrap_or_else(|| Box::new(Compressor::new()));
            let payloads = pack(keys, format, &mut compressor);
            self.persistence.compressor = Some(compressor);
            self.load(at, payloads);
            return;
        }
        let keys = keys.clone();
        self.migrations.packing.push_back(id);
        self.effects.push(Effect::Start(
            Errand::Pack,
            Box::new(move || Box::new(pack(&keys, format, &mut Compressor::new()))),
        ));
    }

    /// Another thread has packed the keys of the migration whose turn it was.
    pub fn keys_packed(&mut self, io: &mut dyn Io, outcome: Result<Box<dyn Any + Send>, String>) {
        let Some(id) = self.migrations.packing.pop_front() else {
            return;
        };
        // It may be over meanwhile, if nobody took its call.
        let Some(at) = self.migrations.at(id) else {
            return;
        };
        match outcome.ok().map(|payloads| payloads.downcast()) {
            Some(Ok(payloads)) => {
                self.load(at, *payloads);
                self.finish_if_over(io, id);
            }
            // It panicked.
            _ => self.finish(io, at, Some(Stage::Writing)),
        }
    }

    fn load(&mut self, at: usize, payloads: Payloads) {
        let migration = &mut self.migrations.under_way[at];
        let keys = std::mem::take(&mut migration.keys);
        migration.cargo = Some(keys.into_iter().zip(payloads).collect());
        self.say(at);
    }

    /// Says what there is to say, once the link is up and the keys are packed.
    fn say(&mut self, at: usize) {
        let now_ms = self.now.ms();
        let migration = &mut self.migrations.under_way[at];
        let link = migration.link;
        let (true, Some(cargo), Some(conn)) =
            (migration.is_up, &migration.cargo, self.conns.get_mut(link))
        else {
            return;
        };
        let in_cluster = self.config.cluster_enabled;
        let order = &migration.order;
        let talk = order.write(
            cargo,
            migration.selected,
            in_cluster,
            now_ms,
            &mut conn.reply,
        );
        migration.talk = Some(talk);
        migration.sent = conn.net_output;
        migration.deadline = Some(now_ms.saturating_add(order.timeout_ms));
        self.wants_write(link);
    }

    /// What the link of a migration, or one that is kept, has to tell.
    pub(super) fn migration_news(&mut self, io: &mut dyn Io, link: Token, news: News<'_>) {
        let under_way = &mut self.migrations.under_way;
        let Some(at) = under_way.iter().position(|m| m.link == link) else {
            // One that is kept has nothing to say but that it is over.
            self.migrations.idle.retain(|idle| idle.link != link);
            if !matches!(news, News::Closed(_)) {
                self.close_link(link);
            }
            return;
        };
        let id = under_way[at].id;
        match news {
            News::Connected => {
                under_way[at].is_up = true;
                under_way[at].deadline = None;
                self.say(at);
            }
            News::Data(bytes) => {
                if self.hear(at, bytes).is_err() {
                    self.close_link(link);
                    self.broken(io, at, Stage::Reading);
                    return;
                }
            }
            News::Closed(_) => {
                let stage = self.broke_at(at);
                self.broken(io, at, stage);
                return;
            }
        }
        self.finish_if_over(io, id);
    }

    /// Hears answers. The target has as long for each as for all before it.
    fn hear(&mut self, at: usize, bytes: &[u8]) -> Result<(), ()> {
        let now_ms = self.now.ms();
        let migration = &mut self.migrations.under_way[at];
        let talk = migration.talk.as_mut().ok_or(())?;
        migration.input.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(len) = memchr(b'\n', &migration.input[from..]) {
            let line = &migration.input[from..from + len];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            talk.hear(line).map_err(|_| ())?;
            from += len + 1;
            migration.deadline = Some(now_ms.saturating_add(migration.order.timeout_ms));
        }
        migration.input.drain(..from);
        match migration.input.len() > LINE_MAX {
            true => Err(()),
            false => Ok(()),
        }
    }

    /// What it was about to do.
    fn stage(&self, at: usize) -> Stage {
        let migration = &self.migrations.under_way[at];
        let has_output = |link| self.conns.get(link).is_some_and(|c| !c.reply.is_empty());
        match migration.is_up {
            false => Stage::Connecting,
            true if has_output(migration.link) => Stage::Writing,
            true => Stage::Reading,
        }
    }

    /// Where its link broke. Redis notices that a call was refused when it writes.
    fn broke_at(&self, at: usize) -> Stage {
        let link = self.conns.get(self.migrations.under_way[at].link);
        let is_called = link
            .and_then(|c| c.link.as_ref())
            .is_some_and(|l| l.is_called);
        match self.stage(at) {
            Stage::Connecting if is_called => Stage::Writing,
            stage => stage,
        }
    }

    /// The link broke. A kept one may just have been closed by the other side: what it has not answered is said again.
    fn broken(&mut self, io: &mut dyn Io, at: usize, stage: Stage) {
        let migration = &mut self.migrations.under_way[at];
        let unanswered = !migration.talk.as_ref().is_some_and(Talk::has_begun);
        if stage == Stage::Connecting || !migration.may_retry || !unanswered {
            self.finish(io, at, Some(stage));
            return;
        }
        let target = migration.order.target(self.config.tls_cluster);
        let link = self.open_link(Owner::Migrate, target);
        let now_ms = self.now.ms();
        let migration = &mut self.migrations.under_way[at];
        migration.link = link;
        migration.is_up = false;
        migration.selected = NO_DB;
        migration.talk = None;
        migration.input.clear();
        migration.may_retry = false;
        migration.deadline = Some(now_ms.saturating_add(migration.order.timeout_ms));
    }

    /// Data that is about to be another server's copy goes nowhere: all that is under way ends as if it had waited too
    /// long, and what was sent stays. The callers hear before the loop sleeps.
    pub fn end_migrations(&mut self) {
        for migration in &mut self.migrations.under_way {
            migration.is_given_up = true;
            migration.deadline = Some(0);
        }
    }

    /// Those that have waited too long for the other side give up.
    pub fn expire_migrations(&mut self, io: &mut dyn Io) {
        let now_ms = self.now.ms();
        while let Some(at) = self
            .migrations
            .under_way
            .iter()
            .position(|m| m.deadline.is_some_and(|deadline| deadline <= now_ms))
        {
            let stage = self.stage(at);
            let migration = &mut self.migrations.under_way[at];
            let sent = self.conns.get(migration.link).map_or(0, |c| c.net_output);
            if stage == Stage::Writing && sent > migration.sent && !migration.is_given_up {
                // It is slow, but it moves.
                migration.sent = sent;
                migration.deadline = Some(now_ms.saturating_add(migration.order.timeout_ms.max(1)));
                continue;
            }
            self.finish(io, at, Some(stage));
        }
    }

    fn finish_if_over(&mut self, io: &mut dyn Io, id: u64) {
        let over = |at: usize| {
            let talk = self.migrations.under_way[at].talk.as_ref();
            talk.is_some_and(Talk::is_over).then_some(at)
        };
        if let Some(at) = self.migrations.at(id).and_then(over) {
            self.finish(io, at, None);
        }
    }

    /// It is over: what was taken goes, the caller hears, and those who waited for the keys go on.
    fn finish(&mut self, io: &mut dyn Io, at: usize, broken: Option<Stage>) {
        let migration = self.migrations.under_way.remove(at);
        let Migration {
            order,
            cargo,
            keys,
            talk,
            ..
        } = migration;
        let (keys, payloads): (Vec<Entry>, Payloads) = match cargo {
            Some(cargo) => cargo.into_iter().unzip(),
            None => (keys, Payloads::new()),
        };
        if payloads.iter().map(Bytes::len).sum::<usize>() > BYTES_HERE_MAX {
            self.free_later(Box::new(payloads), 0);
        }
        if !order.copy {
            keys.iter().for_each(|key| self.held.release(key.key()));
        }
        let talk = talk.unwrap_or_default();
        let verdict = talk.verdict(broken);
        if broken.is_some() {
            self.close_link(migration.link);
        } else {
            let selected = verdict.as_ref().map_or(NO_DB, |()| order.db);
            self.keep_link(migration.link, &order, selected);
        }
        self.tick(io);
        if !order.copy && !migration.is_given_up {
            self.keys_arrived(migration.db, keys, talk.taken());
            if self.aof.holding {
                self.aof.note_any_written();
            }
        }
        let told = migration.caller.filter(|&token| {
            let Some(parked) = self.conns.get_mut(token).and_then(|c| c.parked.take()) else {
                return false;
            };
            self.hold_next(token);
            match &verdict {
                Ok(()) => {
                    if let Some(conn) = self.conns.get_mut(token) {
                        conn.reply.ok();
                    }
                }
                Err(fault) => {
                    self.stats.commands[migration.command].failed += 1;
                    self.reply_fault(token, fault);
                }
            }
            let argv = parked.args.slices();
            self.slowlog.redacted = migration.secret.clone();
            let args = Args::new(&argv, parked.args.big());
            let us = parked.spent_us;
            self.count_call(token, migration.command, &args, us, us * 1000);
            self.slowlog.redacted.clear();
            true
        });
        self.end_unit(io);
        if let Some(token) = told {
            self.note_stream_place(token);
            self.end_request(token);
            self.resumable.push(token);
        }
        if !self.unit.ready.is_empty() {
            self.serve_blocked(io);
        }
        self.resume_held(io);
    }

    /// Deletes keys that the target has taken, if they still are what was sent.
    pub fn keys_arrived(&mut self, db: u32, sent: Vec<Entry>, taken: &[usize]) {
        let mut sent: Vec<Option<Entry>> = sent.into_iter().map(Some).collect();
        let mut words: Vec<Bytes> = vec![Bytes::from_static(b"DEL")];
        for &at in taken {
            let Some(entry) = sent.get_mut(at).and_then(Option::take) else {
                continue;
            };
            let name = Bytes::copy_from_slice(entry.key());
            let hash = self.dbs.hash(&name);
            let here = self.dbs.db(db).get(hash, &name);
            let is_same = here.is_some_and(|here| here.is_same(&entry));
            // No snapshot holds it on our account.
            drop(entry);
            let mut keys = self.keys(db);
            if is_same && keys.remove(&name) {
                keys.signal_modified(&name);
                keys.event(NotifyFlags::GENERIC, "del", &name);
                keys.unit.dirty += 1;
                words.push(name);
            }
        }
        if words.len() > 1 {
            let argv: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
            self.unit.push(db, &argv);
        }
    }

    /// Keeps a link for the next MIGRATE to the same place.
    fn keep_link(&mut self, link: Token, order: &Order, selected: i64) {
        if self.migrations.idle.len() == IDLE_MAX {
            let oldest = self.migrations.idle.remove(0);
            self.close_link(oldest.link);
        }
        self.migrations.idle.push(Idle {
            link,
            place: (order.host.clone(), order.port.clone()),
            selected,
            used_s: self.now.s(),
        });
    }

    /// Closes links that nobody has used for some time.
    pub fn migrate_cron(&mut self) {
        let now_s = self.now.s();
        while let Some(idle) = self.migrations.idle.first()
            && now_s.saturating_sub(idle.used_s) > IDLE_S
        {
            let idle = self.migrations.idle.remove(0);
            self.close_link(idle.link);
        }
    }
}
