//! BITFIELD: a string as an array of integers of any width, signed or not, at any bit.
//!
//! A field of up to 64 bits touches at most nine bytes. They are read into a window, changed there (`ds/bits.rs`) and
//! written back, whatever form the string has and wherever its chunks end. Behind its end a string reads as zeros.

use smallvec::SmallVec;

use crate::base::number::parse_i64;
use crate::cmd::bitmap::{bit_offset, make_room};
use crate::cmd::fault::{CmdResult, DONE, Fault, NOT_INTEGER, SYNTAX, quoted};
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeyRef, KeySpec, Spec};
use crate::cmd::{Args, Ctx, DataFn, Row, is_word};
use crate::config::NotifyFlags;
use crate::ds::bits::{Field, Overflow, WINDOW};
use crate::object::Str;

pub static ROWS: &[Row<DataFn>] = &[BITFIELD, BITFIELD_RO];

const BAD_TYPE: Fault = Fault::new(
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
);
const BAD_OVERFLOW: Fault = Fault::new("ERR Invalid OVERFLOW type specified");
const ONLY_GET: Fault = Fault::new("ERR BITFIELD_RO only supports the GET subcommand");

/// What is to be done with one field.
#[derive(Clone, Copy)]
struct Op {
    field: Field,
    offset: u64,
    action: Action,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64, Overflow),
    Add(i64, Overflow),
}

type Ops = SmallVec<[Op; 4]>;

/// Reads `i16` or `u8`.
fn field_type(text: &[u8]) -> Result<Field, Fault> {
    let (signed, digits) = match quoted(text) {
        [b'i', digits @ ..] => (true, digits),
        [b'u', digits @ ..] => (false, digits),
        _ => return Err(BAD_TYPE),
    };
    let widest = if signed { 64 } else { 63 };
    match parse_i64(digits) {
        Some(bits) if (1..=widest).contains(&bits) => Ok(Field {
            signed,
            bits: bits as u32,
        }),
        _ => Err(BAD_TYPE),
    }
}

/// Reads all operations, and says if any of them writes.
fn parse(cx: &Ctx<'_>, args: &mut Args<'_>) -> Result<(Ops, bool), Fault> {
    let (mut ops, mut writes, mut overflow) = (Ops::new(), false, Overflow::Wrap);
    while args.more() {
        let word = args.next()?;
        let left = args.left();
        let writing = match word {
            _ if is_word(word, "GET") && left >= 2 => false,
            _ if is_word(word, "SET") && left >= 3 => true,
            _ if is_word(word, "INCRBY") && left >= 3 => true,
            _ if is_word(word, "OVERFLOW") && left >= 1 => {
                overflow = overflow_by_word(args.next()?)?;
                continue;
            }
            _ => return Err(SYNTAX),
        };
        let field = field_type(args.next()?)?;
        let offset = bit_offset(cx, args.next()?, Some(field.bits))?;
        let action = if writing {
            let number = parse_i64(args.next()?).ok_or(NOT_INTEGER)?;
            match is_word(word, "SET") {
                true => Action::Set(number, overflow),
                false => Action::Add(number, overflow),
            }
        } else {
            Action::Get
        };
        writes |= writing;
        ops.push(Op {
            field,
            offset,
            action,
        });
    }
    Ok((ops, writes))
}

fn overflow_by_word(word: &[u8]) -> Result<Overflow, Fault> {
    const WORDS: [(&str, Overflow); 3] = [
        ("WRAP", Overflow::Wrap),
        ("SAT", Overflow::Saturate),
        ("FAIL", Overflow::Fail),
    ];
    let named = WORDS.iter().find(|(w, _)| is_word(word, w));
    named.map(|(_, overflow)| *overflow).ok_or(BAD_OVERFLOW)
}

/// The bytes of `text` from `at` on, continued with zeros.
fn window(text: Option<Str<'_>>, at: usize) -> [u8; WINDOW] {
    let mut window = [0; WINDOW];
    if let Some(text) = text {
        text.for_each_stored(at..at.saturating_add(WINDOW), |from, bytes| {
            window[from - at..][..bytes.len()].copy_from_slice(bytes);
            std::ops::ControlFlow::Continue(())
        });
    }
    window
}

impl Op {
    /// The first byte of the field, and how many bits into it the field begins.
    fn place(self) -> (usize, u32) {
        ((self.offset >> 3) as usize, (self.offset & 7) as u32)
    }

    /// The field as it is now.
    fn get(self, text: Option<Str<'_>>) -> i64 {
        let (at, shift) = self.place();
        self.field.read(&window(text, at), shift)
    }

    /// The field's new value, if there is to be one.
    fn new_value(self, old: i64) -> Option<i64> {
        match self.action {
            Action::Get => None,
            Action::Set(value, overflow) => self.field.set(value, overflow),
            Action::Add(increment, overflow) => self.field.add(old, increment, overflow),
        }
    }
}

