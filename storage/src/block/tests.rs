use std::path::Path;

use kymo_core::batch::{Exemplar, FamilyType, Metadata};
use kymo_core::storage::{ColumnValue, Columns};
use kymo_core::{Budget, Labels, MatchOp, Matcher, Selector};

use super::*;
use crate::fs::{Fs, SimFs};

fn labels(n: u32) -> Labels {
    Labels::from_pairs([("__name__", "up".to_owned()), ("n", n.to_string())])
}

fn write(disk: &SimFs, path: &Path, series: u32, samples: i64) {
    let mut writer = BlockWriter::create(disk, path, 12).unwrap();
    let mut sorted: Vec<u32> = (0..series).collect();
    sorted.sort_by_key(|n| labels(*n));
    for n in sorted {
        writer.series(&labels(n));
        for chunk in 0..2 {
            let mut columns = Columns::default();
            for sample in 0..samples {
                let time = 1_000 * (chunk * samples + sample);
                columns.push(time, 0, ColumnValue::Float(f64::from(n) + sample as f64));
            }
            writer.samples(&columns).unwrap();
        }
        if n == 1 {
            writer.exemplars(&[Exemplar { labels: labels(7), value: 0.25, time_ms: 500 }]);
        }
    }
    let up = Metadata { family_type: FamilyType::Gauge, unit: String::new(), help: "Up.".into() };
    writer.finish(&[("up".into(), vec![up])]).unwrap();
}

#[test]
fn the_page_s_worked_example_is_what_is_written() {
    let (disk, path) = (SimFs::new(1), Path::new("/a.block"));
    write(&disk, path, 1, 1);
    let bytes = disk.read_file(path).unwrap();
    let page = include_str!("../../../docs/format/block.md");
    assert_eq!(crate::format_page::example(page), bytes, "{}", crate::format_page::hex(&bytes));
}

#[test]
fn a_block_reads_back() {
    let (disk, path) = (SimFs::new(2), Path::new("/a.block"));
    write(&disk, path, 30, 10);
    let block = Block::open(&disk, path, &Budget::unlimited()).unwrap();
    assert_eq!((block.len(), block.footer().samples, block.footer().sequence), (30, 600, 12));
    assert_eq!((block.footer().min_time_ms, block.footer().max_time_ms), (0, 19_000));
    for n in 0..30 {
        let series = block.find(labels(n).as_ref()).unwrap();
        assert_eq!(block.labels(series), labels(n));
        let mut columns = Columns::default();
        for meta in block.chunks(series) {
            block.read(meta, 4_000, 12_000, &mut columns).unwrap();
        }
        assert_eq!(columns.times, (5..=12).map(|t| t * 1_000).collect::<Vec<i64>>());
        assert_eq!(columns.floats[5], f64::from(n));
        assert!(block.sample(series, 3_000).unwrap().is_some() && block.sample(series, 3_001).unwrap().is_none());
    }
    assert_eq!(block.find(labels(99).as_ref()), None);
    assert_eq!(block.exemplars().unwrap()[0].1[0].value, 0.25);
    assert_eq!(block.metadata().unwrap()[0].0, "up");
    let what = |op, value: &str, start, end| Selector::new(vec![Matcher::new("n", op, value).unwrap()], start, end);
    assert_eq!(block.select(&what(MatchOp::Regex, "1.", 0, 5_000)).len(), 10);
    assert_eq!(block.select(&what(MatchOp::NotEqual, "1", -1, 0)).len(), 29);
    assert_eq!(block.select(&what(MatchOp::Equal, "1", 19_000, 30_000)).len(), 0);
    assert_eq!(block.select(&what(MatchOp::Equal, "1", -5, -1)).len(), 0);
}

#[test]
fn every_flip_is_noticed_or_harmless_and_every_cut_is_an_error() {
    let path = Path::new("/a.block");
    let disk = SimFs::new(3);
    write(&disk, path, 3, 3);
    let bytes = disk.read_file(path).unwrap();
    assert_eq!(check_whole(&disk, path).unwrap(), 18);
    for at in 0..bytes.len() as u64 {
        for bit in 0..8 {
            disk.corrupt(path, at, 1 << bit).unwrap();
            let found = check_whole(&disk, path);
            assert!(found.is_err(), "bit {bit} of byte {at} went unnoticed: {found:?}");
            let text = found.unwrap_err().to_string();
            assert!(text.contains("/a.block"), "{text}");
            disk.corrupt(path, at, 1 << bit).unwrap();
        }
    }
    for len in (0..bytes.len() as u64).rev() {
        disk.open(path, crate::fs::OpenMode::Append).unwrap().set_len(len).unwrap();
        assert!(check_whole(&disk, path).is_err(), "cut at {len}");
    }
}

#[test]
fn a_newer_block_is_told_apart_from_a_damaged_one() {
    let (disk, path) = (SimFs::new(4), Path::new("/a.block"));
    write(&disk, path, 1, 1);
    disk.corrupt(path, 8, 3).unwrap();
    let error = Block::open(&disk, path, &Budget::unlimited()).unwrap_err();
    assert!(matches!(error, crate::StorageError::NewerVersion { version: 2, supported: 1, .. }), "{error}");
}
