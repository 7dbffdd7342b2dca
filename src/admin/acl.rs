//! ACL: the users, what they may do, and what they were denied.
//!
//! The rules and the questions are told in [`crate::acl`], what follows from a change in `exec/acl.rs`.

use std::path::PathBuf;

use crate::acl::log::Entry;
use crate::acl::rule::has_blanks;
use crate::acl::selector::Selector;
use crate::acl::user::DEFAULT;
use crate::base::checksum::hex;
use crate::base::{errno, number};
use crate::cmd::args::is_word;
use crate::cmd::fault::{NOT_INTEGER, quoted};
use crate::cmd::spec::{Acl, Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Fault, Row};
use crate::exec::acl::basis;
use crate::exec::table::Resolved;
use crate::exec::{Call, ServerFn};
use crate::resp::reply::Reply;

const BLANKS_IN_NAME: Fault = Fault::new("ERR Usernames can't contain spaces or null characters");
const DEFAULT_STAYS: Fault = Fault::new("ERR The 'default' user cannot be removed");
const NO_FILE: Fault = Fault::new(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis configuration.",
);
const SAVE_FAILED: Fault = Fault::new(
    "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
);
const PASSWORD_BITS: Fault = Fault::new(
    "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
);
const PASSWORD_BITS_MAX: i64 = 4096;
/// Entries that ACL LOG shows when it is not told how many.
const LOG_SHOWN: usize = 10;

/// Flags of what anybody may ask.
const OPEN: Flags = Flags::NOSCRIPT
    .or(Flags::LOADING)
    .or(Flags::STALE)
    .or(Flags::SENTINEL_HAS);
const ADMIN: Flags = OPEN.or(Flags::ADMIN);

/// What clients of a cluster do with the subcommands that change a node.
const EVERY_NODE: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

const fn row(name: &'static str, arity: i32, flags: Flags) -> Spec {
    Spec::new(name, arity, Group::Server)
        .flags(flags)
        .since("6.0.0")
}

const ACL: Row<ServerFn> = row("acl", -2, Flags::SENTINEL_HAS)
    .cost("That of the subcommand.")
    .about("Commands about users and their rights.")
    .container();

const CAT: Row<ServerFn> = row("acl|cat", -2, OPEN)
    .cost("O(1)")
    .about("Lists the categories of commands, or the commands of one.")
    .args(&[Arg::string("category").optional()])
    .run(cat);

/// ACL CAT [category]
fn cat(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let name = match args.argv()[2..] {
        [] => {
            let reply = call.reply();
            reply.array(Acl::NAMES.len());
            for (_, name) in Acl::NAMES {
                reply.bulk(name.as_bytes());
            }
            return DONE;
        }
        [name] => name,
        _ => return Err(call.wrong_form(&args)),
    };
    let category = Acl::NAMES.iter().find(|(_, known)| is_word(name, known));
    let Some((category, _)) = category else {
        let shown = quoted(&name[..name.len().min(128)]);
        return Err(Fault::text(
            [b"ERR Unknown category '", shown, b"'"].concat(),
        ));
    };
    let table = call.server.table.clone();
    let names: Vec<&str> = table
        .iter()
        .filter(|(_, command)| command.acl.has(*category))
        .map(|(_, command)| command.spec.name)
        .collect();
    let reply = call.reply();
    reply.array(names.len());
    for name in names {
        reply.bulk(name.as_bytes());
    }
    DONE
}

const DELUSER: Row<ServerFn> = row("acl|deluser", -3, ADMIN)
    .cost("O(1) for each user, and O(N) with N the connections")
    .about("Deletes users and closes their connections.")
    .tips(EVERY_NODE)
    .args(&[Arg::string("username").multiple()])
    .run(deluser);

/// ACL DELUSER username [username ...]: replies how many there were.
fn deluser(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let names = &args.argv()[2..];
    if names.contains(&DEFAULT) {
        return Err(DEFAULT_STAYS);
    }
    let deleted = names
        .iter()
        .filter(|name| call.server.delete_user(name))
        .count();
    call.reply().int(deleted as i64);
    DONE
}

const DRYRUN: Row<ServerFn> = row("acl|dryrun", -4, ADMIN)
    .since("7.0.0")
    .cost("O(1)")
    .about("Tells whether a user could run a command, without running it.")
    .args(&[
        Arg::string("username"),
        Arg::string("command"),
        Arg::string("arg").optional().multiple(),
    ])
    .run(dryrun);

