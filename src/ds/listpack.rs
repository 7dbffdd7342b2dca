//! Listpack: a list of strings and integers in one run of bytes, read from either end.
//!
//! Small collections are stored this way, and big lists and streams are made of such runs. The bytes are Redis's own,
//! since RDB files and DUMP payloads carry them as they are:
//!
//! ```text
//! 0             4          6                                      total - 1
//! | total bytes | elements | entry | entry | ...                | 0xFF |
//!   u32 LE        u16 LE     (0xFFFF elements: too many for the field, count them)
//!
//! entry = | encoding | data | backlen |
//!
//! 0vvvvvvv                      integer 0..=127
//! 10llllll data                 string of up to 63 bytes
//! 110vvvvv vvvvvvvv             integer of 13 bits, big-endian
//! 1110llll llllllll data        string of up to 4095 bytes
//! 11110000 4 bytes LE  data     string of any length
//! 11110001 2 bytes LE           integer of 16 bits; likewise
//! 11110010 3 bytes, 11110011 4 bytes, 11110100 8 bytes
//! 11111111                      the end
//! ```
//!
//! `backlen` is the length of encoding and data, so that the entry can be found from behind: 7 bits a byte, the most
//! significant first, and every byte but the first with its high bit set. Reading backwards, one goes on while that bit
//! is set. A string that writes an integer in canonical form is stored as that integer, so the same text always has the
//! same bytes.
//!
//! # In memory
//! A [`Listpack`] is one word: a pointer in the low 48 bits, and above it the size of a *gap* that lies before the
//! bytes. A list that is pushed at its head would move all its bytes for each element; here the gap takes it, and an
//! element taken from the head leaves its room to the gap. A change in the middle moves whichever side is shorter.
//!
//! ```text
//! allocation: | gap | listpack bytes | room to the end of the size class |
//! ```
//!
//! One invariant says where the allocation ends: its size is the allocator's class of `gap + total`. Whatever breaks
//! that moves the bytes to an allocation of the right class.
//!
//! # Trust
//! Bytes from outside enter by [`Listpack::from_bytes`]. A shallow check looks at header and end only, a deep one at
//! every entry. What was checked shallowly may still lie in its entries: no function here reads or writes outside the
//! bytes for that, an iteration just ends early.

mod entry;
#[cfg(test)]
mod tests;

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::{self, NonNull};

use smallvec::SmallVec;

use crate::base::alloc::size_class;
use crate::ds::defrag::Mover;
pub use entry::{Elem, Needle};
use entry::{Encoded, Short};

/// Bytes before the first entry.
const HEADER_BYTES: usize = 6;
/// The end marker.
const END: u8 = 0xFF;
/// In the header: more elements than the field can tell.
const COUNT_UNKNOWN: u16 = u16::MAX;
/// No listpack grows beyond this; the total must fit 32 bits with room to spare.
pub const TOTAL_MAX: usize = 1 << 30;
/// The largest gap: 16 bits.
const GAP_MAX: usize = u16::MAX as usize;
/// The low 48 bits: the pointer proper.
const POINTER: usize = (1 << 48) - 1;

/// The place of an entry: bytes from the start. Any change of the listpack before that place makes it stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos(u32);

/// The bytes are not a listpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// See the head of the file.
pub struct Listpack(NonNull<u8>);

// SAFETY: it owns its bytes alone; they change only through `&mut`.
unsafe impl Send for Listpack {}
// SAFETY: as above.
unsafe impl Sync for Listpack {}

impl Listpack {
    /// The bytes of one without elements.
    pub const EMPTY_BYTES: usize = HEADER_BYTES + 1;

    /// An empty one.
    pub fn new() -> Listpack {
        Listpack::with_gap(0)
    }

    /// An empty one that will be filled from behind, up to about so many bytes: it has the room at once.
    pub fn with_gap(bytes: usize) -> Listpack {
        let gap = bytes.saturating_sub(Listpack::EMPTY_BYTES).min(GAP_MAX);
        let block = allocate(size_class(gap + Listpack::EMPTY_BYTES, 1));
        let lp = Listpack::join(block, gap);
        // SAFETY: the block holds gap and bytes.
        unsafe {
            let empty = [Listpack::EMPTY_BYTES as u8, 0, 0, 0, 0, 0, END];
            lp.start()
                .cast::<[u8; Listpack::EMPTY_BYTES]>()
                .write(empty);
        }
        lp
    }

