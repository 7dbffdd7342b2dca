//! The tree against a plain vector, with snapshots held while it changes.

use proptest::prelude::*;

use super::node::{Child, Slot};
use super::*;

/// A leaf of a few numbers, so that small tests make high trees.
#[derive(Clone, Debug, Default)]
struct Run(Vec<u32>);

const RUN_MAX: usize = 4;

impl Leaf for Run {
    type Key = u32;
    fn first_key(&self) -> u32 {
        self.0[0]
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn heap_bytes(&self) -> usize {
        self.0.len() * 4
    }
    fn defrag(&mut self, mover: &mut Mover<'_>) {
        mover.vec(&mut self.0);
    }
}

type Numbers = Tree<Run>;

fn all(tree: &Numbers) -> Vec<u32> {
    tree.leaves()
        .flat_map(|run| run.0.iter().copied())
        .collect()
}

/// Checks keys and sums of a slot against what is below; gives its height.
fn check_slot(slot: &Slot<Run, Shared<Run>>) -> u8 {
    let mut sums = (slot.leaves, slot.len, slot.bytes);
    let height = match &slot.child {
        Child::Leaf(run) => {
            assert!(!run.is_empty());
            assert_eq!(slot.key, run.first_key());
            sums = (
                sums.0 - 1,
                sums.1 - run.len() as u64,
                sums.2 - run.heap_bytes() as u64,
            );
            0
        }
        Child::Inner(node) => {
            assert_eq!(slot.key, node.slots[0].key);
            let heights: Vec<u8> = node.slots.iter().map(check_slot).collect();
            assert!(
                heights.iter().all(|&h| h == heights[0]),
                "leaves at one depth"
            );
            for s in &node.slots {
                sums = (sums.0 - s.leaves, sums.1 - s.len, sums.2 - s.bytes);
            }
            heights[0] + 1
        }
    };
    assert_eq!(sums, (0, 0, 0));
    height
}

fn check(tree: &Numbers, model: &[u32]) {
    if let Some(top) = &tree.top {
        assert_eq!(check_slot(top), tree.height);
    }
    assert_eq!(all(tree), model);
    assert_eq!(tree.len(), model.len());
    assert_eq!(tree.is_empty(), model.is_empty());
}

/// The number of elements and of slots on the way, as a bound on the height: no chain of single children.
fn check_reading(tree: &Numbers, model: &[u32]) {
    let back: Vec<u32> = tree
        .leaves()
        .rev()
        .flat_map(|run| run.0.iter().rev().copied())
        .collect();
    assert!(back.iter().eq(model.iter().rev()));
    for (i, n) in model.iter().enumerate().step_by(1 + model.len() / 50) {
        let (place, at) = tree.find_index(i).unwrap();
        assert_eq!(tree.leaf(&place).unwrap().0[at], *n);
        assert_eq!(tree.index_of(&place) + at, i);
        let next = tree.next_place(&place);
        assert_eq!(
            next.and_then(|next| tree.prev_place(&next)),
            next.map(|_| place)
        );
    }
    assert!(tree.find_index(model.len()).is_none());
}

/// Inserts so that the order is kept; an overfull leaf is split.
fn insert_sorted(tree: &mut Numbers, n: u32) {
    let Some(place) = tree.find_key(|&key| key <= n) else {
        tree.push_back(Run(vec![n]));
        return;
    };
    tree.edit_split(&place, |run| {
        let at = run.0.partition_point(|&have| have <= n);
        run.0.insert(at, n);
        if run.len() <= RUN_MAX {
            return ((), Beside::Nothing);
        }
        let back = run
            .0
            .split_off(if at == RUN_MAX { RUN_MAX } else { RUN_MAX / 2 });
        // Either half may be the one that stays.
        if n.is_multiple_of(2) {
            return ((), Beside::After(Run(back)));
        }
        let front = std::mem::replace(&mut run.0, back);
        ((), Beside::Before(Run(front)))
    });
}

fn remove_sorted(tree: &mut Numbers, n: u32) -> bool {
    let Some(place) = tree.find_key(|&key| key <= n) else {
        return false;
    };
    tree.edit(&place, |run| {
        match run.0.iter().position(|&have| have == n) {
            Some(at) => {
                run.0.remove(at);
                true
            }
            None => false,
        }
    })
}

#[derive(Clone, Debug)]
enum Op {
    PushBack(u32),
    PushFront(u32),
    InsertAfter(usize, u32),
    InsertBefore(usize, u32),
    Overwrite(usize, u32),
    Pop(usize),
    RemoveLeaf(usize),
    RemoveRange(usize, usize),
    SplitAppend(usize),
    Rotate(usize),
    Double,
    Snapshot,
    Rebuild,
}

fn op() -> impl Strategy<Value = Op> {
    let at = || any::<usize>();
    prop_oneof![
        6 => any::<u32>().prop_map(Op::PushBack),
        6 => any::<u32>().prop_map(Op::PushFront),
        6 => (at(), any::<u32>()).prop_map(|(i, n)| Op::InsertAfter(i, n)),
        6 => (at(), any::<u32>()).prop_map(|(i, n)| Op::InsertBefore(i, n)),
        6 => (at(), any::<u32>()).prop_map(|(i, n)| Op::Overwrite(i, n)),
        8 => at().prop_map(Op::Pop),
        4 => at().prop_map(Op::RemoveLeaf),
        2 => (at(), 0..400usize).prop_map(|(i, n)| Op::RemoveRange(i, n)),
        2 => at().prop_map(Op::SplitAppend),
        2 => at().prop_map(Op::Rotate),
        2 => Just(Op::Double),
        3 => Just(Op::Snapshot),
        1 => Just(Op::Rebuild),
    ]
}

fn insert(tree: &mut Numbers, model: &mut Vec<u32>, i: usize, n: u32, after: bool) {
    let i = i % (model.len() + 1);
    let Some((place, _)) = tree.find_index(i.min(model.len().saturating_sub(1))) else {
        tree.push_back(Run(vec![n]));
        model.push(n);
        return;
    };
    let (before, len) = (tree.index_of(&place), tree.leaf(&place).unwrap().len());
    if after {
        tree.insert_after(&place, Run(vec![n]));
        model.insert(before + len, n);
    } else {
        tree.insert_before(&place, Run(vec![n]));
        model.insert(before, n);
    }
}

fn apply(tree: &mut Numbers, model: &mut Vec<u32>, op: Op) {
    let found = |tree: &Numbers, i: usize| tree.find_index(i % tree.len().max(1));
    match op {
        Op::PushBack(n) => {
            tree.push_back(Run(vec![n]));
            model.push(n);
        }
        Op::PushFront(n) => {
            tree.push_front(Run(vec![n, n]));
            model.splice(0..0, [n, n]);
        }
        Op::InsertAfter(i, n) => insert(tree, model, i, n, true),
        Op::InsertBefore(i, n) => insert(tree, model, i, n, false),
        Op::Overwrite(i, n) => {
            if let Some((place, at)) = found(tree, i) {
                let first = tree.index_of(&place);
                tree.edit(&place, |run| run.0[at] = n);
                model[first + at] = n;
            }
        }
        Op::Pop(i) => {
            if let Some((place, at)) = found(tree, i) {
                let first = tree.index_of(&place);
                assert_eq!(
                    tree.edit(&place, |run| run.0.remove(at)),
                    model.remove(first + at)
                );
            }
        }
        Op::RemoveLeaf(i) => {
            if let Some((place, _)) = found(tree, i) {
                let first = tree.index_of(&place);
                let len = tree.leaf(&place).unwrap().len();
                tree.remove_leaf(&place);
                model.drain(first..first + len);
            }
        }
        Op::RemoveRange(i, n) => {
            let start = i % (model.len() + 1);
            let end = (start + n).min(model.len());
            drop(tree.remove_range(start..start + n, |run, range| drop(run.0.drain(range))));
            model.drain(start..end);
        }
        Op::SplitAppend(i) | Op::Rotate(i) => {
            if let Some((place, _)) = found(tree, i) {
                let first = tree.index_of(&place);
                let mut tail = tree.split_off(&place);
                check(&tail, &model[first..]);
                check(tree, &model[..first]);
                if matches!(op, Op::Rotate(_)) {
                    std::mem::swap(tree, &mut tail);
                    model.rotate_left(first);
                }
                tree.append(tail);
            }
        }
        Op::Double => {
            if model.len() < 1000 {
                tree.append(tree.clone());
                model.extend_from_within(..);
            }
        }
        Op::Rebuild => *tree = Numbers::from_leaves(tree.leaves().cloned()),
        Op::Snapshot => {}
    }
}

proptest! {
    #[test]
    fn as_a_vector_with_snapshots_held(ops in prop::collection::vec(op(), 1..300)) {
        let (mut tree, mut model) = (Numbers::new(), Vec::new());
        let mut snapshots: Vec<(Numbers, Vec<u32>)> = Vec::new();
        for (turn, op) in ops.into_iter().enumerate() {
            if matches!(op, Op::Snapshot) {
                snapshots.push((tree.clone(), model.clone()));
                if snapshots.len() > 4 {
                    snapshots.remove(turn % 5);
                }
            }
            apply(&mut tree, &mut model, op);
            check(&tree, &model);
        }
        check_reading(&tree, &model);
        for (tree, model) in &snapshots {
            check(tree, model);
        }
    }

    #[test]
    fn sorted_and_searched(
        numbers in prop::collection::vec(0..5000u32, 1..1500),
        remove in prop::collection::vec(0..5000u32, 0..1500),
    ) {
        let (mut tree, mut model) = (Numbers::new(), Vec::new());
        for n in numbers {
            insert_sorted(&mut tree, n);
            model.push(n);
        }
        model.sort_unstable();
        let snapshot = (tree.clone(), model.clone());
        for n in remove {
            // Equal numbers may reach over leaves; any of them will do.
            let found = model.binary_search(&n);
            assert_eq!(remove_sorted(&mut tree, n), found.is_ok());
            if let Ok(at) = found {
                model.remove(at);
            }
        }
        check(&tree, &model);
        check_reading(&tree, &model);
        check(&snapshot.0, &snapshot.1);
    }
}

#[test]
fn what_arrives_in_order_lies_densely() {
    for front in [false, true] {
        let mut tree = Numbers::new();
        for n in 0..10_000 {
            if front {
                tree.push_front(Run(vec![n]));
            } else {
                tree.push_back(Run(vec![n]));
            }
        }
        // 31^2 < 10,000 < 31^3: three levels are the fewest there can be.
        assert_eq!((tree.height, tree.leaf_count()), (3, 10_000));
    }
}

#[test]
fn a_write_beside_a_snapshot_copies_one_path() {
    let mut tree = Numbers::from_leaves((0..100_000).map(|n| Run(vec![n])));
    assert_eq!(tree.take_left_behind(), 0);
    let snapshot = tree.clone();
    let (place, _) = tree.find_index(50_000).unwrap();
    tree.edit(&place, |run| run.0[0] = 7);
    let path = 4 + usize::from(tree.height) * Inner::<Run, Shared<Run>>::BYTES;
    let left = tree.take_left_behind();
    assert!((path..path + path / 4).contains(&left), "{left} for {path}");
    // The second write finds the path its own.
    tree.edit(&place, |run| run.0[0] = 8);
    assert_eq!(tree.take_left_behind(), 0);
    assert_eq!(snapshot.leaf(&place).unwrap().0, [50_000]);
}

#[test]
fn removing_a_range_does_not_visit_what_is_in_it() {
    let mut tree =
        Numbers::from_leaves((0..100_000).map(|n| Run(vec![3 * n, 3 * n + 1, 3 * n + 2])));
    let mut cuts = 0;
    let removed = tree.remove_range(1..299_999, |run, range| {
        cuts += 1;
        run.0.drain(range);
    });
    assert_eq!((cuts, removed.leaf_count()), (2, 99_998));
    check(&tree, &[0, 299_999]);
    assert_eq!(tree.height, 1);
}
