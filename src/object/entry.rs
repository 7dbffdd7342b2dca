//! An entry: one key of the keyspace and all that belongs to it, in one allocation.
//!
//! ```text
//! 0        4                          8
//! | count  | access bits 24 | form 8  | expiry 0, 6 or 8 | key length | key | value ...
//!
//! form     = tag (6 bits): 0-8 an integer of so many bytes, then embstr, raw, small hash, small set (listpack or
//!            intset), and one tag a kind of heap value
//!            | expiry (2 bits): none, 6 bytes, 8 bytes
//! expiry   = Unix time in milliseconds, little-endian; 6 bytes reach the year 10889, what lies beyond takes 8
//! value    = integer: two's complement, little-endian, in as few bytes as it needs (zero: none)
//!            (one of Redis's shared integers, 0 to 9999, takes one byte more than it ever needs where it is not shared)
//!          | string:  length, bytes; likewise the listpack or intset of a small container
//!          | heap:    padding to 8, pointer
//! ```
//! Lengths are LEB128. So a 16-byte key with a 16-byte value takes 42 bytes, with an expiry 48: one class of the
//! allocator either way, and one cache line and a half to answer a GET.
//!
//! An [`Entry`] is a counted pointer to that. The dict's slot is one owner, a snapshot's another. Whoever holds the only
//! one may write in place; a write to a shared entry builds a new one and leaves the old to the others. Only the access
//! bits change under other owners' eyes, so they are atomic, and a read never copies.
//!
//! Memory is asked for in the allocator's size classes. That costs nothing (it would round up itself), makes the
//! account exact, and means that any value which lands in the same class can overwrite the one before.

mod defrag;
mod shape;

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use shape::{
    ALIGN, FORM_MASK, HEAD_BYTES, Shape, TAG_EMBSTR, TAG_HASH_LISTPACK, TAG_HEAP, TAG_HEAP_HASH,
    TAG_HEAP_LIST, TAG_HEAP_SET, TAG_HEAP_STR, TAG_HEAP_STREAM, TAG_HEAP_ZSET, TAG_INT_MAX,
    TAG_RAW, TAG_SET_INTSET, TAG_SET_LISTPACK, expiry_form, int_bytes, read_int, read_varint,
    varint_bytes, write_varint,
};

use super::access::ACCESS_MAX;
use super::bigstr::BigStr;
use super::hash::HashRef;
use super::set::SetRef;
use super::string::Str;
use super::value::{
    Compact, Container, EMBSTR_MAX, Encoding, Heap, Type, Value, ValueRef, WrongType,
};
use super::{Hash, List, Set, Stream, Zset};
use crate::ds::cow::{Count, Shared};
use crate::ds::dict::{Handle, Record};
use crate::ds::intset::Ints;
use crate::ds::listpack::Pack;

/// The longest string that lies inside its key's allocation. Measured: to store a longer one costs the same either way
/// from 8 KB on, but to read it costs a copy here and none there; a shorter one is cheaper and smaller here.
pub const EMBED_MAX: usize = 4 * 1024;

const ACCESS_SHIFT: u32 = 8;

/// The integers that Redis makes once, at its start.
const SHARED_INTS: std::ops::Range<i64> = 0..10_000;
/// One byte more than any of them needs.
const UNSHARED_INT_BYTES: u8 = 3;

#[repr(C)]
struct Head {
    count: Count,
    /// Access bits and form. The form only changes in the hands of a unique owner.
    meta: AtomicU32,
}

const _: () = assert!(size_of::<Head>() == HEAD_BYTES && align_of::<Head>() <= ALIGN);

/// One key, its expiry, access bits and value. Cloning it is counting one more owner.
#[repr(transparent)]
pub struct Entry(Handle);

// SAFETY: an entry is reached from several threads through its owners only; the shared parts are atomic (count, access
// bits) or unchanged while shared (the rest), and heap values are Send and Sync themselves.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}

/// A value in the form that an entry stores.
enum Packed<'a> {
    /// In so many bytes.
    Int(i64, u8),
    /// `text`, cut to `len` bytes or continued with zeros.
    Text {
        tag: u8,
        text: &'a [u8],
        len: usize,
    },
    Heap(Heap),
}

