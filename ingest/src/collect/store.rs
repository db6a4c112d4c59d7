//! From gathered samples to the engine: refs of known series, staleness markers, the loss ledger. Blocking.
//!
//! Rules that hold here: (1) a round is one batch, so it is visible at once or not at all; rows whose refs the engine no
//! longer knows are sent again with their labels in a second one; (2) a series that was stored and is not gathered any
//! more gets one staleness marker; (3) of two samples of one series in a round the first one counts, the other is booked.

use std::collections::BTreeMap;
use std::sync::Arc;

use kymo_core::batch::{PushSeries, RowValue};
use kymo_core::histogram::NativeHistogram;
use kymo_core::storage::{AppendReport, RejectReason};
use kymo_core::{AppendError, Clock, Labels, LabelsBuilder, LossLedger, MetricStorage, SampleBatch, SeriesRef};

use super::gathered::{Gathered, Value, pairs_of_key};

/// Series of one source. A host with hundreds of processors and disks has a few tens of thousands; more is a fault.
pub(super) const SERIES_MAX: usize = 100_000;

/// Where samples go, and who hears of it.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) storage: Arc<dyn MetricStorage>,
    pub(super) ledger: Arc<LossLedger>,
    pub(super) clock: Arc<dyn Clock>,
}

/// What is kept of one source between its rounds.
pub(super) struct SourceStore {
    /// Name in the loss ledger.
    source: &'static str,
    /// `job` and `instance`, which every series of the source carries.
    target: [(&'static str, String); 2],
    series_max: usize,
    round: u64,
    /// By key; its order is the order of staleness markers.
    known: BTreeMap<Box<[u8]>, Known>,
    batch: SampleBatch,
    again: SampleBatch,
    /// The series of each row of `batch`.
    rows: Vec<Labels>,
    builder: LabelsBuilder,
    newest_ms: i64,
}

struct Known {
    labels: Labels,
    /// `None` until the engine named it.
    series: Option<SeriesRef>,
    /// The last round that had it.
    round: u64,
}

impl SourceStore {
    pub(super) fn new(source: &'static str, job: String, instance: String, series_max: usize) -> SourceStore {
        SourceStore {
            source,
            target: [("instance", instance), ("job", job)],
            series_max,
            round: 0,
            known: BTreeMap::new(),
            batch: SampleBatch::new(),
            again: SampleBatch::new(),
            rows: Vec::new(),
            builder: LabelsBuilder::new(),
            newest_ms: i64::MIN,
        }
    }

    /// Stores what was gathered at `time_ms`.
    ///
    /// # Errors
    /// [`AppendError`] when nothing of it is in the engine; it is booked.
    pub(super) fn store(&mut self, engine: &Engine, gathered: &mut Gathered, time_ms: i64) -> Result<(), AppendError> {
        self.begin();
        let (mut duplicates, mut beyond) = (0, 0);
        for (key, value) in gathered.samples() {
            if let Some(known) = self.known.get_mut(key) {
                if known.round == self.round {
                    duplicates += 1;
                    continue;
                }
                known.round = self.round;
                match known.series {
                    Some(series) => push(&mut self.batch, series, time_ms, value),
                    None => push(&mut self.batch, &known.labels, time_ms, value),
                }
                self.rows.push(known.labels.clone());
            } else if self.known.len() < self.series_max {
                let labels = self.labels_of(key);
                push(&mut self.batch, &labels, time_ms, value);
                self.rows.push(labels.clone());
                self.known.insert(key.into(), Known { labels, series: None, round: self.round });
            } else {
                beyond += 1;
            }
        }
        for (family, metadata) in gathered.untold() {
            self.batch.push_metadata(family, metadata.clone());
        }
        let round = self.round;
        self.mark_stale(time_ms, |known| known.round != round);
        let now_ms = engine.clock.now_ms();
        engine.ledger.refuse(self.source, "duplicate_sample", duplicates, now_ms, String::new);
        let name = RejectReason::SeriesLimit.as_str();
        engine.ledger.refuse(self.source, name, beyond, now_ms, || format!("limit {} series", self.series_max));
        self.append(engine)?;
        gathered.told();
        self.known.retain(|_, known| known.round == round);
        self.newest_ms = self.newest_ms.max(time_ms);
        Ok(())
    }

    /// Marks all series: nothing is gathered any more.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    pub(super) fn end(&mut self, engine: &Engine, time_ms: i64) -> Result<(), AppendError> {
        self.begin();
        // After the last sample even when the clock was set back since: a marker before it would end nothing.
        self.mark_stale(time_ms.max(self.newest_ms.saturating_add(1)), |_| true);
        if self.rows.is_empty() {
            return Ok(());
        }
        self.append(engine)?;
        self.known.clear();
        Ok(())
    }

    fn begin(&mut self) {
        self.round += 1;
        self.batch.clear();
        self.rows.clear();
    }

    fn mark_stale(&mut self, time_ms: i64, is_gone: impl Fn(&Known) -> bool) {
        for known in self.known.values().filter(|known| is_gone(known)) {
            if let Some(series) = known.series {
                self.batch.push_stale(series, time_ms);
                self.rows.push(known.labels.clone());
            }
        }
    }

    fn append(&mut self, engine: &Engine) -> Result<(), AppendError> {
        let now_ms = engine.clock.now_ms();
        let rows = &self.rows;
        let refuse = |count: usize, error: &AppendError| {
            engine.ledger.refuse(self.source, append_reason(error), count as u64, now_ms, || error.to_string());
        };
        let report = engine.storage.append(&self.batch).inspect_err(|error| refuse(rows.len(), error))?;
        let book = |report: &AppendReport, labels: &dyn Fn(usize) -> String| {
            engine.ledger.book(self.source, report, now_ms, labels);
        };
        book(&report, &|row| rows[row].to_string());
        let mut named: Vec<(Labels, Option<SeriesRef>)> =
            report.new_refs.iter().map(|&(row, series)| (rows[row].clone(), Some(series))).collect();
        if !report.unknown_refs.is_empty() {
            self.again.clear();
            let mut again_rows = Vec::new();
            for &row in &report.unknown_refs {
                let (labels, row) = (&rows[row], self.batch.row(row));
                named.push((labels.clone(), None));
                match row.value {
                    RowValue::Float(value) => self.again.push_float(labels, row.time_ms, value),
                    RowValue::Histogram(value) => self.again.push_histogram(labels, row.time_ms, value.clone()),
                    // A marker for a series that the engine let go of would only bring it back.
                    RowValue::Stale => continue,
                    RowValue::Increment(_) | RowValue::Total(_) => unreachable!("a collector has neither"),
                }
                self.again.set_start(row.start_ms);
                again_rows.push(labels);
            }
            match engine.storage.append(&self.again) {
                Ok(report) => {
                    book(&report, &|row| again_rows[row].to_string());
                    let found = report.new_refs.iter();
                    named.extend(found.map(|&(row, series)| (again_rows[row].clone(), Some(series))));
                }
                // The rest of the round is stored; these series come with their labels next time.
                Err(error) => refuse(again_rows.len(), &error),
            }
        }
        self.learn(named);
        Ok(())
    }

    /// Remembers refs; of several for one series the last.
    fn learn(&mut self, named: Vec<(Labels, Option<SeriesRef>)>) {
        if named.is_empty() {
            return;
        }
        let refs: BTreeMap<Labels, Option<SeriesRef>> = named.into_iter().collect();
        for known in self.known.values_mut() {
            if let Some(series) = refs.get(&known.labels) {
                known.series = *series;
            }
        }
    }

    /// The label set of a key: its own labels, and the source's. A label of its own that the source has as well is
    /// renamed, as in a scrape that does not honour labels.
    fn labels_of(&mut self, key: &[u8]) -> Labels {
        let target = &self.target;
        self.builder.clear();
        for (name, value) in pairs_of_key(key) {
            if target.iter().any(|(of_target, _)| *of_target == name) {
                self.builder.set(&format!("exported_{name}"), value);
            } else {
                self.builder.set(name, value);
            }
        }
        for (name, value) in target {
            self.builder.set(name, value);
        }
        self.builder.labels()
    }
}

/// Adds a row. A start after the sample, as when the clock was set back, is left out: it would say nothing.
fn push<'a>(batch: &mut SampleBatch, series: impl Into<PushSeries<'a>>, time_ms: i64, value: &Value) {
    let start_ms = match value {
        Value::Float(value) => return batch.push_float(series, time_ms, *value),
        Value::Total { value, start_ms } => {
            batch.push_float(series, time_ms, *value);
            *start_ms
        }
        Value::Histogram { histogram, start_ms } => {
            batch.push_histogram(series, time_ms, NativeHistogram::clone(histogram));
            *start_ms
        }
    };
    if start_ms <= time_ms {
        batch.set_start(start_ms);
    }
}

/// Why a whole batch was not taken, as a reason of the ledger.
fn append_reason(error: &AppendError) -> &'static str {
    match error {
        AppendError::Budget(_) => "memory_limit",
        AppendError::Log { .. } => "log_write_failed",
        AppendError::Closed => "storage_closed",
        _ => "append_failed",
    }
}
