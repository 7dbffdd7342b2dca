//! One value by itself: what DUMP replies and RESTORE takes.
//!
//! ```text
//! | type | value | version, 2 bytes LE | CRC-64 of all before, 8 bytes LE |
//! ```

use std::io;

use super::encode::{Format, Version, kind_of, write_value};
use super::form::op;
use super::sink::{SaveError, Sink};
use super::source::{Error, Source};
use super::value::{self, Rules};
use crate::base::checksum::crc64;
use crate::base::lzf::Compressor;
use crate::object::{Entry, Value};

/// The highest version that is taken, of those that Redis 7.2 takes.
const VERSION_MAX: u16 = 11;
const FOOTER_BYTES: usize = 10;

/// Version or checksum of a payload are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongFooter;

/// The payload of a value. `compressor` is kept by the caller from call to call.
pub fn encode_dump(entry: &Entry, format: Format, compressor: &mut Compressor) -> Vec<u8> {
    let mut sink = Sink::new(Vec::new(), format.compress.then_some(compressor), false);
    let value = entry.value();
    let done = sink
        .byte(kind_of(value, format.version))
        .and_then(|()| write_value(&mut sink, value, format.version))
        .and_then(|()| sink.finish());
    with_footer(in_memory(done), format)
}

/// All libraries of functions as one payload, each behind the sign that it has in a file.
pub fn encode_functions<'a>(texts: impl Iterator<Item = &'a [u8]>, format: Format) -> Vec<u8> {
    let mut compressor = Compressor::new();
    let compressor = format.compress.then_some(&mut compressor);
    let mut sink = Sink::new(Vec::new(), compressor, false);
    let mut each = texts.map(|text| {
        sink.byte(op::FUNCTION)?;
        sink.string(text)
    });
    let done = each.find(Result::is_err).unwrap_or(Ok(()));
    drop(each);
    let payload = in_memory(done.and_then(|()| sink.finish()));
    with_footer(payload, format)
}

/// Puts version and checksum behind what a payload says.
fn with_footer(mut payload: Vec<u8>, format: Format) -> Vec<u8> {
    payload.extend_from_slice(&format.version.number().to_le_bytes());
    let checksum = crc64(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

/// The texts of the libraries in such a payload, or what is wrong with it. `checked`: the checksum has to be right.
pub fn decode_functions(payload: &[u8], checked: bool) -> Result<Vec<Vec<u8>>, &'static str> {
    let Ok(Dump(mut source)) = Dump::open(payload, checked) else {
        return Err("DUMP payload version or checksum are wrong");
    };
    let end = (payload.len() - FOOTER_BYTES) as u64;
    let mut texts = Vec::new();
    while source.offset() < end {
        match source.byte() {
            Ok(op::FUNCTION) => {}
            Ok(op::FUNCTION_PRE_GA) => return Err("Pre-GA function format not supported"),
            Ok(_) => return Err("given type is not a function"),
            Err(_) => return Err("can not read data type"),
        }
        match source.text() {
            Ok(text) => texts.push(text.into_cow().into_owned()),
            Err(_) => return Err("failed loading the given functions payload"),
        }
    }
    Ok(texts)
}

/// Bytes that the value takes in a file, without its type.
pub fn saved_len(entry: &Entry, compress: bool) -> u64 {
    let mut compressor = Compressor::new();
    let mut sink = Sink::new(io::sink(), compress.then_some(&mut compressor), false);
    let done = write_value(&mut sink, entry.value(), Version::V11);
    in_memory(done.map(|()| sink.written()))
}

/// The outcome of writing to memory, which takes everything and is not cancelled.
fn in_memory<T>(result: Result<T, SaveError>) -> T {
    match result {
        Ok(done) => done,
        Err(error) => unreachable!("memory takes all bytes: {error}"),
    }
}

/// A payload whose footer is right.
pub struct Dump<'p>(Source<&'p [u8]>);

impl<'p> Dump<'p> {
    /// Looks at the footer. `checked`: the checksum has to be right.
    pub fn open(payload: &'p [u8], checked: bool) -> Result<Dump<'p>, WrongFooter> {
        let (body, footer) = payload
            .split_last_chunk::<FOOTER_BYTES>()
            .ok_or(WrongFooter)?;
        let [low, high, checksum @ ..] = *footer;
        let summed = &payload[..body.len() + 2];
        if u16::from_le_bytes([low, high]) > VERSION_MAX
            || checked && u64::from_le_bytes(checksum) != crc64(summed)
        {
            return Err(WrongFooter);
        }
        Ok(Dump(Source::new(body, body.len(), false)))
    }

    /// The value. `None`: it is a collection without elements, which no key may hold.
    pub fn value(&mut self, rules: &Rules) -> Result<Option<Value<'_>>, Error> {
        let kind = self.0.byte()?;
        value::read(&mut self.0, kind, rules)
    }
}
