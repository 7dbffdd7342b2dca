//! A root: what leads to pages, as a page leads to segments.
//!
//! It has 2^bits entries, and doubles when a page of depth `bits` must split. That is a few kilobytes to copy while hashes
//! are spread evenly. Where they are not, as in a cluster, whose hashes begin with the slot, one dense corner would make
//! the root large for all. So a root that is large already does not grow: the page that would have to split is given a
//! root of its own, *nested* in its place, for what lies below. It goes again when it has but one page.
//!
//! Entries carry the sums of their page in the first entry of its run; that of a nested root has none, since its entries
//! have.

use super::page::{FANOUT, FANOUT_BITS, Page, PageRef, Sums};
use super::record::{HashKey, Record};
use super::segment::{MERGE_BELOW, Seg};
use crate::ds::cow::Count;
use smallvec::{SmallVec, smallvec};

/// A root of so many bits does not grow: a snapshot copies it, which is to be nothing beside all else that it does.
const BITS_MAX: u32 = if cfg!(test) { 3 } else { 12 };

/// A root in the place of a page. The count comes first, as in a page.
#[repr(C)]
pub(super) struct Nest<R: Record> {
    /// Read through [`PageRef::owners`].
    owners: Count,
    pub root: Root<R>,
}

impl<R: Record> Nest<R> {
    /// One that is owned once.
    pub fn new(root: Root<R>) -> Nest<R> {
        Nest {
            owners: Count::new(),
            root,
        }
    }
}

/// A segment that may be written, and the sums above it, if there is a page.
pub(super) struct Path<R> {
    pub seg: Seg<R>,
    pub sums: *mut Sums,
}

impl<R> Path<R> {
    #[inline(always)]
    pub fn sums(&mut self) -> Option<&mut Sums> {
        // SAFETY: null or from the root that was borrowed mutably for this path.
        unsafe { self.sums.as_mut() }
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
    /// How many bits all hashes in it have in common; 0 but for one that is nested.
    pub base: u32,
    bits: u32,
    /// How many pages are as deep as the root allows: when there are none, it halves.
    deep: u32,
    /// How many entries are roots. They count as deep.
    nests: u32,
    pub entries: Vec<RootEntry<R>>,
    /// See [`Root::copied`].
    copied: usize,
}

impl<R: Record> Root<R> {
    /// A root of one page.
    pub fn new(page: PageRef<R>, sums: Sums) -> Root<R> {
        Root::nested_at(0, RootEntry { page, sums })
    }

    fn nested_at(base: u32, entry: RootEntry<R>) -> Root<R> {
        Root {
            base,
            bits: 0,
            deep: 1,
            nests: 0,
            entries: vec![entry],
            copied: 0,
        }
    }

    /// A root of so many empty pages; a power of two.
    pub fn of_pages(pages: Vec<PageRef<R>>) -> Root<R> {
        let sums = Sums::ZERO;
        Root {
            base: 0,
            bits: pages.len().trailing_zeros(),
            deep: pages.len() as u32,
            nests: 0,
            entries: pages
                .into_iter()
                .map(|page| RootEntry { page, sums })
                .collect(),
            copied: 0,
        }
    }

    /// The bits that lead to an entry, those of all roots above included.
    pub fn depth(&self) -> u32 {
        self.base + self.bits
    }

    /// Which entry a hash belongs to.
    #[inline(always)]
    fn at(&self, hash: u64) -> usize {
        ((hash << self.base) >> 1 >> (63 - self.bits)) as usize
    }

    #[inline(always)]
    fn entry(&self, hash: u64) -> &RootEntry<R> {
        let at = self.at(hash);
        debug_assert!(at < self.entries.len());
        // SAFETY: there are 2^bits entries.
        unsafe { self.entries.get_unchecked(at) }
    }

    #[inline(always)]
    pub fn locate(&self, hash: u64) -> Seg<R> {
        let page = self.entry(hash).page;
        if page.is_nest() {
            return Self::locate_below(page, hash);
        }
        page.locate(hash)
    }

    #[cold]
    #[inline(never)]
    fn locate_below(nest: PageRef<R>, hash: u64) -> Seg<R> {
        nest.nested().locate(hash)
    }

    /// The segment of a hash, and whether what leads to it from here has one owner.
    pub fn locate_owned(&self, hash: u64) -> (Seg<R>, bool) {
        let page = self.entry(hash).page;
        match page.is_nest() {
            true => {
                let (seg, is_owned) = page.nested().locate_owned(hash);
                (seg, is_owned && page.is_unique())
            }
            false => (page.locate(hash), page.is_unique()),
        }
    }

    /// How many entries a page, or a root, fills.
    #[inline(always)]
    fn run_len(&self, page: PageRef<R>) -> usize {
        // (The tag of a root says that it is deeper than any page.)
        1 << self.depth().saturating_sub(page.depth())
    }

