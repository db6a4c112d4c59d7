//! Native histograms: `count (u16) · flags (u8) · buckets' layout · first sample · changes`.
//!
//! All samples of a chunk have one layout. Integers are written as changes of changes, floats as changed bits.

use kymo_core::NativeHistogram;
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, ResetHint};

use super::super::wire::deltas;
use super::bits::{Bits, Xor};
use super::{FLOAT_HISTOGRAM, HISTOGRAM, SAMPLES_MAX};

pub(super) struct HistogramChunk {
    bits: Bits,
    count: u16,
    time: Twice,
    sum: Xor,
    fields: Fields,
    /// The newest sample.
    last: NativeHistogram,
}

/// What is told of counts, in the order of the chunk: count, zero count, positive and negative buckets.
enum Fields {
    Integers(Vec<Twice>),
    Floats(Vec<Xor>),
}

/// An integer whose change of change is told.
#[derive(Clone, Copy)]
struct Twice {
    value: i64,
    change: i64,
}

impl Twice {
    fn new(value: i64) -> Twice {
        Twice { value, change: 0 }
    }

    fn write(&mut self, bits: &mut Bits, value: i64) {
        let change = value.wrapping_sub(self.value);
        bits.push_varbit(change.wrapping_sub(self.change));
        *self = Twice { value, change };
    }
}

/// Count and zero count, then the buckets as they are written.
fn integers(counts: &BucketCounts<u64>) -> impl Iterator<Item = i64> + '_ {
    let heads = [counts.count, counts.zero].map(|count| count as i64);
    heads.into_iter().chain(deltas(&counts.positive)).chain(deltas(&counts.negative))
}

fn floats(counts: &BucketCounts<f64>) -> impl Iterator<Item = f64> + '_ {
    [counts.count, counts.zero].into_iter().chain(counts.positive.iter().chain(&counts.negative).copied())
}

impl HistogramChunk {
    pub(super) fn new(time_ms: i64, histogram: &NativeHistogram) -> HistogramChunk {
        let flags = match histogram.hint {
            ResetHint::Unknown => 0,
            ResetHint::NotReset => 0b0100_0000,
            ResetHint::Reset => 0b1000_0000,
            ResetHint::Gauge => 0b1100_0000,
        };
        let mut bits = Bits::after(vec![0, 0, flags]);
        push_layout(&mut bits, histogram);
        bits.push_varbit(time_ms);
        let fields = match &histogram.counts {
            HistogramCounts::Integer(counts) => {
                bits.push_varbit_unsigned(counts.count);
                bits.push_varbit_unsigned(counts.zero);
                bits.push_float(histogram.sum);
                integers(counts).skip(2).for_each(|delta| bits.push_varbit(delta));
                Fields::Integers(integers(counts).map(Twice::new).collect())
            }
            HistogramCounts::Float(counts) => {
                bits.push_float(counts.count);
                bits.push_float(counts.zero);
                bits.push_float(histogram.sum);
                floats(counts).skip(2).for_each(|count| bits.push_float(count));
                Fields::Floats(floats(counts).map(Xor::new).collect())
            }
        };
        let (time, sum) = (Twice::new(time_ms), Xor::new(histogram.sum));
        HistogramChunk { bits, count: 1, time, sum, fields, last: histogram.clone() }
    }

    /// Takes a later sample; `false` if it has to begin a chunk of its own.
    pub(super) fn push(&mut self, time_ms: i64, histogram: &NativeHistogram) -> bool {
        if self.count == SAMPLES_MAX || !goes_on(&self.last, histogram) {
            return false;
        }
        let bits = &mut self.bits;
        match (&mut self.fields, &histogram.counts) {
            (Fields::Integers(fields), HistogramCounts::Integer(counts)) => {
                self.time.write(bits, time_ms);
                let mut written = fields.iter_mut().zip(integers(counts));
                for (field, value) in written.by_ref().take(2) {
                    field.write(bits, value);
                }
                self.sum.write(bits, histogram.sum);
                written.for_each(|(field, value)| field.write(bits, value));
            }
            (Fields::Floats(fields), HistogramCounts::Float(counts)) => {
                self.time.write(bits, time_ms);
                let mut written = fields.iter_mut().zip(floats(counts));
                for (field, value) in written.by_ref().take(2) {
                    field.write(bits, value);
                }
                self.sum.write(bits, histogram.sum);
                written.for_each(|(field, value)| field.write(bits, value));
            }
            _ => return false,
        }
        self.last.clone_from(histogram);
        self.count += 1;
        true
    }

    pub(super) fn kind(&self) -> i32 {
        match self.fields {
            Fields::Integers(_) => HISTOGRAM,
            Fields::Floats(_) => FLOAT_HISTOGRAM,
        }
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bits.bytes_mut()[..2].copy_from_slice(&self.count.to_be_bytes());
        self.bits.into_bytes()
    }
}

