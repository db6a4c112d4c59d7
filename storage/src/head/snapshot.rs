//! What a select keeps of the head: copies, so that nothing is held locked while they are read.
//!
//! Copies of all series lie back to back in a few lists, so a thousand series take no more allocations than ten. Times
//! that series share are copied once, and decoded once, after unlocking.

use std::ops::Range;
use std::sync::Arc;

use foldhash::HashMap;
use kymo_core::histogram::STALE_NAN_BITS;
use kymo_core::storage::{Columns, RunKind};
use kymo_core::{BudgetExceeded, NativeHistogram};

use super::codec::{self, push_run};
use super::store::{ChunkView, Column};
use crate::codec::{Malformed, Read};
use crate::sample::{RUN_SAMPLES, Sample};

/// No open run, nothing rare.
const NONE: u32 = u32::MAX;

/// Marks names of columns one after another.
const NAMES_SEQUENCE: u64 = 1 << 32;

/// Takes the bytes that a list is about to grow by.
pub(crate) type Pay<'a> = dyn FnMut(u64) -> Result<(), BudgetExceeded> + 'a;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct HeadCopy {
    chunks: Vec<Copied>,
    /// Encoded values of the chunks.
    values: Vec<u8>,
    columns: Vec<CopiedTimes>,
    /// Times as they are encoded.
    encoded: Vec<u8>,
    /// Times as they are: of open runs, and of columns that several chunks have.
    times: Vec<i64>,
    /// Values of open runs.
    bits: Vec<u64>,
    rare: Vec<CopiedRare>,
    /// Columns by what the head calls their times, which changes nothing while it is copied.
    by_name: HashMap<u64, u32>,
    /// Numbers of sequences of columns, by the sequence before the last and the last.
    sequences: HashMap<(u32, u32), u32>,
}

/// What is copied of one series.
#[derive(Debug, Clone)]
pub(crate) struct HeadSnapshot {
    chunks: Range<u32>,
    /// Column of the open run, and where its values begin.
    open: u32,
    bits: u32,
    rare: u32,
    samples: u32,
    /// Equal numbers mean equal columns one after another; 0 if they are not known.
    sequence: u32,
    /// Whether every run lies above the one before.
    is_rising: bool,
}

const _: () = assert!(size_of::<HeadSnapshot>() <= 32);

impl Default for HeadSnapshot {
    fn default() -> HeadSnapshot {
        HeadSnapshot { chunks: 0..0, open: NONE, bits: 0, rare: NONE, samples: 0, sequence: 0, is_rising: true }
    }
}

#[derive(Debug, Clone, Copy)]
struct Copied {
    column: u32,
    len: u32,
    at: usize,
}

#[derive(Debug, Clone, Copy)]
struct CopiedTimes {
    first: i64,
    last: i64,
    /// Chunks and open runs that have it.
    users: u32,
    form: TimesForm,
}

#[derive(Debug, Clone, Copy)]
enum TimesForm {
    /// Stands in the list of encoded ones.
    Encoded { column: Column, at: usize, len: u16 },
    /// Stands in the list of times.
    Decoded { at: usize, count: u8 },
}

impl CopiedTimes {
    fn count(&self) -> usize {
        match self.form {
            TimesForm::Encoded { column, .. } => column.count(),
            TimesForm::Decoded { count, .. } => count.into(),
        }
    }
}

/// What few series have.
#[derive(Debug, Default)]
pub(super) struct CopiedRare {
    /// Samples that came late, by time.
    pub(super) late: Vec<Sample>,
    /// Start timestamps of the open run; empty, or as long.
    pub(super) starts: Vec<i64>,
    /// Histograms of the open run with their positions, rising.
    pub(super) histograms: Vec<(u8, Arc<NativeHistogram>)>,
}

