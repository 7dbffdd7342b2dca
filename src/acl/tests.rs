use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::user::DEFAULT;
use super::*;
use crate::base::checksum::sha256_hex;
use crate::base::quoted::split_args;

/// A handful of commands: a container with two subcommands, and others without.
struct Few;

const NAMES: &[(&str, u32)] = &[
    ("auth", 4),
    ("config", 8),
    ("config|get", 12),
    ("config|set", 12),
    ("get", 1),
    ("publish", 16),
    ("psubscribe", 16),
    ("select", 4),
    ("set", 2),
];
const CATEGORIES: &[(&str, u32)] = &[
    ("read", 1),
    ("write", 2),
    ("connection", 4),
    ("admin", 8),
    ("pubsub", 16),
];

impl Commands for Few {
    fn count(&self) -> usize {
        NAMES.len()
    }
    fn find(&self, name: &[u8]) -> Option<usize> {
        NAMES
            .iter()
            .position(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
    }
    fn name(&self, command: usize) -> &str {
        NAMES[command].0
    }
    fn parent(&self, command: usize) -> Option<usize> {
        let (container, _) = NAMES[command].0.split_once('|')?;
        self.find(container.as_bytes())
    }
    fn subcommands(&self, command: usize) -> &[usize] {
        match NAMES[command].0 {
            "config" => &[2, 3],
            _ => &[],
        }
    }
    fn category(&self, name: &[u8]) -> Option<u32> {
        let same = |(known, _): &&(&str, u32)| known.as_bytes().eq_ignore_ascii_case(name);
        CATEGORIES.iter().find(same).map(|(_, bit)| *bit)
    }
    fn categories(&self, command: usize) -> u32 {
        NAMES[command].1
    }
}

const BASIS: Basis<'static> = Basis {
    commands: &Few,
    all_channels: false,
};

/// The user `u` after these rules, which are parted by blanks.
fn user(rules: &str) -> Result<User, String> {
    let rules: Vec<&[u8]> = rules.split(' ').map(str::as_bytes).collect();
    let changed = Users::new(&Few, b"").changed(b"u", &rules, BASIS);
    changed.map_err(|error| String::from_utf8(error).unwrap())
}

fn shown(user: &User) -> String {
    String::from_utf8(user.line()).unwrap()
}

/// Whether the user may run this, and if not, why and for which argument.
fn asked(user: &User, words: &str) -> Result<(), (Reason, usize)> {
    let argv: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
    let command = Few.find(argv[0]).unwrap();
    let access = match NAMES[command].0 {
        "get" => Some(Access::READ),
        "set" => Some(Access::WRITE),
        _ => None,
    };
    let keys = || {
        access
            .map(|access| KeyUse { at: 1, access })
            .into_iter()
            .collect()
    };
    let mut request = Request::new(command, &argv, &keys);
    request.free = NAMES[command].0 == "auth";
    let patterns = NAMES[command].0 == "psubscribe";
    let one = NAMES[command].0 == "publish";
    request.channels = (one || patterns).then_some(Channels { one, patterns });
    let check = user.check(&request);
    check.map_err(|denied| (denied.reason, denied.at))
}

#[test]
fn rules_are_shown_as_redis_shows_them() {
    let hash = sha256_hex(b"pw");
    let cases = [
        ("", "off sanitize-payload resetchannels -@all"),
        (
            "on nopass ~* &* +@all",
            "on nopass sanitize-payload ~* &* +@all",
        ),
        (
            "on >pw >pw %R~a %w~a %RW~b %W~c ~d",
            &format!("on sanitize-payload #{hash} ~a ~b %W~c ~d resetchannels -@all"),
        ),
        (
            "+GET +set +get",
            "off sanitize-payload resetchannels -@all +set +get",
        ),
        (
            "+config|get -config",
            "off sanitize-payload resetchannels -@all -config",
        ),
        (
            "+config -config|SET",
            "off sanitize-payload resetchannels -@all +config -config|set",
        ),
        (
            "+@all -@Admin +config|get",
            "off sanitize-payload resetchannels +@all -@admin +config|get",
        ),
        (
            "-get +@all -@all +@read",
            "off sanitize-payload resetchannels -@all +@read",
        ),
        (
            "+select|0 +SELECT|1 +select|0",
            "off sanitize-payload resetchannels -@all +select|1 +select|0",
        ),
        (
            "on (+get ~x) &a &b &a (allkeys allchannels +@all -get)",
            "on sanitize-payload resetchannels &a &b -@all (~x resetchannels -@all +get) (~* &* +@all -get)",
        ),
        (
            "(+get ~x) clearselectors skip-sanitize-payload",
            "off skip-sanitize-payload resetchannels -@all",
        ),
        (
            "on nopass ~* &* +@all (~a) reset",
            "off sanitize-payload resetchannels -@all",
        ),
    ];
    for (rules, expected) in cases {
        assert_eq!(
            shown(&user(rules).unwrap()),
            format!("user u {expected}"),
            "{rules}"
        );
    }
}

