//! Checking a data directory: every checksum, every reference from one place to another, every order.
//!
//! ```text
//! MANIFEST ─▶ blocks/: sections, pages, chunks, who refers to what ─▶ totals/ ─▶ wal/: frames, definitions
//! ```
//!
//! Nothing is written, locked or opened for writing, so a server may have the directory open meanwhile. What it merges or
//! flushes away while it is looked at is no fault: the manifest is read again and what took its place is checked. An
//! unfinished frame at the very end of the log is none either, as that is what a kill, or a writer at work, leaves.

mod log;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kymo_core::{Budget, Labels};

use crate::block::{self, Block, BlockCache, Footer};
use crate::codec::Malformed;
use crate::error::{StorageError, io_error};
use crate::fs::Fs;
use crate::increments;
use crate::manifest::{BlockEntry, Manifest};

/// Faults that are told one by one; more are counted. A file that is all wrong would else tell of nothing but itself.
const FAULTS_MAX: usize = 1_000;
/// Pages read a moment ago, for what is looked up from several sides.
const CACHE_BYTES: u64 = 16 << 20;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// Every byte against its checksum, every index against what it points to, and every order. Reads each file once.
    #[default]
    Structure,
    /// The same, and every sample decoded.
    Samples,
}

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// The byte at which what is wrong begins; `None` where it is the file itself.
    pub offset: Option<u64>,
    /// Whose samples are concerned, where it is one series.
    pub series: Option<Labels>,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(offset) = self.offset {
            write!(f, ": byte {offset}")?;
        }
        if let Some(series) = &self.series {
            write!(f, ": {series}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What was looked at, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Blocks.
    pub blocks: u64,
    /// Series, one in several blocks counted in each.
    pub series: u64,
    /// Samples of blocks; one that a later write replaced is counted.
    pub samples: u64,
    /// Files of the log.
    pub segments: u64,
    /// Whole frames in them.
    pub frames: u64,
    /// Samples in these.
    pub log_samples: u64,
    /// Bytes read.
    pub bytes: u64,
    /// The first thousand faults, file by file.
    pub faults: Vec<Fault>,
    /// How many there are.
    pub fault_count: u64,
    /// What is worth knowing and no fault: an unfinished frame at the end of the log, files that nothing refers to.
    pub notes: Vec<String>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.fault_count == 0
    }

    pub(crate) fn fault(&mut self, path: &Path, offset: Option<u64>, series: Option<&Labels>, what: impl Into<String>) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault { path: path.to_owned(), offset, series: series.cloned(), what: what.into() });
        }
    }

    /// Notes an error about `path`, with its place where it has one.
    pub(crate) fn error(&mut self, path: &Path, error: &StorageError) {
        match error {
            StorageError::Damaged { path, fault: Malformed { what, offset } } => {
                self.fault(path, Some(*offset as u64), None, *what);
            }
            StorageError::Io { path, doing, source } => {
                self.fault(path, None, None, format!("{doing} failed: {source}"))
            }
            other => self.fault(path, None, None, other.to_string()),
        }
    }
}

/// Checks the data directory `dir`, which a server may have open; nothing in it is changed.
///
/// `progress` is told now and then how many bytes were read of how many there are; the second number may grow a little
/// where a server is at work. Memory: the directory of one block, a page or a chunk at a time, and eight bytes per
/// series of the log.
///
/// # Errors
/// [`StorageError`] when there is nothing that could be checked: no manifest, one of another version, or a directory that
/// cannot be listed. Whatever is wrong inside is in the report.
pub fn verify(
    fs: &dyn Fs,
    dir: &Path,
    depth: Depth,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<VerifyReport, StorageError> {
    let mut damage = None;
    let manifest = match Manifest::read(fs, dir) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            let path = dir.join("MANIFEST");
            let source = std::io::ErrorKind::NotFound.into();
            return Err(StorageError::Io { path, doing: "looking for a data directory", source });
        }
        Err(error @ StorageError::Damaged { .. }) => {
            // Which blocks are live is not known, so all are looked at.
            damage = Some(error);
            let found = names(fs, &dir.join("blocks"))?.into_iter();
            Manifest { blocks: found.map(|name| BlockEntry { name, deletes: 0 }).collect(), ..Manifest::new() }
        }
        Err(error) => return Err(error),
    };
    let mut report = verify_with(fs, dir, manifest, depth, progress)?;
    if let Some(error) = damage {
        report.error(dir, &error);
    }
    Ok(report)
}

