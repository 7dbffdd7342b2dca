//! What may come next on a command line, from the arguments that the command documents.
//!
//! The words that have been typed are matched against the arguments, each of which notes how far it has been met; what is
//! left is the hint. Optional arguments that stand beside each other come in any order, and the one that has been begun
//! is shown first. What may be repeated is shown again behind itself, as `[name ...]`.

use crate::base::quoted::is_space;

/// What an argument is, as far as matching minds.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Text,
    Integer,
    Double,
    PureToken,
    OneOf(Vec<Arg>),
    Block(Vec<Arg>),
}

/// A documented argument.
#[derive(Debug, Clone, PartialEq)]
pub struct Arg {
    pub name: Vec<u8>,
    pub token: Option<Vec<u8>>,
    pub kind: Kind,
    pub since: Vec<u8>,
    pub optional: bool,
    pub multiple: bool,
    pub multiple_token: bool,
    met: Met,
}

/// How far the words have met an argument.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Met {
    words: usize,
    token: bool,
    name: bool,
    all: bool,
}

impl Arg {
    /// An argument that nothing has met.
    pub fn new(name: Vec<u8>, kind: Kind) -> Arg {
        Arg {
            name,
            token: None,
            kind,
            since: Vec::new(),
            optional: false,
            multiple: false,
            multiple_token: false,
            met: Met::default(),
        }
    }

    fn forget(&mut self) {
        self.met = Met::default();
        if let Kind::OneOf(of) | Kind::Block(of) = &mut self.kind {
            of.iter_mut().for_each(Arg::forget);
        }
    }
}

/// The hint for arguments of which the `words` have been typed; nothing if those do not fit.
pub fn hint(args: &[Arg], words: &[Vec<u8>]) -> Vec<u8> {
    let mut args = args.to_vec();
    args.iter_mut().for_each(Arg::forget);
    let mut out = Vec::new();
    if meet_all(words, &mut args) == words.len() {
        show_all(&mut args, b" ", &mut out);
    }
    out
}

/// Meets as many words as the arguments have room for; none if a required one is not met.
fn meet_all(words: &[Vec<u8>], args: &mut [Arg]) -> usize {
    let (mut used, mut at) = (0, 0);
    while used < words.len() && at < args.len() {
        let optional = args[at..].iter().take_while(|arg| arg.optional).count();
        if optional > 0 {
            used += meet_optional(&words[used..], &mut args[at..at + optional]);
            at += optional;
            continue;
        }
        match meet(&words[used..], &mut args[at]) {
            0 => return 0,
            n => used = words.len().min(used + n),
        }
        at += 1;
    }
    used
}

fn meet_optional(words: &[Vec<u8>], args: &mut [Arg]) -> usize {
    let mut used = 0;
    let mut last: Option<usize> = None;
    while used < words.len() {
        let mut found = None;
        for (at, arg) in args.iter_mut().enumerate() {
            if arg.met.words != 0 {
                continue;
            }
            let n = meet(&words[used..], arg);
            if n != 0 {
                found = Some((at, n));
                break;
            }
        }
        let Some((at, n)) = found else { break };
        // Another one has begun: what is open in the one before stays open no more.
        if let Some(last) = last {
            args[last].met.all = true;
        }
        last = Some(at);
        used = words.len().min(used + n);
    }
    used
}

/// Meets an argument as often as it may come.
fn meet(words: &[Vec<u8>], arg: &mut Arg) -> usize {
    let mut used = meet_once(words, arg);
    if !arg.multiple {
        return used;
    }
    while arg.met.all && used < words.len() {
        arg.forget();
        let n = if arg.token.is_some() && !arg.multiple_token {
            // The token comes the first time only.
            let n = meet_body(&words[used..], arg);
            arg.met.token = arg.met.words != 0;
            n
        } else {
            meet_once(&words[used..], arg)
        };
        if n == 0 {
            break;
        }
        used = words.len().min(used + n);
    }
    // It could come again.
    arg.met.all = false;
    used
}

fn meet_once(words: &[Vec<u8>], arg: &mut Arg) -> usize {
    let Some(token) = &arg.token else {
        return meet_body(words, arg);
    };
    if !words.first().is_some_and(|w| w.eq_ignore_ascii_case(token)) {
        return 0;
    }
    arg.met.token = true;
    arg.met.words = 1;
    if arg.kind == Kind::PureToken {
        arg.met.all = true;
        return 1;
    }
    match words.len() {
        1 => 1,
        _ => meet_body(&words[1..], arg),
    }
}

fn meet_body(words: &[Vec<u8>], arg: &mut Arg) -> usize {
    let word = words.first().map(Vec::as_slice).unwrap_or_default();
    match &mut arg.kind {
        Kind::Block(of) => {
            arg.met.words += meet_all(words, of);
            arg.met.all = of.iter().all(|arg| arg.met.all);
        }
        Kind::OneOf(of) => {
            for one in of {
                if meet(words, one) != 0 {
                    arg.met.words += one.met.words;
                    arg.met.all = one.met.all;
                    break;
                }
            }
        }
        Kind::Integer if !begins_as_number(word, false) => {
            (arg.met.words, arg.met.name) = (0, false);
        }
        Kind::Double if !begins_as_number(word, true) => {
            (arg.met.words, arg.met.name) = (0, false);
        }
        _ => {
            arg.met.words += 1;
            arg.met.name = true;
            arg.met.all = true;
        }
    }
    arg.met.words
}

