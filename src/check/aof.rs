//! redis-check-aof: reads the files of a log, says where they break, and can end the last one there, or at a time.
//!
//! What it is given may be a manifest, then its files are checked in order; or one file, as versions before 7.0 wrote it,
//! which may begin with an RDB file. Only the last file may be cut: what follows a gap would be wrong.
//!
//! What it prints has Redis's form, which scripts read, and it reads as strictly as Redis's does: more so than a server, so
//! that what it calls valid is loaded. One thing is stricter still. A time (`#TS:...`) that is cut at the end of the last
//! file is to be cut off, since it would swallow the command that a server appends to it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Cursor, Read, Write};
use std::path::{Path, PathBuf};

use super::lines::Lines;
use super::rdb;
use crate::aof::manifest::{Manifest, ManifestError};
use crate::base::errno;
use crate::base::number::leading_i64;
use crate::base::time::Clock;
use crate::config::Text;
use crate::server::log::{self, Verbosity};

/// The longest line of a command's numbers.
const NUMBER_LINE_MAX: usize = 127;
/// The longest annotation.
const ANNOTATION_MAX: usize = 1023;
/// The longest line of a manifest.
const MANIFEST_LINE_MAX: usize = 1024;

/// It is over, and what there is to say has been said.
struct Stop;

impl From<io::Error> for Stop {
    /// Whoever reads the output has gone.
    fn from(_: io::Error) -> Stop {
        Stop
    }
}

type Checked<T> = Result<T, Stop>;

/// The program. Gives its exit status: 0 if the log is sound, or has become so.
pub fn main() -> i32 {
    log::set_role(log::Role::Child);
    let args: Vec<OsString> = std::env::args_os().collect();
    let now_ms = Clock::system().unix_us() / 1000;
    let mut out = BufWriter::new(io::stdout().lock());
    run(&args, now_ms, &mut io::stdin().lock(), &mut out)
}

/// The program on these arguments. Gives its exit status.
fn run(args: &[OsString], now_ms: u64, input: &mut dyn BufRead, out: &mut dyn Write) -> i32 {
    let mut check = Check {
        out,
        input,
        now_ms,
        fix: false,
        to_s: 0,
        line: 1,
        place: 0,
        error: None,
    };
    let checked = check.arguments(args);
    match (checked, check.out.flush()) {
        (Ok(()), Ok(())) => 0,
        _ => 1,
    }
}

/// What kind of file it is given.
enum Style {
    Commands,
    Preamble,
    Manifest,
}

/// What became of a file.
enum Outcome {
    Sound,
    Empty,
    Cut,
    CutAtTime,
}

/// A file, by the name that messages have for it.
struct Named<'a> {
    name: &'a str,
    path: &'a Path,
    is_last: bool,
}

struct Check<'a> {
    out: &'a mut dyn Write,
    input: &'a mut dyn BufRead,
    now_ms: u64,
    /// `--fix`
    fix: bool,
    /// `--truncate-to-timestamp`, Unix time in seconds; 0: not wanted.
    to_s: i64,
    /// Lines read, of all files.
    line: u64,
    /// Where the last number or argument began.
    place: u64,
    /// The first thing that was wrong.
    error: Option<Vec<u8>>,
}

