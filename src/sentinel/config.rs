//! Sentinel's directives, a row each: how a line of the file is read, and how the state is written back.
//!
//! The file is read in three passes, so that its lines may stand in any order: what concerns no master, the masters, what
//! concerns one of them. What Sentinel finds out (replicas, other Sentinels, epochs, its vote) is written as directives too:
//! the file is its memory.

use super::addr::literal;
use super::instance::{Id, Instance, Kind};
use super::state::Sentinel;
use crate::base::number::leading_i64;
use crate::base::quoted::{needs_quotes, quote_into};
use crate::config::rewrite::{MoreLine, MoreLines};

/// What reading asks of the outside.
pub trait Host {
    /// The address that a name stands for.
    fn resolve(&mut self, name: &str) -> Option<String>;
    /// True if there is such a program, and we may run it.
    fn is_executable(&mut self, path: &[u8]) -> bool;
}

/// When a directive is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Own,
    Masters,
    OfMasters,
}

type Words<'a> = &'a [Vec<u8>];
/// What stands behind the name, and whether the line is needed in a file without it.
type WriteOwn = fn(&Sentinel) -> Option<(Vec<u8>, bool)>;
type Outcome = Result<(), &'static str>;

/// How a line is read: of our own, or of a master, which has been found by its first word.
enum Read {
    Own(fn(&mut Sentinel, Words<'_>) -> Outcome),
    Of(fn(&mut Sentinel, Id, Words<'_>, &mut dyn Host) -> Outcome),
}

/// How lines are written.
enum Write {
    Own(WriteOwn),
    /// Behind the master's name.
    Of(fn(&Sentinel, &Instance) -> Vec<Vec<u8>>),
    Never,
}

struct Row {
    name: &'static str,
    /// How many words follow the name.
    words: &'static [usize],
    pass: Pass,
    read: Read,
    write: Write,
}

const NO_MASTER: &str = "No such master with specified name.";
const NOT_POSITIVE: &str = "negative or zero time parameter.";

/// All of them, in the order that they are written in.
static ROWS: &[Row] = &[
    own("sentinel myid", read_myid, |s| {
        Some((s.myid.clone().into(), true))
    }),
    own(
        "sentinel deny-scripts-reconfig",
        |s, words| {
            let flag = yes_no(&words[0]);
            let why = "Please specify yes or no for the deny-scripts-reconfig options.";
            s.settings.deny_scripts_reconfig = flag.ok_or(why)?;
            Ok(())
        },
        |s| Some(flag_line(s.settings.deny_scripts_reconfig, true)),
    ),
    own(
        "sentinel resolve-hostnames",
        |s, words| {
            let flag = yes_no(&words[0]);
            let why = "Please specify yes or no for the resolve-hostnames option.";
            s.settings.resolve_hostnames = flag.ok_or(why)?;
            Ok(())
        },
        |s| Some(flag_line(s.settings.resolve_hostnames, false)),
    ),
    own(
        "sentinel announce-hostnames",
        |s, words| {
            let flag = yes_no(&words[0]);
            let why = "Please specify yes or no for the announce-hostnames option.";
            s.settings.announce_hostnames = flag.ok_or(why)?;
            Ok(())
        },
        |s| Some(flag_line(s.settings.announce_hostnames, false)),
    ),
    Row {
        name: "sentinel monitor",
        words: &[4],
        pass: Pass::Masters,
        read: Read::Own(read_monitor),
        write: Write::Of(|s, master| {
            let addr = s.current_addr(master);
            let (host, quorum) = (s.announced(addr), master.watched.quorum);
            vec![format!("{host} {} {quorum}", addr.port).into()]
        }),
    },
    of(
        "sentinel down-after-milliseconds",
        |s, id, words, _| {
            let period = milliseconds(&words[0]).ok_or(NOT_POSITIVE)?;
            s.set_down_after(id, period);
            Ok(())
        },
        |s, master| unless(master.down_after_ms, s.periods.default_down_after),
    ),
    of(
        "sentinel failover-timeout",
        |s, id, words, _| {
            let period = milliseconds(&words[0]).ok_or(NOT_POSITIVE)?;
            s.with_master(id, |m| m.watched.failover_timeout_ms = period)
        },
        |s, master| {
            let default = s.periods.default_failover_timeout;
            unless(master.watched.failover_timeout_ms, default)
        },
    ),
    of(
        "sentinel parallel-syncs",
        |s, id, words, _| s.with_master(id, |m| m.watched.parallel_syncs = number(&words[0])),
        |_, master| unless(master.watched.parallel_syncs, 1),
    ),
    of(
        "sentinel notification-script",
        |s, id, words, host| {
            if !host.is_executable(&words[0]) {
                return Err("Notification script seems non existing or non executable.");
            }
            let path = Some(words[0].clone());
            s.with_master(id, |m| m.watched.notification_script = path)
        },
        |_, master| given(&master.watched.notification_script),
    ),
    of(
        "sentinel client-reconfig-script",
        |s, id, words, host| {
            if !host.is_executable(&words[0]) {
                let why = "Client reconfiguration script seems non existing or non executable.";
                return Err(why);
            }
            let path = Some(words[0].clone());
            s.with_master(id, |m| m.watched.client_reconfig_script = path)
        },
        |_, master| given(&master.watched.client_reconfig_script),
    ),
    of(
        "sentinel auth-pass",
        |s, id, words, _| {
            let word = Some(words[0].clone());
            s.with_master(id, |m| m.watched.auth_pass = word)
        },
        |_, master| given(&master.watched.auth_pass),
    ),
    of(
        "sentinel auth-user",
        |s, id, words, _| {
            let word = Some(words[0].clone());
            s.with_master(id, |m| m.watched.auth_user = word)
        },
        |_, master| given(&master.watched.auth_user),
    ),
    of(
        "sentinel master-reboot-down-after-period",
        |s, id, words, _| {
            let period = number(&words[0]);
            if period < 0 {
                return Err("negative time parameter.");
            }
            s.with_master(id, |m| m.watched.reboot_down_after_ms = period)
        },
        |_, master| unless(master.watched.reboot_down_after_ms, 0),
    ),
    of(
        "sentinel config-epoch",
        |s, id, words, _| {
            let epoch = epoch(&words[0]);
            s.current_epoch = s.current_epoch.max(epoch);
            s.with_master(id, |m| m.watched.config_epoch = epoch)
        },
        |_, master| vec![master.watched.config_epoch.to_string().into()],
    ),
    of(
        "sentinel leader-epoch",
        |s, id, words, _| s.with_master(id, |m| m.leader_epoch = epoch(&words[0])),
        |_, master| vec![master.leader_epoch.to_string().into()],
    ),
    Row {
        name: "sentinel known-replica",
        words: &[3],
        pass: Pass::OfMasters,
        read: Read::Of(read_replica),
        write: Write::Of(replica_lines),
    },
    Row {
        name: OLD_REPLICA,
        words: &[3],
        pass: Pass::OfMasters,
        read: Read::Of(read_replica),
        write: Write::Never,
    },
    Row {
        name: "sentinel known-sentinel",
        // Without the ID it is an old line that tells nothing.
        words: &[3, 4],
        pass: Pass::OfMasters,
        read: Read::Of(read_sentinel),
        write: Write::Of(|s, master| {
            let others = s
                .sentinels_of(master.id)
                .into_iter()
                .filter_map(|id| s.get(id));
            let line = |other: &Instance| {
                let runid = other.runid.as_ref()?;
                let host = s.announced(&other.addr);
                Some(format!("{host} {} {runid}", other.addr.port).into())
            };
            others.filter_map(line).collect()
        }),
    },
    Row {
        name: "sentinel rename-command",
        words: &[3],
        pass: Pass::OfMasters,
        read: Read::Of(|s, id, words, _| {
            let name = String::from_utf8_lossy(&words[0]).to_ascii_uppercase();
            let pair = (words[0].clone(), words[1].clone());
            let mut before = None;
            s.with_master(id, |m| before = m.watched.renamed.insert(name, pair))?;
            match before {
                None => Ok(()),
                Some(_) => Err("Same command renamed multiple times with rename-command."),
            }
        }),
        write: Write::Of(|_, master| {
            let renamed = master.watched.renamed.values();
            renamed
                .map(|(from, to)| [word(from), word(to)].join(&b' '))
                .collect()
        }),
    },
    own(
        "sentinel current-epoch",
        |s, words| {
            s.current_epoch = s.current_epoch.max(epoch(&words[0]));
            Ok(())
        },
        |s| Some((s.current_epoch.to_string().into(), true)),
    ),
    own(
        "sentinel announce-ip",
        |s, words| {
            let ip = String::from_utf8_lossy(&words[0]).into_owned();
            if !ip.is_empty() {
                s.settings.announce_ip = Some(ip);
            }
            Ok(())
        },
        |s| {
            let mut quoted = Vec::new();
            quote_into(s.settings.announce_ip.as_ref()?.as_bytes(), &mut quoted);
            Some((quoted, true))
        },
    ),
    own(
        "sentinel announce-port",
        |s, words| {
            s.settings.announce_port = u16::try_from(number(&words[0])).unwrap_or(0);
            Ok(())
        },
        |s| match s.settings.announce_port {
            0 => None,
            port => Some((port.to_string().into(), true)),
        },
    ),
    own(
        "sentinel sentinel-user",
        |s, words| {
            if !words[0].is_empty() {
                s.settings.user = Some(words[0].clone());
            }
            Ok(())
        },
        |s| s.settings.user.as_ref().map(|user| (word(user), true)),
    ),
    own(
        "sentinel sentinel-pass",
        |s, words| {
            if !words[0].is_empty() {
                s.settings.password = Some(words[0].clone());
            }
            Ok(())
        },
        |s| {
            s.settings
                .password
                .as_ref()
                .map(|word_| (word(word_), true))
        },
    ),
];

const OLD_REPLICA: &str = "sentinel known-slave";

const fn own(
    name: &'static str,
    read: fn(&mut Sentinel, Words<'_>) -> Outcome,
    write: WriteOwn,
) -> Row {
    Row {
        name,
        words: &[1],
        pass: Pass::Own,
        read: Read::Own(read),
        write: Write::Own(write),
    }
}

const fn of(
    name: &'static str,
    read: fn(&mut Sentinel, Id, Words<'_>, &mut dyn Host) -> Outcome,
    write: fn(&Sentinel, &Instance) -> Vec<Vec<u8>>,
) -> Row {
    Row {
        name,
        words: &[2],
        pass: Pass::OfMasters,
        read: Read::Of(read),
        write: Write::Of(write),
    }
}

fn yes_no(word: &[u8]) -> Option<bool> {
    match word.to_ascii_lowercase().as_slice() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

fn flag_line(flag: bool, default: bool) -> (Vec<u8>, bool) {
    let text = if flag { "yes" } else { "no" };
    (text.into(), flag != default)
}

/// A number at the beginning of a word, as C's `atoi` reads one.
fn number(word: &[u8]) -> i64 {
    let (number, _) = leading_i64(word);
    number.clamp(i64::from(i32::MIN), i64::from(i32::MAX))
}

fn milliseconds(word: &[u8]) -> Option<i64> {
    Some(number(word)).filter(|ms| *ms > 0)
}

/// An epoch; what is none is 0.
fn epoch(word: &[u8]) -> u64 {
    let digits = word.iter().take_while(|b| b.is_ascii_digit()).count();
    let text = std::str::from_utf8(&word[..digits]).unwrap_or_default();
    text.parse().unwrap_or(0)
}

/// A word as it stands in a line.
fn word(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match word.is_empty() || needs_quotes(word) {
        true => quote_into(word, &mut out),
        false => out.extend_from_slice(word),
    }
    out
}

fn unless(value: i64, default: i64) -> Vec<Vec<u8>> {
    let line = (value != default).then(|| value.to_string().into());
    line.into_iter().collect()
}

fn given(value: &Option<Vec<u8>>) -> Vec<Vec<u8>> {
    value.iter().map(|value| word(value)).collect()
}

fn read_myid(s: &mut Sentinel, words: Words<'_>) -> Outcome {
    let id = String::from_utf8_lossy(&words[0]).into_owned();
    if words[0].len() != 40 {
        return Err("Malformed Sentinel id in myid option.");
    }
    s.myid = id;
    Ok(())
}

fn read_monitor(s: &mut Sentinel, words: Words<'_>) -> Outcome {
    let quorum = u32::try_from(number(&words[3])).unwrap_or(0);
    if quorum == 0 {
        return Err("Quorum must be 1 or greater.");
    }
    let (name, host) = (text(&words[0]), text(&words[1]));
    let place = (host.as_str(), number(&words[2]));
    let added = s.add(Kind::Master, &name, place, quorum, None);
    added.map_err(|why| why.text(Kind::Master))?;
    Ok(())
}

fn read_replica(s: &mut Sentinel, id: Id, words: Words<'_>, host: &mut dyn Host) -> Outcome {
    let place = (text(&words[0]), number(&words[1]));
    s.learn(&place.0, host);
    let quorum = s.get(id).map_or(0, |m| m.watched.quorum);
    let added = s.add(Kind::Replica, "", (&place.0, place.1), quorum, Some(id));
    added.map_err(|why| why.text(Kind::Replica))?;
    Ok(())
}

fn read_sentinel(s: &mut Sentinel, id: Id, words: Words<'_>, host: &mut dyn Host) -> Outcome {
    let [address, port, runid] = words else {
        return Ok(());
    };
    let (place, runid) = ((text(address), number(port)), text(runid));
    s.learn(&place.0, host);
    let quorum = s.get(id).map_or(0, |m| m.watched.quorum);
    let at = (place.0.as_str(), place.1);
    let added = s.add(Kind::Sentinel, &runid, at, quorum, Some(id));
    let added = added.map_err(|why| why.text(Kind::Sentinel))?;
    s.with_master(added, |sentinel| sentinel.runid = Some(runid))?;
    s.share_link(added);
    Ok(())
}

fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

/// The replicas. Where the promoted one is written as the master already, the old master takes its place.
fn replica_lines(s: &Sentinel, master: &Instance) -> Vec<Vec<u8>> {
    let current = s.current_addr(master);
    let all = s
        .replicas_of(master.id)
        .into_iter()
        .filter_map(|id| s.get(id));
    let line = |replica: &Instance| {
        let addr = match replica.addr.is(current) {
            true => &master.addr,
            false => &replica.addr,
        };
        format!("{} {}", s.announced(addr), addr.port).into()
    };
    all.map(line).collect()
}

impl Sentinel {
    /// Reads all directives, whatever order they are in. The number of the first that is wrong, and why.
    pub fn load(
        &mut self,
        lines: &[Vec<Vec<u8>>],
        host: &mut dyn Host,
    ) -> Result<(), (usize, &'static str)> {
        for pass in [Pass::Own, Pass::Masters, Pass::OfMasters] {
            for (at, words) in lines.iter().enumerate() {
                let row = row_of(words);
                if row.map_or(Pass::OfMasters, |row| row.pass) == pass {
                    self.read_line(row, words, host).map_err(|why| (at, why))?;
                }
            }
        }
        Ok(())
    }

    fn read_line(&mut self, row: Option<&Row>, words: Words<'_>, host: &mut dyn Host) -> Outcome {
        let row = row.filter(|row| row.words.contains(&(words.len() - 1)));
        let row = row.ok_or("Unrecognized sentinel configuration statement.")?;
        let words = &words[1..];
        match row.read {
            Read::Own(read) => {
                if row.pass == Pass::Masters {
                    self.learn(&text(&words[1]), host);
                }
                read(self, words)
            }
            // An old line without an ID is not even looked at.
            Read::Of(_) if row.words.len() > 1 && words.len() == row.words[0] => Ok(()),
            Read::Of(read) => {
                let master = self.master_named(&text(&words[0])).map(|m| m.id);
                read(self, master.ok_or(NO_MASTER)?, &words[1..], host)
            }
        }
    }

    /// Has a name looked up at once, where there is time for it: at the start, or for the administrator.
    pub fn learn(&mut self, name: &str, host: &mut dyn Host) {
        if self.settings.resolve_hostnames && literal(name).is_none() {
            let ip = host.resolve(name);
            self.looked_up(self.now_ms, name, ip);
        }
    }

    fn with_master(&mut self, id: Id, change: impl FnOnce(&mut Instance)) -> Outcome {
        if let Some(instance) = self.get_mut(id) {
            change(instance);
        }
        Ok(())
    }

    /// Changes what is configured of a master.
    pub fn configure(&mut self, id: Id, change: impl FnOnce(&mut Instance)) {
        if let Some(instance) = self.get_mut(id) {
            change(instance);
        }
    }

    /// After how many ms of silence a master counts as down, and so all that belongs to it.
    pub fn set_down_after(&mut self, master: Id, period_ms: i64) {
        let mut all = self.replicas_of(master);
        all.extend(self.sentinels_of(master));
        all.push(master);
        for id in all {
            if let Some(instance) = self.get_mut(id) {
                instance.down_after_ms = period_ms;
            }
        }
    }

    /// The lines that the file is to have, in order; of all our directives there are no others.
    pub fn file_lines(&self) -> MoreLines {
        let mut lines = Vec::new();
        let mut push = |row: &Row, rest: &[u8], force| {
            let is_replica = row.name == "sentinel known-replica";
            lines.push(MoreLine {
                name: row.name.to_string(),
                old_name: is_replica.then(|| OLD_REPLICA.to_string()),
                text: [row.name.as_bytes(), b" ", rest].concat(),
                force,
            });
        };
        let is_own = |row: &&Row| matches!(row.write, Write::Own(_));
        let first_of = ROWS.iter().position(|row| !is_own(&row)).unwrap_or(0);
        let (before, rest) = ROWS.split_at(first_of);
        let own = |row: &Row| match row.write {
            Write::Own(write) => write(self),
            _ => None,
        };
        for row in before {
            if let Some((text, force)) = own(row) {
                push(row, &text, force);
            }
        }
        for master in self.masters() {
            for row in rest {
                let Write::Of(write) = row.write else {
                    continue;
                };
                for text in write(self, master) {
                    let text = [&word(master.name.as_bytes())[..], b" ", &text].concat();
                    push(row, &text, true);
                }
            }
        }
        for row in rest.iter().filter(is_own) {
            if let Some((text, force)) = own(row) {
                push(row, &text, force);
            }
        }
        let names = ROWS.iter().map(|row| row.name.to_string()).collect();
        MoreLines { lines, names }
    }
}

fn row_of(words: Words<'_>) -> Option<&'static Row> {
    let given = words.first()?;
    ROWS.iter().find(|row| {
        let name = row.name.strip_prefix("sentinel ").unwrap_or(row.name);
        name.as_bytes().eq_ignore_ascii_case(given)
    })
}
