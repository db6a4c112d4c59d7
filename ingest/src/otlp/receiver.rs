//! From a body to an engine, without a network.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kymo_core::batch::{AddedValue, PushSeries, RowSeries, RowValue};
use kymo_core::health::ServiceHealth;
use kymo_core::registry::RegisterError;
use kymo_core::storage::{AppendReport, RejectReason, RowCounts};
use kymo_core::{Budget, Clock, LossLedger, MetricStorage, Reservation, SampleBatch};

use super::compression::Coding;
use super::config::{OtlpConfig, OtlpLimits};
use super::error::ExportError;
use super::known::Known;
use super::metrics::OtlpMetrics;
use super::outcome::Outcome;
use super::request::Signal;
use super::traces::{SpanOutcome, Spans};
use super::translate::{Buffers, Translation};
use super::{Encoding, SOURCE, TRACES_SOURCE, messages, wire};
use crate::remote_write::{BODY_BYTES_CAP, ReceiverParts};
use crate::series_cache::SeriesCache;

/// Buffers kept between requests: more requests than that are seldom decoded at once.
const KEPT_BUFFERS_MAX: usize = 8;
/// Bytes that a [`Receiver`] keeps of series it knows by their bytes, and of the resources, scopes and metrics they belong
/// to: some 150,000 series.
pub const KNOWN_SERIES_BYTES_MAX: u64 = 64 << 20;
/// Larger buffers of a point are given back.
const KEPT_BUFFER_BYTES_MAX: usize = 1 << 20;

/// Takes `ExportMetricsServiceRequest`s and hands their data points to an engine.
///
/// Shared by all requests. Blocking: it runs on the caller's thread, and appending may wait for the disk.
///
/// ```
/// use std::sync::Arc;
/// use kymo_core::MemoryStorage;
/// use kymo_ingest::otlp::{Coding, Encoding, OtlpConfig, OtlpLimits, Receiver};
/// use kymo_ingest::remote_write::ReceiverParts;
///
/// let parts = ReceiverParts::around(Arc::new(MemoryStorage::default()));
/// let receiver = Receiver::new(OtlpConfig::default(), OtlpLimits::default(), parts)?;
/// let body = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
///     {"name":"queue.length","gauge":{"dataPoints":[{"timeUnixNano":"1760000000000000000","asInt":"7"}]}}]}]}]}"#;
/// let outcome = receiver.export(Encoding::Json, Coding::Identity, body.into())?;
/// assert_eq!((outcome.written, outcome.rejected()), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Receiver {
    config: OtlpConfig,
    limits: OtlpLimits,
    storage: Arc<dyn MetricStorage>,
    ledger: Arc<LossLedger>,
    clock: Arc<dyn Clock>,
    budget: Budget,
    known: Known,
    series: SeriesCache,
    spans: Spans,
    pub(super) metrics: OtlpMetrics,
    /// Buffers between requests; never held while one is used.
    scratch: Mutex<Vec<Scratch>>,
}

/// The buffers of one request.
#[derive(Default)]
struct Scratch {
    buffers: Buffers,
    walk: wire::Buffers,
    report: AppendReport,
}

impl Receiver {
    /// A receiver in front of an engine. What requests take is reserved under the parts' budget, and no limit in bytes is
    /// above [`BODY_BYTES_CAP`].
    ///
    /// # Errors
    /// [`RegisterError`] when the registry holds other metrics of the same names.
    pub fn new(config: OtlpConfig, limits: OtlpLimits, parts: ReceiverParts) -> Result<Receiver, RegisterError> {
        let ReceiverParts { storage, ledger, clock, budget, registry } = parts;
        let budget = budget.child("otlp", u64::MAX);
        let limits = OtlpLimits {
            body_bytes_max: limits.body_bytes_max.min(BODY_BYTES_CAP),
            decompressed_bytes_max: limits.decompressed_bytes_max.min(BODY_BYTES_CAP),
            unfolded_bytes_max: limits.unfolded_bytes_max.min(BODY_BYTES_CAP),
        };
        let metrics = OtlpMetrics::register(&registry)?;
        let caches = budget.child("otlp_series", KNOWN_SERIES_BYTES_MAX);
        let (known, series) = (Known::new(&caches), SeriesCache::new(&caches));
        let spans = Spans::new(storage.clone(), &budget.child("otlp_spans", u64::MAX));
        let scratch = Mutex::default();
        Ok(Receiver { config, limits, storage, ledger, clock, budget, known, series, spans, metrics, scratch })
    }

