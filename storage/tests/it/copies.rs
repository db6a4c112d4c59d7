//! Snapshots and what is restored from them: whole, consistent and durable, or not there, wherever the machine stops.

use std::path::Path;
use std::sync::Arc;

use kymo_core::MetricStorage;
use kymo_core::random::SeededRandom;
use kymo_storage::fs::{CrashKind, Fs, SimFs};
use kymo_storage::{
    Depth, Engine, Lane, MaintainLimit, Options, SnapshotError, SnapshotExtent, StorageError, SyncPolicy, restore,
    snapshot, verify,
};

use crate::world::*;

const COPY: &str = "/copy";
const NEW: &str = "/new";

fn open_at(disk: &SimFs, dir: &str) -> Result<Engine, StorageError> {
    let clock = clock();
    advance(&clock, 3_600);
    Engine::open(Arc::new(disk.clone()), Path::new(dir), options(&clock, SyncPolicy::Always)).map(|(engine, report)| {
        assert!(report.quarantined.is_empty() && report.log_damage.is_empty(), "{report:?}");
        engine
    })
}

fn sound(disk: &SimFs, dir: &str) {
    let report = verify(disk, Path::new(dir), Depth::Samples, &mut |_, _| {}).unwrap();
    assert!(report.is_sound(), "{dir}: {report:?}");
}

/// A directory with blocks, some of them to be merged, and a log; `Err` when the disk stopped.
fn written(disk: &SimFs, model: &mut Model) -> Result<Engine, StorageError> {
    let clock = clock();
    let (engine, _) = open(disk, options(&clock, SyncPolicy::Always))?;
    for step in 0..10i64 {
        let time = NOW_MS - seconds(3_000 - step * 15);
        if engine.append(&scrape(4, time)).is_err() {
            break;
        }
        note(model, 4, time);
        if step % 3 == 1 {
            engine.flush()?;
        }
    }
    Ok(engine)
}

#[test]
fn a_snapshot_has_what_was_acknowledged_before_it_and_restores_to_it() {
    let disk = SimFs::new(1);
    let mut model = Model::new();
    let engine = written(&disk, &mut model).unwrap();
    let name = engine.take_snapshot(SnapshotExtent::Everything, &SeededRandom::new(1)).unwrap();
    let taken = format!("{DIR}/snapshots/{name}");
    // What comes later shows in the original only, also when all its files are replaced.
    engine.append(&scrape(9, NOW_MS)).unwrap();
    engine.compact(|| true).unwrap();
    sound(&disk, &taken);
    let report = restore(&disk, Path::new(&taken), Path::new(NEW), &mut |_, _| {}).unwrap();
    assert!(report.blocks > 1 && report.log_samples > 0, "{report:?}");
    let restored = open_at(&disk, NEW).unwrap();
    assert_eq!(dump(&restored), model);
    restored.append(&scrape(2, NOW_MS + 1)).unwrap();
    restored.close().unwrap();
    drop(restored);
    sound(&disk, &taken);
    assert_eq!(dump(&open_at(&disk, &taken).unwrap()), model, "a snapshot can be served as it is");
    assert_eq!(dump(&engine).len(), 9);
}

#[test]
fn a_snapshot_of_blocks_leaves_the_log_out() {
    let disk = SimFs::new(2);
    let engine = written(&disk, &mut Model::new()).unwrap();
    engine.append(&scrape(4, NOW_MS)).unwrap();
    engine.snapshot_into(Path::new(COPY), SnapshotExtent::BlocksOnly).unwrap();
    sound(&disk, COPY);
    let found = dump(&open_at(&disk, COPY).unwrap());
    let blocks = engine.statistics().block_samples;
    assert_eq!(found.values().map(|samples| samples.len() as u64).sum::<u64>(), blocks);
    assert!(found.values().all(|samples| !samples.contains_key(&NOW_MS)));
}

