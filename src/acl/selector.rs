//! A selector: a set of rights. Which commands is a bit for each, so that a question costs one look; the rules that
//! set the bits are kept beside them as words, since that is how they are shown and saved.
//!
//! The words are kept short: a rule for a command replaces what was said of it and its subcommands before, and one for
//! all commands everything. What is left, in its order, after `+@all` or `-@all`, makes the same bits again. Which of
//! the two it begins with depends on the last word on all commands: it also says what holds for commands to come.
//!
//! A command without subcommands may be allowed with certain first arguments only (`+select|0`). This is kept apart, as
//! words that are compared.

use std::collections::BTreeMap;

use super::request::{Access, Denied, Reason, Request};
use super::rule::{RuleError, c_text, has_blanks};
use super::{Basis, Commands};
use crate::base::glob;
use crate::base::quoted::{quote_into, split_args};

/// A set of commands by their numbers.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct CommandSet(Vec<u64>);

impl CommandSet {
    fn fill(&mut self, count: usize) {
        self.0 = vec![u64::MAX; count.div_ceil(64)];
    }

    #[inline]
    fn has(&self, command: usize) -> bool {
        let word = self.0.get(command / 64).copied().unwrap_or(0);
        word >> (command % 64) & 1 != 0
    }

    fn set(&mut self, command: usize, on: bool) {
        let word = command / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let bit = 1 << (command % 64);
        if on {
            self.0[word] |= bit;
        } else {
            self.0[word] &= !bit;
        }
    }
}

/// Keys that may be used, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
struct KeyPattern {
    pattern: Vec<u8>,
    access: Access,
}

impl KeyPattern {
    fn word(&self) -> Vec<u8> {
        let sign: &[u8] = match self.access {
            Access::READ => b"%R~",
            Access::WRITE => b"%W~",
            _ => b"~",
        };
        [sign, &self.pattern].concat()
    }
}

/// A rule on commands as it is shown: `+get`, `-@write`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct CommandRule {
    allow: bool,
    /// In lower case.
    name: Vec<u8>,
}

impl CommandRule {
    fn word(&self) -> Vec<u8> {
        let sign: &[u8] = if self.allow { b"+" } else { b"-" };
        [sign, &self.name].concat()
    }
}

/// See the head of the file.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Selector {
    all_keys: bool,
    all_channels: bool,
    /// Every bit of `commands` is set, and was so at once.
    all_commands: bool,
    /// Commands that do not exist yet are allowed.
    future: bool,
    commands: CommandSet,
    rules: Vec<CommandRule>,
    first_args: BTreeMap<usize, Vec<Vec<u8>>>,
    keys: Vec<KeyPattern>,
    channels: Vec<Vec<u8>>,
}

impl Selector {
    /// One that allows nothing, but for the channels that everybody may use.
    pub fn new(all_channels: bool) -> Selector {
        Selector {
            all_channels,
            ..Selector::default()
        }
    }

    /// The selector that the words between parentheses describe.
    pub fn parse(text: &[u8], basis: Basis<'_>) -> Result<Selector, RuleError> {
        let mut selector = Selector::new(basis.all_channels);
        for word in split_args(text).unwrap_or_default() {
            selector.set(&word, basis.commands)?;
        }
        Ok(selector)
    }

    /// Applies a rule.
    pub fn set(&mut self, rule: &[u8], commands: &dyn Commands) -> Result<(), RuleError> {
        let word = c_text(rule);
        match word.to_ascii_lowercase().as_slice() {
            b"allkeys" | b"~*" => self.set_all_keys(true),
            b"resetkeys" => self.set_all_keys(false),
            b"allchannels" | b"&*" => self.set_all_channels(true),
            b"resetchannels" => self.set_all_channels(false),
            b"allcommands" | b"+@all" => self.set_all_commands(true, commands),
            b"nocommands" | b"-@all" => self.set_all_commands(false, commands),
            _ => match word {
                [b'~' | b'%', ..] => self.add_key_pattern(rule)?,
                [b'&', ..] => self.add_channel(&rule[1..])?,
                [sign @ (b'+' | b'-'), b'@', name @ ..] => {
                    self.set_category(name, *sign == b'+', commands)?;
                }
                [b'+', name @ ..] => self.allow(name, commands)?,
                [b'-', name @ ..] => {
                    let command = commands.find(name).ok_or(RuleError::UnknownCommand)?;
                    self.set_command(command, false, commands);
                    self.note_rule(commands.name(command).as_bytes(), false);
                }
                _ => return Err(RuleError::Syntax),
            },
        }
        Ok(())
    }

