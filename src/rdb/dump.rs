//! One value by itself: what DUMP replies and RESTORE takes.
//!
//! ```text
//! | type | value | version, 2 bytes LE | CRC-64 of all before, 8 bytes LE |
//! ```

use std::io;

use super::encode::{Format, Version, kind_of, write_value};
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
    let mut payload = in_memory(done);
    payload.extend_from_slice(&format.version.number().to_le_bytes());
    let checksum = crc64(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
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
