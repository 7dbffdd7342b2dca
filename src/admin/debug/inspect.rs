//! The subcommands of DEBUG that look at keys and tables, and the one that makes many keys.
//!
//! Most see keys as they lie there: one whose time is over and that nobody has deleted yet is a key.

use std::fmt::Write;
use std::ops::ControlFlow;

use crate::admin::digest;
use crate::base::number;
use crate::cmd::fault::{Fault, NO_SUCH_KEY, NOT_INTEGER};
use crate::cmd::keys::{Ttl, access_clock};
use crate::cmd::session::Marks;
use crate::cmd::{Args, CmdResult, DONE, is_word};
use crate::ds::dict::{Dict, Stats};
use crate::ds::listpack::{Listpack, Pack};
use crate::ds::quicklist::{End, Node, Quicklist};
use crate::ds::tree::Leaf;
use crate::exec::Call;
use crate::exec::server::Server;
use crate::object::{Encoding, Entry, Value, ValueRef};
use crate::rdb;

fn entry<'a>(call: &'a mut Call<'_>, key: &[u8]) -> Result<&'a Entry, Fault> {
    let db = call.session().db;
    let dbs = &call.server.dbs;
    dbs.db(db).get(dbs.hash(key), key).ok_or(NO_SUCH_KEY)
}

/// Looks a key up as OBJECT does: one whose time is over is gone.
fn must_live(call: &mut Call<'_>, key: &[u8]) -> Result<(), Fault> {
    let db = call.session().db;
    let found = call.server.keys(db).read_quietly(key).is_some();
    found.then_some(()).ok_or(NO_SUCH_KEY)
}

/// DEBUG OBJECT key
pub fn object(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let clock = access_clock(&call.server.config, call.server.now.ms());
    let compressed = call.server.config.rdbcompression;
    let entry = entry(call, args.argv()[2])?;
    let text = format!(
        "Value at:{:p} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
        entry.key().as_ptr(),
        entry.encoding().name(),
        rdb::saved_len(entry, compressed),
        entry.access(),
        clock.idle_ms(entry.access()) / 1000,
    );
    let text = match entry.value() {
        ValueRef::List(list) => text + &list.quicklist().map(nodes_text).unwrap_or_default(),
        _ => text,
    };
    call.reply().status(text);
    DONE
}

/// DEBUG SDSLEN key. There are no sds here: key and a small value lie in the entry's allocation, and both
/// have its size.
pub fn sdslen(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let entry = entry(call, args.argv()[2])?;
    let text = match entry.as_str() {
        Ok(text) if entry.encoding() != Encoding::Int => text,
        _ => return Err(Fault::new("ERR Not an sds encoded string.")),
    };
    let (key, value, bytes) = (entry.key().len(), text.len(), entry.memory_bytes());
    call.reply().status(format!(
        "key_sds_len:{key}, key_sds_avail:0, key_zmalloc: {bytes}, val_sds_len:{value}, val_sds_avail:0, val_zmalloc: {bytes}"
    ));
    DONE
}

/// What DEBUG OBJECT says of a quicklist's nodes.
fn nodes_text(list: &Quicklist) -> String {
    let nodes = list.node_count();
    let bytes: usize = list.nodes().map(Node::size).sum();
    format!(
        " ql_nodes:{nodes} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:{} ql_uncompressed_size:{bytes}",
        list.len() as f64 / nodes as f64,
        list.limits().fill(),
        i32::from(list.compress_depth() != 0),
    )
}

/// DEBUG LISTPACK key: prints what is in it.
pub fn listpack(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    must_live(call, args.argv()[2])?;
    let text = match entry(call, args.argv()[2])?.value() {
        ValueRef::List(list) => list.listpack().map(Listpack::pack),
        ValueRef::Set(set) => set.listpack(),
        ValueRef::Hash(hash) => hash.listpack(),
        ValueRef::Zset(zset) => zset.listpack().map(Listpack::pack),
        ValueRef::Str(_) | ValueRef::Stream(_) => None,
    };
    let Some(list) = text else {
        return Err(Fault::new("ERR Not a listpack encoded object."));
    };
    print!("{}", listpack_text(list));
    call.reply().status("Listpack structure printed on stdout");
    DONE
}

fn listpack_text(list: Pack<'_>) -> String {
    let mut text = format!(
        "{{total bytes {}}} {{num entries {}}}\n",
        list.bytes().len(),
        list.len()
    );
    for (index, elem) in list.iter().enumerate() {
        let shown = crate::base::quoted::quote(elem.text(&mut itoa::Buffer::new()));
        let _ = writeln!(text, "{index:4}: {:4} bytes {shown}", elem.entry_bytes());
    }
    text.push_str("{end}\n\n");
    text
}

