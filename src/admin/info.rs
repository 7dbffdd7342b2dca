//! INFO: what the server tells of itself, in sections of `field:value` lines.
//!
//! A section is a row of [`SECTIONS`] with the function that writes it; the order of rows and fields is
//! Redis's, because people read it and programs diff it. Fields of our own come last in their section.
//! Everything here reads counters that are kept anyway: INFO costs some tens of microseconds, whatever the
//! server holds. [`info_text`] needs no connection and no door to the outside, so that the crash report
//! can print it too.

mod replication;
mod sentinel;

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;

use crate::admin::memory::Overhead;
use crate::base::histogram::Histogram;
use crate::cmd::spec::{Acl, Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Row, is_word};
use crate::exec::aof::State;
use crate::exec::io::MemoryFigures;
use crate::exec::persistence::Loading;
use crate::exec::server::Server;
use crate::exec::stats::CommandStats;
use crate::exec::{Call, ServerFn};
use crate::object::access::lru_clock;

/// The version of Redis whose behaviour this is.
pub const REDIS_VERSION: &str = "7.2.6";

const DAY_S: u64 = 24 * 3600;

/// One section.
struct Section {
    /// The names it is asked for by.
    names: &'static [&'static str],
    title: &'static str,
    shown: Shown,
    write: fn(&mut Page, &Server, &MemoryFigures),
}

/// When a section is shown without being named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// By plain INFO and `default`, and by `all` and `everything`.
    ByDefault,
    /// By `all` and `everything`.
    InAll,
    /// Where it is that server's kind: in a Sentinel.
    InSentinel,
    /// Never.
    Named,
}

const fn section(
    names: &'static [&'static str],
    title: &'static str,
    shown: Shown,
    write: fn(&mut Page, &Server, &MemoryFigures),
) -> Section {
    Section {
        names,
        title,
        shown,
        write,
    }
}

static SECTIONS: &[Section] = &[
    section(&["server"], "Server", Shown::ByDefault, server),
    section(&["clients"], "Clients", Shown::ByDefault, clients),
    section(&["memory"], "Memory", Shown::ByDefault, memory),
    section(
        &["persistence"],
        "Persistence",
        Shown::ByDefault,
        persistence,
    ),
    section(&["stats"], "Stats", Shown::ByDefault, stats),
    section(
        &["replication"],
        "Replication",
        Shown::ByDefault,
        replication::replication,
    ),
    section(&["cpu"], "CPU", Shown::ByDefault, cpu),
    section(
        &["module_list", "modules"],
        "Modules",
        Shown::ByDefault,
        |_, _, _| (),
    ),
    section(&["commandstats"], "Commandstats", Shown::InAll, commands),
    section(&["errorstats"], "Errorstats", Shown::ByDefault, errors),
    section(&["latencystats"], "Latencystats", Shown::InAll, latencies),
    section(&["cluster"], "Cluster", Shown::ByDefault, cluster),
    section(&["keyspace"], "Keyspace", Shown::ByDefault, keyspace),
    section(
        &["sentinel"],
        "Sentinel",
        Shown::InSentinel,
        sentinel::section,
    ),
    section(&["debug"], "Debug", Shown::Named, debug),
];

/// The sections that are wanted: a bit for each row of [`SECTIONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sections(u32);

impl Sections {
    /// Every section but `debug`.
    pub fn all() -> Sections {
        Self::where_shown(|shown| matches!(shown, Shown::ByDefault | Shown::InAll))
    }

    /// The sections of a plain INFO.
    pub fn default_ones() -> Sections {
        Self::where_shown(|shown| shown == Shown::ByDefault)
    }

    /// Those that INFO's arguments name; names that no section has are passed over.
    pub fn named(names: &[&[u8]]) -> Sections {
        if names.is_empty() {
            return Self::default_ones();
        }
        names.iter().fold(Sections(0), |wanted, name| {
            Sections(wanted.0 | Self::one(name).0)
        })
    }

