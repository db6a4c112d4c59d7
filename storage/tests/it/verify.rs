//! `verify` finds what is wrong, says where, and finds nothing where nothing is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use kymo_core::batch::{AddedValue, Exemplar, Increment};
use kymo_core::{Labels, MetricStorage, SampleBatch};
use kymo_storage::fs::{Fs, OpenMode, SimFs};
use kymo_storage::{
    Depth, Engine, Fault, Lane, MaintainLimit, Options, StorageError, SyncPolicy, VerifyReport, verify,
};

use crate::world::*;

fn check(disk: &SimFs, depth: Depth) -> VerifyReport {
    verify(disk, Path::new(DIR), depth, &mut |_, _| {}).unwrap()
}

fn increment(n: i64) -> Increment {
    Increment {
        writer: 7,
        start_ms: NOW_MS + n * 1_000,
        end_ms: NOW_MS + (n + 1) * 1_000,
        value: AddedValue::Float(2.0),
    }
}

/// Two flushed blocks, totals, and a log behind them; 12 scrapes of three series, exemplars and increments.
fn written(disk: &SimFs) -> Engine {
    let clock = clock();
    let (engine, _) = open(disk, options(&clock, SyncPolicy::Always)).unwrap();
    for step in 0..12i64 {
        let mut batch = scrape(3, NOW_MS + seconds(step));
        batch.push_exemplar(&series(1), Exemplar { labels: series(9), value: 0.5, time_ms: NOW_MS + seconds(step) });
        let counted = Labels::from_pairs([("__name__", "counted")]);
        batch.push_increment(&counted, increment(step));
        let report = engine.append(&batch).unwrap();
        assert_eq!((report.stored.floats, report.stored.increments), (3, 1));
        if step == 3 || step == 7 {
            engine.flush().unwrap();
        }
    }
    engine
}

fn files(disk: &SimFs, folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(DIR).join(folder);
    disk.files().into_keys().filter(|path| path.starts_with(&folder)).collect()
}

#[test]
fn a_directory_in_use_is_sound_and_left_as_it_is() {
    let disk = SimFs::new(1);
    let engine = written(&disk);
    let before = disk.files();
    for depth in [Depth::Structure, Depth::Samples] {
        let report = check(&disk, depth);
        assert!(report.is_sound() && report.notes.is_empty(), "{report:?}");
        assert_eq!((report.blocks, report.segments, report.samples, report.log_samples), (2, 1, 32, 16));
    }
    assert_eq!(disk.files(), before);
    engine.close().unwrap();
    assert!(check(&disk, Depth::Samples).is_sound());
}

#[test]
fn every_flipped_bit_is_found_in_its_file() {
    let disk = SimFs::new(2);
    drop(written(&disk));
    let mut flips = 0;
    for folder in ["blocks", "totals", "wal"] {
        for path in files(&disk, folder) {
            for at in 0..disk.read_file(&path).unwrap().len() as u64 {
                let bit = 1 << (at % 8);
                disk.corrupt(&path, at, bit).unwrap();
                let report = check(&disk, Depth::Structure);
                let is_told = report.faults.iter().any(|fault| fault.path == path);
                // Of the last frame nobody can tell whether it was ever whole.
                let is_torn = folder == "wal" && report.notes.iter().any(|note| note.contains("no whole frame"));
                assert!(is_told || is_torn, "byte {at} of {}: {report:?}", path.display());
                disk.corrupt(&path, at, bit).unwrap();
                flips += 1;
            }
        }
    }
    assert!(flips > 1_000, "{flips}");
    assert!(check(&disk, Depth::Samples).is_sound());
}

#[test]
fn what_is_missing_is_named() {
    let disk = SimFs::new(3);
    drop(written(&disk));
    let block = files(&disk, "blocks").remove(0);
    let totals = files(&disk, "totals").remove(0);
    disk.remove(&block).unwrap();
    disk.remove(&totals).unwrap();
    let report = check(&disk, Depth::Structure);
    let told: Vec<&PathBuf> = report.faults.iter().map(|fault| &fault.path).collect();
    assert_eq!(told, [&block, &totals], "{report:?}");

    let nothing = SimFs::new(4);
    let error = verify(&nothing, Path::new(DIR), Depth::Structure, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, StorageError::Io { .. }), "{error}");
}

#[test]
fn a_torn_tail_is_a_note_at_the_end_of_the_log_and_a_fault_before() {
    let disk = SimFs::new(5);
    drop(written(&disk));
    let segment = files(&disk, "wal").remove(0);
    let cut = |path: &Path, by: u64| {
        let file = disk.open(path, OpenMode::Append).unwrap();
        file.set_len(file.len().unwrap() - by).unwrap();
    };
    cut(&segment, 3);
    let report = check(&disk, Depth::Structure);
    assert!(report.is_sound() && report.notes.len() == 1, "{report:?}");
    // Opening cuts the tail off; a later loss in the middle of the log is no such thing.
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Always)).unwrap();
    engine.append(&scrape(3, NOW_MS + seconds(20))).unwrap();
    drop(engine);
    cut(&segment, 5);
    let report = check(&disk, Depth::Structure);
    assert!(matches!(&report.faults[..], [Fault { path, .. }] if *path == segment), "{report:?}");
}

#[test]
fn a_leftover_is_a_note() {
    let disk = SimFs::new(6);
    drop(written(&disk));
    disk.create_new(&Path::new(DIR).join("blocks/0000000000009999.block")).unwrap();
    let report = check(&disk, Depth::Structure);
    assert!(report.is_sound() && report.notes[0].contains("9999"), "{report:?}");
}

#[test]
fn a_server_at_work_is_no_fault() {
    let disk = SimFs::new(7);
    let clock = clock();
    let small = Options { flush_samples: 40, ..options(&clock, SyncPolicy::Never) };
    let (engine, _) = open(&disk, small).unwrap();
    let done = AtomicBool::new(false);
    let (checks, engine) = std::thread::scope(|scope| {
        let checking = scope.spawn(|| {
            let mut checks = 0;
            while !done.load(Ordering::Relaxed) {
                let report = check(&disk, Depth::Samples);
                assert!(report.is_sound(), "{report:?}");
                checks += 1;
            }
            checks
        });
        for step in 0..600i64 {
            let batch: SampleBatch = scrape(5, NOW_MS - seconds(9_000) + seconds(step * 15));
            engine.append(&batch).unwrap();
            engine.maintain(Lane::Flush, MaintainLimit::default()).unwrap();
            engine.maintain(Lane::Merge, MaintainLimit::default()).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        (checking.join().unwrap(), engine)
    });
    assert!(checks > 0 && engine.statistics().blocks > 0);
}
