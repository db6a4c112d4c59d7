//! What a request of metrics says, told in its order to whoever listens: [`Visit`].
//!
//! Two drivers tell it, one per encoding ([`wire`](super::wire), [`json`](super::json)), so that what is made of a request
//! cannot differ between them. What identifies a series stays raw, as protobuf writes it: a listener that knows the bytes
//! need not look into them. A driver of another encoding writes these parts in protobuf first.
//!
//! Invariants: (1) `resource` comes before its scopes, `scope` before its metrics, `metric` before its points, and
//! each `resource` is closed by `end_resource`; (2) texts are UTF-8, raw parts are whole fields but not looked into;
//! (3) an error of the listener ends the request.

use super::error::{ExportError, Reason};

/// The field number of attributes in a number point, and the key of its tag.
pub(super) const NUMBER_ATTRIBUTES: u32 = 7;
pub(super) const HISTOGRAM_ATTRIBUTES: u32 = 9;
pub(super) const EXPONENTIAL_ATTRIBUTES: u32 = 1;
pub(super) const SUMMARY_ATTRIBUTES: u32 = 7;
/// The same of exemplars.
pub(super) const NUMBER_EXEMPLARS: u32 = 5;
pub(super) const HISTOGRAM_EXEMPLARS: u32 = 8;
pub(super) const EXPONENTIAL_EXEMPLARS: u32 = 11;

/// A listener. See the module.
pub(super) trait Visit {
    /// Goes on with the metrics of a resource, an encoded `Resource`.
    fn resource(&mut self, resource: &[u8]) -> Result<(), ExportError>;

    /// Goes on with the metrics of a scope, an encoded `InstrumentationScope`.
    fn scope(&mut self, scope: &[u8], schema_url: &str) -> Result<(), ExportError>;

    /// Goes on with the points of a metric.
    fn metric(&mut self, metric: &Metric<'_>) -> Result<(), ExportError>;

    /// The attributes that the next number point probably has; empty if nothing is expected. Only a hint: a driver compares.
    #[inline]
    fn expected(&self) -> &[u8] {
        &[]
    }

    /// A point of a gauge or sum.
    fn number(&mut self, point: &NumberPoint<'_>) -> Result<(), ExportError>;

    /// A point of a histogram with explicit bounds.
    fn histogram(&mut self, point: &HistogramPoint<'_>) -> Result<(), ExportError>;

    /// A point of an exponential histogram.
    fn exponential(&mut self, point: &ExponentialPoint<'_>) -> Result<(), ExportError>;

    /// A point of a summary.
    fn summary(&mut self, point: &SummaryPoint<'_>) -> Result<(), ExportError>;

    /// The metric has no more points.
    fn end_metric(&mut self) -> Result<(), ExportError>;

    /// A metric that cannot be read has so many points.
    fn refuse(&mut self, reason: Reason, points: u64, metric: &str);

    /// The resource has no more metrics.
    fn end_resource(&mut self) -> Result<(), ExportError>;
}

/// What a metric says of all its points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Metric<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    pub(super) unit: &'a str,
    pub(super) data: Data,
}

/// The kind of a metric's data. Temporalities are as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    Gauge,
    Sum {
        temporality: i32,
        is_monotonic: bool,
    },
    Histogram {
        temporality: i32,
    },
    Exponential {
        temporality: i32,
    },
    Summary,
    /// None that is known.
    Unknown,
}

/// Times are in nanoseconds since the Unix epoch, 0 = unset.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct NumberPoint<'a> {
    pub(super) start_ns: u64,
    pub(super) time_ns: u64,
    pub(super) value: Option<f64>,
    pub(super) flags: u32,
    /// Whole fields numbered [`NUMBER_ATTRIBUTES`].
    pub(super) attributes: &'a [u8],
    /// Whether the attributes are what [`Visit::expected`] said.
    pub(super) is_expected: bool,
    /// Whole fields numbered [`NUMBER_EXEMPLARS`].
    pub(super) exemplars: &'a [u8],
}

/// As [`NumberPoint`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct HistogramPoint<'a> {
    pub(super) start_ns: u64,
    pub(super) time_ns: u64,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) bucket_counts: &'a [u64],
    pub(super) explicit_bounds: &'a [f64],
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) flags: u32,
    pub(super) attributes: &'a [u8],
    pub(super) exemplars: &'a [u8],
}

/// As [`NumberPoint`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct ExponentialPoint<'a> {
    pub(super) start_ns: u64,
    pub(super) time_ns: u64,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    pub(super) positive: Buckets<'a>,
    pub(super) negative: Buckets<'a>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) flags: u32,
    pub(super) attributes: &'a [u8],
    pub(super) exemplars: &'a [u8],
}

/// Neighbouring buckets; `offset` numbers the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Buckets<'a> {
    pub(super) offset: i32,
    pub(super) counts: &'a [u64],
}

/// As [`NumberPoint`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct SummaryPoint<'a> {
    pub(super) start_ns: u64,
    pub(super) time_ns: u64,
    pub(super) count: u64,
    pub(super) sum: f64,
    /// Quantile and value.
    pub(super) quantiles: &'a [(f64, f64)],
    pub(super) flags: u32,
    pub(super) attributes: &'a [u8],
}