impl<'a> Packed<'a> {
    fn new(value: Value<'a>) -> Packed<'a> {
        match value {
            Value::Int(v) => Packed::Int(v, int_bytes(v) as u8),
            Value::Bytes(text) | Value::Raw(text) if text.len() > EMBED_MAX => {
                Packed::Heap(Heap::Str(Shared::new(BigStr::copy_from(text))))
            }
            Value::Bytes(text) if text.len() <= EMBSTR_MAX => Packed::text(TAG_EMBSTR, text),
            Value::Bytes(text) | Value::Raw(text) => Packed::text(TAG_RAW, text),
            Value::Whole(text) => Packed::Heap(Heap::Str(Shared::new(BigStr::from_bytes(text)))),
            Value::Compact(Compact::HashListpack(pack)) => Packed::text(TAG_HASH_LISTPACK, pack),
            Value::Compact(Compact::SetListpack(pack)) => Packed::text(TAG_SET_LISTPACK, pack),
            Value::Compact(Compact::SetIntset(ints)) => Packed::text(TAG_SET_INTSET, ints),
            Value::Heap(heap) => Packed::Heap(heap),
        }
    }

    /// The shape of an entry with this value.
    fn shape(&self, key_len: usize, expiry_ms: Option<u64>) -> Shape {
        let (tag, text_len) = match self {
            Packed::Int(_, bytes) => (*bytes, 0),
            Packed::Text { tag, len, .. } => (*tag, *len),
            Packed::Heap(heap) => (heap_tag(heap), 0),
        };
        Shape {
            tag,
            expiry: expiry_form(expiry_ms),
            key_len,
            text_len,
        }
    }

    fn text(tag: u8, text: &'a [u8]) -> Packed<'a> {
        let len = text.len();
        Packed::Text { tag, text, len }
    }
}

/// The tag of an entry whose value is this.
fn heap_tag(heap: &Heap) -> u8 {
    match heap {
        Heap::Str(_) => TAG_HEAP_STR,
        Heap::List(_) => TAG_HEAP_LIST,
        Heap::Set(_) => TAG_HEAP_SET,
        Heap::Zset(_) => TAG_HEAP_ZSET,
        Heap::Hash(_) => TAG_HEAP_HASH,
        Heap::Stream(_) => TAG_HEAP_STREAM,
    }
}

/// What an entry's heap pointer may lead to.
///
/// # Safety
/// At the place of the value in an entry with the tag `TAG` there is a `Shared<Self>`.
pub unsafe trait Pointed: Clone {
    const TAG: u8;
}

macro_rules! pointed {
    ($($type:ty: $tag:ident),*) => {$(
        // SAFETY: so it is written (`heap_tag`, `write_value`).
        unsafe impl Pointed for $type {
            const TAG: u8 = $tag;
        }
    )*};
}

pointed!(
    BigStr: TAG_HEAP_STR,
    List: TAG_HEAP_LIST,
    Set: TAG_HEAP_SET,
    Zset: TAG_HEAP_ZSET,
    Hash: TAG_HEAP_HASH,
    Stream: TAG_HEAP_STREAM
);

/// Runs `f` with the value in stored form; a short text that came as a buffer is lent to it.
fn packed<R>(value: Value, f: impl FnOnce(Packed) -> R) -> R {
    match value {
        Value::Whole(text) if text.len() <= EMBED_MAX => f(Packed::new(Value::Bytes(&text))),
        value => f(Packed::new(value)),
    }
}

impl Entry {
    /// A new entry with one owner. `expiry_ms` is Unix time in milliseconds, `access` the 24 access bits.
    pub fn new(key: &[u8], value: Value, expiry_ms: Option<u64>, access: u32) -> Entry {
        packed(value, |value| Entry::build(key, value, expiry_ms, access))
    }

    fn build(key: &[u8], value: Packed, expiry_ms: Option<u64>, access: u32) -> Entry {
        let shape = value.shape(key.len(), expiry_ms);
        let layout = layout(shape.class());
        // SAFETY: the layout has a size above zero.
        let Some(head) = NonNull::new(unsafe { alloc(layout) }.cast::<Head>()) else {
            handle_alloc_error(layout)
        };
        let mut entry = Entry(Handle::new(head.cast()));
        // SAFETY: the allocation is ours alone and holds `shape.bytes()` bytes, aligned for Head. Every part is written
        // before anyone reads it: the head here, the rest by the three writers below.
        unsafe {
            head.write(Head {
                count: Count::new(),
                meta: AtomicU32::new(access << ACCESS_SHIFT | shape.form()),
            });
            write_varint(entry.at(shape.key_len_at()), key.len());
            ptr::copy_nonoverlapping(key.as_ptr(), entry.at(shape.key_at()), key.len());
            entry.write_expiry(expiry_ms);
            entry.write_value(shape, value);
        }
        entry
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        let at = HEAD_BYTES + self.expiry_bytes();
        // SAFETY: a length and as many bytes lie there, unchanged while the entry is borrowed.
        unsafe {
            let (len, len_bytes) = read_varint(self.at(at));
            std::slice::from_raw_parts(self.at(at + len_bytes), len)
        }
    }

    /// When the key expires, Unix time in milliseconds.
    #[inline]
    pub fn expiry_ms(&self) -> Option<u64> {
        let n = self.expiry_bytes();
        if n == 0 {
            return None;
        }
        let mut le = [0; 8];
        // SAFETY: `n` bytes, at most 8, lie behind the head.
        unsafe { ptr::copy_nonoverlapping(self.at(HEAD_BYTES), le.as_mut_ptr(), n) };
        Some(u64::from_le_bytes(le))
    }

    /// True when the key's time is over at `now_ms`. Redis counts the millisecond itself as alive.
    #[inline]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expiry_ms().is_some_and(|at| now_ms > at)
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> ValueRef<'_> {
        let at = self.value_at();
        // SAFETY: the tag says what lies there; text and heap pointer stay put while the entry is borrowed.
        unsafe {
            match self.tag() {
                n @ 0..=TAG_INT_MAX => ValueRef::Str(Str::Int(read_int(at, n as usize))),
                tag @ TAG_EMBSTR..TAG_HEAP => {
                    let (len, len_bytes) = read_varint(at);
                    embedded(tag, std::slice::from_raw_parts(at.add(len_bytes), len))
                }
                TAG_HEAP_STR => ValueRef::Str(Str::Big(&*at.cast::<Shared<BigStr>>())),
                TAG_HEAP_LIST => ValueRef::List(&*at.cast::<Shared<List>>()),
                TAG_HEAP_SET => ValueRef::Set((*at.cast::<Shared<Set>>()).view()),
                TAG_HEAP_ZSET => ValueRef::Zset(&*at.cast::<Shared<Zset>>()),
                TAG_HEAP_HASH => ValueRef::Hash((*at.cast::<Shared<Hash>>()).view()),
                TAG_HEAP_STREAM => ValueRef::Stream(&*at.cast::<Shared<Stream>>()),
                tag => unreachable!("tag {tag}"),
            }
        }
    }

    /// The value as a string, or the error for a key that holds another type.
    #[inline]
    pub fn as_str(&self) -> Result<Str<'_>, WrongType> {
        match self.value() {
            ValueRef::Str(s) => Ok(s),
            _ => Err(WrongType),
        }
    }

