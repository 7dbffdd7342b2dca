//! `cjson`: JSON, with the options of lua-cjson. A table is an array if its keys are integers from 1, and an object
//! otherwise, an empty one too. `null` is a null pointer, for a nil would vanish from its table.

use std::ffi::c_int;

use crate::base::double::format_g;
use crate::script::lua::{Body, Lua, Raise, kind, upvalue};

/// Options of one copy of the library.
#[derive(Clone, Copy)]
struct Options {
    sparse_convert: bool,
    sparse_ratio: i32,
    sparse_safe: i32,
    encode_depth: i32,
    decode_depth: i32,
    precision: i32,
    keep_buffer: bool,
    /// What becomes of a number that JSON cannot tell when it is encoded.
    encode_invalid: Invalid,
    decode_invalid: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Invalid {
    Error,
    AsItIs,
    Null,
}

const DEFAULTS: Options = Options {
    sparse_convert: false,
    sparse_ratio: 2,
    sparse_safe: 10,
    encode_depth: 1000,
    decode_depth: 1000,
    precision: 14,
    keep_buffer: true,
    encode_invalid: Invalid::Error,
    decode_invalid: true,
};

/// Deeper than this nothing is read, whatever the option says: the stack is not endless.
const DEPTH_MAX: i32 = 4000;

const FUNCTIONS: [(&str, Body); 10] = [
    ("encode", encode),
    ("decode", decode),
    ("encode_sparse_array", encode_sparse_array),
    ("encode_max_depth", encode_max_depth),
    ("decode_max_depth", decode_max_depth),
    ("encode_number_precision", encode_number_precision),
    ("encode_keep_buffer", encode_keep_buffer),
    ("encode_invalid_numbers", encode_invalid_numbers),
    ("decode_invalid_numbers", decode_invalid_numbers),
    ("new", new),
];

/// Puts a copy of the library with options of its own on the top.
pub fn push(lua: Lua) {
    lua.new_table(0, FUNCTIONS.len() + 3);
    lua.push_plain(DEFAULTS);
    for (name, function) in FUNCTIONS {
        lua.push_value(-1);
        lua.push_closure(function, 1);
        lua.raw_set_field(-3, name);
    }
    lua.pop(1);
    lua.push_pointer(std::ptr::null_mut());
    lua.raw_set_field(-2, "null");
    for (name, fact) in [("_NAME", "cjson"), ("_VERSION", "2.1.0")] {
        lua.push_bytes(fact.as_bytes());
        lua.raw_set_field(-2, name);
    }
}

fn new(lua: Lua) -> Result<c_int, Raise> {
    push(lua);
    Ok(1)
}

fn options(lua: Lua) -> Options {
    lua.plain(upvalue(2))
}

fn keep(lua: Lua, options: Options) {
    lua.set_plain(upvalue(2), options);
}

/// Makes the arguments `n`. May raise.
fn begin(lua: Lua, n: c_int) -> Options {
    if lua.top() > n {
        let _: Raise = lua.bad_arg(n + 1, c"found too many arguments");
    }
    while lua.top() < n {
        lua.push_nil();
    }
    options(lua)
}

/// An integer option, put on the top as it is now. May raise.
fn integer(lua: Lua, at: c_int, value: &mut i32, least: i32, most: i32) -> Result<(), Raise> {
    if lua.kind(at) != kind::NIL {
        let new = lua.check_integer(at) as i32;
        if !(least..=most).contains(&new) {
            let name = lua.running_name();
            let why = format!("' (expected integer between {least} and {most})");
            let text = [b"bad argument #1 to '", &name[..], why.as_bytes()].concat();
            return Err(lua.raise_here(text));
        }
        *value = new;
    }
    lua.push_number(f64::from(*value));
    Ok(())
}

/// Which of the words an argument is; a boolean is the first or the second. `None` if it is not given. May raise.
fn choice(lua: Lua, at: c_int, words: &[&str]) -> Result<Option<usize>, Raise> {
    match lua.kind(at) {
        kind::NIL => return Ok(None),
        kind::BOOLEAN => return Ok(Some(usize::from(lua.boolean(at)))),
        _ => {}
    }
    let given = lua.check_bytes(at);
    if let Some(which) = words.iter().position(|word| word.as_bytes() == given) {
        return Ok(Some(which));
    }
    let (name, which) = (lua.running_name(), format!("bad argument #{at} to '"));
    let text = [
        which.as_bytes(),
        &name,
        b"' (invalid option '",
        given,
        b"')",
    ];
    Err(lua.raise_here(text.concat()))
}

const SWITCH: [&str; 2] = ["off", "on"];

fn encode_sparse_array(lua: Lua) -> Result<c_int, Raise> {
    let mut options = begin(lua, 3);
    if let Some(on) = choice(lua, 1, &SWITCH)? {
        options.sparse_convert = on == 1;
        keep(lua, options);
    }
    lua.push_boolean(options.sparse_convert);
    integer(lua, 2, &mut options.sparse_ratio, 0, i32::MAX)?;
    keep(lua, options);
    integer(lua, 3, &mut options.sparse_safe, 0, i32::MAX)?;
    keep(lua, options);
    Ok(3)
}

fn encode_max_depth(lua: Lua) -> Result<c_int, Raise> {
    let mut options = begin(lua, 1);
    integer(lua, 1, &mut options.encode_depth, 1, i32::MAX)?;
    keep(lua, options);
    Ok(1)
}

fn decode_max_depth(lua: Lua) -> Result<c_int, Raise> {
    let mut options = begin(lua, 1);
    integer(lua, 1, &mut options.decode_depth, 1, i32::MAX)?;
    keep(lua, options);
    Ok(1)
}

fn encode_number_precision(lua: Lua) -> Result<c_int, Raise> {
    let mut options = begin(lua, 1);
    integer(lua, 1, &mut options.precision, 1, 14)?;
    keep(lua, options);
    Ok(1)
}

/// (There is no buffer to keep: the option is remembered as it was set.)
fn encode_keep_buffer(lua: Lua) -> Result<c_int, Raise> {
    let mut options = begin(lua, 1);
    if let Some(on) = choice(lua, 1, &SWITCH)? {
        options.keep_buffer = on == 1;
        keep(lua, options);
    }
    lua.push_boolean(options.keep_buffer);
    Ok(1)
}

fn encode_invalid_numbers(lua: Lua) -> Result<c_int, Raise> {
    let mut options = begin(lua, 1);
    if let Some(which) = choice(lua, 1, &["off", "on", "null"])? {
        options.encode_invalid = [Invalid::Error, Invalid::AsItIs, Invalid::Null][which.min(2)];
        keep(lua, options);
    }
    match options.encode_invalid {
        Invalid::Null => lua.push_bytes(b"null"),
        other => lua.push_boolean(other == Invalid::AsItIs),
    }
    Ok(1)
}

fn decode_invalid_numbers(lua: Lua) -> Result<c_int, Raise> {
    let mut options = begin(lua, 1);
    if let Some(on) = choice(lua, 1, &SWITCH)? {
        options.decode_invalid = on == 1;
        keep(lua, options);
    }
    lua.push_boolean(options.decode_invalid);
    Ok(1)
}

fn encode(lua: Lua) -> Result<c_int, Raise> {
    if lua.top() != 1 {
        return Err(lua.bad_arg(1, c"expected 1 argument"));
    }
    let mut encoder = Encoder {
        lua,
        options: options(lua),
        out: Vec::new(),
    };
    match encoder.value(0) {
        Ok(()) => {
            lua.push_bytes(&encoder.out);
            Ok(1)
        }
        Err(why) => Err(lua.raise_here(why)),
    }
}

struct Encoder {
    lua: Lua,
    options: Options,
    out: Vec<u8>,
}

impl Encoder {
    fn cannot(&self, at: c_int, why: &str) -> String {
        format!("Cannot serialise {}: {why}", self.lua.type_name(at))
    }

