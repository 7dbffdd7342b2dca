use proptest::prelude::*;

use super::*;

const NO_PLAIN: usize = 1 << 30;

fn list(fill: i32, depth: u32) -> Quicklist {
    Quicklist::from_listpack(Listpack::new(), fill, depth)
}

fn texts(list: &Quicklist) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    list.walk(0, End::Tail, |item| {
        all.push(item.to_vec());
        ControlFlow::Continue(())
    });
    all
}

/// The lengths of the nodes; plain ones count as 0.
fn shape(list: &Quicklist) -> Vec<usize> {
    let len = |node: &Node| if node.is_plain() { 0 } else { node.len() };
    list.nodes().map(len).collect()
}

#[test]
fn limits_are_those_of_the_directive() {
    assert_eq!(Limits::new(0), Limits::Count(0));
    assert!(!Limits::Count(0).exceeded(100, 1) && Limits::Count(0).exceeded(100, 2));
    assert_eq!(Limits::new(7), Limits::Count(7));
    assert_eq!(Limits::new(-1), Limits::Bytes(4096));
    assert_eq!(Limits::new(-5), Limits::Bytes(65536));
    assert_eq!(Limits::new(i32::MIN), Limits::Bytes(65536));
    assert!(Limits::Count(1000).exceeded(8193, 2));
    assert!(!Limits::Bytes(65536).exceeded(65536, 1 << 20));
}

/// Where a node is split and which neighbours are merged decides how many nodes there are, and that is seen from outside.
#[test]
fn nodes_are_split_and_merged_as_redis_does_it() {
    let mut it = list(4, 0);
    for text in [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h", b"i"] {
        it.push(End::Tail, text[..].into(), NO_PLAIN);
    }
    assert_eq!(shape(&it), [4, 4, 1]);
    // In the middle of a full node, before `f`: the front part takes it and goes before the rest, which then takes the
    // neighbour behind.
    it.insert(5, true, b"x"[..].into(), NO_PLAIN);
    assert_eq!(shape(&it), [4, 2, 4]);
    // After the last of a full node: into the neighbour, which has room.
    it.insert(3, false, b"y"[..].into(), NO_PLAIN);
    assert_eq!(shape(&it), [4, 3, 4]);
    // A plain element splits, and nothing is merged.
    it.insert(9, false, b"plain"[..].into(), 5);
    assert_eq!(shape(&it), [4, 3, 3, 0, 1]);
    // Removing merges nothing either.
    drop(it.remove_range(1..6));
    assert_eq!(shape(&it), [1, 1, 3, 0, 1]);
    // The place of a plain element, taken by a short one: the neighbour behind takes it in.
    it.replace(5, b"z"[..].into(), 5);
    assert_eq!(shape(&it), [1, 1, 3, 2]);
    // The place of a short element, taken by a plain one: what is left and right of it is merged.
    it.replace(3, b"plain"[..].into(), 5);
    assert_eq!(shape(&it), [1, 2, 0, 3]);
    assert_eq!(
        texts(&it).concat(),
        b"axfplainhzi".to_vec(),
        "{:?}",
        texts(&it)
    );
}

#[test]
fn inner_nodes_are_compressed_and_those_at_the_ends_are_not() {
    let mut it = list(-1, 2);
    let push = |it: &mut Quicklist, end, n: u32| {
        let text = format!("some element, number {n:06}, much like the others");
        it.push(end, text.as_bytes().into(), NO_PLAIN);
    };
    for n in 0..3000 {
        push(&mut it, if n % 3 == 0 { End::Head } else { End::Tail }, n);
    }
    let check = |it: &Quicklist| {
        let nodes: Vec<_> = it.nodes().map(Node::is_compressed).collect();
        let inner = 2..nodes.len() - 2;
        for (i, compressed) in nodes.iter().enumerate() {
            assert_eq!(*compressed, inner.contains(&i), "node {i} of {nodes:?}");
        }
    };
    check(&it);
    let before = texts(&it);
    it.replace(1500, b"short"[..].into(), NO_PLAIN);
    it.insert(1200, true, b"other"[..].into(), NO_PLAIN);
    check(&it);
    drop(it.remove_range(0..200));
    check(&it);
    while it.node_count() > 5 {
        it.pop(End::Tail, |_| ());
        check(&it);
    }
    let left = texts(&it);
    assert!(left.len() > 100);
    assert_eq!(left, before[200..200 + left.len()]);
}

