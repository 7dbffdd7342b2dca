//! Programs that a Sentinel starts for its administrator: started without waiting for them, looked after at each tick.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};

use crate::exec::sentinel::{Ended, NotStarted};

/// Those that run.
#[derive(Default)]
pub struct Programs(Vec<Child>);

impl Programs {
    /// Starts a program in a directory, with our environment and output.
    pub fn start(&mut self, dir: &Path, argv: &[Vec<u8>]) -> Result<u32, NotStarted> {
        let [program, args @ ..] = argv else {
            return Err(NotStarted::NoProgram);
        };
        // As seen from that directory, and never looked for along PATH.
        let program = dir.join(OsStr::from_bytes(program));
        let args = args.iter().map(|arg| OsStr::from_bytes(arg));
        let started = Command::new(program).args(args).current_dir(dir).spawn();
        match started {
            Ok(child) => {
                let pid = child.id();
                self.0.push(child);
                Ok(pid)
            }
            Err(e) if is_shortage(&e) => Err(NotStarted::NoProcess),
            Err(_) => Err(NotStarted::NoProgram),
        }
    }

    /// Those that have ended since the last look.
    pub fn ended(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        self.0.retain_mut(|child| match child.try_wait() {
            Ok(Some(status)) => {
                ended.push(Ended {
                    pid: child.id(),
                    status: status.code().unwrap_or(0),
                    signal: status.signal().unwrap_or(0),
                });
                false
            }
            Ok(None) | Err(_) => true,
        });
        ended
    }

    /// kill -9
    pub fn kill(&mut self, pid: u32) {
        if let Some(child) = self.0.iter_mut().find(|child| child.id() == pid) {
            // It may have ended by itself a moment ago.
            let _ = child.kill();
        }
    }
}

fn is_shortage(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(programs: &mut Programs) -> Ended {
        loop {
            if let Some(ended) = programs.ended().first() {
                return *ended;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_s_end_is_heard() {
        let mut programs = Programs::default();
        let words = |line: &str| -> Vec<Vec<u8>> { line.split(' ').map(|w| w.into()).collect() };
        let argv = [&words("/bin/sh -c")[..], &[b"exit 3".to_vec()]].concat();
        let pid = programs.start(Path::new("/"), &argv).unwrap();
        let (status, signal) = (3, 0);
        assert_eq!(
            wait(&mut programs),
            Ended {
                pid,
                status,
                signal
            }
        );
        let pid = programs
            .start(Path::new("/"), &words("/bin/sleep 100"))
            .unwrap();
        programs.kill(pid);
        let (status, signal) = (0, libc::SIGKILL);
        assert_eq!(
            wait(&mut programs),
            Ended {
                pid,
                status,
                signal
            }
        );
        let gone = programs.start(Path::new("/"), &words("/no/such/program"));
        assert_eq!(gone, Err(NotStarted::NoProgram));
    }
}