    /// Takes bytes from outside. A shallow check looks at the header and the end, a `deep` one at every entry.
    pub fn from_bytes(bytes: &[u8], deep: bool) -> Result<Listpack, Corrupt> {
        entry::check(bytes, deep).map(|()| Listpack::copy_of(bytes))
    }

    /// What stands before and behind a text of this length in a listpack of which it is the only element; `None` for one
    /// that is so short that it might be an integer.
    pub fn frame(text_len: usize) -> Option<([u8; HEADER_BYTES + 5], SmallVec<[u8; 6]>)> {
        if text_len <= 4095 {
            return None;
        }
        let len = u32::try_from(text_len).ok()?;
        let backlen = entry::backlen(5 + text_len);
        let total = u32::try_from(HEADER_BYTES + 5 + text_len + backlen.len() + 1).ok()?;
        let mut head = [0; HEADER_BYTES + 5];
        head[..4].copy_from_slice(&total.to_le_bytes());
        head[4] = 1;
        head[6] = entry::LONG_STRING;
        head[7..].copy_from_slice(&len.to_le_bytes());
        let mut tail: SmallVec<[u8; 6]> = backlen.collect();
        tail.push(END);
        Some((head, tail))
    }

    /// A copy of a listpack.
    pub fn from_pack(pack: Pack<'_>) -> Listpack {
        Listpack::copy_of(pack.bytes)
    }

    /// `bytes` are those of a listpack.
    fn copy_of(bytes: &[u8]) -> Listpack {
        let block = allocate(size_class(bytes.len(), 1));
        // SAFETY: the block is new and holds as many bytes.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), block.as_ptr(), bytes.len()) };
        Listpack::join(block, 0)
    }

    fn join(block: NonNull<u8>, gap: usize) -> Listpack {
        Listpack(Listpack::tagged(block, gap))
    }

    fn tagged(block: NonNull<u8>, gap: usize) -> NonNull<u8> {
        debug_assert!(gap <= GAP_MAX);
        let tagged = block.as_ptr().map_addr(|a| {
            assert!(a & !POINTER == 0, "an address beyond 48 bits");
            a | gap << 48
        });
        // SAFETY: bits were added to a pointer that is not null.
        unsafe { NonNull::new_unchecked(tagged) }
    }

    #[inline(always)]
    fn gap(&self) -> usize {
        self.0.addr().get() >> 48
    }

    #[inline(always)]
    fn block(&self) -> *mut u8 {
        self.0.as_ptr().map_addr(|a| a & POINTER)
    }

    /// The first of the listpack's bytes.
    #[inline(always)]
    fn start(&self) -> *mut u8 {
        // SAFETY: the gap is part of the allocation.
        unsafe { self.block().add(self.gap()) }
    }

    /// Shows its block to a mover.
    pub fn defrag(&mut self, mover: &mut Mover<'_>) {
        let (gap, layout) = (self.gap(), layout(self.memory_bytes()));
        // SAFETY: the block is this one's alone, and was allocated with the class of gap and total.
        unsafe {
            if let Some(moved) = mover.block(NonNull::new_unchecked(self.block()), layout) {
                self.0 = Listpack::tagged(moved, gap);
            }
        }
    }

    /// The listpack's bytes, as a file stores them.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `total_bytes` initialised bytes lie there, and change only through `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start(), self.total_bytes()) }
    }

    /// How many bytes it has, header and end counted.
    #[inline(always)]
    pub fn total_bytes(&self) -> usize {
        // SAFETY: a listpack has at least its header; the place needs no alignment.
        u32::from_le_bytes(unsafe { self.start().cast::<[u8; 4]>().read() }) as usize
    }

    /// The size of its allocation.
    pub fn memory_bytes(&self) -> usize {
        size_class(self.gap() + self.total_bytes(), 1)
    }

    /// True if `more` bytes may be added: see [`TOTAL_MAX`].
    pub fn has_room_for(&self, more: usize) -> bool {
        self.total_bytes().saturating_add(more) <= TOTAL_MAX
    }

    #[inline(always)]
    fn count_field(&self) -> u16 {
        self.pack().count_field()
    }

    /// How many elements it has: O(1) below 65535 of them.
    #[inline]
    pub fn len(&self) -> usize {
        self.pack().len()
    }

    /// True if it has no element.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.total_bytes() <= Self::EMPTY_BYTES
    }

    /// Offset of the end marker.
    #[inline(always)]
    fn end(&self) -> usize {
        self.total_bytes() - 1
    }

    /// All bytes but the end marker: what lies in here are offsets of entries.
    #[inline(always)]
    fn inner(&self) -> &[u8] {
        self.pack().inner()
    }
}

