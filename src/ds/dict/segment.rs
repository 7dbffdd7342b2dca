//! A segment: up to 420 records that share the top `depth` bits of their hash, in one allocation.
//!
//! ```text
//! +--------+------+------+----------+----------------+------------------+---------------------+
//! | owners | keys | ttls | earliest | overflow       | tags             | slots               |
//! | u32    | u16  | u16  | u64      | u8 per group   | u8 per slot      | u64 per slot        |
//! +--------+------+------+----------+----------------+------------------+---------------------+
//! 0        4      6      8          16               32 or 48 (16 * n)  (128 * n)
//! ```
//!
//! Slots come in groups of 16. A record's *home* is a group: the 16 hash bits below the depth, scaled
//! to the number of groups, so that homes ascend with the hash and SCAN can walk a segment in hash
//! order. A full home sends its records on to the next group, wrapping, and counts them in each group
//! they pass (`overflow`), so that a lookup knows where to stop and removal leaves no tombstones (F14's
//! idea; a count that reaches 255 stays until the segment is rebuilt). The tag is the hash's low byte,
//! with 1 for 0: an empty slot's tag is 0. The slot's upper 16 bits hold hash bits again, so that a tag
//! that matches by chance rarely costs a look at a foreign record.
//!
//! A segment's *shape* (number of groups and depth) is not in the segment but in the word that points to
//! it, so that a lookup knows the address of tags and slots before it has touched the segment.
//!
//! The stored 16 bits are those below `base`, where `depth = base + skew`. A split leaves them as they
//! are and counts one more bit of skew, so that it need not look at the records; only when too few
//! bits would be left to spread over the groups are all keys hashed again (every seventh split). Growing
//! and merging use the stored bits alone.
//!
//! The sizes are chosen to fill jemalloc's size classes (... 2048, 2560, 3072, 3584, 4096).

use super::group::{Bits, GROUP, matches, used};
use super::record::{Handle, HashKey, Record, check_size, prefetch_read};
use crate::base::equal::equal;
use crate::ds::cow::Count;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, forget};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers of groups a segment can have. The smallest size is half a group, 8 slots.
const GROUPS: [u8; 13] = [1, 2, 3, 4, 6, 8, 10, 12, 14, 17, 21, 24, 28];
const GROUPS_MAX: u8 = GROUPS[GROUPS.len() - 1];
/// Records in a segment of the largest size, before it splits.
pub(super) const KEYS_MAX: usize = capacity(GROUPS_MAX);
/// Slots of a segment of the largest size.
pub(super) const SLOTS_MAX: usize = GROUPS_MAX as usize * GROUP;
/// Buddies that together hold less than a quarter of the largest size merge.
pub(super) const MERGE_BELOW: usize = SLOTS_MAX / 4;
/// Hash bits of depth that a split may add before the stored bits are taken anew.
const SKEW_MAX: u8 = 6;
/// No segment is deeper, so that depth and stored bits fit the top 53 bits of the hash, of which a
/// SCAN cursor consists. (A keyed hash that puts 420 keys under one prefix of so many bits is not met with, even if
/// the first 14 are the same for all keys: those of a slot.)
pub(super) const DEPTH_MAX: u8 = 37;
/// `earliest` where nothing expires.
pub(super) const NEVER: u64 = u64::MAX;

/// The most records that fit a number of groups: 15/16 of the slots, all of them in a single group.
const fn capacity(groups: u8) -> usize {
    if groups == 1 {
        GROUP
    } else {
        groups as usize * (GROUP - 1)
    }
}

#[repr(C)]
struct Head {
    owners: Count,
    keys: u16,
    ttls: u16,
    /// A lower bound of the records' deadlines. Atomic, since it may be tightened in a shared segment:
    /// the records of one do not change, so any owner can only find the same truth.
    earliest: AtomicU64,
}

const HEAD: usize = size_of::<Head>();
const _: () = assert!(HEAD == 16);

