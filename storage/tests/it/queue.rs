//! The queue in files: its contract, and what is left of it after kills, power loss, failures and flipped bits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kymo_core::ManualClock;
use kymo_core::contract::queue::{Subject, run};
use kymo_core::metric::MetricType;
use kymo_core::registry::Registry;
use kymo_core::state::{DiskQueue, QueueError, QueuePosition};
use kymo_storage::fs::{CrashKind, Fault, FaultAt, Fs, OpKind, RealFs, SimFs};
use kymo_storage::state::{
    ConsumeError, Consumed, Consumer, FileQueue, QueueFault, QueueOptions, QueueReport, QueueSync,
};

const DIR: &str = "/data/queue";
const NOW_MS: i64 = 1_700_000_000_000;

fn options(bytes_max: u64, sync: QueueSync) -> QueueOptions {
    let clock = Arc::new(ManualClock::at(NOW_MS));
    // Small segments, so that a few records are in several.
    QueueOptions { bytes_max, age_max: None, segment_bytes: 300, sync, clock }
}

struct Files {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    nth: u32,
    bytes_max: u64,
}

impl Files {
    fn opened(&self) -> Arc<dyn DiskQueue> {
        let dir = self.dir.join(self.nth.to_string());
        let opened = FileQueue::open(self.fs.clone(), &dir, options(self.bytes_max, QueueSync::PerSegment));
        let (queue, report) = opened.unwrap();
        assert_eq!(report, QueueReport::default());
        Arc::new(queue)
    }
}

impl Subject for Files {
    fn open(&mut self, bytes_max: u64) -> Arc<dyn DiskQueue> {
        (self.nth, self.bytes_max) = (self.nth + 1, bytes_max);
        self.opened()
    }

    fn reopen(&mut self) -> Arc<dyn DiskQueue> {
        self.opened()
    }
}

#[test]
fn the_queue_keeps_the_contract_on_either_disk() {
    run(&mut Files { fs: Arc::new(SimFs::new(1)), dir: DIR.into(), nth: 0, bytes_max: 0 });
    let folder = tempfile::tempdir().unwrap();
    run(&mut Files { fs: Arc::new(RealFs), dir: folder.path().to_owned(), nth: 0, bytes_max: 0 });
}

