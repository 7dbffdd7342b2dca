//! Commands about the connection itself: who speaks, in which protocol, to which database.
//!
//! Every connection begins as the user `default`, logged in if that one needs no password. (Redis 7.2 forgets the error of a failed AUTH when
//! replies before it are still unsent, which shifts every later reply of a pipeline; here it is sent.)

use crate::acl::Reason;
use crate::acl::log::Event;
use crate::acl::user::DEFAULT;
use crate::admin::client::{NAME_CHARACTERS, valid_attribute};
use crate::admin::info::REDIS_VERSION;
use crate::base::number;
use crate::cmd::args::is_word;
use crate::cmd::fault::{NOT_INTEGER, SYNTAX, quoted};
use crate::cmd::session::Marks;
use crate::cmd::spec::{Acl, Arg, Flags, Group, Spec};
use crate::cmd::{Args, CmdResult, DONE, Fault, Row};
use crate::exec::conn::Token;
use crate::exec::server::Server;
use crate::exec::{Call, ServerFn};
use crate::resp::reply::Resp;
use bytes::Bytes;

const NO_PASSWORD: Fault = Fault::new(
    "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
);
const WRONG_PASSWORD: Fault =
    Fault::new("WRONGPASS invalid username-password pair or user is disabled.");
const NO_SUCH_PROTOCOL: Fault = Fault::new("NOPROTO unsupported protocol version");
const PROTOCOL_NUMBER: Fault = Fault::new("ERR Protocol version is not an integer or out of range");
const HELLO_NEEDS_AUTH: Fault = Fault::new(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
);
const NO_SELECT: Fault = Fault::new("ERR SELECT is not allowed in cluster mode");
const NO_SUCH_DB: Fault = Fault::new("ERR DB index is out of range");
const DB_NUMBER_RANGE: Fault =
    Fault::new("ERR value is out of range, value must between -2147483648 and 2147483647");
const PING_ARITY: Fault = Fault::new("ERR wrong number of arguments for 'ping' command");

/// What every command here is tagged with, beyond its own flags.
const ANY_TIME: Flags = Flags::LOADING.or(Flags::STALE);

const AUTH: Row<ServerFn> = Spec::new("auth", -2, Group::Connection)
    .flags(
        ANY_TIME
            .or(Flags::NOSCRIPT)
            .or(Flags::FAST)
            .or(Flags::NO_AUTH)
            .or(Flags::SENTINEL_HAS)
            .or(Flags::ALLOW_BUSY),
    )
    .acl(Acl::CONNECTION)
    .cost("O(N) with N the user's passwords")
    .about("Proves who the client is.")
    .history(&[("6.0.0", "The form with a user name.")])
    .args(&[
        Arg::string("username").since("6.0.0").optional(),
        Arg::string("password"),
    ])
    .run(auth);

/// AUTH [username] password
pub fn auth(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let (user, password): (&[u8], &[u8]) = match *args.argv() {
        [_, password] => {
            call.redact(1);
            if call.server.acl.users.default_user().needs_no_password() {
                return Err(NO_PASSWORD);
            }
            (DEFAULT, password)
        }
        [_, user, password] => {
            call.redact(1);
            call.redact(2);
            (user, password)
        }
        _ => return Err(SYNTAX),
    };
    authenticate(call, &args, user, password)?;
    call.reply().ok();
    DONE
}

/// Logs the session in as a user, or notes that it was tried in vain, by this command.
fn authenticate(
    call: &mut Call<'_>,
    args: &Args<'_>,
    name: &[u8],
    password: &[u8],
) -> Result<(), Fault> {
    let user = call.server.acl.users.get(name);
    let Some(user) = user.filter(|user| user.admits(password)).cloned() else {
        let event = Event {
            reason: Reason::Auth,
            context: call.server.acl_context(call.token),
            object: args.name().to_vec(),
            user: name.to_vec(),
        };
        call.server.note_acl_event(call.token, event, args.argv());
        return Err(WRONG_PASSWORD);
    };
    let session = call.session();
    session.authenticated = true;
    session.set_user(Some(user));
    Ok(())
}

const HELLO: Row<ServerFn> = Spec::new("hello", -1, Group::Connection)
    .flags(
        ANY_TIME
            .or(Flags::NOSCRIPT)
            .or(Flags::FAST)
            .or(Flags::NO_AUTH)
            .or(Flags::SENTINEL_HAS)
            .or(Flags::ALLOW_BUSY),
    )
    .acl(Acl::CONNECTION)
    .since("6.0.0")
    .cost("O(1)")
    .about("Chooses the protocol version and tells about the server.")
    .history(&[("6.2.0", "Without `protover` it only tells.")])
    .args(&[Arg::block(
        "arguments",
        &[
            Arg::int("protover"),
            Arg::block("auth", &[Arg::string("username"), Arg::string("password")])
                .token("AUTH")
                .optional(),
            Arg::string("clientname").token("SETNAME").optional(),
        ],
    )
    .optional()])
    .run(hello);