    /// Those of a Sentinel that INFO's arguments name: it has some of them, and one of its own.
    fn of_sentinel(names: &[&[u8]]) -> Sections {
        let own: [&[u8]; 5] = [b"server", b"clients", b"cpu", b"stats", b"sentinel"];
        let own = own.iter().fold(0, |all, name| all | Self::one(name).0);
        let all = |name: &&[u8]| {
            ["default", "all", "everything"]
                .iter()
                .any(|w| is_word(name, w))
        };
        if names.is_empty() || names.iter().any(all) {
            return Sections(own);
        }
        Sections(Self::named(names).0 & own)
    }

    fn one(name: &[u8]) -> Sections {
        if is_word(name, "default") {
            return Self::default_ones();
        }
        if is_word(name, "all") || is_word(name, "everything") {
            return Self::all();
        }
        let at = SECTIONS
            .iter()
            .position(|s| s.names.iter().any(|n| is_word(name, n)));
        Sections(at.map_or(0, |at| 1 << at))
    }

    fn where_shown(f: impl Fn(Shown) -> bool) -> Sections {
        let bits = SECTIONS.iter().enumerate().filter(|(_, s)| f(s.shown));
        Sections(bits.fold(0, |wanted, (at, _)| wanted | 1 << at))
    }

    /// True if a wanted section shows figures that only the outside knows.
    fn need_figures(self) -> bool {
        self.0 & (Self::one(b"memory").0 | Self::one(b"cpu").0) != 0
    }
}

/// The text of INFO.
pub fn info_text(server: &Server, figures: &MemoryFigures, sections: Sections) -> String {
    let mut page = Page(String::with_capacity(8 * 1024));
    for (at, section) in SECTIONS.iter().enumerate() {
        let is_theirs = section.shown == Shown::InSentinel && server.sentinel.is_none();
        if sections.0 & 1 << at == 0 || is_theirs {
            continue;
        }
        if !page.0.is_empty() {
            page.0.push_str("\r\n");
        }
        let _ = write!(page.0, "# {}\r\n", section.title);
        (section.write)(&mut page, server, figures);
    }
    page.0
}

/// The text as it grows.
struct Page(String);

impl Page {
    fn line(&mut self, field: &str, value: impl Display) {
        let _ = write!(self.0, "{field}:{value}\r\n");
    }

    /// Several fields of the same value: what this server does not have, or not yet.
    fn lines(&mut self, fields: &[&str], value: impl Display) {
        for field in fields {
            self.line(field, &value);
        }
    }

    /// Bytes, and the same for human readers under `<field>_human`.
    fn bytes(&mut self, field: &str, bytes: u64) {
        self.line(field, bytes);
        self.line(&format!("{field}_human"), human_bytes(bytes));
    }

    fn ratio(&mut self, field: &str, value: f32) {
        let _ = write!(self.0, "{field}:{value:.2}\r\n");
    }

    fn seconds(&mut self, field: &str, us: u64) {
        let _ = write!(
            self.0,
            "{field}:{}.{:06}\r\n",
            us / 1_000_000,
            us % 1_000_000
        );
    }
}

/// Bytes with two decimals and the letter of the unit, as in `1.50K`; below a kilobyte as in `12B`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];
    // Beyond petabytes Redis gives up.
    if !(1024..1 << 60).contains(&bytes) {
        return format!("{bytes}B");
    }
    let mut scaled = bytes as f64;
    let mut unit = 'B';
    for next in UNITS {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = next;
    }
    format!("{scaled:.2}{unit}")
}

