//! The row of a command: everything about it but its code.
//!
//! A [`Row`] stands beside each command function. From the rows come the command table, COMMAND
//! and its subcommands, the arity check, the ACL categories, the keys that a cluster routes by,
//! the hints of the command line client, and the inputs of the differential tests. A container
//! command (CONFIG, CLIENT ...) has a row without a function; each of its subcommands has a row
//! of its own, named `container|subcommand`.

use crate::acl::{Access, KeyUse};

/// Declares a set of named bits with its operators.
macro_rules! bits {
    ($(#[$doc:meta])* $name:ident : $ty:ty { $($(#[$fdoc:meta])* $flag:ident = $bit:expr, $text:expr;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub struct $name(pub $ty);
        impl $name {
            /// No bit at all.
            pub const NONE: Self = Self(0);
            $($(#[$fdoc])* pub const $flag: Self = Self(1 << $bit);)*
            /// Every bit with the name that replies show, in Redis's order.
            pub const NAMES: &'static [(Self, &'static str)] = &[$((Self::$flag, $text)),*];
            /// Both sets together, usable in constants.
            pub const fn or(self, other: Self) -> Self { Self(self.0 | other.0) }
            /// True when any bit of `other` is set.
            pub const fn has(self, other: Self) -> bool { self.0 & other.0 != 0 }
            /// The names of the set bits.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                Self::NAMES.iter().filter(move |(f, n)| self.has(*f) && !n.is_empty()).map(|(_, n)| *n)
            }
        }
        impl std::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, o: Self) -> Self { self.or(o) }
        }
    };
}
pub(crate) use bits;

bits! {
    /// What a command does and where it may run; the names are those of COMMAND INFO.
    Flags: u64 {
        WRITE = 0, "write"; READONLY = 1, "readonly"; DENYOOM = 2, "denyoom"; MODULE = 3, "module";
        ADMIN = 4, "admin"; PUBSUB = 5, "pubsub"; NOSCRIPT = 6, "noscript"; BLOCKING = 7, "blocking";
        LOADING = 8, "loading"; STALE = 9, "stale"; SKIP_MONITOR = 10, "skip_monitor";
        SKIP_SLOWLOG = 11, "skip_slowlog"; ASKING = 12, "asking"; FAST = 13, "fast"; NO_AUTH = 14, "no_auth";
        MAY_REPLICATE = 15, "";
        /// Exists only in a Sentinel.
        ONLY_SENTINEL = 17, "";
        NO_MANDATORY_KEYS = 18, "no_mandatory_keys"; PROTECTED = 19, ""; NO_ASYNC_LOADING = 20, "no_async_loading";
        NO_MULTI = 21, "no_multi";
        /// The keys depend on more than the key specs can say: [`Spec::find_keys`] tells.
        MOVABLE_KEYS = 24, "movablekeys";
        ALLOW_BUSY = 22, "allow_busy"; TOUCHES_ARBITRARY_KEYS = 23, "";
        /// Exists in a Sentinel as well.
        SENTINEL_HAS = 25, "";
    }
}
bits! {
    /// ACL categories; the names are those of ACL CAT.
    Acl: u32 {
        KEYSPACE = 0, "keyspace"; READ = 1, "read"; WRITE = 2, "write"; SET = 3, "set"; SORTEDSET = 4, "sortedset";
        LIST = 5, "list"; HASH = 6, "hash"; STRING = 7, "string"; BITMAP = 8, "bitmap"; HYPERLOGLOG = 9, "hyperloglog";
        GEO = 10, "geo"; STREAM = 11, "stream"; PUBSUB = 12, "pubsub"; ADMIN = 13, "admin"; FAST = 14, "fast";
        SLOW = 15, "slow"; BLOCKING = 16, "blocking"; DANGEROUS = 17, "dangerous"; CONNECTION = 18, "connection";
        TRANSACTION = 19, "transaction"; SCRIPTING = 20, "scripting";
    }
}
bits! {
    /// What a command does with the keys of one key spec.
    KeyFlags: u32 {
        RO = 0, "RO"; RW = 1, "RW"; OW = 2, "OW"; RM = 3, "RM"; ACCESS = 4, "access"; UPDATE = 5, "update";
        INSERT = 6, "insert"; DELETE = 7, "delete"; NOT_KEY = 8, "not_key"; INCOMPLETE = 9, "incomplete";
        VARIABLE_FLAGS = 10, "variable_flags";
    }
}

