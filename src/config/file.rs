//! The configuration's way to the disk: what reading asks of it, and the writing of a rewritten file.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::host::Host;
use super::types::Text;
use crate::base::errno;

/// The real disk. `is_command` is the command table.
pub struct Disk<F: Fn(&[u8]) -> bool> {
    pub is_command: F,
}

fn join(dir: &Text, path: &[u8]) -> PathBuf {
    dir.as_path().join(OsStr::from_bytes(path))
}

impl<F: Fn(&[u8]) -> bool> Host for Disk<F> {
    fn enter(&mut self, dir: &Text, path: &[u8]) -> Result<Text, String> {
        let enter = || {
            let path = fs::canonicalize(join(dir, path))?;
            // Looking something up inside needs the permission that entering needs.
            fs::metadata(path.join("."))?;
            match fs::metadata(&path)?.is_dir() {
                true => Ok(Text::from(path.as_path())),
                false => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            }
        };
        if path.is_empty() {
            return Err(errno::text(&io::Error::from_raw_os_error(libc::ENOENT)));
        }
        enter().map_err(|error| errno::text(&error))
    }

    fn read(&mut self, dir: &Text, path: &[u8]) -> Result<Vec<u8>, String> {
        fs::read(join(dir, path)).map_err(|error| errno::text(&error))
    }

    fn matching(&mut self, dir: &Text, pattern: &[u8]) -> Vec<Text> {
        let Ok(pattern) = std::str::from_utf8(pattern) else {
            return Vec::new();
        };
        let pattern = match Path::new(pattern).is_absolute() {
            true => pattern.to_string(),
            false => format!("{}/{pattern}", glob::Pattern::escape(&dir.lossy())),
        };
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let found = glob::glob_with(&pattern, options);
        let paths = found.into_iter().flatten().filter_map(Result::ok);
        paths.map(|path| Text::from(path.as_path())).collect()
    }

    fn appendable(&mut self, dir: &Text, path: &[u8]) -> Result<(), String> {
        let opened = OpenOptions::new()
            .append(true)
            .create(true)
            .open(join(dir, path));
        opened.map(drop).map_err(|error| errno::text(&error))
    }

    fn is_command(&self, name: &[u8]) -> bool {
        (self.is_command)(name)
    }
}

/// The process's directory, where a configuration starts from.
pub fn current_dir() -> Text {
    std::env::current_dir().map_or("/".into(), |dir| Text::from(dir.as_path()))
}

/// The text of a file to be rewritten: empty if it does not exist.
pub fn read_old(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// Replaces a file so that a crash leaves either the old text or the new: written beside it, synced, then
/// renamed over it. Where that cannot be, because the file alone is mounted into a container or its
/// directory is not ours to write, the file is written in place.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let (file, temporary) = match create_beside(path) {
        Ok(created) => created,
        Err(error) if cannot_create(&error) => return write_in_place(path, text),
        Err(error) => return Err(error),
    };
    let written = write_synced(file, text).and_then(|()| fs::rename(&temporary, path));
    match written {
        Ok(()) => sync_dir_of(path),
        Err(error) => {
            // Its absence is what matters; that it could not be removed changes nothing.
            let _ = fs::remove_file(&temporary);
            match cannot_rename(&error) {
                true => write_in_place(path, text),
                false => Err(error),
            }
        }
    }
}

fn cannot_create(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EACCES | libc::EPERM | libc::EROFS)
    )
}

fn cannot_rename(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EXDEV))
}

/// A new file next to `path`, by a name that nothing has yet.
fn create_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o644);
    for attempt in 0.. {
        let mut name = path.as_os_str().to_os_string();
        name.push(format!(".{}-{attempt}", std::process::id()));
        match options.open(&name) {
            Ok(file) => return Ok((file, name.into())),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn write_synced(mut file: File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    file.sync_all()
}

fn write_in_place(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(text)?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

fn sync_dir_of(path: &Path) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    File::open(dir)?.sync_all()
}
