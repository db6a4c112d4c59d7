//! Integers as residuals: differences (of differences), divided by what they have in common.
//!
//! Order 0: value − first value. Order 1: value − the one before. Order 2: that difference − the one before.
//! A page begins with its state, so that it can be read without the pages before it.

use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec, ModeSpec, PagingSpec};

use crate::codec::{Malformed, Read, Reader, put_varint, put_zigzag};

use super::decimal::POWERS;
use super::pages::{self, page_lens};

/// How integers become residuals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transform {
    /// 0 to 2.
    pub(super) order: u8,
    /// Power of ten that the integers are floats times.
    pub(super) exponent: u8,
    /// What every residual was divided by; at least 1.
    pub(super) divisor: i64,
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Start {
    value: i64,
    /// Of order 2: the difference before.
    slope: i64,
}

/// Bits of one packed residual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Bits16,
    Bits32,
    Bits64,
}

fn start(integers: &[i64], at: usize, order: u8) -> Start {
    let slope = match order {
        2 if at > 0 => integers[at] - integers[at - 1],
        2 => integers.get(1).map_or(0, |next| next - integers[0]),
        _ => 0,
    };
    Start { value: integers[at], slope }
}

/// Appends the residuals of `integers[1..]` from `start` on.
fn residuals_from(integers: &[i64], order: u8, start: Start, out: &mut Vec<i64>) {
    match order {
        0 => out.extend(integers[1..].iter().map(|v| v - start.value)),
        1 => out.extend(integers.windows(2).map(|w| w[1] - w[0])),
        _ => {
            let mut slope = start.slope;
            out.extend(integers.windows(2).map(|w| {
                let next = w[1] - w[0];
                let residual = next - slope;
                slope = next;
                residual
            }));
        }
    }
}

/// What coding residuals would take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) order: u8,
    /// Bits with classes by length coded by their entropy.
    pub(super) packed_bits: f64,
    /// Bytes as varints.
    pub(super) varint_bytes: usize,
    /// Share of residuals that are zero.
    pub(super) zeros: f64,
}

/// The order whose residuals are smallest.
pub(super) fn estimate(integers: &[i64], orders: &[u8], scratch: &mut Vec<i64>) -> Estimate {
    let mut best: Option<Estimate> = None;
    for &order in orders {
        scratch.clear();
        residuals_from(integers, order, start(integers, 0, order), scratch);
        let mut classes = [0u32; 65];
        for &residual in scratch.iter() {
            let zigzag = ((residual << 1) ^ (residual >> 63)) as u64;
            classes[64 - zigzag.leading_zeros() as usize] += 1;
        }
        let count = scratch.len().max(1) as f64;
        let (mut packed_bits, mut varint_bytes) = (0.0, 0);
        for (class, &seen) in classes.iter().enumerate().filter(|(_, seen)| **seen > 0) {
            let share = f64::from(seen) / count;
            packed_bits += f64::from(seen) * (-share.log2() + class.saturating_sub(1) as f64);
            varint_bytes += seen as usize * class.div_ceil(7).max(1);
        }
        let zeros = f64::from(classes[0]) / count;
        // Two more than the tables take: a new order must be worth it.
        if best.is_none_or(|best| packed_bits + 16.0 < best.packed_bits) {
            best = Some(Estimate { order, packed_bits, varint_bytes, zeros });
        }
    }
    best.expect("an order is given")
}

/// What all numbers are multiples of; 1 if they are all zero.
fn common_divisor(numbers: &[i64]) -> i64 {
    let mut divisor = 0u64;
    for &number in numbers {
        let (mut a, mut b) = (divisor, number.unsigned_abs());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        divisor = a;
        if divisor == 1 {
            break;
        }
    }
    i64::try_from(divisor.max(1)).unwrap_or(1)
}

