//! The keyspace: the databases of a server, each a dict of entries.
//!
//! A lookup costs one hash and one probe, whatever is then done with the key: the hash is computed once per command (or
//! ahead of it, for a pipelined batch) and handed on, and [`Keyspace::set`] or an [`EntryMut`] goes on from the slot that
//! the probe found. Nothing here knows a client, a clock or a log: whether an expired key may be deleted, and what that
//! tells to whom, is the caller's business, who gets the expired entry back.
//!
//! Every write that finds its entry shared leaves the old one to the snapshot that shares it. What is left behind so is
//! added up (`snapshot.rs` says what for).
//!
//! That a database is *one* dict is known in this file only. It is one in a cluster too, where keys are asked for by their
//! slot: there hashes begin with the slot, so that a slot is a stretch of the table ([`Keyspace::slot_len`],
//! [`Keyspace::slot_keys`]). Sixteen thousand tables would do as well, but each lookup would have one more of them to pass,
//! and a snapshot so many more roots to clone.

use std::convert::Infallible;
use std::ops::Deref;

use crate::base::slot::Slot;
use crate::ds::defrag::Mover;
use crate::ds::dict::{self, Dict, Filling, HashKey, Iter, RecordMut, Stats};
use crate::object::{Container, Entry, Type, Value, string};

use super::snapshot::{Held, Snapshot};

/// One database.
pub struct Keyspace {
    table: Dict<Entry>,
    held: Held,
    /// What the table had copied when the first of the live snapshots was made.
    copied_before: usize,
    /// A running mean of the time that keys have to live, in ms, kept by the expire cycle; 0 if none has an expiry.
    pub avg_ttl_ms: u64,
}

/// What a lookup found.
pub enum Lookup<'a> {
    Missing,
    /// The key is there but its time is over: to be treated as missing, and deleted where that is allowed.
    Expired(&'a Entry),
    Found(&'a Entry),
}

/// What a lookup found that deletes an expired key.
pub enum Live<'a> {
    Missing,
    /// The key was there, its time was over, and now it is deleted.
    Expired(Entry),
    Found(&'a Entry),
}

/// What becomes of a key's expiry when its value is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    Clear,
    Keep,
    /// Unix time in milliseconds.
    At(u64),
}

impl Expiry {
    /// The expiry that follows on the one that was there.
    #[inline]
    fn after(self, old: Option<u64>) -> Option<u64> {
        match self {
            Expiry::Clear => None,
            Expiry::Keep => old,
            Expiry::At(at) => Some(at),
        }
    }
}

/// What [`Keyspace::set`] did.
#[derive(Debug, Default)]
pub struct Stored {
    /// The key was not there, or its time was over.
    pub created: bool,
    /// The entry that had to go because its time was over.
    pub expired: Option<Entry>,
    /// The live entry that could not be overwritten in place, to be freed here or elsewhere.
    pub displaced: Option<Entry>,
}

impl Keyspace {
    fn new(key: HashKey, held: Held) -> Keyspace {
        Keyspace {
            table: Dict::new(key),
            held,
            copied_before: 0,
            avg_ttl_ms: 0,
        }
    }

    /// Number of keys, expired ones that are still there included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// True if there are no keys.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Number of keys with an expiry.
    pub fn expiring_len(&self) -> usize {
        self.table.expiring_len()
    }

