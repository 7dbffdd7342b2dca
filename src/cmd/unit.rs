//! A unit of work: what one command, one transaction or one script changed, told to the world once.
//!
//! Commands add operations while they run; whoever opened the unit drains it. Several operations
//! go out wrapped in MULTI and EXEC, so that nobody sees half of them. Time stands still within a
//! unit: a key that is met expired is deleted, and the DEL stands in the log where it was met.
//!
//! An operation becomes bytes at once, in a buffer that is used again and again, and stays as it is for all who get it.
//! Only the SELECT before it is each one's own: log and replicas may have come to different databases ([`Selected`]).

use bytes::Bytes;

use crate::config::NotifyFlags;
use crate::resp::command;

/// For whom an operation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    #[default]
    Everyone,
    /// Not for the log: what changes no data (PUBLISH).
    Replicas,
    /// For the log alone: what a script has said is not for replicas.
    Log,
}

/// One command as the log and the replicas get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op<'a> {
    /// Database it runs in; -1: in any (FLUSHALL, SCRIPT LOAD ...).
    pub db: i32,
    pub audience: Audience,
    /// It in RESP.
    pub bytes: &'a [u8],
}

/// Operations in order.
#[derive(Debug, Default)]
pub struct Ops {
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// They stand and fall together.
    whole: bool,
}

/// An operation, and where its bytes end.
#[derive(Clone, Copy, Debug)]
struct Place {
    db: i32,
    audience: Audience,
    end: usize,
}

/// A buffer that grew beyond this is not kept.
const KEPT_MAX: usize = 64 * 1024;

/// What stands around several operations. It belongs to no database, so that a SELECT stands within, before what
/// needs it.
const MULTI: Op<'static> = bracket(b"*1\r\n$5\r\nMULTI\r\n");
const EXEC: Op<'static> = bracket(b"*1\r\n$4\r\nEXEC\r\n");

const fn bracket(bytes: &'static [u8]) -> Op<'static> {
    Op {
        db: -1,
        audience: Audience::Everyone,
        bytes,
    }
}

impl Ops {
    /// Adds an operation.
    #[inline]
    pub fn push(&mut self, db: i32, audience: Audience, argv: &[&[u8]]) {
        command::encode(argv, &mut self.bytes);
        self.places.push(Place {
            db,
            audience,
            end: self.bytes.len(),
        });
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes of all of them, without those around them.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// All of them as they go out, with MULTI and EXEC around if they belong together.
    pub fn iter(&self) -> impl Iterator<Item = Op<'_>> {
        let around = |op| self.whole.then_some(op).into_iter();
        around(MULTI).chain(self.each()).chain(around(EXEC))
    }

    /// The operations alone.
    pub fn each(&self) -> impl Iterator<Item = Op<'_>> {
        let mut from = 0;
        self.places.iter().map(move |place| Op {
            db: place.db,
            audience: place.audience,
            bytes: &self.bytes[std::mem::replace(&mut from, place.end)..place.end],
        })
    }

    /// Operations from number `from` on are for these alone.
    pub fn narrow(&mut self, from: usize, to_log: bool, to_replicas: bool) {
        if !to_log && !to_replicas {
            let end = from
                .checked_sub(1)
                .map_or(0, |last| self.places.get(last).map_or(0, |p| p.end));
            self.bytes.truncate(end);
            self.places.truncate(from);
            return;
        }
        let audience = if to_log {
            Audience::Log
        } else {
            Audience::Replicas
        };
        for place in self.places.iter_mut().skip(from) {
            if place.audience == Audience::Everyone {
                place.audience = audience;
            }
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_MAX);
        self.places.clear();
        self.places.shrink_to(KEPT_MAX / size_of::<Place>());
        self.whole = false;
    }
}

/// The database that a stream of operations has come to. A new stream has come to none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selected(Option<i32>);

impl Selected {
    /// The database, if a SELECT has named one.
    pub fn db(self) -> Option<i32> {
        self.0
    }

    /// Appends an operation to a stream, after the SELECT that it may need.
    #[inline]
    pub fn append(&mut self, op: Op<'_>, to: &mut Vec<u8>) {
        if op.db != -1 && self.0 != Some(op.db) {
            self.0 = Some(op.db);
            let mut digits = itoa::Buffer::new();
            command::encode(&[b"SELECT", digits.format(op.db).as_bytes()], to);
        }
        to.extend_from_slice(op.bytes);
    }
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
    /// As it came, but for replicas alone.
    ReplicasOnly,
    /// The command has added its own operations; it is not logged itself.
    Rewritten,
}

