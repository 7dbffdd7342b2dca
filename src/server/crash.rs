//! The last words: what goes to the log when the process is about to die of its own fault.
//!
//! A panic of the loop, and SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT, write a report in Redis's form
//! (tools and people look for its marks), then the process ends as it would have without us: by the
//! signal, or by abort. A panic of any other thread is that thread's affair, and one line.
//!
//! Nothing can be relied on while it is written, so that it is made of steps ([`STEPS`]), safest first.
//! If a step crashes, the handler is entered again and goes on with the next step; if it hangs (on a
//! lock that the crashed code held), an alarm ends the process. Until the names of the stack's functions are
//! looked up nothing allocates. Handlers run on a stack of their own, so that an overflowing one
//! can be told too.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::panic::PanicHookInfo;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use libc::{SIGABRT, SIGALRM, SIGBUS, SIGFPE, SIGILL, SIGSEGV};

use super::log::{self, DirectText, Verbosity};
use super::machine::{self, Machine};
use super::memtest;
use super::stack::Stack;
use crate::base::quoted;

const SIGNALS: [c_int; 5] = [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT];

/// The handlers' stack, in bytes: names are looked up and INFO is put together on it.
const HANDLER_STACK: usize = 512 * 1024;

/// A report that takes longer hangs.
const STUCK_AFTER_S: u32 = 30;

/// Arguments are shown up to this length, in bytes.
const ARGUMENT_MAX: usize = 128;

/// A part of the report that only the server can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// All of INFO.
    Info,
    /// CLIENT LIST.
    ClientList,
    /// The client being served and its command, if any: see [`write_client`].
    CurrentClient,
    /// The client whose command is executing, where that is another (a script's).
    ExecutingClient,
    /// Configuration that helps to understand a crash.
    Config,
}

/// Writes a section: called on the thread that crashed, with the context given to [`set_reporter`]. What
/// it finds may be half changed; it may panic.
pub type Reporter = fn(context: *const (), section: Section, out: &mut dyn Write);

static REDIS_VERSION: OnceLock<&'static str> = OnceLock::new();
static REPORTER: OnceLock<Reporter> = OnceLock::new();
static CONTEXT: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

static WANTED: AtomicBool = AtomicBool::new(true);
static MEMORY_CHECK: AtomicBool = AtomicBool::new(true);
static EXIT_ON_PANIC: AtomicBool = AtomicBool::new(false);
/// A pid file to remove, null for none. Like the log's path, never freed.
static PID_FILE: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// The thread that runs the loop.
static LOOP_THREAD: AtomicI32 = AtomicI32::new(0);
/// The thread that writes a report, 0 for none.
static REPORTING: AtomicI32 = AtomicI32::new(0);
/// The signal that the report is about, 0 for a panic.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// How often the handler was entered.
static ENTRIES: AtomicUsize = AtomicUsize::new(0);
/// The next of [`STEPS`].
static NEXT_STEP: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static HAS_HANDLER_STACK: Cell<bool> = const { Cell::new(false) };
}

/// Makes the calling thread the loop's: its panics are fatal from now on, and crashes of any thread are
/// reported, naming this version of Redis. To be called once, after the last fork.
pub fn install(redis_version: &'static str) {
    let _ = REDIS_VERSION.set(redis_version);
    // SAFETY: gettid takes nothing.
    LOOP_THREAD.store(unsafe { libc::gettid() }, Ordering::Relaxed);
    protect_thread();
    std::panic::set_hook(Box::new(on_panic));
    configure(true, true, false);
}

/// Applies `crash-log-enabled`, `crash-memcheck-enabled` and `use-exit-on-panic`.
pub fn configure(crash_log: bool, memory_check: bool, exit_on_panic: bool) {
    WANTED.store(crash_log, Ordering::Relaxed);
    MEMORY_CHECK.store(memory_check, Ordering::Relaxed);
    EXIT_ON_PANIC.store(exit_on_panic, Ordering::Relaxed);
    for signal in SIGNALS {
        if crash_log {
            set_handler(signal, on_signal);
        } else {
            set_default(signal);
        }
    }
}

/// Sets who writes the server's sections, and what it is given; the context can be set again whenever
/// the server moves, or to null when it is gone.
pub fn set_reporter(reporter: Reporter, context: *const ()) {
    let _ = REPORTER.set(reporter);
    CONTEXT.store(context.cast_mut(), Ordering::Release);
}

