//! The call stack of the running thread, taken and shown in two steps of different safety.
//!
//! [`Stack::capture`] walks the frames: it uses neither heap nor locks of ours, and so a signal handler
//! may do it. Turning the addresses into names reads debug information and allocates: the crash report
//! does it last, the watchdog on a thread of its own.

use std::ffi::{CStr, c_void};
use std::fmt::{self, Write};

/// Deeper frames are not kept.
pub const FRAMES_MAX: usize = 100;

/// Addresses of calls, the innermost first.
#[derive(Debug, Clone, Copy)]
pub struct Stack {
    addresses: [usize; FRAMES_MAX],
    len: usize,
}

impl Stack {
    /// The stack of this thread. In a signal handler, `interrupted` is where the program was; the
    /// handler's own frames are then left out.
    #[inline(never)]
    pub fn capture(interrupted: Option<usize>) -> Stack {
        let mut stack = Stack {
            addresses: [0; FRAMES_MAX],
            len: 0,
        };
        // SAFETY: the walk is unsynchronized, which matters only where the platform's unwinder is not
        // thread-safe; the ones of Unix are.
        unsafe {
            backtrace::trace_unsynchronized(|frame| {
                let address = frame.ip() as usize;
                if address == 0 {
                    return false; // below the first function
                }
                if Some(address) == interrupted {
                    stack.len = 0;
                }
                stack.addresses[stack.len] = address;
                stack.len += 1;
                stack.len < FRAMES_MAX
            });
        }
        stack
    }

    /// A stack out of addresses, as the watchdog hands them over.
    pub fn of(addresses: impl Iterator<Item = usize>) -> Stack {
        let mut stack = Stack {
            addresses: [0; FRAMES_MAX],
            len: 0,
        };
        for address in addresses.take(FRAMES_MAX) {
            stack.addresses[stack.len] = address;
            stack.len += 1;
        }
        stack
    }

    /// The addresses, the innermost first.
    pub fn addresses(&self) -> &[usize] {
        &self.addresses[..self.len]
    }

    /// A line for each frame: `module(+0xoffset)[0xaddress]`, what `addr2line` asks for. Needs no heap.
    pub fn write_addresses(&self, out: &mut dyn Write) -> fmt::Result {
        for &address in self.addresses() {
            match module_of(address) {
                Some((name, offset)) => writeln!(out, "{name}(+{offset:#x})[{address:#x}]")?,
                None => writeln!(out, "[{address:#x}]")?,
            }
        }
        Ok(())
    }

    /// A line for each function, calls that were inlined included: name, file and line. Allocates.
    pub fn write_names(&self, out: &mut dyn Write) -> fmt::Result {
        for (n, &address) in self.addresses().iter().enumerate() {
            // All but the innermost address are return addresses: the call is the byte before.
            let call = if n == 0 {
                address
            } else {
                address.saturating_sub(1)
            };
            let mut result = Ok(());
            let mut known = false;
            backtrace::resolve(call as *mut c_void, |symbol| {
                known = true;
                result = result.and_then(|()| write_symbol(out, n, symbol));
            });
            result?;
            if !known {
                writeln!(out, "{n:3}: {address:#x}")?;
            }
        }
        Ok(())
    }
}

fn write_symbol(out: &mut dyn Write, n: usize, symbol: &backtrace::Symbol) -> fmt::Result {
    match symbol.name() {
        Some(name) => write!(out, "{n:3}: {name:#}")?,
        None => write!(out, "{n:3}: ?")?,
    }
    match (symbol.filename(), symbol.lineno()) {
        (Some(file), Some(line)) => writeln!(out, " at {}:{line}", file.display()),
        _ => writeln!(out),
    }
}

/// The last part of the file name of the program or library that `address` is in, and the offset.
fn module_of(address: usize) -> Option<(&'static str, usize)> {
    // SAFETY: dladdr looks an address up and fills in a struct of pointers, for which zero is a value;
    // the name it gives belongs to the loaded module, and nothing is unloaded here.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(address as *const c_void, &mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        let name = CStr::from_ptr(info.dli_fname).to_str().unwrap_or("?");
        let name = name.rsplit('/').next().unwrap_or(name);
        Some((name, address.wrapping_sub(info.dli_fbase as usize)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_is_named() {
        let stack = Stack::capture(None);
        let (mut addresses, mut names) = (String::new(), String::new());
        stack.write_addresses(&mut addresses).unwrap();
        stack.write_names(&mut names).unwrap();
        assert_eq!(addresses.lines().count(), stack.addresses().len());
        assert!(addresses.contains("(+0x"), "{addresses}");
        assert!(names.contains("the_caller_is_named"), "{names}");
        assert!(names.contains("stack.rs:"), "{names}");
    }

    #[test]
    fn frames_of_a_handler_are_left_out() {
        let (whole, again) = (Stack::capture(None), Stack::capture(None));
        let (whole, again) = (whole.addresses(), again.addresses());
        // How many frames lie in `capture` depends on the optimizer. This function is the outermost that they differ in.
        let own = whole.iter().zip(again).rposition(|(a, b)| a != b);
        let outside = own.expect("two calls have two addresses") + 1;
        let cut = Stack::capture(Some(whole[outside]));
        assert_eq!(cut.addresses(), &whole[outside..]);
    }
}
