//! The latency monitor: for each kind of event, the spikes above `latency-monitor-threshold`, one a
//! second, the last 160 of them.

use std::collections::{BTreeMap, VecDeque};

use crate::exec::server::Server;

/// Spikes kept of each event.
pub const SAMPLES_MAX: usize = 160;

/// The spikes of one event.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// (unix time in seconds, longest time in ms within that second), oldest first.
    pub samples: VecDeque<(u64, u64)>,
    /// Longest time in ms ever.
    pub max_ms: u64,
}

/// See the head of the file.
#[derive(Debug, Default)]
pub struct LatencyMonitor {
    pub events: BTreeMap<&'static str, Series>,
}

impl LatencyMonitor {
    /// Remembers a spike.
    pub fn add(&mut self, event: &'static str, now_s: u64, ms: u64) {
        let series = self.events.entry(event).or_default();
        series.max_ms = series.max_ms.max(ms);
        match series.samples.back_mut() {
            Some((at, longest)) if *at == now_s => *longest = (*longest).max(ms),
            _ => {
                series.samples.push_back((now_s, ms));
                if series.samples.len() > SAMPLES_MAX {
                    series.samples.pop_front();
                }
            }
        }
    }
}

impl Server {
    /// Remembers a spike if the monitor is on and it is long enough.
    pub fn latency_sample(&mut self, event: &'static str, ms: u64) {
        let threshold = self.config.latency_monitor_threshold;
        if threshold > 0 && ms >= threshold {
            self.latency.add(event, self.now.s(), ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_keeps_its_longest_spike_and_old_ones_go() {
        let mut monitor = LatencyMonitor::default();
        for s in 0..200 {
            monitor.add("command", s, 5);
            monitor.add("command", s, 9);
            monitor.add("command", s, 7);
        }
        let series = &monitor.events["command"];
        assert_eq!(series.samples.len(), SAMPLES_MAX);
        assert_eq!(series.samples.front(), Some(&(40, 9)));
        assert_eq!(series.max_ms, 9);
    }
}
