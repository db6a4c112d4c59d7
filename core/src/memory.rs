//! An engine that keeps everything in maps: the plainest implementation of [`MetricStorage`], for tests,
//! small programs, and as the model that other engines are compared with.
//!
//! One lock, no files, no limits but those of [`MemoryOptions`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::batch::{AddedValue, Exemplar, Metadata, Row, RowSeries, RowValue, SampleBatch, SeriesRef};
use crate::clock::{Clock, SystemClock};
use crate::health::ServiceHealth;
use crate::histogram::NativeHistogram;
use crate::increments::{NewTotal, SeriesTotals, Taken, fault_of_increment, fault_of_total};
use crate::labels::{Labels, LabelsRef};
use crate::matcher::Matcher;
use crate::storage::{
    AppendError, AppendReport, Changes, ColumnValue, Columns, Deletion, FUTURE_LIMIT, MetricStorage, QueryContext,
    RejectReason, RowCounts, SelectError, Selector, SeriesSet, SharedSeries, StorageStatistics,
};

/// Metadata versions kept per family.
pub const METADATA_PER_FAMILY_MAX: usize = 10;
/// Exemplars kept per series.
pub const EXEMPLARS_PER_SERIES_MAX: usize = 100;
/// Changes remembered for [`MetricStorage::changed_since`].
const CHANGES_MAX: usize = 10_000;

/// Limits of a [`MemoryStorage`].
#[derive(Clone)]
pub struct MemoryOptions {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Age beyond which samples are rejected and hidden; `None` keeps all.
    pub retention: Option<Duration>,
    /// For series that match something else; the first that does holds.
    pub rules: Vec<(Vec<Matcher>, Option<Duration>)>,
    /// Most series.
    pub series_max: usize,
    /// What is known of services, for those who ask the storage.
    pub health: Option<Arc<ServiceHealth>>,
}

impl Default for MemoryOptions {
    fn default() -> MemoryOptions {
        MemoryOptions {
            clock: Arc::new(SystemClock::new()),
            retention: None,
            rules: Vec::new(),
            series_max: usize::MAX,
            health: None,
        }
    }
}

/// See the module.
pub struct MemoryStorage {
    options: MemoryOptions,
    /// Guards everything; never held while user code runs.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    opening: u32,
    version: u64,
    by_labels: BTreeMap<Labels, usize>,
    series: Vec<Series>,
    metadata: BTreeMap<String, Vec<Metadata>>,
    /// (version, series, time), rising by version.
    changes: Vec<(u64, usize, i64)>,
    /// Versions up to here are no longer in `changes`.
    forgotten: u64,
}

struct Series {
    labels: Labels,
    samples: BTreeMap<i64, (i64, Value)>,
    totals: SeriesTotals,
    exemplars: Vec<Exemplar>,
}

#[derive(Clone)]
enum Value {
    Float(f64),
    Histogram(Arc<NativeHistogram>),
    Stale,
}

impl Value {
    fn same_bits(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            (Value::Histogram(a), Value::Histogram(b)) => a.same_bits(b),
            (Value::Stale, Value::Stale) => true,
            _ => false,
        }
    }
}

impl Default for MemoryStorage {
    fn default() -> MemoryStorage {
        MemoryStorage::new(MemoryOptions::default())
    }
}

impl MemoryStorage {
    /// An empty store.
    #[must_use]
    pub fn new(options: MemoryOptions) -> MemoryStorage {
        MemoryStorage { options, state: Mutex::new(State { opening: 1, ..State::default() }) }
    }

    /// Makes every ref handed out so far unknown, as closing and opening a data directory does.
    pub fn reopen(&self) {
        self.lock().opening += 1;
    }