    /// The hash of a key, the same in all databases of a server.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.table.hash(key)
    }

    /// True if fetching ahead pays, see [`Dict::is_large`].
    pub fn is_large(&self) -> bool {
        self.table.is_large()
    }

    /// Fetches what lookups of these hashes will read. Good at 4 to 32 at a time.
    #[inline]
    pub fn prefetch(&self, hashes: &[u64]) {
        self.table.prefetch(hashes);
    }

    /// The key's entry, its time over or not.
    #[inline]
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.table.find(hash, key)
    }

    /// The key's entry, and whether its time is over at `now_ms`.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8], now_ms: u64) -> Lookup<'_> {
        match self.table.find(hash, key) {
            None => Lookup::Missing,
            Some(entry) if entry.is_expired(now_ms) => Lookup::Expired(entry),
            Some(entry) => Lookup::Found(entry),
        }
    }

    /// As [`find`](Self::find), but an expired key is deleted.
    #[inline]
    pub fn find_live(&mut self, hash: u64, key: &[u8], now_ms: u64) -> Live<'_> {
        match self.table.entry(hash, key) {
            dict::Entry::Vacant(_) => Live::Missing,
            dict::Entry::Occupied(found) if found.get().is_expired(now_ms) => {
                let entry = found.remove();
                self.held.left_behind(&entry);
                Live::Expired(entry)
            }
            dict::Entry::Occupied(found) => Live::Found(found.into_ref()),
        }
    }

    /// As [`find_live`](Self::find_live), but an expired key is merely passed over.
    pub fn find_held(&self, hash: u64, key: &[u8], now_ms: u64) -> Live<'_> {
        match self.find(hash, key, now_ms) {
            Lookup::Found(entry) => Live::Found(entry),
            Lookup::Expired(_) | Lookup::Missing => Live::Missing,
        }
    }

    /// The key's entry for writing, its time over or not.
    #[inline]
    pub fn entry_mut(&mut self, hash: u64, key: &[u8]) -> Option<EntryMut<'_>> {
        let record = self.table.find_mut(hash, key)?;
        Some(EntryMut {
            record,
            held: &self.held,
        })
    }

    /// Stores a value, whatever the key held. `access` gives the entry's access bits from those it had (`None` for a key
    /// that is new, or whose time was over).
    #[inline]
    pub fn set(
        &mut self,
        hash: u64,
        key: &[u8],
        value: Value<'_>,
        expiry: Expiry,
        now_ms: u64,
        access: impl FnOnce(Option<u32>) -> u32,
    ) -> Stored {
        let always = |_: Option<&Entry>| Ok::<_, Infallible>(Some((value, expiry)));
        self.update(hash, key, now_ms, access, always).0
    }

    /// Reads the key's entry and stores what `f` makes of it, all in one lookup. `f` gets `None` for a key that is not
    /// there, or whose time is over (that one is deleted in any case). If it gives `None` nothing is stored, but the
    /// access bits of an entry that is there are set as for [`set`](Self::set). With what was done comes whether `f`
    /// wanted it, or its error.
    #[inline]
    pub fn update<'v, E>(
        &mut self,
        hash: u64,
        key: &[u8],
        now_ms: u64,
        access: impl FnOnce(Option<u32>) -> u32,
        f: impl FnOnce(Option<&Entry>) -> Result<Option<(Value<'v>, Expiry)>, E>,
    ) -> (Stored, Result<bool, E>) {
        let mut stored = Stored::default();
        let wanted = match self.table.entry(hash, key) {
            dict::Entry::Occupied(found) if !found.get().is_expired(now_ms) => {
                let entry = found.get();
                entry.set_access(access(Some(entry.access())));
                f(Some(entry)).map(|wanted| {
                    wanted.map(|(value, expiry)| {
                        let mut record = found.into_mut();
                        let expiry_ms = expiry.after(record.expiry_ms());
                        stored.displaced = record.set(value, expiry_ms);
                        if let Some(old) = &stored.displaced {
                            self.held.left_behind(old);
                        }
                    })
                })
            }
            dict::Entry::Occupied(mut found) => {
                let wanted = f(None).map(|wanted| {
                    wanted.map(|(value, expiry)| {
                        Entry::new(key, value, expiry.after(None), access(None))
                    })
                });
                let (old, wanted) = match wanted {
                    Ok(Some(new)) => (found.replace(new), Ok(Some(()))),
                    other => (found.remove(), other.map(|_| None)),
                };
                self.held.left_behind(&old);
                stored.created = matches!(wanted, Ok(Some(())));
                stored.expired = Some(old);
                wanted
            }
            dict::Entry::Vacant(place) => f(None).map(|wanted| {
                wanted.map(|(value, expiry)| {
                    place.insert(Entry::new(key, value, expiry.after(None), access(None)));
                    stored.created = true;
                })
            }),
        };
        (stored, wanted.map(|done| done.is_some()))
    }

    /// Puts an entry in under its own key. Gives back the one that had it.
    pub fn insert(&mut self, hash: u64, entry: Entry) -> Option<Entry> {
        let old = self.table.insert(hash, entry)?;
        self.held.left_behind(&old);
        Some(old)
    }

    /// Puts an entry in, now or with some that follow: see [`Filling`]. Gives entries, with their hashes, that were not put
    /// in because their keys are there.
    #[inline]
    pub fn fill(&mut self, filling: &mut Filling<Entry>, entry: Entry) -> Vec<(u64, Entry)> {
        filling.push(&mut self.table, entry);
        filling.take_twins()
    }

    /// Puts in what a filling still holds, and gives what [`fill`](Self::fill) does.
    pub fn filled(&mut self, filling: Filling<Entry>) -> Vec<(u64, Entry)> {
        filling.finish(&mut self.table)
    }

    /// Takes the key's entry out, its time over or not.
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        let entry = self.table.remove(hash, key)?;
        self.held.left_behind(&entry);
        Some(entry)
    }

    /// Sets or (`None`) clears the key's expiry: `None` if the key is not there, else the entry that could not be changed
    /// in place, if so.
    pub fn set_expiry(
        &mut self,
        hash: u64,
        key: &[u8],
        expiry_ms: Option<u64>,
    ) -> Option<Option<Entry>> {
        Some(self.entry_mut(hash, key)?.set_expiry(expiry_ms))
    }

    /// Shows the part of the table at a place in hash order to a mover, see [`Dict::defrag`], and hands each of its
    /// entries on.
    pub(super) fn defrag<'m>(
        &mut self,
        position: u64,
        mover: &mut Mover<'m>,
        f: impl FnMut(&mut Entry, &mut Mover<'m>),
    ) -> Option<u64> {
        self.table.defrag(position, mover, f)
    }

    /// The key's entry for writing, if all that leads to it is nobody else's; nothing is copied.
    pub(super) fn entry_sole(&mut self, hash: u64, key: &[u8]) -> Option<&mut Entry> {
        self.table.find_sole(hash, key)
    }

    /// A time before which no key expires.
    pub fn earliest_expiry_ms(&self) -> Option<u64> {
        self.table.earliest()
    }

    /// Takes out keys whose time is over, see [`Dict::expire`], but for those that `stays` says it of.
    pub(super) fn expire(
        &mut self,
        now_ms: u64,
        cursor: u64,
        budget: usize,
        stays: impl Fn(&[u8]) -> bool,
        mut gone: impl FnMut(Entry),
    ) -> dict::Round {
        let held = &self.held;
        // The dict's deadline is the first moment at which a key is due; a key's own is the last at which it is not.
        let due_ms = now_ms.saturating_sub(1);
        self.table.expire(due_ms, cursor, budget, |entry| {
            if stays(entry.key()) {
                return Some(entry);
            }
            held.left_behind(&entry);
            gone(entry);
            None
        })
    }

    /// A random key, each with the same chance. `below` draws a number less than its argument.
    pub fn random(&self, below: impl FnMut(u64) -> u64) -> Option<&Entry> {
        self.table.random(below)
    }

    /// As [`random`](Self::random), among the keys with an expiry.
    pub fn random_expiring(&self, below: impl FnMut(u64) -> u64) -> Option<&Entry> {
        self.table.random_expiring(below)
    }

    /// Calls `f` with up to `count` keys from a random place (of those with an expiry, if `expiring`).
    pub fn sample(
        &self,
        count: usize,
        expiring: bool,
        below: impl FnMut(u64) -> u64,
        f: impl FnMut(&Entry),
    ) {
        self.table.sample(count, expiring, below, f);
    }

    /// Calls `f` with about `count` keys from a cursor on; gives the cursor to go on with, 0 at the end. What was there
    /// from the first call to the last is met at least once.
    pub fn scan(&self, cursor: u64, count: usize, f: impl FnMut(&Entry)) -> u64 {
        self.table.scan(cursor, count, f)
    }

    /// How many keys a slot has. Only where hashes are by slot, see [`Databases::by_slot`].
    pub fn slot_len(&self, slot: Slot) -> usize {
        self.table.slot_len(slot)
    }

    /// Up to `count` of the keys that a slot has, likewise.
    pub fn slot_keys(&self, slot: Slot, count: usize) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        if count > 0 {
            self.table.each_of_slot(slot, |entry| {
                keys.push(entry.key().to_vec());
                keys.len() < count
            });
        }
        keys
    }

    /// All keys.
    pub fn iter(&self) -> Iter<'_, Entry> {
        self.table.iter()
    }

    /// Bytes of the table itself, without the entries. Costs a look at every page.
    pub fn table_bytes(&self) -> usize {
        self.table.memory_bytes()
    }

    /// Slots of the table. Costs a look at every page and segment header.
    pub fn slots(&self) -> usize {
        self.table.slots()
    }

    /// The shape of the table. Costs a look at every slot.
    pub fn table_stats(&self) -> Stats {
        self.table.stats()
    }

    /// The contents as they are now, in O(1).
    pub(super) fn snapshot(&self) -> Dict<Entry> {
        self.table.snapshot()
    }

    fn take(&mut self) -> Contents {
        self.avg_ttl_ms = 0;
        self.copied_before = 0;
        Contents(self.table.clear())
    }
}

