//! Keys and values as the keyspace holds them.
//!
//! Read [`value`] for what there is to hold, [`entry`] for how a key and all that belongs to it lie in one allocation,
//! [`bigstr`] for what is too large for that, [`string`] for the face that string commands see, [`list`], [`set`], [`zset`],
//! [`hash`] and [`stream`] for those of the containers, and [`access`] for the
//! bits that eviction reads.

pub mod access;
pub mod bigstr;
pub mod entry;
pub mod hash;
pub mod list;
pub mod set;
pub mod stream;
pub mod string;
pub mod table;
pub mod value;
pub mod zset;

pub use access::AccessClock;
pub use entry::Entry;
pub use hash::Hash;
pub use list::List;
pub use set::Set;
pub use stream::Stream;
pub use string::Str;
pub use value::{Compact, Container, Encoding, Heap, Type, Value, ValueRef, WrongType};
pub use zset::Zset;
