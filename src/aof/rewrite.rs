//! Writing the data of a moment as commands: the base of a log, where that is not to be an RDB file.
//!
//! A string is one SET. A collection is as many RPUSH, SADD, ZADD or HMSET as it takes at 64 elements each, so that no
//! command of a log is as large as the data. A key that expires is told so behind its value.
//!
//! # Streams
//! ```text
//! XADD key id field value ...                                    each entry
//! XADD key MAXLEN 0 0-1 x y                                      or, for a stream without entries, one that goes at once
//! XSETID key last-id ENTRIESADDED n MAXDELETEDID id              what entries that are gone have left behind
//! XGROUP CREATE key group last-id ENTRIESREAD n                  each group; -1: not known
//! XCLAIM key group consumer 0 id TIME ms RETRYCOUNT n JUSTID FORCE       each entry that a consumer owes
//! XGROUP CREATECONSUMER key group consumer                       a consumer that owes nothing
//! ```
//! An RDB file says more: when a consumer was seen, and what is owed though its entry is gone.

use std::io::Write;
use std::ops::ControlFlow;

use crate::base::double::format_shortest;
use crate::db::snapshot::Snapshot;
use crate::ds::listpack::Elem;
use crate::ds::stream::{Consumer, Group, StreamId};
use crate::object::hash::HashRef;
use crate::object::list::{End, Item};
use crate::object::set::SetRef;
use crate::object::{Entry, List, Str, Stream, ValueRef, Zset};
use crate::rdb::{Progress, SaveError, Sink};

/// Elements in one command.
const ITEMS_PER_COMMAND: usize = 64;
/// What stands for a count that is not known.
const UNKNOWN: i64 = -1;

type Done = Result<(), SaveError>;

/// Writes a log that makes the function libraries and all keys of the snapshot; with the time at its head (Unix time in
/// seconds) if that is to be noted. Gives what it was written to, flushed, and how many bytes they were.
pub fn write_log<'a, W: Write>(
    to: W,
    snapshot: Snapshot,
    functions: impl Iterator<Item = &'a [u8]>,
    at_s: Option<u64>,
    progress: &Progress,
) -> Result<(W, u64), SaveError> {
    let mut log = Log {
        sink: Sink::new(to, None, false).watched(progress),
    };
    if let Some(at_s) = at_s {
        log.sink.raw(format!("#TS:{at_s}\r\n").as_bytes())?;
    }
    for library in functions {
        log.command(3, "FUNCTION")?;
        log.bulk(b"LOAD")?;
        log.bulk(library)?;
    }
    for (index, mut walk) in snapshot.into_walks() {
        log.command(2, "SELECT")?;
        log.int(i64::from(index))?;
        while let Some(entry) = walk.next() {
            log.key(entry)?;
            log.sink.count_key();
            log.sink.pace()?;
        }
    }
    let written = log.sink.written();
    Ok((log.sink.finish()?, written))
}

/// A log under way.
struct Log<'c, W> {
    sink: Sink<'c, W>,
}

