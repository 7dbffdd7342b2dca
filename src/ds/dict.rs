//! The dict: keys to records, by extendible hashing over copy-on-write segments.
//!
//! A hash leads through a *root* and a *page* (arrays of pointers, see `tree`) to a *segment* (up to 420
//! records in one allocation, see `segment`), whose tags are compared 16 at a time. A lookup that finds
//! its key reads, past the small upper levels, three lines of memory: tags, slot, record.
//!
//! - **It never rehashes.** A full segment grows through 13 sizes, then splits in two; nothing else moves.
//!   Emptied ones shrink and merge, down to a dict of 8 slots in 112 bytes, and to nothing.
//! - **A clone is a snapshot**, made in O(1). Writers copy what they share on the way down: root, page,
//!   segment, and at last the record, which is the caller's part ([`Record::is_unique`]).
//! - **Sums on the way down** (keys, keys with a deadline, earliest deadline) lead to a random record, and to
//!   those that have expired, without a look at what cannot matter (`random`, `expire`).
//! - **Hash order** is an order that no split or merge disturbs, so a SCAN cursor is a place in it (`scan`).
//! - **A slot's records** are neighbours in a cluster's dict, whose hashes begin with the slot: counted and
//!   found without an index beside the table (`range`).
//! - **A file's records** go in batch by batch, into a table that is made for all of them at once (`fill`).
//!
//! The dict knows no keys' meaning and no clock. It hashes keys itself only when it splits a segment; all
//! else takes the hash from the caller, who computes it once per command ([`Dict::hash`]).

mod defrag;
mod expire;
mod fill;
mod group;
mod page;
mod random;
mod range;
mod record;
mod root;
mod scan;
mod segment;
mod stats;
#[cfg(test)]
mod tests;
mod tree;
mod walk;

pub use expire::Round;
pub use fill::Filling;
pub use record::{Handle, HashKey, Record, prefetch_read};
pub use stats::{Stats, Weight};
pub use walk::{Iter, Walk};

use segment::{MERGE_BELOW, Seg};
use std::ops::Deref;
use tree::Top;

/// Records from which on `prefetch` does something: fewer fit the processor's second cache.
const PREFETCH_FROM: usize = 8192;
/// Lookups prefetched at a time: about what a processor can have under way.
const PREFETCH_BATCH: usize = 16;

/// A table of records, looked up by their keys.
pub struct Dict<R: Record> {
    top: Top<R>,
    len: usize,
    expiring: usize,
    key: HashKey,
}

// SAFETY: owners on several threads share records, pages and segments only for reading; who may write is
// decided by their counts (`cow`).
unsafe impl<R: Record + Send + Sync> Send for Dict<R> {}
// SAFETY: as above; `&Dict` gives shared access, and clones.
unsafe impl<R: Record + Send + Sync> Sync for Dict<R> {}

impl<R: Record> Dict<R> {
    /// An empty dict, which holds no memory.
    pub const fn new(key: HashKey) -> Dict<R> {
        Dict {
            top: Top::Empty,
            len: 0,
            expiring: 0,
            key,
        }
    }

    /// The number of records.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no records.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of records with a deadline.
    #[inline]
    pub fn expiring_len(&self) -> usize {
        self.expiring
    }

