//! What a key may hold: types, the names of their encodings, and the forms in which a value travels.
//!
//! [`Value`] is a value on its way into an entry, [`ValueRef`] one being read. A value too large or too
//! rich to lie inside its key's allocation is a [`Heap`]: one counted pointer to a container that is itself a tree of
//! shared chunks. A type is added by a variant here, a tag in `entry.rs`, and a face like `string.rs`.
//!
//! Encoding names are what `OBJECT ENCODING` answers. They follow Redis's rules, which clients and tests know, and say
//! little about the storage: a `raw` string of 100 bytes lies inside its entry just as an `embstr` does.

use bytes::Bytes;

use super::bigstr::BigStr;
use super::entry::Pointed;
use super::hash::{Hash, HashRef};
use super::list::List;
use super::set::{Set, SetRef};
use super::stream::Stream;
use super::string::Str;
use super::table::Table;
use super::zset::Zset;
use crate::ds::cow::Shared;
use crate::ds::defrag::{Mover, Step};
use crate::ds::dict::Dict;

/// The type of a value, as `TYPE` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    String,
    List,
    Set,
    Zset,
    Hash,
    Stream,
}

impl Type {
    /// All types, in the order of their numbers in Redis.
    pub const ALL: [Type; 6] = [
        Type::String,
        Type::List,
        Type::Set,
        Type::Zset,
        Type::Hash,
        Type::Stream,
    ];

    /// The name that `TYPE` replies and `SCAN ... TYPE` takes.
    pub fn name(self) -> &'static str {
        match self {
            Type::String => "string",
            Type::List => "list",
            Type::Set => "set",
            Type::Zset => "zset",
            Type::Hash => "hash",
            Type::Stream => "stream",
        }
    }

    /// The type of that name, in any case.
    pub fn by_name(name: &[u8]) -> Option<Type> {
        Type::ALL
            .into_iter()
            .find(|t| t.name().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// The encoding of a value, as `OBJECT ENCODING` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Int,
    Embstr,
    Raw,
    Listpack,
    Quicklist,
    Intset,
    Hashtable,
    Skiplist,
    Stream,
}

impl Encoding {
    /// The name that `OBJECT ENCODING` replies.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Int => "int",
            Encoding::Embstr => "embstr",
            Encoding::Raw => "raw",
            Encoding::Listpack => "listpack",
            Encoding::Quicklist => "quicklist",
            Encoding::Intset => "intset",
            Encoding::Hashtable => "hashtable",
            Encoding::Skiplist => "skiplist",
            Encoding::Stream => "stream",
        }
    }
}

/// The longest string that is called `embstr`.
pub const EMBSTR_MAX: usize = 44;

/// The key holds another type than the command works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;