    fn set_all_keys(&mut self, all: bool) {
        self.all_keys = all;
        self.keys.clear();
    }

    fn set_all_channels(&mut self, all: bool) {
        self.all_channels = all;
        self.channels.clear();
    }

    fn set_all_commands(&mut self, all: bool, commands: &dyn Commands) {
        self.all_commands = all;
        self.future = all;
        self.rules.clear();
        self.first_args.clear();
        match all {
            true => self.commands.fill(commands.count()),
            false => self.commands = CommandSet::default(),
        }
    }

    /// `~pattern`, `%R~pattern`, `%W~pattern`, `%RW~pattern`. (Redis takes `%R` for `%R~`.)
    fn add_key_pattern(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::KeyAfterAll);
        }
        let mut access = Access::NONE;
        let mut rest = &rule[1..];
        if rule[0] == b'~' {
            access = Access::BOTH;
        } else {
            loop {
                let adds = match rest.first() {
                    Some(b'R' | b'r') => Access::READ,
                    Some(b'W' | b'w') => Access::WRITE,
                    Some(b'~') if access != Access::NONE => {
                        rest = &rest[1..];
                        break;
                    }
                    None if access != Access::NONE => break,
                    _ => return Err(RuleError::Syntax),
                };
                if access.covers(adds) {
                    return Err(RuleError::Syntax);
                }
                access = access.and(adds);
                rest = &rest[1..];
            }
        }
        if has_blanks(rest) {
            return Err(RuleError::Syntax);
        }
        match self.keys.iter_mut().find(|known| known.pattern == rest) {
            Some(known) => known.access = known.access.and(access),
            None => self.keys.push(KeyPattern {
                pattern: rest.to_vec(),
                access,
            }),
        }
        Ok(())
    }

    fn add_channel(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::ChannelAfterAll);
        }
        if has_blanks(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| known == pattern) {
            self.channels.push(pattern.to_vec());
        }
        Ok(())
    }

    fn set_category(
        &mut self,
        name: &[u8],
        allow: bool,
        commands: &dyn Commands,
    ) -> Result<(), RuleError> {
        let bit = commands.category(name).ok_or(RuleError::UnknownCommand)?;
        self.note_rule(&[b"@", name].concat(), allow);
        for command in 0..commands.count() {
            if commands.categories(command) & bit != 0 {
                self.set_command(command, allow, commands);
            }
        }
        Ok(())
    }

    /// `+command`, `+container|subcommand`, `+command|first-argument`.
    fn allow(&mut self, name: &[u8], commands: &dyn Commands) -> Result<(), RuleError> {
        let find = |name| commands.find(name).ok_or(RuleError::UnknownCommand);
        let Some(bar) = name.iter().rposition(|&byte| byte == b'|') else {
            let command = find(name)?;
            self.set_command(command, true, commands);
            self.note_rule(commands.name(command).as_bytes(), true);
            return Ok(());
        };
        let (command, arg) = (find(&name[..bar])?, &name[bar + 1..]);
        if commands.parent(command).is_some() {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        // What would not be the same word again when the rules are read from a file is refused.
        if arg.is_empty() || has_blanks(arg) || arg.iter().any(|byte| b"\"'".contains(byte)) {
            return Err(RuleError::Syntax);
        }
        if commands.subcommands(command).is_empty() {
            log::warn!(
                "Deprecation warning: Allowing a first arg of an otherwise blocked command is a misuse of ACL and may \
                 get disabled in the future (offender: +{})",
                String::from_utf8_lossy(name)
            );
            let known = self.first_args.entry(command).or_default();
            if !known.iter().any(|k| k.eq_ignore_ascii_case(arg)) {
                known.push(arg.to_vec());
            }
        } else {
            self.set_command(find(name)?, true, commands);
        }
        self.note_rule(name, true);
        Ok(())
    }

    /// Allows or forbids a command with all its subcommands.
    fn set_command(&mut self, command: usize, allow: bool, commands: &dyn Commands) {
        self.commands.set(command, allow);
        self.first_args.remove(&command);
        for &sub in commands.subcommands(command) {
            self.commands.set(sub, allow);
        }
        self.all_commands &= allow;
    }

    /// Adds the words of a rule, in place of those that it makes void.
    fn note_rule(&mut self, name: &[u8], allow: bool) {
        let name = name.to_ascii_lowercase();
        self.rules.retain(|rule| {
            let rest = rule.name.strip_prefix(name.as_slice());
            !rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'|')
        });
        self.rules.push(CommandRule { allow, name });
    }

    /// True if it allows everything.
    pub fn is_unlimited(&self) -> bool {
        self.all_commands && self.all_keys && self.all_channels
    }

    /// True if it allows a command with whatever arguments.
    #[inline]
    pub fn allows_plainly(&self, command: usize) -> bool {
        self.all_keys && self.all_channels && (self.all_commands || self.commands.has(command))
    }

    /// True if every channel may be used.
    pub fn has_all_channels(&self) -> bool {
        self.all_channels
    }

    /// The patterns of channels that may be used.
    pub fn channels(&self) -> &[Vec<u8>] {
        &self.channels
    }

    /// True if it allows the command, with a first argument that it may need.
    fn allows_command(&self, request: &Request<'_>) -> bool {
        if self.all_commands || request.free || self.commands.has(request.command) {
            return true;
        }
        let args = self.first_args.get(&request.command);
        let first = request.argv.get(1);
        first.is_some_and(|first| {
            args.is_some_and(|args| args.iter().any(|arg| arg.eq_ignore_ascii_case(first)))
        })
    }

    fn allows_key(&self, key: &[u8], access: Access) -> bool {
        self.all_keys
            || self
                .keys
                .iter()
                .any(|known| known.access.covers(access) && glob::matches(&known.pattern, key))
    }

    /// What it holds against a request.
    pub fn check(&self, request: &Request<'_>) -> Result<(), Denied> {
        let denied = |reason, at| Err(Denied { reason, at });
        if !self.allows_command(request) {
            return denied(Reason::Command, 0);
        }
        if !self.all_keys {
            for key in request.keys() {
                let name = request.argv.get(key.at).copied().unwrap_or_default();
                if !self.allows_key(name, key.access) {
                    return denied(Reason::Key, key.at);
                }
            }
        }
        if !self.all_channels {
            let patterns = request.channels.is_some_and(|channels| channels.patterns);
            for at in request.channel_args() {
                let name = request.argv.get(at).copied().unwrap_or_default();
                if !allows_channel(&self.channels, name, patterns) {
                    return denied(Reason::Channel, at);
                }
            }
        }
        Ok(())
    }

    /// True if all keys there may be are open to such access.
    pub fn has_every_key(&self, access: Access) -> bool {
        let open = |known: &KeyPattern| known.pattern == b"*" && known.access.covers(access);
        self.all_keys || self.keys.iter().any(open)
    }

    /// The rules on commands as one line.
    pub fn command_words(&self) -> Vec<Vec<u8>> {
        let first: &[u8] = if self.future { b"+@all" } else { b"-@all" };
        let rules = self.rules.iter().map(CommandRule::word);
        std::iter::once(first.to_vec()).chain(rules).collect()
    }

    /// The rules on keys.
    pub fn key_words(&self) -> Vec<Vec<u8>> {
        match self.all_keys {
            true => vec![b"~*".to_vec()],
            false => self.keys.iter().map(KeyPattern::word).collect(),
        }
    }

    /// The rules on channels.
    pub fn channel_words(&self) -> Vec<Vec<u8>> {
        match self.all_channels {
            true => vec![b"&*".to_vec()],
            false => self
                .channels
                .iter()
                .map(|c| [b"&", &c[..]].concat())
                .collect(),
        }
    }

    /// All rules that make it anew.
    pub fn words(&self) -> Vec<Vec<u8>> {
        let mut words = self.key_words();
        if !self.all_channels {
            words.push(b"resetchannels".to_vec());
        }
        words.extend(self.channel_words());
        words.extend(self.command_words());
        words
    }

    /// The same between parentheses, as one word. `quoting`: what would be read as a quote there is quoted.
    pub fn in_parentheses(&self, quoting: bool) -> Vec<u8> {
        let mut word = b"(".to_vec();
        for (at, rule) in self.words().iter().enumerate() {
            if at > 0 {
                word.push(b' ');
            }
            match quoting && has_quotes(rule) {
                true => quote_into(rule, &mut word),
                false => word.extend_from_slice(rule),
            }
        }
        word.push(b')');
        word
    }
}

/// True if a word would be taken for a quoted one.
pub(super) fn has_quotes(word: &[u8]) -> bool {
    word.iter().any(|byte| b"\"'".contains(byte))
}

/// True if one of these patterns allows a channel. A pattern of channels must be allowed word for word.
pub fn allows_channel(patterns: &[Vec<u8>], channel: &[u8], is_pattern: bool) -> bool {
    patterns.iter().any(|pattern| match is_pattern {
        true => pattern == channel,
        false => glob::matches(pattern, channel),
    })
}
