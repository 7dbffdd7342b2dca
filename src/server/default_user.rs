//! What a configuration says of the default user, while there are no other users.
//!
//! A `user default` line may forbid what a server without ACL users would allow: such a
//! configuration must not be served open, so the start is refused. Lines that leave the user as it is,
//! which CONFIG REWRITE writes into every file, are welcome, and so are other users, who merely cannot
//! log in. The rules are those of ACL SETUSER (<https://redis.io/docs/management/security/acl/>).

use crate::base::checksum::sha256_hex;
use crate::base::errno;
use crate::base::quoted::split_args;
use crate::config::Config;

/// What a user may, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
struct User {
    on: bool,
    nopass: bool,
    /// SHA-256 of each password, in hex.
    passwords: Vec<String>,
    keys: bool,
    channels: bool,
    commands: bool,
}

impl User {
    /// The user that the rules make of nothing; `None` if one is not understood.
    fn of(rules: &[Vec<u8>]) -> Option<User> {
        let mut user = User::default();
        for rule in rules {
            user.rule(std::str::from_utf8(rule).ok()?)?;
        }
        Some(user)
    }

    fn rule(&mut self, rule: &str) -> Option<()> {
        match rule.to_ascii_lowercase().as_str() {
            "on" => self.on = true,
            "off" => self.on = false,
            "nopass" => {
                self.nopass = true;
                self.passwords.clear();
            }
            "resetpass" => {
                self.nopass = false;
                self.passwords.clear();
            }
            "allkeys" | "~*" | "%rw~*" => self.keys = true,
            "resetkeys" => self.keys = false,
            "allchannels" | "&*" => self.channels = true,
            "resetchannels" => self.channels = false,
            "allcommands" | "+@all" => self.commands = true,
            "nocommands" | "-@all" => self.commands = false,
            "reset" => *self = User::default(),
            "sanitize-payload" | "skip-sanitize-payload" | "clearselectors" => {}
            _ => return self.longer_rule(rule),
        }
        Some(())
    }

    fn longer_rule(&mut self, rule: &str) -> Option<()> {
        let text = rule.get(1..)?;
        match rule.as_bytes()[0] {
            b'>' => self.passwords.push(sha256_hex(text.as_bytes())),
            b'#' => self.passwords.push(text.to_ascii_lowercase()),
            b'<' => self
                .passwords
                .retain(|known| *known != sha256_hex(text.as_bytes())),
            b'!' => self
                .passwords
                .retain(|known| !known.eq_ignore_ascii_case(text)),
            // What one command or category adds to all of them is nothing; taken away, it is missing.
            b'+' => {}
            b'-' => self.commands = false,
            _ => return None,
        }
        if matches!(rule.as_bytes()[0], b'>' | b'#') {
            self.nopass = false;
        }
        Some(())
    }

    /// True if the server as it is grants no more than this.
    fn is_served_rightly(&self, requirepass: &[u8]) -> bool {
        let all = self.on && self.keys && self.channels && self.commands;
        // With `nopass` a password that is asked for all the same only locks out.
        let known = self.passwords == [sha256_hex(requirepass)] && !requirepass.is_empty();
        all && (self.nopass || known)
    }
}

const REFUSAL: &str = "the default user is restricted there, and this version has no ACL users yet: it would \
                       serve everyone. Use requirepass, or remove the line. Exiting.";

/// Refuses a configuration, with the reason, if serving it would give the default user more than it
/// says.
pub fn check(config: &Config) -> Result<(), String> {
    let aclfile = config.aclfile.as_path();
    if !aclfile.as_os_str().is_empty() && !config.user.is_empty() {
        return Err(
            "Users are defined both in the configuration and in an ACL file (aclfile). Use one of the two. Exiting."
                .into(),
        );
    }
    for words in &config.user {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
        check_line(&words, &config.requirepass, "a user directive")?;
    }
    if aclfile.as_os_str().is_empty() {
        return Ok(());
    }
    let path = config.dir.as_path().join(aclfile);
    let text = std::fs::read(&path).map_err(|e| {
        format!(
            "Aborting Redis startup because of ACL errors: Error loading ACLs, opening file '{}': {}",
            config.aclfile.lossy(),
            errno::text(&e)
        )
    })?;
    for line in text.split(|byte| *byte == b'\n') {
        let words = split_args(line.trim_ascii()).unwrap_or_default();
        if let [first, words @ ..] = words.as_slice()
            && first == b"user"
        {
            check_line(words, &config.requirepass, "aclfile")?;
        }
    }
    Ok(())
}

/// `words` are a user's name and its rules.
fn check_line(words: &[Vec<u8>], requirepass: &[u8], place: &str) -> Result<(), String> {
    let Some((name, rules)) = words.split_first() else {
        return Ok(());
    };
    let rightly = || User::of(rules).is_some_and(|user| user.is_served_rightly(requirepass));
    if name != b"default" || rightly() {
        return Ok(());
    }
    Err(format!("Can't follow {place}: {REFUSAL}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(rules: &str, requirepass: &str) -> bool {
        let words = split_args(format!("default {rules}").as_bytes()).unwrap();
        check_line(&words, requirepass.as_bytes(), "x").is_ok()
    }

    #[test]
    fn only_what_opens_nothing_is_accepted() {
        let pass = format!("on #{} ~* &* +@all", sha256_hex(b"pw"));
        let good = [
            ("on nopass ~* &* +@all", ""),
            (
                "ON nopass sanitize-payload allkeys allchannels allcommands",
                "",
            ),
            ("off resetkeys reset on nopass ~* &* -@all +@all +get", ""),
            ("on nopass ~* &* +@all", "pw"),
            ("on >pw ~* &* +@all", "pw"),
            (pass.as_str(), "pw"),
        ];
        for (rules, requirepass) in good {
            assert!(accepted(rules, requirepass), "{rules}");
        }
        let bad = [
            ("off", ""),
            ("off nopass ~* &* +@all", ""),
            ("on nopass ~app:* &* +@all", ""),
            ("on nopass ~* +@all", ""),
            ("on nopass ~* &* +@all -flushall", ""),
            ("on nopass ~* &* +@read", ""),
            ("on >pw ~* &* +@all", ""),
            ("on >pw ~* &* +@all", "other"),
            ("on >pw >more ~* &* +@all", "pw"),
            ("on nopass resetpass ~* &* +@all", ""),
            ("on ~* &* +@all", ""),
            ("on nopass ~* &* +@all nonsense", ""),
            (pass.as_str(), ""),
        ];
        for (rules, requirepass) in bad {
            assert!(!accepted(rules, requirepass), "{rules}");
        }
        assert!(check_line(&[b"alice".to_vec(), b"off".to_vec()], b"", "x").is_ok());
    }
}
