use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kymo_core::batch::{Exemplar, FamilyType, Metadata};
use kymo_core::{Labels, SeriesRef};
use proptest::prelude::*;

use super::frame::{put_frame, segment_header};
use super::*;
use crate::fs::{Fault, FaultAt, Fs, OpKind, SimFs};
use crate::options::SyncPolicy;

fn series(n: u64) -> SeriesRef {
    SeriesRef::new(3, n).unwrap()
}

fn payload() -> Vec<u8> {
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "a")]);
    let mut frame = FrameBuilder::default();
    frame.define(series(5), labels.as_ref());
    frame.float(series(5), 1_700_000_000_000, 0, 1.0);
    frame.stale(series(5), 1_700_000_015_000, 0);
    frame.metadata("up", &Metadata { family_type: FamilyType::Gauge, unit: String::new(), help: "Up.".into() });
    let mut payload = Vec::new();
    frame.finish(3, &mut payload);
    payload
}

fn records(payload: &[u8]) -> Result<Vec<String>, crate::codec::Malformed> {
    let mut all = Vec::new();
    decode(payload, |record| all.push(format!("{record:?}")))?;
    Ok(all)
}

#[test]
fn the_page_s_worked_example_is_what_is_written() {
    let mut segment = segment_header(7).to_vec();
    let at = segment.len() as u64;
    put_frame(&mut segment, &payload(), 7, at);
    let page = include_str!("../../../docs/format/wal.md");
    assert_eq!(crate::format_page::example(page), segment, "{}", crate::format_page::hex(&segment));
}

#[test]
fn a_frame_says_what_was_put_into_it() {
    let mut frame = FrameBuilder::default();
    frame.exemplar(series(9), &Exemplar { labels: Labels::empty(), value: f64::NAN, time_ms: -4 });
    frame.float(series(9), -7, 11, -0.0);
    let mut bytes = Vec::new();
    frame.finish(3, &mut bytes);
    let all = records(&bytes).unwrap();
    assert_eq!(all.len(), 2);
    assert!(all[0].contains("time_ms: -7, start_ms: 11, value: -0.0"), "{all:?}");
    assert!(all[1].contains("value: NaN, time_ms: -4"), "{all:?}");
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(all) = records(&bytes) {
            prop_assert!(all.len() <= bytes.len());
        }
    }

    #[test]
    fn a_cut_payload_is_refused(at in any::<usize>()) {
        let payload = payload();
        prop_assert!(records(&payload[..at % payload.len()]).is_err());
    }
}

fn writer(disk: &SimFs, policy: SyncPolicy) -> LogWriter {
    let dir = Path::new("/wal");
    disk.create_dir_all(dir).unwrap();
    LogWriter::new(
        Arc::new(disk.clone()),
        dir.to_owned(),
        policy,
        1,
        0,
        kymo_core::Budget::unlimited().try_reserve(0).unwrap(),
    )
}

/// All payloads on the disk, in order.
fn replay(disk: &SimFs) -> (Vec<Vec<u8>>, Vec<LogDamage>, u64) {
    let (mut payloads, mut damage, mut torn) = (Vec::new(), Vec::new(), 0);
    for entry in disk.list(Path::new("/wal")).unwrap() {
        let number = segment_number(&entry.name).unwrap();
        let path = Path::new("/wal").join(&entry.name);
        let mut reader = SegmentReader::open(disk, &path, number).unwrap();
        while let Some((payload, _)) = reader.next().unwrap() {
            payloads.push(payload.to_vec());
        }
        damage.append(&mut reader.damage);
        if let ReplayEnd::Torn { cut, .. } = reader.end {
            torn += cut;
        }
    }
    (payloads, damage, torn)
}

#[test]
fn a_failed_write_is_cut_back_and_the_next_one_succeeds() {
    let disk = SimFs::new(1);
    let mut log = writer(&disk, SyncPolicy::Never);
    log.write(&[b"one"], Duration::ZERO).unwrap();
    disk.fail_next(OpKind::Write, Fault::Short { bytes: 9 });
    disk.fail(FaultAt { op: OpKind::Write, nth: disk.count(OpKind::Write) + 2, fault: Fault::NoSpace });
    log.write(&[b"two", b"three"], Duration::ZERO).unwrap_err();
    log.write(&[b"four"], Duration::ZERO).unwrap();
    assert_eq!(replay(&disk), (vec![b"one".to_vec(), b"four".to_vec()], vec![], 0));
}

#[test]
fn after_a_failed_sync_unsynced_frames_go_to_a_new_file_and_survive_power_loss() {
    let disk = SimFs::new(2);
    let mut log = writer(&disk, SyncPolicy::Interval);
    disk.sync_dir(Path::new("/")).unwrap();
    log.write(&[b"one"], Duration::ZERO).unwrap();
    let job = log.begin_sync().unwrap();
    let done = job.run();
    log.finish_sync(job, done).unwrap();
    log.write(&[b"two"], Duration::ZERO).unwrap();
    let generation = log.generation();
    disk.fail_next(OpKind::SyncData, Fault::Io);
    let job = log.begin_sync().unwrap();
    let done = job.run();
    assert!(done.is_err());
    log.finish_sync(job, done).unwrap();
    assert!(log.generation() > generation, "definitions must be written again");
    for _ in 0..20 {
        // Every crash draws another outcome of what was not synced.
        let (mut payloads, ..) = replay(&disk.crash(crate::fs::CrashKind::PowerLoss));
        payloads.dedup();
        assert_eq!(payloads, [b"one".to_vec(), b"two".to_vec()]);
    }
}

