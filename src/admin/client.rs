//! CLIENT: what is known of the connections, and what can be done to them.
//!
//! The line that LIST and INFO show is made in `exec/clients.rs`. The subcommands about tracking stand in
//! [`super::tracking`].

use std::rc::Rc;

use bytes::Bytes;

use crate::acl::{User, Users};
use crate::base::number;
use crate::cmd::args::is_word;
use crate::cmd::fault::{NOT_INTEGER, SYNTAX, quoted};
use crate::cmd::session::Marks;
use crate::cmd::spec::{Acl, Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Fault, Row};
use crate::exec::clients::Class;
use crate::exec::conn::{Conn, Token};
use crate::exec::server::Pause;
use crate::exec::{Call, ServerFn};

pub const NAME_CHARACTERS: Fault =
    Fault::new("ERR Client names cannot contain spaces, newlines or special characters.");
const INVALID_ID: Fault = Fault::new("ERR Invalid client ID");
const ID_RANGE: Fault = Fault::new("ERR client-id should be greater than 0");
const NO_SUCH_CLIENT: Fault = Fault::new("ERR No such client");
const UNBLOCK_REASON: Fault = Fault::new("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
const PAUSE_MODE: Fault = Fault::new("ERR CLIENT PAUSE mode must be WRITE or ALL");
const TIMEOUT_NUMBER: Fault = Fault::new("ERR timeout is not an integer or out of range");
const TIMEOUT_NEGATIVE: Fault = Fault::new("ERR timeout is negative");
const TIMEOUT_RANGE: Fault = Fault::new("ERR timeout is out of range");
const UNBLOCKED: &str = "UNBLOCKED client unblocked via CLIENT UNBLOCK";

/// Flags of every subcommand but HELP and NO-TOUCH, which add or lack one.
const COMMON: Flags = Flags::NOSCRIPT
    .or(Flags::LOADING)
    .or(Flags::STALE)
    .or(Flags::SENTINEL_HAS);
const ADMIN: Flags = COMMON.or(Flags::ADMIN);

const ON_OFF: &[Arg] = &[Arg::one_of(
    "enabled",
    &[Arg::word("on", "ON"), Arg::word("off", "OFF")],
)];

/// A subcommand's row as most of them are.
const fn row(name: &'static str, arity: i32, flags: Flags) -> Spec {
    Spec::new(name, arity, Group::Connection)
        .flags(flags)
        .acl(Acl::CONNECTION)
        .cost("O(1)")
}

/// True if CLIENT LIST can show it: printable ASCII without spaces. What follows a zero byte does not
/// count, nor is it shown.
pub fn valid_attribute(text: &[u8]) -> bool {
    text.iter()
        .take_while(|&&b| b != 0)
        .all(u8::is_ascii_graphic)
}

fn on_or_off(word: &[u8]) -> Result<bool, Fault> {
    match word {
        w if is_word(w, "on") => Ok(true),
        w if is_word(w, "off") => Ok(false),
        _ => Err(SYNTAX),
    }
}

const CLIENT: Row<ServerFn> = Spec::new("client", -2, Group::Connection)
    .flags(Flags::SENTINEL_HAS)
    .since("2.4.0")
    .cost("That of the subcommand.")
    .about("Commands about client connections.")
    .container();

const HELP: Row<ServerFn> = row(
    "client|help",
    2,
    Flags::LOADING.or(Flags::STALE).or(Flags::SENTINEL_HAS),
)
.since("5.0.0")
.about("Lists the subcommands.")
.run(help);

fn help(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    call.help("CLIENT", HELP_LINES)
}

const ID: Row<ServerFn> = row("client|id", 2, COMMON)
    .since("5.0.0")
    .about("Gives the connection's ID.")
    .run(id);

fn id(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    let id = call.session().id;
    call.reply().int(id as i64);
    DONE
}

const INFO: Row<ServerFn> = row("client|info", 2, COMMON)
    .since("6.2.0")
    .about("Describes the connection.")
    .tips(&["nondeterministic_output"])
    .run(info);

fn info(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let line = call.server.client_line_running(call.token, &args) + "\n";
    call.reply().verbatim(b"txt", line.as_bytes());
    DONE
}

const LIST: Row<ServerFn> = row("client|list", -2, ADMIN)
    .since("2.4.0")
    .cost("O(N) with N the connections")
    .about("Describes the open connections.")
    .history(&[
        ("2.8.12", "The field `id`."),
        ("5.0.0", "The filter `TYPE`."),
        ("6.0.0", "The field `user`."),
        (
            "6.2.0",
            "The fields `argv-mem`, `tot-mem`, `laddr` and `redir`, the filter `ID`.",
        ),
        ("7.0.0", "The fields `resp`, `multi-mem`, `rbs` and `rbp`."),
        ("7.0.3", "The field `ssub`."),
    ])
    .tips(&["nondeterministic_output"])
    .args(&[
        Arg::one_of(
            "client-type",
            &[
                Arg::word("normal", "NORMAL"),
                Arg::word("master", "MASTER"),
                Arg::word("replica", "REPLICA"),
                Arg::word("pubsub", "PUBSUB"),
            ],
        )
        .token("TYPE")
        .since("5.0.0")
        .optional(),
        Arg::int("client-id")
            .token("ID")
            .since("6.2.0")
            .optional()
            .multiple(),
    ])
    .run(list);

/// CLIENT LIST [TYPE type | ID id [id ...]]
fn list(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let tokens: Vec<Token> = match args.argv()[2..] {
        [] => call.server.listed_clients(),
        [word, name] if is_word(word, "type") => {
            let kind = ClientType::parse(name)?;
            let mut all = call.server.listed_clients();
            all.retain(|&t| call.server.conns.get(t).is_some_and(|c| kind.fits(c)));
            all
        }
        [word, ref ids @ ..] if is_word(word, "id") && !ids.is_empty() => {
            let mut found = Vec::new();
            for id in ids {
                let id = number::parse_i64(id).ok_or(INVALID_ID)?;
                found.extend(call.server.client_by_id(id));
            }
            found
        }
        _ => return Err(SYNTAX),
    };
    let mut text = String::new();
    for token in tokens {
        if token == call.token {
            text += &call.server.client_line_running(token, &args);
        } else {
            text += &call.server.client_line(token);
        }
        text.push('\n');
    }
    call.reply().verbatim(b"txt", text.as_bytes());
    DONE
}

/// The types that LIST and KILL choose by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientType {
    Of(Class),
    Master,
}

