//! The loss ledger: everything refused, by reason and source.
//!
//! Whoever calls `append` books the report here; engines only report. In the sender's unit,
//! received = stored + identical + replaced + rejected, always.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::storage::{AppendReport, RowCounts};

/// Distinct (source, reason) pairs kept; sources are doors, reasons are code, so this is never met in practice.
const ENTRIES_MAX: usize = 1_024;

/// What was refused at one door for one reason.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Loss {
    /// The door: `remote_write`, `otlp`, `scrape`, …
    pub source: String,
    /// Why: a [`RejectReason`](crate::storage::RejectReason)'s name, or a name of the door's own.
    pub reason: String,
    /// How many samples (or, where nothing could be decoded, requests).
    pub count: u64,
    /// When it last happened, milliseconds since the Unix epoch.
    pub last_ms: i64,
    /// The newest case in words.
    pub example: String,
}

/// Totals of one door in its sender's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Received {
    /// Samples that arrived.
    pub received: u64,
    /// New ones.
    pub stored: u64,
    /// There already.
    pub identical: u64,
    /// Replaced an older value.
    pub replaced: u64,
    /// Refused; the reasons are in the losses.
    pub rejected: u64,
}

/// Counts what came, and what of it was refused.
#[derive(Debug, Default)]
pub struct LossLedger {
    /// Guards both maps; held only to count.
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    losses: BTreeMap<(&'static str, &'static str), Loss>,
    received: BTreeMap<&'static str, Received>,
}

impl LossLedger {
    /// Books `count` refusals of `source` for `reason`; `example` is only built when it is kept.
    pub fn refuse(
        &self,
        source: &'static str,
        reason: &'static str,
        count: u64,
        now_ms: i64,
        example: impl FnOnce() -> String,
    ) {
        if count == 0 {
            return;
        }
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let full = books.losses.len() >= ENTRIES_MAX;
        let key =
            if full && !books.losses.contains_key(&(source, reason)) { ("other", "other") } else { (source, reason) };
        let loss = books.losses.entry(key).or_insert_with(|| Loss {
            source: key.0.to_owned(),
            reason: key.1.to_owned(),
            count: 0,
            last_ms: now_ms,
            example: String::new(),
        });
        loss.count += count;
        loss.last_ms = now_ms;
        loss.example = example();
        let door = books.received.entry(source).or_default();
        door.received += count;
        door.rejected += count;
    }

    /// Books what an engine reported for a batch of `source`; rejected rows are booked by reason.
    pub fn book(&self, source: &'static str, report: &AppendReport, now_ms: i64, example: impl Fn(usize) -> String) {
        for &(row, reason) in &report.rejected {
            self.refuse(source, reason.as_str(), 1, now_ms, || example(row));
        }
        let all = |c: &RowCounts| c.samples();
        let (stored, identical, replaced) = (all(&report.stored), all(&report.identical), all(&report.replaced));
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let door = books.received.entry(source).or_default();
        door.received += stored + identical + replaced;
        door.stored += stored;
        door.identical += identical;
        door.replaced += replaced;
    }

    /// Every kind of loss so far, by source and reason.
    #[must_use]
    pub fn losses(&self) -> Vec<Loss> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner).losses.values().cloned().collect()
    }

    /// Totals by source.
    #[must_use]
    pub fn received(&self) -> Vec<(&'static str, Received)> {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.received.iter().map(|(source, totals)| (*source, *totals)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::RejectReason;

    #[test]
    fn received_is_the_sum_of_its_parts() {
        let ledger = LossLedger::default();
        let report = AppendReport {
            stored: RowCounts { floats: 5, stale: 1, ..RowCounts::default() },
            identical: RowCounts { floats: 2, ..RowCounts::default() },
            replaced: RowCounts { histograms: 1, ..RowCounts::default() },
            rejected: vec![(3, RejectReason::TooFarInFuture), (4, RejectReason::TooFarInFuture)],
            ..AppendReport::default()
        };
        ledger.book("remote_write", &report, 10, |row| format!("row {row}"));
        ledger.refuse("remote_write", "bad_snappy", 1, 11, || "byte 3".into());
        let (_, totals) = ledger.received()[0];
        assert_eq!(totals, Received { received: 12, stored: 6, identical: 2, replaced: 1, rejected: 3 });
        let losses = ledger.losses();
        assert_eq!(losses.len(), 2);
        assert_eq!(
            (losses[1].reason.as_str(), losses[1].count, losses[1].example.as_str()),
            ("too_far_in_future", 2, "row 4")
        );
    }
}
