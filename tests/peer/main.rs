//! Our server beside the real one: the same bytes to both, the same replies from both.
//!
//! The peer is Debian's `redis-server`; `REDSTART_PEER` names another (a 7.2 finds no excuse in the list of
//! what changed since 7.0), `REDSTART_SUBJECT` another server in our place, and `REDSTART_SEED` the seed of
//! an earlier run. A difference prints the seed, the command and both replies; `REDSTART_ALL` prints more than the
//! first of each command.

mod aof;
mod cluster;
mod clusters;
mod compare;
mod coverage;
mod debugger;
mod generate;
mod limits;
mod manager;
mod masters;
#[allow(dead_code, reason = "likewise")]
#[path = "../wire/members.rs"]
mod members;
mod migrate;
#[allow(dead_code, reason = "each test program uses a part of it")]
#[path = "../wire/node.rs"]
mod node;
mod numbers;
mod pair;
mod programs;
mod propagate;
mod protocol;
#[allow(dead_code, reason = "likewise")]
#[path = "../wire/proxy.rs"]
mod proxy;
mod random;
mod rdb;
mod replicas;
mod scenes;
mod scripts;
mod settings;
mod tracking;
mod typed;
mod types;
mod users;
mod words;