/// Residuals as varints: header and body apart, for the body may be compressed.
pub(super) fn encode_varints(
    integers: &[i64],
    order: u8,
    exponent: u8,
    scratch: &mut Vec<i64>,
    header: &mut Vec<u8>,
    body: &mut Vec<u8>,
) {
    let first = start(integers, 0, order);
    scratch.clear();
    residuals_from(integers, order, first, scratch);
    let divisor = common_divisor(scratch);
    header.push(order | exponent << 4);
    put_varint(header, divisor as u64);
    put_zigzag(header, first.value);
    if order == 2 {
        put_zigzag(header, first.slope);
    }
    for &residual in scratch.iter() {
        put_zigzag(body, if divisor == 1 { residual } else { residual / divisor });
    }
}

/// The header that [`encode_varints`] wrote.
#[derive(Debug, Clone, Copy)]
pub(super) struct VarintHeader {
    transform: Transform,
    first: Start,
}

pub(super) fn read_varint_header(from: &mut Reader<'_>) -> Read<VarintHeader> {
    let (transform, _) = read_transform(from)?;
    let value = from.zigzag()?;
    let slope = if transform.order == 2 { from.zigzag()? } else { 0 };
    Ok(VarintHeader { transform, first: Start { value, slope } })
}

fn read_transform(from: &mut Reader<'_>) -> Read<(Transform, Width)> {
    let packed = from.u8()?;
    let width = match packed >> 2 & 3 {
        0 => Width::Bits16,
        1 => Width::Bits32,
        2 => Width::Bits64,
        _ => return from.bad("unknown width of integers"),
    };
    let (order, exponent) = (packed & 3, packed >> 4);
    if order > 2 {
        return from.bad("unknown order of differences");
    }
    match i64::try_from(from.varint()?) {
        Ok(divisor) if divisor > 0 => Ok((Transform { order, exponent, divisor }, width)),
        _ => from.bad("divisor is malformed"),
    }
}

/// Gives the `count` integers of a varint chunk, the first `end` of them, to `take`; gives the exponent.
pub(super) fn decode_varints(
    header: VarintHeader,
    body: &mut Reader<'_>,
    count: usize,
    end: usize,
    mut take: impl FnMut(usize, i64),
) -> Read<()> {
    let mut state = State::new(header.transform, header.first);
    if end > 0 {
        take(0, state.value);
    }
    for at in 1..count.min(end) {
        take(at, state.next(body.zigzag()?));
    }
    Ok(())
}

impl VarintHeader {
    pub(super) fn exponent(&self) -> u8 {
        self.transform.exponent
    }
}

/// Turns residuals back into integers.
struct State {
    transform: Transform,
    value: i64,
    slope: i64,
    base: i64,
}

impl State {
    fn new(transform: Transform, start: Start) -> State {
        State { transform, value: start.value, slope: start.slope, base: start.value }
    }

    #[inline]
    fn next(&mut self, residual: i64) -> i64 {
        let residual = residual.wrapping_mul(self.transform.divisor);
        match self.transform.order {
            0 => self.value = self.base.wrapping_add(residual),
            1 => self.value = self.value.wrapping_add(residual),
            _ => {
                self.slope = self.slope.wrapping_add(residual);
                self.value = self.value.wrapping_add(self.slope);
            }
        }
        self.value
    }
}

/// Residuals packed by pco, in pages.
pub(super) fn encode_packed(integers: &[i64], order: u8, exponent: u8, scratch: &mut Vec<i64>, out: &mut Vec<u8>) {
    let lens = page_lens(integers.len());
    let mut starts = Vec::with_capacity(lens.len());
    scratch.clear();
    let mut at = 0;
    for &len in &lens {
        let first = start(integers, at, order);
        residuals_from(&integers[at..at + len], order, first, scratch);
        starts.push(first);
        at += len;
    }
    let divisor = common_divisor(scratch);
    if divisor > 1 {
        scratch.iter_mut().for_each(|residual| *residual /= divisor);
    }
    let (low, high) = scratch.iter().fold((0, 0), |(low, high), r| (*r.min(&low), *r.max(&high)));
    let width = if i16::try_from(low).is_ok() && i16::try_from(high).is_ok() {
        Width::Bits16
    } else if i32::try_from(low).is_ok() && i32::try_from(high).is_ok() {
        Width::Bits32
    } else {
        Width::Bits64
    };
    out.push(order | (width as u8) << 2 | exponent << 4);
    put_varint(out, divisor as u64);
    let mut before = Start::default();
    for start in starts {
        put_zigzag(out, start.value.wrapping_sub(before.value));
        if order == 2 {
            put_zigzag(out, start.slope.wrapping_sub(before.slope));
        }
        before = start;
    }
    let residual_lens: Vec<usize> = lens.iter().map(|len| len - 1).collect();
    match width {
        Width::Bits16 => pack::<i16>(scratch, |r| r as i16, &residual_lens, out),
        Width::Bits32 => pack::<i32>(scratch, |r| r as i32, &residual_lens, out),
        Width::Bits64 => pack::<i64>(scratch, |r| r, &residual_lens, out),
    }
}

