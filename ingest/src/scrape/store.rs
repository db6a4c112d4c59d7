//! From a target's answer to the engine: everything of a scrape but HTTP. Blocking.
//!
//! Rules that hold here: (1) an answer is parsed to its end before anything of it is sent, so a scrape that fails leaves only
//! staleness markers and the series about the scrape; (2) all of a scrape is one batch, so it is visible at once or not at
//! all; rows whose refs the engine does not know are sent again with their labels in a second one; (3) of two samples of one
//! series at the scrape's own time the first one counts, as in Prometheus.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use kymo_core::batch::{BatchSeries, PushSeries, RowValue};
use kymo_core::storage::{AppendReport, FUTURE_LIMIT, RejectReason};
use kymo_core::{
    Budget, BudgetExceeded, Clock, Exemplar, FamilyType, Labels, LabelsBuilder, LossLedger, MetricStorage, SampleBatch,
    SeriesRef,
};

use super::SOURCE;
use super::cache::{Known, ScrapeCache, SeriesId};
use super::config::JobConfig;
use super::error::{ScrapeError, StoreError};
use super::families::{Families, FamilyList};
use super::histogram::within_limits;
use super::relabel::{report_labels, sample_labels};
use super::report::Report;
use crate::exposition::{Entry, Exemplars, Format, Parser, Sample, SampleValue, push_exemplar_labels, push_labels};

/// An exemplar's labels may have so many characters together (OpenMetrics 1.0).
const EXEMPLAR_CHARS_MAX: usize = 128;

/// Where samples go, and who hears of it.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) storage: Arc<dyn MetricStorage>,
    pub(super) ledger: Arc<LossLedger>,
    pub(super) clock: Arc<dyn Clock>,
}

/// What a target answered.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) body: &'a [u8],
    pub(super) format: Format,
}

/// What became of a scrape.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Why the scrape failed, if it did.
    pub(super) error: Option<ScrapeError>,
    /// Why what it gave is not in the engine, if so.
    pub(super) store_error: Option<StoreError>,
    /// Families, if they changed.
    pub(super) families: Option<FamilyList>,
    /// Samples after relabelling.
    pub(super) samples: u64,
    /// Length of the answer.
    pub(super) bytes: u64,
}

/// Counts that are stored as series about the scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    scraped: u64,
    kept: u64,
    series_added: u64,
    duplicates: u64,
    too_far_ahead: u64,
}

/// What a row of the batch belongs to.
#[derive(Debug, Clone, Copy)]
enum RowOf {
    Sample(SeriesId),
    Report(usize),
}

/// What is kept of one target between its scrapes.
pub(super) struct TargetStore {
    job: Arc<JobConfig>,
    /// The target's labels, which its series carry.
    labels: Labels,
    timeout_seconds: f64,
    cache: ScrapeCache,
    families: Families,
    /// Refs of the series about the scrape.
    reports: [Option<SeriesRef>; Report::ALL.len()],
    batch: SampleBatch,
    again: SampleBatch,
    /// What each row of `batch` belongs to.
    rows: Vec<RowOf>,
    builder: LabelsBuilder,
    fresh: Fresh,
}

/// Series of this scrape that the engine has not named yet.
#[derive(Default)]
struct Fresh {
    by_labels: HashMap<Labels, SeriesId, RandomState>,
    kept: HashMap<SeriesId, BatchSeries, RandomState>,
}

impl TargetStore {
    pub(super) fn new(
        job: Arc<JobConfig>,
        labels: Labels,
        timeout_seconds: f64,
        budget: &Budget,
    ) -> Result<TargetStore, BudgetExceeded> {
        Ok(TargetStore {
            job,
            labels,
            timeout_seconds,
            cache: ScrapeCache::new(budget)?,
            families: Families::new(budget)?,
            reports: Default::default(),
            batch: SampleBatch::new(),
            again: SampleBatch::new(),
            rows: Vec::new(),
            builder: LabelsBuilder::new(),
            fresh: Fresh::default(),
        })
    }

