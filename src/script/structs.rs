//! `struct`: values packed as C has them in memory, by a format.
//!
//! ```text
//! > < !n   big endian, little endian, alignment      b B h H l L T   integers of 1, 2, 8 bytes, small: signed
//! x        a byte of padding                         in In           integers of n bytes
//! f d      float, double                             cn s            n bytes, bytes up to a zero
//! ```
//! An argument may be no number, which raises; so the bytes are gathered in a string of Lua's only when all is known.

use std::ffi::c_int;

use crate::script::lua::{Body, Lua, Raise, until_zero};

const INTEGER_MAX: usize = 32;
const ALIGN_MAX: usize = 8;

/// Puts the library's table on the top.
pub fn push(lua: Lua) {
    let functions: [(&str, Body); 3] = [("pack", pack), ("unpack", unpack), ("size", size)];
    lua.new_table(0, functions.len());
    for (name, function) in functions {
        lua.push_fn(function);
        lua.raw_set_field(-2, name);
    }
}

/// A format, read from the left.
struct Format<'a> {
    rest: &'a [u8],
    big_endian: bool,
    align: usize,
}

/// What is wrong: told with the place, or as a bad first argument.
enum Wrong {
    Here(String),
    /// There is no such option of a format.
    Option(u8),
}

impl<'a> Format<'a> {
    fn new(text: &'a [u8]) -> Self {
        Format {
            rest: until_zero(text),
            big_endian: cfg!(target_endian = "big"),
            align: 1,
        }
    }

    fn number(&mut self, otherwise: usize) -> Result<usize, Wrong> {
        let digits = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return Ok(otherwise);
        }
        let (text, rest) = self.rest.split_at(digits);
        self.rest = rest;
        let number = std::str::from_utf8(text)
            .ok()
            .and_then(|t| t.parse::<i32>().ok());
        let number = number.and_then(|n| usize::try_from(n).ok());
        number.ok_or_else(|| Wrong::Here("integral size overflow".into()))
    }

    /// The next option, its size, and the padding before it at `position`.
    fn next(&mut self, position: usize) -> Result<Option<(u8, usize, usize)>, Wrong> {
        let Some((&option, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        self.rest = rest;
        let size = match option {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(1)?,
            b'i' | b'I' => {
                let size = self.number(4)?;
                if size > INTEGER_MAX {
                    return Err(Wrong::Here(format!(
                        "integral size {size} is larger than limit of {INTEGER_MAX}"
                    )));
                }
                size
            }
            _ => 0,
        };
        let padding = match (size, option) {
            (0, _) | (_, b'c') => 0,
            _ => {
                let unit = size.min(self.align);
                (unit.wrapping_sub(position & (unit - 1))) & (unit - 1)
            }
        };
        Ok(Some((option, size, padding)))
    }

    /// An option that stands for no value.
    fn control(&mut self, option: u8) -> Result<(), Wrong> {
        match option {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let align = self.number(ALIGN_MAX)?;
                if !align.is_power_of_two() {
                    return Err(Wrong::Here(format!(
                        "alignment {align} is not a power of 2"
                    )));
                }
                self.align = align;
            }
            _ => return Err(Wrong::Option(option)),
        }
        Ok(())
    }

    fn put_number(&self, little_endian: &[u8], out: &mut Vec<u8>) {
        match self.big_endian {
            false => out.extend_from_slice(little_endian),
            true => out.extend(little_endian.iter().rev()),
        }
    }
}

/// Raises what is wrong. Nothing may be owned any more but this.
fn raise(lua: Lua, wrong: Wrong) -> Raise {
    match wrong {
        Wrong::Here(why) => lua.raise_here(why),
        Wrong::Option(option) => {
            let why = [b"invalid format option '", &[option][..], b"'"].concat();
            bad_arg(lua, 1, why)
        }
    }
}

