//! base
pub mod alloc;
pub mod errno;
