//! `cmsgpack`: MessagePack. A table is an array if its keys are 1 to n, or else a map; numbers without a fraction are
//! integers; what cannot be told (functions, too deep tables) is nil.

use std::ffi::c_int;

use crate::script::lua::{Body, Lua, Raise, kind};

/// Tables within tables beyond this are nil.
const NESTING_MAX: u32 = 16;

const FUNCTIONS: [(&str, Body); 4] = [
    ("pack", pack),
    ("unpack", unpack),
    ("unpack_one", unpack_one),
    ("unpack_limit", unpack_limit),
];
const FACTS: [(&str, &str); 4] = [
    ("_NAME", "cmsgpack"),
    ("_VERSION", "lua-cmsgpack 0.4.0"),
    ("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"),
    ("_DESCRIPTION", "MessagePack C implementation for Lua"),
];

/// Puts the library's table on the top.
pub fn push(lua: Lua) {
    lua.new_table(0, FUNCTIONS.len() + FACTS.len());
    for (name, function) in FUNCTIONS {
        lua.push_fn(function);
        lua.raw_set_field(-2, name);
    }
    for (name, fact) in FACTS {
        lua.push_bytes(fact.as_bytes());
        lua.raw_set_field(-2, name);
    }
}

fn pack(lua: Lua) -> Result<c_int, Raise> {
    let args = lua.top();
    if args == 0 {
        return Err(lua.bad_arg(0, c"MessagePack pack needs input."));
    }
    if !lua.has_room(args.saturating_add(8)) {
        return Err(lua.bad_arg(0, c"Too many arguments for MessagePack pack."));
    }
    let mut out = Vec::new();
    for at in 1..=args {
        lua.push_value(at);
        if !encode(lua, &mut out, 0) {
            drop(out);
            return Err(lua.raise_here("stack overflow (in function mp_encode_lua_table_as_map)"));
        }
    }
    lua.push_bytes(&out);
    Ok(1)
}

/// Encodes the value on the top and takes it off; false if the stack has no room.
fn encode(lua: Lua, out: &mut Vec<u8>, level: u32) -> bool {
    let fits = match lua.kind(-1) {
        kind::STRING => {
            let text = lua.bytes(-1).unwrap_or_default();
            encode_header(
                out,
                text.len(),
                [(31, 0xa0), (0xff, 0xd9), (0xffff, 0xda)],
                0xdb,
            );
            out.extend_from_slice(text);
            true
        }
        kind::BOOLEAN => {
            out.push(if lua.boolean(-1) { 0xc3 } else { 0xc2 });
            true
        }
        kind::NUMBER => {
            encode_number(out, lua.number(-1));
            true
        }
        kind::TABLE if level < NESTING_MAX => encode_table(lua, out, level),
        _ => {
            out.push(0xc0);
            true
        }
    };
    lua.pop(1);
    fits
}

/// A length in the shortest form: within the first byte, or in one, two or four bytes behind it.
fn encode_header(out: &mut Vec<u8>, n: usize, forms: [(usize, u8); 3], long: u8) {
    let [(fix, fix_tag), (byte, byte_tag), (short, short_tag)] = forms;
    if n <= fix {
        out.push(fix_tag | n as u8);
    } else if n <= byte {
        out.extend_from_slice(&[byte_tag, n as u8]);
    } else if n <= short {
        out.push(short_tag);
        out.extend_from_slice(&(n as u16).to_be_bytes());
    } else {
        out.push(long);
        out.extend_from_slice(&(n as u32).to_be_bytes());
    }
}

fn encode_number(out: &mut Vec<u8>, n: f64) {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let int = n as i64;
    if n.is_finite() && int as f64 == n && n < LIMIT {
        return encode_integer(out, int);
    }
    let float = n as f32;
    if f64::from(float) == n {
        out.push(0xca);
        out.extend_from_slice(&float.to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&n.to_be_bytes());
    }
}

