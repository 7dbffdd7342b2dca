//! What DEBUG HTSTATS and MEMORY STATS tell of a dict.

use super::Dict;
use super::group::{Bits, GROUP};
use super::page::Page;
use super::record::Record;
use super::segment::Seg;
use super::tree::Top;
use crate::ds::cow::Shared;

/// The shape of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub records: usize,
    pub pages: usize,
    pub segments: usize,
    pub slots: usize,
    /// Records that lie in another group than their home.
    pub displaced: usize,
    /// The most groups that a lookup of an absent key would compare, in the worst segment.
    pub longest_probe: usize,
    /// Bytes of the table itself, without the records; what a snapshot shares counts too.
    pub bytes: usize,
}

/// What a dict weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weight {
    /// Bytes of the table and of all records.
    pub bytes: usize,
    /// Of these, what goes when this owner goes: what no snapshot shares.
    pub freed_by_drop: usize,
}

/// Sums of what was looked at.
#[derive(Clone, Copy, Default)]
struct Sample {
    bytes: f64,
    freed: f64,
}

/// Segments that [`Dict::weight`] looks at, and records in each; what has no more is weighed exactly.
const SAMPLED_SEGMENTS: u64 = 32;
const SAMPLED_RECORDS: usize = 32;

impl<R: Record> Dict<R> {
    /// What the dict weighs, records included (`bytes` tells one's), at a bounded cost: of a large one, segments evenly
    /// spread over the order of hashes stand for all.
    pub fn weight(&self, bytes: impl Fn(&R) -> usize) -> Weight {
        let root_unique = match &self.top {
            Top::Empty => return Weight::default(),
            Top::Small(seg) => {
                let all = self.weigh_segment(*seg, usize::MAX, true, &bytes);
                return Weight {
                    bytes: all.bytes as usize,
                    freed_by_drop: all.freed as usize,
                };
            }
            Top::Tree(root) => Shared::is_unique(root),
        };
        let mut sum = Sample::default();
        for i in 0..SAMPLED_SEGMENTS {
            let hash = i << (64 - SAMPLED_SEGMENTS.trailing_zeros());
            let Some((seg, unique)) = self.top.locate_owned(hash) else {
                continue;
            };
            let part = self.weigh_segment(seg, SAMPLED_RECORDS, root_unique && unique, &bytes);
            // A segment of depth d stands for 2^-d of the hashes.
            let share = (1u64 << seg.depth()) as f64 / SAMPLED_SEGMENTS as f64;
            sum.bytes += part.bytes * share;
            sum.freed += part.freed * share;
        }
        let upper = self.upper_bytes();
        Weight {
            bytes: upper + sum.bytes as usize,
            freed_by_drop: if root_unique { upper } else { 0 } + sum.freed as usize,
        }
    }

    /// What a segment weighs, judged by so many of its records. `unique` tells whether the way to it is.
    fn weigh_segment(
        &self,
        seg: Seg<R>,
        records: usize,
        unique: bool,
        bytes: &impl Fn(&R) -> usize,
    ) -> Sample {
        let unique = unique && seg.is_unique();
        let mut sum = Sample::default();
        let indices = (0..seg.shape().groups())
            .flat_map(|group| Bits(seg.used(group)).map(move |i| group * GROUP + i));
        let mut seen = 0;
        for index in indices.take(records) {
            // SAFETY: in use, and nothing is written while self is borrowed.
            let record = unsafe { seg.record(index) };
            let weight = bytes(record) as f64;
            sum.bytes += weight;
            sum.freed += if unique && record.is_unique() {
                weight
            } else {
                0.0
            };
            seen += 1;
        }
        let scale = seg.keys() as f64 / seen.max(1) as f64;
        let table = seg.bytes() as f64;
        Sample {
            bytes: sum.bytes * scale + table,
            freed: sum.freed * scale + if unique { table } else { 0.0 },
        }
    }

    /// Bytes of the table itself, without the records. Costs a look at every page.
    pub fn memory_bytes(&self) -> usize {
        let mut bytes = self.upper_bytes();
        self.top.each_segment(|seg| bytes += seg.bytes());
        bytes
    }

    /// The number of slots. Costs a look at every page and segment header.
    pub fn slots(&self) -> usize {
        let mut slots = 0;
        self.top.each_segment(|seg| slots += seg.shape().slots());
        slots
    }

    /// Bytes of table that writes have copied so far because a snapshot shared them. Starts anew when the dict becomes
    /// small or is emptied; a small dict (one segment) does not count.
    pub fn copied_bytes(&self) -> usize {
        match &self.top {
            Top::Tree(root) => root.copied(),
            _ => 0,
        }
    }

    fn upper_bytes(&self) -> usize {
        match &self.top {
            Top::Tree(root) => root.bytes_of_all() + root.runs().count() * size_of::<Page<R>>(),
            _ => 0,
        }
    }

    /// The shape of the table. Costs a look at every slot.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            records: self.len,
            bytes: self.memory_bytes(),
            ..Stats::default()
        };
        if let Top::Tree(root) = &self.top {
            stats.pages = root.runs().count();
        }
        self.top.each_segment(|seg| {
            let groups = seg.shape().groups();
            stats.segments += 1;
            stats.slots += seg.shape().slots();
            for group in 0..groups {
                let at_home =
                    Bits(seg.used(group)).filter(|i| seg.home_at(group * GROUP + i) == group);
                stats.displaced += seg.used(group).count_ones() as usize - at_home.count();
                let probe = (0..groups)
                    .take_while(|i| seg.overflowed((group + i) % groups) != 0)
                    .count();
                stats.longest_probe = stats.longest_probe.max(groups.min(probe + 1));
            }
        });
        stats
    }
}