/// The bytes of a listpack, wherever they lie, to be read.
#[derive(Clone, Copy)]
pub struct Pack<'a> {
    bytes: &'a [u8],
}

impl<'a> Pack<'a> {
    /// Bytes from outside, checked as [`Listpack::from_bytes`] checks them.
    pub fn parse(bytes: &'a [u8], deep: bool) -> Result<Pack<'a>, Corrupt> {
        entry::check(bytes, deep).map(|()| Pack { bytes })
    }

    /// These bytes, which came from [`Listpack::bytes`].
    #[inline(always)]
    pub fn of(bytes: &'a [u8]) -> Pack<'a> {
        debug_assert!(bytes.len() > HEADER_BYTES && bytes.last() == Some(&END));
        Pack { bytes }
    }

    /// The bytes, as a file stores them.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    #[inline(always)]
    fn count_field(self) -> u16 {
        u16::from_le_bytes([self.bytes[4], self.bytes[5]])
    }

    /// How many elements it has: O(1) below 65535 of them.
    #[inline]
    pub fn len(self) -> usize {
        match self.count_field() {
            COUNT_UNKNOWN => self.iter().count(),
            n => usize::from(n),
        }
    }

    /// True if it has no element.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.bytes.len() <= Listpack::EMPTY_BYTES
    }

    #[inline(always)]
    fn end(self) -> usize {
        self.bytes.len() - 1
    }

    /// All bytes but the end marker.
    #[inline(always)]
    fn inner(self) -> &'a [u8] {
        &self.bytes[..self.end()]
    }

    /// Place of the first element.
    pub fn first(self) -> Option<Pos> {
        (!self.is_empty()).then_some(Pos(HEADER_BYTES as u32))
    }

    /// Place of the last element.
    pub fn last(self) -> Option<Pos> {
        self.before(self.end())
    }

    /// Place of the element behind this one.
    #[inline]
    pub fn next(self, pos: Pos) -> Option<Pos> {
        let next = entry::skip(self.inner(), pos.0 as usize)?;
        (next < self.end()).then_some(Pos(next as u32))
    }

    /// Place of the element before this one.
    #[inline]
    pub fn prev(self, pos: Pos) -> Option<Pos> {
        self.before(pos.0 as usize)
    }

    fn before(self, at: usize) -> Option<Pos> {
        let entries = self.inner().get(HEADER_BYTES..at)?;
        let whole = entry::len_from_behind(entries)?;
        Some(Pos((at - whole) as u32))
    }

    /// The element at a place that this listpack gave; `None` if there is none.
    #[inline]
    pub fn get(self, pos: Pos) -> Option<Elem<'a>> {
        entry::decode(self.inner().get(pos.0 as usize..)?).map(|(elem, _)| elem)
    }

    /// Place of element number `index`; negative ones count from the end, -1 being the last.
    pub fn seek(self, index: i64) -> Option<Pos> {
        let len = self.len() as i64;
        let index = if index < 0 { len + index } else { index };
        if !(0..len).contains(&index) {
            return None;
        }
        if index * 2 <= len {
            let mut pos = self.first();
            for _ in 0..index {
                pos = self.next(pos?);
            }
            return pos;
        }
        let mut pos = self.last();
        for _ in index + 1..len {
            pos = self.prev(pos?);
        }
        pos
    }

    /// Element number `index`, as [`seek`](Self::seek) counts.
    pub fn at(self, index: i64) -> Option<Elem<'a>> {
        self.get(self.seek(index)?)
    }

    /// The place of the first element from `from` on that is `needle`, where only every (1 + `skip`)th is looked at:
    /// fields of a hash are sought with a skip of 1.
    pub fn find(self, from: Option<Pos>, needle: Needle<'_>, skip: usize) -> Option<Pos> {
        let bytes = self.inner();
        let mut at = from?.0 as usize;
        while at < bytes.len() {
            let (elem, whole) = entry::decode(&bytes[at..])?;
            if needle.is(elem) {
                return Some(Pos(at as u32));
            }
            at += whole;
            for _ in 0..skip {
                at = entry::skip(bytes, at)?;
            }
        }
        None
    }

    /// All elements.
    #[inline]
    pub fn iter(self) -> Iter<'a> {
        Iter {
            bytes: self.inner(),
            front: HEADER_BYTES,
            back: self.end(),
        }
    }

    /// The elements from `pos` on.
    pub fn iter_from(self, pos: Pos) -> Iter<'a> {
        Iter {
            front: pos.0 as usize,
            ..self.iter()
        }
    }

    /// The elements up to and with `pos`, to be read backwards.
    pub fn iter_until(self, pos: Pos) -> Iter<'a> {
        let whole = self.iter();
        let back = entry::skip(whole.bytes, pos.0 as usize).unwrap_or(HEADER_BYTES);
        Iter { back, ..whole }
    }
}