    /// Removes what the deletion is about; running totals go on from where they are.
    pub fn delete(&self, what: &Deletion) {
        let mut state = self.lock();
        state.version += 1;
        let mut gone = Vec::new();
        for (index, series) in state.series.iter_mut().enumerate().filter(|(_, s)| what.matches(s.labels.as_ref())) {
            gone.extend(series.samples.keys().filter(|time| what.covers(**time)).map(|time| (index, *time)));
            series.samples.retain(|time, _| !what.covers(*time));
            series.exemplars.retain(|exemplar| !what.covers(exemplar.time_ms));
        }
        gone.into_iter().for_each(|(index, time_ms)| state.changed(index, time_ms));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first time that is kept of a series.
    fn oldest_ms(&self, labels: Option<LabelsRef<'_>>) -> i64 {
        let holds = |m: &Matcher| m.matches(labels.and_then(|labels| labels.get(m.name())).unwrap_or_default());
        let rules = self.options.rules.iter().filter(|_| labels.is_some());
        let rule = rules.clone().find(|(matchers, _)| matchers.iter().all(holds));
        match rule.map_or(self.options.retention, |(_, keep)| *keep) {
            Some(keep) => self.options.clock.now_ms().saturating_sub(millis(keep)),
            None => i64::MIN,
        }
    }

    fn refused(&self, state: &State, row: &Row<'_>) -> Option<RejectReason> {
        bad_value(row).or_else(|| self.refused_time(state, row.series, row.time_ms))
    }

    fn refused_time(&self, state: &State, series: RowSeries<'_>, time_ms: i64) -> Option<RejectReason> {
        if time_ms > self.options.clock.now_ms().saturating_add(millis(FUTURE_LIMIT)) {
            Some(RejectReason::TooFarInFuture)
        } else if time_ms < self.oldest_ms(state.labels_of(series)) {
            Some(RejectReason::OutsideRetention)
        } else {
            None
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

enum Found {
    Series(usize),
    Unknown,
    Refused(RejectReason),
}

impl State {
    fn find(&mut self, named: RowSeries<'_>, series_max: usize) -> Found {
        let labels = match named {
            RowSeries::Ref(series) => {
                return self.live(series).map_or(Found::Unknown, Found::Series);
            }
            RowSeries::Labels(labels) => labels,
        };
        if let Some(&index) = self.by_labels.get(&labels.to_labels()) {
            return Found::Series(index);
        }
        if labels.metric_name().is_none() {
            return Found::Refused(RejectReason::MissingName);
        }
        if self.series.len() >= series_max {
            return Found::Refused(RejectReason::SeriesLimit);
        }
        let labels = labels.to_labels();
        let index = self.series.len();
        self.series.push(Series {
            labels: labels.clone(),
            samples: BTreeMap::new(),
            totals: SeriesTotals::default(),
            exemplars: Vec::new(),
        });
        self.by_labels.insert(labels, index);
        Found::Series(index)
    }

    fn labels_of<'a>(&'a self, named: RowSeries<'a>) -> Option<LabelsRef<'a>> {
        match named {
            RowSeries::Ref(series) => self.live(series).map(|index| self.series[index].labels.as_ref()),
            RowSeries::Labels(labels) => Some(labels),
        }
    }

    fn live(&self, series: SeriesRef) -> Option<usize> {
        let index = usize::try_from(series.index()).ok()?;
        (series.opening() == self.opening && index < self.series.len()).then_some(index)
    }

    fn ref_of(&self, index: usize) -> SeriesRef {
        SeriesRef::new(self.opening, index as u64).expect("openings and series of one process fit a ref")
    }

    fn changed(&mut self, index: usize, time_ms: i64) {
        if self.changes.len() >= CHANGES_MAX {
            let dropped = self.changes.drain(..CHANGES_MAX / 2).next_back();
            self.forgotten = dropped.map_or(self.forgotten, |(version, ..)| version);
        }
        self.changes.push((self.version, index, time_ms));
    }
}

impl Series {
    /// Adds an increment or total; gives the time of the new total and whether there is a gap before it,
    /// or `None` if the row was there already.
    fn add(&mut self, row: &Row<'_>) -> Result<Option<(i64, bool)>, RejectReason> {
        let taken = match row.value {
            RowValue::Increment(increment) => self.totals.add(increment)?,
            RowValue::Total(total) => self.totals.replace(total, row.time_ms)?,
            RowValue::Float(_) | RowValue::Histogram(_) | RowValue::Stale => return Ok(None),
        };
        Ok(match taken {
            Taken::Identical => None,
            Taken::Added(NewTotal { time_ms, start_ms, value, behind_gap }) => {
                let value = match value {
                    AddedValue::Float(value) => Value::Float(value),
                    AddedValue::Histogram(value) => Value::Histogram(Arc::new(value)),
                };
                self.samples.insert(time_ms, (start_ms, value));
                Some((time_ms, behind_gap))
            }
        })
    }
}

impl MetricStorage for MemoryStorage {
    fn append(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        let mut report = AppendReport::default();
        let mut state = self.lock();
        state.version += 1;
        for (number, row) in batch.rows().enumerate() {
            let one = one_of(&row);
            let mut refuse = |reason| {
                report.rejected.push((number, reason));
                report.rejected_counts += one;
            };
            if let Some(reason) = self.refused(&state, &row) {
                refuse(reason);
                continue;
            }
            let index = match state.find(row.series, self.options.series_max) {
                Found::Series(index) => index,
                Found::Unknown => {
                    report.unknown_refs.push(number);
                    continue;
                }
                Found::Refused(reason) => {
                    refuse(reason);
                    continue;
                }
            };
            if matches!(row.series, RowSeries::Labels(_)) {
                report.new_refs.push((number, state.ref_of(index)));
            }
            let value = match row.value {
                RowValue::Float(v) => Value::Float(v),
                RowValue::Histogram(h) => Value::Histogram(Arc::new(h.clone())),
                RowValue::Stale => Value::Stale,
                RowValue::Increment(_) | RowValue::Total(_) => {
                    match state.series[index].add(&row) {
                        Ok(None) => report.identical += one,
                        Ok(Some((time_ms, behind_gap))) => {
                            report.stored += one;
                            report.gaps += u64::from(behind_gap);
                            state.changed(index, time_ms);
                        }
                        Err(reason) => {
                            report.rejected.push((number, reason));
                            report.rejected_counts += one;
                        }
                    }
                    continue;
                }
            };
            let samples = &mut state.series[index].samples;
            match samples.get(&row.time_ms) {
                Some((start, old)) if old.same_bits(&value) && *start == row.start_ms => report.identical += one,
                Some(_) => report.replaced += one,
                None => report.stored += one,
            }
            samples.insert(row.time_ms, (row.start_ms, value));
            state.changed(index, row.time_ms);
        }
        for (number, (named, exemplar)) in batch.exemplars().enumerate() {
            let one = RowCounts { exemplars: 1, ..RowCounts::default() };
            let mut refuse = |reason| {
                report.rejected_exemplars.push((number, reason));
                report.rejected_counts += one;
            };
            if let Some(reason) = self.refused_time(&state, named, exemplar.time_ms) {
                refuse(reason);
                continue;
            }
            match state.find(named, self.options.series_max) {
                Found::Unknown => report.unknown_exemplars.push(number),
                Found::Refused(reason) => refuse(reason),
                Found::Series(index) => {
                    let kept = &mut state.series[index].exemplars;
                    if kept.contains(exemplar) {
                        report.identical += one;
                        continue;
                    }
                    let at = kept.partition_point(|e| e.time_ms <= exemplar.time_ms);
                    kept.insert(at, exemplar.clone());
                    if kept.len() > EXEMPLARS_PER_SERIES_MAX {
                        kept.remove(0);
                    }
                    report.stored += one;
                }
            }
        }
        for (family, metadata) in batch.metadata() {
            remember_metadata(state.metadata.entry(family.clone()).or_default(), metadata);
        }
        Ok(report)
    }

    fn select(&self, what: &Selector, ctx: &QueryContext) -> Result<Box<dyn SeriesSet>, SelectError> {
        ctx.check()?;
        let state = self.lock();
        let (mut series, mut shared) = (Vec::new(), None);
        for (labels, &index) in &state.by_labels {
            if !what.matches(labels.as_ref()) {
                continue;
            }
            let samples: Vec<_> = state.series[index]
                .samples
                .range(self.oldest_ms(Some(labels.as_ref()))..)
                .filter(|(time, _)| what.covers(**time))
                .map(|(&time, (start, value))| (time, *start, value.clone()))
                .collect();
            if !samples.is_empty() {
                shared = SharedSeries::with(shared, &state.series[index].totals);
                series.push((labels.clone(), samples));
            }
        }
        Ok(Box::new(Snapshot { version: state.version, series, shared }))
    }

    fn version(&self) -> u64 {
        self.lock().version
    }

    fn changed_since(&self, since: u64, what: &Selector) -> Changes {
        let state = self.lock();
        if since < state.forgotten || self.options.retention.is_some() || !self.options.rules.is_empty() {
            return Changes::Unknown;
        }
        let first = state.changes.partition_point(|(version, ..)| *version <= since);
        let mut times: Vec<i64> = state.changes[first..]
            .iter()
            .filter(|(_, index, time)| what.covers(*time) && what.matches(state.series[*index].labels.as_ref()))
            .map(|&(.., time)| time)
            .collect();
        times.sort_unstable();
        times.dedup();
        Changes::Ranges(times.into_iter().map(|t| (t, t)).collect())
    }

    fn resolve(&self, labels: LabelsRef<'_>) -> Option<SeriesRef> {
        let state = self.lock();
        state.by_labels.get(&labels.to_labels()).map(|&index| state.ref_of(index))
    }

    fn labels(&self, series: SeriesRef) -> Option<Labels> {
        let state = self.lock();
        state.live(series).map(|index| state.series[index].labels.clone())
    }

    fn label_names(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        let series = self.series(what, ctx)?;
        let names: BTreeSet<&str> = series.iter().flat_map(|l| l.iter().map(|(name, _)| name)).collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    fn label_values(&self, name: &str, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        let series = self.series(what, ctx)?;
        let values: BTreeSet<&str> = series.iter().filter_map(|l| l.get(name)).collect();
        Ok(values.into_iter().map(str::to_owned).collect())
    }

    fn metadata(&self, family: Option<&str>, ctx: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, SelectError> {
        ctx.check()?;
        let state = self.lock();
        let wanted = state.metadata.iter().filter(|(name, _)| family.is_none_or(|f| f == name.as_str()));
        Ok(wanted.map(|(name, versions)| (name.clone(), versions.clone())).collect())
    }

    fn exemplars(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<(Labels, Vec<Exemplar>)>, SelectError> {
        ctx.check()?;
        let state = self.lock();
        let mut found = Vec::new();
        for (labels, &index) in &state.by_labels {
            if what.matches(labels.as_ref()) {
                let covered = state.series[index].exemplars.iter().filter(|e| what.covers(e.time_ms));
                let exemplars: Vec<_> = covered.cloned().collect();
                if !exemplars.is_empty() {
                    found.push((labels.clone(), exemplars));
                }
            }
        }
        Ok(found)
    }

    fn health(&self) -> Option<&ServiceHealth> {
        self.options.health.as_deref()
    }

    fn statistics(&self) -> StorageStatistics {
        let state = self.lock();
        let ends = |series: &Series| Some((*series.samples.keys().next()?, *series.samples.keys().next_back()?));
        let ends: Vec<_> = state.series.iter().filter_map(ends).collect();
        StorageStatistics {
            active_series: state.series.len() as u64,
            head_samples: state.series.iter().map(|s| s.samples.len() as u64).sum(),
            min_time_ms: ends.iter().map(|e| e.0).min(),
            max_time_ms: ends.iter().map(|e| e.1).max(),
            ..StorageStatistics::default()
        }
    }
}

/// Puts `metadata` first and keeps the distinct newest.
pub fn remember_metadata(versions: &mut Vec<Metadata>, metadata: &Metadata) {
    if versions.first() != Some(metadata) {
        versions.retain(|m| m != metadata);
        versions.insert(0, metadata.clone());
        versions.truncate(METADATA_PER_FAMILY_MAX);
    }
}

/// Why a row's value can be refused without looking at its series.
#[must_use]
pub fn bad_value(row: &Row<'_>) -> Option<RejectReason> {
    match row.value {
        RowValue::Histogram(h) if h.validate().is_err() => Some(RejectReason::InvalidHistogram),
        RowValue::Histogram(_) | RowValue::Float(_) | RowValue::Stale => None,
        RowValue::Increment(increment) => fault_of_increment(increment),
        RowValue::Total(total) => fault_of_total(total, row.time_ms),
    }
}

/// One row, counted by its kind.
#[must_use]
pub fn one_of(row: &Row<'_>) -> RowCounts {
    let mut counts = RowCounts::default();
    match row.value {
        RowValue::Float(_) => counts.floats = 1,
        RowValue::Histogram(_) => counts.histograms = 1,
        RowValue::Stale => counts.stale = 1,
        RowValue::Increment(_) | RowValue::Total(_) => counts.increments = 1,
    }
    counts
}

type TimedValue = (i64, i64, Value);

struct Snapshot {
    version: u64,
    /// Labels, and per sample its time, start and value.
    series: Vec<(Labels, Vec<TimedValue>)>,
    shared: Option<SharedSeries>,
}

impl SeriesSet for Snapshot {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn shared(&self) -> Option<SharedSeries> {
        self.shared
    }

    fn labels(&self, index: usize) -> Labels {
        self.series[index].0.clone()
    }

    fn estimate(&self, index: usize) -> usize {
        self.series[index].1.len()
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn read(&self, index: usize, columns: &mut Columns) -> Result<(), SelectError> {
        columns.clear();
        for (time, start, value) in &self.series[index].1 {
            let value = match value {
                Value::Float(v) => ColumnValue::Float(*v),
                Value::Histogram(h) => ColumnValue::Histogram(h),
                Value::Stale => ColumnValue::Stale,
            };
            columns.push(*time, *start, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{self, Subject};

    struct InMemory(Arc<MemoryStorage>);

    impl Subject for InMemory {
        fn open(&mut self, options: contract::Options) -> Arc<dyn MetricStorage> {
            self.0 = Arc::new(MemoryStorage::new(MemoryOptions {
                clock: options.clock,
                retention: options.retention,
                series_max: options.series_max,
                ..MemoryOptions::default()
            }));
            self.0.clone()
        }

        fn reopen(&mut self) -> Arc<dyn MetricStorage> {
            self.0.reopen();
            self.0.clone()
        }
    }

    #[test]
    fn keeps_the_contract() {
        contract::run(&mut || Box::new(InMemory(Arc::default())));
    }
}
