//! The keyspace beside a model, with snapshots read on another thread while it is written.

use std::collections::BTreeMap;
use std::sync::mpsc;

use proptest::prelude::*;

use super::*;
use crate::db::expire::{Cycle, Kind};
use crate::object::entry::EMBED_MAX;

const KEY: HashKey = HashKey::new(11, 12);

/// What a key ought to hold.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    text: Vec<u8>,
    expiry_ms: Option<u64>,
}

type Model = BTreeMap<Vec<u8>, Held>;

#[derive(Debug, Clone)]
enum Step {
    Set(u16, usize, Expiry),
    SetInt(u16, i64),
    Append(u16, usize),
    WriteAt(u16, usize),
    SetExpiry(u16, Option<u64>),
    Remove(u16),
    Rename(u16, u16),
    Find(u16),
    Wait(u64),
    ActiveExpire,
    Flush,
    Snapshot,
}

fn expiry() -> impl Strategy<Value = Option<u64>> {
    proptest::option::of(0..1000u64)
}

fn steps() -> impl Strategy<Value = Step> {
    let key = || 0..400u16;
    let len = prop_oneof![8 => 0..80usize, 1 => 0..2 * EMBED_MAX];
    let how = prop_oneof![
        Just(Expiry::Clear),
        Just(Expiry::Keep),
        (0..1000u64).prop_map(Expiry::At)
    ];
    prop_oneof![
        12 => (key(), len.clone(), how).prop_map(|(k, n, how)| Step::Set(k, n, how)),
        4 => (key(), any::<i64>()).prop_map(|(k, v)| Step::SetInt(k, v)),
        4 => (key(), len.clone()).prop_map(|(k, n)| Step::Append(k, n)),
        2 => (key(), len).prop_map(|(k, at)| Step::WriteAt(k, at)),
        4 => (key(), expiry()).prop_map(|(k, at)| Step::SetExpiry(k, at)),
        6 => key().prop_map(Step::Remove),
        2 => (key(), key()).prop_map(|(a, b)| Step::Rename(a, b)),
        6 => key().prop_map(Step::Find),
        3 => (0..100u64).prop_map(Step::Wait),
        1 => Just(Step::ActiveExpire),
        1 => Just(Step::Snapshot),
    ]
}

fn with_rare_flush() -> impl Strategy<Value = Step> {
    prop_oneof![300 => steps(), 1 => Just(Step::Flush)]
}

fn name(key: u16) -> Vec<u8> {
    format!("key:{key}").into_bytes()
}

fn text(seed: u16, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| b'a' + ((usize::from(seed) + i) % 26) as u8)
        .collect()
}

fn content<'a>(entries: impl Iterator<Item = &'a Entry>) -> Model {
    let held = |entry: &Entry| Held {
        text: entry.as_str().unwrap().to_vec(),
        expiry_ms: entry.expiry_ms(),
    };
    entries
        .map(|entry| (entry.key().to_vec(), held(entry)))
        .collect()
}

struct Pair {
    dbs: Databases,
    model: Model,
    now_ms: u64,
}

impl Pair {
    fn is_over(&self, key: &[u8]) -> bool {
        let at = self.model.get(key).and_then(|held| held.expiry_ms);
        at.is_some_and(|at| self.now_ms > at)
    }

