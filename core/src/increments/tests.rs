//! Rules one by one, and against a model that forgets nothing.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::histogram::{BucketCounts, BucketSpan};

fn increment(writer: u64, start_ms: i64, end_ms: i64, value: f64) -> Increment {
    Increment { writer, start_ms, end_ms, value: AddedValue::Float(value) }
}

fn total(writer: u64, start_ms: i64, value: f64) -> Total {
    Total { writer, start_ms, value: AddedValue::Float(value) }
}

fn histogram(n: u64) -> NativeHistogram {
    NativeHistogram {
        schema: 2,
        hint: ResetHint::Unknown,
        zero_threshold: 1e-128,
        counts: HistogramCounts::Integer(BucketCounts {
            zero: n,
            count: 4 * n,
            positive: vec![n, n],
            negative: vec![n],
        }),
        sum: n as f64 * 0.5,
        positive_spans: vec![BucketSpan { offset: -3, len: 1 }, BucketSpan { offset: 4, len: 1 }],
        negative_spans: vec![BucketSpan { offset: 9, len: 1 }],
        custom_values: Arc::from([]),
    }
}

/// Time and value of a float row's outcome; `None` for identical.
fn float(taken: Result<Taken, RejectReason>) -> Result<Option<(i64, f64)>, RejectReason> {
    taken.map(|taken| match taken {
        Taken::Identical => None,
        Taken::Added(NewTotal { time_ms, value: AddedValue::Float(value), .. }) => Some((time_ms, value)),
        Taken::Added(other) => panic!("a histogram: {other:?}"),
    })
}

const OVERLAP: Result<Option<(i64, f64)>, RejectReason> = Err(RejectReason::OverlappingIncrement);

#[test]
fn increments_add_up_whatever_their_order_and_a_retry_adds_nothing() {
    let mut totals = SeriesTotals::default();
    let rows = [
        // The first, its successor, and one behind a gap.
        ((0, 10, 1.0), Ok(Some((10, 1.0)))),
        ((10, 20, 2.0), Ok(Some((20, 3.0)))),
        ((50, 60, 4.0), Ok(Some((60, 7.0)))),
        // Retries, whatever their value.
        ((10, 20, 2.0), Ok(None)),
        ((0, 10, 9.0), Ok(None)),
        // Overlaps at either end, inside, around.
        ((5, 15, 1.0), OVERLAP),
        ((55, 70, 1.0), OVERLAP),
        ((52, 54, 1.0), OVERLAP),
        ((0, 100, 1.0), OVERLAP),
        ((10, 21, 1.0), OVERLAP),
        // Late ones that fill the gap: the total stands at the newest time.
        ((20, 30, 8.0), Ok(Some((60, 15.0)))),
        ((40, 50, 16.0), Ok(Some((60, 31.0)))),
        // A moment within what was told, and one that was not told.
        ((25, 25, 1.0), OVERLAP),
        ((35, 35, 32.0), Ok(Some((60, 63.0)))),
        ((35, 35, 32.0), Ok(None)),
    ];
    for ((start, end, value), expected) in rows {
        assert_eq!(float(totals.add(&increment(7, start, end, value))), expected, "({start}, {end}] += {value}");
    }
    // Another writer may tell the same time.
    assert_eq!(float(totals.add(&increment(8, 0, 60, 100.0))), Ok(Some((60, 163.0))));
    assert_eq!((totals.writers(), totals.state().began_ms), (2, 0));
}

