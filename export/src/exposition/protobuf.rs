//! Delimited messages of `io.prometheus.client.MetricFamily` (prometheus/client_model, `metrics.proto`).
//!
//! Lengths stand in front of what they measure, so a message is written behind a gap of one byte, which is widened in the
//! rare case that the length needs more.

use kymo_core::histogram::{BucketSpan, HistogramCounts};
use kymo_core::metric::MetricKind;
use kymo_core::{Exemplar, NativeHistogram};

use super::format::Escaping;
use super::names::Names;
use super::shown::{Described, Shown};
use super::value::Value;

/// Numbers of fields.
mod field {
    /// Of counters and gauges, quantiles, buckets, labels, spans and timestamps.
    pub(super) const FIRST: u32 = 1;
    pub(super) const SECOND: u32 = 2;
    /// Of a metric and of an exemplar.
    pub(super) const LABEL: u32 = 1;
    pub(super) const COUNTER_EXEMPLAR: u32 = 2;
    pub(super) const COUNTER_CREATED: u32 = 3;
    pub(super) const BUCKET_EXEMPLAR: u32 = 3;
    pub(super) const SUMMARY_CREATED: u32 = 4;

    pub(super) mod family {
        pub(in super::super) const NAME: u32 = 1;
        pub(in super::super) const HELP: u32 = 2;
        pub(in super::super) const TYPE: u32 = 3;
        pub(in super::super) const METRIC: u32 = 4;
        pub(in super::super) const UNIT: u32 = 5;
    }

    pub(super) mod metric {
        pub(in super::super) const GAUGE: u32 = 2;
        pub(in super::super) const COUNTER: u32 = 3;
        pub(in super::super) const SUMMARY: u32 = 4;
        pub(in super::super) const HISTOGRAM: u32 = 7;
    }

    /// Of summaries and histograms alike.
    pub(super) mod distribution {
        pub(in super::super) const COUNT: u32 = 1;
        pub(in super::super) const SUM: u32 = 2;
        /// Quantiles and buckets.
        pub(in super::super) const PARTS: u32 = 3;
    }

    pub(super) mod histogram {
        pub(in super::super) const COUNT_FLOAT: u32 = 4;
        pub(in super::super) const SCHEMA: u32 = 5;
        pub(in super::super) const ZERO_THRESHOLD: u32 = 6;
        pub(in super::super) const ZERO_COUNT: u32 = 7;
        pub(in super::super) const ZERO_COUNT_FLOAT: u32 = 8;
        pub(in super::super) const NEGATIVE_SPAN: u32 = 9;
        pub(in super::super) const NEGATIVE_DELTA: u32 = 10;
        pub(in super::super) const NEGATIVE_COUNT: u32 = 11;
        pub(in super::super) const POSITIVE_SPAN: u32 = 12;
        pub(in super::super) const POSITIVE_DELTA: u32 = 13;
        pub(in super::super) const POSITIVE_COUNT: u32 = 14;
        pub(in super::super) const CREATED: u32 = 15;
        pub(in super::super) const EXEMPLARS: u32 = 16;
    }

    pub(super) mod exemplar {
        pub(in super::super) const VALUE: u32 = 2;
        pub(in super::super) const TIMESTAMP: u32 = 3;
    }
}

/// What is kept of a family.
#[derive(Debug)]
pub(super) struct FamilyBytes {
    /// Name, help and type.
    head: Vec<u8>,
    /// The unit, which has a higher number than the series.
    tail: Vec<u8>,
    kind: MetricKind,
    escaping: Escaping,
}

impl FamilyBytes {
    pub(super) fn new(escaping: Escaping, family: &Described, shown: &Shown) -> FamilyBytes {
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        text(&mut head, field::family::NAME, &shown.base);
        text(&mut head, field::family::HELP, &family.help);
        // The type is always written: 0 is a counter.
        number(&mut head, field::family::TYPE, type_number(family.kind));
        text(&mut tail, field::family::UNIT, &family.unit);
        FamilyBytes { head, tail, kind: family.kind, escaping }
    }

    /// Begins the family's message and gives the start to [`end`](Self::end) it with.
    pub(super) fn begin(&self, out: &mut Vec<u8>) -> usize {
        let start = begin(out);
        out.extend_from_slice(&self.head);
        start
    }

    pub(super) fn end(&self, out: &mut Vec<u8>, start: usize) {
        out.extend_from_slice(&self.tail);
        end(out, start);
    }

