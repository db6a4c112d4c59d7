//! A native histogram with custom buckets (NHCB) from the series of a classic histogram.

use std::sync::Arc;

use super::{BucketCounts, BucketSpan, CUSTOM_BUCKETS_SCHEMA, HistogramCounts, NativeHistogram, ResetHint};

/// Why series of a classic histogram do not make a histogram.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClassicError {
    /// A bucket's bound is NaN.
    #[error("bucket boundary must not be NaN")]
    NanBound,
    /// A bucket's count is negative.
    #[error("bucket count must be non-negative: le={le}, count={count}")]
    NegativeBucket {
        /// The bucket's bound.
        le: f64,
        /// Its count.
        count: f64,
    },
    /// The count of all observations is negative.
    #[error("count must be non-negative: count={count}")]
    NegativeCount {
        /// The count.
        count: f64,
    },
    /// A bucket holds less than one below it.
    #[error("count is not cumulative: le={le}, count={count} < {below}")]
    NotCumulative {
        /// The bucket's bound.
        le: f64,
        /// Its count.
        count: f64,
        /// The count of the bucket below.
        below: f64,
    },
    /// There is neither a bucket nor a count.
    #[error("count must be provided when no buckets are present")]
    MissingCount,
    /// The count is not that of the last bucket.
    #[error("count mismatch: count={count} != le={le} count={last}")]
    CountMismatch {
        /// The count of all observations.
        count: f64,
        /// Bound of the last bucket.
        le: f64,
        /// Its count.
        last: f64,
    },
}

/// Which part of a classic histogram a series is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClassicPart {
    /// `_bucket`, with its bound in label `le`.
    Bucket,
    /// `_sum`
    Sum,
    /// `_count`
    Count,
}

impl ClassicPart {
    /// The part and the histogram's name; `None` for a name without such a suffix.
    #[must_use]
    pub fn of_name(name: &str) -> Option<(ClassicPart, &str)> {
        let parts = [("_bucket", ClassicPart::Bucket), ("_sum", ClassicPart::Sum), ("_count", ClassicPart::Count)];
        parts.into_iter().find_map(|(suffix, part)| Some((part, name.strip_suffix(suffix)?)))
    }
}

/// The parts of one classic histogram at one time, in any order.
#[derive(Debug, Clone, Default)]
pub struct ClassicHistogram {
    /// Bounds and cumulative counts, bounds strictly rising.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl ClassicHistogram {
    /// Notes the cumulative count of the bucket up to `le`. A bound given twice keeps its first count.
    ///
    /// # Errors
    /// [`ClassicError`] if the bound is NaN, or the count negative or not between its neighbours'.
    pub fn set_bucket(&mut self, le: f64, count: f64) -> Result<(), ClassicError> {
        if le.is_nan() {
            return Err(ClassicError::NanBound);
        }
        if count < 0.0 {
            return Err(ClassicError::NegativeBucket { le, count });
        }
        let at = self.buckets.partition_point(|(bound, _)| *bound < le);
        if self.buckets.get(at).is_some_and(|(bound, _)| *bound == le) {
            return Ok(());
        }
        if let Some(&(_, below)) = at.checked_sub(1).and_then(|before| self.buckets.get(before)) {
            if count < below {
                return Err(ClassicError::NotCumulative { le, count, below });
            }
        }
        if let Some(&(above_le, above)) = self.buckets.get(at) {
            if count > above {
                return Err(ClassicError::NotCumulative { le: above_le, count: above, below: count });
            }
        }
        self.buckets.insert(at, (le, count));
        Ok(())
    }

    /// Notes the count of all observations.
    ///
    /// # Errors
    /// [`ClassicError::NegativeCount`].
    pub fn set_count(&mut self, count: f64) -> Result<(), ClassicError> {
        if count < 0.0 {
            return Err(ClassicError::NegativeCount { count });
        }
        self.count = Some(count);
        Ok(())
    }

    /// Notes the sum of all observations.
    pub fn set_sum(&mut self, sum: f64) {
        self.sum = sum;
    }

    /// The histogram: integer counts if all of them are whole, else floats.
    ///
    /// Without a count that of the last bucket is taken; without a bucket up to +∞ the count closes the row.
    ///
    /// # Errors
    /// [`ClassicError::MissingCount`] or [`ClassicError::CountMismatch`].
    pub fn convert(mut self) -> Result<NativeHistogram, ClassicError> {
        let count = match (self.count, self.buckets.last()) {
            (Some(count), _) => count,
            (None, Some(&(_, last))) => last,
            (None, None) => return Err(ClassicError::MissingCount),
        };
        if self.buckets.last().is_none_or(|(le, _)| *le != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let bounds: Arc<[f64]> = self.buckets.iter().map(|(le, _)| *le).filter(|le| *le != f64::INFINITY).collect();
        if let Some(&(le, last)) = self.buckets.last().filter(|(_, last)| *last != count) {
            return Err(ClassicError::CountMismatch { count, le, last });
        }
        let below = std::iter::once(0.0).chain(self.buckets.iter().map(|(_, count)| *count));
        let single = self.buckets.iter().zip(below).map(|((_, count), below)| count - below);
        // Up to 2^53 whole floats are exact integers.
        let whole = |n: f64| n.fract() == 0.0 && n <= 9_007_199_254_740_992.0;
        let integer = whole(count) && self.buckets.iter().all(|(_, count)| whole(*count));
        let counts = if integer {
            let positive = single.map(|n| n as u64).collect();
            HistogramCounts::Integer(BucketCounts { count: count as u64, positive, ..BucketCounts::default() })
        } else {
            HistogramCounts::Float(BucketCounts { count, positive: single.collect(), ..BucketCounts::default() })
        };
        let len = u32::try_from(self.buckets.len()).unwrap_or(u32::MAX);
        let mut histogram = NativeHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            hint: ResetHint::Unknown,
            zero_threshold: 0.0,
            counts,
            sum: self.sum,
            positive_spans: vec![BucketSpan { offset: 0, len }],
            negative_spans: Vec::new(),
            custom_values: bounds,
        };
        histogram.compact(if integer { 2 } else { 0 });
        Ok(histogram)
    }
}