impl CopiedRare {
    fn bytes(&self) -> usize {
        let late: usize = self.late.iter().map(|sample| size_of::<Sample>() + sample.heap_bytes()).sum();
        let histograms: usize = self.histograms.iter().map(|(_, h)| h.bytes() + 24).sum();
        size_of::<CopiedRare>() + late + histograms + self.starts.len() * 8
    }
}

/// Makes room for `more` items, paid for before it is taken.
fn room<T>(list: &mut Vec<T>, more: usize, pay: &mut Pay<'_>) -> Result<(), BudgetExceeded> {
    if list.capacity() - list.len() < more {
        let wanted = (list.len() + more).max(2 * list.capacity());
        pay(((wanted - list.capacity()) * size_of::<T>()) as u64)?;
        list.reserve_exact(wanted - list.len());
    }
    Ok(())
}

impl HeadCopy {
    /// Begins the copy of a series.
    pub(super) fn begin(&self) -> HeadSnapshot {
        let at = self.chunks.len() as u32;
        HeadSnapshot { chunks: at..at, ..HeadSnapshot::default() }
    }

    /// Adds a chunk of the series begun last; those of one series come from the newest down.
    pub(super) fn push_chunk(
        &mut self,
        to: &mut HeadSnapshot,
        chunk: &ChunkView<'_>,
        pay: &mut Pay<'_>,
    ) -> Result<(), BudgetExceeded> {
        let column = match self.by_name.get(&chunk.times_name) {
            Some(&known) => {
                self.columns[known as usize].users += 1;
                known
            }
            None => {
                room(&mut self.encoded, chunk.times.len(), pay)?;
                let at = self.encoded.len();
                self.encoded.extend_from_slice(chunk.times);
                let form = TimesForm::Encoded { column: chunk.column, at, len: chunk.times.len() as u16 };
                self.push_column(chunk.times_name, (chunk.column.first(), chunk.column.last()), form, pay)?
            }
        };
        room(&mut self.values, chunk.values.len(), pay)?;
        room(&mut self.chunks, 1, pay)?;
        self.chunks.push(Copied { column, len: chunk.values.len() as u32, at: self.values.len() });
        self.values.extend_from_slice(chunk.values);
        to.chunks.end += 1;
        to.samples += chunk.column.count() as u32;
        Ok(())
    }

    fn push_column(
        &mut self,
        name: u64,
        (first, last): (i64, i64),
        form: TimesForm,
        pay: &mut Pay<'_>,
    ) -> Result<u32, BudgetExceeded> {
        const ENTRY_BYTES: u64 = 2 * size_of::<(u64, u32)>() as u64;
        room(&mut self.columns, 1, pay)?;
        pay(ENTRY_BYTES)?;
        let number = self.columns.len() as u32;
        self.columns.push(CopiedTimes { first, last, users: 1, form });
        self.by_name.insert(name, number);
        Ok(number)
    }

    /// Adds the open run of the series begun last.
    pub(super) fn push_open(
        &mut self,
        to: &mut HeadSnapshot,
        name: u64,
        times: &[i64],
        bits: &[u64],
        pay: &mut Pay<'_>,
    ) -> Result<(), BudgetExceeded> {
        let (Some(&first), Some(&last)) = (times.first(), times.last()) else { return Ok(()) };
        to.open = match self.by_name.get(&name) {
            Some(&known) => {
                self.columns[known as usize].users += 1;
                known
            }
            None => {
                room(&mut self.times, times.len(), pay)?;
                let form = TimesForm::Decoded { at: self.times.len(), count: times.len() as u8 };
                self.times.extend_from_slice(times);
                self.push_column(name, (first, last), form, pay)?
            }
        };
        room(&mut self.bits, bits.len(), pay)?;
        to.bits = self.bits.len() as u32;
        self.bits.extend_from_slice(bits);
        to.samples += times.len() as u32;
        Ok(())
    }

