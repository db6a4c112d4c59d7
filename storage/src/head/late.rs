//! Samples that come behind others of their series.
//!
//! Whether one is there already has to be known, to tell its sender and to keep it only once, so it is looked for in the chunks
//! that the head holds of its series. Three things bound what that takes:
//! - chunks are looked at in the order in which they were sealed, newest first, until one that was an open run begins at or
//!   below the time: what is older lies below it ([`Standing`]);
//! - a look that finds nothing notes the gap between samples that it was in, and what comes into the same gap needs none: so
//!   one backfill that rises or falls is looked for once a flush;
//! - what is left is counted, and the head is full by that as well ([`HeadState::weight`]): replay has to do it again.

use kymo_core::storage::Columns;

use super::codec::RunValues;
use super::series::{Gap, Gaps, HeadSeries};
use super::state::{HeadState, Outcome};
use super::store::Standing;
use crate::sample::Sample;

/// Looks at a chunk that take as long as a sample that comes in order.
pub(super) const LOOKS_PER_SAMPLE: u64 = 4;
/// What a late sample takes by itself, in looks.
const LOOKS_PER_LATE: u64 = 4;
/// What it takes to look into a chunk, in looks at one: its times are decoded.
const LOOKS_INSIDE: u64 = 16;

/// What was found of a time in the chunks of a series.
struct Looked {
    /// The newest sample at exactly that time.
    sample: Option<Sample>,
    /// That the time is in, if there is none.
    gap: Gap,
    looks: u64,
}

impl HeadState {
    /// Adds a sample that is not ahead of its series, nor at a time of the open run.
    pub(super) fn append_late(&mut self, number: u32, sample: Sample, in_blocks: Option<&Sample>) -> Outcome {
        let time_ms = sample.time_ms;
        self.held.looks += LOOKS_PER_LATE;
        let Some(series) = self.table.get(number) else { return Outcome::Identical };
        let (late, gaps) = series.rare.as_ref().map_or((&[][..], Gaps::default()), |rare| (&rare.late, rare.gaps));
        let found = late.binary_search_by_key(&time_ms, |s| s.time_ms);
        let mut before = found.ok().map(|at| late[at].clone());
        let mut new_gaps = None;
        if before.is_none() && !gaps.contain(time_ms) {
            let looked = self.look(series, time_ms);
            new_gaps = looked.sample.is_none().then(|| gaps.with(looked.gap));
            before = looked.sample;
            self.held.looks += looked.looks;
        }
        let Some(series) = self.table.get_mut(number) else { return Outcome::Identical };
        let rare = series.rare();
        rare.gaps = new_gaps.unwrap_or(gaps);
        let before = before.as_ref().or(in_blocks);
        let is_there = before.is_some();
        if before.is_some_and(|before| before.is_identical(&sample)) {
            return Outcome::Identical;
        }
        match found {
            Ok(at) => rare.late[at] = sample,
            Err(at) => {
                rare.late.insert(at, sample);
                self.held.samples += 1;
            }
        }
        if is_there { Outcome::Replaced } else { Outcome::Stored }
    }

    /// Looks for a time in the sealed chunks of a series.
    fn look(&self, series: &HeadSeries, time_ms: i64) -> Looked {
        let mut looked = Looked { sample: None, gap: Gap { above_ms: i64::MIN, below_ms: i64::MAX }, looks: 0 };
        let mut columns = Columns::default();
        for chunk in self.chunks_until(series, time_ms) {
            looked.looks += 1;
            let (first, last) = (chunk.column.first(), chunk.column.last());
            let gap = if last < time_ms {
                Gap { above_ms: last, below_ms: i64::MAX }
            } else if time_ms < first {
                Gap { above_ms: i64::MIN, below_ms: first }
            } else {
                looked.looks += LOOKS_INSIDE;
                columns.clear();
                // What cannot be read is not there.
                let gap = chunk.look(time_ms, &mut columns);
                looked.sample = Sample::of_columns(&columns).filter(|_| gap.is_ok());
                gap.unwrap_or_default()
            };
            looked.gap = looked.gap.and(gap);
            if looked.sample.is_some() {
                break;
            }
        }
        looked
    }

    pub(super) fn seal_late(&mut self, number: u32) {
        let Some(series) = self.table.get_mut(number) else { return };
        let Some(rare) = series.rare.as_mut().filter(|rare| !rare.late.is_empty()) else { return };
        let before = rare.bytes();
        let late = std::mem::take(&mut rare.late);
        rare.gaps = rare.gaps.without_late(late[0].time_ms, late[late.len() - 1].time_ms);
        self.rare_bytes = self.rare_bytes + rare.bytes() - before;
        let times: Vec<i64> = late.iter().map(|s| s.time_ms).collect();
        let bits: Vec<u64> = late.iter().map(|s| s.bits).collect();
        let has_starts = late.iter().any(|s| s.start_ms != 0);
        let starts: Vec<i64> = late.iter().filter(|_| has_starts).map(|s| s.start_ms).collect();
        let histograms = late.into_iter().enumerate().filter_map(|(at, s)| Some((at as u8, s.histogram?)));
        let histograms: Vec<_> = histograms.collect();
        let column = self.store.column(&times, &self.hasher);
        let values = RunValues { bits: &bits, starts: &starts, histograms: &histograms };
        series.chunk = self.store.seal(series.chunk, column, Standing::Anywhere, values);
        self.held.sealed(series);
    }
}
