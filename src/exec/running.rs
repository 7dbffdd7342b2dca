//! The arguments of the running command, where a crash report finds them.
//!
//! They are borrowed from the caller of the command, on its stack: no reference to them can be kept in
//! the server. So `call` keeps a note of where they are, and takes it back when the command returns.

/// See the head of the file.
#[derive(Clone, Copy)]
pub struct RunningArgs {
    argv: *const &'static [u8],
    len: usize,
}

impl Default for RunningArgs {
    fn default() -> Self {
        RunningArgs::of(&[])
    }
}

impl RunningArgs {
    /// A note of these arguments, without a claim on their lives.
    #[inline]
    pub fn of(argv: &[&[u8]]) -> Self {
        RunningArgs {
            argv: argv.as_ptr().cast(),
            len: argv.len(),
        }
    }

    /// The arguments.
    ///
    /// # Safety
    /// Their command has not returned and will not while the result is in use.
    pub unsafe fn get(&self) -> &[&[u8]] {
        // SAFETY: the caller's promise: what the note was taken of is still borrowed.
        unsafe { std::slice::from_raw_parts(self.argv, self.len) }
    }
}
