use std::ops::Range;

/// Groups nested deeper than this are refused. Nothing we read has groups, so any depth is generous.
const GROUP_DEPTH_MAX: usize = 16;

/// Why bytes are not the protobuf message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtoError {
    /// The message ends inside a field.
    #[error("the message ends inside the field at byte {offset}")]
    Truncated {
        /// Where the missing bytes should begin.
        offset: usize,
    },
    /// A varint does not fit 64 bits.
    #[error("the varint at byte {offset} does not fit 64 bits")]
    Varint {
        /// Where it begins.
        offset: usize,
    },
    /// A field number or wire type that does not exist, or a group that ends without having begun.
    #[error("the field tag at byte {offset} is not one")]
    Tag {
        /// Where it begins.
        offset: usize,
    },
    /// A known field has the wire type of another kind of value.
    #[error("field {field} ending at byte {offset} has the wrong wire type")]
    WireType {
        /// The field's number.
        field: u32,
        /// Where the field ends.
        offset: usize,
    },
    /// Groups are nested too deep.
    #[error("groups are nested deeper than {GROUP_DEPTH_MAX} at byte {offset}")]
    Depth {
        /// Where the first one too many begins.
        offset: usize,
    },
}

/// A run of bytes in a body of less than 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn new(start: usize, end: usize) -> Span {
        debug_assert!(start <= end && u32::try_from(end).is_ok());
        Span { start: start as u32, end: end as u32 }
    }

    /// Of all bytes of a body.
    pub(crate) fn whole(body: &[u8]) -> Span {
        Span::new(0, body.len())
    }

    pub(crate) fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The bytes, which must be of the body the span was read from.
    pub(crate) fn of(self, body: &[u8]) -> &[u8] {
        &body[self.range()]
    }

    /// What is left after the first `len` bytes.
    pub(crate) fn skip(self, len: usize) -> Span {
        Span { start: self.end.min(self.start + len as u32), end: self.end }
    }

    /// Only the first `len` bytes.
    pub(crate) fn first(self, len: usize) -> Span {
        Span { start: self.start, end: self.end.min(self.start + len as u32) }
    }

    /// The bytes with the length that stands before them in the body, if it is the shortest varint of it.
    pub(crate) fn with_length(self, body: &[u8]) -> Option<&[u8]> {
        let range = self.range();
        let (at, len) = (range.start, range.len());
        if len < 0x80 {
            let start = at.checked_sub(1)?;
            return (usize::from(body[start]) == len).then(|| &body[start..range.end]);
        }
        // Not only a number of two to five bytes, but this one.
        let start = at.checked_sub(varint_len(len))?;
        let mut before = Cursor { bytes: &body[..at], at: start };
        (before.varint() == Ok(len as u64) && before.at == at).then(|| &body[start..range.end])
    }
}

/// The value of a field, by wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Varint(u64),
    Fixed64(u64),
    Bytes(Span),
    Fixed32(u32),
}

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) number: u32,
    value: Value,
    /// Where the field ends in the body; only for errors.
    end: usize,
}

impl Field {
    fn wrong(self) -> ProtoError {
        ProtoError::WireType { field: self.number, offset: self.end }
    }

    /// A string, bytes, or an embedded message.
    #[inline]
    pub(crate) fn span(self) -> Result<Span, ProtoError> {
        match self.value {
            Value::Bytes(span) => Ok(span),
            _ => Err(self.wrong()),
        }
    }

    #[inline]
    pub(crate) fn varint(self) -> Result<u64, ProtoError> {
        match self.value {
            Value::Varint(number) => Ok(number),
            _ => Err(self.wrong()),
        }
    }

    #[inline]
    pub(crate) fn int64(self) -> Result<i64, ProtoError> {
        Ok(self.varint()? as i64)
    }

    /// A `uint32`, or an enum; higher bits are cut off, as the protobuf specification says.
    #[inline]
    pub(crate) fn uint32(self) -> Result<u32, ProtoError> {
        Ok(self.varint()? as u32)
    }

    pub(crate) fn sint32(self) -> Result<i32, ProtoError> {
        Ok(zigzag(u64::from(self.uint32()?)) as i32)
    }

    #[inline]
    pub(crate) fn fixed64(self) -> Result<u64, ProtoError> {
        match self.value {
            Value::Fixed64(bits) => Ok(bits),
            _ => Err(self.wrong()),
        }
    }

    /// Most values that a repeated field of this occurrence holds, of at least so many bytes each.
    pub(crate) fn elements(self, bytes: usize) -> usize {
        match self.value {
            Value::Bytes(span) => span.len() / bytes,
            _ => 1,
        }
    }

    #[inline]
    pub(crate) fn double(self) -> Result<f64, ProtoError> {
        match self.value {
            Value::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(self.wrong()),
        }
    }

