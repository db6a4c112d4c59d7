use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kymo_core::Labels;
use kymo_core::batch::{Exemplar, FamilyType, Metadata};
use proptest::prelude::*;

use super::chain::Chain;
use super::frame::{FRAME_HEADER_LEN, SEGMENT_HEADER_LEN, seal_frame, segment_header};
use super::writer::FrameSpan;
use super::*;
use crate::fs::{Fault, FaultAt, Fs, OpKind, SimFs};
use crate::options::SyncPolicy;

fn labels(series: u32) -> Labels {
    Labels::from_pairs([("__name__", "up".to_owned()), ("n", series.to_string())])
}

fn encode(frame: &FrameBuilder, chain: &mut Chain) -> Vec<u8> {
    let mut payload = Vec::new();
    frame.encode(3, chain, |series| Some(labels(series)), &mut payload);
    payload
}

/// The payloads of the page's example: a scrape, and the one behind it.
fn payloads() -> [Vec<u8>; 2] {
    let mut chain = Chain::new(1);
    let mut frame = FrameBuilder::default();
    frame.float(5, 1_700_000_000_000, 0, 1.0f64.to_bits());
    frame.float(6, 1_700_000_000_000, 0, 300.0f64.to_bits());
    frame.metadata("up", &Metadata { family_type: FamilyType::Gauge, unit: String::new(), help: "Up.".into() });
    let first = encode(&frame, &mut chain);
    frame.clear();
    frame.float(5, 1_700_000_015_000, 0, 1.0f64.to_bits());
    frame.float(6, 1_700_000_015_000, 0, 301.0f64.to_bits());
    [first, encode(&frame, &mut chain)]
}

/// Adds what a record says, of definitions each for itself.
fn push(record: Record<'_>, to: &mut Vec<String>) {
    match record {
        Record::Define(definitions, _) => to.extend(definitions.iter().map(|one| format!("Define{one:?}"))),
        other => to.push(format!("{other:?}")),
    }
}

fn records(payload: &[u8], chain: &mut ChainReader) -> Result<Vec<String>, crate::codec::Malformed> {
    let mut all = Vec::new();
    decode(payload, chain, Footing::Firm, |record| push(record, &mut all))?;
    Ok(all)
}

#[test]
fn the_page_s_worked_example_is_what_is_written() {
    let mut segment = segment_header(7).to_vec();
    for payload in payloads() {
        let at = segment.len();
        segment.extend_from_slice(&[0; FRAME_HEADER_LEN]);
        segment.extend_from_slice(&payload);
        seal_frame(&mut segment[at..], 7, at as u64);
    }
    let page = include_str!("../../../docs/format/wal.md");
    assert_eq!(crate::format_page::example(page), segment, "{}", crate::format_page::hex(&segment));
}

/// A row of a batch, as a test draws it.
#[derive(Debug, Clone)]
struct Drawn {
    series: u32,
    time_ms: i64,
    start_ms: i64,
    bits: u64,
    is_histogram: bool,
}

fn histogram(sum: u64) -> kymo_core::NativeHistogram {
    kymo_core::NativeHistogram {
        schema: 0,
        hint: Default::default(),
        zero_threshold: 0.0,
        counts: kymo_core::histogram::HistogramCounts::Float(Default::default()),
        sum: f64::from_bits(sum),
        positive_spans: vec![],
        negative_spans: vec![],
        custom_values: Arc::from([]),
    }
}

fn builder(rows: &[Drawn]) -> FrameBuilder {
    let mut frame = FrameBuilder::default();
    for row in rows {
        if row.is_histogram {
            frame.histogram(row.series, row.time_ms, row.start_ms);
            frame.put_histogram(&histogram(row.bits));
        } else {
            frame.float(row.series, row.time_ms, row.start_ms, row.bits);
        }
    }
    frame
}

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let value = prop_oneof![4 => (0..5u64).prop_map(|n| (n as f64).to_bits()), 1 => any::<u64>()];
    let time = prop_oneof![4 => Just(1_000i64), 1 => any::<i64>()];
    let start = prop_oneof![6 => Just(0i64), 1 => any::<i64>()];
    let series = prop_oneof![20 => 0..40u32, 1 => 0..20_000u32];
    let row = (series, time, start, value, prop::bool::weighted(0.05));
    let row = row.prop_map(|(series, time_ms, start_ms, bits, is_histogram)| Drawn {
        series,
        time_ms,
        start_ms,
        bits,
        is_histogram,
    });
    prop::collection::vec(row, 0..60)
}

