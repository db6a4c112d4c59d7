//! Values as pages show them, whether read from a registry or told by others.

use kymo_core::metric::{MetricType, Quantile};
use kymo_core::registry::Reading;
use kymo_core::{Exemplar, NativeHistogram};

/// The value of a series.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    /// A whole total.
    Whole(u64),
    /// A whole level.
    WholeLevel(i64),
    /// Any other total or level.
    Float(f64),
    /// A classic histogram.
    Buckets {
        /// Rising; the last is `+Inf`.
        upper_bounds: &'a [f64],
        /// Observations in each bucket and in no earlier one.
        counts: &'a [u64],
        sum: f64,
        count: u64,
    },
    /// A native histogram.
    Native(&'a NativeHistogram),
    /// A summary.
    Quantiles { quantiles: &'a [Quantile], sum: f64, count: u64 },
}

impl<'a> From<Reading<'a>> for Value<'a> {
    fn from(reading: Reading<'a>) -> Value<'a> {
        match reading {
            // Whole totals are by far the most, and every digit of them is shown.
            Reading::Counter { whole, fraction: 0.0 } => Value::Whole(whole),
            Reading::Counter { whole, fraction } => Value::Float(whole as f64 + fraction),
            Reading::Gauge(value) => Value::Float(value),
            Reading::UpDownCounter(value) => Value::WholeLevel(value),
            Reading::Buckets { upper_bounds, counts, sum, count } => {
                Value::Buckets { upper_bounds, counts, sum, count }
            }
            Reading::Native(histogram) => Value::Native(histogram),
            Reading::Summary { quantiles, sum, count } => Value::Quantiles { quantiles, sum, count },
        }
    }
}

/// A value told by others: bounds and counts are taken apart into these.
#[derive(Debug, Default)]
pub(super) struct Told {
    upper_bounds: Vec<f64>,
    counts: Vec<u64>,
}

impl Told {
    pub(super) fn value<'a>(&'a mut self, value: &'a MetricType) -> Value<'a> {
        match value {
            MetricType::Counter { value, .. } | MetricType::Gauge { value } => Value::Float(*value),
            MetricType::Histogram { buckets, sum, count, .. } => {
                self.upper_bounds.clear();
                self.counts.clear();
                let mut below = 0;
                for bucket in buckets {
                    self.upper_bounds.push(bucket.upper_bound);
                    self.counts.push(bucket.cumulative_count.saturating_sub(below));
                    below = bucket.cumulative_count;
                }
                let Told { upper_bounds, counts } = self;
                Value::Buckets { upper_bounds, counts, sum: *sum, count: *count }
            }
            MetricType::NativeHistogram { histogram, .. } => Value::Native(histogram),
            MetricType::Summary { quantiles, sum, count } => Value::Quantiles { quantiles, sum: *sum, count: *count },
        }
    }
}

/// The exemplars told with a value, oldest first.
pub(super) fn exemplars(value: &MetricType) -> &[Exemplar] {
    match value {
        MetricType::Counter { exemplars, .. }
        | MetricType::Histogram { exemplars, .. }
        | MetricType::NativeHistogram { exemplars, .. } => exemplars.as_deref().unwrap_or_default(),
        MetricType::Gauge { .. } | MetricType::Summary { .. } => &[],
    }
}
