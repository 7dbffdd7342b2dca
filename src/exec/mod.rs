//! How a request becomes a call: look it up, check it, run it, tell the world.
//!
//! [`pipeline`] takes the bytes of a connection apart into commands and fetches their keys ahead;
//! [`gate`] asks whether a command may run now, [`acl`] whether this user may run it, and [`redirect`] whether it is another
//! node's of the cluster ([`slots`]: what becomes of the keys of such a slot, [`bus`]: what a node has beside the machine);
//! [`call`] runs it, measures it and drains the unit of what it changed, which [`propagate`] hands on; [`multi`], [`blocking`], [`pubsub`] and [`notify`]
//! hold what outlives a single command; [`replication`] is the stream and who follows it, [`acks`] those who
//! wait for them; [`migrate`] sends keys to other servers, which [`held`] holds meanwhile; [`link`] has the connections that we open ourselves; [`tracking`] knows who caches which keys; [`scripting`] runs scripts; [`defrag`] closes the holes in memory; [`slowlog`] and [`latency`] remember
//! what took long.

pub mod acks;
pub mod acl;
pub mod aof;
pub mod aside;
pub mod blocking;
pub mod bus;
pub mod call;
pub mod clients;
pub mod conn;
pub mod debugging;
pub mod defrag;
pub mod following;
pub mod gate;
pub mod held;
pub mod inlet;
pub mod io;
pub mod latency;
pub mod link;
pub mod maxmemory;
pub mod migrate;
pub mod multi;
pub mod notify;
pub mod persistence;
pub mod pipe;
pub mod pipeline;
pub mod propagate;
pub mod pubsub;
pub mod redirect;
pub mod replication;
pub mod running;
pub mod scripting;
pub mod sentinel;
pub mod server;
pub mod slots;
pub mod slowlog;
pub mod stats;
pub mod table;
pub mod tracking;
pub mod withheld;

use crate::cmd::ctx::reply_help;
use crate::cmd::fault::{CmdResult, quoted};
use crate::cmd::session::Session;
use crate::cmd::{Args, Fault};
use crate::exec::conn::{Conn, Token};
use crate::exec::io::Io;
use crate::exec::server::Server;
use crate::resp::reply::Reply;

/// The function of a server command.
pub type ServerFn = fn(&mut Call<'_>, Args<'_>) -> CmdResult;

/// What a server command may touch: everything, and who called.
pub struct Call<'a> {
    pub server: &'a mut Server,
    pub io: &'a mut dyn Io,
    /// The caller's connection.
    pub token: Token,
}

impl Call<'_> {
    /// The caller's connection. It exists as long as its command runs.
    pub fn conn(&mut self) -> &mut Conn {
        self.server
            .conns
            .get_mut(self.token)
            .expect("the caller's connection outlives its command")
    }

    /// The caller's session.
    pub fn session(&mut self) -> &mut Session {
        &mut self.conn().session
    }

    /// Where the answer goes.
    pub fn reply(&mut self) -> &mut Reply {
        &mut self.conn().reply
    }

    /// The number of the running command.
    pub fn command(&self) -> table::CommandId {
        self.server.stats.command_under_way.unwrap_or(0)
    }

    /// Keeps argument `at` (the name is 0) of the running command out of the slow log and from monitors.
    pub fn redact(&mut self, at: usize) {
        self.server.slowlog.redacted.push(at);
    }

    /// The error for a subcommand that is not known, or not with so many arguments.
    pub fn wrong_form(&self, args: &Args<'_>) -> Fault {
        let mut text = b"ERR unknown subcommand or wrong number of arguments for '".to_vec();
        let sub = args.argv().get(1).copied().unwrap_or_default();
        text.extend_from_slice(printable(sub));
        text.extend_from_slice(b"'. Try ");
        text.extend_from_slice(&args.name().to_ascii_uppercase());
        text.extend_from_slice(b" HELP.");
        Fault::text(text)
    }

    /// Replies an array of lines: the HELP of a container command.
    pub fn help(&mut self, container: &str, lines: &[&str]) -> CmdResult {
        reply_help(self.reply(), container, lines);
        crate::cmd::DONE
    }
}

/// The error for a subcommand that the container does not have.
pub fn unknown_subcommand(container: &str, sub: &[u8]) -> Fault {
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(printable(sub));
    text.extend_from_slice(format!("'. Try {} HELP.", container.to_uppercase()).as_bytes());
    Fault::text(text)
}

/// What the error for an unknown command quotes of an argument.
fn printable(arg: &[u8]) -> &[u8] {
    quoted(&arg[..arg.len().min(128)])
}
