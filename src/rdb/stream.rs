//! Streams, both ways.
//!
//! ```text
//! | nodes | (ID of the node, 16 bytes BE, a string) (listpack) ... |
//! | entries | last ID | first ID | largest ID deleted | entries ever added |      IDs as two lengths; the first
//! | groups | group ... |                                                          version ends with the last ID
//!
//! group    = | name | last ID | entries read | pending | (ID 16 bytes BE, ms, deliveries) ...    since the second
//!            | consumers | consumer ... |                                         version: entries read
//! consumer = | name | ms seen | ms active | pending | ID 16 bytes BE ... |        active: since the third
//! ```
//! What a consumer owes is written twice: the group's records say when and how often, the consumer's IDs say whose they are.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use super::encode::Version;
use super::form::kind;
use super::sink::{SaveError, Sink};
use super::source::{Error, Source};
use crate::ds::cow::Shared;
use crate::ds::stream::{Group, Nack, Node, StreamId};
use crate::object::Stream;

type Done = Result<(), SaveError>;

/// What stands for a count or a time that is not known.
const UNKNOWN: i64 = -1;

fn id_bytes(id: StreamId) -> [u8; 16] {
    (u128::from(id.ms) << 64 | u128::from(id.seq)).to_be_bytes()
}

fn id_of(bytes: [u8; 16]) -> StreamId {
    let both = u128::from_be_bytes(bytes);
    StreamId::new((both >> 64) as u64, both as u64)
}

/// Writes a stream.
pub fn write<W: Write>(sink: &mut Sink<'_, W>, stream: &Stream, version: Version) -> Done {
    sink.length(stream.node_count() as u64)?;
    for node in stream.nodes() {
        sink.string(&id_bytes(node.first_id()))?;
        sink.string(node.to_listpack().bytes())?;
    }
    sink.length(stream.len())?;
    let ids = [stream.last_id(), stream.first_id(), stream.max_deleted_id()];
    for id in ids {
        sink.length(id.ms)?;
        sink.length(id.seq)?;
    }
    sink.length(stream.entries_added())?;
    sink.length(stream.group_count() as u64)?;
    stream
        .groups()
        .try_for_each(|group| write_group(sink, group, version))
}

fn write_group<W: Write>(sink: &mut Sink<'_, W>, group: &Group, version: Version) -> Done {
    sink.string(group.name())?;
    sink.length(group.last_id.ms)?;
    sink.length(group.last_id.seq)?;
    sink.length(group.entries_read.unwrap_or(UNKNOWN) as u64)?;
    sink.length(group.pending() as u64)?;
    for nack in group.pending_from(StreamId::MIN) {
        sink.raw(&id_bytes(nack.id))?;
        sink.signed(nack.delivered_ms)?;
        sink.length(nack.deliveries)?;
    }
    sink.length(group.consumer_count() as u64)?;
    for consumer in group.consumers() {
        sink.string(consumer.name())?;
        sink.signed(consumer.seen_ms)?;
        if version >= Version::V11 {
            sink.signed(consumer.active_ms.unwrap_or(UNKNOWN))?;
        }
        sink.length(consumer.pending() as u64)?;
        for id in consumer.pending_from(StreamId::MIN) {
            sink.raw(&id_bytes(id))?;
        }
    }
    Ok(())
}

fn read_id<R: Read>(source: &mut Source<R>) -> Result<StreamId, Error> {
    Ok(StreamId::new(source.length()?, source.length()?))
}

/// Reads a stream of that type. With `deep`, a pending entry that no consumer owes is an error; otherwise it is dropped.
pub fn read<R: Read>(source: &mut Source<R>, kind: u8, deep: bool) -> Result<Stream, Error> {
    let mut stream = read_nodes(source)?;
    let length = source.length()?;
    if length != stream.len() {
        return Err(source.corrupt("Stream length inconsistent with rax entries"));
    }
    let last_id = read_id(source)?;
    if kind == kind::STREAM {
        stream.set_ids(last_id, Some(length), None);
    } else {
        // The first ID follows from the entries.
        read_id(source)?;
        let max_deleted_id = read_id(source)?;
        stream.set_ids(last_id, Some(source.length()?), Some(max_deleted_id));
    }
    let groups = source.length()?;
    for _ in 0..groups {
        let group = read_group(source, &stream, kind, deep)?;
        if !stream.add_group(group) {
            return Err(source.corrupt("Duplicated consumer group name"));
        }
    }
    Ok(stream)
}

fn read_nodes<R: Read>(source: &mut Source<R>) -> Result<Stream, Error> {
    let count = source.length()?;
    let mut nodes = Vec::new();
    for _ in 0..count {
        source.load()?;
        let Ok(id) = <[u8; 16]>::try_from(source.loaded()) else {
            return Err(source.corrupt("Stream node key entry is not the size of a stream ID"));
        };
        source.load()?;
        let node = Node::from_listpack(id_of(id), source.loaded())
            .map_err(|_| source.corrupt("Stream listpack integrity check failed."))?;
        nodes.push(node);
    }
    Stream::from_nodes(nodes).map_err(|_| source.corrupt("Listpack re-added with existing key"))
}

/// A pending entry before its consumer is known: when it was delivered last, and how often.
type Pending = BTreeMap<StreamId, (i64, u64)>;

fn read_group<R: Read>(
    source: &mut Source<R>,
    stream: &Stream,
    kind: u8,
    deep: bool,
) -> Result<Group, Error> {
    let name = source.text()?.into_vec();
    let last_id = read_id(source)?;
    let entries_read = match kind {
        kind::STREAM => stream.entries_up_to(last_id),
        _ => Some(source.length()? as i64).filter(|&read| read != UNKNOWN),
    };
    let mut group = Group::new(&name, last_id, entries_read);
    let count = source.length()?;
    let mut pending = Pending::new();
    for _ in 0..count {
        let id = id_of(source.array()?);
        let record = (source.signed()?, source.length()?);
        if pending.insert(id, record).is_some() {
            return Err(source.corrupt("Duplicated global PEL entry loading stream consumer group"));
        }
    }
    let consumers = source.length()?;
    for _ in 0..consumers {
        read_consumer(source, &mut group, &mut pending, kind)?;
    }
    if deep && !pending.is_empty() {
        return Err(source.corrupt("Stream CG PEL entry without consumer"));
    }
    Ok(group)
}

/// Reads a consumer, whose entries leave `pending` for the group.
fn read_consumer<R: Read>(
    source: &mut Source<R>,
    group: &mut Group,
    pending: &mut Pending,
    kind: u8,
) -> Result<(), Error> {
    let name = source.text()?.into_vec();
    let seen_ms = source.signed()?;
    let active_ms = match kind {
        kind::STREAM_3 => source.signed()?,
        // The best there is.
        _ => seen_ms,
    };
    if !group.add_consumer(&name, seen_ms) {
        return Err(source.corrupt("Duplicate stream consumer detected."));
    }
    if let Some(consumer) = group.consumer_mut(&name) {
        consumer.active_ms = Some(active_ms).filter(|&ms| ms != UNKNOWN);
    }
    let count = source.length()?;
    for _ in 0..count {
        let id = id_of(source.array()?);
        let Some((delivered_ms, deliveries)) = pending.remove(&id) else {
            return Err(source.corrupt("Consumer entry not found in group global PEL"));
        };
        let nack = Nack {
            id,
            consumer: Shared::new(name[..].into()),
            delivered_ms,
            deliveries,
        };
        if !group.restore(nack, &name) {
            return Err(
                source.corrupt("Duplicated consumer PEL entry loading a stream consumer group")
            );
        }
    }
    Ok(())
}