    /// Encodes the value on the top, which stays there.
    fn value(&mut self, depth: i32) -> Result<(), String> {
        let lua = self.lua;
        match lua.kind(-1) {
            kind::STRING => self.string(-1),
            kind::NUMBER => self.number(-1)?,
            kind::BOOLEAN => {
                self.out
                    .extend_from_slice(if lua.boolean(-1) { b"true" } else { b"false" })
            }
            kind::TABLE => self.table(depth + 1)?,
            kind::NIL => self.out.extend_from_slice(b"null"),
            kind::LIGHT_USERDATA if lua.user_pointer(-1).is_null() => {
                self.out.extend_from_slice(b"null");
            }
            _ => return Err(self.cannot(-1, "type not supported")),
        }
        Ok(())
    }

    fn string(&mut self, at: c_int) {
        self.out.push(b'"');
        for &byte in self.lua.bytes(at).unwrap_or_default() {
            let escape: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'/' => b"\\/",
                8 => b"\\b",
                b'\t' => b"\\t",
                b'\n' => b"\\n",
                12 => b"\\f",
                b'\r' => b"\\r",
                0..=31 | 127 => {
                    self.out
                        .extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                    continue;
                }
                _ => {
                    self.out.push(byte);
                    continue;
                }
            };
            self.out.extend_from_slice(escape);
        }
        self.out.push(b'"');
    }