/// The same for a directory whose manifest is `manifest`, also where there is none yet.
pub(crate) fn verify_with(
    fs: &dyn Fs,
    dir: &Path,
    manifest: Manifest,
    depth: Depth,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<VerifyReport, StorageError> {
    let (report, total) = (VerifyReport::default(), total_bytes(fs, dir));
    let mut checked = Checked { fs, dir, depth, report, total, progress };
    let manifest = checked.blocks(manifest)?;
    checked.totals(&manifest);
    checked.log(&manifest)?;
    checked.leftovers(&manifest)?;
    let Checked { report, .. } = checked;
    Ok(report)
}

/// A check under way.
struct Checked<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    depth: Depth,
    report: VerifyReport,
    /// Bytes to read, as far as is known.
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Checked<'_> {
    fn advance(&mut self) {
        self.total = self.total.max(self.report.bytes);
        (self.progress)(self.report.bytes, self.total);
    }

    /// Checks the live blocks; gives the manifest that was in force at the end.
    fn blocks(&mut self, mut manifest: Manifest) -> Result<Manifest, StorageError> {
        let dir = self.dir.join("blocks");
        let mut done = BTreeSet::new();
        let mut footers: BTreeMap<String, Footer> = BTreeMap::new();
        let mut waiting: Vec<String> = manifest.names().cloned().collect();
        waiting.reverse();
        while let Some(name) = waiting.pop() {
            if !done.insert(name.clone()) {
                self.report.fault(&self.dir.join("MANIFEST"), None, None, format!("lists {name} twice"));
                continue;
            }
            let path = dir.join(&name);
            match self.block(&path) {
                Some(footer) => {
                    footers.insert(name, footer);
                }
                None => {
                    // Merged or retired meanwhile, or lost: the manifest knows.
                    let now = Manifest::read(self.fs, self.dir).ok().flatten().unwrap_or_else(|| manifest.clone());
                    if now.lists(&name) {
                        self.report.fault(&path, None, None, "the manifest lists this block, and it is not there");
                    }
                    waiting.extend(now.names().filter(|name| !done.contains(*name)).cloned());
                    waiting.sort_unstable_by(|a, b| b.cmp(a));
                    waiting.dedup();
                    manifest = now;
                }
            }
        }
        footers.retain(|name, _| manifest.lists(name));
        self.between_blocks(&dir, &manifest, &footers);
        Ok(manifest)
    }

    /// Checks a block; `None` if its file is not there.
    fn block(&mut self, path: &Path) -> Option<Footer> {
        let budget = Budget::unlimited();
        let cache = Arc::new(BlockCache::new(&budget, CACHE_BYTES));
        let block = match Block::open(self.fs, path, &budget, &cache) {
            Ok(block) => block,
            Err(StorageError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.report.error(path, &error);
                return Some(Footer::default());
            }
        };
        let before = self.report.bytes;
        let (total, progress) = (&mut self.total, &mut self.progress);
        block::check(&block, self.depth, &mut self.report, &mut |report| {
            *total = (*total).max(report.bytes);
            progress(report.bytes, *total);
        });
        self.report.bytes = before + block.bytes();
        self.report.blocks += 1;
        self.advance();
        Some(*block.footer())
    }

    /// What must hold between blocks: at one time only one can be the later.
    fn between_blocks(&mut self, dir: &Path, manifest: &Manifest, footers: &BTreeMap<String, Footer>) {
        let mut by_sequence: Vec<(&String, &Footer)> = footers.iter().filter(|(_, f)| f.sequence > 0).collect();
        by_sequence.sort_by_key(|(_, footer)| (footer.sequence, footer.min_time_ms));
        for (name, footer) in &by_sequence {
            if footer.sequence >= manifest.next_sequence {
                let what =
                    format!("sequence {} is not below the manifest's {}", footer.sequence, manifest.next_sequence);
                self.report.fault(&dir.join(name), None, None, what);
            }
        }
        for pair in by_sequence.windows(2) {
            let [(one, a), (other, b)] = [pair[0], pair[1]];
            if a.sequence == b.sequence && b.min_time_ms <= a.max_time_ms {
                let what = format!("shares sequence {} and time with {one}: neither is the later", b.sequence);
                self.report.fault(&dir.join(other), None, None, what);
            }
        }
    }

    fn totals(&mut self, manifest: &Manifest) {
        if manifest.totals == 0 {
            return;
        }
        let path = increments::path_of(&self.dir.join("totals"), manifest.totals);
        let read = increments::read(self.fs, &path).and_then(|bytes| {
            self.report.bytes += bytes.len() as u64;
            increments::decode(&bytes, |_, _| {}).map_err(|fault| StorageError::Damaged { path: path.clone(), fault })
        });
        if let Err(error) = read {
            // A flush may have replaced it meanwhile.
            let now = Manifest::read(self.fs, self.dir).ok().flatten();
            if now.is_none_or(|now| now.totals == manifest.totals) {
                self.report.error(&path, &error);
            }
        }
        self.advance();
    }

    /// Names what nothing refers to: the next opening removes it, or it is being written.
    fn leftovers(&mut self, manifest: &Manifest) -> Result<(), StorageError> {
        for name in names(self.fs, &self.dir.join("blocks"))? {
            if !manifest.lists(&name) {
                self.report
                    .notes
                    .push(format!("blocks/{name} is not in the manifest: unfinished, or no longer needed"));
            }
        }
        let quarantined = names(self.fs, &self.dir.join("quarantine")).unwrap_or_default();
        if !quarantined.is_empty() {
            let list = quarantined.join(", ");
            self.report.notes.push(format!("set aside in quarantine/ when the directory was opened: {list}"));
        }
        Ok(())
    }
}

/// The names in a directory.
fn names(fs: &dyn Fs, dir: &Path) -> Result<Vec<String>, StorageError> {
    let entries = fs.list(dir).map_err(io_error(dir, "listing the directory"))?;
    Ok(entries.into_iter().filter_map(|entry| entry.name.into_string().ok()).collect())
}

fn total_bytes(fs: &dyn Fs, dir: &Path) -> u64 {
    let folders = ["blocks", "totals", "wal"];
    let entries = folders.iter().filter_map(|folder| fs.list(&dir.join(folder)).ok()).flatten();
    entries.map(|entry| entry.len).sum()
}
