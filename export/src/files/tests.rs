use std::sync::Arc;

use kymo_core::batch::FamilyType;
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, NORMAL_NAN_BITS, ResetHint, STALE_NAN_BITS};
use kymo_core::memory::MemoryOptions;
use kymo_core::storage::ColumnValue;
use kymo_core::{ManualClock, MemoryStorage, NativeHistogram, SampleBatch};
use kymo_ingest::import;

use super::*;

pub(super) const NOW_MS: i64 = 1_700_000_000_000;

pub(super) fn storage() -> MemoryStorage {
    let clock = Arc::new(ManualClock::at(NOW_MS));
    MemoryStorage::new(MemoryOptions { clock, retention: None, ..MemoryOptions::default() })
}

fn histogram(of_floats: bool, custom: bool) -> NativeHistogram {
    let counts = if of_floats {
        let (positive, negative) = (vec![0.5, 1e300, 2.0], if custom { vec![] } else { vec![-0.0] });
        let zero = if custom { 0.0 } else { 0.25 };
        HistogramCounts::Float(BucketCounts { zero, count: 1e300, positive, negative })
    } else {
        let (positive, negative) = (vec![u64::MAX >> 1, 2, 3], if custom { vec![] } else { vec![4] });
        let zero = u64::from(!custom);
        let count = positive.iter().chain(&negative).sum::<u64>() + zero;
        HistogramCounts::Integer(BucketCounts { zero, count, positive, negative })
    };
    let span = |offset, len| BucketSpan { offset, len };
    NativeHistogram {
        schema: if custom { -53 } else { 3 },
        hint: if of_floats { ResetHint::Gauge } else { ResetHint::Reset },
        zero_threshold: if custom { 0.0 } else { 1e-128 },
        counts,
        sum: 1.0 / 3.0,
        positive_spans: if custom { vec![span(0, 3)] } else { vec![span(-4, 2), span(7, 1)] },
        negative_spans: if custom { vec![] } else { vec![span(0, 1)] },
        custom_values: if custom { Arc::from([0.1, 2.0]) } else { Arc::from([]) },
    }
}

/// Floats that are easily lost, names that need quotes, and, if `odd`, what only JSON lines hold.
pub(super) fn fill(storage: &MemoryStorage, odd: bool) {
    let values = [0.0, -0.0, 1.0 / 3.0, f64::MIN_POSITIVE / 8.0, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, 1e21];
    let mut batch = SampleBatch::new();
    for (n, name) in ["up", "A:b", "http.requests \"total\"", "le"].into_iter().enumerate() {
        let labels = [("__name__", name), ("Z", "a,b \\ \n\"c\""), ("le", "1"), ("ü.x", "ö")];
        let labels = Labels::from_pairs(labels);
        for (m, value) in values.iter().enumerate() {
            batch.push_float(&labels, NOW_MS - 1_000_003 + 7_919 * m as i64 + n as i64, *value);
            if odd {
                batch.set_start(if m % 3 == 1 { NOW_MS - 2_000_000 } else { 0 });
            }
        }
        batch.push_float(&labels, NOW_MS, f64::from_bits(NORMAL_NAN_BITS));
        if odd {
            batch.push_float(&labels, NOW_MS + 1, f64::from_bits(STALE_NAN_BITS));
            batch.push_float(&labels, NOW_MS + 2, f64::from_bits(0xfff8_0000_0000_beef));
        }
    }
    if odd {
        let mixed = Labels::from_pairs([("__name__", "mixed")]);
        for (n, (of_floats, custom)) in
            [(false, false), (true, false), (false, true), (true, true)].into_iter().enumerate()
        {
            batch.push_histogram(&mixed, NOW_MS + 10 * n as i64, histogram(of_floats, custom));
            batch.set_start(NOW_MS - 77 - n as i64);
        }
        batch.push_float(&mixed, NOW_MS + 5, 1.0);
        let exemplar = |n: i64| Exemplar {
            labels: Labels::from_pairs([("trace_id", n.to_string())]),
            value: f64::from_bits(0x7ff8_0000_0000_0007),
            time_ms: NOW_MS + n,
        };
        (0..3).for_each(|n| batch.push_exemplar(&mixed, exemplar(n)));
        for help in ["older", "newer \"\n"] {
            let metadata = Metadata { family_type: FamilyType::Histogram, unit: "seconds".into(), help: help.into() };
            batch.push_metadata("mixed", metadata);
        }
    }
    let report = storage.append(&batch).unwrap();
    assert!(report.rejected.is_empty(), "{report:?}");
}

