//! Increments through `kill -9`: in simulation and with a real process on a real disk, three writers, twenty kills; the
//! final value is the sum of what was acknowledged.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, thread};

use kymo_core::batch::{AddedValue, Increment, SampleBatch};
use kymo_core::random::SeededRandom;
use kymo_core::storage::{ColumnValue, Columns};
use kymo_core::{Clock, Labels, MetricStorage, QueryContext, Random, Selector, SystemClock};
use kymo_storage::fs::{CrashKind, RealFs, SimFs};
use kymo_storage::{Engine, Lane, MaintainLimit, Options, SyncPolicy};

use crate::world::{self, NOW_MS, clock};

const WRITERS: usize = 3;
const KILLS: u64 = 20;
/// Asks for another number of kills of the real process.
const KILLS_ASKED: &str = "KYMO_KILLS";
/// Set for the process that is killed: its folder.
const DIR: &str = "KYMO_KILLED_DIR";
/// What the parent waits for before it kills: bytes, some sixty of which the test runner says before the first acknowledgement.
const ACKNOWLEDGED_MIN: usize = 100;

fn series() -> Labels {
    Labels::from_pairs([("__name__", "requests_total")])
}

/// Increment `n` of a writer: back to back, 10 ms each, of a value that tells `n`.
fn batch(writer: usize, n: u64, first_ms: i64) -> SampleBatch {
    let start_ms = first_ms + 10 * n as i64;
    let value = AddedValue::Float(value(n));
    let mut batch = SampleBatch::new();
    batch.push_increment(&series(), Increment { writer: writer as u64, start_ms, end_ms: start_ms + 10, value });
    batch
}

fn value(n: u64) -> f64 {
    (n % 7 + 1) as f64
}

fn sum(acknowledged: &[u64]) -> f64 {
    acknowledged.iter().map(|count| (0..*count).map(value).sum::<f64>()).sum()
}

/// The last value of the only series, and whether it ever falls.
fn read(engine: &dyn MetricStorage) -> (f64, bool) {
    let set = engine.select(&Selector::everything(), &QueryContext::unlimited()).unwrap();
    let mut columns = Columns::default();
    set.read(0, &mut columns).unwrap();
    assert_eq!(set.len(), 1);
    let float = |(_, value)| match value {
        ColumnValue::Float(value) => value,
        other => panic!("a total is no {other:?}"),
    };
    let values: Vec<f64> = columns.iter().map(float).collect();
    (values.last().copied().unwrap(), values.windows(2).any(|pair| pair[0] > pair[1]))
}

#[test]
fn three_writers_and_twenty_kills_add_up_in_simulation() {
    for seed in 300..330 {
        let random = SeededRandom::new(seed);
        let clock = clock();
        let mut disk = SimFs::new(seed);
        let mut acknowledged = [0u64; WRITERS];
        let mut kills = 0;
        while kills < KILLS {
            disk.crash_at(disk.op_count() + 5 + random.below(60));
            let opened = world::open(&disk, world::options(&clock, SyncPolicy::Interval));
            let Ok((engine, _)) = opened else {
                assert!(disk.has_crashed(), "seed {seed}: {:?}", opened.err());
                disk = disk.crash(CrashKind::ProcessKill);
                kills += 1;
                continue;
            };
            while !disk.has_crashed() {
                for (writer, count) in acknowledged.iter_mut().enumerate() {
                    // A request that was not answered is sent again after the restart.
                    let Ok(report) = engine.append(&batch(writer, *count, NOW_MS - 3_600_000)) else { break };
                    assert_eq!(report.stored.increments + report.identical.increments, 1, "seed {seed}: {report:?}");
                    *count += 1;
                }
                // A failure is the crash.
                let _ = match random.below(6) {
                    0 => engine.flush(),
                    1 => engine.maintain(Lane::Merge, MaintainLimit::default()).map(drop),
                    _ => engine.maintain(Lane::Sync, MaintainLimit::default()).map(drop),
                };
                world::advance(&clock, 1);
            }
            drop(engine);
            disk = disk.crash(CrashKind::ProcessKill);
            kills += 1;
        }
        let (engine, _) = world::open(&disk, world::options(&clock, SyncPolicy::Interval)).unwrap();
        // What was on its way when the last kill came may be there or not: now it is.
        for (writer, count) in acknowledged.iter_mut().enumerate() {
            engine.append(&batch(writer, *count, NOW_MS - 3_600_000)).unwrap();
            *count += 1;
        }
        assert_eq!(read(&engine), (sum(&acknowledged), false), "seed {seed}: {acknowledged:?} acknowledged");
    }
}

