//! One series of the head.

use std::sync::Arc;

use kymo_core::Labels;
use kymo_core::batch::Exemplar;
use kymo_core::memory::EXEMPLARS_PER_SERIES_MAX;
use kymo_core::storage::Columns;

use crate::chunk;
use crate::codec::Malformed;
use crate::sample::{OpenRun, Sample};

/// Samples in a run before it is sealed: at 120 open runs take twice the memory, at 24 the chunks' fixed cost does.
const RUN_SAMPLES: usize = 60;

/// A sealed run.
#[derive(Debug, Clone)]
pub(crate) struct HeadChunk {
    /// Order of sealing over the whole head.
    pub(crate) sequence: u64,
    pub(crate) min_time_ms: i64,
    pub(crate) max_time_ms: i64,
    pub(crate) samples: u32,
    pub(crate) bytes: Arc<[u8]>,
}

/// See [`super`].
#[derive(Debug)]
pub(crate) struct HeadSeries {
    pub(crate) labels: Labels,
    /// Generation of the log in which its definition was last written; 0 for never.
    pub(crate) defined_in: u64,
    pub(crate) chunks: Vec<HeadChunk>,
    late: OpenRun,
    open: OpenRun,
    /// Highest time written in this opening.
    pub(crate) newest_ms: i64,
    /// Highest time in blocks; `None` until somebody had to know.
    pub(crate) newest_in_blocks: Option<i64>,
    pub(crate) exemplars: Vec<Exemplar>,
    /// Flushes since it last took a sample.
    pub(crate) idle_flushes: u8,
}

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stored,
    Identical,
    Replaced,
}

impl HeadSeries {
    pub(crate) fn new(labels: Labels) -> HeadSeries {
        HeadSeries {
            labels,
            defined_in: 0,
            chunks: Vec::new(),
            late: OpenRun::default(),
            open: OpenRun::default(),
            newest_ms: i64::MIN,
            newest_in_blocks: None,
            exemplars: Vec::new(),
            idle_flushes: 0,
        }
    }