fn server(page: &mut Page, server: &Server, _: &MemoryFigures) {
    let (config, process) = (&server.config, &server.process);
    let mode = match (config.cluster_enabled, &server.sentinel) {
        (true, _) => "cluster",
        (_, Some(_)) => "sentinel",
        _ => "standalone",
    };
    let uptime_s = server.now.s().saturating_sub(server.started_us / 1_000_000);
    page.line("redis_version", REDIS_VERSION);
    page.line("redis_git_sha1", "00000000");
    page.line("redis_git_dirty", 0);
    page.line("redis_build_id", build_id());
    page.line("redis_mode", mode);
    page.line("os", &process.os);
    page.line("arch_bits", usize::BITS);
    page.line("monotonic_clock", process.monotonic_clock);
    page.line("multiplexing_api", process.multiplexing_api);
    page.line("atomicvar_api", "rust-core");
    page.line("gcc_version", "0.0.0");
    page.line("process_id", process.pid);
    page.line("process_supervised", process.supervised);
    page.line("run_id", &server.run_id);
    page.line(
        "tcp_port",
        if config.port != 0 {
            config.port
        } else {
            config.tls_port
        },
    );
    page.line("server_time_usec", server.now.unix_us);
    page.line("uptime_in_seconds", uptime_s);
    page.line("uptime_in_days", uptime_s / DAY_S);
    page.line("hz", server.hz);
    page.line("configured_hz", config.hz);
    page.line("lru_clock", lru_clock(server.now.ms()));
    page.line("executable", &server.executable);
    page.line("config_file", &server.config_file);
    page.line("io_threads_active", 0);
    if let Some(shutdown) = server.shutdown {
        let left_ms = shutdown.until_ms as i64 - server.now.ms() as i64;
        page.line("shutdown_in_milliseconds", left_ms);
    }
    let binds: String = config
        .bind
        .iter()
        .map(|b| format!(",bind={}", b.lossy()))
        .collect();
    if config.port != 0 {
        page.line(
            "listener0",
            format_args!("name=tcp{binds},port={}", config.port),
        );
    }
    if !config.unixsocket.is_empty() {
        let path = config.unixsocket.lossy();
        page.line("listener1", format_args!("name=unix,bind={path}"));
    }
    if config.tls_port != 0 {
        page.line(
            "listener2",
            format_args!("name=tls{binds},port={}", config.tls_port),
        );
    }
}

/// Redis hashes the moment of its build; ours is the version of the crate.
fn build_id() -> &'static str {
    concat!("redstart-", env!("CARGO_PKG_VERSION"))
}

fn clients(page: &mut Page, server: &Server, _: &MemoryFigures) {
    let (input, output) = server.client_peaks.greatest();
    let blocked = &server.blocked;
    let replicas = server.repl.master.replicas().len();
    page.line("connected_clients", server.conns.len() - replicas);
    page.line("cluster_connections", server.bus_connections());
    page.line("maxclients", server.config.maxclients);
    page.line("client_recent_max_input_buffer", input);
    page.line("client_recent_max_output_buffer", output);
    page.line("blocked_clients", blocked.clients + blocked.paused.len());
    page.line("tracking_clients", server.tracking.clients());
    page.line("clients_in_timeout_table", blocked.deadline_count());
    page.line("total_blocking_keys", blocked.key_count());
    page.line("total_blocking_keys_on_nokey", server.keys_awaited_to_go());
}

/// What scripts and functions take: the interpreters, and what is kept beside them.
fn scripts(page: &mut Page, server: &Server, o: &Overhead) {
    let scripting = &server.scripting;
    let (eval, functions) = scripting.vm_memory();
    page.lines(&["used_memory_lua", "used_memory_vm_eval"], eval);
    page.line("used_memory_lua_human", human_bytes(eval as u64));
    page.line("used_memory_scripts_eval", o.scripts);
    page.line("number_of_cached_scripts", scripting.cache.len());
    page.line("number_of_functions", scripting.libraries.functions());
    page.line("number_of_libraries", scripting.libraries.len());
    page.line("used_memory_vm_functions", functions);
    page.bytes("used_memory_vm_total", (eval + functions) as u64);
    page.line("used_memory_functions", o.functions);
    page.bytes("used_memory_scripts", (o.scripts + o.functions) as u64);
}