#[test]
fn what_is_no_longer_remembered_counts_as_told() {
    let mut totals = SeriesTotals::default();
    let last = INTERVALS_PER_WRITER as i64 + 5;
    for n in 0..last {
        assert!(matches!(totals.add(&increment(1, n * 10, n * 10 + 5, 1.0)), Ok(Taken::Added(_))));
    }
    let forgotten = last - INTERVALS_PER_WRITER as i64;
    for n in 0..last {
        let expected = if n < forgotten { OVERLAP } else { Ok(None) };
        assert_eq!(float(totals.add(&increment(1, n * 10, n * 10 + 5, 1.0))), expected, "interval {n}");
        // The gap behind each: nobody knows of those before the first that is remembered.
        if n < forgotten - 1 {
            assert_eq!(float(totals.add(&increment(1, n * 10 + 5, n * 10 + 10, 1.0))), OVERLAP, "gap {n}");
        }
    }
    assert_eq!(totals.state().float, Some(last as f64));
}

#[test]
fn totals_of_several_writers_and_their_restarts_add_up() {
    let mut totals = SeriesTotals::default();
    let rows = [
        ((1, 0, 10, 5.0), Ok(Some((10, 5.0)))),
        ((2, 0, 10, 100.0), Ok(Some((10, 105.0)))),
        ((1, 0, 20, 7.0), Ok(Some((20, 107.0)))),
        // Retries, and one that came late.
        ((1, 0, 20, 7.0), Ok(None)),
        ((1, 0, 10, 5.0), Ok(None)),
        ((1, 0, 15, 6.0), OVERLAP),
        // Writer 1 begins anew, said by its start and then only by its value.
        ((1, 21, 30, 2.0), Ok(Some((30, 109.0)))),
        ((1, 21, 40, 1.0), Ok(Some((40, 110.0)))),
        // What is left of its life before.
        ((1, 0, 50, 8.0), OVERLAP),
        ((2, 0, 60, 100.0), Ok(Some((60, 110.0)))),
    ];
    for ((writer, start, time, value), expected) in rows {
        assert_eq!(float(totals.replace(&total(writer, start, value), time)), expected, "{writer} at {time}: {value}");
    }
}

#[test]
fn a_writer_that_tells_both_is_not_counted_twice() {
    let mut totals = SeriesTotals::default();
    assert_eq!(float(totals.add(&increment(1, 0, 10, 5.0))), Ok(Some((10, 5.0))));
    assert_eq!(float(totals.replace(&total(1, 0, 6.0), 20)), OVERLAP);
    assert_eq!(float(totals.replace(&total(1, 10, 6.0), 20)), Ok(Some((20, 11.0))));
    assert_eq!(float(totals.add(&increment(1, 15, 25, 1.0))), OVERLAP);
    assert_eq!(float(totals.add(&increment(1, 20, 25, 1.0))), Ok(Some((25, 12.0))));
}

#[test]
fn distributions_are_added_bucket_by_bucket_and_stay_integers() {
    let mut totals = SeriesTotals::default();
    let add =
        |n| Increment { writer: 1, start_ms: n, end_ms: n + 1, value: AddedValue::Histogram(histogram(n as u64)) };
    for n in 1..=4 {
        totals.add(&add(n)).unwrap();
    }
    let sum = totals.state().histogram.clone().unwrap();
    assert!(sum.same_bits(&histogram(10)), "{sum:?}");
    // A counter beside them has its own sum.
    assert_eq!(float(totals.add(&increment(1, 9, 10, 2.0))), Ok(Some((10, 2.0))));
    // Cumulative: 10 from the other rows, then 3, then 5 − 3, then 1 after a restart, also against the hint.
    for (time, n, expected) in [(20, 3, 13), (30, 5, 15), (40, 1, 16)] {
        let told = NativeHistogram { hint: ResetHint::NotReset, ..histogram(n) };
        let row = Total { writer: 2, start_ms: 11, value: AddedValue::Histogram(told) };
        let Ok(Taken::Added(NewTotal { value: AddedValue::Histogram(sum), .. })) = totals.replace(&row, time) else {
            panic!("at {time}");
        };
        assert!(sum.same_bits(&histogram(expected)), "at {time}: {sum:?}");
    }
}