    /// Tells `health` of every span that is counted, and of every call between services.
    #[must_use]
    pub fn with_health(mut self, health: Arc<ServiceHealth>) -> Receiver {
        self.spans.set_health(health);
        self
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &OtlpLimits {
        &self.limits
    }

    /// Where the bytes of requests are reserved.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Series that are known by their bytes, and what is reserved to remember them and the resources, scopes and metrics
    /// they belong to.
    #[must_use]
    pub fn cached_series(&self) -> (usize, u64) {
        (self.series.size().0, self.series.reserved() + self.known.bytes())
    }

    /// Forgets series that no request has brought for five to ten minutes, and their resources, scopes and metrics if there was
    /// none at all; they are learned again with the first that does. Whether there were any. To be called now and then, whether
    /// requests come or not: most calls do nothing.
    pub fn forget_idle(&self) -> bool {
        let forgotten = self.series.forget_idle(self.clock.monotonic());
        if forgotten > 0 && self.series.size().0 == 0 {
            self.known.forget();
        }
        forgotten > 0
    }

    /// Bytes reserved to remember operations, calls and spans that were counted.
    #[must_use]
    pub fn span_bytes(&self) -> u64 {
        self.spans.bytes()
    }

    /// Unpacks and decodes a body and appends what is valid in it; books everything in the loss ledger.
    ///
    /// `Ok` with refusals is a partial success: what is not refused is stored.
    ///
    /// # Errors
    /// [`ExportError`] when nothing of the request was stored.
    pub fn export(&self, encoding: Encoding, coding: Coding, body: Bytes) -> Result<Outcome, ExportError> {
        let started = self.clock.monotonic();
        let metrics = self.metrics.of(encoding);
        self.metrics.compressed_bytes.add(body.len() as u64);
        let result = self.try_export(encoding, coding, body);
        match &result {
            Ok(outcome) => {
                metrics.count(outcome);
                self.metrics.added(outcome);
            }
            Err(error) => self.book_failure(Signal::Metrics, error),
        }
        metrics.duration.record(self.clock.monotonic().saturating_sub(started).as_secs_f64());
        result
    }

    /// As [`export`](Self::export), of an `ExportTraceServiceRequest`: its spans are counted and not stored.
    ///
    /// # Errors
    /// [`ExportError`] when no span of the request was counted.
    pub fn export_spans(&self, encoding: Encoding, coding: Coding, body: Bytes) -> Result<SpanOutcome, ExportError> {
        let started = self.clock.monotonic();
        self.metrics.compressed_bytes.add(body.len() as u64);
        let result = self.try_export_spans(encoding, coding, body);
        match &result {
            Ok(outcome) => self.metrics.count_spans(outcome),
            Err(error) => self.book_failure(Signal::Traces, error),
        }
        self.metrics.of(encoding).duration.record(self.clock.monotonic().saturating_sub(started).as_secs_f64());
        result
    }

    /// Counts calls that waited in vain for their other side, as every request of spans does; for when none comes.
    ///
    /// # Errors
    /// [`ExportError`] when the engine does not take them; they are counted later.
    pub fn settle_calls(&self) -> Result<(), ExportError> {
        let now_ms = self.clock.now_ms();
        if self.spans.has_waited(now_ms) {
            let mut held = self.budget.try_reserve(0)?;
            self.spans.export(Encoding::Protobuf, &Bytes::new(), &mut held, now_ms)?;
        }
        Ok(())
    }

    fn try_export_spans(&self, encoding: Encoding, coding: Coding, body: Bytes) -> Result<SpanOutcome, ExportError> {
        let mut held = self.budget.try_reserve(0)?;
        let body = coding.decode(body, self.limits.decompressed_bytes_max, &mut held)?;
        self.metrics.decompressed_bytes.add(body.len() as u64);
        let now_ms = self.clock.now_ms();
        let outcome = self.spans.export(encoding, &body, &mut held, now_ms)?;
        let counts = |floats| RowCounts { floats, ..RowCounts::default() };
        let accepted = AppendReport {
            stored: counts(outcome.counted),
            identical: counts(outcome.identical),
            ..AppendReport::default()
        };
        self.ledger.book(TRACES_SOURCE, &accepted, now_ms, |_| String::new());
        for refusal in &outcome.refusals {
            let example = || refusal.example.clone();
            self.ledger.refuse(TRACES_SOURCE, refusal.reason.as_str(), refusal.points, now_ms, example);
        }
        Ok(outcome)
    }

    /// Books a request that failed as a whole, if what it holds is lost.
    pub(super) fn book_failure(&self, signal: Signal, error: &ExportError) {
        if let Some(reason) = error.loss_reason() {
            self.ledger.refuse(signal.source(), reason, 1, self.clock.now_ms(), || error.to_string());
        }
    }

    fn try_export(&self, encoding: Encoding, coding: Coding, body: Bytes) -> Result<Outcome, ExportError> {
        let mut held = self.budget.try_reserve(0)?;
        let body = coding.decode(body, self.limits.decompressed_bytes_max, &mut held)?;
        self.metrics.decompressed_bytes.add(body.len() as u64);
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let Scratch { buffers, walk, report } = &mut scratch;
        let mut translation = self.translation(std::mem::take(buffers))?;
        let result = self.export_into(&mut translation, (encoding, &body), walk, &mut held, report);
        *buffers = std::mem::take(&mut translation.buffers);
        let is_worth_keeping = buffers.clear() && walk.bytes() <= KEPT_BUFFER_BYTES_MAX;
        let mut kept = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if is_worth_keeping && kept.len() < KEPT_BUFFERS_MAX {
            kept.push(scratch);
        }
        result
    }

    fn translation(&self, buffers: Buffers) -> Result<Translation<'_>, ExportError> {
        let max = self.limits.unfolded_bytes_max;
        Ok(Translation::new(&self.config, (&self.known, &self.series), buffers, &self.budget, max)?)
    }