fn memory(page: &mut Page, server: &Server, figures: &MemoryFigures) {
    let o = Overhead::of(server, figures);
    page.bytes("used_memory", o.used as u64);
    page.bytes("used_memory_rss", figures.rss as u64);
    page.bytes("used_memory_peak", o.peak as u64);
    page.line(
        "used_memory_peak_perc",
        format_args!("{:.2}%", o.peak_percent()),
    );
    page.line("used_memory_overhead", o.total());
    page.line("used_memory_startup", o.startup);
    page.line("used_memory_dataset", o.dataset());
    page.line(
        "used_memory_dataset_perc",
        format_args!("{:.2}%", o.dataset_percent()),
    );
    page.line("allocator_allocated", figures.allocated);
    page.line("allocator_active", figures.active);
    page.line("allocator_resident", figures.resident);
    page.bytes("total_system_memory", figures.system as u64);
    scripts(page, server, &o);
    // Printed as a signed number, like every size there is.
    page.line("maxmemory", server.config.maxmemory as i64);
    page.line(
        "maxmemory_human",
        human_bytes(server.config.maxmemory as u64),
    );
    page.line(
        "maxmemory_policy",
        choice_name(server.config.maxmemory_policy),
    );
    page.ratio("allocator_frag_ratio", o.fragmentation.ratio);
    page.line("allocator_frag_bytes", o.fragmentation.bytes);
    page.ratio("allocator_rss_ratio", o.allocator_rss.ratio);
    page.line("allocator_rss_bytes", o.allocator_rss.bytes);
    page.ratio("rss_overhead_ratio", o.rss_overhead.ratio);
    page.line("rss_overhead_bytes", o.rss_overhead.bytes);
    page.ratio("mem_fragmentation_ratio", o.overall.ratio);
    page.line("mem_fragmentation_bytes", o.overall.bytes);
    page.line("mem_not_counted_for_evict", server.not_counted());
    page.line("mem_replication_backlog", o.backlog);
    page.line("mem_total_replication_buffers", server.repl.buffers());
    page.line("mem_clients_slaves", o.replicas);
    page.line("mem_clients_normal", o.clients);
    page.line("mem_cluster_links", server.bus_memory());
    page.line("mem_aof_buffer", server.aof.memory());
    page.line("mem_allocator", &server.process.allocator);
    page.line("active_defrag_running", server.defrag.percent);
    page.line("lazyfree_pending_objects", server.lazyfree_pending);
    page.line("lazyfreed_objects", server.stats.lazyfreed);
}

/// The name of a configured choice.
fn choice_name<C: crate::config::Choice>(choice: C) -> &'static str {
    let code = choice.code();
    C::NAMES
        .iter()
        .find(|(_, c)| *c == code)
        .map_or("unknown", |(name, _)| name)
}

/// The figures of saves and loads; no log is kept.
fn persistence(page: &mut Page, server: &Server, _: &MemoryFigures) {
    let p = &server.persistence;
    let saving = p.saving.as_ref();
    let written = match (saving, &server.aof.rewriting) {
        (Some(saving), _) => Some((&saving.progress, saving.keys)),
        (None, Some(rewriting)) => Some((&rewriting.progress, rewriting.keys)),
        (None, None) => None,
    };
    let (processed, total) = written.map_or((0, 0), |(progress, keys)| (progress.keys(), keys));
    let (held, held_peak) = match written {
        Some(_) => {
            let held = server.dbs.snapshot_held();
            (held, held.max(p.held_peak))
        }
        None => (0, 0),
    };
    page.line("loading", u8::from(server.loading));
    page.line("async_loading", u8::from(server.async_loading));
    page.line("current_cow_peak", held_peak);
    page.line("current_cow_size", held);
    page.line("current_cow_size_age", 0);
    let percent = match total {
        0 => 0.0,
        _ => processed as f64 / total as f64 * 100.0,
    };
    page.line("current_fork_perc", format_args!("{percent:.2}"));
    page.line("current_save_keys_processed", processed);
    page.line("current_save_keys_total", total);
    page.line("rdb_changes_since_last_save", server.dirty);
    page.line("rdb_bgsave_in_progress", u8::from(saving.is_some()));
    page.line("rdb_last_save_time", server.last_save_s);
    let status = if p.error.is_some() { "err" } else { "ok" };
    page.line("rdb_last_bgsave_status", status);
    let seconds = |s: Option<u64>| s.map_or(-1, |s| s as i64);
    page.line("rdb_last_bgsave_time_sec", seconds(p.took_s));
    let since_s = saving.map(|s| server.now.s().saturating_sub(s.started_s));
    page.line("rdb_current_bgsave_time_sec", seconds(since_s));
    page.line("rdb_saves", p.saves);
    page.line("rdb_last_cow_size", p.copied_bytes);
    let (expired, loaded) = match &p.loading {
        Some(Loading { progress, .. }) => (
            progress.keys_expired.load(Ordering::Relaxed),
            progress.keys_loaded.load(Ordering::Relaxed),
        ),
        None => (p.keys_expired, p.keys_loaded),
    };
    page.line("rdb_last_load_keys_expired", expired);
    page.line("rdb_last_load_keys_loaded", loaded);
    log_figures(page, server);
    page.lines(&["module_fork_in_progress", "module_fork_last_cow_size"], 0);
    if server.config.appendonly {
        let aof = &server.aof;
        page.line("aof_current_size", aof.size);
        page.line("aof_base_size", aof.base_size);
        page.line("aof_pending_rewrite", 0);
        page.line("aof_buffer_length", aof.buffer.len());
        page.line("aof_pending_bio_fsync", aof.syncs + aof.handed);
        page.line("aof_delayed_fsync", aof.delayed);
    }
    if let Some(loading) = &p.loading {
        progress_of(page, server, loading);
    }
    // Ours: why the last save failed.
    if let Some(why) = &p.error {
        page.line("rdb_last_bgsave_error", safe(why));
    }
}

