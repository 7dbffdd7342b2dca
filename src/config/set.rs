//! Storing and showing values: the file's one directive at a time, CONFIG SET's several at once, all or
//! nothing, and CONFIG GET.
//!
//! CONFIG SET works on a copy of the configuration. The caller puts the copy in the place of the old one,
//! does what `Change::apply` lists, and if one of these fails puts the old one back.

use super::host::Enter;
use super::types::{Apply, Kind, Names, Number, Row, Text, Unit, flag};
use super::units::{parse_lenient, parse_memory};
use super::{Config, ROWS, lookup};
use crate::base::glob;
use crate::base::number::parse_i64;

/// What the storing of a value may need beside the configuration.
pub struct Setting {
    /// Warnings for the log.
    pub notes: Vec<String>,
    /// While a file is read: whether it had a `save` line before.
    save_seen: Option<bool>,
}

impl Setting {
    /// For a file or a command line.
    pub fn file() -> Setting {
        Setting {
            notes: Vec::new(),
            save_seen: Some(false),
        }
    }

    /// For CONFIG SET.
    pub fn live() -> Setting {
        Setting {
            notes: Vec::new(),
            save_seen: None,
        }
    }

    /// Whether a file is being read.
    pub fn is_file(&self) -> bool {
        self.save_seen.is_some()
    }

    /// Whether save points add to those before, which only the second `save` line of a file does.
    pub(super) fn adds_save_points(&mut self) -> bool {
        match &mut self.save_seen {
            Some(seen) => std::mem::replace(seen, true),
            None => false,
        }
    }
}

/// Stores a directive's arguments. `Ok(false)` says that nothing changed, an error why it was refused.
pub fn store(
    row: &Row,
    config: &mut Config,
    args: &[Vec<u8>],
    setting: &mut Setting,
    enter: Enter<'_>,
) -> Result<bool, String> {
    let first = args.first().map_or(&b""[..], |arg| arg.as_slice());
    let volatile = row.is(flag::VOLATILE);
    match &row.kind {
        Kind::YesNo { get, set } => {
            let value = match first {
                v if v.eq_ignore_ascii_case(b"yes") => true,
                v if v.eq_ignore_ascii_case(b"no") => false,
                _ => return Err("argument must be 'yes' or 'no'".into()),
            };
            let changed = get(config) != value;
            set(config, value);
            Ok(changed || volatile)
        }
        Kind::Number {
            get,
            set,
            low,
            high,
            unit,
        } => {
            let value = parse_number(first, *unit)?;
            check_bounds(value, *low, *high, *unit)?;
            let changed = get(config) != value;
            set(config, value);
            Ok(changed || volatile)
        }
        Kind::Text { get, set, check } => {
            check.map_or(Ok(()), |check| check(first))?;
            // Redis keeps all but passwords as C strings, which a zero byte ends.
            let kept = match row.name {
                "masterauth" | "requirepass" => first,
                _ => first.split(|&b| b == 0).next().unwrap_or_default(),
            };
            let changed = get(config).as_bytes() != kept;
            set(config, kept.into());
            Ok(changed || volatile)
        }
        Kind::Choice {
            names,
            get,
            set,
            check,
        } => {
            let value = parse_choices(args, names, row.is(flag::MULTI_ARG))?;
            check.map_or(Ok(()), |check| check(value))?;
            let changed = get(config) != value;
            set(config, value);
            Ok(changed || volatile)
        }
        Kind::Special(special) => (special.set)(config, args, setting, enter),
    }
}

fn parse_number(text: &[u8], unit: Unit) -> Result<i128, String> {
    let memory = || parse_memory(text).map(i128::from);
    // A size beyond 63 bits wraps there, into the percents that negative numbers stand for.
    let wrapping = || parse_memory(text).map(|n| i128::from(n as i64));
    let percent = || {
        let number = parse_i64(text.strip_suffix(b"%")?)?;
        (number >= 0).then(|| -i128::from(number))
    };
    let (value, otherwise) = match unit {
        Unit::Plain => (
            parse_i64(text).map(Number::wide),
            "argument couldn't be parsed into an integer",
        ),
        Unit::Memory => (memory(), "argument must be a memory value"),
        Unit::MemoryOrPercent => (
            wrapping().or_else(percent),
            "argument must be a memory or percent value",
        ),
        Unit::Octal => (
            parse_lenient(text, 8).map(Number::wide),
            "argument couldn't be parsed as an octal number",
        ),
    };
    value.ok_or_else(|| otherwise.into())
}

