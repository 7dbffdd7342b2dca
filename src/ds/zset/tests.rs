//! The ranked set against a plain model, with snapshots held while it changes.

use std::collections::HashMap;
use std::ptr::NonNull;

use proptest::prelude::*;

use super::*;
use crate::base::rng::Rng;
use crate::ds::tree::Chunk;

const KEY: HashKey = HashKey::new(1, 2);

#[derive(Clone, Default)]
struct Model(HashMap<Vec<u8>, f64>);

impl Model {
    fn sorted(&self) -> Vec<(Vec<u8>, f64)> {
        let mut all: Vec<_> = self.0.iter().map(|(m, s)| (m.clone(), *s)).collect();
        all.sort_by(|a, b| a.1.partial_cmp(&b.1).unwrap().then_with(|| a.0.cmp(&b.0)));
        all
    }
}

fn listed(set: &Ranked) -> Vec<(Vec<u8>, f64)> {
    set.items(0..set.len(), false)
        .map(|(m, s)| (m.to_vec(), s))
        .collect()
}

fn check(set: &Ranked, model: &Model) {
    let sorted = model.sorted();
    assert_eq!(set.len(), sorted.len());
    assert_eq!(set.members.len(), sorted.len());
    assert_eq!(listed(set), sorted);
    let mut back: Vec<_> = set
        .items(0..set.len(), true)
        .map(|(m, s)| (m.to_vec(), s))
        .collect();
    back.reverse();
    assert_eq!(back, sorted);
    let bytes: usize = set.members.iter().map(Member::heap_bytes).sum();
    assert_eq!(set.member_bytes, bytes);
    for (rank, (member, score)) in sorted.iter().enumerate().step_by(1 + sorted.len() / 40) {
        assert_eq!(set.rank(member), Some((rank, *score)));
        assert_eq!(set.nth(rank), Some((&member[..], *score)));
        let below = sorted.iter().filter(|m| m.1 < *score).count();
        let up_to = sorted.iter().filter(|m| m.1 <= *score).count();
        assert_eq!(set.count_before(Gap::BeforeScore(*score)), below);
        assert_eq!(set.count_before(Gap::AfterScore(*score)), up_to);
        assert_eq!(set.count_before(Gap::After(*score, member)), rank + 1);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Add(u32, f64),
    AddMany(u32, u32, f64),
    Remove(u32),
    RemoveRanks(usize, usize),
    Pop(bool, u8),
    Snapshot,
}

/// Scores that collide, in all their bits or in the first 48 of them, and the odd ones.
fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0..20i32).prop_map(f64::from),
        2 => any::<i32>().prop_map(f64::from),
        2 => (0..8u64).prop_map(|low| f64::from_bits(1.5f64.to_bits() + low)),
        1 => (0..8u64).prop_map(|low| -f64::from_bits(1.5f64.to_bits() + (low << 30))),
        // Too small and too large to be told apart by their marks.
        1 => (0..8u64, any::<bool>()).prop_map(|(low, small)| {
            f64::from_bits(if small { 1e-9f64 } else { -1e200 }.to_bits() + (low << 40))
        }),
        1 => prop_oneof![Just(0.0), Just(-0.0), Just(f64::INFINITY), Just(f64::NEG_INFINITY)],
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..400u32, score()).prop_map(|(m, s)| Op::Add(m, s)),
        2 => (0..400u32, 0..300u32, score()).prop_map(|(m, n, s)| Op::AddMany(m, n, s)),
        4 => (0..400u32).prop_map(Op::Remove),
        1 => (any::<usize>(), 0..150usize).prop_map(|(at, n)| Op::RemoveRanks(at, n)),
        2 => (any::<bool>(), 0..60u8).prop_map(|(last, n)| Op::Pop(last, n)),
        2 => Just(Op::Snapshot),
    ]
}

fn name(member: u32) -> Vec<u8> {
    // Of different lengths, so that the order of bytes is not that of numbers.
    format!("m{member}{}", "x".repeat(member as usize % 150)).into_bytes()
}

fn add(set: &mut Ranked, model: &mut Model, member: u32, score: f64) {
    let bytes = name(member);
    set.update(&bytes, |old| {
        assert_eq!(old, model.0.get(&bytes).copied());
        Some(score)
    });
    let have = model.0.entry(bytes).or_insert(score);
    // An equal score changes nothing, so that a zero keeps its sign.
    if *have != score {
        *have = score;
    }
}