    /// The value as a container of this type, or the error for a key that holds another.
    #[inline]
    pub fn as_container<C: Container>(&self) -> Result<C::Ref<'_>, WrongType> {
        C::of(self.value()).ok_or(WrongType)
    }

    /// The type of the value.
    #[inline]
    pub fn type_of(&self) -> Type {
        match self.tag() {
            0..=TAG_RAW | TAG_HEAP_STR => Type::String,
            TAG_SET_LISTPACK | TAG_SET_INTSET => Type::Set,
            TAG_HASH_LISTPACK => Type::Hash,
            TAG_HEAP_LIST => Type::List,
            TAG_HEAP_SET => Type::Set,
            TAG_HEAP_ZSET => Type::Zset,
            TAG_HEAP_HASH => Type::Hash,
            TAG_HEAP_STREAM => Type::Stream,
            tag => unreachable!("tag {tag}"),
        }
    }

    /// The encoding of the value, by Redis's rules.
    pub fn encoding(&self) -> Encoding {
        match self.value() {
            ValueRef::Str(Str::Int(_)) => Encoding::Int,
            ValueRef::Str(Str::Text(_)) if self.tag() == TAG_EMBSTR => Encoding::Embstr,
            ValueRef::Str(_) => Encoding::Raw,
            ValueRef::List(it) => it.encoding(),
            ValueRef::Set(it) => it.encoding(),
            ValueRef::Zset(it) => it.encoding(),
            ValueRef::Hash(it) => it.encoding(),
            ValueRef::Stream(it) => it.encoding(),
        }
    }

    /// The 24 access bits (`access.rs`).
    #[inline]
    pub fn access(&self) -> u32 {
        self.head().meta.load(Ordering::Relaxed) >> ACCESS_SHIFT
    }

    /// Sets the access bits, whoever else owns the entry. Only the thread that serves commands does this; a snapshot
    /// sees one value or the other.
    #[inline]
    pub fn set_access(&self, access: u32) {
        debug_assert!(access <= ACCESS_MAX);
        let meta = self.head().meta.load(Ordering::Relaxed);
        let touched = access << ACCESS_SHIFT | meta & FORM_MASK;
        // A clock of seconds mostly stands where it stood: spare the cache line.
        if touched != meta {
            self.head().meta.store(touched, Ordering::Relaxed);
        }
    }

    /// True when no one else owns the entry. Only then may it be written in place, and only if the path to it
    /// (the dict's segment) is not shared either.
    #[inline]
    pub fn is_unique(&self) -> bool {
        self.head().count.is_unique()
    }

    /// Gives the entry a new value and expiry: in place where the result falls into the same size class and no one
    /// else owns the entry, else by a new allocation. Key and access bits stay.
    ///
    /// Returns the old entry if it was replaced: to be freed here, or elsewhere if its [`free_effort`](Self::free_effort) is high.
    pub fn set(&mut self, value: Value, expiry_ms: Option<u64>) -> Option<Entry> {
        packed(value, |value| {
            let value = self.overwrite(value, expiry_ms)?;
            let new = Entry::build(self.key(), value, expiry_ms, self.access());
            Some(std::mem::replace(self, new))
        })
    }

    /// As [`set`](Self::set), with the expiry as it is.
    pub fn set_value(&mut self, value: Value) -> Option<Entry> {
        self.set(value, self.expiry_ms())
    }

    /// Changes the expiry alone; `None` makes the key stay. Returns the old entry if it was replaced.
    pub fn set_expiry(&mut self, expiry_ms: Option<u64>) -> Option<Entry> {
        let old = self.shape();
        let new = Shape {
            expiry: expiry_form(expiry_ms),
            ..old
        };
        if !self.is_unique() || new.class() != old.class() {
            let new = self.with_expiry(expiry_ms);
            return Some(std::mem::replace(self, new));
        }
        let key = (
            old.key_len_at(),
            new.key_len_at(),
            old.key_at() + old.key_len - old.key_len_at(),
        );
        let value = (old.value_at(), new.value_at(), old.bytes() - old.value_at());
        // What moves towards the end goes first, or its neighbour would be written over it.
        let moves = if new.expiry > old.expiry {
            [value, key]
        } else {
            [key, value]
        };
        // SAFETY: unique, and both shapes lie within the class that was allocated.
        unsafe {
            for (from, to, bytes) in moves {
                ptr::copy(self.at(from), self.at(to), bytes);
            }
            self.set_form(new);
            self.write_expiry(expiry_ms);
        }
        None
    }

    /// A copy under another key, with the same expiry and access bits. A heap value is shared, not copied.
    pub fn with_key(&self, key: &[u8]) -> Entry {
        Entry::build(key, self.packed(), self.expiry_ms(), self.access())
    }

    /// A copy under another key as COPY makes it: a small integer is then one of its own.
    pub fn copied(&self, key: &[u8]) -> Entry {
        let packed = match self.packed() {
            Packed::Int(v, bytes) if SHARED_INTS.contains(&v) => {
                Packed::Int(v, bytes.max(UNSHARED_INT_BYTES))
            }
            packed => packed,
        };
        Entry::build(key, packed, self.expiry_ms(), self.access())
    }

    /// True of an integer that Redis would keep once for all keys. (Here it lies in its entry all the same.)
    pub fn is_shared_int(&self) -> bool {
        let shared = matches!(self.value(), ValueRef::Str(Str::Int(v)) if SHARED_INTS.contains(&v));
        shared && self.tag() < UNSHARED_INT_BYTES
    }

    /// A copy with another expiry. A heap value is shared, not copied.
    pub fn with_expiry(&self, expiry_ms: Option<u64>) -> Entry {
        Entry::build(self.key(), self.packed(), expiry_ms, self.access())
    }

    /// What the heap pointer leads to, writable: entry and value are copied first if others own them. `None` if that is not
    /// of this type. Returns with it the bytes that were left behind to those others.
    #[inline]
    pub fn heap_mut<T: Pointed>(&mut self) -> Option<(&mut T, usize)> {
        if self.tag() != T::TAG {
            return None;
        }
        let mut left_behind = if self.is_unique() { 0 } else { self.own() };
        // SAFETY: the tag says what lies there; the entry is unique, and `self` is borrowed as long as this is.
        let shared = unsafe { &mut *self.value_at().cast::<Shared<T>>() };
        if !Shared::is_unique(shared) {
            left_behind += size_of::<T>();
        }
        Some((Shared::make_mut(shared), left_behind))
    }

    /// Copies an entry that others own too. Returns the bytes that are left to them.
    #[cold]
    fn own(&mut self) -> usize {
        let left_behind = self.shape().class();
        *self = self.rebuilt(self.packed());
        left_behind
    }

    /// Makes the value an embedded `raw` string of `len` bytes (at most [`EMBED_MAX`]) and hands it out to be written.
    /// It starts with the text it had, cut or continued with zeros. Returns with it the bytes left behind to other owners.
    ///
    /// The value must be an integer or an embedded string before.
    pub(super) fn text_mut(&mut self, len: usize) -> (&mut [u8], usize) {
        debug_assert!(len <= EMBED_MAX && self.tag() < TAG_HEAP);
        let old = self.shape();
        let new = Shape {
            tag: TAG_RAW,
            text_len: len,
            ..old
        };
        let mut left_behind = 0;
        if old.is_text() && self.is_unique() && new.class() == old.class() {
            let kept = old.text_len.min(len);
            // SAFETY: unique, and both shapes lie within the class that was allocated.
            unsafe {
                let from = self.at(old.value_at());
                ptr::copy(
                    from.add(varint_bytes(old.text_len)),
                    from.add(varint_bytes(len)),
                    kept,
                );
                write_varint(from, len);
                self.set_form(new);
                ptr::write_bytes(from.add(varint_bytes(len) + kept), 0, len - kept);
            }
        } else {
            let mut digits = itoa::Buffer::new();
            let text = match self.value() {
                ValueRef::Str(Str::Int(v)) => digits.format(v).as_bytes(),
                ValueRef::Str(Str::Text(text)) => text,
                _ => unreachable!("asked of an embedded value"),
            };
            let tag = TAG_RAW;
            left_behind = self.replace(self.rebuilt(Packed::Text { tag, text, len }));
        }
        let at = self.at(new.value_at() + varint_bytes(len));
        // SAFETY: unique; `len` initialised bytes lie there.
        let text = unsafe { std::slice::from_raw_parts_mut(at, len) };
        (text, left_behind)
    }

    /// Bytes of memory of this key, heap value included, as the allocator accounts them.
    pub fn memory_bytes(&self) -> usize {
        self.shape().class() + self.heap().map_or(0, |heap| heap.memory_bytes())
    }

    /// True if both own the same allocation: then neither has changed since one was cloned from the other.
    pub fn is_same(&self, other: &Entry) -> bool {
        self.0.ptr() == other.0.ptr()
    }

    /// Of [`memory_bytes`](Self::memory_bytes), what goes when this owner goes: nothing while there are others.
    pub fn freed_by_drop(&self) -> usize {
        if !self.is_unique() {
            return 0;
        }
        self.shape().class() + self.heap().map_or(0, |heap| heap.freed_by_drop())
    }

    /// What stays allocated for others when a writer lets go of this entry. A container that another entry owns too is
    /// not counted: mostly that is this one's successor.
    pub fn left_behind(&self) -> usize {
        let own = self.shape().class();
        let unique = self.is_unique();
        let of_heap = match self.heap() {
            Some(heap) if heap.is_unique() && unique => heap.memory_bytes() - heap.freed_by_drop(),
            Some(heap) if heap.is_unique() => heap.memory_bytes(),
            Some(_) | None => 0,
        };
        of_heap + if unique { 0 } else { own }
    }

    /// How many allocations freeing this entry may touch; 1 while others own it.
    pub fn free_effort(&self) -> usize {
        if self.is_unique() {
            self.heap().map_or(1, |heap| heap.free_effort())
        } else {
            1
        }
    }

    /// About how many allocations it is made of, whoever owns them.
    pub fn pieces(&self) -> usize {
        self.heap().map_or(1, |heap| heap.pieces())
    }

    /// Writes value and expiry in place if that can be done; gives the value back if not.
    fn overwrite<'a>(&mut self, value: Packed<'a>, expiry_ms: Option<u64>) -> Option<Packed<'a>> {
        let old = self.shape();
        let new = value.shape(old.key_len, expiry_ms);
        if old.is_heap() || new.is_heap() || new.class() != old.class() || !self.is_unique() {
            return Some(value);
        }
        // SAFETY: unique, no heap pointer is lost, and both shapes lie within the class that was allocated.
        unsafe {
            if new.expiry != old.expiry {
                let (from, to) = (self.at(old.key_len_at()), self.at(new.key_len_at()));
                ptr::copy(from, to, old.value_at() - old.key_len_at());
            }
            self.set_form(new);
            self.write_expiry(expiry_ms);
            self.write_value(new, value);
        }
        None
    }

    /// A new entry with this one's key, expiry and access bits.
    fn rebuilt(&self, value: Packed) -> Entry {
        Entry::build(self.key(), value, self.expiry_ms(), self.access())
    }

    /// The value in stored form; a heap value with one more owner.
    fn packed(&self) -> Packed<'_> {
        match self.value() {
            ValueRef::Str(Str::Int(v)) => Packed::Int(v, self.tag()),
            ValueRef::Str(Str::Text(text)) => Packed::text(self.tag(), text),
            ValueRef::Hash(HashRef::Listpack(pack)) if self.tag() < TAG_HEAP => {
                Packed::text(self.tag(), pack.bytes())
            }
            ValueRef::Set(SetRef::Listpack(pack)) if self.tag() < TAG_HEAP => {
                Packed::text(self.tag(), pack.bytes())
            }
            ValueRef::Set(SetRef::Intset(ints)) if self.tag() < TAG_HEAP => {
                Packed::text(self.tag(), ints.bytes())
            }
            _ => Packed::Heap(Heap::clone(&self.heap().expect("a heap value"))),
        }
    }

    /// The heap value, as the pointer's own bits: not one more owner, hence never to be dropped here.
    fn heap(&self) -> Option<ManuallyDrop<Heap>> {
        let shape = self.shape();
        let at = self.at(shape.value_at());
        // SAFETY: the tag says what lies there; ManuallyDrop keeps the count as it is.
        let heap = unsafe {
            match shape.tag {
                0..TAG_HEAP => return None,
                TAG_HEAP_STR => Heap::Str(at.cast::<Shared<BigStr>>().read()),
                TAG_HEAP_LIST => Heap::List(at.cast::<Shared<List>>().read()),
                TAG_HEAP_SET => Heap::Set(at.cast::<Shared<Set>>().read()),
                TAG_HEAP_ZSET => Heap::Zset(at.cast::<Shared<Zset>>().read()),
                TAG_HEAP_HASH => Heap::Hash(at.cast::<Shared<Hash>>().read()),
                TAG_HEAP_STREAM => Heap::Stream(at.cast::<Shared<Stream>>().read()),
                tag => unreachable!("tag {tag}"),
            }
        };
        Some(ManuallyDrop::new(heap))
    }

    #[inline]
    fn head(&self) -> &Head {
        // SAFETY: an owner keeps the allocation alive, and what of the head changes is atomic.
        unsafe { self.0.ptr().cast().as_ref() }
    }

    #[inline]
    fn at(&self, offset: usize) -> *mut u8 {
        // SAFETY: offsets come from the entry's shape, which lies within its allocation.
        unsafe { self.0.ptr().as_ptr().add(offset) }
    }

    #[inline]
    fn form(&self) -> u32 {
        self.head().meta.load(Ordering::Relaxed) & FORM_MASK
    }

    #[inline]
    fn tag(&self) -> u8 {
        Shape::of_form(self.form()).tag
    }

    #[inline]
    fn expiry_bytes(&self) -> usize {
        Shape::of_form(self.form()).expiry_bytes()
    }

    /// Where the value begins. What [`Shape::value_at`] says too, for those who need nothing else of the shape.
    #[inline]
    fn value_at(&self) -> *mut u8 {
        let shape = Shape::of_form(self.form());
        let at = shape.key_len_at();
        // SAFETY: a length lies there.
        let (len, len_bytes) = unsafe { read_varint(self.at(at)) };
        let end = at + len_bytes + len;
        self.at(if shape.is_heap() {
            end.next_multiple_of(ALIGN)
        } else {
            end
        })
    }

    #[inline]
    fn shape(&self) -> Shape {
        let mut shape = Shape::of_form(self.form());
        // SAFETY: a length lies there; for an embedded string a second one lies behind the key.
        unsafe {
            shape.key_len = read_varint(self.at(shape.key_len_at())).0;
            if shape.is_text() {
                shape.text_len = read_varint(self.at(shape.value_at())).0;
            }
        }
        shape
    }

    /// # Safety
    /// The entry is unique, and what `shape` says is, or is about to be, what lies there.
    unsafe fn set_form(&mut self, shape: Shape) {
        let meta = self.head().meta.load(Ordering::Relaxed) & !FORM_MASK;
        self.head()
            .meta
            .store(meta | shape.form(), Ordering::Relaxed);
    }

    /// # Safety
    /// The entry is unique, and its form has room for this expiry.
    unsafe fn write_expiry(&mut self, expiry_ms: Option<u64>) {
        let le = expiry_ms.unwrap_or(0).to_le_bytes();
        // SAFETY: by the form, so many bytes belong to the expiry.
        unsafe { ptr::copy_nonoverlapping(le.as_ptr(), self.at(HEAD_BYTES), self.expiry_bytes()) };
    }

    /// # Safety
    /// The entry is unique, `shape` is its shape and that of `value`; a heap pointer that lay there is forgotten.
    unsafe fn write_value(&mut self, shape: Shape, value: Packed) {
        let at = self.at(shape.value_at());
        // SAFETY: by the shape, so many bytes belong to the value; the place of a heap pointer is aligned.
        unsafe {
            match value {
                Packed::Int(v, _) => {
                    ptr::copy_nonoverlapping(v.to_le_bytes().as_ptr(), at, shape.tag as usize);
                }
                Packed::Text { text, len, .. } => {
                    write_varint(at, len);
                    let at = at.add(varint_bytes(len));
                    let kept = text.len().min(len);
                    ptr::copy_nonoverlapping(text.as_ptr(), at, kept);
                    ptr::write_bytes(at.add(kept), 0, len - kept);
                }
                Packed::Heap(Heap::Str(it)) => at.cast::<Shared<BigStr>>().write(it),
                Packed::Heap(Heap::List(it)) => at.cast::<Shared<List>>().write(it),
                Packed::Heap(Heap::Set(it)) => at.cast::<Shared<Set>>().write(it),
                Packed::Heap(Heap::Zset(it)) => at.cast::<Shared<Zset>>().write(it),
                Packed::Heap(Heap::Hash(it)) => at.cast::<Shared<Hash>>().write(it),
                Packed::Heap(Heap::Stream(it)) => at.cast::<Shared<Stream>>().write(it),
            }
        }
    }

    fn replace(&mut self, new: Entry) -> usize {
        std::mem::replace(self, new).left_behind()
    }
}

