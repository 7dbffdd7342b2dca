//! Saving beside everything else a server does, measured on real processes with their files on the disk.
//!
//!     cargo bench --bench persist [-- --peer redis-server] [--only turns,price] [--millions 10,30] [--dir DIR]
//!
//! - `turns`: the loop's longest turn, in CPU time of its thread, during a background save of so many million keys beside a
//!   hash of a million fields and a sorted set of a million members, during a rewrite of the log, while the file is loaded,
//!   and while a replica gets everything: nobody asking, and under 20,000 writes a second; and what memory the snapshot
//!   held. It must not grow with the data.
//! - `price`: what a background save costs all in all: CPU time of every thread and child for two million SETs of keys
//!   drawn from ten million, less what the same SETs cost with no save beside them.
//! - `evict`: evictions for each key that is added at the limit of memory, with a save under way and without.
//! - `limited`: a save, a rewrite and a reload under writes in a box of 512 MB that holds 400 MB of data (a control group,
//!   where we may make one), and a save with `snapshot-memory-limit`.
//! - `readers`: what GETs wait while others write, with `appendfsync always` and without a log. Only on demand.
//!
//! A `--peer` is measured beside ours where the figure means something for it.

mod node;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use node::{BATCH, Node, paced};

const MILLION: usize = 1_000_000;
const MB: f64 = 1e6;
/// Writes a second while turns are measured.
const WRITES_PER_S: usize = 20_000;
/// SETs of a price, and how many a second: long enough for the slowest of saves.
const PRICE_SETS: usize = 2 * MILLION;
const PRICE_PER_S: usize = 150_000;

/// What is measured.
struct Plan {
    ours: String,
    peer: Option<String>,
    only: Option<Vec<String>>,
    millions: Vec<usize>,
    dir: PathBuf,
}

impl Plan {
    fn from_args() -> Plan {
        let mut plan = Plan {
            ours: env!("CARGO_BIN_EXE_redis-server").into(),
            peer: None,
            only: None,
            millions: vec![1, 10],
            dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        };
        let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
        while let Some(arg) = args.next() {
            let value = args.next().unwrap_or_default();
            match &arg[..] {
                "--server" => plan.ours = value,
                "--peer" => plan.peer = Some(value),
                "--only" => plan.only = Some(value.split(',').map(String::from).collect()),
                "--millions" => {
                    plan.millions = value.split(',').filter_map(|n| n.parse().ok()).collect();
                }
                "--dir" => plan.dir = value.into(),
                _ => panic!("what is {arg}? The head of benches/persist/main.rs tells."),
            }
        }
        plan
    }

    fn wants(&self, section: &str) -> bool {
        match &self.only {
            Some(only) => only.iter().any(|name| name == section),
            None => section != "readers",
        }
    }

    /// The programs by their names.
    fn programs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let peer = self.peer.as_deref().map(|program| ("peer", program));
        std::iter::once(("ours", &self.ours[..])).chain(peer)
    }

    fn start(&self, program: &str, options: &[&str]) -> io::Result<Node> {
        Node::start(program, &self.dir, options)
    }
}

const BGSAVE: &str = "BGSAVE";
const BGREWRITEAOF: &str = "BGREWRITEAOF";

/// Begins a save or a rewrite, runs `beside` until it is over, and gives how many seconds it took.
fn save(
    node: &mut Node,
    command: &str,
    mut beside: impl FnMut(&mut Node) -> io::Result<()>,
) -> io::Result<f64> {
    let start = Instant::now();
    let reply = node.conn.call(&[command])?;
    assert!(reply.starts_with('+'), "{reply}");
    while node.is_saving()? {
        beside(node)?;
    }
    Ok(start.elapsed().as_secs_f64())
}

fn wait(_: &mut Node) -> io::Result<()> {
    std::thread::sleep(Duration::from_millis(20));
    Ok(())
}

fn turns(plan: &Plan) -> io::Result<()> {
    println!("turns: the loop's longest, in µs of its thread's CPU time");
    for &millions in &plan.millions {
        let mut node = plan.start(&plan.ours, &[])?;
        let keys = millions * MILLION;
        node.populate(keys)?;
        node.populate_big(MILLION)?;
        for command in [BGSAVE, BGREWRITEAOF] {
            // The first one ever also takes what the allocator needs for it.
            save(&mut node, command, wait)?;
            for writes in [false, true] {
                node.conn.call(&["CONFIG", "RESETSTAT"])?;
                let (mut sent, start, mut held) = (0, Instant::now(), 0);
                let took_s = save(&mut node, command, |node| {
                    let due = (start.elapsed().as_secs_f64() * WRITES_PER_S as f64) as usize;
                    while writes && sent < due {
                        node.conn.write_some(keys, MILLION)?;
                        sent += BATCH;
                    }
                    held = held.max(node.info("current_cow_size")?);
                    wait(node)
                })?;
                assert!(node.saved()?, "it failed");
                let longest = node.info("eventloop_duration_max_cpu_usec")?;
                let (held, with) = (
                    held as f64 / MB,
                    if writes { "with writes" } else { "alone" },
                );
                println!(
                    "  {millions:>3} M keys, {command} {with}: {longest} ({took_s:.2} s, {held:.1} MB held)"
                );
            }
        }
        save(&mut node, BGSAVE, wait)?;
        let start = Instant::now();
        node.restart()?;
        while node.info("loading")? == 1 {
            std::thread::sleep(Duration::from_millis(20));
        }
        let (took_s, longest) = (
            start.elapsed().as_secs_f64(),
            node.info("eventloop_duration_max_cpu_usec")?,
        );
        println!("  {millions:>3} M keys, load: {longest} ({took_s:.2} s)");
        full_sync(plan, &mut node, millions)?;
    }
    Ok(())
}

