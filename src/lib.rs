//! Redstart: Redis in Rust.
pub mod admin;
pub mod ae;
pub mod base;
pub mod cmd;
pub mod config;
pub mod db;
pub mod ds;
pub mod exec;
pub mod object;
pub mod resp;
pub mod server;