/// ACL DRYRUN username command [arg ...]
fn dryrun(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let (name, argv) = (args.argv()[2], &args.argv()[3..]);
    let not_found = |what: &[u8], name| {
        Err(Fault::text(
            [b"ERR ", what, b" '", quoted(name), b"' not found"].concat(),
        ))
    };
    let Some(user) = call.server.acl.users.get(name).cloned() else {
        return not_found(b"User", name);
    };
    let table = call.server.table.clone();
    let Resolved::Command(id) = table.resolve(argv) else {
        return not_found(b"Command", argv[0]);
    };
    let command = table.get(id);
    if !command.takes(argv.len()) {
        let name = command.spec.name;
        let text = format!("ERR wrong number of arguments for '{name}' command");
        return Err(Fault::text(text));
    }
    match table.may_run(&user, id, argv) {
        Ok(()) => call.reply().ok(),
        Err(denied) => {
            let text = denied.text(user.name(), command.spec.name, argv, true);
            call.reply().bulk(&text);
        }
    }
    DONE
}

const GENPASS: Row<ServerFn> = row("acl|genpass", -2, OPEN)
    .cost("O(1)")
    .about("Makes a password that nobody can guess.")
    .args(&[Arg::int("bits").optional()])
    .run(genpass);

/// ACL GENPASS [bits]: in hexadecimal digits, four bits each.
fn genpass(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let bits = match args.argv()[2..] {
        [] => 256,
        [bits] => number::parse_i64(bits).ok_or(NOT_INTEGER)?,
        _ => return Err(call.wrong_form(&args)),
    };
    if !(1..=PASSWORD_BITS_MAX).contains(&bits) {
        return Err(PASSWORD_BITS);
    }
    let digits = bits.unsigned_abs().div_ceil(4) as usize;
    let mut bytes = vec![0; digits.div_ceil(2)];
    call.io.secret(&mut bytes);
    let password = hex(&bytes);
    call.reply().bulk(&password.as_bytes()[..digits]);
    DONE
}

const GETUSER: Row<ServerFn> = row("acl|getuser", 3, ADMIN)
    .cost("O(N) with N the rules of the user")
    .about("Shows a user.")
    .history(&[
        ("6.2.0", "The patterns of channels."),
        (
            "7.0.0",
            "The selectors; keys and channels are shown as rules, no longer as lists.",
        ),
    ])
    .args(&[Arg::string("username")])
    .run(getuser);

/// ACL GETUSER username
fn getuser(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let Some(user) = call.server.acl.users.get(args.argv()[2]).cloned() else {
        call.reply().null();
        return DONE;
    };
    let reply = call.reply();
    reply.map(6);
    reply.bulk(b"flags");
    let flags = user.flags();
    reply.set(flags.len());
    for flag in flags {
        reply.bulk(flag.as_bytes());
    }
    reply.bulk(b"passwords");
    reply.array(user.passwords().len());
    for hash in user.passwords() {
        reply.bulk(hash.as_bytes());
    }
    reply_rights(reply, user.root());
    reply.bulk(b"selectors");
    reply.array(user.selectors().len());
    for selector in user.selectors() {
        reply.map(3);
        reply_rights(reply, selector);
    }
    DONE
}

/// The three fields of a selector.
fn reply_rights(reply: &mut Reply, selector: &Selector) {
    let fields: [(&[u8], Vec<Vec<u8>>); 3] = [
        (b"commands", selector.command_words()),
        (b"keys", selector.key_words()),
        (b"channels", selector.channel_words()),
    ];
    for (name, words) in fields {
        reply.bulk(name);
        reply.bulk(&words.join(&b' '));
    }
}

const HELP: Row<ServerFn> = row(
    "acl|help",
    2,
    Flags::LOADING.or(Flags::STALE).or(Flags::SENTINEL_HAS),
)
.cost("O(1)")
.about("Lists the subcommands.")
.run(help);

fn help(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    call.help("ACL", HELP_LINES)
}

