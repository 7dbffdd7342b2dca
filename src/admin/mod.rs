//! The server commands: each a function and a row, one file a group.

use crate::cmd::Row;
use crate::exec::ServerFn;

/// The rows of every server command.
pub fn rows() -> impl Iterator<Item = &'static Row<ServerFn>> {
    [].into_iter()
}