fn check_bounds(value: i128, low: i128, high: i128, unit: Unit) -> Result<(), String> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(match unit {
        Unit::MemoryOrPercent if value < 0 => {
            format!("percentage argument must be less or equal to {}", -low)
        }
        Unit::Octal => format!("argument must be between {low:o} and {high:o} inclusive"),
        _ => format!("argument must be between {low} and {high} inclusive"),
    })
}

fn parse_choices(args: &[Vec<u8>], names: Names, several: bool) -> Result<u32, String> {
    let code = |arg: &Vec<u8>| {
        let same = |(name, _): &&(&str, u32)| name.as_bytes().eq_ignore_ascii_case(arg);
        names.iter().find(same).map(|(_, code)| *code)
    };
    let codes: Option<Vec<u32>> = args.iter().map(code).collect();
    match codes {
        Some(codes) if codes.len() == 1 || several && !codes.is_empty() => {
            Ok(codes.iter().fold(0, |all, c| all | c))
        }
        _ => {
            let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            Err(format!(
                "argument(s) must be one of the following: {}",
                names.join(", ")
            ))
        }
    }
}

/// A directive's value as CONFIG GET prints it.
pub fn show(row: &Row, config: &Config) -> Vec<u8> {
    match &row.kind {
        Kind::YesNo { get, .. } => yes_no(get(config)).into(),
        Kind::Number { get, unit, .. } => match (get(config), unit) {
            (value, Unit::MemoryOrPercent) if value < 0 => format!("{}%", -value).into(),
            (value, Unit::Octal) => format!("{value:o}").into(),
            (value, _) => value.to_string().into(),
        },
        Kind::Text { get, .. } => get(config).to_vec(),
        Kind::Choice { names, get, .. } => choice_names(names, get(config)).into(),
        Kind::Special(special) => (special.get)(config),
    }
}

pub(super) fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// The name of a value, or of each of its flags.
pub(super) fn choice_names(names: Names, value: u32) -> String {
    if let Some((name, _)) = names.iter().find(|(_, code)| *code == value) {
        return name.to_string();
    }
    let set = names
        .iter()
        .filter(|(_, code)| *code != 0 && value & code == *code);
    let set: Vec<&str> = set.map(|(name, _)| *name).collect();
    set.join(" ")
}

/// What a CONFIG SET came to.
#[derive(Debug)]
pub struct Change {
    /// The new configuration.
    pub config: Config,
    /// What the server has to do, in order, each with the directive to name if it fails.
    pub apply: Vec<(Apply, &'static str)>,
    /// The directives whose value changed.
    pub changed: Vec<&'static str>,
    /// Warnings for the log.
    pub notes: Vec<String>,
}

/// Why CONFIG SET refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// No such directive.
    Unknown(Vec<u8>),
    /// A directive that cannot change while the dataset is being loaded.
    Loading,
    /// The value, or the change as such, for a reason.
    Refused { name: Vec<u8>, reason: String },
}

impl SetError {
    /// `reason` is why carrying out the change of `name` failed.
    pub fn refused(name: impl Into<Vec<u8>>, reason: impl Into<String>) -> SetError {
        SetError::Refused {
            name: name.into(),
            reason: reason.into(),
        }
    }

    /// The error reply, without the leading `-`.
    pub fn reply(&self) -> Vec<u8> {
        match self {
            SetError::Unknown(name) => [
                b"ERR Unknown option or number of arguments for CONFIG SET - '",
                // As C prints it.
                name.split(|&b| b == 0).next().unwrap_or_default(),
                b"'",
            ]
            .concat(),
            SetError::Loading => b"LOADING Redis is loading the dataset in memory".to_vec(),
            SetError::Refused { name, reason } => [
                b"ERR CONFIG SET failed (possibly related to argument '",
                &name[..],
                b"') - ",
                reason.as_bytes(),
            ]
            .concat(),
        }
    }
}

