//! Bytes in and out, for every format of this crate.
//!
//! Little-endian, explicit widths, LEB128 varints, zigzag for signed numbers. A [`Reader`] trusts
//! nothing: it knows where it is, never reads past its end, and a count read from the bytes is checked
//! against the bytes that are left before anything is allocated for it.

use std::sync::Arc;

use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, ResetHint};
use kymo_core::{Labels, LabelsRef, NativeHistogram};

/// Bytes that do not follow their format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct Malformed {
    /// What is wrong.
    pub what: &'static str,
    /// Where, from the start of the piece being read.
    pub offset: usize,
}

pub(crate) type Read<T> = Result<T, Malformed>;

/// A cursor over bytes of unknown quality.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn bad<T>(&self, what: &'static str) -> Read<T> {
        Err(Malformed { what, offset: self.at })
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Read<&'a [u8]> {
        let Some(bytes) = self.at.checked_add(len).and_then(|end| self.bytes.get(self.at..end)) else {
            return self.bad("unexpected end");
        };
        self.at += len;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Read<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Read<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn f64(&mut self) -> Read<f64> {
        Ok(f64::from_bits(self.u64()?))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Read<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.bytes.get(self.at) else { return self.bad("unexpected end") };
            self.at += 1;
            if shift == 63 && byte > 1 {
                return self.bad("number too large");
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        self.bad("number too long")
    }

    #[inline]
    pub(crate) fn zigzag(&mut self) -> Read<i64> {
        let n = self.varint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// Reads what [`put_xor`] wrote.
    #[inline]
    pub(crate) fn xor(&mut self) -> Read<u64> {
        let Some(&control) = self.bytes.get(self.at) else { return self.bad("unexpected end") };
        let (shift, len) = (u32::from(control >> 4) * 8, usize::from(control & 0x0f));
        if control == 0 {
            self.at += 1;
            return Ok(0);
        }
        if len == 0 || shift as usize / 8 + len > 8 {
            return self.bad("changed bytes out of range");
        }
        // Where eight bytes are there they are read at once.
        let start = self.at + 1;
        let mut word = [0; 8];
        match self.bytes.get(start..start + 8) {
            Some(eight) => word.copy_from_slice(eight),
            None => match self.bytes.get(start..start + len) {
                Some(few) => word[..len].copy_from_slice(few),
                None => return self.bad("unexpected end"),
            },
        }
        self.at = start + len;
        let kept = u64::MAX >> (64 - 8 * len);
        Ok((u64::from_le_bytes(word) & kept) << shift)
    }

    /// A count of things that take at least `bytes_each` bytes each of what is left.
    pub(crate) fn count(&mut self, bytes_each: usize) -> Read<usize> {
        let n = self.varint()?;
        match usize::try_from(n) {
            Ok(n) if n.checked_mul(bytes_each).is_some_and(|bytes| bytes <= self.left()) => Ok(n),
            _ => self.bad("count beyond the bytes present"),
        }
    }

    pub(crate) fn block(&mut self) -> Read<&'a [u8]> {
        let len = self.count(1)?;
        self.bytes(len)
    }

    pub(crate) fn text(&mut self) -> Read<&'a str> {
        let bytes = self.block()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(_) => self.bad("text is not UTF-8"),
        }
    }

    pub(crate) fn labels(&mut self) -> Read<LabelsRef<'a>> {
        let packed = self.block()?;
        LabelsRef::from_packed(packed).or_else(|_| self.bad("label set is malformed"))
    }

    pub(crate) fn end(&self) -> Read<()> {
        if self.left() == 0 { Ok(()) } else { self.bad("bytes after the end") }
    }
}

/// Whether a checksum is the one wanted. Built for fuzzing, any is: bytes that were changed are to be read as what they
/// now say, not refused for having been changed.
pub(crate) fn is_sum(found: u32, wanted: u32) -> bool {
    cfg!(fuzzing) || found == wanted
}

#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

#[inline]
pub(crate) fn put_zigzag(out: &mut Vec<u8>, n: i64) {
    put_varint(out, zigzag(n));
}

/// A signed number as an unsigned one that is small when it is near 0.
#[inline]
pub(crate) fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

/// Writes which bits changed: how many low bytes are zero (high half of a byte), how many bytes follow (low half),
/// and these. Nothing changed is one zero byte.
#[inline]
pub(crate) fn put_xor(out: &mut Vec<u8>, changed: u64) {
    if changed == 0 {
        out.push(0);
        return;
    }
    let zeros = changed.trailing_zeros() / 8;
    let len = 8 - changed.leading_zeros() / 8 - zeros;
    let mut bytes = [0; 9];
    bytes[0] = (zeros << 4 | len) as u8;
    bytes[1..].copy_from_slice(&(changed >> (8 * zeros)).to_le_bytes());
    out.extend_from_slice(&bytes[..1 + len as usize]);
}

