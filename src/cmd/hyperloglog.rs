//! HyperLogLog: counting different elements without keeping them. `ds/hyperloglog.rs` tells how.
//!
//! A sketch is a string: these commands read one, change its bytes as Redis would, and store it again. A dense sketch
//! of 12 KB is changed in place, where only the few bytes of a register that rises are written.

use std::borrow::Cow;

use bytes::Bytes;

use crate::cmd::fault::{CmdResult, DONE, Fault, quoted};
use crate::cmd::keys::Ttl;
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::config::NotifyFlags;
use crate::ds::hyperloglog::{self as hll, Corrupt, Form, Registers};
use crate::object::entry::EMBED_MAX;
use crate::object::{Encoding, Entry, Str, Value};

pub static ROWS: &[Row<DataFn>] = &[PFADD, PFCOUNT, PFMERGE, PFDEBUG, PFSELFTEST];

const NOT_HLL: Fault = Fault::new("WRONGTYPE Key is not a valid HyperLogLog string value.");
const CORRUPT: Fault = Fault::new("INVALIDOBJ Corrupted HLL object detected");
const MISSING: Fault = Fault::new("ERR The specified key does not exist");
const NOT_SPARSE: Fault = Fault::new("ERR HLL encoding is not sparse");

/// Elements that PFSELFTEST counts.
const SELF_TEST_ELEMENTS: u64 = 10_000_000;

impl From<Corrupt> for Fault {
    fn from(_: Corrupt) -> Fault {
        CORRUPT
    }
}

/// A string seen as a sketch.
struct Sketch<'a> {
    text: Cow<'a, [u8]>,
    form: Form,
}

