//! Walks over all records: a borrowing one, and one that consumes a snapshot.

use super::Dict;
use super::group::{Bits, GROUP};
use super::page::{Page, PageRef};
use super::record::Record;
use super::segment::Seg;
use super::tree::Top;

/// A place in a segment, with the records of the groups to come fetched ahead.
struct Place<R> {
    seg: Seg<R>,
    /// The next group to fetch the records of; two behind it is the group after the present one.
    fetch: usize,
    group: usize,
    mask: u32,
}

const AHEAD: usize = 2;

impl<R: Record> Place<R> {
    fn new(seg: Seg<R>) -> Place<R> {
        let mut place = Place {
            seg,
            fetch: 0,
            group: 0,
            mask: 0,
        };
        (0..AHEAD).for_each(|_| place.fetch_ahead());
        place.mask = seg.used(0);
        place
    }

    fn fetch_ahead(&mut self) {
        if self.fetch < self.seg.shape().groups() {
            Bits(self.seg.used(self.fetch))
                .for_each(|i| self.seg.prefetch_at(self.fetch * GROUP + i));
            self.fetch += 1;
        }
    }

    /// The index of the next slot in use.
    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.mask == 0 {
            if self.group + 1 == self.seg.shape().groups() {
                return None;
            }
            self.group += 1;
            self.mask = self.seg.used(self.group);
            self.fetch_ahead();
        }
        let i = self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        Some(self.group * GROUP + i)
    }
}

/// All records of a borrowed dict, in the order of their segments.
pub struct Iter<'a, R: Record> {
    dict: &'a Dict<R>,
    place: Option<Place<R>>,
    /// Where the next segment begins.
    next: Option<u64>,
}

impl<R: Record> Dict<R> {
    /// All records.
    pub fn iter(&self) -> Iter<'_, R> {
        Iter {
            dict: self,
            place: None,
            next: Some(0),
        }
    }

    /// A walk that consumes the dict, which should be a snapshot: see [`Walk`].
    pub fn into_walk(self) -> Walk<R> {
        Walk::new(self)
    }
}

impl<'a, R: Record> Iterator for Iter<'a, R> {
    type Item = &'a R;
    #[inline]
    fn next(&mut self) -> Option<&'a R> {
        loop {
            if let Some(place) = &mut self.place
                && let Some(index) = place.next()
            {
                // SAFETY: in use, and the dict is borrowed for 'a.
                return Some(unsafe { place.seg.record(index) });
            }
            let (seg, next) = self.dict.segment_at(self.next?)?;
            self.place = Some(Place::new(seg));
            self.next = next;
        }
    }
}

impl<'a, R: Record> IntoIterator for &'a Dict<R> {
    type Item = &'a R;
    type IntoIter = Iter<'a, R>;
    fn into_iter(self) -> Iter<'a, R> {
        self.iter()
    }
}

/// A saver's walk: it owns a snapshot and lets go of each page and segment once it has passed it, so that
/// the writers beside it copy as little as possible. Dropping it halfway lets go of the rest.
pub struct Walk<R: Record> {
    /// What is left, the first at the end.
    pages: Vec<PageRef<R>>,
    segs: Vec<Seg<R>>,
    place: Option<Place<R>>,
    /// Records not yet returned.
    left: usize,
    /// See [`Walk::let_go`].
    let_go: usize,
}

// SAFETY: as for Dict: a Walk owns references that are counted.
unsafe impl<R: Record + Send + Sync> Send for Walk<R> {}

impl<R: Record> Walk<R> {
    fn new(mut dict: Dict<R>) -> Walk<R> {
        let mut walk = Walk {
            pages: Vec::new(),
            segs: Vec::new(),
            place: None,
            left: dict.len,
            let_go: 0,
        };
        match std::mem::replace(&mut dict.top, Top::Empty) {
            Top::Empty => {}
            Top::Small(seg) => {
                seg.retain();
                walk.segs.push(seg);
            }
            Top::Tree(ref root) => {
                walk.pages.reserve_exact(root.runs().count());
                for entry in root.runs() {
                    entry.page.retain();
                    walk.pages.push(entry.page);
                }
                walk.pages.reverse();
            }
        }
        walk
    }

    /// Records still to come.
    pub fn left(&self) -> usize {
        self.left
    }

    /// The next record.
    #[expect(
        clippy::should_implement_trait,
        reason = "it lends the record until the next call"
    )]
    #[inline]
    pub fn next(&mut self) -> Option<&R> {
        loop {
            if let Some(place) = &mut self.place {
                if let Some(index) = place.next() {
                    self.left -= 1;
                    // SAFETY: in use; its segment is held until a later call.
                    return Some(unsafe { place.seg.record(index) });
                }
                let seg = place.seg;
                self.place = None;
                self.release(seg);
            }
            if self.segs.is_empty() {
                self.turn_page()?;
            }
            if let Some(seg) = self.segs.pop() {
                self.place = Some(Place::new(seg));
            }
        }
    }

    /// Bytes that were freed on the way: what nobody but the walk had owned any more.
    pub fn let_go(&self) -> usize {
        self.let_go
    }

    fn release(&mut self, seg: Seg<R>) {
        if seg.is_unique() {
            self.let_go += seg.bytes();
            // SAFETY: in use, and the segment is held until it is released below.
            seg.each(|i| self.let_go += unsafe { seg.record(i) }.freed_by_drop());
        }
        seg.release();
    }

    /// Takes the segments over from the next page and lets go of it.
    fn turn_page(&mut self) -> Option<()> {
        let page = self.pages.pop()?;
        self.segs.extend(page.runs().map(|(_, seg)| seg));
        self.segs.reverse();
        // Whether the page is shared or not, one reference to each segment becomes ours.
        self.segs.iter().for_each(|seg| seg.retain());
        if page.is_unique() {
            self.let_go += size_of::<Page<R>>();
        }
        page.release();
        Some(())
    }
}

impl<R: Record> Drop for Walk<R> {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            place.seg.release();
        }
        self.segs.iter().for_each(|seg| seg.release());
        self.pages.iter().for_each(|page| page.release());
    }
}