/// What the word that points to a segment says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub groups: u8,
    /// Only 8 of the one group's 16 slots exist.
    pub half: bool,
    pub base: u8,
    pub skew: u8,
}

impl Shape {
    /// The smallest size with room for `keys` records.
    fn fit(keys: usize) -> (u8, bool) {
        let groups = GROUPS
            .into_iter()
            .find(|&g| capacity(g) >= keys)
            .unwrap_or(GROUPS_MAX);
        (groups, keys <= GROUP / 2)
    }

    fn sized(self, keys: usize) -> Shape {
        let (groups, half) = Shape::fit(keys);
        Shape {
            groups,
            half,
            ..self
        }
    }

    #[inline(always)]
    pub fn depth(self) -> u32 {
        u32::from(self.base) + u32::from(self.skew)
    }

    /// The hash bits that the slot of a record stores.
    #[inline(always)]
    pub fn stored(self, hash: u64) -> u16 {
        ((hash << self.base) >> 48) as u16
    }

    /// Stored bits without those of the depth: what orders a segment's records.
    #[inline(always)]
    pub fn order(self, stored: u16) -> u16 {
        stored << self.skew
    }

    #[inline(always)]
    pub fn home(self, stored: u16) -> usize {
        (usize::from(self.order(stored)) * usize::from(self.groups)) >> 16
    }

    #[inline(always)]
    pub fn groups(self) -> usize {
        usize::from(self.groups)
    }

    pub fn slots(self) -> usize {
        if self.half {
            GROUP / 2
        } else {
            self.groups() * GROUP
        }
    }

    fn capacity(self) -> usize {
        if self.half {
            GROUP / 2
        } else {
            capacity(self.groups)
        }
    }

    /// 16 bytes of overflow counters, 32 with more than 16 groups.
    #[inline(always)]
    fn tags_at(self) -> usize {
        const { assert!(GROUPS_MAX < 32) };
        HEAD + GROUP + usize::from(self.groups & 16)
    }

    #[inline(always)]
    fn slots_at(self) -> usize {
        self.tags_at() + self.groups() * GROUP
    }

    pub fn layout(self) -> Layout {
        let size = self.slots_at() + self.slots() * size_of::<Handle>();
        Layout::from_size_align(size, GROUP).expect("a few kilobytes")
    }

    fn deeper(self) -> Shape {
        Shape {
            skew: self.skew + 1,
            ..self
        }
    }
}

/// A record's hash reduced to what a segment wants of it.
#[inline(always)]
pub(super) fn tag_of(hash: u64) -> u8 {
    (hash as u8).max(1)
}

/// A pointer to a segment, and its shape in the upper 16 bits: 5 of groups, 6 of base, 4 of skew, 1 of
/// half. It is a bare reference: whoever holds it in a page counts it.
pub(super) struct Seg<R>(pub(super) NonNull<u8>, PhantomData<R>);

impl<R> Clone for Seg<R> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Seg<R> {}

impl<R> PartialEq for Seg<R> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

// The methods of Seg are not marked unsafe one by one: module-private, they all lean on one invariant,
// kept by `tree`. A Seg met through a page or a `Top` that the caller has borrowed is alive; methods that
// write (they say so) are called only with every owner from the root down unique and mutably borrowed.
impl<R: Record> Seg<R> {
    /// An empty segment, owned once.
    fn alloc(shape: Shape) -> Seg<R> {
        const { check_size::<R>() };
        let layout = shape.layout();
        // SAFETY: the layout is not empty.
        let Some(p) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        assert!(p.addr().get() >> 48 == 0, "an address beyond 48 bits");
        let head = Head {
            owners: Count::new(),
            keys: 0,
            ttls: 0,
            earliest: AtomicU64::new(NEVER),
        };
        // SAFETY: inside the fresh allocation; slots need no value while their tag is 0.
        unsafe {
            p.cast::<Head>().write(head);
            p.add(HEAD).write_bytes(0, shape.slots_at() - HEAD);
        }
        let bits = usize::from(shape.groups)
            | usize::from(shape.base) << 5
            | usize::from(shape.skew) << 11
            | usize::from(shape.half) << 15;
        Seg(p.map_addr(|a| a | (bits << 48)), PhantomData)
    }

