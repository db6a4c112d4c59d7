//! The inputs that a fuzz run starts from: what the engine writes for a small world that has everything in it.
//!
//! They are committed, as a run without them would take long to find its way past a magic. A format that changes
//! leaves them behind; the test here says so, and `cargo test -p kymo-storage --features fuzz -- --ignored seeds` writes
//! them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kymo_core::batch::{AddedValue, Exemplar, FamilyType, Increment, Metadata, Total};
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, ResetHint, STALE_NAN_BITS};
use kymo_core::storage::{ColumnValue, Columns, Deletion};
use kymo_core::{Labels, ManualClock, MatchOp, Matcher, MetricStorage, NativeHistogram, SampleBatch};

use super::*;
use crate::fs::OpenMode;
use crate::{Engine, Options, RetentionPolicy, SyncPolicy};

const NOW_MS: i64 = 1_700_000_000_000;
const DIR: &str = "/data";

fn labels(name: &str, number: u64) -> Labels {
    Labels::from_pairs([("__name__", name.to_owned()), ("n", number.to_string())])
}

/// A histogram of each make.
fn histogram(n: u64) -> NativeHistogram {
    let span = |offset, len| BucketSpan { offset, len };
    if n.is_multiple_of(2) {
        let counts = BucketCounts { zero: 1, count: 6 + n, positive: vec![1, 2, n], negative: vec![2] };
        return NativeHistogram {
            schema: 3,
            hint: ResetHint::NotReset,
            zero_threshold: 0.001,
            counts: HistogramCounts::Integer(counts),
            sum: 18.5 + n as f64,
            positive_spans: vec![span(-2, 2), span(3, 1)],
            negative_spans: vec![span(0, 1)],
            custom_values: Arc::new([]),
        };
    }
    let counts = BucketCounts { zero: 0.0, count: 4.5, positive: vec![1.0, 3.5], negative: vec![] };
    NativeHistogram {
        schema: -53,
        hint: ResetHint::Gauge,
        counts: HistogramCounts::Float(counts),
        sum: 7.25,
        positive_spans: vec![span(1, 2)],
        custom_values: Arc::new([0.5, 1.0, 2.5]),
        ..NativeHistogram::default()
    }
}

