//! One metric's value, and one point of a series, as plain data.

use serde::{Deserialize, Serialize};

use crate::batch::Exemplar;
use crate::histogram::NativeHistogram;

/// What kind of metric a value belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum MetricKind {
    /// Only rises, but for resets to zero.
    Counter = 1,
    /// Rises and falls.
    Gauge = 2,
    /// Counts observations in buckets.
    Histogram = 3,
    /// Keeps quantiles of observations.
    Summary = 4,
}

impl MetricKind {
    /// The word of the exposition formats' `TYPE` line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// A metric's value at one moment.
///
/// ```
/// use kymo_core::metric::{MetricKind, MetricType};
///
/// let counter = MetricType::Counter { value: 42.0, exemplars: None };
/// assert_eq!(counter.value(), 42.0);
/// assert_eq!(counter.kind(), MetricKind::Counter);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum MetricType {
    /// A total since its start.
    Counter {
        /// The total.
        value: f64,
        /// Traced increments, oldest first.
        exemplars: Option<Vec<Exemplar>>,
    },
    /// A level.
    Gauge {
        /// The level.
        value: f64,
    },
    /// Observations counted in buckets.
    Histogram {
        /// Buckets by rising bound; the last bound is `+Inf`.
        buckets: Vec<Bucket>,
        /// Sum of all observations.
        sum: f64,
        /// Number of all observations.
        count: u64,
        /// Traced observations, oldest first.
        exemplars: Option<Vec<Exemplar>>,
    },
    /// Observations counted in exponential buckets.
    NativeHistogram {
        /// Buckets, sum and count.
        histogram: Box<NativeHistogram>,
        /// Traced observations, oldest first.
        exemplars: Option<Vec<Exemplar>>,
    },
    /// Quantiles of observations.
    Summary {
        /// By rising quantile.
        quantiles: Vec<Quantile>,
        /// Sum of all observations.
        sum: f64,
        /// Number of all observations.
        count: u64,
    },
}

impl MetricType {
    /// The one number that stands for the metric: a histogram's or summary's is its sum.
    pub fn value(&self) -> f64 {
        match self {
            Self::Counter { value, .. } | Self::Gauge { value } => *value,
            Self::Histogram { sum, .. } | Self::Summary { sum, .. } => *sum,
            Self::NativeHistogram { histogram, .. } => histogram.sum,
        }
    }

    /// Number of observations; `None` of a counter or gauge.
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Counter { .. } | Self::Gauge { .. } => None,
            Self::Histogram { count, .. } | Self::Summary { count, .. } => Some(*count),
            Self::NativeHistogram { histogram, .. } => Some(histogram.count() as u64),
        }
    }

    /// Which kind this is.
    pub fn kind(&self) -> MetricKind {
        match self {
            Self::Counter { .. } => MetricKind::Counter,
            Self::Gauge { .. } => MetricKind::Gauge,
            Self::Histogram { .. } | Self::NativeHistogram { .. } => MetricKind::Histogram,
            Self::Summary { .. } => MetricKind::Summary,
        }
    }
}

/// One bucket of a classic histogram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Largest observation counted here (inclusive); `+Inf` for the last.
    pub upper_bound: f64,
    /// Observations at or below the bound, so counts rise from bucket to bucket.
    pub cumulative_count: u64,
}

/// One quantile of a summary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// Which, 0 to 1.
    pub quantile: f64,
    /// Its value; NaN without observations.
    pub value: f64,
}

/// Marks on a [`MetricPoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct PointFlags(u8);

impl PointFlags {
    /// The value is the series' value at its time.
    pub const NONE: Self = Self(0);
    /// The value is to be added to the series' total.
    pub const INCREMENT: Self = Self(1);

    /// Whether all marks of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for PointFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One sample on its way through a process: 32 bytes, so two share a cache line.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct MetricPoint {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The value; [`flags`](Self::flags) says how it counts.
    pub value: f64,
    /// The number of a [`SeriesRef`](crate::batch::SeriesRef). Inside a ring it is the registry's
    /// handle id, which the collector maps to one.
    pub series: u64,
    /// Kind of the metric.
    pub kind: MetricKind,
    /// Marks.
    pub flags: PointFlags,
    /// Always zero, so that the 32 bytes hold no padding.
    reserved: [u8; 6],
}

const _: () = assert!(size_of::<MetricPoint>() == 32);

impl MetricPoint {
    /// A point without marks.
    pub const fn new(series: u64, kind: MetricKind, timestamp_ms: i64, value: f64) -> Self {
        Self { timestamp_ms, value, series, kind, flags: PointFlags::NONE, reserved: [0; 6] }
    }

    /// The point as four numbers, for where it is stored piece by piece.
    pub(crate) const fn to_words(self) -> [u64; 4] {
        let marks = self.kind as u64 | (self.flags.0 as u64) << 8;
        [self.timestamp_ms as u64, self.value.to_bits(), self.series, marks]
    }

    /// The point of [`to_words`](Self::to_words).
    pub(crate) const fn from_words(words: [u64; 4]) -> Self {
        let kind = match words[3] as u8 {
            1 => MetricKind::Counter,
            3 => MetricKind::Histogram,
            4 => MetricKind::Summary,
            _ => MetricKind::Gauge,
        };
        let point = Self::new(words[2], kind, words[0] as i64, f64::from_bits(words[1]));
        point.with_flags(PointFlags((words[3] >> 8) as u8))
    }

    /// The same point with these marks.
    #[must_use]
    pub const fn with_flags(mut self, flags: PointFlags) -> Self {
        self.flags = flags;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The first two are the seed's own tests, as written there.
    #[rustfmt::skip]
    #[test]
    fn test_metric_type_counter() {
        let counter = MetricType::Counter {
            value: 42.0,
            exemplars: None
        };

        assert_eq!(counter.value(), 42.0);
        assert_eq!(counter.kind(), MetricKind::Counter);
    }

    #[expect(unused_qualifications, reason = "the seed's own text")]
    #[test]
    fn test_metric_point_size() {
        // Ensure struct is cache-line optimized
        assert_eq!(std::mem::size_of::<MetricPoint>(), 32);
    }

    #[test]
    fn value_of_a_distribution_is_its_sum() {
        let histogram = MetricType::Histogram {
            buckets: vec![Bucket { upper_bound: f64::INFINITY, cumulative_count: 2 }],
            sum: 3.5,
            count: 2,
            exemplars: None,
        };
        let summary = MetricType::Summary { quantiles: Vec::new(), sum: 1.5, count: 1 };
        assert_eq!((histogram.value(), histogram.kind().as_str()), (3.5, "histogram"));
        assert_eq!((summary.value(), summary.kind().as_str()), (1.5, "summary"));
    }

    #[test]
    fn marks_are_kept_apart_from_values() {
        let point = MetricPoint::new(7, MetricKind::Counter, 1_000, 2.0);
        assert!(!point.flags.contains(PointFlags::INCREMENT));
        let added = point.with_flags(PointFlags::NONE | PointFlags::INCREMENT);
        assert!(added.flags.contains(PointFlags::INCREMENT));
    }
}