#[test]
fn what_is_in_the_way_is_left_alone_and_named() {
    let disk = SimFs::new(3);
    let mut model = Model::new();
    let engine = written(&disk, &mut model).unwrap();
    engine.snapshot_into(Path::new(COPY), SnapshotExtent::Everything).unwrap();
    let again = engine.snapshot_into(Path::new(COPY), SnapshotExtent::Everything).unwrap_err();
    assert!(matches!(&again, SnapshotError::Taken { path } if path == Path::new(COPY)), "{again}");
    let restored = |target: &str| restore(&disk, Path::new(COPY), Path::new(target), &mut |_, _| {});
    let taken = restored(DIR).unwrap_err();
    assert!(matches!(taken, SnapshotError::Storage(StorageError::Locked { .. })), "{taken}");
    drop(engine);
    let taken = restored(DIR).unwrap_err();
    assert!(matches!(&taken, SnapshotError::NotEmpty { holds, .. } if holds == "MANIFEST"), "{taken}");
    assert_eq!(dump(&open_at(&disk, DIR).unwrap()), model);
}

#[test]
fn a_damaged_snapshot_is_not_restored_and_its_faults_are_named() {
    let disk = SimFs::new(4);
    let engine = written(&disk, &mut Model::new()).unwrap();
    engine.snapshot_into(Path::new(COPY), SnapshotExtent::Everything).unwrap();
    drop(engine);
    let block = disk.files().into_keys().find(|path| path.starts_with(format!("{COPY}/blocks"))).unwrap();
    disk.corrupt(&block, 20, 1).unwrap();
    let error = restore(&disk, Path::new(COPY), Path::new(NEW), &mut |_, _| {}).unwrap_err();
    let SnapshotError::Faulty { report, .. } = &error else { panic!("{error}") };
    assert!(report.faults.iter().all(|fault| fault.path == block), "{report:?}");
    let left: Vec<_> = disk.list(Path::new(NEW)).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(left, ["LOCK"]);
}

/// Writes, takes a snapshot by the engine or from outside, writes on. What was acknowledged before the snapshot, and
/// whether it was taken.
fn script(disk: &SimFs, from_outside: bool) -> (Model, bool) {
    let mut before = Model::new();
    let Ok(engine) = written(disk, &mut before) else { return (before, false) };
    let taken = if from_outside {
        snapshot(disk, Path::new(DIR), Path::new(COPY), SnapshotExtent::Everything).is_ok()
    } else {
        engine.snapshot_into(Path::new(COPY), SnapshotExtent::Everything).is_ok()
    };
    for step in 1..3i64 {
        let _ = engine.append(&scrape(4, NOW_MS + seconds(step)));
        let _ = engine.flush();
        let _ = engine.maintain(Lane::Merge, MaintainLimit::default());
    }
    (before, taken)
}

#[test]
fn a_machine_that_stops_leaves_a_whole_snapshot_or_none() {
    let mut runs = [0, 0];
    for (seed, kind) in [(10, CrashKind::ProcessKill), (11, CrashKind::PowerLoss), (12, CrashKind::PowerLoss)] {
        for from_outside in [false, true] {
            let whole = SimFs::new(seed);
            script(&whole, from_outside);
            for at in 1..=whole.op_count() {
                let disk = SimFs::new(seed);
                disk.crash_at(at);
                let (before, taken) = script(&disk, from_outside);
                let after = disk.crash(kind);
                let is_there = Manifested(&after).at(COPY);
                assert!(is_there || !taken, "seed {seed}, crash at {at}: the snapshot is gone");
                if is_there {
                    sound(&after, COPY);
                    let found = dump(&open_at(&after, COPY).unwrap());
                    assert!(lost(&before, &found).is_empty(), "seed {seed}, crash at {at}");
                }
                // The original has all of it, and takes a snapshot now.
                let Ok(engine) = open_at(&after, DIR) else { panic!("seed {seed}, crash at {at}") };
                assert!(lost(&before, &dump(&engine)).is_empty(), "seed {seed}, crash at {at}");
                if !is_there {
                    engine.snapshot_into(Path::new(COPY), SnapshotExtent::Everything).unwrap();
                    sound(&after, COPY);
                }
                runs[usize::from(is_there)] += 1;
            }
        }
    }
    println!("{} crashes before and {} after the snapshot had its name", runs[0], runs[1]);
    assert!(runs[0] > 100 && runs[1] > 100, "{runs:?}");
}

