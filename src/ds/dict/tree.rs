//! The way from a hash to its segment: a root of pages of segments.
//!
//! A *page* covers the hashes that begin with its prefix of `depth` bits, and has 256 entries, one for each
//! value of the 8 bits below. A segment that is shallower than the page's entries fills a run of them. A segment
//! that would have to be deeper makes its page split in two. The *root* is to its pages what a page is to its
//! segments, but grows: 2^bits entries, doubled (a few kilobytes copied) when a page of depth `bits` must split.
//! So nothing ever costs more than a root, a page and a segment, each small, and the way back is the same:
//! buddies merge, pages with them, and the root halves.
//!
//! Entries of the root carry the sums of their page (keys, keys that expire, earliest deadline), in the first
//! entry of a run. Whoever looks for a random key, or for expired ones, reads them in sequence.
//!
//! A dict of one segment has neither root nor page, and an empty one nothing at all.
//!
//! Ownership: a page is counted once per root that holds it (not per entry of its run), a segment once per page.

use super::record::{HashKey, Record};
use super::segment::{DEPTH_MAX, KEYS_MAX, MERGE_BELOW, NEVER, Seg};
use crate::ds::cow::{Count, Shared};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

/// Entries of a page.
pub(super) const FANOUT: usize = 256;
const FANOUT_BITS: u32 = FANOUT.trailing_zeros();

/// The sums over a page, or a dict that is one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sums {
    pub keys: u32,
    pub ttls: u32,
    /// A lower bound of the deadlines.
    pub earliest: u64,
}

impl Sums {
    const ZERO: Sums = Sums {
        keys: 0,
        ttls: 0,
        earliest: NEVER,
    };

    #[inline(always)]
    pub fn add_deadline(&mut self, at: u64) {
        self.ttls += 1;
        self.earliest = self.earliest.min(at);
    }

    #[inline(always)]
    pub fn drop_deadline(&mut self) {
        self.ttls -= 1;
        if self.ttls == 0 {
            self.earliest = NEVER;
        }
    }

    fn plus(self, other: Sums) -> Sums {
        Sums {
            keys: self.keys + other.keys,
            ttls: self.ttls + other.ttls,
            earliest: self.earliest.min(other.earliest),
        }
    }
}

#[repr(C)]
pub(super) struct Page<R> {
    owners: Count,
    /// How many segments are as deep as the page allows: while there are any, it cannot merge.
    deep: u32,
    pub segs: [Seg<R>; FANOUT],
}

/// A pointer to a page, and its depth in the upper 16 bits: a bare reference, like `Seg`.
pub(super) struct PageRef<R>(NonNull<Page<R>>, PhantomData<R>);

impl<R> Clone for PageRef<R> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for PageRef<R> {}

// As with Seg, module-private methods that lean on one invariant: a PageRef met in a borrowed root is alive,
// and `page_mut` is only called with the root and the page unique and mutably borrowed.
impl<R: Record> PageRef<R> {
    fn alloc(depth: u32, segs: [Seg<R>; FANOUT]) -> PageRef<R> {
        // Only segments of the full depth have a run of one.
        let deep = segs
            .iter()
            .filter(|s| s.depth() == depth + FANOUT_BITS)
            .count() as u32;
        let page = Page {
            owners: Count::new(),
            deep,
            segs,
        };
        let p = NonNull::from(Box::leak(Box::new(page)));
        assert!(p.addr().get() >> 48 == 0, "an address beyond 48 bits");
        PageRef(p.map_addr(|a| a | ((depth as usize) << 48)), PhantomData)
    }

    #[inline(always)]
    pub fn depth(self) -> u32 {
        (self.0.addr().get() >> 48) as u32
    }

    #[inline(always)]
    fn ptr(self) -> *mut Page<R> {
        self.0.as_ptr().map_addr(|a| a & ((1 << 48) - 1))
    }

    #[inline(always)]
    pub fn page<'a>(self) -> &'a Page<R> {
        // SAFETY: alive, see above; written only through `page_mut`.
        unsafe { &*self.ptr() }
    }

