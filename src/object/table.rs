//! What is inside a large hash, set or sorted set: a dict, and a tally of what its writes leave to other owners.
//!
//! A write into a dict that a snapshot shares copies page, segment and record; the originals stay in memory for the
//! snapshot's sake. The keyspace asks for the tally after each write (`take_left_behind`), so that this memory does not
//! count as the live data's.

use std::collections::BTreeSet;

use super::entry::Entry;
use crate::base::alloc::size_class;
use crate::base::rng::Rng;
use crate::ds::defrag::{Mover, Step};
use crate::ds::dict::{self, Dict, Filling, HashKey, Iter, Record, Weight};
use crate::ds::member::Member;

/// A record whose memory is known.
pub trait Weighed: Record {
    /// Bytes of memory, as the allocator accounts them.
    fn memory_bytes(&self) -> usize;
}

impl Weighed for Member {
    fn memory_bytes(&self) -> usize {
        Member::memory_bytes(self)
    }
}

impl Weighed for Entry {
    fn memory_bytes(&self) -> usize {
        Entry::memory_bytes(self)
    }
}

/// See the head of the file.
#[derive(Clone)]
pub struct Table<R: Record> {
    dict: Dict<R>,
    left_behind: usize,
    /// How much of the dict's own count of copied bytes has been told.
    copied_told: usize,
}

impl<R: Weighed> Table<R> {
    /// An empty table.
    pub fn new(key: HashKey) -> Table<R> {
        Table {
            dict: Dict::new(key),
            left_behind: 0,
            copied_told: 0,
        }
    }

    /// The same records in a table of its own, with nothing to tell. What is written to either is not seen by the other.
    pub fn shared(&self) -> Table<R> {
        Table {
            copied_told: self.dict.copied_bytes(),
            dict: self.dict.clone(),
            left_behind: 0,
        }
    }

    /// The number of records.
    #[inline]
    pub fn len(&self) -> usize {
        self.dict.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.dict.is_empty()
    }

    /// See [`Dict::is_large`].
    pub fn is_large(&self) -> bool {
        self.dict.is_large()
    }

