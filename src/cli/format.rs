//! Replies as text: for people at a terminal, raw for scripts, CSV, JSON.

use crate::base::quoted::quote_into;
use crate::resp::value::Value;

/// How replies are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Standard,
    Raw,
    Csv,
    Json,
    /// JSON in ASCII: bytes are escaped as in [`Style::Standard`].
    QuotedJson,
}

/// What parts replies in [`Style::Raw`].
#[derive(Debug, Clone)]
pub struct Delimiters {
    /// Between the elements of a reply.
    pub element: Vec<u8>,
    /// Behind each reply.
    pub reply: Vec<u8>,
}

/// A reply with its end.
pub fn reply(value: &Value, style: Style, delimiters: &Delimiters) -> Vec<u8> {
    let mut out = Vec::new();
    match style {
        Style::Standard => standard(value, "", &mut out),
        Style::Raw => {
            raw(value, &delimiters.element, &mut out);
            out.extend_from_slice(&delimiters.reply);
        }
        Style::Csv => {
            csv(value, &mut out);
            out.push(b'\n');
        }
        Style::Json | Style::QuotedJson => {
            json(value, style, &mut out);
            out.push(b'\n');
        }
    }
    out
}

/// A message that the server sent by itself.
pub fn push(value: &Value, style: Style, delimiters: &Delimiters) -> Vec<u8> {
    match value {
        Value::Push(items) if style == Style::Standard => match &items[..] {
            [Value::Bulk(kind), Value::Array(keys)] if kind.starts_with(b"invalidate") => {
                invalidate(keys)
            }
            _ => reply(value, style, delimiters),
        },
        _ => reply(value, style, delimiters),
    }
}

fn invalidate(keys: &[Value]) -> Vec<u8> {
    let mut out = b"-> invalidate: ".to_vec();
    for (at, key) in keys.iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        out.push(b'\'');
        out.extend_from_slice(key.as_bytes().unwrap_or_default());
        out.push(b'\'');
    }
    out.push(b'\n');
    out
}

/// Appends a value in the form for terminals; `prefix` goes before every line but the first.
fn standard(value: &Value, prefix: &str, out: &mut Vec<u8>) {
    let mut line = |parts: &[&[u8]]| {
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out.push(b'\n');
    };
    match value {
        Value::Error(text) => line(&[b"(error) ", text]),
        Value::Status(text) | Value::Verbatim { text, .. } => line(&[text]),
        Value::Int(n) => line(&[b"(integer) ", n.to_string().as_bytes()]),
        Value::BigNumber(text) => line(&[b"(integer) ", text]),
        Value::Double(text) => line(&[b"(double) ", text]),
        Value::Null | Value::NullArray => line(&[b"(nil)"]),
        Value::Bool(yes) => line(&[if *yes { b"(true)" } else { b"(false)" }]),
        Value::Bulk(bytes) => {
            quote_into(bytes, out);
            out.push(b'\n');
        }
        Value::Array(items) if items.is_empty() => line(&[b"(empty array)"]),
        Value::Set(items) if items.is_empty() => line(&[b"(empty set)"]),
        Value::Push(items) if items.is_empty() => line(&[b"(empty push)"]),
        Value::Map(pairs) if pairs.is_empty() => line(&[b"(empty hash)"]),
        Value::Array(items) | Value::Push(items) => numbered(items, ')', prefix, out),
        Value::Set(items) => numbered(items, '~', prefix, out),
        Value::Map(pairs) => numbered_pairs(pairs, prefix, out),
        Value::Attributed { value, .. } => standard(value, prefix, out),
    }
}

/// The digits of the last number of a list of `len`, and the prefix of what stands within.
fn indent(len: usize, prefix: &str) -> (usize, String) {
    let digits = len.to_string().len();
    (digits, format!("{prefix}{}", " ".repeat(digits + 2)))
}

fn numbered(items: &[Value], mark: char, prefix: &str, out: &mut Vec<u8>) {
    let (digits, inner) = indent(items.len(), prefix);
    for (at, item) in items.iter().enumerate() {
        let before = if at == 0 { "" } else { prefix };
        out.extend_from_slice(format!("{before}{:>digits$}{mark} ", at + 1).as_bytes());
        standard(item, &inner, out);
    }
}

fn numbered_pairs(pairs: &[(Value, Value)], prefix: &str, out: &mut Vec<u8>) {
    let (digits, inner) = indent(pairs.len(), prefix);
    for (at, (key, value)) in pairs.iter().enumerate() {
        let before = if at == 0 { "" } else { prefix };
        out.extend_from_slice(format!("{before}{:>digits$}# ", at + 1).as_bytes());
        standard(key, &inner, out);
        // The value stands on the key's last line.
        out.pop();
        out.extend_from_slice(b" => ");
        if takes_lines(value) {
            out.push(b'\n');
            out.extend_from_slice(inner.as_bytes());
        }
        standard(value, &inner, out);
    }
}

/// Whether [`standard`] takes more than a line for it.
fn takes_lines(value: &Value) -> bool {
    match value {
        Value::Array(items) | Value::Set(items) | Value::Push(items) => match &items[..] {
            [] => false,
            [one] => takes_lines(one),
            _ => true,
        },
        Value::Map(pairs) => match &pairs[..] {
            [] => false,
            [(_, one)] => takes_lines(one),
            _ => true,
        },
        _ => false,
    }
}

