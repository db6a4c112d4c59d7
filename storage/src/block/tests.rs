use std::path::Path;
use std::sync::Arc;

use kymo_core::batch::{Exemplar, FamilyType, Metadata};
use kymo_core::storage::{ColumnValue, Columns, Tier};
use kymo_core::{Budget, Labels, MatchOp, Matcher, QueryContext, SelectError, Selector};

use super::*;
use crate::chunk::Effort;
use crate::fs::{Fs, SimFs};
use crate::listing::Listing;
use crate::select::VALUES_PER_CHECK;
use crate::verify::{Depth, VerifyReport};

const SHAPE: Shape = Shape { range_ms: 7_200_000, chunk_samples: 480, effort: Effort::Small, tier: Tier::Raw };

fn labels(n: u32) -> Labels {
    let mut pairs = vec![("__name__", "up".to_owned()), ("n", n.to_string())];
    if n.is_multiple_of(3) {
        pairs.push(("odd", "no".to_owned()));
    }
    Labels::from_pairs(pairs)
}

fn open(disk: &SimFs, path: &Path) -> Block {
    let cache = Arc::new(BlockCache::new(&Budget::unlimited(), 8 << 20));
    Block::open(disk, path, &Budget::unlimited(), &cache).unwrap()
}

/// Series of `samples` samples, one every 1,000 ms from 0 on: the number of the series plus that of the sample.
fn write(disk: &SimFs, path: &Path, series: u32, samples: i64, shape: Shape) {
    let mut writer = BlockWriter::create(disk, path, 12, shape).unwrap();
    let mut sorted: Vec<u32> = (0..series).collect();
    sorted.sort_by_key(|n| labels(*n));
    for n in sorted {
        writer.series(&labels(n));
        let mut columns = Columns::default();
        for sample in 0..samples {
            let value = f64::from(n) + if n == 5 { 0.0 } else { sample as f64 };
            columns.push(1_000 * sample, 0, ColumnValue::Float(value));
        }
        writer.samples(&columns).unwrap();
        if n == 1 {
            writer.exemplars(&[Exemplar { labels: labels(7), value: 0.25, time_ms: 500 }]);
        }
    }
    let up = Metadata { family_type: FamilyType::Gauge, unit: String::new(), help: "Up.".into() };
    writer.finish(&[("up".into(), vec![up])]).unwrap();
}

fn numbers(block: &Block, what: &Selector) -> Vec<usize> {
    let mut found = Vec::new();
    block
        .select(what, &QueryContext::unlimited(), |number, labels, chunks| {
            assert_eq!(*labels, block.labels(number)?);
            assert!(!chunks.is_empty());
            found.push(number);
            Ok(())
        })
        .unwrap();
    found
}

#[test]
fn the_page_s_worked_example_is_what_is_written() {
    let (disk, path) = (SimFs::new(1), Path::new("/a.block"));
    write(&disk, path, 1, 3, Shape { effort: Effort::Fast, ..SHAPE });
    let bytes = disk.read_file(path).unwrap();
    let page = include_str!("../../../docs/format/block.md");
    assert_eq!(crate::format_page::example(page), bytes, "{}", crate::format_page::hex(&bytes));
}