    fn set(&mut self, key: &[u8], value: Value<'_>, text: Vec<u8>, how: Expiry) {
        let hash = self.dbs.hash(key);
        let was_over = self.is_over(key);
        let was_there = self.model.contains_key(key);
        let old = self.model.get(key).filter(|_| !was_over);
        let expiry_ms = match how {
            Expiry::Clear => None,
            Expiry::Keep => old.and_then(|held| held.expiry_ms),
            Expiry::At(at) => Some(at),
        };
        let access = |bits: Option<u32>| {
            assert_eq!(bits.is_some(), was_there && !was_over);
            bits.unwrap_or(1)
        };
        let db = self.dbs.db_mut(0);
        let stored = db.set(hash, key, value, how, self.now_ms, access);
        assert_eq!(stored.created, !was_there || was_over);
        assert_eq!(stored.expired.is_some(), was_there && was_over);
        self.model.insert(key.to_vec(), Held { text, expiry_ms });
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Set(k, n, how) => {
                let text = text(k, n);
                self.set(&name(k), Value::from_text(&text), text.clone(), how);
            }
            Step::SetInt(k, v) => {
                self.set(
                    &name(k),
                    Value::Int(v),
                    v.to_string().into_bytes(),
                    Expiry::Keep,
                );
            }
            Step::Append(k, n) => self.edit(k, |entry, held| {
                entry.append(&text(k, n));
                held.text.extend(text(k, n));
            }),
            Step::WriteAt(k, at) => self.edit(k, |entry, held| {
                entry.write_at(at, b"xyz");
                held.text.resize(held.text.len().max(at + 3), 0);
                held.text[at..at + 3].copy_from_slice(b"xyz");
            }),
            Step::SetExpiry(k, at) => self.edit(k, |entry, held| {
                entry.set_expiry(at);
                held.expiry_ms = at;
            }),
            Step::Remove(k) => {
                let hash = self.dbs.hash(&name(k));
                let removed = self.dbs.db_mut(0).remove(hash, &name(k));
                assert_eq!(removed.is_some(), self.model.remove(&name(k)).is_some());
            }
            Step::Rename(from, to) => {
                let (from, to) = (name(from), name(to));
                let (from_hash, to_hash) = (self.dbs.hash(&from), self.dbs.hash(&to));
                if let Some(entry) = self.dbs.db_mut(0).remove(from_hash, &from) {
                    self.dbs.db_mut(0).insert(to_hash, entry.with_key(&to));
                    let held = self.model.remove(&from).unwrap();
                    self.model.insert(to, held);
                }
            }
            Step::Find(k) => {
                let (key, hash) = (name(k), self.dbs.hash(&name(k)));
                let is_over = self.is_over(&key);
                match self.dbs.db_mut(0).find_live(hash, &key, self.now_ms) {
                    Live::Missing => assert!(!self.model.contains_key(&key)),
                    Live::Found(entry) => {
                        assert!(!is_over);
                        assert!(*entry.as_str().unwrap().to_vec() == self.model[&key].text);
                    }
                    Live::Expired(entry) => {
                        assert!(is_over && entry.key() == key);
                        self.model.remove(&key);
                    }
                }
            }
            Step::Wait(ms) => self.now_ms += ms,
            Step::ActiveExpire => {
                let (mut cycle, mut gone) = (Cycle::default(), Vec::new());
                cycle.begin(Kind::Slow, 1, 10, 0, &self.dbs);
                while cycle.step(&mut self.dbs, self.now_ms, |_| false, &mut gone) {}
                let now_ms = self.now_ms;
                self.model
                    .retain(|_, held| held.expiry_ms.is_none_or(|at| now_ms <= at));
            }
            Step::Flush => {
                drop(self.dbs.flush(0));
                self.model.clear();
            }
            Step::Snapshot => unreachable!("the test's own step"),
        }
    }

    fn edit(&mut self, k: u16, f: impl FnOnce(&mut EntryMut<'_>, &mut Held)) {
        let (key, hash) = (name(k), self.dbs.hash(&name(k)));
        let entry = self.dbs.db_mut(0).entry_mut(hash, &key);
        assert_eq!(entry.is_some(), self.model.contains_key(&key));
        if let (Some(mut entry), Some(held)) = (entry, self.model.get_mut(&key)) {
            f(&mut entry, held);
        }
    }

    fn check(&self) {
        let db = self.dbs.db(0);
        assert_eq!(content(db.iter()), self.model);
        let expiries = || self.model.values().filter_map(|held| held.expiry_ms);
        assert_eq!(
            (db.len(), db.expiring_len()),
            (self.model.len(), expiries().count())
        );
        assert!(db.earliest_expiry_ms().is_none_or(|at| {
            at <= expiries()
                .min()
                .expect("a bound needs a key with an expiry")
        }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn agrees_with_a_map_while_a_saver_reads_snapshots(
        steps in proptest::collection::vec(with_rare_flush(), 1..1500)
    ) {
        let (to_saver, jobs) = mpsc::channel::<(Snapshot, Model)>();
        let saver = std::thread::spawn(move || {
            for (snapshot, was) in jobs {
                let mut found = Model::new();
                for (_, mut walk) in snapshot.into_walks() {
                    while let Some(entry) = walk.next() {
                        found.extend(content(std::iter::once(entry)));
                    }
                }
                assert!(found == was, "a snapshot is what was there when it was made");
            }
        });
        let mut pair = Pair { dbs: Databases::new(2, KEY), model: Model::new(), now_ms: 0 };
        for step in steps {
            if matches!(step, Step::Snapshot) {
                to_saver.send((pair.dbs.snapshot(), pair.model.clone())).unwrap();
            } else {
                pair.step(step);
            }
        }
        pair.check();
        drop(to_saver);
        saver.join().unwrap();
        prop_assert_eq!(pair.dbs.snapshot_held(), 0, "no snapshot is alive");
    }
}

fn filled(keys: u32, value: &[u8]) -> Databases {
    let mut dbs = Databases::new(1, KEY);
    for i in 0..keys {
        put(&mut dbs, i, value);
    }
    dbs
}

fn put(dbs: &mut Databases, i: u32, value: &[u8]) {
    let key = format!("{i:016}");
    let hash = dbs.hash(key.as_bytes());
    let value = Value::Bytes(value);
    dbs.db_mut(0)
        .set(hash, key.as_bytes(), value, Expiry::Clear, 0, |_| 0);
}

#[test]
fn what_writers_leave_is_counted_until_the_saver_has_passed_it() {
    const KEYS: u32 = 50_000;
    let mut dbs = filled(KEYS, &[1; 16]);
    let table = dbs.db(0).table_bytes();
    let snapshot = dbs.snapshot();
    assert_eq!(dbs.snapshot_held(), 0);
    for i in 0..KEYS / 2 {
        put(&mut dbs, i, &[2; 16]);
    }
    // Every segment was written to, and half of the entries of 48 bytes.
    let entries = KEYS as usize / 2 * 48;
    let held = dbs.snapshot_held();
    assert!(held > entries + table * 9 / 10 && held < entries + table * 11 / 10 + 4096);
    for i in 0..KEYS / 2 {
        put(&mut dbs, i, &[3; 16]);
    }
    assert_eq!(dbs.snapshot_held(), held, "what is unshared is overwritten");

    let (_, mut walk) = snapshot.into_walks().next().unwrap();
    let mut seen = 0;
    while let Some(entry) = walk.next() {
        assert!(entry.as_str().unwrap().get(0) == Some(1));
        seen += 1;
        if seen == KEYS / 2 {
            let now = dbs.snapshot_held();
            assert!(
                now < held * 6 / 10 && now > held * 4 / 10,
                "half of {held} went: {now}"
            );
        }
    }
    assert_eq!(seen, KEYS);
    assert!(
        dbs.snapshot_held() < held / 20,
        "of {held} {} is left",
        dbs.snapshot_held()
    );
    drop(walk);
    assert_eq!(dbs.snapshot_held(), 0);
}

#[test]
fn a_big_value_is_left_behind_by_the_chunk() {
    let mut dbs = filled(1, &vec![7; 8 << 20]);
    let snapshot = dbs.snapshot();
    let (key, hash) = ([b'0'; 16], dbs.hash(&[b'0'; 16]));
    dbs.db_mut(0)
        .entry_mut(hash, &key)
        .unwrap()
        .write_at(5 << 20, b"x");
    let held = dbs.snapshot_held();
    assert!((64 << 10..80 << 10).contains(&held), "one chunk: {held}");
    drop(dbs.db_mut(0).remove(hash, &key));
    let held = dbs.snapshot_held();
    assert!(
        (8 << 20..(8 << 20) + (64 << 10)).contains(&held),
        "all of it: {held}"
    );
    let (_, mut walk) = snapshot.into_walks().next().unwrap();
    assert_eq!(walk.next().unwrap().as_str().unwrap().len(), 8 << 20);
    assert!(walk.next().is_none());
    assert!(dbs.snapshot_held() < 4096, "{}", dbs.snapshot_held());
}

#[test]
fn a_replaced_entry_keeps_its_access_bits_and_an_expired_one_does_not() {
    let mut dbs = Databases::new(1, KEY);
    let hash = dbs.hash(b"k");
    let db = dbs.db_mut(0);
    db.set(hash, b"k", Value::Int(1), Expiry::At(10), 0, |_| 5);
    db.set(
        hash,
        b"k",
        Value::Bytes(&[0; 100]),
        Expiry::Keep,
        10,
        |old| old.unwrap() + 1,
    );
    let entry = db.get(hash, b"k").unwrap();
    assert_eq!((entry.access(), entry.expiry_ms()), (6, Some(10)));
    let stored = db.set(hash, b"k", Value::Int(2), Expiry::Keep, 11, |old| {
        old.map_or(9, |_| unreachable!())
    });
    assert!(stored.created && stored.expired.is_some());
    let entry = db.get(hash, b"k").unwrap();
    assert_eq!((entry.access(), entry.expiry_ms()), (9, None));
    assert_eq!(db.expiring_len(), 0);
}
