//! Compressors: what turns samples into the bytes of a chunk, and back. Blocks are written with one of two: a flush with the quick
//! one, as its blocks are merged soon, and a merge or a rollup with the thorough one.
//!
//! Both write one format (`docs/format/chunk.md`), whose first byte names the encoding, so that either reads what the other wrote.

use std::fmt::Debug;
use std::io;

use kymo_core::metric::PointFlags;
use kymo_core::storage::{Columns, Run, RunKind};
use kymo_core::{MetricKind, MetricPoint};

use crate::chunk::{self, CHUNK_SAMPLES_MAX, ChunkEncoder, Effort, Samples};
use crate::codec::{Malformed, Reader, put_block, put_varint, put_zigzag};

/// Turns runs of samples of one series into bytes, and back; every bit of every value survives.
///
/// Times are not in the bytes: a block has them once for all series that share them. Cost: [`FastCompressor`] some nanoseconds a
/// sample, [`SmallCompressor`] some tens; reading is the same for both.
///
/// ```
/// use kymo_core::{MetricKind, MetricPoint};
/// use kymo_storage::{Compressor, SmallCompressor};
///
/// let mut compressor = SmallCompressor::new()?;
/// let points: Vec<_> =
///     (0..1_000).map(|n| MetricPoint::new(1, MetricKind::Counter, n * 15_000, (n * 3) as f64)).collect();
/// let mut bytes = Vec::new();
/// compressor.compress_points(&points, &mut bytes);
/// assert!(bytes.len() < points.len() * size_of::<MetricPoint>() / 10);
/// assert_eq!(compressor.decompress_points(&bytes)?, points);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Compressor: Debug + Send {
    /// Appends the compressed form of the values of 1 to 4,096 samples.
    fn compress(&mut self, samples: Samples<'_>, into: &mut Vec<u8>);

    /// Appends to `columns` the samples that bytes of any compressor hold, which are at these times.
    ///
    /// # Errors
    /// The bytes are none that a compressor wrote for so many samples; `columns` then holds what was read before.
    fn decompress(&self, bytes: &[u8], times: &[i64], columns: &mut Columns) -> Result<(), Malformed> {
        columns.times.extend_from_slice(times);
        chunk::decode(bytes, times, 0..times.len(), columns)
    }

    /// Appends the compressed form of any points, which has their times, series and marks in it.
    fn compress_points(&mut self, points: &[MetricPoint], into: &mut Vec<u8>) {
        let (mut times, mut floats, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for run in points.chunk_by(|a, b| (a.series, a.kind, a.flags) == (b.series, b.kind, b.flags)) {
            for run in run.chunks(CHUNK_SAMPLES_MAX) {
                let first = run[0];
                put_varint(into, run.len() as u64);
                put_varint(into, first.series);
                into.push(first.kind as u8 | if first.flags == PointFlags::NONE { 0 } else { INCREMENT });
                times.clear();
                floats.clear();
                values.clear();
                let (mut before, mut step) = (0i64, 0i64);
                for point in run {
                    let next = point.timestamp_ms.wrapping_sub(before);
                    put_zigzag(into, next.wrapping_sub(step));
                    (before, step) = (point.timestamp_ms, next);
                    times.push(point.timestamp_ms);
                    floats.push(point.value);
                }
                // A staleness marker is a value here, as its bits are.
                let runs = [Run { kind: RunKind::Float, len: run.len() }];
                let samples = Samples { times: &times, starts: &[], runs: &runs, floats: &floats, histograms: &[] };
                self.compress(samples, &mut values);
                put_block(into, &values);
            }
        }
    }

    /// The points of [`compress_points`](Self::compress_points).
    ///
    /// # Errors
    /// The bytes are none of these.
    fn decompress_points(&self, bytes: &[u8]) -> Result<Vec<MetricPoint>, Malformed> {
        let (from, mut points) = (&mut Reader::new(bytes), Vec::new());
        let (mut times, mut columns) = (Vec::new(), Columns::default());
        while from.left() > 0 {
            let count = from.count(1)?;
            if !(1..=CHUNK_SAMPLES_MAX).contains(&count) {
                return from.bad("points are not as many as a chunk holds");
            }
            let (series, marks) = (from.varint()?, from.u8()?);
            let kind = match marks & !INCREMENT {
                1 => MetricKind::Counter,
                2 => MetricKind::Gauge,
                3 => MetricKind::Histogram,
                4 => MetricKind::Summary,
                _ => return from.bad("unknown kind of point"),
            };
            let flags = if marks & INCREMENT == 0 { PointFlags::NONE } else { PointFlags::INCREMENT };
            times.clear();
            columns.clear();
            let (mut time, mut step) = (0i64, 0i64);
            for _ in 0..count {
                step = step.wrapping_add(from.zigzag()?);
                time = time.wrapping_add(step);
                times.push(time);
            }
            self.decompress(from.block()?, &times, &mut columns)?;
            if columns.floats.len() != count {
                return from.bad("points are no floats");
            }
            let point = |(time, value): (&i64, &f64)| MetricPoint::new(series, kind, *time, *value).with_flags(flags);
            points.extend(times.iter().zip(&columns.floats).map(point));
        }
        Ok(points)
    }
}

/// The mark of points that are increments.
const INCREMENT: u8 = 0x80;

/// Spares time: for what is merged soon.
#[derive(Debug)]
pub struct FastCompressor(ChunkEncoder);

/// Spares bytes: for what stays.
#[derive(Debug)]
pub struct SmallCompressor(ChunkEncoder);

impl FastCompressor {
    /// # Errors
    /// Out of memory.
    pub fn new() -> io::Result<FastCompressor> {
        ChunkEncoder::new().map(FastCompressor)
    }
}

impl SmallCompressor {
    /// # Errors
    /// Out of memory.
    pub fn new() -> io::Result<SmallCompressor> {
        ChunkEncoder::new().map(SmallCompressor)
    }
}

impl Compressor for FastCompressor {
    fn compress(&mut self, samples: Samples<'_>, into: &mut Vec<u8>) {
        self.0.encode(samples, Effort::Fast, into);
    }
}

impl Compressor for SmallCompressor {
    fn compress(&mut self, samples: Samples<'_>, into: &mut Vec<u8>) {
        self.0.encode(samples, Effort::Small, into);
    }
}

/// The compressor of an effort.
pub(crate) fn of(effort: Effort) -> io::Result<Box<dyn Compressor>> {
    Ok(match effort {
        Effort::Fast => Box::new(FastCompressor::new()?),
        Effort::Small => Box::new(SmallCompressor::new()?),
    })
}

#[cfg(test)]
mod tests {
    use kymo_core::histogram::stale_nan;
    use kymo_core::storage::ColumnValue;
    use proptest::prelude::*;

    use super::*;

    fn both() -> [Box<dyn Compressor>; 2] {
        [Effort::Fast, Effort::Small].map(|effort| of(effort).expect("there is memory"))
    }

    fn bits(columns: &Columns) -> (Vec<i64>, Vec<u64>, usize) {
        (columns.times.clone(), columns.floats.iter().map(|value| value.to_bits()).collect(), columns.runs.len())
    }

    #[test]
    fn each_reads_what_the_other_wrote_and_the_thorough_one_writes_less() {
        let mut columns = Columns::default();
        for n in 0..960 {
            let value =
                if n % 97 == 96 { ColumnValue::Stale } else { ColumnValue::Float(f64::from(n * n % 1_009) / 8.0) };
            columns.push(i64::from(n) * 15_000, 0, value);
        }
        let [mut fast, mut small] = both();
        let (mut fast_bytes, mut small_bytes) = (Vec::new(), Vec::new());
        fast.compress(Samples::all(&columns), &mut fast_bytes);
        small.compress(Samples::all(&columns), &mut small_bytes);
        assert!(small_bytes.len() < fast_bytes.len(), "{} {}", small_bytes.len(), fast_bytes.len());
        for (reader, bytes) in [(&fast, &small_bytes), (&small, &fast_bytes)] {
            let mut found = Columns::default();
            reader.decompress(bytes, &columns.times, &mut found).expect("reads");
            assert_eq!(bits(&found), bits(&columns));
        }
    }

    #[test]
    fn no_points_are_no_bytes_and_every_cut_is_noticed() {
        for mut compressor in both() {
            let mut bytes = Vec::new();
            compressor.compress_points(&[], &mut bytes);
            assert!(bytes.is_empty() && compressor.decompress_points(&bytes).is_ok_and(|points| points.is_empty()));
            let points = [1.5, stale_nan(), -0.0].map(|value| MetricPoint::new(7, MetricKind::Summary, -5, value));
            compressor.compress_points(&points, &mut bytes);
            for len in 1..bytes.len() {
                assert!(compressor.decompress_points(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
            }
        }
    }

    proptest! {
        #[test]
        fn points_come_back_with_the_same_bits(
            drawn in prop::collection::vec((0u64..3, 0u8..4, any::<bool>(), any::<i64>(), any::<u64>()), 0..200),
        ) {
            let kinds = [MetricKind::Gauge, MetricKind::Counter, MetricKind::Histogram, MetricKind::Summary];
            let points: Vec<MetricPoint> = drawn
                .iter()
                .map(|(series, kind, is_increment, time_ms, bits)| {
                    let flags = if *is_increment { PointFlags::INCREMENT } else { PointFlags::NONE };
                    let kind = kinds[usize::from(*kind)];
                    MetricPoint::new(*series, kind, *time_ms, f64::from_bits(*bits)).with_flags(flags)
                })
                .collect();
            for mut compressor in both() {
                let mut bytes = Vec::new();
                compressor.compress_points(&points, &mut bytes);
                let found = compressor.decompress_points(&bytes).expect("reads");
                let told = |points: &[MetricPoint]| -> Vec<_> {
                    points.iter().map(|p| (p.series, p.kind, p.flags, p.timestamp_ms, p.value.to_bits())).collect()
                };
                prop_assert_eq!(told(&found), told(&points));
            }
        }
    }
}
