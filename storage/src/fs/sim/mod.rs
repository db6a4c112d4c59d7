//! A disk in memory that fails on purpose.
//!
//! It keeps two images of everything: what the running system sees, and what is sure to be there
//! after power loss. Between them lie the changes not yet synced; a seed decides which of those
//! survive. `disk` holds names and nodes and loses them, `ops` changes them, `image` is the bytes of
//! one file, `plan` what is to go wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{DirEntry, Fs, FsFile, FsLock, OpenMode, PartialWrite, SpaceInfo};

mod disk;
mod extents;
mod image;
mod ops;
mod plan;
mod rng;
#[cfg(test)]
mod tests;

use disk::{Disk, NodeId};
pub use image::SECTOR_BYTES;
use ops::Place;
pub use plan::{Fault, FaultAt, OpKind};

/// How a simulated machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashKind {
    /// Every completed operation stays; what was unsynced still is.
    ProcessKill,
    /// Only what was synced is sure to stay; of the rest a seeded part does.
    PowerLoss,
}

/// The error of every operation once the simulated machine has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulated machine has stopped")]
pub struct SimCrashed;

/// Whether `error` means that the simulated machine has stopped, and not a fault of its disk.
pub fn is_sim_crash(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| {
        let partial = inner.downcast_ref::<PartialWrite>();
        inner.is::<SimCrashed>() || partial.is_some_and(|p| is_sim_crash(&p.source))
    })
}

/// A simulated disk, mounted; clones are the same disk.
///
/// The same seed and the same operations give the same outcome, so a failure is repeated by its
/// seed alone.
///
/// ```
/// use std::path::Path;
/// use kymo_storage::fs::{CrashKind, Fs, SimFs};
///
/// let disk = SimFs::new(7);
/// let log = disk.create_new(Path::new("/log"))?;
/// log.append_all(b"kept")?;
/// log.sync_data()?;
/// disk.sync_dir(Path::new("/"))?;
/// log.append_all(b"at risk")?;
///
/// let after = disk.crash(CrashKind::PowerLoss);
/// assert!(log.append_all(b"too late").is_err());
/// assert!(after.read_file(Path::new("/log"))?.starts_with(b"kept"));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// A path without a leading `/` starts at the root too; `..` is refused. Room is counted by the
/// byte; names and directories take none. The longest file is 1 GiB.
#[derive(Clone)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

impl SimFs {
    /// An empty disk without a capacity, whose luck is decided by `seed`.
    pub fn new(seed: u64) -> Self {
        Self::mount(Disk::new(seed))
    }

