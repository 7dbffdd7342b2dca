//! Values on their way between commands and scripts.
//!
//! A command's reply comes as bytes and becomes a value at once, without anything between:
//!
//! ```text
//! :1            number              %, ~, ',', '(', =   {map={...}}, {set={...}}, {double=n}, {big_number=s},
//! $, nothing    string, false                           {verbatim_string={string=s, format=f}}   (RESP3 only)
//! +, -          {ok=s}, {err=s}     #, _                boolean, nil                             (RESP3 only)
//! *             table
//! ```
//! What a script returns goes the other way. There a number loses its fraction, `false` and `nil` are a null, and a table
//! is what its first field of the above says, or else an array up to its first `nil`.

use crate::base::number::{parse_f64, parse_i64};
use crate::resp::reply::{Deferred, Reply};
use crate::script::error;
use crate::script::lua::{Lua, kind};

/// Puts the value of a reply on the top; what is left of the bytes. A reply that is cut short, which none is, gives nil.
pub fn push_reply(lua: Lua, bytes: &[u8]) -> &[u8] {
    if !lua.has_room(6) {
        // No reply is nested that deep.
        return &[];
    }
    let Some((line, rest)) = take_line(bytes) else {
        lua.push_nil();
        return &[];
    };
    let (&sort, text) = line.split_first().unwrap_or((&b'_', b""));
    match sort {
        b':' => lua.push_number(parse_i64(text).unwrap_or(0) as f64),
        b'$' => match length(text) {
            None => lua.push_boolean(false),
            Some(len) => {
                let len = len.min(rest.len());
                lua.push_bytes(&rest[..len]);
                return rest.get(len + 2..).unwrap_or_default();
            }
        },
        b'+' => push_single(lua, "ok", text),
        b'-' => error::push_counted(lua, line),
        b'*' | b'>' => match length(text) {
            None => lua.push_boolean(false),
            Some(len) => return push_array(lua, len, rest),
        },
        b'%' => return push_map(lua, length(text).unwrap_or(0), rest),
        b'~' => return push_set(lua, length(text).unwrap_or(0), rest),
        b'|' => return push_reply(lua, skip_attributes(lua, length(text).unwrap_or(0), rest)),
        b'#' => lua.push_boolean(text == b"t"),
        b',' => {
            lua.new_table(0, 0);
            lua.push_number(parse_f64(text).unwrap_or(f64::NAN));
            lua.raw_set_field(-2, "double");
        }
        b'(' => push_single(lua, "big_number", text),
        b'=' => {
            let len = length(text).unwrap_or(0).min(rest.len());
            push_verbatim(lua, &rest[..len]);
            return rest.get(len + 2..).unwrap_or_default();
        }
        _ => lua.push_nil(),
    }
    rest
}

fn take_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\r', bytes)?;
    Some((&bytes[..end], bytes.get(end + 2..).unwrap_or_default()))
}

/// The length that a header tells; `None` for the -1 of nothing.
fn length(text: &[u8]) -> Option<usize> {
    match text {
        // Most are this short.
        [digit @ b'0'..=b'9'] => Some(usize::from(digit - b'0')),
        _ => parse_i64(text).and_then(|n| usize::try_from(n).ok()),
    }
}

fn push_single(lua: Lua, name: &str, text: &[u8]) {
    lua.new_table(0, 0);
    lua.push_bytes(text);
    lua.raw_set_field(-2, name);
}

fn push_array(lua: Lua, len: usize, mut rest: &[u8]) -> &[u8] {
    lua.new_table(len, 0);
    let mut whole = true;
    for n in 1..=len {
        rest = push_reply(lua, rest);
        if whole && lua.kind(-1) == kind::NIL {
            whole = false;
            grow_again(lua, n);
        }
        lua.raw_set_item(-2, n);
    }
    rest
}

/// Replaces the table below the top by one that grew item by item to before the `n`th, as Redis makes them: where there are
/// holes, the length that Lua tells goes by the room that a table has.
fn grow_again(lua: Lua, n: usize) {
    lua.new_table(0, 0);
    for i in 1..n {
        lua.raw_item(-3, i);
        lua.raw_set_item(-2, i);
    }
    lua.replace(-3);
}

/// What is said beside a reply is not for scripts.
fn skip_attributes(lua: Lua, pairs: usize, mut rest: &[u8]) -> &[u8] {
    for _ in 0..2 * pairs {
        rest = push_reply(lua, rest);
        lua.pop(1);
    }
    rest
}

