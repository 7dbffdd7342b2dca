//! A page: the segments of all hashes that begin with the same `depth` bits, found by the next 8.

use super::record::Record;
use super::root::{Nest, Root};
use super::segment::{NEVER, Seg};
use crate::ds::cow::Count;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Entries of a page.
pub(super) const FANOUT: usize = 256;
pub(super) const FANOUT_BITS: u32 = FANOUT.trailing_zeros();

/// What the hashes with the same first `depth` bits differ in.
pub(super) fn below(depth: u32) -> u64 {
    u64::MAX.checked_shr(depth).unwrap_or(0)
}

/// The place behind all those with the same `depth` bits; `None` at the end.
pub(super) fn behind(depth: u32, position: u64) -> Option<u64> {
    (position | below(depth)).checked_add(1)
}

/// The sums over a page, or a dict that is one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sums {
    pub keys: u32,
    pub ttls: u32,
    /// A lower bound of the deadlines.
    pub earliest: u64,
}

impl Sums {
    pub const ZERO: Sums = Sums {
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

    pub fn plus(self, other: Sums) -> Sums {
        Sums {
            keys: self.keys + other.keys,
            ttls: self.ttls + other.ttls,
            earliest: self.earliest.min(other.earliest),
        }
    }
}

#[repr(C)]
pub(super) struct Page<R> {
    /// Read through [`PageRef::owners`].
    owners: Count,
    /// How many segments are as deep as the page allows: while there are any, it cannot merge.
    pub deep: u32,
    pub segs: [Seg<R>; FANOUT],
}

/// The depth that stands with a pointer to a root below.
const NEST: u32 = 1 << 15;

/// A pointer to a page, and its depth in the upper 16 bits: a bare reference, like `Seg`. Or to a root that is nested in
/// another (`root`), with a depth that no page has.
pub(super) struct PageRef<R>(pub(super) NonNull<Page<R>>, PhantomData<R>);

impl<R> Clone for PageRef<R> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for PageRef<R> {}

impl<R> PartialEq for PageRef<R> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

// As with Seg, module-private methods that lean on one invariant: a PageRef met in a borrowed root is alive,
// and `page_mut` is only called with the root and the page unique and mutably borrowed.
impl<R: Record> PageRef<R> {
    pub fn alloc(depth: u32, segs: [Seg<R>; FANOUT]) -> PageRef<R> {
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
        PageRef::tagged(p, depth)
    }

    fn tagged(p: NonNull<Page<R>>, depth: u32) -> PageRef<R> {
        assert!(p.addr().get() >> 48 == 0, "an address beyond 48 bits");
        PageRef(p.map_addr(|a| a | ((depth as usize) << 48)), PhantomData)
    }

    /// A root in the place of a page.
    pub fn nest(root: Root<R>) -> PageRef<R> {
        let p = NonNull::from(Box::leak(Box::new(Nest::new(root))));
        PageRef::tagged(p.cast(), NEST)
    }

    /// True if this is a root.
    #[inline(always)]
    pub fn is_nest(self) -> bool {
        self.depth() & NEST != 0
    }

    /// The root that this is.
    #[inline(always)]
    pub fn nested<'a>(self) -> &'a Root<R> {
        debug_assert!(self.is_nest());
        // SAFETY: alive like a page; the tag says that it was made by `nest`.
        unsafe { &(*self.ptr().cast::<Nest<R>>()).root }
    }

    /// The same for writing. Writes.
    #[inline(always)]
    pub fn nested_mut<'a>(self) -> &'a mut Root<R> {
        debug_assert!(self.is_nest());
        // SAFETY: as above, unique and mutably borrowed like a page that is written.
        unsafe { &mut (*self.ptr().cast::<Nest<R>>()).root }
    }

    /// Takes the root back, whose only owner this is.
    pub fn into_nested(self) -> Root<R> {
        debug_assert!(self.is_nest() && self.is_unique());
        // SAFETY: made by `nest`; the caller gives up the only reference.
        unsafe { Box::from_raw(self.ptr().cast::<Nest<R>>()) }.root
    }

    #[inline(always)]
    fn owners<'a>(self) -> &'a Count {
        // SAFETY: alive; the count comes first in both.
        unsafe { &*self.ptr().cast::<Count>() }
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
    pub fn page_mut<'a>(self) -> &'a mut Page<R> {
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

    /// The depth of its deepest segment.
    pub fn depth_max(self) -> u32 {
        self.runs().map(|(_, seg)| seg.depth()).max().unwrap_or(0)
    }

    /// The number of entries that a segment of that depth fills.
    fn run_len(self, depth: u32) -> usize {
        1 << (self.depth() + FANOUT_BITS - depth)
    }

    /// Puts a segment into the run of entries it covers. Writes.
    pub fn put(self, hash: u64, seg: Seg<R>) {
        let len = self.run_len(seg.depth());
        let first = self.entry(hash) & !(len - 1);
        self.page_mut().segs[first..first + len].fill(seg);
    }

    pub fn retain(self) {
        self.owners().inc();
    }

    pub fn is_unique(self) -> bool {
        self.owners().is_unique()
    }

    /// One owner fewer; the last one lets go of the segments.
    pub fn release(self) {
        // SAFETY: the caller gives up a reference it had counted.
        if !unsafe { self.owners().dec() } {
            return;
        }
        if self.is_nest() {
            // SAFETY: the last owner; made by `nest`.
            drop(unsafe { Box::from_raw(self.ptr().cast::<Nest<R>>()) });
        } else {
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
    pub fn copied(self) -> PageRef<R> {
        self.runs().for_each(|(_, seg)| seg.prefetch_head());
        self.runs().for_each(|(_, seg)| seg.retain());
        let copy = PageRef::alloc(self.depth(), self.page().segs);
        self.release();
        copy
    }

    /// The segment for a hash, made the page's own; what that copies is added up. Writes.
    #[inline(always)]
    pub fn own(self, hash: u64, copied: &mut usize) -> Seg<R> {
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
        behind(self.depth(), position)
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
