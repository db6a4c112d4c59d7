//! A Prometheus' data directory: its blocks, and what its head has that is in no block yet, out of its logs.
//!
//! Read as the documented formats say (`tsdb/docs/format` of Prometheus): index 2, chunks of floats, native histograms and
//! their float kin, tombstones, write-ahead log and log of late samples, with their checkpoints. A block that is damaged is
//! an error with its place; what can be skipped without losing samples is.
//!
//! The server must be stopped, or the directory be one of its snapshots: a running one removes files as it goes.

mod bits;
mod block;
mod buf;
mod chunk;
mod log;
mod tombstones;

use std::fs;
use std::path::{Path, PathBuf};

use super::ImportError;
use super::place::{Of, Place};
use super::rows::{BatchSink, Imported, Rows};

#[cfg(feature = "fuzz")]
pub use self::chunk::fuzz as fuzz_chunk;
#[cfg(feature = "fuzz")]
pub use self::log::fuzz as fuzz_log;

/// Imports a data directory from `begin` on: every block, then the logs. `progress` is told how many bytes were gone through of
/// how many, those before included.
///
/// Samples that stand in several places are given once for each: whoever stores them tells them apart.
///
/// # Errors
/// [`ImportError`], with file and byte.
pub fn data_directory(
    dir: &Path,
    begin: &Place,
    sink: &mut BatchSink<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Imported, ImportError> {
    let blocks = block_dirs(dir)?;
    let logs: Vec<PathBuf> = ["wal", "wbl"].iter().map(|name| dir.join(name)).filter(|path| path.is_dir()).collect();
    if blocks.is_empty() && logs.is_empty() {
        let what = "neither a block nor a log is here: this is no Prometheus data directory".to_owned();
        return Err(ImportError::Malformed { place: dir.display().to_string(), what });
    }
    let total: u64 = blocks.iter().chain(&logs).map(|path| bytes_below(path)).sum();
    let mut rows = Rows::new(sink);
    let mut done = 0;
    for block in &blocks {
        let name = block.file_name().unwrap_or_default().to_string_lossy();
        let begin_at = match &begin.of {
            Of::Block(at) if at.as_str() > &*name => None,
            Of::Block(at) if at.as_str() == &*name => Some(begin.bytes),
            Of::Logs => None,
            Of::Block(_) | Of::Text(_) | Of::Nothing => Some(0),
        };
        if let Some(begin_at) = begin_at {
            rows.of(Of::Block(name.into_owned()));
            block::import(block, begin_at, &mut rows, &mut |read| progress(done + read, total))?;
        }
        done += bytes_below(block);
        progress(done, total);
    }
    if !logs.is_empty() {
        rows.of(Of::Logs);
        let known = if begin.of == Of::Logs { begin.items } else { 0 };
        log::import(&logs, known, &mut rows, &mut |read| progress(done + read, total))?;
    }
    progress(total, total);
    rows.end()
}

/// The directories of blocks, oldest name first: names are times.
fn block_dirs(dir: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let mut blocks: Vec<PathBuf> = list(dir)?
        .into_iter()
        .filter(|path| path.join("meta.json").is_file() && path.join("index").is_file())
        .collect();
    blocks.sort_unstable();
    Ok(blocks)
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let read = |source| ImportError::Read { place: dir.display().to_string(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(read)? {
        paths.push(entry.map_err(read)?.path());
    }
    paths.sort_unstable();
    Ok(paths)
}

fn bytes_below(path: &Path) -> u64 {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => list(path).unwrap_or_default().iter().map(|path| bytes_below(path)).sum(),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    }
}

/// A place in a file.
fn malformed(path: &Path, offset: u64, what: impl Into<String>) -> ImportError {
    ImportError::Malformed { place: format!("{}: byte {offset}", path.display()), what: what.into() }
}

#[cfg(test)]
mod tests;