fn apply(set: &mut Ranked, model: &mut Model, op: Op) {
    match op {
        Op::Add(member, score) => add(set, model, member, score),
        Op::AddMany(member, n, score) => {
            (0..n).for_each(|i| add(set, model, member + i, score + f64::from(i % 7)));
        }
        Op::Remove(member) => {
            assert_eq!(set.remove(&name(member)), model.0.remove(&name(member)));
        }
        Op::RemoveRanks(at, n) => {
            let sorted = model.sorted();
            let from = at % (sorted.len() + 1);
            let gone = &sorted[from..(from + n).min(sorted.len())];
            for (member, _) in gone {
                model.0.remove(member);
            }
            set.remove_ranks(from..from + n);
        }
        Op::Pop(last, n) => {
            let mut sorted = model.sorted();
            for _ in 0..n {
                let want = match last {
                    true => sorted.pop(),
                    false if sorted.is_empty() => None,
                    false => Some(sorted.remove(0)),
                };
                assert_eq!(
                    set.pop(last, |m, s| (m.to_vec(), s)).as_ref(),
                    want.as_ref()
                );
                if let Some((member, _)) = want {
                    model.0.remove(&member);
                }
            }
        }
        Op::Snapshot => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn as_a_sorted_map_with_snapshots_held(ops in prop::collection::vec(op(), 1..120)) {
        let (mut set, mut model) = (Ranked::new(KEY), Model::default());
        let mut snapshots: Vec<(Ranked, Model)> = Vec::new();
        for (turn, op) in ops.into_iter().enumerate() {
            if matches!(op, Op::Snapshot) {
                snapshots.push((set.clone(), model.clone()));
                if snapshots.len() > 3 {
                    snapshots.remove(turn % 4);
                }
            }
            apply(&mut set, &mut model, op);
        }
        check(&set, &model);
        for (set, model) in &snapshots {
            check(set, model);
        }
        let sorted = model.sorted();
        let built = Ranked::from_sorted(KEY, sorted.iter().map(|(m, s)| (&m[..], *s)));
        check(&built, &model);
    }

    #[test]
    fn scores_sort_as_their_bits(a in any::<f64>(), b in any::<f64>()) {
        if let Some(order) = a.partial_cmp(&b) {
            assert_eq!(order::sort_bits(a).cmp(&order::sort_bits(b)), order);
            // A mark keeps a part of them, in which no order turns round.
            let (a, b) = (Mark::new(a, NonNull::dangling()), Mark::new(b, NonNull::dangling()));
            assert!((a.head.cmp(&b.head) == order) || a.head == b.head);
        }
    }
}

#[test]
fn by_bytes_where_all_scores_are_equal() {
    let names: Vec<String> = (0..1000).map(|i| format!("{i:04}")).collect();
    let mut set = Ranked::new(KEY);
    names
        .iter()
        .rev()
        .for_each(|name| set.update(name.as_bytes(), |_| Some(1.0)));
    assert_eq!(set.count_before(Gap::BeforeLex(b"0500")), 500);
    assert_eq!(set.count_before(Gap::AfterLex(b"0500")), 501);
    assert_eq!(set.count_before(Gap::AfterLex(b"0500x")), 501);
    assert_eq!(set.count_before(Gap::BeforeLex(b"")), 0);
    assert_eq!(set.count_before(Gap::AfterLex(b"9")), 1000);
}

/// The bar is 60 bytes of resident memory a member, with all that the allocator and the server add.
#[test]
fn members_added_at_random_take_less_than_56_bytes() {
    let mut rng = Rng::new(7);
    let mut set = Ranked::new(KEY);
    for i in 0..200_000 {
        let member = format!("member:{i:011}");
        set.update(member.as_bytes(), |_| Some((rng.below(1 << 32)) as f64));
    }
    let bytes = set.memory_bytes() as f64 / set.len() as f64;
    assert!(bytes < 56.0, "{bytes} bytes a member");
    // Those that come in order fill their leaves.
    let mut set = Ranked::new(KEY);
    for i in 0..20_000 {
        set.update(format!("member:{i:011}").as_bytes(), |_| Some(f64::from(i)));
    }
    assert_eq!(set.marks.leaf_count(), 20_000usize.div_ceil(MARKS_MAX));
}

#[test]
fn a_write_beside_a_snapshot_copies_little_and_a_second_one_nothing() {
    let names: Vec<String> = (0..100_000).map(|i| format!("{i:06}")).collect();
    let sorted = names
        .iter()
        .enumerate()
        .map(|(i, n)| (n.as_bytes(), i as f64));
    let mut set = Ranked::from_sorted(KEY, sorted);
    assert_eq!(set.take_left_behind(), 0);
    assert!(set.freed_by_drop() > set.memory_bytes() / 20 * 19);
    let snapshot = set.clone();
    assert_eq!(set.freed_by_drop(), 0);
    set.update(b"050000", |_| Some(0.5));
    let left = set.take_left_behind();
    assert!((4_000..40_000).contains(&left), "{left} bytes copied");
    set.update(b"050000", |_| Some(50_000.0));
    assert_eq!(set.take_left_behind(), 0);
    assert_eq!(snapshot.score(b"050000"), Some(50_000.0));
    set.update(b"050000", |_| Some(1.5));
    assert_eq!(snapshot.rank(b"050000"), Some((50_000, 50_000.0)));
    assert_eq!(set.rank(b"050000"), Some((2, 1.5)));
}

#[test]
fn emptied_leaves_are_joined() {
    let names: Vec<String> = (0..20_000).map(|i| format!("{i:06}")).collect();
    let sorted = names
        .iter()
        .enumerate()
        .map(|(i, n)| (n.as_bytes(), i as f64));
    let mut set = Ranked::from_sorted(KEY, sorted);
    for (i, name) in names.iter().enumerate() {
        if i % 50 != 0 {
            assert_eq!(set.remove(name.as_bytes()), Some(i as f64));
        }
    }
    assert_eq!(set.len(), 400);
    assert!(
        set.marks.leaf_count() < 30,
        "{} leaves",
        set.marks.leaf_count()
    );
    assert!(set.marks.leaves().all(|pack| pack.is_unique()));
    let gone = set.clear();
    assert_eq!((set.len(), set.memory_bytes(), gone.len()), (0, 0, 400));
}