    /// Stores one scrape whose answer, or failure, is at hand. `seconds` says how long it took so far.
    pub(super) fn store(
        &mut self,
        engine: &Engine,
        time_ms: i64,
        answer: Result<Answer<'_>, ScrapeError>,
        seconds: impl Fn() -> f64,
    ) -> Outcome {
        self.clear();
        let mut counts = Counts::default();
        let mut body_bytes = 0.0;
        let result = answer.and_then(|answer| {
            body_bytes = answer.body.len() as f64;
            self.read(engine, time_ms, &answer, &mut counts)
        });
        let error = result.err();
        let now_ms = engine.clock.now_ms();
        if let Some(error) = &error {
            if matches!(error, ScrapeError::BodyLimit) {
                body_bytes = -1.0;
            }
            if let Some(reason) = error.loss_reason() {
                engine
                    .ledger
                    .refuse(SOURCE, reason, counts.scraped.max(1), now_ms, || format!("{}: {error}", self.shown()));
            }
            self.clear();
            self.mark_stale(time_ms, true);
        } else {
            let refuse = |reason, count| engine.ledger.refuse(SOURCE, reason, count, now_ms, || self.shown());
            refuse("duplicate_sample", counts.duplicates);
            refuse(RejectReason::TooFarInFuture.as_str(), counts.too_far_ahead);
            self.mark_stale(time_ms, false);
            self.families.tell(&mut self.batch);
        }
        let values = [
            f64::from(u8::from(error.is_none())),
            seconds(),
            counts.scraped as f64,
            counts.kept as f64,
            counts.series_added as f64,
            self.timeout_seconds,
            self.job.limits.samples as f64,
            body_bytes,
        ];
        self.report(time_ms, values);
        let store_error = self.append(engine).err();
        let families = self.families.end(store_error.is_none() && error.is_none());
        match (&error, &store_error) {
            (_, Some(_)) => self.cache.end_unstored(),
            (None, None) => self.cache.end(),
            (Some(_), None) => self.cache.end_failed(),
        }
        let (samples, bytes) = (counts.kept, body_bytes.max(0.0) as u64);
        Outcome { error, store_error, families, samples, bytes }
    }

    /// Marks all series of a target that is not scraped any more, but for those that `lives` says are another's now.
    pub(super) fn end_of_run(
        &mut self,
        engine: &Engine,
        time_ms: i64,
        lives: impl Fn(SeriesRef) -> bool,
    ) -> Result<(), StoreError> {
        self.clear();
        for (id, series) in self.cache.tracked_before().filter(|(_, series)| !lives(*series)) {
            self.batch.push_stale(series, time_ms);
            self.rows.push(RowOf::Sample(id));
        }
        for (number, series) in self.reports.into_iter().enumerate() {
            if let Some(series) = series.filter(|series| !lives(*series)) {
                self.batch.push_stale(series, time_ms);
                self.rows.push(RowOf::Report(number));
            }
        }
        let result = if self.batch.is_empty() { Ok(()) } else { self.append(engine) };
        self.cache.end_failed();
        result
    }

    /// Refs of all series that have not vanished.
    pub(super) fn tracked(&self) -> Vec<SeriesRef> {
        let samples = self.cache.tracked_before().map(|(_, series)| series);
        samples.chain(self.reports.into_iter().flatten()).collect()
    }

    /// Whether a series is this target's and has not vanished.
    pub(super) fn tracks(&self, series: SeriesRef) -> bool {
        self.reports.contains(&Some(series)) || self.cache.tracks(series)
    }

    fn clear(&mut self) {
        self.batch.clear();
        self.rows.clear();
        self.fresh.by_labels.clear();
        self.fresh.kept.clear();
    }

    /// The target, for a person.
    fn shown(&self) -> String {
        kymo_core::text::SeriesText(&self.labels).to_string()
    }

    /// Reads an answer into the batch.
    fn read(
        &mut self,
        engine: &Engine,
        time_ms: i64,
        answer: &Answer<'_>,
        counts: &mut Counts,
    ) -> Result<(), ScrapeError> {
        // An empty answer says nothing, in whatever format.
        if answer.body.is_empty() {
            return Ok(());
        }
        let future_ms = engine.clock.now_ms().saturating_add(FUTURE_LIMIT.as_millis() as i64);
        let mut parser = Parser::new(answer.format, answer.body, self.job.histograms);
        let mut over_limit = false;
        self.cache.begin();
        while let Some(entry) = parser.next_expecting(self.cache.expected())? {
            match entry {
                Entry::Help { family, help } => self.families.set_help(family, help),
                Entry::Type { family, family_type } => self.families.set_type(family, family_type),
                Entry::Unit { family, unit } => self.families.set_unit(family, unit),
                Entry::Sample(mut sample) => {
                    counts.scraped += 1;
                    sample.time_ms = sample.time_ms.filter(|_| self.job.honor_timestamps);
                    let added = counts.series_added;
                    self.sample(engine, time_ms, future_ms, sample, counts)?;
                    over_limit |= self.job.limits.samples > 0 && self.rows.len() as u64 > self.job.limits.samples;
                    if over_limit {
                        counts.series_added = added;
                    }
                }
            }
        }
        // Only now, so that what is reported about the scrape is about all of it.
        if over_limit { Err(ScrapeError::SampleLimit) } else { Ok(()) }
    }

