//! server
pub mod log;
