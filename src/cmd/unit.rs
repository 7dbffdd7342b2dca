//! A unit of work: what one command, one transaction or one script changed, told to the world once.
//!
//! Commands add operations while they run; whoever opened the unit drains it. Several operations
//! go out wrapped in MULTI and EXEC, so that nobody sees half of them. Time stands still within a
//! unit: a key that is met expired is deleted, and the DEL stands in the log where it was met.

use bytes::Bytes;

use crate::cmd::args::OwnedArgs;
use crate::config::NotifyFlags;

/// One command as the log and the replicas get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Database it runs in; -1: in any (FLUSHALL, SCRIPT LOAD ...).
    pub db: i32,
    pub args: OwnedArgs,
}

/// A keyspace notification that waits for the end of its command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub class: NotifyFlags,
    pub name: &'static str,
    pub db: u32,
    pub key: Bytes,
}

/// How the running command is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Logging {
    /// As it came, if it changed something.
    #[default]
    Verbatim,
    /// As it came, changed something or not (forced by the command).
    Forced,
    /// The command has added its own operations; it is not logged itself.
    Rewritten,
}

/// The work gathered so far.
#[derive(Debug, Default)]
pub struct Unit {
    /// Operations in order.
    pub ops: Vec<Op>,
    /// Changes made by the running command (Redis's `dirty`).
    pub dirty: u64,
    /// How the running command wants to be logged.
    pub logging: Logging,
    /// The operations have nothing to do with each other and go out one by one: keys whose time was
    /// over, met by a walk (SCAN, RANDOMKEY). Holds for one [`Unit::drain`].
    pub apart: bool,
    /// Keyspace notifications to deliver after the running command.
    pub events: Vec<Event>,
    /// Keys on which somebody waits and that may now have what they wait for.
    pub ready: Vec<(u32, Bytes)>,
    /// True while a log or a replica wants the operations.
    pub wanted: bool,
    /// Units that were drained with at least one operation, for tests and INFO.
    pub drained: u64,
}

impl Unit {
    /// Adds an operation (a DEL for an expired key, the parts of a rewritten command).
    pub fn push(&mut self, db: u32, argv: &[&[u8]]) {
        self.push_sharing(db, argv, &[]);
    }

    /// The same, where some of the slices came in buffers of their own, which need not be copied.
    pub fn push_sharing(&mut self, db: u32, argv: &[&[u8]], big: &[Bytes]) {
        if self.wanted {
            let args = OwnedArgs::from_parts(argv, big);
            self.ops.push(Op {
                db: db as i32,
                args,
            });
        }
    }

    /// Adds an operation that belongs to no database.
    pub fn push_global(&mut self, argv: &[&[u8]]) {
        if self.wanted {
            self.ops.push(Op {
                db: -1,
                args: OwnedArgs::from_slices(argv),
            });
        }
    }

    /// Takes the gathered operations, wrapped in MULTI and EXEC when there are several that belong together.
    pub fn drain(&mut self) -> Vec<Op> {
        let apart = std::mem::take(&mut self.apart);
        let mut ops = std::mem::take(&mut self.ops);
        if ops.is_empty() {
            return ops;
        }
        self.drained += 1;
        if ops.len() > 1 && !apart {
            // They belong to no database, so that a SELECT stands within, before what needs it.
            let bracket = |word: &[u8]| Op {
                db: -1,
                args: OwnedArgs::from_slices(&[word]),
            };
            ops.insert(0, bracket(b"MULTI"));
            ops.push(bracket(b"EXEC"));
        }
        ops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_operations_are_wrapped_and_a_single_one_is_not() {
        let mut unit = Unit {
            wanted: true,
            ..Unit::default()
        };
        unit.push(3, &[b"DEL", b"a"]);
        assert_eq!(unit.drain().len(), 1);
        unit.push(3, &[b"DEL", b"a"]);
        unit.push(3, &[b"SET", b"b", b"1"]);
        let names: Vec<_> = unit
            .drain()
            .iter()
            .map(|o| o.args.get(0).to_vec())
            .collect();
        assert_eq!(names, [&b"MULTI"[..], b"DEL", b"SET", b"EXEC"]);
        assert!(unit.drain().is_empty());
        unit.apart = true;
        unit.push(3, &[b"DEL", b"a"]);
        unit.push(3, &[b"DEL", b"b"]);
        assert_eq!(unit.drain().len(), 2);
        assert!(!unit.apart);
    }

    #[test]
    fn nothing_is_gathered_when_nobody_wants_it() {
        let mut unit = Unit::default();
        unit.push(0, &[b"DEL", b"a"]);
        assert!(unit.ops.is_empty());
    }
}
