//! The databases: what is done with keys whatever they hold.
//!
//! Read [`keyspace`] first. [`expire`] and [`evict`] decide which keys go when their time or the memory is over, [`scan`]
//! what SCAN and its kin were asked for, [`watch`] keeps who is to hear of a change, [`snapshot`] is what a save works on,
//! [`own_ttls`] is for replicas that take writes, [`defrag`] moves what lies on pages that are nearly empty.

pub mod defrag;
pub mod evict;
pub mod expire;
pub mod keyspace;
pub mod own_ttls;
pub mod scan;
pub mod snapshot;
pub mod watch;
