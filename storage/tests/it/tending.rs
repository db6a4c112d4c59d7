//! Flush, merge, retention, and giving memory back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kymo_core::{
    Changes, Labels, MatchOp, Matcher, MetricStorage, MetricType, Registry, RejectReason, SampleBatch, Selector,
};
use kymo_storage::fs::{Fs, SimFs};
use kymo_storage::{
    Engine, Lane, MaintainLimit, Next, Options, RetentionFigures, RetentionPolicy, RetentionRule, SyncPolicy,
};

use crate::world::*;

#[test]
fn merging_keeps_every_sample_and_leaves_fewer_blocks() {
    let disk = SimFs::new(1);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    let mut model = Model::new();
    for round in 0..9i64 {
        for step in 0..50i64 {
            // Rounds overlap: the later value wins.
            let time = NOW_MS - seconds(20_000) + seconds(round * 400 + step * 15);
            let mut batch = SampleBatch::new();
            for n in 0..4 {
                let value = (round * 100 + step) as f64 + n as f64;
                batch.push_float(&series(n), time, value);
                model.entry(series(n).to_string()).or_default().insert(time, value.to_bits());
            }
            engine.append(&batch).unwrap();
        }
        engine.flush().unwrap();
        assert_eq!(dump(&engine), model, "round {round}");
    }
    let before = engine.statistics().blocks;
    let mut steps = 0;
    while engine.maintain(Lane::Merge, MaintainLimit::default()).unwrap() == Next::Now {
        assert_eq!(dump(&engine), model, "after merge {steps}");
        steps += 1;
    }
    let after = engine.statistics().blocks;
    assert!(steps > 0 && after < before, "{before} blocks became {after} in {steps} steps");
    drop(engine);
    let (engine, report) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    assert_eq!(report.blocks as u64, after);
    assert_eq!(dump(&engine), model);
}

#[test]
fn the_log_is_told_as_long_as_its_files_are_at_any_moment() {
    let disk = SimFs::new(3);
    let clock = clock();
    let in_files = || disk.list(&Path::new(DIR).join("wal")).unwrap().iter().map(|file| file.len).sum::<u64>();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    assert_eq!(engine.statistics().log_bytes, in_files());
    for step in 0..5i64 {
        let before = in_files();
        engine.append(&scrape(2, NOW_MS - seconds(3_000) + seconds(step * 300))).unwrap();
        assert!(in_files() > before);
        assert_eq!(engine.statistics().log_bytes, in_files(), "the segment in use is part of it");
        if step == 2 {
            engine.flush().unwrap();
            assert_eq!(engine.statistics().log_bytes, in_files());
        }
    }
    drop(engine);
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    assert_eq!(engine.statistics().log_bytes, in_files());
}

#[test]
fn retention_hides_at_once_and_removes_whole_blocks() {
    let disk = SimFs::new(2);
    let clock = clock();
    let keep = Options {
        retention: RetentionPolicy::of_age(Some(Duration::from_secs(3_600))),
        ..options(&clock, SyncPolicy::Never)
    };
    let (engine, _) = open(&disk, keep).unwrap();
    for step in 0..10i64 {
        engine.append(&scrape(2, NOW_MS - seconds(3_000) + seconds(step * 300))).unwrap();
    }
    engine.flush().unwrap();
    let count = || dump(&engine).values().map(|samples| samples.len()).sum::<usize>();
    assert_eq!(count(), 20);
    let version = engine.version();
    advance(&clock, 1_200);
    // Older than an hour now: the samples at -3,000 and -2,700 s.
    assert_eq!(count(), 16);
    match engine.changed_since(version, &Selector::everything()) {
        Changes::Unknown => {}
        Changes::Ranges(ranges) => {
            assert!(ranges[0].1 >= NOW_MS - seconds(2_700), "retirement is a change: {ranges:?}")
        }
    }
    advance(&clock, 8_000);
    assert_eq!(count(), 0);
    while engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap() == Next::Now {}
    assert_eq!(engine.statistics().blocks, 0);
    assert!(disk.files().keys().all(|path| path.extension().is_none_or(|e| e != "block")));
}

