//! Modes that walk through all keys with SCAN: `--scan`, `--bigkeys`, `--memkeys`, `--hotkeys`. Ctrl-C ends the walk, and
//! what was found until then is summed up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::format::Style;
use super::link::{Link, LinkError};
use super::options::Options;
use super::out::{self, Stop, complain, lossy, say};
use super::session::{Session, wait_us};
use crate::base::number::parse_u64;
use crate::base::quoted::quote;
use crate::resp::value::Value;

/// After so many SCANs, `-i` makes a pause.
const PAUSE_EVERY: u64 = 100;
const TOLD_EVERY: u64 = 1_000_000;
const HOT_KEYS: usize = 16;

fn io_error(_: LinkError) -> Stop {
    complain!("\nI/O error\n");
    Stop(1)
}

/// The walk.
struct Walk<'a> {
    link: &'a mut Link,
    options: &'a Options,
    cursor: u64,
    scans: u64,
    stopped: Arc<AtomicBool>,
}

impl<'a> Walk<'a> {
    fn begin(link: &'a mut Link, options: &'a Options) -> Walk<'a> {
        let stopped = Arc::new(AtomicBool::new(false));
        // (Without it Ctrl-C ends the program, which is nearly as good.)
        let _ = signal_hook::flag::register(libc::SIGINT, stopped.clone());
        Walk {
            link,
            options,
            cursor: 0,
            scans: 0,
            stopped,
        }
    }

    fn was_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether that was the last.
    fn is_over(&self) -> bool {
        self.was_stopped() || self.cursor == 0
    }

    /// The next keys.
    fn next(&mut self) -> Result<Vec<Vec<u8>>, Stop> {
        let (cursor, count) = (self.cursor.to_string(), self.options.count.to_string());
        let mut args: Vec<&[u8]> = vec![b"SCAN", cursor.as_bytes()];
        if let Some(pattern) = &self.options.pattern {
            args.extend([&b"MATCH"[..], pattern]);
        }
        args.extend([b"COUNT", count.as_bytes()]);
        self.scans += 1;
        let refuse = |text: &str| {
            complain!("{text}\n");
            Err(Stop(1))
        };
        match self.link.command(&args).map_err(io_error)? {
            Value::Error(why) => refuse(&format!("SCAN error: {}", lossy(&why))),
            Value::Array(mut parts) => match (parts.pop(), parts.pop(), parts.is_empty()) {
                (Some(Value::Array(keys)), Some(Value::Bulk(cursor)), true) => {
                    self.cursor = parse_u64(&cursor).unwrap_or(0);
                    let keys = keys.into_iter().filter_map(|key| match key {
                        Value::Bulk(key) => Some(key),
                        _ => None,
                    });
                    Ok(keys.collect())
                }
                _ => refuse("Invalid element count from SCAN!"),
            },
            _ => refuse("Non ARRAY response from SCAN!"),
        }
    }

    fn pause(&self) {
        if self.scans.is_multiple_of(PAUSE_EVERY) {
            wait_us(self.options.interval_us);
        }
    }

    fn db_size(&mut self) -> Result<i64, Stop> {
        match self.link.command(&["DBSIZE"]).map_err(io_error)? {
            Value::Int(size) => Ok(size),
            Value::Error(why) => {
                complain!("Couldn't determine DBSIZE: {}\n", lossy(&why));
                Err(Stop(1))
            }
            _ => {
                complain!("Non INTEGER response from DBSIZE!\n");
                Err(Stop(1))
            }
        }
    }
}

/// `--scan`: prints the keys.
pub fn scan(session: &mut Session) -> Result<(), Stop> {
    let options = session.options.clone();
    let mut walk = Walk::begin(session.link()?, &options);
    loop {
        for key in walk.next()? {
            if options.style == Style::Standard {
                say!("{}\n", quote(&key));
            } else {
                // (Up to a zero byte, as C prints it.)
                let end = key.iter().position(|&b| b == 0).unwrap_or(key.len());
                out::bytes(&key[..end]);
                out::bytes(b"\n");
            }
        }
        wait_us(options.interval_us);
        if walk.is_over() {
            return Ok(());
        }
    }
}

/// What was found of a type.
struct Kind {
    name: String,
    /// The command that tells the size of one, if there is any, and in what.
    size: Option<&'static str>,
    unit: &'static str,
    biggest: u64,
    biggest_key: Option<String>,
    count: u64,
    total: u64,
}