impl ClientType {
    fn parse(name: &[u8]) -> Result<Self, Fault> {
        Ok(match name {
            n if is_word(n, "normal") => ClientType::Of(Class::Normal),
            n if is_word(n, "slave") || is_word(n, "replica") => ClientType::Of(Class::Replica),
            n if is_word(n, "pubsub") => ClientType::Of(Class::Pubsub),
            n if is_word(n, "master") => ClientType::Master,
            n => {
                return Err(Fault::text(
                    [b"ERR Unknown client type '", quoted(n), b"'"].concat(),
                ));
            }
        })
    }

    fn fits(self, conn: &Conn) -> bool {
        match (self, conn.session.marks.has(Marks::MASTER)) {
            (ClientType::Master, master) => master,
            (ClientType::Of(class), master) => !master && conn.class() == class,
        }
    }
}

const KILL: Row<ServerFn> = row("client|kill", -3, ADMIN)
    .since("2.4.0")
    .cost("O(N) with N the connections")
    .about("Closes connections.")
    .history(&[
        ("2.8.12", "Filters."),
        ("2.8.12", "The filter `ID`."),
        ("3.2.0", "`TYPE master`."),
        ("5.0.0", "`TYPE replica`; `slave` still means the same."),
        ("6.2.0", "The filter `LADDR`."),
    ])
    .args(&[Arg::one_of(
        "filter",
        &[
            Arg::string("old-format")
                .display("ip:port")
                .deprecated("2.8.12"),
            Arg::one_of(
                "new-format",
                &[
                    Arg::int("client-id").token("ID").since("2.8.12").optional(),
                    Arg::one_of(
                        "client-type",
                        &[
                            Arg::word("normal", "NORMAL"),
                            Arg::word("master", "MASTER").since("3.2.0"),
                            Arg::word("slave", "SLAVE"),
                            Arg::word("replica", "REPLICA").since("5.0.0"),
                            Arg::word("pubsub", "PUBSUB"),
                        ],
                    )
                    .token("TYPE")
                    .since("2.8.12")
                    .optional(),
                    Arg::string("username").token("USER").optional(),
                    Arg::string("addr")
                        .token("ADDR")
                        .display("ip:port")
                        .optional(),
                    Arg::string("laddr")
                        .token("LADDR")
                        .display("ip:port")
                        .since("6.2.0")
                        .optional(),
                    Arg::one_of("skipme", &[Arg::word("yes", "YES"), Arg::word("no", "NO")])
                        .token("SKIPME")
                        .optional(),
                ],
            )
            .multiple(),
        ],
    )])
    .run(kill);