/// Reading.
impl Listpack {
    /// The listpack, to be read.
    #[inline(always)]
    pub fn pack(&self) -> Pack<'_> {
        Pack {
            bytes: self.bytes(),
        }
    }

    /// Place of the first element.
    #[inline]
    pub fn first(&self) -> Option<Pos> {
        self.pack().first()
    }

    /// Place of the last element.
    #[inline]
    pub fn last(&self) -> Option<Pos> {
        self.pack().last()
    }

    /// Place of the element behind this one.
    #[inline]
    pub fn next(&self, pos: Pos) -> Option<Pos> {
        self.pack().next(pos)
    }

    /// Place of the element before this one.
    #[inline]
    pub fn prev(&self, pos: Pos) -> Option<Pos> {
        self.pack().prev(pos)
    }

    /// The element at a place that this listpack gave; `None` if there is none.
    #[inline]
    pub fn get(&self, pos: Pos) -> Option<Elem<'_>> {
        self.pack().get(pos)
    }

    /// Place of element number `index`; negative ones count from the end, -1 being the last.
    #[inline]
    pub fn seek(&self, index: i64) -> Option<Pos> {
        self.pack().seek(index)
    }

    /// Element number `index`, as [`seek`](Self::seek) counts.
    #[inline]
    pub fn at(&self, index: i64) -> Option<Elem<'_>> {
        self.pack().at(index)
    }

    /// The place of the first element from `from` on that is `needle`, where only every (1 + `skip`)th is looked at:
    /// fields of a hash are sought with a skip of 1.
    #[inline]
    pub fn find(&self, from: Option<Pos>, needle: Needle<'_>, skip: usize) -> Option<Pos> {
        self.pack().find(from, needle, skip)
    }

    /// All elements.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        self.pack().iter()
    }

    /// The elements from `pos` on.
    #[inline]
    pub fn iter_from(&self, pos: Pos) -> Iter<'_> {
        self.pack().iter_from(pos)
    }

    /// The elements up to and with `pos`, to be read backwards.
    #[inline]
    pub fn iter_until(&self, pos: Pos) -> Iter<'_> {
        self.pack().iter_until(pos)
    }
}

/// Changing. A string that writes an integer is stored as one.
impl Listpack {
    /// Adds an element at the end.
    #[inline]
    pub fn push_back(&mut self, elem: Elem<'_>) {
        match Short::new(elem) {
            Some(new) if new.len() <= self.room() => {
                // SAFETY: so many bytes lie there.
                unsafe { new.write(self.grow_back(new.len())) }
            }
            _ => self.push_back_any(Encoded::new(elem)),
        }
    }

    fn push_back_any(&mut self, new: Encoded<'_>) {
        if new.len() > self.room() {
            return self.put(self.end(), 0, 0, &[new]);
        }
        // SAFETY: so many bytes lie there.
        unsafe { new.write(self.grow_back(new.len())) }
    }

    /// How many bytes may be added at the end where the listpack lies.
    #[inline(always)]
    fn room(&self) -> usize {
        let used = self.gap() + self.total_bytes();
        size_class(used, 1) - used
    }

    /// Adds an entry of so many bytes, for which there is room, at the end. Gives the place where to write it.
    #[inline(always)]
    fn grow_back(&mut self, bytes: usize) -> *mut u8 {
        let (total, count) = (self.total_bytes(), self.count_and_one());
        // SAFETY: what is written lies within the class that was allocated.
        unsafe {
            let start = self.start();
            set_total(start, total + bytes);
            start.add(4).cast::<[u8; 2]>().write(count);
            start.add(total - 1 + bytes).write(END);
            start.add(total - 1)
        }
    }

