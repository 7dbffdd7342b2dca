//! Reading rules: which words belong together, and what is wrong with one.

use crate::base::quoted::is_space;

/// Why a rule is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleError {
    /// It is no rule, or a pattern has blanks in it.
    Syntax,
    /// No command or category has this name.
    UnknownCommand,
    /// Patterns for keys add nothing to all keys.
    KeyAfterAll,
    /// Patterns for channels add nothing to all channels.
    ChannelAfterAll,
    /// A password that is to be removed is not there.
    NoSuchPassword,
    /// A hash is none of SHA-256 in lower-case hexadecimal digits.
    BadHash,
    /// A first argument is only looked at where there are no subcommands.
    FirstArgOfSubcommand,
}

impl RuleError {
    /// What replies and log lines say of it.
    pub fn text(self) -> &'static str {
        match self {
            RuleError::Syntax => "Syntax error",
            RuleError::UnknownCommand => "Unknown command or category name in ACL",
            RuleError::KeyAfterAll => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any \
                 effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::ChannelAfterAll => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
                 effect. Try 'resetchannels' to start with an empty list of channels"
            }
            RuleError::NoSuchPassword => {
                "The password you are trying to remove from the user does not exist"
            }
            RuleError::BadHash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            RuleError::FirstArgOfSubcommand => {
                "Allowing first-arg of a subcommand is not supported"
            }
        }
    }
}

/// True if a name or a pattern has what would part it in a line of rules.
pub fn has_blanks(text: &[u8]) -> bool {
    text.iter().any(|&byte| is_space(byte) || byte == 0)
}

/// A word as far as C would read it.
pub(super) fn c_text(word: &[u8]) -> &[u8] {
    word.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Puts the words of a selector in parentheses together, which may come as several. `Err` is the place of the word
/// whose parenthesis nobody closes.
pub fn join_selectors(words: &[&[u8]]) -> Result<Vec<Vec<u8>>, usize> {
    let mut joined: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<(usize, Vec<u8>)> = None;
    for (at, word) in words.iter().enumerate() {
        let closes = word.last() == Some(&b')');
        match &mut open {
            Some((_, selector)) => {
                selector.push(b' ');
                selector.extend_from_slice(word);
                if closes {
                    joined.extend(open.take().map(|(_, selector)| selector));
                }
            }
            None if word.first() == Some(&b'(') && !closes => open = Some((at, word.to_vec())),
            None => joined.push(word.to_vec()),
        }
    }
    match open {
        Some((at, _)) => Err(at),
        None => Ok(joined),
    }
}