    #[inline(always)]
    fn page_mut<'a>(self) -> &'a mut Page<R> {
        // SAFETY: alive, unique and mutably borrowed, see above.
        unsafe { &mut *self.ptr() }
    }

    /// The entry for a hash.
    #[inline(always)]
    fn entry(self, hash: u64) -> usize {
        ((hash << self.depth()) >> (64 - FANOUT_BITS)) as usize
    }

    #[inline(always)]
    pub fn locate(self, hash: u64) -> Seg<R> {
        self.page().segs[self.entry(hash)]
    }

    /// The segments of the page, each once, with its first entry.
    pub fn runs(self) -> Runs<R> {
        Runs { page: self, at: 0 }
    }

    /// The number of entries that a segment of that depth fills.
    fn run_len(self, depth: u32) -> usize {
        1 << (self.depth() + FANOUT_BITS - depth)
    }

    /// Puts a segment into the run of entries it covers. Writes.
    fn put(self, hash: u64, seg: Seg<R>) {
        let len = self.run_len(seg.depth());
        let first = self.entry(hash) & !(len - 1);
        self.page_mut().segs[first..first + len].fill(seg);
    }

    pub fn retain(self) {
        self.page().owners.inc();
    }

    pub fn is_unique(self) -> bool {
        self.page().owners.is_unique()
    }

    /// One owner fewer; the last one lets go of the segments.
    pub fn release(self) {
        // SAFETY: the caller gives up a reference it had counted.
        if unsafe { self.page().owners.dec() } {
            self.runs().for_each(|(_, seg)| seg.release());
            self.free();
        }
    }

    /// Gives the page back, whose segments have moved elsewhere.
    pub fn free(self) {
        // SAFETY: the last owner; it came from a Box.
        drop(unsafe { Box::from_raw(self.ptr()) });
    }

    /// A page with the same segments, one more owner for each, in exchange for a reference to this.
    #[cold]
    #[inline(never)]
    fn copied(self) -> PageRef<R> {
        self.runs().for_each(|(_, seg)| seg.prefetch_head());
        self.runs().for_each(|(_, seg)| seg.retain());
        let copy = PageRef::alloc(self.depth(), self.page().segs);
        self.release();
        copy
    }

    /// The segment for a hash, made the page's own; what that copies is added up. Writes.
    #[inline(always)]
    fn own(self, hash: u64, copied: &mut usize) -> Seg<R> {
        let seg = self.locate(hash);
        if seg.is_unique() {
            seg
        } else {
            self.own_copy(hash, seg, copied)
        }
    }

    #[cold]
    #[inline(never)]
    fn own_copy(self, hash: u64, seg: Seg<R>, copied: &mut usize) -> Seg<R> {
        *copied += seg.bytes();
        let copy = seg.copy();
        seg.release();
        self.put(hash, copy);
        copy
    }

    /// Where the hashes begin that follow those of the page at a position.
    pub fn end(self, position: u64) -> Option<u64> {
        let below = u64::MAX.checked_shr(self.depth()).unwrap_or(0);
        (position | below).checked_add(1)
    }

    /// Fetches the headers of the segments from a position on.
    pub fn prefetch(self, position: u64) {
        let from = self.entry(position);
        self.runs()
            .filter(|&(at, _)| at >= from)
            .for_each(|(_, seg)| seg.prefetch_head());
    }

    /// The sums over a part of the entries.
    pub fn sums(self, entries: std::ops::Range<usize>) -> Sums {
        let segs = || {
            self.runs()
                .filter(|(at, _)| entries.contains(at))
                .map(|(_, s)| s)
        };
        segs().for_each(Seg::prefetch_head);
        segs().fold(Sums::ZERO, |sums, s| {
            sums.plus(Sums {
                keys: s.keys() as u32,
                ttls: s.ttls() as u32,
                earliest: s.earliest(),
            })
        })
    }
}

/// See `PageRef::runs`.
pub(super) struct Runs<R> {
    page: PageRef<R>,
    at: usize,
}