/// The figures of the append only file that are there with one or without.
fn log_figures(page: &mut Page, server: &Server) {
    let aof = &server.aof;
    let status = |failed| if failed { "err" } else { "ok" };
    let seconds = |s: Option<u64>| s.map_or(-1, |s| s as i64);
    let rewriting = aof.rewriting.as_ref();
    let since_s = rewriting.map(|r| server.now.s().saturating_sub(r.started_s));
    page.line("aof_enabled", u8::from(aof.state != State::Off));
    page.line("aof_rewrite_in_progress", u8::from(rewriting.is_some()));
    page.line("aof_rewrite_scheduled", u8::from(aof.rewrite_scheduled));
    page.line("aof_last_rewrite_time_sec", seconds(aof.rewrite_took_s));
    page.line("aof_current_rewrite_time_sec", seconds(since_s));
    page.line("aof_last_bgrewrite_status", status(aof.rewrite_failed));
    page.line("aof_rewrites", aof.rewrites);
    page.line("aof_rewrites_consecutive_failures", aof.failures_in_a_row);
    page.line("aof_last_write_status", status(aof.in_trouble()));
    page.line("aof_last_cow_size", aof.copied_bytes);
}

/// How far a load has come.
fn progress_of(page: &mut Page, server: &Server, loading: &Loading) {
    let total = loading.total_bytes;
    let loaded = loading.progress.bytes.load(Ordering::Relaxed);
    let elapsed_s = server.now.s().saturating_sub(loading.started_s);
    let then = &loading.progress.used_memory_then;
    let (percent, left) = match (total, then.load(Ordering::Relaxed)) {
        (0, 0) => (0.0, 1),
        // Of what a master sends as it makes it, the memory that it took there is all that gives an idea of its size.
        (0, memory) => {
            let percent = loaded as f64 / memory as f64 * 100.0;
            (percent.min(99.99), memory.saturating_sub(loaded).max(1))
        }
        _ => (
            loaded as f64 / total as f64 * 100.0,
            total.saturating_sub(loaded),
        ),
    };
    // At the beginning nobody knows.
    let eta_s = match elapsed_s {
        0 => 1,
        _ => elapsed_s.saturating_mul(left) / (loaded + 1),
    };
    page.line("loading_start_time", loading.started_s);
    page.line("loading_total_bytes", total);
    page.line("loading_rdb_used_mem", then.load(Ordering::Relaxed));
    page.line("loading_loaded_bytes", loaded);
    page.line("loading_loaded_perc", format_args!("{percent:.2}"));
    page.line("loading_eta_seconds", eta_s);
}