#[test]
fn a_wrong_rule_is_named() {
    use RuleError::*;
    let cases = [
        ("bogus", Syntax),
        ("%~x", Syntax),
        ("%RR~x", Syntax),
        ("%X~x", Syntax),
        ("(on)", Syntax),
        ("+select|", Syntax),
        ("~* ~x", KeyAfterAll),
        ("&* &x", ChannelAfterAll),
        ("+nosuch", UnknownCommand),
        ("-config|nosuch", UnknownCommand),
        ("-select|0", UnknownCommand),
        ("+@nosuch", UnknownCommand),
        ("+config|get|x", FirstArgOfSubcommand),
        ("<pw", NoSuchPassword),
        ("#1234", BadHash),
    ];
    for (rules, error) in cases {
        let last = rules.rsplit(' ').next().unwrap();
        let expected = format!("Error in ACL SETUSER modifier '{last}': {}", error.text());
        assert_eq!(user(rules), Err(expected), "{rules}");
    }
    assert_eq!(
        user("on (+get ~x").unwrap_err(),
        "Unmatched parenthesis in acl selector starting at '(+get'."
    );
}

#[test]
fn one_selector_has_to_allow_all_of_it() {
    let alice =
        user("on +get %R~r* ~x (+set %W~w*) (+publish +psubscribe &c* &x) +select|0").unwrap();
    let (command, key, channel) = (Reason::Command, Reason::Key, Reason::Channel);
    let cases = [
        ("get r1", Ok(())),
        ("get x", Ok(())),
        ("get w1", Err((key, 1))),
        ("set w1", Ok(())),
        // The key is one selector's, the command another's.
        ("set x", Err((key, 1))),
        ("publish ch m", Ok(())),
        ("publish d c", Err((channel, 1))),
        ("psubscribe c* x", Ok(())),
        // A pattern is allowed as it stands, not by what it matches.
        ("psubscribe x cd*", Err((channel, 2))),
        ("select 0", Ok(())),
        ("SELECT 1", Err((command, 0))),
        ("config|get a", Err((command, 0))),
        ("auth a", Ok(())),
    ];
    for (words, expected) in cases {
        assert_eq!(asked(&alice, words), expected, "{words}");
    }
    assert!(!alice.is_unlimited() && user("(~* &* +@all)").unwrap().is_unlimited());
    assert!(!user("~* &* +@all -get +get").unwrap().is_unlimited());
    let get = Few.find(b"get").unwrap();
    assert!(!alice.allows_plainly(get) && user("~* &* +get").unwrap().allows_plainly(get));
}

#[test]
fn passwords() {
    let alice = user("on >one >two").unwrap();
    assert!(alice.admits(b"one") && alice.admits(b"two") && !alice.admits(b"on"));
    assert!(!user(">one").unwrap().admits(b"one"));
    assert!(!user("on").unwrap().admits(b""));
    assert!(user("on >one nopass").unwrap().admits(b"whatever"));
    let mut default = User::default_user(&Few);
    assert!(default.admits(b"") && default.is_unlimited());
    default.set_only_password(b"x");
    assert!(default.admits(b"x") && !default.admits(b""));
}

#[test]
fn a_file_is_taken_whole_or_not_at_all() {
    let read = |text: &str| Users::read(text.as_bytes(), "users.acl", BASIS);
    let users = read("user b on +get ( ~a* +set )\r\n\n  user a off\t\nuser default on >x +@all\n")
        .unwrap();
    let lines = "user a off sanitize-payload resetchannels -@all\n\
                 user b on sanitize-payload resetchannels -@all +get (~a* resetchannels -@all +set)\n";
    let text = String::from_utf8(users.text()).unwrap();
    assert!(text.starts_with(lines), "{text}");
    assert!(users.ask_for_login());
    assert!(!read("user a on\n").unwrap().ask_for_login());
    let wrong = "user a on\nuser a on\nuser\n\nnobody x\nuser b +nosuch -@none ~* ~a ~b &*\nuser c (on\nuser d\tx on\n";
    let errors = String::from_utf8(read(wrong).unwrap_err()).unwrap();
    assert_eq!(
        errors,
        format!(
            "WARNING: Duplicate user 'a' found on line 2. \
             users.acl:3 should start with user keyword followed by the username. \
             users.acl:5 should start with user keyword followed by the username. \
             users.acl:6: Error in applying operation '+nosuch': {unknown}. \
             users.acl:6: Error in applying operation '-@none': {unknown}. \
             users.acl:6: {}. \
             users.acl:7: Unmatched parenthesis in selector definition.\
             'users.acl:8: username 'd\tx' contains invalid characters. \
             WARNING: ACL errors detected, no change to the previously active ACL rules was performed",
            RuleError::KeyAfterAll.text(),
            unknown = RuleError::UnknownCommand.text(),
        )
    );
}

