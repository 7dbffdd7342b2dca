//! Sentinel: a few of them watch masters and their replicas, agree when a master is down, and put a replica in its place.
//!
//! ```text
//!            INFO, PING, hello            INFO tells of replicas, hello messages of other Sentinels
//! Sentinel ◀──────────────────▶ master, replicas
//!    ▲  is it down? your vote?
//!    └──────────────────────────▶ other Sentinels
//!
//! PING unanswered ─▶ SDOWN ─ as many as the quorum say so ─▶ ODOWN ─▶ a new epoch, votes ─▶ leader ─▶ failover
//! ```
//! All of it is a machine without sockets, files, clock or processes: [`Sentinel`]. It is told what came over its
//! connections and what time it is, and keeps a list of what is to be done, in order ([`Action`]). Time is unix time in ms, as
//! the messages that cross machines are compared in it; that it may jump is what TILT is for.
//!
//! - [`instance`]: what is watched, and the links to it; [`addr`]: where it is.
//! - [`wire`]: connections, and whose answer is whose; [`info`]: what INFO tells; [`hello`]: what Sentinels tell each other.
//! - [`tick`]: what is done ten to twenty times a second: reconnect, ask, judge.
//! - [`failover`]: votes, and the way from a dead master to a new one.
//! - [`scripts`]: the programs of the administrator that are called. [`config`]: the directives, and the state that is
//!   written among them: a Sentinel forgets nothing that it has promised.

pub mod addr;
pub mod config;
pub mod failover;
pub mod hello;
pub mod info;
pub mod instance;
pub mod scripts;
pub mod state;
#[cfg(test)]
mod tests;
pub mod tick;
pub mod wire;

pub use instance::{Id, Instance, Kind, Link, LinkId};
pub use state::{Action, ConnId, Facts, Periods, Sentinel, Settings};

/// The channel of the messages that Sentinels tell each other of themselves.
pub const HELLO_CHANNEL: &str = "__sentinel__:hello";
