//! The processor's state, as a signal's handler is told it: where the program was, for a crash's report
//! and the watchdog. Known for Linux on x86-64 and ARM64; elsewhere there is nothing to tell.

use std::ffi::c_void;

/// The processor as the signal found it.
pub struct Machine {
    /// The address of the instruction that was interrupted.
    pub instruction: usize,
    /// The top of the stack.
    pub stack_pointer: usize,
    /// All registers worth showing, by name.
    pub registers: arch::Registers,
}

impl Machine {
    /// The state out of a handler's third argument.
    ///
    /// # Safety
    /// `context` is what the kernel handed to a handler that is still running.
    pub unsafe fn of(context: *mut c_void) -> Option<Machine> {
        // SAFETY: the caller's promise.
        unsafe { arch::machine(context) }
    }
}

/// Runs `f` as if a call whose target cannot be executed had not happened, so that the stack can be
/// walked; `f` gets the caller's address. `None` where it is not known how.
///
/// # Safety
/// As for [`Machine::of`]; besides, the word at the stack pointer is read.
pub unsafe fn at_caller<T>(context: *mut c_void, f: impl FnOnce(usize) -> T) -> Option<T> {
    // SAFETY: the caller's promise.
    unsafe { arch::at_caller(context, f) }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod arch {
    use super::{Machine, c_void};
    use libc::{REG_CSGSFS, REG_EFL, REG_RBP, REG_RIP, REG_RSP};
    use libc::{REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    use libc::{REG_RAX, REG_RBX, REG_RCX, REG_RDI, REG_RDX, REG_RSI};

    pub type Registers = [(&'static str, u64); 19];

    const SHOWN: [(&str, libc::c_int); 19] = [
        ("RAX", REG_RAX),
        ("RBX", REG_RBX),
        ("RCX", REG_RCX),
        ("RDX", REG_RDX),
        ("RDI", REG_RDI),
        ("RSI", REG_RSI),
        ("RBP", REG_RBP),
        ("RSP", REG_RSP),
        ("R8 ", REG_R8),
        ("R9 ", REG_R9),
        ("R10", REG_R10),
        ("R11", REG_R11),
        ("R12", REG_R12),
        ("R13", REG_R13),
        ("R14", REG_R14),
        ("R15", REG_R15),
        ("RIP", REG_RIP),
        ("EFL", REG_EFL),
        ("CSGSFS", REG_CSGSFS),
    ];

    pub unsafe fn machine(context: *mut c_void) -> Option<Machine> {
        // SAFETY: the caller's promise; copied, so that nothing refers to the context later.
        let registers = unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        Some(Machine {
            instruction: registers[REG_RIP as usize] as usize,
            stack_pointer: registers[REG_RSP as usize] as usize,
            registers: SHOWN.map(|(name, index)| (name, registers[index as usize] as u64)),
        })
    }

    /// A call pushed the caller's address and jumped: pop it and jump back.
    pub unsafe fn at_caller<T>(context: *mut c_void, f: impl FnOnce(usize) -> T) -> Option<T> {
        // SAFETY: the caller's promise; raw access, since `f` reads the context by its own ways.
        unsafe {
            let registers = &raw mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
            let before = *registers;
            let caller = *(before[REG_RSP as usize] as *const usize);
            (*registers)[REG_RIP as usize] = caller as i64;
            (*registers)[REG_RSP as usize] += 8;
            let result = f(caller);
            *registers = before;
            Some(result)
        }
    }
}

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod arch {
    use super::{Machine, c_void};

    pub type Registers = [(&'static str, u64); 7];

    pub unsafe fn machine(context: *mut c_void) -> Option<Machine> {
        // SAFETY: the caller's promise; copied, so that nothing refers to the context later.
        let (regs, sp, pc) = unsafe {
            let registers = &raw const (*context.cast::<libc::ucontext_t>()).uc_mcontext;
            ((*registers).regs, (*registers).sp, (*registers).pc)
        };
        Some(Machine {
            instruction: pc as usize,
            stack_pointer: sp as usize,
            registers: [
                ("X0 ", regs[0]),
                ("X1 ", regs[1]),
                ("X18", regs[18]),
                ("X29", regs[29]),
                ("LR ", regs[30]),
                ("SP ", sp),
                ("PC ", pc),
            ],
        })
    }

    /// A call left the caller's address in the link register.
    pub unsafe fn at_caller<T>(context: *mut c_void, f: impl FnOnce(usize) -> T) -> Option<T> {
        // SAFETY: the caller's promise; raw access, since `f` reads the context by its own ways.
        unsafe {
            let registers = &raw mut (*context.cast::<libc::ucontext_t>()).uc_mcontext;
            let (before, caller) = ((*registers).pc, (*registers).regs[30]);
            (*registers).pc = caller;
            let result = f(caller as usize);
            (*registers).pc = before;
            Some(result)
        }
    }
}

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
mod arch {
    use super::{Machine, c_void};

    pub type Registers = [(&'static str, u64); 0];

    pub unsafe fn machine(_: *mut c_void) -> Option<Machine> {
        None
    }

    pub unsafe fn at_caller<T>(_: *mut c_void, _: impl FnOnce(usize) -> T) -> Option<T> {
        None
    }
}
