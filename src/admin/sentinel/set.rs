//! SENTINEL SET, CONFIG and DEBUG: parameters of a master, of the Sentinel itself, and its periods.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{look, master, row, save_and_reply, with};
use crate::base::level::Level;
use crate::base::{glob, number};
use crate::cmd::fault::Fault;
use crate::cmd::spec::Arg;
use crate::cmd::{Args, CmdResult, DONE, Row, is_word};
use crate::config::{Choice, LogLevel};
use crate::exec::io::Setting;
use crate::exec::{Call, ServerFn};
use crate::sentinel::{Id, Sentinel, Settings};

pub(super) const SET: Row<ServerFn> = row("sentinel|set", -5)
    .about("Changes parameters of a master.")
    .args(&[
        Arg::string("master-name"),
        Arg::block("data", &[Arg::string("option"), Arg::string("value")]).multiple(),
    ])
    .run(set);

const DENIED: Fault = Fault::new(
    "ERR Reconfiguration of scripts path is denied for security reasons. Check the deny-scripts-reconfig configuration directive in your Sentinel configuration",
);

/// SENTINEL SET name option value [option value ...]: what stands before a wrong option is changed nonetheless.
fn set(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    let id = master(call, argv[2])?;
    let mut at = 3;
    while at < argv.len() {
        match set_one(call, id, &argv[at..]) {
            Ok(used) => {
                tell_set(call, id, &argv[at..at + used])?;
                at += used;
            }
            Err(fault) => {
                if at > 3 {
                    call.server.save_sentinel(call.io);
                }
                return Err(fault);
            }
        }
    }
    save_and_reply(call)
}

/// `+set`, without what is secret.
fn tell_set(call: &mut Call<'_>, id: Id, words: &[&[u8]]) -> Result<(), Fault> {
    let is_secret = is_word(words[0], "auth-pass");
    let mut text = String::new();
    for (n, word) in words.iter().enumerate() {
        let word = match is_secret && n > 0 {
            true => "******".into(),
            false => String::from_utf8_lossy(word),
        };
        text.push(' ');
        text.push_str(&word);
    }
    with(call, |s| s.event(Level::Warning, "+set", id, text))
}

fn bad_value(option: &[u8], value: &[u8]) -> Fault {
    let parts: [&[u8]; 5] = [
        b"ERR Invalid argument '",
        value,
        b"' for SENTINEL SET '",
        option,
        b"'",
    ];
    Fault::text(parts.concat())
}

/// Sets the option that stands first. How many words it took.
fn set_one(call: &mut Call<'_>, id: Id, words: &[&[u8]]) -> Result<usize, Fault> {
    let option = words[0];
    let unknown = || {
        let text = b"ERR Unknown option or number of arguments for SENTINEL SET '";
        Fault::text([text, option, b"'"].concat())
    };
    let value = *words.get(1).ok_or_else(unknown)?;
    if set_number(call, id, option, value)? {
        return Ok(2);
    }
    let text = Some(value.to_vec()).filter(|text| !text.is_empty());
    if is_word(option, "notification-script") {
        let why = "Notification script seems non existing or non executable";
        check_script(call, value, why)?;
        with(call, |s| {
            s.configure(id, |m| m.watched.notification_script = text);
        })?;
    } else if is_word(option, "client-reconfig-script") {
        let why = "Client reconfiguration script seems non existing or non executable";
        check_script(call, value, why)?;
        with(call, |s| {
            s.configure(id, |m| m.watched.client_reconfig_script = text);
        })?;
    } else if is_word(option, "auth-pass") {
        with(call, |s| {
            s.configure(id, |m| m.watched.auth_pass = text);
            s.reconnect_master(id);
        })?;
    } else if is_word(option, "auth-user") {
        with(call, |s| {
            s.configure(id, |m| m.watched.auth_user = text);
            s.reconnect_master(id);
        })?;
    } else if is_word(option, "rename-command") && words.len() > 2 {
        let new = words[2];
        if value.is_empty() || new.is_empty() {
            return Err(bad_value(option, if new.is_empty() { new } else { value }));
        }
        rename(call, id, value, new)?;
        return Ok(3);
    } else {
        return Err(unknown());
    }
    Ok(2)
}

/// Sets an option that is a number; false if it is none of those.
fn set_number(call: &mut Call<'_>, id: Id, option: &[u8], value: &[u8]) -> Result<bool, Fault> {
    type Set = fn(&mut Sentinel, Id, i64);
    let (least, set): (i64, Set) = match () {
        _ if is_word(option, "down-after-milliseconds") => (1, |s, id, n| s.set_down_after(id, n)),
        _ if is_word(option, "failover-timeout") => (1, |s, id, n| {
            s.configure(id, |m| m.watched.failover_timeout_ms = n)
        }),
        _ if is_word(option, "parallel-syncs") => (1, |s, id, n| {
            s.configure(id, |m| m.watched.parallel_syncs = n)
        }),
        _ if is_word(option, "quorum") => (1, |s, id, n| {
            let quorum = u32::try_from(n).unwrap_or(u32::MAX);
            s.configure(id, |m| m.watched.quorum = quorum)
        }),
        _ if is_word(option, "master-reboot-down-after-period") => (0, |s, id, n| {
            s.configure(id, |m| m.watched.reboot_down_after_ms = n)
        }),
        _ => return Ok(false),
    };
    let number = number::parse_i64(value).filter(|n| *n >= least);
    let number = number.ok_or_else(|| bad_value(option, value))?;
    with(call, |s| set(s, id, number))?;
    Ok(true)
}

