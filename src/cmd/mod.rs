//! The data commands: each a function and a row, one file a group.
//!
//! A data command sees a [`Ctx`] (the keys, the session, the reply, the configuration) and its
//! [`Args`], and gives a [`CmdResult`]. It knows no socket, no file, no clock and no server.
//! [`rows`] lists them all; `exec/table.rs` joins them with the server commands.

pub mod args;
pub mod bitfield;
pub mod bitmap;
pub mod blocking;
pub mod counter;
pub mod ctx;
pub mod expire;
pub mod fault;
pub mod generic;
pub mod geo;
pub mod geosearch;
pub mod hash;
pub mod hyperloglog;
pub mod keys;
pub mod lcs;
pub mod list;
pub mod numkeys;
pub mod object;
pub mod scan;
pub mod session;
pub mod set;
pub mod setops;
pub mod sort;
pub mod spec;
pub mod stream;
pub mod string;
pub mod substring;
pub mod unit;
pub mod zset;

#[cfg(test)]
mod tests;

pub use args::{Args, is_word};
pub use ctx::Ctx;
pub use fault::{Block, CmdResult, DONE, Fault, Flow};
pub use session::Session;
pub use spec::Row;

/// The function of a data command.
pub type DataFn = fn(&mut Ctx<'_>, Args<'_>) -> CmdResult;

/// The rows of every data command.
pub fn rows() -> impl Iterator<Item = &'static Row<DataFn>> {
    let groups = [
        string::ROWS,
        counter::ROWS,
        substring::ROWS,
        lcs::ROWS,
        generic::ROWS,
        expire::ROWS,
        scan::ROWS,
        object::ROWS,
        bitfield::ROWS,
        bitmap::ROWS,
        hash::ROWS,
        hyperloglog::ROWS,
        geo::ROWS,
        geosearch::ROWS,
        list::ROWS,
        list::pop::ROWS,
        set::ROWS,
        setops::ROWS,
        sort::ROWS,
        stream::add::ROWS,
        stream::range::ROWS,
        stream::read::ROWS,
        stream::group::ROWS,
        stream::claim::ROWS,
        stream::info::ROWS,
        zset::ROWS,
        zset::combine::ROWS,
        zset::pop::ROWS,
        zset::range::ROWS,
        zset::sample::ROWS,
    ];
    groups.into_iter().flatten()
}
