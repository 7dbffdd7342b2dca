//! COMMAND: the command table as clients read it, straight from the rows.
//!
//! A renamed command keeps the name of its row in every reply; one that was renamed to nothing is left
//! out. The order is that of the names.

use crate::base::glob;
use crate::cmd::args::is_word;
use crate::cmd::fault::SYNTAX;
use crate::cmd::spec::{Acl, Arg, ArgType, Begin, Find, Flags, Group, KeySpec, Spec};
use crate::cmd::{Args, CmdResult, DONE, Fault, Row};
use crate::exec::table::{Command, CommandId, Resolved, Table, keys_of};
use crate::exec::{Call, ServerFn};
use crate::resp::reply::Reply;

const NO_SUCH_COMMAND: Fault = Fault::new("ERR Invalid command specified");
const NO_KEYS: Fault = Fault::new("ERR The command has no key arguments");
const WRONG_COUNT: Fault = Fault::new("ERR Invalid number of arguments specified for command");
const WRONG_ARGUMENTS: Fault = Fault::new("ERR Invalid arguments specified for command");

const fn row(name: &'static str, arity: i32, since: &'static str) -> Spec {
    Spec::new(name, arity, Group::Server)
        .flags(Flags::LOADING.or(Flags::STALE).or(Flags::SENTINEL_HAS))
        .acl(Acl::CONNECTION)
        .since(since)
}

const COMMAND: Row<ServerFn> = row("command", -1, "2.8.13")
    .cost("O(N) with N all commands")
    .about("Describes every command.")
    .tips(&["nondeterministic_output_order"])
    .run(command);

/// COMMAND
fn command(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    let table = call.server.table.clone();
    let ids = in_use(&table);
    let reply = call.reply();
    reply.array(ids.len());
    for id in ids {
        describe(reply, &table, id);
    }
    DONE
}

/// The commands that can be called now, subcommands apart.
fn in_use(table: &Table) -> Vec<CommandId> {
    let mut ids: Vec<_> = table.names().map(|(_, id)| id).collect();
    ids.sort_unstable();
    ids
}

const COUNT: Row<ServerFn> = row("command|count", 2, "2.8.13")
    .cost("O(1)")
    .about("Counts the commands.")
    .run(count);

fn count(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    let count = call.server.table.names().count();
    call.reply().int(count as i64);
    DONE
}

const INFO: Row<ServerFn> = row("command|info", -2, "2.8.13")
    .cost("O(N) with N the commands asked for")
    .about("Describes commands: arity, flags, keys.")
    .history(&[("7.0.0", "Without arguments it describes all.")])
    .tips(&["nondeterministic_output_order"])
    .args(&[Arg::string("command-name").optional().multiple()])
    .run(info);

/// COMMAND INFO [name ...]: a null for each that does not exist.
fn info(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let names = &args.argv()[2..];
    if names.is_empty() {
        return command(call, args);
    }
    let table = call.server.table.clone();
    let reply = call.reply();
    reply.array(names.len());
    for name in names {
        match table.find_full(name) {
            Some(id) => describe(reply, &table, id),
            None => reply.null(),
        }
    }
    DONE
}

/// The ten fields of COMMAND INFO.
fn describe(reply: &mut Reply, table: &Table, id: CommandId) {
    let command = table.get(id);
    let (first, last, step) = command.legacy_keys.unwrap_or((0, 0, 0));
    reply.array(10);
    reply.bulk(command.spec.name.as_bytes());
    reply.int(i64::from(command.spec.arity));
    words(reply, command.flags.names());
    for n in [first, last, step] {
        reply.int(i64::from(n));
    }
    reply.set(command.acl.names().count());
    for category in command.acl.names() {
        reply.status(format!("@{category}"));
    }
    reply.set(command.spec.tips.len());
    for tip in command.spec.tips {
        reply.bulk(tip.as_bytes());
    }
    reply.set(command.spec.keys.len());
    for spec in command.spec.keys {
        describe_keys(reply, spec);
    }
    if command.subs.is_empty() {
        return reply.set(0);
    }
    reply.array(command.subs.len());
    for &sub in &command.subs {
        describe(reply, table, sub);
    }
}