// SAFETY: one word around a Handle; clone and drop count owners in the allocation's Count; the key's bytes are never
// written after `build`, only moved by a unique owner.
unsafe impl Record for Entry {
    #[inline]
    fn key(&self) -> &[u8] {
        Entry::key(self)
    }

    #[inline]
    fn deadline(&self) -> Option<u64> {
        self.expiry_ms()
    }

    #[inline]
    fn is_unique(&self) -> bool {
        Entry::is_unique(self)
    }

    fn freed_by_drop(&self) -> usize {
        Entry::freed_by_drop(self)
    }
}

impl Clone for Entry {
    #[inline]
    fn clone(&self) -> Entry {
        self.head().count.inc();
        Entry(self.0.duplicate())
    }
}

impl Drop for Entry {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this owner counted once and goes now.
        if unsafe { self.head().count.dec() } {
            // SAFETY: it was the last: nobody else reaches the allocation any more.
            unsafe { self.free() }
        }
    }
}

impl Entry {
    /// # Safety
    /// Called once, by the last owner.
    unsafe fn free(&mut self) {
        if let Some(heap) = self.heap() {
            drop(ManuallyDrop::into_inner(heap));
        }
        let layout = layout(self.shape().class());
        // SAFETY: allocated with this very layout: in-place writes never leave the class.
        unsafe { dealloc(self.0.ptr().as_ptr(), layout) };
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("key", &String::from_utf8_lossy(self.key()))
            .field("expiry_ms", &self.expiry_ms())
            .field("value", &self.value())
            .finish()
    }
}

