//! Random records: fair, and found in a few draws.

use super::*;

/// Chi-squared over the draws of each key: with k keys the statistic has mean k - 1 and variance 2 (k - 1).
fn assert_uniform(counts: &HashMap<Vec<u8>, u64>, keys: usize) {
    let draws: u64 = counts.values().sum();
    let want = draws as f64 / keys as f64;
    let seen: f64 = counts
        .values()
        .map(|&n| (n as f64 - want).powi(2) / want)
        .sum();
    let chi = seen + want * (keys - counts.len()) as f64;
    let (mean, deviation) = ((keys - 1) as f64, (2.0 * (keys - 1) as f64).sqrt());
    assert!(
        (chi - mean).abs() < 5.0 * deviation,
        "chi-squared {chi}, expected {mean} +- {deviation}"
    );
}

#[test]
fn random_is_uniform_in_a_skewed_table() {
    for (inserts, percent) in [(3, 40), (300, 10), (4_000, 50), (6_000, 1)] {
        let mut pair = match inserts {
            4_000 => Pair::by_slot(1),
            _ => Pair::new(inserts as u64),
        };
        pair.step(Op::Insert(inserts, percent));
        let mut rng = Rng(99);
        let draws = 40 * pair.model.len();
        let (mut all, mut expiring) = (HashMap::new(), HashMap::new());
        for _ in 0..draws {
            let record = pair.dict.random(|n| rng.below(n)).unwrap();
            *all.entry(record.key().to_vec()).or_insert(0) += 1;
            let Some(record) = pair.dict.random_expiring(|n| rng.below(n)) else {
                continue;
            };
            assert!(record.deadline().is_some());
            *expiring.entry(record.key().to_vec()).or_insert(0) += 1;
        }
        assert_uniform(&all, pair.dict.len());
        if pair.dict.expiring_len() > 1 {
            assert_uniform(&expiring, pair.dict.expiring_len());
        }
    }
}

/// A table of some segments was taken for one of as many as a page can have: nearly all draws were in vain.
#[test]
fn a_random_record_takes_few_draws() {
    for records in [3, 30, 300, 1_000, 20_000] {
        let (mut dict, alive) = (Dict::new(KEY), Arc::default());
        for i in 0..records {
            let key = format!("key:{i}").into_bytes();
            dict.insert(dict.hash(&key), Rec::new(&key, i, None, &alive));
        }
        let mut rng = Rng(7);
        let mut drawn = 0;
        for _ in 0..1000 {
            let found = dict.random(|n| {
                drawn += 1;
                rng.below(n)
            });
            assert!(found.is_some());
        }
        // Two for each try: a segment and a slot of it.
        assert!(
            drawn < 12_000,
            "{records} records: {drawn} numbers for 1000"
        );
    }
}

#[test]
fn samples_are_as_many_as_asked_for() {
    let mut pair = Pair::new(5);
    let mut rng = Rng(1);
    pair.dict
        .sample(5, false, |n| rng.below(n), |_| panic!("nothing to sample"));
    assert!(pair.dict.random(|_| 0).is_none());
    pair.step(Op::Insert(5_000, 1));
    for count in [1, 5, 64, 10_000] {
        for expiring in [false, true] {
            let mut n = 0;
            pair.dict.sample(
                count,
                expiring,
                |n| rng.below(n),
                |r| {
                    assert!(!expiring || r.deadline().is_some());
                    n += 1;
                },
            );
            let have = if expiring {
                pair.dict.expiring_len()
            } else {
                pair.dict.len()
            };
            assert_eq!(n, count.min(have));
        }
    }
    let mut counts = HashMap::new();
    for _ in 0..40 * pair.dict.len() {
        pair.dict.sample(
            1,
            false,
            |n| rng.below(n),
            |r| *counts.entry(r.key().to_vec()).or_insert(0u64) += 1,
        );
    }
    // Not exactly uniform (one that follows an empty slot comes more often), but nobody is left out.
    assert!(counts.len() > pair.dict.len() * 99 / 100);
}