fn stats(page: &mut Page, server: &Server, _: &MemoryFigures) {
    let s = &server.stats;
    let exceeded_now_us = s
        .exceeded_since_us
        .map_or(0, |since| (server.now.mono_ns / 1000).saturating_sub(since));
    page.line("total_connections_received", s.total_connections);
    page.line("total_commands_processed", s.total_commands);
    page.line("instantaneous_ops_per_sec", s.ops.per_second());
    page.line("total_net_input_bytes", s.net_input);
    page.line("total_net_output_bytes", s.net_output);
    page.line("total_net_repl_input_bytes", s.net_repl_input);
    page.line("total_net_repl_output_bytes", s.net_repl_output);
    page.ratio(
        "instantaneous_input_kbps",
        s.input_rate.per_second() as f32 / 1024.0,
    );
    page.ratio(
        "instantaneous_output_kbps",
        s.output_rate.per_second() as f32 / 1024.0,
    );
    page.ratio(
        "instantaneous_input_repl_kbps",
        s.repl_input_rate.per_second() as f32 / 1024.0,
    );
    page.ratio(
        "instantaneous_output_repl_kbps",
        s.repl_output_rate.per_second() as f32 / 1024.0,
    );
    page.line("rejected_connections", s.rejected_connections);
    page.line("sync_full", s.sync_full);
    page.line("sync_partial_ok", s.sync_partial_ok);
    page.line("sync_partial_err", s.sync_partial_err);
    page.line("expired_keys", s.keys.expired);
    page.line(
        "expired_stale_perc",
        format_args!("{:.2}", s.expired_stale_perc * 100.0),
    );
    page.line("expired_time_cap_reached_count", s.expired_time_cap_reached);
    page.line(
        "expire_cycle_cpu_milliseconds",
        s.expire_cycle_cpu_us / 1000,
    );
    page.line("evicted_keys", s.evicted_keys);
    page.line("evicted_clients", s.evicted_clients);
    page.line(
        "total_eviction_exceeded_time",
        (s.exceeded_us + exceeded_now_us) / 1000,
    );
    page.line("current_eviction_exceeded_time", exceeded_now_us / 1000);
    page.line("keyspace_hits", s.keys.hits);
    page.line("keyspace_misses", s.keys.misses);
    page.line("pubsub_channels", server.pubsub.channels.len());
    page.line("pubsub_patterns", server.pubsub.patterns.len());
    page.line("pubsubshard_channels", server.pubsub.shards.len());
    // It never forks.
    page.line("latest_fork_usec", server.persistence.snapshot_us);
    page.line("total_forks", server.persistence.snapshots);
    page.line("migrate_cached_sockets", server.migrations.links());
    page.line("slave_expires_tracked_keys", server.own_ttls.len());
    defragmentation(page, server);
    let (keys, items, prefixes) = server.tracking.totals();
    page.line("tracking_total_keys", keys);
    page.line("tracking_total_items", items);
    page.line("tracking_total_prefixes", prefixes);
    page.line("unexpected_error_replies", s.unexpected_errors);
    page.line("total_error_replies", s.total_errors);
    page.line("dump_payload_sanitizations", 0);
    page.line("total_reads_processed", s.reads);
    page.line("total_writes_processed", s.writes);
    page.lines(
        &[
            "io_threaded_reads_processed",
            "io_threaded_writes_processed",
        ],
        0,
    );
    page.line("reply_buffer_shrinks", s.reply_buffer_shrinks);
    page.line("reply_buffer_expands", s.reply_buffer_expands);
    turns(page, server);
    page.line("acl_access_denied_auth", s.acl_denied_auth);
    page.line("acl_access_denied_cmd", s.acl_denied_command);
    page.line("acl_access_denied_key", s.acl_denied_key);
    page.line("acl_access_denied_channel", s.acl_denied_channel);
    // Ours: the longest turn of the loop in CPU time of its thread, which a busy machine does not blur,
    // and the longest single command.
    page.line("eventloop_duration_max_cpu_usec", s.turns.max_cpu_us);
    page.line("eventloop_duration_max_cmd_usec", s.turns.max_command_us);
}

