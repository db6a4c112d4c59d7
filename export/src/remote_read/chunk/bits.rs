//! Bits in a row, the highest of a byte first, and the codes that Prometheus' chunks are made of.

/// Bytes that are written bit by bit.
#[derive(Debug, Default)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are not written yet.
    free: u32,
}

/// The last value of a run of floats and where its changed bits lay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Xor {
    bits: u64,
    /// Leading and trailing zeros of the last change that was written with its place.
    window: Option<(u32, u32)>,
}

impl Xor {
    pub(super) fn new(first: f64) -> Xor {
        Xor { bits: first.to_bits(), window: None }
    }

    /// Writes what changed since the last value.
    pub(super) fn write(&mut self, out: &mut Bits, value: f64) {
        let change = self.bits ^ value.to_bits();
        self.bits = value.to_bits();
        if change == 0 {
            out.push(0, 1);
            return;
        }
        out.push(1, 1);
        // Five bits are kept for the leading zeros.
        let (leading, trailing) = (change.leading_zeros().min(31), change.trailing_zeros());
        if let Some((known_leading, known_trailing)) = self.window {
            if leading >= known_leading && trailing >= known_trailing {
                out.push(0, 1);
                out.push(change >> known_trailing, 64 - known_leading - known_trailing);
                return;
            }
        }
        self.window = Some((leading, trailing));
        let count = 64 - leading - trailing;
        out.push(1, 1);
        out.push(leading.into(), 5);
        // 64 does not fit six bits; it is written as 0, which no change has.
        out.push(u64::from(count) & 0x3f, 6);
        out.push(change >> trailing, count);
    }
}

impl Bits {
    /// Begins with these bytes.
    pub(super) fn after(bytes: Vec<u8>) -> Bits {
        Bits { bytes, free: 0 }
    }

    /// Appends the lowest `count` bits of `value`, at most 64.
    pub(super) fn push(&mut self, value: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let taken = left.min(self.free);
            let part = (value >> (left - taken)) & ((1u64 << taken) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part << (self.free - taken)) as u8;
            }
            self.free -= taken;
            left -= taken;
        }
    }

    pub(super) fn push_byte(&mut self, byte: u8) {
        self.push(byte.into(), 8);
    }

    pub(super) fn push_float(&mut self, value: f64) {
        self.push(value.to_bits(), 64);
    }

    /// A signed number in one of nine lengths, told by the ones before the first zero.
    pub(super) fn push_varbit(&mut self, value: i64) {
        if value == 0 {
            return self.push(0, 1);
        }
        for (number, size) in (1u32..).zip([3, 6, 9, 12, 18, 25, 56]) {
            if fits(value, size) {
                self.push(((1 << number) - 1) << 1, number + 1);
                return self.push(value as u64, size);
            }
        }
        self.push(0xff, 8);
        self.push(value as u64, 64);
    }

    /// The same for an unsigned number.
    pub(super) fn push_varbit_unsigned(&mut self, value: u64) {
        if value == 0 {
            return self.push(0, 1);
        }
        for (number, size) in (1u32..).zip([3, 6, 9, 12, 18, 25, 56]) {
            if value < 1 << size {
                self.push(((1 << number) - 1) << 1, number + 1);
                return self.push(value, size);
            }
        }
        self.push(0xff, 8);
        self.push(value, 64);
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Whether a number is one of those that `size` bits are read as: one more above zero than below it.
pub(super) fn fits(value: i64, size: u32) -> bool {
    let half = 1i64 << (size - 1);
    (1 - half..=half).contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_follow_each_other_from_the_highest() {
        let mut bits = Bits::after(vec![0xaa]);
        bits.push(0b101, 3);
        bits.push(0xff, 8);
        bits.push(0, 2);
        assert_eq!(bits.into_bytes(), [0xaa, 0b1011_1111, 0b1110_0000]);
    }

    #[test]
    fn numbers_take_the_shortest_code_that_holds_them() {
        let rows: [(i64, u32); 9] =
            [(0, 1), (-3, 5), (4, 5), (5, 9), (-255, 13), (2048, 17), (-131_071, 24), (16_777_216, 32), (i64::MIN, 72)];
        for (value, wanted) in rows {
            let mut bits = Bits::default();
            bits.push_varbit(value);
            let used = 8 * bits.bytes.len() as u32 - bits.free;
            assert_eq!(used, wanted, "{value}");
        }
        let mut bits = Bits::default();
        bits.push_varbit_unsigned(7);
        bits.push_varbit(-1);
        assert_eq!(bits.into_bytes(), [0b1011_1101, 0b1100_0000]);
    }
}
