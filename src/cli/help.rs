//! HELP, and what it is made of: the documentation of the commands, as the server gives it.
//!
//! A server that cannot be asked, or is too old to know COMMAND DOCS, is no reason to have no help: our own table of
//! commands stands in, less what is younger than the server, plus what else the server says it has.

use super::hint::{self, Arg, Kind};
use super::out::{lossy, say};
use super::session::{Session, Tone};
use crate::admin;
use crate::admin::command::document_table;
use crate::admin::info::REDIS_VERSION;
use crate::base::quoted::{is_space, split_args};
use crate::resp::reply::{Reply, Resp};
use crate::resp::value::{Decoder, Value};

/// What there is help on.
#[derive(Debug, Clone)]
pub struct Topic {
    /// `CONFIG GET`, `@string`.
    pub name: Vec<u8>,
    /// `None` for a group.
    pub command: Option<Doc>,
}

/// The documentation of a command.
#[derive(Debug, Clone, Default)]
pub struct Doc {
    words: Vec<Vec<u8>>,
    summary: Vec<u8>,
    since: Vec<u8>,
    group: Vec<u8>,
    args: Option<Vec<Arg>>,
    /// The arguments as text, where [`Doc::args`] cannot say them.
    params: Option<Vec<u8>>,
}

/// All topics, sorted by name.
#[derive(Debug, Clone, Default)]
pub struct Help {
    pub topics: Vec<Topic>,
}

impl Help {
    /// Asks the server, or makes do without.
    pub fn gather(session: &mut Session) -> Help {
        if session.connect(Tone::Quiet).is_err() && !session.is_connected() {
            return Help::of(own_docs(None));
        }
        match ask(session, &[b"COMMAND", b"DOCS"]) {
            Some(table @ (Value::Map(_) | Value::Array(_))) => Help::of(docs(&table, None)),
            Some(Value::Error(_)) | None => {
                let version = ask(session, &[b"INFO", b"SERVER"]).and_then(|info| version(&info));
                let mut all = own_docs(version);
                if let Some(Value::Array(table)) = ask(session, &[b"COMMAND"]) {
                    add_unknown(&table, &mut all);
                }
                Help::of(all)
            }
            Some(_) => Help::default(),
        }
    }

    fn of(docs: Vec<Doc>) -> Help {
        let mut groups: Vec<Vec<u8>> = docs.iter().map(|doc| doc.group.clone()).collect();
        groups.sort();
        groups.dedup();
        let groups = groups.into_iter().map(|group| Topic {
            name: [b"@", &group[..]].concat(),
            command: None,
        });
        let commands = docs.into_iter().map(|doc| Topic {
            name: doc.words.join(&b' '),
            command: Some(doc),
        });
        let mut topics: Vec<Topic> = commands.chain(groups).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Help { topics }
    }

    fn docs(&self) -> impl Iterator<Item = &Doc> {
        self.topics
            .iter()
            .filter_map(|topic| topic.command.as_ref())
    }

    /// What may follow `line`; `None` where it names no command.
    pub fn hint(&self, line: &[u8]) -> Option<Vec<u8>> {
        let mut words = split_args(line).ok()?;
        // The last word may become a longer one.
        if !line.last().is_some_and(|b| is_space(*b)) {
            words.pop();
        }
        let doc = self
            .docs()
            .filter(|doc| starts_with(&words, &doc.words))
            .max_by_key(|doc| doc.words.len())?;
        let typed = &words[doc.words.len()..];
        Some(match &doc.args {
            Some(args) => hint::hint(args, typed),
            None if typed.is_empty() => doc.params.clone().unwrap_or_default(),
            None => Vec::new(),
        })
    }
}

/// Whether `words` begins with those of a name.
fn starts_with(words: &[Vec<u8>], name: &[Vec<u8>]) -> bool {
    words.len() >= name.len()
        && name
            .iter()
            .zip(words)
            .all(|(name, word)| name.eq_ignore_ascii_case(word))
}

