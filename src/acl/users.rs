//! All users, and how they come from SETUSER, from `user` lines of the configuration, and from an ACL file.
//!
//! A user is never changed where it is: a changed copy takes its place, so that a rule that is not accepted leaves
//! everything as it was, and those who hold the old one can be told from those who don't.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::rule::{RuleError, has_blanks, join_selectors};
use super::user::{DEFAULT, User};
use super::{Basis, Commands, NoCommands};

/// See the head of the file.
#[derive(Clone, Debug)]
pub struct Users {
    by_name: BTreeMap<Box<[u8]>, Rc<User>>,
    default: Rc<User>,
}

impl Users {
    /// The default user alone, with the password of `requirepass`.
    pub fn new(commands: &dyn Commands, requirepass: &[u8]) -> Users {
        let mut default = User::default_user(commands);
        default.set_only_password(requirepass);
        Users::with_default(default)
    }

    fn with_default(default: User) -> Users {
        let default = Rc::new(default);
        Users {
            by_name: BTreeMap::from([(DEFAULT.into(), default.clone())]),
            default,
        }
    }

    /// The user that a connection begins as.
    pub fn default_user(&self) -> &Rc<User> {
        &self.default
    }

    /// True if a new connection has to log in before it may do anything.
    #[inline]
    pub fn ask_for_login(&self) -> bool {
        !self.default.is_on() || !self.default.needs_no_password()
    }

    /// The user of this name.
    pub fn get(&self, name: &[u8]) -> Option<&Rc<User>> {
        self.by_name.get(name)
    }

    /// All of them by name.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<User>> {
        self.by_name.values()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_name.len()
    }

    /// Puts a user in the place of the one who had the name, who is given back.
    pub fn put(&mut self, user: User) -> Option<Rc<User>> {
        let user = Rc::new(user);
        if user.name() == DEFAULT {
            self.default = user.clone();
        }
        self.by_name.insert(user.name().into(), user)
    }

    /// Takes a user away. The default user stays.
    pub fn remove(&mut self, name: &[u8]) -> Option<Rc<User>> {
        match name == DEFAULT {
            true => None,
            false => self.by_name.remove(name),
        }
    }

    /// The user who comes of the one there is (or of none) by all of these rules; nothing is changed yet. `Err` is what
    /// SETUSER replies.
    pub fn changed(&self, name: &[u8], rules: &[&[u8]], basis: Basis<'_>) -> Result<User, Vec<u8>> {
        let joined = join_selectors(rules).map_err(|at| {
            let word = rules.get(at).copied().unwrap_or_default();
            [
                b"Unmatched parenthesis in acl selector starting at '",
                word,
                b"'.",
            ]
            .concat()
        })?;
        let mut user = match self.get(name) {
            Some(user) => User::clone(user),
            None => User::new(name, basis),
        };
        for rule in &joined {
            user.set(rule, basis).map_err(|error| {
                let shown = super::rule::c_text(rule);
                let why = error.text().as_bytes();
                [b"Error in ACL SETUSER modifier '", shown, b"': ", why].concat()
            })?;
        }
        Ok(user)
    }

    /// Adds the users that the configuration names. `Err` is what the log says before the start is given up.
    pub fn add_configured(&mut self, lines: &[Vec<&[u8]>], basis: Basis<'_>) -> Result<(), String> {
        for words in lines {
            let Some((name, rules)) = words.split_first() else {
                continue;
            };
            if has_blanks(name) {
                return Err("Spaces not allowed in ACL usernames".into());
            }
            let mut user = User::new(name, basis);
            let shown = String::from_utf8_lossy(name);
            for rule in join_selectors(rules).unwrap_or_default() {
                user.set(&rule, basis).map_err(|error| {
                    format!(
                        "Error loading ACL rule '{}' for the user named '{shown}': {}",
                        String::from_utf8_lossy(&rule),
                        error.text()
                    )
                })?;
            }
            if !user.is_on() {
                log::info!(
                    "The user '{shown}' is disabled (there is no 'on' modifier in the user description). Make sure \
                     this is not a configuration error."
                );
            }
            self.put(user);
        }
        Ok(())
    }

    /// The users that the text of an ACL file describes: all of them, or all that is wrong with it. `path` is the file
    /// as the configuration names it.
    pub fn read(text: &[u8], path: &str, basis: Basis<'_>) -> Result<Users, Vec<u8>> {
        let mut users: BTreeMap<Box<[u8]>, User> = BTreeMap::new();
        let mut errors = Vec::new();
        for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = trim(line, b" \t\r\n");
            if line.is_empty() {
                continue;
            }
            let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
            let place = format!("{path}:{}", at + 1);
            read_line(&words, &place, at + 1, basis, &mut users, &mut errors);
        }
        if !errors.is_empty() {
            let told = "WARNING: ACL errors detected, no change to the previously active ACL rules was performed";
            errors.extend_from_slice(told.as_bytes());
            return Err(errors);
        }
        let default = users
            .remove(DEFAULT)
            .unwrap_or_else(|| User::default_user(basis.commands));
        let mut all = Users::with_default(default);
        for user in users.into_values() {
            all.put(user);
        }
        Ok(all)
    }

    /// The text of an ACL file that describes them.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for user in self.iter() {
            text.extend(user.file_line());
            text.push(b'\n');
        }
        text
    }
}