#[test]
fn a_block_reads_back() {
    let (disk, path) = (SimFs::new(2), Path::new("/a.block"));
    for effort in [Effort::Fast, Effort::Small] {
        write(&disk, path, 30, 2_000, Shape { effort, ..SHAPE });
        let block = open(&disk, path);
        assert_eq!((block.len(), block.footer().samples, block.footer().sequence), (30, 60_000, 12));
        assert_eq!((block.footer().min_time_ms, block.footer().max_time_ms), (0, 1_999_000));
        assert_eq!(block.footer().level, u64::from(effort == Effort::Small));
        for n in 0..30 {
            let series = block.find(labels(n).as_ref()).unwrap().unwrap();
            assert_eq!(block.labels(series).unwrap(), labels(n));
            let mut columns = Columns::default();
            for chunk in block.chunks(series).unwrap() {
                block.read(&chunk, 4_000, 1_812_000, &mut columns).unwrap();
            }
            assert_eq!(columns.times, (5..=1_812).map(|t| t * 1_000).collect::<Vec<i64>>());
            assert_eq!(columns.floats[5], f64::from(n) + if n == 5 { 0.0 } else { 10.0 });
            assert_eq!(columns.floats.len(), 1_808);
            let sample = |time_ms| {
                let mut found = [None];
                block.samples(series, &[time_ms], |_| false, &mut found).unwrap();
                found[0].take()
            };
            assert!(sample(3_000).is_some() && sample(3_001).is_none() && sample(1 << 40).is_none());
            assert_eq!(block.newest(labels(n).as_ref()).unwrap(), Some(1_999_000));
        }
        assert_eq!(block.find(labels(99).as_ref()).unwrap(), None);
        assert_eq!(block.newest(labels(99).as_ref()).unwrap(), None);
        assert_eq!(block.exemplars().unwrap()[0].1[0].value, 0.25);
        assert_eq!(block.metadata().unwrap()[0].0, "up");
        disk.remove(path).unwrap();
    }
}

#[test]
fn chunks_of_one_scrape_share_their_times() {
    let (disk, path) = (SimFs::new(2), Path::new("/a.block"));
    write(&disk, path, 200, 2_000, SHAPE);
    let block = open(&disk, path);
    let mut statistics = BlockStatistics::default();
    statistics.add(&block).unwrap();
    assert_eq!(statistics.bytes(), block.bytes());
    assert_eq!((statistics.samples, statistics.series, statistics.blocks), (400_000, 200, 1));
    assert!(statistics.time_columns <= 5 && statistics.time_bytes < 200, "{statistics:?}");
    assert_eq!(statistics.encodings.iter().map(|e| e.samples).sum::<u64>(), 400_000);
    let constants = statistics.encodings.iter().find(|e| e.name == "constant").unwrap();
    assert_eq!((constants.samples, constants.bytes), (2_000, 0));
}

#[test]
fn matchers_find_what_they_say() {
    let (disk, path) = (SimFs::new(2), Path::new("/a.block"));
    // More series than a page holds.
    write(&disk, path, 1_300, 2, SHAPE);
    let block = open(&disk, path);
    let all: Vec<Labels> = (0..block.len()).map(|n| block.labels(n).unwrap()).collect();
    for (name, op, value) in [
        ("n", MatchOp::Equal, "17"),
        ("n", MatchOp::Equal, "9999"),
        ("n", MatchOp::NotEqual, "17"),
        ("n", MatchOp::Regex, "1."),
        ("n", MatchOp::Regex, "12.*"),
        ("n", MatchOp::Regex, ".*7"),
        ("n", MatchOp::Regex, ".+"),
        ("n", MatchOp::Regex, ".*"),
        ("n", MatchOp::NotRegex, "12.*"),
        ("n", MatchOp::NotRegex, "1[0-9]+"),
        ("n", MatchOp::Regex, "1|2|77|9999"),
        ("n", MatchOp::NotRegex, "1|2|77|9999"),
        ("odd", MatchOp::Equal, ""),
        ("odd", MatchOp::NotEqual, ""),
        ("odd", MatchOp::Regex, "|no"),
        ("odd", MatchOp::NotRegex, ".+"),
        ("odd", MatchOp::NotRegex, ".*"),
        ("missing", MatchOp::Equal, ""),
        ("missing", MatchOp::NotEqual, ""),
        ("__name__", MatchOp::Regex, "u.+"),
    ] {
        let given = || Matcher::new(name, op, value).unwrap();
        let all_of = [
            vec![given()],
            vec![given(), Matcher::new("odd", MatchOp::NotEqual, "no").unwrap()],
            // Several of one label.
            vec![given(), Matcher::new("n", MatchOp::NotRegex, "1[1-7]*").unwrap()],
            vec![
                Matcher::new("n", MatchOp::NotEqual, "12").unwrap(),
                given(),
                Matcher::new("n", MatchOp::Regex, "1.*|77").unwrap(),
            ],
        ];
        for matchers in all_of {
            let what = Selector::new(matchers, -1, 5_000);
            let wanted: Vec<usize> = (0..all.len()).filter(|n| what.matches(all[*n].as_ref())).collect();
            assert_eq!(numbers(&block, &what), wanted, "{name}{op:?}{value}");
            let (mut values, mut names) = (Listing::new(), Listing::new());
            block.label_values("n", &what, &QueryContext::unlimited(), &mut values).unwrap();
            let mut wanted: Vec<&str> = wanted.iter().filter_map(|n| all[*n].get("n")).collect();
            wanted.sort_unstable();
            assert!(values.sorted().eq(wanted.iter().copied()), "{name}{op:?}{value}");
            block.label_names(&what, &QueryContext::unlimited(), &mut names).unwrap();
            assert_eq!(names.sorted().next().is_none(), wanted.is_empty());
        }
    }
    let stopping = QueryContext::unlimited();
    stopping.cancel.cancel();
    let what = Selector::new(vec![Matcher::new("n", MatchOp::Regex, ".*7").unwrap()], -1, 5_000);
    let stopped = block.select(&what, &stopping, |_, _, _| panic!("nobody wants it"));
    assert!(matches!(stopped, Err(SelectError::Cancelled)));
    let asked = std::cell::Cell::new(0);
    let check = || {
        asked.set(asked.get() + 1);
        Ok(())
    };
    assert_eq!(block.matching(&what.matchers, &check).unwrap().iter().count(), 130);
    assert_eq!(asked.get(), 1_300usize.div_ceil(VALUES_PER_CHECK), "often enough");
    let at = |start, end| numbers(&block, &Selector::new(vec![Matcher::equal("n", "1")], start, end)).len();
    assert_eq!([at(-5, -1), at(-1, 0), at(0, 1), at(999, 1_000), at(1_000, 30_000)], [0, 1, 1, 1, 0]);
}

