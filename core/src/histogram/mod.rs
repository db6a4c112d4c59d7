//! Native histograms: one sample that is a whole distribution.
//!
//! The model is Prometheus' (exponential schemas −4..=8, custom bounds as schema −53). Bucket counts are kept
//! absolute, not as deltas, and as integers or floats, whichever the sender used; the kind survives
//! storage by bits. Arithmetic that query, rollups and increments share lives here.

mod arithmetic;
mod bounds;
mod bucket;
mod layout;
mod nhcb;
mod quantile;
mod reset;
mod schema;
#[cfg(test)]
mod tests;
mod text;
mod trim;

use std::sync::Arc;

pub use arithmetic::{HistogramSum, MergeNotes, MixedBuckets};
pub use bucket::{AllBuckets, Bucket, SideBuckets};
pub use nhcb::{ClassicError, ClassicHistogram, ClassicPart};
pub use quantile::NanEffect;
pub use schema::{SchemaError, coarser_index, exponential_bound, exponential_index, is_exponential};
pub use text::TestNotation;
pub use trim::Keep;

/// The schema of histograms with custom bucket bounds (NHCB).
pub const CUSTOM_BUCKETS_SCHEMA: i8 = -53;
/// The coarsest exponential schema.
pub const SCHEMA_MIN: i8 = -4;
/// The finest exponential schema.
pub const SCHEMA_MAX: i8 = 8;
/// Bits of the one NaN that marks a series as gone. Compare by bits, never with `is_nan`.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;
/// Bits of the NaN that computed results use.
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// The staleness marker as a value.
#[must_use]
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `value` is the staleness marker.
#[must_use]
pub fn is_stale_nan(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// What a histogram says of its relation to the sample before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum ResetHint {
    /// Must be found out by comparison.
    #[default]
    Unknown = 0,
    /// The counter was reset here.
    Reset = 1,
    /// There was no reset.
    NotReset = 2,
    /// Not a counter.
    Gauge = 3,
}

impl ResetHint {
    /// From the number used on disk and in remote write.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<ResetHint> {
        Some(match number {
            0 => ResetHint::Unknown,
            1 => ResetHint::Reset,
            2 => ResetHint::NotReset,
            3 => ResetHint::Gauge,
            _ => return None,
        })
    }
}

/// A run of neighbouring buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BucketSpan {
    /// Gap to the end of the previous span; for the first span the index of its first bucket.
    pub offset: i32,
    /// Number of buckets.
    pub len: u32,
}

/// Counts of one kind; lengths of the vectors equal the sums of the span lengths.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BucketCounts<T> {
    /// Observations in the zero bucket.
    pub zero: T,
    /// All observations, including NaN.
    pub count: T,
    /// Observations per positive bucket, absolute.
    pub positive: Vec<T>,
    /// Observations per negative bucket, absolute.
    pub negative: Vec<T>,
}

/// Integer or float counts.
#[derive(Debug, Clone, PartialEq)]
pub enum HistogramCounts {
    /// As most senders have them.
    Integer(BucketCounts<u64>),
    /// Results of arithmetic, and gauge histograms.
    Float(BucketCounts<f64>),
}

impl HistogramCounts {
    /// All observations.
    #[must_use]
    pub fn count(&self) -> f64 {
        match self {
            HistogramCounts::Integer(c) => c.count as f64,
            HistogramCounts::Float(c) => c.count,
        }
    }

    /// Observations in the zero bucket.
    #[must_use]
    pub fn zero(&self) -> f64 {
        match self {
            HistogramCounts::Integer(c) => c.zero as f64,
            HistogramCounts::Float(c) => c.zero,
        }
    }

    fn lens(&self) -> (usize, usize) {
        match self {
            HistogramCounts::Integer(c) => (c.positive.len(), c.negative.len()),
            HistogramCounts::Float(c) => (c.positive.len(), c.negative.len()),
        }
    }
}

/// One histogram sample.
#[derive(Debug, Clone)]
pub struct NativeHistogram {
    /// Resolution: bucket bounds are powers of 2^(2^−schema); −53 for custom bounds.
    pub schema: i8,
    /// Relation to the sample before.
    pub hint: ResetHint,
    /// Half width of the zero bucket.
    pub zero_threshold: f64,
    /// Counts, absolute.
    pub counts: HistogramCounts,
    /// Sum of observations; the stale NaN makes the sample a staleness marker.
    pub sum: f64,
    /// Which positive buckets there are; for custom bounds, which of the bounds' buckets.
    pub positive_spans: Vec<BucketSpan>,
    /// Which negative buckets there are.
    pub negative_spans: Vec<BucketSpan>,
    /// Upper bounds for schema −53, rising, without the final +Inf; else empty.
    pub custom_values: Arc<[f64]>,
}

/// By bits, so that one NaN equals itself; see [`NativeHistogram::same_bits`].
impl PartialEq for NativeHistogram {
    fn eq(&self, other: &NativeHistogram) -> bool {
        self.same_bits(other)
    }
}

/// Nothing counted, at schema 0.
impl Default for NativeHistogram {
    fn default() -> NativeHistogram {
        NativeHistogram {
            schema: 0,
            hint: ResetHint::Unknown,
            zero_threshold: 0.0,
            counts: HistogramCounts::Integer(BucketCounts::default()),
            sum: 0.0,
            positive_spans: Vec::new(),
            negative_spans: Vec::new(),
            custom_values: Arc::new([]),
        }
    }
}