    /// The first segment of a dict.
    pub fn first() -> Seg<R> {
        Seg::alloc(Shape {
            groups: 1,
            half: true,
            base: 0,
            skew: 0,
        })
    }

    /// An empty segment of that depth, for about so many records: as large as it would have become with nearly all
    /// of them.
    pub fn for_about(depth: u32, keys: usize) -> Seg<R> {
        let shape = Shape {
            groups: 1,
            half: true,
            base: depth as u8,
            skew: 0,
        };
        // About five in six segments have more than this.
        Seg::alloc(shape.sized(keys.saturating_sub(keys.isqrt())))
    }

    #[inline(always)]
    pub fn shape(self) -> Shape {
        let bits = self.0.addr().get() >> 48;
        Shape {
            groups: (bits & 31) as u8,
            base: (bits >> 5 & 63) as u8,
            skew: (bits >> 11 & 15) as u8,
            half: bits >> 15 != 0,
        }
    }

    #[inline(always)]
    pub fn depth(self) -> u32 {
        self.shape().depth()
    }

    #[inline(always)]
    fn ptr(self) -> *mut u8 {
        self.0.as_ptr().map_addr(|a| a & ((1 << 48) - 1))
    }

    #[inline(always)]
    fn head(&self) -> &Head {
        // SAFETY: alive (see above); `keys` and `ttls` are written only by a sole owner.
        unsafe { &*self.ptr().cast::<Head>() }
    }

    #[inline(always)]
    fn tags(self) -> *mut u8 {
        self.ptr().wrapping_add(self.shape().tags_at())
    }

    #[inline(always)]
    fn overflow(self, group: usize) -> *mut u8 {
        self.ptr().wrapping_add(HEAD + group)
    }

    /// The slot's place. It holds a record only while its tag is not 0.
    #[inline(always)]
    pub fn slot(self, index: usize) -> *mut R {
        self.ptr()
            .wrapping_add(self.shape().slots_at() + index * size_of::<Handle>())
            .cast()
    }

    #[inline(always)]
    fn bits(self, index: usize) -> u16 {
        // SAFETY: a record is a Handle (its trait's contract), and this slot holds one.
        unsafe { (*self.slot(index).cast::<Handle>()).bits() }
    }

    #[inline(always)]
    fn pointer(self, index: usize) -> NonNull<u8> {
        // SAFETY: as above.
        unsafe { (*self.slot(index).cast::<Handle>()).ptr() }
    }

    #[inline(always)]
    fn tag(self, index: usize) -> u8 {
        // SAFETY: inside the tags.
        unsafe { *self.tags().wrapping_add(index) }
    }

    /// The slots in use of a group, as a mask.
    #[inline(always)]
    pub fn used(self, group: usize) -> u32 {
        // SAFETY: the tags of a group of this segment.
        unsafe { used(self.tags().wrapping_add(group * GROUP)) }
    }

    /// Records that passed this group on their way from home.
    #[inline(always)]
    pub fn overflowed(self, group: usize) -> u8 {
        // SAFETY: inside the counters.
        unsafe { *self.overflow(group) }
    }

    #[inline(always)]
    pub fn keys(self) -> usize {
        usize::from(self.head().keys)
    }

    #[inline(always)]
    pub fn ttls(self) -> usize {
        usize::from(self.head().ttls)
    }

    #[inline(always)]
    pub fn earliest(self) -> u64 {
        self.head().earliest.load(Ordering::Relaxed)
    }

