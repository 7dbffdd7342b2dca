//! WATCH: which sessions watch which keys, and whom a change calls off.
//!
//! A change of a key marks every session that watches it as dirty, and from then on it watches nothing: its EXEC will fail
//! whatever else happens. Expiry makes it subtle. A watched key whose time runs out fails the EXEC too, though nobody
//! touched it, so EXEC asks ([`WatchTable::any_expired`]). But a key that was over already when WATCH saw it was as good as
//! missing: that it is deleted later, by whoever meets it, changes nothing. Such a watch is marked as *expired*.

use std::collections::BTreeMap;

use super::keyspace::{Databases, Keyspace};

/// Sessions by watched keys, and watched keys by session. A session is known by its id.
#[derive(Default)]
pub struct WatchTable {
    /// By database: the sessions that watch a key.
    watchers: Vec<BTreeMap<Box<[u8]>, Vec<u64>>>,
    sessions: BTreeMap<u64, Watching>,
}

#[derive(Default)]
struct Watching {
    keys: Vec<Watched>,
    dirty: bool,
}

struct Watched {
    db: u32,
    key: Box<[u8]>,
    /// The time of the key was over when it was watched.
    expired: bool,
}

impl WatchTable {
    /// Session `id` watches `key` of database `db`; `expired` if the key is there but its time is over. Watching a key
    /// twice is watching it once, and a session that is dirty has nothing to gain by it.
    pub fn watch(&mut self, id: u64, db: u32, key: &[u8], expired: bool) {
        let session = self.sessions.entry(id).or_default();
        if session.dirty || session.keys.iter().any(|w| w.db == db && *w.key == *key) {
            return;
        }
        session.keys.push(Watched {
            db,
            key: key.into(),
            expired,
        });
        if self.watchers.len() <= db as usize {
            self.watchers.resize_with(db as usize + 1, BTreeMap::new);
        }
        let watchers = &mut self.watchers[db as usize];
        watchers.entry(key.into()).or_default().push(id);
    }

    /// Session `id` watches nothing any more, and what it watched is forgiven (UNWATCH, DISCARD, EXEC, the end of it).
    pub fn unwatch_all(&mut self, id: u64) {
        if let Some(session) = self.sessions.remove(&id) {
            self.unlink(id, session.keys);
        }
    }

