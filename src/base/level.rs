//! How much a line of the log matters, in the words of Redis's `loglevel`. For those who hand their lines on as values.

/// See the head of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Verbose,
    Notice,
    Warning,
}

impl Level {
    /// Writes a line of this level.
    pub fn log(self, text: &str) {
        match self {
            Level::Warning => log::warn!("{text}"),
            Level::Notice => log::info!("{text}"),
            Level::Verbose => log::debug!("{text}"),
            Level::Debug => log::trace!("{text}"),
        }
    }
}