    /// Adds an element at the start.
    #[inline]
    pub fn push_front(&mut self, elem: Elem<'_>) {
        match Short::new(elem) {
            Some(new) if new.len() <= self.gap() => {
                // SAFETY: so many bytes lie there.
                unsafe { new.write(self.grow_front(new.len())) }
            }
            _ => self.push_front_any(Encoded::new(elem)),
        }
    }

    fn push_front_any(&mut self, new: Encoded<'_>) {
        if new.len() > self.gap() {
            return self.put(HEADER_BYTES, 0, 0, &[new]);
        }
        // SAFETY: so many bytes lie there.
        unsafe { new.write(self.grow_front(new.len())) }
    }

    /// Adds an entry of so many bytes, which the gap has, at the start. Gives the place where to write it.
    #[inline(always)]
    fn grow_front(&mut self, bytes: usize) -> *mut u8 {
        let (total, count) = (self.total_bytes(), self.count_and_one());
        self.set_gap(self.gap() - bytes);
        // SAFETY: the gap is part of the allocation; header and entry are written over the end of it and over the old
        // header.
        unsafe {
            let start = self.start();
            set_total(start, total + bytes);
            start.add(4).cast::<[u8; 2]>().write(count);
            start.add(HEADER_BYTES)
        }
    }

    /// The field of the count with one element more. The greatest count says that there are more.
    #[inline(always)]
    fn count_and_one(&self) -> [u8; 2] {
        self.count_field().saturating_add(1).to_le_bytes()
    }

