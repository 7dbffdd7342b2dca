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

use super::page::{FANOUT, FANOUT_BITS, PageRef, Sums};
use super::record::{HashKey, Record};
use super::root::{Path, Root};
use super::segment::{DEPTH_MAX, KEYS_MAX, NEVER, Seg};
use crate::ds::cow::Shared;
use std::ptr;

/// What a dict stands on.
pub(super) enum Top<R: Record> {
    Empty,
    Small(Seg<R>),
    Tree(Shared<Root<R>>),
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
        let page = |_| {
            let segs: Vec<Seg<R>> = (0..FANOUT / run).map(|_| make()).collect();
            PageRef::alloc(bits, std::array::from_fn(|i| segs[i / run]))
        };
        let pages = (0..1u32 << bits).map(page).collect();
        Top::Tree(Shared::new(Root::of_pages(pages)))
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
            Top::Tree(root) => Some(root.locate_owned(hash)),
            Top::Small(seg) => Some((*seg, true)),
            Top::Empty => None,
        }
    }

    /// The segment that a hash lies in, for writing: root, page and segment are copied if shared.
    #[inline(always)]
    pub fn own(&mut self, hash: u64) -> Path<R> {
        match self {
            Top::Tree(root) => Shared::make_mut(root).own_path(hash),
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
            Top::Tree(root) => Shared::make_mut(root).replace(hash, seg),
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
                Shared::make_mut(root).set_earliest(hash, earliest);
            }
        }
    }

    /// Calls f with every segment.
    pub fn each_segment(&self, mut f: impl FnMut(Seg<R>)) {
        match self {
            Top::Tree(root) => root
                .runs()
                .for_each(|e| e.page.runs().for_each(|(_, seg)| f(seg))),
            Top::Small(seg) => f(*seg),
            Top::Empty => {}
        }
    }

    /// True if some corner is much denser than the rest.
    pub fn has_nests(&self) -> bool {
        matches!(self, Top::Tree(root) if root.has_nests())
    }

    /// No segment is deeper, unless it [`has_nests`](Self::has_nests).
    pub fn depth_max(&self) -> u32 {
        match self {
            Top::Tree(root) => root.depth_max(),
            _ => 0,
        }
    }

    /// A lower bound of all deadlines.
    pub fn earliest(&self) -> u64 {
        match self {
            Top::Tree(root) => root.runs().map(|e| e.sums.earliest).min().unwrap_or(NEVER),
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
