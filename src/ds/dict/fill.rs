//! Filling: many records in a row, as a file brings them.
//!
//! A record that is put in by itself waits for memory twice, for its group's tags and for its slot; and a table that
//! grows until it is large has moved each record some ten times. So records are gathered, a batch of them is fetched for
//! before the first goes in, and room for all that are to come is made at once.
//!
//! How many are to come is what the file claims. It is believed when a sixteenth of them has come: whatever is claimed,
//! the table is never more than so many times too large, and [`Filling::finish`] takes back what was not needed.

use super::Dict;
use super::record::Record;
use super::tree::Top;
use std::mem;

/// Records that go in together: about what a processor can fetch at a time, twice.
const BATCH: usize = 32;
/// A claim is believed when one in so many has come.
const FAITH: usize = 16;

/// Records on their way into a dict, which must be the same from the first to the last.
pub struct Filling<R> {
    batch: Vec<(u64, R)>,
    /// Records whose keys the dict had already.
    twins: Vec<(u64, R)>,
    /// How many the dict is to have, it is said; 0 once there is room for them.
    expected: usize,
    /// What room was made for.
    room: usize,
}

impl<R: Record> Filling<R> {
    /// Of a dict that will have about so many records.
    pub fn new(expected: usize) -> Filling<R> {
        Filling {
            batch: Vec::new(),
            twins: Vec::new(),
            expected,
            room: 0,
        }
    }

    /// Puts a record in, now or with some that follow.
    #[inline]
    pub fn push(&mut self, dict: &mut Dict<R>, record: R) {
        let hash = dict.hash(record.key());
        self.batch.push((hash, record));
        if self.batch.len() == BATCH {
            self.flush(dict);
        }
    }

    /// Puts in what was gathered.
    pub fn flush(&mut self, dict: &mut Dict<R>) {
        let wanted = mem::take(&mut self.expected);
        // Where slots come first, nobody knows how the records will be spread.
        if wanted > dict.len() && !dict.key.is_by_slot() {
            match wanted / FAITH <= dict.len() {
                true if !dict.is_empty() => {
                    dict.rebuild(wanted);
                    self.room = wanted;
                }
                _ => self.expected = wanted,
            }
        }
        dict.prefetch_for_adding(&self.batch);
        for (hash, record) in self.batch.drain(..) {
            match dict.entry(hash, record.key()) {
                super::Entry::Vacant(place) => drop(place.insert(record)),
                super::Entry::Occupied(_) => self.twins.push((hash, record)),
            }
        }
    }

    /// Takes the records, with their hashes, that were not put in because their keys have one.
    pub fn take_twins(&mut self) -> Vec<(u64, R)> {
        mem::take(&mut self.twins)
    }

    /// Puts in what was gathered, and makes the dict smaller if much fewer came than were announced. Gives what
    /// [`take_twins`](Self::take_twins) does.
    pub fn finish(mut self, dict: &mut Dict<R>) -> Vec<(u64, R)> {
        self.flush(dict);
        if dict.len() < self.room / 2 {
            dict.rebuild(dict.len());
        }
        self.twins
    }
}

impl<R: Record> Dict<R> {
    /// Builds the table anew, with room for so many records.
    fn rebuild(&mut self, room: usize) {
        let mut new = Dict {
            top: Top::with_room(room),
            ..Dict::new(self.key)
        };
        for record in &*self {
            let hash = self.hash(record.key());
            new.add(hash, record.clone());
        }
        *self = new;
    }

    /// Fetches what it takes to add these, for all at once: their tags, then the slots where they will go.
    fn prefetch_for_adding(&self, batch: &[(u64, R)]) {
        if self.is_large() {
            batch.iter().for_each(|&(hash, _)| self.prefetch_tags(hash));
            for &(hash, _) in batch {
                if let Some(seg) = self.top.locate(hash) {
                    seg.prefetch_free(hash);
                }
            }
        }
    }
}
