//! DUMP and RESTORE: a value as one string, in the form that it has in a file, and back.
//!
//! A payload may come from anywhere: its checksum keeps out what was damaged on the way, [`crate::rdb`] what was made
//! up. Nothing of the key changes before the whole payload is read.

use crate::base::lzf::Compressor;
use crate::base::number;
use crate::cmd::fault::{Fault, NOT_INTEGER, SYNTAX};
use crate::cmd::session::{Marks, Session};
use crate::cmd::spec::{Acl, Arg, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::cmd::unit::Logging;
use crate::cmd::{Args, CmdResult, DONE, Row, is_word};
use crate::config::{NotifyFlags, SanitizeDumpPayload};
use crate::exec::{Call, ServerFn};
use crate::object::{AccessClock, Entry};
use crate::rdb::{Dump, Format, Rules, encode_dump};

const BUSY_KEY: Fault = Fault::new("BUSYKEY Target key name already exists.");
const BAD_FOOTER: Fault = Fault::new("ERR DUMP payload version or checksum are wrong");
const BAD_FORMAT: Fault = Fault::new("ERR Bad data format");

const DUMP: Row<ServerFn> = Spec::new("dump", 2, Group::Generic)
    .flags(Flags::READONLY)
    .acl(Acl::KEYSPACE)
    .since("2.6.0")
    .cost("O(1) to access the key and additional O(N*M) to serialize it, where N is the number of Redis objects composing the value and M their average size. For small string values the time complexity is thus O(1)+O(1*M) where M is small, so simply O(1).")
    .about("Gives a key's value in the form of RDB files.")
    .tips(&["nondeterministic_output"])
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.or(KeyFlags::ACCESS))])
    .args(&[Arg::key("key", 0)])
    .run(dump);

/// DUMP key
fn dump(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let db = call.session().db;
    let server = &mut *call.server;
    let format = Format::of(&server.config);
    let kept = server.persistence.compressor.take();
    let mut compressor = kept.unwrap_or_else(|| Box::new(Compressor::new()));
    let payload = server
        .keys(db)
        .read(args.argv()[1])
        .map(|entry| encode_dump(entry, format, &mut compressor));
    server.persistence.compressor = Some(compressor);
    match payload {
        Some(payload) => call.reply().bulk(&payload),
        None => call.reply().null(),
    }
    DONE
}

const RESTORE_COST: &str = "O(1) to create the new key and additional O(N*M) to reconstruct the serialized value, where N is the number of Redis objects composing the value and M their average size. For small string values the time complexity is thus O(1)+O(1*M) where M is small, so simply O(1). However for sorted set values the complexity is O(N*M*log(N)) because inserting values into sorted sets is O(log(N)).";
const RESTORE_HISTORY: &[(&str, &str)] = &[
    ("3.0.0", "Takes REPLACE."),
    ("5.0.0", "Takes ABSTTL."),
    ("5.0.0", "Takes IDLETIME and FREQ."),
];
const RESTORE_KEYS: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::OW.or(KeyFlags::UPDATE))];
const RESTORE_ARGS: &[Arg] = &[
    Arg::key("key", 0),
    Arg::int("ttl"),
    Arg::string("serialized-value"),
    Arg::word("replace", "REPLACE").since("3.0.0").optional(),
    Arg::word("absttl", "ABSTTL").since("5.0.0").optional(),
    Arg::int("seconds")
        .token("IDLETIME")
        .since("5.0.0")
        .optional(),
    Arg::int("frequency")
        .token("FREQ")
        .since("5.0.0")
        .optional(),
];

const RESTORE: Row<ServerFn> = Spec::new("restore", -4, Group::Generic)
    .flags(Flags::WRITE.or(Flags::DENYOOM))
    .acl(Acl::KEYSPACE.or(Acl::DANGEROUS))
    .since("2.6.0")
    .cost(RESTORE_COST)
    .about("Makes a key of a payload of DUMP.")
    .history(RESTORE_HISTORY)
    .keys(RESTORE_KEYS)
    .args(RESTORE_ARGS)
    .run(restore);

const RESTORE_ASKING: Row<ServerFn> = Spec::new("restore-asking", -4, Group::Server)
    .flags(Flags::WRITE.or(Flags::DENYOOM).or(Flags::ASKING))
    .acl(Acl::KEYSPACE.or(Acl::DANGEROUS))
    .since("3.0.0")
    .cost(RESTORE_COST)
    .about("Is RESTORE between the nodes of a cluster.")
    .history(RESTORE_HISTORY)
    .syscmd()
    .keys(RESTORE_KEYS)
    .args(RESTORE_ARGS)
    .run(restore);

/// The words after the payload.
#[derive(Default)]
struct Options {
    replace: bool,
    absolute: bool,
    idle_s: Option<u64>,
    frequency: Option<u8>,
}

