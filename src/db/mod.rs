//! db
pub mod evict;
pub mod expire;
pub mod keyspace;
pub mod watch;
