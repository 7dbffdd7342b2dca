//! Background jobs: what has no state to share and would hold up the loop is done on other threads.
//!
//! A job is a value: a closure that owns all it needs and gives back a result. It is put on a *lane*, a
//! thread that does its jobs one after another; Redis's lanes keep their names, which `top -H` shows.
//! A result comes back as a value too ([`Finished`]), after the loop was woken. A panic in a job
//! fails that job and nothing else.
//!
//! Lanes are threads of lower priority where nobody waits for them, and start with their first job: an
//! idle server has none. In tests [`InlineJobs`] stands in for them, where whoever drives the test says
//! which lane goes on next, so that a run can be repeated.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use super::{crash, process, watchdog};
use crate::ae::Waker;
use crate::base::{alloc, errno};
use crate::exec::persistence::Errand;
use crate::exec::server::Untold;

/// What a lane does, and so what may wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Closing and unlinking files, which may free gigabytes on disk.
    CloseFile,
    /// fsync of the append only file.
    Aof,
    /// Freeing what was deleted.
    LazyFree,
    /// Encoding and writing a snapshot.
    Save,
    /// Writing a new base of the append only file.
    Rewrite,
    /// Decoding a file into a keyspace.
    Load,
    /// Taking in what a master sends.
    Receive,
    /// Reading a file for a replica, a piece at a time.
    ReadFile,
    /// Packing keys for another server.
    Pack,
    /// Looking up names for a Sentinel.
    LookUp,
}

/// All lanes, in the order of their numbers.
pub const LANES: [Lane; 10] = [
    Lane::CloseFile,
    Lane::Aof,
    Lane::LazyFree,
    Lane::Save,
    Lane::Rewrite,
    Lane::Load,
    Lane::Receive,
    Lane::ReadFile,
    Lane::Pack,
    Lane::LookUp,
];

impl Lane {
    /// Where a job of this kind is done.
    pub fn of(errand: Errand) -> Lane {
        match errand {
            Errand::Save => Lane::Save,
            Errand::Load => Lane::Load,
            Errand::Receive => Lane::Receive,
            Errand::Bulk => Lane::ReadFile,
            Errand::Pack => Lane::Pack,
            Errand::Log => Lane::Aof,
            Errand::Rewrite => Lane::Rewrite,
            Errand::Unlink => Lane::CloseFile,
            Errand::LookUp => Lane::LookUp,
        }
    }

    /// What kind of job is done there, if the server started it.
    pub fn errand(self) -> Option<Errand> {
        match self {
            Lane::Save => Some(Errand::Save),
            Lane::Load => Some(Errand::Load),
            Lane::Receive => Some(Errand::Receive),
            Lane::ReadFile => Some(Errand::Bulk),
            Lane::Pack => Some(Errand::Pack),
            Lane::Aof => Some(Errand::Log),
            Lane::Rewrite => Some(Errand::Rewrite),
            Lane::CloseFile => Some(Errand::Unlink),
            Lane::LookUp => Some(Errand::LookUp),
            Lane::LazyFree => None,
        }
    }

    fn thread_name(self) -> &'static str {
        match self {
            Lane::CloseFile => "bio_close_file",
            Lane::Aof => "bio_aof",
            Lane::LazyFree => "bio_lazy_free",
            Lane::Save => "bio_save",
            Lane::Rewrite => "bio_rewrite",
            Lane::Load => "bio_load",
            Lane::Receive => "bio_receive",
            Lane::ReadFile => "bio_read_file",
            Lane::Pack => "bio_pack",
            Lane::LookUp => "bio_look_up",
        }
    }

    /// How nice its thread is to the loop's: 0 where the loop or its clients wait for the result. At 5
    /// it still gets a quarter of a core that the loop keeps busy.
    fn niceness(self) -> i32 {
        match self {
            Lane::Aof | Lane::Load | Lane::Receive | Lane::Pack | Lane::LookUp => 0,
            Lane::CloseFile | Lane::LazyFree | Lane::Save | Lane::Rewrite | Lane::ReadFile => 5,
        }
    }
}

/// What a job gives back; whoever started it knows the type.
pub type JobResult = Box<dyn Any + Send>;

