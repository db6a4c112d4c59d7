//! Delimited messages of `io.prometheus.client.MetricFamily` (prometheus/client_model, `metrics.proto`).
//!
//! Lengths stand in front of what they measure, so a message is written behind a gap of one byte, which is widened in the
//! rare case that the length needs more.

use kymo_core::Exemplar;
use kymo_core::metric::{MetricKind, MetricType};
use kymo_core::registry::{FamilySnapshot, SeriesSnapshot};

use super::format::Escaping;
use super::lines::named;
use super::names::Names;

/// Numbers of fields, by message.
mod field {
    pub(super) mod family {
        pub(in super::super) const NAME: u32 = 1;
        pub(in super::super) const HELP: u32 = 2;
        pub(in super::super) const TYPE: u32 = 3;
        pub(in super::super) const METRIC: u32 = 4;
        pub(in super::super) const UNIT: u32 = 5;
    }
    pub(super) mod metric {
        pub(in super::super) const LABEL: u32 = 1;
        pub(in super::super) const GAUGE: u32 = 2;
        pub(in super::super) const COUNTER: u32 = 3;
        pub(in super::super) const SUMMARY: u32 = 4;
        pub(in super::super) const HISTOGRAM: u32 = 7;
    }
    /// Of counters and gauges, of quantiles, and of labels.
    pub(super) const FIRST: u32 = 1;
    pub(super) const SECOND: u32 = 2;
    pub(super) const COUNTER_EXEMPLAR: u32 = 2;
    pub(super) mod distribution {
        pub(in super::super) const COUNT: u32 = 1;
        pub(in super::super) const SUM: u32 = 2;
        /// A summary's quantiles and a histogram's buckets.
        pub(in super::super) const PARTS: u32 = 3;
    }
    pub(super) const BUCKET_EXEMPLAR: u32 = 3;
    pub(super) mod exemplar {
        pub(in super::super) const LABEL: u32 = 1;
        pub(in super::super) const VALUE: u32 = 2;
        pub(in super::super) const TIMESTAMP: u32 = 3;
    }
}

pub(super) fn write(out: &mut Vec<u8>, escaping: Escaping, families: &[FamilySnapshot]) {
    for (name, family) in named(escaping, families) {
        // A family without series is no message: a reader has no use for it, and Prometheus refuses it.
        if family.series.is_empty() {
            continue;
        }
        delimited(out, |out| {
            text(out, field::family::NAME, &name);
            text(out, field::family::HELP, &family.help);
            // The type is always written: 0 is a counter.
            tag(out, field::family::TYPE, Wire::Varint);
            varint(out, type_number(family.kind));
            for series in &family.series {
                message(out, field::family::METRIC, |out| write_series(out, escaping, series));
            }
            text(out, field::family::UNIT, &family.unit);
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

fn write_series(out: &mut Vec<u8>, escaping: Escaping, series: &SeriesSnapshot) {
    if let Some(value) = series.value.as_classic() {
        return write_series(out, escaping, &SeriesSnapshot { value, ..series.clone() });
    }
    let labels = series.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    write_labels(out, field::metric::LABEL, escaping, labels);
    match &series.value {
        MetricType::Counter { value, exemplars } => message(out, field::metric::COUNTER, |out| {
            double(out, field::FIRST, *value);
            if let Some(newest) = exemplars.as_deref().and_then(<[Exemplar]>::last) {
                write_exemplar(out, field::COUNTER_EXEMPLAR, escaping, newest);
            }
        }),
        MetricType::Gauge { value } => message(out, field::metric::GAUGE, |out| double(out, field::FIRST, *value)),
        MetricType::Summary { quantiles, sum, count } => message(out, field::metric::SUMMARY, |out| {
            number(out, field::distribution::COUNT, *count);
            double(out, field::distribution::SUM, *sum);
            for quantile in quantiles {
                message(out, field::distribution::PARTS, |out| {
                    double(out, field::FIRST, quantile.quantile);
                    double(out, field::SECOND, quantile.value);
                });
            }
        }),
        MetricType::Histogram { buckets, sum, count, exemplars } => message(out, field::metric::HISTOGRAM, |out| {
            number(out, field::distribution::COUNT, *count);
            double(out, field::distribution::SUM, *sum);
            let exemplars = exemplars.as_deref().unwrap_or_default();
            let mut below = f64::NEG_INFINITY;
            for bucket in buckets {
                message(out, field::distribution::PARTS, |out| {
                    number(out, field::FIRST, bucket.cumulative_count);
                    double(out, field::SECOND, bucket.upper_bound);
                    let is_within = |e: &&Exemplar| e.value > below && e.value <= bucket.upper_bound;
                    if let Some(newest) = exemplars.iter().rev().find(is_within) {
                        write_exemplar(out, field::BUCKET_EXEMPLAR, escaping, newest);
                    }
                });
                below = bucket.upper_bound;
            }
        }),
        MetricType::NativeHistogram { .. } => {}
    }
}

fn write_exemplar(out: &mut Vec<u8>, number: u32, escaping: Escaping, exemplar: &Exemplar) {
    message(out, number, |out| {
        write_labels(out, field::exemplar::LABEL, escaping, exemplar.labels.iter());
        double(out, field::exemplar::VALUE, exemplar.value);
        message(out, field::exemplar::TIMESTAMP, |out| write_timestamp(out, exemplar.time_ms));
    });
}

/// `google.protobuf.Timestamp`: seconds and nanoseconds, the latter never negative.
fn write_timestamp(out: &mut Vec<u8>, time_ms: i64) {
    // Negative numbers are their 64-bit complement.
    number(out, field::FIRST, time_ms.div_euclid(1_000) as u64);
    number(out, field::SECOND, (time_ms.rem_euclid(1_000) * 1_000_000) as u64);
}

fn write_labels<'a>(
    out: &mut Vec<u8>,
    number: u32,
    escaping: Escaping,
    labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) {
    let mut names = Names::of_labels(escaping, labels.clone().map(|(name, _)| name));
    for (name, value) in labels {
        let name = names.written(name);
        message(out, number, |out| {
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
    let gap = out.len();
    out.push(0);
    body(out);
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
