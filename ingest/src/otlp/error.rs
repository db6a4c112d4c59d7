//! What can be wrong with a request as a whole, and with one data point of it.

use std::io;

use kymo_core::storage::{AppendError, RejectReason, SelectError};
use kymo_core::{BudgetExceeded, ErrorKind};

use super::Coding;
use crate::ProtoError;

/// A request of which nothing was stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The body is not what its content encoding says.
    #[error("cannot decompress the body as {}", coding.as_str())]
    Decompress {
        /// The content encoding.
        coding: Coding,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The body is not protobuf.
    #[error("cannot decode the body as an OTLP request")]
    Protobuf {
        /// What is wrong with it.
        source: ProtoError,
    },
    /// The body is protobuf, but not the message it should be.
    #[error("cannot decode the body as an OTLP request")]
    Message {
        /// What is wrong with it.
        source: prost::DecodeError,
    },
    /// A text of the body is not UTF-8.
    #[error("cannot decode the body as an OTLP request")]
    Text {
        /// What is wrong with it.
        source: std::str::Utf8Error,
    },
    /// The body is not JSON, or not of the message's shape above the level of a metric.
    #[error("cannot decode the body as an OTLP request in JSON")]
    Json {
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The request is larger than a limit.
    #[error("the request exceeds {limit} of {max}: {found}")]
    TooLarge {
        /// The limit's name in [`OtlpLimits`](super::OtlpLimits).
        limit: &'static str,
        /// The limit.
        max: u64,
        /// What was asked for, at least.
        found: u64,
    },
    /// Memory for the request could not be had now.
    #[error(transparent)]
    Budget(#[from] BudgetExceeded),
    /// Some of its spans came in another request, which has no answer yet.
    #[error("spans of the request are just being counted for another one")]
    UnderWay,
    /// The engine could not be asked for the time of its newest row.
    #[error("the time of what was counted last could not be read")]
    Newest {
        /// Why.
        source: SelectError,
    },
    /// The engine did not take the batch.
    #[error("what was received could not be stored")]
    Append {
        /// Why.
        source: AppendError,
    },
}

impl ExportError {
    /// What a surface makes of it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            ExportError::Decompress { .. }
            | ExportError::Protobuf { .. }
            | ExportError::Message { .. }
            | ExportError::Text { .. }
            | ExportError::Json { .. } => ErrorKind::Invalid,
            ExportError::TooLarge { .. } => ErrorKind::TooLarge,
            ExportError::Budget(_) | ExportError::UnderWay | ExportError::Newest { .. } => ErrorKind::unavailable(),
            ExportError::Append { source } => source.kind(),
        }
    }

    /// The reason under which the loss ledger books the request; `None` if its sender will send it again.
    #[must_use]
    pub fn loss_reason(&self) -> Option<&'static str> {
        match self {
            ExportError::Decompress { .. } => Some("bad_compression"),
            ExportError::Protobuf { .. } | ExportError::Message { .. } | ExportError::Text { .. } => {
                Some("bad_protobuf")
            }
            ExportError::Json { .. } => Some("bad_json"),
            ExportError::TooLarge { .. } => Some("too_large"),
            ExportError::Budget(_)
            | ExportError::UnderWay
            | ExportError::Newest { .. }
            | ExportError::Append { .. } => None,
        }
    }
}

impl From<ProtoError> for ExportError {
    fn from(source: ProtoError) -> ExportError {
        ExportError::Protobuf { source }
    }
}

impl From<prost::DecodeError> for ExportError {
    fn from(source: prost::DecodeError) -> ExportError {
        ExportError::Message { source }
    }
}

/// An error with its causes, in one line.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

/// Why a data point was refused while the rest of its request was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The engine refused a sample of it.
    Row(RejectReason),
    /// A sum or histogram that does not say since when it counts.
    UnspecifiedTemporality,
    /// It has no time.
    MissingTime,
    /// It has neither a value nor the flag that says so.
    MissingValue,
    /// The metric has no name that could be kept.
    InvalidName,
    /// An attribute has no key that could be a label's name.
    InvalidAttributeKey,
    /// The bounds and counts of a histogram do not fit together.
    InvalidBuckets,
    /// An exponential histogram coarser than a native one can be.
    ScaleTooLow,
    /// The metric could not be read as JSON.
    InvalidMetric,
    /// The metric has no data of a type that is known. No points are counted.
    UnknownData,
    /// The span could not be read as JSON.
    InvalidSpan,
    /// A span without the id of its trace or itself, or with one of another length.
    InvalidId,
    /// A span without a start or an end.
    MissingSpanTime,
    /// A span that ends before it starts.
    NegativeDuration,
}

impl Reason {
    /// The name used in the ledger and in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Row(reason) => reason.as_str(),
            Reason::UnspecifiedTemporality => "unspecified_temporality",
            Reason::MissingTime => "missing_time",
            Reason::MissingValue => "missing_value",
            Reason::InvalidName => "invalid_name",
            Reason::InvalidAttributeKey => "invalid_attribute_key",
            Reason::InvalidBuckets => "invalid_buckets",
            Reason::ScaleTooLow => "scale_too_low",
            Reason::InvalidMetric => "invalid_metric",
            Reason::UnknownData => "unknown_data",
            Reason::InvalidSpan => "invalid_span",
            Reason::InvalidId => "invalid_id",
            Reason::MissingSpanTime => "missing_time",
            Reason::NegativeDuration => "negative_duration",
        }
    }

    /// One sentence for a client.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Reason::Row(reason) => reason.describe(),
            Reason::UnspecifiedTemporality => "the aggregation temporality is not specified",
            Reason::MissingTime => "time_unix_nano is not set",
            Reason::MissingValue => "the data point has no value",
            Reason::InvalidName => "the metric has no name, or none of its characters can be kept",
            Reason::InvalidAttributeKey => "an attribute key is empty, or none of its characters can be kept",
            Reason::InvalidBuckets => "bucket counts and bounds do not fit together",
            Reason::ScaleTooLow => "the scale of the exponential histogram is below -4",
            Reason::InvalidMetric => "the metric cannot be read",
            Reason::UnknownData => "the metric has no data of a known type",
            Reason::InvalidSpan => "the span cannot be read",
            Reason::InvalidId => "the id of the trace or the span is missing or has another length",
            Reason::MissingSpanTime => "start_time_unix_nano or end_time_unix_nano is not set",
            Reason::NegativeDuration => "the span ends before it starts",
        }
    }
}
