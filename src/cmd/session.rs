//! A session: who speaks and in what state, apart from the socket they speak through.
//!
//! A network client has a session and a connection; a script, the loading of a command log and
//! the link to a master each have a session alone. Commands see sessions, never sockets.

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;

use crate::acl::User;
use crate::cmd::args::OwnedArgs;
use crate::cmd::spec::bits;

bits! {
    /// The states of a session that are a plain yes or no.
    Marks: u64 {
        /// Commands until EXEC are queued; one of them was refused, so that EXEC will fail.
        DIRTY_EXEC = 0, "";
        /// Inside EXEC: queued commands are running.
        IN_EXEC = 1, "";
        /// May not block: MULTI, scripts.
        DENY_BLOCKING = 2, "";
        /// MONITOR was called.
        MONITOR = 3, "";
        /// Never evicted (CLIENT NO-EVICT).
        NO_EVICT = 4, "";
        /// Reading does not change a key's access time (CLIENT NO-TOUCH).
        NO_TOUCH = 5, "";
        /// No replies at all (CLIENT REPLY OFF).
        REPLY_OFF = 6, "";
        /// The next command gets no reply (CLIENT REPLY SKIP was just run).
        REPLY_SKIP_NEXT = 7, "";
        /// The running command gets no reply.
        REPLY_SKIP = 8, "";
        /// Came over a Unix socket.
        UNIX_SOCKET = 9, "";
        /// The output is complete with what is there now; then the connection closes.
        CLOSE_AFTER_REPLY = 10, "";
        /// The connection closes as soon as nobody is in its data.
        CLOSE_ASAP = 11, "";
        /// The link to the master, or the loading of a log: trusted, never refused.
        MASTER = 12, "";
        /// Waits for CLIENT PAUSE to end.
        PAUSED = 13, "";
        /// READONLY was called: a cluster replica may serve it.
        READONLY = 14, "";
        /// ASKING was called for the next command.
        ASKING = 15, "";
        /// What this session does is not logged or replicated.
        NO_PROPAGATE = 16, "";
        /// Has input that was not run yet, because its share of the turn was used up.
        PENDING_INPUT = 17, "";
        /// A replica of ours.
        REPLICA = 18, "";
        /// A link: its input goes to its owner and is no commands.
        LINK = 19, "";
        /// A link that is not connected yet.
        OPENING = 20, "";
        /// Nothing is read from it for now.
        NOT_READ = 21, "";
        /// Has no socket, and is neither counted nor listed: runs the commands of a log.
        HEADLESS = 22, "";
        /// Its user may not do everything: each command is a question.
        LIMITED = 23, "";
        /// Hears of changes of the keys that it reads (CLIENT TRACKING).
        TRACKING = 24, "";
        /// Or of all changes of keys with certain prefixes.
        TRACKING_BCAST = 25, "";
        /// Only of those keys that are read after CLIENT CACHING YES.
        TRACKING_OPTIN = 26, "";
        /// Not of those that are read after CLIENT CACHING NO.
        TRACKING_OPTOUT = 27, "";
        /// CLIENT CACHING was called for the next command.
        TRACKING_CACHING = 28, "";
        /// Not of what it changes itself.
        TRACKING_NOLOOP = 29, "";
        /// Whoever was to hear in its place is gone.
        TRACKING_BROKEN = 30, "";
        /// Runs the commands of scripts.
        SCRIPT = 31, "";
        /// Has called a script that takes long, while others are seen to: it is neither read nor closed.
        PROTECTED = 32, "";
        /// Its scripts are debugged, apart from the data (SCRIPT DEBUG YES).
        DEBUG_APART = 33, "";
        /// Or where they are (SCRIPT DEBUG SYNC).
        DEBUG_IN_PLACE = 34, "";
        /// What it sends is for a debugger.
        DEBUGGED = 35, "";
        /// Speaks TLS.
        TLS = 36, "";
        /// Does not know yet whom it speaks with: the handshake of TLS is under way.
        SHAKING = 37, "";
    }
}

impl Marks {
    /// Sets or clears the bits of `which`.
    pub fn set(&mut self, which: Marks, on: bool) {
        if on {
            self.0 |= which.0
        } else {
            self.0 &= !which.0
        }
    }
}

/// Names a session's place in the table of connections. Given again once it is closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Token(pub usize);

/// A transaction being put together: what MULTI started.
#[derive(Debug, Default)]
pub struct Multi {
    pub commands: Vec<Queued>,
    /// How many EXEC has taken out to run them: the session counts as in a transaction until it is through.
    pub running: usize,
    /// Bytes that the queued arguments hold.
    pub memory: usize,
}

/// A command that waits for EXEC.
#[derive(Debug)]
pub struct Queued {
    pub args: OwnedArgs,
    /// Number of the command in the table.
    pub command: usize,
}

/// What a session listens to.
#[derive(Debug, Default)]
pub struct Subscriptions {
    pub channels: BTreeSet<Bytes>,
    pub patterns: BTreeSet<Bytes>,
    pub shard_channels: BTreeSet<Bytes>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Session {
    /// Unique for the life of the server; what CLIENT ID shows.
    pub id: u64,
    /// Selected database.
    pub db: u32,
    pub marks: Marks,
    pub authenticated: bool,
    /// Whom it is logged in as, or would be; `None` may do everything (the link to a master, a log that is loaded).
    user: Option<Rc<User>>,
    pub name: Bytes,
    pub lib_name: Bytes,
    pub lib_version: Bytes,
    pub multi: Option<Box<Multi>>,
    pub subs: Option<Box<Subscriptions>>,
    /// Number of the last command in the table, for CLIENT LIST.
    pub last_command: Option<usize>,
}

impl Session {
    /// A session in database 0, not authenticated.
    pub fn new(id: u64) -> Self {
        Session {
            id,
            db: 0,
            marks: Marks::NONE,
            authenticated: false,
            user: None,
            name: Bytes::new(),
            lib_name: Bytes::new(),
            lib_version: Bytes::new(),
            multi: None,
            subs: None,
            last_command: None,
        }
    }

    /// Whom it is logged in as, see [`Session::set_user`].
    pub fn user(&self) -> Option<&Rc<User>> {
        self.user.as_ref()
    }

    /// Makes it another user's, or nobody's.
    pub fn set_user(&mut self, user: Option<Rc<User>>) {
        let limited = user.as_ref().is_some_and(|user| !user.is_unlimited());
        self.marks.set(Marks::LIMITED, limited);
        self.user = user;
    }

    /// True while in pub/sub mode: any subscription holds.
    pub fn subscribed(&self) -> bool {
        self.subs.is_some()
    }
}
