//! Native histograms on the wire, which are the same message in both versions of remote write.

use std::mem::take;
use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, ResetHint, is_stale_nan};

use crate::proto::{Cursor, ProtoError, Span, zigzag};

/// One histogram sample.
#[derive(Debug)]
pub(super) struct HistogramSample {
    pub(super) time_ms: i64,
    /// When it began to count; 0 = unset. Only version 2.0 has it.
    pub(super) start_ms: i64,
    pub(super) value: HistogramValue,
}

#[derive(Debug)]
pub(super) enum HistogramValue {
    Stale,
    Histogram(NativeHistogram),
    /// Its counts cannot be what the sender had: they are of mixed kinds, or fall below zero.
    Invalid,
}

/// A count that is an integer or a float: the last one sent of a `oneof`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Count {
    Integer(u64),
    Float(f64),
}

#[derive(Default)]
struct Buckets {
    spans: Vec<BucketSpan>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Buckets {
    /// Running sums of the deltas; `None` if one leaves the range of a count.
    fn absolute(&self) -> Option<Vec<u64>> {
        let mut count = 0i64;
        let step = |delta: &i64| {
            count = count.checked_add(*delta)?;
            u64::try_from(count).ok()
        };
        self.deltas.iter().map(step).collect()
    }
}

/// Reads a `Histogram` message. Allocates no more than eight bytes per byte of the message.
pub(super) fn decode(body: &[u8], message: Span) -> Result<HistogramSample, ProtoError> {
    let (mut count, mut zero) = (Count::Integer(0), None);
    let (mut sum, mut zero_threshold) = (0.0, 0.0);
    let (mut schema, mut hint) = (0i32, 0u32);
    let (mut time_ms, mut start_ms) = (0, 0);
    let (mut positive, mut negative) = (Buckets::default(), Buckets::default());
    let mut custom_values = Vec::new();
    let mut fields = Cursor::over(body, message);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => count = Count::Integer(field.varint()?),
            2 => count = Count::Float(field.double()?),
            3 => sum = field.double()?,
            4 => schema = field.sint32()?,
            5 => zero_threshold = field.double()?,
            6 => zero = Some(Count::Integer(field.varint()?)),
            7 => zero = Some(Count::Float(field.double()?)),
            8 => negative.spans.push(span(body, field.span()?)?),
            9 => field.varints(body, |n| negative.deltas.push(zigzag(n)))?,
            10 => field.doubles(body, |n| negative.counts.push(n))?,
            11 => positive.spans.push(span(body, field.span()?)?),
            12 => field.varints(body, |n| positive.deltas.push(zigzag(n)))?,
            13 => field.doubles(body, |n| positive.counts.push(n))?,
            14 => hint = field.uint32()?,
            15 => time_ms = field.int64()?,
            16 => field.doubles(body, |n| custom_values.push(n))?,
            17 => start_ms = field.int64()?,
            _ => {}
        }
    }
    let counts = counts(count, zero, &mut positive, &mut negative);
    let value = match (counts, i8::try_from(schema)) {
        _ if is_stale_nan(sum) => HistogramValue::Stale,
        (Some(counts), Ok(schema)) => HistogramValue::Histogram(NativeHistogram {
            schema,
            // A hint of a later version of the protocol says nothing we know.
            hint: u8::try_from(hint).ok().and_then(ResetHint::from_u8).unwrap_or_default(),
            zero_threshold,
            counts,
            sum,
            positive_spans: positive.spans,
            negative_spans: negative.spans,
            custom_values: Arc::from(custom_values),
        }),
        _ => HistogramValue::Invalid,
    };
    Ok(HistogramSample { time_ms, start_ms, value })
}

fn span(body: &[u8], message: Span) -> Result<BucketSpan, ProtoError> {
    let mut span = BucketSpan { offset: 0, len: 0 };
    let mut fields = Cursor::over(body, message);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => span.offset = field.sint32()?,
            2 => span.len = field.uint32()?,
            _ => {}
        }
    }
    Ok(span)
}

/// The counts, of the kind that the total is of. `None` where a count of the other kind is not zero: one of
/// the two would have to be thrown away.
fn counts(
    count: Count,
    zero: Option<Count>,
    positive: &mut Buckets,
    negative: &mut Buckets,
) -> Option<HistogramCounts> {
    match count {
        Count::Integer(count) => {
            let zero = match zero {
                None => 0,
                Some(Count::Integer(zero)) => zero,
                Some(Count::Float(0.0)) => 0,
                Some(Count::Float(_)) => return None,
            };
            if !positive.counts.is_empty() || !negative.counts.is_empty() {
                return None;
            }
            let (positive, negative) = (positive.absolute()?, negative.absolute()?);
            Some(HistogramCounts::Integer(BucketCounts { zero, count, positive, negative }))
        }
        Count::Float(count) => {
            let zero = match zero {
                None | Some(Count::Integer(0)) => 0.0,
                Some(Count::Float(zero)) => zero,
                Some(Count::Integer(_)) => return None,
            };
            if !positive.deltas.is_empty() || !negative.deltas.is_empty() {
                return None;
            }
            let (positive, negative) = (take(&mut positive.counts), take(&mut negative.counts));
            Some(HistogramCounts::Float(BucketCounts { zero, count, positive, negative }))
        }
    }
}
