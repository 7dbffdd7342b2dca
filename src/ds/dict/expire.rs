//! The active expire cycle's view: from the sums to the records whose time has come.
//!
//! The root's entries say which pages can hold a record that is due, the segments' headers which segments.
//! Only those are read through, and once through, they and their page get a bound that is exact again.

use super::record::Record;
use super::scan::{FINE, end_of};
use super::segment::{MERGE_BELOW, NEVER};
use super::{Dict, Top};
use smallvec::SmallVec;

/// How far a call of [`Dict::expire`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Where to go on; 0 when the round is complete: everything that was due when it was passed is out.
    pub cursor: u64,
    /// What it cost, in records looked at.
    pub cost: usize,
    /// Records taken out.
    pub removed: usize,
}

/// The cost of passing a page, in records looked at: its segments' headers are read.
const PAGE_COST: usize = 16;

impl<R: Record> Dict<R> {
    /// A time before which no record expires: exact or earlier. None if no record has a deadline.
    pub fn earliest(&self) -> Option<u64> {
        (self.expiring != 0).then(|| self.top.earliest())
    }

    /// Takes out the records whose deadline is `now` (unix ms) or earlier, and hands each to `f`; one that
    /// `f` gives back stays. Begins at the cursor of the call before (0: at the start) and stops soon after
    /// it has looked at `budget` records, or when it is through.
    pub fn expire(
        &mut self,
        now: u64,
        cursor: u64,
        budget: usize,
        mut f: impl FnMut(R) -> Option<R>,
    ) -> Round {
        let mut round = Round {
            cursor: 0,
            cost: 0,
            removed: 0,
        };
        let mut position = Some(cursor << FINE);
        while let Some(at) = position {
            if round.cost >= budget {
                round.cursor = at >> FINE;
                break;
            }
            position = self.expire_next(at, now, &mut round, &mut f);
        }
        round
    }

    /// Goes on to the first segment with something due, or past a page. Gives the position after it.
    fn expire_next(
        &mut self,
        mut at: u64,
        now: u64,
        round: &mut Round,
        f: &mut impl FnMut(R) -> Option<R>,
    ) -> Option<u64> {
        let Top::Tree(root) = &self.top else {
            if self.earliest().is_some_and(|t| t <= now) {
                self.expire_segment(at, now, round, f);
            }
            return None;
        };
        let (page, sums) = root.page_of(at);
        let past = page.end(at);
        if sums.earliest > now {
            return past;
        }
        page.prefetch(at);
        loop {
            let seg = page.locate(at);
            let next = end_of(seg, at);
            let due = seg.earliest() <= now;
            if due {
                self.expire_segment(at, now, round, f);
            }
            if next == past {
                round.cost += PAGE_COST;
                self.top.tighten(at);
            }
            // The segment may have merged, and its page: look again from the root.
            if due || next == past {
                return next;
            }
            at = next?;
        }
    }

    /// Takes out what is due in the segment of a hash.
    fn expire_segment(
        &mut self,
        at: u64,
        now: u64,
        round: &mut Round,
        f: &mut impl FnMut(R) -> Option<R>,
    ) {
        let Some(seg) = self.top.locate(at) else {
            return;
        };
        let mut due: SmallVec<[u16; 64]> = SmallVec::new();
        let mut rest = NEVER;
        seg.each_front(|i| {
            // SAFETY: in use, and nothing is written meanwhile.
            match unsafe { seg.record(i) }.deadline() {
                Some(t) if t <= now => due.push(i as u16),
                Some(t) => rest = rest.min(t),
                None => {}
            }
        });
        round.cost += seg.keys();
        if due.is_empty() {
            return seg.set_earliest(rest);
        }
        let mut path = self.top.own(at);
        let out: SmallVec<[R; 16]> = due
            .iter()
            .map(|&i| path.seg.remove(usize::from(i)))
            .collect();
        path.seg.set_earliest(rest);
        self.len -= out.len();
        self.expiring -= out.len();
        if let Some(sums) = path.sums() {
            sums.keys -= out.len() as u32;
            out.iter().for_each(|_| sums.drop_deadline());
        }
        if path.seg.is_sparse() || path.seg.keys() < MERGE_BELOW {
            self.top.shrink(at);
        }
        for record in out {
            match f(record) {
                Some(record) => drop(self.add(self.key.hash(record.key()), record)),
                None => round.removed += 1,
            }
        }
    }
}
