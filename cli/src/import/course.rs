//! How far an import came, and where it goes on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use clap::ValueEnum as _;
use kymo_ingest::import::Place;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ImportArgs;
use crate::checkpoint::{Checkpoint, Found, beside};
use crate::failure::{Failure, chain};

/// Name of the checkpoint in a data directory.
const NAME: &str = "IMPORTING";

/// Files before this one are done, and of it what stands before the place.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Reached {
    pub(super) file: usize,
    pub(super) place: Place,
}

/// Where the samples go.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// A data directory that is ours: it is synced before each checkpoint.
    Directory(&'a Path),
    /// A server, which syncs by itself.
    Server(&'a str),
}

pub(super) struct Course {
    /// None where nothing can be gone on with.
    checkpoint: Option<Checkpoint>,
    pub(super) begin: Reached,
    /// Everything before was acknowledged.
    latest: Reached,
    /// What a server acknowledged a while ago.
    settling: Option<(Instant, Reached)>,
    /// By when a server has synced what it acknowledged; none of a directory.
    synced_after: Option<Duration>,
}

impl Course {
    /// Looks for a checkpoint of this very import, says what it finds, and makes sure that one can be written.
    pub(super) fn begin(args: &ImportArgs, into: Target<'_>) -> Result<Course, Failure> {
        let synced_after = matches!(into, Target::Server(_)).then_some(args.synced_after);
        let mut course = Course {
            checkpoint: None,
            begin: Reached::default(),
            latest: Reached::default(),
            settling: None,
            synced_after,
        };
        // What was read from standard input is gone.
        if args.from.iter().any(|from| from == Path::new("-")) {
            return Ok(course);
        }
        let sources = args.from.iter().map(|from| Source::of(from)).collect::<Result<Vec<Source>, Failure>>()?;
        let retention_ms = args.retention.map(|retention| u64::try_from(retention.as_millis()).unwrap_or(u64::MAX));
        let (path, into) = match (&args.checkpoint, into) {
            (Some(path), Target::Directory(dir)) => (path.clone(), dir.display().to_string()),
            (Some(path), Target::Server(server)) => (path.clone(), server.to_owned()),
            // It moves with the directory, and goes with it.
            (None, Target::Directory(dir)) => (dir.join(NAME), String::new()),
            (None, Target::Server(server)) => (beside(&sources[0].path, ".importing"), server.to_owned()),
        };
        let kind = args.kind.to_possible_value().map(|kind| kind.get_name().to_owned());
        let job = json!({"kind": kind, "into": into, "retention_ms": retention_ms, "sources": &sources});
        let (mut checkpoint, found) = Checkpoint::find::<Reached>(path, job);
        match found {
            Found::Place(_) if args.restart => {}
            Found::Place(reached) if sources.len() > reached.file => {
                if reached.file > 0 || !reached.place.is_beginning() {
                    let path = sources[reached.file].path.display();
                    anstream::eprintln!("going on with {path} at {}, where its import broke off", reached.place);
                }
                course.latest = reached.clone();
                course.begin = reached;
            }
            Found::Other { job, .. } => say_what_changed(&job["sources"], &sources),
            Found::Nothing | Found::Place(_) => {}
        }
        match checkpoint.write(&course.begin) {
            Ok(()) => course.checkpoint = Some(checkpoint),
            Err(error) => anstream::eprintln!(
                "cannot write {}: {}; if this import breaks off it will begin anew, unless --checkpoint names a place for it",
                checkpoint.path().display(),
                chain(&error),
            ),
        }
        Ok(course)
    }

    /// Everything before `reached` was acknowledged; `sync` makes it durable.
    pub(super) fn reached<E: From<io::Error>>(
        &mut self,
        reached: Reached,
        sync: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        self.latest = reached;
        let Some(checkpoint) = &mut self.checkpoint else { return Ok(()) };
        let Some(synced_after) = self.synced_after else {
            if checkpoint.is_due() {
                sync()?;
                checkpoint.write(&self.latest)?;
            }
            return Ok(());
        };
        match &self.settling {
            Some((since, _)) if since.elapsed() < synced_after => return Ok(()),
            Some((_, settled)) => checkpoint.write(settled)?,
            None => {}
        }
        self.settling = Some((Instant::now(), self.latest.clone()));
        Ok(())
    }

    /// A file was read to its end.
    pub(super) fn ended(&mut self, file: usize) {
        self.latest = Reached { file: file + 1, place: Place::default() };
    }

    /// The import is over; `is_durable` if everything that was acknowledged is.
    pub(super) fn end(self, is_done: bool, is_durable: bool) -> io::Result<()> {
        match self.checkpoint {
            Some(checkpoint) if is_done => checkpoint.remove(),
            Some(mut checkpoint) if is_durable => checkpoint.write(&self.latest),
            _ => Ok(()),
        }
    }
}

/// What a file or directory was like: a text that was written to since is another one.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    path: PathBuf,
    files: u64,
    bytes: u64,
    /// When any of it was changed last, in nanoseconds since the Unix epoch.
    changed_ns: u64,
}

impl Source {
    fn of(path: &Path) -> Result<Source, Failure> {
        let cannot = |error: io::Error| Failure::because(format_args!("cannot read {}", path.display()), &error);
        let path = fs::canonicalize(path).map_err(cannot)?;
        let mut source = Source { path: path.clone(), files: 0, bytes: 0, changed_ns: 0 };
        source.add(&path).map_err(cannot)?;
        Ok(source)
    }

    fn add(&mut self, path: &Path) -> io::Result<()> {
        let meta = fs::metadata(path)?;
        if meta.is_dir() {
            for entry in fs::read_dir(path)? {
                self.add(&entry?.path())?;
            }
            return Ok(());
        }
        let changed = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.files += 1;
        self.bytes += meta.len();
        self.changed_ns = self.changed_ns.max(u64::try_from(changed.as_nanos()).unwrap_or(u64::MAX));
        Ok(())
    }
}

fn say_what_changed(before: &serde_json::Value, sources: &[Source]) {
    let before: Vec<Source> = serde_json::from_value(before.clone()).unwrap_or_default();
    let changed = sources.iter().find(|source| before.iter().any(|old| old.path == source.path && old != *source));
    match changed {
        Some(source) => {
            let path = source.path.display();
            anstream::eprintln!("{path} has changed since its import broke off: it is read from its beginning");
        }
        None => anstream::eprintln!("another import broke off here; this one begins at its beginning"),
    }
}
