//! A disk in memory, for tests: it fails at a chosen call, and a crash takes what was not made durable.
//!
//! A file's bytes are durable once it was synced, its name and that of a directory once the directory around it was; until
//! then they may be lost, and here they always are. (A real disk may also keep some of it: what holds in the worst case holds in the others.)

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::exec::io::{Disk, LogFile, NewFile};

/// A file: what a reader sees, and what a crash leaves.
#[derive(Debug, Default)]
struct Bytes {
    seen: Vec<u8>,
    durable: Vec<u8>,
}

type Inode = Arc<Mutex<Bytes>>;

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, Inode>,
    durable_names: BTreeMap<PathBuf, Inode>,
    /// Directories, and whether they are durable. Those that were never made are there all the same.
    dirs: BTreeMap<PathBuf, bool>,
    calls: usize,
    fails: Option<Failing>,
}

/// What is to fail, and how.
#[derive(Clone, Copy, Debug)]
struct Failing {
    from: usize,
    until: usize,
    errno: i32,
}

/// See the head of the file. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct TestDisk(Arc<Mutex<State>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TestDisk {
    /// The call after the next `skip` ones fails with this number of error.
    pub fn fail_after(&self, skip: usize, errno: i32) {
        let mut state = lock(&self.0);
        let from = state.calls + skip;
        state.fails = Some(Failing {
            from,
            until: from,
            errno,
        });
    }

    /// All calls fail from now on, until [`TestDisk::heal`].
    pub fn break_down(&self, errno: i32) {
        let mut state = lock(&self.0);
        state.fails = Some(Failing {
            from: state.calls,
            until: usize::MAX,
            errno,
        });
    }

    /// The calls after the next `skip` ones all fail: the process died there.
    pub fn break_down_after(&self, skip: usize, errno: i32) {
        let mut state = lock(&self.0);
        state.fails = Some(Failing {
            from: state.calls + skip,
            until: usize::MAX,
            errno,
        });
    }

    /// Nothing fails any more. True if something was about to: the calls did not suffice.
    pub fn heal(&self) -> bool {
        let mut state = lock(&self.0);
        let waits = state.fails.is_some_and(|f| f.from >= state.calls);
        state.fails = None;
        waits
    }

    /// Power is lost: what was not made durable is gone.
    pub fn crash(&self) {
        self.crash_keeping(false, &mut |_| 0);
    }

    /// Power is lost, and some of what was not durable happens to be on the disk: if one file grew since it was synced, `keep`
    /// is asked how many of the new bytes. Where several did, nothing of any is kept, as if the oldest of them was to be
    /// written next. Names are as they were last made durable, or with `names` as they were last seen, for the system
    /// writes them when it likes.
    pub fn crash_keeping(&self, names: bool, keep: &mut dyn FnMut(usize) -> usize) {
        let mut state = lock(&self.0);
        if names {
            state.durable_names = state.names.clone();
            state.dirs.values_mut().for_each(|durable| *durable = true);
        }
        // What lies in a directory that is gone is gone with it.
        let lost: Vec<PathBuf> = state
            .dirs
            .iter()
            .filter(|(_, durable)| !**durable)
            .map(|(path, _)| path.clone())
            .collect();
        state.dirs.retain(|_, durable| *durable);
        state
            .durable_names
            .retain(|path, _| !lost.iter().any(|dir| path.starts_with(dir)));
        state.names = state.durable_names.clone();
        let has_grown = |inode: &&Inode| {
            let bytes = lock(inode);
            bytes.seen.len() > bytes.durable.len()
        };
        let in_order = state.names.values().filter(has_grown).count() == 1;
        for inode in state.names.values() {
            let mut bytes = lock(inode);
            let durable = bytes.durable.len();
            let grown = bytes.seen.len().saturating_sub(durable);
            if grown > 0 && bytes.seen.starts_with(&bytes.durable) {
                let kept = if in_order { keep(grown) } else { 0 };
                bytes.seen.truncate(durable + kept.min(grown));
            } else {
                bytes.seen = bytes.durable.clone();
            }
            bytes.durable = bytes.seen.clone();
        }
    }

    /// Another disk, with what a crash would leave of this one.
    pub fn after_crash(&self) -> TestDisk {
        let state = lock(&self.0);
        let disk = TestDisk::default();
        let kept = |dir: &&PathBuf| state.dirs.get(*dir).copied().unwrap_or(false);
        {
            let mut other = lock(&disk.0);
            for dir in state.dirs.keys().filter(kept) {
                other.dirs.insert(dir.clone(), true);
            }
        }
        for (path, inode) in &state.durable_names {
            let dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
            if state.dirs.get(&dir).copied().unwrap_or(true) {
                disk.put(path, &lock(inode).durable);
            }
        }
        disk
    }

    /// The bytes of a file.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let state = lock(&self.0);
        state.names.get(path).map(|inode| lock(inode).seen.clone())
    }

    /// What a crash would leave of a file, in a directory that was there all along.
    pub fn durable(&self, path: &Path) -> Option<Vec<u8>> {
        let state = lock(&self.0);
        let inode = state.durable_names.get(path)?;
        let bytes = lock(inode).durable.clone();
        Some(bytes)
    }

    /// Puts a file there, durably.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let inode: Inode = Arc::new(Mutex::new(Bytes {
            seen: bytes.into(),
            durable: bytes.into(),
        }));
        let mut state = lock(&self.0);
        state.durable_names.insert(path.into(), inode.clone());
        state.names.insert(path.into(), inode);
    }

    /// The names of all files.
    pub fn names(&self) -> Vec<PathBuf> {
        lock(&self.0).names.keys().cloned().collect()
    }

    /// Counts a call, which may be the one that fails.
    fn call(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = lock(&self.0);
        let at = state.calls;
        state.calls += 1;
        match state.fails {
            Some(f) if (f.from..=f.until).contains(&at) => {
                Err(io::Error::from_raw_os_error(f.errno))
            }
            _ => Ok(state),
        }
    }
}

