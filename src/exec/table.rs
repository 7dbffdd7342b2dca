//! The command table: the rows of `cmd` and `admin` joined, looked up by name.
//!
//! Names are looked up for every command of every request, so the index is a plain open table
//! over the first eight bytes of the lower-cased name; a second look compares the name itself.
//! Subcommands are found through their container. `rename-command` changes the names that the
//! index knows, never the rows.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::acl::{Channels, Commands};
use crate::base::number;
use crate::cmd::spec::{Acl, Begin, Find, Flags, KeyFlags, KeyRef, KeySpec, Spec};
use crate::cmd::{self, DataFn, Row};
use crate::exec::ServerFn;

/// What runs when the command is called.
#[derive(Clone, Copy)]
pub enum Run {
    Data(DataFn),
    Server(ServerFn),
    /// Nothing: only its subcommands run.
    Container,
}

/// Number of a command in the table.
pub type CommandId = usize;

/// A command in the table: its row and what follows from it.
pub struct Command {
    pub spec: Spec,
    pub run: Run,
    /// The row's flags and those which the key specs imply.
    pub flags: Flags,
    /// The row's categories and those which the flags imply.
    pub acl: Acl,
    pub parent: Option<CommandId>,
    pub subs: Vec<CommandId>,
    /// Where the keys stand, when it is as simple as that: first, last (negative: from the end),
    /// step. Drives the prefetch of a batch and the old fields of COMMAND INFO.
    pub legacy_keys: Option<(i32, i32, i32)>,
    /// What the gate has to know about it beyond its flags.
    pub needs: Needs,
    /// Which of its arguments are channels.
    pub channels: Option<Channels>,
}

impl Command {
    /// True if it may be called with this many arguments, the name counted.
    pub fn takes(&self, argc: usize) -> bool {
        let arity = self.spec.arity;
        let least = arity.unsigned_abs() as usize;
        if arity > 0 {
            argc == least
        } else {
            argc >= least
        }
    }

    /// Where the keys stand, if that is as simple as [`Command::legacy_keys`]; nowhere if the arguments do not fit.
    #[inline]
    pub fn key_range(&self, argc: usize) -> Option<std::iter::StepBy<std::ops::Range<usize>>> {
        let (first, last, step) = self.legacy_keys?;
        let first = first as usize;
        let end = match last {
            ..0 => (argc + 1).saturating_sub(last.unsigned_abs() as usize),
            _ if last as usize >= argc => first,
            _ => last as usize + 1,
        };
        Some((first..end).step_by(step.max(1) as usize))
    }

    /// True if any of its arguments may be a key.
    pub fn has_keys(&self) -> bool {
        let is_key = |k: &KeySpec| !k.flags.has(KeyFlags::NOT_KEY);
        self.spec.find_keys.is_some() || self.spec.keys.iter().any(is_key)
    }
}

/// Commands that the gate treats in their own way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    Nothing,
    /// Runs at once inside MULTI instead of being queued.
    Transaction,
    Exec,
    /// QUIT and RESET: like [`Needs::Transaction`], and allowed to a subscriber.
    Leave,
    /// Allowed to a RESP2 subscriber.
    Pubsub,
    Ping,
    /// Concerns all keys at once: waits while one is held.
    AllKeys,
    /// Runs a script, which may say itself what it does.
    Script,
}

/// All commands. Made once at the start.
pub struct Table {
    commands: Vec<Command>,
    index: Vec<Slot>,
    names: HashMap<Vec<u8>, CommandId>,
}

const EMPTY: u16 = u16::MAX;