/// The error of a bad argument, with a text made on the spot.
fn bad_arg(lua: Lua, n: c_int, why: impl AsRef<[u8]>) -> Raise {
    let name = match n {
        1 => "bad argument #1 to '",
        2 => "bad argument #2 to '",
        _ => "bad argument #3 to '",
    };
    let function = lua.running_name();
    lua.raise_here([name.as_bytes(), &function, b"' (", why.as_ref(), b")"].concat())
}

fn pack(lua: Lua) -> Result<c_int, Raise> {
    // First all that may raise by itself.
    let format = lua.check_bytes(1);
    // (One that is missing is told as nil.)
    lua.push_nil();
    check_pack_args(lua, format);
    let packed = pack_checked(lua, format);
    match packed {
        Ok(bytes) => {
            lua.push_bytes(&bytes);
            Ok(1)
        }
        Err(PackWrong::Format(wrong)) => Err(raise(lua, wrong)),
        Err(PackWrong::Short(arg)) => Err(lua.bad_arg(arg, c"string too short")),
    }
}

/// Lets arguments raise that are not what the format says, as far as it can be read.
fn check_pack_args(lua: Lua, format: &[u8]) {
    let mut format = Format::new(format);
    let mut arg = 2;
    while let Ok(Some((option, size, _))) = format.next(0) {
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' | b'f' | b'd' => {
                lua.check_number(arg);
                arg += 1;
            }
            b'c' | b's' => {
                if lua.check_bytes(arg).len() < size {
                    return;
                }
                arg += 1;
            }
            b'x' => {}
            control => {
                if format.control(control).is_err() {
                    return;
                }
            }
        }
    }
}

enum PackWrong {
    Format(Wrong),
    Short(c_int),
}

fn pack_checked(lua: Lua, format: &[u8]) -> Result<Vec<u8>, PackWrong> {
    let mut format = Format::new(format);
    let mut out: Vec<u8> = Vec::new();
    let mut arg = 2;
    while let Some((option, size, padding)) = format.next(out.len()).map_err(PackWrong::Format)? {
        out.resize(out.len() + padding, 0);
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let n = lua.number(arg);
                let value = if n < 0.0 {
                    as_c_long(n) as u64
                } else {
                    as_c_unsigned(n)
                };
                let mut bytes = [0; INTEGER_MAX];
                bytes[..8].copy_from_slice(&value.to_le_bytes());
                format.put_number(&bytes[..size], &mut out);
                arg += 1;
            }
            b'x' => out.push(0),
            b'f' => {
                format.put_number(&(lua.number(arg) as f32).to_le_bytes(), &mut out);
                arg += 1;
            }
            b'd' => {
                format.put_number(&lua.number(arg).to_le_bytes(), &mut out);
                arg += 1;
            }
            b'c' | b's' => {
                let text = lua.bytes(arg).unwrap_or_default();
                arg += 1;
                let size = if size == 0 { text.len() } else { size };
                let text = text.get(..size).ok_or(PackWrong::Short(arg))?;
                out.extend_from_slice(text);
                if option == b's' {
                    out.push(0);
                }
            }
            control => format.control(control).map_err(PackWrong::Format)?,
        }
    }
    Ok(out)
}

/// As C casts a double to `long long` on the machines that we run on, and to `unsigned long long` one that is not negative.
fn as_c_long(n: f64) -> i64 {
    match n {
        _ if n.is_nan() || n < -9_223_372_036_854_775_808.0 => i64::MIN,
        _ => n as i64,
    }
}
fn as_c_unsigned(n: f64) -> u64 {
    match n {
        _ if n.is_nan() => 1 << 63,
        _ if n >= 18_446_744_073_709_551_616.0 => 0,
        _ => n as u64,
    }
}