impl<'a> Sketch<'a> {
    /// The sketch that a string is, or the error for one that is none.
    fn of(string: Str<'a>) -> Result<Sketch<'a>, Fault> {
        let text = match string {
            Str::Int(_) => return Err(NOT_HLL),
            Str::Text(text) => Cow::Borrowed(text),
            Str::Big(big) => match big.as_slice() {
                Some(whole) => Cow::Borrowed(whole),
                None => Cow::Owned(big.to_vec()),
            },
        };
        let form = hll::form(&text).ok_or(NOT_HLL)?;
        Ok(Sketch { text, form })
    }

    /// The sketch in an entry, and whether its encoding is `raw` already, as each of these commands leaves it.
    fn in_entry(entry: &'a Entry) -> Result<(Sketch<'a>, bool), Fault> {
        let sketch = Sketch::of(entry.as_str()?)?;
        Ok((sketch, entry.encoding() == Encoding::Raw))
    }
}

/// Stores a sketch; the time to live stays.
fn store(cx: &mut Ctx<'_>, key: &[u8], text: Vec<u8>) {
    if text.len() > EMBED_MAX {
        cx.keys.set(key, Value::Whole(Bytes::from(text)), Ttl::Keep);
    } else {
        cx.keys.set(key, Value::Raw(&text), Ttl::Keep);
    }
}

/// Makes the encoding of a string `raw`; nothing else about it changes.
fn make_raw(cx: &mut Ctx<'_>, key: &[u8]) {
    cx.keys.write_at(key, 0, b"");
}

const PFADD: Row<DataFn> = Spec::new("pfadd", -2, Group::Hyperloglog)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST))
    .acl(Acl::HYPERLOGLOG)
    .since("2.8.9")
    .cost("O(1) for each element")
    .about("Shows elements to a HyperLogLog, which is made if the key is missing.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::INSERT))])
    .args(&[
        Arg::key("key", 0),
        Arg::string("element").optional().multiple(),
    ])
    .run(pfadd);

/// PFADD key [element ...]: replies 1 if the estimate may have changed (or the key was made), else 0.
fn pfadd(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let elements = args.rest();
    let sparse_max = cx.config().hll_sparse_max_bytes;
    let (mut text, raw) = match cx.keys.write(key) {
        None => (hll::empty(), None),
        Some(entry) => match Sketch::in_entry(entry)? {
            (
                Sketch {
                    form: Form::Dense,
                    text,
                },
                raw,
            ) => {
                let rises = |(register, value)| value > hll::dense_get(&text, register);
                let changes = elements.iter().any(|e| rises(hll::place(e)));
                return add_to_dense(cx, key, elements, changes, raw);
            }
            (sketch, raw) => (sketch.text.into_owned(), Some(raw)),
        },
    };
    let made = raw.is_none();
    let mut updates = u64::from(made);
    let mut corrupt = false;
    for element in elements {
        let (register, value) = hll::place(element);
        match hll::raise(&mut text, register, value, sparse_max) {
            Ok(risen) => updates += u64::from(risen),
            Err(Corrupt) => {
                corrupt = true;
                break;
            }
        }
    }
    // What came before the damage was found stays, though nobody is told of it.
    if updates > 0 {
        if !corrupt {
            hll::forget_cached(&mut text);
        }
        store(cx, key, text);
    } else if raw == Some(false) {
        make_raw(cx, key);
    }
    if corrupt {
        return Err(CORRUPT);
    }
    added(cx, key, updates);
    DONE
}

/// PFADD to a dense sketch: `changes` if any of the elements raises a register.
fn add_to_dense(
    cx: &mut Ctx<'_>,
    key: &[u8],
    elements: &[&[u8]],
    changes: bool,
    raw: bool,
) -> CmdResult {
    let mut updates = 0;
    if changes && let Some(mut entry) = cx.keys.entry_mut(key) {
        for element in elements {
            let (register, value) = hll::place(element);
            let sketch = Sketch::of(entry.as_str()?)?;
            if hll::dense_get(&sketch.text, register) < value {
                let (at, bytes, n) = hll::dense_patch(&sketch.text, register, value);
                entry.write_at(at, &bytes[..n]);
                updates += 1;
            }
        }
        let mut head = Sketch::of(entry.as_str()?)?.text[..hll::HEADER_BYTES].to_vec();
        hll::forget_cached(&mut head);
        entry.write_at(0, &head);
    } else if !raw {
        make_raw(cx, key);
    }
    added(cx, key, updates);
    DONE
}

/// What follows from a PFADD that raised so many registers.
fn added(cx: &mut Ctx<'_>, key: &[u8], updates: u64) {
    if updates > 0 {
        cx.changed(key, updates);
        cx.event(NotifyFlags::STRING, "pfadd", key);
    }
    cx.reply.int((updates > 0).into());
}

const PFCOUNT: Row<DataFn> = Spec::new("pfcount", -2, Group::Hyperloglog)
    .flags(Flags::READONLY.or(Flags::MAY_REPLICATE))
    .acl(Acl::HYPERLOGLOG)
    .since("2.8.9")
    .cost("O(1) for one key, whose estimate is kept; O(N) with a large constant for N keys")
    .about("Estimates how many different elements one or more HyperLogLogs have seen.")
    .keys(&[KeySpec::range(1, -1, 1)
        .flags(KeyFlags::RW.or(KeyFlags::ACCESS))
        .notes("RW because the estimate is kept in the value, which replicas hear of")])
    .args(&[Arg::key("key", 0).multiple()])
    .run(pfcount);

/// PFCOUNT key [key ...]: replies the estimate, of several keys that of their union. That of one key is kept in the
/// sketch until it changes, which is logged as a change of its own.
fn pfcount(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    if args.left() > 1 {
        let mut max = Registers::new();
        for key in args.rest() {
            if let Some(string) = cx.keys.read_str(key)? {
                max.merge(&Sketch::of(string)?.text)?;
            }
        }
        cx.reply.int(max.estimate());
        return DONE;
    }
    let key = args.one()?;
    let Some(entry) = cx.keys.read(key) else {
        cx.reply.int(0);
        return DONE;
    };
    let (sketch, raw) = Sketch::in_entry(entry)?;
    let (count, kept) = match hll::cached(&sketch.text) {
        Some(kept) => (Ok(kept as i64), true),
        None => (hll::count(&sketch.text), false),
    };
    if let Ok(count) = count
        && !kept
    {
        cx.keys.write_at(key, hll::CACHE_AT, &count.to_le_bytes());
        cx.changed(key, 1);
    } else if !raw {
        make_raw(cx, key);
    }
    cx.reply.int(count?);
    DONE
}

const PFMERGE: Row<DataFn> = Spec::new("pfmerge", -2, Group::Hyperloglog)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::HYPERLOGLOG)
    .since("2.8.9")
    .cost("O(N) with a large constant for N HyperLogLogs")
    .about("Merges HyperLogLogs into one, which has then seen what all of them have.")
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::INSERT)),
        KeySpec::range(2, -1, 1).flags(KeyFlags::RO.or(KeyFlags::ACCESS)),
    ])
    .args(&[
        Arg::key("destkey", 0),
        Arg::key("sourcekey", 1).optional().multiple(),
    ])
    .run(pfmerge);