/// Whether C's `scanf` would find a number there. (It finds no fault with an empty text.)
fn begins_as_number(word: &[u8], fraction: bool) -> bool {
    let blanks = word.iter().take_while(|b| is_space(**b)).count();
    let word = &word[blanks..];
    let digits = word.strip_prefix(b"-").or(word.strip_prefix(b"+"));
    let digits = digits.unwrap_or(word);
    let named = |name: &[u8]| {
        let head = digits.get(..name.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(name))
    };
    match digits {
        [] => word.is_empty(),
        [b'.', next, ..] if fraction => next.is_ascii_digit(),
        [first, ..] => first.is_ascii_digit() || (fraction && (named(b"inf") || named(b"nan"))),
    }
}

/// Puts `separator` behind what was added since the last one.
fn part(out: &mut Vec<u8>, len: &mut usize, separator: &[u8], is_last: bool) {
    if out.len() > *len && !is_last {
        out.extend_from_slice(separator);
        *len = out.len();
    }
}

fn show_all(args: &mut [Arg], separator: &[u8], out: &mut Vec<u8>) {
    let last = args.len().saturating_sub(1);
    let mut len = out.len();
    let mut at = 0;
    while at < args.len() {
        if !args[at].optional {
            show(&mut args[at], out);
            part(out, &mut len, separator, at == last);
            at += 1;
            continue;
        }
        let end = at + args[at..].iter().take_while(|arg| arg.optional).count();
        // What has been begun comes first.
        let mut begun = None;
        for (i, arg) in args[..end].iter_mut().enumerate().skip(at) {
            if arg.met.words != 0 && !arg.met.all {
                show(arg, out);
                part(out, &mut len, separator, at == last);
                begun = Some(i);
            }
        }
        // Once the argument behind them has been met, it is too late for the others.
        if args.get(end).is_none_or(|next| next.met.words == 0) {
            for (i, arg) in args[..end].iter_mut().enumerate().skip(at) {
                if begun != Some(i) {
                    show(arg, out);
                    part(out, &mut len, separator, i == last);
                }
            }
        }
        at = end;
    }
}

/// A word, which is seen though it is empty.
fn show_word(word: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(if word.is_empty() { b"\"\"" } else { word });
}

fn show(arg: &mut Arg, out: &mut Vec<u8>) {
    if arg.met.all {
        return;
    }
    let in_brackets = arg.optional && arg.met.words == 0;
    if in_brackets {
        out.push(b'[');
    }
    if let Some(token) = arg.token.as_ref().filter(|_| !arg.met.token) {
        show_word(token, out);
        if arg.kind != Kind::PureToken {
            out.push(b' ');
        }
    }
    match &mut arg.kind {
        Kind::OneOf(of) if arg.met.words == 0 => show_all(of, b"|", out),
        Kind::OneOf(of) => {
            for one in of.iter_mut().filter(|one| one.met.words != 0) {
                show(one, out);
            }
        }
        Kind::Block(of) => show_all(of, b" ", out),
        Kind::PureToken => {}
        _ if arg.met.name => {}
        _ => show_word(&arg.name, out),
    }
    if arg.multiple {
        show_repeated(arg, out);
    }
    // (What repeats has been forgotten by now; Redis closes a bracket then that it did not open.)
    if arg.optional && arg.met.words == 0 {
        out.push(b']');
    }
}

/// The part of an argument that may come again.
fn show_repeated(arg: &mut Arg, out: &mut Vec<u8>) {
    arg.forget();
    if !out.is_empty() {
        out.push(b' ');
    }
    out.push(b'[');
    if let Some(token) = arg.token.as_ref().filter(|_| arg.multiple_token) {
        show_word(token, out);
        if arg.kind != Kind::PureToken {
            out.push(b' ');
        }
    }
    match &mut arg.kind {
        Kind::OneOf(of) => show_all(of, b"|", out),
        Kind::Block(of) => show_all(of, b" ", out),
        Kind::PureToken => {}
        _ => show_word(&arg.name, out),
    }
    out.extend_from_slice(b" ...]");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> Arg {
        Arg::new(name.into(), Kind::Text)
    }

    fn shown(args: &[Arg], line: &str) -> String {
        let words: Vec<Vec<u8>> = line.split_whitespace().map(|w| w.into()).collect();
        String::from_utf8(hint(args, &words)).unwrap()
    }

    #[test]
    fn what_was_begun_comes_first_and_what_repeats_again() {
        let count = Arg {
            token: Some(b"COUNT".to_vec()),
            optional: true,
            ..Arg::new(b"count".to_vec(), Kind::Integer)
        };
        let matching = Arg {
            token: Some(b"MATCH".to_vec()),
            optional: true,
            ..text("pattern")
        };
        let args = [text("key"), matching, count];
        assert_eq!(shown(&args, ""), "key [MATCH pattern] [COUNT count]");
        assert_eq!(shown(&args, "k COUNT"), "count [MATCH pattern] ");
        assert_eq!(shown(&args, "k count 3"), "[MATCH pattern] ");
        assert_eq!(shown(&args, "k count x"), "");
        let keys = [Arg {
            multiple: true,
            ..text("key")
        }];
        assert_eq!(shown(&keys, ""), "key [key ...]");
        assert_eq!(shown(&keys, "a b"), "[key ...]");
    }
}