/// Everything, by bits.
fn dump(storage: &MemoryStorage) -> Vec<String> {
    let ctx = QueryContext::unlimited();
    let set = storage.select(&Selector::everything(), &ctx).unwrap();
    let (mut columns, mut lines) = (Columns::default(), Vec::new());
    for index in 0..set.len() {
        set.read(index, &mut columns).unwrap();
        for (n, (time_ms, value)) in columns.iter().enumerate() {
            let value = match value {
                ColumnValue::Float(value) => format!("{:#x}", value.to_bits()),
                ColumnValue::Stale => "stale".to_owned(),
                ColumnValue::Histogram(value) => format!("{value:?}"),
            };
            let start_ms = columns.starts.get(n).copied().unwrap_or(0);
            lines.push(format!("{} {time_ms} {start_ms} {value}", set.labels(index)));
        }
    }
    for (labels, exemplars) in storage.exemplars(&Selector::everything(), &ctx).unwrap() {
        lines.extend(exemplars.iter().map(|e| format!("{labels} {} {} {:#x}", e.labels, e.time_ms, e.value.to_bits())));
    }
    lines.extend(storage.metadata(None, &ctx).unwrap().into_iter().map(|found| format!("{found:?}")));
    lines
}

fn exported(storage: &MemoryStorage, format: FileFormat) -> (String, Exported) {
    let what = FileExport { matchers: Vec::new(), start_ms: 0, end_ms: i64::MAX, format };
    let (mut out, ctx) = (Vec::new(), QueryContext::unlimited());
    let exported = export(storage, &what, &ExportPlace::default(), &mut out, &ctx).unwrap();
    (String::from_utf8(out).unwrap(), exported)
}

fn imported(text: &str, format: FileFormat) -> MemoryStorage {
    let storage = storage();
    let mut sink = |batch: &SampleBatch, _: &import::Place| {
        let report = storage.append(batch)?;
        assert!(report.rejected.is_empty(), "{report:?}");
        Ok(())
    };
    let mut from = text.as_bytes();
    let begin = import::Place::default();
    let read = match format {
        FileFormat::JsonLines => import::json_lines(&mut from, &begin, &mut sink, &mut |_| {}),
        FileFormat::Csv => import::csv(&mut from, &begin, &mut sink, &mut |_| {}),
        FileFormat::OpenMetrics => import::open_metrics(&mut from, &begin, &mut sink, &mut |_| {}),
        #[cfg(feature = "parquet")]
        FileFormat::Parquet => panic!("it is not read back"),
    };
    read.unwrap_or_else(|error| panic!("{error:?}"));
    storage
}

#[test]
fn json_lines_bring_everything_back_by_its_bits() {
    let original = storage();
    fill(&original, true);
    let (text, exported) = exported(&original, FileFormat::JsonLines);
    assert_eq!((exported.series, exported.samples, exported.exemplars, exported.left_out), (5, 4 * 11 + 5, 3, 0));
    assert_eq!(dump(&imported(&text, FileFormat::JsonLines)), dump(&original), "{text}");
}

#[test]
fn csv_and_open_metrics_bring_back_what_they_hold_and_count_the_rest() {
    let original = storage();
    fill(&original, false);
    for format in [FileFormat::Csv, FileFormat::OpenMetrics] {
        let (text, exported) = exported(&original, format);
        assert_eq!((exported.samples, exported.left_out), (36, 0));
        assert_eq!(dump(&imported(&text, format)), dump(&original), "{text}");
    }
    let odd = storage();
    fill(&odd, true);
    let (text, of_csv) = exported(&odd, FileFormat::Csv);
    assert_eq!((of_csv.samples, of_csv.left_out), (45, 4), "histograms are left out");
    let back = dump(&imported(&text, FileFormat::Csv));
    assert!(back.iter().all(|line| dump(&odd).contains(line)) && back.len() == 45, "{back:?}");
    let (text, of_text) = exported(&odd, FileFormat::OpenMetrics);
    assert_eq!((of_text.samples, of_text.left_out), (37, 12), "and markers, and odd NaNs");
    assert!(text.ends_with("# EOF\n"));
}