/// A job: it owns all it needs.
pub type Job = Box<dyn FnOnce() -> JobResult + Send>;

/// Names a job of one executor; never reused there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(u64);

/// A job that is over.
pub struct Finished {
    /// Which one.
    pub id: JobId,
    /// Where it ran.
    pub lane: Lane,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a job.
pub enum Outcome {
    /// It ran to its end.
    Done(JobResult),
    /// It panicked, with this message; the log has it already.
    Panicked(String),
}

impl Outcome {
    /// What the job gave, or the message of its panic.
    pub fn into_result(self) -> Result<JobResult, String> {
        match self {
            Outcome::Done(result) => Ok(result),
            Outcome::Panicked(message) => Err(message),
        }
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Outcome::Done(_) => f.write_str("Done(..)"),
            Outcome::Panicked(message) => write!(f, "Panicked({message:?})"),
        }
    }
}

/// Who does the jobs.
pub trait Jobs {
    /// Puts a job on a lane, behind those that are there.
    fn start(&mut self, lane: Lane, job: Job) -> JobId;

    /// Drops a value on the freeing lane. `items` is what INFO counts for it: 1 for a value, the number of
    /// keys for a database. An [`Untold`] one does not count among those that were freed.
    fn free(&mut self, what: Box<dyn Any + Send>, items: usize);

    /// A job that is over, the earliest first.
    fn next_finished(&mut self) -> Option<Finished>;

    /// Jobs of the lane that are not over (freeing included).
    fn pending(&self, lane: Lane) -> usize;

    /// Items whose freeing was asked for and is not done (`lazyfree_pending_objects`).
    fn unfreed_items(&self) -> usize;

    /// Items that were freed since the last call (they add up to `lazyfreed_objects`).
    fn take_freed_items(&mut self) -> usize;
}

/// What goes to a lane.
enum Message {
    Run(JobId, Job),
    Free(Box<dyn Any + Send>, usize),
    /// Everything before it is done.
    Reached(Sender<()>),
}

/// The CPUs that the lanes are bound to (`bio_cpulist`, `bgsave_cpulist`, `aof_rewrite_cpulist`); empty:
/// not bound.
#[derive(Debug, Clone, Default)]
pub struct CpuLists {
    /// All lanes but the two below.
    pub bio: String,
    /// [`Lane::Save`].
    pub bgsave: String,
    /// [`Lane::Rewrite`].
    pub aof_rewrite: String,
}

impl CpuLists {
    fn of(&self, lane: Lane) -> &str {
        match lane {
            Lane::Save => &self.bgsave,
            Lane::Rewrite => &self.aof_rewrite,
            _ => &self.bio,
        }
    }
}

/// The threads.
pub struct Bio {
    cpus: CpuLists,
    lanes: [Option<Sender<Message>>; LANES.len()],
    results: Receiver<Finished>,
    worker: Worker,
    next_id: u64,
    freed_told: usize,
}

/// What every lane's thread has.
#[derive(Clone)]
struct Worker {
    waker: Waker,
    results: Sender<Finished>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    pending: [AtomicUsize; LANES.len()],
    unfreed: AtomicUsize,
    /// All that was ever freed; wraps.
    freed: AtomicUsize,
}

impl Bio {
    /// No thread yet. `waker` is called when a result is there, and when the freeing lane has nothing
    /// more to do.
    pub fn new(waker: Waker, cpus: CpuLists) -> Bio {
        let (results_in, results) = mpsc::channel();
        let counts = Arc::default();
        let worker = Worker {
            waker,
            results: results_in,
            counts,
        };
        Bio {
            cpus,
            lanes: Default::default(),
            results,
            worker,
            next_id: 0,
            freed_told: 0,
        }
    }

    /// Waits until the lane has done all that was put on it (at a shutdown).
    pub fn drain(&mut self, lane: Lane) {
        let (reached_in, reached) = mpsc::channel();
        if self.lanes[lane as usize].is_some() {
            self.send(lane, Message::Reached(reached_in));
            // An error would mean that the lane's thread is gone, and its jobs with it.
            let _ = reached.recv();
        }
    }