impl<W: Write> Log<'_, W> {
    /// A line: a letter and a number.
    #[inline]
    fn line(&mut self, prefix: u8, n: usize) -> Done {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(n).as_bytes();
        let mut line = [prefix; 24];
        let end = digits.len() + 1;
        line[1..end].copy_from_slice(digits);
        line[end..end + 2].copy_from_slice(b"\r\n");
        self.sink.raw(&line[..end + 2])
    }

    /// Begins a command of so many words, the name counted.
    #[inline]
    fn command(&mut self, words: usize, name: &str) -> Done {
        self.line(b'*', words)?;
        self.bulk(name.as_bytes())
    }

    #[inline]
    fn bulk(&mut self, text: &[u8]) -> Done {
        self.line(b'$', text.len())?;
        self.sink.raw(text)?;
        self.sink.raw(b"\r\n")
    }

    fn int(&mut self, n: i64) -> Done {
        self.bulk(itoa::Buffer::new().format(n).as_bytes())
    }

    fn id(&mut self, id: StreamId) -> Done {
        self.bulk(&id.text())
    }

    #[inline]
    fn elem(&mut self, elem: Elem<'_>) -> Done {
        self.bulk(elem.text(&mut itoa::Buffer::new()))
    }

    fn str(&mut self, text: Str<'_>) -> Done {
        match text {
            Str::Int(n) => self.int(n),
            Str::Text(text) => self.bulk(text),
            Str::Big(big) => {
                self.line(b'$', big.len())?;
                big.slices(0..big.len())
                    .try_for_each(|slice| self.sink.raw(slice))?;
                self.sink.raw(b"\r\n")
            }
        }
    }

    /// Before element `i` of `len` of a collection: begins a command where one is due. An element is so many words.
    #[inline]
    fn element(&mut self, name: &str, key: &[u8], i: usize, len: usize, words: usize) -> Done {
        if !i.is_multiple_of(ITEMS_PER_COMMAND) {
            return Ok(());
        }
        let items = len.saturating_sub(i).min(ITEMS_PER_COMMAND);
        self.command(2 + items * words, name)?;
        self.bulk(key)
    }

    /// Writes a key, with all that belongs to it.
    fn key(&mut self, entry: &Entry) -> Done {
        let key = entry.key();
        match entry.value() {
            ValueRef::Str(text) => {
                self.command(3, "SET")?;
                self.bulk(key)?;
                self.str(text)?;
            }
            ValueRef::List(list) => self.list(key, list)?,
            ValueRef::Set(set) => self.set(key, set)?,
            ValueRef::Zset(zset) => self.zset(key, zset)?,
            ValueRef::Hash(hash) => self.hash(key, hash)?,
            ValueRef::Stream(stream) => self.stream(key, stream)?,
        }
        if let Some(at) = entry.expiry_ms() {
            self.command(3, "PEXPIREAT")?;
            self.bulk(key)?;
            self.int(i64::try_from(at).unwrap_or(i64::MAX))?;
        }
        Ok(())
    }

    fn list(&mut self, key: &[u8], list: &List) -> Done {
        let (len, mut i) = (list.len(), 0);
        let mut done = Ok(());
        list.walk(0, End::Tail, |item| {
            let begun = self.element("RPUSH", key, i, len, 1);
            i += 1;
            done = begun.and_then(|()| match item {
                Item::Elem(elem) => self.elem(elem),
                Item::Whole(text) => self.bulk(text),
            });
            match done.is_ok() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        done
    }

    fn set(&mut self, key: &[u8], set: SetRef<'_>) -> Done {
        let len = set.len();
        set.iter().enumerate().try_for_each(|(i, member)| {
            self.element("SADD", key, i, len, 1)?;
            self.elem(member)
        })
    }

    fn zset(&mut self, key: &[u8], zset: &Zset) -> Done {
        let len = zset.len();
        zset.iter()
            .enumerate()
            .try_for_each(|(i, (member, score))| {
                self.element("ZADD", key, i, len, 2)?;
                self.bulk(format_shortest(score).as_bytes())?;
                self.elem(member)
            })
    }

    fn hash(&mut self, key: &[u8], hash: HashRef<'_>) -> Done {
        let len = hash.len();
        hash.iter().enumerate().try_for_each(|(i, (field, value))| {
            self.element("HMSET", key, i, len, 2)?;
            self.elem(field)?;
            self.str(value)
        })
    }

    fn stream(&mut self, key: &[u8], stream: &Stream) -> Done {
        for entry in stream.range(StreamId::MIN, StreamId::MAX) {
            let words = 3 + 2 * entry.pairs().count();
            self.command(words, "XADD")?;
            self.bulk(key)?;
            self.id(entry.id)?;
            for (field, value) in entry.pairs() {
                self.elem(field)?;
                self.elem(value)?;
            }
        }
        if stream.is_empty() {
            self.command(7, "XADD")?;
            self.bulk(key)?;
            for word in [&b"MAXLEN"[..], b"0", b"0-1", b"x", b"y"] {
                self.bulk(word)?;
            }
        }
        self.command(7, "XSETID")?;
        self.bulk(key)?;
        self.id(stream.last_id())?;
        self.bulk(b"ENTRIESADDED")?;
        self.int(stream.entries_added() as i64)?;
        self.bulk(b"MAXDELETEDID")?;
        self.id(stream.max_deleted_id())?;
        stream.groups().try_for_each(|group| self.group(key, group))
    }

    fn group(&mut self, key: &[u8], group: &Group) -> Done {
        self.command(7, "XGROUP")?;
        self.bulk(b"CREATE")?;
        self.bulk(key)?;
        self.bulk(group.name())?;
        self.id(group.last_id)?;
        self.bulk(b"ENTRIESREAD")?;
        self.int(group.entries_read.unwrap_or(UNKNOWN))?;
        group
            .consumers()
            .try_for_each(|consumer| self.consumer(key, group, consumer))
    }

    fn consumer(&mut self, key: &[u8], group: &Group, consumer: &Consumer) -> Done {
        if consumer.pending() == 0 {
            self.command(5, "XGROUP")?;
            self.bulk(b"CREATECONSUMER")?;
            self.bulk(key)?;
            self.bulk(group.name())?;
            return self.bulk(consumer.name());
        }
        for id in consumer.pending_from(StreamId::MIN) {
            // (It is in the group's list too.)
            let Some(nack) = group.nack(id) else {
                continue;
            };
            self.command(12, "XCLAIM")?;
            self.bulk(key)?;
            self.bulk(group.name())?;
            self.bulk(consumer.name())?;
            self.bulk(b"0")?;
            self.id(id)?;
            self.bulk(b"TIME")?;
            self.int(nack.delivered_ms)?;
            self.bulk(b"RETRYCOUNT")?;
            self.int(nack.deliveries as i64)?;
            self.bulk(b"JUSTID")?;
            self.bulk(b"FORCE")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aof::reader::{Reader, Step};
    use crate::db::keyspace::Databases;
    use crate::ds::dict::HashKey;
    use crate::object::list::{ListRules, NewElem};
    use crate::object::{Container, Value};

    const LIST_RULES: ListRules = ListRules {
        fill: -2,
        depth: 0,
        plain_from: 6000,
    };

    fn lines(log: &[u8]) -> Vec<String> {
        let mut reader = Reader::new(log, None);
        let mut lines = Vec::new();
        while !matches!(reader.step(1).unwrap(), Step::End(_)) {
            let (batch, buffer) = reader.batch();
            if !batch.is_empty() {
                let argv: Vec<&[u8]> = batch.argv(0, buffer).iter().collect();
                lines.push(argv.join(&b' ').escape_ascii().to_string());
            }
        }
        lines
    }

    #[test]
    fn a_log_of_the_data() {
        let mut dbs = Databases::new(4, HashKey::new(1, 2));
        let mut put = |db: u32, key: &[u8], value: Value<'_>, expiry_ms| {
            let hash = dbs.hash(key);
            dbs.db_mut(db)
                .insert(hash, Entry::new(key, value, expiry_ms, 0));
        };
        let elems: Vec<String> = (0..130).map(|n| format!("e{n}")).collect();
        let list = List::of(
            elems.iter().map(|e| NewElem::from(e.as_bytes())),
            &LIST_RULES,
        );
        put(0, b"k", Value::Bytes(b"a\r\n"), Some(9_999_999_999_999));
        put(2, b"list", Value::Heap(list.into_heap()), None);
        put(3, b"empty", Value::Heap(Stream::new().into_heap()), None);
        let (progress, libraries) = (Progress::default(), [&b"#!lua name=x"[..]]);
        let log = write_log(
            Vec::new(),
            dbs.snapshot(),
            libraries.into_iter(),
            Some(1_700_000_000),
            &progress,
        );
        let (log, written) = log.unwrap();
        assert_eq!((log.len() as u64, progress.keys()), (written, 3));
        assert!(
            log.starts_with(b"#TS:1700000000\r\n*3\r\n$8\r\nFUNCTION\r\n$4\r\nLOAD\r\n$12\r\n")
        );
        let want = [
            "FUNCTION LOAD #!lua name=x",
            "SELECT 0",
            "SET k a\\r\\n",
            "PEXPIREAT k 9999999999999",
            "SELECT 2",
            &format!("RPUSH list {}", elems[..64].join(" ")),
            &format!("RPUSH list {}", elems[64..128].join(" ")),
            "RPUSH list e128 e129",
            "SELECT 3",
            "XADD empty MAXLEN 0 0-1 x y",
            "XSETID empty 0-0 ENTRIESADDED 0 MAXDELETEDID 0-0",
        ];
        assert_eq!(lines(&log), want);
        progress.cancel();
        let cancelled = write_log(Vec::new(), dbs.snapshot(), [].into_iter(), None, &progress);
        assert!(matches!(cancelled, Err(SaveError::Cancelled)));
    }
}
