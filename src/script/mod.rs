//! Lua: the interpreter that scripts and functions run in, and what they find there.
//!
//! [`lua`] is the interpreter's stack in words of Rust, [`vm`] an interpreter with its globals, which [`sandbox`] locks.
//! What a script calls is in [`api`]; the server behind it is a [`host::Host`], which `exec/scripting.rs` implements.
//! Replies become values and values replies in [`convert`], errors are told by [`error`]. [`cache`] has the scripts of
//! EVAL, [`library`] the libraries of functions, [`flags`] what both say of themselves. [`cjson`], [`cmsgpack`],
//! [`structs`] and [`bit`] are the libraries that scripts have beside Lua's own; [`dice`] is their chance. [`debugger`] stops a
//! script at its lines, and [`inspect`] shows what it has.

pub mod api;
pub mod bit;
pub mod cache;
pub mod cjson;
pub mod cmsgpack;
pub mod convert;
pub mod debugger;
pub mod dice;
pub mod error;
pub mod flags;
pub mod host;
pub mod inspect;
pub mod library;
pub mod lua;
pub mod sandbox;
pub mod structs;
#[cfg(test)]
mod tests;
pub mod vm;
