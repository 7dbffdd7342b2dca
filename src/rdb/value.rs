//! Values as they are read: each type of each version becomes one of our containers.
//!
//! Which form a container takes is decided by the configuration of the day and not by what the file has, as far as Redis
//! does so: a collection with too many elements for a listpack is unpacked, but the length of elements that lie in one is
//! not looked at; what comes element by element begins as if it were added by commands.
//!
//! Listpacks and intsets are always checked to the last byte: a walk costs little, and everything above relies on them.
//! What `deep` adds is the search for elements that stand twice, which costs more.

use std::io::Read;

use bytes::Bytes;

use super::form::{NODE_PACKED, NODE_PLAIN, kind};
use super::packed::{listpack_of, ziplist_elems, zipmap_elems};
use super::source::{Error, Reason, Source};
use super::stream;
use crate::config::Config;
use crate::ds::dict::HashKey;
use crate::ds::intset::{Ints, Intset};
use crate::ds::listpack::{Elem, Listpack, Pack};
use crate::ds::member::Member;
use crate::ds::quicklist::{Node, Quicklist, Whole};
use crate::ds::zset::Member as ScoredMember;
use crate::object::hash::HashRules;
use crate::object::list::{End, ListRules};
use crate::object::set::SetRules;
use crate::object::table::Table;
use crate::object::value::{COMPACT_MAX, Compact};
use crate::object::zset::Rules as ZsetRules;
use crate::object::{Container, Entry, Hash, List, Set, Value, Zset};

/// What the configuration says of the containers that are made.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub list: ListRules,
    pub set: SetRules,
    pub hash: HashRules,
    pub zset: ZsetRules,
    /// Small collections are searched for elements that stand twice (`sanitize-dump-payload`).
    pub deep: bool,
}

impl Rules {
    /// As the configuration has them. `hash_key` is the keyspace's; list elements of `plain_from` bytes have nodes of
    /// their own.
    pub fn new(config: &Config, hash_key: HashKey, plain_from: usize, deep: bool) -> Rules {
        Rules {
            list: ListRules {
                fill: config.list_max_listpack_size,
                depth: config.list_compress_depth,
                plain_from,
            },
            set: SetRules {
                intset_entries: config.set_max_intset_entries,
                listpack_entries: config.set_max_listpack_entries,
                listpack_value: config.set_max_listpack_value,
                hash_key,
            },
            hash: HashRules {
                listpack_entries: config.hash_max_listpack_entries,
                listpack_value: config.hash_max_listpack_value,
                hash_key,
            },
            zset: ZsetRules {
                entries_max: config.zset_max_listpack_entries,
                value_max: config.zset_max_listpack_value,
                hash_key,
            },
            deep,
        }
    }
}

type Made<T> = Result<Option<T>, Error>;

const ZSET_TWINS: &str = "Duplicate zset fields detected";

/// A count of a file, as far as one can be in memory.
fn expected(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Reads a value of a type. `None`: it is a collection without elements, which no key may hold.
#[inline]
pub fn read<'s, R: Read>(source: &'s mut Source<R>, kind: u8, rules: &Rules) -> Made<Value<'s>> {
    if kind == kind::STRING {
        return source.value().map(Some);
    }
    read_container(source, kind, rules)
}

fn read_container<'s, R: Read>(
    source: &'s mut Source<R>,
    kind: u8,
    rules: &Rules,
) -> Made<Value<'s>> {
    match kind {
        kind::LIST => read_list(source, rules).map(|made| laid_out(source, made)),
        kind::LIST_ZIPLIST => read_list_ziplist(source, rules).map(|made| laid_out(source, made)),
        kind::LIST_QUICKLIST | kind::LIST_QUICKLIST_2 => {
            read_quicklist(source, kind, rules).map(|made| laid_out(source, made))
        }
        kind::SET => read_set(source, rules).map(|made| laid_out(source, made)),
        kind::SET_INTSET => read_intset(source, rules),
        kind::SET_LISTPACK => read_set_listpack(source, rules),
        kind::ZSET | kind::ZSET_2 => {
            read_zset(source, kind, rules).map(|made| laid_out(source, made))
        }
        kind::ZSET_ZIPLIST | kind::ZSET_LISTPACK => {
            read_zset_packed(source, kind, rules).map(|made| laid_out(source, made))
        }
        kind::HASH => read_hash(source, rules).map(|made| laid_out(source, made)),
        kind::HASH_LISTPACK => read_hash_listpack(source, rules),
        kind::HASH_ZIPMAP | kind::HASH_ZIPLIST => {
            read_hash_packed(source, kind, rules).map(|made| laid_out(source, made))
        }
        kind::STREAM | kind::STREAM_2 | kind::STREAM_3 => {
            stream::read(source, kind, rules.deep).map(|made| laid_out(source, Some(made)))
        }
        kind::MODULE_PRE_GA => Err(source.corrupt("Pre-release module format not supported")),
        kind::MODULE_2 => {
            let id = source.length()?;
            Err(source.error(Reason::Module(module_name(id))))
        }
        kind::HASH_EXPIRING_FIRST..=kind::HASH_EXPIRING_LAST => Err(source.corrupt(
            "The RDB file contains a hash whose fields expire, which this version does not support",
        )),
        _ => Err(source.error(Reason::Kind(kind))),
    }
}

