//! Reading: a whole file, thing by thing.
//!
//! A [`Decoder`] gives what the file has in the order it has it and decides nothing: whether a key whose time is over is
//! loaded, what becomes of one that is there twice, what a field of the head means, is for the loader to say.

use std::borrow::Cow;
use std::io::Read;

use super::form::{kind, module, op};
use super::source::{Error, Reason, Source};
use super::value::{self, Rules, module_name};
use crate::object::Value;

/// The highest version that is read.
const VERSION_MAX: u16 = 12;
/// The version of files of Valkey, whose magic is another.
const VERSION_VALKEY: u16 = 80;
/// From this version on a file ends with a checksum.
const CHECKSUM_FROM: u16 = 5;

/// What a file has next.
#[derive(Debug)]
pub enum Item<'a> {
    /// Something the file says of itself.
    Aux {
        name: &'a [u8],
        value: Cow<'a, [u8]>,
    },
    /// The keys that follow are those of this database.
    SelectDb(u64),
    /// How many keys the database has, and how many of them expire: a hint.
    ResizeDb {
        keys: u64,
        expiring: u64,
    },
    /// The text of a function library.
    Function(Cow<'a, [u8]>),
    Key(Key<'a>),
    /// What a module wrote beside the keys; only where that is skipped.
    ModuleAux {
        name: String,
    },
    /// A key with a module's value; only where those are skipped.
    ModuleKey {
        key: &'a [u8],
        name: String,
        expiry_ms: Option<u64>,
    },
}

/// What was being read, by the names that redis-check-rdb has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Start,
    Kind,
    Expire,
    Key,
    Value,
    Checksum,
    Length,
    Aux,
    ModuleAux,
    Function,
}

impl Doing {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Doing::Start => "start",
            Doing::Kind => "read-type",
            Doing::Expire => "read-expire",
            Doing::Key => "read-key",
            Doing::Value => "read-object-value",
            Doing::Checksum => "check-sum",
            Doing::Length => "read-len",
            Doing::Aux => "read-aux",
            Doing::ModuleAux => "read-module-aux",
            Doing::Function => "read-functions",
        }
    }
}

/// A key of a file.
#[derive(Debug)]
pub struct Key<'a> {
    pub db: u64,
    pub key: &'a [u8],
    /// The type it has in the file.
    pub kind: u8,
    /// `None`: it is a collection without elements, as old versions wrote some by mistake. No key may hold one.
    pub value: Option<Value<'a>>,
    /// Unix time in milliseconds.
    pub expiry_ms: Option<u64>,
    pub idle_s: Option<u64>,
    pub frequency: Option<u8>,
}

/// What became of a file's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It was not looked at: the file has none, being old, or nobody wanted it.
    Unchecked,
    /// It was saved without one.
    Disabled,
    Right,
}

/// What stands before a key and belongs to it.
#[derive(Default)]
struct Attributes {
    expiry_ms: Option<u64>,
    idle_s: Option<u64>,
    frequency: Option<u8>,
}

/// See the head of the file.
pub struct Decoder<R> {
    source: Source<R>,
    rules: Rules,
    version: u16,
    db: u64,
    /// The key or the field that is being read.
    name: Vec<u8>,
    /// The type of the value that is being read.
    kind: Option<u8>,
    doing: Doing,
    skips_modules: bool,
    checksum: Option<Checksum>,
}

impl<R: Read> Decoder<R> {
    /// Begins with the magic and version. `checked`: the checksum has to be right (`rdbchecksum`).
    pub fn new(from: R, rules: Rules, checked: bool) -> Result<Decoder<R>, Error> {
        let mut source = Source::new(from, usize::MAX, checked);
        let version = read_version(&mut source)?;
        Ok(Decoder {
            source,
            rules,
            version,
            db: 0,
            name: Vec::new(),
            kind: None,
            doing: Doing::Start,
            skips_modules: false,
            checksum: None,
        })
    }

    /// The same, which passes over what modules wrote instead of refusing it.
    pub fn skipping_modules(self) -> Decoder<R> {
        Decoder {
            skips_modules: true,
            ..self
        }
    }

