//! AOF: the append only file, a log of every command that changed something. Who runs them again has the data again.
//!
//! # The files
//! A log that is only appended to grows for ever, so now and then it is rewritten: the data of that moment take the place of
//! all commands before. Hence there are several files in one directory (`appenddirname`), and one more that lists them, the
//! [`manifest`]:
//!
//! ```text
//! appendonly.aof.1.base.rdb    the data at the last rewrite: an RDB file, or commands
//! appendonly.aof.1.incr.aof    what was done since; a rewrite that is going on, or that failed, leaves more than one
//! appendonly.aof.2.incr.aof
//! appendonly.aof.manifest
//! ```
//! Before Redis 7.0 it was one file, which might begin with an RDB file and go on with commands (a *preamble*).
//!
//! # A log
//! ```text
//! #TS:1700000000\r\n                                the time, if `aof-timestamp-enabled`; at most once a second
//! *2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n                 the database of what follows
//! *3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n         commands, as a client sends them; transactions in MULTI and EXEC
//! ```
//! [`reader`] reads one. A crash may cut it anywhere, and then what is whole counts. [`rewrite`] writes the data of a moment as
//! one, for a base that is no RDB file (`aof-use-rdb-preamble no`).

pub mod manifest;
pub mod reader;
pub mod rewrite;
