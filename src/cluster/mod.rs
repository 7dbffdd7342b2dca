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
//! claim with the greatest wins, and an epoch is claimed by one master only.
//!
//! - [`node`]: what is known of a node. [`state`]: the machine's state, and what others ask it.

pub mod links;
pub mod node;
pub mod state;

pub use links::{ConnId, InboundId};
pub use node::{Flags, Id, Name, Node};
pub use state::{Action, Cluster, Down, Facts, Level, Settings};
