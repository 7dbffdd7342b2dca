//! Deadlines: when is the next one, and which are over.
//!
//! A tree ordered by (deadline, order of arrival): the first is found, added and cancelled in
//! logarithmic time, and those of the same millisecond come in the order in which they were added.
//! Pure: the clock is read by the caller. Milliseconds, of whichever clock the caller keeps to.

use std::collections::BTreeMap;

/// Names a deadline of one [`Timers`]; never reused there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId {
    deadline_ms: u64,
    seq: u64,
}

impl TimerId {
    /// When it is due.
    pub fn deadline_ms(self) -> u64 {
        self.deadline_ms
    }
}

/// A set of deadlines, each with the value that says what it is for.
#[derive(Debug, Clone)]
pub struct Timers<T> {
    due: BTreeMap<TimerId, T>,
    next_seq: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Timers<T> {
        Timers {
            due: BTreeMap::new(),
            next_seq: 0,
        }
    }
}

impl<T> Timers<T> {
    /// None yet.
    pub fn new() -> Timers<T> {
        Timers::default()
    }

    /// Adds a deadline; the id is what cancels it.
    pub fn add(&mut self, deadline_ms: u64, what: T) -> TimerId {
        let id = TimerId {
            deadline_ms,
            seq: self.next_seq,
        };
        self.next_seq += 1;
        self.due.insert(id, what);
        id
    }

    /// Takes a deadline back; `None` if it is over or cancelled already.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        self.due.remove(&id)
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<u64> {
        self.due.first_key_value().map(|(id, _)| id.deadline_ms)
    }

    /// Takes the earliest deadline that is not after `now_ms`. Call it until it says `None`.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<T> {
        let first = self.due.first_entry()?;
        (first.key().deadline_ms <= now_ms).then(|| first.remove())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn due_in_order_of_deadline_then_arrival() {
        let mut t = Timers::new();
        let a = t.add(20, "a");
        t.add(10, "b");
        t.add(20, "c");
        t.add(20, "d");
        assert_eq!(t.next_deadline(), Some(10));
        assert_eq!(t.pop_due(9), None);
        assert_eq!(t.pop_due(19), Some("b"));
        assert_eq!(t.pop_due(19), None);
        assert_eq!(t.cancel(a), Some("a"));
        assert_eq!(t.cancel(a), None);
        assert_eq!(t.next_deadline(), Some(20));
        assert_eq!(
            (t.pop_due(99), t.pop_due(99), t.pop_due(99)),
            (Some("c"), Some("d"), None)
        );
        assert!(t.is_empty());
    }

    proptest! {
        /// Against a plain list: `(deadline, cancel it?, advance the clock by)`.
        #[test]
        fn same_as_a_list(ops in prop::collection::vec((0u64..50, any::<bool>(), 0u64..5), 1..200)) {
            let (mut t, mut model, mut now) = (Timers::new(), Vec::<(u64, usize)>::new(), 0);
            for (i, (delay, cancel, step)) in ops.into_iter().enumerate() {
                let id = t.add(now + delay, i);
                if cancel {
                    prop_assert_eq!(t.cancel(id), Some(i));
                } else {
                    model.push((now + delay, i));
                }
                now += step;
                model.sort();
                while let Some(&first) = model.first().filter(|f| f.0 <= now) {
                    prop_assert_eq!(t.pop_due(now), Some(first.1));
                    model.remove(0);
                }
                prop_assert_eq!(t.pop_due(now), None);
                prop_assert_eq!(t.next_deadline(), model.first().map(|f| f.0));
                prop_assert_eq!(t.len(), model.len());
            }
        }
    }
}