#[test]
fn a_machine_that_stops_leaves_a_restored_directory_or_one_that_is_restored_anew() {
    let mut runs = [0, 0];
    for (seed, kind) in [(20, CrashKind::ProcessKill), (21, CrashKind::PowerLoss), (22, CrashKind::PowerLoss)] {
        let prepared = |disk: &SimFs| {
            let mut model = Model::new();
            let engine = written(disk, &mut model).unwrap();
            engine.snapshot_into(Path::new(COPY), SnapshotExtent::Everything).unwrap();
            (model, disk.op_count())
        };
        let restored = |disk: &SimFs| restore(disk, Path::new(COPY), Path::new(NEW), &mut |_, _| {});
        let whole = SimFs::new(seed);
        let (_, begin) = prepared(&whole);
        restored(&whole).unwrap();
        for at in begin + 1..=whole.op_count() {
            let disk = SimFs::new(seed);
            let (model, _) = prepared(&disk);
            disk.crash_at(at);
            let said = restored(&disk);
            let after = disk.crash(kind);
            let is_there = Manifested(&after).at(NEW);
            assert!(is_there || said.is_err(), "seed {seed}, crash at {at}: what was restored is gone");
            if !is_there {
                let engine = open_at(&after, NEW);
                // Without data it would be a new directory; with some it is refused.
                assert!(engine.is_err() || dump(&engine.unwrap()).is_empty(), "seed {seed}, crash at {at}");
                let after = disk.crash(kind);
                restored(&after).unwrap_or_else(|error| panic!("seed {seed}, crash at {at}: {error}"));
                assert_eq!(dump(&open_at(&after, NEW).unwrap()), model, "seed {seed}, crash at {at}");
            } else {
                sound(&after, NEW);
                assert_eq!(dump(&open_at(&after, NEW).unwrap()), model, "seed {seed}, crash at {at}");
            }
            runs[usize::from(is_there)] += 1;
        }
    }
    println!("{} crashes before and {} after the manifest was there", runs[0], runs[1]);
    assert!(runs[0] > 60 && runs[1] > 5, "{runs:?}");
}

#[test]
fn a_snapshot_from_outside_is_whole_while_a_server_is_at_work() {
    let disk = SimFs::new(30);
    let clock = clock();
    let small = Options { flush_samples: 40, ..options(&clock, SyncPolicy::Never) };
    let (engine, _) = open(&disk, small).unwrap();
    for round in 0..40i64 {
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                for step in 0..10i64 {
                    engine.append(&scrape(5, NOW_MS - seconds(9_000) + seconds((round * 10 + step) * 15))).unwrap();
                    engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap();
                    engine.maintain(Lane::Merge, MaintainLimit::default()).unwrap();
                }
            });
            let before = dump(&engine);
            let target = format!("/copy-{round}");
            match snapshot(&disk, Path::new(DIR), Path::new(&target), SnapshotExtent::Everything) {
                Ok(()) => {
                    sound(&disk, &target);
                    let found = dump(&open_at(&disk, &target).unwrap());
                    assert!(lost(&before, &found).is_empty(), "round {round}");
                }
                // A simulated disk is never at rest: a flush takes microseconds.
                Err(SnapshotError::Unsettled { .. }) => {}
                Err(error) => panic!("round {round}: {error}"),
            }
            writing.join().unwrap();
        });
    }
}

/// Whether a directory has a manifest.
struct Manifested<'a>(&'a SimFs);

impl Manifested<'_> {
    fn at(&self, dir: &str) -> bool {
        let entries = self.0.list(Path::new(dir)).unwrap_or_default();
        entries.iter().any(|entry| entry.name == "MANIFEST")
    }
}
