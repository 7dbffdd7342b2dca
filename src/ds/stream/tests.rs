//! Streams against plain maps, with snapshots held; macro nodes against Redis's bytes, and those bytes broken.

use proptest::prelude::*;
use std::collections::BTreeMap;

use super::*;
use crate::ds::listpack::{Elem, Listpack};

const LIMITS: NodeLimits = NodeLimits {
    max_bytes: 4096,
    max_entries: 7,
};

fn id(ms: u64, seq: u64) -> StreamId {
    StreamId::new(ms, seq)
}

/// The pairs of an entry as text.
fn pairs(entry: &Entry<'_>) -> Vec<Vec<u8>> {
    let pairs = entry.pairs();
    pairs
        .flat_map(|(field, value)| [field.to_vec(), value.to_vec()])
        .collect()
}

type Model = BTreeMap<StreamId, Vec<Vec<u8>>>;

fn check(stream: &Stream, model: &Model) {
    assert_eq!(stream.len() as usize, model.len());
    let ours = stream.range(StreamId::MIN, StreamId::MAX);
    let ours: Vec<_> = ours.map(|e| (e.id, pairs(&e))).collect();
    assert!(ours.iter().map(|(id, pairs)| (id, pairs)).eq(model.iter()));
    let back = stream.rev_range(StreamId::MIN, StreamId::MAX);
    assert!(back.map(|e| e.id).eq(model.keys().rev().copied()));
    let first = model.keys().next().copied().unwrap_or_default();
    assert_eq!(stream.first_id(), first);
    assert_eq!(stream.last_live_id(), model.keys().next_back().copied());
}

#[derive(Clone, Debug)]
enum Step {
    Add {
        ms: u64,
        seq: u64,
        shape: u8,
        len: usize,
    },
    Delete(u64),
    TrimLen(u64, bool, u64),
    TrimId(u64, bool),
    Range(u64, u64),
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u64..300, 0u64..3, any::<u8>(), 0usize..200)
            .prop_map(|(ms, seq, shape, len)| Step::Add { ms, seq, shape, len }),
        3 => any::<u64>().prop_map(Step::Delete),
        1 => (0u64..60, any::<bool>(), 0u64..20).prop_map(|(n, a, l)| Step::TrimLen(n, a, l)),
        1 => (any::<u64>(), any::<bool>()).prop_map(|(n, a)| Step::TrimId(n, a)),
        2 => (any::<u64>(), any::<u64>()).prop_map(|(a, b)| Step::Range(a, b)),
        1 => Just(Step::Snapshot),
    ]
}

/// An ID at or near one that the model knows.
fn near(model: &Model, n: u64) -> StreamId {
    match model.keys().nth(n as usize % (model.len() + 1)) {
        Some(id) if n & 1 << 40 == 0 => *id,
        Some(id) => id.next().unwrap_or(*id),
        None => StreamId::new(n % 50, 0),
    }
}