/// A script may be changed, and there is one by that path, or none is wanted.
fn check_script(call: &mut Call<'_>, path: &[u8], why: &str) -> Result<(), Fault> {
    if look(call)?.settings.deny_scripts_reconfig {
        return Err(DENIED);
    }
    let seen = call
        .server
        .config
        .dir
        .as_path()
        .join(OsStr::from_bytes(path));
    if !path.is_empty() && !call.io.is_executable(&seen) {
        return Err(Fault::text(format!("ERR {why}")));
    }
    Ok(())
}

fn rename(call: &mut Call<'_>, id: Id, old: &[u8], new: &[u8]) -> Result<(), Fault> {
    let key = String::from_utf8_lossy(old).to_ascii_uppercase();
    let pair = (old.to_vec(), new.to_vec());
    let is_same = old.eq_ignore_ascii_case(new);
    with(call, |sentinel| {
        sentinel.configure(id, |m| {
            m.watched.renamed.remove(&key);
            if !is_same {
                m.watched.renamed.insert(key, pair);
            }
        });
    })
}

pub(super) const CONFIG: Row<ServerFn> = row("sentinel|config", -4)
    .since("6.2.0")
    .cost("O(N) with N the parameters that are given")
    .about("Shows or changes parameters that concern no single master.")
    .history(&[("7.2.0", "Takes several parameters.")])
    .args(&[Arg::one_of(
        "action",
        &[
            Arg::block("set", &[Arg::string("parameter"), Arg::string("value")])
                .token("SET")
                .multiple(),
            Arg::string("parameter").token("GET").multiple(),
        ],
    )])
    .run(config);

/// A parameter of SENTINEL CONFIG: how it is shown, and how it is set, which may fail. (`loglevel` is the server's, see
/// below.)
struct Parameter {
    name: &'static str,
    show: fn(&Settings) -> Vec<u8>,
    set: fn(&mut Settings, &[u8]) -> Option<()>,
    /// Other Sentinels are to hear of it, so they are called anew.
    reconnects: bool,
}

static PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "resolve-hostnames",
        show: |s| yes_no(s.resolve_hostnames),
        set: |s, value| {
            s.resolve_hostnames = flag(value)?;
            Some(())
        },
        reconnects: false,
    },
    Parameter {
        name: "announce-hostnames",
        show: |s| yes_no(s.announce_hostnames),
        set: |s, value| {
            s.announce_hostnames = flag(value)?;
            Some(())
        },
        reconnects: false,
    },
    Parameter {
        name: "announce-ip",
        show: |s| s.announce_ip.clone().unwrap_or_default().into_bytes(),
        set: |s, value| {
            s.announce_ip = Some(String::from_utf8_lossy(value).into_owned());
            Some(())
        },
        reconnects: false,
    },
    Parameter {
        name: "announce-port",
        show: |s| s.announce_port.to_string().into_bytes(),
        set: |s, value| {
            s.announce_port = u16::try_from(number::parse_i64(value)?).ok()?;
            Some(())
        },
        reconnects: false,
    },
    Parameter {
        name: "sentinel-user",
        show: |s| s.user.clone().unwrap_or_default(),
        set: |s, value| {
            s.user = Some(value.to_vec()).filter(|user| !user.is_empty());
            Some(())
        },
        reconnects: true,
    },
    Parameter {
        name: "sentinel-pass",
        show: |s| s.password.clone().unwrap_or_default(),
        set: |s, value| {
            s.password = Some(value.to_vec()).filter(|word| !word.is_empty());
            Some(())
        },
        reconnects: true,
    },
];

const LOG_LEVEL: &str = "loglevel";

fn yes_no(flag: bool) -> Vec<u8> {
    if flag {
        b"yes".to_vec()
    } else {
        b"no".to_vec()
    }
}

fn flag(value: &[u8]) -> Option<bool> {
    match () {
        _ if is_word(value, "yes") => Some(true),
        _ if is_word(value, "no") => Some(false),
        _ => None,
    }
}

fn log_level(value: &[u8]) -> Option<LogLevel> {
    let known = LogLevel::NAMES
        .iter()
        .find(|(name, _)| is_word(value, name))?;
    Some(LogLevel::from_code(known.1))
}

