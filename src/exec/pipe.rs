//! Bytes on their way from a job to the loop, no more of them at a time than was agreed.
//!
//! The job writes and waits while the pipe is full; the loop takes a piece when whoever it is for has room, and never waits. A
//! slow reader so holds up the job, and memory does not grow. The loop is woken when the first piece lies there.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;

/// Wakes the loop.
pub type Wake = Box<dyn Fn() + Send + Sync>;

struct Shared {
    state: Mutex<State>,
    room: Condvar,
    wake: Wake,
    most: usize,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    closed: bool,
}

/// The loop's end.
pub struct Pipe(Arc<Shared>);

/// The job's end.
pub struct PipeWriter(Arc<Shared>);

impl Pipe {
    /// A pipe that holds up to about `most` bytes.
    pub fn new(most: usize, wake: Wake) -> (Pipe, PipeWriter) {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            room: Condvar::new(),
            wake,
            most,
        });
        (Pipe(shared.clone()), PipeWriter(shared))
    }

    /// The next piece, if one is there.
    pub fn take(&self) -> Option<Bytes> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let piece = state.pieces.pop_front()?;
        state.bytes -= piece.len();
        self.0.room.notify_one();
        Some(piece)
    }

    /// True if nothing lies in it.
    pub fn is_empty(&self) -> bool {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.pieces.is_empty()
    }
}

impl Drop for Pipe {
    /// Whoever writes fails from now on.
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        state.pieces.clear();
        self.0.room.notify_one();
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.bytes >= self.0.most && !state.closed {
            state = (self.0.room.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let was_empty = state.pieces.is_empty();
        state.bytes += piece.len();
        state.pieces.push_back(piece);
        drop(state);
        if was_empty {
            (self.0.wake)();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pipe_holds_up_who_writes_until_it_is_read_or_closed() {
        let (woken_in, woken) = std::sync::mpsc::channel();
        let wake = move || woken_in.send(()).unwrap_or(());
        let (pipe, mut writer) = Pipe::new(10, Box::new(wake));
        let job = std::thread::spawn(move || {
            let mut written = 0u8;
            while writer.write_all(&[written; 6]).is_ok() {
                written += 1;
            }
            written
        });
        for n in 0..100u8 {
            while pipe.is_empty() {
                woken.recv().unwrap();
            }
            assert_eq!(pipe.take().unwrap(), [n; 6][..]);
        }
        drop(pipe);
        let written = job.join().unwrap();
        assert!((100..=102).contains(&written), "{written}");
    }
}
