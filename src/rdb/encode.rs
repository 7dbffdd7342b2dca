//! Writing: a whole file from a snapshot, and each value in it.
//!
//! A saver walks a [`Snapshot`], on a thread of its own or not, and lets go of each part once it is written, so that the
//! server beside it has the less to copy. It looks at its [`Progress`] once a buffer, to tell how far it is and to hear
//! whether it is still wanted.

use std::io::Write;

use super::form::{NODE_PACKED, NODE_PLAIN, kind, op};
use super::sink::{Progress, SaveError, Sink};
use super::stream;
use crate::base::lzf::Compressor;
use crate::config::Config;
use crate::db::snapshot::Snapshot;
use crate::ds::listpack::{Elem, Listpack};
use crate::ds::quicklist::Node;
use crate::object::hash::HashRef;
use crate::object::set::SetRef;
use crate::object::{AccessClock, Entry, List, Str, ValueRef};

type Done = Result<(), SaveError>;

/// Which version is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// What Redis 7.0 can read.
    V10,
    /// What Redis 7.2 writes.
    V11,
}

impl Version {
    /// The number in the file.
    pub fn number(self) -> u16 {
        match self {
            Version::V10 => 10,
            Version::V11 => 11,
        }
    }
}

/// How things are written.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    pub version: Version,
    /// `rdbcompression`
    pub compress: bool,
    /// `rdbchecksum`
    pub checksum: bool,
}

impl Format {
    /// As the configuration wants it.
    pub fn of(config: &Config) -> Format {
        Format {
            version: match config.rdb_version {
                10 => Version::V10,
                _ => Version::V11,
            },
            compress: config.rdbcompression,
            checksum: config.rdbchecksum,
        }
    }
}

/// What the file says of each key's use: by the policy of eviction.
#[derive(Clone, Copy, Debug)]
pub enum Usage {
    Nothing,
    /// How long it has been idle.
    Idle(AccessClock),
    /// How frequent it is.
    Frequency(AccessClock),
}

impl Usage {
    /// As the configuration wants it, at the time of `clock`.
    pub fn of(config: &Config, clock: AccessClock) -> Usage {
        let policy = config.maxmemory_policy;
        if policy.is_lfu() {
            Usage::Frequency(clock)
        } else if policy.is_lru() {
            Usage::Idle(clock)
        } else {
            Usage::Nothing
        }
    }
}

/// Where in the replication stream a file stands.
#[derive(Clone, Copy, Debug)]
pub struct Replication<'a> {
    pub stream_db: i64,
    pub id: &'a str,
    pub offset: i64,
}

/// What a file says of itself and of the server that wrote it.
#[derive(Clone, Copy, Debug)]
pub struct Info<'a> {
    pub redis_version: &'a str,
    /// Unix time in seconds.
    pub created_s: u64,
    /// Bytes of memory in use.
    pub used_memory: u64,
    pub replication: Option<Replication<'a>>,
    /// It is the base of a command log.
    pub aof_base: bool,
}

/// Writes a file: what `info` tells, function libraries, and all keys of the snapshot. Gives what it was written to,
/// flushed, and how many bytes they were.
pub fn write_file<'a, W: Write>(
    to: W,
    snapshot: Snapshot,
    functions: impl Iterator<Item = &'a [u8]>,
    info: &Info<'_>,
    usage: Usage,
    format: Format,
    progress: &Progress,
) -> Result<(W, u64), SaveError> {
    let mut compressor = Compressor::new();
    let compressor = format.compress.then_some(&mut compressor);
    let mut sink = Sink::new(to, compressor, format.checksum).watched(progress);
    sink.raw(format!("REDIS{:04}", format.version.number()).as_bytes())?;
    aux_fields(&mut sink, info)?;
    for library in functions {
        sink.byte(op::FUNCTION)?;
        sink.string(library)?;
    }
    let expiring: Vec<usize> = snapshot.tables().iter().map(|t| t.expiring_len()).collect();
    for (index, mut walk) in snapshot.into_walks() {
        sink.byte(op::SELECT_DB)?;
        sink.length(u64::from(index))?;
        sink.byte(op::RESIZE_DB)?;
        sink.length(walk.left() as u64)?;
        sink.length(expiring[index as usize] as u64)?;
        while let Some(entry) = walk.next() {
            write_key(&mut sink, entry, usage, format.version)?;
            sink.pace()?;
        }
    }
    sink.byte(op::EOF)?;
    let checksum = sink.checksum()?;
    sink.raw(&checksum.to_le_bytes())?;
    let written = sink.written();
    Ok((sink.finish()?, written))
}

fn aux_fields<W: Write>(sink: &mut Sink<'_, W>, info: &Info<'_>) -> Done {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    aux(sink, "redis-ver", |s| {
        s.string(info.redis_version.as_bytes())
    })?;
    aux(sink, "redis-bits", |s| s.int(64))?;
    aux(sink, "ctime", |s| s.int(number(info.created_s)))?;
    aux(sink, "used-mem", |s| s.int(number(info.used_memory)))?;
    if let Some(replication) = &info.replication {
        aux(sink, "repl-stream-db", |s| s.int(replication.stream_db))?;
        aux(sink, "repl-id", |s| s.string(replication.id.as_bytes()))?;
        aux(sink, "repl-offset", |s| s.int(replication.offset))?;
    }
    aux(sink, "aof-base", |s| s.int(i64::from(info.aof_base)))
}

