//! redis-check-rdb: reads a file to its end as a server would, and says what it found or where it broke.
//!
//! What it prints has Redis's form, which scripts read.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};

use clap::Parser;

use crate::admin::info::REDIS_VERSION;
use crate::base::time::Clock;
use crate::config::Config;
use crate::ds::dict::HashKey;
use crate::rdb::form::kind;
use crate::rdb::{Checksum, Decoder, Doing, Error, Item, Reason, Rules};

#[derive(Parser)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Arguments {
    #[arg(short = 'v', long)]
    version: bool,
    #[arg(required_unless_present = "version")]
    file: Option<OsString>,
}

/// The program. Gives its exit status: 0 if the file is sound.
pub fn main() -> i32 {
    let mut out = BufWriter::new(io::stdout().lock());
    let status = run(
        std::env::args_os(),
        Clock::system().unix_us() / 1000,
        &mut out,
    );
    let flushed = out.flush();
    match (status, flushed) {
        (Ok(status), Ok(())) => status,
        // Whoever reads it has gone.
        (Err(_), _) | (_, Err(_)) => 1,
    }
}

fn run(args: impl Iterator<Item = OsString>, now_ms: u64, out: &mut impl Write) -> io::Result<i32> {
    let args: Vec<OsString> = args.collect();
    let parsed = match Arguments::try_parse_from(&args) {
        Ok(parsed) => parsed,
        Err(_) => {
            let program = args.first().map(|name| name.to_string_lossy());
            let program = program.as_deref().unwrap_or("redis-check-rdb");
            eprintln!("Usage: {program} <rdb-file-name>");
            return Ok(1);
        }
    };
    let Some(path) = parsed.file.filter(|_| !parsed.version) else {
        writeln!(out, "redis-check-rdb {REDIS_VERSION}")?;
        return Ok(0);
    };
    writeln!(out, "[offset 0] Checking RDB file {}", path.display())?;
    match File::open(&path) {
        Ok(file) => check(file, now_ms, out).map(|sound| i32::from(sound.is_none())),
        Err(error) => {
            eprintln!("Cannot open file {}: {error}", path.display());
            Ok(1)
        }
    }
}

/// What was counted on the way.
#[derive(Default)]
struct Tally {
    keys: u64,
    expires: u64,
    expired: u64,
}

impl Tally {
    fn key(&mut self, expiry_ms: Option<u64>, now_ms: u64) {
        self.keys += 1;
        if let Some(at) = expiry_ms {
            self.expires += 1;
            self.expired += u64::from(at < now_ms);
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "[info] {} keys read", self.keys)?;
        writeln!(out, "[info] {} expires", self.expires)?;
        writeln!(out, "[info] {} already expired", self.expired)
    }
}

/// What follows an RDB file where that is the beginning of something else.
pub struct Rest<R> {
    /// Where it begins.
    pub offset: u64,
    /// What was read of it already, and where more comes from.
    pub read: Vec<u8>,
    pub from: R,
}

/// Reads a file and prints what there is to say. Gives what follows it if it is sound.
pub fn check<R: Read>(file: R, now_ms: u64, out: &mut impl Write) -> io::Result<Option<Rest<R>>> {
    let mut tally = Tally::default();
    // The keys are dropped again at once: any seed does.
    let rules = Rules::new(&Config::default(), HashKey::new(0, 0), 1 << 30, true);
    let mut decoder = match Decoder::new(file, rules, true) {
        Ok(decoder) => decoder.skipping_modules(),
        Err(error) => {
            broken(out, &error, (Doing::Start, None, None), &tally)?;
            return Ok(None);
        }
    };
    loop {
        let item = match decoder.next() {
            Ok(Some(item)) => item,
            Ok(None) => break,
            Err(error) => {
                let reading = decoder.reading();
                tally.keys += u64::from(reading.2.is_some());
                broken(out, &error, reading, &tally)?;
                return Ok(None);
            }
        };
        let (mut note, mut is_empty) = (Vec::new(), false);
        match item {
            Item::Aux { name, value } => {
                note.extend_from_slice(b"AUX FIELD ");
                note.extend_from_slice(c_text(name));
                note.extend_from_slice(b" = '");
                note.extend_from_slice(c_text(&value));
                note.push(b'\'');
            }
            Item::SelectDb(index) => write!(note, "Selecting DB ID {index}")?,
            Item::ModuleAux { name } => write!(note, "MODULE AUX for: {name}")?,
            Item::Key(key) => {
                tally.key(key.expiry_ms, now_ms);
                // A server would pass it over, but it is not sound.
                is_empty = key.value.is_none();
            }
            Item::ModuleKey { expiry_ms, .. } => tally.key(expiry_ms, now_ms),
            Item::ResizeDb { .. } | Item::Function(_) => {}
        }
        if is_empty {
            let error = decoder.corrupt("A collection without elements");
            broken(out, &error, decoder.reading(), &tally)?;
            return Ok(None);
        }
        if !note.is_empty() {
            info(out, decoder.offset(), &note)?;
        }
    }
    let offset = decoder.offset();
    match decoder.checksum() {
        Some(Checksum::Right) => info(out, offset, b"Checksum OK")?,
        Some(Checksum::Disabled) => info(
            out,
            offset,
            b"RDB file was saved with checksum disabled: no check performed.",
        )?,
        Some(Checksum::Unchecked) | None => {}
    }
    info(out, offset, b"\\o/ RDB looks OK! \\o/")?;
    tally.print(out)?;
    let (read, from) = decoder.into_rest();
    Ok(Some(Rest { offset, read, from }))
}