impl<'a> IntoIterator for &'a Keyspace {
    type Item = &'a Entry;
    type IntoIter = Iter<'a, Entry>;
    fn into_iter(self) -> Iter<'a, Entry> {
        self.iter()
    }
}

/// What a database held before it was emptied. Dropping it frees that.
pub struct Contents(Dict<Entry>);

impl Contents {
    /// Number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An entry that may be changed. The ways to change it stand here, so that each keeps the account of what snapshots hold;
/// whatever they do to the expiry, the table's sums follow when this is dropped.
pub struct EntryMut<'a> {
    record: RecordMut<'a, Entry>,
    held: &'a Held,
}

impl EntryMut<'_> {
    /// Sets value and expiry. Gives back the old entry if it could not be overwritten in place.
    pub fn set(&mut self, value: Value<'_>, expiry_ms: Option<u64>) -> Option<Entry> {
        let displaced = self.record.set(value, expiry_ms);
        self.noted(displaced)
    }

    /// Sets the value, the expiry stays. Gives back as [`set`](Self::set) does.
    pub fn set_value(&mut self, value: Value<'_>) -> Option<Entry> {
        let displaced = self.record.set_value(value);
        self.noted(displaced)
    }

    /// Sets or clears the expiry, the value stays. Gives back as [`set`](Self::set) does.
    pub fn set_expiry(&mut self, expiry_ms: Option<u64>) -> Option<Entry> {
        let displaced = self.record.set_expiry(expiry_ms);
        self.noted(displaced)
    }

    /// Adds `data` at the end of the string that the key holds.
    pub fn append(&mut self, data: &[u8]) {
        self.held.add(string::append(&mut self.record, data));
    }

    /// Writes `data` at offset `at` of the string that the key holds; a gap reads as zeros.
    pub fn write_at(&mut self, at: usize, data: &[u8]) {
        self.held.add(string::write_at(&mut self.record, at, data));
    }

    /// Changes the container that the key holds; `None` if it holds something else. With what `change` gives comes whether
    /// the container is empty now, with which the key has to go.
    pub fn change<C: Container, R>(
        &mut self,
        change: impl FnOnce(&mut C) -> R,
    ) -> Option<(R, bool)> {
        if C::PACKS
            && let Some(mut container) = C::of(self.record.value()).and_then(C::unpacked)
        {
            let result = change(&mut container);
            let is_empty = container.is_empty();
            // An empty one is about to go with its key.
            if !is_empty {
                // What is displaced is small: no need to free it elsewhere.
                match container.compact() {
                    Some(bytes) => self.set_value(Value::Compact(bytes)),
                    None => self.set_value(Value::Heap(container.into_heap())),
                };
            }
            return Some((result, is_empty));
        }
        let (container, mut left_behind) = self.record.heap_mut::<C>()?;
        let result = change(container);
        left_behind += container.take_left_behind();
        let is_empty = container.is_empty();
        self.held.add(left_behind);
        Some((result, is_empty))
    }

    fn noted(&mut self, displaced: Option<Entry>) -> Option<Entry> {
        let old = displaced?;
        self.held.left_behind(&old);
        Some(old)
    }
}

