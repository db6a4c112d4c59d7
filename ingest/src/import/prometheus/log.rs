//! Write-ahead log and log of late samples: pages, records, and what they say.
//!
//! A torn record at the end of the last segment is what a stop leaves, and ends the reading. Series are kept by their
//! numbers; a deletion hides the samples that were logged before it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kymo_core::batch::{Exemplar, FamilyType, Metadata};
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, ResetHint};
use kymo_core::{Labels, LabelsBuilder, NativeHistogram};

use super::buf::{Buf, Short};
use super::chunk::absolute;
use super::{list, malformed};
use crate::import::ImportError;
use crate::import::rows::Rows;

const PAGE_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// A record that unpacks to more is not one that Prometheus writes.
const RECORD_BYTES_MAX: usize = 256 << 20;

const SNAPPY: u8 = 1 << 3;
const ZSTD: u8 = 1 << 4;

/// Imports the logs of a data directory: of each the newest checkpoint, then the segments behind it. Samples of the first
/// `known` records are left out.
pub(super) fn import(
    logs: &[PathBuf],
    known: u64,
    rows: &mut Rows<'_, '_>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), ImportError> {
    let mut segments = Vec::new();
    for log in logs {
        let of_log = self::segments(log)?;
        let last = of_log.len().saturating_sub(1);
        segments.extend(of_log.into_iter().enumerate().map(|(at, path)| (path, at == last)));
    }
    let mut read = 0;
    // A deletion concerns what stands before it, so all of them are looked for first.
    let mut deletions = HashMap::new();
    each_record(&segments, &mut |_| {}, &mut |number, record| {
        if record.first() == Some(&TOMBSTONES) {
            return tombstones(number, record, &mut deletions);
        }
        Ok(Ok(()))
    })?;
    let mut reader = Reader { series: HashMap::new(), deletions, labels: LabelsBuilder::new() };
    each_record(
        &segments,
        &mut |bytes| {
            read += bytes;
            progress(read);
        },
        &mut |number, record| {
            if number <= known && record.first().is_some_and(|kind| !matches!(*kind, SERIES | METADATA)) {
                return Ok(Ok(()));
            }
            rows.at(0, number - 1);
            reader.record(number, record, rows)
        },
    )
}

/// The files of a log in their order.
fn segments(log: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u64>().ok();
    let entries = list(log)?;
    let checkpoint = entries.iter().filter_map(|path| {
        let number = path.file_name()?.to_str()?.strip_prefix("checkpoint.")?.parse::<u64>().ok()?;
        Some((number, path))
    });
    let checkpoint = checkpoint.max();
    let mut files = match checkpoint {
        Some((_, dir)) => list(dir)?.into_iter().filter(|path| number(path).is_some()).collect(),
        None => Vec::new(),
    };
    let behind = |path: &PathBuf| number(path).is_some_and(|n| checkpoint.is_none_or(|(last, _)| n > last));
    files.extend(entries.iter().filter(|path| behind(path)).cloned());
    Ok(files)
}

type Each<'a> = dyn FnMut(u64, &[u8]) -> Result<Result<(), Short>, ImportError> + 'a;

/// Gives each record with its number. The tail of a file may be torn if it is said to be the last of its log.
fn each_record(
    files: &[(PathBuf, bool)],
    progress: &mut dyn FnMut(u64),
    each: &mut Each<'_>,
) -> Result<(), ImportError> {
    let mut number = 0;
    for (path, is_last) in files {
        let read = |source| ImportError::Read { place: path.display().to_string(), source };
        let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(read)?);
        let mut page = vec![0; PAGE_BYTES];
        let (mut record, mut unpacked) = (Vec::new(), Vec::new());
        let mut offset = 0u64;
        loop {
            let mut len = 0;
            while len < PAGE_BYTES {
                match file.read(&mut page[len..]).map_err(read)? {
                    0 => break,
                    more => len += more,
                }
            }
            if len == 0 {
                break;
            }
            let outcome = each_of_page(&page[..len], &mut record, &mut |kind, record| {
                number += 1;
                let record = unpack(kind, record, &mut unpacked)?;
                match each(number, record) {
                    Ok(done) => done.map_err(Torn::from),
                    Err(error) => Err(Torn::Failed(error)),
                }
            });
            match outcome {
                Ok(()) => {}
                Err(Torn::Failed(error)) => return Err(error),
                // As Prometheus does at its start: what cannot be read at the end was never acknowledged.
                Err(Torn::At(_)) if *is_last => break,
                Err(Torn::At(byte)) => {
                    return Err(malformed(path, offset + byte as u64, "the log is damaged"));
                }
            }
            offset += len as u64;
            progress(len as u64);
        }
    }
    Ok(())
}

