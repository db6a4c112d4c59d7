//! Restoring: a snapshot copied to where a server will use it, and checked there.
//!
//! The target becomes a data directory with one rename, that of its manifest, after everything else is durable and was
//! verified. Until then it holds a file that says so, no engine opens it (there is data without a manifest), and the next
//! attempt begins anew. Nothing is linked: what is served and what is kept shall not share a fate.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::{StorageError, io_error};
use crate::fs::Fs;
use crate::manifest::Manifest;
use crate::snapshot::{SnapshotError, copy_file, remove_tree};
use crate::verify::{Depth, VerifyReport, verify_with};
use crate::wal::segment_number;

/// Says that what lies beside it is not whole.
const MARK: &str = "RESTORING";
const FOLDERS: [&str; 3] = ["blocks", "totals", "wal"];

/// Copies `snapshot`, or any data directory that no process has open, to `target`, which is missing or empty, verifies the
/// copy, and makes it a data directory.
///
/// Gives what was verified. `progress` is told how many bytes are done of how many: each is copied and read back.
///
/// # Errors
/// [`SnapshotError::NotEmpty`]; [`SnapshotError::Faulty`] when the copy, and so most likely the snapshot, is damaged: then
/// nothing is left at the target. The disk's: then what is there is no data directory, and the next call begins anew.
pub fn restore(
    fs: &dyn Fs,
    snapshot: &Path,
    target: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<VerifyReport, SnapshotError> {
    let Some(manifest) = Manifest::read(fs, snapshot)? else {
        let source = std::io::ErrorKind::NotFound.into();
        let path = snapshot.join("MANIFEST");
        return Err(StorageError::Io { path, doing: "looking for a snapshot", source }.into());
    };
    let make = |path: &Path| fs.create_dir_all(path).map_err(io_error(path, "making the directory"));
    make(target)?;
    // So that no server begins in it meanwhile.
    let _lock = fs.lock(&target.join("LOCK")).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => StorageError::Locked { dir: target.to_owned() },
        _ => io_error(target, "locking the target")(error),
    })?;
    make_empty(fs, target)?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mark = target.join(MARK);
    let begin = || {
        drop(fs.create_new(&mark)?);
        fs.sync_dir(target)?;
        fs.sync_dir(parent)
    };
    begin().map_err(io_error(&mark, "marking the target as unfinished"))?;
    FOLDERS.iter().try_for_each(|folder| make(&target.join(folder)))?;
    // Before the manifest can be there, what it speaks of must be.
    fs.sync_dir(target).map_err(io_error(target, "syncing the target"))?;

    let files = files(fs, snapshot, &manifest)?;
    let bytes: u64 = files.iter().map(|(_, len)| len).sum();
    let mut done = 0;
    for (file, _) in &files {
        copy_file(fs, &snapshot.join(file), &target.join(file), &mut |part| {
            done += part;
            progress(done, 2 * bytes);
        })?;
    }
    for folder in FOLDERS {
        let path = target.join(folder);
        fs.sync_dir(&path).map_err(io_error(&path, "syncing what was restored"))?;
    }
    let mut report = verify_with(fs, target, manifest.clone(), Depth::Structure, &mut |read, _| {
        progress(bytes + read.min(bytes), 2 * bytes);
    })?;
    if !report.is_sound() {
        for fault in &mut report.faults {
            if let Ok(below) = fault.path.strip_prefix(target) {
                fault.path = snapshot.join(below);
            }
        }
        clear(fs, target)?;
        return Err(SnapshotError::Faulty { dir: snapshot.to_owned(), report: Box::new(report) });
    }
    manifest.publish(fs, target)?;
    fs.remove(&mark).map_err(io_error(&mark, "ending the restoration"))?;
    fs.sync_dir(target).map_err(io_error(target, "ending the restoration"))?;
    Ok(report)
}

/// The files to copy, with their lengths.
fn files(fs: &dyn Fs, snapshot: &Path, manifest: &Manifest) -> Result<Vec<(PathBuf, u64)>, StorageError> {
    let wal = snapshot.join("wal");
    let mut files: Vec<PathBuf> = manifest.files().collect();
    for entry in fs.list(&wal).map_err(io_error(&wal, "listing the snapshot's log"))? {
        if segment_number(&entry.name).is_some_and(|number| number >= manifest.replay_from.segment) {
            files.push(Path::new("wal").join(&entry.name));
        }
    }
    let with_len = |file: PathBuf| {
        let path = snapshot.join(&file);
        let len = fs.open(&path, crate::fs::OpenMode::Read).and_then(|opened| opened.len());
        len.map(|len| (file, len)).map_err(io_error(&path, "reading the snapshot"))
    };
    files.into_iter().map(with_len).collect()
}

/// Refuses a target that holds anything but what an unfinished restoration left, which is removed.
fn make_empty(fs: &dyn Fs, target: &Path) -> Result<(), SnapshotError> {
    let entries = fs.list(target).map_err(io_error(target, "looking at the target"))?;
    let is_there = |name: &str| entries.iter().any(|entry| entry.name == OsStr::new(name));
    if is_there(MARK) && !is_there("MANIFEST") {
        return clear(fs, target).map_err(SnapshotError::from);
    }
    // A file system's own, where the target is the root of one.
    let is_foreign = |name: &OsStr| name != "LOCK" && name != "lost+found";
    match entries.iter().find(|entry| is_foreign(&entry.name)) {
        Some(entry) => {
            let holds = entry.name.to_string_lossy().into_owned();
            Err(SnapshotError::NotEmpty { path: target.to_owned(), holds })
        }
        None => Ok(()),
    }
}

/// Removes what an unfinished restoration left: the mark last, and the lock's file stays.
fn clear(fs: &dyn Fs, target: &Path) -> Result<(), StorageError> {
    FOLDERS.iter().try_for_each(|folder| remove_tree(fs, &target.join(folder)))?;
    let end = || {
        fs.sync_dir(target)?;
        crate::manifest::remove_if_there(fs, &target.join("MANIFEST.new"))?;
        crate::manifest::remove_if_there(fs, &target.join(MARK))?;
        fs.sync_dir(target)
    };
    end().map_err(io_error(target, "removing an unfinished restoration"))
}
