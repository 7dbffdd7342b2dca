//! The globals of scripts, which nobody can change.
//!
//! Redis patches its interpreter so that a table can be locked. Ours is the plain one, so a locked table is hidden behind
//! another that is always empty: what is read there is looked up in the hidden one, what is written there is refused. The
//! few functions that would notice (`next`, `pairs`, `rawget` ...) look through it, and those that would write past it
//! (`rawset`, `table.insert` ...) refuse as well. Scripts have no `debug` library to tell the two apart.
//!
//! ```text
//!  _G, empty  --metatable-->  __index     globals: redis, string ... each hidden likewise
//!                             __newindex  "Attempt to modify a readonly table"
//!                             HIDDEN      the table behind, for those who look through
//!                             SHOWN_META  what getmetatable says of it
//! ```

use std::ffi::{c_int, c_void};

use crate::script::lua::{Body, GLOBALS, Lua, Raise, is_bytecode, kind, upvalue};

const READONLY: &str = "Attempt to modify a readonly table";

/// Keys that no script can make: the addresses of these.
static HIDDEN: u8 = 0;
static SHOWN_META: u8 = 1;

fn hidden_key() -> *mut c_void {
    (&raw const HIDDEN).cast_mut().cast()
}

fn meta_key() -> *mut c_void {
    (&raw const SHOWN_META).cast_mut().cast()
}

/// If the value is a locked table, puts the one behind it on the top.
pub fn push_behind(lua: Lua, at: c_int) -> bool {
    if !lua.is_table(at) || !lua.metatable(at) {
        return false;
    }
    lua.push_pointer(hidden_key());
    lua.raw_get(-2);
    lua.remove(-2);
    let found = lua.is_table(-1);
    if !found {
        lua.pop(1);
    }
    found
}

fn is_locked(lua: Lua, at: c_int) -> bool {
    let locked = push_behind(lua, at);
    if locked {
        lua.pop(1);
    }
    locked
}

/// Replaces the table on the top by one in front of it that nobody can change.
pub fn lock(lua: Lua) {
    let behind = lua.top();
    lua.new_table(0, 0);
    lua.new_table(0, 4);
    lua.push_value(behind);
    lua.raw_set_field(-2, "__index");
    lua.push_fn(refuse);
    lua.raw_set_field(-2, "__newindex");
    lua.push_pointer(hidden_key());
    lua.push_value(behind);
    lua.raw_set(-3);
    if lua.metatable(behind) {
        lock(lua);
        lua.push_pointer(meta_key());
        lua.insert(-2);
        lua.raw_set(-3);
    }
    lua.set_metatable(-2);
    lua.remove(behind);
}

/// Makes reading what the table on the top does not have an error.
pub fn refuse_absent(lua: Lua) {
    lua.new_table(0, 1);
    lua.push_fn(absent);
    lua.raw_set_field(-2, "__index");
    lua.set_metatable(-2);
}

/// Gives the locked table at a place of the stack another table behind it, for those who index it: the top, which goes.
pub fn show_instead(lua: Lua, locked: c_int) {
    if lua.metatable(locked) {
        lua.insert(-2);
        lua.raw_set_field(-2, "__index");
        lua.pop(1);
    }
}

fn refuse(lua: Lua) -> Result<c_int, Raise> {
    Err(lua.raise_here(READONLY))
}

fn absent(lua: Lua) -> Result<c_int, Raise> {
    if lua.top() != 2 {
        return Err(lua.raise_here("Wrong number of arguments to luaProtectedTableError"));
    }
    if !lua.is_text(2) {
        return Err(
            lua.raise_here("Second argument to luaProtectedTableError must be a string or number")
        );
    }
    let name = lua.c_bytes(2).unwrap_or_default();
    let text = [
        b"Script attempted to access nonexistent global variable '",
        name,
        b"'",
    ];
    Err(lua.raise_here(text.concat()))
}

/// Wraps a function, on the top, so that a locked table as its first argument counts as the one behind.
fn look_through(lua: Lua) {
    lua.push_closure(through, 1);
}

fn through(lua: Lua) -> Result<c_int, Raise> {
    if push_behind(lua, 1) {
        lua.replace(1);
    }
    run_wrapped(lua)
}

/// Wraps a function so that it refuses a locked table as its first argument.
fn keep_out(lua: Lua) {
    lua.push_closure(unlocked_only, 1);
}

fn unlocked_only(lua: Lua) -> Result<c_int, Raise> {
    if is_locked(lua, 1) {
        return Err(lua.raise(READONLY));
    }
    run_wrapped(lua)
}

/// Calls the function that a wrapper has in its second upvalue, with the wrapper's own arguments.
fn run_wrapped(lua: Lua) -> Result<c_int, Raise> {
    match lua.native(upvalue(2)) {
        Some(function) => Ok(lua.instead(function)),
        None => Ok(0),
    }
}

fn pairs(lua: Lua) -> Result<c_int, Raise> {
    lua.check_table(1);
    lua.push_value(upvalue(2));
    lua.push_value(1);
    lua.push_nil();
    Ok(3)
}

fn getmetatable(lua: Lua) -> Result<c_int, Raise> {
    if is_locked(lua, 1) {
        lua.metatable(1);
        lua.push_pointer(meta_key());
        lua.raw_get(-2);
        return Ok(1);
    }
    run_wrapped(lua)
}