/// HELLO [protover [AUTH username password] [SETNAME clientname]]
pub fn hello(call: &mut Call<'_>, mut args: Args<'_>) -> CmdResult {
    let version = match args.next() {
        Err(_) => None,
        Ok(text) => match number::parse_i64(text).ok_or(PROTOCOL_NUMBER)? {
            2 => Some(Resp::V2),
            3 => Some(Resp::V3),
            _ => return Err(NO_SUCH_PROTOCOL),
        },
    };
    let mut credentials = None;
    let mut name = None;
    while let Ok(option) = args.next() {
        if is_word(option, "auth") && args.left() >= 2 {
            let at = args.len() - args.left();
            call.redact(at);
            call.redact(at + 1);
            credentials = Some(args.two()?);
        } else if is_word(option, "setname") && args.more() {
            let wanted = args.one()?;
            if !valid_attribute(wanted) {
                return Err(NAME_CHARACTERS);
            }
            name = Some(wanted);
        } else {
            return Err(Fault::text(
                [b"ERR Syntax error in HELLO option '", quoted(option), b"'"].concat(),
            ));
        }
    }
    if let Some((user, password)) = credentials {
        authenticate(call, &args, user, password)?;
    }
    if !call.session().authenticated {
        return Err(HELLO_NEEDS_AUTH);
    }
    if let Some(name) = name {
        call.session().name = Bytes::copy_from_slice(name);
    }
    if let Some(version) = version {
        call.reply().set_resp(version);
    }
    let id = call.session().id;
    let role = match call.server.config.replicaof {
        Some(_) => "replica",
        None => "master",
    };
    let mode = match call.server.config.cluster_enabled {
        true => "cluster",
        false => "standalone",
    };
    let fields: &[(&str, &str)] = match call.server.sentinel {
        Some(_) => &[("mode", "sentinel")],
        None => &[("mode", mode), ("role", role)],
    };
    let reply = call.reply();
    let proto = if reply.is_resp3() { 3 } else { 2 };
    reply.map(5 + fields.len());
    for (field, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.int(proto);
    reply.bulk(b"id");
    reply.int(id as i64);
    for (field, value) in fields {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    DONE
}

const PING: Row<ServerFn> = Spec::new("ping", -1, Group::Connection)
    .flags(Flags::FAST.or(Flags::SENTINEL_HAS))
    .acl(Acl::CONNECTION)
    .cost("O(1)")
    .about("Answers, to show that the server is alive.")
    .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
    .args(&[Arg::string("message").optional()])
    .run(ping);

/// PING [message]: to a RESP2 subscriber it answers in the form of a message.
pub fn ping(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    if args.len() > 2 {
        return Err(PING_ARITY);
    }
    let subscribed = call.session().subscribed();
    let reply = call.reply();
    let message = args.peek();
    if subscribed && !reply.is_resp3() {
        reply.array(2);
        reply.bulk(b"pong");
        reply.bulk(message.unwrap_or_default());
    } else if let Some(message) = message {
        reply.bulk(message);
    } else {
        reply.status("PONG");
    }
    DONE
}

const ECHO: Row<ServerFn> = Spec::new("echo", 2, Group::Connection)
    .flags(ANY_TIME.or(Flags::FAST))
    .acl(Acl::CONNECTION)
    .cost("O(1)")
    .about("Gives the argument back.")
    .args(&[Arg::string("message")])
    .run(echo);

/// ECHO message
pub fn echo(call: &mut Call<'_>, mut args: Args<'_>) -> CmdResult {
    let message = args.one()?;
    match args.shared(message) {
        Some(shared) => call.reply().bulk_shared(shared.clone()),
        None => call.reply().bulk(message),
    }
    DONE
}

const SELECT: Row<ServerFn> = Spec::new("select", 2, Group::Connection)
    .flags(ANY_TIME.or(Flags::FAST))
    .acl(Acl::CONNECTION)
    .cost("O(1)")
    .about("Changes the database of the connection.")
    .args(&[Arg::int("index")])
    .run(select);

/// SELECT index
pub fn select(call: &mut Call<'_>, mut args: Args<'_>) -> CmdResult {
    let index = number::parse_i64(args.one()?).ok_or(NOT_INTEGER)?;
    let index = i32::try_from(index).map_err(|_| DB_NUMBER_RANGE)?;
    if call.server.config.cluster_enabled && index != 0 {
        return Err(NO_SELECT);
    }
    let index = u32::try_from(index).map_err(|_| NO_SUCH_DB)?;
    if index as usize >= call.server.config.databases {
        return Err(NO_SUCH_DB);
    }
    call.session().db = index;
    call.reply().ok();
    DONE
}

const QUIT: Row<ServerFn> = Spec::new("quit", -1, Group::Connection)
    .flags(
        ANY_TIME
            .or(Flags::ALLOW_BUSY)
            .or(Flags::NOSCRIPT)
            .or(Flags::FAST)
            .or(Flags::NO_AUTH),
    )
    .acl(Acl::CONNECTION)
    .cost("O(1)")
    .about("Closes the connection after its replies.")
    .deprecated("7.2.0", "just closing the connection")
    .run(quit);

/// QUIT: everything before it is still answered.
pub fn quit(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    call.reply().ok();
    call.server.close_after_reply(call.token);
    DONE
}

const RESET: Row<ServerFn> = Spec::new("reset", 1, Group::Connection)
    .flags(
        ANY_TIME
            .or(Flags::NOSCRIPT)
            .or(Flags::FAST)
            .or(Flags::NO_AUTH)
            .or(Flags::ALLOW_BUSY),
    )
    .acl(Acl::CONNECTION)
    .since("6.2.0")
    .cost("O(1)")
    .about("Makes the connection like a new one.")
    .run(reset);

/// RESET
pub fn reset(call: &mut Call<'_>, _args: Args<'_>) -> CmdResult {
    call.server.reset_session(call.token);
    call.reply().status("RESET");
    DONE
}

impl Server {
    /// Makes a session like that of a new connection, but for what is known of the client's library.
    fn reset_session(&mut self, token: Token) {
        self.stop_monitor(token);
        self.discard_multi(token);
        self.pubsub_drop(token);
        self.stop_tracking(token);
        self.begin_as_default(token);
        let Some(conn) = self.conns.get_mut(token) else {
            return;
        };
        conn.reply.set_resp(Resp::V2);
        let session = &mut conn.session;
        session.db = 0;
        session.name = Bytes::new();
        let cleared = Marks::ASKING
            | Marks::READONLY
            | Marks::REPLY_OFF
            | Marks::REPLY_SKIP_NEXT
            | Marks::NO_TOUCH
            | Marks::NO_EVICT;
        session.marks.set(cleared, false);
    }
}

pub static ROWS: &[Row<ServerFn>] = &[AUTH, ECHO, HELLO, PING, QUIT, RESET, SELECT];

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::server::test_io::TestServer;

    #[test]
    fn a_password_is_asked_for_and_hello_can_bring_it() {
        let config = Config {
            requirepass: "secret".into(),
            ..Config::default()
        };
        let mut world = TestServer::new(config);
        let me = world.connect();
        let mut say = |words: &str| world.call(me, &words.split(' ').collect::<Vec<_>>());
        assert_eq!(say("PING"), "-NOAUTH Authentication required.\r\n");
        assert!(say("HELLO 3").starts_with("-NOAUTH HELLO must be called"));
        let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
        assert_eq!(say("AUTH secre"), wrong);
        assert_eq!(say("AUTH somebody secret"), wrong);
        assert_eq!(say("HELLO 3 SETNAME me AUTH default wrong"), wrong);
        assert_eq!(
            say("HELLO 3 AUTH default"),
            "-ERR Syntax error in HELLO option 'AUTH'\r\n"
        );
        let hello = say("HELLO 3 SETNAME me AUTH default secret");
        assert!(
            hello.starts_with("%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n"),
            "{hello}"
        );
        assert_eq!(say("CLIENT GETNAME"), "$2\r\nme\r\n");
        assert_eq!(say("RESET"), "+RESET\r\n");
        assert_eq!(say("PING"), "-NOAUTH Authentication required.\r\n");
        assert_eq!(say("AUTH secret"), "+OK\r\n");
        // A new one again: RESP2, no name.
        assert_eq!(say("CLIENT GETNAME"), "$-1\r\n");
        assert_eq!(say("AUTH default secret"), "+OK\r\n");
        assert_eq!(world.server.stats.acl_denied_auth, 3);
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = Config {
            slowlog_log_slower_than: 0,
            ..Config::default()
        };
        let mut world = TestServer::new(config);
        let (me, watcher) = (world.connect(), world.connect());
        world.call(watcher, &["MONITOR"]);
        world.call(me, &["AUTH", "hush"]);
        world.call(me, &["AUTH", "me", "hush"]);
        world.call(me, &["HELLO", "2", "SETNAME", "x", "AUTH", "me", "hush"]);
        world.call(me, &["ECHO", "done"]);
        let seen = String::from_utf8(world.receive(watcher)).unwrap();
        let log = world.call(me, &["SLOWLOG", "GET"]);
        for text in [seen, log] {
            assert!(!text.contains("hush"), "{text}");
            assert_eq!(text.matches("(redacted)").count(), 5, "{text}");
            assert!(text.contains("done"));
        }
    }
}