/// A set of words as simple strings.
fn words(reply: &mut Reply, names: impl Iterator<Item = &'static str>) {
    let names: Vec<_> = names.collect();
    reply.set(names.len());
    for name in names {
        reply.status(name);
    }
}

fn describe_keys(reply: &mut Reply, spec: &KeySpec) {
    reply.map(3 + usize::from(!spec.notes.is_empty()));
    text_field(reply, "notes", spec.notes);
    reply.bulk(b"flags");
    words(reply, spec.flags.names());
    reply.bulk(b"begin_search");
    match spec.begin {
        Begin::Index(at) => how(reply, "index", &[("index", at)]),
        Begin::Keyword(word, from) => {
            how_head(reply, "keyword", 2);
            text_field(reply, "keyword", word);
            number_field(reply, "startfrom", from);
        }
        Begin::Unknown => how(reply, "unknown", &[]),
    }
    reply.bulk(b"find_keys");
    match spec.find {
        Find::Range { last, step, limit } => {
            how(
                reply,
                "range",
                &[("lastkey", last), ("keystep", step), ("limit", limit)],
            );
        }
        Find::KeyNum { at, first, step } => {
            how(
                reply,
                "keynum",
                &[("keynumidx", at), ("firstkey", first), ("keystep", step)],
            );
        }
        Find::Unknown => how(reply, "unknown", &[]),
    }
}

/// One half of a key spec: its type and that type's numbers.
fn how(reply: &mut Reply, kind: &str, numbers: &[(&str, i32)]) {
    how_head(reply, kind, numbers.len());
    for &(name, n) in numbers {
        number_field(reply, name, n);
    }
}

fn how_head(reply: &mut Reply, kind: &str, fields: usize) {
    reply.map(2);
    text_field(reply, "type", kind);
    reply.bulk(b"spec");
    reply.map(fields);
}

