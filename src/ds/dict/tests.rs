//! The dict against a model, with every invariant of the table checked on the way.

mod random;

use super::group::{Bits, GROUP};
use super::page::{FANOUT, PageRef, Sums};
use super::segment::{KEYS_MAX, NEVER, Seg, tag_of};
use super::tree::Top;
use super::*;
use crate::base::slot::Slot;
use crate::ds::cow::Count;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Body {
    owners: Count,
    deadline: Option<u64>,
    value: u64,
    key: Vec<u8>,
    /// Counts the bodies alive, so that a test sees leaks and double frees.
    alive: Arc<AtomicUsize>,
}

#[repr(transparent)]
struct Rec(Handle);

// SAFETY: a body is shared for reading, and written only where `is_unique` allows.
unsafe impl Send for Rec {}
// SAFETY: as above.
unsafe impl Sync for Rec {}

impl Rec {
    fn new(key: &[u8], value: u64, deadline: Option<u64>, alive: &Arc<AtomicUsize>) -> Rec {
        alive.fetch_add(1, Ordering::Relaxed);
        let body = Body {
            owners: Count::new(),
            deadline,
            value,
            key: key.to_vec(),
            alive: alive.clone(),
        };
        Rec(Handle::new(NonNull::from(Box::leak(Box::new(body))).cast()))
    }
    fn body(&self) -> &Body {
        // SAFETY: a Rec owns a reference to a Body.
        unsafe { self.0.ptr().cast().as_ref() }
    }
    fn body_mut(&mut self) -> &mut Body {
        assert!(self.is_unique());
        // SAFETY: the only owner, borrowed mutably.
        unsafe { self.0.ptr().cast().as_mut() }
    }
}

impl Clone for Rec {
    fn clone(&self) -> Self {
        self.body().owners.inc();
        Rec(self.0.duplicate())
    }
}

impl Drop for Rec {
    fn drop(&mut self) {
        // SAFETY: gives up the reference it owns; the last one frees the box.
        unsafe {
            if self.body().owners.dec() {
                self.body().alive.fetch_sub(1, Ordering::Relaxed);
                drop(Box::from_raw(self.0.ptr().cast::<Body>().as_ptr()));
            }
        }
    }
}

// SAFETY: transparent around a Handle, reached through ptr; clone and drop count.
unsafe impl Record for Rec {
    fn key(&self) -> &[u8] {
        &self.body().key
    }
    fn deadline(&self) -> Option<u64> {
        self.body().deadline
    }
    fn is_unique(&self) -> bool {
        self.body().owners.is_unique()
    }
}

const KEY: HashKey = HashKey::new(0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321);