/// The value whose bytes these are.
#[inline]
fn embedded(tag: u8, bytes: &[u8]) -> ValueRef<'_> {
    match tag {
        TAG_EMBSTR | TAG_RAW => ValueRef::Str(Str::Text(bytes)),
        TAG_HASH_LISTPACK => ValueRef::Hash(HashRef::Listpack(Pack::of(bytes))),
        TAG_SET_LISTPACK => ValueRef::Set(SetRef::Listpack(Pack::of(bytes))),
        TAG_SET_INTSET => ValueRef::Set(SetRef::Intset(Ints::of(bytes))),
        tag => unreachable!("tag {tag}"),
    }
}

fn layout(class: usize) -> Layout {
    Layout::from_size_align(class, ALIGN).expect("a length in memory")
}

#[cfg(test)]
mod tests {
    use super::super::hash::HashRules;
    use super::super::set::SetRules;
    use super::*;
    use crate::ds::dict::HashKey;
    use crate::ds::listpack::Elem;
    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const KEY: &[u8] = b"key:000000000016";
    const NOW: u64 = 1_700_000_000_000;

    fn text(entry: &Entry) -> Vec<u8> {
        entry.as_str().unwrap().to_vec()
    }

    #[test]
    fn sizes_are_those_of_the_design() {
        let class = |value, expiry| Entry::new(KEY, value, expiry, 0).memory_bytes();
        let sixteen = || Value::Bytes(&[7; 16]);
        assert_eq!(class(sixteen(), None), 48);
        assert_eq!(class(sixteen(), Some(NOW)), 48);
        assert_eq!(class(Value::Int((1 << 55) - 1), None), 32);
        assert_eq!(class(Value::Int(127), Some(NOW)), 32);
        let shape = Entry::new(KEY, sixteen(), None, 0).shape();
        assert_eq!(shape.bytes(), 42);
        assert_eq!(Entry::new(KEY, sixteen(), Some(NOW), 0).shape().bytes(), 48);
        assert_eq!(Entry::new(b"k", Value::Int(0), None, 0).memory_bytes(), 16);
    }

