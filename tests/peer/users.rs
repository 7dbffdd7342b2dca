//! ACL: random rules to both servers, and what follows from them. How rules are shown changed with 7.2, so that an older
//! peer is asked only what they allow. Then what happens to those who are connected, in scenes.

use redstart::base::rng::Rng;
use redstart::resp::value::Value;

use crate::node::{Conn, Node, Version, both};
use crate::random::seed;

const STEPS: usize = 6_000;
const USERS: &[&str] = &["alice", "bob", "carol"];
const KEYS: &[&str] = &["foo", "foobar", "bar", "bzr", "app:1", "x", ""];
const PATTERNS: &[&str] = &["*", "foo", "foo*", "b?r", "[ab]pp:*", "", "a b", "\\*"];
const PASSWORDS: &[&str] = &["one", "two", ""];
const CATEGORIES: &[&str] = &[
    "read",
    "write",
    "set",
    "list",
    "string",
    "stream",
    "pubsub",
    "fast",
    "transaction",
    "all",
    "nosuch",
];
/// Commands with the arguments that DRYRUN is given; `<key>` and `<channel>` are drawn.
const COMMANDS: &[&str] = &[
    "get <key>",
    "set <key> v",
    "set <key> v get",
    "mget <key> <key>",
    "del <key> <key>",
    "copy <key> <key>",
    "sort <key> store <key>",
    "sort_ro <key>",
    "xreadgroup group g c streams <key> <key> 1 1",
    "zunionstore <key> 2 <key> <key>",
    "zinter 2 <key> <key>",
    "migrate h 1 \"\" 0 1 keys <key> <key>",
    "georadius <key> 1 1 1 m store <key>",
    "bitfield <key> get u1 0",
    "lmpop 1 <key> left",
    "object|freq <key>",
    "memory|usage <key>",
    "publish <key> m",
    "spublish <key> m",
    "subscribe <key> <key>",
    "psubscribe <key> <key>",
    "unsubscribe <key>",
    "config|get x",
    "config|set x y",
    "client|kill id 1",
    "select 0",
    "select 1",
    "auth x",
    "get",
    "nosuch",
];

struct Draw(Rng);

impl Draw {
    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.0.index(all.len())]
    }

    fn command_name(&mut self) -> String {
        let call = self.of(COMMANDS);
        let name = call.split(' ').next().unwrap().to_string();
        match self.0.below(6) {
            0 => name.to_uppercase(),
            1 => name.split('|').next().unwrap().to_string(),
            _ => name,
        }
    }

    /// A rule that may also stand in a selector.
    fn right(&mut self) -> String {
        let sign = self.of(&["+", "-"]);
        match self.0.below(10) {
            0..=2 => sign.to_string() + &self.command_name(),
            3..=4 => format!("{sign}@{}", self.of(CATEGORIES)),
            5 => self
                .of(&[
                    "allkeys",
                    "resetkeys",
                    "allchannels",
                    "resetchannels",
                    "RESETKEYS",
                ])
                .into(),
            6..=7 => self.of(&["~", "%R~", "%w~", "%RW~", "%~"]).to_string() + self.of(PATTERNS),
            8 => "&".to_string() + self.of(PATTERNS),
            _ => self
                .of(&[
                    "+select|0",
                    "+config|nosuch",
                    "+get|",
                    "+config|get|x",
                    "bogus",
                    "+mget|Foo",
                ])
                .into(),
        }
    }

    fn rule(&mut self) -> String {
        match self.0.below(10) {
            0..=6 => self.right(),
            7 => {
                let rights: Vec<String> = (0..self.0.below(4)).map(|_| self.right()).collect();
                format!("({})", rights.join(" "))
            }
            8 => self.of(&["<", ">"]).to_string() + self.of(PASSWORDS),
            _ => self
                .of(&[
                    "on",
                    "on",
                    "off",
                    "nopass",
                    "resetpass",
                    "clearselectors",
                    "reset",
                    "!x",
                    "(x",
                ])
                .into(),
        }
    }

    fn step(&mut self) -> Vec<String> {
        let user = self.of(USERS).to_string();
        let mut args = vec!["ACL".to_string()];
        match self.0.below(10) {
            0..=4 => {
                args.extend(["SETUSER".into(), user]);
                args.extend((0..self.0.below(4)).map(|_| self.rule()));
            }
            5 if self.0.below(4) == 0 => args.extend(["DELUSER".into(), user]),
            5 => args = vec!["AUTH".into(), user, self.of(PASSWORDS).into()],
            6 => args.extend([self.of(&["GETUSER", "LIST"]).into()]),
            _ => {
                args.extend(["DRYRUN".into(), user]);
                for word in self.of(COMMANDS).split(['|', ' ']) {
                    args.push(match word {
                        "<key>" => self.of(KEYS).into(),
                        "\"\"" => String::new(),
                        word => word.into(),
                    });
                }
            }
        }
        if args.last().is_some_and(|last| last == "GETUSER") {
            args.push(self.of(USERS).into());
        }
        args
    }
}

