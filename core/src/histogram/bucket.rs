//! Buckets with their bounds, in order, from either end.

use std::fmt;
use std::iter::FusedIterator;

use super::layout::Indices;
use super::schema::exponential_bound;
use super::{HistogramCounts, NativeHistogram};
use crate::text::FloatText;

/// One bucket of a native histogram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Lower bound; −∞ below the first custom bound.
    pub lower: f64,
    /// Upper bound; +∞ above the last custom bound.
    pub upper: f64,
    /// Whether an observation equal to `lower` is in it.
    pub lower_inclusive: bool,
    /// Whether an observation equal to `upper` is in it.
    pub upper_inclusive: bool,
    /// Observations; below 0 only in intermediate results.
    pub count: f64,
    /// Its number in the schema, on its side of zero; 0 for the zero bucket.
    pub index: i32,
}

/// `[lower,upper]:count`, with a round bracket where the bound is not included.
impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        let number = |value| FloatText::general(value);
        write!(
            f,
            "{open}{},{}{close}:{}",
            number(self.lower).as_str(),
            number(self.upper).as_str(),
            number(self.count).as_str()
        )
    }
}

/// Bucket counts of one side, of either kind, as floats.
#[derive(Debug, Clone, Copy)]
pub(super) enum SideCounts<'a> {
    Integer(&'a [u64]),
    Float(&'a [f64]),
}

impl SideCounts<'_> {
    pub(super) fn len(self) -> usize {
        match self {
            SideCounts::Integer(counts) => counts.len(),
            SideCounts::Float(counts) => counts.len(),
        }
    }

    pub(super) fn get(self, at: usize) -> f64 {
        match self {
            SideCounts::Integer(counts) => counts.get(at).map_or(0.0, |&n| n as f64),
            SideCounts::Float(counts) => counts.get(at).copied().unwrap_or(0.0),
        }
    }
}

/// Which side of zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Positive,
    Negative,
}

/// Buckets of one side, from zero outwards; reversed towards zero.
#[derive(Debug, Clone)]
pub struct SideBuckets<'a> {
    indices: Indices<'a>,
    counts: SideCounts<'a>,
    /// Positions in `counts` of the next bucket from the front, and one past that from the back.
    front: usize,
    back: usize,
    side: Side,
    schema: i8,
    /// Custom bounds; `None` for an exponential schema.
    bounds: Option<&'a [f64]>,
}

impl SideBuckets<'_> {
    fn bucket(&self, index: i32, at: usize) -> Bucket {
        let count = self.counts.get(at);
        if let Some(bounds) = self.bounds {
            let (lower, upper) = (custom_bound(bounds, index.saturating_sub(1)), custom_bound(bounds, index));
            return Bucket { lower, upper, lower_inclusive: index == 0, upper_inclusive: true, count, index };
        }
        let outer = exponential_bound(index, self.schema);
        let inner = exponential_bound(index.saturating_sub(1), self.schema);
        let (lower, upper) = match self.side {
            Side::Positive => (inner, outer),
            Side::Negative => (-outer, -inner),
        };
        Bucket { lower, upper, lower_inclusive: lower < 0.0, upper_inclusive: upper > 0.0, count, index }
    }
}

fn custom_bound(bounds: &[f64], index: i32) -> f64 {
    usize::try_from(index).map_or(f64::NEG_INFINITY, |at| bounds.get(at).copied().unwrap_or(f64::INFINITY))
}

impl Iterator for SideBuckets<'_> {
    type Item = Bucket;

    fn next(&mut self) -> Option<Bucket> {
        let index = self.indices.next()?;
        self.front += 1;
        Some(self.bucket(index, self.front - 1))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.indices.size_hint()
    }
}

impl DoubleEndedIterator for SideBuckets<'_> {
    fn next_back(&mut self) -> Option<Bucket> {
        let index = self.indices.next_back()?;
        self.back = self.back.saturating_sub(1);
        Some(self.bucket(index, self.back))
    }
}

impl FusedIterator for SideBuckets<'_> {}

