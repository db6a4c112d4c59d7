//! From OpenTelemetry's model to rows of a batch. Pure: what is made depends on the messages and the configuration alone.
//!
//! | OTLP | becomes |
//! |---|---|
//! | gauge, non-monotonic sum | `name` |
//! | monotonic sum | `name_total` |
//! | histogram | `name_bucket{le}`, `name_sum`, `name_count`, or one native histogram with custom buckets |
//! | exponential histogram | a native histogram `name` |
//! | summary | `name{quantile}`, `name_sum`, `name_count` |
//! | resource | `target_info` at the times of its points |
//!
//! A point flagged as without a value becomes staleness markers of its series. Every row knows its point, so that the
//! refusals of an engine are counted in points.

use std::collections::HashSet;

use kymo_core::batch::{BatchSeries, FamilyType, Metadata};
use kymo_core::histogram::stale_nan;
use kymo_core::labels::LabelsRef;
use kymo_core::storage::AppendReport;
use kymo_core::text::write_float_plain;
use kymo_core::{Budget, BudgetExceeded, Labels, NativeHistogram, SampleBatch};

use super::config::OtlpConfig;
use super::error::{ExportError, Reason};
use super::labels::SeriesLabels;
use super::memory::Meter;
use super::message::{
    CUMULATIVE, DELTA, Exemplar, ExponentialPoint, HistogramPoint, Metric, NO_RECORDED_VALUE, NumberPoint, Resource,
    Scope, SummaryPoint,
};
use super::name::{NameKind, metric_name, unit_name};
use super::outcome::Outcome;
use super::{exemplar, histogram};

/// Bytes of a row in its batch beside labels and histogram, with what is kept about it here.
const ROW_BYTES: usize = 80;
/// Between two samples of `target_info` there are points no further apart than this: half of PromQL's lookback, so that
/// a join finds it wherever it finds a point.
const TARGET_INFO_STEP_MS: i64 = 150_000;
/// Stands for the point of rows that belong to none.
const NO_POINT: u32 = u32::MAX;

/// The rows of one request in the making.
pub(super) struct Translation<'c> {
    config: &'c OtlpConfig,
    labels: SeriesLabels<'c>,
    pub(super) batch: SampleBatch,
    /// The point each row belongs to.
    row_points: Vec<u32>,
    /// Points that have rows, and the metric of each run of them.
    points: u32,
    metrics: Vec<(u32, String)>,
    metadata: HashSet<(String, Metadata)>,
    /// Times of accepted points of the current resource.
    times: Vec<i64>,
    target_infos: HashSet<(Labels, i64)>,
    outcome: Outcome,
    meter: Meter,
}

/// A point's times in milliseconds; a start of 0 is unset.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) time_ms: i64,
    start_ms: i64,
}

impl Times {
    fn of(start_ns: u64, time_ns: u64) -> Result<Times, Reason> {
        if time_ns == 0 {
            return Err(Reason::MissingTime);
        }
        // A start behind the point's own time says nothing.
        let start_ms = if start_ns <= time_ns { millis(start_ns) } else { 0 };
        Ok(Times { time_ms: millis(time_ns), start_ms })
    }
}

pub(super) fn millis(unix_nano: u64) -> i64 {
    (unix_nano / 1_000_000) as i64
}

/// Why a point has no rows: it alone is refused, or the whole request.
enum Stop {
    Point(Reason),
    Request(ExportError),
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Stop {
        Stop::Point(reason)
    }
}

impl From<ExportError> for Stop {
    fn from(error: ExportError) -> Stop {
        Stop::Request(error)
    }
}

