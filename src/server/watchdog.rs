//! The software watchdog (`watchdog-period`): who holds up the loop?
//!
//! The cron winds a timer up again and again. When it does not come round for the period, the timer's
//! signal interrupts the loop wherever it is; the handler takes down the addresses of its stack, which is
//! all that is safe there, and a thread of the watchdog's own turns them into names for the log. The
//! loop itself goes on.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::FromRawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

use super::crash;
use super::log::{self, DirectText, Verbosity};
use super::machine::Machine;
use super::stack::{FRAMES_MAX, Stack};

/// The stack the handler took down, until the thread has written it.
static ADDRESSES: [AtomicUsize; FRAMES_MAX] = [const { AtomicUsize::new(0) }; FRAMES_MAX];
static FRAMES: AtomicUsize = AtomicUsize::new(0);
/// True from the handler's note until it is written.
static BUSY: AtomicBool = AtomicBool::new(false);
/// An eventfd on which the thread waits for the handler.
static ALARM_FD: AtomicI32 = AtomicI32::new(-1);
/// The loop's thread: the one whose stack is of interest.
static LOOP_THREAD: AtomicI32 = AtomicI32::new(0);

/// The watchdog of the loop's thread.
#[derive(Debug, Default)]
pub struct Watchdog {
    period_ms: u64,
}

impl Watchdog {
    /// Sets the period; 0 switches the watchdog off. A period under two rounds of a cron of `hz` is
    /// raised to them: the timer would go off between rounds. Gives the period in force. To be called
    /// on the loop's thread.
    pub fn set_period(&mut self, period_ms: u64, hz: u32) -> io::Result<u64> {
        if period_ms == 0 {
            self.period_ms = 0;
            self.wind_up();
            // SAFETY: SIG_IGN is a disposition of the signal; it also takes back a pending one.
            unsafe { libc::signal(libc::SIGALRM, libc::SIG_IGN) };
            return Ok(0);
        }
        start_thread()?;
        crash::protect_thread(); // walking the stack needs more room than a thread's own handler stack
        // SAFETY: the struct is made of integers and a pointer, for which zero is a value, and the
        // handler has the type that SA_SIGINFO asks for.
        unsafe {
            LOOP_THREAD.store(libc::gettid(), Ordering::Relaxed);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_alarm as extern "C" fn(_, _, _) as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(libc::SIGALRM, &action, ptr::null_mut());
        }
        self.period_ms = period_ms.max(2 * 1000 / u64::from(hz.max(1)));
        self.wind_up();
        Ok(self.period_ms)
    }

    /// The cron came round: the timer starts anew.
    pub fn tick(&self) {
        if self.period_ms != 0 {
            self.wind_up();
        }
    }

    /// Sets the timer to one period, or stops it.
    fn wind_up(&self) {
        let value = libc::timeval {
            tv_sec: (self.period_ms / 1000) as libc::time_t,
            tv_usec: (self.period_ms % 1000 * 1000) as libc::suseconds_t,
        };
        let never = libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        };
        let timer = libc::itimerval {
            it_interval: never,
            it_value: value,
        };
        // SAFETY: the pointer is to a local of the right type.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) };
    }
}

/// Keeps the watchdog's signal off the calling thread: what every thread but the loop's does at its
/// start.
pub fn ignore_on_this_thread() {
    // SAFETY: a local set of signals, initialised before it is used.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGALRM);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
    }
}

/// Starts the thread that writes, once.
fn start_thread() -> io::Result<()> {
    if ALARM_FD.load(Ordering::Acquire) >= 0 {
        return Ok(());
    }
    // SAFETY: eventfd takes numbers; the descriptor is the file's alone, but for the handler's writes,
    // and the file is never closed.
    let mut alarm = unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        ALARM_FD.store(fd, Ordering::Release);
        File::from_raw_fd(fd)
    };
    std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || {
            ignore_on_this_thread();
            let mut count = [0; 8];
            loop {
                match alarm.read_exact(&mut count) {
                    Ok(()) => write_note(),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
            }
        })?;
    Ok(())
}

/// Writes what the handler took down.
fn write_note() {
    let frames = FRAMES.load(Ordering::Acquire);
    let stack = Stack::of(
        ADDRESSES[..frames]
            .iter()
            .map(|a| a.load(Ordering::Relaxed)),
    );
    log::from_handler(Verbosity::Warning, "\n--- WATCHDOG TIMER EXPIRED ---");
    let mut out = DirectText::new(Verbosity::Warning);
    let _ = write_trace(&stack, &mut out);
    drop(out);
    log::from_handler(Verbosity::Warning, "--------\n");
    BUSY.store(false, Ordering::Release);
}

fn write_trace(stack: &Stack, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
    out.write_str("\n------ STACK TRACE ------\n")?;
    if let Some(first) = stack.addresses().first() {
        write!(out, "EIP:\n[{first:#x}]\n\nBacktrace:\n")?;
    }
    stack.write_names(out)
}

extern "C" fn on_alarm(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    let the_loop = LOOP_THREAD.load(Ordering::Relaxed);
    // SAFETY: the context is the kernel's; system calls that take numbers; and errno, which an interrupted program may be about to
    // read, is left as it was.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        if libc::gettid() != the_loop {
            libc::syscall(libc::SYS_tgkill, libc::getpid(), the_loop, libc::SIGALRM);
        } else if !BUSY.swap(true, Ordering::AcqRel) {
            let interrupted = Machine::of(context).map(|m| m.instruction);
            let stack = Stack::capture(interrupted);
            for (to, &from) in ADDRESSES.iter().zip(stack.addresses()) {
                to.store(from, Ordering::Relaxed);
            }
            FRAMES.store(stack.addresses().len(), Ordering::Release);
            let one = 1u64.to_ne_bytes();
            libc::write(
                ALARM_FD.load(Ordering::Acquire),
                one.as_ptr().cast(),
                one.len(),
            );
        }
        *errno = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`a_held_up_loop_is_told`] runs in a process of its own, since the timer is the process's.
    #[test]
    #[ignore]
    fn child() {
        if std::env::var_os("REDSTART_TEST_WATCHDOG").is_none() {
            return;
        }
        let mut watchdog = Watchdog::default();
        assert_eq!(watchdog.set_period(1, 100).unwrap(), 20);
        watchdog.tick();
        // Held up until the watchdog has said so.
        while !BUSY.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        while BUSY.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        assert_eq!(watchdog.set_period(0, 100).unwrap(), 0);
    }

    #[test]
    fn a_held_up_loop_is_told() {
        let out = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--nocapture",
                "--exact",
                "server::watchdog::tests::child",
            ])
            .env("REDSTART_TEST_WATCHDOG", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{:?} {text}", out.status);
        for mark in [
            ":signal-handler (",
            "--- WATCHDOG TIMER EXPIRED ---",
            "STACK TRACE",
            "::child",
        ] {
            assert!(text.contains(mark), "no {mark} in {text}");
        }
    }
}
