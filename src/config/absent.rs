//! Directives whose feature is not there yet, or has no meaning in a server built like this one. Their
//! values are kept and shown all the same; the log says once, at the start, that they do nothing.

use super::Config;

/// A directive, whether the configuration asks for what it stands for, and what the log says of it.
type Absent = (fn(&Config) -> bool, &'static str);

const ABSENT: &[Absent] = &[(
    |c| c.io_threads > 1,
    "io-threads: one thread serves all clients",
)];

/// What to log about `config`.
pub fn notes(config: &Config) -> Vec<String> {
    let asked = ABSENT.iter().filter(|(asks, _)| asks(config));
    asked
        .map(|(_, what)| format!("WARNING: no effect of {what}."))
        .collect()
}
