//! Native histograms back from the API's list of buckets.
//!
//! The list names bounds but no schema. Bounds of exponential schemas are exact floats, so the schema is
//! the coarsest whose bounds all fit; what fits none and has only positive buckets has custom bounds.
//! Written again, the result is the same list; what the list leaves out (the reset hint, empty buckets,
//! the threshold of an empty zero bucket) is lost.

use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::{
    BucketCounts, BucketSpan, CUSTOM_BUCKETS_SCHEMA, HistogramCounts, ResetHint, SCHEMA_MAX, SCHEMA_MIN,
    exponential_bound,
};

/// One entry of the list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    /// 0: the upper bound belongs to it, 1: the lower, 2: none, 3: both.
    pub(super) rule: u8,
    pub(super) lower: f64,
    pub(super) upper: f64,
    pub(super) count: f64,
}

/// A histogram with these buckets; `None` if no schema has them.
pub(super) fn rebuild(count: f64, sum: f64, buckets: &[Bucket]) -> Option<NativeHistogram> {
    let is_zero = |b: &Bucket| b.rule == 3 && b.lower == -b.upper && b.upper.is_finite();
    let zero = buckets.iter().copied().find(is_zero);
    let zero_threshold = zero.map_or(0.0, |b| b.upper);
    let rest: Vec<Bucket> = buckets.iter().copied().filter(|b| !is_zero(b)).collect();
    let mut histogram = NativeHistogram {
        schema: 0,
        hint: ResetHint::Unknown,
        zero_threshold,
        counts: HistogramCounts::Float(BucketCounts::default()),
        sum,
        positive_spans: Vec::new(),
        negative_spans: Vec::new(),
        custom_values: Arc::from([]),
    };
    let mut counts = BucketCounts { zero: zero.map_or(0.0, |b| b.count), count, ..BucketCounts::default() };
    let exponential =
        (SCHEMA_MIN..=SCHEMA_MAX).find_map(|schema| Some((schema, indices(&rest, zero_threshold, schema)?)));
    if let Some((schema, found)) = exponential {
        histogram.schema = schema;
        // The list rises, so negative buckets come with falling indices.
        let negative = found.iter().zip(&rest).rev().filter(|(_, b)| b.upper <= 0.0);
        fill(&mut histogram.negative_spans, &mut counts.negative, negative.map(|(i, b)| (*i, b.count)));
        let positive = found.iter().zip(&rest).filter(|(_, b)| b.upper > 0.0);
        fill(&mut histogram.positive_spans, &mut counts.positive, positive.map(|(i, b)| (*i, b.count)));
    } else {
        let values = custom_values(&rest)?;
        if zero.is_some() {
            return None;
        }
        histogram.schema = CUSTOM_BUCKETS_SCHEMA;
        let index = |upper: f64| values.partition_point(|bound| *bound < upper) as i32;
        fill(&mut histogram.positive_spans, &mut counts.positive, rest.iter().map(|b| (index(b.upper), b.count)));
        histogram.custom_values = values;
    }
    histogram.counts = HistogramCounts::Float(counts);
    Some(histogram)
}

/// The index of every bucket in `schema`, if all have one.
fn indices(buckets: &[Bucket], zero_threshold: f64, schema: i8) -> Option<Vec<i32>> {
    buckets
        .iter()
        .map(|b| match b.rule {
            0 if b.lower > 0.0 => index(b.lower, b.upper, zero_threshold, schema),
            1 if b.upper < 0.0 => index(-b.upper, -b.lower, zero_threshold, schema),
            // The lowest bucket of all begins at 0, below every bound that a float can hold.
            _ => None,
        })
        .collect()
}

/// A bucket that reaches into the zero bucket is listed as beginning where that one ends.
fn index(lower: f64, upper: f64, zero_threshold: f64, schema: i8) -> Option<i32> {
    // The logarithm is off by less than one bucket; the bounds decide.
    let near = (upper.min(f64::MAX).log2() * f64::from(schema).exp2()).round() as i32;
    (near - 1..=near + 2).find(|&index| {
        let begins = exponential_bound(index - 1, schema);
        let is_lower = begins == lower || (lower == zero_threshold && begins < lower);
        exponential_bound(index, schema) == upper && is_lower
    })
}

/// All finite bounds, rising; `None` if the buckets cannot be those of custom bounds.
fn custom_values(buckets: &[Bucket]) -> Option<Arc<[f64]>> {
    let fits = |b: &Bucket| b.lower < b.upper && (b.rule == 0 || b.rule == 3 && b.lower == f64::NEG_INFINITY);
    if !buckets.iter().all(fits) || buckets.windows(2).any(|pair| pair[0].upper > pair[1].lower) {
        return None;
    }
    let mut values: Vec<f64> = buckets.iter().flat_map(|b| [b.lower, b.upper]).filter(|b| b.is_finite()).collect();
    values.dedup();
    Some(values.into())
}

/// Spans and counts of buckets with rising indices.
fn fill(spans: &mut Vec<BucketSpan>, counts: &mut Vec<f64>, buckets: impl Iterator<Item = (i32, f64)>) {
    let mut next = 0;
    for (index, count) in buckets {
        match spans.last_mut() {
            Some(span) if index == next => span.len += 1,
            // Indices of floats' buckets are below 2^19 in size.
            _ => spans.push(BucketSpan { offset: index - next, len: 1 }),
        }
        next = index + 1;
        counts.push(count);
    }
}