    fn number(&mut self, at: c_int) -> Result<(), String> {
        let n = self.lua.number(at);
        match self.options.encode_invalid {
            Invalid::Error if !n.is_finite() => {
                return Err(self.cannot(at, "must not be NaN or Inf"));
            }
            Invalid::AsItIs if n.is_nan() => self.out.extend_from_slice(b"nan"),
            Invalid::Null if !n.is_finite() => self.out.extend_from_slice(b"null"),
            _ => {
                let precision = self.options.precision.clamp(1, 14) as usize;
                self.out
                    .extend_from_slice(format_g(n, precision).as_bytes());
            }
        }
        Ok(())
    }

    fn table(&mut self, depth: i32) -> Result<(), String> {
        if depth > self.options.encode_depth || !self.lua.has_room(4) {
            return Err(format!("Cannot serialise, excessive nesting ({depth})"));
        }
        match self.array_length()? {
            Some(len) if len > 0 => self.array(depth, len),
            _ => self.object(depth),
        }
    }

    /// The length of the table on the top as an array, if it is one.
    fn array_length(&mut self) -> Result<Option<usize>, String> {
        let lua = self.lua;
        let (mut max, mut items) = (0f64, 0f64);
        lua.push_nil();
        while lua.next(-2) {
            let key = lua.number(-2);
            let fits = lua.kind(-2) == kind::NUMBER && key >= 1.0 && key.floor() == key;
            if !fits {
                lua.pop(2);
                return Ok(None);
            }
            max = max.max(key);
            items += 1.0;
            lua.pop(1);
        }
        let Options {
            sparse_ratio,
            sparse_safe,
            sparse_convert,
            ..
        } = self.options;
        let max = max.min(f64::from(i32::MAX));
        if sparse_ratio > 0 && max > items * f64::from(sparse_ratio) && max > f64::from(sparse_safe)
        {
            return match sparse_convert {
                true => Ok(None),
                false => Err(self.cannot(-1, "excessively sparse array")),
            };
        }
        Ok(Some(max as usize))
    }

