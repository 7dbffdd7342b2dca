//! A snapshot: the contents of all databases at one moment, made by cloning their roots.
//!
//! It can go to another thread and be walked there while the server writes on. As long as one is alive, every entry or
//! chunk that a writer replaces stays allocated for it: memory that the server uses but its data does not. That must not
//! make the server evict keys (a save would then eat the very data it saves), so it is counted apart:
//!
//! ```text
//! still held = left behind by writers (counted where they copy or replace)
//!            - let go of by savers      (counted where a walk passes what nobody else owns)
//! ```
//! Both start from zero with the first snapshot and are forgotten with the last. With several snapshots alive at once,
//! what one lets go of another may still hold, and it is not counted as let go of before the last owner goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ds::dict::{Dict, Walk};
use crate::object::Entry;

/// The account of what snapshots hold, shared by the databases and every snapshot of them.
#[derive(Clone, Default)]
pub(super) struct Held(Arc<Account>);

#[derive(Default)]
struct Account {
    snapshots: AtomicUsize,
    left_behind: AtomicUsize,
    let_go: AtomicUsize,
}

impl Held {
    /// True while a snapshot is alive.
    #[inline]
    pub(super) fn is_live(&self) -> bool {
        self.0.snapshots.load(Ordering::Relaxed) != 0
    }

    /// A writer takes its hands off an entry.
    #[inline]
    pub(super) fn left_behind(&self, entry: &Entry) {
        if self.is_live() {
            self.add(entry.left_behind());
        }
    }

    /// A writer has left so many bytes behind.
    #[inline]
    pub(super) fn add(&self, bytes: usize) {
        if bytes != 0 && self.is_live() {
            self.0.left_behind.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes that only snapshots hold, `copied` being what the tables have copied since the first of them.
    pub(super) fn bytes(&self, copied: usize) -> usize {
        if !self.is_live() {
            return 0;
        }
        let let_go = self.0.let_go.load(Ordering::Relaxed);
        let left_behind = self.0.left_behind.load(Ordering::Relaxed);
        (left_behind + copied).saturating_sub(let_go)
    }

    /// Bytes that writers have left behind since the first of the snapshots.
    pub(super) fn all_left_behind(&self) -> usize {
        self.0.left_behind.load(Ordering::Relaxed)
    }

    /// Enters a snapshot into the account; with the first it begins anew.
    fn enter(&self) -> Guard {
        if !self.is_live() {
            self.0.left_behind.store(0, Ordering::Relaxed);
            self.0.let_go.store(0, Ordering::Relaxed);
        }
        self.0.snapshots.fetch_add(1, Ordering::Relaxed);
        Guard(self.0.clone())
    }
}

/// A snapshot's entry in the account. It goes after what it vouches for.
struct Guard(Arc<Account>);

impl Guard {
    fn let_go(&self, bytes: usize) {
        if bytes != 0 {
            self.0.let_go.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

impl Clone for Guard {
    fn clone(&self) -> Guard {
        self.0.snapshots.fetch_add(1, Ordering::Relaxed);
        Guard(self.0.clone())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.snapshots.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The contents of all databases at one moment.
pub struct Snapshot {
    tables: Vec<Dict<Entry>>,
    guard: Guard,
}

impl Snapshot {
    pub(super) fn new(tables: impl Iterator<Item = Dict<Entry>>, held: &Held) -> Snapshot {
        Snapshot {
            tables: tables.collect(),
            guard: held.enter(),
        }
    }

    /// The databases' contents, in order; those of a database that was empty hold nothing.
    pub fn tables(&self) -> &[Dict<Entry>] {
        &self.tables
    }

    /// A walk over each database that is not empty, with its index. Each lets go of what it has passed.
    pub fn into_walks(self) -> impl Iterator<Item = (u32, SnapshotWalk)> {
        let guard = self.guard;
        self.tables
            .into_iter()
            .enumerate()
            .filter(|(_, table)| !table.is_empty())
            .map(move |(index, table)| {
                let walk = SnapshotWalk {
                    walk: table.into_walk(),
                    noted: 0,
                    guard: guard.clone(),
                };
                (index as u32, walk)
            })
    }
}

/// A saver's walk over one database of a snapshot.
pub struct SnapshotWalk {
    walk: Walk<Entry>,
    /// What of the walk's [`let_go`](Walk::let_go) is in the account.
    noted: usize,
    guard: Guard,
}

impl SnapshotWalk {
    /// Keys still to come.
    pub fn left(&self) -> usize {
        self.walk.left()
    }

    /// The next key.
    #[expect(
        clippy::should_implement_trait,
        reason = "it lends the entry until the next call"
    )]
    pub fn next(&mut self) -> Option<&Entry> {
        if self.walk.left() == 0 {
            // Through: the walk lets go of the last segment.
            self.walk.next();
        }
        let let_go = self.walk.let_go();
        self.guard.let_go(let_go - self.noted);
        self.noted = let_go;
        self.walk.next()
    }
}
