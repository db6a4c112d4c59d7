//! Floats: `count (u16) · time (varint) · value (64 bits) · step (uvarint) · change · …` then changes of steps and values.

use super::SAMPLES_MAX;
use super::bits::{Bits, Xor, fits};

pub(super) struct XorChunk {
    bits: Bits,
    count: u16,
    time_ms: i64,
    step_ms: i64,
    value: Xor,
}

fn push_uvarint(bits: &mut Bits, mut value: u64) {
    while value >= 0x80 {
        bits.push_byte(value as u8 | 0x80);
        value >>= 7;
    }
    bits.push_byte(value as u8);
}

impl XorChunk {
    pub(super) fn new(time_ms: i64, value: f64) -> XorChunk {
        let mut bits = Bits::after(vec![0, 0]);
        push_uvarint(&mut bits, ((time_ms << 1) ^ (time_ms >> 63)) as u64);
        bits.push_float(value);
        XorChunk { bits, count: 1, time_ms, step_ms: 0, value: Xor::new(value) }
    }

    /// Takes a later sample; `false` if the chunk is full.
    pub(super) fn push(&mut self, time_ms: i64, value: f64) -> bool {
        if self.count == SAMPLES_MAX {
            return false;
        }
        let step_ms = time_ms.wrapping_sub(self.time_ms);
        let bits = &mut self.bits;
        if self.count == 1 {
            push_uvarint(bits, step_ms as u64);
        } else {
            let change = step_ms.wrapping_sub(self.step_ms);
            let unsigned = change as u64;
            if change == 0 {
                bits.push(0, 1);
            } else if fits(change, 14) {
                bits.push(0b10, 2);
                bits.push(unsigned, 14);
            } else if fits(change, 17) {
                bits.push(0b110, 3);
                bits.push(unsigned, 17);
            } else if fits(change, 20) {
                bits.push(0b1110, 4);
                bits.push(unsigned, 20);
            } else {
                bits.push(0b1111, 4);
                bits.push(unsigned, 64);
            }
        }
        self.value.write(bits, value);
        (self.time_ms, self.step_ms) = (time_ms, step_ms);
        self.count += 1;
        true
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bits.bytes_mut()[..2].copy_from_slice(&self.count.to_be_bytes());
        self.bits.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_the_bytes_that_prometheus_writes() {
        let mut chunk = XorChunk::new(1_000, 1.0);
        assert!(chunk.push(2_000, 1.0) && chunk.push(3_000, 2.0));
        let bytes = chunk.into_bytes();
        assert_eq!(bytes[..4], [0, 3, 0xd0, 0x0f], "three samples, the first at 1,000 ms");
        assert_eq!(bytes[4..12], 1f64.to_be_bytes());
        assert_eq!(bytes[12..14], [0xe8, 0x07], "a second later");
        // Unchanged value · unchanged step · a change with 1 leading zero and 11 bits in use.
        assert_eq!(bytes[14..], [0b0011_0000, 0b1001_0111, 0b1111_1111, 0b1100_0000]);
    }

    #[test]
    fn a_full_chunk_takes_no_more() {
        let mut chunk = XorChunk::new(0, 0.0);
        let taken = (1..).take_while(|n| chunk.push(n * 15_000, 1.0)).count();
        assert_eq!(taken, usize::from(SAMPLES_MAX) - 1);
    }
}
