//! LATENCY: what the monitor (`exec/latency.rs`) and the commands' histograms have to tell.

use std::fmt::Write;

use crate::admin::sparkline;
use crate::base::histogram::Histogram;
use crate::cmd::fault::{Fault, quoted};
use crate::cmd::spec::{Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Row};
use crate::exec::latency::Series;
use crate::exec::server::Server;
use crate::exec::table::CommandId;
use crate::exec::{Call, ServerFn};
use crate::resp::reply::Reply;

const ADMIN_ANY_TIME: Flags = Flags::ADMIN
    .or(Flags::NOSCRIPT)
    .or(Flags::LOADING)
    .or(Flags::STALE);
const ALL_NODES: &[&str] = &[
    "nondeterministic_output",
    "request_policy:all_nodes",
    "response_policy:special",
];

const LATENCY: Row<ServerFn> = Spec::new("latency", -2, Group::Server)
    .since("2.8.13")
    .cost("Depends on subcommand.")
    .about("Tells where time is lost.")
    .container();

const HISTORY: Row<ServerFn> = Spec::new("latency|history", 3, Group::Server)
    .flags(ADMIN_ANY_TIME)
    .since("2.8.13")
    .cost("O(1)")
    .about("Shows the spikes of an event.")
    .tips(ALL_NODES)
    .args(&[Arg::string("event")])
    .run(history);

fn series<'a>(server: &'a Server, event: &[u8]) -> Option<(&'static str, &'a Series)> {
    let mut all = server.latency.events.iter();
    all.find(|(name, _)| name.as_bytes() == event)
        .map(|(&name, series)| (name, series))
}

/// LATENCY HISTORY event: (time, ms) pairs, oldest first.
fn history(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let samples = series(call.server, args.argv()[2]).map(|(_, s)| s.samples.clone());
    let samples = samples.unwrap_or_default();
    let reply = call.reply();
    reply.array(samples.len());
    for (at_s, ms) in samples {
        reply.array(2);
        reply.int(at_s as i64);
        reply.int(ms as i64);
    }
    DONE
}

const LATEST: Row<ServerFn> = Spec::new("latency|latest", 2, Group::Server)
    .flags(ADMIN_ANY_TIME)
    .since("2.8.13")
    .cost("O(1)")
    .about("Shows the last spike of every event.")
    .tips(ALL_NODES)
    .run(latest);

fn latest(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let Call { server, token, .. } = call;
    let Some(conn) = server.conns.get_mut(*token) else {
        return DONE;
    };
    let reply = &mut conn.reply;
    reply.array(server.latency.events.len());
    for (event, series) in &server.latency.events {
        let (at_s, ms) = series.samples.back().copied().unwrap_or_default();
        reply.array(4);
        reply.bulk(event.as_bytes());
        reply.int(at_s as i64);
        reply.int(ms as i64);
        reply.int(series.max_ms as i64);
    }
    DONE
}

const RESET: Row<ServerFn> = Spec::new("latency|reset", -2, Group::Server)
    .flags(ADMIN_ANY_TIME)
    .since("2.8.13")
    .cost("O(1)")
    .about("Forgets the spikes of some or all events.")
    .tips(&["request_policy:all_nodes", "response_policy:agg_sum"])
    .args(&[Arg::string("event").optional().multiple()])
    .run(reset);

/// LATENCY RESET [event ...]: how many events were forgotten.
fn reset(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let named = &args.argv()[2..];
    let events = &mut call.server.latency.events;
    let before = events.len();
    events.retain(|event, _| {
        let hit = |name: &&[u8]| name.eq_ignore_ascii_case(event.as_bytes());
        !named.is_empty() && !named.iter().any(hit)
    });
    let gone = before - events.len();
    call.reply().int(gone as i64);
    DONE
}

const GRAPH: Row<ServerFn> = Spec::new("latency|graph", 3, Group::Server)
    .flags(ADMIN_ANY_TIME)
    .since("2.8.13")
    .cost("O(1)")
    .about("Draws the spikes of an event.")
    .tips(ALL_NODES)
    .args(&[Arg::string("event")])
    .run(graph);

