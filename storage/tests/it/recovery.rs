//! What was acknowledged is there after any accident, exactly once; what was not is there whole or not at all.

use std::path::Path;
use std::sync::Arc;

use kymo_core::storage::{ColumnValue, Columns};
use kymo_core::{AppendError, ErrorKind, MetricStorage, QueryContext, Selector};
use kymo_storage::fs::{CrashKind, Fault, FaultAt, OpKind, SimFs};
use kymo_storage::{Lane, MaintainLimit, Options, RetentionPolicy, StorageError, SyncPolicy};

use crate::world::*;

/// What one run of the script acknowledged before the disk stopped.
struct Ran {
    acknowledged: Model,
    /// Sent but not acknowledged: may be there, whole, or not.
    in_flight: Option<(u64, i64)>,
}

const SERIES: u64 = 5;

/// Scrapes, late samples, flushes, merges and retirements, until the end or the crash.
fn script(disk: &SimFs, sync: SyncPolicy) -> Ran {
    let clock = clock();
    let mut ran = Ran { acknowledged: Model::new(), in_flight: None };
    let Ok((engine, _)) = open(disk, options(&clock, sync)) else { return ran };
    for step in 0..24i64 {
        // Every third scrape is late, by hours: several block ranges, and times below what was flushed.
        let time = NOW_MS + seconds(step * 15) - if step % 3 == 2 { seconds(7_000 + step * 200) } else { 0 };
        ran.in_flight = Some((SERIES, time));
        match engine.append(&scrape(SERIES, time)) {
            Ok(report) => {
                assert_eq!(report.stored.floats, SERIES);
                note(&mut ran.acknowledged, SERIES, time);
                ran.in_flight = None;
            }
            Err(AppendError::Log { .. }) => return ran,
            Err(other) => panic!("{other}"),
        }
        advance(&clock, 15);
        let tended = match step % 6 {
            1 | 5 => engine.flush(),
            3 => engine.maintain(Lane::Merge, MaintainLimit::default()).map(drop),
            _ => engine.maintain(Lane::Sync, MaintainLimit::default()).map(drop),
        };
        if tended.is_err() && disk.has_crashed() {
            return ran;
        }
    }
    let _ = engine.close();
    ran
}

fn check(ran: &Ran, found: &Model, seed: u64, at: u64) {
    let missing = lost(&ran.acknowledged, found);
    assert!(missing.is_empty(), "seed {seed}, crash at operation {at}: lost {missing:?}");
    let mut wanted = ran.acknowledged.clone();
    if let Some((count, time)) = ran.in_flight {
        let there = found.values().filter(|samples| samples.contains_key(&time)).count() as u64;
        let already = ran.acknowledged.values().filter(|samples| samples.contains_key(&time)).count() as u64;
        assert!(
            there == already || there == count,
            "seed {seed}, crash at {at}: half a batch shows ({there} of {count})"
        );
        if there == count {
            note(&mut wanted, count, time);
        }
    }
    assert_eq!(*found, wanted, "seed {seed}, crash at operation {at}");
}

fn crash_everywhere(kind: CrashKind, sync: SyncPolicy, seeds: std::ops::Range<u64>, stride: usize) -> u64 {
    let mut runs = 0;
    for seed in seeds {
        let whole = SimFs::new(seed);
        script(&whole, sync);
        for at in (1 + seed % stride as u64..=whole.op_count()).step_by(stride) {
            let disk = SimFs::new(seed);
            disk.crash_at(at);
            let ran = script(&disk, sync);
            let after = disk.crash(kind);
            let clock = clock();
            advance(&clock, 3_600);
            let (engine, report) =
                open(&after, options(&clock, sync)).unwrap_or_else(|e| panic!("seed {seed}, at {at}: {e}"));
            assert!(report.quarantined.is_empty(), "seed {seed}, at {at}: {report:?}");
            assert!(report.log_damage.is_empty(), "seed {seed}, at {at}: {report:?}");
            check(&ran, &dump(&engine), seed, at);
            // And once more, after a flush and a clean end.
            engine.close().unwrap();
            drop(engine);
            let (engine, report) = open(&after, options(&clock, sync)).unwrap();
            assert_eq!(report.samples, 0, "a clean end leaves nothing to replay");
            check(&ran, &dump(&engine), seed, at);
            runs += 1;
        }
    }
    runs
}

