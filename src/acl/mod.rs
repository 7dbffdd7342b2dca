//! Users and what they may do: the rules of ACL SETUSER, and the questions that are asked of them.
//!
//! A [`user::User`] has passwords and one or more [`selector::Selector`]s. A selector is a set of rights: which commands,
//! with which keys, in which channels. A request is allowed if any one selector allows all of it; two halves do not
//! make a whole. The first selector is the user's own, the others are the ones in parentheses.
//!
//! Everything here is data and rules. Who is connected as whom, and what happens to them when a user changes, is told in
//! `exec/acl.rs`; the commands stand in `admin/acl.rs`. What the rules have to know of commands comes through
//! [`Commands`], so that this stands below them. The rules are those of <https://redis.io/docs/management/security/acl/>.

pub mod log;
pub mod request;
pub mod rule;
pub mod selector;
pub mod user;
pub mod users;

#[cfg(test)]
mod tests;

pub use request::{Access, Channels, Denied, KeyUse, Reason, Request};
pub use rule::RuleError;
pub use user::User;
pub use users::Users;

/// What rules have to know of commands. A command is known by its number, subcommands have numbers of their own.
pub trait Commands {
    /// One past the greatest number.
    fn count(&self) -> usize;
    /// The command of this name (`container|subcommand` for a subcommand) in any case, by the name that it had before
    /// any `rename-command`.
    fn find(&self, name: &[u8]) -> Option<usize>;
    /// Its full name, in lower case.
    fn name(&self, command: usize) -> &str;
    /// The container that it is a subcommand of.
    fn parent(&self, command: usize) -> Option<usize>;
    /// Its subcommands.
    fn subcommands(&self, command: usize) -> &[usize];
    /// The bit of a category by its name in any case, without the `@`.
    fn category(&self, name: &[u8]) -> Option<u32>;
    /// The bits of the categories that a command is in.
    fn categories(&self, command: usize) -> u32;
}

/// No command at all: rules are read by it where the commands are not known yet.
pub struct NoCommands;

impl Commands for NoCommands {
    fn count(&self) -> usize {
        0
    }
    fn find(&self, _: &[u8]) -> Option<usize> {
        None
    }
    fn name(&self, _: usize) -> &str {
        ""
    }
    fn parent(&self, _: usize) -> Option<usize> {
        None
    }
    fn subcommands(&self, _: usize) -> &[usize] {
        &[]
    }
    fn category(&self, _: &[u8]) -> Option<u32> {
        None
    }
    fn categories(&self, _: usize) -> u32 {
        0
    }
}

/// What rules stand on.
#[derive(Clone, Copy)]
pub struct Basis<'a> {
    pub commands: &'a dyn Commands,
    /// A new selector may use every channel (`acl-pubsub-default allchannels`).
    pub all_channels: bool,
}