const BITFIELD: Row<DataFn> = Spec::new("bitfield", -2, Group::Bitmap)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::BITMAP)
    .since("3.2.0")
    .cost("O(1) for each operation")
    .about("Reads and writes integers of any width in the string stored under a key.")
    .keys(&[KeySpec::at(1)
        .flags(
            KeyFlags::RW
                .or(KeyFlags::UPDATE)
                .or(KeyFlags::ACCESS)
                .or(KeyFlags::VARIABLE_FLAGS),
        )
        .notes("Writes the key only if an operation other than GET is among them")])
    .args(&[
        Arg::key("key", 0),
        Arg::one_of(
            "operation",
            &[
                Arg::block("get-block", &[Arg::string("encoding"), Arg::int("offset")])
                    .token("GET"),
                Arg::block(
                    "write",
                    &[
                        Arg::one_of(
                            "overflow-block",
                            &[
                                Arg::word("wrap", "WRAP"),
                                Arg::word("sat", "SAT"),
                                Arg::word("fail", "FAIL"),
                            ],
                        )
                        .token("OVERFLOW")
                        .optional(),
                        Arg::one_of(
                            "write-operation",
                            &[
                                Arg::block(
                                    "set-block",
                                    &[
                                        Arg::string("encoding"),
                                        Arg::int("offset"),
                                        Arg::int("value"),
                                    ],
                                )
                                .token("SET"),
                                Arg::block(
                                    "incrby-block",
                                    &[
                                        Arg::string("encoding"),
                                        Arg::int("offset"),
                                        Arg::int("increment"),
                                    ],
                                )
                                .token("INCRBY"),
                            ],
                        ),
                    ],
                ),
            ],
        )
        .optional()
        .multiple(),
    ])
    .find_keys(bitfield_keys)
    .run(bitfield);

/// BITFIELD key [GET type offset | [OVERFLOW how] SET type offset value | INCRBY type offset increment ...]: replies for
/// each operation: the value read, the old one, the sum; a null where an overflow forbade it.
fn bitfield(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    let (ops, writes) = parse(cx, &mut args)?;
    if !writes {
        return read_fields(cx, key, &ops);
    }
    let written = ops.iter().filter(|op| !matches!(op.action, Action::Get));
    // Redis measures the key by what is written, even if an overflow then forbids it.
    let last_bit = written
        .map(|op| op.offset + u64::from(op.field.bits) - 1)
        .max();
    let made = make_room(cx, key, (last_bit.unwrap_or(0) >> 3) as usize)?;
    let Some(mut entry) = cx.keys.entry_mut(key) else {
        return DONE;
    };
    cx.reply.array(ops.len());
    let mut changes = 0;
    for op in &ops {
        let old = op.get(Some(entry.as_str()?));
        if let Action::Get = op.action {
            cx.reply.int(old);
            continue;
        }
        let Some(new) = op.new_value(old) else {
            cx.reply.null();
            continue;
        };
        cx.reply.int(match op.action {
            Action::Set(..) => old,
            _ => new,
        });
        if new != old {
            let (at, shift) = op.place();
            let mut bytes = window(Some(entry.as_str()?), at);
            op.field.write(&mut bytes, shift, new);
            entry.write_at(at, &bytes[..op.field.bytes(shift)]);
        }
        changes += u64::from(made || new != old);
    }
    drop(entry);
    if changes > 0 {
        cx.changed(key, changes);
        cx.event(NotifyFlags::STRING, "setbit", key);
    }
    DONE
}

/// What the fields hold; a missing key holds zeros.
fn read_fields(cx: &mut Ctx<'_>, key: &[u8], ops: &[Op]) -> CmdResult {
    let text = cx.keys.read_str(key)?;
    cx.reply.array(ops.len());
    for op in ops {
        cx.reply.int(op.get(text));
    }
    DONE
}

/// The key of BITFIELD, which is only read if all operations are GETs.
fn bitfield_keys(args: &[&[u8]]) -> Option<Vec<KeyRef>> {
    let mut rest = args.get(2..).unwrap_or_default();
    let only_reads = loop {
        rest = match rest {
            [] => break true,
            [word, _, _, rest @ ..] if is_word(word, "GET") => rest,
            [word, _, rest @ ..] if is_word(word, "OVERFLOW") => rest,
            _ => break false,
        };
    };
    let flags = if only_reads {
        KeyFlags::RO | KeyFlags::ACCESS
    } else {
        KeyFlags::RW | KeyFlags::ACCESS | KeyFlags::UPDATE
    };
    Some(vec![KeyRef { pos: 1, flags }])
}

const BITFIELD_RO: Row<DataFn> = Spec::new("bitfield_ro", -2, Group::Bitmap)
    .flags(Flags::READONLY.or(Flags::FAST))
    .acl(Acl::BITMAP)
    .since("6.0.0")
    .cost("O(1) for each operation")
    .about("Reads integers of any width in the string stored under a key.")
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))])
    .args(&[
        Arg::key("key", 0),
        Arg::block("get-block", &[Arg::string("encoding"), Arg::int("offset")])
            .token("GET")
            .optional()
            .multiple()
            .multiple_token(),
    ])
    .run(bitfield_ro);

/// BITFIELD_RO key [GET type offset ...]: replies the values.
fn bitfield_ro(cx: &mut Ctx<'_>, mut args: Args<'_>) -> CmdResult {
    let key = args.one()?;
    match parse(cx, &mut args)? {
        (_, true) => Err(ONLY_GET),
        (ops, false) => read_fields(cx, key, &ops),
    }
}
