//! Configuration: a directive is a row.
//!
//! `table` lists every directive of Redis once, with its type, bounds, default and flags; the rest reads
//! the table. `parse` turns the text of a file into a [`Config`], `cmdline` turns a command line into such
//! a text, `set` is CONFIG SET and GET, `rewrite` is CONFIG REWRITE, all of them pure; `file` alone
//! touches the disk.

use std::path::PathBuf;

mod absent;
mod check;
pub mod cmdline;
pub mod file;
pub mod host;
pub mod parse;
pub mod rewrite;
pub mod set;
mod special;
mod table;
pub mod template;
#[cfg(test)]
mod tests;
pub mod types;
mod units;

pub use table::{Config, ROWS};
pub use types::*;
pub use units::parse_memory;

/// Clients get at least this much, or a wrong setting would lock everyone out.
const CLIENT_MEMORY_MIN: usize = 128 * 1024;

impl Config {
    /// The bytes that all clients' buffers may take together, 0 for no limit: `maxmemory-clients`, whose
    /// percents are of `maxmemory`.
    pub fn client_memory_limit(&self) -> usize {
        let limit = match usize::try_from(self.maxmemory_clients) {
            Ok(0) => return 0,
            Ok(bytes) => bytes,
            Err(_) if self.maxmemory == 0 => return 0,
            Err(_) => {
                let percent = self.maxmemory_clients.unsigned_abs() as u128;
                usize::try_from(self.maxmemory as u128 * percent / 100).unwrap_or(usize::MAX)
            }
        };
        limit.max(CLIENT_MEMORY_MIN)
    }

    /// Where the RDB file is, `dbfilename` in `dir`. An empty name stands for no file: no path, so that opening it
    /// finds nothing and nothing can be moved there.
    pub fn rdb_path(&self) -> PathBuf {
        match self.dbfilename.is_empty() {
            true => PathBuf::new(),
            false => self.dir.as_path().join(self.dbfilename.as_path()),
        }
    }
}

/// The row whose name or alias is `name`, in any case.
pub fn lookup(name: &[u8]) -> Option<&'static Row> {
    ROWS.iter().find(|row| {
        row.name.as_bytes().eq_ignore_ascii_case(name)
            || row
                .alias
                .is_some_and(|alias| alias.as_bytes().eq_ignore_ascii_case(name))
    })
}
