//! Pending entries: what a group has delivered and nobody has acknowledged, by ID.
//!
//! A list of millions is as likely as one of three, and a snapshot must not copy it: so it is a
//! [`Tree`](crate::ds::tree) whose leaves are runs of up to 128 records in order. Reading from a group adds at the
//! end, where runs fill up and stay full; acknowledging takes out anywhere, and a run that has become sparse is
//! poured into its neighbour.

use super::id::StreamId;
use crate::base::alloc::size_class;
use crate::ds::defrag::Mover;
use crate::ds::tree::{Beside, Leaf, Place, Tree};

/// Records of a full run.
const RUN_MAX: usize = 128;
/// A run with fewer is joined with a neighbour if both fill half a run at most.
const SPARSE: usize = RUN_MAX / 8;

/// A record that has an ID.
pub trait Identified: Clone {
    fn id(&self) -> StreamId;
}

impl Identified for StreamId {
    fn id(&self) -> StreamId {
        *self
    }
}

#[derive(Clone, Debug)]
struct Run<T>(Vec<T>);

impl<T: Identified> Run<T> {
    fn position(&self, id: StreamId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, T::id)
    }

    /// Room for one more, so that small runs are tight and none grows beyond its limit.
    fn reserve_one(&mut self) {
        if self.0.len() == self.0.capacity() {
            let more = self.0.len().max(2).min(RUN_MAX - self.0.len());
            self.0.reserve_exact(more);
        }
    }
}

impl<T: Identified> Leaf for Run<T> {
    type Key = StreamId;

    fn first_key(&self) -> StreamId {
        self.0[0].id()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn heap_bytes(&self) -> usize {
        size_class(self.0.capacity() * size_of::<T>(), 8) + size_class(size_of::<Self>() + 8, 8)
    }

    fn defrag(&mut self, mover: &mut Mover<'_>) {
        mover.vec(&mut self.0);
    }
}

/// See the head of the file.
#[derive(Clone)]
pub struct Pel<T: Identified>(Tree<Run<T>>);

impl<T: Identified> Pel<T> {
    /// An empty list.
    pub fn new() -> Self {
        Pel(Tree::new())
    }

