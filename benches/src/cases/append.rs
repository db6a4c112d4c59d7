//! Rows of known series into an engine on a real disk, and into the least that could keep them.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use kymo_core::{MetricStorage, SampleBatch, SeriesRef};
use kymo_ingest::remote_write::{Receiver, ReceiverParts, RemoteWriteConfig, Version};
use kymo_storage::fs::RealFs;
use kymo_storage::{Engine, OpenReport, Options};

use crate::load::{Load, Request};

/// Rows of one batch, as many as a usual request brings.
const ROWS_PER_BATCH: usize = 2_000;

/// An engine that knows the series of a load, and the place in it.
pub struct Appending {
    engine: Engine,
    dir: PathBuf,
    refs: Vec<Option<SeriesRef>>,
    next_scrape: usize,
}

/// A batch, and which series its rows belong to.
#[derive(Default)]
pub struct Prepared {
    batch: SampleBatch,
    series: Vec<usize>,
}

impl Prepared {
    /// How many rows it has.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.series.len()
    }

    /// Appends rows of known series; gives how many.
    ///
    /// # Errors
    /// The engine's, and any row that was not stored.
    pub fn append_to(&self, engine: &Engine) -> Result<u64> {
        let stored = engine.append(&self.batch)?.stored.samples();
        ensure!(stored == self.rows() as u64, "{stored} of {} rows were stored", self.rows());
        Ok(stored)
    }
}

impl Appending {
    /// Opens an engine below `dir` and appends the first scrape, by labels.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(load: &Load, dir: &Path) -> Result<Appending> {
        let (engine, _) = open(dir)?;
        let mut appending =
            Appending { engine, dir: dir.to_owned(), refs: vec![None; load.shape().series], next_scrape: 0 };
        let batches = appending.prepare(load);
        appending.append(&batches)?;
        Ok(appending)
    }

    /// The next scrape of `load` as batches.
    #[must_use]
    pub fn prepare(&mut self, load: &Load) -> Vec<Prepared> {
        let scrape = self.next_scrape;
        self.next_scrape += 1;
        let mut batches = Vec::new();
        let mut next = Prepared::default();
        for (index, time_ms, value) in load.scrape(scrape) {
            match self.refs[index] {
                Some(series) => next.batch.push_float(series, time_ms, value),
                None => next.batch.push_float(load.labels(index), time_ms, value),
            }
            next.series.push(index);
            if next.series.len() == ROWS_PER_BATCH {
                batches.push(std::mem::take(&mut next));
            }
        }
        batches.push(next);
        batches
    }

    /// Appends what [`prepare`](Self::prepare) made; gives the rows stored.
    ///
    /// # Errors
    /// The engine's, and any row that was not stored.
    pub fn append(&mut self, batches: &[Prepared]) -> Result<u64> {
        let mut stored = 0;
        for Prepared { batch, series } in batches {
            let report = self.engine.append(batch)?;
            let refused = report.rejected.len() + report.unknown_refs.len();
            ensure!(refused == 0, "{refused} of {} rows were not stored", batch.len());
            stored += report.stored.samples();
            for (row, series_ref) in report.new_refs {
                self.refs[series[row]] = Some(series_ref);
            }
        }
        Ok(stored)
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Appends scrapes up to `scrapes` in all; gives the rows stored.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_up_to(&mut self, load: &Load, scrapes: usize) -> Result<u64> {
        let mut stored = 0;
        while self.next_scrape < scrapes {
            let batches = self.prepare(load);
            stored += self.append(&batches)?;
        }
        Ok(stored)
    }

    /// Scrapes appended so far.
    #[must_use]
    pub fn appended(&self) -> usize {
        self.next_scrape
    }

    /// Bytes of the log's files.
    ///
    /// # Errors
    /// The disk's.
    pub fn log_bytes(&self) -> Result<u64> {
        bytes_below(&self.dir.join("wal"))
    }

    /// Leaves the engine as a kill would: nothing is flushed.
    pub fn abandon(self) {
        drop(self.engine);
    }
}

/// A receiver in front of an engine, as it is behind `/api/v1/write`.
///
/// # Errors
/// The engine's.
pub fn receiver(dir: &Path) -> Result<Receiver> {
    let (engine, _) = open(dir)?;
    Ok(Receiver::new(RemoteWriteConfig::default(), ReceiverParts::around(Arc::new(engine)))?)
}

/// Writes requests and gives the samples that were stored.
///
/// # Errors
/// A request was not accepted as a whole.
pub fn receive(receiver: &Receiver, requests: &[Request]) -> Result<u64> {
    let write = |request: &Request| -> Result<u64> { Ok(receiver.write(Version::V1, &request.body)?.written.samples) };
    requests.iter().map(write).sum()
}

/// Opens an engine as `kymo serve` does by default.
///
/// # Errors
/// The engine's.
pub fn open(dir: &Path) -> Result<(Engine, OpenReport)> {
    Engine::open(Arc::new(RealFs), dir, Options::default()).context("cannot open the engine")
}

/// Bytes of all files in a folder and below it.
///
/// # Errors
/// The disk's.
pub fn bytes_below(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// Floor: rows as they are to a file, one write a batch, and to a vector per series; no checksum, no index.
pub struct Bare {
    log: File,
    frame: Vec<u8>,
    series: Vec<Vec<(i64, f64)>>,
}

impl Bare {
    /// An empty one, with its file in `dir`.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(load: &Load, dir: &Path) -> Result<Bare> {
        let log = File::create(dir.join("bare.log"))?;
        Ok(Bare { log, frame: Vec::new(), series: vec![Vec::new(); load.shape().series] })
    }

    /// Takes rows named by the number of their series; gives how many.
    ///
    /// # Errors
    /// The disk's.
    pub fn append(&mut self, rows: &[(usize, i64, f64)]) -> Result<u64> {
        for batch in rows.chunks(ROWS_PER_BATCH) {
            self.frame.clear();
            for (index, time_ms, value) in batch {
                self.frame.extend_from_slice(&(*index as u32).to_le_bytes());
                self.frame.extend_from_slice(&time_ms.to_le_bytes());
                self.frame.extend_from_slice(&value.to_le_bytes());
            }
            self.log.write_all(&self.frame)?;
            for (index, time_ms, value) in batch {
                self.series[*index].push((*time_ms, *value));
            }
        }
        Ok(rows.len() as u64)
    }
}
