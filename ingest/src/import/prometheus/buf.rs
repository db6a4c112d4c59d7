//! Big-endian bytes and varints, as Prometheus writes them.

/// Bytes that do not follow their format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Short;

/// A cursor over bytes of unknown quality.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buf<'a> {
    bytes: &'a [u8],
}

impl<'a> Buf<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Buf<'a> {
        Buf { bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(Short)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Short> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Short> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Short> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Short> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(super) fn f64(&mut self) -> Result<f64, Short> {
        Ok(f64::from_bits(self.u64()?))
    }

    pub(super) fn uvarint(&mut self) -> Result<u64, Short> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
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

    /// A count of things that take a byte each at the least.
    pub(super) fn count(&mut self) -> Result<usize, Short> {
        usize::try_from(self.uvarint()?).ok().filter(|count| *count <= self.left()).ok_or(Short)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Short> {
        let len = self.count()?;
        std::str::from_utf8(self.take(len)?).map_err(|_| Short)
    }
}