#[test]
fn the_oldest_blocks_go_when_all_are_too_large() {
    let disk = SimFs::new(12);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    let hours = |n: i64| NOW_MS - seconds(3_600 * n);
    for n in [30, 20, 10] {
        engine.append(&scrape(200, hours(n))).unwrap();
        engine.flush().unwrap();
    }
    let bytes = engine.statistics().block_bytes;
    drop(engine);
    let of = |max_bytes| RetentionPolicy { max_bytes: Some(max_bytes), ..RetentionPolicy::of_age(None) };
    let limited = Options { retention: of(bytes - 1), ..options(&clock, SyncPolicy::Never) };
    let (engine, _) = open(&disk, limited.clone()).unwrap();
    let before = engine.version();
    assert_eq!(engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap(), Next::Now);
    assert_eq!(engine.statistics().blocks, 2);
    assert_eq!(engine.statistics().min_time_ms, Some(hours(20)), "the oldest went");
    assert_eq!(engine.changed_since(before, &Selector::everything()), Changes::Ranges(vec![(hours(30), hours(30))]));
    engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap();
    assert_eq!(engine.statistics().blocks, 2, "and no more than must");
    // Late samples of a time that went are taken, and go with the next look.
    engine.append(&scrape(200, hours(30))).unwrap();
    engine.flush().unwrap();
    engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap();
    assert_eq!(engine.statistics().min_time_ms, Some(hours(20)));
    drop(engine);
    let (engine, report) = open(&disk, Options { retention: of(0), ..limited }).unwrap();
    assert_eq!(report.blocks, 2);
    engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap();
    assert!(dump(&engine).is_empty());
}

#[test]
fn compacting_finishes_flush_and_merging_and_takes_steps_when_it_must() {
    let disk = SimFs::new(13);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    let mut model = Model::new();
    for n in 0..40i64 {
        let time = NOW_MS - seconds(6 * 3_600 - 500 * n);
        engine.append(&scrape(30, time)).unwrap();
        note(&mut model, 30, time);
        if n % 10 == 9 {
            engine.flush().unwrap();
        }
    }
    let no_time = MaintainLimit { time: Duration::ZERO, ..MaintainLimit::default() };
    advance(&clock, 86_400);
    let mut steps = 0;
    while engine.maintain(Lane::Merge, no_time).unwrap() == Next::Now {
        assert_eq!(dump(&engine), model, "after step {steps}");
        steps += 1;
    }
    assert!(steps > 30, "a series a step: {steps}");
    assert_eq!(dump(&engine), model);
    engine.append(&scrape(30, NOW_MS - 1)).unwrap();
    note(&mut model, 30, NOW_MS - 1);
    engine.compact(|| true).unwrap();
    let statistics = engine.block_statistics().unwrap();
    assert_eq!((engine.statistics().head_samples, statistics.samples), (0, 41 * 30));
    assert_eq!(statistics.blocks, 1);
    assert_eq!(dump(&engine), model);
}

#[test]
fn series_that_are_gone_give_their_memory_back_and_their_refs_are_unknown() {
    let disk = SimFs::new(3);
    let clock = clock();
    let budget = kymo_core::Budget::root("storage", 1 << 30);
    let with_budget = Options { budget: budget.clone(), ..options(&clock, SyncPolicy::Never) };
    let (engine, _) = open(&disk, with_budget).unwrap();
    let report = engine.append(&scrape(2_000, NOW_MS)).unwrap();
    let old = report.new_refs[0].1;
    let high = budget.used();
    for n in 0..6 {
        advance(&clock, 15);
        engine.append(&scrape(1, NOW_MS + seconds(15 * n + 1))).unwrap();
        engine.flush().unwrap();
    }
    assert_eq!(engine.statistics().active_series, 1);
    // What remains is the index of a block of 2,000 series.
    assert!(budget.used() < high / 4, "{} of {high} bytes are still held", budget.used());
    let gone = report.new_refs[1_500].1;
    let mut batch = SampleBatch::new();
    batch.push_float(gone, NOW_MS + seconds(100), 1.0);
    batch.push_float(old, NOW_MS + seconds(100), 1.0);
    let report = engine.append(&batch).unwrap();
    assert_eq!((report.unknown_refs.as_slice(), report.stored.floats), ([0].as_slice(), 1));
    assert_eq!(dump(&engine).len(), 2_000, "samples in blocks stay");
}