/// Which connections to close: those that every given filter fits.
#[derive(Default)]
struct Filter<'a> {
    id: Option<u64>,
    kind: Option<ClientType>,
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    user: Option<Rc<User>>,
    keep_me: bool,
}

impl<'a> Filter<'a> {
    fn parse(mut args: Args<'a>, users: &Users) -> Result<Self, Fault> {
        let mut filter = Filter {
            keep_me: true,
            ..Filter::default()
        };
        while let Ok(word) = args.next() {
            let value = args.next()?;
            match word {
                w if is_word(w, "id") => {
                    let id = number::parse_i64(value).and_then(|id| u64::try_from(id).ok());
                    filter.id = Some(id.filter(|&id| id > 0).ok_or(ID_RANGE)?);
                }
                w if is_word(w, "type") => filter.kind = Some(ClientType::parse(value)?),
                w if is_word(w, "addr") => filter.addr = Some(value),
                w if is_word(w, "laddr") => filter.laddr = Some(value),
                w if is_word(w, "user") => {
                    let user = users.get(value).cloned();
                    filter.user = Some(user.ok_or_else(|| {
                        Fault::text([b"ERR No such user '", quoted(value), b"'"].concat())
                    })?);
                }
                w if is_word(w, "skipme") && is_word(value, "yes") => filter.keep_me = true,
                w if is_word(w, "skipme") && is_word(value, "no") => filter.keep_me = false,
                _ => return Err(SYNTAX),
            }
        }
        Ok(filter)
    }

    fn fits(&self, conn: &Conn) -> bool {
        self.addr.is_none_or(|a| a == conn.peer.addr.as_bytes())
            && self.laddr.is_none_or(|a| a == conn.peer.laddr.as_bytes())
            && self.kind.is_none_or(|k| k.fits(conn))
            && self.id.is_none_or(|id| id == conn.session.id)
            && self.user.as_ref().is_none_or(|user| {
                let theirs = conn.session.user();
                theirs.is_some_and(|theirs| Rc::ptr_eq(theirs, user))
            })
    }
}

/// CLIENT KILL addr, or CLIENT KILL filter value [filter value ...]
fn kill(call: &mut Call<'_>, mut args: Args<'_>) -> CmdResult {
    args.skip(1);
    let one = args.left() == 1;
    let filter = match one {
        true => Filter {
            addr: args.peek(),
            ..Filter::default()
        },
        false => Filter::parse(args, &call.server.acl.users)?,
    };
    let me = call.token;
    let mut victims = call.server.listed_clients();
    victims.retain(|&t| {
        !(filter.keep_me && t == me) && call.server.conns.get(t).is_some_and(|c| filter.fits(c))
    });
    for &token in victims.iter().filter(|&&t| t != me) {
        call.server.disconnect(token);
    }
    match (one, victims.len()) {
        (true, 0) => return Err(NO_SUCH_CLIENT),
        (true, _) => call.reply().ok(),
        (false, killed) => call.reply().int(killed as i64),
    }
    if victims.contains(&me) {
        call.server.close_after_reply(me);
    }
    DONE
}

