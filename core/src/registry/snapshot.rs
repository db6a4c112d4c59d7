//! What a registry holds at one moment, as plain data.

use std::sync::Arc;

use super::view::{FamilyView, Reading, SeriesView, Visit};
use crate::metric::{Bucket, MetricKind, MetricType};

/// A family with its series.
#[derive(Debug, Clone, PartialEq)]
pub struct FamilySnapshot {
    /// Name of the family.
    pub name: String,
    /// Its kind.
    pub kind: MetricKind,
    /// Its unit, empty for none.
    pub unit: String,
    /// What it means, empty if nobody said.
    pub help: String,
    /// Sorted by labels.
    pub series: Vec<SeriesSnapshot>,
}

/// One series with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesSnapshot {
    /// Sorted by name; without the metric's name, without empty values.
    pub labels: Arc<[(String, String)]>,
    /// The value.
    pub value: MetricType,
    /// When the series was made, in milliseconds since the Unix epoch; `None` where that is not known.
    pub created_ms: Option<i64>,
}

/// Copies all it sees.
#[derive(Debug, Default)]
pub(super) struct Copier(pub(super) Vec<FamilySnapshot>);

impl Visit for Copier {
    fn family(&mut self, family: &FamilyView<'_>) {
        self.0.push(FamilySnapshot {
            name: family.name.to_owned(),
            kind: family.kind,
            unit: family.unit.to_owned(),
            help: family.help.to_owned(),
            series: Vec::with_capacity(family.len),
        });
    }

    fn series(&mut self, series: &SeriesView<'_>) {
        if let Some(family) = self.0.last_mut() {
            family.series.push(SeriesSnapshot {
                labels: series.labels().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                value: value_of(series),
                created_ms: Some(series.created_ms),
            });
        }
    }
}

fn value_of(series: &SeriesView<'_>) -> MetricType {
    match series.reading {
        Reading::Counter { whole, fraction } => {
            MetricType::Counter { value: whole as f64 + fraction, exemplars: series.exemplars() }
        }
        Reading::Gauge(value) => MetricType::Gauge { value },
        Reading::UpDownCounter(value) => MetricType::Gauge { value: value as f64 },
        Reading::Buckets { upper_bounds, counts, sum, count } => {
            let mut cumulative_count = 0;
            let bucket = |(&upper_bound, count): (&f64, &u64)| {
                cumulative_count += count;
                Bucket { upper_bound, cumulative_count }
            };
            let buckets = upper_bounds.iter().zip(counts).map(bucket).collect();
            MetricType::Histogram { buckets, sum, count, exemplars: series.exemplars() }
        }
        Reading::Native(histogram) => {
            MetricType::NativeHistogram { histogram: Box::new(histogram.clone()), exemplars: series.exemplars() }
        }
        Reading::Summary { quantiles, sum, count } => MetricType::Summary { quantiles: quantiles.to_vec(), sum, count },
    }
}
