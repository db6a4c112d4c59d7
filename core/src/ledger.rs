//! The loss ledger: everything refused, by reason and source.
//!
//! Whoever calls `append` books the report here; engines only report. In the sender's unit,
//! received = stored + identical + replaced + rejected, always.
//!
//! A ledger that counts in a registry tells the same as metrics, so that it can be read from what a server stored of itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::metric::MetricKind;
use crate::registry::{Counter, Family, MetricDesc, RegisterError, Registry};
use crate::storage::{AppendReport, RowCounts};

/// The metrics of a ledger; the reference page is made from it.
pub const METRICS: &[MetricDesc] = &[RECEIVED, REFUSED];

/// Totals by door: its labels are the fields of [`Received`] but the first.
pub const RECEIVED: MetricDesc = MetricDesc {
    name: "kymo_received_samples_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Samples that arrived, by door and by what became of them.",
    labels: &["source", "outcome"],
};
/// Losses by door and reason.
pub const REFUSED: MetricDesc = MetricDesc {
    name: "kymo_refused_samples_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Samples that were refused, or requests where nothing could be decoded, by door and reason.",
    labels: &["source", "reason"],
};

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
    counters: Option<Counters>,
}

#[derive(Debug)]
struct Counters {
    received: Family<Counter, 2>,
    refused: Family<Counter, 2>,
}

#[derive(Debug, Default)]
struct Books {
    losses: BTreeMap<(&'static str, &'static str), Loss>,
    received: BTreeMap<&'static str, Received>,
}

impl LossLedger {
    /// A ledger that also counts in a registry.
    ///
    /// # Errors
    /// [`RegisterError`] where the registry has other metrics of these names.
    pub fn counted(registry: &Registry) -> Result<LossLedger, RegisterError> {
        let received = registry.counter(&RECEIVED).labels(["source", "outcome"]).family()?;
        let refused = registry.counter(&REFUSED).labels(["source", "reason"]).family()?;
        Ok(LossLedger { books: Mutex::default(), counters: Some(Counters { received, refused }) })
    }

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
        if let Some(counters) = &self.counters {
            counters.refused.with([source, reason]).add(count);
            counters.received.with([source, "rejected"]).add(count);
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
        if let Some(counters) = &self.counters {
            for (outcome, count) in [("stored", stored), ("identical", identical), ("replaced", replaced)] {
                if count > 0 {
                    counters.received.with([source, outcome]).add(count);
                }
            }
        }
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
        let registry = Registry::new();
        let ledger = LossLedger::counted(&registry).unwrap();
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
        // The metrics say the same.
        let told = |name: &str| -> Vec<(Vec<String>, f64)> {
            let families = registry.snapshot();
            let family = families.iter().find(|family| family.name == name).unwrap();
            let mut told: Vec<_> = family
                .series
                .iter()
                .map(|series| {
                    (series.labels.iter().map(|(_, value)| value.to_string()).collect(), series.value.value())
                })
                .collect();
            told.sort_by(|a: &(Vec<String>, f64), b| a.0.cmp(&b.0));
            told
        };
        let outcomes: f64 = told(RECEIVED.name).iter().map(|(_, count)| count).sum();
        assert_eq!(outcomes, totals.received as f64);
        let refused = told(REFUSED.name);
        assert_eq!(refused.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [1.0, 2.0], "{refused:?}");
        assert!(refused[0].0.contains(&"bad_snappy".to_owned()), "{refused:?}");
    }
}