#[test]
fn the_head_is_flushed_by_age_and_by_size() {
    let disk = SimFs::new(4);
    let clock = clock();
    let small =
        Options { flush_samples: 100, flush_age: Duration::from_secs(60), ..options(&clock, SyncPolicy::Never) };
    let (engine, _) = open(&disk, small).unwrap();
    let tend = || engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap();
    engine.append(&scrape(10, NOW_MS)).unwrap();
    tend();
    assert_eq!(engine.statistics().blocks, 0, "too few and too young");
    advance(&clock, 60);
    tend();
    assert_eq!(engine.statistics().blocks, 1, "old enough");
    engine.append(&scrape(100, NOW_MS + 1)).unwrap();
    tend();
    assert_eq!((engine.statistics().blocks, engine.statistics().head_samples), (2, 0), "large enough");
    let logs = disk.files().into_keys().filter(|path| path.extension().is_some_and(|e| e == "wal")).count();
    assert_eq!(logs, 0, "what is in blocks is not in the log");
}

#[test]
fn late_samples_that_are_hard_to_find_fill_the_head() {
    const SAMPLES: i64 = 6_000;
    let clock = clock();
    let series = Labels::from_pairs([("__name__", "busy")]);
    // Of one series as many samples in order, and then late ones, one by one, until the head is full. Gives how many.
    let late_until_full = |late_ms: fn(i64) -> i64| {
        let registry = Registry::new();
        let small = Options { flush_samples: 20_000, registry: registry.clone(), ..options(&clock, SyncPolicy::Never) };
        let (engine, _) = open(&SimFs::new(4), small).unwrap();
        let fill = || {
            let family = registry.snapshot().into_iter().find(|family| family.name == "kymo_storage_head_fill_ratio");
            match family.unwrap().series[0].value {
                MetricType::Gauge { value, .. } => value,
                ref other => panic!("{other:?}"),
            }
        };
        let told = Arc::new(AtomicU64::new(0));
        let bell = told.clone();
        engine.on_full(move || {
            bell.fetch_add(1, Ordering::Relaxed);
        });
        let first_ms = NOW_MS - seconds(SAMPLES);
        let mut batch = SampleBatch::new();
        (0..SAMPLES).for_each(|step| batch.push_float(&series, first_ms + seconds(step), 1.0));
        engine.append(&batch).unwrap();
        let mut late = 0;
        while late < SAMPLES && told.load(Ordering::Relaxed) == 0 {
            let mut batch = SampleBatch::new();
            batch.push_float(&series, first_ms + late_ms(late), late as f64);
            assert_eq!(engine.append(&batch).unwrap().stored.floats, 1);
            late += 1;
            assert_eq!(fill() >= 1.0, told.load(Ordering::Relaxed) > 0, "{}", fill());
            assert!(fill() >= (SAMPLES + late) as f64 / 20_000.0, "{}", fill());
        }
        engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap();
        let statistics = engine.statistics();
        let is_full = told.load(Ordering::Relaxed) > 0;
        let wanted = if is_full { (0, SAMPLES + late) } else { (SAMPLES + late, 0) };
        assert_eq!((statistics.head_samples as i64, statistics.block_samples as i64), wanted);
        assert_eq!(fill() == 0.0, is_full);
        assert_eq!(dump(&engine).values().map(|samples| samples.len() as i64).sum::<i64>(), SAMPLES + late);
        late
    };
    assert_eq!(late_until_full(|late| seconds(late) - seconds(SAMPLES)), SAMPLES, "before all others, rising");
    assert_eq!(late_until_full(|late| -seconds(1) - seconds(late)), SAMPLES, "before all others, falling");
    // None at a whole second: those are taken.
    let between = |late: i64| seconds(SAMPLES - 70) + 1 + late + late / 999;
    assert_eq!(late_until_full(between), SAMPLES, "between the last ones, rising");
    let scattered = late_until_full(|late| seconds(late * 2_477 % SAMPLES) + 500);
    assert!((100..1_000).contains(&scattered), "full after {scattered} late ones");
}

