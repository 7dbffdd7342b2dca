//! What a directive's value can be: the types of `Config`'s fields, and the description (`Row`) that
//! the parser, CONFIG GET, SET and REWRITE read to handle a field without knowing it by name.

use std::ffi::OsStr;
use std::fmt;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Config;
use super::host::Enter;
use super::rewrite::Rewriter;
use super::set::Setting;

/// A configured string: any bytes, since passwords and paths need not be UTF-8. Empty means "not set"
/// wherever Redis makes that distinction.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(Vec<u8>);

impl Text {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as a path.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// For log lines and INFO: what is not UTF-8 is replaced.
    pub fn lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl Deref for Text {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(s: &str) -> Text {
        Text(s.as_bytes().to_vec())
    }
}

impl From<&[u8]> for Text {
    fn from(s: &[u8]) -> Text {
        Text(s.to_vec())
    }
}

impl From<Vec<u8>> for Text {
    fn from(s: Vec<u8>) -> Text {
        Text(s)
    }
}

impl From<&Path> for Text {
    fn from(p: &Path) -> Text {
        Text(p.as_os_str().as_bytes().to_vec())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.lossy())
    }
}

/// Properties of a directive beyond its type. A row without `IMMUTABLE` may be changed by CONFIG SET.
pub mod flag {
    /// Only the file and the command line set it.
    pub const IMMUTABLE: u16 = 1 << 0;
    /// CONFIG SET only where `enable-protected-configs` allows it.
    pub const PROTECTED: u16 = 1 << 1;
    /// CONFIG SET answers -LOADING while a dataset is being loaded.
    pub const DENY_LOADING: u16 = 1 << 2;
    /// CONFIG GET finds it by its exact name only.
    pub const HIDDEN: u16 = 1 << 3;
    /// Its value is kept out of the slow log and MONITOR.
    pub const SENSITIVE: u16 = 1 << 4;
    /// Printed in a crash report.
    pub const DEBUG: u16 = 1 << 5;
    /// Takes any number of arguments, and checks that number itself.
    pub const MULTI_ARG: u16 = 1 << 6;
    /// Setting it to the value it has counts as a change (a certificate file with new content).
    pub const VOLATILE: u16 = 1 << 7;
    /// The empty string means "not set", and such a row is never written to a file.
    pub const OPTIONAL: u16 = 1 << 8;
    /// The alias came with a later Redis: CONFIG GET finds it by its exact name only.
    pub const HIDDEN_ALIAS: u16 = 1 << 9;
}

/// What the server must do after CONFIG SET changed a directive. Directives with the same `Apply` are
/// applied once, after all of a CONFIG SET's values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Apply {
    Nothing,
    AofAutoGc,
    AppendFsync,
    Appendonly,
    Bind,
    ClusterAnnouncedPort,
    ClusterFlags,
    ClusterHostname,
    ClusterHumanNodename,
    ClusterIp,
    CrashLog,
    GoodReplicas,
    Hz,
    JemallocBgThread,
    LocaleCollate,
    Loglevel,
    Maxclients,
    Maxmemory,
    MaxmemoryClients,
    OomScoreAdj,
    Port,
    ProcTitle,
    ReplBacklogSize,
    RequirePass,
    Tls,
    TlsPort,
    Watchdog,
}

/// How a number is read and printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Decimal digits, nothing else.
    Plain,
    /// Bytes, with `k kb m mb g gb` as units.
    Memory,
    /// Bytes as above, or `n%`, which is kept as `-n`.
    MemoryOrPercent,
    /// File permissions.
    Octal,
}

/// Integer fields of any width, seen through one that holds them all.
pub trait Number: Copy {
    fn wide(self) -> i128;
    /// `v` lies within the row's bounds, and those within the type: the table's test checks it.
    fn narrow(v: i128) -> Self;
}

macro_rules! numbers {
    ($($t:ty)+) => {$(
        impl Number for $t {
            fn wide(self) -> i128 {
                self as i128
            }
            fn narrow(v: i128) -> $t {
                v.clamp(<$t>::MIN as i128, <$t>::MAX as i128) as $t
            }
        }
    )+};
}
numbers!(u16 u32 i32 u64 i64 usize);

/// The choices of an enumerated directive as the file spells them, each with its code.
pub type Names = &'static [(&'static str, u32)];