    fn mount(disk: Disk) -> Self {
        let disk = Arc::new(Mutex::new(disk));
        Self { disk }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    /// Limits the room to this many bytes, or lifts the limit; may be less than is used.
    ///
    /// The write that reaches the limit is short, the next one fails with `StorageFull`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// Plans a fault for one operation.
    ///
    /// # Panics
    /// When that operation is already over, or the fault does not fit its kind.
    pub fn fail(&self, at: FaultAt) {
        self.disk().plan.add_once(at);
    }

    /// Plans a fault for the next operation of a kind.
    ///
    /// # Panics
    /// When the fault does not fit the kind.
    pub fn fail_next(&self, op: OpKind, fault: Fault) {
        let mut disk = self.disk();
        let nth = disk.plan.count(op) + 1;
        disk.plan.add_once(FaultAt { op, nth, fault });
    }

    /// Plans a fault for an operation and all of its kind after it, up to
    /// [`clear_faults`](Self::clear_faults).
    ///
    /// # Panics
    /// As [`fail`](Self::fail).
    pub fn fail_from(&self, at: FaultAt) {
        self.disk().plan.add_from_then_on(at);
    }

    /// Forgets every planned fault; not the planned crash.
    pub fn clear_faults(&self) {
        self.disk().plan.clear_faults();
    }

    /// Stops the machine during a change, counted as by [`op_count`](Self::op_count).
    ///
    /// A write then leaves any prefix of its bytes, another change happens or does not. It and
    /// every later operation fail with [`SimCrashed`]; [`crash`](Self::crash) says how it stopped.
    ///
    /// # Panics
    /// When that change is already over.
    pub fn crash_at(&self, op_count: u64) {
        self.disk().plan.crash_at(op_count);
    }

    /// Changes asked of the disk since it was mounted: every operation but reads, opens and lists,
    /// failed ones too.
    pub fn op_count(&self) -> u64 {
        self.disk().plan.changes()
    }

    /// Operations of one kind asked of the disk since it was mounted, failed ones too.
    pub fn count(&self, op: OpKind) -> u64 {
        self.disk().plan.count(op)
    }

    /// Whether the machine has stopped.
    pub fn has_crashed(&self) -> bool {
        self.disk().crashed
    }

    /// Stops the machine, if it has not stopped by [`crash_at`](Self::crash_at), and mounts what
    /// its disk then holds.
    ///
    /// The new mount has the capacity, but neither locks nor plans, and counts from 0. Operations
    /// on this one fail from now on, through old handles too. Called again, it gives another
    /// outcome of the same crash.
    #[must_use = "this is the disk after the crash"]
    pub fn crash(&self, kind: CrashKind) -> Self {
        Self::mount(self.disk().crash(kind))
    }

    /// Flips the bits of `mask` in the byte at `offset`, in every image that has it.
    ///
    /// `UnexpectedEof` at or past the file's end.
    pub fn corrupt(&self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        self.disk().corrupt(path, offset, mask)
    }

    /// The bytes of a file as the running system sees, or last saw, them; neither counted nor
    /// failed.
    pub fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.disk().file_bytes(path)?.to_vec())
    }

    /// Every file by its absolute path, as [`read_file`](Self::read_file) gives it.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.disk().files()
    }

    fn handle(&self, node: NodeId, mode: OpenMode) -> Arc<dyn FsFile> {
        let disk = Arc::clone(&self.disk);
        Arc::new(SimFile { disk, node, mode })
    }
}

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.disk();
        f.debug_struct("SimFs")
            .field("op_count", &disk.plan.changes())
            .field("crashed", &disk.crashed)
            .finish_non_exhaustive()
    }
}

impl Fs for SimFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>> {
        let node = self.disk().open(path)?;
        Ok(self.handle(node, mode))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        let node = self.disk().create_new(path)?;
        Ok(self.handle(node, OpenMode::Append))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk().create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk().rename(from, to)
    }

    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()> {
        self.disk().hard_link(original, link)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk().remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk().list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk().sync_dir(dir)
    }

    fn space(&self, dir: &Path) -> io::Result<SpaceInfo> {
        self.disk().space(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FsLock>> {
        let node = self.disk().lock(path)?;
        let disk = Arc::clone(&self.disk);
        Ok(Box::new(SimLock { disk, node }))
    }
}

struct SimFile {
    disk: Arc<Mutex<Disk>>,
    node: NodeId,
    mode: OpenMode,
}

impl FsFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        lock(&self.disk).read(self.node, buf, offset)
    }

    fn append(&self, data: &[u8]) -> io::Result<usize> {
        if self.mode != OpenMode::Append {
            return Err(self.mode.refuses("append"));
        }
        lock(&self.disk).write(self.node, Place::End, data)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        if self.mode != OpenMode::Write {
            return Err(self.mode.refuses("write_at"));
        }
        lock(&self.disk).write(self.node, Place::At(offset), data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.mode == OpenMode::Read {
            return Err(self.mode.refuses("set_len"));
        }
        lock(&self.disk).set_len(self.node, len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.mode == OpenMode::Read {
            return Err(self.mode.refuses("allocate"));
        }
        lock(&self.disk).allocate(self.node, offset, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        lock(&self.disk).sync_data(self.node)
    }

    fn len(&self) -> io::Result<u64> {
        lock(&self.disk).len(self.node)
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("node", &self.node).field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        lock(&self.disk).close(self.node);
    }
}

struct SimLock {
    disk: Arc<Mutex<Disk>>,
    node: NodeId,
}

impl FsLock for SimLock {}

impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimLock").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        lock(&self.disk).unlock(self.node);
    }
}

/// Guards the whole disk: every operation is one step. A panic elsewhere in a test leaves the
/// state whole, because none is raised while it is being changed.
fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}