/// The chapter of the manual that a command stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[rustfmt::skip]
pub enum Group { Bitmap, Cluster, Connection, Generic, Geo, Hash, Hyperloglog, List, Pubsub, Scripting, Sentinel, Server, Set, SortedSet, Stream, String, Transactions }

impl Group {
    /// The name as COMMAND DOCS shows it.
    pub fn name(self) -> &'static str {
        match self {
            Group::Bitmap => "bitmap",
            Group::Cluster => "cluster",
            Group::Connection => "connection",
            Group::Generic => "generic",
            Group::Geo => "geo",
            Group::Hash => "hash",
            Group::Hyperloglog => "hyperloglog",
            Group::List => "list",
            Group::Pubsub => "pubsub",
            Group::Scripting => "scripting",
            Group::Sentinel => "sentinel",
            Group::Server => "server",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Stream => "stream",
            Group::String => "string",
            Group::Transactions => "transactions",
        }
    }
}

/// Where the keys of one kind begin among the arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// At this position (the command's name is 0).
    Index(i32),
    /// After this word, looked for from the position on (negative: from the end, backwards).
    Keyword(&'static str, i32),
    /// Nobody can say.
    Unknown,
}

/// Which arguments from the beginning on are keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Find {
    /// Up to `last` (relative to the beginning; negative: from the end), every `step`; with
    /// `last` -1, `limit` n takes the first n-th part of the arguments only.
    Range { last: i32, step: i32, limit: i32 },
    /// A count stands at `at`, the first key at `first`, one every `step`.
    KeyNum { at: i32, first: i32, step: i32 },
    /// Nobody can say.
    Unknown,
}

/// One kind of keys of a command.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    pub begin: Begin,
    pub find: Find,
    pub flags: KeyFlags,
    pub notes: &'static str,
}

impl KeySpec {
    /// A single key at position `pos`.
    pub const fn at(pos: i32) -> Self {
        Self::new(
            Begin::Index(pos),
            Find::Range {
                last: 0,
                step: 1,
                limit: 0,
            },
        )
    }
    /// Keys from `pos` up to `last` (relative, or negative from the end) every `step`.
    pub const fn range(pos: i32, last: i32, step: i32) -> Self {
        Self::new(
            Begin::Index(pos),
            Find::Range {
                last,
                step,
                limit: 0,
            },
        )
    }
    /// A spec with no flags.
    pub const fn new(begin: Begin, find: Find) -> Self {
        Self {
            begin,
            find,
            flags: KeyFlags::NONE,
            notes: "",
        }
    }
    pub const fn flags(mut self, flags: KeyFlags) -> Self {
        self.flags = flags;
        self
    }
    pub const fn notes(mut self, notes: &'static str) -> Self {
        self.notes = notes;
        self
    }
}

/// The type of a documented argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[rustfmt::skip]
pub enum ArgType { String, Integer, Double, Key, Pattern, UnixTime, PureToken, OneOf, Block }

impl ArgType {
    /// The name as COMMAND DOCS shows it.
    pub fn name(self) -> &'static str {
        match self {
            ArgType::String => "string",
            ArgType::Integer => "integer",
            ArgType::Double => "double",
            ArgType::Key => "key",
            ArgType::Pattern => "pattern",
            ArgType::UnixTime => "unix-time",
            ArgType::PureToken => "pure-token",
            ArgType::OneOf => "oneof",
            ArgType::Block => "block",
        }
    }
}