fn disk(seed: u64) -> SimFs {
    let disk = SimFs::new(seed);
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn open(disk: &SimFs, sync: QueueSync) -> Result<(FileQueue, QueueReport), QueueFault> {
    FileQueue::open(Arc::new(disk.clone()), Path::new(DIR), options(1 << 20, sync))
}

/// What was appended, and how far it was acknowledged.
#[derive(Default, Debug)]
struct Done {
    appended: Vec<(QueuePosition, u8)>,
    /// Where an acknowledgement that returned, or may have happened, stands.
    acknowledged: QueuePosition,
    acknowledging: QueuePosition,
    /// Synced when this many were appended.
    synced: usize,
}

fn record(n: u8) -> Vec<u8> {
    vec![n; 40 + usize::from(n % 7) * 10]
}

/// Appends, reads and acknowledges until something fails.
fn script(queue: &FileQueue, sync: QueueSync, done: &mut Done) -> Result<(), QueueError> {
    for n in 0..24u8 {
        let position = queue.append(&record(n))?;
        done.appended.push((position, n));
        if sync == QueueSync::Always {
            done.synced = done.appended.len();
        }
        if n % 8 == 5 {
            queue.sync()?;
            done.synced = done.appended.len();
        }
        if n % 5 == 4 {
            let until = queue.read(queue.checkpoint(), 120, &mut Vec::new())?;
            done.acknowledging = until;
            queue.acknowledge(until)?;
            done.acknowledged = until;
        }
    }
    Ok(())
}

/// Everything there is, damage told apart: positions with records, and what was lost.
fn all(queue: &FileQueue) -> (Vec<Vec<u8>>, Vec<(QueuePosition, QueuePosition)>) {
    let (mut records, mut lost, mut at) = (Vec::new(), Vec::new(), queue.checkpoint());
    while at < queue.end() {
        let next = match queue.read(at, 100, &mut records) {
            Ok(next) => next,
            Err(QueueError::Damaged { position, resume, .. }) => {
                assert_eq!(position, at);
                lost.push((position, resume));
                resume
            }
            // What was too old went meanwhile.
            Err(QueueError::Gone { checkpoint, .. }) => checkpoint,
            Err(error) => panic!("{error:?}"),
        };
        assert!(next > at, "reading goes on");
        at = next;
    }
    (records, lost)
}

#[test]
fn kill_and_power_loss_at_every_change_lose_nothing_that_was_safe() {
    for sync in [QueueSync::Always, QueueSync::PerSegment] {
        let changes = {
            let disk = disk(0);
            script(&open(&disk, sync).unwrap().0, sync, &mut Done::default()).unwrap();
            disk.op_count()
        };
        assert!(changes > 60, "{changes}");
        for at in 3..=changes {
            let disk = disk(at);
            disk.crash_at(at);
            let mut done = Done::default();
            if let Ok((queue, _)) = open(&disk, sync) {
                script(&queue, sync, &mut done).unwrap_err();
            }
            for kind in [CrashKind::ProcessKill, CrashKind::PowerLoss, CrashKind::PowerLoss] {
                let after = disk.crash(kind);
                let when = format!("{sync:?}, {kind:?} at change {at}");
                let (queue, report) = open(&after, sync).unwrap_or_else(|error| panic!("{when}: {error:?}"));
                check(&queue, &report, &done, kind, &when);
            }
        }
    }
}

fn check(queue: &FileQueue, report: &QueueReport, done: &Done, kind: CrashKind, when: &str) {
    assert!(!report.is_checkpoint_lost && report.damaged_headers.is_empty(), "{when}: {report:?}");
    let checkpoint = queue.checkpoint();
    assert!(checkpoint >= done.acknowledged, "{when}: {checkpoint:?} of {:?}", done.acknowledged);
    assert!(checkpoint <= done.acknowledging.max(done.acknowledged), "{when}: {checkpoint:?}");
    let safe = if kind == CrashKind::ProcessKill { done.appended.len() } else { done.synced };
    let wanted: Vec<u8> = done.appended[..safe].iter().filter(|(at, _)| *at >= checkpoint).map(|(_, n)| *n).collect();
    let (records, lost) = all(queue);
    let found: Vec<u8> = records.iter().map(|record| record[0]).collect();
    assert!(found.starts_with(&wanted), "{when}: {wanted:?} were safe, {found:?} are there");
    assert!(kind == CrashKind::PowerLoss || lost.is_empty(), "{when}: {lost:?}");
    for bytes in &records {
        assert_eq!(*bytes, record(bytes[0]), "{when}: a record as it was");
    }
    assert!(found.is_sorted(), "{when}: {found:?}");
    // It goes on, and never with a position that was given out.
    let next = queue.append(b"\xffnext").unwrap();
    assert!(done.appended.iter().all(|(given, _)| next > *given), "{when}: {next:?}");
    let (records, _) = all(queue);
    assert_eq!(records.last().map(Vec::as_slice), Some(&b"\xffnext"[..]), "{when}");
    queue.acknowledge(queue.end()).unwrap();
    assert_eq!(queue.bytes(), 0, "{when}");
}

#[test]
fn a_failed_operation_loses_nothing_and_the_queue_goes_on() {
    for sync in [QueueSync::Always, QueueSync::PerSegment] {
        for op in [
            OpKind::Write,
            OpKind::SyncData,
            OpKind::SyncDir,
            OpKind::Create,
            OpKind::Rename,
            OpKind::Remove,
            OpKind::SetLen,
        ] {
            for fault in [Fault::Io, Fault::NoSpace, Fault::Short { bytes: 7 }] {
                if matches!(fault, Fault::Short { .. }) != (op == OpKind::Write) && matches!(fault, Fault::Short { .. })
                {
                    continue;
                }
                for nth in 1..12 {
                    let disk = disk(nth);
                    let (queue, _) = open(&disk, sync).unwrap();
                    disk.fail(FaultAt { op, nth: disk.count(op) + nth, fault });
                    let mut kept = Vec::new();
                    for n in 0..12u8 {
                        if queue.append(&record(n)).is_ok() {
                            kept.push(n);
                        }
                    }
                    let found = |queue: &FileQueue| -> Vec<u8> {
                        let (records, lost) = all(queue);
                        assert_eq!(lost, [], "{sync:?} {op:?} {fault:?} {nth}");
                        records.iter().map(|record| record[0]).collect()
                    };
                    assert_eq!(found(&queue), kept, "{sync:?} {op:?} {fault:?} {nth}");
                    drop(queue);
                    disk.clear_faults();
                    let (queue, _) = open(&disk, sync).unwrap();
                    assert_eq!(found(&queue), kept, "{sync:?} {op:?} {fault:?} {nth}, opened again");
                }
            }
        }
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_told_or_changes_nothing() {
    let disk = disk(2);
    let mut kept = Vec::new();
    for opening in 0..2u8 {
        let (queue, _) = open(&disk, QueueSync::Always).unwrap();
        for n in 0..6u8 {
            queue.append(&record(opening * 6 + n)).unwrap();
            kept.push(opening * 6 + n);
        }
        queue.acknowledge(QueuePosition(1)).unwrap();
    }
    let files = disk.files();
    let images = files.iter().filter(|(path, _)| path.starts_with(DIR) && !path.ends_with("LOCK"));
    // The end of the last one is what a kill leaves; where it is cut between two records nothing is missing.
    let last = files.keys().rfind(|path| path.extension().is_some_and(|suffix| suffix == "queue")).unwrap();
    let mut told = 0;
    for (path, bytes) in images {
        let mutations = (0..bytes.len()).map(|at| (at, true)).chain((0..bytes.len()).step_by(5).map(|at| (at, false)));
        for (at, is_flip) in mutations {
            let copy = SimFs::new(3);
            copy.create_dir_all(Path::new(DIR)).unwrap();
            for (name, bytes) in &files {
                let mut bytes = bytes.clone();
                if name == path {
                    if is_flip { bytes[at] ^= 1 << (at % 8) } else { bytes.truncate(at) }
                }
                copy.create_new(name).unwrap().append_all(&bytes).unwrap();
            }
            let (queue, report) = open(&copy, QueueSync::Always).unwrap();
            let (records, lost) = all(&queue);
            let found: Vec<u8> = records.iter().map(|record| record[0]).collect();
            for bytes in &records {
                assert_eq!(*bytes, record(bytes[0]), "{}: byte {at}: a record as it was", path.display());
            }
            assert!(found.is_sorted(), "{found:?}");
            let is_told = !lost.is_empty() || report != QueueReport::default();
            let is_end = path == last && !is_flip && kept[1..].starts_with(&found);
            let is_whole = is_end || found == kept[1..] || (report.is_checkpoint_lost && found == kept);
            assert!(is_told || is_whole, "{} byte {at}, flipped {is_flip}: {found:?} without a word", path.display());
            assert!(found.len() + 1 >= kept.len() - lost.len().max(1) * if is_flip { 1 } else { 12 }, "{found:?}");
            told += u32::from(is_told);
        }
    }
    assert!(told > 500, "{told}");
}

#[test]
fn records_too_old_are_given_up() {
    let clock = Arc::new(ManualClock::at(NOW_MS));
    let options = QueueOptions {
        age_max: Some(Duration::from_secs(80)),
        clock: clock.clone(),
        ..options(1 << 20, QueueSync::Always)
    };
    let disk = disk(5);
    let (queue, _) = FileQueue::open(Arc::new(disk.clone()), Path::new(DIR), options.clone()).unwrap();
    for n in 0..20u8 {
        queue.append(&[n]).unwrap();
        clock.advance(Duration::from_secs(10));
    }
    // The newest is ten seconds old; what is older than eighty is gone, but for an eighth.
    let found: Vec<u8> = all(&queue).0.iter().map(|record| record[0]).collect();
    assert!(found.ends_with(&[12, 13, 14, 15, 16, 17, 18, 19]) && found.len() <= 10, "{found:?}");
    assert!(queue.checkpoint() > QueuePosition(0));
    drop(queue);
    // Nobody appends or reads for long: all is gone, also when it was closed meanwhile.
    clock.advance(Duration::from_secs(1_000));
    let (queue, _) = FileQueue::open(Arc::new(disk), Path::new(DIR), options).unwrap();
    let from = queue.checkpoint();
    let mut records = Vec::new();
    let outcome = queue.read(from, 100, &mut records);
    assert!(records.is_empty() && matches!(outcome, Err(QueueError::Gone { .. })), "{outcome:?} {records:?}");
    assert_eq!((queue.bytes(), all(&queue).0.len()), (0, 0));
}

#[test]
fn every_message_that_is_handled_is_counted_and_timed_and_one_that_cannot_be_comes_again() {
    let (disk, registry, clock) = (disk(70), Registry::new(), Arc::new(ManualClock::at(NOW_MS)));
    let queue = Arc::new(open(&disk, QueueSync::Always).unwrap().0);
    let consumer = Consumer::new(queue.clone(), &registry, clock.clone()).unwrap();
    let counted = |result: &str| {
        let (mut messages, mut timed) = (0.0, (0, 0.0));
        for family in registry.snapshot() {
            let series =
                family.series.into_iter().find(|series| series.labels.iter().any(|(_, value)| value == result));
            match (family.name.as_str(), series.unwrap().value) {
                ("messages_received_total", MetricType::Counter { value, .. }) => messages = value,
                ("message_processing_duration_seconds", MetricType::Histogram { count, sum, .. }) => {
                    timed = (count, sum)
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(messages, timed.0 as f64, "counted as often as timed");
        timed
    };
    let append = |n| assert!(queue.append(&record(n)).is_ok());
    (0..10).for_each(append);
    let mut seen = Vec::new();
    let mut take = |message: &[u8], refused: u8| {
        clock.advance(Duration::from_millis(3));
        if message[0] == refused {
            return Err("not this one".into());
        }
        seen.push(message.to_vec());
        Ok(())
    };
    let refused = consumer.handle(|message| take(message, 6)).unwrap_err();
    assert!(matches!(refused, ConsumeError::Message { position, .. } if position == queue.checkpoint()), "{refused}");
    assert_eq!((counted("ok").0, counted("error").0), (6, 1));
    assert_eq!(consumer.handle(|message| take(message, 255)).unwrap(), Consumed { messages: 4, damaged: 0 });
    assert_eq!(consumer.handle(|message| take(message, 255)).unwrap(), Consumed::default());
    assert_eq!(seen, (0..10).map(record).collect::<Vec<_>>(), "in order, and once where nothing failed");
    let (count, sum) = counted("ok");
    assert!(count == 10 && (sum - 0.03).abs() < 1e-12, "{count} in {sum} s");
    assert_eq!(queue.checkpoint(), queue.end());

    // What is damaged is passed over and told.
    (10..20).for_each(append);
    let path =
        disk.files().into_keys().filter(|path| path.extension().is_some_and(|end| end == "queue")).max().unwrap();
    disk.corrupt(&path, disk.read_file(&path).unwrap().len() as u64 - 5, 1).unwrap();
    let consumed = consumer.handle(|_| Ok(())).unwrap();
    assert_eq!((consumed.messages, consumed.damaged), (9, 1));
    assert_eq!(queue.checkpoint(), queue.end());
}

#[test]
fn another_version_is_refused_and_one_process_has_it_open() {
    let disk = disk(6);
    let (queue, _) = open(&disk, QueueSync::Always).unwrap();
    queue.append(b"record").unwrap();
    assert!(matches!(open(&disk, QueueSync::Always), Err(QueueFault::Locked { .. })));
    drop(queue);
    let newer = Path::new(DIR).join("99999999999999999999.queue");
    let mut header = b"KYMOQUE\0\x02\0\0\0".to_vec();
    header.resize(36, 0);
    header.extend_from_slice(&crc32(&header).to_le_bytes());
    disk.create_new(&newer).unwrap().append_all(&header).unwrap();
    let before = disk.files();
    // A number beyond 64 bits is no segment of ours.
    assert!(open(&disk, QueueSync::Always).is_ok());
    drop(before);
    let newer = Path::new(DIR).join("10000000000000000000.queue");
    disk.create_new(&newer).unwrap().append_all(&header).unwrap();
    assert!(matches!(open(&disk, QueueSync::Always), Err(QueueFault::Version { version: 2, .. })));
}

fn crc32(bytes: &[u8]) -> u32 {
    let step =
        |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0xedb8_8320));
    !bytes.iter().fold(!0, step)
}
