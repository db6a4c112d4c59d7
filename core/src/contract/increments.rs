//! The part of the contract on rows that are added up.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::{NOW_MS, Options, Subject, append, ctx, dump, histogram, labels, options};
use crate::batch::{AddedValue, Increment, RowSeries, SampleBatch, Total};
use crate::histogram::NativeHistogram;
use crate::increments::{NewTotal, SeriesTotals, Taken};
use crate::labels::Labels;
use crate::storage::{ColumnValue, Columns, MetricStorage, RejectReason, RowCounts, Selector};

/// Runs every test of this part.
pub(super) fn run(subject: &mut dyn FnMut() -> Box<dyn Subject>) {
    type Test = fn(&mut dyn Subject);
    let tests: [(&str, Test); 4] = [
        ("increments_become_one_rising_series", increments_become_one_rising_series),
        ("what_is_told_twice_is_added_once", what_is_told_twice_is_added_once),
        ("distributions_add_up_beside_numbers", distributions_add_up_beside_numbers),
        ("totals_agree_with_the_rules", totals_agree_with_the_rules),
    ];
    for (name, test) in tests {
        println!("contract: {name}");
        test(&mut *subject());
    }
}

/// Minutes before the suite's present.
fn ago(minutes: i64) -> i64 {
    NOW_MS - minutes * 60_000
}

fn increment(writer: u64, start_ms: i64, end_ms: i64, value: f64) -> Increment {
    Increment { writer, start_ms, end_ms, value: AddedValue::Float(value) }
}

fn increments(n: u64) -> RowCounts {
    RowCounts { increments: n, ..RowCounts::default() }
}

/// Time and value of every float sample of the only series.
fn floats_of(storage: &dyn MetricStorage) -> Vec<(i64, f64)> {
    let set = storage.select(&Selector::everything(), &ctx()).expect("select");
    assert_eq!(set.len(), 1, "there is one series");
    let mut columns = Columns::default();
    set.read(0, &mut columns).expect("read");
    let float = |(time, value)| match value {
        ColumnValue::Float(value) => Some((time, value)),
        ColumnValue::Histogram(_) | ColumnValue::Stale => None,
    };
    columns.iter().filter_map(float).collect()
}

fn increments_become_one_rising_series(subject: &mut dyn Subject) {
    let mut storage = subject.open(options());
    let series = labels(&[("__name__", "requests_total")]);
    let mut expected = Vec::new();
    let mut sum = 0.0;
    for round in 0..12i64 {
        let (start, end) = (ago(60 - round), ago(59 - round));
        let mut batch = SampleBatch::new();
        for writer in 0..3u64 {
            sum += (writer + 1) as f64;
            batch.push_increment(&series, increment(writer, start, end, (writer + 1) as f64));
        }
        let report = append(&*storage, &batch);
        assert_eq!((report.stored, report.rejected.len()), (increments(3), 0), "round {round}");
        assert_eq!(report.new_refs.len(), 3, "round {round}");
        expected.push((end, sum));
        // The state outlives whatever becomes of memory and log.
        match round % 4 {
            1 => subject.flush(),
            3 => {
                drop(storage);
                storage = subject.reopen();
            }
            _ => {}
        }
        assert_eq!(floats_of(&*storage), expected, "round {round}");
    }
}

fn what_is_told_twice_is_added_once(subject: &mut dyn Subject) {
    let mut storage = subject.open(options());
    let series = labels(&[("__name__", "requests_total")]);
    let mut batch = SampleBatch::new();
    for n in 0..5 {
        batch.push_increment(&series, increment(9, ago(30 - n), ago(29 - n), 2.0));
        batch.push_total(
            &series,
            ago(29 - n),
            Total { writer: 8, start_ms: ago(30), value: AddedValue::Float(n as f64 * 10.0) },
        );
    }
    assert_eq!(append(&*storage, &batch).stored, increments(10));
    let before = floats_of(&*storage);
    assert_eq!(before.last(), Some(&(ago(25), 50.0)));
    for round in 0..3 {
        let report = append(&*storage, &batch);
        assert_eq!((report.stored, report.identical), (RowCounts::default(), increments(10)), "round {round}");
        let mut overlapping = SampleBatch::new();
        overlapping.push_increment(&series, increment(9, ago(28), ago(20), 1.0));
        overlapping.push_increment(&series, increment(9, ago(20), ago(21), 1.0));
        overlapping.push_increment(&series, increment(9, NOW_MS, NOW_MS + 600_001, 1.0));
        let report = append(&*storage, &overlapping);
        let reasons: Vec<RejectReason> = report.rejected.iter().map(|(_, reason)| *reason).collect();
        use RejectReason::{InvalidIncrement, OverlappingIncrement, TooFarInFuture};
        assert_eq!(reasons, [OverlappingIncrement, InvalidIncrement, TooFarInFuture], "round {round}");
        assert_eq!(report.rejected_counts, increments(3));
        assert_eq!(floats_of(&*storage), before, "round {round}");
        if round == 0 {
            subject.flush();
        } else {
            drop(storage);
            storage = subject.reopen();
        }
    }
    // Behind a gap, by ref, and late: the total stands at the newest time.
    let series = append(&*storage, &batch).new_refs[0].1;
    let mut late = SampleBatch::new();
    late.push_increment(series, increment(9, ago(60), ago(50), 1.0));
    assert!(matches!(late.row(0).series, RowSeries::Ref(_)));
    assert_eq!(append(&*storage, &late).stored, increments(1));
    assert_eq!(floats_of(&*storage).last(), Some(&(ago(25), 51.0)));
}