fn defragmentation(page: &mut Page, server: &Server) {
    let (defrag, now_ns) = (&server.defrag, server.now.mono_ns);
    page.line("active_defrag_hits", defrag.hits);
    page.line("active_defrag_misses", defrag.misses);
    page.line("active_defrag_key_hits", defrag.keys.hits);
    page.line("active_defrag_key_misses", defrag.keys.misses);
    let ms = |ns| ns / 1_000_000;
    page.line("total_active_defrag_time", ms(defrag.total_ns(now_ns)));
    page.line("current_active_defrag_time", ms(defrag.current_ns(now_ns)));
}

/// Turns of the event loop.
fn turns(page: &mut Page, server: &Server) {
    let s = &server.stats;
    let a_second = s.turns_rate.per_second();
    let one_us = s.turn_time_rate.per_second().checked_div(a_second);
    page.line("eventloop_cycles", s.turns.count);
    page.line("eventloop_duration_sum", s.turns.sum_us);
    page.line("eventloop_duration_cmd_sum", s.active_command_us);
    page.line("instantaneous_eventloop_cycles_per_sec", a_second);
    page.line("instantaneous_eventloop_duration_usec", one_us.unwrap_or(0));
}

/// Who follows, and the stream.
fn cpu(page: &mut Page, _: &Server, figures: &MemoryFigures) {
    let mut pair = |(sys, user): (u64, u64), suffix: &str| {
        page.seconds(&format!("used_cpu_sys{suffix}"), sys);
        page.seconds(&format!("used_cpu_user{suffix}"), user);
    };
    pair(figures.cpu_process, "");
    pair(figures.cpu_children, "_children");
    pair(figures.cpu_main_thread, "_main_thread");
}

fn commands(page: &mut Page, server: &Server, _: &MemoryFigures) {
    for (id, command) in server.table.iter() {
        let CommandStats {
            calls,
            us,
            rejected,
            failed,
            ..
        } = server.stats.commands[id];
        if calls == 0 && rejected == 0 && failed == 0 {
            continue;
        }
        let each = if calls == 0 {
            0.0
        } else {
            us as f32 / calls as f32
        };
        page.line(
            &format!("cmdstat_{}", safe(command.spec.name)),
            format_args!(
                "calls={calls},usec={us},usec_per_call={each:.2},rejected_calls={rejected},failed_calls={failed}"
            ),
        );
    }
}

fn errors(page: &mut Page, server: &Server, _: &MemoryFigures) {
    let mut codes: Vec<_> = server.stats.errors.iter().collect();
    codes.sort_unstable();
    for (code, count) in codes {
        page.line(
            &format!("errorstat_{}", safe(code)),
            format_args!("count={count}"),
        );
    }
}

fn latencies(page: &mut Page, server: &Server, _: &MemoryFigures) {
    if !server.config.latency_tracking {
        return;
    }
    let percentiles = &server.config.latency_tracking_info_percentiles;
    for (id, command) in server.table.iter() {
        let Some(histogram) = &server.stats.commands[id].latency else {
            continue;
        };
        let shown: Vec<String> = percentiles
            .iter()
            .map(|&p| format!("p{p}={:.3}", at_percentile(histogram, p) as f64 / 1000.0))
            .collect();
        let field = format!("latency_percentiles_usec_{}", safe(command.spec.name));
        page.line(&field, shown.join(","));
    }
}

/// The value that so many percent of the recorded ones do not exceed, as Redis's histogram rounds it: the
/// count of values to the nearest, the value up to the end of its bucket (down, for percentile 0).
fn at_percentile(histogram: &Histogram, percentile: f64) -> u64 {
    let share = percentile.min(100.0) / 100.0;
    let wanted = ((share * histogram.len() as f64 + 0.5) as u64).max(1);
    let mut seen = 0;
    for (ns, count) in histogram.recorded() {
        seen += count;
        if seen >= wanted {
            return if percentile == 0.0 {
                Histogram::lowest_equivalent(ns)
            } else {
                ns
            };
        }
    }
    0
}