impl<R: Record> Iterator for Runs<R> {
    type Item = (usize, Seg<R>);
    #[inline(always)]
    fn next(&mut self) -> Option<(usize, Seg<R>)> {
        let seg = *self.page.page().segs.get(self.at)?;
        let first = self.at;
        self.at += self.page.run_len(seg.depth());
        Some((first, seg))
    }
}

pub(super) struct RootEntry<R> {
    pub page: PageRef<R>,
    /// Of the whole page, in the first entry of its run.
    pub sums: Sums,
}

impl<R> Clone for RootEntry<R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for RootEntry<R> {}

pub(super) struct Root<R: Record> {
    bits: u32,
    /// How many pages are as deep as the root allows: when there are none, it halves.
    deep: u32,
    entries: Vec<RootEntry<R>>,
    /// See [`Root::copied`].
    copied: usize,
}

impl<R: Record> Root<R> {
    fn new(page: PageRef<R>, sums: Sums) -> Root<R> {
        Root {
            bits: 0,
            deep: 1,
            entries: vec![RootEntry { page, sums }],
            copied: 0,
        }
    }

    #[inline(always)]
    fn entry(&self, hash: u64) -> &RootEntry<R> {
        let at = (hash >> 1 >> (63 - self.bits)) as usize;
        debug_assert!(at < self.entries.len());
        // SAFETY: there are 2^bits entries.
        unsafe { self.entries.get_unchecked(at) }
    }

    #[inline(always)]
    pub fn locate(&self, hash: u64) -> Seg<R> {
        self.entry(hash).page.locate(hash)
    }

    fn run_len(&self, depth: u32) -> usize {
        1 << (self.bits - depth)
    }

    /// The first entry of the run that a hash lies in.
    #[inline(always)]
    fn first(&self, hash: u64) -> usize {
        let at = (hash >> 1 >> (63 - self.bits)) as usize;
        at & !(self.run_len(self.entry(hash).page.depth()) - 1)
    }