const GRAPH_COLUMNS: usize = 80;
const GRAPH_ROWS: usize = 4;

fn graph(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let event = args.argv()[2];
    let Some((name, series)) = series(call.server, event) else {
        let text = [b"ERR No samples available for event '", quoted(event), b"'"].concat();
        return Err(Fault::text(text));
    };
    let text = draw(name, series, call.server.now.s());
    call.reply().verbatim(b"txt", text.as_bytes());
    DONE
}

fn draw(event: &str, series: &Series, now_s: u64) -> String {
    let values: Vec<(u64, String)> = series
        .samples
        .iter()
        .map(|&(at_s, ms)| (ms, ago(now_s.saturating_sub(at_s))))
        .collect();
    let all = values.iter().map(|v| v.0);
    format!(
        "{event} - high {} ms, low {} ms (all time high {} ms)\n{}\n{}",
        all.clone().max().unwrap_or(0),
        all.min().unwrap_or(0),
        series.max_ms,
        "-".repeat(GRAPH_COLUMNS),
        sparkline::draw(&values, GRAPH_COLUMNS, GRAPH_ROWS)
    )
}

/// A span of time in its largest unit.
fn ago(s: u64) -> String {
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m", s / 60),
        3600..86_400 => format!("{}h", s / 3600),
        _ => format!("{}d", s / 86_400),
    }
}

const HISTOGRAM: Row<ServerFn> = Spec::new("latency|histogram", -2, Group::Server)
    .flags(ADMIN_ANY_TIME)
    .since("7.0.0")
    .cost("O(N) where N is the number of commands with latency information being retrieved.")
    .about("Shows how the times of commands are distributed.")
    .tips(ALL_NODES)
    .args(&[Arg::string("command").optional().multiple()])
    .run(histogram);

/// LATENCY HISTOGRAM [command ...]: a container stands for its subcommands.
fn histogram(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let table = call.server.table.clone();
    let ids: Vec<CommandId> = match &args.argv()[2..] {
        [] => table.iter().map(|(id, _)| id).collect(),
        names => names
            .iter()
            .filter_map(|name| table.find_full(name))
            .flat_map(|id| std::iter::once(id).chain(table.get(id).subs.iter().copied()))
            .collect(),
    };
    let Call { server, token, .. } = call;
    let Some(conn) = server.conns.get_mut(*token) else {
        return DONE;
    };
    let known = ids.iter().filter_map(|&id| {
        let histogram = server.stats.commands[id].latency.as_ref()?;
        Some((table.get(id).spec.name, histogram))
    });
    conn.reply.map(known.clone().count());
    for (name, histogram) in known {
        conn.reply.bulk(name.as_bytes());
        distribution(&mut conn.reply, histogram);
    }
    DONE
}

/// Replies a cumulative distribution: from each bound of 1.024 µs times a power of two, how many calls
/// took that long at most; bounds that add nothing are left out. A bound is told by the end of the
/// histogram's bucket it falls into, in µs.
fn distribution(reply: &mut Reply, histogram: &Histogram) {
    reply.map(2);
    reply.bulk(b"calls");
    reply.int(histogram.len() as i64);
    reply.bulk(b"histogram_usec");
    let bounds = cumulative(histogram);
    reply.map(bounds.len());
    for (us, calls) in bounds {
        reply.int(us as i64);
        reply.int(calls as i64);
    }
}

/// The first bound in ns, and the last: a second is all that is told apart.
const BOUNDS_NS: std::ops::Range<u32> = 10..31;

fn cumulative(histogram: &Histogram) -> Vec<(u64, u64)> {
    let mut bounds = BOUNDS_NS.map(|power| match 1u64 << power {
        // The last bucket ends here.
        ns if power + 1 == BOUNDS_NS.end => ns - 1,
        ns => Histogram::highest_equivalent(ns),
    });
    let mut told: Vec<(u64, u64)> = Vec::new();
    let mut calls = 0;
    let mut bound = 0;
    for (ns, count) in histogram.recorded() {
        calls += count;
        while bound < ns {
            let Some(next) = bounds.next() else { break };
            bound = next;
        }
        match told.last_mut() {
            Some((us, so_far)) if *us == bound / 1000 => *so_far = calls,
            _ => told.push((bound / 1000, calls)),
        }
    }
    told
}