/// PFMERGE destkey [sourcekey ...]: the destination is one of the sources. It becomes dense if any of them is.
fn pfmerge(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let sparse_max = cx.config().hll_sparse_max_bytes;
    let (mut max, mut dense) = (Registers::new(), false);
    for key in args.rest() {
        if let Some(string) = cx.keys.read_str(key)? {
            let sketch = Sketch::of(string)?;
            dense |= sketch.form == Form::Dense;
            max.merge(&sketch.text)?;
        }
    }
    let dest = args.one()?;
    let mut text = match cx.keys.write_str(dest)? {
        Some(string) => Sketch::of(string)?.text.into_owned(),
        None => hll::empty(),
    };
    if dense {
        hll::make_dense(&mut text)?;
    }
    max.store(&mut text, sparse_max)?;
    store(cx, dest, text);
    cx.changed(dest, 1);
    // For who listens it is a PFADD of many elements.
    cx.event(NotifyFlags::STRING, "pfadd", dest);
    cx.reply.ok();
    DONE
}

const PFDEBUG: Row<DataFn> = Spec::new("pfdebug", 3, Group::Hyperloglog)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::ADMIN))
    .acl(Acl::HYPERLOGLOG)
    .since("2.8.9")
    .cost("N/A")
    .about("Shows the inside of a HyperLogLog.")
    .syscmd()
    .keys(&[KeySpec::at(2).flags(KeyFlags::RW.or(KeyFlags::ACCESS))])
    .args(&[Arg::string("subcommand"), Arg::key("key", 0)])
    .run(pfdebug);

/// PFDEBUG GETREG | DECODE | ENCODING | TODENSE key: the registers (of what is made dense for it), the runs of a sparse
/// sketch, its form; or makes it dense.
fn pfdebug(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let (word, key) = args.two()?;
    let entry = cx.keys.write(key).ok_or(MISSING)?;
    let (sketch, raw) = Sketch::in_entry(entry)?;
    let (mut text, form) = (sketch.text.into_owned(), sketch.form);
    if !raw {
        make_raw(cx, key);
    }
    let reads = is_word(word, "GETREG");
    if reads || is_word(word, "TODENSE") {
        if form == Form::Sparse {
            hll::make_dense(&mut text)?;
            store(cx, key, text.clone());
            // It is logged, but whoever watches the key is not told.
            cx.keys.unit.dirty += 1;
        }
        if reads {
            cx.reply.array(hll::REGISTERS);
            for register in 0..hll::REGISTERS {
                cx.reply.int(hll::dense_get(&text, register).into());
            }
        } else {
            cx.reply.int((form == Form::Sparse).into());
        }
    } else if is_word(word, "DECODE") {
        if form != Form::Sparse {
            return Err(NOT_SPARSE);
        }
        cx.reply.bulk(hll::decode(&text).as_bytes());
    } else if is_word(word, "ENCODING") {
        cx.reply.status(match form {
            Form::Dense => "dense",
            Form::Sparse => "sparse",
        });
    } else {
        let unknown = [b"ERR Unknown PFDEBUG subcommand '", quoted(word), b"'"];
        return Err(Fault::text(unknown.concat()));
    }
    DONE
}

const PFSELFTEST: Row<DataFn> = Spec::new("pfselftest", 1, Group::Hyperloglog)
    .flags(Flags::ADMIN)
    .acl(Acl::HYPERLOGLOG)
    .since("2.8.9")
    .cost("N/A")
    .about("Tests the implementation of HyperLogLog.")
    .syscmd()
    .run(pfselftest);

/// PFSELFTEST: counts ten million elements and compares what comes out.
fn pfselftest(cx: &mut Ctx<'_>, _: Args<'_>) -> CmdResult {
    let sparse_max = cx.config().hll_sparse_max_bytes;
    let rng = &mut *cx.keys.rng;
    match hll::self_test(SELF_TEST_ELEMENTS, sparse_max, || rng.next_u64()) {
        Ok(()) => {
            cx.reply.ok();
            DONE
        }
        Err(why) => Err(Fault::text(format!("ERR TESTFAILED {why}"))),
    }
}