    /// The hash of a key, which all other methods take.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.key.hash(key)
    }

    /// The key's record.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<&R> {
        let (seg, index) = self.look_up(hash, key)?;
        // SAFETY: found in use; nothing is written while self is borrowed.
        Some(unsafe { seg.record(index) })
    }

    /// The key's record for writing; everything above it is made writable, itself the caller has to ask
    /// ([`Record::is_unique`]) and replace if it is shared.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<RecordMut<'_, R>> {
        let (seg, index) = self.look_up_own(hash, key)?;
        Some(RecordMut::new(self, hash, seg, index))
    }

    /// One lookup for whatever is to happen to a key. Nothing is copied until something is written.
    #[inline]
    pub fn entry(&mut self, hash: u64, key: &[u8]) -> Entry<'_, R> {
        match self.look_up(hash, key) {
            Some((seg, index)) => Entry::Occupied(Occupied {
                dict: self,
                hash,
                seg,
                index,
            }),
            None => Entry::Vacant(Vacant { dict: self, hash }),
        }
    }

    /// Where the key's record is. Called and not inlined: what it gives fits two registers, what its callers make of that
    /// does not.
    #[inline(never)]
    fn look_up(&self, hash: u64, key: &[u8]) -> Option<(Seg<R>, usize)> {
        let seg = self.top.locate(hash)?;
        Some((seg, seg.find(hash, key)?))
    }

    /// The same, everything above the record made writable.
    #[inline(never)]
    fn look_up_own(&mut self, hash: u64, key: &[u8]) -> Option<(Seg<R>, usize)> {
        let index = self.top.locate(hash)?.find(hash, key)?;
        Some((self.top.own(hash).seg, index))
    }

    /// Puts a record in, and gives back the one that had the key.
    pub fn insert(&mut self, hash: u64, record: R) -> Option<R> {
        match self.entry(hash, record.key()) {
            Entry::Occupied(mut occupied) => Some(occupied.replace(record)),
            Entry::Vacant(vacant) => {
                vacant.insert(record);
                None
            }
        }
    }

    /// Takes the key's record out.
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<R> {
        match self.entry(hash, key) {
            Entry::Occupied(occupied) => Some(occupied.remove()),
            Entry::Vacant(_) => None,
        }
    }

    /// Empties the dict. Its former self is handed back, to be dropped where there is time for it.
    #[must_use = "dropping millions of records takes its time"]
    pub fn clear(&mut self) -> Dict<R> {
        std::mem::replace(self, Dict::new(self.key))
    }

    /// The same records in a dict of its own, in O(1): what is written to either is not seen by the other.
    pub fn snapshot(&self) -> Dict<R> {
        Dict {
            top: self.top.clone(),
            ..*self
        }
    }

    /// True if it does not fit the processor's second cache, so that [`prefetch`](Self::prefetch) helps.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.len >= PREFETCH_FROM
    }

    /// Fetches what the lookups of a batch of keys will read, for all of them at once: first their tags,
    /// then the slots these lead to, then the records. Pure hints, worth it for 4 keys or more.
    #[inline]
    pub fn prefetch(&self, hashes: &[u64]) {
        // A small table is in the cache anyway.
        if self.is_large() {
            hashes
                .chunks(PREFETCH_BATCH)
                .for_each(|batch| self.prefetch_batch(batch));
        }
    }

    /// Fetches what a lookup of this hash will read first, for those who look ahead one by one: next comes
    /// [`prefetch_slot`](Self::prefetch_slot).
    #[inline]
    pub fn prefetch_tags(&self, hash: u64) {
        if let Some(seg) = self.top.locate(hash) {
            seg.prefetch(hash);
        }
    }

    /// Fetches the slot that a lookup of this hash will read, given that its tags have arrived.
    #[inline]
    pub fn prefetch_slot(&self, hash: u64) {
        if let Some(seg) = self.top.locate(hash) {
            seg.prefetch_slot(hash);
        }
    }

    fn prefetch_batch(&self, hashes: &[u64]) {
        let Top::Tree(root) = &self.top else { return };
        let mut segs = [None; PREFETCH_BATCH];
        for (seg, &hash) in segs.iter_mut().zip(hashes) {
            *seg = Some(root.locate(hash).prefetch(hash));
        }
        let mut slots = [None; PREFETCH_BATCH];
        for ((slot, seg), &hash) in slots.iter_mut().zip(segs).zip(hashes) {
            *slot = seg.and_then(|seg| seg.prefetch_slot(hash));
        }
        for (seg, index) in segs.into_iter().zip(slots) {
            if let (Some(seg), Some(index)) = (seg, index) {
                seg.prefetch_at(index);
            }
        }
    }

    /// A record that is not in the dict yet.
    #[inline]
    fn add(&mut self, hash: u64, record: R) -> (Seg<R>, usize) {
        let deadline = record.deadline();
        let mut path = self.top.own(hash);
        while path.seg.is_full() {
            self.top.grow(hash, &self.key);
            path = self.top.own(hash);
        }
        let index = path.seg.insert(hash, record, deadline);
        self.len += 1;
        if let Some(sums) = path.sums() {
            sums.keys += 1;
        }
        if let Some(at) = deadline {
            self.expiring += 1;
            if let Some(sums) = path.sums() {
                sums.add_deadline(at);
            }
        }
        (path.seg, index)
    }

    #[inline]
    fn remove_at(&mut self, hash: u64, index: usize) -> R {
        let mut path = self.top.own(hash);
        let record = path.seg.remove(index);
        self.len -= 1;
        if let Some(sums) = path.sums() {
            sums.keys -= 1;
        }
        if record.deadline().is_some() {
            self.expiring -= 1;
            if let Some(sums) = path.sums() {
                sums.drop_deadline();
            }
        }
        // Every eighth removal looks whether the buddy has become small too.
        let keys = path.seg.keys();
        if path.seg.is_sparse() || (keys.is_multiple_of(8) && keys < MERGE_BELOW) {
            self.top.shrink(hash);
        }
        record
    }

    /// Brings the sums in line after a record in an owned segment changed its deadline.
    #[cold]
    #[inline(never)]
    fn redate(&mut self, hash: u64, old: Option<u64>, new: Option<u64>) {
        let mut path = self.top.own(hash);
        // In before out, so that a count that does not change never passes through 0.
        if let Some(at) = new {
            path.seg.add_deadline(at);
            self.expiring += 1;
            if let Some(sums) = path.sums() {
                sums.add_deadline(at);
            }
        }
        if old.is_some() {
            path.seg.drop_deadline();
            self.expiring -= 1;
            if let Some(sums) = path.sums() {
                sums.drop_deadline();
            }
        }
    }
}

