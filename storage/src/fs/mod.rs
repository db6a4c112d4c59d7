//! The disk as a parameter.
//!
//! Everything the engine keeps goes through [`Fs`], so a test can put a disk under it that is
//! full, slow to sync, torn or cut off from power. [`RealFs`] is the operating system's;
//! [`OverlayFs`] reads another and writes to memory;
//! `SimFs` (feature `simulate`) lives in memory and loses what the contract does not keep.
//!
//! # The contract
//!
//! 1. **Visible.** What an operation changed is seen by every later operation, through any handle
//!    or path, on any thread.
//! 2. **A process kill keeps every completed operation.** There is no user-space buffer. An
//!    operation under way may have happened in part: a write may leave any prefix of its bytes.
//! 3. **Power loss keeps what was synced, and anything else or nothing of the rest.**
//!    [`FsFile::sync_data`] makes the bytes and the length of one file durable;
//!    [`Fs::sync_dir`] makes the names in one directory durable. Neither does the other's work: a
//!    synced file whose name was not synced may be gone, a synced name may lead to an empty file.
//!    Of unsynced writes any subset of 512-byte sectors may survive, the rest reading as before or
//!    as zeroes; the length may be any the file passed through since its last sync. Of unsynced
//!    creations, renames, links and removals any subset may have happened, in any order.
//! 4. **After a failed sync, what was unsynced counts as lost**, whatever reads still show: the system
//!    marks those pages clean and a later sync that succeeds says nothing about them. Write the
//!    data again, to another file.
//! 5. **A rename is atomic** as long as both names are in one directory: the new name leads to the
//!    old file or the new one, never to neither. Between directories sync the new name's directory
//!    first.
//!
//! To publish a file: [`create_new`](Fs::create_new) under a temporary name, append, `sync_data`,
//! [`rename`](Fs::rename), `sync_dir`.
//!
//! Errors are [`io::Error`] as the system gives them; kinds callers may act on are named at each
//! operation. A full disk is [`io::ErrorKind::StorageFull`] everywhere.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

mod overlay;
mod real;
#[cfg(any(test, feature = "simulate"))]
mod sim;
#[cfg(test)]
mod tests;

pub use overlay::OverlayFs;
pub use real::RealFs;
#[cfg(any(test, feature = "simulate"))]
pub use sim::{CrashKind, Fault, FaultAt, OpKind, SECTOR_BYTES, SimCrashed, SimFs, is_sim_crash};

/// What a handle from [`Fs::open`] may do. Every mode may read, ask the length and sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Only read.
    Read,
    /// Also [`FsFile::append`], [`FsFile::set_len`] and [`FsFile::allocate`].
    Append,
    /// Also [`FsFile::write_at`], [`FsFile::set_len`] and [`FsFile::allocate`].
    ///
    /// Apart from `Append` because Linux ignores the offset of a positioned write on a handle
    /// that appends.
    Write,
}

/// One name in a directory, from [`Fs::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name within its directory, without a path.
    pub name: OsString,
    /// Length in bytes; 0 for a directory.
    pub len: u64,
    /// Whether the name leads to a directory. A symbolic link is not followed and is none.
    pub is_dir: bool,
}

/// Room on the file system that holds a directory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceInfo {
    /// Size of the file system.
    pub total: u64,
    /// What this process may still use, without the share kept back for the superuser.
    pub available: u64,
}

/// A write that stopped before its end: of its bytes exactly the first `written` are in the file.
#[derive(Debug, thiserror::Error)]
#[error("write stopped after {written} bytes")]
pub struct PartialWrite {
    /// Bytes that reached the file, less than were asked for.
    pub written: usize,
    /// Why the rest did not.
    pub source: io::Error,
}

impl From<PartialWrite> for io::Error {
    fn from(partial: PartialWrite) -> Self {
        Self::new(partial.source.kind(), partial)
    }
}

