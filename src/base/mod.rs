//! base
pub mod alloc;