#[test]
fn the_log_counts_what_is_the_same() {
    let event = |object: &str| log::Event {
        reason: Reason::Key,
        context: log::Context::TopLevel,
        object: object.into(),
        user: b"u".to_vec(),
    };
    let mut log = log::Log::default();
    log.add(event("a"), "first".into(), 1000, 3);
    log.add(event("b"), String::new(), 2000, 3);
    log.add(event("a"), "second".into(), 61_000, 3);
    let told = |log: &log::Log| -> Vec<(Vec<u8>, u64, u64)> {
        let entry = |e: &log::Entry| (e.event.object.clone(), e.count, e.id);
        log.newest(10).map(entry).collect()
    };
    assert_eq!(told(&log), [(b"a".to_vec(), 2, 0), (b"b".to_vec(), 1, 1)]);
    let newest = log.newest(1).next().unwrap();
    assert_eq!((newest.created_ms, newest.updated_ms), (1000, 61_000));
    assert_eq!(newest.client, "second");
    // More than a minute after the last one, it is another.
    log.add(event("a"), String::new(), 121_001, 2);
    assert_eq!(told(&log), [(b"a".to_vec(), 1, 2), (b"a".to_vec(), 2, 0)]);
    log.clear();
    log.add(event("a"), String::new(), 121_002, 2);
    assert_eq!(told(&log), [(b"a".to_vec(), 1, 3)]);
}

#[test]
fn who_lost_a_channel() {
    let keeps = |new: &str, old: &str| user(new).unwrap().keeps_channels_of(&user(old).unwrap());
    assert!(keeps("&*", "&a"));
    assert!(keeps("&b (&a)", "&a (&b)"));
    assert!(!keeps("&a*", "&a"));
    assert!(!keeps("&a", "&*"));
}

fn a_rule() -> impl Strategy<Value = String> {
    let word = select(
        &[
            "on",
            "off",
            "nopass",
            "resetpass",
            "reset",
            "clearselectors",
            "allkeys",
            "resetkeys",
            "allchannels",
            "resetchannels",
            "+@all",
            "-@all",
            "sanitize-payload",
            "skip-sanitize-payload",
            ">pw",
            "<pw",
            "bogus",
            "~a*",
            "%R~a*",
            "%W~b",
            "~\"q'",
            "&c*",
            "&\"",
            "+select|0",
            "+config|get|x",
        ][..],
    );
    let command = (select(&["+", "-"][..]), select(NAMES))
        .prop_map(|(sign, (name, _))| format!("{sign}{name}"));
    let category = (select(&["+@", "-@"][..]), select(CATEGORIES))
        .prop_map(|(sign, (name, _))| format!("{sign}{name}"));
    prop_oneof![word.prop_map(String::from), command, category]
}

fn rules() -> impl Strategy<Value = Vec<String>> {
    let selector = vec(a_rule(), 0..4).prop_map(|rules| {
        let within = |rule: &String| !rule.contains(['"', '(', ' ']);
        format!(
            "({})",
            rules
                .into_iter()
                .filter(within)
                .collect::<Vec<_>>()
                .join(" ")
        )
    });
    vec(prop_oneof![3 => a_rule(), 1 => selector], 0..12)
}

proptest! {
    /// However a user came to be, its lines make the same one again: in a file of users, and in a configuration.
    #[test]
    fn a_user_is_what_its_line_says(rules in rules()) {
        let mut made = User::new(b"u", BASIS);
        for rule in &rules {
            let before = made.clone();
            if made.set(rule.as_bytes(), BASIS).is_err() {
                // A rule that is not accepted may have been applied in part: SETUSER throws the copy away.
                made = before;
            }
        }
        let file = Users::read(&[made.file_line(), b"\n".to_vec()].concat(), "f", BASIS).unwrap();
        let words = split_args(&made.config_line()).unwrap();
        let words: Vec<&[u8]> = words.iter().skip(1).map(Vec::as_slice).collect();
        let mut configured = Users::new(&Few, b"");
        configured.add_configured(&[words], BASIS).unwrap();
        for again in [file, configured] {
            let again = again.get(b"u").unwrap().clone();
            prop_assert_eq!(shown(&again), shown(&made));
            prop_assert_eq!(again.passwords(), made.passwords());
            for words in ["get ax", "get b", "set b", "set a", "config x", "config|get x", "config|set x", "select 0",
                          "select 1", "publish cx m", "psubscribe c*", "auth x"] {
                prop_assert_eq!(asked(&again, words), asked(&made, words), "{}", words);
            }
        }
    }
}

#[test]
fn the_default_user_stays() {
    let mut users = Users::new(&Few, b"");
    assert!(users.remove(DEFAULT).is_none());
    users.put(user("on >x").unwrap());
    assert_eq!(users.count(), 2);
    assert!(users.remove(b"u").is_some() && users.get(b"u").is_none());
}