#[test]
fn a_replayed_head_is_no_fuller_than_it_was() {
    let disk = SimFs::new(4);
    let clock = clock();
    let small = || Options { flush_samples: 40_000, ..options(&clock, SyncPolicy::Always) };
    let (engine, _) = open(&disk, small()).unwrap();
    // What comes is below what blocks hold.
    engine.append(&scrape(1, NOW_MS + seconds(300))).unwrap();
    engine.flush().unwrap();
    let mut batch = SampleBatch::new();
    for step in 0..10_000 {
        // Each tenth comes a hundred samples late.
        let time_ms = if step % 10 == 9 { step * 10 - 1_005 } else { step * 10 };
        batch.push_float(&series(7), NOW_MS - seconds(200) + time_ms, step as f64);
    }
    engine.append(&batch).unwrap();
    let tended = |engine: &Engine| {
        engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap();
        engine.statistics().head_samples
    };
    assert_eq!(tended(&engine), 10_000, "not full");
    drop(engine);
    let (engine, _) = open(&disk, small()).unwrap();
    assert_eq!(tended(&engine), 10_000, "nor now");
}

#[test]
fn a_log_of_what_blocks_held_already_is_flushed_while_it_is_replayed() {
    let disk = SimFs::new(4);
    let clock = clock();
    let small = || Options { flush_samples: 2_000, ..options(&clock, SyncPolicy::Always) };
    let (engine, _) = open(&disk, small()).unwrap();
    let send = || {
        for first in (0..6_000).step_by(500) {
            let mut batch = SampleBatch::new();
            (first..first + 500).for_each(|step| batch.push_float(&series(7), NOW_MS - 6_000 + step, step as f64));
            engine.append(&batch).unwrap();
        }
    };
    send();
    engine.flush().unwrap();
    send();
    assert_eq!(engine.statistics().head_samples, 0, "all of it was there");
    let before = dump(&engine);
    drop(engine);
    let (engine, _) = open(&disk, small()).unwrap();
    assert_eq!(engine.statistics().head_samples, 2_000, "two full heads are in blocks");
    assert_eq!(dump(&engine), before);
}

#[test]
fn series_that_wait_are_not_freed_because_others_fill_the_head_early() {
    let clock = clock();
    let small = Options { flush_samples: 20_000, ..options(&clock, SyncPolicy::Never) };
    let (engine, _) = open(&SimFs::new(4), small).unwrap();
    let waiting = engine.append(&scrape(1, NOW_MS - seconds(30_000))).unwrap().new_refs[0].1;
    let mut flushes = 0;
    for round in 0..5 {
        let first_ms = NOW_MS - seconds(30_000 - round * 6_000);
        let mut batch = SampleBatch::new();
        (0..6_000).for_each(|step| batch.push_float(&series(7), first_ms + seconds(step), 1.0));
        engine.append(&batch).unwrap();
        for late in 0..1_000 {
            let mut batch = SampleBatch::new();
            batch.push_float(&series(7), first_ms + seconds(late * 2_477 % 6_000) + 500, 2.0);
            engine.append(&batch).unwrap();
            engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap();
            if engine.statistics().head_samples == 0 {
                flushes += 1;
                break;
            }
        }
    }
    assert_eq!(flushes, 5);
    let mut batch = SampleBatch::new();
    batch.push_float(waiting, NOW_MS, 1.0);
    assert_eq!(engine.append(&batch).unwrap().stored.floats, 1);
}

#[test]
fn many_chunks_of_one_series_fill_the_head() {
    let clock = clock();
    let (engine, _) = open(&SimFs::new(4), options(&clock, SyncPolicy::Never)).unwrap();
    let append = |range: std::ops::Range<i64>| {
        let mut batch = SampleBatch::new();
        range.for_each(|step| batch.push_float(&series(7), NOW_MS - seconds(600) + step, 1.0));
        engine.append(&batch).unwrap();
        engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap();
        engine.statistics().head_samples
    };
    assert_eq!(append(0..8_191 * 60 + 59), 8_191 * 60 + 59);
    assert_eq!(append(8_191 * 60 + 59..8_192 * 60), 0);
}