const GETNAME: Row<ServerFn> = row("client|getname", 2, COMMON)
    .since("2.6.9")
    .about("Gives the connection's name.")
    .run(getname);

fn getname(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    let name = call.session().name.clone();
    call.reply()
        .bulk_or_null((!name.is_empty()).then_some(&name));
    DONE
}

const SETNAME: Row<ServerFn> = row("client|setname", 3, COMMON)
    .since("2.6.9")
    .about("Names the connection.")
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .args(&[Arg::string("connection-name")])
    .run(setname);

/// CLIENT SETNAME name; an empty one takes the name away.
fn setname(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let name = args.argv()[2];
    if !valid_attribute(name) {
        return Err(NAME_CHARACTERS);
    }
    call.session().name = Bytes::copy_from_slice(name);
    call.reply().ok();
    DONE
}

const SETINFO: Row<ServerFn> = row("client|setinfo", 4, COMMON)
    .since("7.2.0")
    .about("Tells the server of the client's library.")
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .args(&[Arg::one_of(
        "attr",
        &[
            Arg::string("libname").token("LIB-NAME"),
            Arg::string("libver").token("LIB-VER"),
        ],
    )])
    .run(setinfo);

/// CLIENT SETINFO lib-name|lib-ver value
fn setinfo(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let (attribute, value) = (args.argv()[2], args.argv()[3]);
    let field = match attribute {
        a if is_word(a, "lib-name") => &mut call.session().lib_name,
        a if is_word(a, "lib-ver") => &mut call.session().lib_version,
        a => {
            return Err(Fault::text(
                [b"ERR Unrecognized option '", quoted(a), b"'"].concat(),
            ));
        }
    };
    if !valid_attribute(value) {
        let why: &[u8] = b" cannot contain spaces, newlines or special characters.";
        return Err(Fault::text([b"ERR ", quoted(attribute), why].concat()));
    }
    *field = Bytes::copy_from_slice(value);
    call.reply().ok();
    DONE
}

const NO_EVICT: Row<ServerFn> = row("client|no-evict", 3, ADMIN)
    .since("7.0.0")
    .about("Exempts the connection from client eviction, or no longer.")
    .args(ON_OFF)
    .run(no_evict);

fn no_evict(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let on = on_or_off(args.argv()[2])?;
    call.session().marks.set(Marks::NO_EVICT, on);
    call.reply().ok();
    DONE
}

const NO_TOUCH: Row<ServerFn> = row(
    "client|no-touch",
    3,
    Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE),
)
.since("7.2.0")
.about("Lets the connection's reads leave access times and frequencies alone, or no longer.")
.args(ON_OFF)
.run(no_touch);

fn no_touch(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let on = on_or_off(args.argv()[2])?;
    call.session().marks.set(Marks::NO_TOUCH, on);
    call.reply().ok();
    DONE
}

const REPLY: Row<ServerFn> = row("client|reply", 3, COMMON)
    .since("3.2.0")
    .about("Turns replies off or on, or skips the next one.")
    .args(&[Arg::one_of(
        "action",
        &[
            Arg::word("on", "ON"),
            Arg::word("off", "OFF"),
            Arg::word("skip", "SKIP"),
        ],
    )])
    .run(reply);

/// CLIENT REPLY ON|OFF|SKIP: only ON is itself answered.
fn reply(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let marks = &mut call.session().marks;
    match args.argv()[2] {
        w if is_word(w, "on") => {
            marks.set(Marks::REPLY_OFF | Marks::REPLY_SKIP, false);
            call.reply().ok();
        }
        w if is_word(w, "off") => marks.set(Marks::REPLY_OFF, true),
        w if is_word(w, "skip") => {
            let next = !marks.has(Marks::REPLY_OFF);
            marks.set(Marks::REPLY_SKIP_NEXT, next);
        }
        _ => return Err(SYNTAX),
    }
    DONE
}

