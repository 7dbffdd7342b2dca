//! Receiving all data of a master: the job that takes it from the link and makes a keyspace of it.
//!
//! ```text
//! link ──▶ loop ──▶ inlet ──▶ job ─┬─ a temporary file, synced ─▶ read again ─┬─▶ databases of its own ──▶ loop
//!                                  └──────────── read as it comes ────────────┘
//! ```
//! The file takes the place of the data's file only when it could be loaded. One job does all of it, so that what was begun
//! has one end, whatever it is: the loop hears of it as of any job's.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::errno;
use crate::db::keyspace::Databases;
use crate::exec::inlet::{Inlet, Outlet};
use crate::exec::io::{Disk, NewFile};
use crate::exec::persistence::LoadProgress;
use crate::server::load::{Counted, Reader, StreamMark};

/// So many bytes at a time are sent on their way to the disk.
const WRITE_BACK_BYTES: u64 = 8 * 1024 * 1024;

/// What came of a sync.
pub enum Outcome {
    /// The data, and what the file says beside.
    Loaded(Databases, StreamMark),
    /// There is none, where there should be some.
    Empty,
    /// The log says why not.
    Failed,
}

/// What the job hands back.
pub struct Received {
    /// Which sync it was.
    pub serial: u64,
    pub outcome: Outcome,
}

/// The file on its way.
pub(super) struct ToFile {
    pub file: Box<dyn NewFile>,
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub temp: PathBuf,
    pub target: PathBuf,
    /// Nobody needs it once it is loaded (`rdb-del-sync-files`).
    pub remove: bool,
}

/// What makes a keyspace of the bytes.
pub(super) struct Loader {
    pub reader: Reader,
    pub progress: Arc<LoadProgress>,
    /// Empty, to be filled.
    pub dbs: Databases,
    /// Data without a key is refused, and until there is one that of before stays.
    pub guarded: bool,
}

/// See the head of the file.
pub(super) struct Intake {
    pub serial: u64,
    pub inlet: Arc<Inlet>,
    pub loader: Loader,
    /// `None`: it is read as it comes.
    pub file: Option<ToFile>,
}

impl Intake {
    /// Takes all in.
    pub fn run(self) -> Received {
        let Intake {
            serial,
            inlet,
            loader,
            file,
        } = self;
        let outcome = match file {
            Some(file) => file.take_in(&inlet, loader),
            None => from_socket(&inlet, loader),
        };
        Received {
            serial,
            outcome: outcome.unwrap_or(Outcome::Failed),
        }
    }
}

fn from_socket(inlet: &Arc<Inlet>, loader: Loader) -> Option<Outcome> {
    let Some(outcome) = loader.load(inlet, Box::new(Outlet::of(inlet.clone()))) else {
        log::warn!(
            "Failed trying to load the MASTER synchronization DB from socket, check server logs."
        );
        return None;
    };
    // All is there when its end is, and nothing before it.
    match Outlet::of(inlet.clone()).next_piece() {
        Ok(None) => Some(outcome),
        Ok(Some(_)) | Err(_) => {
            log::warn!("Replication stream EOF marker is broken");
            None
        }
    }
}

impl Loader {
    fn load(self, inlet: &Arc<Inlet>, from: Box<dyn Read + Send>) -> Option<Outcome> {
        let Loader {
            reader,
            progress,
            mut dbs,
            guarded,
        } = self;
        if !guarded {
            drop(inlet.take_before());
        }
        let file = Counted {
            file: from,
            progress,
        };
        let first = || drop(inlet.take_before());
        let (mark, _) = reader.read_into(file, &mut dbs, first).ok()?;
        if guarded && dbs.is_empty() {
            return Some(Outcome::Empty);
        }
        Some(Outcome::Loaded(dbs, mark))
    }
}

impl ToFile {
    fn take_in(mut self, inlet: &Arc<Inlet>, loader: Loader) -> Option<Outcome> {
        let outcome = match self.receive(inlet) {
            Some(()) => self.load(inlet, loader),
            None => None,
        };
        let loaded = matches!(outcome, Some(Outcome::Loaded(..)));
        if loaded && self.put_in_place().is_some() {
            return outcome;
        }
        // It may be gone already, having got its name.
        let _ = self.disk.unlink(&self.temp);
        outcome.filter(|_| !loaded)
    }

    /// Writes what comes until nothing more does.
    fn receive(&mut self, inlet: &Arc<Inlet>) -> Option<()> {
        let mut bytes = Outlet::of(inlet.clone());
        let (mut written, mut on_its_way) = (0, 0);
        // That it breaks off is no news to the loop.
        while let Some(piece) = bytes.next_piece().ok()? {
            if let Err(e) = self.file.write_all(&piece) {
                log::warn!(
                    "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA synchronization: {}",
                    errno::text(&e)
                );
                return None;
            }
            written += piece.len() as u64;
            if written - on_its_way >= WRITE_BACK_BYTES {
                self.file.write_back(on_its_way, written - on_its_way);
                on_its_way = written;
            }
        }
        let synced = self.file.flush().and_then(|()| self.file.sync());
        synced
            .inspect_err(|e| {
                log::warn!(
                    "Failed trying to sync the temp DB to disk in MASTER <-> REPLICA synchronization: {}",
                    errno::text(e)
                );
            })
            .ok()
    }

    fn load(&self, inlet: &Arc<Inlet>, loader: Loader) -> Option<Outcome> {
        let outcome = match self.disk.open(&self.temp) {
            Ok((file, _)) => loader.load(inlet, file),
            Err(e) => {
                log::warn!("Can't read {}: {}", self.temp.display(), errno::text(&e));
                None
            }
        };
        if outcome.is_none() {
            log::warn!(
                "Failed trying to load the MASTER synchronization DB from disk, check server logs."
            );
        }
        outcome
    }

    fn put_in_place(&self) -> Option<()> {
        let target = self.target.file_name().unwrap_or_default();
        let target = target.to_string_lossy();
        if let Err(e) = self.disk.rename(&self.temp, &self.target) {
            log::warn!(
                "Failed trying to rename the temp DB into {target} in MASTER <-> REPLICA synchronization: {}",
                errno::text(&e)
            );
            return None;
        }
        if let Err(e) = self.disk.sync_dir(&self.dir) {
            log::warn!(
                "Failed trying to sync DB directory {target} in MASTER <-> REPLICA synchronization: {}",
                errno::text(&e)
            );
            return None;
        }
        if self.remove {
            log::info!(
                "Removing the RDB file obtained from the master. This replica has persistence disabled"
            );
            // What is left is in the way of nobody.
            let _ = self.disk.unlink(&self.target);
        }
        Some(())
    }
}