/// Why a histogram is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum HistogramError {
    /// The schema is not one of −4..=8 or −53.
    #[error("schema {schema} is not supported")]
    Schema {
        /// The schema sent.
        schema: i8,
    },
    /// Spans and counts disagree.
    #[error("spans name {spans} buckets but {counts} counts are given")]
    SpanLength {
        /// Buckets named by spans.
        spans: u64,
        /// Counts given.
        counts: u64,
    },
    /// A span after the first goes backwards.
    #[error("a span has a negative offset")]
    SpanOffset,
    /// A bucket count is negative, NaN or infinite where it may not be.
    #[error("a bucket has a negative count")]
    NegativeCount,
    /// The total is smaller than the buckets' sum.
    #[error("the count is below the sum of the buckets")]
    CountMismatch,
    /// The zero threshold is negative, infinite or NaN.
    #[error("the zero threshold is not a finite number of at least 0")]
    ZeroThreshold,
    /// Custom bounds do not rise, are NaN, or stand on an exponential schema.
    #[error("custom bounds must rise, be finite, and belong to schema -53")]
    CustomBounds,
    /// A custom-bounds histogram has a zero bucket or negative buckets, or too many buckets.
    #[error("a histogram with custom bounds has buckets outside its bounds")]
    CustomBuckets,
}

impl NativeHistogram {
    /// Whether this sample is a staleness marker.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        is_stale_nan(self.sum)
    }

    /// Whether bounds are custom.
    #[must_use]
    pub fn has_custom_bounds(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// All observations.
    #[must_use]
    pub fn count(&self) -> f64 {
        self.counts.count()
    }

    /// Equality by bits of every field: what *identical* means for a retried sample.
    #[must_use]
    pub fn same_bits(&self, other: &NativeHistogram) -> bool {
        fn bits(a: &[f64], b: &[f64]) -> bool {
            a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits())
        }
        let counts = match (&self.counts, &other.counts) {
            (HistogramCounts::Integer(a), HistogramCounts::Integer(b)) => a == b,
            (HistogramCounts::Float(a), HistogramCounts::Float(b)) => {
                a.zero.to_bits() == b.zero.to_bits()
                    && a.count.to_bits() == b.count.to_bits()
                    && bits(&a.positive, &b.positive)
                    && bits(&a.negative, &b.negative)
            }
            _ => false,
        };
        counts
            && self.schema == other.schema
            && self.hint == other.hint
            && self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
            && self.sum.to_bits() == other.sum.to_bits()
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
            && bits(&self.custom_values, &other.custom_values)
    }

    /// Bytes this sample takes on the heap and in itself, for budgets.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let (positive, negative) = self.counts.lens();
        size_of::<NativeHistogram>()
            + (self.positive_spans.len() + self.negative_spans.len()) * size_of::<BucketSpan>()
            + (positive + negative + self.custom_values.len()) * size_of::<u64>()
    }

    /// Checks what Prometheus checks at ingestion.
    ///
    /// # Errors
    /// The first fault found.
    pub fn validate(&self) -> Result<(), HistogramError> {
        if self.is_stale() {
            return Ok(());
        }
        let custom = self.has_custom_bounds();
        if !custom && !(SCHEMA_MIN..=SCHEMA_MAX).contains(&self.schema) {
            return Err(HistogramError::Schema { schema: self.schema });
        }
        let (positive, negative) = self.counts.lens();
        check_spans(&self.positive_spans, positive)?;
        check_spans(&self.negative_spans, negative)?;
        if custom {
            let bounds = &self.custom_values;
            if bounds.iter().any(|b| b.is_nan() || *b == f64::INFINITY) || bounds.windows(2).any(|w| w[0] >= w[1]) {
                return Err(HistogramError::CustomBounds);
            }
            let last = self.positive_spans.iter().try_fold(0i64, |end, s| {
                let start = end + i64::from(s.offset);
                (start >= 0).then_some(start + i64::from(s.len))
            });
            if negative > 0 || self.counts.zero() != 0.0 || last.is_none_or(|end| end > bounds.len() as i64 + 1) {
                return Err(HistogramError::CustomBuckets);
            }
        } else {
            if !self.custom_values.is_empty() {
                return Err(HistogramError::CustomBounds);
            }
            if !self.zero_threshold.is_finite() || self.zero_threshold < 0.0 {
                return Err(HistogramError::ZeroThreshold);
            }
        }
        match &self.counts {
            HistogramCounts::Integer(c) => {
                let sum = c.positive.iter().chain(&c.negative).try_fold(c.zero, |sum, n| sum.checked_add(*n));
                // A NaN sum means NaN observations, which are in the count but in no bucket.
                let fits = if self.sum.is_nan() { sum.is_some_and(|s| s <= c.count) } else { sum == Some(c.count) };
                if fits { Ok(()) } else { Err(HistogramError::CountMismatch) }
            }
            HistogramCounts::Float(c) => {
                let counts = || c.positive.iter().chain(&c.negative).chain([&c.zero, &c.count]);
                if counts().any(|n| *n < 0.0) { Err(HistogramError::NegativeCount) } else { Ok(()) }
            }
        }
    }
}

fn check_spans(spans: &[BucketSpan], counts: usize) -> Result<(), HistogramError> {
    if spans.iter().skip(1).any(|s| s.offset < 0) {
        return Err(HistogramError::SpanOffset);
    }
    let named: u64 = spans.iter().map(|s| u64::from(s.len)).sum();
    if named == counts as u64 {
        Ok(())
    } else {
        Err(HistogramError::SpanLength { spans: named, counts: counts as u64 })
    }
}
