//! The operating system's disk.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FallocateFlags;

use super::{DirEntry, Fs, FsFile, FsLock, OpenMode, SpaceInfo};

/// Owner writes, group reads, others nothing: metrics can name what others need not know.
const FILE_PERMISSIONS: u32 = 0o640;
const DIR_PERMISSIONS: u32 = 0o750;

/// The operating system's file system, without any state of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

impl Fs for RealFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>> {
        let file = options(mode).open(path)?;
        // Only a read-only open of a directory succeeds; its reads would fail later and elsewhere.
        if mode == OpenMode::Read && file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Arc::new(RealFile { file, mode }))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        let mode = OpenMode::Append;
        let file = options(mode).create_new(true).open(path)?;
        Ok(Arc::new(RealFile { file, mode }))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIR_PERMISSIONS).create(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()> {
        fs::hard_link(original, link)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(e) if e.kind() == io::ErrorKind::IsADirectory => fs::remove_dir(path),
            result => result,
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let is_dir = metadata.is_dir();
            entries.push(DirEntry { name: entry.file_name(), len: if is_dir { 0 } else { metadata.len() }, is_dir });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let file = File::open(dir)?;
        if !file.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        file.sync_all()
    }

    fn space(&self, dir: &Path) -> io::Result<SpaceInfo> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(SpaceInfo {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FsLock>> {
        let file = options(OpenMode::Write).create(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

fn options(mode: OpenMode) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(mode == OpenMode::Append).write(mode == OpenMode::Write).mode(FILE_PERMISSIONS);
    options
}

#[derive(Debug)]
struct RealFile {
    file: File,
    /// Checked here because the system would answer a `write_at` on an appending handle by
    /// appending, and the rest by errors of other kinds.
    mode: OpenMode,
}

impl FsFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn append(&self, data: &[u8]) -> io::Result<usize> {
        if self.mode != OpenMode::Append {
            return Err(self.mode.refuses("append"));
        }
        (&self.file).write(data)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        if self.mode != OpenMode::Write {
            return Err(self.mode.refuses("write_at"));
        }
        self.file.write_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.mode == OpenMode::Read {
            return Err(self.mode.refuses("set_len"));
        }
        self.file.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.mode == OpenMode::Read {
            return Err(self.mode.refuses("allocate"));
        }
        // The length stays: an appending file must keep its end where its data ends.
        rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, offset, len)?;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// `flock(2)` belongs to the open file, so closing it, by drop or by the kernel, releases it.
#[derive(Debug)]
struct RealLock {
    _file: File,
}

impl FsLock for RealLock {}
