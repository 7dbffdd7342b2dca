//! Directives whose feature is not there yet, or has no meaning in a server built like this one. Their
//! values are kept and shown all the same; the log says once, at the start, that they do nothing.

use super::{Config, Text};

/// A directive, whether the configuration asks for what it stands for, and what the log says of it.
type Absent = (fn(&Config) -> bool, &'static str);

const ABSENT: &[Absent] = &[
    (
        |c| c.cluster_enabled,
        "cluster-enabled yes: this version does not speak the cluster protocol yet",
    ),
    (
        |c| !c.aclfile.is_empty(),
        "aclfile: this version has no ACL users yet",
    ),
    (
        |c| c.user.iter().any(|words| !names_default(words)),
        "user: this version has no ACL users yet",
    ),
    (
        |c| c.io_threads > 1,
        "io-threads: one thread serves all clients",
    ),
];

/// The default user is there: whether it can be as the words say is checked at the start.
fn names_default(words: &[Text]) -> bool {
    words
        .first()
        .is_some_and(|name| name.as_bytes() == b"default")
}

/// What to log about `config`.
pub fn notes(config: &Config) -> Vec<String> {
    let asked = ABSENT.iter().filter(|(asks, _)| asks(config));
    asked
        .map(|(_, what)| format!("WARNING: no effect of {what}."))
        .collect()
}