    /// The pages, each once, with the first entry that holds it: there the sums are.
    pub fn runs(&self) -> impl Iterator<Item = (usize, &RootEntry<R>)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let entry = self.entries.get(at)?;
            let first = at;
            at += self.run_len(entry.page.depth());
            Some((first, entry))
        })
    }

    /// The page of a hash, and its sums.
    pub fn page_of(&self, hash: u64) -> (PageRef<R>, Sums) {
        let entry = &self.entries[self.first(hash)];
        (entry.page, entry.sums)
    }

    /// Bytes of table copied so far because a snapshot shared them.
    pub fn copied(&self) -> usize {
        self.copied
    }

    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.entries.len() * size_of::<RootEntry<R>>()
    }

    /// The page of a hash, made the root's own, and its first entry.
    #[inline(always)]
    fn own(&mut self, hash: u64) -> (usize, PageRef<R>) {
        let at = self.first(hash);
        let page = self.entries[at].page;
        if page.is_unique() {
            (at, page)
        } else {
            (at, self.own_copy(at, page))
        }
    }

    #[cold]
    #[inline(never)]
    fn own_copy(&mut self, at: usize, page: PageRef<R>) -> PageRef<R> {
        let copy = page.copied();
        self.copied += size_of::<Page<R>>();
        self.put(at, copy);
        copy
    }

    /// Points the run that begins at an entry to a page.
    fn put(&mut self, at: usize, page: PageRef<R>) {
        let len = self.run_len(page.depth());
        self.entries[at..at + len]
            .iter_mut()
            .for_each(|e| e.page = page);
    }

    /// Splits the page of a hash in two, doubling the root if it has to.
    fn split_page(&mut self, hash: u64) {
        let (_, page) = self.own(hash);
        let depth = page.depth();
        if depth == self.bits {
            self.double();
        }
        let at = self.first(hash);
        let half = self.run_len(depth) / 2;
        for (i, at) in [at, at + half].into_iter().enumerate() {
            let part = i * FANOUT / 2..(i + 1) * FANOUT / 2;
            self.entries[at].sums = page.sums(part.clone());
            let segs = std::array::from_fn(|e| page.page().segs[part.start + e / 2]);
            self.put(at, PageRef::alloc(depth + 1, segs));
        }
        page.free();
        if depth + 1 == self.bits {
            self.deep += 2;
        }
    }

    fn double(&mut self) {
        let twice = |e: &RootEntry<R>| {
            [
                *e,
                RootEntry {
                    sums: Sums::ZERO,
                    ..*e
                },
            ]
        };
        self.entries = self.entries.iter().flat_map(twice).collect();
        self.bits += 1;
        self.deep = 0;
    }

    /// Merges the page of a hash with its buddy if no segment is in the way. True if it did.
    fn merge_pages(&mut self, hash: u64) -> bool {
        let (_, page) = self.own(hash);
        let depth = page.depth();
        if depth == 0 || page.page().deep != 0 {
            return false;
        }
        let buddy = hash ^ (1 << (64 - depth));
        let other = self.entry(buddy).page;
        if other.depth() != depth || other.page().deep != 0 {
            return false;
        }
        let (other_at, other) = self.own(buddy);
        let at = self.first(hash);
        let (at, low, high) = if at < other_at {
            (at, page, other)
        } else {
            (other_at, other, page)
        };
        let segs = std::array::from_fn(|e| {
            if e < FANOUT / 2 {
                low.page().segs[2 * e]
            } else {
                high.page().segs[2 * e - FANOUT]
            }
        });
        let half = self.run_len(depth);
        let gone = std::mem::replace(&mut self.entries[at + half].sums, Sums::ZERO);
        self.entries[at].sums = self.entries[at].sums.plus(gone);
        self.put(at, PageRef::alloc(depth - 1, segs));
        low.free();
        high.free();
        if depth == self.bits {
            self.deep -= 2;
            while self.deep == 0 && self.bits > 0 {
                self.halve();
            }
        }
        true
    }

    fn halve(&mut self) {
        self.entries = self.entries.iter().step_by(2).copied().collect();
        self.bits -= 1;
        self.deep = self
            .runs()
            .filter(|(_, e)| e.page.depth() == self.bits)
            .count() as u32;
    }

    /// Splits the segment of a hash, and its page first if it has to.
    fn split(&mut self, hash: u64, key: &HashKey) {
        let (_, mut page) = self.own(hash);
        let depth = page.own(hash, &mut self.copied).depth();
        if depth == page.depth() + FANOUT_BITS {
            self.split_page(hash);
            page = self.own(hash).1;
        }
        let bit = 1 << (63 - depth);
        let [low, high] = page.own(hash, &mut self.copied).split(key);
        page.put(hash & !bit, low);
        page.put(hash | bit, high);
        if depth + 1 == page.depth() + FANOUT_BITS {
            page.page_mut().deep += 2;
        }
    }

    /// Merges the segment of a hash with its buddy if they are nearly empty. True if it did.
    fn merge(&mut self, hash: u64) -> bool {
        let (_, page) = self.own(hash);
        let seg = page.own(hash, &mut self.copied);
        let depth = seg.depth();
        if depth == page.depth() {
            return false;
        }
        let other = hash ^ (1 << (64 - depth));
        let buddy = page.locate(other);
        if buddy.depth() != depth || seg.keys() + buddy.keys() >= MERGE_BELOW {
            return false;
        }
        let buddy = page.own(other, &mut self.copied);
        let prefix = hash & !(u64::MAX >> depth);
        page.put(hash, Seg::merge(seg, buddy, prefix));
        if depth == page.depth() + FANOUT_BITS {
            page.page_mut().deep -= 2;
        }
        true
    }
}

#[cfg(test)]
impl<R: Record> Root<R> {
    /// That entries and counters agree.
    pub fn check(&self) {
        assert_eq!(self.entries.len(), 1 << self.bits);
        let deep = self
            .runs()
            .filter(|(_, e)| e.page.depth() == self.bits)
            .count();
        assert_eq!(self.deep as usize, deep);
        assert!(self.bits == 0 || deep > 0, "the root could halve");
        for (at, entry) in self.runs() {
            let len = self.run_len(entry.page.depth());
            assert_eq!(at % len, 0);
            for e in &self.entries[at + 1..at + len] {
                assert!(e.page.0 == entry.page.0 && e.sums == Sums::ZERO);
            }
            let full = entry.page.depth() + FANOUT_BITS;
            let deep = entry.page.runs().filter(|(_, s)| s.depth() == full).count();
            assert_eq!(entry.page.page().deep as usize, deep);
        }
    }
}