fn kinds() -> Vec<Kind> {
    let kind = |(name, size, unit): (&str, &'static str, &'static str)| Kind {
        name: name.to_string(),
        size: Some(size),
        unit,
        biggest: 0,
        biggest_key: None,
        count: 0,
        total: 0,
    };
    [
        ("list", "LLEN", "items"),
        ("hash", "HLEN", "fields"),
        ("string", "STRLEN", "bytes"),
        ("stream", "XLEN", "entries"),
        ("set", "SCARD", "members"),
        ("zset", "ZCARD", "members"),
    ]
    .into_iter()
    .map(kind)
    .collect()
}

/// How far the walk is: `sampled` of `all`, in percent.
fn progress(sampled: u64, all: i64) -> f64 {
    match all {
        ..=0 => 0.0,
        all => 100.0 * sampled as f64 / all as f64,
    }
}

fn introduce(what: &str) {
    say!("\n# Scanning the entire keyspace to find {what} as well as\n");
    say!("# average sizes per key type.  You can use -i 0.1 to sleep 0.1 sec\n");
    say!("# per 100 SCAN commands (not usually needed).\n\n");
}

/// What is measured of each key.
#[derive(Clone, Copy, PartialEq)]
pub enum Measure {
    Elements,
    Memory,
}

/// `--bigkeys`, `--memkeys`.
pub fn big(session: &mut Session, measure: Measure) -> Result<(), Stop> {
    let options = session.options.clone();
    let mut walk = Walk::begin(session.link()?, &options);
    let all = walk.db_size()?;
    let mut kinds = kinds();
    let (mut sampled, mut key_bytes) = (0, 0);
    let mut done;
    introduce("biggest keys");
    loop {
        done = progress(sampled, all);
        let keys = walk.next()?;
        let types = types_of(walk.link, &keys, &mut kinds)?;
        let sizes = sizes_of(walk.link, &keys, &types, &kinds, measure, &options)?;
        for ((key, at), size) in keys.iter().zip(&types).zip(sizes) {
            let Some(kind) = at.and_then(|at| kinds.get_mut(at)) else {
                continue;
            };
            kind.total += size;
            kind.count += 1;
            key_bytes += key.len() as u64;
            sampled += 1;
            if kind.biggest < size {
                let (name, key) = (&kind.name, quote(key));
                let unit = unit(kind, measure);
                say!("[{done:05.2}%] Biggest {name:<6} found so far '{key}' with {size} {unit}\n");
                kind.biggest_key = Some(key);
                kind.biggest = size;
            }
            if sampled % TOLD_EVERY == 0 {
                say!("[{done:05.2}%] Sampled {sampled} keys so far\n");
            }
        }
        walk.pause();
        if walk.is_over() {
            break;
        }
    }
    say!("\n-------- summary -------\n\n");
    if walk.was_stopped() {
        say!("[{done:05.2}%] ");
    }
    sum_up(&kinds, sampled, key_bytes, measure);
    Ok(())
}

fn unit(kind: &Kind, measure: Measure) -> &'static str {
    match measure {
        Measure::Elements => kind.unit,
        Measure::Memory => "bytes",
    }
}

fn sum_up(kinds: &[Kind], sampled: u64, key_bytes: u64, measure: Measure) {
    let of = |part: u64, whole: u64| match whole {
        0 => 0.0,
        whole => part as f64 / whole as f64,
    };
    say!("Sampled {sampled} keys in the keyspace!\n");
    say!(
        "Total key length in bytes is {key_bytes} (avg len {:.2})\n\n",
        of(key_bytes, sampled)
    );
    for kind in kinds {
        if let Some(key) = &kind.biggest_key {
            say!(
                "Biggest {:>6} found '{key}' has {} {}\n",
                kind.name,
                kind.biggest,
                unit(kind, measure)
            );
        }
    }
    say!("\n");
    for kind in kinds {
        say!(
            "{} {}s with {} {} ({:05.2}% of keys, avg size {:.2})\n",
            kind.count,
            kind.name,
            kind.total,
            unit(kind, measure),
            100.0 * of(kind.count, sampled),
            of(kind.total, kind.count)
        );
    }
}

/// The type of each key, as a place in `kinds`; none for one that has gone.
fn types_of(
    link: &mut Link,
    keys: &[Vec<u8>],
    kinds: &mut Vec<Kind>,
) -> Result<Vec<Option<usize>>, Stop> {
    for key in keys {
        link.append(&[b"TYPE", &key[..]]);
    }
    let mut types = Vec::with_capacity(keys.len());
    for key in keys {
        let name = match link.reply() {
            Ok(Value::Status(name)) => lossy(&name).into_owned(),
            Ok(Value::Error(why)) => {
                complain!("TYPE returned an error: {}\n", lossy(&why));
                return Err(Stop(1));
            }
            Ok(_) => {
                complain!("Invalid reply type for TYPE on key '{}'!\n", lossy(key));
                return Err(Stop(1));
            }
            Err(why) => {
                complain!("Error getting type for key '{}' ({why})\n", lossy(key));
                return Err(Stop(1));
            }
        };
        let known = kinds.iter().position(|kind| kind.name == name);
        types.push(match (known, &name[..]) {
            (None, "none") => None,
            (Some(at), _) => Some(at),
            // A module's.
            (None, _) => {
                kinds.push(Kind {
                    name,
                    size: None,
                    unit: "?",
                    biggest: 0,
                    biggest_key: None,
                    count: 0,
                    total: 0,
                });
                Some(kinds.len() - 1)
            }
        });
    }
    Ok(types)
}

