//! What the server knows of its append only file.
//!
//! The operations of finished units gather in a buffer; before the loop sleeps they are written, and made durable as
//! `appendfsync` says. How that is done is in `server/aof`.

use crate::cmd::unit::{Audience, Ops, Selected};

/// Whether there is a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Off,
    On,
    /// It was switched on while the server ran: it counts as a log once its first rewrite is done.
    WaitRewrite,
}

/// See the head of the file.
#[derive(Default)]
pub struct Aof {
    pub state: State,
    /// What is to be written.
    pub buffer: Vec<u8>,
    /// The database that the log has come to.
    pub selected: Selected,
    /// Unix time of the last time stamp in the log, in seconds.
    pub stamped_s: u64,
}

impl Aof {
    /// Takes the operations of a unit. `stamp_s` is the time to note before them, in unix seconds, if it is to be noted.
    pub fn feed(&mut self, ops: &Ops, stamp_s: Option<u64>) {
        if let Some(now_s) = stamp_s
            && now_s > self.stamped_s
        {
            self.stamped_s = now_s;
            self.buffer
                .extend_from_slice(format!("#TS:{now_s}\r\n").as_bytes());
        }
        for op in ops.iter().filter(|op| op.audience == Audience::Everyone) {
            self.selected.append(op, &mut self.buffer);
        }
    }
}
