//! Glob patterns as in KEYS, SCAN MATCH, PSUBSCRIBE and ACL: `*` `?` `[a-z]` `[^a]` and `\` to take a byte literally.
//!
//! Redis's matcher has habits that patterns in the field may lean on, kept here: an open bracket at the end of the pattern
//! closes by itself; a range may be given either way round; bytes above 127 sort below all others in a range (C's
//! signed char); inside brackets `\` escapes, but an escaped byte is compared with its case; the empty string is matched
//! only by the empty pattern, not by `*`.
//!
//! A pattern of many `*` would take exponential time if every star tried every length. Two guards: when the part behind
//! a star fits nowhere in the rest of the string, no longer match of an earlier star can help, so all give up at once;
//! and stars nest at most a thousand deep.

/// Whether the whole of `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    Matcher {
        nocase: false,
        give_up: false,
    }
    .run(pattern, text, 0)
}

/// The same without regard to the case of ASCII letters.
pub fn matches_nocase(pattern: &[u8], text: &[u8]) -> bool {
    Matcher {
        nocase: true,
        give_up: false,
    }
    .run(pattern, text, 0)
}

/// Whether a pattern has no special bytes, so that it matches itself alone.
pub fn is_literal(pattern: &[u8]) -> bool {
    !pattern
        .iter()
        .any(|b| matches!(b, b'*' | b'?' | b'[' | b'\\'))
}

const NESTING_MAX: usize = 1000;

struct Matcher {
    nocase: bool,
    /// A part behind a star fitted nowhere: earlier stars need not try further.
    give_up: bool,
}

impl Matcher {
    fn run(&mut self, mut pattern: &[u8], mut text: &[u8], nesting: usize) -> bool {
        if nesting > NESTING_MAX {
            return false;
        }
        while let ([first, rest @ ..], [byte, text_rest @ ..]) = (pattern, text) {
            pattern = match first {
                b'*' => return self.star(pattern, text, nesting),
                b'?' => rest,
                b'[' => match self.bracket(rest, *byte) {
                    Some(rest) => rest,
                    None => return false,
                },
                b'\\' if !rest.is_empty() && self.same(rest[0], *byte) => &rest[1..],
                b'\\' if !rest.is_empty() => return false,
                _ if self.same(*first, *byte) => rest,
                _ => return false,
            };
            text = text_rest;
            if text.is_empty() {
                while let [b'*', rest @ ..] = pattern {
                    pattern = rest;
                }
            }
        }
        pattern.is_empty() && text.is_empty()
    }

    /// `pattern` begins with a star, `text` is not empty.
    fn star(&mut self, mut pattern: &[u8], mut text: &[u8], nesting: usize) -> bool {
        while let [b'*', rest @ ..] = pattern {
            pattern = rest;
        }
        if pattern.is_empty() {
            return true;
        }
        while !text.is_empty() {
            if self.run(pattern, text, nesting + 1) {
                return true;
            }
            if self.give_up {
                return false;
            }
            text = &text[1..];
        }
        self.give_up = true;
        false
    }

    /// Matches `byte` against the set that `pattern` (behind its `[`) begins with. Gives what follows the set.
    fn bracket<'p>(&self, mut pattern: &'p [u8], byte: u8) -> Option<&'p [u8]> {
        let negated = pattern.first() == Some(&b'^');
        if negated {
            pattern = &pattern[1..];
        }
        let mut found = false;
        let rest = loop {
            pattern = match pattern {
                [] => break pattern,
                [b'\\', escaped, rest @ ..] => {
                    found |= *escaped == byte;
                    rest
                }
                [b']', rest @ ..] => break rest,
                [from, b'-', to, rest @ ..] => {
                    found |= self.in_range(*from, *to, byte);
                    rest
                }
                [one, rest @ ..] => {
                    found |= self.same(*one, byte);
                    rest
                }
            };
        };
        (found != negated).then_some(rest)
    }

    fn in_range(&self, from: u8, to: u8, byte: u8) -> bool {
        let (from, to, byte) = (from as i8, to as i8, byte as i8);
        let (low, high) = (from.min(to), from.max(to));
        if self.nocase {
            (lower(low)..=lower(high)).contains(&lower(byte))
        } else {
            (low..=high).contains(&byte)
        }
    }

    fn same(&self, a: u8, b: u8) -> bool {
        a == b || (self.nocase && a.eq_ignore_ascii_case(&b))
    }
}

/// C's `tolower` on a signed char, as glibc has it: bytes above 127 come out positive, but for 255, which is EOF.
fn lower(c: i8) -> i32 {
    match c {
        -1 => -1,
        _ => i32::from((c as u8).to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes())
    }

    #[test]
    fn plain() {
        for (pattern, text) in [
            ("*", "anything"),
            ("h?llo", "hello"),
            ("h*llo", "heeeello"),
            ("h*llo*", "hllo"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("h[b-a]llo", "hbllo"),
            ("h\\*llo", "h*llo"),
            ("[\\]]", "]"),
            ("[a\\-z]", "-"),
            ("*a*b*c", "xxaxxbxxbc"),
            ("", ""),
            ("a**", "a"),
        ] {
            assert!(check(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("h?llo", "hllo"),
            ("h[^e]llo", "hello"),
            ("h\\*llo", "hello"),
            ("*a*b*c", "xxaxxbxxb"),
            ("a", "ab"),
            ("ab", "a"),
            ("HELLO", "hello"),
        ] {
            assert!(!check(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn odd_habits() {
        assert!(!check("*", ""));
        assert!(check("[a", "a") && check("[^", "x") && !check("[", "["));
        assert!(check("[a-", "-") && check("[a-]", "_") && check("\\", "\\"));
        // Signed: 0xff sorts below 'a'.
        assert!(matches(b"[\xff-a]", b"A") && !matches(b"[\xff-a]", b"z"));
    }

    #[test]
    fn nocase() {
        assert!(matches_nocase(b"H[A-C]L*", b"hblX") && matches_nocase(b"[a-c]", b"B"));
        // An escaped byte in brackets keeps its case.
        assert!(!matches_nocase(b"[\\A]", b"a"));
    }

    /// Without the guards this would outlast the test run.
    #[test]
    fn many_stars_end_soon() {
        let pattern = "a*".repeat(30) + "b";
        assert!(!check(&pattern, &"a".repeat(10_000)));
        assert!(
            !check(&"*?".repeat(2000), &"a".repeat(2000)),
            "deeper than a thousand"
        );
        assert!(check(&"*?".repeat(1000), &"a".repeat(1000)));
    }
}
