//! Small things that everything else stands on, one concept a file; none knows a key, a client or a socket.
pub mod alloc;
pub mod checksum;
pub mod collate;
pub mod double;
pub mod equal;
pub mod errno;
pub mod geohash;
pub mod glob;
pub mod histogram;
pub mod longdouble;
pub mod lzf;
pub mod number;
pub mod pace;
pub mod partial_sort;
pub mod quoted;
pub mod rng;
pub mod time;