    #[test]
    fn encodings_follow_redis() {
        let of = |value| Entry::new(KEY, value, None, 0).encoding().name();
        assert_eq!(of(Value::from_text(b"12345678901234567890")), "embstr");
        assert_eq!(of(Value::from_text(b"-9223372036854775808")), "int");
        assert_eq!(of(Value::from_text(b"007")), "embstr");
        assert_eq!(of(Value::from_text(&[b'a'; 44])), "embstr");
        assert_eq!(of(Value::from_text(&[b'a'; 45])), "raw");
        assert_eq!(of(Value::Raw(b"1")), "raw");
        assert_eq!(of(Value::from_whole(Bytes::from_static(b"10"))), "int");
        assert_eq!(of(Value::from_whole(Bytes::from(vec![1; 100_000]))), "raw");
    }

    #[test]
    fn a_heap_value_is_shared_by_copies_and_freed_with_the_last() {
        let whole = Bytes::from(vec![9; EMBED_MAX + 1]);
        let mut entry = Entry::new(KEY, Value::Whole(whole.clone()), None, 0);
        let mut copy = entry.with_key(b"other").with_expiry(Some(NOW));
        assert_eq!((copy.key(), copy.expiry_ms()), (&b"other"[..], Some(NOW)));
        assert_eq!(entry.free_effort(), 1);
        let (big, left_behind) = copy.heap_mut::<BigStr>().unwrap();
        assert_eq!(left_behind, size_of::<BigStr>());
        big.write_at(0, b"x");
        assert_eq!(entry.as_str().unwrap().get(0), Some(9));
        assert_eq!(copy.as_str().unwrap().get(0), Some(b'x'));
        entry.set_expiry(Some(NOW + 1));
        assert_eq!(text(&entry), whole);
        drop(entry);
        assert!(whole.is_unique(), "the last entry that shared it is gone");
    }

