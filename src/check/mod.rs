//! Programs that look at files while no server runs.

pub mod rdb;
