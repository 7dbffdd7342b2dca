//! Random records, each with the same chance.
//!
//! A random hash leads to a segment of depth d with a chance of 2^-d. Accepting it with a chance of
//! 2^(d - D), where no segment is deeper than D, makes all segments equal, and drawing one of the 448 slots
//! that it could have makes all records equal: a few draws find one, and only the last touches memory that
//! is not in the cache anyway. When they do not (a table out of balance, or of whose keys few expire), the
//! sums decide: the root's choose a page, the headers' a segment, the records themselves the rest.

use super::group::{Bits, GROUP};
use super::page::{FANOUT, Sums};
use super::record::Record;
use super::segment::{SLOTS_MAX, Seg};
use super::{Dict, Top};
use smallvec::SmallVec;

/// Which records are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Among {
    All,
    Expiring,
}

impl Among {
    fn of_dict<R: Record>(self, dict: &Dict<R>) -> usize {
        if self == Among::All {
            dict.len
        } else {
            dict.expiring
        }
    }

    fn of_sums(self, sums: &Sums) -> u64 {
        u64::from(if self == Among::All {
            sums.keys
        } else {
            sums.ttls
        })
    }

    fn of_segment<R: Record>(self, seg: Seg<R>) -> u64 {
        (if self == Among::All {
            seg.keys()
        } else {
            seg.ttls()
        }) as u64
    }

    fn wants<R: Record>(self, record: &R) -> bool {
        self == Among::All || record.deadline().is_some()
    }
}

/// Draws before the sums are asked.
const DRAWS: usize = 32;

type Segs<R> = SmallVec<[Seg<R>; FANOUT]>;

impl<R: Record> Dict<R> {
    /// A record, each with the same chance. `below` draws a number less than its argument.
    pub fn random(&self, mut below: impl FnMut(u64) -> u64) -> Option<&R> {
        self.one(Among::All, &mut below)
    }

    /// A record with a deadline, each with the same chance.
    pub fn random_expiring(&self, mut below: impl FnMut(u64) -> u64) -> Option<&R> {
        self.one(Among::Expiring, &mut below)
    }

    /// Calls f with up to `count` records (all, or only those with a deadline) that stand together at a
    /// random place. In the order of hashes neighbours have nothing in common, so they are a fair sample,
    /// and a cheap one. f is called less often only if there are fewer.
    pub fn sample(
        &self,
        count: usize,
        expiring: bool,
        mut below: impl FnMut(u64) -> u64,
        mut f: impl FnMut(&R),
    ) {
        let among = if expiring {
            Among::Expiring
        } else {
            Among::All
        };
        let mut left = count.min(among.of_dict(self));
        // A segment may not have enough: then another is drawn, and a record may come twice.
        while left > 0 {
            let Some((seg, index)) = self.draw(among, &mut below) else {
                return;
            };
            sample_segment(seg, index, among, &mut left, &mut f);
        }
    }

    fn one(&self, among: Among, below: &mut impl FnMut(u64) -> u64) -> Option<&R> {
        let (seg, index) = self.draw(among, below)?;
        // SAFETY: in use, and nothing is written while self is borrowed.
        Some(unsafe { seg.record(index) })
    }

    fn draw(&self, among: Among, below: &mut impl FnMut(u64) -> u64) -> Option<(Seg<R>, usize)> {
        // Where few of the records are wanted, each draw would cost a look at one that is not.
        // And where some corner is much denser than the rest, most would be in vain.
        let likely = among.of_dict(self) >= self.len / 8 && !self.top.has_nests();
        let depth_max = if likely { self.top.depth_max() } else { 0 };
        let slots_max = match &self.top {
            Top::Small(seg) => seg.shape().slots(),
            _ => SLOTS_MAX,
        };
        let mut draws = 0..if likely { DRAWS } else { 0 };
        draws
            .find_map(|_| self.draw_once(among, depth_max, slots_max, below))
            .or_else(|| self.weigh(among, below))
    }

