//! The cluster: nodes that share out 16384 slots of keys, watch each other, and put a replica in a dead master's place.
//!
//! ```text
//!              PING / PONG: who I am, what I have, what I hear of others (gossip)
//! node A ◀────────────────────────────────────────────────────────────────────▶ node B
//!    │ no PONG for the node timeout ─▶ PFAIL ─ most masters say so ─▶ FAIL, told to all
//!    └ a master has FAILed ─▶ its replicas ask the masters for votes ─▶ one takes the slots with a new epoch
//! ```
//! All of it is a machine without sockets, files, clock or keys: [`Cluster`]. It is told what came over its connections and
//! what time it is, and keeps a list of what is to be done, in order ([`Action`]). Who has a slot is decided by epochs: the
//! claim with the greatest wins, and an epoch is claimed by one master only. Time is unix time in ms, as it crosses machines.
//!
//! - [`node`]: what is known of a node; [`slotset`]: a set of slots; [`state`]: all of it, and what others ask.
//! - [`wire`]: the messages as bytes; [`links`]: the connections; [`gossip`]: what nodes tell of each other.
//! - [`receive`]: what is made of a message; [`slots`]: who has which, and whether the cluster serves.
//! - [`tick`]: what is done ten times a second; [`failover`]: elections, failovers by hand, replicas that move.
//! - [`orders`]: what an administrator asks; [`conf`]: the state as text, in the file and for CLUSTER NODES.

pub mod conf;
pub mod failover;
pub mod gossip;
pub mod links;
pub mod node;
pub mod orders;
pub mod receive;
pub mod slots;
pub mod slotset;
pub mod state;
#[cfg(test)]
mod tests;
pub mod tick;
pub mod wire;

pub use links::{ConnId, Link};
pub use node::{Flags, Id, Name, Node};
pub use orders::{How, SetSlot};
pub use state::{Action, Cluster, Endpoint, Facts, Settings};
