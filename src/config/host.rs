//! What reading and changing a configuration asks of the world around it.

use super::types::Text;

/// Gives the absolute form of a path, seen from a directory, if it is a directory one may enter, else the
/// reason in `strerror`'s words.
pub type Enter<'a> = &'a mut dyn FnMut(&Text, &[u8]) -> Result<Text, String>;

/// The disk and the command table, as the configuration sees them. Paths are relative to `dir`, the
/// configured directory so far, since nothing here changes the process's own.
pub trait Host {
    /// See [`Enter`].
    fn enter(&mut self, dir: &Text, path: &[u8]) -> Result<Text, String>;

    /// A file's content (a directory's: nothing), or the reason why there is none.
    fn read(&mut self, dir: &Text, path: &[u8]) -> Result<Vec<u8>, String>;

    /// The files that a pattern with wildcards stands for, in alphabetical order.
    fn matching(&mut self, dir: &Text, pattern: &[u8]) -> Vec<Text>;

    /// Whether the log file can be appended to, or why not.
    fn appendable(&mut self, dir: &Text, path: &[u8]) -> Result<(), String>;

    /// Whether there is a command of this name (in any case).
    fn is_command(&self, name: &[u8]) -> bool;
}
