//! Deletes: hidden at once, durable, past what comes later, and what they give back.

use kymo_core::storage::{Deletion, StorageStatistics};
use kymo_core::{Changes, MatchOp, Matcher, MetricStorage, QueryContext, Selector};
use kymo_storage::fs::SimFs;
use kymo_storage::{DeleteReport, Engine, Lane, MaintainLimit, Next, SyncPolicy};

use crate::world::*;

const SERIES: u64 = 6;
const STEP: i64 = 15;

/// Sample `n` of every series.
fn at(n: i64) -> i64 {
    NOW_MS - seconds(40_000) + seconds(n * STEP)
}

fn fill(engine: &Engine, model: &mut Model, samples: std::ops::Range<i64>) {
    for n in samples {
        engine.append(&scrape(SERIES, at(n))).unwrap();
        note(model, SERIES, at(n));
    }
}

/// Series 1 and 2 from sample `first` to `last`.
fn two(first: i64, last: i64) -> Deletion {
    let matchers = vec![Matcher::new("n", MatchOp::Regex, "1|2").unwrap()];
    Deletion { any_of: vec![matchers], start_ms: at(first), end_ms: at(last) }
}

fn forget(model: &mut Model, what: &Deletion) {
    for n in 0..SERIES {
        if what.matches(series(n).as_ref()) {
            let samples = model.get_mut(&series(n).to_string()).unwrap();
            samples.retain(|time, _| !what.covers(*time));
            if samples.is_empty() {
                model.remove(&series(n).to_string());
            }
        }
    }
}

fn values_of_n(engine: &Engine, window: (i64, i64)) -> Vec<String> {
    let what = Selector::new(vec![], window.0, window.1);
    engine.label_values("n", &what, &QueryContext::unlimited()).unwrap()
}

fn samples(statistics: &StorageStatistics) -> u64 {
    statistics.head_samples + statistics.block_samples
}

#[test]
fn a_delete_hides_at_once_and_stays_whatever_happens_next() {
    let disk = SimFs::new(900);
    let clock = clock();
    let mut model = Model::new();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Always)).unwrap();
    // In two blocks, in sealed chunks of the head, and in its open runs.
    fill(&engine, &mut model, 0..300);
    engine.flush().unwrap();
    fill(&engine, &mut model, 300..500);
    engine.flush().unwrap();
    fill(&engine, &mut model, 500..700);
    let what = two(150, 650);
    let ctx = QueryContext::unlimited();
    let report = engine.measure_delete(&what, &ctx).unwrap();
    assert_eq!((report.series, report.samples), (2, 2 * 501));
    assert!(report.bytes > 0);
    let (version, before) = (engine.version(), engine.statistics());
    assert_eq!(dump(&engine), model, "measuring changes nothing");

    engine.delete(&what).unwrap();
    forget(&mut model, &what);
    assert_eq!(dump(&engine), model);
    assert_eq!(engine.measure_delete(&what, &ctx).unwrap(), DeleteReport::default());
    assert_eq!(samples(&engine.statistics()), samples(&before) - report.samples);
    let Changes::Ranges(ranges) = engine.changed_since(version, &Selector::everything()) else { panic!("unknown") };
    assert_eq!(ranges, [(what.start_ms, what.end_ms)]);
    // A window in which nothing of two series is left.
    for (first, last) in [(200, 260), (320, 490), (510, 640), (160, 640)] {
        assert_eq!(values_of_n(&engine, (at(first), at(last))), ["0", "3", "4", "5"], "{first} to {last}");
        let listed = engine.series(&Selector::new(vec![], at(first), at(last)), &ctx).unwrap();
        assert_eq!(listed.len(), 4, "{first} to {last}");
    }
    assert_eq!(values_of_n(&engine, (at(140), at(160))).len(), 6);

    // Killed, replayed, flushed, killed, merged, killed.
    drop(engine);
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Always)).unwrap();
    assert_eq!(dump(&engine), model, "after replay");
    engine.flush().unwrap();
    assert_eq!(dump(&engine), model, "flushed");
    drop(engine);
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Always)).unwrap();
    assert_eq!(dump(&engine), model, "out of the manifest");
    engine.compact(|| true).unwrap();
    assert_eq!(dump(&engine), model, "merged");
    assert_eq!(engine.clean_tombstones(|| true).unwrap().blocks, 0, "merging left nothing to clean");
    drop(engine);
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Always)).unwrap();
    assert_eq!(dump(&engine), model, "merged and opened");
    assert_eq!(samples(&engine.statistics()), model.values().map(|s| s.len() as u64).sum::<u64>());
}

#[test]
fn a_delete_is_replayed_among_thousands_of_series() {
    let disk = SimFs::new(901);
    let clock = clock();
    let mut model = Model::new();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Always)).unwrap();
    for (n, count) in [2_000, 5_000, 9_000].into_iter().enumerate() {
        engine.append(&scrape(count, at(n as i64))).unwrap();
        note(&mut model, count, at(n as i64));
        engine.delete(&two(0, n as i64)).unwrap();
        forget(&mut model, &two(0, n as i64));
    }
    let selected = |engine: &Engine| {
        let matcher = Matcher::new("n", MatchOp::Regex, "[0-9]|8...").unwrap();
        let set = engine.select(&Selector::new(vec![matcher], at(-1), at(9)), &QueryContext::unlimited()).unwrap();
        set.len()
    };
    assert_eq!(selected(&engine), 10 - 2 + 1_000);
    drop(engine);
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Always)).unwrap();
    assert_eq!(dump(&engine), model);
    assert_eq!(selected(&engine), 10 - 2 + 1_000);
}