    /// The first entry of the run that a hash lies in.
    #[inline(always)]
    pub fn first(&self, hash: u64) -> usize {
        self.at(hash) & !(self.run_len(self.entry(hash).page) - 1)
    }

    /// Its own pages and roots, each once, with the first entry that holds it.
    fn own_runs(&self) -> impl Iterator<Item = (usize, &RootEntry<R>)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let entry = self.entries.get(at)?;
            let first = at;
            at += self.run_len(entry.page);
            Some((first, entry))
        })
    }

    /// The pages, each once, those of nested roots among them.
    pub fn runs(&self) -> impl Iterator<Item = &RootEntry<R>> {
        let mut path: SmallVec<[(&Root<R>, usize); 2]> = smallvec![(self, 0)];
        std::iter::from_fn(move || {
            loop {
                let (root, at) = path.last_mut()?;
                let Some(entry) = root.entries.get(*at) else {
                    path.pop();
                    continue;
                };
                *at += root.run_len(entry.page);
                if !entry.page.is_nest() {
                    return Some(entry);
                }
                path.push((entry.page.nested(), 0));
            }
        })
    }

    /// The page of a hash, and its sums.
    pub fn page_of(&self, hash: u64) -> (PageRef<R>, Sums) {
        let entry = &self.entries[self.first(hash)];
        match entry.page.is_nest() {
            true => entry.page.nested().page_of(hash),
            false => (entry.page, entry.sums),
        }
    }

    /// True if there are roots in it.
    pub fn has_nests(&self) -> bool {
        self.nests != 0
    }

    /// No segment is deeper, if there are no roots in it. Of a single page the truth: it may be far below the bound.
    pub fn depth_max(&self) -> u32 {
        let bound = self.depth() + FANOUT_BITS;
        match &self.entries[..] {
            [entry] if entry.page.page().deep == 0 => entry.page.depth_max(),
            _ => bound,
        }
    }

    /// Has what belongs to a nested root done there, if the hash leads to one: it is made the root's own.
    #[inline(always)]
    fn in_nest<T>(&mut self, hash: u64, f: impl FnOnce(&mut Root<R>) -> T) -> Option<T> {
        match self.entry(hash).page.is_nest() {
            true => Some(self.in_own_nest(hash, f)),
            false => None,
        }
    }

    #[cold]
    #[inline(never)]
    fn in_own_nest<T>(&mut self, hash: u64, f: impl FnOnce(&mut Root<R>) -> T) -> T {
        let at = self.at(hash);
        let mut nest = self.entries[at].page;
        if !nest.is_unique() {
            let copy = PageRef::nest(nest.nested().clone());
            nest.release();
            self.entries[at].page = copy;
            nest = copy;
        }
        let root = nest.nested_mut();
        let result = f(root);
        // All that is copied is told at the top.
        self.copied += std::mem::take(&mut root.copied);
        result
    }

    /// The segment of a hash, made the root's own.
    #[inline(always)]
    pub fn own_path(&mut self, hash: u64) -> Path<R> {
        if let Some(path) = self.in_nest(hash, |nest| nest.own_path(hash)) {
            return path;
        }
        self.own_path_here(hash)
    }

    #[inline(always)]
    fn own_path_here(&mut self, hash: u64) -> Path<R> {
        let (at, page) = self.own(hash);
        let seg = page.own(hash, &mut self.copied);
        Path {
            seg,
            sums: &raw mut self.entries[at].sums,
        }
    }

    /// Puts a segment in the place of one of the same depth, which has been freed. The way there is owned.
    pub fn replace(&mut self, hash: u64, seg: Seg<R>) {
        if self.in_nest(hash, |nest| nest.replace(hash, seg)).is_none() {
            self.own(hash).1.put(hash, seg);
        }
    }

    /// Sets the earliest deadline of the page of a hash.
    pub fn set_earliest(&mut self, hash: u64, earliest: u64) {
        if self
            .in_nest(hash, |nest| nest.set_earliest(hash, earliest))
            .is_none()
        {
            let at = self.first(hash);
            self.entries[at].sums.earliest = earliest;
        }
    }

    /// Bytes of table copied so far because a snapshot shared them.
    pub fn copied(&self) -> usize {
        self.copied
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.entries.len() * size_of::<RootEntry<R>>()
    }

    /// Bytes of it and of all roots in it.
    pub fn bytes_of_all(&self) -> usize {
        let nests = self
            .entries
            .iter()
            .filter(|e| self.nests != 0 && e.page.is_nest());
        let below: usize = nests.map(|e| e.page.nested().bytes_of_all()).sum();
        self.bytes() + below
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
    pub fn put(&mut self, at: usize, page: PageRef<R>) {
        let len = self.run_len(page);
        self.entries[at..at + len]
            .iter_mut()
            .for_each(|e| e.page = page);
    }

    /// Splits the page of a hash in two. A root that would have to be larger is doubled, or, if it is large already, has
    /// another one in the page's place.
    fn split_page(&mut self, hash: u64) {
        let (_, page) = self.own(hash);
        let depth = page.depth();
        if depth == self.depth() {
            if self.bits >= BITS_MAX {
                let at = self.at(hash);
                let sums = Sums::ZERO;
                let nest = PageRef::nest(Root::nested_at(depth, self.entries[at]));
                self.entries[at] = RootEntry { page: nest, sums };
                self.nests += 1;
                return self.in_own_nest(hash, |nest| nest.split_page(hash));
            }
            self.double();
        }
        let at = self.first(hash);
        let half = self.run_len(page) / 2;
        for (i, at) in [at, at + half].into_iter().enumerate() {
            let part = i * FANOUT / 2..(i + 1) * FANOUT / 2;
            self.entries[at].sums = page.sums(part.clone());
            let segs = std::array::from_fn(|e| page.page().segs[part.start + e / 2]);
            self.put(at, PageRef::alloc(depth + 1, segs));
        }
        page.free();
        if depth + 1 == self.depth() {
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

    /// Merges the page of a hash with its buddy if no segment is in the way, or takes it out of a root of its own. True if
    /// it did.
    pub fn merge_pages(&mut self, hash: u64) -> bool {
        if let Some(merged) = self.in_nest(hash, |nest| nest.merge_pages(hash)) {
            return merged || self.unnest(hash);
        }
        let (_, page) = self.own(hash);
        let depth = page.depth();
        if depth == self.base || page.page().deep != 0 {
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
        let half = self.run_len(page);
        let gone = std::mem::replace(&mut self.entries[at + half].sums, Sums::ZERO);
        self.entries[at].sums = self.entries[at].sums.plus(gone);
        self.put(at, PageRef::alloc(depth - 1, segs));
        low.free();
        high.free();
        if depth == self.depth() {
            self.deep -= 2;
            while self.deep == 0 && self.bits > 0 {
                self.halve();
            }
        }
        true
    }

    /// Puts a root's only page into its place.
    fn unnest(&mut self, hash: u64) -> bool {
        let at = self.at(hash);
        if self.entries[at].page.nested().bits != 0 {
            return false;
        }
        let mut root = self.entries[at].page.into_nested();
        // (Without its entry it drops nothing.)
        if let Some(entry) = root.entries.pop() {
            self.entries[at] = entry;
            self.nests -= 1;
        }
        true
    }

    fn halve(&mut self) {
        self.entries = self.entries.iter().step_by(2).copied().collect();
        self.bits -= 1;
        let deep = |(_, e): &(usize, &RootEntry<R>)| e.page.depth() == self.depth();
        self.deep = self.own_runs().filter(deep).count() as u32;
    }

    /// Splits the segment of a hash, and its page first if it has to.
    pub fn split(&mut self, hash: u64, key: &HashKey) {
        if self.in_nest(hash, |nest| nest.split(hash, key)).is_some() {
            return;
        }
        let (_, page) = self.own(hash);
        let depth = page.own(hash, &mut self.copied).depth();
        if depth == page.depth() + FANOUT_BITS {
            self.split_page(hash);
            return self.split(hash, key);
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
    pub fn merge(&mut self, hash: u64) -> bool {
        if let Some(merged) = self.in_nest(hash, |nest| nest.merge(hash)) {
            return merged;
        }
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
        let is_deep = |e: &RootEntry<R>| e.page.is_nest() || e.page.depth() == self.depth();
        let deep = self.own_runs().filter(|(_, e)| is_deep(e)).count();
        let nests = self.entries.iter().filter(|e| e.page.is_nest());
        assert_eq!(
            (self.deep as usize, self.nests as usize),
            (deep, nests.count())
        );
        assert!(self.bits == 0 || deep > 0, "the root could halve");
        assert!(self.base == 0 || self.bits > 0, "the root could go");
        for (at, entry) in self.own_runs() {
            let len = self.run_len(entry.page);
            assert_eq!(at % len, 0);
            for e in &self.entries[at + 1..at + len] {
                assert!(e.page == entry.page && e.sums == Sums::ZERO);
            }
            if entry.page.is_nest() {
                assert_eq!(entry.sums, Sums::ZERO);
                assert_eq!(entry.page.nested().base, self.depth());
                entry.page.nested().check();
                continue;
            }
            let full = entry.page.depth() + FANOUT_BITS;
            let deep = entry.page.runs().filter(|(_, s)| s.depth() == full).count();
            assert_eq!(entry.page.page().deep as usize, deep);
        }
    }
}

impl<R: Record> Clone for Root<R> {
    fn clone(&self) -> Self {
        self.own_runs().for_each(|(_, e)| e.page.retain());
        Root {
            base: self.base,
            bits: self.bits,
            deep: self.deep,
            nests: self.nests,
            entries: self.entries.clone(),
            copied: self.copied + self.bytes(),
        }
    }
}

impl<R: Record> Drop for Root<R> {
    fn drop(&mut self) {
        self.own_runs().for_each(|(_, e)| e.page.release());
    }
}