/// The rows of a payload.
fn rows_of(payload: &[u8], chain: &mut ChainReader) -> Vec<Drawn> {
    let mut rows = Vec::new();
    let read = decode(payload, chain, Footing::Firm, |record| match record {
        Record::Float { series, time_ms, start_ms, bits, .. } => {
            let series = series.index() as u32;
            rows.push(Drawn { series, time_ms, start_ms, bits, is_histogram: false });
        }
        Record::Histogram { series, time_ms, start_ms, value, .. } => {
            let (series, bits) = (series.index() as u32, value.sum.to_bits());
            rows.push(Drawn { series, time_ms, start_ms, bits, is_histogram: true });
        }
        Record::Define(..)
        | Record::Added { .. }
        | Record::Exemplar(..)
        | Record::Metadata(..)
        | Record::Delete(..) => {}
    });
    read.unwrap();
    rows
}

#[test]
fn many_definitions_are_given_in_order_and_what_their_reader_notes_stays_with_the_rows() {
    let (mut chain, mut frame) = (Chain::new(1), FrameBuilder::default());
    (0..200).for_each(|series| frame.float(3 * series, 1_000, 0, 0));
    let first = encode(&frame, &mut chain);
    frame.clear();
    (0..200).rev().for_each(|series| frame.float(3 * series, 2_000, 0, 0));
    let second = encode(&frame, &mut chain);
    let mut reader = ChainReader::default();
    let (mut defined, mut rows) = (Vec::new(), 0);
    let mut read = |payload: &[u8], reader: &mut ChainReader| {
        defined.clear();
        decode(payload, reader, Footing::Firm, |record| match record {
            Record::Define(definitions, numbers) => {
                assert_eq!(definitions.len(), numbers.len());
                for ((series, found), number) in definitions.iter().zip(numbers) {
                    assert_eq!(found.to_labels(), labels(series.index() as u32));
                    assert_eq!(*number, NONE);
                    // Of each fourth nothing is noted until a row comes.
                    if series.index() % 4 != 0 {
                        *number = 1_000_000 + series.index() as u32;
                    }
                    defined.push(series.index() as u32);
                }
            }
            Record::Float { number, series, time_ms, .. } => {
                let is_unknown = series.index() % 4 == 0 && time_ms == 1_000;
                assert_eq!(*number, if is_unknown { NONE } else { 1_000_000 + series.index() as u32 });
                *number = 1_000_000 + series.index() as u32;
                rows += 1;
            }
            other => panic!("{other:?}"),
        })
        .map(|()| defined.clone())
    };
    let in_order: Vec<u32> = (0..200).map(|series| 3 * series).collect();
    assert_eq!(read(&first, &mut reader).unwrap(), in_order);
    assert_eq!(read(&second, &mut reader).unwrap(), Vec::<u32>::new());
    assert_eq!(rows, 400);
    // Kept over a key frame; but the same series numbers of another opening are other series.
    for (opening, is_known) in [(3, true), (4, false), (3, false)] {
        let (mut payload, mut rows) = (Vec::new(), 0);
        assert!(frame.encode(opening, &mut Chain::new(1), |_| None, &mut payload));
        let each = |record: Record<'_>| {
            let Record::Float { number, .. } = record else { panic!("{record:?}") };
            assert_eq!(*number != NONE, is_known);
            rows += 1;
        };
        decode(&payload, &mut reader, Footing::Firm, each).unwrap();
        assert_eq!(rows, 200);
    }
    // Cut short anywhere, those before the cut are given, and no other.
    let mut counts = std::collections::BTreeSet::new();
    for len in 0..first.len() {
        let mut given = Vec::new();
        let read = decode(&first[..len], &mut ChainReader::default(), Footing::Firm, |record| {
            if let Record::Define(definitions, _) = record {
                given.extend(definitions.iter().map(|(series, _)| series.index() as u32));
            }
        });
        assert!(read.is_err());
        assert!(in_order.starts_with(&given), "{given:?}");
        counts.insert(given.len());
    }
    // With fewer bytes than so many definitions take at the least, none is read.
    assert!((64..=200).all(|count| counts.contains(&count)), "{counts:?}");
}

