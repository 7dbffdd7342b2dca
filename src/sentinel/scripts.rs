//! The administrator's programs: called when something of weight happens, and when a master has changed.
//!
//! Calls wait in a queue. A few run at a time, each not for ever; who is killed, or asks for it with exit status 1, is called
//! again after a while, which doubles each time.

use std::collections::VecDeque;

use super::addr::Addr;
use super::instance::Id;
use super::state::{Action, Sentinel};
use crate::base::level::Level;

const QUEUE_MAX: usize = 256;
const RUNNING_MAX: usize = 16;
/// How often a call is tried.
const TRIES_MAX: u32 = 10;
/// What a program that can't be started at all is said to have died of.
const NOT_STARTED: i32 = 99;

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub number: u64,
    pub argv: Vec<Vec<u8>>,
    pub running: bool,
    /// Its process, 0 if there is none.
    pub pid: u32,
    pub tries: u32,
    /// When it was started, or before when it is not to be; 0: no matter when.
    pub start_ms: i64,
}

/// All calls, the oldest first.
#[derive(Debug, Default)]
pub struct Scripts {
    pub(super) queue: VecDeque<Job>,
    pub(super) running: usize,
}

impl Sentinel {
    /// The calls that wait or run.
    pub fn jobs(&self) -> impl ExactSizeIterator<Item = &Job> {
        self.scripts.queue.iter()
    }

    /// How many programs run.
    pub fn scripts_running(&self) -> usize {
        self.scripts.running
    }

    /// Calls a program when its turn comes. In a queue that is full, the oldest call that has not begun gives way.
    pub(super) fn schedule_script(&mut self, argv: Vec<Vec<u8>>) {
        let number = self.next_number();
        let queue = &mut self.scripts.queue;
        queue.push_back(Job {
            number,
            argv,
            running: false,
            pid: 0,
            tries: 0,
            start_ms: 0,
        });
        if queue.len() > QUEUE_MAX
            && let Some(at) = queue.iter().position(|job| !job.running)
        {
            queue.remove(at);
        }
    }

    /// Starts those whose turn it is.
    pub(super) fn run_scripts(&mut self) {
        let now_ms = self.now_ms;
        let room = RUNNING_MAX.saturating_sub(self.scripts.running);
        let due = |job: &&mut Job| !job.running && job.start_ms <= now_ms;
        for job in self.scripts.queue.iter_mut().filter(due).take(room) {
            job.running = true;
            job.start_ms = now_ms;
            job.tries += 1;
            self.out.push(Action::Run {
                job: job.number,
                argv: job.argv.clone(),
            });
        }
    }

    /// A program was started, with this process number, or it could not be: then it is tried again at the next tick.
    pub fn script_started(&mut self, number: u64, pid: Option<u32>) {
        let job = self.scripts.queue.iter_mut().find(|j| j.number == number);
        let Some(job) = job.filter(|job| job.running) else {
            return;
        };
        if let Some(pid) = pid {
            job.pid = pid;
            self.scripts.running += 1;
            return self.event_of(Level::Debug, "+script-child", None, pid.to_string());
        }
        job.running = false;
        let path = String::from_utf8_lossy(job.argv.first().map_or(b"", |a| a)).into_owned();
        let text = format!("{path} {NOT_STARTED} 0");
        self.event_of(Level::Warning, "-script-error", None, text);
    }

    /// A program has ended, by itself with this status or by a signal (the other is 0).
    pub fn script_ended(&mut self, now_ms: i64, pid: u32, status: i32, signal: i32) {
        self.now_ms = now_ms;
        let text = format!("{pid} {status} {signal}");
        self.event_of(Level::Debug, "-script-child", None, text);
        let queue = &mut self.scripts.queue;
        let Some(at) = queue.iter().position(|job| job.running && job.pid == pid) else {
            return;
        };
        self.scripts.running = self.scripts.running.saturating_sub(1);
        let job = &mut queue[at];
        if (signal != 0 || status == 1) && job.tries < TRIES_MAX {
            job.running = false;
            job.pid = 0;
            let doubled = 1_i64 << (job.tries.saturating_sub(1)).min(TRIES_MAX);
            let delay = self.periods.script_retry_delay.saturating_mul(doubled);
            job.start_ms = now_ms.saturating_add(delay);
            return;
        }
        let path = String::from_utf8_lossy(job.argv.first().map_or(b"", |a| a)).into_owned();
        queue.remove(at);
        if signal != 0 || status != 0 {
            let text = format!("{path} {signal} {status}");
            self.event_of(Level::Warning, "-script-error", None, text);
        }
    }

    /// Ends those that have run for too long; that they have ended is heard like of any other.
    pub(super) fn kill_slow_scripts(&mut self) {
        let (now_ms, longest_ms) = (self.now_ms, self.periods.script_max_runtime);
        let slow = |job: &&Job| job.running && job.pid != 0 && now_ms - job.start_ms > longest_ms;
        let slow: Vec<(Vec<u8>, u32)> = (self.scripts.queue.iter().filter(slow))
            .map(|job| (job.argv.first().cloned().unwrap_or_default(), job.pid))
            .collect();
        for (path, pid) in slow {
            let text = format!("{} {pid}", String::from_utf8_lossy(&path));
            self.event_of(Level::Warning, "-script-timeout", None, text);
            self.out.push(Action::Kill(pid));
        }
    }

    /// Tells the clients' administrator that a master moved: `<master> <role> start <from> <port> <to> <port>`.
    pub(super) fn call_reconfig_script(&mut self, master: Id, role: &str, from: &Addr, to: &Addr) {
        let Some(instance) = self.get(master) else {
            return;
        };
        let Some(path) = instance.watched.client_reconfig_script.clone() else {
            return;
        };
        let words = [
            instance.name.clone(),
            role.to_string(),
            "start".to_string(),
            self.announced(from).to_string(),
            from.port.to_string(),
            self.announced(to).to_string(),
            to.port.to_string(),
        ];
        let mut argv = vec![path];
        argv.extend(words.into_iter().map(String::into_bytes));
        self.schedule_script(argv);
    }
}