#[test]
fn a_killed_process_loses_nothing_acknowledged_wherever_it_is_killed() {
    let runs = crash_everywhere(CrashKind::ProcessKill, SyncPolicy::Interval, 0..4, 1)
        + crash_everywhere(CrashKind::ProcessKill, SyncPolicy::Never, 4..8, 3);
    println!("{runs} crashes");
    assert!(runs > 500, "{runs} crashes are too few to say something");
}

#[test]
fn power_loss_loses_nothing_acknowledged_when_every_write_is_synced() {
    let runs = crash_everywhere(CrashKind::PowerLoss, SyncPolicy::Always, 10..16, 1);
    println!("{runs} crashes");
    assert!(runs > 500, "{runs} crashes are too few to say something");
}

#[test]
fn every_failing_operation_is_survived_and_told() {
    let whole = SimFs::new(20);
    script(&whole, SyncPolicy::Always);
    for (op, fault) in [
        (OpKind::Write, Fault::Io),
        (OpKind::Write, Fault::NoSpace),
        (OpKind::Write, Fault::Short { bytes: 5 }),
        (OpKind::SyncData, Fault::Io),
        (OpKind::SyncDir, Fault::Io),
        (OpKind::Rename, Fault::Io),
        (OpKind::Remove, Fault::Io),
        (OpKind::Create, Fault::NoSpace),
    ] {
        for nth in 1..=whole.count(op) {
            let disk = SimFs::new(20);
            disk.fail(FaultAt { op, nth, fault });
            let clock = clock();
            let Ok((engine, _)) = open(&disk, options(&clock, SyncPolicy::Always)) else {
                // Opening may fail; then opening again may not.
                open(&disk, options(&clock, SyncPolicy::Always)).unwrap_or_else(|e| panic!("{op:?} {nth}: {e}"));
                continue;
            };
            let mut model = Model::new();
            for step in 0..12i64 {
                let time = NOW_MS + seconds(step * 15);
                if engine.append(&scrape(SERIES, time)).is_ok() {
                    note(&mut model, SERIES, time);
                }
                if step % 4 == 3 {
                    let _ = engine.flush();
                }
                assert_eq!(lost(&model, &dump(&engine)), [], "{op:?} {fault:?} {nth}, while running");
            }
            assert!(model.len() == SERIES as usize, "{op:?} {nth}: nothing could be stored any more");
            drop(engine);
            let (engine, _) = open(&disk.crash(CrashKind::PowerLoss), options(&clock, SyncPolicy::Always))
                .unwrap_or_else(|e| panic!("{op:?} {fault:?} {nth}: {e}"));
            assert_eq!(lost(&model, &dump(&engine)), [], "{op:?} {fault:?} {nth}, after power loss");
        }
    }
}

#[test]
fn a_full_disk_refuses_writes_answers_reads_and_recovers_by_itself() {
    let disk = SimFs::new(30);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Interval)).unwrap();
    let mut model = Model::new();
    disk.set_capacity(Some(64 << 10));
    let (mut refused, mut step) = (0, 0i64);
    while refused < 5 {
        let time = NOW_MS + seconds(step);
        match engine.append(&scrape(50, time)) {
            Ok(_) => note(&mut model, 50, time),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Unavailable { .. }), "{error}");
                refused += 1;
            }
        }
        advance(&clock, 1);
        step += 1;
        let _ = engine.maintain(Lane::Sync, MaintainLimit::default());
        assert!(step < 10_000, "the disk never filled");
    }
    assert_eq!(dump(&engine), model, "a refused batch does not show");
    disk.set_capacity(None);
    let time = NOW_MS + seconds(step);
    engine.append(&scrape(50, time)).expect("room again");
    note(&mut model, 50, time);
    engine.flush().unwrap();
    assert_eq!(dump(&engine), model);
    drop(engine);
    let (engine, report) = open(&disk.crash(CrashKind::ProcessKill), options(&clock, SyncPolicy::Interval)).unwrap();
    assert_eq!(report.log_damage, []);
    assert_eq!(dump(&engine), model);
}

