//! The data commands: each a function and a row, one file a group.
//!
//! A data command sees a [`Ctx`] (the keys, the session, the reply, the configuration) and its
//! [`Args`], and gives a [`CmdResult`]. It knows no socket, no file, no clock and no server.
//! [`rows`] lists them all; `exec/table.rs` joins them with the server commands.

pub mod args;
pub mod ctx;
pub mod fault;
pub mod keys;
pub mod session;
pub mod spec;
pub mod unit;

pub use args::{Args, is_word};
pub use ctx::Ctx;
pub use fault::{Block, CmdResult, DONE, Fault, Flow};
pub use session::Session;
pub use spec::Row;

/// The function of a data command.
pub type DataFn = fn(&mut Ctx<'_>, Args<'_>) -> CmdResult;

/// The rows of every data command.
pub fn rows() -> impl Iterator<Item = &'static Row<DataFn>> {
    [].into_iter()
}
