//! The manifest: which files make up the log, in which order.
//!
//! # The file
//! ```text
//! file appendonly.aof.2.base.rdb seq 2 type b       b  base: the data at the last rewrite; none or one
//! file appendonly.aof.1.incr.aof seq 1 type h       h  history: a rewrite has made it superfluous, it is to be deleted
//! file appendonly.aof.2.incr.aof seq 2 type i       i  incremental: what was done since, in the order of their numbers
//! file appendonly.aof.3.incr.aof seq 3 type i          the last one is being written
//! ```
//! A line is words and values in turn, in any order; words that are not known are passed over. A name with blanks and the
//! like is quoted as in a redis.conf. Lines that begin with `#` are comments. It is always written as a whole, into a file
//! with a name of its own that then replaces it: what happened to a log is what its manifest says.
//!
//! # A rewrite
//! ```text
//! it begins       a new incremental file is opened, so that what is done meanwhile goes there
//! it is done      the old base and the incremental files before that one become history; the new base is named
//! it is known     the manifest is on disk: the history can be deleted, and then taken out of it
//! ```
//! Numbers only grow. They are part of the names, so that no file is ever written over.

use std::fmt;
use std::io::Write;

use crate::base::number::leading_i64;
use crate::base::quoted::{needs_quotes, quote_into, split_args};
use crate::config::Text;

/// A longer line is refused.
const LINE_MAX: usize = 1024;
/// A larger number is refused: there must be room for those that follow.
const SEQ_MAX: i64 = i64::MAX / 2;

/// What a file of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Base,
    History,
    Incr,
}

impl Kind {
    /// The letter that stands for it.
    fn letter(self) -> u8 {
        match self {
            Kind::Base => b'b',
            Kind::History => b'h',
            Kind::Incr => b'i',
        }
    }
}

/// A file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name in the directory of the log.
    pub name: Text,
    pub seq: i64,
}

/// See the head of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    base: Option<File>,
    history: Vec<File>,
    incr: Vec<File>,
    /// The highest numbers that were given.
    base_seq: i64,
    incr_seq: i64,
}

/// Why a manifest cannot be used. No server starts over one: which data it has would be a guess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The line's number, from 1, and its text, if the line as such could be read.
    pub line: Option<(u32, Vec<u8>)>,
    /// In Redis's words.
    pub what: &'static str,
}

impl ManifestError {
    /// The file could not be read to its end.
    pub const UNREADABLE: ManifestError = ManifestError {
        line: None,
        what: "Read AOF manifest failed",
    };