enum Torn {
    At(usize),
    Failed(ImportError),
}

impl From<Short> for Torn {
    fn from(_: Short) -> Torn {
        Torn::At(0)
    }
}

/// Takes a whole record, packed as its kind says.
type EachFragment<'a> = dyn FnMut(u8, &[u8]) -> Result<(), Torn> + 'a;

/// Goes through the fragments of a page; `record` collects one that lies in several.
fn each_of_page(page: &[u8], record: &mut Vec<u8>, each: &mut EachFragment<'_>) -> Result<(), Torn> {
    const FULL: u8 = 1;
    const FIRST: u8 = 2;
    const LAST: u8 = 4;
    let mut at = 0;
    while at < page.len() {
        let kind = page[at];
        let fragment = kind & 0b111;
        // The rest of the page is empty.
        if fragment == 0 {
            return Ok(());
        }
        let mut head = Buf::new(&page[at + 1..]);
        let (len, crc) = (head.u16().map_err(|_| Torn::At(at))?, head.u32().map_err(|_| Torn::At(at))?);
        let body = page.get(at + HEADER_BYTES..at + HEADER_BYTES + usize::from(len)).ok_or(Torn::At(at))?;
        if fragment > LAST || crc32c::crc32c(body) != crc {
            return Err(Torn::At(at));
        }
        if fragment == FULL || fragment == FIRST {
            record.clear();
        }
        if record.len() + body.len() > RECORD_BYTES_MAX {
            return Err(Torn::At(at));
        }
        record.extend_from_slice(body);
        if fragment == FULL || fragment == LAST {
            each(kind, record).map_err(|torn| match torn {
                Torn::At(_) => Torn::At(at),
                failed => failed,
            })?;
        }
        at += HEADER_BYTES + usize::from(len);
    }
    Ok(())
}

fn unpack<'a>(kind: u8, record: &'a [u8], unpacked: &'a mut Vec<u8>) -> Result<&'a [u8], Torn> {
    if kind & SNAPPY != 0 {
        let len = snap::raw::decompress_len(record).ok().filter(|len| *len <= RECORD_BYTES_MAX).ok_or(Torn::At(0))?;
        unpacked.resize(len, 0);
        snap::raw::Decoder::new().decompress(record, unpacked).map_err(|_| Torn::At(0))?;
        return Ok(unpacked);
    }
    if kind & ZSTD != 0 {
        unpacked.clear();
        let decoder = zstd::stream::read::Decoder::new(record).map_err(|_| Torn::At(0))?;
        decoder.take(RECORD_BYTES_MAX as u64).read_to_end(unpacked).map_err(|_| Torn::At(0))?;
        return Ok(unpacked);
    }
    Ok(record)
}

const SERIES: u8 = 1;
const SAMPLES: u8 = 2;
const TOMBSTONES: u8 = 3;
const EXEMPLARS: u8 = 4;
const MMAP_MARKERS: u8 = 5;
const METADATA: u8 = 6;
const HISTOGRAMS: u8 = 7;
const FLOAT_HISTOGRAMS: u8 = 8;
const CUSTOM_HISTOGRAMS: u8 = 9;
const CUSTOM_FLOAT_HISTOGRAMS: u8 = 10;
/// Rows with start timestamps, as a Prometheus after 3.5 writes them when it is told to.
const STARTED_SAMPLES: u8 = 11;
const STARTED_HISTOGRAMS: u8 = 12;
const STARTED_FLOAT_HISTOGRAMS: u8 = 13;
/// Of checkpoints: the least time of samples that were kept.
const LEAST_TIME: u8 = 14;