    #[test]
    fn a_small_container_lies_in_its_entry() {
        let rules = HashRules {
            listpack_entries: 128,
            listpack_value: 64,
            hash_key: HashKey::new(1, 2),
        };
        let mut hash = Hash::new();
        for i in 0..10 {
            hash.set(
                format!("field:{i:02}").as_bytes(),
                b"sixteen bytes ..",
                &rules,
            );
        }
        let bytes = hash.compact().unwrap();
        let mut entry = Entry::new(b"hash:000000000001", Value::Compact(bytes), None, 7);
        assert_eq!(entry.memory_bytes(), 320, "of which 287 are the listpack's");
        let copy = entry.clone();
        entry.set_expiry(Some(NOW));
        let mut other = entry.with_key(b"other");
        for entry in [&entry, &copy, &other] {
            let hash = entry.as_container::<Hash>().unwrap();
            assert_eq!((hash.len(), entry.type_of()), (10, Type::Hash));
            assert_eq!(hash.get(b"field:07").unwrap().to_vec(), b"sixteen bytes ..");
            assert!(entry.as_str().is_err() && entry.as_container::<Set>().is_err());
        }
        let mut hash = Hash::unpacked(other.as_container::<Hash>().unwrap()).unwrap();
        for i in 10..20 {
            hash.set(
                format!("field:{i:02}").as_bytes(),
                b"sixteen bytes ..",
                &rules,
            );
        }
        assert!(hash.compact().is_none());
        other.set_value(Value::Heap(hash.into_heap()));
        assert_eq!(other.encoding(), Encoding::Listpack);
        assert_eq!(other.as_container::<Hash>().unwrap().len(), 20);
        let set_rules = SetRules {
            intset_entries: 9,
            listpack_entries: 0,
            listpack_value: 0,
            hash_key: rules.hash_key,
        };
        let mut set = Set::default();
        set.add(Elem::Int(5), &set_rules);
        other.set_value(Value::Compact(set.compact().unwrap()));
        assert_eq!(
            (other.encoding(), other.memory_bytes()),
            (Encoding::Intset, 32)
        );
        other.set_value(Value::Int(5));
        assert_eq!(other.encoding(), Encoding::Int);
    }