const HELP_LINES: &[&str] = &[
    "CAT [<category>]",
    "    List the categories of commands, or the commands of one.",
    "DELUSER <username> [<username> ...]",
    "    Delete users and close their connections.",
    "DRYRUN <username> <command> [<arg> ...]",
    "    Tell whether the user could run the command, without running it.",
    "GETUSER <username>",
    "    Show a user.",
    "GENPASS [<bits>]",
    "    Make a password of 256 bits, or of so many, that nobody can guess.",
    "LIST",
    "    Show all users in the form of a configuration file.",
    "LOAD",
    "    Read the users anew from the ACL file.",
    "LOG [<count> | RESET]",
    "    Show what was denied, or forget it.",
    "SAVE",
    "    Write the users to the ACL file.",
    "SETUSER <username> <attribute> [<attribute> ...]",
    "    Make or change a user.",
    "USERS",
    "    List the names of all users.",
    "WHOAMI",
    "    Tell whom this connection is logged in as.",
];

const LIST: Row<ServerFn> = row("acl|list", 2, ADMIN)
    .cost("O(N) with N the users")
    .about("Shows all users in the form of a configuration file.")
    .run(list);

fn list(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    let lines: Vec<Vec<u8>> = call.server.acl.users.iter().map(|u| u.line()).collect();
    reply_all(call, lines.iter().map(Vec::as_slice))
}

const USERS: Row<ServerFn> = row("acl|users", 2, ADMIN)
    .cost("O(N) with N the users")
    .about("Lists the names of all users.")
    .run(users);

fn users(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    let users: Vec<_> = call.server.acl.users.iter().cloned().collect();
    reply_all(call, users.iter().map(|user| user.name()))
}

fn reply_all<'a>(call: &mut Call<'_>, texts: impl ExactSizeIterator<Item = &'a [u8]>) -> CmdResult {
    let reply = call.reply();
    reply.array(texts.len());
    for text in texts {
        reply.bulk(text);
    }
    DONE
}

const LOAD: Row<ServerFn> = row("acl|load", 2, ADMIN)
    .cost("O(N) with N the users")
    .about("Reads the users anew from the ACL file.")
    .run(load);

/// ACL LOAD: all that the file says, or nothing.
fn load(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    if call.server.config.aclfile.is_empty() {
        return Err(NO_FILE);
    }
    let users = call.server.read_users(call.io);
    let users = users.map_err(|errors| Fault::text([b"ERR ", &errors[..]].concat()))?;
    call.server.replace_users(users);
    call.reply().ok();
    DONE
}

const SAVE: Row<ServerFn> = row("acl|save", 2, ADMIN)
    .cost("O(N) with N the users")
    .about("Writes the users to the ACL file.")
    .tips(EVERY_NODE)
    .run(save);

/// ACL SAVE: written beside the old file, synced, and put in its place.
fn save(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    if call.server.config.aclfile.is_empty() {
        return Err(NO_FILE);
    }
    if let Err((step, error)) = write_file(call) {
        log::warn!("{step} for ACL SAVE: {}", errno::text(&error));
        return Err(SAVE_FAILED);
    }
    call.reply().ok();
    DONE
}

/// Writes the ACL file. `Err` has the step that failed.
fn write_file(call: &mut Call<'_>) -> Result<(), (&'static str, std::io::Error)> {
    let server = &*call.server;
    let (path, disk) = (server.acl_path(), call.io.disk());
    let mut temporary = path.clone().into_os_string();
    temporary.push(format!(".tmp-{}-{}", server.process.pid, server.now.ms()));
    let temporary = PathBuf::from(temporary);
    let at = |step| move |error| (step, error);
    let written = (|| {
        let mut file = disk
            .create(&temporary)
            .map_err(at("Opening temp ACL file"))?;
        file.write_all(&server.acl.users.text())
            .map_err(at("Writing ACL file"))?;
        file.sync().map_err(at("Syncing ACL file"))?;
        disk.rename(&temporary, &path)
            .map_err(at("Renaming ACL file"))
    })();
    if written.is_err() {
        // That a file is left over is no worse than what is told already.
        let _ = disk.unlink(&temporary);
    }
    written?;
    let dir = path.parent().unwrap_or(&path);
    disk.sync_dir(dir).map_err(at("Syncing ACL directory"))
}

const LOG: Row<ServerFn> = row("acl|log", -2, ADMIN)
    .cost("O(N) with N the entries shown")
    .about("Shows what was denied, or forgets it.")
    .history(&[(
        "7.2.0",
        "The entry's ID, and when it was made and last updated.",
    )])
    .args(&[Arg::one_of(
        "operation",
        &[Arg::int("count"), Arg::word("reset", "RESET")],
    )
    .optional()])
    .run(log_command);