    fn sample(
        &mut self,
        engine: &Engine,
        scrape_ms: i64,
        future_ms: i64,
        sample: Sample<'_>,
        counts: &mut Counts,
    ) -> Result<(), ScrapeError> {
        let time_ms = sample.time_ms.unwrap_or(scrape_ms);
        let known = self.cache.meet(sample.series).map(|(_, known)| known);
        if known == Some(Known::Dropped) {
            return Ok(());
        }
        if time_ms > future_ms {
            counts.kept += 1;
            counts.too_far_ahead += 1;
            return Ok(());
        }
        let id = match known {
            Some(Known::Series(id)) => id,
            _ => match self.learn(engine, &sample)? {
                Some((id, added)) => {
                    counts.series_added += u64::from(added);
                    id
                }
                None => return Ok(()),
            },
        };
        counts.kept += 1;
        if sample.time_ms.is_none() && !self.cache.send_once(id) {
            counts.duplicates += 1;
            return Ok(());
        }
        if sample.time_ms.is_none() || self.job.track_timestamps_staleness {
            self.cache.track(id);
        }
        let series = match (self.cache.series_ref(id), self.fresh.kept.get(&id)) {
            (Some(series), _) => PushSeries::Ref(series),
            (None, Some(kept)) => PushSeries::Kept(*kept),
            // Known by a text of an earlier scrape that was not stored: named again.
            (None, None) => PushSeries::Kept(self.keep(id)?),
        };
        let is_histogram = match sample.value {
            SampleValue::Float(value) => {
                self.batch.push_float(series, time_ms, value);
                false
            }
            SampleValue::Histogram(histogram) => {
                let histogram = within_limits(*histogram, &self.job)?;
                self.batch.push_histogram(series, time_ms, histogram);
                true
            }
        };
        self.batch.set_start(sample.start_ms);
        self.rows.push(RowOf::Sample(id));
        if !sample.exemplars.is_empty() {
            self.exemplars(series, sample.exemplars, time_ms, is_histogram)?;
        }
        Ok(())
    }

    /// Reads the labels of a text that is new; `None` if relabelling drops it. Says whether the series is new too.
    fn learn(&mut self, engine: &Engine, sample: &Sample<'_>) -> Result<Option<(SeriesId, bool)>, ScrapeError> {
        push_labels(sample.series, sample.family_type, &mut self.builder)?;
        let Some(labels) = sample_labels(&self.job, &self.labels, &mut self.builder)? else {
            self.cache.add_text(sample.series, sample.family_type, None)?;
            return Ok(None);
        };
        let in_engine = engine.storage.resolve(labels);
        let known = in_engine.and_then(|series| self.cache.series_of(series));
        let known = known.or_else(|| self.fresh.by_labels.get(labels.packed()).copied());
        let id = known.unwrap_or_else(|| self.cache.add_series());
        self.cache.add_text(sample.series, sample.family_type, Some(id))?;
        match in_engine {
            Some(series) => self.cache.set_ref(id, series),
            None if known.is_none() => {
                self.fresh.kept.insert(id, self.batch.keep(labels));
                self.fresh.by_labels.insert(labels.to_labels(), id);
            }
            None => {}
        }
        Ok(Some((id, known.is_none())))
    }

    /// Puts the labels of a series into the batch.
    fn keep(&mut self, id: SeriesId) -> Result<BatchSeries, ScrapeError> {
        let (text, family_type) = self.cache.name(id);
        push_labels(text, family_type, &mut self.builder)?;
        let labels = sample_labels(&self.job, &self.labels, &mut self.builder)?.ok_or(ScrapeError::MissingName)?;
        let kept = self.batch.keep(labels);
        self.fresh.kept.insert(id, kept);
        Ok(kept)
    }

    fn exemplars(
        &mut self,
        series: PushSeries<'_>,
        exemplars: Exemplars<'_>,
        time_ms: i64,
        is_histogram: bool,
    ) -> Result<(), ScrapeError> {
        for exemplar in exemplars.iter() {
            // Those of native histograms need a time of their own: there are many of them for one sample.
            let Some(at) = exemplar.time_ms.or((!is_histogram).then_some(time_ms)) else { continue };
            push_exemplar_labels(exemplar.labels, &mut self.builder)?;
            let chars: usize =
                self.builder.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
            // A bad exemplar is no reason to lose its sample.
            if chars <= EXEMPLAR_CHARS_MAX
                && let Ok(labels) = self.builder.build()
            {
                let labels = labels.to_labels();
                self.batch.push_exemplar(series, Exemplar { labels, value: exemplar.value, time_ms: at });
            }
        }
        Ok(())
    }

    /// Marks what vanished: after a scrape that failed, all that was there before it.
    fn mark_stale(&mut self, time_ms: i64, failed: bool) {
        let (batch, rows) = (&mut self.batch, &mut self.rows);
        let mut mark = |(id, series): (SeriesId, SeriesRef)| {
            batch.push_stale(series, time_ms);
            rows.push(RowOf::Sample(id));
        };
        if failed {
            self.cache.tracked_before().for_each(&mut mark);
        } else {
            self.cache.vanished().for_each(&mut mark);
        }
    }

