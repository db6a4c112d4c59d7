//! Floats of one run.
//!
//! | Encoding | Payload |
//! |---|---|
//! | 0 empty | nothing: all values are exceptions, or there are none |
//! | 1 constant | eight bytes |
//! | 2 constant integer | scale, zigzag |
//! | 3 runs | scale, zigzag first value, number of changes, per change its position (u8) and the zigzag difference |
//! | 4 differences | scale, zigzag first value, shift, zigzag differences |
//! | 5 differences of differences | scale, zigzag first value, shift, zigzag first difference, zigzag changes of it |
//! | 6 packed differences | scale, zigzag first value, shift, zigzag least difference, width in bits, what each is above it |
//! | 7 XOR | eight bytes, then each value's bits against those before ([`crate::codec::put_xor`]) |
//!
//! A scale `e` says that a value is its integer divided by 10^e. Only values for which that division gives back
//! every bit are written so. Differences are divided by 2^shift, which loses nothing.

use kymo_core::histogram::STALE_NAN_BITS;

use super::{Buffer, HAS_EXCEPTIONS, RUN_SAMPLES};
use crate::codec::{Read, Reader, put_xor, put_zigzag, zigzag};

const EMPTY: u8 = 0;
const CONSTANT: u8 = 1;
const CONSTANT_INTEGER: u8 = 2;
const RUNS: u8 = 3;
const DIFFERENCES: u8 = 4;
const SECOND_DIFFERENCES: u8 = 5;
const PACKED: u8 = 6;
const XOR: u8 = 7;

/// By number.
#[cfg(feature = "encoders")]
pub(super) const NAMES: [&str; 8] =
    ["empty", "constant", "constant integer", "runs", "differences", "second differences", "packed differences", "xor"];

const TAG_STALE: u8 = 0;
const TAG_INFINITY: u8 = 1;
const TAG_NEGATIVE_INFINITY: u8 = 2;
const TAG_NEGATIVE_ZERO: u8 = 3;
/// Eight bytes follow.
const TAG_BITS: u8 = 4;

const NEGATIVE_ZERO_BITS: u64 = 1 << 63;
const INFINITY_BITS: u64 = 0x7ff0_0000_0000_0000;
const NEGATIVE_INFINITY_BITS: u64 = 0xfff0_0000_0000_0000;

/// Powers of ten that a float holds exactly.
const POWERS: [f64; 19] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];
/// Integers below this are floats without loss.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
/// Wider packed differences gain nothing over eight bytes.
const PACKED_BITS_MAX: u32 = 56;

/// Appends exceptions and payload; gives the first byte.
pub(super) fn encode(bits: &[u64], out: &mut Vec<u8>) -> u8 {
    let mut values: Buffer<u64> = [0; RUN_SAMPLES];
    let values = &mut values[..bits.len()];
    values.copy_from_slice(bits);
    if let Some(&first) = bits.first()
        && is_exception(first)
        && bits.iter().all(|bits| *bits == first)
    {
        // A quantile of nothing, say, which stays NaN.
        out.extend_from_slice(&first.to_le_bytes());
        return CONSTANT;
    }
    // A bit per position.
    let exceptions = bits.iter().rev().fold(0u64, |mask, bits| mask << 1 | u64::from(is_exception(*bits)));
    if exceptions != 0 {
        take_exceptions(values, exceptions, out);
    }
    let flag = if exceptions != 0 { HAS_EXCEPTIONS } else { 0 };
    if exceptions.count_ones() as usize == bits.len() {
        return flag | EMPTY;
    }
    let mut integers: Buffer<i64> = [0; RUN_SAMPLES];
    let integers = &mut integers[..values.len()];
    let is_constant = values.iter().all(|value| *value == values[0]);
    let encoding = if is_constant {
        match scale(&values[..1], &mut integers[..1]) {
            Some(scale) => {
                out.push(scale);
                put_zigzag(out, integers[0]);
                CONSTANT_INTEGER
            }
            None => {
                out.extend_from_slice(&values[0].to_le_bytes());
                CONSTANT
            }
        }
    } else {
        match scale(values, integers) {
            Some(scale) => {
                // Whatever stands there is overruled; going on as before costs least.
                for at in (2..integers.len()).filter(|at| exceptions >> at & 1 != 0) {
                    integers[at] = 2 * integers[at - 1] - integers[at - 2];
                }
                put_integers(scale, integers, out)
            }
            None => {
                out.extend_from_slice(&values[0].to_le_bytes());
                values.windows(2).for_each(|pair| put_xor(out, pair[0] ^ pair[1]));
                XOR
            }
        }
    };
    flag | encoding
}

fn is_exception(bits: u64) -> bool {
    // All ones in the exponent: an infinity or a NaN.
    bits & INFINITY_BITS == INFINITY_BITS || bits == NEGATIVE_ZERO_BITS
}

