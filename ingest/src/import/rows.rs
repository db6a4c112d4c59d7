//! Rows on their way into batches.

use kymo_core::batch::{BatchSeries, Exemplar, Metadata};
use kymo_core::{Labels, LabelsRef, NativeHistogram, SampleBatch};

use super::ImportError;
use super::place::{Of, Place};

/// Rows of a batch: enough that a log frame is cheap, few enough that memory does not show it.
const BATCH_ROWS: usize = 20_000;
/// Bytes of histograms of a batch.
const BATCH_HISTOGRAM_BYTES: usize = 4 << 20;
/// Series of a batch.
const BATCH_SERIES: usize = 5_000;

/// Takes a batch, and where an import that has it may go on; an error ends the import.
pub type BatchSink<'a> = dyn FnMut(&SampleBatch, &Place) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + 'a;

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Imported {
    /// Samples, staleness markers and histograms among them.
    pub samples: u64,
    /// Exemplars.
    pub exemplars: u64,
}

/// Collects rows and gives full batches away.
pub(super) struct Rows<'a, 'b> {
    batch: SampleBatch,
    sink: &'a mut BatchSink<'b>,
    histogram_bytes: usize,
    series: usize,
    /// The series of the rows that come, and where the batch has it.
    current: Labels,
    kept: Option<BatchSeries>,
    /// Where what the rows that come are of begins.
    place: Place,
    pub(super) imported: Imported,
}

impl<'a, 'b> Rows<'a, 'b> {
    pub(super) fn new(sink: &'a mut BatchSink<'b>) -> Rows<'a, 'b> {
        Rows {
            batch: SampleBatch::new(),
            sink,
            histogram_bytes: 0,
            series: 0,
            current: Labels::empty(),
            kept: None,
            place: Place::default(),
            imported: Imported::default(),
        }
    }

    /// Lines, series or records from now on are of this.
    pub(super) fn of(&mut self, of: Of) {
        self.place = Place { bytes: 0, items: 0, of };
    }

    /// Rows from now on are of what begins here, with so many lines or records before it.
    pub(super) fn at(&mut self, bytes: u64, items: u64) {
        (self.place.bytes, self.place.items) = (bytes, items);
    }

    /// Rows from now on are of this series.
    pub(super) fn series(&mut self, labels: LabelsRef<'_>) {
        if self.current.as_ref() != labels {
            self.current = labels.to_labels();
            self.kept = None;
        }
    }

    fn kept(&mut self) -> Result<BatchSeries, ImportError> {
        let is_full = self.batch.len() >= BATCH_ROWS
            || self.histogram_bytes >= BATCH_HISTOGRAM_BYTES
            || (self.kept.is_none() && self.series >= BATCH_SERIES);
        if is_full {
            self.flush()?;
        }
        Ok(match self.kept {
            Some(kept) => kept,
            None => {
                self.series += 1;
                *self.kept.insert(self.batch.keep(self.current.as_ref()))
            }
        })
    }

    pub(super) fn float(&mut self, time_ms: i64, start_ms: i64, value: f64) -> Result<(), ImportError> {
        let kept = self.kept()?;
        self.batch.push_float(kept, time_ms, value);
        self.batch.set_start(start_ms);
        self.imported.samples += 1;
        Ok(())
    }

    pub(super) fn histogram(&mut self, time_ms: i64, start_ms: i64, value: NativeHistogram) -> Result<(), ImportError> {
        let kept = self.kept()?;
        self.histogram_bytes += value.bytes();
        self.batch.push_histogram(kept, time_ms, value);
        self.batch.set_start(start_ms);
        self.imported.samples += 1;
        Ok(())
    }

    pub(super) fn exemplar(&mut self, exemplar: Exemplar) -> Result<(), ImportError> {
        let kept = self.kept()?;
        // About as much as a histogram of a few buckets.
        self.histogram_bytes += 64 + exemplar.labels.as_ref().packed().len();
        self.batch.push_exemplar(kept, exemplar);
        self.imported.exemplars += 1;
        Ok(())
    }

    pub(super) fn metadata(&mut self, family: &str, metadata: Metadata) {
        self.batch.push_metadata(family, metadata);
    }

    /// Gives away what is there.
    pub(super) fn flush(&mut self) -> Result<(), ImportError> {
        if !self.batch.is_empty() {
            (self.sink)(&self.batch, &self.place).map_err(|source| ImportError::Store { source })?;
        }
        self.batch.clear();
        self.histogram_bytes = 0;
        self.series = 0;
        self.kept = None;
        Ok(())
    }

    pub(super) fn end(mut self) -> Result<Imported, ImportError> {
        self.flush()?;
        Ok(self.imported)
    }
}
