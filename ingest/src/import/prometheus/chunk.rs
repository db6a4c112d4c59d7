//! Chunks: floats, native histograms, native histograms of floats.

use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, ResetHint};

use super::bits::{Bits, Xor};
use super::buf::Short;

pub(super) const FLOATS: u8 = 1;
pub(super) const HISTOGRAMS: u8 = 2;
pub(super) const FLOAT_HISTOGRAMS: u8 = 3;

const CUSTOM_SCHEMA: i64 = -53;

/// A value of a chunk.
#[derive(Debug)]
pub(super) enum Value {
    Float(f64),
    Histogram(NativeHistogram),
}

/// Gives each sample of a chunk of this encoding to `each`, until that fails.
///
/// # Errors
/// `Err(Short)` inside where the bytes do not follow the format; what `each` said outside.
pub(super) fn decode<E>(
    encoding: u8,
    bytes: &[u8],
    each: &mut dyn FnMut(i64, Value) -> Result<(), E>,
) -> Result<Result<(), Short>, E> {
    let mut failed = None;
    let mut give = |time_ms: i64, value: Value| match each(time_ms, value) {
        Ok(()) => Ok(()),
        Err(error) => {
            failed = Some(error);
            Err(Short)
        }
    };
    let done = match encoding {
        FLOATS => floats(bytes, &mut give),
        HISTOGRAMS | FLOAT_HISTOGRAMS => histograms(bytes, encoding == FLOAT_HISTOGRAMS, &mut give),
        _ => Err(Short),
    };
    match failed {
        Some(error) => Err(error),
        None => Ok(done),
    }
}

type Give<'a> = dyn FnMut(i64, Value) -> Result<(), Short> + 'a;

fn floats(bytes: &[u8], give: &mut Give<'_>) -> Result<(), Short> {
    let (count, rest) = bytes.split_at_checked(2).ok_or(Short)?;
    let count = u16::from_be_bytes([count[0], count[1]]);
    let bits = &mut Bits::new(rest);
    if count == 0 {
        return Ok(());
    }
    let mut time_ms = bits.varint()?;
    let mut value = Xor::new(bits.float()?);
    give(time_ms, Value::Float(value.value))?;
    let mut step = 0i64;
    for number in 1..count {
        step = if number == 1 { bits.uvarint()? as i64 } else { step.wrapping_add(bits.step_change()?) };
        time_ms = time_ms.wrapping_add(step);
        give(time_ms, Value::Float(value.next(bits)?))?;
    }
    Ok(())
}

/// An integer whose change of change is told.
#[derive(Debug, Clone, Copy)]
struct Twice {
    value: i64,
    change: i64,
}

impl Twice {
    fn new(value: i64) -> Twice {
        Twice { value, change: 0 }
    }

    fn next(&mut self, bits: &mut Bits<'_>) -> Result<i64, Short> {
        self.change = self.change.wrapping_add(bits.varbit()?);
        self.value = self.value.wrapping_add(self.change);
        Ok(self.value)
    }
}

/// What all histograms of a chunk share.
struct Layout {
    first_hint: ResetHint,
    next_hint: ResetHint,
    schema: i8,
    zero_threshold: f64,
    positive_spans: Vec<BucketSpan>,
    negative_spans: Vec<BucketSpan>,
    positive: usize,
    negative: usize,
    custom_values: Arc<[f64]>,
}