/// The container as a value: a small one as bytes that the source lends.
fn laid_out<C: Container, R: Read>(source: &mut Source<R>, made: Option<C>) -> Option<Value<'_>> {
    let made = made?;
    Some(match made.compact() {
        None => Value::Heap(made.into_heap()),
        Some(Compact::HashListpack(bytes)) => {
            Value::Compact(Compact::HashListpack(source.keep(bytes)))
        }
        Some(Compact::SetListpack(bytes)) => {
            Value::Compact(Compact::SetListpack(source.keep(bytes)))
        }
        Some(Compact::SetIntset(bytes)) => Value::Compact(Compact::SetIntset(source.keep(bytes))),
    })
}

/// The name of a module's type, from its number: nine characters of six bits, above ten bits of a version.
pub fn module_name(id: u64) -> String {
    const CHARACTERS: &[u8; 64] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9)
        .rev()
        .map(|i| char::from(CHARACTERS[(id >> (10 + 6 * i)) as usize & 63]))
        .collect()
}

// --- Lists -----------------------------------------------------------------------------------------------------

fn quicklist(rules: &ListRules) -> Quicklist {
    Quicklist::from_nodes(std::iter::empty(), rules.fill, rules.depth)
}

fn read_list<R: Read>(source: &mut Source<R>, rules: &Rules) -> Made<List> {
    let count = source.length()?;
    let mut list = quicklist(&rules.list);
    for _ in 0..count {
        let text = source.text()?;
        let mut digits = itoa::Buffer::new();
        let text = text.bytes(&mut digits);
        list.push(End::Tail, text.into(), rules.list.plain_from);
    }
    Ok((count > 0).then(|| List::from_quicklist(list).packed(&rules.list)))
}

fn read_list_ziplist<R: Read>(source: &mut Source<R>, rules: &Rules) -> Made<List> {
    source.load()?;
    let elems = ziplist_elems(source.loaded())
        .ok_or_else(|| source.corrupt("List ziplist integrity check failed."))?;
    let mut list = quicklist(&rules.list);
    for elem in &elems {
        let mut digits = itoa::Buffer::new();
        let text = elem.text(&mut digits);
        list.push(End::Tail, text.into(), rules.list.plain_from);
    }
    // Redis leaves it a quicklist, however short.
    Ok((!elems.is_empty()).then(|| List::from_quicklist(list)))
}

fn read_quicklist<R: Read>(source: &mut Source<R>, kind: u8, rules: &Rules) -> Made<List> {
    let count = source.length()?;
    let mut nodes = Vec::new();
    for _ in 0..count {
        let container = match kind {
            kind::LIST_QUICKLIST_2 => source.length()?,
            _ => NODE_PACKED,
        };
        match container {
            NODE_PLAIN => {
                let bytes = Bytes::from(source.text()?.into_vec());
                if bytes.is_empty() {
                    return Err(source.corrupt("Quicklist integrity check failed."));
                }
                nodes.push(Node::Whole(Box::new(Whole { bytes, plain: true })));
            }
            NODE_PACKED => {
                let list = match kind {
                    kind::LIST_QUICKLIST_2 => {
                        read_listpack(source, "Listpack integrity check failed.")?
                    }
                    _ => read_ziplist(source, "Ziplist integrity check failed.")?,
                };
                // One without elements is passed over.
                if !list.is_empty() {
                    nodes.push(Node::Packed(list));
                }
            }
            _ => return Err(source.corrupt("Quicklist integrity check failed.")),
        }
    }
    if nodes.is_empty() {
        return Ok(None);
    }
    let list = Quicklist::from_nodes(nodes, rules.list.fill, rules.list.depth);
    Ok(Some(List::from_quicklist(list).packed(&rules.list)))
}

fn read_listpack<R: Read>(source: &mut Source<R>, what: &'static str) -> Result<Listpack, Error> {
    source.load()?;
    Listpack::from_bytes(source.loaded(), true).map_err(|_| source.corrupt(what))
}

fn read_ziplist<R: Read>(source: &mut Source<R>, what: &'static str) -> Result<Listpack, Error> {
    source.load()?;
    ziplist_elems(source.loaded())
        .and_then(|elems| listpack_of(&elems))
        .ok_or_else(|| source.corrupt(what))
}

