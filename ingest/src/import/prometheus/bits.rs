//! Bits in a row, the highest of a byte first, and the codes that Prometheus' chunks are made of.

use super::buf::Short;

/// A cursor over bits.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits read.
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits { bytes, at: 0 }
    }

    /// How many are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }

    pub(super) fn bit(&mut self) -> Result<bool, Short> {
        let byte = self.bytes.get(self.at / 8).ok_or(Short)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// The next `count` bits, at most 64.
    pub(super) fn take(&mut self, count: u32) -> Result<u64, Short> {
        if count as usize > self.left() {
            return Err(Short);
        }
        let (mut value, mut left) = (0u64, count);
        while left > 0 {
            let free = 8 - (self.at % 8) as u32;
            let taken = left.min(free);
            let byte = u64::from(self.bytes[self.at / 8]);
            let part = byte >> (free - taken) & ((1 << taken) - 1);
            value = if taken == 64 { part } else { value << taken | part };
            self.at += taken as usize;
            left -= taken;
        }
        Ok(value)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Short> {
        Ok(self.take(8)? as u8)
    }

    pub(super) fn float(&mut self) -> Result<f64, Short> {
        Ok(f64::from_bits(self.take(64)?))
    }

    /// A signed number of so many bits, one more above zero than below it.
    pub(super) fn signed(&mut self, size: u32) -> Result<i64, Short> {
        let raw = self.take(size)?;
        Ok(if size < 64 && raw > 1 << (size - 1) { (raw as i64).wrapping_sub(1 << size) } else { raw as i64 })
    }

    /// LEB128, a byte at a time wherever it begins.
    pub(super) fn uvarint(&mut self) -> Result<u64, Short> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Short)
    }

    pub(super) fn varint(&mut self) -> Result<i64, Short> {
        let raw = self.uvarint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// The length of a number in one of nine lengths; 0 for a zero.
    fn varbit_size(&mut self) -> Result<u32, Short> {
        for size in [0, 3, 6, 9, 12, 18, 25, 56] {
            if !self.bit()? {
                return Ok(size);
            }
        }
        Ok(64)
    }

    pub(super) fn varbit(&mut self) -> Result<i64, Short> {
        match self.varbit_size()? {
            0 => Ok(0),
            size => self.signed(size),
        }
    }

    pub(super) fn varbit_unsigned(&mut self) -> Result<u64, Short> {
        match self.varbit_size()? {
            0 => Ok(0),
            size => self.take(size),
        }
    }

    /// Steps of times in chunks of floats: a change of change.
    pub(super) fn step_change(&mut self) -> Result<i64, Short> {
        for size in [0, 14, 17, 20] {
            if !self.bit()? {
                return if size == 0 { Ok(0) } else { self.signed(size) };
            }
        }
        self.signed(64)
    }
}

/// The last value of a run of floats, and where its changed bits lay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Xor {
    pub(super) value: f64,
    leading: u32,
    trailing: u32,
}

impl Xor {
    pub(super) fn new(first: f64) -> Xor {
        Xor { value: first, leading: 0, trailing: 0 }
    }

    /// Goes on to the next value.
    pub(super) fn next(&mut self, bits: &mut Bits<'_>) -> Result<f64, Short> {
        if bits.bit()? {
            if bits.bit()? {
                self.leading = bits.take(5)? as u32;
                let significant = match bits.take(6)? as u32 {
                    0 => 64,
                    significant => significant,
                };
                self.trailing = 64u32.checked_sub(self.leading + significant).ok_or(Short)?;
            }
            let significant = 64 - self.leading - self.trailing;
            let change = bits.take(significant)? << self.trailing;
            self.value = f64::from_bits(self.value.to_bits() ^ change);
        }
        Ok(self.value)
    }
}
