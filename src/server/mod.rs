//! server
pub mod crash;
pub mod log;
pub mod memtest;
pub mod proc_title;
pub mod process;
pub mod procfs;
pub mod stack;
pub mod syscheck;
pub mod watchdog;
