//! Types that are no longer written, in bytes made by hand; heads and ends of files; and what is said of what is wrong.

use super::*;
use crate::base::checksum::crc64;
use crate::ds::listpack::Listpack;
use crate::rdb::form::kind;

/// A ziplist of these, all below 64 bytes.
fn ziplist(elems: &[&str]) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut last = 0;
    for elem in elems {
        let before = entries.len() - last;
        last = entries.len();
        entries.push(before as u8);
        match elem.parse::<i16>() {
            Ok(int @ 0..=12) => entries.push(0xf1 + int as u8),
            Ok(int) => {
                entries.push(0xc0);
                entries.extend_from_slice(&int.to_le_bytes());
            }
            Err(_) => {
                entries.push(elem.len() as u8);
                entries.extend_from_slice(elem.as_bytes());
            }
        }
    }
    let mut all = Vec::new();
    all.extend_from_slice(&(entries.len() as u32 + 11).to_le_bytes());
    all.extend_from_slice(&(last as u32 + 10).to_le_bytes());
    all.extend_from_slice(&(elems.len() as u16).to_le_bytes());
    all.extend_from_slice(&entries);
    all.push(0xff);
    all
}

fn payload(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut all = vec![kind];
    all.extend_from_slice(body);
    all.extend_from_slice(&[9, 0]);
    let checksum = crc64(&all);
    all.extend_from_slice(&checksum.to_le_bytes());
    all
}

/// A string as it is, of less than 64 bytes or less than 16384.
fn string(text: &[u8]) -> Vec<u8> {
    let head = match text.len() {
        len @ 0..64 => vec![len as u8],
        len => vec![0x40 | (len >> 8) as u8, len as u8],
    };
    [&head[..], text].concat()
}

fn texts(texts: &[&str]) -> Vec<Text> {
    texts.iter().map(|t| t.as_bytes().to_vec()).collect()
}

/// Each old type, with what it holds.
pub fn old_payloads() -> Vec<(Vec<u8>, Model, Encoding)> {
    let pair = |f: &str, v: &str| (f.as_bytes().to_vec(), v.as_bytes().to_vec());
    let scored = |m: &str, s: f64| (m.as_bytes().to_vec(), s);
    let list = |elems: &[&str]| Model::List(texts(elems));
    let hash = Model::Hash([pair("f", "v"), pair("9", "-5")].into());
    let zset = Model::Zset([scored("a", 1.5), scored("b", f64::INFINITY)].into());
    let two = [string(&ziplist(&["a", "7"])), string(&ziplist(&["b"]))].concat();
    let strings = |parts: &[&[u8]]| parts.iter().flat_map(|p| string(p)).collect::<Vec<u8>>();
    let intset = [&[2u8, 0, 0, 0, 3, 0, 0, 0][..], &[1, 0, 2, 0, 3, 0]].concat();
    vec![
        (
            payload(
                kind::LIST,
                &[&[3u8][..], &strings(&[b"a", b"7", b"b"])].concat(),
            ),
            list(&["a", "7", "b"]),
            Encoding::Listpack,
        ),
        (
            payload(kind::LIST_ZIPLIST, &string(&ziplist(&["a", "7", "300"]))),
            list(&["a", "7", "300"]),
            Encoding::Quicklist,
        ),
        (
            payload(kind::LIST_QUICKLIST, &[&[2u8][..], &two].concat()),
            list(&["a", "7", "b"]),
            Encoding::Quicklist,
        ),
        (
            payload(kind::SET_INTSET, &string(&intset)),
            Model::Set(texts(&["1", "2", "3"]).into_iter().collect()),
            Encoding::Intset,
        ),
        (
            payload(kind::ZSET, b"\x02\x01a\x031.5\x01b\xfe"),
            zset.clone(),
            Encoding::Listpack,
        ),
        (
            payload(
                kind::ZSET_ZIPLIST,
                &string(&ziplist(&["a", "1.5", "b", "inf"])),
            ),
            zset,
            Encoding::Listpack,
        ),
        (
            payload(
                kind::HASH_ZIPLIST,
                &string(&ziplist(&["f", "v", "9", "-5"])),
            ),
            hash.clone(),
            Encoding::Listpack,
        ),
        (
            payload(
                kind::HASH_ZIPMAP,
                &string(b"\x02\x01f\x01\x00v\x019\x02\x01-5_\xff"),
            ),
            hash,
            Encoding::Listpack,
        ),
    ]
}