fn missing() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

impl Disk for TestDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let inode = Inode::default();
        self.call()?.names.insert(path.into(), inode.clone());
        let disk = self.clone();
        Ok(Box::new(TestFile { disk, inode }))
    }

    fn open(&self, path: &Path) -> io::Result<(Box<dyn Read + Send>, u64)> {
        let state = self.call()?;
        let inode = state.names.get(path).ok_or_else(missing)?;
        let bytes = lock(inode).seen.clone();
        let len = bytes.len() as u64;
        Ok((Box::new(Cursor::new(bytes)), len))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        let inode = state.names.remove(from).ok_or_else(missing)?;
        state.names.insert(to.into(), inode);
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        state.names.remove(path).map(|_| ()).ok_or_else(missing)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        let inside = |path: &PathBuf| path.parent() == Some(dir);
        let State {
            names,
            durable_names,
            dirs,
            ..
        } = &mut *state;
        for (_, durable) in dirs.iter_mut().filter(|(path, _)| inside(path)) {
            *durable = true;
        }
        durable_names.retain(|path, _| !inside(path));
        durable_names.extend(
            names
                .iter()
                .filter(|(path, _)| inside(path))
                .map(|(path, inode)| (path.clone(), inode.clone())),
        );
        Ok(())
    }

    fn open_log(&self, path: &Path, fresh: bool) -> io::Result<(Arc<dyn LogFile>, u64)> {
        let mut state = self.call()?;
        let inode = state.names.entry(path.into()).or_default().clone();
        if fresh {
            lock(&inode).seen.clear();
        }
        let len = lock(&inode).seen.len() as u64;
        let disk = self.clone();
        Ok((Arc::new(TestLog { disk, inode }), len))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let state = self.call()?;
        let inode = state.names.get(path).ok_or_else(missing)?;
        Ok(lock(inode).seen.len() as u64)
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        let state = self.call()?;
        let inode = state.names.get(path).ok_or_else(missing)?;
        lock(inode).seen.truncate(len as usize);
        Ok(())
    }

    fn make_dir(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.call()?;
        let new = !state.dirs.contains_key(path);
        state.dirs.entry(path.into()).or_insert(false);
        Ok(new)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any>> {
        self.call()?.names.entry(path.into()).or_default();
        Ok(Box::new(()))
    }

    fn is_dir(&self, path: &Path) -> bool {
        let state = lock(&self.0);
        state.dirs.contains_key(path) || state.names.keys().any(|name| name.parent() == Some(path))
    }
}

/// The part of a file that is written at its end.
struct TestLog {
    disk: TestDisk,
    inode: Inode,
}

impl LogFile for TestLog {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let _state = self.disk.call()?;
        lock(&self.inode).seen.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn sync(&self) -> io::Result<()> {
        let _state = self.disk.call()?;
        let mut bytes = lock(&self.inode);
        bytes.durable = bytes.seen.clone();
        Ok(())
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        let _state = self.disk.call()?;
        lock(&self.inode).seen.truncate(len as usize);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.inode).seen.len() as u64)
    }
}

struct TestFile {
    disk: TestDisk,
    inode: Inode,
}

impl Write for TestFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _state = self.disk.call()?;
        lock(&self.inode).seen.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for TestFile {
    fn sync(&mut self) -> io::Result<()> {
        let _state = self.disk.call()?;
        let mut bytes = lock(&self.inode);
        bytes.durable = bytes.seen.clone();
        Ok(())
    }

    fn write_back(&mut self, _: u64, _: u64) {}
}