#[test]
fn a_full_disk_still_lets_retention_run() {
    let disk = SimFs::new(31);
    let clock = clock();
    let keep = Options {
        retention: RetentionPolicy::of_age(Some(std::time::Duration::from_secs(7_200))),
        ..options(&clock, SyncPolicy::Interval)
    };
    let (engine, _) = open(&disk, keep).unwrap();
    for n in 0..50 {
        engine.append(&scrape(50, NOW_MS + seconds(n))).unwrap();
    }
    engine.flush().unwrap();
    let used: u64 = disk.files().values().map(|bytes| bytes.len() as u64).sum();
    disk.set_capacity(Some(used + (64 << 10)));
    let full = (50..).any(|n| engine.append(&scrape(50, NOW_MS + seconds(n))).is_err());
    assert!(full);
    advance(&clock, 10_000);
    let next = engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap();
    assert_eq!(
        (next, engine.statistics().blocks),
        (kymo_storage::Next::Now, 0),
        "the block went although the disk is full"
    );
}

#[test]
fn interval_sync_bounds_what_power_loss_may_take() {
    for seed in 40..60 {
        let disk = SimFs::new(seed);
        let clock = clock();
        let (engine, _) = open(&disk, options(&clock, SyncPolicy::Interval)).unwrap();
        let mut synced = Model::new();
        for step in 0..20i64 {
            engine.append(&scrape(SERIES, NOW_MS + seconds(step))).unwrap();
            if step == 14 {
                advance(&clock, 1);
                engine.maintain(Lane::Sync, MaintainLimit::default()).unwrap();
            }
            if step <= 14 {
                note(&mut synced, SERIES, NOW_MS + seconds(step));
            }
        }
        drop(engine);
        let (engine, report) = open(&disk.crash(CrashKind::PowerLoss), options(&clock, SyncPolicy::Interval)).unwrap();
        assert_eq!(lost(&synced, &dump(&engine)), [], "seed {seed}: {report:?}");
    }
}

#[test]
fn replay_stays_inside_the_memory_limit() {
    let disk = SimFs::new(61);
    let clock = clock();
    let mut model = Model::new();
    {
        let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
        for step in 0..3_000i64 {
            engine.append(&scrape(40, NOW_MS - seconds(4_000 - step))).unwrap();
            note(&mut model, 40, NOW_MS - seconds(4_000 - step));
        }
    }
    let budget = kymo_core::Budget::root("storage", 200 << 10);
    let small = Options { budget: budget.clone(), ..options(&clock, SyncPolicy::Never) };
    let (engine, report) = open(&disk, small).unwrap();
    assert_eq!(report.samples, 120_000);
    assert!(engine.statistics().blocks > 0, "the head was flushed while replaying");
    assert!(budget.used() <= budget.limit());
    assert_eq!(dump(&engine), model);
}

#[test]
fn a_memory_limit_refuses_and_a_flush_makes_room() {
    let disk = SimFs::new(62);
    let clock = clock();
    let budget = kymo_core::Budget::root("storage", 144 << 10);
    let small = Options { budget: budget.clone(), ..options(&clock, SyncPolicy::Never) };
    let (engine, _) = open(&disk, small).unwrap();
    let mut model = Model::new();
    let mut refused = 0;
    for step in 0..2_000i64 {
        let time = NOW_MS - seconds(4_000 - step);
        match engine.append(&scrape(50, time)) {
            Ok(_) => note(&mut model, 50, time),
            Err(error) => {
                assert!(error.to_string().contains("\"storage\""), "the limit is named: {error}");
                refused += 1;
                engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap();
                engine.append(&scrape(50, time)).expect("a flush made room");
                note(&mut model, 50, time);
            }
        }
    }
    assert!(refused > 0, "the limit was never met");
    assert_eq!(dump(&engine), model);
}

#[test]
fn the_directory_is_locked_and_one_of_another_version_is_left_alone() {
    let disk = SimFs::new(70);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    let second = open(&disk, options(&clock, SyncPolicy::Never)).err().unwrap();
    assert!(matches!(second, StorageError::Locked { .. }), "{second}");
    drop(engine);
    let manifest = Path::new(DIR).join("MANIFEST");
    disk.corrupt(&manifest, 8, 6 ^ 7).unwrap();
    let before = disk.files();
    let refused = open(&disk, options(&clock, SyncPolicy::Never)).err().unwrap();
    assert!(matches!(refused, StorageError::NewerVersion { version: 7, .. }), "{refused}");
    assert_eq!(disk.files(), before);
    disk.corrupt(&manifest, 8, 7 ^ 2).unwrap();
    let before = disk.files();
    let refused = open(&disk, options(&clock, SyncPolicy::Never)).err().unwrap();
    assert!(matches!(refused, StorageError::OlderVersion { version: 2, .. }), "{refused}");
    assert_eq!(disk.files(), before);
}

