//! Native histograms as columns: what they have in common once, then each number of all of them in a row.
//!
//! Neighbours of one layout (schema, zero threshold, spans, bounds, kind of counts) form a group. Within a group stand
//! the hints, then sums, zero counts, counts, and bucket by bucket the counts of that bucket: integers as
//! differences from the histogram before, floats XOR the histogram before. All of it goes through zstd.

use std::ops::Range;
use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, ResetHint};

use crate::codec::{Read, Reader, put_varint, put_zigzag, read_spans};
use crate::frames::{FrameWriter, unpack};

/// Bytes that the histograms of one chunk may take before zstd: a writer cuts before, a reader refuses more.
pub(super) const HISTOGRAM_BYTES_MAX: usize = 32 << 20;

const FLOAT_COUNTS: u8 = 1;

#[derive(Debug)]
pub(super) struct HistogramEncoder {
    frames: FrameWriter,
    raw: Vec<u8>,
}

impl HistogramEncoder {
    pub(super) fn new() -> std::io::Result<HistogramEncoder> {
        Ok(HistogramEncoder { frames: FrameWriter::new(3)?, raw: Vec::new() })
    }

    /// Appends *bytes* of a frame.
    pub(super) fn encode(&mut self, histograms: &[NativeHistogram], out: &mut Vec<u8>) {
        self.raw.clear();
        for group in histograms.chunk_by(is_one_layout) {
            encode_group(group, &mut self.raw);
        }
        let frame = self.frames.frame(&self.raw).unwrap_or_default();
        put_varint(out, frame.len() as u64);
        out.extend_from_slice(frame);
    }
}

fn is_one_layout(a: &NativeHistogram, b: &NativeHistogram) -> bool {
    let lens = |h: &NativeHistogram| match &h.counts {
        HistogramCounts::Integer(c) => (false, c.positive.len(), c.negative.len()),
        HistogramCounts::Float(c) => (true, c.positive.len(), c.negative.len()),
    };
    let bounds = |h: &NativeHistogram| h.custom_values.iter().map(|b| b.to_bits()).collect::<Vec<_>>();
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && lens(a) == lens(b)
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && (Arc::ptr_eq(&a.custom_values, &b.custom_values) || bounds(a) == bounds(b))
}

fn encode_group(group: &[NativeHistogram], out: &mut Vec<u8>) {
    let first = &group[0];
    put_varint(out, group.len() as u64);
    out.push(first.schema as u8);
    out.extend_from_slice(&first.zero_threshold.to_le_bytes());
    for spans in [&first.positive_spans, &first.negative_spans] {
        put_varint(out, spans.len() as u64);
        for span in spans {
            put_zigzag(out, i64::from(span.offset));
            put_varint(out, u64::from(span.len));
        }
    }
    put_varint(out, first.custom_values.len() as u64);
    first.custom_values.iter().for_each(|bound| out.extend_from_slice(&bound.to_le_bytes()));
    let (flags, positive, negative) = match &first.counts {
        HistogramCounts::Integer(c) => (0, c.positive.len(), c.negative.len()),
        HistogramCounts::Float(c) => (FLOAT_COUNTS, c.positive.len(), c.negative.len()),
    };
    out.push(flags);
    put_varint(out, positive as u64);
    put_varint(out, negative as u64);
    group.iter().for_each(|h| out.push(h.hint as u8));
    float_column(group.iter().map(|h| h.sum), out);
    if flags & FLOAT_COUNTS != 0 {
        let counts = |h: &NativeHistogram, number: &dyn Fn(&BucketCounts<f64>) -> f64| match &h.counts {
            HistogramCounts::Float(c) => number(c),
            HistogramCounts::Integer(_) => 0.0,
        };
        float_column(group.iter().map(|h| counts(h, &|c| c.zero)), out);
        float_column(group.iter().map(|h| counts(h, &|c| c.count)), out);
        (0..positive).for_each(|n| float_column(group.iter().map(|h| counts(h, &|c| c.positive[n])), out));
        (0..negative).for_each(|n| float_column(group.iter().map(|h| counts(h, &|c| c.negative[n])), out));
    } else {
        let counts = |h: &NativeHistogram, number: &dyn Fn(&BucketCounts<u64>) -> u64| match &h.counts {
            HistogramCounts::Integer(c) => number(c),
            HistogramCounts::Float(_) => 0,
        };
        integer_column(group.iter().map(|h| counts(h, &|c| c.zero)), out);
        integer_column(group.iter().map(|h| counts(h, &|c| c.count)), out);
        (0..positive).for_each(|n| integer_column(group.iter().map(|h| counts(h, &|c| c.positive[n])), out));
        (0..negative).for_each(|n| integer_column(group.iter().map(|h| counts(h, &|c| c.negative[n])), out));
    }
}

