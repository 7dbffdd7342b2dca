//! The records of a slot, in a dict whose hashes begin with the slot ([`HashKey::by_slot`](super::HashKey::by_slot)).
//!
//! The table is in the order of hashes anyway, so a slot is a stretch of it: part of a segment while there are few records,
//! later whole segments, whole pages in the end. It is found as any record is, and counted from the sums that are there:
//! those of pages, those of segments, and in a segment of several slots by the hash bits beside the pointers. So no
//! insertion has to keep a list or a count for it.

use super::group::{Bits, GROUP};
use super::record::Record;
use super::scan::end_of;
use super::segment::Seg;
use super::{Dict, Top};
use crate::base::slot::Slot;

impl<R: Record> Dict<R> {
    /// The number of records of a slot. Looks at one segment, or at the headers of two pages and the sums of those
    /// between.
    pub fn slot_len(&self, slot: Slot) -> usize {
        debug_assert!(self.key.is_by_slot());
        let (first, end) = bounds(slot);
        let mut sum = 0;
        let mut position = Some(first);
        while let Some(at) = position
            && position != end
        {
            position = match &self.top {
                Top::Empty => break,
                Top::Tree(root) if root.page_of(at).0.depth() >= Slot::BITS => {
                    let (page, sums) = root.page_of(at);
                    sum += sums.keys as usize;
                    page.end(at)
                }
                top => {
                    let Some(seg) = top.locate(at) else { break };
                    sum += count_in(seg, slot);
                    end_of(seg, at).filter(|_| seg.depth() > Slot::BITS)
                }
            };
        }
        sum
    }

    /// Calls `f` with records of a slot, until it gives false.
    pub fn each_of_slot(&self, slot: Slot, mut f: impl FnMut(&R) -> bool) {
        debug_assert!(self.key.is_by_slot());
        let (first, end) = bounds(slot);
        let mut position = Some(first);
        while let Some(at) = position
            && position != end
            && let Some(seg) = self.top.locate(at)
        {
            for index in indices(seg, slot) {
                // SAFETY: in use, and nothing is written while self is borrowed.
                if !f(unsafe { seg.record(index) }) {
                    return;
                }
            }
            position = end_of(seg, at).filter(|_| seg.depth() > Slot::BITS);
        }
    }
}

/// The first hash of a slot, and that of the next slot if there is one.
fn bounds(slot: Slot) -> (u64, Option<u64>) {
    let first = slot.first_hash();
    (first, (first | u64::MAX >> Slot::BITS).checked_add(1))
}

/// The slot's records in a segment that has some part of it.
fn count_in<R: Record>(seg: Seg<R>, slot: Slot) -> usize {
    match seg.depth() >= Slot::BITS {
        true => seg.keys(),
        false => indices(seg, slot).count(),
    }
}

/// Where the slot's records are in such a segment.
fn indices<R: Record>(seg: Seg<R>, slot: Slot) -> impl Iterator<Item = usize> {
    // How many bits of the slot the depth leaves open: the records' order begins with them.
    let open = Slot::BITS.saturating_sub(seg.depth());
    let wanted = slot.number() & ((1 << open) - 1);
    (0..seg.shape().groups())
        .flat_map(move |group| Bits(seg.used(group)).map(move |i| group * GROUP + i))
        .filter(move |&index| open == 0 || seg.order_at(index) >> (u16::BITS - open) == wanted)
}