const PAUSE: Row<ServerFn> = row("client|pause", -3, ADMIN)
    .since("3.0.0")
    .about("Holds up commands for a while.")
    .history(&[("6.2.0", "`WRITE` mode, and `mode` with it.")])
    .args(&[
        Arg::int("timeout"),
        Arg::one_of(
            "mode",
            &[Arg::word("write", "WRITE"), Arg::word("all", "ALL")],
        )
        .since("6.2.0")
        .optional(),
    ])
    .run(pause);

/// CLIENT PAUSE timeout [WRITE|ALL]: a pause under way takes the new mode and never ends sooner.
fn pause(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let (timeout, all) = match args.argv()[2..] {
        [timeout] => (timeout, true),
        [timeout, mode] if is_word(mode, "all") => (timeout, true),
        [timeout, mode] if is_word(mode, "write") => (timeout, false),
        [_, _] => return Err(PAUSE_MODE),
        _ => return Err(call.wrong_form(&args)),
    };
    let timeout = number::parse_i64(timeout).ok_or(TIMEOUT_NUMBER)?;
    let timeout = u64::try_from(timeout).map_err(|_| TIMEOUT_NEGATIVE)?;
    let now = call.server.now.ms();
    let until = now
        .checked_add(timeout)
        .filter(|&t| i64::try_from(t).is_ok())
        .ok_or(TIMEOUT_RANGE)?;
    let before = call
        .server
        .pause
        .all_until
        .max(call.server.pause.write_until);
    let until = Some(until).max(before).filter(|&t| t > now);
    // Reads that a pause of all commands held up go on under one of writes.
    let eased = !all && call.server.pause.all_until.is_some();
    call.server.pause = Pause {
        all_until: until.filter(|_| all),
        write_until: until.filter(|_| !all),
        eased,
        ..call.server.pause
    };
    call.reply().ok();
    DONE
}

const UNPAUSE: Row<ServerFn> = row("client|unpause", 2, ADMIN)
    .since("6.2.0")
    .cost("O(N) with N the held-up clients")
    .about("Ends a pause.")
    .run(unpause);

/// CLIENT UNPAUSE: those held up run before the loop sleeps.
fn unpause(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    call.server.pause = Pause {
        all_until: None,
        write_until: None,
        eased: true,
        ..call.server.pause
    };
    call.reply().ok();
    DONE
}

const UNBLOCK: Row<ServerFn> = row("client|unblock", -3, ADMIN)
    .since("5.0.0")
    .cost("O(log N) with N the connections")
    .about("Ends the wait of a client that is blocked on keys.")
    .args(&[
        Arg::int("client-id"),
        Arg::one_of(
            "unblock-type",
            &[Arg::word("timeout", "TIMEOUT"), Arg::word("error", "ERROR")],
        )
        .optional(),
    ])
    .run(unblock);

/// CLIENT UNBLOCK id [TIMEOUT|ERROR]: 1 if that client waited.
fn unblock(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let (id, error) = match args.argv()[2..] {
        [id] => (id, None),
        [id, how] if is_word(how, "timeout") => (id, None),
        [id, how] if is_word(how, "error") => (id, Some(Fault::new(UNBLOCKED))),
        [_, _] => return Err(UNBLOCK_REASON),
        _ => return Err(call.wrong_form(&args)),
    };
    let id = number::parse_i64(id).ok_or(NOT_INTEGER)?;
    let waits = |t: &Token| call.server.conns.get(*t).is_some_and(Conn::blocked);
    let target = call.server.client_by_id(id).filter(waits);
    if let Some(token) = target {
        call.server.give_up(token, error);
    }
    call.reply().int(i64::from(target.is_some()));
    DONE
}

pub static ROWS: &[Row<ServerFn>] = &[
    CLIENT, GETNAME, HELP, ID, INFO, KILL, LIST, NO_EVICT, NO_TOUCH, PAUSE, REPLY, SETINFO,
    SETNAME, UNBLOCK, UNPAUSE,
];