#[test]
fn who_tends_the_head_is_told_each_time_it_is_full() {
    let disk = SimFs::new(4);
    let clock = clock();
    let small = Options { flush_samples: 100, ..options(&clock, SyncPolicy::Never) };
    let (engine, _) = open(&disk, small).unwrap();
    let told = Arc::new(AtomicU64::new(0));
    let bell = told.clone();
    engine.on_full(move || {
        bell.fetch_add(1, Ordering::Relaxed);
    });
    let append = |step: i64, told_by_then: u64| {
        engine.append(&scrape(60, NOW_MS + step)).unwrap();
        assert_eq!(told.load(Ordering::Relaxed), told_by_then, "step {step}");
    };
    append(0, 0);
    append(1, 1);
    append(2, 1);
    let next = engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap();
    assert!(matches!(next, Next::At(_)), "{next:?}: there is nothing more to flush");
    assert_eq!(engine.statistics().head_samples, 0);
    append(3, 1);
    append(4, 2);
}

#[test]
fn a_closed_window_waits_for_the_flush_of_what_the_head_holds_of_it() {
    let disk = SimFs::new(4);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    let window = 4 * 2 * 3_600_000;
    let start = (NOW_MS.div_euclid(window) - 2) * window;
    let mut model = Model::new();
    let mut append = |steps: std::ops::Range<i64>| {
        for step in steps {
            engine.append(&scrape(3, start + seconds(15 * step))).unwrap();
            note(&mut model, 3, start + seconds(15 * step));
        }
    };
    let merged = || {
        while engine.maintain(Lane::Merge, MaintainLimit::default()).unwrap() == Next::Now {}
        engine.block_list().iter().filter(|block| block.level > 0).map(|block| block.samples).sum::<u64>()
    };
    append(0..200);
    engine.flush().unwrap();
    append(200..400);
    assert_eq!(merged(), 0, "half of it is still in memory");
    engine.flush().unwrap();
    // One in eight would have the window merged again.
    append(400..449);
    assert_eq!(merged(), 3 * 400, "little that is late does not hold it up");
    append(449..550);
    engine.flush().unwrap();
    assert_eq!(merged(), 3 * 550);
    assert_eq!(dump(&engine), model);
}

#[test]
fn compacting_makes_one_block_of_all_that_lies_in_the_longest_window() {
    let disk = SimFs::new(4);
    let clock = clock();
    let registry = Registry::new();
    let with_registry = Options { registry: registry.clone(), ..options(&clock, SyncPolicy::Never) };
    let (engine, _) = open(&disk, with_registry).unwrap();
    let week = 84 * 2 * 3_600_000;
    // Across midnight.
    let start = (NOW_MS.div_euclid(week) - 1) * week + 86_400_000 - seconds(1_500);
    let mut model = Model::new();
    for step in 0..200i64 {
        engine.append(&scrape(3, start + seconds(15 * step))).unwrap();
        note(&mut model, 3, start + seconds(15 * step));
    }
    engine.compact(|| true).unwrap();
    let blocks = engine.block_list();
    assert_eq!(blocks.iter().map(|block| (block.level, block.samples)).collect::<Vec<_>>(), [(1, 600)], "{blocks:?}");
    let families = registry.snapshot();
    let merged = families.iter().find(|family| family.name == "kymo_storage_merged_blocks_total").unwrap();
    assert_eq!(merged.series[0].value.value(), 2.0, "each part is written anew once");
    assert_eq!(dump(&engine), model);
}

#[test]
fn compacting_merges_what_there_is_room_for() {
    let disk = SimFs::new(4);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    let week = 84 * 2 * 3_600_000;
    let start = (NOW_MS.div_euclid(week) - 1) * week;
    let mut model = Model::new();
    for day in 0..2i64 {
        for step in 0..200i64 {
            let time_ms = start + seconds(86_400 * day + 15 * step);
            engine.append(&scrape(20, time_ms)).unwrap();
            note(&mut model, 20, time_ms);
        }
        engine.flush().unwrap();
    }
    let bytes: u64 = engine.block_list().iter().map(|block| block.bytes).sum();
    let used: u64 = disk.files().values().map(|file| file.len() as u64).sum();
    disk.set_capacity(Some(used + bytes - 1));
    assert!(disk.space(Path::new(DIR)).unwrap().available < bytes, "not for all of it at once");
    engine.compact(|| true).unwrap();
    let blocks = engine.block_list();
    assert!(blocks.iter().all(|block| block.level > 0), "{blocks:?}");
    assert_eq!(dump(&engine), model);
}