    /// One series. `labels` is what [`write_labels`] wrote.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        labels: &[u8],
        value: Value<'_>,
        exemplars: &[Exemplar],
        created_ms: Option<i64>,
    ) {
        message(out, field::family::METRIC, |out| {
            out.extend_from_slice(labels);
            match value {
                Value::Whole(value) => self.number(out, value as f64, exemplars, created_ms),
                Value::WholeLevel(value) => self.number(out, value as f64, exemplars, created_ms),
                Value::Float(value) => self.number(out, value, exemplars, created_ms),
                Value::Buckets { upper_bounds, counts, sum, count } => message(out, field::metric::HISTOGRAM, |out| {
                    number(out, field::distribution::COUNT, count);
                    double(out, field::distribution::SUM, sum);
                    self.buckets(out, upper_bounds, counts, exemplars);
                    created(out, field::histogram::CREATED, created_ms);
                }),
                Value::Native(histogram) => message(out, field::metric::HISTOGRAM, |out| {
                    self.native(out, histogram);
                    created(out, field::histogram::CREATED, created_ms);
                    for exemplar in exemplars {
                        self.exemplar(out, field::histogram::EXEMPLARS, exemplar);
                    }
                }),
                Value::Quantiles { quantiles, sum, count } => message(out, field::metric::SUMMARY, |out| {
                    number(out, field::distribution::COUNT, count);
                    double(out, field::distribution::SUM, sum);
                    for quantile in quantiles {
                        message(out, field::distribution::PARTS, |out| {
                            double(out, field::FIRST, quantile.quantile);
                            double(out, field::SECOND, quantile.value);
                        });
                    }
                    created(out, field::SUMMARY_CREATED, created_ms);
                }),
            }
        });
    }

    fn number(&self, out: &mut Vec<u8>, value: f64, exemplars: &[Exemplar], created_ms: Option<i64>) {
        if self.kind != MetricKind::Counter {
            return message(out, field::metric::GAUGE, |out| double(out, field::FIRST, value));
        }
        message(out, field::metric::COUNTER, |out| {
            double(out, field::FIRST, value);
            if let Some(newest) = exemplars.last() {
                self.exemplar(out, field::COUNTER_EXEMPLAR, newest);
            }
            created(out, field::COUNTER_CREATED, created_ms);
        });
    }

    fn buckets(&self, out: &mut Vec<u8>, upper_bounds: &[f64], counts: &[u64], exemplars: &[Exemplar]) {
        let (mut cumulative, mut below) = (0u64, f64::NEG_INFINITY);
        for (&upper_bound, &count) in upper_bounds.iter().zip(counts) {
            cumulative += count;
            message(out, field::distribution::PARTS, |out| {
                number(out, field::FIRST, cumulative);
                double(out, field::SECOND, upper_bound);
                let is_within = |e: &&Exemplar| e.value > below && e.value <= upper_bound;
                if let Some(newest) = exemplars.iter().rev().find(is_within) {
                    self.exemplar(out, field::BUCKET_EXEMPLAR, newest);
                }
            });
            below = upper_bound;
        }
    }

    fn native(&self, out: &mut Vec<u8>, histogram: &NativeHistogram) {
        use field::histogram as at;
        match &histogram.counts {
            HistogramCounts::Integer(counts) => number(out, field::distribution::COUNT, counts.count),
            HistogramCounts::Float(counts) => double(out, at::COUNT_FLOAT, counts.count),
        }
        double(out, field::distribution::SUM, histogram.sum);
        number(out, at::SCHEMA, zigzag(i64::from(histogram.schema)));
        double(out, at::ZERO_THRESHOLD, histogram.zero_threshold);
        match &histogram.counts {
            HistogramCounts::Integer(counts) => number(out, at::ZERO_COUNT, counts.zero),
            HistogramCounts::Float(counts) => double(out, at::ZERO_COUNT_FLOAT, counts.zero),
        }
        spans(out, at::NEGATIVE_SPAN, &histogram.negative_spans);
        match &histogram.counts {
            HistogramCounts::Integer(counts) => deltas(out, at::NEGATIVE_DELTA, &counts.negative),
            HistogramCounts::Float(counts) => doubles(out, at::NEGATIVE_COUNT, &counts.negative),
        }
        // A histogram without any bucket would be read as one that is not native; an empty span says that it is.
        let has_buckets = !histogram.positive_spans.is_empty() || !histogram.negative_spans.is_empty();
        if has_buckets {
            spans(out, at::POSITIVE_SPAN, &histogram.positive_spans);
        } else {
            spans(out, at::POSITIVE_SPAN, &[BucketSpan { offset: 0, len: 0 }]);
        }
        match &histogram.counts {
            HistogramCounts::Integer(counts) => deltas(out, at::POSITIVE_DELTA, &counts.positive),
            HistogramCounts::Float(counts) => doubles(out, at::POSITIVE_COUNT, &counts.positive),
        }
    }

    fn exemplar(&self, out: &mut Vec<u8>, number: u32, exemplar: &Exemplar) {
        message(out, number, |out| {
            // A metric's labels and an exemplar's have the same number.
            write_labels(out, self.escaping, exemplar.labels.iter());
            double(out, field::exemplar::VALUE, exemplar.value);
            message(out, field::exemplar::TIMESTAMP, |out| write_timestamp(out, exemplar.time_ms));
        });
    }
}