fn ask(session: &mut Session, args: &[&[u8]]) -> Option<Value> {
    session.link().ok()?.command(args).ok()
}

/// A version's three numbers.
type Version = [i64; 3];

fn parse_version(text: &[u8]) -> Version {
    let mut parts = text.split(|&b| b == b'.');
    std::array::from_fn(|_| {
        let part = parts.next().unwrap_or_default();
        crate::base::number::leading_i64(part).0
    })
}

fn version(info: &Value) -> Option<Version> {
    let text = info.as_bytes()?;
    let line = text
        .split(|&b| b == b'\n')
        .find_map(|line| line.strip_prefix(b"redis_version:"))?;
    Some(parse_version(line))
}

/// The documentation of our own commands, without what is younger than `version`.
fn own_docs(version: Option<Version>) -> Vec<Doc> {
    let mut reply = Reply::with_resp(Resp::V3);
    document_table(&mut reply, &admin::table());
    match Decoder::new().decode(&reply.to_vec()) {
        Ok((_, Some(table))) => docs(&table, version),
        _ => Vec::new(),
    }
}

/// The pairs of a map, which RESP2 shows as a list.
fn pairs(value: &Value) -> Vec<(&[u8], &Value)> {
    match value {
        Value::Map(pairs) => pairs
            .iter()
            .map(|(key, value)| (key.as_bytes().unwrap_or_default(), value))
            .collect(),
        Value::Array(items) => items
            .chunks_exact(2)
            .map(|pair| (pair[0].as_bytes().unwrap_or_default(), &pair[1]))
            .collect(),
        _ => Vec::new(),
    }
}

fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) | Value::Set(items) => items,
        _ => &[],
    }
}

fn is_known(since: &[u8], version: Option<Version>) -> bool {
    version.is_none_or(|version| parse_version(since) <= version)
}

fn docs(table: &Value, version: Option<Version>) -> Vec<Doc> {
    let mut all = Vec::new();
    for (name, fields) in pairs(table) {
        document(&[name], fields, version, &mut all);
    }
    all
}

fn document(name: &[&[u8]], fields: &Value, version: Option<Version>, all: &mut Vec<Doc>) {
    let mut doc = Doc {
        words: name.iter().map(|word| word.to_ascii_uppercase()).collect(),
        ..Doc::default()
    };
    let mut subs = Vec::new();
    for (key, value) in pairs(fields) {
        let text = || value.as_bytes().unwrap_or_default().to_vec();
        match key {
            b"summary" => doc.summary = text(),
            b"since" => doc.since = text(),
            b"group" => doc.group = text(),
            b"arguments" => doc.args = Some(arguments(value, version)),
            b"subcommands" => subs = pairs(value),
            _ => {}
        }
    }
    if !is_known(&doc.since, version) {
        return;
    }
    all.push(doc);
    for (full, fields) in subs {
        let sub = full.rsplit(|&b| b == b'|').next().unwrap_or(full);
        document(&[name[0], sub], fields, version, all);
    }
}

fn arguments(value: &Value, version: Option<Version>) -> Vec<Arg> {
    let all = list(value).iter().map(|fields| argument(fields, version));
    all.filter(|arg| is_known(&arg.since, version)).collect()
}