/// True for the words by which a request of HTTP is told. No command answers to them: see the gate.
pub fn is_cross_protocol(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// A place in the index: the first eight bytes of a name and its length, and the command's number.
#[derive(Clone, Copy)]
struct Slot {
    head: u64,
    len: u32,
    id: u16,
}

const NO_SLOT: Slot = Slot {
    head: 0,
    len: 0,
    id: EMPTY,
};

/// Slots of the index: several times the number of commands, so that a probe rarely goes on.
const INDEX_SLOTS: usize = 2048;

impl Table {
    /// Joins the rows of the data commands with those of the server commands.
    pub fn new(server: impl Iterator<Item = &'static Row<ServerFn>>) -> Self {
        let all = Self::all(server);
        Self::build(all.filter(|(spec, _)| !spec.flags.has(Flags::ONLY_SENTINEL)))
    }

    /// The commands of a Sentinel.
    pub fn of_sentinel(server: impl Iterator<Item = &'static Row<ServerFn>>) -> Self {
        let there = Flags::ONLY_SENTINEL.or(Flags::SENTINEL_HAS);
        Self::build(Self::all(server).filter(|(spec, _)| spec.flags.has(there)))
    }

    fn all(
        server: impl Iterator<Item = &'static Row<ServerFn>>,
    ) -> impl Iterator<Item = (Spec, Run)> {
        let data = cmd::rows().map(|r| (r.spec, r.run.map_or(Run::Container, Run::Data)));
        let server = server.map(|r| (r.spec, r.run.map_or(Run::Container, Run::Server)));
        data.chain(server)
    }

    /// Builds a table of the given rows; the tests add rows of their own.
    pub fn build(rows: impl Iterator<Item = (Spec, Run)>) -> Self {
        let mut rows: Vec<_> = rows.collect();
        // Containers come before their subcommands.
        rows.sort_by_key(|(s, _)| s.name);
        let mut table = Table {
            commands: Vec::new(),
            index: vec![NO_SLOT; INDEX_SLOTS],
            names: HashMap::new(),
        };
        for (spec, run) in rows {
            let id = table.commands.len();
            let parent = spec
                .name
                .split_once('|')
                .and_then(|(p, _)| table.names.get(p.as_bytes()).copied());
            assert!(
                parent.is_some() == spec.name.contains('|'),
                "no container for {}",
                spec.name
            );
            table.commands.push(Command {
                flags: implied_flags(&spec),
                acl: implied_acl(&spec),
                parent,
                subs: Vec::new(),
                legacy_keys: legacy_keys(&spec).0,
                needs: needs(spec.name),
                channels: channels(spec.name),
                spec,
                run,
            });
            match parent {
                Some(p) => table.commands[p].subs.push(id),
                None => table.add_name(spec.name.as_bytes(), id),
            }
        }
        table
    }

    fn add_name(&mut self, name: &[u8], id: CommandId) {
        let name = name.to_ascii_lowercase();
        let (head, mut at) = place(&name);
        while self.index[at].id != EMPTY {
            at = (at + 1) % INDEX_SLOTS;
        }
        self.index[at] = Slot {
            head,
            len: name.len() as u32,
            id: id as u16,
        };
        self.names.insert(name, id);
    }

    /// Gives a command another name (`rename-command`); an empty one takes it away. `false`: there
    /// is no such command, or the new name is taken.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> bool {
        let (from, to) = (from.to_ascii_lowercase(), to.to_ascii_lowercase());
        let Some(&id) = self.names.get(&from) else {
            return false;
        };
        if !to.is_empty() && self.names.contains_key(&to) {
            return false;
        }
        self.names.remove(&from);
        if !to.is_empty() {
            self.names.insert(to, id);
        }
        // Renaming happens at the start, a few times: the index is made anew.
        let names: Vec<_> = self.names.drain().collect();
        self.index.fill(NO_SLOT);
        for (name, id) in names {
            if !is_cross_protocol(&name) {
                self.add_name(&name, id);
            }
        }
        true
    }

    /// The command of this name; containers give themselves, not their subcommands.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<CommandId> {
        let (head, mut at) = place(name);
        loop {
            let slot = self.index[at];
            if slot.id == EMPTY {
                return None;
            }
            if slot.head == head && slot.len as usize == name.len() {
                let id = slot.id as usize;
                if name.len() <= 8 {
                    // The head is all of it.
                    return Some(id);
                }
                let known = self.commands[id].spec.name.as_bytes();
                if known.eq_ignore_ascii_case(name) {
                    return Some(id);
                }
                // A renamed command is in the index under a name that is not its row's.
                if let Some(&id) = self.names.get(&name.to_ascii_lowercase()) {
                    return Some(id);
                }
            }
            at = (at + 1) % INDEX_SLOTS;
        }
    }

    /// The command that these arguments call, subcommands resolved.
    #[inline]
    pub fn resolve(&self, argv: &[&[u8]]) -> Resolved {
        let Some(id) = self.find(argv[0]) else {
            return Resolved::Unknown;
        };
        let command = &self.commands[id];
        if command.subs.is_empty() {
            return Resolved::Command(id);
        }
        match argv.get(1) {
            None => Resolved::Command(id),
            Some(sub) => match self.find_sub(id, sub) {
                Some(sub) => Resolved::Command(sub),
                None => Resolved::UnknownSub(id),
            },
        }
    }

    /// The subcommand `name` of a container.
    pub fn find_sub(&self, container: CommandId, name: &[u8]) -> Option<CommandId> {
        let command = &self.commands[container];
        let skip = command.spec.name.len() + 1;
        command
            .subs
            .iter()
            .copied()
            .find(|&s| self.commands[s].spec.name.as_bytes()[skip..].eq_ignore_ascii_case(name))
    }

    /// The command named `name`, or `container|sub` as ACL rules and COMMAND write it.
    pub fn find_full(&self, name: &[u8]) -> Option<CommandId> {
        match name.iter().position(|&b| b == b'|') {
            None => self.find(name),
            Some(at) => self.find_sub(self.find(&name[..at])?, &name[at + 1..]),
        }
    }

    /// The command with this number.
    #[inline]
    pub fn get(&self, id: CommandId) -> &Command {
        &self.commands[id]
    }

    /// All commands, subcommands too, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (CommandId, &Command)> {
        self.commands.iter().enumerate()
    }

    /// How many commands there are, subcommands too.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The names by which clients can call commands now, with their numbers; no subcommands.
    pub fn names(&self) -> impl Iterator<Item = (&[u8], CommandId)> {
        self.names.iter().map(|(n, &id)| (&n[..], id))
    }
}