#[test]
fn random_rules_allow_and_say_the_same() {
    let seed = seed();
    let nodes = both(&[]);
    let old = nodes[1].version() < Version::V72;
    let mut conns = nodes.each_ref().map(Node::connect);
    let mut draw = Draw(Rng::new(seed));
    let (mut allowed, mut denied) = (0, 0);
    for n in 0..STEPS {
        let args = draw.step();
        let showing = matches!(args[1].as_str(), "GETUSER" | "LIST");
        // AUTH changes who asks: as whom, both know, and only the default user may go on.
        let asked = args[0] == "AUTH";
        let [ours, theirs] = conns.each_mut().map(|conn| conn.call(&args));
        if asked {
            let [us, them] = conns.each_mut().map(|conn| conn.call(&["ACL", "WHOAMI"]));
            assert!(same(&us, &them, old), "seed {seed}, step {n}: {args:?}");
            conns = nodes.each_ref().map(Node::connect);
        }
        if args[1] == "DRYRUN" {
            match &ours {
                Value::Status(_) => allowed += 1,
                Value::Bulk(_) => denied += 1,
                _ => {}
            }
        }
        assert!(
            same(&ours, &theirs, old) || (showing && old),
            "seed {seed}, step {n}: {args:?}\n  ours:   {ours:?}\n  theirs: {theirs:?}"
        );
    }
    assert!(
        allowed > 50 && denied > 200,
        "{allowed} allowed, {denied} denied"
    );
}

/// True if two replies are the same. An older peer words refusals in its own way.
fn same(ours: &Value, theirs: &Value, old: bool) -> bool {
    let code = |text: &[u8]| text.split(|&b| b == b' ').next().unwrap().to_vec();
    match (ours, theirs) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, old))
        }
        (Value::Error(a), Value::Error(b)) if old && a != b => {
            code(a) == code(b) && [&b"NOPERM"[..], b"EXECABORT"].contains(&&code(a)[..])
        }
        (Value::Bulk(a), Value::Bulk(b)) if old && a != b => {
            let [a, b] = [a, b].map(|text| String::from_utf8_lossy(text).into_owned());
            let refusal = |text: &str| {
                text.find(" has no permissions")
                    .map(|at| text[at..].to_string())
            };
            refusal(&a).is_some() && refusal(&a) == refusal(&b)
        }
        _ => ours == theirs,
    }
}

const SINCE_72: &str = "a user who waits is asked again";

/// The commands of a scene, each with the connection that sends it.
#[rustfmt::skip]
const SCENES: &[(&str, &[(&str, &str)])] = &[
    ("rights are asked for at the gate, in EXEC and by SORT", &[
        ("boss", "ACL SETUSER u on nopass +@all -flushall ~k* &c*"), ("u", "AUTH u x"), ("u", "FLUSHALL"), ("u", "GET x"),
        ("u", "SET k 1"), ("u", "MULTI"), ("u", "SET k 2"), ("u", "PUBLISH d m"), ("u", "EXEC"), ("u", "GET k"),
        ("u", "MULTI"), ("u", "SET k 3"), ("u", "GET k"), ("boss", "ACL SETUSER u -set"), ("u", "EXEC"), ("u", "GET k"),
        ("boss", "ACL SETUSER u -exec"), ("u", "MULTI"), ("u", "GET k"), ("u", "EXEC"), ("u", "GET k"),
        ("u", "RPUSH kk 2 1"), ("u", "SORT kk BY x*"), ("u", "SORT kk BY x"), ("u", "SORT kk GET #"),
        ("boss", "ACL SETUSER u %R~*"), ("u", "SORT kk BY x*"), ("u", "SORT kk GET #"), ("u", "SORT kk STORE x"),
        ("u", "PSUBSCRIBE c"), ("boss", "ACL SETUSER u (+sort ~k* resetchannels) -sort"), ("w", "AUTH u x"),
        ("w", "SORT kk BY x*"), ("boss", "CONFIG GET maxclients"),
    ]),
    ("who loses a channel is closed, and who is deleted", &[
        ("boss", "ACL SETUSER u on nopass +@all ~* &*"), ("a", "AUTH u x"), ("a", "SUBSCRIBE x"), ("b", "PSUBSCRIBE p*"),
        ("boss", "ACL SETUSER u resetchannels &x"), ("a", "PING"), ("boss", "ACL SETUSER u resetchannels &y"),
        ("a", "PING"), ("b", "PING"), ("boss", "CLIENT KILL USER nobody"), ("c", "AUTH u x"),
        ("boss", "CLIENT KILL USER u"), ("c", "PING"), ("d", "AUTH u x"), ("boss", "ACL DELUSER u"), ("d", "PING"),
        ("boss", "ACL SETUSER u on nopass +@all"), ("e", "AUTH u x"), ("e", "ACL DELUSER u"), ("e", "PING"),
    ]),
    ("the password of the default user", &[
        ("boss", "CONFIG SET requirepass secret"), ("a", "PING"), ("a", "AUTH wrong"), ("a", "AUTH default secret"),
        ("b", "HELLO 3 AUTH default secret SETNAME me"), ("b", "ACL WHOAMI"), ("b", "RESET"), ("b", "PING"),
        ("b", "ACL WHOAMI"), ("boss", "ACL SETUSER default >other"), ("c", "AUTH other"), ("c", "AUTH secret"),
        ("d", "GET x"), ("boss", "CONFIG SET requirepass ''"), ("d", "GET x"), ("d", "AUTH x"), ("d", "AUTH default x"),
        ("boss", "ACL SETUSER default off"), ("e", "PING"), ("d", "PING"), ("boss", "ACL WHOAMI"),
        ("boss", "CONFIG SET requirepass ''"), ("boss", "ACL SETUSER default on"), ("e", "PING"),
    ]),
    (SINCE_72, &[
        ("boss", "ACL SETUSER u on nopass +@all ~*"), ("u", "AUTH u x"), ("u", "!BLPOP list 0"),
        ("boss", "ACL SETUSER u -blpop"), ("boss", "RPUSH list 1"), ("u", "?"), ("boss", "LLEN list"),
    ]),
];

