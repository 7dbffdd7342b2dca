//! The keys of the selected database, as a command reaches them.
//!
//! Every access goes through here, because a lookup is more than a lookup: a key whose time is over
//! is deleted on the way (and its DEL logged where it was met), hits and misses are counted, the
//! access bits are refreshed, and a new key may be what a blocked client waits for.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::base::rng::Rng;
use crate::cmd::fault::{Fault, WRONG_TYPE};
use crate::cmd::session::Token;
use crate::cmd::unit::Unit;
use crate::config::{Config, NotifyFlags};
pub use crate::db::keyspace::Expiry as Ttl;
use crate::db::keyspace::{Databases, EntryMut, Keyspace, Live};
use crate::db::own_ttls::OwnTtls;
use crate::db::watch::WatchTable;
use crate::ds::dict::HashKey;
use crate::object::access::AccessPolicy;
use crate::object::{AccessClock, Container, Entry, Str, Type, Value};

/// A key that the pipeline has hashed already: where its bytes begin, and its hash.
#[derive(Clone, Copy, Debug)]
pub struct KeyHint {
    pub at: *const u8,
    pub hash: u64,
}

/// Whether a key went because its last element did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone(pub bool);

/// Counts of what lookups met.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyStats {
    pub hits: u64,
    pub misses: u64,
    pub expired: u64,
}

/// From this effort on, freeing a value is the freeing thread's work.
pub const FREE_EFFORT_MAX: usize = 64;

/// What is left to the freeing thread.
#[derive(Debug)]
pub struct Leftover {
    pub entry: Entry,
    /// Redis would leave it to its own as well, and count it (`lazyfreed_objects`).
    pub lazily: bool,
}

/// Who waits for a key.
#[derive(Debug, Default)]
pub struct Queue {
    /// Oldest first.
    pub tokens: VecDeque<Token>,
    /// How many of them the end of the key wakes as well.
    pub for_end: usize,
}

/// Who waits for which key of which database.
pub type Waiting = HashMap<(u32, Bytes), Queue>;

/// See the head of the file.
pub struct Keys<'a> {
    /// Number of the selected database.
    pub index: u32,
    /// Unix time in ms; it stands still while the unit lasts.
    pub now_ms: u64,
    /// Reading leaves the access bits alone (CLIENT NO-TOUCH).
    pub no_touch: bool,
    /// What becomes of a key that is met when its time is over.
    pub overdue: Overdue,
    pub dbs: &'a mut Databases,
    pub unit: &'a mut Unit,
    pub watch: &'a mut WatchTable,
    pub stats: &'a mut KeyStats,
    pub config: &'a Config,
    /// Elements of a list from this size on have a node of their own (DEBUG QUICKLIST-PACKED-THRESHOLD).
    pub list_plain_from: usize,
    pub rng: &'a mut Rng,
    /// Who waits for which key.
    pub waiting: &'a Waiting,
    /// Entries that are dear to free end here.
    pub free: &'a mut Vec<Leftover>,
    /// Keys that were given a time to live here and not by the master; `None` where all are the same.
    pub own_ttls: Option<&'a mut OwnTtls>,
    /// Hashes known beforehand, in the order of the arguments.
    pub hints: &'a [KeyHint],
}

/// What becomes of a key that is met when its time is over. A master deletes it and says so. A replica leaves that to its
/// master, so that both have the same keys at the same place in the stream; to its clients the key is gone all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// It is deleted.
    Goes,
    /// It is deleted where something is to be written, and passed over by who reads (a replica that takes writes).
    GoesForWriters,
    /// It is passed over (a replica, CLIENT PAUSE).
    Stays,
    /// It is there as long as nobody deletes it (what a master or a log says).
    Lives,
}