const DOCTOR: Row<ServerFn> = Spec::new("latency|doctor", 2, Group::Server)
    .flags(ADMIN_ANY_TIME)
    .since("2.8.13")
    .cost("O(1)")
    .about("Says what the spikes may come from.")
    .tips(ALL_NODES)
    .run(doctor);

fn doctor(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let huge_pages = call.io.huge_page_bytes() > 0;
    let report = diagnosis(call.server, huge_pages);
    call.reply().verbatim(b"txt", report.as_bytes());
    DONE
}

/// A series in figures; times are in ms.
struct Figures {
    spikes: u64,
    mean: u64,
    /// Mean distance from the mean.
    deviation: u64,
    /// Seconds from one spike to the next, on the average.
    period_s: f64,
}

impl Figures {
    fn of(series: &Series, now_s: u64) -> Figures {
        let spikes = series.samples.len().max(1) as u64;
        let all = series.samples.iter().map(|s| s.1);
        let mean = all.clone().sum::<u64>() / spikes;
        let first_s = series.samples.front().map_or(now_s, |s| s.0);
        Figures {
            spikes,
            mean,
            deviation: all.map(|ms| ms.abs_diff(mean)).sum::<u64>() / spikes,
            period_s: now_s.saturating_sub(first_s).max(1) as f64 / spikes as f64,
        }
    }
}

/// LATENCY DOCTOR's text: figures of every event, then advice. What is looked at follows Redis; the words
/// are our own, and so is the advice where this server works another way.
fn diagnosis(server: &Server, huge_pages: bool) -> String {
    let config = &server.config;
    let events = &server.latency.events;
    if events.is_empty() && config.latency_monitor_threshold == 0 {
        return "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis instance. \
                You may use \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order to enable it.\n"
            .into();
    }
    let mut report = String::new();
    if !events.is_empty() {
        report.push_str("Dave, I have observed latency spikes in this Redis instance.\n\n");
    }
    for (i, (event, series)) in events.iter().enumerate() {
        let f = Figures::of(series, server.now.s());
        let _ = writeln!(
            report,
            "{}. {event}: {} latency spikes (average {}ms, mean deviation {}ms, period {:.2} sec). Worst all time event {}ms.",
            i + 1,
            f.spikes,
            f.mean,
            f.deviation,
            f.period_s,
            series.max_ms
        );
    }
    let advice = advice(server, huge_pages);
    match (events.is_empty(), advice.is_empty()) {
        (true, true) => report.push_str(
            "Dave, no latency spike was observed during the lifetime of this Redis instance.\n",
        ),
        (false, true) => report.push_str("\nI have no advice for these events.\n"),
        _ => {
            report.push_str("\nI have a few advices for you:\n\n");
            advice.iter().for_each(|a| {
                let _ = writeln!(report, "- {a}");
            });
        }
    }
    report
}

fn advice(server: &Server, huge_pages: bool) -> Vec<String> {
    let config = &server.config;
    let seen = |event: &str| server.latency.events.contains_key(event);
    let threshold_us = config.latency_monitor_threshold * 1000;
    let mut advice = Vec::new();
    if seen("command") {
        match u64::try_from(config.slowlog_log_slower_than) {
            Err(_) => advice.push(format!(
                "The slow log is off. 'CONFIG SET slowlog-log-slower-than {threshold_us}' makes it remember \
                 which commands are slow."
            )),
            Ok(us) if us > threshold_us => advice.push(format!(
                "The slow log only takes commands that are slower than the threshold of this monitor. Use \
                 'CONFIG SET slowlog-log-slower-than {threshold_us}'."
            )),
            Ok(_) => {}
        }
        advice.push("SLOWLOG GET shows which commands take that long.".into());
    }
    if seen("fast-command") {
        advice.push(
            "Even commands that do next to nothing are slow: the process does not get the processor when it \
             needs it. Look for other load on this machine, a noisy neighbour of a virtual one, or swapping; \
             'redis-cli --intrinsic-latency 100' measures what the machine itself takes."
                .into(),
        );
    }
    if seen("expire-cycle") && server.hz < 100 {
        advice.push("'CONFIG SET hz 100' lets keys expire in more and smaller steps.".into());
    }
    if seen("eviction-cycle") {
        advice.push(
            "Many keys had to be evicted at once: a new 'maxmemory' or large values that arrive suddenly do \
             that."
                .into(),
        );
    }
    if huge_pages {
        advice.push(
            "This process uses transparent huge pages, which make writes slow while a snapshot is taken. \
             Write 'never' (or 'madvise') to /sys/kernel/mm/transparent_hugepage/enabled, also at boot, and \
             restart the server."
                .into(),
        );
    }
    advice
}