/// Imports until the sink was given `batches`, then goes on where it was; gives what is there then, and how many samples were
/// read both times.
fn imported_in_two(text: &str, format: FileFormat, batches: usize) -> (MemoryStorage, u64, u64) {
    let storage = storage();
    let (mut reached, mut given) = (import::Place::default(), 0);
    let mut read = |begin: &import::Place, batches_max: usize, reached: &mut import::Place| {
        let (mut from, mut taken, mut count) = (&text.as_bytes()[begin.bytes() as usize..], 0, 0);
        let mut sink = |batch: &SampleBatch, place: &import::Place| {
            if count == batches_max {
                return Err("enough".into());
            }
            count += 1;
            storage.append(batch)?;
            taken += batch.rows().count() as u64;
            reached.clone_from(place);
            Ok(())
        };
        let read = match format {
            FileFormat::JsonLines => import::json_lines(&mut from, begin, &mut sink, &mut |_| {}),
            FileFormat::Csv => import::csv(&mut from, begin, &mut sink, &mut |_| {}),
            FileFormat::OpenMetrics => import::open_metrics(&mut from, begin, &mut sink, &mut |_| {}),
            #[cfg(feature = "parquet")]
            FileFormat::Parquet => panic!("it is not read back"),
        };
        given += usize::from(read.is_ok());
        taken
    };
    let first = read(&import::Place::default(), batches, &mut reached);
    let begin = reached.clone();
    let second = read(&begin, usize::MAX, &mut reached);
    assert_eq!(given, 1, "the first is stopped, the second is not");
    (storage, first, second)
}

#[test]
fn an_import_that_broke_off_goes_on_where_it_was() {
    let original = storage();
    let mut batch = SampleBatch::new();
    for n in 0..20 {
        let labels = Labels::from_pairs([("__name__", "many"), ("n", &*n.to_string())]);
        (0..2_500).for_each(|m| batch.push_float(&labels, NOW_MS - 1_000 * m, (n * m) as f64 * 0.1));
    }
    original.append(&batch).unwrap();
    for format in [FileFormat::JsonLines, FileFormat::Csv, FileFormat::OpenMetrics] {
        let (text, exported) = exported(&original, format);
        for (batches, line_ends) in [(1, "\n"), (2, "\r\n")] {
            let text = if format == FileFormat::OpenMetrics { text.clone() } else { text.replace('\n', line_ends) };
            let (back, first, second) = imported_in_two(&text, format, batches);
            assert_eq!(dump(&back), dump(&original), "{format:?} after {batches} batches");
            // A line of JSON, or a piece of some 25,000 samples of text, may be read again.
            assert!(first > 0 && first + second >= exported.samples, "{format:?}: {first}, {second}");
            let again = if format == FileFormat::OpenMetrics { 30_000 } else { 10_000 };
            assert!(first + second < exported.samples + again, "{format:?}: {first} and {second} again");
        }
    }
}

/// Stops taking after so many series.
struct Stopping {
    bytes: Vec<u8>,
    series_left: usize,
    /// The place, and the bytes, after the last series that was taken.
    reached: (ExportPlace, usize),
}