/// Sets the pid file that a crash removes: the one of a daemon that nobody supervises.
pub fn set_pid_file(path: Option<&Path>) {
    let path = path.and_then(|p| CString::new(p.as_os_str().as_bytes()).ok());
    PID_FILE.store(
        path.map_or(ptr::null_mut(), CString::into_raw),
        Ordering::Release,
    );
}

/// Gives the calling thread a stack for its handlers. A thread without one cannot report that its own
/// stack ran over.
pub fn protect_thread() {
    if HAS_HANDLER_STACK.replace(true) {
        return;
    }
    // SAFETY: the mapping is new, of the size stated, and stays for the process's life: a thread that
    // ends leaves it unused.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let memory = libc::mmap(ptr::null_mut(), HANDLER_STACK, access, flags, -1, 0);
        if memory != libc::MAP_FAILED {
            let stack = libc::stack_t {
                ss_sp: memory,
                ss_flags: 0,
                ss_size: HANDLER_STACK,
            };
            libc::sigaltstack(&stack, ptr::null_mut());
        }
    }
}

/// Writes to memory that may only be read (DEBUG SEGFAULT).
pub fn provoke_segfault() {
    // SAFETY: none, that is the point: the page exists and refuses the write.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ, flags, -1, 0);
        page.cast::<u8>().write_volatile(b'x');
    }
}

/// Writes a client and its command, for [`Section::CurrentClient`]: its line as in CLIENT LIST, and its
/// arguments, cut at 128 bytes, none after an `auth` and only the first if user data is hidden.
pub fn write_client<'a>(
    out: &mut dyn Write,
    line: &str,
    argv: impl ExactSizeIterator<Item = &'a [u8]>,
) -> fmt::Result {
    writeln!(out, "{line}\nargc: '{}'", argv.len())?;
    let shown = if log::hides_user_data() {
        1
    } else {
        usize::MAX
    };
    for (n, argument) in argv.enumerate().take(shown) {
        let start = &argument[..argument.len().min(ARGUMENT_MAX)];
        writeln!(out, "argv[{n}]: '{}'", quoted::quote(start))?;
        if argument.eq_ignore_ascii_case(b"auth") || argument.eq_ignore_ascii_case(b"auth2") {
            break;
        }
    }
    Ok(())
}

/// What a crash leaves to look at.
struct Crash {
    stack: Stack,
    /// Where the program was interrupted, and its registers; none after a panic.
    machine: Option<Machine>,
}

/// The report's body, in order. Steps that look at the crash are skipped (`None`) when they are reached
/// through a second crash.
const STEPS: [fn(Option<&Crash>); 13] = [
    |crash| with(crash, write_addresses),
    |crash| with(crash, write_registers),
    |crash| with(crash, write_names),
    |crash| with(crash, write_stack_words),
    |_| server_section("INFO OUTPUT", Section::Info),
    |_| server_section("CLIENT LIST OUTPUT", Section::ClientList),
    |_| server_section("CURRENT CLIENT INFO", Section::CurrentClient),
    |_| server_section("EXECUTING CLIENT INFO", Section::ExecutingClient),
    |_| heading("MODULES INFO OUTPUT"),
    |_| server_section("CONFIG DEBUG OUTPUT", Section::Config),
    |crash| with(crash, write_code),
    |_| check_memory(),
    |_| goodbye(),
];

/// Runs the steps that have not been run.
fn write_report(crash: Option<&Crash>) {
    loop {
        let step = NEXT_STEP.fetch_add(1, Ordering::Relaxed);
        match STEPS.get(step) {
            Some(step) => step(crash),
            None => break,
        }
    }
}

fn with(crash: Option<&Crash>, step: fn(&Crash, &mut DirectText) -> fmt::Result) {
    if let Some(crash) = crash {
        let _ = step(crash, &mut text());
    }
}

fn text() -> DirectText {
    DirectText::new(Verbosity::Warning)
}

fn line(args: fmt::Arguments) {
    log::direct(Verbosity::Warning, args);
}

fn heading(title: &str) {
    let _ = write!(text(), "\n------ {title} ------\n");
}

fn start() {
    let _ =
        text().write_str("\n\n=== REDIS BUG REPORT START: Cut & paste starting from here ===\n");
    // SAFETY: alarm takes a number.
    unsafe { libc::alarm(STUCK_AFTER_S) };
    set_handler(SIGALRM, on_stuck);
}

