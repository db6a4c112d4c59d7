//! What the head's lock guards: series, their runs, and what is sealed of them.

use foldhash::fast::FixedState;
use kymo_core::batch::Exemplar;
use kymo_core::histogram::NativeHistogram;
use kymo_core::{BudgetExceeded, Labels, LabelsRef, Matcher, QueryContext, SelectError};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::codec::RunValues;
use super::late::LOOKS_PER_SAMPLE;
use super::open::{Part, Slots, Tracks};
use super::postings::Carriers;
use super::series::HeadSeries;
use super::snapshot::{CopiedRare, HeadCopy, HeadSnapshot, Pay};
use super::store::{ChunkStore, ChunkView, NAMES_FROZEN, NONE, Standing};
use super::table::Table;
use crate::listing::{Listing, Order};
use crate::presence::reached;
use crate::sample::{RUN_SAMPLES, Sample};
use crate::select::SERIES_PER_CHECK;

/// Chunks of one series, half a million samples, with which the head is full: to look at all of them takes some fifty
/// microseconds.
const CHUNKS_MAX: u16 = 8_192;

/// See [`super`].
#[derive(Debug)]
pub(crate) struct HeadState {
    pub(super) table: Table,
    slots: Slots,
    tracks: Tracks,
    /// What was sealed since the last freeze.
    pub(super) store: ChunkStore,
    /// What is being flushed, or could not be.
    frozen: Option<ChunkStore>,
    /// The run sealed last and its column: the next one is mostly of the same scrape.
    sealed: Option<(Part, u32)>,
    pub(super) held: Held,
    /// The same of what is set apart.
    frozen_held: Held,
    /// What the boxes of the series hold.
    pub(super) rare_bytes: usize,
    pub(super) hasher: FixedState,
}

/// What the head holds since a freeze, and what that took.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) samples: u64,
    /// At chunks, for late samples.
    pub(super) looks: u64,
    /// The most chunks that a series has.
    chunks_max: u16,
}

impl Held {
    fn weight(&self) -> u64 {
        self.samples + self.looks / LOOKS_PER_SAMPLE
    }

    /// A chunk of this series was sealed.
    pub(super) fn sealed(&mut self, series: &mut HeadSeries) {
        series.chunks = series.chunks.saturating_add(1);
        self.chunks_max = self.chunks_max.max(series.chunks);
    }
}

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stored,
    Identical,
    Replaced,
}

impl HeadState {
    pub(super) fn new(hasher: FixedState) -> HeadState {
        HeadState {
            table: Table::default(),
            slots: Slots::default(),
            tracks: Tracks::default(),
            store: ChunkStore::default(),
            frozen: None,
            sealed: None,
            held: Held::default(),
            frozen_held: Held::default(),
            rare_bytes: 0,
            hasher,
        }
    }

    /// Series that can take samples.
    pub(crate) fn series(&self) -> usize {
        self.table.len()
    }

    /// Samples held; one written twice counts twice.
    pub(crate) fn samples(&self) -> u64 {
        self.held.samples + self.frozen_held.samples
    }

    /// What appending all that is held took, in samples that come in order: late ones are looked for.
    pub(crate) fn weight(&self) -> u64 {
        self.held.weight() + self.frozen_held.weight()
    }

    /// Whether it holds as much as it should before a flush: what weighs so much, or a series so long that to look at all its
    /// chunks takes long.
    pub(crate) fn is_full(&self, weight: u64) -> bool {
        self.fill_ratio(weight) >= 1.0
    }

    /// How much of that it holds.
    pub(crate) fn fill_ratio(&self, weight: u64) -> f64 {
        let longest = self.held.chunks_max.max(self.frozen_held.chunks_max);
        (self.weight() as f64 / weight as f64).max(f64::from(longest) / f64::from(CHUNKS_MAX))
    }

