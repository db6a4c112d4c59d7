//! Evaluation through the engine's door.

use std::sync::Arc;

use kymo_core::query::{EngineOptions, Grid, PointValue, QueryError, QueryValue};
use kymo_core::{Labels, MemoryStorage, MetricStorage, QueryBackend, QueryContext, QueryRequest, SampleBatch};

use crate::{Engine, EngineConfig};

/// An engine over counters and gauges of two jobs, sampled every 15 s from 0.
fn engine() -> Engine {
    let storage = MemoryStorage::default();
    let mut batch = SampleBatch::new();
    for (n, (job, instance)) in [("api", "a"), ("api", "b"), ("web", "a")].into_iter().enumerate() {
        for i in 0..80i64 {
            let pairs = |name: &'static str| [("__name__", name), ("job", job), ("instance", instance)];
            batch.push_float(&Labels::from_pairs(pairs("requests_total")), i * 15_000, (i * (n as i64 + 1)) as f64);
            batch.push_float(&Labels::from_pairs(pairs("load")), i * 15_000, ((i * 7 + n as i64) % 11) as f64);
        }
    }
    storage.append(&batch).unwrap();
    let config = EngineConfig { options: EngineOptions::all(), ..EngineConfig::default() };
    Engine::with_config(Arc::new(storage), config)
}

fn ask(text: &str, grid: Grid) -> Result<QueryValue, QueryError> {
    engine().query(&QueryRequest::new(text, grid), &QueryContext::unlimited()).map(|r| r.value)
}

/// Series of an answer as `labels → points`, one per line.
fn shown(value: &QueryValue) -> Vec<String> {
    match value {
        QueryValue::Scalar { value, .. } => vec![value.to_string()],
        QueryValue::String { value, .. } => vec![value.clone()],
        QueryValue::Vector(series) | QueryValue::Matrix(series) => series
            .iter()
            .map(|s| {
                let points = s.points().map(|(_, v)| match v {
                    PointValue::Float(f) => f.to_string(),
                    PointValue::Histogram(_) => "histogram".to_owned(),
                });
                format!("{} {}", s.labels, points.collect::<Vec<_>>().join(" "))
            })
            .collect(),
    }
}

const AT: Grid = Grid::Instant { at_ms: 600_000 };

#[test]
fn a_rate_is_summed_by_label() {
    let value = ask("round(sum by (job) (rate(requests_total[1m])), 0.001)", AT).unwrap();
    assert_eq!(shown(&value), ["{job=\"api\"} 0.2", "{job=\"web\"} 0.2"]);
}