fn goodbye() {
    let _ = text().write_str(
        "\n=== REDIS BUG REPORT END. Make sure to include from START to END. ===\n\n       \
         Please report the crash to the authors of Redstart, with the whole report.\n\n  \
         Suspect RAM error? Test it with a tool that runs without an operating system.\n\n  \
         Some other issues could be detected by redis-server --check-system\n",
    );
    let pid_file = PID_FILE.load(Ordering::Acquire);
    if !pid_file.is_null() {
        // SAFETY: a C string that is never freed.
        unsafe { libc::unlink(pid_file) };
    }
}

fn write_addresses(crash: &Crash, out: &mut DirectText) -> fmt::Result {
    out.write_str("\n------ STACK TRACE ------\n")?;
    if let Some(machine) = &crash.machine {
        writeln!(out, "EIP:\n[{:#x}]", machine.instruction)?;
    }
    out.write_str("\nBacktrace:\n")?;
    crash.stack.write_addresses(out)
}

fn write_names(crash: &Crash, out: &mut DirectText) -> fmt::Result {
    out.write_str("\n------ STACK TRACE WITH NAMES ------\n")?;
    crash.stack.write_names(out)
}

fn write_registers(crash: &Crash, out: &mut DirectText) -> fmt::Result {
    let Some(machine) = &crash.machine else {
        return Ok(());
    };
    out.write_str("\n------ REGISTERS ------\n")?;
    for (n, (name, value)) in machine.registers.iter().enumerate() {
        let end = if n % 4 == 3 { '\n' } else { ' ' };
        write!(out, "{name}:{value:016x}{end}")?;
    }
    out.write_str("\n")
}

/// The words at the top of the stack.
fn write_stack_words(crash: &Crash, out: &mut DirectText) -> fmt::Result {
    let Some(machine) = &crash.machine else {
        return Ok(());
    };
    out.write_str("\n------ STACK CONTENT ------\n")?;
    out.flush();
    for n in (0..16).rev() {
        let at = machine.stack_pointer.wrapping_add(n * size_of::<usize>());
        // SAFETY: it may not be mapped, and then the handler is entered again and goes on.
        let value = unsafe { (at as *const usize).read_volatile() };
        writeln!(out, "({at:016x}) -> {value:016x}")?;
    }
    Ok(())
}

/// The bytes around the instruction, for a disassembler.
fn write_code(crash: &Crash, out: &mut DirectText) -> fmt::Result {
    let Some(machine) = &crash.machine else {
        return Ok(());
    };
    out.write_str("\n------ DUMPING CODE AROUND EIP ------\n")?;
    let from = machine.instruction & !63;
    write!(out, "{from:#x}:")?;
    out.flush();
    for at in from..from.saturating_add(128) {
        // SAFETY: as in `write_stack_words`.
        write!(out, " {:02x}", unsafe { (at as *const u8).read_volatile() })?;
    }
    out.write_str("\n")
}

/// A section under its heading, or nothing at all if the server has nothing to say.
fn server_section(title: &str, section: Section) {
    /// Writes the heading before the first text.
    struct Headed<'a> {
        title: Option<&'a str>,
        out: DirectText,
    }
    impl Write for Headed<'_> {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            if let Some(title) = self.title.take() {
                write!(self.out, "\n------ {title} ------\n")?;
            }
            self.out.write_str(s)
        }
    }
    let context = CONTEXT.load(Ordering::Acquire);
    if let Some(reporter) = REPORTER.get().filter(|_| !context.is_null()) {
        reporter(
            context,
            section,
            &mut Headed {
                title: Some(title),
                out: text(),
            },
        );
    }
}

fn check_memory() {
    if !MEMORY_CHECK.load(Ordering::Relaxed) {
        return;
    }
    heading("FAST MEMORY TEST");
    // SAFETY: the alarm would go off in the middle of a long test of memory that is well.
    unsafe { libc::alarm(0) };
    // SAFETY: the process does nothing any more but end; this is the thread that reports.
    let errors = unsafe { memtest::test_all(&mut text()) };
    let _ = text().write_str(if errors > 0 {
        "!!! MEMORY ERROR DETECTED! Check your memory ASAP !!!\n"
    } else {
        "Fast memory test PASSED, however your memory can still be broken. Please run a memory test for \
         several hours if possible.\n"
    });
}

