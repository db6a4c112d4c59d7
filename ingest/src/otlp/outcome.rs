//! What became of a request that was accepted, wholly or in part.

use std::fmt::Write;

use prost::Message;

use super::Encoding;
use super::error::Reason;
use super::message::{PartialSuccess, Response};

/// Bytes of a name that an answer or the ledger shows.
const EXAMPLE_BYTES_MAX: usize = 200;

/// Everything refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// How many data points, or spans.
    pub points: u64,
    /// The first case in words.
    pub example: String,
}

/// What a request left behind, in data points.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Data points in the engine now: stored, identical or replaced.
    pub written: u64,
    /// What is not, by reason in the order met.
    pub refusals: Vec<Refusal>,
    /// Of the points written: those that were there already, bit by bit or as an increment told before.
    pub identical: u64,
    /// Of the points written: those that put other values in the place of stored ones.
    pub replaced: u64,
    /// Rows of increments that were there already and were not added again.
    pub told_before: u64,
    /// Rows of increments added behind a gap to what their writer told before.
    pub gaps: u64,
    /// Exemplars that were left out, while their points were stored.
    pub exemplars_refused: u64,
}

impl Outcome {
    /// Data points that are not in the engine.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.refusals.iter().map(|refusal| refusal.points).sum()
    }

    /// Whether there is nothing to tell the client.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.refusals.is_empty() && self.exemplars_refused == 0 && self.told_before == 0
    }

    /// Counts `points` more refused for `reason`; `metric` is only used for the first.
    pub(super) fn refuse(&mut self, reason: Reason, points: u64, metric: &str) {
        add(&mut self.refusals, reason, points, "metric", metric);
    }

    /// Why points are missing, in one line; empty if none are.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = reasons(&self.refusals, "data points");
        let notes = [
            (self.exemplars_refused, "exemplars were left out"),
            (self.told_before, "increments were told before and not added again (identical)"),
            // An idle stream leaves gaps in every report, so that alone is no reason to speak up.
            (if self.is_complete() { 0 } else { self.gaps }, "increments were added behind a gap"),
        ];
        add_notes(&mut text, &notes);
        text
    }

    /// The encoded `ExportMetricsServiceResponse`; `partial_success` is unset if there is nothing to tell.
    #[must_use]
    pub fn response(&self, encoding: Encoding) -> Vec<u8> {
        let partial = (!self.is_complete()).then(|| PartialSuccess {
            rejected_data_points: i64::try_from(self.rejected()).unwrap_or(i64::MAX),
            error_message: self.message(),
        });
        encode_response(encoding, "rejectedDataPoints", partial)
    }
}

/// The encoded `Export…ServiceResponse`: those of all signals look the same in protobuf; `rejected` is the key that JSON has.
pub(super) fn encode_response(encoding: Encoding, rejected: &str, partial: Option<PartialSuccess>) -> Vec<u8> {
    match (encoding, partial) {
        (Encoding::Protobuf, partial_success) => Response { partial_success }.encode_to_vec(),
        (Encoding::Json, None) => b"{}".to_vec(),
        (Encoding::Json, Some(partial)) => serde_json::json!({"partialSuccess": {
            rejected: partial.rejected_data_points.to_string(),
            "errorMessage": partial.error_message,
        }})
        .to_string()
        .into_bytes(),
    }
}

/// Counts `count` more refused for `reason`; what is refused is only named for the first.
pub(super) fn add(refusals: &mut Vec<Refusal>, reason: Reason, count: u64, what: &str, name: &str) {
    match refusals.iter_mut().find(|refusal| refusal.reason == reason) {
        Some(refusal) => refusal.points += count,
        None => refusals.push(Refusal { reason, points: count, example: example(what, name) }),
    }
}

/// All reasons in one line.
pub(super) fn reasons(refusals: &[Refusal], of: &str) -> String {
    let mut text = String::new();
    for Refusal { reason, points, example } in refusals {
        if !text.is_empty() {
            text.push_str("; ");
        }
        let _ = write!(text, "{}: {points} {of}: {}: {example}", reason.as_str(), reason.describe());
    }
    text
}

/// Adds what was counted, where there is something.
pub(super) fn add_notes(text: &mut String, notes: &[(u64, &str)]) {
    for (count, note) in notes.iter().filter(|(count, _)| *count > 0) {
        if !text.is_empty() {
            text.push_str("; ");
        }
        let _ = write!(text, "{count} {note}");
    }
}

fn example(what: &str, name: &str) -> String {
    let cut = (0..=EXAMPLE_BYTES_MAX.min(name.len())).rev().find(|&at| name.is_char_boundary(at)).unwrap_or(0);
    let dots = if cut < name.len() { "…" } else { "" };
    format!("{what} {:?}{dots}", &name[..cut])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_success_has_no_partial_success() {
        let outcome = Outcome { written: 3, ..Outcome::default() };
        assert_eq!(outcome.response(Encoding::Protobuf), b"");
        assert_eq!(outcome.response(Encoding::Json), b"{}");
    }

    #[test]
    fn a_refusal_counts_its_points_and_shows_one_case_cut_short() {
        let mut outcome = Outcome::default();
        outcome.refuse(Reason::MissingTime, 2, &"é".repeat(300));
        outcome.refuse(Reason::MissingTime, 3, "other");
        outcome.exemplars_refused = 4;
        assert_eq!(outcome.rejected(), 5);
        let message = outcome.message();
        assert!(
            message.starts_with("missing_time: 5 data points: time_unix_nano is not set: metric \"éé"),
            "{message}"
        );
        assert!(message.ends_with("é\"…; 4 exemplars were left out"), "{message}");
        let response = Response::decode(&outcome.response(Encoding::Protobuf)[..]).unwrap();
        let partial = response.partial_success.unwrap();
        assert_eq!((partial.rejected_data_points, partial.error_message), (5, message.clone()));
        let json: serde_json::Value = serde_json::from_slice(&outcome.response(Encoding::Json)).unwrap();
        assert_eq!(json["partialSuccess"]["rejectedDataPoints"], "5");
        assert_eq!(json["partialSuccess"]["errorMessage"], message);
    }
}