fn push_map(lua: Lua, len: usize, mut rest: &[u8]) -> &[u8] {
    lua.new_table(0, 0);
    lua.new_table(0, 0);
    for _ in 0..len {
        rest = push_reply(lua, rest);
        rest = push_reply(lua, rest);
        set_unless_nil(lua);
    }
    lua.raw_set_field(-2, "map");
    rest
}

fn push_set(lua: Lua, len: usize, mut rest: &[u8]) -> &[u8] {
    lua.new_table(0, 0);
    lua.new_table(0, 0);
    for _ in 0..len {
        rest = push_reply(lua, rest);
        lua.push_boolean(true);
        set_unless_nil(lua);
    }
    lua.raw_set_field(-2, "set");
    rest
}

/// Puts key and value on the top into the table below. Nothing can be found under nil.
fn set_unless_nil(lua: Lua) {
    match lua.kind(-2) {
        kind::NIL => lua.pop(2),
        _ => lua.raw_set(-3),
    }
}

fn push_verbatim(lua: Lua, text: &[u8]) {
    let (format, string) = text.split_at(text.len().min(3));
    lua.new_table(0, 0);
    lua.new_table(0, 0);
    lua.push_bytes(string.get(1..).unwrap_or_default());
    lua.raw_set_field(-2, "string");
    lua.push_bytes(format);
    lua.raw_set_field(-2, "format");
    lua.raw_set_field(-2, "verbatim_string");
}

/// Writes what a script returned.
pub struct Writer<'a> {
    pub lua: Lua,
    pub reply: &'a mut Reply,
    /// The script speaks RESP3, so that its booleans are booleans.
    pub resp3: bool,
    /// Errors in it that nobody has counted yet.
    pub errors: Vec<Vec<u8>>,
    /// How many are in it that have been counted.
    pub counted: u64,
}

/// A table that is being replied. Tables may be nested as deep as Lua's stack allows, which is deeper than ours does: so
/// what is left to do stands here and not in calls within calls.
enum Begun {
    /// It is on the top; of so many items, so many are done.
    Array { len: usize, done: usize },
    /// On the top is the table inside, and the key that was last. The value of a key comes next, or not.
    Map {
        head: Deferred,
        pairs: usize,
        value_next: bool,
    },
    /// The same for keys alone.
    Set { head: Deferred, items: usize },
}