/// A file system, by path. The module says what is visible and what is durable.
///
/// May be called from many threads. Paths are taken as given; a component `..` need not work.
pub trait Fs: fmt::Debug + Send + Sync + 'static {
    /// Opens a file that exists.
    ///
    /// The handle stays with the file when its name is renamed, replaced or removed.
    /// `NotFound` when there is none, `IsADirectory` for a directory.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>>;

    /// Makes an empty file and opens it with [`OpenMode::Append`].
    ///
    /// `AlreadyExists` when the name is taken, by whatever. The name is durable after
    /// [`sync_dir`](Self::sync_dir) of its directory.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn FsFile>>;

    /// Makes a directory and the ones above it where missing.
    ///
    /// Each new name is durable after [`sync_dir`](Self::sync_dir) of the directory that holds it.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Gives a file or directory a new name, in one step, replacing a file of that name.
    ///
    /// `NotFound` when `from` is not there. A directory replaces only an empty directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives the file at `original` one more name.
    ///
    /// `AlreadyExists` when `link` is taken. Either name can then be removed without the other.
    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()>;

    /// Removes a name of a file, or an empty directory.
    ///
    /// The bytes go with the last name and the last open handle. `NotFound` when there is no such
    /// name, `DirectoryNotEmpty` for a directory with names in it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names in `dir`, sorted by their bytes; not those in directories below it.
    ///
    /// A name that comes or goes during the call may be in the answer or not.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Makes every change to the names in `dir`, so far, survive power loss.
    ///
    /// Covers neither the files' bytes, nor the names in directories below, nor the name of `dir`
    /// itself.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Room on the file system that holds `dir`. Another process may take it the next moment.
    fn space(&self, dir: &Path) -> io::Result<SpaceInfo>;

    /// Takes the exclusive advisory lock on the file at `path`, made when missing.
    ///
    /// Never waits: `WouldBlock` while anyone holds it, in this process or another. Dropping the
    /// guard, or the end of the process by any cause, releases it. The file stays.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FsLock>>;
}

/// An open file. What its [`OpenMode`] does not allow is `InvalidInput`.
///
/// May be used from many threads at once; no operation moves a shared position.
#[expect(clippy::len_without_is_empty, reason = "a length that can fail is asked for once, and compared")]
pub trait FsFile: fmt::Debug + Send + Sync {
    /// Reads bytes from `offset` on into the front of `buf`; one `pread(2)`.
    ///
    /// `Ok(n)` filled `n` bytes, possibly fewer than asked; 0 only at or past the end, or for an
    /// empty `buf`. `Interrupted` may be tried again.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes bytes from `data` at the file's end; one `write(2)`.
    ///
    /// `Ok(n)` means the first `n` bytes were written, possibly fewer than asked, 0 only for empty
    /// `data`; an error means none were. The bytes of one call stand together, also with
    /// several handles appending. `StorageFull` on a full disk; the short write that fills it up
    /// is `Ok`.
    fn append(&self, data: &[u8]) -> io::Result<usize>;

    /// Writes bytes from `data` at `offset`; one `pwrite(2)`. A gap before `offset` reads as zeroes.
    ///
    /// Bytes written, and errors, as of [`append`](Self::append).
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize>;

    /// Cuts the file, or lengthens it by bytes that read as zeroes.
    ///
    /// Lengthening takes no room, so a later write into it may still find the disk full. Room
    /// allocated past the new end may be given back.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Takes room for the bytes `offset .. offset + len` now, so that writing them cannot find the
    /// disk full. `len` is not 0.
    ///
    /// Neither length nor content change. `StorageFull` when there is not enough, then all or
    /// nothing of it may be taken; `Unsupported` where the file system cannot.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Makes bytes and length, as of every write completed so far through any handle, survive
    /// power loss.
    ///
    /// After an error see the module's point 4: the file must not be trusted again.
    fn sync_data(&self) -> io::Result<()>;

    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Fills `buf` from `offset` on; `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Appends all of `data`, by as many writes as it takes.
    ///
    /// On failure says how many bytes are in the file, so that the caller can cut them off. Bytes
    /// of another appender may stand between the parts.
    fn append_all(&self, data: &[u8]) -> Result<(), PartialWrite> {
        write_all(data, |rest, _| self.append(rest))
    }

    /// Writes all of `data` at `offset`, by as many writes as it takes.
    fn write_all_at(&self, data: &[u8], offset: u64) -> Result<(), PartialWrite> {
        write_all(data, |rest, written| self.write_at(rest, offset + written as u64))
    }
}

/// A held lock from [`Fs::lock`]; dropping it releases the lock.
pub trait FsLock: fmt::Debug + Send + Sync {}

fn write_all(data: &[u8], mut write: impl FnMut(&[u8], usize) -> io::Result<usize>) -> Result<(), PartialWrite> {
    let mut written = 0;
    while written < data.len() {
        match write(&data[written..], written) {
            Ok(0) => {
                let source = io::ErrorKind::WriteZero.into();
                return Err(PartialWrite { written, source });
            }
            Ok(n) => written += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(PartialWrite { written, source }),
        }
    }
    Ok(())
}

impl OpenMode {
    /// The error of an operation this mode does not allow.
    fn refuses(self, operation: &'static str) -> io::Error {
        let message = format!("{operation} on a file opened with {self:?}");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    }
}