fn sizes_of(
    link: &mut Link,
    keys: &[Vec<u8>],
    types: &[Option<usize>],
    kinds: &[Kind],
    measure: Measure,
    options: &Options,
) -> Result<Vec<u64>, Stop> {
    let command_of = |at: &Option<usize>| {
        let kind = at.and_then(|at| kinds.get(at))?;
        match measure {
            Measure::Elements => kind.size,
            Measure::Memory => Some("MEMORY USAGE"),
        }
    };
    let samples = options.mem_samples.to_string();
    for (key, at) in keys.iter().zip(types) {
        let Some(command) = command_of(at) else {
            continue;
        };
        let mut args: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        args.push(key);
        if measure == Measure::Memory && options.mem_samples != 0 {
            args.extend([&b"SAMPLES"[..], samples.as_bytes()]);
        }
        link.append(&args);
    }
    let mut sizes = Vec::with_capacity(keys.len());
    for (key, at) in keys.iter().zip(types) {
        let Some(command) = command_of(at) else {
            sizes.push(0);
            continue;
        };
        sizes.push(match link.reply() {
            Ok(Value::Int(size)) => size.unsigned_abs(),
            Ok(_) => {
                // It may have become another type in between.
                complain!(
                    "Warning:  {command} on '{}' failed (may have changed type)\n",
                    lossy(key)
                );
                0
            }
            Err(why) => {
                complain!("Error getting size for key '{}' ({why})\n", lossy(key));
                return Err(Stop(1));
            }
        });
    }
    Ok(sizes)
}

/// `--hotkeys`: the keys that are used most, as the server counts it for eviction.
pub fn hot(session: &mut Session) -> Result<(), Stop> {
    let options = session.options.clone();
    let mut walk = Walk::begin(session.link()?, &options);
    let all = walk.db_size()?;
    let mut sampled = 0u64;
    let mut done;
    // The hottest, coldest first.
    let mut hottest: Vec<(u64, String)> = Vec::new();
    introduce("hot keys");
    loop {
        done = progress(sampled, all);
        let keys = walk.next()?;
        let uses = uses_of(walk.link, &keys)?;
        for (key, uses) in keys.iter().zip(uses) {
            sampled += 1;
            if sampled.is_multiple_of(TOLD_EVERY) {
                say!("[{done:05.2}%] Sampled {sampled} keys so far\n");
            }
            let is_full = hottest.len() == HOT_KEYS;
            if uses == 0 || (is_full && hottest[0].0 >= uses) {
                continue;
            }
            if is_full {
                hottest.remove(0);
            }
            let at = hottest.partition_point(|(other, _)| *other < uses);
            let key = quote(key);
            say!("[{done:05.2}%] Hot key '{key}' found so far with counter {uses}\n");
            hottest.insert(at, (uses, key));
        }
        walk.pause();
        if walk.is_over() {
            break;
        }
    }
    say!("\n-------- summary -------\n\n");
    if walk.was_stopped() {
        say!("[{done:05.2}%] ");
    }
    say!("Sampled {sampled} keys in the keyspace!\n");
    for (uses, key) in hottest.iter().rev() {
        say!("hot key found with counter: {uses}\tkeyname: {key}\n");
    }
    Ok(())
}

fn uses_of(link: &mut Link, keys: &[Vec<u8>]) -> Result<Vec<u64>, Stop> {
    for key in keys {
        link.append(&[b"OBJECT", &b"FREQ"[..], key]);
    }
    let mut all = Vec::with_capacity(keys.len());
    for key in keys {
        all.push(match link.reply() {
            Ok(Value::Int(uses)) => uses.unsigned_abs(),
            Ok(Value::Error(why)) => {
                complain!("Error: {}\n", lossy(&why));
                return Err(Stop(1));
            }
            Ok(_) => {
                complain!(
                    "Warning: OBJECT freq on '{}' failed (may have been deleted)\n",
                    quote(key)
                );
                0
            }
            Err(why) => {
                complain!("Error getting freq for key '{}' ({why})\n", quote(key));
                return Err(Stop(1));
            }
        });
    }
    Ok(all)
}
