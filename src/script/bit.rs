//! `bit`: operations on 32 bits, by the rules of Lua BitOp. A number counts modulo 2^32, results are signed.

use std::ffi::c_int;

use crate::script::lua::{Body, Lua, Raise, kind};

/// Puts the library's table on the top.
pub fn push(lua: Lua) {
    let functions: [(&str, Body); 12] = [
        ("tobit", |lua| give(lua, bits(lua, 1))),
        ("bnot", |lua| give(lua, !bits(lua, 1))),
        ("band", |lua| fold(lua, |a, b| a & b)),
        ("bor", |lua| fold(lua, |a, b| a | b)),
        ("bxor", |lua| fold(lua, |a, b| a ^ b)),
        ("lshift", |lua| shift(lua, |b, n| b << n)),
        ("rshift", |lua| shift(lua, |b, n| b >> n)),
        ("arshift", |lua| shift(lua, |b, n| (b as i32 >> n) as u32)),
        ("rol", |lua| shift(lua, u32::rotate_left)),
        ("ror", |lua| shift(lua, u32::rotate_right)),
        ("bswap", |lua| give(lua, bits(lua, 1).swap_bytes())),
        ("tohex", tohex),
    ];
    lua.new_table(0, functions.len());
    for (name, function) in functions {
        lua.push_fn(function);
        lua.raw_set_field(-2, name);
    }
}

/// Argument `n`. Adding this number moves the integer's bits to the low end of the double. May raise.
fn bits(lua: Lua, n: c_int) -> u32 {
    const SHIFTED: f64 = 6_755_399_441_055_744.0;
    (lua.check_number(n) + SHIFTED).to_bits() as u32
}

fn give(lua: Lua, bits: u32) -> Result<c_int, Raise> {
    lua.push_number(f64::from(bits as i32));
    Ok(1)
}

fn fold(lua: Lua, f: fn(u32, u32) -> u32) -> Result<c_int, Raise> {
    let first = bits(lua, 1);
    let all = (2..=lua.top())
        .rev()
        .fold(first, |all, n| f(all, bits(lua, n)));
    give(lua, all)
}

fn shift(lua: Lua, f: fn(u32, u32) -> u32) -> Result<c_int, Raise> {
    let what = bits(lua, 1);
    let by = bits(lua, 2) & 31;
    give(lua, f(what, by))
}

/// `bit.tohex(x [, digits])`: in capitals for a negative number of digits.
fn tohex(lua: Lua) -> Result<c_int, Raise> {
    let bits = bits(lua, 1);
    let digits = match lua.kind(2) {
        kind::NONE => 8,
        _ => self::bits(lua, 2) as i32,
    };
    let n = digits.unsigned_abs().min(8) as usize;
    let text = match digits < 0 {
        true => format!("{bits:08X}"),
        false => format!("{bits:08x}"),
    };
    lua.push_bytes(&text.as_bytes()[8 - n..]);
    Ok(1)
}
