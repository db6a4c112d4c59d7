//! OpenMetrics 1.0 text.
//!
//! Strict where Prometheus is: one space between tokens, no blank lines, no free comments, `# EOF` at the end, units that
//! their metrics' names end with. Not looked at, as in Prometheus: whether families are interleaved, and whether the
//! samples of a family are those of its type. `_created` samples are samples.

use kymo_core::FamilyType;

use super::error::{ExpositionError, Fault};
use super::labels::{Rules, scan_labels};
use super::metadata::{Keyword, family, open_metrics_type};
use super::sample::{ExemplarSpan, Exemplars, Sample, SampleValue};
use super::scan::Scan;
use super::{Entry, Escapes, RawText};

/// Reads OpenMetrics 1.0.
#[derive(Debug)]
pub struct OpenMetricsParser<'a> {
    scan: Scan<'a>,
    family_type: FamilyType,
    ended: bool,
}

fn ends_value(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n')
}

impl<'a> OpenMetricsParser<'a> {
    /// A parser over a body of less than 4 GiB.
    #[must_use]
    pub fn new(body: &'a [u8]) -> OpenMetricsParser<'a> {
        OpenMetricsParser { scan: Scan::new(body), family_type: FamilyType::Unknown, ended: false }
    }

    /// The next entry; `None` at the end, which is `# EOF`.
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
        if self.ended {
            return Ok(None);
        }
        let start = self.scan.at;
        if !expected.is_empty() && self.scan.take_all(expected) {
            if self.scan.peek() == Some(b' ') {
                let series = &self.scan.bytes[start..self.scan.at];
                return self.value(series).map(Some).map_err(|fault| self.scan.error(fault));
            }
            self.scan.at = start;
        }
        self.entry().map_err(|fault| self.scan.error(fault))
    }

    fn entry(&mut self) -> Result<Option<Entry<'a>>, Fault> {
        let start = self.scan.at;
        match self.scan.peek() {
            None => return Err(Fault::MissingEof),
            Some(b'#') => return self.metadata(),
            Some(b'{') => {
                self.scan.at += 1;
                let mut named = false;
                scan_labels(&mut self.scan, Rules::OpenMetrics, &mut named, |_| {})?;
                if !named {
                    return Err(Fault::NameMissing);
                }
            }
            Some(_) if self.scan.metric_name() => {
                if self.scan.take(b'{') {
                    scan_labels(&mut self.scan, Rules::OpenMetrics, &mut true, |_| {})?;
                }
            }
            Some(_) => return Err(Fault::Start),
        }
        let series = &self.scan.bytes[start..self.scan.at];
        self.value(series).map(Some)
    }

    /// What follows a series, from the space before the value to the end of the line.
    #[inline]
    fn value(&mut self, series: &'a [u8]) -> Result<Entry<'a>, Fault> {
        let value = self.number(Fault::Value { after: "metric" })?;
        let (mut time_ms, mut exemplars) = (None, Exemplars::default());
        let text = self.scan.bytes;
        if self.scan.peek() == Some(b' ') && !self.scan.rest().starts_with(b" # {") {
            time_ms = Some(self.time_ms()?);
            if !self.scan.rest().starts_with(b" # {") && self.scan.peek().is_some_and(|byte| byte != b'\n') {
                return Err(Fault::AfterTimestamp);
            }
        }
        if self.scan.take_all(b" # ") {
            exemplars = Exemplars::one(text, self.exemplar()?);
        }
        if !self.scan.take(b'\n') {
            return Err(if self.scan.peek().is_none() { Fault::MissingEof } else { Fault::AfterExemplar });
        }
        Ok(Entry::Sample(Sample {
            series,
            family_type: self.family_type,
            value: SampleValue::Float(value),
            time_ms,
            start_ms: 0,
            exemplars,
        }))
    }

    /// An exemplar, from its opening brace on.
    fn exemplar(&mut self) -> Result<ExemplarSpan, Fault> {
        let offset = |at: usize| u32::try_from(at).map_err(|_| Fault::TooLarge);
        let start = offset(self.scan.at)?;
        self.scan.take(b'{');
        scan_labels(&mut self.scan, Rules::Exemplar, &mut true, |_| {})?;
        let end = offset(self.scan.at)?;
        let value = self.number(Fault::Value { after: "exemplar labels" })?;
        let time_ms = if self.scan.peek() == Some(b' ') { Some(self.time_ms()?) } else { None };
        Ok(ExemplarSpan { labels: (start, end), value, time_ms })
    }

    /// A space and a number.
    #[inline]
    fn number(&mut self, missing: Fault) -> Result<f64, Fault> {
        if !self.scan.take(b' ') || self.scan.peek().is_none_or(ends_value) {
            return Err(missing);
        }
        self.scan.number(ends_value)
    }

    /// A space and a time in seconds; fractions of a millisecond are cut off, as Prometheus does.
    fn time_ms(&mut self) -> Result<i64, Fault> {
        let seconds = self.number(Fault::AfterValue)?;
        if seconds.is_finite() { Ok((seconds * 1000.0) as i64) } else { Err(Fault::Timestamp) }
    }

    fn metadata(&mut self) -> Result<Option<Entry<'a>>, Fault> {
        let start = self.scan.at;
        if self.scan.take_all(b"# EOF") {
            self.scan.take(b'\n');
            self.ended = true;
            return if self.scan.peek().is_none() { Ok(None) } else { Err(Fault::AfterEof) };
        }
        let keywords: [(&[u8], Keyword); 3] =
            [(b"# HELP ", Keyword::Help), (b"# TYPE ", Keyword::Type), (b"# UNIT ", Keyword::Unit)];
        let Some((_, keyword)) = keywords.into_iter().find(|(begin, _)| self.scan.take_all(begin)) else {
            self.scan.at = start;
            return Err(Fault::Start);
        };
        let family = family(&mut self.scan, keyword)?;
        let missing = Fault::MetadataText { keyword: keyword.as_str() };
        if !self.scan.take(b' ') {
            return Err(missing);
        }
        let start = self.scan.at;
        let line = self.scan.line();
        let end = self.scan.at;
        if !self.scan.take(b'\n') {
            return Err(missing);
        }
        Ok(Some(match keyword {
            Keyword::Type => {
                self.family_type = open_metrics_type(line).ok_or(Fault::FamilyType)?;
                Entry::Type { family, family_type: self.family_type }
            }
            Keyword::Help => {
                let help = self.scan.text(start, end, "help text")?;
                Entry::Help { family, help: RawText::new(help, Escapes::Quoted) }
            }
            Keyword::Unit => {
                let unit = self.scan.text(start, end, "unit")?;
                if !unit.is_empty() && !ends_with_unit(family.raw(), unit) {
                    return Err(Fault::UnitSuffix);
                }
                Entry::Unit { family, unit: RawText::new(unit, Escapes::No) }
            }
        }))
    }
}

/// Whether a name ends with `_` and the unit.
pub(super) fn ends_with_unit(name: &str, unit: &str) -> bool {
    name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'))
}