    /// Bytes held, labels and index with them. O(1).
    pub(crate) fn bytes(&self) -> u64 {
        let frozen = self.frozen.as_ref().map_or(0, ChunkStore::bytes);
        let runs = self.slots.bytes() + self.tracks.bytes() + self.store.bytes() + frozen;
        (self.table.bytes() + runs + self.rare_bytes) as u64
    }

    /// Touches the memory that looking for series of these hashes begins with, without that one look-up waits for another.
    pub(crate) fn touch_hashes(&self, hashes: &[u64]) {
        std::hint::black_box(hashes.iter().fold(0, |sum, hash| sum ^ self.table.touch(*hash)));
    }

    pub(crate) fn find(&self, hash: u64, labels: LabelsRef<'_>) -> Option<u32> {
        self.table.find(hash, labels)
    }

    /// Adds a series that is not there; `None` when the numbers are used up.
    pub(crate) fn insert(&mut self, hash: u64, labels: Labels) -> Option<u32> {
        self.table.insert(hash, labels)
    }

    /// Lets the index of series that are added be made beside it, until [`index_here`](Self::index_here): nothing may be
    /// selected meanwhile, and no series freed.
    pub(crate) fn index_beside(&mut self) {
        self.table.index_beside();
    }

    /// Has the index complete again.
    pub(crate) fn index_here(&mut self) {
        self.table.index_here();
    }

    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&HeadSeries> {
        self.table.get(number)
    }

    /// The number that the next series gets: all others are below.
    pub(crate) fn numbers_end(&self) -> u32 {
        self.table.numbers_end()
    }

    /// Numbers of the series that satisfy all matchers. Fails only when `check` does, which is asked now and then.
    pub(crate) fn select<E>(
        &self,
        matchers: &[Matcher],
        check: &impl Fn() -> Result<(), E>,
    ) -> Result<RoaringBitmap, E> {
        self.table.postings.select(matchers, check)
    }

    /// The same, of those that may have a sample in the window.
    pub(crate) fn select_reaching(
        &self,
        matchers: &[Matcher],
        (start_ms, end_ms): (i64, i64),
        ctx: &QueryContext,
    ) -> Result<Vec<u32>, SelectError> {
        let mut reaching = Vec::new();
        for (at, number) in self.select(matchers, &|| ctx.check())?.into_iter().enumerate() {
            if at.is_multiple_of(SERIES_PER_CHECK) {
                ctx.check()?;
            }
            if self.get(number).is_some_and(|series| self.reaches(series, start_ms, end_ms)) {
                reaching.push(number);
            }
        }
        Ok(reaching)
    }

    /// Adds the label names, or the values of a label, that series with all matchers have who may have a sample after
    /// `start_of` their labels and up to `end_ms`. One such series is looked for, not all, and none where the name or value is
    /// listed already.
    pub(crate) fn names_or_values(
        &self,
        name: Option<&str>,
        matchers: &[Matcher],
        (start_of, end_ms): (impl Fn(&Labels) -> i64, i64),
        ctx: &QueryContext,
        listing: &mut Listing,
    ) -> Result<(), SelectError> {
        let all = matchers.iter().all(Matcher::matches_anything);
        let selected = if all { None } else { Some(self.select(matchers, &|| ctx.check())?) };
        let has_one = |carriers: &Carriers| {
            carriers.iter().any(|number| {
                selected.as_ref().is_none_or(|selected| selected.contains(number))
                    && self.get(number).is_some_and(|series| self.reaches(series, start_of(&series.labels), end_ms))
            })
        };
        match name {
            Some(name) => {
                let postings = &self.table.postings;
                if let Some(values) = postings.sorted_values(name) {
                    listing.begin(Order::Rising);
                    for value in values {
                        let has_one = |_: &_| postings.carriers(name, value).is_some_and(has_one);
                        if let Some(unlisted) = listing.lacks(value).filter(has_one) {
                            listing.add_lacking(unlisted);
                        }
                    }
                    return Ok(());
                }
                listing.begin(Order::None);
                for (value, carriers) in postings.values(name) {
                    if let Some(unlisted) = listing.lacks(value).filter(|_| has_one(carriers)) {
                        listing.add_lacking(unlisted);
                    }
                }
            }
            None => {
                listing.begin(Order::None);
                for name in self.table.postings.names() {
                    let Some(unlisted) = listing.lacks(name) else { continue };
                    if self.table.postings.values(name).any(|(_, carriers)| has_one(carriers)) {
                        listing.add_lacking(unlisted);
                    }
                }
            }
        }
        Ok(())
    }