#[test]
fn scenes() {
    let nodes = both(&[]);
    let old = nodes[1].version() < Version::V72;
    for (scene, steps) in SCENES {
        if old && *scene == SINCE_72 {
            continue;
        }
        let mut conns: Vec<(&str, [Conn; 2])> = Vec::new();
        for (n, (who, words)) in steps.iter().enumerate() {
            if !conns.iter().any(|(name, _)| name == who) {
                conns.push((who, nodes.each_ref().map(Node::connect)));
            }
            let (_, pair) = conns.iter_mut().find(|(name, _)| name == who).unwrap();
            let args: Vec<&str> = words
                .split(' ')
                .map(|w| if w == "''" { "" } else { w })
                .collect();
            let [ours, theirs] = pair.each_mut().map(|conn| match args[0].strip_prefix('!') {
                _ if *words == "?" => Some(conn.reply()),
                Some(name) => {
                    let mut args = args.clone();
                    args[0] = name;
                    conn.send(&args);
                    None
                }
                None => {
                    conn.send(&args);
                    conn.try_reply()
                }
            });
            let apart = args[0] == "HELLO" && ours.is_some() && theirs.is_some();
            let alike = match (&ours, &theirs) {
                (Some(ours), Some(theirs)) => same(ours, theirs, old),
                _ => ours == theirs,
            };
            assert!(
                alike || apart,
                "{scene}, step {n}: {who}: {words}\n  ours:   {ours:?}\n  theirs: {theirs:?}"
            );
        }
        let mut boss = nodes.each_ref().map(Node::connect);
        for conn in &mut boss {
            for command in ["ACL DELUSER u", "FLUSHALL"] {
                conn.call(&command.split(' ').collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn every_category_has_the_same_commands() {
    let nodes = both(&[]);
    if nodes[1].version() < Version::V72 {
        return;
    }
    let mut conns = nodes.each_ref().map(Node::connect);
    let mut names = |args: &[&str]| {
        conns.each_mut().map(|conn| match conn.call(args) {
            Value::Array(names) => names
                .iter()
                .map(|name| String::from_utf8_lossy(name.as_bytes().unwrap()).into_owned())
                .collect::<Vec<_>>(),
            other => panic!("{args:?}: {other:?}"),
        })
    };
    let [ours, theirs] = names(&["ACL", "CAT"]);
    assert_eq!(ours, theirs);
    // A command is fast or slow: together they are all. Ours has not all of theirs yet.
    let known: Vec<String> = [
        names(&["ACL", "CAT", "fast"]),
        names(&["ACL", "CAT", "slow"]),
    ]
    .into_iter()
    .flat_map(|[ours, _]| ours)
    .collect();
    for category in ours {
        let [mut ours, mut theirs] = names(&["ACL", "CAT", &category]);
        theirs.retain(|name| known.contains(name));
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{category}");
    }
}