    /// Adds what few series have to the series begun last.
    pub(super) fn push_rare(
        &mut self,
        to: &mut HeadSnapshot,
        rare: CopiedRare,
        pay: &mut Pay<'_>,
    ) -> Result<(), BudgetExceeded> {
        if rare.late.is_empty() && rare.starts.is_empty() && rare.histograms.is_empty() {
            return Ok(());
        }
        pay(rare.bytes() as u64)?;
        to.rare = self.rare.len() as u32;
        to.samples += rare.late.len() as u32;
        self.rare.push(rare);
        Ok(())
    }

    /// Ends the copy of the series begun last.
    pub(super) fn end(&mut self, series: &HeadSnapshot) {
        self.chunks[series.chunks.start as usize..].reverse();
    }

    /// Does what needs no lock, once all series are copied that are read in this window.
    pub(crate) fn finish<'a>(
        &mut self,
        all: impl Iterator<Item = &'a mut HeadSnapshot>,
        (start_ms, end_ms): (i64, i64),
        pay: &mut Pay<'_>,
    ) -> Result<(), BudgetExceeded> {
        self.by_name = HashMap::default();
        for number in 0..self.columns.len() {
            self.decode_shared(number, pay)?;
        }
        let mut last = (0..0, NONE, HeadSnapshot::default());
        for series in all {
            let chunks = series.chunks.start as usize..series.chunks.end as usize;
            if series.rare == NONE {
                let columns = |range: Range<usize>| self.chunks[range].iter().map(|chunk| chunk.column);
                let is_as_last = last.1 == series.open && columns(chunks.clone()).eq(columns(last.0.clone()));
                if is_as_last && last.2.sequence != 0 {
                    let HeadSnapshot { sequence, is_rising, samples, .. } = last.2;
                    *series = HeadSnapshot { sequence, is_rising, samples, ..series.clone() };
                    continue;
                }
            }
            self.describe(series, (start_ms, end_ms));
            if series.rare == NONE {
                last = (chunks, series.open, series.clone());
            }
        }
        self.sequences = HashMap::default();
        Ok(())
    }

    fn decode_shared(&mut self, number: usize, pay: &mut Pay<'_>) -> Result<(), BudgetExceeded> {
        let CopiedTimes { users: 2.., form: TimesForm::Encoded { column, at, len }, .. } = self.columns[number] else {
            return Ok(());
        };
        let mut decoded = [0; RUN_SAMPLES];
        // What cannot be decoded stays as it is, for whoever reads it to say so.
        if let Ok(times) = column.decode(&self.encoded[at..at + usize::from(len)], &mut decoded) {
            room(&mut self.times, times.len(), pay)?;
            let form = TimesForm::Decoded { at: self.times.len(), count: times.len() as u8 };
            self.times.extend_from_slice(times);
            self.columns[number].form = form;
        }
        Ok(())
    }

    /// Finds the sequence of a series' columns, whether they rise, and how many samples lie in the window.
    fn describe(&mut self, series: &mut HeadSnapshot, (start_ms, end_ms): (i64, i64)) {
        let chunks = series.chunks.start as usize..series.chunks.end as usize;
        let open = (series.open != NONE).then_some(series.open);
        let (mut sequence, mut newest, mut samples) = (0, None, 0);
        for column in self.chunks[chunks].iter().map(|chunk| chunk.column).chain(open) {
            let next = self.sequences.len() as u32 + 1;
            sequence = *self.sequences.entry((sequence, column)).or_insert(next);
            let times = &self.columns[column as usize];
            series.is_rising &= newest.is_none_or(|newest| times.first > newest);
            newest = Some(times.last);
            samples += self.samples_in(times, start_ms, end_ms);
        }
        if let Some(rare) = self.rare.get(series.rare as usize) {
            samples += rare.late.len();
            series.is_rising &= rare.late.is_empty();
        }
        series.samples = samples as u32;
        series.sequence = sequence;
    }

    fn samples_in(&self, times: &CopiedTimes, start_ms: i64, end_ms: i64) -> usize {
        if start_ms < times.first && times.last <= end_ms {
            return times.count();
        }
        let mut room = [0; RUN_SAMPLES];
        // What cannot be decoded is told to whoever reads it.
        self.decoded(times, &mut room).map_or(0, |times| window(times, start_ms, end_ms).len())
    }

    fn decoded<'a>(&'a self, times: &CopiedTimes, room: &'a mut [i64; RUN_SAMPLES]) -> Read<&'a [i64]> {
        match times.form {
            TimesForm::Decoded { at, count } => Ok(&self.times[at..at + usize::from(count)]),
            TimesForm::Encoded { column, at, len } => column.decode(&self.encoded[at..at + usize::from(len)], room),
        }
    }

    /// The runs of a series from lowest to highest precedence: first and last time, and how to read them.
    pub(crate) fn runs(&self, series: &HeadSnapshot) -> impl Iterator<Item = (i64, i64, HeadRun<'_>)> {
        let chunks = &self.chunks[series.chunks.start as usize..series.chunks.end as usize];
        let chunks = chunks.iter().map(|chunk| {
            let times = &self.columns[chunk.column as usize];
            (times.first, times.last, HeadRun::Chunk(self, *chunk))
        });
        let late = self.rare.get(series.rare as usize).map_or(&[][..], |rare| &rare.late);
        let late =
            late.first().zip(late.last()).map(|(first, last)| (first.time_ms, last.time_ms, HeadRun::Late(late)));
        let open = self.columns.get(series.open as usize);
        let open =
            open.map(|times| (times.first, times.last, HeadRun::Open(self, series.open, series.bits, series.rare)));
        chunks.chain(late).chain(open)
    }

    /// Reads a series whose runs rise: appends its samples in the window to `columns`.
    ///
    /// # Errors
    /// A run is damaged.
    pub(crate) fn read_rising(
        &self,
        series: &HeadSnapshot,
        (start_ms, end_ms): (i64, i64),
        columns: &mut Columns,
    ) -> Read<()> {
        debug_assert!(series.is_rising(), "runs that meet are merged");
        columns.times.reserve(series.samples());
        columns.floats.reserve(series.samples());
        for chunk in &self.chunks[series.chunks.start as usize..series.chunks.end as usize] {
            self.read_chunk(*chunk, start_ms, end_ms, columns)?;
        }
        if series.open != NONE {
            self.read_open((series.open, series.bits, series.rare), start_ms, end_ms, columns);
        }
        Ok(())
    }

    fn read_chunk(&self, chunk: Copied, start_ms: i64, end_ms: i64, columns: &mut Columns) -> Read<()> {
        let mut room = [0; RUN_SAMPLES];
        let times = self.decoded(&self.columns[chunk.column as usize], &mut room)?;
        let kept = window(times, start_ms, end_ms);
        if kept.is_empty() {
            return Ok(());
        }
        columns.times.extend_from_slice(&times[kept.clone()]);
        codec::decode(&self.values[chunk.at..chunk.at + chunk.len as usize], times.len(), kept, columns)
    }

    fn read_open(&self, (column, bits, rare): (u32, u32, u32), start_ms: i64, end_ms: i64, columns: &mut Columns) {
        let TimesForm::Decoded { at, count } = self.columns[column as usize].form else { return };
        let times = &self.times[at..at + usize::from(count)];
        let bits = &self.bits[bits as usize..bits as usize + times.len()];
        let kept = window(times, start_ms, end_ms);
        let rare = self.rare.get(rare as usize).filter(|rare| !rare.starts.is_empty() || !rare.histograms.is_empty());
        if rare.is_none() && columns.starts.is_empty() && !bits[kept.clone()].contains(&STALE_NAN_BITS) {
            columns.times.extend_from_slice(&times[kept.clone()]);
            push_run(columns, RunKind::Float, kept.len());
            columns.floats.extend(bits[kept].iter().map(|bits| f64::from_bits(*bits)));
            return;
        }
        let (starts, histograms) = rare.map_or((&[][..], &[][..]), |rare| (&rare.starts, &rare.histograms));
        for at in kept {
            let histogram = histograms.binary_search_by_key(&at, |(at, _)| usize::from(*at)).ok();
            let sample = Sample {
                time_ms: times[at],
                start_ms: starts.get(at).copied().unwrap_or(0),
                bits: bits[at],
                histogram: histogram.map(|n| Arc::clone(&histograms[n].1)),
            };
            sample.read(columns);
        }
    }

    /// About how many bytes the samples of a series take where they were copied from.
    pub(crate) fn stored_bytes(&self, series: &HeadSnapshot) -> u64 {
        let chunks = &self.chunks[series.chunks.start as usize..series.chunks.end as usize];
        let open = self.columns.get(series.open as usize).map_or(0, CopiedTimes::count);
        let late = self.rare.get(series.rare as usize).map_or(0, |rare| rare.late.len() * size_of::<Sample>());
        chunks.iter().map(|chunk| u64::from(chunk.len)).sum::<u64>() + (open * size_of::<u64>() + late) as u64
    }
}

