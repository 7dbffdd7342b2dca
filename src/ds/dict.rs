//! The dict. The record contract comes first.
#[allow(dead_code, reason = "its users follow with the table")]
mod record;
pub use record::{Handle, HashKey, Record, prefetch_read};
