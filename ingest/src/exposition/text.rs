//! Prometheus text 0.0.4, and what 1.0.0 adds to it: names in quotes.
//!
//! Lenient where Prometheus is: blanks between any two tokens, blank lines, free comments, values without a blank before
//! them, a missing newline at the end.

use kymo_core::FamilyType;

use super::error::{ExpositionError, Fault};
use super::labels::{Rules, scan_labels};
use super::metadata::{Keyword, family, text_type};
use super::sample::{Exemplars, Sample, SampleValue};
use super::scan::Scan;
use super::{Entry, Escapes, RawText};

/// Reads text 0.0.4.
#[derive(Debug)]
pub struct TextParser<'a> {
    scan: Scan<'a>,
    family_type: FamilyType,
}

fn ends_value(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'{')
}

impl<'a> TextParser<'a> {
    /// A parser over a body.
    #[must_use]
    pub fn new(body: &'a [u8]) -> TextParser<'a> {
        TextParser { scan: Scan::new(body), family_type: FamilyType::Unknown }
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// [`ExpositionError`]; further calls make no sense.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, ExpositionError> {
        self.next_expecting(b"")
    }

    /// As [`Parser::next_expecting`](super::Parser::next_expecting).
    ///
    /// # Errors
    /// As [`next_entry`](Self::next_entry).
    #[inline]
    pub fn next_expecting(&mut self, expected: &[u8]) -> Result<Option<Entry<'a>>, ExpositionError> {
        let start = self.scan.at;
        if !expected.is_empty() && self.scan.take_all(expected) {
            if matches!(self.scan.peek(), Some(b' ' | b'\t')) {
                self.scan.skip_blanks();
                // A bare name may have its labels behind a blank; then it is another series.
                if self.scan.peek() != Some(b'{') {
                    let series = &self.scan.bytes[start..start + expected.len()];
                    return self.value(series).map(Some).map_err(|fault| self.scan.error(fault));
                }
            }
            self.scan.at = start;
        }
        self.entry().map_err(|fault| self.scan.error(fault))
    }

    fn entry(&mut self) -> Result<Option<Entry<'a>>, Fault> {
        loop {
            self.scan.skip_blanks();
            let start = self.scan.at;
            match self.scan.peek() {
                None => return Ok(None),
                Some(b'\n') => self.scan.at += 1,
                Some(b'#') => {
                    if let Some(entry) = self.comment()? {
                        return Ok(Some(entry));
                    }
                }
                Some(b'{') => {
                    self.scan.at += 1;
                    let mut named = false;
                    scan_labels(&mut self.scan, Rules::Text, &mut named, |_| {})?;
                    if !named {
                        return Err(Fault::NameMissing);
                    }
                    return self.sample(start).map(Some);
                }
                Some(_) if self.scan.metric_name() => {
                    let end = self.scan.at;
                    self.scan.skip_blanks();
                    if self.scan.take(b'{') {
                        scan_labels(&mut self.scan, Rules::Text, &mut true, |_| {})?;
                    } else {
                        self.scan.at = end;
                    }
                    return self.sample(start).map(Some);
                }
                Some(_) => return Err(Fault::Start),
            }
        }
    }

    fn sample(&mut self, start: usize) -> Result<Entry<'a>, Fault> {
        let series = &self.scan.bytes[start..self.scan.at];
        self.scan.skip_blanks();
        self.value(series)
    }

    /// What follows a series, from the value to the end of the line.
    #[inline]
    fn value(&mut self, series: &'a [u8]) -> Result<Entry<'a>, Fault> {
        if matches!(self.scan.peek(), None | Some(b'\n' | b'{')) {
            return Err(Fault::Value { after: "metric" });
        }
        let value = self.scan.number(ends_value)?;
        self.scan.skip_blanks();
        let mut time_ms = None;
        if self.scan.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            time_ms = Some(self.time_ms()?);
            self.scan.skip_blanks();
            if !self.end_of_line() {
                return Err(Fault::AfterTimestamp);
            }
        } else if !self.end_of_line() {
            return Err(Fault::AfterValue);
        }
        Ok(Entry::Sample(Sample {
            series,
            family_type: self.family_type,
            value: SampleValue::Float(value),
            time_ms,
            start_ms: 0,
            exemplars: Exemplars::default(),
        }))
    }

    fn end_of_line(&mut self) -> bool {
        self.scan.take(b'\n') || self.scan.peek().is_none()
    }

    fn time_ms(&mut self) -> Result<i64, Fault> {
        let mut time = 0i64;
        while let Some(digit @ b'0'..=b'9') = self.scan.peek() {
            let next = time.checked_mul(10).and_then(|time| time.checked_add(i64::from(digit - b'0')));
            time = next.ok_or(Fault::Timestamp)?;
            self.scan.at += 1;
        }
        Ok(time)
    }

    /// A line that begins with `#`: metadata, or `None` for a comment.
    fn comment(&mut self) -> Result<Option<Entry<'a>>, Fault> {
        self.scan.at += 1;
        let blank = |scan: &Scan<'_>| matches!(scan.peek(), Some(b' ' | b'\t'));
        let mut keyword = None;
        if blank(&self.scan) {
            self.scan.skip_blanks();
            keyword = [Keyword::Help, Keyword::Type]
                .into_iter()
                .find(|keyword| self.scan.take_all(keyword.as_str().as_bytes()))
                .filter(|_| blank(&self.scan));
        }
        let Some(keyword) = keyword else {
            self.scan.line();
            return Ok(None);
        };
        self.scan.skip_blanks();
        let family = family(&mut self.scan, keyword)?;
        let start = self.scan.at;
        let line = self.scan.line();
        // One byte separates the name from its text; only blanks are no text.
        let blank = line.iter().all(|byte| matches!(byte, b' ' | b'\t'));
        let text_start = if blank { self.scan.at } else { start + 1 };
        if keyword == Keyword::Type {
            self.family_type = text_type(&self.scan.bytes[text_start..self.scan.at]).ok_or(Fault::FamilyType)?;
            return Ok(Some(Entry::Type { family, family_type: self.family_type }));
        }
        let help = self.scan.text(text_start, self.scan.at, "help text")?;
        Ok(Some(Entry::Help { family, help: RawText::new(help, Escapes::Help) }))
    }
}
