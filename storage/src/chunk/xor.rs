//! Floats as a XOR bit stream (Pelkonen et al., "Gorilla", VLDB 2015, section 4.1.2).
//!
//! The first value is 64 bits. Then per value: `0` same as before; `10` the changed bits lie in the
//! window of the last `11`; `11` a new window: 5 bits of leading zeroes (at most 31), 6 bits of length − 1, the bits.
//! Bits fill bytes from the top; the last byte is filled with zeroes. A length in bytes stands before.

use crate::codec::{Read, Reader, put_varint};

pub(super) fn encode(values: &[f64], out: &mut Vec<u8>) {
    let mut bits = BitWriter::default();
    let mut previous = 0u64;
    let (mut leading, mut length) = (u32::MAX, 0u32);
    for (n, value) in values.iter().enumerate() {
        let now = value.to_bits();
        if n == 0 {
            bits.write(now, 64);
            previous = now;
            continue;
        }
        let changed = now ^ previous;
        previous = now;
        if changed == 0 {
            bits.write(0, 1);
            continue;
        }
        let (lead, trail) = (changed.leading_zeros().min(31), changed.trailing_zeros());
        let fits = leading != u32::MAX && lead >= leading && trail >= 64 - leading - length;
        if fits {
            bits.write(0b10, 2);
        } else {
            leading = lead;
            length = 64 - lead - trail;
            bits.write(0b11, 2);
            bits.write(u64::from(leading), 5);
            bits.write(u64::from(length - 1), 6);
        }
        bits.write(changed >> (64 - leading - length), length);
    }
    let bytes = bits.finish();
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(&bytes);
}

/// Decodes `count` values, drops the first `skip`, and appends the next `keep`.
pub(super) fn decode(from: &mut Reader<'_>, count: usize, skip: usize, keep: usize, out: &mut Vec<f64>) -> Read<()> {
    let bytes = from.block()?;
    from.end()?;
    // The first value takes 64 bits, every other at least one.
    if count > 0 && bytes.len().saturating_mul(8) < count + 63 {
        return from.bad("float column is too short");
    }
    let mut bits = BitReader { bytes, at: 0, word: 0, filled: 0 };
    let mut value = 0u64;
    let (mut leading, mut length) = (0u32, 0u32);
    out.reserve(keep);
    for n in 0..skip + keep {
        if n == 0 {
            value = bits.take(64, from)?;
        } else if bits.take(1, from)? == 1 {
            if bits.take(1, from)? == 1 {
                leading = bits.take(5, from)? as u32;
                length = bits.take(6, from)? as u32 + 1;
                if leading + length > 64 {
                    return from.bad("float window is too wide");
                }
            } else if length == 0 {
                return from.bad("float window is missing");
            }
            value ^= bits.take(length, from)? << (64 - leading - length);
        }
        if n >= skip {
            out.push(f64::from_bits(value));
        }
    }
    Ok(())
}

#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    word: u128,
    filled: u32,
}

impl BitWriter {
    fn write(&mut self, bits: u64, len: u32) {
        self.word = self.word << len | u128::from(bits);
        self.filled += len;
        while self.filled >= 8 {
            self.filled -= 8;
            self.bytes.push((self.word >> self.filled) as u8);
        }
        self.word &= (1 << self.filled) - 1;
    }

    fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.bytes.push((self.word << (8 - self.filled)) as u8);
        }
        self.bytes
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The lowest `filled` bits are the next ones.
    word: u128,
    filled: u32,
}

impl BitReader<'_> {
    #[inline]
    fn take(&mut self, len: u32, from: &Reader<'_>) -> Read<u64> {
        while self.filled < len {
            match self.bytes.get(self.at..self.at + 8) {
                Some(next) => {
                    let mut word = [0; 8];
                    word.copy_from_slice(next);
                    self.word = self.word << 64 | u128::from(u64::from_be_bytes(word));
                    self.filled += 64;
                    self.at += 8;
                }
                None => match self.bytes.get(self.at) {
                    Some(&byte) => {
                        self.word = self.word << 8 | u128::from(byte);
                        self.filled += 8;
                        self.at += 1;
                    }
                    None => return from.bad("float column is too short"),
                },
            }
        }
        self.filled -= len;
        let mask = if len == 64 { u64::MAX } else { (1 << len) - 1 };
        Ok((self.word >> self.filled) as u64 & mask)
    }
}
