//! Where text goes: a `String` or a `Vec<u8>` that the caller owns and reuses.

use std::fmt;

/// A growing text buffer that cannot fail.
///
/// Answers are built as bytes, messages as strings; writers in this module serve both.
pub trait TextSink {
    /// Appends `text`.
    fn push_str(&mut self, text: &str);

    /// Appends text that is known to be ASCII.
    fn push_ascii(&mut self, text: &[u8]) {
        self.push_str(std::str::from_utf8(text).unwrap_or_default());
    }

    /// Appends the first `len` bytes of ASCII, eight at most.
    fn push_few(&mut self, text: [u8; 8], len: usize) {
        self.push_ascii(&text[..len]);
    }

    /// Appends one character.
    fn push_char(&mut self, c: char) {
        self.push_str(c.encode_utf8(&mut [0; 4]));
    }
}

impl TextSink for String {
    fn push_str(&mut self, text: &str) {
        String::push_str(self, text);
    }

    fn push_char(&mut self, c: char) {
        self.push(c);
    }
}

impl TextSink for Vec<u8> {
    fn push_str(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }

    fn push_ascii(&mut self, text: &[u8]) {
        self.extend_from_slice(text);
    }

    #[inline]
    fn push_few(&mut self, text: [u8; 8], len: usize) {
        // One store of eight bytes is less than a copy of some of them.
        let end = self.len() + len;
        self.extend_from_slice(&text);
        self.truncate(end);
    }
}

/// Lets `write!` append to a [`TextSink`].
pub(super) struct FmtSink<'a, S: TextSink + ?Sized>(pub(super) &'a mut S);

impl<S: TextSink + ?Sized> fmt::Write for FmtSink<'_, S> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(text);
        Ok(())
    }
}

/// Appends what `value` displays. A sink never fails, so neither does this.
pub(super) fn push_display<S: TextSink + ?Sized>(out: &mut S, value: fmt::Arguments<'_>) {
    // The only error `write_fmt` can report here is one the value's own `Display` makes up.
    let _ = fmt::Write::write_fmt(&mut FmtSink(out), value);
}

/// Runs a writer inside a `Display` implementation: text passes through one short buffer.
pub(super) struct Relay<'a, 'f> {
    pub(super) formatter: &'a mut fmt::Formatter<'f>,
    pub(super) result: fmt::Result,
}

impl<'a, 'f> Relay<'a, 'f> {
    pub(super) fn new(formatter: &'a mut fmt::Formatter<'f>) -> Self {
        Self { formatter, result: Ok(()) }
    }
}

impl TextSink for Relay<'_, '_> {
    fn push_str(&mut self, text: &str) {
        if self.result.is_ok() {
            self.result = self.formatter.write_str(text);
        }
    }
}
