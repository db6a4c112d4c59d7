//! A disk that is only read: what is written to it stays in memory.
//!
//! An engine writes a little whenever it opens a directory: its lock, the number of the opening, a log that is cut at its
//! last whole frame. Over this it can open one without changing a byte of it, also where it may not write.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{DirEntry, Fs, FsFile, FsLock, OpenMode, SpaceInfo};

/// See the module. Directories that are made exist as far as files in them do.
#[derive(Debug)]
pub struct OverlayFs {
    below: Arc<dyn Fs>,
    /// What differs from `below`: a file in memory, or `None` for one that was removed. Held only to look up.
    changed: Mutex<BTreeMap<PathBuf, Option<Arc<Content>>>>,
}

#[derive(Debug, Default)]
struct Content(RwLock<Vec<u8>>);

impl OverlayFs {
    /// A file system that reads `below` and leaves it as it is.
    pub fn over(below: Arc<dyn Fs>) -> OverlayFs {
        OverlayFs { below, changed: Mutex::default() }
    }

    fn changed(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Option<Arc<Content>>>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file in memory, copied there when it is below.
    fn copied(&self, path: &Path) -> io::Result<Arc<Content>> {
        if let Some(known) = self.changed().get(path) {
            return known.clone().ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        let file = self.below.open(path, OpenMode::Read)?;
        let len = usize::try_from(file.len()?).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        let content = Arc::new(Content(RwLock::new(bytes)));
        Ok(self.changed().entry(path.to_owned()).or_insert(Some(content.clone())).clone().unwrap_or(content))
    }

    fn exists(&self, path: &Path) -> bool {
        match self.changed().get(path) {
            Some(known) => known.is_some(),
            None => self.below.open(path, OpenMode::Read).is_ok(),
        }
    }
}

impl Fs for OverlayFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>> {
        if mode == OpenMode::Read && !self.changed().contains_key(path) {
            return self.below.open(path, mode);
        }
        Ok(Arc::new(OverlayFile { content: self.copied(path)?, mode }))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        if self.exists(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = Arc::new(Content::default());
        self.changed().insert(path.to_owned(), Some(content.clone()));
        Ok(Arc::new(OverlayFile { content, mode: OpenMode::Append }))
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let content = self.copied(from)?;
        let mut changed = self.changed();
        changed.insert(from.to_owned(), None);
        changed.insert(to.to_owned(), Some(content));
        Ok(())
    }

    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()> {
        if self.exists(link) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = self.copied(original)?;
        self.changed().insert(link.to_owned(), Some(content));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.exists(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.changed().insert(path.to_owned(), None);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let below = match self.below.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed?,
        };
        let mut entries: BTreeMap<_, DirEntry> = below.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        for (path, known) in self.changed().iter().filter(|(path, _)| path.parent() == Some(dir)) {
            let Some(name) = path.file_name() else { continue };
            match known {
                Some(content) => {
                    let len = content.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64;
                    entries.insert(name.to_owned(), DirEntry { name: name.to_owned(), len, is_dir: false });
                }
                None => drop(entries.remove(name)),
            }
        }
        Ok(entries.into_values().collect())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn space(&self, dir: &Path) -> io::Result<SpaceInfo> {
        self.below.space(dir)
    }

    /// Nobody is kept out, and nobody who holds the lock is disturbed: what is read is how the directory was.
    fn lock(&self, _: &Path) -> io::Result<Box<dyn FsLock>> {
        Ok(Box::new(NoLock))
    }
}

#[derive(Debug)]
struct NoLock;

impl FsLock for NoLock {}

#[derive(Debug)]
struct OverlayFile {
    content: Arc<Content>,
    mode: OpenMode,
}

impl OverlayFile {
    fn write(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.content.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl FsFile for OverlayFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content.0.read().unwrap_or_else(PoisonError::into_inner);
        let rest = content.get(position(offset)?..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn append(&self, data: &[u8]) -> io::Result<usize> {
        if self.mode != OpenMode::Append {
            return Err(self.mode.refuses("append"));
        }
        self.write(|content| content.extend_from_slice(data));
        Ok(data.len())
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        if self.mode != OpenMode::Write {
            return Err(self.mode.refuses("write"));
        }
        let start = position(offset)?;
        self.write(|content| {
            if content.len() < start + data.len() {
                content.resize(start + data.len(), 0);
            }
            content[start..start + data.len()].copy_from_slice(data);
        });
        Ok(data.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.mode == OpenMode::Read {
            return Err(self.mode.refuses("set_len"));
        }
        let len = position(len)?;
        self.write(|content| content.resize(len, 0));
        Ok(())
    }

    /// Memory is taken when it is written.
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        match self.mode {
            OpenMode::Read => Err(self.mode.refuses("allocate")),
            OpenMode::Append | OpenMode::Write => Ok(()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::RealFs;
    use super::*;

    #[test]
    fn what_is_written_is_seen_and_nothing_below_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a"), b"below").unwrap();
        std::fs::write(path("b"), b"other").unwrap();
        let fs = OverlayFs::over(Arc::new(RealFs));
        let appended = fs.open(&path("a"), OpenMode::Append).unwrap();
        appended.append_all(b" and above").unwrap();
        appended.set_len(9).unwrap();
        fs.create_new(&path("c")).unwrap().append_all(b"new").unwrap();
        fs.rename(&path("c"), &path("d")).unwrap();
        fs.remove(&path("b")).unwrap();
        assert_eq!(fs.open(&path("b"), OpenMode::Read).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(fs.create_new(&path("a")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let listed: Vec<(String, u64)> =
            fs.list(dir.path()).unwrap().into_iter().map(|e| (e.name.to_string_lossy().into_owned(), e.len)).collect();
        assert_eq!(listed, [("a".to_owned(), 9), ("d".to_owned(), 3)]);
        let mut text = [0; 9];
        fs.open(&path("a"), OpenMode::Read).unwrap().read_exact_at(&mut text, 0).unwrap();
        assert_eq!(&text, b"below and");
        assert_eq!(std::fs::read(path("a")).unwrap(), b"below");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
