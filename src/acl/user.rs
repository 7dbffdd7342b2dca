//! A user: how they prove who they are, and what they may do.

use super::request::{Access, Denied, Reason, Request};
use super::rule::{RuleError, c_text};
use super::selector::{Selector, allows_channel, has_quotes};
use super::{Basis, Commands};
use crate::base::checksum::sha256_hex;
use crate::base::quoted::quote_into;

/// The name of the user that every connection begins as.
pub const DEFAULT: &[u8] = b"default";

/// See the head of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    name: Box<[u8]>,
    /// May log in. Who is logged in already stays so.
    on: bool,
    /// Any password will do.
    nopass: bool,
    /// What RESTORE is given by this user is not looked at so closely (`sanitize-dump-payload clients`).
    skip_sanitize: bool,
    /// SHA-256 of each password in hexadecimal digits.
    passwords: Vec<String>,
    /// The user's own rights.
    root: Selector,
    /// What was added to them in parentheses.
    selectors: Vec<Selector>,
    /// Some selector allows everything.
    unlimited: bool,
}

impl User {
    /// A user who can't log in and may do nothing.
    pub fn new(name: &[u8], basis: Basis<'_>) -> User {
        User {
            name: name.into(),
            on: false,
            nopass: false,
            skip_sanitize: false,
            passwords: Vec::new(),
            root: Selector::new(basis.all_channels),
            selectors: Vec::new(),
            unlimited: false,
        }
    }

    /// The default user as it is where nobody said otherwise: open to everybody, for everything.
    pub fn default_user(commands: &dyn Commands) -> User {
        let basis = Basis {
            commands,
            all_channels: true,
        };
        let mut user = User::new(DEFAULT, basis);
        for rule in [&b"+@all"[..], b"~*", b"&*", b"on", b"nopass"] {
            let set = user.set(rule, basis);
            debug_assert!(set.is_ok());
        }
        user
    }

    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// True if everything is allowed, so that nobody need ask.
    pub fn is_unlimited(&self) -> bool {
        self.unlimited
    }

    /// True if one may log in as this user.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// True if any password will do.
    pub fn needs_no_password(&self) -> bool {
        self.nopass
    }

    /// True if payloads of this user are trusted.
    pub fn skips_sanitizing(&self) -> bool {
        self.skip_sanitize
    }

    /// The hashes of the passwords, in hexadecimal digits.
    pub fn passwords(&self) -> &[String] {
        &self.passwords
    }

    /// The user's own rights.
    pub fn root(&self) -> &Selector {
        &self.root
    }