    /// The record of this key.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&R> {
        self.dict.find(self.dict.hash(key), key)
    }

    /// One lookup for whatever is to happen to a key, with the place where to tell of records that were let go.
    #[inline]
    pub fn entry(&mut self, key: &[u8]) -> (dict::Entry<'_, R>, &mut usize) {
        let hash = self.dict.hash(key);
        (self.dict.entry(hash, key), &mut self.left_behind)
    }

    /// Puts a record in unless its key has one; true if it did.
    #[inline]
    pub fn add(&mut self, key: &[u8], make: impl FnOnce() -> R) -> bool {
        match self.entry(key).0 {
            dict::Entry::Occupied(_) => false,
            dict::Entry::Vacant(place) => {
                place.insert(make());
                true
            }
        }
    }

    /// A table of about `expected` records, which `next` gives until there are no more. `None` if two have the same key.
    pub fn filled<E>(
        key: HashKey,
        expected: usize,
        mut next: impl FnMut() -> Result<Option<R>, E>,
    ) -> Result<Option<Table<R>>, E> {
        let mut table = Table::new(key);
        let mut filling = Filling::new(expected);
        while let Some(record) = next()? {
            filling.push(&mut table.dict, record);
        }
        let twins = filling.finish(&mut table.dict);
        Ok(twins.is_empty().then_some(table))
    }

    /// Takes the key's record out; true if there was one.
    #[inline]
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let hash = self.dict.hash(key);
        let record = self.dict.remove(hash, key);
        if let Some(record) = &record {
            self.left_behind += left_behind(record);
        }
        record.is_some()
    }

    /// All records.
    pub fn iter(&self) -> Iter<'_, R> {
        self.dict.iter()
    }

    /// A record, each with the same chance.
    pub fn random(&self, below: impl FnMut(u64) -> u64) -> Option<&R> {
        self.dict.random(below)
    }

    /// Calls `f` with `count` records, none twice, each selection as likely as any other. At most all of them.
    pub fn select<'a>(&'a self, count: usize, rng: &mut Rng, mut f: impl FnMut(&'a R)) {
        // Where much of the table is wanted, most draws would find what was drawn before.
        if count > self.len() / 3 {
            return select(self.iter(), self.len(), count, |n| rng.below(n), f);
        }
        let mut drawn = BTreeSet::new();
        while drawn.len() < count {
            let Some(record) = self.random(|n| rng.below(n)) else {
                return;
            };
            // Nothing moves meanwhile: a key's address tells its record from the others.
            if drawn.insert(record.key().as_ptr().addr()) {
                f(record);
            }
        }
    }

    /// Calls `f` with about `count` records from a cursor on, see [`Dict::scan`].
    pub fn scan(&self, cursor: u64, count: usize, f: impl FnMut(&R)) -> u64 {
        self.dict.scan(cursor, count, f)
    }

    /// Shows a segment and its records to a mover, and the box with the first, see [`Dict::defrag`].
    pub fn defrag<'m>(
        this: &mut Box<Self>,
        step: Step,
        mover: &mut Mover<'m>,
        f: impl FnMut(&mut R, &mut Mover<'m>),
    ) -> Option<Step> {
        if step.at == 0 {
            mover.boxed(this);
        }
        let at = this.dict.defrag(step.at, mover, f)?;
        Some(Step { at, ..step })
    }

    /// The dict, for DEBUG HTSTATS and savers.
    pub fn dict(&self) -> &Dict<R> {
        &self.dict
    }

    /// What it weighs, this struct in its box included.
    pub fn weight(&self) -> Weight {
        let weight = self.dict.weight(R::memory_bytes);
        Weight {
            bytes: weight.bytes + size_class(size_of::<Self>(), 8),
            freed_by_drop: weight.freed_by_drop + size_class(size_of::<Self>(), 8),
        }
    }

    /// Bytes that writes have left to other owners since this was last asked.
    pub fn take_left_behind(&mut self) -> usize {
        let copied = self.dict.copied_bytes();
        // The dict begins anew when it has become small.
        let new = copied.checked_sub(self.copied_told).unwrap_or(copied);
        self.copied_told = copied;
        new + std::mem::take(&mut self.left_behind)
    }
}

/// Bytes of a container's own struct behind its counted pointer.
pub fn struct_bytes<C>() -> usize {
    size_class(size_of::<C>() + size_of::<usize>(), 8)
}

/// What stays allocated for others when the table lets go of a record.
#[inline]
pub fn left_behind<R: Weighed>(record: &R) -> usize {
    if record.is_unique() {
        0
    } else {
        record.memory_bytes()
    }
}

/// Calls `f` with `count` of the items of a listpack drawn one by one from all of them, so that one may come several times.
/// There is at least one.
pub fn draw<T: Copy>(
    items: impl Iterator<Item = T>,
    count: usize,
    rng: &mut Rng,
    mut f: impl FnMut(T),
) {
    // One walk, instead of one a draw.
    let all: Vec<T> = items.collect();
    (0..count).for_each(|_| f(all[rng.index(all.len())]));
}

/// Calls `f` with `count` of the items, no item twice and every selection as likely as any other, in their order. Items
/// are `len`, at least `count` (Knuth, *The Art of Computer Programming*, 3.4.2, algorithm S).
pub fn select<T>(
    items: impl Iterator<Item = T>,
    len: usize,
    count: usize,
    mut below: impl FnMut(u64) -> u64,
    mut f: impl FnMut(T),
) {
    let mut wanted = count;
    for (left, item) in (1..=len).rev().zip(items) {
        if wanted == 0 {
            return;
        }
        if below(left as u64) < wanted as u64 {
            f(item);
            wanted -= 1;
        }
    }
}
