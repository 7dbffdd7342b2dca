//! Values as a debugger shows them: those of Lua, and replies of commands.

use crate::base::double::format_g;
use crate::base::number::parse_i64;
use crate::base::quoted::quote_into;
use crate::script::lua::{Lua, kind};
use crate::script::sandbox;

/// So deep tables are shown.
const DEPTH_MAX: usize = 10;
/// Digits of numbers, as C's `%g` has them.
const DIGITS: usize = 6;

/// Appends the value at a place of the stack.
pub fn value(lua: Lua, at: i32, out: &mut Vec<u8>) {
    nested(lua, lua.absolute(at), 0, out);
}

fn nested(lua: Lua, at: i32, depth: usize, out: &mut Vec<u8>) {
    if depth == DEPTH_MAX || !lua.has_room(4) {
        out.extend_from_slice(b"<max recursion level reached! Nested table?>");
        return;
    }
    match lua.kind(at) {
        kind::STRING => quote_into(lua.bytes(at).unwrap_or_default(), out),
        kind::BOOLEAN if lua.boolean(at) => out.extend_from_slice(b"true"),
        kind::BOOLEAN => out.extend_from_slice(b"false"),
        kind::NUMBER => out.extend_from_slice(format_g(lua.number(at), DIGITS).as_bytes()),
        kind::NIL | kind::NONE => out.extend_from_slice(b"nil"),
        kind::TABLE => {
            // (What a locked table hides is what the script sees.)
            let behind = sandbox::push_behind(lua, at);
            let shown = if behind { lua.top() } else { at };
            table(lua, shown, depth, out);
            if behind {
                lua.pop(1);
            }
        }
        other => {
            let name = match other {
                kind::LIGHT_USERDATA => "light-userdata",
                _ => lua.type_name(at),
            };
            let text = format!("\"{name}@{:?}\"", lua.address(at));
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// A table as a list, as long as its keys are those of one, and as pairs.
fn table(lua: Lua, at: i32, depth: usize, out: &mut Vec<u8>) {
    let (mut list, mut pairs) = (Vec::new(), Vec::new());
    let (mut is_list, mut expected) = (true, 1.0);
    lua.push_nil();
    while lua.next(at) {
        let value = lua.top();
        let key = value - 1;
        is_list &= lua.kind(key) == kind::NUMBER && lua.number(key) == expected;
        expected += 1.0;
        if !list.is_empty() || !pairs.is_empty() {
            list.extend_from_slice(b"; ");
            pairs.extend_from_slice(b"; ");
        }
        nested(lua, value, depth + 1, &mut list);
        pairs.push(b'[');
        nested(lua, key, depth + 1, &mut pairs);
        pairs.extend_from_slice(b"]=");
        nested(lua, value, depth + 1, &mut pairs);
        lua.pop(1);
    }
    out.push(b'{');
    out.extend_from_slice(if is_list { &list } else { &pairs });
    out.push(b'}');
}

/// Appends a reply, which is in bytes of the protocol.
pub fn reply(bytes: &[u8], out: &mut Vec<u8>) {
    // (What a server of ours replied is whole.)
    let _ = next_reply(bytes, out);
}

/// Appends the reply at the front, and gives what follows it.
fn next_reply<'a>(bytes: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&kind, _) = bytes.split_first()?;
    let end = memchr::memchr(b'\r', bytes)?;
    let (line, rest) = (bytes.get(1..end)?, bytes.get(end + 2..)?);
    let len = || parse_i64(line).unwrap_or(-1);
    match kind {
        b':' => out.extend_from_slice(line),
        b'+' | b'-' => quote_into(&bytes[..end], out),
        b'_' => out.extend_from_slice(b"(null)"),
        b'#' if line == b"t" => out.extend_from_slice(b"#true"),
        b'#' => out.extend_from_slice(b"#false"),
        b',' => {
            out.extend_from_slice(b"(double) ");
            out.extend_from_slice(line);
        }
        b'$' | b'*' if len() < 0 => out.extend_from_slice(b"NULL"),
        b'$' => {
            let len = usize::try_from(len()).ok()?;
            quote_into(rest.get(..len)?, out);
            return rest.get(len + 2..);
        }
        b'*' => return elements(len(), ["[", ",", "]"], rest, out),
        b'~' => return elements(len(), ["~(", ",", ")"], rest, out),
        b'%' => {
            return elements(len().saturating_mul(2), ["{", " => ", "}"], rest, out);
        }
        _ => return None,
    }
    Some(rest)
}

/// The elements of a collection, with what goes ahead of them, between two, and behind them.
fn elements<'a>(
    len: i64,
    [open, between, close]: [&str; 3],
    mut rest: &'a [u8],
    out: &mut Vec<u8>,
) -> Option<&'a [u8]> {
    out.extend_from_slice(open.as_bytes());
    for at in 0..len {
        if at > 0 {
            // (Between two pairs stands a comma.)
            let is_pair = between != "," && at % 2 == 0;
            out.extend_from_slice(if is_pair { "," } else { between }.as_bytes());
        }
        rest = next_reply(rest, out)?;
    }
    out.extend_from_slice(close.as_bytes());
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_shown_as_redis_shows_them() {
        for (bytes, text) in [
            (&b":-5\r\n"[..], "-5"),
            (b"$3\r\na\"b\r\n", r#""a\"b""#),
            (b"$-1\r\n", "NULL"),
            (b"+OK\r\n", r#""+OK""#),
            (b"-ERR no\r\n", r#""-ERR no""#),
            (b"*2\r\n*0\r\n$1\r\nx\r\n", r#"[[],"x"]"#),
            (b"~2\r\n:1\r\n_\r\n", "~(1,(null))"),
            (
                b"%2\r\n:1\r\n#t\r\n:2\r\n,1.5\r\n",
                "{1 => #true,2 => (double) 1.5}",
            ),
            (b"*2\r\n:1\r\n", "[1,"),
        ] {
            let mut out = Vec::new();
            reply(bytes, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