fn info(out: &mut impl Write, offset: u64, note: &[u8]) -> io::Result<()> {
    write!(out, "[offset {offset}] ")?;
    out.write_all(note)?;
    writeln!(out)
}

/// Says where a file broke, and while what was read.
fn broken(
    out: &mut impl Write,
    error: &Error,
    (doing, kind, key): (Doing, Option<u8>, Option<&[u8]>),
    tally: &Tally,
) -> io::Result<()> {
    let offset = error.offset;
    writeln!(out, "--- RDB ERROR DETECTED ---")?;
    match &error.reason {
        Reason::Kind(kind) => writeln!(out, "[offset {offset}] Invalid object type: {kind}")?,
        Reason::Corrupt(what) => writeln!(
            out,
            "[offset {offset}] Internal error in RDB reading offset {offset} -> {what}"
        )?,
        reason => writeln!(out, "[offset {offset}] {reason}")?,
    }
    writeln!(out, "[additional info] While doing: {}", doing.name())?;
    if let Some(key) = key {
        out.write_all(b"[additional info] Reading key '")?;
        out.write_all(c_text(key))?;
        out.write_all(b"'\n")?;
    }
    // (Redis has not set it yet before the first key.)
    if let Some(kind) = kind.or((tally.keys == 0).then_some(kind::STRING)) {
        let name = kind::name(kind);
        writeln!(out, "[additional info] Reading type {kind} ({name})")?;
    }
    tally.print(out)
}

/// A text as C prints it: to the first zero.
pub(super) fn c_text(text: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(file: &[u8]) -> (bool, String) {
        let mut out = Vec::new();
        let sound = check(file, 10_000, &mut out).unwrap().is_some();
        (sound, String::from_utf8(out).unwrap())
    }

    const HEAD: &[u8] = b"REDIS0011\xfa\x09redis-ver\x057.2.6\xfe\x00\xfb\x02\x01\
        \xfc\x05\x00\x00\x00\x00\x00\x00\x00\x00\x01a\xc0\x07";

    /// What Redis 7.2.6 prints.
    #[test]
    fn a_sound_file() {
        let mut file = HEAD.to_vec();
        file.extend_from_slice(b"\x01\x01b\x01\x01x\xff");
        let checksum = crate::base::checksum::crc64(&file);
        file.extend_from_slice(&checksum.to_le_bytes());
        let (sound, text) = output(&file);
        let want = "[offset 26] AUX FIELD redis-ver = '7.2.6'\n\
            [offset 28] Selecting DB ID 0\n\
            [offset 60] Checksum OK\n\
            [offset 60] \\o/ RDB looks OK! \\o/\n\
            [info] 2 keys read\n[info] 1 expires\n[info] 1 already expired\n";
        assert_eq!((sound, &text[..]), (true, want));
    }

    #[test]
    fn broken_files() {
        let mut file = HEAD.to_vec();
        file.extend_from_slice(b"\x02\x03key\x05\x01a");
        let (sound, text) = output(&file);
        let want = "[offset 26] AUX FIELD redis-ver = '7.2.6'\n\
            [offset 28] Selecting DB ID 0\n\
            --- RDB ERROR DETECTED ---\n\
            [offset 53] Unexpected EOF reading RDB file\n\
            [additional info] While doing: read-object-value\n\
            [additional info] Reading key 'key'\n\
            [additional info] Reading type 2 (set-hashtable)\n\
            [info] 2 keys read\n[info] 1 expires\n[info] 1 already expired\n";
        assert_eq!((sound, &text[..]), (false, want));
        let (sound, text) = output(b"RADIS0011");
        assert!(!sound && text.contains("] Wrong signature trying to load DB from file\n"));
        assert!(text.contains("While doing: start\n"));
        // A module's value is passed over.
        let file =
            b"REDIS0009\x07\x01m\x81\xb5\xeb\x2d\xb5\xec\xa9\x7d\x01\x02\x05\x05\x01x\x00\xff\
            \0\0\0\0\0\0\0\0";
        let (sound, text) = output(file);
        assert!(sound && text.contains("[info] 1 keys read\n"), "{text}");
    }
}