/// Positions of the times with `start < time <= end`.
fn window(times: &[i64], start_ms: i64, end_ms: i64) -> Range<usize> {
    let low = if times.first().is_some_and(|first| *first > start_ms) {
        0
    } else {
        times.partition_point(|time| *time <= start_ms)
    };
    let high = if times.last().is_some_and(|last| *last <= end_ms) {
        times.len()
    } else {
        times.partition_point(|time| *time <= end_ms)
    };
    low..high.max(low)
}

impl HeadSnapshot {
    /// Samples in the window; before [`HeadCopy::finish`], in runs that reach into it.
    pub(crate) fn samples(&self) -> usize {
        self.samples as usize
    }

    /// Names the times of a series whose runs rise: in one window, series of one copy that have the same have equal
    /// times. `None`: it has none.
    pub(crate) fn times_name(&self) -> Option<u64> {
        (self.sequence != 0).then(|| NAMES_SEQUENCE | u64::from(self.sequence))
    }

    /// Whether its runs do not meet, so that they can be read one after another.
    pub(crate) fn is_rising(&self) -> bool {
        self.is_rising
    }
}

/// One run of a copy.
#[derive(Debug, Clone, Copy)]
#[expect(private_interfaces, reason = "only this module makes and takes apart a chunk's copy")]
pub(crate) enum HeadRun<'a> {
    /// A sealed chunk.
    Chunk(&'a HeadCopy, Copied),
    /// Samples that came late, by time.
    Late(&'a [Sample]),
    /// The open run: column, place of the values, what is rare.
    Open(&'a HeadCopy, u32, u32, u32),
}

impl HeadRun<'_> {
    /// What its times are called: in one window, runs of one copy that are called the same have equal times. `None`:
    /// they have no name.
    pub(crate) fn times_name(&self) -> Option<u64> {
        match self {
            HeadRun::Chunk(_, chunk) => Some(chunk.column.into()),
            HeadRun::Late(_) => None,
            HeadRun::Open(_, column, ..) => Some((*column).into()),
        }
    }

    /// Appends the samples with `start < time <= end` to `columns`, whose last time must lie below.
    ///
    /// # Errors
    /// The run is damaged.
    pub(crate) fn read(self, start_ms: i64, end_ms: i64, columns: &mut Columns) -> Result<(), Malformed> {
        match self {
            HeadRun::Chunk(copy, chunk) => copy.read_chunk(chunk, start_ms, end_ms, columns),
            HeadRun::Late(samples) => {
                let covered = samples.iter().filter(|s| s.time_ms > start_ms && s.time_ms <= end_ms);
                covered.for_each(|sample| sample.read(columns));
                Ok(())
            }
            HeadRun::Open(copy, column, bits, rare) => {
                copy.read_open((column, bits, rare), start_ms, end_ms, columns);
                Ok(())
            }
        }
    }
}
