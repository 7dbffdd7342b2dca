//! CLIENT: what is known of the connections, and what can be done to them.
//!
//! The line that LIST and INFO show is made in `server/clients.rs`. The subcommands about tracking come
//! with tracking.

use bytes::Bytes;

use crate::base::number;
use crate::cmd::args::is_word;
use crate::cmd::fault::{NOT_INTEGER, SYNTAX};
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
                    [b"ERR Unknown client type '", n, b"'"].concat(),
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
    keep_me: bool,
}

impl<'a> Filter<'a> {
    fn parse(mut args: Args<'a>) -> Result<Self, Fault> {
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
                // There is one user, whom every client is.
                w if is_word(w, "user") && value == b"default" => {}
                w if is_word(w, "user") => {
                    return Err(Fault::text([b"ERR No such user '", value, b"'"].concat()));
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
        false => Filter::parse(args)?,
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
                [b"ERR Unrecognized option '", a, b"'"].concat(),
            ));
        }
    };
    if !valid_attribute(value) {
        let why: &[u8] = b" cannot contain spaces, newlines or special characters.";
        return Err(Fault::text([b"ERR ", attribute, why].concat()));
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
    call.server.pause = match all {
        true => Pause {
            all_until: until,
            write_until: None,
        },
        false => Pause {
            all_until: None,
            write_until: until,
        },
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
    call.server.pause = Pause::default();
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
        [id, how] if is_word(how, "error") => (id, Some(UNBLOCKED)),
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
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    End the wait of a client that is blocked on keys.",
    "UNPAUSE",
    "    End the pause.",
];
