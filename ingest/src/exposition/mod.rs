//! What scrape targets answer: Prometheus text 0.0.4, OpenMetrics 1.0 text, delimited protobuf.
//!
//! ```text
//!   bytes ─► TextParser | OpenMetricsParser | ProtobufParser ─► Entry ─► Entry ─► … ─► end | error
//!                                                                 │
//!                                    Sample { series: raw text, value, time, exemplars }
//! ```
//!
//! Nothing is copied: an entry borrows from the body (or, for protobuf, from buffers of the parser that are used
//! again). A sample names its series by the *text* that stood in the body. That text is all a reader needs to
//! know it again, so labels are read ([`push_labels`]) only when a text is seen for the first time; the protobuf
//! parser writes such texts too, and every series of every format has one.
//!
//! A reader that knows which series comes next says so ([`Parser::next_expecting`]): the text is then compared instead of
//! taken apart.
//!
//! ```
//! use kymo_core::LabelsBuilder;
//! use kymo_ingest::exposition::{Entry, Format, HistogramParts, Parser, SampleValue, push_labels};
//!
//! let page = b"# TYPE h histogram\nh_bucket{le=\"1\"} 3\n";
//! let mut parser = Parser::new(Format::Text, page, HistogramParts::Classic);
//! let mut labels = LabelsBuilder::new();
//! while let Some(entry) = parser.next_entry()? {
//!     if let Entry::Sample(sample) = entry {
//!         assert_eq!((sample.series, &sample.value), (&b"h_bucket{le=\"1\"}"[..], &SampleValue::Float(3.0)));
//!         push_labels(sample.series, sample.family_type, &mut labels)?;
//!         assert_eq!(labels.get("le"), Some("1.0"));
//!     }
//! }
//! # Ok::<(), kymo_ingest::exposition::ExpositionError>(())
//! ```
//!
//! Rules that hold here: (1) no bytes make a parser panic; (2) what Prometheus 3 accepts is accepted with
//! the same meaning, what it refuses is refused; (3) an error ends the exposition: what came before is not to be
//! stored either, which is the caller's to keep; (4) floats are read exactly, NaN is always the one normal NaN.

mod error;
mod float;
mod labels;
mod metadata;
mod openmetrics;
mod protobuf;
mod sample;
mod scan;
#[cfg(test)]
mod tests;
mod text;

use std::borrow::Cow;

use kymo_core::FamilyType;

pub use error::{ExpositionError, Fault};
pub use labels::{push_exemplar_labels, push_labels};
pub use openmetrics::OpenMetricsParser;
pub use protobuf::{HistogramParts, ProtobufParser};
pub use sample::{Exemplar, Exemplars, Sample, SampleValue};
pub use text::TextParser;

/// Which form an exposition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text 0.0.4 (and 1.0.0, which adds quoted names).
    Text,
    /// OpenMetrics 1.0 text.
    OpenMetrics,
    /// `io.prometheus.client.MetricFamily` messages, each behind its length.
    Protobuf,
}

/// One thing an exposition says.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry<'a> {
    /// What a family means.
    Help {
        /// The family.
        family: RawText<'a>,
        /// The text.
        help: RawText<'a>,
    },
    /// What kind of metric a family is.
    Type {
        /// The family.
        family: RawText<'a>,
        /// The kind.
        family_type: FamilyType,
    },
    /// In what a family is measured.
    Unit {
        /// The family.
        family: RawText<'a>,
        /// The unit.
        unit: RawText<'a>,
    },
    /// A sample.
    Sample(Sample<'a>),
}

/// A name or help text as it stands in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawText<'a> {
    text: &'a str,
    escapes: Escapes,
}

/// Which backslashes mean something else than themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escapes {
    /// None.
    No,
    /// `\\` and `\n`: a help text of format 0.0.4.
    Help,
    /// `\\`, `\n` and `\"`.
    Quoted,
}

impl<'a> RawText<'a> {
    fn new(text: &'a str, escapes: Escapes) -> RawText<'a> {
        RawText { text, escapes }
    }

    /// As it stands in the body, escapes and all. Equal texts of one format have equal meanings.
    #[must_use]
    pub fn raw(self) -> &'a str {
        self.text
    }

    /// What it means. Borrows when nothing was escaped.
    #[must_use]
    pub fn text(self) -> Cow<'a, str> {
        match self.escapes {
            Escapes::No => Cow::Borrowed(self.text),
            Escapes::Quoted => kymo_core::text::unescape_label_value(self.text),
            Escapes::Help => unescape_help(self.text),
        }
    }
}

fn unescape_help(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let (c, len) = match after.as_bytes().first() {
            Some(b'\\') => ('\\', 1),
            Some(b'n') => ('\n', 1),
            _ => ('\\', 0),
        };
        out.push(c);
        rest = &after[len..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// A parser of any format.
#[derive(Debug)]
pub enum Parser<'a> {
    /// Text 0.0.4.
    Text(TextParser<'a>),
    /// OpenMetrics.
    OpenMetrics(OpenMetricsParser<'a>),
    /// Protobuf; boxed because its buffers are many.
    Protobuf(Box<ProtobufParser<'a>>),
}

impl<'a> Parser<'a> {
    /// A parser over a body of less than 4 GiB. `histograms` matters to protobuf only.
    #[must_use]
    pub fn new(format: Format, body: &'a [u8], histograms: HistogramParts) -> Parser<'a> {
        match format {
            Format::Text => Parser::Text(TextParser::new(body)),
            Format::OpenMetrics => Parser::OpenMetrics(OpenMetricsParser::new(body)),
            Format::Protobuf => Parser::Protobuf(Box::new(ProtobufParser::new(body, histograms))),
        }
    }

    /// The next entry; `None` at the end of a whole exposition.
    ///
    /// # Errors
    /// [`ExpositionError`]; the exposition is then wholly bad.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ExpositionError> {
        self.next_expecting(b"")
    }

    /// As [`next_entry`](Self::next_entry), with the text of the series that is likely next: one that this format's parser
    /// gave before. A wrong guess costs a comparison, and only speed.
    ///
    /// # Errors
    /// As [`next_entry`](Self::next_entry).
    #[inline]
    pub fn next_expecting(&mut self, series: &[u8]) -> Result<Option<Entry<'_>>, ExpositionError> {
        match self {
            Parser::Text(parser) => parser.next_expecting(series),
            Parser::OpenMetrics(parser) => parser.next_expecting(series),
            Parser::Protobuf(parser) => parser.next_entry(),
        }
    }
}
