//! The disk: through here, and nowhere else, the running server touches the files of its data.

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use crate::exec::io::{Disk, LogFile, NewFile};

/// The disk of the operating system.
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        Ok(Box::new(RealFile {
            file: File::create(path)?,
            on_its_way: (0, 0),
        }))
    }

    fn open(&self, path: &Path) -> io::Result<(Box<dyn Read + Send>, u64)> {
        let file = File::open(path)?;
        // Only the progress of loading is told by it.
        let len = file.metadata().map_or(0, |m| m.len());
        Ok((Box::new(file), len))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match File::open(dir)?.sync_all() {
            // Some filesystems know no such thing.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EBADF | libc::EINVAL)) => Ok(()),
            result => result,
        }
    }

    fn open_log(&self, path: &Path, fresh: bool) -> io::Result<(Arc<dyn LogFile>, u64)> {
        let mut options = OpenOptions::new();
        // What is appended comes after what is there, even after a cut.
        let file = options.append(true).create(true).open(path)?;
        if fresh {
            file.set_len(0)?;
        }
        let len = file.metadata()?.len();
        Ok((Arc::new(RealLog(file)), len))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_len(len)
    }

    fn make_dir(&self, path: &Path) -> io::Result<bool> {
        match std::fs::DirBuilder::new().mode(0o755).create(path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && self.is_dir(path) => Ok(false),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Err(io::Error::from_raw_os_error(libc::ENOTDIR))
            }
            Err(e) => Err(e),
        }
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any>> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        file.try_lock()?;
        Ok(Box::new(file))
    }
}

struct RealLog(File);

impl LogFile for RealLog {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match (&self.0).write(&bytes[written..]) {
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if written > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(written)
    }

    fn sync(&self) -> io::Result<()> {
        match self.0.sync_data() {
            // Not every file is one that can be made durable (/dev/null).
            Err(e) if matches!(e.raw_os_error(), Some(libc::EBADF | libc::EINVAL)) => Ok(()),
            result => result,
        }
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

struct RealFile {
    file: File,
    /// The part that is on its way to the disk: where it begins, and its length.
    on_its_way: (u64, u64),
}

impl Write for RealFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl NewFile for RealFile {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    #[cfg(target_os = "linux")]
    fn write_back(&mut self, from: u64, len: u64) {
        const WAIT: libc::c_uint = libc::SYNC_FILE_RANGE_WAIT_BEFORE
            | libc::SYNC_FILE_RANGE_WRITE
            | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        self.sync_range((from, len), libc::SYNC_FILE_RANGE_WRITE);
        let before = std::mem::replace(&mut self.on_its_way, (from, len));
        if before.1 > 0 {
            self.sync_range(before, WAIT);
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn write_back(&mut self, from: u64, len: u64) {
        self.on_its_way = (from, len);
        // Whatever is wrong, `sync` finds it too.
        let _ = self.file.sync_data();
    }
}

#[cfg(target_os = "linux")]
impl RealFile {
    fn sync_range(&self, (from, len): (u64, u64), flags: libc::c_uint) {
        let (Ok(from), Ok(len)) = (i64::try_from(from), i64::try_from(len)) else {
            return;
        };
        // SAFETY: a system call that takes numbers; the file is open.
        unsafe { libc::sync_file_range(self.file.as_raw_fd(), from, len, flags) };
    }
}