    /// Touches the memory that a sample of this series will need. Calls for many series do not wait for each other.
    #[inline]
    pub(crate) fn touch(&self, number: u32) -> u64 {
        match self.table.get(number) {
            Some(series) if series.slot != NONE => self.slots.value(series.slot, usize::from(series.len) % RUN_SAMPLES),
            _ => 0,
        }
    }

    /// Adds a float without a start timestamp, if it lies above everything ever written to the series, which by far
    /// the most do. `false`: nothing was done.
    #[inline]
    pub(crate) fn append_ahead(&mut self, number: u32, time_ms: i64, bits: u64, blocks_max: i64) -> bool {
        let Some(series) = self.table.get_mut(number) else { return false };
        if !series.is_ahead(time_ms, blocks_max) || series.is_odd {
            return false;
        }
        series.newest_ms = time_ms;
        series.idle_flushes = 0;
        self.held.samples += 1;
        if push(series, &mut self.slots, &mut self.tracks, time_ms, bits) {
            self.seal_open(number);
        }
        true
    }

    /// Adds a sample. `in_blocks` says what blocks hold of the series, if that was looked up: its newest time there,
    /// and the sample at this one's time. `None`: there is no such series.
    pub(crate) fn append(
        &mut self,
        number: u32,
        sample: Sample,
        blocks_max: i64,
        in_blocks: Option<&(i64, Option<Sample>)>,
    ) -> Option<Outcome> {
        let series = self.table.get_mut(number)?;
        if let Some((newest, _)) = in_blocks {
            series.set_newest_in_blocks(*newest);
        }
        series.idle_flushes = 0;
        let rare_before = series.rare_bytes();
        let time_ms = sample.time_ms;
        let outcome = if series.is_ahead(time_ms, blocks_max) {
            series.newest_ms = time_ms;
            let at = series.len;
            put_odd(series, at, sample.start_ms, sample.histogram.clone());
            self.held.samples += 1;
            let is_full = push(series, &mut self.slots, &mut self.tracks, time_ms, sample.bits);
            self.rare_bytes = self.rare_bytes + series.rare_bytes() - rare_before;
            if is_full {
                self.seal_open(number);
            }
            return Some(Outcome::Stored);
        } else if let Some(at) = self.in_open(number, time_ms) {
            // Invariant 1: it is nowhere else in the head.
            self.replace_open(number, at, sample)
        } else {
            self.append_late(number, sample, in_blocks.and_then(|(_, sample)| sample.as_ref()))
        };
        let series = self.table.get_mut(number)?;
        series.newest_ms = series.newest_ms.max(time_ms);
        self.rare_bytes = self.rare_bytes + series.rare_bytes() - rare_before;
        let is_full = series.rare.as_ref().is_some_and(|rare| rare.late.len() >= RUN_SAMPLES);
        if is_full {
            self.seal_late(number);
        }
        Some(outcome)
    }

    /// Position in the open run of a sample at exactly `time_ms`.
    fn in_open(&self, number: u32, time_ms: i64) -> Option<usize> {
        let series = self.table.get(number).filter(|series| series.len > 0)?;
        self.tracks.times(series.part()).binary_search(&time_ms).ok()
    }

    fn open_sample(&self, series: &HeadSeries, at: usize) -> Sample {
        let (start_ms, histogram) = match &series.rare {
            Some(rare) if series.is_odd => {
                let found = rare.histograms.binary_search_by_key(&at, |(at, _)| usize::from(*at)).ok();
                (rare.starts.get(at).copied().unwrap_or(0), found.map(|n| Arc::clone(&rare.histograms[n].1)))
            }
            _ => (0, None),
        };
        let bits = self.slots.value(series.slot, at);
        Sample { time_ms: self.tracks.times(series.part())[at], start_ms, bits, histogram }
    }