    fn send(&mut self, lane: Lane, message: Message) {
        self.worker.counts.pending[lane as usize].fetch_add(1, Ordering::Relaxed);
        let mut message = Some(message);
        if let Some(sender) = self.sender(lane) {
            // The thread ends only after the sender does, so this never fails.
            message = message.and_then(|m| sender.send(m).err()).map(|e| e.0);
        }
        if let Some(message) = message {
            // No thread: the loop does it itself, slowly but surely.
            self.worker.handle(lane, message);
        }
    }

    /// The lane's thread, started if need be; `None` if the system refuses one.
    fn sender(&mut self, lane: Lane) -> Option<&Sender<Message>> {
        let slot = &mut self.lanes[lane as usize];
        if slot.is_none() {
            let (sender, messages) = mpsc::channel();
            let (worker, cpus) = (self.worker.clone(), self.cpus.of(lane).to_string());
            let started = spawn(lane.thread_name(), lane.niceness(), cpus, move || {
                // Ends when the executor is dropped.
                for message in messages {
                    worker.handle(lane, message);
                }
            });
            match started {
                Ok(()) => *slot = Some(sender),
                Err(e) => log::warn!(
                    "Can't start the thread {}: {}",
                    lane.thread_name(),
                    errno::text(&e)
                ),
            }
        }
        slot.as_ref()
    }
}

impl Jobs for Bio {
    fn start(&mut self, lane: Lane, job: Job) -> JobId {
        let id = JobId(self.next_id);
        self.next_id += 1;
        self.send(lane, Message::Run(id, job));
        id
    }

    fn free(&mut self, what: Box<dyn Any + Send>, items: usize) {
        self.worker
            .counts
            .unfreed
            .fetch_add(items, Ordering::Relaxed);
        self.send(Lane::LazyFree, Message::Free(what, items));
    }

    fn next_finished(&mut self) -> Option<Finished> {
        self.results.try_recv().ok()
    }

    fn pending(&self, lane: Lane) -> usize {
        self.worker.counts.pending[lane as usize].load(Ordering::Relaxed)
    }

    fn unfreed_items(&self) -> usize {
        self.worker.counts.unfreed.load(Ordering::Relaxed)
    }

    fn take_freed_items(&mut self) -> usize {
        let freed = self.worker.counts.freed.load(Ordering::Relaxed);
        let new = freed.wrapping_sub(self.freed_told);
        self.freed_told = freed;
        new
    }
}

/// Starts a thread beside the loop's: so nice to it, bound to these CPUs (empty: not bound).
pub fn spawn(
    name: &str,
    niceness: i32,
    cpus: String,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let builder = std::thread::Builder::new().name(name.into());
    builder.spawn(move || {
        watchdog::ignore_on_this_thread();
        crash::protect_thread();
        process::set_cpu_affinity(&cpus);
        be_nice(niceness);
        work();
        alloc::flush_thread();
    })?;
    Ok(())
}

impl Worker {
    fn handle(&self, lane: Lane, message: Message) {
        let counts = &self.counts;
        match message {
            Message::Run(id, job) => {
                let outcome = run(job);
                // What the job allocated and freed is to be seen together with its result.
                alloc::flush_thread();
                // Nobody is there to take it when the executor is gone: then it is dropped.
                let _ = self.results.send(Finished { id, lane, outcome });
                counts.pending[lane as usize].fetch_sub(1, Ordering::Relaxed);
                self.waker.wake();
            }
            Message::Free(what, items) => {
                // A destructor that panics has logged it; what it left is lost.
                let told = told_items(&*what, items);
                let _ = catch_unwind(AssertUnwindSafe(|| drop(what)));
                alloc::flush_thread();
                counts.unfreed.fetch_sub(items, Ordering::Relaxed);
                counts.freed.fetch_add(told, Ordering::Relaxed);
                if counts.pending[lane as usize].fetch_sub(1, Ordering::Relaxed) == 1 {
                    self.waker.wake();
                }
            }
            Message::Reached(reached) => {
                counts.pending[lane as usize].fetch_sub(1, Ordering::Relaxed);
                let _ = reached.send(());
            }
        }
    }
}

