//! What a replica is sent: all data as a file (`--rdb`), or the commands as they come (`--replica`, SYNC, PSYNC).
//!
//! The transfer is no reply. It begins with a line that says how long it is, or names 40 bytes that mark its end.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::thread::sleep;
use std::time::Duration;

use super::link::{Link, LinkError};
use super::options::Mode;
use super::out::{self, Stop, complain, lossy};
use super::session::Session;
use crate::base::errno;
use crate::base::number::parse_u64;
use crate::resp::value::Value;

const MARK_LEN: usize = 40;
const LINE_MAX: usize = 4094;
const PIECE_MAX: usize = 4096;

/// How far a transfer goes.
enum Extent {
    Len(u64),
    Mark(Vec<u8>),
    /// There is none: the stream goes on where it was.
    Nothing,
}

/// Sends a REPLCONF. Whether the server knows it.
fn replconf(link: &mut Link, key: &str, value: &str) -> Result<bool, Stop> {
    complain!("sending REPLCONF {key} {value}\n");
    match link.command(&["REPLCONF", key, value]) {
        Err(_) => {
            complain!("\nI/O error\n");
            Err(Stop(1))
        }
        Ok(Value::Error(why)) => {
            complain!("REPLCONF {key} error: {}\n", lossy(&why));
            Ok(false)
        }
        Ok(_) => Ok(true),
    }
}

/// Reads a line, the blank ones ahead of it passed over: they keep the connection awake.
fn line(link: &mut Link, doing: &str) -> Result<Vec<u8>, Stop> {
    let mut line = Vec::new();
    loop {
        let byte = match link.raw(1) {
            Ok(&[byte, ..]) => byte,
            _ => {
                complain!("Error reading bulk length while {doing}\n");
                return Err(Stop(1));
            }
        };
        match byte {
            b'\n' if !line.is_empty() => return Ok(line),
            b'\n' => {}
            _ => line.push(byte),
        }
        if line.len() >= LINE_MAX {
            return Ok(line);
        }
    }
}

/// Asks for the data (`ask`), or sends what was appended, and reads how much there will be.
fn begin(link: &mut Link, ask: bool) -> Result<Extent, Stop> {
    let sent = match ask {
        true => link.send_raw(b"SYNC\r\n"),
        false => link.flush(),
    };
    if sent.is_err() {
        complain!("Error writing to master\n");
        return Err(Stop(1));
    }
    let mut head = line(link, "SYNCing")?;
    if head.starts_with(b"-") {
        complain!("SYNC with master failed: {}\n", lossy(&head));
        return Err(Stop(1));
    }
    let partial = head.starts_with(b"+CONTINUE");
    if partial || head.starts_with(b"+FULLRESYNC") {
        complain!("PSYNC replied {}\n", lossy(&head));
        if partial {
            return Ok(Extent::Nothing);
        }
        head = line(link, "PSYNCing")?;
    }
    let head = head.strip_suffix(b"\r").unwrap_or(&head);
    match head.strip_prefix(b"$EOF:").and_then(|m| m.get(..MARK_LEN)) {
        Some(mark) => Ok(Extent::Mark(mark.to_vec())),
        None => Ok(Extent::Len(head.get(1..).and_then(parse_u64).unwrap_or(0))),
    }
}

/// Reads a transfer to its end, and gives each piece to `take`. Gives its length, the mark not counted.
fn transfer(
    link: &mut Link,
    extent: &Extent,
    mut take: impl FnMut(&[u8]) -> Result<(), Stop>,
    lost: impl Fn(LinkError) -> Stop,
) -> Result<u64, Stop> {
    let mut len = 0u64;
    match extent {
        Extent::Nothing => {}
        Extent::Len(whole) => {
            while len < *whole {
                let left = usize::try_from(whole - len).unwrap_or(PIECE_MAX);
                let piece = link.raw(left.min(PIECE_MAX)).map_err(&lost)?;
                len += piece.len() as u64;
                take(piece)?;
            }
        }
        Extent::Mark(mark) => {
            // What could be the beginning of the mark waits here.
            let mut held = Vec::new();
            while held != *mark {
                held.extend_from_slice(link.raw(PIECE_MAX).map_err(&lost)?);
                let ready = held.len().saturating_sub(MARK_LEN);
                take(&held[..ready])?;
                len += ready as u64;
                held.drain(..ready);
            }
        }
    }
    Ok(len)
}