/// An enumerated field.
pub trait Choice: Copy {
    const NAMES: Names;
    fn code(self) -> u32;
    /// `code` comes from `NAMES`.
    fn from_code(code: u32) -> Self;
    /// The value as the file spells it (of several names the first).
    fn name(self) -> &'static str {
        let code = self.code();
        let found = Self::NAMES.iter().find(|(_, c)| *c == code);
        found.map_or("unknown", |(name, _)| name)
    }
}

macro_rules! choices {
    ($($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $first:literal $(or $second:literal)?,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $type { $($(#[$vdoc])* $variant,)+ }
        impl Choice for $type {
            const NAMES: Names = &[
                $(($first, $type::$variant as u32), $(($second, $type::$variant as u32),)?)+
            ];
            fn code(self) -> u32 {
                self as u32
            }
            fn from_code(code: u32) -> $type {
                let all = [$($type::$variant),+];
                all[(code as usize).min(all.len() - 1)]
            }
        }
    )+};
}

choices! {
    /// What to evict once `maxmemory` is reached, and by which measure.
    MaxmemoryPolicy {
        VolatileLru = "volatile-lru",
        VolatileLfu = "volatile-lfu",
        VolatileRandom = "volatile-random",
        VolatileTtl = "volatile-ttl",
        AllkeysLru = "allkeys-lru",
        AllkeysLfu = "allkeys-lfu",
        AllkeysRandom = "allkeys-random",
        NoEviction = "noeviction",
    }
    /// The syslog facility.
    SyslogFacility {
        User = "user",
        Local0 = "local0",
        Local1 = "local1",
        Local2 = "local2",
        Local3 = "local3",
        Local4 = "local4",
        Local5 = "local5",
        Local6 = "local6",
        Local7 = "local7",
    }
    /// How much is logged.
    LogLevel {
        Debug = "debug",
        Verbose = "verbose",
        Notice = "notice",
        Warning = "warning",
        Nothing = "nothing",
    }
    /// Who started the server and waits to hear that it is ready.
    Supervised {
        Upstart = "upstart",
        Systemd = "systemd",
        Auto = "auto",
        No = "no",
    }
    /// When the append only file is synced.
    AppendFsync {
        Everysec = "everysec",
        Always = "always",
        No = "no",
    }
    /// Whether a replica loads a full sync straight from the socket.
    ReplDisklessLoad {
        Disabled = "disabled",
        OnEmptyDb = "on-empty-db",
        Swapdb = "swapdb",
    }
    /// Whether a TLS client must show a certificate.
    TlsAuthClients {
        No = "no",
        Yes = "yes",
        Optional = "optional",
    }
    /// Whether and how the OOM killer's score is set.
    OomScoreAdj {
        No = "no",
        Relative = "yes" or "relative",
        Absolute = "absolute",
    }
    /// The channels a new ACL user may use.
    AclPubsubDefault {
        Allchannels = "allchannels",
        Resetchannels = "resetchannels",
    }
    /// Whether payloads are checked in depth while they are loaded.
    SanitizeDumpPayload {
        No = "no",
        Yes = "yes",
        Clients = "clients",
    }
    /// Whom a protected action is allowed to.
    ProtectedAction {
        No = "no",
        Yes = "yes",
        Local = "local",
    }
    /// What a cluster redirection names the node by.
    ClusterPreferredEndpointType {
        Ip = "ip",
        Hostname = "hostname",
        UnknownEndpoint = "unknown-endpoint",
    }
    /// What to do when a replicated command fails.
    PropagationErrorBehavior {
        Ignore = "ignore",
        Panic = "panic",
        PanicOnReplicas = "panic-on-replicas",
    }
}

impl ProtectedAction {
    /// Whether a client may do it; `local` says that it came over loopback or the Unix socket.
    pub fn allows(self, local: bool) -> bool {
        match self {
            ProtectedAction::No => false,
            ProtectedAction::Yes => true,
            ProtectedAction::Local => local,
        }
    }
}

impl MaxmemoryPolicy {
    /// Only keys with a TTL are evicted.
    pub fn is_volatile(self) -> bool {
        use MaxmemoryPolicy::*;
        matches!(
            self,
            VolatileLru | VolatileLfu | VolatileRandom | VolatileTtl
        )
    }

    /// Access counts are kept (instead of access times).
    pub fn is_lfu(self) -> bool {
        matches!(
            self,
            MaxmemoryPolicy::VolatileLfu | MaxmemoryPolicy::AllkeysLfu
        )
    }

    /// Access times decide.
    pub fn is_lru(self) -> bool {
        matches!(
            self,
            MaxmemoryPolicy::VolatileLru | MaxmemoryPolicy::AllkeysLru
        )
    }
}

/// How a signal shuts the server down: flags of SHUTDOWN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownFlags(pub u32);

impl ShutdownFlags {
    pub const SAVE: ShutdownFlags = ShutdownFlags(1);
    pub const NOSAVE: ShutdownFlags = ShutdownFlags(2);
    pub const NOW: ShutdownFlags = ShutdownFlags(4);
    pub const FORCE: ShutdownFlags = ShutdownFlags(8);

    /// All of `other`'s flags are set.
    pub fn contains(self, other: ShutdownFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Choice for ShutdownFlags {
    const NAMES: Names = &[
        ("default", 0),
        ("save", 1),
        ("nosave", 2),
        ("now", 4),
        ("force", 8),
    ];
    fn code(self) -> u32 {
        self.0
    }
    fn from_code(code: u32) -> ShutdownFlags {
        ShutdownFlags(code)
    }
}

/// The classes of keyspace events to publish, by the letters of `notify-keyspace-events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NotifyFlags(pub u32);

impl NotifyFlags {
    /// `K`: publish on `__keyspace@<db>__:<key>`.
    pub const KEYSPACE: NotifyFlags = NotifyFlags(1 << 0);
    /// `E`: publish on `__keyevent@<db>__:<event>`.
    pub const KEYEVENT: NotifyFlags = NotifyFlags(1 << 1);
    /// `g`: commands of no type, such as DEL.
    pub const GENERIC: NotifyFlags = NotifyFlags(1 << 2);
    /// `$`
    pub const STRING: NotifyFlags = NotifyFlags(1 << 3);
    /// `l`
    pub const LIST: NotifyFlags = NotifyFlags(1 << 4);
    /// `s`
    pub const SET: NotifyFlags = NotifyFlags(1 << 5);
    /// `h`
    pub const HASH: NotifyFlags = NotifyFlags(1 << 6);
    /// `z`
    pub const ZSET: NotifyFlags = NotifyFlags(1 << 7);
    /// `x`: a key expired.
    pub const EXPIRED: NotifyFlags = NotifyFlags(1 << 8);
    /// `e`: a key was evicted.
    pub const EVICTED: NotifyFlags = NotifyFlags(1 << 9);
    /// `t`
    pub const STREAM: NotifyFlags = NotifyFlags(1 << 10);
    /// `m`: a key was looked up in vain (not part of `A`).
    pub const KEY_MISS: NotifyFlags = NotifyFlags(1 << 11);
    /// `d`: module types.
    pub const MODULE: NotifyFlags = NotifyFlags(1 << 13);
    /// `n`: a new key (not part of `A`).
    pub const NEW: NotifyFlags = NotifyFlags(1 << 14);
    /// `A`: short for `g$lshzxetd`.
    pub const ALL: NotifyFlags = NotifyFlags(0x7fc | 1 << 13);

    /// The letters in the order in which CONFIG GET prints them.
    const LETTERS: [(u8, NotifyFlags); 14] = [
        (b'g', NotifyFlags::GENERIC),
        (b'$', NotifyFlags::STRING),
        (b'l', NotifyFlags::LIST),
        (b's', NotifyFlags::SET),
        (b'h', NotifyFlags::HASH),
        (b'z', NotifyFlags::ZSET),
        (b'x', NotifyFlags::EXPIRED),
        (b'e', NotifyFlags::EVICTED),
        (b't', NotifyFlags::STREAM),
        (b'd', NotifyFlags::MODULE),
        (b'n', NotifyFlags::NEW),
        (b'K', NotifyFlags::KEYSPACE),
        (b'E', NotifyFlags::KEYEVENT),
        (b'm', NotifyFlags::KEY_MISS),
    ];

    /// All of `other`'s bits are set.
    pub const fn contains(self, other: NotifyFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Any of `other`'s bits is set.
    pub const fn intersects(self, other: NotifyFlags) -> bool {
        self.0 & other.0 != 0
    }

    /// No bit is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The flags that `letters` spell; `None` if one is unknown.
    pub fn parse(letters: &[u8]) -> Option<NotifyFlags> {
        let mut flags = 0;
        for letter in letters {
            flags |= match letter {
                b'A' => NotifyFlags::ALL.0,
                _ => Self::LETTERS.iter().find(|(l, _)| l == letter)?.1.0,
            };
        }
        Some(NotifyFlags(flags))
    }

    /// The letters, shortened to `A` where all of its classes are set.
    pub fn letters(self) -> String {
        let mut out = String::new();
        let all = self.contains(NotifyFlags::ALL);
        if all {
            out.push('A');
        }
        for (letter, flag) in Self::LETTERS {
            // As in Redis, `A` swallows `n` too.
            let in_all = all && (NotifyFlags::ALL.contains(flag) || flag == NotifyFlags::NEW);
            if self.contains(flag) && !in_all {
                out.push(letter as char);
            }
        }
        out
    }
}

impl std::ops::BitOr for NotifyFlags {
    type Output = NotifyFlags;
    fn bitor(self, other: NotifyFlags) -> NotifyFlags {
        NotifyFlags(self.0 | other.0)
    }
}

/// How much unsent output a class of clients may have: `hard` bytes at any time, `soft` bytes for up to
/// `soft_seconds`. Zero means unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientBufferLimit {
    pub hard: usize,
    pub soft: usize,
    pub soft_seconds: u64,
}

/// The classes of `client-output-buffer-limit`, in the order of its array.
pub const BUFFER_CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];

/// The master that a replica follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaOf {
    pub host: Text,
    pub port: u16,
}

/// A check beyond a value's type: the reason it is refused, if it is.
pub type Check<T> = Option<fn(T) -> Result<(), &'static str>>;
/// The same for a string.
pub type TextCheck = Option<fn(&[u8]) -> Result<(), &'static str>>;

/// How a special directive stores its arguments.
pub type SpecialSet = fn(&mut Config, &[Vec<u8>], &mut Setting, Enter<'_>) -> Result<bool, String>;

/// A directive whose value fits no simple type: its own functions.
pub struct Special {
    /// Stores the value; `Ok(false)` says that nothing changed.
    pub set: SpecialSet,
    /// The value as CONFIG GET prints it.
    pub get: fn(&Config) -> Vec<u8>,
    /// Writes the directive's line or lines.
    pub rewrite: fn(&Config, &str, &mut Rewriter),
}

/// A directive's type, with access to its field.
pub enum Kind {
    YesNo {
        get: fn(&Config) -> bool,
        set: fn(&mut Config, bool),
    },
    Number {
        get: fn(&Config) -> i128,
        set: fn(&mut Config, i128),
        low: i128,
        high: i128,
        unit: Unit,
    },
    Text {
        get: fn(&Config) -> &Text,
        set: fn(&mut Config, Text),
        check: TextCheck,
    },
    /// One of several names, or with `MULTI_ARG` several of them at once.
    Choice {
        names: Names,
        get: fn(&Config) -> u32,
        set: fn(&mut Config, u32),
        check: Check<u32>,
    },
    Special(Special),
}

/// One directive.
pub struct Row {
    /// As the file spells it, in lower case.
    pub name: &'static str,
    /// An older (or newer) spelling.
    pub alias: Option<&'static str>,
    /// Of [`flag`].
    pub flags: u16,
    pub kind: Kind,
    /// What the server does after a change.
    pub apply: Apply,
}

impl Row {
    /// All bits of `flag` are set.
    pub fn is(&self, flag: u16) -> bool {
        self.flags & flag == flag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notify_letters_as_redis_orders_them() {
        let cases = [
            ("KEA", "AKE"),
            ("AKE", "AKE"),
            ("Ex", "xE"),
            ("g$lshzxet", "g$lshzxet"),
            ("g$lshzxetd", "A"),
            ("Kn", "nK"),
            ("Amn", "Am"),
            ("KEmx", "xKEm"),
            ("", ""),
        ];
        for (given, shown) in cases {
            assert_eq!(
                NotifyFlags::parse(given.as_bytes()).unwrap().letters(),
                shown
            );
        }
        assert_eq!(NotifyFlags::parse(b"KEq"), None);
    }
}