/// How many of the items INFO tells of once they are freed.
fn told_items(what: &(dyn Any + Send), items: usize) -> usize {
    if what.is::<Untold>() { 0 } else { items }
}

/// Runs a job; its panic is its outcome.
fn run(job: Job) -> Outcome {
    match catch_unwind(AssertUnwindSafe(job)) {
        Ok(result) => Outcome::Done(result),
        Err(payload) => Outcome::Panicked(match payload.downcast::<String>() {
            Ok(message) => *message,
            Err(payload) => payload
                .downcast_ref::<&str>()
                .map_or(String::new(), ToString::to_string),
        }),
    }
}

/// Lowers the calling thread's priority for the processor, and for the disk with it.
fn be_nice(niceness: i32) {
    if niceness == 0 {
        return;
    }
    #[cfg(target_os = "linux")]
    // SAFETY: system calls that take numbers; to Linux a thread is a process with its own priority.
    // ioprio_set(IOPRIO_WHO_PROCESS, this thread, best effort class (2), lowest level (7)).
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, libc::gettid() as libc::id_t, niceness);
        libc::syscall(libc::SYS_ioprio_set, 1, 0, 2 << 13 | 7);
    }
}

/// The lanes without threads, for tests: jobs wait until they are told to run.
#[derive(Default)]
pub struct InlineJobs {
    lanes: [VecDeque<Message>; LANES.len()],
    results: VecDeque<Finished>,
    next_id: u64,
    unfreed: usize,
    freed: usize,
}

impl InlineJobs {
    /// No job yet.
    pub fn new() -> InlineJobs {
        InlineJobs::default()
    }

    /// Does one job: of the lanes that have one, `pick` gets the number and says which. False if there
    /// is none.
    pub fn run_one(&mut self, pick: impl FnOnce(usize) -> usize) -> bool {
        self.run_one_but(None, pick)
    }

    fn run_one_but(&mut self, waits: Option<Lane>, pick: impl FnOnce(usize) -> usize) -> bool {
        let waits = waits.map(|lane| lane as usize);
        let busy: Vec<usize> = (0..LANES.len())
            .filter(|&l| !self.lanes[l].is_empty() && Some(l) != waits)
            .collect();
        if busy.is_empty() {
            return false;
        }
        self.run_lane(LANES[busy[pick(busy.len())]]);
        true
    }

    /// Does the next job of a lane, if there is one.
    pub fn run_lane(&mut self, lane: Lane) {
        match self.lanes[lane as usize].pop_front() {
            Some(Message::Run(id, job)) => {
                let outcome = run(job);
                self.results.push_back(Finished { id, lane, outcome });
            }
            Some(Message::Free(what, items)) => {
                self.unfreed -= items;
                self.freed += told_items(&*what, items);
                drop(what);
            }
            Some(Message::Reached(_)) | None => {}
        }
    }

    /// Does all jobs, lane by lane.
    pub fn run_all(&mut self) {
        self.run_all_but(None);
    }

    /// The same, but for those of a lane whose jobs would wait for what nobody gives them meanwhile.
    pub fn run_all_but(&mut self, waits: Option<Lane>) {
        while self.run_one_but(waits, |_| 0) {}
    }
}

impl Jobs for InlineJobs {
    fn start(&mut self, lane: Lane, job: Job) -> JobId {
        let id = JobId(self.next_id);
        self.next_id += 1;
        self.lanes[lane as usize].push_back(Message::Run(id, job));
        id
    }

    fn free(&mut self, what: Box<dyn Any + Send>, items: usize) {
        self.unfreed += items;
        self.lanes[Lane::LazyFree as usize].push_back(Message::Free(what, items));
    }

    fn next_finished(&mut self) -> Option<Finished> {
        self.results.pop_front()
    }

    fn pending(&self, lane: Lane) -> usize {
        self.lanes[lane as usize].len()
    }

    fn unfreed_items(&self) -> usize {
        self.unfreed
    }