/// Appends a value raw, its elements parted by `delimiter`.
pub fn raw(value: &Value, delimiter: &[u8], out: &mut Vec<u8>) {
    match value {
        Value::Null | Value::NullArray => {}
        Value::Error(text) => {
            out.extend_from_slice(text);
            out.push(b'\n');
        }
        Value::Bool(yes) => out.extend_from_slice(if *yes { b"(true)" } else { b"(false)" }),
        Value::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.extend_from_slice(delimiter);
                }
                raw(item, delimiter, out);
            }
        }
        Value::Map(pairs) => {
            for (at, (key, value)) in pairs.iter().enumerate() {
                if at > 0 {
                    out.extend_from_slice(delimiter);
                }
                raw(key, delimiter, out);
                out.push(b' ');
                raw(value, delimiter, out);
            }
        }
        Value::Attributed { value, .. } => raw(value, delimiter, out),
        text => out.extend_from_slice(text.as_bytes().unwrap_or_default()),
    }
}

/// Appends a value as one record of CSV: nothing of its nesting is left.
fn csv(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null | Value::NullArray => out.extend_from_slice(b"NULL"),
        Value::Bool(yes) => out.extend_from_slice(if *yes { b"true" } else { b"false" }),
        Value::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Value::Double(text) | Value::BigNumber(text) => out.extend_from_slice(text),
        Value::Error(text) => {
            out.extend_from_slice(b"ERROR,");
            quote_into(text, out);
        }
        Value::Status(text) | Value::Bulk(text) | Value::Verbatim { text, .. } => {
            quote_into(text, out);
        }
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            csv_list(items.iter(), out);
        }
        Value::Map(pairs) => csv_list(pairs.iter().flat_map(|(key, value)| [key, value]), out),
        Value::Attributed { value, .. } => csv(value, out),
    }
}

fn csv_list<'a>(items: impl Iterator<Item = &'a Value>, out: &mut Vec<u8>) {
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        csv(item, out);
    }
}

/// Appends a value as JSON.
fn json(value: &Value, style: Style, out: &mut Vec<u8>) {
    match value {
        Value::Null | Value::NullArray => out.extend_from_slice(b"null"),
        Value::Bool(yes) => out.extend_from_slice(if *yes { b"true" } else { b"false" }),
        Value::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Value::Double(text) | Value::BigNumber(text) => out.extend_from_slice(text),
        Value::Error(text) => {
            out.extend_from_slice(b"error:");
            json_string(text, style, out);
        }
        Value::Status(text) | Value::Bulk(text) | Value::Verbatim { text, .. } => {
            json_string(text, style, out);
        }
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                json(item, style, out);
            }
            out.push(b']');
        }
        Value::Map(pairs) => {
            out.push(b'{');
            for (at, (key, value)) in pairs.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                json_key(key, style, out);
                out.push(b':');
                json(value, style, out);
            }
            out.push(b'}');
        }
        Value::Attributed { value, .. } => json(value, style, out),
    }
}

/// A key of a map: what is no string becomes one.
fn json_key(key: &Value, style: Style, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    json(key, style, &mut text);
    let is_text = matches!(key, Value::Error(_)) || text.first() == Some(&b'"');
    if is_text {
        out.extend_from_slice(&text);
    } else {
        out.push(b'"');
        out.extend_from_slice(&text);
        out.push(b'"');
    }
}

fn json_string(text: &[u8], style: Style, out: &mut Vec<u8>) {
    if style == Style::QuotedJson {
        let mut quoted = Vec::new();
        quote_into(text, &mut quoted);
        for byte in quoted {
            if byte == b'\\' {
                out.push(byte);
            }
            out.push(byte);
        }
        return;
    }
    out.push(b'"');
    for &byte in text {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            8 => out.extend_from_slice(b"\\b"),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(value: &Value, style: Style) -> String {
        let delimiters = Delimiters {
            element: b"\n".to_vec(),
            reply: b"\n".to_vec(),
        };
        String::from_utf8(reply(value, style, &delimiters)).unwrap()
    }

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.as_bytes().to_vec())
    }

    #[test]
    fn nested_lists_and_maps_are_aligned() {
        let inner = Value::Map(vec![
            (bulk("a"), Value::Int(1)),
            (bulk("b"), Value::Array(vec![bulk("x"), Value::Null])),
        ]);
        let list = Value::Array(
            (0..9)
                .map(Value::Int)
                .chain([inner, Value::Set(vec![bulk("s")])])
                .collect(),
        );
        let text = show(&list, Style::Standard);
        let tail = " 9) (integer) 8\n10) 1# \"a\" => (integer) 1\n    2# \"b\" => \n       1) \"x\"\n       2) (nil)\n\
            11) 1~ \"s\"\n";
        assert!(text.ends_with(tail), "{text}");
        assert_eq!(
            show(&list, Style::Csv),
            "0,1,2,3,4,5,6,7,8,\"a\",1,\"b\",\"x\",NULL,\"s\"\n"
        );
    }

    #[test]
    fn json_keys_are_strings_and_control_bytes_escaped() {
        let map = Value::Map(vec![
            (Value::Int(1), bulk("a\"\x01\n")),
            (bulk("k"), Value::Bool(true)),
        ]);
        assert_eq!(
            show(&map, Style::Json),
            "{\"1\":\"a\\\"\\u0001\\n\",\"k\":true}\n"
        );
        assert_eq!(show(&bulk("\x01"), Style::QuotedJson), "\"\\\\x01\"\n");
    }
}