    /// Takes the last element out, after `f` has read it. `None` if there is none.
    #[inline]
    pub fn pop_back<R>(&mut self, f: impl FnOnce(Elem<'_>) -> R) -> Option<R> {
        let pos = self.last()?;
        let at = pos.0 as usize;
        let (elem, bytes) = entry::decode(&self.inner()[at..])?;
        let result = f(elem);
        let (left, total) = (at + 1, self.total_bytes());
        let count = self.count_field();
        // The block's size follows from what is in it. While it stays the same, and half of it is full, nothing moves.
        let class = size_class(self.gap() + total, 1);
        let stays = size_class(self.gap() + left, 1) == class && left * 2 > class;
        if !stays || left + bytes != total || count == COUNT_UNKNOWN {
            self.remove(pos);
            return Some(result);
        }
        // SAFETY: the entry that lay here had at least one byte.
        unsafe {
            let start = self.start();
            start.add(at).write(END);
            set_total(start, left);
        }
        self.set_count(usize::from(count).saturating_sub(1));
        Some(result)
    }

    /// Adds elements at the end, moving bytes once.
    pub fn push_back_all(&mut self, elems: &[Elem<'_>]) {
        self.put(self.end(), 0, 0, &encode_all(elems));
    }

    /// Inserts an element before `pos`.
    pub fn insert_before(&mut self, pos: Pos, elem: Elem<'_>) {
        self.put(pos.0 as usize, 0, 0, &[Encoded::new(elem)]);
    }

    /// Inserts an element behind `pos`.
    pub fn insert_after(&mut self, pos: Pos, elem: Elem<'_>) {
        let behind = entry::skip(self.inner(), pos.0 as usize).unwrap_or(self.end());
        self.put(behind, 0, 0, &[Encoded::new(elem)]);
    }

    /// Inserts elements before `pos` (`None`: at the end), moving bytes once.
    pub fn insert_all(&mut self, pos: Option<Pos>, elems: &[Elem<'_>]) {
        let at = pos.map_or(self.end(), |p| p.0 as usize);
        self.put(at, 0, 0, &encode_all(elems));
    }

    /// Puts another element at the place of one; the place stays.
    pub fn replace(&mut self, pos: Pos, elem: Elem<'_>) {
        let at = pos.0 as usize;
        let old = entry::skip(self.inner(), at).unwrap_or(at) - at;
        self.put(at, old, usize::from(old > 0), &[Encoded::new(elem)]);
    }

    /// Takes the element at `pos` out; the next one then lies at that place: `None` if there is none.
    pub fn remove(&mut self, pos: Pos) -> Option<Pos> {
        self.remove_from(pos, 1)
    }

    /// Takes up to `n` elements out from `pos` on. Gives the place of the one behind.
    pub fn remove_from(&mut self, pos: Pos, n: usize) -> Option<Pos> {
        let at = pos.0 as usize;
        let end = self.end();
        let (mut to, mut gone) = (at, 0);
        while gone < n && to < end {
            // What cannot be decoded goes with everything behind it.
            to = entry::skip(self.inner(), to).unwrap_or(end);
            gone += 1;
        }
        self.put(at, to - at, gone, &[]);
        (at < self.end()).then_some(pos)
    }

    /// Takes `n` elements out from number `index` on, as [`seek`](Self::seek) counts.
    pub fn remove_range(&mut self, index: i64, n: usize) {
        if let Some(pos) = self.seek(index) {
            self.remove_from(pos, n);
        }
    }

    /// Adds all elements of another one at the end.
    pub fn append(&mut self, other: &Listpack) {
        let more = &other.inner()[HEADER_BYTES..];
        let count = self.len() + other.len();
        let to = self.make_room(self.end(), 0, more.len());
        // SAFETY: `make_room` made a hole of that size; the other listpack is another allocation.
        unsafe { ptr::copy_nonoverlapping(more.as_ptr(), to, more.len()) };
        self.set_count(count);
    }

    /// Splits: keeps the first `index` elements, gives the rest.
    pub fn split_off(&mut self, index: usize) -> Listpack {
        let len = self.len();
        let mut rest = Listpack::new();
        let Some(pos) = self.seek(index as i64) else {
            return rest;
        };
        let (at, end) = (pos.0 as usize, self.end());
        let moved = &self.bytes()[at..end];
        let to = rest.make_room(HEADER_BYTES, 0, moved.len());
        // SAFETY: as in `append`.
        unsafe { ptr::copy_nonoverlapping(moved.as_ptr(), to, moved.len()) };
        rest.set_count(len - index);
        self.make_room(at, end - at, 0);
        self.set_count(index);
        rest
    }

    fn set_count(&mut self, n: usize) {
        let count = u16::try_from(n).unwrap_or(COUNT_UNKNOWN).to_le_bytes();
        // SAFETY: every listpack has a header.
        unsafe { self.start().add(4).cast::<[u8; 2]>().write(count) };
    }

    /// Replaces `old_bytes` at `at`, which are `old_count` elements, by these entries.
    #[inline]
    fn put(&mut self, at: usize, old_bytes: usize, old_count: usize, new: &[Encoded<'_>]) {
        let new_bytes = new.iter().map(Encoded::len).sum();
        let mut to = self.make_room(at, old_bytes, new_bytes);
        for entry in new {
            // SAFETY: `make_room` made a hole for all of them.
            unsafe {
                entry.write(to);
                to = to.add(entry.len());
            }
        }
        let count = self.count_field();
        if count != COUNT_UNKNOWN {
            self.set_count((usize::from(count) + new.len()).saturating_sub(old_count));
        }
    }

    /// Turns the `removed` bytes at `at` into a hole of `added` bytes, whose address it gives. The total is that of
    /// the new state; the hole must be filled before anyone reads.
    #[inline]
    fn make_room(&mut self, at: usize, removed: usize, added: usize) -> *mut u8 {
        let (gap, total) = (self.gap(), self.total_bytes());
        // Places come from callers, and stale ones must not lead outside.
        assert!(at >= HEADER_BYTES && at < total && removed < total - at);
        let new_total = total - removed + added;
        assert!(new_total <= u32::MAX as usize, "listpack too large");
        let class = size_class(gap + total, 1);
        let start = self.start();
        let head_is_shorter = at < total - at - removed;
        let fits_before = gap + removed >= added && gap + removed - added <= GAP_MAX;
        let wasteful = size_class(new_total, 1) * 2 <= class;
        // SAFETY: in both branches all addresses stay between the block's start and `gap + total` or `gap + new_total`,
        // which lies in the class that was allocated.
        unsafe {
            if head_is_shorter && fits_before && !wasteful {
                let new_gap = gap + removed - added;
                let new_start = self.block().add(new_gap);
                ptr::copy(start, new_start, at);
                self.set_gap(new_gap);
                set_total(new_start, new_total);
                return new_start.add(at);
            }
            if size_class(gap + new_total, 1) == class && !wasteful {
                let hole = start.add(at);
                if removed != added {
                    ptr::copy(hole.add(removed), hole.add(added), total - at - removed);
                    set_total(start, new_total);
                }
                return hole;
            }
        }
        self.move_out(at, removed, added, head_is_shorter)
    }

    /// The part of `make_room` that moves everything: to the end of its block where it grows at the head, to the
    /// start of it otherwise.
    #[cold]
    fn move_out(&mut self, at: usize, removed: usize, added: usize, at_head: bool) -> *mut u8 {
        let total = self.total_bytes();
        let new_total = total - removed + added;
        let class = size_class(new_total, 1);
        // From the second element on: a lone one has no head and no tail yet.
        let grows_at_head = at_head && added > removed && total > HEADER_BYTES + 1;
        let gap = if grows_at_head {
            (class - new_total).min(GAP_MAX)
        } else {
            0
        };
        let block = allocate(size_class(gap + new_total, 1));
        let old = self.start();
        // SAFETY: the new block holds `gap + new_total` bytes; what is copied is the head and the tail of the old one.
        unsafe {
            let start = block.as_ptr().add(gap);
            ptr::copy_nonoverlapping(old, start, at);
            ptr::copy_nonoverlapping(
                old.add(at + removed),
                start.add(at + added),
                total - at - removed,
            );
            set_total(start, new_total);
            *self = Listpack::join(block, gap);
            start.add(at)
        }
    }

    fn set_gap(&mut self, gap: usize) {
        let tagged = self.0.as_ptr().map_addr(|a| a & POINTER | gap << 48);
        // SAFETY: the low 48 bits are those of a pointer that is not null.
        self.0 = unsafe { NonNull::new_unchecked(tagged) };
    }
}

fn encode_all<'a>(elems: &[Elem<'a>]) -> SmallVec<[Encoded<'a>; 8]> {
    elems.iter().map(|&elem| Encoded::new(elem)).collect()
}

/// # Safety
/// `start` is that of a listpack's bytes.
#[inline(always)]
unsafe fn set_total(start: *mut u8, total: usize) {
    // SAFETY: the caller's promise; four bytes without alignment.
    unsafe { start.cast::<[u8; 4]>().write((total as u32).to_le_bytes()) };
}

fn layout(class: usize) -> Layout {
    Layout::from_size_align(class, 1).expect("a size class is a size")
}

fn allocate(class: usize) -> NonNull<u8> {
    let layout = layout(class);
    // SAFETY: a listpack has at least seven bytes.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

impl Drop for Listpack {
    fn drop(&mut self) {
        let layout = layout(self.memory_bytes());
        // SAFETY: the block was allocated with the class of gap and total, which is the invariant of the type.
        unsafe { dealloc(self.block(), layout) };
    }
}

impl Clone for Listpack {
    fn clone(&self) -> Listpack {
        Listpack::copy_of(self.bytes())
    }
}

impl Default for Listpack {
    fn default() -> Listpack {
        Listpack::new()
    }
}

impl fmt::Debug for Listpack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pack().fmt(f)
    }
}

impl fmt::Debug for Pack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> FromIterator<Elem<'a>> for Listpack {
    fn from_iter<I: IntoIterator<Item = Elem<'a>>>(elems: I) -> Listpack {
        let mut lp = Listpack::new();
        for elem in elems {
            lp.push_back(elem);
        }
        lp
    }
}

/// The elements of a listpack, from both ends.
#[derive(Clone)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    front: usize,
    back: usize,
}

impl Iter<'_> {
    /// Place of the element that `next` gives, if there is one.
    pub fn pos(&self) -> Option<Pos> {
        (self.front < self.back).then_some(Pos(self.front as u32))
    }

    /// Passes over `n` elements without decoding them.
    pub fn skip_fast(&mut self, n: usize) {
        for _ in 0..n {
            if self.front >= self.back {
                return;
            }
            self.front = entry::skip(self.bytes, self.front).unwrap_or(self.back);
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Elem<'a>;

    #[inline]
    fn next(&mut self) -> Option<Elem<'a>> {
        let (elem, whole) = entry::decode(self.bytes.get(self.front..self.back)?)?;
        self.front += whole;
        Some(elem)
    }
}

impl<'a> DoubleEndedIterator for Iter<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<Elem<'a>> {
        let entries = self.bytes.get(self.front..self.back)?;
        let start = entries.len() - entry::len_from_behind(entries)?;
        let (elem, _) = entry::decode(&entries[start..])?;
        self.back = self.front + start;
        Some(elem)
    }
}