type Shape = (&'static str, fn(u64) -> f64);

/// Shapes of floats, each of which another encoding is the smallest for.
const SHAPES: [Shape; 8] = [
    ("constant", |_| 7.0),
    ("steps", |n| (n / 20) as f64),
    ("counter", |n| 100.0 + 15.0 * n as f64),
    ("uneven", |n| (n * 3 + n * n % 7) as f64),
    ("decimals", |n| 0.01 * (n * 7 % 20) as f64),
    ("waves", |n| (n as f64 * 0.1).sin()),
    ("large", |n| 1e15 * (n as f64 * 0.7).cos()),
    ("odd", |n| match n % 11 {
        3 => f64::NAN,
        5 => f64::INFINITY,
        7 => -0.0,
        8 => f64::from_bits(STALE_NAN_BITS),
        n => n as f64,
    }),
];

/// One scrape with everything a batch can hold.
fn scrape(n: u64) -> SampleBatch {
    let time_ms = NOW_MS - 3_600_000 + n as i64 * 15_000;
    let mut batch = SampleBatch::new();
    for (name, value) in SHAPES {
        batch.push_float(&labels(name, 0), time_ms, value(n));
    }
    batch.push_float(&labels("started", 0), time_ms, n as f64);
    batch.set_start(NOW_MS - 7_200_000);
    batch.push_histogram(&labels("sizes", n % 2), time_ms, histogram(n));
    let (writer, value) = (7, AddedValue::Float(2.0));
    batch.push_increment(
        &labels("added", 0),
        Increment { writer, start_ms: time_ms - 15_000, end_ms: time_ms, value: value.clone() },
    );
    let value = if n.is_multiple_of(2) { AddedValue::Histogram(histogram(0)) } else { value };
    if n.is_multiple_of(2) {
        let increment = Increment { writer: 8, start_ms: time_ms - 15_000, end_ms: time_ms, value };
        batch.push_increment(&labels("added_sizes", 0), increment);
    } else {
        let total = Total { writer: 9, start_ms: NOW_MS - 3_600_000, value: AddedValue::Float(n as f64) };
        batch.push_total(&labels("told", 0), time_ms, total);
    }
    if n.is_multiple_of(5) {
        let trace = Labels::from_pairs([("trace_id", format!("{n:032x}"))]);
        batch.push_exemplar(&labels("counter", 0), Exemplar { labels: trace, value: 1.5, time_ms });
        batch.push_stale(&labels("gone", n), time_ms);
        let help = format!("Counted {n}");
        let metadata = Metadata { family_type: FamilyType::Counter, unit: "seconds".to_owned(), help };
        batch.push_metadata("counter", metadata);
    }
    batch
}

fn file(disk: &SimFs, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).expect("listed");
    let mut bytes = vec![0; file.len().expect("its length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("its bytes");
    bytes
}

/// The files below `dir` with this ending.
fn files(disk: &SimFs, dir: &str, extension: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(DIR).join(dir);
    let mut names: Vec<_> = disk.list(&dir).expect("the directory").into_iter().map(|entry| entry.name).collect();
    names.sort();
    let is_one = |name: &&std::ffi::OsString| Path::new(name).extension().is_some_and(|found| found == extension);
    names.iter().filter(is_one).map(|name| file(disk, &dir.join(name))).collect()
}

type Seeds = BTreeMap<(&'static str, String), Vec<u8>>;

fn of_a_world(seeds: &mut Seeds) {
    let disk = SimFs::new(1);
    let clock = Arc::new(ManualClock::at(NOW_MS));
    let options = Options {
        clock,
        sync: SyncPolicy::Always,
        retention: RetentionPolicy::of_age(None),
        reserve_bytes: 4_096,
        ..Options::default()
    };
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new(DIR), options).expect("opens");
    (0..8).for_each(|n| drop(engine.append(&scrape(n)).expect("taken")));
    for (number, segment) in files(&disk, "wal", "wal").into_iter().enumerate() {
        let (disk, path) = with_file(&segment);
        let mut reader = wal::SegmentReader::open(&disk, path, number as u64 + 1).expect("a segment");
        let mut frames = 0;
        while let Some(frame) = reader.next().expect("a frame") {
            if frames < 2 || frames == 5 {
                seeds.insert(("wal_payload", format!("frame-{frames}")), frame.payload.to_vec());
            }
            frames += 1;
        }
        assert!(frames >= 8 && reader.damage.is_empty(), "{frames}");
        seeds.insert(("wal_segment", format!("segment-{number}")), segment);
    }
    (8..60).for_each(|n| drop(engine.append(&scrape(n)).expect("taken")));
    engine.flush().expect("flushes");
    (60..90).for_each(|n| drop(engine.append(&scrape(n)).expect("taken")));
    let matchers = vec![Matcher::new("__name__", MatchOp::Regex, "steps|waves").expect("a matcher")];
    let deletion = Deletion { any_of: vec![matchers], start_ms: NOW_MS - 3_000_000, end_ms: NOW_MS - 2_600_000 };
    engine.delete(&deletion).expect("deletes");
    engine.flush().expect("flushes");
    seeds.insert(("manifest", "with-a-tombstone".to_owned()), file(&disk, &Path::new(DIR).join("MANIFEST")));
    for (number, totals) in files(&disk, "totals", "totals").into_iter().enumerate() {
        seeds.insert(("totals", format!("totals-{number}")), totals);
    }
    for (number, block) in files(&disk, "blocks", "block").into_iter().enumerate() {
        seeds.insert(("block", format!("flushed-{number}")), block);
    }
    engine.compact(|| true).expect("merges");
    for (number, block) in files(&disk, "blocks", "block").into_iter().enumerate() {
        seeds.insert(("block", format!("merged-{number}")), block);
    }
    engine.close().expect("closes");
}

fn of_chunks(seeds: &mut Seeds) {
    let mut encoder = chunk::ChunkEncoder::new().expect("an encoder");
    let mut add = |name: String, columns: &Columns| {
        for (effort, word) in [(chunk::Effort::Fast, "fast"), (chunk::Effort::Small, "small")] {
            let mut bytes = vec![(columns.times.len() / 5) as u8, 3];
            encoder.encode(chunk::Samples::all(columns), effort, &mut bytes);
            seeds.insert(("chunk", format!("{name}-{word}")), bytes);
        }
    };
    // A histogram at every so many samples, floats between.
    let columns = |value: fn(u64) -> f64, histogram_every: u64, start: fn(u64) -> i64| {
        let mut columns = Columns::default();
        for n in 1..102 {
            let (histogram, float) = (histogram(n), value(n));
            let value = match float.to_bits() {
                _ if n.is_multiple_of(histogram_every) => ColumnValue::Histogram(&histogram),
                STALE_NAN_BITS => ColumnValue::Stale,
                _ => ColumnValue::Float(float),
            };
            columns.push((n as i64 - 1) * 15_000, start(n), value);
        }
        columns
    };
    for (name, value) in SHAPES {
        add(name.to_owned(), &columns(value, u64::MAX, |_| 0));
    }
    add("started".to_owned(), &columns(|n| n as f64, u64::MAX, |n| -1_000 * (n as i64 / 40 + 1)));
    add("sizes".to_owned(), &columns(|_| 0.0, 1, |_| 0));
    add("both".to_owned(), &columns(SHAPES[7].1, 3, |_| 0));
}

fn of_runs(seeds: &mut Seeds) {
    for (name, value) in SHAPES {
        let bits: Vec<u64> = (0..60).map(|n| value(n).to_bits()).collect();
        seeds.insert(("head_run", name.to_owned()), head::fuzz_run_seed(&bits, &[], &[]));
    }
    let bits: Vec<u64> = (0..60).map(|n| (n as f64).to_bits()).collect();
    let histograms: Vec<_> = (0..12).map(|n| (n * 5, Arc::new(histogram(u64::from(n))))).collect();
    seeds.insert(("head_run", "both".to_owned()), head::fuzz_run_seed(&bits, &[-5_000; 60], &histograms));
    for (name, step) in [("even", 0), ("jitter", 90), ("wide", 40_000), ("far", 1 << 40)] {
        let times: Vec<i64> = (0..60).map(|n| -1 + n * 15_000 + n * n % 7 * step).collect();
        let times: Vec<i64> = times.iter().enumerate().map(|(n, time)| time + n as i64 * 7 * step).collect();
        seeds.insert(("head_run", format!("times-{name}")), head::fuzz_times_seed(&times));
    }
}

fn written_today() -> Seeds {
    let mut seeds = Seeds::new();
    of_a_world(&mut seeds);
    of_chunks(&mut seeds);
    of_runs(&mut seeds);
    seeds
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds")
}

#[test]
#[ignore = "writes the committed seeds anew"]
fn seeds_are_written_anew() {
    for ((target, name), bytes) in written_today() {
        let folder = folder().join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
}

#[test]
fn the_committed_seeds_are_in_the_formats_of_today() {
    let (disk, budget) = (SimFs::new(0), Budget::unlimited());
    for (target, name) in written_today().into_keys() {
        let bytes =
            fs::read(folder().join(target).join(&name)).unwrap_or_else(|error| panic!("{target}/{name}: {error}"));
        let is_read = match target {
            "wal_payload" => {
                let (mut chain, footing) = (wal::ChainReader::default(), wal::Footing::Firm);
                // A frame that is no key frame leans on one before it.
                wal::decode(&bytes, &mut chain, footing, |_| {}).is_ok() || name != "frame-0"
            }
            "wal_segment" => {
                let (disk, path) = with_file(&bytes);
                let mut reader = wal::SegmentReader::open(&disk, path, 1).unwrap();
                let mut frames = 0;
                while reader.next().unwrap().is_some() {
                    frames += 1;
                }
                frames >= 8 && reader.damage.is_empty()
            }
            "manifest" => manifest::Manifest::decode(&bytes).is_ok_and(|manifest| !manifest.tombstones.is_empty()),
            "totals" => {
                let mut series = 0;
                increments::decode(&bytes, |_, _| series += 1).is_ok() && series == 3
            }
            "block" => {
                let path = Path::new("/").join(&name);
                disk.create_new(&path).unwrap().append_all(&bytes).unwrap();
                let cache = Arc::new(block::BlockCache::new(&budget, 1 << 20));
                let block = block::Block::open(&disk, &path, &budget, &cache).unwrap();
                let mut report = VerifyReport::default();
                block::check(&block, Depth::Samples, &mut report, &mut |_| {});
                assert!(report.faults.is_empty(), "{name}: {:?}", report.faults);
                report.samples > 100
            }
            "chunk" => {
                let times: Vec<i64> = (0..101).map(|n| n * 15_000).collect();
                let mut columns = Columns::default();
                columns.times.extend_from_slice(&times);
                bytes[..2] == [20, 3] && chunk::decode(&bytes[2..], &times, 0..101, &mut columns).is_ok()
            }
            _ => {
                head_run(&bytes);
                target == "head_run"
            }
        };
        assert!(is_read, "{target}/{name} is in a format of before: write the seeds anew");
    }
    // And each passes its own door.
    for (target, door) in [
        ("block", block as fn(&[u8])),
        ("chunk", chunk),
        ("head_run", head_run),
        ("manifest", manifest),
        ("totals", totals),
        ("wal_payload", wal_payload),
        ("wal_segment", wal_segment),
    ] {
        for seed in fs::read_dir(folder().join(target)).unwrap() {
            door(&fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
