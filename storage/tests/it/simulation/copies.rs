//! Copies in a world: snapshots that are taken while it goes on, and data directories restored from them, old ones to look
//! at, new ones to live in. Either may be cut short by a crash.

use std::path::{Path, PathBuf};

use kymo_core::Random as _;
use kymo_storage::fs::Fs as _;
use kymo_storage::{Depth, SnapshotExtent, restore, snapshot, verify};

use super::{Seen, World};

/// A snapshot that has its name.
#[derive(Debug, Clone)]
pub(super) struct Copied {
    dir: PathBuf,
    /// What the model had when it was taken,
    seen: Seen,
    /// and what of that was missing for its size.
    retired: Vec<(i64, i64)>,
}

impl World {
    /// Takes a snapshot, by the engine or as another process would; whether there is one now.
    pub(super) fn copy(&mut self) -> bool {
        let from_outside = self.random.below(2) == 0;
        self.note(if from_outside { "snapshot from outside" } else { "snapshot" });
        // The same name again after a crash, so that what that one left is in the way.
        let dir = PathBuf::from(format!("/copy-{}", self.copies.len()));
        let copied = Copied { dir: dir.clone(), seen: self.wanted(), retired: self.retired.clone() };
        let taken = if from_outside {
            snapshot(&self.disk, &self.dir, &dir, SnapshotExtent::Everything)
        } else {
            self.engine().snapshot_into(&dir, SnapshotExtent::Everything)
        };
        if self.disk.has_crashed() {
            self.cut_short += 1;
            self.crash(None);
            match (self.is_whole(&dir), taken) {
                (true, _) => {}
                (false, Ok(())) => self.fail("a snapshot is gone"),
                (false, Err(_)) => return false,
            }
        } else if let Err(error) = taken {
            self.fail(format!("snapshot: {error}"));
        }
        match verify(&self.disk, &dir, Depth::Samples, &mut |_, _| {}) {
            Ok(report) if report.is_sound() => {}
            other => self.fail(format!("the snapshot is not sound: {other:?}")),
        }
        self.copies.push(copied);
        true
    }

    /// Restores one of the snapshots and compares it with what there was then.
    pub(super) fn look_back(&mut self) {
        if let Some(last) = self.copies.len().checked_sub(1) {
            let copied = self.copies[self.random.below(last as u64 + 1) as usize].clone();
            self.restore(&copied, false);
        }
    }

    /// Takes a snapshot, gives up what it is of, and goes on in what is restored from it.
    pub(super) fn move_out(&mut self) {
        if self.copy()
            && let Some(copied) = self.copies.last().cloned()
        {
            self.restore(&copied, true);
        }
    }

    fn restore(&mut self, copied: &Copied, is_home: bool) {
        self.note(format!("restore {}", copied.dir.display()));
        self.restored += 1;
        let home = PathBuf::from(format!("/home-{}", self.restored));
        let restored = restore(&self.disk, &copied.dir, &home, &mut |_, _| {});
        if self.disk.has_crashed() {
            self.cut_short += 1;
            self.crash(None);
            if !self.is_whole(&home) {
                if restored.is_ok() {
                    self.fail("what was restored is gone");
                }
                // Asked for again, as an operator would.
                if let Err(error) = restore(&self.disk, &copied.dir, &home, &mut |_, _| {}) {
                    self.fail(format!("restoring again: {error}"));
                }
            }
        } else if let Err(error) = restored {
            self.fail(format!("restore: {error}"));
        }
        let engine = match self.open_in(&home) {
            Ok(engine) => engine,
            Err(_) if self.disk.has_crashed() => return self.crash(None),
            Err(error) => self.fail(format!("cannot open what was restored: {error}")),
        };
        let looked = self.seen(&engine).and_then(|found| Ok((found, self.untrue_rollup(&engine)?)));
        let found = match looked {
            Ok((found, None)) => found,
            Ok((_, Some(untrue))) => self.fail(format!("restored: {untrue}")),
            Err(error) => self.fail(format!("cannot read what was restored: {error}")),
        };
        let wanted = self.less_old(copied.seen.clone());
        let retired = std::mem::replace(&mut self.retired, copied.retired.clone());
        self.same(&found, &wanted, "restored");
        self.retired = retired;
        if is_home {
            (self.engine, self.dir) = (Some(engine), home);
            self.refs.fill(None);
            self.check("in the new home");
        }
    }

    /// Whether a directory has its manifest.
    fn is_whole(&self, dir: &Path) -> bool {
        let entries = self.disk.list(dir).unwrap_or_default();
        entries.iter().any(|entry| entry.name == "MANIFEST")
    }

    /// What is still to be seen of what was to be seen some time ago.
    fn less_old(&self, mut seen: Seen) -> Seen {
        for (labels, samples) in &mut seen.samples {
            let oldest_ms = self.oldest_of_ms(labels);
            samples.retain(|(time, ..)| *time >= oldest_ms);
        }
        seen.samples.retain(|_, samples| !samples.is_empty());
        let oldest_ms = self.oldest_ms();
        for (_, exemplars) in &mut seen.exemplars {
            exemplars.retain(|exemplar| exemplar.time_ms > oldest_ms);
        }
        seen.exemplars.retain(|(_, exemplars)| !exemplars.is_empty());
        seen
    }
}
