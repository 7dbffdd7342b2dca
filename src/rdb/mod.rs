//! RDB: all the data in one file, and single values in DUMP payloads.
//!
//! # The file
//! ```text
//! | "REDIS0011" | aux ... | function ... | database ... | 255 | CRC-64 of all before, 8 bytes LE |
//!
//! database = | 254 index | 251 keys keys-with-expiry | key ... |
//! key      = | 252 ms, 8 bytes LE |  | 248 seconds idle |  | 249 frequency, 1 byte |  | type | key | value |
//!              if it expires            by the policy of eviction, one or none
//! aux      = | 250 name value |          function = | 245 library text |
//! ```
//! Everything is read from the front; what kind of thing comes next is told by one byte, an opcode (from 243 up,
//! [`form`]) or a value's type. The checksum is zero if there is none, and files before version 5 end at the 255.
//!
//! # Lengths and strings
//! ```text
//! 00llllll                       a length below 64
//! 01llllll llllllll              below 16384, the high bits first
//! 10000000 4 bytes BE            below 4 G
//! 10000001 8 bytes BE            any
//! 11000000 1 byte                a string that is this integer, signed; likewise
//! 11000001 2 bytes LE, 11000010 4 bytes LE
//! 11000011 length length bytes   a string in LZF (`base/lzf.rs`): of the compressed bytes, and of the text
//! length bytes                   any other string
//! ```
//!
//! # Values
//! What is small lies in the file as in memory: a listpack, an intset, written as one string. The rest is a count and the
//! elements. Newer versions know more types, older types are never forgotten:
//!
//! ```text
//! type  value                                      written by versions of Redis
//!    0  string                                     all
//!    1  list: count, strings                       to 3.0
//!   10  list: a ziplist                            2.2 to 3.0
//!   14  list: count, ziplists                      3.2 to 6.2
//!   18  list: count, nodes: 1 and a string,        7.0 on
//!       or 2 and a listpack
//!    2  set: count, strings                        all
//!   11  set: an intset                             2.2 on
//!   20  set: a listpack                            7.2 on
//!    3  zset: count, string and double as text     to 3.2
//!    5  zset: count, string and double             4.0 on
//!   12  zset: a ziplist                            2.4 to 6.2
//!   17  zset: a listpack                           7.0 on
//!    4  hash: count, field and value               all
//!    9  hash: a zipmap                             2.2 to 2.4
//!   13  hash: a ziplist                            2.6 to 6.2
//!   16  hash: a listpack                           7.0 on
//!   15  stream (`stream.rs`)                       5.0 to 6.2
//!   19  the same with first ID and counts          7.0
//!   21  the same with a consumer's active time     7.2
//!    7  a module's value (6: its first form)       4.0 on
//!   22-25  hash whose fields expire                7.4 on
//! ```
//! [`encode`] writes what 7.2 writes (version 11), or what 7.0 can read (version 10). [`decode`] reads them all, up to
//! version 12 and files with the magic `VALKEY080`, as far as the types are known here.
//!
//! # Reading order
//! [`sink`] and [`source`] are the two ends of a file: bytes, lengths, strings. [`encode`] and [`decode`] are files and what
//! follows what in them; [`value`] is how each type becomes one of our containers; [`packed`] the packings of old versions,
//! [`stream`] streams, both ways. [`dump`] is DUMP and RESTORE. Nothing here knows a file, a clock or a client.
//!
//! # Trust
//! A file or a payload may be anything. A reader takes memory as bytes arrive and not as lengths promise, checks every
//! count against what is there, and ends with an error that says where and why ([`source::Error`]).

pub mod decode;
pub mod dump;
pub mod encode;
pub mod form;
mod packed;
mod sink;
mod source;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod value;

pub use decode::{Checksum, Decoder, Doing, Item, Key};
pub use dump::{Dump, WrongFooter, decode_functions, encode_dump, encode_functions, saved_len};
pub use encode::{Format, Info, Replication, Usage, Version, write_file};
pub use sink::{Progress, SaveError, Sink};
pub use source::{Error, Reason};
pub use value::Rules;