    /// Sets a lower bound of the deadlines in it.
    #[inline(always)]
    pub fn set_earliest(self, bound: u64) {
        self.head().earliest.store(bound, Ordering::Relaxed);
    }

    #[inline(always)]
    pub fn is_unique(self) -> bool {
        self.head().owners.is_unique()
    }

    #[inline(always)]
    pub fn is_full(self) -> bool {
        self.keys() >= self.shape().capacity()
    }

    /// Bytes of its allocation.
    pub fn bytes(self) -> usize {
        self.shape().layout().size()
    }

    /// One more owner.
    pub fn retain(self) {
        self.head().owners.inc();
    }

    /// One owner fewer; the last one drops the records.
    pub fn release(self) {
        // SAFETY: the caller gives up a reference it had counted.
        if !unsafe { self.head().owners.dec() } {
            return;
        }
        if std::mem::needs_drop::<R>() {
            self.each_front(|i| {
                // SAFETY: the last owner; each record is dropped once.
                unsafe { self.slot(i).drop_in_place() }
            });
        }
        self.free();
    }

    /// Gives the allocation back, whose records have moved elsewhere.
    fn free(self) {
        // SAFETY: allocated with this layout; the caller is the last owner.
        unsafe { dealloc(self.ptr(), self.shape().layout()) }
    }

    /// Calls f with the index of each slot in use, fetching the records of later groups ahead: for
    /// functions that look at them.
    #[inline(always)]
    pub fn each(self, f: impl FnMut(usize)) {
        self.each_ahead(R::prefetch, f);
    }

    /// As `each`, for functions that look at the records' owner counts and deadlines alone.
    #[inline(always)]
    pub fn each_front(self, f: impl FnMut(usize)) {
        self.each_ahead(R::prefetch_front, f);
    }

    #[inline(always)]
    fn each_ahead(self, prefetch: impl Fn(NonNull<u8>), mut f: impl FnMut(usize)) {
        const AHEAD: usize = 2;
        let groups = self.shape().groups();
        for g in 0..groups + AHEAD {
            if g < groups {
                Bits(self.used(g)).for_each(|i| prefetch(self.pointer(g * GROUP + i)));
            }
            if g >= AHEAD {
                Bits(self.used(g - AHEAD)).for_each(|i| f((g - AHEAD) * GROUP + i));
            }
        }
    }

    /// As `each`, for functions that do not look at the records.
    #[inline(always)]
    fn each_slot(self, mut f: impl FnMut(usize)) {
        for g in 0..self.shape().groups() {
            Bits(self.used(g)).for_each(|i| f(g * GROUP + i));
        }
    }

    /// Fetches the header's line.
    #[inline(always)]
    pub fn prefetch_head(self) {
        prefetch_read(self.ptr());
    }

    /// Fetches what a lookup will read first: the header's line and the home group's tags.
    #[inline(always)]
    pub fn prefetch(self, hash: u64) -> Seg<R> {
        let shape = self.shape();
        prefetch_read(self.ptr());
        prefetch_read(
            self.tags()
                .wrapping_add(shape.home(shape.stored(hash)) * GROUP),
        );
        self
    }

    /// Fetches the slot of the home group whose tag matches, and gives its index: the record's, most
    /// likely.
    #[inline(always)]
    pub fn prefetch_slot(self, hash: u64) -> Option<usize> {
        let shape = self.shape();
        let group = shape.home(shape.stored(hash));
        // SAFETY: the tags of a group of this segment.
        let mask = unsafe { matches(self.tags().wrapping_add(group * GROUP), tag_of(hash)) };
        if mask == 0 {
            return None;
        }
        let index = group * GROUP + mask.trailing_zeros() as usize;
        prefetch_read(self.slot(index).cast());
        Some(index)
    }

