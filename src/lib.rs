//! Redstart: Redis in Rust, one thread, no forks.
//!
//! # The tour
//!
//! Follow one command, `SET greeting hello`, from the socket to the table of keys and back. Each
//! stop is a file; read its head first, it tells the mechanism as a story.
//!
//! 1. **The process** begins in [`server::boot`]: command line, configuration ([`config`]: every
//!    directive is a row of one table), log, listening sockets, and then the loop.
//! 2. **The loop** is [`server::drive`]: wait, read, run, and before each sleep the phases of
//!    [`server::before_sleep`]. It waits in [`ae::reactor`], our ae on mio: edges, a ready queue
//!    for those who used up their share of a turn, a waker for other threads.
//! 3. **The socket** is [`server::net`]'s. Bytes are read into one shared buffer and handed to the
//!    server as a slice; nothing below this line knows a socket, a file or a clock.
//! 4. **The request.** [`exec::pipeline`] has [`resp::request`] find the commands in those bytes:
//!    arguments stay where they are, as spans. The keys of the whole batch are hashed, and the cache
//!    lines that their lookups will touch are fetched together.
//! 5. **The gate**, [`exec::gate`], looks `SET` up in [`exec::table`] and asks Redis's questions in
//!    Redis's order: arity, authentication, the user's rights ([`exec::acl`]), memory ([`exec::maxmemory`]), pauses,
//!    transactions ([`exec::multi`]).
//! 6. **The call**, [`exec::call`], takes the server apart into what a data command may see, a
//!    [`cmd::Ctx`], and runs the function that stands beside its row in [`cmd::string`]. A row
//!    ([`cmd::spec`]) is everything about a command but its code: COMMAND, arity, ACL categories,
//!    key positions and the tests' generators all read it.
//! 7. **The keys.** The function asks [`cmd::keys`], where a lookup is more than a lookup: expired
//!    keys go, hits are counted, access bits refreshed, waiting clients woken. Below it,
//!    [`db::keyspace`] holds a database.
//! 8. **The table** is [`ds::dict`]: extendible hashing over segments that split and merge one at a
//!    time, so that no single insert ever rehashes the rest. [`ds::cow`] is why a snapshot is a
//!    clone: who counts one may write, who counts more copies first.
//! 9. **The entry**, [`object::entry`], is one allocation: count, access bits, expiry, key and value
//!    (a big value is a tree of chunks, [`object::bigstr`]). `greeting` and `hello` come to rest here.
//! 10. **The unit.** What changed is gathered in [`cmd::unit`], encoded once, and goes through [`exec::propagate`] to the
//!     log and the replicas; keyspace notifications go out through [`exec::notify`] and [`exec::pubsub`]; whoever waited for the key
//!     is served by [`exec::blocking`].
//! 11. **The reply** was written into [`resp::reply`] as the function ran: `+OK`. Before the loop sleeps, the log is
//!     written ([`server::aof`]), and then one write per connection carries the reply out. Where it has to be durable first,
//!     it waits as [`exec::withheld`] tells, and nobody else with it.
//!
//! **The other types** follow the same way through files of their own. A value is small or large. Small ones are a run
//! of bytes, Redis's own: [`ds::listpack`], [`ds::intset`]. Large ones are trees of counted chunks, so that all that was
//! said of a snapshot holds for them too: a hash or a set is a [`ds::dict`] like the keyspace itself; a list
//! ([`ds::quicklist`]), the order of a sorted set ([`ds::zset`]) and a stream ([`ds::stream`]) are each a [`ds::tree`],
//! whose leaves they define. Which form a value has, and when it changes, its face decides ([`object::list`],
//! [`object::set`], [`object::zset`], [`object::hash`]); the commands in [`cmd`] see only the face. Bitmaps, HyperLogLog
//! ([`ds::hyperloglog`]) and places ([`base::geohash`]) are strings and sorted sets, read in their own way. Commands that
//! wait for what is not there yet are parked by [`exec::blocking`].
//!
//! **Scripts.** EVAL hands its text to an interpreter of [`script`], which knows the server only as a host that runs commands:
//! [`exec::scripting`] lends it out for the call, and what the script calls comes back through the call of stop 6, into
//! the same unit. A script that takes long gives way: it polls the loop from within. One that is debugged
//! ([`script::debugger`]) waits for whoever types, in a server of its own that has a snapshot of the data
//! ([`exec::debugging`]).
//!
//! **The file.** [`rdb`] knows the format that all of this has on disk. [`server::save`] writes it from a snapshot, on
//! another thread while the loop goes on; [`server::load`] reads it into databases of its own, which are then put in
//! place in one swap. Both touch the disk through [`server::disk`]. [`aof`] knows the other one, a log of the commands that
//! changed something, which is several files and a list of them; [`server::aof`] keeps it: writes it, rewrites it from a
//! snapshot so that it does not grow for ever, and runs it again at the start.
//!
//! **The replicas.** What changed is one stream of bytes, of which [`repl::backlog`] keeps the end, once for all who read it;
//! [`repl::history`] says which stream it is and who may go on with it, and [`repl::master`] what is to be done for each of
//! them. Like all of [`repl`] they know no socket and no clock: [`server::replicas`] does what they say. Who needs all data
//! gets a snapshot, straight or through a file: [`server::full_sync`].
//!
//! **The master.** A server may follow another: [`repl::replica`] is the link, [`exec::following`] runs the stream like a
//! client's commands and passes its bytes on to those who follow us, [`server::follow`] ties both to the rest. All data comes
//! first, by way of [`server::receive`]. [`server::failover`] lets the two change places.
//!
//! **Sentinel.** A process may instead watch masters and replicas of others: [`sentinel`] is the machine that judges, votes
//! and fails over, without sockets or a clock like [`repl`]; [`server::sentinel`] does what it says, and
//! `admin/sentinel.rs` has its commands.
//!
//! **The cluster.** Or it shares out its keys with others, slot by slot: [`cluster`] is the machine that knows who has which
//! slot and who is alive, again without sockets or a clock. The table of keys is in the order of slots there
//! ([`db::keyspace`]), and the gate asks one thing more: is this command ours, or another node's ([`exec::redirect`])?
//!
//! **Connections that we open** ourselves are [`exec::link`]s: names are looked up off the loop, sockets connect without
//! holding it, and what comes in goes to the link's owner instead of the parser. [`exec::migrate`] sends keys over one,
//! which [`exec::held`] holds until it is known where they are.
//!
//! **TLS.** A connection may have a [`tls::Session`] between its socket and the bytes that are meant. What the
//! configuration says of certificates and ciphers is a [`tls::Context`]; `server/net/tls.rs` reads and writes through
//! sessions, and leaves the way of plain connections as it is.
//!
//! **Users.** [`acl`] is what users may do: rules as they are written, and the questions that are asked of them. Most
//! connections are the default user's, who may do everything, which is one bit of the session; the others are asked for each
//! command, its keys and its channels. [`exec::acl`] sees to those who are connected when a user changes.
//!
//! **Caches of clients.** [`exec::tracking`] remembers who has read which keys, if they ask for it, and tells them when a
//! key changes.
//!
//! **All of it under faults.** Since nothing below the network knows a socket or a clock, whole servers can live in a test: `tests/sim`
//! runs a handful of them on a time of its own, with a network that delays, cuts and parts them and disks that forget, and
//! holds what each has against what was said. It belongs to the library's own tests, so that it may look into everything. That
//! it would notice a bug is shown by bugs that are planted for it ([`base::planted`]).
//!
//! **The other side.** [`cli`] is redis-cli: it holds a connection, prints what comes back, and looks at a server in a dozen
//! ways; [`cli::cluster`] sets clusters up and moves their slots. [`bench`] is redis-benchmark, which keeps many connections busy. [`check`] looks at files while no server runs.
//!
//! What goes on beside requests: [`server::cron`] runs `hz` times a second, [`db::expire`] finds keys
//! whose time is over without sampling, [`db::evict`] chooses what goes when memory is short,
//! [`server::bio`] does on other threads what has no state to share. The server commands stand in
//! [`admin`], built like the data commands, except that they see the whole server.
//!
//! An import only ever goes down this list or stays on its floor: `base`, `resp`, `ds`, `ae`; `acl`, `object`,
//! `config`, `db`, `rdb`, `aof`; `cmd`; `repl`, `cluster`, `sentinel`; `script`, `exec`, `admin`, `server`, `check`,
//! `cli`, `bench`. `tests/tidy.rs` keeps it so.

pub mod acl;
pub mod admin;
pub mod ae;
pub mod aof;
pub mod base;
pub mod bench;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod cmd;
pub mod config;
pub mod db;
pub mod ds;
pub mod exec;
pub mod object;
pub mod rdb;
pub mod repl;
pub mod resp;
pub mod script;
pub mod sentinel;
pub mod server;
pub mod tls;

#[cfg(test)]
#[path = "../tests/sim/mod.rs"]
mod sim;