/// What rules of users have to know. Renaming a command does not change what they say of it.
impl Commands for Table {
    fn count(&self) -> usize {
        self.commands.len()
    }

    fn find(&self, name: &[u8]) -> Option<CommandId> {
        let name = name.to_ascii_lowercase();
        // The rows are in the order of their names.
        let by_name = |c: &Command| c.spec.name.as_bytes().cmp(&name);
        self.commands.binary_search_by(by_name).ok()
    }

    fn name(&self, command: CommandId) -> &str {
        self.commands[command].spec.name
    }

    fn parent(&self, command: CommandId) -> Option<CommandId> {
        self.commands[command].parent
    }

    fn subcommands(&self, command: CommandId) -> &[CommandId] {
        &self.commands[command].subs
    }

    fn category(&self, name: &[u8]) -> Option<u32> {
        let same = |(_, known): &&(Acl, &str)| known.as_bytes().eq_ignore_ascii_case(name);
        Acl::NAMES.iter().find(same).map(|(category, _)| category.0)
    }

    fn categories(&self, command: CommandId) -> u32 {
        self.commands[command].acl.0
    }
}

/// What the first arguments of a request call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolved {
    Command(CommandId),
    Unknown,
    /// The container is known, the subcommand is not.
    UnknownSub(CommandId),
}

/// The first eight bytes of the lower-cased name, and where in the index its search begins.
#[inline]
fn place(name: &[u8]) -> (u64, usize) {
    let head = lower_case(head(name));
    let mixed = (head ^ name.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (head, (mixed >> 53) as usize)
}

/// The first eight bytes, zeros behind a shorter name.
#[inline]
fn head(name: &[u8]) -> u64 {
    if let Some(all) = name.first_chunk() {
        return u64::from_le_bytes(*all);
    }
    if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
        // The two overlap, and where they do they say the same.
        let at = 8 * (name.len() - size_of::<u32>());
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << at;
    }
    name.iter()
        .rev()
        .fold(0, |head, &byte| head << 8 | u64::from(byte))
}

/// Eight bytes with their ASCII capitals made small, all at once.
#[inline]
fn lower_case(bytes: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low = bytes & (0x7f * ONES);
    // The top bit of a byte is set where its low seven bits reach 'A', and where they are beyond 'Z'.
    let from_a = low + (0x80 - u64::from(b'A')) * ONES;
    let beyond_z = low + (0x7f - u64::from(b'Z')) * ONES;
    let capital = (from_a ^ beyond_z) & !bytes & (0x80 * ONES);
    bytes | capital >> 2
}