fn type_number(kind: MetricKind) -> u64 {
    match kind {
        MetricKind::Counter => 0,
        MetricKind::Gauge => 1,
        MetricKind::Summary => 2,
        MetricKind::Histogram => 4,
    }
}

fn created(out: &mut Vec<u8>, number: u32, created_ms: Option<i64>) {
    if let Some(created_ms) = created_ms {
        message(out, number, |out| write_timestamp(out, created_ms));
    }
}

fn spans(out: &mut Vec<u8>, field: u32, spans: &[BucketSpan]) {
    for span in spans {
        message(out, field, |out| {
            number(out, field::FIRST, zigzag(i64::from(span.offset)));
            number(out, field::SECOND, u64::from(span.len));
        });
    }
}

/// Packed: each count less the one before.
fn deltas(out: &mut Vec<u8>, field: u32, counts: &[u64]) {
    if counts.is_empty() {
        return;
    }
    message(out, field, |out| {
        let mut before = 0u64;
        for &count in counts {
            varint(out, zigzag(count.wrapping_sub(before) as i64));
            before = count;
        }
    });
}

/// Packed.
fn doubles(out: &mut Vec<u8>, field: u32, counts: &[f64]) {
    if counts.is_empty() {
        return;
    }
    message(out, field, |out| counts.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes())));
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// `google.protobuf.Timestamp`: seconds and nanoseconds, the latter never negative.
fn write_timestamp(out: &mut Vec<u8>, time_ms: i64) {
    // Negative numbers are their 64-bit complement.
    number(out, field::FIRST, time_ms.div_euclid(1_000) as u64);
    number(out, field::SECOND, (time_ms.rem_euclid(1_000) * 1_000_000) as u64);
}

/// Labels, for [`FamilyBytes::write`].
pub(super) fn write_labels<'a>(
    out: &mut Vec<u8>,
    escaping: Escaping,
    labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) {
    let mut names = Names::of_labels(escaping, labels.clone().map(|(name, _)| name));
    for (name, value) in labels {
        let name = names.written(name);
        message(out, field::LABEL, |out| {
            text(out, field::FIRST, &name);
            text(out, field::SECOND, value);
        });
    }
}

/// How a field's value is written (protobuf encoding, "Message Structure").
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
}

fn tag(out: &mut Vec<u8>, field: u32, wire: Wire) {
    varint(out, u64::from(field) << 3 | wire as u64);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, Wire::Varint);
    varint(out, value);
}

fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    tag(out, field, Wire::Fixed64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// An empty text is an absent one.
fn text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        tag(out, field, Wire::Bytes);
        varint(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
}

fn message(out: &mut Vec<u8>, field: u32, body: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, Wire::Bytes);
    delimited(out, body);
}

/// A length, and what has it.
fn delimited(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = begin(out);
    body(out);
    end(out, start);
}

/// Leaves a gap for a length and says where.
fn begin(out: &mut Vec<u8>) -> usize {
    out.push(0);
    out.len() - 1
}

/// Puts the length of everything since into the gap.
fn end(out: &mut Vec<u8>, gap: usize) {
    let len = (out.len() - gap - 1) as u64;
    let digits = (64 - (len | 1).leading_zeros()).div_ceil(7) as usize;
    let wider = out.len() + digits - 1;
    out.resize(wider, 0);
    out.copy_within(gap + 1..wider + 1 - digits, gap + digits);
    let mut rest = len;
    for byte in &mut out[gap..gap + digits] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[gap + digits - 1] &= 0x7f;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_any_width_stand_in_front() {
        for len in [0usize, 1, 127, 128, 300, 16_383, 16_384, 70_000] {
            let mut out = vec![9];
            delimited(&mut out, |out| out.extend((0..len).map(|n| n as u8)));
            let mut wanted = vec![9];
            varint(&mut wanted, len as u64);
            wanted.extend((0..len).map(|n| n as u8));
            assert_eq!(out, wanted, "{len}");
        }
    }

    #[test]
    fn times_before_the_epoch_have_positive_parts_of_a_second() {
        let mut out = Vec::new();
        write_timestamp(&mut out, -1);
        assert_eq!(
            out,
            [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x10, 0xc0, 0x8f, 0xae, 0xdc, 0x03]
        );
    }
}
