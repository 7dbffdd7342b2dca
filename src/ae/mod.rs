//! The event loop's machinery, in the shape of Redis's `ae`, on mio: [`reactor`] waits for sockets,
//! [`timer`] keeps deadlines, [`signal`] turns signals into something the loop can read.
//!
//! Nothing here knows Redis: no command, no client, no clock. The loop itself (wait, read, run,
//! before_sleep) is written in `server`, which owns one [`Reactor`] beside the server's state.
pub mod reactor;
pub mod signal;
pub mod timer;

pub use reactor::{Reactor, ReadyEvent, Waker};
pub use signal::Signals;
pub use timer::{TimerId, Timers};

// What a caller needs to name and register a source; everything else of mio stays behind the reactor.
pub use mio::{Interest, Token, event::Source};