fn acknowledged(dir: &Path) -> Vec<u64> {
    let count = |writer: usize| {
        let mut bytes = [0; 8];
        match File::open(dir.join(format!("acknowledged.{writer}"))) {
            Ok(file) => file.read_exact_at(&mut bytes, 0).map_or(0, |()| u64::from_le_bytes(bytes)),
            Err(_) => 0,
        }
    };
    (0..WRITERS).map(count).collect()
}

/// When the writers began, ms; the same in every life.
fn first_ms(dir: &Path) -> i64 {
    let path = dir.join("first");
    if let Ok(text) = fs::read_to_string(&path) {
        return text.parse().unwrap();
    }
    let first_ms = SystemClock::new().now_ms() - 3_600_000;
    fs::write(&path, first_ms.to_string()).unwrap();
    first_ms
}

/// The process that is killed: writes until it is, and tells each acknowledgement by a byte.
#[test]
#[ignore = "only as the process that another test kills"]
fn writes_until_it_is_killed() {
    let Ok(dir) = env::var(DIR) else { return };
    let dir = Path::new(&dir);
    let first_ms = first_ms(dir);
    let options = Options { flush_samples: 200, ..Options::default() };
    let clock = SystemClock::new();
    let began = clock.monotonic();
    let (engine, _) = Engine::open(Arc::new(RealFs), &dir.join("data"), options).unwrap();
    fs::write(dir.join("opened"), (clock.monotonic() - began).as_millis().to_string()).unwrap();
    let engine = Arc::new(engine);
    let counts = acknowledged(dir);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for (writer, from) in counts.into_iter().enumerate() {
            let (engine, is_over) = (Arc::clone(&engine), &is_over);
            scope.spawn(move || {
                let path = dir.join(format!("acknowledged.{writer}"));
                let file = File::options().create(true).truncate(false).write(true).open(path).unwrap();
                for n in from.. {
                    let report = engine.append(&batch(writer, n, first_ms)).unwrap();
                    assert_eq!(report.stored.increments + report.identical.increments, 1, "{report:?}");
                    file.write_all_at(&(n + 1).to_le_bytes(), 0).unwrap();
                    print!(".");
                    std::io::Write::flush(&mut std::io::stdout()).unwrap();
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        while engine.maintain(Lane::Flush, MaintainLimit::default()).is_ok() {
            thread::yield_now();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn three_writers_and_twenty_kills_add_up_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let random = SeededRandom::new(7);
    let kills = env::var(KILLS_ASKED).map_or(KILLS, |asked| asked.parse().unwrap());
    let mut worst_open_ms = 0;
    for kill in 0..kills {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["kill::writes_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It is killed in the middle of things: after some acknowledgements, as many as chance has it.
        let mut said = vec![0; ACKNOWLEDGED_MIN + random.below(400) as usize];
        let before = acknowledged(dir.path());
        child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(acknowledged(dir.path()) > before, "kill {kill}: nothing was acknowledged");
        let opened: u64 = fs::read_to_string(dir.path().join("opened")).unwrap().parse().unwrap();
        worst_open_ms = worst_open_ms.max(opened);
    }
    let (engine, _) = Engine::open(Arc::new(RealFs), &dir.path().join("data"), Options::default()).unwrap();
    let mut counts = acknowledged(dir.path());
    for (writer, count) in counts.iter_mut().enumerate() {
        engine.append(&batch(writer, *count, first_ms(dir.path()))).unwrap();
        *count += 1;
    }
    let (found, falls) = read(&engine);
    println!(
        "increments: {kills} kills, {WRITERS} writers, {} acknowledged; the total is {found}, their sum {}; worst time to open \
         {worst_open_ms} ms",
        counts.iter().sum::<u64>(),
        sum(&counts)
    );
    assert_eq!((found, falls), (sum(&counts), false), "{counts:?} acknowledged");
}
