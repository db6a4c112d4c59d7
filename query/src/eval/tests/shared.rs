//! Series that several writers count in, and what an answer says of them.

use std::sync::Arc;

use kymo_core::batch::{AddedValue, Increment, Total};
use kymo_core::increments::TURNS;
use kymo_core::query::{EngineOptions, Grid};
use kymo_core::storage::RejectReason;
use kymo_core::{Labels, MemoryStorage, MetricStorage, SampleBatch};

use super::{ask, engine, shown};

#[test]
fn an_answer_says_that_its_series_are_sums_of_writers() {
    let mut batch = SampleBatch::new();
    let series = |name: &str| Labels::from_pairs([("__name__", name), ("job", "shop")]);
    for (writer, value) in [(1, 5.0), (2, 7.0)] {
        let total = Total { writer, start_ms: 0, value: AddedValue::Float(value) };
        batch.push_total(&series("shared_total"), 1_000 * writer as i64, total);
    }
    for (name, writer) in
        [("alone_total", 1), ("alone_total", 1), ("spans_total", TURNS.start), ("spans_total", TURNS.start + 1)]
    {
        let start_ms = batch.len() as i64;
        let value = AddedValue::Float(1.0);
        batch.push_increment(&series(name), Increment { writer, start_ms, end_ms: start_ms + 1, value });
    }
    let storage = Arc::new(MemoryStorage::default());
    assert_eq!(storage.append(&batch).unwrap().rejected, []);
    let engine = engine(storage, EngineOptions::all());
    let at = |text: &str| ask(&engine, text, Grid::Instant { at_ms: 10_000 }).unwrap();
    let found = at("1 + shared_total");
    assert_eq!(shown(&found.value).len(), 1, "{found:?}");
    assert_eq!(
        found.annotations.infos,
        [
            "PromQL info: 1 series are each the sum of several writers that share their labels, up to 2; every writer is \
          added up by itself, and what it told twice or over an overlap counts once (1:5)"
        ]
    );
    // One writer, and what takes turns as one.
    for text in ["alone_total", "spans_total"] {
        assert_eq!(at(text).annotations.infos, [""; 0], "{text}");
    }
}

#[test]
fn an_answer_says_that_a_writer_left_gaps() {
    let mut batch = SampleBatch::new();
    let series = Labels::from_pairs([("__name__", "gappy_total")]);
    // Two gaps: what begins where the one before ends is none, nor what has no start.
    for (start_ms, end_ms) in [(0, 10), (10, 20), (25, 30), (40, 50), (60, 60)] {
        batch.push_increment(&series, Increment { writer: 1, start_ms, end_ms, value: AddedValue::Float(1.0) });
    }
    let storage = Arc::new(MemoryStorage::default());
    assert_eq!(storage.append(&batch).unwrap().rejected, []);
    let engine = engine(storage, EngineOptions::all());
    let found = ask(&engine, "gappy_total", Grid::Instant { at_ms: 100 }).unwrap();
    assert_eq!(
        found.annotations.infos,
        [
            "PromQL info: 2 gaps between increments that writers of these series told lately; what was counted in a gap, if \
             anything was, is missing from the sums (1:1)"
        ]
    );
}

#[test]
fn an_answer_says_that_overlaps_were_refused() {
    let mut batch = SampleBatch::new();
    let series = Labels::from_pairs([("__name__", "total")]);
    // Told again is no overlap; what begins within another one is.
    for (start_ms, end_ms) in [(0, 10), (10, 20), (0, 10), (15, 25), (20, 30)] {
        batch.push_increment(&series, Increment { writer: 1, start_ms, end_ms, value: AddedValue::Float(1.0) });
    }
    let storage = Arc::new(MemoryStorage::default());
    assert_eq!(storage.append(&batch).unwrap().rejected, [(3, RejectReason::OverlappingIncrement)]);
    let engine = engine(storage, EngineOptions::all());
    let found = ask(&engine, "total", Grid::Instant { at_ms: 100 }).unwrap();
    assert_eq!(
        found.annotations.infos,
        [
            "PromQL info: 1 increments of these series were refused lately, since they overlapped what their writers had told \
             before; what only they told is missing from the sums (1:1)"
        ]
    );
}
