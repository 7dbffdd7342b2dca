//! Containers that know no key, no client and no clock. Each that can grow is a tree of counted chunks,
//! so that a clone of it is a snapshot (`cow`), and shows its blocks to who moves them (`defrag`).
pub mod bits;
pub mod cow;
pub mod defrag;
pub mod dict;
pub mod hyperloglog;
pub mod intset;
pub mod listpack;
pub mod member;
pub mod quicklist;
pub mod stream;
pub mod tree;
pub mod zset;