fn float_column(values: impl Iterator<Item = f64>, out: &mut Vec<u8>) {
    let mut before = 0;
    for value in values {
        out.extend_from_slice(&(value.to_bits() ^ before).to_le_bytes());
        before = value.to_bits();
    }
}

fn integer_column(values: impl Iterator<Item = u64>, out: &mut Vec<u8>) {
    let mut before = 0u64;
    for value in values {
        put_zigzag(out, value.wrapping_sub(before) as i64);
        before = value;
    }
}

fn read_float_column(from: &mut Reader<'_>, count: usize) -> Read<Vec<f64>> {
    let mut before = 0;
    let next = |_| {
        before ^= from.f64()?.to_bits();
        Ok(f64::from_bits(before))
    };
    (0..count).map(next).collect()
}

fn read_integer_column(from: &mut Reader<'_>, count: usize) -> Read<Vec<u64>> {
    let mut before = 0u64;
    let next = |_| {
        before = before.wrapping_add(from.zigzag()? as u64);
        Ok(before)
    };
    (0..count).map(next).collect()
}

/// Appends the histograms `range` of `count` to `out`.
pub(super) fn decode(
    from: &mut Reader<'_>,
    count: usize,
    range: Range<usize>,
    out: &mut Vec<NativeHistogram>,
) -> Read<()> {
    let frame = from.block()?;
    let mut raw = Vec::new();
    unpack(frame, HISTOGRAM_BYTES_MAX, &mut raw)?;
    let from = &mut Reader::new(&raw);
    let mut at = 0;
    while at < count {
        // Per histogram at least a hint, a sum, a zero count and a count.
        let len = from.count(11)?;
        if len == 0 || len > count - at {
            return from.bad("groups of histograms do not add up");
        }
        let (begin, end) = (at, at + len);
        at = end;
        let kept = range.start.clamp(begin, end) - begin..range.end.clamp(begin, end) - begin;
        decode_group(from, len, kept, out)?;
    }
    from.end()
}

fn decode_group(from: &mut Reader<'_>, len: usize, kept: Range<usize>, out: &mut Vec<NativeHistogram>) -> Read<()> {
    let schema = from.u8()? as i8;
    let zero_threshold = from.f64()?;
    let positive_spans = read_spans(from)?;
    let negative_spans = read_spans(from)?;
    let bounds = from.count(8)?;
    let custom_values: Arc<[f64]> = (0..bounds).map(|_| from.f64()).collect::<Read<_>>()?;
    let flags = from.u8()?;
    if flags & !FLOAT_COUNTS != 0 {
        return from.bad("unknown kind of histogram counts");
    }
    // Every bucket takes a byte of every histogram.
    let positive = from.count(len)?;
    let negative = from.count(len)?;
    let hints = from.bytes(len)?;
    let sums = read_float_column(from, len)?;
    let numbers = Numbers::read(from, flags & FLOAT_COUNTS != 0, len, positive, negative)?;
    for n in kept {
        let Some(hint) = ResetHint::from_u8(hints[n]) else { return from.bad("unknown reset hint") };
        out.push(NativeHistogram {
            schema,
            hint,
            zero_threshold,
            counts: numbers.of(n, positive),
            sum: sums[n],
            positive_spans: Vec::<BucketSpan>::clone(&positive_spans),
            negative_spans: Vec::<BucketSpan>::clone(&negative_spans),
            custom_values: Arc::clone(&custom_values),
        });
    }
    Ok(())
}

/// Zero counts, counts and buckets, each a column.
enum Numbers {
    Integer(Vec<Vec<u64>>),
    Float(Vec<Vec<f64>>),
}

impl Numbers {
    fn read(from: &mut Reader<'_>, floats: bool, len: usize, positive: usize, negative: usize) -> Read<Numbers> {
        let columns = 2 + positive + negative;
        Ok(if floats {
            Numbers::Float((0..columns).map(|_| read_float_column(from, len)).collect::<Read<_>>()?)
        } else {
            Numbers::Integer((0..columns).map(|_| read_integer_column(from, len)).collect::<Read<_>>()?)
        })
    }

    fn of(&self, n: usize, positive: usize) -> HistogramCounts {
        fn counts<T: Copy>(columns: &[Vec<T>], n: usize, positive: usize) -> BucketCounts<T> {
            let row = |columns: &[Vec<T>]| columns.iter().map(|column| column[n]).collect();
            let (positive, negative) = columns[2..].split_at(positive);
            BucketCounts { zero: columns[0][n], count: columns[1][n], positive: row(positive), negative: row(negative) }
        }
        match self {
            Numbers::Integer(columns) => HistogramCounts::Integer(counts(columns, n, positive)),
            Numbers::Float(columns) => HistogramCounts::Float(counts(columns, n, positive)),
        }
    }
}