/// `pcall` as scripts of old know it: an error is its text, not the table around it.
fn pcall(lua: Lua) -> Result<c_int, Raise> {
    let args = lua.top();
    lua.push_boolean(true);
    lua.insert(1);
    if args == 0 {
        return Err(lua.bad_arg(1, c"value expected"));
    }
    if !lua.try_call(args - 1, None, 0) {
        lua.remove(1);
        if lua.is_table(-1) {
            lua.push_bytes(b"err");
            lua.get(-2);
            if lua.is_text(-1) {
                lua.replace(-2);
            }
        }
        lua.push_boolean(false);
        lua.insert(1);
    }
    Ok(lua.top())
}

/// `unpack`. Lua's own miscounts where a range is longer than an `int` can tell.
fn unpack(lua: Lua) -> Result<c_int, Raise> {
    lua.check_table(1);
    let first = match lua.kind(2) <= kind::NIL {
        true => 1,
        false => lua.check_int(2),
    };
    let last = match lua.kind(3) <= kind::NIL {
        true => i32::try_from(lua.len(1)).unwrap_or(i32::MAX),
        false => lua.check_int(3),
    };
    if first > last {
        return Ok(0);
    }
    let n = i64::from(last) - i64::from(first) + 1;
    let Some(n) = i32::try_from(n).ok().filter(|&n| lua.has_room(n)) else {
        return Err(lua.raise_here("too many results to unpack"));
    };
    for at in first..=last {
        lua.raw_int(1, at);
    }
    Ok(n)
}

/// `loadstring`: only source is taken.
fn loadstring(lua: Lua) -> Result<c_int, Raise> {
    let source = lua.check_bytes(1);
    if is_bytecode(source) {
        // Named as it is, but read as the text that it is not.
        if lua.kind(2) <= kind::NIL {
            lua.set_top(1);
            lua.push_value(1);
        }
        let text = [b" ", source].concat();
        lua.push_bytes(&text);
        drop(text);
        lua.replace(1);
    }
    run_wrapped(lua)
}

/// `load`: the same for a function that gives the source piece by piece.
fn load(lua: Lua) -> Result<c_int, Raise> {
    if lua.kind(1) != kind::FUNCTION {
        return Err(lua.bad_arg(1, c"function expected"));
    }
    let mut source = Vec::new();
    loop {
        lua.push_value(1);
        if !lua.try_call(0, Some(1), 0) {
            lua.push_nil();
            lua.insert(-2);
            return Ok(2);
        }
        match lua.kind(-1) {
            kind::NIL => break,
            kind::STRING | kind::NUMBER => match lua.bytes(-1).unwrap_or_default() {
                b"" => break,
                piece => source.extend_from_slice(piece),
            },
            _ => {
                lua.push_nil();
                lua.push_bytes(b"reader function must return a string");
                return Ok(2);
            }
        }
        lua.pop(1);
    }
    let name = match lua.is_text(2) {
        true => lua.c_bytes(2).unwrap_or_default(),
        false => b"=(load)",
    };
    let name = std::ffi::CString::new(name).unwrap_or_default();
    if lua.load(&source, &name) {
        return Ok(1);
    }
    lua.push_nil();
    lua.insert(-2);
    Ok(2)
}

/// Names of base functions that scripts do not have.
const REMOVED: [&str; 3] = ["dofile", "loadfile", "print"];
/// The tables among the globals.
const LIBRARIES: [&str; 9] = [
    "redis",
    "string",
    "table",
    "math",
    "coroutine",
    "cjson",
    "cmsgpack",
    "bit",
    "struct",
];

/// Replaces functions of the globals by those that know of locked tables.
pub fn wrap_functions(lua: Lua) {
    for name in REMOVED {
        lua.push_nil();
        lua.raw_set_field(GLOBALS, name);
    }
    let wrap = |table: &str, names: &[&str], with: fn(Lua)| {
        match table {
            "" => lua.push_value(GLOBALS),
            name => lua.raw_field(GLOBALS, name),
        }
        for name in names {
            lua.raw_field(-1, name);
            with(lua);
            lua.raw_set_field(-2, name);
        }
        lua.pop(1);
    };
    wrap("", &["next", "rawget"], look_through);
    wrap("", &["rawset", "setmetatable"], keep_out);
    wrap("", &["getmetatable"], |lua| {
        lua.push_closure(getmetatable, 1)
    });
    wrap("", &["loadstring"], |lua| lua.push_closure(loadstring, 1));
    let replace = |name: &str, function: Body| {
        lua.push_fn(function);
        lua.raw_set_field(GLOBALS, name);
    };
    replace("load", load);
    replace("unpack", unpack);
    replace("pcall", pcall);
    lua.raw_field(GLOBALS, "next");
    lua.push_closure(pairs, 1);
    lua.raw_set_field(GLOBALS, "pairs");
    wrap(
        "table",
        &["foreach", "foreachi", "getn", "maxn", "concat"],
        look_through,
    );
    wrap("table", &["insert", "remove", "sort"], keep_out);
}

/// Locks the globals and all tables in them. The table behind stays on the stack, for the server to change.
pub fn lock_globals(lua: Lua) {
    for name in LIBRARIES {
        lua.raw_field(GLOBALS, name);
        lock(lua);
        lua.raw_set_field(GLOBALS, name);
    }
    // Methods of strings come from the same locked table.
    lua.push_bytes(b"");
    if lua.metatable(-1) {
        lua.raw_field(GLOBALS, "string");
        lua.raw_set_field(-2, "__index");
        lua.pop(1);
    }
    lua.pop(1);
    lua.push_value(GLOBALS);
    refuse_absent(lua);
    lua.push_value(-1);
    lock(lua);
    lua.push_value(-1);
    lua.raw_set_field(-3, "_G");
    lua.replace(GLOBALS);
}
