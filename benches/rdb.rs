//! The RDB codec by itself: what it costs to write all data and to read them again, in memory.
//!
//!     cargo bench --bench rdb [-- MILLIONS]
//!
//! The data are so many millions (3) of strings, a hash of a million fields and a sorted set of a million members, and
//! once more as many strings of 40 bytes, which are worth a try to compress. Times are of this thread's CPU, the best of
//! three.

use std::hint::black_box;
use std::io;

use redstart::base::time::Clock;
use redstart::config::Config;
use redstart::db::keyspace::Databases;
use redstart::ds::dict::{Filling, HashKey};
use redstart::object::{Container, Entry, Hash, Value, Zset};
use redstart::rdb::{Decoder, Format, Info, Item, Progress, Rules, Usage, Version, write_file};

const KEY: HashKey = HashKey::new(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344);
const MILLION: usize = 1_000_000;

fn rules() -> Rules {
    Rules::new(&Config::default(), KEY, 1 << 30, false)
}

fn put(dbs: &mut Databases, key: &[u8], value: Value<'_>) {
    let hash = dbs.hash(key);
    dbs.db_mut(0).insert(hash, Entry::new(key, value, None, 0));
}

fn strings(dbs: &mut Databases, n: usize, value: impl Fn(usize) -> String) {
    for i in 0..n {
        let key = format!("key:{i:012}");
        put(dbs, key.as_bytes(), Value::from_text(value(i).as_bytes()));
    }
}

fn containers(dbs: &mut Databases) {
    let rules = rules();
    let (mut hash, mut zset) = (Hash::new(), Zset::for_adding(&rules.zset, MILLION, 18));
    for i in 0..MILLION {
        hash.set(
            format!("field:{i:012}").as_bytes(),
            b"sixteen bytes ok",
            &rules.hash,
        );
        let score = (i * 7919 % MILLION) as f64;
        zset.update(&rules.zset, format!("membr:{i:012}").as_bytes(), |_| {
            Some(score)
        });
    }
    put(dbs, b"bighash", Value::Heap(hash.into_heap()));
    put(dbs, b"bigzset", Value::Heap(zset.into_heap()));
}

fn write<W: io::Write>(dbs: &mut Databases, to: W, compress: bool, checksum: bool) -> W {
    let info = Info {
        redis_version: "7.2.6",
        created_s: 0,
        used_memory: 0,
        replication: None,
        aof_base: false,
    };
    let format = Format {
        version: Version::V11,
        compress,
        checksum,
    };
    let (snapshot, progress, none) = (dbs.snapshot(), Progress::default(), std::iter::empty());
    match write_file(to, snapshot, none, &info, Usage::Nothing, format, &progress) {
        Ok((to, _)) => to,
        Err(error) => panic!("{error}"),
    }
}

fn read(file: &[u8]) -> Databases {
    let mut dbs = Databases::new(16, KEY);
    let mut decoder = Decoder::new(file, rules(), true).expect("a head");
    let mut filling = Filling::new(0);
    while let Some(item) = decoder.next().expect("what was written") {
        match item {
            Item::ResizeDb { keys, .. } => filling = Filling::new(keys as usize),
            Item::Key(key) => {
                let entry = Entry::new(key.key, key.value.expect("a value"), None, 0);
                dbs.db_mut(0).fill(&mut filling, entry);
            }
            _ => {}
        }
    }
    dbs.db_mut(0).filled(filling);
    dbs
}

/// What a run makes is freed outside of its time.
fn best<T>(what: &str, mut run: impl FnMut() -> T) {
    let clock = Clock::system();
    let timed = |_| {
        let start = clock.thread_cpu_ns();
        let made = run();
        let ns = clock.thread_cpu_ns() - start;
        drop(made);
        ns
    };
    let ns = (0..3).map(timed).min().unwrap_or(0);
    println!("  {what:<44}{:>10.3} s", ns as f64 / 1e9);
}

fn measure(what: &str, dbs: &mut Databases) {
    let file = write(dbs, Vec::new(), true, true);
    println!("{what}: {} keys, {} bytes", dbs.len(), file.len());
    for (name, compress, checksum) in [
        ("write", true, true),
        ("write without compression", false, true),
        ("write without checksum", true, false),
    ] {
        best(name, || {
            write(dbs, io::sink(), compress, checksum);
        });
    }
    best("read", || read(&file));
    let mut walked = 0;
    best("read without keeping", || {
        let mut decoder = Decoder::new(&file[..], rules(), true).expect("a head");
        while decoder.next().expect("what was written").is_some() {
            walked += 1;
        }
    });
    black_box(walked);
}

fn main() {
    let millions = std::env::args().find_map(|arg| arg.parse::<usize>().ok());
    let n = millions.unwrap_or(3) * MILLION;
    let mut dbs = Databases::new(16, KEY);
    strings(&mut dbs, n, |_| "sixteen bytes ok".to_string());
    measure("strings of 16 bytes", &mut dbs);
    containers(&mut dbs);
    measure("the same, a hash and a sorted set", &mut dbs);
    let mut dbs = Databases::new(16, KEY);
    strings(&mut dbs, n, |i| {
        format!("a value of forty bytes, number {i:09}")
    });
    measure("strings of 40 bytes", &mut dbs);
}
