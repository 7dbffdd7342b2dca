//! ACL LOG: what was denied to whom, the newest first. The same thing denied again within a minute is the same entry.

use std::collections::VecDeque;

use super::request::Reason;

/// Entries that are further apart in time are not the same, in ms.
const SAME_WITHIN_MS: u64 = 60_000;
/// Only so many of the newest are looked at for the same.
const LOOKED_AT: usize = 10;

/// In what a command was denied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    TopLevel,
    Multi,
    Lua,
}

impl Context {
    /// Its name in the reply.
    pub fn name(self) -> &'static str {
        match self {
            Context::TopLevel => "toplevel",
            Context::Multi => "multi",
            Context::Lua => "lua",
        }
    }
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    pub reason: Reason,
    pub context: Context,
    /// The command, key or channel; for a login the command that tried it.
    pub object: Vec<u8>,
    pub user: Vec<u8>,
}

/// How often it happened, when, and who it was the last time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub event: Event,
    pub count: u64,
    /// Unix times in ms.
    pub created_ms: u64,
    pub updated_ms: u64,
    /// The line of CLIENT LIST.
    pub client: String,
    /// Numbers entries from the start of the server on.
    pub id: u64,
}

/// See the head of the file.
#[derive(Default, Debug)]
pub struct Log {
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl Log {
    /// Notes an event. No more than `most` entries are kept.
    pub fn add(&mut self, event: Event, client: String, now_ms: u64, most: usize) {
        let same = |entry: &Entry| {
            entry.event == event && entry.updated_ms.abs_diff(now_ms) <= SAME_WITHIN_MS
        };
        let known = self.entries.iter().take(LOOKED_AT).position(same);
        if let Some(mut entry) = known.and_then(|at| self.entries.remove(at)) {
            entry.count += 1;
            entry.client = client;
            entry.updated_ms = now_ms;
            self.entries.push_front(entry);
            return;
        }
        self.entries.push_front(Entry {
            event,
            count: 1,
            created_ms: now_ms,
            updated_ms: now_ms,
            client,
            id: self.next_id,
        });
        self.next_id += 1;
        self.entries.truncate(most);
    }

    /// The newest `count` entries.
    pub fn newest(&self, count: usize) -> impl ExactSizeIterator<Item = &Entry> {
        let count = count.min(self.entries.len());
        self.entries.range(..count)
    }

    /// Forgets all entries; numbers go on.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}