/// DEBUG QUICKLIST key [0|1]: prints its nodes, and with 1 what is in them.
pub fn quicklist(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let full = match args.argv().get(3) {
        Some(arg) => number::parse_i64(arg).ok_or(NOT_INTEGER)? != 0,
        None => false,
    };
    must_live(call, args.argv()[2])?;
    let ValueRef::List(list) = entry(call, args.argv()[2])?.value() else {
        return Err(NOT_QUICKLIST);
    };
    let list = list.quicklist().ok_or(NOT_QUICKLIST)?;
    print!("{}", quicklist_text(list, full));
    call.reply().status("Quicklist structure printed on stdout");
    DONE
}

const NOT_QUICKLIST: Fault = Fault::new("ERR Not a quicklist encoded object.");

fn quicklist_text(list: &Quicklist, full: bool) -> String {
    let mut text = format!(
        "{{count : {}}}\n{{len : {}}}\n{{fill : {}}}\n{{compress : {}}}\n",
        list.len(),
        list.node_count(),
        list.limits().fill(),
        list.compress_depth()
    );
    let mut first = 0;
    for (index, node) in list.nodes().enumerate() {
        let container = if node.is_plain() { "PLAIN" } else { "PACKED" };
        let encoding = if node.is_compressed() { "LZF" } else { "RAW" };
        let _ = writeln!(
            text,
            "{{quicklist node({index}) container : {container}, encoding: {encoding}, size: {}, count: {}}}",
            node.size(),
            node.len()
        );
        if full {
            let until = first + node.len();
            list.walk(first, End::Tail, |item| {
                let _ = writeln!(text, "    {}", crate::base::quoted::quote(&item.to_vec()));
                first += 1;
                match first == until {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
        }
    }
    text
}

/// DEBUG DIGEST
pub fn digest(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    let digest = digest::of_databases(&call.server.dbs);
    call.reply().status(digest.to_string());
    DONE
}

/// DEBUG DIGEST-VALUE [key ...]
pub fn digest_value(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let keys = &args.argv()[2..];
    call.reply().array(keys.len());
    for key in keys {
        let digest = digest::of_value(entry(call, key).ok());
        call.reply().status(digest.to_string());
    }
    DONE
}

/// DEBUG HTSTATS db [full]: the table of keys, and what it knows of the keys that will expire, which have
/// no table of their own.
pub fn htstats(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let index = number::parse_i64(args.argv()[2]).ok_or(NOT_INTEGER)?;
    let dbs = &call.server.dbs;
    let index = usize::try_from(index).ok().filter(|&i| i < dbs.count());
    let Some(index) = index else {
        return Err(Fault::new("ERR Out of range database"));
    };
    let full = args.argv().get(3).is_some_and(|word| is_word(word, "full"));
    let db = dbs.db(index as u32);
    let text = format!(
        "[Dictionary HT]\n{}[Expires HT]\n{}",
        shape(&db.table_stats(), full),
        shape(
            &Stats {
                records: db.expiring_len(),
                ..Stats::default()
            },
            false
        )
    );
    call.reply().verbatim(b"txt", text.as_bytes());
    DONE
}

fn shape(stats: &Stats, full: bool) -> String {
    let mut text = String::from("Hash table 0 stats (main hash table):\n");
    if stats.records == 0 {
        text.push_str("No stats available for empty dictionaries\n");
        return text;
    }
    let _ = write!(
        text,
        " table size: {}\n number of elements: {}\n",
        stats.slots, stats.records
    );
    if full {
        let _ = write!(
            text,
            " pages: {}\n segments: {}\n bytes: {}\n elements outside their home group: {}\n most groups compared: {}\n",
            stats.pages, stats.segments, stats.bytes, stats.displaced, stats.longest_probe
        );
    }
    text
}

/// DEBUG HTSTATS-KEY key [full]
pub fn htstats_key(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    must_live(call, args.argv()[2])?;
    let full = args.argv().get(3).is_some_and(|word| is_word(word, "full"));
    let stats = match entry(call, args.argv()[2])?.value() {
        ValueRef::Set(set) => set.as_table().map(|table| table.dict().stats()),
        ValueRef::Hash(hash) => hash.as_table().map(|table| table.dict().stats()),
        ValueRef::Zset(zset) => zset.dict().map(Dict::stats),
        ValueRef::Str(_) | ValueRef::List(_) | ValueRef::Stream(_) => None,
    };
    let Some(stats) = stats else {
        return Err(Fault::new(
            "ERR The value stored at the specified key is not represented using an hash table",
        ));
    };
    let text = shape(&stats, full);
    call.reply().verbatim(b"txt", text.as_bytes());
    DONE
}

/// Clients are sorted by their memory into classes of powers of two, these the least and the greatest.
const CLASS_MIN: u32 = 15;
const CLASS_MAX: u32 = 33;

/// DEBUG CLIENT-EVICTION: how many clients there are of which size, and their memory together.
pub fn client_eviction(call: &mut Call<'_>, _: Args<'_>) -> CmdResult {
    if call.server.config.maxmemory_clients == 0 {
        return Err(Fault::new("ERR maxmemory-clients is disabled."));
    }
    let text = client_classes(call.server);
    call.reply().verbatim(b"txt", text.as_bytes());
    DONE
}

fn client_classes(server: &Server) -> String {
    let mut classes = [(0usize, 0usize); (CLASS_MAX - CLASS_MIN + 1) as usize];
    for (_, conn) in server.conns.iter() {
        if !conn
            .session
            .marks
            .has(Marks::NO_EVICT | Marks::MASTER | Marks::LINK | Marks::CLOSE_ASAP)
        {
            let bits = usize::BITS - conn.memory.leading_zeros();
            let class = &mut classes[(bits.clamp(CLASS_MIN, CLASS_MAX) - CLASS_MIN) as usize];
            class.0 += conn.memory;
            class.1 += 1;
        }
    }
    let mut text = String::new();
    for (bits, (memory, clients)) in (CLASS_MIN..).zip(classes) {
        let from = if bits == CLASS_MIN {
            0
        } else {
            1u64 << (bits - 1)
        };
        let range = if bits == CLASS_MAX {
            format!("{from:10}+            ")
        } else {
            format!("{from:10} - {:10}", (1u64 << bits) - 1)
        };
        let _ = writeln!(
            text,
            "bucket {range}: tot-mem: {memory:10}, clients: {clients}"
        );
    }
    text
}

const NOT_POSITIVE: Fault = Fault::new("ERR value is out of range, must be positive");
/// More keys than this fit into no memory.
const POPULATE_MAX: u64 = 1 << 40;

/// DEBUG POPULATE count [prefix [size]]: keys `prefix:0`, `prefix:1` ... with values `value:0` ..., filled
/// up with zeros to the size. Keys that are there stay; nothing is logged.
pub fn populate(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let natural = |arg: &[u8]| {
        let n = number::parse_i64(arg).and_then(|n| u64::try_from(n).ok());
        n.ok_or(NOT_POSITIVE)
    };
    let argv = args.argv();
    let count = natural(argv[2])?;
    if count > POPULATE_MAX {
        return Err(Fault::new("ERR OOM in dictTryExpand"));
    }
    let prefix = argv.get(3).copied().unwrap_or(b"key");
    let size = match argv.get(4) {
        Some(arg) => natural(arg)? as usize,
        None => 0,
    };
    let db = call.session().db;
    let mut keys = call.server.keys(db);
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for n in 0..count {
        key.clear();
        key.extend_from_slice(prefix);
        let _ = std::io::Write::write_fmt(&mut key, format_args!(":{n}"));
        if keys.write(&key).is_some() {
            continue;
        }
        value.clear();
        let _ = std::io::Write::write_fmt(&mut value, format_args!("value:{n}"));
        if size > 0 {
            value.resize(size, 0);
        }
        keys.set(&key, Value::from_text(&value), Ttl::Clear);
        keys.signal_modified(&key);
    }
    call.reply().ok();
    DONE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(text: &[u8]) -> u64 {
        let entry = Entry::new(b"k", Value::from_text(text), None, 0);
        rdb::saved_len(&entry, true)
    }

    /// What Redis 7.2.6 answers to DEBUG OBJECT.
    #[test]
    fn saved_sizes_are_those_of_rdb_files() {
        assert_eq!(saved(b"b"), 2);
        assert_eq!(saved(b"10"), 2);
        assert_eq!(saved(b"-129"), 3);
        assert_eq!(saved(b"65536"), 5);
        assert_eq!(saved(b"99999999999"), 12);
        assert_eq!(saved(b"twenty bytes of text"), 21);
        assert_eq!(saved(&[b'a'; 300]), 16);
        assert_eq!(saved(&[b'a'; 20_000]), 242);
    }
}
