//! The dict by itself, with the server's real entries: what an operation costs and how long the longest takes.
//!
//!     cargo bench --bench dict [-- KEYS ... PARTS ...]
//!
//! KEYS are sizes (10000 1000000 10000000), PARTS of lookups, walks, expiry, snapshots, pauses (all).
//!
//! Times are of this thread's CPU, the best of three where an operation can be repeated.

use redstart::base::alloc::used_memory;
use redstart::base::rng::Rng;
use redstart::base::time::Clock;
use redstart::ds::dict::{Dict, Entry as Slot, HashKey};
use redstart::object::{Entry, Value};
use std::hint::black_box;

const KEY: HashKey = HashKey::new(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344);
const BATCH: usize = 16;
const VALUE: &[u8] = b"sixteen bytes ok";

fn key(i: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = i;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn entry(i: u64) -> Entry {
    Entry::new(&key(i), Value::Bytes(VALUE), None, 0)
}

/// What SET does with a key: one lookup, then replace or insert.
fn set(dict: &mut Dict<Entry>, entry: Entry) {
    let hash = dict.hash(entry.key());
    match dict.entry(hash, entry.key()) {
        Slot::Occupied(mut slot) => drop(slot.replace(entry)),
        Slot::Vacant(slot) => {
            slot.insert(entry);
        }
    }
}

/// What SET does with a key that is there.
fn overwrite(dict: &mut Dict<Entry>, hash: u64, key: &[u8]) {
    if let Slot::Occupied(slot) = dict.entry(hash, key) {
        black_box(slot.into_mut().set_value(Value::Bytes(VALUE)));
    }
}

fn report(what: &str, ns: u64, times: usize) {
    println!("  {what:<44}{:>10.1} ns", ns as f64 / times as f64);
}

fn best(clock: &Clock, mut run: impl FnMut()) -> u64 {
    let timed = |_| {
        let start = clock.thread_cpu_ns();
        run();
        clock.thread_cpu_ns() - start
    };
    (0..3).map(timed).min().unwrap_or(0)
}

fn percentiles(what: &str, mut ns: Vec<u64>) {
    ns.sort_unstable();
    let at = |p: f64| ns[((ns.len() - 1) as f64 * p) as usize] as f64 / 1000.0;
    let (p50, p99, p999, max) = (at(0.5), at(0.99), at(0.999), at(1.0));
    println!("  {what:<28} p50 {p50:.1}  p99 {p99:.1}  p99.9 {p999:.1}  max {max:.1} us");
}

fn grow(clock: &Clock, keys: u64) -> Dict<Entry> {
    let mut dict = Dict::new(KEY);
    let before = used_memory();
    let start = clock.thread_cpu_ns();
    (0..keys).for_each(|i| set(&mut dict, entry(i)));
    report(
        "insert, new keys (entry included)",
        clock.thread_cpu_ns() - start,
        keys as usize,
    );
    let used = (used_memory() - before) as f64 / keys as f64;
    let stats = dict.stats();
    println!(
        "  bytes a key: {used:.2} in all, {:.2} of table; load {:.3}, {} segments, {:.1} % displaced",
        used - entry(0).memory_bytes() as f64,
        stats.records as f64 / stats.slots as f64,
        stats.segments,
        stats.displaced as f64 * 100.0 / stats.records as f64,
    );
    dict
}

fn pauses(clock: &Clock, keys: u64) {
    let mut dict = Dict::new(KEY);
    let timed = (0..keys).map(|i| {
        let entry = entry(i);
        let start = clock.thread_cpu_ns();
        set(&mut dict, entry);
        clock.thread_cpu_ns() - start
    });
    percentiles("insert, thread CPU", timed.collect());
    let timed = (0..keys).map(|i| {
        let key = key(i);
        let start = clock.thread_cpu_ns();
        let old = dict.remove(dict.hash(&key), &key);
        let took = clock.thread_cpu_ns() - start;
        drop(old);
        took
    });
    percentiles("remove, thread CPU", timed.collect());
    assert!(dict.is_empty() && dict.memory_bytes() == 0);
}

/// Times a lookup of each key, one at a time and in batches that were prefetched.
fn lookups(
    clock: &Clock,
    what: &str,
    dict: &mut Dict<Entry>,
    keys: &[[u8; 16]],
    run: impl Fn(&mut Dict<Entry>, u64, &[u8]),
) {
    let ns = best(clock, || {
        for key in keys {
            let hash = dict.hash(key);
            run(dict, hash, key);
        }
    });
    report(what, ns, keys.len());
    let ns = best(clock, || {
        for batch in keys.as_chunks::<BATCH>().0 {
            let hashes = batch.map(|key| dict.hash(&key));
            dict.prefetch(&hashes);
            for (key, hash) in batch.iter().zip(hashes) {
                run(dict, hash, key);
            }
        }
    });
    report(
        &format!("{what}, batches of {BATCH} prefetched"),
        ns,
        keys.len(),
    );
}

fn all_lookups(clock: &Clock, dict: &mut Dict<Entry>, keys: u64) {
    let mut rng = Rng::new(1);
    let present: Vec<_> = (0..1_000_000).map(|_| key(rng.below(keys))).collect();
    let absent: Vec<_> = (0..1_000_000)
        .map(|_| key(keys + rng.below(keys)))
        .collect();
    let find = |dict: &mut Dict<Entry>, hash: u64, key: &[u8]| {
        black_box(dict.find(hash, key).map(|e| e.value()));
    };
    lookups(clock, "hash alone", dict, &present, |_, hash, _| {
        black_box(hash);
    });
    lookups(clock, "find hit", dict, &present, find);
    lookups(clock, "find miss", dict, &absent, find);
    lookups(clock, "overwrite in place", dict, &present, overwrite);
}

fn walks(clock: &Clock, dict: &Dict<Entry>) {
    let ns = best(clock, || {
        let (mut cursor, mut n) = (0, 0);
        loop {
            cursor = dict.scan(cursor, 10, |e| n += e.key().len());
            if cursor == 0 {
                break;
            }
        }
        black_box(n);
    });
    report("SCAN COUNT 10, a key", ns, dict.len());
    let ns = best(clock, || {
        black_box(dict.iter().map(|e| e.key().len()).sum::<usize>());
    });
    report("iter, a key", ns, dict.len());
    let ns = best(clock, || {
        let mut walk = dict.snapshot().into_walk();
        let mut n = 0;
        while let Some(e) = walk.next() {
            n += e.key().len();
        }
        black_box(n);
    });
    report("a saver's walk, a key", ns, dict.len());
    let mut rng = Rng::new(3);
    let ns = best(clock, || {
        for _ in 0..10_000 {
            black_box(dict.random(|n| rng.below(n)));
        }
    });
    report("random", ns, 10_000);
    let ns = best(clock, || {
        for _ in 0..10_000 {
            let each = |e: &Entry| {
                black_box(e.access());
            };
            dict.sample(5, false, |n| rng.below(n), each);
        }
    });
    report("sample of 5", ns, 10_000);
}

/// Ten keys with a deadline among all: what a cycle that finds nothing costs, and one that finds one.
fn expiry(clock: &Clock, dict: &mut Dict<Entry>, keys: u64) {
    for i in 0..10 {
        let k = key(i * (keys / 10));
        set(
            dict,
            Entry::new(&k, Value::Bytes(VALUE), Some(1_000 + i), 0),
        );
    }
    let idle = best(clock, || {
        for _ in 0..1_000 {
            assert_eq!(dict.expire(999, 0, 1_000, Some).removed, 0);
        }
    });
    report("expire cycle, nothing due", idle, 1_000);
    let start = clock.thread_cpu_ns();
    for i in 0..10 {
        let mut cursor = 0;
        loop {
            cursor = dict.expire(1_000 + i, cursor, 1_000, |_| None).cursor;
            if cursor == 0 {
                break;
            }
        }
    }
    report(
        "expire cycle, one key due",
        clock.thread_cpu_ns() - start,
        10,
    );
    (0..10).for_each(|i| set(dict, entry(i * (keys / 10))));
}

/// All keys expire within an hour, and a cycle comes every 100 ms: ten seconds of that.
fn expiring_hour(clock: &Clock, keys: u64) {
    let mut dict = Dict::new(KEY);
    let mut rng = Rng::new(4);
    for i in 0..keys {
        let deadline = rng.below(3_600_000);
        set(
            &mut dict,
            Entry::new(&key(i), Value::Bytes(VALUE), Some(deadline), 0),
        );
    }
    let mut removed = 0;
    let start = clock.thread_cpu_ns();
    for cycle in 1..=100 {
        removed += dict.expire(100 * cycle, 0, usize::MAX, |_| None).removed;
    }
    let took = clock.thread_cpu_ns() - start;
    report("expire cycle, all keys due within an hour", took, 100);
    report("the same, a key that expired", took, removed.max(1));
}

fn snapshots(clock: &Clock, dict: &mut Dict<Entry>, keys: u64) {
    let mut rng = Rng::new(2);
    let start = clock.thread_cpu_ns();
    let snapshot = dict.snapshot();
    let took = clock.thread_cpu_ns() - start;
    println!("  snapshot taken in {:.1} us", took as f64 / 1000.0);
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for _ in 0..keys.min(200_000) {
        let k = key(rng.below(keys));
        let hash = dict.hash(&k);
        let copied = dict.copied_bytes();
        let start = clock.thread_cpu_ns();
        overwrite(dict, hash, &k);
        let took = clock.thread_cpu_ns() - start;
        let times = if dict.copied_bytes() == copied {
            &mut later
        } else {
            &mut first
        };
        times.push(took);
    }
    percentiles("first write to a segment", first);
    percentiles("later writes", later);
    let start = clock.thread_cpu_ns();
    drop(snapshot);
    println!(
        "  snapshot dropped in {:.1} ms",
        (clock.thread_cpu_ns() - start) as f64 / 1e6
    );
}

fn main() {
    let clock = Clock::system();
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let mut sizes: Vec<u64> = args.iter().filter_map(|a| a.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![10_000, 1_000_000, 10_000_000];
    }
    let named: Vec<&String> = args.iter().filter(|a| a.parse::<u64>().is_err()).collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|n| *n == part);
    for keys in sizes {
        println!("{keys} keys");
        let mut dict = grow(&clock, keys);
        if wanted("lookups") {
            all_lookups(&clock, &mut dict, keys);
        }
        if wanted("walks") {
            walks(&clock, &dict);
        }
        if wanted("expiry") {
            expiry(&clock, &mut dict, keys);
            expiring_hour(&clock, keys);
        }
        if wanted("snapshots") {
            snapshots(&clock, &mut dict, keys);
        }
        let start = clock.thread_cpu_ns();
        drop(dict);
        report("drop, a key", clock.thread_cpu_ns() - start, keys as usize);
        if wanted("pauses") {
            pauses(&clock, keys);
        }
    }
}