fn trim<'a>(text: &'a [u8], blanks: &[u8]) -> &'a [u8] {
    let kept = |byte: &u8| !blanks.contains(byte);
    let from = text.iter().position(kept).unwrap_or(text.len());
    let to = text.iter().rposition(kept).map_or(from, |last| last + 1);
    &text[from..to]
}

/// Reads one line of an ACL file, `at` its number; what is wrong with it is added to `errors`.
fn read_line(
    words: &[&[u8]],
    place: &str,
    at: usize,
    basis: Basis<'_>,
    users: &mut BTreeMap<Box<[u8]>, User>,
    errors: &mut Vec<u8>,
) {
    let mut complain = |parts: &[&[u8]]| errors.extend(parts.concat());
    let place = place.as_bytes();
    let [b"user", name, rules @ ..] = words else {
        return complain(&[
            place,
            b" should start with user keyword followed by the username. ",
        ]);
    };
    if has_blanks(name) {
        let why = b"' contains invalid characters. ";
        return complain(&[b"'", place, b": username '", name, why]);
    }
    if users.contains_key(*name) {
        let line = format!("' found on line {at}. ");
        return complain(&[b"WARNING: Duplicate user '", name, line.as_bytes()]);
    }
    let mut user = User::new(name, basis);
    let mut told = false;
    match join_selectors(rules) {
        Err(_) => complain(&[place, b": Unmatched parenthesis in selector definition."]),
        Ok(rules) => {
            for rule in &rules {
                let rule = trim(rule, b"\t\r\n");
                match user.set(rule, basis) {
                    Ok(()) => {}
                    // The name of a command is no secret; anything else may be.
                    Err(error @ RuleError::UnknownCommand) => complain(&[
                        place,
                        b": Error in applying operation '",
                        rule,
                        b"': ",
                        error.text().as_bytes(),
                        b". ",
                    ]),
                    Err(error) if !told => {
                        told = true;
                        complain(&[place, b": ", error.text().as_bytes(), b". "]);
                    }
                    Err(_) => {}
                }
            }
        }
    }
    users.insert((*name).into(), user);
}

/// Looks at a `user` line of the configuration (its words, `user` first) as far as can be done before the commands
/// are known. `known`: this user was declared before. `Err` is what is wrong with it.
pub fn check_declaration(words: &[&[u8]], known: bool) -> Result<(), String> {
    let wrong = |at: usize, why: &str| {
        let word = String::from_utf8_lossy(words.get(at).copied().unwrap_or_default());
        Err(format!("Error in user declaration '{word}': {why}"))
    };
    if known {
        return wrong(
            1,
            "Duplicate user found. A user can only be defined once in config files",
        );
    }
    let basis = Basis {
        commands: &NoCommands,
        all_channels: false,
    };
    let rules = match join_selectors(words.get(2..).unwrap_or_default()) {
        Ok(rules) => rules,
        Err(at) => return wrong(at, "Wrong format"),
    };
    let mut user = User::new(b"", basis);
    for (at, rule) in rules.iter().enumerate() {
        match user.set(rule, basis) {
            Ok(()) | Err(RuleError::UnknownCommand) => {}
            // Redis counts from the rules and shows from the line: the word is two before the one that is meant.
            Err(error) => return wrong(at, error.text()),
        }
    }
    Ok(())
}