/// A field of a map, left out where there is nothing to say.
fn text_field(reply: &mut Reply, name: &str, value: &str) {
    if !value.is_empty() {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
}

fn number_field(reply: &mut Reply, name: &str, n: i32) {
    reply.bulk(name.as_bytes());
    reply.int(i64::from(n));
}

const DOCS: Row<ServerFn> = row("command|docs", -2, "7.0.0")
    .cost("O(N) with N the commands asked for")
    .about("Gives the documentation of commands.")
    .tips(&["nondeterministic_output_order"])
    .args(&[Arg::string("command-name").optional().multiple()])
    .run(docs);

/// COMMAND DOCS [name ...]: what does not exist is left out.
fn docs(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let names = &args.argv()[2..];
    let table = call.server.table.clone();
    let ids = match names.is_empty() {
        true => in_use(&table),
        false => names
            .iter()
            .filter_map(|name| table.find_full(name))
            .collect(),
    };
    document_all(call.reply(), &table, &ids);
    DONE
}

/// The documentation of all commands, as COMMAND DOCS gives it: for clients that have no server to ask.
pub fn document_table(reply: &mut Reply, table: &Table) {
    document_all(reply, table, &in_use(table));
}

fn document_all(reply: &mut Reply, table: &Table, ids: &[CommandId]) {
    reply.map(ids.len());
    for &id in ids {
        let command = table.get(id);
        reply.bulk(command.spec.name.as_bytes());
        document(reply, table, command);
    }
}

fn document(reply: &mut Reply, table: &Table, command: &Command) {
    let spec = &command.spec;
    let doc_flags: Vec<&str> = [
        ("deprecated", !spec.deprecated_since.is_empty()),
        ("syscmd", spec.syscmd),
    ]
    .into_iter()
    .filter_map(|(name, on)| on.then_some(name))
    .collect();
    let texts = [
        spec.about,
        spec.since,
        spec.cost,
        spec.deprecated_since,
        spec.replaced_by,
    ];
    let lists = [
        doc_flags.is_empty(),
        spec.history.is_empty(),
        spec.args.is_empty(),
        command.subs.is_empty(),
    ];
    let given = texts.iter().filter(|t| !t.is_empty()).count()
        + lists.iter().filter(|&&empty| !empty).count();
    reply.map(1 + given);
    text_field(reply, "summary", spec.about);
    text_field(reply, "since", spec.since);
    text_field(reply, "group", spec.group.name());
    text_field(reply, "complexity", spec.cost);
    if !doc_flags.is_empty() {
        reply.bulk(b"doc_flags");
        words(reply, doc_flags.into_iter());
    }
    text_field(reply, "deprecated_since", spec.deprecated_since);
    text_field(reply, "replaced_by", spec.replaced_by);
    if !spec.history.is_empty() {
        reply.bulk(b"history");
        reply.set(spec.history.len());
        for (version, change) in spec.history {
            reply.array(2);
            reply.bulk(version.as_bytes());
            reply.bulk(change.as_bytes());
        }
    }
    if !spec.args.is_empty() {
        reply.bulk(b"arguments");
        document_args(reply, spec.args);
    }
    if !command.subs.is_empty() {
        reply.bulk(b"subcommands");
        document_all(reply, table, &command.subs);
    }
}

fn document_args(reply: &mut Reply, args: &[Arg]) {
    reply.array(args.len());
    for arg in args {
        let nested = matches!(arg.kind, ArgType::OneOf | ArgType::Block);
        let flags: Vec<&str> = [
            ("optional", arg.optional),
            ("multiple", arg.multiple),
            ("multiple_token", arg.multiple_token),
        ]
        .into_iter()
        .filter_map(|(name, on)| on.then_some(name))
        .collect();
        let given = [
            arg.key_spec >= 0,
            arg.token.is_some(),
            !arg.summary.is_empty(),
            !arg.since.is_empty(),
            !arg.deprecated_since.is_empty(),
            !flags.is_empty(),
        ];
        // Name, type, and either the text to display or the nested arguments are always there.
        reply.map(3 + given.iter().filter(|&&g| g).count());
        text_field(reply, "name", arg.name);
        text_field(reply, "type", arg.kind.name());
        if !nested {
            text_field(
                reply,
                "display_text",
                if arg.display.is_empty() {
                    arg.name
                } else {
                    arg.display
                },
            );
        }
        if arg.key_spec >= 0 {
            number_field(reply, "key_spec_index", arg.key_spec);
        }
        if let Some(token) = arg.token {
            reply.bulk(b"token");
            reply.bulk(token.as_bytes());
        }
        text_field(reply, "summary", arg.summary);
        text_field(reply, "since", arg.since);
        text_field(reply, "deprecated_since", arg.deprecated_since);
        if !flags.is_empty() {
            reply.bulk(b"flags");
            words(reply, flags.into_iter());
        }
        if nested {
            reply.bulk(b"arguments");
            document_args(reply, arg.of);
        }
    }
}

const LIST: Row<ServerFn> = row("command|list", -2, "7.0.0")
    .cost("O(N) with N all commands")
    .about("Lists the names of commands.")
    .tips(&["nondeterministic_output_order"])
    .args(&[Arg::one_of(
        "filterby",
        &[
            Arg::string("module-name").token("MODULE"),
            Arg::string("category").token("ACLCAT"),
            Arg::pattern("pattern").token("PATTERN"),
        ],
    )
    .token("FILTERBY")
    .optional()])
    .run(list);

/// Which commands COMMAND LIST names.
enum Filter<'a> {
    All,
    Category(Acl),
    Pattern(&'a [u8]),
    /// Those of a module that is not there.
    None,
}

impl<'a> Filter<'a> {
    fn parse(args: &[&'a [u8]]) -> Result<Self, Fault> {
        Ok(match *args {
            [] => Filter::All,
            [by, kind, value] if is_word(by, "filterby") => match kind {
                k if is_word(k, "module") => Filter::None,
                k if is_word(k, "aclcat") => {
                    let category = Acl::NAMES.iter().find(|(_, name)| is_word(value, name));
                    Filter::Category(category.map_or(Acl::NONE, |(acl, _)| *acl))
                }
                k if is_word(k, "pattern") => Filter::Pattern(value),
                _ => return Err(SYNTAX),
            },
            _ => return Err(SYNTAX),
        })
    }

    fn fits(&self, command: &Command) -> bool {
        match self {
            Filter::All => true,
            Filter::Category(acl) => command.acl.has(*acl),
            Filter::Pattern(pattern) => glob::matches_nocase(pattern, command.spec.name.as_bytes()),
            Filter::None => false,
        }
    }
}

/// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]
fn list(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let filter = Filter::parse(&args.argv()[2..])?;
    let table = call.server.table.clone();
    let all = in_use(&table).into_iter().flat_map(|id| {
        let command = table.get(id);
        std::iter::once(command).chain(command.subs.iter().map(|&sub| table.get(sub)))
    });
    let chosen: Vec<_> = all.filter(|command| filter.fits(command)).collect();
    let reply = call.reply();
    reply.array(chosen.len());
    for command in chosen {
        reply.bulk(command.spec.name.as_bytes());
    }
    DONE
}

const GETKEYS: Row<ServerFn> = row("command|getkeys", -3, "2.8.13")
    .cost("O(N) with N the arguments")
    .about("Tells which arguments of a command are keys.")
    .args(&[
        Arg::string("command"),
        Arg::string("arg").optional().multiple(),
    ])
    .run(getkeys);

/// COMMAND GETKEYS command [arg ...]
fn getkeys(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    find_keys(call, args, false)
}

const GETKEYSANDFLAGS: Row<ServerFn> = row("command|getkeysandflags", -3, "7.0.0")
    .cost("O(N) with N the arguments")
    .about("Tells which arguments of a command are keys, and what it does with them.")
    .args(&[
        Arg::string("command"),
        Arg::string("arg").optional().multiple(),
    ])
    .run(getkeysandflags);

/// COMMAND GETKEYSANDFLAGS command [arg ...]
fn getkeysandflags(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    find_keys(call, args, true)
}

fn find_keys(call: &mut Call<'_>, args: Args<'_>, with_flags: bool) -> CmdResult {
    let argv = &args.argv()[2..];
    let table = call.server.table.clone();
    let Resolved::Command(id) = table.resolve(argv) else {
        return Err(NO_SUCH_COMMAND);
    };
    let command = table.get(id);
    if !command.has_keys() {
        return Err(NO_KEYS);
    }
    if !command.takes(argv.len()) {
        return Err(WRONG_COUNT);
    }
    let keys = keys_of(command, argv).unwrap_or_default();
    if keys.is_empty() && !command.flags.has(Flags::NO_MANDATORY_KEYS) {
        return Err(WRONG_ARGUMENTS);
    }
    let reply = call.reply();
    reply.array(keys.len());
    for key in keys {
        if with_flags {
            reply.array(2);
        }
        reply.bulk(argv[key.pos]);
        if with_flags {
            words(reply, key.flags.names());
        }
    }
    DONE
}

const HELP: Row<ServerFn> = row("command|help", 2, "5.0.0")
    .cost("O(1)")
    .about("Lists the subcommands.")
    .run(help);

fn help(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    call.help("COMMAND", HELP_LINES)
}

const HELP_LINES: &[&str] = &[
    "(no subcommand)",
    "    Describe all commands.",
    "COUNT",
    "    Count the commands.",
    "LIST",
    "    List the names of all commands.",
    "INFO [<command-name> ...]",
    "    Describe these commands, or all of them.",
    "DOCS [<command-name> ...]",
    "    Give the documentation of these commands, or of all.",
    "GETKEYS <full-command>",
    "    Tell which arguments of a command are keys.",
    "GETKEYSANDFLAGS <full-command>",
    "    Tell the same, and what the command does with them.",
];

pub static ROWS: &[Row<ServerFn>] = &[
    COMMAND,
    COUNT,
    DOCS,
    GETKEYS,
    GETKEYSANDFLAGS,
    HELP,
    INFO,
    LIST,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::test_io::TestServer;

    /// What follows the first reply in RESP3 text; elements are counted, so a wrong length shows.
    fn after_reply(text: &str) -> &str {
        let (head, mut rest) = text.split_once("\r\n").unwrap();
        let length = || head[1..].parse::<usize>().unwrap();
        match head.as_bytes()[0] {
            b'+' | b':' | b'_' => {}
            b'$' => {
                assert_eq!(&rest[length()..length() + 2], "\r\n");
                rest = &rest[length() + 2..];
            }
            kind @ (b'*' | b'~' | b'%') => {
                let per_element = if kind == b'%' { 2 } else { 1 };
                for _ in 0..length() * per_element {
                    rest = after_reply(rest);
                }
            }
            other => panic!("{}", other as char),
        }
        rest
    }

    #[test]
    fn every_row_is_told_whole() {
        let mut world = TestServer::default();
        let me = world.connect();
        world.call(me, &["HELLO", "3"]);
        let count = world.call(me, &["COMMAND", "COUNT"]);
        let count = count[1..].trim();
        for (words, head) in [
            (&["COMMAND"][..], '*'),
            (&["COMMAND", "INFO"], '*'),
            (&["COMMAND", "DOCS"], '%'),
        ] {
            let reply = world.call(me, words);
            assert!(reply.starts_with(&format!("{head}{count}\r\n")));
            assert_eq!(after_reply(&reply), "", "{words:?}");
        }
        let names = world.call(me, &["COMMAND", "LIST"]);
        assert_eq!(names.matches("\r\n$").count(), world.server.table.len());
    }

    /// What a client shows of a row must be there, and look as Redis's rows do.
    #[test]
    fn every_row_is_filled_in() {
        fn check(name: &str, args: &[Arg]) {
            for arg in args {
                let token = arg.token.unwrap_or_default();
                assert_eq!(token, token.to_ascii_uppercase(), "{name}");
                assert_eq!(arg.name, arg.name.replace(' ', ""), "{name}");
                let nested = matches!(arg.kind, ArgType::OneOf | ArgType::Block);
                assert_eq!(nested, !arg.of.is_empty(), "{name}: {}", arg.name);
                check(name, arg.of);
            }
        }
        let world = TestServer::default();
        for (_, command) in world.server.table.iter() {
            let spec = &command.spec;
            assert!(
                !spec.about.is_empty() && !spec.about.contains("THEIRS"),
                "{}",
                spec.name
            );
            assert_eq!(spec.since.split('.').count(), 3, "{}", spec.name);
            check(spec.name, spec.args);
        }
    }

    #[test]
    fn keys_are_found_or_the_reason_is_told() {
        let mut world = TestServer::default();
        let me = world.connect();
        let mut keys = |kind: &str, words: &str| {
            let words: Vec<&str> = ["COMMAND", kind]
                .into_iter()
                .chain(words.split(' '))
                .collect();
            world.call(me, &words)
        };
        assert_eq!(
            keys("GETKEYS", "mset a 1 b 2"),
            "*2\r\n$1\r\na\r\n$1\r\nb\r\n"
        );
        let flags = "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+OW\r\n+update\r\n";
        assert_eq!(keys("GETKEYSANDFLAGS", "set a 1"), flags);
        assert_eq!(
            keys("GETKEYS", "nosuch"),
            "-ERR Invalid command specified\r\n"
        );
        assert_eq!(
            keys("GETKEYS", "config nosuch"),
            "-ERR Invalid command specified\r\n"
        );
        assert_eq!(
            keys("GETKEYS", "ping"),
            "-ERR The command has no key arguments\r\n"
        );
        let arity = "-ERR Invalid number of arguments specified for command\r\n";
        assert_eq!(keys("GETKEYS", "get"), arity);
    }
}