fn pack<T: pco::data_types::Number>(residuals: &[i64], narrow: impl Fn(i64) -> T, lens: &[usize], out: &mut Vec<u8>) {
    let narrowed: Vec<T> = residuals.iter().map(|r| narrow(*r)).collect();
    let config = ChunkConfig::default()
        .with_compression_level(pages::PCO_LEVEL)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(DeltaSpec::NoOp)
        .with_paging_spec(PagingSpec::Exact(lens.to_vec()));
    let compressor = FileCompressor::default().chunk_compressor(&narrowed, &config);
    pages::write(compressor.expect("the pages add up to the numbers"), out);
}

/// Appends the values `range` of a packed chunk of `count` to `out`.
pub(super) fn decode_packed(
    from: &mut Reader<'_>,
    count: usize,
    range: std::ops::Range<usize>,
    out: &mut Vec<f64>,
) -> Read<()> {
    if count < 2 {
        return from.bad("packed chunk is too short");
    }
    let (transform, width) = read_transform(from)?;
    let lens = page_lens(count);
    let mut starts = Vec::with_capacity(lens.len());
    let mut before = Start::default();
    for _ in &lens {
        before.value = before.value.wrapping_add(from.zigzag()?);
        if transform.order == 2 {
            before.slope = before.slope.wrapping_add(from.zigzag()?);
        }
        starts.push(before);
    }
    match width {
        Width::Bits16 => unpack::<i16>(from, &lens, &starts, transform, range, out),
        Width::Bits32 => unpack::<i32>(from, &lens, &starts, transform, range, out),
        Width::Bits64 => unpack::<i64>(from, &lens, &starts, transform, range, out),
    }
}

fn unpack<T: pco::data_types::Number + Into<i64>>(
    from: &mut Reader<'_>,
    lens: &[usize],
    starts: &[Start],
    transform: Transform,
    range: std::ops::Range<usize>,
    out: &mut Vec<f64>,
) -> Read<()> {
    let power = POWERS[usize::from(transform.exponent)];
    let mut take = |integer: i64| out.push(integer as f64 / power);
    let body = pages::read_layout(from, lens.len())?;
    let file = pages::file()?;
    let fault = |_| Malformed { what: "packed integers are malformed", offset: 0 };
    let (mut chunk, rest) = FileDecompressor::chunk_decompressor::<T, _>(&file, body.bytes).map_err(fault)?;
    let page_bytes = body.pages(rest)?;
    // Residuals of a page, decoded in steps that pco takes.
    let mut residuals = [T::default(); pages::PAGE_SAMPLES_MAX + 16];
    let mut at = 0;
    for ((&len, &start), bytes) in lens.iter().zip(starts).zip(page_bytes) {
        let (begin, end) = (at, at + len);
        at = end;
        if range.end <= begin || range.start >= end {
            continue;
        }
        let (skip, stop) = (range.start.saturating_sub(begin), range.end.min(end) - begin);
        let residuals = &mut residuals[..len - 1];
        if !residuals.is_empty() {
            let progress = chunk.page_decompressor(bytes, residuals.len()).and_then(|mut p| p.read(residuals));
            if progress.map_err(fault)?.n_processed != residuals.len() {
                return from.bad("packed integers are cut short");
            }
        }
        let mut state = State::new(transform, start);
        if skip == 0 {
            take(state.value);
        }
        for (n, residual) in residuals[..stop - 1].iter().enumerate() {
            let value = state.next((*residual).into());
            if n + 1 >= skip {
                take(value);
            }
        }
    }
    Ok(())
}
