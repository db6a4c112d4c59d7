//! What few runs have: start timestamps and native histograms.
//!
//! | Piece | Form |
//! |---|---|
//! | flags | bit 0: starts follow; bit 1: histograms follow |
//! | starts | per sample the zigzag difference to the one before |
//! | histograms | count, then per histogram: position (u8), flags, perhaps a layout, and its numbers |
//! | · flags | bit 0: a layout follows, else it is that of the histogram before; bits 1 and 2: the reset hint |
//! | · layout | schema, whether counts are floats, zero threshold, spans, custom bounds |
//! | · numbers | sum as XOR, then count, zero bucket, positive and negative buckets, against the histogram before: integers as zigzag differences, floats as XOR; behind a layout all predecessors are 0 |

use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, ResetHint};

use crate::codec::{Read, Reader, put_spans, put_varint, put_xor, put_zigzag, read_spans};

const HAS_STARTS: u8 = 1;
const HAS_HISTOGRAMS: u8 = 2;
const HAS_LAYOUT: u8 = 1;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Odd {
    /// Empty, or one per sample.
    pub(super) starts: Vec<i64>,
    /// With positions, rising.
    pub(super) histograms: Vec<(u8, NativeHistogram)>,
}

pub(super) fn encode(starts: &[i64], histograms: &[(u8, Arc<NativeHistogram>)], out: &mut Vec<u8>) {
    let has = |there: bool, flag: u8| if there { flag } else { 0 };
    out.push(has(!starts.is_empty(), HAS_STARTS) | has(!histograms.is_empty(), HAS_HISTOGRAMS));
    let mut previous = 0i64;
    for start in starts {
        put_zigzag(out, start.wrapping_sub(previous));
        previous = *start;
    }
    if histograms.is_empty() {
        return;
    }
    out.push(histograms.len() as u8);
    let mut before: Option<&NativeHistogram> = None;
    for (at, histogram) in histograms {
        out.push(*at);
        let same = before.filter(|before| same_layout(before, histogram));
        out.push(has(same.is_none(), HAS_LAYOUT) | (histogram.hint as u8) << 1);
        if same.is_none() {
            put_layout(histogram, out);
        }
        put_numbers(histogram, same, out);
        before = Some(histogram);
    }
}

fn same_layout(a: &NativeHistogram, b: &NativeHistogram) -> bool {
    let counts = match (&a.counts, &b.counts) {
        (HistogramCounts::Integer(a), HistogramCounts::Integer(b)) => {
            a.positive.len() == b.positive.len() && a.negative.len() == b.negative.len()
        }
        (HistogramCounts::Float(a), HistogramCounts::Float(b)) => {
            a.positive.len() == b.positive.len() && a.negative.len() == b.negative.len()
        }
        _ => false,
    };
    let bounds = |h: &NativeHistogram| h.custom_values.iter().map(|bound| bound.to_bits()).collect::<Vec<_>>();
    counts
        && a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && (Arc::ptr_eq(&a.custom_values, &b.custom_values) || bounds(a) == bounds(b))
}

fn put_layout(histogram: &NativeHistogram, out: &mut Vec<u8>) {
    out.push(histogram.schema as u8);
    let (is_float, positive, negative) = match &histogram.counts {
        HistogramCounts::Integer(c) => (0, c.positive.len(), c.negative.len()),
        HistogramCounts::Float(c) => (1, c.positive.len(), c.negative.len()),
    };
    out.push(is_float);
    out.extend_from_slice(&histogram.zero_threshold.to_le_bytes());
    put_spans(out, &histogram.positive_spans);
    put_spans(out, &histogram.negative_spans);
    put_varint(out, positive as u64);
    put_varint(out, negative as u64);
    put_varint(out, histogram.custom_values.len() as u64);
    histogram.custom_values.iter().for_each(|bound| out.extend_from_slice(&bound.to_le_bytes()));
}

/// Every number of a histogram's counts, in their order on disk.
fn numbers<T: Copy>(counts: &BucketCounts<T>) -> impl Iterator<Item = T> + '_ {
    [counts.count, counts.zero]
        .into_iter()
        .chain(counts.positive.iter().copied())
        .chain(counts.negative.iter().copied())
}