fn unpack(lua: Lua) -> Result<c_int, Raise> {
    let mut format = Format::new(lua.check_bytes(1));
    let data = lua.check_bytes(2);
    let first = match lua.is_none_or_nil(3) {
        true => 1,
        false => lua.check_integer(3),
    };
    if first == 0 {
        return Err(lua.bad_arg(3, c"offset must be 1 or greater"));
    }
    let mut at = (first as usize).wrapping_sub(1);
    let mut results = 0;
    loop {
        let (option, mut size) = match format.next(at) {
            Ok(None) => break,
            Ok(Some((option, size, padding))) => {
                at = at.wrapping_add(padding);
                (option, size)
            }
            Err(wrong) => return Err(raise(lua, wrong)),
        };
        let fits = |size: usize| size <= data.len() && at <= data.len() - size;
        if !fits(size) {
            return Err(lua.bad_arg(2, c"data string too short"));
        }
        if !lua.has_room(2) {
            return Err(lua.raise_here("stack overflow (too many results)"));
        }
        let item = &data[at..at + size];
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let signed = option.is_ascii_lowercase();
                lua.push_number(integer(item, format.big_endian, signed));
                results += 1;
            }
            b'x' => {}
            b'f' => {
                let bytes = ordered::<4>(item, format.big_endian);
                lua.push_number(f64::from(f32::from_le_bytes(bytes)));
                results += 1;
            }
            b'd' => {
                lua.push_number(f64::from_le_bytes(ordered(item, format.big_endian)));
                results += 1;
            }
            b'c' => {
                if size == 0 {
                    let told = lua.as_number(-1).filter(|_| results > 0);
                    let Some(told) = told else {
                        return Err(lua.raise_here("format 'c0' needs a previous size"));
                    };
                    size = as_c_unsigned(told) as usize;
                    lua.pop(1);
                    results -= 1;
                    if !fits(size) {
                        return Err(lua.bad_arg(2, c"data string too short"));
                    }
                }
                lua.push_bytes(&data[at..at + size]);
                results += 1;
            }
            b's' => {
                let Some(len) = memchr::memchr(0, &data[at..]) else {
                    return Err(lua.raise_here("unfinished string in data"));
                };
                lua.push_bytes(&data[at..at + len]);
                size = len + 1;
                results += 1;
            }
            control => {
                if let Err(wrong) = format.control(control) {
                    return Err(raise(lua, wrong));
                }
            }
        }
        at += size;
    }
    lua.push_number(at as f64 + 1.0);
    Ok(results + 1)
}

/// The bytes in little endian order.
fn ordered<const N: usize>(item: &[u8], big_endian: bool) -> [u8; N] {
    let mut bytes: [u8; N] = item.try_into().unwrap_or([0; N]);
    if big_endian {
        bytes.reverse();
    }
    bytes
}

fn integer(item: &[u8], big_endian: bool, signed: bool) -> f64 {
    let add = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
    let value = match big_endian {
        true => item.iter().fold(0, add),
        false => item.iter().rev().fold(0, add),
    };
    if !signed {
        return value as f64;
    }
    // (More than eight bytes keep the sign that the lowest eight have; none have none.)
    let bits = (8 * item.len() as u32).wrapping_sub(1) & 63;
    let mask = u64::MAX << bits;
    let value = if value & mask != 0 {
        value | mask
    } else {
        value
    };
    value as i64 as f64
}

fn size(lua: Lua) -> Result<c_int, Raise> {
    let mut format = Format::new(lua.check_bytes(1));
    let mut at = 0usize;
    loop {
        let (option, size) = match format.next(at) {
            Ok(None) => break,
            Ok(Some((option, size, padding))) => {
                at = at.wrapping_add(padding);
                (option, size)
            }
            Err(wrong) => return Err(raise(lua, wrong)),
        };
        match option {
            b's' => return Err(lua.bad_arg(1, c"option 's' has no fixed size")),
            b'c' if size == 0 => return Err(lua.bad_arg(1, c"option 'c0' has no fixed size")),
            _ => {}
        }
        if !option.is_ascii_alphanumeric()
            && let Err(wrong) = format.control(option)
        {
            return Err(raise(lua, wrong));
        }
        at = at.wrapping_add(size);
    }
    lua.push_number(at as f64);
    Ok(1)
}