impl Deref for EntryMut<'_> {
    type Target = Entry;
    #[inline]
    fn deref(&self) -> &Entry {
        &self.record
    }
}

/// The databases of a server.
pub struct Databases {
    dbs: Vec<Keyspace>,
    key: HashKey,
    held: Held,
}

impl Databases {
    /// `count` empty databases, whose keys are hashed under `key`.
    pub fn new(count: usize, key: HashKey) -> Databases {
        let held = Held::default();
        Databases {
            dbs: (0..count)
                .map(|_| Keyspace::new(key, held.clone()))
                .collect(),
            key,
            held,
        }
    }

    /// The same for a node of a cluster: keys can be asked for by their slot.
    pub fn by_slot(count: usize, key: HashKey) -> Databases {
        Databases::new(count, key.by_slot())
    }

    /// As many empty databases of the same kind.
    pub fn fresh(&self) -> Databases {
        Databases::new(self.dbs.len(), self.key)
    }

    /// How many databases there are.
    pub fn count(&self) -> usize {
        self.dbs.len()
    }

    /// The hash of a key, for all methods that take one.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.key.hash(key)
    }

    /// The key that hashes are made under in the containers inside of values.
    pub fn hash_key(&self) -> HashKey {
        self.key.plain()
    }

    /// The key that the hashes of keys are made under: in a cluster, by slot.
    pub fn key_of_tables(&self) -> HashKey {
        self.key
    }

    /// A database. The index was checked by SELECT and its kin.
    #[inline]
    pub fn db(&self, index: u32) -> &Keyspace {
        &self.dbs[index as usize]
    }

    /// A database, for writing.
    #[inline]
    pub fn db_mut(&mut self, index: u32) -> &mut Keyspace {
        &mut self.dbs[index as usize]
    }

    /// All databases, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Keyspace> {
        self.dbs.iter()
    }

    /// Number of keys in all databases.
    pub fn len(&self) -> usize {
        self.dbs.iter().map(Keyspace::len).sum()
    }

    /// True if there is no key in any database.
    pub fn is_empty(&self) -> bool {
        self.dbs.iter().all(Keyspace::is_empty)
    }

    /// Number of keys with an expiry in all databases.
    pub fn expiring_len(&self) -> usize {
        self.dbs.iter().map(Keyspace::expiring_len).sum()
    }

    /// True if the key is there and its time is over.
    pub fn is_expired(&self, index: u32, key: &[u8], now_ms: u64) -> bool {
        self.db(index)
            .get(self.hash(key), key)
            .is_some_and(|entry| entry.is_expired(now_ms))
    }

    /// The type of what the key holds, if it is there and its time is not over.
    pub fn type_of(&self, index: u32, key: &[u8], now_ms: u64) -> Option<Type> {
        match self.db(index).find(self.hash(key), key, now_ms) {
            Lookup::Found(entry) => Some(entry.type_of()),
            Lookup::Missing | Lookup::Expired(_) => None,
        }
    }

    /// Exchanges the contents of two databases.
    pub fn swap(&mut self, a: u32, b: u32) {
        self.dbs.swap(a as usize, b as usize);
    }

    /// Empties a database and hands back what it held.
    #[must_use = "dropping millions of entries takes its time"]
    pub fn flush(&mut self, index: u32) -> Contents {
        let db = &mut self.dbs[index as usize];
        if self.held.is_live() {
            db.held.add(estimated_bytes(db));
        }
        db.take()
    }

    /// Empties all databases and hands back what they held.
    #[must_use = "dropping millions of entries takes its time"]
    pub fn flush_all(&mut self) -> Vec<Contents> {
        (0..self.dbs.len() as u32)
            .map(|index| self.flush(index))
            .collect()
    }

    /// The contents of all databases as they are now. Costs the same however much they hold.
    pub fn snapshot(&mut self) -> Snapshot {
        if !self.held.is_live() {
            for db in &mut self.dbs {
                db.copied_before = db.table.copied_bytes();
            }
        }
        Snapshot::new(self.dbs.iter().map(Keyspace::snapshot), &self.held)
    }

    /// Becomes what a snapshot holds, the contents shared with whoever has them until one of both changes them. `key` is
    /// what the hashes of the snapshot were made under.
    pub fn become_copy(&mut self, snapshot: &Snapshot, key: HashKey) {
        self.key = key;
        let held = &self.held;
        let copy = |table: &Dict<Entry>| Keyspace {
            table: table.clone(),
            ..Keyspace::new(key, held.clone())
        };
        self.dbs = snapshot.tables().iter().map(copy).collect();
    }

    /// True while a snapshot is alive.
    pub fn has_snapshot(&self) -> bool {
        self.held.is_live()
    }

    /// Bytes that only snapshots still hold: not counted against `maxmemory`.
    pub fn snapshot_held(&self) -> usize {
        let copied = |db: &Keyspace| db.table.copied_bytes().saturating_sub(db.copied_before);
        self.held.bytes(self.dbs.iter().map(copied).sum())
    }

    /// Bytes that were copied or left behind because of the snapshots alive, or of the last ones that were.
    pub fn copied_for_snapshots(&self) -> usize {
        let copied = |db: &Keyspace| db.table.copied_bytes().saturating_sub(db.copied_before);
        self.held.all_left_behind() + self.dbs.iter().map(copied).sum::<usize>()
    }
}

/// About the memory of a database: its table, and so many entries of the size of a few.
fn estimated_bytes(db: &Keyspace) -> usize {
    const SAMPLES: usize = 64;
    let mut at = 0u64;
    let (mut seen, mut bytes) = (0, 0);
    // Any places do; these are the same in every run.
    let below = |n: u64| {
        at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (at >> 32) % n
    };
    db.sample(SAMPLES, false, below, |entry| {
        seen += 1;
        bytes += entry.memory_bytes();
    });
    db.table_bytes() + bytes * db.len() / seen.max(1)
}

#[cfg(test)]
mod tests;