    /// Fetches the first free slot of the home group: where a new record will go, most likely.
    #[inline(always)]
    pub fn prefetch_free(self, hash: u64) {
        let shape = self.shape();
        let group = shape.home(shape.stored(hash));
        // SAFETY: the tags of a group of this segment.
        let free = unsafe { matches(self.tags().wrapping_add(group * GROUP), 0) };
        if free != 0 {
            prefetch_read(
                self.slot(group * GROUP + free.trailing_zeros() as usize)
                    .cast(),
            );
        }
    }

    /// The index of the slot that holds the key's record.
    #[inline(always)]
    pub fn find(self, hash: u64, key: &[u8]) -> Option<usize> {
        let shape = self.shape();
        let stored = shape.stored(hash);
        let home = shape.home(stored);
        let (tags, tag) = (self.tags(), tag_of(hash));
        let mut group = home;
        loop {
            // SAFETY: the tags of a group of this segment.
            let mask = unsafe { matches(tags.wrapping_add(group * GROUP), tag) };
            for i in Bits(mask) {
                let index = group * GROUP + i;
                // SAFETY: a tag that is not 0 says that the slot holds a record.
                if self.bits(index) == stored && equal(unsafe { &*self.slot(index) }.key(), key) {
                    return Some(index);
                }
            }
            if self.overflowed(group) == 0 {
                return None;
            }
            group = if group + 1 == shape.groups() {
                0
            } else {
                group + 1
            };
            if group == home {
                return None;
            }
        }
    }