fn argument(fields: &Value, version: Option<Version>) -> Arg {
    let mut arg = Arg::new(Vec::new(), Kind::Text);
    let (mut kind, mut nested, mut display) = (&b""[..], Vec::new(), None);
    for (key, value) in pairs(fields) {
        let text = value.as_bytes().unwrap_or_default();
        match key {
            b"name" => arg.name = text.to_vec(),
            b"display_text" => display = Some(text.to_vec()),
            b"token" => arg.token = Some(text.to_vec()),
            b"since" => arg.since = text.to_vec(),
            b"type" => kind = text,
            b"arguments" => nested = arguments(value, version),
            b"flags" => {
                let has = |flag: &[u8]| {
                    let mut flags = list(value).iter();
                    flags.any(|value| value.as_bytes() == Some(flag))
                };
                arg.optional = has(b"optional");
                arg.multiple = has(b"multiple");
                arg.multiple_token = has(b"multiple_token");
            }
            _ => {}
        }
    }
    arg.kind = match kind {
        b"integer" | b"unix-time" => Kind::Integer,
        b"double" => Kind::Double,
        b"pure-token" => Kind::PureToken,
        b"oneof" => Kind::OneOf(nested),
        b"block" => Kind::Block(nested),
        _ => Kind::Text,
    };
    arg.name = display.unwrap_or(arg.name);
    arg
}

/// Adds the commands of COMMAND that have no documentation yet: a name and a number of arguments is all there is.
fn add_unknown(table: &[Value], all: &mut Vec<Doc>) {
    for entry in table {
        let [
            Value::Bulk(name),
            Value::Int(arity),
            _,
            Value::Int(first_key),
            ..,
        ] = list(entry)
        else {
            return;
        };
        if all
            .iter()
            .any(|doc| doc.words[0].eq_ignore_ascii_case(name))
        {
            continue;
        }
        let mut params = Vec::new();
        let mut left = arity.unsigned_abs().saturating_sub(1).min(100);
        if *first_key == 1 {
            params.extend_from_slice(b"key ");
            left = left.saturating_sub(1);
        }
        (0..left).for_each(|_| params.extend_from_slice(b"arg "));
        if *arity < 0 {
            params.extend_from_slice(b"...options...");
        }
        all.push(Doc {
            words: vec![name.to_ascii_uppercase()],
            summary: b"Help not available".to_vec(),
            since: b"Not known".to_vec(),
            group: b"generic".to_vec(),
            args: None,
            params: Some(params),
        });
    }
}

/// HELP, HELP @group, HELP command.
pub fn command(session: &mut Session, args: &[Vec<u8>]) {
    let Some(first) = args.first() else {
        return general();
    };
    let help = session.help();
    let group = first.strip_prefix(b"@");
    for doc in help.docs() {
        match group {
            Some(group) if group.eq_ignore_ascii_case(&doc.group) => print(doc, false),
            None if starts_with(&doc.words, args) => print(doc, true),
            _ => {}
        }
    }
    say!("\r\n");
}

fn print(doc: &Doc, with_group: bool) {
    let params = match &doc.args {
        Some(args) => Some(hint::hint(args, &[])),
        None => doc.params.clone(),
    };
    // (C's word for what is not there.)
    let params = params.unwrap_or_else(|| b"(null)".to_vec());
    say!(
        "\r\n  \x1b[1m{}\x1b[0m \x1b[90m{}\x1b[0m\r\n",
        lossy(&doc.words.join(&b' ')),
        lossy(&params)
    );
    say!("  \x1b[33msummary:\x1b[0m {}\r\n", lossy(&doc.summary));
    if !doc.since.is_empty() {
        say!("  \x1b[33msince:\x1b[0m {}\r\n", lossy(&doc.since));
    }
    if with_group {
        say!("  \x1b[33mgroup:\x1b[0m {}\r\n", lossy(&doc.group));
    }
}

fn general() {
    say!(
        "redis-cli {REDIS_VERSION}\n\
        To get help about Redis commands type:\n      \
        \"help @<group>\" to get a list of commands in <group>\n      \
        \"help <command>\" for help on <command>\n      \
        \"help <tab>\" to get a list of possible help topics\n      \
        \"quit\" to exit\n\
        \n\
        To set redis-cli preferences:\n      \
        \":set hints\" enable online hints\n      \
        \":set nohints\" disable online hints\n\
        Set your preferences in ~/.redisclirc\n"
    );
}
