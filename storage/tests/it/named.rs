//! What the engine does under the names by which it was asked for.

use std::sync::Arc;

use kymo_core::batch::{AddedValue, Increment, SampleBatch};
use kymo_core::health::{HealthOptions, OperationKind, Request, ServiceHealth};
use kymo_core::storage::SharedSeries;
use kymo_core::{Clock, Matcher, MetricStorage, QueryContext, Selector};
use kymo_storage::fs::SimFs;
use kymo_storage::{Options, SyncPolicy};

use crate::world::*;

#[test]
fn query_metrics_gives_every_sample_by_labels_and_time() {
    let disk = SimFs::new(31);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    for (n, time_ms, value) in [(1, NOW_MS, 3.0), (0, NOW_MS, 2.0), (0, NOW_MS - seconds(10), 1.0)] {
        engine.store_metric(series(n).as_ref(), time_ms, value).unwrap();
    }
    let of_zero = Selector::new(vec![Matcher::equal("n", "0")], i64::MIN, NOW_MS);
    let found = engine.query_metrics(&of_zero, &QueryContext::unlimited()).unwrap();
    assert_eq!(found, [(series(0), NOW_MS - seconds(10), 1.0), (series(0), NOW_MS, 2.0)]);
    engine.compress_cold().unwrap();
    assert_eq!(engine.query_metrics(&of_zero, &QueryContext::unlimited()).unwrap(), found);
}

#[test]
fn compress_cold_moves_the_head_into_blocks_and_changes_no_sample() {
    let disk = SimFs::new(32);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    let mut model = Model::new();
    for step in 0..400 {
        let time_ms = NOW_MS - seconds(6_000) + seconds(step * 15);
        engine.append(&scrape(5, time_ms)).unwrap();
        note(&mut model, 5, time_ms);
    }
    let before = engine.statistics();
    assert_eq!((before.head_samples, before.block_samples), (2_000, 0));
    engine.compress_cold().unwrap();
    let after = engine.statistics();
    assert_eq!((after.head_samples, after.block_samples), (0, 2_000));
    assert!(after.head_bytes < before.head_bytes, "{before:?}, {after:?}");
    assert!(after.block_bytes < 2_000 * 32 / 10, "a tenth of points of 32 bytes: {after:?}");
    assert_eq!(dump(&engine), model);
    drop(engine);
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    assert_eq!(dump(&engine), model);
}

#[test]
fn get_service_health_asks_what_the_engine_was_given() {
    let disk = SimFs::new(33);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    assert_eq!(engine.get_service_health(&"shop".into()), None);
    drop(engine);
    let health = Arc::new(ServiceHealth::new(HealthOptions::default(), clock.clone()));
    let options = Options { health: Some(health.clone()), ..options(&clock, SyncPolicy::Never) };
    let (engine, _) = open(&disk, options).unwrap();
    health.record(&Request {
        service: "shop",
        operation: "GET /",
        kind: OperationKind::Server,
        duration_seconds: 0.1,
        is_error: true,
        end_ms: clock.now_ms(),
        weight: 3,
    });
    health.aggregate_health();
    let found = engine.get_service_health(&"shop".into()).unwrap();
    assert_eq!((found.requests, found.errors), (3, 3));
    assert_eq!(engine.get_service_health(&"other".into()), None);
}

/// What writers left untold, and told over what they had told before, is said after every kind of end alike.
#[test]
fn gaps_and_overlaps_of_increments_are_told_after_a_start() {
    let disk = SimFs::new(34);
    let clock = clock();
    let options = || options(&clock, SyncPolicy::Never);
    let (mut engine, _) = open(&disk, options()).unwrap();
    let told = |engine: &dyn MetricStorage| {
        let set = engine.select(&Selector::everything(), &QueryContext::unlimited()).unwrap();
        set.shared()
    };
    for (round, end) in ["killed", "flushed and killed", "closed"].into_iter().enumerate() {
        let mut batch = SampleBatch::new();
        for (start, end) in [(0, 10), (20, 30), (5, 15)] {
            let start_ms = NOW_MS - seconds(600) + seconds(100 * round as i64) + start;
            let value = AddedValue::Float(1.0);
            let increment = Increment { writer: 7, start_ms, end_ms: start_ms + end - start, value };
            batch.push_increment(&series(0), increment);
        }
        let report = engine.append(&batch).unwrap();
        assert_eq!((report.stored.increments, report.rejected.len()), (2, 1), "{report:?}");
        match end {
            "flushed and killed" => engine.flush().unwrap(),
            "closed" => engine.close().unwrap(),
            _ => {}
        }
        drop(engine);
        (engine, _) = open(&disk, options()).unwrap();
        let gaps = 2 * round + 1;
        let expected = SharedSeries { series: 0, writers: 0, gaps, overlaps: round as u64 + 1 };
        assert_eq!(told(&engine), Some(expected), "{end}");
    }
}