    /// Puts a record into a free slot; the sums are the caller's business. Writes.
    #[inline(always)]
    fn place(self, stored: u16, tag: u8, record: R) -> usize {
        let shape = self.shape();
        let tags = self.tags();
        let exist = if shape.half { 0xff } else { 0xffff };
        let mut group = shape.home(stored);
        let index = loop {
            // SAFETY: the tags of a group of this segment.
            let free = unsafe { matches(tags.wrapping_add(group * GROUP), 0) } & exist;
            if free != 0 {
                break group * GROUP + free.trailing_zeros() as usize;
            }
            // SAFETY: the only owner writes one of its counters.
            unsafe {
                let passed = self.overflow(group);
                *passed = (*passed).saturating_add(1);
            }
            group = if group + 1 == shape.groups() {
                0
            } else {
                group + 1
            };
        };
        let slot = self.slot(index);
        // SAFETY: a free slot of this segment, written by its only owner; a record is a Handle.
        unsafe {
            slot.write(record);
            (*slot.cast::<Handle>()).set_bits(stored);
            *tags.wrapping_add(index) = tag;
        }
        index
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut Head {
        // SAFETY: called by methods that write, whose caller is the only owner.
        unsafe { &mut *self.ptr().cast::<Head>() }
    }

    /// Adds a record, which is not in it yet, to a segment that is not full. Writes.
    #[inline(always)]
    pub fn insert(mut self, hash: u64, record: R, deadline: Option<u64>) -> usize {
        debug_assert!(!self.is_full());
        let index = self.place(self.shape().stored(hash), tag_of(hash), record);
        self.head_mut().keys += 1;
        if let Some(at) = deadline {
            self.add_deadline(at);
        }
        index
    }

    /// Takes the record out of its slot. Writes.
    #[inline(always)]
    pub fn remove(mut self, index: usize) -> R {
        let shape = self.shape();
        let (mut group, at) = (shape.home(self.bits(index)), index / GROUP);
        while group != at {
            // SAFETY: the only owner writes one of its counters.
            unsafe {
                let passed = self.overflow(group);
                // A counter that once was full has lost count: it stays.
                if *passed != u8::MAX {
                    *passed -= 1;
                }
            }
            group = if group + 1 == shape.groups() {
                0
            } else {
                group + 1
            };
        }
        // SAFETY: the slot holds a record; its tag says that it is free from now on.
        let record = unsafe {
            *self.tags().wrapping_add(index) = 0;
            self.slot(index).read()
        };
        self.head_mut().keys -= 1;
        if record.deadline().is_some() {
            self.drop_deadline();
        }
        record
    }

    /// Counts a deadline in. Writes.
    #[inline]
    pub fn add_deadline(mut self, at: u64) {
        self.head_mut().ttls += 1;
        self.set_earliest(self.earliest().min(at));
    }

    /// Counts a deadline out; the bound stays unless it was the last. Writes.
    #[inline]
    pub fn drop_deadline(mut self) {
        let head = self.head_mut();
        head.ttls -= 1;
        if head.ttls == 0 {
            self.set_earliest(NEVER);
        }
    }

    /// Whether its slots are mostly empty, so that `resized` would save memory.
    #[inline(always)]
    pub fn is_sparse(self) -> bool {
        !self.shape().half && self.keys() < self.shape().groups() * (GROUP / 2 - 1)
    }

    /// The size that fits, with all records moved there; this one is freed. None if the largest size
    /// is full: time to split. Writes.
    pub fn resized(self) -> Option<Seg<R>> {
        let keys = self.keys();
        // Room for one more when it grows, for an eighth more when it shrinks.
        let room = if self.is_full() {
            keys + 1
        } else {
            keys + keys / 8
        };
        if room > KEYS_MAX {
            return None;
        }
        let shape = self.shape();
        let mut to = Seg::alloc(shape.sized(room));
        self.each_slot(|i| self.pass(i, to));
        let (ttls, earliest) = (self.head().ttls, self.earliest());
        to.head_mut().keys = keys as u16;
        to.head_mut().ttls = ttls;
        to.set_earliest(earliest);
        self.free();
        Some(to)
    }

    /// Moves a slot's record to a segment of the same base.
    #[inline(always)]
    fn pass(self, index: usize, to: Seg<R>) {
        // SAFETY: the slot holds a record, which lives on in `to`: the caller frees this segment.
        to.place(self.bits(index), self.tag(index), unsafe {
            self.slot(index).read()
        });
    }

    /// A segment with the same records, one more owner for each, owned once.
    pub fn copy(self) -> Seg<R> {
        let mut to: Seg<R> = Seg::alloc(self.shape());
        (to.head_mut().keys, to.head_mut().ttls) = (self.head().keys, self.head().ttls);
        to.set_earliest(self.earliest());
        // SAFETY: same layout; slots without a record are copied as they are.
        unsafe {
            to.ptr()
                .add(HEAD)
                .copy_from_nonoverlapping(self.ptr().add(HEAD), self.bytes() - HEAD);
        }
        self.each_front(|i| {
            // SAFETY: the slot holds a record; the new owner is the copied word in `to`.
            forget(unsafe { &*self.slot(i) }.clone());
        });
        to
    }

    /// Two segments a bit deeper with all records moved there; this one is freed. Writes.
    pub fn split(self, key: &HashKey) -> [Seg<R>; 2] {
        let (shape, keys, ttls) = (self.shape(), self.keys(), self.ttls());
        assert!(
            shape.depth() < u32::from(DEPTH_MAX),
            "420 keys whose hashes agree in 37 bits"
        );
        // Which of the records expire is only written in the records.
        if shape.skew == SKEW_MAX || (ttls != 0 && ttls != keys) {
            return self.split_rehashed(key);
        }
        let goes = |i: usize| usize::from(shape.order(self.bits(i)) >> 15);
        let mut counts = [0usize; 2];
        self.each_slot(|i| counts[goes(i)] += 1);
        let to = counts.map(|n| Seg::alloc(shape.deeper().sized(n + 1)));
        self.each_slot(|i| self.pass(i, to[goes(i)]));
        for (mut seg, n) in to.into_iter().zip(counts) {
            seg.head_mut().keys = n as u16;
            if ttls != 0 && n != 0 {
                seg.head_mut().ttls = n as u16;
                seg.set_earliest(self.earliest());
            }
        }
        self.free();
        to
    }

    /// As `split`, with the stored bits taken anew and deadlines counted.
    fn split_rehashed(self, key: &HashKey) -> [Seg<R>; 2] {
        let depth = self.depth();
        let mut hashes = [0u64; SLOTS_MAX];
        let mut counts = [0usize; 2];
        let side = |hash: u64| ((hash << depth) >> 63) as usize;
        self.each(|i| {
            // SAFETY: the slot holds a record.
            hashes[i] = key.hash(unsafe { &*self.slot(i) }.key());
            counts[side(hashes[i])] += 1;
        });
        let deeper = Shape {
            base: depth as u8 + 1,
            skew: 0,
            ..self.shape()
        };
        let to: [Seg<R>; 2] = counts.map(|n| Seg::alloc(deeper.sized(n + 1)));
        self.each_slot(|i| {
            // SAFETY: the slot holds a record, which lives on in `to`.
            let record = unsafe { self.slot(i).read() };
            let deadline = record.deadline();
            to[side(hashes[i])].insert(hashes[i], record, deadline);
        });
        self.free();
        to
    }

    /// One segment a bit less deep with the records of two buddies, which are freed. `prefix` is a
    /// hash in `a`, cut to its depth. Writes.
    pub fn merge(a: Seg<R>, b: Seg<R>, prefix: u64) -> Seg<R> {
        let depth = a.depth() as u8 - 1;
        let base = a.shape().base.min(b.shape().base).min(depth);
        let keys = a.keys() + b.keys();
        let shape = Shape {
            base,
            skew: depth - base,
            ..a.shape()
        };
        let mut to: Seg<R> = Seg::alloc(shape.sized(keys + keys / 8));
        let buddy = prefix ^ (1 << (63 - depth));
        for (from, prefix) in [(a, prefix), (b, buddy)] {
            // The bits between the bases are the same for all of a segment: its prefix's. There are
            // at most as many as the skew may have.
            let lost = from.shape().base - base;
            let known = shape.stored(prefix) & !(u16::MAX >> lost);
            from.each_slot(|i| {
                // SAFETY: the slot holds a record, which lives on in `to`.
                to.place(known | from.bits(i) >> lost, from.tag(i), unsafe {
                    from.slot(i).read()
                });
            });
        }
        to.head_mut().keys = keys as u16;
        to.head_mut().ttls = (a.ttls() + b.ttls()) as u16;
        to.set_earliest(a.earliest().min(b.earliest()));
        a.free();
        b.free();
        to
    }

    /// Lends the record of a slot.
    ///
    /// # Safety
    /// The slot is in use, and stays so for 'a.
    #[inline(always)]
    pub unsafe fn record<'a>(self, index: usize) -> &'a R {
        // SAFETY: the caller's promise.
        unsafe { &*self.slot(index) }
    }

    /// Exchanges the record of a slot for another with the same key; the sums are the caller's
    /// business. Writes.
    #[inline(always)]
    pub fn exchange(self, index: usize, record: R) -> R {
        let mut record = ManuallyDrop::new(record);
        let bits = self.bits(index);
        // SAFETY: the slot holds a record, which is a Handle; it is read once and written once.
        unsafe {
            (*(&raw mut record).cast::<Handle>()).set_bits(bits);
            let old = self.slot(index).read();
            self.slot(index).write(ManuallyDrop::into_inner(record));
            old
        }
    }

    /// Fetches the record of a slot.
    pub fn prefetch_at(self, index: usize) {
        R::prefetch(self.pointer(index));
    }

    /// The order of a slot's record among the segment's.
    #[inline(always)]
    pub fn order_at(self, index: usize) -> u16 {
        self.shape().order(self.bits(index))
    }

    /// The home group of a slot's record.
    #[inline(always)]
    pub fn home_at(self, index: usize) -> usize {
        self.shape().home(self.bits(index))
    }
}