#[test]
fn old_types_are_read() {
    for (payload, model, encoding) in old_payloads() {
        let entry = restored(&payload, &RULES).unwrap_or_else(|| panic!("{model:?}"));
        assert_eq!(content(entry.value()), model);
        assert_eq!(entry.encoding(), encoding, "{model:?}");
        // With room for less, what was packed is unpacked.
        let tight = Rules {
            set: SetRules {
                intset_entries: 1,
                ..RULES.set
            },
            hash: HashRules {
                listpack_entries: 1,
                ..RULES.hash
            },
            zset: ZsetRules {
                entries_max: 1,
                ..RULES.zset
            },
            ..RULES
        };
        let entry = restored(&payload, &tight).unwrap_or_else(|| panic!("{model:?}"));
        assert_eq!(content(entry.value()), model);
        let large = match model {
            Model::Set(_) | Model::Hash(_) => Encoding::Hashtable,
            Model::Zset(_) => Encoding::Skiplist,
            _ => encoding,
        };
        assert_eq!(entry.encoding(), large);
    }
}

/// The stream of version 5.0 to 6.2: without counts, and how far a group has come is guessed.
#[test]
fn the_first_form_of_a_stream() {
    let mut stream = Stream::new();
    let limits = NodeLimits {
        max_bytes: 0,
        max_entries: 0,
    };
    for i in 1..4 {
        stream.append(StreamId::new(i, 0), &[b"f", b"v"], limits);
    }
    let node = stream
        .nodes()
        .next()
        .map(|node| node.to_listpack())
        .unwrap();
    let mut body = vec![1, 16];
    body.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    body.extend_from_slice(&string(node.bytes()));
    body.extend_from_slice(&[3, 3, 0, 1, 1, b'g', 3, 0, 0, 0]);
    let entry = restored(&payload(kind::STREAM, &body), &RULES).unwrap();
    let ValueRef::Stream(back) = entry.value() else {
        panic!("no stream");
    };
    assert_eq!((back.len(), back.entries_added()), (3, 3));
    assert_eq!(back.first_id(), StreamId::new(1, 0));
    assert_eq!(back.group(b"g").map(|g| g.entries_read), Some(Some(3)));
}

fn reason(kind: u8, body: &[u8], rules: &Rules) -> String {
    let payload = payload(kind, body);
    let mut dump = Dump::open(&payload, true).unwrap();
    match dump.value(rules) {
        Ok(Some(_)) => "a value".to_string(),
        Ok(None) => "empty".to_string(),
        Err(error) => error.reason.to_string(),
    }
}

