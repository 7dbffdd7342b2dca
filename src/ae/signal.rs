//! Signals, as far as the loop has to do with them.
//!
//! A handler runs between any two instructions of the program, so it may do next to nothing: it notes
//! the signal, lets the caller's hook say so in the log, and wakes the loop, which reads the note when
//! it comes round. Only a second SIGINT does more: someone at a terminal who presses Ctrl-C again does
//! not want to wait, and the process ends inside the handler, with status 1.
//!
//! The signals of a crash are not these: see `server/crash.rs`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use libc::{SIGHUP, SIGINT, SIGPIPE, SIGTERM, c_int};
use signal_hook::SigId;
use signal_hook::low_level;

use super::reactor::Waker;

/// What a handler is about to do; given to the hook, which writes it to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// This signal asks for a shutdown; the loop has been told.
    Stop(c_int),
    /// SIGINT again, before the shutdown was done: the process exits after this hook.
    Insist,
}

/// Told of each signal from inside the handler: it must be async-signal-safe.
pub type Hook = fn(Notice);

/// SIGTERM and SIGINT, noted for the loop. Dropped, it leaves both signals without effect.
#[derive(Debug)]
pub struct Signals {
    /// The last signal that asked for a shutdown, 0 when none is pending.
    last: Arc<AtomicI32>,
    ids: Vec<SigId>,
}

impl Signals {
    /// Takes over SIGTERM and SIGINT. Each one received calls `hook`, then `waker`.
    pub fn install(waker: &Waker, hook: Hook) -> io::Result<Signals> {
        let mut signals = Signals {
            last: Arc::new(AtomicI32::new(0)),
            ids: Vec::new(),
        };
        for sig in [SIGTERM, SIGINT] {
            let (last, waker) = (signals.last.clone(), waker.clone());
            let handler = move || {
                if received(&last, sig, hook) {
                    waker.wake();
                } else {
                    low_level::exit(1);
                }
            };
            // SAFETY: the handler does atomic operations, one write(2) or _exit(2), and what the hook
            // does, which is bound to be async-signal-safe; it neither allocates nor locks.
            signals
                .ids
                .push(unsafe { low_level::register(sig, handler) }?);
        }
        Ok(signals)
    }

    /// The signal that asks for a shutdown, if one does. It stays until [`Signals::forget`].
    pub fn stop_requested(&self) -> Option<c_int> {
        match self.last.load(Ordering::Acquire) {
            0 => None,
            sig => Some(sig),
        }
    }

    /// The request was refused or called off (SHUTDOWN ABORT): the next SIGINT is a first one again. False if there was none.
    pub fn forget(&self) -> bool {
        self.last.swap(0, Ordering::AcqRel) != 0
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            low_level::unregister(id);
        }
    }
}

/// The handler's part that can be tested: false means exit now.
fn received(last: &AtomicI32, sig: c_int, hook: Hook) -> bool {
    if sig == SIGINT && last.load(Ordering::Acquire) != 0 {
        hook(Notice::Insist);
        return false;
    }
    hook(Notice::Stop(sig));
    last.store(sig, Ordering::Release);
    true
}

/// Ignores what must not end a server: SIGHUP (the terminal went away) and SIGPIPE (a peer did; the
/// write that failed says so itself).
pub fn ignore_hangups() {
    for sig in [SIGHUP, SIGPIPE] {
        // SAFETY: SIG_IGN is a valid disposition for both, and no handler is involved.
        unsafe { libc::signal(sig, libc::SIG_IGN) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ae::Reactor;
    use std::sync::Mutex;

    static SEEN: Mutex<Vec<Notice>> = Mutex::new(Vec::new());

    fn note(notice: Notice) {
        SEEN.lock().unwrap().push(notice);
    }

    #[test]
    fn a_second_sigint_insists_and_a_second_sigterm_does_not() {
        let last = AtomicI32::new(0);
        assert!(received(&last, SIGINT, note));
        assert!(received(&last, SIGTERM, note));
        assert!(!received(&last, SIGINT, note));
        last.store(0, Ordering::Relaxed);
        assert!(received(&last, SIGINT, note));
        let seen = SEEN.lock().unwrap();
        use Notice::*;
        assert_eq!(
            seen[..],
            [Stop(SIGINT), Stop(SIGTERM), Insist, Stop(SIGINT)]
        );
    }

    /// What [`a_second_sigint_exits`] runs in a process of its own.
    #[test]
    #[ignore]
    fn child() {
        if std::env::var_os("REDSTART_TEST_SIGINT").is_none() {
            return;
        }
        let reactor = Reactor::new().unwrap();
        let signals = Signals::install(&reactor.waker(), |_| ()).unwrap();
        low_level::raise(SIGINT).unwrap();
        assert_eq!(signals.stop_requested(), Some(SIGINT));
        low_level::raise(SIGINT).unwrap();
        std::process::exit(7);
    }

    #[test]
    fn a_second_sigint_exits() {
        let out = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "ae::signal::tests::child"])
            .env("REDSTART_TEST_SIGINT", "1")
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(1));
    }

    #[test]
    fn a_signal_wakes_the_loop() {
        let mut reactor = Reactor::new().unwrap();
        let signals = Signals::install(&reactor.waker(), |_| ()).unwrap();
        assert_eq!(signals.stop_requested(), None);
        low_level::raise(SIGTERM).unwrap();
        reactor.wait(None).unwrap(); // hangs if the loop is not woken
        assert_eq!(signals.stop_requested(), Some(SIGTERM));
        assert!(signals.forget());
        assert_eq!(signals.stop_requested(), None);
        assert!(!signals.forget());
    }
}