impl Options {
    fn parse(words: &[&[u8]]) -> Result<Options, Fault> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let figure = |words: &mut std::slice::Iter<'_, &[u8]>| {
                let word = words.next().ok_or(SYNTAX)?;
                number::parse_i64(word).ok_or(NOT_INTEGER)
            };
            match () {
                () if is_word(word, "replace") => options.replace = true,
                () if is_word(word, "absttl") => options.absolute = true,
                () if is_word(word, "idletime") && options.frequency.is_none() => {
                    let idle_s = u64::try_from(figure(&mut words)?);
                    options.idle_s = Some(
                        idle_s
                            .map_err(|_| Fault::new("ERR Invalid IDLETIME value, must be >= 0"))?,
                    );
                }
                () if is_word(word, "freq") && options.idle_s.is_none() => {
                    let frequency = u8::try_from(figure(&mut words)?);
                    options.frequency = Some(frequency.map_err(|_| {
                        Fault::new("ERR Invalid FREQ value, must be >= 0 and <= 255")
                    })?);
                }
                () => return Err(SYNTAX),
            }
        }
        Ok(options)
    }

    /// The access bits of the new entry.
    fn access(&self, clock: AccessClock) -> u32 {
        clock
            .restored(self.idle_s, self.frequency)
            .unwrap_or_else(|| clock.fresh())
    }
}

/// RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds | FREQ frequency]
fn restore(call: &mut Call<'_>, args: Args<'_>) -> CmdResult {
    let &[_, key, ttl, payload, ref words @ ..] = args.argv() else {
        return Err(SYNTAX);
    };
    let options = Options::parse(words)?;
    let db = call.session().db;
    let deep = match call.server.config.sanitize_dump_payload {
        SanitizeDumpPayload::No => false,
        SanitizeDumpPayload::Yes => true,
        SanitizeDumpPayload::Clients => !is_trusted(call.session()),
    };
    let server = &mut *call.server;
    let hash_key = server.dbs.hash_key();
    let rules = Rules::new(&server.config, hash_key, server.list_plain_from, deep);
    let checked = !server.persistence.skip_checksum;
    let mut keys = server.keys(db);
    if !options.replace && keys.write(key).is_some() {
        return Err(BUSY_KEY);
    }
    let ttl_ms = number::parse_i64(ttl).ok_or(NOT_INTEGER)?;
    let ttl_ms =
        u64::try_from(ttl_ms).map_err(|_| Fault::new("ERR Invalid TTL value, must be >= 0"))?;
    let mut opened = Dump::open(payload, checked).map_err(|_| BAD_FOOTER)?;
    let value = match opened.value(&rules) {
        Ok(Some(value)) => value,
        Ok(None) => return Err(BAD_FORMAT),
        Err(why) => {
            log::debug!("RESTORE: {why}");
            return Err(BAD_FORMAT);
        }
    };
    let now_ms = keys.now_ms;
    let expiry_ms = (ttl_ms > 0).then(|| match options.absolute {
        true => ttl_ms,
        false => ttl_ms.saturating_add(now_ms),
    });
    let access = options.access(keys.access_clock());
    let entry = Entry::new(key, value, expiry_ms, access);
    let deleted = options.replace && keys.remove(key);
    if expiry_ms.is_some_and(|at| keys.ends_at_once(at)) {
        if deleted {
            let name: &[u8] = match keys.config.lazyfree_lazy_server_del {
                true => b"UNLINK",
                false => b"DEL",
            };
            keys.unit.logging = Logging::Rewritten;
            keys.unit.push(db, &[name, key]);
            keys.signal_modified(key);
            keys.event(NotifyFlags::GENERIC, "del", key);
            keys.unit.dirty += 1;
        }
        call.reply().ok();
        return DONE;
    }
    keys.insert_in(db, entry);
    if let Some(entry) = keys.entry_mut(key) {
        entry.set_access(access);
    }
    if let Some(at_ms) = expiry_ms
        && !options.absolute
    {
        // The moment is said as such, so that it is the same wherever the command is run again.
        let mut digits = itoa::Buffer::new();
        let mut argv = args.argv().to_vec();
        argv[2] = digits.format(at_ms).as_bytes();
        argv.push(b"ABSTTL");
        keys.unit.logging = Logging::Rewritten;
        keys.unit.push(db, &argv);
    }
    keys.signal_modified(key);
    keys.event(NotifyFlags::GENERIC, "restore", key);
    keys.unit.dirty += 1;
    call.reply().ok();
    DONE
}

/// True if what this session restores need not be looked at closely.
fn is_trusted(session: &Session) -> bool {
    session.marks.has(Marks::MASTER) || session.user().is_some_and(|user| user.skips_sanitizing())
}

pub static ROWS: &[Row<ServerFn>] = &[DUMP, RESTORE, RESTORE_ASKING];
