//! TLS: what stands between a socket and the bytes that are meant. The protocol itself is a library's work (`rustls`); here
//! is what Redis's directives mean to it.
//!
//! Read in this order: [`context`](self) makes of the configuration what all connections share; `files` reads certificates
//! and keys, `ciphers` knows OpenSSL's names, `verify` says whom to believe (and `der` what it must know of a certificate),
//! `cache` keeps sessions that may be resumed. A [`Session`] is one connection's side, without its socket; a
//! [`Line`] has a socket, and speaks TLS or does not. `caller` is the
//! same for the client programs.

mod cache;
mod caller;
mod ciphers;
mod context;
mod der;
mod files;
mod line;
mod session;
mod verify;

pub use caller::{Caller, Options};
pub use context::Context;
pub use line::Line;
pub use session::{Room, Session, Stream};