#[test]
fn backfill_of_a_year_makes_few_files() {
    let disk = SimFs::new(5);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    let mut model = Model::new();
    for day in 0..365i64 {
        engine.append(&scrape(2, NOW_MS - seconds(86_400 * day))).unwrap();
        note(&mut model, 2, NOW_MS - seconds(86_400 * day));
    }
    engine.flush().unwrap();
    assert!(engine.statistics().blocks <= 16, "{} blocks", engine.statistics().blocks);
    assert_eq!(dump(&engine), model);
}

#[test]
fn the_engine_tells_what_it_did_through_the_registry_it_was_given() {
    let disk = SimFs::new(6);
    let clock = clock();
    let registry = Registry::new();
    let with_registry = Options {
        registry: registry.clone(),
        retention: RetentionPolicy::of_age(Some(Duration::from_secs(3_600))),
        ..options(&clock, SyncPolicy::Interval)
    };
    let (engine, _) = open(&disk, with_registry).unwrap();
    engine.append(&scrape(7, NOW_MS)).unwrap();
    engine.append(&scrape(7, NOW_MS)).unwrap();
    engine.append(&scrape(7, NOW_MS + seconds(601))).unwrap();
    engine.flush().unwrap();
    advance(&clock, 7_200);
    engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap();
    let value = |name: &str, labels: &[(&str, &str)]| {
        let families = registry.snapshot();
        let family = families.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("no {name}"));
        let wanted: Vec<(String, String)> = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let series = family.series.iter().find(|series| series.labels[..] == wanted[..]);
        series.unwrap_or_else(|| panic!("no {name}{labels:?}")).value.value()
    };
    assert_eq!(value("kymo_storage_rows_total", &[("outcome", "stored")]), 7.0);
    assert_eq!(value("kymo_storage_rows_total", &[("outcome", "identical")]), 7.0);
    assert_eq!(value("kymo_storage_rows_total", &[("outcome", "rejected")]), 7.0);
    assert_eq!(value("kymo_storage_flushes_total", &[("outcome", "ok")]), 1.0);
    assert_eq!(value("kymo_storage_retired_blocks_total", &[]), 1.0);
    assert_eq!(value("kymo_storage_active_series", &[]), 7.0);
    for metric in kymo_storage::METRICS {
        assert!(registry.snapshot().iter().any(|family| family.name == metric.name), "{} is registered", metric.name);
    }
}

#[test]
fn merges_and_flushes_show_what_they_cost_and_levels_are_those_of_the_moment() {
    let disk = SimFs::new(5);
    let clock = clock();
    let registry = Registry::new();
    let (engine, _) =
        open(&disk, Options { registry: registry.clone(), ..options(&clock, SyncPolicy::Never) }).unwrap();
    let level = |name: &str| {
        let found = registry.snapshot();
        let family = found.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("no {name}"));
        family.series[0].value.value()
    };
    for round in 0..6i64 {
        for step in 0..5 {
            engine.append(&scrape(3, NOW_MS - seconds(20_000) + seconds(round * 75 + step * 15))).unwrap();
        }
        assert_eq!(level("kymo_storage_head_samples"), 15.0, "right behind the append");
        engine.flush().unwrap();
        assert_eq!(level("kymo_storage_head_samples"), 0.0);
        assert_eq!(level("kymo_storage_blocks"), (round + 1) as f64);
    }
    let flushed = level("kymo_storage_flushed_bytes_total");
    assert_eq!(flushed, level("kymo_storage_block_bytes"));
    engine.compact(|| true).unwrap();
    let merged = engine.statistics();
    assert_eq!(level("kymo_storage_blocks"), merged.blocks as f64);
    assert_eq!(level("kymo_storage_merge_written_bytes_total"), merged.block_bytes as f64);
    assert_eq!(level("kymo_storage_merge_read_bytes_total"), flushed);
    assert_eq!(level("kymo_storage_merged_blocks_total"), 6.0);
}