fn config(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let argv = args.argv();
    if is_word(argv[2], "set") && argv.len() >= 5 {
        return config_set(call, &argv[3..]);
    }
    if is_word(argv[2], "get") {
        return config_get(call, &argv[3..]);
    }
    Err(Fault::new(
        "ERR Only SENTINEL CONFIG GET <param> [<param> <param> ...]/ SET <param> <value> [<param> <value> ...] are supported.",
    ))
}

fn config_get(call: &mut Call<'_>, patterns: &[&[u8]]) -> CmdResult {
    let mut names: Vec<&str> = PARAMETERS.iter().map(|p| p.name).collect();
    names.push(LOG_LEVEL);
    let mut shown: Vec<&str> = Vec::new();
    for pattern in patterns {
        let matching = |name: &&&str| glob::matches_nocase(pattern, name.as_bytes());
        for name in names.iter().filter(matching) {
            if !shown.contains(name) {
                shown.push(name);
            }
        }
    }
    let settings = look(call)?.settings.clone();
    let level = call.server.config.loglevel.name();
    let reply = call.reply();
    reply.map(shown.len());
    for name in shown {
        reply.bulk(name.as_bytes());
        match PARAMETERS.iter().find(|p| p.name == name) {
            Some(parameter) => reply.bulk(&(parameter.show)(&settings)),
            None => reply.bulk(level.as_bytes()),
        }
    }
    DONE
}

/// All of them, or none if one is wrong.
fn config_set(call: &mut Call<'_>, words: &[&[u8]]) -> CmdResult {
    let mut settings = look(call)?.settings.clone();
    let mut level = None;
    let (mut seen, mut reconnects) = (Vec::new(), false);
    for pair in words.chunks(2) {
        let option = pair[0];
        let said = |before: &[u8], after: &[u8]| Fault::text([before, option, after].concat());
        let parameter = PARAMETERS.iter().find(|p| is_word(option, p.name));
        if parameter.is_none() && !is_word(option, LOG_LEVEL) {
            return Err(said(b"ERR Invalid argument '", b"' to SENTINEL CONFIG SET"));
        }
        let name = option.to_ascii_lowercase();
        if seen.contains(&name) {
            return Err(said(
                b"ERR Duplicate argument '",
                b"' to SENTINEL CONFIG SET",
            ));
        }
        seen.push(name);
        let &[_, value] = pair else {
            return Err(said(b"ERR Missing argument '", b"' value"));
        };
        let set = match parameter {
            Some(parameter) => {
                reconnects |= parameter.reconnects;
                (parameter.set)(&mut settings, value)
            }
            None => {
                level = log_level(value);
                level.map(|_| ())
            }
        };
        if set.is_none() {
            let parts: [&[u8]; 5] = [
                b"ERR Invalid value '",
                value,
                b"' to SENTINEL CONFIG SET '",
                option,
                b"'",
            ];
            return Err(Fault::text(parts.concat()));
        }
    }
    with(call, |sentinel| sentinel.settings = settings)?;
    if let Some(level) = level {
        call.server.config.loglevel = level;
        if let Err(why) = call.io.apply(Setting::Log, &call.server.config) {
            log::warn!("{why}");
        }
    }
    let saved = save_and_reply(call);
    if reconnects {
        with(call, Sentinel::reconnect_sentinels)?;
    }
    saved
}

pub(super) const DEBUG: Row<ServerFn> = row("sentinel|debug", -2)
    .since("7.0.0")
    .cost("O(N) with N the parameters")
    .about("Shows or changes the periods and timeouts.")
    .args(&[
        Arg::block("data", &[Arg::string("parameter"), Arg::string("value")])
            .optional()
            .multiple(),
    ])
    .run(debug);

fn debug(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let words = &args.argv()[2..];
    if words.is_empty() {
        let mut periods = look(call)?.periods.clone();
        let reply = call.reply();
        let rows = periods.rows();
        reply.map(rows.len());
        for (name, period) in rows {
            reply.bulk(name.as_bytes());
            reply.bulk_int(*period);
        }
        return DONE;
    }
    for pair in words.chunks(2) {
        let option = pair[0];
        let set = with(call, |sentinel| {
            let mut rows = sentinel.periods.rows().into_iter();
            let row = rows.find(|(name, _)| is_word(option, name));
            let (Some((_, period)), Some(value)) = (row, pair.get(1)) else {
                let text = b"ERR Unknown option or number of arguments for SENTINEL DEBUG '";
                return Err(Fault::text([&text[..], option, b"'"].concat()));
            };
            let Some(ms) = number::parse_i64(value).filter(|ms| *ms > 0) else {
                let parts: [&[u8]; 5] = [
                    b"ERR Invalid argument '",
                    value,
                    b"' for SENTINEL DEBUG '",
                    option,
                    b"'",
                ];
                return Err(Fault::text(parts.concat()));
            };
            *period = ms;
            Ok(())
        })?;
        set?;
    }
    call.reply().ok();
    DONE
}
