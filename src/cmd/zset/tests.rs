//! What the commands log and tell; replies are compared with Redis's by the differential test.

use crate::cmd::tests::Bench;

#[test]
fn sorted_sets_tell_what_was_done_to_them() {
    let mut b = Bench::new();
    b.expect("zadd z 1 a 2 b", "zadd z 1 a 2 b", "new z, zadd z");
    b.expect("zadd z 1 a", "", "");
    b.expect("zadd z XX 1 c", "", "");
    b.expect("zadd none XX 1 c", "", "");
    b.expect("zadd z INCR 1 a", "zadd z INCR 1 a", "zincr z");
    b.expect("zincrby z 0 a", "", "");
    b.expect("zincrby z -1 a", "zincrby z -1 a", "zincr z");
    b.expect("zrem z none", "", "");
    b.expect("zrem z a none", "zrem z a none", "zrem z");
    b.expect("zrem z b", "zrem z b", "zrem z, del z");
    b.run("zadd z 1 a 2 b 3 c 4 d 5 e 6 f");
    b.expect("zremrangebyrank z 9 12", "", "");
    b.expect(
        "zremrangebyrank z 0 0",
        "zremrangebyrank z 0 0",
        "zremrangebyrank z",
    );
    b.expect(
        "zremrangebyscore z 2 2",
        "zremrangebyscore z 2 2",
        "zremrangebyscore z",
    );
    b.expect(
        "zremrangebylex z [c [c",
        "zremrangebylex z [c [c",
        "zremrangebylex z",
    );
    b.expect(
        "zremrangebylex z - +",
        "zremrangebylex z - +",
        "zremrangebylex z, del z",
    );
}

#[test]
fn results_that_are_stored_replace_what_was_there_or_delete_it() {
    let mut b = Bench::new();
    b.run("zadd z 1 a 2 b");
    b.run("sadd s b c");
    b.run("set to x");
    b.expect(
        "zunionstore to 2 z s",
        "zunionstore to 2 z s",
        "zunionstore to",
    );
    assert_eq!(b.run("zcard to").0, ":3\\r\\n");
    b.expect(
        "zinterstore to 2 to s",
        "zinterstore to 2 to s",
        "zinterstore to",
    );
    b.expect(
        "zdiffstore to 2 z s",
        "zdiffstore to 2 z s",
        "zdiffstore to",
    );
    b.expect(
        "zrangestore to z 0 0",
        "zrangestore to z 0 0",
        "zrangestore to",
    );
    b.expect("zrangestore to z 5 9", "zrangestore to z 5 9", "del to");
    b.expect("zdiffstore to 2 z z", "", "");
    b.expect("zinterstore n 2 z none", "", "keymiss none");
}

#[test]
fn pops_are_logged_as_what_they_took() {
    let mut b = Bench::new();
    b.run("zadd z 1 a 2 b 3 c 4 d 5 e 6 f 7 g");
    b.expect("zpopmin z 0", "", "");
    b.expect("zpopmin z", "zpopmin z", "zpopmin z");
    b.expect("zpopmax z 1", "zpopmax z 1", "zpopmax z");
    b.expect("zmpop 2 none z MAX", "ZPOPMAX z 1", "zpopmax z");
    b.expect("bzpopmin none z 0", "ZPOPMIN z", "zpopmin z");
    b.expect("bzmpop 0 1 z MIN COUNT 2", "ZPOPMIN z 2", "zpopmin z");
    b.expect("zmpop 1 z MIN COUNT 9", "ZPOPMIN z 1", "zpopmin z, del z");
    b.expect("zmpop 1 z MIN", "", "");
}

/// A score change under a snapshot is not seen by it, whatever the set's form.
#[test]
fn a_copy_keeps_its_scores() {
    for many in [3, 300] {
        let mut b = Bench::new();
        for i in 0..many {
            b.run(&format!("zadd z {i} m{i}"));
        }
        b.run("copy z c");
        b.run("zincrby z 1000 m1");
        b.run("zrem z m2");
        assert_eq!(b.run("zscore c m1").0, "$1\\r\\n1\\r\\n");
        assert_eq!(b.run("zrank c m2").0, ":2\\r\\n");
        assert_eq!(b.run("zrevrank z m1").0, ":0\\r\\n");
        assert_eq!(b.run("zcard z").0, format!(":{}\\r\\n", many - 1));
    }
}

/// A chi-square test with a bound that a fair source hardly ever exceeds (4.5 standard deviations).
#[test]
fn members_at_random_are_drawn_fairly() {
    for (many, count) in [(20, 5), (200, 5), (200, 100), (200, -5)] {
        let mut b = Bench::new();
        for i in 0..many {
            b.run(&format!("zadd z {} m{i}", i % 7));
        }
        let mut drawn = vec![0u32; many];
        for _ in 0..2000 {
            let reply = b.run(&format!("zrandmember z {count}")).0;
            for word in reply
                .split("\\r\\n")
                .filter_map(|line| line.strip_prefix('m'))
            {
                drawn[word.parse::<usize>().unwrap()] += 1;
            }
        }
        let total: u32 = drawn.iter().sum();
        assert_eq!(total as i32, 2000 * i32::abs(count));
        let expected = f64::from(total) / many as f64;
        let chi2: f64 = drawn
            .iter()
            .map(|&n| (f64::from(n) - expected).powi(2) / expected)
            .sum();
        let freedom = (many - 1) as f64;
        assert!(
            chi2 < freedom + 4.5 * (2.0 * freedom).sqrt(),
            "{many} {count}: {chi2}"
        );
    }
}
