//! server
pub mod log;
pub mod proc_title;
pub mod process;
pub mod procfs;
pub mod syscheck;