/// A small generator, enough for tests.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Checks the table from the root down: structure, order, sums, and that every record can be found.
fn check(dict: &Dict<Rec>) {
    let (mut keys, mut ttls) = (0, 0);
    let mut segment = |seg: Seg<Rec>, prefix: u64| {
        let (depth, shape) = (seg.depth(), seg.shape());
        let (mut n, mut t, mut earliest) = (0, 0, NEVER);
        let mut passed = vec![0u32; shape.groups()];
        for group in 0..shape.groups() {
            for index in Bits(seg.used(group)).map(|i| group * GROUP + i) {
                assert!(index < shape.slots());
                // SAFETY: in use.
                let record: &Rec = unsafe { seg.record(index) };
                let hash = dict.hash(record.key());
                assert_eq!(
                    hash & !u64::MAX.checked_shr(depth).unwrap_or(0),
                    prefix,
                    "in the right segment"
                );
                assert_eq!(seg.order_at(index), shape.order(shape.stored(hash)));
                assert_eq!(seg.find(hash, record.key()), Some(index));
                assert_eq!(tag_of(hash), (hash as u8).max(1));
                let mut g = seg.home_at(index);
                while g != group {
                    passed[g] += 1;
                    g = (g + 1) % shape.groups();
                }
                n += 1;
                t += usize::from(record.deadline().is_some());
                earliest = earliest.min(record.deadline().unwrap_or(NEVER));
            }
        }
        for (group, &count) in passed.iter().enumerate() {
            let counter = u32::from(seg.overflowed(group));
            assert!(counter == count || counter == 255, "{counter} {count}");
        }
        assert_eq!((seg.keys(), seg.ttls()), (n, t));
        assert!(seg.earliest() <= earliest && (t > 0 || seg.earliest() == NEVER));
        assert!(n <= KEYS_MAX);
        keys += n;
        ttls += t;
        Sums {
            keys: n as u32,
            ttls: t as u32,
            earliest: seg.earliest(),
        }
    };
    match &dict.top {
        Top::Empty => {}
        Top::Small(seg) => {
            segment(*seg, 0);
        }
        Top::Tree(root) => {
            let mut position = Some(0);
            for entry in root.runs() {
                let page: PageRef<Rec> = entry.page;
                let mut sums = Sums {
                    keys: 0,
                    ttls: 0,
                    earliest: NEVER,
                };
                let end = page.end(position.unwrap());
                let mut runs = 0;
                for (at, seg) in page.runs() {
                    let run = FANOUT >> (seg.depth() - page.depth());
                    assert_eq!(at % run, 0);
                    page.page().segs[at..at + run]
                        .iter()
                        .for_each(|s| assert!(*s == seg));
                    let s = segment(seg, position.unwrap());
                    sums.keys += s.keys;
                    sums.ttls += s.ttls;
                    sums.earliest = sums.earliest.min(s.earliest);
                    runs += 1;
                    position = super::scan::end_of(seg, position.unwrap());
                }
                assert_eq!(position, end);
                assert!(
                    runs > 1 || page.depth() > 0,
                    "a single segment needs no tree"
                );
                assert_eq!((sums.keys, sums.ttls), (entry.sums.keys, entry.sums.ttls));
                assert!(entry.sums.earliest <= sums.earliest);
                assert!(sums.ttls > 0 || entry.sums.earliest == NEVER);
            }
            assert_eq!(position, None);
            root.check();
        }
    }
    assert_eq!((keys, ttls), (dict.len(), dict.expiring_len()));
}

type Model = BTreeMap<Vec<u8>, (u64, Option<u64>)>;

fn same(dict: &Dict<Rec>, model: &Model) {
    assert_eq!(dict.len(), model.len());
    let mut seen = HashSet::new();
    for record in dict {
        let body = record.body();
        assert_eq!(model.get(&body.key), Some(&(body.value, body.deadline)));
        assert!(seen.insert(&body.key));
    }
    assert_eq!(seen.len(), model.len());
}

/// A SCAN under way beside everything else: what was there all the time must come.
struct Scanning {
    cursor: u64,
    must: BTreeSet<Vec<u8>>,
}

/// Dict and model side by side.
struct Pair {
    dict: Dict<Rec>,
    model: Model,
    snapshots: Vec<(Dict<Rec>, Model)>,
    scanning: Option<Scanning>,
    rng: Rng,
    pool: Arc<Vec<Vec<u8>>>,
    now: u64,
    alive: Arc<AtomicUsize>,
}

/// Keys of which half lie under one 13-bit prefix, so that a few thousand make pages split and the root grow.
fn skewed_pool() -> Arc<Vec<Vec<u8>>> {
    static POOL: std::sync::OnceLock<Arc<Vec<Vec<u8>>>> = std::sync::OnceLock::new();
    let make = || {
        let names = || (0u32..).map(|i| format!("key:{i}").into_bytes());
        let even = names().take(10_000);
        let deep = names()
            .skip(10_000)
            .filter(|k| KEY.hash(k) >> 51 == 0b0_1101_1010_0111)
            .take(300);
        let deeper = names()
            .skip(10_000)
            .filter(|k| KEY.hash(k) >> 56 == 0b1011_0110)
            .take(9_700);
        Arc::new(even.chain(deep).chain(deeper).collect())
    };
    POOL.get_or_init(make).clone()
}

/// Keys of which many share a few slots.
fn pool_of_slots() -> Arc<Vec<Vec<u8>>> {
    let names = |tag: &'static str, count: u32| {
        (0..count).map(move |i| format!("{tag}key:{i}").into_bytes())
    };
    let cold = names("", 6_000);
    let all = cold
        .chain(names("{hot}", 5_000))
        .chain(names("{warm}", 300));
    Arc::new(all.collect())
}