/// `--replica`: prints the commands that come from the master, whose data are passed over.
pub fn replica(session: &mut Session) -> Result<(), Stop> {
    let link = session.link()?;
    replconf(link, "capa", "eof")?;
    replconf(link, "rdb-filter-only", "")?;
    follow(session, true)
}

/// The same, after SYNC or PSYNC was appended by the user (`ask` is false).
pub fn follow(session: &mut Session, ask: bool) -> Result<(), Stop> {
    let link = session.link()?;
    let extent = begin(link, ask)?;
    let what = match extent {
        Extent::Nothing => "Partial resync",
        _ => "Full resync",
    };
    match &extent {
        Extent::Nothing => complain!("{what} with master...\n"),
        Extent::Len(len) => {
            complain!("{what} with master, discarding {len} bytes of bulk transfer...\n");
        }
        Extent::Mark(_) => {
            complain!("{what} with master, discarding bytes of bulk transfer until EOF marker...\n")
        }
    }
    let lost = |_| {
        complain!("Error reading RDB payload while {what}ing\n");
        Stop(1)
    };
    let len = transfer(link, &extent, |_| Ok(()), lost)?;
    if let Extent::Mark(_) = extent {
        let len = len + MARK_LEN as u64;
        complain!("{what} done after {len} bytes. Logging commands from master.\n");
        // That puts the replica online, once the master has seen that its transfer is over.
        sleep(Duration::from_secs(1));
        complain!("sending REPLCONF ACK 0\n");
        link.append(&["REPLCONF", "ACK", "0"]);
    } else {
        complain!("{what} done. Logging commands from master.\n");
    }
    session.print_stream()
}

/// `--rdb`, `--functions-rdb`: writes the data to a file.
pub fn rdb(mut link: Link, name: &[u8], mode: Mode) -> Result<(), Stop> {
    replconf(&mut link, "capa", "eof")?;
    replconf(&mut link, "rdb-only", "1")?;
    if mode == Mode::FunctionsRdb && !replconf(&mut link, "rdb-filter-only", "functions")? {
        complain!("Failed requesting functions only RDB from server, aborting\n");
        return Err(Stop(1));
    }
    fetch(link, name)
}

/// Asks for the data and writes them to a file.
pub fn fetch(mut link: Link, name: &[u8]) -> Result<(), Stop> {
    let extent = begin(&mut link, true)?;
    match &extent {
        Extent::Len(len) => complain!(
            "SYNC sent to master, writing {len} bytes to '{}'\n",
            lossy(name)
        ),
        _ => complain!(
            "SYNC sent to master, writing bytes of bulk transfer until EOF marker to '{}'\n",
            lossy(name)
        ),
    }
    let mut file = open(name)?;
    let write = |piece: &[u8]| {
        let written = match &mut file {
            Some(file) => file.write_all(piece),
            None => io::stdout().write_all(piece),
        };
        written.map_err(|error| {
            complain!("Error writing data to file: {}\n", errno::text(&error));
            Stop(1)
        })
    };
    let lost = |_| {
        complain!("I/O Error reading RDB payload from socket\n");
        Stop(1)
    };
    let len = transfer(&mut link, &extent, write, lost)?;
    out::flush();
    match extent {
        Extent::Mark(_) => complain!("Transfer finished with success after {len} bytes\n"),
        _ => complain!("Transfer finished with success.\n"),
    }
    // The server need not wait for our disk.
    drop(link);
    match file.map(|file| file.sync_all()) {
        Some(Err(error)) => {
            let why = errno::text(&error);
            complain!("Fail to fsync '{}': {why}\n", lossy(name));
            Err(Stop(1))
        }
        _ => Ok(()),
    }
}

/// The file of that name, emptied; none for the standard output.
fn open(name: &[u8]) -> Result<Option<File>, Stop> {
    if name == b"-" {
        return Ok(None);
    }
    let path = std::ffi::OsStr::from_bytes(name);
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path);
    opened.map(Some).map_err(|error| {
        complain!("Error opening '{}': {}\n", lossy(name), errno::text(&error));
        Stop(1)
    })
}