    /// The file's version.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.source.offset()
    }

    /// What was being read when an error came; and of a value, its type and, if it was read by then, its key.
    pub fn reading(&self) -> (Doing, Option<u8>, Option<&[u8]>) {
        let key = (self.doing == Doing::Value).then_some(&self.name[..]);
        (self.doing, self.kind, key)
    }

    /// An error at the present place, for those who expect more of a file than that it can be read.
    pub fn corrupt(&self, what: &'static str) -> Error {
        self.source.corrupt(what)
    }

    /// What became of the checksum, at the end.
    pub fn checksum(&self) -> Option<Checksum> {
        self.checksum
    }

    /// What was read beyond the end of the file, and where more comes from: a command log may follow.
    pub fn into_rest(self) -> (Vec<u8>, R) {
        self.source.into_rest()
    }

    /// What comes next; `None` at the end.
    #[expect(
        clippy::should_implement_trait,
        reason = "it lends what it read until the next call"
    )]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, Error> {
        if self.checksum.is_some() {
            return Ok(None);
        }
        let mut attributes = Attributes::default();
        self.kind = None;
        loop {
            self.doing = Doing::Kind;
            match self.source.byte()? {
                op::EOF => {
                    self.doing = Doing::Checksum;
                    self.checksum = Some(self.read_checksum()?);
                    return Ok(None);
                }
                op::EXPIRE_MS => {
                    self.doing = Doing::Expire;
                    attributes.expiry_ms = expiry(self.source.signed()?);
                }
                op::EXPIRE_S => {
                    self.doing = Doing::Expire;
                    let seconds = i32::from_le_bytes(self.source.array()?);
                    attributes.expiry_ms = expiry(i64::from(seconds) * 1000);
                }
                op::IDLE => attributes.idle_s = Some(self.source.length()?),
                op::FREQ => attributes.frequency = Some(self.source.byte()?),
                op::SLOT_INFO => {
                    // Hints for a cluster's tables.
                    for _ in 0..3 {
                        self.source.length()?;
                    }
                }
                kind @ ..=kind::HASH_EXPIRING_LAST => {
                    return self.key(kind, attributes).map(Some);
                }
                other => return self.item(other).map(Some),
            }
        }
    }

    fn item(&mut self, op: u8) -> Result<Item<'_>, Error> {
        let source = &mut self.source;
        match op {
            op::AUX => {
                self.doing = Doing::Aux;
                self.name.clear();
                let mut digits = itoa::Buffer::new();
                self.name
                    .extend_from_slice(source.text()?.bytes(&mut digits));
                Ok(Item::Aux {
                    name: &self.name,
                    value: source.text()?.into_cow(),
                })
            }
            op::SELECT_DB => {
                self.doing = Doing::Length;
                self.db = source.length()?;
                Ok(Item::SelectDb(self.db))
            }
            op::RESIZE_DB => {
                self.doing = Doing::Length;
                Ok(Item::ResizeDb {
                    keys: source.length()?,
                    expiring: source.length()?,
                })
            }
            op::FUNCTION => {
                self.doing = Doing::Function;
                Ok(Item::Function(source.text()?.into_cow()))
            }
            op::FUNCTION_PRE_GA => {
                Err(source.corrupt("Pre-release function format not supported."))
            }
            op::MODULE_AUX => {
                self.doing = Doing::ModuleAux;
                let (id, uint, _when) = (source.length()?, source.length()?, source.length()?);
                if uint != module::UINT {
                    return Err(source.corrupt("bad when_opcode"));
                }
                let name = module_name(id);
                if !self.skips_modules {
                    return Err(source.error(Reason::ModuleAux(name)));
                }
                skip_module(source)?;
                Ok(Item::ModuleAux { name })
            }
            kind => Err(source.error(Reason::Kind(kind))),
        }
    }

    fn key(&mut self, kind: u8, attributes: Attributes) -> Result<Item<'_>, Error> {
        self.kind = Some(kind);
        self.doing = Doing::Key;
        self.name.clear();
        let mut digits = itoa::Buffer::new();
        self.name
            .extend_from_slice(self.source.text()?.bytes(&mut digits));
        self.doing = Doing::Value;
        if kind == kind::MODULE_2 && self.skips_modules {
            let id = self.source.length()?;
            skip_module(&mut self.source)?;
            return Ok(Item::ModuleKey {
                key: &self.name,
                name: module_name(id),
                expiry_ms: attributes.expiry_ms,
            });
        }
        Ok(Item::Key(Key {
            db: self.db,
            key: &self.name,
            kind,
            value: value::read(&mut self.source, kind, &self.rules)?,
            expiry_ms: attributes.expiry_ms,
            idle_s: attributes.idle_s,
            frequency: attributes.frequency,
        }))
    }

    fn read_checksum(&mut self) -> Result<Checksum, Error> {
        if self.version < CHECKSUM_FROM {
            return Ok(Checksum::Unchecked);
        }
        let computed = self.source.checksum();
        let stored = u64::from_le_bytes(self.source.array()?);
        match computed {
            None => Ok(Checksum::Unchecked),
            Some(_) if stored == 0 => Ok(Checksum::Disabled),
            Some(computed) if computed == stored => Ok(Checksum::Right),
            Some(computed) => Err(self.source.error(Reason::Checksum { computed, stored })),
        }
    }
}

/// Passes over what a module wrote, part by part.
fn skip_module<R: Read>(source: &mut Source<R>) -> Result<(), Error> {
    loop {
        match source.length()? {
            module::END => return Ok(()),
            module::SINT | module::UINT => drop(source.length()?),
            module::FLOAT => drop(source.array::<4>()?),
            module::DOUBLE => drop(source.array::<8>()?),
            module::STRING => source.load()?,
            _ => return Err(source.corrupt("A part of a module's value that is none")),
        }
    }
}

/// A time of expiry; -1 stands for none, and what was before 1970 is over.
fn expiry(ms: i64) -> Option<u64> {
    (ms != -1).then(|| u64::try_from(ms).unwrap_or(0))
}

fn read_version<R: Read>(source: &mut Source<R>) -> Result<u16, Error> {
    let head: [u8; 9] = source.array()?;
    let (digits, is_valkey) = match &head {
        [b'R', b'E', b'D', b'I', b'S', digits @ ..] => (&digits[..], false),
        [b'V', b'A', b'L', b'K', b'E', b'Y', digits @ ..] => (&digits[..], true),
        _ => return Err(source.error(Reason::Signature)),
    };
    let text = String::from_utf8_lossy(digits);
    let known = |version: &u16| match is_valkey {
        true => *version == VERSION_VALKEY,
        false => (1..=VERSION_MAX).contains(version),
    };
    match text.parse::<u16>().ok().filter(known) {
        Some(version) => Ok(version),
        None => {
            let number = text
                .parse::<u16>()
                .map_or_else(|_| text.to_string(), |n| n.to_string());
            Err(source.error(Reason::Version(number)))
        }
    }
}