const HELP_LINES: &[&str] = &[
    "CACHING (YES|NO)",
    "    Have the keys of the next command tracked (OPTIN), or not (OPTOUT).",
    "GETREDIR",
    "    Tell who hears of changed keys in this connection's place.",
    "GETNAME",
    "    Give the name of this connection.",
    "ID",
    "    Give the ID of this connection.",
    "INFO",
    "    Describe this connection.",
    "KILL <ip:port>",
    "    Close the connection that comes from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Close the connections that fit every option:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      Those that come from this address.",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      Those that came in at this address of ours.",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Those of this type.",
    "    * USER <username>",
    "      Those authenticated as this user.",
    "    * ID <client-id>",
    "      The one with this ID.",
    "    * SKIPME (YES|NO)",
    "      Whether this connection is spared (default: yes).",
    "LIST [options ...]",
    "    Describe the connections. Options:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Only those of this type.",
    "    * ID <client-id> [<client-id> ...]",
    "      Only those with these IDs.",
    "NO-EVICT (ON|OFF)",
    "    Exempt this connection from client eviction.",
    "NO-TOUCH (ON|OFF)",
    "    Let reads of this connection leave access times and frequencies alone.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Hold up all commands, or those that may write, for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Turn the replies on this connection on or off, or skip the next.",
    "SETINFO <option> <value>",
    "    Tell of the client's library. Options:",
    "    * LIB-NAME: its name.",
    "    * LIB-VER: its version.",
    "SETNAME <name>",
    "    Name this connection.",
    "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
    "         [OPTIN] [OPTOUT] [NOLOOP]",
    "    Hear of changes of the keys that this connection reads, or no longer.",
    "TRACKINGINFO",
    "    Tell how this connection tracks.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    End the wait of a client that is blocked on keys.",
    "UNPAUSE",
    "    End the pause.",
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cmd::fault::{Block, Flow, OnTimeout};
    use crate::cmd::{Ctx, DataFn};
    use crate::config::Config;
    use crate::exec::conn::Peer;
    use crate::exec::table::{Run, Table};
    use crate::object::Type;
    use crate::server::test_io::TestServer;

    /// A client that comes from this port.
    fn client(world: &mut TestServer, port: u16) -> Token {
        let peer = Peer {
            addr: format!("127.0.0.1:{port}"),
            laddr: "127.0.0.1:6379".into(),
            fd: i32::from(port),
            unix_socket: false,
            loopback: true,
        };
        world.try_connect(peer).unwrap()
    }

    /// A field of the line that CLIENT LIST shows of a client.
    fn field(world: &mut TestServer, viewer: Token, name: &str, field: &str) -> String {
        let list = world.call(viewer, &["CLIENT", "LIST"]);
        let line = list
            .lines()
            .find(|l| l.contains(&format!(" name={name} ")))
            .unwrap();
        let mut fields = line.split(' ').filter_map(|f| f.split_once('='));
        fields.find(|f| f.0 == field).unwrap().1.to_string()
    }

    #[test]
    fn the_line_tells_what_a_client_does() {
        let mut world = TestServer::default();
        let (one, two) = (client(&mut world, 1), client(&mut world, 2));
        assert_eq!(world.call(one, &["CLIENT", "SETNAME", "one"]), "+OK\r\n");
        assert_eq!(field(&mut world, two, "one", "flags"), "N");
        assert_eq!(field(&mut world, two, "one", "cmd"), "client|setname");
        world.call(one, &["WATCH", "k"]);
        world.call(two, &["SET", "k", "v"]);
        assert_eq!(field(&mut world, two, "one", "flags"), "d");
        world.call(one, &["MULTI"]);
        world.call(one, &["SET", "a", "b"]);
        assert_eq!(field(&mut world, two, "one", "flags"), "xd");
        // (What would not run is not kept.)
        assert_eq!(field(&mut world, two, "one", "multi"), "0");
        assert_eq!(world.call(one, &["RESET"]), "+RESET\r\n");
        assert_eq!(world.call(one, &["CLIENT", "SETNAME", "one"]), "+OK\r\n");
        for (command, flags) in [("NO-EVICT", "e"), ("NO-TOUCH", "eT")] {
            world.call(one, &["CLIENT", command, "ON"]);
            assert_eq!(field(&mut world, two, "one", "flags"), flags);
        }
        world.call(one, &["PSUBSCRIBE", "a", "b"]);
        assert_eq!(field(&mut world, two, "one", "flags"), "PeT");
        assert_eq!(field(&mut world, two, "one", "psub"), "2");
        let me = world.call(two, &["CLIENT", "INFO"]);
        for part in [" qbuf=26 qbuf-free=20448 argv-mem=10 ", " cmd=client|info "] {
            assert!(me.contains(part), "{part} in {me}");
        }
        // What a silent client is said to hold is given up like Redis's buffers.
        assert_eq!(field(&mut world, two, "one", "qbuf-free"), "20474");
        world.advance(Duration::from_secs(4));
        assert_eq!(field(&mut world, two, "one", "qbuf-free"), "0");
        assert_eq!(field(&mut world, two, "one", "rbs"), "1024");
    }

    #[test]
    fn every_filter_of_kill_narrows_the_choice() {
        let mut world = TestServer::default();
        let me = client(&mut world, 1);
        let others: Vec<Token> = (2..7).map(|port| client(&mut world, port)).collect();
        world.call(others[0], &["SUBSCRIBE", "a"]);
        let mut kill = |filter: &[&str]| world.call(me, &[&["CLIENT", "KILL"], filter].concat());
        assert_eq!(kill(&["TYPE", "pubsub", "ADDR", "127.0.0.1:3"]), ":0\r\n");
        assert_eq!(kill(&["TYPE", "PubSub", "USER", "default"]), ":1\r\n");
        assert_eq!(kill(&["127.0.0.1:2"]), "-ERR No such client\r\n");
        assert_eq!(kill(&["127.0.0.1:3"]), "+OK\r\n");
        assert_eq!(kill(&["ID", "6", "LADDR", "127.0.0.1:9"]), ":0\r\n");
        assert_eq!(kill(&["ID", "6", "LADDR", "127.0.0.1:6379"]), ":1\r\n");
        assert_eq!(kill(&["ID", "3"]), ":0\r\n");
        assert_eq!(kill(&["SKIPME", "yes"]), ":2\r\n");
        assert!(others.iter().all(|&t| !world.is_open(t)));
        let list = world.call(me, &["CLIENT", "LIST"]);
        assert_eq!(list.lines().filter(|l| l.starts_with("id=")).count(), 1);
        // One's own connection still gets the answer.
        let answer = world.call(me, &["CLIENT", "KILL", "ID", "3", "SKIPME", "no"]);
        assert_eq!(answer, ":1\r\n");
        assert!(!world.is_open(me));
    }

    #[test]
    fn the_killed_are_gone_for_the_rest_of_the_batch() {
        let mut world = TestServer::default();
        let (me, other) = (client(&mut world, 1), client(&mut world, 2));
        world.send(
            me,
            b"CLIENT KILL ID 4\r\nCLIENT KILL ID 4\r\nCLIENT LIST ID 4\r\n",
        );
        assert_eq!(world.receive(me), b":1\r\n:0\r\n$0\r\n\r\n");
        assert!(!world.is_open(other));
    }

    #[test]
    fn replies_can_be_turned_off_and_skipped() {
        let mut world = TestServer::default();
        let me = client(&mut world, 1);
        world.send(me, b"CLIENT REPLY SKIP\r\nPING a\r\nPING b\r\n");
        assert_eq!(world.receive(me), b"$1\r\nb\r\n");
        world.send(
            me,
            b"CLIENT REPLY OFF\r\nPING\r\nNOSUCH\r\nCLIENT REPLY SKIP\r\n",
        );
        assert_eq!(world.receive(me), b"");
        // Pushes come through, the reply of EXEC around them does not.
        world.send(
            me,
            b"MULTI\r\nSUBSCRIBE a\r\nUNSUBSCRIBE a\r\nPING\r\nEXEC\r\n",
        );
        let confirmed = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n\
                         *3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n";
        assert_eq!(String::from_utf8(world.receive(me)).unwrap(), confirmed);
        assert_eq!(world.call(me, &["CLIENT", "REPLY", "ON"]), "+OK\r\n");
        assert_eq!(world.call(me, &["PING"]), "+PONG\r\n");
        // A silent client that leaves has nothing to wait for.
        world.send(me, b"CLIENT REPLY OFF\r\nQUIT\r\n");
        assert!(!world.is_open(me));
        for mode in ["OFF", "SKIP"] {
            let me = client(&mut world, 1);
            world.send(me, format!("CLIENT REPLY {mode}\r\n*x\r\n").as_bytes());
            assert_eq!((world.receive(me), world.is_open(me)), (vec![], false));
        }
    }

    #[test]
    fn a_pause_takes_the_last_mode_and_the_latest_end() {
        let mut world = TestServer::default();
        let [admin, reader, writer] = [1, 2, 3].map(|port| client(&mut world, port));
        let pause = |world: &mut TestServer, ms: &str, mode: &str| {
            let reply = world.call(admin, &["CLIENT", "PAUSE", ms, mode]);
            assert_eq!(reply, "+OK\r\n");
        };
        pause(&mut world, "500", "write");
        assert_eq!(world.call(reader, &["GET", "k"]), "$-1\r\n");
        assert_eq!(world.call(writer, &["SET", "k", "v"]), "");
        assert_eq!(world.call(admin, &["CLIENT", "UNPAUSE"]), "+OK\r\n");
        assert_eq!(world.receive(writer), b"+OK\r\n");

        pause(&mut world, "500", "all");
        assert_eq!(world.call(reader, &["GET", "k"]), "");
        world.advance(Duration::from_millis(499));
        assert_eq!(world.receive(reader), b"");
        world.advance(Duration::from_millis(1));
        assert_eq!(world.receive(reader), b"$1\r\nv\r\n");

        // A shorter pause of another mode: the mode changes, the end does not.
        pause(&mut world, "500", "write");
        assert_eq!(world.call(writer, &["SET", "k", "w"]), "");
        pause(&mut world, "10", "write");
        world.advance(Duration::from_millis(499));
        assert_eq!(world.receive(writer), b"");
        world.advance(Duration::from_millis(1));
        assert_eq!(world.receive(writer), b"+OK\r\n");
    }

    #[test]
    fn a_client_that_waits_can_be_let_go() {
        fn wait(_: &mut Ctx<'_>, _: Args<'_>) -> CmdResult {
            Ok(Flow::Block(Box::new(Block {
                keys: vec![(*b"k").into()],
                waits_for: Type::String,
                deadline: None,
                on_timeout: OnTimeout::NullArray,
                wake_on_delete: false,
            })))
        }
        let wait = Spec::new("wait-here", 1, Group::String).run(wait as DataFn);
        let server =
            crate::admin::rows().map(|r| (r.spec, r.run.map_or(Run::Container, Run::Server)));
        let table = Table::build(server.chain([(wait.spec, Run::Data(wait.run.unwrap()))]));
        let mut world = TestServer::with_table(Config::default(), table);
        let (me, waiting) = (client(&mut world, 1), client(&mut world, 2));
        for (how, told) in [
            (&["TIMEOUT"][..], "*-1\r\n"),
            (
                &["error"],
                "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n",
            ),
            (&[], "*-1\r\n"),
        ] {
            assert_eq!(world.call(waiting, &["WAIT-HERE"]), "");
            assert_eq!(world.call(waiting, &["PING"]), "");
            let unblock = [&["CLIENT", "UNBLOCK", "4"], how].concat();
            assert_eq!(world.call(me, &unblock), ":1\r\n");
            assert_eq!(
                world.receive(waiting),
                format!("{told}+PONG\r\n").as_bytes()
            );
            assert_eq!(world.call(me, &unblock), ":0\r\n");
        }
    }
}