fn fields(shape: u8, len: usize) -> Vec<Vec<u8>> {
    let long = vec![shape; len];
    match shape % 4 {
        0 => vec![b"a".to_vec(), long, b"b".to_vec(), b"-17".to_vec()],
        1 => vec![b"a".to_vec(), b"12345678901".to_vec(), b"b".to_vec(), long],
        2 => vec![b"7".to_vec(), long],
        _ => vec![b"a".to_vec(), b"".to_vec(), b"c".to_vec(), b"0".to_vec()],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_is_as_a_sorted_map_and_snapshots_keep_what_they_saw(
        steps in prop::collection::vec(step(), 0..400)
    ) {
        let (mut stream, mut model) = (Stream::new(), Model::new());
        let mut kept = Vec::new();
        for step in steps {
            match step {
                Step::Add { ms, seq, shape, len } => {
                    let new = match shape % 3 {
                        0 => NewId::Auto,
                        1 => NewId::AutoSeq(stream.last_id().ms + ms % 3),
                        _ => NewId::Given(id(stream.last_id().ms + ms, seq)),
                    };
                    if let Some(id) = stream.next_id(new, ms * 7) {
                        let fields = fields(shape, len);
                        let slices: Vec<&[u8]> = fields.iter().map(|f| &f[..]).collect();
                        stream.append(id, &slices, LIMITS);
                        model.insert(id, fields);
                    }
                }
                Step::Delete(n) => {
                    let id = near(&model, n);
                    prop_assert_eq!(stream.delete(&[id]) == 1, model.remove(&id).is_some());
                    prop_assert!(!stream.contains(id));
                }
                Step::TrimLen(max, approximate, limit) => {
                    let limit = if approximate { limit } else { 0 };
                    let trim = Trim { to: TrimTo::MaxLen(max), approximate, limit };
                    let walked = stream.walk_nodes_to_trim(trim);
                    prop_assert_eq!(stream.whole_nodes_to_trim(trim), walked);
                    let (deleted, _) = stream.trim(trim);
                    prop_assert!(limit == 0 || deleted <= limit);
                    prop_assert!(stream.len() >= max.min(model.len() as u64));
                    prop_assert!(approximate || stream.len() <= max);
                    for _ in 0..deleted {
                        model.pop_first();
                    }
                }
                Step::TrimId(n, approximate) => {
                    let min = near(&model, n);
                    let trim = Trim { to: TrimTo::MinId(min), approximate, limit: n % 3 * 7 };
                    let trim = Trim { limit: if approximate { trim.limit } else { 0 }, ..trim };
                    let walked = stream.walk_nodes_to_trim(trim);
                    prop_assert_eq!(stream.whole_nodes_to_trim(trim), walked);
                    let (deleted, _) = stream.trim(trim);
                    for _ in 0..deleted {
                        prop_assert!(model.pop_first().is_some_and(|(id, _)| id < min));
                    }
                    prop_assert!(approximate || model.keys().all(|id| *id >= min));
                }
                Step::Range(a, b) => {
                    let (a, b) = (near(&model, a), near(&model, b));
                    let (a, b) = (a.min(b), a.max(b));
                    let want: Vec<_> = model.range(a..=b).map(|(id, _)| *id).collect();
                    prop_assert!(stream.range(a, b).map(|e| e.id).eq(want.iter().copied()));
                    prop_assert!(stream.rev_range(a, b).map(|e| e.id).eq(want.iter().rev().copied()));
                }
                Step::Snapshot => kept.push((stream.clone(), model.clone())),
            }
        }
        kept.push((stream, model));
        for (stream, model) in &kept {
            check(stream, model);
            let nodes = stream.nodes().map(|node| {
                let listpack = node.to_listpack();
                assert_eq!(listpack.total_bytes(), node.listpack_bytes());
                let again = Node::from_listpack(node.first_id(), listpack.bytes()).unwrap();
                assert_eq!(again.to_listpack().bytes(), listpack.bytes());
                again
            });
            let again = Stream::from_nodes(nodes).unwrap();
            let live: Model = model.clone();
            check(&again, &live);
        }
    }

    #[test]
    fn broken_bytes_are_refused_or_read_without_harm(
        breaks in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut node = Node::new(id(5, 5), &[b"sensor", b"17", b"t", b"warm"]);
        for i in 0..20u8 {
            let (n, fields) = (u64::from(i), fields(i, usize::from(i) * 5));
            let slices: Vec<&[u8]> = fields.iter().map(|f| &f[..]).collect();
            node.append(id(6 + n * n, n % 3), &slices);
        }
        let mut bytes = node.to_listpack().bytes().to_vec();
        for (at, byte) in breaks {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(node) = Node::from_listpack(id(5, 5), &bytes) {
            prop_assert_eq!(node.entries().count(), node.entry_count());
            prop_assert!(node.entries().all(|e| e.pairs().count() == e.fields));
            prop_assert_eq!(node.to_listpack().total_bytes(), node.listpack_bytes());
        }
    }
}

#[test]
fn a_node_in_redis_form_is_what_redis_writes() {
    // DUMP of a stream with these two entries, the second with other fields and deleted: the node within.
    let mut node = Node::new(id(1, 1), &[b"a", b"1", b"b", b"x"]);
    node.append(id(1, 300), &[b"a", b"2"]);
    let place = node.find(id(1, 300)).unwrap().place();
    node.delete_at(place);
    let want: Listpack = [
        Elem::Int(1),
        Elem::Int(1),
        Elem::Int(2),
        Elem::Str(b"a"),
        Elem::Str(b"b"),
        Elem::Int(0),
        Elem::Int(2),
        Elem::Int(0),
        Elem::Int(0),
        Elem::Int(1),
        Elem::Str(b"x"),
        Elem::Int(5),
        Elem::Int(1),
        Elem::Int(0),
        Elem::Int(299),
        Elem::Int(1),
        Elem::Str(b"a"),
        Elem::Int(2),
        Elem::Int(6),
    ]
    .into_iter()
    .collect();
    assert_eq!(node.to_listpack().bytes(), want.bytes());
    assert_eq!(node.listpack_bytes(), want.total_bytes());
    let mut shuffled: Vec<Elem> = want.iter().collect();
    shuffled[14] = Elem::Int(-1);
    let shuffled: Listpack = shuffled.into_iter().collect();
    let back = Node::from_listpack(id(1, 1), shuffled.bytes());
    assert!(back.is_err(), "IDs that do not grow are refused");
}

#[test]
fn an_entry_of_two_sensors_takes_less_than_forty_bytes() {
    let limits = NodeLimits {
        max_bytes: 4096,
        max_entries: 100,
    };
    let mut stream = Stream::new();
    for i in 0..100_000u64 {
        let value = format!("{:016x}", i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let now_ms = 1_700_000_000_000 + i / 300;
        let id = stream.next_id(NewId::Auto, now_ms).unwrap();
        let value = value.as_bytes();
        stream.append(id, &[b"sensor", value, b"temperature", value], limits);
    }
    let each = stream.heap_bytes() as f64 / 100_000.0;
    assert!(each < 42.0, "{each} bytes an entry");
}

#[test]
fn groups_and_consumers_agree_on_what_is_pending() {
    let mut stream = Stream::new();
    for i in 1..=300 {
        stream.append(id(i, 0), &[b"f", b"v"], LIMITS);
    }
    stream.add_group(Group::new(b"g", StreamId::MIN, Some(0)));
    let ids: Vec<StreamId> = (1..=300).map(|i| id(i, 0)).collect();
    let before = stream.clone();
    stream.change_group(b"g", |group| {
        assert!(group.add_consumer(b"ann", 1) && group.add_consumer(b"bob", 1));
        assert!(!group.add_consumer(b"ann", 2));
        group.deliver(b"ann", &ids, 10);
        // The group was set back, and another reads the same.
        group.deliver(b"bob", &ids[100..200], 20);
        let claim = Claim {
            delivered_ms: 30,
            deliveries: None,
            counts: true,
        };
        let nack = group.claim(ids[0], b"bob", 30, claim).unwrap();
        assert_eq!((nack.deliveries, &**nack.consumer), (2, &b"bob"[..]));
        assert!(group.acknowledge(ids[299]).is_some() && group.acknowledge(ids[299]).is_none());
    });
    stream.note_read(b"g", &ids);
    let group = stream.group(b"g").unwrap();
    assert_eq!((group.last_id, group.entries_read), (id(300, 0), Some(300)));
    assert_eq!(stream.lag(group), Some(0));
    assert_eq!(group.pending(), 299);
    let owes = |name: &[u8]| group.consumer(name).unwrap().pending();
    assert_eq!((owes(b"ann"), owes(b"bob")), (198, 101));
    for nack in group.pending_from(StreamId::MIN) {
        let consumer = group.consumer(&nack.consumer).unwrap();
        assert_eq!(consumer.pending_from(nack.id).next(), Some(nack.id));
    }
    stream.change_group(b"g", |group| {
        assert_eq!(group.remove_consumer(b"ann"), Some(198))
    });
    assert_eq!(stream.group(b"g").unwrap().pending(), 101);
    let old = before.group(b"g").unwrap();
    assert_eq!((old.pending(), old.consumer_count()), (0, 0));
}

/// What a group of the model owes: to whom, when, how often.
type Owed = BTreeMap<StreamId, (u8, i64, u64)>;

fn check_group(stream: &Stream, owed: &Owed) {
    let group = stream.group(b"g").unwrap();
    let ours = group.pending_from(StreamId::MIN);
    let ours = ours.map(|n| (n.id, (n.consumer[0], n.delivered_ms, n.deliveries)));
    assert!(ours.eq(owed.iter().map(|(id, owed)| (*id, *owed))));
    assert_eq!(group.pending(), owed.len());
    for consumer in group.consumers() {
        let name = consumer.name()[0];
        let its = owed.iter().filter(|(_, owed)| owed.0 == name);
        assert!(
            consumer
                .pending_from(StreamId::MIN)
                .eq(its.map(|(id, _)| *id))
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_group_is_as_a_map_of_what_is_owed_and_snapshots_keep_what_they_saw(
        steps in prop::collection::vec((0u8..12, 0u8..6, 0u64..900, 1u64..150), 0..200)
    ) {
        let (mut stream, mut owed) = (Stream::new(), Owed::new());
        stream.add_group(Group::new(b"g", StreamId::MIN, None));
        let mut kept = Vec::new();
        for (now, (op, who, n, many)) in steps.into_iter().enumerate() {
            let (now, name) = (now as i64, [b'a' + who]);
            let ids: Vec<_> = (n..n + many).map(|n| id(n, 0)).collect();
            if op == 11 {
                kept.push((stream.clone(), owed.clone()));
            }
            stream.change_group(b"g", |group| match op {
                0..=3 => {
                    group.add_consumer(&name, now);
                    group.deliver(&name, &ids, now);
                    owed.extend(ids.iter().map(|id| (*id, (name[0], now, 1))));
                }
                4..=6 => for id in ids {
                    assert_eq!(group.acknowledge(id).is_some(), owed.remove(&id).is_some());
                },
                7 => {
                    group.add_consumer(&name, now);
                    let claim = Claim { delivered_ms: now, deliveries: None, counts: true };
                    for id in ids {
                        let count = owed.get(&id).map_or(1, |owed| owed.2) + 1;
                        assert!(group.claim(id, &name, now, claim).is_some());
                        owed.insert(id, (name[0], now, count));
                    }
                }
                8 => for id in ids {
                    group.deliver_again(id, now);
                    owed.entry(id).and_modify(|owed| (owed.1, owed.2) = (now, owed.2 + 1));
                },
                9 if n < 100 => {
                    let before = owed.len();
                    owed.retain(|_, owed| owed.0 != name[0]);
                    let removed = group.remove_consumer(&name);
                    assert_eq!(removed.unwrap_or(0), before - owed.len());
                }
                _ => {}
            });
        }
        kept.push((stream, owed));
        for (stream, owed) in &kept {
            check_group(stream, owed);
        }
    }
}
