//! A histogram as it is sent: classic buckets, native ones, or both.

use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, NORMAL_NAN_BITS, ResetHint};

use super::{proto, time};
use crate::exposition::error::Fault;
use crate::proto::{Cursor, Field, ProtoError, Span, zigzag};

/// A classic bucket.
pub(super) struct Bucket {
    pub(super) count: f64,
    pub(super) bound: f64,
    pub(super) exemplar: Option<Span>,
}

impl Bucket {
    pub(super) fn read(body: &[u8], span: Span) -> Result<Bucket, Fault> {
        let (mut count, mut count_float, mut bound, mut exemplar) = (0, 0.0, 0.0, None);
        let mut fields = Cursor::over(body, span);
        while let Some(field) = fields.next().map_err(proto)? {
            match field.number {
                1 => count = field.varint().map_err(proto)?,
                2 => bound = field.double().map_err(proto)?,
                3 => exemplar = Some(field.span().map_err(proto)?),
                4 => count_float = field.double().map_err(proto)?,
                _ => {}
            }
        }
        let count = if count_float > 0.0 { count_float } else { count as f64 };
        Ok(Bucket { count, bound, exemplar })
    }
}

/// One side of native buckets as sent.
#[derive(Default)]
struct Side {
    spans: Vec<BucketSpan>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

/// The fields of a `Histogram` message but for its classic buckets, which are only counted.
#[derive(Default)]
pub(super) struct Decoded {
    count: u64,
    count_float: f64,
    pub(super) sum: f64,
    /// Classic buckets.
    pub(super) buckets: usize,
    schema: i32,
    zero_threshold: f64,
    zero_count: u64,
    zero_count_float: f64,
    positive: Side,
    negative: Side,
    /// Whether it has exemplars of its own, besides those of classic buckets.
    pub(super) native_exemplars: bool,
    pub(super) start_ms: i64,
}

impl Decoded {
    pub(super) fn read(body: &[u8], span: Span) -> Result<Decoded, Fault> {
        let mut decoded = Decoded::default();
        let mut fields = Cursor::over(body, span);
        while let Some(field) = fields.next().map_err(proto)? {
            decoded.field(body, field).map_err(proto)?;
            if field.number == 15 {
                decoded.start_ms = time(body, field)?;
            }
        }
        Ok(decoded)
    }

    fn field(&mut self, body: &[u8], field: Field) -> Result<(), ProtoError> {
        match field.number {
            1 => self.count = field.varint()?,
            2 => self.sum = field.double()?,
            3 => self.buckets += 1,
            4 => self.count_float = field.double()?,
            5 => self.schema = field.sint32()?,
            6 => self.zero_threshold = field.double()?,
            7 => self.zero_count = field.varint()?,
            8 => self.zero_count_float = field.double()?,
            9 => self.negative.spans.push(bucket_span(body, field.span()?)?),
            10 => field.varints(body, |n| self.negative.deltas.push(zigzag(n)))?,
            11 => field.doubles(body, |n| self.negative.counts.push(n))?,
            12 => self.positive.spans.push(bucket_span(body, field.span()?)?),
            13 => field.varints(body, |n| self.positive.deltas.push(zigzag(n)))?,
            14 => field.doubles(body, |n| self.positive.counts.push(n))?,
            16 => self.native_exemplars = true,
            _ => {}
        }
        Ok(())
    }

    /// Whether anything native was sent; a histogram of no observations sends one empty span.
    pub(super) fn is_native(&self) -> bool {
        !self.positive.spans.is_empty()
            || !self.negative.spans.is_empty()
            || self.zero_threshold > 0.0
            || self.zero_count > 0
            || self.zero_count_float > 0.0
    }

    /// All observations, as the classic buckets count them.
    pub(super) fn total(&self) -> f64 {
        if self.count_float > 0.0 { self.count_float } else { self.count as f64 }
    }

    pub(super) fn native(&self, gauge: bool) -> Result<NativeHistogram, Fault> {
        let float = self.count_float > 0.0 || self.zero_count_float > 0.0;
        let counts = if float {
            HistogramCounts::Float(BucketCounts {
                zero: self.zero_count_float,
                count: self.count_float,
                positive: self.positive.counts.clone(),
                negative: self.negative.counts.clone(),
            })
        } else {
            HistogramCounts::Integer(BucketCounts {
                zero: self.zero_count,
                count: self.count,
                positive: absolute(&self.positive.deltas)?,
                negative: absolute(&self.negative.deltas)?,
            })
        };
        let histogram = NativeHistogram {
            schema: i8::try_from(self.schema).map_err(|_| Fault::Histogram)?,
            hint: if gauge { ResetHint::Gauge } else { ResetHint::Unknown },
            zero_threshold: self.zero_threshold,
            counts,
            sum: if self.sum.is_nan() { f64::from_bits(NORMAL_NAN_BITS) } else { self.sum },
            positive_spans: without_empty(&self.positive.spans),
            negative_spans: without_empty(&self.negative.spans),
            custom_values: Arc::from([]),
        };
        histogram.validate().map_err(|_| Fault::Histogram)?;
        Ok(histogram)
    }
}

/// Running sums of the deltas.
fn absolute(deltas: &[i64]) -> Result<Vec<u64>, Fault> {
    let mut count = 0i64;
    let step = |delta: &i64| {
        count = count.checked_add(*delta)?;
        u64::try_from(count).ok()
    };
    deltas.iter().map(step).collect::<Option<_>>().ok_or(Fault::Histogram)
}

/// The same buckets without spans that name none; an empty span is how a sender says "native".
fn without_empty(spans: &[BucketSpan]) -> Vec<BucketSpan> {
    let mut kept: Vec<BucketSpan> = Vec::with_capacity(spans.len());
    let mut gap = 0i32;
    for span in spans {
        gap = gap.saturating_add(span.offset);
        if span.len > 0 {
            kept.push(BucketSpan { offset: gap, len: span.len });
            gap = 0;
        }
    }
    kept
}

fn bucket_span(body: &[u8], message: Span) -> Result<BucketSpan, ProtoError> {
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
