//! From compressed bytes to an engine, without HTTP.

use std::sync::{Arc, Mutex, PoisonError};

use kymo_core::batch::RowValue;
use kymo_core::registry::{RegisterError, Registry};
use kymo_core::storage::{AppendReport, RejectReason};
use kymo_core::{Budget, BudgetExceeded, Clock, LossLedger, MetricStorage, SampleBatch, SeriesRef, SystemClock};

use super::config::RemoteWriteConfig;
use super::error::{Reason, WriteError};
use super::outcome::{Outcome, Written};
use super::rows::{Rows, refuse};
use super::{SOURCE, Version, snappy, v1, v2};
use crate::metrics::RemoteWriteMetrics;
use crate::series_cache::{SESSION_SERIES, SeriesCache, Slot};

/// Takes remote-write bodies and hands their samples to an engine.
///
/// Shared by all requests; buffers are used again, so a request of known series allocates nothing per sample.
/// Blocking: it runs on the caller's thread, and appending may wait for the disk.
///
/// ```
/// use std::sync::Arc;
/// use kymo_core::MemoryStorage;
/// use kymo_ingest::remote_write::{Receiver, ReceiverParts, RemoteWriteConfig, Version};
///
/// let parts = ReceiverParts::around(Arc::new(MemoryStorage::default()));
/// let receiver = Receiver::new(RemoteWriteConfig::default(), parts)?;
/// let empty_block = [0u8];
/// let outcome = receiver.write(Version::V1, &empty_block)?;
/// assert!(outcome.is_complete());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Receiver {
    config: RemoteWriteConfig,
    storage: Arc<dyn MetricStorage>,
    ledger: Arc<LossLedger>,
    clock: Arc<dyn Clock>,
    budget: Budget,
    cache_v1: SeriesCache,
    cache_v2: SeriesCache,
    pub(super) metrics: RemoteWriteMetrics,
    /// Buffers between requests, newest last; never held while one is used.
    scratch: Mutex<Vec<Scratch>>,
}

/// The buffers of one request.
struct Scratch {
    body: Vec<u8>,
    rows: Rows,
}

/// What a receiver works with.
#[derive(Clone)]
pub struct ReceiverParts {
    /// Where samples go.
    pub storage: Arc<dyn MetricStorage>,
    /// Where everything that came, and everything refused, is booked.
    pub ledger: Arc<LossLedger>,
    /// Dates entries of the ledger, and times requests.
    pub clock: Arc<dyn Clock>,
    /// Under which bodies, buffers and caches are reserved.
    pub budget: Budget,
    /// Where the receiver's own metrics go.
    pub registry: Registry,
}

impl ReceiverParts {
    /// An engine with a ledger, registry and system clock of its own, and no memory limit: for tests, and for programs
    /// that share none of them.
    #[must_use]
    pub fn around(storage: Arc<dyn MetricStorage>) -> ReceiverParts {
        ReceiverParts {
            storage,
            ledger: Arc::default(),
            clock: Arc::new(SystemClock::new()),
            budget: Budget::unlimited(),
            registry: Registry::new(),
        }
    }
}

impl Receiver {
    /// A receiver with empty caches.
    ///
    /// # Errors
    /// [`RegisterError`] when the registry holds other metrics of the same names.
    pub fn new(config: RemoteWriteConfig, parts: ReceiverParts) -> Result<Receiver, RegisterError> {
        let ReceiverParts { storage, ledger, clock, budget, registry } = parts;
        let caches = budget.child("remote_write_series", config.cache_bytes_max);
        Ok(Receiver {
            cache_v1: SeriesCache::new(&caches),
            cache_v2: SeriesCache::new(&caches),
            budget: budget.child("remote_write", u64::MAX),
            scratch: Mutex::default(),
            metrics: RemoteWriteMetrics::register(&registry)?,
            config,
            storage,
            ledger,
            clock,
        })
    }

    /// The limits in force.
    #[must_use]
    pub fn config(&self) -> &RemoteWriteConfig {
        &self.config
    }

