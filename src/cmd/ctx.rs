//! What a data command sees.

use crate::acl::{Access, Request};
use crate::cmd::keys::Keys;
use crate::cmd::session::Session;
use crate::cmd::spec::FindKeys;
use crate::cmd::unit::Logging;
use crate::config::{Config, NotifyFlags};
use crate::resp::reply::Reply;

/// The parts of the server that a data command may touch, borrowed for one call. Its fields are
/// apart, so that a value found in `keys` can go into `reply` without a copy.
pub struct Ctx<'a> {
    /// The selected database and what belongs to a change of it.
    pub keys: Keys<'a>,
    pub reply: &'a mut Reply,
    pub session: &'a mut Session,
    /// Number of the running command.
    pub command: usize,
}

impl Ctx<'_> {
    /// The configuration.
    pub fn config(&self) -> &Config {
        self.keys.config
    }

    /// Unix time in ms; it stands still while the unit lasts.
    pub fn now_ms(&self) -> u64 {
        self.keys.now_ms
    }

    /// True if the session's user may run this command with these arguments and could read any other key with it.
    /// `find_keys` finds the keys that they name.
    pub fn may_read_every_key(&self, argv: &[&[u8]], find_keys: FindKeys) -> bool {
        let Some(user) = self.session.user().filter(|user| !user.is_unlimited()) else {
            return true;
        };
        let keys = find_keys(argv).unwrap_or_default();
        let keys = || keys.iter().map(|&key| key.into()).collect();
        let request = Request::new(self.command, argv, &keys);
        user.check_with_every_key(&request, Access::READ)
    }

    /// `n` things changed at `key`: counts them, and tells WATCH.
    pub fn changed(&mut self, key: &[u8], n: u64) {
        self.keys.unit.dirty += n;
        self.keys.signal_modified(key);
    }

    /// Keyspace notification `name` for `key` in the selected database.
    pub fn event(&mut self, class: NotifyFlags, name: &'static str, key: &[u8]) {
        self.keys.event(class, name, key);
    }

    /// Logs these commands instead of the running one; call it once for each.
    pub fn log_instead(&mut self, argv: &[&[u8]]) {
        self.keys.unit.logging = Logging::Rewritten;
        self.keys.unit.push(self.keys.index, argv);
    }

    /// Logs nothing for the running command, whatever it changed.
    pub fn log_nothing(&mut self) {
        self.keys.unit.logging = Logging::Rewritten;
    }
}

/// The HELP of a container command: a head, the lines given, and HELP itself.
pub fn reply_help(reply: &mut Reply, container: &str, lines: &[&str]) {
    reply.array(lines.len() + 3);
    reply.status(format!(
        "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for line in lines {
        reply.status(line);
    }
    reply.status("HELP");
    reply.status("    Print this help.");
}
