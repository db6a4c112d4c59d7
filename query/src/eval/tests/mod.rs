//! Evaluation through the engine's door.

mod alike;
mod extended;
mod families;
mod hostile;
mod limits;
mod on_the_way;
mod rolled;
mod shared;
mod starts;
pub(crate) mod steps;
mod threads;
mod watched;

use std::sync::Arc;

use kymo_core::query::{EngineOptions, Grid, PointValue, QueryError, QueryResult, QueryValue, ResultSeries};
use kymo_core::{Labels, MemoryStorage, MetricStorage, QueryBackend, QueryContext, QueryRequest};

use crate::promqltest::{SeriesValue, parse_series};
use crate::{Engine, EngineConfig};

/// A storage with series in the notation of test scripts, one sample every `step_ms` from 0.
pub(crate) fn storage(step_ms: i64, series: &str) -> Arc<MemoryStorage> {
    let storage = MemoryStorage::default();
    let mut batch = kymo_core::SampleBatch::new();
    for line in series.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (labels, values) = parse_series(line).unwrap();
        for (at, value) in values.into_iter().enumerate() {
            let time_ms = at as i64 * step_ms;
            match value {
                SeriesValue::Omitted => {}
                SeriesValue::Float(value) => batch.push_float(&labels, time_ms, value),
                SeriesValue::Histogram { value, .. } => batch.push_histogram(&labels, time_ms, *value),
            }
        }
    }
    assert_eq!(storage.append(&batch).unwrap().rejected, []);
    Arc::new(storage)
}

/// Every feature on; names removed at once or at the end.
fn options(delayed_name_removal: bool) -> EngineOptions {
    let mut options = EngineOptions::all();
    options.delayed_name_removal = delayed_name_removal;
    options
}

fn engine(storage: Arc<dyn MetricStorage>, options: EngineOptions) -> Engine {
    Engine::with_config(storage, EngineConfig { options, ..EngineConfig::default() })
}

/// On one thread, for what is held: that of helpers depends on when they come.
fn alone(storage: Arc<dyn MetricStorage>, options: EngineOptions) -> Engine {
    Engine::with_config(storage, EngineConfig { options, threads: 1, ..EngineConfig::default() })
}

fn ask(engine: &Engine, text: &str, grid: Grid) -> Result<QueryResult, QueryError> {
    engine.query(&QueryRequest::new(text, grid), &QueryContext::unlimited())
}

/// An answer as text: `labels points`, one series per line; `_` where a step has no point.
fn shown(value: &QueryValue) -> Vec<String> {
    match value {
        QueryValue::Scalar { value, .. } => vec![value.to_string()],
        QueryValue::String { value, .. } => vec![value.clone()],
        QueryValue::Vector(series) | QueryValue::Matrix(series) => series.iter().map(line).collect(),
    }
}

fn line(series: &ResultSeries) -> String {
    let points = series.points().map(|(_, value)| match value {
        PointValue::Float(value) => value.to_string(),
        PointValue::Histogram(histogram) => histogram.to_string(),
    });
    format!("{} {}", series.labels, points.collect::<Vec<_>>().join(" "))
}

/// Labels and values at one time, in an order of their own.
fn points_at(value: &QueryValue, time_ms: i64) -> Vec<(Labels, String)> {
    let (QueryValue::Vector(series) | QueryValue::Matrix(series)) = value else {
        return match value {
            QueryValue::Scalar { value, .. } => vec![(Labels::empty(), format!("{:?}", canonical(*value)))],
            _ => Vec::new(),
        };
    };
    let mut found: Vec<(Labels, String)> = series
        .iter()
        .filter_map(|series| {
            let (_, value) = series.points().find(|(time, _)| *time == time_ms)?;
            let text = match value {
                PointValue::Float(value) => format!("{:?}", canonical(value)),
                PointValue::Histogram(histogram) => histogram.to_string(),
            };
            Some((series.labels.clone(), text))
        })
        .collect();
    found.sort();
    found
}

/// One NaN for all.
fn canonical(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}
