//! What is exported: a snapshot, which a server goes on beside.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kymo_core::{Clock as _, SystemClock};
use kymo_storage::fs::RealFs;
use kymo_storage::{Engine, Options, RetentionPolicy, SnapshotExtent, snapshot};

use crate::failure::{Failure, chain};

/// A snapshot below the data directory's own, of hard links.
pub(super) struct Copy {
    path: PathBuf,
}

impl Copy {
    /// Whether there can be one.
    pub(super) fn check(data_dir: &Path) -> Result<(), Failure> {
        if data_dir.join("MANIFEST").is_file() {
            return Ok(());
        }
        Err(Failure::new(format!("{} is no data directory", data_dir.display()))
            .hint("name one that kymo serve has written with --data-dir"))
    }

    pub(super) fn take(data_dir: &Path) -> Result<Copy, Failure> {
        Copy::check(data_dir)?;
        let refused = |error: &dyn std::error::Error| {
            Failure::because(format_args!("cannot read {}", data_dir.display()), error)
                .hint("name a directory that kymo serve has written with --data-dir")
        };
        let folder = data_dir.join("snapshots");
        fs::create_dir_all(&folder).map_err(|error| refused(&error))?;
        let copy = Copy::at(data_dir, &format!("export-{}-{}", SystemClock::new().now_ms(), std::process::id()));
        snapshot(&RealFs, data_dir, &copy.path, SnapshotExtent::Everything).map_err(|error| refused(&error))?;
        Ok(copy)
    }

    /// The copy of this name, whether it is there or not.
    pub(super) fn at(data_dir: &Path, name: &str) -> Copy {
        Copy { path: data_dir.join("snapshots").join(name) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(super) fn is_there(&self) -> bool {
        self.path.join("MANIFEST").is_file()
    }

    pub(super) fn open(&self) -> Result<Engine, Failure> {
        // What is kept is for the server to say; the copy is not written to.
        let options = Options { retention: RetentionPolicy::of_age(None), reserve_bytes: 0, ..Options::default() };
        let opened = Engine::open(Arc::new(RealFs), &self.path, options);
        let (engine, _) =
            opened.map_err(|error| Failure::new(format!("cannot open a copy of the data: {}", chain(&error))))?;
        Ok(engine)
    }

    /// Removes it if it is there.
    pub(super) fn remove(self) {
        if !self.path.exists() {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a copy made for the export could not be removed");
        }
    }
}