impl Write for Stopping {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Destination for Stopping {
    fn reached(&mut self, place: &ExportPlace) -> io::Result<()> {
        self.reached = (place.clone(), self.bytes.len());
        self.series_left = self.series_left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    }
}

#[test]
fn an_export_that_broke_off_goes_on_to_the_same_file() {
    let original = storage();
    fill(&original, true);
    // An exemplar of a series without samples stands behind the series of its metric.
    let mut batch = SampleBatch::new();
    batch.push_float(&Labels::from_pairs([("__name__", "mixed"), ("z", "1")]), NOW_MS, 1.0);
    original.append(&batch).unwrap();
    for format in [FileFormat::JsonLines, FileFormat::Csv, FileFormat::OpenMetrics] {
        let (whole, counts) = exported(&original, format);
        let what = FileExport { matchers: Vec::new(), start_ms: 0, end_ms: i64::MAX, format };
        for series_left in 0..counts.series as usize {
            let ctx = QueryContext::unlimited();
            let mut out = Stopping { bytes: Vec::new(), series_left, reached: Default::default() };
            let stopped = export(&original, &what, &ExportPlace::default(), &mut out, &ctx);
            assert!(matches!(stopped, Err(FileError::Write(_))), "{stopped:?}");
            out.bytes.extend_from_slice(b"what was on its way");
            out.bytes.truncate(out.reached.1);
            let again = export(&original, &what, &out.reached.0, &mut out.bytes, &ctx).unwrap();
            assert_eq!(again, counts, "{format:?} after {series_left} series");
            assert!(out.bytes == whole.as_bytes(), "{format:?} after {series_left} series");
        }
    }
}

#[test]
fn only_what_matches_in_the_range_is_written() {
    let original = storage();
    fill(&original, false);
    let what = FileExport {
        matchers: vec![Matcher::equal(METRIC_NAME, "up")],
        start_ms: NOW_MS - 1_000_003,
        end_ms: NOW_MS - 1_000_003 + 7_919,
        format: FileFormat::Csv,
    };
    let mut out = Vec::new();
    let exported = export(&original, &what, &ExportPlace::default(), &mut out, &QueryContext::unlimited()).unwrap();
    assert_eq!((exported.series, exported.samples), (1, 2));
    assert_eq!(String::from_utf8(out).unwrap().lines().count(), 3);
}

#[test]
fn what_cannot_be_read_is_named_by_its_line() {
    type Reader = fn(
        &mut dyn io::BufRead,
        &import::Place,
        &mut import::BatchSink<'_>,
        &mut dyn FnMut(u64),
    ) -> Result<import::Imported, import::ImportError>;
    let rows: [(Reader, &str, &str); 9] = [
        (import::json_lines, "{\"metric\":{\"__name__\":\"a\"},\"values\":[1],\"timestamps\":[1]}\nno", "line 2"),
        (import::json_lines, "{\"metric\":{},\"values\":[1],\"timestamps\":[]}", "as many values as timestamps"),
        (import::json_lines, "{\"values\":[\"x\"],\"timestamps\":[1]}", "Infinity"),
        (import::csv, "a,b\n", "one column timestamp"),
        (import::csv, "series,timestamp,value\nup,1,2\nup,1\n", "line 3"),
        (import::csv, "series,timestamp,value\n\"up,1,2\n", "quotes"),
        (import::open_metrics, "up 1 1\n", "without # EOF"),
        (import::open_metrics, "up 1 1\nup x 2\n# EOF\n", "line 2"),
        (import::open_metrics, "up 1\n# EOF\n", "no timestamp"),
    ];
    for (read, text, wanted) in rows {
        let error = read(&mut text.as_bytes(), &import::Place::default(), &mut |_, _| Ok(()), &mut |_| {})
            .unwrap_err()
            .to_string();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
}

#[test]
fn tables_of_others_and_numbers_of_others_are_read() {
    let table = "__name__,job,timestamp,value\nup,a,1000,1\nup,\"b \"\"c\"\"\",1000,0x1p0\n";
    let error =
        import::csv(&mut table.as_bytes(), &import::Place::default(), &mut |_, _| Ok(()), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("line 3"), "{error}");
    let storage = imported(&table.replace("0x1p0", "+Inf"), FileFormat::Csv);
    assert_eq!(dump(&storage).len(), 2);
    let line = "{\"metric\":{\"__name__\":\"up\"},\"values\":[null,\"Infinity\",18446744073709551615,-0],\"timestamps\":[1,2,3,4],\"more\":1}";
    let bits: Vec<String> = dump(&imported(line, FileFormat::JsonLines));
    let ends: Vec<&str> = bits.iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(ends, ["0x7ff8000000000001", "0x7ff0000000000000", "0x43f0000000000000", "0x8000000000000000"]);
}
