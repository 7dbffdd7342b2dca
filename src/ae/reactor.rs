//! The reactor: one epoll (or kqueue) instance, edge-triggered, and the ready queue beside it.
//!
//! An edge tells once that bytes arrived. Whoever stops reading before the socket is empty, because
//! the connection used up its share of this turn, must be told again, and the kernel will not do it.
//! So the reactor keeps the *ready queue*: [`Reactor::again`] puts a token at its back, and while it
//! holds anything the next [`Reactor::wait`] does not block. Each turn first lists what the kernel
//! reported and then, at the back, the queued tokens; a token that is both comes once, at the back,
//! with both reports merged. A connection with a 100 MB pipeline therefore gets one share a turn,
//! after everyone else had theirs.
//!
//! [`Reactor::next`] hands the reports out one by one, and a turn may end before the last: thousands of
//! connections can be ready at once, and a turn is to be short. Who was not reached keeps the place and
//! comes first in the next turn, before anybody who is reported then, so that nobody is passed over.
//!
//! Tokens are small integers (the index of a connection in the server's slab): the reactor keeps one
//! byte for each. A connection is registered once, for reading and writing; with edges there is
//! nothing to switch on and off later, and a request costs no system call besides its read and write.
//!
//! A token may be given to a new source as soon as the old one is deregistered; within the same turn
//! the new source may then see a report meant for the old one. Reports are hints, the read or write
//! itself tells the truth, so that this costs at most one `WouldBlock`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::event::Source;
use mio::{Events, Interest, Poll, Token};

/// How many reports one wait takes from the kernel; what is left over comes with the next turn.
const EVENTS_PER_WAIT: usize = 1024;

/// The token of the [`Waker`], reserved.
const WAKER: Token = Token(usize::MAX);

const QUEUED: u8 = 1;
const READABLE: u8 = 2;
const WRITABLE: u8 = 4;
const READ_CLOSED: u8 = 8;
const ERROR: u8 = 16;
/// What it sent was read, but did not run.
const KEPT: u8 = 64;
/// The peer was reported to have closed its half: said with every later report, since no edge repeats it.
const ENDED: u8 = 32;

/// What a source is ready for, as far as is known: a hint, never a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyEvent {
    /// The token the source was registered under.
    pub token: Token,
    /// There may be input (or, for a listener, a connection to accept).
    pub readable: bool,
    /// There may be room for output.
    pub writable: bool,
    /// The peer closed its sending half: read to the end, a short read proves nothing.
    pub read_closed: bool,
    /// The socket is in error: read or write to learn which.
    pub error: bool,
    /// Put back with [`Reactor::put_back`]: there is input that was read already.
    pub kept: bool,
}

impl ReadyEvent {
    fn new(token: Token, flags: u8) -> ReadyEvent {
        ReadyEvent {
            token,
            readable: flags & READABLE != 0,
            writable: flags & WRITABLE != 0,
            read_closed: flags & (READ_CLOSED | ENDED) != 0,
            error: flags & ERROR != 0,
            kept: flags & KEPT != 0,
        }
    }
}

/// Wakes the loop from another thread or from a signal handler. Wakes that come before the loop
/// looked are one wake: only the first costs a system call.
#[derive(Debug, Clone)]
pub struct Waker(Arc<WakerState>);

#[derive(Debug)]
struct WakerState {
    waker: mio::Waker,
    pending: AtomicBool,
}

impl Waker {
    /// Makes the current or the next [`Reactor::wait`] return. What the caller stored before is seen
    /// by the loop after it. Async-signal-safe: an atomic swap and a write to an eventfd.
    pub fn wake(&self) {
        if !self.0.pending.swap(true, Ordering::AcqRel) {
            // It cannot fail but for a full counter, and then the loop is awake already.
            let _ = self.0.waker.wake();
        }
    }
}

/// The kernel's queue of readiness and ours. See the head of the file.
#[derive(Debug)]
pub struct Reactor {
    poll: Poll,
    events: Events,
    waker: Waker,
    /// Tokens that are to be reported now, oldest first.
    ready: VecDeque<Token>,
    /// Tokens that are to be reported next turn without the kernel's word, oldest first.
    queue: Vec<Token>,
    /// A byte per token: whether it is in one of the two and what is to be reported with it. An entry
    /// whose byte says otherwise is left over from a source that is gone.
    state: Vec<u8>,
}

impl Reactor {
    /// Opens the kernel's queue.
    pub fn new() -> io::Result<Reactor> {
        let poll = Poll::new()?;
        let waker = Waker(Arc::new(WakerState {
            waker: mio::Waker::new(poll.registry(), WAKER)?,
            pending: AtomicBool::new(false),
        }));
        Ok(Reactor {
            poll,
            events: Events::with_capacity(EVENTS_PER_WAIT),
            waker,
            ready: VecDeque::new(),
            queue: Vec::new(),
            state: Vec::new(),
        })
    }