/// Writes the exceptions and puts a neighbour's value in their places.
fn take_exceptions(values: &mut [u64], exceptions: u64, out: &mut Vec<u8>) {
    out.push(exceptions.count_ones() as u8);
    let mut filler = values.iter().copied().find(|bits| !is_exception(*bits)).unwrap_or(0);
    for (at, value) in values.iter_mut().enumerate() {
        if !is_exception(*value) {
            filler = *value;
            continue;
        }
        out.push(at as u8);
        match *value {
            STALE_NAN_BITS => out.push(TAG_STALE),
            INFINITY_BITS => out.push(TAG_INFINITY),
            NEGATIVE_INFINITY_BITS => out.push(TAG_NEGATIVE_INFINITY),
            NEGATIVE_ZERO_BITS => out.push(TAG_NEGATIVE_ZERO),
            bits => {
                out.push(TAG_BITS);
                out.extend_from_slice(&bits.to_le_bytes());
            }
        }
        *value = filler;
    }
}

/// The least scale at which all values are integers, which are put into `integers`.
fn scale(values: &[u64], integers: &mut [i64]) -> Option<u8> {
    let mut scale = 0;
    for at in 0..values.len() {
        let value = f64::from_bits(values[at]);
        let (found, integer) = (scale..POWERS.len()).find_map(|e| Some((e, exact(value, e)?)))?;
        if found > scale {
            // What was an integer at the smaller scale is one at the larger, unless it grows too large.
            let factor = POWERS[found - scale] as i64;
            for earlier in &mut integers[..at] {
                *earlier = earlier.checked_mul(factor).filter(|i| i.unsigned_abs() < INTEGER_MAX as u64)?;
            }
            scale = found;
        }
        integers[at] = integer;
    }
    Some(scale as u8)
}

#[inline]
fn exact(value: f64, scale: usize) -> Option<i64> {
    let scaled = value * POWERS[scale];
    // A NaN fails the comparison as well; there is none here.
    if scaled.abs() < INTEGER_MAX {
        let integer = (scaled + 0.5f64.copysign(scaled)) as i64;
        let integer = if scale == 0 { scaled as i64 } else { integer };
        let back = if scale == 0 { integer as f64 } else { integer as f64 / POWERS[scale] };
        if back == value && (integer as f64).abs() < INTEGER_MAX {
            return Some(integer);
        }
    }
    None
}

/// Writes integers, not all equal, in whichever form is smallest.
fn put_integers(scale: u8, integers: &[i64], out: &mut Vec<u8>) -> u8 {
    let mut differences: Buffer<i64> = [0; RUN_SAMPLES];
    let differences = &mut differences[..integers.len() - 1];
    let (mut all, mut changes, mut changes_bytes) = (0, 0, 0);
    let (mut least, mut most) = (i64::MAX, i64::MIN);
    for (difference, pair) in differences.iter_mut().zip(integers.windows(2)) {
        // Both are below 2^60: no overflow.
        let d = pair[1] - pair[0];
        *difference = d;
        all |= d;
        least = least.min(d);
        most = most.max(d);
        changes += usize::from(d != 0);
        changes_bytes += if d != 0 { varint_len(zigzag(d)) } else { 0 };
    }
    let shift = all.trailing_zeros();
    let (mut first_bytes, mut second_bytes, mut previous) = (0, 0, 0);
    for difference in differences.iter() {
        let d = difference >> shift;
        first_bytes += varint_len(zigzag(d));
        second_bytes += varint_len(zigzag(d - previous));
        previous = d;
    }
    let width = 64 - ((most - least) >> shift).leading_zeros();
    let packed_bytes = varint_len(zigzag(least >> shift)) + 1 + (differences.len() * width as usize).div_ceil(8);
    let runs_bytes = changes + changes_bytes;
    out.push(scale);
    put_zigzag(out, integers[0]);
    let smallest = first_bytes.min(second_bytes).min(packed_bytes);
    if runs_bytes <= smallest {
        out.push(changes as u8);
        for (at, difference) in differences.iter().enumerate().filter(|(_, difference)| **difference != 0) {
            out.push(at as u8 + 1);
            put_zigzag(out, *difference);
        }
        return RUNS;
    }
    out.push(shift as u8);
    if packed_bytes == smallest && width <= PACKED_BITS_MAX {
        put_zigzag(out, least >> shift);
        out.push(width as u8);
        let (mut word, mut filled) = (0u128, 0);
        for difference in differences.iter() {
            word |= u128::from(((difference - least) >> shift) as u64) << filled;
            filled += width;
            if filled >= 64 {
                out.extend_from_slice(&(word as u64).to_le_bytes());
                word >>= 64;
                filled -= 64;
            }
        }
        out.extend_from_slice(&(word as u64).to_le_bytes()[..filled.div_ceil(8) as usize]);
        return PACKED;
    }
    if first_bytes <= second_bytes {
        differences.iter().for_each(|difference| put_zigzag(out, difference >> shift));
        return DIFFERENCES;
    }
    let mut previous = 0;
    for difference in differences.iter() {
        let d = difference >> shift;
        put_zigzag(out, d - previous);
        previous = d;
    }
    SECOND_DIFFERENCES
}

#[inline]
fn varint_len(n: u64) -> usize {
    ((70 - (n | 1).leading_zeros()) / 7) as usize
}