impl<R: Record> Clone for Dict<R> {
    fn clone(&self) -> Self {
        self.snapshot()
    }
}

/// What a lookup found, to go on from without a second one.
pub enum Entry<'a, R: Record> {
    /// The key's record is there.
    Occupied(Occupied<'a, R>),
    /// It is not.
    Vacant(Vacant<'a, R>),
}

/// A key that has a record.
pub struct Occupied<'a, R: Record> {
    dict: &'a mut Dict<R>,
    hash: u64,
    seg: Seg<R>,
    index: usize,
}

impl<'a, R: Record> Occupied<'a, R> {
    /// The record.
    #[inline]
    pub fn get(&self) -> &R {
        // SAFETY: found in use, and nothing has written since.
        unsafe { self.seg.record(self.index) }
    }

    /// The record, for as long as the dict was borrowed.
    #[inline]
    pub fn into_ref(self) -> &'a R {
        // SAFETY: as in `get`; the dict stays borrowed for 'a.
        unsafe { self.seg.record(self.index) }
    }

    /// The record for writing, see [`Dict::find_mut`].
    #[inline]
    pub fn get_mut(&mut self) -> RecordMut<'_, R> {
        self.seg = self.dict.top.own(self.hash).seg;
        RecordMut::new(self.dict, self.hash, self.seg, self.index)
    }

    /// As `get_mut`, for as long as the dict was borrowed.
    #[inline]
    pub fn into_mut(self) -> RecordMut<'a, R> {
        let seg = self.dict.top.own(self.hash).seg;
        RecordMut::new(self.dict, self.hash, seg, self.index)
    }

    /// Exchanges the record for another with the same key.
    #[inline]
    pub fn replace(&mut self, record: R) -> R {
        debug_assert!(record.key() == self.get().key());
        self.seg = self.dict.top.own(self.hash).seg;
        let new = record.deadline();
        let old = self.seg.exchange(self.index, record);
        let was = old.deadline();
        if was != new {
            self.dict.redate(self.hash, was, new);
        }
        old
    }

    /// Takes the record out.
    #[inline]
    pub fn remove(self) -> R {
        self.dict.remove_at(self.hash, self.index)
    }
}

/// A key that has no record.
pub struct Vacant<'a, R: Record> {
    dict: &'a mut Dict<R>,
    hash: u64,
}

impl<'a, R: Record> Vacant<'a, R> {
    /// Puts a record in, which must have the key that was looked up.
    #[inline]
    pub fn insert(self, record: R) -> &'a R {
        debug_assert_eq!(self.dict.hash(record.key()), self.hash);
        let (seg, index) = self.dict.add(self.hash, record);
        // SAFETY: just put in; the dict stays borrowed for 'a.
        unsafe { seg.record(index) }
    }
}

/// A record whose dict, page and segment are writable. It may be changed in place if it is unique itself
/// ([`Record::is_unique`]), or replaced by one with the same key. Dropping this brings the dict's sums in line
/// with the record's deadline.
pub struct RecordMut<'a, R: Record> {
    dict: &'a mut Dict<R>,
    hash: u64,
    slot: *mut R,
    bits: u16,
    deadline: Option<u64>,
}

impl<'a, R: Record> RecordMut<'a, R> {
    #[inline]
    fn new(dict: &'a mut Dict<R>, hash: u64, seg: Seg<R>, index: usize) -> Self {
        let slot = seg.slot(index);
        let bits = seg.shape().stored(hash);
        // SAFETY: the slot is in use and its segment owned.
        let deadline = unsafe { (*slot).deadline() };
        RecordMut {
            dict,
            hash,
            slot,
            bits,
            deadline,
        }
    }
}

impl<R: Record> Deref for RecordMut<'_, R> {
    type Target = R;
    #[inline]
    fn deref(&self) -> &R {
        // SAFETY: the slot is in use, and the dict borrowed by self.
        unsafe { &*self.slot }
    }
}

impl<R: Record> std::ops::DerefMut for RecordMut<'_, R> {
    #[inline]
    fn deref_mut(&mut self) -> &mut R {
        // SAFETY: as above, with every owner of the slot unique.
        unsafe { &mut *self.slot }
    }
}

impl<R: Record> Drop for RecordMut<'_, R> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: as above; a record is a Handle.
        let handle = unsafe { &mut *self.slot.cast::<Handle>() };
        // It may be another record than before. If it is not, the slot's line stays clean.
        if handle.bits() != self.bits {
            handle.set_bits(self.bits);
        }
        let deadline = self.deref().deadline();
        if deadline != self.deadline {
            self.dict.redate(self.hash, self.deadline, deadline);
        }
    }
}
