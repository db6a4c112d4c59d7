//! How far long work came: a small file by which the same command goes on where it broke off.
//!
//! It names the job as well as the place, so that another job, or a source that has changed, begins anew. It is replaced by a
//! rename after everything before its place is durable: whoever finds it may trust it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Of the file; another one is none that is understood.
const VERSION: u32 = 1;
/// Least time between two of them: each costs some syncs.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    job: Value,
    place: Value,
}

/// What was found where a checkpoint is to be.
pub(crate) enum Found<P> {
    Nothing,
    /// This very job broke off here.
    Place(P),
    /// Another one broke off.
    Other {
        job: Value,
        place: Option<P>,
    },
}

/// The checkpoint of a job.
pub(crate) struct Checkpoint {
    path: PathBuf,
    job: Value,
    written: Option<Instant>,
}

impl Checkpoint {
    /// The checkpoint at `path`, and what stands there now. Nothing is written.
    pub(crate) fn find<P: DeserializeOwned>(path: PathBuf, job: Value) -> (Checkpoint, Found<P>) {
        let kept = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        let found = match kept.filter(|kept| kept.version == VERSION) {
            None => Found::Nothing,
            Some(kept) => match serde_json::from_value(kept.place).ok() {
                Some(place) if kept.job == job => Found::Place(place),
                place => Found::Other { job: kept.job, place },
            },
        };
        (Checkpoint { path, job, written: None }, found)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether some time has passed since the last one.
    pub(crate) fn is_due(&self) -> bool {
        self.written.is_none_or(|written| written.elapsed() >= PAUSE)
    }

    /// Replaces it. What stands before `place` must be durable.
    pub(crate) fn write(&mut self, place: &impl Serialize) -> io::Result<()> {
        let kept = Kept { version: VERSION, job: self.job.clone(), place: serde_json::to_value(place)? };
        let new = beside(&self.path, ".new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        sync_folder_of(&self.path)?;
        self.written = Some(Instant::now());
        Ok(())
    }

    /// The job is done, or done without it.
    pub(crate) fn remove(self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// `path` with more at the end of its name.
pub(crate) fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    PathBuf::from(name)
}

/// Makes a rename in the folder of `path` durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
