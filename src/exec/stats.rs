//! Everything that is counted. INFO shows it, CONFIG RESETSTAT sets it back.

use std::collections::HashMap;

use crate::base::histogram::Histogram;
use crate::cmd::keys::KeyStats;
use crate::exec::table::CommandId;

/// Figures of one command.
#[derive(Debug, Default, Clone)]
pub struct CommandStats {
    pub calls: u64,
    pub us: u64,
    /// Refused before it ran.
    pub rejected: u64,
    /// Ran and replied with an error.
    pub failed: u64,
    /// Times in ns; made with the first call.
    pub latency: Option<Histogram>,
}

impl CommandStats {
    /// Counts a call that took `ns`, or so many whole `us`.
    #[inline]
    pub fn called(&mut self, ns: u64, us: u64, tracked: bool) {
        self.calls += 1;
        self.us += us;
        if tracked {
            self.record(ns);
        }
    }

    #[inline]
    fn record(&mut self, ns: u64) {
        self.latency.get_or_insert_default().record(ns);
    }
}

/// A figure per second, from samples of the last 16 tenths of a second.
#[derive(Debug, Default, Clone, Copy)]
pub struct Rate {
    last: u64,
    last_ms: u64,
    samples: [u64; 16],
    at: usize,
}

impl Rate {
    /// Takes a sample: the counter stands at `value` at `now_ms`.
    pub fn sample(&mut self, value: u64, now_ms: u64) {
        let elapsed = now_ms.saturating_sub(self.last_ms);
        if self.last_ms != 0 && elapsed > 0 {
            self.samples[self.at] = value.saturating_sub(self.last) * 1000 / elapsed;
            self.at = (self.at + 1) % self.samples.len();
        }
        self.last = value;
        self.last_ms = now_ms;
    }

    /// The mean of the samples, a second's worth.
    pub fn per_second(&self) -> u64 {
        self.samples.iter().sum::<u64>() / self.samples.len() as u64
    }
}

/// Turns of the loop: how many, and the longest.
#[derive(Debug, Default, Clone, Copy)]
pub struct Turns {
    pub count: u64,
    pub sum_us: u64,
    /// Longest turn in µs of wall time.
    pub max_us: u64,
    /// Most commands in one turn.
    pub max_commands: u64,
    /// Longest turn in thread CPU time, in µs.
    pub max_cpu_us: u64,
    /// Longest single command in µs of wall time.
    pub max_command_us: u64,
}

/// The greatest buffers that clients had in the last seconds, one place a second.
#[derive(Debug, Default, Clone, Copy)]
pub struct ClientPeaks([(usize, usize); 8]);

impl ClientPeaks {
    /// A run of the clients' cron begins: what is older than a round of places goes.
    pub fn begin(&mut self, now_s: u64) {
        self.0[(now_s as usize + 1) % self.0.len()] = (0, 0);
    }

    /// A client has so many bytes of input and of output.
    pub fn note(&mut self, now_s: u64, input: usize, output: usize) {
        let place = &mut self.0[now_s as usize % self.0.len()];
        *place = (place.0.max(input), place.1.max(output));
    }

    /// The greatest input and the greatest output.
    pub fn greatest(&self) -> (usize, usize) {
        let of = |f: fn(&(usize, usize)) -> usize| self.0.iter().map(f).max();
        (of(|p| p.0).unwrap_or(0), of(|p| p.1).unwrap_or(0))
    }
}

/// See the head of the file. All but `commands` are plain counters.
#[derive(Debug, Default)]
pub struct Stats {
    /// Values and keys that the freeing thread has freed.
    pub lazyfreed: u64,
    pub commands: Vec<CommandStats>,
    /// Error replies by their first word.
    pub errors: HashMap<String, u64>,
    pub errors_disabled: bool,
    pub total_errors: u64,
    pub unexpected_errors: u64,
    pub total_commands: u64,
    pub total_connections: u64,
    pub rejected_connections: u64,
    pub net_input: u64,
    pub net_output: u64,
    /// What replicas were sent, and a master sent us.
    pub net_repl_output: u64,
    pub net_repl_input: u64,
    /// Full syncs, partial ones, and those that were asked for in vain.
    pub sync_full: u64,
    pub sync_partial_ok: u64,
    pub sync_partial_err: u64,
    pub reads: u64,
    pub writes: u64,
    pub keys: KeyStats,
    pub expired_stale_perc: f64,
    pub expired_time_cap_reached: u64,
    pub expire_cycle_cpu_us: u64,
    pub evicted_keys: u64,
    pub evicted_clients: u64,
    pub evicted_scripts: u64,
    /// Time over maxmemory in µs: closed spans, and the start of the open one.
    pub exceeded_us: u64,
    pub exceeded_since_us: Option<u64>,
    pub peak_memory: usize,
    pub active_command_us: u64,
    pub query_buffer_limit_closes: u64,
    pub output_limit_closes: u64,
    pub acl_denied_auth: u64,
    pub acl_denied_command: u64,
    pub acl_denied_key: u64,
    pub acl_denied_channel: u64,
    pub ops: Rate,
    pub input_rate: Rate,
    pub output_rate: Rate,
    pub repl_input_rate: Rate,
    pub repl_output_rate: Rate,
    pub turns: Turns,
    pub turns_rate: Rate,
    pub turn_time_rate: Rate,
    pub cron_us: u64,
    pub reply_buffer_shrinks: u64,
    pub reply_buffer_expands: u64,
    pub command_under_way: Option<CommandId>,
}

impl Stats {
    /// All at zero, for a table of `commands` commands.
    pub fn new(commands: usize) -> Self {
        Stats {
            commands: vec![CommandStats::default(); commands],
            ..Stats::default()
        }
    }

    /// CONFIG RESETSTAT. Peak memory stays, as it does in Redis.
    pub fn reset(&mut self) {
        let peak_memory = self.peak_memory;
        *self = Stats {
            peak_memory,
            ..Stats::new(self.commands.len())
        };
    }

    /// Counts an error reply by its code; past 128 different codes, which no honest client causes,
    /// they are no longer told apart.
    pub fn error(&mut self, reply: &[u8]) {
        self.total_errors += 1;
        let code = reply.split(|&b| b == b' ').next().unwrap_or(b"ERR");
        let code = String::from_utf8_lossy(if code.len() > 32 { b"ERR" } else { code });
        if let Some(n) = self.errors.get_mut(&*code) {
            *n += 1;
        } else if self.errors.len() < MAX_ERROR_CODES {
            self.errors.insert(code.into_owned(), 1);
        }
    }
}

/// Different error codes that are counted apart.
const MAX_ERROR_CODES: usize = 128;
