//! Errors of scripts: tables with a text in `err`, and where they came up in `source` and `line`.

use std::ffi::c_int;

use crate::script::debugger;
use crate::script::lua::{Lua, kind, until_zero};

/// What the error that ended a script says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The text, with its code.
    pub text: Vec<u8>,
    /// Source and line, where both are known.
    pub place: Option<(Vec<u8>, Vec<u8>)>,
    /// It was counted when a command replied it.
    pub counted: bool,
}

/// Puts the error of a text on the top. One that begins with `-` has a code of its own up to the first space, others are
/// plain errors.
pub fn push(lua: Lua, text: &[u8]) {
    let text = until_zero(text);
    debugger::with(lua, |debugger| debugger.note_error(text));
    let (code, message) = match text.strip_prefix(b"-") {
        Some(rest) => match memchr::memchr(b' ', rest) {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (&b"ERR"[..], rest),
        },
        None => (&b"ERR"[..], text),
    };
    let end = |b: &u8| matches!(b, b'\r' | b'\n');
    let first = message
        .iter()
        .position(|b| !end(b))
        .unwrap_or(message.len());
    let last = message
        .iter()
        .rposition(|b| !end(b))
        .map_or(first, |at| at + 1);
    let whole = [code, b" ", &message[first..last]].concat();
    lua.new_table(0, 0);
    lua.push_bytes(&whole);
    lua.raw_set_field(-2, "err");
}

/// The same for an error that a command has replied and that was counted then.
pub fn push_counted(lua: Lua, text: &[u8]) {
    push(lua, text);
    lua.push_boolean(true);
    lua.raw_set_field(-2, "ignore_error_stats_update");
}

/// What the error on the top says; it stays there.
pub fn read(lua: Lua) -> Told {
    if lua.is_text(-1) {
        let text = lua.c_bytes(-1).unwrap_or_default();
        return Told {
            text: [b"ERR ", text].concat(),
            ..Told::default()
        };
    }
    if !lua.is_table(-1) {
        return Told::default();
    }
    let field = |name: &str| {
        lua.raw_field(-1, name);
        let text = match lua.is_text(-1) {
            true => lua.c_bytes(-1).map(<[u8]>::to_vec),
            false => None,
        };
        lua.pop(1);
        text
    };
    let text = field("err").unwrap_or_else(|| b"(null)".to_vec());
    let place = field("source").zip(field("line"));
    lua.raw_field(-1, "ignore_error_stats_update");
    let counted = lua.kind(-1) == kind::BOOLEAN && lua.boolean(-1);
    lua.pop(1);
    Told {
        text,
        place,
        counted,
    }
}

/// The handler of errors: whatever was raised becomes a table that says where.
pub fn handler(lua: Lua) -> Result<c_int, super::lua::Raise> {
    let mut frame = lua.frame(1);
    if frame.as_ref().is_some_and(|f| f.is_native) {
        // An error of a native function is told of the line that called it.
        frame = lua.frame(2);
    }
    if !lua.is_table(1) {
        let text: Vec<u8> = match lua.kind(1) {
            kind::STRING | kind::NUMBER => lua.bytes(1).unwrap_or_default().to_vec(),
            kind::BOOLEAN => lua.boolean(1).to_string().into_bytes(),
            kind::NIL => b"nil".to_vec(),
            _ => format!("{}: {:p}", lua.type_name(1), lua.address(1)).into_bytes(),
        };
        lua.new_table(0, 0);
        lua.push_bytes(&[b"ERR ", &text[..]].concat());
        lua.raw_set_field(-2, "err");
        lua.replace(1);
    }
    if let Some(frame) = frame {
        lua.push_bytes(&frame.source);
        lua.raw_set_field(1, "source");
        lua.push_number(f64::from(frame.line));
        lua.raw_set_field(1, "line");
    }
    lua.set_top(1);
    Ok(1)
}
