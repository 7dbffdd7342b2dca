//! The server commands: each a function and a row, one file a group.

pub mod config;

use crate::cmd::Row;
use crate::exec::ServerFn;

/// The rows of every server command.
pub fn rows() -> impl Iterator<Item = &'static Row<ServerFn>> {
    [config::ROWS].into_iter().flatten()
}