#[test]
fn what_cannot_be_added_is_refused_and_changes_nothing() {
    let mut totals = SeriesTotals::default();
    totals.add(&increment(1, 0, 10, 5.0)).unwrap();
    totals.add(&Increment { writer: 1, start_ms: 10, end_ms: 20, value: AddedValue::Histogram(histogram(1)) }).unwrap();
    let before = format!("{totals:?}");
    let custom = NativeHistogram {
        schema: -53,
        zero_threshold: 0.0,
        counts: HistogramCounts::Float(BucketCounts { count: 1.0, positive: vec![1.0], ..BucketCounts::default() }),
        positive_spans: vec![BucketSpan { offset: 0, len: 1 }],
        negative_spans: vec![],
        custom_values: Arc::from([0.5]),
        ..histogram(1)
    };
    let row = |start_ms, end_ms, value| Increment { writer: 1, start_ms, end_ms, value };
    let stale = NativeHistogram { sum: crate::histogram::stale_nan(), ..histogram(1) };
    let rows = [
        row(30, 20, AddedValue::Float(1.0)),
        row(20, 30, AddedValue::Float(f64::NAN)),
        row(20, 30, AddedValue::Float(f64::INFINITY)),
        row(20, 30, AddedValue::Histogram(stale)),
        row(20, 30, AddedValue::Histogram(custom)),
    ];
    for row in rows {
        assert_eq!(totals.add(&row).unwrap_err(), RejectReason::InvalidIncrement, "{row:?}");
    }
    let invalid = NativeHistogram { schema: 99, ..histogram(1) };
    assert_eq!(totals.add(&row(20, 30, AddedValue::Histogram(invalid))).unwrap_err(), RejectReason::InvalidHistogram);
    assert_eq!(format!("{totals:?}"), before);
}

#[test]
fn a_series_whose_writers_were_forgotten_goes_on_from_its_total() {
    let newest = NewTotal { time_ms: 100, start_ms: 7, value: AddedValue::Float(40.0), behind_gap: false };
    let mut totals = SeriesTotals::resumed(&newest);
    assert_eq!(float(totals.add(&increment(1, 90, 110, 1.0))), OVERLAP, "it may have been told");
    assert_eq!(float(totals.add(&increment(1, 100, 110, 2.0))), Ok(Some((110, 42.0))));
    // A cumulative writer's share is in the sum already, up to some point; from here on its growth is known again.
    assert_eq!(float(totals.replace(&total(2, 0, 30.0), 120)), Ok(Some((120, 42.0))));
    assert_eq!(float(totals.replace(&total(2, 0, 33.0), 130)), Ok(Some((130, 45.0))));
    assert_eq!(totals.state().began_ms, 7);
}

/// What a writer may be told: few distinct times, so that retries and overlaps are common.
fn rows() -> impl Strategy<Value = Vec<(u64, i64, i64, u8)>> {
    proptest::collection::vec((0..3u64, 0..30i64, 0..4i64, 1..100u8), 1..INTERVALS_PER_WRITER)
}