    fn take_freed_items(&mut self) -> usize {
        std::mem::take(&mut self.freed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ae::Reactor;

    fn number(finished: Finished) -> u32 {
        match finished.outcome {
            Outcome::Done(result) => *result.downcast().unwrap(),
            Outcome::Panicked(message) => panic!("{message}"),
        }
    }

    /// The next result, waiting as the loop does.
    fn wait(bio: &mut Bio, reactor: &mut Reactor) -> Finished {
        loop {
            if let Some(finished) = bio.next_finished() {
                return finished;
            }
            reactor.wait(None).unwrap();
        }
    }

    #[test]
    fn results_come_back_in_a_lanes_order_and_wake_the_loop() {
        let mut reactor = Reactor::new().unwrap();
        let mut bio = Bio::new(reactor.waker(), CpuLists::default());
        let ids: Vec<_> = (0..100u32)
            .map(|n| bio.start(Lane::Save, Box::new(move || Box::new(n))))
            .collect();
        for (n, id) in ids.into_iter().enumerate() {
            let finished = wait(&mut bio, &mut reactor);
            assert_eq!((finished.id, finished.lane), (id, Lane::Save));
            assert_eq!(number(finished), n as u32);
        }
        bio.drain(Lane::Save);
        assert_eq!(bio.pending(Lane::Save), 0);
        assert!(bio.next_finished().is_none());
    }

    #[test]
    fn a_panic_fails_its_job_and_the_lane_goes_on() {
        let mut reactor = Reactor::new().unwrap();
        let mut bio = Bio::new(reactor.waker(), CpuLists::default());
        bio.start(Lane::Load, Box::new(|| panic!("bad file at {}", 7)));
        bio.start(Lane::Load, Box::new(|| panic!("plain")));
        bio.start(Lane::Load, Box::new(|| Box::new(5u32)));
        for expected in ["bad file at 7", "plain"] {
            match wait(&mut bio, &mut reactor).outcome {
                Outcome::Panicked(message) => assert_eq!(message, expected),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(number(wait(&mut bio, &mut reactor)), 5);
    }

    /// Says when and where it is dropped.
    struct Told(Sender<Option<String>>);

    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(std::thread::current().name().map(String::from));
        }
    }

    #[test]
    fn values_are_freed_on_their_own_thread_and_counted() {
        let reactor = Reactor::new().unwrap();
        let mut bio = Bio::new(reactor.waker(), CpuLists::default());
        let (tell, told) = mpsc::channel();
        bio.free(Box::new(Told(tell.clone())), 3);
        bio.free(Box::new(vec![Told(tell.clone()), Told(tell.clone())]), 2);
        bio.free(Box::new(Untold(Box::new(Told(tell)))), 1);
        bio.drain(Lane::LazyFree);
        assert_eq!((bio.unfreed_items(), bio.pending(Lane::LazyFree)), (0, 0));
        assert_eq!((bio.take_freed_items(), bio.take_freed_items()), (5, 0));
        let threads: Vec<_> = told.iter().collect();
        assert_eq!(threads, vec![Some("bio_lazy_free".to_string()); 4]);
    }

    #[test]
    fn without_threads_the_driver_says_who_is_next() {
        let mut jobs = InlineJobs::new();
        let a = jobs.start(Lane::Save, Box::new(|| Box::new(1u32)));
        let b = jobs.start(Lane::Save, Box::new(|| panic!("no")));
        let c = jobs.start(Lane::Load, Box::new(|| Box::new(2u32)));
        jobs.free(Box::new(vec![0u8; 10]), 4);
        assert!(jobs.next_finished().is_none(), "nothing runs by itself");
        assert_eq!((jobs.pending(Lane::Save), jobs.unfreed_items()), (2, 4));
        // Busy are the freeing lane, the saving and the loading one.
        assert!(jobs.run_one(|n| n - 1));
        assert_eq!(jobs.next_finished().unwrap().id, c);
        jobs.run_all();
        assert_eq!(
            jobs.next_finished().map(|f| (f.id, number(f))),
            Some((a, 1))
        );
        let last = jobs.next_finished().unwrap();
        assert!(last.id == b && matches!(last.outcome, Outcome::Panicked(m) if m == "no"));
        assert_eq!((jobs.unfreed_items(), jobs.take_freed_items()), (0, 4));
        assert!(!jobs.run_one(|_| 0));
    }
}