fn needs(name: &str) -> Needs {
    match name {
        "multi" | "discard" | "watch" => Needs::Transaction,
        "exec" => Needs::Exec,
        "quit" | "reset" => Needs::Leave,
        "ping" => Needs::Ping,
        "eval" | "eval_ro" | "evalsha" | "evalsha_ro" | "fcall" | "fcall_ro" => Needs::Script,
        "flushall" | "flushdb" | "swapdb" | "debug" => Needs::AllKeys,
        "subscribe" | "unsubscribe" | "psubscribe" | "punsubscribe" | "ssubscribe"
        | "sunsubscribe" => Needs::Pubsub,
        _ => Needs::Nothing,
    }
}

/// The channels that a command sends or subscribes to. To unsubscribe is everybody's right.
fn channels(name: &str) -> Option<Channels> {
    let (one, patterns) = match name {
        "publish" | "spublish" => (true, false),
        "subscribe" | "ssubscribe" => (false, false),
        "psubscribe" => (false, true),
        _ => return None,
    };
    Some(Channels { one, patterns })
}

/// The old three numbers of COMMAND INFO (first key, last key from the first or negative from the
/// end, step), and whether they leave keys out.
fn legacy_keys(spec: &Spec) -> (Option<(i32, i32, i32)>, bool) {
    let range = |k: &KeySpec| match (k.begin, k.find) {
        (Begin::Index(first), Find::Range { last, step, .. }) => {
            Some((first, if last >= 0 { first + last } else { last }, step))
        }
        _ => None,
    };
    if let [only] = spec.keys
        && let Some(r) = range(only)
    {
        return (Some(r), only.flags.has(KeyFlags::INCOMPLETE));
    }
    let mut movable = false;
    let mut all: Option<(i32, i32, i32)> = None;
    for k in spec.keys {
        movable |= k.flags.has(KeyFlags::INCOMPLETE);
        match (range(k), all) {
            (Some((first, last, 1)), None) => all = Some((first, last, 1)),
            // Only ranges that touch can be told as one; a last key from the end counts as greatest.
            (Some((first, last, 1)), Some((f, l, _))) if l == first - 1 => {
                all = Some((f, if last < 0 { last } else { l.max(last) }, 1));
            }
            _ => movable = true,
        }
    }
    (all, movable || (all.is_none() && !spec.keys.is_empty()))
}

fn implied_flags(spec: &Spec) -> Flags {
    if legacy_keys(spec).1 {
        spec.flags | Flags::MOVABLE_KEYS
    } else {
        spec.flags
    }
}

fn implied_acl(spec: &Spec) -> Acl {
    let f = spec.flags;
    let mut acl = spec.acl;
    let mut imply = |when: bool, what: Acl| {
        if when {
            acl = acl | what;
        }
    };
    imply(f.has(Flags::WRITE), Acl::WRITE);
    imply(
        f.has(Flags::READONLY) && !spec.acl.has(Acl::SCRIPTING),
        Acl::READ,
    );
    imply(f.has(Flags::ADMIN), Acl::ADMIN | Acl::DANGEROUS);
    imply(f.has(Flags::PUBSUB), Acl::PUBSUB);
    imply(f.has(Flags::FAST), Acl::FAST);
    imply(f.has(Flags::BLOCKING), Acl::BLOCKING);
    imply(!f.has(Flags::FAST), Acl::SLOW);
    acl
}

/// The keys that a command with these arguments names, with what it does to them. `None`: the
/// arguments do not fit the command.
pub fn keys_of(command: &Command, argv: &[&[u8]]) -> Option<Vec<KeyRef>> {
    let real = |k: &&KeySpec| !k.flags.has(KeyFlags::NOT_KEY);
    let has_specs = command.spec.keys.iter().any(|k| real(&k));
    let varies = command
        .spec
        .keys
        .iter()
        .any(|k| k.flags.has(KeyFlags::VARIABLE_FLAGS));
    if has_specs
        && (!varies || command.spec.find_keys.is_none())
        && let Some(keys) = keys_by_specs(command, argv)
    {
        return Some(keys);
    }
    command.spec.find_keys.and_then(|find| find(argv))
}

