//! What a test measured, as text: latencies by percentile and by steps of a tenth of a millisecond, and a summary.
//!
//! Latencies are kept in a histogram whose buckets grow with the value, so that each is known to as many digits as
//! were asked for. What is printed of a bucket is its upper end.

use hdrhistogram::Histogram;

use super::Settings;
use super::options::Options;
use crate::cli::out::say;

/// The range of the histogram, in microseconds.
const LATENCY_MIN_US: u64 = 10;
const LATENCY_MAX_US: u64 = 3_000_000;
/// From here on the steps are whole milliseconds.
const FINE_STEPS_MAX_US: u64 = 2000;

/// The latencies of a test, and of its last quarter of a second.
pub struct Latencies {
    pub all: Histogram<u64>,
    pub lately: Histogram<u64>,
}

impl Latencies {
    /// Nothing measured yet. `None` if so many digits cannot be kept.
    pub fn new(precision: i32) -> Option<Latencies> {
        let digits = u8::try_from(precision).ok()?;
        let all = Histogram::new_with_bounds(LATENCY_MIN_US, LATENCY_MAX_US, digits).ok()?;
        Some(Latencies {
            lately: all.clone(),
            all,
        })
    }

    /// Adds a request's.
    pub fn record(&mut self, us: u64) {
        let us = us.min(LATENCY_MAX_US);
        self.all.saturating_record(us);
        self.lately.saturating_record(us);
    }
}

/// A test that is over.
pub struct Outcome<'a> {
    pub title: &'a str,
    pub data_size: usize,
    pub finished: u64,
    pub took_ms: u64,
    pub latencies: Histogram<u64>,
    /// What the server's settings are, if it told them.
    pub server: Option<Settings>,
    /// The same of each master of a cluster.
    pub masters: Option<Vec<Option<Settings>>>,
    /// Characters of the progress line that is still there.
    pub progress_len: usize,
}

/// One line of a distribution.
#[derive(Debug, PartialEq)]
struct Step {
    percentile: f64,
    upto_us: u64,
    count: u64,
}

fn ms(us: f64) -> f64 {
    us / 1000.0
}

impl Outcome<'_> {
    /// Prints it as the options say.
    pub fn print(&self, options: &Options) {
        let h = &self.latencies;
        let per_s = f64::from(self.finished as f32 / (self.took_ms as f32 / 1000.0));
        let at = |quantile: f64| ms(h.value_at_quantile(quantile) as f64);
        let (avg, min, max) = (ms(h.mean()), ms(h.min() as f64), ms(h.max() as f64));
        let (p50, p95, p99) = (at(0.5), at(0.95), at(0.99));
        let title = self.title;
        if options.csv {
            say!(
                "\"{title}\",\"{per_s:.2}\",\"{avg:.3}\",\"{min:.3}\",\"{p50:.3}\",\"{p95:.3}\",\"{p99:.3}\",\"{max:.3}\"\n"
            );
            return;
        }
        say!("{:>1$}\r", " ", self.progress_len);
        if options.quiet {
            say!("{title}: {per_s:.2} requests per second, p50={p50:.3} msec\n");
            return;
        }
        self.print_head(options);
        say!("\nLatency by percentile distribution:\n");
        print_steps(&by_percentile(h), h.len());
        say!("\nCumulative distribution of latencies:\n");
        print_steps(&by_step(h), h.len());
        say!("\nSummary:\n");
        say!("  throughput summary: {per_s:.2} requests per second\n");
        say!("  latency summary (msec):\n");
        say!(
            "    {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
            "avg",
            "min",
            "p50",
            "p95",
            "p99",
            "max"
        );
        say!("    {avg:9.3} {min:9.3} {p50:9.3} {p95:9.3} {p99:9.3} {max:9.3}\n");
    }

    fn print_head(&self, options: &Options) {
        say!("====== {} ======\n", self.title);
        say!(
            "  {} requests completed in {:.2} seconds\n",
            self.finished,
            self.took_ms as f64 / 1000.0
        );
        say!("  {} parallel clients\n", options.clients);
        say!("  {} bytes payload\n", self.data_size);
        say!("  keep alive: {}\n", options.keep_alive);
        if let Some(masters) = &self.masters {
            print_masters(masters);
        }
        if let Some(Settings { save, appendonly }) = &self.server {
            say!("  host configuration \"save\": {save}\n");
            say!("  host configuration \"appendonly\": {appendonly}\n");
        }
        match options.threads {
            0 => say!("  multi-thread: no\n"),
            threads => say!("  multi-thread: yes\n  threads: {threads}\n"),
        }
    }
}

