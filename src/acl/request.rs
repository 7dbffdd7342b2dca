//! What is asked of a user's rights, and what the answer is when it is no.

use std::cell::OnceCell;

/// What is done with a key: read, written, or both.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Access(u8);

impl Access {
    pub const NONE: Access = Access(0);
    pub const READ: Access = Access(1);
    pub const WRITE: Access = Access(2);
    pub const BOTH: Access = Access(3);

    /// Both together.
    pub const fn and(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }

    /// True if it has all of `other`.
    pub const fn covers(self, other: Access) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A key among the arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyUse {
    /// Which argument it is; the command's name is 0.
    pub at: usize,
    pub access: Access,
}

/// Where the channels stand that a command sends to or subscribes to: they begin with the first argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Channels {
    /// Only the first one is a channel, not all.
    pub one: bool,
    /// They are patterns of channels.
    pub patterns: bool,
}

/// A command with its arguments, as rights are asked for it.
pub struct Request<'a> {
    pub command: usize,
    /// Everybody may call it (AUTH, HELLO ...).
    pub free: bool,
    pub argv: &'a [&'a [u8]],
    pub channels: Option<Channels>,
    /// Finds the keys; asked at most once, and only if a selector wants to know.
    find_keys: &'a dyn Fn() -> Vec<KeyUse>,
    keys: OnceCell<Vec<KeyUse>>,
}

impl<'a> Request<'a> {
    /// A request for a command that is not free and knows no channels.
    pub fn new(
        command: usize,
        argv: &'a [&'a [u8]],
        find_keys: &'a dyn Fn() -> Vec<KeyUse>,
    ) -> Request<'a> {
        Request {
            command,
            free: false,
            argv,
            channels: None,
            find_keys,
            keys: OnceCell::new(),
        }
    }

    /// The keys that it names.
    pub(super) fn keys(&self) -> &[KeyUse] {
        self.keys.get_or_init(self.find_keys)
    }

    /// The channels that it names: which arguments they are.
    pub(super) fn channel_args(&self) -> std::ops::Range<usize> {
        match self.channels {
            None => 0..0,
            Some(channels) if channels.one => 1..self.argv.len().min(2),
            Some(_) => 1..self.argv.len().max(1),
        }
    }
}

/// What a user lacks. The order is Redis's: of several selectors' refusals the greatest is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    Command,
    Key,
    /// Not a right, but a login that failed.
    Auth,
    Channel,
}

impl Reason {
    /// Its name in ACL LOG.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Auth => "auth",
            Reason::Channel => "channel",
        }
    }
}

/// A refusal: what was lacking, and for which argument (0 for the command itself).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Denied {
    pub reason: Reason,
    pub at: usize,
}

impl Denied {
    /// What the client is told, without the code before it. `named`: the key or the channel is named, too.
    pub fn text(self, user: &[u8], command: &str, argv: &[&[u8]], named: bool) -> Vec<u8> {
        let what = match self.reason {
            Reason::Channel => "channel",
            _ => "key",
        };
        match self.reason {
            Reason::Command | Reason::Auth => [
                b"User ",
                user,
                b" has no permissions to run the '",
                command.as_bytes(),
                b"' command",
            ]
            .concat(),
            _ if !named => format!("No permissions to access a {what}").into_bytes(),
            _ => [
                b"User ",
                user,
                b" has no permissions to access the '",
                argv.get(self.at).copied().unwrap_or_default(),
                b"' ",
                what.as_bytes(),
            ]
            .concat(),
        }
    }

    /// What it has in ACL LOG for its object: the command, the key or the channel.
    pub fn object<'a>(self, command: &'a str, argv: &[&'a [u8]]) -> &'a [u8] {
        match self.reason {
            Reason::Command => command.as_bytes(),
            _ => argv.get(self.at).copied().unwrap_or_default(),
        }
    }
}