    /// Whether it holds nothing that is not in blocks.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.late.is_empty() && self.open.is_empty() && self.exemplars.is_empty()
    }

    /// Whether `time_ms` lies above everything ever written, so that no look-up is needed. `blocks_max` is
    /// the highest time in any block.
    pub(crate) fn is_ahead(&self, time_ms: i64, blocks_max: i64) -> bool {
        time_ms > self.newest_ms && time_ms > self.newest_in_blocks.unwrap_or(blocks_max).min(blocks_max)
    }

    /// Adds a sample. `in_blocks` looks for the time in blocks and is asked only if the head does not have it.
    pub(crate) fn append(
        &mut self,
        sample: Sample,
        blocks_max: i64,
        in_blocks: impl FnOnce() -> Option<Sample>,
    ) -> Outcome {
        let time_ms = sample.time_ms;
        self.idle_flushes = 0;
        if self.is_ahead(time_ms, blocks_max) {
            self.newest_ms = time_ms;
            self.open.put(sample);
            return Outcome::Stored;
        }
        if self.open.first().is_some_and(|first| time_ms >= first) {
            // Invariant 1: it can be nowhere else.
            self.newest_ms = self.newest_ms.max(time_ms);
            let before = self.open.get(time_ms);
            return self.settle(before, sample, |series, sample| series.open.put(sample));
        }
        let before = self.late.get(time_ms).or_else(|| self.sealed(time_ms)).or_else(in_blocks);
        self.newest_ms = self.newest_ms.max(time_ms);
        self.settle(before, sample, |series, sample| series.late.put(sample))
    }

    fn settle(&mut self, before: Option<Sample>, sample: Sample, put: impl FnOnce(&mut HeadSeries, Sample)) -> Outcome {
        match before {
            Some(before) if before.is_identical(&sample) => Outcome::Identical,
            before => {
                put(self, sample);
                if before.is_some() { Outcome::Replaced } else { Outcome::Stored }
            }
        }
    }

    /// The newest sealed sample at exactly `time_ms`.
    fn sealed(&self, time_ms: i64) -> Option<Sample> {
        let covers = |c: &&HeadChunk| c.min_time_ms <= time_ms && time_ms <= c.max_time_ms;
        self.chunks.iter().rev().filter(covers).find_map(|c| chunk::find(&c.bytes, time_ms).ok().flatten())
    }

    /// Seals runs that are full.
    pub(crate) fn seal_full(&mut self, next_sequence: &mut u64, scratch: &mut Scratch) {
        if self.late.len() >= RUN_SAMPLES {
            let late = std::mem::take(&mut self.late);
            self.seal(&late, next_sequence, scratch);
        }
        if self.open.len() >= RUN_SAMPLES {
            // Its buffers are kept: the series goes on.
            let mut open = std::mem::take(&mut self.open);
            self.seal(&open, next_sequence, scratch);
            open.clear();
            self.open = open;
        }
    }

    /// Seals everything and frees the runs' buffers.
    pub(crate) fn seal_all(&mut self, next_sequence: &mut u64, scratch: &mut Scratch) {
        for run in [std::mem::take(&mut self.late), std::mem::take(&mut self.open)] {
            self.seal(&run, next_sequence, scratch);
        }
    }

    fn seal(&mut self, run: &OpenRun, next_sequence: &mut u64, scratch: &mut Scratch) {
        let (Some(min_time_ms), Some(max_time_ms)) = (run.first(), run.last()) else { return };
        scratch.columns.clear();
        run.read(i64::MIN, i64::MAX, &mut scratch.columns);
        // A window is open to the left: the one time it cannot hold is read by no query either.
        if scratch.columns.times.is_empty() {
            return;
        }
        scratch.bytes.clear();
        chunk::encode(&scratch.columns, &mut scratch.bytes);
        self.chunks.push(HeadChunk {
            sequence: *next_sequence,
            min_time_ms,
            max_time_ms,
            samples: run.len() as u32,
            bytes: Arc::from(scratch.bytes.as_slice()),
        });
        *next_sequence += 1;
    }

    /// Copies what a snapshot needs of the window: chunks that reach into it, and the runs.
    pub(crate) fn snapshot(&self, start_ms: i64, end_ms: i64) -> HeadSnapshot {
        let reaches = |c: &&HeadChunk| c.max_time_ms > start_ms && c.min_time_ms <= end_ms;
        HeadSnapshot {
            chunks: self.chunks.iter().filter(reaches).cloned().collect(),
            late: self.late.cut(start_ms, end_ms),
            open: self.open.cut(start_ms, end_ms),
        }
    }

    /// Whether a sample may lie in the window.
    pub(crate) fn reaches(&self, start_ms: i64, end_ms: i64) -> bool {
        let run = |run: &OpenRun| run.last().is_some_and(|t| t > start_ms) && run.first().is_some_and(|t| t <= end_ms);
        run(&self.open)
            || run(&self.late)
            || self.chunks.iter().any(|c| c.max_time_ms > start_ms && c.min_time_ms <= end_ms)
    }

    /// First and last time held.
    pub(crate) fn bounds(&self) -> Option<(i64, i64)> {
        let chunks = self.chunks.iter().map(|c| (c.min_time_ms, c.max_time_ms));
        let runs = [&self.late, &self.open].into_iter().filter_map(|run| Some((run.first()?, run.last()?)));
        chunks.chain(runs).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Samples held; one written twice counts twice.
    pub(crate) fn samples(&self) -> u64 {
        let sealed: u64 = self.chunks.iter().map(|c| u64::from(c.samples)).sum();
        sealed + (self.late.len() + self.open.len()) as u64
    }

    /// Bytes held on the heap, labels and index share included.
    pub(crate) fn bytes(&self) -> u64 {
        let chunks: usize = self.chunks.iter().map(|c| c.bytes.len() + 16).sum();
        let exemplars: usize =
            self.exemplars.iter().map(|e| size_of::<Exemplar>() + e.labels.as_ref().packed().len()).sum();
        let fixed = size_of::<HeadSeries>() + self.chunks.capacity() * size_of::<HeadChunk>();
        (fixed + chunks + exemplars + self.late.bytes() + self.open.bytes() + 3 * self.labels.as_ref().packed().len())
            as u64
    }

    /// Keeps an exemplar; `false` if it was there already.
    pub(crate) fn add_exemplar(&mut self, exemplar: &Exemplar) -> bool {
        if self.exemplars.contains(exemplar) {
            return false;
        }
        let at = self.exemplars.partition_point(|e| e.time_ms <= exemplar.time_ms);
        self.exemplars.insert(at, exemplar.clone());
        if self.exemplars.len() > EXEMPLARS_PER_SERIES_MAX {
            self.exemplars.remove(0);
        }
        true
    }
}

/// Buffers for sealing.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    columns: Columns,
    bytes: Vec<u8>,
}

/// What a select keeps of one series.
#[derive(Debug, Default)]
pub(crate) struct HeadSnapshot {
    pub(crate) chunks: Vec<HeadChunk>,
    pub(crate) late: OpenRun,
    pub(crate) open: OpenRun,
}

impl HeadSnapshot {
    pub(crate) fn bytes(&self) -> usize {
        size_of::<HeadSnapshot>()
            + self.chunks.capacity() * size_of::<HeadChunk>()
            + self.late.bytes()
            + self.open.bytes()
    }

    pub(crate) fn samples(&self) -> usize {
        self.chunks.iter().map(|c| c.samples as usize).sum::<usize>() + self.late.len() + self.open.len()
    }

    /// Its runs from lowest to highest precedence: first and last time, and how to read them.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (i64, i64, HeadRun<'_>)> {
        let chunks = self.chunks.iter().map(|c| (c.min_time_ms, c.max_time_ms, HeadRun::Chunk(c)));
        let run = |run| HeadRun::Open(run);
        let open = [&self.late, &self.open].into_iter().filter_map(move |r| Some((r.first()?, r.last()?, run(r))));
        chunks.chain(open)
    }
}

/// One run of a snapshot.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HeadRun<'a> {
    Chunk(&'a HeadChunk),
    Open(&'a OpenRun),
}

impl HeadRun<'_> {
    pub(crate) fn read(self, start_ms: i64, end_ms: i64, columns: &mut Columns) -> Result<(), Malformed> {
        match self {
            HeadRun::Chunk(chunk) => chunk::decode(&chunk.bytes, start_ms, end_ms, columns),
            HeadRun::Open(run) => {
                run.read(start_ms, end_ms, columns);
                Ok(())
            }
        }
    }
}