proptest! {
    #[test]
    fn frames_say_what_was_put_into_them_whatever_they_lean_on(frames in prop::collection::vec(drawn(), 1..80)) {
        let (mut chain, mut reader) = (Chain::new(1), ChainReader::default());
        for drawn in frames {
            let payload = encode(&builder(&drawn), &mut chain);
            prop_assert_eq!(format!("{:?}", rows_of(&payload, &mut reader)), format!("{drawn:?}"));
        }
    }

    #[test]
    fn a_reader_that_joins_at_a_key_frame_reads_what_one_from_the_start_reads(frames in prop::collection::vec(drawn(), 70..90)) {
        let mut chain = Chain::new(1);
        let payloads: Vec<_> = frames.iter().map(|drawn| encode(&builder(drawn), &mut chain)).collect();
        let mut reader = ChainReader::default();
        let pairs = payloads.iter().zip(&frames).enumerate().skip(1);
        for (_, (payload, drawn)) in pairs.skip_while(|(_, (payload, _))| !record::is_key(payload)) {
            prop_assert_eq!(format!("{:?}", rows_of(payload, &mut reader)), format!("{drawn:?}"));
        }
    }
}

#[test]
fn a_frame_carries_exemplars_and_metadata_also_without_rows() {
    let mut frame = FrameBuilder::default();
    frame.exemplar(9, &Exemplar { labels: Labels::empty(), value: f64::NAN, time_ms: -4 });
    frame.metadata("m", &Metadata::default());
    let payload = encode(&frame, &mut Chain::new(1));
    let all = records(&payload, &mut ChainReader::default()).unwrap();
    assert_eq!(all.len(), 3, "definition, exemplar, metadata: {all:?}");
    assert!(all[1].contains("value: NaN, time_ms: -4"), "{all:?}");
}

#[test]
fn a_steady_scrape_takes_about_a_byte_a_sample() {
    let mut chain = Chain::new(1);
    let mut bytes = 0;
    for scrape in 0..640i64 {
        let rows = (0..1_000u32).map(|series| {
            // Six in ten stand still, three count, one moves in decimals.
            let value = match series % 10 {
                0..6 => f64::from(series),
                6..9 => (scrape * 3 + i64::from(series)) as f64,
                _ => (scrape * 37 % 100) as f64 / 10.0,
            };
            Drawn { series, time_ms: scrape * 15_000, start_ms: 0, bits: value.to_bits(), is_histogram: false }
        });
        let payload = encode(&builder(&rows.collect::<Vec<_>>()), &mut chain);
        bytes += if scrape > 0 { payload.len() } else { 0 };
    }
    assert!(bytes < 640_000 * 2, "{bytes} bytes for 640,000 samples");
}

#[test]
fn the_log_takes_no_more_per_sample_where_a_scrape_has_more_frames_than_key_frames_are_apart() {
    // 200 frames a scrape; every value changes by one.
    const SERIES: u32 = 20_000;
    let (mut chain, mut reader) = (Chain::new(1), ChainReader::default());
    let (mut bytes, mut samples) = (0, 0);
    for scrape in 0..24i64 {
        for first in (0..SERIES).step_by(100) {
            let rows = (first..first + 100).map(|series| {
                let value = scrape as f64 + f64::from(series);
                Drawn { series, time_ms: scrape * 15_000, start_ms: 0, bits: value.to_bits(), is_histogram: false }
            });
            let drawn: Vec<_> = rows.collect();
            let payload = encode(&builder(&drawn), &mut chain);
            assert_eq!(format!("{:?}", rows_of(&payload, &mut reader)), format!("{drawn:?}"));
            if scrape > 0 {
                bytes += payload.len();
                samples += drawn.len();
            }
        }
    }
    assert!(bytes < samples * 4, "{bytes} bytes for {samples} samples");
}

#[test]
fn a_segment_is_not_closed_while_it_is_mostly_definitions() {
    const MIB: u64 = 1 << 20;
    let payload = vec![7; MIB as usize];
    for (definitions, closed_at) in [(0, 64), (7 * MIB, 64), (9 * MIB, 72)] {
        let disk = SimFs::new(11);
        let mut log = writer(&disk, SyncPolicy::Never);
        let mut written = 0;
        while log.generation() == 1 {
            let mut bytes = vec![0; FRAME_HEADER_LEN];
            bytes.extend_from_slice(&payload);
            let span = FrameSpan { start: 0, end: bytes.len(), is_key: false, definitions };
            log.write(&mut bytes, &[span], Duration::ZERO).unwrap();
            written += 1;
        }
        assert_eq!(written, closed_at, "{definitions} bytes of definitions");
    }
}