const HELP: Row<ServerFn> = Spec::new("latency|help", 2, Group::Server)
    .flags(Flags::LOADING.or(Flags::STALE))
    .since("2.8.13")
    .cost("O(1)")
    .about("Lists the subcommands.")
    .run(help);

fn help(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    call.help(
        "LATENCY",
        &[
            "DOCTOR",
            "    Return a human readable latency analysis report.",
            "GRAPH <event>",
            "    Return an ASCII latency graph for the <event> class.",
            "HISTORY <event>",
            "    Return time-latency samples for the <event> class.",
            "LATEST",
            "    Return the latest latency samples for all events.",
            "RESET [<event> ...]",
            "    Reset latency data of one or more <event> classes.",
            "    (default: reset all data for all event classes)",
            "HISTOGRAM [COMMAND ...]",
            "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
            "    If no commands are specified then all histograms are replied.",
        ],
    )
}

pub static ROWS: &[Row<ServerFn>] = &[
    LATENCY, HISTORY, LATEST, RESET, GRAPH, HISTOGRAM, DOCTOR, HELP,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(us: &[u64]) -> Histogram {
        let mut h = Histogram::new();
        us.iter().for_each(|us| h.record(us * 1000));
        h
    }

    /// Times and what Redis 7.2.6 told of such.
    #[test]
    fn distributions_have_redis_bounds() {
        assert_eq!(cumulative(&recorded(&[])), []);
        assert_eq!(cumulative(&recorded(&[1])), [(1, 1)]);
        assert_eq!(cumulative(&recorded(&[1_720])), [(2113, 1)]);
        let mixed = [1_720, 1_110, 1_300, 2_210, 4_120, 100_100, 304_000, 501_000];
        let told = [(2113, 3), (4227, 5), (135_266, 6), (541_065, 8)];
        assert_eq!(cumulative(&recorded(&mixed)), told);
        let long = [8, 553_000, 999_999, 1_300_000];
        assert_eq!(cumulative(&recorded(&long)), [(8, 1), (1_073_741, 4)]);
    }

    #[test]
    fn a_graph_tells_its_range_and_ages() {
        let mut series = Series {
            max_ms: 90,
            ..Series::default()
        };
        series.samples.extend([(100, 30), (3_000, 60), (7_000, 90)]);
        let drawn = draw("command", &series, 7_040);
        let head = "command - high 90 ms, low 30 ms (all time high 90 ms)\n-----";
        assert!(drawn.starts_with(head), "{drawn}");
        // An hour and more ago, more than an hour ago, 40 seconds ago; written downwards.
        assert!(drawn.ends_with("\n   \n114\nhh0\n  s\n"), "{drawn}");
        assert_eq!(
            ["59s", "2m", "1d"],
            [59, 120, 86_400].map(ago).each_ref().map(|s| s.as_str())
        );
    }

    #[test]
    fn the_doctor_counts() {
        let mut series = Series::default();
        series.samples.extend([(100, 10), (101, 30), (105, 20)]);
        let f = Figures::of(&series, 130);
        assert_eq!((f.spikes, f.mean, f.deviation), (3, 20, 6));
        assert_eq!(f.period_s, 10.0);
    }
}