#[test]
fn four_writers_and_a_killed_process() {
    for seed in 80..84 {
        let disk = SimFs::new(seed);
        let clock = clock();
        let (engine, _) = open(&disk, options(&clock, SyncPolicy::Interval)).unwrap();
        let engine = Arc::new(engine);
        disk.crash_at(disk.op_count() + 60 + (seed - 80) * 40);
        let writing = std::sync::atomic::AtomicUsize::new(4);
        let acknowledged = std::sync::Mutex::new(Model::new());
        std::thread::scope(|scope| {
            for writer in 0..4u64 {
                let (engine, acknowledged, writing) = (Arc::clone(&engine), &acknowledged, &writing);
                scope.spawn(move || {
                    for step in 0..200i64 {
                        let time = NOW_MS - seconds(4_000) + seconds(step) + writer as i64;
                        if engine.append(&scrape(SERIES, time)).is_err() {
                            break;
                        }
                        note(&mut acknowledged.lock().unwrap(), SERIES, time);
                    }
                    writing.fetch_sub(1, std::sync::atomic::Ordering::Release);
                });
            }
            let engine = Arc::clone(&engine);
            let writing = &writing;
            scope.spawn(
                move || {
                    while writing.load(std::sync::atomic::Ordering::Acquire) > 0 && engine.flush().is_ok() {}
                },
            );
        });
        drop(engine);
        let acknowledged = acknowledged.into_inner().unwrap();
        let (engine, _) = open(&disk.crash(CrashKind::ProcessKill), options(&clock, SyncPolicy::Interval)).unwrap();
        assert!(!acknowledged.is_empty(), "seed {seed}");
        assert_eq!(lost(&acknowledged, &dump(&engine)), [], "seed {seed}");
    }
}

#[test]
fn a_query_never_sees_half_a_batch() {
    let disk = SimFs::new(90);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 0..400i64 {
                engine.append(&scrape(64, NOW_MS - seconds(4_000) + seconds(step))).unwrap();
                if step % 100 == 50 {
                    engine.flush().unwrap();
                }
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        scope.spawn(|| {
            let mut columns = Columns::default();
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                let set = engine.select(&Selector::everything(), &QueryContext::unlimited()).unwrap();
                let mut lens = std::collections::BTreeSet::new();
                for i in 0..set.len() {
                    set.read(i, &mut columns).unwrap();
                    lens.insert(columns.iter().filter(|(_, v)| matches!(v, ColumnValue::Float(_))).count());
                }
                assert!(lens.len() <= 1, "series of one batch have different lengths: {lens:?}");
            }
        });
    });
}

#[test]
fn metadata_without_samples_survives_a_flush_and_a_clean_end() {
    let disk = SimFs::new(91);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    let mut batch = kymo_core::SampleBatch::new();
    batch.push_metadata("m", kymo_core::Metadata { help: "Help.".into(), ..Default::default() });
    engine.append(&batch).unwrap();
    engine.flush().unwrap();
    engine.close().unwrap();
    drop(engine);
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Never)).unwrap();
    let found = MetricStorage::metadata(&engine, None, &QueryContext::unlimited()).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn frames_kept_for_a_failing_sync_are_paid_for_and_given_back() {
    let disk = SimFs::new(92);
    let clock = clock();
    let budget = kymo_core::Budget::root("storage", 1 << 30);
    let paid = Options { budget: budget.clone(), ..options(&clock, SyncPolicy::Interval) };
    let (engine, _) = open(&disk, paid).unwrap();
    for step in 0..200i64 {
        engine.append(&scrape(50, NOW_MS - seconds(4_000 - step))).unwrap();
    }
    let before = budget.used();
    engine.sync_now().unwrap();
    let freed = before - budget.used();
    // 10,000 rows of some bytes each; what the next frames lean on is kept.
    assert!((20_000..60_000).contains(&freed), "{freed} bytes were given back");
    engine.sync_now().unwrap();
    assert_eq!(before - budget.used(), freed);
}
