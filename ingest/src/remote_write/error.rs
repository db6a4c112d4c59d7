//! What can be wrong with a request as a whole, and with one series or sample of it.

use kymo_core::storage::{AppendError, RejectReason};
use kymo_core::{BudgetExceeded, ErrorKind};

use super::Written;
use crate::proto::ProtoError;

/// A request that was not accepted as a whole. Its samples are not stored, but for those that
/// [`Append`](WriteError::Append) names.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The body is not a snappy block.
    #[error("cannot decompress the body as a snappy block")]
    Snappy {
        /// What is wrong with it.
        source: snap::Error,
    },
    /// The body is not the message that the content type names.
    #[error("cannot decode the body as {message}")]
    Protobuf {
        /// The full name of the message.
        message: &'static str,
        /// What is wrong with it.
        source: ProtoError,
    },
    /// A 2.0 request whose symbol table does not begin with the empty string.
    #[error("the symbols table must begin with an empty string")]
    Symbols,
    /// The request is larger than a limit.
    #[error("the request exceeds {limit} of {max}: {found}")]
    TooLarge {
        /// The limit's name in [`RemoteWriteConfig`](super::RemoteWriteConfig).
        limit: &'static str,
        /// The limit.
        max: u64,
        /// What was asked for, at least.
        found: u64,
    },
    /// Memory for the request could not be had now.
    #[error(transparent)]
    Budget(#[from] BudgetExceeded),
    /// The engine did not take the batch.
    #[error("the samples could not be stored")]
    Append {
        /// Why.
        source: AppendError,
        /// What of the request was stored before; all zero but when rows were sent a second time.
        written: Written,
    },
    /// The engine did not know series that it was told by their labels, which is a fault of ours.
    #[error("{rows} samples could not be attached to their series")]
    Unresolved {
        /// How many rows.
        rows: usize,
        /// What of the request was stored.
        written: Written,
    },
}

impl WriteError {
    /// What a surface makes of it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            WriteError::Snappy { .. } | WriteError::Protobuf { .. } | WriteError::Symbols => ErrorKind::Invalid,
            WriteError::TooLarge { .. } => ErrorKind::TooLarge,
            WriteError::Budget(_) => ErrorKind::unavailable(),
            WriteError::Append { source, .. } => source.kind(),
            WriteError::Unresolved { .. } => ErrorKind::Internal,
        }
    }

    /// What of the request is in the engine all the same.
    #[must_use]
    pub fn written(&self) -> Written {
        match self {
            WriteError::Append { written, .. } | WriteError::Unresolved { written, .. } => *written,
            _ => Written::default(),
        }
    }

    /// The reason under which the loss ledger books the request; `None` if its sender will send it again.
    #[must_use]
    pub fn loss_reason(&self) -> Option<&'static str> {
        match self {
            WriteError::Snappy { .. } => Some("bad_snappy"),
            WriteError::Protobuf { .. } => Some("bad_protobuf"),
            WriteError::Symbols => Some("bad_symbols"),
            WriteError::TooLarge { .. } => Some("too_large"),
            WriteError::Budget(_) | WriteError::Append { .. } | WriteError::Unresolved { .. } => None,
        }
    }
}

/// Why a series, sample or exemplar was refused while the rest of its request was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The engine refused the row.
    Row(RejectReason),
    /// A label without a name.
    EmptyLabelName,
    /// A label name that stands twice.
    DuplicateLabel,
    /// A label name or value that is not UTF-8.
    NotUtf8,
    /// Labels of a 2.0 series that are not sorted by name.
    UnsortedLabels,
    /// Label references of a 2.0 series or exemplar that are not pairs.
    OddLabelRefs,
    /// A reference beyond the symbol table.
    SymbolOutOfRange,
    /// A 2.0 series with both samples and histograms.
    MixedSeries,
    /// A 2.0 series that holds nothing at all.
    EmptySeries,
    /// A 2.0 exemplar without a timestamp.
    ExemplarTime,
}

impl Reason {
    /// The name used in the ledger and in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Row(reason) => reason.as_str(),
            Reason::EmptyLabelName => "empty_label_name",
            Reason::DuplicateLabel => "duplicate_label",
            Reason::NotUtf8 => "not_utf8",
            Reason::UnsortedLabels => "unsorted_labels",
            Reason::OddLabelRefs => "odd_label_refs",
            Reason::SymbolOutOfRange => "symbol_out_of_range",
            Reason::MixedSeries => "mixed_series",
            Reason::EmptySeries => "empty_series",
            Reason::ExemplarTime => "exemplar_without_timestamp",
        }
    }

    /// One sentence for a client.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Reason::Row(reason) => reason.describe(),
            Reason::EmptyLabelName => "a label has an empty name",
            Reason::DuplicateLabel => "a label name is not unique",
            Reason::NotUtf8 => "a label is not valid UTF-8",
            Reason::UnsortedLabels => "labels are not sorted by name",
            Reason::OddLabelRefs => "the number of label references is odd",
            Reason::SymbolOutOfRange => "a label reference is outside of the symbols table",
            Reason::MixedSeries => "a series must hold either samples or histograms, not both",
            Reason::EmptySeries => "a series must hold at least one sample or histogram",
            Reason::ExemplarTime => "an exemplar has no timestamp",
        }
    }
}

/// Why decoding stopped.
#[derive(Debug)]
pub(super) enum DecodeError {
    Proto(ProtoError),
    /// The 2.0 symbol table does not begin with the empty string.
    Symbols,
    TooLarge {
        limit: &'static str,
        max: u64,
        found: u64,
    },
    Budget(BudgetExceeded),
}

impl DecodeError {
    /// As an error of the whole request, whose body should have been a `message`.
    pub(super) fn of(self, message: &'static str) -> WriteError {
        match self {
            DecodeError::Proto(source) => WriteError::Protobuf { message, source },
            DecodeError::Symbols => WriteError::Symbols,
            DecodeError::TooLarge { limit, max, found } => WriteError::TooLarge { limit, max, found },
            DecodeError::Budget(source) => WriteError::Budget(source),
        }
    }
}

impl From<ProtoError> for DecodeError {
    fn from(error: ProtoError) -> DecodeError {
        DecodeError::Proto(error)
    }
}

impl From<BudgetExceeded> for DecodeError {
    fn from(error: BudgetExceeded) -> DecodeError {
        DecodeError::Budget(error)
    }
}
