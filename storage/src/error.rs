//! Errors that cross this crate's border.

use std::io;
use std::path::PathBuf;

use kymo_core::ErrorKind;
use kymo_core::budget::BudgetExceeded;
use kymo_core::registry::RegisterError;

use crate::codec::Malformed;

/// Why the engine could not be opened or tended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The disk failed.
    #[error("{}: {doing} failed", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the disk said.
        source: io::Error,
    },
    /// Another process has the data directory open.
    #[error("{}: the data directory is in use by another process", dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// Something in the data directory was written by a newer build. Nothing was touched.
    #[error("{}: written by a newer version of Kymo (format {version}, this build reads up to {supported})", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its format version.
        version: u32,
        /// The newest this build reads.
        supported: u32,
    },
    /// The data directory was written by an older build, whose formats have no reader any more. Nothing was touched.
    #[error("{}: written by an older version of Kymo (format {version}, this build reads {supported})", path.display())]
    OlderVersion {
        /// The file.
        path: PathBuf,
        /// Its format version.
        version: u32,
        /// The one this build reads.
        supported: u32,
    },
    /// A file that the engine cannot do without is damaged.
    #[error("{}: damaged: {fault}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        fault: Malformed,
    },
    /// The memory limit leaves no room for opening.
    #[error(transparent)]
    Budget(#[from] BudgetExceeded),
    /// The registry given holds metrics of these names already, of another kind.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The data directory has been opened as often as its numbers allow.
    #[error("{}: opened too often; move the data to a new directory", dir.display())]
    OpeningsUsedUp {
        /// The data directory.
        dir: PathBuf,
    },
}

impl StorageError {
    /// What a surface makes of it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            StorageError::Io { .. } | StorageError::Locked { .. } => ErrorKind::unavailable(),
            StorageError::Budget(_) => ErrorKind::Limit,
            StorageError::NewerVersion { .. }
            | StorageError::OlderVersion { .. }
            | StorageError::Damaged { .. }
            | StorageError::Register(_)
            | StorageError::OpeningsUsedUp { .. } => ErrorKind::Internal,
        }
    }

    /// Whether the cause is a full disk.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, StorageError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

pub(crate) fn io_error(path: &std::path::Path, doing: &'static str) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.to_owned();
    move |source| StorageError::Io { path, doing, source }
}