/// The same at the master of a replica that gets everything.
fn full_sync(plan: &Plan, node: &mut Node, millions: usize) -> io::Result<()> {
    node.conn
        .call(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"])?;
    node.conn.call(&["CONFIG", "RESETSTAT"])?;
    let follows = format!("127.0.0.1 {}", node.port);
    let start = Instant::now();
    let mut replica = plan.start(&plan.ours, &["--replicaof", &follows])?;
    let mut sent = 0;
    loop {
        let text = replica.conn.call(&["INFO", "replication"])?;
        if text.contains("master_link_status:up") {
            break;
        }
        let due = (start.elapsed().as_secs_f64() * WRITES_PER_S as f64) as usize;
        while sent < due {
            node.conn.write_some(millions * MILLION, MILLION)?;
            sent += BATCH;
        }
        wait(node)?;
    }
    let (took_s, longest) = (
        start.elapsed().as_secs_f64(),
        node.info("eventloop_duration_max_cpu_usec")?,
    );
    println!("  {millions:>3} M keys, full sync with writes: {longest} ({took_s:.2} s)");
    Ok(())
}

fn price(plan: &Plan) -> io::Result<()> {
    println!("price: CPU seconds of a save beside {PRICE_SETS} SETs, server and children");
    for (name, program) in plan.programs() {
        let mut node = plan.start(program, &[])?;
        let keys = 10 * MILLION;
        node.populate(keys)?;
        let mut costs = Vec::new();
        for saves in [false, true, false, true] {
            let cpu_s = node.cpu_s()?;
            if saves {
                node.conn.call(&["BGSAVE"])?;
            }
            let mut conn = node.connect()?;
            paced(PRICE_PER_S, |done| {
                conn.set_some(keys)?;
                Ok(done + BATCH < PRICE_SETS)
            })?;
            let outlasted = node.is_saving()?;
            while node.is_saving()? {
                wait(&mut node)?;
            }
            // A child's time counts when it has been waited for.
            std::thread::sleep(Duration::from_millis(300));
            costs.push((node.cpu_s()? - cpu_s, outlasted));
        }
        let (plain, with) = (costs[0].0.min(costs[2].0), costs[1].0.min(costs[3].0));
        let note = match costs.iter().any(|c| c.1) {
            true => " (the save outlasted the writes)",
            false => "",
        };
        println!(
            "  {name}: {plain:.2} without, {with:.2} with a save: {:.2} is its price{note}",
            with - plain
        );
    }
    Ok(())
}

fn evict(plan: &Plan) -> io::Result<()> {
    println!("evict: evictions for each key added");
    for (name, program) in plan.programs() {
        let mut node = plan.start(program, &["--maxmemory-policy", "allkeys-lru"])?;
        node.populate(5 * MILLION)?;
        let used = node.info("used_memory")?;
        node.conn
            .call(&["CONFIG", "SET", "maxmemory", &used.to_string()])?;
        let mut added = 0u64;
        let mut add = |node: &mut Node| -> io::Result<()> {
            for i in 0..BATCH as u64 {
                let key = format!("new:{}", added + i);
                node.conn.queue(&["SET", &key, "sixteen bytes ok"]);
            }
            added += BATCH as u64;
            node.conn.exchange(BATCH).map(drop)
        };
        let mut rates = Vec::new();
        for saves in [false, true] {
            let before = node.info("evicted_keys")?;
            let mut writes = 0;
            let mut step = |node: &mut Node| {
                writes += 10 * BATCH;
                (0..10).try_for_each(|_| add(node))
            };
            match saves {
                true => drop(save(&mut node, BGSAVE, &mut step)?),
                false => (0..500).try_for_each(|_| step(&mut node))?,
            }
            let evicted = node.info("evicted_keys")? - before;
            rates.push(evicted as f64 / writes as f64);
        }
        println!(
            "  {name}: {:.3} without a save, {:.3} during one",
            rates[0], rates[1]
        );
    }
    Ok(())
}

fn limited(plan: &Plan) -> io::Result<()> {
    const BOX: u64 = 512 << 20;
    const DATA: u64 = 400 << 20;
    println!("limited: under writes, in a box of 512 MB with 400 MB of data");
    for (name, program) in plan.programs() {
        let mut node = plan.start(program, &[])?;
        // Into the box before there is anything, so that all of it counts.
        let boxed = node.confine();
        let mut keys = 0;
        while node.rss()? < DATA {
            keys += MILLION / 10;
            node.populate(keys)?;
        }
        if let Err(why) = boxed.and_then(|()| node.narrow(BOX)) {
            println!("  {name}: there is no box for it here: {why}");
            continue;
        }
        for command in [BGSAVE, BGREWRITEAOF, "RELOAD"] {
            let end = match command {
                "RELOAD" => node
                    .conn
                    .call(&["DEBUG", "RELOAD"])
                    .map(|reply| match &reply[..] {
                        "+OK" => {}
                        error => println!("  {name}: {error}"),
                    }),
                command => node.connect().and_then(|mut conn| {
                    let some =
                        |_: &mut Node| (0..50).try_for_each(|_| conn.set_some(keys).map(drop));
                    save(&mut node, command, some).map(drop)
                }),
            };
            std::thread::sleep(Duration::from_millis(300));
            match (node.lives(), end) {
                (true, Ok(())) if node.saved()? => {
                    println!("  {name}, {keys} keys, {command}: done")
                }
                (true, _) => println!("  {name}, {keys} keys, {command}: lives, but it failed"),
                (false, _) => {
                    println!("  {name}, {keys} keys, {command}: killed");
                    break;
                }
            }
        }
    }
    const KEYS: usize = 5 * MILLION;
    let mut node = plan.start(&plan.ours, &["--snapshot-memory-limit", "20mb"])?;
    node.populate(KEYS)?;
    // A thousand seconds, unless somebody gives it up.
    node.conn
        .call(&["CONFIG", "SET", "rdb-key-save-delay", "200"])?;
    let start = Instant::now();
    let mut peak = 0;
    save(&mut node, BGSAVE, |node| {
        (0..20).try_for_each(|_| node.conn.set_some(KEYS).map(drop))?;
        peak = peak.max(node.info("current_cow_size")?);
        Ok(())
    })?;
    let (failed, lives) = (!node.saved()?, node.lives());
    println!(
        "  with snapshot-memory-limit 20mb: given up after {:.2} s at {:.1} MB held: {}",
        start.elapsed().as_secs_f64(),
        peak as f64 / MB,
        failed && lives
    );
    Ok(())
}

/// GETs of 25 connections while 25 others write.
fn readers(plan: &Plan) -> io::Result<()> {
    const KEYS: usize = 100_000;
    const LASTS: Duration = Duration::from_secs(5);
    const CLIENTS: usize = 50;
    println!("readers: {CLIENTS} connections, half of them SETs, µs");
    for (name, program) in plan.programs() {
        for always in [false, true] {
            let log = ["--appendonly", "yes", "--appendfsync", "always"];
            let mut node = plan.start(program, if always { &log } else { &[] })?;
            node.populate(KEYS)?;
            let loops = (0..CLIENTS).map(|i| {
                let mut conn = node.connect()?;
                let reads = i < CLIENTS / 2;
                Ok(std::thread::spawn(
                    move || -> io::Result<(bool, Vec<u64>)> {
                        let (end, mut waits) = (Instant::now() + LASTS, Vec::new());
                        while Instant::now() < end {
                            let key = format!("key:{}", conn.below(KEYS));
                            let start = Instant::now();
                            match reads {
                                true => conn.call(&["GET", &key])?,
                                false => conn.call(&["SET", &key, "sixteen bytes ok"])?,
                            };
                            waits.push(start.elapsed().as_micros() as u64);
                        }
                        Ok((reads, waits))
                    },
                ))
            });
            let loops: Vec<_> = loops.collect::<io::Result<_>>()?;
            let mut all = [Vec::new(), Vec::new()];
            for handle in loops {
                let (reads, waits) = handle.join().expect("a loop ends")?;
                all[usize::from(!reads)].extend(waits);
            }
            for (what, mut waits) in ["GET", "SET"].into_iter().zip(all) {
                waits.sort_unstable();
                let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
                println!(
                    "  {name} {} {what}: {:>8.0} a second, half within {}, 99 % within {}, all within {}",
                    if always { "always" } else { "no log" },
                    waits.len() as f64 / LASTS.as_secs_f64(),
                    at(0.5),
                    at(0.99),
                    at(1.0)
                );
            }
        }
    }
    Ok(())
}

type Section = (&'static str, fn(&Plan) -> io::Result<()>);
const SECTIONS: [Section; 5] = [
    ("turns", turns),
    ("price", price),
    ("evict", evict),
    ("limited", limited),
    ("readers", readers),
];

fn main() -> io::Result<()> {
    let plan = Plan::from_args();
    std::fs::create_dir_all(&plan.dir)?;
    SECTIONS
        .into_iter()
        .filter(|(name, _)| plan.wants(name))
        .try_for_each(|(_, run)| run(&plan))
}