    /// Where the bytes of requests are reserved.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Series that the caches know, and the bytes they take.
    #[must_use]
    pub fn cached_series(&self) -> (usize, u64) {
        let (v1, v2) = (self.cache_v1.size(), self.cache_v2.size());
        (v1.0 + v2.0, v1.1 + v2.1)
    }

    /// Forgets series that no request has brought for five to ten minutes; they are learned again with the first that does.
    /// Whether there were any. To be called now and then, whether requests come or not: most calls do nothing.
    pub fn forget_idle(&self) -> bool {
        let now = self.clock.monotonic();
        let forgotten = self.cache_v1.forget_idle(now) + self.cache_v2.forget_idle(now);
        if forgotten > 0 {
            self.tell_cached();
        }
        forgotten > 0
    }

    fn tell_cached(&self) {
        let (series, bytes) = self.cached_series();
        self.metrics.cached_series.set(series as f64);
        self.metrics.cached_bytes.set(bytes as f64);
    }

    /// Decodes a body and appends what is valid in it; books everything in the loss ledger.
    ///
    /// `Ok` with refusals is a partial write: what is not refused is stored.
    ///
    /// # Errors
    /// [`WriteError`] when the request was not accepted as a whole.
    pub fn write(&self, version: Version, compressed: &[u8]) -> Result<Outcome, WriteError> {
        let started = self.clock.monotonic();
        self.metrics.compressed_bytes.add(compressed.len() as u64);
        let result = self.take_scratch().map_err(WriteError::from).and_then(|mut scratch| {
            let result = self.write_with(&mut scratch, version, compressed);
            self.keep_scratch(scratch);
            result
        });
        let metrics = self.metrics.of(version);
        match &result {
            Ok(outcome) => {
                let mut refused = Written::default();
                outcome.refusals.iter().for_each(|refusal| refused += refusal.refused);
                metrics.count(outcome.written, refused);
            }
            Err(error) => {
                metrics.count(error.written(), Written::default());
                self.book_failure(error);
            }
        }
        metrics.duration.record(self.clock.monotonic().saturating_sub(started).as_secs_f64());
        result
    }

    /// Books a request that failed as a whole, if its samples are lost.
    pub(super) fn book_failure(&self, error: &WriteError) {
        if let Some(reason) = error.loss_reason() {
            self.ledger.refuse(SOURCE, reason, 1, self.clock.now_ms(), || error.to_string());
        }
    }

    fn cache(&self, version: Version) -> &SeriesCache {
        match version {
            Version::V1 => &self.cache_v1,
            Version::V2 => &self.cache_v2,
        }
    }

    fn take_scratch(&self) -> Result<Scratch, BudgetExceeded> {
        let kept = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match kept {
            Some(scratch) => Ok(scratch),
            None => Ok(Scratch { body: Vec::new(), rows: Rows::new(&self.budget)? }),
        }
    }

    fn keep_scratch(&self, scratch: Scratch) {
        let mut kept = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < self.config.scratch_max && scratch.rows.meter.held() <= self.config.scratch_bytes_max {
            kept.push(scratch);
        }
    }

    fn write_with(&self, scratch: &mut Scratch, version: Version, compressed: &[u8]) -> Result<Outcome, WriteError> {
        let Scratch { body, rows } = scratch;
        rows.restart();
        let decompressed_max = self.config.decompressed_bytes_max;
        snappy::decompress(compressed, decompressed_max, body, &mut rows.meter)?;
        self.metrics.decompressed_bytes.add(body.len() as u64);
        rows.decode(version, body, self.cache(version), &self.config).map_err(|error| error.of(version.message()))?;
        let known = rows.entries.iter().filter(|entry| entry.series.is_some()).count();
        self.metrics.known_series.add(known as u64);
        self.metrics.new_series.add((rows.entries.len() - known) as u64);
        let mut outcome = Outcome::default();
        if !rows.batch.is_empty() {
            self.append(version, body, rows, &mut outcome.written)?;
        }
        let now_ms = self.clock.now_ms();
        for refusal in &rows.refusals {
            let samples = refusal.refused.samples + refusal.refused.histograms;
            self.ledger.refuse(SOURCE, refusal.reason.as_str(), samples, now_ms, || refusal.example.clone());
        }
        outcome.refusals.append(&mut rows.refusals);
        Ok(outcome)
    }

