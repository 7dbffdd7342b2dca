//! Keys and values as the keyspace holds them.
//!
//! Read [`value`] for what there is to hold, [`entry`] for how a key and all that belongs to it lie in one allocation,
//! [`bigstr`] for what is too large for that, [`string`] for the face that string commands see, and [`access`] for the
//! bits that eviction reads.

pub mod access;
pub mod bigstr;
pub mod entry;
pub mod string;
pub mod value;

pub use access::AccessClock;
pub use entry::Entry;
pub use string::Str;
pub use value::{Encoding, Heap, HeapMut, Type, Value, ValueRef, WrongType};