fn put_numbers(histogram: &NativeHistogram, before: Option<&NativeHistogram>, out: &mut Vec<u8>) {
    put_xor(out, histogram.sum.to_bits() ^ before.map_or(0, |before| before.sum.to_bits()));
    match (&histogram.counts, before.map(|before| &before.counts)) {
        (HistogramCounts::Integer(now), Some(HistogramCounts::Integer(before))) => {
            let pairs = numbers(now).zip(numbers(before));
            pairs.for_each(|(now, before)| put_zigzag(out, now.wrapping_sub(before) as i64));
        }
        (HistogramCounts::Float(now), Some(HistogramCounts::Float(before))) => {
            let pairs = numbers(now).zip(numbers(before));
            pairs.for_each(|(now, before)| put_xor(out, now.to_bits() ^ before.to_bits()));
        }
        (HistogramCounts::Integer(now), _) => numbers(now).for_each(|now| put_zigzag(out, now as i64)),
        (HistogramCounts::Float(now), _) => numbers(now).for_each(|now| put_xor(out, now.to_bits())),
    }
}

pub(super) fn decode(from: &mut Reader<'_>, count: usize) -> Read<Odd> {
    let flags = from.u8()?;
    let mut odd = Odd::default();
    if flags & HAS_STARTS != 0 {
        let mut start = 0i64;
        for _ in 0..count {
            start = start.wrapping_add(from.zigzag()?);
            odd.starts.push(start);
        }
    }
    if flags & HAS_HISTOGRAMS == 0 {
        return Ok(odd);
    }
    for _ in 0..from.u8()? {
        let at = from.u8()?;
        if usize::from(at) >= count || odd.histograms.last().is_some_and(|(last, _)| *last >= at) {
            return from.bad("histogram out of order");
        }
        let flags = from.u8()?;
        let Some(hint) = ResetHint::from_u8(flags >> 1) else { return from.bad("unknown reset hint") };
        let before = odd.histograms.last().map(|(_, histogram)| histogram);
        let mut histogram = match before {
            _ if flags & HAS_LAYOUT != 0 => read_layout(from)?,
            Some(before) => before.clone(),
            None => return from.bad("the first histogram has no layout"),
        };
        histogram.hint = hint;
        read_numbers(from, &mut histogram)?;
        odd.histograms.push((at, histogram));
    }
    Ok(odd)
}

/// A histogram of this layout whose numbers are all 0.
fn read_layout(from: &mut Reader<'_>) -> Read<NativeHistogram> {
    let schema = from.u8()? as i8;
    let is_float = from.u8()? != 0;
    let zero_threshold = from.f64()?;
    let (positive_spans, negative_spans) = (read_spans(from)?, read_spans(from)?);
    // Each number takes a byte at least, and comes at once.
    let (positive, negative) = (from.count(1)?, from.count(1)?);
    let bounds = from.count(8)?;
    let custom_values: Arc<[f64]> = (0..bounds).map(|_| from.f64()).collect::<Read<_>>()?;
    let counts = if is_float {
        HistogramCounts::Float(BucketCounts {
            zero: 0.0,
            count: 0.0,
            positive: vec![0.0; positive],
            negative: vec![0.0; negative],
        })
    } else {
        HistogramCounts::Integer(BucketCounts {
            zero: 0,
            count: 0,
            positive: vec![0; positive],
            negative: vec![0; negative],
        })
    };
    let hint = ResetHint::Unknown;
    Ok(NativeHistogram {
        schema,
        hint,
        zero_threshold,
        counts,
        sum: 0.0,
        positive_spans,
        negative_spans,
        custom_values,
    })
}

/// Turns the numbers of the histogram before into those of the next.
fn read_numbers(from: &mut Reader<'_>, histogram: &mut NativeHistogram) -> Read<()> {
    histogram.sum = f64::from_bits(histogram.sum.to_bits() ^ from.xor()?);
    match &mut histogram.counts {
        HistogramCounts::Integer(c) => {
            let all = [&mut c.count, &mut c.zero].into_iter().chain(&mut c.positive).chain(&mut c.negative);
            all.into_iter().try_for_each(|n| from.zigzag().map(|d| *n = n.wrapping_add(d as u64)))
        }
        HistogramCounts::Float(c) => {
            let all = [&mut c.count, &mut c.zero].into_iter().chain(&mut c.positive).chain(&mut c.negative);
            all.into_iter().try_for_each(|n| from.xor().map(|x| *n = f64::from_bits(n.to_bits() ^ x)))
        }
    }
}

const _: () = assert!(size_of::<BucketSpan>() == 8);