    fn export_into(
        &self,
        translation: &mut Translation<'_>,
        (encoding, body): (Encoding, &[u8]),
        walk: &mut wire::Buffers,
        held: &mut Reservation,
        report: &mut AppendReport,
    ) -> Result<Outcome, ExportError> {
        drive(encoding, body, walk, held, translation)?;
        translation.end();
        report.clear();
        if !translation.buffers.batch.is_empty() {
            self.append(&translation.buffers.batch, report)?;
            translation.learn(&report.new_refs);
            if !report.unknown_refs.is_empty() || !report.unknown_exemplars.is_empty() {
                self.append_unknown((encoding, body), walk, held, report)?;
            }
        }
        let outcome = translation.finish(report);
        self.book(&outcome);
        Ok(outcome)
    }

    /// Sends rows again whose refs the engine has forgotten, with labels, and adds what became of them to the report.
    #[cold]
    fn append_unknown(
        &self,
        (encoding, body): (Encoding, &[u8]),
        walk: &mut wire::Buffers,
        held: &mut Reservation,
        report: &mut AppendReport,
    ) -> Result<(), ExportError> {
        let (rows, exemplars) =
            (std::mem::take(&mut report.unknown_refs), std::mem::take(&mut report.unknown_exemplars));
        let caches = (&self.known, &self.series);
        let mut translation = Translation::again(&self.config, caches, &self.budget, &rows, &exemplars)?;
        drive(encoding, body, walk, held, &mut translation)?;
        let mut again = AppendReport::default();
        self.append(&translation.buffers.batch, &mut again)?;
        translation.learn(&again.new_refs);
        report.stored += again.stored;
        report.identical += again.identical;
        report.replaced += again.replaced;
        report.rejected_counts += again.rejected_counts;
        report.gaps += again.gaps;
        report.rejected.extend(again.rejected.iter().map(|(row, reason)| (rows[*row], *reason)));
        report.rejected.sort_unstable_by_key(|(row, _)| *row);
        let number = |(at, reason): &(usize, RejectReason)| (exemplars.get(*at).copied().unwrap_or(*at), *reason);
        report.rejected_exemplars.extend(again.rejected_exemplars.iter().map(number));
        Ok(())
    }