    fn append(&self, version: Version, body: &[u8], rows: &mut Rows, written: &mut Written) -> Result<(), WriteError> {
        let append = |batch: &SampleBatch, written| {
            self.storage.append(batch).map_err(|source| WriteError::Append { source, written })
        };
        let mut report = append(&rows.batch, Written::default())?;
        let stale = |row: usize| rows.stale_histograms.binary_search(&row).is_ok();
        let all_stale = rows.stale_histograms.len();
        *written = self.settle(&report, all_stale, stale);
        self.learn(version, body, rows, &report.new_refs);
        self.note_rejected(version, body, rows, &report, |row| row, |number| number);

        let unknown_rows = std::mem::take(&mut report.unknown_refs);
        let unknown_exemplars = std::mem::take(&mut report.unknown_exemplars);
        if unknown_rows.is_empty() && unknown_exemplars.is_empty() {
            return Ok(());
        }
        self.metrics.resent_rows.add((unknown_rows.len() + unknown_exemplars.len()) as u64);
        self.name_again(version, body, rows, &unknown_rows, &unknown_exemplars)
            .map_err(|rows| WriteError::Unresolved { rows, written: *written })?;
        let mut report = append(&rows.again, *written)?;
        let stale = |row: usize| rows.stale_histograms.binary_search(&unknown_rows[row]).is_ok();
        let all_stale = (0..unknown_rows.len()).filter(|&row| stale(row)).count();
        *written += self.settle(&report, all_stale, stale);
        self.note_rejected(version, body, rows, &report, |row| unknown_rows[row], |number| unknown_exemplars[number]);
        for (row, _) in &mut report.new_refs {
            *row = unknown_rows[*row];
        }
        self.learn(version, body, rows, &report.new_refs);
        match report.unknown_refs.len() + report.unknown_exemplars.len() {
            0 => Ok(()),
            rows => Err(WriteError::Unresolved { rows, written: *written }),
        }
    }

    /// Books what a report says was stored, and counts it as the sender does: staleness markers are samples or
    /// histograms, whichever they were sent as.
    fn settle(&self, report: &AppendReport, stale_histograms: usize, is_stale: impl Fn(usize) -> bool) -> Written {
        // Rejected rows are booked by reason when the request is done, with one example each.
        let accepted = AppendReport {
            stored: report.stored,
            identical: report.identical,
            replaced: report.replaced,
            ..AppendReport::default()
        };
        self.ledger.book(SOURCE, &accepted, self.clock.now_ms(), |_| String::new());
        let not_stored = report.rejected.iter().map(|(row, _)| row).chain(&report.unknown_refs);
        let stale_histograms = (stale_histograms - not_stored.filter(|row| is_stale(**row)).count()) as u64;
        let counts = report.written();
        Written {
            samples: counts.floats + counts.stale - stale_histograms,
            histograms: counts.histograms + stale_histograms,
            exemplars: counts.exemplars,
        }
    }

    /// Adds the rows that an engine rejected to the refusals; `row` and `exemplar` lead back to the first batch.
    fn note_rejected(
        &self,
        version: Version,
        body: &[u8],
        rows: &mut Rows,
        report: &AppendReport,
        row: impl Fn(usize) -> usize,
        exemplar: impl Fn(usize) -> usize,
    ) {
        for &(number, reason) in &report.rejected {
            let number = row(number);
            let histogram = matches!(rows.batch.row(number).value, RowValue::Histogram(_))
                || rows.stale_histograms.binary_search(&number).is_ok();
            let refused = if histogram {
                Written { histograms: 1, ..Written::default() }
            } else {
                Written { samples: 1, ..Written::default() }
            };
            self.note(version, body, rows, rows.entry_of_row(number), reason, refused);
        }
        for &(number, reason) in &report.rejected_exemplars {
            let entry = rows.entry_of_exemplar(exemplar(number));
            self.note(version, body, rows, entry, reason, Written { exemplars: 1, ..Written::default() });
        }
    }