/// ACL LOG [count | RESET]
fn log_command(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let count = match args.argv()[2..] {
        [] => LOG_SHOWN,
        [word] if is_word(word, "reset") => {
            call.server.acl.log.clear();
            call.reply().ok();
            return DONE;
        }
        [count] => {
            let count = number::parse_i64(count).ok_or(NOT_INTEGER)?;
            usize::try_from(count).unwrap_or(0)
        }
        _ => return Err(call.wrong_form(&args)),
    };
    let Call { server, token, .. } = call;
    let (now_ms, log) = (server.now.ms(), &server.acl.log);
    let Some(conn) = server.conns.get_mut(*token) else {
        return DONE;
    };
    let entries = log.newest(count);
    conn.reply.array(entries.len());
    for entry in entries {
        reply_entry(&mut conn.reply, entry, now_ms);
    }
    DONE
}

fn reply_entry(reply: &mut Reply, entry: &Entry, now_ms: u64) {
    let event = &entry.event;
    reply.map(10);
    reply.bulk(b"count");
    reply.int(entry.count as i64);
    let fields: [(&str, &[u8]); 4] = [
        ("reason", event.reason.name().as_bytes()),
        ("context", event.context.name().as_bytes()),
        ("object", &event.object),
        ("username", &event.user),
    ];
    for (name, value) in fields {
        reply.bulk(name.as_bytes());
        reply.bulk(value);
    }
    reply.bulk(b"age-seconds");
    let age_ms = now_ms as i64 - entry.updated_ms as i64;
    reply.double(age_ms as f64 / 1000.0);
    reply.bulk(b"client-info");
    reply.bulk(entry.client.as_bytes());
    let numbers = [
        ("entry-id", entry.id),
        ("timestamp-created", entry.created_ms),
        ("timestamp-last-updated", entry.updated_ms),
    ];
    for (name, value) in numbers {
        reply.bulk(name.as_bytes());
        reply.int(value as i64);
    }
}

const SETUSER: Row<ServerFn> = row("acl|setuser", -3, ADMIN)
    .cost("O(N) with N the rules")
    .about("Makes or changes a user.")
    .history(&[
        ("6.2.0", "The patterns of channels."),
        (
            "7.0.0",
            "Selectors, and keys that may only be read or written.",
        ),
    ])
    .tips(EVERY_NODE)
    .args(&[
        Arg::string("username"),
        Arg::string("rule").optional().multiple(),
    ])
    .run(setuser);

/// ACL SETUSER username [rule ...]: all rules, or none if one is wrong.
fn setuser(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    for at in 2..args.len() {
        call.redact(at);
    }
    let (name, rules) = (args.argv()[2], &args.argv()[3..]);
    if has_blanks(name) {
        return Err(BLANKS_IN_NAME);
    }
    let server = &mut *call.server;
    let basis = basis(&server.table, &server.config);
    let changed = server.acl.users.changed(name, rules, basis);
    let user = changed.map_err(|error| Fault::text([b"ERR ", &error[..]].concat()))?;
    server.put_user(user);
    call.reply().ok();
    DONE
}

const WHOAMI: Row<ServerFn> = row("acl|whoami", 2, OPEN)
    .cost("O(1)")
    .about("Tells whom the connection is logged in as.")
    .run(whoami);

fn whoami(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    let user = call.session().user().cloned();
    call.reply()
        .bulk_or_null(user.as_ref().map(|user| user.name()));
    DONE
}