fn encode_integer(out: &mut Vec<u8>, n: i64) {
    if (-32..=127).contains(&n) {
        return out.push(n as u8);
    }
    match n {
        0..=0xff => out.extend_from_slice(&[0xcc, n as u8]),
        0x100..=0xffff => put(out, 0xcd, &(n as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => put(out, 0xce, &(n as u32).to_be_bytes()),
        0x1_0000_0000.. => put(out, 0xcf, &n.to_be_bytes()),
        -128..=-1 => out.extend_from_slice(&[0xd0, n as u8]),
        -32768..=-129 => put(out, 0xd1, &(n as i16).to_be_bytes()),
        -2_147_483_648..=-32769 => put(out, 0xd2, &(n as i32).to_be_bytes()),
        _ => put(out, 0xd3, &n.to_be_bytes()),
    }
}

fn put(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

fn encode_table(lua: Lua, out: &mut Vec<u8>, level: u32) -> bool {
    if !lua.has_room(4) {
        return false;
    }
    if is_array(lua) {
        let len = lua.len(-1);
        // (There is no form of one byte behind the tag.)
        encode_header(out, len, [(15, 0x90), (15, 0), (0xffff, 0xdc)], 0xdd);
        return (1..=len).all(|n| {
            lua.raw_item(-1, n);
            encode(lua, out, level + 1)
        });
    }
    let mut pairs = 0;
    lua.push_nil();
    while lua.next(-2) {
        lua.pop(1);
        pairs += 1;
    }
    encode_header(out, pairs, [(15, 0x80), (15, 0), (0xffff, 0xde)], 0xdf);
    lua.push_nil();
    while lua.next(-2) {
        lua.push_value(-2);
        if !(encode(lua, out, level + 1) && encode(lua, out, level + 1)) {
            lua.pop(1);
            return false;
        }
    }
    true
}

/// True if the keys of the table on the top are 1 to n.
fn is_array(lua: Lua) -> bool {
    let (mut count, mut max) = (0i32, 0i32);
    lua.push_nil();
    while lua.next(-2) {
        lua.pop(1);
        let n = lua.number(-1);
        let fits = lua.kind(-1) == kind::NUMBER && n > 0.0 && f64::from(n as i32) == n;
        if !fits {
            lua.pop(1);
            return false;
        }
        max = max.max(n as i32);
        count += 1;
    }
    max == count
}

/// Why decoding ends.
enum Wrong {
    Short,
    Format,
    Stack,
}

/// Bytes to decode.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Wrong> {
        let (front, rest) = self.0.split_at_checked(n).ok_or(Wrong::Short)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        self.take(N)?.try_into().map_err(|_| Wrong::Short)
    }

    fn length(&mut self, bytes: usize) -> Result<usize, Wrong> {
        let add = |all: usize, byte: &u8| all << 8 | usize::from(*byte);
        Ok(self.take(bytes)?.iter().fold(0, add))
    }
}

/// Puts the next value on the top.
fn decode(lua: Lua, from: &mut Cursor<'_>) -> Result<(), Wrong> {
    if from.0.is_empty() {
        return Err(Wrong::Short);
    }
    if !lua.has_room(4) {
        return Err(Wrong::Stack);
    }
    let tag = from.array::<1>()?[0];
    match tag {
        0x00..=0x7f => lua.push_number(f64::from(tag)),
        0xe0..=0xff => lua.push_number(f64::from(tag as i8)),
        0xc0 => lua.push_nil(),
        0xc2 | 0xc3 => lua.push_boolean(tag == 0xc3),
        0xcc => lua.push_number(f64::from(from.array::<1>()?[0])),
        0xcd => lua.push_number(f64::from(u16::from_be_bytes(from.array()?))),
        0xce => lua.push_number(f64::from(u32::from_be_bytes(from.array()?))),
        // (Lua has it as a signed one.)
        0xcf | 0xd3 => lua.push_number(i64::from_be_bytes(from.array()?) as f64),
        0xd0 => lua.push_number(f64::from(i8::from_be_bytes(from.array()?))),
        0xd1 => lua.push_number(f64::from(i16::from_be_bytes(from.array()?))),
        0xd2 => lua.push_number(f64::from(i32::from_be_bytes(from.array()?))),
        0xca => lua.push_number(f64::from(f32::from_be_bytes(from.array()?))),
        0xcb => lua.push_number(f64::from_be_bytes(from.array()?)),
        0xa0..=0xbf => lua.push_bytes(from.take(usize::from(tag & 0x1f))?),
        0xd9..=0xdb => {
            let len = from.length(1 << (tag - 0xd9))?;
            lua.push_bytes(from.take(len)?);
        }
        0x90..=0x9f => return decode_array(lua, from, usize::from(tag & 0xf)),
        0xdc | 0xdd => {
            let len = from.length(if tag == 0xdc { 2 } else { 4 })?;
            return decode_array(lua, from, len);
        }
        0x80..=0x8f => return decode_map(lua, from, usize::from(tag & 0xf)),
        0xde | 0xdf => {
            let len = from.length(if tag == 0xde { 2 } else { 4 })?;
            return decode_map(lua, from, len);
        }
        _ => return Err(Wrong::Format),
    }
    Ok(())
}

fn decode_array(lua: Lua, from: &mut Cursor<'_>, len: usize) -> Result<(), Wrong> {
    lua.new_table(0, 0);
    for n in 1..=len {
        decode(lua, from)?;
        lua.raw_set_item(-2, n);
    }
    Ok(())
}

fn decode_map(lua: Lua, from: &mut Cursor<'_>, len: usize) -> Result<(), Wrong> {
    lua.new_table(0, 0);
    for _ in 0..len {
        decode(lua, from)?;
        decode(lua, from)?;
        let key = lua.number(-2);
        match lua.kind(-2) {
            // Nothing can be found under these.
            kind::NIL => return Err(Wrong::Format),
            kind::NUMBER if key.is_nan() => return Err(Wrong::Format),
            _ => lua.raw_set(-3),
        }
    }
    Ok(())
}

fn unpack(lua: Lua) -> Result<c_int, Raise> {
    unpack_part(lua, 0, 0)
}

fn unpack_one(lua: Lua) -> Result<c_int, Raise> {
    let offset = optional(lua, 2);
    lua.set_top(1);
    unpack_part(lua, 1, offset)
}

fn unpack_limit(lua: Lua) -> Result<c_int, Raise> {
    let limit = lua.check_integer(2);
    let offset = optional(lua, 3);
    lua.set_top(1);
    unpack_part(lua, limit, offset)
}

fn optional(lua: Lua, at: c_int) -> i64 {
    match lua.is_none_or_nil(at) {
        true => 0,
        false => lua.check_integer(at),
    }
}

/// Unpacks up to `limit` values from `offset` on, and tells where it stopped; or all, if both are 0.
fn unpack_part(lua: Lua, limit: i64, offset: i64) -> Result<c_int, Raise> {
    let all = limit == 0 && offset == 0;
    let text = lua.check_bytes(1);
    let len = text.len();
    if offset < 0 || limit < 0 {
        return Err(lua.raise_here(format!(
            "Invalid request to unpack with offset of {} and limit of {}.",
            offset as i32, len as i32
        )));
    }
    let Some(rest) = usize::try_from(offset).ok().and_then(|at| text.get(at..)) else {
        return Err(lua.raise_here(format!(
            "Start offset {} greater than input length {}.",
            offset as i32, len as i32
        )));
    };
    let limit = if all { i64::from(i32::MAX) } else { limit };
    let mut from = Cursor(rest);
    let mut count = 0;
    while !from.0.is_empty() && i64::from(count) < limit {
        if let Err(wrong) = decode(lua, &mut from) {
            return Err(lua.raise_here(match wrong {
                Wrong::Short => "Missing bytes in input.",
                Wrong::Format => "Bad data format in input.",
                Wrong::Stack => {
                    "stack overflow (too many return values at once; use unpack_one or unpack_limit instead.)"
                }
            }));
        }
        count += 1;
    }
    if !all {
        let stopped = match from.0.len() {
            0 => -1.0,
            left => (len - left) as f64,
        };
        lua.push_number(stopped);
        lua.insert(2);
        count += 1;
    }
    Ok(count)
}