impl Keys<'_> {
    /// The selected database.
    #[inline]
    pub fn db(&mut self) -> &mut Keyspace {
        self.dbs.db_mut(self.index)
    }

    /// The hash of a key; mostly the pipeline has computed it.
    #[inline]
    pub fn hash(&mut self, key: &[u8]) -> u64 {
        if let Some(hint) = self.hints.iter().find(|h| std::ptr::eq(h.at, key.as_ptr())) {
            return hint.hash;
        }
        self.dbs.hash(key)
    }

    /// The clock of access bits, as it stands now.
    #[inline]
    pub fn access_clock(&self) -> AccessClock {
        access_clock(self.config, self.now_ms)
    }

    /// Looks a key up to read it: counts a hit or a miss, refreshes its access bits.
    #[inline]
    pub fn read(&mut self, key: &[u8]) -> Option<&Entry> {
        self.look_up(self.index, key, Look::READ)
    }

    /// As [`Keys::read`], but to ask about a key is not to use it: the access bits stay.
    pub fn read_untouched(&mut self, key: &[u8]) -> Option<&Entry> {
        self.look_up(self.index, key, Look::READ_UNTOUCHED)
    }

    /// As [`Keys::read_untouched`], and nobody hears of a miss.
    pub fn read_quietly(&mut self, key: &[u8]) -> Option<&Entry> {
        self.look_up(self.index, key, Look::READ_QUIETLY)
    }

    /// Looks a key up to change it: refreshes its access bits, counts nothing.
    #[inline]
    pub fn write(&mut self, key: &[u8]) -> Option<&Entry> {
        self.look_up(self.index, key, Look::WRITE)
    }

    /// The same in another database.
    pub fn write_in(&mut self, index: u32, key: &[u8]) -> Option<&Entry> {
        self.look_up(index, key, Look::WRITE)
    }

    /// Looks a key up and leaves no trace, but that an expired one is deleted.
    pub fn peek(&mut self, key: &[u8]) -> Option<&Entry> {
        self.look_up(self.index, key, Look::PEEK)
    }

    /// The moment by which it is told whether a key's time is over: it is if it ended before.
    #[inline]
    fn due_ms(&self) -> u64 {
        match self.overdue {
            Overdue::Lives => 0,
            _ => self.now_ms,
        }
    }

    /// True if a time that is over already means the end of a key, here and now.
    pub fn ends_at_once(&self, at_ms: u64) -> bool {
        at_ms <= self.now_ms && self.overdue != Overdue::Lives && self.config.replicaof.is_none()
    }

    #[inline(always)]
    fn look_up(&mut self, index: u32, key: &[u8], look: Look) -> Option<&Entry> {
        let hash = self.hash(key);
        let clock = self.access_clock();
        let due_ms = self.due_ms();
        let goes = match self.overdue {
            Overdue::Goes | Overdue::Lives => true,
            Overdue::GoesForWriters => look.writes,
            Overdue::Stays => false,
        };
        let found = if goes {
            self.dbs.db_mut(index).find_live(hash, key, due_ms)
        } else {
            self.dbs.db(index).find_held(hash, key, due_ms)
        };
        match found {
            Live::Found(entry) => {
                self.stats.hits += u64::from(look.counts);
                if look.touches && !self.no_touch {
                    entry.set_access(clock.touched(entry.access(), || self.rng.f64()));
                }
                return Some(entry);
            }
            Live::Expired(entry) => {
                note_expired(
                    self.stats,
                    self.unit,
                    self.config,
                    self.watch,
                    index,
                    &entry,
                );
                discard(self.free, entry, self.config.lazyfree_lazy_expire);
            }
            Live::Missing => {}
        }
        self.stats.misses += u64::from(look.counts);
        if look.tells {
            queue_event(
                self.unit,
                self.config,
                index,
                NotifyFlags::KEY_MISS,
                "keymiss",
                key,
            );
        }
        None
    }

    /// True if the key is there. Leaves no trace.
    pub fn exists(&mut self, key: &[u8]) -> bool {
        self.peek(key).is_some()
    }

    /// Reads a string; an error if the key holds something else.
    #[inline]
    pub fn read_str(&mut self, key: &[u8]) -> Result<Option<Str<'_>>, Fault> {
        match self.read(key) {
            Some(entry) => entry.as_str().map(Some).map_err(Fault::from),
            None => Ok(None),
        }
    }

    /// The string of a key that is to be changed; an error if it holds something else.
    #[inline]
    pub fn write_str(&mut self, key: &[u8]) -> Result<Option<Str<'_>>, Fault> {
        match self.write(key) {
            Some(entry) => entry.as_str().map(Some).map_err(Fault::from),
            None => Ok(None),
        }
    }

    /// Reads a container; an error if the key holds something else.
    #[inline]
    pub fn read_as<C: Container>(&mut self, key: &[u8]) -> Result<Option<C::Ref<'_>>, Fault> {
        match self.read(key) {
            Some(entry) => entry.as_container::<C>().map(Some).map_err(Fault::from),
            None => Ok(None),
        }
    }

    /// The container of a key that is to be changed; an error if it holds something else.
    #[inline]
    pub fn write_as<C: Container>(&mut self, key: &[u8]) -> Result<Option<C::Ref<'_>>, Fault> {
        match self.write(key) {
            Some(entry) => entry.as_container::<C>().map(Some).map_err(Fault::from),
            None => Ok(None),
        }
    }

    /// Changes the container of a key that was looked up before, which is made writable: what a snapshot shares of it is
    /// copied first. If nothing is left in it the key goes. `None` if the key holds no such container.
    #[inline]
    pub fn change<C: Container, R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut C, &mut Rng) -> R,
    ) -> Option<(R, Gone)> {
        let hash = self.hash(key);
        let rng = &mut *self.rng;
        let mut entry = self.dbs.db_mut(self.index).entry_mut(hash, key)?;
        let changed = entry.change(|container| change(container, rng));
        drop(entry);
        self.after_change(key, changed)
    }

    /// A container that was left empty goes; `None` if it was no such container.
    #[inline]
    fn after_change<R>(&mut self, key: &[u8], changed: Option<(R, bool)>) -> Option<(R, Gone)> {
        let (result, is_empty) = changed?;
        if is_empty {
            self.remove(key);
        }
        Some((result, Gone(is_empty)))
    }

    /// As [`Keys::change`], but looks the key up itself, and makes it if it is missing (unless nothing is in it then). An
    /// error if it holds something else.
    #[inline]
    pub fn change_or_make<C: Container, R>(
        &mut self,
        key: &[u8],
        make: impl FnOnce() -> C,
        change: impl FnOnce(&mut C, &mut Rng) -> R,
    ) -> Result<(R, Gone), Fault> {
        let change = match self.try_change(key, change) {
            Ok(done) => return done,
            Err(change) => change,
        };
        let mut container = make();
        let result = change(&mut container, self.rng);
        let is_empty = container.is_empty();
        if !is_empty {
            self.store(key, container);
        }
        Ok((result, Gone(is_empty)))
    }

    /// Drops what was taken out of a container, elsewhere if that is dear.
    pub fn dispose<C: Container>(&mut self, part: C) {
        if part.free_effort() > FREE_EFFORT_MAX {
            let value = Value::Heap(part.into_heap());
            let entry = Entry::new(b"", value, None, 0);
            // Redis frees it where it is cut off.
            let lazily = false;
            self.free.push(Leftover { entry, lazily });
        }
    }

    /// As [`Keys::change`], but looks the key up itself: one lookup for all. `Ok(None)` if there is no such key, an error
    /// if it holds something else.
    #[inline]
    pub fn change_if_there<C: Container, R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut C, &mut Rng) -> R,
    ) -> Result<Option<(R, Gone)>, Fault> {
        match self.try_change(key, change) {
            Ok(done) => done.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Changes the container of a live key; gives the change back if there is none.
    #[inline]
    fn try_change<C: Container, R, F: FnOnce(&mut C, &mut Rng) -> R>(
        &mut self,
        key: &[u8],
        change: F,
    ) -> Result<Result<(R, Gone), Fault>, F> {
        let hash = self.hash(key);
        let clock = self.access_clock();
        let due_ms = self.due_ms();
        let rng = &mut *self.rng;
        let Some(mut entry) = self.dbs.db_mut(self.index).entry_mut(hash, key) else {
            return Err(change);
        };
        if entry.is_expired(due_ms) {
            drop(entry);
            // The slow way deletes it, where that may be done.
            self.write(key);
            return Err(change);
        }
        if !self.no_touch {
            entry.set_access(clock.touched(entry.access(), || rng.f64()));
        }
        let changed = entry.change(|container| change(container, rng));
        drop(entry);
        Ok(self.after_change(key, changed).ok_or(WRONG_TYPE))
    }

    /// Stores a container, whatever was there, without a time to live. Tells as [`Keys::set`].
    pub fn store<C: Container>(&mut self, key: &[u8], container: C) {
        match container.compact() {
            Some(bytes) => self.set(key, Value::Compact(bytes), Ttl::Clear),
            None => self.set(key, Value::Heap(container.into_heap()), Ttl::Clear),
        }
    }

    /// What the dicts inside containers hash under.
    pub fn hash_key(&self) -> HashKey {
        self.dbs.hash_key()
    }

    /// The entry of a key, to be changed in place; copied first if a snapshot shares it. Expired keys
    /// are still found: look the key up first.
    pub fn entry_mut(&mut self, key: &[u8]) -> Option<EntryMut<'_>> {
        let hash = self.hash(key);
        self.dbs.db_mut(self.index).entry_mut(hash, key)
    }

    /// Writes into the string at a key, which grows as needed; the key is there, its time not over.
    pub fn write_at(&mut self, key: &[u8], at: usize, data: &[u8]) {
        if let Some(mut entry) = self.entry_mut(key) {
            entry.write_at(at, data);
        }
    }

    /// Stores a value, whatever was there. Tells of a new key; the rest of the telling is the
    /// command's (`changed`, `event`).
    #[inline]
    pub fn set(&mut self, key: &[u8], value: Value<'_>, ttl: Ttl) {
        // The closure never fails.
        let _ = self.update(key, |_| Ok(Some((value, ttl))));
    }

    /// Reads a key and stores what `f` makes of it, all in one lookup. `f` gets the entry, if there is
    /// one; where it gives `None`, nothing changes. True if something was stored. Tells as [`Keys::set`].
    #[inline]
    pub fn update<'v>(
        &mut self,
        key: &[u8],
        f: impl FnOnce(Option<&Entry>) -> Result<Option<(Value<'v>, Ttl)>, Fault>,
    ) -> Result<bool, Fault> {
        let hash = self.hash(key);
        let clock = self.access_clock();
        let due_ms = self.due_ms();
        let (no_touch, rng) = (self.no_touch, &mut *self.rng);
        let access = |old: Option<u32>| match old {
            Some(bits) if no_touch => bits,
            Some(bits) => clock.touched(bits, || rng.f64()),
            None => clock.fresh(),
        };
        let db = self.dbs.db_mut(self.index);
        // Whoever waits for the end of what is there has to know.
        let (waited_for, mut replaced) = (!self.waiting.is_empty(), None);
        let mut given_ttl = false;
        let (stored, outcome) = db.update(hash, key, due_ms, access, |old| {
            if waited_for {
                replaced = old.map(Entry::type_of);
            }
            let wanted = f(old)?;
            given_ttl = matches!(wanted, Some((_, Ttl::At(_))));
            Ok(wanted)
        });
        if given_ttl && let Some(own) = &mut self.own_ttls {
            own.note(self.index, key);
        }
        if let Some(entry) = stored.expired {
            note_expired(
                self.stats,
                self.unit,
                self.config,
                self.watch,
                self.index,
                &entry,
            );
            discard(self.free, entry, self.config.lazyfree_lazy_expire);
        }
        if let Some(old) = stored.displaced {
            self.discard(old);
        }
        if stored.created {
            self.created(self.index, key);
        } else if let (Some(was), Ok(true)) = (replaced, &outcome) {
            self.signal_gone(self.index, key, was);
        }
        outcome
    }

    /// Puts a whole entry under its own key into a database (RENAME, COPY, MOVE); its access bits begin
    /// anew.
    pub fn insert_in(&mut self, index: u32, entry: Entry) {
        entry.set_access(self.access_clock().fresh());
        let key = Bytes::copy_from_slice(entry.key());
        let hash = self.hash(&key);
        if entry.expiry_ms().is_some()
            && let Some(own) = &mut self.own_ttls
        {
            own.note(index, &key);
        }
        match self.dbs.db_mut(index).insert(hash, entry) {
            Some(old) => self.discard(old),
            None => self.created(index, &key),
        }
    }

    /// What follows from a key that was not there before.
    fn created(&mut self, index: u32, key: &[u8]) {
        queue_event(self.unit, self.config, index, NotifyFlags::NEW, "new", key);
        if !self.waiting.is_empty() {
            self.signal_ready(index, key);
        }
    }

    /// A key may have what somebody waits for (it was made, or something was added to it).
    pub fn signal_ready(&mut self, index: u32, key: &[u8]) {
        let place = (index, Bytes::copy_from_slice(key));
        if self.waiting.contains_key(&place) && !self.unit.ready.contains(&place) {
            self.unit.ready.push(place);
        }
    }

    /// What a key held, of type `was`, is no more: whoever waits for that end may go on.
    fn signal_gone(&mut self, index: u32, key: &[u8], was: Type) {
        // Nobody ever waits for one of the others.
        if self.waiting.is_empty() || !matches!(was, Type::List | Type::Zset | Type::Stream) {
            return;
        }
        let place = (index, Bytes::copy_from_slice(key));
        let waits = self.waiting.get(&place).is_some_and(|q| q.for_end > 0);
        if waits && !self.unit.ready.contains(&place) {
            self.unit.ready.push(place);
        }
    }

    /// Deletes a key; the entry if it was there and its time not over.
    pub fn take(&mut self, key: &[u8]) -> Option<Entry> {
        self.take_from(self.index, key)
    }

    fn take_from(&mut self, index: u32, key: &[u8]) -> Option<Entry> {
        let hash = self.hash(key);
        let entry = self.dbs.db_mut(index).remove(hash, key)?;
        if entry.is_expired(self.due_ms()) {
            note_expired(
                self.stats,
                self.unit,
                self.config,
                self.watch,
                index,
                &entry,
            );
            discard(self.free, entry, self.config.lazyfree_lazy_expire);
            return None;
        }
        self.signal_gone(index, key, entry.type_of());
        Some(entry)
    }

    /// Deletes a key; true if it was there. A dear value is freed elsewhere.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.remove_in(self.index, key)
    }

    /// The same in another database.
    pub fn remove_in(&mut self, index: u32, key: &[u8]) -> bool {
        let entry = self.take_from(index, key);
        entry.map(|entry| self.discard(entry)).is_some()
    }

    /// The same; `lazily`: Redis would leave a dear value to its freeing thread as well.
    pub fn remove_told(&mut self, key: &[u8], lazily: bool) -> bool {
        let entry = self.take(key);
        entry
            .map(|entry| discard(self.free, entry, lazily))
            .is_some()
    }

    /// The name of some key, each with the same chance. Those whose time is over are deleted on the way; where they
    /// may not be, one of them is given after some tries in vain.
    pub fn random_key(&mut self) -> Option<Bytes> {
        let mut tries = 100;
        loop {
            let rng = &mut *self.rng;
            let entry = self.dbs.db(self.index).random(|n| rng.below(n))?;
            let name = Bytes::copy_from_slice(entry.key());
            if !entry.is_expired(self.due_ms()) || tries == 0 {
                return Some(name);
            }
            if self.overdue == Overdue::Goes {
                self.remove(&name);
            } else {
                tries -= 1;
            }
        }
    }

    /// Sets or (with `None`) clears the time to live; true if the key is there.
    pub fn set_expiry(&mut self, key: &[u8], at_ms: Option<u64>) -> bool {
        let hash = self.hash(key);
        if at_ms.is_some()
            && let Some(own) = &mut self.own_ttls
        {
            own.note(self.index, key);
        }
        match self.dbs.db_mut(self.index).set_expiry(hash, key, at_ms) {
            Some(displaced) => {
                if let Some(old) = displaced {
                    self.discard(old);
                }
                true
            }
            None => false,
        }
    }

    /// Drops an entry here, or leaves it to the freeing thread if that is dear.
    pub fn discard(&mut self, entry: Entry) {
        discard(self.free, entry, self.config.lazyfree_lazy_server_del);
    }

    /// The key has changed: whoever watches it or has it cached will know.
    #[inline]
    pub fn signal_modified(&mut self, key: &[u8]) {
        let index = self.index;
        self.signal_modified_in(index, key);
    }

    /// The same in another database.
    #[inline]
    pub fn signal_modified_in(&mut self, index: u32, key: &[u8]) {
        self.watch.touch(self.dbs, index, key);
        self.unit.note_touched(key);
    }

    /// Queues a keyspace notification if anybody may want it.
    #[inline]
    pub fn event(&mut self, class: NotifyFlags, name: &'static str, key: &[u8]) {
        queue_event(self.unit, self.config, self.index, class, name, key);
    }

    /// The same for a key of another database.
    pub fn event_in(&mut self, index: u32, class: NotifyFlags, name: &'static str, key: &[u8]) {
        queue_event(self.unit, self.config, index, class, name, key);
    }

    /// The type of the value at a key, for those who only ask.
    pub fn type_of(&mut self, key: &[u8]) -> Option<Type> {
        self.peek(key).map(Entry::type_of)
    }
}