    /// True if a key has changed since session `id` began to watch it.
    pub fn is_dirty(&self, id: u64) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.dirty)
    }

    /// True if the time of a key that session `id` watches ran out since.
    pub fn any_expired(&self, id: u64, dbs: &Databases, now_ms: u64) -> bool {
        self.sessions.get(&id).is_some_and(|session| {
            let mut fresh = session.keys.iter().filter(|w| !w.expired);
            fresh.any(|w| dbs.is_expired(w.db, &w.key, now_ms))
        })
    }

    /// How many keys session `id` watches.
    pub fn watched_by(&self, id: u64) -> usize {
        self.sessions
            .get(&id)
            .map_or(0, |session| session.keys.len())
    }

    /// `key` of database `db` has changed, or is deleted.
    #[inline]
    pub fn touch(&mut self, dbs: &Databases, db: u32, key: &[u8]) {
        if !self.sessions.is_empty() {
            self.touch_watched(db, key, || dbs.db(db).get(dbs.hash(key), key).is_some());
        }
    }

    /// The same for a key that is known to be deleted.
    pub fn touch_deleted(&mut self, db: u32, key: &[u8]) {
        self.touch_watched(db, key, || false);
    }

    fn touch_watched(&mut self, db: u32, key: &[u8], is_there: impl FnOnce() -> bool) {
        let watchers = self.watchers.get(db as usize).and_then(|w| w.get(key));
        let Some(watchers) = watchers.cloned() else {
            return;
        };
        let is_there = is_there();
        for id in watchers {
            match self.expired_mark(id, db, key) {
                // It was as good as missing, now it is missing: no change, but the next one counts.
                Some(expired) if *expired && !is_there => *expired = false,
                Some(expired) if *expired => {}
                _ => self.make_dirty(id),
            }
        }
    }

    /// Database `db` is about to be emptied.
    pub fn touch_flushed(&mut self, db: u32, dbs: &Databases) {
        self.touch_all(db, dbs.db(db), None, 0);
    }

    /// Two databases are about to be exchanged.
    pub fn touch_swapped(&mut self, a: u32, b: u32, dbs: &Databases, now_ms: u64) {
        self.touch_all(a, dbs.db(a), Some(dbs.db(b)), now_ms);
        self.touch_all(b, dbs.db(b), Some(dbs.db(a)), now_ms);
    }

    /// What database `db` holds (`goes`) gives way to what another one holds, or to nothing.
    fn touch_all(&mut self, db: u32, goes: &Keyspace, comes: Option<&Keyspace>, now_ms: u64) {
        let Some(watchers) = self.watchers.get(db as usize) else {
            return;
        };
        let watched: Vec<(Box<[u8]>, Vec<u64>)> = watchers
            .iter()
            .map(|(key, ids)| (key.clone(), ids.clone()))
            .collect();
        for (key, ids) in watched {
            let hash = goes.hash(&key);
            let was_there = goes.get(hash, &key).is_some();
            let comes = comes.and_then(|other| other.get(hash, &key));
            if !was_there && comes.is_none() {
                continue;
            }
            let comes_expired = comes.map(|entry| entry.is_expired(now_ms));
            for id in ids {
                match (self.expired_mark(id, db, &key), comes_expired) {
                    (Some(expired), None) if *expired => *expired = false,
                    (Some(expired), Some(true)) if *expired => {}
                    // Nothing was there, and what comes is as good as nothing.
                    (Some(expired), Some(true)) if !was_there => *expired = true,
                    _ => self.make_dirty(id),
                }
            }
        }
    }

    fn expired_mark(&mut self, id: u64, db: u32, key: &[u8]) -> Option<&mut bool> {
        let keys = &mut self.sessions.get_mut(&id)?.keys;
        let watched = keys.iter_mut().find(|w| w.db == db && *w.key == *key)?;
        Some(&mut watched.expired)
    }

    fn make_dirty(&mut self, id: u64) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.dirty = true;
            let keys = std::mem::take(&mut session.keys);
            self.unlink(id, keys);
        }
    }

    fn unlink(&mut self, id: u64, keys: Vec<Watched>) {
        for Watched { db, key, .. } in keys {
            let watchers = &mut self.watchers[db as usize];
            if let Some(ids) = watchers.get_mut(&key) {
                ids.retain(|&other| other != id);
                if ids.is_empty() {
                    watchers.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::keyspace::Expiry;
    use crate::ds::dict::HashKey;
    use crate::object::Value;

    const NOW: u64 = 1_000_000;

    struct World {
        dbs: Databases,
        table: WatchTable,
    }

    impl World {
        fn new() -> World {
            World {
                dbs: Databases::new(2, HashKey::new(1, 2)),
                table: WatchTable::default(),
            }
        }

        fn set(&mut self, db: u32, key: &[u8], expiry: Expiry) {
            let hash = self.dbs.hash(key);
            self.dbs
                .db_mut(db)
                .set(hash, key, Value::Int(1), expiry, NOW, |_| 0);
        }

        fn delete(&mut self, db: u32, key: &[u8]) {
            let hash = self.dbs.hash(key);
            self.dbs.db_mut(db).remove(hash, key);
            self.table.touch(&self.dbs, db, key);
        }

        fn watch(&mut self, id: u64, db: u32, key: &[u8]) {
            let expired = self.dbs.is_expired(db, key, NOW);
            self.table.watch(id, db, key, expired);
        }

        fn dirty(&self, id: u64) -> bool {
            self.table.is_dirty(id) || self.table.any_expired(id, &self.dbs, NOW)
        }
    }

    #[test]
    fn a_change_calls_off_its_watchers_and_no_others() {
        let mut w = World::new();
        w.watch(1, 0, b"a");
        w.watch(1, 0, b"b");
        w.watch(2, 0, b"b");
        w.watch(3, 1, b"a");
        w.table.touch(&w.dbs, 0, b"a");
        assert_eq!([1, 2, 3].map(|id| w.dirty(id)), [true, false, false]);
        assert_eq!(w.table.watched_by(1), 0);
        w.table.unwatch_all(1);
        w.table.touch(&w.dbs, 0, b"b");
        assert_eq!([1, 2, 3].map(|id| w.dirty(id)), [false, true, false]);
        w.table.unwatch_all(2);
        w.table.unwatch_all(3);
        assert!(w.table.sessions.is_empty() && w.table.watchers.iter().all(BTreeMap::is_empty));
    }

    #[test]
    fn a_key_expired_before_the_watch_may_be_deleted_but_not_set() {
        let mut w = World::new();
        w.set(0, b"old", Expiry::At(NOW - 1));
        w.set(0, b"due", Expiry::At(NOW - 1));
        w.watch(1, 0, b"old");
        w.table.watch(2, 0, b"due", false);
        assert!(!w.dirty(1), "expired before WATCH");
        assert!(w.dirty(2), "expired after WATCH");
        w.delete(0, b"old");
        assert!(!w.dirty(1));
        w.set(0, b"old", Expiry::Clear);
        w.table.touch(&w.dbs, 0, b"old");
        assert!(w.dirty(1));
    }

    #[test]
    fn a_flush_touches_what_was_there_and_a_swap_what_differs() {
        let mut w = World::new();
        w.set(0, b"here", Expiry::Clear);
        w.set(0, b"gone", Expiry::At(NOW - 1));
        w.set(1, b"comes", Expiry::Clear);
        w.set(1, b"dead", Expiry::At(NOW - 1));
        for (id, key) in [
            (1, &b"here"[..]),
            (2, b"gone"),
            (3, b"comes"),
            (4, b"dead"),
            (5, b"never"),
        ] {
            w.watch(id, 0, key);
        }
        w.table.touch_flushed(0, &w.dbs);
        drop(w.dbs.flush(0));
        assert_eq!(
            [1, 2, 3, 4, 5].map(|id| w.dirty(id)),
            [true, false, false, false, false]
        );
        w.set(0, b"here", Expiry::Clear);
        w.watch(6, 0, b"here");
        w.table.touch_swapped(0, 1, &w.dbs, NOW);
        w.dbs.swap(0, 1);
        assert_eq!(
            [2, 3, 4, 5, 6].map(|id| w.dirty(id)),
            [false, true, false, false, true]
        );
    }
}
