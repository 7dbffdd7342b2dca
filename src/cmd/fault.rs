//! Why a command failed: what becomes an error reply.

use std::borrow::Cow;

use crate::cmd::args::OwnedArgs;
use crate::object::{Type, WrongType};

/// An error reply without its leading `-`: the code, a space, the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(Cow<'static, [u8]>);

impl Fault {
    /// An error of a fixed text such as `ERR syntax error`.
    pub const fn new(text: &'static str) -> Self {
        Fault(Cow::Borrowed(text.as_bytes()))
    }

    /// An error whose text is made on the spot; bytes from a client may be part of it.
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Fault(Cow::Owned(text.into()))
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<WrongType> for Fault {
    fn from(_: WrongType) -> Fault {
        WRONG_TYPE
    }
}

/// An argument as errors quote it: as C prints a text, up to a zero byte.
pub fn quoted(arg: &[u8]) -> &[u8] {
    arg.split(|&b| b == 0).next().unwrap_or_default()
}

/// What a command function gives: how it went on, or why it failed.
pub type CmdResult = Result<Flow, Fault>;

/// How a command that did not fail goes on.
#[derive(Debug)]
pub enum Flow {
    /// It is done and has replied.
    Done,
    /// It has nothing to reply yet and waits.
    Block(Box<Block>),
    /// The same, but when it runs again it is with these arguments.
    BlockAs(Box<Block>, Box<OwnedArgs>),
    /// It waits for something else than keys, and its connection is parked already.
    Parked,
}

/// The command is done and has replied.
pub const DONE: CmdResult = Ok(Flow::Done);

/// What a command that waits is waiting for.
#[derive(Debug)]
pub struct Block {
    /// Runs the command again when one of these is signalled as ready.
    pub keys: Vec<Box<[u8]>>,
    /// The type of key that it waits for; a key of another type does not wake it.
    pub waits_for: Type,
    /// Unix time in ms at which it gives up; `None`: never.
    pub deadline: Option<u64>,
    /// What it replies then (and at once inside MULTI or a script).
    pub on_timeout: OnTimeout,
    /// True if a key that is deleted or changes its type wakes it as well (XREADGROUP).
    pub wake_on_delete: bool,
}

/// The reply of a blocked command that gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTimeout {
    NullArray,
    Null,
    Zero,
}

/// `Fault::new` under a name short enough for tables of texts.
const fn f(text: &'static str) -> Fault {
    Fault::new(text)
}

pub const SYNTAX: Fault = f("ERR syntax error");
pub const WRONG_TYPE: Fault =
    f("WRONGTYPE Operation against a key holding the wrong kind of value");
pub const NOT_INTEGER: Fault = f("ERR value is not an integer or out of range");
pub const VALUE_OUT_OF_RANGE: Fault = f("ERR value is out of range");
pub const NOT_FLOAT: Fault = f("ERR value is not a valid float");
pub const OUT_OF_RANGE: Fault = f("ERR index out of range");
pub const NO_SUCH_KEY: Fault = f("ERR no such key");
pub const SAME_OBJECT: Fault = f("ERR source and destination objects are the same");
pub const OVERFLOW: Fault = f("ERR increment or decrement would overflow");
pub const NAN_OR_INF: Fault = f("ERR increment would produce NaN or Infinity");
pub const OOM: Fault = f("OOM command not allowed when used memory > 'maxmemory'.");
