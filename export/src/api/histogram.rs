//! Native histograms as the API shows them: `{count, sum, buckets: [[rule, lower, upper, count]]}`.
//!
//! Buckets stand from the lowest to the highest, empty ones are left out; `rule` says which bounds belong
//! to the bucket: 0 the upper, 1 the lower, 2 none, 3 both.

use kymo_core::NativeHistogram;
use kymo_core::histogram::HistogramCounts;
use kymo_core::text::write_float_json;

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
    for bucket in histogram.all_buckets() {
        let rule = match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (true, true) => 3,
        };
        buckets.push(rule, bucket.lower, bucket.upper, bucket.count);
    }
    if buckets.any {
        out.push(b']');
    }
    out.push(b'}');
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
