//! A histogram of times: how many calls took how long, exact to two digits, from a nanosecond to a second.
//!
//! A bucket for each nanosecond would take a gigabyte, and nobody asks for more than the first digits. So a time keeps
//! its eight highest bits, and how far it had to be shifted for that: bucket `128 * shift + (ns >> shift)`. Up to 255
//! there is a bucket for each value, from there on buckets are twice as wide with each power of two, 128 of them.
//!
//! ```text
//! shift   0: 0 1 2 ... 255     1: 256-257 258-259 ... 510-511     2: 512-515 ... 1020-1023     ...
//! bucket     0 1 2 ... 255        256     257         383            384         511
//! ```
//!
//! These are the buckets of Gil Tene's HdrHistogram (<http://hdrhistogram.org>) for these bounds and digits. Redis keeps
//! its commands' times in one, and the times that it replies are the bounds of its buckets.

/// Greatest time that is told apart.
const NS_MAX: u64 = 1_000_000_000;
/// The bucket of the greatest time is the last one in use.
const BUCKETS: usize = bucket_of(NS_MAX) + 1;

const fn shift_of(ns: u64) -> u32 {
    (u64::BITS - 8) - (ns | 0xff).leading_zeros()
}

const fn bucket_of(ns: u64) -> usize {
    let shift = shift_of(ns);
    128 * shift as usize + (ns >> shift) as usize
}

/// See the head of the file.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    len: u64,
}

impl Histogram {
    /// An empty one.
    pub fn new() -> Histogram {
        let counts = vec![0; BUCKETS].into_boxed_slice();
        Histogram {
            counts: counts.try_into().expect("as many as were asked for"),
            len: 0,
        }
    }

    /// Counts a time; one out of bounds counts as the bound.
    #[inline(always)]
    pub fn record(&mut self, ns: u64) {
        self.counts[bucket_of(ns.clamp(1, NS_MAX))] += 1;
        self.len += 1;
    }

    /// How many times were counted.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if none was.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The buckets in which there is something, in order: the greatest time that each stands for, and its count.
    pub fn recorded(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.counts.iter().enumerate();
        counts.filter(|&(_, &count)| count > 0).map(|(i, &count)| {
            let shift = (i / 128).saturating_sub(1);
            (((i - 128 * shift + 1) << shift) as u64 - 1, count)
        })
    }

    /// The least time in the same bucket.
    pub fn lowest_equivalent(ns: u64) -> u64 {
        let shift = shift_of(ns);
        ns >> shift << shift
    }

    /// The greatest time in the same bucket.
    pub fn highest_equivalent(ns: u64) -> u64 {
        let shift = shift_of(ns);
        Histogram::lowest_equivalent(ns) + ((1 << shift) - 1)
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Beside the original, which someone else wrote.
        #[test]
        fn its_buckets_are_those_of_the_original(
            times in prop::collection::vec((0u32..34, any::<u64>()).prop_map(|(bits, n)| n & ((1 << bits) - 1)), 0..100),
        ) {
            let mut ours = Histogram::new();
            let mut original = hdrhistogram::Histogram::<u64>::new_with_bounds(1, NS_MAX, 2).unwrap();
            for &ns in &times {
                ours.record(ns);
                original.saturating_record(ns.clamp(1, NS_MAX));
                prop_assert_eq!(Histogram::lowest_equivalent(ns), original.lowest_equivalent(ns));
                prop_assert_eq!(Histogram::highest_equivalent(ns), original.highest_equivalent(ns));
            }
            prop_assert_eq!(ours.len(), original.len());
            let theirs = original.iter_recorded().map(|b| (original.highest_equivalent(b.value_iterated_to()), b.count_at_value()));
            prop_assert!(ours.recorded().eq(theirs));
        }
    }
}
