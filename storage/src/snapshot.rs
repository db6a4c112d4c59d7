//! Snapshots: a data directory as of one moment, beside it, for little time and almost no bytes.
//!
//! ```text
//!   MANIFEST          written anew, last but for the name of the whole
//!   blocks/, totals/  hard links: these files never change; a copy where links cannot reach
//!   wal/              copied: the newest segment still grows
//! ```
//!
//! A snapshot is a data directory like any other: it can be verified, restored, or served as it is. What was acknowledged
//! before it was begun is in it, for a frame is acknowledged after it was written, and the manifest did not change while
//! the files were gathered: an engine that takes one holds its manifest, and of a directory that another process has open
//! the manifest is read again at the end; if it moved on, the work begins anew. The directory appears under its name when
//! it is whole and durable.

use std::io;
use std::path::{Path, PathBuf};

use kymo_core::{ErrorKind, Random};

use crate::engine::Engine;
use crate::error::{StorageError, io_error};
use crate::fs::{Fs, OpenMode};
use crate::increments;
use crate::manifest::Manifest;
use crate::verify::VerifyReport;
use crate::wal::segment_number;

/// Below the data directory: where an engine puts snapshots that are asked for without a place.
const FOLDER: &str = "snapshots";
/// Attempts on a directory whose manifest moves on meanwhile: a flush or merge publishes one in minutes.
const ATTEMPTS_MAX: u32 = 20;
/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;

/// How much goes into a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnapshotExtent {
    /// Everything acknowledged.
    #[default]
    Everything,
    /// Blocks only: what the log and the head hold is left out.
    BlocksOnly,
}

/// Why there is no snapshot, or nothing was restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The disk's, or the data directory's.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Something of this name is there already.
    #[error("{} is there already", path.display())]
    Taken {
        /// The target.
        path: PathBuf,
    },
    /// The target holds something.
    #[error("{} is not empty: it has {holds}", path.display())]
    NotEmpty {
        /// The target.
        path: PathBuf,
        /// A name in it.
        holds: String,
    },
    /// Another process changed the directory each time it was looked at.
    #[error("{} changed each of {ATTEMPTS_MAX} times it was looked at", dir.display())]
    Unsettled {
        /// The data directory.
        dir: PathBuf,
    },
    /// What was to be restored is damaged.
    #[error("{} has {} faults", dir.display(), report.fault_count)]
    Faulty {
        /// The snapshot.
        dir: PathBuf,
        /// All of them, by their files in the snapshot.
        report: Box<VerifyReport>,
    },
}

impl SnapshotError {
    /// What a surface makes of it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            SnapshotError::Storage(error) => error.kind(),
            SnapshotError::Taken { .. } | SnapshotError::NotEmpty { .. } => ErrorKind::Invalid,
            SnapshotError::Unsettled { .. } => ErrorKind::unavailable(),
            SnapshotError::Faulty { .. } => ErrorKind::Internal,
        }
    }
}

/// Takes a snapshot of the data directory `dir`, which another process may have open, as the new directory `target`.
///
/// Everything that was acknowledged before the call is in it, and it is durable when this returns. Links where `target` is
/// on the same file system, else copies. The directory above `target` must exist.
///
/// # Errors
/// [`SnapshotError`]; then there is no `target`, but for a `target.unfinished` after a crash, which the next call removes.
pub fn snapshot(fs: &dyn Fs, dir: &Path, target: &Path, extent: SnapshotExtent) -> Result<(), SnapshotError> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(manifest) = Manifest::read(fs, dir)? else {
            let source = io::ErrorKind::NotFound.into();
            let path = dir.join("MANIFEST");
            return Err(StorageError::Io { path, doing: "looking for a data directory", source }.into());
        };
        let settled = || Ok(Manifest::read(fs, dir)?.as_ref() == Some(&manifest));
        match take(fs, dir, &manifest, target, extent, settled) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // A file went away because the manifest moved on.
            Err(SnapshotError::Storage(StorageError::Io { source, .. }))
                if source.kind() == io::ErrorKind::NotFound =>
            {
                if Manifest::read(fs, dir)?.as_ref() == Some(&manifest) {
                    return Err(io_error(dir, "gathering what the manifest lists")(source).into());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(SnapshotError::Unsettled { dir: dir.to_owned() })
}

/// Gathers the files of `manifest`; `false`, and nothing, if `settled` says at the end that they are not those any more.
fn take(
    fs: &dyn Fs,
    dir: &Path,
    manifest: &Manifest,
    target: &Path,
    extent: SnapshotExtent,
    settled: impl FnOnce() -> Result<bool, StorageError>,
) -> Result<bool, SnapshotError> {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let taken = fs.list(parent).map_err(io_error(parent, "looking at the directory of the snapshot"))?;
    if taken.iter().any(|entry| Some(&*entry.name) == target.file_name()) {
        return Err(SnapshotError::Taken { path: target.to_owned() });
    }
    let mut unfinished = target.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    remove_tree(fs, &unfinished)?;
    let gathered = gather(fs, dir, manifest, &unfinished, extent)
        .and_then(|()| if settled()? { Ok(true) } else { Ok(false) })
        .and_then(|is_settled| {
            if is_settled {
                fs.rename(&unfinished, target).map_err(io_error(target, "naming the snapshot"))?;
                fs.sync_dir(parent).map_err(io_error(parent, "syncing the directory of the snapshot"))?;
            }
            Ok(is_settled)
        });
    if !matches!(gathered, Ok(true)) {
        let _ = remove_tree(fs, &unfinished);
    }
    gathered.map_err(SnapshotError::from)
}

fn gather(
    fs: &dyn Fs,
    dir: &Path,
    manifest: &Manifest,
    into: &Path,
    extent: SnapshotExtent,
) -> Result<(), StorageError> {
    for folder in ["blocks", "totals", "wal"] {
        let path = into.join(folder);
        fs.create_dir_all(&path).map_err(io_error(&path, "making the snapshot"))?;
    }
    for file in manifest.files() {
        link_or_copy(fs, &dir.join(&file), &into.join(&file))?;
    }
    let (wal, copied) = (dir.join("wal"), into.join("wal"));
    if extent == SnapshotExtent::Everything {
        for entry in fs.list(&wal).map_err(io_error(&wal, "listing the log"))? {
            if segment_number(&entry.name).is_some_and(|number| number >= manifest.replay_from.segment) {
                copy_file(fs, &wal.join(&entry.name), &copied.join(&entry.name), &mut |_| {})?;
            }
        }
    }
    for folder in ["blocks", "totals", "wal"] {
        let path = into.join(folder);
        fs.sync_dir(&path).map_err(io_error(&path, "syncing the snapshot"))?;
    }
    manifest.publish(fs, into)
}

/// Makes `to` another name of a file that never changes, or a durable copy where names cannot reach.
fn link_or_copy(fs: &dyn Fs, from: &Path, to: &Path) -> Result<(), StorageError> {
    match fs.hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported) => {
            copy_file(fs, from, to, &mut |_| {})
        }
        // Some file systems have no hard links, and say so with this.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => copy_file(fs, from, to, &mut |_| {}),
        Err(error) => Err(io_error(from, "linking into the snapshot")(error)),
    }
}