/// One documented argument of a command.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    pub name: &'static str,
    pub kind: ArgType,
    /// Shown instead of the name where they differ.
    pub display: &'static str,
    pub key_spec: i32,
    pub token: Option<&'static str>,
    pub summary: &'static str,
    pub since: &'static str,
    pub deprecated_since: &'static str,
    pub optional: bool,
    pub multiple: bool,
    pub multiple_token: bool,
    pub of: &'static [Arg],
}

impl Arg {
    /// An argument of the given name and type.
    pub const fn new(name: &'static str, kind: ArgType) -> Self {
        Arg {
            name,
            kind,
            display: "",
            key_spec: -1,
            token: None,
            summary: "",
            since: "",
            deprecated_since: "",
            optional: false,
            multiple: false,
            multiple_token: false,
            of: &[],
        }
    }
    /// A key, found by key spec number `spec`.
    pub const fn key(name: &'static str, spec: i32) -> Self {
        let mut a = Self::new(name, ArgType::Key);
        a.key_spec = spec;
        a
    }
    pub const fn string(name: &'static str) -> Self {
        Self::new(name, ArgType::String)
    }
    pub const fn int(name: &'static str) -> Self {
        Self::new(name, ArgType::Integer)
    }
    pub const fn double(name: &'static str) -> Self {
        Self::new(name, ArgType::Double)
    }
    pub const fn pattern(name: &'static str) -> Self {
        Self::new(name, ArgType::Pattern)
    }
    pub const fn unix_time(name: &'static str) -> Self {
        Self::new(name, ArgType::UnixTime)
    }
    /// A bare word of the syntax.
    pub const fn word(name: &'static str, token: &'static str) -> Self {
        Self::new(name, ArgType::PureToken).token(token)
    }
    pub const fn one_of(name: &'static str, of: &'static [Arg]) -> Self {
        let mut a = Self::new(name, ArgType::OneOf);
        a.of = of;
        a
    }
    pub const fn block(name: &'static str, of: &'static [Arg]) -> Self {
        let mut a = Self::new(name, ArgType::Block);
        a.of = of;
        a
    }
    /// The word that stands before the argument.
    pub const fn token(mut self, token: &'static str) -> Self {
        self.token = Some(token);
        self
    }
    pub const fn display(mut self, text: &'static str) -> Self {
        self.display = text;
        self
    }
    pub const fn key_spec(mut self, spec: i32) -> Self {
        self.key_spec = spec;
        self
    }
    pub const fn summary(mut self, text: &'static str) -> Self {
        self.summary = text;
        self
    }
    pub const fn since(mut self, version: &'static str) -> Self {
        self.since = version;
        self
    }
    pub const fn deprecated(mut self, version: &'static str) -> Self {
        self.deprecated_since = version;
        self
    }
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
    pub const fn multiple(mut self) -> Self {
        self.multiple = true;
        self
    }
    pub const fn multiple_token(mut self) -> Self {
        self.multiple_token = true;
        self
    }
}

/// One key as a command names it: its position among the arguments and what is done with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyRef {
    pub pos: usize,
    pub flags: KeyFlags,
}

impl KeyFlags {
    /// What a user must be allowed to do with such a key.
    pub fn access(self) -> Access {
        let reads = self.has(KeyFlags::ACCESS);
        let writes = self.has(KeyFlags::INSERT | KeyFlags::DELETE | KeyFlags::UPDATE);
        match (reads, writes) {
            (true, true) => Access::BOTH,
            (true, false) => Access::READ,
            (false, true) => Access::WRITE,
            (false, false) => Access::NONE,
        }
    }
}

impl From<KeyRef> for KeyUse {
    fn from(key: KeyRef) -> KeyUse {
        KeyUse {
            at: key.pos,
            access: key.flags.access(),
        }
    }
}