proptest! {
    #[test]
    fn increments_agree_with_a_model_that_remembers_all(rows in rows()) {
        let mut totals = SeriesTotals::default();
        let mut told: Vec<(u64, i64, i64)> = Vec::new();
        let (mut sum, mut newest) = (0.0, i64::MIN);
        for (writer, start, length, value) in rows {
            let end = start + length;
            // Cells of time: `(start, end]` holds those after start, a moment its own.
            let cells = |start: i64, end: i64| (start + 1).min(end)..=end;
            let meets = |&(other, s, e): &(u64, i64, i64)| {
                other == writer && cells(start, end).any(|cell| cells(s, e).contains(&cell))
            };
            let is_retry = told.contains(&(writer, start, end));
            let expected = match (is_retry, told.iter().any(meets)) {
                (true, _) => Ok(None),
                (false, true) => OVERLAP,
                (false, false) => {
                    told.push((writer, start, end));
                    sum += f64::from(value);
                    newest = newest.max(end);
                    Ok(Some((newest, sum)))
                }
            };
            prop_assert_eq!(float(totals.add(&increment(writer, start, end, f64::from(value)))), expected);
            let kept = SeriesTotals::from_state(totals.state().clone());
            prop_assert!(kept.is_some(), "{:?}", totals);
        }
    }

    #[test]
    fn totals_agree_with_a_model_of_growing_counters(
        rows in proptest::collection::vec((0..3u64, 0..3i64, 0..40i64, 0..50u8), 1..60)
    ) {
        let mut totals = SeriesTotals::default();
        let mut told: Vec<(u64, i64, i64)> = Vec::new();
        let mut last: BTreeMap<u64, (i64, i64, f64)> = BTreeMap::new();
        let (mut sum, mut newest) = (0.0, i64::MIN);
        for (writer, epoch, time, value) in rows {
            let (start, value) = (epoch * 10, f64::from(value));
            let time = start + time;
            let growth = match last.get(&writer) {
                _ if told.contains(&(writer, start, time)) => None,
                None => Some(Ok(value)),
                Some(&(s, t, _)) if time <= t || start < s => Some(Err(())),
                Some(&(s, _, before)) if s == start && value >= before => Some(Ok(value - before)),
                Some(_) => Some(Ok(value)),
            };
            let expected = match growth {
                None => Ok(None),
                Some(Err(())) => OVERLAP,
                Some(Ok(growth)) => {
                    last.insert(writer, (start, time, value));
                    told.push((writer, start, time));
                    sum += growth;
                    newest = newest.max(time);
                    Ok(Some((newest, sum)))
                }
            };
            prop_assert_eq!(float(totals.replace(&total(writer, start, value), time)), expected);
        }
    }
}

#[test]
fn an_increment_behind_a_gap_says_so_and_is_added() {
    let mut totals = SeriesTotals::default();
    let gap = |taken: Result<Taken, RejectReason>| match taken {
        Ok(Taken::Added(total)) => total.behind_gap,
        other => panic!("{other:?}"),
    };
    // The first of a writer follows nothing, its neighbour follows it, and what fills a gap is behind none.
    for (writer, start, end, expected) in
        [(1, 0, 10, false), (1, 10, 20, false), (1, 30, 40, true), (1, 20, 30, false), (2, 50, 60, false)]
    {
        assert_eq!(gap(totals.add(&increment(writer, start, end, 1.0))), expected, "{writer}: {start} to {end}");
    }
}

#[test]
fn overlaps_are_counted_until_all_that_is_remembered_came_after_them() {
    let mut totals = SeriesTotals::default();
    let mut add = |start, end| {
        let taken = totals.add(&increment(1, start, end, 1.0));
        (taken.map(|taken| matches!(taken, Taken::Identical)), totals.overlaps())
    };
    let overlap = Err(RejectReason::OverlappingIncrement);
    assert_eq!(add(0, 10), (Ok(false), 0));
    // Sent again is no overlap, however often.
    assert_eq!(add(0, 10), (Ok(true), 0));
    assert_eq!(add(5, 15), (overlap, 1));
    assert_eq!(add(0, 9), (overlap, 2));
    for number in 1..INTERVALS_PER_WRITER as i64 {
        assert_eq!(add(10 * number, 10 * number + 10), (Ok(false), 2), "{number}");
    }
    let end = 10 * INTERVALS_PER_WRITER as i64;
    assert_eq!(add(end, end + 10), (Ok(false), 0));
    // What is told of a time that is no longer remembered.
    assert_eq!(add(0, 10), (overlap, 1));
}

#[test]
fn a_lone_writer_has_the_values_it_told() {
    let mut totals = SeriesTotals::default();
    // 0.1 + (0.3 − 0.1) is not 0.3.
    for (time, value) in [(10, 0.1), (20, 0.3), (30, 0.6), (40, 0.7)] {
        assert_eq!(float(totals.replace(&total(1, 5, value), time)), Ok(Some((time, value))));
    }
}