fn distributions_add_up_beside_numbers(subject: &mut dyn Subject) {
    let storage = subject.open(options());
    let series = labels(&[("__name__", "latency_seconds")]);
    let mut batch = SampleBatch::new();
    for n in 1..=4u64 {
        let minute = 20 - 2 * n as i64;
        let value = AddedValue::Histogram(histogram(n));
        batch.push_increment(&series, Increment { writer: 1, start_ms: ago(minute), end_ms: ago(minute - 1), value });
    }
    append(&*storage, &batch);
    let check = |storage: &dyn MetricStorage, when: &str| {
        let found = dump(storage, &Selector::everything());
        let sum = NativeHistogram { hint: crate::histogram::ResetHint::Unknown, ..histogram(10) };
        let last = found[0].1.last().expect("there are samples");
        assert_eq!((found[0].1.len(), last.0, &last.2), (4, ago(11), &format!("{sum:?}")), "{when}");
        assert_eq!(last.1, ago(18), "{when}: the series began with its first increment");
    };
    check(&*storage, "in memory");
    subject.flush();
    check(&*storage, "after a flush");
    drop(storage);
    check(&*subject.reopen(), "after reopening");
}

#[derive(Debug, Clone)]
enum Step {
    /// (series, writer, start, length, value, whether it is a total)
    Append(Vec<(u8, u64, i64, i64, u8, bool)>),
    Flush,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0..3u8, 0..3u64, 0..40i64, 0..5i64, 1..50u8, any::<bool>());
    let rows = proptest::collection::vec(row, 1..30);
    let step = prop_oneof![6 => rows.prop_map(Step::Append), 2 => Just(Step::Flush), 1 => Just(Step::Reopen)];
    proptest::collection::vec(step, 1..12)
}

/// Whatever the order of appends, flushes and reopenings, samples and counts are those of [`SeriesTotals`].
fn totals_agree_with_the_rules(subject: &mut dyn Subject) {
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]));
    let subject = std::cell::RefCell::new(subject);
    let outcome = runner.run(&steps(), |steps| {
        let mut subject = subject.borrow_mut();
        let mut storage = subject.open(Options { ..options() });
        let name = |series: u8| labels(&[("__name__", "m"), ("s", &series.to_string())]);
        let mut rules: BTreeMap<Labels, (SeriesTotals, BTreeMap<i64, f64>)> = BTreeMap::new();
        for step in &steps {
            let rows = match step {
                Step::Flush => {
                    subject.flush();
                    continue;
                }
                Step::Reopen => {
                    drop(storage);
                    storage = subject.reopen();
                    continue;
                }
                Step::Append(rows) => rows,
            };
            let mut batch = SampleBatch::new();
            let (mut stored, mut identical, mut rejected) = (0, 0, 0);
            for &(series, writer, start, length, value, is_total) in rows {
                // A quarter of an hour a step, so that a sequence spans several block ranges.
                let (start_ms, end_ms) = (ago(900 - 15 * start), ago(900 - 15 * (start + length)));
                let (value, labels) = (AddedValue::Float(f64::from(value)), name(series));
                let (totals, samples) = rules.entry(labels.clone()).or_default();
                let taken = if is_total {
                    let total = Total { writer, start_ms, value };
                    batch.push_total(&labels, end_ms, total.clone());
                    totals.replace(&total, end_ms)
                } else {
                    let increment = Increment { writer, start_ms, end_ms, value };
                    batch.push_increment(&labels, increment.clone());
                    totals.add(&increment)
                };
                match taken {
                    Ok(Taken::Identical) => identical += 1,
                    Ok(Taken::Added(NewTotal { time_ms, value: AddedValue::Float(value), .. })) => {
                        stored += 1;
                        samples.insert(time_ms, value);
                    }
                    Ok(Taken::Added(other)) => panic!("no distribution was sent: {other:?}"),
                    Err(_) => rejected += 1,
                }
            }
            let report = append(&*storage, &batch);
            prop_assert_eq!(report.stored, increments(stored));
            prop_assert_eq!(report.identical, increments(identical));
            prop_assert_eq!(report.rejected_counts, increments(rejected));
            let refused: Vec<usize> = report.rejected.iter().map(|(row, _)| *row).collect();
            prop_assert!(refused.windows(2).all(|pair| pair[0] < pair[1]), "rows are told in order: {:?}", refused);
        }
        let found: BTreeMap<_, _> = dump(&*storage, &Selector::everything()).into_iter().collect();
        let wanted: BTreeMap<_, Vec<_>> = rules
            .iter()
            .filter(|(_, (_, samples))| !samples.is_empty())
            .map(|(labels, (totals, samples))| {
                let began = totals.state().began_ms;
                let sample = |(time, value): (&i64, &f64)| (*time, began, super::render(ColumnValue::Float(*value)));
                (labels.to_string(), samples.iter().map(sample).collect())
            })
            .collect();
        prop_assert_eq!(found, wanted);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
