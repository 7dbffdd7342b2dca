//! Both forms against each other, and the rules by which one becomes the other.

use super::*;
use proptest::prelude::*;

fn rules(entries_max: usize) -> Rules {
    Rules {
        entries_max,
        value_max: 64,
        hash_key: HashKey::new(1, 2),
    }
}

fn texts<'a>(members: impl Iterator<Item = (Elem<'a>, f64)>) -> Vec<(Vec<u8>, f64)> {
    members.map(|(m, s)| (m.to_vec(), s)).collect()
}

/// What both forms answer must be the same, whatever is asked.
fn compare(small: &Zset, large: &Zset, ends: [(f64, bool); 2], lex: [(u8, bool); 2]) {
    assert_eq!(small.len(), large.len());
    assert_eq!(texts(small.iter()), texts(large.iter()));
    let [min, max] = ends.map(|(score, open)| ScoreEnd { score, open });
    let range = ScoreRange { min, max };
    let ranks = small.ranks_of_scores(&range);
    assert_eq!(ranks, large.ranks_of_scores(&range), "{range:?}");
    for reverse in [false, true] {
        assert_eq!(
            texts(small.items(ranks.clone(), reverse)),
            texts(large.items(ranks.clone(), reverse))
        );
    }
    for (member, _) in texts(small.iter()) {
        assert_eq!(small.rank(&member), large.rank(&member));
        assert_eq!(small.score(&member), large.score(&member));
    }
    // Members are in order where scores are equal: take those of one score.
    let one = texts(small.items(small.ranks_of_scores(&ScoreRange { min, max: min }), false));
    let (a, b) = (
        Zset::from_sorted(&rules(1000), &one),
        Zset::from_sorted(&rules(0), &one),
    );
    let names = lex.map(|(n, _)| n.to_string());
    let end = |i: usize| match (lex[i].0, lex[i].1) {
        (0..3, _) => LexEnd::First,
        (60.., _) => LexEnd::Last,
        (_, false) => LexEnd::Closed(names[i].as_bytes()),
        (_, true) => LexEnd::Open(names[i].as_bytes()),
    };
    let range = LexRange {
        min: end(0),
        max: end(1),
    };
    for (reverse, skip) in [(false, 0), (true, 0), (false, 2), (true, 2)] {
        let (a_ranks, b_ranks) = (
            a.ranks_of_members(&range, reverse, skip),
            b.ranks_of_members(&range, reverse, skip),
        );
        assert_eq!(
            texts(a.items(a_ranks, reverse)),
            texts(b.items(b_ranks, reverse)),
            "{range:?} {reverse} {skip}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn both_forms_are_the_same_set(
        steps in prop::collection::vec((0..60u8, 0..12i32, 0..4u8), 1..150),
        ends in [(-1..13i32, any::<bool>()), (-1..13i32, any::<bool>())],
        lex in [(0..64u8, any::<bool>()), (0..64u8, any::<bool>())],
    ) {
        let (mut small, mut large) = (
            Zset::for_adding(&rules(1000), 1, 1),
            Zset::for_adding(&rules(0), 1, 1),
        );
        for (member, score, what) in steps {
            let (name, score) = (member.to_string(), f64::from(score) / 2.0);
            let name = name.as_bytes();
            match what {
                0 => assert_eq!(small.remove(name), large.remove(name)),
                1 => {
                    let pop = |set: &mut Zset| set.pop(member % 2 == 0, |m, s| (m.to_vec(), s));
                    assert_eq!(pop(&mut small), pop(&mut large));
                }
                _ => {
                    small.update(&rules(1000), name, |old| Some(score + old.unwrap_or(0.0)));
                    large.update(&rules(0), name, |old| Some(score + old.unwrap_or(0.0)));
                }
            }
        }
        assert_eq!(small.encoding(), Encoding::Listpack);
        assert_eq!(large.encoding(), Encoding::Skiplist);
        let ends = ends.map(|(score, open)| (f64::from(score) / 2.0, open));
        compare(&small, &large, ends, lex);
        let half = small.len() / 3..small.len() / 2;
        small.remove_ranks(half.clone());
        large.remove_ranks(half);
        compare(&small, &large, ends, lex);
    }
}

#[test]
fn it_leaves_the_listpack_by_the_thresholds_and_does_not_return() {
    let add = |set: &mut Zset, member: &[u8]| set.update(&rules(3), member, |_| Some(1.0));
    let mut set = Zset::for_adding(&rules(3), 1, 1);
    [b"a", b"b", b"c"].iter().for_each(|m| add(&mut set, *m));
    assert_eq!(set.encoding(), Encoding::Listpack);
    add(&mut set, b"d");
    assert_eq!((set.encoding(), set.len()), (Encoding::Skiplist, 4));
    [b"a", b"b", b"c"]
        .iter()
        .for_each(|m| assert!(set.remove(*m)));
    assert_eq!(set.encoding(), Encoding::Skiplist);
    let mut set = Zset::for_adding(&rules(3), 1, 1);
    add(&mut set, &[b'x'; 65]);
    assert_eq!((set.encoding(), set.len()), (Encoding::Skiplist, 1));
    assert_eq!(
        Zset::for_adding(&rules(3), 4, 1).encoding(),
        Encoding::Skiplist
    );
    assert_eq!(
        Zset::for_adding(&rules(3), 1, 65).encoding(),
        Encoding::Skiplist
    );
}

/// Redis writes the score of a listpack as an integer where it is one, so that a zero loses its sign there.
#[test]
fn scores_in_a_listpack_are_numbers_and_texts() {
    let mut set = Zset::for_adding(&rules(10), 1, 1);
    for (member, score) in [("a", -0.0), ("b", 3.5), ("c", 1e21), ("d", f64::INFINITY)] {
        set.update(&rules(10), member.as_bytes(), |_| Some(score));
    }
    let pack = set.listpack().map(|pack| pack.iter().collect::<Vec<_>>());
    let text = |s: &'static str| Elem::Str(s.as_bytes());
    let want = [
        [text("a"), Elem::Int(0)],
        [text("b"), text("3.5")],
        [text("c"), text("1e+21")],
        [text("d"), text("inf")],
    ];
    assert_eq!(pack, Some(want.concat()));
}
