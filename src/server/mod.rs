//! The server: its state, what it does each turn, and the process around it.

pub mod aof;
pub mod before_sleep;
pub mod bio;
pub mod boot;
pub mod bus;
pub mod crash;
pub mod cron;
pub mod debugging;
pub mod disk;
pub mod drive;
pub mod failover;
pub mod follow;
pub mod full_sync;
pub mod load;
pub mod log;
pub mod machine;
pub mod memtest;
pub mod net;
pub mod os;
pub mod proc_title;
pub mod process;
pub mod procfs;
pub mod programs;
pub mod receive;
pub mod replicas;
pub mod report;
pub mod save;
pub mod sentinel;
pub mod shutdown;
pub mod stack;
pub mod syscheck;
pub mod test_disk;
pub mod test_io;
#[cfg(test)]
mod tests;
pub mod watchdog;
