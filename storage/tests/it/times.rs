//! Columns of times that are equal are called the same, wherever their parts are.

use std::collections::BTreeMap;

use kymo_core::storage::Columns;
use kymo_core::{MetricStorage, QueryContext, SampleBatch, Selector};
use kymo_storage::SyncPolicy;
use kymo_storage::fs::SimFs;

use crate::world::*;

const STEP_MS: i64 = 15_000;

/// What the times of each series are called, and the times.
fn read(engine: &dyn MetricStorage, start_ms: i64, end_ms: i64) -> Vec<(u64, Vec<i64>)> {
    let what = Selector { start_ms, end_ms, ..Selector::everything() };
    let set = engine.select(&what, &QueryContext::unlimited()).unwrap();
    let mut columns = Columns::default();
    let read = |number| {
        set.read(number, &mut columns).unwrap();
        (columns.times_id, columns.times.clone())
    };
    (0..set.len()).map(read).collect()
}

/// Equal ids mean equal times, and the other way round; gives the distinct ids.
fn check(found: &[(u64, Vec<i64>)]) -> usize {
    let (mut by_id, mut by_times) = (BTreeMap::new(), BTreeMap::new());
    for (id, times) in found {
        assert_ne!(*id, 0, "{times:?} have no name");
        assert_eq!(*by_id.entry(*id).or_insert(times), times);
        assert_eq!(*by_times.entry(times).or_insert(id), id, "{times:?} have two names");
    }
    by_id.len()
}

#[test]
fn equal_times_have_one_name_across_blocks_chunks_and_open_runs() {
    let disk = SimFs::new(1);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    let first_ms = NOW_MS - 400 * STEP_MS;
    let time = |n: i64| first_ms + n * STEP_MS;
    for n in 0..230 {
        if n == 80 || n == 90 {
            // Two blocks; behind them stand two sealed chunks and an open run.
            engine.flush().unwrap();
        }
        let mut batch = SampleBatch::new();
        for member in 0..6 {
            // 4 misses a scrape, 5 is late with one.
            if (member, n) != (4, 100) && (member, n) != (5, 200) {
                batch.push_float(&series(member), time(n), n as f64);
            }
        }
        engine.append(&batch).unwrap();
    }
    let mut late = SampleBatch::new();
    late.push_float(&series(5), time(200), 200.0);
    engine.append(&late).unwrap();
    let found = read(&engine, i64::MIN, i64::MAX);
    assert_eq!(found.iter().map(|(_, times)| times.len()).collect::<Vec<_>>(), [230, 230, 230, 230, 229, 230]);
    assert_eq!(check(&found), 2);
    for (low, high) in [(0, 79), (70, 85), (95, 99), (95, 228), (150, 210), (201, 229), (228, 229)] {
        let found = read(&engine, time(low) - 1, time(high));
        assert!(found.iter().all(|(_, times)| times.len() as i64 >= high - low));
        check(&found);
    }
}

#[test]
fn different_times_have_different_names() {
    let disk = SimFs::new(2);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    for n in 0..70i64 {
        if n == 30 {
            engine.flush().unwrap();
        }
        let mut batch = SampleBatch::new();
        for member in 0..40u64 {
            batch.push_float(&series(member), NOW_MS - 5_000_000 + n * STEP_MS + (member * n as u64 % 7) as i64, 1.0);
        }
        engine.append(&batch).unwrap();
    }
    assert_eq!(check(&read(&engine, i64::MIN, i64::MAX)), 7);
}