#[test]
fn a_series_is_kept_as_long_as_the_first_rule_that_matches_it_says() {
    let disk = SimFs::new(14);
    let clock = clock();
    let hours = |n: u64| Some(Duration::from_secs(3_600 * n));
    let rule = |n: &str, keep| RetentionRule { matchers: vec![Matcher::new("n", MatchOp::Regex, n).unwrap()], keep };
    let policy = RetentionPolicy {
        rules: vec![rule("0", hours(2)), rule("0|1", hours(20)), rule("2", None)],
        ..RetentionPolicy::of_age(hours(10))
    };
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    let mut model = Model::new();
    let hour = |n: i64| NOW_MS - seconds(3_600 * n);
    for n in (0..30).rev() {
        engine.append(&scrape(4, hour(n))).unwrap();
        note(&mut model, 4, hour(n));
        if n % 5 == 1 {
            engine.flush().unwrap();
        }
    }
    engine.compact(|| true).unwrap();
    assert_eq!(dump(&engine), model);
    let before = engine.statistics();
    let ctx = kymo_core::QueryContext::unlimited();
    // 27 samples of series 0 are older than two hours, 9 of series 1 than 20, none of series 2, 19 of series 3 than ten.
    let preview = engine.preview_retention(&policy, &ctx).unwrap();
    let samples: Vec<(u64, u64)> = preview.by_age.iter().map(|figures| (figures.series, figures.samples)).collect();
    assert_eq!(samples, [(1, 27), (1, 9), (0, 0), (1, 19)]);
    assert_eq!(preview.by_size, RetentionFigures::default());
    assert_eq!(dump(&engine), model, "looking changes nothing");

    let version = engine.version();
    engine.set_retention(policy.clone());
    for (n, keep) in [(0, 2), (1, 20), (3, 10)] {
        model.get_mut(&series(n).to_string()).unwrap().retain(|time, _| *time >= hour(keep));
    }
    assert_eq!(dump(&engine), model, "at once");
    let changes = engine.changed_since(version, &Selector::everything());
    assert_eq!(changes, Changes::Ranges(vec![(i64::MIN, i64::MAX)]));
    let old = Selector::new(vec![], hour(28), hour(22));
    assert_eq!(engine.label_values("n", &old, &ctx).unwrap(), ["2"]);
    // What is too old for its series is refused, by ref and by labels.
    let late = engine.append(&scrape(4, hour(12))).unwrap();
    assert_eq!(late.rejected, [(0, RejectReason::OutsideRetention), (3, RejectReason::OutsideRetention)]);
    assert_eq!(late.identical.floats, 2);
    let refs = engine.append(&scrape(4, hour(0))).unwrap().new_refs;
    let mut batch = SampleBatch::new();
    for &(n, series) in &refs {
        batch.push_float(series, hour(12), value(n as u64, hour(12)));
    }
    let late_by_ref = engine.append(&batch).unwrap();
    assert_eq!((late_by_ref.rejected, late_by_ref.identical.floats), (late.rejected, 2));
    assert_eq!(engine.statistics().block_bytes, before.block_bytes, "files follow");

    while engine.maintain(Lane::Merge, MaintainLimit::default()).unwrap() == Next::Now {}
    assert_eq!(dump(&engine), model);
    assert_eq!(engine.statistics().block_samples, before.block_samples - 27 - 9 - 19);
    assert_eq!(engine.preview_retention(&policy, &ctx).unwrap().by_age, [RetentionFigures::default(); 4]);
    drop(engine);
    let (engine, _) = open(&disk, Options { retention: policy, ..options(&clock, SyncPolicy::Never) }).unwrap();
    assert_eq!(dump(&engine), model);
    // Time goes on: what is kept for ever stays.
    advance(&clock, 40 * 3_600);
    model.retain(|name, _| *name == series(2).to_string());
    assert_eq!(dump(&engine), model);
    engine.compact(|| true).unwrap();
    assert_eq!(engine.statistics().block_samples, 30);
}