#[test]
fn a_buffer_of_its_own_is_kept() {
    let big = Bytes::from(vec![b'b'; 40_000]);
    let new = NewElem {
        text: &big,
        own: Some(&big),
    };
    let mut it = list(-2, 0);
    it.push(End::Tail, b"small"[..].into(), NO_PLAIN);
    it.push(End::Tail, new, NO_PLAIN);
    it.replace(1, new, NO_PLAIN);
    let same = it.pop(End::Tail, |item| match item {
        Item::Whole(bytes) => bytes.as_ptr() == big.as_ptr(),
        Item::Elem(_) => false,
    });
    assert_eq!(same, Some(true));
    // Where more fits into the node, it is a listpack after all.
    let mut it = list(-5, 0);
    let own = Some(&big);
    it.push(End::Tail, NewElem { text: &big, own }, NO_PLAIN);
    it.push(End::Tail, b"small"[..].into(), NO_PLAIN);
    assert_eq!(shape(&it), [2]);
    assert_eq!(texts(&it), [big.to_vec(), b"small".to_vec()]);
}

/// What a snapshot holds alone is neither its list's nor counted twice.
#[test]
fn shared_nodes_are_accounted_to_those_who_keep_them() {
    for elements in [5_000, 100_000] {
        let mut it = list(-1, 0);
        for n in 0..elements {
            let text = format!("element number {n:08}");
            it.push(End::Tail, text.as_bytes().into(), NO_PLAIN);
        }
        // But for an estimate of the inner nodes, all of it.
        let kept = |it: &Quicklist| it.memory_bytes() - it.freed_by_drop();
        assert!(kept(&it) < it.memory_bytes() / 50);
        it.take_left_behind();
        let snapshot = it.clone();
        assert_eq!(it.freed_by_drop(), 0);
        // The first write copies a node (and the way to it, if it stands in the tree), the next one to that node nothing.
        let last = it.nodes().next_back().map(Leaf::heap_bytes);
        it.push(End::Tail, b"x"[..].into(), NO_PLAIN);
        let copied = it.take_left_behind();
        assert_eq!(Some(copied), last);
        it.push(End::Tail, b"x"[..].into(), NO_PLAIN);
        assert_eq!(it.take_left_behind(), 0);
        // A quarter of all nodes.
        for index in 0..elements / 4 {
            it.replace(index, b"other"[..].into(), NO_PLAIN);
        }
        let left = it.take_left_behind() + copied;
        let all = snapshot.memory_bytes();
        let quarter = all / 5..all * 3 / 10;
        assert!(quarter.contains(&left), "{left} of {all}");
        assert!(quarter.contains(&snapshot.freed_by_drop()));
        drop(snapshot);
        assert!(kept(&it) < it.memory_bytes() / 50);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push(End, Vec<u8>),
    Pop(End),
    Insert(usize, bool, Vec<u8>),
    Replace(usize, Vec<u8>),
    RemoveRange(usize, usize),
    RemoveMatches(Vec<u8>, End, usize),
    Snapshot,
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0..30i64).prop_map(|n| n.to_string().into_bytes()),
        3 => (0..4usize, 1..40usize).prop_map(|(c, n)| vec![b"abcd"[c]; n]),
        1 => (0..2usize, 60..900usize).prop_map(|(c, n)| vec![b"ab"[c]; n]),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Head), Just(End::Tail)]
}

fn op() -> impl Strategy<Value = Op> {
    let at = any::<usize>();
    prop_oneof![
        12 => (end(), text()).prop_map(|(e, t)| Op::Push(e, t)),
        5 => end().prop_map(Op::Pop),
        3 => (at, any::<bool>(), text()).prop_map(|(i, b, t)| Op::Insert(i, b, t)),
        2 => (at, text()).prop_map(|(i, t)| Op::Replace(i, t)),
        1 => (at, 0..20usize).prop_map(|(i, n)| Op::RemoveRange(i, n)),
        1 => (text(), end(), 0..4usize).prop_map(|(t, e, n)| Op::RemoveMatches(t, e, n)),
        1 => Just(Op::Snapshot),
    ]
}

