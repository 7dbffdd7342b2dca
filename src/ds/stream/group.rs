//! Consumer groups: who reads a stream together, and what they still owe.
//!
//! A [`Group`] remembers how far it has read (`last_id`), so that each entry goes to one of its consumers only. What was
//! delivered is *pending* until it is acknowledged: a [`Nack`] in the group's list says to whom it went, when, and how
//! often. Each [`Consumer`] has a list of its own with the IDs of what it owes, so that it can ask for its history after
//! a crash, and its pending entries can be counted and dropped without a walk over the group's.
//!
//! ```text
//! Group ── pel ───────▶ (id, to whom, when, how often) (id ...) ...      by ID
//!       ── consumers ─▶ Consumer ── pel ─▶ id id id ...                   by name
//!                       Consumer ── pel ─▶ id ...
//! ```
//!
//! An ID is in the group's list if and only if it is in the list of just the consumer that the record names.
//!
//! `entries_read` counts what the group has read in all, as long as that can be known: entries deleted ahead of the group
//! make the count a guess, and then it is unknown until the group reaches a place where it is sure again (see
//! [`super::Stream::lag`]).

use super::id::StreamId;
use super::names::{Named, Names};
use super::pel::{Identified, Pel};
use crate::base::alloc::size_class;
use crate::ds::cow::Shared;
use crate::ds::defrag::Mover;

/// A name that many records share.
pub type Name = Shared<Box<[u8]>>;

/// An entry that was delivered and not acknowledged.
#[derive(Clone)]
pub struct Nack {
    pub id: StreamId,
    /// Name of the consumer that it was last delivered to.
    pub consumer: Name,
    /// When that was, Unix time in ms.
    pub delivered_ms: i64,
    /// How often it was delivered.
    pub deliveries: u64,
}

impl Identified for Nack {
    fn id(&self) -> StreamId {
        self.id
    }
}

/// One who reads as a member of a group.
#[derive(Clone)]
pub struct Consumer {
    name: Name,
    /// When it last tried something, Unix time in ms.
    pub seen_ms: i64,
    /// When it last got something; `None`: never.
    pub active_ms: Option<i64>,
    pel: Pel<StreamId>,
}

impl Named for Consumer {
    fn name(&self) -> &[u8] {
        &self.name
    }
}

impl Consumer {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// How much it owes.
    pub fn pending(&self) -> usize {
        self.pel.len()
    }

    /// The IDs it owes, from one on.
    pub fn pending_from(&self, start: StreamId) -> impl Iterator<Item = StreamId> {
        self.pel.from(start).copied()
    }
}

/// What a claim makes of a pending entry.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The time of delivery to be noted.
    pub delivered_ms: i64,
    /// The number of deliveries to be noted; `None`: as it is.
    pub deliveries: Option<u64>,
    /// The number goes up by one, where it is not given.
    pub counts: bool,
}

/// See the head of the file.
#[derive(Clone)]
pub struct Group {
    name: Name,
    /// The last entry that was delivered to anybody.
    pub last_id: StreamId,
    /// How many entries of the stream it has read; `None`: unknown.
    pub entries_read: Option<i64>,
    pel: Pel<Nack>,
    consumers: Names<Consumer>,
    left_behind: usize,
}

impl Named for Group {
    fn name(&self) -> &[u8] {
        &self.name
    }
}

impl Group {
    /// A group that has read up to `last_id`.
    pub fn new(name: &[u8], last_id: StreamId, entries_read: Option<i64>) -> Group {
        Group {
            name: Shared::new(name.into()),
            last_id,
            entries_read,
            pel: Pel::new(),
            consumers: Names::new(),
            left_behind: 0,
        }
    }

    /// Shows all its blocks to a mover.
    pub fn defrag(&mut self, mover: &mut Mover<'_>) {
        self.pel.defrag(mover);
        let mut from = Some(0);
        while let Some(at) = from {
            let pel = |consumer: &mut Consumer, mover: &mut Mover<'_>| consumer.pel.defrag(mover);
            from = self.consumers.defrag(at, mover, pel);
        }
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// How many entries are pending.
    pub fn pending(&self) -> usize {
        self.pel.len()
    }

    /// The pending entries in order, from an ID on.
    pub fn pending_from(&self, start: StreamId) -> impl Iterator<Item = &Nack> {
        self.pel.from(start)
    }

    /// The first and the last of the pending IDs.
    pub fn pending_ends(&self) -> Option<(StreamId, StreamId)> {
        Some((self.pel.first()?.id, self.pel.last()?.id))
    }

    /// The record of a pending entry.
    pub fn nack(&self, id: StreamId) -> Option<&Nack> {
        self.pel.get(id)
    }

    /// How many consumers it has.
    pub fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    /// Its consumers, by name.
    pub fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.consumers.iter()
    }

    /// The consumer of that name.
    pub fn consumer(&self, name: &[u8]) -> Option<&Consumer> {
        self.consumers.get(name)
    }

    /// The same, to note when it was seen or active.
    pub fn consumer_mut(&mut self, name: &[u8]) -> Option<&mut Consumer> {
        self.consumers.get_mut(name)
    }

