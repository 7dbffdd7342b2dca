//! The server commands: each a function and a row, one file a group.
//!
//! A server command sees a [`Call`](crate::exec::Call): the whole server, the second door to the
//! outside, and who called. [`rows`] lists them all; `exec/table.rs` joins them with the data
//! commands.

pub mod acl;
pub mod client;
pub mod cluster;
pub mod command;
pub mod config;
pub mod connection;
pub mod debug;
pub mod digest;
pub mod dump;
pub mod function;
pub mod info;
pub mod keyspace;
pub mod latency;
pub mod lolwut;
pub mod memory;
pub mod migrate;
pub mod monitor;
pub mod persistence;
pub mod pubsub;
pub mod replicaof;
pub mod replication;
pub mod script;
pub mod sentinel;
pub mod server;
pub mod slowlog;
pub mod sparkline;
pub mod tracking;
pub mod transactions;

use crate::cmd::Row;
use crate::exec::ServerFn;
use crate::exec::table::Table;

/// The rows of every server command.
pub fn rows() -> impl Iterator<Item = &'static Row<ServerFn>> {
    [
        acl::ROWS,
        client::ROWS,
        cluster::ROWS,
        command::ROWS,
        config::ROWS,
        connection::ROWS,
        debug::ROWS,
        dump::ROWS,
        function::ROWS,
        info::ROWS,
        keyspace::ROWS,
        latency::ROWS,
        lolwut::ROWS,
        memory::ROWS,
        migrate::ROWS,
        monitor::ROWS,
        persistence::ROWS,
        pubsub::ROWS,
        replicaof::ROWS,
        replication::ROWS,
        script::ROWS,
        sentinel::ROWS,
        server::ROWS,
        slowlog::ROWS,
        tracking::ROWS,
        transactions::ROWS,
    ]
    .into_iter()
    .flatten()
}

/// The table of all commands.
pub fn table() -> Table {
    Table::new(rows())
}
