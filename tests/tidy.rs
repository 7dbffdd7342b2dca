//! The rules of the house, executed: which module may see which, where the outside is touched, and
//! what every `unsafe` block owes its reader.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules by floor. An import goes down, or stays within its own module; on one floor it only
/// goes to a module further left.
const FLOORS: &[&[&str]] = &[
    &["base", "resp", "ds", "ae"],
    &["acl", "object", "config", "tls", "db", "rdb", "aof"],
    &["cmd"],
    &["repl", "cluster", "sentinel"],
    &["script", "exec", "admin", "server", "check", "cli", "bench"],
];

/// What a module never sees, beyond what its floor says.
const NEVER: &[(&str, &[&str])] = &[
    ("cmd", &["ae", "repl", "cluster", "sentinel", "rdb", "aof"]),
    ("repl", &["ae"]),
    ("cluster", &["ae"]),
    ("sentinel", &["ae"]),
];

/// Words and the only files that may hold them.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("Instant::now", &["base/time.rs"]),
    ("SystemTime::now", &["base/time.rs"]),
    ("/dev/urandom", &["base/rng.rs"]),
    ("getrandom", &["base/rng.rs"]),
    ("set_current_dir", &[]),
];

/// Who may touch files: `server/disk.rs`, what runs at the start, the log, and what looks into /proc.
const FILES: &[&str] = &[
    "check/aof.rs",
    "check/rdb.rs",
    "cli/cluster/backup.rs",
    "cli/lines.rs",
    "cli/mod.rs",
    "cli/shell.rs",
    "cli/sync.rs",
    "config/file.rs",
    "server/disk.rs",
    "server/log.rs",
    "server/net/doors.rs",
    "server/proc_title.rs",
    "server/process.rs",
    "server/procfs.rs",
    "server/syscheck.rs",
    "server/watchdog.rs",
    "tls/files.rs",
];

/// Where the client programs touch sockets.
const CLIENT_SOCKETS: &[&str] = &["bench/load.rs", "cli/link.rs"];

struct Source {
    /// Path below src, as in `exec/call.rs`.
    path: String,
    text: String,
}

impl Source {
    /// The top-level module the file belongs to.
    fn module(&self) -> &str {
        self.path
            .split('/')
            .next()
            .unwrap_or("")
            .trim_end_matches(".rs")
    }

    /// The lines that are code: no comments, and none of the tests at the end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self
            .text
            .find("#[cfg(test)]\nmod tests")
            .unwrap_or(self.text.len());
        self.text[..tests]
            .lines()
            .enumerate()
            .map(|(n, line)| (n + 1, line.split("//").next().unwrap_or("")))
    }
}

fn sources() -> Vec<Source> {
    fn walk(dir: &Path, root: &Path, out: &mut Vec<Source>) {
        let mut entries: Vec<PathBuf> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, root, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let below = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_string();
                out.push(Source {
                    path: below,
                    text: fs::read_to_string(&path).unwrap(),
                });
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut out = Vec::new();
    walk(&root, &root, &mut out);
    out
}

/// Every top-level module that a line names by a path from the crate's root.
fn named<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    line.match_indices(prefix)
        .map(|(at, _)| {
            let rest = &line[at + prefix.len()..];
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            &rest[..end]
        })
        .collect()
}

fn place(module: &str) -> Option<(usize, usize)> {
    FLOORS
        .iter()
        .enumerate()
        .find_map(|(floor, row)| row.iter().position(|m| *m == module).map(|at| (floor, at)))
}

#[test]
fn imports_only_go_down() {
    let mut wrong = Vec::new();
    for source in sources() {
        let from = source.module();
        if from == "bin" || from == "lib" {
            continue;
        }
        let own = place(from).unwrap_or_else(|| panic!("src/{} is on no floor", source.path));
        let depth =
            source.path.matches('/').count() + usize::from(!source.path.ends_with("mod.rs"));
        let climb = format!("{}{}", "super::".repeat(depth), "");
        for (n, line) in source.code() {
            let mut targets = named(line, "crate::");
            if depth > 0 {
                targets.extend(
                    named(line, &climb)
                        .into_iter()
                        .filter(|m| place(m).is_some()),
                );
            }
            for to in targets {
                let Some(there) = place(to) else { continue };
                let banned = NEVER
                    .iter()
                    .any(|(m, never)| *m == from && never.contains(&to));
                if to != from
                    && (there.0 > own.0 || (there.0 == own.0 && there.1 > own.1) || banned)
                {
                    wrong.push(format!("src/{}:{n}: {from} may not see {to}", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_outside_is_touched_in_one_place() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (n, line) in source.code() {
            for (word, allowed) in ONLY_IN {
                if line.contains(word) && !allowed.contains(&source.path.as_str()) {
                    wrong.push(format!("src/{}:{n}: {word}", source.path));
                }
            }
            if line.contains("std::fs") && !FILES.contains(&source.path.as_str()) {
                wrong.push(format!("src/{}:{n}: files", source.path));
            }
            let sockets = line.contains("mio::") || line.contains("std::net");
            let may = source.module() == "ae"
                || source.path.starts_with("server/net")
                || CLIENT_SOCKETS.contains(&source.path.as_str());
            if sockets && !may {
                wrong.push(format!(
                    "src/{}:{n}: sockets are for ae, server/net and clients",
                    source.path
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The simulator's runs are their seeds: nothing in it may come from elsewhere.
#[test]
fn the_simulator_has_no_time_and_no_chance_but_its_own() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim");
    let in_dir = |dir: &Path| fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let (dirs, mut files): (Vec<_>, Vec<_>) = in_dir(&dir).partition(|path| path.is_dir());
    files.extend(dirs.iter().flat_map(|dir| in_dir(dir)));
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        for word in [
            "Instant",
            "SystemTime",
            "sleep",
            "from_entropy",
            "HashMap",
            "HashSet",
        ] {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
}

#[test]
fn every_unsafe_says_why_it_is_sound() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (n, line) in source.code() {
            let opens = line.contains("unsafe {") || line.contains("unsafe impl");
            if !opens {
                continue;
            }
            // The reason stands in the comment above the statement, within a few lines.
            let from = n.saturating_sub(12);
            let reasoned = lines[from..n]
                .iter()
                .any(|l| l.contains("SAFETY:") || l.contains("# Safety"));
            if !reasoned {
                wrong.push(format!("src/{}:{n}", source.path));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "unsafe without SAFETY:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn no_file_is_a_drawer_for_odds_and_ends() {
    let odd: BTreeSet<String> = sources()
        .into_iter()
        .map(|s| s.path)
        .filter(|p| {
            ["utils", "helpers", "common", "misc"]
                .iter()
                .any(|w| p.contains(w))
        })
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
}

/// A file that grows past this says in its header why it is one file.
const LINES_MAX: usize = 800;

#[test]
fn long_files_say_why() {
    let long: BTreeMap<String, usize> = sources()
        .into_iter()
        .filter(|s| {
            !s.text
                .lines()
                .take(60)
                .any(|l| l.starts_with("//!") && l.contains("one file"))
        })
        .map(|s| (s.path.clone(), s.code().count()))
        .filter(|(_, n)| *n > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}