impl<R: Record> Clone for Root<R> {
    fn clone(&self) -> Self {
        self.runs().for_each(|(_, e)| e.page.retain());
        Root {
            bits: self.bits,
            deep: self.deep,
            entries: self.entries.clone(),
            copied: self.copied + self.bytes(),
        }
    }
}

impl<R: Record> Drop for Root<R> {
    fn drop(&mut self) {
        self.runs().for_each(|(_, e)| e.page.release());
    }
}

/// What a dict stands on.
pub(super) enum Top<R: Record> {
    Empty,
    Small(Seg<R>),
    Tree(Shared<Root<R>>),
}

/// A segment that may be written, and the sums above it, if there is a page.
pub(super) struct Path<R> {
    pub seg: Seg<R>,
    sums: *mut Sums,
}

impl<R> Path<R> {
    #[inline(always)]
    pub fn sums(&mut self) -> Option<&mut Sums> {
        // SAFETY: null or from the root that was borrowed mutably for this path.
        unsafe { self.sums.as_mut() }
    }
}

impl<R: Record> Top<R> {
    /// The top of an empty table with room for so many records, nearly as their number alone would have shaped it.
    pub fn with_room(keys: usize) -> Top<R> {
        // Of segments that have this many on the average, few have to split.
        const AVERAGE_MAX: usize = KEYS_MAX - KEYS_MAX / 20;
        let mut depth = 0;
        while keys >> depth > AVERAGE_MAX && depth < u32::from(DEPTH_MAX) {
            depth += 1;
        }
        let make = || Seg::for_about(depth, keys >> depth);
        if keys == 0 {
            return Top::Empty;
        }
        if depth == 0 {
            return Top::Small(make());
        }
        let bits = depth.saturating_sub(FANOUT_BITS);
        let run = 1 << (bits + FANOUT_BITS - depth);
        let mut entries = Vec::with_capacity(1 << bits);
        for _ in 0..1u32 << bits {
            let segs: Vec<Seg<R>> = (0..FANOUT / run).map(|_| make()).collect();
            entries.push(RootEntry {
                page: PageRef::alloc(bits, std::array::from_fn(|i| segs[i / run])),
                sums: Sums::ZERO,
            });
        }
        Top::Tree(Shared::new(Root {
            bits,
            deep: 1 << bits,
            entries,
            copied: 0,
        }))
    }

    /// The segment that a hash lies in.
    #[inline(always)]
    pub fn locate(&self, hash: u64) -> Option<Seg<R>> {
        match self {
            Top::Tree(root) => Some(root.locate(hash)),
            Top::Small(seg) => Some(*seg),
            Top::Empty => None,
        }
    }

    /// The segment that a hash lies in, and whether the page that leads to it has one owner.
    pub fn locate_owned(&self, hash: u64) -> Option<(Seg<R>, bool)> {
        match self {
            Top::Tree(root) => {
                let page = root.entry(hash).page;
                Some((page.locate(hash), page.is_unique()))
            }
            Top::Small(seg) => Some((*seg, true)),
            Top::Empty => None,
        }
    }

    /// The segment that a hash lies in, for writing: root, page and segment are copied if shared.
    #[inline(always)]
    pub fn own(&mut self, hash: u64) -> Path<R> {
        match self {
            Top::Tree(root) => {
                let root = Shared::make_mut(root);
                let (at, page) = root.own(hash);
                let seg = page.own(hash, &mut root.copied);
                Path {
                    seg,
                    sums: &raw mut root.entries[at].sums,
                }
            }
            Top::Small(seg) => {
                if !seg.is_unique() {
                    let copy = seg.copy();
                    seg.release();
                    *seg = copy;
                }
                Path {
                    seg: *seg,
                    sums: ptr::null_mut(),
                }
            }
            Top::Empty => {
                let seg = Seg::first();
                *self = Top::Small(seg);
                Path {
                    seg,
                    sums: ptr::null_mut(),
                }
            }
        }
    }