/// What a lookup does besides looking.
#[derive(Clone, Copy)]
struct Look {
    /// It is a use of the key: refreshes the access bits.
    touches: bool,
    /// It counts as a hit or a miss.
    counts: bool,
    /// A miss is told.
    tells: bool,
    /// Something is to be written.
    writes: bool,
}

impl Look {
    const READ: Look = Look {
        touches: true,
        counts: true,
        tells: true,
        writes: false,
    };
    const READ_UNTOUCHED: Look = Look {
        touches: false,
        ..Look::READ
    };
    const READ_QUIETLY: Look = Look {
        touches: false,
        counts: true,
        tells: false,
        writes: false,
    };
    const WRITE: Look = Look {
        touches: true,
        counts: false,
        tells: false,
        writes: true,
    };
    const PEEK: Look = Look {
        touches: false,
        counts: false,
        tells: false,
        writes: false,
    };
}

/// Drops an entry here, or leaves it to the freeing thread if that is dear. (A string is never dear to Redis.)
pub fn discard(free: &mut Vec<Leftover>, entry: Entry, lazily: bool) {
    if entry.free_effort() > FREE_EFFORT_MAX {
        let lazily = lazily && entry.type_of() != Type::String;
        free.push(Leftover { entry, lazily });
    }
}

/// The clock of access bits under the configured policy.
pub fn access_clock(config: &Config, now_ms: u64) -> AccessClock {
    let policy = match config.maxmemory_policy.is_lfu() {
        true => AccessPolicy::Lfu {
            log_factor: config.lfu_log_factor,
            decay_time_min: config.lfu_decay_time,
        },
        false => AccessPolicy::Lru,
    };
    AccessClock::new(policy, now_ms)
}

fn queue_event(
    unit: &mut Unit,
    config: &Config,
    db: u32,
    class: NotifyFlags,
    name: &'static str,
    key: &[u8],
) {
    let wanted = config.notify_keyspace_events;
    if wanted.intersects(class)
        && wanted.intersects(NotifyFlags(
            NotifyFlags::KEYSPACE.0 | NotifyFlags::KEYEVENT.0,
        ))
    {
        unit.events.push(crate::cmd::unit::Event {
            class,
            name,
            db,
            key: Bytes::copy_from_slice(key),
        });
    }
}

/// What follows from a key that was met expired: its DEL is logged here and now.
pub fn note_expired(
    stats: &mut KeyStats,
    unit: &mut Unit,
    config: &Config,
    watch: &mut WatchTable,
    index: u32,
    entry: &Entry,
) {
    stats.expired += 1;
    let key = entry.key();
    let name: &[u8] = if config.lazyfree_lazy_expire {
        b"UNLINK"
    } else {
        b"DEL"
    };
    unit.push(index, &[name, key]);
    queue_event(unit, config, index, NotifyFlags::EXPIRED, "expired", key);
    watch.touch_deleted(index, key);
    unit.note_touched(key);
}