    fn array(&mut self, depth: i32, len: usize) -> Result<(), String> {
        self.out.push(b'[');
        for n in 1..=len {
            if n > 1 {
                self.out.push(b',');
            }
            self.lua.raw_item(-1, n);
            self.value(depth)?;
            self.lua.pop(1);
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, depth: i32) -> Result<(), String> {
        let lua = self.lua;
        self.out.push(b'{');
        let mut first = true;
        lua.push_nil();
        while lua.next(-2) {
            if !std::mem::take(&mut first) {
                self.out.push(b',');
            }
            match lua.kind(-2) {
                kind::NUMBER => {
                    self.out.push(b'"');
                    self.number(-2)?;
                    self.out.push(b'"');
                }
                kind::STRING => self.string(-2),
                _ => return Err(self.cannot(-2, "table key must be a number or string")),
            }
            self.out.push(b':');
            self.value(depth)?;
            lua.pop(1);
        }
        self.out.push(b'}');
        Ok(())
    }
}

fn decode(lua: Lua) -> Result<c_int, Raise> {
    if lua.top() != 1 {
        return Err(lua.bad_arg(1, c"expected 1 argument"));
    }
    let text = lua.check_bytes(1);
    if let [first, second, ..] = text
        && (*first == 0 || *second == 0)
    {
        return Err(lua.raise_here("JSON parser does not support UTF-16 or UTF-32"));
    }
    let mut parser = Parser {
        lua,
        options: options(lua),
        text,
        at: 0,
        depth: 0,
    };
    match parser.whole() {
        Ok(()) => Ok(1),
        Err(why) => Err(lua.raise_here(why)),
    }
}

/// A piece of a JSON text.
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    String(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    /// What errors call it.
    fn name(&self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::String(_) => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Error(why) => why,
        }
    }
}

struct Parser<'a> {
    lua: Lua,
    options: Options,
    text: &'a [u8],
    at: usize,
    depth: i32,
}