    /// Makes room in the segment of a hash, which is full: a larger one, or two.
    #[cold]
    #[inline(never)]
    pub fn grow(&mut self, hash: u64, key: &HashKey) {
        let seg = self.own(hash).seg;
        if let Some(larger) = seg.resized() {
            return self.replace(hash, larger);
        }
        if let Top::Small(seg) = *self {
            let sums = Sums {
                keys: seg.keys() as u32,
                ttls: seg.ttls() as u32,
                earliest: seg.earliest(),
            };
            let page = PageRef::alloc(0, [seg; FANOUT]);
            // The segment's one reference is the page's now.
            std::mem::forget(std::mem::replace(
                self,
                Top::Tree(Shared::new(Root::new(page, sums))),
            ));
        }
        if let Top::Tree(root) = self {
            Shared::make_mut(root).split(hash, key);
        }
    }

    /// Puts a segment in the place of one of the same depth, which has been freed. The way there is
    /// owned.
    fn replace(&mut self, hash: u64, seg: Seg<R>) {
        match self {
            Top::Tree(root) => Shared::make_mut(root).own(hash).1.put(hash, seg),
            Top::Small(place) => *place = seg,
            Top::Empty => unreachable!("an empty dict has no segment to replace"),
        }
    }

    /// After a removal: lets the table follow its content down.
    #[cold]
    #[inline(never)]
    pub fn shrink(&mut self, hash: u64) {
        if let Top::Tree(root) = self {
            let root = Shared::make_mut(root);
            while root.merge(hash) || root.merge_pages(hash) {}
            let seg = root.locate(hash);
            if seg.depth() == 0 {
                // The only one: it needs neither page nor root, which drop with the old value.
                seg.retain();
                *self = Top::Small(seg);
            }
        }
        let seg = self.own(hash).seg;
        if seg.keys() == 0 && matches!(self, Top::Small(_)) {
            *self = Top::Empty;
        } else if seg.is_sparse()
            && let Some(smaller) = seg.resized()
        {
            self.replace(hash, smaller);
        }
    }

    /// Makes the earliest deadline of a page what its segments say.
    pub fn tighten(&mut self, hash: u64) {
        if let Top::Tree(root) = self {
            let (page, sums) = root.page_of(hash);
            let earliest = page.sums(0..FANOUT).earliest;
            if earliest != sums.earliest {
                let root = Shared::make_mut(root);
                let at = root.first(hash);
                root.entries[at].sums.earliest = earliest;
            }
        }
    }

    /// Calls f with every segment.
    pub fn each_segment(&self, mut f: impl FnMut(Seg<R>)) {
        match self {
            Top::Tree(root) => root
                .runs()
                .for_each(|(_, e)| e.page.runs().for_each(|(_, seg)| f(seg))),
            Top::Small(seg) => f(*seg),
            Top::Empty => {}
        }
    }

    /// No segment is deeper.
    pub fn depth_max(&self) -> u32 {
        match self {
            Top::Tree(root) => root.bits + FANOUT_BITS,
            _ => 0,
        }
    }

    /// A lower bound of all deadlines.
    pub fn earliest(&self) -> u64 {
        match self {
            Top::Tree(root) => root
                .runs()
                .map(|(_, e)| e.sums.earliest)
                .min()
                .unwrap_or(NEVER),
            Top::Small(seg) => seg.earliest(),
            Top::Empty => NEVER,
        }
    }
}

impl<R: Record> Clone for Top<R> {
    fn clone(&self) -> Self {
        match self {
            Top::Tree(root) => Top::Tree(root.clone()),
            Top::Small(seg) => {
                seg.retain();
                Top::Small(*seg)
            }
            Top::Empty => Top::Empty,
        }
    }
}

impl<R: Record> Drop for Top<R> {
    fn drop(&mut self) {
        if let Top::Small(seg) = self {
            seg.release();
        }
    }
}