#[test]
fn a_share_of_the_disk_bounds_the_blocks() {
    let disk = SimFs::new(15);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    for n in [30, 20, 10] {
        engine.append(&scrape(200, NOW_MS - seconds(3_600 * n))).unwrap();
        engine.flush().unwrap();
    }
    let all = engine.statistics().block_bytes;
    let total = disk.space(Path::new(DIR)).unwrap().total;
    let share = (all as f64 - 1.0) / total as f64;
    let policy = RetentionPolicy { max_disk_share: Some(share), ..RetentionPolicy::of_age(None) };
    let preview = engine.preview_retention(&policy, &kymo_core::QueryContext::unlimited()).unwrap();
    assert_eq!((preview.by_size.series, preview.by_size.samples), (200, 200));
    engine.set_retention(policy);
    while engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap() == Next::Now {}
    assert_eq!(engine.statistics().blocks, 2);
    assert_eq!(engine.statistics().block_bytes, all - preview.by_size.bytes);
}

#[test]
fn a_rule_cuts_through_what_is_still_in_memory() {
    let disk = SimFs::new(16);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    let mut model = Model::new();
    for n in (0..100).rev() {
        engine.append(&scrape(2, NOW_MS - seconds(60 * n))).unwrap();
        note(&mut model, 2, NOW_MS - seconds(60 * n));
    }
    let rule = RetentionRule { matchers: vec![Matcher::equal("n", "1")], keep: Some(Duration::from_secs(60 * 77)) };
    engine.set_retention(RetentionPolicy { rules: vec![rule], ..RetentionPolicy::of_age(None) });
    model.get_mut(&series(1).to_string()).unwrap().retain(|time, _| *time >= NOW_MS - seconds(60 * 77));
    assert_eq!(dump(&engine), model);
}

/// Bytes held by what was read from blocks, as the metric tells them.
fn cached(registry: &Registry) -> f64 {
    let families = registry.snapshot();
    let family = families.iter().find(|family| family.name == "kymo_storage_cache_bytes").expect("it is registered");
    family.series[0].value.value()
}

#[test]
fn what_was_read_from_blocks_is_given_back_with_its_time_and_with_its_block() {
    let (disk, clock, registry) = (SimFs::new(21), clock(), Registry::new());
    let options = Options {
        registry: registry.clone(),
        retention: RetentionPolicy::of_age(Some(Duration::from_secs(20_000))),
        ..options(&clock, SyncPolicy::Never)
    };
    let idle = options.cache_idle.as_secs();
    let (engine, _) = open(&disk, options).unwrap();
    let mut model = Model::new();
    for block in 0..2i64 {
        for step in 0..20i64 {
            let time = NOW_MS - seconds(18_000) + seconds(block * 7_200 + step * 15);
            engine.append(&scrape(2_000, time)).unwrap();
            note(&mut model, 2_000, time);
        }
        engine.flush().unwrap();
    }
    let tend = || {
        while engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap() == Next::Now {}
        cached(&registry)
    };
    assert_eq!(tend(), 0.0);
    assert_eq!(dump(&engine), model);
    let whole = tend();
    assert!(whole > 100_000.0, "{whole} bytes are held of what was read");
    // One series is asked for now and then, all others are not.
    let freed = engine.memory_freed();
    let one = Selector::new(vec![Matcher::equal("n", "7")], NOW_MS - seconds(18_000), NOW_MS);
    for _ in 0..8 {
        advance(&clock, idle / 4);
        let set = engine.select(&one, &kymo_core::QueryContext::unlimited()).unwrap();
        set.read(0, &mut Default::default()).unwrap();
        drop(set);
        tend();
    }
    let hot = tend();
    assert!(hot > 0.0 && hot < whole / 2.0, "{hot} of {whole} bytes are held");
    assert!(engine.memory_freed() > freed, "whoever can gives it back");
    assert_eq!(dump(&engine), model);
    // The block that is retired takes along what was read of it.
    let before = tend();
    advance(&clock, 4_000);
    let one = Selector::new(Vec::new(), NOW_MS - seconds(10_800), NOW_MS);
    assert_eq!(engine.select(&one, &kymo_core::QueryContext::unlimited()).unwrap().len(), 2_000);
    let blocks = engine.statistics().blocks;
    let after = tend();
    assert!(engine.statistics().blocks < blocks && after < before, "{before} bytes before, {after} after");
    advance(&clock, 20_000);
    assert_eq!((tend(), engine.statistics().blocks), (0.0, 0));
}
