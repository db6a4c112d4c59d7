//! Steps over one text body, shared by both text formats.

use super::error::{ExpositionError, Fault};
use super::float;

const LETTER: u8 = 1;
const COLON: u8 = 2;
const DIGIT: u8 = 4;

/// What each byte may be in a bare name.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => LETTER,
            b':' => COLON,
            b'0'..=b'9' => DIGIT,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// A high bit in the lowest byte of `word` that equals `byte`, and perhaps in higher ones; 0 if there is none.
#[inline]
const fn matches_in(word: u64, byte: u8) -> u64 {
    let xor = word ^ (ONES * byte as u64);
    xor.wrapping_sub(ONES) & !xor & HIGHS
}

/// How many bytes stand before the first quote, backslash or newline.
#[inline]
fn plain_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let found = matches_in(word, b'"') | matches_in(word, b'\\') | matches_in(word, b'\n');
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | b'\n')).unwrap_or(rest.len())
}

/// Where in a body a reader stands.
#[derive(Debug, Clone)]
pub(super) struct Scan<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    /// Whether all of the body is UTF-8, so that its pieces need no look of their own.
    utf8: bool,
}

impl<'a> Scan<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Scan<'a> {
        Scan { bytes, at: 0, utf8: std::str::from_utf8(bytes).is_ok() }
    }

    /// Over a text that a parser has accepted before.
    pub(super) fn accepted(bytes: &'a [u8]) -> Scan<'a> {
        Scan { bytes, at: 0, utf8: true }
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    pub(super) fn take_all(&mut self, text: &[u8]) -> bool {
        let there = self.rest().starts_with(text);
        if there {
            self.at += text.len();
        }
        there
    }

    #[inline]
    pub(super) fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Everything before the next newline or the end; stands before the newline then.
    pub(super) fn line(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let len = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// A bare metric name: letters, digits, `_` and `:`.
    #[inline]
    pub(super) fn metric_name(&mut self) -> bool {
        self.bare(LETTER | COLON)
    }

    /// A bare label name: letters, digits and `_`.
    #[inline]
    pub(super) fn label_name(&mut self) -> bool {
        self.bare(LETTER)
    }

    #[inline]
    fn bare(&mut self, first: u8) -> bool {
        let class = |byte: &u8| CLASSES[usize::from(*byte)];
        let rest = self.rest();
        match rest.first() {
            Some(byte) if class(byte) & first != 0 => {}
            _ => return false,
        }
        let len = rest.iter().position(|byte| class(byte) & (first | DIGIT) == 0);
        self.at += len.unwrap_or(rest.len());
        true
    }

    /// A string in double quotes; gives what stands between them, escapes and all.
    #[inline]
    pub(super) fn quoted(&mut self, newlines: Newlines) -> Option<(usize, usize)> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let start = self.at + 1;
        let mut at = start;
        loop {
            at += plain_len(&self.bytes[at..]);
            match self.bytes.get(at)? {
                b'"' => {
                    self.at = at + 1;
                    return Some((start, at));
                }
                b'\n' if newlines == Newlines::Refused => return None,
                b'\n' => at += 1,
                // A backslash takes the next byte with it, but for the end of the line.
                _ => match self.bytes.get(at + 1) {
                    None | Some(b'\n') => return None,
                    Some(_) => at += 2,
                },
            }
        }
    }

    /// The number up to the next byte for which `ends` holds; stands before that byte then.
    #[inline]
    pub(super) fn number(&mut self, ends: impl Fn(u8) -> bool) -> Result<f64, Fault> {
        let rest = self.rest();
        if let Some((value, len)) = float::leading(rest)
            && rest.get(len).is_none_or(|byte| ends(*byte))
        {
            self.at += len;
            return Ok(value);
        }
        let len = rest.iter().position(|byte| ends(*byte)).unwrap_or(rest.len());
        let value = float::parse(&rest[..len]).map_err(|source| Fault::Float { source })?;
        self.at += len;
        Ok(value)
    }

    /// A piece of the body as text.
    pub(super) fn text(&self, start: usize, end: usize, what: &'static str) -> Result<&'a str, Fault> {
        std::str::from_utf8(&self.bytes[start..end]).map_err(|_| Fault::Utf8 { what })
    }

    /// Whether a piece of the body is text, which is known if all of it is.
    #[inline]
    pub(super) fn check_utf8(&self, start: usize, end: usize, what: &'static str) -> Result<(), Fault> {
        if self.utf8 || std::str::from_utf8(&self.bytes[start..end]).is_ok() {
            Ok(())
        } else {
            Err(Fault::Utf8 { what })
        }
    }

    #[cold]
    pub(super) fn error(&self, fault: Fault) -> ExpositionError {
        ExpositionError::new(self.bytes, self.at, fault)
    }
}

/// What a newline inside quotes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Newlines {
    /// A character like any other.
    Allowed,
    /// The end of a string that was not closed.
    Refused,
}