/// Fills `values`; tells whether a staleness marker is among them.
pub(super) fn decode(encoding: u8, has_exceptions: bool, from: &mut Reader<'_>, values: &mut [f64]) -> Read<bool> {
    let exceptions = if has_exceptions { from.u8()? } else { 0 };
    let mut listed: Buffer<(u8, u64)> = [(0, 0); RUN_SAMPLES];
    let Some(listed) = listed.get_mut(..usize::from(exceptions)) else { return from.bad("too many exceptions") };
    let mut has_stale = false;
    for entry in listed.iter_mut() {
        let at = from.u8()?;
        if usize::from(at) >= values.len() {
            return from.bad("exception out of range");
        }
        let bits = match from.u8()? {
            TAG_STALE => STALE_NAN_BITS,
            TAG_INFINITY => INFINITY_BITS,
            TAG_NEGATIVE_INFINITY => NEGATIVE_INFINITY_BITS,
            TAG_NEGATIVE_ZERO => NEGATIVE_ZERO_BITS,
            TAG_BITS => from.u64()?,
            _ => return from.bad("unknown exception"),
        };
        has_stale |= bits == STALE_NAN_BITS;
        *entry = (at, bits);
    }
    if !values.is_empty() {
        decode_payload(encoding, from, values)?;
    }
    for (at, bits) in listed {
        values[usize::from(*at)] = f64::from_bits(*bits);
    }
    if encoding == XOR || encoding == CONSTANT {
        has_stale |= values.iter().any(|value| value.to_bits() == STALE_NAN_BITS);
    }
    Ok(has_stale)
}

fn decode_payload(encoding: u8, from: &mut Reader<'_>, values: &mut [f64]) -> Read<()> {
    match encoding {
        EMPTY => return Ok(()),
        CONSTANT => {
            values.fill(from.f64()?);
            return Ok(());
        }
        XOR => {
            let mut bits = from.u64()?;
            values[0] = f64::from_bits(bits);
            for value in &mut values[1..] {
                bits ^= from.xor()?;
                *value = f64::from_bits(bits);
            }
            return Ok(());
        }
        _ => {}
    }
    let Some(&power) = POWERS.get(usize::from(from.u8()?)) else { return from.bad("scale out of range") };
    let mut integers: Buffer<i64> = [0; RUN_SAMPLES];
    let integers = &mut integers[..values.len()];
    integers[0] = from.zigzag()?;
    if encoding == CONSTANT_INTEGER {
        values.fill(integers[0] as f64 / power);
        return Ok(());
    }
    decode_integers(encoding, from, integers)?;
    if power == 1.0 {
        values.iter_mut().zip(integers).for_each(|(value, integer)| *value = *integer as f64);
    } else {
        values.iter_mut().zip(integers).for_each(|(value, integer)| *value = *integer as f64 / power);
    }
    Ok(())
}

/// Fills what comes after the first integer.
fn decode_integers(encoding: u8, from: &mut Reader<'_>, integers: &mut [i64]) -> Read<()> {
    if encoding == RUNS {
        let (mut filled, mut value) = (0, integers[0]);
        for _ in 0..from.u8()? {
            let at = usize::from(from.u8()?);
            if at <= filled || at >= integers.len() {
                return from.bad("change out of order");
            }
            integers[filled..at].fill(value);
            value = value.wrapping_add(from.zigzag()?);
            filled = at;
        }
        integers[filled..].fill(value);
        return Ok(());
    }
    let shift = u32::from(from.u8()?);
    if shift > 63 {
        return from.bad("shift out of range");
    }
    let mut value = integers[0];
    match encoding {
        DIFFERENCES => {
            for integer in &mut integers[1..] {
                value = value.wrapping_add(from.zigzag()? << shift);
                *integer = value;
            }
        }
        SECOND_DIFFERENCES => {
            let mut difference = 0i64;
            for integer in &mut integers[1..] {
                difference = difference.wrapping_add(from.zigzag()?);
                value = value.wrapping_add(difference << shift);
                *integer = value;
            }
        }
        PACKED => {
            let least = from.zigzag()?;
            let width = u32::from(from.u8()?);
            if width > PACKED_BITS_MAX {
                return from.bad("packed width out of range");
            }
            let bytes = from.bytes(((integers.len() - 1) * width as usize).div_ceil(8))?;
            // Eight bytes can be read wherever a difference begins.
            let mut padded = [0; RUN_SAMPLES * 7 + 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            let mask = (1u64 << width) - 1;
            for (n, integer) in integers[1..].iter_mut().enumerate() {
                let bit = n * width as usize;
                let mut word = [0; 8];
                word.copy_from_slice(&padded[bit / 8..bit / 8 + 8]);
                let above = u64::from_le_bytes(word) >> (bit % 8) & mask;
                value = value.wrapping_add(least.wrapping_add(above as i64) << shift);
                *integer = value;
            }
        }
        _ => return from.bad("unknown encoding of floats"),
    }
    Ok(())
}

const _: () = assert!(RUN_SAMPLES <= u64::BITS as usize, "a bit per position");