/// The hook of all panics.
fn on_panic(info: &PanicHookInfo) {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message");
    let (file, at) = info.location().map_or(("?", 0), |l| (l.file(), l.line()));
    // SAFETY: gettid takes nothing.
    let thread = unsafe { libc::gettid() };
    if thread != LOOP_THREAD.load(Ordering::Relaxed) {
        let name = std::thread::current().name().unwrap_or("?").to_string();
        ::log::warn!("Background thread {name} panicked: {message} #{file}:{at}");
        return;
    }
    if claim_report(thread) == Claim::First {
        start();
        match message.strip_prefix("assertion failed: ") {
            Some(assertion) => {
                line(format_args!("=== ASSERTION FAILED ==="));
                line(format_args!("==> {file}:{at} '{assertion}' is not true"));
            }
            None => {
                line(format_args!(
                    "------------------------------------------------"
                ));
                line(format_args!(
                    "!!! Software Failure. Press left mouse button to continue"
                ));
                line(format_args!("Guru Meditation: {message} #{file}:{at}"));
            }
        }
        if WANTED.load(Ordering::Relaxed) {
            write_report(Some(&Crash {
                stack: Stack::capture(None),
                machine: None,
            }));
        } else {
            goodbye();
        }
    }
    end();
}

extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: gettid takes nothing.
    let claim = claim_report(unsafe { libc::gettid() });
    if ENTRIES.fetch_add(1, Ordering::Relaxed) > 2 * STEPS.len() {
        end();
    }
    if claim == Claim::Again {
        let _ = text().write_str("\n(cut short by another crash)\n");
        write_report(None);
        end();
    }
    SIGNAL.store(signal, Ordering::Relaxed);
    start();
    let version = REDIS_VERSION.get().copied().unwrap_or("?");
    // SAFETY: the kernel hands both over, valid during the handler, which never returns.
    let (info, machine) = unsafe { (&*info, Machine::of(context)) };
    line(format_args!(
        "Redis {version} crashed by signal: {signal}, si_code: {}",
        info.si_code
    ));
    // SAFETY: the fields of a siginfo that this signal and code have.
    let (address, pid, uid) = unsafe { (info.si_addr() as usize, info.si_pid(), info.si_uid()) };
    if signal == SIGSEGV || signal == SIGBUS {
        line(format_args!("Accessing address: {address:#x}"));
    }
    if info.si_code == libc::SI_USER {
        line(format_args!("Killed by PID: {pid}, UID: {uid}"));
    }
    let mut stack = None;
    if let Some(machine) = &machine {
        line(format_args!(
            "Crashed running the instruction at: {:#x}",
            machine.instruction
        ));
        if machine.instruction == address {
            // A call to nowhere: the walk must start at the caller.
            // SAFETY: `context` is the kernel's; a second crash is dealt with.
            stack = unsafe { machine::at_caller(context, |caller| Stack::capture(Some(caller))) };
        }
    }
    let interrupted = machine.as_ref().map(|m| m.instruction);
    let stack = stack.unwrap_or_else(|| Stack::capture(interrupted));
    write_report(Some(&Crash { stack, machine }));
    end();
}

/// Who may write the report.
#[derive(PartialEq, Eq)]
enum Claim {
    /// This thread, which has just begun.
    First,
    /// This thread, which crashed again while it wrote.
    Again,
}

/// One thread reports; any other that crashes meanwhile waits for the end.
fn claim_report(thread: i32) -> Claim {
    match REPORTING.compare_exchange(0, thread, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Claim::First,
        Err(reporting) if reporting == thread => Claim::Again,
        Err(_) => loop {
            // SAFETY: pause takes nothing.
            unsafe { libc::pause() };
        },
    }
}

extern "C" fn on_stuck(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    log::direct_raw(b"\n(the crash report hangs: giving up)\n");
    end();
}

/// Ends the process as the crash would have: by its signal, or after a panic by abort (or exit).
fn end() -> ! {
    let mut signal = SIGNAL.load(Ordering::Relaxed);
    if signal == 0 {
        if EXIT_ON_PANIC.load(Ordering::Relaxed) {
            // SAFETY: _exit takes a number.
            unsafe { libc::_exit(1) };
        }
        signal = SIGABRT;
    }
    set_default(signal);
    // SAFETY: the calls take numbers; should the signal not end the process at once, it will soon.
    unsafe {
        libc::kill(libc::getpid(), signal);
        loop {
            libc::pause();
        }
    }
}

type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

fn set_handler(signal: c_int, handler: Handler) {
    // SAFETY: the struct is made of integers and a pointer, for which zero is a value, and the handler
    // has the type that SA_SIGINFO asks for. NODEFER: a step may crash with the same signal.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(signal, &action, ptr::null_mut());
    }
}

