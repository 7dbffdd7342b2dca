//! Bytes on their way from the loop to a job: the data of a full sync.
//!
//! The loop puts pieces in and never waits; the job waits for the next one. When more lies in the inlet than was agreed, the
//! loop is told so and reads no more of the link until the job has caught up, of which it is woken. So memory does not
//! grow with what a fast master sends.
//!
//! Beside the bytes lies the data of before, if the job is to decide when it goes: whoever takes it first has it.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};

use crate::db::keyspace::Databases;
use crate::exec::pipe::Wake;

/// How the bytes end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Broken,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    end: Option<End>,
    /// The loop waits for room.
    stalled: bool,
    before: Option<Databases>,
}

/// The loop's end, and what both share.
pub struct Inlet {
    state: Mutex<State>,
    arrived: Condvar,
    wake: Wake,
    most: usize,
}

/// The job's end.
pub struct Outlet {
    inlet: Arc<Inlet>,
    piece: Bytes,
}

impl Inlet {
    /// An inlet that is full from about `most` bytes on; `wake` is called when there is room again.
    pub fn new(most: usize, wake: Wake) -> Arc<Inlet> {
        Arc::new(Inlet {
            state: Mutex::default(),
            arrived: Condvar::new(),
            wake,
            most,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a piece in. True if it is full now.
    pub fn put(&self, piece: Bytes) -> bool {
        let mut state = self.lock();
        state.bytes += piece.len();
        state.pieces.push_back(piece);
        state.stalled = state.bytes >= self.most;
        self.arrived.notify_one();
        state.stalled
    }

    /// True if the loop need not wait (any more).
    pub fn has_room(&self) -> bool {
        !self.lock().stalled
    }

    /// That was all.
    pub fn finish(&self) {
        self.end(End::Whole);
    }

    /// No more will come: who reads fails.
    pub fn break_off(&self) {
        self.end(End::Broken);
    }

    fn end(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(end);
        }
        self.arrived.notify_one();
    }

    /// True once nobody has to wait for more.
    pub fn has_ended(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Leaves the data of before with the bytes.
    pub fn leave_before(&self, before: Databases) {
        self.lock().before = Some(before);
    }

    /// Takes it, if it is still there.
    pub fn take_before(&self) -> Option<Databases> {
        self.lock().before.take()
    }
}

impl Outlet {
    /// The end that reads.
    pub fn of(inlet: Arc<Inlet>) -> Outlet {
        Outlet {
            inlet,
            piece: Bytes::new(),
        }
    }

    /// The next piece, once it is there; `None` if that was all.
    pub fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        if !self.piece.is_empty() {
            return Ok(Some(std::mem::take(&mut self.piece)));
        }
        let mut state = self.inlet.lock();
        loop {
            if state.end == Some(End::Broken) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if let Some(piece) = state.pieces.pop_front() {
                state.bytes -= piece.len();
                let room = state.stalled && state.bytes <= self.inlet.most / 2;
                if room {
                    state.stalled = false;
                    drop(state);
                    (self.inlet.wake)();
                }
                return Ok(Some(piece));
            }
            if state.end.is_some() {
                return Ok(None);
            }
            state = (self.inlet.arrived.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Read for Outlet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.next_piece()? {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let n = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_full_inlet_says_so_and_tells_when_there_is_room() {
        let (woken_in, woken) = mpsc::channel();
        let inlet = Inlet::new(10, Box::new(move || woken_in.send(()).unwrap_or(())));
        let mut outlet = Outlet::of(inlet.clone());
        assert!(!inlet.put(Bytes::from("12345")));
        assert!(inlet.put(Bytes::from("67890")));
        assert!(!inlet.has_room() && woken.try_recv().is_err());
        let mut got = [0; 3];
        assert_eq!(outlet.read(&mut got).unwrap(), 3);
        assert!(inlet.has_room() && woken.try_recv().is_ok());
        let job = std::thread::spawn(move || {
            let mut rest = String::new();
            outlet.read_to_string(&mut rest).map(|_| rest)
        });
        inlet.put(Bytes::from("abc"));
        inlet.finish();
        assert_eq!(job.join().unwrap().unwrap(), "4567890abc");
    }

    #[test]
    fn one_that_breaks_off_fails_even_if_something_is_left() {
        let inlet = Inlet::new(10, Box::new(|| ()));
        let mut outlet = Outlet::of(inlet.clone());
        inlet.put(Bytes::from("1"));
        inlet.break_off();
        inlet.finish();
        assert!(outlet.read(&mut [0; 9]).is_err() && inlet.has_ended());
    }
}
