//! Damage on disk is named, set aside and survived.

use std::path::Path;

use kymo_core::storage::Columns;
use kymo_core::{MetricStorage, QueryContext, SelectError, Selector};
use kymo_storage::SyncPolicy;
use kymo_storage::fs::SimFs;

use crate::world::*;

fn written(flush: bool) -> (SimFs, Model) {
    let disk = SimFs::new(1);
    let clock = clock();
    let (engine, _) = open(&disk, options(&clock, SyncPolicy::Always)).unwrap();
    let mut model = Model::new();
    for step in 0..6i64 {
        engine.append(&scrape(3, NOW_MS + seconds(step))).unwrap();
        note(&mut model, 3, NOW_MS + seconds(step));
    }
    if flush {
        engine.flush().unwrap();
    }
    (disk, model)
}

fn only(disk: &SimFs, folder: &str) -> std::path::PathBuf {
    let folder = Path::new(DIR).join(folder);
    disk.files().into_keys().find(|path| path.starts_with(&folder)).expect("a file")
}

#[test]
fn every_flipped_bit_of_the_log_is_noticed_and_costs_nothing_before_it() {
    let (disk, model) = written(false);
    let path = only(&disk, "wal");
    let len = disk.read_file(&path).unwrap().len() as u64;
    for at in 0..len {
        let (disk, _) = written(false);
        disk.corrupt(&path, at, 1 << (at % 8)).unwrap();
        let clock = clock();
        let opened = open(&disk, options(&clock, SyncPolicy::Always));
        let (engine, report) = match opened {
            Ok(opened) => opened,
            // The version in the segment's header.
            Err(error) => {
                assert!(at < 24, "byte {at}: {error}");
                continue;
            }
        };
        let found = dump(&engine);
        let missing = lost(&model, &found);
        let told = !report.log_damage.is_empty() || report.torn_bytes > 0;
        assert!(missing.is_empty() || told, "byte {at}: {missing:?} went without a word");
        let extra = lost(&found, &model);
        assert!(extra.is_empty(), "byte {at}: {extra:?} was never written");
        // Frames lean on those before, up to the next key frame, which is further away: what is gone are the last
        // scrapes, from the damaged one on.
        let first = missing.iter().map(|(_, time)| *time).min();
        let gone = first.map_or(0, |first| 3 * (6 - (first - NOW_MS) / 1_000));
        assert_eq!(missing.len() as i64, gone, "byte {at}: {missing:?}");
        if let Some(damage) = report.log_damage.first() {
            assert_eq!(damage.path, path);
            let kept = disk.files().into_keys().any(|p| p.starts_with(Path::new(DIR).join("quarantine")));
            assert!(kept, "byte {at}: the damaged segment is kept for inspection");
        }
    }
}

#[test]
fn a_damaged_chunk_fails_the_query_that_needs_it_and_no_other() {
    let (disk, _) = written(true);
    let path = only(&disk, "blocks");
    // Behind the header stands the first chunk, of the first series.
    disk.corrupt(&path, 20, 0x10).unwrap();
    let clock = clock();
    let (engine, report) = open(&disk, options(&clock, SyncPolicy::Always)).unwrap();
    assert!(report.quarantined.is_empty());
    let set = engine.select(&Selector::everything(), &QueryContext::unlimited()).unwrap();
    let mut columns = Columns::default();
    match set.read(0, &mut columns).unwrap_err() {
        SelectError::Damaged { place, what } => {
            assert!(
                place.contains("blocks") && place.contains("byte 16") && what.contains("checksum"),
                "{place}: {what}"
            );
        }
        other => panic!("{other}"),
    }
    set.read(1, &mut columns).unwrap();
    assert_eq!(columns.times.len(), 6);
}

#[test]
fn a_damaged_block_is_set_aside_and_told() {
    let (disk, _) = written(true);
    let path = only(&disk, "blocks");
    let len = disk.read_file(&path).unwrap().len() as u64;
    disk.corrupt(&path, len - 30, 0x01).unwrap();
    let clock = clock();
    let (engine, report) = open(&disk, options(&clock, SyncPolicy::Always)).unwrap();
    assert_eq!(report.quarantined.len(), 1);
    assert_eq!(report.quarantined[0].0, path);
    assert!(report.quarantined[0].1.contains("checksum"), "{report:?}");
    assert_eq!(engine.statistics().quarantined, 1);
    let moved = Path::new(DIR).join("quarantine").join(path.file_name().unwrap());
    assert!(disk.read_file(&moved).is_ok());
    // The engine works without it.
    engine.append(&scrape(3, NOW_MS + seconds(100))).unwrap();
    engine.flush().unwrap();
    assert_eq!(dump(&engine).len(), 3);
}

#[test]
fn a_lost_manifest_is_no_empty_database() {
    let (disk, _) = written(true);
    use kymo_storage::fs::Fs;
    disk.remove(&Path::new(DIR).join("MANIFEST")).unwrap();
    let clock = clock();
    let error = open(&disk, options(&clock, SyncPolicy::Always)).err().unwrap();
    assert!(error.to_string().contains("MANIFEST"), "{error}");
}
