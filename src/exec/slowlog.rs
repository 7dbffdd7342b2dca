//! The slow log: commands that took longer than `slowlog-log-slower-than`, the newest first.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::cmd::Args;
use crate::exec::conn::Token;
use crate::exec::server::Server;
use crate::exec::table::CommandId;

/// Arguments that an entry keeps; the last one then says how many more there were.
const ARGC_MAX: usize = 32;
/// Bytes of an argument that an entry keeps.
const ARG_BYTES_MAX: usize = 128;

/// A slow command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: u64,
    /// Unix time in seconds when it had run.
    pub at_s: u64,
    pub us: u64,
    pub args: Vec<Vec<u8>>,
    pub peer: String,
    pub name: Bytes,
}

/// See the head of the file.
#[derive(Debug, Default)]
pub struct SlowLog {
    pub entries: VecDeque<Entry>,
    next_id: u64,
    /// Arguments of the running command that nobody may read later.
    pub redacted: Vec<usize>,
}

impl SlowLog {
    /// The arguments with what was redacted replaced.
    pub fn readable<'a>(&self, argv: &[&'a [u8]]) -> Vec<&'a [u8]> {
        let mut argv = argv.to_vec();
        for &at in &self.redacted {
            if let Some(arg) = argv.get_mut(at) {
                *arg = b"(redacted)";
            }
        }
        argv
    }

    /// Drops the oldest beyond `max`.
    pub fn trim(&mut self, max: usize) {
        self.entries.truncate(max);
    }
}

impl Server {
    /// Remembers a slow command, unless its row says never to (AUTH, EXEC ...).
    pub fn slowlog_push(&mut self, token: Token, id: CommandId, args: &Args<'_>, us: u64) {
        if self
            .table
            .get(id)
            .flags
            .has(crate::cmd::spec::Flags::SKIP_SLOWLOG)
        {
            return;
        }
        // What a script calls is told of who called the script.
        let Some(conn) = self.conns.get(self.external(token)) else {
            return;
        };
        let entry = Entry {
            id: self.slowlog.next_id,
            at_s: self.now.s(),
            us,
            args: shorten(&self.slowlog.readable(args.argv())),
            peer: conn.peer.addr.clone(),
            name: conn.session.name.clone(),
        };
        self.slowlog.next_id += 1;
        self.slowlog.entries.push_front(entry);
        self.slowlog.trim(self.config.slowlog_max_len);
    }
}

fn shorten(argv: &[&[u8]]) -> Vec<Vec<u8>> {
    let kept = if argv.len() > ARGC_MAX {
        ARGC_MAX - 1
    } else {
        argv.len()
    };
    let mut args: Vec<Vec<u8>> = argv[..kept].iter().map(|a| shorten_arg(a)).collect();
    if kept < argv.len() {
        args.push(format!("... ({} more arguments)", argv.len() - kept).into_bytes());
    }
    args
}

fn shorten_arg(arg: &[u8]) -> Vec<u8> {
    if arg.len() <= ARG_BYTES_MAX {
        return arg.to_vec();
    }
    let mut text = arg[..ARG_BYTES_MAX].to_vec();
    text.extend_from_slice(format!("... ({} more bytes)", arg.len() - ARG_BYTES_MAX).as_bytes());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_told_in_short() {
        let long = [b'x'; 200];
        let argv: Vec<&[u8]> = std::iter::repeat_n(&long[..], 40).collect();
        let short = shorten(&argv);
        assert_eq!(short.len(), 32);
        assert_eq!(short[31], b"... (9 more arguments)");
        assert!(short[0].ends_with(b"... (72 more bytes)"));
        assert_eq!(shorten(&argv[..32]).len(), 32);
    }
}
