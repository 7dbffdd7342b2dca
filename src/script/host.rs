//! What a script may ask of the server that runs it.

use std::borrow::Cow;

/// Why a command was not even tried: a text that has a code of its own if it begins with `-`.
pub type Refusal = Cow<'static, [u8]>;

/// How a script goes on that has run for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    GoesOn,
    /// It ends with this error, whatever it does to catch it.
    Ends(&'static str),
}

/// No command has this name.
#[derive(Debug)]
pub struct NoSuchCommand;

/// The server as a script sees it.
pub trait Host {
    /// Runs a command and shows its reply, as bytes.
    fn call(&mut self, argv: &[&[u8]], reply: &mut dyn FnMut(&[u8])) -> Result<(), Refusal>;
    /// Replies come in this version of the protocol from now on: 2 or 3.
    fn set_resp(&mut self, version: u8);
    /// Who is to hear of changes from now on.
    fn set_repl(&mut self, log: bool, replicas: bool);
    /// True if the user may run this command.
    fn may_run(&mut self, argv: &[&[u8]]) -> Result<bool, NoSuchCommand>;
    /// The script has run some thousand instructions.
    fn turn(&mut self) -> Turn;
    /// What whoever debugs the script has typed, which is waited for. `None`: nobody is there any more.
    fn typed(&mut self) -> Option<Vec<u8>> {
        None
    }
    /// Shows them something, in bytes of the protocol.
    fn show(&mut self, _: &[u8]) {}
    /// True if a script that is debugged has run for too long without a stop.
    fn is_overdue(&mut self) -> bool {
        false
    }
    /// It goes on after a stop.
    fn begins_anew(&mut self) {}
}
