//! Defragmentation of the databases: a walk over all keys, in steps that each cost a fraction of a millisecond.

use super::keyspace::Databases;
use crate::ds::defrag::{Mover, Step};

/// After so many blocks a step leaves values for those to come.
const STEP_BLOCKS: u64 = 1024;

/// A walk over all databases: where its next step begins.
#[derive(Debug, Default)]
pub struct Walk {
    db: u32,
    /// In the database's table, in hash order.
    position: u64,
    /// The table is done.
    is_through: bool,
    /// Keys that the walk has come by and whose values it has left for later, and where to go on with each.
    later: Vec<(Vec<u8>, Step)>,
}

/// How many keys a walk has found parts of to move, and how many it has left as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyCounts {
    pub hits: u64,
    pub misses: u64,
}

impl Walk {
    /// Shows the parts of some hundred keys, or some hundred parts of one, to a mover. A value of no more than `parts_max`
    /// parts is seen at once. False at the end of the last database: then it begins anew.
    pub fn step(
        &mut self,
        dbs: &mut Databases,
        parts_max: usize,
        mover: &mut Mover<'_>,
        keys: &mut KeyCounts,
    ) -> bool {
        if let Some((key, step)) = self.later.last_mut() {
            let hash = dbs.hash(key);
            let entry = dbs.db_mut(self.db).entry_sole(hash, key);
            match entry.and_then(|entry| entry.defrag_value(*step, mover)) {
                Some(next) => *step = next,
                None => drop(self.later.pop()),
            }
            return true;
        }
        if self.is_through {
            *self = Walk {
                db: self.db + 1,
                ..Walk::default()
            };
            if self.db as usize >= dbs.count() {
                *self = Walk::default();
                return false;
            }
        }
        let later = &mut self.later;
        let enough = mover.seen() + STEP_BLOCKS;
        let next = dbs
            .db_mut(self.db)
            .defrag(self.position, mover, |entry, mover| {
                let hits = mover.hits;
                entry.defrag(mover);
                let mut rest = entry.is_heap().then(Step::default);
                if rest.is_some() && (mover.seen() > enough || entry.free_effort() > parts_max) {
                    later.extend(rest.take().map(|step| (entry.key().to_vec(), step)));
                }
                while let Some(step) = rest {
                    rest = entry.defrag_value(step, mover);
                }
                match mover.hits == hits {
                    true => keys.misses += 1,
                    false => keys.hits += 1,
                }
            });
        self.is_through = next.is_none();
        self.position = next.unwrap_or(0);
        true
    }
}