#[test]
fn always_syncs_before_it_acknowledges() {
    for seed in 0..30 {
        let disk = SimFs::new(seed);
        let mut log = writer(&disk, SyncPolicy::Always);
        disk.sync_dir(Path::new("/")).unwrap();
        for n in 0..5u8 {
            log.write(&[&[n; 300]], Duration::ZERO).unwrap();
        }
        let (payloads, damage, _) = replay(&disk.crash(crate::fs::CrashKind::PowerLoss));
        assert_eq!((payloads.len(), damage.len()), (5, 0), "seed {seed}");
    }
}

#[test]
fn a_reader_goes_on_behind_a_damaged_frame_and_names_it() {
    let disk = SimFs::new(3);
    let mut log = writer(&disk, SyncPolicy::Never);
    log.write(&[b"one", b"two", b"three"], Duration::ZERO).unwrap();
    let path = Path::new("/wal").join(segment_name(1));
    // Header 24, frame "one" 19, into the payload of "two".
    disk.corrupt(&path, 24 + 19 + 17, 0x40).unwrap();
    let (payloads, damage, torn) = replay(&disk);
    assert_eq!(payloads, [b"one".to_vec(), b"three".to_vec()]);
    assert_eq!((damage.len(), damage[0].offset, damage[0].bytes, torn), (1, 43, 19, 0));
    assert_eq!(damage[0].what, "frame payload's checksum is wrong");
}

#[test]
fn every_cut_of_a_segment_gives_a_beginning_of_it() {
    let disk = SimFs::new(4);
    let mut log = writer(&disk, SyncPolicy::Never);
    log.write(&[b"one", b"two", b"three"], Duration::ZERO).unwrap();
    let path = Path::new("/wal").join(segment_name(1));
    let len = disk.read_file(&path).unwrap().len() as u64;
    for cut in (0..len).rev() {
        disk.open(&path, crate::fs::OpenMode::Append).unwrap().set_len(cut).unwrap();
        let (payloads, damage, _) = replay(&disk);
        let wanted: Vec<Vec<u8>> = [(43, "one"), (62, "two")]
            .iter()
            .filter(|(end, _)| *end <= cut)
            .map(|(_, text)| text.as_bytes().to_vec())
            .collect();
        assert_eq!((payloads, damage), (wanted, vec![]), "cut at {cut}");
    }
}

#[test]
fn concurrent_writers_apply_in_the_order_of_the_log() {
    let disk = SimFs::new(5);
    let commit = Commit::new(writer(&disk, SyncPolicy::Never));
    let applied = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let (commit, applied) = (&commit, &applied);
            scope.spawn(move || {
                for n in 0..200u8 {
                    let payload = vec![thread, n];
                    let turn = commit.write(payload.clone(), commit.generation(), Duration::ZERO).unwrap();
                    commit.in_turn(turn, || applied.lock().unwrap().push(payload));
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..20 {
                commit.quiesced(|writer| {
                    // Whatever was written before has been applied, and nothing else.
                    assert_eq!(replay(&disk).0, *applied.lock().unwrap());
                    writer.bytes()
                });
            }
        });
    });
    assert_eq!(replay(&disk).0, *applied.lock().unwrap());
    assert_eq!(applied.lock().unwrap().len(), 800);
}

#[test]
fn a_failed_group_fails_every_member_and_the_log_goes_on() {
    let disk = SimFs::new(6);
    let commit = Commit::new(writer(&disk, SyncPolicy::Never));
    let generation = commit.generation();
    disk.fail_next(OpKind::Write, Fault::NoSpace);
    let failed = commit.write(b"lost".to_vec(), generation, Duration::ZERO);
    assert!(matches!(failed, Err(CommitError::Io(_))));
    let turn = commit.write(b"kept".to_vec(), commit.generation(), Duration::ZERO).unwrap();
    commit.in_turn(turn, || {});
    assert_eq!(replay(&disk).0, [b"kept".to_vec()]);
}

#[test]
fn a_segment_of_a_newer_version_is_refused() {
    let disk = SimFs::new(7);
    let mut header = segment_header(1);
    header[8] = 9;
    disk.create_dir_all(Path::new("/wal")).unwrap();
    let path = Path::new("/wal").join(segment_name(1));
    disk.create_new(&path).unwrap().append_all(&header).unwrap();
    let error = SegmentReader::open(&disk, &path, 1).err().unwrap();
    assert!(matches!(error, crate::StorageError::NewerVersion { version: 9, supported: 1, .. }), "{error}");
}
