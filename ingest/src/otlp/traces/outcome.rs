//! What became of a request of spans.

use super::super::Encoding;
use super::super::message::PartialSuccess;
use super::super::outcome::{Refusal, add_notes, encode_response, reasons};

/// What a request of spans left behind, in spans.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpanOutcome {
    /// Spans that were counted.
    pub counted: u64,
    /// Spans that had been counted before, and were not counted again.
    pub identical: u64,
    /// Spans that are not counted, by reason in the order met.
    pub refusals: Vec<Refusal>,
    /// Of those counted: spans whose operation is one too many, and counted as `kymo_overflow`.
    pub overflow: u64,
    /// Rows beside the number of spans that the engine refused: of errors, durations and calls.
    pub rows_refused: u64,
    /// Exemplars that were left out.
    pub exemplars_refused: u64,
}

impl SpanOutcome {
    /// Spans that are not counted.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.refusals.iter().map(|refusal| refusal.points).sum()
    }

    /// Whether there is nothing to tell the client.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.refusals.is_empty() && self.identical == 0 && self.rows_refused == 0 && self.exemplars_refused == 0
    }

    /// What is to be told, in one line; empty if nothing is.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = reasons(&self.refusals, "spans");
        let notes = [
            (self.identical, "spans were counted before and not again (identical)"),
            (self.overflow, "spans were counted under the operation kymo_overflow"),
            (self.rows_refused, "rows of errors, durations and calls were refused"),
            (self.exemplars_refused, "exemplars were left out"),
        ];
        add_notes(&mut text, &notes);
        text
    }

    /// The encoded `ExportTraceServiceResponse`; `partial_success` is unset if there is nothing to tell.
    #[must_use]
    pub fn response(&self, encoding: Encoding) -> Vec<u8> {
        let partial = (!self.is_complete()).then(|| PartialSuccess {
            rejected_data_points: i64::try_from(self.rejected()).unwrap_or(i64::MAX),
            error_message: self.message(),
        });
        encode_response(encoding, "rejectedSpans", partial)
    }
}