#[test]
fn a_series_is_defined_once_in_a_generation() {
    let mut chain = Chain::new(1);
    let frame = builder(&[Drawn { series: 5, time_ms: 1, start_ms: 0, bits: 1, is_histogram: false }]);
    let mut reader = ChainReader::default();
    let mut defines = |payload: &[u8]| records(payload, &mut reader).unwrap()[0].starts_with("Define");
    let defined: Vec<bool> = (0..100).map(|_| defines(&encode(&frame, &mut chain))).collect();
    assert!(defined[0] && !defined[1..].contains(&true), "{defined:?}");
    chain.restart(2);
    assert!(defines(&encode(&frame, &mut chain)));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(all) = records(&bytes, &mut ChainReader::default()) {
            prop_assert!(all.len() <= 8 * bytes.len());
        }
    }

    #[test]
    fn a_cut_payload_is_refused(at in any::<usize>()) {
        let [first, second] = payloads();
        prop_assert!(records(&first[..at % first.len()], &mut ChainReader::default()).is_err());
        let mut chain = ChainReader::default();
        records(&first, &mut chain).unwrap();
        prop_assert!(records(&second[..at % second.len()], &mut chain).is_err());
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

/// A payload that says one thing, and leans on nothing.
fn note(text: &str) -> Vec<u8> {
    let mut frame = FrameBuilder::default();
    frame.metadata(text, &Metadata::default());
    encode(&frame, &mut Chain::new(1))
}

/// Writes notes as one group.
fn write(log: &mut LogWriter, texts: &[&str]) -> std::io::Result<()> {
    let (mut bytes, mut frames) = (Vec::new(), Vec::new());
    for text in texts {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; FRAME_HEADER_LEN]);
        bytes.extend_from_slice(&note(text));
        frames.push(FrameSpan { start, end: bytes.len(), is_key: true, definitions: 0 });
    }
    log.make_room()?;
    log.write(&mut bytes, &frames, Duration::ZERO)
}

/// All notes on the disk, in order.
fn replay(disk: &SimFs) -> (Vec<String>, Vec<LogDamage>, u64) {
    let (mut notes, mut damage, mut torn) = (Vec::new(), Vec::new(), 0);
    for entry in disk.list(Path::new("/wal")).unwrap() {
        let number = segment_number(&entry.name).unwrap();
        let path = Path::new("/wal").join(&entry.name);
        let mut reader = SegmentReader::open(disk, &path, number).unwrap();
        let mut chain = ChainReader::default();
        while let Some(frame) = reader.next().unwrap() {
            let read = decode(frame.payload, &mut chain, frame.footing, |record| {
                if let Record::Metadata(family, _) = record {
                    notes.push(family);
                }
            });
            read.unwrap();
        }
        damage.append(&mut reader.damage);
        if let ReplayEnd::Torn { cut, .. } = reader.end {
            torn += cut;
        }
    }
    (notes, damage, torn)
}

#[test]
fn a_failed_write_is_cut_back_and_the_next_one_succeeds() {
    let disk = SimFs::new(1);
    let mut log = writer(&disk, SyncPolicy::Never);
    write(&mut log, &["one"]).unwrap();
    disk.fail_next(OpKind::Write, Fault::Short { bytes: 9 });
    disk.fail(FaultAt { op: OpKind::Write, nth: disk.count(OpKind::Write) + 2, fault: Fault::NoSpace });
    write(&mut log, &["two", "three"]).unwrap_err();
    write(&mut log, &["four"]).unwrap();
    assert_eq!(replay(&disk), (vec!["one".to_owned(), "four".to_owned()], vec![], 0));
}