/// Whether `next` has the layout of `last` and is no reset after it: then it reads back as what it is.
fn goes_on(last: &NativeHistogram, next: &NativeHistogram) -> bool {
    let same_bounds = last.custom_values.len() == next.custom_values.len()
        && last.custom_values.iter().zip(&*next.custom_values).all(|(a, b)| a.to_bits() == b.to_bits());
    let same_layout = last.schema == next.schema
        && last.zero_threshold.to_bits() == next.zero_threshold.to_bits()
        && last.positive_spans == next.positive_spans
        && last.negative_spans == next.negative_spans
        && same_bounds;
    let same_kind = matches!(
        (&last.counts, &next.counts),
        (HistogramCounts::Integer(_), HistogramCounts::Integer(_))
            | (HistogramCounts::Float(_), HistogramCounts::Float(_))
    );
    let rises = match (last.hint, next.hint) {
        (ResetHint::Gauge, ResetHint::Gauge) => true,
        (ResetHint::Gauge, _) | (_, ResetHint::Gauge | ResetHint::Reset) => false,
        (_, ResetHint::NotReset) => true,
        (_, ResetHint::Unknown) => no_count_falls(last, next),
    };
    same_layout && same_kind && rises
}

fn no_count_falls(last: &NativeHistogram, next: &NativeHistogram) -> bool {
    match (&last.counts, &next.counts) {
        (HistogramCounts::Integer(last), HistogramCounts::Integer(next)) => {
            let buckets = last.positive.iter().zip(&next.positive).chain(last.negative.iter().zip(&next.negative));
            last.count <= next.count && last.zero <= next.zero && buckets.into_iter().all(|(last, next)| last <= next)
        }
        (HistogramCounts::Float(last), HistogramCounts::Float(next)) => {
            let buckets = last.positive.iter().zip(&next.positive).chain(last.negative.iter().zip(&next.negative));
            last.count <= next.count && last.zero <= next.zero && buckets.into_iter().all(|(last, next)| last <= next)
        }
        _ => false,
    }
}

fn push_layout(bits: &mut Bits, histogram: &NativeHistogram) {
    push_zero_threshold(bits, histogram.zero_threshold);
    bits.push_varbit(histogram.schema.into());
    push_spans(bits, &histogram.positive_spans);
    push_spans(bits, &histogram.negative_spans);
    if histogram.has_custom_bounds() {
        bits.push_varbit_unsigned(histogram.custom_values.len() as u64);
        for bound in &*histogram.custom_values {
            // A zero, then the float itself; bounds in thousandths have a shorter form, which none needs to use.
            bits.push(0, 1);
            bits.push_float(*bound);
        }
    }
}

fn push_spans(bits: &mut Bits, spans: &[BucketSpan]) {
    bits.push_varbit_unsigned(spans.len() as u64);
    for span in spans {
        bits.push_varbit_unsigned(span.len.into());
        bits.push_varbit(span.offset.into());
    }
}

/// One byte for 0 and for powers of two from 2^-243 to 2^10, 255 and the float itself for anything else.
fn push_zero_threshold(bits: &mut Bits, threshold: f64) {
    const FRACTION: u64 = (1 << 52) - 1;
    const BIAS: i64 = 1023;
    let exponent = (threshold.to_bits() >> 52) as i64 - BIAS;
    let is_power = threshold > 0.0 && threshold.to_bits() & FRACTION == 0 && (-243..=10).contains(&exponent);
    if threshold == 0.0 {
        bits.push_byte(0);
    } else if is_power {
        bits.push_byte((exponent + 244) as u8);
    } else {
        bits.push_byte(255);
        bits.push_float(threshold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fake::{custom_histogram, histogram};

    #[test]
    fn thresholds_that_are_powers_of_two_take_a_byte() {
        let byte = |threshold: f64| {
            let mut bits = Bits::default();
            push_zero_threshold(&mut bits, threshold);
            let bytes = bits.into_bytes();
            (bytes[0], bytes.len())
        };
        let default = 2f64.powi(-128);
        assert_eq!([0.0, default, 1024.0, 2048.0, 0.001].map(byte), [(0, 1), (116, 1), (254, 1), (255, 9), (255, 9)]);
    }

    #[test]
    fn what_is_no_continuation_begins_a_chunk() {
        let first = histogram();
        let chunk = || HistogramChunk::new(1_000, &first);
        assert!(chunk().push(2_000, &first), "the same again");
        let fallen = NativeHistogram {
            counts: HistogramCounts::Integer(BucketCounts {
                zero: 0,
                count: 8,
                positive: vec![2, 0, 3],
                negative: vec![1, 2],
            }),
            ..first.clone()
        };
        assert!(!chunk().push(2_000, &fallen), "a reset");
        let stated = NativeHistogram { hint: ResetHint::NotReset, ..fallen };
        assert!(chunk().push(2_000, &stated), "said to be none");
        let finer = NativeHistogram { schema: 2, ..first.clone() };
        assert!(!chunk().push(2_000, &finer), "other buckets");
        assert!(!chunk().push(2_000, &custom_histogram()), "another kind");
        let gauge = NativeHistogram { hint: ResetHint::Gauge, ..first.clone() };
        assert!(!chunk().push(2_000, &gauge), "a gauge");
        assert_eq!((chunk().kind(), HistogramChunk::new(0, &custom_histogram()).kind()), (HISTOGRAM, FLOAT_HISTOGRAM));
    }
}
