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

/// See [`super::host::Enter`].
pub fn enter(dir: &Text, path: &[u8]) -> Result<Text, String> {
    let enter = || {
        if path.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        let path = fs::canonicalize(join(dir, path))?;
        // Looking something up inside needs the permission that entering needs.
        fs::metadata(path.join("."))?;
        match fs::metadata(&path)?.is_dir() {
            true => Ok(Text::from(path.as_path())),
            false => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        }
    };
    enter().map_err(|error| errno::text(&error))
}

impl<F: Fn(&[u8]) -> bool> Host for Disk<F> {
    fn enter(&mut self, dir: &Text, path: &[u8]) -> Result<Text, String> {
        enter(dir, path)
    }

    fn read(&mut self, dir: &Text, path: &[u8]) -> Result<Vec<u8>, String> {
        match fs::read(join(dir, path)) {
            // As in Redis, where a pattern may well find one: conf.d/* with a directory of old files in it.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(Vec::new()),
            read => read.map_err(|error| errno::text(&error)),
        }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::cmdline::Start;
    use crate::config::parse::{LoadError, load};

    fn disk() -> Disk<fn(&[u8]) -> bool> {
        Disk {
            is_command: |_| false,
        }
    }

    #[test]
    fn files_are_found_below_the_configured_directory() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("a[b]/conf.d/old.conf")).unwrap();
        fs::write(
            root.join("main.conf"),
            "dir 'a[b]'\ninclude conf.d/*.conf\nhz 30",
        )
        .unwrap();
        fs::write(root.join("a[b]/conf.d/2.conf"), "port 2").unwrap();
        fs::write(root.join("a[b]/conf.d/1.conf"), "port 1\ntimeout 5").unwrap();
        fs::write(root.join("a[b]/conf.d/.hidden.conf"), "port 3").unwrap();
        let start = Start {
            file: Some(b"main.conf".to_vec()),
            ..Start::default()
        };
        let from = Text::from(root.as_path());
        let config = load(&start, None, from.clone(), &mut disk())
            .unwrap()
            .config;
        assert_eq!((config.port, config.timeout, config.hz), (2, 5, 30));
        assert_eq!(config.dir.as_path(), root.join("a[b]"));

        let refused = |path: &[u8]| disk().enter(&from, path).unwrap_err();
        assert_eq!(refused(b"gone"), "No such file or directory");
        assert_eq!(refused(b""), "No such file or directory");
        assert_eq!(refused(b"main.conf"), "Not a directory");
        assert_eq!(disk().enter(&from, b"a[b]/..").unwrap(), from);

        let start = Start {
            file: Some(b"gone.conf".to_vec()),
            ..Start::default()
        };
        let error = load(&start, None, from.clone(), &mut disk()).unwrap_err();
        let reason = "No such file or directory".to_string();
        let path = b"gone.conf".to_vec();
        assert_eq!(error, LoadError::Open { path, reason });
        assert!(disk().appendable(&from, b"log").is_ok() && root.join("log").exists());
        assert!(disk().appendable(&from, b"no/log").is_err());
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redis.conf");
        assert_eq!(read_old(&path).unwrap(), b"");
        replace(&path, b"port 1\n").unwrap();
        let kept = File::open(&path).unwrap();
        replace(&path, b"hz 1\n").unwrap();
        assert_eq!(read_old(&path).unwrap(), b"hz 1\n");
        // The old file was not touched: a reader of it still has the old text.
        assert_eq!(io::read_to_string(kept).unwrap(), "port 1\n");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & !0o644 & 0o777, 0);

        write_in_place(&path, b"x\n").unwrap();
        assert_eq!(read_old(&path).unwrap(), b"x\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(dir.path().join("no/redis.conf").as_path(), b"x").is_err());
    }
}