/// Longer ones come in buffers of their own.
fn with_new<R>(text: &[u8], f: impl FnOnce(NewElem<'_>) -> R) -> R {
    let own = (text.len() > 100).then(|| Bytes::copy_from_slice(text));
    let own = own.as_ref();
    f(NewElem { text, own })
}

fn apply(list: &mut Quicklist, model: &mut Vec<Vec<u8>>, op: Op, plain_from: usize) {
    match op {
        Op::Push(end, t) => {
            with_new(&t, |new| list.push(end, new, plain_from));
            match end {
                End::Head => model.insert(0, t),
                End::Tail => model.push(t),
            }
        }
        Op::Pop(end) => {
            let want = match end {
                End::Head if model.is_empty() => None,
                End::Head => Some(model.remove(0)),
                End::Tail => model.pop(),
            };
            assert_eq!(list.pop(end, |item| item.to_vec()), want);
        }
        Op::Insert(i, before, t) if !model.is_empty() => {
            let i = i % model.len();
            with_new(&t, |new| list.insert(i, before, new, plain_from));
            model.insert(i + usize::from(!before), t);
        }
        Op::Replace(i, t) if !model.is_empty() => {
            let i = i % model.len();
            with_new(&t, |new| list.replace(i, new, plain_from));
            model[i] = t;
        }
        Op::RemoveRange(i, n) => {
            let from = i % (model.len() + 1);
            let to = (from + n).min(model.len());
            drop(list.remove_range(from..to));
            model.drain(from..to);
        }
        Op::RemoveMatches(t, end, max) => {
            let mut want = 0;
            let mut keep = |text: &Vec<u8>| {
                let goes = want < max && *text == t;
                want += usize::from(goes);
                !goes
            };
            match end {
                End::Head => model.retain(&mut keep),
                End::Tail => {
                    model.reverse();
                    model.retain(&mut keep);
                    model.reverse();
                }
            }
            assert_eq!(list.remove_matches(&Needle::new(&t), end, max), want);
        }
        Op::Insert(..) | Op::Replace(..) | Op::Snapshot => {}
    }
}

fn check_against(list: &Quicklist, model: &[Vec<u8>]) {
    assert_eq!(list.len(), model.len());
    assert_eq!(texts(list), model);
    let mut back = Vec::new();
    if let Some(last) = model.len().checked_sub(1) {
        list.walk(last, End::Head, |item| {
            back.push(item.to_vec());
            ControlFlow::Continue(())
        });
        // From the middle as well.
        let mut rest = Vec::new();
        list.walk(last / 2, End::Tail, |item| {
            rest.push(item.to_vec());
            ControlFlow::Continue(())
        });
        assert_eq!(rest, model[last / 2..]);
    }
    back.reverse();
    assert_eq!(back, model);
    let bytes: usize = list.nodes().map(Leaf::heap_bytes).sum();
    assert!(list.memory_bytes() >= bytes);
}

proptest! {
    /// Beside the list goes one that keeps no node apart; that nobody sees.
    #[test]
    fn it_behaves_as_a_vector_and_snapshots_stand_still(
        ops in prop::collection::vec(op(), 0..200),
        fill in prop_oneof![0..6i32, -5..0i32],
        depth in 0..3u32,
        plain_from in prop_oneof![2 => Just(NO_PLAIN), 1 => 3..30usize],
    ) {
        let (mut list, mut twin) = (list(fill, depth), list(fill, depth));
        let (mut model, mut twins_model): (Vec<Vec<u8>>, _) = (Vec::new(), Vec::new());
        let mut held = Vec::new();
        for op in ops {
            if matches!(op, Op::Snapshot) {
                held.push((list.clone(), model.clone()));
            }
            apply(&mut twin, &mut twins_model, op.clone(), plain_from);
            twin.gather();
            apply(&mut list, &mut model, op, plain_from);
            check_against(&list, &model);
            prop_assert_eq!(shape(&list), shape(&twin));
            prop_assert_eq!(list.node_count(), twin.node_count());
        }
        for (snapshot, model) in held {
            check_against(&snapshot, &model);
        }
    }
}