    fn report(&mut self, time_ms: i64, values: [f64; Report::ALL.len()]) {
        let count = if self.job.extra_metrics { Report::ALL.len() } else { Report::USUAL };
        for (number, value) in values.into_iter().enumerate().take(count) {
            match self.reports[number] {
                Some(series) => self.batch.push_float(series, time_ms, value),
                None => {
                    let labels = report_labels(Report::ALL[number].name(), &self.labels, &mut self.builder);
                    self.batch.push_float(labels, time_ms, value);
                }
            }
            self.rows.push(RowOf::Report(number));
        }
    }

    /// Hands the batch to the engine, and what it does not know once more with labels; books both.
    fn append(&mut self, engine: &Engine) -> Result<(), StoreError> {
        let report = self.append_batch(engine, &self.batch)?;
        self.settle(engine, &report, |row| row);
        if report.unknown_refs.is_empty() && report.unknown_exemplars.is_empty() {
            return Ok(());
        }
        self.name_again(&report);
        let unknown = report.unknown_refs;
        let report = self.append_batch(engine, &self.again)?;
        self.settle(engine, &report, |row| unknown[row]);
        Ok(())
    }

    fn append_batch(&self, engine: &Engine, batch: &SampleBatch) -> Result<AppendReport, StoreError> {
        engine.storage.append(batch).map_err(|error| {
            let rows = batch.len() as u64;
            engine
                .ledger
                .refuse(SOURCE, "not_stored", rows, engine.clock.now_ms(), || format!("{}: {error}", self.shown()));
            error.into()
        })
    }

    /// Books a report and learns from it; `row` leads back to the rows of the first batch.
    fn settle(&mut self, engine: &Engine, report: &AppendReport, row: impl Fn(usize) -> usize) {
        engine.ledger.book(SOURCE, report, engine.clock.now_ms(), |rejected| match self.rows[row(rejected)] {
            RowOf::Sample(id) => String::from_utf8_lossy(self.cache.name(id).0).into_owned(),
            RowOf::Report(number) => Report::ALL[number].name().to_owned(),
        });
        for &(number, series) in &report.new_refs {
            match self.rows[row(number)] {
                RowOf::Sample(id) => self.cache.set_ref(id, series),
                RowOf::Report(report) => self.reports[report] = Some(series),
            }
        }
        for &(number, _) in &report.rejected {
            if let RowOf::Sample(id) = self.rows[row(number)] {
                self.cache.untrack(id);
            }
        }
    }

    /// Puts rows and exemplars whose refs the engine does not know into `again`, with labels.
    fn name_again(&mut self, report: &AppendReport) {
        self.again.clear();
        for &number in &report.unknown_refs {
            let row = self.batch.row(number);
            let labels = match self.rows[number] {
                RowOf::Report(report) => {
                    Some(report_labels(Report::ALL[report].name(), &self.labels, &mut self.builder))
                }
                RowOf::Sample(id) => {
                    let name = self.cache.name(id);
                    name_of(&self.job, &self.labels, name, &mut self.builder)
                }
            };
            // The text was read before, so it can be read again; rows and numbers must stay in step all the same.
            let series = self.again.keep(labels.unwrap_or_else(|| unreachable!("a text that was read before")));
            match row.value {
                RowValue::Float(value) => self.again.push_float(series, row.time_ms, value),
                RowValue::Histogram(value) => self.again.push_histogram(series, row.time_ms, value.clone()),
                RowValue::Stale => self.again.push_stale(series, row.time_ms),
                RowValue::Increment(_) | RowValue::Total(_) => unreachable!("a scrape has neither"),
            }
            self.again.set_start(row.start_ms);
        }
        for (number, (named, exemplar)) in self.batch.exemplars().enumerate() {
            if report.unknown_exemplars.binary_search(&number).is_err() {
                continue;
            }
            let kymo_core::batch::RowSeries::Ref(series) = named else { continue };
            let name = self.cache.series_of(series).map(|id| self.cache.name(id));
            let labels = name.and_then(|name| name_of(&self.job, &self.labels, name, &mut self.builder));
            if let Some(labels) = labels {
                self.again.push_exemplar(labels, exemplar.clone());
            }
        }
    }
}

/// The stored labels of a text that was read before.
fn name_of<'b>(
    job: &JobConfig,
    target: &Labels,
    (text, family_type): (&[u8], FamilyType),
    builder: &'b mut LabelsBuilder,
) -> Option<kymo_core::LabelsRef<'b>> {
    push_labels(text, family_type, builder).ok()?;
    sample_labels(job, target, builder).ok().flatten()
}