    /// Shows all its blocks to a mover.
    pub fn defrag(&mut self, mover: &mut Mover<'_>) {
        let mut from = Some(0);
        while let Some(at) = from {
            from = self.0.defrag(at, mover);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The record with that ID.
    pub fn get(&self, id: StreamId) -> Option<&T> {
        let place = self.place_of(id)?;
        let run = self.0.leaf(&place)?;
        Some(&run.0[run.position(id).ok()?])
    }

    /// The run in which the ID is, if it is anywhere.
    fn place_of(&self, id: StreamId) -> Option<Place> {
        self.0.find_key(|key| *key <= id)
    }

    /// Changes the record with that ID; `None` if there is none. The ID stays.
    pub fn update<R>(&mut self, id: StreamId, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        let place = self.place_of(id)?;
        let at = self.0.leaf(&place)?.position(id).ok()?;
        Some(self.0.edit(&place, |run| f(&mut run.0[at])))
    }

    /// Adds a record, or replaces the one with the same ID, which it gives.
    pub fn insert(&mut self, record: T) -> Option<T> {
        let Some(place) = self.place_of(record.id()) else {
            let mut run = Vec::with_capacity(2);
            run.push(record);
            self.0.push_back(Run(run));
            return None;
        };
        self.0
            .edit_split(&place, |run| match run.position(record.id()) {
                Ok(at) => (
                    Some(std::mem::replace(&mut run.0[at], record)),
                    Beside::Nothing,
                ),
                Err(at) => (None, insert_at(run, at, record)),
            })
    }

    /// Takes out the record with that ID.
    pub fn remove(&mut self, id: StreamId) -> Option<T> {
        let place = self.place_of(id)?;
        let run = self.0.leaf(&place)?;
        let at = run.position(id).ok()?;
        let left = run.0.len() - 1;
        let removed = self.0.edit(&place, |run| {
            let removed = run.0.remove(at);
            if run.0.len() * 4 < run.0.capacity() {
                run.0.shrink_to(run.0.len() * 2);
            }
            removed
        });
        if (1..SPARSE).contains(&left) {
            self.join(&place);
        }
        Some(removed)
    }

    /// Pours a sparse run into the next one, or the next one into it.
    fn join(&mut self, place: &Place) {
        let next = self.0.next_place(place);
        let (front, back) = match (next, self.0.prev_place(place)) {
            (Some(next), _) => (*place, next),
            (None, Some(before)) => (before, *place),
            (None, None) => return,
        };
        let len = |place| self.0.leaf(place).map_or(0, Leaf::len);
        if len(&front) + len(&back) > RUN_MAX / 2 {
            return;
        }
        if let Some(run) = self.0.leaf(&back).cloned() {
            self.0.remove_leaf(&back);
            self.0.edit(&front, |front| front.0.extend(run.0));
        }
    }

    /// The records from an ID on, in order.
    pub fn from(&self, start: StreamId) -> impl Iterator<Item = &T> {
        let mut cursor = self.place_of(start).and_then(|place| self.0.cursor(&place));
        let mut run = cursor.as_ref().map_or(&[][..], |c| &c.leaf().0[..]);
        run = &run[run.partition_point(|r| r.id() < start)..];
        std::iter::from_fn(move || {
            if run.is_empty() {
                run = &cursor.as_mut()?.forward()?.0;
            }
            let (first, rest) = run.split_first()?;
            run = rest;
            Some(first)
        })
    }

    /// The first record.
    pub fn first(&self) -> Option<&T> {
        self.0.first()?.0.first()
    }

    /// The last record.
    pub fn last(&self) -> Option<&T> {
        self.0.last()?.0.last()
    }

    /// Bytes of memory behind it.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// How many allocations freeing it touches, about.
    pub fn free_effort(&self) -> usize {
        self.0.leaf_count() * 2
    }

    /// Bytes that writes since the last call have left to other owners.
    pub fn take_left_behind(&mut self) -> usize {
        self.0.take_left_behind()
    }
}

/// Puts a record into a run; a full one is split. At the end a full run stays full, since more comes behind.
fn insert_at<T: Identified>(run: &mut Run<T>, at: usize, record: T) -> Beside<Run<T>> {
    let len = run.0.len();
    if len < RUN_MAX {
        run.reserve_one();
        run.0.insert(at, record);
        return Beside::Nothing;
    }
    let mut tail = Run(Vec::with_capacity(RUN_MAX / 2));
    if at < len {
        tail.0.extend(run.0.drain(RUN_MAX / 2..));
    }
    run.0.shrink_to_fit();
    match at.checked_sub(run.0.len()) {
        Some(at) => tail.0.insert(at, record),
        None => {
            run.reserve_one();
            run.0.insert(at, record);
        }
    }
    Beside::After(tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
        #[test]
        fn a_list_is_as_a_sorted_set(
            ops in prop::collection::vec((0u64..5, 0u64..700), 0..3000)
        ) {
            let (mut pel, mut model) = (Pel::new(), BTreeSet::new());
            let mut kept = Vec::new();
            for (i, (op, n)) in ops.into_iter().enumerate() {
                let id = StreamId::new(n / 7, n % 7);
                match op {
                    0..=2 => prop_assert_eq!(pel.insert(id).is_some(), !model.insert(id)),
                    3 => prop_assert_eq!(pel.remove(id).is_some(), model.remove(&id)),
                    _ => {
                        let ours: Vec<_> = pel.from(id).copied().collect();
                        prop_assert_eq!(ours, model.range(id..).copied().collect::<Vec<_>>());
                    }
                }
                prop_assert_eq!(pel.get(id).is_some(), model.contains(&id));
                if i % 500 == 250 {
                    kept.push((pel.clone(), model.clone()));
                }
            }
            kept.push((pel, model));
            for (pel, model) in kept {
                prop_assert_eq!(pel.len(), model.len());
                prop_assert_eq!(pel.first(), model.first());
                prop_assert_eq!(pel.last(), model.last());
                prop_assert!(pel.from(StreamId::MIN).eq(model.iter()));
            }
        }
    }
}