pub(crate) fn put_block(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put_block(out, labels.as_ref().packed());
}

const FLOAT_COUNTS: u8 = 1;

/// Writes a histogram, every bit of it. Form: `docs/format/chunk.md`, "One histogram".
pub(crate) fn put_histogram(out: &mut Vec<u8>, h: &NativeHistogram) {
    out.push(h.schema as u8);
    let kind = if matches!(h.counts, HistogramCounts::Float(_)) { FLOAT_COUNTS } else { 0 };
    out.push(kind | (h.hint as u8) << 1);
    out.extend_from_slice(&h.zero_threshold.to_le_bytes());
    out.extend_from_slice(&h.sum.to_le_bytes());
    put_spans(out, &h.positive_spans);
    put_spans(out, &h.negative_spans);
    put_varint(out, h.custom_values.len() as u64);
    for bound in h.custom_values.iter() {
        out.extend_from_slice(&bound.to_le_bytes());
    }
    match &h.counts {
        HistogramCounts::Integer(c) => {
            put_varint(out, c.zero);
            put_varint(out, c.count);
            for buckets in [&c.positive, &c.negative] {
                put_varint(out, buckets.len() as u64);
                buckets.iter().for_each(|n| put_varint(out, *n));
            }
        }
        HistogramCounts::Float(c) => {
            out.extend_from_slice(&c.zero.to_le_bytes());
            out.extend_from_slice(&c.count.to_le_bytes());
            for buckets in [&c.positive, &c.negative] {
                put_varint(out, buckets.len() as u64);
                buckets.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
            }
        }
    }
}

/// Reads what [`put_histogram`] wrote.
pub(crate) fn read_histogram(from: &mut Reader<'_>) -> Read<NativeHistogram> {
    let schema = from.u8()? as i8;
    let flags = from.u8()?;
    let Some(hint) = ResetHint::from_u8(flags >> 1) else { return from.bad("unknown reset hint") };
    let zero_threshold = from.f64()?;
    let sum = from.f64()?;
    let positive_spans = read_spans(from)?;
    let negative_spans = read_spans(from)?;
    let bounds = from.count(8)?;
    let custom_values: Arc<[f64]> = (0..bounds).map(|_| from.f64()).collect::<Read<_>>()?;
    let counts = if flags & FLOAT_COUNTS != 0 {
        let (zero, count) = (from.f64()?, from.f64()?);
        let mut buckets = || -> Read<Vec<f64>> {
            let n = from.count(8)?;
            (0..n).map(|_| from.f64()).collect()
        };
        HistogramCounts::Float(BucketCounts { zero, count, positive: buckets()?, negative: buckets()? })
    } else {
        let (zero, count) = (from.varint()?, from.varint()?);
        let mut buckets = || -> Read<Vec<u64>> {
            let n = from.count(1)?;
            (0..n).map(|_| from.varint()).collect()
        };
        HistogramCounts::Integer(BucketCounts { zero, count, positive: buckets()?, negative: buckets()? })
    };
    Ok(NativeHistogram { schema, hint, zero_threshold, counts, sum, positive_spans, negative_spans, custom_values })
}

pub(crate) fn put_spans(out: &mut Vec<u8>, spans: &[BucketSpan]) {
    put_varint(out, spans.len() as u64);
    for span in spans {
        put_zigzag(out, i64::from(span.offset));
        put_varint(out, u64::from(span.len));
    }
}

pub(crate) fn read_spans(from: &mut Reader<'_>) -> Read<Vec<BucketSpan>> {
    let n = from.count(2)?;
    let mut spans = Vec::with_capacity(n);
    for _ in 0..n {
        let (offset, len) = (from.zigzag()?, from.varint()?);
        match (i32::try_from(offset), u32::try_from(len)) {
            (Ok(offset), Ok(len)) => spans.push(BucketSpan { offset, len }),
            _ => return from.bad("span out of range"),
        }
    }
    Ok(spans)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_read_back(n in any::<u64>(), s in any::<i64>()) {
            let mut out = Vec::new();
            put_varint(&mut out, n);
            put_zigzag(&mut out, s);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(n));
            prop_assert_eq!(reader.zigzag(), Ok(s));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn any_bytes_are_no_histogram_or_a_bounded_one(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(h) = read_histogram(&mut Reader::new(&bytes)) {
                prop_assert!(h.bytes() < 200 * 16 + 1_000);
            }
        }
    }

    #[test]
    fn a_number_beyond_64_bits_is_refused() {
        let mut reader = Reader::new(&[0xff; 10]);
        assert_eq!(reader.varint().unwrap_err().what, "number too large");
    }

    #[test]
    fn a_count_is_held_against_the_bytes_left() {
        let mut out = Vec::new();
        put_varint(&mut out, 1 << 40);
        assert_eq!(Reader::new(&out).count(1).unwrap_err().what, "count beyond the bytes present");
    }
}