    #[derive(Debug, Clone)]
    enum Step {
        SetText(usize, u8),
        SetInt(i64),
        SetExpiry(Option<u64>),
        Access(u32),
        WriteAt(usize, usize, u8),
        Append(usize),
        Share,
        Unshare,
    }

    fn expiries() -> impl Strategy<Value = Option<u64>> {
        prop_oneof![
            Just(None),
            (0..1u64 << 48).prop_map(Some),
            any::<u64>().prop_map(Some)
        ]
    }

    /// Lengths on both sides of what changes the form: one-byte lengths, embstr, classes, the heap.
    fn lens() -> impl Strategy<Value = usize> {
        prop_oneof![
            4 => 0..60usize,
            2 => 100..300usize,
            1 => EMBED_MAX - 2..EMBED_MAX + 3,
        ]
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            (lens(), any::<u8>()).prop_map(|(n, b)| Step::SetText(n, b)),
            prop_oneof![any::<i64>(), -70_000..70_000i64, Just(0)].prop_map(Step::SetInt),
            expiries().prop_map(Step::SetExpiry),
            (0..=ACCESS_MAX).prop_map(Step::Access),
            (lens(), 0..20usize, any::<u8>()).prop_map(|(at, n, b)| Step::WriteAt(at, n, b)),
            (0..200usize).prop_map(Step::Append),
            Just(Step::Share),
            Just(Step::Unshare),
        ]
    }

    /// What an entry ought to hold.
    #[derive(Debug, Clone, PartialEq)]
    struct Model {
        text: Vec<u8>,
        expiry_ms: Option<u64>,
        access: u32,
        raw: bool,
    }

    fn check(entry: &Entry, key: &[u8], model: &Model) {
        assert_eq!(entry.key(), key);
        assert_eq!(entry.expiry_ms(), model.expiry_ms);
        assert_eq!(text(entry), model.text);
        assert_eq!(entry.as_str().unwrap().len(), model.text.len());
        let expected = match crate::base::number::parse_i64(&model.text) {
            _ if model.raw => Encoding::Raw,
            Some(_) => Encoding::Int,
            None if model.text.len() <= EMBSTR_MAX => Encoding::Embstr,
            None => Encoding::Raw,
        };
        assert_eq!(entry.encoding(), expected);
    }

    proptest! {
        #[test]
        fn agrees_with_a_model_while_shared_owners_keep_what_they_had(
            key in prop_oneof![vec(any::<u8>(), 0..20), vec(any::<u8>(), 120..140)],
            steps in vec(steps(), 1..30),
        ) {
            let mut entry = Entry::new(&key, Value::Bytes(b"start"), None, 5);
            let mut model = Model { text: b"start".to_vec(), expiry_ms: None, access: 5, raw: false };
            let mut others: Vec<(Entry, Model)> = Vec::new();
            for step in steps {
                match step {
                    Step::SetText(n, b) => {
                        model.text = (0..n).map(|i| b.wrapping_add(i as u8) | 0x80).collect();
                        model.raw = false;
                        entry.set_value(Value::from_text(&model.text));
                    }
                    Step::SetInt(v) => {
                        (model.text, model.raw) = (v.to_string().into_bytes(), false);
                        entry.set(Value::Int(v), model.expiry_ms);
                    }
                    Step::SetExpiry(at) => {
                        model.expiry_ms = at;
                        entry.set_expiry(at);
                    }
                    Step::Access(bits) => {
                        model.access = bits;
                        entry.set_access(bits);
                    }
                    Step::WriteAt(at, n, b) => {
                        let data = vec![b; n];
                        crate::object::string::write_at(&mut entry, at, &data);
                        if n > 0 {
                            model.text.resize(model.text.len().max(at + n), 0);
                            model.text[at..at + n].copy_from_slice(&data);
                        }
                        model.raw = true;
                    }
                    Step::Append(n) => {
                        let data = vec![b'a'; n];
                        crate::object::string::append(&mut entry, &data);
                        model.text.extend_from_slice(&data);
                        model.raw = true;
                    }
                    Step::Share => others.push((entry.clone(), model.clone())),
                    Step::Unshare => others.clear(),
                }
                check(&entry, &key, &model);
                assert_eq!(entry.access(), model.access);
            }
            for (other, was) in &others {
                check(other, &key, was);
            }
        }
    }
}