    /// Adds a consumer, seen at `now_ms`; false if there is one of that name.
    pub fn add_consumer(&mut self, name: &[u8], now_ms: i64) -> bool {
        if self.consumers.get(name).is_some() {
            return false;
        }
        self.consumers.insert(Consumer {
            name: Shared::new(name.into()),
            seen_ms: now_ms,
            active_ms: None,
            pel: Pel::new(),
        })
    }

    /// Removes a consumer with all it owes, and tells how much that was.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let consumer = self.consumers.remove(name)?;
        for id in consumer.pel.from(StreamId::MIN) {
            self.pel.remove(*id);
        }
        self.note_left_behind();
        Some(consumer.pel.len())
    }

    /// Notes that entries were delivered to a consumer that is there, for the first time. One that was pending already
    /// (the group had been set back) is now this consumer's.
    pub fn deliver(&mut self, consumer: &[u8], ids: &[StreamId], now_ms: i64) {
        let Some(to) = self.consumers.get_mut(consumer) else {
            return;
        };
        let mut taken = Vec::new();
        for &id in ids {
            let nack = Nack {
                id,
                consumer: to.name.clone(),
                delivered_ms: now_ms,
                deliveries: 1,
            };
            if let Some(old) = self.pel.insert(nack) {
                taken.push(old);
            }
            to.pel.insert(id);
        }
        to.active_ms = Some(now_ms);
        self.left_behind += to.pel.take_left_behind();
        for old in taken {
            if **old.consumer != *consumer {
                self.drop_from_consumer(&old.consumer, old.id);
            }
        }
        self.note_left_behind();
    }

    /// Notes that a consumer was given an entry that it owes once more.
    pub fn deliver_again(&mut self, id: StreamId, now_ms: i64) {
        self.pel.update(id, |nack| {
            nack.delivered_ms = now_ms;
            nack.deliveries = nack.deliveries.wrapping_add(1);
        });
        self.note_left_behind();
    }

    /// An entry is no longer pending; its record, if it was.
    pub fn acknowledge(&mut self, id: StreamId) -> Option<Nack> {
        let nack = self.pel.remove(id)?;
        self.drop_from_consumer(&nack.consumer, id);
        self.note_left_behind();
        Some(nack)
    }

    /// A consumer that is there takes a pending entry over; one that is not pending becomes so. Gives the record as it
    /// is then.
    pub fn claim(
        &mut self,
        id: StreamId,
        consumer: &[u8],
        now_ms: i64,
        claim: Claim,
    ) -> Option<Nack> {
        let to = self.consumers.get_mut(consumer)?;
        to.active_ms = Some(now_ms);
        let old = self.pel.get(id);
        let before = old.map(|nack| nack.consumer.clone());
        // A record that was just made has been delivered once.
        let count = old.map_or(1, |nack| nack.deliveries);
        let nack = Nack {
            id,
            consumer: to.name.clone(),
            delivered_ms: claim.delivered_ms,
            deliveries: claim
                .deliveries
                .unwrap_or(count.wrapping_add(u64::from(claim.counts))),
        };
        self.pel.insert(nack.clone());
        let is_its = before.as_ref().is_some_and(|name| ***name == *consumer);
        if !is_its {
            to.pel.insert(id);
            self.left_behind += to.pel.take_left_behind();
            if let Some(before) = before {
                self.drop_from_consumer(&before, id);
            }
        }
        self.note_left_behind();
        Some(nack)
    }

    /// Puts a record where it was when the group was saved. False if its consumer is missing, or the ID is pending already.
    pub fn restore(&mut self, nack: Nack, consumer: &[u8]) -> bool {
        let Some(to) = self.consumers.get_mut(consumer) else {
            return false;
        };
        if self.pel.get(nack.id).is_some() {
            return false;
        }
        to.pel.insert(nack.id);
        let consumer = to.name.clone();
        self.pel.insert(Nack { consumer, ..nack });
        true
    }

    fn drop_from_consumer(&mut self, name: &[u8], id: StreamId) {
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.pel.remove(id);
            self.left_behind += consumer.pel.take_left_behind();
        }
    }

    fn note_left_behind(&mut self) {
        self.left_behind += self.pel.take_left_behind();
    }

    /// Bytes that writes since the last call have left to other owners.
    pub(super) fn take_left_behind(&mut self) -> usize {
        std::mem::take(&mut self.left_behind)
    }

    /// Bytes of memory of the group and all that belongs to it. Of many consumers only some are looked at.
    pub fn memory_bytes(&self) -> usize {
        let own = size_class(size_of::<Self>() + 8, 8) + name_bytes(&self.name) + self.pel.bytes();
        let of_consumer = |c: &Consumer| {
            size_class(size_of::<Consumer>() + 8, 8) + 8 + name_bytes(&c.name) + c.pel.bytes()
        };
        own + self.consumers.estimate(of_consumer)
    }

    /// About how many allocations freeing it touches.
    pub fn free_effort(&self) -> usize {
        self.pel.free_effort() + 3 * self.consumers.len() + 3
    }
}

fn name_bytes(name: &Name) -> usize {
    size_class(size_of::<Box<[u8]>>() + 8, 8) + size_class(name.len().max(1), 1)
}
