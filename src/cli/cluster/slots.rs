//! A set of hash slots as people write them: by numbers that may be none, and in ranges.

use std::fmt;

use crate::base::slot::Slot;
use crate::cluster::slotset::SlotSet;

pub use crate::base::slot::SLOTS;

/// See the head of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots(SlotSet);

impl Slots {
    /// None of them.
    pub fn none() -> Slots {
        Slots::default()
    }

    /// Whether it is one of them; a number that is no slot never is.
    pub fn has(&self, slot: usize) -> bool {
        Slot::new(slot as u64).is_some_and(|slot| self.0.has(slot))
    }

    /// Adds a slot, or takes it out. What is no slot changes nothing.
    pub fn put(&mut self, slot: usize, yes: bool) {
        if let Some(slot) = Slot::new(slot as u64) {
            match yes {
                true => self.0.insert(slot),
                false => self.0.remove(slot),
            };
        }
    }

    /// Takes the slots of another in.
    pub fn add_all(&mut self, other: &Slots) {
        other.iter().for_each(|slot| self.put(slot, true));
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().map(Slot::index)
    }
}

impl FromIterator<usize> for Slots {
    fn from_iter<I: IntoIterator<Item = usize>>(slots: I) -> Slots {
        let mut set = Slots::none();
        slots.into_iter().for_each(|slot| set.put(slot, true));
        set
    }
}

impl fmt::Display for Slots {
    /// As ranges: `[0-5460],[5462]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (first, last) in self.0.ranges() {
            match first == last {
                true => write!(f, "{comma}[{first}]")?,
                false => write!(f, "{comma}[{first}-{last}]")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_written_as_ranges() {
        let slots: Slots = [0, 1, 2, 7, 16382, 16383, 16384].into_iter().collect();
        assert_eq!(slots.to_string(), "[0-2],[7],[16382-16383]");
        assert_eq!(
            (slots.len(), slots.has(7), slots.has(99999)),
            (6, true, false)
        );
        assert_eq!(Slots::none().to_string(), "");
    }
}
