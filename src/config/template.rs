//! The template of the process title: text with variables in braces, `{{` for a brace.

/// The variables that a template may name.
pub const VARIABLES: [&str; 7] = [
    "title",
    "listen-addr",
    "server-mode",
    "config-file",
    "port",
    "tls-port",
    "unixsocket",
];

/// `template` with each variable replaced by what `value` gives for it, without blanks at either end.
/// `None` if a brace is left open or `value` does not know a variable.
pub fn expand(template: &[u8], value: impl Fn(&str) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = template;
    while let Some(at) = memchr::memchr(b'{', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        if rest.first() == Some(&b'{') {
            out.push(b'{');
            rest = &rest[1..];
            continue;
        }
        let end = memchr::memchr(b'}', rest)?;
        let name = std::str::from_utf8(&rest[..end]).ok()?;
        out.extend(value(name)?);
        rest = &rest[end + 1..];
    }
    out.extend_from_slice(rest);
    let start = out.iter().position(|b| *b != b' ').unwrap_or(out.len());
    let end = out
        .iter()
        .rposition(|b| *b != b' ')
        .map_or(start, |i| i + 1);
    Some(out[start..end].to_vec())
}

/// Whether a template can be expanded and leaves something to show even where the variables that may be
/// empty are.
pub fn is_valid(template: &[u8]) -> bool {
    let value = |name: &str| match name {
        "title" | "server-mode" | "unixsocket" => Some(Vec::new()),
        _ => VARIABLES.contains(&name).then(|| b"x".to_vec()),
    };
    expand(template, value).is_some_and(|title| !title.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let value = |name: &str| match name {
            "port" => Some(b"6379".to_vec()),
            "server-mode" => Some(Vec::new()),
            _ => None,
        };
        let expand = |t: &str| expand(t.as_bytes(), value).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(expand("redis:{port} {server-mode}").unwrap(), "redis:6379");
        assert_eq!(expand("{{{port}} {{}").unwrap(), "{6379} {}");
        assert_eq!(expand("{"), None);
        assert_eq!(expand("a{port"), None);
        assert_eq!(expand("{nope}"), None);
        assert!(is_valid(b"{title} {listen-addr} {server-mode}"));
        assert!(!is_valid(b""));
        assert!(!is_valid(b"  "));
        assert!(!is_valid(b"{server-mode}"));
        assert!(!is_valid(b"{Title}"));
    }
}
