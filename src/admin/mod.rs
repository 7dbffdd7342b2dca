//! The server commands: each a function and a row, one file a group.
//!
//! A server command sees a [`Call`](crate::exec::Call): the whole server, the second door to the
//! outside, and who called. [`rows`] lists them all; `exec/table.rs` joins them with the data
//! commands.

pub mod config;
pub mod debug;
pub mod digest;
pub mod info;
pub mod keyspace;
pub mod latency;
pub mod lolwut;
pub mod memory;
pub mod server;
pub mod slowlog;
pub mod sparkline;

use crate::cmd::Row;
use crate::exec::ServerFn;
use crate::exec::table::Table;

/// The rows of every server command.
pub fn rows() -> impl Iterator<Item = &'static Row<ServerFn>> {
    [
        config::ROWS,
        debug::ROWS,
        info::ROWS,
        keyspace::ROWS,
        latency::ROWS,
        lolwut::ROWS,
        memory::ROWS,
        server::ROWS,
        slowlog::ROWS,
    ]
    .into_iter()
    .flatten()
}

/// The table of all commands.
pub fn table() -> Table {
    Table::new(rows())
}
