//! Replication as state machines: what a master and a replica know of each other, without a socket, a clock or a file.
//!
//! # The stream
//! Everything that changes the data of a master is one long stream of commands, and a place in it is a number: how many
//! bytes came before. A *replication ID* names the stream. Who knows both has said all of its data: a replica that comes
//! back with an ID and an offset gets the bytes that it lacks, if they are still there, and all data otherwise.
//!
//! ```text
//! replica                                 master
//! PING, AUTH, REPLCONF ...             >
//! PSYNC <id> <first byte it lacks>     >
//!                                      <  +CONTINUE <id>                       the bytes follow
//!                                      <  +FULLRESYNC <id> <offset>
//!                                      <  $<length> or $EOF:<mark>, the data   what came meanwhile follows
//! REPLCONF ACK <offset>, every second  >
//! ```
//! # Reading order
//! [`backlog`] keeps the end of the stream in blocks, once for all who read it. [`history`] says which stream that is, and
//! who may go on with it. [`master`] is the side that gives, [`replica`] the one that takes.
//!
//! Offsets are signed, as they are on the wire, where -1 means none.

pub mod backlog;
pub mod history;
pub mod master;
pub mod replica;