/// A value on its way into an entry.
#[derive(Debug)]
pub enum Value<'a> {
    /// A string that is an integer (`int`).
    Int(i64),
    /// A string (`embstr` or `raw` by its length); copied.
    Bytes(&'a [u8]),
    /// A small container; copied.
    Compact(Compact<'a>),
    /// A string that is `raw` whatever its length, as APPEND, SETRANGE and SETBIT leave it; copied.
    Raw(&'a [u8]),
    /// A string that has a buffer to itself; a large one is kept without a copy.
    Whole(Bytes),
    /// A container.
    Heap(Heap),
}

impl<'a> Value<'a> {
    /// The value that SET and its kin store for `text`: an integer where the text is one, in its canonical form.
    pub fn from_text(text: &'a [u8]) -> Value<'a> {
        match integer(text) {
            Some(int) => Value::Int(int),
            None => Value::Bytes(text),
        }
    }

    /// As [`from_text`](Self::from_text), for a text that has a buffer to itself.
    pub fn from_whole(text: Bytes) -> Value<'static> {
        match integer(&text) {
            Some(int) => Value::Int(int),
            None => Value::Whole(text),
        }
    }
}

/// The integer that `text` writes in canonical form, if it does.
fn integer(text: &[u8]) -> Option<i64> {
    // Most values are told apart by their length or first byte, before any digit is read.
    match text {
        [b'-' | b'0'..=b'9', ..] if text.len() <= 20 => crate::base::number::parse_i64(text),
        _ => None,
    }
}

/// A container type: what the heap pointer of a key may lead to. Each lives in a file of its own, its face.
///
/// A clone is a snapshot and costs little: what can grow is a tree of shared chunks, of which a writer copies those on its path.
pub trait Container: Pointed + Send + Sync + 'static {
    /// How it is read: a reference, or where small ones lie inside their keys' allocations, a view of either.
    type Ref<'a>: Copy;

    /// The container as a value on its way into an entry.
    fn into_heap(self) -> Heap;

    /// The container behind a value, if it is of this type.
    fn of(value: ValueRef<'_>) -> Option<Self::Ref<'_>>;

    /// The same as bytes to lie inside the key's allocation, if it is that small.
    fn compact(&self) -> Option<Compact<'_>> {
        None
    }

    /// Whether small ones lie inside their keys' allocations.
    const PACKS: bool = false;

    /// A copy of one that lies inside its key's allocation, to be changed; `None` if it does not.
    fn unpacked(_: Self::Ref<'_>) -> Option<Self> {
        None
    }

    /// True if nothing is in it: no key holds such a one for longer than a command.
    fn is_empty(&self) -> bool;

    /// The encoding, by Redis's rules.
    fn encoding(&self) -> Encoding;

    /// About how many allocations freeing it touches.
    fn free_effort(&self) -> usize;

    /// Bytes of memory of it and all it leads to, shared chunks included.
    fn memory_bytes(&self) -> usize;

    /// Of [`memory_bytes`](Self::memory_bytes), what goes when this owner goes.
    fn freed_by_drop(&self) -> usize;

    /// Shows a few hundred blocks from `step` on to a mover. Where to go on: `None` at the end.
    fn defrag(&mut self, step: Step, mover: &mut Mover<'_>) -> Option<Step>;

    /// Bytes that writes have left to other owners since this was last asked.
    fn take_left_behind(&mut self) -> usize;
}

/// A container so small that it lies inside its key's allocation: the bytes of a listpack or an intset.
///
/// That saves two pointers and two allocations a key, and a reader two misses of the cache. A writer takes a copy out,
/// changes it and puts it back, which for so few bytes costs less than the misses did.
#[derive(Clone, Copy, Debug)]
pub enum Compact<'a> {
    HashListpack(&'a [u8]),
    SetListpack(&'a [u8]),
    SetIntset(&'a [u8]),
}

/// Up to so many bytes a container is compact.
pub const COMPACT_MAX: usize = 512;

/// A value outside its key's allocation.
#[derive(Clone, Debug)]
pub enum Heap {
    /// A string longer than [`EMBED_MAX`](super::entry::EMBED_MAX).
    Str(Shared<BigStr>),
    List(Shared<List>),
    Set(Shared<Set>),
    Zset(Shared<Zset>),
    Hash(Shared<Hash>),
    Stream(Shared<Stream>),
}

/// Runs the same expression on whatever a heap pointer leads to.
macro_rules! with_each {
    ($heap:expr, $it:ident => $run:expr) => {
        match $heap {
            Heap::Str($it) => $run,
            Heap::List($it) => $run,
            Heap::Set($it) => $run,
            Heap::Zset($it) => $run,
            Heap::Hash($it) => $run,
            Heap::Stream($it) => $run,
        }
    };
}

impl Heap {
    /// The type of the value.
    pub fn type_of(&self) -> Type {
        match self {
            Heap::Str(_) => Type::String,
            Heap::List(_) => Type::List,
            Heap::Set(_) => Type::Set,
            Heap::Zset(_) => Type::Zset,
            Heap::Hash(_) => Type::Hash,
            Heap::Stream(_) => Type::Stream,
        }
    }

    /// About how many allocations freeing the value touches, when this is the last owner; 1 otherwise.
    pub fn free_effort(&self) -> usize {
        if !self.is_unique() {
            return 1;
        }
        self.pieces()
    }

    /// About how many allocations it is made of, whoever owns them.
    pub fn pieces(&self) -> usize {
        with_each!(self, it => it.free_effort())
    }

    /// Of [`memory_bytes`](Self::memory_bytes), what goes when this owner goes: nothing while there are others.
    pub fn freed_by_drop(&self) -> usize {
        if !self.is_unique() {
            return 0;
        }
        with_each!(self, it => it.freed_by_drop())
    }

    /// True if this is the only owner of the container.
    pub fn is_unique(&self) -> bool {
        with_each!(self, it => Shared::is_unique(it))
    }

    /// Bytes of memory behind the value, what it shares with others included.
    pub fn memory_bytes(&self) -> usize {
        with_each!(self, it => it.memory_bytes())
    }
}

/// A value being read.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    Str(Str<'a>),
    List(&'a List),
    Set(SetRef<'a>),
    Zset(&'a Zset),
    Hash(HashRef<'a>),
    Stream(&'a Stream),
}

impl ValueRef<'_> {
    /// True if it is large enough for [`prefetch`](Self::prefetch) to do something.
    #[inline]
    pub fn is_worth_prefetching(self) -> bool {
        match self {
            ValueRef::Set(set) => set.as_table().is_some_and(Table::is_large),
            ValueRef::Hash(hash) => hash.as_table().is_some_and(Table::is_large),
            ValueRef::Zset(zset) => zset.dict().is_some_and(Dict::is_large),
            ValueRef::Str(_) | ValueRef::List(_) | ValueRef::Stream(_) => false,
        }
    }

    /// Fetches what the lookups of elements with these hashes will read, see [`Dict::prefetch`].
    pub fn prefetch(self, hashes: &[u64]) {
        match self {
            ValueRef::Set(set) => set.as_table().map(|table| table.dict().prefetch(hashes)),
            ValueRef::Hash(hash) => hash.as_table().map(|table| table.dict().prefetch(hashes)),
            ValueRef::Zset(zset) => zset.dict().map(|dict| dict.prefetch(hashes)),
            ValueRef::Str(_) | ValueRef::List(_) | ValueRef::Stream(_) => None,
        };
    }
}