    /// A handle for other threads.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Starts reporting on `source` under `token`. A connection asks for `READABLE | WRITABLE` once and
    /// keeps it: output that did not fit is followed by an edge when there is room.
    pub fn register<S: Source + ?Sized>(
        &mut self,
        source: &mut S,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        debug_assert!(token != WAKER);
        self.clear(token);
        self.poll.registry().register(source, token, interest)
    }

    /// Stops reporting on `source` and takes `token` off the ready queue.
    pub fn deregister<S: Source + ?Sized>(
        &mut self,
        source: &mut S,
        token: Token,
    ) -> io::Result<()> {
        self.clear(token);
        self.poll.registry().deregister(source)
    }

    /// Takes `token` off the ready queue (its source stops reading for now: paused, blocked).
    pub fn forget(&mut self, token: Token) {
        if let Some(state) = self.state.get_mut(token.0) {
            *state &= ENDED;
        }
    }

    fn clear(&mut self, token: Token) {
        if let Some(state) = self.state.get_mut(token.0) {
            *state = 0;
        }
    }

    /// `token` was left with input unread: report it readable next turn, at the back.
    pub fn again(&mut self, token: Token) {
        self.enqueue(token, READABLE);
    }

    /// `token` was left with output that the socket may still take: report it writable next turn.
    pub fn again_write(&mut self, token: Token) {
        self.enqueue(token, WRITABLE);
    }

    fn enqueue(&mut self, token: Token, flags: u8) {
        let state = slot(&mut self.state, token);
        let queued = *state & QUEUED != 0;
        *state |= QUEUED | flags;
        if !queued {
            self.queue.push(token);
        }
    }

    /// `token` was handed out and read, but the turn ended before what it sent could run: it comes first in
    /// the next. `readable`: there may be more to read.
    pub fn put_back(&mut self, token: Token, readable: bool) {
        let state = slot(&mut self.state, token);
        let queued = *state & QUEUED != 0;
        *state |= QUEUED | KEPT | if readable { READABLE } else { 0 };
        if !queued {
            self.ready.push_front(token);
        }
    }

    /// True when the next wait will not block.
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty() || !self.ready.is_empty()
    }

    /// True when [`Reactor::next`] has a report to hand out.
    pub fn has_reports(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The oldest report that was not handed out yet.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<ReadyEvent> {
        loop {
            let token = self.ready.pop_front()?;
            let state = slot(&mut self.state, token);
            let flags = *state;
            *state &= ENDED;
            if flags & QUEUED != 0 {
                return Some(ReadyEvent::new(token, flags));
            }
        }
    }

    /// Waits until a source is ready, the waker is called, or `timeout` is over (`None`: for ever; it is
    /// rounded up to a millisecond). What is ready is then handed out by [`Reactor::next`], after what
    /// was left of earlier turns. A signal ends the wait early, which is no error.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = if self.has_queued() {
            Some(Duration::ZERO)
        } else {
            timeout
        };
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            // The kernel filled nothing in; mio has cleared the list.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        for event in &self.events {
            let token = event.token();
            if token == WAKER {
                // Cleared before the caller looks at its queues: what is stored later wakes again.
                self.waker.0.pending.swap(false, Ordering::AcqRel);
                continue;
            }
            let mut flags = 0;
            flags |= if event.is_readable() { READABLE } else { 0 };
            flags |= if event.is_writable() { WRITABLE } else { 0 };
            flags |= if event.is_read_closed() {
                READ_CLOSED
            } else {
                0
            };
            flags |= if event.is_error() { ERROR } else { 0 };
            let state = slot(&mut self.state, token);
            if flags & (READ_CLOSED | ERROR) != 0 {
                *state |= ENDED;
            }
            if *state & QUEUED == 0 {
                self.ready.push_back(token);
            }
            *state |= QUEUED | flags;
        }
        self.ready.extend(self.queue.drain(..));
        Ok(())
    }
}