    fn note(
        &self,
        version: Version,
        body: &[u8],
        rows: &mut Rows,
        entry: Option<usize>,
        reason: RejectReason,
        refused: Written,
    ) {
        let mut refusals = std::mem::take(&mut rows.refusals);
        let message = entry.and_then(|entry| rows.entries.get(entry)).map(|entry| entry.message);
        let example = || message.map(|m| rows.naming(version).example(body, m)).unwrap_or_default();
        refuse(&mut refusals, Reason::Row(reason), refused, example);
        rows.refusals = refusals;
    }

    /// Puts rows and exemplars whose refs are unknown into `rows.again`, with the labels of their series.
    ///
    /// `Err` says how many could not be named, which the cache makes impossible: its keys come from valid labels.
    fn name_again(
        &self,
        version: Version,
        body: &[u8],
        rows: &mut Rows,
        unknown_rows: &[usize],
        unknown_exemplars: &[usize],
    ) -> Result<(), usize> {
        let missing = || unknown_rows.len() + unknown_exemplars.len();
        let mut again = std::mem::take(&mut rows.again);
        let mut builder = std::mem::take(&mut rows.labels);
        let mut kept = None;
        let mut keep = |again: &mut SampleBatch, entry: Option<usize>| {
            let entry = entry?;
            match kept {
                Some((of, series)) if of == entry => Some(series),
                _ => {
                    let message = rows.entries.get(entry)?.message;
                    let labels = rows.naming(version).series(body, message, &mut builder).ok()?.ok()?;
                    let series = again.keep(labels);
                    kept = Some((entry, series));
                    Some(series)
                }
            }
        };
        for &number in unknown_rows {
            let series = keep(&mut again, rows.entry_of_row(number)).ok_or_else(missing)?;
            let row = rows.batch.row(number);
            match row.value {
                RowValue::Float(value) => again.push_float(series, row.time_ms, value),
                RowValue::Histogram(value) => again.push_histogram(series, row.time_ms, value.clone()),
                RowValue::Stale => again.push_stale(series, row.time_ms),
                RowValue::Increment(_) | RowValue::Total(_) => unreachable!("remote write has neither"),
            }
            again.set_start(row.start_ms);
        }
        let mut unknown = unknown_exemplars.iter().peekable();
        for (number, (_, exemplar)) in rows.batch.exemplars().enumerate() {
            if unknown.next_if(|unknown| **unknown == number).is_some() {
                let series = keep(&mut again, rows.entry_of_exemplar(number)).ok_or_else(missing)?;
                again.push_exemplar(series, exemplar.clone());
            }
        }
        (rows.again, rows.labels) = (again, builder);
        Ok(())
    }

    /// Remembers the refs of series that came with labels, and that their metadata arrived.
    fn learn(&self, version: Version, body: &[u8], rows: &mut Rows, new_refs: &[(usize, SeriesRef)]) {
        let cache = self.cache(version);
        let mut last = None;
        for some in new_refs.chunks(SESSION_SERIES) {
            let mut learning = cache.learning();
            for &(row, series) in some {
                let Some(at) = rows.entry_of_row(row).filter(|at| last != Some(*at)) else { continue };
                last = Some(at);
                let after = at.checked_sub(1).map_or(Slot::NONE, |before| rows.entries[before].slot);
                let message = rows.entries[at].message;
                let key = match version {
                    Version::V1 => v1::key(body, message).map(|span| span.of(body)),
                    Version::V2 => {
                        let unfolded = v2::key(body, message, rows, &self.config);
                        matches!(unfolded, Ok(Ok(()))).then_some(&*rows.key)
                    }
                };
                if let Some(key) = key {
                    rows.entries[at].slot = learning.put(key, series, after);
                    rows.entries[at].series = Some(series);
                }
            }
        }
        if !new_refs.is_empty() {
            self.tell_cached();
        }
        if rows.entries.iter().any(|entry| entry.metadata != 0) {
            let sent = rows.entries.iter().filter(|entry| entry.metadata != 0);
            cache.metadata_sent(sent.filter_map(|entry| Some((entry.slot, entry.series?, entry.metadata))));
        }
    }
}