/// True if an element stands twice; with a `step` of 2, every other one is looked at.
fn has_twins(list: Pack<'_>, step: usize) -> bool {
    // A text that writes an integer is that integer, whichever way it is stored.
    let mut elems: Vec<(Option<i64>, &[u8])> = list
        .iter()
        .step_by(step)
        .map(|elem| match (elem.as_int(), elem) {
            (None, Elem::Str(text)) => (None, text),
            (int, _) => (int, &b""[..]),
        })
        .collect();
    elems.sort_unstable();
    elems.windows(2).any(|pair| pair[0] == pair[1])
}

// --- Sets ------------------------------------------------------------------------------------------------------

fn read_set<R: Read>(source: &mut Source<R>, rules: &Rules) -> Made<Set> {
    const TWINS: &str = "Duplicate set members detected";
    let count = source.length()?;
    if count > rules.set.intset_entries as u64 {
        let mut left = count;
        let table = Table::filled(rules.set.hash_key, expected(count), || {
            let Some(less) = left.checked_sub(1) else {
                return Ok(None);
            };
            left = less;
            let text = source.text()?;
            Ok(Some(Member::new(text.bytes(&mut itoa::Buffer::new()))))
        })?;
        let table = table.ok_or_else(|| source.corrupt(TWINS))?;
        return Ok(Some(Set::from_table(table)));
    }
    let mut set = Set::of_integers();
    for _ in 0..count {
        let text = source.text()?;
        if !set.add(text.elem(), &rules.set) {
            return Err(source.corrupt(TWINS));
        }
    }
    Ok((count > 0).then_some(set))
}

fn read_intset<'s, R: Read>(source: &'s mut Source<R>, rules: &Rules) -> Made<Value<'s>> {
    source.load()?;
    let Ok(ints) = Ints::parse(source.loaded(), true) else {
        return Err(source.corrupt("Intset integrity check failed."));
    };
    if ints.len() <= rules.set.intset_entries && ints.bytes().len() <= COMPACT_MAX {
        return Ok(Some(Value::Compact(Compact::SetIntset(source.loaded()))));
    }
    let mut set = Set::from_intset(Intset::copy_of(ints));
    set.settle(&rules.set);
    Ok(laid_out(source, Some(set)))
}

fn read_set_listpack<'s, R: Read>(source: &'s mut Source<R>, rules: &Rules) -> Made<Value<'s>> {
    source.load()?;
    let pack = match Pack::parse(source.loaded(), true) {
        Ok(pack) if !(rules.deep && has_twins(pack, 1)) => pack,
        _ => return Err(source.corrupt("Set listpack integrity check failed.")),
    };
    if pack.is_empty() {
        return Ok(None);
    }
    if pack.len() <= rules.set.listpack_entries && pack.bytes().len() <= COMPACT_MAX {
        return Ok(Some(Value::Compact(Compact::SetListpack(source.loaded()))));
    }
    let mut set = Set::from_listpack(Listpack::from_pack(pack));
    set.settle(&rules.set);
    Ok(laid_out(source, Some(set)))
}

// --- Sorted sets -----------------------------------------------------------------------------------------------

fn read_zset<R: Read>(source: &mut Source<R>, kind: u8, rules: &Rules) -> Made<Zset> {
    let count = source.length()?;
    if count > rules.zset.entries_max as u64 {
        return read_large_zset(source, kind, count, rules);
    }
    let mut members = Vec::new();
    for _ in 0..count {
        let member = source.text()?.into_vec();
        members.push((member, read_score(source, kind)?));
    }
    let members = members.iter().map(|(text, score)| (&text[..], *score));
    match Zset::from_unsorted(&rules.zset, members.collect()) {
        Some(zset) => Ok((count > 0).then_some(zset)),
        None => Err(source.corrupt(ZSET_TWINS)),
    }
}

fn read_large_zset<R: Read>(
    source: &mut Source<R>,
    kind: u8,
    count: u64,
    rules: &Rules,
) -> Made<Zset> {
    let mut members = Vec::new();
    for _ in 0..count {
        let text = source.text()?;
        let mut member = ScoredMember::new(0.0, text.bytes(&mut itoa::Buffer::new()));
        member.set_score(read_score(source, kind)?);
        members.push(member);
    }
    // Files have them from the last to the first.
    members.reverse();
    let made = Zset::from_members(&rules.zset, members);
    made.map(Some).ok_or_else(|| source.corrupt(ZSET_TWINS))
}