fn set_default(signal: c_int) {
    // SAFETY: SIG_DFL is a disposition of every signal.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_shown_without_secrets() {
        let show = |argv: &[&[u8]]| {
            let mut out = String::new();
            write_client(&mut out, "id=3 addr=x", argv.iter().copied()).unwrap();
            out
        };
        let long = [b'x'; 200];
        let text = show(&[b"SET", b"k\n", &long]);
        let cut = "x".repeat(128);
        let expected = format!(
            "id=3 addr=x\nargc: '3'\nargv[0]: '\"SET\"'\nargv[1]: '\"k\\n\"'\nargv[2]: '\"{cut}\"'\n"
        );
        assert_eq!(text, expected);
        let text = show(&[b"HELLO", b"3", b"AUTH", b"user", b"secret"]);
        assert!(text.ends_with("argv[2]: '\"AUTH\"'\n"), "{text}");
    }

    /// Crashes in a process of its own: what [`crashing`] runs, never by itself.
    #[test]
    #[ignore]
    fn child() {
        let Ok(how) = std::env::var("REDSTART_TEST_CRASH") else {
            return;
        };
        log::init();
        install("7.2.6");
        configure(true, how != "panic", how == "exit");
        fn reporter(_: *const (), section: Section, out: &mut dyn Write) {
            match section {
                Section::Info => out.write_str("redis_version:7.2.6\n").unwrap(),
                Section::ClientList => provoke_segfault(),
                Section::Config => out.write_str("tls no\n").unwrap(),
                Section::CurrentClient | Section::ExecutingClient => {}
            }
        }
        let context = 0;
        set_reporter(reporter, (&raw const context).cast());
        match how.as_str() {
            "segfault" => provoke_segfault(),
            "nowhere" => {
                // SAFETY: none, that is the point: there is no function.
                let nowhere: extern "C" fn() = unsafe { std::mem::transmute(8usize) };
                nowhere();
            }
            "exit" => assert!(context == 1),
            _ => panic!("on request"),
        }
    }

    /// The status and the output of a process that crashes in this way.
    fn crashing(how: &str) -> (std::process::ExitStatus, String) {
        let out = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--nocapture",
                "--exact",
                "server::crash::tests::child",
            ])
            .env("REDSTART_TEST_CRASH", how)
            .output()
            .unwrap();
        (
            out.status,
            String::from_utf8_lossy(&out.stdout).into_owned(),
        )
    }

    /// Checks that the marks are there, in this order.
    fn assert_in_order(text: &str, marks: &[&str]) {
        let mut rest = text;
        for mark in marks {
            let at = rest
                .find(mark)
                .unwrap_or_else(|| panic!("no {mark:?} in order in:\n{text}"));
            rest = &rest[at + mark.len()..];
        }
    }

    #[test]
    fn signals_are_reported_and_end_the_process() {
        use std::os::unix::process::ExitStatusExt;
        for how in ["segfault", "nowhere"] {
            let (status, text) = crashing(how);
            assert_eq!(status.signal(), Some(SIGSEGV));
            assert_in_order(
                &text,
                &[
                    "=== REDIS BUG REPORT START: Cut & paste starting from here ===\n",
                    " # Redis 7.2.6 crashed by signal: 11, si_code: ",
                    " # Accessing address: 0x",
                    "------ STACK TRACE ------\n",
                    "------ REGISTERS ------\n",
                    "::child",
                    "------ INFO OUTPUT ------\nredis_version:7.2.6\n",
                    "(cut short by another crash)", // CLIENT LIST crashes
                    "------ CONFIG DEBUG OUTPUT ------\ntls no\n",
                    "------ FAST MEMORY TEST ------\n",
                    "Fast memory test PASSED",
                    "=== REDIS BUG REPORT END.",
                ],
            );
            assert_eq!(text.matches("BUG REPORT START").count(), 1);
            assert!(
                !text.contains("CURRENT CLIENT"),
                "a section without text has no heading"
            );
        }
    }

    #[test]
    fn a_panic_of_the_loop_is_reported_and_aborts() {
        use std::os::unix::process::ExitStatusExt;
        let (status, text) = crashing("panic");
        assert_eq!(status.signal(), Some(SIGABRT));
        let marks = [
            "Software Failure",
            "# Guru Meditation: on request #src",
            "::child",
            "REPORT END",
        ];
        assert_in_order(&text, &marks);
        assert!(!text.contains("FAST MEMORY TEST"), "it was switched off");
        let (status, text) = crashing("exit");
        assert_eq!(status.code(), Some(1));
        assert_in_order(
            &text,
            &["# === ASSERTION FAILED ===", "'context == 1' is not true"],
        );
    }
}
