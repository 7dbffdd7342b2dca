//! Programs that look at files while no server runs.

pub mod aof;
mod lines;
pub mod rdb;