/// What stands before the start timestamp of a row but the first: none, that of the row before, or the difference to the first.
const NO_START: u8 = 0;
const SAME_START: u8 = 1;

/// By series: number of the record that deletes, first and last time.
type Deletions = HashMap<u64, Vec<(u64, i64, i64)>>;

fn tombstones(number: u64, record: &[u8], deletions: &mut Deletions) -> Result<Result<(), Short>, ImportError> {
    let mut from = Buf::new(&record[1..]);
    let mut read = || -> Result<(), Short> {
        while !from.is_empty() {
            let series = from.u64()?;
            let deleted = (number, from.varint()?, from.varint()?);
            deletions.entry(series).or_default().push(deleted);
        }
        Ok(())
    };
    Ok(read())
}

/// Reads on behind the times of a row, its own and its start, and takes it if its series is given.
type EachRow<'a> =
    dyn FnMut(Option<&Labels>, (i64, i64), &mut Buf<'_>) -> Result<Option<Result<(), ImportError>>, Short> + 'a;

struct Reader {
    series: HashMap<u64, Labels>,
    deletions: Deletions,
    labels: LabelsBuilder,
}

impl Reader {
    fn record(
        &mut self,
        number: u64,
        record: &[u8],
        rows: &mut Rows<'_, '_>,
    ) -> Result<Result<(), Short>, ImportError> {
        let Some((&kind, body)) = record.split_first() else { return Ok(Err(Short)) };
        let mut failed = None;
        let read = match kind {
            SERIES => self.definitions(body),
            SAMPLES | STARTED_SAMPLES => self.samples(
                number,
                record,
                &mut |labels, (time_ms, start_ms), from| {
                    let value = from.f64()?;
                    Ok(labels.map(|labels| {
                        rows.series(labels.as_ref());
                        rows.float(time_ms, start_ms, value)
                    }))
                },
                &mut failed,
            ),
            HISTOGRAMS
            | FLOAT_HISTOGRAMS
            | CUSTOM_HISTOGRAMS
            | CUSTOM_FLOAT_HISTOGRAMS
            | STARTED_HISTOGRAMS
            | STARTED_FLOAT_HISTOGRAMS => {
                let of_floats = matches!(kind, FLOAT_HISTOGRAMS | CUSTOM_FLOAT_HISTOGRAMS | STARTED_FLOAT_HISTOGRAMS);
                self.samples(
                    number,
                    record,
                    &mut |labels, (time_ms, start_ms), from| {
                        let value = histogram(from, of_floats)?;
                        Ok(labels.map(|labels| {
                            rows.series(labels.as_ref());
                            rows.histogram(time_ms, start_ms, value)
                        }))
                    },
                    &mut failed,
                )
            }
            EXEMPLARS => {
                let builder = &mut LabelsBuilder::new();
                self.samples(
                    number,
                    record,
                    &mut |labels, (time_ms, _), from| {
                        let value = from.f64()?;
                        read_labels(from, builder)?;
                        let own = builder.labels();
                        Ok(labels.map(|labels| {
                            rows.series(labels.as_ref());
                            rows.exemplar(Exemplar { labels: own, value, time_ms })
                        }))
                    },
                    &mut failed,
                )
            }
            METADATA => self.metadata(body, rows),
            TOMBSTONES | MMAP_MARKERS => Ok(()),
            LEAST_TIME => Ok(()),
            // Whatever a later Prometheus adds: samples in a form not known would be lost.
            kind => {
                let what = format!("records of kind {kind} are written by a newer Prometheus than is known here");
                return Err(ImportError::Malformed { place: format!("log record {number}"), what });
            }
        };
        match failed {
            Some(error) => Err(error),
            None => Ok(read),
        }
    }

    fn definitions(&mut self, body: &[u8]) -> Result<(), Short> {
        let mut from = Buf::new(body);
        while !from.is_empty() {
            let series = from.u64()?;
            read_labels(&mut from, &mut self.labels)?;
            self.series.insert(series, self.labels.labels());
        }
        Ok(())
    }

    /// Rows that begin with their series and times, as differences to the record's or the row's before. Of a series that is
    /// not known, or whose sample was deleted, `each` has only to read on.
    fn samples(
        &self,
        number: u64,
        record: &[u8],
        each: &mut EachRow<'_>,
        failed: &mut Option<ImportError>,
    ) -> Result<(), Short> {
        let Some((&kind, body)) = record.split_first() else { return Err(Short) };
        let mut from = Buf::new(body);
        if from.is_empty() {
            return Ok(());
        }
        let has_starts = matches!(kind, STARTED_SAMPLES | STARTED_HISTOGRAMS | STARTED_FLOAT_HISTOGRAMS);
        let (first, begin_ms, first_start_ms) = match has_starts {
            true => (from.varint()? as u64, from.varint()?, from.varint()?),
            false => (from.u64()?, from.u64()? as i64, 0),
        };
        let (mut series, mut start_ms, mut is_first) = (first, first_start_ms, has_starts);
        while is_first || !from.is_empty() {
            let mut time_ms = begin_ms;
            // The first row of a record with starts is what the record begins with.
            if !std::mem::take(&mut is_first) {
                let base = if has_starts { series } else { first };
                series = base.wrapping_add(from.varint()? as u64);
                time_ms = begin_ms.wrapping_add(from.varint()?);
                if has_starts {
                    start_ms = match from.u8()? {
                        NO_START => 0,
                        SAME_START => start_ms,
                        _ => first_start_ms.wrapping_add(from.varint()?),
                    };
                }
            }
            let deletions = self.deletions.get(&series).map_or(&[][..], Vec::as_slice);
            let is_deleted =
                deletions.iter().any(|(by, first, last)| *by > number && (*first..=*last).contains(&time_ms));
            let labels = self.series.get(&series).filter(|_| !is_deleted);
            if let Some(Err(error)) = each(labels, (time_ms, start_ms), &mut from)? {
                *failed = Some(error);
                return Ok(());
            }
        }
        Ok(())
    }

    fn metadata(&self, body: &[u8], rows: &mut Rows<'_, '_>) -> Result<(), Short> {
        let mut from = Buf::new(body);
        while !from.is_empty() {
            let (series, kind) = (from.uvarint()?, from.u8()?);
            let (mut unit, mut help) = (String::new(), String::new());
            for _ in 0..from.count()? {
                let (name, value) = (from.text()?, from.text()?);
                match name {
                    "UNIT" => unit = value.to_owned(),
                    "HELP" => help = value.to_owned(),
                    _ => {}
                }
            }
            let name = self.series.get(&series).and_then(|labels| labels.metric_name().map(str::to_owned));
            if let (Some(name), Some(family_type)) = (name, FamilyType::from_u8(kind)) {
                rows.metadata(family(&name, family_type), Metadata { family_type, unit, help });
            }
        }
        Ok(())
    }
}

/// The family that a series of this type belongs to.
fn family(name: &str, family_type: FamilyType) -> &str {
    let suffixes: &[&str] = match family_type {
        FamilyType::Histogram | FamilyType::GaugeHistogram => &["_bucket", "_sum", "_count"],
        FamilyType::Summary => &["_sum", "_count"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).filter(|family| !family.is_empty()).unwrap_or(name)
}

fn read_labels(from: &mut Buf<'_>, labels: &mut LabelsBuilder) -> Result<(), Short> {
    labels.clear();
    for _ in 0..from.count()? {
        let (name, value) = (from.text()?, from.text()?);
        labels.push(name, value);
    }
    labels.build().map(drop).map_err(|_| Short)
}

fn histogram(from: &mut Buf<'_>, of_floats: bool) -> Result<NativeHistogram, Short> {
    let hint = ResetHint::from_u8(from.u8()?).ok_or(Short)?;
    let schema = i8::try_from(from.varint()?).map_err(|_| Short)?;
    let zero_threshold = from.f64()?;
    let (zero, count) = if of_floats { (from.u64()?, from.u64()?) } else { (from.uvarint()?, from.uvarint()?) };
    let sum = from.f64()?;
    let positive_spans = spans(from)?;
    let negative_spans = spans(from)?;
    let counts = if of_floats {
        let (zero, count) = (f64::from_bits(zero), f64::from_bits(count));
        HistogramCounts::Float(BucketCounts { zero, count, positive: floats(from)?, negative: floats(from)? })
    } else {
        HistogramCounts::Integer(BucketCounts { zero, count, positive: deltas(from)?, negative: deltas(from)? })
    };
    let custom_values = if schema == -53 { floats(from)? } else { Vec::new() };
    Ok(NativeHistogram {
        schema,
        hint,
        zero_threshold,
        counts,
        sum,
        positive_spans,
        negative_spans,
        custom_values: Arc::from(custom_values),
    })
}

fn spans(from: &mut Buf<'_>) -> Result<Vec<BucketSpan>, Short> {
    let count = from.count()?;
    let span = |_| {
        let offset = i32::try_from(from.varint()?).map_err(|_| Short)?;
        Ok(BucketSpan { offset, len: u32::try_from(from.uvarint()?).map_err(|_| Short)? })
    };
    (0..count).map(span).collect()
}

fn floats(from: &mut Buf<'_>) -> Result<Vec<f64>, Short> {
    let count = from.count()?;
    (0..count).map(|_| from.f64()).collect()
}

fn deltas(from: &mut Buf<'_>) -> Result<Vec<u64>, Short> {
    let count = from.count()?;
    let deltas = (0..count).map(|_| from.varint()).collect::<Result<Vec<i64>, Short>>()?;
    Ok(absolute(deltas.into_iter()))
}

/// Any bytes as a page, and as records.
#[cfg(feature = "fuzz")]
pub fn fuzz(bytes: &[u8]) {
    let mut unpacked = Vec::new();
    for kind in [0, SNAPPY, ZSTD] {
        if kind == 0 || bytes.len() < 1 << 16 {
            let _ = unpack(kind, bytes, &mut unpacked);
        }
    }
    let _ = each_of_page(bytes, &mut Vec::new(), &mut |_, _| Ok(()));
    let mut reader = Reader { series: HashMap::new(), deletions: HashMap::new(), labels: LabelsBuilder::new() };
    let sink: &mut crate::import::BatchSink<'_> = &mut |_, _| Ok(());
    let mut rows = Rows::new(sink);
    let _ = reader.record(1, bytes, &mut rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_uvarint(out: &mut Vec<u8>, mut n: u64) {
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }

    fn put_varint(out: &mut Vec<u8>, n: i64) {
        put_uvarint(out, ((n << 1) ^ (n >> 63)) as u64);
    }

    fn put_text(out: &mut Vec<u8>, text: &str) {
        put_uvarint(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }

    fn definitions() -> Vec<u8> {
        let mut record = vec![SERIES];
        for (number, name) in [(7u64, "a"), (9, "b"), (8, "c")] {
            record.extend_from_slice(&number.to_be_bytes());
            put_uvarint(&mut record, 1);
            put_text(&mut record, "__name__");
            put_text(&mut record, name);
        }
        record
    }

    /// Name, time, start and value (of a histogram its count) of every row.
    fn read(records: &[Vec<u8>]) -> Vec<(String, i64, i64, f64)> {
        let mut found = Vec::new();
        let mut sink = |batch: &kymo_core::SampleBatch, _: &crate::import::Place| {
            for row in batch.rows() {
                let value = match row.value {
                    kymo_core::batch::RowValue::Float(value) => value,
                    kymo_core::batch::RowValue::Histogram(h) => h.counts.count(),
                    _ => f64::NAN,
                };
                let kymo_core::batch::RowSeries::Labels(labels) = row.series else { panic!("a row without labels") };
                let name = labels.iter().map(|(_, value)| value).collect();
                found.push((name, row.time_ms, row.start_ms, value));
            }
            Ok(())
        };
        let mut reader = Reader { series: HashMap::new(), deletions: HashMap::new(), labels: LabelsBuilder::new() };
        let mut rows = Rows::new(&mut sink);
        for (number, record) in records.iter().enumerate() {
            assert!(reader.record(number as u64, record, &mut rows).unwrap().is_ok());
        }
        rows.end().unwrap();
        found
    }

    #[test]
    fn rows_with_start_timestamps_are_read() {
        // Differences of series to the row before, of times and starts to the first row.
        let mut record = vec![STARTED_SAMPLES];
        for n in [7, 1_000, 500] {
            put_varint(&mut record, n);
        }
        record.extend_from_slice(&1.5f64.to_be_bytes());
        for (series, time, start, value) in [
            (2, 10, &[SAME_START][..], 2.5f64),
            (-1, -20, &[NO_START], 3.5),
            (-1, 30, &[2, 13], 4.5),
            (0, 40, &[SAME_START], 5.5),
        ] {
            put_varint(&mut record, series);
            put_varint(&mut record, time);
            record.extend_from_slice(start);
            record.extend_from_slice(&f64::to_be_bytes(value));
        }
        let row = |name: &str, time, start, value| (name.to_owned(), time, start, value);
        let wanted = [
            row("a", 1_000, 500, 1.5),
            row("b", 1_010, 500, 2.5),
            row("c", 980, 0, 3.5),
            row("a", 1_030, 493, 4.5),
            row("a", 1_040, 493, 5.5),
        ];
        assert_eq!(read(&[definitions(), record.clone()]), wanted);
        // Cut anywhere but between two rows it is no record.
        let mut reader = Reader { series: HashMap::new(), deletions: HashMap::new(), labels: LabelsBuilder::new() };
        let whole = |len: usize, reader: &mut Reader| {
            let mut sink = |_: &kymo_core::SampleBatch, _: &crate::import::Place| Ok(());
            reader.record(1, &record[..len], &mut Rows::new(&mut sink)).unwrap().is_ok()
        };
        let cuts = (1..record.len()).filter(|len| whole(*len, &mut reader)).count();
        assert_eq!(cuts, 5, "empty, and behind each row but the last");
    }

    #[test]
    fn histograms_with_start_timestamps_are_read() {
        for (kind, of_floats) in [(STARTED_HISTOGRAMS, false), (STARTED_FLOAT_HISTOGRAMS, true)] {
            let put_histogram = |record: &mut Vec<u8>, count: u64| {
                record.push(0);
                put_varint(record, 3);
                record.extend_from_slice(&0.5f64.to_be_bytes());
                if of_floats {
                    record.extend_from_slice(&(count as f64).to_be_bytes());
                    record.extend_from_slice(&(count as f64).to_be_bytes());
                } else {
                    put_uvarint(record, count);
                    put_uvarint(record, count);
                }
                record.extend_from_slice(&9.0f64.to_be_bytes());
                // No spans and no buckets.
                record.extend_from_slice(&[0; 4]);
            };
            let mut record = vec![kind];
            for n in [9, 2_000, 1_500] {
                put_varint(&mut record, n);
            }
            put_histogram(&mut record, 4);
            put_varint(&mut record, -2);
            put_varint(&mut record, 5);
            record.push(2);
            put_varint(&mut record, 100);
            put_histogram(&mut record, 6);
            let wanted = [("b".to_owned(), 2_000, 1_500, 4.0), ("a".to_owned(), 2_005, 1_600, 6.0)];
            assert_eq!(read(&[definitions(), record]), wanted, "kind {kind}");
        }
    }
}