#[test]
fn what_is_wrong_is_said() {
    let listpack = |elems: &[&str]| {
        let list: Listpack = elems.iter().map(|e| Elem::Str(e.as_bytes())).collect();
        string(list.bytes())
    };
    let twins = listpack(&["a", "1", "a", "2"]);
    let shallow = Rules {
        deep: false,
        ..RULES
    };
    for (kind, what) in [
        (kind::HASH_LISTPACK, "Hash listpack integrity check failed."),
        (kind::SET_LISTPACK, "Set listpack integrity check failed."),
        (kind::ZSET_LISTPACK, "Zset listpack integrity check failed."),
    ] {
        assert_eq!(reason(kind, &twins, &RULES), what);
        assert_eq!(reason(kind, &twins, &shallow), "a value");
        assert_eq!(reason(kind, &listpack(&[]), &RULES), "empty");
        let mut torn = twins.clone();
        torn.pop();
        assert_eq!(
            reason(kind, &torn, &RULES),
            "Unexpected EOF reading RDB file"
        );
    }
    let three = listpack(&["a", "1", "b"]);
    assert_eq!(
        reason(kind::HASH_LISTPACK, &three, &shallow),
        "Hash listpack integrity check failed."
    );
    assert_eq!(
        reason(kind::ZSET_LISTPACK, &listpack(&["a", "x"]), &shallow),
        "Zset listpack integrity check failed."
    );
    for kind in [
        kind::LIST,
        kind::SET,
        kind::ZSET_2,
        kind::HASH,
        kind::LIST_QUICKLIST_2,
    ] {
        assert_eq!(reason(kind, &[0], &RULES), "empty");
        // A count that nothing follows, and a length.
        let endless = [&[0x81u8][..], &[0xff; 8], &[0x81], &[0x7f; 8]].concat();
        assert_ne!(reason(kind, &endless, &RULES), "a value");
    }
    let twice = b"\x02\x01a\x01a";
    assert_eq!(
        reason(kind::SET, twice, &RULES),
        "Duplicate set members detected"
    );
    let nan = [&b"\x01\x01a"[..], &f64::NAN.to_le_bytes()].concat();
    assert_eq!(
        reason(kind::ZSET_2, &nan, &RULES),
        "Zset with NAN score detected"
    );
    assert_eq!(
        reason(kind::ZSET, b"\x02\x01a\x011\x01a\x012", &RULES),
        "Duplicate zset fields detected"
    );
    assert_eq!(
        reason(kind::HASH, b"\x02\x01a\x011\x01a\x012", &RULES),
        "Duplicate hash fields detected"
    );
    // "testtype1", encoding version 1.
    let module = [
        &[0x81u8][..],
        &[0xb5, 0xeb, 0x2d, 0xb5, 0xec, 0xa9, 0x7d, 0x01],
    ]
    .concat();
    assert!(
        reason(kind::MODULE_2, &module, &RULES).starts_with(
            "The RDB file contains module data I can't load: no matching module type '"
        )
    );
    assert!(reason(24, &[0], &RULES).contains("fields expire"));
    assert_eq!(reason(8, &[0], &RULES), "Unknown RDB encoding type 8");
    assert_eq!(
        Dump::open(b"short", true).err(),
        Some(WrongFooter),
        "no footer"
    );
    let mut newer = vec![0, 1, b'a', 12, 0];
    newer.extend_from_slice(&crc64(&newer).to_le_bytes());
    assert_eq!(Dump::open(&newer, true).err(), Some(WrongFooter));
}

#[test]
fn heads_and_ends_of_files() {
    let open = |bytes: &[u8]| match Decoder::new(bytes, RULES, true) {
        Ok(decoder) => decoder.version().to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(open(b"REDIS0001"), "1");
    assert_eq!(open(b"REDIS0012"), "12");
    assert_eq!(open(b"VALKEY080"), "80");
    assert_eq!(
        open(b"REDIS0013"),
        "Can't handle RDB format version 13 (at offset 9)"
    );
    assert_eq!(
        open(b"REDIS0000"),
        "Can't handle RDB format version 0 (at offset 9)"
    );
    assert_eq!(
        open(b"REDIS00"),
        "Unexpected EOF reading RDB file (at offset 0)"
    );
    assert_eq!(
        open(b"ROUGE0011"),
        "Wrong signature trying to load DB from file (at offset 9)"
    );
    // Version 3: seconds, no checksum; what follows is not touched.
    let file = b"REDIS0003\xfe\x02\xfd\x05\x00\x00\x00\x00\x01k\xc0\x07\xff*3\r\n";
    let mut decoder = Decoder::new(&file[..], RULES, true).unwrap();
    assert!(matches!(decoder.next(), Ok(Some(Item::SelectDb(2)))));
    match decoder.next() {
        Ok(Some(Item::Key(key))) => {
            assert_eq!((key.db, key.key, key.expiry_ms), (2, &b"k"[..], Some(5000)));
            assert!(matches!(key.value, Some(Value::Int(7))));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(decoder.next(), Ok(None)));
    assert_eq!(decoder.checksum(), Some(Checksum::Unchecked));
    let (buffered, _) = decoder.into_rest();
    assert_eq!(buffered, b"*3\r\n");
    for (tail, end) in [
        ([0; 8], "Disabled"),
        ([1; 8], "RDB CRC error (at offset 18)"),
    ] {
        let file = [&b"REDIS0011\xff"[..], &tail].concat();
        let mut decoder = Decoder::new(&file[..], RULES, true).unwrap();
        let shown = match decoder.next() {
            Ok(_) => format!("{:?}", decoder.checksum().unwrap()),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, end);
    }
}