fn read_score<R: Read>(source: &mut Source<R>, kind: u8) -> Result<f64, Error> {
    let score = match kind {
        kind::ZSET => source.double_text()?,
        _ => source.double()?,
    };
    match score.is_nan() {
        true => Err(source.corrupt("Zset with NAN score detected")),
        false => Ok(score),
    }
}

fn read_zset_packed<R: Read>(source: &mut Source<R>, kind: u8, rules: &Rules) -> Made<Zset> {
    let what = match kind {
        kind::ZSET_ZIPLIST => "Zset ziplist integrity check failed.",
        _ => "Zset listpack integrity check failed.",
    };
    let list = match kind {
        kind::ZSET_ZIPLIST => read_ziplist(source, what)?,
        _ => read_listpack(source, what)?,
    };
    // Ziplists are always searched, since they are unpacked anyway.
    if (rules.deep || kind == kind::ZSET_ZIPLIST) && has_twins(list.pack(), 2) {
        return Err(source.corrupt(what));
    }
    let zset = Zset::from_listpack(&rules.zset, list).ok_or_else(|| source.corrupt(what))?;
    Ok((!zset.is_empty()).then_some(zset))
}

// --- Hashes ----------------------------------------------------------------------------------------------------

fn read_hash<R: Read>(source: &mut Source<R>, rules: &Rules) -> Made<Hash> {
    const TWINS: &str = "Duplicate hash fields detected";
    let count = source.length()?;
    let (mut field, mut digits) = (Vec::new(), itoa::Buffer::new());
    if count > rules.hash.listpack_entries as u64 {
        let mut left = count;
        let table = Table::filled(rules.hash.hash_key, expected(count), || {
            let Some(less) = left.checked_sub(1) else {
                return Ok(None);
            };
            left = less;
            field.clear();
            field.extend_from_slice(source.text()?.bytes(&mut digits));
            let value = source.text()?.into_value();
            Ok(Some(Entry::new(&field, value, None, 0)))
        })?;
        let table = table.ok_or_else(|| source.corrupt(TWINS))?;
        return Ok(Some(Hash::from_table(table)));
    }
    let mut hash = Hash::new();
    for _ in 0..count {
        field.clear();
        field.extend_from_slice(source.text()?.bytes(&mut digits));
        let value = source.text()?;
        let is_new = if hash.view().as_table().is_some() {
            hash.set_value(&field, b"", || value.into_value(), &rules.hash)
        } else {
            hash.set(&field, value.bytes(&mut digits), &rules.hash)
        };
        if !is_new {
            return Err(source.corrupt(TWINS));
        }
    }
    Ok((count > 0).then_some(hash))
}

fn read_hash_listpack<'s, R: Read>(source: &'s mut Source<R>, rules: &Rules) -> Made<Value<'s>> {
    source.load()?;
    let pack = match Pack::parse(source.loaded(), true) {
        Ok(pack) if pack.len() % 2 == 0 && !(rules.deep && has_twins(pack, 2)) => pack,
        _ => return Err(source.corrupt("Hash listpack integrity check failed.")),
    };
    if pack.is_empty() {
        return Ok(None);
    }
    let small = pack.len() / 2 <= rules.hash.listpack_entries;
    if small && pack.bytes().len() <= COMPACT_MAX {
        return Ok(Some(Value::Compact(Compact::HashListpack(source.loaded()))));
    }
    let mut hash = Hash::from_listpack(Listpack::from_pack(pack));
    if !small {
        hash.table(&rules.hash);
    }
    Ok(laid_out(source, Some(hash)))
}

/// Reads a packing of old versions. It is unpacked anyway, so it is always searched for fields that stand twice.
fn read_hash_packed<R: Read>(source: &mut Source<R>, kind: u8, rules: &Rules) -> Made<Hash> {
    source.load()?;
    let (what, elems) = match kind {
        kind::HASH_ZIPMAP => (
            "Zipmap integrity check failed.",
            zipmap_elems(source.loaded()),
        ),
        _ => (
            "Hash ziplist integrity check failed.",
            ziplist_elems(source.loaded()),
        ),
    };
    // Of a zipmap the length of elements is looked at too.
    let longest = match (kind, &elems) {
        (kind::HASH_ZIPMAP, Some(elems)) => elems.iter().map(|elem| elem.text_len()).max(),
        _ => None,
    };
    let list = match elems.and_then(|elems| listpack_of(&elems)) {
        Some(list) if list.len() % 2 == 0 && !has_twins(list.pack(), 2) => list,
        _ => return Err(source.corrupt(what)),
    };
    let small = list.len() / 2 <= rules.hash.listpack_entries
        && longest.unwrap_or(0) <= rules.hash.listpack_value;
    let mut hash = Hash::from_listpack(list);
    if !small {
        hash.table(&rules.hash);
    }
    Ok((!Container::is_empty(&hash)).then_some(hash))
}