    /// A draw among all slots of all segments, if each segment were as deep and large as these bounds.
    #[inline]
    fn draw_once(
        &self,
        among: Among,
        depth_max: u32,
        slots_max: usize,
        below: &mut impl FnMut(u64) -> u64,
    ) -> Option<(Seg<R>, usize)> {
        let hash = below(1 << 48) << 16;
        let seg = self.top.locate(hash)?;
        let below_depth = hash << seg.depth();
        if below_depth
            .checked_shr(64 - (depth_max - seg.depth()))
            .unwrap_or(0)
            != 0
        {
            return None;
        }
        let slot = below(slots_max as u64) as usize;
        let (group, bit) = (slot / GROUP, slot % GROUP);
        if group >= seg.shape().groups() || seg.used(group) >> bit & 1 == 0 {
            return None;
        }
        // SAFETY: in use, and nothing is written while self is borrowed.
        let wanted = among == Among::All || among.wants(unsafe { seg.record(slot) });
        wanted.then_some((seg, slot))
    }

    /// By the sums: reads all headers of a page and all records of a segment.
    #[cold]
    fn weigh(&self, among: Among, below: &mut impl FnMut(u64) -> u64) -> Option<(Seg<R>, usize)> {
        let segs = self.page_of(among, below)?;
        segs.iter().for_each(|seg| seg.prefetch_head());
        let mut nth = below(segs.iter().map(|&seg| among.of_segment(seg)).sum());
        let seg = *segs
            .iter()
            .find(|&&seg| skip(&mut nth, among.of_segment(seg)))?;
        let mut nth = below(among.of_segment(seg));
        let mut found = None;
        seg.each_front(|index| {
            // SAFETY: in use, and nothing is written while self is borrowed.
            if among.wants(unsafe { seg.record(index) }) && skip(&mut nth, 1) {
                found = Some((seg, index));
            }
        });
        found
    }

    /// The segments of a page, drawn by the number of records wanted in it.
    fn page_of(&self, among: Among, below: &mut impl FnMut(u64) -> u64) -> Option<Segs<R>> {
        let have = among.of_dict(self) as u64;
        match &self.top {
            Top::Small(seg) if have > 0 => Some(SmallVec::from_slice(&[*seg])),
            Top::Tree(root) if have > 0 => {
                let mut nth = below(have);
                let entry = root
                    .runs()
                    .find(|e| skip(&mut nth, among.of_sums(&e.sums)))?;
                Some(entry.page.runs().map(|(_, seg)| seg).collect())
            }
            _ => None,
        }
    }
}

/// Passes so many on the way to the nth; true if it is among them.
fn skip(nth: &mut u64, here: u64) -> bool {
    let hit = *nth < here;
    // Once hit, n wraps around to a number that is never reached.
    *nth = nth.wrapping_sub(here);
    hit
}

/// Calls f with records of the segment from a slot on.
fn sample_segment<R: Record>(
    seg: Seg<R>,
    start: usize,
    among: Among,
    left: &mut usize,
    f: &mut impl FnMut(&R),
) {
    let groups = seg.shape().groups();
    let behind = (1u32 << (start % GROUP)) - 1;
    for turn in 0..=groups {
        let group = (start / GROUP + turn) % groups;
        // The group of the start comes first with what follows it, last with what precedes it.
        let part = match turn {
            0 => !behind,
            _ if turn == groups => behind,
            _ => u32::MAX,
        };
        let used = Bits(seg.used(group) & part);
        used.take(*left)
            .for_each(|i| seg.prefetch_at(group * GROUP + i));
        for i in used {
            if *left == 0 {
                return;
            }
            // SAFETY: in use, and nothing is written meanwhile.
            let record = unsafe { seg.record(group * GROUP + i) };
            if among.wants(record) {
                f(record);
                *left -= 1;
            }
        }
    }
}