impl Check<'_> {
    fn arguments(&mut self, args: &[OsString]) -> Checked<()> {
        let file = match args {
            [_, file] => file,
            [_, option, file] if option == "--fix" => {
                self.fix = true;
                file
            }
            [_, option, time, file] if option == "--truncate-to-timestamp" => {
                let time = time.as_encoded_bytes();
                let (at_s, end) = leading_i64(time);
                // (The ends of the range stand for what is beyond them.)
                if end != time.len() || matches!(at_s, i64::MIN | i64::MAX) {
                    return self.stop("Invalid timestamp, aborting...");
                }
                self.to_s = at_s;
                file
            }
            _ => {
                let program = args.first().map(|name| name.to_string_lossy());
                let program = program.as_deref().unwrap_or("redis-check-aof");
                return self.stop(&format!(
                    "Usage: {program} [--fix|--truncate-to-timestamp $timestamp] \
                     <file.manifest|file.aof>"
                ));
            }
        };
        self.log(Path::new(file))
    }

    fn say(&mut self, text: &str) -> Checked<()> {
        Ok(writeln!(self.out, "{text}")?)
    }

    fn stop<T>(&mut self, text: &str) -> Checked<T> {
        self.say(text)?;
        Err(Stop)
    }

    /// The outcome of touching a file, or the end of it all with these words.
    fn must<T>(&mut self, done: io::Result<T>, otherwise: &str) -> Checked<T> {
        match done {
            Ok(value) => Ok(value),
            Err(_) => self.stop(otherwise),
        }
    }

    fn log(&mut self, path: &Path) -> Checked<()> {
        let name = path.display().to_string();
        let preamble = match self.style(path)? {
            Style::Manifest => return self.many(path),
            Style::Preamble => true,
            Style::Commands => false,
        };
        self.say("Start checking Old-Style AOF")?;
        let file = Named {
            name: &name,
            path,
            is_last: true,
        };
        let outcome = self.file(&file, preamble)?;
        self.tell(outcome, "AOF", &name)
    }

    fn style(&mut self, path: &Path) -> Checked<Style> {
        Ok(if self.is_manifest(path)? {
            Style::Manifest
        } else if self.is_rdb(path)? {
            Style::Preamble
        } else {
            Style::Commands
        })
    }

    fn open(&mut self, path: &Path) -> Checked<File> {
        match File::open(path) {
            Ok(file) => Ok(file),
            Err(error) => {
                let (path, why) = (path.display(), errno::text(&error));
                self.stop(&format!("Cannot open file {path}: {why}"))
            }
        }
    }

    /// Whether a file has nothing but comments and lines that begin with `file`, up to the first that does not.
    fn is_manifest(&mut self, path: &Path) -> Checked<bool> {
        let mut lines = Lines::new(BufReader::new(self.open(path)?), 0);
        let mut is_manifest = false;
        loop {
            match lines.line(MANIFEST_LINE_MAX) {
                Ok(Some([b'#', ..])) => {}
                Ok(Some([b'f', b'i', b'l', b'e', ..])) => is_manifest = true,
                Ok(_) => return Ok(is_manifest),
                Err(_) => return self.stop(&format!("Cannot read file: {}", path.display())),
            }
        }
    }

    fn is_rdb(&mut self, path: &Path) -> Checked<bool> {
        const HEADER: u64 = 8;
        let file = self.open(path)?;
        let mut head = Vec::new();
        // What cannot be read is no RDB file; it is met again.
        let _ = file.take(HEADER).read_to_end(&mut head);
        Ok(head.len() as u64 == HEADER && head.starts_with(b"REDIS"))
    }

    /// Checks a log of several files.
    fn many(&mut self, path: &Path) -> Checked<()> {
        self.say("Start checking Multi Part AOF")?;
        let text = fs::read(path).map_err(|_| ManifestError::UNREADABLE);
        let manifest = match text.and_then(|text| Manifest::parse(&text)) {
            Ok(manifest) => manifest,
            Err(error) => {
                for entry in error.report() {
                    log::write_line(&mut self.out, Verbosity::Warning, format_args!("{entry}"))?;
                }
                return Err(Stop);
            }
        };
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let in_dir = |name: &Text| {
            let mut path = dir.as_os_str().to_os_string();
            path.push("/");
            path.push(name.as_path());
            PathBuf::from(path)
        };
        if let Some(base) = manifest.base() {
            let (name, path) = (base.name.lossy(), &in_dir(&base.name));
            let preamble = self.is_rdb(path)?;
            let format = if preamble { "RDB" } else { "RESP" };
            self.say(&format!("Start to check BASE AOF ({format} format)."))?;
            let file = Named {
                name: &name,
                path,
                is_last: manifest.incr().is_empty(),
            };
            let outcome = self.file(&file, preamble)?;
            self.tell(outcome, "BASE AOF", &name)?;
        }
        if let Some((last, _)) = manifest.incr().split_last() {
            self.say("Start to check INCR files.")?;
            for incr in manifest.incr() {
                let name = incr.name.lossy();
                let file = Named {
                    name: &name,
                    path: &in_dir(&incr.name),
                    is_last: incr == last,
                };
                let outcome = self.file(&file, false)?;
                self.tell(outcome, "INCR AOF", &name)?;
            }
        }
        self.say("All AOF files and manifest are valid")
    }

    fn tell(&mut self, outcome: Outcome, kind: &str, name: &str) -> Checked<()> {
        let to_s = self.to_s;
        self.say(&match outcome {
            Outcome::Sound => format!("{kind} {name} is valid"),
            Outcome::Empty => format!("{kind} {name} is empty"),
            Outcome::Cut => format!("Successfully truncated AOF {name}"),
            Outcome::CutAtTime => {
                format!("Successfully truncated AOF {name} to timestamp {to_s}")
            }
        })
    }

    /// Checks one file, which may begin with an RDB file.
    fn file(&mut self, named: &Named<'_>, preamble: bool) -> Checked<Outcome> {
        let (name, path) = (named.name, named.path.display());
        let file = match OpenOptions::new().read(true).write(true).open(named.path) {
            Ok(file) => file,
            Err(error) => {
                let why = errno::text(&error);
                return self.stop(&format!("Cannot open file {path}: {why}, aborting..."));
            }
        };
        let about = file.metadata();
        let size = self.must(about, &format!("Cannot stat file: {name}, aborting..."))?;
        let size = size.len();
        if size == 0 {
            return Ok(Outcome::Empty);
        }
        let (read, offset) = match preamble {
            true => self.preamble(named.path, &file)?,
            false => (Vec::new(), 0),
        };
        let from = Cursor::new(read).chain(&file);
        let mut lines = Lines::new(BufReader::with_capacity(1 << 16, from), offset);
        let Some(sound) = self.commands(&mut lines, named, &file)? else {
            return Ok(Outcome::CutAtTime);
        };
        if let Some(error) = &self.error {
            self.out.write_all(error)?;
            self.say("")?;
        }
        self.verdict(named, &file, size, sound)
    }

    /// Checks the RDB file that a log begins with. Gives what was read of what follows, and the offset of that.
    fn preamble(&mut self, path: &Path, file: &File) -> Checked<(Vec<u8>, u64)> {
        let (mut out, now_ms) = (&mut *self.out, self.now_ms);
        writeln!(out, "[offset 0] Checking RDB file {}", path.display())?;
        match rdb::check(file, now_ms, &mut out)? {
            Some(rest) => {
                self.say("RDB preamble is OK, proceeding with AOF tail...")?;
                Ok((rest.read, rest.offset))
            }
            None => self.stop("RDB preamble of AOF file is not sane, aborting."),
        }
    }

    /// Reads commands to the end, or as far as they are right, and gives the offset up to which the file is whole. `None`:
    /// it was cut at the time that was asked for.
    fn commands(
        &mut self,
        lines: &mut Lines<impl BufRead>,
        named: &Named<'_>,
        file: &File,
    ) -> Checked<Option<u64>> {
        let path = named.path.display();
        let (mut in_multi, mut sound) = (false, lines.offset);
        loop {
            if !in_multi {
                sound = lines.offset;
            }
            let read = match lines.peek() {
                Ok(None) => break,
                Ok(Some(b'#')) => match self.annotation(lines, named, file)? {
                    Some(goes_on) => Ok(goes_on),
                    None => return Ok(None),
                },
                Ok(Some(b'*')) => self.command(lines, named, &mut in_multi),
                Ok(Some(_)) => {
                    self.say(&format!("AOF {} format error", named.name))?;
                    break;
                }
                Err(error) => Err(error),
            };
            let otherwise = format!("Failed to read from AOF {path}, aborting...");
            if !self.must(read, &otherwise)? {
                break;
            }
        }
        if lines.at_eof && in_multi && self.error.is_none() {
            self.wrong(b"Reached EOF before reading EXEC for MULTI");
        }
        Ok(Some(sound))
    }

    /// Notes that something is wrong. Gives false, for those who then do not go on.
    fn wrong(&mut self, text: &[u8]) -> bool {
        let mut error = format!("0x{:>16x}: ", self.place).into_bytes();
        error.extend_from_slice(text);
        self.error = Some(error);
        false
    }

    /// Reads a command; false if it is not right.
    fn command(
        &mut self,
        lines: &mut Lines<impl BufRead>,
        named: &Named<'_>,
        in_multi: &mut bool,
    ) -> io::Result<bool> {
        let Some(count) = self.number(lines, b'*')? else {
            return Ok(false);
        };
        for i in 0..count {
            let Some(len) = self.number(lines, b'$')? else {
                return Ok(false);
            };
            let Some(whole) = u64::try_from(len).ok().filter(|_| len <= i64::MAX - 2) else {
                return Ok(self.wrong(
                    format!(
                        "Expected to read string of {len} bytes, which is not in the suitable range"
                    )
                    .as_bytes(),
                ));
            };
            let whole = whole + 2;
            self.place = lines.offset;
            let passed = lines.pass(whole)?;
            if passed.len != whole {
                let text = format!("Expected to read {whole} bytes, got {} bytes", passed.len);
                return Ok(self.wrong(text.as_bytes()));
            }
            if !self.line_end(&passed.tail) {
                return Ok(false);
            }
            let name = &passed.head[..passed.head.len().min(len as usize)];
            if i == 0 && !self.transaction(rdb::c_text(name), named, in_multi) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Follows a transaction by the names of commands; false if there should be none here.
    fn transaction(&mut self, name: &[u8], named: &Named<'_>, in_multi: &mut bool) -> bool {
        let starts = name.eq_ignore_ascii_case(b"multi");
        if !starts && !name.eq_ignore_ascii_case(b"exec") {
            return true;
        }
        let unexpected = *in_multi == starts;
        *in_multi = starts || unexpected;
        if unexpected {
            let word = if starts { "MULTI" } else { "EXEC" };
            let text = format!("Unexpected {word} in AOF {}", named.path.display());
            return self.wrong(text.as_bytes());
        }
        true
    }

    /// Reads a line of this letter and a number; `None` if it is not right.
    fn number(&mut self, lines: &mut Lines<impl BufRead>, prefix: u8) -> io::Result<Option<i64>> {
        self.place = lines.offset;
        let Some(line) = lines.line(NUMBER_LINE_MAX)? else {
            return Ok(None);
        };
        let (first, text) = (line[0], &line[1..]);
        if first != prefix {
            let mut text = format!("Expected prefix '{}', got: '", char::from(prefix)).into_bytes();
            // (A zero ends a text of C.)
            if first != 0 {
                text.extend_from_slice(&[first, b'\'']);
            }
            self.wrong(&text);
            return Ok(None);
        }
        let (number, end) = leading_i64(text);
        Ok(self.line_end(&text[end..]).then_some(number))
    }

    /// False if a line does not end here.
    fn line_end(&mut self, text: &[u8]) -> bool {
        if text.starts_with(b"\r\n") {
            self.line += 1;
            return true;
        }
        // As C prints what it takes for negative numbers.
        let [a, b] = [0, 1].map(|i| text.get(i).map_or(0, |&byte| i32::from(byte as i8)));
        self.wrong(format!("Expected \\r\\n, got: {a:02x}{b:02x}").as_bytes())
    }

    /// Reads an annotation. `None`: it tells a time beyond the one that was asked for, and the file was cut before it;
    /// false: it is cut itself.
    fn annotation(
        &mut self,
        lines: &mut Lines<impl BufRead>,
        named: &Named<'_>,
        file: &File,
    ) -> Checked<Option<bool>> {
        let path = named.path.display();
        let place = lines.offset;
        let read = lines.line(ANNOTATION_MAX).map(Option::unwrap_or_default);
        let otherwise = format!("Failed to read annotations from AOF {path}, aborting...");
        let line = self.must(read, &otherwise)?;
        let is_cut = line.len() < ANNOTATION_MAX && !line.ends_with(b"\n");
        let to_s = self.to_s;
        if to_s != 0
            && let Some(text) = line.strip_prefix(b"#TS:")
        {
            let (at_s, end) = leading_i64(text);
            if text.get(end) != Some(&b'\r') || matches!(at_s, i64::MIN | i64::MAX) {
                return self.stop("Invalid timestamp annotation");
            }
            if at_s > to_s {
                self.cut_at(named, file, place)?;
                return Ok(None);
            }
        }
        self.place = place;
        Ok(Some(!is_cut || self.wrong(b"Expected \\r\\n, got: 0000")))
    }

    fn cut_at(&mut self, named: &Named<'_>, file: &File, place: u64) -> Checked<()> {
        let (path, to_s) = (named.path.display(), self.to_s);
        if place == 0 {
            return self.stop(&format!(
                "AOF {path} has nothing before timestamp {to_s}, aborting..."
            ));
        }
        if !named.is_last {
            self.say(&format!(
                "Failed to truncate AOF {path} to timestamp {to_s} to offset {place} \
                 because it is not the last file."
            ))?;
            return self.stop(
                "If you insist, please delete all files after this file according to the \
                 manifest file and delete the corresponding records in manifest file manually. \
                 Then re-run redis-check-aof.",
            );
        }
        let otherwise = format!("Failed to truncate AOF {path} to timestamp {to_s}");
        self.must(file.set_len(place), &otherwise)
    }

    /// Says what there is to say of a file that is whole up to `sound`, and cuts it there if that is wanted.
    fn verdict(
        &mut self,
        named: &Named<'_>,
        file: &File,
        size: u64,
        sound: u64,
    ) -> Checked<Outcome> {
        let (name, to_s, line) = (named.name, self.to_s, self.line);
        let diff = size.saturating_sub(sound);
        if diff == 0 && to_s != 0 {
            self.say(&format!(
                "Truncate nothing in AOF {name} to timestamp {to_s}"
            ))?;
            return Ok(Outcome::Sound);
        }
        self.say(&format!(
            "AOF analyzed: filename={name}, size={size}, ok_up_to={sound}, \
             ok_up_to_line={line}, diff={diff}"
        ))?;
        if diff == 0 {
            return Ok(Outcome::Sound);
        }
        if !self.fix {
            return self.stop(&format!(
                "AOF {name} is not valid. Use the --fix option to try fixing it."
            ));
        }
        if !named.is_last {
            return self.stop(&format!(
                "Failed to truncate AOF {name} because it is not the last file"
            ));
        }
        self.say(&format!(
            "This will shrink the AOF {name} from {size} bytes, with {diff} bytes, to {sound} bytes"
        ))?;
        write!(self.out, "Continue? [y/N]: ")?;
        self.out.flush()?;
        let mut answer = [0];
        let answered = self.input.read(&mut answer);
        if !matches!((answered, answer), (Ok(1), [b'y' | b'Y'])) {
            return self.stop("Aborting...");
        }
        let otherwise = format!("Failed to truncate AOF {name}");
        self.must(file.set_len(sound), &otherwise)?;
        Ok(Outcome::Cut)
    }
}
