//! Keys that a replica gave a time to live by itself.
//!
//! A replica deletes nothing whose time is over: its master does, and says so. But of a key that was written on the replica
//! (`replica-read-only no`) the master knows nothing. The names of such keys are remembered, and looked at now and then,
//! one after another; a key that is gone, or has no time to live any more, is forgotten.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

/// Databases beyond this are not looked after, as with Redis.
const DATABASES: u32 = 64;

/// See the head of the file.
#[derive(Debug, Default)]
pub struct OwnTtls {
    /// A bit for each database in which a key of this name was given a time to live.
    keys: BTreeMap<Bytes, u64>,
    /// The last one that was looked at.
    last: Bytes,
}

impl OwnTtls {
    /// A key was given a time to live.
    pub fn note(&mut self, db: u32, key: &[u8]) {
        if db >= DATABASES {
            return;
        }
        match self.keys.get_mut(key) {
            Some(databases) => *databases |= 1 << db,
            None => {
                self.keys.insert(Bytes::copy_from_slice(key), 1 << db);
            }
        }
    }

    /// How many names are remembered (`slave_expires_tracked_keys`).
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Forgets them all: the data was replaced.
    pub fn clear(&mut self) {
        self.keys.clear();
    }

    /// Asks about the next name in each of its databases: it is remembered where `stays` says so. False if there is none.
    pub fn look_at_next(&mut self, mut stays: impl FnMut(u32, &Bytes) -> bool) -> bool {
        let after = (Bound::Excluded(&self.last[..]), Bound::Unbounded);
        let next = self.keys.range::<[u8], _>(after).next();
        let Some((name, &databases)) = next.or_else(|| self.keys.first_key_value()) else {
            return false;
        };
        let name = name.clone();
        let left = (0..DATABASES)
            .filter(|db| databases & 1 << db != 0 && stays(*db, &name))
            .fold(0, |left, db| left | 1 << db);
        match left {
            0 => drop(self.keys.remove(&name)),
            left => drop(self.keys.insert(name.clone(), left)),
        }
        self.last = name;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_looked_at_in_turn_until_it_is_gone() {
        let mut own = OwnTtls::default();
        for (db, key) in [(0, "b"), (9, "b"), (1, "a"), (0, "c"), (64, "d")] {
            own.note(db, key.as_bytes());
        }
        assert_eq!(own.len(), 3);
        let mut asked = Vec::new();
        for _ in 0..4 {
            assert!(own.look_at_next(|db, key| {
                asked.push(format!("{db}{}", String::from_utf8_lossy(key)));
                db == 9 || key == "c"
            }));
        }
        assert_eq!(asked, ["1a", "0b", "9b", "0c", "9b"]);
        assert_eq!(own.len(), 2);
        own.clear();
        assert!(own.is_empty() && !own.look_at_next(|_, _| true));
    }
}