/// Copies a file as long as it is now, durably but for its name. `progress` is told of bytes as they are done.
pub(crate) fn copy_file(
    fs: &dyn Fs,
    from: &Path,
    to: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<(), StorageError> {
    let failed = || io_error(from, "copying");
    let source = fs.open(from, OpenMode::Read).map_err(failed())?;
    let len = source.len().map_err(failed())?;
    let copy = fs.create_new(to).map_err(io_error(to, "copying"))?;
    let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(len).unwrap_or(COPY_BYTES)).max(1)];
    let mut at = 0;
    while at < len {
        let part = buffer.len().min(usize::try_from(len - at).unwrap_or(buffer.len()));
        source.read_exact_at(&mut buffer[..part], at).map_err(failed())?;
        copy.append_all(&buffer[..part]).map_err(|partial| io_error(to, "copying")(partial.into()))?;
        at += part as u64;
        progress(part as u64);
    }
    copy.sync_data().map_err(io_error(to, "copying"))
}

/// Removes a directory with everything in it, if it is there.
pub(crate) fn remove_tree(fs: &dyn Fs, dir: &Path) -> Result<(), StorageError> {
    let entries = match fs.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(dir, "removing an unfinished copy")(error)),
    };
    for entry in entries {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            remove_tree(fs, &path)?;
        } else {
            fs.remove(&path).map_err(io_error(&path, "removing an unfinished copy"))?;
        }
    }
    fs.remove(dir).map_err(io_error(dir, "removing an unfinished copy"))
}

impl Manifest {
    /// The files it lists, below the data directory: all of them immutable and durable. The log comes on top.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let totals = (self.totals != 0).then(|| increments::path_of(Path::new("totals"), self.totals));
        self.names().map(|name| Path::new("blocks").join(name)).chain(totals)
    }
}

impl Engine {
    /// Takes a snapshot below the data directory, in `snapshots/`; gives its name, which tells the time.
    ///
    /// Appends and queries go on meanwhile; what was acknowledged before the call is in it. Cost: a hard link per block,
    /// and a copy of the log.
    ///
    /// # Errors
    /// [`SnapshotError`]; then there is none.
    pub fn take_snapshot(&self, extent: SnapshotExtent, random: &dyn Random) -> Result<String, SnapshotError> {
        let folder = self.dir.join(FOLDER);
        self.fs.create_dir_all(&folder).map_err(io_error(&folder, "making the directory of snapshots"))?;
        self.fs.sync_dir(&self.dir).map_err(io_error(&self.dir, "syncing the data directory"))?;
        let name = snapshot_name(self.options.clock.now_ms(), random.next_u64());
        self.snapshot_into(&folder.join(&name), extent)?;
        Ok(name)
    }

    /// The same as the new directory `target`, wherever that is.
    ///
    /// # Errors
    /// [`SnapshotError`]; then there is none.
    pub fn snapshot_into(&self, target: &Path, extent: SnapshotExtent) -> Result<(), SnapshotError> {
        // While it is held no block, no file of totals and no segment goes away.
        let manifest = self.manifest();
        take(&*self.fs, &self.dir, &manifest, target, extent, || Ok(true)).map(drop)
    }
}

/// `20261121T053000Z-0123456789abcdef`, as Prometheus names them.
fn snapshot_name(now_ms: i64, random: u64) -> String {
    let mut time = String::new();
    kymo_core::text::write_rfc3339(&mut time, now_ms.div_euclid(1_000) * 1_000);
    time.retain(|c| !matches!(c, '-' | ':'));
    format!("{time}-{random:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_second_and_differ() {
        assert_eq!(snapshot_name(1_700_000_000_123, 0x2be6_50b6), "20231114T221320Z-000000002be650b6");
    }
}