impl Pair {
    fn new(seed: u64) -> Pair {
        Pair {
            dict: Dict::new(KEY),
            model: Model::new(),
            snapshots: Vec::new(),
            scanning: None,
            rng: Rng(seed),
            pool: skewed_pool(),
            now: 1_000,
            alive: Arc::default(),
        }
    }

    /// As `new`, with hashes by slot, of which some have many keys.
    fn by_slot(seed: u64) -> Pair {
        Pair {
            dict: Dict::new(KEY.by_slot()),
            pool: pool_of_slots(),
            ..Pair::new(seed)
        }
    }

    /// That slots have what the model says, of a few.
    fn check_slots(&mut self) {
        for key in [
            b"{hot}".to_vec(),
            b"{warm}".to_vec(),
            self.key(),
            self.key(),
        ] {
            let slot = Slot::of(&key);
            let of_slot = |key: &&[u8]| Slot::of(key) == slot;
            let want: BTreeSet<&[u8]> = self
                .model
                .keys()
                .map(Vec::as_slice)
                .filter(of_slot)
                .collect();
            assert_eq!(self.dict.slot_len(slot), want.len());
            let (mut seen, half) = (BTreeSet::new(), want.len() / 2);
            self.dict
                .each_of_slot(slot, |r| seen.insert(r.key().to_vec()));
            assert!(seen.iter().eq(want.iter()));
            let mut left = half;
            self.dict.each_of_slot(slot, |_| {
                left = left.wrapping_sub(1);
                left > 0
            });
            assert!(left == 0 || half == 0);
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let i = self.rng.below(self.pool.len() as u64) as usize;
        self.pool[i].clone()
    }

    fn deadline(&mut self, percent: u64) -> Option<u64> {
        (self.rng.below(100) < percent).then(|| self.now + 1 + self.rng.below(10_000))
    }

    fn insert(&mut self, percent: u64) {
        let (key, value, deadline) = (self.key(), self.rng.next(), self.deadline(percent));
        let hash = self.dict.hash(&key);
        let record = Rec::new(&key, value, deadline, &self.alive);
        let old = self
            .dict
            .insert(hash, record)
            .map(|r| (r.body().value, r.body().deadline));
        assert_eq!(old, self.model.insert(key, (value, deadline)));
    }

    fn remove(&mut self, key: &[u8]) {
        let old = self
            .dict
            .remove(self.dict.hash(key), key)
            .map(|r| (r.body().value, r.body().deadline));
        assert_eq!(old, self.model.remove(key));
        if let Some(s) = &mut self.scanning {
            s.must.remove(key);
        }
    }

    /// In place where the record is unique, else by a new one; through either door.
    fn update(&mut self, percent: u64) {
        let (key, value, deadline) = (self.key(), self.rng.next(), self.deadline(percent));
        let hash = self.dict.hash(&key);
        assert_eq!(
            self.dict.find(hash, &key).map(|r| r.body().value),
            self.model.get(&key).map(|m| m.0)
        );
        let Some(mut record) = self.dict.find_mut(hash, &key) else {
            return;
        };
        if record.is_unique() {
            let body = record.body_mut();
            (body.value, body.deadline) = (value, deadline);
        } else {
            *record = Rec::new(&key, value, deadline, &self.alive);
        }
        drop(record);
        self.model.insert(key, (value, deadline));
    }

    fn scan_some(&mut self, count: usize) {
        let s = self.scanning.get_or_insert_with(|| Scanning {
            cursor: 0,
            must: self.model.keys().cloned().collect(),
        });
        let mut came = 0;
        s.cursor = self.dict.scan(s.cursor, count, |record| {
            assert!(self.model.contains_key(record.key()));
            s.must.remove(record.key());
            came += 1;
        });
        assert!(s.cursor < 1 << 53);
        // Ties come together; in the pool's densest corner they are many, and in a slot that shares a segment.
        let ties = if self.dict.key.is_by_slot() {
            KEYS_MAX
        } else {
            40
        };
        assert!(came <= count + ties, "COUNT {count} gave {came}");
        if s.cursor == 0 {
            assert_eq!(s.must.len(), 0, "missed by SCAN");
            self.scanning = None;
        } else {
            assert!(came >= count);
        }
    }

    fn expire(&mut self, budget: usize) {
        self.now += self.rng.below(3_000);
        let now = self.now;
        let mut out = Vec::new();
        let mut cursor = 0;
        loop {
            let round = self.dict.expire(now, cursor, budget, |r| {
                out.push(r.key().to_vec());
                None
            });
            assert!(round.cost <= budget + KEYS_MAX + FANOUT);
            cursor = round.cursor;
            if cursor == 0 {
                break;
            }
        }
        let due = |m: &(u64, Option<u64>)| m.1.is_some_and(|t| t <= now);
        let want: BTreeSet<_> = self
            .model
            .iter()
            .filter(|(_, m)| due(m))
            .map(|(k, _)| k.clone())
            .collect();
        assert_eq!(out.len(), want.len());
        assert_eq!(out.into_iter().collect::<BTreeSet<_>>(), want);
        self.model.retain(|_, m| !due(m));
        if let Some(s) = &mut self.scanning {
            s.must.retain(|k| !want.contains(k));
        }
        // Every bound has passed now, so that the next cycle has nothing to look at.
        let earliest = self.model.values().filter_map(|m| m.1).min();
        assert_eq!(self.dict.earliest().is_some(), earliest.is_some());
        assert!(
            self.dict
                .earliest()
                .is_none_or(|t| now < t && Some(t) <= earliest)
        );
        let again = self.dict.expire(now, 0, usize::MAX, Some);
        assert_eq!((again.removed, again.cost), (0, 0));
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Insert(n, percent) => (0..n).for_each(|_| self.insert(percent)),
            Op::Update(n, percent) => (0..n).for_each(|_| self.update(percent)),
            Op::Remove(n) => (0..n).for_each(|_| {
                let key = self.key();
                self.remove(&key);
            }),
            Op::KeepOnly(n) => {
                let gone: Vec<_> = self.model.keys().skip(n).cloned().collect();
                gone.iter().for_each(|k| self.remove(k));
            }
            Op::Clear => {
                drop(self.dict.clear());
                self.model.clear();
                self.scanning = None;
            }
            Op::Snapshot => self
                .snapshots
                .push((self.dict.snapshot(), self.model.clone())),
            Op::DropSnapshot => {
                if !self.snapshots.is_empty() {
                    let i = self.rng.below(self.snapshots.len() as u64) as usize;
                    let (dict, model) = self.snapshots.swap_remove(i);
                    check(&dict);
                    same(&dict, &model);
                    let mut walk = dict.into_walk();
                    let mut n = 0;
                    while let Some(record) = walk.next() {
                        let body = record.body();
                        assert_eq!(model.get(&body.key), Some(&(body.value, body.deadline)));
                        n += 1;
                    }
                    assert_eq!((n, walk.left()), (model.len(), 0));
                }
            }
            Op::Scan(count) => self.scan_some(count),
            Op::Expire(budget) => self.expire(budget),
        }
        check(&self.dict);
        if self.dict.key.is_by_slot() {
            self.check_slots();
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Insert(usize, u64),
    Update(usize, u64),
    Remove(usize),
    KeepOnly(usize),
    Clear,
    Snapshot,
    DropSnapshot,
    Scan(usize),
    Expire(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let n = || prop_oneof![1usize..20, 1usize..2_000, 1usize..12_000];
    let percent = || prop_oneof![Just(0u64), Just(2), Just(50), Just(100)];
    let op = prop_oneof![
        8 => (n(), percent()).prop_map(|(n, p)| Op::Insert(n, p)),
        4 => (n(), percent()).prop_map(|(n, p)| Op::Update(n, p)),
        4 => n().prop_map(Op::Remove),
        2 => (0usize..300).prop_map(Op::KeepOnly),
        1 => Just(Op::Clear),
        3 => Just(Op::Snapshot),
        3 => Just(Op::DropSnapshot),
        6 => prop_oneof![Just(1usize), Just(10), 1usize..5_000].prop_map(Op::Scan),
        4 => prop_oneof![Just(1usize), Just(100), Just(usize::MAX / 2)].prop_map(Op::Expire),
    ];
    proptest::collection::vec(op, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn equals_the_model(ops in ops(), seed in any::<u64>(), by_slot in any::<bool>()) {
        let mut pair = if by_slot { Pair::by_slot(seed) } else { Pair::new(seed) };
        for op in ops {
            pair.step(op);
        }
        same(&pair.dict, &pair.model);
        while !pair.snapshots.is_empty() {
            pair.step(Op::DropSnapshot);
        }
        let alive = pair.alive.clone();
        prop_assert_eq!(alive.load(Ordering::Relaxed), pair.model.len(), "leaked, or freed too early");
        drop(pair);
        prop_assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
}

fn filled(keys: std::ops::Range<u64>, alive: &Arc<AtomicUsize>) -> Dict<Rec> {
    let mut dict = Dict::new(KEY);
    for i in keys {
        let key = i.to_be_bytes();
        dict.insert(KEY.hash(&key), Rec::new(&key, i, None, alive));
    }
    dict
}

#[test]
fn a_million_keys_deleted_to_ten_leave_a_table_for_ten() {
    let alive = Arc::default();
    let mut dict = filled(0..1_000_000, &alive);
    let stats = dict.stats();
    assert_eq!((stats.records, dict.len()), (1_000_000, 1_000_000));
    assert!(stats.bytes < 13 * 1_000_000, "{stats:?}");
    for i in (0..1_000_000u64).filter(|i| i % 100_000 != 77) {
        let key = i.to_be_bytes();
        assert_eq!(
            dict.remove(KEY.hash(&key), &key).map(|r| r.body().value),
            Some(i)
        );
    }
    check(&dict);
    assert_eq!(dict.len(), 10);
    assert_eq!(dict.stats().segments, 1);
    assert_eq!(dict.memory_bytes(), filled(0..10, &alive).memory_bytes());
    let left: Vec<_> = (0..10u64)
        .map(|i| (i * 100_000 + 77).to_be_bytes())
        .collect();
    left.iter()
        .for_each(|key| assert!(dict.remove(KEY.hash(key), key).is_some()));
    assert_eq!((dict.memory_bytes(), dict.iter().count()), (0, 0));
}

/// In a cluster one slot may have them all; what leads there must not grow with them.
#[test]
fn a_slot_with_all_keys_takes_no_more_than_an_even_table() {
    const KEYS: u64 = 300_000;
    let (alive, by_slot) = (Arc::default(), KEY.by_slot());
    let mut dict = Dict::new(by_slot);
    let name = |i: u64| format!("{{hot}}{i}").into_bytes();
    for i in 0..KEYS {
        let key = name(i);
        dict.insert(by_slot.hash(&key), Rec::new(&key, i, None, &alive));
    }
    assert_eq!(dict.slot_len(Slot::of(b"hot")), KEYS as usize);
    assert!(
        dict.stats().bytes < 13 * KEYS as usize,
        "{:?}",
        dict.stats()
    );
    let Top::Tree(root) = &dict.top else {
        panic!("no table of one segment")
    };
    assert!(root.bytes_of_all() < 64 << 10, "{}", root.bytes_of_all());
    check(&dict);
    for i in 5..KEYS {
        let key = name(i);
        assert!(dict.remove(by_slot.hash(&key), &key).is_some());
    }
    check(&dict);
    assert_eq!((dict.len(), dict.stats().segments), (5, 1));
}

#[test]
fn a_small_dict_is_small() {
    let alive = Arc::default();
    let mut sizes = Vec::new();
    let mut dict = Dict::<Rec>::new(KEY);
    assert_eq!(dict.memory_bytes(), 0);
    for i in 0..33u64 {
        let key = i.to_be_bytes();
        dict.insert(KEY.hash(&key), Rec::new(&key, i, None, &alive));
        sizes.push(dict.memory_bytes());
    }
    sizes.dedup();
    assert_eq!(sizes, [112, 176, 320, 464]);
}

#[test]
fn a_saver_thread_sees_the_snapshot_while_the_writer_goes_on() {
    let mut pair = Pair::new(7);
    pair.step(Op::Insert(15_000, 20));
    let mut savers: Vec<std::thread::JoinHandle<()>> = Vec::new();
    for round in 0..30u64 {
        let (dict, model) = (pair.dict.snapshot(), pair.model.clone());
        savers.push(std::thread::spawn(move || {
            let mut walk = dict.into_walk();
            let mut seen = HashMap::new();
            while let Some(record) = walk.next() {
                let body = record.body();
                assert!(
                    seen.insert(body.key.clone(), (body.value, body.deadline))
                        .is_none()
                );
                // Some savers are cancelled halfway.
                if round % 5 == 4 && seen.len() > model.len() / 2 {
                    return;
                }
            }
            assert_eq!(seen.len(), model.len());
            assert!(seen.iter().all(|(k, v)| model.get(k) == Some(v)));
        }));
        let ops = [
            Op::Update(3_000, 20),
            Op::Remove(2_000),
            Op::Insert(2_500, 20),
            Op::Expire(1_000),
        ];
        pair.step(ops[round as usize % 4]);
        if round % 3 == 2 {
            savers.drain(..).for_each(|s| s.join().unwrap());
        }
    }
    savers.drain(..).for_each(|s| s.join().unwrap());
    same(&pair.dict, &pair.model);
    assert_eq!(pair.alive.load(Ordering::Relaxed), pair.model.len());
}

#[test]
fn records_given_back_by_expire_stay() {
    let mut pair = Pair::new(11);
    pair.step(Op::Insert(3_000, 100));
    let later = pair.now + 20_000;
    let mut turn = 0;
    let round = pair.dict.expire(later, 0, usize::MAX, |r| {
        turn += 1;
        (turn % 2 == 0).then_some(r)
    });
    check(&pair.dict);
    assert_eq!(round.removed + pair.dict.len(), pair.model.len());
    assert_eq!(pair.dict.len(), pair.dict.expiring_len());
}

#[test]
fn prefetching_is_harmless_everywhere() {
    let alive = Arc::default();
    let mut hashes: Vec<u64> = (0..64u64).map(|i| KEY.hash(&i.to_be_bytes())).collect();
    for n in [0, 5, 500, 20_000] {
        hashes.push(u64::MAX << (n % 64));
        filled(0..n, &alive).prefetch(&hashes);
    }
}

/// Whatever was claimed, the table that a filling leaves is about that of so many insertions, and on the way it is
/// never large beyond what has come.
#[test]
fn a_filled_dict_is_like_any_other() {
    let alive = Arc::default();
    for n in [1u64, 7, 300, 5000, 60_000] {
        let plain = filled(0..n, &alive);
        let (plain_bytes, len) = (plain.memory_bytes(), n as usize);
        for claim in [0, 1, len / 3, len, len * 3 / 2, len * 15, usize::MAX] {
            let (mut dict, mut filling) = (Dict::new(KEY), Filling::new(claim));
            let (mut snapshot, mut twins) = (None, 0);
            for i in 0..n {
                let key = i.to_le_bytes();
                filling.push(
                    &mut dict,
                    Rec::new(&key, i, (i % 3 == 0).then_some(i), &alive),
                );
                if i % 10 == 0 {
                    filling.push(&mut dict, Rec::new(&key, !i, None, &alive));
                }
                twins += filling.take_twins().len();
                if i == n / 20 {
                    snapshot = Some((dict.snapshot(), dict.len()));
                }
                if i % 1000 == 0 {
                    let bytes = dict.memory_bytes();
                    assert!(bytes < 64 * 1024 + 16 * 20 * dict.len(), "{bytes}");
                }
            }
            twins += filling.finish(&mut dict).len();
            check(&dict);
            assert_eq!((dict.len(), twins), (len, len.div_ceil(10)));
            assert!(dict.iter().all(|r| r.body().value < n), "the first stays");
            let bytes = dict.memory_bytes();
            // A claim that is half wrong leaves a table that is half empty.
            let most = if claim == len * 3 / 2 { 2 } else { 1 } * plain_bytes * 9 / 8 + 600;
            assert!(bytes <= most, "{n} {claim}: {bytes} {plain_bytes}");
            let (before, len_before) = snapshot.unwrap();
            check(&before);
            assert_eq!(before.iter().count(), len_before);
        }
    }
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}