/// All buckets in rising order: negative, zero (if it holds anything), positive.
///
/// A bucket next to the zero bucket that reaches into it is cut at the zero threshold.
#[derive(Debug, Clone)]
pub struct AllBuckets<'a> {
    negative: SideBuckets<'a>,
    zero: Option<Bucket>,
    positive: SideBuckets<'a>,
    threshold: f64,
}

impl AllBuckets<'_> {
    fn cut(&self, mut bucket: Bucket) -> Bucket {
        if bucket.upper < 0.0 && bucket.upper > -self.threshold {
            bucket.upper = -self.threshold;
        } else if bucket.lower > 0.0 && bucket.lower < self.threshold {
            bucket.lower = self.threshold;
        }
        bucket
    }
}

impl Iterator for AllBuckets<'_> {
    type Item = Bucket;

    fn next(&mut self) -> Option<Bucket> {
        if let Some(bucket) = self.negative.next_back() {
            return Some(self.cut(bucket));
        }
        if let Some(zero) = self.zero.take() {
            return Some(zero);
        }
        self.positive.next().map(|bucket| self.cut(bucket))
    }
}

impl DoubleEndedIterator for AllBuckets<'_> {
    fn next_back(&mut self) -> Option<Bucket> {
        if let Some(bucket) = self.positive.next_back() {
            return Some(self.cut(bucket));
        }
        if let Some(zero) = self.zero.take() {
            return Some(zero);
        }
        self.negative.next().map(|bucket| self.cut(bucket))
    }
}

impl FusedIterator for AllBuckets<'_> {}

impl NativeHistogram {
    /// Positive buckets, or those of custom bounds, in rising order.
    #[must_use]
    pub fn positive_buckets(&self) -> SideBuckets<'_> {
        self.side_buckets(Side::Positive)
    }

    /// Negative buckets in falling order, from zero outwards.
    #[must_use]
    pub fn negative_buckets(&self) -> SideBuckets<'_> {
        self.side_buckets(Side::Negative)
    }

    /// The zero bucket; `None` for custom bounds, which have none.
    #[must_use]
    pub fn zero_bucket(&self) -> Option<Bucket> {
        (!self.has_custom_bounds()).then(|| Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.counts.zero(),
            index: 0,
        })
    }

    /// Every bucket in rising order; see [`AllBuckets`].
    #[must_use]
    pub fn all_buckets(&self) -> AllBuckets<'_> {
        AllBuckets {
            negative: self.negative_buckets(),
            zero: self.zero_bucket().filter(|zero| zero.count > 0.0),
            positive: self.positive_buckets(),
            threshold: self.zero_threshold,
        }
    }

    fn side_buckets(&self, side: Side) -> SideBuckets<'_> {
        let spans = match side {
            Side::Positive => &self.positive_spans,
            Side::Negative => &self.negative_spans,
        };
        let counts = self.side_counts(side);
        let indices = Indices::new(spans).at_most(counts.len());
        SideBuckets {
            counts,
            front: 0,
            back: indices.size_hint().0,
            indices,
            side,
            schema: self.schema,
            bounds: self.has_custom_bounds().then_some(&*self.custom_values),
        }
    }

    pub(super) fn side_counts(&self, side: Side) -> SideCounts<'_> {
        match (&self.counts, side) {
            (HistogramCounts::Integer(c), Side::Positive) => SideCounts::Integer(&c.positive),
            (HistogramCounts::Integer(c), Side::Negative) => SideCounts::Integer(&c.negative),
            (HistogramCounts::Float(c), Side::Positive) => SideCounts::Float(&c.positive),
            (HistogramCounts::Float(c), Side::Negative) => SideCounts::Float(&c.negative),
        }
    }

    /// Numbered counts of one side in rising order of numbers, as floats.
    pub(super) fn side_entries(&self, side: Side) -> impl Iterator<Item = (i32, f64)> + Clone + '_ {
        let spans = match side {
            Side::Positive => &self.positive_spans,
            Side::Negative => &self.negative_spans,
        };
        let counts = self.side_counts(side);
        Indices::new(spans).zip(0..counts.len()).map(move |(index, at)| (index, counts.get(at)))
    }
}
