//! The log by itself: what it costs to write all data as commands, and to find the commands again, in memory.
//!
//!     cargo bench --bench aof [-- MILLIONS]
//!
//! The data are so many millions (2) of strings, and a list of a million elements. Nothing is run. Times are of
//! this thread's CPU, the best of three.

use std::hint::black_box;

use redstart::aof::reader::{Reader, Step};
use redstart::aof::rewrite::write_log;
use redstart::base::time::Clock;
use redstart::db::keyspace::Databases;
use redstart::ds::dict::HashKey;
use redstart::object::list::{List, ListRules, NewElem};
use redstart::object::{Container, Entry, Value};
use redstart::rdb::Progress;

const KEY: HashKey = HashKey::new(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344);
const MILLION: usize = 1_000_000;
/// As a loader takes them.
const COMMANDS_PER_STEP: usize = 64;

fn put(dbs: &mut Databases, key: &[u8], value: Value<'_>) {
    let hash = dbs.hash(key);
    dbs.db_mut(0).insert(hash, Entry::new(key, value, None, 0));
}

fn write(dbs: &mut Databases) -> Vec<u8> {
    let (snapshot, progress, none) = (dbs.snapshot(), Progress::default(), std::iter::empty());
    match write_log(Vec::new(), snapshot, none, None, &progress) {
        Ok((log, _)) => log,
        Err(error) => panic!("{error}"),
    }
}

/// How many commands there are, and how many bytes their arguments have.
fn read(log: &[u8]) -> (usize, usize) {
    let mut reader = Reader::new(log, Some(log.len() as u64));
    let (mut commands, mut bytes) = (0, 0);
    while let Ok(Step::Commands) = reader.step(COMMANDS_PER_STEP) {
        let (batch, buffer) = reader.batch();
        commands += batch.len();
        bytes += batch.all(buffer).iter().map(<[u8]>::len).sum::<usize>();
    }
    assert_eq!(reader.offset(), log.len() as u64);
    (commands, bytes)
}

fn best_of_three<T>(mut run: impl FnMut() -> T) -> (f64, T) {
    let clock = Clock::system();
    let mut timed = || {
        let before = clock.thread_cpu_ns();
        let made = black_box(run());
        ((clock.thread_cpu_ns() - before) as f64 / 1e9, made)
    };
    let mut best = timed();
    for _ in 0..2 {
        let next = timed();
        if next.0 < best.0 {
            best = next;
        }
    }
    best
}

fn main() {
    let millions = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    let strings: usize = millions.unwrap_or(2) * MILLION;
    let mut dbs = Databases::new(16, KEY);
    for i in 0..strings {
        let value = format!("value:{i:010}");
        put(
            &mut dbs,
            format!("key:{i:012}").as_bytes(),
            Value::Bytes(value.as_bytes()),
        );
    }
    let rules = ListRules {
        fill: -2,
        depth: 0,
        plain_from: 1 << 13,
    };
    let elems: Vec<String> = (0..MILLION).map(|i| format!("element:{i:08}")).collect();
    let list = List::of(elems.iter().map(|e| NewElem::from(e.as_bytes())), &rules);
    put(&mut dbs, b"list", Value::Heap(list.into_heap()));
    let (write_s, log) = best_of_three(|| write(&mut dbs));
    let (read_s, (commands, bytes)) = best_of_three(|| read(&log));
    let mb = log.len() as f64 / 1e6;
    println!("{commands} commands, {bytes} bytes of arguments, a log of {mb:.0} MB");
    println!("write  {write_s:.3} s  {:.0} MB/s", mb / write_s);
    println!("read   {read_s:.3} s  {:.0} MB/s", mb / read_s);
}
