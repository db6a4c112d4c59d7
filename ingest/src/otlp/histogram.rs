//! Buckets of OTLP's histograms as those of Prometheus'.

use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::{
    BucketCounts, BucketSpan, CUSTOM_BUCKETS_SCHEMA, HistogramCounts, ResetHint, SCHEMA_MAX, SCHEMA_MIN,
};

use super::error::Reason;
use super::message::NO_RECORDED_VALUE;
use super::visit::{Buckets, ExponentialPoint, HistogramPoint};

/// The zero bucket's half width where a point has none, as Prometheus sets it.
pub(super) const ZERO_THRESHOLD: f64 = 1e-128;
/// Empty buckets between two filled ones that are cheaper to keep than a new span.
const GAP_MAX: i64 = 2;

/// Whether the bounds rise and every count has its bucket.
pub(super) fn check_bounds(point: &HistogramPoint<'_>) -> Result<(), Reason> {
    let (bounds, counts) = (point.explicit_bounds, point.bucket_counts);
    let fits = if counts.is_empty() { bounds.is_empty() } else { counts.len() == bounds.len() + 1 };
    let rises = bounds.windows(2).all(|pair| pair[0] < pair[1]) && bounds.iter().all(|bound| !bound.is_nan());
    if fits && rises { Ok(()) } else { Err(Reason::InvalidBuckets) }
}

/// Upper bounds with the observations at or below them; the last is +Inf with the point's count.
pub(super) fn cumulative<'p>(point: &HistogramPoint<'p>) -> impl Iterator<Item = (f64, f64)> + use<'p> {
    let count = point.count;
    let mut sum = 0u64;
    let below = point.explicit_bounds.iter().zip(point.bucket_counts).map(move |(bound, count)| {
        sum = sum.saturating_add(*count);
        (*bound, sum as f64)
    });
    // A bound of +Inf, which some senders give, is the last bucket already.
    below.filter(|(bound, _)| *bound != f64::INFINITY).chain([(f64::INFINITY, count as f64)])
}

/// A histogram with explicit bounds as a native one with custom buckets; `None` for a point without a value.
pub(super) fn custom_buckets(point: &HistogramPoint<'_>) -> Option<NativeHistogram> {
    if point.flags & NO_RECORDED_VALUE != 0 {
        return None;
    }
    let finite = point.explicit_bounds.iter().take_while(|bound| **bound != f64::INFINITY);
    let custom_values: Arc<[f64]> = finite.copied().collect();
    // Without buckets there is one, of everything.
    let counts = if point.bucket_counts.is_empty() { vec![point.count] } else { point.bucket_counts.to_vec() };
    let last = custom_values.len() as i64;
    let (positive_spans, positive) = spans(counts.into_iter().enumerate().map(|(at, n)| ((at as i64).min(last), n)))?;
    Some(NativeHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        hint: ResetHint::Unknown,
        zero_threshold: 0.0,
        counts: HistogramCounts::Integer(BucketCounts { zero: 0, count: point.count, positive, negative: Vec::new() }),
        sum: point.sum.unwrap_or(0.0),
        positive_spans,
        negative_spans: Vec::new(),
        custom_values,
    })
}

/// An exponential histogram as a native one; `None` for a point without a value.
///
/// A scale above 8 is brought down to 8; one below −4 has no counterpart. A missing sum is 0, as in Prometheus.
pub(super) fn native(point: &ExponentialPoint<'_>) -> Result<Option<NativeHistogram>, Reason> {
    if point.flags & NO_RECORDED_VALUE != 0 {
        return Ok(None);
    }
    if point.scale < i32::from(SCHEMA_MIN) {
        return Err(Reason::ScaleTooLow);
    }
    let down = (i64::from(point.scale) - i64::from(SCHEMA_MAX)).max(0) as u32;
    let (positive_spans, positive) = side(point.positive, down)?;
    let (negative_spans, negative) = side(point.negative, down)?;
    let zero_threshold = if point.zero_threshold > 0.0 { point.zero_threshold } else { ZERO_THRESHOLD };
    Ok(Some(NativeHistogram {
        schema: point.scale.min(i32::from(SCHEMA_MAX)) as i8,
        hint: ResetHint::Unknown,
        zero_threshold,
        counts: HistogramCounts::Integer(BucketCounts {
            zero: point.zero_count,
            count: point.count,
            positive,
            negative,
        }),
        sum: point.sum.unwrap_or(0.0),
        positive_spans,
        negative_spans,
        custom_values: Arc::from([]),
    }))
}

/// One side's buckets; `down` halvings of the resolution.
fn side(buckets: Buckets<'_>, down: u32) -> Result<(Vec<BucketSpan>, Vec<u64>), Reason> {
    // OTLP's bucket 0 begins at 1, Prometheus' ends there. More than 62 halvings leave buckets −1 and 0 only.
    let index = |at: usize| ((i64::from(buckets.offset) + at as i64) >> down.min(62)) + 1;
    let numbered = buckets.counts.iter().enumerate().map(|(at, count)| (index(at), *count));
    spans(numbered).ok_or(Reason::InvalidBuckets)
}

/// Spans and counts of numbered buckets that never fall; equal numbers are one bucket. Empty ones are left out, but for
/// small gaps. `None` if a number or count does not fit.
pub(super) fn spans(buckets: impl Iterator<Item = (i64, u64)>) -> Option<(Vec<BucketSpan>, Vec<u64>)> {
    let (mut spans, mut counts): (Vec<BucketSpan>, Vec<u64>) = (Vec::new(), Vec::new());
    // One past the last bucket.
    let mut end = 0i64;
    for (index, count) in buckets.filter(|(_, count)| *count > 0) {
        i32::try_from(index).ok()?;
        match (spans.last_mut(), counts.last_mut()) {
            (Some(_), Some(last)) if index == end - 1 => *last = last.checked_add(count)?,
            (Some(span), Some(_)) if index - end <= GAP_MAX => {
                let empty = (index - end) as usize;
                counts.resize(counts.len() + empty, 0);
                counts.push(count);
                span.len += empty as u32 + 1;
            }
            _ => {
                // The gap of two numbers of 32 bits may need more.
                spans.push(BucketSpan { offset: i32::try_from(index - end).ok()?, len: 1 });
                counts.push(count);
            }
        }
        end = index + 1;
    }
    Some((spans, counts))
}