impl<'c> Translation<'c> {
    pub(super) fn new(
        config: &'c OtlpConfig,
        budget: &Budget,
        unfolded_bytes_max: usize,
    ) -> Result<Translation<'c>, BudgetExceeded> {
        Ok(Translation {
            config,
            labels: SeriesLabels::new(config),
            batch: SampleBatch::new(),
            row_points: Vec::new(),
            points: 0,
            metrics: Vec::new(),
            metadata: HashSet::new(),
            times: Vec::new(),
            target_infos: HashSet::new(),
            outcome: Outcome::default(),
            meter: Meter::new(budget, unfolded_bytes_max)?,
        })
    }

    /// Goes on with the metrics of `resource`.
    pub(super) fn begin_resource(&mut self, resource: &Resource) {
        self.labels.set_resource(resource);
        self.times.clear();
    }

    /// Adds what the resource has to say of itself.
    pub(super) fn end_resource(&mut self, resource: &Resource) -> Result<(), ExportError> {
        let mut times = std::mem::take(&mut self.times);
        times.sort_unstable();
        times.dedup();
        let Some(labels) = self.labels.target_info(resource).filter(|_| !times.is_empty()) else { return Ok(()) };
        let owned = labels.to_labels();
        self.meter.take(owned.as_ref().packed().len())?;
        let series = self.batch.keep(owned.as_ref());
        let mut last: Option<i64> = None;
        for (at, &time_ms) in times.iter().enumerate() {
            let next = times.get(at + 1);
            if let (Some(last), Some(next)) = (last, next)
                && next - last <= TARGET_INFO_STEP_MS
            {
                continue;
            }
            last = Some(time_ms);
            // One target may stand in a request several times.
            if self.target_infos.insert((owned.clone(), time_ms)) {
                self.meter.take(ROW_BYTES)?;
                self.batch.push_float(series, time_ms, 1.0);
                self.row_points.push(NO_POINT);
            }
        }
        let help = "Target metadata".to_owned();
        self.add_metadata(
            "target_info".to_owned(),
            Metadata { family_type: FamilyType::Info, unit: String::new(), help },
        )?;
        self.times = times;
        Ok(())
    }

    /// Goes on with the metrics of `scope`.
    pub(super) fn begin_scope(&mut self, scope: &Scope, schema_url: &str) {
        self.labels.set_scope(scope, schema_url);
    }

    /// Counts the points of a metric that could not be read.
    pub(super) fn refuse(&mut self, reason: Reason, points: u64, metric: &str) {
        self.outcome.refuse(reason, points, metric);
    }

    /// Adds the rows of a metric. `Err` means the request is too large.
    pub(super) fn metric(&mut self, metric: &Metric) -> Result<(), ExportError> {
        let kind = match (&metric.sum, &metric.gauge) {
            (Some(sum), _) if sum.is_monotonic => NameKind::Counter,
            (None, Some(_)) => NameKind::Gauge,
            _ => NameKind::Other,
        };
        let strategy = self.config.translation_strategy;
        let family = metric_name(&metric.name, &metric.unit, kind, strategy).map_err(|_| Reason::InvalidName);
        let name = family.as_deref().map_err(|reason| *reason);
        self.metrics.push((self.points, metric.name.clone()));
        self.meter.take(metric.name.len() + size_of::<(u32, String)>())?;
        let before = self.points;
        let family_type = if let Some(sum) = &metric.sum {
            let name = name.and_then(|name| cumulative(sum.aggregation_temporality, name));
            self.all(&metric.name, &sum.data_points, name, Self::number)?;
            if sum.is_monotonic { FamilyType::Counter } else { FamilyType::Gauge }
        } else if let Some(gauge) = &metric.gauge {
            self.all(&metric.name, &gauge.data_points, name, Self::number)?;
            FamilyType::Gauge
        } else if let Some(data) = &metric.histogram {
            let name = name.and_then(|name| cumulative(data.aggregation_temporality, name));
            self.all(&metric.name, &data.data_points, name, Self::histogram)?;
            FamilyType::Histogram
        } else if let Some(data) = &metric.exponential_histogram {
            let name = name.and_then(|name| cumulative(data.aggregation_temporality, name));
            self.all(&metric.name, &data.data_points, name, Self::exponential)?;
            FamilyType::Histogram
        } else if let Some(summary) = &metric.summary {
            self.all(&metric.name, &summary.data_points, name, Self::summary)?;
            FamilyType::Summary
        } else {
            self.outcome.refuse(Reason::UnknownData, 0, &metric.name);
            return Ok(());
        };
        match family {
            Ok(family) if self.points > before => {
                let unit = unit_name(&metric.unit, strategy);
                self.add_metadata(family, Metadata { family_type, unit, help: metric.description.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Adds the rows of points, or refuses all of them where there is no `name`.
    fn all<P>(
        &mut self,
        metric: &str,
        points: &[P],
        name: Result<&str, Reason>,
        mut one: impl FnMut(&mut Self, &str, &P) -> Result<i64, Stop>,
    ) -> Result<(), ExportError> {
        let name = match name {
            Ok(name) => name,
            Err(reason) => {
                if !points.is_empty() {
                    self.outcome.refuse(reason, points.len() as u64, metric);
                }
                return Ok(());
            }
        };
        for point in points {
            match one(self, name, point) {
                Ok(time_ms) => {
                    self.points += 1;
                    if self.times.last() != Some(&time_ms) {
                        self.times.push(time_ms);
                    }
                }
                Err(Stop::Point(reason)) => self.outcome.refuse(reason, 1, metric),
                Err(Stop::Request(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn number(&mut self, name: &str, point: &NumberPoint) -> Result<i64, Stop> {
        let times = Times::of(point.start_time_unix_nano, point.time_unix_nano)?;
        let value = match (point.as_double, point.as_int) {
            _ if point.flags & NO_RECORDED_VALUE != 0 => stale_nan(),
            (Some(value), _) => value,
            (None, Some(value)) => value as f64,
            (None, None) => return Err(Reason::MissingValue.into()),
        };
        self.labels.set_point(&point.attributes)?;
        let series = self.float(name, None, times, value)?;
        for exemplar in &point.exemplars {
            self.exemplar(series, exemplar, times)?;
        }
        Ok(times.time_ms)
    }

    fn histogram(&mut self, name: &str, point: &HistogramPoint) -> Result<i64, Stop> {
        let times = Times::of(point.start_time_unix_nano, point.time_unix_nano)?;
        histogram::check_bounds(point)?;
        self.labels.set_point(&point.attributes)?;
        let stale = point.flags & NO_RECORDED_VALUE != 0;
        self.min_max(name, point.min.filter(|_| !stale), point.max.filter(|_| !stale), times)?;
        if self.config.convert_histograms_to_nhcb {
            self.native(name, histogram::custom_buckets(point), &point.exemplars, times)?;
            return Ok(times.time_ms);
        }
        let or_stale = |value: f64| if stale { stale_nan() } else { value };
        if stale || point.sum.is_some() {
            self.float(&format!("{name}_sum"), None, times, or_stale(point.sum.unwrap_or(0.0)))?;
        }
        self.float(&format!("{name}_count"), None, times, or_stale(point.count as f64))?;
        let name = format!("{name}_bucket");
        let mut buckets: Vec<(f64, BatchSeries)> = Vec::new();
        for (bound, count) in histogram::cumulative(point) {
            let mut le = String::new();
            write_float_plain(&mut le, bound);
            buckets.push((bound, self.float(&name, Some(("le", &le)), times, or_stale(count))?));
        }
        for exemplar in &point.exemplars {
            let bucket = exemplar::value(exemplar).and_then(|value| buckets.iter().find(|(bound, _)| value <= *bound));
            match bucket {
                Some(&(_, series)) => self.exemplar(series, exemplar, times)?,
                // Without a value, or with NaN, which is in no bucket.
                None => self.outcome.exemplars_refused += 1,
            }
        }
        Ok(times.time_ms)
    }

    fn exponential(&mut self, name: &str, point: &ExponentialPoint) -> Result<i64, Stop> {
        let times = Times::of(point.start_time_unix_nano, point.time_unix_nano)?;
        let native = histogram::native(point)?;
        self.labels.set_point(&point.attributes)?;
        let stale = point.flags & NO_RECORDED_VALUE != 0;
        self.min_max(name, point.min.filter(|_| !stale), point.max.filter(|_| !stale), times)?;
        self.native(name, native, &point.exemplars, times)?;
        Ok(times.time_ms)
    }

    fn summary(&mut self, name: &str, point: &SummaryPoint) -> Result<i64, Stop> {
        let times = Times::of(point.start_time_unix_nano, point.time_unix_nano)?;
        self.labels.set_point(&point.attributes)?;
        let or_stale = |value| if point.flags & NO_RECORDED_VALUE != 0 { stale_nan() } else { value };
        self.float(&format!("{name}_sum"), None, times, or_stale(point.sum))?;
        self.float(&format!("{name}_count"), None, times, or_stale(point.count as f64))?;
        for quantile in &point.quantile_values {
            let mut label = String::new();
            write_float_plain(&mut label, quantile.quantile);
            self.float(name, Some(("quantile", &label)), times, or_stale(quantile.value))?;
        }
        Ok(times.time_ms)
    }

    fn min_max(&mut self, name: &str, min: Option<f64>, max: Option<f64>, times: Times) -> Result<(), ExportError> {
        for (suffix, value) in [("min", min), ("max", max)] {
            if let Some(value) = value.filter(|_| self.config.keep_min_max) {
                let name = format!("{name}_{suffix}");
                self.float(&name, None, Times { start_ms: 0, ..times }, value)?;
                let metadata = Metadata { family_type: FamilyType::Gauge, ..Metadata::default() };
                self.add_metadata(name, metadata)?;
            }
        }
        Ok(())
    }

    /// Adds a native histogram, or a staleness marker where there is none.
    fn native(
        &mut self,
        name: &str,
        value: Option<NativeHistogram>,
        exemplars: &[Exemplar],
        times: Times,
    ) -> Result<(), ExportError> {
        let series = keep(&mut self.batch, &mut self.meter, self.labels.series(name, None))?;
        self.meter.take(value.as_ref().map_or(0, NativeHistogram::bytes))?;
        match value {
            Some(value) => self.batch.push_histogram(series, times.time_ms, value),
            None => self.batch.push_stale(series, times.time_ms),
        }
        self.batch.set_start(times.start_ms);
        self.row_points.push(self.points);
        for exemplar in exemplars {
            self.exemplar(series, exemplar, times)?;
        }
        Ok(())
    }

    fn float(
        &mut self,
        name: &str,
        extra: Option<(&str, &str)>,
        times: Times,
        value: f64,
    ) -> Result<BatchSeries, ExportError> {
        let series = keep(&mut self.batch, &mut self.meter, self.labels.series(name, extra))?;
        self.batch.push_float(series, times.time_ms, value);
        self.batch.set_start(times.start_ms);
        self.row_points.push(self.points);
        Ok(series)
    }

    fn exemplar(&mut self, series: BatchSeries, sent: &Exemplar, times: Times) -> Result<(), ExportError> {
        match exemplar::translate(sent, times.time_ms, |key| self.labels.label_name(key)) {
            Some(exemplar) => {
                self.meter.take(size_of_val(&exemplar) + exemplar.labels.as_ref().packed().len())?;
                self.batch.push_exemplar(series, exemplar);
            }
            None => self.outcome.exemplars_refused += 1,
        }
        Ok(())
    }

    fn add_metadata(&mut self, family: String, metadata: Metadata) -> Result<(), ExportError> {
        if !self.metadata.contains(&(family.clone(), metadata.clone())) {
            let text = family.len() + metadata.unit.len() + metadata.help.len();
            self.meter.take(2 * (size_of::<(String, Metadata)>() + text))?;
            self.batch.push_metadata(family.clone(), metadata.clone());
            self.metadata.insert((family, metadata));
        }
        Ok(())
    }

    /// What became of the points, now that the engine has answered for the batch.
    pub(super) fn finish(mut self, report: &AppendReport) -> Outcome {
        let mut refused = 0;
        let mut last = NO_POINT;
        // Rows of a point are neighbours, and the report is in row order.
        for &(row, reason) in &report.rejected {
            let point = self.row_points[row];
            if point != NO_POINT && point != last {
                last = point;
                refused += 1;
                let metric = self.metrics.partition_point(|(first, _)| *first <= point).checked_sub(1);
                let name = metric.map_or("", |at| self.metrics[at].1.as_str());
                self.outcome.refuse(Reason::Row(reason), 1, name);
            }
        }
        self.outcome.exemplars_refused += report.rejected_exemplars.len() as u64;
        self.outcome.written = u64::from(self.points) - refused;
        self.outcome
    }
}

fn keep(batch: &mut SampleBatch, meter: &mut Meter, labels: LabelsRef<'_>) -> Result<BatchSeries, ExportError> {
    meter.take(labels.packed().len() + ROW_BYTES)?;
    Ok(batch.keep(labels))
}

/// Lets only names of metrics pass that count since a start.
fn cumulative(temporality: i32, name: &str) -> Result<&str, Reason> {
    match temporality {
        CUMULATIVE => Ok(name),
        DELTA => Err(Reason::DeltaTemporality),
        _ => Err(Reason::UnspecifiedTemporality),
    }
}