    /// The entries of the log that Redis makes of it, each of which has empty lines of its own.
    pub fn report(&self) -> Vec<String> {
        let mut entries = vec!["\n*** FATAL AOF MANIFEST FILE ERROR ***\n".to_string()];
        if let Some((number, text)) = &self.line {
            entries.push(format!("Reading the manifest file, at line {number}\n"));
            entries.push(format!(">>> '{}'\n", String::from_utf8_lossy(text)));
        }
        entries.push(format!("{}\n", self.what));
        entries
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for ManifestError {}

/// The name of the manifest of the log `log` (`appendfilename`).
pub fn manifest_name(log: &[u8]) -> Text {
    [log, b".manifest"].concat().into()
}

/// The name under which it is written before it replaces the present one.
pub fn temp_manifest_name(log: &[u8]) -> Text {
    [b"temp-", log, b".manifest"].concat().into()
}

/// The name of the incremental file of a log that has been switched on and has no base yet: it counts once it has.
pub fn temp_incr_name(log: &[u8]) -> Text {
    [b"temp-", log, b".incr"].concat().into()
}

impl Manifest {
    /// Reads a manifest.
    pub fn parse(text: &[u8]) -> Result<Manifest, ManifestError> {
        let bare = |what| ManifestError { line: None, what };
        if text.is_empty() {
            return Err(bare("Found an empty AOF manifest"));
        }
        let mut manifest = Manifest::default();
        let (mut rest, mut number) = (text, 0u32);
        while !rest.is_empty() {
            // Like the buffer that Redis reads lines into: the rest of a long comment is a line again.
            let most = &rest[..rest.len().min(LINE_MAX)];
            let end = memchr::memchr(b'\n', most).map_or(most.len(), |at| at + 1);
            let line = &rest[..end];
            (rest, number) = (&rest[end..], number.saturating_add(1));
            if line.first() == Some(&b'#') {
                continue;
            }
            if !line.ends_with(b"\n") || line.contains(&0) {
                return Err(bare("The AOF manifest file contains too long line"));
            }
            let line = trimmed(line);
            parse_line(line)
                .and_then(|(kind, file)| manifest.add(kind, file))
                .map_err(|what| ManifestError {
                    line: Some((number, line.to_vec())),
                    what,
                })?;
        }
        Ok(manifest)
    }

    /// The manifest of a log that an older version wrote as the one file `log`: that is its base.
    pub fn of_old_log(log: &[u8]) -> Manifest {
        Manifest {
            base: Some(File {
                name: log.into(),
                seq: 1,
            }),
            base_seq: 1,
            ..Manifest::default()
        }
    }

    /// The text of the file.
    pub fn to_text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let of = |kind| move |file| (kind, file);
        let base = self.base.iter().map(of(Kind::Base));
        let history = self.history.iter().map(of(Kind::History));
        let incr = self.incr.iter().map(of(Kind::Incr));
        for (kind, file) in base.chain(history).chain(incr) {
            out.extend_from_slice(b"file ");
            let name = &*file.name;
            // (Redis writes a single quote as it stands, and cannot read what it wrote.)
            match name.is_empty() || needs_quotes(name) || name.contains(&b'\'') {
                true => quote_into(name, &mut out),
                false => out.extend_from_slice(name),
            }
            let letter = char::from(kind.letter());
            // Writing to a vector does not fail.
            let _ = writeln!(out, " seq {} type {letter}", file.seq);
        }
        out
    }

    /// The base, if there is one.
    pub fn base(&self) -> Option<&File> {
        self.base.as_ref()
    }

    /// The incremental files in order.
    pub fn incr(&self) -> &[File] {
        &self.incr
    }

    /// What is to be deleted.
    pub fn history(&self) -> &[File] {
        &self.history
    }

    /// The files to be loaded, in order.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &File> {
        let all: Vec<&File> = self.base.iter().chain(&self.incr).collect();
        all.into_iter()
    }

    /// True if there is nothing to load.
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.incr.is_empty()
    }

    /// True if a file `log` that lies where older versions had it belongs to a log still to be moved: nothing is listed, or
    /// nothing but that file, which is not in its place yet (`moved`).
    pub fn awaits_old_log(&self, log: &[u8], moved: bool) -> bool {
        let only_log = || {
            self.incr.is_empty()
                && self.base.as_ref().is_some_and(|base| *base.name == *log)
                && !moved
        };
        self.is_empty() || only_log()
    }

    /// Names the next base, an RDB file or a log of commands; the present one becomes history.
    pub fn next_base(&mut self, log: &[u8], rdb: bool) -> &File {
        if let Some(old) = self.base.take() {
            self.history.insert(0, old);
        }
        self.base_seq += 1;
        let suffix: &[u8] = if rdb { b".base.rdb" } else { b".base.aof" };
        self.base.insert(named(log, self.base_seq, suffix))
    }

    /// Names the next incremental file.
    pub fn next_incr(&mut self, log: &[u8]) -> &File {
        self.incr_seq += 1;
        self.incr.push(named(log, self.incr_seq, b".incr.aof"));
        &self.incr[self.incr.len() - 1]
    }

    /// The incremental file to go on with; the first one if there is none.
    pub fn last_incr(&mut self, log: &[u8]) -> &File {
        match self.incr.len() {
            0 => self.next_incr(log),
            len => &self.incr[len - 1],
        }
    }

    /// A rewrite is done: the incremental files are history, but for the last one if that is being written.
    pub fn rewritten(&mut self, last_is_open: bool) {
        let done = self.incr.len().saturating_sub(usize::from(last_is_open));
        for file in self.incr.drain(..done).rev() {
            self.history.insert(0, file);
        }
    }

    /// Takes out what is to be deleted.
    pub fn take_history(&mut self) -> Vec<File> {
        std::mem::take(&mut self.history)
    }

    /// Adds what a line says, if it may follow those before it.
    fn add(&mut self, kind: Kind, file: File) -> Result<(), &'static str> {
        match kind {
            Kind::Base if self.base.is_some() => {
                return Err("Found duplicate base file information");
            }
            Kind::Base => {
                self.base_seq = file.seq;
                self.base = Some(file);
            }
            Kind::History => self.history.push(file),
            Kind::Incr if file.seq <= self.incr_seq => {
                return Err("Found a non-monotonic sequence number");
            }
            Kind::Incr => {
                self.incr_seq = file.seq;
                self.incr.push(file);
            }
        }
        Ok(())
    }
}

