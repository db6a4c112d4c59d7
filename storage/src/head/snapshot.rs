//! What a select keeps of one series: copies, so that nothing is held locked while they are read.

use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::STALE_NAN_BITS;
use kymo_core::storage::{Columns, RunKind};

use super::codec::push_run;
use super::store::{ChunkView, Column};
use crate::codec::Malformed;
use crate::sample::Sample;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct HeadSnapshot {
    chunks: Vec<Copied>,
    /// Their times and values, back to back.
    bytes: Vec<u8>,
    late: Vec<Sample>,
    open: OpenRun,
}

/// A chunk whose bytes are in the snapshot.
#[derive(Debug, Clone, Copy)]
struct Copied {
    times_name: u64,
    column: Column,
    at: u32,
    times_len: u32,
    values_len: u32,
}

/// A copy of a part of an open run.
#[derive(Debug, Default)]
pub(crate) struct OpenRun {
    /// Names the times, as that of a chunk does.
    pub(super) times_name: u64,
    pub(super) times: Vec<i64>,
    pub(super) bits: Vec<u64>,
    /// Empty, or as long as the times.
    pub(super) starts: Vec<i64>,
    /// With positions, rising.
    pub(super) histograms: Vec<(u8, Arc<NativeHistogram>)>,
}

impl HeadSnapshot {
    /// Adds a chunk below those added before.
    pub(super) fn push_chunk(&mut self, chunk: &ChunkView<'_>) {
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(chunk.times);
        self.bytes.extend_from_slice(chunk.values);
        self.chunks.push(Copied {
            times_name: chunk.times_name,
            column: chunk.column,
            at,
            times_len: chunk.times.len() as u32,
            values_len: chunk.values.len() as u32,
        });
    }

    /// Ends a snapshot: chunks were added from the newest down.
    pub(super) fn finish(&mut self, late: Vec<Sample>, open: OpenRun) {
        self.chunks.reverse();
        self.late = late;
        self.open = open;
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        let late: usize = self.late.iter().map(|sample| size_of::<Sample>() + sample.heap_bytes()).sum();
        let histograms: usize = self.open.histograms.iter().map(|(_, h)| h.bytes() + 16).sum();
        let open = (self.open.times.capacity() + self.open.bits.capacity() + self.open.starts.capacity()) * 8;
        size_of::<HeadSnapshot>()
            + self.chunks.capacity() * size_of::<Copied>()
            + self.bytes.capacity()
            + late
            + open
            + histograms
    }

    /// Samples held, those outside the window but in a chunk that reaches into it too.
    pub(crate) fn samples(&self) -> usize {
        self.chunks.iter().map(|c| c.column.count()).sum::<usize>() + self.late.len() + self.open.times.len()
    }

    /// Its runs from lowest to highest precedence: first and last time, and how to read them.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (i64, i64, HeadRun<'_>)> {
        let chunks = self.chunks.iter().map(|c| (c.column.first(), c.column.last(), HeadRun::Chunk(self, *c)));
        let late = bounds(&self.late, |sample| sample.time_ms);
        let open = bounds(&self.open.times, |time| *time);
        let late = late.map(|(first, last)| (first, last, HeadRun::Late(&self.late)));
        let open = open.map(|(first, last)| (first, last, HeadRun::Open(&self.open)));
        chunks.chain(late).chain(open)
    }
}

fn bounds<T>(list: &[T], time: impl Fn(&T) -> i64) -> Option<(i64, i64)> {
    Some((time(list.first()?), time(list.last()?)))
}

/// One run of a snapshot.
#[derive(Debug, Clone, Copy)]
#[expect(private_interfaces, reason = "only this module makes and takes apart a chunk's copy")]
pub(crate) enum HeadRun<'a> {
    /// A sealed chunk.
    Chunk(&'a HeadSnapshot, Copied),
    /// Samples that came late, by time.
    Late(&'a [Sample]),
    /// The open run.
    Open(&'a OpenRun),
}

impl HeadRun<'_> {
    /// What its times are called: in one window, runs of one selection that are called the same have equal times. `None`:
    /// they have no name.
    pub(crate) fn times_name(&self) -> Option<u64> {
        match self {
            HeadRun::Chunk(_, chunk) => Some(chunk.times_name),
            HeadRun::Late(_) => None,
            HeadRun::Open(run) => Some(run.times_name),
        }
    }

    /// Appends the samples with `start < time <= end` to `columns`, whose last time must lie below.
    pub(crate) fn read(self, start_ms: i64, end_ms: i64, columns: &mut Columns) -> Result<(), Malformed> {
        match self {
            HeadRun::Chunk(snapshot, chunk) => snapshot.view(chunk).read(start_ms, end_ms, columns),
            HeadRun::Late(samples) => {
                let covered = samples.iter().filter(|s| s.time_ms > start_ms && s.time_ms <= end_ms);
                covered.for_each(|sample| sample.read(columns));
                Ok(())
            }
            HeadRun::Open(run) => {
                run.read(start_ms, end_ms, columns);
                Ok(())
            }
        }
    }
}

impl HeadSnapshot {
    fn view(&self, chunk: Copied) -> ChunkView<'_> {
        let times_end = chunk.at + chunk.times_len;
        let slice = |from: u32, to: u32| self.bytes.get(from as usize..to as usize).unwrap_or(&[]);
        ChunkView {
            times_name: chunk.times_name,
            column: chunk.column,
            times: slice(chunk.at, times_end),
            values: slice(times_end, times_end + chunk.values_len),
        }
    }
}

impl OpenRun {
    fn read(&self, start_ms: i64, end_ms: i64, columns: &mut Columns) {
        let low = self.times.partition_point(|t| *t <= start_ms);
        let high = self.times.partition_point(|t| *t <= end_ms).max(low);
        let is_plain = self.starts.is_empty() && self.histograms.is_empty() && columns.starts.is_empty();
        if is_plain && !self.bits[low..high].contains(&STALE_NAN_BITS) {
            columns.times.extend_from_slice(&self.times[low..high]);
            push_run(columns, RunKind::Float, high - low);
            columns.floats.extend(self.bits[low..high].iter().map(|bits| f64::from_bits(*bits)));
            return;
        }
        (low..high).for_each(|at| self.sample(at).read(columns));
    }

    fn sample(&self, at: usize) -> Sample {
        let histogram = self.histograms.binary_search_by_key(&at, |(at, _)| usize::from(*at)).ok();
        Sample {
            time_ms: self.times[at],
            start_ms: self.starts.get(at).copied().unwrap_or(0),
            bits: self.bits[at],
            histogram: histogram.map(|n| Arc::clone(&self.histograms[n].1)),
        }
    }
}