/// Finds the keys of a command whose key specs are not enough. `None`: the arguments are invalid.
pub type FindKeys = fn(args: &[&[u8]]) -> Option<Vec<KeyRef>>;

/// Everything about a command but its code.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Lower case; `container|subcommand` for a subcommand.
    pub name: &'static str,
    /// Number of arguments with the name; negative: at least that many.
    pub arity: i32,
    pub flags: Flags,
    /// Categories beyond those which follow from the flags.
    pub acl: Acl,
    pub group: Group,
    pub since: &'static str,
    /// Time complexity.
    pub cost: &'static str,
    /// One line on what it does.
    pub about: &'static str,
    pub history: &'static [(&'static str, &'static str)],
    pub deprecated_since: &'static str,
    pub replaced_by: &'static str,
    /// A system command, not meant for clients.
    pub syscmd: bool,
    pub tips: &'static [&'static str],
    pub keys: &'static [KeySpec],
    pub args: &'static [Arg],
    pub find_keys: Option<FindKeys>,
    /// Where arguments begin that name elements of the collection at the first key, and how far they are apart: what
    /// they lead to is fetched ahead. A hint, which options before them may spoil.
    pub elements: Option<(u8, u8)>,
}

impl Spec {
    /// A row with the given name, arity and group; the rest is added by the methods below.
    pub const fn new(name: &'static str, arity: i32, group: Group) -> Self {
        Spec {
            name,
            arity,
            flags: Flags::NONE,
            acl: Acl::NONE,
            group,
            since: "1.0.0",
            cost: "",
            about: "",
            history: &[],
            deprecated_since: "",
            replaced_by: "",
            syscmd: false,
            tips: &[],
            keys: &[],
            args: &[],
            find_keys: None,
            elements: None,
        }
    }
    pub const fn flags(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }
    pub const fn acl(mut self, acl: Acl) -> Self {
        self.acl = acl;
        self
    }
    pub const fn since(mut self, version: &'static str) -> Self {
        self.since = version;
        self
    }
    pub const fn cost(mut self, text: &'static str) -> Self {
        self.cost = text;
        self
    }
    pub const fn about(mut self, text: &'static str) -> Self {
        self.about = text;
        self
    }
    pub const fn history(mut self, entries: &'static [(&'static str, &'static str)]) -> Self {
        self.history = entries;
        self
    }
    pub const fn deprecated(mut self, since: &'static str, replaced_by: &'static str) -> Self {
        self.deprecated_since = since;
        self.replaced_by = replaced_by;
        self
    }
    pub const fn syscmd(mut self) -> Self {
        self.syscmd = true;
        self
    }
    pub const fn tips(mut self, tips: &'static [&'static str]) -> Self {
        self.tips = tips;
        self
    }
    pub const fn keys(mut self, keys: &'static [KeySpec]) -> Self {
        self.keys = keys;
        self
    }
    pub const fn args(mut self, args: &'static [Arg]) -> Self {
        self.args = args;
        self
    }
    /// Keys that the key specs alone cannot find.
    pub const fn find_keys(mut self, f: FindKeys) -> Self {
        self.find_keys = Some(f);
        self
    }
    /// See [`Spec::elements`].
    pub const fn elements(mut self, first: u8, step: u8) -> Self {
        self.elements = Some((first, step));
        self
    }
    /// The row of a command: this with its function.
    pub const fn run<F: Copy>(self, run: F) -> Row<F> {
        Row {
            spec: self,
            run: Some(run),
        }
    }
    /// The row of a container command, which only has subcommands.
    pub const fn container<F: Copy>(self) -> Row<F> {
        Row {
            spec: self,
            run: None,
        }
    }
}

/// A command: its row and its function.
#[derive(Clone, Copy)]
pub struct Row<F: 'static> {
    pub spec: Spec,
    pub run: Option<F>,
}
