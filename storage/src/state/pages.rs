//! The file under redb, reached through [`Fs`](crate::fs::Fs), so that a simulated disk can be put under it too.

use std::io;
use std::sync::Arc;

use redb::StorageBackend;

use crate::fs::FsFile;

/// A file opened with `OpenMode::Write`. Locking is done beside it, by whoever opens it.
#[derive(Debug)]
pub(super) struct Pages(pub(super) Arc<dyn FsFile>);

impl StorageBackend for Pages {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        Ok(self.0.write_all_at(data, offset)?)
    }
}