    /// The varints of a repeated field, packed or one by one.
    pub(crate) fn varints(self, body: &[u8], mut each: impl FnMut(u64)) -> Result<(), ProtoError> {
        match self.value {
            Value::Varint(number) => each(number),
            Value::Bytes(span) => {
                let mut packed = Cursor::over(body, span);
                while !packed.is_at_end() {
                    each(packed.varint()?);
                }
            }
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    /// The doubles of a repeated field, packed or one by one.
    pub(crate) fn doubles(self, body: &[u8], mut each: impl FnMut(f64)) -> Result<(), ProtoError> {
        match self.value {
            Value::Fixed64(bits) => each(f64::from_bits(bits)),
            Value::Bytes(span) => {
                let mut packed = Cursor::over(body, span);
                while !packed.is_at_end() {
                    each(f64::from_bits(packed.fixed64()?));
                }
            }
            _ => return Err(self.wrong()),
        }
        Ok(())
    }
}

/// Bytes of the shortest varint of `number`.
fn varint_len(number: usize) -> usize {
    (usize::BITS - number.leading_zeros()).div_ceil(7).max(1) as usize
}

/// Undoes the zigzag coding of `sint32` and `sint64`.
pub(crate) fn zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Walks the fields of one message.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    /// The body up to the end of this message, so that offsets count from the body's start.
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Over a whole body of less than 4 GiB.
    pub(crate) fn new(body: &'a [u8]) -> Cursor<'a> {
        debug_assert!(u32::try_from(body.len()).is_ok());
        Cursor { bytes: body, at: 0 }
    }

    /// Over a message inside `body`.
    pub(crate) fn over(body: &'a [u8], span: Span) -> Cursor<'a> {
        let range = span.range();
        Cursor { bytes: &body[..range.end], at: range.start }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Where the next field begins, counted from the start of the body.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The first byte of the next field.
    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Takes a field with a length of one or two bytes, if one of this tag stands here whole.
    #[inline]
    pub(crate) fn take_short(&mut self, tag: u8) -> Option<Span> {
        let [found, low, high] = *self.bytes.get(self.at..)?.first_chunk::<3>()?;
        let (len, header) = match (low, high) {
            (0..0x80, _) => (usize::from(low), 2),
            (_, 0..0x80) => (usize::from(low & 0x7f) | usize::from(high) << 7, 3),
            _ => return None,
        };
        let start = self.at + header;
        if found != tag || len > self.bytes.len().saturating_sub(start) {
            return None;
        }
        self.at = start + len;
        Some(Span::new(start, self.at))
    }

    /// Skips the `expected` fields if exactly they stand here and the next field does not begin with `tag`.
    #[inline]
    pub(crate) fn skip_expected(&mut self, expected: &[u8], tag: u8) -> bool {
        let rest = &self.bytes[self.at..];
        let is_here = !expected.is_empty() && rest.starts_with(expected) && rest.get(expected.len()) != Some(&tag);
        if is_here {
            self.at += expected.len();
        }
        is_here
    }

    /// The next field, or `None` at the end of the message.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Field>, ProtoError> {
        while !self.is_at_end() {
            let offset = self.at;
            let (number, wire_type) = self.tag()?;
            match wire_type {
                3 => self.skip_group(number, offset)?,
                4 => return Err(ProtoError::Tag { offset }),
                _ => {
                    let value = self.value(wire_type, offset)?;
                    return Ok(Some(Field { number, value, end: self.at }));
                }
            }
        }
        Ok(None)
    }

    #[inline]
    fn tag(&mut self) -> Result<(u32, u8), ProtoError> {
        let offset = self.at;
        let key = self.varint()?;
        match u32::try_from(key) {
            Ok(key) if key >= 8 => Ok((key >> 3, (key & 7) as u8)),
            _ => Err(ProtoError::Tag { offset }),
        }
    }

    #[inline]
    fn value(&mut self, wire_type: u8, offset: usize) -> Result<Value, ProtoError> {
        Ok(match wire_type {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed64()?),
            2 => {
                let len = self.varint()?;
                let start = self.at;
                let left = self.bytes.len() - start;
                if len > left as u64 {
                    return Err(ProtoError::Truncated { offset: start });
                }
                self.at = start + len as usize;
                Value::Bytes(Span::new(start, self.at))
            }
            5 => {
                let bytes = self.array::<4>()?;
                Value::Fixed32(u32::from_le_bytes(bytes))
            }
            _ => return Err(ProtoError::Tag { offset }),
        })
    }

    /// Skips to behind the end of group `number`, whose start tag has been read.
    #[cold]
    fn skip_group(&mut self, number: u32, offset: usize) -> Result<(), ProtoError> {
        let mut open = [0u32; GROUP_DEPTH_MAX];
        let mut depth = 1;
        open[0] = number;
        while depth > 0 {
            if self.is_at_end() {
                return Err(ProtoError::Truncated { offset });
            }
            let offset = self.at;
            let (number, wire_type) = self.tag()?;
            match wire_type {
                3 if depth == GROUP_DEPTH_MAX => return Err(ProtoError::Depth { offset }),
                3 => {
                    open[depth] = number;
                    depth += 1;
                }
                4 if open[depth - 1] == number => depth -= 1,
                4 => return Err(ProtoError::Tag { offset }),
                _ => {
                    self.value(wire_type, offset)?;
                }
            }
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, ProtoError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    /// A varint of any length; apart, so that the short ones stay small enough to be inlined.
    fn long_varint(&mut self) -> Result<u64, ProtoError> {
        let offset = self.at;
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(ProtoError::Truncated { offset: self.at })?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(ProtoError::Varint { offset })
    }

    #[inline]
    fn fixed64(&mut self) -> Result<u64, ProtoError> {
        Ok(u64::from_le_bytes(self.array::<8>()?))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtoError> {
        let truncated = ProtoError::Truncated { offset: self.at };
        let array = *self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()).ok_or(truncated)?;
        self.at += N;
        Ok(array)
    }
}