fn named(log: &[u8], seq: i64, suffix: &[u8]) -> File {
    let mut digits = itoa::Buffer::new();
    let name = [log, b".", digits.format(seq).as_bytes(), suffix].concat();
    File {
        name: name.into(),
        seq,
    }
}

fn trimmed(line: &[u8]) -> &[u8] {
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    let from = line.iter().position(|b| !is_blank(b)).unwrap_or(line.len());
    let to = line
        .iter()
        .rposition(|b| !is_blank(b))
        .map_or(from, |n| n + 1);
    &line[from..to]
}

fn parse_line(line: &[u8]) -> Result<(Kind, File), &'static str> {
    const INVALID: &str = "Invalid AOF manifest file format";
    let words = split_args(line).map_err(|_| INVALID)?;
    if words.len() < 6 || words.len() % 2 == 1 {
        return Err(INVALID);
    }
    let (mut name, mut seq, mut letter) = (None, 0, 0);
    for pair in words.chunks_exact(2) {
        let [word, value] = [&pair[0], &pair[1]].map(|text| c_text(text));
        if word.eq_ignore_ascii_case(b"file") {
            if value.contains(&b'/') || value.contains(&b'\\') {
                return Err("File can't be a path, just a filename");
            }
            name = Some(value);
        } else if word.eq_ignore_ascii_case(b"seq") {
            seq = leading_i64(value).0;
        } else if word.eq_ignore_ascii_case(b"type") {
            letter = value.first().copied().unwrap_or(0);
        }
    }
    let (Some(name), true) = (name, seq != 0 && seq <= SEQ_MAX && letter != 0) else {
        return Err(INVALID);
    };
    let kinds = [Kind::Base, Kind::History, Kind::Incr];
    let Some(kind) = kinds.into_iter().find(|kind| kind.letter() == letter) else {
        return Err("Unknown AOF file type");
    };
    let name = name.into();
    Ok((kind, File { name, seq }))
}