#[test]
fn floats_asked_for_again_are_kept_and_read_as_they_were() {
    let (disk, path) = (SimFs::new(6), Path::new("/a.block"));
    let mut writer = BlockWriter::create(&disk, path, 12, SHAPE).unwrap();
    let odd = [f64::NAN, -0.0, f64::INFINITY, 1e-300];
    for n in 0..4 {
        writer.series(&labels(n));
        let mut columns = Columns::default();
        for sample in 0..400i64 {
            let value = odd.get(sample as usize % 9).copied().unwrap_or((sample * sample) as f64 / 7.0);
            match n {
                1 if sample % 100 == 99 => columns.push(1_000 * sample, 0, ColumnValue::Stale),
                2 => columns.push(1_000 * sample, 1_000 * sample - 7, ColumnValue::Float(value)),
                _ => columns.push(1_000 * sample, 0, ColumnValue::Float(value)),
            }
        }
        writer.samples(&columns).unwrap();
    }
    writer.finish(&[]).unwrap();
    let budget = Budget::unlimited();
    let cache = Arc::new(BlockCache::new(&Budget::unlimited(), 1 << 20));
    let block = Block::open(&disk, path, &budget, &cache).unwrap();
    let read = |series: usize, (start_ms, end_ms): (i64, i64)| {
        let mut columns = Columns::default();
        for chunk in block.chunks(series).unwrap() {
            block.read(&chunk, start_ms, end_ms, &mut columns).unwrap();
        }
        let bits: Vec<u64> = columns.floats.iter().map(|value| value.to_bits()).collect();
        (columns.times, columns.runs, bits, columns.starts)
    };
    let windows = [(-1, 400_000), (9_000, 301_500), (350_000, 350_500), (398_500, 500_000)];
    for series in 0..block.len() {
        let fresh: Vec<_> = windows.iter().map(|window| read(series, *window)).collect();
        cache.clear();
        let first: Vec<_> = windows.iter().map(|window| read(series, *window)).collect();
        let before = cache.bytes();
        let again: Vec<_> = windows.iter().map(|window| read(series, *window)).collect();
        assert!(fresh == first && first == again && first[0].0.len() == 400, "series {series}");
        assert_eq!(cache.bytes(), before, "kept once");
    }
    assert!(cache.bytes() > 400 * 8, "that of the last series is kept");
    let cache = Arc::new(BlockCache::new(&budget, 1 << 20));
    let lone = Block::open(&disk, path, &budget, &cache).unwrap();
    let chunk = lone.chunks(0).unwrap()[0];
    lone.read(&chunk, -1, 400_000, &mut Columns::default()).unwrap();
    let once = cache.bytes();
    lone.read(&chunk, -1, 400_000, &mut Columns::default()).unwrap();
    assert!(cache.bytes() >= once + 400 * 8, "one look keeps nothing unpacked, a second does");
}

