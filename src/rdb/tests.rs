//! What is written is read again, whatever it is; what is not right is refused, whatever it is.

pub(crate) mod old;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::base::lzf::Compressor;
use crate::base::rng::Rng;
use crate::db::keyspace::Databases;
use crate::ds::dict::HashKey;
use crate::ds::listpack::Elem;
use crate::ds::stream::{Claim, Group, NodeLimits, StreamId};
use crate::object::access::AccessPolicy;
use crate::object::hash::HashRules;
use crate::object::list::{End, Item as ListItem, ListRules, NewElem};
use crate::object::set::SetRules;
use crate::object::zset::{Rules as ZsetRules, ScoreEnd, ScoreRange};
use crate::object::{
    AccessClock, Container, Encoding, Entry, Hash, List, Set, Stream, Value, ValueRef, Zset,
};

const HASH_KEY: HashKey = HashKey::new(3, 4);

/// Low limits, so that all forms come up.
const RULES: Rules = Rules {
    list: ListRules {
        fill: -1,
        depth: 0,
        plain_from: 6000,
    },
    set: SetRules {
        intset_entries: 8,
        listpack_entries: 6,
        listpack_value: 20,
        hash_key: HASH_KEY,
    },
    hash: HashRules {
        listpack_entries: 6,
        listpack_value: 20,
        hash_key: HASH_KEY,
    },
    zset: ZsetRules {
        entries_max: 6,
        value_max: 20,
        hash_key: HASH_KEY,
    },
    deep: true,
};

fn format(version: Version, compress: bool) -> Format {
    Format {
        version,
        compress,
        checksum: true,
    }
}

// --- Values to write -------------------------------------------------------------------------------------------

type Text = Vec<u8>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Model {
    Str(Text),
    List(Vec<Text>),
    Set(BTreeSet<Text>),
    Zset(BTreeMap<Text, f64>),
    Hash(BTreeMap<Text, Text>),
    Stream(String),
}

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![
        4 => (-200..200i64).prop_map(|n| n.to_string().into_bytes()),
        1 => any::<i32>().prop_map(|n| n.to_string().into_bytes()),
        1 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        4 => vec(any::<u8>(), 0..12),
        1 => vec(97..100u8, 0..200),
        1 => (vec(any::<u8>(), 1..20), 1..300usize).prop_map(|(part, n)| part.repeat(n)),
        1 => vec(any::<u8>(), 0..5000),
    ]
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-20..20i32).prop_map(f64::from),
        (-20..20i32).prop_map(|n| f64::from(n) / 8.0),
        any::<f64>().prop_filter("a number", |x| !x.is_nan()),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
    ]
}

fn model() -> impl Strategy<Value = Model> {
    prop_oneof![
        text().prop_map(Model::Str),
        vec(text(), 1..30).prop_map(Model::List),
        btree_set((-99..99i32).prop_map(|n| n.to_string().into_bytes()), 1..12)
            .prop_map(Model::Set),
        btree_set(text(), 1..20).prop_map(Model::Set),
        btree_map(text(), score(), 1..20).prop_map(Model::Zset),
        btree_map(text(), text(), 1..20).prop_map(Model::Hash),
    ]
}

/// A container as an entry has it.
fn entry_of<C: Container>(container: C) -> Entry {
    match container.compact() {
        Some(compact) => Entry::new(b"key", Value::Compact(compact), None, 0),
        None => Entry::new(b"key", Value::Heap(container.into_heap()), None, 0),
    }
}

fn entry(model: &Model) -> Entry {
    match model {
        Model::Str(text) => Entry::new(b"key", Value::from_text(text), None, 0),
        Model::List(elems) => entry_of(List::of(
            elems.iter().map(|t| NewElem::from(&t[..])),
            &RULES.list,
        )),
        Model::Set(members) => {
            let mut set = Set::of_integers();
            for member in members {
                set.add(Elem::Str(member), &RULES.set);
            }
            entry_of(set)
        }
        Model::Zset(members) => {
            let mut zset = Zset::for_adding(&RULES.zset, 1, 1);
            for (member, score) in members {
                zset.update(&RULES.zset, member, |_| Some(*score));
            }
            entry_of(zset)
        }
        Model::Hash(pairs) => {
            let mut hash = Hash::new();
            for (field, value) in pairs {
                hash.set(field, value, &RULES.hash);
            }
            entry_of(hash)
        }
        Model::Stream(_) => unreachable!("streams are made by hand"),
    }
}