    /// What was added in parentheses.
    pub fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    fn all_selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.selectors)
    }

    /// Applies one rule. An empty one is none.
    pub fn set(&mut self, rule: &[u8], basis: Basis<'_>) -> Result<(), RuleError> {
        let set = self.set_one(rule, basis);
        let unlimited = self.all_selectors().any(Selector::is_unlimited);
        self.unlimited = unlimited;
        set
    }

    fn set_one(&mut self, rule: &[u8], basis: Basis<'_>) -> Result<(), RuleError> {
        match c_text(rule).to_ascii_lowercase().as_slice() {
            _ if rule.is_empty() => {}
            b"on" => self.on = true,
            b"off" => self.on = false,
            b"skip-sanitize-payload" => self.skip_sanitize = true,
            b"sanitize-payload" => self.skip_sanitize = false,
            b"nopass" => self.forget_passwords(true),
            b"resetpass" => self.forget_passwords(false),
            b"clearselectors" => self.selectors.clear(),
            b"reset" => *self = User::new(&self.name, basis),
            _ => match rule {
                [b'>', password @ ..] => self.add_password(sha256_hex(password)),
                [b'#', hash @ ..] => self.add_password(checked_hash(hash)?),
                [b'<', password @ ..] => self.remove_password(&sha256_hex(password))?,
                [b'!', hash @ ..] => self.remove_password(&checked_hash(hash)?)?,
                [b'(', words @ .., b')'] => self.selectors.push(Selector::parse(words, basis)?),
                _ => self.root.set(rule, basis.commands)?,
            },
        }
        Ok(())
    }

    fn forget_passwords(&mut self, nopass: bool) {
        self.nopass = nopass;
        self.passwords.clear();
    }

    fn add_password(&mut self, hash: String) {
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
        self.nopass = false;
    }

    fn remove_password(&mut self, hash: &str) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| known == hash);
        self.passwords.remove(at.ok_or(RuleError::NoSuchPassword)?);
        Ok(())
    }

    /// What `requirepass` says: one password, or none needed if it is empty.
    pub fn set_only_password(&mut self, password: &[u8]) {
        self.forget_passwords(password.is_empty());
        if !password.is_empty() {
            self.add_password(sha256_hex(password));
        }
    }

    /// True if one who says this password is this user.
    pub fn admits(&self, password: &[u8]) -> bool {
        if !self.on || self.nopass {
            return self.on;
        }
        let hash = sha256_hex(password);
        // All bytes of all hashes are looked at: the time it takes tells nothing of how near a guess came.
        let differ = |known: &String| {
            known
                .bytes()
                .zip(hash.bytes())
                .fold(0, |d, (a, b)| d | (a ^ b))
        };
        self.passwords
            .iter()
            .fold(false, |found, known| found | (differ(known) == 0))
    }

    /// True if the command is allowed with whatever arguments, as far as that can be told without them.
    #[inline]
    pub fn allows_plainly(&self, command: usize) -> bool {
        self.all_selectors()
            .any(|selector| selector.allows_plainly(command))
    }

    /// Whether the user may run this. The reason against it is the greatest of what the selectors say.
    pub fn check(&self, request: &Request<'_>) -> Result<(), Denied> {
        let mut worst = Denied {
            reason: Reason::Command,
            at: 0,
        };
        for selector in self.all_selectors() {
            match selector.check(request) {
                Ok(()) => return Ok(()),
                Err(denied) => worst = worst.max(denied),
            }
        }
        Err(worst)
    }

    /// True if a selector that allows the request has also such access to every key there may be (SORT's BY and GET).
    pub fn check_with_every_key(&self, request: &Request<'_>, access: Access) -> bool {
        self.all_selectors()
            .any(|selector| selector.has_every_key(access) && selector.check(request).is_ok())
    }

    /// True if the channel, or pattern of channels, may be used.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.all_selectors().any(|selector| {
            selector.has_all_channels() || allows_channel(selector.channels(), channel, is_pattern)
        })
    }

    /// True if all that `before` could listen to is still allowed, as far as the patterns tell.
    pub fn keeps_channels_of(&self, before: &User) -> bool {
        let mine = || self.all_selectors().flat_map(Selector::channels);
        let kept = |old: &Selector| {
            !old.has_all_channels() && old.channels().iter().all(|c| mine().any(|m| m == c))
        };
        self.all_selectors().any(Selector::has_all_channels) || before.all_selectors().all(kept)
    }

    /// The words before the rights, as ACL GETUSER shows them.
    pub fn flags(&self) -> Vec<&'static str> {
        let on = if self.on { "on" } else { "off" };
        let sanitize = match self.skip_sanitize {
            true => "skip-sanitize-payload",
            false => "sanitize-payload",
        };
        let nopass = self.nopass.then_some("nopass");
        [Some(on), nopass, Some(sanitize)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// All rules that make the user anew. `quoting`: quotes within a selector are escaped.
    fn words(&self, quoting: bool) -> Vec<Vec<u8>> {
        let flags = self
            .flags()
            .into_iter()
            .map(|flag| flag.as_bytes().to_vec());
        let passwords = self
            .passwords
            .iter()
            .map(|hash| format!("#{hash}").into_bytes());
        let selectors = self.selectors.iter().map(|s| s.in_parentheses(quoting));
        flags
            .chain(passwords)
            .chain(self.root.words())
            .chain(selectors)
            .collect()
    }

    /// The line of ACL LIST: `user <name> <rules>`.
    pub fn line(&self) -> Vec<u8> {
        self.line_of(self.words(false), |word, line| line.extend_from_slice(word))
    }

    /// The line for an ACL file, where words are parted by blanks and nothing else.
    pub fn file_line(&self) -> Vec<u8> {
        self.line_of(self.words(true), |word, line| line.extend_from_slice(word))
    }

    /// The line for a configuration file, where words may be quoted, and have to be if there is a quote in them.
    pub fn config_line(&self) -> Vec<u8> {
        self.line_of(self.words(true), |word, line| match has_quotes(word) {
            true => quote_into(word, line),
            false => line.extend_from_slice(word),
        })
    }

    fn line_of(&self, words: Vec<Vec<u8>>, write: impl Fn(&[u8], &mut Vec<u8>)) -> Vec<u8> {
        let mut line = b"user ".to_vec();
        write(&self.name, &mut line);
        for word in words {
            line.push(b' ');
            write(&word, &mut line);
        }
        line
    }
}

fn checked_hash(hash: &[u8]) -> Result<String, RuleError> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match std::str::from_utf8(hash) {
        Ok(text) if hash.len() == 64 && hash.iter().all(is_digit) => Ok(text.into()),
        _ => Err(RuleError::BadHash),
    }
}