#[test]
fn after_a_failed_sync_unsynced_frames_go_to_a_new_file_and_survive_power_loss() {
    let disk = SimFs::new(2);
    let mut log = writer(&disk, SyncPolicy::Interval);
    disk.sync_dir(Path::new("/")).unwrap();
    write(&mut log, &["one"]).unwrap();
    let job = log.begin_sync().unwrap();
    let done = job.run();
    log.finish_sync(job, done).unwrap();
    write(&mut log, &["two"]).unwrap();
    let generation = log.generation();
    disk.fail_next(OpKind::SyncData, Fault::Io);
    let job = log.begin_sync().unwrap();
    let done = job.run();
    assert!(done.is_err());
    log.finish_sync(job, done).unwrap();
    assert!(log.generation() > generation, "definitions must be written again");
    for _ in 0..20 {
        // Every crash draws another outcome of what was not synced.
        let (mut notes, ..) = replay(&disk.crash(crate::fs::CrashKind::PowerLoss));
        notes.dedup();
        assert_eq!(notes, ["one", "two"]);
    }
}

#[test]
fn always_syncs_before_it_acknowledges() {
    for seed in 0..30 {
        let disk = SimFs::new(seed);
        let mut log = writer(&disk, SyncPolicy::Always);
        disk.sync_dir(Path::new("/")).unwrap();
        for n in 0..5u8 {
            write(&mut log, &[&format!("{n:0300}")]).unwrap();
        }
        let (notes, damage, _) = replay(&disk.crash(crate::fs::CrashKind::PowerLoss));
        assert_eq!((notes.len(), damage.len()), (5, 0), "seed {seed}");
    }
}

#[test]
fn a_reader_goes_on_behind_a_damaged_frame_and_names_it() {
    let disk = SimFs::new(3);
    let mut log = writer(&disk, SyncPolicy::Never);
    write(&mut log, &["one", "two", "three"]).unwrap();
    let path = Path::new("/wal").join(segment_name(1));
    let len = (FRAME_HEADER_LEN + note("one").len()) as u64;
    let second = SEGMENT_HEADER_LEN as u64 + len;
    disk.corrupt(&path, second + len - 1, 0x40).unwrap();
    let (notes, damage, torn) = replay(&disk);
    assert_eq!(notes, ["one", "three"]);
    assert_eq!((damage.len(), damage[0].offset, damage[0].bytes, torn), (1, second, len, 0));
    assert_eq!(damage[0].what, "frame payload's checksum is wrong");
}