fn content(value: ValueRef<'_>) -> Model {
    match value {
        ValueRef::Str(text) => Model::Str(text.to_vec()),
        ValueRef::List(list) => {
            let mut elems = Vec::new();
            list.walk(0, End::Tail, |item: ListItem<'_>| {
                elems.push(item.to_vec());
                ControlFlow::Continue(())
            });
            Model::List(elems)
        }
        ValueRef::Set(set) => Model::Set(set.iter().map(Elem::to_vec).collect()),
        ValueRef::Zset(zset) => {
            // Both zeros are one.
            Model::Zset(zset.iter().map(|(m, s)| (m.to_vec(), s + 0.0)).collect())
        }
        ValueRef::Hash(hash) => {
            Model::Hash(hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect())
        }
        ValueRef::Stream(stream) => Model::Stream(stream_content(stream)),
    }
}

fn stream_content(stream: &Stream) -> String {
    let mut all = format!(
        "{} {:?} {:?} {:?} {}\n",
        stream.len(),
        stream.first_id(),
        stream.last_id(),
        stream.max_deleted_id(),
        stream.entries_added()
    );
    for entry in stream.range(StreamId::MIN, StreamId::MAX) {
        let pairs: Vec<_> = entry
            .pairs()
            .map(|(f, v)| (f.to_vec(), v.to_vec()))
            .collect();
        all += &format!("{:?} {pairs:?}\n", entry.id);
    }
    for group in stream.groups() {
        all += &format!(
            "{:?} {:?} {:?}\n",
            group.name(),
            group.last_id,
            group.entries_read
        );
        for nack in group.pending_from(StreamId::MIN) {
            all += &format!(
                "{:?} {:?} {} {}\n",
                nack.id, nack.consumer, nack.delivered_ms, nack.deliveries
            );
        }
        for consumer in group.consumers() {
            let owes: Vec<_> = consumer.pending_from(StreamId::MIN).collect();
            all += &format!(
                "{:?} {} {:?} {owes:?}\n",
                consumer.name(),
                consumer.seen_ms,
                consumer.active_ms
            );
        }
    }
    all
}

/// A stream with deleted entries, entries of other fields, and two groups.
fn stream() -> Stream {
    let limits = NodeLimits {
        max_bytes: 400,
        max_entries: 5,
    };
    let mut stream = Stream::new();
    for i in 1..40u64 {
        let value = i.to_string();
        let pairs: [&[u8]; 4] = [b"field", value.as_bytes(), b"other", b"a value"];
        let pairs = if i % 7 == 0 { &pairs[2..] } else { &pairs[..] };
        stream.append(StreamId::new(1000 + i, i % 3), pairs, limits);
    }
    stream.delete(&[StreamId::new(1004, 1), StreamId::new(1001, 1)]);
    let mut group = Group::new(b"readers", StreamId::new(1010, 1), None);
    for name in [&b"one"[..], b"two", b"idle"] {
        group.add_consumer(name, 77);
    }
    let id = |i: u64| StreamId::new(1000 + i, i % 3);
    group.deliver(b"one", &[id(2), id(3), id(5)], 5000);
    group.deliver(b"two", &[id(8)], 5001);
    group.claim(
        id(3),
        b"two",
        6000,
        Claim {
            delivered_ms: 6000,
            deliveries: None,
            counts: true,
        },
    );
    stream.add_group(group);
    stream.add_group(Group::new(b"late", StreamId::MIN, Some(0)));
    stream
}

// --- Round trips -----------------------------------------------------------------------------------------------

fn dumped(entry: &Entry, version: Version, compress: bool) -> Vec<u8> {
    encode_dump(entry, format(version, compress), &mut Compressor::new())
}