/// A text as C has it: to the first zero.
fn c_text(text: &[u8]) -> &[u8] {
    &text[..memchr::memchr(0, text).unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(manifest: &Manifest) -> String {
        String::from_utf8(manifest.to_text()).unwrap()
    }

    #[test]
    fn a_life_of_a_log() {
        const LOG: &[u8] = b"a.aof";
        let mut manifest = Manifest::default();
        assert!(manifest.is_empty() && manifest.awaits_old_log(LOG, false));
        assert_eq!(&*manifest.next_base(LOG, true).name, b"a.aof.1.base.rdb");
        assert_eq!(&*manifest.last_incr(LOG).name, b"a.aof.1.incr.aof");
        assert_eq!(manifest.last_incr(LOG).seq, 1);
        // A rewrite that fails, and one that does not.
        manifest.next_incr(LOG);
        manifest.next_incr(LOG);
        manifest.next_base(LOG, false);
        manifest.rewritten(true);
        let want = "file a.aof.2.base.aof seq 2 type b\n\
            file a.aof.1.incr.aof seq 1 type h\n\
            file a.aof.2.incr.aof seq 2 type h\n\
            file a.aof.1.base.rdb seq 1 type h\n\
            file a.aof.3.incr.aof seq 3 type i\n";
        assert_eq!(text(&manifest), want);
        assert_eq!(Manifest::parse(want.as_bytes()).unwrap(), manifest);
        let gone = manifest.take_history();
        assert_eq!(gone.len(), 3);
        let names: Vec<_> = manifest.files().map(|f| f.name.lossy()).collect();
        assert_eq!(names, ["a.aof.2.base.aof", "a.aof.3.incr.aof"]);
        manifest.rewritten(false);
        assert_eq!(manifest.next_incr(LOG).seq, 4);
    }

    #[test]
    fn an_old_log_becomes_a_base() {
        let quoted = text(&Manifest::of_old_log(b"a'b"));
        assert_eq!(quoted, "file \"a'b\" seq 1 type b\n");
        let old = Manifest::of_old_log(b"a b.aof");
        assert_eq!(text(&old), "file \"a b.aof\" seq 1 type b\n");
        assert!(old.awaits_old_log(b"a b.aof", false));
        assert!(!old.awaits_old_log(b"a b.aof", true) && !old.awaits_old_log(b"c", false));
        let mut next = Manifest::parse(&old.to_text()).unwrap();
        assert_eq!(next, old);
        assert_eq!(next.next_base(b"x", true).seq, 2);
    }

    #[test]
    fn what_is_no_manifest() {
        let long = format!(
            "# {}\nfile a seq 1 type i {}\n",
            "x".repeat(9),
            "y ".repeat(600)
        );
        for (text, what, line) in [
            ("", "Found an empty AOF manifest", None),
            ("\n", "Invalid AOF manifest file format", Some(1)),
            (
                "file a seq 1 type i",
                "The AOF manifest file contains too long line",
                None,
            ),
            (
                "file a seq 1 \0type i\n",
                "The AOF manifest file contains too long line",
                None,
            ),
            (&long, "The AOF manifest file contains too long line", None),
            (
                "file a seq 1\n",
                "Invalid AOF manifest file format",
                Some(1),
            ),
            (
                "#\nfile a seq 1 type i x\n",
                "Invalid AOF manifest file format",
                Some(2),
            ),
            (
                "file \"a seq 1 type i\n",
                "Invalid AOF manifest file format",
                Some(1),
            ),
            (
                "file a seq 0 type i\n",
                "Invalid AOF manifest file format",
                Some(1),
            ),
            (
                "file a seq 1 type \"\"\n",
                "Invalid AOF manifest file format",
                Some(1),
            ),
            (
                "file a seq 1 kind i\n",
                "Invalid AOF manifest file format",
                Some(1),
            ),
            (
                "file ../a seq 1 type i\n",
                "File can't be a path, just a filename",
                Some(1),
            ),
            (
                "file a\\\\b seq 1 type i\n",
                "File can't be a path, just a filename",
                Some(1),
            ),
            ("file a seq 1 type x\n", "Unknown AOF file type", Some(1)),
            (
                "file a seq -1 type i\n",
                "Found a non-monotonic sequence number",
                Some(1),
            ),
            (
                "file a seq 2 type i\nfile b seq 2 type i\n",
                "Found a non-monotonic sequence number",
                Some(2),
            ),
            (
                "file a seq 1 type b\nfile b seq 2 type b\n",
                "Found duplicate base file information",
                Some(2),
            ),
        ] {
            let error = Manifest::parse(text.as_bytes()).unwrap_err();
            let number = error.line.as_ref().map(|(number, _)| *number);
            assert_eq!((error.what, number), (what, line), "{text:?}");
        }
        let error = Manifest::parse(b"#x\n \tfile a seq 1 type x \r\n").unwrap_err();
        let want = [
            "\n*** FATAL AOF MANIFEST FILE ERROR ***\n",
            "Reading the manifest file, at line 2\n",
            ">>> 'file a seq 1 type x'\n",
            "Unknown AOF file type\n",
        ];
        assert_eq!(error.report(), want);
    }

    #[test]
    fn what_redis_lets_pass() {
        let manifest = Manifest::parse(
            b"# by hand\nTYPE incr later 9 Seq 3x File \"a \\x41\"\nfile z seq 7 type h\n",
        );
        let manifest = manifest.unwrap();
        assert_eq!(
            text(&manifest),
            "file z seq 7 type h\nfile \"a A\" seq 3 type i\n"
        );
        assert!(Manifest::parse(b"#\n").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(
            text in "((#|file [ab'\"\\\\/]{0,4} seq [0-9-]{1,2} type [bhix]|[a \"']{0,9})\n){0,4}[\0#]?",
        ) {
            if let Ok(manifest) = Manifest::parse(text.as_bytes()) {
                let again = manifest.to_text();
                prop_assert!(again.is_empty() || Manifest::parse(&again) == Ok(manifest));
            }
        }

        #[test]
        fn any_name_comes_back(name in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut manifest = Manifest::default();
            let bare: Vec<u8> = name.into_iter().filter(|b| !b"/\\\0".contains(b)).collect();
            manifest.next_base(&bare, true);
            manifest.next_incr(&bare);
            prop_assert_eq!(Manifest::parse(&manifest.to_text()), Ok(manifest));
        }
    }
}