fn cluster(page: &mut Page, server: &Server, _: &MemoryFigures) {
    page.line("cluster_enabled", u8::from(server.config.cluster_enabled));
}

fn keyspace(page: &mut Page, server: &Server, _: &MemoryFigures) {
    for (i, db) in server.dbs.iter().enumerate() {
        if db.is_empty() {
            continue;
        }
        page.line(
            &format!("db{i}"),
            format_args!(
                "keys={},expires={},avg_ttl={}",
                db.len(),
                db.expiring_len(),
                db.avg_ttl_ms
            ),
        );
    }
}

fn debug(page: &mut Page, server: &Server, _: &MemoryFigures) {
    let s = &server.stats;
    page.line("eventloop_duration_aof_sum", 0);
    page.line("eventloop_duration_cron_sum", s.cron_us);
    page.line("eventloop_duration_max", s.turns.max_us);
    page.line("eventloop_cmd_per_cycle_max", s.turns.max_commands);
}

/// A name without the characters that INFO's form is made of.
fn safe(name: &str) -> String {
    name.replace(['#', ':', '\n', '\r'], "_")
}

const INFO: Row<ServerFn> = Spec::new("info", -1, Group::Server)
    .flags(Flags::LOADING.or(Flags::STALE).or(Flags::SENTINEL_HAS))
    .acl(Acl::DANGEROUS)
    .cost("O(1)")
    .about("Tells figures and state of the server.")
    .history(&[("7.0.0", "Takes several sections.")])
    .tips(&[
        "nondeterministic_output",
        "request_policy:all_shards",
        "response_policy:special",
    ])
    .args(&[Arg::string("section").optional().multiple()])
    .run(info);

/// INFO [section ...]
fn info(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let watches = call.server.sentinel.is_some();
    let names = &args.argv()[1..];
    let sections = match watches {
        true => Sections::of_sentinel(names),
        false => Sections::named(names),
    };
    let mut figures = MemoryFigures::default();
    if sections.need_figures() {
        figures = call.io.memory();
        call.server.note_peak(figures.used);
    }
    let text = info_text(call.server, &figures, sections);
    match watches {
        true => call.reply().bulk(text.as_bytes()),
        false => call.reply().verbatim(b"txt", text.as_bytes()),
    }
    DONE
}

pub static ROWS: &[Row<ServerFn>] = &[INFO];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_by_name() {
        let all = SECTIONS.len() as u32;
        assert_eq!(Sections::all().0.count_ones(), all - 2);
        assert_eq!(Sections::default_ones().0.count_ones(), all - 4);
        assert_eq!(Sections::named(&[]), Sections::default_ones());
        assert_eq!(Sections::named(&[b"KeySpace", b"nosuch"]).0.count_ones(), 1);
        assert_eq!(
            Sections::named(&[b"modules"]),
            Sections::named(&[b"module_list"])
        );
        let more = Sections::named(&[b"default", b"commandstats", b"debug"]);
        assert_eq!(more.0.count_ones(), all - 2);
    }

    #[test]
    fn bytes_for_human_readers() {
        let shown = [0, 1023, 1024, 906_152, 25_276_510_208, 1 << 50, 1 << 60].map(human_bytes);
        assert_eq!(
            shown,
            [
                "0B",
                "1023B",
                "1.00K",
                "884.91K",
                "23.54G",
                "1.00P",
                "1152921504606846976B"
            ]
        );
    }

    /// Values and what Redis 7.2.6 shows for them.
    #[test]
    fn percentiles_as_redis_rounds_them() {
        let mut h = Histogram::new();
        for us in [3, 5, 1_720] {
            h.record(us * 1000);
        }
        assert_eq!(at_percentile(&h, 50.0), 5_023);
        assert_eq!(at_percentile(&h, 99.9), 1_720_319);
        assert_eq!(at_percentile(&h, 100.0), 1_720_319);
        assert_eq!(at_percentile(&h, 0.0), 2_992);
    }
}
