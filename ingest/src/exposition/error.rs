//! What is wrong with an exposition, and where.

use kymo_core::text::FloatError;

use crate::proto::ProtoError;

/// An exposition that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at line {line} (byte {offset})")]
pub struct ExpositionError {
    /// Line, from 1; for protobuf the number of the message.
    pub line: usize,
    /// Byte, from 0, counted from the start of the body.
    pub offset: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with an exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A line begins with something that begins no entry.
    #[error("expected a valid start token")]
    Start,
    /// `# HELP`, `# TYPE` or `# UNIT` without a metric name.
    #[error("expected metric name after {keyword}")]
    FamilyName {
        /// Which of the three.
        keyword: &'static str,
    },
    /// OpenMetrics metadata without its text.
    #[error("expected text in {keyword}")]
    MetadataText {
        /// Which kind of metadata.
        keyword: &'static str,
    },
    /// A type that the format does not have.
    #[error("invalid metric type")]
    FamilyType,
    /// A unit that its metric's name does not end with.
    #[error("unit is not a suffix of the metric")]
    UnitSuffix,
    /// Text that is not UTF-8.
    #[error("invalid UTF-8 in {what}")]
    Utf8 {
        /// Where: a help text, a name, a label value.
        what: &'static str,
    },
    /// No label name where one must be.
    #[error("expected label name")]
    LabelName,
    /// No `=` after a label name.
    #[error("expected equal")]
    Equal,
    /// No quoted value after `=`.
    #[error("expected label value")]
    LabelValue,
    /// No `,` or `}` after a label.
    #[error("expected comma or brace close")]
    LabelEnd,
    /// Two names for one metric.
    #[error("metric name already set")]
    NameTwice,
    /// No name for a metric.
    #[error("metric name not set")]
    NameMissing,
    /// No value after a series.
    #[error("expected value after {after}")]
    Value {
        /// What stands before the place.
        after: &'static str,
    },
    /// A value or timestamp that is no number.
    #[error("not a number: {source}")]
    Float {
        /// What the reader of floats says.
        source: FloatError,
    },
    /// A timestamp that is no time.
    #[error("invalid timestamp")]
    Timestamp,
    /// Something after a sample.
    #[error("expected timestamp or new record")]
    AfterValue,
    /// Something after a timestamp.
    #[error("expected next entry after timestamp")]
    AfterTimestamp,
    /// Something after an exemplar's timestamp.
    #[error("expected next entry after exemplar timestamp")]
    AfterExemplar,
    /// An OpenMetrics body that does not end as it must.
    #[error("data does not end with # EOF")]
    MissingEof,
    /// An OpenMetrics body that goes on after its end.
    #[error("unexpected data after # EOF")]
    AfterEof,
    /// Not the protobuf message it should be.
    #[error("bad protobuf message: {source}")]
    Protobuf {
        /// What is wrong, counted from the start of the message.
        source: ProtoError,
    },
    /// A family without a name.
    #[error("invalid metric name")]
    EmptyName,
    /// A native histogram whose counts fall below zero or are not its spans'.
    #[error("invalid native histogram")]
    Histogram,
    /// A body of 4 GiB or more.
    #[error("the exposition is too large")]
    TooLarge,
}

impl ExpositionError {
    pub(super) fn new(body: &[u8], offset: usize, fault: Fault) -> ExpositionError {
        let offset = offset.min(body.len());
        let line = 1 + memchr::memchr_iter(b'\n', &body[..offset]).count();
        ExpositionError { line, offset, fault }
    }
}