impl Writer<'_> {
    /// Replies the value on the top and takes it off.
    pub fn value(&mut self) {
        let mut begun = Vec::new();
        loop {
            self.single(&mut begun);
            while !self.next_is_there(&mut begun) {
                if begun.is_empty() {
                    return;
                }
            }
        }
    }

    /// Puts the next value of the innermost table on the top; false if there is none, and then the table is gone.
    fn next_is_there(&mut self, begun: &mut Vec<Begun>) -> bool {
        let lua = self.lua;
        match begun.last_mut() {
            None => return false,
            Some(Begun::Array { len, done }) if *done < *len => {
                *done += 1;
                lua.raw_item(-1, *done);
                return true;
            }
            Some(Begun::Array { .. }) => {}
            Some(Begun::Map { value_next, .. }) if *value_next => {
                *value_next = false;
                return true;
            }
            Some(Begun::Map {
                pairs, value_next, ..
            }) => {
                if lua.next(-2) {
                    lua.push_value(-2);
                    *pairs += 1;
                    *value_next = true;
                    return true;
                }
            }
            Some(Begun::Set { items, .. }) => {
                if lua.next(-2) {
                    lua.pop(1);
                    lua.push_value(-1);
                    *items += 1;
                    return true;
                }
            }
        }
        lua.pop(1);
        match begun.pop() {
            Some(Begun::Map { head, pairs, .. }) => self.reply.close_map(head, pairs),
            Some(Begun::Set { head, items }) => self.reply.close_set(head, items),
            Some(Begun::Array { .. }) | None => {}
        }
        false
    }

    /// Replies the value on the top, and takes it off unless it is a table whose items have yet to follow.
    fn single(&mut self, begun: &mut Vec<Begun>) {
        let lua = self.lua;
        if !lua.has_room(4) {
            self.error(b"ERR reached lua stack limit".to_vec());
            return lua.pop(1);
        }
        match lua.kind(-1) {
            kind::STRING => self.reply.bulk(lua.bytes(-1).unwrap_or_default()),
            kind::NUMBER => self.reply.int(as_c_long(lua.number(-1))),
            kind::BOOLEAN => match (self.resp3, lua.boolean(-1)) {
                (true, yes) => self.reply.bool(yes),
                (false, true) => self.reply.int(1),
                (false, false) => self.reply.null(),
            },
            kind::TABLE => {
                if let Some(table) = self.table() {
                    return begun.push(table);
                }
            }
            _ => self.reply.null(),
        }
        lua.pop(1);
    }

    fn error(&mut self, text: Vec<u8>) {
        self.reply.error(&text);
        self.errors.push(text);
    }

    /// Puts a field of the table on the top; false if it is of another type, and then it is gone again.
    fn field(&self, name: &str, kind: i32) -> bool {
        self.lua.raw_field(-1, name);
        let found = self.lua.kind(-1) == kind;
        if !found {
            self.lua.pop(1);
        }
        found
    }

    /// Replies the table on the top, if it is one of those that stand for a single value; or begins it.
    fn table(&mut self) -> Option<Begun> {
        let lua = self.lua;
        if self.field("err", kind::STRING) {
            lua.pop(1);
            let told = error::read(lua);
            match told.counted {
                true => {
                    self.counted += 1;
                    self.reply.error(&told.text);
                }
                false => self.error(told.text),
            }
            return None;
        }
        if self.field("ok", kind::STRING) {
            let text = in_one_line(lua.c_bytes(-1).unwrap_or_default());
            self.reply.status(text);
        } else if self.field("double", kind::NUMBER) {
            self.reply.double(lua.number(-1));
        } else if self.field("big_number", kind::STRING) {
            let text = in_one_line(lua.bytes(-1).unwrap_or_default());
            self.reply.big_number(&text);
        } else if self.field("verbatim_string", kind::TABLE) {
            if !self.verbatim() {
                lua.pop(1);
                return Some(self.collection());
            }
        } else {
            return Some(self.collection());
        }
        lua.pop(1);
        None
    }

    fn verbatim(&mut self) -> bool {
        let lua = self.lua;
        if !self.field("format", kind::STRING) {
            return false;
        }
        let mut format = *b"   ";
        for (to, from) in format.iter_mut().zip(lua.c_bytes(-1).unwrap_or_default()) {
            *to = *from;
        }
        lua.pop(1);
        if !self.field("string", kind::STRING) {
            return false;
        }
        self.reply
            .verbatim(&format, lua.bytes(-1).unwrap_or_default());
        lua.pop(1);
        true
    }

    /// Begins the table on the top, of which only the part inside is needed from now on.
    fn collection(&mut self) -> Begun {
        let lua = self.lua;
        for name in ["map", "set"] {
            if self.field(name, kind::TABLE) {
                lua.remove(-2);
                lua.push_nil();
                let head = self.reply.defer();
                return match name {
                    "map" => Begun::Map {
                        head,
                        pairs: 0,
                        value_next: false,
                    },
                    _ => Begun::Set { head, items: 0 },
                };
            }
        }
        let mut len = 0;
        loop {
            lua.raw_item(-1, len + 1);
            let ends = lua.kind(-1) == kind::NIL;
            lua.pop(1);
            if ends {
                break;
            }
            len += 1;
        }
        self.reply.array(len);
        Begun::Array { len, done: 0 }
    }
}

fn in_one_line(text: &[u8]) -> Vec<u8> {
    let line = |&b: &u8| if matches!(b, b'\r' | b'\n') { b' ' } else { b };
    text.iter().map(line).collect()
}

/// A number as C casts it to `long long` on the machines that we run on.
fn as_c_long(n: f64) -> i64 {
    match n {
        _ if n.is_nan() || n >= 9_223_372_036_854_775_808.0 => i64::MIN,
        _ => n as i64,
    }
}

/// A number of a script as the argument of a command: without a fraction where it has none.
pub fn number_text(n: f64, then: impl FnOnce(&[u8])) {
    match crate::base::double::as_integer(n) {
        None if n.is_nan() && n.is_sign_negative() => then(b"-nan"),
        Some(int) => then(itoa::Buffer::new().format(int).as_bytes()),
        None => then(crate::base::double::format_shortest(n).as_bytes()),
    }
}