#[test]
fn what_is_written_after_a_delete_is_kept_also_the_same_samples_again() {
    let disk = SimFs::new(901);
    let clock = clock();
    let mut model = Model::new();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    fill(&engine, &mut model, 0..100);
    engine.flush().unwrap();
    fill(&engine, &mut model, 100..200);
    let all = Deletion::of(vec![]);
    engine.delete(&all).unwrap();
    assert_eq!(dump(&engine), Model::new());
    assert_eq!(values_of_n(&engine, (i64::MIN, i64::MAX)), Vec::<String>::new());
    let statistics = engine.statistics();
    assert_eq!((samples(&statistics), statistics.min_time_ms, statistics.max_time_ms), (0, None, None));
    // Out of order, at times that were there before: new, not identical.
    let mut again = Model::new();
    for n in [150, 50, 20, 250] {
        let report = engine.append(&scrape(SERIES, at(n))).unwrap();
        assert_eq!((report.stored.floats, report.identical.floats), (SERIES, 0), "sample {n}");
        note(&mut again, SERIES, at(n));
    }
    assert_eq!(dump(&engine), again);
    drop(engine);
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    assert_eq!(dump(&engine), again, "after replay");
    engine.compact(|| true).unwrap();
    assert_eq!(dump(&engine), again, "after merging");
    let stored = engine.append(&scrape(SERIES, at(50))).unwrap();
    assert_eq!(stored.identical.floats, SERIES, "and now they are there");
}

#[test]
fn cleaning_gives_the_bytes_back_and_forgets_the_delete() {
    let disk = SimFs::new(902);
    let clock = clock();
    let mut model = Model::new();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    fill(&engine, &mut model, 0..1_000);
    engine.compact(|| true).unwrap();
    let before = engine.statistics();
    let four = Deletion::of(vec![Matcher::new("n", MatchOp::Regex, "[1-4]").unwrap()]);
    let took = engine.measure_delete(&four, &QueryContext::unlimited()).unwrap();
    engine.delete(&four).unwrap();
    forget(&mut model, &four);
    assert_eq!(engine.statistics().block_bytes, before.block_bytes, "nothing is written by a delete");
    let cleaned = engine.clean_tombstones(|| true).unwrap();
    let after = engine.statistics();
    assert_eq!(cleaned.blocks, before.blocks);
    assert_eq!(cleaned.bytes, before.block_bytes - after.block_bytes);
    assert!(cleaned.bytes >= took.bytes, "{cleaned:?} for {took:?}");
    assert_eq!(dump(&engine), model);
    assert_eq!(engine.clean_tombstones(|| true).unwrap().blocks, 0);
    // What is deleted whole leaves no file.
    engine.delete(&Deletion::of(vec![])).unwrap();
    engine.clean_tombstones(|| true).unwrap();
    assert_eq!(engine.statistics().blocks, 0);
    drop(engine);
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    assert_eq!(dump(&engine), Model::new());
}

#[test]
fn the_merge_lane_cleans_by_itself_what_is_worth_it() {
    let disk = SimFs::new(903);
    let clock = clock();
    let mut model = Model::new();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    fill(&engine, &mut model, 0..400);
    engine.compact(|| true).unwrap();
    let blocks = || {
        let files = disk.files().into_keys();
        files.filter(|path| path.extension().is_some_and(|extension| extension == "block")).collect::<Vec<_>>()
    };
    let lane = || while engine.maintain(Lane::Merge, MaintainLimit::default()).unwrap() == Next::Now {};
    // A sample of 2,400 is not, most of a third of them is.
    let before = blocks();
    let little = two(7, 7);
    engine.delete(&little).unwrap();
    forget(&mut model, &little);
    lane();
    assert_eq!(blocks(), before);
    let much = two(100, 399);
    engine.delete(&much).unwrap();
    forget(&mut model, &much);
    lane();
    let after = blocks();
    assert_ne!(after, before);
    assert_eq!(dump(&engine), model);
    // One that hides nothing is forgotten without a file being written.
    engine.delete(&Deletion::of(vec![Matcher::equal("n", "none")])).unwrap();
    assert_eq!(engine.clean_tombstones(|| true).unwrap().blocks, 0);
    assert_eq!(blocks(), after);
}

#[test]
fn every_crash_in_a_delete_leaves_it_done_or_undone() {
    for crash_at in 1.. {
        let disk = SimFs::new(904);
        let clock = clock();
        let mut model = Model::new();
        let (engine, _) = open(&disk, options(&clock, SyncPolicy::Always)).unwrap();
        fill(&engine, &mut model, 0..100);
        engine.flush().unwrap();
        fill(&engine, &mut model, 100..130);
        let what = two(50, 120);
        disk.crash_at(disk.op_count() + crash_at);
        let outcome = engine.delete(&what).map(|()| engine.clean_tombstones(|| true).is_ok());
        drop(engine);
        if !disk.has_crashed() {
            assert_eq!(outcome.ok(), Some(true));
            assert!(crash_at > 10, "a delete and a cleaning take more than {crash_at} operations");
            return;
        }
        let disk = disk.crash(kymo_storage::fs::CrashKind::PowerLoss);
        let (engine, report) = open(&disk, options(&clock, SyncPolicy::Always)).unwrap();
        assert!(report.quarantined.is_empty(), "{report:?}");
        let found = dump(&engine);
        if found != model || outcome.is_ok() {
            forget(&mut model, &what);
            assert_eq!(found, model, "crashed at operation {crash_at}");
        }
    }
}