pub static ROWS: &[Row<ServerFn>] = &[
    ACL, CAT, DELUSER, DRYRUN, GENPASS, GETUSER, HELP, LIST, LOAD, LOG, SAVE, SETUSER, USERS,
    WHOAMI,
];

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::server::test_io::TestServer;

    fn say(world: &mut TestServer, who: crate::exec::conn::Token, words: &str) -> String {
        world.call(who, &words.split(' ').collect::<Vec<_>>())
    }

    #[test]
    fn a_file_of_users_is_saved_and_loaded() {
        let mut world = TestServer::new(Config {
            dir: "/".into(),
            aclfile: "users.acl".into(),
            ..Config::default()
        });
        let (boss, guest) = (world.connect(), world.connect());
        let missing =
            "-ERR Error loading ACLs, opening file 'users.acl': No such file or directory\r\n";
        assert_eq!(say(&mut world, boss, "ACL LOAD"), missing);
        say(&mut world, boss, "ACL SETUSER guest on >pw +@all ~g*");
        assert_eq!(say(&mut world, boss, "ACL SAVE"), "+OK\r\n");
        assert_eq!(say(&mut world, guest, "AUTH guest pw"), "+OK\r\n");
        say(&mut world, boss, "ACL SETUSER guest off");
        say(&mut world, boss, "ACL SETUSER later");
        // It stays logged in, and may do what it might.
        assert_eq!(say(&mut world, guest, "GET g"), "$-1\r\n");
        assert_eq!(say(&mut world, boss, "ACL LOAD"), "+OK\r\n");
        assert!(!world.is_open(guest) && world.is_open(boss));
        let users = "*2\r\n$7\r\ndefault\r\n$5\r\nguest\r\n";
        assert_eq!(say(&mut world, boss, "ACL USERS"), users);
        assert_eq!(say(&mut world, boss, "AUTH guest pw"), "+OK\r\n");
        world.io().disk.break_down(libc::EIO);
        assert!(
            say(&mut world, boss, "ACL SAVE")
                .starts_with("-ERR There was an error trying to save the ACLs.")
        );
    }

    #[test]
    fn what_is_denied_is_logged_and_counted() {
        let mut world = TestServer::new(Config::default());
        let (boss, guest) = (world.connect(), world.connect());
        say(
            &mut world,
            boss,
            "ACL SETUSER guest on nopass +@all -flushall ~g* resetchannels &c",
        );
        assert!(say(&mut world, guest, "AUTH guest x").starts_with("+OK"));
        assert!(say(&mut world, guest, "AUTH nobody x").starts_with("-WRONGPASS"));
        let no_command = "-NOPERM User guest has no permissions to run the 'flushall' command\r\n";
        assert_eq!(say(&mut world, guest, "FLUSHALL"), no_command);
        assert_eq!(say(&mut world, guest, "FLUSHALL"), no_command);
        let no_channel = "-NOPERM No permissions to access a channel\r\n";
        assert_eq!(say(&mut world, guest, "PUBLISH d m"), no_channel);
        say(&mut world, guest, "MULTI");
        let no_key = "-NOPERM No permissions to access a key\r\n";
        assert_eq!(say(&mut world, guest, "GET x"), no_key);
        assert!(say(&mut world, guest, "EXEC").starts_with("-EXECABORT"));
        let log = say(&mut world, boss, "ACL LOG");
        let words: Vec<&str> = log.split("\r\n").filter(|w| !w.starts_with('$')).collect();
        let entry = |n: usize| -> Vec<&str> {
            let count = words.iter().enumerate().filter(|(_, w)| **w == "count");
            let from = count.map(|(at, _)| at).nth(n).unwrap();
            [1, 3, 5, 7, 9].map(|field| words[from + field]).to_vec()
        };
        assert_eq!(entry(0), [":1", "key", "multi", "x", "guest"]);
        assert_eq!(entry(1), [":1", "channel", "toplevel", "d", "guest"]);
        assert_eq!(entry(2), [":2", "command", "toplevel", "flushall", "guest"]);
        assert_eq!(entry(3), [":1", "auth", "toplevel", "AUTH", "nobody"]);
        let info = say(&mut world, boss, "INFO stats");
        for line in ["auth:1", "cmd:2", "key:1", "channel:1"] {
            assert!(
                info.contains(&format!("acl_access_denied_{line}\r\n")),
                "{line}"
            );
        }
        let stats = say(&mut world, boss, "INFO commandstats");
        assert!(
            stats.contains("cmdstat_flushall:calls=0,usec=0,usec_per_call=0.00,rejected_calls=2")
        );
        assert_eq!(say(&mut world, boss, "ACL LOG RESET"), "+OK\r\n");
        assert_eq!(say(&mut world, boss, "ACL LOG"), "*0\r\n");
    }

    #[test]
    fn a_password_is_of_the_length_asked_for() {
        let mut world = TestServer::new(Config::default());
        let me = world.connect();
        for (words, digits) in [
            ("ACL GENPASS", 64),
            ("ACL GENPASS 5", 2),
            ("ACL GENPASS 4096", 1024),
        ] {
            let reply = say(&mut world, me, words);
            let password = reply.split("\r\n").nth(1).unwrap();
            assert_eq!(password.len(), digits, "{words}");
            assert!(password.bytes().all(|b| b.is_ascii_hexdigit()));
        }
        assert!(
            say(&mut world, me, "ACL GENPASS 4097").starts_with("-ERR ACL GENPASS argument must")
        );
    }
}