fn histograms(bytes: &[u8], of_floats: bool, give: &mut Give<'_>) -> Result<(), Short> {
    let (head, rest) = bytes.split_at_checked(3).ok_or(Short)?;
    let count = u16::from_be_bytes([head[0], head[1]]);
    if count == 0 {
        return Ok(());
    }
    let bits = &mut Bits::new(rest);
    let layout = layout(head[2], bits)?;
    let time_ms = bits.varbit()?;
    let mut time = Twice::new(time_ms);
    let buckets = layout.positive + layout.negative;
    // A bucket takes a bit in each sample.
    if buckets > bits.left() {
        return Err(Short);
    }
    if of_floats {
        let (total, zero) = (bits.float()?, bits.float()?);
        let mut sum = Xor::new(bits.float()?);
        let mut fields = vec![Xor::new(total), Xor::new(zero)];
        for _ in 0..buckets {
            fields.push(Xor::new(bits.float()?));
        }
        let counts = |fields: &[Xor]| {
            let values: Vec<f64> = fields.iter().map(|field| field.value).collect();
            HistogramCounts::Float(BucketCounts {
                count: values[0],
                zero: values[1],
                positive: values[2..2 + layout.positive].to_vec(),
                negative: values[2 + layout.positive..].to_vec(),
            })
        };
        give(time_ms, layout.value(true, counts(&fields), sum.value))?;
        for _ in 1..count {
            let time_ms = time.next(bits)?;
            for field in &mut fields[..2] {
                field.next(bits)?;
            }
            sum.next(bits)?;
            for field in &mut fields[2..] {
                field.next(bits)?;
            }
            give(time_ms, layout.value(false, counts(&fields), sum.value))?;
        }
        return Ok(());
    }
    let (total, zero) = (bits.varbit_unsigned()?, bits.varbit_unsigned()?);
    let mut sum = Xor::new(bits.float()?);
    let mut fields = vec![Twice::new(total as i64), Twice::new(zero as i64)];
    for _ in 0..buckets {
        fields.push(Twice::new(bits.varbit()?));
    }
    let counts = |fields: &[Twice]| {
        let (positive, negative) = fields[2..].split_at(layout.positive);
        let counts = BucketCounts {
            count: fields[0].value as u64,
            zero: fields[1].value as u64,
            positive: absolute(positive.iter().map(|field| field.value)),
            negative: absolute(negative.iter().map(|field| field.value)),
        };
        HistogramCounts::Integer(counts)
    };
    give(time_ms, layout.value(true, counts(&fields), sum.value))?;
    for _ in 1..count {
        let time_ms = time.next(bits)?;
        for field in &mut fields[..2] {
            field.next(bits)?;
        }
        sum.next(bits)?;
        for field in &mut fields[2..] {
            field.next(bits)?;
        }
        give(time_ms, layout.value(false, counts(&fields), sum.value))?;
    }
    Ok(())
}

/// Counts of buckets out of the differences between neighbours.
pub(super) fn absolute(deltas: impl Iterator<Item = i64>) -> Vec<u64> {
    let mut count = 0i64;
    deltas
        .map(|delta| {
            count = count.wrapping_add(delta);
            count as u64
        })
        .collect()
}

impl Layout {
    fn value(&self, is_first: bool, counts: HistogramCounts, sum: f64) -> Value {
        Value::Histogram(NativeHistogram {
            schema: self.schema,
            hint: if is_first { self.first_hint } else { self.next_hint },
            zero_threshold: self.zero_threshold,
            counts,
            sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            custom_values: Arc::clone(&self.custom_values),
        })
    }
}

fn layout(flags: u8, bits: &mut Bits<'_>) -> Result<Layout, Short> {
    // Whether the first is a reset its reader finds out itself, as Prometheus does; behind it there is none in a chunk.
    let (first_hint, next_hint) = match flags & 0b1100_0000 {
        0b1100_0000 => (ResetHint::Gauge, ResetHint::Gauge),
        _ => (ResetHint::Unknown, ResetHint::NotReset),
    };
    let zero_threshold = match bits.byte()? {
        0 => 0.0,
        255 => bits.float()?,
        // Powers of two from 2^-243 on: none of them is subnormal.
        power => f64::from_bits((1023 + u64::from(power) - 244) << 52),
    };
    let schema = bits.varbit()?;
    let (positive_spans, positive) = spans(bits)?;
    let (negative_spans, negative) = spans(bits)?;
    let mut custom_values = Vec::new();
    if schema == CUSTOM_SCHEMA {
        let count = bits.varbit_unsigned()?;
        if count > bits.left() as u64 {
            return Err(Short);
        }
        for _ in 0..count {
            custom_values.push(match bits.varbit_unsigned()? {
                0 => bits.float()?,
                thousandths => (thousandths - 1) as f64 / 1000.0,
            });
        }
    }
    Ok(Layout {
        first_hint,
        next_hint,
        schema: i8::try_from(schema).map_err(|_| Short)?,
        zero_threshold,
        positive_spans,
        negative_spans,
        positive,
        negative,
        custom_values: custom_values.into(),
    })
}

fn spans(bits: &mut Bits<'_>) -> Result<(Vec<BucketSpan>, usize), Short> {
    let count = bits.varbit_unsigned()?;
    if count > bits.left() as u64 {
        return Err(Short);
    }
    let (mut spans, mut buckets) = (Vec::new(), 0usize);
    for _ in 0..count {
        let len = u32::try_from(bits.varbit_unsigned()?).map_err(|_| Short)?;
        let offset = i32::try_from(bits.varbit()?).map_err(|_| Short)?;
        buckets = buckets.checked_add(len as usize).filter(|buckets| *buckets <= bits.left()).ok_or(Short)?;
        spans.push(BucketSpan { offset, len });
    }
    Ok((spans, buckets))
}

/// Any bytes as a chunk of each encoding.
#[cfg(feature = "fuzz")]
pub fn fuzz(bytes: &[u8]) {
    for encoding in 0..5 {
        let mut samples = 0usize;
        let _ = decode::<()>(encoding, bytes, &mut |_, _| {
            samples += 1;
            Ok(())
        });
        assert!(samples <= 1 << 16);
    }
}