/// The arguments by whose slots a cluster routes a command: its keys, and the channels of shards. Nothing if the arguments
/// do not fit the command, which will say so itself.
pub fn routed_by(command: &Command, argv: &[&[u8]]) -> SmallVec<[usize; 8]> {
    if let Some(find) = command.spec.find_keys {
        let keys = find(argv).unwrap_or_default();
        return keys.into_iter().map(|key| key.pos).collect();
    }
    match command.key_range(argv.len()) {
        Some(range) => range.collect(),
        None => {
            let keys = keys_by_specs(command, argv).unwrap_or_default();
            keys.into_iter().map(|key| key.pos).collect()
        }
    }
}

fn keys_by_specs(command: &Command, argv: &[&[u8]]) -> Option<Vec<KeyRef>> {
    let n = argv.len() as i64;
    let mut keys = Vec::new();
    for spec in command.spec.keys {
        if spec.flags.has(KeyFlags::NOT_KEY) {
            continue;
        }
        let begin = match spec.begin {
            Begin::Unknown => return None,
            at => match begin_of(at, argv) {
                Some(begin) => begin,
                None => continue,
            },
        };
        let (first, last, step) = match spec.find {
            Find::Range { last, step, limit } => {
                let last = match last {
                    l if l >= 0 => begin + i64::from(l),
                    l if limit == 0 => n + i64::from(l),
                    l => begin + ((n - begin) / i64::from(limit) + i64::from(l)),
                };
                (begin, last, step)
            }
            Find::KeyNum { at, first, step } => {
                let count = argv.get(usize::try_from(begin + i64::from(at)).ok()?)?;
                let count = number::parse_i64(count).filter(|&c| c >= 0 && c < n)?;
                let first = begin + i64::from(first);
                (first, first + count - 1, step)
            }
            Find::Unknown => return None,
        };
        if first >= n || last >= n || last < first || spec.flags.has(KeyFlags::INCOMPLETE) {
            return None;
        }
        let step = usize::try_from(step).unwrap_or(1).max(1);
        keys.extend((first..=last).step_by(step).map(|p| KeyRef {
            pos: p as usize,
            flags: spec.flags,
        }));
    }
    Some(keys)
}

fn begin_of(begin: Begin, argv: &[&[u8]]) -> Option<i64> {
    match begin {
        Begin::Index(i) => Some(i64::from(i)),
        Begin::Keyword(word, from) => {
            let hit = |a: &&[u8]| a.eq_ignore_ascii_case(word.as_bytes());
            let at = if from >= 0 {
                let from = from as usize;
                argv.iter().skip(from).position(&hit).map(|p| p + from)
            } else {
                let end = (argv.len() + 1).checked_sub(from.unsigned_abs() as usize)?;
                argv[..end].iter().rposition(hit).filter(|&p| p > 1)
            };
            at.map(|p| p as i64 + 1)
        }
        Begin::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_no_other() {
        let table = Table::new([].into_iter());
        for (id, c) in table.iter().filter(|(_, c)| c.parent.is_none()) {
            assert_eq!(
                table.find(c.spec.name.to_uppercase().as_bytes()),
                Some(id),
                "{}",
                c.spec.name
            );
            // (An x more makes another command of some: LPUSHX.)
            assert_eq!(
                table.find(format!("{}_", c.spec.name).as_bytes()),
                None,
                "{}",
                c.spec.name
            );
        }
        // As short as a head, and one bit off a letter.
        assert_eq!(table.find(b"G@T"), None);
        assert_eq!(table.find(b"\x07et"), None);
        assert_eq!(table.find(b"get\0"), None);
        for byte in 0..=u8::MAX {
            let bytes = u64::from_le_bytes([byte; 8]);
            let small = u64::from_le_bytes([byte.to_ascii_lowercase(); 8]);
            assert_eq!(lower_case(bytes), small, "{byte}");
        }
        assert_eq!(table.find(b""), None);
        assert_eq!(table.find(b"g\0t"), None);
    }

    #[test]
    fn a_renamed_command_answers_to_its_new_name_only() {
        let mut table = Table::new([].into_iter());
        let get = table.find(b"get").unwrap();
        assert!(table.rename(b"GET", b"fetch-it-please"));
        assert_eq!(table.find(b"get"), None);
        assert_eq!(table.find(b"Fetch-It-Please"), Some(get));
        assert!(!table.rename(b"SET", b"fetch-it-please"));
        assert!(table.rename(b"set", b""));
        assert_eq!(table.find(b"set"), None);
        assert!(!table.rename(b"nosuch", b"x"));
    }
}