fn aux<W: Write>(
    sink: &mut Sink<'_, W>,
    name: &str,
    value: impl FnOnce(&mut Sink<'_, W>) -> Done,
) -> Done {
    sink.byte(op::AUX)?;
    sink.string(name.as_bytes())?;
    value(sink)
}

/// Writes a key, with all that belongs to it.
#[inline]
fn write_key<W: Write>(
    sink: &mut Sink<'_, W>,
    entry: &Entry,
    usage: Usage,
    version: Version,
) -> Done {
    if let Some(at) = entry.expiry_ms() {
        sink.byte(op::EXPIRE_MS)?;
        sink.signed(at as i64)?;
    }
    match usage {
        Usage::Nothing => {}
        Usage::Idle(clock) => {
            sink.byte(op::IDLE)?;
            sink.length(clock.idle_ms(entry.access()) / 1000)?;
        }
        Usage::Frequency(clock) => {
            sink.raw(&[op::FREQ, clock.lfu_counter(entry.access())])?;
        }
    }
    let value = entry.value();
    sink.byte(kind_of(value, version))?;
    sink.string(entry.key())?;
    write_value(sink, value, version)?;
    sink.count_key();
    Ok(())
}

/// The type byte of a value.
#[inline]
pub(super) fn kind_of(value: ValueRef<'_>, version: Version) -> u8 {
    match value {
        ValueRef::Str(_) => kind::STRING,
        ValueRef::List(_) => kind::LIST_QUICKLIST_2,
        ValueRef::Set(set) => match set {
            SetRef::Intset(_) => kind::SET_INTSET,
            SetRef::Listpack(_) if version >= Version::V11 => kind::SET_LISTPACK,
            SetRef::Listpack(_) | SetRef::Table(_) => kind::SET,
        },
        ValueRef::Zset(zset) => match zset.listpack() {
            Some(_) => kind::ZSET_LISTPACK,
            None => kind::ZSET_2,
        },
        ValueRef::Hash(HashRef::Listpack(_)) => kind::HASH_LISTPACK,
        ValueRef::Hash(HashRef::Table(_)) => kind::HASH,
        ValueRef::Stream(_) if version >= Version::V11 => kind::STREAM_3,
        ValueRef::Stream(_) => kind::STREAM_2,
    }
}

/// Writes a value, without its type.
#[inline]
pub(super) fn write_value<W: Write>(
    sink: &mut Sink<'_, W>,
    value: ValueRef<'_>,
    version: Version,
) -> Done {
    match value {
        ValueRef::Str(text) => write_str(sink, text),
        ValueRef::List(list) => write_list(sink, list),
        ValueRef::Set(set) => match set {
            SetRef::Intset(ints) => sink.string(ints.bytes()),
            SetRef::Listpack(list) if version >= Version::V11 => sink.string(list.bytes()),
            members => {
                sink.length(members.len() as u64)?;
                members.iter().try_for_each(|member| match member {
                    Elem::Int(int) => sink.int(int),
                    Elem::Str(text) => sink.string(text),
                })
            }
        },
        ValueRef::Zset(zset) => match zset.listpack() {
            Some(list) => sink.string(list.bytes()),
            // From the last to the first: to load them so is what Redis does best.
            None => {
                sink.length(zset.len() as u64)?;
                zset.items(0..zset.len(), true)
                    .try_for_each(|(member, score)| {
                        match member {
                            Elem::Int(int) => sink.int(int)?,
                            Elem::Str(text) => sink.string(text)?,
                        }
                        sink.double(score)
                    })
            }
        },
        ValueRef::Hash(HashRef::Listpack(list)) => sink.string(list.bytes()),
        ValueRef::Hash(HashRef::Table(table)) => {
            sink.length(table.len() as u64)?;
            table.iter().try_for_each(|entry| {
                sink.string(entry.key())?;
                // Every value that was put in is a string.
                write_str(sink, entry.as_str().unwrap_or(Str::Text(b"")))
            })
        }
        ValueRef::Stream(it) => stream::write(sink, it, version),
    }
}

#[inline]
fn write_str<W: Write>(sink: &mut Sink<'_, W>, text: Str<'_>) -> Done {
    match text {
        Str::Int(int) => sink.int(int),
        Str::Text(text) => sink.string(text),
        Str::Big(big) => match big.as_slice() {
            Some(whole) => sink.string(whole),
            None => sink.string_of(big.len(), || big.slices(0..big.len())),
        },
    }
}

/// Writes a list: its nodes as they are. A listpack is a list of one node.
fn write_list<W: Write>(sink: &mut Sink<'_, W>, list: &List) -> Done {
    if let Some(list) = list.listpack() {
        sink.length(1)?;
        sink.length(NODE_PACKED)?;
        return sink.string(list.bytes());
    }
    let Some(quicklist) = list.quicklist() else {
        unreachable!("it is one or the other");
    };
    sink.length(quicklist.node_count() as u64)?;
    for node in quicklist.nodes() {
        sink.length(match node.is_plain() {
            true => NODE_PLAIN,
            false => NODE_PACKED,
        })?;
        match node {
            Node::Packed(list) => sink.string(list.bytes())?,
            Node::Lzf(lzf) => sink.compressed_form(&lzf.data, lzf.size)?,
            Node::Whole(whole) if whole.plain => sink.string(&whole.bytes)?,
            Node::Whole(whole) => write_alone(sink, &whole.bytes)?,
        }
    }
    Ok(())
}

/// Writes the listpack of which a text is the only element, which may be long and is not copied.
fn write_alone<W: Write>(sink: &mut Sink<'_, W>, text: &[u8]) -> Done {
    match Listpack::frame(text.len()) {
        Some((head, tail)) => {
            let len = head.len() + text.len() + tail.len();
            sink.string_of(len, || [&head[..], text, &tail[..]].into_iter())
        }
        None => {
            let list: Listpack = [Elem::Str(text)].into_iter().collect();
            sink.string(list.bytes())
        }
    }
}
