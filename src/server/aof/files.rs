//! The files of the log on the disk: the manifest, the file to go on with, what is left over.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::Places;
use crate::aof::manifest::{self, Manifest};
use crate::base::errno;
use crate::config::Text;
use crate::exec::aof::State;
use crate::exec::io::{Disk, Io};
use crate::exec::persistence::Errand;
use crate::exec::server::{Effect, Server};

/// Something could not be done, and the log has why.
#[derive(Debug)]
pub struct Told;

/// A manifest is not in place, as the log says.
#[derive(Debug, PartialEq, Eq)]
pub enum NotPut {
    /// The one that was there still is.
    AsBefore,
    /// It is there, but power loss might bring the old one back: the files of both are needed.
    Unsure,
}

impl From<NotPut> for Told {
    fn from(_: NotPut) -> Told {
        Told
    }
}

fn name_of(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Makes the directory of the log, unless it is there.
pub fn make_dir(disk: &dyn Disk, places: &Places) -> Result<(), Told> {
    let made = disk.make_dir(&places.log_dir).and_then(|new| match new {
        // Its name must outlast what lies in it.
        true => disk.sync_dir(&places.dir),
        false => Ok(()),
    });
    made.map_err(|e| {
        log::warn!(
            "Can't open or create append-only dir {}: {}",
            name_of(&places.log_dir),
            errno::text(&e)
        );
        Told
    })
}

/// Removes the files that a rewrite has made needless, each by `unlink`, and then their names from the manifest.
pub fn remove_history(
    disk: &dyn Disk,
    places: &Places,
    manifest: &mut Manifest,
    mut unlink: impl FnMut(PathBuf),
) {
    let old = manifest.take_history();
    if old.is_empty() {
        return;
    }
    for file in old {
        log::info!(
            "Removing the history file {} in the background",
            file.name.lossy()
        );
        unlink(places.file(&file.name));
    }
    // If it fails, files are listed that are not there: they are looked for in vain next time.
    let _ = put_manifest(disk, places, manifest);
}

/// Replaces the manifest on the disk.
pub fn put_manifest(disk: &dyn Disk, places: &Places, manifest: &Manifest) -> Result<(), NotPut> {
    let name = manifest::manifest_name(&places.log).lossy().into_owned();
    let temp_name = manifest::temp_manifest_name(&places.log);
    let path = places.file(&manifest::manifest_name(&places.log));
    let temp = places.file(&temp_name);
    let temp_name = temp_name.lossy();
    let told = |why: String| {
        log::warn!("{why}");
        NotPut::AsBefore
    };
    let text = errno::text;
    let mut file = disk.create(&temp).map_err(|e| {
        told(format!(
            "Can't open the AOF manifest file {temp_name}: {}",
            text(&e)
        ))
    })?;
    let written = file.write_all(&manifest.to_text()).map_err(|e| {
        let why = text(&e);
        told(format!(
            "Error trying to write the temporary AOF manifest file {temp_name}: {why}"
        ))
    });
    written
        .and_then(|()| {
            file.sync().map_err(|e| {
                told(format!("Fail to fsync the temp AOF file {temp_name}: {}.", text(&e)))
            })
        })
        .and_then(|()| {
            disk.rename(&temp, &path).map_err(|e| {
                let why = text(&e);
                told(format!(
                    "Error trying to rename the temporary AOF manifest file {temp_name} into {name}: {why}"
                ))
            })
        })
        .inspect_err(|_| {
            let _ = disk.unlink(&temp);
        })?;
    disk.sync_dir(&places.log_dir).map_err(|e| {
        told(format!(
            "Fail to fsync AOF directory {}: {}.",
            path.display(),
            text(&e)
        ));
        NotPut::Unsure
    })
}

impl Server {
    /// Reads the manifest at the start, whether there will be a log or not. The error is that nobody can tell what is in the
    /// log.
    pub fn read_manifest(&mut self, io: &mut dyn Io) -> Result<(), Told> {
        let places = Places::of(&self.config);
        let disk = io.disk();
        if !disk.is_dir(&places.log_dir) {
            log::debug!(
                "The AOF directory {} doesn't exist",
                name_of(&places.log_dir)
            );
            return Ok(());
        }
        let name = manifest::manifest_name(&places.log);
        let path = places.file(&name);
        let mut text = Vec::new();
        let read = match disk.open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                log::debug!("The AOF manifest file {} doesn't exist", name.lossy());
                return Ok(());
            }
            Err(e) => {
                log::warn!(
                    "Fatal error: can't open the AOF manifest file {} for reading: {}",
                    path.display(),
                    errno::text(&e)
                );
                return Err(Told);
            }
            Ok((mut file, _)) => file.read_to_end(&mut text),
        };
        let parsed = match read {
            Ok(_) => Manifest::parse(&text),
            Err(_) => Err(manifest::ManifestError::UNREADABLE),
        };
        self.aof.manifest = parsed.map_err(|error| {
            for line in error.report() {
                log::warn!("{line}");
            }
            Told
        })?;
        Ok(())
    }

    /// Opens the file to go on with once the data is there. Where there is no log yet it begins with a base, so that there
    /// is always one.
    pub fn open_log(&mut self, io: &mut dyn Io) -> Result<(), Told> {
        let places = Places::of(&self.config);
        let disk = io.disk();
        make_dir(&*disk, &places)?;
        let mut manifest = self.aof.manifest.clone();
        if manifest.is_empty() {
            let rdb = self.config.aof_use_rdb_preamble;
            let name = manifest.next_base(&places.log, rdb).name.clone();
            self.write_first_base(io, &places, &name)?;
            log::info!("Creating AOF base file {} on server start", name.lossy());
        }
        let goes_on = !manifest.incr().is_empty();
        let name = manifest.last_incr(&places.log).name.clone();
        let failed = |name: &Text, e: std::io::Error| {
            let (name, why) = (name.lossy(), errno::text(&e));
            log::warn!("Can't open the append-only file {name}: {why}");
            Told
        };
        let open = |name: &Text, fresh| {
            let opened = disk.open_log(&places.file(name), fresh);
            opened.map_err(|e| failed(name, e))
        };
        // What an interrupted rewrite has left under that name is no part of a log that begins now, and must not come back.
        let (file, len) = open(&name, !goes_on)?;
        if !goes_on {
            file.sync().map_err(|e| failed(&name, e))?;
        }
        let earlier = manifest.incr().iter().filter(|incr| incr.name != name);
        let earlier: Vec<_> = earlier
            .map(|incr| open(&incr.name, false).map(|(file, _)| file))
            .collect::<Result<_, _>>()?;
        if manifest != self.aof.manifest {
            put_manifest(&*disk, &places, &manifest)?;
        }
        let verb = if goes_on { "Opening" } else { "Creating" };
        log::info!("{verb} AOF incr file {} on server start", name.lossy());
        let aof = &mut self.aof;
        aof.manifest = manifest;
        aof.file = Some(file.clone());
        (aof.written, aof.synced) = (len, len);
        aof.state = State::On;
        // A process that was killed has left bytes that are read but may not be durable, and none that comes now may be so
        // before them: a log with a hole would be refused.
        aof.unsynced = earlier;
        if goes_on {
            self.start_sync(file);
        }
        self.note_who_listens();
        Ok(())
    }

    /// Removes what the last rewrite left over.
    pub fn remove_history(&mut self, io: &mut dyn Io) {
        if self.config.aof_disable_auto_gc || self.aof.manifest.history().is_empty() {
            return;
        }
        let places = Places::of(&self.config);
        let disk = io.disk();
        let mut manifest = std::mem::take(&mut self.aof.manifest);
        remove_history(&*disk, &places, &mut manifest, |path| {
            self.unlink_later(io, path);
        });
        self.aof.manifest = manifest;
    }

    /// Deletes a file where there is time for it.
    pub fn unlink_later(&mut self, io: &dyn Io, path: PathBuf) {
        let disk = io.disk();
        self.effects.push(Effect::Start(
            Errand::Unlink,
            Box::new(move || Box::new(disk.unlink(&path).is_ok())),
        ));
    }
}