#[test]
fn damage_costs_the_frames_up_to_the_next_key_frame_and_no_definition() {
    let disk = SimFs::new(8);
    let commit = Commit::new(writer(&disk, SyncPolicy::Never));
    for scrape in 0..200i64 {
        // A series joins with every scrape.
        let drawn = (0..=scrape as u32).map(|series| Drawn {
            series,
            time_ms: scrape,
            start_ms: 0,
            bits: scrape as u64,
            is_histogram: false,
        });
        let frame = builder(&drawn.collect::<Vec<_>>());
        let encode = |chain: &mut _, out: &mut _| frame.encode(3, chain, |series| Some(labels(series)), out);
        let turn = commit.write(Duration::ZERO, encode).unwrap();
        commit.in_turn(turn, || {});
    }
    let path = Path::new("/wal").join(segment_name(1));
    let whole = SegmentReader::open(&disk, &path, 1).unwrap();
    let ends: Vec<u64> = std::iter::successors(Some(whole), |_| None)
        .flat_map(|mut reader| {
            std::iter::from_fn(move || reader.next().unwrap().map(|frame| frame.end)).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(ends.len(), 200);
    // Scrape 70 is damaged; 128 is the next key frame.
    disk.corrupt(&path, ends[70] - 1, 1).unwrap();
    let mut reader = SegmentReader::open(&disk, &path, 1).unwrap();
    let (mut chain, mut scrapes, mut defined) = (ChainReader::default(), std::collections::BTreeSet::new(), 0);
    while let Some(frame) = reader.next().unwrap() {
        let read = decode(frame.payload, &mut chain, frame.footing, |record| match record {
            Record::Float { time_ms, bits, .. } => {
                assert_eq!(bits, time_ms as u64);
                scrapes.insert(time_ms);
            }
            Record::Define(definitions, _) => defined += definitions.len(),
            _ => {}
        });
        read.unwrap();
    }
    assert_eq!(scrapes, (0..70).chain(128..200).collect());
    assert_eq!(defined, 199, "only what the damaged frame itself defines is lost");
    let damage = &reader.damage;
    assert_eq!((damage.len(), damage[0].offset, damage[0].bytes), (1, ends[69], ends[127] - ends[69]), "{damage:?}");
}

#[test]
fn after_a_failed_sync_frames_are_read_without_those_they_leaned_on() {
    let disk = SimFs::new(9);
    let commit = Commit::new(writer(&disk, SyncPolicy::Interval));
    disk.sync_dir(Path::new("/")).unwrap();
    let append = |scrape: i64| {
        let drawn = (0..50u32).map(|series| Drawn {
            series,
            time_ms: scrape,
            start_ms: 0,
            bits: scrape as u64 + u64::from(series),
            is_histogram: series == 7,
        });
        let frame = builder(&drawn.collect::<Vec<_>>());
        let encode = |chain: &mut _, out: &mut _| frame.encode(3, chain, |series| Some(labels(series)), out);
        let turn = commit.write(Duration::ZERO, encode).unwrap();
        commit.in_turn(turn, || {});
    };
    let sync = || {
        let job = commit.writer().begin_sync().unwrap();
        let done = job.run();
        commit.writer().finish_sync(job, done).unwrap();
    };
    for scrape in 0..100 {
        append(scrape);
        if scrape % 30 == 20 {
            sync();
        }
    }
    disk.fail_next(OpKind::SyncData, Fault::Io);
    sync();
    for scrape in 100..110 {
        append(scrape);
    }
    let path = Path::new("/wal").join(segment_name(2));
    let mut reader = SegmentReader::open(&disk, &path, 2).unwrap();
    let (mut chain, mut found) = (ChainReader::default(), Vec::new());
    while let Some(frame) = reader.next().unwrap() {
        found.extend(rows_of(frame.payload, &mut chain));
    }
    assert_eq!(reader.damage, []);
    // Scrapes 81 to 99 were not synced.
    assert_eq!(found.len(), (19 + 10) * 50);
    for (n, row) in found.iter().enumerate() {
        let (scrape, series) = (81 + n as i64 / 50, n as u32 % 50);
        assert_eq!((row.series, row.time_ms, row.bits), (series, scrape, scrape as u64 + u64::from(series)));
    }
}

#[test]
fn every_cut_of_a_segment_gives_a_beginning_of_it() {
    let disk = SimFs::new(4);
    let mut log = writer(&disk, SyncPolicy::Never);
    write(&mut log, &["one", "two", "three"]).unwrap();
    let path = Path::new("/wal").join(segment_name(1));
    let len = disk.read_file(&path).unwrap().len() as u64;
    for cut in (0..len).rev() {
        disk.open(&path, crate::fs::OpenMode::Append).unwrap().set_len(cut).unwrap();
        let (notes, damage, _) = replay(&disk);
        let frame = (FRAME_HEADER_LEN + note("one").len()) as u64;
        let whole = (cut.saturating_sub(SEGMENT_HEADER_LEN as u64) / frame).min(2);
        assert_eq!(
            (notes, damage),
            (["one", "two"].map(str::to_owned)[..whole as usize].to_vec(), vec![]),
            "cut at {cut}"
        );
    }
}

/// Encodes a note behind what the chain has.
fn encode_note(text: &str) -> impl FnMut(&mut Chain, &mut Vec<u8>) -> bool {
    let mut frame = FrameBuilder::default();
    frame.metadata(text, &Metadata::default());
    move |chain, out| frame.encode(3, chain, |series| Some(labels(series)), out)
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
                    let text = format!("{thread} {n}");
                    let turn = commit.write(Duration::ZERO, encode_note(&text)).unwrap();
                    commit.in_turn(turn, || applied.lock().unwrap().push(text));
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..20 {
                commit.quiesced(|writer| {
                    // Whatever was written before has been applied, and nothing else.
                    assert_eq!(replay(&disk).0, *applied.lock().unwrap());
                    writer.generation()
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
    disk.fail_next(OpKind::Write, Fault::NoSpace);
    commit.write(Duration::ZERO, encode_note("lost")).unwrap_err();
    for text in ["kept", "too"] {
        let turn = commit.write(Duration::ZERO, encode_note(text)).unwrap();
        commit.in_turn(turn, || {});
    }
    assert_eq!(replay(&disk), (vec!["kept".to_owned(), "too".to_owned()], vec![], 0));
}

#[test]
fn a_segment_of_another_version_is_refused_by_name() {
    for (version, name) in [(9, "newer"), (1, "older")] {
        let disk = SimFs::new(7);
        let mut header = segment_header(1);
        header[8] = version;
        let crc = crc32fast::hash(&header[..20]);
        header[20..].copy_from_slice(&crc.to_le_bytes());
        disk.create_dir_all(Path::new("/wal")).unwrap();
        let path = Path::new("/wal").join(segment_name(1));
        disk.create_new(&path).unwrap().append_all(&header).unwrap();
        let error = SegmentReader::open(&disk, &path, 1).err().unwrap();
        assert!(error.to_string().contains(&format!("{name} version of Kymo (format {version}")), "{error}");
    }
}

/// What a segment says, record by record; whether it was found damaged or torn.
fn said(disk: &SimFs, path: &Path) -> Option<(Vec<String>, bool)> {
    let mut reader = SegmentReader::open(disk, path, 1).ok()?;
    let (mut chain, mut records) = (ChainReader::default(), Vec::new());
    while let Some(frame) = reader.next().unwrap() {
        let read = decode(frame.payload, &mut chain, frame.footing, |record| push(record, &mut records));
        if let Err(fault) = read {
            reader.note_malformed(fault.what);
        }
    }
    let is_torn = matches!(reader.end, ReplayEnd::Torn { cut, .. } if cut > 0);
    Some((records, is_torn || !reader.damage.is_empty()))
}

#[test]
fn every_flip_and_cut_of_a_segment_with_rows_of_every_kind_is_told_and_makes_nothing_up() {
    use kymo_core::batch::{AddedValue, Increment, Total};

    use crate::increments::Added;
    let disk = SimFs::new(12);
    let commit = Commit::new(writer(&disk, SyncPolicy::Never));
    for scrape in 0..3i64 {
        let mut frame = FrameBuilder::default();
        let time_ms = scrape * 15_000;
        frame.float(1, time_ms, 0, (scrape as f64).to_bits());
        frame.float(2, time_ms, time_ms - 5, 0x7ff0_0000_0000_0002);
        frame.histogram(3, time_ms, 0);
        frame.increment(4, time_ms, time_ms - 15_000);
        frame.total(5, time_ms, 1);
        frame.put_histogram(&histogram(2));
        let value = AddedValue::Float(2.0);
        let increment = Increment { writer: 9, start_ms: time_ms - 15_000, end_ms: time_ms, value: value.clone() };
        frame.put_added(&Added::Increment(increment), scrape == 0);
        frame.put_added(&Added::Total { total: Total { writer: 9, start_ms: 1, value }, time_ms }, false);
        frame.exemplar(1, &Exemplar { labels: labels(7), value: 0.5, time_ms });
        frame.metadata("up", &Metadata { family_type: FamilyType::Gauge, unit: "s".into(), help: "Up.".into() });
        let encode = |chain: &mut _, out: &mut _| frame.encode(3, chain, |series| Some(labels(series)), out);
        let turn = commit.write(Duration::ZERO, encode).unwrap();
        commit.in_turn(turn, || {});
    }
    let path = Path::new("/wal").join(segment_name(1));
    let len = disk.read_file(&path).unwrap().len() as u64;
    let (whole, is_damaged) = said(&disk, &path).unwrap();
    assert!(!is_damaged);
    assert_eq!(whole.len(), 5 + 3 * 7, "definitions, and what each frame says: {whole:?}");
    let is_part = |found: &[String]| {
        let mut rest = whole.iter();
        found.iter().all(|record| rest.any(|one| one == record))
    };
    for at in 0..len {
        for bit in 0..8 {
            disk.corrupt(&path, at, 1 << bit).unwrap();
            // `None`: the version is another.
            if let Some((found, is_damaged)) = said(&disk, &path) {
                assert!(is_damaged, "bit {bit} of byte {at} went without a word");
                assert!(is_part(&found), "bit {bit} of byte {at} makes something up: {found:?}");
            }
            disk.corrupt(&path, at, 1 << bit).unwrap();
        }
    }
    for cut in (0..len).rev() {
        disk.open(&path, crate::fs::OpenMode::Append).unwrap().set_len(cut).unwrap();
        let (found, _) = said(&disk, &path).unwrap();
        assert!(whole.starts_with(&found), "cut at {cut}: {found:?}");
    }
}
