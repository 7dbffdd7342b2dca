//! Random records: by weight down to a page, then by chance.
//!
//! The root's sums choose the page. Within it a segment and one of the 448 slots that it could have are drawn,
//! all alike, until the slot holds a record: each record of the page has the same chance, and a few draws do.
//! When they do not (a page that is nearly empty, or of whose keys few expire), the segments' own counts
//! decide, which costs a look at each of them.

use super::group::{Bits, GROUP};
use super::record::Record;
use super::segment::{SLOTS_MAX, Seg};
use super::tree::{FANOUT, PageRef, Sums};
use super::{Dict, Top};
use smallvec::SmallVec;

/// Which records are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Among {
    All,
    Expiring,
}

impl Among {
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

/// Draws before the segments are counted.
const DRAWS: usize = 16;

type Segs<R> = SmallVec<[Seg<R>; FANOUT]>;

impl<R: Record> Dict<R> {
    /// A record, each with the same chance. `below` draws a number less than its argument.
    pub fn random(&self, mut below: impl FnMut(u64) -> u64) -> Option<&R> {
        self.draw(Among::All, &mut below)
    }

    /// A record with a deadline, each with the same chance.
    pub fn random_expiring(&self, mut below: impl FnMut(u64) -> u64) -> Option<&R> {
        self.draw(Among::Expiring, &mut below)
    }

    /// Calls f with up to `count` records (all, or only those with a deadline) that stand together at a random
    /// place. In the order of hashes neighbours have nothing in common, so they are a fair sample, and a
    /// cheap one. f is called less often only if there are fewer.
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
        let have = if expiring { self.expiring } else { self.len };
        let mut left = count.min(have);
        // Small pages may not have enough: then another is drawn, and a record may come twice.
        while left > 0 {
            let Some(segs) = self.page_of(among, &mut below) else {
                return;
            };
            let start = pick(&segs, among, &mut below);
            for turn in 0..segs.len() {
                let seg = segs[(start + turn) % segs.len()];
                if among.of_segment(seg) > 0 {
                    sample_segment(seg, among, &mut left, &mut below, &mut f);
                }
                if left == 0 {
                    return;
                }
            }
        }
    }

    fn draw(&self, among: Among, below: &mut impl FnMut(u64) -> u64) -> Option<&R> {
        let segs = self.page_of(among, below)?;
        for _ in 0..DRAWS {
            let seg = segs[below(segs.len() as u64) as usize];
            let slot = below(SLOTS_MAX as u64) as usize;
            if let Some(index) = in_use(seg, slot) {
                // SAFETY: in use, and nothing is written while self is borrowed.
                let record = unsafe { seg.record(index) };
                if among.wants(record) {
                    return Some(record);
                }
            }
        }
        let seg = segs[pick(&segs, among, below)];
        let mut nth = below(among.of_segment(seg));
        let mut found = None;
        seg.each(|index| {
            // SAFETY: as above.
            let record = unsafe { seg.record(index) };
            if among.wants(record) {
                if nth == 0 {
                    found = found.or(Some(record));
                }
                nth = nth.wrapping_sub(1);
            }
        });
        found
    }

    /// The segments of a page, drawn by the number of records wanted in it.
    fn page_of(&self, among: Among, below: &mut impl FnMut(u64) -> u64) -> Option<Segs<R>> {
        let have = if among == Among::All {
            self.len
        } else {
            self.expiring
        };
        if have == 0 {
            return None;
        }
        match &self.top {
            Top::Empty => None,
            Top::Small(seg) => Some(SmallVec::from_slice(&[*seg])),
            Top::Tree(root) => {
                let mut nth = below(have as u64);
                let (_, entry) = root.runs().find(|(_, e)| {
                    let n = among.of_sums(&e.sums);
                    let here = nth < n;
                    nth = nth.wrapping_sub(n);
                    here
                })?;
                Some(segments(entry.page))
            }
        }
    }
}

fn segments<R: Record>(page: PageRef<R>) -> Segs<R> {
    page.runs().map(|(_, seg)| seg).collect()
}

/// One of the segments, by the number of records wanted in each. At least one is.
fn pick<R: Record>(segs: &Segs<R>, among: Among, below: &mut impl FnMut(u64) -> u64) -> usize {
    segs.iter().for_each(|seg| seg.prefetch_head());
    let total = segs.iter().map(|&seg| among.of_segment(seg)).sum();
    let mut nth = below(total);
    let at = segs.iter().position(|&seg| {
        let n = among.of_segment(seg);
        let here = nth < n;
        nth = nth.wrapping_sub(n);
        here
    });
    at.unwrap_or(0)
}

/// The slot, if it exists and holds a record.
fn in_use<R: Record>(seg: Seg<R>, slot: usize) -> Option<usize> {
    let (group, bit) = (slot / GROUP, slot % GROUP);
    (group < seg.shape().groups() && seg.used(group) >> bit & 1 != 0).then_some(slot)
}

/// Calls f with records of the segment from a random slot on.
fn sample_segment<R: Record>(
    seg: Seg<R>,
    among: Among,
    left: &mut usize,
    below: &mut impl FnMut(u64) -> u64,
    f: &mut impl FnMut(&R),
) {
    let groups = seg.shape().groups();
    let start = below((groups * GROUP) as u64) as usize;
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
