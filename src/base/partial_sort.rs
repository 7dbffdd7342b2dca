//! Sorting of which only a part is wanted: as much as it takes for that part to be where it belongs.
//!
//! Quicksort (Bentley and McIlroy, "Engineering a Sort Function", 1993), which does not go into partitions that hold
//! nothing of what is wanted. It is not stable, and the order in which it leaves equal elements shows in replies (the
//! nearest places, where several are equally near), so that the choice of pivots and the order of exchanges are those
//! of the paper.

use std::cmp::Ordering;
use std::ops::Range;

/// Up to this length a row is sorted by insertion.
const INSERTION_MAX: usize = 6;

/// Sorts so that the elements of `wanted` are those which a full sort would put there.
pub fn partial_sort<T>(
    mut all: &mut [T],
    mut wanted: Range<usize>,
    compare: &mut impl FnMut(&T, &T) -> Ordering,
) {
    loop {
        let n = all.len();
        if n <= INSERTION_MAX {
            for end in 1..n {
                let mut at = end;
                while at > 0 && compare(&all[at - 1], &all[at]) == Ordering::Greater {
                    all.swap(at - 1, at);
                    at -= 1;
                }
            }
            return;
        }
        let (less, greater) = partition(all, compare);
        let upper = n - greater;
        if less > 1 && wanted.start < less {
            partial_sort(&mut all[..less], wanted.clone(), compare);
        }
        if greater <= 1 || wanted.end <= upper {
            return;
        }
        let rest = all;
        all = &mut rest[upper..];
        wanted = wanted.start.saturating_sub(upper)..wanted.end - upper;
    }
}

/// Brings smaller elements to the front and greater ones to the end; says how many there are of each.
fn partition<T>(all: &mut [T], compare: &mut impl FnMut(&T, &T) -> Ordering) -> (usize, usize) {
    let n = all.len();
    all.swap(0, pivot(all, compare));
    // Equal elements gather at both ends, before `a` and behind `d`.
    let (mut a, mut b, mut c, mut d) = (1, 1, n - 1, n - 1);
    loop {
        while b <= c {
            match compare(&all[b], &all[0]) {
                Ordering::Greater => break,
                Ordering::Equal => {
                    all.swap(a, b);
                    a += 1;
                }
                Ordering::Less => {}
            }
            b += 1;
        }
        while b <= c {
            match compare(&all[c], &all[0]) {
                Ordering::Less => break,
                Ordering::Equal => {
                    all.swap(c, d);
                    d -= 1;
                }
                Ordering::Greater => {}
            }
            c -= 1;
        }
        if b > c {
            break;
        }
        all.swap(b, c);
        b += 1;
        c -= 1;
    }
    // Then they come to the middle.
    let front = a.min(b - a);
    (0..front).for_each(|i| all.swap(i, b - front + i));
    let back = (d - c).min(n - 1 - d);
    (0..back).for_each(|i| all.swap(b + i, n - back + i));
    (b - a, d - c)
}

/// The middle one; of more than 7 the median of three, of more than 40 that of three medians.
fn pivot<T>(all: &[T], compare: &mut impl FnMut(&T, &T) -> Ordering) -> usize {
    let n = all.len();
    let (mut low, mut middle, mut high) = (0, n / 2, n - 1);
    if n > 7 {
        if n > 40 {
            let d = n / 8;
            low = median(all, [low, low + d, low + 2 * d], compare);
            middle = median(all, [middle - d, middle, middle + d], compare);
            high = median(all, [high - 2 * d, high - d, high], compare);
        }
        middle = median(all, [low, middle, high], compare);
    }
    middle
}

fn median<T>(
    all: &[T],
    [a, b, c]: [usize; 3],
    compare: &mut impl FnMut(&T, &T) -> Ordering,
) -> usize {
    let mut order = |x: usize, y: usize| compare(&all[x], &all[y]);
    if order(a, b) == Ordering::Less {
        match (order(b, c), order(a, c)) {
            (Ordering::Less, _) => b,
            (_, Ordering::Less) => c,
            _ => a,
        }
    } else {
        match (order(b, c), order(a, c)) {
            (Ordering::Greater, _) => b,
            (_, Ordering::Less) => a,
            _ => c,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_part_is_that_of_a_full_sort(all in vec(0..60u8, 0..200), from in 0..200usize, len in 0..50usize) {
            let mut sorted = all.clone();
            sorted.sort();
            let wanted = from.min(all.len())..(from + len).min(all.len());
            let mut part = all;
            partial_sort(&mut part, wanted.clone(), &mut u8::cmp);
            prop_assert_eq!(&part[wanted.clone()], &sorted[wanted]);
            part.sort();
            prop_assert_eq!(part, sorted);
        }
    }
}
