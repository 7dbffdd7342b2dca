//! SCAN: a walk in hash order that may stop and go on at any time.
//!
//! A cursor is the top 53 bits of a hash (what a client's floating point number holds): all records below it have been returned. Splits, merges and
//! resizes move records between segments, never in this order, so whatever is there during the whole walk
//! is returned. A merge makes the order coarser (a segment orders its records by 16 bits below its depth):
//! then a record may be returned twice, never missed.

use super::Dict;
use super::group::{Bits, GROUP};
use super::page::behind;
use super::record::Record;
use super::segment::Seg;
use smallvec::SmallVec;

/// The hash bits below a cursor's.
pub(super) const FINE: u32 = 11;

impl<R: Record> Dict<R> {
    /// Calls f with about `count` records (at least one, if any are left) from a cursor on, and gives the
    /// cursor to go on with: 0 at the end. The walk begins at 0. A cursor fits 53 bits.
    pub fn scan(&self, cursor: u64, count: usize, mut f: impl FnMut(&R)) -> u64 {
        let mut position = cursor << FINE;
        let mut left = count.max(1);
        while let Some(seg) = self.top.locate(position) {
            match scan_segment(seg, position, &mut left, &mut f) {
                Some(next) => position = next,
                None => break,
            }
            if left == 0 {
                return position >> FINE;
            }
        }
        0
    }

    /// The segment at a position, and the position after it (None after the last).
    pub(super) fn segment_at(&self, position: u64) -> Option<(Seg<R>, Option<u64>)> {
        let seg = self.top.locate(position)?;
        Some((seg, end_of(seg, position)))
    }
}

/// Where the hashes begin that follow those of the segment at a position.
pub(super) fn end_of<R: Record>(seg: Seg<R>, position: u64) -> Option<u64> {
    behind(seg.depth(), position)
}

/// Calls f with records of the segment until none are `left` to ask for. Gives the position to go on from,
/// None at the end of the dict.
fn scan_segment<R: Record>(
    seg: Seg<R>,
    position: u64,
    left: &mut usize,
    f: &mut impl FnMut(&R),
) -> Option<u64> {
    let (shape, depth) = (seg.shape(), seg.depth());
    let from = shape.order(shape.stored(position));
    let mut batch: SmallVec<[(u16, u16); 4 * GROUP]> = SmallVec::new();
    for home in shape.home(shape.stored(position))..shape.groups() {
        batch.clear();
        gather(seg, home, from, &mut batch);
        // In hash order; the index settles nothing, since equal orders are returned together.
        batch.sort_unstable();
        batch
            .iter()
            .take(*left)
            .for_each(|&(_, i)| seg.prefetch_at(usize::from(i)));
        let mut last = None;
        for &(order, index) in &batch {
            if *left == 0 && last != Some(order) {
                let prefix = position & !(u64::MAX >> depth);
                return Some(prefix | u64::from(order) << 48 >> depth);
            }
            // SAFETY: gathered from the slots in use; nothing is written meanwhile.
            f(unsafe { seg.record(usize::from(index)) });
            *left = left.saturating_sub(1);
            last = Some(order);
        }
    }
    end_of(seg, position)
}

/// The order and index of each record whose home is this group, from an order on: they lie in it and in the
/// groups that it overflows to.
fn gather<R: Record>(
    seg: Seg<R>,
    home: usize,
    from: u16,
    batch: &mut SmallVec<[(u16, u16); 4 * GROUP]>,
) {
    let groups = seg.shape().groups();
    let mut group = home;
    loop {
        for i in Bits(seg.used(group)) {
            let index = group * GROUP + i;
            if seg.home_at(index) == home && seg.order_at(index) >= from {
                batch.push((seg.order_at(index), index as u16));
            }
        }
        if seg.overflowed(group) == 0 {
            return;
        }
        group = if group + 1 == groups { 0 } else { group + 1 };
        if group == home {
            return;
        }
    }
}