    /// Appends; totals of writers that the engine has no room for are appended as they were sent.
    fn append(&self, batch: &SampleBatch, report: &mut AppendReport) -> Result<(), ExportError> {
        let failed = |source| ExportError::Append { source };
        self.storage.append_into(batch, report).map_err(failed)?;
        let is_one_too_many = |(row, reason): &(usize, RejectReason)| {
            *reason == RejectReason::WriterLimit && matches!(batch.row(*row).value, RowValue::Total(_))
        };
        let rows: Vec<usize> = report.rejected.iter().filter(|one| is_one_too_many(one)).map(|(row, _)| *row).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let mut again = SampleBatch::new();
        for &number in &rows {
            let row = batch.row(number);
            let RowValue::Total(total) = row.value else { continue };
            let series = match row.series {
                RowSeries::Ref(series) => PushSeries::Ref(series),
                RowSeries::Labels(labels) => PushSeries::Labels(labels),
            };
            match &total.value {
                AddedValue::Float(value) => again.push_float(series, row.time_ms, *value),
                AddedValue::Histogram(value) => again.push_histogram(series, row.time_ms, value.clone()),
            }
            again.set_start(row.start_ms);
        }
        let plain = self.storage.append(&again).map_err(failed)?;
        report.rejected.retain(|one| !is_one_too_many(one));
        report.rejected.extend(plain.rejected.iter().map(|(row, reason)| (rows[*row], *reason)));
        report.rejected.sort_unstable_by_key(|(row, _)| *row);
        report.rejected_counts.increments -= rows.len() as u64;
        report.rejected_counts += plain.rejected_counts;
        report.stored += plain.stored;
        report.identical += plain.identical;
        report.replaced += plain.replaced;
        report.new_refs.extend(plain.new_refs.iter().map(|(row, series)| (rows[*row], *series)));
        report.new_refs.sort_unstable_by_key(|(row, _)| *row);
        report.new_refs.dedup_by_key(|(row, _)| *row);
        report.unknown_refs.extend(plain.unknown_refs.iter().map(|row| rows[*row]));
        report.unknown_refs.sort_unstable();
        Ok(())
    }

    /// Books a request that was accepted, in points.
    fn book(&self, outcome: &Outcome) {
        let points = |floats| RowCounts { floats, ..RowCounts::default() };
        let (identical, replaced) = (outcome.identical, outcome.replaced);
        let accepted = AppendReport {
            stored: points(outcome.written - identical - replaced),
            identical: points(identical),
            replaced: points(replaced),
            ..AppendReport::default()
        };
        let now_ms = self.clock.now_ms();
        self.ledger.book(SOURCE, &accepted, now_ms, |_| String::new());
        for refusal in &outcome.refusals {
            self.ledger.refuse(SOURCE, refusal.reason.as_str(), refusal.points, now_ms, || refusal.example.clone());
        }
    }
}

/// Tells `translation` what stands in a body.
pub(super) fn drive(
    encoding: Encoding,
    body: &[u8],
    walk: &mut wire::Buffers,
    held: &mut Reservation,
    translation: &mut Translation<'_>,
) -> Result<(), ExportError> {
    match encoding {
        Encoding::Protobuf => wire::drive(body, walk, held, translation),
        Encoding::Json => messages::drive_json(body, held, translation),
    }
}