impl Parser<'_> {
    fn byte(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn expected(&self, what: &str, found: &Token, at: usize) -> String {
        // An error is told of where it came up, others of where they begin.
        let at = if matches!(found, Token::Error(_)) {
            self.at
        } else {
            at
        };
        format!(
            "Expected {what} but found {} at character {}",
            found.name(),
            at + 1
        )
    }

    /// The next token and where it begins.
    fn next(&mut self) -> (Token, usize) {
        while matches!(self.byte(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let begin = self.at;
        let single = match self.byte(0) {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            0 => return (Token::End, begin),
            b'"' => return (self.string(), begin),
            b'-' | b'0'..=b'9' => {
                let strict = !self.options.decode_invalid;
                let token = match strict && self.is_invalid_number() {
                    true => Token::Error("invalid number"),
                    false => self.number(),
                };
                return (token, begin);
            }
            b'f' | b'i' | b'I' | b'n' | b'N' | b't' | b'+' => return (self.word(), begin),
            _ => return (Token::Error("invalid token"), begin),
        };
        self.at += 1;
        (single, begin)
    }

    fn word(&mut self) -> Token {
        let rest = &self.text[self.at..];
        for (word, token) in [
            (&b"true"[..], Token::Boolean(true)),
            (b"false", Token::Boolean(false)),
            (b"null", Token::Null),
        ] {
            if rest.starts_with(word) {
                self.at += word.len();
                return token;
            }
        }
        if self.options.decode_invalid && self.is_invalid_number() {
            return self.number();
        }
        Token::Error("invalid token")
    }

    /// True of what C takes for a number and JSON does not.
    fn is_invalid_number(&self) -> bool {
        if self.byte(0) == b'+' {
            return true;
        }
        let skip = usize::from(self.byte(0) == b'-');
        let first = self.byte(skip);
        if first == b'0' {
            let second = self.byte(skip + 1);
            return second | 0x20 == b'x' || second.is_ascii_digit();
        }
        if first <= b'9' {
            return false;
        }
        let word = self.text.get(self.at + skip..).unwrap_or_default();
        let begins = |with: &[u8]| word.len() >= 3 && word[..3].eq_ignore_ascii_case(with);
        begins(b"inf") || begins(b"nan")
    }

    fn number(&mut self) -> Token {
        match take_number(&self.text[self.at..]) {
            Some((n, len)) => {
                self.at += len;
                Token::Number(n)
            }
            None => Token::Error("invalid number"),
        }
    }

    fn string(&mut self) -> Token {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let mut byte = self.byte(0);
            match byte {
                b'"' => break,
                0 => return Token::Error("unexpected end of string"),
                b'\\' => {
                    byte = match self.byte(1) {
                        same @ (b'"' | b'\\' | b'/') => same,
                        b'b' => 8,
                        b't' => b'\t',
                        b'n' => b'\n',
                        b'f' => 12,
                        b'r' => b'\r',
                        b'u' => match self.unicode(&mut out) {
                            Some(()) => continue,
                            None => return Token::Error("invalid unicode escape code"),
                        },
                        _ => return Token::Error("invalid escape code"),
                    };
                    self.at += 1;
                }
                _ => {}
            }
            out.push(byte);
            self.at += 1;
        }
        self.at += 1;
        Token::String(out)
    }

    /// Four digits behind `\u`, which is `ahead`.
    fn hex(&self, ahead: usize) -> Option<u32> {
        (2..6).try_fold(0, |all, n| {
            let digit = char::from(self.byte(ahead + n)).to_digit(16)?;
            Some(all << 4 | digit)
        })
    }

    fn unicode(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let mut code = self.hex(0)?;
        let mut len = 6;
        if code & 0xF800 == 0xD800 {
            if code & 0x400 != 0 || self.byte(6) != b'\\' || self.byte(7) != b'u' {
                return None;
            }
            let low = self.hex(6)?;
            if low & 0xFC00 != 0xDC00 {
                return None;
            }
            code = ((code & 0x3FF) << 10 | (low & 0x3FF)) + 0x1_0000;
            len = 12;
        }
        let text = char::from_u32(code)?;
        out.extend_from_slice(text.encode_utf8(&mut [0; 4]).as_bytes());
        self.at += len;
        Some(())
    }

    fn whole(&mut self) -> Result<(), String> {
        let (token, at) = self.next();
        self.value(token, at)?;
        match self.next() {
            (Token::End, _) => Ok(()),
            (other, at) => Err(self.expected("the end", &other, at)),
        }
    }

    /// Puts the value on the top that begins with a token.
    fn value(&mut self, token: Token, at: usize) -> Result<(), String> {
        match token {
            Token::String(text) => self.lua.push_bytes(&text),
            Token::Number(n) => self.lua.push_number(n),
            Token::Boolean(yes) => self.lua.push_boolean(yes),
            Token::Null => self.lua.push_pointer(std::ptr::null_mut()),
            Token::ObjectBegin => self.object()?,
            Token::ArrayBegin => self.array()?,
            other => return Err(self.expected("value", &other, at)),
        }
        Ok(())
    }

    fn descend(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth <= self.options.decode_depth.min(DEPTH_MAX) && self.lua.has_room(4) {
            return Ok(());
        }
        Err(format!(
            "Found too many nested data structures ({}) at character {}",
            self.depth, self.at
        ))
    }

    fn object(&mut self) -> Result<(), String> {
        self.descend()?;
        self.lua.new_table(0, 0);
        let (mut token, mut at) = self.next();
        if matches!(token, Token::ObjectEnd) {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            match &token {
                Token::String(key) => self.lua.push_bytes(key),
                other => return Err(self.expected("object key string", other, at)),
            }
            match self.next() {
                (Token::Colon, _) => {}
                (other, at) => return Err(self.expected("colon", &other, at)),
            }
            let (first, begin) = self.next();
            self.value(first, begin)?;
            self.lua.raw_set(-3);
            match self.next() {
                (Token::ObjectEnd, _) => break,
                (Token::Comma, _) => {}
                (other, at) => return Err(self.expected("comma or object end", &other, at)),
            }
            (token, at) = self.next();
        }
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self) -> Result<(), String> {
        self.descend()?;
        self.lua.new_table(0, 0);
        let (mut token, mut at) = self.next();
        if matches!(token, Token::ArrayEnd) {
            self.depth -= 1;
            return Ok(());
        }
        for n in 1.. {
            self.value(token, at)?;
            self.lua.raw_set_item(-2, n);
            match self.next() {
                (Token::ArrayEnd, _) => break,
                (Token::Comma, _) => {}
                (other, at) => return Err(self.expected("comma or array end", &other, at)),
            }
            (token, at) = self.next();
        }
        self.depth -= 1;
        Ok(())
    }
}

/// The number that a text begins with, as strtod(3) reads it, and how long it is.
fn take_number(text: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let signed = |n: f64| if text[0] == b'-' { -n } else { n };
    let rest = &text[sign..];
    let begins =
        |word: &[u8]| rest.len() >= word.len() && rest[..word.len()].eq_ignore_ascii_case(word);
    if begins(b"infinity") {
        return Some((signed(f64::INFINITY), sign + 8));
    }
    if begins(b"inf") {
        return Some((signed(f64::INFINITY), sign + 3));
    }
    if begins(b"nan") {
        return Some((signed(f64::NAN), sign + 3));
    }
    if begins(b"0x")
        && let Some((n, len)) = take_hex(&rest[2..])
    {
        return Some((signed(n), sign + 2 + len));
    }
    let digits = |from: usize| {
        rest[from..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let whole = digits(0);
    let mut len = whole;
    if rest.get(len) == Some(&b'.') {
        let fraction = digits(len + 1);
        if whole + fraction > 0 {
            len += 1 + fraction;
        }
    }
    if len == 0 {
        return None;
    }
    if matches!(rest.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(rest.get(len + 1), Some(b'+' | b'-')));
        let exponent = digits(rest.len().min(len + 1 + sign));
        if exponent > 0 {
            len += 1 + sign + exponent;
        }
    }
    let number = std::str::from_utf8(&rest[..len]).ok()?.parse().ok()?;
    Some((signed(number), sign + len))
}

/// The digits of a hexadecimal number, with its fraction and its power of two.
fn take_hex(text: &[u8]) -> Option<(f64, usize)> {
    let (mut n, mut len, mut digits, mut scale) = (0f64, 0, 0, 0i32);
    let mut point = false;
    for &byte in text {
        match char::from(byte).to_digit(16) {
            Some(digit) => {
                n = n * 16.0 + f64::from(digit);
                digits += 1;
                scale -= 4 * i32::from(point);
            }
            None if byte == b'.' && !point => point = true,
            None => break,
        }
        len += 1;
    }
    if digits == 0 {
        return None;
    }
    if matches!(text.get(len), Some(b'p' | b'P')) {
        let rest = &text[len + 1..];
        let sign = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
        let digits = rest[sign..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        if digits > 0 {
            let power = std::str::from_utf8(&rest[..sign + digits]).ok()?;
            scale = scale.saturating_add(power.trim_start_matches('+').parse().unwrap_or(0));
            len += 1 + sign + digits;
        }
    }
    Some((n * 2f64.powi(scale), len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        for (text, n, len) in [
            ("12", 12.0, 2),
            ("-1.5e3]", -1500.0, 6),
            ("1e", 1.0, 1),
            (".5", 0.5, 2),
            ("0x1F.8p1,", 63.0, 8),
            ("007", 7.0, 3),
            ("inf", f64::INFINITY, 3),
            ("-Infinity", f64::NEG_INFINITY, 9),
        ] {
            assert_eq!(take_number(text.as_bytes()), Some((n, len)), "{text}");
        }
        assert_eq!(take_number(b"-"), None);
        assert_eq!(take_number(b"+."), None);
    }
}