fn print_masters(masters: &[Option<Settings>]) {
    say!("  cluster mode: yes ({} masters)\n", masters.len());
    for (at, settings) in masters.iter().enumerate() {
        if let Some(Settings { save, appendonly }) = settings {
            let save = if save.is_empty() { "NONE" } else { save };
            say!("  node [{at}] configuration:\n    save: {save}\n    appendonly: {appendonly}\n");
        }
    }
}

/// Prints steps, those at which nothing was added left out.
fn print_steps(steps: &[Step], total: u64) {
    let mut before = None;
    for step in steps {
        if before != Some(step.count) || step.count == total {
            say!(
                "{:.3}% <= {:.3} milliseconds (cumulative count {})\n",
                step.percentile,
                ms(step.upto_us as f64),
                step.count
            );
        }
        before = Some(step.count);
    }
}

/// Ever closer to 100%: each step goes half of what is left.
fn by_percentile(h: &Histogram<u64>) -> Vec<Step> {
    let total = h.len();
    let (mut steps, mut count, mut target) = (Vec::new(), 0, 0.0);
    for bucket in h.iter_recorded() {
        count += bucket.count_at_value();
        let upto_us = h.highest_equivalent(bucket.value_iterated_to());
        let reached = 100.0 * count as f64 / total as f64;
        while target <= reached {
            steps.push(Step {
                percentile: target,
                upto_us,
                count,
            });
            if count == total {
                steps.push(Step {
                    percentile: 100.0,
                    upto_us,
                    count,
                });
                return steps;
            }
            let halvings = (100.0f64 / (100.0 - target)).log2().floor() + 1.0;
            target += 100.0 / halvings.exp2();
        }
    }
    steps
}

/// In steps of equal width.
fn by_step(h: &Histogram<u64>) -> Vec<Step> {
    let total = h.len();
    let mut buckets = h.iter_recorded().peekable();
    let (mut steps, mut count, mut width, mut level, mut at_us) = (Vec::new(), 0, 100, 100, 0);
    while count < total || h.lowest_equivalent(level) <= at_us {
        let upto_us = h.highest_equivalent(level);
        while let Some(bucket) = buckets.next_if(|bucket| bucket.value_iterated_to() <= upto_us) {
            count += bucket.count_at_value();
        }
        at_us = h.lowest_equivalent(level);
        steps.push(Step {
            percentile: 100.0 * count as f64 / total as f64,
            upto_us,
            count,
        });
        level += width;
        if upto_us > FINE_STEPS_MAX_US {
            width = 1000;
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_end_at_all_of_it() {
        let mut latencies = Latencies::new(3).unwrap();
        (0..100).for_each(|_| latencies.record(150));
        (0..100).for_each(|_| latencies.record(2500));
        let h = &latencies.all;
        let steps = by_percentile(h);
        let step = |percentile, upto_us, count| Step {
            percentile,
            upto_us,
            count,
        };
        // 150 lies in 144..=151, buckets being 8 wide there.
        assert_eq!(
            steps,
            [
                step(0.0, 151, 100),
                step(50.0, 151, 100),
                step(75.0, 2503, 200),
                step(100.0, 2503, 200),
            ]
        );
        let steps = by_step(h);
        assert_eq!(steps[0], step(0.0, 103, 0));
        assert_eq!(steps[1], step(50.0, 207, 100));
        let last = &steps[steps.len() - 1];
        assert_eq!((last.upto_us, last.count), (3103, 200));
    }
}