/// Everything that is wrong with a block, and its samples.
fn checked(disk: &SimFs, path: &Path, depth: Depth) -> VerifyReport {
    let mut report = VerifyReport::default();
    let cache = Arc::new(BlockCache::new(&Budget::unlimited(), 1 << 20));
    match Block::open(disk, path, &Budget::unlimited(), &cache) {
        Ok(block) => check(&block, depth, &mut report, &mut |_| {}),
        Err(error) => report.error(path, &error),
    }
    report
}

#[test]
fn every_flip_is_noticed_and_every_cut_is_an_error() {
    let path = Path::new("/a.block");
    let disk = SimFs::new(3);
    write(&disk, path, 3, 9, SHAPE);
    let bytes = disk.read_file(path).unwrap();
    for depth in [Depth::Structure, Depth::Samples] {
        let report = checked(&disk, path, depth);
        assert!(report.is_sound(), "{:?}", report.faults);
        assert_eq!((report.series, report.samples), (3, 27));
    }
    for at in 0..bytes.len() as u64 {
        for bit in 0..8 {
            disk.corrupt(path, at, 1 << bit).unwrap();
            let report = checked(&disk, path, Depth::Structure);
            assert!(!report.is_sound(), "bit {bit} of byte {at} went unnoticed");
            assert!(report.faults.iter().all(|fault| fault.path == path), "{:?}", report.faults);
            disk.corrupt(path, at, 1 << bit).unwrap();
        }
    }
    for len in (0..bytes.len() as u64).rev() {
        disk.open(path, crate::fs::OpenMode::Append).unwrap().set_len(len).unwrap();
        assert!(!checked(&disk, path, Depth::Structure).is_sound(), "cut at {len}");
    }
}

#[test]
fn a_damaged_chunk_is_told_with_its_series_and_place() {
    let path = Path::new("/a.block");
    let disk = SimFs::new(3);
    write(&disk, path, 3, 9, SHAPE);
    disk.corrupt(path, HEADER_LEN as u64 + 1, 4).unwrap();
    let report = checked(&disk, path, Depth::Structure);
    let [chunk, section] = &report.faults[..] else { panic!("{:?}", report.faults) };
    assert!(chunk.series.is_some() && chunk.offset == Some(16) && chunk.what.contains("checksum"), "{chunk:?}");
    assert!(section.series.is_none() && section.what.contains("section of chunks"), "{section:?}");
}

#[test]
fn older_and_newer_blocks_are_told_apart_from_damaged_ones() {
    let (disk, path) = (SimFs::new(4), Path::new("/a.block"));
    write(&disk, path, 1, 1, SHAPE);
    let cache = Arc::new(BlockCache::new(&Budget::unlimited(), 0));
    let open = || Block::open(&disk, path, &Budget::unlimited(), &cache).unwrap_err();
    disk.corrupt(path, 8, 1).unwrap();
    let error = open();
    assert!(matches!(error, crate::StorageError::NewerVersion { version: 3, supported: 2, .. }), "{error}");
    disk.corrupt(path, 8, 2).unwrap();
    assert!(matches!(open(), crate::StorageError::Damaged { .. }), "the checksum belongs to another version");
    let mut old = header();
    old[8] = 1;
    let crc = crc32fast::hash(&old[..12]).to_le_bytes();
    for (at, byte) in old[..12].iter().chain(&crc).enumerate() {
        let now = disk.read_file(path).unwrap()[at];
        if now != *byte {
            disk.corrupt(path, at as u64, now ^ byte).unwrap();
        }
    }
    let error = open();
    assert!(matches!(error, crate::StorageError::OlderVersion { version: 1, supported: 2, .. }), "{error}");
}
