//! Native histograms as the API shows them: `{count, sum, buckets: [[rule, lower, upper, count]]}`.
//!
//! Buckets stand from the lowest to the highest, empty ones are left out; `rule` says which bounds belong
//! to the bucket: 0 the upper, 1 the lower, 2 none, 3 both.

use kymo_core::NativeHistogram;
use kymo_core::histogram::{BucketSpan, HistogramCounts};
use kymo_core::text::write_float_json;

use crate::bounds;

/// `[0,"-2.2250738585072014e-308","2.2250738585072014e-308","18446744073709552000"],` rounded up.
const BUCKET_BYTES_MAX: usize = 96;
/// Count, sum and keys.
const FRAME_BYTES: usize = 128;

/// Most bytes that [`write_histogram`] appends.
pub(super) fn histogram_bytes_max(histogram: &NativeHistogram) -> usize {
    let buckets = match &histogram.counts {
        HistogramCounts::Integer(c) => c.positive.len() + c.negative.len(),
        HistogramCounts::Float(c) => c.positive.len() + c.negative.len(),
    };
    FRAME_BYTES + (buckets + 1) * BUCKET_BYTES_MAX
}

/// Appends a histogram.
pub(super) fn write_histogram(out: &mut Vec<u8>, histogram: &NativeHistogram) {
    out.extend_from_slice(br#"{"count":""#);
    write_float_json(out, histogram.counts.count());
    out.extend_from_slice(br#"","sum":""#);
    write_float_json(out, histogram.sum);
    out.push(b'"');
    let mut buckets = Buckets { out, any: false };
    match &histogram.counts {
        HistogramCounts::Integer(c) => {
            write_buckets(&mut buckets, histogram, c.zero as f64, &c.positive, &c.negative, |n| n as f64);
        }
        HistogramCounts::Float(c) => {
            write_buckets(&mut buckets, histogram, c.zero, &c.positive, &c.negative, |n| n);
        }
    }
    if buckets.any {
        out.push(b']');
    }
    out.push(b'}');
}

fn write_buckets<T: Copy>(
    buckets: &mut Buckets<'_>,
    histogram: &NativeHistogram,
    zero: f64,
    positive: &[T],
    negative: &[T],
    number: impl Fn(T) -> f64,
) {
    // Spans can only be walked upwards; the lowest bucket is the last of the negative ones.
    let negative: Vec<(i64, f64)> =
        indices(&histogram.negative_spans).zip(negative.iter().map(|n| number(*n))).collect();
    for (index, count) in negative.into_iter().rev() {
        let lower = -bounds::exponential(index, histogram.schema);
        let upper = -bounds::exponential(index - 1, histogram.schema);
        buckets.push(if upper > 0.0 { 3 } else { 1 }, lower, upper, count);
    }
    buckets.push(3, -histogram.zero_threshold, histogram.zero_threshold, zero);
    for (index, count) in indices(&histogram.positive_spans).zip(positive.iter().map(|n| number(*n))) {
        if histogram.has_custom_bounds() {
            let lower = custom_bound(&histogram.custom_values, index - 1);
            buckets.push(if index == 0 { 3 } else { 0 }, lower, custom_bound(&histogram.custom_values, index), count);
        } else {
            let lower = bounds::exponential(index - 1, histogram.schema);
            buckets.push(0, lower, bounds::exponential(index, histogram.schema), count);
        }
    }
}

/// Indices of the buckets that the spans name, rising.
fn indices(spans: &[BucketSpan]) -> impl Iterator<Item = i64> + '_ {
    let mut next = 0;
    spans.iter().flat_map(move |span| {
        let start = next + i64::from(span.offset);
        next = start + i64::from(span.len);
        start..next
    })
}

fn custom_bound(bounds: &[f64], index: i64) -> f64 {
    match usize::try_from(index) {
        Err(_) => f64::NEG_INFINITY,
        Ok(index) => bounds.get(index).copied().unwrap_or(f64::INFINITY),
    }
}

struct Buckets<'a> {
    out: &'a mut Vec<u8>,
    any: bool,
}

impl Buckets<'_> {
    fn push(&mut self, rule: u8, lower: f64, upper: f64, count: f64) {
        if count == 0.0 {
            return;
        }
        self.out.extend_from_slice(if self.any { b",[" } else { br#","buckets":[["# });
        self.any = true;
        self.out.push(b'0' + rule);
        for number in [lower, upper, count] {
            self.out.extend_from_slice(b",\"");
            write_float_json(self.out, number);
            self.out.push(b'"');
        }
        self.out.push(b']');
    }
}
