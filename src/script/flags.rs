//! What a script says of itself in its first line: `#!lua flags=no-writes,allow-stale`.

use crate::base::quoted;
use crate::cmd::fault::Fault;
use crate::cmd::spec::{Flags, bits};
use crate::script::lua::until_zero;

bits! {
    /// What a script or a function has said of itself.
    ScriptFlags: u8 {
        NO_WRITES = 0, "no-writes"; ALLOW_OOM = 1, "allow-oom"; ALLOW_STALE = 2, "allow-stale";
        NO_CLUSTER = 3, "no-cluster"; ALLOW_CROSS_SLOT = 4, "allow-cross-slot-keys";
        /// It has no such line, so that it may do what scripts of old could.
        COMPAT = 5, "";
    }
}

impl ScriptFlags {
    /// The flag of this name.
    pub fn named(name: &[u8]) -> Option<ScriptFlags> {
        let mut named = Self::NAMES.iter().filter(|(_, text)| !text.is_empty());
        let flag = named.find(|(_, text)| text.as_bytes() == name)?;
        Some(flag.0)
    }

    /// The flags of a command that runs such a script, whose row has `row`.
    pub fn of_command(self, row: Flags) -> Flags {
        if self.has(ScriptFlags::COMPAT) {
            return row;
        }
        let told = Flags::STALE | Flags::DENYOOM | Flags::WRITE | Flags::MAY_REPLICATE;
        let mut flags = Flags(row.0 & !told.0);
        if !self.has(ScriptFlags::NO_WRITES) {
            flags = flags | Flags::WRITE;
            if !self.has(ScriptFlags::ALLOW_OOM) {
                flags = flags | Flags::DENYOOM;
            }
        }
        if self.has(ScriptFlags::ALLOW_STALE) {
            flags = flags | Flags::STALE;
        }
        flags
    }
}

/// Reads the first line of a script: its flags, and where the code begins that follows, at a line's end, so that lines keep
/// their numbers.
pub fn shebang(body: &[u8]) -> Result<(ScriptFlags, usize), Fault> {
    if !body.starts_with(b"#!") {
        return Ok((ScriptFlags::COMPAT, 0));
    }
    let Some(end) = memchr::memchr(b'\n', until_zero(body)) else {
        return Err(Fault::new("ERR Invalid script shebang"));
    };
    let parts = quoted::split_args(&body[..end]).unwrap_or_default();
    let Some((engine, options)) = parts.split_first() else {
        return Err(Fault::new("ERR Invalid engine in script shebang"));
    };
    if engine != b"#!lua" {
        return Err(told("Unexpected engine in script shebang: ", engine));
    }
    let mut flags = ScriptFlags::NONE;
    for option in options {
        let Some(names) = option.strip_prefix(b"flags=") else {
            return Err(told("Unknown lua shebang option: ", option));
        };
        if names.is_empty() {
            continue;
        }
        for name in names.split(|&b| b == b',') {
            match ScriptFlags::named(name) {
                Some(flag) => flags = flags | flag,
                None => return Err(told("Unexpected flag in script shebang: ", name)),
            }
        }
    }
    Ok((flags, end))
}

fn told(what: &str, of: &[u8]) -> Fault {
    Fault::text([b"ERR ", what.as_bytes(), until_zero(of)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_what_a_script_may() {
        let flags = |body: &str| shebang(body.as_bytes()).map(|(flags, _)| flags);
        assert_eq!(flags("return 1"), Ok(ScriptFlags::COMPAT));
        assert_eq!(flags("#!lua\nreturn 1"), Ok(ScriptFlags::NONE));
        let both = ScriptFlags::NO_WRITES | ScriptFlags::ALLOW_STALE;
        assert_eq!(flags("#!lua flags=no-writes,allow-stale\n"), Ok(both));
        assert_eq!(flags("#!lua flags=\n"), Ok(ScriptFlags::NONE));
        for (body, error) in [
            ("#!lua", "Invalid script shebang"),
            ("#!lua\" \n", "Invalid engine in script shebang"),
            ("#!perl\n", "Unexpected engine in script shebang: #!perl"),
            ("#!lua name=x\n", "Unknown lua shebang option: name=x"),
            ("#!lua flags=a\n", "Unexpected flag in script shebang: a"),
        ] {
            let said = flags(body).unwrap_err();
            assert_eq!(said, Fault::text(format!("ERR {error}")));
        }
    }

    #[test]
    fn a_command_has_the_flags_of_its_script() {
        let row = Flags::NOSCRIPT | Flags::STALE | Flags::MAY_REPLICATE;
        assert_eq!(ScriptFlags::COMPAT.of_command(row), row);
        let plain = Flags::NOSCRIPT | Flags::WRITE | Flags::DENYOOM;
        assert_eq!(ScriptFlags::NONE.of_command(row), plain);
        let reader = ScriptFlags::NO_WRITES | ScriptFlags::ALLOW_STALE;
        assert_eq!(reader.of_command(row), Flags::NOSCRIPT | Flags::STALE);
    }
}