/// The byte of `token`; made if it is the first time that it is heard of.
fn slot(state: &mut Vec<u8>, token: Token) -> &mut u8 {
    if state.len() <= token.0 {
        state.resize(token.0 + 1, 0);
    }
    &mut state[token.0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::net::UnixStream;
    use std::io::{Read, Write};

    const A: Token = Token(0);
    const B: Token = Token(7);

    fn now(reactor: &mut Reactor) -> Vec<ReadyEvent> {
        reactor.wait(Some(Duration::ZERO)).unwrap();
        all(reactor)
    }

    fn all(reactor: &mut Reactor) -> Vec<ReadyEvent> {
        std::iter::from_fn(|| reactor.next()).collect()
    }

    fn tokens(ready: &[ReadyEvent]) -> Vec<Token> {
        ready.iter().map(|e| e.token).collect()
    }

    fn pair(reactor: &mut Reactor, token: Token) -> (UnixStream, UnixStream) {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        reactor
            .register(&mut ours, token, Interest::READABLE | Interest::WRITABLE)
            .unwrap();
        (ours, theirs)
    }

    #[test]
    fn an_edge_comes_once_and_again_repeats_it_at_the_back() {
        let mut r = Reactor::new().unwrap();
        let (mut a, mut a_peer) = pair(&mut r, A);
        let (_b, mut b_peer) = pair(&mut r, B);
        assert!(now(&mut r).iter().all(|e| e.writable && !e.readable));
        a_peer.write_all(b"xy").unwrap();
        let ready = now(&mut r);
        assert_eq!(ready.len(), 1);
        assert!(ready[0].token == A && ready[0].readable);
        assert!(now(&mut r).is_empty(), "edges do not repeat");

        let mut one = [0];
        a.read_exact(&mut one).unwrap();
        r.again(A);
        r.again(A);
        assert!(r.has_queued());
        b_peer.write_all(b"z").unwrap();
        // `None` would block for ever if the queue were not looked at.
        r.wait(None).unwrap();
        let ready = all(&mut r);
        assert_eq!(
            tokens(&ready),
            [B, A],
            "the queued one comes last, and once"
        );
        assert!(ready[1].readable && !ready[1].writable);
        assert!(!r.has_queued());
    }

    #[test]
    fn who_was_not_reached_comes_first_in_the_next_turn() {
        let mut r = Reactor::new().unwrap();
        const C: Token = Token(2);
        let (mut a, mut a_peer) = pair(&mut r, A);
        let (_b, mut b_peer) = pair(&mut r, B);
        let (_c, mut c_peer) = pair(&mut r, C);
        now(&mut r);
        for peer in [&mut a_peer, &mut b_peer] {
            peer.write_all(b"xy").unwrap();
        }
        r.wait(None).unwrap();
        assert_eq!(r.next().map(|e| e.token), Some(A));
        // A had its share and wants more, B was not reached; a report of C comes in between.
        r.again(A);
        c_peer.write_all(b"z").unwrap();
        b_peer.write_all(b"z").unwrap();
        r.wait(None).unwrap();
        let first = r.next().unwrap();
        assert!(first.token == B && first.readable && !first.kept);
        r.put_back(B, false);
        a_peer.write_all(b"z").unwrap();
        let ready = now(&mut r);
        assert_eq!(tokens(&ready), [B, C, A], "each once");
        assert!(ready[0].kept && !ready[0].readable, "it was read");
        // What is gone is not reported, though it had its place.
        a_peer.write_all(b"z").unwrap();
        r.wait(None).unwrap();
        r.deregister(&mut a, A).unwrap();
        assert!(all(&mut r).is_empty() && !r.has_queued());
    }

    #[test]
    fn a_report_for_a_queued_token_is_merged() {
        let mut r = Reactor::new().unwrap();
        let (_a, a_peer) = pair(&mut r, A);
        now(&mut r);
        r.again(A);
        drop(a_peer);
        let ready = now(&mut r);
        assert_eq!(ready.len(), 1);
        assert!(ready[0].readable && ready[0].read_closed);
    }

    #[test]
    fn the_end_is_told_again_with_what_is_left_to_read() {
        let mut r = Reactor::new().unwrap();
        let (_a, mut a_peer) = pair(&mut r, A);
        now(&mut r);
        a_peer.write_all(b"xy").unwrap();
        drop(a_peer);
        assert!(now(&mut r)[0].read_closed);
        // Whoever read a share of it and comes back must still know to read to the end.
        for _ in 0..2 {
            r.again(A);
            assert!(now(&mut r)[0].read_closed);
        }
        r.forget(A);
        r.again(A);
        assert!(now(&mut r)[0].read_closed);
    }

    #[test]
    fn a_source_that_is_gone_leaves_the_queue() {
        let mut r = Reactor::new().unwrap();
        let (mut a, _a_peer) = pair(&mut r, A);
        now(&mut r);
        r.again(A);
        r.deregister(&mut a, A).unwrap();
        assert!(now(&mut r).is_empty());
        // The same token, taken by another source and queued again, is reported once.
        let (mut a, _a_peer) = pair(&mut r, A);
        now(&mut r);
        r.again(A);
        r.forget(A);
        r.again_write(A);
        let ready = now(&mut r);
        assert_eq!(ready.len(), 1);
        assert!(ready[0].writable && !ready[0].readable);
        r.deregister(&mut a, A).unwrap();
    }

    #[test]
    fn wakes_from_other_threads_end_the_wait() {
        let mut r = Reactor::new().unwrap();
        for _ in 0..100 {
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let waker = r.waker();
                    std::thread::spawn(move || waker.wake())
                })
                .collect();
            r.wait(None).unwrap(); // hangs if a wake is lost
            assert!(all(&mut r).is_empty());
            threads.into_iter().for_each(|t| t.join().unwrap());
            now(&mut r);
        }
        r.waker().wake();
        r.waker().wake();
        r.wait(None).unwrap();
    }
}