/// The work gathered so far.
#[derive(Debug, Default)]
pub struct Unit {
    /// Operations in order.
    pub ops: Ops,
    /// Changes made by the running command (Redis's `dirty`).
    pub dirty: u64,
    /// How the running command wants to be logged.
    pub logging: Logging,
    /// The operations have nothing to do with each other and go out one by one: keys whose time was
    /// over, met by a walk (SCAN, RANDOMKEY). Holds for one [`Unit::take`].
    pub apart: bool,
    /// Keyspace notifications to deliver after the running command.
    pub events: Vec<Event>,
    /// Keys on which somebody waits and that may now have what they wait for.
    pub ready: Vec<(u32, Bytes)>,
    /// True while a log or a replica wants the operations.
    pub wanted: bool,
    /// True while replicas do, or may come back for them. What is for them alone is gathered only then: it would make a unit
    /// of one operation look like one of two.
    pub followed: bool,
    /// True while somebody tracks keys.
    pub tracked: bool,
    /// Keys that were changed meanwhile, in order.
    pub touched: Vec<Box<[u8]>>,
    /// Units that were drained with at least one operation, for tests and INFO.
    pub drained: u64,
}

impl Unit {
    /// Adds an operation (a DEL for an expired key, the parts of a rewritten command).
    #[inline]
    pub fn push(&mut self, db: u32, argv: &[&[u8]]) {
        if self.wanted {
            self.ops.push(db as i32, Audience::Everyone, argv);
        }
    }

    /// Notes that a key has changed, if somebody may have it cached.
    #[inline]
    pub fn note_touched(&mut self, key: &[u8]) {
        if self.tracked {
            self.touched.push(key.into());
        }
    }

    /// Adds an operation that belongs to no database.
    pub fn push_global(&mut self, audience: Audience, argv: &[&[u8]]) {
        if self.wanted && (self.followed || audience == Audience::Everyone) {
            self.ops.push(-1, audience, argv);
        }
    }

    /// Takes the gathered operations if there are any; give them back with [`Unit::recycle`].
    #[inline]
    pub fn take(&mut self) -> Option<Ops> {
        let apart = std::mem::take(&mut self.apart);
        if self.ops.is_empty() {
            return None;
        }
        self.drained += 1;
        let mut ops = std::mem::take(&mut self.ops);
        ops.whole = ops.places.len() > 1 && !apart;
        Some(ops)
    }

    /// Puts the work aside, as a script does that others are seen to in between.
    pub fn put_aside(&mut self) -> Unit {
        let fresh = Unit {
            wanted: self.wanted,
            followed: self.followed,
            drained: self.drained,
            ..Unit::default()
        };
        std::mem::replace(self, fresh)
    }

    /// Goes on with work that was put aside.
    pub fn resume(&mut self, aside: Unit) {
        let now = std::mem::replace(self, aside);
        (self.wanted, self.followed, self.drained) = (now.wanted, now.followed, now.drained);
    }

    /// The operations are told: their buffer is used again.
    #[inline]
    pub fn recycle(&mut self, mut ops: Ops) {
        ops.clear();
        self.ops = ops;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Unit {
        Unit {
            wanted: true,
            ..Unit::default()
        }
    }

    /// What a stream gets of the unit, in words.
    fn told(unit: &mut Unit, selected: &mut Selected) -> String {
        let mut bytes = Vec::new();
        if let Some(ops) = unit.take() {
            ops.iter().for_each(|op| selected.append(op, &mut bytes));
            unit.recycle(ops);
        }
        let text = String::from_utf8(bytes).unwrap();
        let words = text
            .split("\r\n")
            .filter(|w| !w.starts_with(['*', '$']) && !w.is_empty());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn several_operations_are_wrapped_and_a_single_one_is_not() {
        let (mut unit, mut selected) = (wanted(), Selected::default());
        unit.push(3, &[b"DEL", b"a"]);
        assert_eq!(told(&mut unit, &mut selected), "SELECT 3 DEL a");
        unit.push(3, &[b"DEL", b"a"]);
        unit.push(0, &[b"SET", b"b", b"1"]);
        let told_two = "MULTI DEL a SELECT 0 SET b 1 EXEC";
        assert_eq!(told(&mut unit, &mut selected), told_two);
        assert_eq!(told(&mut unit, &mut selected), "");
        unit.apart = true;
        unit.push_global(Audience::Everyone, &[b"FLUSHALL"]);
        unit.push(0, &[b"DEL", b"b"]);
        assert_eq!(told(&mut unit, &mut selected), "FLUSHALL DEL b");
        assert!(!unit.apart);
        assert_eq!((unit.drained, selected.db()), (3, Some(0)));
    }

    #[test]
    fn what_is_for_replicas_alone_makes_no_transaction_in_the_log() {
        let (mut unit, mut selected) = (wanted(), Selected::default());
        unit.push_global(Audience::Replicas, &[b"PUBLISH", b"c", b"m"]);
        unit.push(0, &[b"DEL", b"a"]);
        assert_eq!(told(&mut unit, &mut selected), "SELECT 0 DEL a");
        unit.followed = true;
        unit.push_global(Audience::Replicas, &[b"PUBLISH", b"c", b"m"]);
        unit.push(0, &[b"DEL", b"a"]);
        assert_eq!(
            told(&mut unit, &mut selected),
            "MULTI PUBLISH c m DEL a EXEC"
        );
    }

    #[test]
    fn nothing_is_gathered_when_nobody_wants_it() {
        let mut unit = Unit::default();
        unit.push(0, &[b"DEL", b"a"]);
        assert!(unit.ops.is_empty() && unit.take().is_none());
    }
}