    fn replace_open(&mut self, number: u32, at: usize, sample: Sample) -> Outcome {
        let before = self.table.get(number).map(|series| self.open_sample(series, at));
        if before.is_some_and(|before| before.is_identical(&sample)) {
            return Outcome::Identical;
        }
        if let Some(series) = self.table.get_mut(number) {
            series.slot = self.slots.put(series.slot, usize::from(series.len), at, sample.bits);
            if let Some(rare) = &mut series.rare {
                rare.histograms.retain(|(position, _)| usize::from(*position) != at);
                if let Some(start) = rare.starts.get_mut(at) {
                    *start = 0;
                }
            }
            put_odd(series, at as u8, sample.start_ms, sample.histogram);
        }
        Outcome::Replaced
    }

    /// Its sealed chunks, newest first.
    pub(super) fn chunks(&self, series: &HeadSeries) -> impl Iterator<Item = ChunkView<'_>> {
        let frozen = self.frozen.iter().flat_map({
            let last = series.frozen;
            move |store| store.chunks(last)
        });
        let frozen = frozen.map(|chunk| ChunkView { times_name: chunk.times_name | NAMES_FROZEN, ..chunk });
        self.store.chunks(series.chunk).chain(frozen)
    }

    /// Those of them that may reach a time or a later one, and others.
    pub(super) fn chunks_until(&self, series: &HeadSeries, time_ms: i64) -> impl Iterator<Item = ChunkView<'_>> {
        let (mut is_past_lowest, mut is_past_run) = (false, false);
        self.chunks(series).take_while(move |chunk| {
            let is_run = chunk.standing != Standing::Anywhere;
            if is_past_lowest || (is_past_run && is_run) {
                return false;
            }
            if is_run && chunk.column.first() <= time_ms {
                is_past_lowest = chunk.standing == Standing::AboveAll;
                is_past_run = true;
            }
            true
        })
    }

    /// Seals the open run and begins no new one.
    fn seal_open(&mut self, number: u32) {
        let Some(series) = self.table.get_mut(number).filter(|series| series.len > 0) else { return };
        if self.tracks.freed() {
            self.sealed = None;
        }
        let part = series.part();
        let times = self.tracks.times(part);
        let column = match self.sealed {
            Some((same, column)) if same == part => column,
            _ => self.store.column(times, &self.hasher),
        };
        self.sealed = Some((part, column));
        let mut room = [0; RUN_SAMPLES];
        let bits = self.slots.values(series.slot, 0..times.len(), &mut room);
        let is_constant = bits.iter().all(|value| *value == bits[0]);
        let mut freed = 0;
        let standing = self.store.standing_of(series.chunk, column);
        if let Some(rare) = &mut series.rare {
            rare.gaps = rare.gaps.without_open(times[0]);
        }
        series.chunk = match &mut series.rare {
            Some(rare) if series.is_odd => {
                freed = rare.bytes();
                let values = RunValues { bits, starts: &rare.starts, histograms: &rare.histograms };
                let chunk = self.store.seal(series.chunk, column, standing, values);
                rare.starts.clear();
                rare.histograms.clear();
                freed -= rare.bytes();
                chunk
            }
            _ => self.store.seal(series.chunk, column, standing, RunValues { bits, starts: &[], histograms: &[] }),
        };
        self.rare_bytes -= freed;
        self.held.sealed(series);
        if is_constant {
            series.slot = self.slots.end_equal(series.slot);
        }
        series.len = 0;
        series.is_odd = false;
        self.tracks.end(series.track);
        series.track = NONE;
    }

    /// Takes away the samples and exemplars of a series between two times, both inclusive; also what is set apart.
    pub(crate) fn delete(&mut self, number: u32, start_ms: i64, end_ms: i64) {
        let Some(series) = self.table.get(number) else { return };
        let is_inside = |time_ms: i64| start_ms <= time_ms && time_ms <= end_ms;
        if self.reaches(series, start_ms.saturating_sub(1), end_ms) {
            self.seal_late(number);
            self.seal_open(number);
        }
        let Some(series) = self.table.get_mut(number) else { return };
        let gone;
        (series.chunk, gone) = self.store.without(series.chunk, start_ms, end_ms, &self.hasher);
        self.held.samples -= gone;
        if let Some(frozen) = &mut self.frozen {
            let gone;
            (series.frozen, gone) = frozen.without(series.frozen, start_ms, end_ms, &self.hasher);
            self.frozen_held.samples -= gone;
        }
        if series.exemplars().iter().any(|exemplar| is_inside(exemplar.time_ms)) {
            let before = series.rare_bytes();
            series.rare().exemplars.retain(|exemplar| !is_inside(exemplar.time_ms));
            self.rare_bytes = self.rare_bytes + series.rare_bytes() - before;
        }
    }

    /// Keeps an exemplar; `None` if there is no such series, `false` if it was there already.
    pub(crate) fn add_exemplar(&mut self, number: u32, exemplar: &Exemplar) -> Option<bool> {
        let series = self.table.get_mut(number)?;
        series.idle_flushes = 0;
        let before = series.rare_bytes();
        let is_new = series.rare().add_exemplar(exemplar);
        self.rare_bytes = self.rare_bytes + series.rare_bytes() - before;
        Some(is_new)
    }

    /// Seals every run and sets all chunks apart for a flush. What an earlier flush left must be gone.
    pub(crate) fn freeze(&mut self) {
        assert!(self.frozen.is_none(), "one flush at a time");
        let numbers: Vec<u32> = self.table.iter().filter(|(_, s)| s.len > 0 || s.rare.is_some()).map(|s| s.0).collect();
        for number in numbers {
            self.seal_late(number);
            self.seal_open(number);
        }
        for series in self.table.iter_mut() {
            series.frozen = std::mem::replace(&mut series.chunk, NONE);
            series.slot = NONE;
            series.chunks = 0;
        }
        self.slots.reset();
        self.tracks.reset();
        self.sealed = None;
        let store = std::mem::take(&mut self.store);
        if !store.is_empty() {
            self.frozen = Some(store);
        }
        self.frozen_held = std::mem::take(&mut self.held);
    }

    /// Touches the memory that copying what is set apart of these series begins with, without that one waits for another.
    pub(crate) fn touch_frozen(&self, numbers: impl Iterator<Item = u32>) {
        let Some(store) = &self.frozen else { return };
        let newest = numbers.filter_map(|number| self.table.get(number)).map(|series| series.frozen);
        let chunks = newest.filter_map(|chunk| store.at(chunk)).collect::<Vec<_>>();
        std::hint::black_box(chunks.iter().fold(0, |sum, chunk| sum ^ store.touch(chunk)));
    }

    /// Copies what is set apart of a series and reaches into the window.
    pub(crate) fn copy_frozen(&self, number: u32, (start_ms, end_ms): (i64, i64), to: &mut HeadCopy) -> HeadSnapshot {
        let mut snapshot = to.begin();
        if let (Some(series), Some(store)) = (self.table.get(number), &self.frozen) {
            let mut chunks = store.chunks(series.frozen).filter(|chunk| chunk.column.reaches(start_ms, end_ms));
            let copied = chunks.try_for_each(|chunk| to.push_chunk(&mut snapshot, &chunk, &mut |_| Ok(())));
            debug_assert!(copied.is_ok(), "nobody asks for payment");
        }
        to.end(&snapshot);
        snapshot
    }

    /// First and last times of the chunks that are set apart.
    pub(crate) fn frozen_bounds(&self, number: u32) -> impl Iterator<Item = (i64, i64)> {
        let last = self.table.get(number).map_or(NONE, |series| series.frozen);
        let chunks = self.frozen.iter().flat_map(move |store| store.chunks(last));
        chunks.map(|chunk| (chunk.column.first(), chunk.column.last()))
    }

    /// Forgets what was set apart, and the exemplars for which `is_flushed` holds: they are in blocks now.
    pub(crate) fn drop_frozen(&mut self, mut is_flushed: impl FnMut(u32, &Exemplar) -> bool) {
        self.frozen = None;
        self.frozen_held = Held::default();
        let with_exemplars: Vec<u32> =
            self.table.iter().filter(|(_, s)| !s.exemplars().is_empty()).map(|(number, _)| number).collect();
        for number in with_exemplars {
            if let Some(rare) = self.table.get_mut(number).and_then(|series| series.rare.as_mut()) {
                rare.exemplars.retain(|exemplar| !is_flushed(number, exemplar));
            }
        }
        let mut rare_bytes = 0;
        for series in self.table.iter_mut() {
            series.frozen = NONE;
            series.tidy();
            rare_bytes += series.rare_bytes();
        }
        self.rare_bytes = rare_bytes;
    }

    /// Frees series that took nothing for more than `flushes` flushes, unless `is_kept`; to be called once after each.
    /// Gives how many.
    pub(crate) fn free_idle(
        &mut self,
        flushes: u8,
        is_kept: impl Fn(u32) -> bool,
        hash_of: impl Fn(LabelsRef<'_>) -> u64,
    ) -> usize {
        self.table.iter_mut().for_each(|series| series.idle_flushes = series.idle_flushes.saturating_add(1));
        let is_gone =
            |number: u32, series: &HeadSeries| series.is_empty() && series.idle_flushes > flushes && !is_kept(number);
        self.table.remove_if(is_gone, hash_of)
    }

    /// Copies what a select needs of a series in the window: chunks that reach into it, and the runs.
    ///
    /// # Errors
    /// Those of `pay`.
    pub(crate) fn copy(
        &self,
        series: &HeadSeries,
        (start_ms, end_ms): (i64, i64),
        to: &mut HeadCopy,
        pay: &mut Pay<'_>,
    ) -> Result<HeadSnapshot, BudgetExceeded> {
        let mut snapshot = to.begin();
        let chunks = self.chunks_until(series, start_ms.saturating_add(1));
        for chunk in chunks.filter(|chunk| chunk.column.reaches(start_ms, end_ms)) {
            to.push_chunk(&mut snapshot, &chunk, pay)?;
        }
        let (mut low, mut high) = (0, 0);
        if series.len > 0 {
            let part = series.part();
            let times = self.tracks.times(part);
            low = times.partition_point(|t| *t <= start_ms);
            high = times.partition_point(|t| *t <= end_ms).max(low);
            let mut room = [0; RUN_SAMPLES];
            let bits = self.slots.values(series.slot, low..high, &mut room);
            to.push_open(&mut snapshot, part.name(low, high - low), &times[low..high], bits, pay)?;
        }
        if let Some(rare) = &series.rare {
            let late = rare.late.iter().filter(|s| s.time_ms > start_ms && s.time_ms <= end_ms).cloned().collect();
            let mut copied = CopiedRare { late, ..CopiedRare::default() };
            if series.is_odd {
                copied.starts = rare.starts.get(low..high).unwrap_or(&[]).to_vec();
                let inside = rare.histograms.iter().filter(|(at, _)| (low..high).contains(&usize::from(*at)));
                copied.histograms = inside.map(|(at, h)| (at - low as u8, Arc::clone(h))).collect();
            }
            to.push_rare(&mut snapshot, copied, pay)?;
        }
        to.end(&snapshot);
        Ok(snapshot)
    }

    /// Whether a sample may lie in the window.
    pub(crate) fn reaches(&self, series: &HeadSeries, start_ms: i64, end_ms: i64) -> bool {
        self.run_bounds(series).into_iter().flatten().any(|(first, last)| last > start_ms && first <= end_ms)
            || self.chunks_until(series, start_ms.saturating_add(1)).any(|c| c.column.reaches(start_ms, end_ms))
    }

    /// In which windows a sample after this time may lie, as bits.
    pub(crate) fn present(&self, series: &HeadSeries, windows: &[(i64, i64)], after_ms: i64) -> u32 {
        let chunks = self.chunks_until(series, after_ms.saturating_add(1));
        let chunks = chunks.map(|chunk| (chunk.column.first(), chunk.column.last()));
        let bounds = self.run_bounds(series).into_iter().flatten().chain(chunks);
        bounds.fold(0, |bits, bounds| bits | reached(windows, after_ms, bounds))
    }

    /// First and last time held.
    pub(crate) fn bounds(&self, series: &HeadSeries) -> Option<(i64, i64)> {
        let chunks = self.chunks(series).map(|c| (c.column.first(), c.column.last()));
        let runs = self.run_bounds(series).into_iter().flatten();
        chunks.chain(runs).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Adds to each multiple of `width_ms` the samples that the series of these numbers have there, whole chunks by their last;
    /// what is set apart counts.
    pub(crate) fn count_by_time(&self, numbers: Range<u32>, width_ms: i64, counts: &mut BTreeMap<i64, u64>) {
        for series in numbers.filter_map(|number| self.table.get(number)) {
            let late = series.rare.as_ref().map_or(&[][..], |rare| &rare.late);
            let open = if series.len > 0 { self.tracks.times(series.part()) } else { &[] };
            let late = late.last().map(|last| (late.len(), last.time_ms));
            let open = open.last().map(|last| (open.len(), *last));
            let chunks = self.chunks(series).map(|chunk| (chunk.column.count(), chunk.column.last()));
            for (samples, last) in late.into_iter().chain(open).chain(chunks) {
                *counts.entry(last.div_euclid(width_ms)).or_default() += samples as u64;
            }
        }
    }

    fn run_bounds(&self, series: &HeadSeries) -> [Option<(i64, i64)>; 2] {
        let late = series.rare.as_ref().map_or(&[][..], |rare| &rare.late);
        let late = late.first().zip(late.last()).map(|(first, last)| (first.time_ms, last.time_ms));
        let open = if series.len > 0 { self.tracks.times(series.part()) } else { &[] };
        [late, open.first().copied().zip(open.last().copied())]
    }
}

/// Adds a value to the open run; `true` if that is full now.
#[inline]
fn push(series: &mut HeadSeries, slots: &mut Slots, tracks: &mut Tracks, time_ms: i64, bits: u64) -> bool {
    let len = series.len;
    if len == 0 {
        series.slot = slots.begin(series.slot, bits);
        let (track, start) = tracks.begin(time_ms);
        (series.track, series.start) = (track, start as u16);
    } else {
        series.slot = slots.put(series.slot, usize::from(len), usize::from(len), bits);
        if let Some((track, start)) = tracks.extend(series.part(), time_ms) {
            (series.track, series.start) = (track, start as u16);
        }
    }
    series.len = len + 1;
    usize::from(series.len) == RUN_SAMPLES
}

/// Notes what the sample at position `at` of the open run has beside its value.
fn put_odd(series: &mut HeadSeries, at: u8, start_ms: i64, histogram: Option<Arc<NativeHistogram>>) {
    if start_ms == 0 && histogram.is_none() && !series.is_odd {
        return;
    }
    let len = usize::from(series.len.max(at + 1));
    series.is_odd = true;
    let rare = series.rare();
    if start_ms != 0 || !rare.starts.is_empty() {
        rare.starts.resize(len, 0);
        rare.starts[usize::from(at)] = start_ms;
    }
    if let Some(histogram) = histogram {
        let n = rare.histograms.partition_point(|(position, _)| *position < at);
        rare.histograms.insert(n, (at, histogram));
    }
}

const _: () = assert!(RUN_SAMPLES < u8::MAX as usize);
