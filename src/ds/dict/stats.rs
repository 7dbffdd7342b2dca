//! What DEBUG HTSTATS and MEMORY STATS tell of a dict.

use super::Dict;
use super::group::{Bits, GROUP};
use super::record::Record;
use super::tree::{Page, Top};

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

impl<R: Record> Dict<R> {
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
            Top::Tree(root) => root.bytes() + root.runs().count() * size_of::<Page<R>>(),
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