/// What CONFIG SET depends on beside its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The dataset is being loaded.
    pub loading: bool,
    /// The client may change protected directives.
    pub protected: bool,
}

/// Whether a directive's value must be kept out of logs.
pub fn is_sensitive(name: &[u8]) -> bool {
    lookup(name).is_some_and(|row| row.is(flag::SENSITIVE))
}

/// The name that `given` matched of a row's two.
fn spelled(row: &Row, given: &[u8]) -> &'static str {
    match row.alias {
        Some(alias) if alias.as_bytes().eq_ignore_ascii_case(given) => alias,
        _ => row.name,
    }
}

/// CONFIG SET: checks all of `pairs`, then stores them in a copy of `old`.
pub fn config_set(
    old: &Config,
    pairs: &[(&[u8], &[u8])],
    when: Circumstances,
    enter: Enter<'_>,
) -> Result<Change, SetError> {
    let mut rows: Vec<(&'static Row, &'static str)> = Vec::with_capacity(pairs.len());
    for (given, _) in pairs {
        let row = lookup(given).ok_or_else(|| SetError::Unknown(given.to_vec()))?;
        let name = spelled(row, given);
        if row.is(flag::IMMUTABLE) {
            return Err(SetError::refused(*given, "can't set immutable config"));
        }
        if row.is(flag::PROTECTED) && !when.protected {
            return Err(SetError::refused(*given, "can't set protected config"));
        }
        if row.is(flag::DENY_LOADING) && when.loading {
            return Err(SetError::Loading);
        }
        if rows.iter().any(|(_, other)| *other == name) {
            return Err(SetError::refused(*given, "duplicate parameter"));
        }
        rows.push((row, name));
    }
    let mut setting = Setting::live();
    let mut change = Change {
        config: old.clone(),
        apply: Vec::new(),
        changed: Vec::new(),
        notes: Vec::new(),
    };
    for ((row, name), (_, value)) in rows.into_iter().zip(pairs) {
        let args: Vec<Vec<u8>> = match row.is(flag::MULTI_ARG) {
            true if value.is_empty() => Vec::new(),
            true => value.split(|b| *b == b' ').map(<[u8]>::to_vec).collect(),
            false => vec![value.to_vec()],
        };
        let stored = store(row, &mut change.config, &args, &mut setting, enter);
        if !stored.map_err(|reason| SetError::refused(name, reason))? {
            continue;
        }
        change.changed.push(row.name);
        let known = change.apply.iter().any(|(apply, _)| *apply == row.apply);
        if row.apply != Apply::Nothing && !known {
            change.apply.push((row.apply, name));
        }
    }
    settle(&mut change.config);
    change.notes = setting.notes;
    Ok(change)
}

/// Brings values that Redis accepts as hints into the range it then uses.
pub(super) fn settle(config: &mut Config) {
    config.hz = config.hz.clamp(1, 500);
}

/// CONFIG GET: names and values of what any of `patterns` matches, each once.
pub fn config_get(config: &Config, patterns: &[&[u8]]) -> Vec<(Text, Vec<u8>)> {
    let mut found: Vec<(Text, Vec<u8>)> = Vec::new();
    let mut add = |name: &[u8], row: &Row| {
        if !found
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name))
        {
            found.push((name.into(), show(row, config)));
        }
    };
    for pattern in patterns {
        if !pattern.iter().any(|b| matches!(b, b'[' | b'*' | b'?')) {
            // The reply spells the name as the client did.
            if let Some(row) = lookup(pattern) {
                add(pattern, row);
            }
            continue;
        }
        for row in ROWS.iter().filter(|row| !row.is(flag::HIDDEN)) {
            let alias = row.alias.filter(|_| !row.is(flag::HIDDEN_ALIAS));
            for name in [Some(row.name), alias].into_iter().flatten() {
                if glob::matches_nocase(pattern, name.as_bytes()) {
                    add(name.as_bytes(), row);
                }
            }
        }
    }
    found
}