fn restored(payload: &[u8], rules: &Rules) -> Option<Entry> {
    let mut dump = Dump::open(payload, true).ok()?;
    let value = dump.value(rules).ok()??;
    Some(Entry::new(b"key", value, None, 0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn values_come_back(model in model()) {
        let entry = entry(&model);
        let want = content(entry.value());
        for version in [Version::V10, Version::V11] {
            for compress in [false, true] {
                let payload = dumped(&entry, version, compress);
                let back = restored(&payload, &RULES).unwrap();
                prop_assert_eq!(content(back.value()), want.clone());
                prop_assert_eq!(back.encoding(), entry.encoding());
                // The ends of a list that was pushed stand apart, which saves it an inner node at best.
                let more = if matches!(model, Model::List(_)) { 1536 } else { 64 };
                prop_assert!(back.memory_bytes() <= entry.memory_bytes() + more);
                if version == Version::V11 {
                    let body = payload.len() as u64 - 11;
                    prop_assert_eq!(saved_len(&entry, compress), body);
                }
            }
        }
    }

    #[test]
    fn files_come_back(
        models in vec((model(), prop::option::of(1..1_000_000u64), 0..3u32), 0..20),
        compress in any::<bool>(),
    ) {
        let mut dbs = Databases::new(16, HASH_KEY);
        let mut want = BTreeMap::new();
        for (i, (model, expiry, db)) in models.iter().enumerate() {
            let key = format!("key:{i}");
            let hash = dbs.hash(key.as_bytes());
            let entry = entry(model).with_key(key.as_bytes()).with_expiry(*expiry);
            want.insert((u64::from(*db), key.into_bytes()), (content(entry.value()), *expiry));
            dbs.db_mut(*db).insert(hash, entry);
        }
        let file = written(&mut dbs, format(Version::V11, compress), Usage::Nothing);
        let mut got = BTreeMap::new();
        let mut libraries = Vec::new();
        let mut decoder = Decoder::new(&file[..], RULES, true).unwrap();
        while let Some(item) = decoder.next().unwrap() {
            match item {
                Item::Key(key) => {
                    let entry = Entry::new(key.key, key.value.unwrap(), key.expiry_ms, 0);
                    let model = content(entry.value());
                    got.insert((key.db, key.key.to_vec()), (model, key.expiry_ms));
                }
                Item::Function(text) => libraries.push(text.into_owned()),
                _ => {}
            }
        }
        prop_assert_eq!(got, want);
        prop_assert_eq!(libraries, [b"#!lua name=a".to_vec(), b"#!lua name=b".to_vec()]);
        prop_assert_eq!(decoder.checksum(), Some(Checksum::Right));
        prop_assert_eq!(decoder.offset(), file.len() as u64);
    }
}

fn written(dbs: &mut Databases, format: Format, usage: Usage) -> Vec<u8> {
    let info = Info {
        redis_version: "7.2.6",
        created_s: 1_700_000_000,
        used_memory: 1_000_000,
        replication: None,
        aof_base: false,
    };
    let libraries = [&b"#!lua name=a"[..], b"#!lua name=b"];
    let (snapshot, progress) = (dbs.snapshot(), Progress::default());
    let functions = libraries.into_iter();
    let (file, bytes) = write_file(
        Vec::new(),
        snapshot,
        functions,
        &info,
        usage,
        format,
        &progress,
    )
    .unwrap();
    assert_eq!((bytes, progress.bytes()), (file.len() as u64, bytes));
    assert_eq!(progress.keys(), dbs.len() as u64);
    file
}

#[test]
fn a_stream_comes_back() {
    let stream = stream();
    let want = stream_content(&stream);
    let entry = entry_of(stream);
    for compress in [false, true] {
        let back = restored(&dumped(&entry, Version::V11, compress), &RULES).unwrap();
        assert_eq!(content(back.value()), Model::Stream(want.clone()));
    }
    // What 7.0 reads has no active times.
    let back = restored(&dumped(&entry, Version::V10, false), &RULES).unwrap();
    let want = want
        .replace("77 None", "77 Some(77)")
        .replace("77 Some(5000)", "77 Some(77)")
        .replace("77 Some(6000)", "77 Some(77)");
    assert_eq!(content(back.value()), Model::Stream(want));
    let mut alone = Stream::new();
    alone.set_ids(StreamId::new(5, 6), Some(9), Some(StreamId::new(4, 0)));
    let want = stream_content(&alone);
    let back = restored(&dumped(&entry_of(alone), Version::V11, true), &RULES).unwrap();
    assert_eq!(content(back.value()), Model::Stream(want));
}

/// Strings beyond all buffers: of chunks with holes, one that grows when it is compressed, a node of a list.
#[test]
fn long_strings_come_back() {
    let mut rng = Rng::new(1);
    let noise: Vec<u8> = (0..3 << 20).map(|_| rng.below(256) as u8).collect();
    let mut holes = crate::object::bigstr::BigStr::copy_from(b"begin");
    holes.write_at(20 << 20, &noise[..70_000]);
    let half = [&noise[..1 << 20], &vec![b'x'; 2 << 20][..]].concat();
    let values = [
        Value::Heap(crate::object::Heap::Str(crate::ds::cow::Shared::new(holes))),
        Value::Bytes(&noise),
        Value::Bytes(&half),
        Value::Bytes(&half[..300_000]),
        Value::Bytes(&noise[..100_000]),
    ];
    for value in values {
        let entry = Entry::new(b"key", value, None, 0);
        for compress in [false, true] {
            let payload = dumped(&entry, Version::V11, compress);
            assert_eq!(saved_len(&entry, compress), payload.len() as u64 - 11);
            let back = restored(&payload, &RULES).unwrap();
            assert!(content(back.value()) == content(entry.value()));
        }
    }
    for (len, fill, plain_from) in [
        (500_000, -1, 600_000),
        (500_000, -1, 400_000),
        (5000, -5, 6000),
    ] {
        let rules = ListRules {
            fill,
            depth: 1,
            plain_from,
        };
        let own = Bytes::copy_from_slice(&noise[..len]);
        let elems = [&b"a"[..], &own, &half[..len], b"b", b"c"];
        let buffers = elems.map(Bytes::copy_from_slice);
        let elems = buffers.each_ref().map(|text| NewElem {
            text,
            own: (text.len() > 1).then_some(text),
        });
        let entry = entry_of(List::of(elems, &rules));
        for compress in [false, true] {
            let payload = dumped(&entry, Version::V11, compress);
            let rules = Rules {
                list: rules,
                ..RULES
            };
            let back = restored(&payload, &rules).unwrap();
            assert!(content(back.value()) == content(entry.value()));
            let nodes = |entry: &Entry| match entry.value() {
                ValueRef::List(list) => list.quicklist().map(|l| (l.node_count(), l.len())),
                _ => None,
            };
            assert_eq!(nodes(&back), nodes(&entry));
        }
    }
}

#[test]
fn access_is_written_by_the_policy() {
    let mut dbs = Databases::new(16, HASH_KEY);
    let clock = |policy| AccessClock::new(policy, 100_000_000);
    let lru = AccessPolicy::Lru;
    let lfu = AccessPolicy::Lfu {
        log_factor: 10,
        decay_time_min: 0,
    };
    let cases = [
        (lru, Usage::Idle(clock(lru)), Some(100), None),
        (lfu, Usage::Frequency(clock(lfu)), None, Some(5)),
        (lru, Usage::Nothing, None, None),
    ];
    for (policy, usage, idle_s, frequency) in cases {
        let access = AccessClock::new(policy, 99_900_000).fresh();
        let hash = dbs.hash(b"k");
        dbs.db_mut(0)
            .insert(hash, Entry::new(b"k", Value::Int(1), None, access));
        let file = written(&mut dbs, format(Version::V11, true), usage);
        let mut decoder = Decoder::new(&file[..], RULES, true).unwrap();
        let mut seen = false;
        while let Some(item) = decoder.next().unwrap() {
            if let Item::Key(key) = item {
                assert_eq!((key.idle_s, key.frequency), (idle_s, frequency));
                seen = true;
            }
        }
        assert!(seen);
    }
}

#[test]
fn a_cancelled_save_ends() {
    let mut dbs = Databases::new(1, HASH_KEY);
    let hash = dbs.hash(b"k");
    dbs.db_mut(0)
        .insert(hash, Entry::new(b"k", Value::Bytes(&[7; 1 << 20]), None, 0));
    let info = Info {
        redis_version: "7.2.6",
        created_s: 0,
        used_memory: 0,
        replication: None,
        aof_base: false,
    };
    let progress = Progress::default();
    progress.cancel();
    let (snapshot, format) = (dbs.snapshot(), format(Version::V11, true));
    let none = std::iter::empty();
    let end = write_file(
        Vec::new(),
        snapshot,
        none,
        &info,
        Usage::Nothing,
        format,
        &progress,
    );
    assert!(matches!(end, Err(SaveError::Cancelled)));
}

// --- Damage ----------------------------------------------------------------------------------------------------

/// Does with a value what commands may do with it. Nothing may go wrong, whatever the payload was.
fn use_it(mut entry: Entry) {
    let before = content(entry.value());
    let again = dumped(&entry, Version::V11, true);
    assert!(
        restored(
            &again,
            &Rules {
                deep: false,
                ..RULES
            }
        )
        .is_some(),
        "{before:?}"
    );
    let mut rng = Rng::new(5);
    match entry.value() {
        ValueRef::Zset(zset) => {
            let end = |score| ScoreEnd { score, open: false };
            let range = ScoreRange {
                min: end(-3.0),
                max: end(9.0),
            };
            let ranks = zset.ranks_of_scores(&range);
            let _ = zset.items(ranks, true).count();
            for (member, _) in zset.iter() {
                let _ = zset.rank(&member.to_vec());
            }
            let mut copy = zset.clone();
            for i in 0..9u32 {
                copy.update(&RULES.zset, &i.to_le_bytes(), |_| Some(f64::from(i)));
            }
            while copy.pop(false, |_, _| ()).is_some() {}
        }
        ValueRef::Hash(hash) => {
            let _ = hash.random(&mut rng);
            if let Some(mut copy) = Hash::unpacked(hash) {
                for i in 0..9u32 {
                    copy.set(&i.to_le_bytes(), b"x", &RULES.hash);
                }
                for (field, _) in hash.iter() {
                    copy.remove(&field.to_vec());
                }
            }
        }
        ValueRef::Set(set) => {
            let _ = set.random(&mut rng);
            if let Some(mut copy) = Set::unpacked(set) {
                for i in 0..9 {
                    copy.add(Elem::Int(i * 1000), &RULES.set);
                }
                for member in set.iter() {
                    copy.remove(member);
                }
            }
        }
        ValueRef::List(list) => {
            let mut copy = list.clone();
            copy.insert(0, true, (&b"new"[..]).into(), &RULES.list);
            copy.replace(1, (&b"other"[..]).into(), &RULES.list);
            while copy.pop(End::Tail, |_| ()).is_some() {}
        }
        ValueRef::Stream(stream) => {
            let mut copy = stream.clone();
            let ids: Vec<_> = copy
                .range(StreamId::MIN, StreamId::MAX)
                .map(|e| e.id)
                .collect();
            copy.delete(&ids);
        }
        ValueRef::Str(_) => {}
    }
    let _ = entry.heap_mut::<List>().is_some()
        || entry.heap_mut::<Set>().is_some()
        || entry.heap_mut::<Zset>().is_some()
        || entry.heap_mut::<Hash>().is_some()
        || entry.heap_mut::<Stream>().is_some();
}

/// All kinds of payloads: ours, and old ones.
fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    let old: Vec<Vec<u8>> = old::old_payloads()
        .into_iter()
        .map(|(payload, ..)| payload)
        .collect();
    prop_oneof![
        6 => (model(), any::<bool>(), any::<bool>()).prop_map(|(model, new, compress)| {
            let version = if new { Version::V11 } else { Version::V10 };
            dumped(&entry(&model), version, compress)
        }),
        3 => prop::sample::select(old),
        2 => any::<bool>().prop_map(|compress| dumped(&entry_of(stream()), Version::V11, compress)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn damaged_payloads_are_read_or_refused(
        payload in any_payload(),
        flips in vec((any::<prop::sample::Index>(), 0..8u8), 1..4),
        overwrite in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        cut in prop::option::of(any::<prop::sample::Index>()),
        deep in any::<bool>(),
    ) {
        let mut damaged = payload.clone();
        let body = damaged.len() - 10;
        for (at, bit) in flips {
            damaged[at.index(body)] ^= 1 << bit;
        }
        if let Some((at, byte)) = overwrite {
            damaged[at.index(body)] = byte;
        }
        if let Some(cut) = cut {
            let cut = cut.index(body);
            damaged.drain(cut..body);
        }
        // Two flips may meet, and zeros at the front are nothing to a checksum.
        if damaged != payload && cut.is_none() {
            prop_assert_eq!(Dump::open(&damaged, true).err(), Some(WrongFooter));
        }
        let mut dump = Dump::open(&damaged, false).unwrap();
        if let Ok(Some(value)) = dump.value(&Rules { deep, ..RULES }) {
            use_it(Entry::new(b"key", value, None, 0));
        }
    }

    #[test]
    fn damaged_files_are_read_or_refused(
        models in vec(model(), 1..5),
        flips in vec((any::<prop::sample::Index>(), 0..8u8), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut dbs = Databases::new(16, HASH_KEY);
        for (i, model) in models.iter().enumerate() {
            let key = i.to_string();
            let hash = dbs.hash(key.as_bytes());
            dbs.db_mut(0).insert(hash, entry(model).with_key(key.as_bytes()));
        }
        let mut file = written(&mut dbs, format(Version::V11, true), Usage::Nothing);
        let whole = file.len();
        for (at, bit) in &flips {
            let at = at.index(whole);
            file[at] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(whole));
        }
        let Ok(mut decoder) = Decoder::new(&file[..], RULES, true) else {
            return Ok(());
        };
        let mut steps = 0;
        let end = loop {
            match decoder.next() {
                Ok(Some(Item::Key(Key { value: Some(value), .. }))) => {
                    use_it(Entry::new(b"key", value, None, 0));
                }
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
            steps += 1;
            prop_assert!(steps <= whole, "it goes round");
        };
        // A flip may make it an old version, which needs no checksum.
        if file.len() < whole && flips.is_empty() {
            prop_assert!(end.is_err());
        }
    }
}

/// A value may claim any length: memory is taken for what is there.
#[test]
fn claims_are_not_believed() {
    let lengths: [&[u8]; 5] = [
        b"\x80\xff\xff\xff\xff",
        b"\x81\x00\x00\x01\x00\x00\x00\x00\x00",
        b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff",
        // Compressed, ten bytes of four thousand million; and the other way round.
        b"\xc3\x0a\x80\xff\xff\xff\xff",
    ];
    for kind in 0..=25 {
        for (first, second) in lengths.iter().flat_map(|a| lengths.map(|b| (*a, b))) {
            for between in [&b""[..], b"\x01", b"\x02\x01a"] {
                let body = [&[kind][..], between, first, second, b"abcdefgh", &[11, 0]].concat();
                let payload = [&body[..], &[0; 8]].concat();
                let mut dump = Dump::open(&payload, false).unwrap();
                // (A short string in front of a claim may be all that a value is.)
                let refused = dump.value(&RULES).is_err();
                assert!(refused || !between.is_empty(), "{body:?}");
                let file = [b"REDIS0011\xfb", first, second, &body[..]].concat();
                let mut decoder = Decoder::new(&file[..], RULES, true).unwrap();
                while decoder.next().is_ok_and(|item| item.is_some()) {}
            }
        }
    }
    assert!(crate::base::alloc::peak_memory() < 3 << 30);
}
