//! What happened, line by line, and one number for all of it: the same seed gives the same number.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Once;

/// So many lines are kept for the report of a failure.
const KEPT: usize = 250;

thread_local! {
    /// What the servers of the world on this thread have logged since it was last looked at.
    static LOGGED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Takes the log lines of all servers on a thread that wants them.
struct Ear;

impl log::Log for Ear {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        LOGGED.with_borrow_mut(|logged| {
            if let Some(lines) = logged
                && self.enabled(record.metadata())
            {
                lines.push(record.args().to_string());
            }
        });
    }

    fn flush(&self) {}
}

/// See the head of the file.
pub struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    /// Lines are printed as they come.
    aloud: bool,
}

impl Trace {
    /// An empty one, which from now on hears the servers on this thread.
    pub fn new(aloud: bool) -> Trace {
        static LISTEN: Once = Once::new();
        LISTEN.call_once(|| {
            // If another test listens already, the trace lacks the servers' lines, and nothing else.
            if log::set_logger(&Ear).is_ok() {
                log::set_max_level(log::LevelFilter::Info);
            }
        });
        LOGGED.set(Some(Vec::new()));
        Trace {
            hash: 0,
            lines: VecDeque::new(),
            aloud,
        }
    }

    /// Notes a line.
    pub fn note(&mut self, now_ns: u64, line: &str) {
        let line = format!("{:>10.6} {line}", now_ns as f64 / 1e9);
        for byte in line.bytes() {
            // FNV-1a
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.aloud {
            println!("{line}");
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Notes what a server has logged.
    pub fn take_log(&mut self, now_ns: u64, who: &str) {
        for line in LOGGED
            .with_borrow_mut(|logged| logged.replace(Vec::new()))
            .unwrap_or_default()
        {
            self.note(now_ns, &format!("{who} # {line}"));
        }
    }

    /// Forgets what was logged meanwhile by a server that is none of the world's.
    pub fn drop_log(&mut self) {
        LOGGED.set(Some(Vec::new()));
    }

    /// The number that stands for all lines.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub fn last(&self) -> String {
        self.lines.iter().map(|line| line.clone() + "\n").collect()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        LOGGED.set(None);
    }
}
